"""Turn texts into the octets that operators carry, count the parts they are billed by, and read texts back.

Writes nothing; pure. Entry points: count() and split() on the way out, read_udh(), decode() and join() on the
way in, sign() for the 【signature】. Alphabets live in gsm7.json beside this file.

Surprises. count() and split() rest on the same measuring and cutting, so what is counted is what is sent and
billed. "Units" are UTF-16 code units wherever characters are counted: an emoji takes two places on the air,
the field's 70 and 67 are 140 and 134 octets of UCS-2, and a count by code points would promise a part that
cannot be built. GSM-7 octets are unpacked septets, one per octet, as SMPP carries them; pack() is for
operators that want the radio's form. A payload is handed over whole and still billed by the parts the
operator makes of it.
"""

import codecs
from collections.abc import Callable, Iterable
from enum import IntEnum, StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

PART_OCTETS: Final = 140  # 3GPP TS 23.040 §9.2.3.24: the user data of one part
MAINLAND_UNITS: Final = 70  # what the mainland bills as one part
PARTS_MAX: Final = 255  # the concatenation headers give total and index one octet each
ESCAPE: Final = 0x1B
MARK: Final = 0x80  # of a septet that stands after an escape, which is still to be written
CARRIAGE_RETURN: Final = 0x0D


class Encoding(StrEnum):
    GSM7 = "gsm7"  # 3GPP TS 23.038 default alphabet, one septet per octet
    UCS2 = "ucs2"  # UTF-16, big endian, no byte order mark
    LATIN1 = "latin1"  # ISO 8859-1, for channels that say data_coding 3
    ASCII = "ascii"  # for channels that say data_coding 1 or Msg_Fmt 0 and mean it
    GBK = "gbk"  # GB 18030, Msg_Fmt 15, which SMGP asks for


class Split(StrEnum):
    UDH8 = "udh8"  # concatenation header with an 8-bit reference: 153 septets, 67 units
    UDH16 = "udh16"  # the same with a 16-bit reference: 152 septets, 66 units
    SAR = "sar"  # SMPP sar_* parameters, no header of ours; the operator makes the 8-bit header
    PAYLOAD = "payload"  # SMPP message_payload: handed over whole, the operator splits


class Counting(StrEnum):
    MAINLAND = "mainland"  # 70 in one part, else 67 a part, every character one, whatever the encoding
    INTERNATIONAL = "international"  # GSM-7 160/153 septets where the text fits, else UCS-2 70/67


class Position(StrEnum):
    FRONT = "front"  # 【signature】body
    BACK = "back"  # body【signature】


class Language(IntEnum):
    """The national languages whose shift tables we hold (3GPP TS 23.038 §6.2.1.2.4)."""

    TURKISH = 1
    SPANISH = 2  # has a single shift table only
    PORTUGUESE = 3


class Unencodable(ValueError):  # noqa: N818 - a statement about a text, not a fault of ours
    """The text holds characters the demanded encoding lacks."""


class TooManyParts(ValueError):  # noqa: N818 - a statement about a text, not a fault of ours
    """The text needs more parts than a concatenation header can number (PARTS_MAX)."""


class Shift(NamedTuple):
    """National shift tables in force, by language id; 0 where the default table stands."""

    locking: int = 0
    single: int = 0

    @property
    def octets(self) -> bytes:
        """The header elements that announce the tables (3GPP TS 23.040 §9.2.3.24.15 and .16)."""
        locking = bytes((0x25, 1, self.locking)) if self.locking else b""
        single = bytes((0x24, 1, self.single)) if self.single else b""
        return single + locking


PLAIN: Final = Shift()


class PartCount(msgspec.Struct, frozen=True, gc=False):
    """What a text costs: parts billed, units it fills, and the most units one part of it may hold."""

    encoding: Encoding
    parts: int
    units: int
    limit: int


