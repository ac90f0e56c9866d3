"""A tenant whose key is destroyed is unreadable for good, and in nobody's way."""

from datetime import timedelta

import pytest

import make
from hongyan import clock, vault
from hongyan.channels.channel import Inbound
from hongyan.control import data_keys, persons, tenants
from hongyan.vault import Vault, VaultError
from hongyan.vocab.errors import Refusal
from hongyan.vocab.message import ChannelId, Status
from hongyan.way import erase, inbound, lookup, retention
from hongyan.way.inbound import Arrival
from make import World


async def started_again(world: World) -> Vault:
    """The vault of a process that starts now."""
    async with world.database.transaction() as tx:
        return vault.Vault(make.MASTER, await data_keys.wrapped(tx))


async def shred(world: World) -> None:
    async with world.database.transaction() as tx:
        await tenants.suspend(tx, world.tenant_id)
        await data_keys.shred(tx, world.tenant_id)


async def test_a_tenant_that_takes_messages_or_awaits_some_is_not_shredded(database: str) -> None:
    async with make.world(database) as world:
        with pytest.raises(Refusal):
            async with world.database.transaction() as tx:
                await data_keys.shred(tx, world.tenant_id)
        async with world.database.transaction() as tx:
            message_id = await make.message(tx, world)
            await make.submitted(tx, world, message_id)
        with pytest.raises(Refusal):
            await shred(world)
        assert f"tenant:{world.tenant_id}" in (await started_again(world))._ciphers


async def test_what_a_shredded_tenant_sealed_is_told_without_persons(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            message_id = await make.message(tx, world, status=Status.DELIVERED)
            other = await make.tenant(tx, world.vault)
        await shred(world)
        keys = await started_again(world)
        with pytest.raises(VaultError):
            keys.seal(world.tenant_id, b"")
        assert keys.unseal(other, keys.seal(other, b"x")) == b"x"
        snapshot = await make.snapshot(world)
        async with world.database.transaction() as tx:
            story = await lookup.one(tx, snapshot, keys, world.tenant_id, message_id)
            assert story is not None
            assert (story.number, story.text) == (None, None)
            assert await persons.unmask(tx, keys, world.tenant_id, message_id) is None
            assert await retention.fade(tx, keys, make.SETTINGS, clock.now() + timedelta(days=90)) == 0
            assert (await erase.erase(tx, world.tenant_id, keys.phone_index(make.NUMBER))).messages == 1


async def test_a_text_to_a_shredded_tenant_is_kept_without_its_person(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await make.message(tx, world, status=Status.DELIVERED, channel_id=world.channel_id)
        await shred(world)
        keys, snapshot = await started_again(world), await make.snapshot(world)
        part = Inbound(text="投诉", number=make.NUMBER, access_number="1069", at_s=clock.now_s())
        async with world.database.transaction() as tx:
            arrivals = [Arrival(ChannelId(world.channel_id), part)]
            recorded = await inbound.record(tx, snapshot, keys, make.SETTINGS, arrivals, clock.now())
        assert len(recorded.stopped) == 1
        for table in ("inbound", "consent", "complaint"):
            rows = await world.database.fetch(f"SELECT tenant_id, sealed FROM {table}")
            assert [tuple(row) for row in rows] == [(world.tenant_id, None)], table
