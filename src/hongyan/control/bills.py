"""What operators bill us, beside what we counted: day by day, operator by operator.

Writes: bill, bill_line. Entry points: read_csv(), reconcile(), one(), every(). A bill is a CSV file with a header; of its
columns `day` and `parts` are needed, `operator` and `amount` may be there, under the names operators use. Ours is what the
tally has of the channel: parts that the upstream took, by the hour their message was accepted. So near midnight a part can
stand in another day than at the operator's, and an open span is not comparable yet.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final, LiteralString
from zoneinfo import ZoneInfo

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_found, demand_name
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import ChannelId
from hongyan.vocab.phone import OPERATOR_NAMES
from hongyan.way import rollup

LINES_MAX: Final = 20_000
DAYS_MAX: Final = 400
PARTS_MAX: Final = 10**12
MICRO: Final = 1_000_000
OCTETS_MAX: Final = 2_000_000
AMOUNT_MAX: Final = PARTS_MAX
FIRST_DAY: Final = date(2000, 1, 1)
LAST_DAY: Final = date(2199, 12, 31)

# What columns are called, in lower case.
_NAMES: Final[Mapping[str, Sequence[str]]] = {
    "day": ("day", "date", "日期", "账期", "统计日期"),
    "operator": ("operator", "carrier", "运营商"),
    "parts": ("parts", "count", "quantity", "segments", "条数", "计费条数", "数量", "发送量"),
    "amount": ("amount", "fee", "cost", "金额", "费用"),
}
_OPERATORS: Final = {
    name.lower(): slug for slug, names in OPERATOR_NAMES.items() for name in (slug, *names)
} | {"移动": "cmcc", "联通": "unicom", "电信": "telecom", "广电": "broadnet"}


class Line(msgspec.Struct, frozen=True):
    """One line of a bill as it was read."""

    day: date
    operator: str  # empty: all of them
    parts: int
    amount_micro: int | None


class Compared(msgspec.Struct, frozen=True):
    """A line of a bill beside ours. Differences are theirs less ours."""

    day: date
    operator: str
    parts: int
    our_parts: int
    difference_parts: int
    amount_micro: int | None
    our_micro: int
    difference_micro: int | None


class BillRow(msgspec.Struct, frozen=True):
    """A bill as it stands in a list."""

    id: int
    channel: str
    name: str
    first_day: date
    last_day: date
    currency: str
    parts: int
    our_parts: int
    amount_micro: int | None
    our_micro: int
    made_by: str
    made_at: datetime


class Bill(msgspec.Struct, frozen=True):
    """A bill with all its lines."""

    bill: BillRow
    lines: list[Compared]


def read_csv(octets: bytes) -> Sequence[Line]:
    """Read a bill. Raises Refusal naming the line that is wrong. Encodings: UTF-8 with or without BOM, GB18030."""
    demand(len(octets) <= OCTETS_MAX, "body", f"at most {OCTETS_MAX} octets")
    rows = csv.reader(io.StringIO(_text(octets), newline=""))
    try:
        columns = _columns(next(rows, []))
        found: dict[tuple[date, str], Line] = {}
        for number, row in enumerate(rows, 2):
            if not any(cell.strip() for cell in row):
                continue
            line = _line(row, columns, number)
            key = (line.day, line.operator)
            demand(key not in found, "body", f"line {number}: the day and operator stand twice")
            found[key] = line
            demand(len(found) <= LINES_MAX, "body", f"at most {LINES_MAX} lines")
    except csv.Error as error:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="body", reason=str(error)) from None
    demand(bool(found), "body", "a header and at least one line")
    return [found[key] for key in sorted(found)]


def _text(octets: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return octets.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="body", reason="neither UTF-8 nor GB18030")


def _columns(header: Sequence[str]) -> Mapping[str, int]:
    named = {name.strip().lower(): place for place, name in enumerate(header)}
    columns = {
        what: next(named[name] for name in names if name in named)
        for what, names in _NAMES.items()
        if any(name in named for name in names)
    }
    for what in ("day", "parts"):
        demand(what in columns, "body", f"a column {', '.join(_NAMES[what])} is needed")
    return columns


def _line(row: Sequence[str], columns: Mapping[str, int], number: int) -> Line:
    def cell(what: str) -> str:
        place = columns.get(what)
        return row[place].strip() if place is not None and place < len(row) else ""

    written = [cell("day"), *(cell(what).replace(",", "") for what in ("parts", "amount"))]
    try:
        day, parts = date.fromisoformat(written[0].replace("/", "-")), int(written[1])
        amount = Decimal(written[2]) if written[2] else None
    except (ValueError, InvalidOperation):
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="body", reason=f"line {number}: no day, count or amount"
        ) from None
    demand(FIRST_DAY <= day <= LAST_DAY, "body", f"line {number}: days are {FIRST_DAY} to {LAST_DAY}")
    demand(0 <= parts <= PARTS_MAX, "body", f"line {number}: parts are 0 to {PARTS_MAX}")
    # Asked before anything is reckoned with it: an exponent may be of any size.
    sound = amount is None or (amount.is_finite() and -AMOUNT_MAX <= amount <= AMOUNT_MAX)
    demand(sound, "body", f"line {number}: the amount is too large")
    amount_micro = None if amount is None else int((amount * MICRO).to_integral_value())
    operator = cell("operator")
    known = _OPERATORS.get(operator.lower(), "")
    demand(not operator or bool(known), "body", f"line {number}: there is no operator {operator[:20]!r}")
    return Line(day, known, parts, amount_micro)


CHANNEL_SQL: LiteralString = "SELECT currency FROM channel WHERE id = $1"
# Final statuses alone know the channel; a message that the upstream never took has none (0). Days and hours that are over
# are read from their sums (way/rollup.py), the others from the tally.
OURS_SQL: LiteralString = """
SELECT (hour AT TIME ZONE $2)::date AS day, operator, sum(parts)::bigint AS parts, sum(cost_micro)::bigint AS micro
  FROM (SELECT hour, operator, parts, cost_micro FROM rollup
         WHERE tenant_id = 0 AND hours = 24 AND hour = ANY($3::timestamptz[]) AND channel_id = $1 AND status <> 0
        UNION ALL
        SELECT hour, operator, parts, cost_micro FROM rollup
         WHERE tenant_id = 0 AND hours = 1 AND hour = ANY($4::timestamptz[]) AND channel_id = $1 AND status <> 0
        UNION ALL
        SELECT hour, operator, parts, cost_micro FROM tally
         WHERE hour = ANY($5::timestamptz[]) AND channel_id = $1 AND status <> 0) counted
 GROUP BY 1, 2
