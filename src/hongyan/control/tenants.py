"""Tenants and their apps: who owns messages and money, by which limits, and which of their programs sends.

Writes: tenant, tenant_change, app. Entry points: create(), change(), suspend(), resume(), qualify(), unqualify(), get(),
page(), history(); create_app(), apps(). A tenant is born with a data key of its own (data_keys.py), so that it can be
shredded alone. One that is not qualified may try everything with sandbox keys, and write to nobody.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, LiteralString, TypedDict, Unpack

import msgspec

from hongyan import db
from hongyan.control import data_keys
from hongyan.control.bounds import demand, demand_currency, demand_found, demand_name, demand_text
from hongyan.vault import Secret, Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId, Purpose, TenantId

EVERYWHERE: Final = "*"  # every country that has a price
COUNTRIES_MAX: Final = 250
HITS_MAX: Final = 10_000  # of one number in a window: each of them is remembered
REASON_CHARACTERS_MAX: Final = 500
PAGE_MAX: Final = 500
APPS_MAX: Final = 1_000
UNSAID: Final = "command line"  # who, where nobody else is known

ChargeOn = Literal["submit", "delivery"]
Hits = tuple[int, int, int]  # at most so many a minute, an hour, a day; 0 = no limit
Action = Literal["created", "changed", "suspended", "resumed", "qualified", "unqualified"]


class TenantRow(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant as an operator sees it in a list."""

    id: TenantId
    name: str
    active: bool
    qualified: bool  # false: sandbox keys alone may send
    currency: str
    charge_on: ChargeOn
    countries: Sequence[str]
    balance_micro: int
    created_at: datetime


class TenantTerms(TenantRow, frozen=True, kw_only=True):
    """A tenant with all that can be set."""

    legal_name: str  # of the enterprise; empty until its qualification is approved
    weight: int
    quiet_from_hour: int  # promotional texts leave before this hour, of the recipient's clock
    quiet_until_hour: int  # and from this hour on
    limits: Mapping[Purpose, Hits]  # of one number; what is not here goes by the platform's
    duplicate_s: int  # the same text not again to the same number within; 0 = may
    consent_demanded: bool  # promotional lists leave out whom no consent is on record of


class TenantChange(msgspec.Struct, frozen=True):
    """One line of a tenant's history."""

    at: datetime
    who: str
    action: Action
    reason: str


class Terms(TypedDict, total=False):
    """What can be set, and changed later: what is not given then stays."""

    charge_on: ChargeOn
    countries: Collection[str]
    weight: int
    quiet_from_hour: int
    quiet_until_hour: int
    limits: Mapping[Purpose, Hits]
    duplicate_s: int
    consent_demanded: bool


CREATE_SQL: LiteralString = """
INSERT INTO tenant (currency, qualified, name, charge_on, countries, weight, quiet_from_hour, quiet_until_hour, limits,
                    duplicate_s, consent_demanded)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (name) DO NOTHING RETURNING id
"""
BORN_WITH: Final[Terms] = {
    "charge_on": "submit",
    "countries": ("CN",),
    "weight": 1,
    "quiet_from_hour": 20,
    "quiet_until_hour": 9,
    "limits": {},
    "duplicate_s": 0,
    "consent_demanded": False,
}


async def create(
    tx: db.Tx,
    vault: Vault,
    master: Secret,
    name: str,
    *,
    currency: str = "CNY",
    qualified: bool = True,
    who: str = UNSAID,
    **terms: Unpack[Terms],
) -> TenantId:
    """Create a tenant with its data key, which `vault` opens at once.

    `countries` are ISO 3166-1 alpha-2 or EVERYWHERE; `weight` 1..100 is its share inside a lane; `limits`
    replace the platform's for one number, by purpose; `qualified`: whoever makes it vouches for the enterprise.
    Raises Refusal for a name that is taken or a value out of bounds.
    """
    demand_currency(currency)
    demand_name(name)
    columns = _columns({**BORN_WITH, **terms})
    number = await tx.fetchval(CREATE_SQL, currency, qualified, name, *columns)
    demand(number is not None, "name", "there is a tenant of this name")
    tenant_id = TenantId(number)
    key = data_keys.name_of(tenant_id)
    await data_keys.make(tx, master, key)
    vault.add({key: (await data_keys.wrapped(tx))[key]})
    await _write_down(tx, tenant_id, who, "created", "")
    return tenant_id


