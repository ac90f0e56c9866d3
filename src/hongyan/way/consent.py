"""What persons agreed to and took back, with the evidence: written by whoever heard it, never changed.

Writes: consent. Entry points: append(); standing() and lacking() say what holds now; history() tells all of it to
the tenant, page() lists it; erase() empties the evidence. Every word of a person is a row of its own, so the past
stays as it was. The last word about a scope counts; a word about ALL counts for every scope.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString

import msgspec

from hongyan import db
from hongyan.vault import Vault, VaultError
from hongyan.vocab.message import TenantId

ALL: Final = "*"  # a scope: whatever the tenant writes
PROMOTIONAL: Final = "promotional"  # the scope that promotional messages need
INBOUND: Final = "inbound"  # a source: the person texted it


class Proof(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What shows that a person said so. It names the person, and so it is sealed."""

    number: str
    text: str = ""  # the wording the person saw; of an inbound text, the person's own
    address: str = ""  # IP address it came from
    page_sha256: str = ""  # of the page as it was shown, and of a picture of it
    screenshot_sha256: str = ""
    evidence: dict[str, Any] = {}  # whatever else the tenant keeps with it


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One word of a person, to be kept."""

    tenant_id: TenantId
    phone_index: bytes
    given: bool
    scope: str
    source: str
    at: datetime
    proof: Proof
    text_version: str = ""


class ConsentWord(msgspec.Struct, frozen=True, kw_only=True):
    """One word of a person, as it was kept. `proof` is null once the person was erased."""

    id: int
    index: str  # which person: begins the keyed index of the number, in hex
    given: bool
    scope: str
    source: str
    text_version: str
    at: datetime
    recorded_at: datetime
    proof: Proof | None


class Standing(msgspec.Struct, frozen=True):
    """The last word about a scope."""

    scope: str
    given: bool
    since: datetime


APPEND_SQL: LiteralString = """
INSERT INTO consent (tenant_id, phone_index, scope, given, source, text_version, at, sealed)
SELECT tenant_id, phone_index, scope, given, source, text_version, at, sealed
  FROM unnest($1::int[], $2::bytea[], $3::text[], $4::boolean[], $5::text[], $6::text[], $7::timestamptz[], $8::bytea[])
    WITH ORDINALITY AS u(tenant_id, phone_index, scope, given, source, text_version, at, sealed, place)
 ORDER BY place
RETURNING id
"""


async def append(tx: db.Tx, vault: Vault, said: Sequence[Said]) -> Sequence[int]:
    """Keep words of persons; returns their ids, in the same order."""
    if not said:
        return []
    rows = [
        (one.tenant_id, one.phone_index, one.scope, one.given, one.source, one.text_version, one.at, _sealed(vault, one))
        for one in said
    ]  # fmt: skip
    kept = await tx.fetch(APPEND_SQL, *(list(column) for column in zip(*rows, strict=True)))
    return [row["id"] for row in kept]


def _sealed(vault: Vault, said: Said) -> bytes | None:
    try:
        return vault.seal(said.tenant_id, _encode(said.proof))
    except VaultError:  # the tenant's key was shredded; that the person said so is kept all the same
        return None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Proof).decode


def opened(vault: Vault, tenant_id: TenantId, sealed: bytes | None) -> Proof | None:
    """Open what a row keeps sealed; None once it was erased, or the tenant's key shredded."""
    if sealed is None:
        return None
    try:
        return _decode(vault.unseal(tenant_id, sealed))
    except VaultError:
        return None


# ---- what holds


STANDING_SQL: LiteralString = """
SELECT scope, given, at FROM consent WHERE tenant_id = $1 AND phone_index = $2 ORDER BY at, id
"""


async def standing(tx: db.Tx, tenant_id: TenantId, phone_index: bytes) -> Sequence[Standing]:
    """Say what holds now, by scope: the last word about each, where a word about ALL came later, that one."""
    last: dict[str, Standing] = {}
    for row in await tx.fetch(STANDING_SQL, tenant_id, phone_index):
        scopes = (*last, ALL) if row["scope"] == ALL else (row["scope"],)
        last |= {scope: Standing(scope, row["given"], row["at"]) for scope in scopes}
    return sorted(last.values(), key=lambda one: one.scope)


