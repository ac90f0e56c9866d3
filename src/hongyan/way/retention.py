"""How long each class of what we keep stays, and taking texts away before their rows.

Writes: message and inbound (what they have sealed), fading, fading_later. Entry points: Kept, RULES; keep_days() says what
holds; fade() takes texts that are past their time and leaves the number, which the mainland wants kept with the
times for five months; the rows themselves are prune's to delete.
Surprises: nothing on a row says that its text is gone. `fading` knows for each tenant how far fade() has come; what
was still open then stands in fading_later. Days count from a message's end, an inbound text's coming.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, LiteralString, NamedTuple

import msgspec

from hongyan import db
from hongyan.settings import Settings
from hongyan.vault import Vault, VaultError
from hongyan.vocab.message import TenantId, first_id_at

SLICE_MAX: Final = 2_000  # rows of one tenant looked at in one statement
LATER_MAX: Final = 500  # of what was put off, in one transaction
FIVE_MONTHS: Final = 153  # days; the longest five months have so many
FIRST: Final = uuid.UUID(int=0)
OPEN: Final = (0, 7)  # message.status: accepted, held
PLATFORM: Final = TenantId(0)


class Kept(StrEnum):
    """A class of what is kept."""

    OTP_TEXTS = "otp_texts"  # texts and parameters of codes, from their end
    MESSAGE_TEXTS = "message_texts"  # of all other messages
    INBOUND_TEXTS = "inbound_texts"  # what persons texted back
    MESSAGES = (
        "messages"  # rows of messages and inbound texts: number, times, what became of them; whole days
    )
    CONSENTS = "consents"  # from the withdrawal
    COMPLAINTS = "complaints"  # from their closing


class Rule(NamedTuple):
    """Days: what holds where nobody has said anything, and between which bounds they may say."""

    days: int
    floor: int
    ceiling: int


# The mainland wants times and numbers kept for five months, and proof of consent five months beyond its end (rules of
# 2015 and draft of 2020 about short messages); two years of rows and three of proof are custom. With US recipients say
# 1,825 for consents: claims can be brought for four years (28 USC 1658).
RULES: Final[Mapping[Kept, Rule]] = {
    Kept.OTP_TEXTS: Rule(7, 1, 731),
    Kept.MESSAGE_TEXTS: Rule(365, 1, 731),
    Kept.INBOUND_TEXTS: Rule(365, 1, 731),
    Kept.MESSAGES: Rule(0, FIVE_MONTHS, 731),  # 0: HONGYAN_MESSAGE_KEEP_DAYS
    Kept.CONSENTS: Rule(1_095, FIVE_MONTHS, 3_650),
    Kept.COMPLAINTS: Rule(1_095, FIVE_MONTHS, 3_650),
}
TEXTS: Final = (
    Kept.OTP_TEXTS,
    Kept.MESSAGE_TEXTS,
    Kept.INBOUND_TEXTS,
)  # what tenants may shorten for themselves


SAID_SQL: LiteralString = "SELECT tenant_id, class, days FROM retention"


class Days:
    """What holds for whom."""

    def __init__(self, said: Mapping[tuple[int, str], int], message_keep_days: int) -> None:
        self._said = said
        self._message_keep_days = message_keep_days

    def of(self, kept: Kept, tenant_id: TenantId = PLATFORM) -> int:
        """Return the days of a class, for a tenant the fewer of its own and the platform's."""
        standard = RULES[kept].days or self._message_keep_days
        days = self._said.get((PLATFORM, kept), standard)
        return min(days, self._said.get((tenant_id, kept), days))


async def keep_days(tx: db.Tx, settings: Settings) -> Days:
    """Return how long everything is kept."""
    rows = await tx.fetch(SAID_SQL)
    return Days({(row["tenant_id"], row["class"]): row["days"] for row in rows}, settings.message_keep_days)


# ---- texts


# In another order each time, so that one with very many messages does not stand before all others.
TENANTS_SQL: LiteralString = """
SELECT t.id, f.class, f.up_to
  FROM (SELECT id FROM tenant UNION ALL SELECT 0) t
  LEFT JOIN fading f ON f.tenant_id = t.id ORDER BY hashint4extended(t.id, $1)
"""


async def fade(tx: db.Tx, vault: Vault, settings: Settings, now: datetime) -> int:
    """Take texts away that are past their time, in slices; returns how many rows of full slices were looked at.

    What it returns is 0 once nothing full is left. A class whose texts stay as long as their rows costs nothing.
    """
    days = await keep_days(tx, settings)
    reached: dict[tuple[TenantId, str], uuid.UUID] = {}
    tenants: dict[TenantId, None] = {}
    for row in await tx.fetch(TENANTS_SQL, int(now.timestamp())):
        tenants[TenantId(row["id"])] = None
        if row["class"] is not None:
            reached[TenantId(row["id"]), row["class"]] = row["up_to"]
    looked_at = 0
    for tenant_id in tenants:
        for kept in TEXTS:
            kept_days = days.of(kept, tenant_id)
            if kept_days >= days.of(Kept.MESSAGES):
                continue
            before = now - timedelta(days=kept_days)
            rows = await _fade_slice(
                tx, vault, tenant_id, kept, reached.get((tenant_id, kept), FIRST), before
            )
            looked_at += rows if rows == SLICE_MAX else 0
            if kept is not Kept.INBOUND_TEXTS:
                await _fade_later(tx, vault, tenant_id, kept, before)
        if looked_at >= SLICE_MAX:  # one tenant a turn, so that a transaction stays short
            break
    return looked_at


