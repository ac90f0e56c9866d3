"""The handsets behind the operator: they join what arrives and write back.

Writes nothing; pure. Entry points: Handsets.receive() and shown() for what a person sees on the display,
written() for the parts of a text that a person sends. Parts join in any order; what is joined waits in a
bounded place, and so do the texts and the handsets themselves: the oldest goes first.
"""

from collections import deque
from typing import Final

from msgspec import Struct

from hongyan.vocab import text as wording
from hongyan.vocab.text import PLAIN, Counting, Encoding, Shift, Split, TextPart, Unencodable

HANDSETS_MAX: Final = 10_000  # that remember anything; the one that was first to receive is forgotten first
TEXTS_MAX: Final = 50  # on one handset
JOINS_MAX: Final = 10_000  # texts of which parts are missing


class Part(Struct, frozen=True, gc=False):
    """One part as it came: its place among its parts, and its octets without a user data header."""

    number: str  # the handset, in the form of behaviour.plain_number()
    sender: str
    octets: bytes
    encoding: Encoding
    part_index: int = 1
    part_count: int = 1
    reference: int = 0
    reference_bits: int = 0
    shift: Shift = PLAIN


class Text(Struct, frozen=True, gc=False):
    """A text on a handset's display. at_s: when its last part arrived, Unix seconds."""

    sender: str
    text: str
    at_s: float
    part_count: int


_Kept = tuple[tuple[Part, ...], float]
_Key = tuple[str, str, int, int, int]


class Handsets:
    """Every handset the operator has reached, as far back as it remembers."""

    def __init__(self) -> None:
        # Parts are kept as they came and decoded when somebody looks: most are never looked at.
        self._texts: dict[str, deque[_Kept]] = {}
        self._joins: dict[_Key, dict[int, Part]] = {}

    def receive(self, part: Part, at_s: float) -> None:
        """Take a part; once all of its text are there, the text is on the display. A repeat replaces."""
        if part.part_count == 1:
            self._show(part.number, ((part,), at_s))
            return
        key = (part.number, part.sender, part.reference, part.part_count, part.reference_bits)
        parts = self._joins.setdefault(key, {})
        parts[part.part_index] = part
        if len(parts) == part.part_count:
            del self._joins[key]
            self._show(part.number, (tuple(parts.values()), at_s))
        elif len(self._joins) > JOINS_MAX:
            del self._joins[next(iter(self._joins))]

    def shown(self, number: str) -> list[Text]:
        """Return what the handset holds, oldest first."""
        return [_text(parts, at_s) for parts, at_s in self._texts.get(number, ())]

    def _show(self, number: str, kept: _Kept) -> None:
        texts = self._texts.get(number)
        if texts is None:
            if len(self._texts) >= HANDSETS_MAX:
                del self._texts[next(iter(self._texts))]
            texts = self._texts[number] = deque(maxlen=TEXTS_MAX)
        texts.append(kept)


def written(text: str, encoding: Encoding | None, mode: Split) -> tuple[TextPart, ...]:
    """Cut what a person writes into parts; an encoding that cannot hold the text gives way to UCS-2.

    Raises wording.TooManyParts.
    """
    try:
        return wording.split(text, counting=Counting.INTERNATIONAL, mode=mode, encoding=encoding)
    except Unencodable:
        return wording.split(text, counting=Counting.INTERNATIONAL, mode=mode, encoding=Encoding.UCS2)


def _text(parts: tuple[Part, ...], at_s: float) -> Text:
    joined = wording.join(
        TextPart(part.part_index, part.part_count, part.encoding, part.octets, shift=part.shift)
        for part in parts
    )
    return Text(parts[0].sender, joined, at_s, len(parts))
