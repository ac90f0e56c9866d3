"""Assemble the application and the server; refusals become one JSON shape in one place.

Entry points: build(), the ASGI application, complete in itself; serve_config() and Server, the same behind
uvicorn with the two hot routes taken at the socket (hot.py).
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any, Final, cast
from urllib.parse import quote

import msgspec
import uvicorn
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream
from litestar.types import ASGIApp, Receive, Scope, Send

from hongyan import db
from hongyan.control.bounds import demand_found
from hongyan.doors import answering, console, hosted, openapi, page, widget
from hongyan.doors.door import Door
from hongyan.doors.events import EventAnswer
from hongyan.doors.exchange import Answer, Asked, answered
from hongyan.doors.forward import Forward
from hongyan.doors.hot import SECURITY_HEADERS, HotProtocol, extra_headers
from hongyan.doors.route import FILE_OCTETS_MAX, Events, File, Route
from hongyan.doors.routes import PROGRAM, ROUTES
from hongyan.doors.upstream import PATH as PUSH_PATH
from hongyan.doors.upstream import Upstream
from hongyan.vocab.errors import Code, Refusal

VERSION: Final = "1"
BACKLOG: Final = 2_048
DATE_GAP_S: Final = 1.0
LEAVE_GAP_S: Final = 0.005
METRICS_KIND: Final = "text/plain; version=0.0.4"  # the framework adds the charset to all text
_HOUSE: Final = "hongyan"  # where in the scope it stands

Asking = Request[Any, Any, Any]


def build(
    door: Door, metrics: Callable[[], bytes], upstream: Upstream | None = None, *, manages: bool = True
) -> ASGIApp:
    """Return the application: public API, document, page, console, /healthz, and /metrics for this machine.

    `upstream` takes the pushes of HTTP providers; they are no part of the public API and its document. Without `manages`
    what the management API and people ask is passed on to the process that manages (forward.py).
    """
    app = _application(manages, upstream is not None, door.settings.body_octets_max)
    whole = _Behind(app, _House(door, metrics, upstream))
    return whole if manages else Forward(whole, door)


@dataclass(frozen=True, slots=True)
class _House:
    """Who answers: what the handlers of one process need, handed to them with each request."""

    door: Door
    metrics: Callable[[], bytes]
    upstream: Upstream | None


class _Behind:
    """The application as one house answers it."""

    def __init__(self, app: ASGIApp, house: _House) -> None:
        self._app = app
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cast("dict[str, Any]", scope)[_HOUSE] = self._house
        await self._app(scope, receive, send)

    def leave(self) -> None:
        """End what would go on by itself: the server stops."""
        self._house.door.streams.close()


def _house(request: Asking) -> _House:
    return cast("_House", cast("dict[str, Any]", request.scope)[_HOUSE])


@lru_cache(
    maxsize=8
)  # a process needs one; tests serve many doors, and making it costs more than most of them
def _application(manages: bool, takes_pushes: bool, body_octets_max: int) -> ASGIApp:
    """Return the router with all handlers. It knows nothing of who answers (_house)."""
    besides: dict[str, Handle] = {
        "/openapi.json": _document,
        "/docs": _page,
        "/healthz": _health,
        "/metrics": _metrics,
    }
    answers: dict[str, dict[str, Handle]] = {}  # by path, by method
    files = {PUSH_PATH: False}
    for route in ROUTES if manages else PROGRAM:
        answers.setdefault(route.path, {})[route.method] = _serve(route)
        files[route.path] = files.get(route.path, False) or route.file
    besides |= {"/": _moved(console.ROOT), console.ROOT: _pages, f"{console.ROOT}{{rest:path}}": _pages}
    besides |= {hosted.PAGE: _hosted, hosted.FILES: _widget_file}
    answers |= {path: {"GET": handle} for path, handle in besides.items()}
    answers[widget.PATH] = {"POST": _ask_of_page, "OPTIONS": _preflight}
    if takes_pushes:
        answers[PUSH_PATH] = dict.fromkeys(("GET", "POST"), _push)
    for methods in answers.values():
        if "GET" in methods:
            methods["HEAD"] = methods["GET"]  # the server drops the body of its answer
        methods.setdefault("OPTIONS", _options(", ".join([*methods, "OPTIONS"])))
    allowed = {path: ", ".join(methods) for path, methods in answers.items()}
    handlers = [
        _handler(path, methods, FILE_OCTETS_MAX if files.get(path) else body_octets_max)
        for path, methods in answers.items()
    ]
    app = Litestar(
        handlers,
        openapi_config=None,
        exception_handlers={HTTPException: partial(_refused, allowed), Exception: _failed},
        request_max_body_size=body_octets_max,
        logging_config=None,
    )
    return cast("ASGIApp", app)


def serve_config(door: Door, app: ASGIApp, *, hot: bool = True) -> uvicorn.Config:
    """Return how uvicorn is to serve the door; `hot`: the hot routes are taken at the socket."""
    settings = door.settings
    return uvicorn.Config(
        cast("Any", app),
        host=settings.http_host,
        port=settings.http_port,
        http=cast("Any", partial(HotProtocol, door)) if hot else "httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=max(1, round(settings.stop_wait_s)),
    )


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: run.py decides when to stop, by stop(), which is heard at once.

    uvicorn's own main_loop and shutdown sleep a tenth of a second at each step, which every stop would pay.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no more connections and end serve() once what is under way is answered."""
        self.should_exit = True
        self._stopping.set()
        if isinstance(app := self.config.app, _Behind | Forward):
            app.leave()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # it renews the Date of the answers
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DATE_GAP_S):
                    await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        told: set[Any] = set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while True:
                    for connection in self.server_state.connections - told:
                        connection.shutdown()
                        told.add(connection)
                    await asyncio.sleep(LEAVE_GAP_S)  # also for what was accepted and has no protocol yet
                    if not self.server_state.connections and not self.server_state.tasks:
                        return
        for task in self.server_state.tasks:
            task.cancel(msg="the door stops")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def port(self) -> int:
        """The port that is listened on, once `listening`; for a configured port of 0."""
        return int(self.servers[0].sockets[0].getsockname()[1])