class TextPart(msgspec.Struct, frozen=True, gc=False):
    """One part of a text: its place (index from 1), and its octets without any user data header."""

    index: int
    total: int
    encoding: Encoding
    octets: bytes
    mode: Split = Split.UDH8
    shift: Shift = PLAIN

    def udh(self, ref: int) -> bytes:
        """Build this part's header for the reference number its message was given; b"" if it needs none."""
        return udh(ref, self.total, self.index, self.mode, self.shift)


class Udh(msgspec.Struct, frozen=True, gc=False):
    """A received part: its place among its parts, and the body behind its header.

    width is 8 or 16, the bits of ref, or 0 where the part is a whole message (then total = index = 1).
    """

    ref: int
    total: int
    index: int
    width: int
    body: bytes
    shift: Shift = PLAIN
    octets: int = 0  # the header's length with its length octet; packed septets start at the next boundary


# ---- on the way out


def count(
    text: str,
    counting: Counting,
    *,
    mode: Split = Split.UDH8,
    encoding: Encoding | None = None,
    languages: tuple[Language, ...] = (),
) -> PartCount:
    """Count the parts split() would make of the same arguments (for a payload: the parts it is billed by).

    Raises Unencodable as split() does. Never raises for length.
    """
    if encoding is None and counting is Counting.MAINLAND:  # most texts: in one part, whatever else is asked
        units = len(_write_ucs2(text)) // 2
        if units <= MAINLAND_UNITS:
            return PartCount(Encoding.UCS2, 1, units, MAINLAND_UNITS)
    written = _write(text, counting, mode, encoding, languages)
    room = _room(counting, written.encoding, mode, written.shift)
    if written.units <= room.single_units and len(written.octets) <= room.single_octets:
        return PartCount(written.encoding, 1, written.units, room.single_units)
    parts = len(_cut(text, written, counting, room))
    return PartCount(written.encoding, parts, written.units, room.part_units)


def split(
    text: str,
    *,
    counting: Counting,
    mode: Split = Split.UDH8,
    encoding: Encoding | None = None,
    languages: tuple[Language, ...] = (),
) -> tuple[TextPart, ...]:
    """Cut a text into the parts one PDU each can carry; a surrogate pair or an escaped septet stays whole.

    encoding None lets the counting choose: mainland takes UCS-2, international GSM-7 where the text fits.
    languages names national shift tables that may be used to make a text fit GSM-7; their headers shorten the
    parts. They need a header, so the modes sar and payload never use them.
    Raises Unencodable where a demanded encoding lacks a character, TooManyParts beyond PARTS_MAX.
    """
    written = _write(text, counting, mode, encoding, languages)
    room = _room(counting, written.encoding, mode, written.shift)
    alone = written.units <= room.single_units and len(written.octets) <= room.single_octets
    if alone or mode is Split.PAYLOAD:
        return (TextPart(1, 1, written.encoding, written.octets, mode, written.shift),)
    pieces = _cut(text, written, counting, room)
    total = len(pieces)
    if total > PARTS_MAX:
        raise TooManyParts(f"{total} parts, at most {PARTS_MAX}")
    return tuple(
        TextPart(index, total, written.encoding, octets, mode, written.shift)
        for index, octets in enumerate(pieces, start=1)
    )


def udh(ref: int, total: int, index: int, mode: Split = Split.UDH8, shift: Shift = PLAIN) -> bytes:
    """Build a user data header (3GPP TS 23.040 §9.2.3.24.1 and .8), length octet first.

    b"" where none is needed: one part without shift tables, and the modes in which the operator concatenates.
    ref is cut to the width of the mode.
    """
    if total == 1 or mode is Split.SAR or mode is Split.PAYLOAD:
        elements = shift.octets
    elif mode is Split.UDH16:
        elements = bytes((0x08, 4, ref >> 8 & 0xFF, ref & 0xFF, total, index)) + shift.octets
    else:
        elements = bytes((0x00, 3, ref & 0xFF, total, index)) + shift.octets
    return bytes((len(elements),)) + elements if elements else b""


