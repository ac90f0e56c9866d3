"""Data keys are made once, and outlive every master key."""

import pytest

import make
from hongyan.control import data_keys, tenants
from hongyan.vault import Secret, Vault, VaultError

from .conftest import Office

NEW = Secret(bytes(range(32, 64)))


async def test_laying_twice_keeps_the_first_keys(office: Office) -> None:
    async with office.database.transaction() as tx:
        before = await data_keys.wrapped(tx)
        await data_keys.lay(tx, make.MASTER)
        assert await data_keys.wrapped(tx) == before


async def test_what_was_sealed_opens_after_the_master_key_was_rotated(office: Office) -> None:
    sealed = office.vault.seal(office.tenant_id, b"text")
    index = office.vault.phone_index(make.NUMBER)
    async with office.database.transaction() as tx:
        count = await data_keys.rotate_master(tx, make.MASTER, NEW)
        wrapped = await data_keys.wrapped(tx)
        assert count == len(wrapped)
        assert await data_keys.opens(tx, NEW)
        assert not await data_keys.opens(tx, make.MASTER)
    vault = Vault(NEW, wrapped)
    assert vault.unseal(office.tenant_id, sealed) == b"text"
    assert vault.phone_index(make.NUMBER) == index


async def test_a_rotation_with_the_wrong_old_key_changes_nothing(office: Office) -> None:
    async with office.database.transaction() as tx:
        before = await data_keys.wrapped(tx)
        with pytest.raises(VaultError):
            await data_keys.rotate_master(tx, NEW, Secret(bytes(32)))
        assert await data_keys.wrapped(tx) == before


async def test_another_master_key_does_not_lay(office: Office) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(VaultError):
            await data_keys.lay(tx, NEW)


async def test_a_new_tenant_can_be_sealed_for_at_once(office: Office) -> None:
    async with office.database.transaction() as tx:
        tenant_id = await tenants.create(tx, office.vault, make.MASTER, "Peony")
    sealed = office.vault.seal(tenant_id, b"text")
    with pytest.raises(VaultError):
        office.vault.unseal(office.tenant_id, sealed)
