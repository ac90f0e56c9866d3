"""A whole data plane in one event loop: acceptor, gateway, clerk and a practising operator, on a real database.

Entry points: plane() for one, pair() for two on one database, as two processes would be, books_balance() for
what must be true after any of it. Several may share a database: give each its own `number`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, LiteralString
from urllib.parse import parse_qs, urlsplit

import make
from hongyan import clock, db
from hongyan.channels.channel import Inbound
from hongyan.egress import open_egress
from hongyan.settings import Settings
from hongyan.simulator.server import Simulator
from hongyan.vault import Vault
from hongyan.vocab.message import AppId, ChannelId, MessageId, Purpose, TenantId
from hongyan.way import charge
from hongyan.way.accept import Accepted, Acceptor, Draft, Idempotency, Outcome
from hongyan.way.measure import Counters
from hongyan.way.notify import Owed
from hongyan.way.snapshot import Keeper, Key
from hongyan.way.submit import Gateway

WAIT_S: Final = 20.0
QUICK: Final = replace(make.SETTINGS, claim_gap_s=0.05, sweep_gap_s=0.2, tick_gap_ms=2.0, stop_wait_s=5.0)
NO_LIMITS: Final = '{"otp": [0, 0, 0], "transactional": [0, 0, 0], "promotional": [0, 0, 0]}'
ACCOUNTS: Final[dict[str, dict[str, Any]]] = {  # what a channel of each kind logs in with
    "smpp": {"system_id": "hongyan", "password": "secret"},
    "cmpp": {"source_addr": "900001", "secret": "secret", "version": "3.0"},
    "sgip": {
        "login_name": "hongyan",
        "login_password": "secret",
        "corp_id": "92008",
        "area_code": "010",
        "keep_open": True,
    },
    "smgp": {"client_id": "10690000", "secret": "secret"},
}
# Promotional messages may leave at any hour a test happens to run: the tenant's hours are as wide as the
# schema lets them be, and where even those are shut, tests of promotional messages write abroad.
BODIES: Final = {
    Purpose.OTP: "验证码为:${code},有效期5分钟",
    Purpose.TRANSACTIONAL: "您的快递已到 ${word}",
    Purpose.PROMOTIONAL: "新品到店 ${word} 拒收请回复R",
}
PARAMS: Final = {Purpose.OTP: {"code": "123456"}}


@dataclass
class Plane:
    """What tests hold in their hands."""

    database: db.Database
    vault: Vault
    keeper: Keeper
    acceptor: Acceptor
    gateway: Gateway
    counters: Counters
    laid: "Install"
    tenant_id: TenantId
    key: Key
    templates: dict[Purpose, str]
    signature: str
    owed: list[Owed] = field(default_factory=list)
    inbound: list[Inbound] = field(default_factory=list)
    loops: list[asyncio.Task[None]] = field(default_factory=list)
    dead: bool = False

    def draft(
        self, number: str = "13800138000", purpose: Purpose = Purpose.TRANSACTIONAL, **fields: Any
    ) -> Draft:
        params = fields.pop("params", PARAMS.get(purpose, {"word": "南门"}))
        values = {"signature": self.signature, "template": self.templates[purpose], "params": params}
        return Draft(to=number, **(values | fields))

    async def accept(
        self, *drafts: Draft, idempotency: Idempotency | None = None, key: Key | None = None
    ) -> Sequence[Outcome]:
        return await self.acceptor.accept(key or self.key, drafts, idempotency)

    async def send(
        self, number: str = "13800138000", purpose: Purpose = Purpose.TRANSACTIONAL, **fields: Any
    ) -> MessageId:
        (outcome,) = await self.accept(self.draft(number, purpose, **fields))
        assert isinstance(outcome, Accepted), outcome
        return outcome.id

    async def row(self, message_id: MessageId) -> db.Row:
        (row,) = await self.database.fetch("SELECT * FROM message WHERE id = $1", message_id)
        return row

    async def final(self, message_id: MessageId) -> db.Row:
        """Wait until the message is final and return its row."""
        return await self.until("SELECT * FROM message WHERE id = $1 AND NOT status IN (0, 7)", message_id)

    async def all_final(self) -> None:
        await self.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM message WHERE status = 0)")

    async def until(self, sql: Any, *values: Any) -> db.Row:
        """Wait until a query finds a row and return the first."""
        async with asyncio.timeout(WAIT_S):
            while True:
                rows = await self.database.fetch(sql, *values)
                if rows:
                    return rows[0]
                await asyncio.sleep(0.01)

    async def holds(self, true: Any) -> None:
        """Wait until something in memory has come about."""
        async with asyncio.timeout(WAIT_S):
            while not true():
                await asyncio.sleep(0.005)

    async def up(self, channels: int = 1) -> None:
        """Wait until so many channels are logged in."""
        await self.holds(lambda: sum(n > 0 for n in self.gateway.sessions_by_channel().values()) >= channels)

    async def die(self) -> None:
        """Stop as kill -9 would: nothing more is stored or said, sockets just close."""
        self.dead = True
        for task in self.loops:
            task.cancel()
        await asyncio.wait(self.loops)
        for line in self.gateway.lines.open.values():
            sessions = getattr(line.channel, "_sessions", None)
            if sessions is not None:
                sessions._keeper.cancel()
                await asyncio.wait([sessions._keeper])


@dataclass
class Install:
    """One tenant, wording and channels to a list of ports, laid into an empty database."""

    vault: Vault
    tenant_id: TenantId
    app_id: AppId
    key_id: str
    templates: dict[Purpose, str]
    signature: str
    channels: list[ChannelId]


async def install(
    database: db.Database, ports: Sequence[int], *, tenant: dict[str, Any] | None = None, **config: Any
) -> Install:
    """Lay the rows a plane needs; one SMPP channel a port, tried in their order."""
    async with database.transaction() as tx:
        keys = await make.open_vault(tx)
        columns: dict[str, Any] = {
            "limits": NO_LIMITS,
            "countries": ["CN", "*"],
            "quiet_until_hour": 8,
            "quiet_from_hour": 21,
        }
        tenant_id, app_id = await add_tenant(tx, keys, "hy_test", **(columns | (tenant or {})))
        await make.price(tx)
        channels = [
            await add_channel(tx, keys, port, priority=place, **config) for place, port in enumerate(ports)
        ]
        if not ports:  # a route there must be; this one never opens
            await add_channel(tx, keys, 1, row={"paused": True})
    return Install(keys, tenant_id, app_id, "hy_test", {p: p.value for p in BODIES}, "鸿雁", channels)


async def add_tenant(tx: db.Tx, keys: Vault, key_id: str, **columns: Any) -> tuple[TenantId, AppId]:
    """A tenant who could send every purpose under 【鸿雁】, by a key of that name."""
    tenant_id = await make.tenant(tx, keys, **columns)
    app_id = await make.app(tx, tenant_id=tenant_id)
    await make.app_key(tx, keys, app_id=app_id, key_id=key_id)
    await make.signature(tx, tenant_id=tenant_id, name="鸿雁")
    for purpose, body in BODIES.items():
        await make.template(tx, tenant_id=tenant_id, purpose=purpose, code=purpose.value, body=body)
    return tenant_id, app_id


async def add_channel(
    tx: db.Tx, keys: Vault, port: int, *, priority: int = 0, row: dict[str, Any] | None = None, **config: Any
) -> ChannelId:
    columns: dict[str, Any] = {"kind": "smpp", "access_number": "1069", "cost_micro": 30_000} | (row or {})
    settings = {
        "hosts": ["127.0.0.1"],
        "port": port,
        **ACCOUNTS[columns["kind"]],
        "backoff_s": 0.05,
        "backoff_s_max": 0.2,
        "close_wait_s": 1.0,
        "throttle_pause_s": 0.02,
        "throttle_pause_s_max": 0.1,
    }
    channel_id = await make.channel(tx, keys, config=settings | config, **columns)
    await make.route_rule(tx, channel_id=channel_id, priority=priority)
    return channel_id


@asynccontextmanager
async def running(
    database: db.Database, laid: Install, *, number: int = 1, settings: Settings = QUICK
) -> AsyncIterator[Plane]:
    """Run a plane over what is laid, until the end of the block; then it stops gracefully."""
    settings = replace(settings, gateway=number, door=number)
    keeper = Keeper(database, laid.vault)
    await keeper.load()
    counters = Counters()
    owed: list[Owed] = []
    inbound: list[Inbound] = []
    gateway: Gateway

    def arrived(channel_id: ChannelId, texts: Sequence[Inbound]) -> None:
        inbound.extend(texts)
        gateway.slots_stored(channel_id, [text.slot for text in texts])

    async with open_egress(settings, private=True) as way_out, asyncio.TaskGroup() as tasks:
        gateway = Gateway(database, keeper, laid.vault, settings, counters, owed.extend, arrived, way_out)
        acceptor = Acceptor(
            database, keeper, laid.vault, settings, counters, lambda _lane: number, gateway.take
        )
        loops = [tasks.create_task(one) for one in (acceptor.run(), gateway.run(), keeper.run())]
        key = keeper.current.keys[laid.key_id]
        one = Plane(
            database, laid.vault, keeper, acceptor, gateway, counters, laid, laid.tenant_id, key,
            laid.templates, laid.signature, owed, inbound, loops,
        )  # fmt: skip
        try:
            yield one
        finally:
            if not one.dead:
                await acceptor.drain()
                await gateway.close()
            for task in loops:
                task.cancel()


@asynccontextmanager
async def plane(
    dsn: str,
    *simulators: Simulator,
    tenant: dict[str, Any] | None = None,
    settings: Settings = QUICK,
    **config: Any,
) -> AsyncIterator[Plane]:
    """Run one plane against simulators that are already started, one channel each, tried in their order."""
    database = await db.connect(dsn, settings)
    try:
        laid = await install(database, [simulator.port for simulator in simulators], tenant=tenant, **config)
        async with running(database, laid, settings=settings) as one:
            yield one
    finally:
        await database.close()


@asynccontextmanager
async def pair(
    dsn: str,
    *simulators: Simulator,
    tenant: dict[str, Any] | None = None,
    settings: Settings = QUICK,
    **config: Any,
) -> AsyncIterator[tuple[Plane, Plane]]:
    """Run two planes, each with a pool, snapshot, door and gateway of its own, on one database."""
    database, other = await db.connect(dsn, settings), await db.connect(dsn, settings)
    try:
        laid = await install(database, [simulator.port for simulator in simulators], tenant=tenant, **config)
        async with (
            running(database, laid, settings=settings) as first,
            running(other, laid, number=2, settings=settings) as second,
        ):
            yield first, second
    finally:
        await other.close()
        await database.close()


# ---- what must be true after anything

MONEY_SQL: LiteralString = """
SELECT tenant_id, coalesce(spent, 0)::bigint AS spent, coalesce(booked, 0)::bigint AS booked
  FROM (SELECT tenant_id, sum(price_micro - refund_micro) AS spent FROM message GROUP BY tenant_id) m
  FULL JOIN (SELECT tenant_id, -sum(amount_micro) AS booked FROM ledger
              WHERE kind IN ('charge', 'refund') GROUP BY tenant_id) l USING (tenant_id)
 WHERE coalesce(spent, 0) <> coalesce(booked, 0)
