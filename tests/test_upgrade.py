"""An upgrade runs the migrations and loses no message; what does not fit is refused and left as it was."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, LiteralString

import asyncpg
import pytest

import database as databases
import make
import plane
from hongyan import clock, db
from hongyan.channels.channel import Report
from hongyan.egress import open_egress
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import MessageId, Purpose, Status
from hongyan.way import charge, prune
from hongyan.way.notify import Payer
from install import Sink, sink
from plane import Plane, books_balance, running

EACH: Final = 20  # messages of a kind
PRICE: Final = 45_000  # of a part, as make.message() and make.price() say
NEW: Final = "13900139000"  # who is written to by the new version
BALANCE: Final = 1_000_000_000  # as make.tenant() lays it
DELIVERED: Final = Status.DELIVERED.number
SHIPPED: Final = [name for name, _ in db.migrations()]


@pytest.fixture
async def empty(database_template: databases.Template) -> AsyncIterator[db.Database]:
    """A database without a single table."""
    with databases.bare(database_template) as dsn:
        database = await db.connect(dsn, make.SETTINGS)
        try:
            yield database
        finally:
            await database.close()


# ---- the world of an earlier version


async def apply(database: db.Database, count: int) -> None:
    """Apply the first migrations only, as db.migrate() of that time has done and written down."""
    async with database.transaction() as tx:
        await tx.execute(db.MIGRATION_TABLE_SQL)
        for name, sql in db.migrations()[:count]:
            await tx.execute(sql)
            digest = hashlib.sha256(sql.encode()).hexdigest()
            await tx.execute("INSERT INTO migration (name, digest) VALUES ($1, $2)", name, digest)


@dataclass
class Old:
    """Messages by how far they had come, and their numbers. Nobody ever asked for another than these."""

    waiting: list[MessageId] = field(default_factory=list)  # in the queue, nobody has them in hand
    in_hand: list[MessageId] = field(default_factory=list)  # born to a gateway that was killed
    half_gone: list[MessageId] = field(default_factory=list)  # the same, and the first of two parts was taken
    gone: list[MessageId] = field(default_factory=list)  # taken by the operator, no report yet
    done: list[MessageId] = field(default_factory=list)  # delivered, and the app has not been told
    upstream_ids: list[str] = field(default_factory=list)
    numbers: dict[MessageId, str] = field(default_factory=dict)

    @property
    def ids(self) -> Sequence[MessageId]:
        return [*self.waiting, *self.in_hand, *self.half_gone, *self.gone, *self.done]


# As that version books it.
CHARGE_SQL: LiteralString = """
WITH entry AS (
    INSERT INTO ledger (tenant_id, kind, amount_micro) VALUES ($1, 'charge', -$2::bigint)
)
UPDATE balance SET amount_micro = amount_micro - $2 WHERE tenant_id = $1 AND shard = 0
"""
QUEUE_SQL: LiteralString = (
    "INSERT INTO outbox (tenant_id, id, lane, owner, due_at) VALUES ($1, $2, 1, $3, $4)"
)
DISAGREEING_SQL: LiteralString = """
SELECT o.id FROM outbox o JOIN message m ON m.tenant_id = o.tenant_id AND m.id = o.id
 WHERE o.expires_at IS DISTINCT FROM m.expires_at
"""
NOTICE_SQL: LiteralString = """
INSERT INTO notice (tenant_id, app_id, kind, message_id, status, code, at)
SELECT tenant_id, app_id, 1, id, status, 'DELIVRD', done_at FROM message WHERE status > 0
"""


async def lay_messages(world: make.World) -> Old:
    """Lay messages of every age, with the books they belong to."""
    old = Old()
    sent = clock.now() - timedelta(seconds=5)
    async with world.database.transaction() as tx:

        async def message(kind: list[MessageId], **columns: Any) -> MessageId:
            number = f"1380013{len(old.numbers):04d}"
            message_id = await make.message(tx, world, at=sent, number=f"+86{number}", **columns)
            old.numbers[message_id] = number
            kind.append(message_id)
            return message_id

        for _ in range(EACH):
            await tx.execute(QUEUE_SQL, world.tenant_id, await message(old.waiting), 0, sent)
            await tx.execute(QUEUE_SQL, world.tenant_id, await message(old.in_hand), 1, sent)
            half = await message(old.half_gone, parts=2, text="【鸿雁】" + "门" * 100)
            await tx.execute(QUEUE_SQL, world.tenant_id, half, 1, sent)
            for message_id in (half, await message(old.gone)):
                old.upstream_ids.append(await make.submitted(tx, world, message_id, sent_at=sent))
            await message(old.done, status=Status.DELIVERED, channel_id=world.channel_id, code="DELIVRD")
        await tx.execute(NOTICE_SQL)
        parts = EACH * 6
        micro = parts * PRICE
        await make.tally(tx, world, messages=EACH * 5, parts=parts, price_micro=micro)
        await make.tally(
            tx, world, status=Status.DELIVERED, messages=EACH, parts=EACH, price_micro=EACH * PRICE
        )
        await tx.execute(CHARGE_SQL, world.tenant_id, micro)
    return old


async def lay_world(database: db.Database, port: int, hook_port: int) -> tuple[plane.Install, make.World]:
    """Lay a tenant who could send, one channel and one webhook."""
    laid = await plane.install(database, [port])
    async with database.transaction() as tx:
        await make.webhook(tx, laid.vault, app_id=laid.app_id, url=f"http://127.0.0.1:{hook_port}/hook")
        template_id = await tx.fetchval(
            "SELECT id FROM template WHERE code = $1", laid.templates[Purpose.TRANSACTIONAL]
        )
        signature_id = await tx.fetchval("SELECT id FROM signature WHERE name = $1", laid.signature)
    ids = (laid.tenant_id, laid.app_id, signature_id, template_id, laid.channels[0])
    return laid, make.World(database, laid.vault, *ids)


async def lay_partitions(database: db.Database) -> None:
    """Make the days' partitions as the first version did, which left less room on a page."""
    async with database.transaction() as tx:
        await prune.ensure_partitions(tx, clock.now())
        for name in await reloptions(tx):
            await tx.execute(f"ALTER TABLE {name} SET (fillfactor = 60)")


