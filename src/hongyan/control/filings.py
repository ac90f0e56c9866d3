"""Filings: how far a signature's real-name filing (实名报备) is at each operator of the mainland, and until when.

Writes: filing, filing_step. Entry points: put(), of(), page(), steps(), lapse(), expiring(), void().
A channel that demands filings carries only signatures whose filing at the number's operator is `ok`; the way reads that
from its snapshot (way/route.py). Days are China's: a filing is good through its last one.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final, LiteralString
from zoneinfo import ZoneInfo

import msgspec

from hongyan import clock, db
from hongyan.control import documents
from hongyan.control.bounds import demand, demand_found, demand_text
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.vocab.phone import OPERATOR_NAMES

OPERATORS: Final = tuple(OPERATOR_NAMES)
CHINA: Final = ZoneInfo("Asia/Shanghai")
REASON_CHARACTERS_MAX: Final = 500
WARNED_DAYS: Final = 30  # before its end
PAGE_MAX: Final = 500
STEPS_MAX: Final = 200
CLERK: Final = "clock"  # who lets filings lapse


class FilingState(StrEnum):
    """How far a filing is."""

    NONE = "none"  # nobody has begun
    FILING = "filing"  # the papers are being made ready
    FILED = "filed"  # handed in, the operator has not answered
    OK = "ok"  # the operator knows the signature
    FAILED = "failed"  # the operator refused it, or took it back
    LAPSED = "lapsed"  # was ok, and has ended


# From where each state may be reached. Each may also be put again, with other dates or words.
MOVES: Final[Mapping[FilingState, Sequence[FilingState]]] = {
    FilingState.NONE: (
        FilingState.FILING,
        FilingState.FILED,
        FilingState.OK,
        FilingState.FAILED,
        FilingState.LAPSED,
    ),
    FilingState.FILING: (FilingState.NONE, FilingState.FAILED, FilingState.LAPSED),
    FilingState.FILED: (FilingState.NONE, FilingState.FILING, FilingState.FAILED, FilingState.LAPSED),
    # What failed is handed in anew first.
    FilingState.OK: (FilingState.NONE, FilingState.FILING, FilingState.FILED, FilingState.LAPSED),
    FilingState.FAILED: (FilingState.NONE, FilingState.FILING, FilingState.FILED, FilingState.OK),
    FilingState.LAPSED: (FilingState.OK,),
}


class FilingReason(StrEnum):
    """Why an operator refused a filing or let it lapse, as the clouds sort what operators say."""

    NO_QUALIFICATION = "no_qualification"  # no enterprise stands behind the signature
    QUALIFICATION_INCOMPLETE = "qualification_incomplete"  # papers are missing
    QUALIFICATION_WRONG = "qualification_wrong"  # licence, person or code do not agree with the registers
    SIGNATURE_WRONG = "signature_wrong"  # neutral, skipped or re-ordered characters, no name of theirs
    SIGNATURE_NOT_THEIRS = "signature_not_theirs"  # signature and enterprise do not belong together
    AUTHORISATION_MISSING = "authorisation_missing"  # another's name, and no letter or one that has ended
    ONE_EXTENSION_TWO_SIGNATURES = "one_extension_two_signatures"  # 一码多签
    TIMED_OUT = "timed_out"  # the operator did not answer in time
    UNUSED = "unused"  # nothing was sent for so long that it was taken back
    EXTENSION_RECYCLED = "extension_recycled"  # the digits were given to somebody else
    EXPIRED = "expired"  # its last day is over
    RENAMED = "renamed"  # the signature has another name now
    OTHER = "other"


class FilingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A signature's filing at one operator."""

    signature_id: int
    tenant_id: TenantId
    tenant: str
    signature: str
    operator: str
    state: FilingState
    reason_code: FilingReason | None = None
    reason: str = ""  # the operator's own words
    document_id: int | None = None
    filed_at: datetime | None = None
    valid_until: date | None = None  # the last day, in China
    changed_by: str = ""
    changed_at: datetime | None = None


class FilingStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a filing."""

    at: datetime
    who: str
    state: FilingState
    reason_code: FilingReason | None
    reason: str
    valid_until: date | None


# ---- changing

# Steps refer to their signature: a stricter lock would make lapse() and us wait for each other.
NOW_SQL: LiteralString = """
SELECT s.tenant_id, f.state, f.filed_at FROM signature s
  LEFT JOIN filing f ON f.signature_id = s.id AND f.operator = $2
 WHERE s.id = $1 FOR NO KEY UPDATE OF s
