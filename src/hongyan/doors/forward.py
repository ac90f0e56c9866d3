"""Pass on what people ask, and what the management API is asked, to the process that manages.

A door that only takes messages in has no time for the rest, and must go on when the managing process is stopped: then
these requests are refused as busy, and no others. Entry points: Forward, an ASGI application around the door's own;
socket_of(). The way is a Unix socket in the state folder, which nobody but our processes can open; who asked is told
in X-Forwarded-For.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send
from yarl import URL

from hongyan.doors import callers, events
from hongyan.doors.answering import FILE_WAIT_S
from hongyan.doors.door import Door
from hongyan.doors.exchange import Asked
from hongyan.doors.hot import FILES
from hongyan.doors.routes import MANAGEMENT, PROGRAM
from hongyan.settings import Settings
from hongyan.vocab.errors import Code, Refusal

CONNECT_WAIT_S: Final = 2.0
READ_WAIT_S: Final = 60.0  # between two chunks of an answer; longer than any question may take
FILE_READ_WAIT_S: Final = (
    FILE_WAIT_S + 60.0
)  # the same where a file was handed in, which is read before the answer
CHUNK_OCTETS: Final = 65_536
# Of one connection alone (RFC 9110 §7.6.1), or said anew.
_OWN: Final = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"host", b"expect"}
    | {b"content-length", b"x-forwarded-for", b"forwarded", b"proxy-authorization"}
)


def socket_of(settings: Settings) -> Path:
    """Return where the managing process listens."""
    return settings.state_dir / "control.sock"


def _pattern(paths: list[str]) -> re.Pattern[str]:
    return re.compile(
        "|".join(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) + "/?" for path in paths) or "(?!)"
    )


_PROGRAM: Final = _pattern([route.path for route in PROGRAM])
_MANAGEMENT: Final = _pattern([route.path for route in MANAGEMENT])


class Forward:
    """The door's application, but for what is passed on. The session is opened with the first such request."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and self._is_for_control(scope):
            await self._pass_on(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def leave(self) -> None:
        """End what would go on by itself: the server stops."""
        self._door.streams.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _is_for_control(self, scope: HTTPScope) -> bool:
        path = scope["path"]
        if _PROGRAM.fullmatch(path):
            return callers.is_person(self._asked(scope))
        return _MANAGEMENT.fullmatch(path) is not None

    async def _pass_on(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # A connection each: one that is kept may be closed just as a request is sent that must not be sent twice.
                connector=aiohttp.UnixConnector(
                    str(socket_of(self._door.settings)), limit=0, force_close=True
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        asked = self._asked(scope)
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"] if n not in _OWN]
        headers.append(("x-forwarded-for", self._door.gate.address(asked)))
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        target = asked.path.decode("latin-1") + (f"?{asked.query.decode('latin-1')}" if asked.query else "")
        is_file = FILES.fullmatch(asked.path) is not None
        wait_s = FILE_READ_WAIT_S if is_file else READ_WAIT_S
        started = False
        try:
            async with self._session.request(
                scope["method"],
                URL(f"http://control{target}", encoded=True),
                headers=headers,
                data=_body(receive) if has_body else None,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WAIT_S, sock_read=wait_s),
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Content-Type", "Accept"),
            ) as answer:
                kept = [
                    (n.lower(), v)
                    for n, v in answer.raw_headers
                    if n.lower() not in _OWN - {b"content-length"}
                ]
                start = {"type": "http.response.start", "status": answer.status, "headers": kept}
                started = True
                await send(cast("Any", start))
                if answer.content_type == events.KIND:  # it would go on without its reader
                    stop = events.until_set(self._door.streams.ending)
                    await events.until_gone(_relay(answer, send), receive, stop)
                else:
                    await _relay(answer, send)
                await send(cast("Any", {"type": "http.response.body", "body": b"", "more_body": False}))
        except (aiohttp.ClientError, OSError, TimeoutError):
            if started:
                raise  # the answer cannot be taken back: the connection ends
            await self._refuse(asked, send)

    async def _refuse(self, asked: Asked, send: Send) -> None:
        refusal = Refusal(Code.SYSTEM_BUSY, retry_after_s=5, control="does not answer")
        await events.say(self._door.refuse(asked, refusal), send)

    def _asked(self, scope: HTTPScope) -> Asked:
        fields = dict(scope["headers"])
        client = scope.get("client")
        return Asked(
            scope["method"].encode("latin-1"),
            scope.get("raw_path") or scope["path"].encode(),
            scope["query_string"],
            b"",
            self._door.ids.make(),
            client[0] if client else "",
            fields.get(b"authorization", b""),
            fields.get(b"x-forwarded-for", b""),
            accept_language=fields.get(b"accept-language", b""),
            cookie=fields.get(b"cookie", b""),
        )


async def _relay(answer: aiohttp.ClientResponse, send: Send) -> None:
    """Pass on what comes, as soon as it comes."""
    async for chunk in answer.content.iter_chunked(CHUNK_OCTETS):
        await send(cast("Any", {"type": "http.response.body", "body": chunk, "more_body": True}))


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = cast("dict[str, Any]", await receive())
        if message["type"] != "http.request":
            raise aiohttp.ClientConnectionError("the caller went away")
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return
