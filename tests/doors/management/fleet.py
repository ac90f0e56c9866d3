"""A gateway at practice operators, and a desk from which people manage it, on one database.

Entry point: fleet().
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from doors.management.desk import Desk, desk
from hongyan import db
from hongyan.simulator.server import Simulator
from hongyan.way import watch
from plane import Plane, plane


@dataclass(frozen=True, slots=True)
class Fleet:
    """`way` is the gateway's side, `desk` the people's."""

    way: Plane
    desk: Desk

    async def stands(self, channel_id: int, word: str) -> Any:
        """Wait until a channel stands so and return its standing."""
        async with asyncio.timeout(20):
            while True:
                told = (await self.desk.ask("GET", f"/v1/channels/{channel_id}/state")).json["data"]
                if told["standing"]["word"] == word and told["standing"]["gateways"]:
                    return told
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def fleet(dsn: str, *simulators: Simulator, **config: Any) -> AsyncIterator[Fleet]:
    """Run a gateway with one channel to each operator; it hears at once what is changed at the desk."""
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        way = await stack.enter_async_context(plane(dsn, *simulators, **config))
        await way.database.execute("DELETE FROM price")  # the desk's world lays the same
        people = await stack.enter_async_context(desk(dsn))
        watcher = watch.Watcher(way.database, 1, way.gateway.channel)
        listens = asyncio.Event()

        def stale(payload: str) -> None:
            listens.set()
            way.keeper.stale(payload)

        heard = {"control": stale, watch.TOPIC: watcher.hear}
        running = [
            tasks.create_task(db.Listener(way.database, heard).run()),
            tasks.create_task(watcher.run()),
        ]
        await listens.wait()
        try:
            yield Fleet(way, people)
        finally:
            for task in running:
                task.cancel()
