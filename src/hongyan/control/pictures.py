"""Whether a file is a PNG or a JPEG from its first octet to its last, so that it is nothing else besides.

Writes nothing. Entry points: fault_of_png(), fault_of_jpeg(), which say what is wrong, or ''. Pictures are not decoded.
"""

import zlib
from typing import Final

PNG: Final = b"\x89PNG\r\n\x1a\n"
JPEG: Final = b"\xff\xd8\xff"
SIDE_MAX: Final = 20_000  # pixels: more is meant to fill somebody's memory
CHUNKS_MAX: Final = 20_000


def fault_of_png(octets: bytes) -> str:
    """Walk the chunks (W3C PNG §5.3): length, name, content, CRC; IHDR first, IEND last, and nothing behind it."""
    place, names = len(PNG), 0
    while place < len(octets):
        length, name = int.from_bytes(octets[place : place + 4]), octets[place + 4 : place + 8]
        content, end = octets[place + 8 : place + 8 + length], place + 12 + length
        names += 1
        if end > len(octets) or names > CHUNKS_MAX or not name.isalpha():
            return "it is cut off or damaged"
        if zlib.crc32(name + content) != int.from_bytes(octets[end - 4 : end]):
            return "a checksum is wrong"
        if (names == 1) is not (name == b"IHDR"):
            return "it does not begin as a PNG begins"
        if name == b"IHDR" and (length != 13 or not _sound(content[:4], content[4:8])):
            return f"its sides are not 1 to {SIDE_MAX} pixels"
        if name == b"IEND":
            return "" if end == len(octets) else "something stands behind the picture"
        place = end
    return "it is cut off or damaged"


def fault_of_jpeg(octets: bytes) -> str:
    """Walk the segments (ITU-T T.81 §B.1.1): a frame with sound sides, its scans, EOI, and no more than padding behind it."""
    place, framed, segments = 2, False, 0
    while place + 4 <= len(octets) or octets[place : place + 2] == b"\xff\xd9":
        marker = octets[place + 1]
        segments += 1
        if octets[place] != 0xFF or segments > CHUNKS_MAX:
            return "it is cut off or damaged"
        if marker == 0xFF:  # fill octets may stand before a marker
            place += 1
            continue
        if marker == 0xD9:
            behind = octets[place + 2 :].strip(b"\x00\r\n\xff\t ")
            return (
                "something stands behind the picture"
                if behind
                else ""
                if framed
                else "there is no picture in it"
            )
        length = int.from_bytes(octets[place + 2 : place + 4])
        if length < 2 or place + 2 + length > len(octets):
            return "it is cut off or damaged"
        if marker in _FRAMES:
            framed = True
            if not _sound(octets[place + 5 : place + 7], octets[place + 7 : place + 9]):
                return f"its sides are not 1 to {SIDE_MAX} pixels"
        place += 2 + length
        if marker == 0xDA:
            place = _behind_scan(octets, place)
    return "it is cut off or damaged"


_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # Table B.1: SOF0 to SOF15


def _behind_scan(octets: bytes, place: int) -> int:
    """Return where the next marker begins: in coded pixels FF is followed by 00, or by a restart."""
    while (place := octets.find(b"\xff", place)) >= 0:
        following = octets[place + 1] if place + 1 < len(octets) else 0
        if following != 0 and not 0xD0 <= following <= 0xD7:
            return place
        place += 2
    return len(octets)


def _sound(high: bytes, wide: bytes) -> bool:
    return all(1 <= int.from_bytes(side) <= SIDE_MAX for side in (high, wide))
