"""Rules are kept in order, and a dry run says what a gateway then does."""

from datetime import timedelta
from typing import Any, Final

import msgspec
import pytest

import make
from doors.management.desk import desk
from doors.management.fleet import Fleet, fleet
from hongyan import clock
from hongyan.control.permissions import Role
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.message import Purpose
from hongyan.way import optout
from plane import add_channel, awake

NUMBER: Final = "+8613800138000"


async def data(one: Any, method: str, target: str, body: object = b"") -> Any:
    reply = await one.ask(method, target, body)
    assert reply.status in (200, 201), reply.json
    return reply.json["data"]


# ---- rules


async def test_rules_are_added_changed_rested_and_removed(database: str) -> None:
    async with desk(database) as one:
        channel_id = one.world.channel_id
        first = (await data(one, "GET", "/v1/routes"))["items"][0]
        asked = {
            "channel_id": channel_id,
            "country": "CN",
            "operator": "cmcc",
            "purpose": "otp",
            "priority": 5,
        }
        made = await data(one, "POST", "/v1/routes", asked)
        listed = (await data(one, "GET", "/v1/routes"))["items"]
        assert [rule["id"] for rule in listed] == [made["id"], first["id"]]
        target = f"/v1/routes/{made['id']}"
        changed = await data(one, "PATCH", target, {"operator": None, "weight": 3})
        assert (changed["operator"], changed["weight"], changed["purpose"]) == (None, 3, "otp")
        await data(one, "PATCH", target, {"active": False})
        assert {rule.id for rule in (await one.served.keeper.load()).rules} == {first["id"]}
        assert not (await data(one, "GET", target))["active"]
        await data(one, "DELETE", target)
        assert (await one.ask("GET", target)).status == 404
        assert (await one.ask("PATCH", target, {"active": True})).status == 404


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2190-01-01T00:00:00+08:00"])
async def test_a_dry_run_at_the_end_of_time_is_refused(database: str, at: str) -> None:
    async with desk(database) as one:
        asked = {"tenant_id": one.world.tenant_id, "to": NUMBER, "purpose": "promotional", "at": at}
        reply = await one.ask("POST", "/v1/routes/dry-run", asked)
        assert (reply.status, reply.json["detail"]["parameter"]) == (400, "at")


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"operator": "mobile"}, "operator"),
        ({"operator": "Vodafone", "country": "GB"}, "operator"),
        ({"channel_id": 999_999}, "channel_id"),
        ({"tenant_id": 999_999}, "tenant_id"),
    ],
)
async def test_a_rule_that_could_never_speak_is_refused(
    database: str, change: dict[str, Any], parameter: str
) -> None:
    async with desk(database) as one:
        refused = await one.ask("POST", "/v1/routes", {"channel_id": one.world.channel_id} | change)
        assert (refused.status, refused.json["detail"]["parameter"]) == (400, parameter)
        assert (await one.ask("POST", "/v1/routes", {"channel_id": 1, "weight": -1})).status == 400


async def test_rules_are_put_in_another_order_whole_or_not_at_all(database: str) -> None:
    async with desk(database) as one:
        channel_id = one.world.channel_id
        old = (await data(one, "GET", "/v1/routes"))["items"][0]["id"]
        made = [(await data(one, "POST", "/v1/routes", {"channel_id": channel_id}))["id"] for _ in range(2)]
        ordered = await data(one, "POST", "/v1/routes/reorder", {"groups": [[made[1]], [old, made[0]]]})
        assert [(rule["id"], rule["priority"]) for rule in ordered["items"]] == [
            (made[1], 10),
            (old, 20),
            (made[0], 20),
        ]
        for groups in ([[made[1]]], [[made[1], old, made[0], made[0]]], [[*made, old, 999_999]]):
            refused = await one.ask("POST", "/v1/routes/reorder", {"groups": groups})
            assert refused.status == 409


async def test_support_may_ask_what_would_become_of_a_message_and_a_tenant_may_not(database: str) -> None:
    async with desk(database) as one:
        asked = {"tenant_id": one.world.tenant_id, "to": NUMBER}
        assert (await one.ask("POST", "/v1/routes/dry-run", asked, as_=Role.SUPPORT)).status == 200
        assert (await one.ask("POST", "/v1/routes/dry-run", asked, as_=Role.OWNER)).status == 403
        before = await one.fetch("SELECT count(*) AS count FROM message")
        assert before[0]["count"] == 0


# ---- dry runs


async def ask(both: Fleet, to: str = NUMBER, **question: Any) -> Any:
    await both.desk.served.keeper.load()
    asked = {"tenant_id": both.way.tenant_id, "to": to} | question
    return await data(both.desk, "POST", "/v1/routes/dry-run", asked)


async def really(
    both: Fleet, to: str = NUMBER, purpose: Purpose = Purpose.TRANSACTIONAL, **fields: Any
) -> Any:
    """Send such a message; returns the decision that is kept with it."""
    message_id = await both.way.send(to, purpose, **fields)
    row = await both.way.final(message_id)
    number = msgspec.json.decode(row["attempts"])[0][-1]
    kept = await both.way.until("SELECT trace FROM decision WHERE id = $1", number)
    return msgspec.json.decode(kept["trace"]), row


