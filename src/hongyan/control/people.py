"""What is done to a person as a whole, over users, sign-ins, tokens, authenticators and invitations.

Writes nothing itself. Entry points: accept(), change(), set_password(), sign_out(), reset_totp(), ensure(). A right that is
taken away is gone at once: whoever is deactivated or gets another role or password is signed out everywhere.
"""

from hongyan import db
from hongyan.control import attempts, authenticators, invitations, passwords, sign_ins, tokens, users
from hongyan.control.permissions import Role
from hongyan.vault import Vault
from hongyan.vocab.message import TenantId


async def change(
    tx: db.Tx,
    by: Role | None,
    tenant_id: TenantId | None,
    user_id: int,
    *,
    name: str | None = None,
    role: Role | None = None,
    active: bool | None = None,
) -> users.UserRow:
    """Change a person (see users.change(), whose refusals it raises), and end what depended on what they were."""
    was, now = await users.change(tx, by, tenant_id, user_id, name=name, role=role, active=active)
    if was.active and not now.active:
        await tokens.revoke_all(tx, user_id)
        await invitations.revoke_all_by(tx, user_id)
    if (was.role, was.active) != (now.role, now.active):
        await sign_ins.end_all(tx, user_id)
    return now


async def sign_out(tx: db.Tx, by: Role | None, tenant_id: TenantId | None, user_id: int) -> int:
    """End all sign-ins of a person; returns how many. Raises Refusal as users.change() does."""
    users.demand_within(by, (await users.one(tx, tenant_id, user_id)).role)
    return await sign_ins.end_all(tx, user_id)


async def accept(tx: db.Tx, token: str, name: str, password: str) -> users.UserRow:
    """Make the person who was invited; or give that password to who was invited back, whose name stays.

    Raises Refusal as invitations.take() and users.create() do; then the invitation is still good.
    """
    taken = await invitations.take(tx, token)
    if taken.user_id is None:
        user_id = await users.create(
            tx,
            tenant_id=taken.tenant_id,
            email=taken.email,
            name=name or taken.name,
            role=taken.role,
            password=password,
        )
        return await users.one(tx, taken.tenant_id, user_id)
    await set_password(tx, taken.user_id, password)
    person = await users.read(tx, taken.user_id)
    if taken.frees_totp and person.totp:
        await authenticators.remove(tx, person.id)
    return await users.one(tx, taken.tenant_id, person.id)


async def set_password(tx: db.Tx, user_id: int, password: str) -> int:
    """Give a person a new password and sign them out everywhere; returns how many sign-ins that ended.

    Raises Refusal where there is no such person, or it is no password to take.

    Tokens of their programs stay: they are not made of the password. Revoke them where they may be known.
    """
    person = await users.read(tx, user_id)
    passwords.demand_good(password, person.email)
    await users.put_hash(tx, user_id, await passwords.hashed(password))
    return await sign_ins.end_all(tx, user_id)


async def reset_totp(tx: db.Tx, user_id: int) -> None:
    """Take away a lost authenticator. Raises Refusal where there is none."""
    await authenticators.remove(tx, user_id)
    await sign_ins.end_all(tx, user_id)


async def unlock(tx: db.Tx, vault: Vault, email: str) -> None:
    """Let somebody try to sign in again at once."""
    await attempts.clear(tx, vault, users.normal_email(email))


async def ensure(
    tx: db.Tx, *, tenant_id: TenantId | None, email: str, name: str, role: Role, password: str
) -> int:
    """Make a person, or give the one who has the e-mail that password again; returns the id. For the demo."""
    person = await users.find_by_email(tx, email)
    if person is None:
        return await users.create(
            tx, tenant_id=tenant_id, email=email, name=name, role=role, password=password
        )
    if not await passwords.is_right(password, person.password_hash):
        await set_password(tx, person.id, password)
    return person.id
