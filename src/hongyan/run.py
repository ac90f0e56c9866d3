"""The only place that builds long-lived things: settings → database → snapshot → channels → loops.

Entry points: supervise() keeps a whole install running (database, doors, gateways, clerks, simulator), each role
in a process of its own, restarted when it dies; work() is one such process. open_database() and open_vault() serve
the command line too.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import structlog

from hongyan import db, observe, postgres, vault
from hongyan.doors import http
from hongyan.doors.door import Door
from hongyan.egress import Egress, open_egress
from hongyan.settings import Settings, variable_of
from hongyan.vault import Vault
from hongyan.way import handover, prune, submit
from hongyan.way.accept import Acceptor
from hongyan.way.handover import Handed, Link
from hongyan.way.inbound import Desk
from hongyan.way.measure import Counters
from hongyan.way.notify import Payer
from hongyan.way.snapshot import Keeper
from hongyan.way.submit import Gateway

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger()

ROLES = ("door", "gateway", "clerk")
LINKS_GAP_S = 1.0
DATABASE_START_S = 300.0  # recovery of a large log may take minutes
RESTART_S = 0.2  # a role that died comes back after this, doubling while it keeps dying
RESTART_S_MAX = 10.0
PARENT_GAP_S = 0.5
STEADY_S = 30.0  # alive for so long: the next death is a new one
CHILD_STOP_S = 20.0
READY_WAIT_S = 60.0
SHOW_WAIT_S = 30.0
HTTP_REFUSED = 400

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


VAULT_KEYS_SQL: LiteralString = "SELECT name, wrapped FROM vault_key"
FIRST_KEYS = ("index", "secrets", "tenant:0")


async def open_vault(database: db.Database, settings: Settings) -> Vault:
    """Open the vault with the master key; the first start makes both. Raises VaultError if they do not fit."""
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    master = vault.read_master_key(settings.master_key, settings.state_dir / "master.key")
    async with database.transaction() as tx:
        for name in FIRST_KEYS:
            await tx.execute(
                "INSERT INTO vault_key (name, wrapped) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                name,
                vault.make_wrapped(master, name),
            )
        rows = await tx.fetch(VAULT_KEYS_SQL)
    return Vault(master, {row["name"]: row["wrapped"] for row in rows})


# ── one process ───────────────────────────────────────────────────────────────────────────────────────


async def work(settings: Settings, roles: Sequence[str], parent: int = 0) -> None:
    """Be one process with these roles until SIGTERM, SIGINT or the end of the parent; then stop gracefully."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_database(settings) as database:
        process = _Process(settings, database, await open_vault(database, settings))
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_outlived(parent, stop))
            await process.run(roles, stop)
            watching.cancel()


async def _outlived(parent: int, stop: asyncio.Event) -> None:
    """Stop when the supervisor is no more: it starts a new one of us when it comes back."""
    while parent:
        if os.getppid() != parent:
            log.warning("process.orphaned", parent=parent)
            stop.set()
            return
        await asyncio.sleep(PARENT_GAP_S)