"""
PUT_SQL: LiteralString = """
INSERT INTO filing (signature_id, operator, state, reason_code, reason, document_id, filed_at, valid_until, changed_by,
                    changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (signature_id, operator) DO UPDATE SET state = EXCLUDED.state, reason_code = EXCLUDED.reason_code,
       reason = EXCLUDED.reason, document_id = EXCLUDED.document_id, filed_at = EXCLUDED.filed_at,
       valid_until = EXCLUDED.valid_until, changed_by = EXCLUDED.changed_by, changed_at = EXCLUDED.changed_at
"""
STEP_SQL: LiteralString = """
INSERT INTO filing_step (signature_id, operator, at, who, state, reason_code, reason, valid_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def put(
    tx: db.Tx,
    signature_id: int,
    operator: str,
    state: FilingState,
    *,
    who: str,
    reason_code: FilingReason | None = None,
    reason: str = "",
    document_id: int | None = None,
    filed_at: datetime | None = None,
    valid_until: date | None = None,
) -> None:
    """Say how far a filing is at an operator; what is not given is not known any more, but for `filed_at`.

    Raises Refusal where there is no such signature or operator, MOVES does not lead there, an `ok` would have ended
    already, a failure gives no reason, or the document is not the tenant's.
    """
    demand_operator(operator)
    demand_text(reason, "reason", REASON_CHARACTERS_MAX)
    now = clock.now()
    row = demand_found(await tx.fetchrow(NOW_SQL, signature_id, operator), signature=signature_id)
    old = FilingState(row["state"] or FilingState.NONE)
    if old is not state and old not in MOVES[state]:
        raise Refusal(
            Code.REQUEST_CONFLICT, state=old, reason=f"a filing that is {old} cannot become {state}"
        )
    demand(
        state is not FilingState.OK or valid_until is None or valid_until >= today(now),
        "valid_until",
        "a day that is not over",
    )
    demand(state is not FilingState.FAILED or reason_code is not None, "reason_code", "why it failed")
    if document_id is not None:
        found = await documents.some(tx, TenantId(row["tenant_id"]), [document_id])
        demand(bool(found), "document_id", "a document of the signature's tenant")
    if filed_at is None:
        filed_at = now if state is FilingState.FILED and old is not FilingState.FILED else row["filed_at"]
    code = reason_code or ""
    await tx.execute(
        PUT_SQL, signature_id, operator, state, code, reason, document_id, filed_at, valid_until, who, now
    )
    await tx.execute(STEP_SQL, signature_id, operator, now, who, state, code, reason, valid_until)


def demand_operator(operator: str) -> None:
    """Raise Refusal, not found, for what is no operator of the mainland."""
    demand_found(operator if operator in OPERATORS else None, operator=operator[:40])


def today(now: datetime) -> date:
    """Return the day it is in China."""
    return now.astimezone(CHINA).date()


VOID_SQL: LiteralString = """
WITH voided AS (
    UPDATE filing SET state = 'none', reason_code = $3, reason = '', document_id = NULL, valid_until = NULL,
           changed_by = $2, changed_at = now()
     WHERE signature_id = $1 AND state <> 'none' RETURNING operator
)
INSERT INTO filing_step (signature_id, operator, who, state, reason_code)
SELECT $1, operator, $2, 'none', $3 FROM voided
"""


async def void(tx: db.Tx, signature_id: int, *, who: str) -> None:
    """Begin anew at every operator: what was filed was another name."""
    await tx.execute(VOID_SQL, signature_id, who, FilingReason.RENAMED)


# ---- time

LAPSE_SQL: LiteralString = """
WITH ended AS (
    UPDATE filing SET state = 'lapsed', reason_code = $3, reason = '', changed_by = $4, changed_at = $2
     WHERE state = 'ok' AND valid_until < $1 RETURNING signature_id, operator, valid_until
), written AS (
    INSERT INTO filing_step (signature_id, operator, at, who, state, reason_code, valid_until)
    SELECT signature_id, operator, $2, $4, 'lapsed', $3, valid_until FROM ended
)
SELECT count(*) FROM ended
"""


async def lapse(tx: db.Tx, now: datetime) -> int:
    """Let filings lapse whose last day is over; returns how many."""
    return int(await tx.fetchval(LAPSE_SQL, today(now), now, FilingReason.EXPIRED, CLERK))


EXPIRING_SQL: LiteralString = """
SELECT f.signature_id, s.tenant_id, t.name AS tenant, s.name AS signature, f.operator, f.state, f.reason_code,
       f.reason, f.document_id, f.filed_at, f.valid_until, f.changed_by, f.changed_at
  FROM filing f JOIN signature s ON s.id = f.signature_id JOIN tenant t ON t.id = s.tenant_id
 WHERE f.state = 'ok' AND f.valid_until BETWEEN $1 AND $2 ORDER BY f.valid_until, f.signature_id, f.operator LIMIT $3
"""


async def expiring(tx: db.Tx, days: int = WARNED_DAYS) -> Sequence[FilingRow]:
    """List filings that are ok and end within so many days, the first to end first; at most PAGE_MAX."""
    start = today(clock.now())
    return [_row(row) for row in await tx.fetch(EXPIRING_SQL, start, start + timedelta(days=days), PAGE_MAX)]


# ---- looking

OF_SQL: LiteralString = """
SELECT s.id AS signature_id, s.tenant_id, t.name AS tenant, s.name AS signature, o.operator, coalesce(f.state, 'none') AS state,
       coalesce(f.reason_code, '') AS reason_code, coalesce(f.reason, '') AS reason, f.document_id, f.filed_at,
       f.valid_until, coalesce(f.changed_by, '') AS changed_by, f.changed_at
  FROM signature s JOIN tenant t ON t.id = s.tenant_id
 CROSS JOIN unnest($3::text[]) WITH ORDINALITY AS o(operator, place)
  LEFT JOIN filing f ON f.signature_id = s.id AND f.operator = o.operator
 WHERE s.id = $1 AND ($2::int IS NULL OR s.tenant_id = $2) ORDER BY o.place
"""


async def of(
    tx: db.Tx, signature_id: int, tenant_id: TenantId | None = None, operators: Sequence[str] = OPERATORS
) -> Sequence[FilingRow]:
    """List a signature's filings, one for each operator. Raises Refusal for another tenant's signature."""
    rows = await tx.fetch(OF_SQL, signature_id, tenant_id, list(operators))
    return [_row(row) for row in demand_found(rows or None, signature=signature_id)]


STEPS_SQL: LiteralString = """
SELECT at, who, state, reason_code, reason, valid_until FROM filing_step
 WHERE signature_id = $1 AND operator = $2 ORDER BY id DESC LIMIT $3
"""


async def steps(tx: db.Tx, signature_id: int, operator: str) -> Sequence[FilingStep]:
    """List what was done about a filing, the newest first; at most STEPS_MAX."""
    rows = await tx.fetch(STEPS_SQL, signature_id, operator, STEPS_MAX)
    return [
        FilingStep(
            **{**dict(row), "state": FilingState(row["state"]), "reason_code": _reason_of(row["reason_code"])}
        )
        for row in rows
    ]


PAGE_SQL: LiteralString = """
SELECT f.signature_id, s.tenant_id, t.name AS tenant, s.name AS signature, f.operator, f.state, f.reason_code,
       f.reason, f.document_id, f.filed_at, f.valid_until, f.changed_by, f.changed_at
  FROM filing f JOIN signature s ON s.id = f.signature_id JOIN tenant t ON t.id = s.tenant_id
 WHERE (f.signature_id, f.operator) > ($1, $2) AND ($3::int IS NULL OR s.tenant_id = $3)
   AND ($4 = '' OR f.state = $4) AND ($5 = '' OR f.operator = $5) AND ($6::date IS NULL OR f.valid_until <= $6)
 ORDER BY f.signature_id, f.operator LIMIT $7
"""


async def page(
    tx: db.Tx,
    tenant_id: TenantId | None = None,
    *,
    state: FilingState | None = None,
    operator: str = "",
    until: date | None = None,
    after: tuple[int, str] = (0, ""),
    limit: int = PAGE_MAX,
) -> Sequence[FilingRow]:
    """List filings that were begun, behind signature and operator; `until`: those that end by that day."""
    rows = await tx.fetch(PAGE_SQL, *after, tenant_id, state or "", operator, until, min(limit, PAGE_MAX))
    return [_row(row) for row in rows]


def _row(row: db.Row) -> FilingRow:
    return FilingRow(
        **{**dict(row), "state": FilingState(row["state"]), "reason_code": _reason_of(row["reason_code"])}
    )


def _reason_of(code: str) -> FilingReason | None:
    return FilingReason(code) if code else None
