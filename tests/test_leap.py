"""Nothing is forgotten by a clock that was set ahead, and all of it once the clock can be believed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest

import make
from hongyan import clock, leap
from hongyan.control import duties, packages
from hongyan.otp import ripen
from hongyan.vocab.message import Status
from hongyan.way import prune
from make import SETTINGS, World

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
YEAR = 365 * DAY


class Hand:
    """Sets the clock that everything is told the time by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta()
        real, real_s = clock.now, clock.now_s
        monkeypatch.setattr(clock, "now", lambda: real() + self.ahead)
        monkeypatch.setattr(clock, "now_s", lambda: real_s() + self.ahead.total_seconds())


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    return Hand(monkeypatch)


async def looks(world: World, hand: Hand, *ahead: timedelta) -> list[bool]:
    """What is believed of the clock, set ahead by so much each time."""
    believed = []
    for hand.ahead in ahead:
        believed.append(await leap.believed(world.database))
    return believed


async def test_a_clock_that_goes_on_is_believed(database: str, hand: Hand) -> None:
    async with make.world(database) as world:
        assert await looks(world, hand, *(n * DAY * 0.9 for n in range(5))) == [True] * 5
        assert await leap.rests_until(world.database) is None


async def test_a_clock_that_leapt_ahead_is_believed_after_a_day(database: str, hand: Hand) -> None:
    async with make.world(database) as world:
        steps = (MINUTE, YEAR, YEAR + MINUTE, YEAR + DAY - MINUTE)
        assert await looks(world, hand, *steps) == [True, False, False, False]
        until = await leap.rests_until(world.database)
        assert until is not None
        assert abs(until - (clock.now() + MINUTE)) < MINUTE
        assert await looks(world, hand, YEAR + DAY + MINUTE) == [True]
        assert await leap.rests_until(world.database) is None


async def test_a_clock_that_was_set_back_is_believed_at_once_and_may_leap_again(
    database: str, hand: Hand
) -> None:
    async with make.world(database) as world:
        steps = (MINUTE, YEAR, 2 * MINUTE, 3 * MINUTE, YEAR, 4 * MINUTE)
        assert await looks(world, hand, *steps) == [True, False, True, True, False, True]


async def test_looks_that_overtake_each_other_undo_no_leap(database: str, hand: Hand) -> None:
    """Each takes its time before it asks, so the later one may be the first to be answered."""
    async with make.world(database) as world:
        steps = (MINUTE, YEAR, YEAR - MINUTE, YEAR)
        assert await looks(world, hand, *steps) == [True, False, False, False]


async def test_of_two_processes_with_clocks_a_year_apart_only_the_one_ahead_rests(
    database: str, hand: Hand
) -> None:
    async with make.world(database) as world:
        steps = (MINUTE, YEAR) * 4
        assert await looks(world, hand, *steps) == [True, False] * 4


async def one_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every duty there is have its turn."""
    turns = [asyncio.Event() for _ in range(3)]

    def last(turn: asyncio.Event) -> Callable[..., Awaitable[int]]:
        async def work(*_: object) -> int:
            turn.set()
            return 0

        return work

    texts = prune.text_duties
    with monkeypatch.context() as patch:
        patch.setattr(prune, "text_duties", lambda vault: (*texts(vault), prune.Duty(last(turns[0]), 9, 9)))
        patch.setattr(duties, "DUTIES", (*duties.DUTIES, duties.Duty(last(turns[1]), 9, 9, changes=False)))
        patch.setattr(ripen, "SELDOM", (*ripen.SELDOM, last(turns[2])))
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(prune.run(world.database, SETTINGS, world.vault)),
                tasks.create_task(duties.run(world.database)),
                tasks.create_task(ripen.run(world.database, world.vault)),
            ]
            for turn in turns:
                await turn.wait()
            for loop in loops:
                loop.cancel()


CONSENT_SQL = """
INSERT INTO consent (tenant_id, phone_index, scope, given, source, at) VALUES ($1, $2, 'promotional', false, 'form', $3)
"""
NOTICE_SQL = """
INSERT INTO notice (tenant_id, app_id, kind, message_id, at, due_at) VALUES ($1, $2, 1, $3, $4, now() - interval '2 days')
"""
VERIFICATION_SQL = """
INSERT INTO verification (tenant_id, id, app_id, scene, state, medium, sandbox, phone_index, sealed, pepper, guess_space,
                          tries_max, country, operator, province, prefix, level, message_ids, created_at, expires_at,
                          resend_at, ended_at, counted)
