"""One tenant with a key and a door of its own, for every test of the doors."""

from collections.abc import AsyncIterator, Mapping

import pytest

import make
from doors.counter import Served, Yes, basic, served
from hongyan.doors import streams
from hongyan.way import cancel


@pytest.fixture
async def world(database: str) -> AsyncIterator[make.World]:
    async with make.world(database) as opened:
        async with opened.database.transaction() as tx:
            # A way out there must be, though no gateway runs that would use it.
            for channel_id in (opened.channel_id, await make.channel(tx, opened.vault, kind="smpp")):
                await make.route_rule(tx, channel_id=channel_id)
        yield opened


@pytest.fixture
async def key_id(world: make.World) -> str:
    async with world.database.transaction() as tx:
        return await make.app_key(tx, world.vault, app_id=world.app_id)


@pytest.fixture
def headers(key_id: str) -> Mapping[str, str]:
    return {"Authorization": basic(key_id)}


@pytest.fixture
async def door(world: make.World, key_id: str) -> AsyncIterator[Served]:
    """A door whose acceptor takes everything and stores nothing."""
    assert key_id
    async with served(world, Yes()) as one:
        yield one


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For who asks every route: a gateway that does not run is not waited for, and a stream's next look comes soon."""
    monkeypatch.setattr(cancel, "LOOK_GAP_S", 0.001)
    monkeypatch.setattr(streams, "LOOK_GAP_S", 0.01)
