"""Prices per part, by tenant, country, operator and purpose.

Writes: price. Entry points: put(), every(). The most exact row counts
(way.snapshot.Snapshot.part_price_micro); a country without a price cannot be written to.
"""

from collections.abc import Sequence
from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.control.bounds import demand
from hongyan.vocab.message import PURPOSES, Purpose, TenantId

ANY: Final = "*"
EVERY_TENANT: Final = TenantId(0)
EVERY_PURPOSE: Final = -1


class PriceRow(msgspec.Struct, frozen=True):
    """A price as an operator sees it in a list; null is every tenant or purpose, '*' every place."""

    tenant: str | None
    country: str
    operator: str
    purpose: Purpose | None
    part_micro: int


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
) -> None:
    """Set the price of one part, in millionths of the tenant's currency; what was accepted keeps its price.

    Raises Refusal for a negative price, and for an operator without its country, which would never be found.
    """
    demand(part_micro >= 0, "part_micro", "0 or more")
    demand(operator == ANY or country != ANY, "operator", "say its country too")
    number = EVERY_PURPOSE if purpose is None else purpose.number
    await tx.execute(PUT_SQL, tenant_id, country, operator, number, part_micro)


EVERY_SQL: LiteralString = """
SELECT t.name AS tenant, p.country, p.operator, p.purpose, p.part_micro
  FROM price p LEFT JOIN tenant t ON t.id = p.tenant_id ORDER BY p.tenant_id, p.country, p.operator, p.purpose
"""


async def every(tx: db.Tx) -> Sequence[PriceRow]:
    """List the prices; those for every tenant come first."""
    return [_row(row) for row in await tx.fetch(EVERY_SQL)]


def _row(row: db.Row) -> PriceRow:
    purpose = None if row["purpose"] == EVERY_PURPOSE else PURPOSES[row["purpose"]]
    return PriceRow(**{**dict(row), "purpose": purpose})
