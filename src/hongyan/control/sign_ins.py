"""Sign-ins: browsers that people of the console have signed in with.

Writes: sign_in. Entry points: prove() and open_one(), the two steps of signing in; find(), for every request after
it; every(), end(), end_all(). The cookie's token is 256 random bits and kept as a hash only. Every sign-in and every
change of password or of the authenticator gives a new one, so that a token somebody planted or saw before is worth
nothing (session fixation). A sign-in ends IDLE_S after it was last used, and KEPT_S after it began whatever happens.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, LiteralString, NamedTuple

import msgspec

from hongyan import db
from hongyan.control import attempts, authenticators, one_time, passwords, users
from hongyan.control.bounds import demand_found
from hongyan.control.permissions import GRANTED, Permission, Role
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId

COOKIE: Final = "hongyan_sign_in"
IDLE_S: Final = 1_800
KEPT_S: Final = 43_200
RENEW_S: Final = 60  # how exactly we know when it was last used
SIGN_INS_MAX: Final = 20  # of one person; the oldest ends when there is one more


class SignedIn(msgspec.Struct, frozen=True):
    """Who asks, and what they may, now: read anew for every request."""

    user_id: int
    sign_in_id: int  # 0: by a token of an own program
    tenant_id: TenantId | None  # none: of the platform
    role: Role
    email: str
    permissions: frozenset[Permission]
    tenant_active: bool


class Opened(NamedTuple):
    """A sign-in that just began; the only time its token is seen."""

    sign_in_id: int
    token: str


class SignInRow(msgspec.Struct, frozen=True):
    """A sign-in as its owner sees it in a list."""

    id: int
    address: str
    created_at: datetime
    seen_at: datetime
    present: bool  # this is the one that asks


FIND_SQL: LiteralString = """
SELECT s.id, s.user_id, u.tenant_id, u.role, u.email, coalesce(n.active, true) AS tenant_active,
       s.seen_at < now() - make_interval(secs => $4) AS stale
  FROM sign_in s JOIN console_user u ON u.id = s.user_id LEFT JOIN tenant n ON n.id = u.tenant_id
 WHERE s.token_hash = $1 AND s.seen_at > now() - make_interval(secs => $2)
   AND s.created_at > now() - make_interval(secs => $3) AND u.active
"""


async def find(tx: db.Tx, token: str, address: str) -> SignedIn | None:
    """Return who signed in with that cookie and what they may; None where the sign-in is unknown or has ended."""
    row = await tx.fetchrow(FIND_SQL, one_time.hash_of(token), IDLE_S, KEPT_S, RENEW_S)
    if row is None:
        return None
    if row["stale"]:
        await _renew(tx, row["id"], address)
    role = Role(row["role"])
    return SignedIn(
        user_id=row["user_id"],
        sign_in_id=row["id"],
        tenant_id=None if row["tenant_id"] is None else TenantId(row["tenant_id"]),
        role=role,
        email=row["email"],
        permissions=GRANTED[role],
        tenant_active=row["tenant_active"],
    )


# Whoever else has the row just now, another request of the same person, writes the same.
RENEW_SQL: LiteralString = """
UPDATE sign_in SET seen_at = now(), address = $2
 WHERE id IN (SELECT id FROM sign_in WHERE id = $1 FOR UPDATE SKIP LOCKED)
