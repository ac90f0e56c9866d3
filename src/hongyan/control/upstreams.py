"""Channels: our accounts at operators and providers, with capacity and price.

Writes: channel. Entry points: add_channel(), configure(), pause(), resume(), remove(), every().
A kind's settings are asked whether they build before they are sealed, because they hold passwords and because
a gateway should never meet settings that do not build.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, LiteralString

import msgspec

from hongyan import db
from hongyan.channels import kinds
from hongyan.control.bounds import demand, demand_currency, demand_found, demand_name
from hongyan.vault import Vault
from hongyan.vocab.message import ChannelId

SESSIONS_MAX: Final = 64

ReportParts = Literal["every", "one"]


class ChannelRow(msgspec.Struct, frozen=True):
    """A channel as an operator sees it in a list; its settings stay sealed."""

    id: ChannelId
    name: str
    kind: str
    paused: bool
    parts_per_s: int
    sessions: int
    access_number: str
    report_parts: ReportParts
    currency: str
    cost_micro: int
    created_at: datetime


ADD_SQL: LiteralString = """
INSERT INTO channel (name, kind, sealed, parts_per_s, sessions, access_number, report_parts, currency,
       cost_micro)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO NOTHING RETURNING id
"""


async def add_channel(
    tx: db.Tx,
    vault: Vault,
    *,
    name: str,
    kind: str,
    settings: Mapping[str, object],
    parts_per_s: int = 0,
    sessions: int = 1,
    access_number: str = "",
    report_parts: ReportParts = "every",
    currency: str = "CNY",
    cost_micro: int = 0,
) -> ChannelId:
    """Add a channel; gateways log in as soon as they hear of it, and routes.add() lets messages go there.

    `settings` are the kind's own (kinds.schema()); `parts_per_s` 0 = as fast as the window allows;
    `report_parts`: whether the upstream reports on every part of a long text or once; `cost_micro` per part,
    in `currency`. Raises Refusal for a name that is taken or a value out of bounds, kinds.BadSettings for
    settings that do not build.
    """
    demand_name(name)
    demand(1 <= sessions <= SESSIONS_MAX, "sessions", f"between 1 and {SESSIONS_MAX}")
    demand(parts_per_s >= 0, "parts_per_s", "0 or more")
    demand_currency(currency)
    number = await tx.fetchval(
        ADD_SQL,
        name,
        kind,
        _sealed(vault, kind, settings),
        parts_per_s,
        sessions,
        access_number,
        report_parts,
        currency,
        cost_micro,
    )
    demand(number is not None, "name", "there is a channel of this name")
    return ChannelId(number)


KIND_SQL: LiteralString = "SELECT kind FROM channel WHERE id = $1 AND active FOR UPDATE"
CONFIGURE_SQL: LiteralString = "UPDATE channel SET sealed = $2 WHERE id = $1"


async def configure(tx: db.Tx, vault: Vault, channel_id: ChannelId, settings: Mapping[str, object]) -> None:
    """Replace a channel's settings; gateways log out and in again. Raises as add_channel() does."""
    kind = demand_found(await tx.fetchval(KIND_SQL, channel_id), channel=channel_id)
    await tx.execute(CONFIGURE_SQL, channel_id, _sealed(vault, kind, settings))


def _sealed(vault: Vault, kind: str, settings: Mapping[str, object]) -> bytes:
    kinds.build(kind, settings)
    return vault.seal_secret(msgspec.json.encode(settings))


PAUSE_SQL: LiteralString = "UPDATE channel SET paused = $2 WHERE id = $1 AND active RETURNING id"


async def pause(tx: db.Tx, channel_id: ChannelId) -> None:
    """Submit nothing more there; its sessions stay, because reports still come."""
    await _set_paused(tx, channel_id, paused=True)


async def resume(tx: db.Tx, channel_id: ChannelId) -> None:
    await _set_paused(tx, channel_id, paused=False)


async def _set_paused(tx: db.Tx, channel_id: ChannelId, *, paused: bool) -> None:
    demand_found(await tx.fetchval(PAUSE_SQL, channel_id, paused), channel=channel_id)


# The row stays, because messages and tallies name it; the name becomes free for a successor.
REMOVE_SQL: LiteralString = """
UPDATE channel SET active = false, name = name || ' #' || id WHERE id = $1 AND active RETURNING id
"""


async def remove(tx: db.Tx, channel_id: ChannelId) -> None:
    """Log out for good. Reports that are still due will not come: those messages end as unknown."""
    demand_found(await tx.fetchval(REMOVE_SQL, channel_id), channel=channel_id)


FIND_SQL: LiteralString = "SELECT id FROM channel WHERE name = $1 AND active"


async def find(tx: db.Tx, name: str) -> ChannelId:
    """Find a channel by name. Raises Refusal."""
    return ChannelId(demand_found(await tx.fetchval(FIND_SQL, name), channel=name))


EVERY_SQL: LiteralString = """
SELECT id, name, kind, paused, parts_per_s, sessions, access_number, report_parts, currency, cost_micro,
       created_at
  FROM channel WHERE active ORDER BY id
"""


async def every(tx: db.Tx) -> Sequence[ChannelRow]:
    """List the channels, oldest first."""
    return [ChannelRow(**dict(row)) for row in await tx.fetch(EVERY_SQL)]
