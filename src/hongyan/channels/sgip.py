"""The kind `sgip`: an account at an SMG of China Unicom, which speaks SGIP 1.2.

Specification: SGIP 1.1 [S11] and 1.3, 2009 [S13]; 1.2 lies between, and all agree on what is said here.
Entry point: Sgip. What can be set is in sgip_config.py, what it shares with CMPP and SMGP in mainland.py, and how
its sessions are kept alive in sessions.py.

Surprises. Connections have a direction: over ours we submit, and the SMG connects to us (listen_host) to report
and to deliver; what it tells over ours is heard as well. Where several processes of one machine hold sessions of
the account, one has the port, and the others keep trying, so that one takes over if it ends. It does not matter
which: a report is matched by its id, whoever sent the part. An id is the sequence number of the Submit, known
when it leaves; its counter begins at random, for two processes may well log in within the second of its stamp.
"""

import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from hongyan import clock
from hongyan.channels import codes, mainland, numbers, session_config, sgip_config
from hongyan.channels.channel import Ack, Declined, Inbound, Outcome, Parcel, Report, Unsure
from hongyan.channels.codes import Codes, Meaning, Told, Verdict
from hongyan.channels.session_config import OWED_SPARE
from hongyan.channels.session_kind import SessionKind
from hongyan.channels.sgip_config import Config
from hongyan.channels.speech import Duty, Reception, Terms
from hongyan.channels.trace import Lens
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.wire import fields, sgip
from hongyan.wire import session as wire
from hongyan.wire.sgip import Result, State

# Who answers with a Result has not taken the message. SMGs say 88 to who is too fast; no document does.
RESULTS: Mapping[int, Meaning] = {
    Result.ILLEGAL_LOGIN: (Verdict.UNREACHABLE, Cause.NETWORK),
    Result.REPEATED_LOGIN: (Verdict.UNREACHABLE, Cause.NETWORK),
    Result.TOO_MANY_CONNECTIONS: (Verdict.UNREACHABLE, Cause.NETWORK),
    Result.LOGIN_TYPE: (Verdict.UNREACHABLE, Cause.NETWORK),
    Result.PARAMETER_FORMAT: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Result.ILLEGAL_NUMBER: (Verdict.DECLINED, Cause.INVALID_NUMBER),
    Result.COMMAND_ID: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Result.LENGTH: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Result.SEQUENCE_NUMBER: (Verdict.UNREACHABLE, Cause.NETWORK),  # the next try has another one
    Result.GNS_OPERATION: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Result.NODE_BUSY: (Verdict.UNREACHABLE, Cause.NETWORK),
    Result.SERVICE_NOT_ASSIGNED: (Verdict.DECLINED, Cause.REJECTED),
    Result.FEE: (Verdict.DECLINED, Cause.REJECTED),
    Result.LINK_ID: (Verdict.DECLINED, Cause.UNSUPPORTED),
    Result.NOT_SUBSCRIBED: (Verdict.DECLINED, Cause.REJECTED),
    Result.ROUTE_ERROR: (Verdict.UNREACHABLE, Cause.NO_ROUTE),
    Result.NO_ROUTE: (Verdict.UNREACHABLE, Cause.NO_ROUTE),
    Result.CHARGE_NUMBER: (Verdict.DECLINED, Cause.REJECTED),
    Result.SYSTEM_FAILURE: (Verdict.UNREACHABLE, Cause.NETWORK),
    Result.QUEUE_FULL: (Verdict.UNREACHABLE, Cause.NETWORK),
    Result.SPEED_LIMIT: (Verdict.THROTTLED, Cause.RATE_LIMITED),
}

# ErrorCode of a report, where vocab/carrier_codes.tsv has no row that tells how SMGs really use it.
ERRORS: Mapping[int, Cause] = {
    Result.ILLEGAL_NUMBER: Cause.INVALID_NUMBER,
    Result.NODE_BUSY: Cause.NETWORK,
    Result.UNREACHABLE: Cause.UNREACHABLE,
    Result.ROUTE_ERROR: Cause.NETWORK,
    Result.NO_ROUTE: Cause.NO_ROUTE,
    Result.CANNOT_COMMUNICATE: Cause.ABSENT,
    Result.MEMORY_FULL: Cause.HANDSET,
    Result.NO_SMS_SUPPORT: Cause.HANDSET,
    Result.RECEIVE_ERROR: Cause.HANDSET,
    Result.UNKNOWN_USER: Cause.INVALID_NUMBER,
    Result.NOT_PROVIDED: Cause.REJECTED,
    Result.ILLEGAL_DEVICE: Cause.HANDSET,
    Result.SYSTEM_FAILURE: Cause.NETWORK,
    Result.QUEUE_FULL: Cause.NETWORK,
    Result.NOTICE_INTERCEPTED: Cause.CONTENT_BLOCKED,
    Result.SPEED_LIMIT: Cause.RATE_LIMITED,
    Result.MONTHLY_REFUSED: Cause.REJECTED,
}


