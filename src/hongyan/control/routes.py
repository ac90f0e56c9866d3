"""Route rules: which channels may carry which messages, and in what order.

Writes: route_rule. Entry points: add(), change(), reorder(), remove(), one(), every(). What a rule leaves open fits
everything; lower priorities are tried first, equal ones share the load by weight. A rule may rest: it is listed then, and
no message goes by it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_found
from hongyan.vocab import phone
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import PURPOSES, ChannelId, Purpose, TenantId
from hongyan.way.portability import MOVED

RULES_MAX: Final = 1_000  # lists are whole
PRIORITY_MAX: Final = 1_000_000
WEIGHT_MAX: Final = 10_000
PRIORITY_STEP: Final = 10  # between groups that reorder() makes: room for one by hand
COUNTRY: Final = re.compile(r"[A-Z]{2}")
SLUG: Final = re.compile(
    r"[a-z0-9][a-z0-9_-]{0,39}"
)  # of operators abroad, which only corrections of prefixes name


class RouteRuleRow(msgspec.Struct, frozen=True):
    """A rule as an operator sees it in a list; null is everything."""

    id: int
    priority: int
    channel: str
    weight: int
    tenant: str | None
    country: str | None
    operator: str | None
    purpose: Purpose | None
    active: bool = True
    channel_id: ChannelId = ChannelId(0)
    tenant_id: TenantId | None = None


ADD_SQL: LiteralString = """
INSERT INTO route_rule (channel_id, priority, weight, tenant_id, country, operator, purpose, active)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id
"""
COUNT_SQL: LiteralString = """
SELECT count(*) FROM route_rule r JOIN channel c ON c.id = r.channel_id WHERE NOT r.removed AND c.active
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
    active: bool = True,
) -> int:
    """Let messages go by a channel; None leaves a condition open.

    Raises Refusal for a value out of bounds, an operator nobody knows, a channel or tenant there is not.
    """
    values = {
        "channel_id": channel_id, "priority": priority, "weight": weight, "tenant_id": tenant_id, "country": country,
        "operator": operator, "purpose": purpose, "active": active,
    }  # fmt: skip
    await _demand_sound(tx, values)
    count = await tx.fetchval(COUNT_SQL)
    demand(count < RULES_MAX, "channel_id", f"there are {RULES_MAX} rules already")
    return int(await tx.fetchval(ADD_SQL, *_written(values)))


CHANNEL_SQL: LiteralString = "SELECT id FROM channel WHERE id = $1 AND active FOR SHARE"
TENANT_SQL: LiteralString = "SELECT id FROM tenant WHERE id = $1"


async def _demand_sound(tx: db.Tx, values: Mapping[str, Any]) -> None:
    """Ask of a whole rule that it can be meant."""
    country, operator, tenant_id = values["country"], values["operator"], values["tenant_id"]
    demand(0 <= values["priority"] <= PRIORITY_MAX, "priority", f"between 0 and {PRIORITY_MAX}")
    demand(0 <= values["weight"] <= WEIGHT_MAX, "weight", f"between 0 and {WEIGHT_MAX}, 0 or more")
    demand(country is None or bool(COUNTRY.fullmatch(country)), "country", "two letters of ISO 3166, as CN")
    _demand_operator(country, operator)
    found = await tx.fetchval(CHANNEL_SQL, values["channel_id"])
    demand(found is not None, "channel_id", "there is no such channel")
    if tenant_id is not None:
        demand(await tx.fetchval(TENANT_SQL, tenant_id) is not None, "tenant_id", "there is no such tenant")


def _demand_operator(country: str | None, operator: str | None) -> None:
    """Operators of the mainland are four words, and the one for numbers that left theirs; those abroad have no list."""
    if operator is None or (country not in (None, "CN") and SLUG.fullmatch(operator)):
        return
    known = [*phone.OPERATOR_NAMES, MOVED]
    demand(operator in known, "operator", f"one of {', '.join(known)}; abroad, say the country too")


