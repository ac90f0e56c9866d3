"""Sum up the tally of hours that are over, so that statistics over weeks read little.

Writes: rollup, rollup_place, rolled, rolled_day, tally_touched (takes marks away). Entry points: roll(), a duty of the
clerk; plan(), for who counts. An hour is summed once it is OVER_H old, and the hours of a day of China's once the last of
them is. What is counted in an hour afterwards, a report that comes late, marks the hour (way/tick.py, way/prune.py), and it
is summed again; until then it is read from the tally itself. So what is asked for is always right, whether anybody rolls up
or not.
Surprise: marks begin with the hour after, and summing an hour later than that, so that whoever counts without a mark has
long committed.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, LiteralString, NamedTuple
from zoneinfo import ZoneInfo

from hongyan import db

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
ZONE: Final = ZoneInfo("Asia/Shanghai")  # it has no summer time
OVER_H: Final = 2  # hours after its beginning, an hour is summed up
HOURS_MAX: Final = 24  # in one go
LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)

LAST_SQL: LiteralString = "SELECT max(hour) FROM rolled"
BEFORE_SQL: LiteralString = "SELECT max(hour) FROM rolled WHERE hour < $1"
NEXT_SQL: LiteralString = "SELECT min(hour) FROM tally WHERE hour > $1 AND hour <= $2"
TOUCHED_SQL: LiteralString = """
SELECT hour, array_agg(shard ORDER BY shard) AS shards, array_agg(at ORDER BY shard) AS ats
  FROM tally_touched WHERE hour <= $1 GROUP BY hour ORDER BY max(at) LIMIT $2
"""
# A cell is never taken out of the tally, so none has to be taken out here. In order, so that a tenant's sums of an hour lie
# together: who asks for weeks reads a tenth of the pages then.
ROLL_SQL: LiteralString = """
INSERT INTO rollup AS r (tenant_id, hours, hour, status, cause, purpose, template_id, channel_id, country, operator, latency,
                         messages, parts, price_micro, cost_micro)
SELECT coalesce(tenant_id, 0), 1, $1, status, cause, purpose, coalesce(template_id, 0), channel_id, country, operator, latency,
       sum(messages), sum(parts), sum(price_micro), sum(cost_micro)
  FROM tally WHERE hour = $1
 GROUP BY GROUPING SETS ((tenant_id, status, cause, purpose, template_id, channel_id, country, operator, latency),
                         (status, cause, purpose, channel_id, country, operator, latency))
 ORDER BY 1
ON CONFLICT (tenant_id, hours, hour, status, cause, purpose, template_id, channel_id, country, operator, latency)
DO UPDATE SET messages = EXCLUDED.messages, parts = EXCLUDED.parts, price_micro = EXCLUDED.price_micro,
              cost_micro = EXCLUDED.cost_micro
 WHERE (r.messages, r.parts, r.price_micro, r.cost_micro)
       IS DISTINCT FROM (EXCLUDED.messages, EXCLUDED.parts, EXCLUDED.price_micro, EXCLUDED.cost_micro)
"""
ROLL_PLACE_SQL: LiteralString = """
INSERT INTO rollup_place AS r (tenant_id, hours, hour, status, purpose, channel_id, country, operator, province, latency,
                               messages, parts, price_micro, cost_micro)
SELECT coalesce(tenant_id, 0), 1, $1, status, purpose, channel_id, country, operator, province, latency,
       sum(messages), sum(parts), sum(price_micro), sum(cost_micro)
  FROM tally WHERE hour = $1
 GROUP BY GROUPING SETS ((tenant_id, status, purpose, channel_id, country, operator, province, latency),
                         (status, purpose, channel_id, country, operator, province, latency))
 ORDER BY 1
ON CONFLICT (tenant_id, hours, hour, status, purpose, channel_id, country, operator, province, latency)
DO UPDATE SET messages = EXCLUDED.messages, parts = EXCLUDED.parts, price_micro = EXCLUDED.price_micro,
              cost_micro = EXCLUDED.cost_micro
 WHERE (r.messages, r.parts, r.price_micro, r.cost_micro)
       IS DISTINCT FROM (EXCLUDED.messages, EXCLUDED.parts, EXCLUDED.price_micro, EXCLUDED.cost_micro)
"""
DAY_SQL: LiteralString = """
INSERT INTO rollup AS r (tenant_id, hours, hour, status, cause, purpose, template_id, channel_id, country, operator, latency,
                         messages, parts, price_micro, cost_micro)
SELECT tenant_id, 24, $1, status, cause, purpose, template_id, channel_id, country, operator, latency,
       sum(messages), sum(parts), sum(price_micro), sum(cost_micro)
  FROM rollup
 WHERE tenant_id IN (SELECT id FROM tenant UNION ALL SELECT 0) AND hours = 1 AND hour = ANY($2::timestamptz[])
 GROUP BY tenant_id, status, cause, purpose, template_id, channel_id, country, operator, latency
 ORDER BY tenant_id
ON CONFLICT (tenant_id, hours, hour, status, cause, purpose, template_id, channel_id, country, operator, latency)
DO UPDATE SET messages = EXCLUDED.messages, parts = EXCLUDED.parts, price_micro = EXCLUDED.price_micro,
              cost_micro = EXCLUDED.cost_micro
 WHERE (r.messages, r.parts, r.price_micro, r.cost_micro)
       IS DISTINCT FROM (EXCLUDED.messages, EXCLUDED.parts, EXCLUDED.price_micro, EXCLUDED.cost_micro)
"""
DAY_PLACE_SQL: LiteralString = """
INSERT INTO rollup_place AS r (tenant_id, hours, hour, status, purpose, channel_id, country, operator, province, latency,
                               messages, parts, price_micro, cost_micro)
