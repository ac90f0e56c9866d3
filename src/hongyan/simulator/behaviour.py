"""How the practice operator behaves: one frozen Behaviour, its one-line grammar, and the numbers that differ.

Writes nothing; pure. Entry points: parse() for "key=value key=value", described() for help texts, and Table,
which says what holds for one destination: base behaviour, then the sandbox's magic endings, then the number
rules, the later the stronger. Only knobs marked `by_number` may differ by number: the others speak of a
session, which does not know whom it will be asked to reach.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import lru_cache
from random import Random
from typing import Any, Final, NamedTuple, Self

from hongyan.vocab.text import Encoding, Split

RULES_MAX: Final = 1_000  # number rules in one table; each costs a look at numbers nobody asked about before


class BehaviourError(ValueError):
    """A behaviour that cannot be meant; the text names the knob and what it takes."""


class State(StrEnum):
    """What becomes of a part, in the words receipts use (SMPP 3.4 appendix B)."""

    ENROUTE = "ENROUTE"  # on its way; not final
    DELIVRD = "DELIVRD"  # the handset has it
    EXPIRED = "EXPIRED"  # its validity passed before the handset was found
    DELETED = "DELETED"  # taken back
    UNDELIV = "UNDELIV"  # the network says no
    ACCEPTD = "ACCEPTD"  # read by somebody on the subscriber's behalf; some operators use it as "in hand"
    UNKNOWN = "UNKNOWN"  # the operator cannot tell
    REJECTD = "REJECTD"  # the operator says no

    @property
    def final(self) -> bool:
        return self not in (State.ENROUTE, State.ACCEPTD)


class IdForm(StrEnum):
    """How an SMPP id is written. Operators write it one way in the ack and another in the report."""

    DECIMAL = "decimal"
    PADDED = "padded"  # decimal with leading zeros, twelve digits
    HEX = "hex"
    HEX_PADDED = "hex_padded"  # ten digits
    HEX_UPPER = "hex_upper"
    UUID = "uuid"
    EMPTY = "empty"  # no report can ever be matched


class Protocol(StrEnum):
    """What a door of the operator speaks."""

    SMPP = "smpp"  # 3.4
    CMPP = "cmpp"  # 2.0, 2.1 and 3.0, China Mobile
    SGIP = "sgip"  # 1.2, China Unicom
    SMGP = "smgp"  # 3.0 and its older layout 1.3, China Telecom


class CmppVersion(StrEnum):
    """Which layout a CMPP session speaks from the login response on."""

    ASKED = "asked"  # what the client's version byte asks for
    V2 = "2.0"  # whatever it asks for, as gateways do that go by the account
    V3 = "3.0"


class SmgpReceipt(StrEnum):
    """How an SMGP report is laid out; gateways in the field keep to the document in the id only."""

    STANDARD = "standard"  # submit date: … text:, 122 octets
    CAPITALS = "capitals"  # Submit date: … Text:
    UNDERSCORES = "underscores"  # submit_date: … txt:
    GLUED = "glued"  # no blank behind the id
    S_BETWEEN = "s_between"  # an s where a blank ought to stand
    SHORT = "short"  # nothing behind err


class Receipt(StrEnum):
    """How an SMPP report's text is written. The specification gives a typical form only (3.4 appendix B)."""

    STANDARD = "standard"
    SHORT = "short"  # without sub, dlvrd and text
    SECONDS = "seconds"  # dates as YYMMDDhhmmss
    SMPP_TIME = "smpp_time"  # dates in sixteen characters
    UNPADDED = "unpadded"  # sub:1 dlvrd:1 err:0
    SHOUTED = "shouted"  # keys in capitals, other order
    TLVS = "tlvs"  # no text at all, parameters only
    UCS2 = "ucs2"  # the standard text, in UCS-2
    MISLABELLED = "mislabelled"  # ASCII octets under the data coding of UCS-2


class ReportParts(StrEnum):
    """Which parts of a long text are reported on."""

    ALL = "all"
    FIRST = "first"
    LAST = "last"


class CodePlace(StrEnum):
    """Where in a receipt the operator's own code stands."""

    ERR = "err"  # stat:UNDELIV err:MK:0001
    STAT = "stat"  # stat:MK:0001 err:000


