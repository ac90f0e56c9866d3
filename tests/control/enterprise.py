"""An enterprise with all that it has to hand in, and who decides about it."""

from collections.abc import Sequence
from datetime import date

import msgspec

from hongyan import db
from hongyan.control import documents, qualifications
from hongyan.control.qualifications import Draft, Person

from . import files
from .conftest import Office

REVIEWER = "user:9 reviewer@example.com"
OWNER = "user:1 owner@example.com"
DRAFT = Draft(
    legal_name="兰花科技有限公司",
    credit_code="91350100M000100Y43",
    business="订单通知",
    person=Person("王芳", "11010519491231002X", "13800138000"),
    licence_until=date(2099, 1, 1),
)


async def hand_in(
    tx: db.Tx,
    office: Office,
    draft: Draft = DRAFT,
    kinds: Sequence[documents.DocumentKind] = (
        documents.DocumentKind.LICENCE,
        documents.DocumentKind.PERSON_ID,
    ),
) -> int:
    """Write it, with its documents, and hand it in; returns the review's id."""
    ids = [
        (await documents.store(tx, office.vault, office.tenant_id, kind, "a.png", files.png(), by=OWNER)).id
        for kind in kinds
    ]
    draft = msgspec.structs.replace(draft, document_ids=ids)
    await qualifications.put(tx, office.vault, office.tenant_id, draft, who=OWNER)
    return await qualifications.submit(tx, office.tenant_id, who=OWNER)
