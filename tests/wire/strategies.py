"""Hypothesis strategies for PDUs, drawn from the tables themselves: of any protocol, and all of SMPP's; the shared vectors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from hypothesis import strategies as st

from hongyan.wire import fields, smpp
from hongyan.wire.fields import Counted, CString, Integer, Listed, Octets, Text, Tlvs


class Vector(NamedTuple):
    """A PDU seen in public code or on a line, and what it means."""

    name: str
    kind: str  # pdu, negative, stream
    frame: bytes
    fields: dict[str, Any]


def load() -> list[Vector]:
    rows = json.loads((Path(__file__).parent / "vectors" / "smpp.json").read_text("utf-8"))
    return [Vector(row["name"], row["kind"], bytes.fromhex(row["hex"]), row["fields"]) for row in rows]


VECTORS = {vector.name: vector for vector in load()}
FRAMES = [vector.frame for vector in VECTORS.values() if vector.kind == "pdu"]


def texts(octets_max: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=octets_max)


def fixed_texts(octets: int) -> st.SearchStrategy[str]:
    """Whatever a fixed text holds: blanks at its end are padding."""
    return texts(octets).map(lambda text: text.rstrip(" "))


def fields_of(
    pdu_class: type[fields.Pdu], listed: Mapping[Any, st.SearchStrategy[Any]]
) -> dict[str, st.SearchStrategy[Any]]:
    """What each row of a table may hold. `listed`: of lists by their names, and of whatever has rules of its own by its hint."""
    hints = get_type_hints(pdu_class, include_extras=True)
    return {
        name: listed[hints[name]]
        if hints[name] in listed
        else _of_kind(name, hints[name].__metadata__[0], listed)
        for name in pdu_class.__struct_fields__
        if hasattr(hints[name], "__metadata__")
    }


def _of_kind(
    name: str, kind: fields.Kind, listed: Mapping[Any, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    match kind:
        case Integer(octets=octets):
            return st.integers(0, 256**octets - 1)
        case CString(octets_max=octets_max):
            return texts(octets_max - 1)
        case Text(octets=octets):
            return fixed_texts(octets)
        case Octets(octets=octets):
            return st.binary(min_size=octets, max_size=octets)
        case Counted(octets_max=octets_max):
            return st.binary(max_size=octets_max)
        case Tlvs():
            return st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=40)), max_size=3).map(tuple)
        case Listed():
            return listed[name]
    raise AssertionError(kind)


U1 = st.integers(0, 255)
U4 = st.integers(0, 2**32 - 1)
ADDRESSES = st.builds(smpp.Address, U1, U1, texts(20))
LISTED: dict[Any, st.SearchStrategy[Any]] = {
    "dest_address": st.lists(ADDRESSES | st.builds(smpp.DistributionList, texts(20)), max_size=4).map(tuple),
    "unsuccess_sme": st.lists(
        st.builds(smpp.Unsuccessful, U1, U1, texts(20), st.integers(0, 2**32 - 1)), max_size=4
    ).map(tuple),
}


def pdus_of(pdu_class: type[smpp.Pdu]) -> st.SearchStrategy[smpp.Pdu]:
    numbers = {"sequence_number": U4, "command_status": U4}
    full = st.builds(pdu_class, **numbers, **fields_of(pdu_class, LISTED))
    if issubclass(pdu_class, smpp.BodiedResponse):
        return full | st.builds(pdu_class, **numbers, bare=st.just(True))
    return full


PDUS = st.one_of([pdus_of(pdu_class) for pdu_class in smpp.PDUS.values()])


@st.composite
def chunked(draw: st.DrawFn, octets: bytes) -> list[bytes]:
    """The same octets, cut anywhere."""
    cuts = sorted(draw(st.lists(st.integers(0, len(octets)), max_size=12)))
    return [octets[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
