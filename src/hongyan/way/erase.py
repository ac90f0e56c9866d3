"""Forget a person: take the number and every text out of what a tenant has of them, and leave what counts.

Writes: message, inbound (what they have sealed), submit_part (through assemble), consent (through consent),
complaint (through complaint). Entry point: erase(). What stays of a message is that it was sent, when, what became
of it and what it cost, under the keyed index; opt-outs and blocks stay as they are, or the person would hear of the
tenant again. A message that has not left will not: whoever has it in hand is told after the commit (optout.tell()),
loads it anew, finds it empty and ends it as refused, refunded, with the code 'erased'. Parts of a long
text from the person that still wait for the others belong to no tenant yet, and stay for the minutes they wait.
"""

from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.vocab.message import TenantId
from hongyan.way import assemble, complaint, consent

ROWS_MAX: Final = 5_000  # messages in one statement
ROUNDS_MAX: Final = 20  # in one transaction; with more left, the caller erases again


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """How much was emptied. `complete` is false where a number has so many messages that some are left: erase again."""

    messages: int
    waiting: int  # of the messages, those that had not left: they end as refused
    inbound: int
    consents: int
    complaints: int
    complete: bool


MESSAGES_SQL: LiteralString = """
WITH found AS (
    SELECT tenant_id, id FROM message
     WHERE phone_index = $2 AND tenant_id = $1 AND sealed IS NOT NULL ORDER BY id LIMIT $3 FOR UPDATE
), emptied AS (
    UPDATE message m SET sealed = NULL FROM found f WHERE m.tenant_id = f.tenant_id AND m.id = f.id
    RETURNING m.tenant_id, m.id
)
SELECT count(*) AS messages, count(o.id) AS waiting
  FROM emptied e LEFT JOIN outbox o ON o.tenant_id = e.tenant_id AND o.id = e.id
"""
INBOUND_SQL: LiteralString = """
UPDATE inbound SET sealed = NULL WHERE tenant_id = $1 AND phone_index = $2 AND sealed IS NOT NULL RETURNING 1
"""


async def erase(tx: db.Tx, tenant_id: TenantId, phone_index: bytes) -> Erased:
    """Empty all that a tenant has of one person. Tell the gateways after the commit."""
    messages, waiting, rows = 0, 0, ROWS_MAX
    for _ in range(ROUNDS_MAX):
        found = await tx.fetchrow(MESSAGES_SQL, tenant_id, phone_index, ROWS_MAX)
        rows, waiting = found["messages"], waiting + found["waiting"]
        messages += rows
        if rows < ROWS_MAX:
            break
    inbound = len(await tx.fetch(INBOUND_SQL, tenant_id, phone_index))
    await assemble.forget_person(tx, tenant_id, phone_index)
    return Erased(
        messages=messages,
        waiting=waiting,
        inbound=inbound,
        consents=await consent.erase(tx, tenant_id, phone_index),
        complaints=await complaint.erase(tx, tenant_id, phone_index),
        complete=rows < ROWS_MAX,
    )
