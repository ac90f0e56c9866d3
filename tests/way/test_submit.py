"""What is due leaves in its turn, by a channel that can, never twice where it must not; what cannot waits or ends."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import msgspec
import pytest

import make
from hongyan import clock, db
from hongyan.simulator import behaviour
from hongyan.simulator.behaviour import Rule
from hongyan.simulator.server import Simulator
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, Purpose, Status
from hongyan.way import cancel, charge, claim, optout, pages, prune
from hongyan.way.accept import Accepted
from plane import QUICK, Plane, add_tenant, awake, books_balance, pair, plane, severable

PRICE: Final = 45_000  # a part, as make.price() lays it
LONG: Final = "您的快递已到" + "门" * 140
LONG_PARTS: Final = 3
TIGHT: Final = "门" * 130  # signed just two parts, but three where a header takes an octet more


def number(place: int) -> str:
    return f"1380013{place:04d}"


def operator(words: str = "", *rules: str, seed: int = 1) -> Simulator:
    """A practising operator that reports at once, unless told otherwise."""
    return Simulator(
        behaviour.parse(f"report_delay_s=0.01 {words}"), [Rule.read(rule) for rule in rules], seed=seed
    )


@asynccontextmanager
async def outage(simulator: Simulator, *planes: Plane) -> AsyncIterator[None]:
    """The operator is away inside the block and back after it."""
    port = simulator.port
    await simulator.stop()
    with socket.socket() as held:  # bound and not listening: it refuses, and nobody else is given the port
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
        for one in planes:
            await one.holds(lambda one=one: not any(one.gateway.sessions_by_channel().values()))
        yield
    await simulator.start(port=port)


async def balance_micro(one: Plane) -> int:
    async with one.database.transaction() as tx:
        return await charge.balance_micro(tx, one.tenant_id)


async def fall_due(one: Plane) -> None:
    """Let time pass for what is scheduled."""
    await one.database.execute("UPDATE outbox SET due_at = now() - interval '1 second' WHERE owner = 0")
    one.gateway.look()


async def shared(first: Plane, second: Plane, each: int = 1) -> None:
    """Wait until two gateways hold so many sessions each; the first one's leases need not run out for it."""
    await first.until("SELECT 1 WHERE (SELECT count(*) FROM gateway) = 2")
    await first.database.execute("UPDATE session_lease SET until = now()")
    await first.holds(
        lambda: all(sum(one.gateway.sessions_by_channel().values()) == each for one in (first, second))
    )


async def grow_old(one: Plane, gateway: int) -> None:
    """Let so much time pass without a word of a gateway that it counts as dead, and the clerk see to it."""
    await one.database.execute(
        "UPDATE gateway SET seen_at = seen_at - interval '1 hour' WHERE id = $1", gateway
    )
    await one.database.execute("UPDATE session_lease SET until = now() WHERE gateway = $1", gateway)
    await one.database.execute(
        "UPDATE outbox SET due_at = now() - interval '1 hour' WHERE owner = $1", gateway
    )
    async with one.database.transaction() as tx:
        await prune.release_left_behind(tx, QUICK, clock.now())
    one.gateway.look()


def attempts(row: Any) -> list[list[Any]]:
    """What is kept of ended attempts: [attempt, part, channel, upstream id, …]."""
    return msgspec.json.decode(row["attempts"], type=list[list[Any]])


def parts_in_order(row: Any) -> list[int]:
    """Part numbers of a message in the order in which the operator took them: it counts its ids upwards."""
    return [part for _, part in sorted((int(one[3]), one[1]) for one in attempts(row))]


async def lay(one: Plane, code: str, body: str, **columns: Any) -> dict[str, Any]:
    """Add a template without variables; returns how to send it."""
    async with one.database.transaction() as tx:
        await make.template(tx, tenant_id=one.tenant_id, code=code, body=body, **columns)
    await one.keeper.load()
    one.key = one.keeper.current.keys[one.key.key_id]
    return {"template": code, "params": {}}


async def long(one: Plane) -> dict[str, Any]:
    return await lay(one, "long", LONG)


async def configure(one: Plane, place: int, **changes: Any) -> None:
    """Change the settings of a channel; its line is opened anew."""
    channel_id = one.laid.channels[place]
    config = msgspec.json.decode(one.keeper.current.channels[channel_id].config.reveal())
    sealed = one.vault.seal_secret(msgspec.json.encode(config | changes))
    await one.database.execute("UPDATE channel SET sealed = $2 WHERE id = $1", channel_id, sealed)
    await one.keeper.load()


async def shutting(one: Plane) -> None:
    """Wait until a channel is being closed, and all leases were renewed after that began."""
    await one.holds(lambda: one.gateway.lines.shutting)
    (row,) = await one.database.fetch("SELECT max(until) AS until FROM session_lease")
    await one.until("SELECT 1 WHERE (SELECT min(until) FROM session_lease) > $1", row["until"])


@asynccontextmanager
async def hearing_cancels(one: Plane) -> AsyncIterator[None]:
    """Let the gateway hear who wants a message back, as its process does."""
    listening = asyncio.Event()

    def hear(payload: str) -> None:
        listening.set()
        one.gateway.hear_cancel(payload)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(db.Listener(one.database, {cancel.TOPIC: hear}).run())
        await listening.wait()
        yield
        task.cancel()


async def stop(one: Plane, to: str) -> None:
    index = one.vault.phone_index(to)
    async with one.database.transaction() as tx:
        await optout.stop(tx, [optout.Suppressed(index, one.tenant_id)])
    one.gateway.hear_stopped(f"{index.hex()}:{one.tenant_id}")


# ---- windows, lanes, turns, pace


async def test_sessions_of_a_channel_fill_their_windows_and_no_more(database: str) -> None:
    async with (
        operator("ack_loss_share=1") as simulator,
        plane(database, simulator, row={"sessions": 2}, window_size=2, close_wait_s=0.05) as one,
    ):
        await one.holds(lambda: one.gateway.sessions_by_channel() and simulator.statistics().sessions == 2)
        await one.accept(*(one.draft(number(n)) for n in range(10)))
        await one.holds(lambda: simulator.statistics().submits >= 4)
        await one.until("SELECT 1 WHERE (SELECT count(*) FROM outbox) = 10")
        assert simulator.statistics().submits == 4
        await books_balance(one.database)


