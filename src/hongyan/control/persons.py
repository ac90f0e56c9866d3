"""Persons: tell everything a tenant has of a number, forget it, or show one number whole.

Writes: message (through erase), inbound (through erase), submit_part (through erase), consent (through erase),
complaint (through erase). Entry points: export(), forget(), unmask(). A person is a number under one tenant: what other
tenants have of it is neither told nor forgotten here. Rooms above this one that keep persons are handed in (Room).
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple

import msgspec

from hongyan import clock, db
from hongyan.control.bounds import demand_found
from hongyan.control.consents import index_of
from hongyan.vault import Vault, VaultError
from hongyan.vocab.cause import CAUSES
from hongyan.vocab.message import PURPOSES, STATUS_BY_NUMBER, TenantId
from hongyan.way import complaint, consent, erase, optout
from hongyan.way.erase import Erased
from hongyan.way.optout import Suppressed

ROWS_MAX: Final = 500  # read in one transaction
STEP_WAIT_S: Final = 30.0
FIRST: Final = uuid.UUID(int=0)
KINDS: Final = {optout.OPT_OUT: "opt_out", optout.BLOCK: "block"}
NOT_INCLUDED: Final = (
    "files handed in as lists and files made as exports, which go 7 days after they were last used",
    "parts of a long inbound text that still wait for the others",
    "how often the number was written to within a day, which is counted under a hash of its own",
    "texts and parameters whose time of keeping is over",
    "backups, and what upstreams keep",
)


Pages = AsyncIterator[Sequence[Mapping[str, Any]]]


class Room(NamedTuple):
    """A room above this one that keeps persons: what it calls them, how it tells of one, and how it forgets one."""

    name: str
    pages: Callable[[db.Database, Vault, TenantId, bytes], Pages]
    forget: Callable[[db.Tx, Vault, TenantId, bytes], Awaitable[int]]  # returns of how much


# ---- everything


async def export(
    database: db.Database, vault: Vault, tenant_id: TenantId, number: str, rooms: Sequence[Room] = ()
) -> AsyncIterator[bytes]:
    """Give one JSON object, in pieces: all that a tenant has of a number, each list the oldest first.

    Reads a page at a time, each in a transaction of its own, so that no number is too much. Raises Refusal for what
    is no number, at the first piece.
    """
    e164, phone_index = index_of(vault, number)
    head = {"number": e164, "made_at": clock.now(), "not_included": NOT_INCLUDED}
    yield _encode(head)[:-1]
    for name, rows in (
        ("messages", _messages(database, vault, tenant_id, phone_index)),
        ("inbound", _inbound(database, vault, tenant_id, phone_index)),
        ("consents", _consents(database, vault, tenant_id, phone_index)),
        ("complaints", _complaints(database, vault, tenant_id, phone_index)),
        ("suppressions", _suppressions(database, tenant_id, phone_index)),
        ("number_overrides", _overrides(database, tenant_id, phone_index)),
        *((room.name, room.pages(database, vault, tenant_id, phone_index)) for room in rooms),
    ):
        yield b',"%s":[' % name.encode()
        comma = b""
        async for page in rows:
            for row in page:
                yield comma + _encode(row)
                comma = b","
        yield b"]"
    yield b"}\n"


_encode = msgspec.json.Encoder(enc_hook=str).encode
_unpack = msgspec.msgpack.Decoder(list[Any]).decode

MESSAGES_SQL: LiteralString = """
SELECT m.id, m.status, m.cause, m.purpose, m.part_count, m.price_micro, m.refund_micro, m.accepted_at, m.due_at,
       m.done_at, m.country, m.operator, m.province, m.reference, m.code, m.sealed,
       coalesce(s.name, '') AS signature, coalesce(t.code, '') AS template
  FROM message m
  LEFT JOIN signature s ON s.id = m.signature_id
  LEFT JOIN template t ON t.id = m.template_id
 WHERE m.phone_index = $1 AND m.tenant_id = $2 AND m.id > $3 ORDER BY m.id LIMIT $4
"""


async def _messages(database: db.Database, vault: Vault, tenant_id: TenantId, phone_index: bytes) -> Pages:
    async for rows in _by_id(database, MESSAGES_SQL, phone_index, tenant_id):
        yield [_message(vault, tenant_id, row) for row in rows]


def _message(vault: Vault, tenant_id: TenantId, row: db.Row) -> Mapping[str, Any]:
    number, text, params, *_ = _opened(vault, tenant_id, row["sealed"]) or (None, None, None)
    told = {name: value for name, value in row.items() if name != "sealed"}
    return told | {
        "status": STATUS_BY_NUMBER[row["status"]],
        "cause": CAUSES[row["cause"]],
        "purpose": PURPOSES[row["purpose"]],
        "number": number,
        "text": text,
        "params": params,
    }


INBOUND_SQL: LiteralString = """
SELECT id, access_number, message_id, opt_out, came_at, sealed FROM inbound
 WHERE phone_index = $1 AND tenant_id = $2 AND id > $3 ORDER BY id LIMIT $4
