"""Signatures: proposed by tenants with what proves them, decided by people, used only once approved.

Writes: signature. Entry points: propose(), change(), withdraw(), move(), decided(), page(), get(), counts(), find().
A name is the enterprise's own, its trademark's or its app's, or somebody else's who authorised it (工信管函〔2023〕794号):
people look at the proof, the rules that need no eyes are asked here.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.control import documents, extensions, filings, reviews
from hongyan.control.bounds import demand, demand_found, demand_text
from hongyan.control.filings import FilingState
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.vocab.plain import fold

NAME_CHARACTERS_MIN: Final = 2
NAME_CHARACTERS_MAX: Final = 16  # the mainland clouds take 2 to 12 or 16
NOTE_CHARACTERS_MAX: Final = 500
SIGNATURES_MAX: Final = 2_000  # of a tenant: every process has them in memory
DOCUMENTS_MAX: Final = 10
PAGE_MAX: Final = 500
GENERAL_FORM: Final = re.compile(r"[0-9]{0,12}")
# Names made of these alone say nothing about who writes; operators refuse them as neutral.
NEUTRAL: Final = (
    "测试", "通知", "验证码", "验证", "短信", "系统", "提醒", "客服", "公告", "公司", "平台", "商城", "会员", "中心",
    "温馨提示", "提示", "信息", "消息", "官方", "test", "testing", "notice", "notification", "sms", "message", "code",
    "verify", "verification", "system", "service", "info", "official",
)  # fmt: skip


class SignatureState(StrEnum):
    """How far the review of a signature has come."""

    DRAFT = "draft"  # the tenant still writes it
    REVIEWING = "reviewing"  # a human owes a decision
    APPROVED = "approved"  # may be used
    REJECTED = "rejected"  # may not; may be changed and proposed again
    CANCELED = "canceled"  # the tenant took it back
    DISABLED = "disabled"  # was approved, and may not be used for now


# From where each state may be reached.
MOVES: Final[Mapping[SignatureState, Sequence[SignatureState]]] = {
    SignatureState.DRAFT: (),
    SignatureState.REVIEWING: (
        SignatureState.DRAFT,
        SignatureState.REJECTED,
        SignatureState.CANCELED,
        SignatureState.APPROVED,
    ),
    SignatureState.APPROVED: (SignatureState.REVIEWING, SignatureState.DISABLED),
    SignatureState.REJECTED: (SignatureState.REVIEWING,),
    SignatureState.CANCELED: (SignatureState.DRAFT, SignatureState.REVIEWING, SignatureState.REJECTED),
    SignatureState.DISABLED: (SignatureState.APPROVED,),
}


class SignatureSource(StrEnum):
    """Whose name it is."""

    COMPANY = "company"  # the enterprise's own, whole or short
    TRADEMARK = "trademark"  # one it has registered
    APP = "app"  # of an app of its own that is in a store
    OTHER = "other"  # 他用: another enterprise's, by a letter of authorisation


class SignatureRow(msgspec.Struct, frozen=True, kw_only=True):
    """A signature in a list, with its filings."""

    id: int
    tenant_id: TenantId
    tenant: str
    name: str
    state: SignatureState
    source: SignatureSource
    document_ids: Sequence[int]
    note: str
    reason: str  # of the last decision
    extension: str  # behind every access number but where it has one of its own
    filings: Mapping[str, FilingState]  # by operator of the mainland
    created_at: datetime
    changed_at: datetime


class SignatureBrief(msgspec.Struct, frozen=True):
    """The same in a table of few columns."""

    id: int
    tenant: str
    name: str
    state: SignatureState
    extension: str
    filed: Sequence[str]  # operators where its filing is ok
    created_at: datetime


# ---- what tenants do

COUNT_SQL: LiteralString = "SELECT count(*) FROM signature WHERE tenant_id = $1"
PROPOSE_SQL: LiteralString = """
INSERT INTO signature (tenant_id, name, source, document_ids, note, extension) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id
"""


async def propose(
    tx: db.Tx,
    tenant_id: TenantId,
    name: str,
    *,
    source: SignatureSource = SignatureSource.COMPANY,
    document_ids: Collection[int] = (),
    note: str = "",
    extension: str = "",
    who: str = "",
) -> int:
    """Propose a signature for review: the name alone, without 【】. `extension`: digits after our number.

    `who`, as the audit has it, may not approve it. Raises Refusal for a name that is taken or cannot stand before a
    text, or proof that is not there.
    """
    demand_signature_name(name)
    demand_text(note, "note", NOTE_CHARACTERS_MAX)
    demand(GENERAL_FORM.fullmatch(extension) is not None, "extension", "at most 12 digits")
    count = await tx.fetchval(COUNT_SQL, tenant_id)
    demand(count < SIGNATURES_MAX, "name", f"a tenant has {SIGNATURES_MAX:,} signatures at most")
    proof = await _proof(tx, tenant_id, source, document_ids)
    number = await tx.fetchval(PROPOSE_SQL, tenant_id, name, source, proof, note, extension)
    if number is None:
        raise _taken()
    await reviews.open(tx, reviews.ReviewKind.SIGNATURE, tenant_id, int(number), name, proposed_by=who)
    return int(number)


OLD_SQL: LiteralString = """
SELECT tenant_id, name, state, source, document_ids, note FROM signature
 WHERE id = $1 AND ($2::int IS NULL OR tenant_id = $2) FOR NO KEY UPDATE