"""
COUNTED_SQL: LiteralString = """
SELECT tenant_id, status, coalesce(m.messages, 0)::bigint AS messages, coalesce(t.messages, 0)::bigint AS tallied,
       coalesce(m.price_micro, 0)::bigint AS price_micro, coalesce(t.price_micro, 0)::bigint AS tallied_micro
  FROM (SELECT tenant_id, status, count(*) AS messages, sum(price_micro - refund_micro) AS price_micro
          FROM message WHERE NOT status IN (0, 7) GROUP BY 1, 2
         UNION ALL
        SELECT tenant_id, 0, count(*), sum(price_micro) FROM message GROUP BY 1) m
  FULL JOIN (SELECT tenant_id, status, sum(messages) AS messages, sum(price_micro) AS price_micro
               FROM tally GROUP BY 1, 2) t USING (tenant_id, status)
 WHERE coalesce(m.messages, 0) <> coalesce(t.messages, 0) OR coalesce(m.price_micro, 0) <> coalesce(t.price_micro, 0)
"""
# Joined as wholes: asked message by message, ten thousand messages took ten seconds.
NOTICED_SQL: LiteralString = """
WITH told AS MATERIALIZED (SELECT message_id AS id, count(*) AS notices FROM notice WHERE kind = 1 GROUP BY 1)
SELECT id, m.status, coalesce(notices, 0) AS notices
  FROM message m LEFT JOIN told USING (id)
 WHERE coalesce(notices, 0) <> (NOT m.status IN (0, 7))::int
