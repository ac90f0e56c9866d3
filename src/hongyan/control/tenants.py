"""Tenants and their apps: who owns messages, and which of their programs sends them.

Writes: tenant, app. Entry points: create(), create_app(), suspend(), resume(), every().
A tenant is born with a data key of its own (data_keys.py), so that it can be shredded alone.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, LiteralString

import msgspec

from hongyan import db
from hongyan.control import data_keys
from hongyan.control.bounds import demand, demand_currency, demand_found, demand_name
from hongyan.vault import Secret, Vault
from hongyan.vocab.message import AppId, Purpose, TenantId

EVERYWHERE: Final = "*"  # every country that has a price

ChargeOn = Literal["submit", "delivery"]
Hits = tuple[int, int, int]  # at most so many a minute, an hour, a day; 0 = no limit


class TenantRow(msgspec.Struct, frozen=True):
    """A tenant as an operator sees it in a list."""

    id: TenantId
    name: str
    active: bool
    currency: str
    charge_on: ChargeOn
    countries: Sequence[str]
    balance_micro: int
    created_at: datetime


CREATE_SQL: LiteralString = """
INSERT INTO tenant (name, currency, charge_on, countries, weight, limits, duplicate_s)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING RETURNING id
"""


async def create(
    tx: db.Tx,
    vault: Vault,
    master: Secret,
    name: str,
    *,
    currency: str = "CNY",
    charge_on: ChargeOn = "submit",
    countries: Collection[str] = ("CN",),
    weight: int = 1,
    limits: Mapping[Purpose, Hits] | None = None,
    duplicate_s: int = 0,
) -> TenantId:
    """Create a tenant with its data key, which `vault` opens at once.

    `countries` are ISO 3166-1 alpha-2 or EVERYWHERE; `weight` 1..100 is its share inside a lane; `limits`
    replace the platform's for one number, by purpose. Raises Refusal for a name that is taken or a value out
    of bounds.
    """
    demand_name(name)
    for country in countries:
        demand(
            country == EVERYWHERE or (len(country) == 2 and country.isupper()),
            "countries",
            "ISO alpha-2, or *",
        )
    demand_currency(currency)
    demand(1 <= weight <= 100, "weight", "between 1 and 100")
    demand(0 <= duplicate_s <= 86_400, "duplicate_s", "between 0 and 86400")
    own = msgspec.json.encode(limits or {}).decode()
    number = await tx.fetchval(
        CREATE_SQL, name, currency, charge_on, sorted(countries), weight, own, duplicate_s
    )
    demand(number is not None, "name", "there is a tenant of this name")
    tenant_id = TenantId(number)
    key = data_keys.name_of(tenant_id)
    await data_keys.make(tx, master, key)
    vault.add({key: (await data_keys.wrapped(tx))[key]})
    return tenant_id


CREATE_APP_SQL: LiteralString = """
INSERT INTO app (tenant_id, name) VALUES ($1, $2) ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id
"""


async def create_app(tx: db.Tx, tenant_id: TenantId, name: str) -> AppId:
    """Create an app of a tenant: a program of theirs, with its keys, webhook and queue of notices."""
    demand_name(name)
    number = await tx.fetchval(CREATE_APP_SQL, tenant_id, name)
    demand(number is not None, "name", "the tenant has an app of this name")
    return AppId(number)


ACTIVE_SQL: LiteralString = "UPDATE tenant SET active = $2 WHERE id = $1 RETURNING id"


async def suspend(tx: db.Tx, tenant_id: TenantId) -> None:
    """Take nothing more from a tenant; what it has been promised still leaves."""
    await _set_active(tx, tenant_id, active=False)


async def resume(tx: db.Tx, tenant_id: TenantId) -> None:
    await _set_active(tx, tenant_id, active=True)


async def _set_active(tx: db.Tx, tenant_id: TenantId, *, active: bool) -> None:
    demand_found(await tx.fetchval(ACTIVE_SQL, tenant_id, active), tenant=tenant_id)


FIND_SQL: LiteralString = "SELECT id FROM tenant WHERE name = $1 OR id::text = $1 ORDER BY name <> $1 LIMIT 1"


async def find(tx: db.Tx, named: str) -> TenantId:
    """Find a tenant by its name or, where none has it, its number. Raises Refusal."""
    return TenantId(demand_found(await tx.fetchval(FIND_SQL, named), tenant=named))


FIND_APP_SQL: LiteralString = "SELECT id FROM app WHERE tenant_id = $1 AND name = $2"


async def find_app(tx: db.Tx, tenant_id: TenantId, name: str) -> AppId:
    """Find an app of a tenant by name. Raises Refusal."""
    return AppId(demand_found(await tx.fetchval(FIND_APP_SQL, tenant_id, name), app=name))


EVERY_SQL: LiteralString = """
SELECT t.id, t.name, t.active, t.currency, t.charge_on, t.countries, t.created_at,
       coalesce((SELECT sum(b.amount_micro) FROM balance b WHERE b.tenant_id = t.id), 0)::bigint
           AS balance_micro
  FROM tenant t ORDER BY t.id
"""


async def every(tx: db.Tx) -> Sequence[TenantRow]:
    """List the tenants, oldest first."""
    return [TenantRow(**dict(row)) for row in await tx.fetch(EVERY_SQL)]
