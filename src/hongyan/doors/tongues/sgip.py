"""What customers say and hear over SGIP 1.2: Submit, to up to 100 numbers; Report and Deliver.

Pure. Entry point: Sgip, a tongue.Tongue; Sgip.call() is how we log in to a customer who listens (doors/dialling.py).
Sources: SGIP 1.1 [S11] and 1.3 [S13].
Surprise: the 12 octets of a Submit's own sequence number are its id, so the customer's system makes the ids.
Accounts may set: node (whose submits are taken), deliver_name (whom we say that we are when we dial them).
"""

import hmac
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from hongyan.doors.tongues import mainland
from hongyan.doors.tongues.tongue import (
    ALWAYS,
    ON_FAILURE,
    Fault,
    Receipt,
    Submit,
    Verdict,
    china_now,
    read_times,
)
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Status
from hongyan.vocab.text import Encoding
from hongyan.way.notice import InboundEvent
from hongyan.way.snapshot import Login
from hongyan.wire import fields, sgip
from hongyan.wire.session import Dialect
from hongyan.wire.sgip import LoginType, Result, SequenceNumber, State

# An SMG's node is 1, its area code and its own digit; ours are this and the door's number.
NODE: Final = 100_000
SEQUENCE: Final = "sequence_number"  # the parameter that a number is refused by

_RESULTS: Final[Mapping[Code, Result]] = {
    Code.SYSTEM_BUSY: Result.NODE_BUSY,
    Code.SYSTEM_ERROR: Result.NODE_BUSY,
    Code.REQUEST_RATE_LIMITED: Result.SPEED_LIMIT,
    Code.REQUEST_INVALID_PARAMETER: Result.PARAMETER_FORMAT,
    Code.NUMBER_INVALID: Result.ILLEGAL_NUMBER,
    Code.NUMBER_REGION_NOT_ALLOWED: Result.ILLEGAL_NUMBER,
    Code.NUMBER_TEST_ONLY: Result.ILLEGAL_NUMBER,
    Code.CONTENT_TOO_LONG: Result.LENGTH,
}
_FAULTS: Final[Mapping[Fault, Result]] = {
    Fault.KIND: Result.LOGIN_TYPE,
    Fault.TOO_MANY: Result.TOO_MANY_CONNECTIONS,
    Fault.BUSY: Result.NODE_BUSY,
}
_ERRORS: Final[Mapping[Cause, Result]] = {
    Cause.ABSENT: Result.CANNOT_COMMUNICATE,
    Cause.INVALID_NUMBER: Result.UNKNOWN_USER,
    Cause.SUSPENDED: Result.UNKNOWN_USER,
    Cause.UNREACHABLE: Result.UNREACHABLE,
    Cause.HANDSET: Result.MEMORY_FULL,
    Cause.BLACKLISTED: Result.NOT_PROVIDED,
    Cause.BLOCKED: Result.NOT_PROVIDED,
    Cause.OPTED_OUT: Result.NOT_PROVIDED,
    Cause.RATE_LIMITED: Result.QUEUE_FULL,
    Cause.NO_ROUTE: Result.NO_ROUTE,
    Cause.NO_CHANNEL: Result.NO_ROUTE,
    Cause.NETWORK: Result.ROUTE_ERROR,
}
_WANTED: Final[Mapping[int, int]] = {0: ON_FAILURE, 1: ALWAYS}  # by ReportFlag; 2 never, 3 bills a month
_LATER: Final = frozenset({Result.NODE_BUSY, Result.QUEUE_FULL, Result.SPEED_LIMIT})


class Calling(NamedTuple):
    """How to begin with a customer who listens."""

    login: sgip.Bind
    dialect: Dialect
    words: "Words"


