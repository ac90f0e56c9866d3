"""Traces of decisions: why a message was let through, why it went by that channel.

Writes: decision. Few distinct traces exist at a time, so each is stored once under a hash of itself
and messages carry only that id. Entry point: Decisions.id_of().
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, LiteralString

import msgspec

from hongyan import db

KNOWN_MAX = 10_000


class Decisions:
    """Remembers which traces are stored; those that are not yet wait for store()."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._new: dict[int, str] = {}

    def id_of(self, trace: Mapping[str, Any]) -> int:
        """Return the id of a trace; store() must be committed before, or with, the row that carries it."""
        octets = msgspec.json.encode(trace, order="deterministic")
        number = int.from_bytes(blake2b(octets, digest_size=8).digest()) >> 1
        if number not in self._known:
            self._new[number] = octets.decode()
        return number

    @property
    def waiting(self) -> bool:
        return bool(self._new)

    async def store(self, tx: db.Tx) -> None:
        """Store the traces nobody has stored yet. A trace is harmless without its message."""
        new = dict(self._new)
        await tx.execute(STORE_SQL, list(new), list(new.values()))
        for number in new:
            self._new.pop(number, None)
        if len(self._known) > KNOWN_MAX:
            self._known.clear()
        self._known.update(new)


# A trace in use is touched once a day at least, because processes forget and ask again; prune goes by that.
STORE_SQL: LiteralString = """
INSERT INTO decision (id, trace) SELECT * FROM unnest($1::bigint[], $2::jsonb[])
ON CONFLICT (id) DO UPDATE SET made_at = now() WHERE decision.made_at < now() - interval '1 day'
"""
