"""App keys: what a tenant's program calls us with.

Writes: app_key. Entry points: create(), rotate(), disable(), every(). The secret is returned once and sealed,
because the door needs it again to check MACs; nobody can look it up afterwards. Surprise: demo.py
shows the demo tenant's again at every `run --demo`.
"""

import base64
import ipaddress
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, LiteralString, NamedTuple

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_found
from hongyan.vault import Secret, Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId

KEY_ID_OCTETS: Final = 10  # 16 letters of base32
SECRET_OCTETS: Final = 30  # 40 characters of url-safe base64


class NewKey(NamedTuple):
    """A key that was just made; the only time its secret is seen."""

    key_id: str
    secret: Secret


class KeyRow(msgspec.Struct, frozen=True):
    """A key as an operator sees it in a list."""

    key_id: str
    tenant: str
    app: str
    allow_basic: bool
    free_text: bool
    sandbox: bool
    addresses: Sequence[str]
    rate_per_s: int
    active: bool
    created_at: datetime


CREATE_SQL: LiteralString = """
INSERT INTO app_key (key_id, app_id, sealed, allow_basic, free_text, sandbox, addresses, rate_per_s)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def create(
    tx: db.Tx,
    vault: Vault,
    app_id: AppId,
    *,
    allow_basic: bool = False,
    free_text: bool = False,
    sandbox: bool = False,
    addresses: Collection[str] = (),
    rate_per_s: int = 0,
) -> NewKey:
    """Make a key for an app and return it with its secret.

    `allow_basic`: HTTP Basic besides signed requests; `free_text`: texts without a template; `sandbox`:
    reaches sandbox numbers only; `addresses`: addresses or networks that may use it, none = all;
    `rate_per_s`: 0 = no limit. Raises Refusal for an address that is none.
    """
    networks = [_network(written) for written in addresses]
    demand(rate_per_s >= 0, "rate_per_s", "0 or more")
    key = NewKey(_new_id(), new_secret())
    sealed = vault.seal_secret(key.secret.reveal())
    await tx.execute(
        CREATE_SQL, key.key_id, app_id, sealed, allow_basic, free_text, sandbox, networks, rate_per_s
    )
    return key


SAME_SQL: LiteralString = """
SELECT app_id, allow_basic, free_text, sandbox, addresses, rate_per_s
  FROM app_key WHERE key_id = $1 AND active FOR UPDATE
"""


async def rotate(tx: db.Tx, vault: Vault, key_id: str) -> NewKey:
    """Make a second key that may do the same. Both work until disable(): that is the overlap.

    Raises Refusal where there is no such active key.
    """
    rights = dict(demand_found(await tx.fetchrow(SAME_SQL, key_id), key_id=key_id))
    return await create(tx, vault, AppId(rights.pop("app_id")), **rights)


DISABLE_SQL: LiteralString = "UPDATE app_key SET active = false WHERE key_id = $1 RETURNING id"


async def disable(tx: db.Tx, key_id: str) -> None:
    """Refuse a key from now on, for good. Raises Refusal where there is no such key."""
    demand_found(await tx.fetchval(DISABLE_SQL, key_id), key_id=key_id)


EVERY_SQL: LiteralString = """
SELECT k.key_id, t.name AS tenant, a.name AS app, k.allow_basic, k.free_text, k.sandbox, k.addresses,
       k.rate_per_s, k.active, k.created_at
  FROM app_key k JOIN app a ON a.id = k.app_id JOIN tenant t ON t.id = a.tenant_id ORDER BY k.id
"""


async def every(tx: db.Tx) -> Sequence[KeyRow]:
    """List the keys, oldest first, without their secrets."""
    return [KeyRow(**dict(row)) for row in await tx.fetch(EVERY_SQL)]


def new_secret() -> Secret:
    """Make a secret that is shown once and needs no escaping anywhere."""
    return Secret(secrets.token_urlsafe(SECRET_OCTETS).encode())


def _new_id() -> str:
    return "hy_" + base64.b32encode(secrets.token_bytes(KEY_ID_OCTETS)).decode().lower()


def _network(written: str) -> str:
    try:
        return str(ipaddress.ip_network(written))
    except ValueError as error:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="addresses", reason=str(error)) from error
