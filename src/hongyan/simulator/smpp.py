"""The operator's side of SMPP 3.4: one SmppLine per connection, whatever bind it makes.

Writes nothing; its line does. Entry point: SmppLine. Here PDUs become parts, and what the centre owes becomes
deliver_sm.
"""

from datetime import UTC, datetime
from typing import Final, cast

from hongyan.simulator import receipt
from hongyan.simulator.behaviour import Behaviour, Protocol, State, plain_number
from hongyan.simulator.centre import OwedReport, OwedText, Verdict, submit_of
from hongyan.simulator.handset import Part
from hongyan.simulator.line import Entry, WireLine
from hongyan.vocab import text as wording
from hongyan.vocab.text import Encoding, Split
from hongyan.wire import fields, session, smpp
from hongyan.wire.smpp import TLVS, CommandStatus, MessageState

_STATES: Final = {
    State.ENROUTE: MessageState.ENROUTE,
    State.DELIVRD: MessageState.DELIVERED,
    State.EXPIRED: MessageState.EXPIRED,
    State.DELETED: MessageState.DELETED,
    State.UNDELIV: MessageState.UNDELIVERABLE,
    State.ACCEPTD: MessageState.ACCEPTED,
    State.UNKNOWN: MessageState.UNKNOWN,
    State.REJECTD: MessageState.REJECTED,
}
# data_coding [P34 5.2.19]; the default alphabet is GSM-7. 0x18 is the GSM octet for UCS-2, class 0.
_ENCODINGS: Final = {
    1: Encoding.ASCII,
    3: Encoding.LATIN1,
    8: Encoding.UCS2,
    0x18: Encoding.UCS2,
    0x19: Encoding.UCS2,
}
_DATA_CODINGS: Final = {Encoding.GSM7: 0, Encoding.ASCII: 1, Encoding.LATIN1: 3, Encoding.UCS2: 8}
_NEVER: Final = frozenset({CommandStatus.X_P_APPN, CommandStatus.X_R_APPN})
_STATE_TLVS: Final = {
    state: TLVS.write("message_state", int(message_state)) for state, message_state in _STATES.items()
}


