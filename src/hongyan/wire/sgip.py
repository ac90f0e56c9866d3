"""SGIP 1.2 (China Unicom): PDU tables, results, sequence numbers, reports.

Entry points: decode(), encode(), receipt(); dialect() plugs the protocol into wire.session.
Sequence numbers have 12 octets: the source's node, a time stamp, a counter. The counter is the
sequence_number that the session counts and matches by; node and stamp belong to the connection. A Submit's 12
octets are its message id: its response names no other, and reports come under it (SequenceNumber).

Surprising: both sides listen. Who opened the connection asks and the listener answers, so an SP dials the SMG
to submit, and the SMG dials the SP to deliver and report; some push on the SP's own connection instead, which
a client takes. There are no heartbeats: idle connections are closed and opened again when needed.

Sources: [S11] SGIP 1.1, [S13] SGIP 1.3 (2009); 1.2 lies between and all agree on the PDUs below.
"""

import struct
from collections.abc import Callable
from datetime import datetime
from enum import IntEnum
from functools import partial
from typing import Annotated, NamedTuple, Self

from msgspec import Struct

from hongyan.wire import fields
from hongyan.wire.fields import (
    PDU_OCTETS_MAX,
    U1,
    Counted,
    Listed,
    LocalProtocolError,
    Octets,
    RemoteProtocolError,
    Text,
)
from hongyan.wire.session import Answer, Dialect, Limits, Turn

PORT = 8801  # of the SMG and of the SP
HEADER = struct.Struct(">IIIII")  # message_length, command_id, node, stamp, counter
RESPONSE_BIT = 0x8000_0000
SEQUENCE_NUMBER_MAX = 0xFFFF_FFFF
USERS_MAX = 100  # of one Submit
# What [S11] lets a connection do: 32 requests unanswered, each for 30 s, an end after 60 s without any. Its
# 2 KiB for a PDU are not kept to: they would not hold a Submit to 100 users.
LIMITS = Limits(window_size=32, ack_wait_s=30.0, inactivity_s=60.0)
SP_PAYS = "0" * 21  # as charge_number; "" lets the receiver pay

S5 = Annotated[str, Text(5)]
S6 = Annotated[str, Text(6)]
S10 = Annotated[str, Text(10)]
S16 = Annotated[str, Text(16)]
S21 = Annotated[str, Text(21)]
B12 = Annotated[bytes, Octets(12)]
# Limited only by the 2 KiB of a PDU; real texts end at 140 or 160 octets.
MessageContent = Annotated[bytes, Counted(4, 2048)]


def _read_reserve(frame: bytes, at: int) -> tuple[bytes, int]:
    """Read the 8 octets at the end of nearly every PDU; what is missing of them reads as zeros."""
    return frame[at : at + 8].ljust(8, b"\0"), min(at + 8, len(frame))


def _write_reserve(reserve: bytes) -> bytes:
    if len(reserve) != 8:
        raise LocalProtocolError("reserve has exactly 8 octets")
    return reserve


Reserve = Annotated[bytes, Listed("octets 8 or nothing", _read_reserve, _write_reserve)]
NO_RESERVE = bytes(8)


# ── results and other numbers ────────────────────────────────────────────────────────────────────────