LACKING_SQL: LiteralString = """
SELECT u.phone_index
  FROM unnest($2::bytea[]) AS u(phone_index)
  LEFT JOIN LATERAL (
       SELECT given FROM consent c
        WHERE c.tenant_id = $1 AND c.phone_index = u.phone_index AND c.scope IN ($3, $4)
        ORDER BY c.at DESC, c.id DESC LIMIT 1) last ON true
 WHERE last.given IS NOT TRUE
"""


async def lacking(
    tx: db.Tx, tenant_id: TenantId, phone_indexes: Collection[bytes], scope: str = PROMOTIONAL
) -> frozenset[bytes]:
    """Return those of these persons whose consent to a scope a tenant does not have. One look-up a person."""
    rows = await tx.fetch(LACKING_SQL, tenant_id, list(phone_indexes), scope, ALL)
    return frozenset(row["phone_index"] for row in rows)


# ---- what was said


_COLUMNS: LiteralString = """
SELECT id, phone_index, scope, given, source, text_version, at, recorded_at, sealed FROM consent
"""
HISTORY_SQL: LiteralString = (
    _COLUMNS + " WHERE tenant_id = $1 AND phone_index = $2 ORDER BY at DESC, id DESC LIMIT $3"
)
PAGE_SQL: LiteralString = _COLUMNS + " WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"


async def history(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, phone_index: bytes, limit: int
) -> Sequence[ConsentWord]:
    """Tell what a person said to a tenant, the newest first."""
    rows = await tx.fetch(HISTORY_SQL, tenant_id, phone_index, limit)
    return [_word(vault, tenant_id, row) for row in rows]


async def page(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, before: int, limit: int
) -> Sequence[ConsentWord]:
    """List what was said to a tenant, the newest first, from below an id."""
    rows = await tx.fetch(PAGE_SQL, tenant_id, before, limit)
    return [_word(vault, tenant_id, row) for row in rows]


def _word(vault: Vault, tenant_id: TenantId, row: db.Row) -> ConsentWord:
    return ConsentWord(
        id=row["id"],
        index=shown_index(row["phone_index"]),
        given=row["given"],
        scope=row["scope"],
        source=row["source"],
        text_version=row["text_version"],
        at=row["at"],
        recorded_at=row["recorded_at"],
        proof=opened(vault, tenant_id, row["sealed"]),
    )


def shown_index(phone_index: bytes) -> str:
    """Name a person without a number: the beginning of the keyed index, enough to tell two apart."""
    return phone_index.hex()[:12]


NUMBERS_SQL: LiteralString = """
SELECT u.phone_index, c.sealed
  FROM unnest($2::bytea[]) AS u(phone_index)
 CROSS JOIN LATERAL (
       SELECT sealed FROM consent
        WHERE tenant_id = $1 AND phone_index = u.phone_index AND sealed IS NOT NULL
        ORDER BY at DESC, id DESC LIMIT 1) c
"""


async def numbers(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, phone_indexes: Collection[bytes]
) -> Mapping[bytes, str]:
    """Return the numbers of those of these persons whom a consent or its withdrawal still names."""
    rows = await tx.fetch(NUMBERS_SQL, tenant_id, list(phone_indexes))
    proofs = {row["phone_index"]: opened(vault, tenant_id, row["sealed"]) for row in rows}
    return {phone_index: proof.number for phone_index, proof in proofs.items() if proof is not None}


ERASE_SQL: LiteralString = """
UPDATE consent SET sealed = NULL WHERE tenant_id = $1 AND phone_index = $2 AND sealed IS NOT NULL RETURNING 1
"""


async def erase(tx: db.Tx, tenant_id: TenantId, phone_index: bytes) -> int:
    """Empty the evidence of a person; that, when and how they spoke stays, under the keyed index."""
    return len(await tx.fetch(ERASE_SQL, tenant_id, phone_index))
