"""A route rule is read by the plane as it was said; what was left open fits everything."""

import pytest

from hongyan.control import routes, upstreams
from hongyan.vocab.errors import Refusal
from hongyan.vocab.message import Purpose, TenantId
from hongyan.way import route

from .conftest import Office


async def test_the_plane_goes_by_the_rules_in_their_order(office: Office) -> None:
    async with office.database.transaction() as tx:
        east = await upstreams.add_channel(tx, office.vault, name="east", kind="loopback", settings={})
        west = await upstreams.add_channel(tx, office.vault, name="west", kind="loopback", settings={})
        await routes.add(tx, east)
        await routes.add(
            tx,
            west,
            priority=10,
            weight=3,
            tenant_id=office.tenant_id,
            country="CN",
            operator="cmcc",
            purpose=Purpose.OTP,
        )
        first, second = await routes.every(tx)
    assert (first.channel, first.tenant, first.operator, first.purpose) == (
        "west",
        "Orchid",
        "cmcc",
        Purpose.OTP,
    )
    assert (second.channel, second.tenant, second.country, second.purpose) == ("east", None, None, None)
    snapshot = await office.snapshot()
    codes = route.Want(office.tenant_id, "CN", "cmcc", Purpose.OTP, sandbox=True)
    other = route.Want(TenantId(99), "CN", "cmcc", Purpose.OTP, sandbox=True)
    assert [each.channel_id for each in route.candidates(codes, snapshot)] == [west, east]
    assert [each.channel_id for each in route.candidates(other, snapshot)] == [east]


async def test_a_removed_rule_leads_nowhere(office: Office) -> None:
    async with office.database.transaction() as tx:
        east = await upstreams.add_channel(tx, office.vault, name="east", kind="loopback", settings={})
        rule_id = await routes.add(tx, east)
        await routes.remove(tx, rule_id)
        with pytest.raises(Refusal):
            await routes.remove(tx, rule_id)
    assert not (await office.snapshot()).rules