VALUES ($1, $2, $3, 1, 2, 'sms', false, $4, $4, 1, 1e6, 5, 'CN', 'cmcc', 'CN-BJ', '+861380013', 0, '{}', $5, $5, $5, $5, true)
"""
LEFT_SQL = """
SELECT (SELECT count(*) FROM message)::int AS messages, (SELECT count(sealed) FROM message)::int AS sealed,
       (SELECT count(*) FROM notice)::int AS notices, (SELECT count(*) FROM consent)::int AS consents,
       (SELECT count(*) FROM verification)::int AS verifications,
       (SELECT count(*) FROM package WHERE lapsed_at IS NULL)::int AS packages
"""


async def lay_what_is_kept(world: World) -> None:
    """One of each, and a message that nobody has reported on."""
    now, index = clock.now(), world.vault.phone_index(make.NUMBER)
    async with world.database.transaction() as tx:
        kept = await make.message(tx, world, status=Status.DELIVERED)
        await make.submitted(tx, world, await make.message(tx, world))
        await tx.execute(NOTICE_SQL, world.tenant_id, world.app_id, kept, now)
        await tx.execute(CONSENT_SQL, world.tenant_id, index, now)
        verification = make.message_id(now)
        await tx.execute(VERIFICATION_SQL, world.tenant_id, verification, world.app_id, index, now)
        await packages.sell(
            tx, world.tenant_id, name="spring", parts=9, part_micro=45_000, paid_micro=9, expires_at=now + DAY
        )


async def left(world: World) -> dict[str, int]:
    (row,) = await world.database.fetch(LEFT_SQL)
    return dict(row)


async def test_what_is_kept_for_days_outlives_a_clock_set_ahead_by_years(
    database: str, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is overdue is seen to all the same: the message that nobody reported on is unknown."""
    async with make.world(database) as world:
        await lay_what_is_kept(world)
        assert await leap.believed(world.database)
        kept = {"messages": 2, "sealed": 2, "notices": 1, "consents": 1, "verifications": 1, "packages": 1}
        assert await left(world) == kept
        hand.ahead = 11 * YEAR
        await one_turn(world, monkeypatch)
        assert await left(world) == kept | {"notices": 2}
        await world.database.execute("UPDATE clock_seen SET leapt_at = leapt_at - interval '1 day'")
        await one_turn(world, monkeypatch)
        assert await left(world) == dict.fromkeys(kept, 0) | {"notices": 1}


@pytest.mark.parametrize("loop", ["prune", "duties", "ripen"])
async def test_what_is_done_now_and_then_is_done_on_after_a_clock_was_ahead_for_a_while(
    database: str, hand: Hand, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    seen: list[datetime] = []

    async def duty(*_: object) -> int:
        seen.append(clock.now())
        return 0

    monkeypatch.setattr(prune, "DUTIES", [prune.Duty(duty, 0.02, 5)])
    monkeypatch.setattr(duties, "DUTIES", [duties.Duty(duty, 0.02, 5, changes=False)])
    monkeypatch.setattr(duties, "GAP_S", 0.02)
    monkeypatch.setattr(ripen, "SELDOM", (duty,))
    monkeypatch.setattr(ripen, "GAP_S", 0.02)
    monkeypatch.setattr(ripen, "FORGET_GAP_S", 0.02)
    async with make.world(database) as world, asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        match loop:
            case "prune":
                run = prune.run(world.database, SETTINGS)
            case "duties":
                run = duties.run(world.database)
            case _:
                run = ripen.run(world.database, world.vault)
        task = tasks.create_task(run)
        for hand.ahead in (timedelta(), YEAR, timedelta()):
            done = len(seen)
            while len(seen) < done + 2:
                await asyncio.sleep(0.01)
        task.cancel()


async def test_a_clock_that_was_set_gives_every_duty_its_turn_at_once(
    database: str, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After four days of sleep the day has no partition, and an hour without one would leave it without for good."""
    often, seldom = 0, 0

    async def quick(*_: object) -> int:
        nonlocal often
        often += 1
        return 0

    async def slow(*_: object) -> int:
        nonlocal seldom
        seldom += 1
        return 0

    monkeypatch.setattr(prune, "DUTIES", [prune.Duty(quick, 0.02, 5), prune.Duty(slow, 3_600, 5)])
    async with make.world(database) as world, asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(prune.run(world.database, SETTINGS))
        for turn, hand.ahead in enumerate((timedelta(), timedelta(seconds=30), 4 * DAY, timedelta())):
            before = often
            while often < before + 3:
                await asyncio.sleep(0.01)
            assert seldom == (1, 1, 2, 3)[turn]
        task.cancel()
