"""Route rules: which channels may carry which messages, and in what order.

Writes: route_rule. Entry points: add(), remove(), every(). What a rule leaves open fits everything; lower
priorities are tried first, equal ones share the load by weight.
"""

from collections.abc import Sequence
from typing import LiteralString

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_found
from hongyan.vocab.message import PURPOSES, ChannelId, Purpose, TenantId


class RuleRow(msgspec.Struct, frozen=True):
    """A rule as an operator sees it in a list; null is everything."""

    id: int
    priority: int
    channel: str
    weight: int
    tenant: str | None
    country: str | None
    operator: str | None
    purpose: Purpose | None


ADD_SQL: LiteralString = """
INSERT INTO route_rule (channel_id, priority, weight, tenant_id, country, operator, purpose)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
"""


async def add(
    tx: db.Tx,
    channel_id: ChannelId,
    *,
    priority: int = 100,
    weight: int = 1,
    tenant_id: TenantId | None = None,
    country: str | None = None,
    operator: str | None = None,
    purpose: Purpose | None = None,
) -> int:
    """Let messages go by a channel; None leaves a condition open. Raises Refusal for a weight below 0."""
    demand(weight >= 0, "weight", "0 or more")
    number = None if purpose is None else purpose.number
    return int(await tx.fetchval(ADD_SQL, channel_id, priority, weight, tenant_id, country, operator, number))


# The row stays, because traces of decisions name it.
REMOVE_SQL: LiteralString = "UPDATE route_rule SET active = false WHERE id = $1 AND active RETURNING id"


async def remove(tx: db.Tx, rule_id: int) -> None:
    """Take a rule out of use. Raises Refusal where there is no such rule."""
    demand_found(await tx.fetchval(REMOVE_SQL, rule_id), rule=rule_id)


EVERY_SQL: LiteralString = """
SELECT r.id, r.priority, c.name AS channel, r.weight, t.name AS tenant, r.country, r.operator, r.purpose
  FROM route_rule r JOIN channel c ON c.id = r.channel_id LEFT JOIN tenant t ON t.id = r.tenant_id
 WHERE r.active AND c.active ORDER BY r.priority, r.id
"""


async def every(tx: db.Tx) -> Sequence[RuleRow]:
    """List the rules in the order they are asked."""
    return [_row(row) for row in await tx.fetch(EVERY_SQL)]


def _row(row: db.Row) -> RuleRow:
    purpose = None if row["purpose"] is None else PURPOSES[row["purpose"]]
    return RuleRow(**{**dict(row), "purpose": purpose})
