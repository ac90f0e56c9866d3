"""What is known of a person is told and erased by commands; a tenant is shredded by one; each leaves a record."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

import make
from hongyan import db
from hongyan.control import data_keys
from hongyan.vault import read_master_key
from hongyan.vocab.message import AppId, ChannelId, Status
from test_command_line import Terminal, hongyan, shop

__all__ = ["hongyan", "shop"]  # fixtures


async def lay_message(dsn: str, state_dir: Path) -> None:
    """A message of the tenant Shop that is over."""
    opened = await db.connect(dsn, make.SETTINGS)
    try:
        async with opened.transaction() as tx:
            keys = await data_keys.lay(tx, read_master_key("", state_dir / "master.key"))
            tenant_id = await tx.fetchval("SELECT id FROM tenant WHERE name = 'Shop'")
            world = make.World(opened, keys, tenant_id, AppId(1), 1, 1, ChannelId(1))
            await make.message(tx, world, status=Status.DELIVERED, text="芝麻开门")
    finally:
        await opened.close()


async def actions(dsn: str) -> Sequence[Any]:
    opened = await db.connect(dsn, make.SETTINGS)
    try:
        rows = await opened.fetch("SELECT action, row_to_json(audit)::text AS whole FROM audit ORDER BY seq")
        assert make.NUMBER[3:] not in str([row["whole"] for row in rows])
        return [row["action"] for row in rows]
    finally:
        await opened.close()


WHOSE = ("--tenant", "Shop", "--reason", "letter of 1 March")


def test_a_person_is_exported_and_erased(shop: Terminal, database: str, tmp_path: Path) -> None:
    asyncio.run(lay_message(database, tmp_path / "state"))
    out = tmp_path / "person.json"
    shop.must("persons", "export", make.NUMBER, *WHOSE, "--out", str(out))
    assert msgspec.json.decode(out.read_bytes())["messages"][0]["text"] == "芝麻开门"
    assert out.stat().st_mode & 0o077 == 0
    assert shop.must("persons", "erase", make.NUMBER, *WHOSE, "--yes").out.startswith("1 messages (0 had")
    told = msgspec.json.decode(shop.must("persons", "export", make.NUMBER, *WHOSE).out)
    assert told["messages"][0]["text"] is None
    assert asyncio.run(actions(database))[-3:] == ["exportPerson", "erasePerson", "exportPerson"]
    assert "not a number" in shop("persons", "erase", "12", *WHOSE, "--yes").error


def test_how_long_things_are_kept_is_listed_and_set(shop: Terminal) -> None:
    def days() -> dict[str, int]:
        return {row["class"]: row["days"] for row in shop.listed("retention")}

    assert days()["otp_texts"] == 7
    shop.must("retention", "set", "otp_texts", "3")
    assert days()["otp_texts"] == 3
    shop.must("retention", "set", "otp_texts", "0")
    assert days()["otp_texts"] == 7
    assert "153 to 3650 days" in shop("retention", "set", "consents", "30").error
    assert "otp_texts" in shop("retention", "set", "dreams", "30").error
    shop.must("retention", "list")
    assert shop.must("complaints", "list", "--tenant", "Shop").err == "nobody complained\n"


def test_a_tenant_is_shredded_once_it_is_suspended(shop: Terminal, database: str) -> None:
    shred = ("tenants", "shred", "Shop", "--reason", "contract ended", "--yes")
    assert "suspend it first" in shop(*shred).error
    shop.must("tenants", "suspend", "Shop")
    assert "shredded" in shop.must(*shred).out
    assert asyncio.run(actions(database))[-1] == "shredTenant"
    assert shop(*shred).code == 1
