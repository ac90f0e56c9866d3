"""The operator's side of SMGP 3.0 and its older layout 1.3: an SMGW for service providers.

Writes nothing; its line does. Entry point: SmgpLine. Ids are 10 octets, BCD by the document, anything by
smgp_raw_ids, and stand in reports as raw octets amid their text; inside the simulator they are hex digits. A
Submit to several numbers takes a row of ids. There is no status that says "slower": system busy stands for it.

Source: [G3] SMGP V3.0.3.
"""

from typing import Final

from msgspec import structs

from hongyan.simulator import formats, receipt
from hongyan.simulator.behaviour import Behaviour, Protocol
from hongyan.simulator.centre import OwedReport, OwedText, Verdict, submit_of
from hongyan.simulator.handset import Part
from hongyan.simulator.line import Entry, WireLine
from hongyan.wire import fields, session, smgp
from hongyan.wire.smgp import TLVS, LoginMode, Status

GATEWAY: Final = "010061"  # area code 010, device type 06, number 1
RAW_HEAD: Final = b"\x00\xff\x0aG\x00"  # of ids that are no BCD
COUNTERS: Final = 1_000_000
VENDOR_FROM: Final = 128  # statuses that are the vendor's, so nobody knows them for final
JUNK: Final = bytes(range(16))  # an authenticator that proves nothing
_LATER: Final = frozenset({Status.SYSTEM_BUSY, Status.TOO_MANY_CONNECTIONS})


class SmgpLine(WireLine):
    """One connection from accept to close."""

    protocol = Protocol.SMGP
    window_size = 16
    too_many = Status.TOO_MANY_CONNECTIONS

    def _dialect(self) -> session.Dialect:
        return smgp.DIALECT

    def _name(self, login: smgp.Login) -> str:
        return login.client_id

    def _unfit(self, login: smgp.Login) -> int:
        behaviour = self._behaviour
        if behaviour.system_id and login.client_id != behaviour.system_id:
            return Status.AUTHENTICATION
        if behaviour.password and not smgp.authenticates(login, behaviour.password):
            return Status.AUTHENTICATION
        return 0

    def _refusal(self, login: smgp.Login, status: int) -> fields.Pdu:
        return _respond(login, status)

    def _entry(self, login: smgp.Login) -> Entry:
        version = login.client_version
        response = smgp.login_resp(login, self._behaviour.password, server_version=version)
        if self._behaviour.proof_junk:
            response = structs.replace(response, authenticator_server=JUNK)
        return Entry(response, login.login_mode != LoginMode.SEND, smgp.dialect(version))

    def _request(self, pdu: fields.Pdu) -> None:
        match pdu:
            case smgp.Submit():
                self._submit(pdu)
            case smgp.Query():
                self._answer(self._query(pdu))
            case smgp.Pdu():
                self._answer(_respond(pdu, Status.COMMAND))

    def _submit(self, pdu: smgp.Submit) -> None:
        if self._is_deaf():
            return
        self.submits += 1
        wanted = pdu.need_report == 1
        if not pdu.dest_term_id:
            self._answer(_respond(pdu, Status.DEST_TERM_ID))
            return
        copies = []
        for number, msg_id in zip(pdu.dest_term_id, self._msg_ids(len(pdu.dest_term_id)), strict=True):
            part = _part(pdu, number)
            submit = submit_of(
                part,
                on_success=wanted,
                on_failure=wanted,
                name=msg_id.hex(),
                throttled=Status.SYSTEM_BUSY,
                queue_full=Status.SYSTEM_BUSY,
            )
            copies.append((part, submit, number))
        self._centre.submit_group(self, pdu, copies)

    def _ack(self, ticket: smgp.Pdu, status: int, ack_id: str) -> fields.Pdu:
        return _respond(ticket, status, bytes.fromhex(ack_id) or bytes(10))

    def _report(self, owed: OwedReport, behaviour: Behaviour) -> smgp.Deliver:
        message = owed.message
        content = receipt.write_smgp(
            owed.fate,
            message.part.octets,
            behaviour.smgp_receipt,
            behaviour.code_place,
            behaviour.receipt_offset_s,
        )
        return smgp.Deliver(
            msg_id=self._msg_ids()[0],
            is_report=1,
            recv_time=self._now(),
            src_term_id=message.number,
            dest_term_id=message.sender,
            msg_content=content,
        )

    def _text(self, owed: OwedText) -> smgp.Deliver:
        part = owed.part
        written = formats.write(part, owed.reference)
        tlvs: tuple[fields.Tlv, ...] = ()
        if written.udhi:
            tlvs = (
                TLVS.write("tp_udhi", 1),
                TLVS.write("pk_total", part.total),
                TLVS.write("pk_number", part.index),
            )
        return smgp.Deliver(
            msg_id=self._msg_ids()[0],
            msg_format=written.format,
            recv_time=self._now(),
            src_term_id=owed.number.removeprefix("+"),
            dest_term_id=owed.to,
            msg_content=written.content,
            tlvs=tlvs,
        )

    def _verdict(self, response: fields.Pdu) -> Verdict:
        if not isinstance(response, smgp.DeliverResp):
            return Verdict.LATER
        return Verdict.of(response.status, _LATER, VENDOR_FROM)

    def _query(self, query: smgp.Query) -> smgp.QueryResp:
        """Tell the counts since the start, whatever the day and the service."""
        counts = self._centre.record.counts
        return smgp.QueryResp(
            query.sequence_number,
            query_time=query.query_time,
            query_type=query.query_type,
            query_code=query.query_code,
            mt_tl_msg=counts["parts"],
            mt_tl_usr=counts["parts"],
            mo_scs=counts["texts_acked"],
        )

    def _msg_ids(self, count: int = 1) -> tuple[bytes, ...]:
        """Return so many ids in a row."""
        first = self._centre.number(count)
        if self._behaviour.smgp_raw_ids:
            return tuple(RAW_HEAD + (first + one).to_bytes(5, "big") for one in range(count))
        now = receipt.local_time(self._centre.wall_s(), self._behaviour.receipt_offset_s)
        return smgp.group_ids(smgp.make_msg_id(GATEWAY, now, first % COUNTERS), count)

    def _now(self) -> str:
        now = receipt.local_time(self._centre.wall_s(), self._behaviour.receipt_offset_s)
        return f"{now:%Y%m%d%H%M%S}"


def _respond(request: smgp.Pdu, status: int = 0, msg_id: bytes = bytes(10)) -> fields.Pdu:
    response = smgp.respond(request, status, msg_id=msg_id)
    assert response is not None
    return response


def _part(pdu: smgp.Submit, number: str) -> Part:
    """Read a part; where it has no header, PkTotal and PkNumber tell its place."""
    udhi = TLVS.read(pdu.tlvs, "tp_udhi") or 0
    part = formats.read(number, pdu.src_term_id, pdu.msg_content, pdu.msg_format, int(udhi))
    total, index = TLVS.read(pdu.tlvs, "pk_total"), TLVS.read(pdu.tlvs, "pk_number")
    if part.part_count == 1 and isinstance(total, int) and isinstance(index, int) and 1 <= index <= total:
        return structs.replace(part, part_index=index, part_count=total)
    return part
