"""SMGP 3.0 (China Telecom) and its older layout 1.3: PDU tables, statuses, logins, message ids, reports.

Entry points: decode(), encode(), login(), report(); dialect() plugs the protocol into wire.session.
A message id is 10 octets; on paper BCD, in life anything, NULs included, so it stays bytes. Optional
parameters stay raw, (tag, value), in the order they came; TLVS gives them names and meaning. Times (valid_time,
at_time, the dates of a report) are written as in SMPP, see wire.times.

Surprising: statuses stand in the bodies, so a response that comes without one says nothing. `bare` keeps that,
and its status is UNSAID, which is not OK. There is no nack: what is unknown stays without an answer.

Source: [G3] SMGP V3.0.3, followed by Q/CT 2069-2008 (V3.1). 1.3 and Forward are as public code has them.
"""

import hmac
import re
import struct
from collections.abc import Callable
from datetime import datetime
from enum import IntEnum
from functools import partial
from hashlib import md5
from itertools import zip_longest
from typing import Annotated, Any, NamedTuple, Self

from msgspec import Struct, structs

from hongyan.wire import fields
from hongyan.wire.fields import (
    PDU_OCTETS_MAX,
    U1,
    U4,
    Counted,
    Integer,
    Listed,
    LocalProtocolError,
    Octets,
    RemoteProtocolError,
    Text,
    Tlv,
    Tlvs,
    TlvTable,
)
from hongyan.wire.session import Answer, Dialect, Turn

PORT = 8890
HEADER = struct.Struct(">III")  # packet_length, request_id, sequence_id
RESPONSE_BIT = 0x8000_0000
SEQUENCE_NUMBER_MAX = 0x7FFF_FFFF  # u4 on the wire, but there are peers that count in signed integers
VERSION = 0x30
VERSION_13 = 0x13  # Submit has no FixedFee; every other version byte seen goes with the layout of 3.0
DESTINATIONS_MAX = 100  # of one Submit

S2 = Annotated[str, Text(2)]
S6 = Annotated[str, Text(6)]
S8 = Annotated[str, Text(8)]
S10 = Annotated[str, Text(10)]
S14 = Annotated[str, Text(14)]
S17 = Annotated[str, Text(17)]
S21 = Annotated[str, Text(21)]
MsgId = Annotated[bytes, Octets(10)]
Authenticator = Annotated[bytes, Octets(16)]
Optional = Annotated[tuple[Tlv, ...], Tlvs()]


# ── statuses and other numbers ───────────────────────────────────────────────────────────────────────


class Status(IntEnum):
    """Status of a response by name [G3]; any other number is accepted and calls itself so.

    56–72 speak of gateways and routes, from 128 on they are the vendor's. None says "slower".
    """

    OK = 0
    SYSTEM_BUSY = 1
    TOO_MANY_CONNECTIONS = 2
    STRUCTURE = 10
    COMMAND = 11
    DUPLICATE_SEQUENCE = 12
    IP_ADDRESS = 20
    AUTHENTICATION = 21
    VERSION = 22
    MSG_TYPE = 30
    PRIORITY = 31
    FEE_TYPE = 32
    FEE_CODE = 33
    MSG_FORMAT = 34
    TIME_FORMAT = 35
    MSG_LENGTH = 36
    VALIDITY_PASSED = 37
    QUERY_TYPE = 38
    ROUTE = 39
    FIXED_FEE = 40
    UPDATE_TYPE = 41
    ROUTE_ID = 42
    SERVICE_ID = 43
    VALID_TIME = 44
    AT_TIME = 45
    SRC_TERM_ID = 46
    DEST_TERM_ID = 47
    CHARGE_TERM_ID = 48
    SP_CODE = 49
    M_SERVICE_ID = 73
    HOUR_FORBIDDEN = 74
    DAILY_QUOTA = 75
    ACCOUNT_EXPIRED = 76
    UNSAID = 0xFFFF_FFFF  # ours, never written: the response came without a body

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not 0 <= value < 1 << 32:
            return None
        status = int.__new__(cls, value)
        status._name_ = str(value)
        status._value_ = value
        return status


