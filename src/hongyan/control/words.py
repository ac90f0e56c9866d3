"""Word lists: what texts must not have, or may have all the same; of the platform, of a tenant, of a channel.

Writes: word_list, word. Entry points: create(), change(), remove() for lists; add(), take_out(), replace(), page(),
pieces() for their words; check_template() for whoever looks at a text. Every change counts a list's version up, by which
the plane sees that its words have to be read again (way/lexicon.py). A tenant's lists count for its own messages.
"""

import asyncio
import csv
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from importlib import resources
from typing import Any, Final, LiteralString, NamedTuple

import msgspec

from hongyan import db
from hongyan.control.bounds import demand, demand_found, demand_name, demand_text
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import ChannelId, TenantId
from hongyan.vocab.plain import plain
from hongyan.vocab.words import WORD_CHARACTERS_MAX, Level, Words

WORDS_MAX: Final = 200_000  # of a list
TENANT_WORDS_MAX: Final = 50_000  # of a tenant's lists together: every process has all of them in memory
LISTS_MAX: Final = 50  # of the platform, of a tenant, of a channel
FAULTS_MAX: Final = 20  # told of one file
FILE_OCTETS_MAX: Final = 64_000_000
LINE_OCTETS_MAX: Final = 4_096
PAGE_WORDS: Final = 5_000  # of a file that is given, and of a statement that takes one in
TAG_CHARACTERS_MAX: Final = 32
SOURCE_CHARACTERS_MAX: Final = 256
TAKEN: Final = "there is a list of this name"


class WordListRow(msgspec.Struct, frozen=True, kw_only=True):
    """A list, without its words."""

    id: int
    tenant_id: TenantId | None  # none: the platform's
    channel_id: ChannelId | None  # counts for what would go by this channel, and for nothing else
    name: str
    allows: bool  # its words cover forbidden ones that lie inside them
    grants: bool  # an allow-list given to a tenant by the platform: it covers the platform's words too
    level: Level  # of a list that forbids: what follows from its words
    tag: str
    source: str
    active: bool
    version: int
    word_count: int
    created_at: datetime
    changed_at: datetime


class Fault(msgspec.Struct, frozen=True):
    """A line that was left out, and why."""

    line: int
    reason: str


class Brought(msgspec.Struct, frozen=True):
    """What became of words that were brought. Those that mean the same as another one are `same`."""

    added: int
    same: int
    left_out: int
    faults: list[Fault]  # the first of those left out
    word_count: int


class Word(NamedTuple):
    """What is stored of a word: what texts are compared with, and what a person wrote."""

    plain: str
    written: str


COLUMNS: Final[LiteralString] = (
    "id, tenant_id, channel_id, name, allows, grants, level, tag, source, active, version, word_count, created_at, changed_at"
)


# ---- lists

COUNT_SQL: LiteralString = """
SELECT count(*) FROM word_list WHERE tenant_id IS NOT DISTINCT FROM $1 AND channel_id IS NOT DISTINCT FROM $2
"""
CREATE_SQL: LiteralString = f"""
INSERT INTO word_list (tenant_id, channel_id, name, allows, grants, level, tag, source)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING {COLUMNS}
"""
CHANNEL_SQL: LiteralString = "SELECT id FROM channel WHERE id = $1 AND active"


async def create(
    tx: db.Tx,
    name: str,
    *,
    tenant_id: TenantId | None = None,
    channel_id: ChannelId | None = None,
    allows: bool = False,
    grants: bool = False,
    level: Level = Level.BLOCK,
    tag: str = "",
    source: str = "",
) -> WordListRow:
    """Make an empty list of the platform, or of a tenant, or of a channel. Raises Refusal for what does not go together."""
    demand_name(name)
    _demand_words(tag, source)
    demand(tenant_id is None or channel_id is None, "channel_id", "lists of channels are the platform's")
    demand(channel_id is None or not allows, "allows", "a channel's list forbids")
    demand(not grants or (allows and tenant_id is not None), "grants", "only a tenant's list that allows")
    if channel_id is not None:
        demand_found(await tx.fetchval(CHANNEL_SQL, channel_id), channel=channel_id)
    count = await tx.fetchval(COUNT_SQL, tenant_id, channel_id)
    demand(count < LISTS_MAX, "name", f"at most {LISTS_MAX} lists")
    row = await tx.fetchrow(CREATE_SQL, tenant_id, channel_id, name, allows, grants, level, tag, source)
    demand(row is not None, "name", TAKEN)
    return _row(row)


