"""What time does to verifications: they expire, are counted once they have ended, lose their codes, and are forgotten.

Writes: verification, code_text. Entry points: run(), a loop of the clerk; expire(), count(), take_codes() and forget(), each one
bounded transaction.
Any number of clerks may do it at once: each takes rows that no other has in hand, and what is counted of a verification
(the credit of its prefix, its channel's conversion, the funnel) stands in one commit with the mark that it was counted.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, LiteralString

import structlog

from hongyan import clock, db, leap
from hongyan.otp import conversions, funnel, limits, meter, pumping, wards, withheld
from hongyan.otp.conversions import Outcome
from hongyan.otp.funnel import Passage, Place, Step
from hongyan.otp.pumping import Ended
from hongyan.vault import Vault
from hongyan.vocab.message import Status, first_id_at
from hongyan.vocab.verification import State
from hongyan.way import redact
from hongyan.way.redact import Coded

log = structlog.get_logger()

BATCH_MAX: Final = 500  # verifications, or texts, in one transaction
ROUNDS_MAX: Final = 50  # of one duty in a row; then the others have their turn
GAP_S: Final = (
    0.5  # a code is over within a second of its time in what people look at; a check asks the clock itself
)
FORGET_GAP_S: Final = 600.0
WAIT_S: Final = 60.0
KEEP: Final = timedelta(days=180)
LOOK_S: Final = 5.0  # before a text that is still to leave is looked at again; each time twice as long
LOOK_S_MAX: Final = 320.0
LOOKS_DOUBLED_MAX: Final = 6


Duty = Callable[[db.Tx, Vault, float], Awaitable[int]]  # returns how many rows it took, BATCH_MAX at most


async def run(database: db.Database, vault: Vault) -> None:
    """Do every duty in its turn, until cancelled."""
    forget_at_s = 0.0
    while True:
        if await _any_due(database):
            for duty in OFTEN:  # each leaves something to the next
                await _perform(database, vault, duty)
        if time.monotonic() >= forget_at_s:
            forget_at_s = time.monotonic() + FORGET_GAP_S
            for duty in SELDOM:
                await _perform(database, vault, duty)
        await asyncio.sleep(GAP_S)


# Most of the time there is nothing to do: one look says so, where three transactions would.
ANY_DUE_SQL: LiteralString = """
SELECT 1
 WHERE EXISTS (SELECT FROM verification WHERE state = 0 AND expires_at <= $1)
    OR EXISTS (SELECT FROM verification WHERE ended_at IS NOT NULL AND NOT counted)
    OR EXISTS (SELECT FROM code_text WHERE look_at <= $1)
