"""Tenants and apps are named once, found by name, and stopped without losing what they were promised."""

import asyncio
from typing import Any, LiteralString

import msgspec
import pytest

import make
from hongyan.control import keys, tenants
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId, Purpose, TenantId
from hongyan.way import charge
from hongyan.way.snapshot import LIMITS_DEFAULT, Limits

from .conftest import Office


async def test_a_tenant_is_what_the_plane_reads(office: Office) -> None:
    async with office.database.transaction() as tx:
        tenant_id = await tenants.create(
            tx,
            office.vault,
            make.MASTER,
            "Peony",
            currency="HKD",
            charge_on="delivery",
            countries=["HK", "CN"],
            weight=3,
            limits={Purpose.OTP: (2, 3, 4)},
            duplicate_s=60,
        )
    tenant = (await office.snapshot()).tenants[tenant_id]
    assert (tenant.name, tenant.active, tenant.currency) == ("Peony", True, "HKD")
    assert tenant.charge_on_delivery
    assert (tenant.countries, tenant.weight) == (frozenset({"CN", "HK"}), 3)
    assert tenant.limits[Purpose.OTP] == Limits(2, 3, 4)
    assert tenant.limits[Purpose.PROMOTIONAL] == LIMITS_DEFAULT[Purpose.PROMOTIONAL]
    assert tenant.duplicate_s == 60


@pytest.mark.parametrize(
    ("name", "columns", "parameter"),
    [
        ("Orchid", {}, "name"),
        ("", {}, "name"),
        (" x", {}, "name"),
        ("a\nb", {}, "name"),
        ("x" * 65, {}, "name"),
        ("x", {"countries": ["cn"]}, "countries"),
        ("x", {"currency": "yuan"}, "currency"),
        ("x", {"weight": 0}, "weight"),
        ("x", {"duplicate_s": 86_401}, "duplicate_s"),
        ("x", {"countries": []}, "countries"),
        ("x", {"countries": ["C1"]}, "countries"),
        ("x", {"charge_on": "whim"}, "charge_on"),
        ("x", {"limits": {Purpose.OTP: (1, 2)}}, "limits.otp"),
        ("x", {"limits": {Purpose.OTP: (1, 2, 10_001)}}, "limits.otp"),
        ("x", {"limits": {Purpose.OTP: (-1, 2, 3)}}, "limits.otp"),
        ("x", {"quiet_from_hour": 22}, "quiet_from_hour"),
        ("x", {"quiet_until_hour": 7}, "quiet_until_hour"),
        ("x", {"quiet_from_hour": 10, "quiet_until_hour": 10}, "quiet_from_hour"),
    ],
)
async def test_what_a_tenant_cannot_be_is_refused_by_name(
    office: Office, name: str, columns: dict[str, Any], parameter: str
) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal) as refused:
            await tenants.create(tx, office.vault, make.MASTER, name, **columns)
    assert refused.value.detail["parameter"] == parameter


async def test_a_suspended_tenant_is_inactive_until_it_is_resumed(office: Office) -> None:
    async with office.database.transaction() as tx:
        await tenants.suspend(tx, office.tenant_id)
    assert not (await office.snapshot()).tenants[office.tenant_id].active
    async with office.database.transaction() as tx:
        await tenants.resume(tx, office.tenant_id)
    assert (await office.snapshot()).tenants[office.tenant_id].active


async def test_a_tenant_is_found_by_name_before_number(office: Office) -> None:
    async with office.database.transaction() as tx:
        assert await tenants.find(tx, "Orchid") == office.tenant_id
        assert await tenants.find(tx, str(office.tenant_id)) == office.tenant_id
        named = await tenants.create(tx, office.vault, make.MASTER, str(office.tenant_id))
        assert await tenants.find(tx, str(office.tenant_id)) == named
        with pytest.raises(Refusal) as refused:
            await tenants.find(tx, "nobody")
    assert refused.value.code is Code.REQUEST_NOT_FOUND


async def test_an_app_has_one_name_within_its_tenant(office: Office) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal):
            await tenants.create_app(tx, office.tenant_id, "shop")
        other = await tenants.create(tx, office.vault, make.MASTER, "Peony")
        app_id = await tenants.create_app(tx, other, "shop")
        assert await tenants.find_app(tx, other, "shop") == app_id != office.app_id


async def test_the_list_shows_the_balance_over_all_shards(office: Office) -> None:
    async with office.database.transaction() as tx:
        await charge.top_up(tx, office.tenant_id, 5_000_000)
        await charge.gather(tx, office.tenant_id, 7, 1_000_000)
        (row,) = await tenants.every(tx)
    assert (row.name, row.balance_micro) == ("Orchid", 5_000_000)


async def test_what_is_changed_is_what_was_given_and_stands_in_the_history(office: Office) -> None:
    async with office.database.transaction() as tx:
        before = await tenants.get(tx, office.tenant_id)
        await tenants.change(tx, office.tenant_id, who="user:1", weight=9, quiet_from_hour=18)
        await tenants.change(tx, office.tenant_id, who="user:1", weight=9)
        after = await tenants.get(tx, office.tenant_id)
        assert after == msgspec.structs.replace(before, weight=9, quiet_from_hour=18)
        (changed, _) = await tenants.history(tx, office.tenant_id)
    assert (changed.who, changed.action, changed.reason) == ("user:1", "changed", "quiet_from_hour, weight")
    read = (await office.snapshot()).tenants[office.tenant_id]
    assert (read.weight, read.quiet_from_hour) == (9, 18)


