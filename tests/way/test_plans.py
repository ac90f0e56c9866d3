"""A plan is made once, often while a queue is empty, and kept while a million messages come: it must never read all of them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import asyncpg
import pytest

from hongyan import db
from hongyan.way import acceptance, claim, drop, pump, tick

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
}


def scans(node: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Every scan of a queue's table or index in a plan, and whether it is told what to look up."""
    if "Scan" in node["Node Type"] and "Bitmap Heap" not in node["Node Type"]:
        name = node.get("Relation Name") or node.get("Index Name", "")
        queue = next((queue for queue in QUEUES if name.startswith(queue)), None)
        if queue is not None:
            yield name, "Index Cond" in node
    for child in node.get("Plans", ()):
        yield from scans(child)


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_plan_made_while_the_queues_are_empty_reads_a_whole_queue(database: str, name: str) -> None:
    connection = await asyncpg.connect(database, server_settings=db.SESSION)
    try:
        for queue in QUEUES:
            await connection.execute(f"VACUUM ANALYZE {queue}")
        sql = STATEMENTS[name]
        await connection.execute(f"PREPARE it AS {sql}")
        count = max(number for number in range(1, 20) if f"${number}" in sql)
        said = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE it ({', '.join(['NULL'] * count)})")
    finally:
        await connection.close()
    found = list(scans(json.loads(said)[0]["Plan"]))
    assert found
    assert [name for name, looks_up in found if not looks_up] == []