"""
NAMED_SQL: LiteralString = "SELECT id FROM signature WHERE tenant_id = $1 AND name = $2 AND id <> $3"
CHANGE_SQL: LiteralString = """
UPDATE signature SET name = $2, source = $3, document_ids = $4, note = $5, state = 'reviewing', reason = '',
       changed_at = now()
 WHERE id = $1
"""


async def change(
    tx: db.Tx,
    signature_id: int,
    tenant_id: TenantId | None,
    *,
    who: str,
    name: str | None = None,
    source: SignatureSource | None = None,
    document_ids: Collection[int] | None = None,
    note: str | None = None,
) -> None:
    """Change what is given and propose it anew: until it is approved again, nobody may use it.

    Under another name its filings are void. Raises Refusal as propose() does, or where its state does not allow it.
    """
    old = demand_found(await tx.fetchrow(OLD_SQL, signature_id, tenant_id), signature=signature_id)
    state = SignatureState(old["state"])
    if state is not SignatureState.REVIEWING and state not in MOVES[SignatureState.REVIEWING]:
        raise _unmoved(signature_id, state, SignatureState.REVIEWING)
    name = old["name"] if name is None else name
    note = old["note"] if note is None else note
    if name != old["name"]:
        demand_signature_name(name)
        taken = await tx.fetchval(NAMED_SQL, old["tenant_id"], name, signature_id)
        if taken is not None:
            raise _taken()
        await filings.void(tx, signature_id, who=who)
    demand_text(note, "note", NOTE_CHARACTERS_MAX)
    source = SignatureSource(old["source"]) if source is None else source
    own = TenantId(old["tenant_id"])
    proof = await _proof(tx, own, source, old["document_ids"] if document_ids is None else document_ids)
    await reviews.withdraw(tx, reviews.ReviewKind.SIGNATURE, signature_id)
    try:
        await tx.execute(CHANGE_SQL, signature_id, name, source, proof, note)
    except db.Unstorable:  # somebody took the name between the look and now
        raise _taken() from None
    await reviews.open(tx, reviews.ReviewKind.SIGNATURE, own, signature_id, name, proposed_by=who)


def _taken() -> Refusal:
    reason = "the tenant has a signature of this name"
    return Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="name", reason=reason)


async def withdraw(tx: db.Tx, signature_id: int, tenant_id: TenantId | None) -> None:
    """Take back what nobody has approved. Raises Refusal where there is none, or it is approved or disabled."""
    demand_found(await tx.fetchrow(OLD_SQL, signature_id, tenant_id), signature=signature_id)
    await move(tx, signature_id, SignatureState.CANCELED)


def demand_signature_name(name: str) -> None:
    """Ask of a name what operators ask of it before they look at any proof; case is kept."""
    demand(
        NAME_CHARACTERS_MIN <= len(name) <= NAME_CHARACTERS_MAX,
        "name",
        f"{NAME_CHARACTERS_MIN} to {NAME_CHARACTERS_MAX} characters",
    )
    plain = all(unicodedata.category(each)[0] in "LM" or each.isdecimal() for each in name)
    demand(
        plain and name == unicodedata.normalize("NFKC", name),
        "name",
        "letters, Chinese characters and digits alone, without 【】, blanks or symbols",
    )
    demand(all(map(fold, name)), "name", "characters that show something by themselves")
    demand(not name.isdecimal(), "name", "not digits alone")
    demand(_NEUTRAL_FORM.fullmatch(name.casefold()) is None, "name", "a name that says who writes")


_NEUTRAL_FORM: Final = re.compile("(?:" + "|".join(sorted(NEUTRAL, key=len, reverse=True)) + "|[0-9])+")


async def _proof(
    tx: db.Tx, tenant_id: TenantId, source: SignatureSource, document_ids: Collection[int]
) -> Sequence[int]:
    wanted = sorted(set(document_ids))
    demand(len(wanted) <= DOCUMENTS_MAX, "document_ids", f"at most {DOCUMENTS_MAX} documents")
    found = await documents.demand_own(tx, tenant_id, wanted)
    authorised = source is not SignatureSource.OTHER or any(
        row.kind is documents.DocumentKind.AUTHORISATION for row in found
    )
    demand(authorised, "document_ids", "another's name needs its letter of authorisation among the documents")
    return wanted


# ---- what people decide

MOVE_SQL: LiteralString = """
UPDATE signature SET state = $2, reason = $4, changed_at = now() WHERE id = $1 AND state = ANY($3::text[]) RETURNING id
"""
STATE_SQL: LiteralString = "SELECT state FROM signature WHERE id = $1"


async def move(tx: db.Tx, signature_id: int, state: SignatureState, reason: str = "") -> None:
    """Decide about a signature; the tenant reads the reason. An approved one gets its extensions.

    Raises Refusal where there is none or MOVES does not lead there.
    """
    demand_text(reason, "reason", NOTE_CHARACTERS_MAX)
    if await tx.fetchval(MOVE_SQL, signature_id, state, MOVES[state], reason) is None:
        raise _unmoved(signature_id, await tx.fetchval(STATE_SQL, signature_id), state)
    await reviews.withdraw(
        tx, reviews.ReviewKind.SIGNATURE, signature_id
    )  # what waited, where no review decided
    if state is SignatureState.APPROVED:
        await extensions.assign_everywhere(tx, signature_id)


async def decided(tx: db.Tx, signature_id: int, approved: bool, reason: str) -> None:
    """Hear what a review came to."""
    await move(tx, signature_id, SignatureState.APPROVED if approved else SignatureState.REJECTED, reason)


async def enable(tx: db.Tx, signature_id: int, *, enabled: bool, reason: str = "") -> None:
    """Let an approved signature be used again, or by nobody for now. What is reviewed, the review alone decides."""
    state = SignatureState(demand_found(await tx.fetchval(STATE_SQL, signature_id), signature=signature_id))
    wanted = SignatureState.APPROVED if enabled else SignatureState.DISABLED
    if state is SignatureState.REVIEWING:
        raise _unmoved(signature_id, state, wanted)
    await move(tx, signature_id, wanted, reason)


def _unmoved(signature_id: int, now: str | None, wanted: SignatureState) -> Refusal:
    if now is None:
        return Refusal(Code.REQUEST_NOT_FOUND, signature=signature_id)
    return Refusal(
        Code.REQUEST_CONFLICT, state=now, reason=f"a signature that is {now} cannot become {wanted}"
    )


EXTEND_SQL: LiteralString = (
    "UPDATE signature SET extension = $2, changed_at = now() WHERE id = $1 RETURNING id"
)


async def extend(tx: db.Tx, signature_id: int, extension: str) -> None:
    """Set the digits behind every access number where it has none of its own; "" takes them away."""
    demand(GENERAL_FORM.fullmatch(extension) is not None, "extension", "at most 12 digits")
    demand_found(await tx.fetchval(EXTEND_SQL, signature_id, extension), signature=signature_id)


# ---- looking

FIND_SQL: LiteralString = "SELECT id FROM signature WHERE tenant_id = $1 AND name = $2"


async def find(tx: db.Tx, tenant_id: TenantId, name: str) -> int:
    """Find a signature of a tenant by name. Raises Refusal."""
    return int(
        demand_found(await tx.fetchval(FIND_SQL, tenant_id, name), Code.SIGN_NOT_FOUND, signature=name)
    )


PAGE_SQL: LiteralString = """
SELECT s.id, s.tenant_id, t.name AS tenant, s.name, s.state, s.source, s.document_ids, s.note, s.reason, s.extension,
       s.created_at, s.changed_at,
       ARRAY(SELECT f.operator FROM filing f WHERE f.signature_id = s.id ORDER BY f.operator) AS operators,
       ARRAY(SELECT f.state FROM filing f WHERE f.signature_id = s.id ORDER BY f.operator) AS filing_states
  FROM signature s JOIN tenant t ON t.id = s.tenant_id
 WHERE s.id > $1 AND ($2::int IS NULL OR s.tenant_id = $2) AND ($3::int IS NULL OR s.id = $3)
   AND ($4 = '' OR s.state = $4) AND ($5 = '' OR strpos(lower(s.name), lower($5)) > 0)
 ORDER BY s.id LIMIT $6
