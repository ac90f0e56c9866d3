"""The database: pool, transactions, LISTEN and migrations. The only module that imports the driver.

Writes: migration (which files have been applied). Entry points: connect(), migrate().
A database that may forget a commit is refused, because a 2xx of ours means fsynced.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, LiteralString, TypeAlias

import asyncpg
from asyncpg.pgproto.pgproto import UUID as DriverUUID  # noqa: N811 - a type, renamed for what it is

from hongyan.settings import Settings

Tx: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Row: TypeAlias = "asyncpg.Record"
Uuid = DriverUUID  # builds from 16 octets three times faster than uuid.UUID, and is one

CheckViolation = asyncpg.CheckViolationError
UndefinedTable = asyncpg.UndefinedTableError
LockTimeout = asyncpg.LockNotAvailableError
# What a value is to blame for, such as a NUL in a text: tried again it fails again, and with it all that shares its
# statement.
Unstorable = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.CardinalityViolationError,
    asyncpg.ProgramLimitExceededError,
)
# What a lost, starting or stopping server looks like, or one that let somebody else go first: the statement may be
# tried again elsewhere in time.
Unavailable = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby that is not the leader yet, or no longer
    asyncpg.DiskFullError,
    asyncpg.InternalClientError,
)

# Generic plans: our statements take arrays, whose custom plans would be made anew each time for nothing. They are
# often made while a queue is empty, when reading all of it looks cheapest, and kept while it grows: so never that way.
SESSION = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "jit": "off",
    "timezone": "UTC",
    "application_name": "hongyan",
}
CONNECT_WAIT_S = 10.0
STATEMENT_WAIT_S = 60.0
KEPT_MAX = 32  # prepared statements of a connection of a loop's own; it asks fewer than ten, some of them anew each day


class DatabaseUnfitError(Exception):
    """The database cannot keep our promises; the text says what to change."""


class Database:
    """A pool and what we do with it. Built by connect()."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", dsn: str) -> None:
        self._pool = pool
        self.dsn = dsn

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Open one transaction: one request or one step of a loop."""
        async with self._pool.acquire(timeout=CONNECT_WAIT_S) as connection, connection.transaction():
            yield connection

    async def fetch(
        self,
        sql: LiteralString,
        *values: Any,
        timeout: float = STATEMENT_WAIT_S,  # noqa: ASYNC109 - as the driver's
    ) -> Sequence[Row]:
        """Run one statement in its own transaction."""
        rows: Sequence[Row] = await self._pool.fetch(sql, *values, timeout=timeout)
        return rows

    async def execute(self, sql: LiteralString, *values: Any) -> None:
        await self._pool.execute(sql, *values, timeout=STATEMENT_WAIT_S)

    async def own_connection(self) -> Tx:
        """Open a connection outside the pool, for one loop that uses it all the time; the caller closes it."""
        return await asyncpg.connect(
            self.dsn, timeout=CONNECT_WAIT_S, server_settings=SESSION, connection_class=_Own
        )

    async def notify(self, topic: str, payload: str = "") -> None:
        """Wake listeners. In a transaction of its own: NOTIFY inside a commit takes an instance-wide lock."""
        await self._pool.execute("SELECT pg_notify($1, $2)", topic, payload, timeout=STATEMENT_WAIT_S)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


class _Own(asyncpg.Connection):  # type: ignore[misc]  # the driver says nothing of its types
    """One that is asked the same few things again and again, and keeps each prepared.

    The driver's own way to a statement that it knows is as long as all the rest it does for a small batch.
    """

    __slots__ = ("_kept",)

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        self._kept: dict[str, Any] = {}

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as there
        """Run one statement and return its rows."""
        kept = self._kept.get(query)
        if kept is None:
            kept = await self.prepare(query, timeout=timeout)
            if len(self._kept) >= KEPT_MAX:  # statements of days that are over
                del self._kept[next(iter(self._kept))]
            self._kept[query] = kept
        try:
            return await kept.fetch(*args, timeout=timeout)
        except asyncpg.InvalidCachedStatementError:  # a migration has changed what it returns; it did nothing
            del self._kept[query]
            if self.is_in_transaction():
                raise
            return await super().fetch(query, *args, timeout=timeout)
        except asyncpg.OutdatedSchemaCacheError:  # a type was changed, which is noticed when all is done
            del self._kept[query]
            raise


class Holder:
    """A connection of one loop's own, opened when it is needed and again after it was lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Tx | None = None

    async def connection(self) -> Tx:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.own_connection()
        return self._connection

    def drop(self) -> None:
        """Close at once; what was under way may or may not be committed."""
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None


