"""How long statistics take over 5,000,000 messages of a week: `make bench ARGS=statistics`.

Lays the cells that so many messages leave in the tally (50 tenants of very different sizes, nearly each message in a cell
of its own), sums up what is over as the clerk does, and asks what pages ask. Says the best of five, in milliseconds: the server's
time with building the answer, without HTTP.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, LiteralString

from hongyan import clock, db
from hongyan.control import overview
from hongyan.postgres import Server
from hongyan.settings import Settings
from hongyan.vocab.message import TenantId
from hongyan.way import measure, rollup
from hongyan.way.measure import By, Group, Question
from hongyan.way.snapshot import Snapshot

MESSAGES: Final = 5_000_000
ROUNDS: Final = 5
FILL_SQL: LiteralString = """
INSERT INTO tally (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency,
                   shard, messages, parts, price_micro, cost_micro)
WITH message AS (
    SELECT date_trunc('hour', now()) - make_interval(hours => (random() * 167)::int) AS hour,
           1 + (49 * power(random(), 3))::int AS tenant_id, random() AS fate, (random() * 8)::int AS cause,
           (random() * 2)::int AS template, (3 * random())::int AS operator, (31 * power(random(), 2))::int AS province,
           (random() * 2)::int AS channel, (random() * random() * 6)::int AS latency
      FROM generate_series(1, $1::int)
)
SELECT hour, tenant_id, s.status, s.cause, (tenant_id + template) % 3, tenant_id * 10 + template, s.channel, 'CN',
       (ARRAY['cmcc', 'unicom', 'telecom', 'broadnet'])[operator + 1], 'CN-' || province, s.latency, 1, count(*), count(*),
       count(*) * 45000, count(*) * 30000
  FROM message, LATERAL (VALUES
       (0, 0, 0, 0),
       (CASE WHEN fate < 0.94 THEN 1 WHEN fate < 0.98 THEN 2 WHEN fate < 0.99 THEN 3 ELSE 4 END,
        CASE WHEN fate < 0.94 THEN 0 ELSE message.cause END, operator * 2 + message.channel / 2 + 1,
        CASE WHEN fate < 0.94 THEN message.latency + 2 ELSE 0 END)) s(status, cause, channel, latency)
 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
 ORDER BY 1 -- as cells come into being: an hour's lie together
"""


def questions() -> dict[str, Question]:
    """What the pages of a console ask."""
    now = clock.now()
    week = {"counted_from": now - timedelta(days=7), "counted_to": now}
    return {
        "24 h by hour": Question(),
        "24 h by hour, channel, status": Question(groups=(Group.CHANNEL, Group.STATUS)),
        "24 h by operator, province": Question(by=By.NONE, groups=(Group.OPERATOR, Group.PROVINCE)),
        "24 h by cause, channel, operator": Question(
            by=By.NONE, groups=(Group.CAUSE, Group.CHANNEL, Group.OPERATOR)
        ),
        "7 d by day": Question(by=By.DAY, zone="Asia/Shanghai", **week),
        "7 d by hour, channel, status": Question(groups=(Group.CHANNEL, Group.STATUS), **week),
        "7 d by template, cause": Question(by=By.NONE, groups=(Group.TEMPLATE, Group.CAUSE), **week),
        "7 d by province": Question(by=By.NONE, groups=(Group.PROVINCE,), **week),
    }


async def main() -> None:
    """Measure on a server of this bench's own."""
    with served() as server:
        await db.migrate(server.dsn)
        database = await db.connect(server.dsn, Settings(allow_unsafe_database=True))
        try:
            await _measure(database)
        finally:
            await database.close()


@contextmanager
def served() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder:
        state = Path(folder)
        state.chmod(0o711)  # root's server runs as another user
        with Server(state, settings={"fsync": "off"}) as server:
            yield server


async def lay(database: db.Database) -> None:
    """Lay the cells of MESSAGES messages and sum up what is over, saying how long it took."""
    connection = await database.own_connection()
    began = time.monotonic()
    await connection.execute(FILL_SQL, MESSAGES, timeout=600)
    await connection.execute("VACUUM ANALYZE tally", timeout=600)
    cells = await connection.fetchval("SELECT count(*) FROM tally", timeout=60)
    print(f"{MESSAGES:,} messages, {cells:,} cells, laid in {time.monotonic() - began:.0f} s")
    async with database.transaction() as tx:
        began = time.perf_counter()
        await measure.statistics(tx, _snapshot(), None, Question())
        print(
            f"platform: 24 h by hour, from the tally itself: {(time.perf_counter() - began) * 1_000:.0f} ms"
        )
    began = time.monotonic()
    hours = 0
    while True:
        async with database.transaction() as tx:
            done = await rollup.roll(tx, clock.now())
        hours += done
        if not done:
            break
    spent = time.monotonic() - began
    await connection.execute("VACUUM ANALYZE rollup, rollup_place", timeout=600)
    sizes = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM rollup), (SELECT count(*) FROM rollup_place)"
    )
    await connection.close()
    print(f"{hours} hours summed in {spent:.0f} s; sums: {sizes[0]:,} and {sizes[1]:,} rows")


async def _measure(database: db.Database) -> None:
    await lay(database)
    after = await _ask(database, rounds=ROUNDS)
    for name, took_ms in after.items():
        print(f"{name:<60} {took_ms:6.0f} ms")
    print(f"slowest: {max(after.values()):.0f} ms")


async def _ask(database: db.Database, rounds: int) -> dict[str, float]:
    took: dict[str, float] = {}
    snapshot = _snapshot()
    for who, tenant_id in (("platform", None), ("large tenant", TenantId(1)), ("middling", TenantId(20))):
        took[f"{who}: overview"] = await _best(database, rounds, snapshot, tenant_id, None)
        for name, question in questions().items():
            took[f"{who}: {name}"] = await _best(database, rounds, snapshot, tenant_id, question)
    return took


async def _best(
    database: db.Database,
    rounds: int,
    snapshot: Snapshot,
    tenant_id: TenantId | None,
    question: Question | None,
) -> float:
    times: list[float] = []
    for _ in range(rounds):
        async with database.transaction() as tx:
            began = time.perf_counter()
            if question is None:
                await overview.of(tx, snapshot, tenant_id)
            else:
                await measure.statistics(tx, snapshot, tenant_id, question)
            times.append((time.perf_counter() - began) * 1_000)
    return min(times)


def _snapshot() -> Snapshot:
    """A snapshot that knows who the tenants are and nothing else."""
    nothing: Sequence[object] = ()
    return Snapshot(
        version=1,
        tenants={TenantId(number): None for number in range(1, 51)},  # type: ignore[misc]
        keys={}, channels={}, rules=nothing, prices={}, webhooks={}, hooked_apps=nothing, pay_on_delivery=nothing,
        overrides=None, signatures={}, templates={}, has_number_overrides=False,
    )  # type: ignore[arg-type]  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
