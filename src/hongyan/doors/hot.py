"""The hot routes straight from the socket: no ASGI scope, no task, one write per answer.

Entry point: HotProtocol, uvicorn's httptools protocol with its callbacks overridden. POST /v1/messages and
POST /v1/messages/batch go to messages.py, starting and checking a verification to verify.py; everything else goes to the
application as uvicorn does it. Answers leave in the order of the requests, whichever way each went: a connection is a queue
of slots. What costs a timer elsewhere (idle, slow and stuck connections) is asked once a second by sweep().
"""

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import httptools
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from hongyan.doors.auth import CHALLENGE
from hongyan.doors.door import Door
from hongyan.doors.exchange import Answer, Asked
from hongyan.doors.heads import Head
from hongyan.doors.messages import HOT
from hongyan.doors.route import FILE_OCTETS_MAX, Answers
from hongyan.doors.routes import MANAGEMENT
from hongyan.doors.verify import hot as hot_verification
from hongyan.gather import busy
from hongyan.vocab.errors import Code, Refusal

log = structlog.get_logger()

HEAD_OCTETS_MAX: Final = 32_768  # request line and headers, beyond what one read brings
OVERHEAD_OCTETS_MAX: Final = 8  # of a chunked body, for each octet of content: one-octet chunks still pass
PIPELINE_MAX: Final = (
    64  # requests of one connection waiting for answers; then it is not read until some left
)
KEEP_ALIVE_S: Final = 75.0
# From a request's first octet to its last, of a file from one read to the next; and for a client to read its answers.
RECEIVE_WAIT_S: Final = 30.0
LINGER_S: Final = 2.0  # how long we listen on after an early last answer, so that the client can read it
STUCK_MARGIN_S: Final = 2.0  # beyond accept_wait_s, for admission
BUSY_HOLD_S: Final = 1.0

SECURITY_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_FIXED: Final = b"".join(b"%b: %b\r\n" % header for header in SECURITY_HEADERS)
FILES: Final = re.compile(  # paths of routes that take one
    "|".join(
        re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(each.path)) for each in MANAGEMENT if each.file
    ).encode()
)
_WANTED: Final = frozenset(
    (
        b"authorization",
        b"x-forwarded-for",
        b"idempotency-key",
        b"accept-language",
        b"content-length",
        b"content-encoding",
        b"expect",
    )
)


def extra_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """Return the headers that only some answers have."""
    headers = []
    if answer.retry_after_s:
        headers.append((b"retry-after", b"%d" % answer.retry_after_s))
    if answer.status == 401:
        headers.append((b"www-authenticate", CHALLENGE.encode()))
    if answer.allow:
        headers.append((b"allow", answer.allow.encode()))
    return headers


class _Phase(IntEnum):
    """What the parser is reading."""

    IDLE = 0  # between requests
    HEAD = 1
    HOT = 2  # the body of a hot request
    APP = 3  # the body of another
    SKIP = 4  # a request that is answered already, or comes after the last one
    AGAIN = 5  # a head that wishes for another protocol: it is read again without that wish


# Bound once: an Enum's class is asked slowly, and a request asks for them twenty times.
_IDLE, _HEAD, _HOT, _APP, _SKIP, _AGAIN = _Phase


class _HotSlot:
    """A hot request in the queue of its connection."""

    __slots__ = ("answer", "expects", "keep_alive", "protocol", "since_s")

    def __init__(self, protocol: "HotProtocol", keep_alive: bool, since_s: float) -> None:
        self.protocol = protocol
        self.keep_alive = keep_alive
        self.since_s = since_s
        self.answer: Answer | None = None
        self.expects = False  # the client waits for 100 before it sends the body

    def answered(self, answer: Answer) -> None:
        if self.answer is None:  # the sweep may have answered before
            self.answer = answer
            self.protocol.answers_ready()


