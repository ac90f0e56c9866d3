"""Turn PDU tables into functions, and a byte stream into frames.

A PDU is a frozen Struct whose annotated fields are the rows of its table, in wire order:
`source_addr: Annotated[str, CString(21)]` is one row (name, kind, size). compile_pdu() writes, once at
import, one reading and one writing function for it out of plain slices, `struct` and one bytes template;
interpreting the rows for each PDU would be some six times slower. Fields without a kind (sequence number,
status) live in the header and belong to the protocol's own module.

Entry points: compile_pdu(), framed(), Framer, TlvTable. Integers are unsigned and big endian in all our protocols.
Texts are Latin-1 on both sides, so every octet survives a round trip and decoding cannot fail.
Reading is lenient (over-long texts, octets after the last field), writing is exact.
"""

import linecache
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_type_hints

from msgspec import Struct

PDU_OCTETS_MAX = 65_536  # no real PDU is larger; a length above it means that the stream is lost

Tlv = tuple[int, bytes]  # tag, value as it stands on the wire


class LocalProtocolError(Exception):
    """We erred: a value that the protocol cannot carry, or a deed that the session's state forbids."""


class RemoteProtocolError(Exception):
    """They erred. From the framer: drop the connection. From a decoder: that one PDU cannot be read.

    field names the field that did not fit, or is empty.
    """

    def __init__(self, text: str, field: str = "") -> None:
        super().__init__(text)
        self.field = field


class Pdu(Struct, frozen=True, gc=False):
    """What PDUs of every protocol have. The number is 0 until one is given."""

    sequence_number: int = 0


P = TypeVar("P", bound=Pdu)


def framed(header: struct.Struct, body: bytes, octets_max: int, *words: int) -> bytes:
    """Put the header before a body: its length, then the other words. Raises LocalProtocolError for what it cannot say."""
    length = header.size + len(body)
    if length > octets_max:
        raise LocalProtocolError(f"a PDU of {length} octets; the most is {octets_max}")
    try:
        return header.pack(length, *words) + body
    except struct.error as error:
        raise LocalProtocolError(f"a header of {', '.join(map(str, words))}: {error}") from error


# ── field kinds ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Integer:
    """Unsigned big endian integer of 1, 2, 4 or 8 octets."""

    octets: int

    @property
    def code(self) -> str:
        return {1: "B", 2: "H", 4: "I", 8: "Q"}[self.octets]


@dataclass(frozen=True, slots=True)
class Text:
    """Text in a fixed number of octets: padded with NUL when written, cut at the first NUL when read.

    Blanks at its end are taken for padding, too: some peers pad with them.
    """

    octets: int

    @property
    def code(self) -> str:
        return f"{self.octets}s"


@dataclass(frozen=True, slots=True)
class Octets:
    """Exactly so many raw octets."""

    octets: int

    @property
    def code(self) -> str:
        return f"{self.octets}s"


@dataclass(frozen=True, slots=True)
class CString:
    """Text that ends with NUL; octets_max counts the NUL, as the specifications do."""

    octets_max: int