async def test_a_backlog_of_promotions_does_not_hold_up_a_code(database: str) -> None:
    async with (
        operator("report_delay_s=0") as simulator,
        plane(database, simulator, row={"parts_per_s": 200}) as one,
    ):
        await one.up()
        await one.accept(*(one.draft(awake(n), Purpose.PROMOTIONAL) for n in range(100)))
        await one.holds(lambda: simulator.statistics().submits > 5)
        message_id = await one.send("13900139000", Purpose.OTP)
        before = simulator.statistics().submits
        await one.final(message_id)
        assert list(simulator.destinations()).index("13900139000") < before + 40
        await one.all_final()
        await books_balance(one.database)


@pytest.mark.parametrize("paced", [{"row": {"parts_per_s": 400}}, {"window_size": 2}])
async def test_tenants_share_a_lane_by_their_weight(database: str, paced: dict[str, Any]) -> None:
    async with operator("report_delay_s=0") as simulator, plane(database, simulator, **paced) as one:
        async with one.database.transaction() as tx:
            await add_tenant(tx, one.vault, "hy_heavy", weight=3, limits="{}")
        await one.keeper.load()
        heavy = one.keeper.current.keys["hy_heavy"]
        await one.up()
        async with outage(simulator, one):
            await one.accept(*(one.draft(number(n)) for n in range(80)))
            await one.accept(*(one.draft(number(1_000 + n)) for n in range(80)), key=heavy)
        await one.all_final()
        first = list(simulator.destinations())[:80]
        assert 50 <= sum(to.startswith("13800131") for to in first) <= 70
        await books_balance(one.database)


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("status", [0x58, 0x14])
async def test_throttling_slows_the_channel_and_keeps_the_order_of_parts(
    database: str, status: int, window: int
) -> None:
    async with (
        operator(f"parts_per_s_max=4 throttle_status={status}") as simulator,
        plane(database, simulator, window_size=window) as one,
    ):
        words = await long(one)
        await one.up()
        for outcome in await one.accept(*(one.draft(number(n), **words) for n in range(4))):
            assert isinstance(outcome, Accepted)
            row = await one.final(outcome.id)
            assert row["status"] == Status.DELIVERED.number
            order = parts_in_order(row)
            # Of parts on their way together the operator may refuse the first, and take the second a moment later.
            assert (order if window == 1 else sorted(order)) == [1, 2, 3]
        statistics = simulator.statistics()
        assert statistics.refused.keys() == {f"0x{status:08x}"}
        assert (statistics.parts, statistics.repeated_parts) == (4 * LONG_PARTS, 0)
        await books_balance(one.database)


async def test_all_parts_of_a_long_text_arrive_under_one_reference(database: str) -> None:
    async with operator() as simulator, plane(database, simulator, row={"sessions": 2}) as one:
        await one.final(await one.send(**await long(one)))
        (text,) = simulator.phone("13800138000")
        assert text.part_count == LONG_PARTS
        assert text.text == f"【鸿雁】{LONG}"
        await books_balance(one.database)


async def test_a_paused_channel_sends_nothing_until_it_may(database: str) -> None:
    async with operator() as simulator, plane(database, simulator, row={"paused": True}) as one:
        await one.up()
        message_id = await one.send()
        await one.holds(lambda: sum(one.gateway.waiting()) == 1)
        await one.database.execute("UPDATE channel SET paused = false")
        assert simulator.statistics().submits == 0
        await one.keeper.load()
        assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        await books_balance(one.database)


# ---- times


