"""Two gateways as processes of one machine: route rules hold for both, though only one has the best channel's session."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import install
from hongyan import db, run
from hongyan.control import routes, upstreams
from hongyan.simulator import Behaviour, Simulator
from hongyan.simulator.behaviour import Span
from hongyan.vocab.message import Status
from install import Laid, installed, numbers

PAIR: Final = "door gateway gateway clerk"
PROMPT: Final = Behaviour(report_delay_s=Span(0.02, 0.05))
MESSAGES: Final = 200
HELD_BY_SQL: Final = """
SELECT FROM channel_state s JOIN channel c ON c.id = s.channel_id
 WHERE (s.told ->> 'takes')::bool AND s.told_at > now() - interval '3 seconds'
HAVING count(*) = 3 AND bool_or(c.name = 'test' AND s.gateway = 2)
"""
# Until it is over, nobody takes the lease from who has it.
MOVE_SQL: Final = """
UPDATE session_lease SET gateway = 2, until = now() + interval '10 seconds'
 WHERE channel_id = (SELECT id FROM channel WHERE name = 'test')
"""


@asynccontextmanager
async def two_channels(dsn: str) -> AsyncIterator[tuple[Laid, Simulator]]:
    """The second gateway has the one session of the best channel, both have one of the next best: its operator."""
    async with installed(layout=PAIR, dsn=dsn, operator=PROMPT) as laid, Simulator(PROMPT) as next_best:
        async with laid.install.database() as books:
            await _lay_next(laid, books, next_best.port)
            await books.execute(MOVE_SQL)

            async def held() -> bool:
                return await books.fetch(HELD_BY_SQL) != []

            await install.until(held, "the gateways do not have their sessions")
        yield laid, next_best


async def _lay_next(laid: Laid, books: db.Database, port: int) -> None:
    vault = await run.open_vault(books, laid.install.settings)
    config = {"hosts": ["127.0.0.1"], "port": port, "system_id": "test", "password": "secret"}
    async with books.transaction() as tx:
        channel_id = await upstreams.add_channel(
            tx,
            vault,
            name="next",
            kind="smpp",
            settings=config,
            sessions=2,
            access_number="1069",
            cost_micro=30_000,
        )
        await routes.add(tx, channel_id, priority=1_000)
    await books.notify("control")


async def test_the_best_channel_carries_what_another_gateway_took_in(database: str) -> None:
    async with two_channels(database) as (laid, next_best):
        probes = iter(numbers(1_000, first=10_000))

        async def goes_by_best() -> bool:
            """The first gateway hears once a second of what the second has."""
            before = laid.operator.statistics().parts
            await laid.all_told([(await laid.caller.insist(next(probes))).message_id])
            return laid.operator.statistics().parts > before

        await install.until(goes_by_best, "no gateway gives anything away")
        by_next = next_best.statistics().parts
        await laid.caller.insist_on(numbers(MESSAGES))
        await laid.all_told(list(laid.caller.promised.values()))
        assert next_best.statistics().parts == by_next
        assert laid.doubled() == 0
        async with laid.install.database() as books:
            count = len(laid.caller.promised)
            assert await install.statuses(books) == {Status.DELIVERED.number: count}
            await install.books_balance(books)
        assert laid.install.crashes() == []


async def test_a_killed_gateway_that_others_give_to_loses_nothing(database: str) -> None:
    async with two_channels(database) as (laid, next_best):
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(laid.caller.insist_on(numbers(3 * MESSAGES)))

            async def under_way() -> bool:
                return len(laid.caller.promised) >= MESSAGES

            await install.until(under_way, "nothing is accepted")
            os.kill(max(laid.install.processes()["gateway"]), signal.SIGKILL)  # it was started last
            await sending
        await laid.all_told(list(laid.caller.promised.values()))
        parts = laid.operator.statistics().parts + next_best.statistics().parts
        assert 3 * MESSAGES <= parts <= 3 * MESSAGES + install.WINDOW_SIZE
        async with laid.install.database() as books:
            assert await install.statuses(books) == {Status.DELIVERED.number: 3 * MESSAGES}
            await install.books_balance(books)
