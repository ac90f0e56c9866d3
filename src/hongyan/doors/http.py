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
from functools import cache, partial
from typing import Any, Final, cast
from urllib.parse import quote

import msgspec
import uvicorn
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream
from litestar.types import ASGIApp

from hongyan import db
from hongyan.doors import answering, openapi, page
from hongyan.doors.door import Door
from hongyan.doors.exchange import Answer, Asked, answered
from hongyan.doors.forward import Forward
from hongyan.doors.hot import SECURITY_HEADERS, HotProtocol, extra_headers
from hongyan.doors.route import FILE_OCTETS_MAX, File, Route
from hongyan.doors.routes import PROGRAM, ROUTES
from hongyan.doors.upstream import PATH as PUSH_PATH
from hongyan.doors.upstream import Upstream
from hongyan.vocab.errors import Code, Refusal

VERSION: Final = "1"
BACKLOG: Final = 2_048
METRICS_KIND: Final = "text/plain; version=0.0.4; charset=utf-8"

Asking = Request[Any, Any, Any]


def build(
    door: Door, metrics: Callable[[], bytes], upstream: Upstream | None = None, *, manages: bool = True
) -> ASGIApp:
    """Return the application: public API, document, page, /healthz, and /metrics for this machine.

    `upstream` takes the pushes of HTTP providers; they are no part of the public API and its document. Without `manages`
    what the management API and people ask is passed on to the process that manages (forward.py).
    """
    described, readable = _documents()
    besides = {
        "/openapi.json": _fixed(described, "application/json"),
        "/docs": _fixed(readable, "text/html; charset=utf-8", page.POLICY),
        "/healthz": _health(door),
        "/metrics": _metrics(door, metrics),
    }
    answers: dict[str, dict[str, Handle]] = {}  # by path, by method
    files = {PUSH_PATH: False}
    for route in ROUTES if manages else PROGRAM:
        answers.setdefault(route.path, {})[route.method] = _serve(door, route)
        files[route.path] = files.get(route.path, False) or route.file
    answers |= {path: {"GET": handle} for path, handle in besides.items()}
    if upstream is not None:
        answers[PUSH_PATH] = dict.fromkeys(("GET", "POST"), _push(upstream))
    for methods in answers.values():
        if "GET" in methods:
            methods["HEAD"] = methods["GET"]  # the server drops the body of its answer
        methods["OPTIONS"] = _options(", ".join([*methods, "OPTIONS"]))
    allowed = {path: ", ".join(methods) for path, methods in answers.items()}
    most = door.settings.body_octets_max
    handlers = [
        _handler(path, methods, FILE_OCTETS_MAX if files.get(path) else most)
        for path, methods in answers.items()
    ]
    app = Litestar(
        handlers,
        openapi_config=None,
        exception_handlers={
            HTTPException: partial(_refused, door, allowed),
            Exception: partial(_failed, door),
        },
        request_max_body_size=door.settings.body_octets_max,
        logging_config=None,
    )
    whole = cast("ASGIApp", app)
    return whole if manages else Forward(whole, door)


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
    """uvicorn without its signal handlers: run.py decides when to stop, by `should_exit`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

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


def _serve(door: Door, route: Route) -> Handle:
    async def handle(request: Asking) -> Response[Any]:
        asked = _without_body(door, request) if route.file else await _asked(door, request)
        try:
            chunks = request.stream() if route.file else None
            told = await answering.answer(door, route, asked, request.path_params, chunks)
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
    headers = {name.decode(): value.decode() for name, value in SECURITY_HEADERS} | {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='')}",
        "content-security-policy": "sandbox; default-src 'none'",
        "x-request-id": asked.request_id,
    }
    return Stream(file.chunks, media_type=file.content_type, headers=headers)


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


def _push(upstream: Upstream) -> Handle:
    async def handle(request: Asking) -> Response[bytes]:
        body = await request.body() if request.method == "POST" else request.scope["query_string"]
        channel, token = request.path_params["channel"], request.path_params["token"]
        told = await upstream.push(channel, token, dict(request.headers), body)
        headers = {name.decode(): value.decode() for name, value in SECURITY_HEADERS}
        return Response(told.body, status_code=told.status, media_type=told.content_type, headers=headers)

    return handle


def _fixed(body: bytes, kind: str, policy: str = "") -> Handle:
    headers = {name.decode(): value.decode() for name, value in SECURITY_HEADERS}
    if policy:
        headers["content-security-policy"] = policy

    async def handle(_request: Asking) -> Response[bytes]:
        return Response(body, media_type=kind, headers=headers)

    return handle


def _options(allowed: str) -> Handle:
    headers = {name.decode(): value.decode() for name, value in SECURITY_HEADERS} | {"allow": allowed}

    async def handle(_request: Asking) -> Response[bytes]:
        return Response(b"", status_code=204, headers=headers)

    return handle


HEALTH_WAIT_S: Final = 2.0


def _health(door: Door) -> Handle:
    async def handle(request: Asking) -> Response[bytes]:
        asked = _without_body(door, request)
        try:
            async with asyncio.timeout(HEALTH_WAIT_S):
                await door.database.fetch("SELECT 1")
        except db.Unavailable:
            return _response(
                door.refuse(asked, Refusal(Code.SYSTEM_BUSY, retry_after_s=1, database="unreachable"))
            )
        return _response(answered(asked, {"database": "reachable"}))

    return handle


def _metrics(door: Door, metrics: Callable[[], bytes]) -> Handle:
    fixed = {name.decode(): value.decode() for name, value in SECURITY_HEADERS}

    async def handle(request: Asking) -> Response[bytes]:
        if not _local(request):
            asked = _without_body(door, request)
            return _response(door.refuse(asked, Refusal(Code.REQUEST_ROUTE_NOT_FOUND)))
        return Response(metrics(), media_type=METRICS_KIND, headers=fixed)

    return handle


def _local(request: Asking) -> bool:
    """Tell whether this machine asks, and not a proxy on it for somebody else."""
    client = request.scope.get("client")
    if not client or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _refused(
    door: Door, allowed: Mapping[str, str], request: Asking, error: HTTPException
) -> Response[bytes]:
    """Say what the router refuses in the shape of all refusals."""
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


def _failed(door: Door, request: Asking, error: Exception) -> Response[bytes]:
    return _response(door.broken(_without_body(door, request), error))


_CODES: Final = {
    400: Code.REQUEST_INVALID_PARAMETER,
    404: Code.REQUEST_ROUTE_NOT_FOUND,
    405: Code.REQUEST_METHOD_NOT_ALLOWED,
    413: Code.REQUEST_TOO_LARGE,
}
