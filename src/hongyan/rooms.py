"""One process with its roles: what its rooms are and how they know each other.

Entry point: run(), a process until it is told to stop. Rooms that only some roles have are imported where they are
built: a gateway starts in half the time without the routes of the API, and what is killed is back as soon.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString

import structlog

from hongyan import db, descriptors, turns
from hongyan.egress import Egress, open_egress
from hongyan.run import AddressError, bound, listening, open_database, open_vault, outlived
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.way import cancel, handover, others, owing, prune, submit, watch
from hongyan.way.accept import Acceptor
from hongyan.way.handover import Handed, Link
from hongyan.way.herald import Herald
from hongyan.way.inbound import Desk
from hongyan.way.measure import Counters
from hongyan.way.notify import Owed, Payer
from hongyan.way.snapshot import Keeper
from hongyan.way.submit import Gateway

if TYPE_CHECKING:
    from hongyan.control import jobs
    from hongyan.doors import http
    from hongyan.doors.forward import Forward
    from hongyan.doors.protocols import Host
    from hongyan.doors.telling import Telling

log = structlog.get_logger()

LINKS_GAP_S: Final = 1.0
GC_YOUNG, GC_MIDDLE, GC_OLD = 50_000, 20, 50
PAID_GAP_S: Final = 0.02
# 'gate': first half of the advisory lock, the gateway's number is the second
GATEWAY_LOCK: Final = 0x67617465
TURN_GAP_S: Final = 0.2
SOCKETS_WAITING_MAX: Final = 2_048  # doors that have connected and were not accepted yet


def run(settings: Settings, roles: Sequence[str], parent: int = 0) -> None:
    """Be one process with these roles. `parent`: the supervisor that it ends with."""
    import uvloop

    uvloop.run(work(settings, roles, parent))


def collect_seldom() -> None:
    """Leave what is loaded by now to itself, and look for garbage seldom.

    What comes lives for milliseconds and dies by reference count: the collector's default rhythm would walk thousands of
    messages in hand for every few hundred new ones.
    """
    gc.freeze()
    gc.set_threshold(GC_YOUNG, GC_MIDDLE, GC_OLD)
    gc.enable()


async def work(settings: Settings, roles: Sequence[str], parent: int = 0) -> None:
    """Be one process with these roles until SIGTERM, SIGINT or the end of the parent; then stop gracefully."""
    descriptors.ask_for_many()
    if list(roles) == ["control"] and not turns.stand_back():  # a list, or a page, may wait for a code
        log.warning("process.cannot_stand_back")
    if "door" in roles:
        turns.come_early(0)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_database(settings) as database:
        process = _Process(settings, database, await open_vault(database, settings), roles)
        await prune.stand_ready(database)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(outlived(parent, stop))
            await process.run(stop)
            watching.cancel()


class _Process:
    """The rooms of one process and how they know each other."""

    def __init__(
        self, settings: Settings, database: db.Database, vault_: Vault, roles: Sequence[str]
    ) -> None:
        self._roles = roles
        self._settings = settings
        self._database = database
        self._vault = vault_
        self._keeper = Keeper(database, vault_, reads_texts="door" in roles or "control" in roles)
        self._counters = Counters()
        self._herald = Herald(database, self._keeper)
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
        self._paid_wake = asyncio.Event()
        self._sockets: list[socket.socket] = []
        self._managed_at = 0  # inode of the socket that doors pass on to
        self._host: Host | None = None
        self._telling: Telling | None = None
        self._closing = False

    async def run(self, stop: asyncio.Event) -> None:
        roles = self._roles
        if "door" in roles:
            self._sockets.append(listening(self._settings))  # first: where it cannot, nothing else is begun
        await self._keeper.load()
        heard: dict[str, Callable[[str], None]] = {"control": self._keeper.stale}
        async with contextlib.AsyncExitStack() as closing, asyncio.TaskGroup() as tasks:
            if "gateway" in roles:
                await closing.enter_async_context(_only_gateway(self._database, self._settings, stop))
                if stop.is_set():
                    return  # it was never our turn, and what stands under our number is the predecessor's
            keep = await self._build(roles, tasks, closing, heard)
            running = [tasks.create_task(one) for one in keep]
            collect_seldom()
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
            keep += self._door(tasks, roles, heard)
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
            self._server.stop()
            await asyncio.wait([self._serving], timeout=self._settings.stop_wait_s)
        if self._managed_at:
            from hongyan.doors.forward import socket_of

            path = socket_of(self._settings)
            if _inode(path) == self._managed_at:  # unless a successor listens there by now
                path.unlink(missing_ok=True)

    # ---- roles

    def _clerk(
        self, tasks: asyncio.TaskGroup, egress: Egress, heard: dict[str, Callable[[str], None]]
    ) -> list[Coroutine[Any, Any, None]]:
        payer = Payer(self._database, self._keeper, self._vault, self._settings, egress, self._settle)
        self._payer, self._paying = payer, tasks.create_task(payer.run())
        heard[owing.OWED_TOPIC] = lambda _payload: payer.wake()
        text = "Notices and their POSTs by what became of them."
        self._counters.counts("notices", text, lambda: asdict(payer.counts), label="outcome")
        from hongyan.otp import ripen

        return [
            prune.run(self._database, self._settings, self._vault),
            ripen.run(self._database, self._vault),
            self._keep_forgetting(),
        ]

    def _settle(self, ids: Sequence[int]) -> None:
        """Have paid notices forgotten: with the next tick, or where none runs in this process, by _keep_forgetting()."""
        if self._gateway is not None and not self._closing:
            self._gateway.ticker.paid(ids)
        else:
            self._paid.extend(ids)
            self._paid_wake.set()

    async def _keep_forgetting(self) -> None:
        """Forget paid notices where no ticker in this process does."""
        while True:
            if not self._paid:
                self._paid_wake.clear()
                await self._paid_wake.wait()
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
        heard[others.TOPIC] = gateway.lines.others.hear
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

    def _door(
        self, tasks: asyncio.TaskGroup, roles: Sequence[str], heard: dict[str, Callable[[str], None]]
    ) -> list[Coroutine[Any, Any, None]]:
        """Take messages in at the address, or manage at the socket that doors pass on to, or both at the address."""
        from hongyan.doors import http
        from hongyan.doors.door import Door
        from hongyan.doors.forward import Forward
        from hongyan.doors.upstream import Upstream

        if self._gateway is not None:
            owner_for, hand = self._own_gateway(self._gateway)
        else:
            owner_for, hand = self._linked_gateways()
        takes_in, manages = "door" in roles, "control" in roles
        acceptor = self._acceptor = Acceptor(
            self._database, self._keeper, self._vault, self._settings, self._counters, owner_for, hand
        )
        upstream = Upstream(
            self._database, self._keeper, self._vault, self._settings, self._counters, self._owe
        )
        door = Door(self._settings, self._keeper, self._database, self._vault, acceptor, upstream.texted)

        def changed(payload: str) -> None:
            self._keeper.stale(payload)
            door.book.stale(payload)

        heard["control"] = changed
        text = "Requests and messages refused, by public code."
        self._counters.counts("door_refusals", text, lambda: door.refusals, label="code")
        if manages:  # also beside a door of its own: there may be others
            self._sockets.append(_socket_for_doors(self._settings))
            self._managed_at = _inode(Path(self._sockets[-1].getsockname()))
        app = http.build(door, self._counters.render, upstream, manages=manages)
        if isinstance(app, Forward):
            self._forward = app
        server = self._server = http.Server(http.serve_config(door, app, hot=takes_in))
        self._serving = tasks.create_task(server.serve(sockets=self._sockets))

        loops: list[Coroutine[Any, Any, None]] = [acceptor.run(), door.run(), upstream.run()]
        if takes_in:
            from hongyan.otp.fallback import Fallback
            from hongyan.otp.media import Media

            media = Media(self._settings)
            loops.append(
                Fallback(
                    self._database, self._keeper, door.book, self._vault, acceptor, media, self._settings
                ).run()
            )
        if self._gateway is None:
            loops.append(self._find_gateways())
        return loops

    def _control(self, egress: Egress) -> list[Coroutine[Any, Any, None]]:
        """Do what the control plane does by itself: jobs, what time asks for, alarms, news for tenants."""
        from hongyan.control import alarm_notes, alarms, announcements, duties, exports, jobs, sending

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
        opened = _login_sockets(self._settings)
        if not opened:
            return []
        from hongyan.doors.protocols import Host
        from hongyan.doors.telling import Telling

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
        heard[owing.TOLD_TOPIC] = telling.wake
        for protocol, sock, tls in opened:
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


GATEWAYS_SQL: LiteralString = """
SELECT id, socket FROM gateway WHERE seen_at > now() - make_interval(secs => $1::float8) ORDER BY id
"""


def _socket_for_doors(settings: Settings) -> socket.socket:
    """Open the socket of the process that manages, in the place of a predecessor's. Raises AddressError."""
    from hongyan.doors.forward import socket_of

    path = socket_of(settings)
    path.unlink(missing_ok=True)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        opened.close()
        raise AddressError(f"cannot listen on {path}: {error}") from error
    opened.listen(SOCKETS_WAITING_MAX)
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
        (protocol, bound(settings.login_host, port), None) for protocol, port in ports.items() if port
    ]
    if settings.smpp_tls_port:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        except OSError as error:  # ssl.SSLError is one
            raise AddressError(f"cannot use {settings.tls_certificate}: {error}") from error
        opened.append(("smpp", bound(settings.login_host, settings.smpp_tls_port), context))
    return opened


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
