"""What every protocol that customers log in with must say, in one vocabulary: Submit in; receipts and texts out.

Pure. Entry points: Tongue (one a protocol), Words (one a session), Submit, Receipt, Origin, Numbers; read_time() and
the other small words that all of them use.
Nothing here knows sockets, the database or which rules a message must pass.
"""

import secrets
from collections.abc import Hashable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from hongyan import clock
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Status
from hongyan.vocab.text import PLAIN, Encoding, Shift
from hongyan.way.notice import InboundEvent
from hongyan.way.snapshot import Login
from hongyan.wire import cmpp, times
from hongyan.wire.fields import Pdu, RemoteProtocolError
from hongyan.wire.session import Dialect

BEIJING: Final = timezone(timedelta(hours=8))  # the clock that these protocols' dates are read by
ON_SUCCESS, ON_FAILURE = 1, 2  # which reports were asked for
ALWAYS: Final = ON_SUCCESS | ON_FAILURE


class Submit(msgspec.Struct, frozen=True):
    """A message, or a part of one, as a customer's system asks for it. Addresses stand as they were written."""

    numbers: tuple[str, ...]
    source: str
    octets: bytes  # without any header
    encoding: Encoding
    shift: Shift = PLAIN
    index: int = 1
    total: int = 1
    reference: int = 0
    width: int = 0  # bits of the reference; 0: there is none
    wanted: int = 0
    validity_s: int | None = None
    send_at: datetime | None = None
    international: bool = False  # the numbers are E.164, said so beside them


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Where a message's reports go back to; sealed with the message, so nobody but the door reads it."""

    source: str
    written: str  # the number as the customer wrote it
    # What each of its submits was answered with, as people write it, in the order of parts.
    ids: tuple[bytes, ...]
    wanted: tuple[int, ...]


class Receipt(msgspec.Struct, frozen=True):
    """What became of one submit."""

    id: bytes
    source: str
    written: str
    status: Status
    cause: Cause
    code: str  # the upstream's own, or a public code where it never left
    submitted_at: datetime
    done_at: datetime
    corrected: bool = False


class Fault(StrEnum):
    """Why somebody is not let in."""

    NAME = "name"  # no such account, or a wrong password: which of them is not told apart
    ADDRESS = "address"  # not from there
    TIME = "time"  # who logs in knows the password, and says that it did so at another time than now
    KIND = "kind"  # a login of a kind that is not for customers
    SUSPENDED = "suspended"
    TOO_MANY = "too many"  # sessions of this account
    BUSY = "busy"  # ask again later


class Verdict(StrEnum):
    """What the customer's system said to a receipt or text."""

    TAKEN = "taken"
    LATER = "later"  # not now: it is told again
    NEVER = "never"  # it will not take it, however often it is told


class Words(Protocol):
    """What is said within one session. Called for every PDU, so it must be quick."""

    def number(self, pdu: Pdu) -> Hashable:
        """Return what a request is called within its session: the same again is the same request."""
        ...

    def read(self, pdu: Pdu) -> Submit | Pdu | None:
        """Read a request: a submit, or what to answer at once to what is none. Raises Refusal for one that cannot be."""
        ...

    def ids(self, pdu: Pdu, count: int, /) -> Sequence[bytes]:
        """Make the ids under which the submits to so many numbers will be reported: printable ASCII."""
        ...

    def taken(self, pdu: Pdu, ids: Sequence[bytes], refused: Sequence[tuple[str, Refusal]]) -> Pdu:
        """Answer a submit that is stored; `refused` are those of its numbers that were not accepted."""
        ...

    def refused(self, pdu: Pdu, refusal: Refusal) -> Pdu: ...

    def receipt(self, receipt: Receipt) -> Pdu: ...

    def texts(self, event: InboundEvent, reference: int) -> Sequence[Pdu]:
        """Write what a person texted back, in as many parts as it takes."""
        ...

    def verdict(self, pdu: Pdu) -> Verdict: ...


