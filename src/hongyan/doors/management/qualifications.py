"""Qualifications: an enterprise says who it is, hands it in, and follows what becomes of it."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control import documents, qualifications, reviews
from hongyan.control.documents import DocumentRow
from hongyan.control.permissions import Permission
from hongyan.control.qualifications import (
    Draft,
    Person,
    QualificationRow,
    QualificationState,
    QualificationStep,
)
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code

Id = Annotated[int, Meta(ge=1, le=INT_MAX)]


class AskedResponsible(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who answers for what the enterprise sends."""

    name: Annotated[str, Meta(min_length=1, max_length=qualifications.NAME_CHARACTERS_MAX)]
    id_number: Annotated[str, Meta(min_length=5, max_length=32)]
    phone: Annotated[str, Meta(min_length=5, max_length=32)]


class AskedQualification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an enterprise says of itself."""

    legal_name: Annotated[str, Meta(min_length=1, max_length=qualifications.NAME_CHARACTERS_MAX)]
    person: AskedResponsible
    credit_code: Annotated[
        str, Meta(max_length=18, description="GB 32100-2015; of mainland enterprises.")
    ] = ""
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")] = "CN"
    business: Annotated[str, Meta(max_length=qualifications.BUSINESS_CHARACTERS_MAX)] = ""
    licence_until: date | None = None  # null: it has no end
    document_ids: Annotated[list[Id], Meta(max_length=qualifications.DOCUMENTS_MAX)] = []


class AskedQualifications(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which qualifications."""

    state: QualificationState | None = None


class QualificationPage(msgspec.Struct, frozen=True):
    items: list[QualificationRow]
    next: str | None = None


class QualificationSheet(msgspec.Struct, frozen=True):
    """A qualification with all that belongs to it."""

    qualification: QualificationRow
    documents: Sequence[DocumentRow]
    steps: Sequence[QualificationStep]  # the newest first


class QualificationHandedIn(msgspec.Struct, frozen=True):
    """Under which number it is reviewed."""

    qualification: QualificationRow
    review_id: int


async def listed(call: Call) -> QualificationPage:
    asked = call.query(AskedQualifications)
    rows = await qualifications.page(
        call.tx,
        call.door.vault,
        call.tenant_id,
        state=asked.state,
        after=paging.after(asked),
        limit=asked.limit,
    )
    return QualificationPage(list(rows), paging.following(rows, asked))


async def get(call: Call) -> QualificationSheet:
    row = await qualifications.get(call.tx, call.door.vault, call.tenant_id, call.number())
    proof = await documents.some(call.tx, row.tenant_id, row.document_ids)
    return QualificationSheet(row, proof, await qualifications.steps(call.tx, row.id))


async def put(call: Call) -> QualificationRow:
    asked = call.body(AskedQualification)
    draft = Draft(
        legal_name=asked.legal_name,
        credit_code=asked.credit_code,
        country=asked.country,
        business=asked.business,
        person=Person(asked.person.name, asked.person.id_number, asked.person.phone),
        licence_until=asked.licence_until,
        document_ids=asked.document_ids,
    )
    number = await qualifications.put(call.tx, call.door.vault, call.tenant, draft, who=call.caller.name)
    call.note(f"qualification:{number}", legal_name=asked.legal_name, documents=asked.document_ids)
    return await qualifications.get(call.tx, call.door.vault, call.tenant, number)


async def submit(call: Call) -> QualificationHandedIn:
    review_id = await qualifications.submit(call.tx, call.tenant, who=call.caller.name)
    subject = (await reviews.get(call.tx, review_id)).subject
    call.note(f"qualification:{subject}", review=review_id)
    return QualificationHandedIn(
        await qualifications.get(call.tx, call.door.vault, call.tenant, subject), review_id
    )


async def withdraw(call: Call) -> QualificationRow:
    number = await qualifications.withdraw(call.tx, call.tenant, who=call.caller.name)
    call.note(f"qualification:{number}")
    return await qualifications.get(call.tx, call.door.vault, call.tenant, number)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/qualifications",
        name="listQualifications",
        summary="List qualifications of enterprises, the oldest first.",
        reach=Reach.ANY,
        permission=Permission.QUALIFICATION_READ,
        query=AskedQualifications,
        gives=QualificationPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="GET",
        path="/v1/qualifications/{id}",
        name="getQualification",
        summary="Look at one qualification, its documents and its steps. Numbers are masked.",
        reach=Reach.ANY,
        permission=Permission.QUALIFICATION_READ,
        gives=QualificationSheet,
        ids="integer",
        manages=get,
    ),
    Route(
        method="PUT",
        path="/v1/qualification",
        name="putQualification",
        summary="Write, or write anew, who the enterprise is. It is handed in by a call of its own.",
        reach=Reach.TENANT,
        permission=Permission.QUALIFICATION_WRITE,
        body=AskedQualification,
        example={
            "legal_name": "兰花科技有限公司",
            "credit_code": "91350100M000100Y43",
            "person": {"name": "王芳", "id_number": "11010519491231002X", "phone": "13800138000"},
            "business": "订单与物流通知",
            "licence_until": "2046-01-01",
            "document_ids": [1, 2],
        },
        gives=QualificationRow,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        changes=False,
        manages=put,
    ),
    Route(
        method="POST",
        path="/v1/qualification/submit",
        name="submitQualification",
        summary="Hand the draft in for review.",
        reach=Reach.TENANT,
        permission=Permission.QUALIFICATION_WRITE,
        gives=QualificationHandedIn,
        codes=(Code.REQUEST_CONFLICT,),
        manages=submit,
    ),
    Route(
        method="POST",
        path="/v1/qualification/withdraw",
        name="withdrawQualification",
        summary="Take back what is under review; it is a draft again.",
        reach=Reach.TENANT,
        permission=Permission.QUALIFICATION_WRITE,
        gives=QualificationRow,
        codes=(Code.REQUEST_CONFLICT,),
        changes=False,
        manages=withdraw,
    ),
)