def _demand_words(tag: str, source: str) -> None:
    demand_text(tag, "tag", TAG_CHARACTERS_MAX)
    demand_text(source, "source", SOURCE_CHARACTERS_MAX)


LISTS_SQL: LiteralString = f"""
SELECT {COLUMNS} FROM word_list WHERE ($1::int IS NULL OR tenant_id = $1) AND id > $2 ORDER BY id LIMIT $3
"""


async def lists(
    tx: db.Tx, tenant_id: TenantId | None, *, after: int = 0, limit: int = 500
) -> Sequence[WordListRow]:
    """List a tenant's lists, or (None) all there are, in the order they were made."""
    return [_row(row) for row in await tx.fetch(LISTS_SQL, tenant_id, after, limit)]


ONE_SQL: LiteralString = (
    f"SELECT {COLUMNS} FROM word_list WHERE id = $1 AND ($2::int IS NULL OR tenant_id = $2)"
)


async def one(tx: db.Tx, tenant_id: TenantId | None, list_id: int) -> WordListRow:
    """Return a list; somebody else's is not found: Refusal."""
    return _row(demand_found(await tx.fetchrow(ONE_SQL, list_id, tenant_id), list=list_id))


FIND_SQL: LiteralString = f"""
SELECT {COLUMNS} FROM word_list WHERE name = $1 AND tenant_id IS NOT DISTINCT FROM $2 ORDER BY id LIMIT 1
"""


async def find(tx: db.Tx, tenant_id: TenantId | None, name: str) -> WordListRow:
    """Find a list of the platform, or of a tenant, by its name. Raises Refusal."""
    return _row(demand_found(await tx.fetchrow(FIND_SQL, name, tenant_id), list=name))


# A tenant may not change what the platform gave it.
LOCK_SQL: LiteralString = f"""
SELECT {COLUMNS} FROM word_list WHERE id = $1 AND ($2::int IS NULL OR (tenant_id = $2 AND ($3 OR NOT grants))) FOR UPDATE
"""


async def locked(tx: db.Tx, tenant_id: TenantId | None, list_id: int, *, platform: bool) -> WordListRow:
    """Return a list that is to be changed, and let nobody else change it meanwhile.

    `platform`: it is the platform that changes it. Raises Refusal where there is none that the caller may change.
    """
    return _row(demand_found(await tx.fetchrow(LOCK_SQL, list_id, tenant_id, platform), list=list_id))


CHANGE_SQL: LiteralString = f"""
UPDATE word_list SET name = $2, level = $3, tag = $4, source = $5, active = $6, version = version + 1, changed_at = now()
 WHERE id = $1 RETURNING {COLUMNS}
"""
TAKEN_SQL: LiteralString = """
SELECT 1 FROM word_list WHERE id <> $1 AND name = $2 AND tenant_id IS NOT DISTINCT FROM $3
   AND channel_id IS NOT DISTINCT FROM $4
"""


