"""SMPP 3.4 and 5.0, and 3.3 towards those who speak no more: PDU tables, statuses, receipts.

Entry points: decode(), encode(), receipt(); DIALECT plugs the protocol into wire.session, dialect_of() says
which dialect a login asks for.
Optional parameters stay raw, (tag, value), in the order they came; TLVS gives them names and meaning.
A response may come without its body even when it reports success; `bare` keeps that, so that what was
read can be written again bit for bit.

Sources: [P34] SMPP 3.4 Issue 1.2, [P50] SMPP 5.0.
"""

import re
import struct
from dataclasses import replace
from enum import IntEnum
from itertools import zip_longest
from typing import Annotated, Self

from msgspec import Struct, structs

from hongyan.wire import fields, times
from hongyan.wire.fields import (
    PDU_OCTETS_MAX,
    U1,
    Counted,
    CString,
    Integer,
    Listed,
    LocalProtocolError,
    Octets,
    RemoteProtocolError,
    Tlv,
    Tlvs,
    TlvTable,
)
from hongyan.wire.session import Answer, Dialect, Turn

PORT = 2775
HEADER = struct.Struct(">IIII")  # command_length, command_id, command_status, sequence_number
RESPONSE_BIT = 0x8000_0000
SEQUENCE_NUMBER_MAX = 0x7FFF_FFFF

C6 = Annotated[str, CString(6)]
C9 = Annotated[str, CString(9)]
C13 = Annotated[str, CString(13)]
C16 = Annotated[str, CString(16)]
C21 = Annotated[str, CString(21)]
C41 = Annotated[str, CString(41)]
C65 = Annotated[str, CString(65)]
Time = Annotated[str, CString(17)]  # empty or 16 characters, see absolute_time()
# "sm_length 0–254" [P34 5.2.21]; 255 since [P50]. Real texts end at 140 or 160.
ShortMessage = Annotated[bytes, Counted(1, 255)]
Optional = Annotated[tuple[Tlv, ...], Tlvs()]

# They stand in a file of their own because the other protocols write times alike.
absolute_time, relative_time = times.absolute_time, times.relative_time
read_time, receipt_time = times.read_time, times.receipt_time


# ── statuses and other numbers ───────────────────────────────────────────────────────────────────────


class CommandStatus(IntEnum):
    """command_status by name [P34 5.1.3, P50]; any other number is accepted and calls itself 0x…"""

    ROK = 0x00
    INVMSGLEN = 0x01
    INVCMDLEN = 0x02
    INVCMDID = 0x03
    INVBNDSTS = 0x04
    ALYBND = 0x05
    INVPRTFLG = 0x06
    INVREGDLVFLG = 0x07
    SYSERR = 0x08
    INVSRCADR = 0x0A
    INVDSTADR = 0x0B
    INVMSGID = 0x0C
    BINDFAIL = 0x0D
    INVPASWD = 0x0E
    INVSYSID = 0x0F
    CANCELFAIL = 0x11
    REPLACEFAIL = 0x13
    MSGQFUL = 0x14
    INVSERTYP = 0x15
    INVNUMDESTS = 0x33
    INVDLNAME = 0x34
    INVDESTFLAG = 0x40
    INVSUBREP = 0x42
    INVESMCLASS = 0x43
    CNTSUBDL = 0x44
    SUBMITFAIL = 0x45
    INVSRCTON = 0x48
    INVSRCNPI = 0x49
    INVDSTTON = 0x50
    INVDSTNPI = 0x51
    INVSYSTYP = 0x53
    INVREPFLAG = 0x54
    INVNUMMSGS = 0x55
    THROTTLED = 0x58
    INVSCHED = 0x61
    INVEXPIRY = 0x62
    INVDFTMSGID = 0x63
    X_T_APPN = 0x64  # the receiver could not take it for now
    X_P_APPN = 0x65  # the receiver will never take it
    X_R_APPN = 0x66  # the receiver rejects the message
    QUERYFAIL = 0x67
    INVOPTPARSTREAM = 0xC0
    OPTPARNOTALLWD = 0xC1
    INVPARLEN = 0xC2
    MISSINGOPTPARAM = 0xC3
    INVOPTPARAMVAL = 0xC4
    DELIVERYFAILURE = 0xFE
    UNKNOWNERR = 0xFF
    SERTYPUNAUTH = 0x100  # from here on 5.0 only
    PROHIBITED = 0x101
    SERTYPUNAVAIL = 0x102
    SERTYPDENIED = 0x103
    INVDCS = 0x104
    INVSRCADDRSUBUNIT = 0x105
    INVDSTADDRSUBUNIT = 0x106
    INVBCASTFREQINT = 0x107
    INVBCASTALIAS_NAME = 0x108
    INVBCASTAREAFMT = 0x109
    INVNUMBCAST_AREAS = 0x10A
    INVBCASTCNTTYPE = 0x10B
    INVBCASTMSGCLASS = 0x10C
    BCASTFAIL = 0x10D
    BCASTQUERYFAIL = 0x10E
    BCASTCANCELFAIL = 0x10F
    INVBCAST_REP = 0x110
    INVBCASTSRVGRP = 0x111
    INVBCASTCHANIND = 0x112

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not 0 <= value < 1 << 32:
            return None
        status = int.__new__(cls, value)
        status._name_ = f"0x{value:08X}"
        status._value_ = value
        return status