async def test_a_dry_run_says_what_the_gateway_then_does(database: str) -> None:
    quick = behaviour.parse("report_delay_s=0.01")
    async with Simulator(quick) as first, Simulator(quick) as second, fleet(database, first, second) as both:
        east, west = both.way.laid.channels
        await both.stands(east, "up")
        await both.stands(west, "up")
        for place, (order, purpose) in enumerate(
            [
                ("SELECT 1", Purpose.TRANSACTIONAL),
                ("UPDATE route_rule SET purpose = 0 WHERE channel_id = $1", Purpose.TRANSACTIONAL),
                (
                    "UPDATE route_rule SET purpose = NULL, operator = 'unicom' WHERE channel_id = $1",
                    Purpose.OTP,
                ),
                ("UPDATE route_rule SET operator = 'cmcc' WHERE channel_id = $1", Purpose.OTP),
                ("UPDATE channel SET paused = true WHERE id = $1", Purpose.TRANSACTIONAL),
            ]
        ):
            await both.way.database.execute(order, *([east] if "$1" in order else []))
            await both.way.keeper.load()
            if place == 4:
                await both.stands(east, "paused")
                await both.way.holds(lambda: not both.way.gateway.lines.open[east].up)
                await both.way.until(
                    "SELECT 1 FROM channel_state WHERE channel_id = $1 AND NOT (told->>'takes')::bool", east
                )
            to = f"+861380013{place:04d}"
            said = await ask(both, to, template=purpose.value, signature=both.way.signature)
            trace, row = await really(both, to, purpose)
            assert said["trace"] == trace, (place, said)
            assert said["verdict"] == "leaves"
            assert said["price_micro"] == row["price_micro"]
            assert (said["country"], said["operator"]) == (row["country"], row["operator"])
            assert to not in str(said)


async def test_a_channel_that_a_text_does_not_fit_is_passed_over_as_the_gateway_does(database: str) -> None:
    quick = behaviour.parse("report_delay_s=0.01")
    async with Simulator(quick) as first, Simulator(quick) as second, fleet(database, first) as both:
        await both.stands(both.way.laid.channels[0], "up")
        text = "门" * 130  # signed just two parts, and three where a header takes an octet more
        async with both.way.database.transaction() as tx:
            other = await add_channel(tx, both.way.vault, second.port, priority=-1, split="udh16")
            await make.template(tx, tenant_id=both.way.tenant_id, code="tight", body=text)
        await both.way.keeper.load()
        both.way.key = both.way.keeper.current.keys[both.way.key.key_id]
        await both.stands(other, "up")
        said = await ask(both, template="tight", signature=both.way.signature)
        trace, row = await really(both, template="tight", params={})
        assert (said["part_count"], row["part_count"]) == (2, 2)
        whys = {one["channel_id"]: one["why"] for one in said["channels"]}
        assert said["trace"] == trace
        assert whys[other] == "parts"


async def test_channels_that_share_the_load_are_told_with_their_shares(database: str) -> None:
    quick = behaviour.parse("report_delay_s=0.01")
    async with Simulator(quick) as first, Simulator(quick) as second, fleet(database, first, second) as both:
        east, west = both.way.laid.channels
        await both.way.database.execute(
            "UPDATE route_rule SET priority = 0, weight = 3 WHERE channel_id = $1", east
        )
        await both.way.database.execute(
            "UPDATE route_rule SET priority = 0, weight = 1 WHERE channel_id = $1", west
        )
        await both.way.keeper.load()
        await both.stands(east, "up")
        await both.stands(west, "up")
        said = await ask(both)
        shares = {one["channel_id"]: one["share"] for one in said["channels"]}
        assert (shares[east], shares[west]) == (0.75, 0.25)
        assert {one["currency"] for one in said["channels"]} == {"CNY"}
        assert said["channels"][0]["why"] == "chosen"
        assert said["channels"][1]["why"] == "shared by weight"


async def test_codes_are_told_to_go_where_codes_are_entered_as_the_gateway_sends_them(database: str) -> None:
    quick = behaviour.parse("report_delay_s=0.01")
    async with Simulator(quick) as first, Simulator(quick) as second, fleet(database, first, second) as both:
        east, west = both.way.laid.channels
        await both.way.database.execute("UPDATE route_rule SET priority = 0")
        await both.way.database.execute(
            "INSERT INTO conversion VALUES ($1, 'CN', 'cmcc', '', 10, 190, 0, $3), ($2, 'CN', 'cmcc', '', 150, 50, 0, $3)",
            east, west, clock.now_s(),
        )  # fmt: skip
        await both.way.keeper.load()
        await both.way.gateway.look_at_conversions()
        await both.stands(east, "up")
        await both.stands(west, "up")
        said = await ask(both, purpose="otp")
        stood = {one["channel_id"]: one for one in said["channels"]}
        assert stood[west]["share"] >= 0.9
        assert (stood[west]["why"], stood[east]["why"]) == ("chosen", "verified 10 %")
        assert said["trace"]["route"]["for"]["province"] == "CN-BJ"
        notices = {one["channel_id"]: one["share"] for one in (await ask(both))["channels"]}
        assert (notices[east], notices[west]) == (0.5, 0.5)


