"""Extensions: the digits a signature has behind the access number of one channel, in place of its general ones.

Writes: signature_extension. Entry points: assign(), assign_everywhere(), assign_all(), remove(), of().
Replies find their tenant by them (way/inbound.py), so none may begin with another's behind the same access number.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_found
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import ChannelId, TenantId

FORM: Final = re.compile(r"[0-9]{1,12}")
LOCK: Final = 0x64696769  # 'digi'


class ExtensionRow(msgspec.Struct, frozen=True):
    """A signature's digits at one channel."""

    channel_id: ChannelId
    channel: str
    access_number: str
    extension: str


class Assigned(msgspec.Struct, frozen=True):
    """How many signatures got digits, and for how many none were left."""

    assigned: int
    lacking: int


KNOWN_SQL: LiteralString = "SELECT id FROM signature WHERE id = $1"
PUT_SQL: LiteralString = """
INSERT INTO signature_extension (channel_id, signature_id, extension) VALUES ($1, $2, $3)
ON CONFLICT (signature_id, channel_id) DO UPDATE SET extension = EXCLUDED.extension
"""


async def assign(tx: db.Tx, signature_id: int, channel_id: ChannelId, extension: str = "") -> str:
    """Give a signature digits of its own at a channel, the next free ones where none are said; returns them.

    Raises Refusal where there is no such signature or channel, the digits are another's or begin with another's, or
    no free ones are left.
    """
    channel = await _channel(tx, channel_id)
    demand_found(await tx.fetchval(KNOWN_SQL, signature_id), signature=signature_id)
    taken = await _taken(tx, channel_id, channel["access_number"], signature_id)
    if extension:
        demand(FORM.fullmatch(extension) is not None, "extension", "1 to 12 digits")
        mixed = next(
            (each for each in taken if each.startswith(extension) or extension.startswith(each)), None
        )
        demand(mixed is None, "extension", f"replies could not be told from those to {mixed}")
    else:
        extension = next(_free(channel["extension_digits"], taken), "")
        if not extension:
            raise Refusal(Code.REQUEST_CONFLICT, reason="the channel has no free extension of its length")
    await tx.execute(PUT_SQL, channel_id, signature_id, extension)
    return extension


# Channels may share an access number, and general digits stand behind all: so one at a time gives some out.
LOCK_SQL: LiteralString = "SELECT pg_advisory_xact_lock($1)"
CHANNEL_SQL: LiteralString = """
SELECT access_number, extension_digits FROM channel WHERE id = $1 AND active
"""


async def _channel(tx: db.Tx, channel_id: ChannelId) -> db.Row:
    await tx.execute(LOCK_SQL, LOCK)
    return demand_found(await tx.fetchrow(CHANNEL_SQL, channel_id), channel=channel_id)


# General extensions stand behind every access number.
TAKEN_SQL: LiteralString = """
SELECT x.extension FROM signature_extension x JOIN channel c ON c.id = x.channel_id
 WHERE (c.id = $1 OR ($2 <> '' AND c.access_number = $2 AND c.active)) AND x.signature_id <> $3
 UNION
SELECT extension FROM signature WHERE extension <> '' AND id <> $3
"""


async def _taken(tx: db.Tx, channel_id: ChannelId, access_number: str, signature_id: int) -> Collection[str]:
    rows = await tx.fetch(TAKEN_SQL, channel_id, access_number, signature_id)
    return [row["extension"] for row in rows]


def _free(digits: int, taken: Collection[str]) -> Iterator[str]:
    """Yield the digits of that length, from the lowest on, that neither begin others' nor begin with them."""
    heads = {each[:digits] for each in taken if len(each) >= digits}
    short = {each for each in taken if len(each) < digits}
    number = 1
    while number < 10**digits:
        written = str(number).rjust(digits, "0")
        begun = next((width for width in range(1, digits) if written[:width] in short), 0)
        if begun:  # leap over all that begin with it
            block = 10 ** (digits - begun)
            number = (number // block + 1) * block
            continue
        if written not in heads:
            yield written
        number += 1


CHANNELS_SQL: LiteralString = """
SELECT c.id FROM channel c
 WHERE c.active AND c.extension_digits > 0
   AND NOT EXISTS (SELECT FROM signature_extension x WHERE x.signature_id = $1 AND x.channel_id = c.id)
 ORDER BY c.id
"""


async def assign_everywhere(tx: db.Tx, signature_id: int) -> None:
    """Give an approved signature digits at every channel that has some for each; where they ran out, it has none."""
    for row in await tx.fetch(CHANNELS_SQL, signature_id):
        try:
            await assign(tx, signature_id, row["id"])
        except Refusal as refusal:
            if refusal.code is not Code.REQUEST_CONFLICT:
                raise


LACKING_SQL: LiteralString = """
SELECT s.id FROM signature s
 WHERE s.state = 'approved'
   AND NOT EXISTS (SELECT FROM signature_extension x WHERE x.signature_id = s.id AND x.channel_id = $1)
 ORDER BY s.id
"""
PUT_MANY_SQL: LiteralString = """
INSERT INTO signature_extension (channel_id, signature_id, extension)
SELECT $1, u.signature_id, u.extension FROM unnest($2::int[], $3::text[]) AS u(signature_id, extension)
"""


async def assign_all(tx: db.Tx, channel_id: ChannelId) -> Assigned:
    """Give every approved signature that has none digits at a channel, once its extension_digits are set.

    What was given before stays, of whatever length: people reply to it.
    """
    channel = await _channel(tx, channel_id)
    lacking = [row["id"] for row in await tx.fetch(LACKING_SQL, channel_id)]
    taken = await _taken(tx, channel_id, channel["access_number"], 0)
    given = dict(zip(lacking, _free(channel["extension_digits"], taken), strict=False))
    await tx.execute(PUT_MANY_SQL, channel_id, list(given), list(given.values()))
    return Assigned(len(given), len(lacking) - len(given))


REMOVE_SQL: LiteralString = """
DELETE FROM signature_extension WHERE signature_id = $1 AND channel_id = $2 RETURNING extension
"""


async def remove(tx: db.Tx, signature_id: int, channel_id: ChannelId) -> None:
    """Take a signature's digits at a channel away. Raises Refusal where it has none."""
    demand_found(
        await tx.fetchval(REMOVE_SQL, signature_id, channel_id), signature=signature_id, channel=channel_id
    )


OF_SQL: LiteralString = """
SELECT x.channel_id, c.name AS channel, c.access_number, x.extension
  FROM signature_extension x JOIN channel c ON c.id = x.channel_id JOIN signature s ON s.id = x.signature_id
 WHERE x.signature_id = $1 AND ($2::int IS NULL OR s.tenant_id = $2) AND c.active ORDER BY x.channel_id
"""


async def of(tx: db.Tx, signature_id: int, tenant_id: TenantId | None = None) -> Sequence[ExtensionRow]:
    """List the digits a signature has at channels."""
    return [ExtensionRow(**dict(row)) for row in await tx.fetch(OF_SQL, signature_id, tenant_id)]
