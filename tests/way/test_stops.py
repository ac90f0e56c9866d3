"""Whoever says stop hears nothing more a second later, whichever gateway has the message; nor does an erased person."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import msgspec

from doors.counter import ask, basic, served
from hongyan import clock, db
from hongyan.control.permissions import SCOPES
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Purpose, Status
from hongyan.way import optout
from hongyan.way.accept import Accepted
from plane import Plane, awake, books_balance, pair

QUEUED: Final = 2_000
STOPPED: Final = 1_000
PROMPTLY_S: Final = 1.0


def e164(number: str) -> str:
    return number if number.startswith("+") else f"+86{number}"


@asynccontextmanager
async def hearing_stops(*planes: Plane) -> AsyncIterator[None]:
    """Let the gateways hear of stops, as their processes do."""
    listening = [asyncio.Event() for _ in planes]

    def ears(one: Plane, event: asyncio.Event) -> Any:
        def hear(payload: str) -> None:
            event.set()
            one.gateway.hear_stopped(payload)

        return hear

    async with asyncio.TaskGroup() as tasks:
        loops = [
            tasks.create_task(db.Listener(one.database, {optout.TOPIC: ears(one, event)}).run())
            for one, event in zip(planes, listening, strict=True)
        ]
        for event in listening:
            await event.wait()
        yield
        for loop in loops:
            loop.cancel()


@asynccontextmanager
async def queue_of_two_gateways(database: str) -> AsyncIterator[tuple[Plane, Plane, int]]:
    """Two gateways with a slow operator between them, and a door whose program may do everything; yields its port."""
    slow = Simulator(behaviour.parse("ack_delay_s=0.05 report_delay_s=0.01"), seed=1)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(slow)
        first, second = await stack.enter_async_context(pair(database, slow, window_size=16))
        await first.database.execute("UPDATE channel SET sessions = 2")
        await first.database.execute("UPDATE app_key SET scopes = $1", sorted(SCOPES))
        for one in (first, second):
            await one.keeper.load()
        await first.until("SELECT 1 WHERE (SELECT count(*) FROM gateway) = 2")
        await first.database.execute("UPDATE session_lease SET until = now()")
        for one in (first, second):
            await one.holds(lambda one=one: sum(one.gateway.sessions_by_channel().values()) == 1)
        door = await stack.enter_async_context(served(first))
        await stack.enter_async_context(hearing_stops(first, second))
        yield first, second, door.port


async def post(port: int, path: str, body: Any) -> Any:
    reply = await ask(port, "POST", path, body, {"Authorization": basic("hy_test")})
    assert reply.status in (200, 201), reply.body
    return reply.json["data"]


async def test_an_opt_out_over_the_api_ends_what_two_gateways_are_sending(database: str) -> None:
    async with queue_of_two_gateways(database) as (first, second, port):
        everybody = [awake(place) for place in range(QUEUED)]
        for one, some in ((first, everybody[::2]), (second, everybody[1::2])):
            outcomes = await one.accept(*(one.draft(to, Purpose.PROMOTIONAL) for to in some))
            assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        await first.until("SELECT 1 WHERE (SELECT count(*) FROM message WHERE status = 1) > 50")
        numbers = [e164(to) for to in everybody[-STOPPED:]]
        changed = await post(port, "/v1/opt-outs", {"numbers": numbers, "reason": "asked for it"})
        heard_s = clock.now_s()
        assert changed["changed"] == STOPPED
        await first.all_final()
        rows = await first.database.fetch("SELECT phone_index, status, cause, attempts FROM message")
        stopped = {first.vault.phone_index(number) for number in numbers}
        late = refused = 0
        for row in rows:
            sent = [one[4] / 1000 for one in msgspec.json.decode(row["attempts"] or b"[]")]
            if row["phone_index"] in stopped:
                late += any(at > heard_s + PROMPTLY_S for at in sent)
                refused += (row["status"], row["cause"]) == (Status.REFUSED.number, Cause.OPTED_OUT.number)
            else:
                assert row["status"] == Status.DELIVERED.number
        assert late == 0
        assert refused > STOPPED // 4  # the test means something only while many still wait
        await books_balance(first.database)


async def test_an_erasure_ends_what_waits_for_the_person_and_pays_it_back(database: str) -> None:
    async with queue_of_two_gateways(database) as (first, second, port):
        others = [one.draft(awake(place), Purpose.PROMOTIONAL) for place in range(1, 600) for one in (first,)]
        await first.accept(*others)
        to = awake(0)
        waiting = await first.send(to, Purpose.PROMOTIONAL)
        erased = await post(port, "/v1/persons/erase", {"number": e164(to), "reason": "letter"})
        assert (erased["messages"], erased["waiting"]) == (1, 1)
        row = await first.final(waiting)
        assert (row["status"], row["cause"], row["code"]) == (
            Status.REFUSED.number, Cause.BLOCKED.number, "erased",
        )  # fmt: skip
        assert (row["refund_micro"], row["attempts"], row["sealed"]) == (row["price_micro"], None, None)
        await first.all_final()
        await books_balance(second.database)
