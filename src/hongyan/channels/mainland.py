"""What the protocols of the mainland's operators share: CMPP, SMGP and SGIP carry texts in the same ways.

Entry points: MainlandSettings, which their Configs extend; cut(), how a text is cut and who signs it;
FORMATS, read_text() and inbound(), the number of an encoding (Msg_Fmt, MsgFormat, MessageCoding); write_udh();
write_validity(); china().

Surprise: a gateway that signs by itself is sent texts without their 【signature】, but they are cut with it: the
parts a handset gets, and an operator bills, are those of the signed text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Annotated, Final, Literal

from msgspec import Meta, structs

from hongyan.channels.channel import Inbound, Parcel
from hongyan.channels.numbers import NumberForm
from hongyan.channels.session_config import CountryCode, HowNumbers, SessionSettings
from hongyan.vocab import text as texts
from hongyan.vocab.text import Counting, Encoding, Position, Shift, Split, TextPart
from hongyan.wire import times

VALIDITY_S_MAX: Final = 31 * 86_400


class Signature(StrEnum):
    """Who puts the 【signature】 into a text."""

    OURS = "ours"  # the text is sent as it was written
    GATEWAY = "gateway"  # the gateway adds what is filed for the access number


class Header(StrEnum):
    """The concatenation header of a long text."""

    UDH8 = "udh8"  # 8-bit reference: 67 characters a part
    UDH16 = "udh16"  # 16-bit reference: 66 characters a part


class Wide(StrEnum):
    """What texts are written in that are not plain ASCII."""

    UCS2 = "ucs2"
    GBK = "gbk"


class Validity(StrEnum):
    """How the upstream is told until when it may try."""

    NONE = "none"  # not at all
    ABSOLUTE = "absolute"  # China's date and time: 261126010203032+
    RELATIVE = "relative"  # from now on: 000000000130000R


@dataclass(frozen=True, slots=True, kw_only=True)
class MainlandSettings(SessionSettings):
    """What accounts at the mainland's operators have besides what every account with sessions has."""

    number_form: HowNumbers = NumberForm.NATIONAL
    country_code: CountryCode = "86"
    split: Annotated[Header, Meta(description="header of the parts of a long text")] = Header.UDH8
    wide: Annotated[Wide, Meta(description="encoding of texts that are not plain ASCII")] = Wide.UCS2
    ascii_octets_max: Annotated[
        Literal[0, 140, 160],
        Meta(
            description="longest plain ASCII text in one part, where ASCII is not counted as 70 characters; "
            "0 sends ASCII like all other texts"
        ),
    ] = 140
    signature: Annotated[Signature, Meta(description="who puts the 【signature】 into a text")] = (
        Signature.OURS
    )
    signature_at: Annotated[
        Position, Meta(description="where the gateway puts it, and where the texts for it have it")
    ] = Position.FRONT
    gateway_signature: Annotated[
        str,
        Meta(
            description="what the gateway signs with, without 【】; other texts are not carried; empty = any"
        ),
    ] = ""
    validity: Annotated[Validity, Meta(description="how the gateway is told until when it may try")] = (
        Validity.ABSOLUTE
    )


# ── cutting ──────────────────────────────────────────────────────────────────────────────────────────

_MARKS: Final = {  # what texts.sign() makes of a signature
    Counting.MAINLAND: "(【[^【】]+】)",
    Counting.INTERNATIONAL: r"(\[[^\[\]]+\])",
}


def cut(text: str, counting: Counting, settings: MainlandSettings) -> Sequence[TextPart]:
    """Cut a text as this account sends it; none where it cannot be carried.

    A text for a gateway that signs must have the signature that the gateway adds, at its place.
    """
    parts = _cut(text, counting, settings)
    if settings.signature is Signature.OURS:
        return parts
    mark = _mark(text, counting, settings)
    if not mark:
        return ()
    octets = len(texts.encode(mark, parts[0].encoding))
    front = settings.signature_at is Position.FRONT
    return _without_front(parts, octets) if front else _without_back(parts, octets)


def _cut(text: str, counting: Counting, settings: MainlandSettings) -> Sequence[TextPart]:
    mode = Split(settings.split.value)
    wide = _wide(text, counting, settings)
    if not settings.ascii_octets_max or not text.isascii():
        return texts.split(text, counting=counting, mode=mode, encoding=wide)
    if counting is Counting.INTERNATIONAL:
        return _cut_plain(text, mode, settings)
    return texts.split(text, counting=counting, mode=mode, encoding=Encoding.ASCII)


def _wide(text: str, counting: Counting, settings: MainlandSettings) -> Encoding:
    """Return what texts beyond ASCII are written in: UCS-2 where GBK would make other parts than were counted.

    A character outside GBK takes four octets in GB 18030, and abroad texts are counted as UCS-2 or GSM-7.
    """
    if settings.wide is not Wide.GBK or not (counting is Counting.MAINLAND or text.isascii()):
        return Encoding.UCS2
    try:
        text.encode("gbk")
    except UnicodeEncodeError:
        return Encoding.UCS2
    return Encoding.GBK