TERMS_SQL: LiteralString = """
SELECT name, charge_on, countries, weight, quiet_from_hour, quiet_until_hour, limits, duplicate_s, consent_demanded
  FROM tenant WHERE id = $1 FOR UPDATE
"""
NAMED_SQL: LiteralString = "SELECT id FROM tenant WHERE name = $1"
CHANGE_SQL: LiteralString = """
UPDATE tenant SET name = $2, charge_on = $3, countries = $4, weight = $5, quiet_from_hour = $6, quiet_until_hour = $7,
       limits = $8, duplicate_s = $9, consent_demanded = $10
 WHERE id = $1
"""


async def change(
    tx: db.Tx, tenant_id: TenantId, *, who: str = UNSAID, name: str = "", **terms: Unpack[Terms]
) -> None:
    """Change what is given of a tenant. Raises Refusal as create() does, or where there is no such tenant."""
    row = demand_found(await tx.fetchrow(TERMS_SQL, tenant_id), tenant=tenant_id)
    now: dict[str, Any] = {**dict(row), "limits": _limits(row["limits"])}
    revised: dict[str, Any] = {**now, **terms, "name": name or now["name"]}
    if revised["name"] != now["name"]:
        demand_name(name)
        demand(await tx.fetchval(NAMED_SQL, name) is None, "name", "there is a tenant of this name")
    columns = _columns(revised)
    try:
        await tx.execute(CHANGE_SQL, tenant_id, revised["name"], *columns)
    except db.Unstorable:  # somebody took the name between the look and now
        demand(False, "name", "there is a tenant of this name")
    changed = sorted(each for each, value in revised.items() if value != now[each])
    if changed:
        await _write_down(tx, tenant_id, who, "changed", ", ".join(changed))


def _columns(terms: Mapping[str, Any]) -> Sequence[object]:
    """Ask of each term whether it holds, and return them in the order of the table's columns."""
    countries, limits = sorted(set(terms["countries"])), terms["limits"]
    demand(0 < len(countries) <= COUNTRIES_MAX, "countries", f"1 to {COUNTRIES_MAX} of them")
    for country in countries:
        sound = len(country) == 2 and country.isascii() and country.isalpha() and country.isupper()
        demand(country == EVERYWHERE or sound, "countries", "ISO alpha-2, or *")
    demand(terms["charge_on"] in ("submit", "delivery"), "charge_on", "submit or delivery")
    demand(1 <= terms["weight"] <= 100, "weight", "between 1 and 100")
    demand(9 <= terms["quiet_from_hour"] <= 21, "quiet_from_hour", "between 9 and 21")
    demand(8 <= terms["quiet_until_hour"] <= 12, "quiet_until_hour", "between 8 and 12")
    awake = terms["quiet_until_hour"] < terms["quiet_from_hour"]
    demand(awake, "quiet_from_hour", "after quiet_until_hour: some hours have to be left")
    demand(0 <= terms["duplicate_s"] <= 86_400, "duplicate_s", "between 0 and 86400")
    for purpose, hits in limits.items():
        sound = len(hits) == 3 and all(0 <= hit <= HITS_MAX for hit in hits)
        demand(sound, f"limits.{purpose}", f"three numbers, for minute, hour and day, of 0 to {HITS_MAX}")
    return (
        terms["charge_on"],
        countries,
        terms["weight"],
        terms["quiet_from_hour"],
        terms["quiet_until_hour"],
        msgspec.json.encode(limits).decode(),
        terms["duplicate_s"],
        terms["consent_demanded"],
    )


ACTIVE_SQL: LiteralString = "UPDATE tenant SET active = $2 WHERE id = $1 AND active <> $2 RETURNING id"


async def suspend(tx: db.Tx, tenant_id: TenantId, *, who: str = UNSAID, reason: str = "") -> None:
    """Take nothing more from a tenant; what it has been promised still leaves. Raises Refusal for no such tenant."""
    await _move(tx, ACTIVE_SQL, tenant_id, who, "suspended", reason, False)


async def resume(tx: db.Tx, tenant_id: TenantId, *, who: str = UNSAID, reason: str = "") -> None:
    """Take from a tenant again. Raises Refusal for no such tenant."""
    await _move(tx, ACTIVE_SQL, tenant_id, who, "resumed", reason, True)


QUALIFY_SQL: LiteralString = """
UPDATE tenant SET qualified = true, legal_name = $2 WHERE id = $1 AND (NOT qualified OR legal_name <> $2) RETURNING id
"""


async def qualify(tx: db.Tx, tenant_id: TenantId, legal_name: str, *, who: str) -> None:
    """Let a tenant write to everybody, under the name its enterprise is registered by."""
    await _move(tx, QUALIFY_SQL, tenant_id, who, "qualified", legal_name, legal_name)


UNQUALIFY_SQL: LiteralString = (
    "UPDATE tenant SET qualified = $2 WHERE id = $1 AND qualified <> $2 RETURNING id"
)