async def test_a_change_that_cannot_be_leaves_all_as_it_was(office: Office) -> None:
    async with office.database.transaction() as tx:
        await tenants.create(tx, office.vault, make.MASTER, "Peony")
        with pytest.raises(Refusal) as refused:
            await tenants.change(tx, office.tenant_id, name="Peony")
        assert refused.value.detail["parameter"] == "name"
        with pytest.raises(Refusal):
            await tenants.change(tx, TenantId(office.tenant_id + 10), weight=2)


async def test_a_suspension_says_by_whom_and_why_and_once(office: Office) -> None:
    async with office.database.transaction() as tx:
        await tenants.suspend(tx, office.tenant_id, who="user:1", reason="spam")
        await tenants.suspend(tx, office.tenant_id, who="user:2", reason="spam")
        steps = await tenants.history(tx, office.tenant_id)
        with pytest.raises(Refusal):
            await tenants.suspend(tx, TenantId(office.tenant_id + 10))
        with pytest.raises(Refusal):
            await tenants.resume(tx, office.tenant_id, reason="x" * 501)
    assert [(step.who, step.action, step.reason) for step in steps[:-1]] == [("user:1", "suspended", "spam")]


async def test_a_tenant_is_qualified_until_somebody_says_otherwise(office: Office) -> None:
    assert (await office.snapshot()).tenants[office.tenant_id].qualified
    async with office.database.transaction() as tx:
        made = await tenants.create(tx, office.vault, make.MASTER, "Peony", qualified=False)
    assert not (await office.snapshot()).tenants[made].qualified


async def test_apps_are_listed_with_their_active_keys_and_renamed(office: Office) -> None:
    async with office.database.transaction() as tx:
        await keys.create(tx, office.vault, office.app_id)
        gone = await keys.create(tx, office.vault, office.app_id)
        await keys.disable(tx, gone.key_id)
        await tenants.create_app(tx, office.tenant_id, "other")
        await tenants.rename_app(tx, office.tenant_id, office.app_id, "store")
        await tenants.rename_app(tx, office.tenant_id, office.app_id, "store")
        with pytest.raises(Refusal):
            await tenants.rename_app(tx, office.tenant_id, office.app_id, "other")
        rows = await tenants.apps(tx, office.tenant_id)
    assert [(row.name, row.keys) for row in rows] == [("store", 1), ("other", 0)]


async def test_a_tenant_has_so_many_apps_and_no_more(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants, "APPS_MAX", 1)
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal) as refused:
            await tenants.create_app(tx, office.tenant_id, "other")
    assert refused.value.code is Code.REQUEST_CONFLICT


async def test_tenants_are_found_by_a_piece_of_either_name_and_by_what_they_may(office: Office) -> None:
    async with office.database.transaction() as tx:
        other = await tenants.create(tx, office.vault, make.MASTER, "Peony", qualified=False)
        await tenants.qualify(tx, office.tenant_id, "兰花科技", who="user:1")
        await tenants.suspend(tx, other)
        for asked, found in (
            ({"named": "花科"}, office.tenant_id),
            ({"named": "ORCH"}, office.tenant_id),
            ({"active": False}, other),
            ({"qualified": False}, other),
            ({"after": office.tenant_id}, other),
            ({"limit": 1}, office.tenant_id),
        ):
            (row,) = await tenants.page(tx, **asked)
            assert row.id == found


async def test_a_name_two_tenants_take_at_once_is_one_of_theirs(office: Office) -> None:
    async with office.database.transaction() as tx:
        ids = [await tenants.create(tx, office.vault, make.MASTER, name) for name in ("Peony", "Lily")]
    connections = [await office.database.own_connection() for _ in ids]
    try:
        first, second = (connection.transaction() for connection in connections)
        await first.start()
        await second.start()
        await tenants.change(connections[0], ids[0], name="Lotus")
        late = asyncio.create_task(tenants.change(connections[1], ids[1], name="Lotus"))
        await until_waiting(office)
        await first.commit()
        with pytest.raises(Refusal) as refused:
            await late
        await second.rollback()
    finally:
        for connection in connections:
            await connection.close()
    assert refused.value.detail["parameter"] == "name"


WAITING_SQL: LiteralString = "SELECT 1 FROM pg_locks WHERE NOT granted"


async def until_waiting(office: Office) -> None:
    """Return once somebody waits for a lock."""
    async with asyncio.timeout(10):
        while not await office.database.fetch(WAITING_SQL):
            await asyncio.sleep(0)


async def test_two_apps_of_one_name_at_once_or_one_too_many_are_refused(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "APPS_MAX", 3)

    async def one_more(name: str) -> object:
        async with office.database.transaction() as tx:
            return await tenants.create_app(tx, office.tenant_id, name)

    made = await asyncio.gather(*(one_more(f"app {number}") for number in range(6)), return_exceptions=True)
    assert sum(isinstance(each, Refusal) for each in made) == 4
    async with office.database.transaction() as tx:
        ids = [row.id for row in await tenants.apps(tx, office.tenant_id)]
    assert len(ids) == 3

    async def rename(app_id: AppId) -> None:
        async with office.database.transaction() as tx:
            await tenants.rename_app(tx, office.tenant_id, app_id, "one")

    renamed = await asyncio.gather(*(rename(app_id) for app_id in ids), return_exceptions=True)
    assert [type(each) for each in renamed if each is not None] == [Refusal, Refusal]


async def test_two_keys_at_once_do_not_pass_the_bound_together(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "ACTIVE_MAX", 2)

    async def one_more() -> object:
        async with office.database.transaction() as tx:
            return await keys.create(tx, office.vault, office.app_id)

    made = await asyncio.gather(*(one_more() for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(each, Refusal) for each in made) == 4
