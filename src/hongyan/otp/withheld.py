"""The block log: codes that were challenged or refused, why, and what they would have cost; counted by the hour.

Writes: withheld. Entry points: Cells, which a batch fills, and store(); statement(), which people read: what was saved, and
how many honest people it cost a challenge; forget(). Bounded: an attack of a million asks is some
cells an hour, not a million rows.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, LiteralString, NamedTuple

import msgspec

from hongyan import clock, db
from hongyan.vocab.message import TenantId

KEEP_DAYS: Final = 92
LINES_MAX: Final = 500


class Action(StrEnum):
    """What was done with an ask, or came of one."""

    CHALLENGED = "challenged"  # it was not sent: come back with a challenge solved
    REFUSED = "refused"
    PASSED = "passed"  # it came back with the challenge solved, and was sent
    MONITORED = "monitored"  # sent: the tenant only wants to see what would be challenged or refused
    HONEST = "honest"  # who passed a challenge and then verified: somebody whom we held up


class Cell(NamedTuple):
    """What is counted together."""

    tenant_id: int
    app_id: int
    country: str
    prefix: str
    reason: str
    action: Action


class Cells:
    """What one batch withholds."""

    def __init__(self) -> None:
        self.asks: defaultdict[Cell, int] = defaultdict(int)
        self.cost_micro: defaultdict[Cell, int] = defaultdict(int)

    def add(self, cell: Cell, cost_micro: int) -> None:
        self.asks[cell] += 1
        self.cost_micro[cell] += cost_micro

    def rows(
        self,
    ) -> tuple[list[int], list[int], list[str], list[str], list[str], list[str], list[int], list[int]]:
        """Return columns for WITHHELD_SQL, in the order of the key."""
        cells = sorted(self.asks)
        return (
            [cell.tenant_id for cell in cells],
            [cell.app_id for cell in cells],
            [cell.country for cell in cells],
            [cell.prefix for cell in cells],
            [cell.reason for cell in cells],
            [cell.action.value for cell in cells],
            [self.asks[cell] for cell in cells],
            [self.cost_micro[cell] for cell in cells],
        )


WITHHELD_SQL: LiteralString = """
INSERT INTO withheld AS w (tenant_id, hour, app_id, country, prefix, reason, action, asks, cost_micro)
SELECT tenant_id, $1, app_id, country, prefix, reason, action, asks, cost
  FROM unnest($2::int[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[])
       n(tenant_id, app_id, country, prefix, reason, action, asks, cost)
 ORDER BY tenant_id, app_id, country, prefix, reason, action
ON CONFLICT (tenant_id, hour, app_id, country, prefix, reason, action) DO UPDATE
   SET asks = w.asks + EXCLUDED.asks, cost_micro = w.cost_micro + EXCLUDED.cost_micro
"""


async def store(tx: db.Tx, cells: Cells, hour: datetime) -> None:
    """Count what a batch withheld. One statement; none where nothing was."""
    if cells.asks:
        await tx.execute(WITHHELD_SQL, hour, *cells.rows())


# ---- reading


class WithheldRow(msgspec.Struct, frozen=True):
    """Asks of one kind over the span that was asked for."""

    tenant_id: TenantId
    country: str
    prefix: (
        str  # without the last four digits; empty: of prefixes that nothing was ever sent to, or of a country
    )
    reason: str
    action: Action
    asks: int
    cost_micro: int


class LossStatement(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard saved, and whom it cost a challenge. Money is in millionths of the tenant's currency."""

    lines: Sequence[WithheldRow]  # the dearest first
    challenged: int
    refused: int
    passed: int  # of those challenged: came back with the challenge solved
    monitored: int
    honest: int  # of those passed, at most: who then verified. A challenge of others before is not told apart
    would_cost_micro: int  # of what was challenged or refused
    passed_micro: int  # what those cost who came back
    saved_micro: int


LINES_SQL: LiteralString = """
SELECT tenant_id, country, prefix, reason, action, sum(asks)::bigint AS asks, sum(cost_micro)::bigint AS cost_micro
  FROM withheld
 WHERE tenant_id = $1 AND hour >= $2 AND hour < $3 AND ($4 = '' OR country = $4) AND ($5 = '' OR prefix = $5)
 GROUP BY 1, 2, 3, 4, 5 ORDER BY cost_micro DESC, country, prefix, reason, action LIMIT $6
"""
SUMS_SQL: LiteralString = """
SELECT action, sum(asks)::bigint AS asks, sum(cost_micro)::bigint AS cost_micro
  FROM withheld
 WHERE tenant_id = $1 AND hour >= $2 AND hour < $3 AND ($4 = '' OR country = $4) AND ($5 = '' OR prefix = $5)
 GROUP BY 1
"""


async def statement(
    tx: db.Tx,
    tenant_id: TenantId,
    since: datetime,
    until: datetime,
    *,
    country: str = "",
    prefix: str = "",
    limit: int = LINES_MAX,
) -> LossStatement:
    """Sum what was withheld in the hours from `since` on, `until` not included."""
    span = (tenant_id, since, until, country, prefix)
    sums = {row["action"]: row for row in await tx.fetch(SUMS_SQL, *span)}
    lines = await tx.fetch(LINES_SQL, *span, min(limit, LINES_MAX))

    def asks(action: Action) -> int:
        return int(sums[action]["asks"]) if action in sums else 0

    def micro(action: Action) -> int:
        return int(sums[action]["cost_micro"]) if action in sums else 0

    would_cost = micro(Action.CHALLENGED) + micro(Action.REFUSED)
    return LossStatement(
        lines=[WithheldRow(**{**dict(row), "action": Action(row["action"])}) for row in lines],
        challenged=asks(Action.CHALLENGED),
        refused=asks(Action.REFUSED),
        passed=asks(Action.PASSED),
        monitored=asks(Action.MONITORED),
        honest=min(asks(Action.HONEST), asks(Action.PASSED)),
        would_cost_micro=would_cost,
        passed_micro=micro(Action.PASSED),
        saved_micro=max(0, would_cost - micro(Action.PASSED)),
    )


FORGET_SQL: LiteralString = """
DELETE FROM withheld w USING (
    SELECT tenant_id, hour, app_id, country, prefix, reason, action FROM withheld WHERE hour < $1 ORDER BY hour LIMIT $2) old
 WHERE w.tenant_id = old.tenant_id AND w.hour = old.hour AND w.app_id = old.app_id AND w.country = old.country
   AND w.prefix = old.prefix AND w.reason = old.reason AND w.action = old.action RETURNING 1
"""


async def forget(tx: db.Tx, now_s: float, rows_max: int) -> int:
    """Forget what was withheld long ago; returns how many rows."""
    return len(await tx.fetch(FORGET_SQL, clock.moment(now_s) - timedelta(days=KEEP_DAYS), rows_max))