def name(result: int) -> str:
    """Name a Result as people search for it: SPEED_LIMIT (88), or its number alone."""
    written = Result(result).name
    return written if written.isdecimal() else f"{written} ({result})"


class Sgip(SessionKind):
    """One SGIP account (see channel.Channel)."""

    kind: ClassVar[str] = "sgip"
    Config: ClassVar[type[Any]] = sgip_config.Config

    def __init__(self, config: sgip_config.Config) -> None:
        self.config = config
        super().__init__(_terms(config), Tongue(config), config.sessions)
        self._sessions.each = lambda: Tongue(config)

    def cut(self, text: str, counting: texts.Counting) -> Sequence[texts.TextPart]:
        return mainland.cut(text, counting, self.config)


def _terms(config: Config) -> Terms:
    terms = session_config.terms(config)
    limits = replace(terms.limits, inactivity_s=None if config.keep_open else config.idle_s)
    if not config.listen_host:
        return replace(terms, limits=limits)
    theirs = replace(
        sgip.LIMITS,
        owed_max=config.unsettled_max + OWED_SPARE,
        login_wait_s=config.login_wait_s,
        inactivity_s=config.peer_idle_s,
    )

    def admit(login: fields.Pdu) -> tuple[fields.Pdu, bool]:
        return _admit(login, config)

    reception = Reception(host=config.listen_host, port=config.listen_port, limits=theirs, admit=admit)
    return replace(terms, limits=limits, reception=reception)


def _admit(login: fields.Pdu, config: Config) -> tuple[fields.Pdu, bool]:
    """Let in who has the credentials of the SMG, whatever it says it is: some call themselves an SP."""
    assert isinstance(login, sgip.Bind)
    name_fits = hmac.compare_digest(login.login_name.encode(), config.peer_login_name.encode())
    password_fits = hmac.compare_digest(
        login.login_password.encode(), config.peer_login_password.reveal().encode()
    )
    welcome = name_fits and password_fits
    response = sgip.respond(login, Result.OK if welcome else Result.ILLEGAL_LOGIN)
    assert response is not None
    return response, welcome


# ── sequence numbers ─────────────────────────────────────────────────────────────────────────────────

_COUNTERS = sgip.SEQUENCE_NUMBER_MAX + 1


def _dialect(node: int, stamp: int, first: int) -> wire.Dialect:
    """Return the protocol with counters that begin behind `first`; the session counts from 1 as ever."""
    plain = sgip.dialect(node, stamp, allows=_tells)

    def encode(pdu: fields.Pdu, number: int | None) -> bytes:
        return plain.encode(pdu, None if number is None else (number + first) % _COUNTERS)

    def decode(frame: bytes) -> fields.Pdu:
        pdu = plain.decode(frame)
        if not isinstance(pdu, sgip.Response):
            return pdu
        return msgspec.structs.replace(pdu, sequence_number=(pdu.sequence_number - first) % _COUNTERS)

    return replace(plain, encode=encode, decode=decode)


def _tells(_login: fields.Pdu, request: fields.Pdu) -> bool:
    """Whoever has logged in at our address may tell us something, and ask for nothing."""
    return isinstance(request, sgip.Deliver | sgip.Report | sgip.UserRpt)


