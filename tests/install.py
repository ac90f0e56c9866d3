"""A whole install as real processes, with the world around it: an operator, a webhook's sink, a caller.

Entry points: installed() for an install with a tenant who could send, Install for its processes. What is asked of
it goes by command line, environment, HTTP and SMPP, as anybody's program would; only the tenant is laid by calling
control, and the books are read from the database.
"""

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

import database as databases
import plane
from hongyan import clock, db, run, settings, vault
from hongyan.control import keys, prices, routes, signatures, templates, tenants, upstreams, webhooks
from hongyan.simulator import Behaviour, Simulator
from hongyan.simulator.behaviour import Span
from hongyan.vocab.message import Purpose, TenantId
from hongyan.way import charge
from ports import free_port

WAIT_S: Final = 60.0  # for anything; what leases hold up comes after 30
STOP_WAIT_S: Final = 30.0
POLL_S: Final = 0.02
CALLERS: Final = 32  # requests at once
WINDOW_SIZE: Final = 50
PRICE_MICRO: Final = 45_000
PLENTY_MICRO: Final = 10**12
NO_LIMITS: Final = dict.fromkeys(Purpose, (0, 0, 0))
SIGNATURE: Final = "鸿雁"
NOTICE: Final = "order"
PROMOTION: Final = "sale"
TEMPLATES: Final = {
    NOTICE: ("您的订单${order}已发货", Purpose.TRANSACTIONAL),
    PROMOTION: ("新品到店${order} 拒收请回复R", Purpose.PROMOTIONAL),
}
PROGRAM: Final = (sys.executable, "-m", "hongyan")


# ── the world around ──────────────────────────────────────────────────────────────────────────────────


@dataclass
class Sink:
    """A tenant's webhook: takes every event and remembers what it was told of each message."""

    port: int = 0
    told: dict[str, list[str]] = field(default_factory=dict)  # message id → statuses, as they came

    async def hear(self, request: web.Request) -> web.Response:
        for event in (await request.json())["events"]:
            if "message_id" not in event:
                continue  # of a review or a complaint
            self.told.setdefault(event["message_id"], []).append(event["status"])
        return web.Response(text="OK")


@asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    """Serve a webhook on a port of the system's choice."""
    one = Sink()
    application = web.Application(client_max_size=2**24)
    application.router.add_post("/hook", one.hear)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        one.port = runner.addresses[0][1]
        yield one
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the door said; status 0: it said nothing, so the message may or may not be accepted."""

    status: int
    body: Mapping[str, Any]
    retry_after: str = ""

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def message_id(self) -> str:
        return str(self.body["data"]["id"])

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))

    @property
    def content(self) -> Any:
        """What was asked for."""
        return self.body["data"]


@dataclass
class Caller:
    """A tenant's program: sends by HTTP Basic and remembers what it was promised."""

    session: aiohttp.ClientSession
    base: str
    template: str = NOTICE
    promised: dict[str, str] = field(default_factory=dict)  # number → message id
    refused: Counter[int] = field(default_factory=Counter)  # statuses of what had to be sent again

    async def send(self, number: str, *, idempotency_key: str | None = None) -> Answer:
        """Send one message, once. The connection may break: see Answer."""
        request = {
            "to": number, "signature": SIGNATURE, "template": self.template, "params": {"order": "1"},
            "reference": number,
        }  # fmt: skip
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        try:
            async with self.session.post(f"{self.base}/v1/messages", json=request, headers=headers) as answer:
                return Answer(answer.status, await answer.json())
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Answer(0, {})

    async def insist(self, number: str) -> Answer:
        """Send until it is accepted, as a careful program does: under one idempotency key, whatever breaks."""
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = await self.send(number, idempotency_key=f"k-{number}")
                if answer.accepted:
                    self.promised[number] = answer.message_id
                    return answer
                assert answer.status in (0, 429, 500, 502, 503), answer
                self.refused[answer.status] += 1
                await asyncio.sleep(POLL_S)

    async def insist_on(self, numbers: Iterable[str]) -> None:
        """Insist on many, CALLERS at a time."""
        waiting = iter(numbers)

        async def one() -> None:
            for number in waiting:
                await self.insist(number)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(one())

    async def at_once(self, calls: Sequence[tuple[str, str | None]]) -> Sequence[Answer]:
        """Send (number, idempotency key) all at the same time, each over a connection of its own."""
        async with asyncio.TaskGroup() as tasks:
            sent = [tasks.create_task(self.send(number, idempotency_key=key)) for number, key in calls]
        return [one.result() for one in sent]

    async def status(self, message_id: str) -> str:
        async with self.session.get(f"{self.base}/v1/messages/{message_id}") as answer:
            return str((await answer.json())["data"]["status"])


