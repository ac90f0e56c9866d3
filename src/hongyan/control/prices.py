"""Prices per part, by tenant, country, operator and purpose.

Writes: price. Entry points: put(), remove(), every(). The most exact row counts
(way.snapshot.Snapshot.part_price_micro); a country without a price cannot be written to.
"""

import re
from collections.abc import Sequence
from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_found
from hongyan.vocab.message import PURPOSES, Purpose, TenantId
from hongyan.vocab.phone import OPERATOR_NAMES

ANY: Final = "*"
MAINLAND: Final = "CN"
COUNTRY: Final = re.compile(r"[A-Z]{2}")
EVERY_TENANT: Final = TenantId(0)
EVERY_PURPOSE: Final = -1
PART_MICRO_MAX: Final = 1_000_000_000
OPERATOR_CHARACTERS_MAX: Final = 64


class PriceRow(msgspec.Struct, frozen=True):
    """A price as people see it in a list; null is every tenant or purpose, '*' every place."""

    tenant_id: TenantId | None
    tenant: str | None
    country: str
    operator: str
    purpose: Purpose | None
    part_micro: int
    currency: str | None  # the tenant's; null where tenants of every currency pay it


PUT_SQL: LiteralString = """
INSERT INTO price (tenant_id, country, operator, purpose, part_micro) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, country, operator, purpose) DO UPDATE SET part_micro = EXCLUDED.part_micro
"""


async def put(
    tx: db.Tx,
    part_micro: int,
    *,
    tenant_id: TenantId = EVERY_TENANT,
    country: str = ANY,
    operator: str = ANY,
    purpose: Purpose | None = None,
) -> PriceRow:
    """Set the price of one part, in millionths of the tenant's currency; what was accepted keeps its price.

    Raises Refusal for a price out of bounds, a tenant that is not there, a country that is none, an operator of the
    mainland there is not, and an operator without its country, which would never be found.
    """
    demand(0 <= part_micro <= PART_MICRO_MAX, "part_micro", f"0 to {PART_MICRO_MAX}")
    demand(
        country == ANY or bool(COUNTRY.fullmatch(country)), "country", "two letters of ISO 3166, as CN, or *"
    )
    demand(0 < len(operator) <= OPERATOR_CHARACTERS_MAX, "operator", f"at most {OPERATOR_CHARACTERS_MAX}")
    demand(operator == ANY or country != ANY, "operator", "say its country too")
    known = country != MAINLAND or operator in {ANY, *OPERATOR_NAMES}
    demand(known, "operator", f"one of {', '.join(OPERATOR_NAMES)}, or *")
    tenant, currency = None, None
    if tenant_id != EVERY_TENANT:
        tenant, currency = demand_found(await tx.fetchrow(TENANT_SQL, tenant_id), tenant_id=tenant_id)
    await tx.execute(PUT_SQL, tenant_id, country, operator, _number(purpose), part_micro)
    return PriceRow(tenant_id or None, tenant, country, operator, purpose, part_micro, currency)


TENANT_SQL: LiteralString = "SELECT name, currency FROM tenant WHERE id = $1"
REMOVE_SQL: LiteralString = """
WITH gone AS (
    DELETE FROM price WHERE tenant_id = $1 AND country = $2 AND operator = $3 AND purpose = $4
    RETURNING tenant_id, country, operator, purpose, part_micro
)
SELECT g.tenant_id, t.name AS tenant, g.country, g.operator, g.purpose, g.part_micro, t.currency
  FROM gone g LEFT JOIN tenant t ON t.id = g.tenant_id
"""


async def remove(
    tx: db.Tx,
    *,
    tenant_id: TenantId = EVERY_TENANT,
    country: str = ANY,
    operator: str = ANY,
    purpose: Purpose | None = None,
) -> PriceRow:
    """Remove a price and return it. Raises Refusal where there is none."""
    row = await tx.fetchrow(REMOVE_SQL, tenant_id, country, operator, _number(purpose))
    return _row(demand_found(row, country=country, operator=operator))


EVERY_SQL: LiteralString = """
SELECT p.tenant_id, t.name AS tenant, p.country, p.operator, p.purpose, p.part_micro, t.currency
  FROM price p LEFT JOIN tenant t ON t.id = p.tenant_id
 WHERE $1::int IS NULL OR p.tenant_id IN (0, $1)
 ORDER BY p.tenant_id, p.country, p.operator, p.purpose
"""


async def every(tx: db.Tx, tenant_id: TenantId | None = None) -> Sequence[PriceRow]:
    """List the prices, or those that count for one tenant; those for every tenant come first."""
    return [_row(row) for row in await tx.fetch(EVERY_SQL, tenant_id)]


def _number(purpose: Purpose | None) -> int:
    return EVERY_PURPOSE if purpose is None else purpose.number


def _row(row: db.Row) -> PriceRow:
    purpose = None if row["purpose"] == EVERY_PURPOSE else PURPOSES[row["purpose"]]
    return PriceRow(**{**dict(row), "purpose": purpose, "tenant_id": row["tenant_id"] or None})
