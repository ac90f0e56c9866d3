"""A whole data plane in one event loop: acceptor, gateway, clerk and a practising operator, on a real database.

Entry point: plane(). Several may share a database: give each its own `number`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import make
from hongyan import db
from hongyan.channels.channel import Inbound
from hongyan.settings import Settings
from hongyan.simulator.server import Simulator
from hongyan.vault import Vault
from hongyan.vocab.message import ChannelId, MessageId, Purpose, TenantId
from hongyan.way.accept import Accepted, Acceptor, Draft, Idempotency, Outcome
from hongyan.way.measure import Counters
from hongyan.way.notify import Owed
from hongyan.way.snapshot import Keeper, Key
from hongyan.way.submit import Gateway

WAIT_S: Final = 20.0
QUICK: Final = replace(make.SETTINGS, claim_gap_s=0.05, sweep_gap_s=0.2, tick_gap_idle_ms=2.0, stop_wait_s=5.0)


@dataclass
class Plane:
    """What tests hold in their hands."""

    database: db.Database
    vault: Vault
    keeper: Keeper
    acceptor: Acceptor
    gateway: Gateway
    counters: Counters
    tenant_id: TenantId
    key: Key
    templates: dict[Purpose, str]
    signature: str
    owed: list[Owed] = field(default_factory=list)
    inbound: list[Inbound] = field(default_factory=list)

    def draft(self, number: str = "13800138000", purpose: Purpose = Purpose.TRANSACTIONAL, **fields: Any) -> Draft:
        params = fields.pop("params", {"word": "南门"})
        return Draft(to=number, signature=self.signature, template=self.templates[purpose], params=params, **fields)

    async def accept(self, *drafts: Draft, idempotency: Idempotency | None = None) -> Sequence[Outcome]:
        return await self.acceptor.accept(self.key, drafts, idempotency)

    async def send(self, number: str = "13800138000", purpose: Purpose = Purpose.TRANSACTIONAL, **fields: Any) -> MessageId:
        (outcome,) = await self.accept(self.draft(number, purpose, **fields))
        assert isinstance(outcome, Accepted), outcome
        return outcome.id

    async def row(self, message_id: MessageId) -> db.Row:
        (row,) = await self.database.fetch("SELECT * FROM message WHERE id = $1", message_id)
        return row

    async def final(self, message_id: MessageId) -> db.Row:
        """Wait until the message is final and return its row."""
        return await self.until("SELECT * FROM message WHERE id = $1 AND status > 0", message_id)

    async def until(self, sql: Any, *values: Any) -> db.Row:
        """Wait until a query finds a row and return the first."""
        async with asyncio.timeout(WAIT_S):
            while True:
                rows = await self.database.fetch(sql, *values)
                if rows:
                    return rows[0]
                await asyncio.sleep(0.01)


BODIES: Final = {
    Purpose.OTP: "验证码为:${code},有效期5分钟",
    Purpose.TRANSACTIONAL: "您的快递已到 ${word}",
    Purpose.PROMOTIONAL: "新品到店 ${word} 拒收请回复R",
}


@dataclass
class Install:
    """One tenant, wording and channels to a list of ports, laid into an empty database."""

    vault: Vault
    tenant_id: TenantId
    key_id: str
    templates: dict[Purpose, str]
    signature: str
    channels: list[ChannelId]


async def install(database: db.Database, ports: Sequence[int], *, tenant: dict[str, Any] | None = None, **config: Any) -> Install:
    """Lay the rows a plane needs; one SMPP channel a port, tried in their order."""
    async with database.transaction() as tx:
        keys = await make.open_vault(tx)
        columns: dict[str, Any] = {"limits": '{"otp": [0, 0, 0], "transactional": [0, 0, 0], "promotional": [0, 0, 0]}', "countries": ["CN", "*"]}
        tenant_id = await make.tenant(tx, keys, **(columns | (tenant or {})))
        app_id = await make.app(tx, tenant_id=tenant_id)
        await make.app_key(tx, keys, app_id=app_id, key_id="hy_test")
        await make.signature(tx, tenant_id=tenant_id, name="鸿雁")
        for purpose, body in BODIES.items():
            await make.template(tx, tenant_id=tenant_id, purpose=purpose, code=purpose.value, body=body)
        await make.price(tx)
        channels = []
        for place, port in enumerate(ports):
            channels.append(await add_channel(tx, keys, port, priority=place, **config))
    return Install(keys, tenant_id, "hy_test", {p: p.value for p in BODIES}, "鸿雁", channels)


async def add_channel(tx: db.Tx, keys: Vault, port: int, *, priority: int = 0, row: dict[str, Any] | None = None, **config: Any) -> ChannelId:
    settings = {"hosts": ["127.0.0.1"], "port": port, "system_id": "hongyan", "password": "secret", "backoff_s": 0.05, "backoff_s_max": 0.2, "close_wait_s": 1.0}
    columns = {"kind": "smpp", "access_number": "1069", "cost_micro": 30_000} | (row or {})
    channel_id = await make.channel(tx, keys, config=settings | config, **columns)
    await make.route_rule(tx, channel_id=channel_id, priority=priority)
    return channel_id


@asynccontextmanager
async def running(database: db.Database, laid: Install, *, number: int = 1, settings: Settings = QUICK) -> AsyncIterator[Plane]:
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

    gateway = Gateway(database, keeper, laid.vault, settings, counters, owed.extend, arrived)
    acceptor = Acceptor(database, keeper, laid.vault, settings, counters, lambda _lane: number, gateway.take)
    async with asyncio.TaskGroup() as tasks:
        loops = [tasks.create_task(one) for one in (acceptor.run(), gateway.run(), keeper.run())]
        try:
            yield Plane(
                database, laid.vault, keeper, acceptor, gateway, counters, laid.tenant_id, keeper.current.keys[laid.key_id],
                laid.templates, laid.signature, owed, inbound,
            )  # fmt: skip
        finally:
            await acceptor.drain()
            await gateway.close()
            for task in loops:
                task.cancel()


@asynccontextmanager
async def plane(dsn: str, *simulators: Simulator, tenant: dict[str, Any] | None = None, settings: Settings = QUICK, **config: Any) -> AsyncIterator[Plane]:
    """Run one plane against simulators that are already started, one channel each, tried in their order."""
    database = await db.connect(dsn, settings)
    try:
        laid = await install(database, [simulator.port for simulator in simulators], tenant=tenant, **config)
        async with running(database, laid, settings=settings) as one:
            yield one
    finally:
        await database.close()
