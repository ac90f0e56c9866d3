"""Every version of the configuration there was, each section stored once under the keyed hash of what it says.

Writes: configuration, configuration_part, configuration_list. Entry points: begin() before a change and keep() after it,
in its transaction; latest(), page(), one(), opened(). A version holds the secrets of channels, sealed, so that a roll back
brings a password back too. Words are read only of lists whose version moved. Surprise: keep() takes a lock until the
transaction ends, so call it when the work is done, and before the record in the audit.
"""

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString

import msgspec

from hongyan import db, observe
from hongyan.control.bounds import demand_found, demand_text
from hongyan.control.configuration import document
from hongyan.control.configuration.document import SECTIONS, Stored, Whole, owner_of
from hongyan.vault import Vault

CONFIGURATION_LOCK: Final = 0x636F6E66  # 'conf': versions are counted one after the other
VERSIONS_MAX: Final = 2_000  # older ones are forgotten
FORGET_EVERY: Final = 100
NOTE_CHARACTERS_MAX: Final = 500
WHO_CHARACTERS_MAX: Final = 300
PAGE_MAX: Final = 500
BIGGEST: Final = 2**31 - 1
LEVEL: Final = 6
LIST: Final = "list"  # the section of a part that is the words of a list


class ConfigurationVersionRow(msgspec.Struct, frozen=True):
    """A version in a list. `changed`: the sections that differ from the version before."""

    version: int
    made_by: str
    action: str
    note: str
    made_at: datetime
    changed: list[str]


class Ids(msgspec.Struct, frozen=True):
    """Whose names were whose when a version was kept: what was renamed since is found again."""

    channels: Mapping[str, int] = {}
    tenants: Mapping[str, int] = {}


class _Part(msgspec.Struct, frozen=True):
    """What a part of a section says."""

    entries: msgspec.Raw
    ids: dict[str, int] = {}
    lists: list[str] = []  # of words: the digests of each list's words, in the order of the lists


# ---- keeping


async def lock(tx: db.Tx) -> None:
    """Let nobody else keep a version until the transaction ends."""
    await tx.execute("SELECT pg_advisory_xact_lock($1)", CONFIGURATION_LOCK)


LATEST_SQL: LiteralString = "SELECT version, sections FROM configuration ORDER BY version DESC LIMIT 1"


async def latest(tx: db.Tx) -> int:
    """Return the newest version; 0 where none was kept yet."""
    row = await tx.fetchrow(LATEST_SQL)
    return row["version"] if row is not None else 0


async def begin(tx: db.Tx, vault: Vault) -> None:
    """Keep what is there as the first version, so that the first change can be rolled back; mostly nothing."""
    if not await latest(tx):
        await keep(tx, vault, "hongyan", "found")


KEEP_SQL: LiteralString = """
INSERT INTO configuration (version, sections, parts, made_by, action, note) VALUES ($1, $2, $3, $4, $5, $6)
"""


async def keep(tx: db.Tx, vault: Vault, who: str, action: str, note: str = "") -> int | None:
    """Keep the configuration as this transaction sees it. Returns its version; None where nothing differs."""
    demand_text(note, "note", NOTE_CHARACTERS_MAX)
    await lock(tx)
    stored = await document.read(tx, vault, with_words=False)
    lists = await _list_digests(tx, vault, stored)
    plain = {section: _plain(section, stored, lists) for section in SECTIONS}
    digests = {section: _digest(vault, section, octets) for section, octets in plain.items()}
    sections = {section: digest.hex() for section, digest in digests.items()}
    before = await tx.fetchrow(LATEST_SQL)
    known = msgspec.json.decode(before["sections"]) if before is not None else {}
    if sections == known:
        return None
    for section in SECTIONS:
        if sections[section] != known.get(section):
            await _put(tx, vault, digests[section], section, plain[section])
    number = (before["version"] if before is not None else 0) + 1
    parts = sorted({*digests.values(), *lists})
    written = msgspec.json.encode(sections).decode()
    said = observe.masked(who)[:WHO_CHARACTERS_MAX]
    await tx.execute(KEEP_SQL, number, written, parts, said, action, note)
    if number % FORGET_EVERY == 0:
        await _forget(tx, number - VERSIONS_MAX)
    return number


def _plain(section: str, stored: Stored, lists: Sequence[bytes]) -> bytes:
    entries = msgspec.json.encode(getattr(stored.document, section), order="deterministic")
    ids = {"channels": stored.channel_ids, "tenants": stored.tenant_ids}.get(section, {})
    own = [digest.hex() for digest in lists] if section == "words" else []
    return msgspec.json.encode(_Part(msgspec.Raw(entries), dict(ids), own), order="deterministic")


def _digest(vault: Vault, section: str, plain: bytes) -> bytes:
    """Keyed, because a plain hash would let whoever has a dump try passwords."""
    return vault.keyed_hash(b"configuration", section.encode(), plain)


PUT_SQL: LiteralString = """
INSERT INTO configuration_part (digest, section, sealed) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING
"""


