"""The kind `cmpp`: an account at a gateway of China Mobile, or at an aggregator that speaks CMPP 2.0, 2.1 or 3.0.

Specification: [C3] CMPP 3.0, China Mobile QB-GF-028-2003, with its history of changes since 1.2.1.
Entry point: Cmpp. What can be set is in cmpp_config.py, what it shares with SMGP and SGIP in mainland.py, and how
its sessions are kept alive in sessions.py.

Surprises. A SUBMIT has one destination, so an id is one part's. An id is compared as an unsigned number; it comes
back inside the text of a status report, while the DELIVER around it has an id of its own, which is only answered.
LinkID, of services that a person orders by text, is not kept: our texts are of no such service.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from hongyan import clock
from hongyan.channels import cmpp_config, mainland, numbers, session_config
from hongyan.channels.channel import Ack, Declined, Inbound, Outcome, Parcel, Report, Unsure
from hongyan.channels.codes import Codes, Meaning, Verdict
from hongyan.channels.session_kind import SessionKind
from hongyan.channels.speech import Duty
from hongyan.channels.trace import Lens
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.wire import cmpp, fields
from hongyan.wire.cmpp import ConnectStatus, Result

# Who answers with a Result has not taken the message. 100 to 199 are the vendor's, and often mean "slower":
# an account says so in `verdicts`.
RESULTS: Mapping[int, Meaning] = {
    Result.STRUCTURE: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Result.COMMAND: (Verdict.UNREACHABLE, Cause.NETWORK),  # not for who is not logged in
    Result.DUPLICATE: (Verdict.UNREACHABLE, Cause.NETWORK),  # we use no number twice, but they may remember
    Result.LENGTH: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Result.FEE: (Verdict.DECLINED, Cause.REJECTED),
    Result.TOO_LONG: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Result.SERVICE_ID: (Verdict.DECLINED, Cause.REJECTED),
    Result.FLOW: (Verdict.THROTTLED, Cause.RATE_LIMITED),
    Result.OTHER: (Verdict.UNREACHABLE, Cause.NO_ROUTE),  # the number that is charged is not of this gateway
    Result.SRC_ID: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Result.MSG_SRC: (Verdict.DECLINED, Cause.REJECTED),
    Result.FEE_TERMINAL_ID: (Verdict.DECLINED, Cause.REJECTED),
    Result.DEST_TERMINAL_ID: (Verdict.DECLINED, Cause.INVALID_NUMBER),
}

PERSONS = frozenset({"dest_terminal_id", "src_terminal_id", "fee_terminal_id", "dest"})


class Cmpp(SessionKind):
    """One CMPP account (see channel.Channel)."""

    kind: ClassVar[str] = "cmpp"
    Config: ClassVar[type[Any]] = cmpp_config.Config

    def __init__(self, config: cmpp_config.Config) -> None:
        self.config = config
        super().__init__(session_config.terms(config), Tongue(config), config.sessions)

    def cut(self, text: str, counting: texts.Counting) -> Sequence[texts.TextPart]:
        return mainland.cut(text, counting, self.config)


def _inside(pdu: fields.Pdu) -> Mapping[str, object]:
    """What a trace shows of a status report."""
    told = cmpp.report(pdu) if isinstance(pdu, cmpp.Deliver) else None
    return {} if told is None else {"report": told.msg_id, "stat": told.stat, "dest": told.dest}


class Tongue:
    """What this account says and understands: a speech.Speech."""

    lens = Lens(numbers=PERSONS, inside=_inside)

    def __init__(self, config: cmpp_config.Config) -> None:
        # Not what the peer's login response looks like: the account says what is spoken.
        self.dialect = replace(config.version.dialect, after_login=None)
        self.remark = ""
        self._config = config
        self._write_number = numbers.writer(config.number_form, config.country_code)
        self._read_number = numbers.reader(config.country_code)
        verdicts = {int(result): verdict for result, verdict in config.verdicts.items()}
        self._codes = Codes(RESULTS, verdicts, config.causes, name=name)

    def login(self, duty: Duty) -> cmpp.Connect:  # noqa: ARG002 - every session is for both directions
        config = self._config
        return cmpp.connect(
            config.source_addr,
            config.secret.reveal(),
            mainland.china(clock.now_s()),
            config.version.octet,
            padded=config.padded_authenticator,
        )

    def welcomed(self, login: fields.Pdu, response: fields.Pdu) -> str:
        assert isinstance(login, cmpp.Connect)
        assert isinstance(response, cmpp.ConnectResp)
        config = self._config
        if config.verify_server and not cmpp.authenticates_ismg(response, login, config.secret.reveal()):
            return "the gateway does not prove the secret"
        spoken = cmpp.dialect_of(response).version
        self.remark = ""
        if spoken != self.dialect.version:
            self.remark = f"the gateway lets us in as {spoken >> 4}.x does, the account says {config.version}"
        return ""

    def refusal(self, pdu: fields.Pdu) -> str:
        status = pdu.status if isinstance(pdu, cmpp.ConnectResp) else ConnectStatus.OTHER
        return f"login refused: {_written(ConnectStatus(status))}"

    # submit

    def put(self, parcel: Parcel) -> cmpp.Submit | Declined:
        config = self._config
        msg_fmt = mainland.FORMATS.get(parcel.encoding)
        if msg_fmt is None:
            return Declined("Msg_Fmt", Cause.UNSUPPORTED)
        header = mainland.write_udh(parcel, config.split) if parcel.part_count > 1 else b""
        return self.dialect.submit(
            0,  # positional, in the order of the table: by name it takes twice as long
            0,
            parcel.part_count,
            parcel.part_index,
            config.registered_delivery,
            config.msg_level,
            config.service_id,
            config.fee_user_type,
            config.fee_terminal_id,
            0,
            0,
            1 if header else 0,
            msg_fmt,
            config.msg_src or config.source_addr,
            config.fee_type,
            config.fee_code,
            mainland.write_validity(config.validity, parcel.validity_s, clock.now_s()),
            "",  # at once: when to send is decided before
            parcel.sender.removeprefix("+"),
            (self._write_number(parcel.number),),
            0,
            header + parcel.octets,
        )

    def outcome(self, pdu: fields.Pdu) -> Outcome:
        if not isinstance(pdu, cmpp.SubmitResp):
            return Unsure(f"answered by {type(pdu).__name__}")
        if pdu.bare:
            return Unsure("answered without a body")
        if pdu.result != Result.OK:
            return self._codes.outcome(pdu.result)
        if not pdu.msg_id:
            self.remark = "acks come without Msg_Id: their reports cannot be matched"
            return Ack("", "0")
        return Ack(str(pdu.msg_id), str(pdu.msg_id))

    # reports and inbound

    def hear(self, pdu: fields.Pdu, connection: object, at_s: float) -> Report | Inbound | fields.Pdu | None:
        assert isinstance(pdu, cmpp.Pdu)
        if not isinstance(pdu, cmpp.Deliver):
            return cmpp.respond(pdu, self.dialect, Result.COMMAND)
        slot = (connection, self.dialect.deliver_resp(pdu.sequence_number, msg_id=pdu.msg_id))
        told = cmpp.report(pdu)
        return self._inbound(pdu, slot, at_s) if told is None else self._report(told, pdu, slot, at_s)

    def _report(self, told: cmpp.Report, deliver: cmpp.Deliver, slot: object, at_s: float) -> Report:
        status, cause, code, final = self._codes.of_stat(told.stat)
        number = self._read_number(told.dest or deliver.src_terminal_id)
        # Its own times are often nonsense, so the moment of its coming is what can be relied on.
        upstream_id = str(told.msg_id) if told.msg_id else ""
        return Report(upstream_id, status, cause, code, at_s, (), number, final, slot)

    def _inbound(self, deliver: cmpp.Deliver, slot: object, at_s: float) -> Inbound:
        part = texts.read_udh(deliver.msg_content, bool(deliver.tp_udhi))
        number = self._read_number(deliver.src_terminal_id)
        return mainland.inbound(part, number, deliver.dest_id, deliver.msg_fmt, at_s, slot)


def name(result: int) -> str:
    """Name a Result as people search for it: FLOW (8), or its number alone."""
    return _written(Result(result))


def _written(number: Result | ConnectStatus) -> str:
    return number.name if number.name.isdecimal() else f"{number.name} ({int(number)})"