@dataclass(frozen=True, slots=True)
class Counted:
    """Raw octets behind their own length, which is an integer of count_octets and no field of the value."""

    count_octets: int
    octets_max: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A repeated or variant part that reads and writes itself.

    layout says for a reader what stands there, "" where nothing does; read(frame, at) returns the value and the place behind
    it; write(value) returns its octets.
    """

    layout: str
    read: Callable[[bytes, int], tuple[Any, int]]
    write: Callable[[Any], bytes]


@dataclass(frozen=True, slots=True)
class Tlvs:
    """The optional parameters at the end of a PDU: tag u2, length u2, value; in the order they came."""


Kind = Integer | Text | Octets | CString | Counted | Listed | Tlvs

U1 = Annotated[int, Integer(1)]
U2 = Annotated[int, Integer(2)]
U4 = Annotated[int, Integer(4)]
U8 = Annotated[int, Integer(8)]


# ── compiling a table ────────────────────────────────────────────────────────────────────────────────


class Codec(NamedTuple, Generic[P]):
    """read(frame, *header fields) → value · write(value) → body · source: the text of both, for a reader."""

    read: Callable[..., P]
    write: Callable[[P], bytes]
    source: str


def compile_pdu(pdu_class: type[P], header_octets: int) -> Codec[P]:
    """Compile the table that pdu_class is into a reading and a writing function.

    The reader takes the whole frame and then the fields without a kind, in their order, and raises
    RemoteProtocolError; the writer returns the body alone and raises LocalProtocolError.
    """
    hints = get_type_hints(pdu_class, include_extras=True)
    rows = [(name, kind_of(hints[name])) for name in pdu_class.__struct_fields__]
    table = [(name, kind) for name, kind in rows if kind is not None]
    header = [name for name, kind in rows if kind is None]
    names: dict[str, Any] = {
        "Pdu": pdu_class,
        "pack_error": struct.error,
        "LocalProtocolError": LocalProtocolError,
        "RemoteProtocolError": RemoteProtocolError,
        "read_tlvs": read_tlvs,
        "write_tlvs": write_tlvs,
        "misfit": _misfit,
        "overrun": _overrun,
    }
    source = _reader_source(table, header, pdu_class, header_octets, names) + _writer_source(table, names)
    return _run(pdu_class, source, names)


def _run(pdu_class: type[P], source: str, names: dict[str, Any]) -> Codec[P]:
    filename = f"<table of {pdu_class.__module__}.{pdu_class.__qualname__}>"
    # Known to linecache, so that a traceback shows the generated line.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), names)  # noqa: S102 - the source is made of our tables only
    return Codec(names["read"], names["write"], source)


def kind_of(hint: object) -> Kind | None:
    """Return the kind that a field's annotation carries; None for a field of the header."""
    kinds = [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Kind)]
    return kinds[0] if kinds else None


def _reader_source(
    table: Sequence[tuple[str, Kind]],
    header: Sequence[str],
    pdu_class: type[Pdu],
    header_octets: int,
    names: dict[str, Any],
) -> str:
    lines: list[str] = []
    run: list[tuple[str, Integer | Text | Octets]] = []
    for name, kind in table:
        if isinstance(kind, Integer | Text | Octets):
            run.append((name, kind))
            continue
        lines += _read_run(run, names)
        run = []
        lines += _read_one(name, kind, names)
    lines += _read_run(run, names)
    defaults = dict(
        zip(reversed(pdu_class.__struct_fields__), reversed(pdu_class.__struct_defaults__), strict=False)
    )
    arguments = ", ".join(f"{name}={defaults[name]!r}" for name in header)
    values = ", ".join([*header, *(name for name, _ in table)])
    body = "".join(f"        {line}\n" for line in [f"at = {header_octets}", *lines])
    return (
        f"def read(frame, {arguments}):\n    try:\n{body}"
        "    except (IndexError, ValueError, pack_error) as error:\n"
        "        raise RemoteProtocolError(f'{Pdu.__name__} ends too early: {error}') from error\n"
        f"    return Pdu({values})\n\n"
    )


def _read_run(run: Sequence[tuple[str, Integer | Text | Octets]], names: dict[str, Any]) -> list[str]:
    """Read neighbours of fixed size with one unpack."""
    if not run:
        return []
    if len(run) == 1 and run[0][1] == Integer(1):
        return [f"{run[0][0]} = frame[at]", "at += 1"]
    layout = struct.Struct(">" + "".join(kind.code for _, kind in run))
    unpack = f"unpack_{run[0][0]}"
    names[unpack] = layout.unpack_from
    lines = [f"{', '.join(name for name, _ in run)}, = {unpack}(frame, at)", f"at += {layout.size}"]
    lines += [
        f"{name} = {name}.split(b'\\0', 1)[0].rstrip(b' ').decode('latin-1')"
        for name, kind in run
        if isinstance(kind, Text)
    ]
    return lines


