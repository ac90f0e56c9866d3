"""The most exact price counts, and a price that could never be found is refused."""

import pytest

from hongyan.control import prices
from hongyan.vocab.errors import Refusal
from hongyan.vocab.message import Purpose, TenantId

from .conftest import Office


async def test_the_most_exact_price_counts(office: Office) -> None:
    async with office.database.transaction() as tx:
        await prices.put(tx, 9)
        await prices.put(tx, 8, country="CN")
        await prices.put(tx, 7, country="CN", operator="cmcc")
        await prices.put(tx, 6, country="CN", operator="cmcc", purpose=Purpose.OTP)
        await prices.put(tx, 5, tenant_id=office.tenant_id, country="CN")
        assert [(row.tenant, row.part_micro) for row in await prices.every(tx)][-1] == ("Orchid", 5)
    snapshot = await office.snapshot()
    stranger = TenantId(99)
    assert snapshot.part_price_micro(stranger, "US", "", Purpose.OTP) == 9
    assert snapshot.part_price_micro(stranger, "CN", "unicom", Purpose.OTP) == 8
    assert snapshot.part_price_micro(stranger, "CN", "cmcc", Purpose.PROMOTIONAL) == 7
    assert snapshot.part_price_micro(stranger, "CN", "cmcc", Purpose.OTP) == 6
    assert snapshot.part_price_micro(office.tenant_id, "CN", "cmcc", Purpose.OTP) == 5


async def test_a_price_set_again_replaces_the_first(office: Office) -> None:
    async with office.database.transaction() as tx:
        await prices.put(tx, 9)
        await prices.put(tx, 4)
        (row,) = await prices.every(tx)
    assert (row.tenant, row.country, row.purpose, row.part_micro) == (None, "*", None, 4)


async def test_a_price_is_told_in_the_currency_of_its_tenant_and_in_none_where_it_counts_for_every_tenant(
    office: Office,
) -> None:
    async with office.database.transaction() as tx:
        await tx.execute("UPDATE tenant SET currency = 'EUR' WHERE id = $1", office.tenant_id)
        put = await prices.put(tx, 5, tenant_id=office.tenant_id)
        every = [await prices.put(tx, 9), put]
        assert await prices.every(tx, office.tenant_id) == every
        assert await prices.remove(tx, tenant_id=office.tenant_id) == put
    assert [row.currency for row in every] == [None, "EUR"]


async def test_an_operator_without_its_country_and_a_negative_price_are_refused(office: Office) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal):
            await prices.put(tx, 1, operator="cmcc")
        with pytest.raises(Refusal):
            await prices.put(tx, -1)
        with pytest.raises(Refusal):
            await prices.put(tx, 10**20)
        with pytest.raises(Refusal):
            await prices.put(tx, 1, country="cn")