"""


async def _inbound(database: db.Database, vault: Vault, tenant_id: TenantId, phone_index: bytes) -> Pages:
    async for rows in _by_id(database, INBOUND_SQL, phone_index, tenant_id):
        told = []
        for row in rows:
            number, text = _opened(vault, tenant_id, row["sealed"]) or (None, None)
            plain = {name: value for name, value in row.items() if name != "sealed"}
            told.append(plain | {"number": number, "text": text})
        yield told


async def _by_id(
    database: db.Database, sql: LiteralString, phone_index: bytes, tenant_id: TenantId
) -> AsyncIterator[Sequence[db.Row]]:
    last = FIRST
    while True:
        async with asyncio.timeout(STEP_WAIT_S):
            rows = await database.fetch(sql, phone_index, tenant_id, last, ROWS_MAX)
        yield rows
        if len(rows) < ROWS_MAX:
            return
        last = rows[-1]["id"]


def _opened(vault: Vault, tenant_id: TenantId, sealed: bytes | None) -> list[Any] | None:
    if sealed is None:
        return None
    try:
        return _unpack(vault.unseal(tenant_id, sealed))
    except VaultError:  # the tenant's key was shredded
        return None


WORDS_MAX: Final = 10_000  # of one person; nobody says stop and start more often


async def _consents(database: db.Database, vault: Vault, tenant_id: TenantId, phone_index: bytes) -> Pages:
    async with database.transaction() as tx:
        words = await consent.history(tx, vault, tenant_id, phone_index, WORDS_MAX)
    yield [msgspec.to_builtins(word, builtin_types=(datetime,)) for word in reversed(words)]


COMPLAINTS_SQL: LiteralString = """
SELECT id, source, state, reference, message_id, received_at, due_at, answered_at, closed_at, sealed FROM complaint
 WHERE tenant_id = $1 AND phone_index = $2 ORDER BY id LIMIT $3
"""


async def _complaints(database: db.Database, vault: Vault, tenant_id: TenantId, phone_index: bytes) -> Pages:
    told = []
    for row in await database.fetch(COMPLAINTS_SQL, tenant_id, phone_index, WORDS_MAX):
        words = complaint.opened(vault, tenant_id, row["sealed"])
        plain = {name: value for name, value in row.items() if name != "sealed"}
        told.append(
            plain
            | {
                "text": None if words is None else words.text,
                "answer": None if words is None else words.answer,
            }
        )
    yield told


async def _suppressions(database: db.Database, tenant_id: TenantId, phone_index: bytes) -> Pages:
    async with database.transaction() as tx:
        kept = await optout.about(tx, (optout.PLATFORM, tenant_id), phone_index)
    yield [
        {
            "kind": KINDS[entry.kind],
            "of": "platform" if whose == optout.PLATFORM else "tenant",
            "reason": "" if whose == optout.PLATFORM else entry.reason,
            "since": entry.since,
        }
        for whose, entry in kept
    ]


OVERRIDES_SQL: LiteralString = """
SELECT operator, province, source, since FROM number_override WHERE phone_index = $1 AND tenant_id IN (0, $2)
"""


async def _overrides(database: db.Database, tenant_id: TenantId, phone_index: bytes) -> Pages:
    yield [dict(row) for row in await database.fetch(OVERRIDES_SQL, phone_index, tenant_id)]


# ---- nothing


class Forgotten(Erased, frozen=True, kw_only=True):
    """The same, and what was not looked into: `files` that jobs still keep, of lists, what was made of them, and exports."""

    besides: Mapping[str, int]  # what else was emptied, as verifications
    files: int


FILES_SQL: LiteralString = """
SELECT count(*)::int FROM job j
 WHERE tenant_id = $1 AND has_chunks AND EXISTS (SELECT FROM job_chunk c WHERE c.job_id = j.id)
"""


async def forget(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, number: str, rooms: Sequence[Room] = ()
) -> tuple[Forgotten, Suppressed]:
    """Take a number and all its texts out of what a tenant has. Raises Refusal for what is no number.

    Returns how much it was, and whom to tell the gateways of (optout.tell()) after the commit: they then let go of
    what they hold for the person.
    """
    _, phone_index = index_of(vault, number)
    erased = await erase.erase(tx, tenant_id, phone_index)
    besides = {room.name: await room.forget(tx, vault, tenant_id, phone_index) for room in rooms}
    files = await tx.fetchval(FILES_SQL, tenant_id)
    forgotten = Forgotten(**msgspec.structs.asdict(erased), besides=besides, files=files)
    return forgotten, Suppressed(phone_index, tenant_id)


# ---- one number


NUMBER_SQL: LiteralString = "SELECT sealed FROM message WHERE tenant_id = $1 AND id = $2"


async def unmask(tx: db.Tx, vault: Vault, tenant_id: TenantId, message_id: uuid.UUID) -> str | None:
    """Return the number of a message, whole; None once erased. Raises Refusal where the tenant has none of that id."""
    row = demand_found(await tx.fetchrow(NUMBER_SQL, tenant_id, message_id), message=str(message_id))
    plain = _opened(vault, tenant_id, row["sealed"])
    return None if plain is None else str(plain[0])
