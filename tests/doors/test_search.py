"""Looking messages up: one with its story, many page by page, and what people texted back."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

import make
from doors.counter import Served, ask
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Purpose, Status

NOW = datetime.now(UTC)


async def pages(door: Served, headers: Mapping[str, str], path: str, **query: Any) -> list[list[str]]:
    """Follow the cursors to the end; returns the ids of each page."""
    seen = []
    cursor = None
    while True:
        asked = query | ({"cursor": cursor} if cursor else {})
        reply = await ask(door.port, "GET", f"{path}?{urlencode(asked)}", headers=headers)
        assert reply.status == 200, reply.json
        seen.append([item["id"] for item in reply.json["data"]["items"]])
        cursor = reply.json["data"]["next_cursor"]
        if cursor is None:
            return seen


async def test_a_cursor_leads_through_every_page_once(
    world: make.World, door: Served, headers: Mapping[str, str]
) -> None:
    async with world.database.transaction() as tx:
        made = [str(await make.message(tx, world, at=NOW - timedelta(minutes=n))) for n in range(5)]
    assert await pages(door, headers, "/v1/messages", limit=2) == [made[:2], made[2:4], made[4:]]
    assert await pages(door, headers, "/v1/messages", limit=5) == [made]


async def test_a_message_that_comes_meanwhile_moves_no_page(
    world: make.World, door: Served, headers: Mapping[str, str]
) -> None:
    async with world.database.transaction() as tx:
        older = [str(await make.message(tx, world, at=NOW - timedelta(minutes=n))) for n in (1, 2)]
    first = await ask(door.port, "GET", "/v1/messages?limit=1", headers=headers)
    async with world.database.transaction() as tx:
        await make.message(tx, world, at=NOW)
    cursor = first.json["data"]["next_cursor"]
    second = await ask(door.port, "GET", f"/v1/messages?limit=1&cursor={cursor}", headers=headers)
    assert [page.json["data"]["items"][0]["id"] for page in (first, second)] == older


async def test_every_filter_leaves_what_it_says(
    world: make.World, door: Served, headers: Mapping[str, str]
) -> None:
    hour_ago = NOW - timedelta(hours=1)
    async with world.database.transaction() as tx:
        new = str(await make.message(tx, world, status=Status.DELIVERED, reference="a b"))
        old = str(
            await make.message(
                tx,
                world,
                at=hour_ago,
                number="+8613900139000",
                status=Status.UNDELIVERED,
                cause=Cause.ABSENT,
                purpose=Purpose.PROMOTIONAL,
                channel_id=world.channel_id,
                app_id=world.app_id + 1,
                template_id=0,
            )
        )
    (template,) = await world.database.fetch("SELECT code FROM template")
    (channel,) = await world.database.fetch("SELECT name FROM channel WHERE id = $1", world.channel_id)
    half_ago = (NOW - timedelta(minutes=30)).isoformat()
    for query, found in (
        ({}, [new, old]),
        ({"reference": "a b"}, [new]),
        ({"number": "13900139000"}, [old]),
        ({"status": "undelivered"}, [old]),
        ({"status": "expired"}, []),
        ({"template": template["code"]}, [new]),
        ({"template": "no such"}, []),
        ({"cause": "absent"}, [old]),
        ({"cause": "network"}, []),
        ({"purpose": "promotional"}, [old]),
        ({"channel": channel["name"]}, [old]),
        ({"channel": f"#{world.channel_id}"}, [old]),
        ({"channel": "no such"}, []),
        ({"app_id": world.app_id}, [new]),
        ({"number": make.NUMBER, "cause": "absent"}, []),
        ({"reference": "a b", "app_id": world.app_id}, [new]),
        ({"from": half_ago}, [new]),
        ({"to": half_ago}, [old]),
        ({"number": make.NUMBER, "status": "undelivered"}, []),
    ):
        assert await pages(door, headers, "/v1/messages", **query) == [found], query


async def test_a_story_tells_every_attempt_and_every_decision(
    world: make.World, door: Served, headers: Mapping[str, str]
) -> None:
    at_ms = (
        int(NOW.timestamp()) * 1000 + 1
    )  # a whole second is written without its fraction, and sorts elsewhere
    async with world.database.transaction() as tx:
        guard = await make.decision(tx, {"passed": ["number"]})
        route = await make.decision(tx, {"route": {"channel": "east"}})
        failed = [1, 1, world.channel_id, "A1", at_ms, at_ms + 5, at_ms + 90, 2, 3, "MK:0004", route]
        good = [2, 1, world.channel_id, "B2", at_ms + 99, at_ms + 105, at_ms + 190, 1, 0, "DELIVRD", 0]
        message_id = await make.message(
            tx, world, status=Status.DELIVERED, decision=guard, attempts=[failed, good], attempt=2
        )
    told = (await ask(door.port, "GET", f"/v1/messages/{message_id}", headers=headers)).json["data"]
    assert told["decision"] == {"passed": ["number"]}
    first, second = told["attempts"]
    assert (first["upstream_id"], first["upstream_code"]) == ("A1", "MK:0004")
    assert first["decision"] == {"route": {"channel": "east"}}
    assert (second["attempt"], second["status"], second["cause"]) == (2, "delivered", Cause.NONE.value)
    assert first["sent_at"] < first["acked_at"] < first["reported_at"] < second["sent_at"]


async def test_what_people_texted_is_listed_page_by_page(
    world: make.World, door: Served, headers: Mapping[str, str]
) -> None:
    async with world.database.transaction() as tx:
        made = [str(await make.inbound(tx, world, text=f"text {n}")) for n in range(3)]
        await make.inbound(tx, world, tenant_id=0)  # nobody's
    assert await pages(door, headers, "/v1/inbound", limit=2) == [made[:0:-1], made[:1]]
    (last,) = (await ask(door.port, "GET", "/v1/inbound?limit=1", headers=headers)).json["data"]["items"]
    assert (last["number"], last["text"], last["access_number"]) == (make.NUMBER, "text 2", "1069")


@pytest.mark.parametrize(
    ("target", "parameter"),
    [
        ("/v1/messages/not-an-id", "id"),
        ("/v1/messages?cursor=zz", "cursor"),
        ("/v1/messages?status=lost", "status"),
        ("/v1/messages?colour=red", "colour"),
        ("/v1/messages?limit=201", "limit"),
        ("/v1/messages?from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z", "from"),
        ("/v1/inbound?cursor=zz", "cursor"),
        ("/v1/inbound?limit=0", "limit"),
    ],
)
async def test_a_question_that_cannot_be_meant_names_its_parameter(
    door: Served, headers: Mapping[str, str], target: str, parameter: str
) -> None:
    reply = await ask(door.port, "GET", target, headers=headers)
    assert (reply.status, reply.code) == (400, "Request.InvalidParameter")
    assert reply.json["detail"]["parameter"] == parameter


async def test_what_is_not_there_is_not_found(door: Served, headers: Mapping[str, str]) -> None:
    nowhere = f"/v1/messages/{uuid.UUID(int=7)}"
    for method, target in (("GET", nowhere), ("POST", f"{nowhere}/cancel")):
        reply = await ask(door.port, method, target, headers=headers)
        assert (reply.status, reply.code) == (404, "Request.NotFound")


async def test_what_a_gateway_has_in_hand_cannot_be_taken_back(
    world: make.World, door: Served, headers: Mapping[str, str]
) -> None:
    async with world.database.transaction() as tx:
        message_id = await make.message(tx, world)
        await make.outbox(tx, world, message_id, owner=1)
    reply = await ask(door.port, "POST", f"/v1/messages/{message_id}/cancel", headers=headers)
    assert (reply.status, reply.code) == (409, "Request.TooLate")
