"""Signatures and templates: proposed by tenants, decided by people, used only once approved.

Writes: signature, template. Entry points: propose_signature(), propose_template(), move_signature(),
move_template(), signatures(), templates(). What a template may look like is asked here, once, so that a
stored one always compiles.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, LiteralString

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_found
from hongyan.vocab import wording
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import PURPOSES, Purpose, TenantId
from hongyan.vocab.wording import Variable
from hongyan.way import guard

SIGNATURE_CHARACTERS_MAX: Final = 16  # the mainland clouds take 2 to 12 or 16
BODY_CHARACTERS_MAX: Final = 1_600
CODE_FORM: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
EXTENSION_FORM: Final = re.compile(r"[0-9]{0,12}")

Scope = Literal["mainland", "international", "any"]


class State(StrEnum):
    """How far the review of a signature or template has come."""

    DRAFT = "draft"  # the tenant still writes it
    REVIEWING = "reviewing"  # a human owes a decision
    APPROVED = "approved"  # may be used
    REJECTED = "rejected"  # may not; may be proposed again
    CANCELED = "canceled"  # the tenant took it back
    DISABLED = "disabled"  # was approved, and may not be used for now


# From where each state may be reached.
MOVES: Final[Mapping[State, Sequence[State]]] = {
    State.DRAFT: (),
    State.REVIEWING: (State.DRAFT, State.REJECTED, State.CANCELED),
    State.APPROVED: (State.REVIEWING, State.DISABLED),
    State.REJECTED: (State.REVIEWING,),
    State.CANCELED: (State.DRAFT, State.REVIEWING),
    State.DISABLED: (State.APPROVED,),
}


class SignatureRow(msgspec.Struct, frozen=True):
    """A signature as an operator sees it in a list."""

    id: int
    tenant: str
    name: str
    state: State
    extension: str
    created_at: datetime


class TemplateRow(msgspec.Struct, frozen=True):
    """A template as an operator sees it in a list."""

    id: int
    tenant: str
    code: str
    body: str
    purpose: Purpose
    scope: Scope
    signature: str  # empty: any of the tenant's
    resend: bool
    state: State
    created_at: datetime


PROPOSE_SIGNATURE_SQL: LiteralString = """
INSERT INTO signature (tenant_id, name, extension) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id
"""


async def propose_signature(tx: db.Tx, tenant_id: TenantId, name: str, *, extension: str = "") -> int:
    """Propose a signature for review: the name alone, without 【】. `extension`: digits after our number.

    Raises Refusal for a name that is taken or cannot stand before a text.
    """
    sound = 0 < len(name) <= SIGNATURE_CHARACTERS_MAX and name.isprintable() and name == name.strip()
    demand(
        sound and not set(name) & set("【】[]"),
        "name",
        f"1 to {SIGNATURE_CHARACTERS_MAX} characters, without 【】",
    )
    demand(EXTENSION_FORM.fullmatch(extension) is not None, "extension", "at most 12 digits")
    number = await tx.fetchval(PROPOSE_SIGNATURE_SQL, tenant_id, name, extension)
    demand(number is not None, "name", "the tenant has a signature of this name")
    return int(number)


PROPOSE_TEMPLATE_SQL: LiteralString = """
INSERT INTO template (tenant_id, code, body, purpose, scope, signature_id, variables, resend)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant_id, code) DO NOTHING RETURNING id
"""


async def propose_template(
    tx: db.Tx,
    tenant_id: TenantId,
    code: str,
    body: str,
    purpose: Purpose,
    *,
    scope: Scope = "any",
    signature_id: int | None = None,
    variables: Mapping[str, Variable] | None = None,
    resend: bool = True,
) -> int:
    """Propose a template for review. `body` has its variables as ${name}, `variables` their rules by name.

    `signature_id` binds it to one signature; `resend`: a notice may be sent again where a crash left it
    unsure. Raises Refusal naming what is wrong.
    """
    rules = variables or {}
    demand(CODE_FORM.fullmatch(code) is not None, "code", CODE_FORM.pattern)
    _demand_body(body, purpose, rules)
    if signature_id is not None:
        await _demand_own_signature(tx, tenant_id, signature_id)
    stored = msgspec.json.encode(rules).decode()
    number = await tx.fetchval(
        PROPOSE_TEMPLATE_SQL, tenant_id, code, body, purpose.number, scope, signature_id, stored, resend
    )
    demand(number is not None, "code", "the tenant has a template of this code")
    return int(number)


def _demand_body(body: str, purpose: Purpose, rules: Mapping[str, Variable]) -> None:
    demand(0 < len(body) <= BODY_CHARACTERS_MAX, "body", f"1 to {BODY_CHARACTERS_MAX} characters")
    demand("【" not in body and "】" not in body, "body", "【】 belong to the signature")
    compiled = wording.compile_body(body, msgspec.json.encode(rules).decode())
    demand(any(literal.strip() for literal in compiled.literals), "body", "more than variables")
    demand(all(compiled.literals[1:-1]), "body", "something between two variables")
    unused = sorted(set(rules) - set(compiled.names))
    demand(not unused, "variables", f"not in the body: {', '.join(unused)}")
    for name, rule in rules.items():
        demand(rule.kind in wording.KINDS, "variables", f"{name}: kinds are {', '.join(wording.KINDS)}")
    if purpose is Purpose.PROMOTIONAL and not any(
        word.lower() in body.lower() for word in guard.OPT_OUT_WORDS
    ):
        raise Refusal(Code.CONTENT_MISSING_UNSUBSCRIBE)


OWN_SIGNATURE_SQL: LiteralString = "SELECT id FROM signature WHERE id = $1 AND tenant_id = $2"


async def _demand_own_signature(tx: db.Tx, tenant_id: TenantId, signature_id: int) -> None:
    found = await tx.fetchval(OWN_SIGNATURE_SQL, signature_id, tenant_id)
    demand_found(found, Code.SIGN_NOT_FOUND, signature=signature_id)


MOVE_SIGNATURE_SQL: LiteralString = """
UPDATE signature SET state = $2 WHERE id = $1 AND state = ANY($3::text[]) RETURNING id
"""
SIGNATURE_STATE_SQL: LiteralString = "SELECT state FROM signature WHERE id = $1"


async def move_signature(tx: db.Tx, signature_id: int, state: State) -> None:
    """Decide about a signature. Raises Refusal where there is none or MOVES does not lead there."""
    if await tx.fetchval(MOVE_SIGNATURE_SQL, signature_id, state, MOVES[state]) is None:
        raise _unmoved("signature", signature_id, await tx.fetchval(SIGNATURE_STATE_SQL, signature_id), state)


MOVE_TEMPLATE_SQL: LiteralString = """
UPDATE template SET state = $2 WHERE id = $1 AND state = ANY($3::text[]) RETURNING id
"""
TEMPLATE_STATE_SQL: LiteralString = "SELECT state FROM template WHERE id = $1"


async def move_template(tx: db.Tx, template_id: int, state: State) -> None:
    """Decide about a template. Raises Refusal where there is none or MOVES does not lead there."""
    if await tx.fetchval(MOVE_TEMPLATE_SQL, template_id, state, MOVES[state]) is None:
        raise _unmoved("template", template_id, await tx.fetchval(TEMPLATE_STATE_SQL, template_id), state)


def _unmoved(noun: str, number: int, now: str | None, wanted: State) -> Refusal:
    if now is None:
        return Refusal(Code.REQUEST_NOT_FOUND, **{noun: number})
    return Refusal(
        Code.REQUEST_INVALID_PARAMETER, parameter="state", reason=f"a {now} {noun} cannot become {wanted}"
    )


FIND_SIGNATURE_SQL: LiteralString = "SELECT id FROM signature WHERE tenant_id = $1 AND name = $2"


async def find_signature(tx: db.Tx, tenant_id: TenantId, name: str) -> int:
    """Find a signature of a tenant by name. Raises Refusal."""
    found = await tx.fetchval(FIND_SIGNATURE_SQL, tenant_id, name)
    return int(demand_found(found, Code.SIGN_NOT_FOUND, signature=name))


FIND_TEMPLATE_SQL: LiteralString = "SELECT id FROM template WHERE tenant_id = $1 AND code = $2"


async def find_template(tx: db.Tx, tenant_id: TenantId, code: str) -> int:
    """Find a template of a tenant by code. Raises Refusal."""
    found = await tx.fetchval(FIND_TEMPLATE_SQL, tenant_id, code)
    return int(demand_found(found, Code.TEMPLATE_NOT_FOUND, template=code))


SIGNATURES_SQL: LiteralString = """
SELECT s.id, t.name AS tenant, s.name, s.state, s.extension, s.created_at
  FROM signature s JOIN tenant t ON t.id = s.tenant_id ORDER BY s.id
"""


async def signatures(tx: db.Tx) -> Sequence[SignatureRow]:
    """List the signatures, oldest first."""
    return [
        SignatureRow(**{**dict(row), "state": State(row["state"])}) for row in await tx.fetch(SIGNATURES_SQL)
    ]


TEMPLATES_SQL: LiteralString = """
SELECT p.id, t.name AS tenant, p.code, p.body, p.purpose, p.scope, coalesce(s.name, '') AS signature,
       p.resend, p.state, p.created_at
  FROM template p JOIN tenant t ON t.id = p.tenant_id LEFT JOIN signature s ON s.id = p.signature_id
 ORDER BY p.id
"""


async def templates(tx: db.Tx) -> Sequence[TemplateRow]:
    """List the templates, oldest first."""
    return [
        TemplateRow(**{**dict(row), "state": State(row["state"]), "purpose": PURPOSES[row["purpose"]]})
        for row in await tx.fetch(TEMPLATES_SQL)
    ]
