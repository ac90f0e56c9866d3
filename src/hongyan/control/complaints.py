"""Complaints as people work on them: lists by state and what is overdue, answers, and how many there are of what.

Writes: complaint (through complaint), suppression (through complaint). Entry points: record(), change(), page(), one();
rates() for alarms.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from typing import Final, LiteralString
from uuid import UUID

import msgspec

from hongyan import clock, db
from hongyan.control.bounds import demand, demand_found, demand_text
from hongyan.control.consents import demand_past, index_of
from hongyan.observe import masked_number
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way import complaint
from hongyan.way.complaint import ComplaintSource, ComplaintState, Made, Words
from hongyan.way.optout import Suppressed

DAYS_MAX: Final = 92  # of statistics
TEXT_CHARACTERS_MAX: Final = 4_000


class ComplaintRow(msgspec.Struct, frozen=True, kw_only=True):
    """A complaint; the number masked. Number, text and answer are null once the person was erased."""

    id: int
    tenant_id: TenantId
    number: str | None
    text: str | None
    answer: str | None
    source: ComplaintSource
    state: ComplaintState
    reference: str
    message_id: UUID | None
    channel_id: int
    received_at: datetime
    due_at: datetime
    overdue: bool
    answered_at: datetime | None
    closed_at: datetime | None


class ComplaintRate(msgspec.Struct, frozen=True, kw_only=True):
    """Complaints of one UTC day about one tenant's messages over one channel, and how many were delivered that day."""

    day: date
    tenant_id: TenantId
    channel_id: int  # 0: not known which
    complaints: int
    delivered: int
    per_million: float | None  # none where nothing was delivered


WHOSE_SQL: LiteralString = """
SELECT tenant_id FROM message WHERE phone_index = $1 ORDER BY id DESC LIMIT 1
"""


async def record(
    tx: db.Tx,
    vault: Vault,
    tenant_id: TenantId | None,
    *,
    number: str,
    source: ComplaintSource,
    text: str,
    reference: str,
    received_at: datetime | None,
    message_id: UUID | None,
) -> tuple[ComplaintRow, Collection[Suppressed]]:
    """Keep a complaint. `tenant_id` None: of whoever wrote to the number last.

    Returns it, and whom to tell the gateways of (optout.tell()) after the commit. Raises Refusal.
    """
    demand(source is not ComplaintSource.INBOUND, "source", "inbound is ours to say")
    at = received_at or clock.now()
    demand_past(at, "received_at")
    demand_text(text, "text", TEXT_CHARACTERS_MAX)
    demand_text(reference, "reference", 64)
    e164, phone_index = index_of(vault, number)
    if tenant_id is None:
        found = await tx.fetchval(WHOSE_SQL, phone_index)
        demand(found is not None, "tenant_id", "nobody wrote to this number; say whom it is about")
        tenant_id = TenantId(found)
    made = Made(
        tenant_id=tenant_id,
        phone_index=phone_index,
        source=source,
        received_at=at,
        words=Words(number=e164, text=text),
        reference=reference,
        message_id=message_id,
    )
    ids, stopped = await complaint.record(tx, vault, [made])
    return await one(tx, vault, tenant_id, ids[0]), stopped


async def change(
    tx: db.Tx,
    vault: Vault,
    tenant_id: TenantId | None,
    complaint_id: int,
    *,
    state: ComplaintState,
    answer: str | None = None,
    reference: str | None = None,
) -> ComplaintRow:
    """Say how far a complaint has come and what was answered. Raises Refusal where there is none of that id."""
    demand_text(answer or "", "answer", TEXT_CHARACTERS_MAX)
    demand_text(reference or "", "reference", 64)
    before = await one(tx, vault, tenant_id, complaint_id)
    if state is ComplaintState.ANSWERED and not (answer or before.answer or before.number is None):
        raise Refusal(Code.REQUEST_MISSING_PARAMETER, parameter="answer", reason="say what was answered")
    await complaint.change(
        tx,
        vault,
        before.tenant_id,
        complaint_id,
        state=state,
        answer=answer,
        reference=reference,
        now=clock.now(),
    )
    return await one(tx, vault, before.tenant_id, complaint_id)


_COLUMNS: LiteralString = """
SELECT id, tenant_id, source, state, reference, message_id, channel_id, received_at, due_at, answered_at, closed_at, sealed
  FROM complaint
"""
ONE_SQL: LiteralString = _COLUMNS + " WHERE id = $1 AND ($2::int IS NULL OR tenant_id = $2)"


