"""Templates as people look at them: lists, live texts, versions.

Writes nothing. Entry points: page(), get(), every(), texts(), versions(), version(), find(), canonical().
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal, LiteralString

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_found
from hongyan.control.lint import Finding
from hongyan.vocab.errors import Code
from hongyan.vocab.message import PURPOSES, Purpose, TenantId
from hongyan.vocab.wording import Variable

LANGUAGE_FORM: Final = re.compile(r"([A-Za-z]{2,3})(?:-([A-Za-z]{4}))?(?:-([A-Za-z]{2}|[0-9]{3}))?")
PAGE_MAX: Final = 500
VERSIONS_MAX: Final = 1_000  # of one template

Scope = Literal["mainland", "international", "any"]


class TemplateState(StrEnum):
    """How far a template is."""

    DRAFT = "draft"  # the tenant still writes its first text
    REVIEWING = "reviewing"  # a human owes a decision about its first text
    APPROVED = "approved"  # may be used; new versions may be under way
    REJECTED = "rejected"  # its first text was; another may be proposed
    CANCELED = "canceled"  # the tenant took its first text back
    DISABLED = "disabled"  # was approved, and may not be used for now


LIVE: Final = frozenset({TemplateState.APPROVED, TemplateState.DISABLED})


class VersionState(StrEnum):
    """How far one proposal is."""

    DRAFT = "draft"  # may be changed
    REVIEWING = "reviewing"  # stands still until it is decided or withdrawn
    APPROVED = "approved"  # became the live text of its language
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class TemplateText(msgspec.Struct, frozen=True):
    """The live text of one language."""

    language: str
    body: str
    variables: Mapping[str, Variable]


class TemplateRow(msgspec.Struct, frozen=True, kw_only=True):
    """A template as people see it in a list; body and variables are of its default language."""

    id: int
    tenant_id: TenantId
    tenant: str
    code: str
    language: str
    body: str
    variables: Mapping[str, Variable]
    purpose: Purpose
    scope: Scope
    signature: str  # empty: any of the tenant's
    resend: bool
    state: TemplateState
    blocked: bool  # disabled by the platform
    languages: Sequence[str]  # further ones with a live text
    open_versions: int  # drafts and those under review
    created_at: datetime


class TemplateBrief(msgspec.Struct, frozen=True):
    """The same in a table of few columns."""

    id: int
    tenant: str
    code: str
    body: str
    purpose: Purpose
    scope: Scope
    signature: str
    resend: bool
    state: TemplateState
    created_at: datetime


class TemplateVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One proposal and what was decided about it."""

    id: int
    template_id: int
    number: int
    language: str
    body: str
    variables: Mapping[str, Variable]
    state: VersionState
    reason: str  # why it was rejected
    findings: Sequence[Finding]  # what the linter said when it was handed in
    made_by: str
    made_at: datetime
    decided_at: datetime | None


PAGE_SQL: LiteralString = """
SELECT p.id, p.tenant_id, t.name AS tenant, p.code, p.language, p.body, p.variables, p.purpose, p.scope,
       coalesce(s.name, '') AS signature, p.resend, p.state, p.blocked, p.created_at,
       ARRAY(SELECT x.language FROM template_text x WHERE x.template_id = p.id ORDER BY x.language) AS languages,
       (SELECT count(*) FROM template_version v
         WHERE v.template_id = p.id AND v.state IN ('draft', 'reviewing')) AS open_versions
  FROM template p JOIN tenant t ON t.id = p.tenant_id LEFT JOIN signature s ON s.id = p.signature_id
 WHERE p.id > $1 AND ($2::int IS NULL OR p.tenant_id = $2) AND ($3::int IS NULL OR p.id = $3)
   AND ($4 = '' OR p.state = $4) AND ($5::smallint IS NULL OR p.purpose = $5)
   AND ($6 = '' OR strpos(lower(p.code), lower($6)) > 0 OR strpos(lower(p.body), lower($6)) > 0)
 ORDER BY p.id LIMIT $7
"""


async def page(
    tx: db.Tx,
    tenant_id: TenantId | None = None,
    *,
    state: TemplateState | None = None,
    purpose: Purpose | None = None,
    containing: str = "",
    after: int = 0,
    limit: int = PAGE_MAX,
) -> Sequence[TemplateRow]:
    """List templates behind the id `after`, at most `limit` (and PAGE_MAX); `containing`: a piece of code or body."""
    number = None if purpose is None else purpose.number
    values = (after, tenant_id, None, state or "", number, containing, min(limit, PAGE_MAX))
    return [_row(row) for row in await tx.fetch(PAGE_SQL, *values)]