async def connect(dsn: str, settings: Settings) -> Database:
    """Open the pool; raises DatabaseUnfitError where commits would not be durable or the server is too old."""
    pool = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=settings.database_pool_max,
        timeout=CONNECT_WAIT_S,
        command_timeout=STATEMENT_WAIT_S,
        server_settings=SESSION,
        reset=_keep,
    )
    database = Database(pool, dsn)
    if not settings.allow_unsafe_database:
        await _demand_durability(database)
    return database


async def _keep(_connection: object) -> None:
    """Give a connection to the next one as it is: a reset is a question more for each transaction.

    Sessions are alike from first to last: what is set or locked is so until the commit, and whoever needs it for
    longer opens a connection of his own.
    """


DURABILITY_SQL: LiteralString = """
SELECT current_setting('server_version_num')::int AS version, current_setting('fsync') AS fsync,
       current_setting('synchronous_commit') AS synchronous_commit, current_setting('full_page_writes') AS full_page_writes
"""
VERSION_FLOOR = 150_000


async def _demand_durability(database: Database) -> None:
    (row,) = await database.fetch(DURABILITY_SQL)
    if row["version"] < VERSION_FLOOR:
        raise DatabaseUnfitError(f"PostgreSQL 15 or newer is needed, this is {row['version'] // 10_000}")
    for knob in ("fsync", "synchronous_commit", "full_page_writes"):
        if row[knob] == "off":
            raise DatabaseUnfitError(
                f"{knob} is off: this database may forget what it has confirmed. Turn it on, "
                "or say HONGYAN_ALLOW_UNSAFE_DATABASE=yes if losing accepted messages is all right"
            )


class Listener:
    """Hears NOTIFY on its own connection; run() keeps it alive. Losing it costs only promptness."""

    def __init__(self, database: Database, heard: Mapping[str, Callable[[str], None]]) -> None:
        self._database = database
        self._heard = heard

    async def run(self) -> None:
        """Listen until cancelled, connecting again with a pause after each loss."""
        while True:
            try:
                await self._listen()
            except Unavailable:
                await asyncio.sleep(0.5)

    async def _listen(self) -> None:
        connection = await self._database.own_connection()
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            for topic, hear in self._heard.items():
                await connection.add_listener(topic, lambda _c, _p, _t, payload, hear=hear: hear(payload))
                hear("")  # whatever was said while nobody listened
            await lost.wait()
        finally:
            connection.terminate()


MIGRATION_TABLE_SQL: LiteralString = """
CREATE TABLE IF NOT EXISTS migration (
    name text PRIMARY KEY, digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
"""
MIGRATION_LOCK = 0x686F6E67  # 'hong': any number nobody else uses


def migrations() -> Sequence[tuple[str, str]]:
    """Return the shipped migrations as (name, SQL), in the order they are applied."""
    folder = resources.files("hongyan.schema")
    return [
        (file.name, file.read_text("utf-8"))
        for file in sorted(folder.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".sql")
    ]


async def migrate(dsn: str) -> Sequence[str]:
    """Apply what has not been applied; returns the names. Several processes may call it at once.

    Raises DatabaseUnfitError if an applied file was changed since, or the database is newer than the program.
    """
    connection = await asyncpg.connect(dsn, timeout=CONNECT_WAIT_S)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
            await connection.execute(MIGRATION_TABLE_SQL)
            applied = {
                row["name"]: row["digest"]
                for row in await connection.fetch("SELECT name, digest FROM migration")
            }
            return await _apply(connection, applied)
    finally:
        await connection.close()


async def _apply(tx: Tx, applied: Mapping[str, str]) -> Sequence[str]:
    shipped = migrations()
    unknown = sorted(set(applied) - {name for name, _ in shipped})
    if unknown:
        raise DatabaseUnfitError(f"the database is newer than this program: it knows {unknown[-1]}")
    new = []
    for name, sql in shipped:
        digest = hashlib.sha256(sql.encode()).hexdigest()
        if name not in applied:
            await tx.execute(sql)
            await tx.execute("INSERT INTO migration (name, digest) VALUES ($1, $2)", name, digest)
            new.append(name)
        elif applied[name] != digest:
            raise DatabaseUnfitError(f"{name} was changed after it was applied; migrations only go forward")
    return new
