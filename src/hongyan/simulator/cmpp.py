"""The operator's side of CMPP 2.0, 2.1 and 3.0: an ISMG for service providers.

Writes nothing; its line does. Entry point: CmppLine. Ids are Msg_Ids with the time in them; a SUBMIT to several
numbers takes a row of them, of which the response names the first. Which layout is spoken is the client's
version byte or cmpp_version. The operator's own code stands in Stat, which has no other place for it.

Source: [C3] China Mobile QB-GF-028-2003, CMPP 3.0.
"""

from typing import Final

from msgspec import structs

from hongyan.simulator import formats, receipt
from hongyan.simulator.behaviour import Behaviour, CmppVersion, Protocol
from hongyan.simulator.centre import OwedReport, OwedText, Verdict, submit_of
from hongyan.simulator.handset import Part
from hongyan.simulator.line import Entry, WireLine
from hongyan.wire import cmpp, fields
from hongyan.wire.cmpp import CmppDialect, ConnectStatus, Result

GATEWAY: Final = 10_001  # in Msg_Id
_LAYOUTS: Final = {CmppVersion.V2: cmpp.V2, CmppVersion.V3: cmpp.V3}
_LATER: Final = frozenset({Result.FLOW, Result.OTHER})
VENDOR_FROM: Final = 100  # results that are the vendor's, so nobody knows them for final
JUNK: Final = bytes(range(16))  # an authenticator that proves nothing


class CmppLine(WireLine):
    """One connection from accept to close."""

    protocol = Protocol.CMPP
    window_size = 16
    too_many = ConnectStatus.OTHER

    def _dialect(self) -> CmppDialect:
        self._layout = _LAYOUTS.get(self._behaviour.cmpp_version, cmpp.V3)
        return self._layout

    def _name(self, login: cmpp.Connect) -> str:
        return login.source_addr

    def _unfit(self, login: cmpp.Connect) -> int:
        behaviour = self._behaviour
        if behaviour.system_id and login.source_addr != behaviour.system_id:
            return ConnectStatus.SOURCE_ADDRESS
        if behaviour.password and not cmpp.authenticates(login, behaviour.password):
            return ConnectStatus.AUTHENTICATION
        return 0

    def _refusal(self, login: cmpp.Connect, status: int) -> fields.Pdu:
        return _respond(login, self._layout_for(login), status)

    def _entry(self, login: cmpp.Connect) -> Entry:
        self._layout = self._layout_for(login)
        response = cmpp.connect_resp(login, self._behaviour.password, self._layout)
        if self._behaviour.proof_junk:
            response = structs.replace(response, authenticator_ismg=JUNK)
        return Entry(response, True, self._layout)

    def _layout_for(self, login: cmpp.Connect) -> CmppDialect:
        return _LAYOUTS.get(self._behaviour.cmpp_version) or cmpp.dialect_of(login)

    def _request(self, pdu: fields.Pdu) -> None:
        match pdu:
            case cmpp.Submit():
                self._submit(pdu)
            case cmpp.Query():
                self._answer(self._query(pdu))
            case cmpp.Pdu():
                self._answer(_respond(pdu, self._layout, Result.COMMAND))

    def _submit(self, pdu: cmpp.Submit) -> None:
        if self._is_deaf():
            return
        self.submits += 1
        wanted = pdu.registered_delivery == 1
        count = len(pdu.dest_terminal_id)
        if not count:
            self._answer(_respond(pdu, self._layout, Result.DEST_TERMINAL_ID))
            return
        copies = []
        for number, msg_id in zip(
            pdu.dest_terminal_id, cmpp.group_ids(self._msg_id(count), count), strict=True
        ):
            part = _part(pdu, number)
            submit = submit_of(
                part,
                on_success=wanted,
                on_failure=wanted,
                name=str(msg_id),
                throttled=Result.FLOW,
                queue_full=Result.FLOW,
            )
            copies.append((part, submit, number))
        self._centre.submit_group(self, pdu, copies)

    def _ack(self, ticket: cmpp.Pdu, status: int, ack_id: str) -> fields.Pdu:
        return _respond(ticket, self._layout, status, int(ack_id or 0))

    def _report(self, owed: OwedReport, behaviour: Behaviour) -> cmpp.Deliver:
        message, fate = owed.message, owed.fate
        report = cmpp.Report(
            int(fate.report_id or 0),
            receipt.stat(fate),
            receipt.date(fate.submitted_at_s, behaviour.receipt_offset_s),
            receipt.date(fate.done_at_s, behaviour.receipt_offset_s),
            message.number,
        )
        # Gateways of 3.0 that send the report of 2.x do exist; clients tell by its length.
        version = cmpp.VERSION_2_0 if behaviour.cmpp_short_reports else self._layout.version
        return self._layout.deliver(
            msg_id=self._msg_id(),
            dest_id=message.sender,
            src_terminal_id=message.number,
            registered_delivery=1,
            msg_content=cmpp.write_report(report, version),
        )

    def _text(self, owed: OwedText) -> cmpp.Deliver:
        written = formats.write(owed.part, owed.reference)
        return self._layout.deliver(
            msg_id=self._msg_id(),
            dest_id=owed.to,
            tp_udhi=written.udhi,
            msg_fmt=written.format,
            src_terminal_id=owed.number.removeprefix("+"),
            msg_content=written.content,
        )

    def _verdict(self, response: fields.Pdu) -> Verdict:
        if not isinstance(response, cmpp.DeliverResp):
            return Verdict.LATER
        return Verdict.of(response.result, _LATER, VENDOR_FROM)

    def _query(self, query: cmpp.Query) -> cmpp.QueryResp:
        """Tell the counts since the start, whatever the day and the service."""
        counts = self._centre.record.counts
        return cmpp.QueryResp(
            query.sequence_number,
            time=query.time,
            query_type=query.query_type,
            query_code=query.query_code,
            mt_tlmsg=counts["parts"],
            mt_tlusr=counts["parts"],
            mo_scs=counts["texts_acked"],
        )

    def _msg_id(self, count: int = 1) -> int:
        """Return the first of so many ids in a row."""
        now = receipt.local_time(self._centre.wall_s(), self._behaviour.receipt_offset_s)
        return cmpp.make_msg_id(now, GATEWAY, self._centre.number(count))


def _respond(request: cmpp.Pdu, layout: CmppDialect, result: int = 0, msg_id: int = 0) -> fields.Pdu:
    response = cmpp.respond(request, layout, result, msg_id=msg_id)
    assert response is not None
    return response


def _part(pdu: cmpp.Submit, number: str) -> Part:
    """Read a part; where it has no header, Pk_total and Pk_number tell its place."""
    part = formats.read(number, pdu.src_id, pdu.msg_content, pdu.msg_fmt, pdu.tp_udhi)
    if part.part_count == 1 and 1 <= pdu.pk_number <= pdu.pk_total:
        return structs.replace(part, part_index=pdu.pk_number, part_count=pdu.pk_total)
    return part