class SmppLine(WireLine):
    """One connection from accept to close."""

    protocol = Protocol.SMPP
    window_size = 100
    too_many = CommandStatus.BINDFAIL

    def _dialect(self) -> session.Dialect:
        return smpp.DIALECT

    def _name(self, login: smpp.Bind) -> str:
        return login.system_id

    def _unfit(self, login: smpp.Bind) -> int:
        behaviour = self._behaviour
        if behaviour.system_id and login.system_id != behaviour.system_id:
            return CommandStatus.INVSYSID
        if behaviour.password and login.password != behaviour.password:
            return CommandStatus.INVPASWD
        return 0

    def _refusal(self, login: smpp.Bind, status: int) -> smpp.BindResp:
        return _response_class(login)(login.sequence_number, status, True)

    def _entry(self, login: smpp.Bind) -> Entry:
        version = TLVS.write("sc_interface_version", 0x34)
        response = _response_class(login)(login.sequence_number, 0, False, "hongyan-sim", (version,))
        return Entry(response, not isinstance(login, smpp.BindTransmitter))

    def _request(self, pdu: fields.Pdu) -> None:
        match pdu:
            case smpp.SubmitSm():
                self._submit(pdu, _short_message_part(pdu))
            case smpp.DataSm():
                self._submit(pdu, _payload_part(pdu))
            case smpp.QuerySm():
                self._answer(self._query(pdu))
            case _:
                self._decline(pdu)

    def _submit(self, pdu: smpp.SubmitSm | smpp.DataSm, part: Part) -> None:
        if self._is_deaf():
            return
        self.submits += 1
        wanted = pdu.registered_delivery & 3  # 1 always, 2 on failure, 3 on success [P50 4.7.21]
        submit = submit_of(part, on_success=wanted in (1, 3), on_failure=wanted in (1, 2))
        self._centre.submit(self, pdu, part, submit, pdu.destination_addr)

    def _ack(self, ticket: fields.Pdu, status: int, ack_id: str) -> smpp.Pdu:
        # "If the submit failed the message_id is not returned" [P34 4.4.2]; an error has no body.
        response = smpp.DataSmResp if isinstance(ticket, smpp.DataSm) else smpp.SubmitSmResp
        return response(ticket.sequence_number, status, status != 0, ack_id)

    def _decline(self, pdu: fields.Pdu) -> None:
        """Cancelling, replacing and lists: this operator knows the words and has nothing to offer."""
        statuses = {smpp.CancelSm: CommandStatus.CANCELFAIL, smpp.ReplaceSm: CommandStatus.REPLACEFAIL}
        status = statuses.get(type(pdu), CommandStatus.INVCMDID)
        response = smpp.respond(cast(smpp.Pdu, pdu), int(status))
        if response is not None:
            self._answer(response)

    def _report(self, owed: OwedReport, behaviour: Behaviour) -> smpp.DeliverSm:
        message, fate = owed.message, owed.fate
        octets, encoding = receipt.write(
            fate, behaviour.receipt, behaviour.code_place, behaviour.receipt_offset_s
        )
        tlvs: tuple[fields.Tlv, ...] = ()
        if behaviour.receipt_tlvs:
            tlvs = (TLVS.write("receipted_message_id", fate.report_id), _STATE_TLVS[fate.state])
        flagged = behaviour.intermediate_flagged and not owed.final
        return smpp.DeliverSm(
            source_addr_ton=1,
            source_addr_npi=1,
            source_addr=message.number,
            dest_addr_npi=1,
            destination_addr=message.sender,
            esm_class=smpp.ESM_INTERMEDIATE if flagged else smpp.ESM_RECEIPT,
            data_coding=_DATA_CODINGS[encoding],
            short_message=octets,
            tlvs=tlvs,
        )

    def _text(self, owed: OwedText) -> smpp.DeliverSm:
        part = owed.part
        udh = part.udh(owed.reference)
        tlvs: tuple[fields.Tlv, ...] = ()
        octets = udh + part.octets
        if part.mode is Split.PAYLOAD:
            tlvs, octets = (TLVS.write("message_payload", octets),), b""
        elif part.mode is Split.SAR and part.total > 1:
            tlvs = (
                TLVS.write("sar_msg_ref_num", owed.reference),
                TLVS.write("sar_total_segments", part.total),
                TLVS.write("sar_segment_seqnum", part.index),
            )
        return smpp.DeliverSm(
            source_addr_ton=1,
            source_addr_npi=1,
            source_addr=owed.number,
            dest_addr_npi=1,
            destination_addr=owed.to,
            esm_class=smpp.ESM_UDHI if udh else 0,
            data_coding=_DATA_CODINGS.get(part.encoding, 0),
            short_message=octets,
            tlvs=tlvs,
        )

    def _verdict(self, response: smpp.Pdu) -> Verdict:
        if response.command_status == 0:
            return Verdict.TAKEN
        return Verdict.NEVER if response.command_status in _NEVER else Verdict.LATER

    def _query(self, query: smpp.QuerySm) -> smpp.QuerySmResp:
        message = self._centre.message(query.message_id)
        if message is None or message.account != self.account:
            return smpp.QuerySmResp(query.sequence_number, int(CommandStatus.QUERYFAIL), True)
        done = datetime.fromtimestamp(message.done_at_s, UTC)
        final_date = smpp.absolute_time(done) if message.state.final else ""
        # error_code is one octet of the network's own making; ours that are no numbers do not fit it.
        error_code = int(message.err) & 0xFF if message.err.isdecimal() else 0
        state = int(_STATES[message.state])
        return smpp.QuerySmResp(
            query.sequence_number, 0, False, query.message_id, final_date, state, error_code
        )


def _response_class(login: smpp.Bind) -> type[smpp.BindResp]:
    return cast(type[smpp.BindResp], smpp.RESPONSES[type(login)])


def _short_message_part(pdu: smpp.SubmitSm) -> Part:
    if pdu.tlvs:
        return _payload_part(pdu, pdu.short_message)
    return _part(pdu, pdu.short_message)


def _payload_part(pdu: smpp.SubmitSm | smpp.DataSm, short_message: bytes = b"") -> Part:
    """Read a part that may be a payload, and whose place may stand in sar parameters [P34 5.3.2.22-24]."""
    payload = cast(bytes | None, TLVS.read(pdu.tlvs, "message_payload"))
    part = _part(pdu, short_message or payload or b"")
    total = cast(int | None, TLVS.read(pdu.tlvs, "sar_total_segments"))
    index = cast(int | None, TLVS.read(pdu.tlvs, "sar_segment_seqnum"))
    if not total or not index or index > total:
        return part
    reference = cast(int | None, TLVS.read(pdu.tlvs, "sar_msg_ref_num")) or 0
    sender, number = part.sender, part.number
    return Part(number, sender, part.octets, part.encoding, index, total, reference, 16)


def _part(pdu: smpp.SubmitSm | smpp.DataSm, octets: bytes) -> Part:
    number = plain_number(pdu.destination_addr)
    encoding = _ENCODINGS.get(pdu.data_coding, Encoding.GSM7)
    if not pdu.esm_class & smpp.ESM_UDHI:
        return Part(number, pdu.source_addr, octets, encoding)
    udh = wording.read_udh(octets, udhi=True)
    return Part(
        number, pdu.source_addr, udh.body, encoding, udh.index, udh.total, udh.ref, udh.width, udh.shift
    )
