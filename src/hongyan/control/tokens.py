"""API tokens: what a person's own programs call us with, in that person's name.

Writes: api_token. Entry points: create(), find(), every(), revoke(). A token is shown once and kept as a hash. It may
do what is in its scopes and its maker may do at the time it is used: a demotion reaches all of somebody's tokens.
"""

import ipaddress
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final, LiteralString, NamedTuple

import msgspec

from hongyan import clock, db
from hongyan.control import one_time
from hongyan.control.bounds import demand, demand_found, demand_name
from hongyan.control.permissions import GRANTED, Permission, Role
from hongyan.control.sign_ins import SignedIn
from hongyan.vault import Secret
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId

PREFIX: Final = "hyt_"
HINT_CHARACTERS: Final = 8  # of the token, its prefix included
TOKENS_MAX: Final = 50  # of one person, alive
ADDRESSES_MAX: Final = 50
VALID_S_MAX: Final = 365 * 86_400
# People are made and changed by people alone.
SCOPES: Final = frozenset(Permission) - {Permission.USERS_WRITE}


class NewToken(NamedTuple):
    """A token that was just made; the only time it is seen."""

    id: int
    token: Secret
    expires_at: datetime


class TokenRow(msgspec.Struct, frozen=True):
    """A token as its maker sees it in a list."""

    id: int
    name: str
    hint: str
    scopes: Sequence[str]
    addresses: Sequence[str]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    used_from: str


# Two requests at once must not pass the bound together: the person's row is locked before their tokens are counted.
LOCK_SQL: LiteralString = "SELECT id FROM console_user WHERE id = $1 FOR UPDATE"
ALIVE_SQL: LiteralString = """
SELECT count(*) FROM api_token WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > now()
"""
CREATE_SQL: LiteralString = """
INSERT INTO api_token (user_id, name, hint, token_hash, scopes, addresses, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
"""


async def create(
    tx: db.Tx,
    user_id: int,
    role: Role,
    name: str,
    scopes: Collection[Permission],
    *,
    valid_s: int,
    addresses: Collection[str] = (),
) -> NewToken:
    """Make a token for a person of that role. Raises Refusal for a scope the person has not, or a value out of bounds."""
    demand_name(name)
    demand(len(scopes) > 0, "scopes", "at least one")
    beyond = sorted(set(scopes) - (GRANTED[role] & SCOPES))
    demand(not beyond, "scopes", f"not yours to give: {', '.join(beyond)}")
    demand(0 < valid_s <= VALID_S_MAX, "valid_s", f"between 1 and {VALID_S_MAX}")
    networks = _networks(addresses)
    await tx.execute(LOCK_SQL, user_id)
    if await tx.fetchval(ALIVE_SQL, user_id) >= TOKENS_MAX:
        raise Refusal(Code.REQUEST_CONFLICT, reason=f"at most {TOKENS_MAX} tokens; revoke one")
    token = one_time.new_token(PREFIX)
    expires_at = clock.now() + timedelta(seconds=valid_s)
    hint, hashed = token[:HINT_CHARACTERS], one_time.hash_of(token)
    number = await tx.fetchval(CREATE_SQL, user_id, name, hint, hashed, sorted(scopes), networks, expires_at)
    return NewToken(number, Secret(token.encode()), expires_at)


def _networks(addresses: Collection[str]) -> list[str]:
    demand(len(addresses) <= ADDRESSES_MAX, "addresses", f"at most {ADDRESSES_MAX}")
    try:
        return [str(ipaddress.ip_network(written)) for written in addresses]
    except ValueError as error:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="addresses", reason=str(error)) from error


FIND_SQL: LiteralString = """
SELECT t.id, t.user_id, t.scopes, t.addresses, u.tenant_id, u.role, u.email, coalesce(n.active, true) AS tenant_active,
       coalesce(t.used_at < now() - interval '1 minute', true) AS stale
  FROM api_token t JOIN console_user u ON u.id = t.user_id LEFT JOIN tenant n ON n.id = u.tenant_id
 WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND t.expires_at > now() AND u.active
"""


async def find(tx: db.Tx, token: str, address: str) -> SignedIn | None:
    """Return whose token that is and what it may; None where it is none any more, or its owner is none.

    Raises Refusal (Auth.IpDenied) where it is used from an address that is not on its list.
    """
    row = await tx.fetchrow(FIND_SQL, one_time.hash_of(token))
    if row is None:
        return None
    if row["addresses"] and not _is_within(address, row["addresses"]):
        raise Refusal(Code.AUTH_IP_DENIED)
    if row["stale"]:
        await _use(tx, row["id"], address)
    role = Role(row["role"])
    granted = GRANTED[role] & SCOPES
    return SignedIn(
        user_id=row["user_id"],
        sign_in_id=0,
        tenant_id=None if row["tenant_id"] is None else TenantId(row["tenant_id"]),
        role=role,
        email=row["email"],
        permissions=frozenset(each for each in granted if each.value in row["scopes"]),
        tenant_active=row["tenant_active"],
    )


# Whoever else has the row just now writes the same.
USE_SQL: LiteralString = """
UPDATE api_token SET used_at = now(), used_from = $2
 WHERE id IN (SELECT id FROM api_token WHERE id = $1 FOR UPDATE SKIP LOCKED)
"""


async def _use(tx: db.Tx, token_id: int, address: str) -> None:
    await tx.execute(USE_SQL, token_id, address)


def _is_within(address: str, networks: Sequence[str]) -> bool:
    try:
        ours = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket has none
        return False
    return any(ours in ipaddress.ip_network(network) for network in networks)


EVERY_SQL: LiteralString = """
SELECT id, name, hint, scopes, addresses, created_at, expires_at, used_at, used_from
  FROM api_token WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > now() ORDER BY id
"""


async def every(tx: db.Tx, user_id: int) -> Sequence[TokenRow]:
    """List a person's living tokens, oldest first: at most TOKENS_MAX."""
    return [TokenRow(**dict(row)) for row in await tx.fetch(EVERY_SQL, user_id)]


REVOKE_SQL: LiteralString = """
UPDATE api_token SET revoked_at = now() WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL RETURNING id
"""


async def revoke(tx: db.Tx, user_id: int, token_id: int) -> None:
    """Refuse a token from now on. Raises Refusal where the person has no such token."""
    demand_found(await tx.fetchval(REVOKE_SQL, token_id, user_id), id=token_id)


REVOKE_ALL_SQL: LiteralString = """
UPDATE api_token SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL
"""


async def revoke_all(tx: db.Tx, user_id: int) -> None:
    await tx.execute(REVOKE_ALL_SQL, user_id)
