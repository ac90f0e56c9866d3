"""The operator's side of SGIP 1.2: an SMG that listens for SPs, and dials them to report and to deliver.

Writes nothing; its lines do. Entry points: Smg, one for an operator, and SgipLine, one for a connection,
whoever opened it. Only who opens a connection asks for anything on it [S11], so reports and texts go out on
connections that the SMG opens to the address in sgip_sp, when something waits and nobody is there to take it;
idle ones are closed. Without an address they go out on the SP's own connections, as many SMGs do it today.

A Submit is called by its sequence number, 12 octets that the SP has chosen; its response names no other.

Sources: [S11] SGIP 1.1, [S13] SGIP 1.3 (2009).
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final

from hongyan.simulator import formats, receipt
from hongyan.simulator.behaviour import Behaviour, Protocol, State, plain_number
from hongyan.simulator.centre import (
    ANY_ACCOUNT,
    Centre,
    OwedReport,
    OwedText,
    Verdict,
    account_of,
    protocol_of,
    submit_of,
)
from hongyan.simulator.line import Entry, WireLine
from hongyan.simulator.receipt import Fate
from hongyan.wire import fields, session, sgip
from hongyan.wire.session import Role
from hongyan.wire.sgip import LoginType, Result, SequenceNumber

NODE: Final = 100_010  # 1 for an SMG, the area code in four digits, a number [S11]
DIAL_WAIT_S: Final = 10.0
_STATES: Final = {
    State.ENROUTE: sgip.State.WAITING,
    State.ACCEPTD: sgip.State.WAITING,
    State.DELIVRD: sgip.State.DELIVERED,
}
# ErrorCode of parts that failed, where the operator's own code is none of SGIP's; the sandbox's have theirs.
_ERRORS: Final = {
    State.EXPIRED: Result.CANNOT_COMMUNICATE,
    State.UNDELIV: Result.UNREACHABLE,
    State.REJECTD: Result.NOT_PROVIDED,
    "MK:0001": Result.UNKNOWN_USER,
    "MK:0024": Result.CANNOT_COMMUNICATE,
}
_LATER: Final = frozenset({Result.NODE_BUSY, Result.SYSTEM_FAILURE, Result.QUEUE_FULL, Result.SPEED_LIMIT})


class Smg:
    """What all SGIP connections of an operator share: time stamps, and whom to dial."""

    def __init__(
        self,
        centre: Centre,
        lines: set[WireLine],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """lines: the open connections of the server · spawn: runs a coroutine for as long as doors are open."""
        self._centre = centre
        self._lines = lines
        self._spawn = spawn
        self._called: set[str] = set()  # accounts that are being dialled, have a connection, or are to wait
        self._stamp = 0

    def answer(self) -> "SgipLine":
        """Build the line of a connection that an SP has opened."""
        return SgipLine(self._centre, self._lines, self)

    def call(self, account: str) -> None:
        """Open a connection to the SP for what waits for an account, if there is not one already."""
        is_ours = account == ANY_ACCOUNT or protocol_of(account) is Protocol.SGIP
        if is_ours and self._centre.behaviour.sgip_sp and account not in self._called:
            self._called.add(account)
            self._spawn(self._dial(account))

    def ended(self, account: str, *, well: bool) -> None:
        """Hear that a connection to the SP is over; one that did not end well is not opened again at once."""
        after_s = 0.0 if well else self._centre.behaviour.resend_after_s
        self._centre.agenda.add(self._centre.agenda.now_s() + after_s, self._free, account)

    def stamp(self) -> int:
        """Return the time for sequence numbers of a connection; no two share one."""
        now = receipt.local_time(self._centre.wall_s(), self._centre.behaviour.receipt_offset_s)
        self._stamp = max(self._stamp + 1, sgip.stamp_of(now))
        return self._stamp

    async def _dial(self, account: str) -> None:
        host, _, port = self._centre.behaviour.sgip_sp.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DIAL_WAIT_S):
                await loop.create_connection(
                    lambda: SgipLine(self._centre, self._lines, self, account), host, int(port)
                )
        except OSError:  # nobody there, or nobody in time
            self.ended(account, well=False)
        except asyncio.CancelledError:  # the doors close
            self._called.discard(account)
            raise

    def _free(self, account: str) -> None:
        self._called.discard(account)
        self._centre.hand_out()


class SgipLine(WireLine):
    """One connection, from an SP or to it."""

    protocol = Protocol.SGIP
    window_size = 32
    too_many = Result.TOO_MANY_CONNECTIONS

    def __init__(
        self, centre: Centre, lines: set[WireLine], smg: Smg, dialled_for: str | None = None
    ) -> None:
        """dialled_for: the account for which the SMG has opened the connection; None: the SP has."""
        self._smg = smg
        self._dialled_for = dialled_for
        self._stamp = smg.stamp()
        super().__init__(centre, lines, Role.SERVER if dialled_for is None else Role.CLIENT)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._dialled_for is None:
            return
        behaviour = self._behaviour
        name = self._dialled_for.partition(":")[2] or behaviour.system_id
        self.account = account_of(Protocol.SGIP, name)
        password = behaviour.sgip_sp_password or behaviour.password
        bind = sgip.Bind(
            login_type=LoginType.SMG_TO_SP,
            login_name=behaviour.sgip_sp_name or name,
            login_password=password,
        )
        self._session.login(bind, self._centre.agenda.now_s())
        self.flush()

    def _dialect(self) -> session.Dialect:
        return sgip.dialect(NODE, self._stamp)

    def _more_limits(self, limits: session.Limits) -> session.Limits:
        return replace(limits, inactivity_s=self._behaviour.sgip_idle_s or None)

    def _name(self, login: sgip.Bind) -> str:
        return login.login_name

    def _unfit(self, login: sgip.Bind) -> int:
        behaviour = self._behaviour
        if login.login_type != LoginType.SP_TO_SMG:
            return Result.LOGIN_TYPE
        if behaviour.system_id and login.login_name != behaviour.system_id:
            return Result.ILLEGAL_LOGIN
        if behaviour.password and login.login_password != behaviour.password:
            return Result.ILLEGAL_LOGIN
        return 0

    def _refusal(self, login: sgip.Bind, status: int) -> fields.Pdu:
        return _respond(login, status)

    def _entry(self, login: sgip.Bind) -> Entry:
        return Entry(_respond(login), not self._behaviour.sgip_sp)

    def _over(self, events: list[session.Event]) -> None:
        for event in events:
            if isinstance(event, session.Closed) and self._dialled_for is not None:
                well = event.end in (session.End.INACTIVE, session.End.LOGGED_OUT)
                self._smg.ended(self._dialled_for, well=well)
        super()._over(events)

    def _request(self, pdu: fields.Pdu) -> None:
        match pdu:
            case sgip.Submit():
                self._submit(pdu)
            case sgip.Trace():
                self._answer(self._trace(pdu))
            case sgip.Pdu():
                self._answer(_respond(pdu, Result.COMMAND_ID))

    def _submit(self, pdu: sgip.Submit) -> None:
        if self._is_deaf():
            return
        self.submits += 1
        name = SequenceNumber.of(pdu).hex
        on_success, on_failure = pdu.report_flag == 1, pdu.report_flag in (0, 1)
        copies = []
        for number in pdu.user_numbers:
            part = formats.read(number, pdu.sp_number, pdu.message_content, pdu.message_coding, pdu.tp_udhi)
            submit = submit_of(
                part,
                on_success=on_success,
                on_failure=on_failure,
                name=name,
                throttled=Result.SPEED_LIMIT,
                queue_full=Result.NODE_BUSY,
            )
            copies.append((part, submit, number))
        if not copies:
            self._answer(_respond(pdu, Result.PARAMETER_FORMAT))
        elif all(number.startswith("86") for number in pdu.user_numbers):
            self._centre.submit_group(self, pdu, copies)
        else:
            self._centre.turn_away(self, pdu, [part for part, _, _ in copies], Result.ILLEGAL_NUMBER)

    def _ack(self, ticket: sgip.Pdu, status: int, ack_id: str) -> fields.Pdu:  # noqa: ARG002 - see the module
        return _respond(ticket, status)

    def _report(self, owed: OwedReport, behaviour: Behaviour) -> sgip.Report:  # noqa: ARG002 - nothing to choose
        fate = owed.fate
        state = _STATES.get(fate.state, sgip.State.FAILED)
        return sgip.Report(
            submit_sequence_number=bytes.fromhex(fate.report_id) or bytes(12),
            user_number=owed.message.number,
            state=state,
            error_code=_error(fate) if state is sgip.State.FAILED else 0,
        )

    def _text(self, owed: OwedText) -> sgip.Deliver:
        written = formats.write(owed.part, owed.reference)
        return sgip.Deliver(
            user_number=_with_country(owed.number),
            sp_number=owed.to,
            tp_udhi=written.udhi,
            message_coding=written.format,
            message_content=written.content,
        )

    def _verdict(self, response: fields.Pdu) -> Verdict:
        if not isinstance(response, sgip.ResultResponse) or response.bare:
            return Verdict.LATER
        return Verdict.of(response.result, _LATER)

    def _trace(self, trace: sgip.Trace) -> fields.Pdu:
        """Tell of a Submit when it came; of others, that there is no such."""
        message = self._centre.message(trace.submit_sequence_number.hex())
        if message is None or message.account != self.account:
            return _respond(trace, Result.SEQUENCE_NUMBER)
        at = receipt.local_time(message.submitted_at_s, self._behaviour.receipt_offset_s)
        hop = sgip.Hop(0, str(NODE), f"{at:%y%m%d%H%M%S}032+")
        return sgip.TraceResp(trace.sequence_number, trace.node, trace.stamp, hops=(hop,))


def _respond(request: sgip.Pdu, result: int = 0) -> fields.Pdu:
    response = sgip.respond(request, result)
    assert response is not None
    return response


def _error(fate: Fate) -> int:
    """Return the ErrorCode: the operator's own code if it is a number of one octet, else by what happened."""
    if fate.err != receipt.NO_CODE and fate.err.isdecimal() and int(fate.err) < 1 << 8:
        return int(fate.err)
    return _ERRORS.get(fate.err, _ERRORS.get(fate.state, Result.SYSTEM_FAILURE))


def _with_country(number: str) -> str:
    """Write a number as SGIP wants it: mainland mobiles begin with 86."""
    plain = plain_number(number)
    return f"86{plain}" if len(plain) == 11 and plain.startswith("1") else plain