Handle = Callable[[Asking], Awaitable[Response[Any]]]


@cache
def _documents() -> tuple[bytes, bytes]:
    """Return the OpenAPI document as JSON and its page; they are the same for all doors."""
    document = openapi.document(VERSION)
    return msgspec.json.encode(document), page.page(document)


def _handler(path: str, methods: Mapping[str, Handle], octets_max: int) -> HTTPRouteHandler:
    """Return one handler for all methods of a path: each one more costs every start a millisecond."""

    async def answer(request: Asking) -> Response[Any]:
        return await methods[request.method](request)

    typed = re.sub(r"\{(\w+)\}", r"{\1:str}", path)
    # The status is the answer's own; said here only because the router has a default of none for DELETE.
    return HTTPRouteHandler(
        typed, http_method=cast("Any", list(methods)), request_max_body_size=octets_max, status_code=200
    )(answer)


def _serve(route: Route) -> Handle:
    async def handle(request: Asking) -> Response[Any]:
        door = _house(request).door
        asked = _without_body(door, request) if route.file else await _asked(door, request)
        try:
            chunks = request.stream() if route.file else None
            told = await answering.answer(door, route, asked, request.path_params, chunks)
            if isinstance(told, Events):
                return _Going(EventAnswer(door, asked, told))
            return _download(told, asked) if isinstance(told, File) else _response(told)
        except Refusal as refusal:
            return _response(door.refuse(asked, refusal))
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - the top of a request: it is logged and answered
            return _response(door.broken(asked, error))

    return handle


def _download(file: File, asked: Asked) -> Response[Any]:
    """Send a file that no browser opens by itself, whatever is in it."""
    headers = _fixed() | {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='')}",
        "content-security-policy": "sandbox; default-src 'none'",
        "x-request-id": asked.request_id,
    }
    return Stream(file.chunks, media_type=file.content_type, headers=headers)


class _Going(Response[Any]):
    """An answer that writes itself, for as long as it goes on."""

    def __init__(self, answer: EventAnswer) -> None:
        super().__init__(b"")
        self._answer = answer

    def to_asgi_response(self, *_settings: Any, **_more: Any) -> Any:
        return self._answer


