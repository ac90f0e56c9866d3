"""The expected-hits meter: how often guessing codes of a tenant would by now have hit, and what follows before it pays.

Writes: guess_meter. Entry points: Strictness and strictness(), digits_wanted(), tries_wanted(), pure; missed(), for every
batch of checks; forgiven(); hits(); forget(). A wrong guess at one of n codes is 1/n of a hit; they are summed over 24
hours. What people mistype and then get right is taken back once their code has matured, else a large tenant's slips would
look like an attack. Longer codes slow the meter a hundredfold, so the two hold each other: the sum stays near LONGER.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, LiteralString

from hongyan import db

# From here on codes are longer; where they cannot be, fewer tries and a challenge. A fifth before 0.001: the codes that are
# under way just then, shorter ones, can still be guessed at.
LONGER: Final = 8e-4
STRICT: Final = 1e-2  # from here on only what passed a challenge is even checked
DIGITS_LONGER: Final = 8
TRIES_FEWER: Final = 3
HOURS: Final = 25  # buckets that cover every 24 hours, whatever the minute


class Strictness(IntEnum):
    """How careful codes of a tenant are made and checked."""

    CALM = 0
    LONGER = 1
    STRICT = 2


def strictness(hits: float) -> Strictness:
    """Tell what so many expected hits in 24 hours ask for."""
    if hits >= STRICT:
        return Strictness.STRICT
    return Strictness.LONGER if hits >= LONGER else Strictness.CALM


def digits_wanted(hits: float, digits: int) -> int:
    """Return how many digits a new code should have; a template that takes fewer makes tries_wanted() hold."""
    return digits if strictness(hits) is Strictness.CALM else max(digits, DIGITS_LONGER)


def tries_wanted(hits: float, tries: int, digits: int) -> int:
    """Return how many tries a new code gets that will have so many digits."""
    calm = strictness(hits) is Strictness.CALM or digits >= DIGITS_LONGER
    return tries if calm else min(tries, TRIES_FEWER)


def hour_of(now_s: float) -> int:
    return int(now_s // 3_600)


# In key order, so that two doors cannot wait for each other in a circle.
ADD_SQL: LiteralString = """
INSERT INTO guess_meter AS m (tenant_id, hour, hits)
SELECT tenant_id, $3, hits FROM unnest($1::int[], $2::float8[]) n(tenant_id, hits) ORDER BY tenant_id
ON CONFLICT (tenant_id, hour) DO UPDATE SET hits = m.hits + EXCLUDED.hits
"""


async def strict(tx: db.Tx, tenant_ids: list[int], now_s: float) -> frozenset[int]:
    """Return whose codes are guessed at so much that only those asked for behind a challenge are compared any more."""
    found = await hits(tx, tenant_ids, now_s)
    return frozenset(each for each, by_chance in found.items() if strictness(by_chance) is Strictness.STRICT)


async def missed(tx: db.Tx, hits: Mapping[int, float], now_s: float) -> None:
    """Add wrong guesses by tenant, each as 1 ÷ the codes there might have been."""
    if hits:
        await tx.execute(ADD_SQL, list(hits), list(hits.values()), hour_of(now_s))


async def forgiven(tx: db.Tx, hits: Mapping[int, float], now_s: float) -> None:
    """Take back what turned out to be slips of people who then gave the right code."""
    await missed(tx, {tenant_id: -each for tenant_id, each in hits.items()}, now_s)


HITS_SQL: LiteralString = """
SELECT tenant_id, greatest(0, sum(hits))::float8 AS hits FROM guess_meter
 WHERE tenant_id = ANY($1::int[]) AND hour > $2 AND hour <= $2 + $3 GROUP BY tenant_id
"""


async def hits(tx: db.Tx, tenant_ids: list[int], now_s: float) -> Mapping[int, float]:
    """Read the expected hits of the last 24 hours; who has none is left out."""
    rows = await tx.fetch(HITS_SQL, tenant_ids, hour_of(now_s) - HOURS, HOURS)
    return {row["tenant_id"]: row["hits"] for row in rows}


FORGET_SQL: LiteralString = """
DELETE FROM guess_meter m USING (SELECT tenant_id, hour FROM guess_meter WHERE hour < $1 ORDER BY hour LIMIT $2) old
 WHERE m.tenant_id = old.tenant_id AND m.hour = old.hour RETURNING 1
"""


async def forget(tx: db.Tx, now_s: float, rows_max: int) -> int:
    """Forget guesses that are no longer summed; returns how many rows."""
    return len(await tx.fetch(FORGET_SQL, hour_of(now_s) - HOURS, rows_max))