class MessageState(IntEnum):
    """message_state [P34 5.2.28, P50]."""

    SCHEDULED = 0
    ENROUTE = 1
    DELIVERED = 2
    EXPIRED = 3
    DELETED = 4
    UNDELIVERABLE = 5
    ACCEPTED = 6
    UNKNOWN = 7
    REJECTED = 8
    SKIPPED = 9

    @property
    def final(self) -> bool:
        """False while a later receipt may still say more."""
        return self not in (MessageState.SCHEDULED, MessageState.ENROUTE, MessageState.ACCEPTED)


ESM_UDHI = 0x40  # short_message begins with a user data header
ESM_TYPE_MASK = 0x3C
ESM_RECEIPT = 0x04
ESM_INTERMEDIATE = 0x20

TLVS = TlvTable(
    (
        (0x0005, "dest_addr_subunit", Integer(1)),
        (0x0006, "dest_network_type", Integer(1)),
        (0x0007, "dest_bearer_type", Integer(1)),
        (0x0008, "dest_telematics_id", Integer(2)),
        (0x000D, "source_addr_subunit", Integer(1)),
        (0x000E, "source_network_type", Integer(1)),
        (0x000F, "source_bearer_type", Integer(1)),
        (0x0010, "source_telematics_id", Integer(1)),
        (0x0017, "qos_time_to_live", Integer(4)),
        (0x0019, "payload_type", Integer(1)),
        (0x001D, "additional_status_info_text", CString(256)),
        (0x001E, "receipted_message_id", CString(65)),
        (0x0030, "ms_msg_wait_facilities", Integer(1)),
        (0x0201, "privacy_indicator", Integer(1)),
        (0x0202, "source_subaddress", None),
        (0x0203, "dest_subaddress", None),
        (0x0204, "user_message_reference", Integer(2)),
        (0x0205, "user_response_code", Integer(1)),
        (0x020A, "source_port", Integer(2)),
        (0x020B, "destination_port", Integer(2)),
        (0x020C, "sar_msg_ref_num", Integer(2)),
        (0x020D, "language_indicator", Integer(1)),
        (0x020E, "sar_total_segments", Integer(1)),
        (0x020F, "sar_segment_seqnum", Integer(1)),
        (0x0210, "sc_interface_version", Integer(1)),
        (0x0302, "callback_num_pres_ind", Integer(1)),
        (0x0303, "callback_num_atag", None),
        (0x0304, "number_of_messages", Integer(1)),
        (0x0381, "callback_num", None),
        (0x0420, "dpf_result", Integer(1)),
        (0x0421, "set_dpf", Integer(1)),
        (0x0422, "ms_availability_status", Integer(1)),
        (0x0423, "network_error_code", Octets(3)),
        (0x0424, "message_payload", None),
        (0x0425, "delivery_failure_reason", Integer(1)),
        (0x0426, "more_messages_to_send", Integer(1)),
        (0x0427, "message_state", Integer(1)),
        (0x0428, "congestion_state", Integer(1)),
        (0x0501, "ussd_service_op", Integer(1)),
        (0x0600, "broadcast_channel_indicator", Integer(1)),
        (0x0601, "broadcast_content_type", Octets(3)),
        (0x0602, "broadcast_content_type_info", None),
        (0x0603, "broadcast_message_class", Integer(1)),
        (0x0604, "broadcast_rep_num", Integer(2)),
        (0x0605, "broadcast_frequency_interval", Octets(3)),
        (0x0606, "broadcast_area_identifier", None),
        (0x0607, "broadcast_error_status", Integer(4)),
        (0x0608, "broadcast_area_success", Integer(1)),
        (0x0609, "broadcast_end_time", CString(17)),
        (0x060A, "broadcast_service_group", None),
        (0x060B, "billing_identification", None),
        (0x060D, "source_network_id", CString(65)),
        (0x060E, "dest_network_id", CString(65)),
        (0x060F, "source_node_id", Octets(6)),
        (0x0610, "dest_node_id", Octets(6)),
        (0x0611, "dest_addr_np_resolution", Integer(1)),
        (0x0612, "dest_addr_np_information", Octets(10)),
        (0x0613, "dest_addr_np_country", None),
        (0x1201, "display_time", Integer(1)),
        (0x1203, "sms_signal", Integer(2)),
        (0x1204, "ms_validity", None),
        (0x130C, "alert_on_message_delivery", None),
        (0x1380, "its_reply_type", Integer(1)),
        (0x1383, "its_session_info", Octets(2)),
    )
)


# ── the PDUs ─────────────────────────────────────────────────────────────────────────────────────────


class Pdu(fields.Pdu, frozen=True, gc=False):
    """Header fields of every SMPP PDU; sequence_number comes first, from the base."""

    command_status: int = 0


class Response(Pdu, frozen=True, gc=False):
    """A response that has no mandatory fields, and before 5.0 no body."""


