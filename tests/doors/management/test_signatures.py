"""Tenants propose signatures and see how far they are; people of the platform enable them and give them digits."""

import make
from hongyan.control.permissions import Role

from .desk import FOREIGN, KEY, NOBODY, Desk, desk

PATH = "/v1/signatures"


async def proposed(one: Desk, name: str = "飞鸽") -> int:
    reply = await one.ask("POST", PATH, {"name": name}, as_=Role.OWNER)
    assert reply.status == 201, reply.json
    return int(reply.json["data"]["id"])


async def test_a_tenant_proposes_changes_withdraws_and_sees_its_own(database: str) -> None:
    async with desk(database) as one:
        number = await proposed(one)
        reply = await one.ask("GET", f"{PATH}/{number}", as_=Role.VIEWER)
        told = reply.json["data"]
        assert (told["name"], told["state"], told["source"]) == ("飞鸽", "reviewing", "company")
        assert told["filings"] == {"cmcc": "none", "unicom": "none", "telecom": "none", "broadnet": "none"}
        reply = await one.ask("PATCH", f"{PATH}/{number}", {"name": "信鸽"}, as_=Role.DEVELOPER)
        assert (reply.status, reply.json["data"]["name"]) == (200, "信鸽")
        reply = await one.ask("POST", f"{PATH}/{number}/withdraw", as_=Role.OWNER)
        assert reply.json["data"]["state"] == "canceled"
        reply = await one.ask("PATCH", f"{PATH}/{number}", {}, as_=Role.OWNER)
        assert reply.json["data"]["state"] == "reviewing"


async def test_lists_are_paged_and_counted(database: str) -> None:
    async with desk(database) as one:
        numbers = [await proposed(one, f"飞鸽{n}") for n in range(3)]
        reply = await one.ask("GET", f"{PATH}?state=reviewing&limit=2", as_=Role.OWNER)
        first = reply.json["data"]
        assert [row["id"] for row in first["items"]] == numbers[:2]
        assert (first["counts"]["reviewing"], first["counts"]["approved"]) == (3, 1)
        reply = await one.ask("GET", f"{PATH}?state=reviewing&limit=2&cursor={first['next']}", as_=Role.OWNER)
        assert [row["id"] for row in reply.json["data"]["items"]] == numbers[2:]
        assert reply.json["data"]["next"] is None
        reply = await one.ask("GET", PATH, as_=FOREIGN)
        assert reply.json["data"]["items"] == []


async def test_another_tenants_signature_is_not_found_by_any_route(database: str) -> None:
    async with desk(database) as one:
        number = await proposed(one)
        for method, target, body in (
            ("GET", f"{PATH}/{number}", b""),
            ("PATCH", f"{PATH}/{number}", {"name": "信鸽"}),
            ("POST", f"{PATH}/{number}/withdraw", b""),
            ("GET", f"{PATH}/{number}/extensions", b""),
            ("GET", f"{PATH}/{number}/filings", b""),
            ("GET", f"{PATH}/{number}/filings/cmcc", b""),
        ):
            reply = await one.ask(method, target, body, as_=FOREIGN)
            assert (reply.status, reply.json["code"]) == (404, "Request.NotFound"), target


async def test_who_may_not_is_refused(database: str) -> None:
    async with desk(database) as one:
        number = await proposed(one)
        for as_, method, target, body, status in (
            (NOBODY, "GET", PATH, b"", 401),
            (Role.VIEWER, "POST", PATH, {"name": "信鸽"}, 403),
            (Role.OWNER, "PUT", f"{PATH}/{number}/state", {"state": "disabled"}, 403),
            (Role.OWNER, "PUT", f"{PATH}/{number}/extension", {"extension": "1"}, 403),
            (KEY, "PUT", f"{PATH}/{number}/extensions/1", {}, 403),
        ):
            reply = await one.ask(method, target, body, as_=as_)
            assert reply.status == status, (as_, target, reply.json)


async def test_nonsense_is_refused_by_name(database: str) -> None:
    async with desk(database) as one:
        for body in ({"name": "通知"}, {"name": "雁"}, {"name": "鸿雁!"}, {"name": "飞鸽", "document_ids": [99]},
                     {"name": "飞鸽", "source": "friend"}, {}, {"name": "飞鸽", "extension": "1"}):  # fmt: skip
            reply = await one.ask("POST", PATH, body, as_=Role.OWNER)
            assert reply.status == 400, body


async def test_people_of_the_platform_disable_and_enable_what_was_approved_and_nothing_else(
    database: str,
) -> None:
    async with desk(database) as one:
        target = f"{PATH}/{one.world.signature_id}/state"
        reply = await one.ask("PUT", target, {"state": "disabled", "reason": "complaints"})
        assert (reply.json["data"]["state"], reply.json["data"]["reason"]) == ("disabled", "complaints")
        reply = await one.ask("PUT", target, {"state": "approved"}, as_=Role.REVIEWER)
        assert reply.json["data"]["state"] == "approved"
        number = await proposed(one)
        reply = await one.ask("PUT", f"{PATH}/{number}/state", {"state": "approved"})
        assert (reply.status, reply.json["code"]) == (409, "Request.Conflict")


async def test_a_signature_gets_digits_of_its_own_and_the_plane_takes_them_up(database: str) -> None:
    async with desk(database) as one:
        async with one.database.transaction() as tx:
            await make.channel(tx, one.world.vault, extension_digits=4)
            channel = await make.channel(tx, one.world.vault, extension_digits=4, access_number="1065")
        target = f"{PATH}/{one.world.signature_id}/extensions/{channel}"
        reply = await one.ask("PUT", target, {})
        (given,) = reply.json["data"]["items"]
        assert (given["extension"], given["access_number"]) == ("0001", "1065")
        known = (await make.snapshot(one.world)).signatures[one.world.signature_id]
        assert known.extensions == {channel: "0001"}
        reply = await one.ask("PUT", f"{PATH}/{one.world.signature_id}/extension", {"extension": "0001"})
        assert reply.json["data"]["extension"] == "0001"
        reply = await one.ask("DELETE", target)
        assert reply.json["data"]["items"] == []
        reply = await one.ask("DELETE", target)
        assert reply.status == 404
        reply = await one.ask("POST", f"/v1/channels/{channel}/extensions")
        assert reply.json["data"] == {"assigned": 1, "lacking": 0}
        assert (await one.ask("POST", "/v1/channels/999/extensions")).status == 404