# A slice takes rows as they come, whatever their purpose: it is bounded by what it reads, not by what it finds.
MESSAGES_SQL: LiteralString = """
SELECT id, status, done_at, CASE WHEN (purpose = 0) = $4 THEN sealed END AS sealed
  FROM message WHERE tenant_id = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $5
"""
INBOUND_SQL: LiteralString = """
SELECT id, sealed FROM inbound WHERE tenant_id = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4
"""
REACHED_SQL: LiteralString = """
INSERT INTO fading (tenant_id, class, up_to) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, class) DO UPDATE SET up_to = EXCLUDED.up_to WHERE fading.up_to < EXCLUDED.up_to
"""
LATER_SQL: LiteralString = """
INSERT INTO fading_later (tenant_id, class, message_id)
SELECT $1, $2, id FROM unnest($3::uuid[]) AS u(id) ON CONFLICT DO NOTHING
"""


async def _fade_slice(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, kept: Kept, reached: uuid.UUID, before: datetime
) -> int:
    until = first_id_at(before.timestamp())
    if kept is Kept.INBOUND_TEXTS:
        rows = await tx.fetch(INBOUND_SQL, tenant_id, reached, until, SLICE_MAX)
        ready = list(rows)
    else:
        is_otp = kept is Kept.OTP_TEXTS
        rows = await tx.fetch(MESSAGES_SQL, tenant_id, reached, until, is_otp, SLICE_MAX)
        ready = [row for row in rows if _is_over(row, before)]
        ids = {row["id"] for row in ready}
        waiting = [row["id"] for row in rows if row["sealed"] is not None and row["id"] not in ids]
        if waiting:
            await tx.execute(LATER_SQL, tenant_id, kept.value, waiting)
    if not await _take_texts(tx, vault, tenant_id, kept, ready):
        return 0
    up_to = rows[-1]["id"] if len(rows) == SLICE_MAX else _just_before(until)
    await tx.execute(REACHED_SQL, tenant_id, kept.value, up_to)
    return len(rows)


def _is_over(row: db.Row, before: datetime) -> bool:
    return row["status"] not in OPEN and (row["done_at"] is None or row["done_at"] < before)


def _just_before(until: uuid.UUID) -> uuid.UUID:
    return uuid.UUID(int=max(0, until.int - 1))


PUT_OFF_SQL: LiteralString = """
SELECT l.message_id AS id, m.status, m.done_at, m.sealed
  FROM fading_later l LEFT JOIN message m ON m.tenant_id = l.tenant_id AND m.id = l.message_id
 WHERE l.tenant_id = $1 AND l.class = $2 ORDER BY l.message_id LIMIT $3
"""
DONE_SQL: LiteralString = """
DELETE FROM fading_later WHERE tenant_id = $1 AND class = $2 AND message_id = ANY($3::uuid[])
"""


async def _fade_later(tx: db.Tx, vault: Vault, tenant_id: TenantId, kept: Kept, before: datetime) -> None:
    """Take the texts of messages that had to wait; those whose rows are gone are forgotten."""
    rows = await tx.fetch(PUT_OFF_SQL, tenant_id, kept.value, LATER_MAX)
    over = [row for row in rows if row["status"] is None or _is_over(row, before)]
    if over and await _take_texts(tx, vault, tenant_id, kept, over):
        await tx.execute(DONE_SQL, tenant_id, kept.value, [row["id"] for row in over])


# Not over one that was erased meanwhile: it would bring the number back.
TAKE_MESSAGES_SQL: LiteralString = """
UPDATE message m SET sealed = u.sealed FROM unnest($2::uuid[], $3::bytea[]) AS u(id, sealed)
 WHERE m.tenant_id = $1 AND m.id = u.id AND m.sealed IS NOT NULL
"""
TAKE_INBOUND_SQL: LiteralString = """
UPDATE inbound i SET sealed = u.sealed FROM unnest($2::uuid[], $3::bytea[]) AS u(id, sealed)
 WHERE i.id = u.id AND i.tenant_id = $1 AND i.sealed IS NOT NULL
"""


async def _take_texts(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, kept: Kept, rows: Sequence[db.Row]
) -> bool:
    """Seal numbers anew, without their texts. False where this process cannot open the tenant's key: others may."""
    is_inbound = kept is Kept.INBOUND_TEXTS
    ids, sealed = [], []
    for row in rows:
        if row["sealed"] is None:
            continue
        try:
            number = _number(vault.unseal(tenant_id, row["sealed"]))
        except VaultError:
            return False
        ids.append(row["id"])
        sealed.append(vault.seal(tenant_id, _pack((number, None) if is_inbound else (number, None, None))))
    if ids:
        await tx.execute(TAKE_INBOUND_SQL if is_inbound else TAKE_MESSAGES_SQL, tenant_id, ids, sealed)
    return True


class _Numbered(msgspec.Struct, frozen=True, array_like=True):
    """What message.sealed and inbound.sealed hold begins with the number."""

    number: str


_decode = msgspec.msgpack.Decoder(_Numbered).decode
_pack: Final[Callable[[object], bytes]] = msgspec.msgpack.Encoder().encode


def _number(plain: bytes) -> str:
    return _decode(plain).number