class BodiedResponse(Response, frozen=True, gc=False):
    """A response that ought to have a body. bare: it has none, and the fields below are mere defaults."""

    bare: bool = False


class UnknownPdu(Pdu, frozen=True, gc=False):
    """A PDU whose command_id we do not know; body is all that follows its header."""

    command_id: int = 0
    body: bytes = b""


class GenericNack(Response, frozen=True, gc=False):
    pass


class Bind(Pdu, frozen=True, gc=False):
    """What the three binds share."""

    system_id: C16 = ""
    password: C9 = ""
    system_type: C13 = ""
    interface_version: U1 = 0x34
    addr_ton: U1 = 0
    addr_npi: U1 = 0
    address_range: C41 = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(system_id={self.system_id!r}, password='***')"


class BindReceiver(Bind, frozen=True, gc=False):
    pass


class BindTransmitter(Bind, frozen=True, gc=False):
    pass


class BindTransceiver(Bind, frozen=True, gc=False):
    pass


class BindResp(BodiedResponse, frozen=True, gc=False):
    """What the three bind responses share."""

    system_id: C16 = ""
    tlvs: Optional = ()


class BindReceiverResp(BindResp, frozen=True, gc=False):
    pass


class BindTransmitterResp(BindResp, frozen=True, gc=False):
    pass


class BindTransceiverResp(BindResp, frozen=True, gc=False):
    pass


class Outbind(Pdu, frozen=True, gc=False):
    system_id: C16 = ""
    password: C9 = ""

    def __repr__(self) -> str:
        return f"Outbind(system_id={self.system_id!r}, password='***')"


class Unbind(Pdu, frozen=True, gc=False):
    pass


class UnbindResp(Response, frozen=True, gc=False):
    pass


class EnquireLink(Pdu, frozen=True, gc=False):
    pass


class EnquireLinkResp(Response, frozen=True, gc=False):
    pass


class ShortMessagePdu(Pdu, frozen=True, gc=False):
    """What submit_sm and deliver_sm share [P34 4.4.1, 4.6.1]. data_coding 0 is the centre's default."""

    service_type: C6 = ""
    source_addr_ton: U1 = 0
    source_addr_npi: U1 = 0
    source_addr: C21 = ""
    dest_addr_ton: U1 = 0
    dest_addr_npi: U1 = 0
    destination_addr: C21 = ""
    esm_class: U1 = 0
    protocol_id: U1 = 0
    priority_flag: U1 = 0
    schedule_delivery_time: Time = ""
    validity_period: Time = ""
    registered_delivery: U1 = 0
    replace_if_present_flag: U1 = 0
    data_coding: U1 = 0
    sm_default_msg_id: U1 = 0
    short_message: ShortMessage = b""
    tlvs: Optional = ()


class SubmitSm(ShortMessagePdu, frozen=True, gc=False):
    pass


class DeliverSm(ShortMessagePdu, frozen=True, gc=False):
    pass


class SubmitSmResp(BodiedResponse, frozen=True, gc=False):
    message_id: C65 = ""
    tlvs: Optional = ()


class DeliverSmResp(BodiedResponse, frozen=True, gc=False):
    message_id: C65 = ""
    tlvs: Optional = ()


class DataSm(Pdu, frozen=True, gc=False):
    """The text travels in the parameter message_payload [P34 4.7.1]."""

    service_type: C6 = ""
    source_addr_ton: U1 = 0
    source_addr_npi: U1 = 0
    source_addr: C65 = ""
    dest_addr_ton: U1 = 0
    dest_addr_npi: U1 = 0
    destination_addr: C65 = ""
    esm_class: U1 = 0
    registered_delivery: U1 = 0
    data_coding: U1 = 0
    tlvs: Optional = ()


class DataSmResp(BodiedResponse, frozen=True, gc=False):
    message_id: C65 = ""
    tlvs: Optional = ()


class QuerySm(Pdu, frozen=True, gc=False):
    message_id: C65 = ""
    source_addr_ton: U1 = 0
    source_addr_npi: U1 = 0
    source_addr: C21 = ""


class QuerySmResp(BodiedResponse, frozen=True, gc=False):
    message_id: C65 = ""
    final_date: Time = ""
    message_state: U1 = 0
    error_code: U1 = 0
    tlvs: Optional = ()


class CancelSm(Pdu, frozen=True, gc=False):
    service_type: C6 = ""
    message_id: C65 = ""
    source_addr_ton: U1 = 0
    source_addr_npi: U1 = 0
    source_addr: C21 = ""
    dest_addr_ton: U1 = 0
    dest_addr_npi: U1 = 0
    destination_addr: C21 = ""


class CancelSmResp(Response, frozen=True, gc=False):
    tlvs: Optional = ()


class ReplaceSm(Pdu, frozen=True, gc=False):
    """The new text may travel in the parameter message_payload instead [P50 4.5.3]."""

    message_id: C65 = ""
    source_addr_ton: U1 = 0
    source_addr_npi: U1 = 0
    source_addr: C21 = ""
    schedule_delivery_time: Time = ""
    validity_period: Time = ""
    registered_delivery: U1 = 0
    sm_default_msg_id: U1 = 0
    short_message: ShortMessage = b""
    tlvs: Optional = ()