"""
# An open message stands in a queue table, or nobody would ever end it; a final one stands in none.
ADRIFT_SQL: LiteralString = """
WITH queued AS MATERIALIZED (
    SELECT id, bool_or(held) AS held
      FROM (SELECT id, owner < 0 AS held FROM outbox
             UNION ALL
            SELECT message_id, false FROM submitted WHERE state < 2) q
     GROUP BY 1)
SELECT id, m.status
  FROM message m LEFT JOIN queued USING (id)
 WHERE (m.status IN (0, 7)) <> (held IS NOT NULL) OR (m.status = 7) <> coalesce(held, false)
"""


async def books_balance(database: db.Database) -> None:
    """Assert that balance, ledger, tallies, notices and queues say the same as the messages."""
    async with database.transaction() as tx:
        assert await charge.drift(tx) == []
        for sql in (MONEY_SQL, COUNTED_SQL, NOTICED_SQL, ADRIFT_SQL):
            assert [dict(row) for row in await tx.fetch(sql)] == []


def awake(place: int = 0) -> str:
    """A number in a country with one zone where promotional messages may leave at this very moment."""
    hour = clock.now().hour
    if hour < 12:
        return f"1380013{place:04d}"  # 8 to 20 in China
    if hour < 18:
        return f"+447400{place:06d}"  # 12 to 19 in Britain, summer or winter
    return f"+519123{place:05d}"  # 13 to 19 in Peru


# ---- a database that can be lost


class Severable:
    """A way to the database that can be cut and mended: what stands between is a relay on a Unix socket."""

    def __init__(self, dsn: str, folder: Path) -> None:
        parts = urlsplit(dsn)
        query = parse_qs(parts.query)
        self._host = query.get("host", [parts.hostname or ""])[0]
        self._port = int(query.get("port", [parts.port or 5432])[0])
        self._path = folder / ".s.PGSQL.5432"
        user = f"{parts.username or ''}{':' + parts.password if parts.password else ''}"
        self.dsn = f"postgresql://{user}@{parts.path}?host={folder}&port=5432"
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_unix_server(self._relay, self._path)

    async def cut(self) -> None:
        """Break all connections and take no new ones, as a server that is gone."""
        assert self._server is not None
        self._server.close()
        self._path.unlink(missing_ok=True)
        for writer in list(self._writers):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._host.startswith("/"):
            there = await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        else:
            there = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, there[1]}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump(reader, there[1]))
            tasks.create_task(self._pump(there[0], writer))
        self._writers -= {writer, there[1]}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while octets := await reader.read(65_536):
                writer.write(octets)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def severable(dsn: str) -> AsyncIterator[Severable]:
    """Yield a database that can be lost; use its `dsn`."""
    with TemporaryDirectory() as folder:
        way = Severable(dsn, Path(folder))
        await way.mend()
        try:
            yield way
        finally:
            await way.cut()
