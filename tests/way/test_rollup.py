"""Statistics say the same whether hours were summed up or not, and whatever is counted in them later."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any, Final

import make
from hongyan import db
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status, TenantId
from hongyan.way import measure, rollup
from hongyan.way.drop import Dropped, settle
from hongyan.way.measure import By, Group, Question, Row
from hongyan.way.snapshot import Snapshot
from make import World

NOW: Final = datetime(2026, 3, 5, 10, 30, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
CELL_SQL: Final = """
INSERT INTO tally AS t (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency,
                        shard, messages, parts, price_micro, cost_micro)
VALUES ($1, $2, $3, $4, 1, $5, $6, 'CN', $7, $8, $9, $10, $11::bigint, $11::bigint, $11::bigint * 45, $11::bigint * 30)
ON CONFLICT (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency, shard)
DO UPDATE SET messages = t.messages + EXCLUDED.messages, parts = t.parts + EXCLUDED.parts,
              price_micro = t.price_micro + EXCLUDED.price_micro, cost_micro = t.cost_micro + EXCLUDED.cost_micro
"""
MARK_SQL: Final = """
INSERT INTO tally_touched (hour, shard) VALUES ($1, $2)
ON CONFLICT (hour, shard) DO UPDATE SET at = clock_timestamp()
"""


async def fill(tx: db.Tx, world: World, other: TenantId, chance: random.Random, cells: int) -> None:
    """Count something in the three days before NOW."""
    for _ in range(cells):
        status = chance.choice((0, 1, 1, 1, 2, 4))
        await tx.execute(
            CELL_SQL,
            NOW.replace(minute=0) - chance.randrange(72) * HOUR,
            chance.choice((world.tenant_id, other)),
            status,
            chance.choice((1, 2, 9)) if status > 1 else 0,
            chance.choice((0, world.template_id)),
            world.channel_id if status else 0,
            chance.choice(("cmcc", "unicom")),
            chance.choice(("CN-GD", "CN-BJ", "")),
            chance.randrange(5) if status == 1 else 0,
            chance.choice((1, 2)),
            chance.randrange(1, 9),
        )


async def answers(tx: db.Tx, snapshot: Snapshot, tenant_id: TenantId | None) -> Sequence[Sequence[Row]]:
    """Ask many questions over three days, some of whose hours are not whole."""
    span: dict[str, Any] = {"counted_from": NOW - timedelta(days=3), "counted_to": NOW - timedelta(minutes=5)}
    pairs = list(combinations((Group.PROVINCE, Group.TEMPLATE, Group.CHANNEL), 2))
    questions = [
        Question(by=by, groups=groups, **span)
        for by in By
        for groups in ((), *((group,) for group in Group), *pairs)
    ]
    questions += [
        Question(provinces=("CN-GD",), **span),
        Question(provinces=("CN-GD",), causes=(Cause.NO_REPORT,), **span),
        Question(statuses=(Status.DELIVERED,), operators=("cmcc",), zone="Asia/Shanghai", by=By.DAY, **span),
    ]
    return [(await measure.statistics(tx, snapshot, tenant_id, each)).rows for each in questions]


async def test_statistics_are_the_same_before_and_after_hours_are_summed(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
            await fill(tx, world, other, random.Random(5), 600)
        snapshot = await make.snapshot(world)
        async with world.database.transaction() as tx:
            before = [await answers(tx, snapshot, who) for who in (None, world.tenant_id)]
            while await rollup.roll(tx, NOW):
                pass
            plan = await rollup.plan(tx, NOW - timedelta(days=3), NOW, days=True)
            assert (len(plan.days), len(plan.tallied)) == (2, rollup.OVER_H)
            assert [await answers(tx, snapshot, who) for who in (None, world.tenant_id)] == before
            await tx.execute("DELETE FROM tally WHERE hour < $1", NOW - timedelta(hours=rollup.OVER_H + 1))
            told = await measure.statistics(
                tx, snapshot, None, Question(by=By.NONE, counted_from=NOW - timedelta(days=3), counted_to=NOW)
            )
        assert told.rows[0].accepted > 0  # it was read from the sums


async def test_what_is_counted_in_an_hour_that_was_summed_is_seen_at_once_and_summed_again(
    database: str,
) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
            await fill(tx, world, other, random.Random(6), 200)
            while await rollup.roll(tx, NOW):
                pass
        snapshot = await make.snapshot(world)
        async with world.database.transaction() as tx:
            await fill(tx, world, other, random.Random(7), 50)
            hours = [row["hour"] for row in await tx.fetch("SELECT DISTINCT hour FROM tally")]
            for hour in hours:
                await tx.execute(MARK_SQL, hour, 1)
            seen = await answers(tx, snapshot, None)
            while await rollup.roll(tx, NOW):
                pass
            young = NOW.replace(minute=0) - (rollup.OVER_H - 1) * HOUR
            assert await tx.fetch("SELECT 1 FROM tally_touched WHERE hour < $1", young) == []
            assert await answers(tx, snapshot, None) == seen


async def test_a_mark_that_is_renewed_while_its_hour_is_summed_stays(database: str) -> None:
    async with make.world(database) as world:
        hour = NOW.replace(minute=0) - 10 * HOUR
        await world.database.execute(MARK_SQL, hour, 1)
        async with world.database.transaction() as writer:
            await writer.execute(MARK_SQL, hour, 2)  # not committed: nobody sees it yet
            async with world.database.transaction() as tx:
                await rollup.roll(tx, NOW)
        rows = await world.database.fetch("SELECT shard FROM tally_touched")
        assert [row["shard"] for row in rows] == [2]


async def test_hours_are_summed_in_order_and_a_few_at_a_time(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        other = await make.tenant(tx, world.vault)
        await fill(tx, world, other, random.Random(8), 400)
        first = await rollup.roll(tx, NOW)
        assert first == rollup.HOURS_MAX
        last = await tx.fetchval("SELECT max(hour) FROM rolled")
        assert await tx.fetchval("SELECT count(DISTINCT hour) FROM tally WHERE hour <= $1", last) == first


async def test_a_late_report_marks_its_hour(database: str) -> None:
    """The statements of the way mark what they count in hours that may have been summed."""
    async with make.world(database) as world, world.database.transaction() as tx:
        old = NOW - timedelta(hours=10)
        message_id = await make.message(tx, world, accepted_at=old)
        await make.outbox(tx, world, message_id)
        drop = Dropped(world.tenant_id, message_id.bytes, 1, Status.EXPIRED, Cause.NOT_SENT, "")
        await settle(tx, [drop], 3, [])
        (mark,) = await tx.fetch("SELECT hour, shard FROM tally_touched")
        assert (mark["hour"], mark["shard"]) == (old.replace(minute=0), 3)


async def test_hours_that_are_over_are_summed_however_many_older_ones_late_reports_touch(
    database: str,
) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        other = await make.tenant(tx, world.vault)
        await fill(tx, world, other, random.Random(9), 400)
        while await rollup.roll(tx, NOW - timedelta(hours=24)):
            pass
        for turn in range(3):
            for number in range(3 * rollup.HOURS_MAX):
                await tx.execute(MARK_SQL, NOW.replace(minute=0) - (70 - number) * HOUR, 1)
            await rollup.roll(tx, NOW - timedelta(hours=20 - turn))
            last = await tx.fetchval("SELECT max(hour) FROM rolled")
            over = NOW.replace(minute=0) - (20 - turn + rollup.OVER_H) * HOUR
            assert (
                await tx.fetch("SELECT 1 FROM tally WHERE hour > $1 AND hour <= $2 LIMIT 1", last, over) == []
            )
