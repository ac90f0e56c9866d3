"""A person sends one message in the name of an app, with no right but to send templates."""

import asyncio
from typing import Any

import make
from doors.management.desk import FOREIGN, KEY, Desk, desk
from hongyan.control.permissions import Role

NUMBER = make.NUMBER


async def asked(d: Desk, **more: Any) -> dict[str, Any]:
    snapshot = await make.snapshot(d.world)
    return {
        "to": NUMBER,
        "signature": snapshot.signatures[d.world.signature_id].name,
        "template": snapshot.templates[d.world.template_id].code,
        "params": {"place": "南门"},
    } | more


def path(d: Desk) -> str:
    return f"/v1/apps/{d.world.app_id}/messages"


async def test_a_person_sends_one_message_as_an_app(database: str) -> None:
    async with desk(database) as d:
        told = await d.ask("POST", path(d), await asked(d, reference="r 1"), as_=Role.MARKETER)
        assert (told.status, told.json["data"]["status"], told.json["data"]["reference"]) == (
            202,
            "accepted",
            "r 1",
        )
        (row,) = await d.fetch("SELECT id, tenant_id, app_id, sandbox FROM message")
        assert str(row["id"]) == told.json["data"]["id"]
        assert (row["tenant_id"], row["app_id"], row["sandbox"]) == (d.world.tenant_id, d.world.app_id, False)
        (kept,) = await d.fetch(
            "SELECT subject, detail::text AS detail FROM audit WHERE action = 'sendAppMessage'"
        )
        assert kept["subject"] == f"app:{d.world.app_id}"
        assert NUMBER[3:] not in kept["detail"]


async def test_people_of_the_platform_say_for_whom(database: str) -> None:
    async with desk(database) as d:
        body = await asked(d)
        assert (await d.ask("POST", path(d), body, as_=Role.OPERATOR)).status == 400
        named = f"{path(d)}?tenant_id={d.world.tenant_id}"
        assert (await d.ask("POST", named, body, as_=Role.OPERATOR)).status == 202
        foreign = f"{path(d)}?tenant_id={d.foreign_id}"
        assert (await d.ask("POST", foreign, body, as_=Role.OPERATOR)).status == 404


async def test_who_may_not_send_sends_nothing(database: str) -> None:
    async with desk(database) as d:
        body = await asked(d)
        for who, status in ((Role.VIEWER, 403), (KEY, 403), (FOREIGN, 404)):
            assert (await d.ask("POST", path(d), body, as_=who)).status == status
        free = {"to": NUMBER, "text": "hello", "purpose": "transactional", "signature": body["signature"]}
        assert (await d.ask("POST", path(d), free, as_=Role.OWNER)).code == "Auth.PermissionDenied"
        suspend = "UPDATE tenant SET active = false WHERE id = $1"
        await d.database.execute(suspend, d.world.tenant_id)
        await d.served.keeper.load()
        named = f"{path(d)}?tenant_id={d.world.tenant_id}"
        assert (await d.ask("POST", named, body, as_=Role.OPERATOR)).code == "Account.Suspended"
        assert await d.fetch("SELECT FROM message") == []


async def test_a_message_that_is_tried_out_reaches_sandbox_numbers_alone(database: str) -> None:
    async with desk(database) as d:
        told = await d.ask("POST", path(d), await asked(d, sandbox=True), as_=Role.DEVELOPER)
        assert told.code == "Number.TestOnly"


async def test_asked_twice_with_one_key_it_is_sent_once(database: str) -> None:
    async with desk(database) as d:
        body, once = await asked(d), {"Idempotency-Key": "1"}
        told = await asyncio.gather(
            *(d.ask("POST", path(d), body, as_=Role.OWNER, headers=once) for _ in range(3))
        )
        again = await d.ask("POST", path(d), body, as_=Role.OWNER, headers=once)
        assert {one.json["data"]["id"] for one in (*told, again)} == {again.json["data"]["id"]}
        other = await d.ask("POST", path(d), body | {"reference": "x"}, as_=Role.OWNER, headers=once)
        assert other.code == "Request.IdempotencyConflict"
        theirs = await d.ask("POST", path(d), body, as_=Role.MARKETER, headers=once)
        assert theirs.status == 202
        rows = await d.fetch("SELECT id FROM message")
        assert len(rows) == 2


async def test_a_message_is_looked_at_as_it_would_leave_and_nothing_is_stored(database: str) -> None:
    async with desk(database) as d:
        told = await d.ask("POST", f"{path(d)}/preview", await asked(d), as_=Role.MARKETER)
        seen = told.json["data"]
        assert told.status == 200
        assert seen["text"].startswith("【")
        assert "南门" in seen["text"]
        assert (seen["part_count"], seen["units"], seen["part_units"]) == (1, len(seen["text"]), 70)
        sent = await d.ask("POST", path(d), await asked(d), as_=Role.MARKETER)
        assert sent.json["data"]["price_micro"] == seen["price_micro"]
        assert len(await d.fetch("SELECT FROM message")) == 1
        assert len(await d.fetch("SELECT FROM audit")) == 1


async def test_a_message_that_would_be_refused_is_refused_when_it_is_looked_at(database: str) -> None:
    async with desk(database) as d:
        where = f"{path(d)}/preview"
        for body, who, code in (
            (await asked(d, to="12"), Role.OWNER, "Number.Invalid"),
            (await asked(d, params={}), Role.OWNER, "Template.MissingVariable"),
            (await asked(d, sandbox=True), Role.OWNER, "Number.TestOnly"),
            (await asked(d), Role.VIEWER, "Auth.PermissionDenied"),
            (await asked(d), KEY, "Auth.PermissionDenied"),
            (await asked(d), FOREIGN, "Request.NotFound"),
        ):
            assert (await d.ask("POST", where, body, as_=who)).code == code