@dataclass
class Console:
    """A person who is signed in: asks the management API with the cookie, each time over a connection of its own."""

    session: aiohttp.ClientSession
    base: str

    async def ask(
        self, method: str, path: str, body: object = None, *, octets: bytes | None = None
    ) -> Answer:
        """Ask once. `octets`: a CSV file in place of a body. Status 0: nothing was answered."""
        headers = {"Hongyan-Console": "1"} | ({"Content-Type": "text/csv"} if octets else {})
        given: dict[str, Any] = {"data": octets} if octets else {"json": body}
        try:
            async with self.session.request(method, self.base + path, headers=headers, **given) as answer:
                return Answer(answer.status, await answer.json(), answer.headers.get("Retry-After", ""))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Answer(0, {})

    async def told(self, method: str, path: str, body: object = None, *, octets: bytes | None = None) -> Any:
        """Ask what must be granted; returns the content."""
        answer = await self.ask(method, path, body, octets=octets)
        assert answer.accepted, (path, answer)
        return answer.content


@asynccontextmanager
async def signed_in(install: "Install", email: str, password: str) -> AsyncIterator[Console]:
    """Sign in through a door."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    jar = aiohttp.CookieJar(unsafe=True)  # of an address, which has no name
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, timeout=timeout) as session:
        console = Console(session, install.base)

        async def let_in() -> bool:
            answer = await console.ask("POST", "/v1/sign-in", {"email": email, "password": password})
            assert answer.status in (0, 200, 503), answer
            return answer.accepted

        await until(let_in, "nobody manages")
        yield console


def numbers(count: int, first: int = 0) -> list[str]:
    """So many mainland numbers, each another."""
    return [f"138{place:08d}" for place in range(first, first + count)]


def awake(count: int) -> list[str]:
    """So many numbers where promotions may leave, now and an hour from now: from 9 to 20 o'clock they may."""
    hour = clock.now().hour
    if hour < 1:
        return [f"+82102{place:07d}" for place in range(count)]  # 9 in Korea
    if hour < 11:
        return numbers(count)  # 9 to 19 in China
    if hour < 18:
        return [f"+447400{place:06d}" for place in range(count)]  # 11 to 19 in Britain, summer or winter
    return [f"+519123{place:05d}" for place in range(count)]  # 13 to 19 in Peru


