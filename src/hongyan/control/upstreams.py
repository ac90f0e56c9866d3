"""Channels: our accounts at operators and providers, with capacity and price.

Writes: channel. Entry points: add_channel(), change(), configure(), pause(), drain(), resume(), remove(), one(),
every(), settings_of(). A kind's settings are asked whether they build before they are sealed, because they hold
passwords and because a gateway should never meet settings that do not build. People see them with their secrets hidden;
a secret that is given back hidden stays as it is stored.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, LiteralString

import msgspec

from hongyan import db
from hongyan.channels import kinds
from hongyan.control import extensions
from hongyan.control.bounds import demand, demand_currency, demand_found, demand_name
from hongyan.vault import Vault
from hongyan.vocab.message import ChannelId

SESSIONS_MAX: Final = 64
CHANNELS_MAX: Final = 500  # lists are whole
PARTS_PER_S_MAX: Final = 1_000_000
COST_MICRO_MAX: Final = 1_000_000_000_000
SETTINGS_OCTETS_MAX: Final = 262_144  # a list of templates filed with a provider may be long
ACCESS_NUMBER_CHARACTERS_MAX: Final = 21  # of an address [SMPP 3.4, 5.2.8; CMPP 3.0, 8.3.1]
EXTENSION_DIGITS_MAX: Final = 8
NAMING_LOCK: Final = 0x63686E6D  # 'chnm'
DRAIN_WAIT_S_MAX: Final = 259_200  # what reports are waited for at most anywhere

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
    filing_demanded: bool = False
    extension_digits: int = 0
    drain_until: datetime | None = None


ADD_SQL: LiteralString = """
INSERT INTO channel (name, kind, sealed, parts_per_s, sessions, access_number, report_parts, currency,
       cost_micro, filing_demanded, extension_digits)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (name) DO NOTHING RETURNING id
"""
COUNT_SQL: LiteralString = "SELECT count(*) FROM channel WHERE active"


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
    filing_demanded: bool = False,
    extension_digits: int = 0,
) -> ChannelId:
    """Add a channel; gateways log in as soon as they hear of it, and routes.add() lets messages go there.

    `settings` are the kind's own (kinds.schema()); `parts_per_s` 0 = as fast as the window allows;
    `report_parts`: whether the upstream reports on every part of a long text or once; `cost_micro` per part,
    in `currency`; `filing_demanded`: it carries only signatures filed at the number's operator; `extension_digits` of
    the extensions that signatures are given there. Raises Refusal for a name that is taken or a value out of bounds,
    kinds.BadSettings for settings that do not build.
    """
    values = {
        "name": name, "parts_per_s": parts_per_s, "sessions": sessions, "access_number": access_number,
        "currency": currency, "cost_micro": cost_micro, "extension_digits": extension_digits,
    }  # fmt: skip
    _demand_sound(values)
    count = await tx.fetchval(COUNT_SQL)
    demand(count < CHANNELS_MAX, "name", f"there are {CHANNELS_MAX} channels already")
    number = await tx.fetchval(
        ADD_SQL,
        name,
        kind,
        _sealed(vault, kind, kinds.restore(kind, settings, {})),
        parts_per_s,
        sessions,
        access_number,
        report_parts,
        currency,
        cost_micro,
        filing_demanded,
        extension_digits,
    )
    demand(number is not None, "name", "there is a channel of this name")
    if extension_digits:
        await extensions.assign_all(tx, ChannelId(number))
    return ChannelId(number)


def _demand_sound(values: Mapping[str, Any]) -> None:
    """Ask of the values that are given that they are within their bounds."""
    bounds = {
        "sessions": (1, SESSIONS_MAX),
        "parts_per_s": (0, PARTS_PER_S_MAX),
        "cost_micro": (0, COST_MICRO_MAX),
        "extension_digits": (0, EXTENSION_DIGITS_MAX),
    }
    if "name" in values:
        demand_name(values["name"])
    for name, (least, most) in bounds.items():
        if name in values:
            demand(least <= values[name] <= most, name, f"between {least} and {most}")
    if "currency" in values:
        demand_currency(values["currency"])
    if "access_number" in values:
        number = values["access_number"]
        sound = number.isascii() and number.isprintable() and len(number) <= ACCESS_NUMBER_CHARACTERS_MAX
        demand(sound, "access_number", f"at most {ACCESS_NUMBER_CHARACTERS_MAX} digits or letters")


# ---- changes


LOCK_SQL: LiteralString = """
SELECT name, kind, sealed, parts_per_s, sessions, access_number, report_parts, currency, cost_micro, filing_demanded,
       extension_digits
  FROM channel WHERE id = $1 AND active FOR NO KEY UPDATE
"""
# Two at once would both find a name free.
NAMING_SQL: LiteralString = "SELECT pg_advisory_xact_lock($1)"
TAKEN_SQL: LiteralString = "SELECT FROM channel WHERE name = $1 AND id <> $2"
CHANGE_SQL: LiteralString = """
UPDATE channel SET name = $2, sealed = $3, parts_per_s = $4, sessions = $5, access_number = $6, report_parts = $7,
       currency = $8, cost_micro = $9, filing_demanded = $10, extension_digits = $11
 WHERE id = $1
