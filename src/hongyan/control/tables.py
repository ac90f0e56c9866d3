"""Tables that people bring and take away: CSV and XLSX as streams of rows.

Writes nothing. Entry points: read() and write_xlsx(), which have a process of their own do it (main()); csv_octets().
A file comes from strangers: it is read where a bomb can do no harm, with bounded memory, time, rows, cells and
lengths, and what is refused is refused with a word of why. The rows pass a pipe as frames: four octets of length and
a msgpack array of rows, [row number, [cells]]; an empty one is the end, a map is a fault.
"""

import asyncio
import codecs
import csv
import io
import itertools
import os
import re
import resource
import sys
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Final
from xml.parsers import expat

import msgspec

from hongyan.vocab.errors import Code, Refusal

CSV_TYPE: Final = "text/csv"
XLSX_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
KINDS: Final[Mapping[str, str]] = {CSV_TYPE: "csv", XLSX_TYPE: "xlsx"}

ROWS_MAX: Final = 1_000_000  # without the header
COLUMNS_MAX: Final = 64
COLUMN_CHARACTERS_MAX: Final = 64  # of a column's name
CELL_CHARACTERS_MAX: Final = 1_000  # as of a template's variable
LINE_CHARACTERS_MAX: Final = 65_536  # of a row, however many lines it has
FRAME_ROWS: Final = 500
FRAME_OCTETS_MAX: Final = 200_000_000
MEMORY_OCTETS_MAX: Final = (
    2_000_000_000  # address space: an XLSX has its distinct texts in one part, which is kept
)
CPU_S_MAX: Final = 900
READ_WAIT_S: Final = 1_200.0
PIECE_OCTETS: Final = 1 << 20
ZIP_PARTS_MAX: Final = 1_000
ZIP_OCTETS_MAX: Final = 2_000_000_000  # of all parts, unpacked
ZIP_RATIO_MAX: Final = 200  # sheets of numbers are packed 5 to 50 times
ZIP_SMALL_OCTETS: Final = 20_000_000  # below this any ratio will do
XLSX_ROWS_MAX: Final = 1_048_576  # of a sheet, by ECMA-376
NICE: Final = 10  # codes do not wait for a table
BOM: Final = b"\xef\xbb\xbf"

Row = tuple[int, Sequence[str]]  # its number in the file, from 1, and its cells


class Fault(Exception):  # noqa: N818 - the caller's, told as a Refusal
    """What is wrong with a file."""

    def __init__(self, reason: str, row: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.row = row


# ---- as the rest of the program sees it


async def read(file: BinaryIO, kind: str, folder: Path) -> AsyncGenerator[Sequence[Row], None]:
    """Read a file ('csv', 'xlsx'), yielding rows in batches of FRAME_ROWS; the first batch is the header alone.

    Raises Refusal for what is no table or exceeds the bounds. `folder` is private, for what the reader puts aside.
    """
    file.seek(0)
    async with _child(["read", kind], folder, stdin=file) as child:
        assert child.stdout is not None
        end_s = asyncio.get_running_loop().time() + READ_WAIT_S
        while True:
            try:
                async with asyncio.timeout_at(
                    end_s
                ):  # around the read alone: it must not end what is done with rows
                    octets = await _frame(child.stdout)
            except asyncio.IncompleteReadError:
                raise _refusal("it takes too much memory or time to read") from None
            except TimeoutError:
                raise _refusal("it takes too long to read") from None
            rows = _rows_of(octets)
            if not rows:
                return
            yield rows


def _rows_of(octets: bytes) -> Sequence[Row]:
    told = msgspec.msgpack.decode(octets)
    if isinstance(told, dict):
        raise _refusal(told["reason"], told["row"])
    return [(number, cells) for number, cells in told]


def _refusal(reason: str, row: int = 0) -> Refusal:
    detail: dict[str, Any] = {"reason": reason} | ({"row": row} if row else {})
    return Refusal(Code.REQUEST_UNSUPPORTED_FILE, **detail)


async def _frame(stream: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await stream.readexactly(4))
    return await stream.readexactly(length)


async def write_xlsx(
    file: BinaryIO, batches: AsyncIterator[Sequence[Sequence[object]]], folder: Path
) -> None:
    """Write rows as one sheet into an open file, in constant memory. Raises RuntimeError where the writer fails."""
    async with _child(["write", "xlsx"], folder, stdin=asyncio.subprocess.PIPE, stdout=file) as child:
        assert child.stdin is not None
        async for batch in batches:
            if child.returncode is not None:
                break
            await _feed(child.stdin, batch)
        await _feed(child.stdin, [])
        child.stdin.close()
        if await child.wait():
            raise RuntimeError("the writer of a sheet failed")


async def _feed(stream: asyncio.StreamWriter, rows: Sequence[Sequence[object]]) -> None:
    with suppress(ConnectionError):  # a writer that died says so by how it ended
        stream.write(_framed(rows))
        await stream.drain()


@asynccontextmanager
async def _child(
    words: Sequence[str], folder: Path, *, stdin: Any, stdout: Any = asyncio.subprocess.PIPE
) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hongyan.control.tables", *words,
        stdin=stdin, stdout=stdout, stderr=asyncio.subprocess.DEVNULL, limit=PIECE_OCTETS,
        env=os.environ | {"TMPDIR": str(folder)}, start_new_session=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
        await child.wait()


def _framed(rows: object) -> bytes:
    octets = msgspec.msgpack.encode(rows, enc_hook=str)
    return len(octets).to_bytes(4) + octets


def csv_octets(rows: Sequence[Sequence[object]]) -> bytes:
    """Write rows as CSV (RFC 4180), UTF-8, formulas disarmed. Begin a file with BOM, or Excel takes it for something else."""
    written = io.StringIO()
    csv.writer(written).writerows([[disarmed(cell) for cell in row] for row in rows])
    return written.getvalue().encode("utf-8", "replace")


def disarmed(cell: object) -> str:
    """Write a cell so that no program of tables takes it for a formula. Plain numbers stay as they are.

    What begins with = + - @, in full width too, or a tab or an end of line gets ' before it (OWASP, CSV injection).
    """
    text = "" if cell is None else str(cell)
    if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text):
        return "'" + text
    return text


_FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")


# ---- in the process of its own


def main() -> None:
    """Be the reader or the writer, as the command line says."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_OCTETS_MAX, MEMORY_OCTETS_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # a sandbox may refuse it
        # Not one step more than needed: who began us may stand back already.
        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    if sys.argv[1:2] == ["write"]:
        _write(sys.stdin.buffer, sys.stdout.buffer)
        return
    out = sys.stdout.buffer
    rows = {"csv": _csv_rows, "xlsx": _xlsx_rows}[sys.argv[2]]
    try:
        for frame in _checked(rows(sys.stdin.buffer)):
            out.write(_framed(frame))
        out.write(_framed([]))
    except Fault as fault:
        out.write(_framed({"reason": fault.reason, "row": fault.row}))
    except BrokenPipeError:
        return
    except MemoryError:
        out.write(_framed({"reason": "it takes too much memory to read", "row": 0}))
    out.flush()


def _checked(rows: Iterator[Row]) -> Iterator[Sequence[Row]]:
    """Ask of every row what is asked of all files, whatever they are. Empty rows are left out, and keep their numbers."""
    number, names = next(rows, (0, ()))
    names = _trimmed(names)
    _demand_header(names)
    yield [(number, names)]
    frame: list[Row] = []
    count = 0
    for number, cells in rows:
        trimmed = _trimmed(cells)
        if not trimmed:
            continue
        count += 1
        if count > ROWS_MAX:
            raise Fault(f"more than {ROWS_MAX:,} rows")
        if len(trimmed) > len(names):
            raise Fault("a row has more cells than the header", number)
        if max(map(len, trimmed)) > CELL_CHARACTERS_MAX:
            raise Fault(f"a cell has more than {CELL_CHARACTERS_MAX:,} characters", number)
        frame.append((number, [*trimmed, *[""] * (len(names) - len(trimmed))]))
        if len(frame) == FRAME_ROWS:
            yield frame
            frame = []
    if frame:
        yield frame
    if not count:
        raise Fault("there are no rows below the header")


def _trimmed(cells: Sequence[str]) -> list[str]:
    trimmed = [cell.strip() for cell in cells]
    while trimmed and not trimmed[-1]:
        trimmed.pop()
    return trimmed


def _demand_header(names: Sequence[str]) -> None:
    if not names:
        raise Fault("the first row is empty; it names the columns", 1)
    if len(names) > COLUMNS_MAX:
        raise Fault(f"more than {COLUMNS_MAX} columns", 1)
    if not all(0 < len(name) <= COLUMN_CHARACTERS_MAX and name.isprintable() for name in names):
        raise Fault(f"the first row names the columns, each in 1 to {COLUMN_CHARACTERS_MAX} characters", 1)
    if len(set(names)) < len(names):
        raise Fault("two columns have the same name", 1)


# CSV


def _csv_rows(file: IO[bytes]) -> Iterator[Row]:
    encoding = _encoding_of(file)
    file.seek(0)
    lines = _Lines(io.TextIOWrapper(file, encoding, newline=""))
    reader = csv.reader(lines, delimiter=lines.delimiter(), strict=True)
    number = 0
    try:
        for number, cells in enumerate(reader, 1):
            lines.since = 0
            yield number, cells
    except csv.Error as error:
        raise Fault(f"no CSV: {error}", number + 1) from error
    except UnicodeDecodeError as error:
        raise Fault("neither UTF-8 nor GB18030", number + 1) from error


def _encoding_of(file: IO[bytes]) -> str:
    """Say what a file is written in: UTF-8 if all of it is, else GB18030 if all of it is."""
    start = file.read(4)
    if start.startswith(_OTHER_BOMS):
        raise Fault("UTF-16 or UTF-32; save it as UTF-8")
    if start.startswith(b"PK\x03\x04"):
        raise Fault(f"an XLSX or ZIP; say its content type, {XLSX_TYPE}")
    for encoding in ("utf-8-sig", "gb18030"):
        file.seek(0)
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            while piece := file.read(PIECE_OCTETS):
                if b"\0" in piece:
                    raise Fault("a NUL: this is no text")
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding
    raise Fault("neither UTF-8 nor GB18030")


_OTHER_BOMS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class _Lines:
    """The lines of a text, bounded."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._number = 0
        self._first: str | None = self._read()
        self.since = 0  # characters since the last row began

    def delimiter(self) -> str:
        """Return which of , ; and tab the header has most of, outside of quotes."""
        bare = "".join((self._first or "").split('"')[::2])
        return max(",;\t", key=bare.count)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line, self._first = (self._first, None) if self._first is not None else (self._read(), None)
        if not line:
            raise StopIteration
        self.since += len(line)
        if self.since > LINE_CHARACTERS_MAX:
            raise Fault(f"a row of more than {LINE_CHARACTERS_MAX:,} characters", self._number)
        return line

    def _read(self) -> str:
        line = self._text.readline(LINE_CHARACTERS_MAX + 1)
        self._number += 1
        if len(line) > LINE_CHARACTERS_MAX:
            raise Fault(f"a line of more than {LINE_CHARACTERS_MAX:,} characters", self._number)
        if _CONTROL.search(line):
            raise Fault("a control character: this is no text", self._number)
        return line