"""


async def _any_due(database: db.Database) -> bool:
    """Whether any of what is done often has something to do."""
    try:
        async with asyncio.timeout(WAIT_S):
            return bool(await database.fetch(ANY_DUE_SQL, clock.moment(clock.now_s())))
    except db.Unavailable as error:
        log.warning("ripen.database_lost", duty="look", error=type(error).__name__)
    except Exception:
        log.exception("ripen.failed", duty="look")
    return False


async def _perform(database: db.Database, vault: Vault, duty: Duty) -> None:
    """Do one duty until nothing is left. A failure waits for the next turn."""
    name = duty.__name__
    try:
        for _ in range(ROUNDS_MAX):
            if duty is forget and not await leap.believed(database):
                return
            async with asyncio.timeout(WAIT_S), database.transaction() as tx:
                rows = await duty(tx, vault, clock.now_s())
            if rows < BATCH_MAX:
                return
    except db.Unavailable as error:
        log.warning("ripen.database_lost", duty=name, error=type(error).__name__)
    except Exception:
        log.exception("ripen.failed", duty=name)


# ---- they expire

EXPIRE_SQL: LiteralString = """
WITH due AS (
    SELECT tenant_id, id FROM verification
     WHERE state = 0 AND expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE verification v
   SET state = $3, ended_at = v.expires_at, code = NULL, mac = NULL, mac_before = NULL, fallback_at = NULL
  FROM due WHERE v.tenant_id = due.tenant_id AND v.id = due.id
RETURNING 1
"""


async def expire(tx: db.Tx, _vault: Vault, now_s: float) -> int:
    """End what nobody has proved in time, and erase its code."""
    return len(await tx.fetch(EXPIRE_SQL, clock.moment(now_s), BATCH_MAX, State.EXPIRED.number))


# ---- they are counted

ENDED_SQL: LiteralString = """
SELECT tenant_id, id, app_id, scene, state, sandbox, guess_space, tries, sends, unasked, level, country, operator, prefix,
       message_ids, created_at, ended_at
  FROM verification
 WHERE ended_at IS NOT NULL AND NOT counted ORDER BY ended_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""
COUNTED_SQL: LiteralString = """
UPDATE verification v SET counted = true FROM unnest($1::int[], $2::uuid[]) AS u(tenant_id, id)
 WHERE v.tenant_id = u.tenant_id AND v.id = u.id
"""
CODED_SQL: LiteralString = """
INSERT INTO code_text (tenant_id, message_id, look_at)
SELECT tenant_id, id, $3 FROM unnest($1::int[], $2::uuid[]) AS u(tenant_id, id) ORDER BY tenant_id, id
ON CONFLICT DO NOTHING
"""


async def count(tx: db.Tx, _vault: Vault, now_s: float) -> int:
    """Count what has ended, each once, and note the texts that lose their codes now."""
    rows = await tx.fetch(ENDED_SQL, BATCH_MAX)
    coded = [(row["tenant_id"], message_id) for row in rows for message_id in row["message_ids"]]
    if coded:
        await tx.execute(CODED_SQL, *map(list, zip(*coded, strict=True)), clock.moment(now_s))
    if rows:
        await _count(tx, rows, now_s)
        await tx.execute(COUNTED_SQL, [row["tenant_id"] for row in rows], [row["id"] for row in rows])
    return len(rows)


async def _count(tx: db.Tx, rows: Sequence[db.Row], now_s: float) -> None:
    """Count a batch; where a value in it cannot be stored, in halves, so that it is not counted alone and holds up nobody."""
    try:
        async with tx.transaction():
            await _add(tx, rows, now_s)
    except db.Unstorable:
        if len(rows) == 1:
            log.exception("ripen.set_aside", verification=str(rows[0]["id"]))
            return
        middle = len(rows) // 2
        await _count(tx, rows[:middle], now_s)
        await _count(tx, rows[middle:], now_s)


async def _add(tx: db.Tx, rows: Sequence[db.Row], now_s: float) -> None:
    flown = await _flown(tx, rows)
    real = [row for row in rows if not row["sandbox"]]
    await pumping.matured(tx, [_ended(row) for row in real], now_s)
    await conversions.heard(tx, [_outcome(row) for row in real if row["state"] not in NO_OUTCOME], now_s)
    await funnel.add(tx, [_passage(row, flown) for row in rows])


NO_OUTCOME: Final = (
    State.CANCELED.number,
    State.FAILED.number,
)  # nobody was to enter them any more, or ever had them


def _ended(row: db.Row) -> Ended:
    approved = row["state"] == State.APPROVED.number
    return Ended(
        tenant_id=row["tenant_id"],
        country=row["country"],
        prefix=row["prefix"],
        verified=approved,
        wrong_guesses=row["tries"] - approved,  # the right one is none
        guess_space=row["guess_space"],
        app_id=row["app_id"],
        sends=row["sends"] + row["unasked"],
        sent_at_s=row["created_at"].timestamp(),
        challenged=row["level"] > 0,
        failed=row["state"] == State.FAILED.number,
    )


def _outcome(row: db.Row) -> Outcome:
    approved_at_s = row["ended_at"].timestamp() if row["state"] == State.APPROVED.number else 0.0
    return Outcome(row["tenant_id"], row["message_ids"], approved_at_s)


# What became of their messages. Until a report is there, the submission alone knows the channel.
FLOWN_SQL: LiteralString = """
SELECT m.id, m.status, m.accepted_at, m.done_at, coalesce(nullif(m.channel_id, 0), s.channel_id, 0) AS channel_id
  FROM unnest($1::int[], $2::uuid[]) AS w(tenant_id, id)
  JOIN message m ON m.tenant_id = w.tenant_id AND m.id = w.id AND m.id >= $3 AND m.id <= $4
  LEFT JOIN LATERAL (
        SELECT channel_id FROM submitted WHERE message_id = m.id ORDER BY attempt DESC LIMIT 1) s ON true
"""


async def _flown(tx: db.Tx, rows: Sequence[db.Row]) -> Mapping[uuid.UUID, db.Row]:
    sent = [(row["tenant_id"], message_id) for row in rows for message_id in row["message_ids"]]
    if not sent:
        return {}
    tenants, ids = map(list, zip(*sent, strict=True))
    return {row["id"]: row for row in await tx.fetch(FLOWN_SQL, tenants, ids, min(ids), max(ids))}


def _passage(row: db.Row, flown: Mapping[uuid.UUID, db.Row]) -> Passage:
    """Say how far one came. Whoever gave the right code had it, whatever the reports say."""
    asked: datetime = row["created_at"]
    messages = [flown[message_id] for message_id in row["message_ids"] if message_id in flown]
    arrived = [message for message in messages if message["status"] == Status.DELIVERED.number]
    approved = row["state"] == State.APPROVED.number
    steps: dict[Step, float | None] = {Step.REQUESTED: None}
    if row["level"]:
        steps[Step.CHALLENGED] = None
    if messages or approved:
        steps[Step.ACCEPTED] = _after(asked, messages[0]["accepted_at"]) if messages else None
    if arrived or approved:
        steps[Step.DELIVERED] = _after(asked, arrived[0]["done_at"]) if arrived else None
    if row["tries"]:
        steps[Step.CHECKED] = None
    if approved:
        steps |= {Step.CHECKED: None, Step.DONE: _after(asked, row["ended_at"])}
    by = (arrived or messages)[-1]["channel_id"] if messages else 0
    place = Place(
        row["tenant_id"],
        funnel.hour_of(asked),
        row["app_id"],
        row["scene"],
        row["country"],
        row["operator"],
        by,
    )
    return Passage(place, steps)


def _after(asked: datetime, moment: datetime | None) -> float | None:
    return None if moment is None else max(0.0, (moment - asked).total_seconds())


# ---- their texts lose their codes

DUE_SQL: LiteralString = """
SELECT tenant_id, message_id, looks FROM code_text
 WHERE look_at <= $1 ORDER BY look_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""
TAKEN_SQL: LiteralString = """
DELETE FROM code_text c USING unnest($1::int[], $2::uuid[]) AS u(tenant_id, id)
 WHERE c.tenant_id = u.tenant_id AND c.message_id = u.id
"""
LATER_SQL: LiteralString = """
UPDATE code_text c SET look_at = u.look_at, looks = c.looks + 1
  FROM unnest($1::int[], $2::uuid[], $3::timestamptz[]) AS u(tenant_id, id, look_at)
 WHERE c.tenant_id = u.tenant_id AND c.message_id = u.id
"""


async def take_codes(tx: db.Tx, vault: Vault, now_s: float) -> int:
    """Take codes out of texts that need not leave any more; the others are looked at again."""
    rows = await tx.fetch(DUE_SQL, clock.moment(now_s), BATCH_MAX)
    if not rows:
        return 0
    looks = {Coded(row["tenant_id"], row["message_id"]): row["looks"] for row in rows}
    later = set(await redact.redact(tx, vault, list(looks), clock.moment(now_s)))
    taken = [one for one in looks if one not in later]
    await tx.execute(TAKEN_SQL, [one.tenant_id for one in taken], [one.message_id for one in taken])
    await tx.execute(
        LATER_SQL,
        [one.tenant_id for one in later],
        [one.message_id for one in later],
        [clock.moment(now_s + wait_s(looks[one])) for one in later],
    )
    return len(rows)


def wait_s(looks: int) -> float:
    """Return how long after so many looks a text is looked at again."""
    return min(LOOK_S * 2.0 ** min(looks, LOOKS_DOUBLED_MAX), LOOK_S_MAX)


# ---- they are forgotten

# By tenant, because the key begins with it; and by age, because ids begin with their time.
FORGET_SQL: LiteralString = """
WITH old AS (
    SELECT v.tenant_id, v.id FROM tenant t CROSS JOIN LATERAL (
        SELECT tenant_id, id FROM verification WHERE tenant_id = t.id AND id < $1 AND counted ORDER BY id LIMIT $2) v
     LIMIT $2
)
DELETE FROM verification v USING old WHERE v.tenant_id = old.tenant_id AND v.id = old.id RETURNING 1
"""


async def forget(tx: db.Tx, _vault: Vault, now_s: float) -> int:
    """Forget verifications that are so old that nobody asks for them."""
    before = first_id_at((clock.moment(now_s) - KEEP).timestamp())
    return len(await tx.fetch(FORGET_SQL, before, BATCH_MAX))


async def forget_limits(tx: db.Tx, _vault: Vault, now_s: float) -> int:
    """Forget whoever has asked for nothing for longer than any limit looks back."""
    return await limits.forget_idle(tx, now_s, BATCH_MAX)


async def forget_wards(tx: db.Tx, _vault: Vault, now_s: float) -> int:
    """Forget what the pumping guard does not look back at; returns the most that one of its tables had."""
    forgetters = (wards.forget, pumping.forget, meter.forget, withheld.forget)
    return max([await forgetter(tx, now_s, BATCH_MAX) for forgetter in forgetters])


OFTEN: Final[tuple[Duty, ...]] = (expire, count, take_codes)
SELDOM: Final[tuple[Duty, ...]] = (forget, forget_limits, forget_wards)
