"""Which channels bring codes that people enter: what became of each code, counted for the choice of a route.

Writes: conversion. Entry points: heard(), in the transaction that counts ended verifications; every() for who shows it.
Reports are not asked what they claim: a channel that reports delivery and delivers nothing is known by its codes, which
nobody enters. What says nothing about a channel is left out: sandbox messages, and numbers that nobody has.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

import msgspec

from hongyan import clock, db
from hongyan.vocab.cause import Cause
from hongyan.vocab.conversion import NOTHING, VERIFIED_WITHIN_S, Belief, Evidence, Level, levels
from hongyan.vocab.message import accepted_at_s

WRITER_LOCK: Final = 0x636F6E76  # 'conv': one at a time, so that nobody adds to what another is adding to
ROWS_MAX: Final = 50_000
# The number's own doing, and what never left: not the channel's.
NOT_ITS_FAULT: Final = tuple(
    cause.number
    for cause in (Cause.INVALID_NUMBER, Cause.SUSPENDED, Cause.NOT_SENT, Cause.OPTED_OUT, Cause.BLOCKED,
                  Cause.CANCELLED, Cause.NO_CHANNEL)
)  # fmt: skip


class Outcome(msgspec.Struct, frozen=True):
    """What became of one verification whose code was sent."""

    tenant_id: int
    message_ids: Sequence[UUID]  # of its sends, the first first; those by other media are passed over
    approved_at_s: float = 0.0  # when its code was entered, Unix seconds; 0: it never was


# Where each message went. Until its report is there, the submission alone knows.
WENT_SQL: LiteralString = """
SELECT m.id, m.country, m.operator, m.province, coalesce(nullif(m.channel_id, 0), s.channel_id, 0) AS channel_id,
       m.cause = ANY($5::smallint[]) AS excused
  FROM unnest($1::int[], $2::uuid[]) AS w(tenant_id, id)
  JOIN message m ON m.tenant_id = w.tenant_id AND m.id = w.id AND m.id >= $3 AND m.id <= $4
  LEFT JOIN LATERAL (
        SELECT channel_id FROM submitted WHERE message_id = m.id ORDER BY attempt DESC LIMIT 1) s ON true
 WHERE NOT m.sandbox
"""


async def heard(tx: db.Tx, outcomes: Sequence[Outcome], now_s: float) -> None:
    """Count what became of verifications that ended, each once and in the order they ended. The caller commits."""
    sent = [(one, message_id) for one in outcomes for message_id in one.message_ids]
    if not sent:
        return
    wanted = [db.Uuid(message_id.bytes) for _, message_id in sent]
    rows = await tx.fetch(
        WENT_SQL, [one.tenant_id for one, _ in sent], wanted, min(wanted), max(wanted), NOT_ITS_FAULT
    )
    went = {row["id"].bytes: row for row in rows if row["channel_id"]}
    counted: dict[Level, list[bool]] = {}
    for one in outcomes:
        for message_id, good in _credits(one, went):
            row = went[message_id]
            if good or not row["excused"]:
                for level in levels(row["channel_id"], row["country"], row["operator"], row["province"]):
                    counted.setdefault(level, []).append(good)
    if counted:
        await _count(tx, counted, now_s)


def _credits(one: Outcome, went: Mapping[bytes, object]) -> Sequence[tuple[bytes, bool]]:
    """Say of each message that went by a channel whether it did its part.

    The last one before the code was entered is thanked for it, if that was in time. Who needed another message had no
    good of the ones before. What was sent after it, as by a fallback that came too late, is passed over.
    """
    ids = [message_id for message_id in one.message_ids if message_id.bytes in went]
    if not one.approved_at_s:
        return [(message_id.bytes, False) for message_id in ids]
    before = [message_id for message_id in ids if accepted_at_s(message_id) <= one.approved_at_s]
    return [
        (sent.bytes, sent is before[-1] and one.approved_at_s - accepted_at_s(sent) <= VERIFIED_WITHIN_S)
        for sent in before
    ]


LOCK_SQL: LiteralString = "SELECT pg_advisory_xact_lock($1)"
KNOWN_SQL: LiteralString = """
SELECT c.channel_id, c.country, c.operator, c.province, c.good, c.bad, c.dropping, c.heard_at
  FROM unnest($1::int[], $2::text[], $3::text[], $4::text[]) AS w(channel_id, country, operator, province)
  JOIN conversion c USING (channel_id, country, operator, province)
