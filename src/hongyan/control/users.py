"""Users: people at the console, of the platform or of one tenant.

Writes: console_user. Entry points: create(), change(), find_by_email(), read(), listed(), put_hash(). What a change
of somebody means for sign-ins and tokens is in people.py, which calls this. Surprises: nobody makes or changes people
who may more than they themselves; and the last active operator, or owner of a tenant, stays what they are.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.control import passwords
from hongyan.control.bounds import demand, demand_found, demand_name
from hongyan.control.permissions import GRANTED, PLATFORM_ROLES, Permission, Role
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId

# Of RFC 5321 what mail is really sent to; ASCII, so that no two addresses look alike.
EMAIL: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,187}[A-Za-z0-9])?"
)
EMAIL_CHARACTERS_MAX: Final = 254  # RFC 5321 section 4.5.3.1.3, without its brackets
PAGE_MAX: Final = 500
KEEPERS: Final = frozenset({Role.OPERATOR, Role.OWNER})  # without one of them nobody could let others in


class Person(msgspec.Struct, frozen=True):
    """A user with what a sign-in is checked by. Never leaves control."""

    id: int
    tenant_id: TenantId | None
    email: str
    name: str
    role: Role
    active: bool
    password_hash: str
    totp: bool


class UserRow(msgspec.Struct, frozen=True):
    """A user as others see one."""

    id: int
    tenant_id: TenantId | None
    email: str
    name: str
    role: Role
    active: bool
    totp: bool  # has an authenticator
    created_at: datetime


def normal_email(written: str) -> str:
    """Return an e-mail as it is stored and looked up. Raises Refusal for what is none."""
    email = written.strip()
    demand(
        len(email) <= EMAIL_CHARACTERS_MAX and EMAIL.fullmatch(email) is not None and ".." not in email,
        "email",
        "an address as name@example.com",
    )
    return email.lower()


def demand_fits(role: Role, tenant_id: TenantId | None) -> None:
    """Raise Refusal where a role is not of the tenant's kind, or the platform's."""
    wanted = "the platform" if tenant_id is None else "a tenant"
    demand((role in PLATFORM_ROLES) == (tenant_id is None), "role", f"a role of {wanted}")


def demand_within(by: Role | None, role: Role) -> None:
    """Raise Refusal where `by` would deal with people who may more; None is the machine's owner at the keyboard."""
    if by is not None and not is_within(by, role):
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason=f"{role} may more than {by}")


def is_within(by: Role, role: Role) -> bool:
    """Say whether whoever is `by` may make and change people of a role: they let in others, and may no less."""
    return Permission.USERS_WRITE in GRANTED[by] and GRANTED[role] <= GRANTED[by]


CREATE_SQL: LiteralString = """
INSERT INTO console_user (tenant_id, email, name, role, password_hash) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (email) DO NOTHING RETURNING id
"""


async def create(
    tx: db.Tx, *, tenant_id: TenantId | None, email: str, name: str, role: Role, password: str
) -> int:
    """Make a person and return the id. Raises Refusal for an e-mail that is taken, or a value out of bounds."""
    email = normal_email(email)
    demand_name(name)
    demand_fits(role, tenant_id)
    passwords.demand_good(password, email)
    hashed = await passwords.hashed(password)
    made = await tx.fetchval(CREATE_SQL, tenant_id, email, name, role, hashed)
    if made is None:
        raise Refusal(Code.REQUEST_CONFLICT, parameter="email", reason="somebody has this e-mail already")
    return int(made)


FIND_SQL: LiteralString = """
SELECT u.id, u.tenant_id, u.email, u.name, u.role, u.active, u.password_hash, coalesce(a.confirmed, false) AS totp
  FROM console_user u LEFT JOIN authenticator a ON a.user_id = u.id WHERE u.email = $1
"""


async def find_by_email(tx: db.Tx, email: str) -> Person | None:
    """Return who has that e-mail, whatever its capitals; None for what nobody has."""
    row = await tx.fetchrow(FIND_SQL, email.strip().lower())
    return None if row is None else _person(row)


READ_SQL: LiteralString = """
SELECT u.id, u.tenant_id, u.email, u.name, u.role, u.active, u.password_hash, coalesce(a.confirmed, false) AS totp
  FROM console_user u LEFT JOIN authenticator a ON a.user_id = u.id WHERE u.id = $1
"""


async def read(tx: db.Tx, user_id: int) -> Person:
    """Return a person. Raises Refusal where there is none."""
    return _person(demand_found(await tx.fetchrow(READ_SQL, user_id), id=user_id))


def _person(row: db.Row) -> Person:
    return msgspec.convert(dict(row), Person)


LISTED_SQL: LiteralString = """
SELECT u.id, u.tenant_id, u.email, u.name, u.role, u.active, coalesce(a.confirmed, false) AS totp, u.created_at
  FROM console_user u LEFT JOIN authenticator a ON a.user_id = u.id
 WHERE u.id > $2 AND ($1::int IS NULL OR u.tenant_id = $1) ORDER BY u.id LIMIT $3
"""


