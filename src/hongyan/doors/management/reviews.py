"""The queue of everything that waits for a person: enterprises, signatures, templates, complaints, held messages."""

import uuid
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan import db
from hongyan.control import reviewed, reviews
from hongyan.control.permissions import Permission
from hongyan.control.reviewed import ReviewAbout
from hongyan.control.reviews import ReviewReason, ReviewRow, ReviewState
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way import hold, owing
from hongyan.way.hold import Held

MESSAGE: Final = "message"  # what is held; its id is message:UUID


class AskedReviews(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which reviews. `kind=message` lists held messages, and these alone."""

    kind: Annotated[str, Meta(pattern="^(qualification|signature|template|complaint|message)$")] | None = None
    state: ReviewState = ReviewState.WAITING
    cursor: Annotated[str, Meta(max_length=40, description="`next` of the page before.")] = ""
    limit: Annotated[int, Meta(ge=1, le=paging.LIMIT_MAX)] = 100


class AskedReasons(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of which kind; none: of all."""

    kind: Annotated[str, Meta(pattern="^(qualification|signature|template|complaint|message)$")] | None = None


class AskedRejection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why: a code of the list, or words, or both."""

    reason_code: Annotated[str, Meta(max_length=64)] = ""
    reason: Annotated[str, Meta(max_length=reviews.REASON_CHARACTERS_MAX)] = ""


class ReviewEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the queue."""

    id: str  # a number, or message:UUID
    tenant_id: TenantId | None
    tenant: str
    kind: str
    subject: str
    title: str  # of a message its text
    state: ReviewState
    four_eyes: bool = False
    proposed_by: str = ""
    first_by: str = ""
    first_at: datetime | None = None
    decided_by: str = ""
    reason_code: str = ""
    reason: str = ""
    created_at: datetime
    decided_at: datetime | None = None


class ReviewPage(msgspec.Struct, frozen=True):
    items: list[ReviewEntry]
    next: str | None = None


class ReviewSheet(msgspec.Struct, frozen=True):
    """One line of the queue and all that the decision rests on."""

    review: ReviewEntry
    about: ReviewAbout


class ReviewReasons(msgspec.Struct, frozen=True):
    items: list[ReviewReason]


async def listed(call: Call) -> ReviewPage:
    asked = call.query(AskedReviews)
    if asked.kind == MESSAGE:
        return await _held(call, asked)
    page = paging.Asked(cursor=asked.cursor, limit=asked.limit)
    kind = None if asked.kind is None else reviews.ReviewKind(asked.kind)
    rows = await reviews.page(
        call.tx, call.tenant_id, kind=kind, state=asked.state, after=paging.after(page), limit=asked.limit
    )
    return ReviewPage([_entry(row) for row in rows], paging.following(rows, page))


async def _held(call: Call, asked: AskedReviews) -> ReviewPage:
    """List held messages: what is decided about them stands in the messages themselves, not here."""
    if asked.state is not ReviewState.WAITING:
        return ReviewPage([])
    try:
        after = uuid.UUID(asked.cursor) if asked.cursor else hold.FIRST
    except ValueError:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="cursor", reason="as `next` has it") from None
    rows = await hold.waiting(call.tx, call.door.vault, call.tenant_id, asked.limit, after)
    following = str(rows[-1].id) if len(rows) == asked.limit else None
    return ReviewPage([_message(row) for row in rows], following)


def _entry(row: ReviewRow) -> ReviewEntry:
    columns = msgspec.structs.asdict(row)
    return ReviewEntry(**{**columns, "id": str(row.id), "subject": str(row.subject), "kind": str(row.kind)})


def _message(row: Held) -> ReviewEntry:
    return ReviewEntry(
        id=f"{MESSAGE}:{row.id}",
        tenant_id=None,
        tenant=row.tenant,
        kind=MESSAGE,
        subject=str(row.id),
        title=row.text or "",
        state=ReviewState.WAITING,
        proposed_by=row.app,
        created_at=row.accepted_at,
    )


async def get(call: Call) -> ReviewSheet:
    named = _named(call)
    if isinstance(named, uuid.UUID):
        row = await reviewed.held(call.tx, call.door.vault, call.tenant_id, named)
        return ReviewSheet(_message(row), ReviewAbout(message=row))
    review = await reviews.get(call.tx, named, call.tenant_id)
    return ReviewSheet(_entry(review), await reviewed.look(call.tx, call.door.vault, review))