class Magic(StrEnum):
    """For whom the last two digits choose the outcome."""

    NONE = "none"
    SANDBOX = "sandbox"  # 19900000000 … 19900000099 only
    ALL = "all"  # every number


class Span(NamedTuple):
    """A duration in seconds, drawn evenly between two bounds."""

    low_s: float
    high_s: float

    def draw(self, chance: Random) -> float:
        low_s, high_s = self
        return low_s if low_s == high_s else chance.uniform(low_s, high_s)

    @classmethod
    def read(cls, words: str) -> Self:
        """Read "0.5" or "0.5..2"."""
        low, _, high = words.partition("..")
        span = cls(float(low), float(high or low))
        if not 0 <= span.low_s <= span.high_s:
            raise ValueError("must rise from zero or above")
        return span

    def __str__(self) -> str:
        return f"{self.low_s:g}" if self.low_s == self.high_s else f"{self.low_s:g}..{self.high_s:g}"


def _knob(doc: str) -> dict[str, object]:
    return {"doc": doc, "by_number": True}


def _session_knob(doc: str) -> dict[str, object]:
    return {"doc": doc, "by_number": False}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Everything the operator can be asked to do well or badly. Shares are probabilities from 0 to 1."""

    # The ack
    ack_delay_s: Span = field(
        default=Span(0, 0), metadata=_knob("how long the operator thinks before it answers a submit")
    )
    ack_loss_share: float = field(default=0.0, metadata=_knob("submits that are taken and never answered"))
    ack_id: IdForm = field(
        default=IdForm.DECIMAL,
        metadata=_knob("how the ack writes the id; but for SMPP, only empty makes a difference"),
    )
    refuse_status: int = field(
        default=0, metadata=_knob("status that refuses a submit, in the protocol's numbers; 0 refuses none")
    )
    refuse_share: float = field(default=1.0, metadata=_knob("submits that get refuse_status"))

    # Limits, for the whole operator
    parts_per_s_max: float = field(
        default=0.0, metadata=_session_knob("parts taken in a second; beyond it throttle_status; 0: no limit")
    )
    throttle_status: int = field(
        default=0,
        metadata=_session_knob(
            "status above parts_per_s_max; 0: the protocol's own: SMPP 0x58, CMPP 8, SGIP 88, SMGP 1"
        ),
    )
    queue_parts_max: int = field(
        default=0,
        metadata=_session_knob(
            "parts taken and not yet final; beyond it SMPP 0x14, CMPP 8, SGIP 11, SMGP 1; 0: no limit"
        ),
    )
    owed_acks_max: int = field(
        default=0,
        metadata=_session_knob("submits of one session unanswered; one more is refused as busy; 0: no limit"),
    )

    # What becomes of a part
    state: State = field(default=State.DELIVRD, metadata=_knob("what becomes of a part"))
    err: str = field(default="000", metadata=_knob("the operator's own code for it, as 000 or MK:0001"))
    code_place: CodePlace = field(
        default=CodePlace.ERR,
        metadata=_knob("where the receipt of SMPP or SMGP carries the operator's own code"),
    )
    fail_share: float = field(default=0.0, metadata=_knob("parts that end as UNDELIV with fail_err instead"))
    fail_err: str = field(default="MK:0004", metadata=_knob("the operator's own code for those"))

    # The report
    report_delay_s: Span = field(default=Span(0.05, 0.05), metadata=_knob("from the submit to the report"))
    late_share: float = field(default=0.0, metadata=_knob("reports that take late_delay_s instead"))
    late_delay_s: Span = field(default=Span(30, 30), metadata=_knob("how long late reports take"))
    report_loss_share: float = field(
        default=0.0, metadata=_knob("reports that never leave though the part has its fate")
    )
    early_share: float = field(
        default=0.0, metadata=_knob("reports that overtake their ack: it follows them by ack_delay_s")
    )
    report_copies: int = field(default=1, metadata=_knob("how often each report is sent, at least once"))
    copy_gap_s: float = field(default=0.0, metadata=_knob("between the copies of a report"))
    intermediate: tuple[State, ...] = field(
        default=(), metadata=_knob("states reported on the way, as ENROUTE,ACCEPTD")
    )
    intermediate_flagged: bool = field(
        default=False,
        metadata=_knob("intermediate reports say so (esm_class 0x20) instead of passing as receipts (0x04)"),
    )
    report_parts: ReportParts = field(
        default=ReportParts.ALL, metadata=_knob("which parts of a long text are reported on")
    )
    report_id: IdForm = field(
        default=IdForm.DECIMAL, metadata=_knob("how the report writes the id; as ack_id")
    )
    receipt: Receipt = field(default=Receipt.STANDARD, metadata=_knob("how an SMPP report's text is written"))
    receipt_tlvs: bool = field(
        default=True, metadata=_knob("SMPP reports carry receipted_message_id and message_state")
    )
    receipt_offset_s: int = field(
        default=28_800, metadata=_knob("the operator's clock, seconds ahead of UTC, for dates in receipts")
    )

    # The handset
    reply: str = field(
        default="", metadata=_knob("what the handset answers once it has the whole text; empty: nothing")
    )
    reply_delay_s: Span = field(default=Span(0, 0), metadata=_knob("from delivery to the answer"))
    reply_encoding: Encoding | None = field(
        default=None, metadata=_knob("gsm7, ucs2, gbk … for the answer; none: as the text needs")
    )
    reply_split: Split = field(
        default=Split.UDH8, metadata=_knob("how a long answer is cut: udh8, udh16, sar, payload")
    )
    forge: str = field(
        default="",
        metadata=_knob("state that the handset claims in a text written like a receipt; empty: none"),
    )

    # The session
    system_id: str = field(default="", metadata=_session_knob("the only account that may log in; empty: any"))
    password: str = field(default="", metadata=_session_knob("its password or secret; empty: any"))
    proof_junk: bool = field(
        default=False,
        metadata=_session_knob("the login response proves nothing: CMPP and SMGP authenticators are junk"),
    )
    bind_status: int = field(default=0, metadata=_session_knob("status that refuses logins; 0 refuses none"))
    bind_refusals_max: int = field(
        default=0,
        metadata=_session_knob("logins refused before bind_status is forgotten; 0: never forgotten"),
    )
    sessions_max: int = field(
        default=0,
        metadata=_session_knob(
            "sessions of one account at once; one more is refused: SMPP 0x0D, CMPP 5, SGIP 3, SMGP 2; 0: no limit"
        ),
    )
    disconnect_after_submits: int = field(
        default=0, metadata=_session_knob("a session breaks right after so many submits; 0: never")
    )
    disconnect_after_s: float = field(
        default=0.0, metadata=_session_knob("a session breaks after so long; 0: never")
    )
    logout_after_s: float = field(
        default=0.0,
        metadata=_session_knob("the operator itself logs a session out after so long; 0: never"),
    )
    silent: bool = field(
        default=False,
        metadata=_session_knob("connections are accepted and read, and nothing is ever answered"),
    )
    silent_after_submits: int = field(
        default=0, metadata=_session_knob("a session falls silent after so many submits; 0: never")
    )
    read_pause_s: float = field(
        default=0.0,
        metadata=_session_knob("a connection is left unread so long after each read, so that it fills up"),
    )
    enquire_link_answered: bool = field(
        default=True, metadata=_session_knob("the client's heartbeat is answered")
    )
    heartbeat_echoed: bool = field(
        default=False,
        metadata=_session_knob("the client's heartbeat is answered by a heartbeat, not by its response"),
    )
    enquire_link_s: float = field(
        default=0.0, metadata=_session_knob("how often the operator sends its own heartbeat; 0: never")
    )
    window_max: int = field(
        default=0,
        metadata=_session_knob(
            "reports and texts on their way in one session, more wait; "
            "0: the protocol's own: SMPP 100, CMPP and SMGP 16, SGIP 32"
        ),
    )

    # Unanswered reports
    resend_after_s: float = field(
        default=30.0, metadata=_session_knob("a report unanswered or put off for so long is sent again")
    )
    tries_max: int = field(
        default=10, metadata=_session_knob("how often a report or inbound text is tried at all")
    )

    # What one protocol alone knows
    cmpp_version: CmppVersion = field(
        default=CmppVersion.ASKED, metadata=_session_knob("layout of CMPP sessions: asked, 2.0 or 3.0")
    )
    cmpp_short_reports: bool = field(
        default=False, metadata=_knob("status reports have the 60 octets of 2.x in 3.0, too")
    )
    smgp_receipt: SmgpReceipt = field(
        default=SmgpReceipt.STANDARD, metadata=_knob("how an SMGP report is laid out")
    )
    smgp_raw_ids: bool = field(
        default=False, metadata=_session_knob("SMGP ids are no BCD: any octets, NULs among them")
    )
    sgip_sp: str = field(
        default="",
        metadata=_session_knob(
            "host:port where the SP listens: reports and texts go there, on connections that the operator "
            "opens; empty: they go on the SP's own"
        ),
    )
    sgip_sp_name: str = field(
        default="", metadata=_session_knob("login name there; empty: the one the SP logs in with")
    )
    sgip_sp_password: str = field(
        default="", metadata=_session_knob("login password there; empty: that of password")
    )
    sgip_idle_s: float = field(
        default=60.0, metadata=_session_knob("SGIP connections are closed after so long idle; 0: never")
    )

    # Numbers
    magic: Magic = field(
        default=Magic.SANDBOX, metadata=_session_knob("for whom the last two digits choose the outcome")
    )


def parse(words: str, base: Behaviour | None = None) -> Behaviour:
    """Read "key=value key=value" over base (default: a well-behaved operator); quotes hold blanks together.

    Raises BehaviourError naming the knob.
    """
    return replace(base or Behaviour(), **_read_changes(words, by_number=False))


def described() -> list[tuple[str, str, str]]:
    """List every knob as (name, default in parse()'s words, what it does)."""
    default = Behaviour()
    return [
        (knob.name, _written(getattr(default, knob.name)), knob.metadata["doc"]) for knob in fields(Behaviour)
    ]


class Rule(NamedTuple):
    """Numbers that fit `pattern` (* any digits, ? one digit) and the knobs that differ for them."""

    pattern: str
    changes: Mapping[str, object]

    @classmethod
    def read(cls, words: str) -> Self:
        """Read "1381234*: state=UNDELIV err=MK:0001". Raises BehaviourError."""
        pattern, colon, changes = words.partition(":")
        pattern = pattern.strip()
        if not colon or not re.fullmatch(r"\+?[\d?*]+", pattern):
            raise BehaviourError(f"{words!r}: say PATTERN: key=value …, the pattern of digits, ? and *")
        return cls(pattern, _read_changes(changes, by_number=True))


class Table:
    """What holds for a destination. Rules are asked in order, the first that fits counts."""

    def __init__(self, base: Behaviour, rules: Iterable[Rule] = ()) -> None:
        self.base = base
        rules = tuple(rules)
        if len(rules) > RULES_MAX:
            raise BehaviourError(f"{len(rules)} number rules, at most {RULES_MAX}")
        self._rules = [(_expression(rule.pattern), rule.changes) for rule in rules]
        self._everywhere = base.magic is Magic.ALL
        self._magical = base.magic is not Magic.NONE
        self._magic = {ending: replace(base, **changes) for ending, changes in MAGIC.items()}
        self.has_rules = bool(self._rules)  # else numbers change only what is decided at the submit
        # Rules are few and numbers come again and again (parts, retries), so answers are kept.
        self._by_rule: Callable[[str], Behaviour] = lru_cache(maxsize=10_000)(self._find)

    def behaviour(self, number: str) -> Behaviour:
        """Return the behaviour towards a number in the form of plain_number()."""
        if self.has_rules:
            return self._by_rule(number)
        return self._before_rules(number)

    def _before_rules(self, number: str) -> Behaviour:
        if self._everywhere or (self._magical and number.startswith(SANDBOX_PREFIX) and len(number) == 11):
            return self._magic.get(number[-2:], self.base)
        return self.base

    def _find(self, number: str) -> Behaviour:
        base = self._before_rules(number)
        for expression, changes in self._rules:
            if expression.fullmatch(number):
                return replace(base, **changes)  # type: ignore[arg-type]  # _read gave each its own type
        return base


SANDBOX_PREFIX: Final = "199000000"  # a range no operator has given out
MAGIC: Final[Mapping[str, Mapping[str, Any]]] = {
    "00": {"state": State.DELIVRD},
    "01": {"state": State.UNDELIV, "err": "MK:0001"},  # 空号
    "02": {"state": State.UNDELIV, "err": "MK:0004"},  # 停机
    "03": {"state": State.UNDELIV, "err": "MK:0024"},  # 关机
    "04": {"state": State.UNDELIV, "err": "DB:0141"},  # 黑名单
    "05": {"state": State.REJECTD, "err": "ID:0076"},  # 关键字
    "06": {"state": State.EXPIRED},
    "07": {"report_loss_share": 1.0},
    "08": {"report_delay_s": Span(30, 30)},
    "09": {"reply": "R"},
}


def plain_number(number: str) -> str:
    """Write a number the one way the simulator keeps it: digits, mainland mobiles without 86."""
    digits = number.removeprefix("+")
    if len(digits) == 13 and digits.startswith("861"):
        return digits[2:]
    return digits


# ---- parts of the above


def _expression(pattern: str) -> re.Pattern[str]:
    digits = pattern.removeprefix("+")
    if digits.startswith("861"):  # +86 1…: numbers are kept without it
        digits = digits[2:]
    return re.compile(digits.replace("*", r"\d*").replace("?", r"\d"))


def _read_changes(words: str, *, by_number: bool) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    try:
        pairs = shlex.split(words)
    except ValueError as error:
        raise BehaviourError(f"{words!r}: {error}") from error
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BehaviourError(f"{pair!r}: say key=value")
        if name not in _READERS:
            raise BehaviourError(f"there is no {name!r}; known are {', '.join(sorted(_READERS))}")
        if by_number and name in _SESSION_KNOBS:
            raise BehaviourError(f"{name} speaks of sessions and cannot differ by number")
        changes[name] = _read(name, value)
    return changes


def _read(name: str, value: str) -> object:
    try:
        return _READERS[name](value)
    except ValueError as error:
        raise BehaviourError(f"{name}={value}: {error}") from error


_WORDS: Final = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False}