RELOPTIONS_SQL: LiteralString = """
SELECT c.relname AS name, c.reloptions AS options FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'message'::regclass
"""


async def reloptions(tx: db.Tx) -> Mapping[str, Sequence[str]]:
    """The storage options of each partition of message."""
    return {row["name"]: row["options"] for row in await tx.fetch(RELOPTIONS_SQL)}


TABLES_SQL: LiteralString = """
SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname <> 'migration' ORDER BY 1
"""


async def counted(database: db.Database) -> Mapping[str, int]:
    """How many rows each table has."""
    async with database.transaction() as tx:
        names = [row["name"] for row in await tx.fetch(TABLES_SQL)]
        return {name: await tx.fetchval(f"SELECT count(*) FROM {name}") for name in names}


Messages = Mapping[MessageId, Mapping[str, Any]]


async def messages(database: db.Database) -> Messages:
    return {row["id"]: dict(row) for row in await database.fetch("SELECT * FROM message")}


# ---- upgrading


async def test_an_upgrade_runs_the_migrations_without_losing_a_message(empty: db.Database) -> None:
    async with Simulator(behaviour.parse("report_delay_s=0.01")) as operator, sink() as hook:
        await apply(empty, 1)
        await lay_partitions(empty)
        laid, world = await lay_world(empty, operator.port, hook.port)
        old = await lay_messages(world)
        await books_balance(empty)
        rows, before = await counted(empty), await messages(empty)

        assert await db.migrate(empty.dsn) == SHIPPED[1:]

        after = await counted(empty)
        assert {name: after[name] for name in rows} == rows
        assert await empty.fetch(DISAGREEING_SQL) == []
        await books_balance(empty)
        async with running(empty, laid) as way:
            await fly(way, old)
            await books_balance(empty)
            await pay(way)
        await nothing_is_lost(world, old, before, operator, hook)


async def fly(way: Plane, old: Old) -> None:
    """Run the new version until everything has ended: what was queued, what was reported late, what is new."""
    await way.up()
    reports = [Report(i, Status.DELIVERED, Cause.NONE, "DELIVRD", clock.now_s()) for i in old.upstream_ids]
    way.gateway.answers.reported(way.laid.channels[0], reports)
    await way.send(NEW)
    await way.all_final()
    await way.holds(lambda: len(way.owed) == len(old.ids) - len(old.done) + 1)


async def pay(way: Plane) -> None:
    """Run a clerk until no notice is owed, of this version or of the one before."""
    settings = replace(plane.QUICK, webhook_private_addresses=True)
    async with open_egress(settings) as egress, asyncio.TaskGroup() as tasks:
        settle = way.gateway.ticker.paid
        payer = Payer(way.database, way.keeper, way.vault, settings, egress, settle)
        paying = tasks.create_task(payer.run())
        payer.owe(way.owed)
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        paying.cancel()


async def nothing_is_lost(
    world: make.World, old: Old, before: Messages, operator: Simulator, hook: Sink
) -> None:
    """Assert that each message of the earlier version, and one of this, was delivered, paid for and told of once."""
    after = await messages(world.database)
    assert set(before) == set(old.ids) <= set(after)
    assert len(after) == len(before) + 1
    assert {row["status"] for row in after.values()} == {DELIVERED}
    assert [after[i] for i in old.done] == [before[i] for i in old.done]
    assert hook.told == {str(message_id): ["delivered"] for message_id in after}
    taken = {number: one.parts for number, one in operator.destinations().items()}
    queued = [*old.waiting, *old.in_hand, *old.half_gone]
    assert taken == {NEW: 1} | {old.numbers[message_id]: 1 for message_id in queued}
    async with world.database.transaction() as tx:
        spent = sum(row["price_micro"] for row in after.values())
        assert await charge.balance_micro(tx, world.tenant_id) == BALANCE - spent


