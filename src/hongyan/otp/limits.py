"""How often a number, an address or a device may ask for a code: sliding logs, exact over all processes.

Writes: otp_limit. Entry points: Window and asked(), pure; Held, the rows that one batch needs.
What asks is known here by a keyed hash alone. A log, and never a fixed window: at the border of two such, twice as many pass.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final, LiteralString, NamedTuple

import msgspec

from hongyan import clock, db
from hongyan.otp import policy as policies
from hongyan.otp.policy import Policy
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.verification import Level

KEEP_MS: Final = policies.FAILURES_WITHIN_S * 1_000
HITS_MAX: Final = 128  # of a number or device: above every limit a policy may set
ADDRESS_HITS_MAX: Final = 10_000  # the largest limit of an address
FAILURES_KEPT: Final = 64  # more than count
AHEAD_S: Final = 60  # a hit further ahead was written by a clock that was set back since


class Window(NamedTuple):
    """At most so many within so long; `level` is what more of them cost."""

    name: str  # in answers and in the log: number_hour …
    within_s: int
    most: int
    level: Level


class Said(NamedTuple):
    """What the windows say of one more: what it costs, which of them says so, and when it would cost nothing."""

    level: Level
    name: str = ""
    retry_after_s: float = 0.0


_FREE: Final = Said(Level.NOTHING)


def asked(hits: Sequence[int], windows: Iterable[Window], now_s: float) -> Said:
    """Ask whether one more is within every window; of those that it is not, the strictest speaks, then the longest.

    `hits`: Unix milliseconds, the oldest first.
    """
    worst = _FREE
    now_ms = now_s * 1_000
    for window in windows:
        since = now_ms - window.within_s * 1_000
        within = [at for at in hits if at > since]
        if len(within) < window.most:
            continue
        free_ms = within[len(within) - window.most] if window.most else now_ms
        wait_s = max(0.001, (free_ms - since) / 1_000)
        if (window.level, wait_s) > (worst.level, worst.retry_after_s):
            worst = Said(window.level, window.name, wait_s)
    return worst


def left(hits: Sequence[int], windows: Iterable[Window], now_s: float) -> dict[str, int]:
    """Return how many more each hard window lets pass, by its name."""
    now_ms = now_s * 1_000
    return {
        window.name: max(0, window.most - sum(at > now_ms - window.within_s * 1_000 for at in hits))
        for window in windows
        if window.level is Level.REFUSE
    }


def of_number(policy: Policy) -> tuple[Window, ...]:
    """Return the windows of a number in a scene. The sends of the mainland's clouds: Aliyun's 1, 5 and 10."""
    return _of_number(policy.number_minute, policy.number_hour, policy.number_day)


def of_number_softly(policy: Policy) -> tuple[Window, ...]:
    """Return the window that a number unknown to the tenant is challenged by: from the second send of a day on."""
    if not policy.number_soft:
        return ()
    return (Window("number_soft", 86_400, max(0, policy.number_soft - 1), Level.WORK),)


EVERYBODYS_NUMBER: Final = (Window("number_everywhere_day", 86_400, policies.EVERYWHERE_DAY, Level.REFUSE),)


def of_address(policy: Policy) -> tuple[Window, ...]:
    """Return the windows of an address: of IPv4 itself, of IPv6 its /64."""
    return _of_address(policy.address_5_minutes, policy.address_hour, policy.address_soft_hour)


def of_device(policy: Policy) -> tuple[Window, ...]:
    """Return the windows of a device as the app or the widget names it."""
    return _of_device(policy.device_hour, policy.device_soft_10_minutes)


# There are few policies, and each is asked several times for every code.
@lru_cache(1_000)
def _of_number(minute: int, hour: int, day: int) -> tuple[Window, ...]:
    return (
        Window("number_minute", 60, minute, Level.REFUSE),
        Window("number_hour", 3_600, hour, Level.REFUSE),
        Window("number_day", 86_400, day, Level.REFUSE),
    )


@lru_cache(1_000)
def _of_address(five_minutes: int, hour: int, soft_hour: int) -> tuple[Window, ...]:
    hard = (
        Window("address_5_minutes", 300, five_minutes, Level.REFUSE),
        Window("address_hour", 3_600, hour, Level.REFUSE),
    )
    if not soft_hour:
        return hard
    return (
        *hard,
        Window("address_soft", 3_600, soft_hour, Level.WORK),
        Window("address_soft", 3_600, soft_hour * 4, Level.SLIDER),
    )


@lru_cache(1_000)
def _of_device(hour: int, soft_10_minutes: int) -> tuple[Window, ...]:
    hard = (Window("device_hour", 3_600, hour, Level.REFUSE),)
    return (*hard, Window("device_soft", 600, soft_10_minutes, Level.WORK)) if soft_10_minutes else hard


class Row(msgspec.Struct):
    """What is known of one key."""

    hits: list[int]
    failures: int = 0
    last_id: uuid.UUID | None = None
    proved_at_s: float = 0.0
    changed: bool = False

    def hit(self, now_s: float, most: int = HITS_MAX) -> None:
        """Note one more, and forget what no window looks at."""
        oldest = (now_s * 1_000) - KEEP_MS
        self.hits = [*[at for at in self.hits if at > oldest][-(most - 1) :], int(now_s * 1_000)]
        self.changed = True


class Held:
    """Rows of a batch, as they stand until its commit. What was never heard of is empty, and stored only once it is hit.

    Whoever hits rows of a tenant has locked the tenant's ward before (pumping.Wards), so nobody else hits them meanwhile and
    they need no locks of their own; only what tenants share is locked here. Rows of wrong codes and of proved devices are
    written by checked() alone, and only read here.
    """

    def __init__(self, rows: dict[bytes, Row]) -> None:
        self._rows = rows

    @classmethod
    async def lock(cls, tx: db.Tx, shared: Iterable[bytes], own: Iterable[bytes], now_s: float) -> "Held":
        """Lock what tenants share, in the order of the keys, so that no two wait for each other in a circle; read it all."""
        locked = sorted(set(shared))
        await tx.execute(LOCK_SQL, locked, _day(now_s))
        rows = await tx.fetch(ROWS_SQL, [*{*locked, *own}])
        latest_ms = (now_s + AHEAD_S) * 1_000
        return cls(
            {
                row["key"]: Row(
                    [at_ms for at_ms in row["hits"] if at_ms <= latest_ms],
                    row["failures"],
                    row["last_id"],
                    0.0 if row["proved_at"] is None else row["proved_at"].timestamp(),
                )
                for row in rows
            }
        )

    def __getitem__(self, key: bytes) -> Row:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = Row([])
        return row

    async def store(self, tx: db.Tx, now_s: float) -> None:
        """Write what was hit."""
        changed = [(key, self._rows[key]) for key in sorted(self._rows) if self._rows[key].changed]
        if not changed:
            return
        # An array of arrays must be rectangular: as text each may have its own length.
        written = ["{" + ",".join(map(str, row.hits)) + "}" for _, row in changed]
        await tx.execute(
            STORE_SQL,
            [key for key, _ in changed],
            written,
            [row.last_id for _, row in changed],
            _day(now_s),
        )


# What is there is locked and not changed: an UPDATE whose WHERE is false still takes the row's lock. The next statement
# has a snapshot of its own, and so sees what whoever held the lock before has written.
LOCK_SQL: LiteralString = """
INSERT INTO otp_limit (key, touched_on) SELECT key, $2 FROM unnest($1::bytea[]) AS k(key) ORDER BY key
ON CONFLICT (key) DO UPDATE SET touched_on = otp_limit.touched_on WHERE false
"""
ROWS_SQL: LiteralString = (
    "SELECT key, hits, failures, last_id, proved_at FROM otp_limit WHERE key = ANY($1::bytea[])"
)
STORE_SQL: LiteralString = """
INSERT INTO otp_limit (key, hits, last_id, touched_on)
SELECT key, hits::bigint[], last_id, $4 FROM unnest($1::bytea[], $2::text[], $3::uuid[]) AS n(key, hits, last_id)
ON CONFLICT (key) DO UPDATE
   SET hits = EXCLUDED.hits, last_id = EXCLUDED.last_id, touched_on = EXCLUDED.touched_on