async def test_a_failing_channel_is_passed_over_in_both(database: str) -> None:
    bad = behaviour.parse("report_delay_s=0.01 state=UNDELIV err=MK:0015")
    async with (
        Simulator(bad) as first,
        Simulator(behaviour.parse("report_delay_s=0.01")) as second,
        fleet(database, first, second) as both,
    ):
        east, west = both.way.laid.channels
        await both.stands(west, "up")
        health = both.way.gateway.lines.open[east].health_of("CN", "cmcc")
        health.success, health.weight = 0.1, 200.0
        health.probed_at_s = both.way.gateway.pump.loop.time() + 1_000  # nobody is sent to see just now
        await both.way.until(
            "SELECT 1 FROM channel_state WHERE channel_id = $1 AND (told#>>'{health,CNcmcc,success}')::float < 0.2",
            east,
        )
        said = await ask(both, template="transactional")
        trace, _ = await really(both)
        assert said["trace"] == trace
        assert {one["channel_id"]: one["why"] for one in said["channels"]}[east] == "failing"


async def test_the_rules_that_would_speak_are_told_and_nothing_is_stored(database: str) -> None:
    async with Simulator(behaviour.parse("report_delay_s=0.01")) as operator:
        limits = '{"otp": [1, 0, 0], "transactional": [0, 0, 0], "promotional": [0, 0, 0]}'
        async with fleet(database, operator) as both:
            await both.stands(both.way.laid.channels[0], "up")
            await both.way.database.execute(
                "UPDATE tenant SET limits = $2 WHERE id = $1", both.way.tenant_id, limits
            )
            await both.way.keeper.load()
            both.way.key = both.way.keeper.current.keys[both.way.key.key_id]

            async def refusals(**question: Any) -> dict[str, str]:
                said = await ask(both, **question)
                assert said["verdict"] == (
                    "refused" if any(r["says"] == "refuses" for r in said["rules"]) else "leaves"
                )
                return {rule["rule"]: rule["code"] for rule in said["rules"] if rule["says"] == "refuses"}

            codes = {"template": "otp", "signature": both.way.signature}
            assert await refusals(**codes) == {}
            assert await refusals(**codes) == {}  # asking counts for nothing
            await both.way.final(await both.way.send(NUMBER, Purpose.OTP))
            assert await refusals(**codes) == {"frequency": "Limit.Minute"}
            index = both.way.vault.phone_index(NUMBER)
            async with both.way.database.transaction() as tx:
                await optout.stop(tx, [optout.Suppressed(index, both.way.tenant_id, "STOP")])
            assert await refusals(template="transactional") == {}
            to = awake(0)
            promotional = await ask(both, to, template="promotional")
            assert promotional["rules"][-3]["rule"] == "suppression"
            assert (await refusals(template="none"))["door"] == "Template.NotFound"
            day = clock.now().date() + timedelta(days=30)
            night = f"{day}T23:30:00+08:00"
            said = await ask(both, "+8613800138001", template="promotional", at=night)
            assert (said["verdict"], said["waits_for"]) == ("waits", "hours")
            (hours,) = [rule for rule in said["rules"] if rule["rule"] == "hours"]
            assert hours["until"] == f"{day + timedelta(days=1)}T00:00:00Z"
            said = await ask(both, template="promotional", at=f"{day}T12:00:00+08:00")
            assert [r["code"] for r in said["rules"] if r["says"] == "refuses"] == ["Number.Unsubscribed"]
            bad = await both.desk.ask(
                "POST", "/v1/routes/dry-run", {"tenant_id": both.way.tenant_id, "to": "123"}
            )
            assert (bad.status, bad.code) == (400, "Number.Invalid")
            assert await both.way.database.fetch("SELECT count(*) AS n FROM message") == [(1,)]


async def test_without_a_gateway_that_tells_a_message_would_wait(database: str) -> None:
    async with desk(database) as one:
        said = await data(one, "POST", "/v1/routes/dry-run", {"tenant_id": one.world.tenant_id, "to": NUMBER})
        assert (said["verdict"], said["waits_for"], said["gateways"]) == ("waits", "channel", 0)
        assert said["channels"][0]["why"] == "down"
        assert said["channels"][0]["takes"] is None


async def test_a_template_without_values_is_asked_about_with_samples(database: str) -> None:
    async with desk(database) as one:
        async with one.database.transaction() as tx:
            variables = '{"a": {"kind": "code"}, "b": {"kind": "name"}, "c": {"kind": "email"}, "d": {"kind": "link_part"}}'
            await make.template(
                tx,
                tenant_id=one.world.tenant_id,
                code="all",
                body="${a} ${b} ${c} ${d} ${e}",
                variables=variables,
            )
        await one.served.keeper.load()
        asked = {"tenant_id": one.world.tenant_id, "to": NUMBER, "template": "all"}
        said = await data(one, "POST", "/v1/routes/dry-run", asked)
        assert [rule for rule in said["rules"] if rule["says"] == "refuses"] == []