class LoginMode(IntEnum):
    """What a login is for [G3 6.2.3]."""

    SEND = 0
    RECEIVE = 1
    BOTH = 2


class MsgType(IntEnum):
    """Whose message it is."""

    MO = 0
    MT = 6
    P2P = 7


class MsgFormat(IntEnum):
    """The usual MsgFormats; others are data coding schemes of GSM 03.38."""

    ASCII = 0
    SIM_WRITE = 3
    BINARY = 4
    UCS2 = 8
    GBK = 15  # what the document wants for texts


TLVS = TlvTable(
    (
        (0x0001, "tp_pid", Integer(1)),
        (0x0002, "tp_udhi", Integer(1)),
        (0x0003, "link_id", Text(20)),
        (0x0004, "charge_user_type", Integer(1)),
        (0x0005, "charge_term_type", Integer(1)),
        (0x0006, "charge_term_pseudo", None),
        (0x0007, "dest_term_type", Integer(1)),
        (0x0008, "dest_term_pseudo", None),
        (0x0009, "pk_total", Integer(1)),
        (0x000A, "pk_number", Integer(1)),
        (0x000B, "submit_msg_type", Integer(1)),
        (0x000C, "sp_deal_result", Integer(1)),
        (0x000D, "src_term_type", Integer(1)),
        (0x000E, "src_term_pseudo", None),
        (0x000F, "nodes_count", Integer(1)),
        (0x0010, "msg_src", Text(8)),
        (0x0011, "src_type", Integer(1)),
        (0x0012, "m_service_id", Text(21)),
    )
)


# ── fields that read and write themselves ────────────────────────────────────────────────────────────


def _read_reserve(frame: bytes, at: int) -> tuple[bytes, int]:
    """Read the 8 octets behind the content; what is missing of them reads as zeros."""
    return frame[at : at + 8].ljust(8, b"\0"), min(at + 8, len(frame))


def _write_reserve(reserve: bytes) -> bytes:
    if len(reserve) != 8:
        raise LocalProtocolError("reserve has 8 octets")
    return reserve


def _read_destinations(frame: bytes, at: int) -> tuple[tuple[str, ...], int]:
    first, stop = at + 1, at + 1 + 21 * frame[at]
    if stop > len(frame):
        raise RemoteProtocolError("the destinations run over the end of the PDU", "dest_term_id")
    numbers = [frame[place : place + 21].split(b"\0", 1)[0] for place in range(first, stop, 21)]
    return tuple([number.rstrip(b" ").decode("latin-1") for number in numbers]), stop


def _write_destinations(destinations: tuple[str, ...]) -> bytes:
    if len(destinations) > DESTINATIONS_MAX:
        raise LocalProtocolError(f"{len(destinations)} destinations; the most is {DESTINATIONS_MAX}")
    octets = bytes((len(destinations),))
    for destination in destinations:
        number = destination.encode("latin-1")
        if len(number) > 21 or 0 in number:
            raise LocalProtocolError("dest_term_id does not fit Text(octets=21)")
        octets += number.ljust(21, b"\0")
    return octets


def _read_nothing(_frame: bytes, at: int) -> tuple[str, int]:
    return "", at


def _write_nothing(value: str) -> bytes:
    if value:
        raise LocalProtocolError("fixed_fee has no place in this version")
    return b""


Reserve = Annotated[bytes, Listed("octets 8 or nothing", _read_reserve, _write_reserve)]
Destinations = Annotated[
    tuple[str, ...], Listed("u1, then text 21 each", _read_destinations, _write_destinations)
]
Absent = Annotated[str, Listed("", _read_nothing, _write_nothing)]
# "At most 140" [G3]; where the document is silent, what the length can say.
SubmitContent = Annotated[bytes, Counted(1, 140)]
Content = Annotated[bytes, Counted(1, 255)]


