"""Real PostgreSQL for tests: one server per test process, one migrated template, one clone per test.

Entry points: serve(), clone(), bare(). TEST_DATABASE_URL names a database of another server to clone beside; its role
needs CREATEDB. The embedded server runs with fsync off, because nobody mourns a test's rows: what checks
durability is told so by HONGYAN_ALLOW_UNSAFE_DATABASE, and tests of durability start a Server of their own.
"""

import asyncio
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from hongyan import clock, db
from hongyan.postgres import ROLE, Server
from hongyan.way import prune

FORGETFUL: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    "max_connections": "200",
    "autovacuum": "off",  # its visits to the template would make each clone wait
}
STATEMENT_WAIT_S: Final = 30.0
MEMORY: Final = "/dev/shm"  # noqa: S108 -- mkdtemp makes a private folder in it
MEMORY_FREE_OCTETS_MIN: Final = 2 * 2**30  # several servers' clones and logs
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Template:
    """A server with one migrated database that nobody writes to."""

    maintenance_dsn: str  # may create and drop databases
    template_dsn: str
    owner: str | None  # who owns the clones; None: whoever makes them


@contextmanager
def serve() -> Iterator[Template]:
    """Start a server, or use the one named by TEST_DATABASE_URL, and migrate a template in it."""
    if other := os.environ.get("TEST_DATABASE_URL"):
        with _migrated(other, other, None) as template:
            yield template
        return
    # Not in a folder of pytest: root runs the server as another user, who may not enter there.
    folder = Path(tempfile.mkdtemp(prefix="hongyan-test-", dir=_quick_place()))
    folder.chmod(0o711)
    try:
        with (
            Server(folder, settings=FORGETFUL) as server,
            _migrated(server.superuser_dsn, server.dsn, ROLE) as template,
        ):
            yield template
    finally:
        shutil.rmtree(folder)


@contextmanager
def clone(template: Template) -> Iterator[str]:
    """Give the DSN of a fresh copy of the template, dropped afterwards whoever is still connected."""
    source = urlsplit(template.template_dsn).path.lstrip("/")
    # By files, not by the log: four times faster where nothing is synced to a disk.
    with _made(template, f' TEMPLATE "{source}" STRATEGY file_copy') as dsn:
        yield dsn


@contextmanager
def bare(template: Template) -> Iterator[str]:
    """Give the DSN of a fresh database without any table, dropped afterwards."""
    with _made(template, "") as dsn:
        yield dsn


@contextmanager
def _made(template: Template, of: str) -> Iterator[str]:
    name = f"hongyan_test_{os.getpid()}_{next(_numbers)}"
    owner = f' OWNER "{template.owner}"' if template.owner else ""
    _execute(template.maintenance_dsn, f'CREATE DATABASE "{name}"{of}{owner}')
    try:
        yield _named(template.template_dsn, name)
    finally:
        _execute(template.maintenance_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def _migrated(maintenance_dsn: str, dsn: str, owner: str | None) -> Iterator[Template]:
    name = f"hongyan_template_{os.getpid()}"
    template = Template(maintenance_dsn, _named(dsn, name), owner)
    _execute(maintenance_dsn, f'CREATE DATABASE "{name}"' + (f' OWNER "{owner}"' if owner else ""))
    try:
        with ThreadPoolExecutor(1) as thread:  # its own event loop, whatever loop the test runner keeps here
            thread.submit(lambda: asyncio.run(_lay(template.template_dsn))).result()
        yield template
    finally:
        _execute(maintenance_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')
        asyncio.run_coroutine_threadsafe(_hand().leave(maintenance_dsn), _hand().loop).result()


async def _lay(dsn: str) -> None:
    """Make a database as it is a second after the program was started for the first time: with partitions for its days."""
    await db.migrate(dsn)
    connection = await asyncpg.connect(dsn, timeout=STATEMENT_WAIT_S)
    try:
        async with connection.transaction():
            await prune.ensure_partitions(connection, clock.now())
    finally:
        await connection.close()


def _quick_place() -> str | None:
    """Memory if there is room: cloning makes hundreds of files, slow on a busy disk. TMPDIR wins."""
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return None
    return MEMORY if shutil.disk_usage(MEMORY).free > MEMORY_FREE_OCTETS_MIN else None


def _named(dsn: str, database: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def _execute(dsn: str, statement: str) -> None:
    asyncio.run_coroutine_threadsafe(_hand().execute(dsn, statement), _hand().loop).result()


class _Hand:
    """One thread with one connection to each server: opening one a statement would double what a database costs."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._connections: dict[str, asyncpg.Connection[asyncpg.Record]] = {}
        threading.Thread(target=self.loop.run_forever, name="databases", daemon=True).start()

    async def execute(self, dsn: str, statement: str) -> None:
        connection = self._connections.get(dsn)
        if connection is None or connection.is_closed():
            connection = self._connections[dsn] = await asyncpg.connect(dsn, timeout=STATEMENT_WAIT_S)
        await connection.execute(statement, timeout=STATEMENT_WAIT_S)

    async def leave(self, dsn: str) -> None:
        connection = self._connections.pop(dsn, None)
        if connection is not None:
            await connection.close()


@cache
def _hand() -> _Hand:
    return _Hand()
