"""Money moves between shards and never comes into being, and the ledger says the same as the balance."""

import asyncio

import pytest

import make
from hongyan import db
from hongyan.way import charge


async def shards(tx: db.Tx, tenant_id: int) -> dict[int, int]:
    rows = await tx.fetch("SELECT shard, amount_micro FROM balance WHERE tenant_id = $1", tenant_id)
    return {row["shard"]: row["amount_micro"] for row in rows}


async def test_a_shard_gathers_what_it_needs_and_leaves_the_others_their_share(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        tenant_id = await make.tenant(tx, world.vault, balance_micro=1_000)
        for shard in (10, 11, 20):
            await tx.execute("INSERT INTO balance VALUES ($1, $2, 0)", tenant_id, shard)
        assert await charge.gather(tx, tenant_id, 10, 400) == 550
        assert await shards(tx, tenant_id) == {0: 150, 10: 550, 11: 150, 20: 150}
        assert await charge.gather(tx, tenant_id, 20, 5_000) == 1_000
        assert await shards(tx, tenant_id) == {0: 0, 10: 0, 11: 0, 20: 1_000}
        assert await charge.drift(tx) == []


async def test_gathering_at_the_same_moment_neither_makes_nor_loses_money(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            tenant_id = await make.tenant(tx, world.vault, balance_micro=1_000)

        async def gather(shard: int) -> None:
            async with world.database.transaction() as tx:
                await charge.gather(tx, tenant_id, shard, 300 + shard)

        await asyncio.gather(*(gather(shard) for shard in (10, 11, 20, 21) * 5))
        async with world.database.transaction() as tx:
            assert await charge.balance_micro(tx, tenant_id) == 1_000
            assert min((await shards(tx, tenant_id)).values()) >= 0
            assert await charge.drift(tx) == []


async def test_a_top_up_is_booked_and_a_correction_never_goes_below_nought(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            tenant_id = await make.tenant(tx, world.vault, balance_micro=100)
            await charge.top_up(tx, tenant_id, 50, note="paid")
            await charge.gather(tx, tenant_id, 10, 120)
            await charge.top_up(tx, tenant_id, -150, kind="correction")
            assert await charge.balance_micro(tx, tenant_id) == 0
        with pytest.raises(db.CheckViolation):
            async with world.database.transaction() as tx:
                await charge.top_up(tx, tenant_id, -1, kind="correction")
        async with world.database.transaction() as tx:
            assert await charge.drift(tx) == []


async def test_a_balance_that_is_not_booked_is_found(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        tenant_id = await make.tenant(tx, world.vault, balance_micro=100)
        await tx.execute("UPDATE balance SET amount_micro = 99 WHERE tenant_id = $1", tenant_id)
        assert await charge.drift(tx) == [(tenant_id, 99, 100)]
