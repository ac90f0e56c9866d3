"""Let a person decide about messages that are held: texts of logins with `hold` that match no template.

Writes: message, outbox; what is refused ends through drop.settle(). Entry points: waiting(), release() and refuse().
A held message is accepted and charged like any other (status 7) and stands in the outbox with the owner -1, due never;
a release gives it to whichever gateway claims it, which asks again what is asked of all that waited: opt-outs, hours,
validity. Two people may decide at once: the first word counts. What nobody decides about in time, prune expires.
"""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.observe import masked_number
from hongyan.vault import Vault, VaultError
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import PURPOSES, MessageId, Purpose, Status, TenantId
from hongyan.way import drop
from hongyan.way.drop import Dropped

SHARD: Final = 0  # of balances and tallies
FIRST: Final = MessageId(uuid.UUID(int=0))


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A message as whoever reviews it sees it: the text whole, the number masked; both null once erased."""

    id: MessageId
    tenant: str
    app: str  # protocol:name of the login
    number: str | None
    text: str | None
    purpose: Purpose
    part_count: int
    accepted_at: datetime
    due_at: datetime  # does not leave before, even if released
    expires_at: datetime


class _Plain(msgspec.Struct, frozen=True, array_like=True):
    """What message.sealed holds. Only what is read is built."""

    number: str
    text: str


_decode = msgspec.msgpack.Decoder(_Plain).decode

WAITING_SQL: LiteralString = """
SELECT o.id, o.tenant_id, t.name AS tenant, a.name AS app, m.sealed, m.purpose, m.part_count, m.accepted_at, m.due_at,
       m.expires_at
  FROM outbox o
  JOIN message m ON m.tenant_id = o.tenant_id AND m.id = o.id
  JOIN tenant t ON t.id = o.tenant_id
  JOIN app a ON a.id = m.app_id
 WHERE o.owner < 0 AND o.id > $1 AND ($2::int IS NULL OR o.tenant_id = $2)
 ORDER BY o.id LIMIT $3
"""


async def waiting(
    tx: db.Tx, vault: Vault, tenant_id: TenantId | None, limit: int, after: uuid.UUID = FIRST
) -> Sequence[Held]:
    """List what waits for a person, the oldest first, at most `limit`; go on with the last id as `after`.

    `tenant_id` None: of all tenants.
    """
    rows = await tx.fetch(WAITING_SQL, after, tenant_id, limit)
    return [_held(row, _unsealed(vault, row)) for row in rows]


def _held(row: db.Row, plain: _Plain | None) -> Held:
    return Held(
        id=MessageId(row["id"]),
        tenant=row["tenant"],
        app=row["app"],
        number=None if plain is None else masked_number(plain.number),
        text=None if plain is None else plain.text,
        purpose=PURPOSES[row["purpose"]],
        part_count=row["part_count"],
        accepted_at=row["accepted_at"],
        due_at=row["due_at"],
        expires_at=row["expires_at"],
    )


def _unsealed(vault: Vault, row: db.Row) -> _Plain | None:
    if row["sealed"] is None:
        return None
    try:
        return _decode(vault.unseal(row["tenant_id"], row["sealed"]))
    except VaultError:  # the tenant's key was shredded
        return None


# Who decides locks the queue row first, as a cancel does. What is released is due from now on, so that the time
# a person took is no operator's delay; what has run out meanwhile is left to prune.
RELEASE_SQL: LiteralString = """
WITH picked AS MATERIALIZED (
    SELECT tenant_id, id FROM outbox WHERE owner < 0 AND id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
), freed AS (
    UPDATE message m SET status = 0, due_at = greatest(m.due_at, now())
      FROM picked p WHERE m.tenant_id = p.tenant_id AND m.id = p.id AND m.expires_at > now()
    RETURNING m.tenant_id, m.id, m.due_at
)
UPDATE outbox o SET owner = 0, due_at = f.due_at
  FROM freed f WHERE o.tenant_id = f.tenant_id AND o.id = f.id
RETURNING o.id
"""


async def release(tx: db.Tx, ids: Collection[uuid.UUID]) -> frozenset[uuid.UUID]:
    """Put held messages on their way; returns those that were held until now. Gateways look for them by themselves."""
    return frozenset(row["id"] for row in await tx.fetch(RELEASE_SQL, list(ids)))


PICK_SQL: LiteralString = """
SELECT o.tenant_id, o.id, m.part_count
  FROM outbox o JOIN message m ON m.tenant_id = o.tenant_id AND m.id = o.id
 WHERE o.owner < 0 AND o.id = ANY($1::uuid[])
 ORDER BY o.id FOR UPDATE OF o
"""


async def refuse(tx: db.Tx, ids: Collection[uuid.UUID]) -> frozenset[uuid.UUID]:
    """End held messages as refused (cause rejected), refunded; returns those that were held until now.

    Their apps are owed notices: wake who pays them, after the commit.
    """
    rows = await tx.fetch(PICK_SQL, list(ids))
    drops = [
        Dropped(row["tenant_id"], row["id"].bytes, row["part_count"], Status.REFUSED, Cause.REJECTED, "")
        for row in rows
    ]
    if drops:
        await drop.settle(tx, drops, SHARD, [])
    return frozenset(row["id"] for row in rows)
