"""Deliveries over the API: each POST to a webhook is seen by its tenant, can be posted again, and tested for."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import make
from hongyan.control.permissions import Role
from hongyan.doors.auth import canonical
from hongyan.vocab.message import Status
from hongyan.way import posted
from hongyan.way.posted import Posted

from .desk import FOREIGN, Desk, desk


@contextlib.asynccontextmanager
async def endpoint(status: int, heard: list[tuple[dict[str, str], bytes]]) -> AsyncIterator[str]:
    """Answer every POST with a status; gives the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")[1:]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
        heard.append((headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()


async def hooked(one: Desk, url: str = "https://example.com/hook") -> None:
    async with one.database.transaction() as tx:
        await make.webhook(tx, one.world.vault, app_id=one.world.app_id, url=url, secret=b"hook")


NOTICE_SQL = """
INSERT INTO notice (tenant_id, app_id, kind, message_id, status, at, due_at)
VALUES ($1, $2, 1, $3, 1, now(), now() + interval '1 hour')
RETURNING id
"""


async def failed_post(one: Desk, message_id: uuid.UUID, *, owed: bool) -> uuid.UUID:
    """A POST that was not taken; its notice is still owed, or was told later."""
    notice_ids = []
    if owed:
        (row,) = await one.fetch(NOTICE_SQL, one.world.tenant_id, one.world.app_id, message_id)
        notice_ids = [row["id"]]
    post = Posted(
        make.message_id(),
        one.world.app_id,
        posted.NOTICES,
        500,
        "",
        12,
        1,
        "",
        [message_id],
        b"\x01",
        notice_ids,
    )
    await posted.write(one.database, [post])
    return post.id


async def delivered(one: Desk) -> uuid.UUID:
    async with one.database.transaction() as tx:
        return await make.message(tx, one.world, status=Status.DELIVERED)


async def listed(one: Desk, query: str = "", as_: Any = Role.OWNER) -> list[dict[str, Any]]:
    reply = await one.ask("GET", f"/v1/deliveries{query}", as_=as_)
    assert reply.status == 200, reply.body
    items: list[dict[str, Any]] = reply.json["data"]["items"]
    return items


async def test_a_failed_post_says_what_is_still_owed_and_when_it_comes_again(database: str) -> None:
    async with desk(database) as one:
        await hooked(one)
        message_id = await delivered(one)
        post = await failed_post(one, message_id, owed=True)
        (row,) = await listed(one)
        assert (row["id"], row["kind"], row["events"], row["taken"]) == (
            str(post),
            "notices",
            {"status": 1},
            False,
        )
        assert (row["waiting"], row["next_at"] is not None, row["message_ids"]) == (
            1,
            True,
            [str(message_id)],
        )
        assert await listed(one, "?failed=true") == [row]
        assert await listed(one, f"?app_id={one.world.app_id}&message_id={message_id}") == [row]
        assert await listed(one, f"?message_id={await delivered(one)}") == []
        assert (await one.ask("GET", f"/v1/deliveries/{post}", as_=Role.OWNER)).json["data"] == row


async def test_another_tenant_sees_no_post_of_ours(database: str) -> None:
    async with desk(database) as one:
        await hooked(one)
        post = await failed_post(one, await delivered(one), owed=True)
        assert await listed(one, as_=FOREIGN) == []
        assert await listed(one, f"?app_id={one.world.app_id}", as_=FOREIGN) == []
        for method, target in (("GET", f"/v1/deliveries/{post}"), ("POST", f"/v1/deliveries/{post}/resend")):
            assert (await one.ask(method, target, as_=FOREIGN)).status == 404
        assert len(await listed(one, as_=Role.OPERATOR)) == 1


async def test_what_is_still_owed_is_hurried_and_not_doubled(database: str) -> None:
    async with desk(database) as one:
        await hooked(one)
        post = await failed_post(one, await delivered(one), owed=True)
        reply = await one.ask("POST", f"/v1/deliveries/{post}/resend", as_=Role.DEVELOPER)
        assert reply.json["data"] == {"hurried": 1, "again": 0}
        (row,) = await one.fetch("SELECT due_at <= now() AS due FROM notice")
        assert row["due"]


async def test_what_was_told_is_owed_again_as_the_message_is_by_now(database: str) -> None:
    async with desk(database) as one:
        await hooked(one)
        async with one.database.transaction() as tx:
            told = await make.message(tx, one.world, status=Status.UNDELIVERED)
            open_ = await make.message(tx, one.world)
            inbound = await make.inbound(tx, one.world)
        post = Posted(make.message_id(), one.world.app_id, posted.NOTICES, 200, "", 12, 1, "",
                      [told, open_, inbound, uuid.uuid4()], b"\x01\x01\x03\x01")  # fmt: skip
        await posted.write(one.database, [post])
        reply = await one.ask("POST", f"/v1/deliveries/{post.id}/resend", as_=Role.OWNER)
        assert reply.json["data"] == {"hurried": 0, "again": 2}
        rows = await one.fetch("SELECT kind, message_id, status FROM notice ORDER BY kind")
        assert [(row["kind"], str(row["message_id"]), row["status"]) for row in rows] == [
            (1, str(told), Status.UNDELIVERED.number),
            (3, str(inbound), 0),
        ]


async def test_nothing_is_posted_again_where_no_webhook_is_left(database: str) -> None:
    async with desk(database) as one:
        await hooked(one)
        post = await failed_post(one, await delivered(one), owed=True)
        await one.ask("DELETE", f"/v1/apps/{one.world.app_id}/webhook", as_=Role.OWNER)
        assert (await one.ask("POST", f"/v1/deliveries/{post}/resend", as_=Role.OWNER)).status == 409
        (row,) = await listed(one)
        assert (row["waiting"], row["next_at"]) == (1, None)


async def test_a_test_event_is_signed_logged_and_ends_a_pause(database: str) -> None:
    heard: list[tuple[dict[str, str], bytes]] = []
    async with endpoint(204, heard) as url, desk(database, webhook_private_addresses=True) as one:
        await hooked(one, url)
        await one.fetch(
            "INSERT INTO webhook_health (webhook_id, failures, paused_until) SELECT id, 9, now() + interval '1 hour' FROM webhook"
        )
        place = f"/v1/apps/{one.world.app_id}/webhook/test"
        reply = await one.ask("POST", place, as_=Role.DEVELOPER)
        assert reply.status == 200, reply.body
        told = reply.json["data"]
        assert (told["taken"], told["status"], told["kind"], told["events"]) == (
            True,
            204,
            "test",
            {"test": 1},
        )
        ((headers, body),) = heard
        signed = headers["hongyan-timestamp"].encode() + b"." + body
        assert headers["hongyan-mac"] == "v1=" + hmac.new(b"hook", signed, "sha256").hexdigest()
        assert (headers["hongyan-delivery-id"], json.loads(body)["events"][0]["event"]) == (
            told["id"],
            "test",
        )
        assert await one.fetch("SELECT 1 FROM webhook_health") == []
        assert [row["id"] for row in await listed(one)] == [told["id"]]
        assert (await one.ask("POST", place, as_=Role.DEVELOPER)).status == 429
        assert (await one.ask("POST", f"/v1/deliveries/{told['id']}/resend", as_=Role.OWNER)).status == 409


async def test_a_test_that_fails_says_why_and_ends_no_pause(database: str) -> None:
    async with desk(database, webhook_private_addresses=False) as one:
        await hooked(one, "http://127.0.0.1:9/")
        await one.fetch("INSERT INTO webhook_health (webhook_id, failures) SELECT id, 9 FROM webhook")
        told = (await one.ask("POST", f"/v1/apps/{one.world.app_id}/webhook/test", as_=Role.OWNER)).json[
            "data"
        ]
        assert (told["taken"], told["status"]) == (False, 0)
        assert "refused" in told["error"]
        assert len(await one.fetch("SELECT 1 FROM webhook_health")) == 1


async def test_an_app_that_is_switched_off_is_refused_until_it_is_on_again(database: str) -> None:
    async with desk(database) as one:
        place, refused = f"/v1/apps/{one.world.app_id}", []
        for active in (False, True):
            reply = await one.ask("PATCH", place, {"active": active}, as_=Role.OWNER)
            assert reply.json["data"]["active"] is active
            await one.served.keeper.load()
            refused.append((await one.ask("GET", "/v1/apps", as_="key")).status)
        assert refused == [401, 200]
        assert (await one.ask("GET", place, as_=Role.OWNER)).json["data"]["name"]
        assert (await one.ask("GET", place, as_=FOREIGN)).status == 404


async def test_a_signature_is_explained_to_those_of_the_tenant_who_may(database: str) -> None:
    async with desk(database) as one:
        body, nonce = '{"a":1}', "a" * 20
        octets = canonical(b"POST", b"/v1/messages", b"", body.encode(), b"1767225600", nonce.encode())
        mac = hmac.new(b"secret\n", octets, hashlib.sha256).hexdigest()
        asked = {
            "target": "https://sms.example.com/v1/messages",
            "authorization": f"HONGYAN-HMAC-SHA256 key_id={one.key_id}, timestamp=1767225600, nonce={nonce}, mac={mac}",
            "body": body,
        }
        place = f"/v1/keys/{one.key_id}/explain-signature"
        told = (await one.ask("POST", place, asked, as_=Role.DEVELOPER)).json["data"]
        assert (told["fits"], told["canonical"]) == (False, octets.decode())
        assert [found["mistake"] for found in told["findings"]] == ["secret_space", "old"]
        assert (await one.ask("POST", place, asked, as_=FOREIGN)).status == 404
        assert (await one.ask("POST", place, asked, as_=Role.VIEWER)).status == 403
        await one.ask("POST", f"/v1/keys/{one.key_id}/disable", as_=Role.OWNER)
        told = (await one.ask("POST", place, asked, as_=Role.OWNER)).json["data"]
        assert "key_disabled" in [found["mistake"] for found in told["findings"]]


async def test_whether_one_may_sign_up_is_told_to_everybody(database: str) -> None:
    async with desk(database) as one:
        assert (await one.ask("GET", "/v1/sign-up", as_="nobody")).json["data"]["open"] is False
        await one.ask("PATCH", "/v1/policies", {"sign_up": "open"})
        assert (await one.ask("GET", "/v1/sign-up", as_="nobody")).json["data"]["open"] is True
