"""Qualifications: who an enterprise is, as it says with documents, and as a reviewer has found.

Writes: qualification, qualification_step. Entry points: put(), submit(), withdraw(), decided(), lapse(), page(), get(),
steps(). A tenant has at most one that is being written or looked at, and beside it at most one that counts. The approved
one makes its tenant qualified and gives it its legal name; it lapses when the licence ends.
"""

from collections.abc import Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.control import announcements, documents, reviews, tenants
from hongyan.control.bounds import demand, demand_found, demand_text
from hongyan.observe import masked_number
from hongyan.vault import Vault, VaultError
from hongyan.vocab import phone
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId

NAME_CHARACTERS_MAX: Final = 120
BUSINESS_CHARACTERS_MAX: Final = 2_000
DOCUMENTS_MAX: Final = 20
PAGE_MAX: Final = 500
WARN_DAYS: Final = 30  # before a licence ends
LAPSES_MAX: Final = 500  # of one step
CLOCK: Final = "clock"  # who, where nobody did it


class QualificationState(StrEnum):
    """How far a qualification is."""

    DRAFT = "draft"  # the tenant still writes it
    REVIEWING = "reviewing"  # a person owes a decision
    APPROVED = "approved"  # it counts
    REJECTED = "rejected"  # for a reason; may be changed and handed in again
    LAPSED = "lapsed"  # it counted until the licence ended
    REPLACED = "replaced"  # a newer one counts


class Person(msgspec.Struct, frozen=True):
    """Who answers for what the enterprise sends."""

    name: str
    id_number: str  # of an identity card or passport
    phone: str  # E.164


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What an enterprise says of itself."""

    legal_name: str  # as the licence has it
    credit_code: str = ""  # unified social credit code; of mainland enterprises
    country: str = "CN"  # where it is registered: ISO alpha-2
    business: str = ""  # what it does, and whom it writes to
    person: Person
    licence_until: date | None = None  # None: it has no end
    document_ids: Sequence[int] = ()


class QualificationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A qualification as people see it: the person's name whole, the numbers masked."""

    id: int
    tenant_id: TenantId
    tenant: str
    state: QualificationState
    legal_name: str
    credit_code: str
    country: str
    business: str
    person: Person | None  # None: the tenant's key was shredded
    licence_until: date | None
    document_ids: Sequence[int]
    reason: str  # of the last decision
    proposed_by: str
    created_at: datetime
    changed_at: datetime


class QualificationStep(msgspec.Struct, frozen=True):
    """One step of a qualification."""

    at: datetime
    who: str
    state: QualificationState
    reason: str


# ---- what a tenant does

OPEN_SQL: LiteralString = """
SELECT id, state FROM qualification
 WHERE tenant_id = $1 AND state IN ('draft', 'reviewing', 'rejected') FOR UPDATE
"""
INSERT_SQL: LiteralString = """
INSERT INTO qualification (tenant_id, legal_name, credit_code, country, business, person_sealed, licence_until,
                           document_ids, proposed_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant_id) WHERE state IN ('draft', 'reviewing', 'rejected') DO NOTHING RETURNING id
"""
CHANGE_SQL: LiteralString = """
UPDATE qualification SET state = 'draft', legal_name = $2, credit_code = $3, country = $4, business = $5,
       person_sealed = $6, licence_until = $7, document_ids = $8, proposed_by = $9, changed_at = now()
 WHERE id = $1
"""


async def put(tx: db.Tx, vault: Vault, tenant_id: TenantId, draft: Draft, *, who: str) -> int:
    """Write, or write anew, what an enterprise says of itself; returns its id. It is not handed in yet.

    Raises Refusal for what cannot be so, or while an earlier one is looked at.
    """
    person = _sound(draft)
    held = sorted(set(draft.document_ids))
    await documents.demand_own(tx, tenant_id, held)
    sealed = vault.seal(tenant_id, msgspec.msgpack.encode(person))
    values = (draft.legal_name, draft.credit_code, draft.country, draft.business, sealed, draft.licence_until)
    now = await tx.fetchrow(OPEN_SQL, tenant_id)
    if now is None:
        number = await tx.fetchval(INSERT_SQL, tenant_id, *values, held, who)
        if number is None:
            raise Refusal(Code.REQUEST_CONFLICT, reason="another one is being written at this moment")
    else:
        if now["state"] == QualificationState.REVIEWING:
            raise Refusal(
                Code.REQUEST_CONFLICT, state=QualificationState.REVIEWING, reason="withdraw it first"
            )
        number = now["id"]
        await tx.execute(CHANGE_SQL, number, *values, held, who)
    await _write_down(tx, number, who, QualificationState.DRAFT, "")
    return int(number)