async def one(tx: db.Tx, vault: Vault, tenant_id: TenantId | None, complaint_id: int) -> ComplaintRow:
    """Return one complaint. Raises Refusal where there is none of that id, or it is another tenant's."""
    row = demand_found(await tx.fetchrow(ONE_SQL, complaint_id, tenant_id), complaint=complaint_id)
    return _row(vault, row)


# One way for each index: with plans made once for all parameters a single statement would use neither.
_FILTERS: LiteralString = """
   AND ($2::text IS NULL OR state = $2) AND (NOT $3 OR state = 'open' AND due_at < $4)
 ORDER BY id DESC LIMIT $5
"""
PAGE_SQL: LiteralString = _COLUMNS + " WHERE tenant_id = $6 AND id < $1" + _FILTERS
PAGE_ALL_SQL: LiteralString = _COLUMNS + " WHERE id < $1" + _FILTERS


async def page(
    tx: db.Tx,
    vault: Vault,
    tenant_id: TenantId | None,
    before: int,
    limit: int,
    *,
    state: ComplaintState | None = None,
    overdue: bool = False,
) -> Sequence[ComplaintRow]:
    """List complaints, the newest first, from below an id; `overdue`: only open ones whose answer is late."""
    values = (before, state.value if state else None, overdue, clock.now(), limit)
    if tenant_id is None:
        rows = await tx.fetch(PAGE_ALL_SQL, *values)
    else:
        rows = await tx.fetch(PAGE_SQL, *values, tenant_id)
    return [_row(vault, row) for row in rows]


def _row(vault: Vault, row: db.Row) -> ComplaintRow:
    words = complaint.opened(vault, row["tenant_id"], row["sealed"])
    return ComplaintRow(
        id=row["id"],
        tenant_id=row["tenant_id"],
        number=None if words is None else masked_number(words.number),
        text=None if words is None else words.text,
        answer=None if words is None else words.answer,
        source=ComplaintSource(row["source"]),
        state=ComplaintState(row["state"]),
        reference=row["reference"],
        message_id=row["message_id"],
        channel_id=row["channel_id"],
        received_at=row["received_at"],
        due_at=row["due_at"],
        overdue=row["state"] == "open" and row["due_at"] < clock.now(),
        answered_at=row["answered_at"],
        closed_at=row["closed_at"],
    )


# Delivered is status 1 of the tallies, whose hour is that of acceptance: near enough for a day.
RATES_SQL: LiteralString = """
WITH complained AS (
    SELECT (received_at AT TIME ZONE 'UTC')::date AS day, tenant_id, channel_id, count(*) AS complaints
      FROM complaint
     WHERE received_at >= $1 AND received_at < $2 AND ($3::int IS NULL OR tenant_id = $3)
     GROUP BY 1, 2, 3
), delivered AS (
    SELECT (hour AT TIME ZONE 'UTC')::date AS day, tenant_id, channel_id, sum(messages)::bigint AS delivered
      FROM tally
     WHERE hour >= $1 AND hour < $2 AND status = 1 AND ($3::int IS NULL OR tenant_id = $3)
     GROUP BY 1, 2, 3
)
SELECT c.day, c.tenant_id, c.channel_id, c.complaints, coalesce(d.delivered, 0)::bigint AS delivered
  FROM complained c LEFT JOIN delivered d USING (day, tenant_id, channel_id)
 ORDER BY 1, 2, 3
"""


async def rates(
    tx: db.Tx, tenant_id: TenantId | None, since: datetime, until: datetime
) -> Sequence[ComplaintRate]:
    """Count complaints by day, tenant and channel against what was delivered; days without complaints are not listed.

    `until` is not included; at most DAYS_MAX days. `tenant_id` None: everybody's. Raises Refusal.
    """
    demand_past(since, "from")
    demand(since < until <= since + timedelta(days=DAYS_MAX), "from", f"before to, at most {DAYS_MAX} days")
    return [
        ComplaintRate(
            day=row["day"],
            tenant_id=row["tenant_id"],
            channel_id=row["channel_id"],
            complaints=row["complaints"],
            delivered=row["delivered"],
            per_million=row["complaints"] * 1e6 / row["delivered"] if row["delivered"] else None,
        )
        for row in await tx.fetch(RATES_SQL, since, until, tenant_id)
    ]
