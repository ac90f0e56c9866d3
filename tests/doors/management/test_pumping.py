"""The pumping guard over the API: a tenant sees and opens its own, people of the platform see all."""

from datetime import timedelta

from doors.management.desk import FOREIGN, Desk, desk
from hongyan import clock
from hongyan.control import alarms
from hongyan.control.permissions import Role
from hongyan.otp import meter, pumping
from hongyan.otp.pumping import Ask, Ended, Rules, Wards
from hongyan.vocab.message import TenantId

PREFIX = "+23276123"


async def pumped(one: Desk, tenant_id: TenantId, asks: int = 30) -> None:
    """Have a prefix asked for until it is alarmed, and some more."""
    now_s = clock.now_s()
    async with one.database.transaction() as tx:
        ask = Ask(tenant_id, 1, "SL", PREFIX, known=False)
        for turn in range(2):
            held = await Wards.lock(tx, [ask], now_s)
            for _ in range(asks):
                judgement = held.judge(ask, Rules(), 45_000, now_s)
                if judgement.level:
                    held.blocked(ask, judgement, 45_000, now_s)
                else:
                    held.sent(ask, 45_000, now_s)
            await held.store(tx)
            if turn == 0:
                ended = Ended(tenant_id, "SL", PREFIX, False, 0, 1e6)
                await pumping.matured(tx, [ended] * 14, now_s)


async def test_a_tenant_sees_its_wards_and_the_platform_everybody_s(database: str) -> None:
    async with desk(database) as one:
        await pumped(one, one.world.tenant_id)
        await pumped(one, one.foreign_id)
        mine = (await one.ask("GET", "/v1/pumping/wards?turned=true", as_=Role.OWNER)).json["data"]["items"]
        assert [(row["tenant_id"], row["prefix"], row["turn"]) for row in mine] == [
            (one.world.tenant_id, "", "alarmed"),
            (one.world.tenant_id, PREFIX, "alarmed"),
        ]
        assert mine[1]["alarm_at"] == 13.816
        seen, cursor = [], ""
        while True:
            page = (await one.ask("GET", f"/v1/pumping/wards?limit=1{cursor}")).json["data"]
            seen += [(row["tenant_id"], row["prefix"]) for row in page["items"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next'].replace('+', '%2B')}"
        assert seen == [
            (each, prefix) for each in (one.world.tenant_id, one.foreign_id) for prefix in ("", PREFIX)
        ]
        for wrong in ("x", "1", f"{one.foreign_id}.SL."):
            refused = await one.ask("GET", f"/v1/pumping/wards?cursor={wrong}", as_=Role.OWNER)
            assert refused.status == 400


async def test_a_release_opens_a_prefix_again_and_is_nobody_else_s(database: str) -> None:
    async with desk(database) as one:
        await pumped(one, one.world.tenant_id)
        body = {"country": "SL", "prefix": PREFIX, "baseline": 0.4}
        assert (await one.ask("POST", "/v1/pumping/wards/release", body, as_=FOREIGN)).status == 404
        released = await one.ask("POST", "/v1/pumping/wards/release", body, as_=Role.DEVELOPER)
        assert (released.json["data"]["turn"], released.json["data"]["baseline"]) == ("clear", 0.4)
        for wrong in ({"country": "sl"}, {"country": "SL", "prefix": "23276"}, body | {"baseline": 2}):
            assert (await one.ask("POST", "/v1/pumping/wards/release", wrong, as_=Role.OWNER)).status == 400
        (told,) = await one.fetch("SELECT actor, detail FROM audit WHERE action = 'releaseWard'")
        assert "0.4" in told["detail"]


async def test_the_block_log_is_a_statement_of_what_was_saved(database: str) -> None:
    async with desk(database) as one:
        await pumped(one, one.world.tenant_id)
        said = (await one.ask("GET", "/v1/pumping/withheld", as_=Role.VIEWER)).json["data"]
        assert said["challenged"] > 0
        assert (
            said["would_cost_micro"] == said["saved_micro"] == 45_000 * (said["challenged"] + said["refused"])
        )
        assert said["lines"][0]["prefix"] == PREFIX
        assert (await one.ask("GET", "/v1/pumping/withheld", as_=FOREIGN)).json["data"]["lines"] == []
        elsewhere = await one.ask("GET", "/v1/pumping/withheld?country=CN", as_=Role.OWNER)
        assert elsewhere.json["data"]["challenged"] == 0
        long_ago = (clock.now() - timedelta(days=200)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert (await one.ask("GET", f"/v1/pumping/withheld?from={long_ago}", as_=Role.OWNER)).status == 400


async def test_prefixes_are_let_by_and_no_more(database: str) -> None:
    async with desk(database) as one:
        added = await one.ask("POST", "/v1/pumping/allowed", {"prefix": "+23276"}, as_=Role.OWNER)
        assert added.json["data"]["prefixes"] == ["+23276"]
        assert (await one.ask("GET", "/v1/pumping/allowed", as_=FOREIGN)).json["data"]["prefixes"] == []
        remove = "/v1/pumping/allowed/remove"
        assert (await one.ask("POST", remove, {"prefix": "+23276"}, as_=FOREIGN)).status == 404
        gone = await one.ask("POST", remove, {"prefix": "+23276"}, as_=Role.OWNER)
        assert gone.json["data"]["prefixes"] == []
        for wrong in ("+", "23276", "+0123", "+23276x", "+" + "1" * 20):
            assert (
                await one.ask("POST", "/v1/pumping/allowed", {"prefix": wrong}, as_=Role.OWNER)
            ).status == 400


async def test_the_meter_and_the_curve_are_shown(database: str) -> None:
    async with desk(database) as one:
        async with one.database.transaction() as tx:
            await meter.missed(tx, {one.world.tenant_id: 0.002}, clock.now_s())
        shown = (await one.ask("GET", "/v1/pumping/guessing", as_=Role.OWNER)).json["data"]
        assert (shown["expected_hits"], shown["level"]) == (0.002, "longer")
        assert (await one.ask("GET", "/v1/pumping/guessing", as_=FOREIGN)).json["data"]["level"] == "calm"
        curve = (await one.ask("GET", "/v1/pumping/curve", as_=Role.OWNER)).json["data"]
        assert curve["points"][0] == {"conversion": 0.0, "alarmed": 1.0, "codes_median": 13}


async def test_alarms_tell_of_pumping_guessing_and_a_budget_that_runs_out(database: str) -> None:
    async with desk(database) as one:
        await pumped(one, one.world.tenant_id)
        rich, ask = (
            Rules(budget_day_micro=10**9, budgets={"SL": 2_000_000}),
            Ask(one.world.tenant_id, 1, "SL", PREFIX, True),
        )
        async with one.database.transaction() as tx:
            await meter.missed(tx, {one.world.tenant_id: 0.002}, clock.now_s())
            held = await Wards.lock(tx, [ask], clock.now_s())
            held.judge(ask, rich, 1_300_000, clock.now_s())
            held.sent(ask, 1_300_000, clock.now_s())
            await held.store(tx)
        async with one.database.transaction() as tx:
            await tx.execute("UPDATE channel SET paused = true")
            await alarms.look(tx, alarms.Watch(), clock.now_s())
            found = {row.kind.value: row for row in await alarms.page(tx, None)}
        assert found.keys() == {"pumping", "guessing", "code_budget"}
        assert (found["pumping"].value, found["pumping"].subject) == (2, f"codes:{one.world.tenant_id}/SL")
        assert 0.8 < found["code_budget"].value < 1.0
