"""Data keys: what seals secrets and persons, each wrapped by the master key, which never enters the database.

Writes: vault_key. Entry points: lay() at the first start, make() for a new tenant, shred() for one that is gone,
rotate_master(), add_pepper().
Surprise: rotating re-wraps the data keys and changes none of them, so nothing that was sealed is touched.
"""

from collections.abc import Mapping
from typing import Final, LiteralString

from hongyan import db, vault
from hongyan.control.bounds import demand, demand_found
from hongyan.vault import Secret, Vault
from hongyan.vocab.message import TenantId

# tenant 0: texts from people that belong to nobody; pepper: what verification codes are compared under
PLATFORM: Final = ("index", "secrets", "tenant:0", "pepper:1")


def name_of(tenant_id: TenantId) -> str:
    """Return what a tenant's data key is called."""
    return f"tenant:{tenant_id}"


ALL_SQL: LiteralString = "SELECT name, wrapped FROM vault_key ORDER BY name"


async def lay(tx: db.Tx, master: Secret) -> Vault:
    """Make the platform's keys where they are missing, and open all there are.

    Raises VaultError where the master key is not the one this database was made with.
    """
    for name in PLATFORM:
        await make(tx, master, name)
    return Vault(master, await wrapped(tx))


async def wrapped(tx: db.Tx) -> Mapping[str, bytes]:
    """Return every data key by name, as it is stored."""
    return {row["name"]: row["wrapped"] for row in await tx.fetch(ALL_SQL)}


MAKE_SQL: LiteralString = "INSERT INTO vault_key (name, wrapped) VALUES ($1, $2) ON CONFLICT DO NOTHING"


async def make(tx: db.Tx, master: Secret, name: str) -> None:
    """Make a data key unless there is one of that name."""
    await tx.execute(MAKE_SQL, name, vault.make_wrapped(master, name))


async def opens(tx: db.Tx, master: Secret) -> bool:
    """Say whether a master key opens every data key of this database."""
    try:
        Vault(master, await wrapped(tx))
    except vault.VaultError:
        return False
    return True


BUSY_SQL: LiteralString = """
SELECT t.active OR EXISTS (SELECT FROM outbox o WHERE o.tenant_id = t.id)
       OR EXISTS (SELECT FROM submitted s WHERE s.tenant_id = t.id AND s.state < 2)
       OR EXISTS (SELECT FROM submit_part p WHERE p.tenant_id = t.id)
  FROM tenant t WHERE t.id = $1 FOR UPDATE
"""
SHRED_SQL: LiteralString = "DELETE FROM vault_key WHERE name = $1 RETURNING name"


async def shred(tx: db.Tx, tenant_id: TenantId) -> None:
    """Destroy the key of a tenant that is suspended and has nothing on its way: what it sealed is unreadable for good.

    Processes that run keep what they have opened until they are started again. Raises Refusal where the tenant still
    takes or awaits messages, or has no key.
    """
    busy = demand_found(await tx.fetchval(BUSY_SQL, tenant_id), tenant=tenant_id)
    demand(not busy, "tenant", "suspend it first, and wait until nothing of it is on its way")
    demand_found(await tx.fetchval(SHRED_SQL, name_of(tenant_id)), tenant=tenant_id)


NEWEST_PEPPER_SQL: LiteralString = """
SELECT max(substr(name, 8)::int) FROM vault_key WHERE name LIKE 'pepper:%'
"""


async def add_pepper(tx: db.Tx, master: Secret) -> int:
    """Make the key that verification codes are compared under from now on; returns its version.

    The older ones stay: codes that are under way were made with them.
    """
    await tx.execute("LOCK TABLE vault_key IN SHARE ROW EXCLUSIVE MODE")
    version = int(await tx.fetchval(NEWEST_PEPPER_SQL) or 0) + 1
    await make(tx, master, f"pepper:{version}")
    return version


LOCKED_SQL: LiteralString = "SELECT name, wrapped FROM vault_key ORDER BY name FOR UPDATE"
REWRAP_SQL: LiteralString = """
UPDATE vault_key SET wrapped = u.wrapped
  FROM unnest($1::text[], $2::bytea[]) AS u(name, wrapped) WHERE vault_key.name = u.name
"""


async def rotate_master(tx: db.Tx, old: Secret, new: Secret) -> int:
    """Wrap every data key anew; returns how many. Raises VaultError, changing nothing, if `old` opens not
    all.

    Processes that run keep what they have opened but cannot open keys made afterwards: start them again.
    """
    # A key made meanwhile under the old master would be lost to everybody who starts with the new one.
    await tx.execute("LOCK TABLE vault_key IN SHARE ROW EXCLUSIVE MODE")
    rows = await tx.fetch(LOCKED_SQL)
    names = [row["name"] for row in rows]
    anew = [vault.wrap(new, row["name"], vault.unwrap(old, row["name"], row["wrapped"])) for row in rows]
    await tx.execute(REWRAP_SQL, names, anew)
    return len(names)
