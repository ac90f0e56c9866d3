"""The only place that builds long-lived things: settings → database → snapshot → channels → loops.

Entry points: supervise() keeps a whole install running (database, doors, gateways, clerks, simulator), each role
in a process of its own, restarted when it dies; work() is one such process. open_database() and open_vault() serve
the command line too.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import structlog

from hongyan import db, observe, postgres, vault
from hongyan.control import (
    alarm_notes,
    alarms,
    announcements,
    data_keys,
    duties,
    exports,
    jobs,
    sending,
)
from hongyan.doors import http
from hongyan.doors.door import Door
from hongyan.doors.forward import Forward, socket_of
from hongyan.doors.protocols import Host
from hongyan.doors.telling import TOPIC as TOLD_TOPIC
from hongyan.doors.telling import Telling
from hongyan.doors.upstream import Upstream
from hongyan.egress import Egress, open_egress
from hongyan.settings import ROLES, Settings, variable_of
from hongyan.vault import Vault, VaultError
from hongyan.way import cancel, handover, owing, prune, submit, watch
from hongyan.way.accept import Acceptor
from hongyan.way.handover import Handed, Link
from hongyan.way.inbound import Desk
from hongyan.way.measure import Counters
from hongyan.way.notify import Owed, Payer
from hongyan.way.snapshot import Keeper
from hongyan.way.submit import Gateway

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger()

LINKS_GAP_S = 1.0
DATABASE_START_S = 300.0  # recovery of a large log may take minutes
RESTART_S = 0.2  # a role that died comes back after this, doubling while it keeps dying
RESTART_S_MAX = 10.0
GC_YOUNG, GC_MIDDLE, GC_OLD = 50_000, 20, 50
DEMO_OPERATOR_PORT = 27_750
PARENT_GAP_S = 0.5
PAID_GAP_S = 0.02
GATEWAY_LOCK = 0x67617465  # 'gate': first half of the advisory lock, the gateway's number is the second
TURN_GAP_S = 0.2
OWED_TOPIC = "owed"
OWED_GAP_S = 0.01  # NOTIFY takes an instance-wide lock: at most one in so long
OWED_MAX = 100_000
STEADY_S = 30.0  # alive for so long: the next death is a new one
CHILD_STOP_S = 20.0
READY_WAIT_S = 60.0
SHOW_WAIT_S = 30.0
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
            watching = tasks.create_task(outlived(parent, stop))
            await process.run(roles, stop)
            watching.cancel()


async def outlived(parent: int, stop: asyncio.Event) -> None:
    """Stop when the supervisor (0: there is none) is no more: it starts a new one of us when it comes back."""
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
        self._herald = _Herald(database)
        self._links: dict[int, Link] = {}
        self._gateway: Gateway | None = None
        self._payer: Payer | None = None
        self._acceptor: Acceptor | None = None
        self._paying: asyncio.Task[None] | None = None
        self._server: http.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._forward: Forward | None = None
        self._runner: jobs.Runner | None = None
        self._paid: list[int] = []
        self._sockets: list[socket.socket] = []
        self._managed_at = 0  # inode of the socket that doors pass on to
        self._host: Host | None = None
        self._telling: Telling | None = None
        self._closing = False

    async def run(self, roles: Sequence[str], stop: asyncio.Event) -> None:
        if "door" in roles:
            self._sockets.append(_listening(self._settings))  # first: where it cannot, nothing else is begun
        await self._keeper.load()
        heard: dict[str, Callable[[str], None]] = {"control": self._keeper.stale}
        async with contextlib.AsyncExitStack() as closing, asyncio.TaskGroup() as tasks:
            if "gateway" in roles:
                await closing.enter_async_context(_only_gateway(self._database, self._settings, stop))
                if stop.is_set():
                    return  # it was never our turn, and what stands under our number is the predecessor's
            keep = await self._build(roles, tasks, closing, heard)
            running = [tasks.create_task(one) for one in keep]
            # What is loaded by now stays; what comes lives for milliseconds and dies by reference count. The
            # collector's default rhythm would walk thousands of messages in hand for every few hundred new ones.
            gc.freeze()
            gc.set_threshold(GC_YOUNG, GC_MIDDLE, GC_OLD)
            log.info("process.ready", roles=list(roles))
            await stop.wait()
            await self._close()
            for task in running:
                task.cancel()

    async def _build(
        self,
        roles: Sequence[str],
        tasks: asyncio.TaskGroup,
        closing: contextlib.AsyncExitStack,
        heard: dict[str, Callable[[str], None]],
    ) -> list[Coroutine[Any, Any, None]]:
        """Build what the roles need; returns the loops to keep. `heard` gets what is listened to."""
        keep = [self._keeper.run(), self._herald.run()]
        if "clerk" in roles:
            egress = await closing.enter_async_context(open_egress(self._settings))
            keep += self._clerk(tasks, egress, heard)
        if "gateway" in roles:
            private = self._settings.channel_private_addresses
            way_out = await closing.enter_async_context(open_egress(self._settings, private=private))
            keep += self._open_gateway(heard, way_out)
        if "door" in roles or "control" in roles:
            keep += self._door(tasks, roles)
        if "door" in roles:
            keep += await self._logins(heard)
        if "control" in roles:
            keep += self._control(await closing.enter_async_context(open_egress(self._settings)))
        keep.append(db.Listener(self._database, heard).run())
        if "door" not in roles and self._settings.metrics_port:
            keep.append(_serve_metrics(self._settings.metrics_port, self._counters.render))
        return keep

    async def _close(self) -> None:
        """Stop taking, finish what is under way, give back the rest, in the order messages travel."""
        log.info("process.stopping")
        await self._stop_serving()
        if self._forward is not None:
            await self._forward.close()
        if self._runner is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.stop_wait_s):
                    await self._runner.close()
        if self._acceptor is not None:
            with contextlib.suppress(TimeoutError):
                await self._acceptor.drain()
        if self._host is not None:
            await self._host.close()
        try:
            if self._telling is not None:
                await self._telling.close()
            if self._gateway is not None:
                await self._gateway.close()
                await self._herald.give()
            if self._payer is not None and self._paying is not None:
                self._closing = True
                self._payer.stop()
                await asyncio.wait([self._paying], timeout=self._settings.stop_wait_s)
                self._paying.cancel()
                await self._forget_paid()
        except db.Unavailable as error:
            log.warning("process.stopped_without_database", error=type(error).__name__)

    async def _stop_serving(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving], timeout=self._settings.stop_wait_s)
        if self._managed_at and _inode(socket_of(self._settings)) == self._managed_at:
            socket_of(self._settings).unlink(missing_ok=True)  # unless a successor listens there by now

    # ---- roles

    def _clerk(
        self, tasks: asyncio.TaskGroup, egress: Egress, heard: dict[str, Callable[[str], None]]
    ) -> list[Coroutine[Any, Any, None]]:
        payer = Payer(self._database, self._keeper, self._vault, self._settings, egress, self._settle)
        self._payer, self._paying = payer, tasks.create_task(payer.run())
        heard[OWED_TOPIC] = lambda _payload: payer.wake()
        text = "Notices and their POSTs by what became of them."
        self._counters.counts("notices", text, lambda: asdict(payer.counts), label="outcome")
        return [prune.run(self._database, self._settings, self._vault), self._keep_forgetting()]

    def _settle(self, ids: Sequence[int]) -> None:
        """Have paid notices forgotten: with the next tick, or where none runs in this process, by _keep_forgetting()."""
        if self._gateway is not None and not self._closing:
            self._gateway.ticker.paid(ids)
        else:
            self._paid.extend(ids)

    async def _keep_forgetting(self) -> None:
        """Forget paid notices where no ticker in this process does."""
        while True:
            await asyncio.sleep(PAID_GAP_S)
            try:
                await self._forget_paid()
            except db.Unavailable as error:
                log.warning("clerk.database_lost", error=type(error).__name__)

    async def _forget_paid(self) -> None:
        ids = self._paid[:]
        if ids:
            await owing.forget(self._database, ids)
            del self._paid[: len(ids)]

    def _owe(self, owed: Sequence[Owed]) -> None:
        """Hear of notices that are stored: they go to this process's payer, or to the clerks elsewhere; doors hear too."""
        if self._payer is not None:
            self._payer.owe(owed)
        else:
            self._herald.owe(owed)
        log_in = self._keeper.current.login_apps
        if log_in and any(notice.app_id in log_in for notice in owed):
            self._herald.tell()

    def _open_gateway(
        self, heard: dict[str, Callable[[str], None]], way_out: Egress
    ) -> list[Coroutine[Any, Any, None]]:
        gateway = self._gateway = Gateway(
            self._database,
            self._keeper,
            self._vault,
            self._settings,
            self._counters,
            self._owe,
            lambda *told: desk.arrived(*told),  # noqa: PLW0108 - the desk is made just below
            way_out,
        )
        desk = Desk(
            self._database,
            self._keeper,
            self._vault,
            self._settings,
            self._counters,
            gateway.slots_stored,
            self._owe,
        )
        heard[submit.STOPPED_TOPIC] = gateway.hear_stopped
        heard[cancel.TOPIC] = gateway.hear_cancel
        watcher = watch.Watcher(self._database, self._settings.gateway, gateway.channel)
        heard[watch.TOPIC] = watcher.hear
        gauge = self._counters.gauge
        gauge(
            "gateway_waiting_messages",
            "messages waiting in memory, by lane",
            gateway.waiting_by_lane,
            label="lane",
        )
        gauge("channel_sessions", "sessions logged in", gateway.sessions_by_channel)
        path = self._settings.state_dir / gateway.socket_name
        return [
            gateway.run(),
            watcher.run(),
            desk.run(),
            handover.listen(path, gateway.take, gateway.waiting),
        ]

    def _door(self, tasks: asyncio.TaskGroup, roles: Sequence[str]) -> list[Coroutine[Any, Any, None]]:
        """Take messages in at the address, or manage at the socket that doors pass on to, or both at the address."""
        if self._gateway is not None:
            owner_for, hand = self._own_gateway(self._gateway)
        else:
            owner_for, hand = self._linked_gateways()
        takes_in, manages = "door" in roles, "control" in roles
        acceptor = self._acceptor = Acceptor(
            self._database, self._keeper, self._vault, self._settings, self._counters, owner_for, hand
        )
        door = Door(self._settings, self._keeper, self._database, self._vault, acceptor)
        text = "Requests and messages refused, by public code."
        self._counters.counts("door_refusals", text, lambda: door.refusals, label="code")
        upstream = Upstream(
            self._database, self._keeper, self._vault, self._settings, self._counters, self._owe
        )
        if manages:  # also beside a door of its own: there may be others
            self._sockets.append(_socket_for_doors(self._settings))
            self._managed_at = _inode(socket_of(self._settings))
        app = http.build(door, self._counters.render, upstream, manages=manages)
        if isinstance(app, Forward):
            self._forward = app
        server = self._server = http.Server(http.serve_config(door, app, hot=takes_in))
        self._serving = tasks.create_task(server.serve(sockets=self._sockets))

        loops: list[Coroutine[Any, Any, None]] = [acceptor.run(), door.run(), upstream.run()]
        if self._gateway is None:
            loops.append(self._find_gateways())
        return loops

    def _control(self, egress: Egress) -> list[Coroutine[Any, Any, None]]:
        """Do what the control plane does by itself: jobs, what time asks for, alarms, news for tenants."""
        assert self._acceptor is not None
        tools = jobs.Tools(self._database, self._vault, self._keeper, self._settings, self._acceptor)
        runner = self._runner = jobs.Runner(tools, {**sending.KINDS, **exports.KINDS}, [sending.forget])
        with_egress = (self._database, self._vault, self._settings, egress)
        return [
            runner.run(),
            duties.run(self._database),
            alarms.watch(self._database),
            alarm_notes.run(*with_egress),
            announcements.run(*with_egress),
        ]

    async def _logins(self, heard: dict[str, Callable[[str], None]]) -> list[Coroutine[Any, Any, None]]:
        """Open the ports for customers who log in with a protocol, if any is configured."""
        listening = _login_sockets(self._settings)
        if not listening:
            return []
        assert self._acceptor is not None
        host = self._host = Host(
            self._settings,
            self._keeper,
            self._database,
            self._vault,
            self._acceptor,
            lambda: telling.wake(),  # noqa: PLW0108 - it is made just below
        )
        telling = self._telling = Telling(self._database, self._vault, host)
        heard[TOLD_TOPIC] = telling.wake
        for protocol, sock, tls in listening:
            await host.serve(protocol, sock=sock, ssl=tls)
        text = "Logins and submits of customers' sessions refused, by public code or fault."
        self._counters.counts("session_refusals", text, lambda: host.refusals, label="code")
        self._counters.gauge(
            "login_sessions", "customers' sessions", host.sessions_by_protocol, label="protocol"
        )
        return [host.run(), telling.run()]

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


