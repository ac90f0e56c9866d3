"""What somebody wants to see first: today beside yesterday, and what needs a person.

Writes nothing. Entry point: of(). Days are China's. Counting is way/measure.py's, so it is never older than the last commit.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, LiteralString
from zoneinfo import ZoneInfo

import msgspec

from hongyan import clock, db
from hongyan.vocab.message import TenantId
from hongyan.way import charge, measure
from hongyan.way.measure import By, Question, Row
from hongyan.way.snapshot import Snapshot

ZONE: Final = ZoneInfo("Asia/Shanghai")
DAY: Final = timedelta(days=1)
COUNT_MAX: Final = 10_000  # more are as many


class Need(msgspec.Struct, frozen=True):
    """Something that waits for a person; `count` stops at COUNT_MAX."""

    what: str  # reviews, held, alarms, complaints, webhooks, filings
    count: int


class Overview(msgspec.Struct, frozen=True):
    """Today since midnight in China, yesterday until the same time, today hour by hour; null: nothing was sent."""

    at: datetime
    today: Row | None
    yesterday: Row | None
    hours: Sequence[Row]
    waiting: int  # messages that have not left, at most COUNT_MAX
    balance_micro: int | None  # of a tenant
    currency: str | None
    needs: Sequence[Need]


async def of(tx: db.Tx, snapshot: Snapshot, tenant_id: TenantId | None) -> Overview:
    """Return the overview of a tenant, or of the platform."""
    now = clock.now()
    midnight = now.astimezone(ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    hours = await _rows(tx, snapshot, tenant_id, By.HOUR, midnight, now)
    tenant = snapshot.tenants.get(tenant_id) if tenant_id is not None else None
    span = (tenant_id or 1, tenant_id or measure.TENANT_MAX)
    return Overview(
        at=now,
        today=_one(await _rows(tx, snapshot, tenant_id, By.NONE, midnight, now)),
        yesterday=_one(await _rows(tx, snapshot, tenant_id, By.NONE, midnight - DAY, now - DAY)),
        hours=hours,
        waiting=await tx.fetchval(WAITING_SQL, *span, COUNT_MAX),
        balance_micro=None if tenant_id is None else await charge.balance_micro(tx, tenant_id),
        currency=None if tenant is None else tenant.currency,
        needs=[Need(row["what"], row["count"]) for row in await tx.fetch(NEEDS_SQL, *span, COUNT_MAX)],
    )


async def _rows(
    tx: db.Tx, snapshot: Snapshot, tenant_id: TenantId | None, by: By, since: datetime, until: datetime
) -> Sequence[Row]:
    if since >= until:
        return []
    question = Question(by=by, counted_from=since, counted_to=until)
    return (await measure.statistics(tx, snapshot, tenant_id, question)).rows


def _one(rows: Sequence[Row]) -> Row | None:
    return rows[0] if rows else None


# Spans of tenants instead of "this one or any", which could not use their indexes.
WAITING_SQL: LiteralString = """
SELECT count(*) FROM (SELECT 1 FROM outbox WHERE owner >= 0 AND tenant_id BETWEEN $1 AND $2 LIMIT $3) o
"""
# A tenant sees its own reviews and held messages, and decides about none of them.
NEEDS_SQL: LiteralString = """
SELECT what, count FROM (
    SELECT 'reviews' AS what, (SELECT count(*) FROM (
        SELECT 1 FROM review WHERE state = 'waiting' AND tenant_id BETWEEN $1 AND $2 LIMIT $3) r) AS count
    UNION ALL
    SELECT 'held', (SELECT count(*) FROM (
        SELECT 1 FROM outbox WHERE owner < 0 AND tenant_id BETWEEN $1 AND $2 LIMIT $3) h)
    UNION ALL
    SELECT 'alarms', (SELECT count(*) FROM (
        SELECT 1 FROM alarm a JOIN alarm_rule r ON r.id = a.rule_id
         WHERE a.recovered_at IS NULL AND coalesce(r.tenant_id, 2147483647) BETWEEN $1 AND $2 LIMIT $3) a)
    UNION ALL
    SELECT 'complaints', (SELECT count(*) FROM (
        SELECT 1 FROM complaint WHERE state = 'open' AND tenant_id BETWEEN $1 AND $2 LIMIT $3) c)
    UNION ALL
    SELECT 'webhooks', (SELECT count(*) FROM (
        SELECT 1 FROM webhook_health h JOIN webhook w ON w.id = h.webhook_id AND w.active JOIN app a ON a.id = w.app_id
         WHERE h.paused_until > now() AND a.tenant_id BETWEEN $1 AND $2 LIMIT $3) w)
    UNION ALL
    SELECT 'filings', (SELECT count(*) FROM (
        SELECT 1 FROM filing f JOIN signature s ON s.id = f.signature_id
         WHERE f.state = 'ok' AND f.valid_until < now() + interval '30 days'
           AND s.tenant_id BETWEEN $1 AND $2 LIMIT $3) f)
) needs WHERE count > 0 ORDER BY what
"""
