"""Back up a database into one file, and restore it into an empty one, with PostgreSQL's own programs.

Writes: the file (0600); every table, when it restores. Entry points: backup(), restore(). The file holds the
data keys as they are stored, wrapped by the master key, and never the master key: keep that apart, because
without it numbers, texts and secrets in the file stay sealed for good. Surprise: what waited to leave when
the backup was made will leave after a restore, even if it left meanwhile.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, LiteralString, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from hongyan import db, postgres
from hongyan.settings import Settings

WAIT_S: Final = 6 * 3600.0  # a dump of hundreds of gigabytes
STOP_WAIT_S: Final = 10.0
LAST_WORDS_MAX: Final = 2_000  # characters of what a program said


class BackupError(Exception):
    """The backup or restore was not done; the text says why and what to do."""


async def backup(dsn: str, path: Path) -> int:
    """Write everything as of one moment into `path`; returns its octets. Messages may go on meanwhile.

    The file appears whole or not at all. Raises BackupError, postgres.PostgresNotFoundError.
    """
    database = await _look(dsn)
    draft = path.with_name(path.name + ".part")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        arguments = ["--format=custom", "--no-owner", "--no-privileges", f"--file={draft}"]
        await _run(database.programs.program("pg_dump"), dsn, arguments)
        return _keep(draft, path)
    except OSError as error:
        raise BackupError(f"cannot write {path}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


async def restore(path: Path, dsn: str) -> None:
    """Restore a file of backup() into an empty database, whole or not at all.

    Raises BackupError where the database is not empty or the file cannot be restored.
    """
    database = await _look(dsn)
    if not database.is_empty:
        raise BackupError("the database is not empty: restore into a new one, nothing is overwritten")
    arguments = ["--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error", str(path)]
    await _run(database.programs.program("pg_restore"), dsn, arguments)
    # Without statistics the first statements would be planned for empty tables, and keep their plans.
    await _run(database.programs.program("psql"), dsn, ["--quiet", "--no-psqlrc", "--command=ANALYZE"])


class _Looked(NamedTuple):
    is_empty: bool
    programs: postgres.Binaries  # of the server's version where they are here: they fit it best


LOOK_SQL: LiteralString = """
SELECT current_setting('server_version_num')::int / 10000 AS major,
       NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema') AS is_empty
"""


async def _look(dsn: str) -> _Looked:
    # Whether its commits last is asked when the program runs on it; a restore is one transaction.
    database = await db.connect(dsn, Settings(allow_unsafe_database=True, database_pool_max=1))
    try:
        (row,) = await database.fetch(LOOK_SQL)
    finally:
        await database.close()
    try:
        programs = postgres.find(row["major"])
    except postgres.PostgresNotFoundError:
        programs = postgres.find()
    return _Looked(row["is_empty"], programs)


async def _run(program: Path, dsn: str, arguments: Sequence[str]) -> None:
    """Run one of PostgreSQL's programs to its end; the password travels in its environment, not in sight."""
    bare, password = _apart(dsn)
    process = await asyncio.create_subprocess_exec(
        program,
        f"--dbname={bare}",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(password),
    )
    try:
        async with asyncio.timeout(WAIT_S):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            await _end(process)
    if process.returncode:
        words = said.decode(errors="replace").strip()[-LAST_WORDS_MAX:]
        raise BackupError(f"{program.name} ended without success: {words}")


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_WAIT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _environment(password: str) -> Mapping[str, str]:
    """Give what libpq may need (PG…, where .pgpass lies) and nothing of ours: the master key may stand there."""
    passed = {name: value for name, value in os.environ.items() if name.startswith("PG") or name == "HOME"}
    return passed | {"PATH": os.defpath, "LC_ALL": "C"} | ({"PGPASSWORD": password} if password else {})


def _apart(dsn: str) -> tuple[str, str]:
    """Part a DSN into itself without its password, and the password."""
    parts = urlsplit(dsn)
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, password = user.partition(":")
    if not (at and colon):
        return dsn, ""
    return urlunsplit(parts._replace(netloc=f"{name}@{hosts}")), unquote(password)


def _keep(draft: Path, path: Path) -> int:
    """Give the finished file its name once its octets are on the disk; returns how many they are."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path.stat().st_size
