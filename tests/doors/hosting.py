"""The door for customers who log in, over a whole plane: listeners on ports of their own, one login a test needs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from hongyan.control import logins
from hongyan.doors.protocols import Host
from hongyan.doors.telling import Telling
from hongyan.settings import Settings
from hongyan.vault import Secret
from plane import Plane

PASSWORD = "secret"


@dataclass
class Hosted:
    host: Host
    telling: Telling
    ports: dict[str, int]
    tasks: list[asyncio.Task[None]]

    async def die(self) -> None:
        """Stop as kill -9 would: nothing more is answered or settled, sockets just close."""
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        for link in list(self.host.links):
            link.drop()
        for server in self.host._servers:
            server.close()


async def log_in_as(way: Plane, protocol: str, name: str, **terms: Any) -> None:
    """Lay a login of the plane's tenant and let the plane know it."""
    async with way.database.transaction() as tx:
        await logins.create(
            tx, way.vault, way.tenant_id, protocol, name, password=Secret(PASSWORD.encode()), **terms
        )
    await way.keeper.load()


async def _announce(way: Plane, telling: Telling) -> None:
    """Wake the telling when the gateway owes something, as NOTIFY does between processes."""
    owed = 0
    while True:
        if len(way.owed) > owed:
            owed = len(way.owed)
            telling.wake()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def hosted(
    way: Plane, *protocols: str, settings: Settings | None = None, **knobs: Any
) -> AsyncIterator[Hosted]:
    """Serve protocols over a plane until the end of the block."""
    known = replace(settings or way.gateway._settings, **knobs)
    host = Host(known, way.keeper, way.database, way.vault, way.acceptor, lambda: telling.wake())  # noqa: PLW0108 - made just below
    telling = Telling(way.database, way.vault, host)
    ports = {name: await host.serve(name, host="127.0.0.1", port=0) for name in protocols}
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one) for one in (host.run(), telling.run(), _announce(way, telling))]
        one = Hosted(host, telling, ports, running)
        try:
            yield one
        finally:
            await host.close()
            for task in running:
                task.cancel()