async def listed(
    tx: db.Tx, tenant_id: TenantId | None, after: int = 0, limit: int = PAGE_MAX
) -> Sequence[UserRow]:
    """List people by id, of a tenant or, without one, all of them with those of the platform."""
    rows = await tx.fetch(LISTED_SQL, tenant_id, after, min(limit, PAGE_MAX))
    return [msgspec.convert(dict(row), UserRow) for row in rows]


ONE_SQL: LiteralString = """
SELECT u.id, u.tenant_id, u.email, u.name, u.role, u.active, coalesce(a.confirmed, false) AS totp, u.created_at
  FROM console_user u LEFT JOIN authenticator a ON a.user_id = u.id
 WHERE u.id = $1 AND ($2::int IS NULL OR u.tenant_id = $2)
"""


async def one(tx: db.Tx, tenant_id: TenantId | None, user_id: int) -> UserRow:
    """Return one person; with a tenant, only of that tenant. Raises Refusal where there is none."""
    row = demand_found(await tx.fetchrow(ONE_SQL, user_id, tenant_id), id=user_id)
    return msgspec.convert(dict(row), UserRow)


CHANGE_SQL: LiteralString = """
UPDATE console_user SET name = coalesce($2, name), role = coalesce($3, role), active = coalesce($4, active)
 WHERE id = $1
"""


async def change(
    tx: db.Tx,
    by: Role | None,
    tenant_id: TenantId | None,
    user_id: int,
    *,
    name: str | None = None,
    role: Role | None = None,
    active: bool | None = None,
) -> tuple[UserRow, UserRow]:
    """Change a person, of that tenant where one is said; returns how it was and how it is now.

    Raises Refusal: not found; Auth.PermissionDenied where the person is, or would be, beyond `by`; Request.Conflict
    for the last operator or owner.
    """
    if name is not None:
        demand_name(name)
    await _lock_keepers(tx, (await one(tx, tenant_id, user_id)).tenant_id)
    await tx.execute(LOCK_SQL, user_id)
    was = await one(tx, tenant_id, user_id)
    demand_within(by, was.role)
    if role is not None:
        demand_fits(role, was.tenant_id)
        demand_within(by, role)
    leaves = active is False or role not in {None, was.role}
    if was.active and was.role in KEEPERS and leaves and await _keepers(tx, was) < 2:
        raise Refusal(Code.REQUEST_CONFLICT, reason=f"the last active {was.role} has to stay")
    await tx.execute(CHANGE_SQL, user_id, name, role, active)
    return was, await one(tx, None, user_id)


NAME_SQL: LiteralString = "UPDATE console_user SET name = $2 WHERE id = $1"


async def rename(tx: db.Tx, user_id: int, name: str) -> None:
    """Give a person another name. Everybody may do that to themselves. Raises Refusal for what is no name."""
    demand_name(name)
    await tx.execute(NAME_SQL, user_id, name)


LOCK_SQL: LiteralString = "SELECT id FROM console_user WHERE id = $1 FOR UPDATE"


# All of them and in order, so that two who demote each other do so one after the other.
LOCK_KEEPERS_SQL: LiteralString = """
SELECT id FROM console_user WHERE coalesce(tenant_id, 0) = coalesce($1, 0) AND role IN ('operator', 'owner') AND active
 ORDER BY id FOR UPDATE
"""


async def _lock_keepers(tx: db.Tx, tenant_id: TenantId | None) -> None:
    await tx.execute(LOCK_KEEPERS_SQL, tenant_id)


KEEPERS_SQL: LiteralString = """
SELECT count(*) FROM console_user WHERE coalesce(tenant_id, 0) = coalesce($1, 0) AND role = $2 AND active
"""


async def _keepers(tx: db.Tx, like: UserRow) -> int:
    return int(await tx.fetchval(KEEPERS_SQL, like.tenant_id, like.role))


UNCHANGED_SQL: LiteralString = """
SELECT id FROM console_user WHERE id = $1 AND password_hash = $2 AND active FOR UPDATE
"""


async def demand_unchanged(tx: db.Tx, person: Person) -> None:
    """Lock a person who proved a password before this transaction. Raises Refusal where it is another by now."""
    demand_found(await tx.fetchval(UNCHANGED_SQL, person.id, person.password_hash), Code.AUTH_SIGN_IN_FAILED)


PUT_HASH_SQL: LiteralString = "UPDATE console_user SET password_hash = $2 WHERE id = $1"


async def put_hash(tx: db.Tx, user_id: int, password_hash: str) -> None:
    """Store the hash of a password; who calls it has looked at the password."""
    await tx.execute(PUT_HASH_SQL, user_id, password_hash)