class Tongue(Protocol):
    """A protocol at the door."""

    name: str
    dialect: Dialect  # of the login
    inactivity_s: float | None  # after so long without a request a session is over
    numbers_once: bool  # the number of a submit is its id, so another content may not have it
    lists_refused: bool  # an answer can name those of many numbers that were refused

    def account(self, login: Pdu) -> str:
        """Return the name that logs in."""
        ...

    def proves(self, login: Pdu, password: str) -> bool:
        """Say, in constant time, whether who logs in knows the password. Also asked for accounts that do not exist."""
        ...

    def welcome(self, login: Pdu, account: Login) -> tuple[Pdu, Dialect, Words]:
        """Return the answer that lets in, what is spoken from it on, and the words of the session."""
        ...

    def objection(self, login: Pdu, account: Login) -> Fault | None:
        """Say why a login that knows the password is not let in all the same."""
        ...

    def turn_away(self, login: Pdu, fault: Fault, account: Login | None) -> Pdu: ...

    def receives(self, login: Pdu, account: Login) -> bool:
        """Say whether receipts and texts may be given to this session."""
        ...


class Numbers:
    """Numbers for submits, unique in a process within the year; laid out as CMPP wants a Msg_Id [C3 §8.4.3.2]."""

    def __init__(self, door: int) -> None:
        self.door = door
        self._next = secrets.randbits(28)  # a door that starts again within a second must give none twice

    def make(self, count: int = 1) -> int:
        """Return a number: of a group the first of so many in a row, all alike but for their last 16 bits."""
        at = china_now()
        number = self._next
        if (number & 0xFFFF) + count > 1 << 16:
            number = (number | 0xFFFF) + 1
        self._next = number + count
        # Doors are numbered to 999; 12 more bits of the counter than its own 16 keep a second's ids apart.
        return cmpp.make_msg_id(at, (self.door << 12 | number >> 16 & 0xFFF) & 0x3F_FFFF, number & 0xFFFF)


def china_now() -> datetime:
    """Return the time of day that these protocols mean."""
    return datetime.fromtimestamp(clock.now_s(), UTC).astimezone(BEIJING)


def date(at: datetime) -> str:
    """Write a moment as receipts do: YYMMDDhhmm."""
    return f"{at.astimezone(BEIJING):%y%m%d%H%M}"


def read_times(starts: str, ends: str) -> tuple[datetime | None, int | None]:
    """Read when a message shall leave and how many seconds it stays valid, None where nothing is said; raises Refusal."""
    send_at, until = _read_time(starts, "send_at"), _read_time(ends, "validity_s")
    if until is None:
        return send_at, None
    return send_at, int((until - (send_at or datetime.now(UTC))).total_seconds())


def _read_time(written: str, parameter: str) -> datetime | None:
    try:
        at = times.read_time(written)
    except RemoteProtocolError as error:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=parameter, reason=str(error)) from error
    return datetime.now(UTC) + at if isinstance(at, timedelta) else at


def e164(written: str, *, international: bool = False) -> str:
    """Return a number as phone.parse() takes it: mainland mobiles as they are, others with their plus."""
    digits = written.strip().removeprefix("+")
    if digits.startswith("00"):
        return "+" + digits[2:]
    national = (
        len(digits) == 11 and digits.startswith("1") and not international and digits == written.strip()
    )
    return digits if national else "+" + digits


def stat(status: Status, code: str) -> str:
    """Return the word of seven letters that receipts carry; the operator's own where it is one of these."""
    word = code.partition("/")[0] if "/" in code else code
    if status is not Status.DELIVERED and 0 < len(word) <= 7 and word.isascii() and word.isprintable():
        return word
    return _STATS.get(status, "UNKNOWN")


_STATS: Final = {
    Status.DELIVERED: "DELIVRD",
    Status.UNDELIVERED: "UNDELIV",
    Status.EXPIRED: "EXPIRED",
    Status.REFUSED: "REJECTD",
    Status.CANCELLED: "DELETED",
    Status.UNKNOWN: "UNKNOWN",
}