def sign(
    signature: str,
    body: str,
    *,
    position: Position = Position.FRONT,
    counting: Counting = Counting.MAINLAND,
) -> str:
    """Put the signature beside the body: 【signature】 on the mainland, [signature] elsewhere.

    The marks are part of the text and are counted; in GSM-7 each square bracket takes two septets.
    """
    mark = f"【{signature}】" if counting is Counting.MAINLAND else f"[{signature}]"
    return mark + body if position is Position.FRONT else body + mark


def encode(text: str, encoding: Encoding, shift: Shift = PLAIN) -> bytes:
    """Encode a text whole. Raises Unencodable; UCS-2 and GBK take any text."""
    if encoding is Encoding.UCS2:
        return _write_ucs2(text)
    if encoding is Encoding.GSM7:
        septets = _septets(text, _alphabet(shift))
        if septets is None:
            raise Unencodable("not in the GSM 7-bit alphabet")
        return septets
    if encoding is Encoding.GBK:
        return text.encode("gb18030", "replace")
    try:
        return text.encode(encoding.value)
    except UnicodeEncodeError as error:
        raise Unencodable(f"not in {encoding.value}") from error


def _write_ucs2(text: str) -> bytes:
    # A lone surrogate counts one unit like any other; what it shows is the handset's affair. text.encode() would look
    # the codec up by its name each time.
    return codecs.utf_16_be_encode(text, "surrogatepass")[0]


