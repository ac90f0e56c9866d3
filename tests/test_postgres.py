"""The embedded PostgreSQL, on real servers: it keeps what was committed, however it or its keeper ends."""

import asyncio
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan import postgres
from hongyan.postgres import Server
from ports import free_port

WAIT_S = 60.0
QUICK = {"fsync": "off", "shared_buffers": "32MB"}  # kill -9 loses nothing that reached the kernel
KEEPER = """
import os, signal, sys
from pathlib import Path
from hongyan.postgres import Server
server = Server(Path(sys.argv[1]), settings={"fsync": "off", "shared_buffers": "32MB"})
server.start()
print(server.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder the server's user may pass through, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="hongyan-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def server(room: Path) -> Iterator[Server]:
    server = Server(room / "state", settings=QUICK)
    yield server
    server.stop()


async def ask(server: Server, sql: str, dsn: str = "") -> Any:
    connection = await asyncpg.connect(dsn or server.dsn, timeout=WAIT_S)
    try:
        return await connection.fetchval(sql, timeout=WAIT_S)
    finally:
        await connection.close()


def program(pid: int | None) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def test_the_newest_programs_from_15_up_are_found() -> None:
    found = postgres.find()
    assert found.major >= postgres.MAJOR_MIN
    assert all(found.program(name).exists() for name in ("postgres", "initdb", "psql", "pg_dump"))


def test_missing_programs_are_refused_with_what_to_install() -> None:
    with pytest.raises(postgres.PostgresNotFoundError, match=r"no programs of PostgreSQL 99 .*DATABASE_URL"):
        postgres.find(99)


async def test_what_was_committed_is_there_after_stop_and_start(server: Server) -> None:
    server.start()
    await ask(server, "CREATE TABLE kept AS SELECT 1")
    server.stop()
    assert server.pid is None
    server.start()
    assert await ask(server, "SELECT count(*) FROM kept") == 1


def test_a_server_needs_nothing_of_a_shared_memory_folder(server: Server) -> None:
    server.start()
    assert "/dev/shm/PostgreSQL" not in Path(f"/proc/{server.pid}/maps").read_text()  # noqa: S108 - nothing is written there


async def test_what_was_committed_is_there_after_kill_9_of_the_server(server: Server) -> None:
    server.start()
    await ask(server, "CREATE TABLE kept AS SELECT generate_series(1, 100000)")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(WAIT_S):
        assert await server.died() == -signal.SIGKILL
    heard: list[str] = []
    server.start(tell=heard.append)
    assert await ask(server, "SELECT count(*) FROM kept") == 100_000
    assert any("automatic recovery" in line for line in heard)


async def test_a_start_that_nobody_waits_for_any_more_ends_and_loses_nothing(server: Server) -> None:
    server.start()
    await ask(server, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await server.died()
    with pytest.raises(postgres.StartGivenUpError):
        server.start(given_up=lambda: True)
    assert not server.is_alive()
    assert working_in(server.data) == []
    server.start()
    assert await ask(server, "SELECT count(*) FROM t") == 1000


def working_in(folder: Path) -> list[Path]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            found += [process] if process.readlink() == folder else []
    return found


async def test_a_backend_that_outlives_its_server_does_not_stop_the_next_start(server: Server) -> None:
    server.start()
    connection = await asyncpg.connect(server.dsn, timeout=WAIT_S)
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    os.kill(backend, signal.SIGSTOP)  # as deaf to its server's death as one deep in a computation
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(WAIT_S):
        await server.died()
    server.start(wait_s=WAIT_S)
    assert await ask(server, "SELECT 1") == 1
    assert backend not in postgres._processes_in(server.data)
    connection.terminate()


async def test_the_next_keeper_ends_the_server_that_a_killed_keeper_left(server: Server) -> None:
    command = [sys.executable, "-c", KEEPER, str(server.state)]
    keeper = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, timeout=WAIT_S, check=False
    )
    assert keeper.returncode == -signal.SIGKILL, keeper.stderr
    orphan = int(keeper.stdout)
    assert await ask(server, "CREATE TABLE kept AS SELECT 1") is None
    heard: list[str] = []
    server.start(tell=heard.append)
    assert str(orphan) in heard[0]
    assert server.pid != orphan
    assert await ask(server, "SELECT count(*) FROM kept") == 1


def test_a_second_keeper_of_the_same_state_folder_is_refused(server: Server) -> None:
    server.start()
    with pytest.raises(postgres.ServerBusyError, match=f"process {os.getpid()} already keeps"):
        Server(server.state).start()
    assert server.is_alive()


def test_a_stale_pid_file_that_names_a_living_stranger_is_not_believed(server: Server) -> None:
    server.start()
    server.stop()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (server.data / "postmaster.pid").write_text(
            f"{stranger.pid}\n{server.data}\n0\n5432\n\n\n0 0\nready\n"
        )
        server.start()
        assert stranger.poll() is None
        stranger.kill()


async def test_a_path_with_spaces_quotes_and_chinese_serves(room: Path) -> None:
    with Server(room / 'it\'s "my" 鸿雁, state', settings=QUICK) as server:
        assert await ask(server, "SELECT current_user") == postgres.ROLE


async def test_a_state_folder_too_deep_for_a_socket_gets_a_short_private_one(room: Path) -> None:
    deep = room / "/".join(["a-rather-long-name"] * 8)
    deep.mkdir(parents=True)
    with Server(deep / "state", settings=QUICK) as server:
        assert await ask(server, "SELECT 1") == 1
        assert not server.sockets.is_relative_to(room)
        assert stat.S_IMODE(server.sockets.stat().st_mode) == 0o700
    assert not server.sockets.exists()


def test_a_socket_folder_prepared_by_somebody_else_is_refused(room: Path) -> None:
    deep = room / "/".join(["a-rather-long-name"] * 8)
    server = Server(deep / "state", settings=QUICK)
    server.sockets.symlink_to(room)
    try:
        with pytest.raises(postgres.PostgresError, match="is not a folder of user"):
            server.start()
    finally:
        server.sockets.unlink()


async def test_a_server_keeps_commits_and_answers_only_on_a_private_socket(room: Path) -> None:
    with Server(room / "state") as server:
        for knob, value in (
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
            ("data_checksums", "on"),
            ("listen_addresses", ""),
        ):
            assert await ask(server, f"SELECT current_setting('{knob}')") == value
        for folder in (server.folder, server.data, server.sockets):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert await ask(server, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


async def test_a_port_wants_the_password(room: Path) -> None:
    port = free_port()
    with Server(room / "state", port=port, settings=QUICK) as server:
        door = f"@127.0.0.1:{port}/{postgres.DATABASE}"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(server, "SELECT 1", f"postgresql://{postgres.ROLE}:wrong{door}")
        assert await ask(server, "SELECT 1", f"postgresql://{postgres.ROLE}:{server.password}{door}") == 1


def test_nothing_of_our_environment_reaches_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONGYAN_MASTER_KEY", "abad1dea")
    server.start()
    assert b"abad1dea" not in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_a_cluster_of_another_major_version_is_refused_and_left_alone(server: Server) -> None:
    server.start()
    server.stop()
    version = server.data / "PG_VERSION"
    version.write_text("12\n")
    with pytest.raises(postgres.ServerVersionError, match=r"is of PostgreSQL 12, .* Install PostgreSQL 12"):
        server.start()
    assert version.read_text() == "12\n"


def test_a_start_that_fails_tells_the_servers_last_words_and_lets_go(room: Path) -> None:
    broken = Server(room / "state", settings={**QUICK, "shared_buffers": "plenty"})
    with pytest.raises(postgres.ServerFailedError, match="shared_buffers"):
        broken.start()
    with Server(room / "state", settings=QUICK) as mended:
        assert mended.is_alive()


def test_a_full_disk_is_named_whoever_meets_it(room: Path) -> None:
    said = ['FATAL:  could not write lock file "postmaster.pid": No space left on device']
    assert isinstance(postgres._explain(said, "postgres", room), postgres.DiskFullError)
    assert isinstance(postgres._explain_os(OSError(errno.ENOSPC, "full"), room), postgres.DiskFullError)


@as_root
async def test_root_shelters_what_the_servers_user_cannot_reach_and_opens_no_parent(room: Path) -> None:
    closed = room / "closed"
    closed.mkdir(mode=0o700)
    programs = postgres.find()
    package = programs.folder.parents[1]
    shutil.copytree(programs.folder.parent, closed / package.name / "pginstall18", symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name)
    hidden = postgres.Binaries(
        closed / package.name / "pginstall18" / "bin", programs.major, programs.version
    )
    shelter = room / "shelter"
    with Server(closed / "state", settings=QUICK, binaries=hidden, shelter=shelter) as server:
        assert await ask(server, "SELECT 1") == 1
        assert server.folder.is_relative_to(shelter)
        assert program(server.pid).is_relative_to(shelter)
        await ask(server, "CREATE TABLE kept AS SELECT 1")
    with Server(closed / "state", settings=QUICK, binaries=hidden, shelter=shelter) as server:
        assert await ask(server, "SELECT count(*) FROM kept") == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@given(st.integers(min_value=64, max_value=2**24))
def test_the_servers_memory_is_a_fraction_of_the_machines(memory_mb: int) -> None:
    shared_mb = int(postgres._settings(memory_mb)["shared_buffers"].removesuffix("MB"))
    assert shared_mb <= postgres.SHARED_BUFFERS_MB_MAX
    assert shared_mb * 2 <= memory_mb
