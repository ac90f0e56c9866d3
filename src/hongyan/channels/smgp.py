"""The kind `smgp`: an account at a gateway of China Telecom, which speaks SMGP 3.0 or its older layout 1.3.

Specification: SMGP V3.0.3 [G3], followed by Q/CT 2069-2008.
Entry point: Smgp. What can be set is in smgp_config.py, what it shares with CMPP and SGIP in mainland.py, and how
its sessions are kept alive in sessions.py.

Surprises. Texts go as GBK, as the document wants it, but for those that only UCS-2 holds in as many parts as
were counted. SMGP has no word for "slower": which statuses throttle, the account says (verdicts).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from msgspec import structs

from hongyan import clock
from hongyan.channels import mainland, numbers, session_config, smgp_config
from hongyan.channels.channel import Ack, Declined, Inbound, Outcome, Parcel, Report, Unsure
from hongyan.channels.codes import Codes, Meaning, Told, Verdict
from hongyan.channels.session_kind import SessionKind
from hongyan.channels.smgp_config import Config, LoginAs
from hongyan.channels.speech import Duty
from hongyan.channels.trace import Lens
from hongyan.vocab import cause as causes
from hongyan.vocab import message
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.wire import fields, smgp
from hongyan.wire.smgp import LoginMode, Status

# Status of a SubmitResp [G3]. A gateway that answers with an error has not taken the message, so what may pass is
# Unreachable: another channel may try. 56 to 72 speak of gateways and routes; vendors' own are from 128 on.
ANSWERS: Mapping[int, Meaning] = {
    Status.SYSTEM_BUSY: (Verdict.UNREACHABLE, Cause.NETWORK),
    Status.TOO_MANY_CONNECTIONS: (Verdict.UNREACHABLE, Cause.NETWORK),
    Status.STRUCTURE: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Status.COMMAND: (Verdict.DECLINED, Cause.UNSUPPORTED),
    # We never send anything twice, so whatever it was taken for, this one was not taken.
    Status.DUPLICATE_SEQUENCE: (Verdict.UNREACHABLE, Cause.NETWORK),
    Status.IP_ADDRESS: (Verdict.UNREACHABLE, Cause.NETWORK),
    Status.AUTHENTICATION: (Verdict.UNREACHABLE, Cause.NETWORK),
    Status.VERSION: (Verdict.UNREACHABLE, Cause.NETWORK),
    **dict.fromkeys(range(Status.MSG_TYPE, Status.VALIDITY_PASSED), (Verdict.DECLINED, Cause.UNSUPPORTED)),
    Status.VALIDITY_PASSED: (Verdict.DECLINED, Cause.EXPIRED),
    Status.QUERY_TYPE: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Status.ROUTE: (Verdict.UNREACHABLE, Cause.NO_ROUTE),
    **dict.fromkeys(range(Status.FIXED_FEE, Status.DEST_TERM_ID), (Verdict.DECLINED, Cause.UNSUPPORTED)),
    Status.DEST_TERM_ID: (Verdict.DECLINED, Cause.INVALID_NUMBER),
    Status.CHARGE_TERM_ID: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Status.SP_CODE: (Verdict.DECLINED, Cause.UNSUPPORTED),
    **dict.fromkeys(range(56, 73), (Verdict.UNREACHABLE, Cause.NETWORK)),
    Status.M_SERVICE_ID: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Status.HOUR_FORBIDDEN: (Verdict.UNREACHABLE, Cause.REJECTED),
    Status.DAILY_QUOTA: (Verdict.UNREACHABLE, Cause.RATE_LIMITED),
    Status.ACCOUNT_EXPIRED: (Verdict.UNREACHABLE, Cause.REJECTED),
}

# err of a report [G3], and what China Telecom's platforms say there besides.
ERRORS: Mapping[str, Cause] = {
    **{code: row.cause for code, row in causes.table().items() if row.carrier == "CT" and row.cause},
    "001": Cause.ABSENT,  # cannot be reached
    "002": Cause.ABSENT,  # busy
    "003": Cause.HANDSET,  # has no such part
    "004": Cause.INVALID_NUMBER,
    "005": Cause.BLACKLISTED,
    "006": Cause.NETWORK,
    "007": Cause.HANDSET,  # memory full
    "008": Cause.HANDSET,  # takes no messages
    "009": Cause.NETWORK,  # data wrong
    "010": Cause.NETWORK,  # data lost
}
VAGUE = frozenset({Cause.UNREACHABLE, Cause.REJECTED, Cause.UNKNOWN})  # a stat alone says no more

UDHI = smgp.TLVS.write("tp_udhi", 1)


def name(status: int) -> str:
    """Name a status as people search for it: SYSTEM_BUSY (1), or its number alone."""
    written = Status(status).name
    return written if written.isdecimal() else f"{written} ({status})"


class Smgp(SessionKind):
    """One SMGP account (see channel.Channel)."""

    kind: ClassVar[str] = "smgp"
    Config: ClassVar[type[Any]] = smgp_config.Config

    def __init__(self, config: smgp_config.Config) -> None:
        self.config = config
        duties = (Duty.BOTH,) if config.login is LoginAs.BOTH else (Duty.SUBMIT, Duty.RECEIVE)
        super().__init__(session_config.terms(config, duties), Tongue(config), config.sessions)

    def cut(self, text: str, counting: texts.Counting) -> Sequence[texts.TextPart]:
        return mainland.cut(text, counting, self.config)


def _inside(pdu: fields.Pdu) -> Mapping[str, object]:
    """What a trace shows of a report."""
    report = smgp.report(pdu) if isinstance(pdu, smgp.Deliver) else None
    return {} if report is None else {"id": report.msg_id, "stat": report.stat, "err": report.error}


class Tongue:
    """What this account says and understands: a speech.Speech."""

    lens = Lens(
        numbers=frozenset({"src_term_id", "dest_term_id", "charge_term_id"}),
        ids=frozenset({"msg_id", "id"}),
        inside=_inside,
    )

    def __init__(self, config: Config) -> None:
        """Raises ValueError for a verdict whose status is no number."""
        self.dialect = smgp.dialect(config.version)
        self.remark = ""
        self._config = config
        self._submit = smgp.submit_class(config.version)
        self._fixed_fee = "" if config.version == smgp.VERSION_13 else config.fixed_fee
        self._tlvs = (smgp.TLVS.write("m_service_id", config.m_service_id),) if config.m_service_id else ()
        self._write_number = numbers.writer(config.number_form, config.country_code)
        self._read_number = numbers.reader(config.country_code)
        verdicts = {int(status): verdict for status, verdict in config.verdicts.items()}
        self._codes = Codes(ANSWERS, verdicts, config.causes, name=name)

    def login(self, duty: Duty) -> smgp.Login:
        modes = {Duty.BOTH: LoginMode.BOTH, Duty.SUBMIT: LoginMode.SEND, Duty.RECEIVE: LoginMode.RECEIVE}
        config = self._config
        return smgp.login(
            config.client_id,
            config.secret.reveal(),
            mainland.china(clock.now_s()),
            mode=modes[duty],
            version=config.version,
            padded=config.padded_authenticator,
        )

    def welcomed(self, login: fields.Pdu, response: fields.Pdu) -> str:
        assert isinstance(login, smgp.Login)
        assert isinstance(response, smgp.LoginResp)
        theirs = response.server_version
        if (theirs == smgp.VERSION_13) != (self._config.version == smgp.VERSION_13):
            self.remark = (
                f"the gateway speaks version {theirs}, this account is set to {self._config.version}"
            )
        if self._config.verify_server and not smgp.authenticates_server(
            response, login, self._config.secret.reveal()
        ):
            return "the gateway did not prove that it knows the secret"
        return ""

    def refusal(self, pdu: fields.Pdu) -> str:
        status = pdu.status if isinstance(pdu, smgp.LoginResp) else Status.UNSAID
        return f"login refused: {'no status' if status == Status.UNSAID else name(status)}"

    # submit

    def put(self, parcel: Parcel) -> smgp.Submit | Declined:
        config = self._config
        msg_format = mainland.FORMATS.get(parcel.encoding)
        if msg_format is None:
            return Declined("MsgFormat", Cause.UNSUPPORTED)
        octets, tlvs = parcel.octets, self._tlvs
        if parcel.part_count > 1:
            octets = mainland.write_udh(parcel, config.split) + octets
            place = (
                smgp.TLVS.write("pk_total", parcel.part_count),
                smgp.TLVS.write("pk_number", parcel.part_index),
            )
            tlvs = (*tlvs, UDHI, *place)
        return self._submit(
            0,  # positional, in the order of the table: by name it takes twice as long
            smgp.MsgType.MT,
            int(config.need_report),
            config.priority,
            config.service_id,
            config.fee_type,
            config.fee_code,
            self._fixed_fee,
            msg_format,
            mainland.write_validity(config.validity, parcel.validity_s, clock.now_s()),
            "",
            parcel.sender.removeprefix("+"),
            config.charge_term_id,
            (self._write_number(parcel.number),),
            octets,
            bytes(8),
            tlvs,
        )

    # answers

    def outcome(self, pdu: fields.Pdu) -> Outcome:
        if not isinstance(pdu, smgp.SubmitResp) or pdu.bare:
            return Unsure(f"answered by {type(pdu).__name__} without a status")
        if pdu.status != Status.OK:
            return self._codes.outcome(pdu.status)
        # Ten octets, whatever is in them: on paper BCD, in life NULs and anything else.
        upstream_id = pdu.msg_id.hex()
        if not any(pdu.msg_id):
            self.remark = "acks come without MsgID: their reports cannot be matched"
            return Ack("", upstream_id)
        return Ack(upstream_id, upstream_id)

    # reports and inbound

    def hear(self, pdu: fields.Pdu, connection: object, at_s: float) -> Report | Inbound | fields.Pdu | None:
        if not isinstance(pdu, smgp.Deliver):
            assert isinstance(pdu, smgp.Pdu)
            return smgp.respond(pdu, Status.COMMAND)
        slot = (connection, smgp.DeliverResp(pdu.sequence_number, False, pdu.msg_id))
        report = smgp.report(pdu)
        if report is None:
            return self._inbound(pdu, slot, at_s)
        told = self._told(report.stat, report.error)
        number = self._read_number(pdu.src_term_id)
        # The report's own times name no zone, so the moment of its coming is what can be relied on.
        return Report(report.msg_id, told.status, told.cause, told.code, at_s, (), number, told.final, slot)

    def _told(self, stat: str, error: str) -> Told:
        """Read stat and err; the document's err says more than a stat that only says no."""
        told = self._codes.of_stat(stat, error)
        better = ERRORS.get(error)
        if better is None or told.cause not in VAGUE or self._codes.overruled(told.code, error, stat):
            return told
        failed = message.Status.UNDELIVERED if told.status is message.Status.UNKNOWN else told.status
        return told._replace(status=failed, cause=better)

    def _inbound(self, deliver: smgp.Deliver, slot: object, at_s: float) -> Inbound:
        part = texts.read_udh(deliver.msg_content, smgp.TLVS.read(deliver.tlvs, "tp_udhi") == 1)
        if not part.width:
            index, count = _place(deliver.tlvs)
            part = structs.replace(part, index=index, total=count)
        number = self._read_number(deliver.src_term_id)
        return mainland.inbound(part, number, deliver.dest_term_id, deliver.msg_format, at_s, slot)


def _place(tlvs: Sequence[fields.Tlv]) -> tuple[int, int]:
    """Return index and count by PkNumber and PkTotal, for parts without a header; else those of a whole text."""
    count, index = smgp.TLVS.read(tlvs, "pk_total"), smgp.TLVS.read(tlvs, "pk_number")
    if isinstance(count, int) and isinstance(index, int) and 0 < index <= count:
        return index, count
    return 1, 1
