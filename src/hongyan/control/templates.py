"""Templates: their live texts, and the versions that are proposed to become live.

Writes: template, template_text, template_version. Entry points: propose(), propose_version(), change_version(),
submit(), withdraw(), decided(), decide(), disable(), enable(), drop_text(). They are looked at in template_rows.py.
What messages are made of is the live text: of the default language in `template`, of others in `template_text`. It
stands still until a version is approved. Until its first approval `template` mirrors the newest proposal, which
nobody can send.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

import msgspec

from hongyan import db
from hongyan.control import lint, reviews
from hongyan.control.bounds import demand, demand_found
from hongyan.control.lint import Finding, FindingLevel
from hongyan.control.lint.finding import HAN
from hongyan.control.template_rows import (
    LIVE,
    VERSIONS_MAX,
    Scope,
    TemplateState,
    TemplateVersion,
    VersionState,
    canonical,
)
from hongyan.control.template_rows import version as version_of
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import PURPOSES, Purpose, TenantId
from hongyan.vocab.wording import Variable

BODY_CHARACTERS_MAX: Final = 1_600
TEMPLATES_MAX: Final = 5_000  # of a tenant: every process has them in memory
VARIABLES_MAX: Final = 50
CODE_FORM: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
TEXTS_MAX: Final = 50  # languages of one template


class Wanted(msgspec.Struct, frozen=True):
    """A text that somebody proposes."""

    body: str
    variables: Mapping[str, Variable] = {}
    language: str = ""  # empty: the template's default; of a new template: zh, or en where nothing is Chinese


class _Head(msgspec.Struct, frozen=True):
    """What a step needs to know of a template; its row is locked."""

    id: int
    tenant_id: TenantId
    code: str
    language: str
    purpose: Purpose
    scope: Scope
    signature: str
    state: TemplateState
    blocked: bool


# ---- proposing

COUNT_SQL: LiteralString = "SELECT count(*) FROM template WHERE tenant_id = $1"
CREATE_SQL: LiteralString = """
INSERT INTO template (tenant_id, code, body, purpose, scope, signature_id, variables, resend, language, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'draft') ON CONFLICT (tenant_id, code) DO NOTHING RETURNING id
"""


async def propose(
    tx: db.Tx,
    tenant_id: TenantId,
    code: str,
    wanted: Wanted,
    purpose: Purpose,
    *,
    scope: Scope = "any",
    signature_id: int | None = None,
    resend: bool = True,
    draft: bool = False,
    who: str = "",
    words: lint.Words | None = None,
) -> int:
    """Propose a template; its first version goes to review at once, unless it is a draft. Returns its id.

    `signature_id` binds it to one signature; `resend`: a notice may be sent again where a crash left it unsure.
    Raises Refusal naming what is wrong; what the linter has against it stands in `findings`.
    """
    demand(CODE_FORM.fullmatch(code) is not None, "code", CODE_FORM.pattern)
    _demand_bounds(wanted)
    count = await tx.fetchval(COUNT_SQL, tenant_id)
    demand(count < TEMPLATES_MAX, "code", f"a tenant has {TEMPLATES_MAX:,} templates at most")
    signature = "" if signature_id is None else await _own_signature(tx, tenant_id, signature_id)
    findings = await _look(tx, tenant_id, (purpose, scope, signature), wanted, words)
    if not draft:
        _demand_sound(findings)
    language = canonical(wanted.language) if wanted.language else default_language(wanted.body)
    template_id = await tx.fetchval(
        CREATE_SQL,
        tenant_id,
        code,
        wanted.body,
        purpose.number,
        scope,
        signature_id,
        _stored(wanted),
        resend,
        language,
    )
    demand(template_id is not None, "code", "the tenant has a template of this code")
    head = await _locked(tx, int(template_id), tenant_id)
    await _add_version(tx, head, wanted, language, findings, draft=draft, who=who)
    return head.id


OPEN_SQL: LiteralString = """
SELECT number, state FROM template_version
 WHERE template_id = $1 AND language = $2 AND state IN ('draft', 'reviewing')
