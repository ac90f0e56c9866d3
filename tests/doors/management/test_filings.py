"""Tenants see how far their filings are; people of the platform say it, and the plane flies by it at once."""

from datetime import timedelta

import make
from hongyan import clock
from hongyan.control import filings
from hongyan.control.permissions import Role

from .desk import FOREIGN, KEY, Desk, desk


def path(one: Desk, operator: str = "") -> str:
    return f"/v1/signatures/{one.world.signature_id}/filings" + (f"/{operator}" if operator else "")


async def test_people_of_the_platform_put_a_filing_and_the_tenant_sees_it_with_its_steps(
    database: str,
) -> None:
    async with desk(database) as one:
        end = (filings.today(clock.now()) + timedelta(days=365)).isoformat()
        await one.ask("PUT", path(one, "cmcc"), {"state": "filed"}, as_=Role.REVIEWER)
        reply = await one.ask("PUT", path(one, "cmcc"), {"state": "ok", "valid_until": end})
        assert reply.status == 200, reply.json
        reply = await one.ask("GET", path(one, "cmcc"), as_=Role.OWNER)
        told = reply.json["data"]
        assert (told["filing"]["state"], told["filing"]["valid_until"]) == ("ok", end)
        assert [step["state"] for step in told["steps"]] == ["ok", "filed"]
        reply = await one.ask("GET", path(one), as_=Role.VIEWER)
        states = {row["operator"]: row["state"] for row in reply.json["data"]["items"]}
        assert states == {"cmcc": "ok", "unicom": "none", "telecom": "none", "broadnet": "none"}
        assert (await make.snapshot(one.world)).signatures[one.world.signature_id].filed == {"cmcc"}


async def test_tenants_and_keys_say_nothing_about_filings(database: str) -> None:
    async with desk(database) as one:
        for as_ in (Role.OWNER, Role.SUPPORT, KEY, FOREIGN):
            reply = await one.ask("PUT", path(one, "cmcc"), {"state": "filed"}, as_=as_)
            assert reply.status == 403, as_


async def test_what_is_wrong_is_said(database: str) -> None:
    async with desk(database) as one:
        for operator, body, status in (
            ("verizon", {"state": "filed"}, 404),
            ("cmcc", {"state": "lapsed"}, 409),
            ("cmcc", {"state": "perhaps"}, 400),
            ("cmcc", {"state": "failed"}, 400),
            ("cmcc", {"state": "ok", "valid_until": "2020-01-01"}, 400),
            ("cmcc", {"state": "ok", "valid_until": "tomorrow"}, 400),
            ("cmcc", {"state": "filed", "document_id": 99}, 400),
        ):
            reply = await one.ask("PUT", path(one, operator), body)
            assert reply.status == status, (body, reply.json)
        assert (await one.ask("GET", path(one, "verizon"))).status == 404


async def test_filings_are_listed_by_state_operator_and_end(database: str) -> None:
    async with desk(database) as one:
        end = (filings.today(clock.now()) + timedelta(days=10)).isoformat()
        for operator in ("cmcc", "telecom"):
            await one.ask("PUT", path(one, operator), {"state": "ok", "valid_until": end})
        await one.ask("PUT", path(one, "unicom"), {"state": "filed"})
        reply = await one.ask("GET", "/v1/filings?limit=2")
        first = reply.json["data"]
        assert [row["operator"] for row in first["items"]] == ["cmcc", "telecom"]
        reply = await one.ask("GET", f"/v1/filings?limit=2&cursor={first['next']}", as_=Role.OWNER)
        assert [row["operator"] for row in reply.json["data"]["items"]] == ["unicom"]
        reply = await one.ask("GET", f"/v1/filings?state=ok&until={end}&operator=cmcc", as_=Role.OWNER)
        assert [row["operator"] for row in reply.json["data"]["items"]] == ["cmcc"]
        assert (await one.ask("GET", "/v1/filings", as_=FOREIGN)).json["data"]["items"] == []
        for wrong in ("cursor=x", "cursor=1.%20", "operator=verizon", "until=soon", "limit=0"):
            reply = await one.ask("GET", f"/v1/filings?{wrong}")
            assert reply.status in (400, 404), wrong


async def test_an_operator_s_answer_comes_as_a_file(database: str) -> None:
    async with desk(database) as one:
        head = {"Content-Type": "text/csv"}
        octets = f"signature,state\n#{one.world.signature_id},通过\n无名,通过\n".encode()
        target = "/v1/filings/import?operator=telecom"
        reply = await one.ask("POST", target, octets, as_=Role.REVIEWER, headers=head)
        assert reply.status == 200, reply.json
        told = reply.json["data"]
        assert (told["taken"], told["left_out"], told["faults"][0]["line"]) == (1, 1, 3)
        assert (await make.snapshot(one.world)).signatures[one.world.signature_id].filed == {"telecom"}
        reply = await one.ask("POST", "/v1/filings/import?operator=verizon", octets, headers=head)
        assert reply.status == 404
        reply = await one.ask("POST", target, octets, as_=Role.OWNER, headers=head)
        assert reply.status == 403
