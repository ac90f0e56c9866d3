"""What customers say and hear over SMPP 3.3, 3.4 and 5.0: submit_sm, submit_multi, data_sm; deliver_sm.

Pure. Entry point: Smpp, a tongue.Tongue. Source: SMPP 3.4 Issue 1.2 [P34], SMPP 5.0 [P50].
Accounts may set: data_coding_0 (gsm7, latin1 or ascii: what their data_coding 0 means), short_ids (ids of eight hex
digits, for peers of 3.3 that name a later version), receipt_tlvs (default yes).
"""

import hmac
from collections.abc import Hashable, Mapping, Sequence
from typing import Final

from msgspec import structs

from hongyan import clock
from hongyan.doors.tongues.tongue import (
    ALWAYS,
    ON_FAILURE,
    ON_SUCCESS,
    Fault,
    Numbers,
    Receipt,
    Submit,
    Verdict,
    date,
    read_times,
    stat,
)
from hongyan.vocab import text as texts
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Status
from hongyan.vocab.text import Counting, Encoding, Split, TextPart
from hongyan.way.notice import InboundEvent
from hongyan.way.snapshot import Login
from hongyan.wire import fields, smpp
from hongyan.wire.session import Dialect
from hongyan.wire.smpp import TLVS, CommandStatus, MessageState

SYSTEM_ID: Final = "hongyan"
SIGNED_MAX: Final = 2**63 - 1  # Kannel, told that ids are numbers, reads them as signed ones of 64 bits

_STATUSES: Final[Mapping[Code, CommandStatus]] = {
    Code.SYSTEM_BUSY: CommandStatus.MSGQFUL,
    Code.SYSTEM_ERROR: CommandStatus.SYSERR,
    Code.REQUEST_RATE_LIMITED: CommandStatus.THROTTLED,
    Code.NUMBER_INVALID: CommandStatus.INVDSTADR,
    Code.NUMBER_REGION_NOT_ALLOWED: CommandStatus.INVDSTADR,
    Code.NUMBER_TEST_ONLY: CommandStatus.INVDSTADR,
    Code.CONTENT_TOO_LONG: CommandStatus.INVMSGLEN,
}
_FAULTS: Final[Mapping[Fault, CommandStatus]] = {
    Fault.NAME: CommandStatus.INVPASWD,
    Fault.ADDRESS: CommandStatus.BINDFAIL,
    Fault.TIME: CommandStatus.BINDFAIL,
    Fault.KIND: CommandStatus.BINDFAIL,
    Fault.SUSPENDED: CommandStatus.BINDFAIL,
    Fault.TOO_MANY: CommandStatus.BINDFAIL,
    Fault.BUSY: CommandStatus.SYSERR,
}
_STATES: Final[Mapping[Status, MessageState]] = {
    Status.DELIVERED: MessageState.DELIVERED,
    Status.UNDELIVERED: MessageState.UNDELIVERABLE,
    Status.EXPIRED: MessageState.EXPIRED,
    Status.REFUSED: MessageState.REJECTED,
    Status.CANCELLED: MessageState.DELETED,
    Status.UNKNOWN: MessageState.UNKNOWN,
}
# By the two low bits of registered_delivery [P50 4.7.21].
_WANTED: Final = (0, ALWAYS, ON_FAILURE, ON_SUCCESS)
_NOT_OFFERED: Final[Mapping[type[fields.Pdu], CommandStatus]] = {
    smpp.QuerySm: CommandStatus.QUERYFAIL,
    smpp.CancelSm: CommandStatus.CANCELFAIL,
    smpp.ReplaceSm: CommandStatus.REPLACEFAIL,
}
_DATA_CODINGS: Final = {Encoding.ASCII: 1, Encoding.LATIN1: 3, Encoding.UCS2: 8}


class ShortIds:
    """Ids of 32 bits, of all sessions of one door: 4 bits of its number, then milliseconds, which come again after 3 days.

    The counter is never behind the clock, so a door that starts again gives none twice.
    """

    def __init__(self, door: int) -> None:
        self._door = door & 0xF
        self._next = 0

    def make(self) -> int:
        made = max(self._next, int(clock.now_s() * 1_000))
        self._next = made + 1
        return self._door << 28 | made & 0xFFF_FFFF


