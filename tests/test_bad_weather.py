"""Flights through bad weather: sick channels, hanging webhooks, a lost or full database, wild clients, odd clocks.

Each shows the same three things: who is not hit goes on, what was promised is kept, and afterwards the books
balance. Order and counts are asserted, never times.
"""

import asyncio
import os
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest

import database as databases
import make
from conftest import ABSENT
from doors import counter
from hongyan import clock, db
from hongyan.doors import hot
from hongyan.egress import open_egress
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import STATUS_BY_NUMBER, Purpose, Status
from hongyan.way import answers, charge, prune
from hongyan.way.accept import Draft, Outcome
from hongyan.way.notify import Payer
from hongyan.wire import smpp
from plane import NO_LIMITS, QUICK, Plane, add_channel, awake, books_balance, plane, severable

WELL: Final = "report_delay_s=0.01"
COUNT: Final = 60
WINDOW: Final = 10
DEADLINE_S: Final = 20.0


def codes(outcomes: Sequence[Outcome]) -> Counter[str]:
    return Counter(o.code.name if isinstance(o, Refusal) else "OK" for o in outcomes)


def refusal(outcome: Outcome) -> Code | None:
    return outcome.code if isinstance(outcome, Refusal) else None


async def statuses(way: Plane) -> dict[Status, int]:
    rows = await way.database.fetch("SELECT status, count(*) FROM message GROUP BY status")
    return {STATUS_BY_NUMBER[row["status"]]: row["count"] for row in rows}


# ---- sick channels


class Sick:
    """A peer that answers a connection with what it is given, and then listens for ever."""

    def __init__(self, greeting: Callable[[bytes], bytes]) -> None:
        self._greeting = greeting
        self._server: asyncio.Server
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0
        self.connections = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with suppress(ConnectionError):
            bind = await reader.read(1_000)
            writer.write(self._greeting(bind))
            while await reader.read(65_536):
                pass
        writer.close()


def bound(bind: bytes, rest: bytes) -> bytes:
    """Let the client in, and say something more in the same breath."""
    return smpp.encode(smpp.BindTransceiverResp(int.from_bytes(bind[12:16]), system_id="sick")) + rest


GARBAGE: Final = random.Random(7).randbytes(3_000)
SUBMIT: Final = smpp.encode(smpp.DeliverSm(1, short_message=b"x" * 100))
SICK_PEERS: Final[dict[str, Callable[[], Any]]] = {
    "half-open": lambda: Simulator(behaviour.parse("silent_after_submits=3")),
    "never acks": lambda: Simulator(behaviour.parse("ack_loss_share=1 report_loss_share=1")),
    "throttles for ever": lambda: Simulator(behaviour.parse("refuse_status=0x58")),
    "queue always full": lambda: Simulator(behaviour.parse("refuse_status=0x14")),
    "never answers the bind": lambda: Simulator(behaviour.parse("silent=yes")),
    "refuses our password": lambda: Simulator(behaviour.parse("system_id=hongyan password=other")),
    "breaks after each submit": lambda: Simulator(
        behaviour.parse("disconnect_after_submits=1 ack_loss_share=1 report_loss_share=1")
    ),
    "speaks garbage": lambda: Sick(lambda bind: bound(bind, GARBAGE)),
    "garbage before the bind": lambda: Sick(lambda _: GARBAGE),
    "half a pdu": lambda: Sick(lambda bind: bound(bind, SUBMIT[:-40])),
    "a pdu without its end": lambda: Sick(lambda bind: bound(bind, b"\0\0\0\x11" + SUBMIT[4:17])),
    "an impossible length": lambda: Sick(lambda bind: bound(bind, b"\xff" * 16)),
    "hangs up": lambda: Sick(lambda _: b""),
}


