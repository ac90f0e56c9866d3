"""Messages through the whole door into the database."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import make
from doors.counter import Served, ask, basic, served

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


async def test_reports_are_pulled_until_they_are_acknowledged(
    door: Served, key_id: str, body: dict[str, Any]
) -> None:
    headers = {"Authorization": basic(key_id)}
    sent = await ask(door.port, "POST", "/v1/messages", body, headers)
    await ask(door.port, "POST", f"/v1/messages/{sent.json['data']['id']}/cancel", headers=headers)
    pulled = (await ask(door.port, "GET", "/v1/reports", headers=headers)).json["data"]
    assert [event["status"] for event in pulled["events"]] == ["cancelled"]
    assert (await ask(door.port, "GET", "/v1/reports", headers=headers)).json["data"]["events"] == []
    acknowledge = {"cursor": pulled["cursor"]}
    for count in (1, 0):
        done = await ask(door.port, "POST", "/v1/reports/acknowledge", acknowledge, headers)
        assert done.json["data"] == {"acknowledged": count}


async def test_statistics_balance_and_inbound_are_told(
    door: Served, key_id: str, body: dict[str, Any]
) -> None:
    headers = {"Authorization": basic(key_id)}
    await ask(door.port, "POST", "/v1/messages", body, headers)
    counted = await ask(door.port, "GET", "/v1/statistics?by=none&group=operator", headers=headers)
    assert sum(row["accepted"] for row in counted.json["data"]["rows"]) == 1
    left = await ask(door.port, "GET", "/v1/balance", headers=headers)
    assert left.json["data"] == {"balance_micro": 1_000_000_000 - 45_000, "currency": "CNY"}
    inbound = await ask(door.port, "GET", "/v1/inbound?limit=5", headers=headers)
    assert inbound.json["data"] == {"items": [], "next_cursor": None}


async def test_a_refusal_names_parameters_as_the_caller_did(door: Served, key_id: str) -> None:
    headers = {"Authorization": basic(key_id)}
    span = "from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z"
    for path in ("/v1/statistics", "/v1/messages"):
        reply = await ask(door.port, "GET", f"{path}?{span}", headers=headers)
        assert (reply.code, reply.json["detail"]["parameter"]) == ("Request.InvalidParameter", "from")
