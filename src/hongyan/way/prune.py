"""Forget on time, and let nothing stay open: overdue to unknown, dead gateways' rows to the others, old rows away.

Writes: submitted, message, outbox, notice, balance, ledger, tally, tally_touched, early_report, inbound, inbound_part, nonce,
idempotency, frequency, decision, gateway, session_lease, webhook_health, consent, complaint, sign_in, sign_in_attempt, invitation,
challenge_used; and makes and drops the day partitions of message.
Entry points: run(), the clerk's loop; stand_ready(), before a process takes anything; each duty by its name.
Every duty is one bounded transaction that may be cut off and repeated; an advisory lock lets one process at a time
do it. Surprises: a part given up keeps its `submitted` row (state 2) for late_report_keep_s, because a late report
still corrects the message; what it cost is only counted when that time is over. Days are UTC and lie in the id.
Rows of a time to come, written by a clock that was ahead and was set back since, are brought back to the present.
How many days are kept is retention's to say; it also takes texts away before their rows, among the duties of run().
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, LiteralString
from uuid import UUID

import structlog

from hongyan import clock, db, leap
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.message import Status, first_id_at
from hongyan.way import drop, notify, owing, pages, posted, retention, rollup
from hongyan.way.days import Day, day_at, day_on
from hongyan.way.drop import Dropped
from hongyan.way.inbound import REPEAT_S
from hongyan.way.retention import Kept

log = structlog.get_logger()

BATCH_MAX: Final = 1_000  # messages settled in one transaction
ROWS_MAX: Final = 10_000  # rows of small tables deleted in one
ROUNDS_MAX: Final = 20  # transactions of one duty in a row; then the others have their turn
DUTY_WAIT_S: Final = 60.0
RESTS: Final = 20  # times as long as it took to find nothing: some duties read all that waits, page by page
REST_S_MAX: Final = 15.0  # a machine that is slow for a moment must not leave a dead gateway's rows lying
PRUNE_LOCK: Final = 0x7072_756E  # 'prun': first half of the advisory locks, the duty's number is the second
DAYS_AHEAD: Final = 3
EXPIRED_GRACE_S: Final = 60  # gateways settle what expires; this is for when there is none
BACKSTOP_GRACE_S: Final = 86_400
# How old an open message can be, in days: scheduled 30 ahead, valid 3, waited for 3, grace.
BACKSTOP_DAYS: Final = 45
DECISION_GRACE_S: Final = 172_800  # traces in use are touched once a day
GATEWAY_KEEP_S: Final = 86_400
SIGN_IN_KEEP_S: Final = 86_400  # longer than one lasts
ATTEMPT_KEEP_S: Final = 7_200  # longer than anybody waits for the next
INVITATION_KEEP_S: Final = 30 * 86_400  # after it ended
FREQUENCY_PAGES: Final = 200  # of the table, looked at a turn: some 15,000 numbers
FREQUENCY_DAY_S: Final = 86_400  # the longest sliding window
SET_S: Final = 60.0  # a clock that went so far in no time was set, or the machine slept
AHEAD_S: Final = 600  # nobody writes a time so far ahead, unless his clock is
FREQUENCY_EPOCH_S: Final = 1_577_836_800  # 2020: what hits count from
SHARD: Final = 0  # of balances and tallies


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do now and then. `work` returns how many rows it took; a full `batch` means there may be more.

    `forgets`: it takes away what was kept for a day or longer, and waits while the clock may be wrong (leap.py).
    """

    work: Callable[[db.Tx, Settings, datetime], Awaitable[int]]
    gap_s: float
    batch: int
    forgets: bool = False

    @property
    def name(self) -> str:
        return self.work.__name__


async def run(database: db.Database, settings: Settings, vault: Vault | None = None) -> None:
    """Do every duty in its turn, until cancelled; with the vault, take texts away as well."""
    duties = (*DUTIES, *text_duties(vault)) if vault else DUTIES
    due_s = dict.fromkeys(duties, 0.0)
    clocks_apart_s = clock.now_s() - time.monotonic()
    while True:
        if abs(clock.now_s() - time.monotonic() - clocks_apart_s) > SET_S:  # every duty has its turn at once
            clocks_apart_s = clock.now_s() - time.monotonic()
            due_s = dict.fromkeys(duties, 0.0)
        for number, duty in enumerate(duties):
            if time.monotonic() >= due_s[duty]:  # which nobody sets ahead and back again
                took_s = await _perform(database, settings, duty, number)
                due_s[duty] = time.monotonic() + max(duty.gap_s, min(RESTS * took_s, REST_S_MAX))
        await asyncio.sleep(min(duty.gap_s for duty in duties))


