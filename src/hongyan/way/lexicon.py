"""Keep the word lists ready to be sought: what control changed is read again, and nothing else.

Writes nothing. Entry points: Lexicon.read() in the transaction that reads the snapshot, Lexicon.build() after it. A
list's version tells whether its words changed. Automata are built in a thread, one owner's at a time, and of a long
list only those parts in which a word changed; until they are ready the old ones are asked.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import LiteralString, NamedTuple

from hongyan import db
from hongyan.vocab.message import ChannelId, TenantId
from hongyan.vocab.words import NOTHING, Level, Listed, Scope, Sought, Words


class Owner(NamedTuple):
    """Whose lists are sought together: the platform's where neither is given."""

    tenant_id: TenantId | None
    channel_id: ChannelId | None


Versions = Sequence[tuple[Listed, int]]  # each list in use with its version
Lists = Sequence[tuple[Listed, Sought | str]]  # with its words as they are known, or as they were read


class _Built(NamedTuple):
    """What an owner's lists became."""

    versions: Versions
    sought: Mapping[int, tuple[int, Sought]]  # of each list: its version then, and its words
    scope: Scope


# One value a list: thousands of rows would take the event loop as many times longer to read. In their order, as an index
# has them, because that is how they are built quickest.
WORDS_SQL: LiteralString = """
SELECT list_id, string_agg(CASE WHEN plain = written THEN plain ELSE plain || E'\t' || written END, E'\n' ORDER BY plain)
       AS lines
  FROM word WHERE list_id = ANY($1::int[]) GROUP BY list_id
"""


class Lexicon:
    """What the snapshot keeps of word lists between two loads.

    Where texts are only sent and not taken in (`reads_texts` false), what no text may say was asked before: channels' own lists
    are kept there, and what is allowed.
    """

    def __init__(self, *, reads_texts: bool = True) -> None:
        self._reads_texts = reads_texts
        self._built: dict[Owner, _Built] = {}

    async def read(self, tx: db.Tx, rows: Sequence[db.Row]) -> Mapping[Owner, tuple[Versions, Lists]]:
        """Read the lists that are not those that were built, of every owner that has such; mostly none."""
        wanted: defaultdict[Owner, list[tuple[Listed, int]]] = defaultdict(list)
        for row in rows:
            listed = _listed(row)
            if not self._reads_texts and listed.channel_id is None and not listed.allows:
                continue
            wanted[Owner(listed.tenant_id, listed.channel_id)].append((listed, row["version"]))
        for gone in self._built.keys() - wanted.keys():
            wanted[gone] = []
        stale = {owner: lists for owner, lists in wanted.items() if self._versions(owner) != lists}
        if not stale:
            return {}
        known = {owner: self._known(owner, lists) for owner, lists in stale.items()}
        ids = [
            listed.id
            for owner, lists in stale.items()
            for listed, _ in lists
            if listed.id not in known[owner]
        ]
        lines = {row["list_id"]: row["lines"] for row in await tx.fetch(WORDS_SQL, ids)} if ids else {}
        return {
            owner: (
                lists,
                [(listed, known[owner].get(listed.id) or lines.get(listed.id, "")) for listed, _ in lists],
            )
            for owner, lists in stale.items()
        }

    def _versions(self, owner: Owner) -> Versions:
        return self._built[owner].versions if owner in self._built else ()

    def _known(self, owner: Owner, lists: Versions) -> Mapping[int, Sought]:
        """Return those words of lists that did not change since they were built."""
        sought = self._built[owner].sought if owner in self._built else {}
        return {
            listed.id: sought[listed.id][1]
            for listed, version in lists
            if sought.get(listed.id, (0,))[0] == version
        }

    async def build(self, stale: Mapping[Owner, tuple[Versions, Lists]]) -> Words:
        """Build what was read, forget what is gone, and return all there is."""
        built = dict(self._built)
        for owner, (versions, lists) in stale.items():
            if lists:
                before = built[owner].sought if owner in built else {}
                built[owner] = await asyncio.to_thread(_build, versions, lists, before)
            else:
                del built[owner]
        self._built = built
        scopes = {owner: one.scope for owner, one in built.items()}
        return Words(
            platform=scopes.get(Owner(None, None), NOTHING),
            tenants={o.tenant_id: scope for o, scope in scopes.items() if o.tenant_id is not None},
            channels={o.channel_id: scope for o, scope in scopes.items() if o.channel_id is not None},
        )


def _build(versions: Versions, lists: Lists, before: Mapping[int, tuple[int, Sought]]) -> _Built:
    sought: dict[int, tuple[int, Sought]] = {}
    for (listed, version), (_, read) in zip(versions, lists, strict=True):
        if isinstance(read, str):
            _, old = before.get(listed.id, (0, None))
            sought[listed.id] = version, Sought(read.split("\n") if read else (), old)
        else:
            sought[listed.id] = version, read
    return _Built(versions, sought, Scope([(listed, sought[listed.id][1]) for listed, _ in lists]))


def _listed(row: db.Row) -> Listed:
    return Listed(
        id=row["id"],
        name=row["name"],
        level=Level(row["level"]),
        tag=row["tag"],
        tenant_id=None if row["tenant_id"] is None else TenantId(row["tenant_id"]),
        channel_id=None if row["channel_id"] is None else ChannelId(row["channel_id"]),
        allows=row["allows"],
        grants=row["grants"],
    )