"""


def _day(now_s: float) -> object:
    moment: datetime = clock.moment(now_s)
    return moment.date()


# ─── wrong codes and right ones ──────────────────────────────────────────────────────────────────────────────────────────

CHECKED_SQL: LiteralString = """
INSERT INTO otp_limit AS l (key, hits, failures, proved_at, touched_on)
SELECT key, array_fill($4::bigint, ARRAY[missed]), CASE WHEN proved THEN 0 ELSE missed END,
       CASE WHEN proved THEN $5::timestamptz END, $6
  FROM unnest($1::bytea[], $2::int[], $3::boolean[]) AS n(key, missed, proved) ORDER BY key
ON CONFLICT (key) DO UPDATE
   SET hits = CASE WHEN EXCLUDED.hits = '{}' THEN l.hits
                   ELSE ARRAY(SELECT h FROM unnest(l.hits || EXCLUDED.hits) AS h
                               WHERE h > $4 - $7 ORDER BY h DESC LIMIT $8) END,
       failures = CASE WHEN EXCLUDED.proved_at IS NULL THEN l.failures + EXCLUDED.failures ELSE 0 END,
       proved_at = coalesce(EXCLUDED.proved_at, l.proved_at), touched_on = EXCLUDED.touched_on
"""


async def checked(tx: db.Tx, missed: Mapping[bytes, int], proved: Iterable[bytes], now_s: float) -> None:
    """Count wrong codes of numbers; know the numbers that were proved, and their devices, and count their failures anew.

    A new code never takes a failure back (NIST SP 800-63B-4 §3.2.2); a right one does. Wrong and right ones in one statement,
    in the order of the keys, so that no two doors wait for each other in a circle.
    """
    right = set(proved)
    keys = sorted({*missed, *right})
    if not keys:
        return
    await tx.execute(
        CHECKED_SQL,
        keys,
        [missed.get(key, 0) for key in keys],
        [key in right for key in keys],
        int(now_s * 1_000),
        clock.moment(now_s),
        _day(now_s),
        KEEP_MS,
        FAILURES_KEPT,
    )


def failed_too_often(row: Row, now_s: float) -> Refusal | None:
    """Say what the wrong codes of a number mean for its next one: a wait, or another factor.

    They are `row.hits`, in no order. They never touch a code that was sent before.
    """
    since_ms = (now_s - policies.FAILURES_WITHIN_S) * 1_000
    if sum(at > since_ms for at in row.hits) >= policies.FAILURES_MAX:
        return Refusal(Code.VERIFY_FACTOR_REQUIRED, failures_max=policies.FAILURES_MAX, within_days=30)
    wait_s = policies.failure_wait_s(row.failures)
    left_s = max(row.hits, default=0) / 1_000 + wait_s - now_s
    if wait_s and left_s > 0:
        return Refusal(Code.VERIFY_TOO_MANY_SENDS, retry_after_s=left_s, limit="failures")
    return None


# ─── nothing more ─────────────────────────────────────────────────────────────────────────────────────────

IDLE_S: Final = (
    policies.FAILURES_WITHIN_S + 86_400
)  # longer than anything looks back; a row's day is all that is known
IDLE_SQL: LiteralString = """
DELETE FROM otp_limit WHERE key = ANY(ARRAY(
    SELECT key FROM otp_limit WHERE touched_on < $1 ORDER BY touched_on LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1
"""
FORGET_SQL: LiteralString = """
DELETE FROM otp_limit WHERE key = ANY(ARRAY(
    SELECT key FROM otp_limit WHERE key = ANY($1::bytea[]) ORDER BY key FOR UPDATE))
"""


async def forget_idle(tx: db.Tx, now_s: float, rows_max: int) -> int:
    """Forget who has not asked for so long that no window looks back to it."""
    return len(await tx.fetch(IDLE_SQL, _day(now_s - IDLE_S), rows_max))


async def forget(tx: db.Tx, keys: Iterable[bytes]) -> None:
    """Forget what these keys stand for, as if they had never asked."""
    await tx.execute(FORGET_SQL, sorted(set(keys)))
