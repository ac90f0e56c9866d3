"""An operator's answer as a file: many filings said at once, line by line.

Writes nothing itself: filings.put() does, for each line alone, so that a wrong one stops no other. Entry points:
read_csv(), take(). Columns by name: `signature` (its name, or its number after #), `state`, and where they are there
`tenant`, `valid_until`, `reason_code`, `reason`. Operators write columns and states in Chinese: COLUMN_WORDS, STATE_WORDS.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final, LiteralString, NamedTuple

import msgspec

from hongyan import db
from hongyan.control import filings
from hongyan.control.filings import FilingReason, FilingState
from hongyan.vocab.errors import Code, Refusal

OCTETS_MAX: Final = 2_000_000
LINES_MAX: Final = 5_000
FAULTS_MAX: Final = 100
# What columns are called, in lower case; of several that mean the same, the first of these counts.
COLUMN_WORDS: Final[Mapping[str, Sequence[str]]] = {
    "signature": ("signature", "签名", "短信签名", "签名名称", "签名内容"),
    "tenant": ("tenant", "租户", "客户"),
    "state": ("state", "报备状态", "报备结果", "审核状态", "审核结果", "状态", "结果"),
    "valid_until": ("valid_until", "有效期至", "有效期", "有效期限", "到期日", "到期日期", "失效日期"),
    "reason_code": ("reason_code", "原因代码", "失败代码"),
    "reason": ("reason", "失败原因", "驳回原因", "原因", "备注"),
}
NEEDED: Final = ("signature", "state")
STATE_WORDS: Final[Mapping[str, FilingState]] = {state.value: state for state in FilingState} | {
    "未报备": FilingState.NONE, "待报备": FilingState.FILING,
    "报备中": FilingState.FILED, "已提交": FilingState.FILED, "审核中": FilingState.FILED,
    "报备成功": FilingState.OK, "成功": FilingState.OK, "通过": FilingState.OK, "已报备": FilingState.OK,
    "报备失败": FilingState.FAILED, "失败": FilingState.FAILED, "驳回": FilingState.FAILED, "不通过": FilingState.FAILED,
    "已失效": FilingState.LAPSED, "失效": FilingState.LAPSED,
}  # fmt: skip


class Line(msgspec.Struct, frozen=True):
    """One line, its cells by column."""

    number: int  # in the file, the header being 1
    cells: Mapping[str, str]


class _Named(NamedTuple):
    """A signature that a line may mean."""

    id: int
    tenant: str


class LineFault(msgspec.Struct, frozen=True):
    """What is wrong with a line."""

    line: int
    reason: str


class AnswerTaken(msgspec.Struct, frozen=True):
    """What became of a file."""

    taken: int
    left_out: int
    faults: Sequence[LineFault]  # of the lines left out, the first FAULTS_MAX


def read_csv(octets: bytes) -> Sequence[Line]:
    """Read a CSV in UTF-8 or GB 18030. Raises Refusal for what is none, lacks a column, or has too many lines."""
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = octets.decode("gb18030", "replace")
    if "\0" in text:
        raise Refusal(Code.REQUEST_UNSUPPORTED_FILE, reason="it is no text")
    try:
        rows = [row for row in enumerate(csv.reader(io.StringIO(text)), 1) if any(row[1])]
    except csv.Error as error:
        raise Refusal(Code.REQUEST_UNSUPPORTED_FILE, reason=str(error)) from None
    places = _places(rows[0][1] if rows else ())
    missing = [f"{column} ({COLUMN_WORDS[column][1]})" for column in NEEDED if column not in places]
    if missing:
        raise Refusal(Code.REQUEST_UNSUPPORTED_FILE, reason=f"it has no column {', '.join(missing)}")
    if len(rows) - 1 > LINES_MAX:
        raise Refusal(Code.REQUEST_UNSUPPORTED_FILE, reason=f"more than {LINES_MAX:,} lines")
    return [
        Line(number, {name: cells[place].strip() for name, place in places.items() if place < len(cells)})
        for number, cells in rows[1:]
    ]


def _places(header: Sequence[str]) -> Mapping[str, int]:
    """Return where each column stands that is there."""
    named = {cell.strip().lower(): place for place, cell in enumerate(header)}
    found = {
        column: next((name for name in names if name in named), "") for column, names in COLUMN_WORDS.items()
    }
    return {column: named[name] for column, name in found.items() if name}


async def take(tx: db.Tx, operator: str, lines: Sequence[Line], *, who: str) -> AnswerTaken:
    """Put what an operator said of many signatures. Raises Refusal for an operator there is not."""
    filings.demand_operator(operator)
    known = await _known(tx, lines)
    faults: list[LineFault] = []
    # In the order of signatures, so that two answers that are taken at once do not wait for each other.
    for line in sorted(lines, key=lambda line: min((one.id for one in _meant(known, line.cells)), default=0)):
        try:
            await _take(tx, operator, line.cells, _only(_meant(known, line.cells)), who)
        except Refusal as refusal:
            faults.append(LineFault(line.number, str(refusal.detail.get("reason") or refusal.code.value.en)))
    faults.sort(key=lambda fault: fault.line)
    return AnswerTaken(len(lines) - len(faults), len(faults), faults[:FAULTS_MAX])


async def _take(tx: db.Tx, operator: str, cells: Mapping[str, str], signature_id: int, who: str) -> None:
    state = STATE_WORDS.get(cells.get("state", "").lower())
    if state is None:
        raise _wrong("state", f"one of {', '.join(FilingState)}")
    code = _reason_of(cells.get("reason_code", ""))
    if state is FilingState.FAILED and code is None:
        code = FilingReason.OTHER
    await filings.put(
        tx,
        signature_id,
        operator,
        state,
        who=who,
        reason_code=code,
        reason=cells.get("reason", ""),
        valid_until=_day_of(cells.get("valid_until", "")),
    )


def _reason_of(written: str) -> FilingReason | None:
    try:
        return FilingReason(written) if written else None
    except ValueError:
        raise _wrong("reason_code", f"one of {', '.join(FilingReason)}") from None


def _day_of(written: str) -> date | None:
    if not written:
        return None
    try:
        year, month, day = map(int, re.split(r"[-/.年月]", written.removesuffix("日")))
        return date(year, month, day)
    except ValueError:
        raise _wrong("valid_until", "a day as 2027-03-01") from None


NAMED_SQL: LiteralString = """
SELECT s.id, s.name, t.name AS tenant FROM signature s JOIN tenant t ON t.id = s.tenant_id
 WHERE s.name = ANY($1::text[]) OR '#' || s.id = ANY($1::text[])
"""


async def _known(tx: db.Tx, lines: Sequence[Line]) -> Mapping[str, Sequence[_Named]]:
    """Return the signatures that lines may mean, by name and by number. Names are their tenants' own: several may have one."""
    wanted = sorted({line.cells.get("signature", "") for line in lines})
    found: defaultdict[str, list[_Named]] = defaultdict(list)
    for row in await tx.fetch(NAMED_SQL, wanted):
        for written in (row["name"], f"#{row['id']}"):
            found[written].append(_Named(row["id"], row["tenant"]))
    return found


def _meant(known: Mapping[str, Sequence[_Named]], cells: Mapping[str, str]) -> Sequence[_Named]:
    tenant = cells.get("tenant", "")
    return [one for one in known.get(cells.get("signature", ""), ()) if tenant in ("", one.tenant)]


def _only(meant: Sequence[_Named]) -> int:
    if not meant:
        raise _wrong("signature", "there is no such signature")
    if len(meant) > 1:
        raise _wrong("signature", "several tenants have it: name the tenant, or its number as #7")
    return meant[0].id


def _wrong(column: str, reason: str) -> Refusal:
    return Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=column, reason=f"{column}: {reason}")