class ReplaceSmResp(Response, frozen=True, gc=False):
    tlvs: Optional = ()


class Address(Struct, frozen=True, gc=False):
    """One destination of submit_multi: an address."""

    ton: U1 = 0
    npi: U1 = 0
    addr: C21 = ""


class DistributionList(Struct, frozen=True, gc=False):
    """One destination of submit_multi: a list kept at the centre."""

    name: C21 = ""


class Unsuccessful(Struct, frozen=True, gc=False):
    """One destination that a submit_multi did not reach, and why (a command_status)."""

    ton: int = 0
    npi: int = 0
    addr: str = ""
    error_status: int = 0


Destination = Address | DistributionList


def _read_text(frame: bytes, at: int) -> tuple[str, int]:
    stop = frame.index(0, at)
    return frame[at:stop].decode("latin-1"), stop + 1


def _write_text(text: str) -> bytes:
    octets = text.encode("latin-1")
    if len(octets) > 20 or 0 in octets:
        raise LocalProtocolError("an address of submit_multi has at most 20 octets")
    return octets + b"\0"


def _read_destinations(frame: bytes, at: int) -> tuple[tuple[Destination, ...], int]:
    destinations: list[Destination] = []
    count, at = frame[at], at + 1
    for _ in range(count):
        match frame[at]:
            case 1:
                addr, stop = _read_text(frame, at + 3)
                destinations.append(Address(frame[at + 1], frame[at + 2], addr))
            case 2:
                name, stop = _read_text(frame, at + 1)
                destinations.append(DistributionList(name))
            case flag:
                raise RemoteProtocolError(f"dest_flag {flag} is neither 1 nor 2", "dest_flag")
        at = stop
    return tuple(destinations), at


def _write_destinations(destinations: tuple[Destination, ...]) -> bytes:
    octets = bytes((len(destinations),))  # ValueError above 255 [P50]
    for destination in destinations:
        match destination:
            case Address(ton, npi, addr):
                octets += bytes((1, ton, npi)) + _write_text(addr)
            case DistributionList(name):
                octets += b"\2" + _write_text(name)
    return octets


def _read_unsuccessful(frame: bytes, at: int) -> tuple[tuple[Unsuccessful, ...], int]:
    unsuccessful = []
    count, at = frame[at], at + 1
    for _ in range(count):
        addr, stop = _read_text(frame, at + 2)
        (error_status,) = struct.unpack_from(">I", frame, stop)
        unsuccessful.append(Unsuccessful(frame[at], frame[at + 1], addr, error_status))
        at = stop + 4
    return tuple(unsuccessful), at


def _write_unsuccessful(unsuccessful: tuple[Unsuccessful, ...]) -> bytes:
    octets = bytes((len(unsuccessful),))
    for one in unsuccessful:
        octets += bytes((one.ton, one.npi)) + _write_text(one.addr) + struct.pack(">I", one.error_status)
    return octets


class SubmitMulti(Pdu, frozen=True, gc=False):
    service_type: C6 = ""
    source_addr_ton: U1 = 0
    source_addr_npi: U1 = 0
    source_addr: C21 = ""
    dest_address: Annotated[
        tuple[Destination, ...],
        Listed(
            "u1, then dest_flag u1 with ton u1, npi u1, cstring 21, or with cstring 21",
            _read_destinations,
            _write_destinations,
        ),
    ] = ()
    esm_class: U1 = 0
    protocol_id: U1 = 0
    priority_flag: U1 = 0
    schedule_delivery_time: Time = ""
    validity_period: Time = ""
    registered_delivery: U1 = 0
    replace_if_present_flag: U1 = 0
    data_coding: U1 = 0
    sm_default_msg_id: U1 = 0
    short_message: ShortMessage = b""
    tlvs: Optional = ()


class SubmitMultiResp(BodiedResponse, frozen=True, gc=False):
    message_id: C65 = ""
    unsuccess_sme: Annotated[
        tuple[Unsuccessful, ...],
        Listed(
            "u1, then ton u1, npi u1, cstring 21, error_status u4 each",
            _read_unsuccessful,
            _write_unsuccessful,
        ),
    ] = ()
    tlvs: Optional = ()


class AlertNotification(Pdu, frozen=True, gc=False):
    """A handset is there again; has no response [P34 4.12.1]."""

    source_addr_ton: U1 = 0
    source_addr_npi: U1 = 0
    source_addr: C65 = ""
    esme_addr_ton: U1 = 0
    esme_addr_npi: U1 = 0
    esme_addr: C65 = ""
    tlvs: Optional = ()


class BroadcastSm(Pdu, frozen=True, gc=False):
    """To all handsets of some areas [P50 4.4.1]. Text, areas and times are parameters, see missing().

    message_id is empty, or names the broadcast that this one replaces.
    """

    service_type: C6 = ""
    source_addr_ton: U1 = 0
    source_addr_npi: U1 = 0
    source_addr: C21 = ""
    message_id: C65 = ""
    priority_flag: U1 = 0
    schedule_delivery_time: Time = ""
    validity_period: Time = ""
    replace_if_present_flag: U1 = 0
    data_coding: U1 = 0
    sm_default_msg_id: U1 = 0
    tlvs: Optional = ()


