"""CMPP 2.0, 2.1 and 3.0: PDU tables, results, status reports, login proofs, message ids.

Entry points: decode(), encode(), connect(), authenticates(), respond(), report(); V2 (2.0 and 2.1 are laid
out alike) and V3 plug the protocol into wire.session and name the PDU classes of their layout.
Where the layouts differ there are two classes, Submit2 and Submit3, with one base, Submit: the base has every
field of either, and what a layout lacks stays at its default. So an owner reads and makes both alike.
Texts are Latin-1, cut at NUL, without blanks at their end; a Reserve or LinkID that a peer left out is empty.

Source: [C3] China Mobile QB-GF-028-2003, CMPP 3.0, with its history of changes since 1.2.1.
"""

import hashlib
import hmac
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from functools import partial
from typing import Annotated, Any, Self

from msgspec import Struct, structs

from hongyan.wire import fields
from hongyan.wire.fields import (
    PDU_OCTETS_MAX,
    U1,
    U4,
    U8,
    Counted,
    Listed,
    LocalProtocolError,
    Octets,
    RemoteProtocolError,
    Text,
)
from hongyan.wire.session import Answer, Dialect, Turn

PORT = 7890
HEADER = struct.Struct(">III")  # Total_Length, Command_Id, Sequence_Id
RESPONSE_BIT = 0x8000_0000
SEQUENCE_NUMBER_MAX = 0xFFFF_FFFF
VERSION_2_0 = 0x20
VERSION_2_1 = 0x21
VERSION_3_0 = 0x30
DESTINATIONS_MAX = 99  # "less than 100" [C3 8.4.3.1]


# ── field kinds of this protocol ─────────────────────────────────────────────────────────────────────


def _read_text(octets: bytes) -> str:
    return octets.split(b"\0", 1)[0].rstrip(b" ").decode("latin-1")


def _write_text(text: str, octets: int) -> bytes:
    written = text.encode("latin-1")
    if len(written) > octets or 0 in written:
        raise LocalProtocolError(f"a text does not fit Text(octets={octets})")
    return written.ljust(octets, b"\0")


def _destinations(octets: int) -> Listed:
    """Numbers of so many octets each, behind their count."""

    def read(frame: bytes, at: int) -> tuple[tuple[str, ...], int]:
        start = at + 1
        stop = start + octets * frame[at]
        if stop > len(frame):
            raise RemoteProtocolError("the destinations run over the end of the PDU", "dest_usr_tl")
        return tuple([_read_text(frame[one : one + octets]) for one in range(start, stop, octets)]), stop

    def write(numbers: tuple[str, ...]) -> bytes:
        if len(numbers) > DESTINATIONS_MAX:
            raise LocalProtocolError(f"{len(numbers)} destinations; the most is {DESTINATIONS_MAX}")
        return bytes((len(numbers),)) + b"".join([_write_text(number, octets) for number in numbers])

    return Listed(f"u1, then text {octets} each", read, write)


def _read_reserve(frame: bytes, at: int) -> tuple[bytes, int]:
    return frame[at : at + 8].ljust(8, b"\0"), at + 8


def _write_reserve(reserve: bytes) -> bytes:
    if len(reserve) != 8:
        raise LocalProtocolError("reserve has 8 octets")
    return reserve


def _read_link_id(frame: bytes, at: int) -> tuple[str, int]:
    return _read_text(frame[at : at + 20]), at + 20


def _write_link_id(link_id: str) -> bytes:
    return _write_text(link_id, 20)


def _write_absent(value: object) -> bytes:
    if value:
        raise LocalProtocolError(f"2.x has no field for {value!r}")
    return b""


S2 = Annotated[str, Text(2)]
S6 = Annotated[str, Text(6)]
S8 = Annotated[str, Text(8)]
S10 = Annotated[str, Text(10)]
S21 = Annotated[str, Text(21)]
S32 = Annotated[str, Text(32)]
Time = Annotated[str, Text(17)]  # empty or 16 characters, as times.absolute_time() writes them
Authenticator = Annotated[bytes, Octets(16)]
# "at most 160 octets where Msg_Fmt is 0, else at most 140" [C3 8.4.3.1]; a longer one is read all the same.
Content = Annotated[bytes, Counted(1, 160)]
Numbers21 = Annotated[tuple[str, ...], _destinations(21)]
Numbers32 = Annotated[tuple[str, ...], _destinations(32)]
# The two that may be missing at the end of what peers send.
Reserve = Annotated[bytes, Listed("octets 8 or nothing", _read_reserve, _write_reserve)]
LinkId = Annotated[str, Listed("text 20 or nothing", _read_link_id, _write_link_id)]
# Fields of 3.0 that take no room in 2.x.
NoNumber = Annotated[int, Listed("", lambda _, at: (0, at), _write_absent)]
NoText = Annotated[str, Listed("", lambda _, at: ("", at), _write_absent)]


