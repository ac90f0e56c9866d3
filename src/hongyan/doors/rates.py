"""The rate of each app key, exact over all door processes.

Writes: key_rate. Entry point: Rates.take(). Tokens come from one row per key by the generic cell rate
algorithm (GCRA), reckoned with the database's clock under the row's lock; a door takes as many as wait, and
at high rates a few ahead, which it must use within LEASE_S. Over any t seconds a key gets at most
rate × (t + 1) requests. A key without a rate costs nothing.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.gather import Gatherer, Heard, Told, busy
from hongyan.vocab.errors import Code, Refusal
from hongyan.way.snapshot import Key

LEASE_S: Final = 0.05  # tokens taken ahead are worth this long, and lapse after it
SAVED_S: Final = 1.0  # how much unused time a key may save up, what is leased included
AHEAD_S: Final = 60.0  # far more than next_at ever is


class Rates:
    """What this process holds of each key's tokens; run() fetches more in batches."""

    def __init__(self, database: db.Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._purses: dict[int, _Purse] = {}
        self._gatherer = Gatherer[_Want]("rates", self._fetch)
        self.run = self._gatherer.run

    def take(self, key: Key, heard: Heard) -> None:
        """Take one token; `heard` gets None, or the refusal with Retry-After, at once or later."""
        purse = self._purses.setdefault(key.id, _Purse())
        now_s = self._clock()
        if purse.tokens and now_s < purse.lapse_s:
            purse.tokens -= 1
            purse.used += 1
            heard(None)
        elif now_s < purse.empty_until_s:
            heard(_limited(purse.empty_until_s - now_s))
        else:
            self._gatherer.add(_Want(key.id, key.rate_per_s, heard))

    async def _fetch(self, batch: Sequence["_Want"]) -> Sequence[Told]:
        wants: dict[int, list[_Want]] = {}
        for want in batch:
            wants.setdefault(want.key_id, []).append(want)
        ids = sorted(wants)  # rows are locked in key order
        rates = [wants[key_id][-1].rate_per_s for key_id in ids]
        tokens = [len(wants[i]) + self._ahead(i, rate) for i, rate in zip(ids, rates, strict=True)]
        async with self._database.transaction() as tx:
            fresh = [key_id for key_id in ids if not self._purses[key_id].has_row]
            if fresh:
                await tx.execute(ROW_SQL, fresh)
            bursts = [SAVED_S - LEASE_S if rate * LEASE_S >= 1 else SAVED_S for rate in rates]
            rows = await tx.fetch(LEASE_SQL, ids, rates, tokens, bursts, AHEAD_S)
        told: list[Told] = []
        for row in rows:
            key_id = row["key_id"]
            told += self._share(wants.pop(key_id), self._purses[key_id], row["granted"], row["wait_s"])
        for key_id, those in wants.items():  # somebody deleted the row: make it again next time
            self._purses[key_id].has_row = False
            told += [(want.heard, busy()) for want in those]
        return told

    def _ahead(self, key_id: int, rate_per_s: int) -> int:
        """Return how many tokens to take ahead: as many as the last lease used, LEASE_S worth at most."""
        purse = self._purses[key_id]
        if self._clock() > purse.lapse_s + LEASE_S:
            return 0
        return min(purse.used, math.floor(rate_per_s * LEASE_S))

    def _share(
        self, wants: Sequence["_Want"], purse: "_Purse", granted: int, wait_s: float
    ) -> Sequence[Told]:
        now_s = self._clock()
        served = min(granted, len(wants))
        purse.has_row = True
        purse.tokens = granted - served
        purse.used = served
        purse.lapse_s = now_s + LEASE_S
        if served < len(wants):
            purse.empty_until_s = now_s + wait_s
        return [(want.heard, None if at < served else _limited(wait_s)) for at, want in enumerate(wants)]


ROW_SQL: LiteralString = """
INSERT INTO key_rate (key_id, next_at) SELECT key_id, now() FROM unnest($1::int[]) u(key_id)
    ON CONFLICT DO NOTHING
"""
# Further ahead than AHEAD_S it was written by a clock that was set back since, and says nothing.
# The commit need not be durable: next_at is at most a second ahead, and a server that crashed is away longer.
LEASE_SQL: LiteralString = """
WITH held AS (
    SELECT k.key_id, u.rate, u.wanted, u.burst_s, clock_timestamp() AS now_at,
           CASE WHEN k.next_at < clock_timestamp() + make_interval(secs => $5) THEN k.next_at END AS next_at
      FROM key_rate k
      JOIN unnest($1::int[], $2::int[], $3::int[], $4::float8[]) u(key_id, rate, wanted, burst_s)
        ON u.key_id = k.key_id
     ORDER BY k.key_id FOR UPDATE OF k
), ample AS (
    SELECT key_id, rate, burst_s, now_at, greatest(next_at, now_at) AS next_at,
           least(wanted, greatest(0, floor(
               (burst_s + 1e-6 - greatest(0, extract(epoch FROM next_at - now_at))) * rate)))::int AS granted
      FROM held
), moved AS (
    UPDATE key_rate k SET next_at = a.next_at + make_interval(secs => a.granted::float8 / a.rate)
      FROM ample a WHERE k.key_id = a.key_id
    RETURNING k.key_id, a.granted, a.rate, a.burst_s,
              extract(epoch FROM k.next_at - a.now_at)::float8 AS ahead_s
)
SELECT key_id, granted, greatest(0, ahead_s - burst_s + 1.0 / rate)::float8 AS wait_s,
       set_config('synchronous_commit', 'off', true) AS commit
  FROM moved
"""


class _Purse(msgspec.Struct):
    tokens: int = 0
    lapse_s: float = 0.0  # on our own clock
    empty_until_s: float = 0.0
    used: int = 0  # since the last lease
    has_row: bool = False


class _Want(msgspec.Struct, frozen=True):
    key_id: int
    rate_per_s: int
    heard: Heard


def _limited(wait_s: float) -> Refusal:
    return Refusal(Code.REQUEST_RATE_LIMITED, retry_after_s=wait_s)
