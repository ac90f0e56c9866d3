"""Packages: parts sold ahead at a price of their own, which expire.

Writes: package. Entry points: sell(), every(), page(), lapse(). A package is money in the balance (way.charge) with a date: selling
10,000 parts at 0.04 tops the balance up by 400, whatever was paid for it, and the tenant's price says 0.04. Messages are
charged as ever, so nothing new stands in their way. When it expires, what was not used is taken back: the oldest package
is used first, and money that was topped up otherwise is used last.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, LiteralString

import msgspec

from hongyan import clock, db
from hongyan.control import ledger
from hongyan.control.bounds import demand, demand_name
from hongyan.vocab.message import TenantId
from hongyan.way import charge

PARTS_MAX: Final = 10_000_000_000
PART_MICRO_MAX: Final = 1_000_000_000
SPAN_MAX: Final = timedelta(days=1_100)
WORTH_MICRO_MAX: Final = ledger.AMOUNT_MICRO_MAX
LAPSES_MAX: Final = 5  # in one transaction: its tenants wait meanwhile


class PackageRow(msgspec.Struct, frozen=True):
    """A package as people see it. `left_micro`: what would be taken back if it expired now."""

    id: int
    tenant_id: TenantId
    name: str
    parts: int
    part_micro: int
    paid_micro: int
    sold_at: datetime
    expires_at: datetime
    lapsed_at: datetime | None
    lapsed_micro: int
    left_micro: int


# The ledger's last entry tells what was used before and what after.
ENTRY_SQL: LiteralString = "SELECT coalesce(max(id), 0) FROM ledger WHERE tenant_id = $1"
SELL_SQL: LiteralString = """
INSERT INTO package (tenant_id, name, parts, part_micro, paid_micro, expires_at, sold_entry)
VALUES ($1, $2, $3, $4, $5, $6, 0) RETURNING id
"""
SOLD_SQL: LiteralString = "UPDATE package SET sold_entry = $2 WHERE id = $1"


async def sell(
    tx: db.Tx,
    tenant_id: TenantId,
    *,
    name: str,
    parts: int,
    part_micro: int,
    paid_micro: int,
    expires_at: datetime,
    reference: str = "",
) -> int:
    """Sell a package and put its worth into the balance. Its price has to be set too (prices.put()). Raises Refusal."""
    demand_name(name)
    demand(0 < parts <= PARTS_MAX, "parts", f"1 to {PARTS_MAX}")
    demand(0 < part_micro <= PART_MICRO_MAX, "part_micro", f"1 to {PART_MICRO_MAX}")
    demand(parts * part_micro <= WORTH_MICRO_MAX, "parts", f"worth at most {WORTH_MICRO_MAX} altogether")
    demand(0 <= paid_micro <= parts * part_micro, "paid_micro", "0 to what the parts are worth")
    now = clock.now()
    demand(now < expires_at <= now + SPAN_MAX, "expires_at", f"within {SPAN_MAX.days} days from now")
    number = int(await tx.fetchval(SELL_SQL, tenant_id, name, parts, part_micro, paid_micro, expires_at))
    note = f"package {number}: {name}"
    await ledger.book(tx, tenant_id, parts * part_micro, note, reference=reference)
    await tx.execute(SOLD_SQL, number, await tx.fetchval(ENTRY_SQL, tenant_id))
    return number


EVERY_SQL: LiteralString = """
SELECT id, tenant_id, name, parts, part_micro, paid_micro, sold_at, expires_at, lapsed_at, lapsed_micro,
       sold_entry, lapsed_entry
  FROM package WHERE tenant_id = $1 ORDER BY expires_at, id
"""


async def every(tx: db.Tx, tenant_id: TenantId) -> Sequence[PackageRow]:
    """List a tenant's packages by when they expire."""
    rows = await tx.fetch(EVERY_SQL, tenant_id)
    left = await _left(tx, tenant_id, rows)
    shown = PackageRow.__struct_fields__
    return [
        PackageRow(**{name: row[name] for name in shown if name in row.keys()}, left_micro=left[row["id"]])  # noqa: SIM118
        for row in rows
    ]


