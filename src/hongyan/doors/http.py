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
from functools import partial
from typing import Any, Final, cast

import msgspec
import uvicorn
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from hongyan import db
from hongyan.doors import openapi, page
from hongyan.doors.door import ADMIT_WAIT_S, Door
from hongyan.doors.exchange import Answer, Asked, answered
from hongyan.doors.hot import SECURITY_HEADERS, HotProtocol, extra_headers
from hongyan.doors.routes import ROUTES, Route
from hongyan.doors.upstream import PATH as PUSH_PATH
from hongyan.doors.upstream import Upstream
from hongyan.vocab.errors import Code, Refusal

VERSION: Final = "1"
BACKLOG: Final = 2_048
METRICS_KIND: Final = "text/plain; version=0.0.4; charset=utf-8"

Asking = Request[Any, Any, Any]


def build(door: Door, metrics: Callable[[], bytes], upstream: Upstream | None = None) -> ASGIApp:
    """Return the application: public API, document, page, /healthz, and /metrics for this machine.

    `upstream` takes the pushes of HTTP providers; they are no part of the public API and its document.
    """
    document = openapi.document(VERSION)
    besides = {
        "/openapi.json": _fixed(msgspec.json.encode(document), "application/json"),
        "/docs": _fixed(page.page(document), "text/html; charset=utf-8", page.POLICY),
        "/healthz": _health(door),
        "/metrics": _metrics(door, metrics),
    }
    answers = [(route.method, route.path, _serve(door, route)) for route in ROUTES]
    answers += [("GET", path, handle) for path, handle in besides.items()]
    if upstream is not None:
        answers += [(method, PUSH_PATH, _push(upstream)) for method in ("GET", "POST")]
    methods: dict[str, list[str]] = {}
    for method, path, _ in answers:
        methods.setdefault(path, []).extend(_ALSO[method])
    allowed = {path: ", ".join([*words, "OPTIONS"]) for path, words in methods.items()}
    # First, or the router makes its own, which know one method only.
    handlers = [_handler(["OPTIONS"], path, _options(words)) for path, words in allowed.items()]
    handlers += [_handler(_ALSO[method], path, handle) for method, path, handle in answers]
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
    return cast("ASGIApp", app)


def serve_config(door: Door, app: ASGIApp) -> uvicorn.Config:
    """Return how uvicorn is to serve the door."""
    settings = door.settings
    return uvicorn.Config(
        cast("Any", app),
        host=settings.http_host,
        port=settings.http_port,
        http=cast("Any", partial(HotProtocol, door)),
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


TELL_WAIT_S: Final = 30.0  # a question that takes longer is asked too widely

Handle = Callable[[Asking], Awaitable[Response[bytes]]]

_ALSO: Final = {"GET": ["GET", "HEAD"], "POST": ["POST"]}  # the server drops the body of an answer to HEAD


def _handler(methods: list[str], path: str, handle: Handle) -> HTTPRouteHandler:
    async def answer(request: Asking) -> Response[bytes]:
        return await handle(request)

    typed = re.sub(r"\{(\w+)\}", r"{\1:str}", path)
    return HTTPRouteHandler(typed, http_method=cast("Any", methods))(answer)


def _serve(door: Door, route: Route) -> Handle:
    async def handle(request: Asking) -> Response[bytes]:
        asked = await _asked(door, request)
        try:
            if route.answers is not None:
                return _response(await _by_callback(door, route, asked))
            assert route.tells is not None
            key = await door.caller(asked)
            async with asyncio.timeout(TELL_WAIT_S):
                told = await route.tells(door, key, asked, request.path_params)
            return _response(answered(asked, told, route.status))
        except Refusal as refusal:
            return _response(door.refuse(asked, refusal))
        except Exception as error:  # noqa: BLE001 - the top of a request: it is logged and answered
            return _response(door.broken(asked, error))

    return handle


async def _by_callback(door: Door, route: Route, asked: Asked) -> Answer:
    assert route.answers is not None
    heard: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def then(answer: Answer) -> None:
        if not heard.done():
            heard.set_result(answer)

    route.answers(door, asked, then)
    async with asyncio.timeout(ADMIT_WAIT_S + door.settings.accept_wait_s):
        return await heard


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
    )


def _response(answer: Answer) -> Response[bytes]:
    headers = {name.decode(): value.decode() for name, value in (*SECURITY_HEADERS, *extra_headers(answer))}
    return Response(
        answer.body,
        status_code=answer.status,
        media_type="application/json",
        headers=headers | {"x-request-id": answer.request_id},
    )


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