class _AppSlot:
    """A request of the application in the same queue."""

    __slots__ = ("app", "cycle", "started")

    def __init__(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.cycle = cycle
        self.app = app
        self.started = False


class HotProtocol(HttpToolsProtocol):
    """One connection. Written against the pinned uvicorn; its overridden methods are named as there."""

    def __init__(
        self,
        door: Door,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._door = door
        self._slots: deque[_HotSlot | _AppSlot] = deque()
        self._phase = _IDLE
        self._hot: _HotSlot | None = None  # whose body is being read
        self._answers: Answers = HOT[b"/v1/messages"]  # who answers it
        self._fields: Mapping[bytes, bytes] = {}
        self._body: bytes | bytearray = b""
        self._octets = 0  # of the request being read, as they came
        self._is_file = False  # it brings one, which is passed on as it comes and not kept
        self._since_s = 0.0  # when the phase began
        self._last_read = False  # no further request counts on this connection
        self._deaf = False  # what still comes is not even parsed
        self._lingering = False
        self._stopping = False
        self._gone = False
        self._unread_since_s = 0.0  # since when the client does not read its answers; 0: it does
        self.headers = []
        self.url = b""

    # ─── the connection ───────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since_s = self.loop.time()
        self._door.connections.add(self)
        if len(self._door.connections) > self._door.connections_max:
            self._phase = _HEAD
            self._refuse(busy())

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.bursts.release(self)
        self._gone = True
        self._door.connections.discard(self)
        for slot in self._slots:
            if isinstance(slot, _AppSlot):
                slot.cycle.disconnected = True
                slot.cycle.message_event.set()
        self._slots.clear()
        self._door.bursts.asking.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._phase is _IDLE and not self._stopping:
            self._door.bursts.hold(self, data)
        else:
            self._door.bursts.release(self)
            self.received(data)

    def received(self, data: bytes) -> None:
        """Read what has come."""
        if self._deaf:
            return
        begins = self._phase is _IDLE and not self._last_read
        if begins and (known := self._door.heads.of(data)) is not None:
            self._repeat(*known)
            return
        headers, fields = self.headers, self._fields
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            log.exception("door.parser_failed", cause=repr(error.__context__))
            self._refuse(Refusal(Code.SYSTEM_ERROR))
        except httptools.HttpParserUpgrade as stopped:
            if self._phase is _AGAIN:
                self._read_again(data[stopped.args[0] :])
            else:
                self._deaf = True  # CONNECT, which is refused already
        except httptools.HttpParserError:
            self._refuse(Refusal(Code.REQUEST_INVALID_PARAMETER, reason="this is not HTTP/1.1"))
        else:
            if self._phase is not _IDLE and self.headers is headers:  # the request of the last octets too
                self._count(len(data))
            elif begins and self._phase is _IDLE and self._fields is not fields and not self._last_read:
                self._door.heads.keep(data, self._answers, self.url, self._fields)

    def _repeat(self, head: Head, body: bytes) -> None:
        """Read a request whose head came before, as it was read then."""
        self._since_s = self.loop.time()
        self.url, self._answers, self._fields = head.url, head.answers, head.fields
        self._hot = self._push(keep_alive=True)
        self._body = body
        self._ask()

    def _read_again(self, rest: bytes) -> None:
        """Ignore the wish for another protocol, as a server may (RFC 9110 §7.8).

        httptools would end there and lose the body. Java's HttpClient wishes for h2c with every first request.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b: %b\r\n" % header for header in self.headers if header[0].lower() != b"upgrade"]
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(lines))
        self.parser = httptools.HttpRequestParser(self)
        self.received(head + rest)

    def _count(self, octets: int) -> None:
        """Bound what one request may make us keep, whatever its parts are called."""
        self._octets += octets
        limit = HEAD_OCTETS_MAX
        if self._phase is not _HEAD:
            whole = FILE_OCTETS_MAX if self._is_file else self._door.settings.body_octets_max
            limit += OVERHEAD_OCTETS_MAX * whole
            if self._is_file and self._slots:  # not yet answered
                self._since_s = self.loop.time()
        if self._octets > limit:
            self._refuse(Refusal(Code.REQUEST_TOO_LARGE, head_octets_max=HEAD_OCTETS_MAX))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what cannot be read, after all that came before it, and close."""
        if self._phase is _APP:
            self.transport.close()  # the application may have begun to answer
            return
        if self._hot is None:
            self._hot = self._push(keep_alive=False)
        self._answer_early(refusal)

    def _push(self, *, keep_alive: bool) -> _HotSlot:
        slot = _HotSlot(self, keep_alive, self.loop.time())
        self._slots.append(slot)
        self._door.bursts.asking.add(self)
        return slot

    def _answer_early(self, refusal: Refusal) -> None:
        """Answer before the request was read to its end; it is the last one of this connection."""
        slot = self._hot
        assert slot is not None
        self._hot = None
        self._phase = _SKIP
        self._last_read = self._deaf = True
        slot.keep_alive = False
        slot.answered(self._door.refuse(self._asked(b""), refusal))

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn always closes, asyncio asks
        """Close, unless a client that has said all still waits for answers; then after those."""
        self._door.bursts.release(self)
        self._stopping = True
        return bool(self._slots) and self._phase is _IDLE

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_since_s = self.loop.time()
        self._pace()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_since_s = 0.0
        self._pace()

    def _pace(self) -> None:
        """Read on only from clients that read, and that do not ask faster than we answer."""
        if self.flow.write_paused or len(self._slots) >= PIPELINE_MAX:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """Finish what was begun, then close (uvicorn calls this once, at a graceful stop)."""
        self._door.bursts.release(self)
        self._stopping = True
        if not self._slots and self._phase is _IDLE:
            self.transport.close()
        elif self._slots and isinstance(self._slots[-1], _AppSlot):
            self._slots[-1].cycle.keep_alive = False

    def sweep(self, now_s: float) -> None:
        """Close what waits in vain. Called about once a second."""
        self._door.bursts.release(self)
        if self._gone:
            return
        if self._unread_since_s and now_s - self._unread_since_s > RECEIVE_WAIT_S:
            self.transport.abort()
        elif self._lingering:
            if now_s - self._since_s > LINGER_S:
                self.transport.abort()
        elif self._slots:
            self._sweep_slots(now_s)
        elif self._phase in (_IDLE, _SKIP) and now_s - self._since_s > KEEP_ALIVE_S:
            self.transport.close()
        if self._phase not in (_IDLE, _SKIP) and now_s - self._since_s > RECEIVE_WAIT_S:
            self.transport.abort()

    def _sweep_slots(self, now_s: float) -> None:
        limit_s = self._door.settings.accept_wait_s + STUCK_MARGIN_S
        for slot in tuple(self._slots):
            if isinstance(slot, _HotSlot) and slot is not self._hot and now_s - slot.since_s > limit_s:
                slot.answered(self._door.refuse(self._asked(b""), busy()))

    # ─── one request: the parser's callbacks ──────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        self._octets = 0
        self._is_file = False
        if self._last_read:
            self._phase = _SKIP
            return
        self._phase = _HEAD
        self._since_s = self.loop.time()
        self.url = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is _HEAD:  # not trailers
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._phase is _SKIP:
            return
        parser = self.parser
        method = parser.get_method()
        if parser.should_upgrade() and method != b"CONNECT":
            self._phase = _AGAIN
            return
        keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        if method == b"POST" and (answers := HOT.get(self.url) or hot_verification(self.url)):
            self._begin_hot(answers, keep_alive=keep_alive)
        else:
            self._begin_app(keep_alive=keep_alive)
        if not keep_alive:
            self._last_read = True

    def _begin_hot(self, answers: Answers, *, keep_alive: bool) -> None:
        fields: dict[bytes, bytes] = {}
        for name, value in self.headers:
            name = name.lower()  # noqa: PLW2901 - one look-up for every spelling
            if name in _WANTED:
                # RFC 9110 §5.3: repeated fields are one list; two credentials thus read as none.
                fields[name] = fields[name] + b", " + value if name in fields else value
        self._fields = fields
        self._body = b""
        self._phase = _HOT
        self._answers = answers
        self._hot = slot = self._push(keep_alive=keep_alive)
        if int(fields.get(b"content-length", b"0")) > self._door.settings.body_octets_max:
            self._answer_early(self._too_large())
        elif fields.get(b"content-encoding", b"identity").lower() != b"identity":
            self._answer_early(
                Refusal(
                    Code.REQUEST_INVALID_PARAMETER,
                    parameter="Content-Encoding",
                    reason="send it uncompressed",
                )
            )
        elif b"expect" in fields and fields[b"expect"].lower() == b"100-continue":
            slot.expects = True
            if self._slots[0] is slot:
                self._say_continue(slot)

    def _begin_app(self, *, keep_alive: bool) -> None:
        url, headers = self.url, self.headers
        try:
            path = httptools.parse_url(url).path
        except httptools.HttpParserInvalidURLError:
            path = None
        if not path or not path.isascii():
            self._refuse(Refusal(Code.REQUEST_INVALID_PARAMETER, reason="the request target is no path"))
            return
        self._phase = _APP
        self._is_file = FILES.fullmatch(path) is not None
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        self.cycle = None  # type: ignore[assignment]  # uvicorn would queue behind it; our slots are the queue
        super().on_headers_complete()
        self.cycle.keep_alive = keep_alive

    def on_body(self, body: bytes) -> None:
        if self._phase is _HOT:
            if not self._body:
                self._body = body
            else:
                if isinstance(self._body, bytes):
                    self._body = bytearray(self._body)
                self._body += body
            if len(self._body) > self._door.settings.body_octets_max:
                self._answer_early(self._too_large())
        elif self._phase is _APP:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._phase is _AGAIN:
            return
        phase, self._phase = self._phase, _IDLE
        if phase is _HOT:
            self._ask()
        elif phase is _APP:
            super().on_message_complete()

    def _ask(self) -> None:
        slot, self._hot = self._hot, None
        assert slot is not None
        slot.expects = False
        asked = self._asked(bytes(self._body))
        self._body = b""
        self.server_state.total_requests += 1
        try:
            self._answers(self._door, asked, slot.answered)
        except Exception as error:  # noqa: BLE001 - the top of a request: the connection goes on
            slot.answered(self._door.broken(asked, error))
        if len(self._slots) >= PIPELINE_MAX:
            self._pace()

    def _asked(self, body: bytes) -> Asked:
        field = self._fields.get
        return Asked(
            b"POST",
            self.url,
            b"",
            body,
            self._door.ids.make(),
            self.client[0] if self.client else "",
            field(b"authorization", b""),
            field(b"x-forwarded-for", b""),
            field(b"idempotency-key"),
            field(b"accept-language", b""),
        )

    def _too_large(self) -> Refusal:
        return Refusal(Code.REQUEST_TOO_LARGE, octets_max=self._door.settings.body_octets_max)

    # ─── the answers, in order ────────────────────────────────────────────────────────────────────────────

    def answers_ready(self) -> None:
        """Write every answer whose turn has come; start the application's request if that is next."""
        while self._slots and not self._gone:
            head = self._slots[0]
            if isinstance(head, _AppSlot):
                if not head.started:
                    head.started = True
                    super()._start_asgi_task(head.cycle, head.app)
                break
            if head.answer is None:
                if head.expects:
                    self._say_continue(head)
                break
            self._slots.popleft()
            if self._write(head.answer, keep_alive=head.keep_alive):
                return
        if not self._gone:
            self._rest()

    def _write(self, answer: Answer, *, keep_alive: bool) -> bool:
        """Write one answer; True where it was the last of this connection."""
        last = not keep_alive or (self._stopping and not self._slots and self._phase is _IDLE)
        self.transport.write(self._octets_of(answer, last=last))
        if last:
            self._close()
        return last

    def _rest(self) -> None:
        if not self._slots and self._phase is _IDLE:
            self._door.bursts.asking.discard(self)
            self._since_s = self.loop.time()
            if self._stopping:
                self._close()
                return
        if self.flow.read_paused:
            self._pace()

    def _say_continue(self, slot: _HotSlot) -> None:
        slot.expects = False
        self.transport.write(_CONTINUE)

    def _octets_of(self, answer: Answer, *, last: bool) -> bytes:
        extra = (
            b"".join(b"%b: %b\r\n" % header for header in extra_headers(answer))
            if answer.status > 202
            else b""
        )
        if last:
            extra += b"connection: close\r\n"
        return b"%bcontent-type: application/json\r\nx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            self._head(answer.status),
            answer.request_id.encode(),
            extra,
            len(answer.body),
            answer.body,
        )

    def _head(self, status: int) -> bytes:
        headers = self.server_state.default_headers  # the date, a new list every second
        if _Heads.of is not headers:
            _Heads.of = headers
            _Heads.made.clear()
        head = _Heads.made.get(status)
        if head is None:
            dates = b"".join(b"%b: %b\r\n" % header for header in headers)
            head = _Heads.made[status] = STATUS_LINE[status] + dates + _FIXED
        return head

    def _close(self) -> None:
        if self._phase is _IDLE or self._gone:
            self.transport.close()
            return
        # Closing now would reset the connection under the octets still coming, and the answer with it.
        self._lingering = self._last_read = self._deaf = True
        self._since_s = self.loop.time()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._slots.append(_AppSlot(cycle, app))
        self._door.bursts.asking.add(self)
        if len(self._slots) == 1:
            self.answers_ready()
        elif len(self._slots) >= PIPELINE_MAX:
            self._pace()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._gone or self.transport.is_closing():
            return
        self._slots.popleft()
        self.answers_ready()
        if not self.transport.is_closing():
            self._pace()


class _Heads:
    """Response heads of this second, by status: the same for every connection of a process."""

    of: Any = None
    made: dict[int, bytes] = {}  # noqa: RUF012 - a cache of the process, on purpose