"""


async def change(
    tx: db.Tx, vault: Vault, channel_id: ChannelId, changes: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Change what is named: fields of add_channel() except the kind; gateways take it up without a restart.

    `settings` stand in place of all there are; gateways then finish what is under way, log out and in again. Returns
    what is different now, for the audit: of settings only their names. Raises as add_channel() does.
    """
    row = demand_found(await tx.fetchrow(LOCK_SQL, channel_id), channel=channel_id)
    _demand_sound(changes)
    values = {name: row[name] for name in _PLAIN} | {n: v for n, v in changes.items() if n in _PLAIN}
    different: dict[str, Any] = {name: value for name, value in values.items() if value != row[name]}
    if "name" in different:
        await tx.execute(NAMING_SQL, NAMING_LOCK)
        taken = await tx.fetchrow(TAKEN_SQL, values["name"], channel_id)
        demand(taken is None, "name", "there is a channel of this name")
    sealed = row["sealed"]
    if "settings" in changes:
        stored = _opened(vault, sealed)
        whole = kinds.restore(row["kind"], changes["settings"], stored)
        if whole != stored:
            sealed = _sealed(vault, row["kind"], whole)
            names = stored.keys() | whole.keys()
            different["settings"] = sorted(name for name in names if stored.get(name) != whole.get(name))
    await tx.execute(CHANGE_SQL, channel_id, values["name"], sealed, *(values[name] for name in _PLAIN[1:]))
    if different.get("extension_digits"):
        await extensions.assign_all(tx, channel_id)
    return different


_PLAIN: Final = (
    "name", "parts_per_s", "sessions", "access_number", "report_parts", "currency", "cost_micro", "filing_demanded",
    "extension_digits",
)  # fmt: skip


async def configure(tx: db.Tx, vault: Vault, channel_id: ChannelId, settings: Mapping[str, object]) -> None:
    """Replace a channel's settings; gateways log out and in again. Raises as add_channel() does."""
    await change(tx, vault, channel_id, {"settings": settings})


def _sealed(vault: Vault, kind: str, settings: Mapping[str, object]) -> bytes:
    kinds.build(kind, settings)
    octets = msgspec.json.encode(settings)
    demand(len(octets) <= SETTINGS_OCTETS_MAX, "settings", f"at most {SETTINGS_OCTETS_MAX} octets of JSON")
    return vault.seal_secret(octets)


def _opened(vault: Vault, sealed: bytes) -> dict[str, object]:
    settings: dict[str, object] = msgspec.json.decode(vault.unseal_secret(sealed).reveal())
    return settings


# ---- pausing, draining, removing


PAUSE_SQL: LiteralString = "UPDATE channel SET paused = true WHERE id = $1 AND active RETURNING id"


async def pause(tx: db.Tx, channel_id: ChannelId) -> None:
    """Submit nothing more there; its sessions stay, because reports still come."""
    demand_found(await tx.fetchval(PAUSE_SQL, channel_id), channel=channel_id)


# A second order to drain moves the deadline.
DRAIN_SQL: LiteralString = """
UPDATE channel SET drain_until = now() + make_interval(secs => $2::float8) WHERE id = $1 AND active RETURNING drain_until
"""


async def drain(tx: db.Tx, channel_id: ChannelId, wait_s: int) -> datetime:
    """Submit nothing more there, wait for answers and reports until none is due, at most `wait_s`, then log out.

    Returns when it logs out at the latest.
    """
    demand(1 <= wait_s <= DRAIN_WAIT_S_MAX, "wait_s", f"between 1 and {DRAIN_WAIT_S_MAX}")
    until: datetime = demand_found(await tx.fetchval(DRAIN_SQL, channel_id, wait_s), channel=channel_id)
    return until


RESUME_SQL: LiteralString = """
UPDATE channel SET paused = false, drain_until = NULL WHERE id = $1 AND active RETURNING id
"""


async def resume(tx: db.Tx, channel_id: ChannelId) -> None:
    """Submit there again, whether it was paused, is being drained or is drained."""
    demand_found(await tx.fetchval(RESUME_SQL, channel_id), channel=channel_id)


# The row stays, because messages and tallies name it; the name becomes free for a successor.
REMOVE_SQL: LiteralString = """
UPDATE channel SET active = false, name = name || ' #' || id WHERE id = $1 AND active RETURNING id
"""


async def remove(tx: db.Tx, channel_id: ChannelId) -> None:
    """Log out for good. Reports that are still due will not come: those messages end as unknown."""
    demand_found(await tx.fetchval(REMOVE_SQL, channel_id), channel=channel_id)


# ---- looking


FIND_SQL: LiteralString = "SELECT id FROM channel WHERE name = $1 AND active"


async def find(tx: db.Tx, name: str) -> ChannelId:
    """Find a channel by name. Raises Refusal."""
    return ChannelId(demand_found(await tx.fetchval(FIND_SQL, name), channel=name))


SETTINGS_SQL: LiteralString = "SELECT kind, sealed FROM channel WHERE id = $1 AND active"


async def settings_of(tx: db.Tx, vault: Vault, channel_id: ChannelId) -> tuple[str, dict[str, object]]:
    """Return a channel's kind and its settings, secrets and all: not for people. Raises Refusal."""
    row = demand_found(await tx.fetchrow(SETTINGS_SQL, channel_id), channel=channel_id)
    return row["kind"], _opened(vault, row["sealed"])


EVERY_SQL: LiteralString = """
SELECT id, name, kind, paused, parts_per_s, sessions, access_number, report_parts, currency, cost_micro,
       created_at, filing_demanded, extension_digits, drain_until
  FROM channel WHERE active AND ($1::int IS NULL OR id = $1) ORDER BY id
"""


async def every(tx: db.Tx) -> Sequence[ChannelRow]:
    """List the channels, oldest first."""
    return [ChannelRow(**dict(row)) for row in await tx.fetch(EVERY_SQL, None)]


async def one(tx: db.Tx, channel_id: ChannelId) -> ChannelRow:
    """Return one channel. Raises Refusal."""
    row = demand_found(await tx.fetchrow(EVERY_SQL, channel_id), channel=channel_id)
    return ChannelRow(**dict(row))