def _sound(draft: Draft) -> Person:
    """Ask of what is said whether it can be so; returns the person with a number as E.164."""
    demand_text(draft.legal_name, "legal_name", NAME_CHARACTERS_MAX)
    demand(draft.legal_name.strip() != "", "legal_name", "the name on the licence")
    demand_text(draft.business, "business", BUSINESS_CHARACTERS_MAX)
    country = draft.country
    demand(
        len(country) == 2 and country.isascii() and country.isalpha() and country.isupper(),
        "country",
        "ISO alpha-2",
    )
    mainland = country == "CN"
    demand(not mainland or is_credit_code(draft.credit_code), "credit_code", "18 characters of GB 32100-2015")
    demand(mainland or not draft.credit_code, "credit_code", "enterprises of the mainland have one")
    demand(len(set(draft.document_ids)) <= DOCUMENTS_MAX, "document_ids", f"at most {DOCUMENTS_MAX}")
    person = draft.person
    demand_text(person.name, "person.name", NAME_CHARACTERS_MAX)
    demand(person.name.strip() != "", "person.name", "who answers for what is sent")
    identity = person.id_number
    plain = 5 <= len(identity) <= 32 and identity.isascii() and identity.replace("-", "").isalnum()
    demand(plain, "person.id_number", "5 to 32 letters and digits")
    carded = len(identity) == 18 and identity[:17].isdigit()
    demand(
        not carded or is_identity_number(identity),
        "person.id_number",
        "its last digit is wrong (GB 11643-1999)",
    )
    try:
        number = phone.parse(person.phone)
    except phone.BadNumber as error:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="person.phone", reason=error.fault) from error
    return Person(person.name, identity, number.e164)


SUBMIT_SQL: LiteralString = """
UPDATE qualification SET state = 'reviewing', proposed_by = $2, changed_at = now()
 WHERE tenant_id = $1 AND state = 'draft' RETURNING id, legal_name, document_ids, licence_until
"""
ENDED_SQL: LiteralString = "SELECT $1::date < (now() AT TIME ZONE 'Asia/Shanghai')::date"


async def submit(tx: db.Tx, tenant_id: TenantId, *, who: str) -> int:
    """Hand the draft in; returns the review's id. Raises Refusal where there is none, or documents are missing."""
    row = await tx.fetchrow(SUBMIT_SQL, tenant_id, who)
    if row is None:
        raise Refusal(Code.REQUEST_CONFLICT, reason="there is no draft to hand in")
    kinds = {each.kind for each in await documents.demand_own(tx, tenant_id, row["document_ids"])}
    for kind in (documents.DocumentKind.LICENCE, documents.DocumentKind.PERSON_ID):
        demand(kind in kinds, "document_ids", f"a document of the kind {kind} is missing")
    demand(not await tx.fetchval(ENDED_SQL, row["licence_until"]), "licence_until", "the licence has ended")
    await _write_down(tx, row["id"], who, QualificationState.REVIEWING, "")
    return await reviews.open(
        tx, reviews.ReviewKind.QUALIFICATION, tenant_id, row["id"], row["legal_name"], proposed_by=who
    )


REVIEWING_SQL: LiteralString = "SELECT id FROM qualification WHERE tenant_id = $1 AND state = 'reviewing'"
WITHDRAW_SQL: LiteralString = """
UPDATE qualification SET state = 'draft', changed_at = now() WHERE id = $1 AND state = 'reviewing' RETURNING id
"""