class BroadcastSmResp(BodiedResponse, frozen=True, gc=False):
    """broadcast_areas() gives the areas that were refused."""

    message_id: C65 = ""
    tlvs: Optional = ()


class QueryBroadcastSm(Pdu, frozen=True, gc=False):
    message_id: C65 = ""
    source_addr_ton: U1 = 0
    source_addr_npi: U1 = 0
    source_addr: C21 = ""
    tlvs: Optional = ()


class QueryBroadcastSmResp(BodiedResponse, frozen=True, gc=False):
    """The state is the parameter message_state; broadcast_areas() gives how much of each area was reached."""

    message_id: C65 = ""
    tlvs: Optional = ()


class CancelBroadcastSm(Pdu, frozen=True, gc=False):
    """One broadcast, by message_id; or, where that is empty, all of a service_type and source."""

    service_type: C6 = ""
    message_id: C65 = ""
    source_addr_ton: U1 = 0
    source_addr_npi: U1 = 0
    source_addr: C21 = ""
    tlvs: Optional = ()


class CancelBroadcastSmResp(Response, frozen=True, gc=False):
    tlvs: Optional = ()


PDUS: dict[int, type[Pdu]] = {
    0x8000_0000: GenericNack,
    0x0000_0001: BindReceiver,
    0x8000_0001: BindReceiverResp,
    0x0000_0002: BindTransmitter,
    0x8000_0002: BindTransmitterResp,
    0x0000_0003: QuerySm,
    0x8000_0003: QuerySmResp,
    0x0000_0004: SubmitSm,
    0x8000_0004: SubmitSmResp,
    0x0000_0005: DeliverSm,
    0x8000_0005: DeliverSmResp,
    0x0000_0006: Unbind,
    0x8000_0006: UnbindResp,
    0x0000_0007: ReplaceSm,
    0x8000_0007: ReplaceSmResp,
    0x0000_0008: CancelSm,
    0x8000_0008: CancelSmResp,
    0x0000_0009: BindTransceiver,
    0x8000_0009: BindTransceiverResp,
    0x0000_000B: Outbind,
    0x0000_0015: EnquireLink,
    0x8000_0015: EnquireLinkResp,
    0x0000_0021: SubmitMulti,
    0x8000_0021: SubmitMultiResp,
    0x0000_0102: AlertNotification,
    0x0000_0103: DataSm,
    0x8000_0103: DataSmResp,
    0x0000_0111: BroadcastSm,
    0x8000_0111: BroadcastSmResp,
    0x0000_0112: QueryBroadcastSm,
    0x8000_0112: QueryBroadcastSmResp,
    0x0000_0113: CancelBroadcastSm,
    0x8000_0113: CancelBroadcastSmResp,
}
RESPONSES = {
    pdu_class: PDUS[command_id | RESPONSE_BIT]
    for command_id, pdu_class in PDUS.items()
    if not command_id & RESPONSE_BIT and command_id | RESPONSE_BIT in PDUS
}

_CODECS = {command_id: fields.compile_pdu(pdu_class, HEADER.size) for command_id, pdu_class in PDUS.items()}
_READERS = {command_id: codec.read for command_id, codec in _CODECS.items()}
_WRITERS = {PDUS[command_id]: (command_id, codec.write) for command_id, codec in _CODECS.items()}
_BODIED = {command_id: cls for command_id, cls in PDUS.items() if issubclass(cls, BodiedResponse)}


def decode(frame: bytes | memoryview) -> Pdu:
    """Read one whole PDU; an unknown command_id gives an UnknownPdu. Raises RemoteProtocolError.

    Over-long texts are let through, octets after the last field and a broken tail of parameters are left out.
    """
    frame = bytes(frame)
    try:
        length, command_id, command_status, sequence_number = HEADER.unpack_from(frame)
    except struct.error as error:
        raise RemoteProtocolError("shorter than a header", "command_length") from error
    if length != len(frame):
        raise RemoteProtocolError(f"command_length {length} on {len(frame)} octets", "command_length")
    if length == HEADER.size and command_id in _BODIED:
        return _BODIED[command_id](sequence_number, command_status, True)
    reader = _READERS.get(command_id)
    if reader is None:
        return UnknownPdu(sequence_number, command_status, command_id, frame[HEADER.size :])
    return reader(frame, sequence_number, command_status)


def encode(pdu: fields.Pdu, sequence_number: int | None = None) -> bytes:
    """Write one PDU under sequence_number, or under its own. Raises LocalProtocolError."""
    number = pdu.sequence_number if sequence_number is None else sequence_number
    if isinstance(pdu, UnknownPdu):
        command_id, body = pdu.command_id, pdu.body
    else:
        try:
            command_id, writer = _WRITERS[type(pdu)]  # type: ignore[index]  # a foreign PDU is the KeyError
        except KeyError:
            raise LocalProtocolError(f"{type(pdu).__name__} is no PDU of SMPP") from None
        body = b"" if isinstance(pdu, BodiedResponse) and pdu.bare else writer(pdu)  # type: ignore[arg-type]
    return fields.framed(HEADER, body, PDU_OCTETS_MAX, command_id, pdu.command_status, number)  # type: ignore[attr-defined]


