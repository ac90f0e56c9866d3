"""What an upstream's codes mean for us, and how an account overrules that: answers to a submit, words of a report.

Pure. Entry points: Verdict; Codes, one per account; of_carrier() for the words of mainland operators, which
SMPP providers pass on as well. A kind brings its own table of answers; the words of reports are one table for
all, vocab/carrier_codes.tsv, since vendors copy each other's. Unknown codes are kept and have cause unknown.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from hongyan.channels.channel import Declined, Outcome, Throttled, Unreachable, Unsure
from hongyan.vocab import cause as causes
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status


class Verdict(StrEnum):
    """What follows from an answer that took nothing."""

    THROTTLED = "throttled"  # the channel pauses, then the same parcels go first
    UNREACHABLE = "unreachable"  # not taken; another channel may try
    UNSURE = "unsure"  # may have been taken all the same
    DECLINED = "declined"  # final


Meaning = tuple[Verdict, Cause]

UNEXPLAINED: Meaning = (
    Verdict.DECLINED,
    Cause.UNKNOWN,
)  # vendors have numbers to themselves; the code is kept

# The words of a report's stat, as CMPP and SMGP took them over from SMPP 3.4 appendix B.
STATS: Mapping[str, tuple[Status, Cause]] = {
    "DELIVRD": (Status.DELIVERED, Cause.NONE),
    "DELIVERED": (Status.DELIVERED, Cause.NONE),
    "ACCEPTD": (Status.SUBMITTED, Cause.NONE),
    "ACCEPTED": (Status.SUBMITTED, Cause.NONE),
    "ENROUTE": (Status.SUBMITTED, Cause.NONE),
    "EXPIRED": (Status.EXPIRED, Cause.EXPIRED),
    "DELETED": (Status.UNDELIVERED, Cause.REJECTED),
    "UNDELIV": (Status.UNDELIVERED, Cause.UNREACHABLE),
    "UNDELIVRD": (Status.UNDELIVERED, Cause.UNREACHABLE),
    "REJECTD": (Status.UNDELIVERED, Cause.REJECTED),
    "REJECTED": (Status.UNDELIVERED, Cause.REJECTED),
    "UNKNOWN": (Status.UNKNOWN, Cause.UNKNOWN),
}

# Who failed and its number: MK:0012, CB:7 [CMPP 3.0 §8.4.5.1]. Whatever it means, nothing was delivered.
_COMPONENT = re.compile(r"([A-Z]{2}):([0-9A-Z]{1,4})")


class Told(NamedTuple):
    """What a report says of a part; code is theirs, verbatim."""

    status: Status
    cause: Cause
    code: str
    final: bool


class Codes:
    """The tables of one account: a kind's own, and over them what the account says otherwise."""

    def __init__(
        self,
        answers: Mapping[int, Meaning],
        verdicts: Mapping[int, Verdict],
        overruled: Mapping[str, Cause],
        *,
        name: Callable[[int], str],
        key: Callable[[int], str] = str,
    ) -> None:
        """Take the tables.

        answers: a kind's numbers → what follows · verdicts: the account's over it · overruled: the account's
        causes, by the word of a report or by key(number) of an answer · name: how a number is shown.
        """
        own = {number: (verdict, answers.get(number, UNEXPLAINED)[1]) for number, verdict in verdicts.items()}
        self._answers = {**answers, **own}
        self._overruled = {code.upper(): cause for code, cause in overruled.items()}
        self._name = name
        self._key = key
        # A few dozen combinations make nearly all reports; a vendor's endless error texts stay bounded.
        self.of_stat = lru_cache(maxsize=1024)(self._of_stat)

    def outcome(self, number: int) -> Outcome:
        """Say what follows from the number of an answer that took nothing. A Throttled's wait is not set here."""
        code = self._name(number)
        verdict, cause = self._answers.get(number, UNEXPLAINED)
        match verdict:
            case Verdict.DECLINED:
                return Declined(code, self._overruled.get(self._key(number).upper(), cause))
            case Verdict.THROTTLED:
                return Throttled(0.0, code)
            case Verdict.UNREACHABLE:
                return Unreachable(code)
            case Verdict.UNSURE:
                return Unsure(code)

    def overruled(self, *words: str) -> Cause | None:
        """Return what the account says of the first of these words that it speaks of."""
        for word in words:
            if (cause := self._overruled.get(word.upper())) is not None:
                return cause
        return None

    def _of_stat(self, stat: str, error: str = "") -> Told:
        """Read a stat, and the error some reports have beside it, if that says anything."""
        code = f"{stat}/{error}" if error.strip("0") else stat
        cause = self.overruled(code, error, stat) if error.strip("0") else self.overruled(stat)
        if cause is not None:
            return Told(_failure(cause), cause, code, final=True)
        known = STATS.get(stat.upper())
        if known is not None and known[0] in (Status.DELIVERED, Status.SUBMITTED):
            return Told(*known, code, final=known[0].final)
        for word in (error, stat):
            if word.upper() not in STATS and (told := of_carrier(word)) is not None:
                return told._replace(code=code)
        return Told(*(known or STATS["UNKNOWN"]), code, final=True)


def of_carrier(word: str) -> Told | None:
    """Read a word by the table of carriers' codes; None where nobody has explained it.

    A component's code that is not listed is read by the rule for its component (MK:xxxx), if there is one.
    Bare numbers mean something else at every vendor, so they are not looked up.
    """
    if not word or word.isdecimal():
        return None
    key = word.upper()
    component = _COMPONENT.fullmatch(key)
    row = causes.table().get(key)
    if row is None and component is not None:
        row = causes.table().get(f"{component[1]}:{component[2]:0>4}")
        row = row or causes.table().get(f"{component[1]}:XXXX")
    if row is None:
        unexplained = Told(Status.UNDELIVERED, Cause.UNKNOWN, word, final=True)
        return None if component is None else unexplained
    if row.cause is None:  # under way; what says delivered is a word of STATS
        return Told(Status.SUBMITTED, Cause.NONE, word, final=False)
    return Told(_failure(row.cause), row.cause, word, final=True)


def _failure(cause: Cause) -> Status:
    """Return the final status that goes with a cause; an account that says `none` means delivered."""
    return _STATUSES.get(cause, Status.UNDELIVERED)


_STATUSES = {
    Cause.NONE: Status.DELIVERED,
    Cause.EXPIRED: Status.EXPIRED,
    Cause.UNKNOWN: Status.UNKNOWN,
}
