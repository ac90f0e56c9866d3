"""What comes from strangers is read or refused, and harms nothing; what leaves computes nothing."""

import asyncio
import contextlib
import io
import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import BinaryIO

import openpyxl
import pytest

from hongyan.control import tables
from hongyan.control.tables import Row
from hongyan.vocab.errors import Code, Refusal


async def rows_of(octets: bytes, kind: str, folder: Path) -> list[Row]:
    with (folder / "table").open("w+b") as file:
        file.write(octets)
        return [row async for batch in tables.read(file, kind, folder) for row in batch]


async def refused(octets: bytes, kind: str, folder: Path) -> str:
    with pytest.raises(Refusal) as caught:
        await rows_of(octets, kind, folder)
    assert caught.value.code is Code.REQUEST_UNSUPPORTED_FILE
    return str(caught.value.detail["reason"])


def xlsx(rows: Sequence[Sequence[object]]) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(list(row))
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def replaced(octets: bytes, part: str, content: bytes) -> bytes:
    """Put another content into a part of an archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(octets)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, content if name == part else old.read(name))
    return out.getvalue()


HEADER = "手机号,姓名\r\n"
BODY = HEADER + '13800138000,"王,小明"\r\n\r\n13800138001,李 "老" 师\r\n13800138002\r\n'
READ = [
    (1, ["手机号", "姓名"]),
    (2, ["13800138000", "王,小明"]),
    (4, ["13800138001", '李 "老" 师']),
    (5, ["13800138002", ""]),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
async def test_a_csv_is_read_in_the_encodings_people_have(encoding: str, tmp_path: Path) -> None:
    assert await rows_of(BODY.encode(encoding), "csv", tmp_path) == READ


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
async def test_the_header_tells_the_delimiter(delimiter: str, tmp_path: Path) -> None:
    octets = f'a{delimiter}"b,;c"\n1{delimiter}2\n'.encode()
    assert await rows_of(octets, "csv", tmp_path) == [(1, ["a", "b,;c"]), (2, ["1", "2"])]


async def test_an_xlsx_is_read_and_its_numbers_are_whole(tmp_path: Path) -> None:
    octets = xlsx(
        [("手机号", "n", "ok"), (13800138000, 1.5, True), (None, None, None), (13800138001.0, "x", None)]
    )
    assert await rows_of(octets, "xlsx", tmp_path) == [
        (1, ["手机号", "n", "ok"]),
        (2, ["13800138000", "1.5", "TRUE"]),
        (4, ["13800138001", "x", ""]),
    ]


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "the first row is empty"),
        (b"a,b\n", "no rows below"),
        (b"a,a\n1,2\n", "same name"),
        (b"a,,b\n1,2,3\n", "names the columns"),
        (b"a,b\n1,2\x003\n", "NUL"),
        (b"a,b\n1,\x07\n", "control character"),
        (b"a,b\n1,\xff\xff\xff\n", "neither UTF-8 nor GB18030"),
        (b"\xff\xfea\x00,\x00", "UTF-16"),
        (b'a,b\n1,"2\n', "no CSV"),
        (b"a,b\n1,2,3\n", "more cells than the header"),
        (b"a,b\n1," + b"x" * 10_000_000 + b"\n", "a line of more than"),
        (b'a,b\n1,"' + b"x\n" * 100_000 + b'"\n', "a row of more than"),
        (b"a,b\n1," + b"x" * 1_001 + b"\n", "a cell has more than"),
        ((",".join(f"c{n}" for n in range(65)) + "\n1\n").encode(), "more than 64 columns"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n\x00\x01", "NUL"),
        (b"PK\x03\x04rest", "XLSX or ZIP"),
    ],
    ids=range(16),
)
async def test_what_is_no_table_is_refused_with_a_word_of_why(
    octets: bytes, reason: str, tmp_path: Path
) -> None:
    assert reason in await refused(octets, "csv", tmp_path)


async def test_the_row_that_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as caught:
        await rows_of(b"a,b\n1,2\n1,2,3\n", "csv", tmp_path)
    assert caught.value.detail["row"] == 3


async def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    bomb = replaced(xlsx([("a",), ("1",)]), "xl/worksheets/sheet1.xml", b" " * 60_000_000)
    assert len(bomb) < 200_000
    assert "unpacks to too much" in await refused(bomb, "xlsx", tmp_path)


async def test_a_sheet_that_declares_entities_is_refused(tmp_path: Path) -> None:
    laughs = (
        b'<?xml version="1.0"?><!-- '
        + b"x" * 10_000
        + b' --><!DOCTYPE s [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
        b"<worksheet><sheetData><row><c t='inlineStr'><is><t>&b;</t></is></c></row></sheetData></worksheet>"
    )
    octets = replaced(xlsx([("a",), ("1",)]), "xl/worksheets/sheet1.xml", laughs)
    assert "document type" in await refused(octets, "xlsx", tmp_path)
    utf_16 = replaced(xlsx([("a",), ("1",)]), "xl/worksheets/sheet1.xml", laughs.decode().encode("utf-16"))
    assert "document type" in await refused(utf_16, "xlsx", tmp_path)


async def test_a_sheet_may_say_what_it_likes_of_its_size(tmp_path: Path) -> None:
    sheet = (
        b'<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        b'<dimension ref="A1:XFD1048576"/><sheetData>'
        b'<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c></row>'
        b'<row r="900000000"><c r="A900000000"><v>1</v></c></row></sheetData></worksheet>'
    )
    octets = replaced(xlsx([("a",), ("1",)]), "xl/worksheets/sheet1.xml", sheet)
    assert "no rows below" in await refused(octets, "xlsx", tmp_path)


@pytest.mark.parametrize("octets", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0" * 100, b"a,b\n1,2\n"])
async def test_what_is_no_xlsx_is_refused(octets: bytes, tmp_path: Path) -> None:
    assert "no XLSX" in await refused(octets, "xlsx", tmp_path)


@pytest.mark.parametrize(
    "formula", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1"]
)
async def test_no_cell_that_leaves_is_a_formula(formula: str, tmp_path: Path) -> None:
    assert tables.csv_octets([[formula]]).lstrip(b'"').startswith(b"'")

    async def batches() -> AsyncIterator[Sequence[Sequence[object]]]:
        yield [["a"], [formula]]

    with (tmp_path / "sheet").open("w+b") as file:
        await tables.write_xlsx(file, batches(), tmp_path)
        file.seek(0)
        sheet = openpyxl.load_workbook(file).active
        assert sheet is not None
        cell = sheet["A2"]
        assert (cell.data_type, str(cell.value)[0]) == ("s", "'")


@pytest.mark.parametrize("plain", ["-45000", "+8613800138000", "0.5", "a=b", ""])
def test_a_plain_number_is_none_and_stays(plain: str) -> None:
    assert tables.disarmed(plain) == plain


async def test_rows_that_cannot_be_fetched_are_no_fault_of_the_writer(tmp_path: Path) -> None:
    async def batches() -> AsyncIterator[Sequence[Sequence[object]]]:
        yield [["a"]]
        raise ConnectionResetError("the database went away")

    with (tmp_path / "sheet").open("w+b") as file, pytest.raises(ConnectionResetError):
        await tables.write_xlsx(file, batches(), tmp_path)


async def test_the_time_to_read_a_file_ends_no_work_on_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked = 0

    async def work(file: BinaryIO, wait_s: float) -> None:
        nonlocal worked
        async for _ in tables.read(file, "csv", tmp_path):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s + 0.5 if worked == 1 else 0):
                    await asyncio.Event().wait()
            worked += 1

    for wait_s in (1.5, 5.0, 15.0):  # who reads stands back for others, and on a busy machine begins late
        monkeypatch.setattr(tables, "READ_WAIT_S", wait_s)
        worked = 0
        with (tmp_path / "table").open("w+b") as file:
            file.write(b"a\n" + b"1\n" * 500_000)
            with pytest.raises(Refusal) as caught:
                await work(file, wait_s)
        assert "too long" in caught.value.detail["reason"]
        if worked > 1:
            return
    pytest.fail("it never came to the second batch")


async def test_a_written_sheet_is_read_again(tmp_path: Path) -> None:
    async def batches() -> AsyncIterator[Sequence[Sequence[object]]]:
        yield [["number", "n", "text"]]
        for start in range(0, 2_000, 500):
            yield [["13800138000", n, "控\x07制"] for n in range(start, start + 500)]

    with (tmp_path / "sheet").open("w+b") as file:
        await tables.write_xlsx(file, batches(), tmp_path)
        rows = [row async for batch in tables.read(file, "xlsx", tmp_path) for row in batch]
    assert len(rows) == 2_001
    assert rows[-1] == (2_001, ["13800138000", "1999", "控制"])
