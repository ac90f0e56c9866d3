"""Take a message back before it leaves.

Writes: nothing itself; what is taken back ends through drop.settle(). Entry point: take_back(). A message that nobody
has in hand, or that is held, is dropped here, under the lock of its queue row; a gateway that has it is asked by
NOTIFY, and only what it has dropped and stored counts.
"""

import asyncio
from typing import Final, LiteralString
from uuid import UUID

from hongyan import db
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Status, TenantId
from hongyan.way import drop
from hongyan.way.drop import Dropped

TOPIC = "cancel"  # what gateways listen to: an id in hex
LOOK_GAP_S = 0.05  # between looks whether the gateway has dropped it
LOOKS_MAX = 20  # then it has left, or nobody knows that it has not


async def take_back(database: db.Database, tenant_id: TenantId, message_id: UUID) -> None:
    """Take a message back that has not left; raises Refusal if it has, may have, is about to, or is not there.

    A gateway that has it in hand is asked for it, and has LOOK_GAP_S * LOOKS_MAX to drop it.
    """
    if await _cancelled(database, tenant_id, message_id, asked=False):
        return
    await database.notify(TOPIC, message_id.hex)
    for _ in range(LOOKS_MAX):
        await asyncio.sleep(LOOK_GAP_S)
        if await _cancelled(database, tenant_id, message_id, asked=True):
            return
    raise Refusal(Code.REQUEST_TOO_LATE)


async def _cancelled(database: db.Database, tenant_id: TenantId, message_id: UUID, *, asked: bool) -> bool:
    """Take back what no gateway has in hand, and see whether one that was asked has dropped it; raises Refusal."""
    async with database.transaction() as tx:
        row = await tx.fetchrow(CANCEL_SQL, tenant_id, message_id)
        if row is None:
            raise Refusal(Code.REQUEST_NOT_FOUND)
        if asked and row["status"] == Status.CANCELLED.number:
            return True
        if row["status"] not in _OPEN or row["left"]:
            raise Refusal(Code.REQUEST_TOO_LATE)
        # In nobody's hands, or held; None: it was dropped while we looked, and the next look sees how.
        if row["owner"] is None or row["owner"] > 0:
            return False
        dropped = Dropped(
            tenant_id, message_id.bytes, row["part_count"], Status.CANCELLED, Cause.CANCELLED, ""
        )
        await drop.settle(tx, [dropped], 0, [])
        return True


_OPEN: Final = (Status.ACCEPTED.number, Status.HELD.number)

# What a dead gateway has left may have left already: a part, or all of a promotion; so has every first attempt.
CANCEL_SQL: LiteralString = """
SELECT m.status, m.part_count, o.owner,
       m.attempt > 1 OR o.leaving_at IS NOT NULL OR m.pending < m.part_count
       OR EXISTS (SELECT FROM submitted s WHERE s.message_id = m.id) AS left
  FROM message m
  LEFT JOIN (SELECT tenant_id, id, owner, leaving_at FROM outbox WHERE tenant_id = $1 AND id = $2 FOR UPDATE) o
    ON o.tenant_id = m.tenant_id AND o.id = m.id
 WHERE m.tenant_id = $1 AND m.id = $2
"""
