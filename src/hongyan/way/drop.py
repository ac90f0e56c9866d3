"""Settle parts that will never leave: declined, refused or expired before they did, or taken back.

Writes: outbox, message, notice, balance, ledger, tally, tally_touched. Entry point: settle(), one statement for many.
Surprise: the outbox row goes with the settling, so a statement whose commit was lost may run twice without effect.
"""

from collections.abc import Sequence
from typing import Any, LiteralString

import msgspec

from hongyan import db
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.way.days import Days, one_day


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """Parts of a message that will never leave: declined, refused at the claim or by a person, expired or cancelled."""

    tenant_id: int
    message_id: bytes
    parts: int
    status: Status
    cause: Cause
    code: str
    channel_id: int = 0
    slots: tuple[Any, ...] = ()
    left: bool = (
        False  # an earlier attempt did leave: its cause stays, and who pays on submit is refunded nothing
    )


# The outbox row goes with the drop, so running it twice does nothing the second time. Parts are refunded in full
# where the tenant pays on submit; where it pays on delivery the whole message is, once it is final.
DROP_SQL: LiteralString = """
WITH dropped AS (
    DELETE FROM outbox o
     USING unnest($1::int[], $2::uuid[], $3::smallint[], $4::smallint[], $5::smallint[], $6::text[], $7::int[], $10::boolean[])
        AS d(tenant_id, id, parts, status, cause, code, channel_id, has_left)
     WHERE o.tenant_id = ANY($1::int[]) AND o.id = ANY($2::uuid[]) -- so that the queue is never read whole, see tick.py
       AND o.tenant_id = d.tenant_id AND o.id = d.id
    RETURNING d.tenant_id, d.id, d.parts, d.status, d.cause, d.code, d.channel_id, d.has_left
), held AS MATERIALIZED (
    SELECT m.tenant_id, m.id, m.pending, m.worst, m.lost, m.part_count, m.price_micro, m.refund_micro
      FROM dropped d JOIN message m ON m.tenant_id = d.tenant_id AND m.id = d.id
     ORDER BY m.tenant_id, m.id FOR UPDATE OF m
), moved AS (
    UPDATE message m
       SET pending = m.pending - n.parts, worst = greatest(m.worst, n.status),
           cause = CASE WHEN n.has_left THEN m.cause ELSE n.cause END,
           code = CASE WHEN n.has_left THEN m.code ELSE n.code END,
           status = n.final, refund_micro = m.refund_micro + n.refund_micro, done_at = now(),
           channel_id = CASE WHEN n.channel_id > 0 THEN n.channel_id ELSE m.channel_id END
      FROM (
        SELECT d.*, f.final,
               CASE WHEN d.has_left AND t.charge_on = 'submit' THEN 0
                    WHEN d.parts >= old.part_count OR (f.final > 1 AND t.charge_on = 'delivery')
                    THEN old.price_micro - old.refund_micro
                    ELSE least(old.price_micro / old.part_count * d.parts, old.price_micro - old.refund_micro) END AS refund_micro
          FROM dropped d
          JOIN held old ON old.tenant_id = d.tenant_id AND old.id = d.id
          JOIN tenant t ON t.id = d.tenant_id
         CROSS JOIN LATERAL (SELECT (CASE
               WHEN old.pending - d.parts > 0 THEN 0
               WHEN greatest(old.worst, d.status) >= 3 THEN greatest(old.worst, d.status)
               WHEN old.lost > 0 OR old.worst = 2 THEN 2 ELSE 1 END)::smallint AS final) f
      ) n
     WHERE m.tenant_id = n.tenant_id AND m.id = n.id AND m.status IN (0, 7)
    RETURNING m.tenant_id, m.id, m.app_id, m.status, m.cause, m.code, m.purpose, m.template_id, m.channel_id, m.country,
              m.operator, m.province, m.part_count, m.price_micro, m.refund_micro, m.cost_micro, m.accepted_at, m.reference,
              m.sealed, n.refund_micro AS refunded
), owed AS (
    INSERT INTO notice (tenant_id, app_id, kind, message_id, status, cause, code, at, lease_until)
    SELECT tenant_id, app_id, 1, id, status, cause, code, now(),
           CASE WHEN app_id = ANY($9::int[]) THEN now() + interval '30 seconds' END
      FROM moved WHERE status > 0
    RETURNING id, tenant_id, app_id, kind, message_id, status, cause, code, at
), refunded AS (
    SELECT tenant_id, sum(refunded)::bigint AS micro, count(*)::int AS messages FROM moved WHERE refunded > 0 GROUP BY tenant_id
), returned AS (
    INSERT INTO balance AS b (tenant_id, shard, amount_micro) SELECT tenant_id, $8, micro FROM refunded ORDER BY tenant_id
    ON CONFLICT (tenant_id, shard) DO UPDATE SET amount_micro = b.amount_micro + EXCLUDED.amount_micro
), booked AS (
    INSERT INTO ledger (tenant_id, kind, amount_micro, message_count) SELECT tenant_id, 'refund', micro, messages FROM refunded
), tallied AS (
    INSERT INTO tally AS t (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province,
                       latency, shard, messages, parts, price_micro, cost_micro)
    SELECT date_trunc('hour', accepted_at), tenant_id, status, cause, purpose, template_id, channel_id, country, operator,
           province, 0, $8, count(*), sum(part_count), sum(price_micro - refund_micro), sum(cost_micro)
      FROM moved WHERE status > 0 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    ON CONFLICT (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency, shard)
    DO UPDATE SET messages = t.messages + EXCLUDED.messages, parts = t.parts + EXCLUDED.parts,
                  price_micro = t.price_micro + EXCLUDED.price_micro, cost_micro = t.cost_micro + EXCLUDED.cost_micro
), touched AS (
    INSERT INTO tally_touched (hour, shard)
    SELECT DISTINCT date_trunc('hour', accepted_at), $8::int FROM moved
     WHERE status > 0 AND accepted_at < date_trunc('hour', now()) ORDER BY 1
    ON CONFLICT (hour, shard) DO UPDATE SET at = clock_timestamp()
)
SELECT o.id, o.tenant_id, o.app_id, o.kind, o.message_id, o.status, o.cause, o.code, o.at, m.reference, m.part_count,
       m.price_micro - m.refund_micro AS price_micro, m.sealed
  FROM moved m JOIN owed o ON o.message_id = m.id
"""


async def settle(
    tx: db.Tx, drops: Sequence[Dropped], shard: int, hooked: Sequence[int], days: Days | None = None
) -> Sequence[db.Row]:
    """Settle parts that never left: final status, refund, tally and notice. Returns the notices owed.

    `days`: of who does it often, and in no transaction.
    """
    values = (
        [d.tenant_id for d in drops],
        [db.Uuid(d.message_id) for d in drops],
        [d.parts for d in drops],
        [d.status.number for d in drops],
        [d.cause.number for d in drops],
        [d.code for d in drops],
        [d.channel_id for d in drops],
        shard,
        list(hooked),
        [d.left for d in drops],
    )
    if days is not None:
        return await days.fetch(tx, DROP_SQL, one_day([d.message_id for d in drops]), *values)
    rows: Sequence[db.Row] = await tx.fetch(DROP_SQL, *values)
    return rows