async def change(
    tx: db.Tx,
    row: WordListRow,
    *,
    name: str | None = None,
    level: Level | None = None,
    tag: str | None = None,
    source: str | None = None,
    active: bool | None = None,
) -> WordListRow:
    """Change what is given of a locked() list. Raises Refusal for a name that is taken."""
    wanted = {"name": name, "level": level, "tag": tag, "source": source, "active": active}
    new = msgspec.structs.replace(row, **{key: value for key, value in wanted.items() if value is not None})
    demand_name(new.name)
    _demand_words(new.tag, new.source)
    taken = await tx.fetchval(TAKEN_SQL, row.id, new.name, row.tenant_id, row.channel_id)
    demand(taken is None, "name", TAKEN)
    values = (new.name, new.level, new.tag, new.source, new.active)
    try:
        changed = await tx.fetchrow(CHANGE_SQL, row.id, *values)
    except db.Unstorable:  # somebody took the name between the look and now
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="name", reason=TAKEN) from None
    return _row(demand_found(changed, list=row.id))


REMOVE_WORDS_SQL: LiteralString = "DELETE FROM word WHERE list_id = $1"
REMOVE_SQL: LiteralString = "DELETE FROM word_list WHERE id = $1"


async def remove(tx: db.Tx, row: WordListRow) -> None:
    """Delete a locked() list with its words."""
    await tx.execute(REMOVE_WORDS_SQL, row.id)
    await tx.execute(REMOVE_SQL, row.id)


def _row(row: Mapping[str, Any]) -> WordListRow:
    return WordListRow(**{**dict(row), "level": Level(row["level"])})


# ---- words


def read_word(written: str) -> Word:
    """Read a word as a person wrote it. Raises Refusal where nothing of it could ever be found."""
    written = written.strip()
    sought = plain(written).strip()
    demand(
        written.isprintable()
        and 0 < len(written) <= WORD_CHARACTERS_MAX
        and len(sought) <= WORD_CHARACTERS_MAX,
        "words",
        f"1 to {WORD_CHARACTERS_MAX} printable characters each",
    )
    demand(any(map(str.isalnum, sought)), "words", "each has a letter or a digit")
    return Word(sought, written)


ADD_SQL: LiteralString = """
INSERT INTO word (list_id, plain, written)
SELECT $1, plain, written FROM unnest($2::text[], $3::text[]) AS u(plain, written) ORDER BY plain
ON CONFLICT (list_id, plain) DO NOTHING
"""


async def add(tx: db.Tx, row: WordListRow, words: Sequence[Word]) -> WordListRow:
    """Add words to a locked() list; those that are there already stay as they are. Raises Refusal where it becomes too long."""
    for first in range(0, len(words), PAGE_WORDS):
        some = {word.plain: word.written for word in reversed(words[first : first + PAGE_WORDS])}
        await tx.execute(ADD_SQL, row.id, list(some), list(some.values()))
    return await _counted(tx, row)


TAKE_OUT_SQL: LiteralString = "DELETE FROM word WHERE list_id = $1 AND plain = ANY($2::text[])"


async def take_out(tx: db.Tx, row: WordListRow, words: Sequence[Word]) -> WordListRow:
    """Take words off a locked() list, however they are written."""
    await tx.execute(TAKE_OUT_SQL, row.id, sorted({word.plain for word in words}))
    return await _counted(tx, row)


async def replace(tx: db.Tx, row: WordListRow, words: Sequence[Word]) -> WordListRow:
    """Put words in place of all that a locked() list has."""
    await tx.execute(REMOVE_WORDS_SQL, row.id)
    return await add(tx, row, words)


COUNTED_SQL: LiteralString = f"""
UPDATE word_list SET word_count = (SELECT count(*) FROM word WHERE list_id = $1), version = version + 1, changed_at = now()
 WHERE id = $1 RETURNING {COLUMNS}
"""
TENANT_COUNT_SQL: LiteralString = "SELECT sum(word_count) FROM word_list WHERE tenant_id = $1"


async def _counted(tx: db.Tx, row: WordListRow) -> WordListRow:
    counted = _row(await tx.fetchrow(COUNTED_SQL, row.id))
    demand(counted.word_count <= WORDS_MAX, "words", f"at most {WORDS_MAX:,} in a list")
    if row.tenant_id is not None:
        count = await tx.fetchval(TENANT_COUNT_SQL, row.tenant_id)
        demand(count <= TENANT_WORDS_MAX, "words", f"at most {TENANT_WORDS_MAX:,} in all lists of a tenant")
    return counted


