"""Rows for tests: plain functions, a connection first, then keywords with defaults that make sense together.

Entry points: world() for a database with one tenant who could send, and one function per noun. All goes in by
plain SQL, so that a room's tests do not depend on the rooms that would write the rows in earnest.
"""

import itertools
import os
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from hongyan import db, settings, vault
from hongyan.db import Tx
from hongyan.vault import Vault
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import AppId, ChannelId, MessageId, Purpose, Status, TenantId
from hongyan.way.notice import STATUS, Owed
from hongyan.way.snapshot import Keeper, Snapshot

MASTER: Final = vault.Secret(bytes(range(32)))
NUMBER: Final = "+8613800138000"
SETTINGS: Final = replace(settings.Settings(), allow_unsafe_database=True)

_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class World:
    """One tenant with an app, an approved signature and template, and one channel, with price and route."""

    database: db.Database
    vault: Vault
    tenant_id: TenantId
    app_id: AppId
    signature_id: int
    template_id: int
    channel_id: ChannelId


@asynccontextmanager
async def world(dsn: str) -> AsyncIterator[World]:
    """Open the database of a test and fill it with one tenant who could send."""
    database = await db.connect(dsn, SETTINGS)
    try:
        async with database.transaction() as tx:
            keys = await open_vault(tx)
            tenant_id = await tenant(tx, keys)
            app_id = await app(tx, tenant_id=tenant_id)
            signature_id = await signature(tx, tenant_id=tenant_id)
            template_id = await template(tx, tenant_id=tenant_id)
            channel_id = await channel(
                tx, keys, kind="smpp"
            )  # nothing opens it; the sandbox's would carry no real number
            await route_rule(tx, channel_id=channel_id)
            await price(tx)
        yield World(database, keys, tenant_id, app_id, signature_id, template_id, channel_id)
    finally:
        await database.close()


async def snapshot(world: World) -> Snapshot:
    """What the plane would fly by now."""
    return await Keeper(world.database, world.vault).load()


async def open_vault(tx: Tx) -> Vault:
    """Make the platform's keys where they are missing, and open all there are."""
    for name in ("index", "secrets", "tenant:0", "pepper:1"):
        await _vault_key(tx, name)
    return Vault(MASTER, {row["name"]: row["wrapped"] for row in await tx.fetch("SELECT * FROM vault_key")})


async def _vault_key(tx: Tx, name: str) -> bytes:
    wrapped = vault.make_wrapped(MASTER, name)
    await tx.execute(
        "INSERT INTO vault_key (name, wrapped) VALUES ($1, $2) ON CONFLICT DO NOTHING", name, wrapped
    )
    return wrapped


async def tenant(tx: Tx, keys: Vault, *, balance_micro: int = 1_000_000_000, **columns: Any) -> TenantId:
    """A tenant with its key and, in shard 0, a balance that the ledger agrees with."""
    values = {"name": f"tenant {next(_serial)}"} | columns
    tenant_id = TenantId(await _insert(tx, "tenant", values, returning="id"))
    name = f"tenant:{tenant_id}"
    keys.add({name: await _vault_key(tx, name)})
    await _insert(tx, "balance", {"tenant_id": tenant_id, "shard": 0, "amount_micro": balance_micro})
    await _insert(tx, "ledger", {"tenant_id": tenant_id, "kind": "top_up", "amount_micro": balance_micro})
    return tenant_id


async def app(tx: Tx, *, tenant_id: TenantId, **columns: Any) -> AppId:
    values = {"tenant_id": tenant_id, "name": f"app {next(_serial)}"} | columns
    return AppId(await _insert(tx, "app", values, returning="id"))


async def app_key(tx: Tx, keys: Vault, *, app_id: AppId, secret: bytes = b"secret", **columns: Any) -> str:
    """A key that may do everything; returns its public key id."""
    values = {
        "key_id": f"key{next(_serial)}",
        "app_id": app_id,
        "sealed": keys.seal_secret(secret),
        "allow_basic": True,
        "free_text": True,
    }
    return str(await _insert(tx, "app_key", values | columns, returning="key_id"))


