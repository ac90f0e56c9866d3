"""Print every PDU of every protocol as its table has it: the page docs/wire.md.

`python -m hongyan.wire.document > docs/wire.md`; a test compares the two. Entry point: page(). What stands there is read from the
rows that the decoder and the encoder are compiled from, so it cannot say anything else than they do.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import get_type_hints

from hongyan.wire import cmpp, fields, sgip, smgp, smpp
from hongyan.wire.fields import Counted, CString, Integer, Kind, Listed, Octets, Pdu, Text, Tlvs, TlvTable

HEAD = """# PDUs on the wire

Printed from the tables in `src/hongyan/wire/`. Do not edit: `python -m hongyan.wire.document > docs/wire.md`.

Integers are unsigned and big endian. `u1` is an integer of one octet; `text 6` takes six octets, filled with NUL;
`octets 16` are raw; `cstring 21` ends with NUL and has at most 21 octets with it; `counted u1 255` is raw octets behind
their length. What stands in brackets repeats, varies, or may be missing at the end of what a peer sends.
"""
PROTOCOLS: Mapping[str, tuple[str, Mapping[int, type[Pdu]], TlvTable | None]] = {
    "SMPP 3.3 to 5.0": (
        "command_length u4 · command_id u4 · command_status u4 · sequence_number u4",
        smpp.PDUS,
        smpp.TLVS,
    ),
    "CMPP 2.0 and 2.1": ("Total_Length u4 · Command_Id u4 · Sequence_Id u4", cmpp.PDUS_2, None),
    "CMPP 3.0": ("Total_Length u4 · Command_Id u4 · Sequence_Id u4", cmpp.PDUS_3, None),
    "SGIP 1.2": (
        "Message Length u4 · Command ID u4 · Sequence Number: node u4, stamp u4, counter u4",
        sgip.PDUS,
        None,
    ),
    "SMGP 3.0": ("PacketLength u4 · RequestID u4 · SequenceID u4", smgp.PDUS, smgp.TLVS),
}


def page() -> str:
    """Return the whole page as Markdown."""
    return HEAD + "".join(
        _protocol(name, header, pdus, tlvs) for name, (header, pdus, tlvs) in PROTOCOLS.items()
    )


def _protocol(name: str, header: str, pdus: Mapping[int, type[Pdu]], tlvs: TlvTable | None) -> str:
    rows = "".join(
        f"| `{number:08x}` | `{pdu.__name__}` | {' · '.join(_fields(pdu)) or '–'} |\n"
        for number, pdu in sorted(pdus.items())
    )
    text = f"\n## {name}\n\nHeader: {header}\n\n| id | PDU | body |\n|---|---|---|\n{rows}"
    if tlvs is not None:
        named = " · ".join(f"`{tag:04x}` {word} {_kind(kind)}" for tag, word, kind in tlvs.rows())
        text += f"\nParameters (tag u2, length u2, value): {named}\n"
    return text


def _fields(pdu: type[Pdu]) -> Iterator[str]:
    hints = get_type_hints(pdu, include_extras=True)
    for name in pdu.__struct_fields__:
        kind = fields.kind_of(hints[name])
        absent = isinstance(kind, Listed) and not kind.layout  # this version has no room for it
        if kind is not None and not absent:
            yield f"{name} {_kind(kind)}"


def _kind(kind: Kind | None) -> str:
    match kind:
        case Integer(octets=octets):
            return f"u{octets}"
        case Text(octets=octets):
            return f"text {octets}"
        case Octets(octets=octets):
            return f"octets {octets}"
        case CString(octets_max=octets):
            return f"cstring {octets}"
        case Counted(count_octets=count, octets_max=octets):
            return f"counted u{count} {octets}"
        case Listed(layout=layout):
            return f"({layout})"
        case Tlvs():
            return "(parameters)"
        case None:
            return "octets"


if __name__ == "__main__":
    sys.stdout.write(page())
