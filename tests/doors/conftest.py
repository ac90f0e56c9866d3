"""One tenant with a key, for every test of the doors."""

from collections.abc import AsyncIterator

import pytest

import make


@pytest.fixture
async def world(database: str) -> AsyncIterator[make.World]:
    async with make.world(database) as opened:
        yield opened


@pytest.fixture
async def key_id(world: make.World) -> str:
    async with world.database.transaction() as tx:
        return await make.app_key(tx, world.vault, app_id=world.app_id)