async def signature(tx: Tx, *, tenant_id: TenantId, **columns: Any) -> int:
    values = {"tenant_id": tenant_id, "name": f"鸿雁{next(_serial)}", "state": "approved"} | columns
    return int(await _insert(tx, "signature", values, returning="id"))


async def template(
    tx: Tx, *, tenant_id: TenantId, purpose: Purpose = Purpose.TRANSACTIONAL, **columns: Any
) -> int:
    values = {
        "tenant_id": tenant_id,
        "code": f"T{next(_serial)}",
        "body": "您的快递已到 ${place}",
        "purpose": purpose.number,
        "state": "approved",
    }
    return int(await _insert(tx, "template", values | columns, returning="id"))


async def channel(
    tx: Tx, keys: Vault, *, config: Mapping[str, Any] | None = None, **columns: Any
) -> ChannelId:
    values = {
        "name": f"channel {next(_serial)}",
        "kind": "loopback",
        "sealed": keys.seal_secret(msgspec.json.encode(config or {})),
        "access_number": "1069",
    }
    return ChannelId(await _insert(tx, "channel", values | columns, returning="id"))


async def route_rule(tx: Tx, *, channel_id: ChannelId, **columns: Any) -> int:
    return int(await _insert(tx, "route_rule", {"channel_id": channel_id} | columns, returning="id"))


async def price(tx: Tx, *, part_micro: int = 45_000, **columns: Any) -> None:
    await _insert(tx, "price", {"part_micro": part_micro} | columns)


async def webhook(tx: Tx, keys: Vault, *, app_id: AppId, secret: bytes = b"hook", **columns: Any) -> int:
    values = {"app_id": app_id, "url": "https://example.com/hook", "sealed": keys.seal_secret(secret)}
    return int(await _insert(tx, "webhook", values | columns, returning="id"))


def message_id(at: datetime | None = None) -> MessageId:
    """A UUIDv7 of that moment (now), rising with every call of one moment."""
    stamp_ms = int((at or datetime.now(UTC)).timestamp() * 1000)
    counter = next(_serial)
    high = stamp_ms << 16 | 0x7000 | (counter >> 20 & 0xFFF)
    low = (counter & 0xF_FFFF) << 42 | int.from_bytes(os.urandom(6)) >> 6
    return MessageId(uuid.UUID(int=high << 64 | 0x8000_0000_0000_0000 | low))


def sealed_message(
    keys: Vault, tenant_id: TenantId, number: str, text: str, params: Mapping[str, str | int]
) -> bytes:
    return keys.seal(tenant_id, msgspec.msgpack.encode((number, text, params)))


async def message(
    tx: Tx,
    world: World,
    *,
    at: datetime | None = None,
    number: str = NUMBER,
    text: str = "【鸿雁】您的快递已到南门",
    params: Mapping[str, str | int] | None = None,
    status: Status = Status.ACCEPTED,
    cause: Cause = Cause.NONE,
    purpose: Purpose = Purpose.TRANSACTIONAL,
    parts: int = 1,
    attempts: Sequence[Sequence[object]] | None = None,
    **columns: Any,
) -> MessageId:
    """A message of that moment (now); final where its status is. Other columns of the table by name."""
    at = at or datetime.now(UTC)
    tenant_id = columns.get("tenant_id", world.tenant_id)
    values = {
        "tenant_id": tenant_id,
        "id": message_id(at),
        "app_id": world.app_id,
        "status": status.number,
        "cause": cause.number,
        "purpose": purpose.number,
        "part_count": parts,
        "pending": 0 if status.final else parts,
        "channel_id": 0,
        "signature_id": world.signature_id,
        "template_id": world.template_id,
        "price_micro": 45_000 * parts,
        "accepted_at": at,
        "due_at": at,
        "expires_at": at + timedelta(days=1),
        "done_at": at + timedelta(seconds=2) if status.final else None,
        "phone_index": world.vault.phone_index(number),
        "sealed": sealed_message(world.vault, tenant_id, number, text, params or {}),
        "country": "CN",
        "operator": "mobile",
        "province": "BJ",
        "attempts": None if attempts is None else msgspec.json.encode(attempts).decode(),
    }
    return MessageId(await _insert(tx, "message", values | columns, returning="id"))


