"""Nonces: each may be used once, across processes and restarts.

Writes: nonce. Entry points: Nonces.use(); was_used(), for people. Rows may be pruned once `until` is past: by then the request's
timestamp is refused without them.
"""

from collections.abc import Sequence
from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.gather import Gatherer, Heard, Told
from hongyan.vocab.errors import Code, Refusal

MARGIN_S: Final = 60.0  # between the clocks of several door machines


USED_SQL: LiteralString = "SELECT 1 FROM nonce WHERE key_id = $1 AND nonce = $2"


async def was_used(tx: db.Tx, key_id: int, nonce: bytes) -> bool:
    """Return whether a nonce of a key was used lately."""
    return await tx.fetchval(USED_SQL, key_id, nonce) is not None


class Nonces:
    """The nonces this process was shown; run() stores them in batches."""

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self._gatherer = Gatherer[_Use]("nonces", self._keep)
        self.run = self._gatherer.run

    def use(self, key_id: int, nonce: bytes, stale_at_s: float, heard: Heard) -> None:
        """Claim a nonce for a key; `heard` gets None, or the refusal: used before, or busy.

        `stale_at_s` (Unix seconds) is when the request that carried it is too old anyway.
        """
        self._gatherer.add(_Use((key_id, nonce), stale_at_s + MARGIN_S, heard))

    async def _keep(self, batch: Sequence["_Use"]) -> Sequence[Told]:
        first: dict[tuple[int, bytes], _Use] = {}
        for use in batch:
            first.setdefault(use.row, use)
        # In key order, so that two doors with the same nonces wait for each other instead of deadlocking.
        rows = sorted(first)
        kept = await self._database.fetch(
            USE_SQL,
            [key for key, _ in rows],
            [nonce for _, nonce in rows],
            [first[row].until_s for row in rows],
        )
        new = {(row["key_id"], row["nonce"]) for row in kept}
        return [
            (use.heard, None if first[use.row] is use and use.row in new else Refusal(Code.AUTH_NONCE_USED))
            for use in batch
        ]


# The commit is not waited for: what a request then does commits after it, and a later commit that is on disk has
# all earlier ones before it. So a nonce can only be forgotten together with what was done under it.
USE_SQL: LiteralString = """
WITH hurry AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS said)
INSERT INTO nonce (key_id, nonce, until)
SELECT key_id, nonce, to_timestamp(until_s)
  FROM unnest($1::int[], $2::bytea[], $3::float8[]) u(key_id, nonce, until_s), hurry WHERE said = 'off'
    ON CONFLICT DO NOTHING
RETURNING key_id, nonce
"""


class _Use(msgspec.Struct, frozen=True):
    row: tuple[int, bytes]
    until_s: float
    heard: Heard