class _Process:
    """The rooms of one process and how they know each other."""

    def __init__(self, settings: Settings, database: db.Database, vault_: Vault) -> None:
        self._settings = settings
        self._database = database
        self._vault = vault_
        self._keeper = Keeper(database, vault_)
        self._counters = Counters()
        self._links: dict[int, Link] = {}
        self._gateway: Gateway | None = None
        self._payer: Payer | None = None
        self._acceptor: Acceptor | None = None
        self._paying: asyncio.Task[None] | None = None
        self._server: http.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._paid: list[int] = []

    async def run(self, roles: Sequence[str], stop: asyncio.Event) -> None:
        await self._keeper.load()
        heard: dict[str, Callable[[str], None]] = {"control": self._keeper.stale}
        async with contextlib.AsyncExitStack() as closing, asyncio.TaskGroup() as tasks:
            keep = [self._keeper.run()]
            if "clerk" in roles:
                keep += self._clerk(tasks, await closing.enter_async_context(open_egress(self._settings)))
            if "gateway" in roles:
                keep += self._open_gateway(heard)
            if "door" in roles:
                keep += self._door(tasks, with_gateway="gateway" in roles)
            keep.append(db.Listener(self._database, heard).run())
            if "door" not in roles and self._settings.metrics_port:
                keep.append(_serve_metrics(self._settings.metrics_port, self._counters.render))
            running = [tasks.create_task(one) for one in keep]
            log.info("process.ready", roles=list(roles))
            await stop.wait()
            await self._close()
            for task in running:
                task.cancel()

    async def _close(self) -> None:
        """Stop taking, finish what is under way, give back the rest, in the order messages travel."""
        log.info("process.stopping")
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving], timeout=self._settings.stop_wait_s)
        if self._acceptor is not None:
            with contextlib.suppress(TimeoutError):
                await self._acceptor.drain()
        if self._gateway is not None:
            await self._gateway.close()
        if self._payer is not None and self._paying is not None:
            self._payer.stop()
            await asyncio.wait([self._paying], timeout=self._settings.stop_wait_s)
            self._paying.cancel()

    # ---- roles

    def _clerk(self, tasks: asyncio.TaskGroup, egress: Egress) -> list[Coroutine[Any, Any, None]]:
        self._payer = Payer(self._database, self._keeper, self._vault, self._settings, egress, self._settle)
        self._paying = tasks.create_task(self._payer.run())
        return [prune.run(self._database, self._settings), self._delete_paid()]

    def _settle(self, ids: Sequence[int]) -> None:
        """Have paid notices forgotten: with the next tick, or where none runs in this process, by _delete_paid()."""
        if self._gateway is not None:
            self._gateway.ticker.paid(ids)
        else:
            self._paid.extend(ids)

    async def _delete_paid(self) -> None:
        """Forget paid notices where no ticker in this process does."""
        while True:
            await asyncio.sleep(0.02)
            if not self._paid:
                continue
            ids, self._paid = self._paid, []
            try:
                await self._database.execute(PAID_SQL, ids)
            except db.Unavailable as error:
                log.warning("clerk.database_lost", error=type(error).__name__)
                self._paid += ids

    def _open_gateway(self, heard: dict[str, Callable[[str], None]]) -> list[Coroutine[Any, Any, None]]:
        owe = self._payer.owe if self._payer is not None else _nobody
        gateway = self._gateway = Gateway(
            self._database,
            self._keeper,
            self._vault,
            self._settings,
            self._counters,
            owe,
            lambda *told: desk.arrived(*told),  # noqa: PLW0108 - the desk is made just below
        )
        desk = Desk(
            self._database,
            self._keeper,
            self._vault,
            self._settings,
            self._counters,
            gateway.slots_stored,
            owe,
        )
        heard[submit.STOPPED_TOPIC] = gateway.hear_stopped
        heard[submit.QUEUED_TOPIC] = gateway.hear_queued
        gauge = self._counters.gauge
        gauge(
            "gateway_waiting_messages",
            "messages waiting in memory, by lane",
            gateway.waiting_by_lane,
            label="lane",
        )
        gauge("channel_sessions", "sessions logged in", gateway.sessions_by_channel)
        path = self._settings.state_dir / gateway.socket_name
        return [gateway.run(), desk.run(), handover.listen(path, gateway.take, gateway.waiting)]

    def _door(self, tasks: asyncio.TaskGroup, *, with_gateway: bool) -> list[Coroutine[Any, Any, None]]:
        if with_gateway:
            assert self._gateway is not None
            owner_for, hand = self._own_gateway(self._gateway)
        else:
            owner_for, hand = self._linked_gateways()
        acceptor = self._acceptor = Acceptor(
            self._database, self._keeper, self._vault, self._settings, self._counters, owner_for, hand
        )
        door = Door(self._settings, self._keeper, self._database, self._vault, acceptor)
        server = self._server = http.Server(http.serve_config(door, http.build(door, self._counters.render)))
        self._serving = tasks.create_task(server.serve(sockets=[_listening(self._settings)]))

        loops: list[Coroutine[Any, Any, None]] = [acceptor.run(), door.run()]
        if not with_gateway:
            loops.append(self._find_gateways())
        return loops

    def _own_gateway(
        self, gateway: Gateway
    ) -> tuple[Callable[[int], int], Callable[[Sequence[Handed]], None]]:
        most, number = self._settings.memory_waiting_max, self._settings.gateway

        def owner_for(lane: int) -> int:
            return number if gateway.waiting()[lane] < most else 0

        return owner_for, gateway.take

    def _linked_gateways(self) -> tuple[Callable[[int], int], Callable[[Sequence[Handed]], None]]:
        links, most = self._links, self._settings.memory_waiting_max

        def owner_for(lane: int) -> int:
            """Choose the gateway that holds least of this lane; 0 leaves the row in the database, to be claimed."""
            best, least = 0, most
            for number, link in links.items():
                if link.up and link.waiting(lane) < least:
                    best, least = number, link.waiting(lane)
            return best

        def hand(rows: Sequence[Handed]) -> None:
            if len(links) == 1:
                next(iter(links.values())).hand(rows)
                return
            for number, link in links.items():
                own = [row for row in rows if row.owner == number]
                if own:
                    link.hand(own)

        return owner_for, hand

    async def _find_gateways(self) -> None:
        """Keep a link to every gateway that lives on this machine."""
        async with asyncio.TaskGroup() as keeping:
            while True:
                try:
                    rows = await self._database.fetch(GATEWAYS_SQL, self._settings.gateway_dead_s)
                except db.Unavailable:
                    rows = []
                for row in rows:
                    path = Path(row["socket"])
                    if row["id"] not in self._links and path.exists():  # noqa: ASYNC240 - a local stat
                        link = self._links[row["id"]] = Link(path)
                        keeping.create_task(link.run())
                await asyncio.sleep(LINKS_GAP_S if self._links else 0.05)