def _named(call: Call) -> int | uuid.UUID:
    """Return the review, or the held message, that the path names. Raises Refusal."""
    written = call.path["id"]
    kind, colon, rest = written.partition(":")
    try:
        if colon and kind == MESSAGE:
            return uuid.UUID(rest)
    except ValueError:
        pass
    if not (written.isascii() and written.isdigit()) or int(written[:20]) > INT_MAX:
        raise Refusal(Code.REQUEST_NOT_FOUND, id=written[:64])
    return int(written)


async def approve(call: Call) -> ReviewEntry:
    return await _decide(call, None)


async def reject(call: Call) -> ReviewEntry:
    return await _decide(call, call.body(AskedRejection))


async def _decide(call: Call, rejection: AskedRejection | None) -> ReviewEntry:
    """Decide in a transaction of our own: who is owed news of a message is woken after its commit."""
    named = _named(call)
    why = {} if rejection is None else {"reason_code": rejection.reason_code, "reason": rejection.reason}
    async with call.door.database.transaction() as tx:
        if isinstance(named, uuid.UUID):
            entry = await _decide_message(call, tx, named, rejection)
        else:
            entry = await _decide_review(call, tx, named, rejection)
        call.note(f"review:{entry.id}", decision=entry.state, kind=entry.kind, **why)
        await call.record(tx)
    if isinstance(named, uuid.UUID):
        for topic in (owing.OWED_TOPIC, owing.TOLD_TOPIC):
            await call.door.database.notify(topic)
    return entry


async def _decide_review(
    call: Call, tx: db.Tx, review_id: int, rejection: AskedRejection | None
) -> ReviewEntry:
    await reviews.get(tx, review_id, call.tenant_id)
    who = call.caller.name
    if rejection is None:
        return _entry(await reviews.approve(tx, review_id, who))
    return _entry(await reviews.reject(tx, review_id, who, rejection.reason_code, rejection.reason))


async def _decide_message(
    call: Call, tx: db.Tx, message_id: uuid.UUID, rejection: AskedRejection | None
) -> ReviewEntry:
    row = await reviewed.held(tx, call.door.vault, call.tenant_id, message_id)
    if rejection is None:
        done, state = await hold.release(tx, [message_id]), ReviewState.APPROVED
    else:
        await reviews.demand_reason(tx, MESSAGE, rejection.reason_code, rejection.reason)
        done, state = await hold.refuse(tx, [message_id]), ReviewState.REJECTED
    if not done:
        raise Refusal(
            Code.REQUEST_CONFLICT, message=str(message_id), reason="it is not held any more, or has run out"
        )
    return msgspec.structs.replace(
        _message(row),
        state=state,
        decided_by=call.caller.name,
        reason_code="" if rejection is None else rejection.reason_code,
        reason="" if rejection is None else rejection.reason,
    )


async def list_reasons(call: Call) -> ReviewReasons:
    asked = call.query(AskedReasons)
    return ReviewReasons(list(await reviews.reasons(call.tx, asked.kind or "")))


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/reviews",
        name="listReviews",
        summary="List what waits for a decision, the oldest first.",
        reach=Reach.ANY,
        permission=Permission.REVIEWS_READ,
        query=AskedReviews,
        gives=ReviewPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="GET",
        path="/v1/reviews/{id}",
        name="getReview",
        summary="Look at what a decision rests on.",
        reach=Reach.ANY,
        permission=Permission.REVIEWS_READ,
        gives=ReviewSheet,
        ids="text",
        manages=get,
    ),
    Route(
        method="POST",
        path="/v1/reviews/{id}/approve",
        name="approveReview",
        summary="Approve. Where two people have to, the first one's word is kept and the review waits on.",
        reach=Reach.ANY,
        permission=Permission.REVIEWS_DECIDE,
        gives=ReviewEntry,
        codes=(Code.REQUEST_CONFLICT,),
        ids="text",
        own_transactions=True,
        manages=approve,
    ),
    Route(
        method="POST",
        path="/v1/reviews/{id}/reject",
        name="rejectReview",
        summary="Reject, for a reason that the tenant is told.",
        reach=Reach.ANY,
        permission=Permission.REVIEWS_DECIDE,
        body=AskedRejection,
        example={"reason_code": "licence_blurred", "reason": "the second line cannot be read"},
        gives=ReviewEntry,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        ids="text",
        own_transactions=True,
        manages=reject,
    ),
    Route(
        method="GET",
        path="/v1/review-reasons",
        name="listReviewReasons",
        summary="List reasons to reject, to pick from.",
        reach=Reach.ANY,
        permission=Permission.REVIEWS_READ,
        query=AskedReasons,
        gives=ReviewReasons,
        codes=QUERY,
        manages=list_reasons,
    ),
)