"""
LANGUAGES_SQL: LiteralString = """
SELECT count(DISTINCT language) FROM template_version WHERE template_id = $1 AND language <> $2
"""


async def propose_version(
    tx: db.Tx,
    template_id: int,
    tenant_id: TenantId | None,
    wanted: Wanted,
    *,
    draft: bool = False,
    who: str = "",
    words: lint.Words | None = None,
) -> TemplateVersion:
    """Propose another text for a language of a template; the live one stays until this is approved.

    Raises Refusal where one of that language is a draft or under review already, or as propose() does.
    """
    _demand_bounds(wanted)
    head = await _locked(tx, template_id, tenant_id)
    language = canonical(wanted.language) if wanted.language else head.language
    waiting = await tx.fetchrow(OPEN_SQL, head.id, language)
    if waiting is not None:
        code = Code.TEMPLATE_LOCKED if waiting["state"] == VersionState.REVIEWING else Code.REQUEST_CONFLICT
        raise Refusal(code, version=waiting["number"], language=language, state=waiting["state"])
    others = await tx.fetchval(LANGUAGES_SQL, head.id, language)
    demand(others < TEXTS_MAX, "language", f"a template has {TEXTS_MAX} languages at most")
    findings = await _look_at(tx, head, wanted, words)
    if not draft:
        _demand_sound(findings)
    return await _add_version(tx, head, wanted, language, findings, draft=draft, who=who)


ADD_SQL: LiteralString = """
INSERT INTO template_version (template_id, number, language, body, variables, state, findings, made_by)
SELECT $1, 1 + coalesce(max(number), 0), $2, $3, $4, 'draft', $5, $6 FROM template_version WHERE template_id = $1
RETURNING id, number
"""


async def _add_version(
    tx: db.Tx,
    head: _Head,
    wanted: Wanted,
    language: str,
    findings: Sequence[Finding],
    *,
    draft: bool,
    who: str,
) -> TemplateVersion:
    written = msgspec.json.encode(findings).decode()
    row = await tx.fetchrow(ADD_SQL, head.id, language, wanted.body, _stored(wanted), written, who)
    assert row is not None
    demand(row["number"] <= VERSIONS_MAX, "version", f"a template has {VERSIONS_MAX} versions at most")
    await _mirror(tx, head, wanted, language, TemplateState.DRAFT)
    if not draft:
        await _hand_in(tx, head, await version_of(tx, head.id, row["number"]), findings, who)
    return await version_of(tx, head.id, row["number"])


CHANGE_SQL: LiteralString = """
UPDATE template_version SET body = $2, variables = $3, findings = $4, made_by = $5, made_at = now() WHERE id = $1
"""


async def change_version(
    tx: db.Tx,
    template_id: int,
    tenant_id: TenantId | None,
    number: int,
    wanted: Wanted,
    *,
    who: str = "",
    words: lint.Words | None = None,
) -> TemplateVersion:
    """Write a draft anew. Raises Refusal, Template.Locked, where it is under review; it is withdrawn first."""
    _demand_bounds(wanted)
    head = await _locked(tx, template_id, tenant_id)
    version = await version_of(tx, head.id, number)
    demand(
        not wanted.language or canonical(wanted.language) == version.language, "language", "stays what it is"
    )
    if version.state is VersionState.REVIEWING:
        raise Refusal(Code.TEMPLATE_LOCKED, version=number)
    if version.state is not VersionState.DRAFT:
        raise Refusal(Code.REQUEST_CONFLICT, version=number, state=version.state)
    findings = msgspec.json.encode(await _look_at(tx, head, wanted, words)).decode()
    await tx.execute(CHANGE_SQL, version.id, wanted.body, _stored(wanted), findings, who)
    await _mirror(tx, head, wanted, version.language, TemplateState.DRAFT)
    return await version_of(tx, head.id, number)


async def submit(
    tx: db.Tx,
    template_id: int,
    tenant_id: TenantId | None,
    number: int,
    *,
    who: str = "",
    words: lint.Words | None = None,
) -> TemplateVersion:
    """Hand a draft in for review. Raises Refusal where it is none, or where the linter finds errors."""
    head = await _locked(tx, template_id, tenant_id)
    version = await version_of(tx, head.id, number)
    if version.state is not VersionState.DRAFT:
        raise Refusal(Code.REQUEST_CONFLICT, version=number, state=version.state)
    findings = await _look_at(tx, head, Wanted(version.body, version.variables), words)
    await _hand_in(tx, head, version, findings, who)
    return await version_of(tx, head.id, number)


SUBMIT_SQL: LiteralString = "UPDATE template_version SET state = 'reviewing', findings = $2 WHERE id = $1"


async def _hand_in(
    tx: db.Tx, head: _Head, version: TemplateVersion, findings: Sequence[Finding], who: str
) -> None:
    _demand_sound(findings)
    await tx.execute(SUBMIT_SQL, version.id, msgspec.json.encode(findings).decode())
    await _mirror(
        tx, head, Wanted(version.body, version.variables), version.language, TemplateState.REVIEWING
    )
    title = f"{head.code} v{version.number} {version.language}: {version.body}"
    await reviews.open(
        tx, "template", head.tenant_id, version.id, title, proposed_by=who, purpose=head.purpose
    )


TAKE_BACK_SQL: LiteralString = """
UPDATE template_version SET state = 'withdrawn', decided_at = now() WHERE id = $1
"""


async def withdraw(tx: db.Tx, template_id: int, tenant_id: TenantId | None, number: int) -> TemplateVersion:
    """Take back a draft or what is under review. Raises Refusal where it is decided."""
    head = await _locked(tx, template_id, tenant_id)
    version = await version_of(tx, head.id, number)
    if version.state not in (VersionState.DRAFT, VersionState.REVIEWING):
        raise Refusal(Code.REQUEST_CONFLICT, version=number, state=version.state)
    await tx.execute(TAKE_BACK_SQL, version.id)
    await reviews.withdraw(tx, "template", version.id)
    await _mirror(tx, head, None, version.language, TemplateState.CANCELED)
    return await version_of(tx, head.id, number)


# ---- deciding

WHOSE_SQL: LiteralString = "SELECT template_id FROM template_version WHERE id = $1"
DECIDE_SQL: LiteralString = """
UPDATE template_version SET state = $2, reason = $3, decided_at = now() WHERE id = $1 AND state = 'reviewing'
RETURNING number
"""
GO_LIVE_SQL: LiteralString = """
UPDATE template SET body = $2, variables = $3, state = CASE state WHEN 'disabled' THEN state ELSE 'approved' END
 WHERE id = $1
