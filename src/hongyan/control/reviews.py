"""One queue of everything that a person has to look at: enterprises, signatures, templates, complaints.

Writes: review. Entry points: open(), approve(), reject(), withdraw(), page(), get(), reasons(). What a decision does is
known to the room of its kind (DECIDED); the tenant is told of it (announcements.py). Policy may approve at once, or ask for
two people. Nobody approves what is his own. Held messages wait elsewhere (way/hold.py): they are too many for a row each.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, LiteralString

import msgspec

from hongyan import db
from hongyan.control import announcements, policies
from hongyan.control.bounds import demand, demand_found, demand_text
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose, TenantId

POLICY: Final = "policy"  # who decided, where nobody had to look
TITLE_CHARACTERS_MAX: Final = 200
REASON_CHARACTERS_MAX: Final = 500
PAGE_MAX: Final = 500


class ReviewKind(StrEnum):
    """What is reviewed. Held messages are listed beside these, under ids of their own."""

    QUALIFICATION = "qualification"  # who an enterprise is
    SIGNATURE = "signature"
    TEMPLATE = "template"
    COMPLAINT = "complaint"  # of a person, about a tenant


class ReviewState(StrEnum):
    """How far a review is."""

    WAITING = "waiting"  # a person owes a decision
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"  # whoever proposed it took it back


class ReviewRow(msgspec.Struct, frozen=True, kw_only=True):
    """A review as people see it."""

    id: int
    tenant_id: TenantId
    tenant: str
    kind: ReviewKind
    subject: int
    title: str
    state: ReviewState
    four_eyes: bool
    proposed_by: str
    first_by: str  # the first of two who approved
    first_at: datetime | None
    decided_by: str
    reason_code: str
    reason: str
    created_at: datetime
    decided_at: datetime | None


class ReviewReason(msgspec.Struct, frozen=True):
    """A reason to reject, to pick."""

    kind: str
    code: str
    zh: str
    en: str


# What a decision does: (tx, subject, approved, reason, who). Found when it is needed: these rooms know this one.
Decided = Callable[[db.Tx, int, bool, str, str], Awaitable[None]]


async def _qualification(tx: db.Tx, subject: int, approved: bool, reason: str, who: str) -> None:
    from hongyan.control import qualifications

    await qualifications.decided(tx, subject, approved, reason, who=who)


async def _signature(tx: db.Tx, subject: int, approved: bool, reason: str, _who: str) -> None:
    from hongyan.control import signatures

    await signatures.decided(tx, subject, approved, reason)


async def _template(tx: db.Tx, subject: int, approved: bool, reason: str, _who: str) -> None:
    from hongyan.control import templates

    await templates.decided(tx, subject, approved, reason)


async def _complaint(_tx: db.Tx, _subject: int, _approved: bool, _reason: str, _who: str) -> None:
    """Nothing follows from the review of a complaint but that it was looked at."""


DECIDED: Final[Mapping[ReviewKind, Decided]] = {
    ReviewKind.QUALIFICATION: _qualification,
    ReviewKind.SIGNATURE: _signature,
    ReviewKind.TEMPLATE: _template,
    ReviewKind.COMPLAINT: _complaint,
}


OPEN_SQL: LiteralString = """
INSERT INTO review (tenant_id, kind, subject, title, four_eyes, proposed_by) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (kind, subject) WHERE state = 'waiting' DO NOTHING RETURNING id
"""


async def open(  # noqa: A001 - reviews.open() says it best
    tx: db.Tx,
    kind: ReviewKind | str,
    tenant_id: TenantId,
    subject: int,
    title: str,
    *,
    proposed_by: str = "",
    purpose: Purpose | None = None,
) -> int:
    """Put something before people, and return the review's id. Policy may approve it at once.

    `proposed_by`, as the audit has it, may not approve it; `purpose` is a template's. Raises Refusal where a review of
    the subject waits already.
    """
    kind = ReviewKind(kind)
    title = "".join(each if each.isprintable() else " " for each in title)[:TITLE_CHARACTERS_MAX]
    decided = await policies.read(tx)
    four_eyes = kind in decided.four_eyes
    review_id = await tx.fetchval(OPEN_SQL, tenant_id, kind, subject, title, four_eyes, proposed_by)
    if review_id is None:
        raise Refusal(Code.REQUEST_CONFLICT, reason="a review of it waits already")
    if _rule(kind, purpose) in decided.review_automatic and not four_eyes:
        await _conclude(tx, await _locked(tx, review_id), ReviewState.APPROVED, POLICY, "", "")
    return int(review_id)


def _rule(kind: ReviewKind, purpose: Purpose | None) -> str:
    return f"{kind}.{purpose}" if kind is ReviewKind.TEMPLATE else str(kind)


FIRST_SQL: LiteralString = "UPDATE review SET first_by = $2, first_at = now() WHERE id = $1"


async def approve(tx: db.Tx, review_id: int, who: str) -> ReviewRow:
    """Approve; where two people have to, the first one's word is kept and the review waits on.

    Raises Refusal where it does not wait any more, or for whoever proposed it or has approved it already.
    """
    review = await _locked(tx, review_id)
    own = who.startswith("user:") and _person(who) == _person(review.proposed_by)
    if own or _person(who) == _person(review.first_by):
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="somebody else has to approve this")
    if review.four_eyes and not review.first_by:
        await tx.execute(FIRST_SQL, review_id, who)
    else:
        await _conclude(tx, review, ReviewState.APPROVED, who, "", "")
    return await get(tx, review_id)


async def reject(tx: db.Tx, review_id: int, who: str, reason_code: str = "", text: str = "") -> ReviewRow:
    """Reject, for a reason of the list, or in words, or both. One person is enough, whoever it is.

    Raises Refusal where it does not wait any more, or where no reason is given.
    """
    review = await _locked(tx, review_id)
    await demand_reason(tx, review.kind, reason_code, text)
    await _conclude(tx, review, ReviewState.REJECTED, who, reason_code, text)
    return await get(tx, review_id)


async def demand_reason(tx: db.Tx, kind: str, reason_code: str, text: str) -> None:
    """Ask of a reason that it is one. Raises Refusal."""
    demand_text(text, "reason", REASON_CHARACTERS_MAX)
    demand(bool(reason_code or text.strip()), "reason", "a code of the list, or words")
    known = {reason.code for reason in await reasons(tx, kind)}
    demand(not reason_code or reason_code in known, "reason_code", f"one of {', '.join(sorted(known))}")


WITHDRAW_SQL: LiteralString = """
UPDATE review SET state = 'withdrawn', decided_at = now() WHERE kind = $1 AND subject = $2 AND state = 'waiting'
RETURNING id
"""


async def withdraw(tx: db.Tx, kind: ReviewKind | str, subject: int) -> bool:
    """Take back what waits; says whether anything did."""
    return await tx.fetchval(WITHDRAW_SQL, ReviewKind(kind), subject) is not None


LOCK_SQL: LiteralString = "SELECT state FROM review WHERE id = $1 FOR UPDATE"


async def _locked(tx: db.Tx, review_id: int) -> ReviewRow:
    """Return a review that waits, so that nobody decides beside us. Raises Refusal."""
    state = demand_found(await tx.fetchval(LOCK_SQL, review_id), review=review_id)
    if state != ReviewState.WAITING:
        raise Refusal(Code.REQUEST_CONFLICT, review=review_id, state=state)
    return await get(tx, review_id)


CONCLUDE_SQL: LiteralString = """
UPDATE review SET state = $2, decided_by = $3, reason_code = $4, reason = $5, decided_at = now() WHERE id = $1
"""


async def _conclude(
    tx: db.Tx, review: ReviewRow, state: ReviewState, who: str, reason_code: str, text: str
) -> None:
    """Write the decision down, do what it says, and owe the tenant the news."""
    await tx.execute(CONCLUDE_SQL, review.id, state, who, reason_code, text)
    known = {reason.code: reason for reason in await reasons(tx, review.kind)}
    picked = known.get(reason_code)
    zh, en = (
        " ".join(filter(None, [each, text])) for each in ((picked.zh, picked.en) if picked else ("", ""))
    )
    await DECIDED[review.kind](tx, review.subject, state is ReviewState.APPROVED, zh, who)
    await _announce(tx, review, state, reason_code, zh, en)


async def _announce(
    tx: db.Tx, review: ReviewRow, state: ReviewState, reason_code: str, zh: str, en: str
) -> None:
    """Owe the tenant the news. Who decided is not told."""
    kind, approved = review.kind, state is ReviewState.APPROVED
    name = _NAMES[kind]
    words = f"{name}“{review.title}”{'已通过审核' if approved else '未通过审核'}。{zh}\n\n"
    words += f"The {kind} “{review.title}” was {state}. {en}\n"
    await announcements.owe(
        tx,
        review.tenant_id,
        "review.decided",
        subject=f"{name}{'已通过' if approved else '未通过'}: {review.title}",
        words=words,
        body={
            "review_id": review.id,
            "kind": kind,
            "subject": review.subject,
            "title": review.title,
            "decision": state,
            "reason_code": reason_code,
            "reason": en,
            "reason_zh": zh,
        },
    )


_NAMES: Final[Mapping[ReviewKind, str]] = {
    ReviewKind.QUALIFICATION: "企业资质",
    ReviewKind.SIGNATURE: "短信签名",
    ReviewKind.TEMPLATE: "短信模板",
    ReviewKind.COMPLAINT: "投诉",
}


def _person(who: str) -> str:
    """Return which person an actor of the audit is (`user:7 …`), whatever e-mail it has by now.

    Whoever is at the machine's own keyboard is one person for the two of four eyes, and may approve what he made there:
    he could write the table by hand.
    """
    return who.partition(" ")[0] if who.startswith("user:") else who


REASONS_SQL: LiteralString = """
SELECT kind, code, zh, en FROM review_reason WHERE $1 = '' OR kind = $1 ORDER BY kind, position, code
"""


async def reasons(tx: db.Tx, kind: str = "") -> Sequence[ReviewReason]:
    """List what may be picked to reject a kind; '' is every kind."""
    return [ReviewReason(**dict(row)) for row in await tx.fetch(REASONS_SQL, kind)]


ROWS_SQL: LiteralString = """
SELECT r.id, r.tenant_id, t.name AS tenant, r.kind, r.subject, r.title, r.state, r.four_eyes, r.proposed_by, r.first_by,
       r.first_at, r.decided_by, r.reason_code, r.reason, r.created_at, r.decided_at
  FROM review r JOIN tenant t ON t.id = r.tenant_id