async def withdraw(tx: db.Tx, tenant_id: TenantId, *, who: str) -> int:
    """Take back what is looked at; it is a draft again. Raises Refusal where nothing is."""
    number = await tx.fetchval(REVIEWING_SQL, tenant_id)
    # The review first, as whoever decides has it: in the other order the two would wait for each other.
    waited = number is not None and await reviews.withdraw(tx, reviews.ReviewKind.QUALIFICATION, number)
    if not waited or await tx.fetchval(WITHDRAW_SQL, number) is None:
        raise Refusal(Code.REQUEST_CONFLICT, reason="nothing is under review")
    await _write_down(tx, number, who, QualificationState.DRAFT, "")
    return int(number)


# ---- what becomes of it

DECIDE_SQL: LiteralString = """
UPDATE qualification SET state = $2, reason = $3, changed_at = now() WHERE id = $1 AND state = 'reviewing'
RETURNING tenant_id, legal_name
"""
REPLACE_SQL: LiteralString = """
UPDATE qualification SET state = 'replaced', changed_at = now()
 WHERE tenant_id = $1 AND id <> $2 AND state IN ('approved', 'lapsed') RETURNING id
"""


async def decided(tx: db.Tx, qualification_id: int, approved: bool, reason: str, *, who: str) -> None:
    """Hear what a review came to. A rejection leaves an earlier one that counts as it is."""
    state = QualificationState.APPROVED if approved else QualificationState.REJECTED
    row = await tx.fetchrow(DECIDE_SQL, qualification_id, state, reason)
    if row is None:
        raise Refusal(Code.REQUEST_CONFLICT, reason="the qualification is not under review")
    await _write_down(tx, qualification_id, who, state, reason)
    if approved:
        tenant_id = TenantId(row["tenant_id"])
        for older in await tx.fetch(REPLACE_SQL, tenant_id, qualification_id):
            await _write_down(tx, older["id"], who, QualificationState.REPLACED, "")
        await tenants.qualify(tx, tenant_id, row["legal_name"], who=who)


LAPSED_SQL: LiteralString = """
UPDATE qualification SET state = 'lapsed', changed_at = now()
 WHERE id IN (SELECT id FROM qualification
               WHERE state = 'approved' AND licence_until < (now() AT TIME ZONE 'Asia/Shanghai')::date
               ORDER BY licence_until LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING id, tenant_id, legal_name, licence_until
"""
WARNED_SQL: LiteralString = """
UPDATE qualification SET warned = true
 WHERE id IN (SELECT id FROM qualification
               WHERE state = 'approved' AND NOT warned
                 AND licence_until < (now() AT TIME ZONE 'Asia/Shanghai')::date + $2::int
               ORDER BY licence_until LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING tenant_id, legal_name, licence_until
"""


async def lapse(tx: db.Tx) -> int:
    """End what counts on licences that have ended, and warn those whose licence ends soon; returns how many lapsed.

    At most LAPSES_MAX: call again while it returns that many. A licence is good until the end of its last day in China.
    """
    ended = await tx.fetch(LAPSED_SQL, LAPSES_MAX)
    for row in ended:
        tenant_id, until = TenantId(row["tenant_id"]), row["licence_until"]
        await _write_down(tx, row["id"], CLOCK, QualificationState.LAPSED, "")
        await tenants.unqualify(tx, tenant_id, who=CLOCK, reason=f"the licence ended on {until}")
        await _announce(tx, tenant_id, row["legal_name"], until, ended=True)
    for row in await tx.fetch(WARNED_SQL, LAPSES_MAX, WARN_DAYS):
        tenant_id = TenantId(row["tenant_id"])
        await _announce(tx, tenant_id, row["legal_name"], row["licence_until"], ended=False)
    return len(ended)


async def _announce(tx: db.Tx, tenant_id: TenantId, legal_name: str, until: date, *, ended: bool) -> None:
    zh = (
        "营业执照已过期，只能使用沙箱密钥。请重新提交企业资质。"
        if ended
        else "营业执照即将到期，请及时重新提交企业资质。"
    )
    en = "has ended: sandbox keys alone may send" if ended else "ends soon"
    await announcements.owe(
        tx,
        tenant_id,
        "qualification.lapsed" if ended else "qualification.lapses",
        subject=f"{legal_name}: {'营业执照已过期' if ended else '营业执照即将到期'} {until}",
        words=f"{legal_name}（{until}）：{zh}\n\nThe licence of {legal_name} ({until}) {en}. Hand in a newer one.\n",
        body={"legal_name": legal_name, "licence_until": until, "ended": ended},
    )