@pytest.mark.parametrize("sick", SICK_PEERS)
async def test_a_sick_channel_does_not_slow_another_and_loses_nothing(
    database: str, sick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "UNSURE_AGAIN_MAX", 10_000)  # how long the good one takes is not asked here
    config: dict[str, Any] = {
        "ack_wait_s": 0.3,
        "login_wait_s": 0.3,
        "heartbeat_s": 0.2,
        "window_size": WINDOW,
    }
    async with (
        ill(SICK_PEERS[sick]()) as peer,
        Simulator(behaviour.parse(WELL)) as good,
        plane(database, peer, good, **config) as way,
    ):
        bad_channel, good_channel = way.laid.channels
        await only_for(way, {bad_channel: "telecom", good_channel: "cmcc"})
        await way.up()
        both = [prefix + f"{n:04d}" for n in range(COUNT) for prefix in ("1330013", "1380013")]
        assert codes(await way.accept(*(way.draft(number, Purpose.OTP) for number in both))) == {
            "OK": 2 * COUNT
        }
        await way.until(
            f"SELECT 1 WHERE (SELECT count(*) FROM message WHERE operator = 'cmcc' AND status = 1) = {COUNT}"
        )
        line = way.gateway.lines.open[bad_channel]
        assert line.waiting <= WINDOW
        assert line.channel.state().window_used <= WINDOW
        assert await statuses(way) == {Status.DELIVERED: COUNT, Status.ACCEPTED: COUNT}
        await heal(peer)
        await way.all_final()
        assert await statuses(way) == {Status.DELIVERED: 2 * COUNT}
        await books_balance(way.database)


@asynccontextmanager
async def ill(peer: Any) -> AsyncIterator[Any]:
    await peer.start()
    try:
        yield peer
    finally:
        await peer.stop()


async def only_for(way: Plane, operators: dict[Any, str]) -> None:
    """Give each channel one operator's numbers."""
    async with way.database.transaction() as tx:
        for channel_id, operator in operators.items():
            await tx.execute(
                "UPDATE route_rule SET operator = $2 WHERE channel_id = $1", channel_id, operator
            )
    await way.keeper.load()


async def heal(peer: Simulator | Sick) -> None:
    """Let the peer become a good one, at the same address."""
    if isinstance(peer, Simulator):
        peer.behave(behaviour.parse(WELL))
        peer.disconnect()
        return
    await peer.stop()
    well = Simulator(behaviour.parse(WELL))
    await well.start(port=peer.port)
    peer.stop = well.close  # type: ignore[method-assign]  # it stands in the other's place from now on


async def test_a_wrong_password_is_mended_without_a_restart(database: str) -> None:
    strict = behaviour.parse(f"{WELL} system_id=hongyan password=right")
    async with Simulator(strict) as simulator, plane(database, simulator, password="wrong") as way:
        message_id = await way.send()
        await way.holds(lambda: simulator.statistics().binds_refused > 0)
        (line,) = way.gateway.lines.open.values()
        assert line.channel.state().reason == "bind refused: INVPASWD (0x0E)"
        async with way.database.transaction() as tx:
            sealed = await tx.fetchval("SELECT sealed FROM channel")
            config = msgspec.json.decode(way.vault.unseal_secret(sealed).reveal())
            mended = way.vault.seal_secret(msgspec.json.encode(config | {"password": "right"}))
            await tx.execute("UPDATE channel SET sealed = $1", mended)
        await way.keeper.load()
        assert (await way.final(message_id))["status"] == Status.DELIVERED.number


# ---- hanging webhooks


@dataclass
class Endpoints:
    """An HTTP server whose /hangs never answers."""

    port: int = 0
    told: Counter[str] = field(default_factory=Counter)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                body = await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
                path = head.split()[1]
                self.told[path] += len(msgspec.json.decode(body)["events"])
                if path != "/hangs":
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()


@asynccontextmanager
async def endpoints() -> AsyncIterator[Endpoints]:
    one = Endpoints()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()


