"""The operator's side of SMPP 3.4: one SmppLine per connection, whatever bind it makes.

Writes nothing but its socket. Entry point: SmppLine, an asyncio protocol that server.py builds for each
connection. Reading, numbers, windows and timers are wire.session's in its server role; here PDUs become
parts, and what the centre owes becomes deliver_sm. Output gathers and is written once per read or per round
of the agenda.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, cast

from hongyan.simulator import receipt
from hongyan.simulator.behaviour import Behaviour, State, plain_number
from hongyan.simulator.centre import Centre, Owed, OwedReport, OwedText, Verdict, submit_of
from hongyan.simulator.handset import Part
from hongyan.vocab import text as wording
from hongyan.vocab.text import Encoding, Split
from hongyan.wire import fields, session, smpp
from hongyan.wire.session import Answered, Closed, LoginRequested, Received, Role, Session, Unanswered
from hongyan.wire.smpp import TLVS, CommandStatus, MessageState

LIMITS: Final = session.Limits(
    owed_max=1_000_000,  # acks that are lost on purpose stay owed for ever
    login_wait_s=10.0,
    heartbeat_misses_max=3,
)
NO_HEARTBEAT_S: Final = 1e9
LOOK_S: Final = 1.0  # how often a session's timers are looked at, at most

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


class SmppLine(asyncio.Protocol):
    """One connection from accept to close."""

    def __init__(self, centre: Centre, lines: set["SmppLine"]) -> None:
        """lines: the server's set of open connections; this one adds and removes itself."""
        self.account = ""
        self.submits = 0
        self.logged_in = False
        self.closed = asyncio.Event()
        self._centre = centre
        self._lines = lines
        self._behaviour = centre.behaviour
        self._mute = self._behaviour.silent
        self._paused = False
        self._data_tickets: set[int] = set()  # data_sm not yet answered; at most LIMITS.owed_max
        self._session = Session(
            _dialect(self._behaviour), Role.SERVER, _limits(self._behaviour), centre.agenda.now_s()
        )
        self._transport: asyncio.Transport

    # what the socket says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._lines.add(self)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lines.discard(self)
        self._over(self._session.lost(str(exc or "")))
        self.closed.set()

    def pause_writing(self) -> None:
        self._paused = True  # the client does not read: nothing more is asked of it, nor heard from it
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._transport.resume_reading()
        self._centre.hand_out()
        self._centre.flush()

    def data_received(self, data: bytes) -> None:
        if self._mute:
            return
        events = self._session.receive(data, self._centre.agenda.now_s())
        self._centre.gathering.add(self)  # the machine itself may have answered
        self._meet(events)
        self._centre.hand_out()
        self._centre.flush()

    # what the centre says

    def takes(self) -> bool:
        quiet = self._mute or self._paused or self._transport.is_closing()
        return not quiet and self._session.open_slots > 0

    def ack(self, ticket: int, status: int, ack_id: str) -> None:
        # "If the submit failed the message_id is not returned" [P34 4.4.2]; an error has no body.
        response = smpp.DataSmResp if ticket in self._data_tickets else smpp.SubmitSmResp
        self._data_tickets.discard(ticket)
        if self._answer(response(ticket, status, status != 0, ack_id)):
            self._centre.record.counts["acks"] += 1

    def deliver(self, owed: Owed) -> None:
        pdu = self._report(owed) if isinstance(owed, OwedReport) else _text(owed)
        try:
            self._session.send(pdu, self._centre.agenda.now_s(), owed)
        except fields.LocalProtocolError:  # an address or code that no PDU can carry
            self._centre.answered(owed, Verdict.NEVER)
        self._centre.gathering.add(self)

    def mute(self) -> None:
        self.flush()
        self._mute = True

    def abort(self) -> None:
        self.flush()  # what was said before the break is heard: the ack of the submit that brought it
        if self._paused:
            self._transport.abort()  # else it would wait for a client that does not read
        else:
            self._transport.close()

    def drop(self) -> None:
        """End at once, whatever is still to be written."""
        self._transport.abort()

    def flush(self) -> None:
        octets = self._session.take()
        if octets and not self._mute and not self._transport.is_closing():
            self._transport.write(octets)

    # ---- parts of the above

    def _meet(self, events: list[session.Event]) -> None:
        for event in events:
            match event:
                case Received(pdu=smpp.SubmitSm() as submit):
                    self._submit(submit, _short_message_part(submit))
                case Received(pdu=smpp.DataSm() as submit):
                    self._data_tickets.add(submit.sequence_number)
                    self._submit(submit, _payload_part(submit))
                case Answered(about=about, pdu=pdu):
                    self._session.release()
                    self._centre.answered(cast(Owed, about), _verdict(pdu))
                case Unanswered(about=about):
                    self._session.release()
                    self._centre.answered(cast(Owed, about), Verdict.LATER)
                case Received(pdu=smpp.QuerySm() as query):
                    self._answer(self._query(query))
                case Received(pdu=pdu):
                    self._decline(pdu)
                case LoginRequested(pdu=bind):
                    self._bind(cast(smpp.Bind, bind))
                case Closed():
                    self._over([event])
                    self.abort()
                case _:
                    pass  # strays and unreadable PDUs: the machine has said what there is to say

    def _submit(self, pdu: smpp.SubmitSm | smpp.DataSm, part: Part) -> None:
        if self._transport.is_closing():
            return  # it came with the submit that broke the session, and is lost with it
        self.submits += 1
        wanted = pdu.registered_delivery & 3  # 1 always, 2 on failure, 3 on success [P50 4.7.21]
        submit = submit_of(part, on_success=wanted in (1, 3), on_failure=wanted in (1, 2))
        self._centre.submit(self, pdu.sequence_number, part, submit, pdu.destination_addr)

    def _answer(self, pdu: fields.Pdu) -> bool:
        """Answer if the session still stands; returns whether it did."""
        if self._session.state not in (session.State.READY, session.State.LOGGING_OUT):
            return False
        self._session.answer(pdu, self._centre.agenda.now_s())
        self._centre.gathering.add(self)
        return True

    def _decline(self, pdu: fields.Pdu) -> None:
        """Cancelling, replacing and lists: this operator knows the words and has nothing to offer."""
        statuses = {smpp.CancelSm: CommandStatus.CANCELFAIL, smpp.ReplaceSm: CommandStatus.REPLACEFAIL}
        status = statuses.get(type(pdu), CommandStatus.INVCMDID)
        response = smpp.respond(cast(smpp.Pdu, pdu), int(status))
        if response is not None:
            self._answer(response)

    def _bind(self, bind: smpp.Bind) -> None:
        record = self._centre.record
        status = self._bind_status(bind)
        response_class = cast(type[smpp.BindResp], smpp.RESPONSES[type(bind)])
        if status:
            record.counts["binds_refused"] += 1
            self._session.refuse(response_class(bind.sequence_number, status, True))
            self.abort()
            return
        record.counts["binds"] += 1
        version = TLVS.write("sc_interface_version", 0x34)
        response = response_class(bind.sequence_number, 0, False, "hongyan-sim", (version,))
        self._session.accept(response, self._centre.agenda.now_s())
        self.account, self.logged_in = bind.system_id, True
        if self._behaviour.disconnect_after_s:
            after_s = self._centre.agenda.now_s() + self._behaviour.disconnect_after_s
            self._centre.agenda.add(after_s, self._disconnect)
        self._centre.logged_in(self, receives=not isinstance(bind, smpp.BindTransmitter))

    def _bind_status(self, bind: smpp.Bind) -> int:
        behaviour = self._behaviour
        refused = self._centre.record.counts["binds_refused"]
        if behaviour.bind_status and (
            not behaviour.bind_refusals_max or refused < behaviour.bind_refusals_max
        ):
            return behaviour.bind_status
        if behaviour.system_id and bind.system_id != behaviour.system_id:
            return CommandStatus.INVSYSID
        if behaviour.password and bind.password != behaviour.password:
            return CommandStatus.INVPASWD
        return 0

    def _disconnect(self) -> None:
        if not self._transport.is_closing():
            self._centre.record.counts["disconnects"] += 1
            self.abort()

    def _look(self) -> None:
        """Let the session see to its timers, again and again."""
        if self not in self._lines:
            return
        now_s = self._centre.agenda.now_s()
        if not self._mute:
            self._centre.gathering.add(self)
            self._meet(self._session.tick(now_s))
        self._centre.agenda.add(now_s + min(LOOK_S, self._behaviour.resend_after_s / 2 + 0.01), self._look)

    def _over(self, events: list[session.Event]) -> None:
        """Give back to the centre what was not answered."""
        for event in events:
            if isinstance(event, Closed):
                self.logged_in = False
                self._centre.lost(self, [cast(Owed, about) for _, about in event.unanswered])

    def _report(self, owed: OwedReport) -> smpp.DeliverSm:
        behaviour, message, fate = self._behaviour, owed.message, owed.fate
        if self._centre.table.has_rules:
            behaviour = self._centre.table.behaviour(message.part.number)
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


def _dialect(behaviour: Behaviour) -> session.Dialect:
    if behaviour.enquire_link_answered:
        return smpp.DIALECT
    return replace(smpp.DIALECT, answer=_answer_all_but_heartbeats)


def _answer_all_but_heartbeats(request: fields.Pdu, answer: session.Answer) -> fields.Pdu | None:
    return None if isinstance(request, smpp.EnquireLink) else smpp.DIALECT.answer(request, answer)


def _limits(behaviour: Behaviour) -> session.Limits:
    return replace(
        LIMITS,
        window_size=behaviour.window_max,
        ack_wait_s=behaviour.resend_after_s,
        heartbeat_s=behaviour.enquire_link_s or NO_HEARTBEAT_S,
    )


def _verdict(pdu: fields.Pdu) -> Verdict:
    status = cast(smpp.Pdu, pdu).command_status
    if status == 0:
        return Verdict.TAKEN
    return Verdict.NEVER if status in _NEVER else Verdict.LATER


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


def _text(owed: OwedText) -> smpp.DeliverSm:
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