# XLSX


def _xlsx_rows(file: IO[bytes]) -> Iterator[Row]:
    import openpyxl

    _guard(file)
    file.seek(0)
    number = 0
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
        sheet: Any = book.worksheets[0]
        sheet.reset_dimensions()  # what a file says of its size is no reason to believe it
        # Rows that are not there are empty ones: a file may say that its only row is the thousand-millionth.
        rows = itertools.islice(sheet.iter_rows(values_only=True), XLSX_ROWS_MAX)
        for number, cells in enumerate(rows, 1):
            yield number, [_cell(cell) for cell in cells]
    except (Fault, MemoryError, GeneratorExit):
        raise
    except Exception as error:  # a library's, over a stranger's file: whatever it is, the file is at fault
        raise Fault("no sheet that can be read", number) from error


def _cell(value: object) -> str:
    """Write a cell as a person sees it. A number in a cell is often a telephone number: no fraction, no exponent."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = str(value)
    if _CONTROL.search(text):
        raise Fault("a control character in a cell")
    return text


def _guard(file: IO[bytes]) -> None:
    """Refuse archives that would unpack to too much, and XML with a document type, where entities are declared."""
    try:
        archive = zipfile.ZipFile(file)
        parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise Fault("no XLSX") from error
    octets, packed = sum(p.file_size for p in parts), sum(p.compress_size for p in parts)
    if len(parts) > ZIP_PARTS_MAX or octets > ZIP_OCTETS_MAX:
        raise Fault("it unpacks to too much")
    if octets > ZIP_SMALL_OCTETS and octets > packed * ZIP_RATIO_MAX:
        raise Fault("it unpacks to too much for its size")
    for part in parts:
        if part.flag_bits & 1:
            raise Fault("it is encrypted")
        _guard_xml(archive, part)


def _guard_xml(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    """Read a part to its first element. What is no XML is not asked: the reader will not take it for any."""
    parser = expat.ParserCreate()
    begun: list[str] = []

    def declared(*_: object) -> None:
        raise Fault("XML with a document type")

    def began(name: str, _: object) -> None:
        begun.append(name)

    parser.StartDoctypeDeclHandler = declared
    parser.StartElementHandler = began
    try:
        with archive.open(part) as opened:
            left = PIECE_OCTETS
            while not begun and left > 0 and (piece := opened.read(min(left, 4_096))):
                left -= len(piece)
                parser.Parse(piece, False)
            if not begun and left <= 0:
                raise Fault("XML without an element")
            if not begun:
                # From 2.6 on expat may put off what it has until it is told that this is all.
                parser.Parse(b"", True)
    except expat.ExpatError:
        return
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise Fault("no XLSX") from error


def _write(source: IO[bytes], out: IO[bytes]) -> None:
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    sheet: Any = book.create_sheet("1")
    while rows := msgspec.msgpack.decode(source.read(int.from_bytes(_exactly(source, 4)))):
        for row in rows:
            sheet.append([_sheet_cell(cell) for cell in row])
    book.save(out)
    out.flush()


def _exactly(source: IO[bytes], count: int) -> bytes:
    octets = source.read(count)
    if len(octets) < count:
        raise EOFError
    return octets


def _sheet_cell(cell: object) -> object:
    if isinstance(cell, int | float) and not isinstance(cell, bool) and abs(cell) < 1e15:
        return cell
    return _UNWRITABLE.sub("", disarmed(cell))[:32_767]  # the longest text of a cell, by ECMA-376


_UNWRITABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


if __name__ == "__main__":
    main()