class Code(IntEnum):
    """A number of one octet by name; any other is accepted and calls itself by its digits."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not 0 <= value < 1 << 8:
            return None
        code = int.__new__(cls, value)
        code._name_ = str(value)
        code._value_ = value
        return code


class LoginType(Code):
    """What a connection is for: who opened it, and to whom."""

    SP_TO_SMG = 1  # submits
    SMG_TO_SP = 2  # delivers and reports
    SMG_TO_SMG = 3
    SMG_TO_GNS = 4
    GNS_TO_SMG = 5
    GNS_TO_GNS = 6
    TEST = 11  # traces, on port 8810


class Result(Code):
    """Result of a response (up to 20 and vendors' own) and ErrorCode of a report (from 21 on): one table."""

    OK = 0
    ILLEGAL_LOGIN = 1  # name or password
    REPEATED_LOGIN = 2  # on a connection that is logged in
    TOO_MANY_CONNECTIONS = 3
    LOGIN_TYPE = 4
    PARAMETER_FORMAT = 5
    ILLEGAL_NUMBER = 6  # a number that does not begin with 86
    COMMAND_ID = 7
    LENGTH = 8
    SEQUENCE_NUMBER = 9  # malformed, or used before for another content
    GNS_OPERATION = 10
    NODE_BUSY = 11
    SERVICE_NOT_ASSIGNED = 13  # this and the next three since [S13]
    FEE = 14
    LINK_ID = 17
    NOT_SUBSCRIBED = 18
    UNREACHABLE = 21
    ROUTE_ERROR = 22
    NO_ROUTE = 23
    CHARGE_NUMBER = 24
    CANNOT_COMMUNICATE = 25  # switched off, out of coverage
    MEMORY_FULL = 26
    NO_SMS_SUPPORT = 27
    RECEIVE_ERROR = 28
    UNKNOWN_USER = 29
    NOT_PROVIDED = 30
    ILLEGAL_DEVICE = 31
    SYSTEM_FAILURE = 32
    QUEUE_FULL = 33
    WEB_COMMAND = 43  # this and the next since [S13]
    NOTICE_INTERCEPTED = 44
    SPEED_LIMIT = 88  # in no document; SMGs in the field say so to who is too fast
    MONTHLY_REFUSED = 95  # since [S13]


class State(Code):
    """State of a report."""

    DELIVERED = 0
    WAITING = 1  # on its way; another report follows
    FAILED = 2

    @property
    def final(self) -> bool:
        """False while a later report may still say more; a state we do not know ends nothing."""
        return self in (State.DELIVERED, State.FAILED)


# ── sequence numbers ─────────────────────────────────────────────────────────────────────────────────

_SEQUENCE = struct.Struct(">III")


class SequenceNumber(NamedTuple):
    """All 12 octets of a sequence number: the message id of a Submit, as its reports name it.

    Unique within a year, and only if no two connections of one node share a stamp.
    """

    node: int
    stamp: int
    counter: int

    @classmethod
    def of(cls, pdu: "Pdu") -> Self:
        """Return what stands in the header of pdu, a request that came or a response to ours."""
        return cls(pdu.node, pdu.stamp, pdu.sequence_number)

    @classmethod
    def read(cls, octets: bytes | str) -> Self:
        """Read 12 octets, or their 24 hex digits. Raises RemoteProtocolError."""
        try:
            return cls(*_SEQUENCE.unpack(bytes.fromhex(octets) if isinstance(octets, str) else octets))
        except (ValueError, struct.error) as error:
            raise RemoteProtocolError(f"not a sequence number: {error}", "sequence_number") from error

    @property
    def octets(self) -> bytes:
        """Raises LocalProtocolError for a part that is no u4."""
        try:
            return _SEQUENCE.pack(*self)
        except struct.error as error:
            raise LocalProtocolError(f"not a sequence number: {error}") from error

    @property
    def hex(self) -> str:
        return self.octets.hex()


def sp_node(area_code: str, corp_id: str) -> int:
    """Return the node of an SP: 3, its area code to the left in 4 digits, its corp id in 5.

    It is above 2^31, which peers that read it as signed show as a negative number.
    """
    digits = f"3{area_code:0<4}{corp_id:0>5}"
    if len(digits) != 10 or not (digits.isascii() and digits.isdecimal()):
        raise LocalProtocolError(f"area code {area_code!r} and corp id {corp_id!r} are no node")
    return int(digits)


def stamp_of(at: datetime) -> int:
    """Write MMDDhhmmss as the integer of a sequence number; at is taken as it stands, so in Beijing time."""
    return int(f"{at:%m%d%H%M%S}")


# ── the PDUs ─────────────────────────────────────────────────────────────────────────────────────────


class Pdu(fields.Pdu, frozen=True, gc=False):
    """Header fields of every SGIP PDU; sequence_number, the counter, comes first, from the base.

    node and stamp are 0 in a request of ours until the dialect gives it its own.
    """

    node: int = 0
    stamp: int = 0


class Response(Pdu, frozen=True, gc=False):
    """A response repeats the sequence number of its request, all three parts."""


class BodiedResponse(Response, frozen=True, gc=False):
    """A response that ought to have a body. bare: it has none, and the fields below are mere defaults."""

    bare: bool = False


class ResultResponse(BodiedResponse, frozen=True, gc=False):
    result: U1 = 0
    reserve: Reserve = NO_RESERVE

    @property
    def ok(self) -> bool:
        """True if it says so: peers leave out the body when they refuse, and SGIP's header has no status."""
        return self.result == Result.OK and not self.bare


class UnknownPdu(Pdu, frozen=True, gc=False):
    """A PDU whose command_id we do not know, as those among SMGs and GNSs; body follows its header."""

    command_id: int = 0
    body: bytes = b""


class Bind(Pdu, frozen=True, gc=False):
    login_type: U1 = LoginType.SP_TO_SMG
    login_name: S16 = ""
    login_password: S16 = ""  # in clear text
    reserve: Reserve = NO_RESERVE

    def __repr__(self) -> str:
        return f"Bind(login_type={self.login_type!r}, login_name={self.login_name!r}, login_password='***')"


class BindResp(ResultResponse, frozen=True, gc=False):
    pass


class Unbind(Pdu, frozen=True, gc=False):
    pass


class UnbindResp(Response, frozen=True, gc=False):
    pass


def _read_text(octets: bytes) -> str:
    return octets.split(b"\0", 1)[0].rstrip(b" ").decode("latin-1")


def _write_text(text: str, octets_max: int) -> bytes:
    octets = text.encode("latin-1")
    if len(octets) > octets_max or 0 in octets:
        raise LocalProtocolError(f"a text that does not fit into {octets_max} octets")
    return octets.ljust(octets_max, b"\0")


def _read_users(frame: bytes, at: int) -> tuple[tuple[str, ...], int]:
    at, stop = at + 1, at + 1 + 21 * frame[at]
    if stop > len(frame):
        raise RemoteProtocolError("user_count runs over the end of the PDU", "user_numbers")
    return tuple(_read_text(frame[start : start + 21]) for start in range(at, stop, 21)), stop


def _write_users(user_numbers: tuple[str, ...]) -> bytes:
    if not 1 <= len(user_numbers) <= USERS_MAX:
        raise LocalProtocolError(f"a Submit to {len(user_numbers)} users; 1 to {USERS_MAX} are allowed")
    return bytes((len(user_numbers),)) + b"".join(_write_text(number, 21) for number in user_numbers)


class Submit(Pdu, frozen=True, gc=False):
    """A text to 1–100 users.

    Numbers begin with 86 · fee_value, given_value: in fen · expire_time, schedule_time: YYMMDDhhmmsstnnp or
    empty · message_content: with its user data header if tp_udhi is 1.
    """

    sp_number: S21 = ""
    charge_number: S21 = ""  # see SP_PAYS
    user_numbers: Annotated[tuple[str, ...], Listed("u1, then text 21 each", _read_users, _write_users)] = ()
    corp_id: S5 = ""
    service_type: S10 = ""
    fee_type: U1 = (
        0  # 0 only offsets the channel fee, 1 free, 2 per message, 3 monthly, 4 collected by the SP
    )
    fee_value: S6 = ""
    given_value: S6 = ""
    agent_flag: U1 = 0  # 0 receivable, 1 received
    more_late_to_mt_flag: U1 = 0  # 0 first answer to an MO, 1 a further one, 2 no answer, 3 of the system
    priority: U1 = 0  # 0–9
    expire_time: S16 = ""
    schedule_time: S16 = ""
    report_flag: U1 = 0  # 0 only of failure, 1 always, 2 never, 3 a monthly fee without a text
    tp_pid: U1 = 0
    tp_udhi: U1 = 0
    message_coding: U1 = 0
    message_type: U1 = 0
    message_content: MessageContent = b""
    reserve: Reserve = NO_RESERVE  # Unicom's LinkID


class SubmitResp(ResultResponse, frozen=True, gc=False):
    pass


class Deliver(Pdu, frozen=True, gc=False):
    """A text from a user."""

    user_number: S21 = ""
    sp_number: S21 = ""
    tp_pid: U1 = 0
    tp_udhi: U1 = 0
    message_coding: U1 = 0
    message_content: MessageContent = b""
    reserve: Reserve = NO_RESERVE  # Unicom's LinkID


class DeliverResp(ResultResponse, frozen=True, gc=False):
    pass


class Report(Pdu, frozen=True, gc=False):
    """What became of a Submit, for one of its users; see receipt()."""

    submit_sequence_number: B12 = bytes(12)
    report_type: U1 = 0  # 0 of a Submit, 1 of a Deliver that was passed on
    user_number: S21 = ""
    state: U1 = 0
    error_code: U1 = 0
    reserve: Reserve = NO_RESERVE


class ReportResp(ResultResponse, frozen=True, gc=False):
    pass


class UserRpt(Pdu, frozen=True, gc=False):
    """A user's standing has changed."""

    sp_number: S21 = ""
    user_number: S21 = ""
    user_condition: U1 = 0  # 0 cancelled, 1 suspended, 2 restored
    reserve: Reserve = NO_RESERVE


class UserRptResp(ResultResponse, frozen=True, gc=False):
    pass


class Trace(Pdu, frozen=True, gc=False):
    """Where is that Submit?"""

    submit_sequence_number: B12 = bytes(12)
    user_number: S21 = ""
    reserve: Reserve = NO_RESERVE


class Hop(Struct, frozen=True, gc=False):
    """One node that a traced Submit came through, and when; times as in Submit."""

    result: int = 0
    node_id: str = ""
    receive_time: str = ""
    send_time: str = ""
    reserve: bytes = NO_RESERVE


_HOP = struct.Struct(">B6s16s16s8s")
_HOP_13 = struct.Struct(">B10s16s16s8s")  # node_id has grown [S13]


def _read_hops(frame: bytes, at: int) -> tuple[tuple[Hop, ...], int]:
    count, at = frame[at], at + 1
    layout = _HOP_13 if len(frame) - at == count * _HOP_13.size else _HOP
    octets = count * layout.size
    if at + octets > len(frame) + 8:  # the last reserve may be missing
        raise RemoteProtocolError("count runs over the end of the PDU", "hops")
    hops = tuple(
        Hop(result, _read_text(node_id), _read_text(receive_time), _read_text(send_time), reserve)
        for result, node_id, receive_time, send_time, reserve in layout.iter_unpack(
            frame[at : at + octets].ljust(octets, b"\0")
        )
    )
    return hops, min(at + octets, len(frame))


def _write_hops(hops: tuple[Hop, ...]) -> bytes:
    octets = bytes((len(hops),))
    for hop in hops:
        octets += bytes((hop.result,)) + _write_text(hop.node_id, 6)
        octets += _write_text(hop.receive_time, 16) + _write_text(hop.send_time, 16)
        octets += _write_reserve(hop.reserve)
    return octets


class TraceResp(BodiedResponse, frozen=True, gc=False):
    hops: Annotated[
        tuple[Hop, ...],
        Listed("u1, then u1, text 6, text 16, text 16, octets 8 each", _read_hops, _write_hops),
    ] = ()


PDUS: dict[int, type[Pdu]] = {
    0x0000_0001: Bind,
    0x8000_0001: BindResp,
    0x0000_0002: Unbind,
    0x8000_0002: UnbindResp,
    0x0000_0003: Submit,
    0x8000_0003: SubmitResp,
    0x0000_0004: Deliver,
    0x8000_0004: DeliverResp,
    0x0000_0005: Report,
    0x8000_0005: ReportResp,
    0x0000_0011: UserRpt,
    0x8000_0011: UserRptResp,
    0x0000_1000: Trace,
    0x8000_1000: TraceResp,
}
RESPONSES = {
    pdu_class: PDUS[command_id | RESPONSE_BIT]
    for command_id, pdu_class in PDUS.items()
    if not command_id & RESPONSE_BIT
}

_CODECS = {command_id: fields.compile_pdu(pdu_class, HEADER.size) for command_id, pdu_class in PDUS.items()}
_READERS = {command_id: codec.read for command_id, codec in _CODECS.items()}
_WRITERS = {PDUS[command_id]: (command_id, codec.write) for command_id, codec in _CODECS.items()}
_BODIED = {command_id: cls for command_id, cls in PDUS.items() if issubclass(cls, BodiedResponse)}


def decode(frame: bytes | memoryview) -> Pdu:
    """Read one whole PDU; an unknown command_id gives an UnknownPdu. Raises RemoteProtocolError.

    A missing reserve reads as zeros, octets after the last field are left out.
    """
    frame = bytes(frame)
    try:
        length, command_id, node, stamp, sequence_number = HEADER.unpack_from(frame)
    except struct.error as error:
        raise RemoteProtocolError("shorter than a header", "message_length") from error
    if length != len(frame):
        raise RemoteProtocolError(f"message_length {length} on {len(frame)} octets", "message_length")
    if length == HEADER.size and command_id in _BODIED:
        return _BODIED[command_id](sequence_number, node, stamp, True)
    reader = _READERS.get(command_id)
    if reader is None:
        return UnknownPdu(sequence_number, node, stamp, command_id, frame[HEADER.size :])
    return reader(frame, sequence_number, node, stamp)


def encode(pdu: fields.Pdu, sequence_number: int | None = None, *, node: int = 0, stamp: int = 0) -> bytes:
    """Write one PDU under sequence_number, or under its own. Raises LocalProtocolError.

    node and stamp are given to a request that has none; a response repeats what it was asked with.
    """
    number = pdu.sequence_number if sequence_number is None else sequence_number
    if isinstance(pdu, UnknownPdu):
        command_id, body = pdu.command_id, pdu.body
    else:
        try:
            command_id, writer = _WRITERS[type(pdu)]  # type: ignore[index]  # a foreign PDU is the KeyError
        except KeyError:
            raise LocalProtocolError(f"{type(pdu).__name__} is no PDU of SGIP") from None
        body = b"" if isinstance(pdu, BodiedResponse) and pdu.bare else writer(pdu)  # type: ignore[arg-type]
    assert isinstance(pdu, Pdu)
    if command_id & RESPONSE_BIT:
        node, stamp = pdu.node, pdu.stamp
    else:
        node, stamp = pdu.node or node, pdu.stamp or stamp
    return fields.framed(HEADER, body, PDU_OCTETS_MAX, command_id, node, stamp, number)


def respond(request: Pdu, result: int = 0) -> Response | None:
    """Return the response to request, or None if it has none; all of its sequence number is repeated."""
    response = RESPONSES.get(type(request))
    if response is None:
        return None
    header = request.sequence_number, request.node, request.stamp
    if issubclass(response, ResultResponse):
        return response(*header, result=result)
    if issubclass(response, TraceResp):
        return response(*header, hops=(Hop(result),) if result else ())
    return response(*header)  # type: ignore[return-value]


# ── reports ──────────────────────────────────────────────────────────────────────────────────────────


class Receipt(Struct, frozen=True, gc=False):
    """What an SMG says became of one Submit for one of its users; a Submit to several gets as many.

    message_id: 24 hex digits, see SequenceNumber · user_number: as written there · error: OK unless FAILED ·
    forwarded: of a Deliver that was passed on, not of a Submit.
    """

    message_id: str
    user_number: str
    state: State
    error: Result
    forwarded: bool = False


def receipt(report: Report) -> Receipt:
    """Read a report; states and errors without a name keep their number."""
    return Receipt(
        report.submit_sequence_number.hex(),
        report.user_number,
        State(report.state),
        Result(report.error_code),
        report.report_type == 1,
    )


# ── the protocol, for wire.session ───────────────────────────────────────────────────────────────────

_TURNS: dict[type[fields.Pdu], Turn] = {
    **dict.fromkeys((Submit, Deliver, Report, UserRpt, Trace), Turn.REQUEST),
    **{pdu_class: Turn.RESPONSE for pdu_class in PDUS.values() if issubclass(pdu_class, Response)},
    Bind: Turn.LOGIN,
    BindResp: Turn.LOGIN_RESPONSE,
    Unbind: Turn.LOGOUT,
    UnbindResp: Turn.LOGOUT_RESPONSE,
    UnknownPdu: Turn.UNKNOWN,
}

_ANSWERS = {
    Answer.OK: Result.OK,
    Answer.NOT_LOGGED_IN: Result.ILLEGAL_LOGIN,
    Answer.ALREADY_LOGGED_IN: Result.REPEATED_LOGIN,
    Answer.BUSY: Result.NODE_BUSY,
    Answer.UNKNOWN: Result.COMMAND_ID,
}


def _welcomes(login_response: fields.Pdu) -> bool:
    return isinstance(login_response, BindResp) and login_response.ok


def _answer(request: fields.Pdu, answer: Answer) -> Pdu | None:
    """Answer in the request's own response. An unknown request has one, too: every id has its bit."""
    assert isinstance(request, Pdu)
    if not isinstance(request, UnknownPdu):
        return respond(request, _ANSWERS[answer])
    if request.command_id & RESPONSE_BIT:
        return None
    header = request.sequence_number, request.node, request.stamp
    return UnknownPdu(*header, request.command_id | RESPONSE_BIT, bytes((_ANSWERS[answer],)) + NO_RESERVE)


def _answer_unreadable(frame: bytes, error: RemoteProtocolError) -> Pdu | None:  # noqa: ARG001 - all alike
    """An unreadable request gets its own response; for a stream that is lost SGIP has no word."""
    if len(frame) < HEADER.size:
        return None
    _, command_id, node, stamp, sequence_number = HEADER.unpack_from(frame)
    pdu_class = PDUS.get(command_id)
    return None if pdu_class is None else respond(pdu_class(sequence_number, node, stamp), Result.LENGTH)


_OF_SP = Submit | Trace
_OF_SMG = Deliver | Report | UserRpt


def allows(login: fields.Pdu, request: fields.Pdu) -> bool:
    """Tell whether who opened the connection as login says may ask the listener for request.

    An SP submits and an SMG delivers; other kinds of login, if the owner let them in, may ask for anything.
    """
    assert isinstance(login, Bind)
    if login.login_type == LoginType.SP_TO_SMG:
        return isinstance(request, _OF_SP)
    if login.login_type == LoginType.SMG_TO_SP:
        return isinstance(request, _OF_SMG)
    return True


def _may_push(login: fields.Pdu, request: fields.Pdu) -> bool:
    """By the book a listener asks nothing; SMGs that deliver and report on the SP's connection do exist."""
    assert isinstance(login, Bind)
    if login.login_type == LoginType.SP_TO_SMG:
        return isinstance(request, _OF_SMG)
    return login.login_type != LoginType.SMG_TO_SP


def dialect(node: int, stamp: int, *, allows: Callable[[fields.Pdu, fields.Pdu], bool] = allows) -> Dialect:
    """Return the protocol as one connection speaks it: its requests get node and stamp where they have none.

    stamp is when the connection was made (stamp_of()). No two connections of one node may share it, for
    their counters begin alike. allows: what a peer that has logged in may ask for; another than ours for an
    SMG that calls itself an SP, say.
    """
    return Dialect(
        name="sgip",
        header_octets=HEADER.size,
        sequence_number_max=SEQUENCE_NUMBER_MAX,
        decode=decode,
        encode=partial(encode, node=node, stamp=stamp),
        turns=_TURNS,
        heartbeat=None,
        logout=Unbind(),
        welcomes=_welcomes,
        answer=_answer,
        answer_unreadable=_answer_unreadable,
        allows=allows,
        may_push=_may_push,
    )