"""
BILL_SQL: LiteralString = """
INSERT INTO bill (channel_id, name, zone, first_day, last_day, currency, made_by)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
"""
LINES_SQL: LiteralString = """
INSERT INTO bill_line (bill_id, day, operator, parts, amount_micro, our_parts, our_micro)
SELECT $1, u.day, u.operator, u.parts, u.amount, u.our_parts, u.our_micro
  FROM unnest($2::date[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
       AS u(day, operator, parts, amount, our_parts, our_micro)
"""


async def reconcile(
    tx: db.Tx, channel_id: ChannelId, name: str, lines: Sequence[Line], *, zone: str, made_by: str
) -> int:
    """Keep a bill with what we counted for its days, also for days and operators that it does not have. Raises Refusal."""
    demand_name(name)
    try:
        place = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="zone", reason="an IANA name") from None
    currency = demand_found(await tx.fetchval(CHANNEL_SQL, channel_id), channel=channel_id)
    first, last = lines[0].day, lines[-1].day
    demand((last - first).days < DAYS_MAX, "body", f"at most {DAYS_MAX} days")
    ours = await _ours(tx, channel_id, first, last, place, whole=not any(line.operator for line in lines))
    theirs = {(line.day, line.operator): line for line in lines}
    keys = sorted({*theirs, *ours})
    number = int(await tx.fetchval(BILL_SQL, channel_id, name, zone, first, last, currency, made_by))
    counted = [ours.get(key, (0, 0)) for key in keys]
    billed = [theirs.get(key, Line(*key, 0, None)) for key in keys]
    await tx.execute(
        LINES_SQL,
        number,
        [key[0] for key in keys],
        [key[1] for key in keys],
        [line.parts for line in billed],
        [line.amount_micro for line in billed],
        [parts for parts, _ in counted],
        [micro for _, micro in counted],
    )
    return number


async def _ours(
    tx: db.Tx, channel_id: ChannelId, first: date, last: date, zone: ZoneInfo, *, whole: bool
) -> Mapping[tuple[date, str], tuple[int, int]]:
    """Count our parts and costs by day and operator; `whole`: the bill does not tell operators apart."""
    since = datetime.combine(first, time(), zone).astimezone(UTC)
    until = datetime.combine(last + timedelta(days=1), time(), zone).astimezone(UTC)
    counted: defaultdict[tuple[date, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    plan = await rollup.plan(tx, since, until, days=zone.key == rollup.ZONE.key)
    for row in await tx.fetch(OURS_SQL, channel_id, zone.key, plan.days, plan.hours, plan.tallied):
        key = (row["day"], "" if whole else row["operator"])
        parts, micro = counted[key]
        counted[key] = (parts + row["parts"], micro + row["micro"])
    return counted


EVERY_SQL: LiteralString = """
SELECT b.id, c.name AS channel, b.name, b.first_day, b.last_day, b.currency, b.made_by, b.made_at,
       sum(l.parts)::bigint AS parts, sum(l.our_parts)::bigint AS our_parts,
       sum(l.amount_micro)::bigint AS amount_micro, sum(l.our_micro)::bigint AS our_micro
  FROM (SELECT id, channel_id, name, first_day, last_day, currency, made_by, made_at FROM bill
         WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3) b
  JOIN channel c ON c.id = b.channel_id JOIN bill_line l ON l.bill_id = b.id
 GROUP BY b.id, c.name, b.name, b.first_day, b.last_day, b.currency, b.made_by, b.made_at ORDER BY b.id DESC
"""
INT_MAX: Final = 2**31 - 1


async def every(tx: db.Tx, *, before: int = INT_MAX, limit: int = 50) -> Sequence[BillRow]:
    """List bills before an id, the newest first."""
    return [BillRow(**dict(row)) for row in await tx.fetch(EVERY_SQL, 0, before, limit)]


BILL_LINES_SQL: LiteralString = """
SELECT day, operator, parts, our_parts, parts - our_parts AS difference_parts, amount_micro, our_micro,
       amount_micro - our_micro AS difference_micro
  FROM bill_line WHERE bill_id = $1 ORDER BY day, operator
"""


async def one(tx: db.Tx, bill_id: int) -> Bill:
    """Return a bill with its lines. Raises Refusal where there is none."""
    row = demand_found(await tx.fetchrow(EVERY_SQL, bill_id, bill_id + 1, 1), bill=bill_id)
    lines = [Compared(**dict(line)) for line in await tx.fetch(BILL_LINES_SQL, bill_id)]
    return Bill(BillRow(**dict(row)), lines)