STEP_SQL: LiteralString = """
INSERT INTO qualification_step (qualification_id, who, state, reason) VALUES ($1, $2, $3, $4)
"""


async def _write_down(
    tx: db.Tx, qualification_id: int, who: str, state: QualificationState, reason: str
) -> None:
    await tx.execute(STEP_SQL, qualification_id, who, state, reason)


# ---- looking

ROWS_SQL: LiteralString = """
SELECT q.id, q.tenant_id, t.name AS tenant, q.state, q.legal_name, q.credit_code, q.country, q.business, q.person_sealed,
       q.licence_until, q.document_ids, q.reason, q.proposed_by, q.created_at, q.changed_at
  FROM qualification q JOIN tenant t ON t.id = q.tenant_id
"""
PAGE_SQL: LiteralString = (
    ROWS_SQL
    + """
 WHERE ($1::int IS NULL OR q.tenant_id = $1) AND ($2 = '' OR q.state = $2) AND q.id > $3 ORDER BY q.id LIMIT $4
"""
)


async def page(
    tx: db.Tx,
    vault: Vault,
    tenant_id: TenantId | None,
    *,
    state: QualificationState | None = None,
    after: int = 0,
    limit: int = PAGE_MAX,
) -> Sequence[QualificationRow]:
    """List a tenant's qualifications (None: everybody's) behind the id `after`, the oldest first."""
    rows = await tx.fetch(PAGE_SQL, tenant_id, state or "", after, min(limit, PAGE_MAX))
    return [_row(row, vault) for row in rows]


GET_SQL: LiteralString = ROWS_SQL + " WHERE q.id = $1 AND ($2::int IS NULL OR q.tenant_id = $2)"


async def get(tx: db.Tx, vault: Vault, tenant_id: TenantId | None, qualification_id: int) -> QualificationRow:
    """Return one qualification. Raises Refusal where the tenant (None: anybody) has none of this id."""
    row = await tx.fetchrow(GET_SQL, qualification_id, tenant_id)
    return _row(demand_found(row, qualification=qualification_id), vault)


def _row(row: db.Row, vault: Vault) -> QualificationRow:
    columns = {**dict(row), "state": QualificationState(row["state"])}
    sealed = columns.pop("person_sealed")
    try:
        person = msgspec.msgpack.decode(vault.unseal(row["tenant_id"], sealed), type=Person)
    except VaultError:
        return QualificationRow(**columns, person=None)
    identity = person.id_number
    shown = min(2, len(identity) // 5)
    hidden = identity[:shown] + "*" * (len(identity) - 2 * shown) + identity[-shown:]
    return QualificationRow(**columns, person=Person(person.name, hidden, masked_number(person.phone)))


STEPS_SQL: LiteralString = """
SELECT at, who, state, reason FROM qualification_step WHERE qualification_id = $1 ORDER BY id DESC LIMIT $2
"""


async def steps(tx: db.Tx, qualification_id: int, limit: int = PAGE_MAX) -> Sequence[QualificationStep]:
    """List the steps of a qualification, the newest first."""
    rows = await tx.fetch(STEPS_SQL, qualification_id, min(limit, PAGE_MAX))
    return [
        QualificationStep(row["at"], row["who"], QualificationState(row["state"]), row["reason"])
        for row in rows
    ]


# ---- numbers of China


_LETTERS: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # no I, O, S, V, Z


def is_credit_code(code: str) -> bool:
    """Tell whether this is a unified social credit code, by its letters and its check character (GB 32100-2015 §4.2)."""
    if len(code) != 18 or not set(code) <= set(_LETTERS):
        return False
    total = sum(_LETTERS.index(letter) * pow(3, place, 31) for place, letter in enumerate(code[:17]))
    return _LETTERS[-total % 31] == code[17]


def is_identity_number(number: str) -> bool:
    """Tell whether the last digit of a resident's identity number is right (GB 11643-1999, ISO 7064 MOD 11-2)."""
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()
