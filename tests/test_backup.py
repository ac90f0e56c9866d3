"""Backups are whole, restored whole or not at all, and the program runs on what was restored."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

import database as databases
import install
import make
from hongyan import backup, clock, db
from hongyan.backup import BackupError
from install import Install, Laid, installed, numbers

MESSAGES = 20


# ─── the files ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def world(database: str) -> AsyncIterator[make.World]:
    async with make.world(database) as opened:
        yield opened


@pytest.fixture
def empty(database_template: databases.Template, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The DSN of a database without a single table."""
    monkeypatch.setenv("HONGYAN_ALLOW_UNSAFE_DATABASE", "yes")
    with databases.bare(database_template) as dsn:
        yield dsn


async def contents(dsn: str) -> Mapping[str, str]:
    """Every table's rows, digested."""
    database = await db.connect(dsn, make.SETTINGS)
    try:
        tables = await database.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') ORDER BY 1"
        )
        digested = {}
        async with database.transaction() as tx:
            for table in tables:
                name = table["name"]
                sql = f"SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {name} t"
                digested[name] = await tx.fetchval(sql)
        return digested
    finally:
        await database.close()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_what_is_restored_is_what_was_backed_up(
    world: make.World, database: str, empty: str, tmp_path: Path
) -> None:
    async with world.database.transaction() as tx:
        for _ in range(3):
            message_id = await make.message(tx, world)
            await make.outbox(tx, world, message_id)
        await make.inbound(tx, world)
    path = tmp_path / "backup"
    octets = await backup.backup(database, path)
    await backup.restore(path, empty)
    assert (octets, path.stat().st_mode & 0o777) == (path.stat().st_size, 0o600)
    assert await contents(empty) == await contents(database)
    assert names(tmp_path) == ["backup"]
    assert await db.migrate(empty) == []


async def test_a_database_that_is_not_empty_is_not_overwritten(
    world: make.World, database: str, tmp_path: Path
) -> None:
    await backup.backup(database, tmp_path / "backup")
    await world.database.execute("UPDATE tenant SET name = 'still here'")
    with pytest.raises(BackupError, match="not empty"):
        await backup.restore(tmp_path / "backup", database)
    assert [row["name"] for row in await world.database.fetch("SELECT name FROM tenant")] == ["still here"]


@pytest.mark.parametrize("octets", ["none", "garbage", "half"])
async def test_a_file_that_is_no_whole_backup_changes_nothing(
    database: str, empty: str, tmp_path: Path, octets: str
) -> None:
    path = tmp_path / "backup"
    if octets == "half":
        await backup.backup(database, path)
        os.truncate(path, path.stat().st_size // 2)
    elif octets == "garbage":
        path.write_bytes(b"not a backup" * 100)
    with pytest.raises(BackupError, match="pg_restore ended without success"):
        await backup.restore(path, empty)
    assert await contents(empty) == {}


async def test_a_backup_that_cannot_be_written_leaves_nothing(database: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="cannot write"):
        await backup.backup(database, tmp_path / "no such folder" / "backup")
    assert names(tmp_path) == []


# ─── the whole, by command line ───────────────────────────────────────────────────────────────────────────


async def refused(one: Install, *arguments: str) -> str:
    """Run a `hongyan …` that must not succeed; returns what it said."""
    process = await asyncio.create_subprocess_exec(
        *install.PROGRAM, *arguments, env=one.environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(install.WAIT_S):
        said, _ = await process.communicate()
    assert process.returncode == 1
    return said.decode()


async def schedule(laid: Laid, number: str) -> str:
    """Send a message that leaves in an hour; returns its id."""
    body = {
        "to": number, "signature": install.SIGNATURE, "template": laid.caller.template, "params": {"order": "1"},
        "send_at": (clock.now() + timedelta(hours=1)).isoformat(),
    }  # fmt: skip
    async with laid.caller.session.post(f"{laid.caller.base}/v1/messages", json=body) as answer:
        return str((await answer.json())["data"]["id"])


async def test_the_program_runs_on_what_was_restored_after_its_database_is_gone(tmp_path: Path) -> None:
    async with installed(layout="door+gateway+clerk") as laid:
        one, path, kept = laid.install, tmp_path / "backup", tmp_path / "master.key"
        await laid.caller.insist_on(numbers(MESSAGES))
        await laid.all_told(list(laid.caller.promised.values()))
        waiting = await schedule(laid, "13900139000")
        assert "the master key is not in it" in await one.command("backup", str(path))
        assert await one.stop() == 0

        shutil.rmtree(one.state / "postgres")
        shutil.move(one.state / "master.key", kept)
        assert "master.key is not there" in await one.command("restore", str(path))
        # Without its key nothing is opened, and no other key is made in its place.
        for command in ("check", "tenants list", "run --role=clerk"):
            assert "master.key is missing: put your copy there" in await refused(one, *command.split())
        assert not (one.state / "master.key").exists()

        shutil.copy(kept, one.state / "master.key")
        await one.start()
        await laid.logged_in()
        for message_id in laid.caller.promised.values():
            assert await laid.caller.status(message_id) == "delivered"
        assert await laid.caller.status(waiting) == "accepted"
        (number,) = numbers(1, first=MESSAGES)
        new = await laid.caller.insist(number)
        await laid.all_told([new.message_id])
        async with one.database() as database:
            await install.books_balance(database)
        assert one.crashes() == []
