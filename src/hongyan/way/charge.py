"""What it costs: prepaid balances in shards, and the ledger that always sums to them.

Writes: balance, ledger. A tenant's balance is the sum of its shards; each writer charges its own shard,
so writers never wait for each other, and moves money over from the others when its own runs short.
Accept and the tick charge and refund inside their own statements; what is here moves and adds.
"""

from collections.abc import Sequence
from typing import LiteralString

from hongyan import db
from hongyan.vocab.message import TenantId

# A shard that another writer opens meanwhile is not seen by GATHER_SQL, so ours has to be there before.
OPEN_SQL: LiteralString = (
    "INSERT INTO balance (tenant_id, shard, amount_micro) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING"
)

# One row lock a shard in key order, so that two writers short at the same time cannot block each other.
GATHER_SQL: LiteralString = """
SELECT shard, amount_micro FROM balance WHERE tenant_id = $1 ORDER BY shard FOR UPDATE
"""
SPREAD_SQL: LiteralString = """
INSERT INTO balance (tenant_id, shard, amount_micro)
SELECT $1, u.shard, u.amount FROM unnest($2::int[], $3::bigint[]) AS u(shard, amount) ORDER BY u.shard
ON CONFLICT (tenant_id, shard) DO UPDATE SET amount_micro = EXCLUDED.amount_micro
"""


async def gather(tx: db.Tx, tenant_id: TenantId, shard: int, needed_micro: int) -> int:
    """Move money between a tenant's shards until `shard` covers `needed_micro`, as far as there is any.

    Leaves every other writer its share of what is not needed. Returns what the shard then holds.
    """
    await tx.execute(OPEN_SQL, tenant_id, shard)
    held = {row["shard"]: row["amount_micro"] for row in await tx.fetch(GATHER_SQL, tenant_id)}
    total = sum(held.values())
    share = max(0, total - needed_micro) // len(held)
    after = dict.fromkeys(held, share)
    after[shard] = total - share * (len(held) - 1)
    await tx.execute(SPREAD_SQL, tenant_id, list(after), list(after.values()))
    left: int = after[shard]
    return left


TOP_UP_SQL: LiteralString = """
WITH entry AS (
    INSERT INTO ledger (tenant_id, kind, amount_micro, note, reference) VALUES ($1, $3, $2, $4, nullif($5, ''))
    ON CONFLICT (tenant_id, reference) WHERE reference IS NOT NULL DO NOTHING RETURNING id
)
UPDATE balance SET amount_micro = amount_micro + $2 WHERE tenant_id = $1 AND shard = 0 AND EXISTS (SELECT FROM entry)
RETURNING shard
"""


async def top_up(
    tx: db.Tx,
    tenant_id: TenantId,
    amount_micro: int,
    *,
    note: str = "",
    kind: str = "top_up",
    reference: str = "",
) -> bool:
    """Add to a tenant's balance, in millionths of its currency; False where this reference was booked before.

    A negative correction takes it from all shards; raises db.CheckViolation where the balance would go below zero.
    """
    await tx.execute(OPEN_SQL, tenant_id, 0)
    if amount_micro < 0:
        await gather(tx, tenant_id, 0, -amount_micro)
    booked = await tx.fetchval(TOP_UP_SQL, tenant_id, amount_micro, kind, note, reference)
    return booked is not None


BALANCE_SQL: LiteralString = """
SELECT coalesce(sum(amount_micro), 0)::bigint AS amount_micro FROM balance WHERE tenant_id = $1
"""


async def balance_micro(tx: db.Tx, tenant_id: TenantId) -> int:
    """Return what a tenant has left."""
    left: int = await tx.fetchval(BALANCE_SQL, tenant_id)
    return left


DRIFT_SQL: LiteralString = """
SELECT coalesce(l.tenant_id, b.tenant_id) AS tenant_id, coalesce(b.held, 0)::bigint AS held, coalesce(l.booked, 0)::bigint AS booked
  FROM (SELECT tenant_id, sum(amount_micro) AS booked FROM ledger GROUP BY tenant_id) l
  FULL JOIN (SELECT tenant_id, sum(amount_micro) AS held FROM balance GROUP BY tenant_id) b USING (tenant_id)
 WHERE coalesce(b.held, 0) <> coalesce(l.booked, 0)
"""


async def drift(tx: db.Tx) -> Sequence[tuple[int, int, int]]:
    """Return (tenant, held, booked) wherever the ledger does not sum to the balance; it never should."""
    return [(row["tenant_id"], row["held"], row["booked"]) for row in await tx.fetch(DRIFT_SQL)]