def respond(request: Pdu, command_status: int = 0) -> Response | None:
    """Return the response to request, or None if it has none; an error has no body [P34 4.4.2]."""
    response = RESPONSES.get(type(request))
    if response is None:
        return None
    if issubclass(response, BodiedResponse):
        return response(request.sequence_number, command_status, command_status != 0)
    return response(request.sequence_number, command_status)  # type: ignore[return-value]


def bind_resp(bind: Bind, system_id: str, *, sc_interface_version: int | None = 0x34) -> BindResp:
    """Return the response that lets bind in; respond(bind, status) is the one that does not."""
    tlvs = () if sc_interface_version is None else (TLVS.write("sc_interface_version", sc_interface_version),)
    response = respond(bind)
    assert isinstance(response, BindResp)
    return structs.replace(response, system_id=system_id, tlvs=tlvs)


# ── parameters of 5.0 ────────────────────────────────────────────────────────────────────────────────

_MANDATORY = {
    BroadcastSm: (
        "broadcast_area_identifier",
        "broadcast_content_type",
        "broadcast_rep_num",
        "broadcast_frequency_interval",
    ),
    QueryBroadcastSmResp: ("message_state", "broadcast_area_identifier", "broadcast_area_success"),
}
CONGESTION_FULL = 100


def missing(pdu: Pdu) -> tuple[str, ...]:
    """Return the parameters that pdu must have and has not [P50 4.4.1, 4.6.1]; MISSINGOPTPARAM says so."""
    if isinstance(pdu, BodiedResponse) and pdu.bare:
        return ()
    has = {TLVS.names.get(tag) for tag, _ in getattr(pdu, "tlvs", ())}
    return tuple(name for name in _MANDATORY.get(type(pdu), ()) if name not in has)


def congestion(response: Pdu) -> int | None:
    """Return how congested its sender says it is [P50 4.8.4.18]; None if it does not say.

    0 idle … 80–90 best used, above that send less, 100 congested. Any response may carry it.
    """
    value = TLVS.read(getattr(response, "tlvs", ()), "congestion_state")
    return value if isinstance(value, int) and value <= CONGESTION_FULL else None


def broadcast_areas(response: BroadcastSmResp | QueryBroadcastSmResp) -> tuple[tuple[bytes, int | None], ...]:
    """Return each area that response names with what became of it, None where that is missing.

    Of a query: the percentage reached, 255 if unknown. Of a broadcast: why not (a command_status). An area
    is its format (0 a name, 1 an ellipsoid arc, 2 a polygon) and the details.
    """
    refused = isinstance(response, BroadcastSmResp)
    outcome_tag = TLVS.tag("broadcast_error_status" if refused else "broadcast_area_success")
    area_tag = TLVS.tag("broadcast_area_identifier")
    areas = [value for tag, value in response.tlvs if tag == area_tag]
    outcomes = [int.from_bytes(value, "big") for tag, value in response.tlvs if tag == outcome_tag]
    return tuple(zip_longest(areas, outcomes[: len(areas)]))


# ── receipts ─────────────────────────────────────────────────────────────────────────────────────────

STATS = {
    "DELIVRD": MessageState.DELIVERED,
    "DELIVERED": MessageState.DELIVERED,
    "EXPIRED": MessageState.EXPIRED,
    "DELETED": MessageState.DELETED,
    "UNDELIV": MessageState.UNDELIVERABLE,
    "UNDELIVERABLE": MessageState.UNDELIVERABLE,
    "UNDELIVERED": MessageState.UNDELIVERABLE,
    "FAILED": MessageState.UNDELIVERABLE,
    "ACCEPTD": MessageState.ACCEPTED,
    "ACCEPTED": MessageState.ACCEPTED,
    "UNKNOWN": MessageState.UNKNOWN,
    "REJECTD": MessageState.REJECTED,
    "REJECTED": MessageState.REJECTED,
    "ENROUTE": MessageState.ENROUTE,
    "BUFFERED": MessageState.ENROUTE,
    "SCHEDULED": MessageState.SCHEDULED,
    "SKIPPED": MessageState.SKIPPED,
}


class Receipt(Struct, frozen=True, gc=False):
    """What a centre says became of one submit.

    message_id: as written there, "" if it names none · state: from the parameter, else from the word, else
    UNKNOWN · stat, error, submit_date, done_date: their own words, "" where missing (see receipt_time()) ·
    network_error: type and code · intermediate: sent as an intermediate notification.
    """

    message_id: str
    state: MessageState
    stat: str = ""
    error: str = ""
    submit_date: str = ""
    done_date: str = ""
    network_error: tuple[int, int] | None = None
    intermediate: bool = False


