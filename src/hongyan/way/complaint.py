"""Complaints: who complained about what a tenant sent, by which way it came, by when it must be answered.

Writes: complaint, suppression (through optout). Entry points: record(), also from an inbound text that complains;
change(), erase(). Whoever complained hears no promotion of that tenant any more. An answer is owed within ANSWER_DAYS
working days; public holidays are not known here, so in weeks that have some the time shown is the stricter one.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Final, LiteralString
from uuid import UUID

import msgspec

from hongyan import db
from hongyan.vault import Vault, VaultError
from hongyan.vocab.message import TenantId, first_id_at
from hongyan.way import optout
from hongyan.way.optout import Suppressed

ANSWER_DAYS: Final = (
    15  # working days, as the mainland's draft rules of 2020 give a firm for 12321's complaints
)
BEIJING: Final = timezone(timedelta(hours=8))  # whose working days count
SATURDAY: Final = 5


class ComplaintSource(StrEnum):
    """Who passed a complaint on."""

    OPERATOR = "operator"
    CENTRE_12321 = "12321"  # the mainland's centre for reports of unwanted messages
    REGULATOR = "regulator"
    PERSON = "person"  # called, or wrote a letter
    INBOUND = "inbound"  # texted back: 投诉, 骚扰, 举报


class ComplaintState(StrEnum):
    """How far a complaint has come."""

    OPEN = "open"
    ANSWERED = "answered"
    CLOSED = "closed"


class Words(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of a complaint names the person, and so is sealed."""

    number: str
    text: str = ""
    answer: str = ""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A complaint to be kept."""

    tenant_id: TenantId
    phone_index: bytes
    source: ComplaintSource
    received_at: datetime
    words: Words
    reference: str = ""
    message_id: UUID | None = None  # none: the last one to that number before it came


def due_at(received_at: datetime) -> datetime:
    """Return when the answer is owed: the same time of day, ANSWER_DAYS working days (Monday to Friday) later."""
    day = received_at.astimezone(BEIJING)
    left = ANSWER_DAYS
    while left:
        day += timedelta(days=1)
        left -= day.weekday() < SATURDAY
    return day.astimezone(UTC)


# A person who texts 投诉 again before anybody has answered makes no second complaint. The message may be long gone.
RECORD_SQL: LiteralString = """
INSERT INTO complaint (tenant_id, phone_index, source, reference, message_id, channel_id, received_at, due_at, sealed)
SELECT u.tenant_id, u.phone_index, u.source, u.reference, coalesce(m.id, u.message_id), coalesce(m.channel_id, 0),
       u.received_at, u.due_at, u.sealed
  FROM unnest($1::int[], $2::bytea[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[], $7::timestamptz[], $8::bytea[],
              $9::uuid[]) WITH ORDINALITY
    AS u(tenant_id, phone_index, source, reference, message_id, received_at, due_at, sealed, before, place)
  LEFT JOIN LATERAL (
       SELECT id, channel_id FROM message
        WHERE phone_index = u.phone_index AND tenant_id = u.tenant_id AND id < u.before
          AND (u.message_id IS NULL OR id = u.message_id)
        ORDER BY id DESC LIMIT 1) m ON true
 WHERE u.source <> 'inbound' OR NOT EXISTS (
       SELECT FROM complaint c WHERE c.tenant_id = u.tenant_id AND c.phone_index = u.phone_index
          AND c.source = 'inbound' AND c.state = 'open')
 ORDER BY u.place
RETURNING id
"""


async def record(
    tx: db.Tx, vault: Vault, made: Sequence[Made]
) -> tuple[Sequence[int], Collection[Suppressed]]:
    """Keep complaints, each of a person's about a tenant once while one by inbound text is open.

    Returns their ids, and whom the tenants may no longer write promotions to: tell the gateways of them
    (optout.tell()) after the commit.
    """
    if not made:
        return [], []
    rows = [
        (
            one.tenant_id,
            one.phone_index,
            one.source.value,
            one.reference,
            one.message_id,
            one.received_at,
            due_at(one.received_at),
            _sealed(vault, one.tenant_id, one.words),
            first_id_at(one.received_at.timestamp() + 1),
        )
        for one in made
    ]
    kept = await tx.fetch(RECORD_SQL, *(list(column) for column in zip(*rows, strict=True)))
    stopped = [Suppressed(one.phone_index, one.tenant_id, f"complaint: {one.source}") for one in made]
    await optout.stop(tx, stopped)
    return [row["id"] for row in kept], stopped


def _sealed(vault: Vault, tenant_id: TenantId, words: Words) -> bytes | None:
    try:
        return vault.seal(tenant_id, _encode(words))
    except VaultError:  # the tenant's key was shredded
        return None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Words).decode


def opened(vault: Vault, tenant_id: TenantId, sealed: bytes | None) -> Words | None:
    """Open what a row keeps sealed; None once it was erased, or the tenant's key shredded."""
    if sealed is None:
        return None
    try:
        return _decode(vault.unseal(tenant_id, sealed))
    except VaultError:
        return None


LOCK_SQL: LiteralString = (
    "SELECT tenant_id, sealed FROM complaint WHERE id = $1 AND tenant_id = $2 FOR UPDATE"
)
CHANGE_SQL: LiteralString = """
UPDATE complaint SET state = $2, sealed = $3, reference = coalesce($4, reference),
       answered_at = CASE WHEN $2 = 'open' THEN NULL WHEN $2 = 'answered' THEN coalesce(answered_at, $5) ELSE answered_at END,
       closed_at = CASE WHEN $2 = 'closed' THEN coalesce(closed_at, $5) END
 WHERE id = $1
"""


async def change(
    tx: db.Tx,
    vault: Vault,
    tenant_id: TenantId,
    complaint_id: int,
    *,
    state: ComplaintState,
    answer: str | None,
    reference: str | None,
    now: datetime,
) -> bool:
    """Say how far a complaint has come, and what was answered; False where the tenant has none of that id."""
    row = await tx.fetchrow(LOCK_SQL, complaint_id, tenant_id)
    if row is None:
        return False
    sealed = row["sealed"]
    words = opened(vault, tenant_id, sealed)
    if answer is not None and words is not None:
        sealed = _sealed(vault, tenant_id, msgspec.structs.replace(words, answer=answer))
    await tx.execute(CHANGE_SQL, complaint_id, state.value, sealed, reference, now)
    return True


ERASE_SQL: LiteralString = """
UPDATE complaint SET sealed = NULL WHERE tenant_id = $1 AND phone_index = $2 AND sealed IS NOT NULL RETURNING 1
"""


async def erase(tx: db.Tx, tenant_id: TenantId, phone_index: bytes) -> int:
    """Empty the words of a person's complaints; that there were some stays, under the keyed index."""
    return len(await tx.fetch(ERASE_SQL, tenant_id, phone_index))
