"""Wards as people see them: which prefixes and countries are alarmed or paused, and what to do about it.

Writes: ward (with pumping.py). Entry points: page(); release(); allowed(), allow() and disallow(), the prefixes that are let by;
forget().
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, LiteralString

import msgspec
from msgspec import Meta

from hongyan import clock, db
from hongyan.control.bounds import demand, demand_found
from hongyan.otp.pumping import COLUMNS_SQL, HOLD_SQL, Wards, day_of, read
from hongyan.otp.ward import ALARM, COUNTRY_START, PREFIX_START, Ward
from hongyan.vocab.message import TenantId

ALLOWED_MAX: Final = 100
PAGE_MAX: Final = 500
IDLE_DAYS: Final = 30


class WardRow(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix, or (prefix empty) a country, of a tenant, as people see it."""

    tenant_id: TenantId
    country: str
    prefix: str  # without the last four digits
    turn: Annotated[str, Meta(description="clear, alarmed or paused")]
    since: datetime | None  # it has been so; null: ever
    credit: float  # messages that may be under way unverified
    outstanding: int  # that are
    evidence: float  # an alarm at `alarm_at`
    alarm_at: float
    baseline: float  # the share of codes verified when all is well
    codes: int  # that the baseline was learnt from
    said: bool  # the baseline was said by people


class WardKey(msgspec.Struct, frozen=True):
    """Where a page of wards begins: behind this one."""

    tenant_id: int = 0
    country: str = ""
    prefix: str = ""


ROWS_SQL: LiteralString = (
    COLUMNS_SQL
    + """, p.verified AS parent_verified, p.codes AS parent_codes, p.said AS parent_said
  FROM ward w LEFT JOIN ward p ON p.tenant_id = w.tenant_id AND p.country = w.country AND p.prefix = ''
"""
)
PAGE_SQL: LiteralString = (
    ROWS_SQL
    + """
 WHERE w.country <> '' AND ($1::int IS NULL OR w.tenant_id = $1) AND (w.tenant_id, w.country, w.prefix) > ($2, $3, $4)
   AND ($6 = '' OR w.country = $6)
"""
)
SOME_SQL: LiteralString = PAGE_SQL + "ORDER BY w.tenant_id, w.country, w.prefix LIMIT $5"
TURNED_SQL: LiteralString = PAGE_SQL + "AND w.turn > 0 ORDER BY w.tenant_id, w.country, w.prefix LIMIT $5"


async def page(
    tx: db.Tx,
    tenant_id: TenantId | None,
    *,
    after: WardKey | None = None,
    country: str = "",
    turned: bool = False,
    limit: int = PAGE_MAX,
) -> Sequence[WardRow]:
    """List wards of a tenant or of everybody; `turned`: those that are alarmed or paused."""
    sql = TURNED_SQL if turned else SOME_SQL
    after = after or WardKey(tenant_id or 0)
    rows = await tx.fetch(
        sql, tenant_id, after.tenant_id, after.country, after.prefix, min(limit, PAGE_MAX), country
    )
    return [_row(row) for row in rows]


def _row(row: Any) -> WardRow:
    ward = read(row)
    parent = Ward(ward.tenant_id, ward.country, "", verified=row["parent_verified"] or 0.0,
                  codes=row["parent_codes"] or 0.0, said=row["parent_said"])  # fmt: skip
    start = COUNTRY_START if ward.is_country else PREFIX_START
    return WardRow(
        tenant_id=TenantId(ward.tenant_id),
        country=ward.country,
        prefix=ward.prefix,
        turn=ward.turn.name.lower(),
        since=clock.moment(ward.turned_at_s) if ward.turned_at_s else None,
        credit=ward.credit or start,
        outstanding=ward.outstanding,
        evidence=round(ward.evidence, 3),
        alarm_at=round(ALARM, 3),
        baseline=round(parent.baseline() if ward.is_country else ward.baseline(parent.baseline()), 3),
        codes=int(ward.codes),
        said=ward.said is not None,
    )


ONE_SQL: LiteralString = ROWS_SQL + "WHERE w.tenant_id = $1 AND w.country = $2 AND w.prefix = $3"


async def release(
    tx: db.Tx, tenant_id: TenantId, country: str, prefix: str, baseline: float | None, now_s: float
) -> WardRow:
    """Open a prefix or a country again; `baseline`: the share that verifies there honestly. Raises Refusal."""
    demand(baseline is None or 0.0 < baseline <= 1.0, "baseline", "above 0, at most 1")
    wards = await Wards.hold(tx, [(tenant_id, country, prefix)], now_s)
    ward = wards.ward(tenant_id, country, prefix)
    demand_found(ward if ward.stored and country else None, country=country, prefix=prefix)
    ward.release(baseline, now_s)
    await wards.store(tx)
    return _row(await tx.fetchrow(ONE_SQL, tenant_id, country, prefix))


ALLOWED_SQL: LiteralString = "SELECT allowed FROM ward WHERE tenant_id = $1 AND country = '' AND prefix = ''"


async def allowed(tx: db.Tx, tenant_id: TenantId) -> Sequence[str]:
    """List the prefixes that are let by, beside those of the tenant's policies."""
    return sorted(await tx.fetchval(ALLOWED_SQL, tenant_id) or ())


ALLOW_SQL: LiteralString = """
UPDATE ward SET allowed = $2 WHERE tenant_id = $1 AND country = '' AND prefix = ''
"""


async def allow(tx: db.Tx, tenant_id: TenantId, prefix: str, now_s: float) -> Sequence[str]:
    """Let numbers by that begin with a prefix; budgets hold all the same. Raises Refusal where there are too many."""
    await tx.execute(HOLD_SQL, [tenant_id], [""], day_of(now_s))
    wanted = sorted({*await allowed(tx, tenant_id), prefix})
    demand(len(wanted) <= ALLOWED_MAX, "prefix", f"at most {ALLOWED_MAX} prefixes")
    await tx.execute(ALLOW_SQL, tenant_id, wanted)
    return wanted


async def disallow(tx: db.Tx, tenant_id: TenantId, prefix: str, now_s: float) -> Sequence[str]:
    """Let them by no more. Raises Refusal where they were not."""
    await tx.execute(HOLD_SQL, [tenant_id], [""], day_of(now_s))
    now = await allowed(tx, tenant_id)
    demand_found(prefix if prefix in now else None, prefix=prefix)
    wanted = [each for each in now if each != prefix]
    await tx.execute(ALLOW_SQL, tenant_id, wanted)
    return wanted


# What people have said of a ward stays.
FORGET_SQL: LiteralString = """
DELETE FROM ward w USING (
    SELECT tenant_id, country, prefix FROM ward
     WHERE touched_on < $1 AND said IS NULL AND allowed = '{}' ORDER BY touched_on LIMIT $2) old
 WHERE w.tenant_id = old.tenant_id AND w.country = old.country AND w.prefix = old.prefix RETURNING 1
"""


async def forget(tx: db.Tx, now_s: float, rows_max: int) -> int:
    """Forget prefixes and countries that nothing was sent to for long; returns how many."""
    return len(await tx.fetch(FORGET_SQL, day_of(now_s) - timedelta(days=IDLE_DAYS), rows_max))