async def test_an_upgrade_leaves_room_on_the_pages_of_every_day(empty: db.Database) -> None:
    await apply(empty, 1)
    await lay_partitions(empty)
    async with empty.transaction() as tx:
        before = await reloptions(tx)
    await db.migrate(empty.dsn)
    async with empty.transaction() as tx:
        await prune.ensure_partitions(tx, clock.now() + timedelta(days=30))  # what is made from now on
        after = await reloptions(tx)
    assert before.keys() < after.keys()
    assert all("fillfactor=40" in options for options in after.values())
    for name, options in before.items():
        assert set(after[name]) == set(options) - {"fillfactor=60"} | {"fillfactor=40"}


# ---- migrating


async def test_an_upgrade_that_was_made_is_not_made_again(database: str) -> None:
    assert await db.migrate(database) == []


@pytest.mark.parametrize("applied", range(len(SHIPPED)))
async def test_processes_that_migrate_at_once_apply_each_file_once(empty: db.Database, applied: int) -> None:
    await apply(empty, applied)
    done = await asyncio.gather(*(db.migrate(empty.dsn) for _ in range(4)))
    assert sorted(map(list, done)) == [[], [], [], SHIPPED[applied:]]
    rows = await empty.fetch("SELECT name FROM migration ORDER BY name")
    assert [row["name"] for row in rows] == SHIPPED


MIGRATION_SQL: LiteralString = "SELECT name, digest, applied_at FROM migration ORDER BY name"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "INSERT INTO migration VALUES ('9999_tomorrow.sql', '')",
            "newer than this program: .*9999_tomorrow",
        ),
        ("UPDATE migration SET digest = 'other' WHERE name LIKE '0001%'", "0001_the_way.sql was changed"),
    ],
)
async def test_a_database_that_is_newer_or_was_made_by_other_files_is_refused_and_left_as_it_was(
    empty: db.Database, change: LiteralString, words: str
) -> None:
    await apply(empty, 1)
    await empty.execute(change)
    before = await empty.fetch(MIGRATION_SQL)
    with pytest.raises(db.DatabaseUnfitError, match=words):
        await db.migrate(empty.dsn)
    assert await empty.fetch(MIGRATION_SQL) == before


async def test_a_migration_that_fails_leaves_nothing_behind(empty: db.Database) -> None:
    """Here somebody else's table stands in the way, half-way through the first file."""
    await empty.execute("CREATE TABLE message (words text)")
    with pytest.raises(asyncpg.DuplicateTableError):
        await db.migrate(empty.dsn)
    assert list(await counted(empty)) == ["message"]
    assert await empty.fetch("SELECT 1 FROM pg_class WHERE relname = 'migration'") == []
    await empty.execute("DROP TABLE message")
    assert await db.migrate(empty.dsn) == SHIPPED


# ---- connections that stay open meanwhile


@pytest.fixture
async def connection(empty: db.Database) -> AsyncIterator[db.Tx]:
    one = await empty.own_connection()
    try:
        yield one
    finally:
        one.terminate()


async def rows(connection: db.Tx) -> Sequence[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch("SELECT * FROM thing")]


async def test_a_statement_asked_before_a_migration_returns_what_is_there_after_it(
    empty: db.Database, connection: db.Tx
) -> None:
    await empty.execute("CREATE TABLE thing AS SELECT 1 AS a")
    assert await rows(connection) == [(1,)]
    await empty.execute("ALTER TABLE thing ADD b int DEFAULT 2")
    assert await rows(connection) == await rows(connection) == [(1, 2)]


async def test_a_transaction_that_a_migration_overtakes_fails_as_a_whole(
    empty: db.Database, connection: db.Tx
) -> None:
    await empty.execute("CREATE TABLE thing AS SELECT 1 AS a")
    await rows(connection)
    await empty.execute("ALTER TABLE thing ADD b int DEFAULT 2")
    with pytest.raises(asyncpg.InvalidCachedStatementError):
        async with connection.transaction():
            await rows(connection)
    assert await rows(connection) == [(1, 2)]


async def test_a_type_that_a_migration_changes_fails_one_statement(
    empty: db.Database, connection: db.Tx
) -> None:
    await empty.execute("CREATE TYPE pair AS (a int, b int)")
    await empty.execute("CREATE TABLE thing (of pair)")
    await empty.execute("INSERT INTO thing VALUES (ROW(1, 2))")
    assert await rows(connection) == [((1, 2),)]
    await empty.execute("ALTER TYPE pair ADD ATTRIBUTE c int")
    await empty.execute("INSERT INTO thing VALUES (ROW(1, 2, 3))")
    with pytest.raises(asyncpg.OutdatedSchemaCacheError):
        await rows(connection)
    assert await rows(connection) == [((1, 2, None),), ((1, 2, 3),)]