def _read_one(name: str, kind: CString | Counted | Listed | Tlvs, names: dict[str, Any]) -> list[str]:
    match kind:
        case CString():
            return [
                "stop = frame.index(0, at)",
                f"{name} = frame[at:stop].decode('latin-1') if stop > at else ''",
                "at = stop + 1",
            ]
        case Counted(count_octets=1):
            count = ["stop = at + 1 + frame[at]", "at += 1"]
        case Counted():
            layout = struct.Struct(">" + Integer(kind.count_octets).code)
            names[f"unpack_{name}"] = layout.unpack_from
            count = [f"stop = at + {layout.size} + unpack_{name}(frame, at)[0]", f"at += {layout.size}"]
        case Listed():
            names[f"read_{name}"] = kind.read
            return [f"{name}, at = read_{name}(frame, at)"]
        case Tlvs():
            return [f"{name} = read_tlvs(frame, at) if at < len(frame) else ()"]
    return [*count, f"if stop > len(frame): raise overrun('{name}')", f"{name} = frame[at:stop]", "at = stop"]


def _writer_source(table: Sequence[tuple[str, Kind]], names: dict[str, Any]) -> str:
    template = ""
    lines: list[str] = []
    values: list[str] = []
    for name, kind in table:
        more_template, more_lines, more_values = _write_one(name, kind, names)
        template += more_template
        lines += more_lines
        values += more_values
    body = "".join(f"        {line}\n" for line in lines)
    return (
        f"def write(pdu):\n    try:\n{body}"
        f"        return b'{template}' % ({''.join(f'{value}, ' for value in values)})\n"
        "    except (AttributeError, OverflowError, TypeError, ValueError, pack_error) as error:\n"
        "        raise LocalProtocolError(f'{Pdu.__name__} cannot carry this: {error}') from error\n"
    )