# ── the PDUs ─────────────────────────────────────────────────────────────────────────────────────────


class Pdu(fields.Pdu, frozen=True, gc=False):
    """What every SMGP PDU has: nothing but its number."""


class Response(Pdu, frozen=True, gc=False):
    """A response that has no body."""


class BodiedResponse(Response, frozen=True, gc=False):
    """A response that ought to have a body. bare: it has none, and the fields below are mere defaults."""

    bare: bool = False


class UnknownPdu(Pdu, frozen=True, gc=False):
    """A PDU whose request_id we do not know; body is all that follows its header."""

    request_id: int = 0
    body: bytes = b""


class Login(Pdu, frozen=True, gc=False):
    """See login() and authenticates(). timestamp: MMDDHHMMSS, read as a number."""

    client_id: S8 = ""
    authenticator_client: Authenticator = bytes(16)
    login_mode: U1 = LoginMode.BOTH
    timestamp: U4 = 0
    client_version: U1 = VERSION

    def __repr__(self) -> str:
        return (
            f"Login(client_id={self.client_id!r}, authenticator_client='***', login_mode={self.login_mode}, "
            f"timestamp={self.timestamp}, client_version=0x{self.client_version:02X})"
        )


class LoginResp(BodiedResponse, frozen=True, gc=False):
    """See login_resp(). Many peers fill authenticator_server with anything: check it only where told to."""

    status: U4 = 0
    authenticator_server: Authenticator = bytes(16)
    server_version: U1 = VERSION

    def __repr__(self) -> str:
        return (
            f"LoginResp(status={self.status}, authenticator_server='***', "
            f"server_version=0x{self.server_version:02X})"
        )


class Submit(Pdu, frozen=True, gc=False):
    """A message to 1 to 100 numbers. need_report: 0 or 1 · priority: 0 to 3 · fees: in fen."""

    msg_type: U1 = MsgType.MT
    need_report: U1 = 0
    priority: U1 = 0
    service_id: S10 = ""
    fee_type: S2 = ""
    fee_code: S6 = ""
    fixed_fee: S6 = ""
    msg_format: U1 = 0
    valid_time: S17 = ""
    at_time: S17 = ""
    src_term_id: S21 = ""
    charge_term_id: S21 = ""
    dest_term_id: Destinations = ()
    msg_content: SubmitContent = b""
    reserve: Reserve = bytes(8)
    tlvs: Optional = ()


class Submit13(Submit, frozen=True, gc=False):
    """Submit as peers of version 0x13 have it: fixed_fee takes no octets and is always empty."""

    fixed_fee: Absent = ""


class SubmitResp(BodiedResponse, frozen=True, gc=False):
    """msg_id: of the first destination, see group_ids()."""

    msg_id: MsgId = bytes(10)
    status: U4 = 0


class Deliver(Pdu, frozen=True, gc=False):
    """What a handset sent, or a status report. recv_time: YYYYMMDDhhmmss."""

    msg_id: MsgId = bytes(10)
    is_report: U1 = 0
    msg_format: U1 = 0
    recv_time: S14 = ""
    src_term_id: S21 = ""
    dest_term_id: S21 = ""
    msg_content: Content = b""
    reserve: Reserve = bytes(8)
    tlvs: Optional = ()


class DeliverResp(BodiedResponse, frozen=True, gc=False):
    """msg_id: the Deliver's own, not the one inside a report."""

    msg_id: MsgId = bytes(10)
    status: U4 = 0


class ActiveTest(Pdu, frozen=True, gc=False):
    pass


class ActiveTestResp(Response, frozen=True, gc=False):
    pass