async def test_a_hanging_webhook_slows_neither_sending_nor_another_tenants_webhook(database: str) -> None:
    settings = replace(QUICK, webhook_private_addresses=True, notice_hold_ms=5.0, notice_timeout_s=60.0)
    async with (
        Simulator(behaviour.parse(WELL)) as simulator,
        plane(database, simulator, settings=settings) as way,
        endpoints() as hooks,
        open_egress(settings) as egress,
        asyncio.TaskGroup() as tasks,
    ):
        other = await with_webhooks(way, f"http://127.0.0.1:{hooks.port}")
        payer = Payer(way.database, way.keeper, way.vault, settings, egress, way.gateway.ticker.paid)
        way.gateway.ticker._outlet = msgspec.structs.replace(way.gateway.ticker._outlet, owe=payer.owe)
        paying = tasks.create_task(payer.run())
        for start in range(0, 300, 100):
            numbers = [f"1380013{start + n:04d}" for n in range(100)]
            await way.accept(*(way.draft(number) for number in numbers))
            await way.accept(*(way.draft(number) for number in numbers), key=way.keeper.current.keys[other])
        await way.holds(lambda: hooks.told["/well"] == 300)
        await way.all_final()
        assert await statuses(way) == {Status.DELIVERED: 600}
        assert 0 < hooks.told["/hangs"] < 300
        unpaid = await way.until("SELECT count(*) FROM notice HAVING count(*) = 300")
        assert (
            unpaid["count"] == 300
        )  # the tenant that hangs is still owed all of it, and nobody else anything
        paying.cancel()


async def with_webhooks(way: Plane, url: str) -> str:
    """Give the tenant a webhook that hangs, and a second tenant one that is well; returns the second's key."""
    async with way.database.transaction() as tx:
        await make.webhook(tx, way.vault, app_id=way.laid.app_id, url=f"{url}/hangs")
        tenant_id = await make.tenant(tx, way.vault, limits=NO_LIMITS, countries=["CN"])
        app_id = await make.app(tx, tenant_id=tenant_id)
        key_id = await make.app_key(tx, way.vault, app_id=app_id)
        await make.webhook(tx, way.vault, app_id=app_id, url=f"{url}/well")
        await make.signature(tx, tenant_id=tenant_id, name=way.signature)
        await make.template(tx, tenant_id=tenant_id, code="transactional", body="您的快递已到 ${word}")
    await way.keeper.load()
    return key_id


# ---- a lost database, a full disk