async def unqualify(tx: db.Tx, tenant_id: TenantId, *, who: str, reason: str) -> None:
    """Take a tenant back to sandbox keys, as when its licence ran out."""
    await _move(tx, UNQUALIFY_SQL, tenant_id, who, "unqualified", reason, False)


async def _move(
    tx: db.Tx, sql: LiteralString, tenant_id: TenantId, who: str, action: Action, reason: str, value: object
) -> None:
    """Change one column and write it down, but for what is so already."""
    demand_text(reason, "reason", REASON_CHARACTERS_MAX)
    if await tx.fetchval(sql, tenant_id, value) is not None:
        await _write_down(tx, tenant_id, who, action, reason)
    else:
        demand_found(await tx.fetchval(THERE_SQL, tenant_id), tenant=tenant_id)


THERE_SQL: LiteralString = "SELECT id FROM tenant WHERE id = $1"
WRITE_DOWN_SQL: LiteralString = """
INSERT INTO tenant_change (tenant_id, who, action, reason) VALUES ($1, $2, $3, $4)
"""


async def _write_down(tx: db.Tx, tenant_id: TenantId, who: str, action: Action, reason: str) -> None:
    await tx.execute(WRITE_DOWN_SQL, tenant_id, who, action, reason)


HISTORY_SQL: LiteralString = """
SELECT at, who, action, reason FROM tenant_change WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2
"""


async def history(tx: db.Tx, tenant_id: TenantId, limit: int = PAGE_MAX) -> Sequence[TenantChange]:
    """List what was done to a tenant, the newest first, at most `limit`."""
    return [TenantChange(**dict(row)) for row in await tx.fetch(HISTORY_SQL, tenant_id, min(limit, PAGE_MAX))]


FIND_SQL: LiteralString = "SELECT id FROM tenant WHERE name = $1 OR id::text = $1 ORDER BY name <> $1 LIMIT 1"


async def find(tx: db.Tx, named: str) -> TenantId:
    """Find a tenant by its name or, where none has it, its number. Raises Refusal."""
    return TenantId(demand_found(await tx.fetchval(FIND_SQL, named), tenant=named))


EVERY_SQL: LiteralString = """
SELECT t.id, t.name, t.active, t.qualified, t.currency, t.charge_on, t.countries, t.created_at,
       coalesce((SELECT sum(b.amount_micro) FROM balance b WHERE b.tenant_id = t.id), 0)::bigint
           AS balance_micro
  FROM tenant t ORDER BY t.id
"""


async def every(tx: db.Tx) -> Sequence[TenantRow]:
    """List the tenants, oldest first."""
    return [TenantRow(**dict(row)) for row in await tx.fetch(EVERY_SQL)]


ROWS_SQL: LiteralString = """
SELECT t.id, t.name, t.active, t.qualified, t.currency, t.charge_on, t.countries, t.created_at, t.legal_name, t.weight,
       t.quiet_from_hour, t.quiet_until_hour, t.limits, t.duplicate_s, t.consent_demanded,
       coalesce((SELECT sum(b.amount_micro) FROM balance b WHERE b.tenant_id = t.id), 0)::bigint
           AS balance_micro
  FROM tenant t
"""
PAGE_SQL: LiteralString = (
    ROWS_SQL
    + """
 WHERE t.id > $1 AND ($2::int IS NULL OR t.id = $2)
   AND ($3 = '' OR strpos(lower(t.name), lower($3)) > 0 OR strpos(lower(t.legal_name), lower($3)) > 0)
   AND ($4::boolean IS NULL OR t.active = $4) AND ($5::boolean IS NULL OR t.qualified = $5)
 ORDER BY t.id LIMIT $6
"""
)


async def page(
    tx: db.Tx,
    *,
    tenant_id: TenantId | None = None,
    named: str = "",
    active: bool | None = None,
    qualified: bool | None = None,
    after: int = 0,
    limit: int = PAGE_MAX,
) -> Sequence[TenantTerms]:
    """List tenants behind the id `after`, at most `limit` (and PAGE_MAX); `named`: a piece of either name."""
    rows = await tx.fetch(PAGE_SQL, after, tenant_id, named, active, qualified, min(limit, PAGE_MAX))
    return [_terms(row) for row in rows]


GET_SQL: LiteralString = ROWS_SQL + " WHERE t.id = $1"


async def get(tx: db.Tx, tenant_id: TenantId) -> TenantTerms:
    """Return one tenant. Raises Refusal where there is none."""
    return _terms(demand_found(await tx.fetchrow(GET_SQL, tenant_id), tenant=tenant_id))


