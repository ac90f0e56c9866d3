"""A plan is made once, often while a queue is empty, and kept while a million messages come: it must never read all of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, LiteralString

import asyncpg
import pytest

from hongyan import clock, db
from hongyan.way import acceptance, claim, days, drop, prune, pump, tick

QUEUES: Final = ("outbox", "submitted", "notice", "early_report")
STATEMENTS: Final[Mapping[str, str]] = {
    "tick": tick.TICK_SQL,
    "fold": tick.FOLD_SQL,
    "drop": drop.DROP_SQL,
    "leave": pump.LEAVE_SQL,
    "load": claim.LOAD_SQL,
    "wait": claim.WAIT_SQL,
    "put off": claim.PUT_OFF_SQL,
    "unmark": claim.UNMARK_SQL,
    "give away": claim.GIVE_AWAY_SQL,
    "give to": claim.GIVE_TO_SQL,
    "avoid": acceptance.AVOID_SQL,
    "sweep": claim.SWEEP_SQL,
    "release": prune.RELEASE_SQL,
    "expire": prune.EXPIRED_SQL,
}


async def plan(database: str, sql: str, vacuumed: Sequence[str]) -> Mapping[str, Any]:
    """The plan that is made for a statement when these tables were vacuumed just now, and found empty."""
    connection = await asyncpg.connect(database, server_settings=db.SESSION)
    try:
        for table in vacuumed:
            await connection.execute(f"VACUUM ANALYZE {table}")
        await connection.execute(f"PREPARE it AS {sql}")
        count = max(number for number in range(1, 20) if f"${number}" in sql)
        said = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE it ({', '.join(['NULL'] * count)})")
    finally:
        await connection.close()
    found: Mapping[str, Any] = json.loads(said)[0]["Plan"]
    return found


def scans(node: Mapping[str, Any], tables: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Every scan of a table or its index in a plan, and whether it is told what to look up."""
    if "Scan" in node["Node Type"] and "Bitmap Heap" not in node["Node Type"]:
        name = node.get("Relation Name") or node.get("Index Name", "")
        table = next((table for table in tables if name.startswith(table)), None)
        if table is not None:
            yield name, "Index Cond" in node or "TID Cond" in node
    for child in node.get("Plans", ()):
        yield from scans(child, tables)


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_plan_made_while_the_queues_are_empty_reads_a_whole_queue(database: str, name: str) -> None:
    found = list(scans(await plan(database, STATEMENTS[name], QUEUES), QUEUES))
    assert found
    assert [name for name, looks_up in found if not looks_up] == []


DAILY: Final[Mapping[str, LiteralString]] = {
    "tick": tick.TICK_SQL,
    "fold": tick.FOLD_SQL,
    "drop": drop.DROP_SQL,
    "load": claim.LOAD_SQL,
    "accept": acceptance.ACCEPT_SQL,
    "accept once": acceptance.ACCEPT_ONCE_SQL,
}


def tables(node: Mapping[str, Any]) -> Iterator[str]:
    """Every table that a plan reads or writes."""
    if "Relation Name" in node:
        yield node["Relation Name"]
    for child in node.get("Plans", ()):
        yield from tables(child)


@pytest.mark.parametrize("name", DAILY)
async def test_a_statement_of_the_way_opens_one_day_however_many_there_are(database: str, name: str) -> None:
    """Half a year of them cost a tick 1.5 ms, and a fold 6."""
    today = days.day_at(clock.now_s())
    asked = days.asked_of(DAILY[name], today.table)
    opened = {table for table in tables(await plan(database, asked, ())) if table.startswith("message")}
    assert opened == {today.table}


async def test_a_look_for_what_expired_reads_no_message_but_by_its_key(database: str) -> None:
    found = list(scans(await plan(database, prune.EXPIRED_SQL, (*QUEUES, "message")), ("message",)))
    assert found
    assert [name for name, looks_up in found if not looks_up] == []