async def _asked(door: Door, request: Asking) -> Asked:
    return _without_body(door, request, await request.body())


def _without_body(door: Door, request: Asking, body: bytes = b"") -> Asked:
    scope = request.scope
    fields: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        fields[name] = fields[name] + b", " + value if name in fields else value
    client = scope.get("client")
    return Asked(
        scope["method"].encode("latin-1"),
        scope.get("raw_path") or scope["path"].encode(),
        scope["query_string"],
        body,
        door.ids.make(),
        client[0] if client else "",
        fields.get(b"authorization", b""),
        fields.get(b"x-forwarded-for", b""),
        fields.get(b"idempotency-key"),
        fields.get(b"accept-language", b""),
        fields.get(b"cookie", b""),
        fields.get(b"hongyan-console", b""),
        fields.get(b"content-type", b""),
    )


def _response(answer: Answer) -> Response[bytes]:
    headers = {name.decode(): value.decode() for name, value in (*SECURITY_HEADERS, *extra_headers(answer))}
    response = Response(
        answer.body,
        status_code=answer.status,
        media_type="application/json",
        headers=headers | {"x-request-id": answer.request_id},
    )
    for cookie in answer.cookies:  # one at most: the headers of a Response know each name once
        response.headers["set-cookie"] = cookie
    return response


async def _push(request: Asking) -> Response[bytes]:
    upstream = _house(request).upstream
    assert upstream is not None
    body = await request.body() if request.method == "POST" else request.scope["query_string"]
    channel, token = request.path_params["channel"], request.path_params["token"]
    told = await upstream.push(channel, token, dict(request.headers), body)
    kind = told.content_type
    if kind.startswith("text/"):  # the framework adds it to all of them
        kind = kind.removesuffix("; charset=utf-8")
    return Response(told.body, status_code=told.status, media_type=kind, headers=_fixed())


def _fixed(**more: str) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in SECURITY_HEADERS} | more


async def _document(_request: Asking) -> Response[bytes]:
    return Response(_documents()[0], media_type="application/json", headers=_fixed())


async def _page(_request: Asking) -> Response[bytes]:
    headers = _fixed() | {"content-security-policy": page.POLICY}
    return Response(_documents()[1], media_type="text/html", headers=headers)


def _moved(to: str) -> Handle:
    async def handle(_request: Asking) -> Response[bytes]:
        return Response(b"", status_code=303, headers=_fixed(location=to))

    return handle


async def _pages(request: Asking) -> Response[bytes]:
    """Serve the console: its files, and its one page wherever in the console somebody is."""
    built = console.found(request.scope["path"])
    if built is None:
        asked = _without_body(_house(request).door, request)
        return _response(_house(request).door.refuse(asked, Refusal(Code.REQUEST_ROUTE_NOT_FOUND)))
    coding = built.coding(request.headers.get("accept-encoding", ""))
    tag = f'"{built.tag}{coding}"'
    headers = _fixed(vary="Accept-Encoding", etag=tag)
    headers |= {"content-security-policy": console.POLICY, "cross-origin-opener-policy": "same-origin"}
    headers["cache-control"] = built.cache
    if coding:
        headers["content-encoding"] = coding
    if request.headers.get("if-none-match") == tag:
        return Response(b"", status_code=304, headers=headers)
    return Response(built.octets[coding], media_type=built.kind, headers=headers)


async def _ask_of_page(request: Asking) -> Response[Any]:
    """Answer a page with a site key, and say whether its browser may show it the answer."""
    door = _house(request).door
    asked = await _asked(door, request)
    told = await widget.answer(door, asked, request.path_params, request.headers)
    response = _response(told.answer)
    response.headers.update(told.headers)
    return response


async def _preflight(request: Asking) -> Response[bytes]:
    origin = request.headers.get("origin", "")
    more = widget.preflight(_house(request).door, request.path_params, origin)
    return Response(b"", status_code=204, headers=_fixed(allow="POST, OPTIONS") | dict(more))


