"""Nothing stays open for ever, nothing is kept beyond its time, and nothing is forgotten before it."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final, LiteralString

import pytest

import make
from hongyan import clock
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import MessageId, Purpose, Status
from hongyan.way import prune
from hongyan.way.days import day_at, day_of
from make import SETTINGS, World
from plane import books_balance

PRICE: Final = 45_000  # a part, as make.message() says
COST: Final = 30_000  # of a part, as make.submitted() says
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WAIT: Final = timedelta(seconds=SETTINGS.report_wait_s)
KEEP: Final = timedelta(seconds=SETTINGS.late_report_keep_s)


async def promise(world: World, *, parts: int = 1, **columns: Any) -> MessageId:
    """A message as accept leaves it: paid for and counted."""
    async with world.database.transaction() as tx:
        message_id = await make.message(tx, world, parts=parts, **columns)
        await tx.execute("UPDATE balance SET amount_micro = amount_micro - $1", PRICE * parts)
        await tx.execute(
            "INSERT INTO ledger (tenant_id, kind, amount_micro, message_count) VALUES ($1, 'charge', $2, 1)",
            world.tenant_id, -PRICE * parts,
        )  # fmt: skip
        await tx.execute(
            "INSERT INTO tally SELECT date_trunc('hour', accepted_at), tenant_id, 0, 0, purpose, template_id, 0, country,"
            " operator, province, 0, 1, 1, part_count, price_micro, 0 FROM message WHERE id = $1"
            " ON CONFLICT (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province,"
            " latency, shard) DO UPDATE SET messages = tally.messages + 1, parts = tally.parts + EXCLUDED.parts,"
            " price_micro = tally.price_micro + EXCLUDED.price_micro",
            message_id,
        )
    return message_id


async def submit(world: World, message_id: MessageId, **columns: Any) -> None:
    async with world.database.transaction() as tx:
        await make.submitted(tx, world, message_id, **columns)


async def queue(world: World, message_id: MessageId, **columns: Any) -> None:
    async with world.database.transaction() as tx:
        await make.outbox(tx, world, message_id, **columns)


async def do(world: World, duty: Any, now: datetime | None = None, **more: Any) -> int:
    async with world.database.transaction() as tx:
        return int(await duty(tx, SETTINGS, now or clock.now(), **more))


async def row(world: World, message_id: MessageId) -> Any:
    (found,) = await world.database.fetch("SELECT * FROM message WHERE id = $1", message_id)
    return found


async def count(world: World, sql: LiteralString, *values: Any) -> int:
    (found,) = await world.database.fetch(sql, *values)
    return int(found[0])


def ago(delta: timedelta) -> datetime:
    return clock.now() - delta


# ---- overdue


async def test_a_part_without_a_report_is_given_up_after_report_wait_and_not_before(database: str) -> None:
    async with make.world(database) as world:
        message_id = await promise(world)
        await submit(world, message_id)
        assert await do(world, prune.give_up_overdue, clock.now() + WAIT - HOUR) == 0
        assert await do(world, prune.give_up_overdue, clock.now() + WAIT + HOUR) == 1
        found = await row(world, message_id)
        assert (found["status"], found["cause"]) == (Status.UNKNOWN.number, Cause.NO_REPORT.number)
        assert (found["refund_micro"], found["channel_id"]) == (0, world.channel_id)
        await books_balance(world.database)
        assert await do(world, prune.give_up_overdue, clock.now() + WAIT + HOUR) == 0
        await books_balance(world.database)


async def test_who_pays_on_delivery_gets_back_what_nobody_reported_on(database: str) -> None:
    async with make.world(database) as world:
        await world.database.execute("UPDATE tenant SET charge_on = 'delivery'")
        message_id = await promise(world, parts=2)
        for part in (1, 2):
            await submit(world, message_id, part_index=part)
        await do(world, prune.give_up_overdue, clock.now() + WAIT + HOUR)
        assert (await row(world, message_id))["refund_micro"] == 2 * PRICE
        await books_balance(world.database)


async def test_a_message_waits_for_the_youngest_of_its_parts(database: str) -> None:
    async with make.world(database) as world:
        message_id = await promise(world, parts=2)
        await submit(world, message_id, sent_at=ago(WAIT + HOUR))
        await submit(world, message_id, part_index=2)
        assert await do(world, prune.give_up_overdue) == 0
        assert await do(world, prune.give_up_overdue, clock.now() + WAIT + HOUR) == 1
        found = await row(world, message_id)
        assert (found["status"], found["lost"], found["pending"]) == (Status.UNKNOWN.number, 2, 0)
        await books_balance(world.database)


async def test_a_failed_part_outweighs_one_given_up(database: str) -> None:
    async with make.world(database) as world:
        cause = Cause.ABSENT
        message_id = await promise(world, parts=2, pending=1, worst=Status.UNDELIVERED.number, cause=cause)
        await submit(world, message_id, part_index=2)
        await do(world, prune.give_up_overdue, clock.now() + WAIT + HOUR)
        found = await row(world, message_id)
        assert (found["status"], found["cause"]) == (Status.UNDELIVERED.number, cause.number)
        await books_balance(world.database)


async def test_an_unsure_part_is_given_up_like_any_other(database: str) -> None:
    async with make.world(database) as world:
        message_id = await promise(world, purpose=Purpose.PROMOTIONAL)
        await submit(world, message_id, state=1, upstream_id="unsure:1")
        assert await do(world, prune.give_up_overdue, clock.now() + WAIT + HOUR) == 1
        assert (await row(world, message_id))["status"] == Status.UNKNOWN.number
        await books_balance(world.database)


async def test_what_was_given_up_is_forgotten_only_when_no_report_can_correct_it(database: str) -> None:
    async with make.world(database) as world:
        message_id = await promise(world)
        await submit(world, message_id)
        given_up = clock.now() + WAIT + HOUR
        await do(world, prune.give_up_overdue, given_up)
        assert await do(world, prune.forget_given_up, given_up + KEEP - DAY) == 0
        assert await count(world, "SELECT sum(cost_micro) FROM tally") == 0
        assert await do(world, prune.forget_given_up, given_up + KEEP) == 1
        found = await row(world, message_id)
        assert found["cost_micro"] == await count(world, "SELECT sum(cost_micro) FROM tally") == COST
        assert await count(world, "SELECT jsonb_array_length(attempts) FROM message") == 1
        await books_balance(world.database)


# ---- forgotten by everybody


async def test_a_message_that_no_queue_knows_is_closed_by_the_backstop(database: str) -> None:
    async with make.world(database) as world:
        at = ago(timedelta(days=6))
        lost = await promise(world, at=at)
        waiting, under_way = await promise(world, at=at), await promise(world, at=at)
        await queue(world, waiting)
        await submit(world, under_way, sent_at=at)
        assert await do(world, prune.close_forgotten, day=at.date()) == 1
        assert [(await row(world, one))["status"] for one in (lost, waiting, under_way)] == [2, 0, 0]
        await books_balance(world.database)


async def test_the_backstop_leaves_alone_what_may_still_be_reported(database: str) -> None:
    async with make.world(database) as world:
        at = ago(timedelta(days=4))  # valid for one, reported on within three, and a day of grace
        await promise(world, at=at)
        assert await do(world, prune.close_forgotten, day=at.date()) == 0


async def test_the_backstop_comes_by_every_day_that_can_hold_an_open_message() -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    hours = [start + timedelta(hours=hour) for hour in range(prune.BACKSTOP_DAYS)]
    days = {int(now.timestamp() // 3_600) % prune.BACKSTOP_DAYS for now in hours}
    assert days == set(range(prune.BACKSTOP_DAYS))


# ---- waiting too long


async def test_what_waits_beyond_its_validity_ends_and_is_refunded(database: str) -> None:
    async with make.world(database) as world:
        message_id = await promise(world, at=ago(2 * DAY))
        young = await promise(world)
        for one in (message_id, young):
            await queue(world, one)
        assert await do(world, prune.expire_waiting) == 1
        found = await row(world, message_id)
        assert (found["status"], found["cause"]) == (Status.EXPIRED.number, Cause.NOT_SENT.number)
        assert found["refund_micro"] == PRICE
        assert (await row(world, young))["status"] == 0
        await books_balance(world.database)


async def test_what_a_version_without_expiries_queued_ends_when_nothing_can_be_valid_any_more(
    database: str,
) -> None:
    async with make.world(database) as world:
        longest = timedelta(seconds=SETTINGS.validity_s_max)
        over = await promise(world, at=ago(longest + HOUR))
        perhaps = await promise(world, at=ago(longest - HOUR))
        await queue(world, over, expires_at=None, due_at=ago(longest + HOUR))
        await queue(world, perhaps, expires_at=None, due_at=ago(longest - HOUR))
        assert await do(world, prune.expire_waiting) == 1
        assert (await row(world, over))["status"] == Status.EXPIRED.number
        assert (await row(world, perhaps))["status"] == 0


async def test_no_more_than_a_batch_ends_in_one_transaction(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "BATCH_MAX", 2)
    async with make.world(database) as world:
        for _ in range(5):
            await queue(world, await promise(world, at=ago(2 * DAY)))
        assert [await do(world, prune.expire_waiting) for _ in range(4)] == [2, 2, 1, 0]
        await books_balance(world.database)


async def test_what_a_gateway_has_in_hand_is_not_ended_behind_its_back(database: str) -> None:
    async with make.world(database) as world:
        held, leaving = await promise(world, at=ago(2 * DAY)), await promise(world, at=ago(2 * DAY))
        await queue(world, held, owner=1)
        await queue(world, leaving, leaving_channel=world.channel_id, leaving_at=ago(2 * DAY))
        assert await do(world, prune.expire_waiting) == 0
        await books_balance(world.database)


async def test_a_second_attempt_that_nobody_made_ends_as_the_first_did(database: str) -> None:
    async with make.world(database) as world:
        message_id = await promise(world, at=ago(2 * DAY), attempt=2, cause=Cause.NETWORK, code="NET")
        await queue(world, message_id, attempt=2, avoid_channel=world.channel_id)
        assert await do(world, prune.expire_waiting) == 1
        found = await row(world, message_id)
        assert (found["status"], found["cause"]) == (Status.UNDELIVERED.number, Cause.NETWORK.number)
        assert (found["code"], found["refund_micro"]) == ("NET", 0)
        await books_balance(world.database)


async def test_only_the_parts_that_never_left_are_refunded(database: str) -> None:
    async with make.world(database) as world:
        message_id = await promise(world, at=ago(2 * DAY), parts=3)
        await submit(world, message_id, sent_at=ago(DAY))
        await queue(world, message_id)
        assert await do(world, prune.expire_waiting) == 1
        found = await row(world, message_id)
        assert (found["status"], found["pending"], found["refund_micro"]) == (0, 1, 2 * PRICE)
        await books_balance(world.database)
        await do(world, prune.give_up_overdue, clock.now() + WAIT + HOUR)
        assert (await row(world, message_id))["status"] == Status.EXPIRED.number
        await books_balance(world.database)


# ---- left behind


async def test_the_rows_of_a_silent_gateway_are_given_to_whoever_claims_them(database: str) -> None:
    async with make.world(database) as world:
        await world.database.execute(
            "INSERT INTO gateway (id, socket, seen_at) VALUES (1, '', now() - interval '1 hour'), (2, '', now())"
        )
        for owner in (0, 1, 2, 3):  # 3 never said anything
            await queue(world, await promise(world), owner=owner, due_at=ago(HOUR))
        just_born = await promise(world)
        await queue(world, just_born, owner=3)
        assert await do(world, prune.release_left_behind) == 2
        rows = await world.database.fetch("SELECT owner FROM outbox ORDER BY id")
        assert [one["owner"] for one in rows] == [0, 0, 2, 0, 3]
        await books_balance(world.database)


async def test_what_was_leaving_stays_marked_when_it_is_released(database: str) -> None:
    async with make.world(database) as world:
        message_id = await promise(world, purpose=Purpose.PROMOTIONAL)
        left = {"leaving_channel": world.channel_id, "leaving_at": ago(HOUR)}
        await queue(world, message_id, owner=1, due_at=ago(HOUR), **left)
        assert await do(world, prune.release_left_behind) == 1
        assert (
            await count(world, "SELECT count(*) FROM outbox WHERE owner = 0 AND leaving_at IS NOT NULL") == 1
        )


# ---- small tables

OLD_AND_YOUNG: tuple[tuple[Any, LiteralString, LiteralString, timedelta], ...] = (
    (
        prune.delete_early_reports,
        "early_report",
        (
            "INSERT INTO early_report (channel_id, upstream_id, status, cause, code, at, came_at)"
            " VALUES (1, $2::timestamptz::text, 1, 0, '', now(), $1)"
        ),
        timedelta(seconds=SETTINGS.early_report_keep_s),
    ),
    (
        prune.delete_nonces,
        "nonce",
        "INSERT INTO nonce (key_id, nonce, until) VALUES (1, $2::timestamptz::text::bytea, $1)",
        timedelta(0),
    ),
    (
        prune.delete_idempotency,
        "idempotency",
        (
            "INSERT INTO idempotency (key_id, key, body, first_id, created_at)"
            " VALUES (1, $2::timestamptz::text::bytea, '', gen_random_uuid(), $1)"
        ),
        timedelta(seconds=SETTINGS.idempotency_keep_s),
    ),
    (
        prune.delete_decisions,
        "decision",
        "INSERT INTO decision (id, trace, made_at) VALUES (extract(epoch FROM $2::timestamptz)::bigint, '{}', $1)",
        timedelta(days=SETTINGS.message_keep_days, seconds=prune.DECISION_GRACE_S),
    ),
    (
        prune.delete_gateways,
        "gateway",
        (
            "INSERT INTO gateway (id, socket, seen_at)"
            " VALUES ((extract(epoch FROM $2::timestamptz)::bigint / 60 % 100000)::int, '', $1)"
        ),
        timedelta(seconds=prune.GATEWAY_KEEP_S),
    ),
)


@pytest.mark.parametrize(
    ("duty", "table", "insert", "kept"), OLD_AND_YOUNG, ids=[one[1] for one in OLD_AND_YOUNG]
)
async def test_rows_are_forgotten_when_their_time_is_over_and_not_before(
    database: str, duty: Any, table: str, insert: LiteralString, kept: timedelta
) -> None:
    async with make.world(database) as world:
        for at in (ago(kept + HOUR), ago(kept - HOUR)):
            await world.database.execute(insert, at, at)
        assert await do(world, duty) == 1
        (left,) = await world.database.fetch(f"SELECT count(*) AS n FROM {table}")
        assert left["n"] == 1


async def test_a_number_is_remembered_for_the_longest_window(database: str) -> None:
    async with make.world(database) as world:
        now = clock.now()

        def hit(before: timedelta) -> int:
            return (int((now - before).timestamp()) - prune.FREQUENCY_EPOCH_S) << 32 | 0xFFFF_FFFF

        keys = {
            b"\x01" * 16: [hit(3 * DAY)],
            b"\x02" * 16: [hit(3 * DAY), hit(DAY - HOUR)],
            b"\x03" * 16: [hit(DAY + HOUR)],
        }
        for key, hits in keys.items():
            await world.database.execute("INSERT INTO frequency VALUES ($1, $2, 1, 1, 1, 0)", key, hits)
        assert await do(world, prune.delete_frequencies, now) == 2
        rows = await world.database.fetch("SELECT key FROM frequency")
        assert [one["key"] for one in rows] == [b"\x02" * 16]


# ---- days


async def test_partitions_stand_ready_for_today_and_the_days_ahead(database: str) -> None:
    async with make.world(database) as world:
        now = clock.now() + 30 * DAY  # for today there are some
        async with world.database.transaction() as tx:
            assert await prune.ensure_partitions(tx, now) == prune.DAYS_AHEAD + 1
            assert await prune.ensure_partitions(tx, now) == 0
            assert await prune.ensure_partitions(tx, now + DAY) == 1
        for ahead in range(prune.DAYS_AHEAD + 1):
            at = now + ahead * DAY
            message_id = await promise(world, at=at)
            (found,) = await world.database.fetch(
                "SELECT tableoid::regclass::text AS name FROM message WHERE id = $1", message_id
            )
            assert found["name"] == f"message_{at:%Y%m%d}"
        assert await count(world, "SELECT count(*) FROM message_rest") == 0


async def test_a_process_starts_without_the_days_where_somebody_holds_the_table(database: str) -> None:
    async with make.world(database) as world:
        await world.database.execute(f"DROP TABLE {day_at(clock.now_s()).table}")
        async with world.database.transaction() as reader:
            await reader.fetch("SELECT FROM message_rest")  # and goes on for long
            await prune.stand_ready(world.database)
        await prune.stand_ready(world.database)
        message_id = await promise(world)
        assert await count(world, f"SELECT count(*) FROM {day_of(message_id.bytes).table}") == 1


async def test_a_day_that_has_begun_without_a_partition_stays_where_it_is(database: str) -> None:
    async with make.world(database) as world:
        now = clock.now() + 30 * DAY
        message_id = await promise(world, at=now)
        assert await do(world, prune.make_partitions, now) == prune.DAYS_AHEAD
        assert (await row(world, message_id))["status"] == 0


async def test_days_are_dropped_when_they_are_old_and_not_before(database: str) -> None:
    async with make.world(database) as world:
        keep = timedelta(days=SETTINGS.message_keep_days)
        old, last = clock.now() - keep - DAY, clock.now() - keep
        for at in (old, last):
            async with world.database.transaction() as tx:
                await prune.ensure_partitions(tx, at - prune.DAYS_AHEAD * DAY)
                await prune.ensure_partitions(tx, at)
            await promise(world, at=at, status=Status.DELIVERED)
        kept = await promise(world, at=last, status=Status.DELIVERED)
        await do(world, prune.drop_old_days)
        rows = await world.database.fetch("SELECT id FROM message ORDER BY id")
        assert kept in {one["id"] for one in rows}
        assert len(rows) == 2
        assert (
            await count(world, "SELECT count(*) FROM pg_class WHERE relname = $1", f"message_{old:%Y%m%d}")
            == 0
        )


async def test_old_rows_without_a_partition_of_their_own_and_old_texts_go_too(database: str) -> None:
    async with make.world(database) as world:
        old = clock.now() - timedelta(days=SETTINGS.message_keep_days + 2)
        await promise(world, at=old, status=Status.DELIVERED)
        async with world.database.transaction() as tx:
            await make.inbound(tx, world, id=make.message_id(old))
            young = await make.inbound(tx, world)
        await do(world, prune.drop_old_days)
        assert await count(world, "SELECT count(*) FROM message") == 0
        assert [one["id"] for one in await world.database.fetch("SELECT id FROM inbound")] == [young]


# ---- all of it


async def test_the_clerk_does_every_duty_and_one_of_two_does_it(database: str) -> None:
    async with make.world(database) as world:
        message_id = await promise(world, at=ago(5 * DAY))
        await submit(world, message_id, sent_at=ago(4 * DAY))
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            clerks = [tasks.create_task(prune.run(world.database, SETTINGS)) for _ in range(2)]
            while (await row(world, message_id))["status"] == 0:
                await asyncio.sleep(0.01)
            while (
                await count(
                    world, "SELECT count(*) FROM pg_class WHERE relname LIKE 'message_2%' AND relkind = 'r'"
                )
                < 3
            ):
                await asyncio.sleep(0.01)
            for clerk in clerks:
                clerk.cancel()
        await books_balance(world.database)


async def test_a_duty_takes_a_batch_and_leaves_the_rest_for_the_next_round(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make.world(database) as world:
        for _ in range(5):
            await submit(world, await promise(world), sent_at=ago(WAIT + HOUR))
        monkeypatch.setattr(prune, "BATCH_MAX", 2)
        assert [await do(world, prune.give_up_overdue) for _ in range(4)] == [2, 2, 1, 0]
        await books_balance(world.database)


async def test_a_duty_that_looked_long_and_found_nothing_rests_and_one_that_found_much_does_not(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    enough = asyncio.Event()
    now_s = 0.0

    def tick() -> float:
        nonlocal now_s
        now_s += 0.001
        return now_s

    monkeypatch.setattr(prune, "time", SimpleNamespace(monotonic=tick))

    async def quick(*_: Any) -> int:
        done.append("quick")
        if done.count("quick") == 12:
            enough.set()
        return 0

    async def looks_long(*_: Any) -> int:
        nonlocal now_s
        now_s += 0.2
        done.append("looks long")
        return 0

    async def finds_much(*_: Any) -> int:
        nonlocal now_s
        now_s += 0.02
        done.append("finds much")
        return 5

    monkeypatch.setattr(prune, "ROUNDS_MAX", 1)
    monkeypatch.setattr(
        prune, "DUTIES", [prune.Duty(work, 0.01, 5) for work in (quick, looks_long, finds_much)]
    )
    async with make.world(database) as world, asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        clerk = tasks.create_task(prune.run(world.database, SETTINGS))
        await enough.wait()
        clerk.cancel()
    assert done.count("looks long") == 1
    assert done.count("finds much") > 5