# ── the processes ─────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def state_folder() -> Iterator[Path]:
    """A folder that the server's user may enter, on a quick disk, gone afterwards with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="hongyan-run-", dir=databases._quick_place()))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Install:
    """`hongyan run` in a state folder of its own. Start it, kill parts of it, stop it, start it again."""

    def __init__(
        self, state: Path, *, layout: str = "door gateway clerk", dsn: str = "", **knobs: str
    ) -> None:
        """dsn: of another PostgreSQL; empty: an embedded one. knobs: further HONGYAN_ variables."""
        self.state = state
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        clean = {name: text for name, text in os.environ.items() if not name.startswith("HONGYAN_")}
        given = {
            "HONGYAN_STATE_DIR": str(state), "HONGYAN_HTTP_PORT": str(self.port), "HONGYAN_LAYOUT": layout,
            "HONGYAN_WEBHOOK_PRIVATE_ADDRESSES": "yes", "PYTHONWARNINGS": "default", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        if dsn:
            given |= {"DATABASE_URL": dsn, "HONGYAN_ALLOW_UNSAFE_DATABASE": "yes"}
        self.environment = clean | given | {f"HONGYAN_{name.upper()}": text for name, text in knobs.items()}
        self.settings = settings.read(self.environment)
        self.log = state / "run.log"
        self._supervisor: asyncio.subprocess.Process | None = None
        self._started: list[asyncio.subprocess.Process] = []

    async def spawn(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start one `hongyan …`; it is stopped with the install."""
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *PROGRAM, *arguments, env=self.environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        return process

    async def command(self, *arguments: str, said: str = "", fails: bool = False) -> str:
        """Run one `hongyan …` to its end, saying something to it; returns what it printed. It must succeed, or fail."""
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, *arguments, env=self.environment, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(WAIT_S):
            printed, _ = await process.communicate(said.encode())
        assert (process.returncode != 0) is fails, printed.decode()
        return printed.decode()

    async def start(self, *arguments: str) -> None:
        """Start the supervisor and wait until its door answers."""
        self._supervisor = await self.spawn("run", *arguments)
        await self.ready()

    async def start_alone(self, roles: Sequence[str]) -> None:
        """Start a process a role, without a supervisor, and wait until a door answers."""
        for role in roles:
            await self.spawn("run", f"--role={role}")
        await self.ready()

    async def ready(self) -> None:
        await until(self._answers, "no door answers")

    def crashes(self) -> list[str]:
        """What the processes' logs say of bugs of ours."""
        return [
            line for line in self.log.read_text().splitlines() if "Traceback" in line or "Warning:" in line
        ]

    async def _answers(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
                session.get(f"{self.base}/healthz") as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    @property
    def supervisor(self) -> asyncio.subprocess.Process:
        assert self._supervisor is not None
        return self._supervisor

    def processes(self) -> Mapping[str, list[int]]:
        """The supervisor's living children by what they are: door, gateway, clerk, control, postgres, simulate."""
        found: dict[str, list[int]] = {}
        for pid in children(self.supervisor.pid):
            words = words_of(pid)
            if not words:
                continue
            roles = [word.removeprefix("--role=") for word in words if word.startswith("--role=")]
            for name in roles or [Path(words[0]).name if "hongyan" not in words else words[3]]:
                found.setdefault(name, []).append(pid)
        return found

    async def kill(self, name: str) -> None:
        """Kill -9 one process and wait until the supervisor has put another in its place."""
        victim = self.processes()[name][0]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: self._replaced(name, victim), f"{name} did not come back")

    async def _replaced(self, name: str, victim: int) -> bool:
        return any(pid != victim for pid in self.processes().get(name, ()))

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the supervisor and with it everything; returns its exit code."""
        self.supervisor.send_signal(number)
        async with asyncio.timeout(STOP_WAIT_S):
            return await self.supervisor.wait()

    def left_over(self) -> list[str]:
        """What still runs out of this folder or stands in it as a socket."""
        sockets = [str(path) for path in self.state.rglob("*") if path.is_socket()]
        return sockets + [" ".join(words_of(pid)) for pid in self._living()]

    async def only_the_server_runs(self) -> bool:
        """Whether PostgreSQL, which the next start will join, is all there is."""
        return all(words_of(pid)[:1] and "postgres" in words_of(pid)[0] for pid in self._living())

    def _living(self) -> Iterator[int]:
        """Every process that has the state folder in its environment, or is the server that lives in it."""
        mark = f"HONGYAN_STATE_DIR={self.state}".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                environment = (path / "environ").read_bytes().split(b"\0")
                inside = (path / "cwd").resolve().is_relative_to(self.state)
                if (mark in environment or inside) and int(path.name) != os.getpid():
                    yield int(path.name)

    async def end(self) -> None:
        """Leave nothing behind, whatever state things are in."""
        if self._supervisor is not None and self._supervisor.returncode is None:
            with contextlib.suppress(TimeoutError):
                await self.stop()
        for pid in list(self._living()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            await process.wait()
        await until(self._nobody, "killed processes stay")

    async def _nobody(self) -> bool:
        return not list(self._living())

    @asynccontextmanager
    async def database(self) -> AsyncIterator[db.Database]:
        """The install's database, as a process beside it would see it."""
        async with run.open_database(self.settings) as database:
            yield database


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(path.parent.name))
    return sorted(found)