def pack(septets: bytes, *, udh_octets: int = 0, cr_pad: bool = True) -> bytes:
    """Pack unpacked septets as the radio carries them, lowest bit first (3GPP TS 23.038 §6.1.2.1).

    udh_octets is the length of the header in front (with its length octet): septets start at the next septet
    boundary behind it. cr_pad follows §6.1.2.3.1: seven spare bits would read as "@", so they hold a carriage
    return, and a text that ends with one on an octet boundary gets a second where there is room.
    """
    fill = -8 * udh_octets % 7
    if cr_pad:
        spare = -(fill + 7 * len(septets)) % 8
        ends_with_return = spare == 0 and septets.endswith(b"\r")
        if spare == 7 or (ends_with_return and (fill + 7 * len(septets)) // 8 < PART_OCTETS - udh_octets):
            septets += b"\r"
    bits = 0
    for septet in reversed(septets):
        bits = bits << 7 | septet & 0x7F
    return (bits << fill).to_bytes((fill + 7 * len(septets) + 7) // 8, "little")


# ---- on the way in


def read_udh(octets: bytes, udhi: bool) -> Udh:
    """Read the header in front of a received part, if the indicator says there is one. Never raises.

    A header that is longer than its octets is no header: everything is body, so nothing is lost. A total or
    index of 0, or an index above total, voids the element (3GPP TS 23.040 §9.2.3.24.1); of several the last
    counts. Shift tables we do not hold are ignored (TS 23.038 §6.2.1.2.4).
    """
    if not udhi or not octets or octets[0] >= len(octets):
        return Udh(0, 1, 1, 0, octets)
    end = 1 + octets[0]
    ref, total, index, width = 0, 1, 1, 0
    locking = single = 0
    at = 1
    while at + 2 <= end and at + 2 + octets[at + 1] <= end:
        element, value = octets[at], octets[at + 2 : at + 2 + octets[at + 1]]
        at += 2 + len(value)
        if (element, len(value)) in ((0x00, 3), (0x08, 4)) and 0 < value[-1] <= value[-2]:
            ref, total, index, width = int.from_bytes(value[:-2]), value[-2], value[-1], 8 * (len(value) - 2)
        elif element == 0x24 and len(value) == 1 and str(value[0]) in _TABLES.single_shift:
            single = value[0]
        elif element == 0x25 and len(value) == 1 and str(value[0]) in _TABLES.locking_shift:
            locking = value[0]
    return Udh(ref, total, index, width, octets[end:], Shift(locking, single), end)


def decode(
    octets: bytes,
    encoding: Encoding,
    *,
    shift: Shift = PLAIN,
    packed: bool = False,
    udh_octets: int = 0,
    sniff: bool = False,
) -> str:
    """Decode received octets; never raises: what cannot be read becomes U+FFFD.

    A byte order mark is obeyed and dropped. sniff also guesses, for upstreams that mislabel: UCS-2 in little
    endian order, and UCS-2 sent under a one-octet encoding. packed and udh_octets are for GSM-7, as in
    pack().
    """
    if encoding is Encoding.GSM7 and packed:
        octets = unpack(octets, udh_octets=udh_octets)
    if encoding is Encoding.UCS2 or (sniff and encoding is not Encoding.GBK and _high_octets_empty(octets)):
        return _decode_ucs2(octets, sniff=sniff)
    if encoding is Encoding.GSM7:
        return _decode_septets(octets, _alphabet(shift))
    if encoding is Encoding.GBK:
        return octets.decode("gb18030", "replace")
    return octets.decode(encoding.value, "replace")


def unpack(octets: bytes, *, septet_count: int | None = None, udh_octets: int = 0) -> bytes:
    """Unpack radio octets to one septet per octet; septet_count None takes all and drops a padding return."""
    fill = -8 * udh_octets % 7
    held = max(0, 8 * len(octets) - fill) // 7
    bits = int.from_bytes(octets, "little") >> fill
    septets = bytes(
        bits >> 7 * at & 0x7F for at in range(held if septet_count is None else min(septet_count, held))
    )
    padded = (
        septet_count is None and held and (8 * len(octets) - fill) % 7 == 0 and septets[-1] == CARRIAGE_RETURN
    )
    return septets[:-1] if padded else septets


def join(parts: Iterable[TextPart]) -> str:
    """Join the parts of one message, given in any order, into its text. Never raises.

    Neighbours of one encoding are decoded together, so that a surrogate pair or an escape that a foreign
    sender tore apart is whole again; neighbours of different encodings are decoded each in its own.
    """
    runs: list[tuple[Encoding, Shift, bytearray]] = []
    for part in sorted(parts, key=lambda part: part.index):
        octets = part.octets
        if part.encoding is Encoding.UCS2:
            octets = _big_endian(octets)  # some senders put a byte order mark into each part
        if runs and runs[-1][:2] == (part.encoding, part.shift):
            runs[-1][2].extend(octets)
        else:
            runs.append((part.encoding, part.shift, bytearray(octets)))
    return "".join(decode(bytes(octets), encoding, shift=shift) for encoding, shift, octets in runs)


# ---- parts of the above


class _Tables(msgspec.Struct, frozen=True):
    base: str
    extension: dict[str, str]
    single_shift: dict[str, dict[str, str]]
    locking_shift: dict[str, str]


_TABLES: Final = msgspec.json.decode(Path(__file__).with_name("gsm7.json").read_bytes(), type=_Tables)


class _Alphabet(NamedTuple):
    characters: frozenset[str]
    septets: dict[int, str]  # code point → its septet, or escape and septet, as latin-1 characters
    main: str  # septet → character
    escaped: dict[int, str]  # septet after an escape → character
    latin: bytes  # latin-1 code → septet, or MARK and the septet that stands after an escape; else anything
    latin_known: bytes  # the codes where there is one
    marked: tuple[tuple[bytes, bytes], ...]  # MARK and septet → escape and septet


class _Written(msgspec.Struct, frozen=True, gc=False):
    encoding: Encoding
    shift: Shift
    octets: bytes
    units: int


class _Room(NamedTuple):
    """What one part may hold, alone and among others: units as they are counted, octets as they are sent."""

    single_units: int
    part_units: int
    single_octets: int
    part_octets: int


_HEADER_OCTETS: Final = {Split.UDH8: 6, Split.UDH16: 7, Split.SAR: 6, Split.PAYLOAD: 6}


@lru_cache(maxsize=16)
def _alphabet(shift: Shift) -> _Alphabet:
    main = _TABLES.locking_shift.get(str(shift.locking), _TABLES.base)
    extension = _TABLES.single_shift.get(str(shift.single), _TABLES.extension)
    escaped = {int(septet, 16): character for septet, character in extension.items()}
    septets = {ord(character): "\x1b" + chr(septet) for septet, character in escaped.items()}
    # The main table comes second: a character in both takes one septet. The escape itself is no character.
    septets |= {ord(character): chr(septet) for septet, character in enumerate(main) if septet != ESCAPE}
    latin = {
        code: ord(written[-1]) | (MARK if len(written) > 1 else 0)
        for code, written in septets.items()
        if code < 256
    }
    marked = tuple(
        (bytes([octet]), bytes([ESCAPE, octet ^ MARK])) for octet in latin.values() if octet >= MARK
    )
    table = bytes(latin.get(code, 0) for code in range(256))
    return _Alphabet(frozenset(map(chr, septets)), septets, main, escaped, table, bytes(latin), marked)


_DEFAULT: Final = _alphabet(PLAIN)


@lru_cache(maxsize=256)
def _room(counting: Counting, encoding: Encoding, mode: Split, shift: Shift) -> _Room:
    elements = len(shift.octets)
    single = PART_OCTETS - (1 + elements if elements else 0)
    part = PART_OCTETS - _HEADER_OCTETS[mode] - elements
    if encoding is Encoding.GSM7:
        single, part = single * 8 // 7, part * 8 // 7
    width = 2 if encoding is Encoding.UCS2 else 1
    if counting is Counting.MAINLAND:
        return _Room(min(MAINLAND_UNITS, single // width), min(67, part // width), single, part)
    return _Room(single // width, part // width, single, part)


def _write(
    text: str, counting: Counting, mode: Split, encoding: Encoding | None, languages: tuple[Language, ...]
) -> _Written:
    """Choose the encoding, apply it, and measure what is to be counted."""
    shift = PLAIN
    if encoding is None and counting is Counting.INTERNATIONAL:
        septets = _septets(text, _DEFAULT)
        if septets is not None:
            return _Written(Encoding.GSM7, PLAIN, septets, len(septets))
        fitting = _fitting_shift(text, mode, languages) if mode in (Split.UDH8, Split.UDH16) else None
        encoding, shift = (Encoding.UCS2, PLAIN) if fitting is None else (Encoding.GSM7, fitting)
    encoding = encoding or Encoding.UCS2
    octets = encode(text, encoding, shift)
    if encoding is Encoding.UCS2:
        units = len(octets) // 2
    elif counting is Counting.INTERNATIONAL:
        units = len(octets)
    else:
        units = len(text) if text.isascii() else len(text.encode("utf-16-be", "surrogatepass")) // 2
    return _Written(encoding, shift, octets, units)


def _septets(text: str, alphabet: _Alphabet) -> bytes | None:
    """Write a text in an alphabet; None at the first stranger, which in most texts is 【."""
    if text and text[0] not in alphabet.characters:
        return None
    try:
        octets = text.encode("latin-1")  # most texts without strangers: four times faster than by characters
    except UnicodeEncodeError:
        octets = b""
    if octets and not octets.translate(None, alphabet.latin_known):
        octets = octets.translate(alphabet.latin)
        if not octets.isascii():
            for mark, escape in alphabet.marked:
                octets = octets.replace(mark, escape)
        return octets
    if not alphabet.characters.issuperset(text):
        return None
    return text.translate(alphabet.septets).encode("latin-1")


def _fitting_shift(text: str, mode: Split, languages: tuple[Language, ...]) -> Shift | None:
    """Find the shift tables that fit the text in the fewest parts; None if none do.

    Between equals the language named first wins, and its single shift before its locking shift: a handset
    that lacks the tables then spoils single characters and not the alphabet.
    """
    parts: dict[Shift, int] = {}
    for language in languages:
        lockable = str(int(language)) in _TABLES.locking_shift
        locked = (Shift(language, 0), Shift(language, language)) if lockable else ()
        for shift in (Shift(0, language), *locked):
            septets = _septets(text, _alphabet(shift))
            if septets is not None:
                room = _room(Counting.INTERNATIONAL, Encoding.GSM7, mode, shift)
                alone = len(septets) <= room.single_units
                parts[shift] = 1 if alone else len(_cut_septets(septets, room.part_units))
    return min(parts, key=parts.__getitem__, default=None)


def _cut(text: str, written: _Written, counting: Counting, room: _Room) -> list[bytes]:
    encoding, shift, octets = written.encoding, written.shift, written.octets
    if encoding is Encoding.UCS2:
        return _cut_ucs2(octets, 2 * room.part_units)
    if counting is Counting.MAINLAND or encoding is Encoding.GBK:
        return _cut_characters(text, lambda character: encode(character, encoding, shift), room)
    return _cut_septets(octets, room.part_octets)


def _cut_ucs2(octets: bytes, part_octets: int) -> list[bytes]:
    pieces = []
    start, end = 0, part_octets
    while end < len(octets):
        if octets[end] & 0xFC == 0xDC and octets[end - 2] & 0xFC == 0xD8:
            end -= 2
        pieces.append(octets[start:end])
        start, end = end, end + part_octets
    pieces.append(octets[start:])
    return pieces


def _cut_septets(septets: bytes, part_septets: int) -> list[bytes]:
    pieces = []
    start, end = 0, part_septets
    while end < len(septets):
        if septets[end - 1] == ESCAPE:
            end -= 1
        pieces.append(septets[start:end])
        start, end = end, end + part_septets
    pieces.append(septets[start:])
    return pieces


def _cut_characters(text: str, encode_one: Callable[[str], bytes], room: _Room) -> list[bytes]:
    """Cut where characters are counted but octets are sent: both limits hold for every part."""
    international_gbk = room.part_units == room.part_octets
    pieces = []
    piece, units = bytearray(), 0
    for character in text:
        octets = encode_one(character)
        cost = len(octets) if international_gbk else 1 + (character > "\uffff")
        if units + cost > room.part_units or len(piece) + len(octets) > room.part_octets:
            pieces.append(bytes(piece))
            piece, units = bytearray(), 0
        piece += octets
        units += cost
    pieces.append(bytes(piece))
    return pieces


def _decode_septets(octets: bytes, alphabet: _Alphabet) -> str:
    if ESCAPE not in octets:
        return codecs.charmap_decode(octets, "replace", alphabet.main)[0]
    characters = []
    septets = iter(octets)
    for septet in septets:
        if septet == ESCAPE:
            # TS 23.038 §6.2.1.1: an unknown escape shows the main table's character, an escape alone a space.
            after = next(septets, ESCAPE)
            main = alphabet.main[after] if after < len(alphabet.main) else "\ufffd"
            characters.append(alphabet.escaped.get(after, " " if after == ESCAPE else main))
        else:
            characters.append(alphabet.main[septet] if septet < len(alphabet.main) else "\ufffd")
    return "".join(characters)


def _decode_ucs2(octets: bytes, *, sniff: bool) -> str:
    unmarked = _big_endian(octets)
    if sniff and unmarked is octets and _low_octets_empty(octets):
        return octets.decode("utf-16-le", "replace")
    return unmarked.decode("utf-16-be", "replace")


def _big_endian(octets: bytes) -> bytes:
    """Obey and drop a byte order mark."""
    if octets.startswith(codecs.BOM_UTF16_BE):
        return octets[2:]
    if octets.startswith(codecs.BOM_UTF16_LE):
        swapped = bytearray(octets[2 : len(octets) & ~1])
        swapped[::2], swapped[1::2] = swapped[1::2], swapped[::2]
        return bytes(swapped)
    return octets


def _high_octets_empty(octets: bytes) -> bool:
    """Does it look like big endian UCS-2 of a western text: even, most high octets zero, no low one?"""
    half = len(octets) // 2
    return half > 0 and len(octets) % 2 == 0 and octets[::2].count(0) * 2 > half and not octets[1::2].count(0)


def _low_octets_empty(octets: bytes) -> bool:
    return octets[1::2].count(0) > octets[::2].count(0)
