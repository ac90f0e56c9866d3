"""How long things are kept, as the platform's operator decides it and tenants shorten it for their own texts.

Writes: retention. Entry points: listed(), put(). What each class is and what holds where nobody decided: way/retention.py.
"""

from collections.abc import Mapping, Sequence
from typing import LiteralString

import msgspec

from hongyan import db
from hongyan.control.bounds import demand
from hongyan.settings import Settings
from hongyan.vocab.message import TenantId
from hongyan.way.retention import PLATFORM, RULES, TEXTS, Kept, keep_days


class RetentionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One class: how many days it is kept, and between which bounds that may be said."""

    kept: Kept = msgspec.field(name="class")
    days: int
    days_min: int
    days_max: int
    days_default: int
    said: bool  # somebody decided; otherwise the default holds


SAID_SQL: LiteralString = "SELECT class FROM retention WHERE tenant_id = $1"


async def listed(tx: db.Tx, settings: Settings, tenant_id: TenantId = PLATFORM) -> Sequence[RetentionRow]:
    """Return what holds for the platform, or for the texts of one tenant."""
    days = await keep_days(tx, settings)
    said = {row["class"] for row in await tx.fetch(SAID_SQL, tenant_id)}
    rows = []
    for kept in Kept if tenant_id == PLATFORM else TEXTS:
        rule = RULES[kept]
        rows.append(
            RetentionRow(
                kept=kept,
                days=days.of(kept, tenant_id),
                days_min=rule.floor,
                days_max=rule.ceiling if tenant_id == PLATFORM else days.of(kept),
                days_default=rule.days or settings.message_keep_days,
                said=kept in said,
            )
        )
    return rows


PUT_SQL: LiteralString = """
INSERT INTO retention (tenant_id, class, days)
SELECT $1, class, days FROM unnest($2::text[], $3::int[]) AS u(class, days)
ON CONFLICT (tenant_id, class) DO UPDATE SET days = EXCLUDED.days, changed_at = now()
"""
FORGET_SQL: LiteralString = "DELETE FROM retention WHERE tenant_id = $1 AND class = ANY($2::text[])"


async def put(
    tx: db.Tx, settings: Settings, said: Mapping[Kept, int | None], tenant_id: TenantId = PLATFORM
) -> Sequence[RetentionRow]:
    """Decide how long classes are kept; None goes back to what holds without a word. Raises Refusal out of bounds.

    What is shortened is gone with the next rounds of the clerk, and no longer time brings it back.
    """
    bounds = {row.kept: row for row in await listed(tx, settings, tenant_id)}
    for kept, days in said.items():
        demand(kept in bounds, kept.value, "only texts may be kept for less time by a tenant")
        row = bounds[kept]
        within = days is None or row.days_min <= days <= row.days_max
        demand(within, kept.value, f"{row.days_min} to {row.days_max} days")
    decided = {kept: days for kept, days in said.items() if days is not None}
    await tx.execute(PUT_SQL, tenant_id, [kept.value for kept in decided], list(decided.values()))
    await tx.execute(FORGET_SQL, tenant_id, [kept.value for kept in said.keys() - decided.keys()])
    return await listed(tx, settings, tenant_id)