def _cut_plain(text: str, mode: Split, settings: MainlandSettings) -> Sequence[TextPart]:
    """Cut as it is counted, in septets; in ASCII, where "[" takes one and not two, no part gets longer."""
    international = Counting.INTERNATIONAL
    try:
        counted = texts.split(text, counting=international, mode=mode, encoding=Encoding.GSM7)
    except texts.Unencodable:  # the grave accent is no character of GSM-7
        return texts.split(text, counting=international, mode=mode, encoding=Encoding(settings.wide.value))
    parts = [
        structs.replace(
            part, encoding=Encoding.ASCII, octets=texts.decode(part.octets, Encoding.GSM7).encode()
        )
        for part in counted
    ]
    if all(len(part.udh(0)) + len(part.octets) <= settings.ascii_octets_max for part in parts):
        return parts
    return texts.split(text, counting=international, mode=mode, encoding=Encoding.ASCII)


def _mark(text: str, counting: Counting, settings: MainlandSettings) -> str:
    """Find the signature with its brackets at the place where the gateway puts it; "" if it has another."""
    mark = _MARKS[counting]
    pattern = mark + ".*" if settings.signature_at is Position.FRONT else ".*" + mark
    found = re.fullmatch(pattern, text, re.DOTALL)
    if found is None or settings.gateway_signature not in ("", found[1][1:-1]):
        return ""
    return found[1]


def _without_front(parts: Sequence[TextPart], octets: int) -> Sequence[TextPart]:
    """A signature is shorter than a part, so it ends in the first."""
    first, *others = parts
    return (structs.replace(first, octets=first.octets[octets:]), *others)


def _without_back(parts: Sequence[TextPart], octets: int) -> Sequence[TextPart]:
    """Where the signature begins in the part before, the last part is left empty, for the gateway to fill."""
    cut_parts = list(parts)
    for place in reversed(range(len(cut_parts))):
        body = cut_parts[place].octets
        taken = min(octets, len(body))
        cut_parts[place] = structs.replace(cut_parts[place], octets=body[: len(body) - taken])
        octets -= taken
    return tuple(cut_parts)


def write_udh(parcel: Parcel, split: Header) -> bytes:
    """Return the header that says which part of a long text this is; b"" for a whole one."""
    return texts.udh(parcel.reference, parcel.part_count, parcel.part_index, Split(split.value))


# ── encodings ────────────────────────────────────────────────────────────────────────────────────────

# [CMPP 3.0 §8.4.3.1]: 0 ASCII, 3 for the SIM, 4 binary, 8 UCS-2, 15 with Chinese characters (GBK).
FORMATS: Final[Mapping[Encoding, int]] = {Encoding.ASCII: 0, Encoding.UCS2: 8, Encoding.GBK: 15}


def read_text(octets: bytes, message_format: int, shift: Shift = texts.PLAIN) -> str:
    """Read what a person texted; never raises.

    Some gateways call GBK ASCII, and formats nobody knows hold one of the two.
    """
    match _encoding(message_format):
        case None if octets.isascii():
            return octets.decode("ascii")
        case None:
            return texts.decode(octets, Encoding.GBK)
        case encoding:
            return texts.decode(octets, encoding, shift=shift)


def inbound(
    part: texts.Udh, number: str, access_number: str, message_format: int, at_s: float, slot: object
) -> Inbound:
    """Return what a person texted; number as a reader() of numbers.py has read it, access_number as it came."""
    return Inbound(
        number,
        access_number.removeprefix("+"),
        read_text(part.body, message_format, part.shift),
        at_s,
        part.index,
        part.total,
        part.ref,
        2 if part.width == 16 else 1,
        slot,
    )


def _encoding(message_format: int) -> Encoding | None:
    """Return what a format says; None for ASCII and what we do not know."""
    if message_format == FORMATS[Encoding.UCS2]:
        return Encoding.UCS2
    if message_format == FORMATS[Encoding.GBK]:
        return Encoding.GBK
    if message_format in (3, 4):  # octet by octet: nothing is lost
        return Encoding.LATIN1
    # From 16 on it is a data coding scheme of 3GPP TS 23.038 §4: 24 and 25 are UCS-2 with a class.
    if 0x10 <= message_format < 0x40:
        return {0x08: Encoding.UCS2, 0x04: Encoding.LATIN1, 0x00: Encoding.GSM7}.get(message_format & 0x0C)
    if message_format & 0xF0 == 0xF0:
        return Encoding.LATIN1 if message_format & 0x04 else Encoding.GSM7
    return None


# ── times ────────────────────────────────────────────────────────────────────────────────────────────

CHINA_ZONE: Final = timezone(timedelta(hours=8))


def china(at_s: float) -> datetime:
    """Return the time of day at the gateway, which is China's."""
    return datetime.fromtimestamp(at_s, UTC).astimezone(CHINA_ZONE)


def write_validity(validity: Validity, validity_s: int, now_s: float) -> str:
    """Write until when the gateway may try; "" leaves it to the gateway."""
    validity_s = min(validity_s, VALIDITY_S_MAX)
    if not validity_s or validity is Validity.NONE:
        return ""
    if validity is Validity.RELATIVE:
        return times.relative_time(validity_s)
    return times.absolute_time(china(int(now_s) + validity_s))  # some read no tenths