async def back(way: Plane, sql: Any) -> None:
    """Wait for what a query says, over connections that may still be broken."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with suppress(*db.Unavailable):
                if await way.database.fetch(sql):
                    return
            await asyncio.sleep(0.02)


async def test_a_database_lost_in_mid_flight_costs_waits_and_refusals_only(database: str) -> None:
    words = "report_delay_s=0.05..0.3 ack_delay_s=0.02"
    async with (
        Simulator(behaviour.parse(words)) as simulator,
        severable(database) as line,
        plane(line.dsn, simulator, window_size=WINDOW) as way,
    ):
        await way.up()
        accepted = 0
        for loss in range(3):
            numbers = [f"138{loss:02d}13{n:04d}" for n in range(40)]
            outcomes = await way.accept(*(way.draft(number, Purpose.OTP) for number in numbers))
            accepted += codes(outcomes)["OK"]
            so_far = simulator.statistics().parts
            await way.holds(lambda so_far=so_far: simulator.statistics().parts > so_far)
            await line.cut()
            assert codes(await way.accept(way.draft("13900139000"))) == {"SYSTEM_BUSY": 1}
            await line.mend()
        await back(way, "SELECT 1 WHERE NOT EXISTS (SELECT FROM message WHERE status = 0)")
        assert (await statuses(way))[Status.DELIVERED] >= accepted
        assert accepted == 120
        await books_balance(way.database)


@contextmanager
def tiny_disk(octets: int) -> Iterator[Path]:
    """A disk of that size; skips where we may not mount one."""
    folder = Path(tempfile.mkdtemp(prefix="hongyan-disk-", dir=databases.MEMORY))
    folder.chmod(0o711)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={octets}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        done = None
    if done is None or done.returncode:
        folder.rmdir()
        pytest.skip(ABSENT + "leave to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@dataclass
class Small:
    """A database on a disk of its own, and what fills that disk."""

    dsn: str
    disk: Path

    def fill(self) -> None:
        with (self.disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(b"\0" * 65_536)

    def free(self) -> None:
        (self.disk / "ballast").unlink()


@pytest.fixture
def small(database_template: databases.Template, monkeypatch: pytest.MonkeyPatch) -> Iterator[Small]:
    """A migrated database whose tables lie on a disk of 64 MB."""
    monkeypatch.setenv("HONGYAN_ALLOW_UNSAFE_DATABASE", "yes")
    if os.geteuid() or "TEST_DATABASE_URL" in os.environ:
        pytest.skip(ABSENT + "leave to mount a small disk")
    execute = partial(databases._execute, database_template.maintenance_dsn)
    with tiny_disk(64 * 2**20) as disk:
        place = disk / "tables"
        place.mkdir()
        owner = _folder_of_server(database_template.maintenance_dsn).stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        name = f"hongyan_small_{os.getpid()}"
        source = urlsplit(database_template.template_dsn).path.lstrip("/")
        execute(f"CREATE TABLESPACE {name} LOCATION '{place}'")
        execute(f"CREATE DATABASE {name} TEMPLATE {source} TABLESPACE {name} OWNER {database_template.owner}")
        try:
            yield Small(databases._named(database_template.template_dsn, name), disk)
        finally:
            execute(f"DROP DATABASE {name} WITH (FORCE)")
            execute(f"DROP TABLESPACE {name}")


def _folder_of_server(dsn: str) -> Path:
    async def ask() -> str:
        connection = await asyncpg.connect(dsn)
        try:
            return str(await connection.fetchval("SHOW data_directory"))
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        return Path(thread.submit(lambda: asyncio.run(ask())).result())


async def test_a_full_disk_refuses_or_waits_and_loses_nothing(small: Small) -> None:
    words = "report_delay_s=0.05 ack_delay_s=0.05"
    async with Simulator(behaviour.parse(words)) as simulator, plane(small.dsn, simulator) as way:
        await way.up()
        await way.send("13700137000")
        small.fill()
        answers: Counter[str] = Counter()
        for number in range(200):  # the pages there are take some rows yet
            drafts = (way.draft(f"138{number:04d}{n:04d}", Purpose.OTP) for n in range(100))
            answers += codes(await way.accept(*drafts))
            if answers["SYSTEM_BUSY"] >= 200:
                break
        assert set(answers) <= {"OK", "SYSTEM_BUSY"}
        assert answers["SYSTEM_BUSY"] >= 200
        small.free()
        async with asyncio.timeout(DEADLINE_S):
            while codes(await way.accept(way.draft("13600136000"))) != {"OK": 1}:
                await asyncio.sleep(0.05)
        await way.all_final()
        assert await statuses(way) == {Status.DELIVERED: answers["OK"] + 2}
        await books_balance(way.database)


# ---- wild clients


async def test_a_door_survives_everybody_at_once(database: str) -> None:
    """Slow, long, doubled, garbled and gone clients, all at once; and one good one, who notices nothing."""
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            key_id = await make.app_key(tx, world.vault, app_id=world.app_id)
            (name,) = [row["name"] for row in await tx.fetch("SELECT name FROM signature")]
        login = {"Authorization": counter.basic(key_id)}
        body = {"to": make.NUMBER, "signature": name, "text": "您好", "purpose": "transactional"}
        async with counter.served(world) as door, asyncio.TaskGroup() as tasks:
            ask = partial(counter.ask, door.port, "POST", headers=login)
            slow = [await tasks.create_task(half_a_request(door.port, login)) for _ in range(20)]
            wild = [tasks.create_task(shout(door.port, seed)) for seed in range(40)]
            thousand_one = tasks.create_task(ask("/v1/messages/batch", {"messages": [body] * 1_001}))
            huge = tasks.create_task(huge_body(door.port, login))
            odd = [tasks.create_task(ask("/v1/messages", octets)) for octets in ODD_BODIES]
            good = await ask("/v1/messages", body)
            assert (good.status, good.code) == (202, "OK")
            await asyncio.wait([*wild, *odd, thousand_one, huge])
            for client in slow:
                client.close()
        assert thousand_one.result().code == "Request.TooManyRecipients"
        assert huge.result() in (b"", b"HTTP/1.1 413")
        assert {task.result().status for task in odd} == {400}
        assert all(task.result() in (b"", b"HTTP/1.1 4") for task in wild)
        assert await world.database.fetch("SELECT count(*) FROM message HAVING count(*) = 1")


ODD_BODIES: Final = (
    b"",
    b"{",
    b"null",
    b"[" * 100_000,
    b'{"to":' * 5_000,
    b"\xff\xfe{\0}\0",
    '{"to":"13800138000","text":"\ud83d","purpose":"otp"}'.encode("utf-8", "surrogatepass"),
    b'{"to":"13800138000","unknown":1}',
    b'{"to":13800138000}',
    b'{"to":"13800138000","validity_s":1e400}',
    b'{"to":"13800138000","validity_s":99999999999999999999999999}',
    b'{"to":"13800138000","send_at":"2026-02-31T00:00:00Z"}',
)


async def half_a_request(port: int, headers: dict[str, str]) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(counter.request("POST", "/v1/messages", b"{}" * 500, headers)[:-7])
    return writer


async def shout(port: int, seed: int) -> bytes:
    """Say half sense and half nonsense, pipelined; give the beginning of what is answered."""
    chance = random.Random(seed)
    sense = counter.request("POST", "/v1/messages", b"{}", {"Authorization": counter.basic("nobody")})
    octets = b"".join(chance.choice((sense, chance.randbytes(200), sense[:50])) for _ in range(10))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(DEADLINE_S):
            with suppress(ConnectionError):
                writer.write(octets)
                writer.write_eof()
                return (await reader.read())[:10]
            return b""
    finally:
        writer.close()


async def huge_body(port: int, headers: dict[str, str]) -> bytes:
    """Send 10 MB, whatever is answered meanwhile; give the beginning of that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(DEADLINE_S):
            with suppress(ConnectionError):
                writer.write(counter.request("POST", "/v1/messages", b" " * 10_000_000, headers))
                await writer.drain()
            with suppress(ConnectionError):
                return (await reader.read())[:12]
            return b""
    finally:
        writer.close()


