"""A whole install: the database, and each role in a process of its own, started again when it dies.

Entry points: run() keeps one going until it is told to stop; open_database() and open_vault() serve every process and
the command line too. What a process with a role is made of stands in rooms.py: nothing of that is imported here, so
that the first process begins at once.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from hongyan import db, postgres, vault
from hongyan.control import data_keys
from hongyan.settings import ROLES, Settings, variable_of
from hongyan.vault import Vault, VaultError

if TYPE_CHECKING:
    import aiohttp

    from hongyan.control.demo import Demo

log = structlog.get_logger()

DATABASE_START_S = 300.0  # recovery of a large log may take minutes
RESTART_S = 0.2  # a role that died comes back after this, doubling while it keeps dying
RESTART_S_MAX = 10.0
DEMO_OPERATOR_PORTS = range(27_000, 28_000)
PARENT_GAP_S = 0.5
STEADY_S = 30.0  # alive for so long: the next death is a new one
CHILD_STOP_S = 20.0
READY_WAIT_S = 60.0
SHOW_WAIT_S = 30.0
SEND_TRIES = 200
HTTP_REFUSED = 400
HTTP_UNAUTHENTICATED = 401

Tell = Callable[[str], None]


# ── what every process opens ──────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def open_database(settings: Settings, tell: Tell = lambda _: None) -> AsyncIterator[db.Database]:
    """Yield the database, migrated. Without DATABASE_URL the embedded server is joined, or started for as long as this lasts."""
    if settings.database_url:
        await db.migrate(settings.database_url)
        database = await db.connect(settings.database_url, settings)
        try:
            yield database
        finally:
            await database.close()
        return
    server = postgres.Server(settings.state_dir)
    started = False
    try:
        await asyncio.to_thread(server.start, DATABASE_START_S, tell)
        started = True
    except postgres.ServerBusyError:
        pass  # another process of ours keeps it; its socket serves us too
    try:
        async with open_database(replace(settings, database_url=server.dsn), tell) as database:
            yield database
    finally:
        if started:
            await asyncio.to_thread(server.stop)


async def open_vault(database: db.Database, settings: Settings) -> Vault:
    """Open the vault with the master key; the first start makes both.

    Raises VaultError if they do not fit, or where the key of a database that has been used is missing.
    """
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = settings.state_dir / "master.key"
    async with database.transaction() as tx:
        # In this order: a process that starts beside us makes the file before the rows.
        if not settings.master_key and await data_keys.wrapped(tx) and not path.exists():
            raise VaultError(f"{path} is missing: put your copy there (mode 600), or set HONGYAN_MASTER_KEY")
        return await data_keys.lay(tx, vault.read_master_key(settings.master_key, path))


async def outlived(parent: int, stop: asyncio.Event) -> None:
    """Stop when the supervisor (0: there is none) is no more: it starts a new one of us when it comes back."""
    while parent:
        if os.getppid() != parent:
            log.warning("process.orphaned", parent=parent)
            stop.set()
            return
        await asyncio.sleep(PARENT_GAP_S)


# ── where doors listen ────────────────────────────────────────────────────────────────────────────────


class AddressError(Exception):
    """The door cannot listen where the settings say; the text says where and why."""


class DemoError(Exception):
    """The demo does not get to its first message; the text says where to read why."""


def listening(settings: Settings, *, shared: bool = True) -> socket.socket:
    """Open the door's socket; several doors of one machine share the port. Raises AddressError."""
    return bound(settings.http_host, settings.http_port, shared=shared)


def bound(host: str, port: int, *, shared: bool = True) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise AddressError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    listening.set_inheritable(False)
    return listening


