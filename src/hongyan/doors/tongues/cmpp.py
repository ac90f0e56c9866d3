"""What customers say and hear over CMPP 2.0, 2.1 and 3.0: SUBMIT, to up to 99 numbers; DELIVER.

Pure. Entry point: Cmpp, a tongue.Tongue. Source: CMPP 3.0 with its history of changes [C3].
The account says which layout is spoken; where it does not, the client's version byte does, which is not always true.
Accounts may set: report_octets (60 or 71: the layout of a report, where it is not that of the version), any_time (a
login passes whatever its timestamp says).
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Final

from hongyan.doors.tongues import mainland
from hongyan.doors.tongues.tongue import (
    ALWAYS,
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
from hongyan.vocab.text import Encoding
from hongyan.way.notice import InboundEvent
from hongyan.way.snapshot import Login
from hongyan.wire import cmpp, fields
from hongyan.wire.cmpp import CmppDialect, ConnectStatus, Result
from hongyan.wire.session import Dialect

_RESULTS: Final[Mapping[Code, Result]] = {
    Code.SYSTEM_BUSY: Result.FLOW,
    Code.REQUEST_RATE_LIMITED: Result.FLOW,
    Code.NUMBER_INVALID: Result.DEST_TERMINAL_ID,
    Code.NUMBER_REGION_NOT_ALLOWED: Result.DEST_TERMINAL_ID,
    Code.NUMBER_TEST_ONLY: Result.DEST_TERMINAL_ID,
    Code.CONTENT_TOO_LONG: Result.TOO_LONG,
}
_PARAMETERS: Final[Mapping[object, Result]] = {
    "source": Result.SRC_ID,
    "encoding": Result.STRUCTURE,
    "part": Result.STRUCTURE,
    "send_at": Result.STRUCTURE,
    "validity_s": Result.STRUCTURE,
}
_FAULTS: Final[Mapping[Fault, ConnectStatus]] = {
    Fault.NAME: ConnectStatus.AUTHENTICATION,
    Fault.TIME: ConnectStatus.AUTHENTICATION,
    Fault.ADDRESS: ConnectStatus.SOURCE_ADDRESS,
}
_REPORT_VERSIONS: Final[Mapping[object, int]] = {60: cmpp.VERSION_2_0, 71: cmpp.VERSION_3_0}


class Cmpp:
    """CMPP at the door (see tongue.Tongue)."""

    name = "cmpp"
    dialect: Dialect = cmpp.V3  # a CONNECT is the same in both
    inactivity_s: float | None = None  # ACTIVE_TEST keeps a session alive
    numbers_once = False
    lists_refused = False

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def account(self, login: fields.Pdu) -> str:
        assert isinstance(login, cmpp.Connect)
        return login.source_addr

    def proves(self, login: fields.Pdu, password: str) -> bool:
        assert isinstance(login, cmpp.Connect)
        return cmpp.authenticates(login, password)

    def objection(self, login: fields.Pdu, account: Login) -> Fault | None:
        # What was overheard must not open a session for ever after.
        assert isinstance(login, cmpp.Connect)
        if account.settings.get("any_time", False) or mainland.timely(login.timestamp):
            return None
        return Fault.TIME

    def welcome(self, login: fields.Pdu, account: Login) -> tuple[fields.Pdu, Dialect, "Words"]:
        assert isinstance(login, cmpp.Connect)
        dialect = _dialect(login, account)
        response = cmpp.connect_resp(login, account.key.secret.reveal().decode(), dialect)
        return response, dialect, Words(account, self._numbers, dialect)

    def turn_away(self, login: fields.Pdu, fault: Fault, account: Login | None) -> fields.Pdu:
        # In the account's layout too: the first octet of a Status of 3.0 is 0, a success to who reads 2.x.
        assert isinstance(login, cmpp.Connect)
        status = _FAULTS.get(fault, ConnectStatus.OTHER)
        return _respond(login, _dialect(login, account), int(status))

    def receives(self, login: fields.Pdu, account: Login) -> bool:  # noqa: ARG002 - every session is for both
        return True


class Words:
    """One session's words (see tongue.Words)."""

    def __init__(self, account: Login, numbers: Numbers, dialect: CmppDialect) -> None:
        self._numbers = numbers
        self._dialect = dialect
        self._report_version = _REPORT_VERSIONS.get(account.settings.get("report_octets"), dialect.version)

    def number(self, pdu: fields.Pdu) -> Hashable:
        return pdu.sequence_number

    def read(self, pdu: fields.Pdu) -> Submit | fields.Pdu | None:
        assert isinstance(pdu, cmpp.Pdu)
        if not isinstance(pdu, cmpp.Submit):
            # A QUERY gets counts of zero, since it cannot be refused; a CANCEL hears that nothing was cancelled.
            return cmpp.respond(pdu, self._dialect, int(Result.COMMAND))
        part = texts.read_udh(pdu.msg_content, bool(pdu.tp_udhi))
        reference, index, total, width = mainland.place(part, pdu.pk_total, pdu.pk_number)
        send_at, validity_s = read_times(pdu.at_time, pdu.valid_time)
        return Submit(
            numbers=pdu.dest_terminal_id,
            source=pdu.src_id,
            octets=part.body,
            encoding=mainland.encoding(pdu.msg_fmt),
            shift=part.shift,
            index=index,
            total=total,
            reference=reference,
            width=width,
            wanted=ALWAYS if pdu.registered_delivery == 1 else 0,  # 2 asks for a bill only
            validity_s=validity_s,
            send_at=send_at,
        )

    def ids(self, _pdu: fields.Pdu, count: int, /) -> Sequence[bytes]:
        return [b"%d" % msg_id for msg_id in cmpp.group_ids(self._numbers.make(count), count)]

    def taken(
        self,
        pdu: fields.Pdu,
        ids: Sequence[bytes],
        refused: Sequence[tuple[str, Refusal]],  # noqa: ARG002 - their reports say so
    ) -> fields.Pdu:
        assert isinstance(pdu, cmpp.Pdu)
        return _respond(pdu, self._dialect, msg_id=int(ids[0]))

    def refused(self, pdu: fields.Pdu, refusal: Refusal) -> fields.Pdu:
        assert isinstance(pdu, cmpp.Pdu)
        result = _PARAMETERS.get(refusal.detail.get("parameter"), _RESULTS.get(refusal.code, Result.OTHER))
        if self._dialect is cmpp.V2 and result > Result.OTHER:  # what 2.x does not know
            result = Result.OTHER
        return _respond(pdu, self._dialect, int(result))

    def receipt(self, receipt: Receipt) -> fields.Pdu:
        report = cmpp.Report(
            int(receipt.id),
            stat(receipt.status, receipt.code),
            date(receipt.submitted_at),
            date(receipt.done_at),
            receipt.written[:21],
        )
        return self._dialect.deliver(
            msg_id=self._numbers.make(),
            dest_id=receipt.source,
            src_terminal_id=receipt.written,
            registered_delivery=1,
            msg_content=cmpp.write_report(report, self._report_version),
        )

    def texts(self, event: InboundEvent, reference: int) -> Sequence[fields.Pdu]:
        return [
            self._dialect.deliver(
                msg_id=self._numbers.make(),
                dest_id=event.to,
                tp_udhi=int(part.total > 1),
                msg_fmt=mainland.FORMATS[part.encoding],
                src_terminal_id=mainland.number(event.number or ""),
                msg_content=part.udh(reference) + part.octets,
            )
            for part in mainland.cut(event.text or "", Encoding.UCS2)
        ]

    def verdict(self, pdu: fields.Pdu) -> Verdict:
        if not isinstance(pdu, cmpp.DeliverResp):
            return Verdict.LATER  # an answer to something else
        if pdu.result == Result.OK:
            return Verdict.TAKEN
        return Verdict.LATER if pdu.result == Result.FLOW else Verdict.NEVER


def _dialect(login: cmpp.Connect, account: Login | None) -> CmppDialect:
    if account is None or not account.version:
        return cmpp.dialect_of(login)
    return cmpp.V3 if account.version >= cmpp.VERSION_3_0 else cmpp.V2


def _respond(request: cmpp.Pdu, dialect: CmppDialect, result: int = 0, *, msg_id: int = 0) -> fields.Pdu:
    response = cmpp.respond(request, dialect, result, msg_id=msg_id)
    assert response is not None
    return response
