"""Nothing waits for a time that a clock was ahead by, once it is set back: whatever was written by it meanwhile."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, LiteralString

import pytest

import make
from hongyan import clock, db
from hongyan.control import attempts, jobs
from hongyan.doors import sessions
from hongyan.doors.rates import Rates
from hongyan.otp.limits import Held
from hongyan.vocab.errors import Refusal
from hongyan.vocab.message import MessageIds, Purpose, accepted_at_s
from hongyan.way import owing, prune
from make import SETTINGS, World

AHEAD: Final = timedelta(hours=8)  # a machine's clock in Beijing's time, read as UTC
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


async def bring_back(world: World) -> int:
    async with world.database.transaction() as tx:
        return await prune.bring_back(tx, SETTINGS, clock.now())


async def one(world: World, sql: LiteralString, *values: Any) -> Any:
    return (await world.database.fetch(sql, *values))[0][0]


def test_ids_are_of_the_time_it_is_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, real_ns = MessageIds(), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(AHEAD.total_seconds()) * 10**9)
    before = ids.make()
    monkeypatch.setattr(time, "time_ns", real_ns)
    after = ids.make()
    assert accepted_at_s(before) - accepted_at_s(after) > AHEAD.total_seconds() - 60
    assert abs(accepted_at_s(after) - time.time()) < 60


def test_ids_rise_though_a_clock_steps_back_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, at_ns = MessageIds(), time.time_ns()
    steps_s = (0, -1, -30, -59, 0, -0.001)
    made = []
    for step_s in steps_s:
        monkeypatch.setattr(time, "time_ns", lambda step_s=step_s: at_ns + int(step_s * 1e9))
        made.append(ids.make())
    assert made == sorted(made)


async def test_a_key_with_a_rate_is_let_in(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            key_id = await make.app_key(tx, world.vault, app_id=world.app_id, rate_per_s=5)
        await world.database.execute(
            "INSERT INTO key_rate (key_id, next_at) SELECT id, now() + $1 FROM app_key", AHEAD
        )
        rates = Rates(world.database)
        heard: asyncio.Queue[Refusal | None] = asyncio.Queue()
        task = asyncio.create_task(rates.run())
        rates.take((await make.snapshot(world)).keys[key_id], heard.put_nowait)
        async with asyncio.timeout(5):
            assert await heard.get() is None
        task.cancel()
        assert await one(world, "SELECT next_at < now() + interval '2 seconds' FROM key_rate")


@pytest.mark.parametrize("column", ["due_at", "lease_until"])
async def test_notices_put_off_or_leased_then_are_owed_at_once(database: str, column: str) -> None:
    async with make.world(database) as world:
        (notice,) = await make.owe_rows(world, 1)
        sql = {
            "due_at": "UPDATE notice SET due_at = now() + $1",
            "lease_until": "UPDATE notice SET lease_until = now() + $1",
        }[column]
        rooms = [(world.app_id, 9)]
        await world.database.execute(sql, timedelta(minutes=59))
        assert await owing.claim(world.database, rooms, rows_max=9, floor=0) == []
        await world.database.execute(sql, AHEAD)
        assert [one.id for one in await owing.claim(world.database, rooms, rows_max=9, floor=0)] == [
            notice.id
        ]
        await world.database.execute("UPDATE notice SET lease = NULL, lease_until = now() + $1", AHEAD)
        async with world.database.transaction() as tx:
            assert (await owing.pull(tx, world.vault, world.app_id, 9, 60)).cursor


async def test_leases_pauses_and_attempts_end(database: str) -> None:
    async with make.world(database) as world:
        for sql in (
            "INSERT INTO gateway (id, socket, seen_at) VALUES (9, '', now() + $1)",
            "INSERT INTO session_lease (channel_id, slot, gateway, until) VALUES (1, 1, 9, now() + $1)",
            "INSERT INTO webhook_health (webhook_id, failures, paused_until) VALUES (1, 9, now() + $1)",
        ):
            await world.database.execute(sql, AHEAD)
        assert await bring_back(world) == 3
        for sql in (
            "SELECT seen_at <= now() FROM gateway",
            "SELECT until <= now() FROM session_lease",
            "SELECT paused_until <= now() FROM webhook_health",
        ):
            assert await one(world, sql)
        await world.database.execute("UPDATE webhook_health SET paused_until = now() + interval '59 minutes'")
        assert await bring_back(world) == 0


async def test_who_signed_in_then_may_try_again(database: str) -> None:
    async with make.world(database) as world:

        async def tries() -> None:
            async with world.database.transaction() as tx:
                await attempts.count(tx, world.vault, "a@example.com", "192.0.2.1")

        await tries()
        await world.database.execute("UPDATE sign_in_attempt SET last_at = now() + $1", AHEAD)
        with pytest.raises(Refusal):
            await tries()
        await bring_back(world)
        await tries()


async def test_a_number_written_to_then_is_written_to_again(database: str) -> None:
    async with make.world(database) as world:
        now_s = int(clock.now_s()) - prune.FREQUENCY_EPOCH_S
        hits = {b"then": now_s + int(AHEAD.total_seconds()), b"now": now_s, b"door ahead": now_s + 30}
        for key, at_s in hits.items():
            await world.database.execute(
                "INSERT INTO frequency (key, hits, minute_max, hour_max, day_max, same_s) VALUES ($1, $2, 1, 1, 1, 0)",
                key, [at_s << 32],
            )  # fmt: skip
        async with world.database.transaction() as tx:
            assert await prune.delete_frequencies(tx, SETTINGS, clock.now()) == 1
        left = await world.database.fetch("SELECT key FROM frequency")
        assert {row["key"] for row in left} == {b"now", b"door ahead"}


async def test_codes_asked_for_then_count_for_nothing(database: str) -> None:
    opened = await db.connect(database, SETTINGS)
    now_s = clock.now_s()
    try:
        async with opened.transaction() as tx:
            held = await Held.lock(tx, [b"n"], [], now_s + AHEAD.total_seconds())
            held[b"n"].hit(now_s + AHEAD.total_seconds())
            await held.store(tx, now_s)
        async with opened.transaction() as tx:
            assert (await Held.lock(tx, [b"n"], [], now_s))[b"n"].hits == []
    finally:
        await opened.close()


async def test_jobs_and_sessions_held_then_are_held_no_more(database: str) -> None:
    async with make.world(database) as world:
        await world.database.execute(
            "INSERT INTO job (tenant_id, kind, state, asked, made_by, worker, lease_until, keep_until)"
            " VALUES (1, 'list.send', 'running', '{}', '', gen_random_uuid(), now() + interval '20 seconds', now())"
        )
        claim = (jobs.CLAIM_SQL, ["list.send"], uuid.uuid4(), 30.0, 5)
        assert await world.database.fetch(*claim) == []
        await world.database.execute("UPDATE job SET lease_until = now() + $1", AHEAD)
        assert len(await world.database.fetch(*claim)) == 1
        await world.database.execute("INSERT INTO login_session VALUES (1, 1, 5, now())")
        assert await one(world, sessions.OTHERS_SQL, 1, 2, 30.0) == 5
        await world.database.execute("UPDATE login_session SET seen_at = now() + $1", AHEAD)
        assert await one(world, sessions.OTHERS_SQL, 1, 2, 30.0) == 0


# ---- the queue


async def queue(world: World, *, accepted: timedelta, due: timedelta = timedelta(), **columns: Any) -> None:
    """A message accepted so far from now and to leave so much later, as acceptance leaves it."""
    at = clock.now() + accepted
    async with world.database.transaction() as tx:
        message_id = await make.message(tx, world, at=at, due_at=at + due, purpose=Purpose.TRANSACTIONAL)
        values = {"owner": 0, "due_at": at + due, "expires_at": at + due + DAY} | columns
        await make.outbox(tx, world, message_id, **values)


async def dues(world: World) -> Sequence[tuple[timedelta, timedelta]]:
    """In how long each message is due and over."""
    sql: LiteralString = (
        "SELECT due_at - now() AS due, expires_at - now() AS over FROM outbox ORDER BY due_at"
    )
    return [(row["due"], row["over"]) for row in await world.database.fetch(sql)]


@pytest.mark.parametrize("owner", [0, 9])
async def test_what_was_accepted_then_leaves_at_once_and_is_valid_for_as_long_as_was_said(
    database: str, owner: int
) -> None:
    async with make.world(database) as world:
        await queue(world, accepted=AHEAD, owner=owner)
        assert await bring_back(world) == 1
        ((due, over),) = await dues(world)
        assert due <= timedelta()
        assert DAY - MINUTE < over <= DAY
        assert await bring_back(world) == 0


async def test_what_its_sender_put_off_then_leaves_when_he_said(database: str) -> None:
    async with make.world(database) as world:
        await queue(world, accepted=AHEAD, due=DAY)
        assert await bring_back(world) == 0
        ((due, _),) = await dues(world)
        assert due > AHEAD + DAY - MINUTE


async def test_what_waited_while_a_clock_was_ahead_by_years_leaves(database: str) -> None:
    async with make.world(database) as world:
        await queue(world, accepted=-MINUTE, due_at=clock.now() + 365 * DAY)
        await queue(world, accepted=-MINUTE, due=30 * DAY)
        await queue(world, accepted=-MINUTE, owner=-1, due_at=clock.now() + 9_000 * DAY)
        assert await bring_back(world) == 1
        (brought, _), *left = await dues(world)
        assert brought <= timedelta()
        assert all(due > 29 * DAY for due, _ in left)