"""
# What is known of an operator's provinces was learned before it broke there. A channel that seems to break as a whole may only
# have one busy operator, so what it does elsewhere stays known.
FORGET_SQL: LiteralString = """
DELETE FROM conversion c
 USING unnest($1::int[], $2::text[], $3::text[]) AS b(channel_id, country, operator)
 WHERE c.channel_id = b.channel_id AND c.country = b.country AND c.operator = b.operator AND c.province <> ''
"""
STORE_SQL: LiteralString = """
INSERT INTO conversion (channel_id, country, operator, province, good, bad, dropping, heard_at)
SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::float8[], $7::float8[], $8::float8[])
ON CONFLICT (channel_id, country, operator, province) DO UPDATE
   SET good = EXCLUDED.good, bad = EXCLUDED.bad, dropping = EXCLUDED.dropping, heard_at = EXCLUDED.heard_at
"""


async def _count(tx: db.Tx, counted: Mapping[Level, Sequence[bool]], now_s: float) -> None:
    await tx.execute(LOCK_SQL, WRITER_LOCK)
    asked = list(counted)
    rows = await tx.fetch(KNOWN_SQL, *_columns(asked))
    known = {_level(row): _evidence(row) for row in rows}
    found, broken = weighed(known, counted, now_s)
    if broken:
        await tx.execute(FORGET_SQL, *_columns(broken)[:3])
    stored = list(found)
    evidence = list(found.values())
    await tx.execute(
        STORE_SQL,
        *_columns(stored),
        [one.good for one in evidence],
        [one.bad for one in evidence],
        [one.drop for one in evidence],
        [one.at_s for one in evidence],
    )


def weighed(
    known: Mapping[Level, Evidence], counted: Mapping[Level, Sequence[bool]], now_s: float
) -> tuple[Mapping[Level, Evidence], Sequence[Level]]:
    """Add outcomes to what is known, from the channels downwards; `known` has all levels that are counted.

    Returns the new evidence and the operators where a channel broke: what was known of their provinces is to be forgotten.
    """
    found: dict[Level, Evidence] = {}
    broken: list[Level] = []
    for level in sorted(counted, key=lambda one: (one.rank, one)):
        above = list(levels(*level))[: level.rank]
        before = NOTHING if any(one in broken for one in above) else known.get(level, NOTHING)
        usual = Belief.under([known.get(one, NOTHING) for one in [*above, level]], now_s).mean
        found[level], broke = before.heard(counted[level], now_s, usual)
        if broke and level.rank == 1:
            broken.append(level)
    return found, broken


def _columns(of: Sequence[Level]) -> tuple[list[int], list[str], list[str], list[str]]:
    return (
        [one.channel_id for one in of],
        [one.country for one in of],
        [one.operator for one in of],
        [one.province for one in of],
    )


def _level(row: db.Row) -> Level:
    return Level(row["channel_id"], row["country"], row["operator"], row["province"])


def _evidence(row: db.Row) -> Evidence:
    return Evidence(row["good"], row["bad"], row["dropping"], row["heard_at"])


# ---- what is shown


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """How a channel does towards an operator, or a province of it."""

    channel_id: int
    country: str
    operator: str
    province: str | None  # null: the operator as a whole
    share: float  # of codes that are believed to be entered in time, 0 … 1
    low: float  # it is hardly less than this …
    high: float  # … nor more than this
    outcomes: float  # how many outcomes that rests on; each counts half after two hours
    heard_at: datetime


EVERY_SQL: LiteralString = """
SELECT channel_id, country, operator, province, good, bad, dropping, heard_at FROM conversion
 ORDER BY channel_id, country, operator, province LIMIT $1
"""


async def every(tx: db.Tx, now_s: float, *, provinces: bool = False) -> Sequence[Conversion]:
    """Return how all channels do, by channel, country and operator, and by province where that is asked."""
    known = {_level(row): _evidence(row) for row in await tx.fetch(EVERY_SQL, ROWS_MAX)}
    return [
        _conversion(level, evidence, [known.get(one, NOTHING) for one in levels(*level)], now_s)
        for level, evidence in known.items()
        if level.country and (provinces or not level.province)
    ]


def _conversion(level: Level, own: Evidence, above: Sequence[Evidence], now_s: float) -> Conversion:
    believed = Belief.under(above, now_s)
    return Conversion(
        channel_id=level.channel_id,
        country=level.country,
        operator=level.operator,
        province=level.province or None,
        share=round(believed.mean, 4),
        low=round(max(0.0, believed.mean - 2 * believed.deviation), 4),
        high=round(min(1.0, believed.mean + 2 * believed.deviation), 4),
        outcomes=round(own.at(now_s).outcomes, 1),
        heard_at=clock.moment(own.at_s),
    )
