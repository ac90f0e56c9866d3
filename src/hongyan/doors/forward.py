"""Pass on what people ask, and what the management API is asked, to the process that manages.

A door that only takes messages in has no time for the rest, and must go on when the managing process is stopped: then
these requests are refused as busy, and no others. So they are where it is frozen, and takes connections without a word
(pulse.py). What may change something is passed on only to a process that has just answered: else it would wait in the
socket and be done when that wakes, long after the caller was told no. A refusal says in `outcome` whether something may have
been done.
Entry points: Forward, an ASGI application around the door's own; socket_of(). The way is a Unix socket in the state
folder, which nobody but our processes can open; who asked is told in X-Forwarded-For.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Literal, cast

import aiohttp
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send
from yarl import URL

from hongyan.doors import callers, events
from hongyan.doors.answering import FILE_WAIT_S
from hongyan.doors.door import Door
from hongyan.doors.exchange import Asked
from hongyan.doors.hot import FILES
from hongyan.doors.pulse import Pulse, Silent
from hongyan.doors.routes import MANAGEMENT, PROGRAM
from hongyan.settings import Settings
from hongyan.vocab.errors import Code, Refusal

CONNECT_WAIT_S: Final = 2.0
READ_WAIT_S: Final = 60.0  # between two chunks of an answer; longer than any question may take
FILE_READ_WAIT_S: Final = (
    FILE_WAIT_S + 60.0
)  # the same where a file was handed in, which is read before the answer
CHUNK_OCTETS: Final = 65_536
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # they change nothing (RFC 9110 §9.2.1)
BEAT: Final = ("OPTIONS", URL("http://control/healthz"))  # answered without a look at the database
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
        self._pulse = Pulse(self._beats)

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
        asked, changes = self._asked(scope), scope["method"] not in READS
        try:
            await self._pulse.demand(surely=changes)
        except Silent:
            await self._refuse(asked, send, "not_done")
            return
        started = False
        try:
            async with await self._answered(scope, receive, asked) as answer:
                started = True
                await self._answer(answer, receive, send)
        except (aiohttp.ClientError, OSError, Silent) as error:
            if started:
                raise  # the answer cannot be taken back: the connection ends
            sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            await self._refuse(asked, send, "not_known" if sent and changes else "not_done")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # A connection each: one that is kept may be closed just as a request is sent that must not be sent twice.
                connector=aiohttp.UnixConnector(
                    str(socket_of(self._door.settings)), limit=0, force_close=True
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    async def _beats(self) -> bool:
        """Ask the managing process next to nothing; tells whether it answered."""
        try:
            async with self._opened().request(*BEAT):
                return True
        except (aiohttp.ClientError, OSError):
            return False

    async def _answered(self, scope: HTTPScope, receive: Receive, asked: Asked) -> aiohttp.ClientResponse:
        """Pass a request on; returns the answer as soon as it begins. Raises Silent where the managing process stops answering."""
        answers: list[aiohttp.ClientResponse] = []

        async def ask() -> None:
            answers.append(await self._request(scope, receive, asked))

        await events.unless(ask(), self._pulse.stopped())
        if not answers:
            raise Silent
        self._pulse.heard()
        return answers[0]

    async def _request(self, scope: HTTPScope, receive: Receive, asked: Asked) -> aiohttp.ClientResponse:
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"] if n not in _OWN]
        headers.append(("x-forwarded-for", self._door.gate.address(asked)))
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        target = asked.path.decode("latin-1") + (f"?{asked.query.decode('latin-1')}" if asked.query else "")
        is_file = FILES.fullmatch(asked.path) is not None
        wait_s = FILE_READ_WAIT_S if is_file else READ_WAIT_S
        return await self._opened().request(
            scope["method"],
            URL(f"http://control{target}", encoded=True),
            headers=headers,
            data=_body(receive) if has_body else None,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WAIT_S, sock_read=wait_s),
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Content-Type", "Accept"),
        )

    async def _answer(self, answer: aiohttp.ClientResponse, receive: Receive, send: Send) -> None:
        kept = [(n.lower(), v) for n, v in answer.raw_headers if n.lower() not in _OWN - {b"content-length"}]
        start = {"type": "http.response.start", "status": answer.status, "headers": kept}
        await send(cast("Any", start))
        if answer.content_type == events.KIND:  # it would go on without its reader
            stop = events.until_set(self._door.streams.ending)
            await events.until_gone(_relay(answer, send), receive, stop)
        else:
            await _relay(answer, send)
        await send(cast("Any", {"type": "http.response.body", "body": b"", "more_body": False}))

    async def _refuse(self, asked: Asked, send: Send, outcome: Literal["not_done", "not_known"]) -> None:
        refusal = Refusal(Code.SYSTEM_BUSY, retry_after_s=5, control="does not answer", outcome=outcome)
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