async def outbox(tx: Tx, world: World, message_id: MessageId, **columns: Any) -> None:
    values = {
        "tenant_id": world.tenant_id,
        "id": message_id,
        "lane": 1,
        "owner": 0,
        "due_at": datetime.now(UTC),
        "expires_at": await tx.fetchval("SELECT expires_at FROM message WHERE id = $1", message_id),
    }
    await _insert(tx, "outbox", values | columns)


async def submitted(tx: Tx, world: World, message_id: MessageId, **columns: Any) -> str:
    """A part that was handed over just now; returns its upstream id."""
    at = columns.get("sent_at", datetime.now(UTC))
    values = {
        "tenant_id": world.tenant_id,
        "channel_id": world.channel_id,
        "upstream_id": f"u{next(_serial)}",
        "message_id": message_id,
        "part_index": 1,
        "attempt": 1,
        "sent_at": at,
        "acked_at": at,
        "cost_micro": 30_000,
    }
    return str(await _insert(tx, "submitted", values | columns, returning="upstream_id"))


async def inbound(
    tx: Tx, world: World, *, number: str = NUMBER, text: str = "好的", **columns: Any
) -> uuid.UUID:
    """A text from a person to the tenant, just now."""
    tenant_id = columns.get("tenant_id", world.tenant_id)
    values = {
        "id": message_id(),
        "tenant_id": tenant_id,
        "app_id": world.app_id,
        "channel_id": world.channel_id,
        "access_number": "1069",
        "phone_index": world.vault.phone_index(number),
        "sealed": world.vault.seal(tenant_id, msgspec.msgpack.encode((number, text))),
    }
    made: uuid.UUID = await _insert(tx, "inbound", values | columns, returning="id")
    return made


async def decision(tx: Tx, trace: object, **columns: Any) -> int:
    values = {"id": next(_serial), "trace": msgspec.json.encode(trace).decode()}
    return int(await _insert(tx, "decision", values | columns, returning="id"))


async def suppression(tx: Tx, world: World, *, number: str = NUMBER, **columns: Any) -> None:
    values = {"phone_index": world.vault.phone_index(number), "tenant_id": world.tenant_id, "kind": 1}
    await _insert(tx, "suppression", values | columns)


async def tally(tx: Tx, world: World, *, status: Status = Status.ACCEPTED, **columns: Any) -> None:
    """One counted cell: one message of one part in the hour that runs."""
    values = {
        "hour": datetime.now(UTC).replace(minute=0, second=0, microsecond=0),
        "tenant_id": world.tenant_id,
        "status": status.number,
        "cause": 0,
        "purpose": 1,
        "template_id": world.template_id,
        "channel_id": 0 if status is Status.ACCEPTED else world.channel_id,
        "country": "CN",
        "operator": "mobile",
        "province": "BJ",
        "latency": 0,
        "shard": 1,
        "messages": 1,
        "parts": 1,
        "price_micro": 45_000,
        "cost_micro": 0,
    }
    await _insert(tx, "tally", values | columns)


async def _insert(tx: Tx, table: str, columns: Mapping[str, Any], *, returning: str = "1") -> Any:
    marks = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) RETURNING {returning}"
    return await tx.fetchval(sql, *columns.values())


NOTICES_SQL = """
INSERT INTO notice (tenant_id, app_id, kind, message_id, status, code, at, lease_until)
SELECT $1, $2, 1, id, 1, 'DELIVRD', now(), CASE WHEN $4 THEN now() + interval '30 s' END
  FROM unnest($3::uuid[]) AS m (id) RETURNING id, message_id, at
"""


async def owe_rows(
    world: World, count: int, *, app_id: AppId | None = None, leased: bool = False
) -> list[Owed]:
    """Rows as a tick makes them; leased where they are handed over in memory. The messages do not exist."""
    ids = [uuid.uuid4() for _ in range(count)]
    app_id = app_id or world.app_id
    rows = await world.database.fetch(NOTICES_SQL, world.tenant_id, app_id, ids, leased)
    return [
        Owed(
            row["id"], world.tenant_id, app_id, STATUS, row["message_id"], 1, 0, "DELIVRD", row["at"], 0,
            None, 1, 45_000, None,
        )
        for row in rows
    ]  # fmt: skip
