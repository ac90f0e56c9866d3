"""Invitations: how people come to the console, and come back who forgot the password.

Writes: invitation. Entry points: create() for somebody new, invite_back() for who is there already; take(), by
people.accept(); listed(), revoke(). The token is shown once and kept as a hash; it works once, for VALID_S or
BACK_VALID_S. Surprise: what the inviter may is asked again when it is accepted, so an invitation by somebody who was
demoted or deactivated meanwhile is worth nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, LiteralString, NamedTuple

import msgspec

from hongyan import clock, db
from hongyan.control import one_time, users
from hongyan.control.bounds import demand_found, demand_name
from hongyan.control.permissions import Role
from hongyan.vault import Secret
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId

VALID_S: Final = 7 * 86_400
BACK_VALID_S: Final = 86_400  # who forgot the password is waiting for it
OPEN_MAX: Final = 200  # of one tenant, or of the platform
PREFIX: Final = "hyi_"


class NewInvitation(NamedTuple):
    """An invitation that was just made; the only time its token is seen."""

    id: int
    token: Secret
    expires_at: datetime


class InvitationRow(msgspec.Struct, frozen=True):
    """An open invitation as people see it in a list."""

    id: int
    tenant_id: TenantId | None
    email: str
    name: str
    role: Role
    user_id: int | None  # none: somebody new; else who may choose a new password
    created_at: datetime
    expires_at: datetime


class Taken(NamedTuple):
    """What an invitation was for that somebody has just used up."""

    tenant_id: TenantId | None
    email: str
    name: str
    role: Role
    user_id: int | None
    frees_totp: bool


OPEN_SQL: LiteralString = """
SELECT count(*) FROM invitation WHERE coalesce(tenant_id, 0) = coalesce($1, 0)
   AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now()