ALL_SQL: LiteralString = "SELECT id, tenant_id FROM package WHERE id < $1 ORDER BY id DESC LIMIT $2"
PAGE_SQL: LiteralString = """
SELECT id, tenant_id FROM package WHERE id < $1 AND tenant_id = $3 ORDER BY id DESC LIMIT $2
"""
PAGE_MAX: Final = 500
INT_MAX: Final = 2**31 - 1


async def page(
    tx: db.Tx, tenant_id: TenantId | None, *, before: int = INT_MAX, limit: int = PAGE_MAX
) -> Sequence[PackageRow]:
    """List packages, of one tenant or of all, the newest first, before the id `before`."""
    span = (min(before, INT_MAX), min(limit, PAGE_MAX))
    rows = await (tx.fetch(ALL_SQL, *span) if tenant_id is None else tx.fetch(PAGE_SQL, *span, tenant_id))
    found: dict[int, PackageRow] = {}
    for each in sorted({row["tenant_id"] for row in rows}):
        found |= {package.id: package for package in await every(tx, TenantId(each))}
    return [found[row["id"]] for row in rows]


# What was used between two moments at which a package came or went. Corrections and top-ups are no use.
USED_SQL: LiteralString = """
SELECT width_bucket(id, $2::bigint[]) AS span, -sum(amount_micro)::bigint AS used
  FROM ledger WHERE tenant_id = $1 AND id >= $3 AND kind IN ('charge', 'refund')
 GROUP BY 1 ORDER BY 1
"""


async def _left(tx: db.Tx, tenant_id: int, rows: Sequence[db.Row]) -> dict[int, int]:
    """Return what is left of a tenant's packages, by id; nothing of those that lapsed.

    `rows` in the order in which packages are used: the first to expire is used first, while it is there. A refund gives
    back to what is used at the time.
    """
    left = {row["id"]: row["parts"] * row["part_micro"] for row in rows}
    gone = [row["lapsed_entry"] for row in rows if row["lapsed_entry"] is not None]
    bounds = sorted({row["sold_entry"] for row in rows} | set(gone))
    if not bounds:
        return left
    for span in await tx.fetch(USED_SQL, tenant_id, bounds, bounds[0]):
        since, used = bounds[span["span"] - 1], span["used"]
        for row in rows:
            there = row["sold_entry"] <= since and (row["lapsed_entry"] or since + 1) > since
            if there and used > 0:
                share = min(left[row["id"]], used)
                left[row["id"]] -= share
                used -= share
    return left | {row["id"]: 0 for row in rows if row["lapsed_entry"] is not None}


DUE_SQL: LiteralString = """
SELECT id, tenant_id FROM package WHERE lapsed_at IS NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2
   FOR UPDATE SKIP LOCKED
"""
LAPSE_SQL: LiteralString = """
UPDATE package SET lapsed_at = $2, lapsed_micro = $3, lapsed_entry = $4 WHERE id = $1
"""


async def lapse(tx: db.Tx, now: datetime) -> int:
    """Take back what is left of packages that have expired by `now`; returns how many there were."""
    due = await tx.fetch(DUE_SQL, now, LAPSES_MAX)
    for row in sorted(due, key=lambda row: row["tenant_id"]):  # as whoever charges several tenants locks them
        tenant_id = TenantId(row["tenant_id"])
        await charge.gather(
            tx, tenant_id, 0, 0
        )  # who charges has committed, or waits, so nothing is used meanwhile
        left = (await _left(tx, tenant_id, await tx.fetch(EVERY_SQL, tenant_id)))[row["id"]]
        back = min(left, await charge.balance_micro(tx, tenant_id))
        if back:
            await charge.top_up(tx, tenant_id, -back, note=f"package {row['id']} expired", kind="correction")
        await tx.execute(LAPSE_SQL, row["id"], now, back, await tx.fetchval(ENTRY_SQL, tenant_id))
    return len(due)