def _nobody(_owed: Sequence[object]) -> None:
    """Owe to nobody in this process: a clerk elsewhere finds the rows."""


PAID_SQL: LiteralString = "DELETE FROM notice WHERE id = ANY($1::bigint[])"
GATEWAYS_SQL: LiteralString = """
SELECT id, socket FROM gateway WHERE seen_at > now() - make_interval(secs => $1::float8) ORDER BY id
"""


def _listening(settings: Settings) -> socket.socket:
    """Open the door's socket; several doors of one machine share the port."""
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((settings.http_host, settings.http_port))
    listening.set_inheritable(False)
    return listening


async def _serve_metrics(port: int, render: Callable[[], bytes]) -> None:
    """Serve /metrics of a process that has no door, to this machine only."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
                body = render()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n"
                )
                writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port) as server:
        await server.serve_forever()


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
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._quiet = quiet
        self._server = None if settings.database_url else postgres.Server(settings.state_dir)
        self.dsn = settings.database_url or (self._server.dsn if self._server else "")
        self._children = self._plan(layout) + [
            self._child(name, arguments, {}) for name, arguments in extra.items()
        ]
        self._stopping = False

    def _plan(self, layout: str) -> list[_Child]:
        """Number doors and gateways in the order they are named."""
        counted = dict.fromkeys(ROLES, 0)
        children = []
        for word in layout.split():
            roles = word.split("+")
            unknown = set(roles) - set(ROLES)
            if unknown:
                raise ValueError(f"no such role: {min(unknown)}; there are {', '.join(ROLES)}")
            environment = {}
            for role in roles:
                counted[role] += 1
                if role != "clerk":
                    environment[variable_of(role)] = str(counted[role])
            name = word if counted[roles[0]] == 1 else f"{word}-{counted[roles[0]]}"
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
                await asyncio.to_thread(self._server.start, DATABASE_START_S, self._tell)
            await db.migrate(self.dsn)
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
                log.error("supervisor.died", process=child.name, code=code, again_in_s=pause_s)
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
        for wave in (("door",), ("gateway", "clerk"), ("simulator",)):
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


async def wait_ready(settings: Settings, wait_s: float = READY_WAIT_S) -> None:
    """Wait until a door answers; raises TimeoutError."""
    async with asyncio.timeout(wait_s):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(settings.http_host, settings.http_port)
                writer.close()
                return
            await asyncio.sleep(0.02)


def run(settings: Settings, *, roles: Sequence[str] = (), demo: bool = False, parent: int = 0) -> int:
    """Be one process with these roles, or without any keep the whole install running; returns the exit code."""
    import uvloop

    observe.set_up("warning" if demo else settings.log_level, console=sys.stderr.isatty())
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise ValueError(f"no such role: {unknown[0]}; there are {', '.join(ROLES)}")
    uvloop.run(work(settings, roles, parent) if roles else supervise(settings, demo=demo))
    return 0


async def supervise(settings: Settings, *, demo: bool = False) -> None:
    """Keep the install running until SIGTERM or SIGINT. A demo has a practice operator, and shows a first message."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    port = _free_port() if demo else 0
    extra = {"simulator": ["simulate", "--port", str(port)]} if demo else {}
    tell = _say if demo else lambda line: log.info("supervisor.database", line=line)
    supervisor = Supervisor(settings, settings.layout, tell, quiet=demo, extra=extra)
    async with supervisor.running():
        if demo:
            await _show(replace(settings, database_url=supervisor.dsn), port, stop)
        await stop.wait()
        if demo:
            _say("Stopping …")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is the program's word to the person who started it