def _write_one(name: str, kind: Kind, names: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    """What the field adds to the bytes template, the lines that prepare it, the values that fill it."""
    match kind:
        case Integer(octets=1):
            return "%c", [], [f"pdu.{name}"]
        case Integer():
            names[f"pack_{name}"] = struct.Struct(">" + kind.code).pack
            return "%b", [], [f"pack_{name}(pdu.{name})"]
        case CString():
            limit = kind.octets_max - 1
            checks = f"if len({name}) > {limit} or 0 in {name}: raise misfit('{name}', '{kind}')"
            return "%b\\0", [f"{name} = pdu.{name}.encode('latin-1')", checks], [name]
        case Text():
            checks = f"if len({name}) > {kind.octets} or 0 in {name}: raise misfit('{name}', '{kind}')"
            lines = [f"{name} = pdu.{name}.encode('latin-1')", checks]
            values = [f"{name}.ljust({kind.octets}, b'\\0')"]
        case Octets():
            lines = [f"if len(pdu.{name}) != {kind.octets}: raise misfit('{name}', '{kind}')"]
            values = [f"pdu.{name}"]
        case Counted():
            names[f"pack_{name}"] = struct.Struct(">" + Integer(kind.count_octets).code).pack
            lines = [
                f"{name} = pdu.{name}",
                f"if len({name}) > {kind.octets_max}: raise misfit('{name}', '{kind}')",
            ]
            return "%b%b", lines, [f"pack_{name}(len({name}))", name]
        case Listed():
            names[f"write_{name}"] = kind.write
            lines, values = [], [f"write_{name}(pdu.{name})"]
        case Tlvs():
            lines, values = [], [f"write_tlvs(pdu.{name}) if pdu.{name} else b''"]
    return "%b", lines, values


def _misfit(name: str, kind: str) -> LocalProtocolError:
    return LocalProtocolError(f"{name} does not fit {kind}")


def _overrun(name: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"the length of {name} runs over the end of the PDU", name)


# ── optional parameters ──────────────────────────────────────────────────────────────────────────────

_TLV_HEAD = struct.Struct(">HH")


def read_tlvs(frame: bytes, at: int) -> tuple[Tlv, ...]:
    """Read the optional parameters from at to the end of frame; a broken tail is left out."""
    tlvs = []
    end = len(frame)
    while at + 4 <= end:
        tag, octets = _TLV_HEAD.unpack_from(frame, at)
        at += 4 + octets
        if at > end:
            break
        tlvs.append((tag, frame[at - octets : at]))
    return tuple(tlvs)


def write_tlvs(tlvs: Sequence[Tlv]) -> bytes:
    return b"".join([_TLV_HEAD.pack(tag, len(value)) + value for tag, value in tlvs])


class TlvTable:
    """The named optional parameters of a protocol; PDUs keep them raw, this gives them their meaning."""

    def __init__(self, rows: Sequence[tuple[int, str, Integer | CString | Text | Octets | None]]) -> None:
        """rows: tag, name, kind; None is raw octets of any length."""
        self._rows = {name: (tag, kind) for tag, name, kind in rows}
        self.names = {tag: name for tag, name, _ in rows}

    def rows(self) -> Sequence[tuple[int, str, Integer | CString | Octets | Text | None]]:
        """Return tag, name and kind of each parameter, in the order of the table."""
        return [(tag, name, kind) for name, (tag, kind) in self._rows.items()]

    def tag(self, name: str) -> int:
        return self._rows[name][0]

    def read(self, tlvs: Sequence[Tlv], name: str) -> int | str | bytes | None:
        """Return the first parameter of that name, or None where it is absent or its length is wrong."""
        wanted, kind = self._rows[name]
        for tag, value in tlvs:
            if tag == wanted:
                return _read_tlv_value(value, kind)
        return None

    def write(self, name: str, value: int | str | bytes) -> Tlv:
        """Return the raw parameter; raises LocalProtocolError for a value of the wrong kind or size."""
        tag, kind = self._rows[name]
        match kind, value:
            case Integer(octets=octets), int() if 0 <= value < 1 << 8 * octets:
                return tag, value.to_bytes(octets, "big")
            case CString(octets_max=octets), str() if (
                len(value) < octets and value.isascii() and "\0" not in value
            ):
                return tag, value.encode("ascii") + b"\0"
            case Text(octets=octets), str() if len(value) <= octets and value.isascii() and "\0" not in value:
                return tag, value.encode("ascii").ljust(octets, b"\0")
            case Octets(octets=octets), bytes() if len(value) == octets:
                return tag, value
            case None, bytes() if len(value) < 1 << 16:
                return tag, value
        raise LocalProtocolError(f"{name} does not fit {kind}")


def _read_tlv_value(value: bytes, kind: Integer | CString | Text | Octets | None) -> int | str | bytes | None:
    match kind:
        case Integer(octets=octets):
            return int.from_bytes(value, "big") if len(value) == octets else None
        case CString():  # the closing NUL is often forgotten
            return value.split(b"\0", 1)[0].decode("latin-1")
        case Text():  # peers send it shorter than it is
            return value.split(b"\0", 1)[0].rstrip(b" ").decode("latin-1")
        case Octets(octets=octets):
            return value if len(value) == octets else None
        case None:
            return value


# ── framing ──────────────────────────────────────────────────────────────────────────────────────────


class Framer:
    """Cut a byte stream into frames at the length (u4, header included) that opens each of them.

    What is held back is less than one PDU, so never more than pdu_octets_max.
    """

    def __init__(self, header_octets: int, pdu_octets_max: int = PDU_OCTETS_MAX) -> None:
        self._header_octets = header_octets
        self._pdu_octets_max = pdu_octets_max
        self._pending = bytearray()
        self._wanted = 4  # no use in looking again before so many octets are here
        self.broken: RemoteProtocolError | None = None  # set when a length is impossible: the stream is lost

    def feed(self, octets: bytes) -> list[bytes]:
        """Take the next octets, return the frames that are now complete, in order.

        An impossible length sets `broken` instead of raising, so that the frames before it are not lost
        with it; after that every call returns nothing.
        """
        if self.broken is not None:
            return []
        if self._pending:
            self._pending += octets
            if len(self._pending) < self._wanted:
                return []
            octets = bytes(self._pending)
        frames, rest, self._wanted = self._cut(octets)
        self._pending = bytearray(octets[rest:])
        return frames

    def _cut(self, octets: bytes) -> tuple[list[bytes], int, int]:
        """Return the frames, where the unfinished rest begins, and how long that will be."""
        frames: list[bytes] = []
        at, end = 0, len(octets)
        while at + 4 <= end:
            length = int.from_bytes(octets[at : at + 4], "big")
            if not self._header_octets <= length <= self._pdu_octets_max:
                self.broken = RemoteProtocolError(f"a PDU of {length} octets is impossible", "length")
                return frames, end, 4
            if at + length > end:
                return frames, at, length
            frames.append(octets[at : at + length])
            at += length
        return frames, at, 4