TURN_SQL: LiteralString = """
SELECT pg_try_advisory_lock($1, $2)
       OR NOT EXISTS (SELECT FROM gateway WHERE id = $2 AND seen_at > now() - make_interval(secs => $3::float8))
"""


@asynccontextmanager
async def _only_gateway(
    database: db.Database, settings: Settings, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Be the gateway of our number once a predecessor, which may still be stopping, has ended or fallen silent.

    A stop ends the wait as well.
    Two of one number would send what the other has in hand. The lock ends with its connection, so with the process.
    """
    connection = await database.own_connection()
    try:
        values = (GATEWAY_LOCK, settings.gateway, settings.gateway_dead_s)
        while not stop.is_set() and not await connection.fetchval(
            TURN_SQL, *values, timeout=db.STATEMENT_WAIT_S
        ):
            log.info("gateway.waits_for_predecessor", gateway=settings.gateway)
            await asyncio.sleep(TURN_GAP_S)
        yield
    finally:
        connection.terminate()


class _Herald:
    """Gives what a gateway without a clerk owes to the clerks elsewhere, and tells them so.

    The rows are born leased, as if a payer stood beside us: without an end to the lease they would wait for it.
    """

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self._owed: list[int] = []
        self._told = False
        self._wake = asyncio.Event()
        self._giving = asyncio.Lock()

    def tell(self) -> None:
        """Let the doors know that somebody who logs in is owed something."""
        self._told = True
        self._wake.set()

    def owe(self, owed: Sequence[Owed]) -> None:
        room = OWED_MAX - len(self._owed)  # what finds no room waits for the end of its lease
        self._owed += [notice.id for notice in owed[:room]]
        self._wake.set()

    async def run(self) -> None:
        """Give until cancelled, in batches: one NOTIFY a gap, however much is owed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.give()
            except db.Unavailable as error:
                log.warning("gateway.database_lost", duty="owed", error=type(error).__name__)
                self._wake.set()
            await asyncio.sleep(OWED_GAP_S)

    async def give(self) -> None:
        """Give what is owed by now. Raises db.Unavailable; then it is still owed."""
        async with self._giving:  # the last one, at the end, may find one under way
            owed = self._owed[:]
            if owed:
                await owing.give_back(self._database, sorted(owed))
                await self._database.notify(OWED_TOPIC)
                del self._owed[: len(owed)]
            if self._told:
                self._told = False  # what is told meanwhile needs another word
                await self._database.notify(TOLD_TOPIC)


GATEWAYS_SQL: LiteralString = """
SELECT id, socket FROM gateway WHERE seen_at > now() - make_interval(secs => $1::float8) ORDER BY id
"""


class AddressError(Exception):
    """The door cannot listen where the settings say; the text says where and why."""


def _listening(settings: Settings, *, shared: bool = True) -> socket.socket:
    """Open the door's socket; several doors of one machine share the port. Raises AddressError."""
    return _bound(settings.http_host, settings.http_port, shared=shared)


def _socket_for_doors(settings: Settings) -> socket.socket:
    """Open the socket of the process that manages, in the place of a predecessor's. Raises AddressError."""
    path = socket_of(settings)
    path.unlink(missing_ok=True)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        opened.close()
        raise AddressError(f"cannot listen on {path}: {error}") from error
    opened.listen(http.BACKLOG)
    opened.setblocking(False)
    return opened


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _login_sockets(settings: Settings) -> list[tuple[str, socket.socket, ssl.SSLContext | None]]:
    """Open the sockets for customers who log in: protocol, socket, TLS. Raises AddressError."""
    ports = {
        "smpp": settings.smpp_port,
        "cmpp": settings.cmpp_port,
        "sgip": settings.sgip_port,
        "smgp": settings.smgp_port,
    }
    opened: list[tuple[str, socket.socket, ssl.SSLContext | None]] = [
        (protocol, _bound(settings.login_host, port), None) for protocol, port in ports.items() if port
    ]
    if settings.smpp_tls_port:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        except OSError as error:  # ssl.SSLError is one
            raise AddressError(f"cannot use {settings.tls_certificate}: {error}") from error
        opened.append(("smpp", _bound(settings.login_host, settings.smpp_tls_port), context))
    return opened


def _bound(host: str, port: int, *, shared: bool = True) -> socket.socket:
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
                await asyncio.to_thread(self._server.start, DATABASE_START_S, self._tell)
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
    extra = {"simulator": ["simulate", f"--port={port}", f"--parent={os.getpid()}"]} if demo else {}
    tell = _say if demo else lambda line: log.info("supervisor.database", line=line)
    if "door" in settings.layout:
        await _demand_address(settings)  # before anything starts, rather than in a child again and again
    supervisor = Supervisor(settings, settings.layout, tell, quiet=demo, extra=extra)
    async with supervisor.running():
        if demo:
            await _show(replace(settings, database_url=supervisor.dsn), port, stop)
        await stop.wait()
        if demo:
            _say("Stopping …")


async def _demand_address(settings: Settings) -> None:
    """Wait until nobody else listens where our doors will, for as long as a predecessor's may take to stop.

    Doors share their port, so two installs would each get a part of the other's requests, and no error.
    Raises AddressError.
    """
    give_up_s = time.monotonic() + CHILD_STOP_S
    while True:
        try:
            _listening(settings, shared=False).close()
        except AddressError:
            if time.monotonic() >= give_up_s:
                raise
        else:
            return
        await asyncio.sleep(PARENT_GAP_S)


def _free_port() -> int:
    """Return the practice operator's port: the same at every start if it is free, so that nothing has to change."""
    for wanted in (DEMO_OPERATOR_PORT, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", wanted))
            port: int = probe.getsockname()[1]
            return port
    raise AddressError("no port is free on 127.0.0.1")


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
    headers = {"Authorization": keys.authorization()}
    timeout = aiohttp.ClientTimeout(total=SHOW_WAIT_S)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
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
    if "control" in settings.layout:
        await _manages(base, stop)
        _say(f"Manage, as the operator {keys.operator} or as the demo tenant's owner {keys.owner}:\n")
        _say(f"{keys.manage(base, settings.state_dir)}\n")
    _say(f"API document {base}/docs · state and logs in {settings.state_dir} · Ctrl-C stops everything")


async def _manages(base: str, stop: asyncio.Event) -> None:
    """Wait until the management API answers: it asks who we are then. Raises TimeoutError."""
    import aiohttp

    async with asyncio.timeout(SHOW_WAIT_S), aiohttp.ClientSession() as session:
        while not stop.is_set():
            async with session.get(f"{base}/v1/me") as answer:
                if answer.status == HTTP_UNAUTHENTICATED:
                    return
            await asyncio.sleep(0.02)


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