class Forward(Pdu, frozen=True, gc=False):
    """Between gateways only. One destination, and it stands before the payer, unlike in Submit."""

    msg_id: MsgId = bytes(10)
    dest_smgw_no: S6 = ""
    src_smgw_no: S6 = ""
    smc_no: S6 = ""
    msg_type: U1 = MsgType.MT
    report_flag: U1 = 0
    priority: U1 = 0
    service_id: S10 = ""
    fee_type: S2 = ""
    fee_code: S6 = ""
    fixed_fee: S6 = ""
    msg_format: U1 = 0
    valid_time: S17 = ""
    at_time: S17 = ""
    src_term_id: S21 = ""
    dest_term_id: S21 = ""
    charge_term_id: S21 = ""
    msg_content: Content = b""
    reserve: Reserve = bytes(8)
    tlvs: Optional = ()


class ForwardResp(BodiedResponse, frozen=True, gc=False):
    msg_id: MsgId = bytes(10)
    status: U4 = 0


class Exit(Pdu, frozen=True, gc=False):
    pass


class ExitResp(Response, frozen=True, gc=False):
    pass


class Query(Pdu, frozen=True, gc=False):
    """Ask for the counts of a day. query_time: YYYYMMDD · query_type: 0 all, 1 of the service query_code."""

    query_time: S8 = ""
    query_type: U1 = 0
    query_code: S10 = ""


class QueryResp(BodiedResponse, frozen=True, gc=False):
    """Counts: mt_tl_msg, mt_tl_usr taken from the SP (messages, users) · scs sent · wt waiting · fl failed."""

    query_time: S8 = ""
    query_type: U1 = 0
    query_code: S10 = ""
    mt_tl_msg: U4 = 0
    mt_tl_usr: U4 = 0
    mt_scs: U4 = 0
    mt_wt: U4 = 0
    mt_fl: U4 = 0
    mo_scs: U4 = 0
    mo_wt: U4 = 0
    mo_fl: U4 = 0
    reserve: Reserve = bytes(8)


PDUS: dict[int, type[Pdu]] = {
    0x0000_0001: Login,
    0x8000_0001: LoginResp,
    0x0000_0002: Submit,
    0x8000_0002: SubmitResp,
    0x0000_0003: Deliver,
    0x8000_0003: DeliverResp,
    0x0000_0004: ActiveTest,
    0x8000_0004: ActiveTestResp,
    0x0000_0005: Forward,
    0x8000_0005: ForwardResp,
    0x0000_0006: Exit,
    0x8000_0006: ExitResp,
    0x0000_0007: Query,
    0x8000_0007: QueryResp,
}
PDUS_13 = PDUS | {0x0000_0002: Submit13}

_CODECS: dict[type[Pdu], fields.Codec[Any]] = {
    pdu_class: fields.compile_pdu(pdu_class, HEADER.size) for pdu_class in {*PDUS.values(), *PDUS_13.values()}
}


class _Layout(NamedTuple):
    """What one version reads and writes."""

    readers: dict[int, Callable[..., Pdu]]
    writers: dict[type[Pdu], tuple[int, Callable[[Any], bytes]]]


def _layout(pdus: dict[int, type[Pdu]]) -> _Layout:
    return _Layout(
        {request_id: _CODECS[pdu_class].read for request_id, pdu_class in pdus.items()},
        {pdu_class: (request_id, _CODECS[pdu_class].write) for request_id, pdu_class in pdus.items()},
    )


_LAYOUT, _LAYOUT_13 = _layout(PDUS), _layout(PDUS_13)
_READ_LOGIN_RESP = _LAYOUT.readers[0x8000_0001]
_BARE: dict[int, Pdu] = {
    0x8000_0001: LoginResp(bare=True, status=Status.UNSAID),
    0x8000_0002: SubmitResp(bare=True, status=Status.UNSAID),
    0x8000_0003: DeliverResp(bare=True, status=Status.UNSAID),
    0x8000_0005: ForwardResp(bare=True, status=Status.UNSAID),
    0x8000_0007: QueryResp(bare=True),
}


