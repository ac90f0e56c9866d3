"""The overview counts today, and says what needs a person: to a tenant its own."""

import make
from doors.management.desk import FOREIGN, desk
from hongyan import clock
from hongyan.control.permissions import Role
from hongyan.vocab.message import Status


async def test_the_overview_shows_a_tenant_its_own_and_the_platform_everything(database: str) -> None:
    async with desk(database) as one:
        async with one.database.transaction() as tx:
            hour = clock.now().replace(minute=0, second=0, microsecond=0)
            await make.tally(tx, one.world, status=Status.ACCEPTED, messages=5, hour=hour)
            await make.tally(tx, one.world, status=Status.DELIVERED, messages=4, hour=hour)
            await tx.execute(
                "INSERT INTO review (tenant_id, kind, subject, title) VALUES ($1, 'signature', 1, 'x')",
                one.world.tenant_id,
            )
        own = (await one.ask("GET", "/v1/overview", as_=Role.VIEWER)).json["data"]
        assert (own["today"]["accepted"], own["today"]["delivery_rate"]) == (5, 1.0)
        assert own["balance_micro"] == 1_000_000_000
        assert own["needs"] == [{"what": "reviews", "count": 1}]
        whole = (await one.ask("GET", "/v1/overview")).json["data"]
        assert (whole["today"]["accepted"], whole["balance_micro"]) == (5, None)
        foreign = (await one.ask("GET", "/v1/overview", as_=FOREIGN)).json["data"]
        assert (foreign["today"], foreign["needs"]) == (None, [])


async def test_alarms_of_the_platform_need_nobody_of_a_tenant(database: str) -> None:
    async with desk(database) as one:
        async with one.database.transaction() as tx:
            rule = await tx.fetchval("SELECT min(id) FROM alarm_rule WHERE tenant_id IS NULL")
            await tx.execute(
                "INSERT INTO alarm (rule_id, tenant_id, subject, name, value, worst, raised_at, told_at) "
                "VALUES ($1, $2, 'x', 'x', 1, 1, now(), now())",
                rule, one.world.tenant_id,
            )  # fmt: skip
        assert (await one.ask("GET", "/v1/overview", as_=Role.OWNER)).json["data"]["needs"] == []
        assert (await one.ask("GET", "/v1/alarms", as_=Role.OWNER)).json["data"]["items"] == []
        assert {"what": "alarms", "count": 1} in (await one.ask("GET", "/v1/overview")).json["data"]["needs"]
