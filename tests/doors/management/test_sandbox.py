"""Somebody answers on the sandbox's phone, and it comes in as what people text."""

from typing import Any

import make
from doors.management.desk import FOREIGN, KEY, Desk, desk
from hongyan.control.permissions import Role
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import MessageId, Status

PHONE = "+8619900000000"
PATH = "/v1/sandbox/replies"


async def arrived(d: Desk, *, number: str = PHONE, status: Status = Status.DELIVERED, **more: Any) -> str:
    columns = {"sandbox": True, "channel_id": d.world.channel_id} | more
    async with d.database.transaction() as tx:
        made: MessageId = await make.message(tx, d.world, number=number, status=status, **columns)
    return str(made)


def said(message_id: str, text: str) -> dict[str, str]:
    return {"message_id": message_id, "text": text}


async def test_a_reply_comes_in_as_a_text_to_the_app_that_wrote(database: str) -> None:
    async with desk(database, pushes=True) as d:
        message_id = await arrived(d)
        told = await d.ask("POST", PATH, said(message_id, "好的"), as_=Role.DEVELOPER)
        assert told.status == 201
        letter = told.json["data"]
        assert (letter["message_id"], letter["text"], letter["opt_out"]) == (message_id, "好的", False)
        assert letter["number"].startswith("+86199****")
        listed = await d.ask("GET", "/v1/inbound", as_=Role.OWNER)
        assert [one["id"] for one in listed.json["data"]["items"]] == [letter["id"]]
        (owed,) = await d.fetch("SELECT app_id, kind, message_id FROM notice")
        assert (owed["app_id"], str(owed["message_id"])) == (d.world.app_id, letter["id"])


async def test_a_stop_on_the_phone_is_heard_and_taken_back(database: str) -> None:
    async with desk(database, pushes=True) as d:
        message_id = await arrived(d)
        told = await d.ask("POST", PATH, said(message_id, "退订"), as_=Role.OWNER)
        assert told.json["data"]["opt_out"] is True
        (row,) = await d.fetch("SELECT phone_index, tenant_id FROM suppression")
        assert (row["phone_index"], row["tenant_id"]) == (d.world.vault.phone_index(PHONE), d.world.tenant_id)
        assert (await d.ask("POST", PATH, said(message_id, "START"), as_=Role.OWNER)).status == 201
        assert await d.fetch("SELECT FROM suppression") == []


async def test_what_is_typed_twice_comes_in_twice(database: str) -> None:
    async with desk(database, pushes=True) as d:
        message_id = await arrived(d)
        told = [await d.ask("POST", PATH, said(message_id, "在吗"), as_=KEY) for _ in range(2)]
        assert len({one.json["data"]["id"] for one in told}) == 2


async def test_a_reply_is_heard_by_nobody_else_who_wrote_to_that_number(database: str) -> None:
    async with desk(database, pushes=True) as d:
        message_id = await arrived(d)
        await arrived(d, tenant_id=d.foreign_id)  # later, from the same access number
        assert (await d.ask("POST", PATH, said(message_id, "退订"), as_=Role.OWNER)).status == 201
        rows = await d.fetch("SELECT tenant_id FROM inbound UNION SELECT tenant_id FROM suppression")
        assert [row["tenant_id"] for row in rows] == [d.world.tenant_id]


async def test_only_what_arrived_on_the_sandboxs_phone_is_answered(database: str) -> None:
    async with desk(database, pushes=True) as d:
        message_id = await arrived(d)
        for body, who, code in (
            (said(message_id, "hi"), FOREIGN, "Request.NotFound"),
            (said(message_id, "hi"), Role.VIEWER, "Auth.PermissionDenied"),
            (said(message_id, ""), Role.OWNER, "Request.InvalidParameter"),
            (said(message_id, "长" * 671), Role.OWNER, "Request.InvalidParameter"),
            (said(await arrived(d, sandbox=False), "hi"), Role.OWNER, "Number.TestOnly"),
            (said(await arrived(d, status=Status.ACCEPTED), "hi"), Role.OWNER, "Request.Conflict"),
            (
                said(await arrived(d, status=Status.UNDELIVERED, cause=Cause.ABSENT), "hi"),
                Role.OWNER,
                "Request.Conflict",
            ),
            (said(await arrived(d, number=make.NUMBER), "hi"), Role.OWNER, "Request.Conflict"),
            (said(await arrived(d, sealed=None), "hi"), Role.OWNER, "Request.Conflict"),
        ):
            assert (await d.ask("POST", PATH, body, as_=who)).code == code
        assert await d.fetch("SELECT FROM inbound") == []


async def test_the_audit_keeps_who_answered_and_not_what(database: str) -> None:
    async with desk(database, pushes=True) as d:
        message_id = await arrived(d)
        await d.ask("POST", PATH, said(message_id, "秘密"), as_=Role.OWNER)
        (kept,) = await d.fetch(
            "SELECT subject, detail::text AS detail FROM audit WHERE action = 'replyFromSandbox'"
        )
        assert kept["subject"] == f"message:{message_id}"
        assert "秘密" not in kept["detail"]