class Smpp:
    """SMPP at the door (see tongue.Tongue)."""

    name = "smpp"
    dialect = smpp.DIALECT
    inactivity_s: float | None = None  # enquire_link keeps a session alive
    numbers_once = False
    lists_refused = True  # submit_multi_resp does

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._shorts = ShortIds(numbers.door)

    def account(self, login: fields.Pdu) -> str:
        assert isinstance(login, smpp.Bind)
        return login.system_id

    def proves(self, login: fields.Pdu, password: str) -> bool:
        assert isinstance(login, smpp.Bind)
        return hmac.compare_digest(login.password.encode(), password.encode())

    def welcome(self, login: fields.Pdu, account: Login) -> tuple[fields.Pdu, Dialect, "Words"]:
        assert isinstance(login, smpp.Bind)
        dialect = smpp.dialect_of(login)
        version = 0x34 if dialect is smpp.DIALECT else None
        words = Words(account, self._numbers, self._shorts, short_ids=dialect is not smpp.DIALECT)
        return smpp.bind_resp(login, SYSTEM_ID, sc_interface_version=version), dialect, words

    def objection(self, login: fields.Pdu, account: Login) -> Fault | None:  # noqa: ARG002 - all are let in
        return None

    def turn_away(self, login: fields.Pdu, fault: Fault, account: Login | None) -> fields.Pdu:  # noqa: ARG002
        assert isinstance(login, smpp.Bind)
        response = smpp.respond(login, int(_FAULTS[fault]))
        assert response is not None
        return response

    def receives(self, login: fields.Pdu, account: Login) -> bool:  # noqa: ARG002 - the kind of bind decides
        return not isinstance(login, smpp.BindTransmitter)