def _written(values: Mapping[str, Any]) -> Sequence[Any]:
    """Return a rule's values in the order of the statements."""
    purpose = None if values["purpose"] is None else Purpose(values["purpose"]).number
    return [
        values["channel_id"], values["priority"], values["weight"], values["tenant_id"], values["country"],
        values["operator"], purpose, values["active"],
    ]  # fmt: skip


# ---- changes


LOCK_SQL: LiteralString = """
SELECT channel_id, priority, weight, tenant_id, country, operator, purpose, active
  FROM route_rule WHERE id = $1 AND NOT removed FOR UPDATE
"""
CHANGE_SQL: LiteralString = """
UPDATE route_rule SET channel_id = $2, priority = $3, weight = $4, tenant_id = $5, country = $6, operator = $7, purpose = $8,
       active = $9
 WHERE id = $1
"""


async def change(tx: db.Tx, rule_id: int, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change what is named, of what add() takes; None opens a condition. Returns what is different now. Raises as add()."""
    row = demand_found(await tx.fetchrow(LOCK_SQL, rule_id), rule=rule_id)
    stored = dict(row) | {"purpose": None if row["purpose"] is None else PURPOSES[row["purpose"]]}
    values = stored | dict(changes)
    await _demand_sound(tx, values)
    await tx.execute(CHANGE_SQL, rule_id, *_written(values))
    return {name: value for name, value in values.items() if value != stored[name]}


IDS_SQL: LiteralString = """
SELECT r.id FROM route_rule r JOIN channel c ON c.id = r.channel_id
 WHERE NOT r.removed AND c.active ORDER BY r.id FOR UPDATE OF r
"""
REORDER_SQL: LiteralString = """
UPDATE route_rule r SET priority = g.priority FROM unnest($1::int[], $2::int[]) AS g(id, priority) WHERE r.id = g.id
"""


async def reorder(tx: db.Tx, groups: Sequence[Sequence[int]]) -> None:
    """Set all priorities anew: rules of one group share the load, earlier groups are tried first.

    Raises Refusal unless each rule is named once: whoever orders a list must have seen all of it.
    """
    named = [rule_id for group in groups for rule_id in group]
    known = {row["id"] for row in await tx.fetch(IDS_SQL)}
    if sorted(named) != sorted(known):
        raise Refusal(
            Code.REQUEST_CONFLICT,
            parameter="groups",
            reason="must name every rule once",
            missing=sorted(known - set(named))[:20],
            unknown=sorted(set(named) - known)[:20],
        )
    places = [(place + 1) * PRIORITY_STEP for place, group in enumerate(groups) for _ in group]
    await tx.execute(REORDER_SQL, named, places)


# The row stays, because traces of decisions name it.
REMOVE_SQL: LiteralString = """
UPDATE route_rule SET active = false, removed = true WHERE id = $1 AND NOT removed RETURNING id
"""


async def remove(tx: db.Tx, rule_id: int) -> None:
    """Take a rule out of use for good. Raises Refusal where there is no such rule."""
    demand_found(await tx.fetchval(REMOVE_SQL, rule_id), rule=rule_id)


# ---- looking


EVERY_SQL: LiteralString = """
SELECT r.id, r.priority, c.name AS channel, r.weight, t.name AS tenant, r.country, r.operator, r.purpose, r.active,
       r.channel_id, r.tenant_id
  FROM route_rule r JOIN channel c ON c.id = r.channel_id LEFT JOIN tenant t ON t.id = r.tenant_id
 WHERE NOT r.removed AND c.active AND ($1::int IS NULL OR r.id = $1) ORDER BY r.priority, r.id
"""


async def every(tx: db.Tx) -> Sequence[RouteRuleRow]:
    """List the rules in the order they are asked; those that rest as well."""
    return [_row(row) for row in await tx.fetch(EVERY_SQL, None)]


async def one(tx: db.Tx, rule_id: int) -> RouteRuleRow:
    """Return one rule. Raises Refusal."""
    return _row(demand_found(await tx.fetchrow(EVERY_SQL, rule_id), rule=rule_id))


def _row(row: db.Row) -> RouteRuleRow:
    purpose = None if row["purpose"] is None else PURPOSES[row["purpose"]]
    return RouteRuleRow(**{**dict(row), "purpose": purpose})
