"""Route rules hold over all gateways: what another gateway's channel should carry is given to it, once, and is not doubled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hongyan import db
from hongyan.simulator import behaviour
from hongyan.simulator.behaviour import Rule
from hongyan.simulator.server import Simulator
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import ChannelId, Purpose, Status
from hongyan.way import cancel, handover, others, route
from plane import QUICK, Plane, awake, books_balance, pair

ENOUGH_REPORTS = 200  # for a breaker to open


def number(place: int) -> str:
    return f"1380013{place:04d}"


def operator(words: str = "", *rules: str) -> Simulator:
    return Simulator(
        behaviour.parse(f"report_delay_s=0.01 {words}"), [Rule.read(rule) for rule in rules], seed=1
    )


SHARE_OUT_SQL = """
INSERT INTO session_lease (channel_id, slot, gateway, until)
VALUES ($1, 1, 1, now() + interval '1 hour'), ($2, 1, $3, now() + interval '1 hour'), ($2, 2, 2, now() + interval '1 hour')
ON CONFLICT (channel_id, slot) DO UPDATE SET gateway = EXCLUDED.gateway, until = EXCLUDED.until
"""


@asynccontextmanager
async def gateways(
    dsn: str,
    best: Simulator,
    next_best: Simulator,
    *,
    folder: Path | None = None,
    both: bool = True,
    hears: bool = True,
    **config: Any,
) -> AsyncIterator[tuple[Plane, Plane]]:
    """Two gateways: the first alone has the one session of the best channel, both (or the second) have the next.

    `folder`: doors' and gateways' sockets are there, as on one machine; without it they are on two.
    """
    settings = replace(QUICK, state_dir=folder or Path("/nowhere"), **config.pop("settings", {}))
    async with (
        pair(dsn, best, next_best, settings=settings, **config) as (first, second),
        asyncio.TaskGroup() as tasks,
    ):
        listening = [
            tasks.create_task(
                handover.listen(folder / one.gateway.socket_name, one.gateway.take, one.gateway.waiting)
            )
            for one in (first, second)
            if folder is not None
        ]
        if folder is None and hears:
            listening += [await hearing(one, tasks) for one in (first, second)]
        best_id, next_id = first.laid.channels
        await first.database.execute("UPDATE channel SET sessions = 2 WHERE id = $1", next_id)
        for one in (first, second):
            await one.keeper.load()
        await first.until("SELECT 1 WHERE (SELECT count(*) FROM gateway) = 2")
        await first.database.execute(SHARE_OUT_SQL, best_id, next_id, 1 if both else 2)
        await first.holds(lambda: up(first, best_id))
        await second.holds(lambda: up(second, next_id))
        await second.holds(lambda: not up(second, best_id))
        await knows(second, best_id)
        yield first, second
        for task in listening:
            task.cancel()


async def hearing(one: Plane, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
    """Let a gateway hear what others give it, as its process does."""
    listens = asyncio.Event()

    def hear(payload: str) -> None:
        listens.set()
        one.gateway.lines.others.hear(payload)

    task = tasks.create_task(db.Listener(one.database, {others.TOPIC: hear}).run())
    await listens.wait()
    return task


def up(one: Plane, channel_id: ChannelId) -> bool:
    line = one.gateway.lines.open.get(channel_id)
    return line is not None and line.up


async def knows(one: Plane, channel_id: ChannelId) -> None:
    """Wait until a gateway has heard that a channel is up at another one."""
    await one.holds(lambda: channel_id in one.gateway.lines.others.away)


async def went(*simulators: Simulator) -> list[int]:
    """How many parts each operator got; none twice."""
    assert [simulator.statistics().repeated_parts for simulator in simulators] == [0] * len(simulators)
    return [simulator.statistics().parts for simulator in simulators]


# ---- by which channel


@pytest.mark.parametrize("one_machine", [True, False])
@pytest.mark.parametrize("purpose", list(Purpose))
async def test_a_message_goes_by_the_best_channel_though_another_gateway_has_it(
    database: str, tmp_path: Path, purpose: Purpose, one_machine: bool
) -> None:
    async with (
        operator() as best,
        operator() as other,
        gateways(database, best, other, folder=tmp_path if one_machine else None) as (first, second),
    ):
        for n in range(10):
            await second.send(awake(n) if purpose is Purpose.PROMOTIONAL else number(n), purpose)
        await first.all_final()
        assert await went(best, other) == [10, 0]
        await books_balance(first.database)


async def test_what_is_up_at_no_gateway_is_not_waited_for(database: str, tmp_path: Path) -> None:
    async with (
        operator() as best,
        operator() as other,
        gateways(database, best, other, folder=tmp_path) as (first, second),
    ):
        await best.stop()
        await second.holds(lambda: not second.gateway.lines.others.away)
        await second.send()
        await first.all_final()
        assert (await went(other)) == [1]
        await books_balance(first.database)


async def test_a_paused_channel_of_another_gateway_gets_nothing(database: str, tmp_path: Path) -> None:
    async with (
        operator() as best,
        operator() as other,
        gateways(database, best, other, folder=tmp_path) as (first, second),
    ):
        await first.database.execute("UPDATE channel SET paused = true WHERE id = $1", first.laid.channels[0])
        await second.keeper.load()
        await second.send()
        await first.all_final()
        assert await went(best, other) == [0, 1]


async def test_a_busy_channel_of_another_gateway_is_waited_for(database: str, tmp_path: Path) -> None:
    """Its window is full: that is no reason to buy elsewhere, there as here."""
    async with (
        operator("ack_loss_share=1 report_loss_share=1") as best,
        operator() as other,
        gateways(database, best, other, folder=tmp_path, window_size=1, close_wait_s=0.05) as (first, second),
    ):
        for n in range(5):
            await second.send(number(n))
        await first.holds(lambda: best.statistics().submits == 1 and sum(first.gateway.waiting()) == 4)
        assert other.statistics().submits == 0
        await books_balance(first.database)


async def test_only_so_many_wait_at_another_gateway_and_the_rest_waits_here(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        operator("ack_loss_share=1 report_loss_share=1") as best,
        operator() as other,
        gateways(database, best, other, window_size=1, close_wait_s=0.05) as (first, second),
    ):
        away = second.gateway.lines.others.away[first.laid.channels[0]]
        states: dict[ChannelId, route.State] = {}
        assert away.room(1, 20_000)
        monkeypatch.setattr(others, "AHEAD_MAX", 0)
        await second.send()
        await second.holds(lambda: sum(second.gateway.waiting()) == 1)
        (_, stream), *_ = [pair for pair in second.gateway.lanes.streams() if pair[1].flights]
        second.gateway.lines.others.add(states, stream, 1)
        assert [(state.up, state.room) for state in states.values()] == [(True, False)]
        assert other.statistics().submits == 0


async def test_a_channel_that_fails_at_another_gateway_is_not_the_best(database: str, tmp_path: Path) -> None:
    """The breaker that another gateway has opened counts here too, and probes go there now and then."""
    async with (
        operator() as best,
        operator() as other,
        gateways(database, best, other, folder=tmp_path) as (first, second),
    ):
        best_id = first.laid.channels[0]
        for _ in range(ENOUGH_REPORTS):
            first.gateway.lines.settled(best_id, "CN", "cmcc", Status.UNDELIVERED, Cause.NETWORK, 1.0)
        assert first.gateway.lines.open[best_id].health_of("CN", "cmcc").broken

        def heard() -> bool:
            away = second.gateway.lines.others.away.get(best_id)
            return away is not None and away.health_of("CNcmcc").broken

        await second.holds(heard)
        for n in range(10):
            await second.send(number(n))
        await first.all_final()
        assert await went(best, other) == [1, 9]


async def test_weights_hold_over_all_gateways(database: str, tmp_path: Path) -> None:
    """Three of four by the channel that only the first has, wherever they came in."""
    async with (
        operator() as best,
        operator() as other,
        gateways(database, best, other, folder=tmp_path, both=False, window_size=500) as (first, second),
    ):
        best_id, next_id = first.laid.channels
        await first.database.execute(
            "UPDATE route_rule SET priority = 0, weight = 75 WHERE channel_id = $1", best_id
        )
        await first.database.execute(
            "UPDATE route_rule SET priority = 0, weight = 25 WHERE channel_id = $1", next_id
        )
        for one in (first, second):
            await one.keeper.load()
        await knows(first, next_id)
        for start, one in ((0, first), (200, second)):
            await one.accept(*(one.draft(number(start + n)) for n in range(200)))
        await first.all_final()
        by_best, by_next = await went(best, other)
        assert by_best + by_next == 400
        assert 255 <= by_best <= 345  # 300, and five standard deviations
        await books_balance(first.database)


# ---- once, and no more


@pytest.mark.parametrize("one_machine", [True, False])
async def test_what_came_for_a_channel_that_went_down_leaves_by_what_is_there(
    database: str, tmp_path: Path, one_machine: bool
) -> None:
    """Both gateways err about each other for a while: nothing goes to and fro between them."""
    async with (
        operator() as best,
        operator() as other,
        gateways(database, best, other, folder=tmp_path if one_machine else None) as (first, second),
    ):
        await best.stop()
        await first.holds(lambda: not first.gateway.lines.open[first.laid.channels[0]].up)
        assert second.gateway.lines.others.away  # it does not know yet
        sent = [await second.send(number(n)) for n in range(20)]
        await first.all_final()
        assert await went(other) == [20]
        if one_machine:  # else it remembers as well what it was given
            assert not any(first.gateway.lines.others.given_for(one.bytes) for one in sent)
        await books_balance(first.database)


async def test_what_was_given_away_and_came_back_is_sent_by_what_is_here(database: str) -> None:
    """It was given to a gateway that stopped before it had heard of it."""
    async with (
        operator() as best,
        operator() as other,
        gateways(database, best, other, hears=False) as (first, second),
    ):
        best_id = first.laid.channels[0]
        message_id = await second.send()
        await second.until("SELECT 1 FROM outbox WHERE owner = 1")
        await first.gateway.close()
        await second.all_final()
        assert second.gateway.lines.others.given_for(message_id.bytes) == best_id
        assert await went(best, other) == [0, 1]
        await books_balance(second.database)


async def test_what_another_gateway_gave_is_not_given_back(database: str, tmp_path: Path) -> None:
    async with (
        operator() as best,
        operator() as other,
        gateways(database, best, other, folder=tmp_path) as (first, second),
    ):
        await best.stop()
        best_id, next_id = first.laid.channels
        await first.database.execute("UPDATE session_lease SET gateway = 2 WHERE channel_id = $1", next_id)
        await first.holds(lambda: not first.gateway.lines.open[best_id].up)
        await second.send()
        await first.all_final()
        assert await went(other) == [1]


async def test_what_another_gateway_was_given_and_did_not_hear_of_is_swept_up_there(database: str) -> None:
    async with (
        operator() as best,
        operator() as other,
        gateways(database, best, other, hears=False) as (first, second),
    ):
        await second.send()
        await first.all_final()
        assert await went(best, other) == [1, 0]
        await books_balance(first.database)


async def test_a_gateway_that_is_gone_is_given_nothing(database: str, tmp_path: Path) -> None:
    async with (
        operator() as best,
        operator() as other,
        gateways(database, best, other, folder=tmp_path) as (first, second),
    ):
        await first.gateway.close()
        await second.send()  # the second has not heard of it
        await second.all_final()
        assert sum(await went(best, other)) == 1
        await books_balance(second.database)


# ---- what else asks whether there is a channel


async def test_a_second_attempt_goes_by_a_channel_that_only_another_gateway_has(
    database: str, tmp_path: Path
) -> None:
    async with (
        operator() as next_best,
        operator("state=UNDELIV err=NOROUTE") as best,
        gateways(database, next_best, best, folder=tmp_path, both=False) as (first, second),
    ):
        best_id = first.laid.channels[1]
        await first.database.execute("UPDATE route_rule SET priority = -1 WHERE channel_id = $1", best_id)
        for one in (first, second):
            await one.keeper.load()
        message_id = await second.send()
        row = await second.final(message_id)
        assert (row["status"], row["attempt"]) == (Status.DELIVERED.number, 2)
        assert await went(best, next_best) == [1, 1]
        await books_balance(first.database)


async def test_what_was_given_away_and_waits_can_be_cancelled(database: str, tmp_path: Path) -> None:
    async with (
        operator("ack_loss_share=1 report_loss_share=1") as best,
        operator() as other,
        gateways(database, best, other, folder=tmp_path, window_size=1, close_wait_s=0.05) as (first, second),
        asyncio.TaskGroup() as tasks,
    ):
        ears = [asyncio.Event(), asyncio.Event()]

        def hears(one: Plane, ear: asyncio.Event) -> Any:
            def hear(payload: str) -> None:
                ear.set()
                one.gateway.hear_cancel(payload)

            return hear

        hearing = [
            tasks.create_task(db.Listener(one.database, {cancel.TOPIC: hears(one, ear)}).run())
            for one, ear in zip((first, second), ears, strict=True)
        ]
        for ear in ears:
            await ear.wait()
        await second.send(number(1))
        await first.holds(lambda: best.statistics().submits == 1)
        message_id = await second.send(number(2))
        await first.holds(lambda: sum(first.gateway.waiting()) == 1)
        await cancel.take_back(second.database, second.tenant_id, message_id)
        assert (await first.row(message_id))["status"] == Status.CANCELLED.number
        await books_balance(first.database)
        for task in hearing:
            task.cancel()
