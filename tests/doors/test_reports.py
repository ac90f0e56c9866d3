"""Reports by pulling: each event stays owed until it is acknowledged."""

from collections.abc import Mapping
from typing import Any

import pytest

import make
from doors.counter import Served, ask, basic
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.way.notice import CORRECTION, INBOUND, STATUS


async def owe(world: make.World, kind: int, message_id: Any, status: Status = Status.DELIVERED) -> None:
    await world.database.execute(
        "INSERT INTO notice (tenant_id, app_id, kind, message_id, status, cause, code, at)"
        " VALUES ($1, $2, $3, $4, $5, $6, 'DELIVRD', now())",
        world.tenant_id, world.app_id, kind, message_id, status.number, Cause.NONE.number,
    )  # fmt: skip


async def pull(door: Served, headers: Mapping[str, str], query: str = "") -> Any:
    return (await ask(door.port, "GET", f"/v1/reports?{query}", headers=headers)).json["data"]


async def acknowledge(door: Served, headers: Mapping[str, str], cursor: str) -> int:
    reply = await ask(door.port, "POST", "/v1/reports/acknowledge", {"cursor": cursor}, headers)
    count: int = reply.json["data"]["acknowledged"]
    return count


async def test_all_three_kinds_are_pulled_in_the_order_they_happened(
    world: make.World, door: Served, headers: Mapping[str, str]
) -> None:
    async with world.database.transaction() as tx:
        message_id = await make.message(tx, world, status=Status.DELIVERED, reference="order 7")
        inbound_id = await make.inbound(tx, world, text="好的", message_id=message_id)
    await owe(world, STATUS, message_id, Status.UNKNOWN)
    await owe(world, CORRECTION, message_id)
    await owe(world, INBOUND, inbound_id)
    status, correction, inbound = (await pull(door, headers))["events"]
    assert (status["event"], status["status"], status["corrected"]) == ("status", "unknown", False)
    assert (status["to"], status["reference"]) == (make.NUMBER, "order 7")
    assert (correction["event"], correction["status"], correction["corrected"]) == (
        "correction",
        "delivered",
        True,
    )
    assert (inbound["from"], inbound["text"], inbound["answers"]) == (make.NUMBER, "好的", str(message_id))


async def test_a_cursor_acknowledges_exactly_what_it_came_with(
    world: make.World, door: Served, headers: Mapping[str, str]
) -> None:
    async with world.database.transaction() as tx:
        ids = [await make.message(tx, world, status=Status.DELIVERED) for _ in range(3)]
    for message_id in ids:
        await owe(world, STATUS, message_id)
    first, second = await pull(door, headers, "limit=2"), await pull(door, headers, "limit=2")
    told = [event["message_id"] for event in (*first["events"], *second["events"])]
    assert told == [str(message_id) for message_id in ids]
    assert await pull(door, headers) == {"cursor": "", "events": []}
    assert await acknowledge(door, headers, first["cursor"]) == 2
    assert await acknowledge(door, headers, first["cursor"]) == 0
    (left,) = await world.database.fetch("SELECT message_id FROM notice")
    assert str(left["message_id"]) == second["events"][0]["message_id"]


async def test_what_is_not_acknowledged_in_time_is_given_out_again(
    world: make.World, door: Served, headers: Mapping[str, str]
) -> None:
    async with world.database.transaction() as tx:
        message_id = await make.message(tx, world, status=Status.DELIVERED)
    await owe(world, STATUS, message_id)
    first = await pull(door, headers, "lease_s=3600")
    await world.database.execute("UPDATE notice SET lease_until = now()")
    second = await pull(door, headers)
    assert second["events"] == first["events"]
    assert await acknowledge(door, headers, first["cursor"]) == 0  # it is owed under the newer cursor
    assert await acknowledge(door, headers, second["cursor"]) == 1


async def test_another_apps_events_are_neither_seen_nor_acknowledged(
    world: make.World, door: Served, headers: Mapping[str, str]
) -> None:
    async with world.database.transaction() as tx:
        app_id = await make.app(tx, tenant_id=world.tenant_id)
        other = {"Authorization": basic(await make.app_key(tx, world.vault, app_id=app_id))}
        message_id = await make.message(tx, world, status=Status.DELIVERED)
    await door.keeper.load()
    await owe(world, STATUS, message_id)
    assert (await pull(door, other))["events"] == []
    pulled = await pull(door, headers)
    assert await acknowledge(door, other, pulled["cursor"]) == 0
    assert await acknowledge(door, headers, pulled["cursor"]) == 1


@pytest.mark.parametrize("body", [{}, {"cursor": ""}, {"cursor": 5}, {"cursor": "a", "b": 1}, []])
async def test_an_acknowledgement_without_a_cursor_is_refused(
    door: Served, headers: Mapping[str, str], body: object
) -> None:
    reply = await ask(door.port, "POST", "/v1/reports/acknowledge", body, headers)
    assert reply.status == 400
    assert reply.json["detail"]["path"].startswith("$")