def _read_bool(value: str) -> bool:
    if value.lower() not in {*_WORDS, "0"}:
        raise ValueError("say yes or no")
    return _WORDS.get(value.lower(), False)


def _read_count(value: str) -> int:
    count = int(value, 0)  # statuses are written 0x58
    if count < 0:
        raise ValueError("must not be negative")
    return count


def _read_amount(value: str) -> float:
    amount = float(value)
    if not 0 <= amount < float("inf"):
        raise ValueError("must be zero or above")
    return amount


def _read_share(value: str) -> float:
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError("must be between 0 and 1")
    return share


def _read_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if value and not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise ValueError("say host:port")
    return value


def _read_states(value: str) -> tuple[State, ...]:
    return tuple(State(word) for word in value.split(",") if word)


def _read_encoding(value: str) -> Encoding | None:
    return None if value == "none" else Encoding(value)


def _reader(name: str, default: object) -> Callable[[str], object]:
    if name == "intermediate":
        return _read_states
    if name == "reply_encoding":
        return _read_encoding
    if name == "sgip_sp":
        return _read_address
    if isinstance(default, Span):
        return Span.read
    if isinstance(default, StrEnum):
        return type(default)
    if isinstance(default, bool):
        return _read_bool
    if isinstance(default, int):
        return int if name == "receipt_offset_s" else _read_count
    if isinstance(default, float):
        return _read_share if name.endswith("_share") else _read_amount
    return str


_READERS: Final = {knob.name: _reader(knob.name, knob.default) for knob in fields(Behaviour)}
_SESSION_KNOBS: Final = frozenset(knob.name for knob in fields(Behaviour) if not knob.metadata["by_number"])


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and not isinstance(value, Span):
        return ",".join(value)
    return "none" if value is None else str(value)