# ── results ──────────────────────────────────────────────────────────────────────────────────────────


class _OpenEnum(IntEnum):
    """Numbers by name; any other number of up to 4 octets is accepted and calls itself by its digits."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not 0 <= value < 1 << 32:
            return None
        number = int.__new__(cls, value)
        number._name_ = str(value)
        number._value_ = value
        return number


class ConnectStatus(_OpenEnum):
    """Status of CONNECT_RESP [C3 8.4.1.2]."""

    OK = 0
    STRUCTURE = 1
    SOURCE_ADDRESS = 2
    AUTHENTICATION = 3
    VERSION = 4  # too high for the gateway
    OTHER = 5  # and all above


class Result(_OpenEnum):
    """Result of SUBMIT_RESP, DELIVER_RESP and FWD_RESP [C3 8.4.3.2]; 100 to 199 are the vendor's."""

    OK = 0
    STRUCTURE = 1
    COMMAND = 2
    DUPLICATE = 3  # a sequence number that was used before
    LENGTH = 4
    FEE = 5
    TOO_LONG = 6
    SERVICE_ID = 7
    FLOW = 8  # too fast: the session ought to pause
    OTHER = 9  # to a SUBMIT: the gateway does not serve the number that is charged
    SRC_ID = 10  # from here on 3.0 only
    MSG_SRC = 11
    FEE_TERMINAL_ID = 12
    DEST_TERMINAL_ID = 13


# ── the PDUs ─────────────────────────────────────────────────────────────────────────────────────────


class Pdu(fields.Pdu, frozen=True, gc=False):
    """What every CMPP PDU has: nothing but its number."""


class Response(Pdu, frozen=True, gc=False):
    """A response that has no body."""


class BodiedResponse(Response, frozen=True, gc=False):
    """A response that ought to have a body. bare: it came without one.

    The result, which would have stood in the body, is then OTHER, so that nobody takes it for a success.
    """

    bare: bool = False


class UnknownPdu(Pdu, frozen=True, gc=False):
    """A PDU whose Command_Id we do not know; body is all that follows its header."""

    command_id: int = 0
    body: bytes = b""


class Connect(Pdu, frozen=True, gc=False):
    """[C3 8.4.1.1]. timestamp: MMDDHHMMSS read as a number; connect() makes one."""

    source_addr: S6 = ""
    authenticator_source: Authenticator = bytes(16)
    version: U1 = VERSION_3_0
    timestamp: U4 = 0

    def __repr__(self) -> str:
        # The proof and its timestamp are enough to try secrets on.
        return f"Connect(source_addr={self.source_addr!r}, authenticator_source='***', version={self.version:#x})"