class Sgip:
    """SGIP at the door (see tongue.Tongue)."""

    name = "sgip"
    inactivity_s: float | None = sgip.LIMITS.inactivity_s  # there are no heartbeats
    numbers_once = True
    lists_refused = False

    def __init__(self, door: int) -> None:
        self._node = NODE + door
        self._stamped: datetime | None = None
        self.dialect = sgip.dialect(self._node, 0)  # before a login we ask nothing, so this needs no stamp

    def account(self, login: fields.Pdu) -> str:
        assert isinstance(login, sgip.Bind)
        return login.login_name

    def proves(self, login: fields.Pdu, password: str) -> bool:
        assert isinstance(login, sgip.Bind)
        return hmac.compare_digest(login.login_password.encode(), password.encode())

    def objection(self, login: fields.Pdu, account: Login) -> Fault | None:  # noqa: ARG002 - the same for all
        assert isinstance(login, sgip.Bind)
        return None if login.login_type == LoginType.SP_TO_SMG else Fault.KIND

    def welcome(self, login: fields.Pdu, account: Login) -> tuple[fields.Pdu, Dialect, "Words"]:
        assert isinstance(login, sgip.Bind)
        return _respond(login), self._dialect(), Words(account)

    def turn_away(self, login: fields.Pdu, fault: Fault, account: Login | None) -> fields.Pdu:  # noqa: ARG002
        assert isinstance(login, sgip.Bind)
        return _respond(login, _FAULTS.get(fault, Result.ILLEGAL_LOGIN))

    def receives(self, login: fields.Pdu, account: Login) -> bool:  # noqa: ARG002 - the account decides
        return not account.deliver_to

    def call(self, account: Login) -> Calling:
        """Say how to log in to a customer who listens."""
        bind = sgip.Bind(
            login_type=LoginType.SMG_TO_SP,
            login_name=str(account.settings.get("deliver_name", account.name)),
            login_password=account.key.secret.reveal().decode(),
        )
        return Calling(bind, self._dialect(), Words(account))

    def _dialect(self) -> Dialect:
        """Return what a new session speaks: no two of this door share a stamp, for their counters begin alike."""
        now = china_now()
        if self._stamped is not None:
            now = max(now, self._stamped + timedelta(seconds=1))
        self._stamped = now
        return sgip.dialect(self._node, sgip.stamp_of(now))


class Words:
    """One session's words (see tongue.Words)."""

    def __init__(self, account: Login) -> None:
        self._node = account.settings.get("node")

    def number(self, pdu: fields.Pdu) -> Hashable:
        assert isinstance(pdu, sgip.Pdu)
        return SequenceNumber.of(pdu)

    def read(self, pdu: fields.Pdu) -> Submit | fields.Pdu | None:
        assert isinstance(pdu, sgip.Pdu)
        if not isinstance(pdu, sgip.Submit):
            return sgip.respond(pdu, Result.NOT_PROVIDED)  # a Trace
        if self._node not in (None, pdu.node):
            raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=SEQUENCE, reason="of another node")
        part = texts.read_udh(pdu.message_content, bool(pdu.tp_udhi))
        send_at, validity_s = read_times(pdu.schedule_time, pdu.expire_time)
        return Submit(
            numbers=pdu.user_numbers,
            source=pdu.sp_number,
            octets=part.body,
            encoding=mainland.encoding(pdu.message_coding),
            shift=part.shift,
            index=part.index,
            total=part.total,
            reference=part.ref,
            width=part.width,
            wanted=_WANTED.get(pdu.report_flag, 0),
            validity_s=validity_s,
            send_at=send_at,
        )

    def ids(self, pdu: fields.Pdu, count: int, /) -> Sequence[bytes]:
        assert isinstance(pdu, sgip.Pdu)
        return [SequenceNumber.of(pdu).hex.encode()] * count

    def taken(
        self,
        pdu: fields.Pdu,
        ids: Sequence[bytes],  # noqa: ARG002 - the customer knows it
        refused: Sequence[tuple[str, Refusal]],  # noqa: ARG002 - their reports say so
    ) -> fields.Pdu:
        assert isinstance(pdu, sgip.Pdu)
        return _respond(pdu)

    def refused(self, pdu: fields.Pdu, refusal: Refusal) -> fields.Pdu:
        assert isinstance(pdu, sgip.Pdu)
        if refusal.detail.get("parameter") == SEQUENCE:
            return _respond(pdu, Result.SEQUENCE_NUMBER)
        return _respond(pdu, _RESULTS.get(refusal.code, Result.NOT_PROVIDED))

    def receipt(self, receipt: Receipt) -> fields.Pdu:
        delivered = receipt.status is Status.DELIVERED
        error = Result.OK if delivered else _ERRORS.get(receipt.cause, Result.SYSTEM_FAILURE)
        return sgip.Report(
            submit_sequence_number=SequenceNumber.read(receipt.id.decode()).octets,
            user_number=receipt.written,
            state=State.DELIVERED if delivered else State.FAILED,
            error_code=error,
        )

    def texts(self, event: InboundEvent, reference: int) -> Sequence[fields.Pdu]:
        return [
            sgip.Deliver(
                user_number=mainland.number(event.number or "", "86"),
                sp_number=event.to,
                tp_udhi=int(part.total > 1),
                message_coding=mainland.FORMATS[part.encoding],
                message_content=part.udh(reference) + part.octets,
            )
            for part in mainland.cut(event.text or "", Encoding.UCS2)
        ]

    def verdict(self, pdu: fields.Pdu) -> Verdict:
        if not isinstance(pdu, sgip.ResultResponse):
            return Verdict.LATER  # an answer to something else
        if pdu.ok:
            return Verdict.TAKEN
        return Verdict.LATER if pdu.result in _LATER else Verdict.NEVER


def _respond(request: sgip.Pdu, result: int = 0) -> fields.Pdu:
    response = sgip.respond(request, int(result))
    assert response is not None
    return response