def _terms(row: db.Row) -> TenantTerms:
    return TenantTerms(**{**dict(row), "limits": _limits(row["limits"])})


def _limits(written: str) -> Mapping[Purpose, Hits]:
    return msgspec.json.decode(written, type=dict[Purpose, Hits])


# ---- apps


class AppRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of a tenant's programs: it has keys, a webhook and a queue of notices of its own."""

    id: AppId
    tenant_id: TenantId
    name: str
    login: str | None  # protocol:name, where it is a system that logs in
    keys: int  # active ones
    active: bool  # switched off: its keys and its login are refused
    created_at: datetime


CREATE_APP_SQL: LiteralString = """
INSERT INTO app (tenant_id, name)
SELECT $1, $2 WHERE (SELECT count(*) FROM app WHERE tenant_id = $1) < $3
ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id
"""
# Two at once would both find room for one app more, or a name that nobody has.
LOCK_SQL: LiteralString = "SELECT id FROM tenant WHERE id = $1 FOR NO KEY UPDATE"
FIND_APP_SQL: LiteralString = "SELECT id FROM app WHERE tenant_id = $1 AND name = $2"


async def create_app(tx: db.Tx, tenant_id: TenantId, name: str) -> AppId:
    """Create an app of a tenant. Raises Refusal for a name that is taken, or one app too many."""
    demand_name(name)
    await tx.execute(LOCK_SQL, tenant_id)
    number = await tx.fetchval(CREATE_APP_SQL, tenant_id, name, APPS_MAX)
    if number is None:
        taken = await tx.fetchval(FIND_APP_SQL, tenant_id, name) is not None
        demand(not taken, "name", "the tenant has an app of this name")
        raise Refusal(Code.REQUEST_CONFLICT, reason=f"a tenant has at most {APPS_MAX} apps")
    return AppId(number)


async def find_app(tx: db.Tx, tenant_id: TenantId, name: str) -> AppId:
    """Find an app of a tenant by name. Raises Refusal."""
    return AppId(demand_found(await tx.fetchval(FIND_APP_SQL, tenant_id, name), app=name))


RENAME_APP_SQL: LiteralString = """
UPDATE app SET name = $3 WHERE id = $2 AND tenant_id = $1
   AND NOT EXISTS (SELECT FROM app other WHERE other.tenant_id = $1 AND other.name = $3 AND other.id <> $2)
RETURNING id
"""


async def rename_app(tx: db.Tx, tenant_id: TenantId, app_id: AppId, name: str) -> None:
    """Give an app another name. Raises Refusal for a name that is taken, or where the tenant has no such app."""
    demand_name(name)
    await demand_app(tx, tenant_id, app_id)
    await tx.execute(LOCK_SQL, tenant_id)
    renamed = await tx.fetchval(RENAME_APP_SQL, tenant_id, app_id, name)
    demand(renamed is not None, "name", "the tenant has an app of this name")


SWITCH_APP_SQL: LiteralString = "UPDATE app SET active = $2 WHERE id = $1"


async def switch_app(tx: db.Tx, app_id: AppId, *, active: bool) -> None:
    """Refuse an app's keys and its login from now on, or take them again. What it was promised goes its way."""
    await tx.execute(SWITCH_APP_SQL, app_id, active)


OWN_APP_SQL: LiteralString = "SELECT tenant_id FROM app WHERE id = $2 AND ($1::int IS NULL OR tenant_id = $1)"


async def demand_app(tx: db.Tx, tenant_id: TenantId | None, app_id: AppId) -> TenantId:
    """Return whose an app is. Raises Refusal where it is not the tenant's (None: anybody's)."""
    return TenantId(demand_found(await tx.fetchval(OWN_APP_SQL, tenant_id, app_id), app=app_id))


APPS_SQL: LiteralString = """
SELECT a.id, a.tenant_id, a.name, a.active, l.protocol || ':' || l.name AS login, a.created_at,
       (SELECT count(*) FROM app_key k
         WHERE k.app_id = a.id AND k.active AND (k.expires_at IS NULL OR k.expires_at > now()))::int AS keys
  FROM app a LEFT JOIN login l ON l.app_id = a.id
 WHERE ($1::int IS NULL OR a.tenant_id = $1) AND a.id > $2 ORDER BY a.id LIMIT $3
"""


async def apps(
    tx: db.Tx, tenant_id: TenantId | None, *, after: int = 0, limit: int = PAGE_MAX
) -> Sequence[AppRow]:
    """List a tenant's apps (None: everybody's) behind the id `after`, at most `limit` (and PAGE_MAX)."""
    return [AppRow(**dict(row)) for row in await tx.fetch(APPS_SQL, tenant_id, after, min(limit, PAGE_MAX))]
