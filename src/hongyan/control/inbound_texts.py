"""Texts from handsets as people read them: the newest first, of one tenant or of all, by number, app, message and time.

Writes nothing. Entry point: page(). Programs follow the cursor of GET /v1/inbound (way/lookup.py); here are names beside
ids, and what came to nobody (tenant 0) for people of the platform. Numbers come whole; the door masks them.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, LiteralString

import msgspec

from hongyan import clock, db
from hongyan.control.bounds import demand
from hongyan.vault import Vault
from hongyan.vocab.message import TenantId, first_id_at
from hongyan.way import lookup

LATELY: Final = timedelta(
    days=31
)  # searched when no time is said; and at most, unless a number or message is named
AHEAD: Final = timedelta(minutes=1)  # another process's clock may be ahead
LAST_ID: Final = uuid.UUID(int=2**128 - 1)


class InboundText(msgspec.Struct, frozen=True, kw_only=True):
    """A text from a person. Number and text are null once the person was erased, the text once its time is over."""

    id: uuid.UUID
    tenant_id: TenantId  # 0: nobody's
    tenant: str
    app_id: int
    app: str
    channel_id: int
    channel: str
    number: str | None
    text: str | None
    access_number: str
    message_id: uuid.UUID | None  # the message it most likely answers
    opt_out: bool
    came_at: datetime


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which texts: all that is given must hold. `phone_index` is of the number; until is not included."""

    phone_index: bytes | None = None
    message_id: uuid.UUID | None = None
    app_id: int | None = None
    opt_out: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: uuid.UUID = LAST_ID


# One statement for each index: with plans made once for all parameters, one that knew all three would use none.
_COLUMNS: LiteralString = """
SELECT i.id, i.tenant_id, i.app_id, i.channel_id, i.sealed, i.access_number, i.message_id, i.opt_out, i.came_at,
       coalesce(t.name, '') AS tenant, coalesce(a.name, '') AS app, coalesce(c.name, '') AS channel
  FROM inbound i LEFT JOIN tenant t ON t.id = i.tenant_id LEFT JOIN app a ON a.id = i.app_id
       LEFT JOIN channel c ON c.id = i.channel_id
"""
_FILTERS: LiteralString = """
   AND i.id < $2 AND i.id >= $3 AND ($4::int IS NULL OR i.app_id = $4)
   AND ($5::boolean IS NULL OR i.opt_out = $5) AND ($6::uuid IS NULL OR i.message_id = $6)
 ORDER BY i.id DESC LIMIT $7
"""
OF_ALL_SQL: LiteralString = _COLUMNS + " WHERE $1::int IS NULL" + _FILTERS
OF_TENANT_SQL: LiteralString = _COLUMNS + " WHERE i.tenant_id = $1" + _FILTERS
OF_NUMBER_SQL: LiteralString = (
    _COLUMNS + " WHERE i.phone_index = $8 AND ($1::int IS NULL OR i.tenant_id = $1)" + _FILTERS
)


async def page(
    tx: db.Tx, vault: Vault, tenant_id: TenantId | None, wanted: Wanted, limit: int
) -> Sequence[InboundText]:
    """List what persons texted, the newest first; `tenant_id` None: to whomever. Raises Refusal for a bad span."""
    phone_index = wanted.phone_index
    if wanted.message_id is not None and phone_index is None:
        demand(tenant_id is not None, "message_id", "say whose message it is")
        phone_index = await tx.fetchval(WHO_SQL, tenant_id, wanted.message_id)
        if phone_index is None:
            return []
    since, until = _span(wanted, is_narrow=phone_index is not None)
    values = [
        tenant_id,
        min(wanted.before, first_id_at(until.timestamp())),
        first_id_at(since.timestamp()),
        wanted.app_id,
        wanted.opt_out,
        wanted.message_id,
        limit,
    ]
    if phone_index is not None:
        rows = await tx.fetch(OF_NUMBER_SQL, *values, phone_index)
    else:
        rows = await tx.fetch(OF_ALL_SQL if tenant_id is None else OF_TENANT_SQL, *values)
    return [_text(vault, row) for row in rows]


# Of a person who answers a message the texts stand together, so the message's own index finds them.
WHO_SQL: LiteralString = "SELECT phone_index FROM message WHERE tenant_id = $1 AND id = $2"


def _span(wanted: Wanted, *, is_narrow: bool) -> tuple[datetime, datetime]:
    until = wanted.until or clock.now() + AHEAD
    since = wanted.since or (datetime.fromtimestamp(0, until.tzinfo) if is_narrow else until - LATELY)
    demand(since < until, "from", "must lie before to")
    short = is_narrow or until - since <= LATELY + AHEAD
    demand(short, "from", f"at most {LATELY.days} days, unless a number or a message is named")
    return since, until


def _text(vault: Vault, row: db.Row) -> InboundText:
    number, text = lookup.letter_of(vault, TenantId(row["tenant_id"]), row["sealed"])
    names = [name for name in InboundText.__struct_fields__ if name not in ("number", "text")]
    return InboundText(number=number, text=text, **{name: row[name] for name in names})