def decode(frame: bytes | memoryview, version: int = VERSION) -> Pdu:
    """Read one whole PDU; an unknown request_id gives an UnknownPdu. Raises RemoteProtocolError.

    Contents longer than the protocol allows are let through; a missing Reserve, octets after the last field and
    a broken tail of parameters are left out.
    """
    frame = bytes(frame)
    try:
        length, request_id, sequence_id = HEADER.unpack_from(frame)
    except struct.error as error:
        raise RemoteProtocolError("shorter than a header", "packet_length") from error
    if length != len(frame):
        raise RemoteProtocolError(f"packet_length {length} on {len(frame)} octets", "packet_length")
    if length == HEADER.size and request_id in _BARE:
        return structs.replace(_BARE[request_id], sequence_number=sequence_id)
    reader = (_LAYOUT_13 if version == VERSION_13 else _LAYOUT).readers.get(request_id)
    if reader is None:
        return UnknownPdu(sequence_id, request_id, frame[HEADER.size :])
    if reader is _READ_LOGIN_RESP and length >= HEADER.size + 4:
        frame = frame.ljust(33, b"\0")  # a refusal may end behind its status
    return reader(frame, sequence_id)


def encode(pdu: fields.Pdu, sequence_number: int | None = None, version: int = VERSION) -> bytes:
    """Write one PDU under sequence_number, or under its own. Raises LocalProtocolError.

    Each version has its own submit_class() and refuses the other's.
    """
    number = pdu.sequence_number if sequence_number is None else sequence_number
    if isinstance(pdu, UnknownPdu):
        request_id, body = pdu.request_id, pdu.body
    else:
        layout = _LAYOUT_13 if version == VERSION_13 else _LAYOUT
        try:
            request_id, writer = layout.writers[type(pdu)]  # type: ignore[index]  # a foreign PDU is the KeyError
        except KeyError:
            raise LocalProtocolError(f"{type(pdu).__name__} is no PDU of SMGP 0x{version:02X}") from None
        body = b"" if isinstance(pdu, BodiedResponse) and pdu.bare else writer(pdu)
    return fields.framed(HEADER, body, PDU_OCTETS_MAX, request_id, number)


def submit_class(version: int) -> type[Submit]:
    """Return the Submit of that version."""
    return Submit13 if version == VERSION_13 else Submit


def respond(request: Pdu, status: int = 0, *, msg_id: bytes = bytes(10)) -> Response | None:
    """Return the response to request, or None if it has none: a Query cannot be told that it failed.

    msg_id: what a Submit is called from now on; the others repeat that of their request. The counts of a Query
    are zero, and a LoginResp made so proves nothing: login_resp() makes the one that lets a client in.
    """
    number = request.sequence_number
    match request:
        case Submit():
            return SubmitResp(number, msg_id=msg_id, status=status)
        case Deliver():
            return DeliverResp(number, msg_id=request.msg_id, status=status)
        case Forward():
            return ForwardResp(number, msg_id=request.msg_id, status=status)
        case Login():
            return LoginResp(number, status=status)
        case Query() if status == 0:
            query_time, query_type, query_code = request.query_time, request.query_type, request.query_code
            return QueryResp(number, False, query_time, query_type, query_code)
        case ActiveTest():
            return ActiveTestResp(number)
        case Exit():
            return ExitResp(number)
    return None


# ── logins ───────────────────────────────────────────────────────────────────────────────────────────


def login(
    client_id: str,
    secret: str,
    at: datetime,
    *,
    mode: int = LoginMode.BOTH,
    version: int = VERSION,
    padded: bool = False,
) -> Login:
    """Return the login of client_id at that moment, which is Chinese time whatever its zone says.

    padded: see authenticator_client(). Raises LocalProtocolError.
    """
    timestamp = int(f"{at:%m%d%H%M%S}")
    authenticator = authenticator_client(client_id, secret, timestamp, padded=padded)
    return Login(0, client_id, authenticator, mode, timestamp, version)