class Tongue:
    """What this account says and understands over one connection: a speech.Speech."""

    lens = Lens(
        numbers=frozenset({"charge_number", "user_number", "user_numbers"}),
        ids=frozenset({"submit_sequence_number"}),
    )

    def __init__(self, config: Config) -> None:
        """Raises ValueError for a verdict whose Result is no number."""
        self.remark = ""
        self._config = config
        self._node = config.source_node()
        self._stamp = sgip.stamp_of(mainland.china(clock.now_s()))
        self._first = secrets.randbelow(_COUNTERS)
        self.dialect = _dialect(self._node, self._stamp, self._first)
        self._write_number = numbers.writer(config.number_form, config.country_code)
        self._read_number = numbers.reader(config.country_code)
        verdicts = {int(result): verdict for result, verdict in config.verdicts.items()}
        self._codes = Codes(RESULTS, verdicts, config.causes, name=name)

    def login(self, duty: Duty) -> sgip.Bind:  # noqa: ARG002 - over ours we submit, and hear what comes
        config = self._config
        return sgip.Bind(login_name=config.login_name, login_password=config.login_password.reveal())

    def welcomed(self, login: fields.Pdu, response: fields.Pdu) -> str:  # noqa: ARG002 - nothing is proved
        return ""

    def refusal(self, pdu: fields.Pdu) -> str:
        said = "no result" if not isinstance(pdu, sgip.BindResp) or pdu.bare else name(pdu.result)
        return f"login refused: {said}"

    # submit

    def put(self, parcel: Parcel) -> sgip.Submit | Declined:
        config = self._config
        coding = mainland.FORMATS.get(parcel.encoding)
        if coding is None:
            return Declined("MessageCoding", Cause.UNSUPPORTED)
        header = mainland.write_udh(parcel, config.split) if parcel.part_count > 1 else b""
        return sgip.Submit(
            0,  # positional, in the order of the table: by name it takes twice as long
            0,  # node and stamp are the connection's
            0,
            parcel.sender.removeprefix("+"),
            config.charge_number,
            (self._write_number(parcel.number),),
            config.corp_id,
            config.service_type,
            config.fee_type,
            config.fee_value,
            config.given_value,
            config.agent_flag,
            config.more_late_to_mt_flag,
            config.priority,
            mainland.write_validity(config.validity, parcel.validity_s, clock.now_s()),
            "",  # at once: when to send is decided before
            config.report_flag,
            0,
            1 if header else 0,
            coding,
            0,
            header + parcel.octets,
        )

    # answers

    def outcome(self, pdu: fields.Pdu) -> Outcome:
        if not isinstance(pdu, sgip.SubmitResp) or pdu.bare:
            return Unsure(f"answered by {type(pdu).__name__} without a result")
        if pdu.result != Result.OK:
            return self._codes.outcome(pdu.result)
        # As we have sent it: an SMG need not repeat more than the counter for us.
        counter = (pdu.sequence_number + self._first) % _COUNTERS
        upstream_id = sgip.SequenceNumber(self._node, self._stamp, counter).hex
        return Ack(upstream_id, upstream_id)

    # reports and inbound

    def hear(self, pdu: fields.Pdu, connection: object, at_s: float) -> Report | Inbound | fields.Pdu | None:
        assert isinstance(pdu, sgip.Pdu)
        if isinstance(pdu, sgip.Report) and pdu.report_type == 0:
            return self._report(pdu, (connection, sgip.respond(pdu)), at_s)
        if isinstance(pdu, sgip.Deliver):
            return self._inbound(pdu, (connection, sgip.respond(pdu)), at_s)
        if isinstance(pdu, sgip.Report | sgip.UserRpt):
            return sgip.respond(pdu)  # of a Deliver, or of a person's standing: nothing of ours depends on it
        return sgip.respond(pdu, Result.COMMAND_ID)

    def _report(self, report: sgip.Report, slot: object, at_s: float) -> Report:
        receipt = sgip.receipt(report)
        told = self._told(receipt)
        number = self._read_number(receipt.user_number)
        return Report(
            receipt.message_id, told.status, told.cause, told.code, at_s, (), number, told.final, slot
        )

    def _told(self, receipt: sgip.Receipt) -> Told:
        """Read a state; a failure is named by its ErrorCode, as vocab/carrier_codes.tsv writes it."""
        error = int(receipt.error)
        code = f"SGIP:{error}"
        if receipt.state == State.DELIVERED:
            return Told(Status.DELIVERED, Cause.NONE, code, final=True)
        if not receipt.state.final:
            return Told(Status.SUBMITTED, Cause.NONE, receipt.state.name, final=False)
        cause = self._codes.overruled(code, str(error))
        if cause is None and (known := codes.of_carrier(code)) is not None:
            return known
        cause = cause or ERRORS.get(error, Cause.UNKNOWN)
        failed = Status.EXPIRED if cause is Cause.EXPIRED else Status.UNDELIVERED
        return Told(Status.DELIVERED if cause is Cause.NONE else failed, cause, code, final=True)

    def _inbound(self, deliver: sgip.Deliver, slot: object, at_s: float) -> Inbound:
        part = texts.read_udh(deliver.message_content, bool(deliver.tp_udhi))
        number = self._read_number(deliver.user_number)
        return mainland.inbound(part, number, deliver.sp_number, deliver.message_coding, at_s, slot)
