"""What a reviewer is shown of a subject: all that the decision rests on.

Writes nothing. Entry points: look(), for a review; held(), for a message that waits.
"""

import uuid
from collections.abc import Sequence
from typing import LiteralString

import msgspec

from hongyan import db
from hongyan.control import documents, qualifications, reviews, signatures, template_rows
from hongyan.control.bounds import demand_found
from hongyan.control.documents import DocumentRow
from hongyan.control.qualifications import QualificationRow, QualificationStep
from hongyan.control.reviews import ReviewKind, ReviewRow
from hongyan.control.signatures import SignatureRow
from hongyan.control.template_rows import TemplateRow, TemplateVersion
from hongyan.vault import Vault
from hongyan.vocab.message import TenantId
from hongyan.way import hold
from hongyan.way.hold import Held


class ReviewAbout(msgspec.Struct, frozen=True, kw_only=True):
    """The subject: one of these, and the documents it rests on."""

    qualification: QualificationRow | None = None
    steps: Sequence[QualificationStep] = ()
    signature: SignatureRow | None = None
    template: TemplateRow | None = None  # with its live text
    version: TemplateVersion | None = None  # of the template: what is proposed
    message: Held | None = None
    documents: Sequence[DocumentRow] = ()
    earlier: Sequence[ReviewRow] = ()  # reviews of the same subject, the newest first


VERSION_SQL: LiteralString = "SELECT template_id, number FROM template_version WHERE id = $1"


async def look(tx: db.Tx, vault: Vault, review: ReviewRow) -> ReviewAbout:
    """Return what a review is about. Of a complaint the queue knows no more than its title."""
    tenant_id, subject = review.tenant_id, review.subject
    about = ReviewAbout(
        earlier=[row for row in await reviews.history(tx, review.kind, subject) if row.id != review.id]
    )
    replace = msgspec.structs.replace
    if review.kind is ReviewKind.QUALIFICATION:
        found = await qualifications.get(tx, vault, tenant_id, subject)
        proof = await documents.some(tx, tenant_id, found.document_ids)
        steps = await qualifications.steps(tx, subject)
        return replace(about, qualification=found, documents=proof, steps=steps)
    if review.kind is ReviewKind.SIGNATURE:
        named = await signatures.get(tx, subject, tenant_id)
        proof = await documents.some(tx, tenant_id, named.document_ids)
        return replace(about, signature=named, documents=proof)
    if review.kind is ReviewKind.TEMPLATE:
        place = demand_found(await tx.fetchrow(VERSION_SQL, subject), version=subject)
        template = await template_rows.get(tx, place["template_id"], tenant_id)
        version = await template_rows.version(tx, template.id, place["number"])
        return replace(about, template=template, version=version)
    return about


async def held(tx: db.Tx, vault: Vault, tenant_id: TenantId | None, message_id: uuid.UUID) -> Held:
    """Return a message that is held. Raises Refusal where the tenant (None: anybody) has none of this id that waits."""
    before = uuid.UUID(int=max(0, message_id.int - 1))
    found = await hold.waiting(tx, vault, tenant_id, 1, before)
    return demand_found(found[0] if found and found[0].id == message_id else None, message=str(message_id))