async def _hosted(request: Asking) -> Response[Any]:
    """Serve the hosted login page of a site key; who is refused it is a person, and sees a page too."""
    door = _house(request).door
    asked = _without_body(door, request)
    headers = _fixed(vary="Accept-Language")
    try:
        site_key = demand_found(door.snapshots.current.site_keys.get(request.path_params["site_key"]))
        visit = hosted.read(site_key, asked.query, asked.accept_language)
    except Refusal as refusal:
        answer = door.refuse(asked, refusal)
        headers |= {"content-security-policy": hosted.REFUSED_POLICY, "x-request-id": asked.request_id}
        text = hosted.refused(refusal, asked.request_id, asked.accept_language)
        return Response(text, status_code=answer.status, media_type="text/html", headers=headers)
    headers |= {"content-security-policy": hosted.policy(visit)}
    return Response(hosted.page(site_key, visit), media_type="text/html", headers=headers)


async def _widget_file(request: Asking) -> Response[bytes]:
    """Serve a file of the widget to whichever page wants it: it is the same for all, and says nothing."""
    file = hosted.files().get(request.path_params["name"])
    if file is None:
        asked = _without_body(_house(request).door, request)
        return _response(_house(request).door.refuse(asked, Refusal(Code.REQUEST_ROUTE_NOT_FOUND)))
    headers = _fixed(etag=file.tag) | {"cache-control": hosted.CACHE, "access-control-allow-origin": "*"}
    headers["cross-origin-resource-policy"] = "cross-origin"
    if request.headers.get("if-none-match") == file.tag:
        return Response(b"", status_code=304, headers=headers)
    return Response(file.octets, media_type=file.kind, headers=headers)


def _options(allowed: str) -> Handle:
    async def handle(_request: Asking) -> Response[bytes]:
        return Response(b"", status_code=204, headers=_fixed(allow=allowed))

    return handle


HEALTH_WAIT_S: Final = 2.0


async def _health(request: Asking) -> Response[Any]:
    door = _house(request).door
    asked = _without_body(door, request)
    try:
        async with asyncio.timeout(HEALTH_WAIT_S):
            await door.database.fetch("SELECT 1")
    except db.Unavailable:
        return _response(
            door.refuse(asked, Refusal(Code.SYSTEM_BUSY, retry_after_s=1, database="unreachable"))
        )
    return _response(answered(asked, {"database": "reachable"}))


async def _metrics(request: Asking) -> Response[bytes]:
    house = _house(request)
    if not _local(request):
        asked = _without_body(house.door, request)
        return _response(house.door.refuse(asked, Refusal(Code.REQUEST_ROUTE_NOT_FOUND)))
    return Response(house.metrics(), media_type=METRICS_KIND, headers=_fixed())


def _local(request: Asking) -> bool:
    """Tell whether this machine asks, and not a proxy on it for somebody else."""
    client = request.scope.get("client")
    if not client or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _refused(allowed: Mapping[str, str], request: Asking, error: HTTPException) -> Response[bytes]:
    """Say what the router refuses in the shape of all refusals."""
    door = _house(request).door
    asked = _without_body(door, request)
    code = _CODES.get(error.status_code)
    if code is None:
        return _response(door.broken(asked, error))
    detail = {"octets_max": door.settings.body_octets_max} if code is Code.REQUEST_TOO_LARGE else {}
    allow = _allowed(allowed, request.scope["path"]) if code is Code.REQUEST_METHOD_NOT_ALLOWED else ""
    return _response(door.refuse(asked, Refusal(code, **detail), allow=allow))


def _allowed(allowed: Mapping[str, str], path: str) -> str:
    """Return the methods of the first route a path fits: 405 must say them (RFC 9110 §15.5.6)."""
    segments = path.rstrip("/").split("/")
    for route, methods in allowed.items():
        known = route.split("/")
        if len(known) == len(segments) and all(
            name == segment or name.startswith("{") for name, segment in zip(known, segments, strict=True)
        ):
            return methods
    return ""


def _failed(request: Asking, error: Exception) -> Response[bytes]:
    door = _house(request).door
    return _response(door.broken(_without_body(door, request), error))


_CODES: Final = {
    400: Code.REQUEST_INVALID_PARAMETER,
    404: Code.REQUEST_ROUTE_NOT_FOUND,
    405: Code.REQUEST_METHOD_NOT_ALLOWED,
    413: Code.REQUEST_TOO_LARGE,
}