async def test_a_scheduled_message_leaves_only_when_it_is_due(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await one.up()
        scheduled = await one.send(number(1), send_at=clock.now() + timedelta(hours=1))
        await one.final(await one.send(number(2)))
        assert list(simulator.destinations()) == [number(2)]
        await fall_due(one)
        assert (await one.final(scheduled))["status"] == Status.DELIVERED.number
        await books_balance(one.database)


async def test_one_look_says_in_which_lanes_something_is_due_whoever_has_it(database: str) -> None:
    held, waiting, later = 7, 0, timedelta(hours=1)
    rows = [
        (1, Purpose.OTP, waiting, later),
        (1, Purpose.TRANSACTIONAL, held, -later),
        (1, Purpose.PROMOTIONAL, waiting, later),
        (2, Purpose.PROMOTIONAL, waiting, -later),
        (3, Purpose.PROMOTIONAL, waiting, -later),
    ]
    laid = await db.connect(database, QUICK)
    try:
        for tenant_id, purpose, owner, after in rows:
            await laid.execute(
                "INSERT INTO outbox (tenant_id, id, lane, owner, due_at, expires_at)"
                " VALUES ($1, gen_random_uuid(), $2, $3, $4, now())",
                tenant_id, purpose.number, owner, clock.now() + after,
            )  # fmt: skip
        every = [Purpose.OTP.number, Purpose.TRANSACTIONAL.number, Purpose.PROMOTIONAL.number]
        assert await claim._lanes_due(laid, every) == [Purpose.PROMOTIONAL.number]
        assert await claim._lanes_due(laid, every[:2]) == []
        await laid.execute("UPDATE outbox SET due_at = now()")
        assert await claim._lanes_due(laid, every) == [Purpose.OTP.number, Purpose.PROMOTIONAL.number]
    finally:
        await laid.close()


async def test_a_message_that_waited_too_long_expires_and_is_refunded(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        before = await balance_micro(one)
        await one.up()
        async with outage(simulator, one):
            row = await one.final(await one.send(validity_s=1))
        assert (row["status"], row["cause"]) == (Status.EXPIRED.number, Cause.NOT_SENT.number)
        assert row["refund_micro"] == row["price_micro"] == PRICE
        assert await balance_micro(one) == before
        await books_balance(one.database)
    assert simulator.statistics().submits == 0


async def test_a_message_waits_while_no_channel_is_up_and_leaves_when_one_is(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await one.up()
        async with outage(simulator, one):
            sent = [await one.send(number(1)), await one.send(number(2), **await long(one))]
            await one.holds(lambda: sum(one.gateway.waiting()) == 2)
        for message_id in sent:
            assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        await books_balance(one.database)


async def test_what_leaves_while_its_row_is_read_once_more_is_not_sent_twice(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, was_read, has_left = claim._read, asyncio.Event(), asyncio.Event()

    async def slowly(*asked: Any) -> Sequence[db.Row]:
        rows = await read(*asked)
        was_read.set()
        await has_left.wait()
        return rows

    monkeypatch.setattr(claim, "_read", slowly)
    async with operator() as simulator, plane(database, simulator) as one:
        await one.up()
        async with outage(simulator, one):
            message_id = await one.send()
            await one.holds(lambda: message_id.bytes in one.gateway.lanes.mine)
            again = asyncio.create_task(
                one.gateway.claimer._load([one.tenant_id], [db.Uuid(message_id.bytes)])
            )
            await was_read.wait()
        await one.final(message_id)
        await one.holds(lambda: message_id.bytes not in one.gateway.lanes.mine)
        has_left.set()
        await again
        assert message_id.bytes not in one.gateway.lanes.mine
        assert simulator.statistics().submits == 1
        await books_balance(one.database)


# ---- taken back


async def test_what_is_cancelled_in_time_never_leaves_and_is_refunded(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        before = await balance_micro(one)
        message_id = await one.send(send_at=clock.now() + timedelta(hours=1))
        await cancel.take_back(one.database, one.tenant_id, message_id)
        row = await one.row(message_id)
        assert (row["status"], row["cause"]) == (Status.CANCELLED.number, Cause.CANCELLED.number)
        assert await balance_micro(one) == before
        await books_balance(one.database)
        assert simulator.statistics().submits == 0


async def cancel_code(one: Plane, message_id: MessageId) -> Code:
    with pytest.raises(Refusal) as refused:
        await cancel.take_back(one.database, one.tenant_id, message_id)
    return refused.value.code


async def test_what_has_left_cannot_be_cancelled(database: str) -> None:
    async with operator("report_loss_share=1") as simulator, plane(database, simulator) as one:
        message_id = await one.send()
        await one.until("SELECT 1 FROM submitted")
        assert await cancel_code(one, message_id) is Code.REQUEST_TOO_LATE
        assert await cancel_code(one, make.message_id()) is Code.REQUEST_NOT_FOUND
        await books_balance(one.database)


async def test_what_waits_for_a_channel_can_be_cancelled(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one, hearing_cancels(one):
        before = await balance_micro(one)
        await one.up()
        async with outage(simulator, one):
            sent = [await one.send(number(1)), await one.send(awake(2), Purpose.PROMOTIONAL)]
            sent.append(await one.send(number(3), send_at=clock.now() + timedelta(hours=1)))
            await fall_due(one)
            await one.holds(lambda: sum(one.gateway.waiting()) == 3)
            for message_id in sent:
                await cancel.take_back(one.database, one.tenant_id, message_id)
                row = await one.row(message_id)
                assert (row["status"], row["cause"]) == (Status.CANCELLED.number, Cause.CANCELLED.number)
                assert await cancel_code(one, message_id) is Code.REQUEST_TOO_LATE
            assert sum(one.gateway.waiting()) == 0
            assert await balance_micro(one) == before
            kept = await one.send(number(4))
        await one.final(kept)
        assert list(simulator.destinations()) == [number(4)]
        await books_balance(one.database)


async def test_what_waits_for_the_window_can_be_cancelled_and_what_fills_it_cannot(database: str) -> None:
    async with (
        operator("ack_loss_share=1") as simulator,
        plane(database, simulator, window_size=1, close_wait_s=0.05) as one,
        hearing_cancels(one),
    ):
        await one.up()
        left = await one.send(number(1))
        await one.holds(lambda: simulator.statistics().submits == 1)
        waits = await one.send(number(2))
        assert await cancel_code(one, left) is Code.REQUEST_TOO_LATE
        await cancel.take_back(one.database, one.tenant_id, waits)
        assert [(await one.row(i))["status"] for i in (left, waits)] == [0, Status.CANCELLED.number]
        await books_balance(one.database)


@pytest.mark.parametrize("parts", [1, LONG_PARTS])
async def test_what_may_have_left_and_waits_to_be_sent_again_cannot_be_cancelled(
    database: str, parts: int
) -> None:
    async with (
        operator("ack_loss_share=1 report_loss_share=1") as simulator,
        plane(database, simulator) as one,
        hearing_cancels(one),
    ):
        words = await long(one) if parts > 1 else {}
        await one.up()
        message_id = await one.send(**words)
        await one.holds(lambda: simulator.statistics().submits == parts)
        simulator.behave(behaviour.parse("report_delay_s=0.01"))
        async with outage(simulator, one):
            await one.holds(lambda: sum(one.gateway.waiting()) == 1)
            assert await cancel_code(one, message_id) is Code.REQUEST_TOO_LATE
        assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        await books_balance(one.database)


async def test_what_an_earlier_life_may_have_sent_cannot_be_cancelled(database: str) -> None:
    async with operator("bind_status=13") as simulator, plane(database, simulator) as one:
        message_id = await promised(one, {"owner": 1, "due_at": clock.now() - timedelta(seconds=5)})
        async with hearing_cancels(one):
            await one.holds(lambda: sum(one.gateway.waiting()) == 1)
            assert await cancel_code(one, message_id) is Code.REQUEST_TOO_LATE
        assert (await one.row(message_id))["status"] == 0
        await books_balance(one.database)


async def test_what_nobody_handed_over_is_found_behind_more_than_one_look_sees(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "LOOK_ROWS", 20)
    monkeypatch.setattr(claim, "LOOK_RESTS", 0)
    monkeypatch.setattr(pages, "STEP_PAGES", 1)
    async with operator("bind_status=13") as simulator, plane(database, simulator) as one:
        world = make.World(
            one.database, one.vault, one.tenant_id, one.laid.app_id, 1, 1, one.laid.channels[0]
        )
        async with one.database.transaction() as tx:
            for _ in range(130):  # on more than two pages
                message_id = await make.message(tx, world)
                await make.outbox(tx, world, message_id, owner=1, due_at=clock.now() - timedelta(seconds=5))
        await one.holds(lambda: sum(one.gateway.waiting()) == 130)


async def test_what_failed_once_and_waits_for_another_channel_cannot_be_cancelled(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            message_id = await make.message(tx, world, attempt=2)
            await make.outbox(tx, world, message_id, attempt=2, avoid_channel=world.channel_id)
        with pytest.raises(Refusal) as refused:
            await cancel.take_back(world.database, world.tenant_id, message_id)
        assert refused.value.code is Code.REQUEST_TOO_LATE


async def test_what_may_have_left_before_a_crash_cannot_be_cancelled(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            leaving = await make.message(tx, world, purpose=Purpose.PROMOTIONAL)
            await make.outbox(tx, world, leaving, leaving_channel=world.channel_id, leaving_at=clock.now())
            half = await make.message(tx, world, parts=2)
            await make.outbox(tx, world, half)
            await make.submitted(tx, world, half)
        for message_id in (leaving, half):
            with pytest.raises(Refusal) as refused:
                await cancel.take_back(world.database, world.tenant_id, message_id)
            assert refused.value.code is Code.REQUEST_TOO_LATE


# ---- another channel


async def test_a_message_takes_the_next_channel_where_the_first_is_down(database: str) -> None:
    async with (
        operator() as first,
        operator() as second,
        plane(database, first, second) as one,
    ):
        await one.up(2)
        await one.final(await one.send(number(1)))
        assert (first.statistics().submits, second.statistics().submits) == (1, 0)
        async with outage(first):
            await one.holds(lambda: sum(n > 0 for n in one.gateway.sessions_by_channel().values()) == 1)
            await one.final(await one.send(number(2)))
            await one.final(await one.send(number(3), **await long(one)))
            assert second.statistics().submits == 1 + LONG_PARTS
        await books_balance(one.database)


async def test_a_message_takes_the_next_channel_where_the_first_cannot_now(database: str) -> None:
    """A system error of the operator: the link stays up, nothing was taken."""
    async with (
        operator("refuse_status=8") as first,
        operator() as second,
        plane(database, first, second) as one,
    ):
        await one.up(2)
        short, whole = await one.send(number(1)), await one.send(number(2), **await long(one))
        for message_id in (short, whole):
            row = await one.final(message_id)
            assert row["status"] == Status.DELIVERED.number
            assert row["channel_id"] == one.laid.channels[1]
        assert second.statistics().parts == 1 + LONG_PARTS
        await books_balance(one.database)


async def test_an_operator_that_cannot_now_is_not_asked_without_pause(database: str) -> None:
    async with operator("refuse_status=8") as simulator, plane(database, simulator) as one:
        await one.up()
        message_id = await one.send()
        await one.holds(lambda: simulator.statistics().submits > 1)
        simulator.behave(behaviour.parse("report_delay_s=0.01"))
        assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        assert simulator.statistics().submits < 20
        await books_balance(one.database)


async def test_one_message_that_is_always_refused_is_put_off_and_keeps_nobody_waiting(database: str) -> None:
    """An operator answers "system error" for one number, and takes all others."""
    poison = number(999)
    async with (
        operator("report_delay_s=0.01", f"{poison}: refuse_status=8") as simulator,
        plane(database, simulator) as one,
    ):
        await one.up()
        bad = await one.send(poison)
        put_off = False
        for start in range(0, 300, 10):
            put_off |= bool(await one.database.fetch("SELECT FROM outbox WHERE owner = 0 AND id = $1", bad))
            ids = [await one.send(number(n)) for n in range(start, start + 10)]
            for message_id in ids:
                assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        assert put_off
        assert simulator.destination(poison).submits < 20
        simulator.behave(behaviour.parse("report_delay_s=0.01"))
        assert (await one.final(bad))["status"] == Status.DELIVERED.number
        await books_balance(one.database)


@pytest.mark.parametrize("words", ["refuse_status=8", "ack_loss_share=1 report_loss_share=1"])
async def test_messages_that_come_back_together_leave_again_in_their_order(database: str, words: str) -> None:
    async with operator(words) as simulator, plane(database, simulator) as one:
        await one.up()
        outcomes = await one.accept(*(one.draft(number(n)) for n in range(6)))
        await one.holds(lambda: simulator.statistics().submits >= 6)
        simulator.behave(behaviour.parse("report_delay_s=0.01"))
        simulator.disconnect()
        ids = []
        for outcome in outcomes:
            assert isinstance(outcome, Accepted)
            ((*_, upstream_id),) = [attempt[:4] for attempt in attempts(await one.final(outcome.id))]
            ids.append(int(upstream_id))
        assert ids == sorted(ids)
        await books_balance(one.database)


async def test_a_text_is_not_sent_where_it_would_be_cut_into_more_parts(database: str) -> None:
    async with operator() as first, operator() as second, plane(database, first, second) as one:
        tight = await lay(one, "tight", TIGHT)
        await one.up(2)
        await configure(one, 0, split="udh16")
        await one.holds(lambda: first.statistics().binds == 2)
        await one.up(2)
        for place in range(4):
            row = await one.final(await one.send(number(place), **(tight if place % 2 else {})))
            assert row["channel_id"] == one.laid.channels[place % 2]
        assert second.statistics().parts == 4
        await books_balance(one.database)


async def test_a_text_that_fits_no_channel_ends_and_holds_up_nobody(database: str) -> None:
    async with operator() as simulator, plane(database, simulator, split="udh16") as one:
        tight = await lay(one, "tight", TIGHT)
        before = await balance_micro(one)
        await one.up()
        async with outage(simulator, one):
            sent = [await one.send(number(n), **(tight if n == 1 else {})) for n in range(4)]
        rows = [await one.final(message_id) for message_id in sent]
        assert [row["status"] == Status.DELIVERED.number for row in rows] == [True, False, True, True]
        assert (rows[1]["status"], rows[1]["cause"]) == (Status.UNDELIVERED.number, Cause.UNSUPPORTED.number)
        assert await balance_micro(one) == before - 3 * PRICE
        await books_balance(one.database)


# ---- a channel that is closed


@pytest.mark.parametrize("removed", [False, True], ids=["changed", "removed"])
async def test_a_channel_that_closes_slowly_holds_up_no_lease_and_keeps_its_own(
    database: str, removed: bool
) -> None:
    """Its slot is its own until it is closed: nobody opens it again before, and other leases do not run out."""
    async with (
        operator("ack_loss_share=1 report_loss_share=1") as first,
        operator() as second,
        plane(database, first, second, close_wait_s=600.0) as one,
    ):
        await one.up(2)
        message_id = await one.send()
        await one.holds(lambda: first.statistics().submits == 1)
        if removed:
            await one.database.execute(
                "UPDATE channel SET active = false WHERE id = $1", one.laid.channels[0]
            )
            await one.keeper.load()
        else:
            await configure(one, 0, split="udh16")
        await shutting(one)
        assert (first.statistics().binds, first.statistics().sessions) == (1, 1)
        first.disconnect()  # nothing is left to wait for
        await one.holds(
            lambda: first.statistics().sessions == (not removed) and first.statistics().binds == 2 - removed
        )
        row = await one.final(message_id)
        assert (row["status"], row["channel_id"]) == (Status.DELIVERED.number, one.laid.channels[1])
        await books_balance(one.database)


async def test_a_gateway_that_closes_waits_for_a_channel_that_is_closing(database: str) -> None:
    async with (
        operator("ack_loss_share=1") as simulator,
        plane(database, simulator, close_wait_s=600.0) as one,
        asyncio.TaskGroup() as tasks,
    ):
        await one.up()
        await one.send()
        await one.holds(lambda: simulator.statistics().submits == 1)
        await configure(one, 0, split="udh16")
        await one.holds(lambda: one.gateway.lines.shutting)
        closing = tasks.create_task(one.gateway.close())
        done, _ = await asyncio.wait([closing], timeout=0.2)
        assert not done
        simulator.disconnect()  # nothing is left to wait for
        await closing
        assert (simulator.statistics().binds, one.gateway.sessions_by_channel()) == (1, {})


async def test_a_promotion_whose_channel_is_closed_while_it_is_marked_as_leaving_is_sent(
    database: str,
) -> None:
    async with operator() as simulator, plane(database, simulator, row={"paused": True}) as one:
        await one.up()
        message_id = await one.send(awake(), Purpose.PROMOTIONAL)
        await one.holds(lambda: sum(one.gateway.waiting()) == 1)
        async with one.database.transaction() as tx:  # the mark has to wait
            await tx.execute("SELECT FROM outbox FOR UPDATE")
            await one.database.execute("UPDATE channel SET paused = false")
            await one.keeper.load()
            await one.holds(lambda: sum(one.gateway.waiting()) == 0)
            await configure(one, 0, split="udh16")
            await one.holds(lambda: simulator.statistics().binds == 2)
        assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        assert simulator.statistics().submits == 1
        await books_balance(one.database)


# ---- unsure


async def unsure(one: Plane, simulator: Simulator) -> None:
    """The operator takes a message, says nothing, and the connection breaks."""
    await one.holds(lambda: simulator.statistics().submits >= 1)
    simulator.behave(behaviour.parse("report_delay_s=0.01"))
    simulator.disconnect()


@pytest.mark.parametrize("purpose", [Purpose.OTP, Purpose.TRANSACTIONAL])
async def test_a_code_or_notice_that_may_not_have_left_is_sent_again(database: str, purpose: Purpose) -> None:
    async with (
        operator("ack_loss_share=1 report_loss_share=1") as simulator,
        plane(database, simulator) as one,
    ):
        await one.up()
        message_id = await one.send(purpose=purpose)
        await unsure(one, simulator)
        assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        assert simulator.destination("13800138000").parts == 2
        await books_balance(one.database)


async def test_a_long_notice_that_may_not_have_left_is_sent_whole(database: str) -> None:
    async with (
        operator("ack_loss_share=1 report_loss_share=1") as simulator,
        plane(database, simulator) as one,
    ):
        await one.up()
        message_id = await one.send(**await long(one))
        await unsure(one, simulator)
        assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        assert simulator.phone("13800138000")[-1].part_count == LONG_PARTS
        await books_balance(one.database)


async def send_once(one: Plane, careful: str) -> tuple[str, MessageId]:
    """A promotion, or a notice whose template does not allow a second time."""
    if careful == "promotion":
        to = awake()
        return to, await one.send(to, Purpose.PROMOTIONAL)
    return number(1), await one.send(number(1), **await lay(one, "once", "您的快递已到", resend=False))


@pytest.mark.parametrize("careful", ["promotion", "notice"])
async def test_what_must_not_be_doubled_is_settled_by_a_later_report(database: str, careful: str) -> None:
    async with (
        operator("ack_loss_share=1 report_delay_s=1") as simulator,
        plane(database, simulator) as one,
    ):
        await one.up()
        to, message_id = await send_once(one, careful)
        await unsure(one, simulator)
        await one.until("SELECT 1 FROM submitted WHERE state = 1")
        await books_balance(one.database)
        assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        assert simulator.destination(to).submits == 1
        await books_balance(one.database)


async def test_a_report_before_the_part_is_known_to_be_unsure_settles_it(database: str) -> None:
    async with operator("ack_loss_share=1 report_delay_s=0") as simulator, plane(database, simulator) as one:
        await one.up()
        to, message_id = await send_once(one, "promotion")
        await one.until("SELECT 1 FROM early_report")
        await unsure(one, simulator)
        assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        assert simulator.destination(to).submits == 1
        await books_balance(one.database)


async def test_a_promotion_that_nobody_reports_on_ends_as_unknown(database: str) -> None:
    async with (
        operator("ack_loss_share=1 report_loss_share=1") as simulator,
        plane(database, simulator) as one,
    ):
        await one.up()
        to, message_id = await send_once(one, "promotion")
        await unsure(one, simulator)
        await one.until("SELECT 1 FROM submitted WHERE state = 1")
        await one.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM outbox)")  # no tick is still to come
        async with one.database.transaction() as tx:
            await prune.give_up_overdue(tx, QUICK, clock.now() + timedelta(seconds=QUICK.report_wait_s + 1))
        row = await one.row(message_id)
        assert (row["status"], row["cause"]) == (Status.UNKNOWN.number, Cause.NO_REPORT.number)
        assert simulator.destination(to).submits == 1
        await books_balance(one.database)


async def test_an_ack_that_never_comes_leaves_a_promotion_unsure(database: str) -> None:
    async with (
        operator("ack_loss_share=1 report_loss_share=1") as simulator,
        plane(database, simulator, ack_wait_s=0.2) as one,
    ):
        await one.up()
        to, _ = await send_once(one, "promotion")
        await one.until("SELECT 1 FROM submitted WHERE state = 1")
        assert simulator.destination(to).submits == 1
        await books_balance(one.database)


async def test_an_operator_that_gives_no_ids_is_survived(database: str) -> None:
    async with operator("ack_id=empty report_delay_s=0.2") as simulator, plane(database, simulator) as one:
        await one.up()
        outcomes = await one.accept(*(one.draft(number(n)) for n in range(20)))
        for outcome in outcomes:
            assert isinstance(outcome, Accepted)
            assert (await one.final(outcome.id))["status"] == Status.DELIVERED.number
        assert simulator.statistics().parts == 20
        await books_balance(one.database)


async def test_the_operator_is_asked_where_no_report_comes(database: str) -> None:
    async with (
        operator("report_loss_share=1") as simulator,
        plane(database, simulator, settings=replace(QUICK, unsure_wait_s=0)) as one,
    ):
        assert (await one.final(await one.send()))["status"] == Status.DELIVERED.number
        assert simulator.statistics().reports == 0
        await books_balance(one.database)


# ---- rules asked again


async def test_an_opt_out_stops_what_is_already_queued(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        before = await balance_micro(one)
        await one.up()
        async with outage(simulator, one):
            to = awake()
            message_id = await one.send(to, Purpose.PROMOTIONAL)
            await one.holds(lambda: sum(one.gateway.waiting()) == 1)
            await stop(one, to if to.startswith("+") else "+86" + to)
        row = await one.final(message_id)
        assert (row["status"], row["cause"]) == (Status.REFUSED.number, Cause.OPTED_OUT.number)
        assert await balance_micro(one) == before
        assert simulator.statistics().submits == 0
        await books_balance(one.database)


async def test_who_opted_out_still_gets_codes(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await one.up()
        async with outage(simulator, one):
            queued = await one.send(number(1), Purpose.OTP)
            await one.holds(lambda: sum(one.gateway.waiting()) == 1)
            await stop(one, "+86" + number(1))
        later = await one.send(number(1), Purpose.OTP)
        for message_id in (queued, later):
            assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        await books_balance(one.database)


async def test_a_promotion_that_was_put_back_ends_as_refused_when_its_reader_says_stop(database: str) -> None:
    """It was committed as leaving, and then the operator said that it had not taken it: it is not unsure."""
    async with operator("refuse_status=8") as simulator, plane(database, simulator) as one:
        before = await balance_micro(one)
        await one.up()
        to = awake()
        message_id = await one.send(to, Purpose.PROMOTIONAL)
        await one.holds(lambda: simulator.statistics().submits > 0)
        await one.holds(lambda: sum(one.gateway.waiting()) == 1)
        await stop(one, to if to.startswith("+") else "+86" + to)
        row = await one.final(message_id)
        assert (row["status"], row["cause"]) == (Status.REFUSED.number, Cause.OPTED_OUT.number)
        assert await balance_micro(one) == before
        await books_balance(one.database)


async def test_a_block_stops_what_is_scheduled(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await one.up()
        message_id = await one.send(number(1), Purpose.OTP, send_at=clock.now() + timedelta(hours=1))
        async with one.database.transaction() as tx:
            await optout.block(
                tx, [optout.Suppressed(one.vault.phone_index("+86" + number(1)), one.tenant_id)]
            )
        await fall_due(one)
        row = await one.final(message_id)
        assert (row["status"], row["cause"]) == (Status.REFUSED.number, Cause.BLOCKED.number)
        assert row["refund_micro"] == row["price_micro"]
        assert simulator.statistics().submits == 0
        await books_balance(one.database)


async def quiet_now(one: Plane, to: str) -> None:
    """Move the tenant's hours so that this moment is a quiet one for a number of awake()."""
    offset = (
        -5 if to.startswith("+51") else 0 if to.startswith("+44") else 8
    )  # a summer in Britain changes nothing
    hour = (clock.now().hour + offset) % 24
    until, quiet = (8, 9) if hour >= 9 else (12, 21)
    await one.database.execute("UPDATE tenant SET quiet_until_hour = $1, quiet_from_hour = $2", until, quiet)
    await one.keeper.load()


async def test_a_promotion_that_falls_due_in_quiet_hours_waits_for_the_morning(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await one.up()
        to = awake()
        at = clock.now() + timedelta(seconds=60)
        await one.send(to, Purpose.PROMOTIONAL, send_at=at, validity_s=259_200)
        await quiet_now(one, to)
        await fall_due(one)
        await one.until("SELECT 1 FROM outbox WHERE owner = 0 AND due_at > now() + interval '10 minutes'")
        assert simulator.statistics().submits == 0
        await books_balance(one.database)


async def test_a_promotion_kept_from_leaving_until_quiet_hours_waits_for_the_morning(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await one.up()
        async with outage(simulator, one):
            to = awake()
            await one.send(to, Purpose.PROMOTIONAL, validity_s=259_200)
            await one.holds(lambda: sum(one.gateway.waiting()) == 1)
            await quiet_now(one, to)
        await one.until("SELECT 1 FROM outbox WHERE owner = 0 AND due_at > now()")
        assert simulator.statistics().submits == 0
        await books_balance(one.database)


# ---- several gateways, and their ends


async def delivered_once(planes: Sequence[Plane], simulator: Simulator, count: int) -> None:
    await planes[0].all_final()
    (row,) = await planes[0].database.fetch("SELECT count(*) AS n FROM message WHERE status = 1")
    assert row["n"] == count
    assert (simulator.statistics().parts, simulator.statistics().repeated_parts) == (count, 0)
    await books_balance(planes[0].database)


async def test_two_gateways_share_the_sessions_of_a_channel(database: str) -> None:
    async with operator() as simulator, pair(database, simulator, row={"sessions": 4}) as (first, second):
        await shared(first, second, each=2)
        await first.holds(lambda: simulator.statistics().sessions == 4)
        for n in range(20):
            await (first, second)[n % 2].send(number(n))
        await delivered_once((first, second), simulator, 20)


async def test_parts_reported_to_two_gateways_at_once_settle_their_messages(database: str) -> None:
    async with (
        operator("report_delay_s=0.2") as simulator,
        pair(database, simulator, row={"sessions": 2}, window_size=500) as (first, second),
    ):
        await shared(first, second)
        for one, start in ((first, 0), (second, 150)):
            words = await long(one) if one is first else {"template": "long", "params": {}}
            await one.keeper.load()
            one.key = one.keeper.current.keys[one.key.key_id]
            await one.accept(*(one.draft(number(start + n), **words) for n in range(150)))
        await first.all_final()
        assert simulator.statistics().parts == 300 * LONG_PARTS
        await books_balance(first.database)


async def test_a_gateway_without_a_session_does_not_keep_what_another_could_send(database: str) -> None:
    async with operator() as simulator, pair(database, simulator) as (first, second):
        await first.holds(lambda: simulator.statistics().sessions == 1)
        for n in range(10):
            await (first, second)[n % 2].send(number(n))
        await delivered_once((first, second), simulator, 10)


async def one_channel_each(first: Plane, second: Plane) -> None:
    """Let the first gateway hold the only session of the first channel, and the second one that of the second."""
    await first.until("SELECT 1 WHERE (SELECT count(*) FROM session_lease) = 2")
    await first.database.execute(
        "UPDATE session_lease SET until = now() + interval '1 hour',"
        " gateway = CASE channel_id WHEN (SELECT min(id) FROM channel) THEN 1 ELSE 2 END"
    )
    for one in (first, second):
        await one.holds(
            lambda one=one: (
                sum(one.gateway.sessions_by_channel().values()) == 1 and one.gateway.lines.with_others
            )
        )


@asynccontextmanager
async def only_the_first_can_send(database: str) -> AsyncIterator[tuple[Plane, Plane, Simulator]]:
    """Two gateways that claim and sweep when they are told to; messages may only go by the first one's operator."""
    asked = replace(QUICK, claim_gap_s=60.0, sweep_gap_s=60.0)
    async with (
        operator() as near,
        operator() as far,
        pair(database, near, far, settings=asked) as (first, second),
    ):
        await one_channel_each(first, second)
        await first.database.execute(
            "DELETE FROM route_rule WHERE channel_id <> (SELECT min(id) FROM channel)"
        )
        for one in (first, second):
            await one.keeper.load()
        # Or the news would come when the operator is away already, and be believed for a moment.
        await second.holds(lambda: second.gateway.lines.others.away)
        yield first, second, near


async def test_what_a_gateway_gives_away_it_does_not_claim_again_before_others_could(database: str) -> None:
    async with only_the_first_can_send(database) as (first, second, near):
        async with outage(near, first):
            await second.holds(lambda: not second.gateway.lines.others.away)
            await second.send(number(1))
            second.gateway.look()
            await second.until("SELECT 1 FROM outbox WHERE owner = 0")
        first.gateway.look()
        await delivered_once((first, second), near, 1)


async def test_what_is_just_being_given_away_is_not_swept_up_by_who_gives_it(database: str) -> None:
    """Both would have it in hand, and both send it."""
    async with only_the_first_can_send(database) as (first, second, near):
        async with outage(near, first):
            await second.holds(lambda: not second.gateway.lines.others.away)
            await second.send(number(1))
            await second.database.execute("UPDATE outbox SET due_at = now() - interval '5 seconds'")
            async with first.database.transaction() as tx:  # the gift has to wait
                await tx.execute("SELECT FROM outbox FOR UPDATE")
                second.gateway.look()
                await second.holds(lambda: not second.gateway.lanes.mine)
                second.gateway.claimer._looks_again_s = 0.0
                await second.gateway.claimer.sweep()
                assert not second.gateway.lanes.mine
            await second.until("SELECT 1 FROM outbox WHERE owner = 0")
        first.gateway.look()
        await delivered_once((first, second), near, 1)


async def test_what_a_dead_channel_holds_up_goes_by_another_that_another_gateway_holds(database: str) -> None:
    async with operator() as near, operator() as far, pair(database, near, far) as (first, second):
        await one_channel_each(first, second)
        await near.stop()
        await first.holds(lambda: not any(first.gateway.sessions_by_channel().values()))
        await first.send(number(1))
        await delivered_once((second, first), far, 1)


async def test_a_gateway_that_closes_hands_back_what_it_has_not_sent(database: str) -> None:
    async with operator() as simulator, pair(database, simulator, row={"sessions": 2}) as (first, second):
        await shared(first, second)
        async with outage(simulator, first, second):
            words = await long(first)
            for one in (first, second):  # neither believes any more that the other's session is up
                await one.holds(lambda one=one: not one.gateway.lines.others.away)
            for n in range(5):
                await first.send(number(n), **(words if n == 1 else {}))
            await first.send(awake(7), Purpose.PROMOTIONAL)
            # Whose it is: the first may have believed for a moment that the second's session is still up.
            await first.holds(lambda: 6 in [sum(one.gateway.waiting()) for one in (first, second)])
            at_first = sum(first.gateway.waiting()) == 6
            holder, other = (first, second) if at_first else (second, first)
            await holder.gateway.close()
            own = "SELECT count(*) AS n FROM outbox WHERE owner = $1"
            (row,) = await first.database.fetch(own, 1 if at_first else 2)
            assert row["n"] == 0
        await other.all_final()
        statistics = simulator.statistics()
        assert (statistics.parts, statistics.repeated_parts) == (5 + LONG_PARTS, 0)
        await books_balance(first.database)


async def test_a_gateway_that_closes_frees_its_sessions_for_the_others(database: str) -> None:
    async with operator() as simulator, pair(database, simulator) as (first, second):
        await first.holds(lambda: simulator.statistics().sessions == 1)
        holder, other = (
            (first, second) if sum(first.gateway.sessions_by_channel().values()) else (second, first)
        )
        await holder.gateway.close()
        leases = await other.database.fetch(
            "SELECT 1 FROM session_lease WHERE gateway = $1 AND until > now()", 1 if holder is first else 2
        )
        assert leases == []


async def test_a_promotion_that_was_put_back_is_handed_back_by_a_graceful_stop(database: str) -> None:
    """It was committed as leaving, and then the operator said that it had not taken it."""
    async with operator("refuse_status=8") as simulator, plane(database, simulator) as one:
        await one.up()
        message_id = await one.send(awake(), Purpose.PROMOTIONAL)
        await one.holds(lambda: simulator.statistics().submits > 0)
        await one.holds(lambda: sum(one.gateway.waiting()) == 1)
        await one.gateway.close()
        (row,) = await one.database.fetch("SELECT owner, leaving_at FROM outbox WHERE id = $1", message_id)
        assert (row["owner"], row["leaving_at"]) == (0, None)


async def test_what_was_put_off_at_the_last_moment_is_handed_back_by_a_graceful_stop(database: str) -> None:
    """It must not be sent twice, was committed as leaving, and is refused while others are taken."""
    poison = number(999)
    async with (
        operator("report_delay_s=0.01", f"{poison}: refuse_status=8") as simulator,
        plane(database, simulator) as one,
    ):
        await one.up()
        words = await lay(one, "once", "您的快递已到", resend=False)
        async with one.gateway.claimer._claiming:  # nobody comes to write down that it is put off
            message_id = await one.send(poison, **words)
            place = 0
            while not one.gateway.lanes.later:
                await one.final(await one.send(number(place)))
                place += 1
            one.gateway.claimer.closing = True
        await one.gateway.close()
        (row,) = await one.database.fetch("SELECT owner, leaving_at FROM outbox WHERE id = $1", message_id)
        assert (row["owner"], row["leaving_at"]) == (0, None)


async def test_the_rows_of_a_dead_gateway_are_sent_by_another(database: str) -> None:
    async with operator() as simulator, pair(database, simulator, row={"sessions": 2}) as (first, second):
        await shared(first, second)
        async with outage(simulator, first, second):
            for n in range(10):
                await first.send(number(n))
            await first.die()
        await grow_old(second, gateway=1)
        await delivered_once((second,), simulator, 10)


async def test_a_promotion_that_was_leaving_when_its_gateway_died_is_not_sent_again(database: str) -> None:
    async with (
        operator("ack_loss_share=1 report_loss_share=1") as simulator,
        pair(database, simulator, row={"sessions": 2}) as (first, second),
    ):
        await shared(first, second)
        await first.send(awake(), Purpose.PROMOTIONAL)
        await first.holds(lambda: simulator.statistics().submits == 1)
        await first.die()
        await grow_old(second, gateway=1)
        await second.until("SELECT 1 FROM submitted WHERE state = 1")
        await second.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM outbox)")
        assert simulator.statistics().submits == 1
        await books_balance(second.database)


async def test_only_the_missing_parts_of_a_long_notice_are_sent_after_a_crash(database: str) -> None:
    async with operator() as simulator, pair(database, simulator, row={"sessions": 2}) as (first, second):
        await shared(first, second)
        async with outage(simulator, first, second):
            message_id = await first.send(**await long(first))
            await first.die()
            async with second.database.transaction() as tx:  # its first part had been taken
                await tx.execute(
                    "INSERT INTO submitted (tenant_id, channel_id, upstream_id, message_id, part_index, attempt, sent_at)"
                    " VALUES ($1, $2, 'earlier', $3, 1, 1, now())",
                    second.tenant_id, second.laid.channels[0], message_id,
                )  # fmt: skip
        await grow_old(second, gateway=1)
        await second.until("SELECT 1 FROM message WHERE pending = 1")
        assert simulator.statistics().parts == LONG_PARTS - 1
        await books_balance(second.database)


async def promised(one: Plane, row: dict[str, Any], **columns: Any) -> MessageId:
    """A message and its row in the outbox as an earlier life has left them; paid for and counted."""
    world = make.World(one.database, one.vault, one.tenant_id, one.laid.app_id, 1, 1, one.laid.channels[0])
    async with one.database.transaction() as tx:
        message_id = await make.message(tx, world, **columns)
        await make.outbox(tx, world, message_id, **row)
        await tx.execute("UPDATE balance SET amount_micro = amount_micro - $1 WHERE shard = 0", PRICE)
        await tx.execute(
            "INSERT INTO ledger (tenant_id, kind, amount_micro) VALUES ($1, 'charge', $2)",
            one.tenant_id,
            -PRICE,
        )
        await make.tally(tx, world, template_id=1)
    return message_id


async def test_a_gateway_started_anew_finds_what_it_had_not_sent(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        message_id = await promised(one, {"owner": 1, "due_at": clock.now() - timedelta(seconds=5)})
        assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        assert simulator.statistics().parts == 1
        await books_balance(one.database)


async def test_a_second_attempt_that_comes_too_late_ends_as_the_first_did(database: str) -> None:
    async with (
        operator() as first,
        operator("ack_loss_share=1 report_loss_share=1") as second,
        plane(database, first, second, window_size=1, close_wait_s=0.05) as one,
    ):
        await one.up(2)
        await one.database.execute(
            "UPDATE route_rule SET priority = -1 WHERE channel_id = $1", one.laid.channels[1]
        )
        await one.keeper.load()
        await one.send(number(1))
        await one.holds(lambda: second.statistics().submits == 1)  # its window is full
        message_id = await promised(
            one,
            {"attempt": 2, "avoid_channel": one.laid.channels[0]},
            attempt=2,
            cause=Cause.NETWORK,
            code="NET",
            expires_at=clock.now() + timedelta(seconds=1),
        )
        row = await one.final(message_id)
        assert (row["status"], row["cause"], row["code"]) == (
            Status.UNDELIVERED.number,
            Cause.NETWORK.number,
            "NET",
        )
        assert row["refund_micro"] == 0
        await books_balance(one.database)


# ---- a lost database


async def test_a_lost_database_loses_nothing_and_doubles_nothing(database: str) -> None:
    looking = await db.connect(database, QUICK)  # this test's own way to the database is not cut
    async with (
        operator("report_delay_s=0.05") as simulator,
        severable(database) as way,
        plane(way.dsn, simulator, window_size=10) as one,
    ):
        await one.up()
        outcomes = await one.accept(
            *(one.draft(number(n)) for n in range(40)),
            *(one.draft(awake(100 + n), Purpose.PROMOTIONAL) for n in range(40)),
        )
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        await one.holds(lambda: simulator.statistics().submits > 5)
        await way.cut()
        await one.holds(lambda: not one.gateway.ticker.idle)
        await way.mend()
        one.database, cut = looking, one.database
        await one.all_final()
        one.database = cut
        assert (simulator.statistics().parts, simulator.statistics().repeated_parts) == (80, 0)
        await books_balance(looking)
    await looking.close()