def login_resp(login: Login, secret: str, *, server_version: int = VERSION) -> LoginResp:
    """Return the response that lets login in; respond(login, status) is the one that does not."""
    authenticator = authenticator_server(0, login.authenticator_client, secret)
    return LoginResp(login.sequence_number, False, 0, authenticator, server_version)


def authenticates(login: Login, secret: str) -> bool:
    """Return whether login was made with secret, whichever way its id was padded; in constant time.

    How old the timestamp is, and whether it was used before, is the owner's to judge.
    """
    plain, padded = (
        hmac.compare_digest(
            login.authenticator_client,
            authenticator_client(login.client_id, secret, login.timestamp, padded=padded),
        )
        for padded in (False, True)
    )
    return plain | padded


def authenticates_server(response: LoginResp, login: Login, secret: str) -> bool:
    """Return whether the gateway, too, knows secret. Many send something else: refuse none unasked.

    Some hash a Status of one octet; either width will do.
    """
    narrow, wide = (
        hmac.compare_digest(
            response.authenticator_server,
            authenticator_server(
                response.status & (1 << 8 * status_octets) - 1,
                login.authenticator_client,
                secret,
                status_octets=status_octets,
            ),
        )
        for status_octets in (1, 4)
    )
    return narrow | wide


def authenticator_client(client_id: str, secret: str, timestamp: int, *, padded: bool = False) -> bytes:
    """Return MD5(ClientID, 7 NULs, secret, timestamp as ten digits) [G3 6.2.2].

    padded: with ClientID as it stands on the wire, filled with NULs to 8 octets; peers differ in that.
    """
    try:
        octets = client_id.encode("latin-1")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"client_id cannot be written: {error.reason}") from error
    if padded:
        octets = octets.ljust(8, b"\0")
    return _md5(octets + bytes(7) + secret.encode() + b"%010d" % timestamp)


def authenticator_server(
    status: int, authenticator_client: bytes, secret: str, *, status_octets: int = 4
) -> bytes:
    """Return MD5(Status, AuthenticatorClient, secret) [G3 6.2.7]. status_octets: some peers hash only one."""
    return _md5(status.to_bytes(status_octets, "big") + authenticator_client + secret.encode())


def _md5(octets: bytes) -> bytes:
    # The protocol's choice, and its only one.
    return md5(octets, usedforsecurity=False).digest()


# ── message ids ──────────────────────────────────────────────────────────────────────────────────────


class MsgIdParts(Struct, frozen=True, gc=False):
    """What a message id says. gateway: 6 digits · at: MMDDhhmm, Chinese time · counter: 0 to 999999."""

    gateway: str
    at: str
    counter: int


def make_msg_id(gateway: str, at: datetime, counter: int) -> bytes:
    """Return the id, BCD, of gateway's message number counter in that minute. Raises LocalProtocolError."""
    digits = f"{gateway}{at:%m%d%H%M}{counter:06}"
    if len(digits) != 20 or len(gateway) != 6 or not (digits.isascii() and digits.isdecimal()):
        raise LocalProtocolError("a message id has a gateway of 6 digits and a counter below 1000000")
    return bytes.fromhex(digits)


def split_msg_id(msg_id: bytes) -> MsgIdParts | None:
    """Return what msg_id says; None if it is not BCD, as those of many gateways."""
    digits = msg_id.hex()
    if len(digits) != 20 or not digits.isdecimal():
        return None
    return MsgIdParts(digits[:6], digits[6:14], int(digits[14:]))


def group_ids(first: bytes, count: int) -> tuple[bytes, ...]:
    """Return the ids of the count destinations of one Submit, whose response named the first.

    The counter goes on in decimal, 0 after 999999 [G3 appendix B]. An id that is not BCD counts in a way of
    its own: then the first is all there is.
    """
    if split_msg_id(first) is None:
        return (first,)
    counter = int(first[7:].hex())
    return tuple(first[:7] + bytes.fromhex(f"{(counter + one) % 1_000_000:06}") for one in range(count))