async def get(tx: db.Tx, template_id: int, tenant_id: TenantId | None = None) -> TemplateRow:
    """Return one template. Raises Refusal where there is none, or it is another tenant's."""
    rows = await tx.fetch(PAGE_SQL, template_id - 1, tenant_id, template_id, "", None, "", 1)
    return _row(demand_found(rows[0] if rows else None, template=template_id))


async def every(tx: db.Tx) -> Sequence[TemplateBrief]:
    """List all templates, oldest first."""
    names = TemplateBrief.__struct_fields__
    found: list[TemplateBrief] = []
    while True:
        rows = await page(tx, after=found[-1].id if found else 0)
        found += [TemplateBrief(**{name: getattr(row, name) for name in names}) for row in rows]
        if len(rows) < PAGE_MAX:
            return found


TEXTS_SQL: LiteralString = """
SELECT language, body, variables FROM template_text WHERE template_id = $1 ORDER BY language
"""


async def texts(tx: db.Tx, template_id: int) -> Sequence[TemplateText]:
    """Return the live texts of the further languages."""
    rows = await tx.fetch(TEXTS_SQL, template_id)
    return [TemplateText(row["language"], row["body"], _rules(row["variables"])) for row in rows]


VERSIONS_SQL: LiteralString = """
SELECT id, template_id, number, language, body, variables, state, reason, findings, made_by, made_at, decided_at
  FROM template_version WHERE template_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3
"""


async def versions(
    tx: db.Tx, template_id: int, *, before: int = VERSIONS_MAX + 1, limit: int = PAGE_MAX
) -> Sequence[TemplateVersion]:
    """List versions, newest first, from the one before the number `before` on."""
    return [
        _version_row(row) for row in await tx.fetch(VERSIONS_SQL, template_id, before, min(limit, PAGE_MAX))
    ]


async def get_version(
    tx: db.Tx, template_id: int, tenant_id: TenantId | None, number: int
) -> TemplateVersion:
    """Return one version. Raises Refusal where there is none, or it is another tenant's."""
    return await version(tx, (await get(tx, template_id, tenant_id)).id, number)


FIND_SQL: LiteralString = "SELECT id FROM template WHERE tenant_id = $1 AND code = $2"


async def find(tx: db.Tx, tenant_id: TenantId, code: str) -> int:
    """Find a template of a tenant by code. Raises Refusal."""
    found = await tx.fetchval(FIND_SQL, tenant_id, code)
    return int(demand_found(found, Code.TEMPLATE_NOT_FOUND, template=code))


VERSION_SQL: LiteralString = """
SELECT id, template_id, number, language, body, variables, state, reason, findings, made_by, made_at, decided_at
  FROM template_version WHERE template_id = $1 AND number = $2
"""


async def version(tx: db.Tx, template_id: int, number: int) -> TemplateVersion:
    """Return one version. Raises Refusal."""
    row = demand_found(await tx.fetchrow(VERSION_SQL, template_id, number), version=number)
    return _version_row(row)


def _version_row(row: db.Row) -> TemplateVersion:
    columns: dict[str, Any] = dict(row)
    findings = msgspec.json.decode(row["findings"], type=list[Finding])
    rules, state = _rules(row["variables"]), VersionState(row["state"])
    return TemplateVersion(**{**columns, "variables": rules, "state": state, "findings": findings})


def _row(row: db.Row) -> TemplateRow:
    columns: dict[str, Any] = dict(row)
    return TemplateRow(
        **{
            **columns,
            "variables": _rules(row["variables"]),
            "purpose": PURPOSES[row["purpose"]],
            "state": TemplateState(row["state"]),
        }
    )


def _rules(stored: str) -> Mapping[str, Variable]:
    return msgspec.json.decode(stored, type=dict[str, Variable])


def canonical(language: str) -> str:
    """Write a BCP 47 tag of language, script and region as RFC 5646 §2.1.1 does: zh-Hant-TW. Raises Refusal."""
    found = LANGUAGE_FORM.fullmatch(language)
    demand(found is not None, "language", "a BCP 47 tag of language, script and region, as zh-Hant or pt-BR")
    assert found is not None
    spoken, script, region = found.groups()
    return "-".join(filter(None, [spoken.lower(), (script or "").title(), (region or "").upper()]))