# ── the whole install ─────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Child:
    """A process the supervisor keeps alive."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path | None
    process: asyncio.subprocess.Process | None = None


class Supervisor:
    """Keeps the database and the roles running; `layout` names processes: 'door gateway+clerk'."""

    def __init__(
        self,
        settings: Settings,
        layout: str,
        tell: Tell,
        *,
        quiet: bool,
        extra: Mapping[str, Sequence[str]] = {},
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._given_up = given_up  # while the database starts; later the end of running() stops all
        self._quiet = quiet
        self._server = None if settings.database_url else postgres.Server(settings.state_dir)
        self.dsn = settings.database_url or (self._server.dsn if self._server else "")
        self._children = self._plan(layout) + [
            self._child(name, arguments, {}) for name, arguments in extra.items()
        ]
        self._stopping = False

    def _plan(self, layout: str) -> list[_Child]:
        """Number doors and gateways as they are named, from the settings' number on; metrics ports of the doorless too."""
        counted = {"door": self._settings.door - 1, "gateway": self._settings.gateway - 1}
        counted |= {"clerk": 0, "control": 0}
        first = {role: number + 1 for role, number in counted.items()}
        doors = counted["door"] + layout.replace("+", " ").split().count("door")
        metrics_port = self._settings.metrics_port
        children = []
        for word in layout.split():
            roles = word.split("+")
            unknown = set(roles) - set(ROLES)
            if unknown:
                raise ValueError(f"no such role: {min(unknown)}; there are {', '.join(ROLES)}")
            environment = {}
            for role in roles:
                counted[role] += 1
                if role in ("door", "gateway"):
                    environment[variable_of(role)] = str(counted[role])
            if (
                "control" in roles and "door" not in roles
            ):  # it accepts messages too, so it is numbered with the doors
                environment[variable_of("door")] = str(doors + counted["control"])
            if metrics_port and "door" not in roles:
                environment[variable_of("metrics_port")] = str(metrics_port)
                metrics_port += 1
            name = word if counted[roles[0]] == first[roles[0]] else f"{word}-{counted[roles[0]]}"
            children.append(
                self._child(
                    name,
                    ["run", f"--parent={os.getpid()}", *(f"--role={role}" for role in roles)],
                    environment,
                )
            )
        return children

    def _child(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> _Child:
        path = self._settings.state_dir / "log" / f"{name}.log" if self._quiet else None
        return _Child(name, arguments, environment, path)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything; while this lasts, what dies is started again. Stops everything at the end."""
        try:
            if self._server is not None:
                await asyncio.to_thread(self._server.start, DATABASE_START_S, self._tell, self._given_up)
            # Once, here: what is wrong with the database or the master key, no restart of a child mends.
            async with open_database(replace(self._settings, database_url=self.dsn)) as database:
                await open_vault(database, self._settings)
            async with asyncio.TaskGroup() as tasks:
                keeping = [tasks.create_task(self._keep(child)) for child in self._children]
                if self._server is not None:
                    keeping.append(tasks.create_task(self._keep_database(self._server)))
                try:
                    yield
                finally:
                    self._stopping = True
                    await self._stop_children()
                    for task in keeping:
                        task.cancel()
        finally:
            if self._server is not None:
                await asyncio.to_thread(self._server.stop)

    async def _keep(self, child: _Child) -> None:
        pause_s = RESTART_S
        while not self._stopping:
            began_s = time.monotonic()
            child.process = await self._spawn(child)
            code = await child.process.wait()
            pause_s = RESTART_S if time.monotonic() - began_s > STEADY_S else min(pause_s * 2, RESTART_S_MAX)
            if not self._stopping:
                where = str(child.log_path or "stderr")
                log.error("supervisor.died", process=child.name, code=code, again_in_s=pause_s, log=where)
                await asyncio.sleep(pause_s)

    async def _spawn(self, child: _Child) -> asyncio.subprocess.Process:
        environment = os.environ | {
            variable_of("database_url"): self.dsn,
            variable_of("state_dir"): str(self._settings.state_dir.absolute()),
            variable_of("http_port"): str(self._settings.http_port),
        }
        output = None
        if child.log_path is not None:
            child.log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            output = child.log_path.open("ab")
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hongyan", *child.arguments, env=environment | dict(child.environment),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        finally:
            if output is not None:
                output.close()

    async def _keep_database(self, server: postgres.Server) -> None:
        while True:
            code = await server.died()
            if self._stopping:
                return
            log.error("supervisor.died", process="postgres", code=code)
            try:
                await asyncio.to_thread(server.start, DATABASE_START_S, self._tell)
            except postgres.PostgresError as error:
                log.error("supervisor.database", error=str(error))  # noqa: TRY400 - it says what to do
                await asyncio.sleep(RESTART_S_MAX)

    async def _stop_children(self) -> None:
        """Doors first: they stop taking while gateways still send."""
        for wave in (("door", "control"), ("gateway", "clerk"), ("simulator",)):
            alive = [
                c.process
                for c in self._children
                if c.process and c.process.returncode is None and c.name.startswith(wave)
            ]
            for process in alive:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
            for process in alive:
                try:
                    async with asyncio.timeout(CHILD_STOP_S):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()


def run(settings: Settings, *, demo: bool = False) -> None:
    """Keep the whole install running until it is told to stop."""
    import uvloop

    uvloop.run(supervise(settings, demo=demo))


async def supervise(settings: Settings, *, demo: bool = False) -> None:
    """Keep the install running until SIGTERM or SIGINT. A demo has a practice operator, and shows a first message."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    port = _operator_port(settings.state_dir) if demo else 0
    extra = {"simulator": ["simulate", f"--port={port}", f"--parent={os.getpid()}"]} if demo else {}
    tell = _say if demo else lambda line: log.info("supervisor.database", line=line)
    if "door" in settings.layout:
        # Before anything starts, rather than in a child again and again.
        taken = _say if demo else lambda line: log.warning("supervisor.address_taken", line=line)
        await _unless(stop, _demand_address(settings, taken))
        if stop.is_set():
            return
    supervisor = Supervisor(settings, settings.layout, tell, quiet=demo, extra=extra, given_up=stop.is_set)
    with contextlib.suppress(postgres.StartGivenUpError):  # `stop` is set
        async with supervisor.running():
            if demo:
                await _unless(stop, _show(replace(settings, database_url=supervisor.dsn), port))
            await stop.wait()
            if demo:
                _say("Stopping …")


async def _demand_address(settings: Settings, tell: Tell) -> None:
    """Wait until nobody else listens where our doors will, for as long as a predecessor's may take to stop.

    Doors share their port, so two installs would each get a part of the other's requests, and no error.
    Raises AddressError.
    """
    give_up_s = time.monotonic() + CHILD_STOP_S
    told = False
    while True:
        try:
            listening(settings, shared=False).close()
        except AddressError as error:
            if time.monotonic() >= give_up_s:
                raise
            if not told:
                tell(f"{error}; waiting for {CHILD_STOP_S:.0f} s at most")
            told = True
        else:
            return
        await asyncio.sleep(PARENT_GAP_S)


def _operator_port(state_dir: Path) -> int:
    """Return the practice operator's port: the same at every start if it is free, so that nothing has to change.

    Each state folder has another, so that demos that begin together do not find the same one free.
    """
    own = zlib.crc32(os.fsencode(state_dir.absolute())) % len(DEMO_OPERATOR_PORTS)
    for wanted in (DEMO_OPERATOR_PORTS[own], 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", wanted))
            port: int = probe.getsockname()[1]
            return port
    raise AddressError("no port is free on 127.0.0.1")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is the program's word to the person who started it


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Do the work, or let go of it once it is to stop. What it raises comes in a group."""
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work)
        stopped = tasks.create_task(stop.wait())
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        stopped.cancel()


async def _show(settings: Settings, simulator_port: int) -> None:
    """Lay the demo, send one message through the API, and show it travel. Raises DemoError."""
    import aiohttp

    from hongyan.control import demo

    async with open_database(settings) as database:
        keys = await demo.lay(database, await open_vault(database, settings), settings, simulator_port)
    try:
        async with asyncio.timeout(READY_WAIT_S):
            await _answering(settings)
        await _travel(settings, keys)
    except (TimeoutError, aiohttp.ClientError) as error:
        raise DemoError(
            f"{settings.door_url()} does not answer: {str(error) or type(error).__name__}; "
            f"why may stand in {settings.state_dir / 'log'}"
        ) from error


async def _answering(settings: Settings) -> None:
    """Wait until a door takes connections."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(settings.http_host, settings.http_port)
            writer.close()
            return
        await asyncio.sleep(0.02)


async def _travel(settings: Settings, keys: "Demo") -> None:
    """Send the demo's message, show it travel, and say how to go on."""
    import aiohttp

    from hongyan.control import demo

    base = settings.door_url()
    headers = {"Authorization": keys.authorization()}
    timeout = aiohttp.ClientTimeout(total=SHOW_WAIT_S)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        began_s = time.monotonic()
        _say(f"→ POST {base}/v1/messages   {demo.NUMBER} · 【{demo.SIGNATURE}】 · template order")
        seen = ""
        async for status in _statuses(session, base, keys.request()):
            if status != seen:
                _say(f"  {time.monotonic() - began_s:6.3f} s  {status}")
                seen = status
            if time.monotonic() - began_s > SHOW_WAIT_S:
                break
    _say(f"\nSend one yourself:\n\n{keys.curl(base)}\n")
    if "control" in settings.layout:
        await _manages(base)
        _say(f"Console {base}/console/ · operator {keys.operator} · the demo tenant's owner {keys.owner}\n")
        _say("Manage by the API, as the console does:\n")
        _say(f"{keys.manage(base, settings.state_dir)}\n")
    _say(f"API document {base}/docs · state and logs in {settings.state_dir} · Ctrl-C stops everything")


async def _manages(base: str) -> None:
    """Wait until the management API answers: it asks who we are then. Raises TimeoutError."""
    import aiohttp

    async with asyncio.timeout(SHOW_WAIT_S), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{base}/v1/me") as answer:
                if answer.status == HTTP_UNAUTHENTICATED:
                    return
            await asyncio.sleep(0.02)


async def _statuses(
    session: "aiohttp.ClientSession", base: str, request: Mapping[str, object]
) -> AsyncIterator[str]:
    """Send a message and yield what it is, again and again, to its end. A refusal is its only word."""
    for _ in range(SEND_TRIES):  # the door hears of the demo's key within moments
        async with session.post(f"{base}/v1/messages", json=request) as answer:
            told = await answer.json()
        if answer.status < HTTP_REFUSED:
            break
        await asyncio.sleep(0.05)
    else:
        yield f"refused: {told['code']} {told['message']}"
        return
    status = told["data"]["status"]
    yield status
    while status in ("accepted", "submitted"):
        await asyncio.sleep(0.01)
        async with session.get(f"{base}/v1/messages/{told['data']['id']}") as answer:
            status = (await answer.json())["data"]["status"]
        yield status