"""


async def _renew(tx: db.Tx, sign_in_id: int, address: str) -> None:
    await tx.execute(RENEW_SQL, sign_in_id, address)


# ---- signing in


async def prove(
    database: db.Database, vault: Vault, email: str, password: str, code: str | None, address: str
) -> users.Person:
    """Ask a password, before open_one(). Counts the attempt first, and commits that whatever comes of it.

    Takes as long for an e-mail that nobody has. No transaction is open while the password is checked. Raises Refusal:
    Auth.TooManyAttempts; Auth.SignInFailed, whatever it was that was wrong; Auth.OneTimeCodeNeeded where all is right
    so far and no code was given.
    """
    async with database.transaction() as tx:
        await attempts.count(tx, vault, email, address)
        person = await users.find_by_email(tx, email)
    right = await passwords.is_right(password, None if person is None else person.password_hash)
    if person is None or not right or not person.active:
        raise Refusal(Code.AUTH_SIGN_IN_FAILED)
    if person.totp and code is None:
        async with database.transaction() as tx:
            await attempts.take_back(tx, vault, email, address)
        raise Refusal(Code.AUTH_ONE_TIME_CODE_NEEDED)
    return person


async def open_one(
    tx: db.Tx, vault: Vault, person: users.Person, password: str, code: str | None, address: str
) -> Opened:
    """Begin a sign-in of a person who has proved the password; `code` is of the authenticator, or a recovery code.

    Raises Refusal (Auth.SignInFailed) where the code is wrong or was used, or the password has changed meanwhile.
    """
    await users.demand_unchanged(tx, person)
    await authenticators.demand_code(tx, vault, person.id, code)
    if passwords.is_outdated(person.password_hash):
        await users.put_hash(tx, person.id, await passwords.hashed(password))
    await attempts.forgive(tx, vault, person.email, address)
    return await begin(tx, person.id, address)


async def prove_again(
    database: db.Database, vault: Vault, user_id: int, password: str, address: str, *, wholly: bool = True
) -> users.Person:
    """Ask the password of somebody who is signed in, before what a thief of the browser must not do.

    Counts as an attempt to sign in, as prove() does; `wholly`: nothing else is asked that could be guessed, or else the
    caller forgives the attempt once that was right too. Raises Refusal: Auth.TooManyAttempts, Auth.SignInFailed.
    """
    async with database.transaction() as tx:
        person = await users.read(tx, user_id)
        await attempts.count(tx, vault, person.email, address)
    if not (await passwords.is_right(password, person.password_hash) and person.active):
        raise Refusal(Code.AUTH_SIGN_IN_FAILED)
    if wholly:
        async with database.transaction() as tx:
            await attempts.forgive(tx, vault, person.email, address)
    return person


# What ended is forgotten on the way; and of too many the oldest.
TIDY_SQL: LiteralString = """
DELETE FROM sign_in WHERE user_id = $1
   AND (seen_at <= now() - make_interval(secs => $2) OR created_at <= now() - make_interval(secs => $3)
        OR id IN (SELECT id FROM sign_in WHERE user_id = $1 ORDER BY id DESC OFFSET $4))
"""
BEGIN_SQL: LiteralString = """
INSERT INTO sign_in (user_id, token_hash, address) VALUES ($1, $2, $3) RETURNING id
"""


async def begin(tx: db.Tx, user_id: int, address: str) -> Opened:
    """Begin a sign-in of somebody who has proved to be that person."""
    await tx.execute(TIDY_SQL, user_id, IDLE_S, KEPT_S, SIGN_INS_MAX - 1)
    token = one_time.new_token()
    return Opened(await tx.fetchval(BEGIN_SQL, user_id, one_time.hash_of(token), address), token)


async def begin_anew(tx: db.Tx, user_id: int, address: str) -> Opened:
    """End all sign-ins of a person and begin one: after a change of password or of the authenticator."""
    await end_all(tx, user_id)
    return await begin(tx, user_id, address)


# ---- looking and ending


EVERY_SQL: LiteralString = """
SELECT id, address, created_at, seen_at, id = $2 AS present FROM sign_in
 WHERE user_id = $1 AND seen_at > now() - make_interval(secs => $3)
   AND created_at > now() - make_interval(secs => $4) ORDER BY id
"""


async def every(tx: db.Tx, user_id: int, present_id: int) -> Sequence[SignInRow]:
    """List a person's sign-ins, oldest first: at most SIGN_INS_MAX."""
    rows = await tx.fetch(EVERY_SQL, user_id, present_id, IDLE_S, KEPT_S)
    return [SignInRow(**dict(row)) for row in rows]


END_SQL: LiteralString = "DELETE FROM sign_in WHERE id = $1 AND user_id = $2 RETURNING id"


async def end(tx: db.Tx, user_id: int, sign_in_id: int) -> None:
    """End one sign-in of a person. Raises Refusal where there is none."""
    demand_found(await tx.fetchval(END_SQL, sign_in_id, user_id), id=sign_in_id)


END_ALL_SQL: LiteralString = """
WITH ended AS (DELETE FROM sign_in WHERE user_id = $1 RETURNING 1) SELECT count(*) FROM ended
"""


async def end_all(tx: db.Tx, user_id: int) -> int:
    """End all sign-ins of a person; returns how many there were."""
    return int(await tx.fetchval(END_ALL_SQL, user_id))
