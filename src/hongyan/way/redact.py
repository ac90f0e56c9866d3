"""Take a code out of the texts that carried it, once nobody may send them again: stars stand where it stood.

Writes: message (what it has sealed). Entry point: redact(). A text that is still to leave keeps its code, whoever has it in
hand: it waits in the outbox, or a report may yet put it back there for another channel. So a message is ready once no row
of the outbox names it and it is final or its validity over, after which nothing puts it back (tick.py: `again`).
"""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString, NamedTuple

import msgspec

from hongyan import db
from hongyan.vault import Vault, VaultError
from hongyan.vocab.message import accepted_at_s
from hongyan.vocab.wording import CODE_KINDS, Variable

STARS: Final = "******"
USUAL: Final = "code"  # what most templates call it; the others say by a variable's kind which it is
GRACE: Final = timedelta(seconds=5)  # another process's clock may be behind
YOUNG: Final = timedelta(minutes=1)  # an id is chosen before its message is offered


class Coded(NamedTuple):
    """A message that carried a code."""

    tenant_id: int
    message_id: uuid.UUID


# In the order other statements lock messages in. A row that somebody has in hand just now is passed over.
READ_SQL: LiteralString = """
SELECT m.tenant_id, m.id, m.sealed, t.variables,
       (NOT m.status IN (0, 7) OR m.expires_at < $3)
       AND NOT EXISTS (SELECT FROM outbox o WHERE o.tenant_id = m.tenant_id AND o.id = m.id) AS ready
  FROM unnest($1::int[], $2::uuid[]) AS w(tenant_id, id)
  JOIN message m ON m.tenant_id = w.tenant_id AND m.id = w.id
  LEFT JOIN template t ON t.id = m.template_id
 ORDER BY m.id FOR UPDATE OF m SKIP LOCKED
"""
THERE_SQL: LiteralString = """
SELECT m.tenant_id, m.id FROM unnest($1::int[], $2::uuid[]) AS w(tenant_id, id)
  JOIN message m ON m.tenant_id = w.tenant_id AND m.id = w.id AND m.sealed IS NOT NULL
"""
WRITE_SQL: LiteralString = """
UPDATE message m SET sealed = u.sealed FROM unnest($1::int[], $2::uuid[], $3::bytea[]) AS u(tenant_id, id, sealed)
 WHERE m.tenant_id = u.tenant_id AND m.id = u.id AND m.sealed IS NOT NULL
"""


async def redact(tx: db.Tx, vault: Vault, coded: Sequence[Coded], now: datetime) -> Sequence[Coded]:
    """Put stars for the codes of messages; returns those that are to be asked for again, because they may still leave.

    A code is what the template has a variable of such a kind for, or one called `code`. A text in which none is found loses
    all of its words, so that nothing depends on how somebody wrote it.
    """
    if not coded:
        return []
    places = [one.tenant_id for one in coded], [one.message_id for one in coded]
    rows = await tx.fetch(READ_SQL, *places, now - GRACE)
    settled, written = set[tuple[int, uuid.UUID]](), list[tuple[int, uuid.UUID, bytes]]()
    for row in rows:
        if not row["ready"]:
            continue
        settled.add((row["tenant_id"], row["id"]))
        sealed = _starred(vault, row["tenant_id"], row["sealed"], _names(row["variables"]))
        if sealed is not None:
            written.append((row["tenant_id"], row["id"], sealed))
    if written:
        await tx.execute(WRITE_SQL, *map(list, zip(*written, strict=True)))
    return await _left(tx, [one for one in coded if (one.tenant_id, one.message_id) not in settled], now)


async def _left(tx: db.Tx, coded: Sequence[Coded], now: datetime) -> Sequence[Coded]:
    """Leave out what will never be there: refused, emptied, past its day. What is young may still be accepted."""
    if not coded:
        return []
    places = [one.tenant_id for one in coded], [one.message_id for one in coded]
    there = {(row["tenant_id"], row["id"]) for row in await tx.fetch(THERE_SQL, *places)}
    young_s = (now - YOUNG).timestamp()
    return [
        one
        for one in coded
        if (one.tenant_id, one.message_id) in there or accepted_at_s(one.message_id) > young_s
    ]


def _names(variables: str | None) -> frozenset[str]:
    """Return what a template calls its code."""
    known = msgspec.json.decode(variables or "{}", type=dict[str, Variable])
    return frozenset({USUAL, *(name for name, variable in known.items() if variable.kind in CODE_KINDS)})


def _starred(vault: Vault, tenant_id: int, sealed: bytes | None, names: frozenset[str]) -> bytes | None:
    """Return what stands in its place; None where there is nothing to change, or nobody could."""
    if sealed is None:
        return None
    try:
        number, text, params, *rest = _unpack(vault.unseal(tenant_id, sealed))
    except VaultError:  # the tenant's key was shredded: nobody reads the code either
        return None
    if text is None or STARS in {(params or {}).get(name) for name in names}:
        return None
    return vault.seal(tenant_id, _pack((number, *without_code(text, params or {}, names), *rest)))


def without_code(
    text: str, params: Mapping[str, str | int], names: frozenset[str]
) -> tuple[str, Mapping[str, str | int]] | tuple[None, None]:
    """Return a text and its parameters with stars for the code; neither where they do not say which that is.

    It stands by itself in a text: the same digits within a longer run, as of an amount, are left alone.
    """
    codes = {str(params[name]) for name in names if params.get(name)}
    if not codes:
        return None, None
    alone = re.compile(rf"(?<![0-9A-Za-z])(?:{'|'.join(map(re.escape, sorted(codes)))})(?![0-9A-Za-z])")
    starred, count = alone.subn(STARS, text)
    if not count:
        return None, None
    # Another variable may hold it too, as the last line of a text for browsers does.
    hidden = {
        name: alone.sub(STARS, value) if isinstance(value, str) else value for name, value in params.items()
    }
    return starred, hidden | dict.fromkeys(names & params.keys(), STARS)


_unpack = msgspec.msgpack.Decoder(list[Any]).decode
_pack: Final[Callable[[object], bytes]] = msgspec.msgpack.Encoder().encode