"""
CREATE_SQL: LiteralString = """
INSERT INTO invitation (tenant_id, email, name, role, token_hash, invited_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
"""


async def create(
    tx: db.Tx,
    *,
    by: Role | None,
    invited_by: int | None,
    tenant_id: TenantId | None,
    email: str,
    role: Role,
    name: str = "",
) -> NewInvitation:
    """Invite somebody to a tenant or, without one, to the platform.

    Raises Refusal: Auth.PermissionDenied for a role beyond `by`; Request.Conflict where the person is there already or
    too many invitations are open. Whether an e-mail belongs to somebody elsewhere is not said.
    """
    email = users.normal_email(email)
    if name:
        demand_name(name)
    users.demand_fits(role, tenant_id)
    users.demand_within(by, role)
    person = await users.find_by_email(tx, email)
    if person is not None and person.tenant_id == tenant_id:
        raise Refusal(Code.REQUEST_CONFLICT, parameter="email", reason="this person is here already")
    if await tx.fetchval(OPEN_SQL, tenant_id) >= OPEN_MAX:
        raise Refusal(Code.REQUEST_CONFLICT, reason=f"at most {OPEN_MAX} open invitations; revoke some")
    token = one_time.new_token(PREFIX)
    expires_at = clock.now() + timedelta(seconds=VALID_S)
    number = await tx.fetchval(
        CREATE_SQL, tenant_id, email, name, role, one_time.hash_of(token), invited_by, expires_at
    )
    return NewInvitation(number, Secret(token.encode()), expires_at)


BACK_SQL: LiteralString = """
WITH earlier AS (
    UPDATE invitation SET revoked_at = now() WHERE user_id = $1 AND accepted_at IS NULL AND revoked_at IS NULL
)
INSERT INTO invitation (tenant_id, email, name, role, user_id, frees_totp, token_hash, invited_by, expires_at)
SELECT tenant_id, email, name, role, id, $2, $3, $4, $5 FROM console_user WHERE id = $1 RETURNING id
"""


async def invite_back(
    tx: db.Tx,
    *,
    by: Role | None,
    invited_by: int | None,
    tenant_id: TenantId | None,
    user_id: int,
    frees_totp: bool = False,
) -> NewInvitation:
    """Let somebody choose a new password, who forgot it; earlier tokens for it are void.

    Not for oneself: whoever sits down at another's browser would need no password to change it. Raises Refusal: not
    found; Auth.PermissionDenied for people beyond `by`; Request.Conflict for oneself and for who was taken out.
    """
    user = await users.one(tx, tenant_id, user_id)
    users.demand_within(by, user.role)
    if user_id == invited_by:
        raise Refusal(Code.REQUEST_CONFLICT, reason="change the own password with the present one")
    if not user.active:
        raise Refusal(Code.REQUEST_CONFLICT, reason="this person was taken out")
    token = one_time.new_token(PREFIX)
    expires_at = clock.now() + timedelta(seconds=BACK_VALID_S)
    hashed = one_time.hash_of(token)
    number = await tx.fetchval(BACK_SQL, user_id, frees_totp, hashed, invited_by, expires_at)
    return NewInvitation(number, Secret(token.encode()), expires_at)


TAKE_SQL: LiteralString = """
UPDATE invitation SET accepted_at = now()
 WHERE token_hash = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now()
RETURNING tenant_id, email, name, role, user_id, frees_totp, invited_by
"""


async def take(tx: db.Tx, token: str) -> Taken:
    """Use an invitation up. Raises Refusal where the token is unknown, used, over or void."""
    row = await tx.fetchrow(TAKE_SQL, one_time.hash_of(token))
    unknown = Refusal(Code.REQUEST_NOT_FOUND, parameter="token", reason="unknown, used, revoked or expired")
    if row is None:
        raise unknown
    role = Role(row["role"])
    if row["user_id"] is not None:
        user = await users.read(tx, row["user_id"])
        if not user.active:
            raise unknown
        role = user.role
    if row["invited_by"] is not None:
        inviter = await users.read(tx, row["invited_by"])
        if not (inviter.active and users.is_within(inviter.role, role)):
            raise unknown
    tenant_id = None if row["tenant_id"] is None else TenantId(row["tenant_id"])
    return Taken(tenant_id, row["email"], row["name"], role, row["user_id"], row["frees_totp"])


LISTED_SQL: LiteralString = """
SELECT id, tenant_id, email, name, role, user_id, created_at, expires_at FROM invitation
 WHERE id > $2 AND ($1::int IS NULL OR tenant_id = $1)
   AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now() ORDER BY id LIMIT $3
"""


async def listed(
    tx: db.Tx, tenant_id: TenantId | None, after: int = 0, limit: int = users.PAGE_MAX
) -> Sequence[InvitationRow]:
    """List open invitations by id: of a tenant or, without one, all."""
    rows = await tx.fetch(LISTED_SQL, tenant_id, after, min(limit, users.PAGE_MAX))
    return [msgspec.convert(dict(row), InvitationRow) for row in rows]


REVOKE_SQL: LiteralString = """
UPDATE invitation SET revoked_at = now()
 WHERE id = $1 AND ($2::int IS NULL OR tenant_id = $2) AND accepted_at IS NULL AND revoked_at IS NULL RETURNING id
"""


async def revoke(tx: db.Tx, tenant_id: TenantId | None, invitation_id: int) -> None:
    """Take an invitation back. Raises Refusal where none is open under that id."""
    demand_found(await tx.fetchval(REVOKE_SQL, invitation_id, tenant_id), id=invitation_id)


REVOKE_ALL_SQL: LiteralString = """
UPDATE invitation SET revoked_at = now() WHERE invited_by = $1 AND accepted_at IS NULL AND revoked_at IS NULL
"""


async def revoke_all_by(tx: db.Tx, user_id: int) -> None:
    """Take back what somebody has invited."""
    await tx.execute(REVOKE_ALL_SQL, user_id)