PAGE_SQL: LiteralString = """
SELECT plain, written FROM word
 WHERE list_id = $1 AND plain > $2 AND ($3 = '' OR position($3 IN plain) > 0) ORDER BY plain LIMIT $4
"""


async def page(
    tx: db.Tx, list_id: int, *, after: str = "", having: str = "", limit: int = PAGE_WORDS
) -> Sequence[Word]:
    """Return words of a list that have `having` in them, in the order of their plain form from behind `after`."""
    rows = await tx.fetch(PAGE_SQL, list_id, after, plain(having).strip(), limit)
    return [Word(row["plain"], row["written"]) for row in rows]


async def pieces(database: db.Database, list_id: int) -> AsyncIterator[bytes]:
    """Give a list as a text file, a word to a line, in pieces with a transaction each."""
    after = ""
    while True:
        async with database.transaction() as tx:
            words = await page(tx, list_id, after=after, limit=PAGE_WORDS)
        if not words:
            return
        yield "".join(f"{word.written}\n" for word in words).encode()
        after = words[-1].plain


# ---- files of words


async def read_file(chunks: AsyncIterator[bytes]) -> tuple[Sequence[Word], int, Sequence[Fault]]:
    """Read a file of words: one to a line, or the first column of a CSV; lines that begin with # say nothing.

    UTF-8. Returns the words, how many lines were left out, and why the first of those. Raises Refusal for a file too
    long, or with more than twice the words a list may have.
    """
    words: list[Word] = []
    faults: list[Fault] = []
    number = left_out = octets = 0
    rest = b""
    async for chunk in _ended(chunks):
        octets += len(chunk)
        demand(octets <= FILE_OCTETS_MAX, "file", f"at most {FILE_OCTETS_MAX:,} octets")
        *lines, rest = (rest + chunk).split(b"\n")
        demand(len(rest) <= LINE_OCTETS_MAX, "file", "a word to a line")
        read, wrong = await asyncio.to_thread(_read_lines, lines, number)
        number += len(lines)
        words += read
        left_out += len(wrong)
        faults += wrong[: FAULTS_MAX - len(faults)]
        demand(len(words) <= 2 * WORDS_MAX, "file", f"at most {WORDS_MAX:,} words")
    return words, left_out, faults


async def _ended(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk
    yield b"\n"


def _read_lines(lines: Sequence[bytes], before: int) -> tuple[list[Word], list[Fault]]:
    words: list[Word] = []
    faults: list[Fault] = []
    for number, octets in enumerate(lines, before + 1):
        try:
            line = octets.decode("utf-8-sig").strip()
            if not line or line.startswith("#"):
                continue
            cell = next(csv.reader([line]))[0].removeprefix("'") if line[0] in "\"'" or "," in line else line
            words.append(read_word(cell))
        except UnicodeDecodeError:
            faults.append(Fault(number, "not UTF-8"))
        except csv.Error as error:
            faults.append(Fault(number, str(error)))
        except Refusal as refusal:
            faults.append(Fault(number, str(refusal.detail["reason"])))
    return words, faults


def starter_file() -> bytes:
    """Return the words we ship to begin with: a file like any other, in use only once somebody brings it in."""
    return resources.files(__package__).joinpath("starter_words.tsv").read_bytes()


# ---- texts


def check_template(
    words: Words, text: str, tenant_id: TenantId | None
) -> Sequence[tuple[int, int, str, str, str]]:
    """Return (start, end, word, list, level) of what should be said of a text under review, in its order.

    What only one channel forbids is a warning.
    """
    return [
        (hit.start, hit.end, hit.word, hit.list, str(hit.level))
        for hit in words.check_template(text, tenant_id)
    ]
