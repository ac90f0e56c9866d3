"""Small files that are what they say: the shortest PDF, PNG and JPEG that pass for one."""

import struct
import zlib

PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def png(*, width: int = 1, trailing: bytes = b"") -> bytes:
    """One grey row."""
    pixels = zlib.compress(b"\x00" * (width + 1))
    head = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"") + trailing
    )


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def jpeg(*, coded: bytes = b"\x11\xff\x00\x22\xff\xd0\x33", trailing: bytes = b"") -> bytes:
    """A frame and a scan whose pixels nobody decodes."""
    frame = segment(0xC0, b"\x08\x00\x01\x00\x01\x01\x01\x11\x00")
    scan = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
    return b"\xff\xd8" + segment(0xE0, b"JFIF\x00") + frame + scan + coded + b"\xff\xd9" + trailing


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content
