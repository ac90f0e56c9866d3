"""What was promised: an accepted message, found again by its id or under the Idempotency-Key of its request.

Writes: idempotency (its row for a single message is written by the statement in acceptance.py). Entry points: stored(),
reserve() and answer() for batch requests, first_answer() for single ones.
Surprise: the key of a single message keeps no answer, only the id: the answer is read from the message. That of a batch
keeps its answer, and an id from which those of all its messages follow.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString

import msgspec

from hongyan import db
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, TenantId
from hongyan.way.snapshot import Key

REPEATABLE_BUSY_S = 30  # how long an unanswered key counts as still under way elsewhere


class Accepted(msgspec.Struct, frozen=True):
    """A promise: stored and charged."""

    id: MessageId
    parts: int
    price_micro: int
    send_at: datetime | None = None  # when it will leave, if not at once
    held: bool = False  # a person decides first


class Idempotency(msgspec.Struct, frozen=True):
    """The caller's key and what it was used for, both hashed."""

    key: bytes
    body: bytes


Outcome = Accepted | Refusal


# The bounds say the same once more: by them, and not by an array that is a parameter, the other days are passed over.
STORED_SQL: LiteralString = """
SELECT id, part_count, price_micro, status = 7 AS held FROM message
 WHERE tenant_id = $1 AND id = ANY($2::uuid[]) AND id >= $3 AND id <= $4
"""


async def stored(database: db.Database, tenant_id: TenantId, ids: Sequence[MessageId]) -> dict[int, Accepted]:
    """Return what is stored under these ids, by their place."""
    wanted = [db.Uuid(i.bytes) for i in ids]
    rows = await database.fetch(STORED_SQL, tenant_id, wanted, min(wanted), max(wanted))
    there = {row["id"].int: row for row in rows}
    return {
        index: Accepted(
            message_id,
            there[message_id.int]["part_count"],
            there[message_id.int]["price_micro"],
            held=there[message_id.int]["held"],
        )
        for index, message_id in enumerate(ids)
        if message_id.int in there
    }


# The row is reserved at once or found; a reservation nobody answered for a while (its door died) is taken over.
RESERVE_SQL: LiteralString = """
INSERT INTO idempotency AS i (key_id, key, body, first_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (key_id, key) DO UPDATE
   SET created_at = CASE WHEN i.answer IS NULL AND i.created_at < now() - make_interval(secs => $5)
                         THEN now() ELSE i.created_at END
RETURNING body, answer, first_id, (first_id = $4 OR (answer IS NULL AND created_at = now())) AS mine
"""


async def reserve(
    database: db.Database, key: Key, idempotency: Idempotency, first_id: MessageId
) -> tuple[MessageId | None, Sequence[Outcome] | Refusal]:
    """Reserve the key of a batch request, or find what became of it.

    Returns the id that those of its messages follow from, where it is ours to serve; else None, and its answers or why
    there are none.
    """
    (first,) = await database.fetch(
        RESERVE_SQL,
        key.id,
        idempotency.key,
        idempotency.body,
        db.Uuid(first_id.bytes),
        REPEATABLE_BUSY_S,
    )
    if first["body"] != idempotency.body:
        return None, Refusal(Code.REQUEST_IDEMPOTENCY_CONFLICT)
    if first["answer"] is not None:
        return None, _read_answer(first["answer"])
    if not first["mine"]:
        return None, Refusal(Code.SYSTEM_BUSY, retry_after_s=REPEATABLE_BUSY_S)
    return MessageId(first["first_id"]), ()


def ids_after(first: int, count: int) -> list[MessageId]:
    """Return `count` ids that follow from the first: its time and counter going up, its random bits kept."""
    stamp = (first >> 80) << 12 | (first >> 64 & 0xFFF)
    low = first & 0xFFFF_FFFF_FFFF_FFFF
    stamps = range(stamp, stamp + count)
    return [MessageId(uuid.UUID(int=((at >> 12 << 16) | 0x7000 | (at & 0xFFF)) << 64 | low)) for at in stamps]


ANSWER_SQL: LiteralString = "UPDATE idempotency SET answer = $3 WHERE key_id = $1 AND key = $2"


async def answer(
    database: db.Database, key: Key, idempotency: Idempotency, outcomes: Sequence[Outcome]
) -> None:
    """Keep the answer to a batch request, unless it is to be asked again."""
    if not any(isinstance(o, Refusal) and o.code in (Code.SYSTEM_BUSY, Code.SYSTEM_ERROR) for o in outcomes):
        await database.execute(ANSWER_SQL, key.id, idempotency.key, _write_answer(outcomes))


def _write_answer(outcomes: Sequence[Outcome]) -> bytes:
    return msgspec.json.encode(
        [o if isinstance(o, Accepted) else [o.code.name, o.retry_after_s, o.detail] for o in outcomes]
    )


def _read_answer(octets: bytes) -> Sequence[Outcome]:
    outcomes: list[Outcome] = []
    for one in msgspec.json.decode(octets):
        if isinstance(one, dict):
            outcomes.append(msgspec.convert(one, Accepted))
        else:
            outcomes.append(Refusal(Code[one[0]], retry_after_s=one[1], **one[2]))
    return outcomes


FIRST_ANSWER_SQL: LiteralString = """
SELECT i.body, i.first_id, m.part_count, m.price_micro, m.due_at, m.accepted_at, m.status = 7 AS held
  FROM idempotency i LEFT JOIN message m ON m.tenant_id = $3 AND m.id = i.first_id
 WHERE i.key_id = $1 AND i.key = $2
"""


async def first_answer(tx: db.Tx, key: Key, idempotency: Idempotency) -> Outcome | None:
    """Return the answer of a request for one message whose key is taken; None: the key has been forgotten meanwhile."""
    first = await tx.fetchrow(FIRST_ANSWER_SQL, key.id, idempotency.key, key.tenant.id)
    if first is None:
        return None
    if first["body"] != idempotency.body or first["part_count"] is None:
        return Refusal(Code.REQUEST_IDEMPOTENCY_CONFLICT)
    send_at = first["due_at"] if first["due_at"] > first["accepted_at"] else None
    return Accepted(
        MessageId(first["first_id"]), first["part_count"], first["price_micro"], send_at, first["held"]
    )
