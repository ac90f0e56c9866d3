"""Site keys: what a page asks for codes with. Everybody may read one, so it has no secret and little that it may.

Writes: site_key. Entry points: create(), change(), remove(), page(), get(). A key starts verifications and checks codes of its
scenes, from pages of its origins, always after a challenge; doors/widget.py asks all that. What it proves, only the app's own
server can redeem, with an app key.
"""

import base64
import re
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString, TypedDict, Unpack
from urllib.parse import SplitResult, urlsplit

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_found, demand_text
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId, TenantId
from hongyan.vocab.verification import Scene

PREFIX: Final = "hys_"
KEY_ID_OCTETS: Final = 10  # 16 letters of base32
NAME_CHARACTERS_MAX: Final = 64
ORIGINS_MAX: Final = 20
ORIGIN_CHARACTERS_MAX: Final = 300
RETURN_ADDRESSES_MAX: Final = 20
RETURN_ADDRESS_CHARACTERS_MAX: Final = 1_000
SITE_KEYS_MAX: Final = 50  # of one app
PAGE_MAX: Final = 500
# Where nobody listens in between: the developer's own machine. Everywhere else a code is typed under TLS.
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
USUAL_PORTS: Final = {"http": 80, "https": 443}


class SiteKeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A site key as people see it."""

    id: int
    key_id: str
    tenant_id: TenantId
    app_id: AppId
    app: str
    name: str
    origins: Sequence[str]
    return_addresses: Sequence[str]
    scenes: Sequence[Scene]
    sandbox: bool
    active: bool
    created_at: datetime


class Terms(TypedDict, total=False):
    """What can be set, and changed later: what is not given then stays. A key is a sandbox key for good."""

    name: str
    origins: Collection[str]
    return_addresses: Collection[str]
    scenes: Collection[Scene]
    active: bool


BORN_WITH: Final[Terms] = {
    "name": "",
    "origins": (),
    "return_addresses": (),
    "scenes": (Scene.LOGIN, Scene.REGISTER),
    "active": True,
}
# Two at once would both find room for one key more.
LOCK_SQL: LiteralString = "SELECT id FROM app WHERE id = $1 FOR NO KEY UPDATE"
CREATE_SQL: LiteralString = """
INSERT INTO site_key (key_id, app_id, sandbox, name, origins, return_addresses, scenes, active)
SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE (SELECT count(*) FROM site_key WHERE app_id = $2) < $9
RETURNING id
"""


async def create(tx: db.Tx, app_id: AppId, *, sandbox: bool = False, **terms: Unpack[Terms]) -> int:
    """Make a site key for an app and return its id. `sandbox`: it reaches sandbox numbers only.

    Raises Refusal for an origin or a return address that is none, or one key too many.
    """
    columns = _columns({**BORN_WITH, **terms})
    await tx.execute(LOCK_SQL, app_id)
    made = await tx.fetchval(CREATE_SQL, _new_id(), app_id, sandbox, *columns, SITE_KEYS_MAX)
    if made is None:
        raise Refusal(Code.REQUEST_CONFLICT, reason=f"an app has at most {SITE_KEYS_MAX} site keys")
    return int(made)


SAME_SQL: LiteralString = """
SELECT s.name, s.origins, s.return_addresses, s.scenes, s.active FROM site_key s JOIN app a ON a.id = s.app_id
 WHERE s.id = $1 AND ($2::int IS NULL OR a.tenant_id = $2) FOR UPDATE OF s
"""
CHANGE_SQL: LiteralString = """
UPDATE site_key SET name = $2, origins = $3, return_addresses = $4, scenes = $5, active = $6 WHERE id = $1
"""


async def change(tx: db.Tx, tenant_id: TenantId | None, id_: int, **terms: Unpack[Terms]) -> None:
    """Change what is given of a tenant's key (None: anybody's). Raises Refusal as create() does, or where it is not there."""
    row = demand_found(await tx.fetchrow(SAME_SQL, id_, tenant_id), site_key=id_)
    await tx.execute(CHANGE_SQL, id_, *_columns({**dict(row), **terms}))


REMOVE_SQL: LiteralString = """
DELETE FROM site_key s USING app a
 WHERE s.id = $1 AND a.id = s.app_id AND ($2::int IS NULL OR a.tenant_id = $2) RETURNING s.id
"""


async def remove(tx: db.Tx, tenant_id: TenantId | None, id_: int) -> None:
    """Take a key away for good: pages that show it work no more. Raises Refusal where the tenant has no such key."""
    demand_found(await tx.fetchval(REMOVE_SQL, id_, tenant_id), site_key=id_)


ROWS_SQL: LiteralString = """
SELECT s.id, s.key_id, a.tenant_id, s.app_id, a.name AS app, s.name, s.origins, s.return_addresses, s.scenes, s.sandbox,
       s.active AND a.active AS active, s.created_at
  FROM site_key s JOIN app a ON a.id = s.app_id