async def test_garbage_on_one_connection_costs_it_and_no_other(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            key_id = await make.app_key(tx, world.vault, app_id=world.app_id)
        good = counter.request("GET", "/v1/balance", headers={"Authorization": counter.basic(key_id)})
        async with (
            counter.served(world) as door,
            counter.line(door.port) as one,
            counter.line(door.port) as other,
        ):
            for line in (one, other):
                await line.write(good)
                assert (await line.reply()).status == 200
            await one.write(good + b"\0" * hot.PIPELINE_MAX + good)
            assert [(await one.reply()).status for _ in range(2)] == [200, 400]
            assert await one.closed() == b""
            await other.write(good)
            assert (await other.reply()).status == 200


# ---- odd texts and odd clocks

ODD_PARAMS: Final = {
    "NUL": ("a\0b", None),
    "half a surrogate pair": ("\ud83d", Code.REQUEST_INVALID_PARAMETER),
    "the signature's brackets": ("【别家】", Code.TEMPLATE_VARIABLE_INVALID),
    "one bracket": ("】", Code.TEMPLATE_VARIABLE_INVALID),
    "a link": ("http://a.cn", Code.TEMPLATE_VARIABLE_URL),
    "too long": ("门" * 36, Code.TEMPLATE_VARIABLE_TOO_LONG),
    "an emoji": ("😀", None),
    "a joined emoji": ("👨‍👩‍👧", None),
    "line ends": ("a\r\nb", None),
    "a mark of direction": ("\u202e门", None),
    "nothing": ("", Code.TEMPLATE_VARIABLE_INVALID),
    "blanks": (" \u3000", Code.TEMPLATE_VARIABLE_INVALID),
}


async def test_odd_parameters_are_refused_or_arrive_as_they_are(database: str) -> None:
    words = {f"1380013{n:04d}": word for n, (word, _) in enumerate(ODD_PARAMS.values())}
    async with Simulator(behaviour.parse(WELL)) as simulator, plane(database, simulator) as way:
        outcomes = await way.accept(
            *(way.draft(number, params={"word": word}) for number, word in words.items())
        )
        answered = dict(zip(ODD_PARAMS, map(refusal, outcomes), strict=True))
        assert answered == {name: code for name, (_, code) in ODD_PARAMS.items()}
        await way.all_final()
        arrived = {number: [seen.text for seen in simulator.phone(number)] for number in words}
        assert list(arrived.values()) == [
            [] if code else [f"【鸿雁】您的快递已到 {word}"] for word, code in ODD_PARAMS.values()
        ]
        await books_balance(way.database)


@pytest.mark.parametrize("step_s", [-90_000, -3_600, 3_600, 90_000])
async def test_a_clock_that_jumps_loses_nothing(
    database: str, monkeypatch: pytest.MonkeyPatch, step_s: int
) -> None:
    async with (
        Simulator(behaviour.parse("report_delay_s=0.1")) as simulator,
        plane(database, simulator) as way,
    ):
        await way.up()
        before = [await way.send(f"1380013{n:04d}", Purpose.OTP) for n in range(10)]
        real_s, real = clock.now_s, clock.now
        monkeypatch.setattr(clock, "now_s", lambda: real_s() + step_s)
        monkeypatch.setattr(clock, "now", lambda: real() + timedelta(seconds=step_s))
        after = [await way.send(f"1380013{n:04d}", Purpose.OTP) for n in range(10, 20)]
        await way.all_final()
        assert len({*before, *after}) == 20
        assert await statuses(way) == {Status.DELIVERED: 20}
        async with way.database.transaction() as tx:
            assert await prune.expire_waiting(tx, QUICK, clock.now()) == 0
        await books_balance(way.database)


async def test_who_was_out_of_money_while_a_clock_was_ahead_may_send_once_it_is_right(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plane(database, tenant={"balance_micro": 0}) as way:
        with monkeypatch.context() as patch:
            real_s = clock.now_s
            patch.setattr(clock, "now_s", lambda: real_s() + 365 * 86_400)
            assert codes(await way.accept(way.draft("13800138000"))) == {"ACCOUNT_BALANCE_INSUFFICIENT": 1}
        async with way.database.transaction() as tx:
            await charge.top_up(tx, way.tenant_id, 1_000_000)
        async with asyncio.timeout(5):
            while "OK" not in codes(await way.accept(way.draft("13800138000"))):
                await asyncio.sleep(0.05)


async def test_an_advert_in_bad_weather_is_never_doubled(database: str) -> None:
    """Sessions break, acks and the database are lost, and still each advert is read at most once."""
    words = f"{WELL} disconnect_after_submits=7 ack_loss_share=0.2"
    async with (
        Simulator(behaviour.parse(words), seed=5) as simulator,
        severable(database) as line,
        plane(line.dsn, simulator, window_size=WINDOW, ack_wait_s=0.3) as way,
    ):
        await way.up()
        numbers = [awake(n) for n in range(COUNT)]
        answers = codes(await way.accept(*(way.draft(one, Purpose.PROMOTIONAL) for one in numbers)))
        assert answers == {"OK": COUNT}
        await way.holds(lambda: simulator.statistics().parts >= 2 * WINDOW)
        await line.cut()
        await asyncio.sleep(0)
        await line.mend()
        await back(way, "SELECT 1 WHERE NOT EXISTS (SELECT FROM outbox)")
        assert simulator.statistics().repeated_parts == 0
        assert simulator.statistics().disconnects > 0
        await books_balance(way.database)


async def test_a_text_its_channel_would_cut_otherwise_goes_by_another_or_is_paid_back(database: str) -> None:
    """A header of 16 bits leaves a part 66 characters where 67 were promised and charged."""
    draft = Draft(to="13800138000", signature="鸿雁", text="门" * (2 * 67 - 4), purpose=Purpose.TRANSACTIONAL)
    async with (
        Simulator(behaviour.parse(WELL)) as narrow,
        Simulator(behaviour.parse(WELL)) as wide,
        plane(database, narrow, split="udh16") as way,
    ):
        await way.up()
        await way.accept(draft)
        await way.all_final()
        (row,) = await way.database.fetch("SELECT status, price_micro - refund_micro AS paid FROM message")
        assert (row["status"], row["paid"]) == (Status.UNDELIVERED.number, 0)
        async with way.database.transaction() as tx:
            await add_channel(tx, way.vault, wide.port, priority=1)
        await way.keeper.load()
        await way.up(2)
        await way.accept(msgspec.structs.replace(draft, to="13800138001"))
        await way.all_final()
        assert await statuses(way) == {Status.UNDELIVERED: 1, Status.DELIVERED: 1}
        assert (narrow.statistics().parts, wide.statistics().parts) == (0, 2)
        await books_balance(way.database)