SELECT tenant_id, 24, $1, status, purpose, channel_id, country, operator, province, latency,
       sum(messages), sum(parts), sum(price_micro), sum(cost_micro)
  FROM rollup_place
 WHERE tenant_id IN (SELECT id FROM tenant UNION ALL SELECT 0) AND hours = 1 AND hour = ANY($2::timestamptz[])
 GROUP BY tenant_id, status, purpose, channel_id, country, operator, province, latency
 ORDER BY tenant_id
ON CONFLICT (tenant_id, hours, hour, status, purpose, channel_id, country, operator, province, latency)
DO UPDATE SET messages = EXCLUDED.messages, parts = EXCLUDED.parts, price_micro = EXCLUDED.price_micro,
              cost_micro = EXCLUDED.cost_micro
 WHERE (r.messages, r.parts, r.price_micro, r.cost_micro)
       IS DISTINCT FROM (EXCLUDED.messages, EXCLUDED.parts, EXCLUDED.price_micro, EXCLUDED.cost_micro)
"""
ROLLED_SQL: LiteralString = "INSERT INTO rolled (hour) VALUES ($1) ON CONFLICT DO NOTHING"
ROLLED_DAY_SQL: LiteralString = "INSERT INTO rolled_day (hour) VALUES ($1) ON CONFLICT DO NOTHING"
# A mark that was renewed meanwhile stays: what it stands for may not be in the sum. Writers hold its lock until they commit.
UNMARK_SQL: LiteralString = """
DELETE FROM tally_touched t USING unnest($2::int[], $3::timestamptz[]) AS u(shard, at)
 WHERE t.hour = $1 AND t.shard = u.shard AND t.at = u.at
"""


async def roll(tx: db.Tx, now: datetime) -> int:
    """Sum up hours that are over, the oldest first, and hours that were touched since; returns how many.

    Touched hours come second, those first that have been quiet for longest: reports may trickle into every hour of days.
    """
    until = _floor(now) - HOUR * OVER_H
    due = await _due(tx, until)
    touched = {row["hour"]: row for row in await tx.fetch(TOUCHED_SQL, until, HOURS_MAX - len(due))}
    hours = sorted({*touched, *due})
    for hour in hours:
        await tx.execute(ROLL_SQL, hour)
        await tx.execute(ROLL_PLACE_SQL, hour)
        await tx.execute(ROLLED_SQL, hour)
    for day in await _days_due(tx, hours):
        await _roll_day(tx, day)
    for hour in hours:  # last, because from here on a writer of these hours waits for us
        if hour in touched:
            await tx.execute(UNMARK_SQL, hour, touched[hour]["shards"], touched[hour]["ats"])
    return len(hours)


async def _days_due(tx: db.Tx, hours: Sequence[datetime]) -> Sequence[datetime]:
    """Return the days to sum: those of these hours that are over, and the one before, which they may show to be over.

    Nothing may have been counted in the last hours of a day: what is counted after them tells that it is over.
    """
    if not hours:
        return []
    last = await tx.fetchval(LAST_SQL)
    before = await tx.fetchval(BEFORE_SQL, day_of(hours[0]))
    days = {day_of(hour) for hour in hours} | ({day_of(before)} if before else set())
    return sorted(day for day in days if day + DAY <= last + HOUR)


async def _roll_day(tx: db.Tx, day: datetime) -> None:
    hours = [day + HOUR * number for number in range(24)]
    await tx.execute(DAY_SQL, day, hours)
    await tx.execute(DAY_PLACE_SQL, day, hours)
    await tx.execute(ROLLED_DAY_SQL, day)


async def _due(tx: db.Tx, until: datetime) -> Sequence[datetime]:
    """Return hours after the last that was summed, as far as anything was counted in them."""
    hours: list[datetime] = []
    last = await tx.fetchval(LAST_SQL) or LONG_AGO
    while len(hours) < HOURS_MAX and (last := await tx.fetchval(NEXT_SQL, last, until)) is not None:
        hours.append(last)
    return hours


class Plan(NamedTuple):
    """Where a span is read from: sums of whole days, sums of hours, and the tally itself."""

    days: Sequence[datetime]
    hours: Sequence[datetime]
    tallied: Sequence[datetime]


MARKED_SQL: LiteralString = "SELECT DISTINCT hour FROM tally_touched WHERE hour >= $1 AND hour < $2"
DAYS_SQL: LiteralString = "SELECT hour FROM rolled_day WHERE hour >= $1 AND hour < $2"


async def plan(tx: db.Tx, since: datetime, until: datetime, *, days: bool) -> Plan:
    """Say where to read the hours that begin in a span; `days`: hours need not be told apart within a day of China's.

    Hours are summed in order, so an hour before the last one that was summed is summed too, or nothing was counted in it.
    """
    marked = {row["hour"] for row in await tx.fetch(MARKED_SQL, since, until)}
    last = await tx.fetchval(LAST_SQL) or LONG_AGO
    whole = {row["hour"] for row in await tx.fetch(DAYS_SQL, since, until - DAY + HOUR)} if days else set()
    whole -= {day_of(hour) for hour in marked}
    summed, tallied = [], []
    hour = _floor(since) if _floor(since) == since else _floor(since) + HOUR
    while hour < until:
        if hour > last or hour in marked:
            tallied.append(hour)
        elif day_of(hour) not in whole:
            summed.append(hour)
        hour += HOUR
    return Plan(sorted(whole), summed, tallied)


def day_of(hour: datetime) -> datetime:
    """Return when the day of China's began that an hour lies in."""
    return hour.astimezone(ZONE).replace(hour=0).astimezone(UTC)


def _floor(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
