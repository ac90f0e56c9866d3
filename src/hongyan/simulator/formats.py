"""How CMPP, SGIP and SMGP carry texts: one numbering of formats, one header, whatever the fields are called.

Writes nothing; pure. Entry points: read() for the part in a submit, write() for what a handset sends.
Their format 0 is ASCII, one octet a character, and they have no alphabet of GSM's: see Centre.owe_text().

Sources: [C3] CMPP 3.0 §8.4.3.1 (Msg_Fmt), [T38] 3GPP TS 23.038 §4 for the numbers that stand in no list.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from hongyan.simulator.behaviour import plain_number
from hongyan.simulator.handset import Part
from hongyan.vocab import text as wording
from hongyan.vocab.text import Encoding, Split, TextPart

_LISTED: Final = {
    0: Encoding.ASCII,
    3: Encoding.LATIN1,  # written to the SIM card
    4: Encoding.LATIN1,  # binary
    8: Encoding.UCS2,
    15: Encoding.GBK,
}
_GROUPS: Final = {0b00: Encoding.GSM7, 0b01: Encoding.LATIN1, 0b10: Encoding.UCS2}  # bits 3-2 of 00xx xxxx
_FORMATS: Final[Mapping[Encoding, int]] = {
    Encoding.ASCII: 0,
    Encoding.LATIN1: 4,
    Encoding.UCS2: 8,
    Encoding.GBK: 15,
}


class Written(NamedTuple):
    """A part as a PDU carries it: content with its header, if udhi."""

    format: int
    content: bytes
    udhi: int


def read(number: str, sender: str, content: bytes, format_number: int, udhi: int) -> Part:
    """Read a part as a submit carries it; what the header says of its place is in the Part."""
    number = plain_number(number)
    encoding = _encoding(format_number)
    if not udhi:
        return Part(number, sender, content, encoding)
    udh = wording.read_udh(content, udhi=True)
    return Part(number, sender, udh.body, encoding, udh.index, udh.total, udh.ref, udh.width, udh.shift)


def write(part: TextPart, reference: int) -> Written:
    """Write a part of a text from a handset."""
    octets, encoding = part.octets, part.encoding
    if encoding is Encoding.GSM7:
        text = wording.decode(octets, Encoding.GSM7, shift=part.shift)
        octets, encoding = text.encode("ascii", "replace"), Encoding.ASCII
    mode = Split.UDH16 if part.mode is Split.UDH16 else Split.UDH8
    header = wording.udh(reference, part.total, part.index, mode)
    return Written(_FORMATS[encoding], header + octets, int(bool(header)))


def _encoding(format_number: int) -> Encoding:
    listed = _LISTED.get(format_number)
    if listed is not None:
        return listed
    if format_number < 0x40:
        return _GROUPS.get(format_number >> 2 & 3, Encoding.LATIN1)
    if format_number >= 0xF0:
        return Encoding.LATIN1 if format_number & 4 else Encoding.GSM7
    return Encoding.LATIN1