async def _perform(database: db.Database, settings: Settings, duty: Duty, number: int) -> float:
    """Do one duty until nothing is left, unless another process is at it. A failure waits for the next turn.

    Returns how many seconds it took to see that nothing is left; 0 where something may be.
    """
    try:
        for _ in range(ROUNDS_MAX):
            if duty.forgets and not await leap.believed(database):
                return 0.0
            begun_s = time.monotonic()
            async with asyncio.timeout(DUTY_WAIT_S), database.transaction() as tx:
                if not await tx.fetchval("SELECT pg_try_advisory_xact_lock($1, $2)", PRUNE_LOCK, number):
                    return 0.0
                rows = await duty.work(tx, settings, clock.now())
            if rows:
                log.info("prune.done", duty=duty.name, rows=rows)
            if rows < duty.batch:
                return time.monotonic() - begun_s
    except db.Unavailable as error:
        log.warning("prune.database_lost", duty=duty.name, error=type(error).__name__)
    except Exception:
        log.exception("prune.failed", duty=duty.name)
    return 0.0


# ---- what became of nothing


# Parts of one message are given up together, once the youngest is overdue, so that it becomes final once.
# A text that was taken whole is one row whatever its parts: where no other row is open, all parts are given up.
OVERDUE_SQL: LiteralString = """
WITH late AS (
    SELECT DISTINCT s.message_id FROM submitted s
     WHERE s.state < 2 AND s.sent_at < $1
       AND NOT EXISTS (SELECT FROM submitted y WHERE y.message_id = s.message_id AND y.state < 2 AND y.sent_at >= $1)
     LIMIT $2
), held AS (
    SELECT s.channel_id, s.upstream_id FROM submitted s JOIN late USING (message_id)
     WHERE s.state < 2 ORDER BY 1, 2 FOR UPDATE OF s SKIP LOCKED
), given_up AS (
    UPDATE submitted s SET state = 2 FROM held h
     WHERE s.channel_id = h.channel_id AND s.upstream_id = h.upstream_id
    RETURNING s.tenant_id, s.message_id, s.channel_id
)
SELECT g.tenant_id, g.message_id, count(*)::smallint AS rows, max(g.channel_id) AS channel_id,
       CASE WHEN count(*) < (SELECT count(*) FROM submitted s WHERE s.message_id = g.message_id AND s.state < 2)
              OR EXISTS (SELECT FROM outbox o WHERE o.tenant_id = g.tenant_id AND o.id = g.message_id)
            THEN count(*) ELSE 32767 END::smallint AS parts
  FROM given_up g GROUP BY g.tenant_id, g.message_id
"""


async def give_up_overdue(tx: db.Tx, settings: Settings, now: datetime) -> int:
    """Give up parts, unsure ones too, that no report came for within report_wait_s: their message is unknown."""
    rows = await tx.fetch(OVERDUE_SQL, now - timedelta(seconds=settings.report_wait_s), BATCH_MAX)
    await _settle_unknown(tx, rows)
    return len(rows)


# Nothing stands behind these any more: no row says that they wait, or that an upstream has them.
BACKSTOP_SQL: LiteralString = """
SELECT m.tenant_id, m.id AS message_id, m.pending AS parts, m.pending AS rows, m.channel_id
  FROM message m
 WHERE m.id >= $1 AND m.id < $2 AND m.status = 0 AND m.expires_at < $3
   AND NOT EXISTS (SELECT FROM outbox o WHERE o.tenant_id = m.tenant_id AND o.id = m.id)
   AND NOT EXISTS (SELECT FROM submitted s WHERE s.message_id = m.id AND s.state < 2)
 LIMIT $4
"""