async def _show(settings: Settings, simulator_port: int, stop: asyncio.Event) -> None:
    """Lay the demo, send one message through the API, and show it travel."""
    import aiohttp

    from hongyan.control import demo

    base = f"http://{settings.http_host}:{settings.http_port}"
    async with open_database(settings) as database:
        keys = await demo.lay(database, await open_vault(database, settings), settings, simulator_port)
    await wait_ready(settings)
    auth = aiohttp.BasicAuth(keys.key_id, keys.secret)
    async with aiohttp.ClientSession(auth=auth, timeout=aiohttp.ClientTimeout(total=SHOW_WAIT_S)) as session:
        began_s = time.monotonic()
        _say(f"→ POST {base}/v1/messages   {demo.NUMBER} · 【{demo.SIGNATURE}】 · template order")
        message_id = await _send_first(session, base, keys.request(), stop)
        seen = ""
        while not stop.is_set() and time.monotonic() - began_s < SHOW_WAIT_S:
            async with session.get(f"{base}/v1/messages/{message_id}") as answer:
                status = (await answer.json())["data"]["status"]
            if status != seen:
                _say(f"  {time.monotonic() - began_s:6.3f} s  {status}")
                seen = status
            if status not in ("accepted", "submitted"):
                break
            await asyncio.sleep(0.01)
    _say(f"\nSend one yourself:\n\n{keys.curl(base)}\n")
    _say(f"API document {base}/docs · state and logs in {settings.state_dir} · Ctrl-C stops everything")


async def _send_first(
    session: "aiohttp.ClientSession", base: str, request: Mapping[str, object], stop: asyncio.Event
) -> str:
    """Send as soon as the door knows the demo's key: it hears of it within moments."""
    for _ in range(200):
        async with session.post(f"{base}/v1/messages", json=request) as answer:
            told = await answer.json()
        if answer.status < HTTP_REFUSED or stop.is_set():
            return str(told["data"]["id"])
        await asyncio.sleep(0.05)
    raise RuntimeError(f"the demo message was refused: {told['code']} {told['message']}")
