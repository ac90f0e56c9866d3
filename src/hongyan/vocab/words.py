"""Find the words of lists in a text, however they are dressed up, and say where.

Pure. Entry points: Words.check() for a text on its way, Words.check_template() for one under review, Words.shuts() for
a channel with a list of its own; a list becomes a Sought, and those of one owner a Scope. Texts and words are compared
in their plain form (plain.py). An allowed word covers what lies inside it: 装 is not found in 女装 where 女装 is allowed.

Surprises. The allow-lists are asked last, because most texts hold no word at all; what they cover is the same as if
they came first. A tenant's own allow-list counts only against its own words, else it would open the platform's
lists; one that the platform gave it (`grants`) counts against all. The words that we ship as usual cover only what is
shorter than they are: a list may name them.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from importlib import resources
from itertools import islice
from typing import Final, NamedTuple

import ahocorasick_rs
import msgspec

from hongyan.vocab.message import ChannelId, TenantId
from hongyan.vocab.plain import READ_ANEW, places, plain

WORD_CHARACTERS_MAX: Final = 64
HITS_MAX: Final = 20  # told of one text; nobody reads more
SHORT_WORDS: Final = 2_000  # a list of no more is sought together with the other short ones
PART_WORDS_MAX: Final = 10_000  # building an automaton of so many stops the process for some 20 ms
PART_WORDS_MIN: Final = 1_000  # what is left of one that words were taken out of joins the next


class Level(StrEnum):
    """What follows from a word."""

    BLOCK = "block"  # the message is refused
    HOLD = "hold"  # a person decides about it
    WARN = "warn"  # said to whoever writes or reviews a template; messages pass


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a list where its words are sought."""

    id: int
    name: str
    level: Level = Level.BLOCK
    tag: str = ""
    tenant_id: TenantId | None = None  # none: the platform's
    channel_id: ChannelId | None = None
    allows: bool = False
    grants: bool = False  # an allow-list of a tenant, from the platform


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A word that was found."""

    start: int  # in the raw text
    end: int
    text: str  # what stands there
    word: str  # as the list has it
    list_id: int
    list: str
    level: Level
    tag: str


_Lists = Sequence[tuple[Listed, Mapping[str, str]]]  # each with its words, as written, by what is sought


class _Found(NamedTuple):
    """A word in the plain text."""

    start: int
    end: int
    word: str
    listed: Listed


class _Part(NamedTuple):
    """Words in their order, and what finds them: (which, start, end)."""

    words: Sequence[str]
    find: Callable[..., Sequence[tuple[int, int, int]]]


class Sought:
    """The words of one list, ready to be sought. A long list takes long: make it in a thread.

    Of a list `before` it was changed, parts in which no word changed are taken as they are.
    """

    def __init__(self, lines: Iterable[str], before: "Sought | None" = None) -> None:
        """Take words in their plain form, or as 'plain TAB as written' where that differs. Quickest in order."""
        self.words = _read(lines)  # as written, by what is sought
        known = () if before is None else before.parts
        self.parts: Sequence[_Part] = _parts(self.words, known) if len(self.words) > SHORT_WORDS else ()


def _read(lines: Iterable[str]) -> Mapping[str, str]:
    words: dict[str, str] = {}
    odd: dict[str, str] = {}
    left = iter(lines)
    while some := list(islice(left, PART_WORDS_MAX)):  # others have their turn between
        words.update(zip(some, some, strict=True))
        for line in filter(_ODD, some):
            words.pop(line, None)
            stored, _, written = line.partition("\t")
            odd[stored if _OLD(stored) is None else plain(stored)] = written or stored
    words |= odd
    for sought, written in odd.items():
        for each in _spellings(sought):
            words.setdefault(each, written)
    return words


def _parts(words: Iterable[str], known: Sequence[_Part] = ()) -> Sequence[_Part]:
    """Build automata of words in their order: half the time to build, and to search, that they take in disorder."""
    finders = {part.words[0]: part for part in known}
    parts: list[_Part] = []
    for some in _cut(sorted(words), [part.words[0] for part in known]):
        part = finders.get(some[0])
        if part is None or part.words != some:
            part = _Part(some, ahocorasick_rs.AhoCorasick(some, store_patterns=False).find_matches_as_indexes)
        parts.append(_Part(some, part.find))
    return parts


def _cut(words: Sequence[str], firsts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut words where they were cut before, at `firsts`, so that a change is one of its part alone."""
    begin = 0
    for place in (*(bisect_left(words, first) for first in firsts[1:]), len(words)):
        count = place - begin
        if count < PART_WORDS_MIN and place < len(words):
            continue
        pieces = -(-count // PART_WORDS_MAX)
        for piece in range(pieces):
            yield words[begin + count * piece // pieces : begin + count * (piece + 1) // pieces]
        begin = place


class Automaton:
    """The words of several lists, sought at once."""

    def __init__(self, lists: Iterable[tuple[Listed, Sought]]) -> None:
        short: list[tuple[Listed, Mapping[str, str]]] = []
        self._seek: list[tuple[Callable[..., Sequence[tuple[int, int, int]]], _Lists]] = []
        for listed, sought in lists:
            if sought.parts:
                self._seek += ((part.find, [(listed, sought.words)]) for part in sought.parts)
            else:
                short.append((listed, sought.words))
        together = dict.fromkeys(word for _, words in short for word in words)
        self._seek += ((part.find, short) for part in _parts(together))

    def __bool__(self) -> bool:
        return bool(self._seek)

    def find(self, text: str) -> list[_Found]:
        """Find all words in a plain text, also those inside others; Latin ones only where they stand whole."""
        return [
            _Found(start, end, words[text[start:end]], listed)
            for find, lists in self._seek
            for _, start, end in find(text, True)  # overlapping; naming it would cost more
            if _stands_whole(text, start, end)
            for listed, words in lists
            if text[start:end] in words
        ]


_NUMERALS: Final = "零一二三四五六七八九"
_TO_DIGITS: Final = str.maketrans(_NUMERALS + "〇", "01234567890")
_TO_NUMERALS: Final = str.maketrans("0123456789", _NUMERALS)
# Words that are not just as they are sought: with a form of their own as written, other spellings, or one stored by an
# earlier version.
_ODD: Final = re.compile(f"[\t0-9〇{_NUMERALS}{READ_ANEW}]").search
_OLD: Final = re.compile(f"[{READ_ANEW}]").search


def _spellings(sought: str) -> Iterable[str]:
    """Chinese words that count are also found with digits (1夜情) and the other way round; mere numbers are not."""
    digits, numerals = sought.translate(_TO_DIGITS), sought.translate(_TO_NUMERALS)
    if digits == numerals or all(each.isascii() for each in digits):
        return (sought,)
    return {sought, digits, numerals}


_SPACED_END: Final = "\u0e00"  # scripts before Thai put spaces between their words


def _stands_whole(text: str, start: int, end: int) -> bool:
    """Whether a word does not begin or end within one of a script that has spaces."""
    if start and _is_spaced(text[start]) and _is_spaced(text[start - 1]):
        return False
    return not (end < len(text) and _is_spaced(text[end - 1]) and _is_spaced(text[end]))


def _is_spaced(each: str) -> bool:
    return each < _SPACED_END and each.isalnum()


class Scope:
    """The lists of one owner: the platform, a tenant or a channel."""

    def __init__(self, lists: Sequence[tuple[Listed, Sought]]) -> None:
        denied = [one for one in lists if not one[0].allows]
        self.stops = Automaton(one for one in denied if one[0].level is not Level.WARN)
        self.warns = Automaton(one for one in denied if one[0].level is Level.WARN)
        self.allows = Automaton(one for one in lists if one[0].allows)


NOTHING: Final = Scope(())


@cache
def usual() -> Automaton:
    """The usual words that contain what is often on a list, as we ship them."""
    lines = resources.files(__package__).joinpath("usual_words.tsv").read_text("utf-8").splitlines()
    words = (word for line in lines if not line.startswith("#") for word in line.split())
    return Automaton([(_USUAL, Sought(map(plain, words)))])


_USUAL: Final = Listed(id=0, name="usual", allows=True)


class Words:
    """All lists that are in use."""

    def __init__(
        self,
        platform: Scope = NOTHING,
        tenants: Mapping[TenantId, Scope] | None = None,
        channels: Mapping[ChannelId, Scope] | None = None,
    ) -> None:
        self._platform = platform
        self._tenants = tenants or {}
        self._channels = channels or {}
        self.stop_some = bool(platform.stops) or any(scope.stops for scope in self._tenants.values())

    def check(self, text: str, tenant_id: TenantId) -> Sequence[Hit]:
        """Return what in a text of a tenant blocks or holds it, in the order it stands there; mostly nothing."""
        own = self._tenants.get(tenant_id, NOTHING)
        if not (self._platform.stops or own.stops):
            return ()
        read = plain(text)
        found = self._platform.stops.find(read)
        if own.stops:
            found += own.stops.find(read)
        return self._hits(text, read, own, found) if found else ()

    def check_template(self, text: str, tenant_id: TenantId | None) -> Sequence[Hit]:
        """Return all that should be said of a text under review: the words of channels are warnings there."""
        own = NOTHING if tenant_id is None else self._tenants.get(tenant_id, NOTHING)
        read = plain(text)
        found = [
            one
            for scope in (self._platform, own)
            for seek in (scope.stops, scope.warns)
            for one in seek.find(read)
        ]
        for scope in self._channels.values():
            found += (
                one._replace(listed=msgspec.structs.replace(one.listed, level=Level.WARN))
                for seek in (scope.stops, scope.warns)
                for one in seek.find(read)
            )
        return self._hits(text, read, own, found) if found else ()

    def shuts(self, channel_id: ChannelId, text: str, tenant_id: TenantId) -> bool:
        """Whether a list of the channel keeps a text of the tenant from going by it."""
        scope = self._channels.get(channel_id)
        if scope is None or not scope.stops:
            return False
        read = plain(text)
        found = scope.stops.find(read)
        own = self._tenants.get(tenant_id, NOTHING)
        return bool(found) and bool(self._hits(text, read, own, found))

    def _hits(self, text: str, read: str, own: Scope, found: Sequence[_Found]) -> Sequence[Hit]:
        allowed = [*usual().find(read), *self._platform.allows.find(read), *own.allows.find(read)]
        for_all = _leftmost_longest(
            one for one in allowed if one.listed.tenant_id is None or one.listed.grants
        )
        for_own = _leftmost_longest(allowed)
        left = [
            one for one in found if not _is_covered(one, for_all if one.listed.tenant_id is None else for_own)
        ]
        if not left:
            return ()
        _, origins = places(text)
        hits = (_told(one, text, origins) for one in _worst(left))
        return sorted((hit for hit in hits if _is_meant(hit, text)), key=lambda hit: hit.start)[:HITS_MAX]


def _leftmost_longest(found: Iterable[_Found]) -> Sequence[_Found]:
    chosen: list[_Found] = []
    end = 0
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if one.start >= end:
            chosen.append(one)
            end = one.end
    return chosen


def _is_covered(one: _Found, allowed: Sequence[_Found]) -> bool:
    return any(
        span.start <= one.start
        and one.end <= span.end
        and not (span.listed is _USUAL and (span.start, span.end) == (one.start, one.end))
        for span in allowed
    )


_RANKS: Final = {Level.BLOCK: 0, Level.HOLD: 1, Level.WARN: 2}


def _worst(found: Iterable[_Found]) -> Iterator[_Found]:
    """Of words that overlap give the worst, of those the first and longest."""
    taken: list[tuple[int, int]] = []
    for one in sorted(found, key=lambda one: (_RANKS[one.listed.level], one.start, -one.end)):
        if all(one.end <= start or end <= one.start for start, end in taken):
            taken.append((one.start, one.end))
            yield one


def _told(one: _Found, text: str, origins: Sequence[int]) -> Hit:
    start, end = origins[one.start], origins[one.end - 1] + 1
    return Hit(
        start=start,
        end=end,
        text=text[start:end],
        word=one.word,
        list_id=one.listed.id,
        list=one.listed.name,
        level=one.listed.level,
        tag=one.listed.tag,
    )


def _is_meant(hit: Hit, text: str) -> bool:
    """Whether a word is meant that was read out of letters of another alphabet: сор is litter, and no policeman.

    A whole word of look-alikes is meant where the text has no other letters of that alphabet, as a Chinese one has.
    """
    foreign = any(map(_is_foreign, hit.text))
    if any(map(_is_foreign, hit.word)):
        return foreign
    if not foreign or any("a" <= each <= "z" for each in hit.text.lower()):
        return True
    return all(plain(each).isascii() for each in text if _is_foreign(each))


def _is_foreign(each: str) -> bool:
    return "\u0370" <= each <= "\u052f"
