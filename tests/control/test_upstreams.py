"""A channel's settings are asked whether they build, then sealed; a removed one leaves its name free."""

import msgspec
import pytest

from hongyan.channels.kinds import BadSettings
from hongyan.control import routes, upstreams
from hongyan.vocab.errors import Refusal

from .conftest import Office

SETTINGS = {"hosts": ["127.0.0.1"], "port": 2775, "system_id": "us", "password": "knock"}


async def test_a_channel_is_what_the_plane_reads(office: Office) -> None:
    async with office.database.transaction() as tx:
        channel_id = await upstreams.add_channel(
            tx,
            office.vault,
            name="east",
            kind="smpp",
            settings=SETTINGS,
            parts_per_s=50,
            sessions=2,
            access_number="1069",
            report_parts="one",
            cost_micro=30_000,
        )
        sealed = await tx.fetchval("SELECT sealed FROM channel")
    assert b"knock" not in sealed
    read = (await office.snapshot()).channels[channel_id]
    assert (read.name, read.kind, read.paused, read.parts_per_s, read.sessions) == (
        "east",
        "smpp",
        False,
        50,
        2,
    )
    assert (read.access_number, read.report_one, read.cost_micro) == ("1069", True, 30_000)
    assert msgspec.json.decode(read.config.reveal()) == SETTINGS


async def test_settings_that_do_not_build_are_never_stored(office: Office) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(BadSettings):
            await upstreams.add_channel(
                tx, office.vault, name="east", kind="smpp", settings={"system_id": "us"}
            )
        channel_id = await upstreams.add_channel(
            tx, office.vault, name="east", kind="smpp", settings=SETTINGS
        )
        with pytest.raises(BadSettings):
            await upstreams.configure(tx, office.vault, channel_id, SETTINGS | {"port": 0})
        with pytest.raises(BadSettings):
            await upstreams.add_channel(tx, office.vault, name="west", kind="pigeon", settings={})
    read = (await office.snapshot()).channels[channel_id]
    assert msgspec.json.decode(read.config.reveal()) == SETTINGS


async def test_new_settings_replace_the_old_ones(office: Office) -> None:
    async with office.database.transaction() as tx:
        channel_id = await upstreams.add_channel(
            tx, office.vault, name="east", kind="smpp", settings=SETTINGS
        )
        await upstreams.configure(tx, office.vault, channel_id, SETTINGS | {"port": 2776})
    read = (await office.snapshot()).channels[channel_id]
    assert msgspec.json.decode(read.config.reveal())["port"] == 2776


async def test_a_paused_channel_stays_until_it_is_resumed(office: Office) -> None:
    async with office.database.transaction() as tx:
        channel_id = await upstreams.add_channel(tx, office.vault, name="dry", kind="loopback", settings={})
        await upstreams.pause(tx, channel_id)
        (row,) = await upstreams.every(tx)
        assert row.paused
        await upstreams.resume(tx, channel_id)
        (row,) = await upstreams.every(tx)
        assert not row.paused


async def test_a_removed_channel_is_gone_for_the_plane_and_its_name_is_free(office: Office) -> None:
    async with office.database.transaction() as tx:
        old = await upstreams.add_channel(tx, office.vault, name="dry", kind="loopback", settings={})
        await routes.add(tx, old)
        with pytest.raises(Refusal):
            await upstreams.add_channel(tx, office.vault, name="dry", kind="loopback", settings={})
        await upstreams.remove(tx, old)
        new = await upstreams.add_channel(tx, office.vault, name="dry", kind="loopback", settings={})
        assert await upstreams.find(tx, "dry") == new
        assert await routes.every(tx) == []
        with pytest.raises(Refusal):
            await upstreams.pause(tx, old)
    assert list((await office.snapshot()).channels) == [new]