class ConnectResp(BodiedResponse, frozen=True, gc=False):
    """[C3 8.4.1.2]. authenticator_ismg: zeros where the login failed."""

    status: U1 = 0
    authenticator_ismg: Authenticator = bytes(16)
    version: U1 = VERSION_3_0

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(status={self.status}, authenticator_ismg='***', version={self.version:#x})"


class ConnectResp2(ConnectResp, frozen=True, gc=False):
    version: U1 = VERSION_2_0


class ConnectResp3(ConnectResp, frozen=True, gc=False):
    status: U4 = 0


class Terminate(Pdu, frozen=True, gc=False):
    pass


class TerminateResp(Response, frozen=True, gc=False):
    pass


class Submit(Pdu, frozen=True, gc=False):
    """[C3 8.4.3.1]; the table of 3.0. The gateway sets msg_id; of n destinations each counts as a message."""

    msg_id: U8 = 0
    pk_total: U1 = 1
    pk_number: U1 = 1
    registered_delivery: U1 = 0
    msg_level: U1 = 0
    service_id: S10 = ""
    fee_user_type: U1 = 0
    fee_terminal_id: S32 = ""
    fee_terminal_type: U1 = 0
    tp_pid: U1 = 0
    tp_udhi: U1 = 0
    msg_fmt: U1 = 0
    msg_src: S6 = ""
    fee_type: S2 = ""
    fee_code: S6 = ""
    valid_time: Time = ""
    at_time: Time = ""
    src_id: S21 = ""
    dest_terminal_id: Numbers32 = ()
    dest_terminal_type: U1 = 0
    msg_content: Content = b""
    link_id: LinkId = ""


class Submit2(Submit, frozen=True, gc=False):
    fee_terminal_id: S21 = ""
    fee_terminal_type: NoNumber = 0
    dest_terminal_id: Numbers21 = ()
    dest_terminal_type: NoNumber = 0
    link_id: NoText = ""
    reserve: Reserve = bytes(8)


class Submit3(Submit, frozen=True, gc=False):
    pass


class SubmitResp(BodiedResponse, frozen=True, gc=False):
    """[C3 8.4.3.2]. msg_id: of the first destination, see group_ids()."""

    msg_id: U8 = 0
    result: U1 = 0


class SubmitResp2(SubmitResp, frozen=True, gc=False):
    pass


class SubmitResp3(SubmitResp, frozen=True, gc=False):
    result: U4 = 0


class Deliver(Pdu, frozen=True, gc=False):
    """[C3 8.4.5.1]; the table of 3.0. registered_delivery: 0 a person's text, 1 a status report, see report()."""

    msg_id: U8 = 0
    dest_id: S21 = ""
    service_id: S10 = ""
    tp_pid: U1 = 0
    tp_udhi: U1 = 0
    msg_fmt: U1 = 0
    src_terminal_id: S32 = ""
    src_terminal_type: U1 = 0
    registered_delivery: U1 = 0
    msg_content: Content = b""
    link_id: LinkId = ""


class Deliver2(Deliver, frozen=True, gc=False):
    src_terminal_id: S21 = ""
    src_terminal_type: NoNumber = 0
    link_id: NoText = ""
    reserve: Reserve = bytes(8)


class Deliver3(Deliver, frozen=True, gc=False):
    pass


class DeliverResp(BodiedResponse, frozen=True, gc=False):
    """[C3 8.4.5.2]. msg_id: of the DELIVER itself, not the one inside a status report."""

    msg_id: U8 = 0
    result: U1 = 0


class DeliverResp2(DeliverResp, frozen=True, gc=False):
    pass


class DeliverResp3(DeliverResp, frozen=True, gc=False):
    result: U4 = 0


class Query(Pdu, frozen=True, gc=False):
    """How many messages there were on a day [C3 8.4.4.1]. time: YYYYMMDD."""

    time: S8 = ""
    query_type: U1 = 0  # 0 all, 1 those of the service query_code
    query_code: S10 = ""
    reserve: Reserve = bytes(8)


class QueryResp(BodiedResponse, frozen=True, gc=False):
    """[C3 8.4.4.2]. mt: to handsets, mo: from them; scs succeeded, wt waiting, fl failed."""

    time: S8 = ""
    query_type: U1 = 0
    query_code: S10 = ""
    mt_tlmsg: U4 = 0
    mt_tlusr: U4 = 0
    mt_scs: U4 = 0
    mt_wt: U4 = 0
    mt_fl: U4 = 0
    mo_scs: U4 = 0
    mo_wt: U4 = 0
    mo_fl: U4 = 0


class Cancel(Pdu, frozen=True, gc=False):
    msg_id: U8 = 0


class CancelResp(BodiedResponse, frozen=True, gc=False):
    """[C3 8.4.6.2]. success_id: 0 cancelled, 1 not."""

    success_id: U1 = 0


class CancelResp2(CancelResp, frozen=True, gc=False):
    pass


class CancelResp3(CancelResp, frozen=True, gc=False):
    success_id: U4 = 0


class ActiveTest(Pdu, frozen=True, gc=False):
    pass


class ActiveTestResp(BodiedResponse, frozen=True, gc=False):
    reserved: U1 = 0


class Fwd(Pdu, frozen=True, gc=False):
    """What one gateway passes to another [C3 8.5.4]; the table of 3.0."""

    source_id: S6 = ""
    destination_id: S6 = ""
    nodes_count: U1 = 0
    msg_fwd_type: U1 = 0  # 0 to a handset, 1 from one, 2 and 3 the reports of these
    msg_id: U8 = 0
    pk_total: U1 = 1
    pk_number: U1 = 1
    registered_delivery: U1 = 0
    msg_level: U1 = 0
    service_id: S10 = ""
    fee_user_type: U1 = 0
    fee_terminal_id: S21 = ""
    fee_terminal_pseudo: S32 = ""
    fee_terminal_user_type: U1 = 0
    tp_pid: U1 = 0
    tp_udhi: U1 = 0
    msg_fmt: U1 = 0
    msg_src: S6 = ""
    fee_type: S2 = ""
    fee_code: S6 = ""
    valid_time: Time = ""
    at_time: Time = ""
    src_id: S21 = ""
    src_pseudo: S32 = ""
    src_user_type: U1 = 0
    src_type: U1 = 0
    dest_id: Numbers21 = ()
    dest_pseudo: S32 = ""
    dest_user_type: U1 = 0
    msg_content: Content = b""
    link_id: LinkId = ""


class Fwd2(Fwd, frozen=True, gc=False):
    fee_terminal_pseudo: NoText = ""
    fee_terminal_user_type: NoNumber = 0
    src_pseudo: NoText = ""
    src_user_type: NoNumber = 0
    src_type: NoNumber = 0
    dest_pseudo: NoText = ""
    dest_user_type: NoNumber = 0
    link_id: NoText = ""
    reserve: Reserve = bytes(8)


class Fwd3(Fwd, frozen=True, gc=False):
    pass


class FwdResp(BodiedResponse, frozen=True, gc=False):
    msg_id: U8 = 0
    pk_total: U1 = 1
    pk_number: U1 = 1
    result: U1 = 0


class FwdResp2(FwdResp, frozen=True, gc=False):
    pass


class FwdResp3(FwdResp, frozen=True, gc=False):
    result: U4 = 0


_SHARED: dict[int, type[Pdu]] = {
    0x0000_0001: Connect,
    0x0000_0002: Terminate,
    0x8000_0002: TerminateResp,
    0x0000_0006: Query,
    0x8000_0006: QueryResp,
    0x0000_0007: Cancel,
    0x0000_0008: ActiveTest,
    0x8000_0008: ActiveTestResp,
}
PDUS_2: dict[int, type[Pdu]] = _SHARED | {
    0x8000_0001: ConnectResp2,
    0x0000_0004: Submit2,
    0x8000_0004: SubmitResp2,
    0x0000_0005: Deliver2,
    0x8000_0005: DeliverResp2,
    0x8000_0007: CancelResp2,
    0x0000_0009: Fwd2,
    0x8000_0009: FwdResp2,
}
PDUS_3: dict[int, type[Pdu]] = _SHARED | {
    0x8000_0001: ConnectResp3,
    0x0000_0004: Submit3,
    0x8000_0004: SubmitResp3,
    0x0000_0005: Deliver3,
    0x8000_0005: DeliverResp3,
    0x8000_0007: CancelResp3,
    0x0000_0009: Fwd3,
    0x8000_0009: FwdResp3,
}

_COMMAND_IDS = {pdu_class: command_id for pdus in (PDUS_2, PDUS_3) for command_id, pdu_class in pdus.items()}
_CODECS = {pdu_class: fields.compile_pdu(pdu_class, HEADER.size) for pdu_class in _COMMAND_IDS}
_WRITERS = {pdu_class: (_COMMAND_IDS[pdu_class], codec.write) for pdu_class, codec in _CODECS.items()}


def decode(frame: bytes | memoryview, version: int = VERSION_3_0) -> Pdu:
    """Read one whole PDU as laid out in version; an unknown Command_Id gives an UnknownPdu.

    A response that has exactly the length it has in the other layout is read so: a SUBMIT_RESP of 24 octets
    would seem a success, whatever it says, if only the first octet of its Result were read. Octets after the
    last field are left out. Raises RemoteProtocolError.
    """
    frame = bytes(frame)
    try:
        length, command_id, sequence_number = HEADER.unpack_from(frame)
    except struct.error as error:
        raise RemoteProtocolError("shorter than a header", "total_length") from error
    if length != len(frame):
        raise RemoteProtocolError(f"Total_Length {length} on {len(frame)} octets", "total_length")
    readers = _READERS_3 if version >= VERSION_3_0 else _READERS_2
    reader = readers.get(command_id)
    if reader is None:
        return UnknownPdu(sequence_number, command_id, frame[HEADER.size :])
    if command_id & RESPONSE_BIT:
        odd_readers = _ODD_READERS_3 if version >= VERSION_3_0 else _ODD_READERS_2
        reader = odd_readers.get((command_id, length), reader)
    return reader(frame, sequence_number)


def encode(pdu: fields.Pdu, sequence_number: int | None = None) -> bytes:
    """Write one PDU, in the layout of its class, under sequence_number or its own. Raises LocalProtocolError."""
    number = pdu.sequence_number if sequence_number is None else sequence_number
    if isinstance(pdu, UnknownPdu):
        command_id, body = pdu.command_id, pdu.body
    else:
        try:
            command_id, writer = _WRITERS[type(pdu)]  # type: ignore[index]  # a foreign PDU is the KeyError
        except KeyError:
            raise LocalProtocolError(f"{type(pdu).__name__} is no PDU of CMPP") from None
        body = b"" if isinstance(pdu, BodiedResponse) and pdu.bare else writer(pdu)  # type: ignore[arg-type]
    return fields.framed(HEADER, body, PDU_OCTETS_MAX, command_id, number)


_Reader = Callable[[bytes, int], Pdu]


def _odd_readers(
    pdus: Mapping[int, type[Pdu]], others: Mapping[int, type[Pdu]]
) -> dict[tuple[int, int], _Reader]:
    """Readers of responses by (Command_Id, length): laid out as in the other version, or without a body."""
    readers: dict[tuple[int, int], _Reader] = {}
    for command_id, pdu_class in pdus.items():
        if issubclass(pdu_class, BodiedResponse):
            other = others[command_id]
            readers[command_id, HEADER.size] = _bare_reader(pdu_class)
            if other is not pdu_class:
                readers[command_id, len(encode(other()))] = _CODECS[other].read
    return readers


def _bare_reader(pdu_class: type[BodiedResponse]) -> _Reader:
    names = {"status", "result", "success_id"} & set(pdu_class.__struct_fields__)
    failed: dict[str, Any] = dict.fromkeys(names, int(Result.OTHER))

    def read(_: bytes, sequence_number: int) -> Pdu:
        return pdu_class(sequence_number, bare=True, **failed)

    return read


_READERS_2: dict[int, _Reader] = {command_id: _CODECS[cls].read for command_id, cls in PDUS_2.items()}
_READERS_3: dict[int, _Reader] = {command_id: _CODECS[cls].read for command_id, cls in PDUS_3.items()}
_ODD_READERS_2 = _odd_readers(PDUS_2, PDUS_3)
_ODD_READERS_3 = _odd_readers(PDUS_3, PDUS_2)


# ── login ────────────────────────────────────────────────────────────────────────────────────────────


def _md5(octets: bytes) -> bytes:
    # The protocol knows no other digest; what it guards ought to run in a VPN or a leased line.
    return hashlib.md5(octets, usedforsecurity=False).digest()


def authenticator_source(source_addr: str, secret: str, timestamp: int, *, padded: bool = False) -> bytes:
    """MD5(Source_Addr, 9 zeros, secret, timestamp in ten digits) [C3 8.4.1.1].

    padded: an address of fewer than 6 octets is hashed as it stands on the wire, with its zeros.
    """
    address = source_addr.encode("latin-1")
    if padded:
        address = address.ljust(6, b"\0")
    return _md5(address + bytes(9) + secret.encode() + b"%010d" % timestamp)


def authenticator_ismg(
    status: int, authenticator_source: bytes, secret: str, *, status_octets: int = 4
) -> bytes:
    """MD5(Status, AuthenticatorSource, secret) [C3 8.4.1.2]; Status has 1 octet in 2.x and 4 in 3.0."""
    return _md5(status.to_bytes(status_octets, "big") + authenticator_source + secret.encode())


def connect(
    source_addr: str, secret: str, at: datetime, version: int = VERSION_3_0, *, padded: bool = False
) -> Connect:
    """Return the login; at is the time of day at the gateway, which is China's."""
    timestamp = int(f"{at:%m%d%H%M%S}")
    proof = authenticator_source(source_addr, secret, timestamp, padded=padded)
    return Connect(0, source_addr, proof, version, timestamp)


def authenticates(connect: Connect, secret: str) -> bool:
    """Whether connect was made with secret; a short address may have been hashed with or without its zeros.

    How old the timestamp is, and whether it was used before, is the owner's to judge.
    """
    plain, padded = (
        hmac.compare_digest(
            connect.authenticator_source,
            authenticator_source(connect.source_addr, secret, connect.timestamp, padded=padded),
        )
        for padded in (False, True)
    )
    return plain | padded


def authenticates_ismg(response: ConnectResp, connect: Connect, secret: str) -> bool:
    """Whether the gateway, too, knows secret. Many gateways hash something else: refuse none unasked.

    Some hash a Status of 4 octets in 2.x as well, or of 1 octet in 3.0; either width will do.
    """
    narrow, wide = (
        hmac.compare_digest(
            response.authenticator_ismg,
            authenticator_ismg(
                response.status & (1 << 8 * status_octets) - 1,
                connect.authenticator_source,
                secret,
                status_octets=status_octets,
            ),
        )
        for status_octets in (1, 4)
    )
    return narrow | wide


# ── message ids ──────────────────────────────────────────────────────────────────────────────────────

_MSG_ID_BITS = (4, 5, 5, 6, 6, 22, 16)


class MsgId(Struct, frozen=True, gc=False):
    """The parts of a Msg_Id [C3 8.4.3.2]: when, at which gateway, and a number that wraps.

    Peers fill the parts as they like; an id is compared whole, and is unique for a year at the most.
    """

    month: int
    day: int
    hour: int
    minute: int
    second: int
    gateway: int
    sequence: int

    @property
    def number(self) -> int:
        """The id, unsigned: from August on its highest bit is set. Raises LocalProtocolError."""
        number = 0
        for part, bits in zip(structs.astuple(self), _MSG_ID_BITS, strict=True):
            if not 0 <= part < 1 << bits:
                raise LocalProtocolError(f"{self} does not fit 8 octets")
            number = number << bits | part
        return number


def make_msg_id(at: datetime, gateway: int, sequence: int) -> int:
    """Return the id that a gateway gives; gateway has 22 bits, of sequence the lowest 16 are taken."""
    return MsgId(at.month, at.day, at.hour, at.minute, at.second, gateway, sequence & 0xFFFF).number


def split_msg_id(msg_id: int) -> MsgId:
    """Return the parts of an id of 64 bits."""
    parts = []
    for bits in reversed(_MSG_ID_BITS):
        parts.append(msg_id & (1 << bits) - 1)
        msg_id >>= bits
    return MsgId(*reversed(parts))


def group_ids(msg_id: int, count: int) -> tuple[int, ...]:
    """Return the ids of the destinations of one SUBMIT, in their order; only the sequence part counts on.

    The response names the first [C3 8.4.3.2].
    """
    stem, sequence = msg_id & ~0xFFFF, msg_id & 0xFFFF
    return tuple([stem | sequence + step & 0xFFFF for step in range(count)])


# ── status reports ───────────────────────────────────────────────────────────────────────────────────

_REPORT_HEAD = struct.Struct(">Q7s10s10s")
_REPORT_OCTETS_2 = 60
_REPORT_OCTETS_3 = 71


class Report(Struct, frozen=True, gc=False):
    """What a gateway says became of one message [C3 8.4.5.1].

    msg_id: of the SUBMIT_RESP, 0 if it names none · stat: DELIVRD, UNDELIV, MK:0012 …, as written there ·
    submit_time, done_time: YYMMDDhhmm, often nonsense; times.receipt_time() reads them · dest: the number.
    """

    msg_id: int
    stat: str
    submit_time: str = ""
    done_time: str = ""
    dest: str = ""
    smsc_sequence: int = 0

    @property
    def final(self) -> bool:
        """False while a later report may still say more."""
        return self.stat.upper() not in ("ACCEPTD", "ENROUTE")


def report(deliver: Deliver) -> Report | None:
    """Read a status report; None if deliver is none.

    Its layout is told by its length, since gateways of 3.0 also send the one of 2.x. A shorter one is read
    as far as it goes.
    """
    if deliver.registered_delivery != 1:
        return None
    content = deliver.msg_content
    octets = _REPORT_OCTETS_3 if len(content) >= _REPORT_OCTETS_3 else _REPORT_OCTETS_2
    if len(content) < octets:
        content = content.ljust(octets, b"\0") if len(content) >= 8 else bytes(octets)
    msg_id, stat, submit_time, done_time = _REPORT_HEAD.unpack_from(content)
    return Report(
        msg_id,
        _read_text(stat),
        _read_text(submit_time),
        _read_text(done_time),
        _read_text(content[_REPORT_HEAD.size : octets - 4]),
        int.from_bytes(content[octets - 4 : octets], "big"),
    )


def write_report(report: Report, version: int = VERSION_3_0) -> bytes:
    """Return the msg_content of a status report, 60 octets in 2.x and 71 in 3.0. Raises LocalProtocolError."""
    try:
        return b"".join(
            (
                report.msg_id.to_bytes(8, "big"),
                _write_text(report.stat, 7),
                _write_text(report.submit_time, 10),
                _write_text(report.done_time, 10),
                _write_text(report.dest, 32 if version >= VERSION_3_0 else 21),
                report.smsc_sequence.to_bytes(4, "big"),
            )
        )
    except (OverflowError, UnicodeEncodeError) as error:
        raise LocalProtocolError(f"a status report cannot carry this: {error}") from error


# ── the protocol, for wire.session ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class CmppDialect(Dialect):
    """A layout, as the session machine sees it, and the classes that an owner makes its PDUs of."""

    version: int
    connect_resp: type[ConnectResp]
    submit: type[Submit]
    submit_resp: type[SubmitResp]
    deliver: type[Deliver]
    deliver_resp: type[DeliverResp]
    cancel_resp: type[CancelResp]
    fwd: type[Fwd]
    fwd_resp: type[FwdResp]


def dialect_of(login: Connect | ConnectResp) -> CmppDialect:
    """Return what the peer speaks: by the version a CONNECT asks for, by the layout of a CONNECT_RESP.

    The version is a mere hint: some clients name 3.0 and speak 2.x. An account ought to be able to say.
    """
    if isinstance(login, Connect):
        return _dialect(login.version)
    return V3 if isinstance(login, ConnectResp3) else V2


def respond(request: Pdu, dialect: CmppDialect, result: int = 0, *, msg_id: int = 0) -> Response | None:
    """Return the response to request, or None if it has none.

    msg_id: what a SUBMIT_RESP names; the others repeat that of their request. A CONNECT_RESP made so proves
    nothing: connect_resp() makes the one that lets a client in.
    """
    number = request.sequence_number
    match request:
        case Submit():
            return dialect.submit_resp(number, msg_id=msg_id, result=result)
        case Deliver():
            return dialect.deliver_resp(number, msg_id=request.msg_id, result=result)
        case ActiveTest():
            return ActiveTestResp(number)
        case Terminate():
            return TerminateResp(number)
        case Connect():
            return dialect.connect_resp(number, status=result, version=dialect.version)
        case Query(time=time, query_type=query_type, query_code=query_code):
            return QueryResp(number, time=time, query_type=query_type, query_code=query_code)
        case Cancel():
            return dialect.cancel_resp(number, success_id=int(result != 0))
        case Fwd(msg_id=fwd_msg_id, pk_total=total, pk_number=part):
            return dialect.fwd_resp(number, msg_id=fwd_msg_id, pk_total=total, pk_number=part, result=result)
    return None


def connect_resp(connect: Connect, secret: str, dialect: CmppDialect) -> ConnectResp:
    """Return the response that lets connect in; respond(connect, dialect, status) is the one that does not."""
    same = dialect_of(connect) is dialect  # 2.1 is answered with 2.1
    status_octets = 4 if dialect is V3 else 1
    return dialect.connect_resp(
        connect.sequence_number,
        authenticator_ismg=authenticator_ismg(
            0, connect.authenticator_source, secret, status_octets=status_octets
        ),
        version=connect.version if same else dialect.version,
    )


_TURNS: dict[type[fields.Pdu], Turn] = {
    **dict.fromkeys((Submit2, Submit3, Deliver2, Deliver3, Query, Cancel, Fwd2, Fwd3), Turn.REQUEST),
    **{pdu_class: Turn.RESPONSE for pdu_class in _COMMAND_IDS if issubclass(pdu_class, Response)},
    Connect: Turn.LOGIN,
    **dict.fromkeys((ConnectResp2, ConnectResp3), Turn.LOGIN_RESPONSE),
    ActiveTest: Turn.HEARTBEAT,
    ActiveTestResp: Turn.HEARTBEAT_RESPONSE,
    Terminate: Turn.LOGOUT,
    TerminateResp: Turn.LOGOUT_RESPONSE,
    UnknownPdu: Turn.UNKNOWN,
}

_RESULTS = {
    Answer.OK: Result.OK,
    Answer.NOT_LOGGED_IN: Result.COMMAND,
    Answer.ALREADY_LOGGED_IN: ConnectStatus.OTHER,
    Answer.BUSY: Result.FLOW,
}


def _welcomes(login_response: fields.Pdu) -> bool:
    return isinstance(login_response, ConnectResp) and login_response.status == 0


def _answer(request: fields.Pdu, answer: Answer, version: int) -> Pdu | None:
    """Answer what is known; CMPP has no word for an unknown command."""
    assert isinstance(request, Pdu)
    return None if answer is Answer.UNKNOWN else respond(request, _dialect(version), int(_RESULTS[answer]))


def _answer_unreadable(frame: bytes, error: RemoteProtocolError, version: int) -> Pdu | None:
    """An unreadable request gets its own response; a lost stream gets none."""
    if len(frame) < HEADER.size:
        return None
    _, command_id, sequence_number = HEADER.unpack_from(frame)
    pdus = PDUS_3 if version >= VERSION_3_0 else PDUS_2
    request_class = pdus.get(command_id)
    if request_class is None:
        return None
    request = request_class(sequence_number)
    if isinstance(request, Deliver):
        msg_id = int.from_bytes(frame[HEADER.size : HEADER.size + 8], "big")
        request = structs.replace(request, msg_id=msg_id)
    result = Result.LENGTH if error.field == "msg_content" else Result.STRUCTURE
    return respond(request, _dialect(version), int(result))


def _allows(_: fields.Pdu, request: fields.Pdu) -> bool:
    """What a service provider may ask a gateway for; FWD is between gateways [C3 8.5.4]."""
    return not isinstance(request, Deliver | Fwd)


def _after_login(login_response: fields.Pdu) -> Dialect:
    assert isinstance(login_response, ConnectResp)
    return dialect_of(login_response)


def _dialect(version: int) -> CmppDialect:
    return V3 if version >= VERSION_3_0 else V2


V2 = CmppDialect(
    name="cmpp2",
    header_octets=HEADER.size,
    sequence_number_max=SEQUENCE_NUMBER_MAX,
    decode=partial(decode, version=VERSION_2_0),
    encode=encode,
    turns=_TURNS,
    heartbeat=ActiveTest(),
    logout=Terminate(),
    welcomes=_welcomes,
    answer=partial(_answer, version=VERSION_2_0),
    answer_unreadable=partial(_answer_unreadable, version=VERSION_2_0),
    allows=_allows,
    after_login=_after_login,
    version=VERSION_2_0,
    connect_resp=ConnectResp2,
    submit=Submit2,
    submit_resp=SubmitResp2,
    deliver=Deliver2,
    deliver_resp=DeliverResp2,
    cancel_resp=CancelResp2,
    fwd=Fwd2,
    fwd_resp=FwdResp2,
)
V3 = replace(
    V2,
    name="cmpp3",
    decode=partial(decode, version=VERSION_3_0),
    answer=partial(_answer, version=VERSION_3_0),
    answer_unreadable=partial(_answer_unreadable, version=VERSION_3_0),
    version=VERSION_3_0,
    connect_resp=ConnectResp3,
    submit=Submit3,
    submit_resp=SubmitResp3,
    deliver=Deliver3,
    deliver_resp=DeliverResp3,
    cancel_resp=CancelResp3,
    fwd=Fwd3,
    fwd_resp=FwdResp3,
)
