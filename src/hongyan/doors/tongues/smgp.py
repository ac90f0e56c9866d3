"""What customers say and hear over SMGP 3.0 and its older layout 1.3: Submit, to up to 100 numbers; Deliver.

Pure. Entry point: Smgp, a tongue.Tongue. Source: SMGP V3.0.3 [G3].
Accounts may set: layout (13 or 30: they speak 1.3 or 3.0, whatever their version byte says), any_time (a login passes
whatever its timestamp says). Surprise: SMGP has no word for "slower"; system busy stands for it.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Final

from hongyan.doors.tongues import mainland
from hongyan.doors.tongues.tongue import (
    ALWAYS,
    Fault,
    Receipt,
    Submit,
    Verdict,
    china_now,
    date,
    read_times,
    stat,
)
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Status as Fate
from hongyan.vocab.text import Encoding
from hongyan.way.notice import InboundEvent
from hongyan.way.snapshot import Login
from hongyan.wire import fields, smgp
from hongyan.wire.session import Dialect
from hongyan.wire.smgp import TLVS, LoginMode, Status

COUNTED_PER_S: Final = 16_000  # ids of a minute are a million
REFUSED: Final = 128  # the first status that is a gateway's own: by our rules, not by the protocol's

_STATUSES: Final[Mapping[Code, int]] = {
    Code.SYSTEM_BUSY: Status.SYSTEM_BUSY,
    Code.SYSTEM_ERROR: Status.SYSTEM_BUSY,
    Code.REQUEST_RATE_LIMITED: Status.SYSTEM_BUSY,
    Code.ACCOUNT_SUSPENDED: Status.ACCOUNT_EXPIRED,
    Code.NUMBER_INVALID: Status.DEST_TERM_ID,
    Code.NUMBER_REGION_NOT_ALLOWED: Status.DEST_TERM_ID,
    Code.NUMBER_TEST_ONLY: Status.DEST_TERM_ID,
    Code.CONTENT_TOO_LONG: Status.MSG_LENGTH,
}
_PARAMETERS: Final[Mapping[object, int]] = {
    "source": Status.SRC_TERM_ID,
    "encoding": Status.MSG_FORMAT,
    "part": Status.STRUCTURE,
    "send_at": Status.AT_TIME,
    "validity_s": Status.VALID_TIME,
}
_FAULTS: Final[Mapping[Fault, Status]] = {
    Fault.ADDRESS: Status.IP_ADDRESS,
    Fault.SUSPENDED: Status.ACCOUNT_EXPIRED,
    Fault.TOO_MANY: Status.TOO_MANY_CONNECTIONS,
    Fault.BUSY: Status.SYSTEM_BUSY,
}
# `err` of a report by the document's own list [G3]; an upstream's code counts otherwise.
_ERRORS: Final[Mapping[Cause, str]] = {
    Cause.ABSENT: "001",
    Cause.UNREACHABLE: "001",
    Cause.INVALID_NUMBER: "004",
    Cause.SUSPENDED: "004",
    Cause.BLACKLISTED: "005",
    Cause.BLOCKED: "005",
    Cause.NETWORK: "006",
    Cause.HANDSET: "007",
}
_LAYOUTS: Final[Mapping[object, int]] = {13: smgp.VERSION_13, 30: smgp.VERSION}


class MsgIds:
    """Message ids of one door, BCD: its number, the minute, a counter [G3 appendix B].

    The counter is never behind the clock, so a door that starts again within a minute gives none twice.
    """

    def __init__(self, door: int) -> None:
        self._gateway = f"{door:06}"
        self._minute = -1
        self._next = 0

    def make(self, count: int) -> Sequence[bytes]:
        """Return so many ids in a row."""
        now = china_now()
        minute, second = divmod(now.timestamp(), 60)
        if minute != self._minute:
            self._minute, self._next = int(minute), 0
        counter = max(self._next, int(second * COUNTED_PER_S))
        self._next = counter + count
        return smgp.group_ids(smgp.make_msg_id(self._gateway, now, counter % 1_000_000), count)


class Smgp:
    """SMGP at the door (see tongue.Tongue)."""

    name = "smgp"
    dialect: Dialect = smgp.DIALECT  # a Login is the same in both
    inactivity_s: float | None = None  # Active_Test keeps a session alive
    numbers_once = False
    lists_refused = False

    def __init__(self, door: int) -> None:
        self._ids = MsgIds(door)

    def account(self, login: fields.Pdu) -> str:
        assert isinstance(login, smgp.Login)
        return login.client_id

    def proves(self, login: fields.Pdu, password: str) -> bool:
        assert isinstance(login, smgp.Login)
        return smgp.authenticates(login, password)

    def objection(self, login: fields.Pdu, account: Login) -> Fault | None:
        # What was overheard must not open a session for ever after.
        assert isinstance(login, smgp.Login)
        if account.settings.get("any_time", False) or mainland.timely(login.timestamp):
            return None
        return Fault.TIME

    def welcome(self, login: fields.Pdu, account: Login) -> tuple[fields.Pdu, Dialect, "Words"]:
        assert isinstance(login, smgp.Login)
        secret = account.key.secret.reveal().decode()
        response = smgp.login_resp(login, secret, server_version=login.client_version)
        version = _LAYOUTS.get(account.settings.get("layout"), login.client_version)
        return response, smgp.dialect(version), Words(self._ids)

    def turn_away(self, login: fields.Pdu, fault: Fault, account: Login | None) -> fields.Pdu:  # noqa: ARG002
        assert isinstance(login, smgp.Login)
        return _respond(login, _FAULTS.get(fault, Status.AUTHENTICATION))

    def receives(self, login: fields.Pdu, account: Login) -> bool:  # noqa: ARG002 - the mode decides
        assert isinstance(login, smgp.Login)
        return login.login_mode != LoginMode.SEND


class Words:
    """One session's words (see tongue.Words)."""

    def __init__(self, ids: MsgIds) -> None:
        self._ids = ids

    def number(self, pdu: fields.Pdu) -> Hashable:
        return pdu.sequence_number

    def read(self, pdu: fields.Pdu) -> Submit | fields.Pdu | None:
        assert isinstance(pdu, smgp.Pdu)
        if not isinstance(pdu, smgp.Submit):
            return smgp.respond(pdu)  # a Query, which cannot be refused: counts of zero
        known = {name: TLVS.read(pdu.tlvs, name) for name in ("tp_udhi", "pk_total", "pk_number")}
        part = texts.read_udh(pdu.msg_content, known["tp_udhi"] == 1)
        reference, index, total, width = mainland.place(part, known["pk_total"], known["pk_number"])
        send_at, validity_s = read_times(pdu.at_time, pdu.valid_time)
        return Submit(
            numbers=pdu.dest_term_id,
            source=pdu.src_term_id,
            octets=part.body,
            encoding=mainland.encoding(pdu.msg_format),
            shift=part.shift,
            index=index,
            total=total,
            reference=reference,
            width=width,
            wanted=ALWAYS if pdu.need_report else 0,
            validity_s=validity_s,
            send_at=send_at,
        )

    def ids(self, _pdu: fields.Pdu, count: int, /) -> Sequence[bytes]:
        return [msg_id.hex().encode() for msg_id in self._ids.make(count)]

    def taken(
        self,
        pdu: fields.Pdu,
        ids: Sequence[bytes],
        refused: Sequence[tuple[str, Refusal]],  # noqa: ARG002 - their reports say so
    ) -> fields.Pdu:
        assert isinstance(pdu, smgp.Pdu)
        return _respond(pdu, msg_id=bytes.fromhex(ids[0].decode()))

    def refused(self, pdu: fields.Pdu, refusal: Refusal) -> fields.Pdu:
        assert isinstance(pdu, smgp.Pdu)
        status = _PARAMETERS.get(refusal.detail.get("parameter"), _STATUSES.get(refusal.code, REFUSED))
        return _respond(pdu, status)

    def receipt(self, receipt: Receipt) -> fields.Pdu:
        delivered = receipt.status is Fate.DELIVERED
        report = smgp.Report(
            receipt.id.decode(),
            stat(receipt.status, receipt.code),
            "000" if delivered else _ERRORS.get(receipt.cause, "999"),
            date(receipt.submitted_at),
            date(receipt.done_at),
        )
        return self._deliver(
            is_report=1,
            src_term_id=receipt.written,
            dest_term_id=receipt.source,
            msg_content=smgp.write_report(report),
        )

    def texts(self, event: InboundEvent, reference: int) -> Sequence[fields.Pdu]:
        return [
            self._deliver(
                msg_format=mainland.FORMATS[part.encoding],
                src_term_id=mainland.number(event.number or ""),
                dest_term_id=event.to,
                msg_content=part.udh(reference) + part.octets,
                tlvs=()
                if part.total == 1
                else (
                    TLVS.write("tp_udhi", 1),
                    TLVS.write("pk_total", part.total),
                    TLVS.write("pk_number", part.index),
                ),
            )
            for part in mainland.cut(event.text or "", Encoding.GBK)
        ]

    def verdict(self, pdu: fields.Pdu) -> Verdict:
        if not isinstance(pdu, smgp.DeliverResp):
            return Verdict.LATER  # an answer to something else
        if pdu.status == Status.OK:
            return Verdict.TAKEN
        return Verdict.LATER if pdu.status == Status.SYSTEM_BUSY else Verdict.NEVER

    def _deliver(
        self,
        *,
        src_term_id: str,
        dest_term_id: str,
        msg_content: bytes,
        is_report: int = 0,
        msg_format: int = 0,
        tlvs: tuple[fields.Tlv, ...] = (),
    ) -> smgp.Deliver:
        return smgp.Deliver(
            msg_id=self._ids.make(1)[0],
            is_report=is_report,
            msg_format=msg_format,
            recv_time=f"{china_now():%Y%m%d%H%M%S}",
            src_term_id=src_term_id,
            dest_term_id=dest_term_id,
            msg_content=msg_content,
            tlvs=tlvs,
        )


def _respond(request: smgp.Pdu, status: int = 0, *, msg_id: bytes = bytes(10)) -> fields.Pdu:
    response = smgp.respond(request, int(status), msg_id=msg_id)
    assert response is not None
    return response