"""
GO_LIVE_IN_SQL: LiteralString = """
INSERT INTO template_text (template_id, language, body, variables) VALUES ($1, $2, $3, $4)
ON CONFLICT (template_id, language) DO UPDATE SET body = EXCLUDED.body, variables = EXCLUDED.variables
"""


async def decided(tx: db.Tx, version_id: int, approved: bool, reason: str) -> None:
    """Hear what a review came to: an approved text is live from the commit on. Raises Refusal where none waits."""
    state = VersionState.APPROVED if approved else VersionState.REJECTED
    template_id = demand_found(await tx.fetchval(WHOSE_SQL, version_id), version=version_id)
    head = await _locked(tx, template_id, None)  # before the version, as everybody else does
    number = await tx.fetchval(DECIDE_SQL, version_id, state, reason[:500])
    version = await version_of(tx, head.id, demand_found(number, Code.REQUEST_CONFLICT, version=version_id))
    if not approved:
        await _mirror(tx, head, None, version.language, TemplateState.REJECTED)
        return
    stored = msgspec.json.encode(version.variables).decode()
    if version.language == head.language:
        await tx.execute(GO_LIVE_SQL, head.id, version.body, stored)
    else:
        await tx.execute(GO_LIVE_IN_SQL, head.id, version.language, version.body, stored)


WAITING_SQL: LiteralString = """
SELECT id, number FROM template_version WHERE template_id = $1 AND state = 'reviewing' ORDER BY number
"""


async def decide(tx: db.Tx, template_id: int, *, approve: bool, who: str, reason: str = "") -> VersionState:
    """Decide by hand about whatever version of a template waits, through its review. Returns its state then.

    Where two people have to approve it, it still waits for the second. Raises Refusal where none waits, or several.
    """
    waiting = await tx.fetch(WAITING_SQL, template_id)
    if len(waiting) != 1:
        head = await _locked(tx, template_id, None)
        numbers = [row["number"] for row in waiting]
        raise Refusal(
            Code.REQUEST_CONFLICT, state=head.state, waiting=numbers, reason="not one version waits"
        )
    (review, *_) = await reviews.history(tx, "template", waiting[0]["id"], 1)
    if approve:
        await reviews.approve(tx, review.id, who)
    else:
        await reviews.reject(tx, review.id, who, text=reason or "not approved")
    return (await version_of(tx, template_id, waiting[0]["number"])).state


STATE_SQL: LiteralString = "UPDATE template SET state = $2, blocked = $3 WHERE id = $1"


async def disable(tx: db.Tx, template_id: int, tenant_id: TenantId | None, *, by_platform: bool) -> None:
    """Let nobody use an approved template for now; what the platform disabled, the tenant cannot enable."""
    head = await _locked(tx, template_id, tenant_id)
    if head.state not in LIVE:
        raise _unmoved(head.state, TemplateState.DISABLED)
    await tx.execute(STATE_SQL, template_id, TemplateState.DISABLED, head.blocked or by_platform)


async def enable(tx: db.Tx, template_id: int, tenant_id: TenantId | None, *, by_platform: bool) -> None:
    """Let a disabled template be used again. Raises Refusal where it is not disabled, or by the platform."""
    head = await _locked(tx, template_id, tenant_id)
    if head.state is not TemplateState.DISABLED:
        raise _unmoved(head.state, TemplateState.APPROVED)
    if head.blocked and not by_platform:
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="the platform disabled it")
    await tx.execute(STATE_SQL, template_id, TemplateState.APPROVED, False)


def _unmoved(now: TemplateState, wanted: TemplateState) -> Refusal:
    return Refusal(
        Code.REQUEST_CONFLICT, state=now, reason=f"a template that is {now} cannot become {wanted}"
    )


DROP_TEXT_SQL: LiteralString = (
    "DELETE FROM template_text WHERE template_id = $1 AND language = $2 RETURNING language"
)


async def drop_text(tx: db.Tx, template_id: int, tenant_id: TenantId | None, language: str) -> None:
    """Offer a further language no more: who asks for it gets the default one. Its versions stay."""
    head = await _locked(tx, template_id, tenant_id)
    dropped = await tx.fetchval(DROP_TEXT_SQL, head.id, canonical(language))
    demand_found(dropped, language=language)


RESEND_SQL: LiteralString = "UPDATE template SET resend = $2 WHERE id = $1"


async def set_resend(tx: db.Tx, template_id: int, tenant_id: TenantId | None, resend: bool) -> None:
    """Say whether a notice of it may be sent again where a crash left it unsure."""
    await tx.execute(RESEND_SQL, (await _locked(tx, template_id, tenant_id)).id, resend)


# ---- parts of the above


def default_language(body: str) -> str:
    return "zh" if HAN.search(body) else "en"


def _demand_bounds(wanted: Wanted) -> None:
    demand(0 < len(wanted.body) <= BODY_CHARACTERS_MAX, "body", f"1 to {BODY_CHARACTERS_MAX} characters")
    storable = "\0" not in wanted.body and not any("\ud800" <= one <= "\udfff" for one in wanted.body)
    demand(storable, "body", "characters of Unicode, without NUL")
    demand(len(wanted.variables) <= VARIABLES_MAX, "variables", f"at most {VARIABLES_MAX}")


def _demand_sound(findings: Sequence[Finding]) -> None:
    """Raise Refusal where the linter found errors."""
    errors = [finding for finding in findings if finding.level is FindingLevel.ERROR]
    if errors:
        alone = {error.rule for error in errors} == {"promotional.opt_out_missing"}
        code = Code.CONTENT_MISSING_UNSUBSCRIBE if alone else Code.TEMPLATE_UNSOUND
        raise Refusal(code, findings=msgspec.to_builtins(errors))


LONGEST_SIGNATURE_SQL: LiteralString = """
SELECT name FROM signature WHERE tenant_id = $1 AND state = 'approved' ORDER BY length(name) DESC, id LIMIT 1
"""


async def usual_signature(tx: db.Tx, tenant_id: TenantId) -> str:
    """Return the longest signature a tenant may use, for counting; "" where there is none."""
    return str(await tx.fetchval(LONGEST_SIGNATURE_SQL, tenant_id) or "")


async def _look(
    tx: db.Tx,
    tenant_id: TenantId,
    terms: tuple[Purpose, Scope, str],
    wanted: Wanted,
    words: lint.Words | None,
) -> Sequence[Finding]:
    purpose, scope, signature = terms
    signature = signature or await usual_signature(tx, tenant_id)
    return lint.check(wanted.body, purpose, scope, signature, wanted.variables, words=words)


async def _look_at(tx: db.Tx, head: _Head, wanted: Wanted, words: lint.Words | None) -> Sequence[Finding]:
    return await _look(tx, head.tenant_id, (head.purpose, head.scope, head.signature), wanted, words)


OWN_SIGNATURE_SQL: LiteralString = "SELECT name FROM signature WHERE id = $1 AND tenant_id = $2"


async def _own_signature(tx: db.Tx, tenant_id: TenantId, signature_id: int) -> str:
    name = await tx.fetchval(OWN_SIGNATURE_SQL, signature_id, tenant_id)
    return str(demand_found(name, Code.SIGN_NOT_FOUND, signature=signature_id))


HEAD_SQL: LiteralString = """
SELECT p.id, p.tenant_id, p.code, p.language, p.purpose, p.scope, coalesce(s.name, '') AS signature, p.state, p.blocked
  FROM template p LEFT JOIN signature s ON s.id = p.signature_id
 WHERE p.id = $1 AND ($2::int IS NULL OR p.tenant_id = $2) FOR UPDATE OF p
"""


async def _locked(tx: db.Tx, template_id: int, tenant_id: TenantId | None) -> _Head:
    """Return a template, so that nobody changes it beside us. Raises Refusal."""
    row = demand_found(await tx.fetchrow(HEAD_SQL, template_id, tenant_id), template=template_id)
    columns: dict[str, Any] = dict(row)
    return _Head(**{**columns, "purpose": PURPOSES[row["purpose"]], "state": TemplateState(row["state"])})


# Nothing of it is live, so it shows what is proposed in its default language.
MIRROR_SQL: LiteralString = """
UPDATE template SET body = coalesce($2, body), variables = coalesce($3::jsonb, variables), state = $4
 WHERE id = $1 AND state NOT IN ('approved', 'disabled')
"""


async def _mirror(tx: db.Tx, head: _Head, wanted: Wanted | None, language: str, state: TemplateState) -> None:
    if language == head.language and head.state not in LIVE:
        body, stored = (None, None) if wanted is None else (wanted.body, _stored(wanted))
        await tx.execute(MIRROR_SQL, head.id, body, stored, state)


def _stored(wanted: Wanted) -> str:
    return msgspec.json.encode(wanted.variables).decode()
