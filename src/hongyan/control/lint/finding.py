"""What the linter says and what it says it about: Finding, Rule, Subject.

Writes nothing; pure. Spans are [start, end) in characters (code points) of the body as it was written.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final, NamedTuple

import msgspec

from hongyan.vocab import text, wording
from hongyan.vocab.message import Purpose
from hongyan.vocab.plain import SIMPLIFIED, noise
from hongyan.vocab.wording import Compiled, Variable

FILLED: Final = "\ufffc"  # stands where a variable stands, so that nothing is found inside its name
HAN: Final = re.compile(r"[\u3400-\u9fff]")
HIDDEN: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\u3164\ufe0e\ufeff\uffa0]"
)


class FindingLevel(StrEnum):
    """What follows from a finding."""

    ERROR = "error"  # cannot be handed in
    WARNING = "warning"  # a reviewer or an upstream may refuse it
    ADVICE = "advice"  # would be better otherwise


STRICTNESS: Final = {FindingLevel.ADVICE: 0, FindingLevel.WARNING: 1, FindingLevel.ERROR: 2}


class Place(StrEnum):
    """Where a text goes to; the field has other rules in each."""

    MAINLAND = "mainland"
    INTERNATIONAL = "international"

    @property
    def counting(self) -> text.Counting:
        return text.Counting.MAINLAND if self is Place.MAINLAND else text.Counting.INTERNATIONAL


PLACES: Final[Mapping[str, Sequence[Place]]] = {
    "mainland": (Place.MAINLAND,),
    "international": (Place.INTERNATIONAL,),
    "any": (Place.MAINLAND, Place.INTERNATIONAL),
}


class Finding(msgspec.Struct, frozen=True):
    """One thing the linter has to say. `suggestion` in place of [start, end) would mend it; null: no rewrite known."""

    rule: str
    level: FindingLevel
    start: int
    end: int
    zh: str
    en: str
    suggestion: str | None
    source: str
    seen: str  # the day the source was read, ISO 8601
    provider: str = ""  # a kind of channel whose provider alone demands it; "": a rule of everybody's


class Source(NamedTuple):
    """Where a rule is from, and the day it was read there."""

    title: str
    seen: str


class Hit(NamedTuple):
    """Where a rule found something, with words for its message."""

    start: int
    end: int
    words: Mapping[str, object] = {}
    suggestion: str | None = None


class PlaceMark(NamedTuple):
    """Where a variable stands."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Subject:
    """A text that is looked at, and what all rules want to know of it."""

    body: str
    purpose: Purpose
    signature: str
    variables: Mapping[str, Variable]

    @cached_property
    def marks(self) -> Sequence[PlaceMark]:
        return [PlaceMark(found[1], *found.span()) for found in wording.PLACE.finditer(self.body)]

    @cached_property
    def compiled(self) -> Compiled:
        return wording.compile_body(self.body, msgspec.json.encode(self.variables).decode())

    @cached_property
    def bare(self) -> str:
        """The body with FILLED for each character of a variable: spans in it are spans in the body."""
        return wording.PLACE.sub(lambda found: FILLED * len(found[0]), self.body)

    @cached_property
    def plain(self) -> tuple[str, Sequence[int]]:
        """`bare` as it is read: nothing hidden, full width and traditional characters made plain; and where each stands.

        So neither hides a word from a rule. Characters that NFKC makes several of stay as they are.
        """
        kept = [(at, one) for at, one in enumerate(self.bare) if one == FILLED or HIDDEN.match(one) is None]
        return "".join(_plain(one) for _, one in kept), [at for at, _ in kept]

    @cached_property
    def readings(self) -> Sequence[tuple[str, Sequence[int]]]:
        """`plain`, and where there is noise between its Chinese characters ('优.惠') also what is read without it."""
        written, places = self.plain
        gone: set[int] = set()
        first = 0
        for between in written.split(FILLED):  # a variable is no noise
            gone.update(at for start, end in noise(between) for at in range(first + start, first + end))
            first += len(between) + 1
        if not gone:
            return [(written, places)]
        kept = [at for at in range(len(written)) if at not in gone]
        return [(written, places), ("".join(written[at] for at in kept), [places[at] for at in kept])]

    def find(self, pattern: re.Pattern[str]) -> Iterator[tuple[int, int, str]]:
        """Search the text as it is read; spans are those of the body."""
        told: list[tuple[int, int]] = []
        for written, places in self.readings:
            for found in pattern.finditer(written):
                if found.end() > found.start():
                    start, end = places[found.start()], places[found.end() - 1] + 1
                    if not any(start < other_end and other_start < end for other_start, other_end in told):
                        told.append((start, end))
                        yield start, end, found[0]

    def says(self, pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(written) is not None for written, _ in self.readings)

    @cached_property
    def chinese(self) -> bool:
        return HAN.search(self.bare) is not None

    def kind_of(self, name: str) -> str:
        rule = self.variables.get(name)
        return rule.kind if rule is not None else "other"


def _plain(character: str) -> str:
    if character.isascii() or character == FILLED:
        return character
    narrow = unicodedata.normalize("NFKC", character)
    return SIMPLIFIED.get(character, narrow if len(narrow) == 1 else character)


Levels = Mapping[tuple[Purpose, Place], FindingLevel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: what it says in both languages, how serious it is for whom, where it is from, and how it is found."""

    id: str
    zh: str  # with {names} of the words of a hit
    en: str
    source: Source
    levels: Levels
    find: Callable[[Subject, Place], Iterable[Hit]]
    provider: str = ""

    def finding(self, hit: Hit, level: FindingLevel) -> Finding:
        return Finding(
            rule=self.id,
            level=level,
            start=hit.start,
            end=hit.end,
            zh=self.zh.format(**hit.words),
            en=self.en.format(**hit.words),
            suggestion=hit.suggestion,
            source=self.source.title,
            seen=self.source.seen,
            provider=self.provider,
        )


def levels(
    mainland: FindingLevel | None = None,
    international: FindingLevel | None = None,
    purposes: Iterable[Purpose] = tuple(Purpose),
) -> Levels:
    """Write down how serious a rule is in each place, the same for these purposes; None: it does not speak there."""
    found = {}
    for purpose in purposes:
        if mainland is not None:
            found[purpose, Place.MAINLAND] = mainland
        if international is not None:
            found[purpose, Place.INTERNATIONAL] = international
    return found
