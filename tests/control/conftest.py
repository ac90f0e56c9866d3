"""A database whose vault has been laid, for rooms of control."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

import make
from hongyan import db
from hongyan.control import data_keys, tenants
from hongyan.vault import Vault
from hongyan.vocab.message import AppId, TenantId
from hongyan.way.snapshot import Keeper, Snapshot


@dataclass(frozen=True, slots=True)
class Office:
    """One tenant with an app, made by control itself."""

    database: db.Database
    vault: Vault
    tenant_id: TenantId
    app_id: AppId

    async def snapshot(self) -> Snapshot:
        """What the plane would fly by now."""
        return await Keeper(self.database, self.vault).load()


@pytest.fixture
async def office(database: str) -> AsyncIterator[Office]:
    opened = await db.connect(database, make.SETTINGS)
    try:
        async with opened.transaction() as tx:
            vault = await data_keys.lay(tx, make.MASTER)
            tenant_id = await tenants.create(tx, vault, make.MASTER, "Orchid")
            app_id = await tenants.create_app(tx, tenant_id, "shop")
        yield Office(opened, vault, tenant_id, app_id)
    finally:
        await opened.close()