# ── reports ──────────────────────────────────────────────────────────────────────────────────────────


class Report(Struct, frozen=True, gc=False):
    """What a gateway says became of one message.

    msg_id: the 10 octets that SubmitResp gave, in hex, "" if it names none · stat, error, submit_date,
    done_date: their own words, "" where missing; dates are YYMMDDhhmm, Chinese time.
    """

    msg_id: str
    stat: str = ""
    error: str = ""
    submit_date: str = ""
    done_date: str = ""


# `id:`, the id as raw octets, then keys and values [G3]. Keys differ in case and in `submit date`, submit_date;
# between them stands a blank, nothing, or an s. text comes last and may contain anything, in any charset.
_REPORT_KEY = re.compile(rb"(sub|dlvrd|submit[ _]?date|done[ _]?date|stat|err|text|txt):", re.IGNORECASE)
# The document's layout, tried first only because it is faster than the scan; both read it alike.
_COMMON_REPORT = re.compile(
    rb"id:(.{10}) sub:\d+ dlvrd:\d+ [Ss]ubmit date:(\d+) done date:(\d+) "
    rb"stat:([A-Z]+|[A-Z]{2}:\d{4}) err:(\w+) [Tt]ext:",
    re.DOTALL,
)
_REPORT_SEPARATORS = b" \t\r\n,;\0"


def report(deliver: Deliver) -> Report | None:
    """Read a status report; None if deliver is a text.

    Only is_report decides: no handset can set it, while any handset can write such a text.
    """
    if deliver.is_report == 0:
        return None
    common = _COMMON_REPORT.match(deliver.msg_content)
    if common is not None:
        msg_id, *words = common.groups()
        submit_date, done_date, stat, error = [word.decode("ascii") for word in words]
        return Report(msg_id.hex(), stat, error, submit_date, done_date)
    return _scan_report(deliver.msg_content)


def _scan_report(content: bytes) -> Report:
    msg_id, rest = "", content
    if len(content) >= 13 and content[:3].lower() == b"id:":
        msg_id, rest = content[3:13].hex(), content[13:]
    found: dict[bytes, str] = {}
    hits = list(_REPORT_KEY.finditer(rest))
    for hit, following in zip_longest(hits, hits[1:]):
        key = hit[1].lower().replace(b"_", b"").replace(b" ", b"")
        if key in (b"text", b"txt"):
            break  # what follows is the message's own words
        value = rest[hit.end() : following.start()].removesuffix(b"s") if following else rest[hit.end() :]
        words = value.strip(_REPORT_SEPARATORS).split(maxsplit=1)
        found.setdefault(key, words[0].decode("latin-1") if words else "")
    return Report(msg_id, *(found.get(key, "") for key in (b"stat", b"err", b"submitdate", b"donedate")))


def write_report(report: Report, text: bytes = b"") -> bytes:
    """Write a report as the 122 octets of the document: the content of a Deliver with is_report 1.

    text: the message; its length and first 17 octets are told. Raises LocalProtocolError.
    """
    delivered = int(report.stat == "DELIVRD")
    words = (
        _word("sub:", "001", 3),
        _word("dlvrd:", f"{delivered:03}", 3),
        _word("submit date:", report.submit_date, 10),
        _word("done date:", report.done_date, 10),
        _word("stat:", report.stat.ljust(7), 7),
        _word("err:", report.error, 3),
        _word("text:", f"{len(text):03}", 3) + text[:17].ljust(17, b"\0"),
    )
    try:
        msg_id = bytes.fromhex(report.msg_id)
    except ValueError as error:
        raise LocalProtocolError(f"the message id of a report is hex: {error}") from error
    if len(msg_id) != 10:
        raise LocalProtocolError("the message id of a report has 10 octets")
    return b"id:" + msg_id + b" " + b" ".join(words)