"""
# By state first and in its order: of years of reviews few wait.
PAGE_SQL: LiteralString = (
    ROWS_SQL
    + """
 WHERE r.state = $3 AND ($1::int IS NULL OR r.tenant_id = $1) AND ($2 = '' OR r.kind = $2) AND r.id > $4
 ORDER BY r.id LIMIT $5
"""
)


async def page(
    tx: db.Tx,
    tenant_id: TenantId | None,
    *,
    kind: ReviewKind | None = None,
    state: ReviewState = ReviewState.WAITING,
    after: int = 0,
    limit: int = PAGE_MAX,
) -> Sequence[ReviewRow]:
    """List a tenant's reviews (None: everybody's) behind the id `after`, the oldest first."""
    values = (tenant_id, kind or "", state, after, min(limit, PAGE_MAX))
    return [_row(row) for row in await tx.fetch(PAGE_SQL, *values)]


GET_SQL: LiteralString = (
    ROWS_SQL
    + """
 WHERE r.id = $1 AND ($2::int IS NULL OR r.tenant_id = $2)
"""
)


async def get(tx: db.Tx, review_id: int, tenant_id: TenantId | None = None) -> ReviewRow:
    """Return one review. Raises Refusal where the tenant (None: anybody) has none of this id."""
    return _row(demand_found(await tx.fetchrow(GET_SQL, review_id, tenant_id), review=review_id))


OF_SQL: LiteralString = (
    ROWS_SQL
    + """
 WHERE r.kind = $1 AND r.subject = $2 ORDER BY r.id DESC LIMIT $3
"""
)


async def history(tx: db.Tx, kind: ReviewKind | str, subject: int, limit: int = 50) -> Sequence[ReviewRow]:
    """List the reviews of one subject, the newest first."""
    return [_row(row) for row in await tx.fetch(OF_SQL, ReviewKind(kind), subject, min(limit, PAGE_MAX))]


def _row(row: db.Row) -> ReviewRow:
    columns: dict[str, Any] = dict(row)
    return ReviewRow(**{**columns, "kind": ReviewKind(row["kind"]), "state": ReviewState(row["state"])})
