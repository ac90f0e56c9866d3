"""A tenant's money: every movement, top-ups and corrections.

Writes nothing itself (way.charge and the statements of the way do). Entry points: entries(), top_up(), correct(),
book(). A reference, such as an invoice's number, is booked once for a tenant.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, LiteralString

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_text
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way import charge

AMOUNT_MICRO_MAX: Final = 10**15  # a billion
NOTE_CHARACTERS_MAX: Final = 200
REFERENCE_CHARACTERS_MAX: Final = 64


class Entry(msgspec.Struct, frozen=True):
    """One movement; the sum of them all is the balance. Charges and refunds are gathered, many messages in one."""

    id: int
    tenant_id: TenantId
    at: datetime
    kind: Literal["top_up", "charge", "refund", "correction"]
    amount_micro: int
    message_count: int
    note: str
    reference: str = ""


ENTRIES_SQL: LiteralString = """
SELECT id, tenant_id, at, kind, amount_micro, message_count, note, coalesce(reference, '') AS reference FROM ledger
 WHERE tenant_id = $1 AND id < $2 AND ($3::text IS NULL OR kind = $3) ORDER BY id DESC LIMIT $4
"""


async def entries(
    tx: db.Tx, tenant_id: TenantId, *, before: int, kind: str | None, limit: int
) -> Sequence[Entry]:
    """List a tenant's movements before an id, the newest first."""
    return [Entry(**dict(row)) for row in await tx.fetch(ENTRIES_SQL, tenant_id, before, kind, limit)]


async def top_up(tx: db.Tx, tenant_id: TenantId, amount_micro: int, note: str, *, reference: str = "") -> int:
    """Add what was paid; returns the balance. Raises Refusal, also where the tenant's reference was booked before."""
    demand(0 < amount_micro <= AMOUNT_MICRO_MAX, "amount_micro", f"1 to {AMOUNT_MICRO_MAX}")
    demand_text(note, "note", NOTE_CHARACTERS_MAX)
    await book(tx, tenant_id, amount_micro, note, reference=reference)
    return await charge.balance_micro(tx, tenant_id)


async def correct(
    tx: db.Tx, tenant_id: TenantId, amount_micro: int, note: str, *, reference: str = ""
) -> int:
    """Add or take what was booked wrongly; returns the balance. Raises Refusal: it never goes below zero."""
    demand(0 < abs(amount_micro) <= AMOUNT_MICRO_MAX, "amount_micro", f"not 0, at most {AMOUNT_MICRO_MAX}")
    demand(bool(note.strip()), "note", "say why")
    demand_text(note, "note", NOTE_CHARACTERS_MAX)
    try:
        await book(tx, tenant_id, amount_micro, note, reference=reference, kind="correction")
    except db.CheckViolation:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="amount_micro", reason="more than the balance"
        ) from None
    return await charge.balance_micro(tx, tenant_id)


async def book(
    tx: db.Tx, tenant_id: TenantId, amount_micro: int, note: str, *, reference: str, kind: str = "top_up"
) -> None:
    """Move money, once for a reference where there is one. Raises Refusal where it was booked before."""
    sound = reference == reference.strip() and reference.isprintable()
    demand(
        sound and len(reference) <= REFERENCE_CHARACTERS_MAX,
        "reference",
        f"at most {REFERENCE_CHARACTERS_MAX} printable characters",
    )
    if not await charge.top_up(tx, tenant_id, amount_micro, note=note, kind=kind, reference=reference):
        raise Refusal(Code.REQUEST_CONFLICT, parameter="reference", reason="it was booked before")
