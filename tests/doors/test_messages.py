"""Messages through the whole door into the database, and out to an operator and back."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

import make
from doors.counter import Served, ask, basic, served
from hongyan import clock
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from plane import books_balance, plane

BODY = {"to": make.NUMBER, "text": "您的快递已到南门", "purpose": "transactional"}


@pytest.fixture
async def door(world: make.World, key_id: str) -> AsyncIterator[Served]:
    assert key_id
    async with served(world) as one:
        yield one


@pytest.fixture
async def body(world: make.World) -> dict[str, Any]:
    (row,) = await world.database.fetch("SELECT name FROM signature")
    return BODY | {"signature": row["name"]}


async def test_a_message_is_accepted_looked_up_and_taken_back(
    door: Served, key_id: str, body: dict[str, Any]
) -> None:
    headers = {"Authorization": basic(key_id)}
    sent = await ask(door.port, "POST", "/v1/messages", body | {"reference": "r1"}, headers)
    assert (sent.status, sent.code) == (202, "OK")
    promised = sent.json["data"]
    assert promised == {
        "id": promised["id"],
        "status": "accepted",
        "parts": 1,
        "price_micro": 45_000,
        "currency": "CNY",
        "reference": "r1",
    }
    story = await ask(door.port, "GET", f"/v1/messages/{promised['id']}", headers=headers)
    assert (story.json["data"]["reference"], story.json["data"]["number"]) == ("r1", make.NUMBER)
    for query in ("reference=r1", "number=%2B8613800138000", "number=+8613800138000", "number=13800138000"):
        found = await ask(door.port, "GET", f"/v1/messages?{query}", headers=headers)
        assert [one["id"] for one in found.json["data"]["items"]] == [promised["id"]]
    gone = await ask(door.port, "POST", f"/v1/messages/{promised['id']}/cancel", headers=headers)
    assert gone.json["data"] == {"id": promised["id"], "status": "cancelled"}
    again = await ask(door.port, "POST", f"/v1/messages/{promised['id']}/cancel", headers=headers)
    assert (again.status, again.code) == (409, "Request.TooLate")


async def test_a_tenant_sees_nothing_of_another(
    world: make.World, door: Served, key_id: str, body: dict[str, Any]
) -> None:
    async with world.database.transaction() as tx:
        tenant_id = await make.tenant(tx, world.vault)
        app_id = await make.app(tx, tenant_id=tenant_id)
        other = {"Authorization": basic(await make.app_key(tx, world.vault, app_id=app_id))}
    await door.keeper.load()
    headers = {"Authorization": basic(key_id)}
    sent = await ask(door.port, "POST", "/v1/messages", body | {"reference": "mine"}, headers)
    path = f"/v1/messages/{sent.json['data']['id']}"
    assert (await ask(door.port, "GET", path, headers=other)).code == "Request.NotFound"
    assert (await ask(door.port, "POST", f"{path}/cancel", headers=other)).code == "Request.NotFound"
    found = await ask(door.port, "GET", "/v1/messages?reference=mine", headers=other)
    assert found.json["data"]["items"] == []


async def test_a_batch_has_a_line_for_each_message(door: Served, key_id: str, body: dict[str, Any]) -> None:
    batch = {"messages": [body | {"reference": "good"}, {"to": 5}, body | {"to": "not a number"}]}
    headers = {"Authorization": basic(key_id), "Accept-Language": "zh"}
    reply = await ask(door.port, "POST", "/v1/messages/batch", batch, headers)
    assert reply.status == 200
    told = reply.json["data"]
    assert (told["accepted"], told["refused"]) == (1, 2)
    good, malformed, nobody = told["items"]
    assert (good["code"], good["message"], good["reference"]) == ("OK", "成功", "good")
    assert (malformed["code"], malformed["detail"]["path"]) == (
        "Request.InvalidParameter",
        "$.messages[1].to",
    )
    assert (nobody["index"], nobody["code"], nobody["message"]) == (2, "Number.Invalid", "号码不正确")
    assert "id" not in nobody


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/batch"])
async def test_an_idempotency_key_gives_the_first_answer_again(
    world: make.World, door: Served, key_id: str, body: dict[str, Any], path: str
) -> None:
    sent = body if path == "/v1/messages" else {"messages": [body, body | {"to": "13800138001"}]}
    headers = {"Authorization": basic(key_id), "Idempotency-Key": "order-17"}
    first = await ask(door.port, "POST", path, sent, headers)
    second = await ask(door.port, "POST", path, sent, headers)
    assert first.json["data"] == second.json["data"]
    assert first.json["request_id"] != second.json["request_id"]
    conflict = await ask(
        door.port, "POST", path, sent | {"reference": "x"} if sent is body else {"messages": [body]}, headers
    )
    assert (conflict.status, conflict.code) == (409, "Request.IdempotencyConflict")
    (row,) = await world.database.fetch("SELECT count(*) AS messages FROM message")
    assert row["messages"] == (1 if path == "/v1/messages" else 2)


async def test_an_idempotency_key_holds_over_two_doors_at_once(
    world: make.World, door: Served, key_id: str, body: dict[str, Any]
) -> None:
    headers = {"Authorization": basic(key_id), "Idempotency-Key": "raced"}
    async with served(world) as other:
        replies = await asyncio.gather(
            *(ask((door, other)[n % 2].port, "POST", "/v1/messages", body, headers) for n in range(10))
        )
    assert {reply.status for reply in replies} <= {202, 503}
    assert len({reply.json["data"]["id"] for reply in replies if reply.status == 202}) == 1


@pytest.mark.parametrize("key", ["", "a" * 256, "with space", "ключ"])
async def test_an_idempotency_key_that_is_none_is_refused(door: Served, key_id: str, key: str) -> None:
    headers = {"Authorization": basic(key_id), "Idempotency-Key": key.encode().decode("latin-1")}
    reply = await ask(door.port, "POST", "/v1/messages", BODY, headers)
    assert (reply.code, reply.json["detail"]["parameter"]) == ("Request.InvalidParameter", "Idempotency-Key")


async def test_what_was_accepted_is_paid_for_and_counted(
    world: make.World, door: Served, headers: Mapping[str, str], body: dict[str, Any]
) -> None:
    await ask(door.port, "POST", "/v1/messages", body, headers)
    counted = await ask(door.port, "GET", "/v1/statistics?by=none&group=operator", headers=headers)
    assert sum(row["accepted"] for row in counted.json["data"]["rows"]) == 1
    left = await ask(door.port, "GET", "/v1/balance", headers=headers)
    assert left.json["data"]["balance_micro"] == 1_000_000_000 - 45_000
    await books_balance(world.database)


async def test_a_message_taken_back_is_refunded_and_told(
    door: Served, headers: Mapping[str, str], body: dict[str, Any]
) -> None:
    later = body | {"send_at": (clock.now() + timedelta(hours=1)).isoformat()}
    message_id = (await ask(door.port, "POST", "/v1/messages", later, headers)).json["data"]["id"]
    await ask(door.port, "POST", f"/v1/messages/{message_id}/cancel", headers=headers)
    left = await ask(door.port, "GET", "/v1/balance", headers=headers)
    assert left.json["data"]["balance_micro"] == 1_000_000_000
    (event,) = (await ask(door.port, "GET", "/v1/reports", headers=headers)).json["data"]["events"]
    assert (event["message_id"], event["status"], event["price_micro"]) == (message_id, "cancelled", 0)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a number that is none": ({"to": "12345"}, "Number.Invalid"),
    "a fixed line": ({"to": "01062345678"}, "Number.Invalid"),
    "a country not enabled": ({"to": "+4915112345678"}, "Number.RegionNotAllowed"),
    "a number that is blocked": ({"to": "13900139001"}, "Number.Blacklisted"),
    "a signature unknown": ({"signature": "nobody"}, "Sign.NotFound"),
    "a signature in review": ({"signature": "in review"}, "Sign.NotApproved"),
    "a template unknown": ({"template": "nothing"}, "Template.NotFound"),
    "a template in review": ({"template": "in review"}, "Template.NotApproved"),
    "a variable missing": ({"params": {}}, "Template.MissingVariable"),
    "a variable too many": ({"params": {"place": "x", "more": "y"}}, "Template.MissingVariable"),
    "a variable too long": ({"params": {"place": "x" * 36}}, "Template.VariableTooLong"),
    "a variable with a link": ({"params": {"place": "http://example.com/a"}}, "Template.VariableUrl"),
    "a variable against its rule": ({"params": {"place": "【x】"}}, "Template.VariableInvalid"),
    "a text too long": (
        {"template": "", "params": {}, "text": "x" * 500, "purpose": "transactional"},
        "Content.TooLong",
    ),
    "a promotion without a way out": (
        {"template": "", "params": {}, "text": "sale", "purpose": "promotional"},
        "Content.MissingUnsubscribe",
    ),
    "neither template nor text": ({"template": "", "params": {}}, "Request.MissingParameter"),
    "a text without a purpose": ({"template": "", "params": {}, "text": "x"}, "Request.MissingParameter"),
    "template and text": ({"text": "x"}, "Request.InvalidParameter"),
    "a validity beyond the limit": ({"validity_s": 2_000_000}, "Request.InvalidParameter"),
    "a time too far ahead": ({"send_at": "2999-01-01T00:00:00Z"}, "Request.InvalidParameter"),
}


async def test_every_refusal_has_its_code_alone_and_in_a_batch(
    world: make.World, door: Served, headers: Mapping[str, str], body: dict[str, Any]
) -> None:
    async with world.database.transaction() as tx:
        await make.signature(tx, tenant_id=world.tenant_id, name="in review", state="reviewing")
        await make.template(tx, tenant_id=world.tenant_id, code="in review", state="reviewing")
        await make.suppression(tx, world, number="+8613900139001", kind=2)
    await door.keeper.load()
    (known,) = await world.database.fetch("SELECT code FROM template WHERE state = 'approved'")
    sound = {"to": make.NUMBER, "signature": body["signature"], "template": known["code"]}
    asked = [sound | {"params": {"place": "x"}} | change for change, _ in REFUSED.values()]
    expected = dict(zip(REFUSED, (code for _, code in REFUSED.values()), strict=True))
    alone = [await ask(door.port, "POST", "/v1/messages", one, headers) for one in asked]
    assert dict(zip(REFUSED, (reply.code for reply in alone), strict=True)) == expected
    batch = await ask(door.port, "POST", "/v1/messages/batch", {"messages": asked}, headers)
    lines = batch.json["data"]["items"]
    assert dict(zip(REFUSED, (line["code"] for line in lines), strict=True)) == expected
    assert await world.database.fetch("SELECT FROM message") == []


async def test_a_key_for_templates_only_may_send_no_text(
    world: make.World, door: Served, headers: Mapping[str, str], body: dict[str, Any]
) -> None:
    await world.database.execute("UPDATE app_key SET free_text = false")
    await door.keeper.load()
    reply = await ask(door.port, "POST", "/v1/messages", body, headers)
    assert (reply.status, reply.code) == (403, "Auth.PermissionDenied")


async def test_an_empty_purse_refuses_and_nothing_is_stored(
    world: make.World, door: Served, headers: Mapping[str, str], body: dict[str, Any]
) -> None:
    await world.database.execute("UPDATE balance SET amount_micro = 44999")
    reply = await ask(door.port, "POST", "/v1/messages", body, headers)
    assert (reply.status, reply.code) == (402, "Account.BalanceInsufficient")
    assert await world.database.fetch("SELECT FROM message") == []


async def test_a_thousand_messages_are_a_batch_and_one_more_is_none(
    world: make.World, door: Served, headers: Mapping[str, str], body: dict[str, Any]
) -> None:
    many = [body | {"to": f"1380013{number:04d}"} for number in range(1_001)]
    refused = await ask(door.port, "POST", "/v1/messages/batch", {"messages": many}, headers)
    assert (refused.status, refused.code) == (400, "Request.TooManyRecipients")
    taken = await ask(door.port, "POST", "/v1/messages/batch", {"messages": many[:1_000]}, headers)
    assert (taken.json["data"]["accepted"], len(taken.json["data"]["items"])) == (1_000, 1_000)
    await books_balance(world.database)


async def test_a_message_travels_from_the_door_to_an_operator_and_back(database: str) -> None:
    async with (
        Simulator(behaviour.parse("report_delay_s=0.01")) as simulator,
        plane(database, simulator) as way,
        served(way, way.acceptor) as door,
    ):
        headers = {"Authorization": basic(way.key.key_id)}
        sent = {
            "to": make.NUMBER,
            "signature": way.signature,
            "template": "transactional",
            "params": {"word": "南门"},
            "reference": "order 7",
        }
        message_id = (await ask(door.port, "POST", "/v1/messages", sent, headers)).json["data"]["id"]
        await way.final(message_id)
        await way.until("SELECT FROM decision WHERE trace ? 'route'")  # traces are stored beside the way
        told = (await ask(door.port, "GET", f"/v1/messages/{message_id}", headers=headers)).json["data"]
        assert (told["status"], told["upstream_code"]) == ("delivered", "DELIVRD")
        (attempt,) = told["attempts"]
        assert attempt["channel"] == told["channel"] == attempt["decision"]["route"]["channel"]
        assert attempt["upstream_id"]
        assert datetime.fromisoformat(attempt["sent_at"]) <= datetime.fromisoformat(attempt["acked_at"])
        assert "suppression" in told["decision"]["passed"]
        groups = "status,cause,channel,operator,province,template"
        counted = await ask(door.port, "GET", f"/v1/statistics?by=day&group={groups}", headers=headers)
        accepted, delivered = counted.json["data"]["rows"]
        assert (accepted["accepted"], delivered["delivered"]) == (1, 1)
        assert (delivered["channel"], delivered["template"]) == (told["channel"], "transactional")
        (event,) = (await ask(door.port, "GET", "/v1/reports", headers=headers)).json["data"]["events"]
        assert (event["message_id"], event["status"]) == (message_id, "delivered")
        await books_balance(way.database)
