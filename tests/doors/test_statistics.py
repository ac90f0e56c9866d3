"""Statistics and the balance at the door: every cut, every group, every filter."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

import make
from doors.counter import Served, ask
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.way.measure import Group

HOUR = datetime(2026, 3, 10, 17, tzinfo=UTC)  # the eleventh in China
SPAN = "from=2026-03-10T00:00:00Z&to=2026-03-12T00:00:00Z"
Row = dict[str, Any]


@pytest.fixture(autouse=True)
async def cells(world: make.World) -> None:
    async with world.database.transaction() as tx:
        await make.tally(tx, world, hour=HOUR, messages=4, parts=5, price_micro=225_000)
        await make.tally(tx, world, hour=HOUR, status=Status.DELIVERED, latency=3, messages=3, cost_micro=9)
        await make.tally(
            tx, world, hour=HOUR, status=Status.UNDELIVERED, cause=Cause.ABSENT.number, province="SH"
        )
        await make.tally(tx, world, hour=HOUR, tenant_id=world.tenant_id + 1, messages=1_000)  # another's


async def rows(door: Served, headers: Mapping[str, str], query: str) -> list[Row]:
    target = f"/v1/statistics?{SPAN}&{query}"
    reply = await ask(door.port, "GET", target, headers=headers)
    assert reply.status == 200, reply.json
    table: list[Row] = reply.json["data"]["rows"]
    return table


async def test_one_tenants_messages_are_summed(door: Served, headers: Mapping[str, str]) -> None:
    (row,) = await rows(door, headers, "by=none")
    counted = {name: row[name] for name in ("accepted", "delivered", "undelivered", "parts", "price_micro")}
    assert counted == {
        "accepted": 4, "delivered": 3, "undelivered": 1, "parts": 5, "price_micro": 225_000
    }  # fmt: skip
    assert (row["delivery_rate"], row["cost_micro"]) == (
        0.75,
        None,
    )  # what we pay upstreams is not theirs to see
    assert 200 <= row["latency_ms_p50"] <= 500


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ("by=hour", "2026-03-10T17:00:00Z"),
        ("by=day", "2026-03-10T00:00:00Z"),
        ("by=day&zone=Asia/Shanghai", "2026-03-10T16:00:00Z"),
        ("by=none", None),
    ],
)
async def test_time_is_cut_as_asked(
    door: Served, headers: Mapping[str, str], query: str, at: str | None
) -> None:
    assert [row["at"] for row in await rows(door, headers, query)] == [at]


@pytest.mark.parametrize("group", list(Group))
async def test_rows_are_told_apart_by_every_group_and_lose_nothing(
    door: Served, headers: Mapping[str, str], group: Group
) -> None:
    table = await rows(door, headers, f"by=none&group={group}")
    assert sum(row["accepted"] for row in table) == 4
    assert sum(row["delivered"] + row["undelivered"] for row in table) == 4
    assert all(row[group] is not None for row in table)
    assert len({row[group] for row in table}) == len(table)


async def test_filters_leave_what_they_say(
    world: make.World, door: Served, headers: Mapping[str, str]
) -> None:
    (names,) = await world.database.fetch(
        "SELECT t.code, c.name FROM template t, channel c WHERE c.id = $1", world.channel_id
    )
    for query, final in (
        ("status=delivered", 3),
        ("status=delivered,undelivered", 4),
        ("cause=absent", 1),
        ("province=SH", 1),
        ("operator=mobile&country=CN&purpose=transactional", 4),
        (f"template={names['code']}", 4),
        (f"channel={names['name'].replace(' ', '%20')}", 4),
        ("channel=nobody%27s", 0),
    ):
        table = await rows(door, headers, f"by=none&{query}")
        assert sum(row["delivered"] + row["undelivered"] for row in table) == final, query


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("by=week", "by"),
        ("group=status,weather", "group"),
        ("zone=Mars/Olympus", "zone"),
        ("by=hour&from=2025-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("channel=" + ",".join(["x"] * 101), "channel"),
    ],
)
async def test_a_question_that_cannot_be_counted_names_its_parameter(
    door: Served, headers: Mapping[str, str], query: str, parameter: str
) -> None:
    reply = await ask(door.port, "GET", f"/v1/statistics?{query}", headers=headers)
    assert (reply.code, reply.json["detail"]["parameter"]) == ("Request.InvalidParameter", parameter)


async def test_the_balance_is_what_the_ledger_sums_to(door: Served, headers: Mapping[str, str]) -> None:
    reply = await ask(door.port, "GET", "/v1/balance", headers=headers)
    assert reply.json["data"] == {"balance_micro": 1_000_000_000, "currency": "CNY"}