"""


async def page(
    tx: db.Tx,
    tenant_id: TenantId | None = None,
    *,
    state: SignatureState | None = None,
    named: str = "",
    after: int = 0,
    limit: int = PAGE_MAX,
) -> Sequence[SignatureRow]:
    """List signatures behind the id `after`, at most `limit` (and PAGE_MAX); `named`: a piece of the name."""
    rows = await tx.fetch(PAGE_SQL, after, tenant_id, None, state or "", named, min(limit, PAGE_MAX))
    return [_row(row) for row in rows]


async def get(tx: db.Tx, signature_id: int, tenant_id: TenantId | None = None) -> SignatureRow:
    """Return one signature. Raises Refusal where there is none, or it is another tenant's."""
    rows = await tx.fetch(PAGE_SQL, 0, tenant_id, signature_id, "", "", 1)
    return _row(demand_found(rows[0] if rows else None, signature=signature_id))


def _row(row: db.Row) -> SignatureRow:
    columns = dict(row)
    known = dict(zip(columns.pop("operators"), map(FilingState, columns.pop("filing_states")), strict=True))
    return SignatureRow(
        **{
            **columns,
            "state": SignatureState(row["state"]),
            "source": SignatureSource(row["source"]),
            "filings": dict.fromkeys(filings.OPERATORS, FilingState.NONE) | known,
        }
    )


COUNTS_SQL: LiteralString = """
SELECT state, count(*) AS signatures FROM signature WHERE $1::int IS NULL OR tenant_id = $1 GROUP BY state
"""


async def counts(tx: db.Tx, tenant_id: TenantId | None = None) -> Mapping[SignatureState, int]:
    """Count signatures by state."""
    found = {SignatureState(row["state"]): row["signatures"] for row in await tx.fetch(COUNTS_SQL, tenant_id)}
    return {state: found.get(state, 0) for state in SignatureState}


async def every(tx: db.Tx) -> Sequence[SignatureBrief]:
    """List all signatures, oldest first."""
    found: list[SignatureBrief] = []
    after = 0
    while rows := await page(tx, after=after):
        found += [_brief(row) for row in rows]
        after = rows[-1].id
    return found


def _brief(row: SignatureRow) -> SignatureBrief:
    filed = [operator for operator, state in row.filings.items() if state is FilingState.OK]
    return SignatureBrief(row.id, row.tenant, row.name, row.state, row.extension, filed, row.created_at)
