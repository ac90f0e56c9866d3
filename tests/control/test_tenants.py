"""Tenants and apps are named once, found by name, and stopped without losing what they were promised."""

from typing import Any

import pytest

import make
from hongyan.control import tenants
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose
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