# The layout is "vendor specific, typical" [P34 appendix B]: keys in any order, any of them missing, values
# unpadded. A value ends where the next key begins; text comes last and may contain anything.
_RECEIPT_KEY = re.compile(
    r"(?:^|(?<=[\s,;]))(id|sub|dlvrd|submit[ _]?date|done[ _]?date|stat|err|text|txt)\s*:", re.IGNORECASE
)
# The common layout, tried first only because it is five times faster than the scan; both read it alike.
_COMMON_RECEIPT = re.compile(
    r"id:([^\s,;]+) sub:\d+ dlvrd:\d+ submit date:(\d+) done date:(\d+) stat:(\w+) err:(\w+) text:",
    re.IGNORECASE,
)
_TAG_RECEIPTED_MESSAGE_ID = TLVS.tag("receipted_message_id")
_TAG_MESSAGE_STATE = TLVS.tag("message_state")
_TAG_NETWORK_ERROR_CODE = TLVS.tag("network_error_code")
_STATES = tuple(MessageState)  # by their numbers: a look-up is much faster than the Enum's


def receipt(deliver: DeliverSm) -> Receipt | None:
    """Read a delivery receipt or an intermediate notification; None if deliver is neither.

    Only esm_class decides what is a receipt: no handset can set it, while any handset can write such a text.
    Parameters go before the text where they disagree.
    """
    message_type = deliver.esm_class & ESM_TYPE_MASK
    if message_type not in (ESM_RECEIPT, ESM_INTERMEDIATE):
        return None
    message_id, stat, error, submit_date, done_date = _read_receipt_text(_receipt_text(deliver))
    state = STATS.get(stat.upper(), MessageState.UNKNOWN)
    network_error = None
    if deliver.tlvs:
        said = dict(reversed(deliver.tlvs))  # of several of one name the first counts
        message_id = _message_id(said.get(_TAG_RECEIPTED_MESSAGE_ID, b"")) or message_id
        state = _state(said.get(_TAG_MESSAGE_STATE, b""), state)
        network_error = _network_error(said.get(_TAG_NETWORK_ERROR_CODE, b""))
    intermediate = message_type == ESM_INTERMEDIATE
    return Receipt(message_id, state, stat, error, submit_date, done_date, network_error, intermediate)


def _receipt_text(deliver: DeliverSm) -> str:
    octets = deliver.short_message
    if not octets and deliver.tlvs:
        octets = TLVS.read(deliver.tlvs, "message_payload") or b""  # type: ignore[assignment]  # raw by its row
    if 0 in octets:
        # Really UCS-2, of either byte order, whatever data_coding says: its keys and values are ASCII.
        octets = octets.replace(b"\0", b"").removeprefix(b"\xfe\xff").removeprefix(b"\xff\xfe")
    return octets.decode("latin-1")


def _read_receipt_text(text: str) -> tuple[str, str, str, str, str]:
    """Return id, stat, err, submit date and done date, each "" where it is missing."""
    common = _COMMON_RECEIPT.match(text)
    if common is not None:
        message_id, submit_date, done_date, stat, error = common.groups()
        return message_id, stat, error, submit_date, done_date
    found: dict[str, str] = {}
    hits = list(_RECEIPT_KEY.finditer(text))
    for hit, following in zip_longest(hits, hits[1:]):
        key = hit[1].lower().replace("_", "").replace(" ", "")
        if key in ("text", "txt"):
            break  # what follows is the message's own words
        stop = following.start() if following else len(text)
        found.setdefault(key, text[hit.end() : stop].strip(" \t\r\n,;\0"))
    return tuple(found.get(key, "") for key in ("id", "stat", "err", "submitdate", "donedate"))  # type: ignore[return-value]


def _message_id(octets: bytes) -> str:
    return octets.split(b"\0", 1)[0].decode("latin-1")  # the closing NUL is often forgotten


def _state(octets: bytes, otherwise: MessageState) -> MessageState:
    if len(octets) != 1:
        return otherwise
    return _STATES[octets[0]] if octets[0] < len(_STATES) else MessageState.UNKNOWN


def _network_error(octets: bytes) -> tuple[int, int] | None:
    return (octets[0], int.from_bytes(octets[1:], "big")) if len(octets) == 3 else None


# ── the protocol, for wire.session ───────────────────────────────────────────────────────────────────

# What is for a centre to do [P34 2.2, P50 2.3]; to an ESME it is foreign, save data_sm.
_FOR_CENTRES: frozenset[type[Pdu]] = frozenset(
    (
        *(SubmitSm, SubmitMulti, DataSm, QuerySm, CancelSm, ReplaceSm),
        *(BroadcastSm, QueryBroadcastSm, CancelBroadcastSm),
    )
)
_ALLOWED: dict[type[fields.Pdu], frozenset[type[Pdu]]] = {
    BindReceiver: frozenset(),
    BindTransmitter: _FOR_CENTRES,
    BindTransceiver: _FOR_CENTRES,
    Outbind: frozenset((BindReceiver, BindTransceiver)),
}

_TURNS: dict[type[fields.Pdu], Turn] = {
    **dict.fromkeys((*_FOR_CENTRES, DeliverSm), Turn.REQUEST),
    **{pdu_class: Turn.RESPONSE for pdu_class in PDUS.values() if issubclass(pdu_class, Response)},
    **dict.fromkeys((BindReceiver, BindTransmitter, BindTransceiver), Turn.LOGIN),
    **dict.fromkeys((BindReceiverResp, BindTransmitterResp, BindTransceiverResp), Turn.LOGIN_RESPONSE),
    EnquireLink: Turn.HEARTBEAT,
    EnquireLinkResp: Turn.HEARTBEAT_RESPONSE,
    Unbind: Turn.LOGOUT,
    UnbindResp: Turn.LOGOUT_RESPONSE,
    Outbind: Turn.INVITATION,
    AlertNotification: Turn.NOTICE,
    UnknownPdu: Turn.UNKNOWN,
}

