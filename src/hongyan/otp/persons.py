"""What verifications keep of a person, told and forgotten.

Writes: verification; otp_limit (through limits). Entry point: ROOM, which whoever tells or forgets a person hands to
control.persons. Of a verification stays that it was, when, and what became of it, under the keyed index, as of a message; one that
is open ends. The limits of the number go too, but for the one that holds over all tenants: it is not this one's to lift.
"""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, LiteralString

import msgspec

from hongyan import clock, db
from hongyan.control.persons import Room
from hongyan.otp import limits
from hongyan.otp.wish import Kept, Wish, failures_key, keys_of
from hongyan.vault import Vault, VaultError
from hongyan.vocab.message import TenantId
from hongyan.vocab.verification import SCENE_BY_NUMBER, STATE_BY_NUMBER, Scene, State

ROWS_MAX: Final = 500  # read in one transaction
FIRST: Final = uuid.UUID(int=0)
NOBODY: Final = Kept("", "", "", "", {}, "", "", "", "", last_line=False)

PAGE_SQL: LiteralString = """
SELECT id, scene, state, medium, sends, tries, sealed, reference, country, operator, province, created_at, expires_at,
       ended_at, proved_at
  FROM verification WHERE tenant_id = $1 AND phone_index = $2 AND id > $3 ORDER BY id LIMIT $4
"""


async def pages(
    database: db.Database, vault: Vault, tenant_id: TenantId, phone_index: bytes
) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    """Give all verifications of a number, the oldest first, a page at a time."""
    last = FIRST
    while True:
        rows = await database.fetch(PAGE_SQL, tenant_id, phone_index, last, ROWS_MAX)
        yield [_told(vault, tenant_id, row) for row in rows]
        if len(rows) < ROWS_MAX:
            return
        last = rows[-1]["id"]


def _told(vault: Vault, tenant_id: TenantId, row: db.Row) -> Mapping[str, Any]:
    plain = {name: value for name, value in row.items() if name != "sealed"}
    plain |= {"scene": SCENE_BY_NUMBER[row["scene"]], "state": STATE_BY_NUMBER[row["state"]]}
    try:
        kept = msgspec.msgpack.decode(vault.unseal(tenant_id, row["sealed"]), type=Kept)
    except VaultError:  # the tenant's key was shredded
        kept = NOBODY
    known = {"number": kept.e164 or None, "email": kept.email, "amount": kept.amount, "payee": kept.payee}
    return plain | known | {"params": kept.params}


EMPTY_SQL: LiteralString = """
UPDATE verification v
   SET sealed = $3, code = NULL, mac = NULL, mac_before = NULL, fallback_at = NULL, proof_hash = NULL, device = NULL,
       state = CASE WHEN v.state = 0 THEN $4 ELSE v.state END, ended_at = coalesce(v.ended_at, $5)
  FROM (SELECT tenant_id, id, device FROM verification
         WHERE tenant_id = $1 AND phone_index = $2 ORDER BY tenant_id, id FOR UPDATE) held
 WHERE v.tenant_id = held.tenant_id AND v.id = held.id
RETURNING held.device
"""


async def forget(tx: db.Tx, vault: Vault, tenant_id: TenantId, phone_index: bytes) -> int:
    """Empty what a tenant's verifications have of a number, and forget how often it asked; returns how many they were."""
    nothing = vault.seal(tenant_id, msgspec.msgpack.encode(NOBODY))
    rows = await tx.fetch(EMPTY_SQL, tenant_id, phone_index, nothing, State.CANCELED.number, clock.now())
    keys = [keys_of(vault, tenant_id, phone_index, Wish(to="", scene=scene)).number for scene in Scene]
    keys.append(failures_key(vault, tenant_id, phone_index))
    await limits.forget(tx, [*keys, *{row["device"] for row in rows if row["device"] is not None}])
    return len(rows)


ROOM: Final = Room("verifications", pages, forget)
