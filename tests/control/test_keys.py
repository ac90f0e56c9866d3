"""An app key is shown once, sealed, exchanged with an overlap, and refused once disabled."""

import ipaddress
import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from hongyan.control import keys
from hongyan.control.permissions import SCOPES, SCOPES_DEFAULT
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId

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


async def test_a_key_has_the_usual_scopes_unless_others_are_given(office: Office) -> None:
    async with office.database.transaction() as tx:
        usual = await keys.create(tx, office.vault, office.app_id)
        other = await keys.create(tx, office.vault, office.app_id, scopes=["messages.read"])
        stored = await tx.fetchval(
            "INSERT INTO app_key (key_id, app_id, sealed) SELECT 'old', app_id, sealed FROM app_key LIMIT 1 RETURNING scopes"
        )
    known = (await office.snapshot()).keys
    assert known[usual.key_id].scopes == {str(scope) for scope in SCOPES_DEFAULT} == set(stored)
    assert known[other.key_id].scopes == {"messages.read"}


async def test_no_key_gets_a_scope_that_keys_may_not_have(office: Office) -> None:
    async with office.database.transaction() as tx:
        await keys.create(tx, office.vault, office.app_id, scopes=SCOPES)
        for scope in ("apps.write", "users.write", "numbers.unmask", "", "messages.*"):
            with pytest.raises(Refusal) as refused:
                await keys.create(tx, office.vault, office.app_id, scopes=[scope])
            assert refused.value.detail["parameter"] == "scopes"


async def test_a_key_ends_when_it_says(office: Office) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    async with office.database.transaction() as tx:
        key = await keys.create(tx, office.vault, office.app_id, expires_at=ends)
        with pytest.raises(Refusal):
            await keys.change(tx, key.key_id, expires_at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point
    assert (await office.snapshot()).keys[key.key_id].expires_at_s == ends.timestamp()
    async with office.database.transaction() as tx:
        await keys.change(tx, key.key_id, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert key.key_id not in (await office.snapshot()).keys


async def test_an_exchange_never_lengthens_the_old_keys_life_nor_shortens_the_new_ones(
    office: Office,
) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=1)
    async with office.database.transaction() as tx:
        old = await keys.create(tx, office.vault, office.app_id, expires_at=soon)
        new = await keys.rotate(tx, office.vault, old.key_id, overlap_s=3_600)
        rows = {row.key_id: row.expires_at for row in await keys.every(tx)}
        with pytest.raises(Refusal):
            await keys.rotate(tx, office.vault, old.key_id, overlap_s=keys.OVERLAP_S_MAX + 1)
    assert rows == {old.key_id: soon, new.key_id: None}


async def test_a_change_leaves_alone_what_was_not_given(office: Office) -> None:
    async with office.database.transaction() as tx:
        key = await keys.create(
            tx, office.vault, office.app_id, rate_per_s=5, addresses=["10.0.0.0/8"], name="a"
        )
        before = await keys.get(tx, office.tenant_id, key.key_id)
        await keys.change(tx, key.key_id, tenant_id=office.tenant_id, allow_basic=True)
        after = await keys.get(tx, office.tenant_id, key.key_id)
        with pytest.raises(Refusal):
            await keys.change(tx, key.key_id, tenant_id=TenantId(office.tenant_id + 1), allow_basic=False)
    assert after == msgspec.structs.replace(before, allow_basic=True)


async def test_an_app_has_so_many_active_keys_and_no_more(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "ACTIVE_MAX", 1)
    async with office.database.transaction() as tx:
        key = await keys.create(tx, office.vault, office.app_id)
        with pytest.raises(Refusal) as refused:
            await keys.create(tx, office.vault, office.app_id)
        await keys.disable(tx, key.key_id)
        await keys.create(tx, office.vault, office.app_id)
    assert refused.value.code is Code.REQUEST_CONFLICT


async def test_use_is_written_down_once_in_a_while(office: Office) -> None:
    async with office.database.transaction() as tx:
        key = await keys.create(tx, office.vault, office.app_id)
        row = await keys.get(tx, None, key.key_id)
    await keys.note_used(office.database, {row.id, 10_000})
    async with office.database.transaction() as tx:
        first = (await keys.get(tx, None, key.key_id)).used_at
    await keys.note_used(office.database, {row.id})
    async with office.database.transaction() as tx:
        assert (await keys.get(tx, None, key.key_id)).used_at == first
    assert first is not None