async def close_forgotten(tx: db.Tx, settings: Settings, now: datetime, *, day: date | None = None) -> int:
    """Close messages that everything else has forgotten, of one day at a time (the hours go through the days)."""
    day = day or (now - timedelta(days=int(now.timestamp() // 3_600) % BACKSTOP_DAYS)).date()
    before = now - timedelta(seconds=settings.report_wait_s + BACKSTOP_GRACE_S)
    ids = day_on(day)
    rows = await tx.fetch(BACKSTOP_SQL, ids.first, ids.following, before, BATCH_MAX)
    if rows:
        log.error("prune.forgotten_messages", messages=len(rows), day=day.isoformat())
    await _settle_unknown(tx, rows)
    return len(rows)


# The rows are locked first, so that the fold sees what a tick may have committed meanwhile. Who pays on delivery gets
# the price back. An unknown message's cost is counted by FORGET_SQL, or with the correction.
UNKNOWN_SQL: LiteralString = """
WITH lost AS (
    SELECT * FROM unnest($1::int[], $2::uuid[], $3::smallint[], $4::int[], $7::smallint[])
        AS l(tenant_id, id, parts, channel_id, rows)
), held AS MATERIALIZED (
    SELECT m.tenant_id, m.id, least(l.parts, m.pending) AS parts, least(l.rows, m.pending) AS rows, l.channel_id,
           m.price_micro - m.refund_micro AS paid_micro,
           t.charge_on = 'delivery' AS on_delivery,
           (CASE WHEN m.pending > l.parts THEN 0 WHEN m.worst >= 3 THEN m.worst
                 WHEN m.lost + least(l.parts, m.pending) > 0 OR m.worst = 2 THEN 2 ELSE 1 END)::smallint AS final
      FROM lost l
      JOIN message m ON m.tenant_id = l.tenant_id AND m.id = l.id
      JOIN tenant t ON t.id = m.tenant_id
     WHERE m.status = 0 ORDER BY m.id FOR UPDATE OF m
), moved AS (
    UPDATE message m
       SET pending = m.pending - h.parts, lost = m.lost + h.rows, status = h.final,
           cause = CASE WHEN h.final = 2 THEN $5 ELSE m.cause END,
           channel_id = CASE WHEN h.channel_id > 0 THEN h.channel_id ELSE m.channel_id END,
           refund_micro = m.refund_micro + CASE WHEN h.final > 1 AND h.on_delivery THEN h.paid_micro ELSE 0 END,
           done_at = now()
      FROM held h WHERE m.tenant_id = h.tenant_id AND m.id = h.id
    RETURNING m.tenant_id, m.id, m.app_id, m.status, m.cause, m.code, m.purpose, m.template_id, m.channel_id, m.country,
              m.operator, m.province, m.part_count, m.price_micro, m.refund_micro, m.cost_micro, m.accepted_at,
              CASE WHEN h.final > 1 AND h.on_delivery THEN h.paid_micro ELSE 0 END AS refunded
), owed AS (
    INSERT INTO notice (tenant_id, app_id, kind, message_id, status, cause, code, at)
    SELECT tenant_id, app_id, 1, id, status, cause, code, now() FROM moved WHERE status > 0
), refunded AS (
    SELECT tenant_id, sum(refunded)::bigint AS micro, count(*)::int AS messages
      FROM moved WHERE refunded > 0 GROUP BY tenant_id
), returned AS (
    INSERT INTO balance AS b (tenant_id, shard, amount_micro)
    SELECT tenant_id, $6, micro FROM refunded ORDER BY tenant_id
    ON CONFLICT (tenant_id, shard) DO UPDATE SET amount_micro = b.amount_micro + EXCLUDED.amount_micro
), booked AS (
    INSERT INTO ledger (tenant_id, kind, amount_micro, message_count, note)
    SELECT tenant_id, 'refund', micro, messages, 'no report' FROM refunded
), tallied AS (
    INSERT INTO tally AS t (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province,
                            latency, shard, messages, parts, price_micro, cost_micro)
    SELECT date_trunc('hour', accepted_at), tenant_id, status, cause, purpose, template_id, channel_id, country, operator,
           province, 0, $6, count(*), sum(part_count), sum(price_micro - refund_micro),
           sum(CASE WHEN status = 2 THEN 0 ELSE cost_micro END)
      FROM moved WHERE status > 0 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    ON CONFLICT (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency, shard)
    DO UPDATE SET messages = t.messages + EXCLUDED.messages, parts = t.parts + EXCLUDED.parts,
                  price_micro = t.price_micro + EXCLUDED.price_micro, cost_micro = t.cost_micro + EXCLUDED.cost_micro
)
INSERT INTO tally_touched (hour, shard)
SELECT DISTINCT date_trunc('hour', accepted_at), $6::int FROM moved
 WHERE status > 0 AND accepted_at < date_trunc('hour', now()) ORDER BY 1
ON CONFLICT (hour, shard) DO UPDATE SET at = clock_timestamp()
"""


async def _settle_unknown(tx: db.Tx, rows: Sequence[db.Row]) -> None:
    if rows:
        await tx.execute(
            UNKNOWN_SQL,
            [row["tenant_id"] for row in rows],
            [row["message_id"] for row in rows],
            [row["parts"] for row in rows],
            [row["channel_id"] for row in rows],
            Cause.NO_REPORT.number,
            SHARD,
            [row["rows"] for row in rows],
        )


# Now it is certain that no report will come: the attempt joins the others, and what it cost is counted.
FORGET_SQL: LiteralString = """
WITH old AS (
    SELECT channel_id, upstream_id FROM submitted
     WHERE state = 2 AND sent_at < $1 ORDER BY 1, 2 LIMIT $2 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM submitted s USING old o WHERE s.channel_id = o.channel_id AND s.upstream_id = o.upstream_id
    RETURNING s.*
), part AS (
    SELECT tenant_id, message_id, sum(cost_micro)::bigint AS cost_micro,
           jsonb_agg(jsonb_build_array(
               attempt, part_index, channel_id, coalesce(upstream_raw, upstream_id),
               (date_part('epoch', sent_at) * 1000)::bigint, (date_part('epoch', acked_at) * 1000)::bigint, NULL,
               2, $3::smallint, '', decision)) AS attempts
      FROM gone GROUP BY tenant_id, message_id
), moved AS (
    UPDATE message m SET attempts = coalesce(m.attempts, '[]') || p.attempts, cost_micro = m.cost_micro + p.cost_micro
      FROM part p WHERE m.tenant_id = p.tenant_id AND m.id = p.message_id
    RETURNING m.*, CASE WHEN m.status = 2 THEN m.cost_micro ELSE p.cost_micro END AS counted_micro
), tallied AS (
    INSERT INTO tally AS t (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator,
                            province, latency, shard, messages, parts, price_micro, cost_micro)
    SELECT date_trunc('hour', accepted_at), tenant_id, status, cause, purpose, template_id, channel_id, country, operator,
           province, 0, $4, 0, 0, 0, sum(counted_micro)
      FROM moved WHERE status > 0 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    ON CONFLICT (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency,
                 shard)
    DO UPDATE SET cost_micro = t.cost_micro + EXCLUDED.cost_micro
), touched AS (
    INSERT INTO tally_touched (hour, shard)
    SELECT DISTINCT date_trunc('hour', accepted_at), $4::int FROM moved
     WHERE status > 0 AND accepted_at < date_trunc('hour', now()) ORDER BY 1
    ON CONFLICT (hour, shard) DO UPDATE SET at = clock_timestamp()
)
SELECT count(*) FROM gone
"""


async def forget_given_up(tx: db.Tx, settings: Settings, now: datetime) -> int:
    """Forget parts given up so long ago that no report will correct them any more."""
    before = now - timedelta(seconds=settings.report_wait_s + settings.late_report_keep_s)
    return int(await tx.fetchval(FORGET_SQL, before, BATCH_MAX, Cause.NO_REPORT.number, SHARD))


# A second attempt that nobody could make ends as the first did; its row knows how. What was committed as leaving is
# left to the next gateway, which knows that rule. A version that did not know outbox.expires_at may have queued some:
# these are over when nothing can be valid any more.
EXPIRED_SQL: LiteralString = """
WITH late AS (
    SELECT tenant_id, id, attempt FROM outbox
     WHERE ctid >= $4 AND ctid < $5 AND owner = 0 AND leaving_at IS NULL
       AND coalesce(expires_at, due_at + make_interval(secs => $3::float8)) < $2
     ORDER BY tenant_id, id LIMIT $1 FOR UPDATE SKIP LOCKED
)
SELECT o.tenant_id, o.id, o.attempt, m.cause, m.code,
       m.pending - (SELECT count(*) FROM submitted s WHERE s.message_id = o.id AND s.state < 2)::int AS parts
  FROM late o
 CROSS JOIN LATERAL (SELECT pending, cause, code FROM message WHERE tenant_id = o.tenant_id AND id = o.id LIMIT 1) m
"""


async def expire_waiting(tx: db.Tx, settings: Settings, now: datetime) -> int:
    """End messages whose validity passed while they waited and no gateway was there to say so; refunded."""
    before = now - timedelta(seconds=EXPIRED_GRACE_S)
    found = 0
    async for step in pages.steps(tx.fetch, "outbox"):
        rows = await tx.fetch(EXPIRED_SQL, BATCH_MAX - found, before, float(settings.validity_s_max), *step)
        if rows:
            await drop.settle(tx, [_expired(row) for row in rows], SHARD, [])
        found += len(rows)
        if found == BATCH_MAX:
            break
    return found


def _expired(row: db.Row) -> Dropped:
    if row["attempt"] > 1:
        cause = CAUSES[row["cause"]]
        return Dropped(
            row["tenant_id"], row["id"].bytes, row["parts"], Status.UNDELIVERED, cause, row["code"], left=True
        )
    return Dropped(row["tenant_id"], row["id"].bytes, row["parts"], Status.EXPIRED, Cause.NOT_SENT, "")


# What is held is in no gateway's hands, so there is nobody else to say so.
HELD_TOO_LONG_SQL: LiteralString = """
SELECT o.tenant_id, o.id, o.attempt, m.part_count AS parts
  FROM outbox o JOIN message m ON m.tenant_id = o.tenant_id AND m.id = o.id
 WHERE o.owner < 0 AND m.expires_at <= $1
 ORDER BY o.id LIMIT $2 FOR UPDATE OF o SKIP LOCKED
"""


async def expire_held(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    """End messages whose validity passed before a person decided about them; refunded."""
    rows = await tx.fetch(HELD_TOO_LONG_SQL, now, BATCH_MAX)
    if rows:
        await drop.settle(tx, [_expired(row) for row in rows], SHARD, [])
    return len(rows)


# ---- gateways that are silent


# Not ordered: who skips what is locked waits for nobody, and for an order PostgreSQL 15 would read all of the queue's index.
RELEASE_SQL: LiteralString = """
WITH alive AS (
    SELECT id FROM gateway WHERE seen_at >= $2
), left_behind AS (
    SELECT ctid AS place FROM outbox
     WHERE ctid >= $3 AND ctid < $4 AND owner > 0 AND due_at < $2 AND NOT owner IN (SELECT id FROM alive)
     LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE outbox SET owner = 0 WHERE ctid = ANY(ARRAY(SELECT place FROM left_behind))
RETURNING 1
"""


async def release_left_behind(tx: db.Tx, settings: Settings, now: datetime) -> int:
    """Give the rows of gateways silent for gateway_dead_s to whoever claims them."""
    silent_since = now - timedelta(seconds=settings.gateway_dead_s)
    found = 0
    async for step in pages.steps(tx.fetch, "outbox"):
        found += len(await tx.fetch(RELEASE_SQL, ROWS_MAX - found, silent_since, *step))
        if found == ROWS_MAX:
            break
    return found


# ---- rows whose time is over


async def delete_early_reports(tx: db.Tx, settings: Settings, now: datetime) -> int:
    """Forget reports whose ack never came."""
    return await _delete(tx, EARLY_SQL, now - timedelta(seconds=settings.early_report_keep_s))


async def delete_nonces(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    return await _delete(tx, NONCE_SQL, now)


async def delete_idempotency(tx: db.Tx, settings: Settings, now: datetime) -> int:
    return await _delete(tx, IDEMPOTENCY_SQL, now - timedelta(seconds=settings.idempotency_keep_s))


async def delete_inbound_marks(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    """Forget which inbound texts came a moment ago."""
    return await _delete(tx, MARK_SQL, now - timedelta(seconds=2 * REPEAT_S))


async def delete_decisions(tx: db.Tx, settings: Settings, now: datetime) -> int:
    """Forget traces that no kept message can name any more."""
    days = (await retention.keep_days(tx, settings)).of(Kept.MESSAGES)
    kept = timedelta(days=days, seconds=DECISION_GRACE_S)
    return await _delete(tx, DECISION_SQL, now - kept)


async def roll_up(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    """Sum up the hours that are over, for statistics."""
    return await rollup.roll(tx, now)


async def delete_gateways(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    return await _delete(tx, GATEWAY_SQL, now - timedelta(seconds=GATEWAY_KEEP_S))


async def delete_sign_ins(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    return await _delete(tx, SIGN_IN_SQL, now - timedelta(seconds=SIGN_IN_KEEP_S))


async def delete_attempts(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    """Forget who tried to sign in, and how often."""
    return await _delete(tx, ATTEMPT_SQL, now - timedelta(seconds=ATTEMPT_KEEP_S))


async def delete_invitations(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    return await _delete(tx, INVITATION_SQL, now - timedelta(seconds=INVITATION_KEEP_S))


async def delete_challenges(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    """Forget answers to challenges that would be refused by now for their age."""
    return await _delete(tx, CHALLENGE_SQL, now)


# By place, because most of these tables have no index on their time and none is worth its writes.
EARLY_SQL: LiteralString = """
DELETE FROM early_report WHERE ctid = ANY(ARRAY(SELECT ctid FROM early_report WHERE came_at < $1 LIMIT $2)) RETURNING 1
"""
CHALLENGE_SQL: LiteralString = """
DELETE FROM challenge_used WHERE ctid = ANY(ARRAY(SELECT ctid FROM challenge_used WHERE until < $1 LIMIT $2)) RETURNING 1
"""
NONCE_SQL: LiteralString = """
DELETE FROM nonce WHERE ctid = ANY(ARRAY(SELECT ctid FROM nonce WHERE until < $1 LIMIT $2)) RETURNING 1
"""
IDEMPOTENCY_SQL: LiteralString = """
DELETE FROM idempotency
 WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency WHERE created_at < $1 LIMIT $2)) RETURNING 1
"""
MARK_SQL: LiteralString = """
DELETE FROM inbound_part
 WHERE ctid = ANY(ARRAY(SELECT ctid FROM inbound_part WHERE part_index = 0 AND came_at < $1 LIMIT $2)) RETURNING 1
"""
DECISION_SQL: LiteralString = """
DELETE FROM decision WHERE ctid = ANY(ARRAY(SELECT ctid FROM decision WHERE made_at < $1 LIMIT $2)) RETURNING 1
"""
GATEWAY_SQL: LiteralString = """
DELETE FROM gateway WHERE ctid = ANY(ARRAY(SELECT ctid FROM gateway WHERE seen_at < $1 LIMIT $2)) RETURNING 1
"""
SIGN_IN_SQL: LiteralString = """
DELETE FROM sign_in
 WHERE id = ANY(ARRAY(SELECT id FROM sign_in WHERE created_at < $1 ORDER BY created_at LIMIT $2)) RETURNING 1
"""
# Who tries again just now has the row; it is young then.
ATTEMPT_SQL: LiteralString = """
DELETE FROM sign_in_attempt WHERE key = ANY(ARRAY(
    SELECT key FROM sign_in_attempt WHERE last_at < $1 ORDER BY last_at LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1
"""
INVITATION_SQL: LiteralString = """
DELETE FROM invitation WHERE ctid = ANY(ARRAY(SELECT ctid FROM invitation WHERE expires_at < $1 LIMIT $2)) RETURNING 1
"""


async def _delete(tx: db.Tx, sql: LiteralString, before: datetime | UUID) -> int:
    return len(await tx.fetch(sql, before, ROWS_MAX))


# It has a row for every number written to. What is of a time to come was written by a clock that was set back since.
FREQUENCY_SQL: LiteralString = """
DELETE FROM frequency
 WHERE ctid >= $1 AND ctid < $2 AND NOT hits[array_upper(hits, 1)] >> 32 BETWEEN $3 AND $4 RETURNING 1
"""


async def delete_frequencies(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    """Forget numbers that nobody wrote to for a day, on some pages of the table."""
    now_s = int(now.timestamp()) - FREQUENCY_EPOCH_S
    slice_ = await pages.some_pages(tx.fetch, "frequency", FREQUENCY_PAGES)
    return len(await tx.fetch(FREQUENCY_SQL, *slice_, now_s - FREQUENCY_DAY_S, now_s + AHEAD_S))


async def give_up_notices(tx: db.Tx, settings: Settings, _now: datetime) -> int:
    """Forget notices nobody took within notice_give_up_s."""
    return await owing.give_up(tx, settings)


async def forget_posted(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    """Forget what was posted to webhooks a week ago, and more of an app than is kept."""
    return await posted.forget(tx, now)


# ---- what a clock wrote that was ahead, and was set back since

# Nobody leases or waits for as long as $1, and no endpoint rests for longer than $2: else they would until the time comes again.
AHEAD_SQL: LiteralString = """
WITH gateways AS (
    UPDATE gateway SET seen_at = now() WHERE seen_at > now() + $1 RETURNING 1
), sessions AS (
    UPDATE session_lease SET until = now() WHERE until > now() + $1 RETURNING 1
), endpoints AS (
    UPDATE webhook_health SET paused_until = now() WHERE paused_until > now() + $2 RETURNING 1
), attempts AS (
    DELETE FROM sign_in_attempt WHERE last_at > now() + $1 RETURNING 1
)
SELECT (SELECT count(*) FROM gateways) + (SELECT count(*) FROM sessions) + (SELECT count(*) FROM endpoints)
     + (SELECT count(*) FROM attempts)
"""
# What was accepted then and is to leave at once is due in a time to come; its id says so. What its sender has put off is
# due when he said. A message that waited while the clock was ahead may be due after all that can be said.
QUEUED_AHEAD_SQL: LiteralString = """
WITH ahead AS MATERIALIZED (
    SELECT x.tenant_id, x.id FROM tenant t CROSS JOIN LATERAL (
        SELECT tenant_id, id FROM outbox WHERE tenant_id = t.id AND id >= $1 ORDER BY id LIMIT $2) x
     UNION
    SELECT x.tenant_id, x.id FROM tenant t CROSS JOIN generate_series(0, 2) AS lane CROSS JOIN LATERAL (
        SELECT tenant_id, id FROM outbox
         WHERE owner = 0 AND tenant_id = t.id AND outbox.lane = lane.lane AND due_at > $3 AND due_at < 'infinity'
         ORDER BY due_at LIMIT $2) x
), found AS MATERIALIZED (
    SELECT m.tenant_id, m.id, m.expires_at - m.due_at AS validity
      FROM ahead a CROSS JOIN LATERAL (
        SELECT tenant_id, id, due_at, accepted_at, expires_at FROM message WHERE tenant_id = a.tenant_id AND id = a.id LIMIT 1) m
     WHERE m.due_at = m.accepted_at
)
UPDATE outbox o SET due_at = now(), expires_at = least(o.expires_at, now() + f.validity)
  FROM found f
 WHERE o.tenant_id = f.tenant_id AND o.id = f.id AND o.due_at > now() AND o.due_at < 'infinity'
RETURNING 1
"""


async def bring_back(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    """Let nothing wait for a time that a clock was ahead by."""
    await tx.execute("SET LOCAL lock_timeout = '2s'")
    ahead = timedelta(seconds=AHEAD_S)
    brought: int = await tx.fetchval(AHEAD_SQL, ahead, ahead + timedelta(seconds=notify.GONE_PAUSE_S))
    first, beyond = first_id_at((now + ahead).timestamp()), now + timedelta(days=BACKSTOP_DAYS)
    return brought + len(await tx.fetch(QUEUED_AHEAD_SQL, first, BATCH_MAX, beyond))


# ---- days


async def ensure_partitions(tx: db.Tx, now: datetime) -> int:
    """Make the day partitions of message from today to DAYS_AHEAD; returns how many were missing.

    A day of which rows already lie in the default partition stays there. The lock on message is short and
    waited for briefly: rather no partition than a queue of inserts behind us.
    """
    await tx.execute("SELECT pg_advisory_xact_lock($1, $2)", PRUNE_LOCK, -1)
    await tx.execute("SET LOCAL lock_timeout = '2s'")
    made = 0
    for ahead in range(DAYS_AHEAD + 1):
        made += await _make_partition(tx, day_at((now + timedelta(days=ahead)).timestamp()))
    return made


# LIKE and ATTACH, because CREATE … PARTITION OF would lock out everybody who writes to message.
PARTITION_SQL: LiteralString = """
CREATE TABLE {name} (LIKE message INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)
  WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1,
        autovacuum_analyze_scale_factor = 0.5)
"""
ATTACH_SQL: LiteralString = (
    "ALTER TABLE message ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{next}')"
)


async def _make_partition(tx: db.Tx, day: Day) -> int:
    if await tx.fetchval("SELECT to_regclass($1) IS NOT NULL", day.table):
        return 0
    if await tx.fetchval(
        "SELECT EXISTS (SELECT FROM message_rest WHERE id >= $1 AND id < $2)", day.first, day.following
    ):
        return 0
    await tx.execute(PARTITION_SQL.format(name=day.table))
    await tx.execute(ATTACH_SQL.format(name=day.table, first=day.first, next=day.following))
    return 1


async def stand_ready(database: db.Database) -> None:
    """Make the partitions before anything is taken: a day of which one row lies elsewhere never gets its own."""
    try:
        async with database.transaction() as tx:
            await ensure_partitions(tx, clock.now())
    except db.LockTimeout:
        log.warning("prune.days_not_made")


async def make_partitions(tx: db.Tx, _settings: Settings, now: datetime) -> int:
    return await ensure_partitions(tx, now)


PARTITIONS_SQL: LiteralString = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'message'::regclass AND c.relname ~ '^message_[0-9]{8}$' ORDER BY 1
"""
REST_SQL: LiteralString = """
DELETE FROM message_rest WHERE ctid = ANY(ARRAY(SELECT ctid FROM message_rest WHERE id < $1 LIMIT $2)) RETURNING 1
"""
INBOUND_SQL: LiteralString = """
DELETE FROM inbound WHERE id IN (SELECT id FROM inbound WHERE id < $1 ORDER BY id LIMIT $2) RETURNING 1
"""


async def drop_old_days(tx: db.Tx, settings: Settings, now: datetime) -> int:
    """Drop what is older than messages are kept: messages by whole days, inbound texts by rows."""
    days = (await retention.keep_days(tx, settings)).of(Kept.MESSAGES)
    last = day_at((now - timedelta(days=days)).timestamp())
    await tx.execute("SET LOCAL lock_timeout = '2s'")
    old = [row["relname"] for row in await tx.fetch(PARTITIONS_SQL) if row["relname"] < last.table]
    for name in old:
        await tx.execute(f"DROP TABLE {name}")
        log.info("prune.day_dropped", partition=name)
    return max(await _delete(tx, REST_SQL, last.first), await _delete(tx, INBOUND_SQL, last.first))


# ---- proofs


# A consent is kept from its end on, which is the first withdrawal after it; an older one may have a younger word. The
# withdrawal of one thing stays as long as there is an older consent to everything, which would count again without it.
CONSENTS_SQL: LiteralString = """
WITH ended AS (
    SELECT id, tenant_id, phone_index, scope, at FROM consent w
     WHERE NOT given AND at < $1
       AND (scope = '*' OR NOT EXISTS (
            SELECT FROM consent c WHERE c.tenant_id = w.tenant_id AND c.phone_index = w.phone_index
               AND c.scope = '*' AND c.given AND (c.at, c.id) < (w.at, w.id)))
     ORDER BY at LIMIT $2
), gone AS (
    DELETE FROM consent c USING ended e
     WHERE c.tenant_id = e.tenant_id AND c.phone_index = e.phone_index AND (c.at, c.id) <= (e.at, e.id)
       AND (c.scope = e.scope OR e.scope = '*')
    RETURNING c.id
)
SELECT count(*) FROM ended
"""


async def delete_consents(tx: db.Tx, settings: Settings, now: datetime) -> int:
    """Forget consents whose withdrawal is so old that nobody can ask for proof any more, and the withdrawal."""
    before = now - timedelta(days=(await retention.keep_days(tx, settings)).of(Kept.CONSENTS))
    return int(await tx.fetchval(CONSENTS_SQL, before, BATCH_MAX))


COMPLAINTS_SQL: LiteralString = """
DELETE FROM complaint
 WHERE id = ANY(ARRAY(SELECT id FROM complaint WHERE closed_at < $1 ORDER BY closed_at LIMIT $2)) RETURNING 1
"""


async def delete_complaints(tx: db.Tx, settings: Settings, now: datetime) -> int:
    """Forget complaints closed long ago; open ones stay."""
    days = (await retention.keep_days(tx, settings)).of(Kept.COMPLAINTS)
    return await _delete(tx, COMPLAINTS_SQL, now - timedelta(days=days))


def text_duties(vault: Vault) -> Sequence[Duty]:
    """Return the duties that have to open what is sealed."""

    async def fade_texts(tx: db.Tx, settings: Settings, now: datetime) -> int:
        return await retention.fade(tx, vault, settings, now)

    return (Duty(fade_texts, 60, retention.SLICE_MAX, forgets=True),)


DUTIES: Final = (
    Duty(make_partitions, 3_600, ROWS_MAX),
    Duty(bring_back, 60, BATCH_MAX),
    Duty(release_left_behind, 5, ROWS_MAX),
    Duty(expire_waiting, 30, BATCH_MAX),
    Duty(expire_held, 30, BATCH_MAX),
    Duty(give_up_overdue, 60, BATCH_MAX),
    Duty(forget_given_up, 600, BATCH_MAX, forgets=True),
    Duty(close_forgotten, 3_600, BATCH_MAX),
    Duty(give_up_notices, 60, owing.GIVE_UP_MAX, forgets=True),
    Duty(forget_posted, 60, posted.FORGET_MAX, forgets=True),
    Duty(roll_up, 60, rollup.HOURS_MAX),
    Duty(delete_early_reports, 60, ROWS_MAX),
    Duty(delete_nonces, 60, ROWS_MAX),
    Duty(delete_idempotency, 60, ROWS_MAX, forgets=True),
    Duty(delete_inbound_marks, 60, ROWS_MAX),
    Duty(delete_frequencies, 60, ROWS_MAX),
    Duty(delete_decisions, 3_600, ROWS_MAX, forgets=True),
    Duty(delete_gateways, 3_600, ROWS_MAX),
    Duty(drop_old_days, 3_600, ROWS_MAX, forgets=True),
    Duty(delete_consents, 3_600, BATCH_MAX, forgets=True),
    Duty(delete_complaints, 3_600, ROWS_MAX, forgets=True),
    Duty(delete_sign_ins, 600, ROWS_MAX),
    Duty(delete_attempts, 60, ROWS_MAX),
    Duty(delete_invitations, 3_600, ROWS_MAX, forgets=True),
    Duty(delete_challenges, 60, ROWS_MAX),
)