class Words:
    """One session's words (see tongue.Words)."""

    def __init__(self, account: Login, numbers: Numbers, shorts: "ShortIds", *, short_ids: bool) -> None:
        self._numbers = numbers
        self._default = Encoding(str(account.settings.get("data_coding_0", Encoding.GSM7)))
        self._receipt_tlvs = bool(account.settings.get("receipt_tlvs", True)) and not short_ids
        self._short = shorts if short_ids or account.settings.get("short_ids", False) else None

    def number(self, pdu: fields.Pdu) -> Hashable:
        return pdu.sequence_number

    def read(self, pdu: fields.Pdu) -> Submit | fields.Pdu | None:
        addresses: Sequence[tuple[int, str]]
        if isinstance(pdu, smpp.SubmitSm):
            addresses = ((pdu.dest_addr_ton, pdu.destination_addr),)
        elif isinstance(pdu, smpp.SubmitMulti):
            addresses = tuple(
                (one.ton, one.addr) if isinstance(one, smpp.Address) else (0, "") for one in pdu.dest_address
            )
        elif isinstance(pdu, smpp.DataSm):
            return self._submit(pdu, ((pdu.dest_addr_ton, pdu.destination_addr),), b"", "", "")
        else:
            assert isinstance(pdu, smpp.Pdu)
            return smpp.respond(pdu, int(_NOT_OFFERED.get(type(pdu), CommandStatus.INVCMDID)))
        starts, ends = pdu.schedule_delivery_time, pdu.validity_period
        return self._submit(pdu, addresses, pdu.short_message, starts, ends)

    def _submit(
        self,
        pdu: smpp.SubmitSm | smpp.SubmitMulti | smpp.DataSm,
        addresses: Sequence[tuple[int, str]],
        octets: bytes,
        starts: str,
        ends: str,
    ) -> Submit:
        if not octets and pdu.tlvs:
            payload = TLVS.read(pdu.tlvs, "message_payload")
            octets = payload if isinstance(payload, bytes) else b""
        part = texts.read_udh(octets, bool(pdu.esm_class & smpp.ESM_UDHI))
        reference, index, total, width = part.ref, part.index, part.total, part.width
        if not width and pdu.tlvs:
            reference, index, total, width = _read_sar(pdu.tlvs)
        send_at, validity_s = read_times(starts, ends)
        return Submit(
            numbers=tuple(address for _, address in addresses),
            source=pdu.source_addr,
            octets=part.body,
            encoding=self._encoding(pdu.data_coding),
            shift=part.shift,
            index=index,
            total=total,
            reference=reference,
            width=width,
            wanted=_WANTED[pdu.registered_delivery & 3],
            validity_s=validity_s,
            send_at=send_at,
            international=all(ton == 1 for ton, _ in addresses),
        )

    def _encoding(self, data_coding: int) -> Encoding:
        if data_coding == 0:
            return self._default
        if data_coding == 1:
            return Encoding.ASCII
        if data_coding == 3:
            return Encoding.LATIN1
        # A data coding scheme of 3GPP TS 23.038 §4 from 0x10 on: bits 3-2 say the alphabet, group 0xF has GSM-7.
        if data_coding == 8 or (0x10 <= data_coding < 0x40 and data_coding & 0x0C == 0x08):
            return Encoding.UCS2
        if data_coding & 0xF4 == 0xF0 or (0x10 <= data_coding < 0x40 and data_coding & 0x0C == 0):
            return Encoding.GSM7
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="data_coding", reason="0, 1, 3 or 8")

    def ids(self, _pdu: fields.Pdu, count: int, /) -> Sequence[bytes]:
        # A submit_multi has one message_id, which its receipts share [P34 4.5.2].
        if self._short is not None:
            return [smpp.message_id_33(self._short.make()).encode()] * count
        return [b"%d" % (self._numbers.make() & SIGNED_MAX)] * count

    def taken(
        self, pdu: fields.Pdu, ids: Sequence[bytes], refused: Sequence[tuple[str, Refusal]]
    ) -> fields.Pdu:
        assert isinstance(pdu, smpp.Pdu)
        response = smpp.respond(pdu)
        if isinstance(response, smpp.SubmitMultiResp):
            unsuccessful = tuple(
                smpp.Unsuccessful(1, 1, number, int(_status(refusal))) for number, refusal in refused
            )
            return structs.replace(response, message_id=ids[0].decode(), unsuccess_sme=unsuccessful)
        assert isinstance(response, smpp.SubmitSmResp | smpp.DataSmResp)
        return structs.replace(response, message_id=ids[0].decode())

    def refused(self, pdu: fields.Pdu, refusal: Refusal) -> fields.Pdu:
        assert isinstance(pdu, smpp.Pdu)
        response = smpp.respond(pdu, int(_status(refusal)))
        assert response is not None
        return response

    def receipt(self, receipt: Receipt) -> fields.Pdu:
        message_id = receipt.id.decode()
        delivered = receipt.status is Status.DELIVERED
        error = receipt.code.partition("/")[2] or f"{receipt.cause.number:03}"
        octets = (
            f"id:{message_id} sub:001 dlvrd:00{delivered:d} submit date:{date(receipt.submitted_at)} "
            f"done date:{date(receipt.done_at)} stat:{stat(receipt.status, receipt.code)} "
            f"err:{'000' if delivered else error[:8]} text:"
        ).encode("ascii", "replace")
        tlvs: tuple[fields.Tlv, ...] = ()
        if self._receipt_tlvs:
            state = int(_STATES.get(receipt.status, MessageState.UNKNOWN))
            tlvs = (
                TLVS.write("receipted_message_id", message_id),
                TLVS.write("message_state", state),
            )
        ton, source = _address(receipt.written)
        return smpp.DeliverSm(
            source_addr_ton=ton,
            source_addr_npi=1,
            source_addr=source,
            destination_addr=receipt.source,
            esm_class=smpp.ESM_RECEIPT,
            short_message=octets,
            tlvs=tlvs,
        )

    def texts(self, event: InboundEvent, reference: int) -> Sequence[fields.Pdu]:
        ton, source = _address(event.number or "")
        parts = self._cut(event.text or "")
        return [
            smpp.DeliverSm(
                source_addr_ton=ton,
                source_addr_npi=1,
                source_addr=source,
                destination_addr=event.to,
                esm_class=smpp.ESM_UDHI if part.total > 1 else 0,
                data_coding=0 if part.encoding is self._default else _DATA_CODINGS[part.encoding],
                short_message=part.udh(reference) + part.octets,
            )
            for part in parts
        ]

    def _cut(self, text: str) -> Sequence[TextPart]:
        try:
            encoding = self._default
            return texts.split(text, counting=Counting.INTERNATIONAL, mode=Split.UDH8, encoding=encoding)
        except texts.Unencodable:
            return texts.split(text, counting=Counting.INTERNATIONAL, mode=Split.UDH8, encoding=Encoding.UCS2)

    def verdict(self, pdu: fields.Pdu) -> Verdict:
        assert isinstance(pdu, smpp.Pdu)
        if pdu.command_status == 0:
            return Verdict.TAKEN
        # "X_T_APPN: temporary app error" [P34 5.1.3]; a queue that is full passes too, anything else stays.
        later = (CommandStatus.X_T_APPN, CommandStatus.MSGQFUL, CommandStatus.THROTTLED, CommandStatus.SYSERR)
        return Verdict.LATER if pdu.command_status in later else Verdict.NEVER


def _status(refusal: Refusal) -> CommandStatus:
    parameter = refusal.detail.get("parameter")
    if parameter == "source":
        return CommandStatus.INVSRCADR
    if parameter == "send_at":
        return CommandStatus.INVSCHED
    if parameter == "validity_s":
        return CommandStatus.INVEXPIRY
    return _STATUSES.get(refusal.code, CommandStatus.SUBMITFAIL)


def _address(number: str) -> tuple[int, str]:
    """Return type of number and digits: international where the number says its plus [P34 5.2.5]."""
    return (1, number[1:]) if number.startswith("+") else (0, number)


def _read_sar(tlvs: Sequence[fields.Tlv]) -> tuple[int, int, int, int]:
    """Return reference, index, total and width by the sar_ parameters, or those of a whole text."""
    reference = TLVS.read(tlvs, "sar_msg_ref_num")
    total = TLVS.read(tlvs, "sar_total_segments")
    index = TLVS.read(tlvs, "sar_segment_seqnum")
    if (
        isinstance(reference, int)
        and isinstance(total, int)
        and isinstance(index, int)
        and 0 < index <= total
    ):
        return reference, index, total, 16
    return 0, 1, 1, 0
