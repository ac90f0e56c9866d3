"""App keys: what a tenant's program calls us with.

Writes: app_key. Entry points: create(), change(), rotate(), disable(), every(), page(), note_used(); of_app(), for what
people send in an app's name. The secret is
returned once and sealed, because the door needs it again to check MACs; nobody can look it up afterwards. Surprise: demo.py
shows the demo tenant's again at every `run --demo`.
"""

import base64
import ipaddress
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, LiteralString, NamedTuple, TypedDict, Unpack

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_found, demand_moment, demand_text
from hongyan.control.permissions import SCOPES, SCOPES_DEFAULT
from hongyan.vault import Secret, Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId, TenantId
from hongyan.way.snapshot import Key, Snapshot

KEY_ID_OCTETS: Final = 10  # 16 letters of base32
SECRET_OCTETS: Final = 30  # 40 characters of url-safe base64
NAME_CHARACTERS_MAX: Final = 64
ADDRESSES_MAX: Final = 100
RATE_MAX: Final = 1_000_000  # requests a second
ACTIVE_MAX: Final = 50  # of one app
PAGE_MAX: Final = 500
OVERLAP_S_MAX: Final = 90 * 86_400


class NewKey(NamedTuple):
    """A key that was just made; the only time its secret is seen."""

    key_id: str
    secret: Secret


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A key as an operator sees it in a list."""

    key_id: str
    tenant: str
    app: str
    name: str
    scopes: Sequence[str]
    allow_basic: bool
    free_text: bool
    sandbox: bool
    addresses: Sequence[str]
    rate_per_s: int
    active: bool
    expires_at: datetime | None
    used_at: datetime | None  # to the minute or so
    created_at: datetime


class KeyTerms(KeyRow, frozen=True, kw_only=True):
    """The same with what pages need."""

    id: int
    tenant_id: TenantId
    app_id: AppId


class Terms(TypedDict, total=False):
    """What can be set, and changed later: what is not given then stays. A key is a sandbox key for good."""

    name: str
    scopes: Collection[str]  # permissions by name
    allow_basic: bool  # HTTP Basic besides signed requests
    free_text: bool  # texts without a template
    addresses: Collection[str]  # addresses or networks that may use it; none = all
    rate_per_s: int  # 0 = no limit
    expires_at: datetime | None


BORN_WITH: Final[Terms] = {
    "name": "",
    "scopes": SCOPES_DEFAULT,
    "allow_basic": False,
    "free_text": False,
    "addresses": (),
    "rate_per_s": 0,
    "expires_at": None,
}
# Two at once would both find room for one key more.
LOCK_SQL: LiteralString = "SELECT id FROM app WHERE id = $1 FOR NO KEY UPDATE"
CREATE_SQL: LiteralString = """
INSERT INTO app_key (key_id, app_id, sealed, sandbox, name, scopes, allow_basic, free_text, addresses, rate_per_s,
                     expires_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
 WHERE (SELECT count(*) FROM app_key
         WHERE app_id = $2 AND active AND (expires_at IS NULL OR expires_at > now())) < $12
RETURNING id
"""


async def create(
    tx: db.Tx, vault: Vault, app_id: AppId, *, sandbox: bool = False, **terms: Unpack[Terms]
) -> NewKey:
    """Make a key for an app and return it with its secret. `sandbox`: it reaches sandbox numbers only.

    Raises Refusal for an address that is none, a scope that no key may have, or one key too many.
    """
    columns = _columns({**BORN_WITH, **terms})
    key = NewKey(_new_id(), new_secret())
    sealed = vault.seal_secret(key.secret.reveal())
    await tx.execute(LOCK_SQL, app_id)
    made = await tx.fetchval(CREATE_SQL, key.key_id, app_id, sealed, sandbox, *columns, ACTIVE_MAX)
    if made is None:
        raise Refusal(Code.REQUEST_CONFLICT, reason=f"an app has at most {ACTIVE_MAX} active keys")
    return key


SAME_SQL: LiteralString = """
SELECT k.app_id, k.sandbox, k.name, k.scopes, k.allow_basic, k.free_text, k.addresses, k.rate_per_s, k.expires_at
  FROM app_key k JOIN app a ON a.id = k.app_id
 WHERE k.key_id = $1 AND k.active AND ($2::int IS NULL OR a.tenant_id = $2) FOR UPDATE OF k
"""
CHANGE_SQL: LiteralString = """
UPDATE app_key SET name = $2, scopes = $3, allow_basic = $4, free_text = $5, addresses = $6, rate_per_s = $7,
       expires_at = $8
 WHERE key_id = $1
"""


async def change(
    tx: db.Tx, key_id: str, *, tenant_id: TenantId | None = None, **terms: Unpack[Terms]
) -> None:
    """Change what an active key of a tenant (None: anybody's) may do. Raises Refusal as create() does."""
    row = demand_found(await tx.fetchrow(SAME_SQL, key_id, tenant_id), key_id=key_id)
    await tx.execute(CHANGE_SQL, key_id, *_columns({**dict(row), **terms}))


END_SQL: LiteralString = """
UPDATE app_key SET expires_at = least(expires_at, now() + make_interval(secs => $2::float8)) WHERE key_id = $1
"""


SCOPES_SQL: LiteralString = """
SELECT k.scopes FROM app_key k JOIN app a ON a.id = k.app_id WHERE k.key_id = $1 AND ($2::int IS NULL OR a.tenant_id = $2)
"""


async def scopes_of(tx: db.Tx, tenant_id: TenantId | None, key_id: str) -> Collection[str]:
    """Return what a key may. Raises Refusal where the tenant (None: anybody) has none of this id."""
    scopes: Collection[str] = demand_found(await tx.fetchval(SCOPES_SQL, key_id, tenant_id), key_id=key_id)
    return scopes


async def rotate(
    tx: db.Tx,
    vault: Vault,
    key_id: str,
    *,
    tenant_id: TenantId | None = None,
    overlap_s: float | None = None,
) -> NewKey:
    """Make a second key that may do the same. Both work for `overlap_s`; None: until disable().

    Raises Refusal where there is no such active key of the tenant (None: of anybody).
    """
    row = dict(demand_found(await tx.fetchrow(SAME_SQL, key_id, tenant_id), key_id=key_id))
    app_id, sandbox = AppId(row.pop("app_id")), row.pop("sandbox")
    row["expires_at"] = None  # the old one's end is not the new one's
    if overlap_s is not None:
        demand(0 <= overlap_s <= OVERLAP_S_MAX, "overlap_s", f"between 0 and {OVERLAP_S_MAX}")
        await tx.execute(END_SQL, key_id, overlap_s)
    terms: Terms = row  # type: ignore[assignment]  # its columns are the terms
    return await create(tx, vault, app_id, sandbox=sandbox, **terms)


SEALED_SQL: LiteralString = """
SELECT k.sealed FROM app_key k JOIN app a ON a.id = k.app_id WHERE k.key_id = $1 AND ($2::int IS NULL OR a.tenant_id = $2)
"""


async def secret_of(tx: db.Tx, vault: Vault, tenant_id: TenantId | None, key_id: str) -> Secret:
    """Return a key's secret, to ask a MAC about; never to be shown. Raises Refusal where the tenant has no such key."""
    return vault.unseal_secret(demand_found(await tx.fetchval(SEALED_SQL, key_id, tenant_id), key_id=key_id))


DISABLE_SQL: LiteralString = """
UPDATE app_key k SET active = false FROM app a
 WHERE k.key_id = $1 AND a.id = k.app_id AND ($2::int IS NULL OR a.tenant_id = $2) RETURNING k.id
"""


async def disable(tx: db.Tx, key_id: str, *, tenant_id: TenantId | None = None) -> None:
    """Refuse a key from now on, for good. Raises Refusal where the tenant (None: anybody) has no such key."""
    demand_found(await tx.fetchval(DISABLE_SQL, key_id, tenant_id), key_id=key_id)


# Rows are locked in their order, because every door writes down what it saw. What another door has just written, or is
# writing, is near enough.
USED_SQL: LiteralString = """
WITH seen AS MATERIALIZED (
    SELECT id FROM app_key WHERE id = ANY($1::int[]) AND (used_at IS NULL OR used_at < now() - interval '50 seconds')
     ORDER BY id FOR UPDATE SKIP LOCKED
)
UPDATE app_key SET used_at = now() FROM seen WHERE app_key.id = seen.id
"""


async def note_used(database: db.Database, ids: Collection[int]) -> None:
    """Write down that these keys were used lately."""
    if ids:
        await database.execute(USED_SQL, sorted(ids))


ROWS_SQL: LiteralString = """
SELECT k.id, a.tenant_id, k.app_id, k.key_id, t.name AS tenant, a.name AS app, k.name, k.scopes, k.allow_basic,
       k.free_text, k.sandbox, k.addresses, k.rate_per_s, k.active, k.expires_at, k.used_at, k.created_at
  FROM app_key k JOIN app a ON a.id = k.app_id JOIN tenant t ON t.id = a.tenant_id
"""
PAGE_SQL: LiteralString = (
    ROWS_SQL
    + """
 WHERE ($1::int IS NULL OR a.tenant_id = $1) AND ($2::int IS NULL OR k.app_id = $2) AND k.id > $3
 ORDER BY k.id LIMIT $4
"""
)


async def page(
    tx: db.Tx,
    tenant_id: TenantId | None,
    *,
    app_id: AppId | None = None,
    after: int = 0,
    limit: int = PAGE_MAX,
) -> Sequence[KeyTerms]:
    """List a tenant's keys (None: everybody's) behind the id `after`, without their secrets."""
    rows = await tx.fetch(PAGE_SQL, tenant_id, app_id, after, min(limit, PAGE_MAX))
    return [KeyTerms(**dict(row)) for row in rows]


GET_SQL: LiteralString = ROWS_SQL + " WHERE k.key_id = $1 AND ($2::int IS NULL OR a.tenant_id = $2)"


async def get(tx: db.Tx, tenant_id: TenantId | None, key_id: str) -> KeyTerms:
    """Return one key. Raises Refusal where the tenant (None: anybody) has none of this id."""
    row = demand_found(await tx.fetchrow(GET_SQL, key_id, tenant_id), key_id=key_id)
    return KeyTerms(**dict(row))


EVERY_SQL: LiteralString = """
SELECT k.key_id, t.name AS tenant, a.name AS app, k.name, k.scopes, k.allow_basic, k.free_text, k.sandbox, k.addresses,
       k.rate_per_s, k.active, k.expires_at, k.used_at, k.created_at
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


def _columns(terms: Mapping[str, Any]) -> Sequence[object]:
    """Ask of each term whether it holds, and return them in the order of the table's columns."""
    demand_text(terms["name"], "name", NAME_CHARACTERS_MAX)
    scopes = sorted({str(scope) for scope in terms["scopes"]})
    wrong = sorted(set(scopes) - {str(scope) for scope in SCOPES})
    demand(not wrong, "scopes", f"no key may have {', '.join(wrong)[:200]}")
    demand(len(terms["addresses"]) <= ADDRESSES_MAX, "addresses", f"at most {ADDRESSES_MAX}")
    demand(0 <= terms["rate_per_s"] <= RATE_MAX, "rate_per_s", f"0 to {RATE_MAX}")
    return (
        terms["name"],
        scopes,
        terms["allow_basic"],
        terms["free_text"],
        [_network(written) for written in terms["addresses"]],
        terms["rate_per_s"],
        _moment(terms["expires_at"]),
    )


def _moment(at: datetime | None) -> datetime | None:
    demand_moment(at, "expires_at")
    return None if at is None else at.astimezone(UTC)


def _network(written: str) -> str:
    try:
        return str(ipaddress.ip_network(written))
    except ValueError as error:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="addresses", reason=str(error)) from error


def of_app(snapshot: Snapshot, tenant_id: TenantId, app_id: int, *, sandbox: bool = False) -> Key:
    """Return as whom something is accepted that no program asks for: the app, with no right but to send templates.

    No key has the number 0: it is counted against no rate. Raises Refusal where the tenant is not known.
    """
    return Key(
        id=0,
        key_id="app",
        secret=Secret(b""),
        tenant=demand_found(snapshot.tenants.get(tenant_id), tenant=tenant_id),
        app_id=AppId(app_id),
        allow_basic=False,
        free_text=False,
        sandbox=sandbox,
        networks=(),
        rate_per_s=0,
    )
