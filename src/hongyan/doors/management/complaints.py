"""Complaints: recorded from operators, 12321, regulators and persons; worked on; counted."""

from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from hongyan.control import complaints
from hongyan.control.complaints import ComplaintRate, ComplaintRow
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.management import paging
from hongyan.doors.management.consents import Moment, Number
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code
from hongyan.way import consent, optout
from hongyan.way.complaint import ComplaintSource, ComplaintState

Text = Annotated[str, Meta(max_length=complaints.TEXT_CHARACTERS_MAX)]
Reference = Annotated[str, Meta(max_length=64, description="The file number of whoever passed it on.")]


class AskedComplaint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A complaint to be kept."""

    number: Number
    source: ComplaintSource
    text: Text = ""
    reference: Reference = ""
    received_at: Annotated[Moment, Meta(description="None: now.")] | None = None
    message_id: Annotated[UUID, Meta(description="None: the last one to the number.")] | None = None


class AskedComplaintChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far it has come, and what was answered."""

    state: ComplaintState
    answer: Annotated[Text, Meta(min_length=1)] | None = None
    reference: Reference | None = None


class AskedComplaints(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which complaints."""

    state: ComplaintState | None = None
    overdue: Annotated[bool, Meta(description="Only open ones whose answer is late.")] = False


class AskedComplaintRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From when, to when (not included); at most 92 days."""

    since: Moment = msgspec.field(name="from")
    until: Moment = msgspec.field(name="to")


class ComplaintPage(msgspec.Struct, frozen=True):
    """The newest first."""

    items: list[ComplaintRow]
    next: str | None = None


class ComplaintRates(msgspec.Struct, frozen=True):
    """Days, tenants and channels that had complaints."""

    items: list[ComplaintRate]


async def record(call: Call) -> ComplaintRow:
    asked = call.body(AskedComplaint)
    async with call.door.database.transaction() as tx:
        row, stopped = await complaints.record(
            tx,
            call.door.vault,
            call.tenant_id,
            number=asked.number,
            source=asked.source,
            text=asked.text,
            reference=asked.reference,
            received_at=asked.received_at,
            message_id=asked.message_id,
        )
        (whom,) = stopped
        person = consent.shown_index(whom.phone_index)
        call.note(f"complaint:{row.id}", source=asked.source, person=person, tenant=row.tenant_id)
        await call.record(tx)
    await optout.tell(call.door.database, stopped)
    return row


async def listed(call: Call) -> ComplaintPage:
    asked = call.query(AskedComplaints)
    rows = await complaints.page(
        call.tx,
        call.door.vault,
        call.tenant_id,
        paging.before(asked),
        asked.limit,
        state=asked.state,
        overdue=asked.overdue,
    )
    return ComplaintPage(list(rows), paging.following(rows, asked))


async def get(call: Call) -> ComplaintRow:
    return await complaints.one(call.tx, call.door.vault, call.tenant_id, call.number())


async def change(call: Call) -> ComplaintRow:
    asked = call.body(AskedComplaintChange)
    row = await complaints.change(
        call.tx,
        call.door.vault,
        call.tenant_id,
        call.number(),
        state=asked.state,
        answer=asked.answer,
        reference=asked.reference,
    )
    call.note(f"complaint:{row.id}", state=asked.state, answered=asked.answer is not None)
    return row


async def rates(call: Call) -> ComplaintRates:
    asked = call.query(AskedComplaintRates)
    return ComplaintRates(list(await complaints.rates(call.tx, call.tenant_id, asked.since, asked.until)))


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/complaints",
        name="recordComplaint",
        summary="Record a complaint; the person hears no promotion of the tenant any more.",
        reach=Reach.ANY,
        permission=Permission.CONSENTS_WRITE,
        body=AskedComplaint,
        example={
            "number": "+8613800138000",
            "source": "12321",
            "text": "未经同意的营销短信",
            "reference": "A-17",
        },
        gives=ComplaintRow,
        status=201,
        codes=(*BODY, Code.NUMBER_INVALID),
        changes=False,
        own_transactions=True,
        manages=record,
    ),
    Route(
        method="GET",
        path="/v1/complaints",
        name="listComplaints",
        summary="List complaints, the newest first, by state, or those whose answer is late.",
        reach=Reach.ANY,
        permission=Permission.CONSENTS_READ,
        query=AskedComplaints,
        gives=ComplaintPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="GET",
        path="/v1/complaints/rates",
        name="getComplaintRates",
        summary="Count complaints by UTC day, tenant and channel against what was delivered.",
        reach=Reach.ANY,
        permission=Permission.CONSENTS_READ,
        query=AskedComplaintRates,
        gives=ComplaintRates,
        codes=QUERY,
        manages=rates,
    ),
    Route(
        method="GET",
        path="/v1/complaints/{id}",
        name="getComplaint",
        summary="Look at one complaint.",
        reach=Reach.ANY,
        permission=Permission.CONSENTS_READ,
        gives=ComplaintRow,
        ids="integer",
        manages=get,
    ),
    Route(
        method="PATCH",
        path="/v1/complaints/{id}",
        name="changeComplaint",
        summary="Say how far a complaint has come, and what was answered.",
        reach=Reach.ANY,
        permission=Permission.CONSENTS_WRITE,
        body=AskedComplaintChange,
        example={"state": "answered", "answer": "已退订并致歉"},
        gives=ComplaintRow,
        codes=BODY,
        ids="integer",
        changes=False,
        manages=change,
    ),
)