def words_of(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    return []


async def until(true: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Wait until an async question is answered with yes."""
    give_up_s = time.monotonic() + WAIT_S
    while not await true():
        assert time.monotonic() < give_up_s, otherwise
        await asyncio.sleep(POLL_S)


# ── an install with a tenant who could send ───────────────────────────────────────────────────────────


@dataclass
class Laid:
    """What tests hold in their hands: the install, the operator, the sink and the tenant's program."""

    install: Install
    operator: Simulator
    sink: Sink
    caller: Caller
    tenant_id: TenantId

    async def logged_in(self, sessions: int = 1) -> None:
        async def enough() -> bool:
            return self.operator.statistics().sessions >= sessions

        await until(enough, "no session")

    async def all_told(self, message_ids: Sequence[str]) -> None:
        """Wait until the sink has heard of each of them."""

        async def told() -> bool:
            return self.sink.told.keys() >= set(message_ids)

        await until(told, "without a final notice")

    @asynccontextmanager
    async def another(
        self,
        *,
        balance_micro: int = PLENTY_MICRO,
        limits: Mapping[Purpose, tuple[int, int, int]] = NO_LIMITS,
    ) -> AsyncIterator[Caller]:
        """The program of one more tenant, who sends over the same channel and is told at the same sink."""
        async with self.install.database() as database:
            key = (await _lay(database, self.install.settings, self.sink.port, balance_micro, limits))[1]
        async with calling(self.install, key) as caller:
            yield caller

    def doubled(self) -> int:
        """How many parts the operator took more than once."""
        return sum(max(0, one.parts - 1) for one in self.operator.destinations().values())

    def absent(self) -> set[str]:
        """Promised numbers the operator never had anything for."""
        return {number for number in self.caller.promised if not self.operator.destination(number).parts}


@asynccontextmanager
async def installed(
    *,
    layout: str = "door gateway clerk",
    dsn: str = "",
    operator: Behaviour | None = None,
    balance_micro: int = PLENTY_MICRO,
    limits: Mapping[Purpose, tuple[int, int, int]] = NO_LIMITS,
    sessions: int = 1,
    roles: Sequence[str] = (),
    **knobs: str,
) -> AsyncIterator[Laid]:
    """Start an install with one tenant who could send, one SMPP channel and one webhook; end it afterwards.

    roles: without a supervisor, each in a process started by hand.
    """
    behaviour = operator or Behaviour(report_delay_s=Span(0.02, 0.05))
    with state_folder() as folder:
        install = Install(folder, layout=layout, dsn=dsn, **knobs)
        try:
            async with Simulator(behaviour) as centre, sink() as hook:
                await (install.start_alone(roles) if roles else install.start())
                async with install.database() as database:
                    tenant_id, key = await lay(
                        database, install.settings, centre.port, hook.port, balance_micro, limits, sessions
                    )
                async with calling(install, key) as caller:
                    laid = Laid(install, centre, hook, caller, tenant_id)
                    if not roles or "gateway" in roles:
                        await laid.logged_in(sessions)
                    yield laid
        finally:
            await install.end()


@asynccontextmanager
async def calling(install: Install, key: keys.NewKey) -> AsyncIterator[Caller]:
    """A tenant's program, from when the doors know its key."""
    token = base64.b64encode(b"%b:%b" % (key.key_id.encode(), key.secret.reveal())).decode()
    headers = {"Authorization": f"Basic {token}"}
    # A connection of its own for each request: the kernel spreads connections over the doors, not requests.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
        caller = Caller(session, install.base)

        async def known() -> bool:
            probes = [await caller.send("nonsense") for _ in range(16)]
            return all(answer.status == 400 for answer in probes)

        await until(known, "the doors do not know the key")
        yield caller


_names = itertools.count(1)


async def lay(
    database: db.Database,
    known: settings.Settings,
    smpp_port: int,
    hook_port: int,
    balance_micro: int,
    limits: Mapping[Purpose, tuple[int, int, int]],
    sessions: int,
) -> tuple[TenantId, keys.NewKey]:
    """Lay tenant, key, wording, price, channel, route and webhook as an operator would, and tell the processes."""
    vault_ = await run.open_vault(database, known)
    async with database.transaction() as tx:
        config = {
            "hosts": ["127.0.0.1"], "port": smpp_port, "system_id": "test", "password": "secret",
            "window_size": WINDOW_SIZE, "backoff_s": 0.05, "backoff_s_max": 0.2, "close_wait_s": 2.0,
        }  # fmt: skip
        channel_id = await upstreams.add_channel(
            tx, vault_, name="test", kind="smpp", settings=config, sessions=sessions, access_number="1069",
            cost_micro=30_000,
        )  # fmt: skip
        await routes.add(tx, channel_id)
    return await _lay(database, known, hook_port, balance_micro, limits)


async def _lay(
    database: db.Database,
    known: settings.Settings,
    hook_port: int,
    balance_micro: int,
    limits: Mapping[Purpose, tuple[int, int, int]],
) -> tuple[TenantId, keys.NewKey]:
    """The same of one tenant, without the channel and its route."""
    vault_ = await run.open_vault(database, known)
    master = vault.read_master_key(known.master_key, known.state_dir / "master.key")
    async with database.transaction() as tx:
        tenant_id = await tenants.create(
            tx, vault_, master, f"Test {next(_names)}", countries=[tenants.EVERYWHERE], limits=limits
        )
        await charge.top_up(tx, tenant_id, balance_micro)
        app_id = await tenants.create_app(tx, tenant_id, "test")
        key = await keys.create(tx, vault_, app_id, allow_basic=True)
        signature_id = await signatures.propose(tx, tenant_id, SIGNATURE)
        await signatures.move(tx, signature_id, signatures.SignatureState.APPROVED)
        for code, (body, purpose) in TEMPLATES.items():
            template_id = await templates.propose(tx, tenant_id, code, templates.Wanted(body), purpose)
            await templates.decide(tx, template_id, approve=True, who="test")
        await prices.put(tx, PRICE_MICRO, tenant_id=tenant_id)
        await webhooks.put(tx, vault_, known, app_id, f"http://127.0.0.1:{hook_port}/hook")
    await database.notify("control")
    return tenant_id, key


# ── the books ─────────────────────────────────────────────────────────────────────────────────────────


async def books_balance(database: db.Database) -> None:
    """Assert that balance, ledger, tallies and queues say the same as the messages; notices are paid here."""
    async with database.transaction() as tx:
        assert await charge.drift(tx) == []
        for sql in (plane.MONEY_SQL, plane.COUNTED_SQL, plane.ADRIFT_SQL):
            assert [dict(row) for row in await tx.fetch(sql)] == []


async def statuses(database: db.Database) -> Counter[int]:
    """How many messages there are of each status, by its number; 0 is open."""
    rows = await database.fetch("SELECT status, count(*) AS messages FROM message GROUP BY status")
    return Counter({row["status"]: row["messages"] for row in rows})