"""
PAGE_SQL: LiteralString = (
    ROWS_SQL
    + """
 WHERE ($1::int IS NULL OR a.tenant_id = $1) AND ($2::int IS NULL OR s.app_id = $2) AND s.id > $3 ORDER BY s.id LIMIT $4
"""
)


async def page(
    tx: db.Tx,
    tenant_id: TenantId | None,
    *,
    app_id: AppId | None = None,
    after: int = 0,
    limit: int = PAGE_MAX,
) -> Sequence[SiteKeyRow]:
    """List a tenant's site keys (None: everybody's) behind the id `after`, at most `limit` (and PAGE_MAX)."""
    return [_row(row) for row in await tx.fetch(PAGE_SQL, tenant_id, app_id, after, min(limit, PAGE_MAX))]


GET_SQL: LiteralString = ROWS_SQL + " WHERE s.id = $1 AND ($2::int IS NULL OR a.tenant_id = $2)"


async def get(tx: db.Tx, tenant_id: TenantId | None, id_: int) -> SiteKeyRow:
    """Return one site key. Raises Refusal where the tenant (None: anybody) has none of this id."""
    return _row(demand_found(await tx.fetchrow(GET_SQL, id_, tenant_id), site_key=id_))


def _row(row: db.Row) -> SiteKeyRow:
    return SiteKeyRow(**{**dict(row), "scenes": [Scene(scene) for scene in row["scenes"]]})


def _new_id() -> str:
    return PREFIX + base64.b32encode(secrets.token_bytes(KEY_ID_OCTETS)).decode().lower()


def _columns(terms: Any) -> Sequence[object]:
    """Ask of each term whether it holds, and return them in the order of the table's columns."""
    demand_text(terms["name"], "name", NAME_CHARACTERS_MAX)
    origins = [_demand_origin(origin) for origin in terms["origins"]]
    demand(0 < len(set(origins)) <= ORIGINS_MAX, "origins", f"1 to {ORIGINS_MAX} of them")
    addresses = list(dict.fromkeys(terms["return_addresses"]))
    demand(len(addresses) <= RETURN_ADDRESSES_MAX, "return_addresses", f"at most {RETURN_ADDRESSES_MAX}")
    for address in addresses:
        _demand_return_address(address)
    scenes = sorted({Scene(scene).value for scene in terms["scenes"]})
    demand(len(scenes) > 0, "scenes", "at least one")
    # What is bound to a sum and a payee, the app's own server asks for: a browser would name them as it likes.
    demand(Scene.PAY not in scenes, "scenes", "payments are asked for by the app's own server")
    return terms["name"], list(dict.fromkeys(origins)), addresses, scenes, terms["active"]


def _demand_origin(origin: str) -> str:
    """Return an origin as a browser writes it in the header of that name (RFC 6454 section 6.2)."""
    reason = "https://host, and :port unless it is 443; http for this machine only, as http://localhost:5000"
    demand(0 < len(origin) <= ORIGIN_CHARACTERS_MAX, "origins", reason)
    parts = _split(origin, "origins", reason)
    alone = not parts.path.strip("/") and "?" not in origin and "#" not in origin
    demand(alone, "origins", "an origin has no path")
    host = parts.hostname or ""
    port = "" if parts.port in (None, USUAL_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def _demand_return_address(address: str) -> None:
    reason = "an https address without a fragment; http for this machine only"
    demand(0 < len(address) <= RETURN_ADDRESS_CHARACTERS_MAX, "return_addresses", reason)
    _split(address, "return_addresses", reason)
    demand("#" not in address, "return_addresses", reason)


_HOST: Final = re.compile(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*|[0-9a-f:]*:[0-9a-f:.]*"
)


def _split(address: str, parameter: str, reason: str) -> SplitResult:
    """Take an address apart. Raises Refusal for what a browser would read otherwise than we do."""
    demand(address.isascii() and all("!" <= each <= "~" for each in address), parameter, reason)
    demand("\\" not in address and "@" not in address.partition("//")[2].partition("/")[0], parameter, reason)
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        demand(False, parameter, reason)
        raise AssertionError from None
    demand(port != 0 and _HOST.fullmatch(host) is not None, parameter, reason)
    plain = parts.scheme == "http" and host in LOOPBACK
    demand(parts.scheme == "https" or plain, parameter, reason)
    return parts