async def _put(tx: db.Tx, vault: Vault, digest: bytes, section: str, plain: bytes) -> None:
    await tx.execute(PUT_SQL, digest, section, vault.seal_secret(zlib.compress(plain, LEVEL)))


KNOWN_SQL: LiteralString = (
    "SELECT list_id, version, digest FROM configuration_list WHERE list_id = ANY($1::int[])"
)
KNOW_SQL: LiteralString = """
INSERT INTO configuration_list (list_id, version, digest) VALUES ($1, $2, $3)
ON CONFLICT (list_id) DO UPDATE SET version = EXCLUDED.version, digest = EXCLUDED.digest
"""


async def _list_digests(tx: db.Tx, vault: Vault, stored: Stored) -> Sequence[bytes]:
    """Return the digest of each list's words, in their order; words are read only where the list's version moved."""
    wanted = [stored.list_ids[owner_of(one)] for one in stored.document.words]
    rows = await tx.fetch(KNOWN_SQL, [list_id for list_id, _ in wanted])
    known = {(row["list_id"], row["version"]): row["digest"] for row in rows}
    moved = {list_id: version for list_id, version in wanted if (list_id, version) not in known}
    written = await document.words_of(tx, list(moved))
    for list_id, version in moved.items():
        plain = "\n".join(written.get(list_id, [])).encode()
        digest = known[list_id, version] = _digest(vault, LIST, plain)
        await _put(tx, vault, digest, LIST, plain)
        await tx.execute(KNOW_SQL, list_id, version, digest)
    return [known[each] for each in wanted]


FORGET_SQL: LiteralString = "DELETE FROM configuration WHERE version <= $1"
FORGET_PARTS_SQL: LiteralString = """
DELETE FROM configuration_part p
 WHERE NOT EXISTS (SELECT FROM configuration c WHERE c.parts @> ARRAY[p.digest])
   AND NOT EXISTS (SELECT FROM configuration_list l WHERE l.digest = p.digest)
"""


async def _forget(tx: db.Tx, up_to: int) -> None:
    if up_to > 0:
        await tx.execute(FORGET_SQL, up_to)
        await tx.execute(FORGET_PARTS_SQL)


# ---- looking

PAGE_SQL: LiteralString = """
SELECT c.version, c.made_by, c.action, c.note, c.made_at, c.sections, b.sections AS before
  FROM configuration c LEFT JOIN configuration b ON b.version = c.version - 1
 WHERE c.version < $1 AND ($2::int IS NULL OR c.version = $2) ORDER BY c.version DESC LIMIT $3
"""


async def page(
    tx: db.Tx, *, before: int = BIGGEST, limit: int = PAGE_MAX
) -> Sequence[ConfigurationVersionRow]:
    """List versions below `before`, the newest first."""
    return [_row(row) for row in await tx.fetch(PAGE_SQL, min(before, BIGGEST), None, min(limit, PAGE_MAX))]


async def one(tx: db.Tx, number: int) -> ConfigurationVersionRow:
    """Return one version. Raises Refusal where there is none."""
    return _row(demand_found(await tx.fetchrow(PAGE_SQL, BIGGEST, number, 1), version=number))


def _row(row: db.Row) -> ConfigurationVersionRow:
    sections = msgspec.json.decode(row["sections"])
    before = msgspec.json.decode(row["before"]) if row["before"] is not None else {}
    changed = [section for section in SECTIONS if sections.get(section) != before.get(section)]
    return ConfigurationVersionRow(
        row["version"], row["made_by"], row["action"], row["note"], row["made_at"], changed
    )


OPEN_SQL: LiteralString = "SELECT sections, parts FROM configuration WHERE version = $1"
PARTS_SQL: LiteralString = "SELECT digest, sealed FROM configuration_part WHERE digest = ANY($1::bytea[])"


async def opened(tx: db.Tx, vault: Vault, number: int) -> tuple[Whole, Ids]:
    """Return the document of a version, secrets and all: not for people. Raises Refusal where there is none."""
    row = demand_found(await tx.fetchrow(OPEN_SQL, number), version=number)
    parts = {
        each["digest"].hex(): zlib.decompress(vault.unseal_secret(each["sealed"]).reveal())
        for each in await tx.fetch(PARTS_SQL, row["parts"])
    }
    named: dict[str, str] = msgspec.json.decode(row["sections"])
    read = {section: msgspec.json.decode(parts[digest], type=_Part) for section, digest in named.items()}
    # Sections that a version of ours before this one did not have yet are as a new install has them.
    sections = {section: msgspec.json.decode(part.entries) for section, part in read.items()}
    given: dict[str, Any] = {section: [] for section in SECTIONS} | {"policies": {}} | sections
    for entry, digest in zip(given["words"], read["words"].lists if "words" in read else (), strict=True):
        lines = parts[digest].decode()
        entry["words"] = lines.split("\n") if lines else []
    whole = msgspec.convert(given, Whole)
    ids = {section: read[section].ids if section in read else {} for section in ("channels", "tenants")}
    return whole, Ids(**ids)
