"""How long a template becomes and how many parts it is billed by, at its shortest, usual and longest values.

Writes nothing; pure. Entry points: measure(), signed(). Values are made of the lengths of their kinds; at the
longest one that may hold more than ASCII does, because abroad one such character makes the whole text UCS-2.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from hongyan.control.lint.finding import Place, Subject
from hongyan.vocab import text
from hongyan.vocab.text import Counting, Encoding
from hongyan.vocab.wording import Kind


class Length(StrEnum):
    """How long the values are."""

    SHORTEST = "shortest"
    USUAL = "usual"
    LONGEST = "longest"


class Size(msgspec.Struct, frozen=True):
    """What a text comes to: characters as they are counted, and parts as they are billed."""

    units: int
    parts: int
    encoding: Encoding


class Sizes(msgspec.Struct, frozen=True):
    """The same template with short, usual and long values."""

    place: Place
    shortest: Size
    usual: Size
    longest: Size


NARROW: Final = "0"
WIDE: Final = "王"


def measure(subject: Subject, place: Place) -> Sizes:
    """Say how long the signed text becomes there."""
    return Sizes(
        place,
        size(signed(subject, place, Length.SHORTEST), place),
        size(signed(subject, place, Length.USUAL), place),
        size(signed(subject, place, Length.LONGEST), place),
    )


def size(written: str, place: Place) -> Size:
    counted = text.count(written, place.counting)
    return Size(counted.units, counted.parts, counted.encoding)


def signed(subject: Subject, place: Place, length: Length) -> str:
    """Return the text with its signature and values of that length. They keep lengths only, not patterns."""
    body = subject.compiled.fill(values(subject, length))
    assert body is not None
    if not subject.signature:
        return body
    return text.sign(subject.signature, body, counting=place.counting)


def values(subject: Subject, length: Length) -> Mapping[str, str]:
    return {
        name: _value(kind, characters_max, length)
        for name, (kind, characters_max) in subject.compiled.rules.items()
    }


def _value(kind: Kind, characters_max: int, length: Length) -> str:
    match length:
        case Length.SHORTEST:
            count = kind.characters_min
        case Length.USUAL:
            count = kind.characters_usual
        case Length.LONGEST:
            count = characters_max
    character = WIDE if kind.wide and length is Length.LONGEST else NARROW
    return character * min(count, characters_max)


def room(parts: int, encoding: Encoding, place: Place) -> int:
    """Return how many units so many parts hold (3GPP TS 23.040 §9.2.3.24, 8-bit reference)."""
    if place.counting is Counting.INTERNATIONAL and encoding is Encoding.GSM7:
        return 160 if parts == 1 else 153 * parts
    return 70 if parts == 1 else 67 * parts