def _word(key: str, value: str, octets: int) -> bytes:
    if len(value) != octets or not value.isascii():
        raise LocalProtocolError(f"in a report {key} has {octets} characters")
    return (key + value).encode("ascii")


# ── the protocol, for wire.session ───────────────────────────────────────────────────────────────────

_TURNS: dict[type[fields.Pdu], Turn] = {
    **dict.fromkeys((Submit, Submit13, Deliver, Forward, Query), Turn.REQUEST),
    **dict.fromkeys((SubmitResp, DeliverResp, ForwardResp, QueryResp), Turn.RESPONSE),
    Login: Turn.LOGIN,
    LoginResp: Turn.LOGIN_RESPONSE,
    ActiveTest: Turn.HEARTBEAT,
    ActiveTestResp: Turn.HEARTBEAT_RESPONSE,
    Exit: Turn.LOGOUT,
    ExitResp: Turn.LOGOUT_RESPONSE,
    UnknownPdu: Turn.UNKNOWN,
}

_ANSWERS = {
    Answer.OK: Status.OK,
    Answer.NOT_LOGGED_IN: Status.AUTHENTICATION,
    Answer.ALREADY_LOGGED_IN: Status.COMMAND,
    Answer.BUSY: Status.SYSTEM_BUSY,
    Answer.UNKNOWN: Status.COMMAND,
}


def _welcomes(login_response: fields.Pdu) -> bool:
    """Neither the server's authenticator nor its version is looked at: peers send what they like."""
    return isinstance(login_response, LoginResp) and login_response.status == 0


def _answer(request: fields.Pdu, answer: Answer) -> Pdu | None:
    """Answer what is known; SMGP has no word for an unknown request."""
    assert isinstance(request, Pdu)
    return respond(request, int(_ANSWERS[answer]))


def _answer_unreadable(frame: bytes, error: RemoteProtocolError) -> Pdu | None:
    """An unreadable request gets its own response; a lost stream, none."""
    if len(frame) < HEADER.size:
        return None
    _, request_id, sequence_id = HEADER.unpack_from(frame)
    status = int(Status.MSG_LENGTH if error.field == "msg_content" else Status.STRUCTURE)
    msg_id = frame[12:22].ljust(10, b"\0")
    match PDUS.get(request_id):
        case pdu_class if pdu_class is Login or pdu_class is Submit:
            return respond(pdu_class(sequence_id), status)
        case pdu_class if pdu_class is Deliver or pdu_class is Forward:
            return respond(pdu_class(sequence_id, msg_id), status)
    return None


def _allows(login: fields.Pdu, request: fields.Pdu) -> bool:
    """What an SP may ask a gateway for: nothing that gateways tell, and nothing if it came to receive."""
    if isinstance(login, Login) and login.login_mode == LoginMode.RECEIVE:
        return False
    return not isinstance(request, Deliver | Forward)


def _may_push(login: fields.Pdu, _request: fields.Pdu) -> bool:
    return isinstance(login, Login) and login.login_mode != LoginMode.SEND


def dialect(version: int = VERSION) -> Dialect:
    """Return the protocol in that version's layout; what differs shows only after the login."""
    return DIALECT_13 if version == VERSION_13 else DIALECT


def _dialect(version: int) -> Dialect:
    return Dialect(
        name="smgp",
        header_octets=HEADER.size,
        sequence_number_max=SEQUENCE_NUMBER_MAX,
        decode=partial(decode, version=version),
        encode=partial(encode, version=version),
        turns=_TURNS,
        heartbeat=ActiveTest(),
        logout=Exit(),
        welcomes=_welcomes,
        answer=_answer,
        answer_unreadable=_answer_unreadable,
        allows=_allows,
        may_push=_may_push,
    )


DIALECT, DIALECT_13 = _dialect(VERSION), _dialect(VERSION_13)