_ANSWERS = {
    Answer.OK: CommandStatus.ROK,
    Answer.NOT_LOGGED_IN: CommandStatus.INVBNDSTS,
    Answer.ALREADY_LOGGED_IN: CommandStatus.ALYBND,
    Answer.BUSY: CommandStatus.THROTTLED,
    Answer.UNKNOWN: CommandStatus.INVCMDID,
}


def _welcomes(login_response: fields.Pdu) -> bool:
    return isinstance(login_response, Pdu) and login_response.command_status == 0


def _answer(request: fields.Pdu, answer: Answer) -> Pdu | None:
    """Answer an unknown request with generic_nack, an unknown response not at all, others as is due."""
    if isinstance(request, UnknownPdu):
        if request.command_id & RESPONSE_BIT:
            return None
        return GenericNack(request.sequence_number, int(_ANSWERS[answer]))
    assert isinstance(request, Pdu)
    busy_deliver = answer is Answer.BUSY and isinstance(request, DeliverSm)
    status = CommandStatus.X_T_APPN if busy_deliver else _ANSWERS[answer]
    return respond(request, int(status))


def _answer_unreadable(frame: bytes, error: RemoteProtocolError) -> Pdu | None:
    """An unreadable request gets its own response; only a lost stream gets generic_nack [P34 4.3.1]."""
    if len(frame) < HEADER.size:
        return GenericNack(0, int(CommandStatus.INVCMDLEN))
    _, command_id, _, sequence_number = HEADER.unpack_from(frame)
    response = PDUS.get(command_id | RESPONSE_BIT)
    if command_id & RESPONSE_BIT or response is None:
        return None
    status = CommandStatus.INVMSGLEN if error.field == "short_message" else CommandStatus.INVCMDLEN
    if issubclass(response, BodiedResponse):
        return response(sequence_number, int(status), bare=True)
    return response(sequence_number, int(status))


def _allows(login: fields.Pdu, request: fields.Pdu) -> bool:
    return type(request) in _ALLOWED[type(login)]


def _may_push(login: fields.Pdu, _request: fields.Pdu) -> bool:
    """To who only transmits, nothing; what is not for the others to do, they decline themselves."""
    return not isinstance(login, BindTransmitter)


DIALECT = Dialect(
    name="smpp",
    header_octets=HEADER.size,
    sequence_number_max=SEQUENCE_NUMBER_MAX,
    decode=decode,
    encode=encode,
    turns=_TURNS,
    heartbeat=EnquireLink(),
    logout=Unbind(),
    welcomes=_welcomes,
    answer=_answer,
    answer_unreadable=_answer_unreadable,
    allows=_allows,
    may_push=_may_push,
)


# ── towards those who speak 3.3 ──────────────────────────────────────────────────────────────────────

VERSION_34 = 0x34  # "0x00–0x33: SMPP 3.3 or earlier" [P34 5.2.4]
_ID_33 = re.compile(r"[0-9A-Fa-f]{0,8}")
# A text is not whole without them, so they cannot be left out like the others.
_CARRIERS = frozenset(
    TLVS.tag(name)
    for name in ("message_payload", "sar_msg_ref_num", "sar_total_segments", "sar_segment_seqnum")
)


def message_id_33(number: int) -> str:
    """Return a message_id as 3.3 has it: a number of 4 octets in hex; number is taken modulo 2**32."""
    return f"{number & 0xFFFF_FFFF:08X}"


def encode_33(pdu: fields.Pdu, sequence_number: int | None = None) -> bytes:
    """Write like encode(), but without parameters, which 3.3 does not know [P34 5.2.4].

    Raises LocalProtocolError also for a message_id that 3.3 cannot hold (see message_id_33()), and for a
    text that is in a parameter or is put together by them.
    """
    if not _ID_33.fullmatch(getattr(pdu, "message_id", "")):
        raise LocalProtocolError("a message_id of SMPP 3.3 has at most 8 hex digits")
    if getattr(pdu, "tlvs", ()):
        if any(tag in _CARRIERS for tag, _ in pdu.tlvs):  # type: ignore[attr-defined]
            raise LocalProtocolError("SMPP 3.3 has no parameters to carry this text")
        pdu = structs.replace(pdu, tlvs=())
    return encode(pdu, sequence_number)


def _may_push_33(login: fields.Pdu, request: fields.Pdu) -> bool:
    return isinstance(request, DeliverSm) and _may_push(login, request)


DIALECT_33 = replace(DIALECT, name="smpp 3.3", encode=encode_33, may_push=_may_push_33)


def dialect_of(bind: Bind) -> Dialect:
    """Return what a server speaks to who logged in with bind: its interface_version decides."""
    return DIALECT if bind.interface_version >= VERSION_34 else DIALECT_33
