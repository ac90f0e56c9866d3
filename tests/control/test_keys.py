"""An app key is shown once, sealed, exchanged with an overlap, and refused once disabled."""

import ipaddress
import re

import pytest

from hongyan.control import keys
from hongyan.vocab.errors import Code, Refusal

from .conftest import Office


async def test_a_key_opens_with_the_secret_that_was_shown(office: Office) -> None:
    async with office.database.transaction() as tx:
        key = await keys.create(
            tx, office.vault, office.app_id, free_text=True, addresses=["10.0.0.0/8"], rate_per_s=5
        )
    assert re.fullmatch(r"hy_[a-z2-7]{16}", key.key_id)
    assert re.fullmatch(rb"[A-Za-z0-9_-]{40}", key.secret.reveal())
    read = (await office.snapshot()).keys[key.key_id]
    assert read.secret.reveal() == key.secret.reveal()
    assert (read.app_id, read.tenant.id) == (office.app_id, office.tenant_id)
    assert (read.allow_basic, read.free_text, read.sandbox, read.rate_per_s) == (False, True, False, 5)
    assert read.networks == (ipaddress.ip_network("10.0.0.0/8"),)


async def test_no_secret_stands_in_the_table_or_in_a_repr(office: Office) -> None:
    async with office.database.transaction() as tx:
        key = await keys.create(tx, office.vault, office.app_id)
        sealed = await tx.fetchval("SELECT sealed FROM app_key")
    assert key.secret.reveal() not in sealed
    assert key.secret.reveal().decode() not in repr(key)


async def test_both_keys_work_until_the_old_one_is_disabled(office: Office) -> None:
    async with office.database.transaction() as tx:
        old = await keys.create(tx, office.vault, office.app_id, allow_basic=True, rate_per_s=7)
        new = await keys.rotate(tx, office.vault, old.key_id)
    known = (await office.snapshot()).keys
    assert (known[new.key_id].allow_basic, known[new.key_id].rate_per_s) == (True, 7)
    assert old.key_id in known
    assert old.secret.reveal() != new.secret.reveal()
    async with office.database.transaction() as tx:
        await keys.disable(tx, old.key_id)
    assert list((await office.snapshot()).keys) == [new.key_id]


async def test_a_disabled_key_cannot_be_rotated_back_to_life(office: Office) -> None:
    async with office.database.transaction() as tx:
        key = await keys.create(tx, office.vault, office.app_id)
        await keys.disable(tx, key.key_id)
        with pytest.raises(Refusal) as refused:
            await keys.rotate(tx, office.vault, key.key_id)
    assert refused.value.code is Code.REQUEST_NOT_FOUND


@pytest.mark.parametrize("address", ["10.0.0.1/8", "somewhere", ""])
async def test_an_address_that_is_none_is_refused(office: Office, address: str) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal) as refused:
            await keys.create(tx, office.vault, office.app_id, addresses=[address])
    assert refused.value.detail["parameter"] == "addresses"


async def test_the_list_shows_whose_keys_they_are_and_no_secret(office: Office) -> None:
    async with office.database.transaction() as tx:
        key = await keys.create(tx, office.vault, office.app_id, sandbox=True)
        (row,) = await keys.every(tx)
    assert (row.key_id, row.tenant, row.app, row.sandbox, row.active) == (
        key.key_id,
        "Orchid",
        "shop",
        True,
        True,
    )
