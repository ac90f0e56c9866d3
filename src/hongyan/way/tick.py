"""The statements of a tick: acks stored, reports settled and folded into their messages, notices owed and forgotten.

Writes: submitted, outbox, message, notice, balance, ledger, tally, tally_touched. Entry points: store() for acks and what
nearly every report is, fold() for the other reports; what to give them and when, the ticker in report.py decides. They are
two because a statement costs by how much could happen in it, and nearly always only the first is needed.
Both ask one day of messages only (days.py): store() that of most messages on their way, fold() the one that find() tells.
Surprises: the parts of one statement see the same snapshot, so a report must not come with its own ack, nor two acks or
two reports under one id. A statement whose commit was lost may run twice; every part of it finds nothing the second time.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, LiteralString

import msgspec

from hongyan import db
from hongyan.channels.channel import Report
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.message import STATUS_BY_NUMBER, ChannelId, Status
from hongyan.way.days import Day, Days, day_of
from hongyan.way.measure import LATENCY_BUCKETS_MS
from hongyan.way.notice import STATUS, Owed
from hongyan.way.snapshot import Snapshot

NOTICE: Final = 0  # `what` a row of fold() says: a message's status has changed, and a notice is owed
STRAY: Final = 1  # a report matches nothing
AGAIN: Final = 2  # a message was put back for another channel


class Acked(msgspec.Struct, frozen=True, gc=False):
    """A part an upstream has taken."""

    channel_id: ChannelId
    upstream_id: str
    upstream_raw: str | None
    tenant_id: int
    message_id: bytes
    part_index: int
    attempt: int
    sent_ms: int
    cost_micro: int
    decision: int
    slot: Any


class Gone(msgspec.Struct, frozen=True, gc=False):
    """A message whose every part has been answered."""

    tenant_id: int
    message_id: bytes


class Heard(msgspec.Struct, frozen=True, gc=False):
    """A report with the channel it came from and which form of its id is being tried."""

    channel_id: ChannelId
    report: Report
    upstream_id: str  # the form that is being tried
    form: int = 0  # its number: 0 is the report's own, then come its candidates
    parked_as: str = ""  # it stands in early_report under this id, until it has settled something


# Attempts are appended as [attempt, part, channel, upstream id, sent, acked, reported (ms), status, cause, code, decision].
# `submitted` is not written on the message: it follows from the queue tables, which saves a write of the widest row.
# A notice's id is drawn before its row is written: a join of the row with its message would need another look at all.
# Queue tables are found by arrays or one look-up a row (OFFSET 0), never by a join that the planner may turn round: their
# statistics are those of the moment when they were last vacuumed, empty as likely as not, and a plan made then, which
# reads all of the table, would be kept while a million rows come.
# Here a message goes from its row to its part and not the other way round: what it no longer is (it was given up, or
# another gateway settled it) is found when its row is locked, and then its part stays, for FOLD_SQL.
# Times go through float8, which is exact to the millisecond for thousands of years; through numeric they cost twice as much.
# Who asks has the report of a settled message in hand, so its row names the report's place and not what the report says.
TICK_SQL: LiteralString = """
WITH ack AS (
    INSERT INTO submitted (channel_id, upstream_id, tenant_id, message_id, part_index, attempt, sent_at, acked_at,
                           cost_micro, decision, upstream_raw)
    SELECT a.channel_id, a.upstream_id, a.tenant_id, a.message_id, a.part_index, a.attempt,
           to_timestamp(a.sent_ms::float8 / 1000), now(), a.cost_micro, a.decision, a.upstream_raw
      FROM unnest($1::ack_row[]) AS a
    ON CONFLICT (channel_id, upstream_id) DO UPDATE
       SET tenant_id = EXCLUDED.tenant_id, message_id = EXCLUDED.message_id, part_index = EXCLUDED.part_index,
           attempt = EXCLUDED.attempt, state = 0, sent_at = EXCLUDED.sent_at, acked_at = EXCLUDED.acked_at,
           cost_micro = EXCLUDED.cost_micro, decision = EXCLUDED.decision, upstream_raw = EXCLUDED.upstream_raw
), gone AS (
    DELETE FROM outbox WHERE tenant_id = ANY($2::int[]) AND id = ANY($3::uuid[])
), paid AS (
    DELETE FROM notice WHERE id = ANY($5::bigint[])
), plain AS (
    UPDATE message m
       SET pending = 0, worst = 1, status = 1, cause = r.cause, code = r.code, cost_micro = m.cost_micro + s.cost_micro,
           channel_id = s.channel_id, done_at = now(),
           attempts = jsonb_build_array(jsonb_build_array(
               s.attempt, s.part_index, s.channel_id, coalesce(s.upstream_raw, s.upstream_id),
               (date_part('epoch', s.sent_at) * 1000)::bigint, (date_part('epoch', s.acked_at) * 1000)::bigint, r.at_ms,
               r.status, r.cause, r.code, s.decision))
      FROM unnest($4::report_row[]) WITH ORDINALITY AS r (channel_id, upstream_id, status, cause, code, at_ms, elsewhere,
                                                          for_all, place)
     CROSS JOIN LATERAL (SELECT * FROM submitted x
                          WHERE x.channel_id = r.channel_id AND x.upstream_id = r.upstream_id OFFSET 0) s
     WHERE r.status = 1 AND s.state < 2 AND s.attempt = 1 AND m.tenant_id = s.tenant_id AND m.id = s.message_id
       AND m.part_count = 1 AND m.status = 0 AND m.attempt = 1
    RETURNING r.place, nextval('notice_id_seq') AS notice_id, s.upstream_id, r.at_ms, m.tenant_id, m.id, m.app_id, m.cause,
              m.code, m.purpose, m.template_id, m.channel_id, m.country, m.operator, m.province, m.reference, m.sealed,
              m.price_micro - m.refund_micro AS price_micro, m.cost_micro, m.accepted_at,
              greatest(0, date_part('epoch', now() - greatest(m.accepted_at, m.due_at)) * 1000)::bigint AS latency_ms
), settled AS (
    DELETE FROM submitted
     WHERE channel_id = ANY(ARRAY(SELECT channel_id FROM plain)) AND upstream_id = ANY(ARRAY(SELECT upstream_id FROM plain))
       AND (false OR (channel_id, upstream_id) IN (SELECT channel_id, upstream_id FROM plain)) -- hashed, see acceptance.py
), owed AS (
    INSERT INTO notice (id, tenant_id, app_id, kind, message_id, status, cause, code, at, lease_until)
    OVERRIDING SYSTEM VALUE
    SELECT notice_id, tenant_id, app_id, 1, id, 1, cause, code, to_timestamp(at_ms::float8 / 1000),
           CASE WHEN app_id = ANY($7::int[]) THEN now() + interval '30 seconds' END
      FROM plain
), tallied AS (
    INSERT INTO tally AS t (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province,
                       latency, shard, messages, parts, price_micro, cost_micro)
    SELECT date_trunc('hour', accepted_at), tenant_id, 1, cause, purpose, template_id, channel_id, country, operator,
           province, width_bucket(latency_ms, $8::bigint[]), $6, count(*), count(*), sum(price_micro), sum(cost_micro)
      FROM plain GROUP BY 1, 2, 4, 5, 6, 7, 8, 9, 10, 11
    ON CONFLICT (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency, shard)
    DO UPDATE SET messages = t.messages + EXCLUDED.messages, parts = t.parts + EXCLUDED.parts,
                  price_micro = t.price_micro + EXCLUDED.price_micro, cost_micro = t.cost_micro + EXCLUDED.cost_micro
), touched AS (
    INSERT INTO tally_touched (hour, shard)
    SELECT DISTINCT date_trunc('hour', accepted_at), $6::int FROM plain
     WHERE accepted_at < date_trunc('hour', now()) ORDER BY 1
    ON CONFLICT (hour, shard) DO UPDATE SET at = clock_timestamp()
)
SELECT place, notice_id AS id, tenant_id, app_id, id AS message_id, reference, price_micro, sealed, country, operator,
       latency_ms, NULL::int AS channel_id, NULL AS upstream_id, NULL::smallint AS status, NULL::smallint AS cause,
       NULL AS code, NULL::timestamptz AS at
  FROM plain
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, e.channel_id, e.upstream_id, e.status, e.cause, e.code, e.at
  FROM unnest($1::ack_row[]) AS a
 CROSS JOIN LATERAL (SELECT * FROM early_report x
                      WHERE x.channel_id = a.channel_id AND x.upstream_id = a.upstream_id OFFSET 0) e
"""

FIND_SQL: LiteralString = """
SELECT r.place, s.message_id
  FROM unnest($1::int[], $2::text[]) WITH ORDINALITY AS r (channel_id, upstream_id, place)
 CROSS JOIN LATERAL (SELECT message_id FROM submitted x
                      WHERE x.channel_id = r.channel_id AND x.upstream_id = r.upstream_id OFFSET 0) s
"""

# What is found here may have made room for a message of another day, under the same id, when it is to be folded; its report
# is a stray then, which looks again.
# Where one report speaks for a whole long message, the rows of its other parts go with the row that was hit.
# A hit on a row given up as unknown (state 2) corrects what was said: the cell it was tallied in is taken back.
# Parts of one message may be settled by two gateways at once: what is folded is read under a lock, or the second to
# come would count from what the first has changed. A message of one part has one report only, and needs none.
FOLD_SQL: LiteralString = """
WITH report AS MATERIALIZED (
    SELECT * FROM unnest($1::report_row[])
), hit AS (
    DELETE FROM submitted
     WHERE channel_id = ANY(ARRAY(SELECT channel_id FROM report)) AND upstream_id = ANY(ARRAY(SELECT upstream_id FROM report))
       AND (false OR (channel_id, upstream_id) IN (SELECT channel_id, upstream_id FROM report))
       AND CASE WHEN message_id >= $7 THEN message_id < $8 ELSE false END -- an index would find all of the day by it
    RETURNING *
), told AS MATERIALIZED (
    SELECT h.*, r.status, r.cause, r.code, r.at_ms, r.elsewhere, r.for_all
      FROM hit h JOIN report r ON r.channel_id = h.channel_id AND r.upstream_id = h.upstream_id
), spoken_for AS (
    DELETE FROM submitted
     WHERE message_id = ANY(ARRAY(SELECT message_id FROM told WHERE for_all))
       AND (false OR (message_id, channel_id, attempt) IN (SELECT message_id, channel_id, attempt FROM told WHERE for_all))
       AND NOT (channel_id, upstream_id) IN (SELECT channel_id, upstream_id FROM report)
    RETURNING *
), part AS (
    SELECT tenant_id, message_id, count(*)::smallint AS parts, bool_or(for_all) AS for_all,
           (count(*) FILTER (WHERE state = 2))::smallint AS late,
           max(status) AS worst, (array_agg(cause ORDER BY status DESC))[1] AS cause,
           (array_agg(code ORDER BY status DESC))[1] AS code, max(channel_id) AS channel_id,
           sum(cost_micro)::bigint AS cost_micro, bool_and(elsewhere) AS elsewhere, max(at_ms) AS at_ms,
           jsonb_agg(jsonb_build_array(
               attempt, part_index, channel_id, coalesce(upstream_raw, upstream_id),
               (date_part('epoch', sent_at) * 1000)::bigint, (date_part('epoch', acked_at) * 1000)::bigint, at_ms,
               status, cause, code, decision)) AS attempts
      FROM (SELECT * FROM told
            UNION ALL
            SELECT s.*, t.status, t.cause, t.code, t.at_ms, t.elsewhere, t.for_all
              FROM spoken_for s
             CROSS JOIN LATERAL (SELECT * FROM told x
                                  WHERE x.for_all AND x.message_id = s.message_id AND x.channel_id = s.channel_id
                                    AND x.attempt = s.attempt LIMIT 1) t) h
     GROUP BY tenant_id, message_id
), held AS MATERIALIZED (
    SELECT m.tenant_id, m.id, m.status, m.pending, m.lost, m.worst, m.attempt, m.refund_micro
      FROM part p JOIN message m ON m.tenant_id = p.tenant_id AND m.id = p.message_id
     WHERE m.part_count > 1 OR p.late > 0
     ORDER BY m.tenant_id, m.id FOR UPDATE OF m
), folded AS (
    UPDATE message m
       SET pending = CASE WHEN n.again THEN m.pending ELSE n.pending END,
           lost = m.lost - n.late,
           worst = CASE WHEN n.again THEN m.worst ELSE greatest(m.worst, n.worst) END,
           attempt = m.attempt + n.again::int,
           cause = CASE WHEN n.status = 2 AND n.worst < 2 THEN $6::smallint
                        WHEN n.worst >= m.worst OR n.again THEN n.cause ELSE m.cause END,
           code = CASE WHEN n.worst >= m.worst OR n.again THEN n.code ELSE m.code END,
           status = n.status,
           refund_micro = m.refund_micro + n.refund_micro,
           cost_micro = m.cost_micro + n.cost_micro,
           channel_id = n.channel_id,
           attempts = coalesce(m.attempts, '[]') || n.attempts,
           done_at = now()
      FROM (
        SELECT p.*, o.again, o.pending, f.status,
               CASE WHEN f.status > 1 AND old.tenant_id = ANY($4::int[]) THEN old.price_micro - old.refund_micro
                    ELSE 0 END AS refund_micro
          FROM part p
          JOIN message b ON b.tenant_id = p.tenant_id AND b.id = p.message_id
          LEFT JOIN held h ON h.tenant_id = p.tenant_id AND h.id = p.message_id
         CROSS JOIN LATERAL (SELECT b.tenant_id, b.part_count, b.purpose, b.expires_at, b.price_micro,
                                    coalesce(h.status, b.status) AS status, coalesce(h.pending, b.pending) AS pending,
                                    coalesce(h.lost, b.lost) AS lost, coalesce(h.worst, b.worst) AS worst,
                                    coalesce(h.attempt, b.attempt) AS attempt,
                                    coalesce(h.refund_micro, b.refund_micro) AS refund_micro) old
         CROSS JOIN LATERAL (SELECT p.elsewhere AND old.attempt = 1 AND old.part_count = 1 AND old.purpose <> 2
                                AND old.status = 0 AND p.late = 0
                                AND old.expires_at > now() + interval '5 seconds' AS again,
                             CASE WHEN p.for_all THEN 0 ELSE old.pending - p.parts + p.late END AS pending) o
         CROSS JOIN LATERAL (SELECT (CASE
               WHEN o.again OR o.pending > 0 THEN 0
               WHEN greatest(old.worst, p.worst) >= 3 THEN greatest(old.worst, p.worst)
               WHEN old.lost - p.late > 0 OR greatest(old.worst, p.worst) = 2 THEN 2
               ELSE 1 END)::smallint AS status) f
      ) n
     WHERE m.tenant_id = n.tenant_id AND m.id = n.message_id AND m.status IN (0, 2)
    RETURNING m.tenant_id, m.id, m.app_id, m.status, m.cause, m.code, m.purpose, m.template_id, m.channel_id, m.country,
              m.operator, m.province, m.part_count, m.price_micro, m.refund_micro, m.cost_micro, m.accepted_at, m.reference,
              m.sealed, m.expires_at, n.again, n.late, n.refund_micro AS refunded, n.at_ms,
              CASE WHEN m.status > 0 AND (n.late = 0 OR m.status <> 2) -- unknown that stays so is no news
                   THEN nextval('notice_id_seq') END AS notice_id,
              greatest(0, date_part('epoch', now() - greatest(m.accepted_at, m.due_at)) * 1000)::bigint AS latency_ms
), owed AS (
    INSERT INTO notice (id, tenant_id, app_id, kind, message_id, status, cause, code, at, lease_until)
    OVERRIDING SYSTEM VALUE
    SELECT notice_id, tenant_id, app_id, CASE WHEN late > 0 THEN 2 ELSE 1 END, id, status, cause, code,
           to_timestamp(at_ms::float8 / 1000), CASE WHEN app_id = ANY($3::int[]) THEN now() + interval '30 seconds' END
      FROM folded WHERE notice_id IS NOT NULL
), elsewhere AS (
    INSERT INTO outbox (tenant_id, id, lane, owner, due_at, expires_at, attempt, avoid_channel)
    SELECT tenant_id, id, purpose, 0, now(), expires_at, 2, channel_id FROM folded WHERE again
), refunded AS (
    SELECT tenant_id, sum(refunded)::bigint AS micro, count(*)::int AS messages FROM folded WHERE refunded > 0 GROUP BY tenant_id
), returned AS (
    INSERT INTO balance AS b (tenant_id, shard, amount_micro) SELECT tenant_id, $2, micro FROM refunded ORDER BY tenant_id
    ON CONFLICT (tenant_id, shard) DO UPDATE SET amount_micro = b.amount_micro + EXCLUDED.amount_micro
), booked AS (
    INSERT INTO ledger (tenant_id, kind, amount_micro, message_count) SELECT tenant_id, 'refund', micro, messages FROM refunded
), tallied AS (
    INSERT INTO tally AS t (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province,
                       latency, shard, messages, parts, price_micro, cost_micro)
    SELECT date_trunc('hour', accepted_at), tenant_id, status, cause, purpose, template_id, channel_id, country, operator,
           province, width_bucket(latency_ms, $5::bigint[]), $2, count(*), sum(part_count),
           sum(price_micro - refund_micro), sum(cost_micro)
      FROM folded WHERE notice_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    UNION ALL
    SELECT date_trunc('hour', accepted_at), tenant_id, 2, $6::smallint, purpose, template_id, channel_id, country, operator,
           province, 0, $2, -count(*), -sum(part_count), -sum(price_micro - refund_micro + refunded), 0
      FROM folded WHERE notice_id IS NOT NULL AND late > 0 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    ON CONFLICT (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency, shard)
    DO UPDATE SET messages = t.messages + EXCLUDED.messages, parts = t.parts + EXCLUDED.parts,
                  price_micro = t.price_micro + EXCLUDED.price_micro, cost_micro = t.cost_micro + EXCLUDED.cost_micro
), touched AS (
    INSERT INTO tally_touched (hour, shard)
    SELECT DISTINCT date_trunc('hour', accepted_at), $2::int FROM folded
     WHERE notice_id IS NOT NULL AND accepted_at < date_trunc('hour', now()) ORDER BY 1
    ON CONFLICT (hour, shard) DO UPDATE SET at = clock_timestamp()
)
SELECT 0 AS what, notice_id AS id, tenant_id, app_id, CASE WHEN late > 0 THEN 2 ELSE 1 END::smallint AS kind,
       id AS message_id, status, cause, code, to_timestamp(at_ms::float8 / 1000) AS at, reference, part_count,
       price_micro - refund_micro AS price_micro, sealed, channel_id, country, operator, latency_ms, NULL AS upstream_id
  FROM folded WHERE notice_id IS NOT NULL
UNION ALL
SELECT 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, r.channel_id, NULL, NULL, NULL,
       r.upstream_id
  FROM report r WHERE NOT (r.channel_id, r.upstream_id) IN (SELECT channel_id, upstream_id FROM hit)
UNION ALL
SELECT 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
 WHERE EXISTS (SELECT FROM folded WHERE again)
"""


async def store(
    tx: db.Tx,
    acks: Sequence[Acked],
    gone: Sequence[Gone],
    reports: Sequence[Heard],
    paid: Sequence[int],
    *,
    days: Days,
    day: Day,
    shard: int,
    snapshot: Snapshot,
) -> Sequence[db.Row]:
    """Store what came of parts and messages, and forget notices that are paid; returns what followed.

    Of the reports, all of them "delivered", only the plain ones are settled: at the first attempt, a message of one part,
    accepted on that day.
    Each of these has a row with its `place` (from 1) and the notice that is owed; the others are left for fold(). A row
    without a place is a report that was parked for an ack that is stored now. `shard`: of balances and tallies.
    """
    return await days.fetch(
        tx,
        TICK_SQL,
        day,
        [
            (a.channel_id, a.upstream_id, a.tenant_id, db.Uuid(a.message_id), a.part_index, a.attempt,
             a.sent_ms, a.cost_micro, a.decision, a.upstream_raw)
            for a in acks
        ],
        list({g.tenant_id for g in gone}),
        [db.Uuid(g.message_id) for g in gone],
        [
            (h.channel_id, h.upstream_id, 1, h.report.cause.number, h.report.code, _at_ms(h.report), False, False)
            for h in reports
        ],
        paid,
        shard,
        snapshot.hooked_apps,
        list(LATENCY_BUCKETS_MS),
    )  # fmt: skip


async def find(tx: db.Tx, reports: Sequence[Heard]) -> tuple[Mapping[Day, list[Heard]], list[Heard]]:
    """Find whose parts the reports are about; returns them by the day of the message, and those that match nothing."""
    rows = await tx.fetch(
        FIND_SQL,
        [h.channel_id for h in reports],
        [h.upstream_id for h in reports],
        timeout=db.STATEMENT_WAIT_S,
    )
    strays = dict(enumerate(reports, 1))
    found: dict[Day, list[Heard]] = {}
    for row in rows:
        found.setdefault(day_of(row["message_id"].bytes), []).append(strays.pop(row["place"]))
    return found, list(strays.values())


async def fold(
    tx: db.Tx,
    reports: Sequence[Heard],
    *,
    days: Days,
    day: Day,
    shard: int,
    snapshot: Snapshot,
    other_channel: Callable[[ChannelId], bool],
    speaks_for_all: Callable[[ChannelId], bool],
) -> Sequence[db.Row]:
    """Settle reports of any kind, on messages of one day; returns what followed: NOTICE, STRAY and AGAIN.

    `other_channel`: might another channel do better than this one? `speaks_for_all`: does one report stand for a whole
    long message there?
    """
    return await days.fetch(
        tx,
        FOLD_SQL,
        day,
        [
            (h.channel_id, h.upstream_id, h.report.status.number, h.report.cause.number, h.report.code,
             _at_ms(h.report), h.report.cause.other_channel and other_channel(h.channel_id),
             speaks_for_all(h.channel_id))
            for h in reports
        ],
        shard,
        snapshot.hooked_apps,
        snapshot.pay_on_delivery,
        list(LATENCY_BUCKETS_MS),
        Cause.NO_REPORT.number,
        day.first,
        day.following,
    )  # fmt: skip


_DELIVERED: Final = Status.DELIVERED.number


def plain_of(row: db.Row, report: Report) -> Owed:
    """Read the notice that a row of store() owes for a plain report."""
    return Owed(
        id=row["id"], tenant_id=row["tenant_id"], app_id=row["app_id"], kind=STATUS, message_id=row["message_id"],
        status=_DELIVERED, cause=report.cause.number, code=report.code, at=datetime.fromtimestamp(_at_ms(report) / 1000, UTC),
        attempt=0, reference=row["reference"], part_count=1, price_micro=row["price_micro"], sealed=row["sealed"],
    )  # fmt: skip


def owed_of(row: db.Row) -> Owed:
    """Read the notice that a row of fold() owes, or one of drop.py's."""
    return Owed(
        id=row["id"], tenant_id=row["tenant_id"], app_id=row["app_id"], kind=row["kind"], message_id=row["message_id"],
        status=row["status"], cause=row["cause"], code=row["code"], at=row["at"], attempt=0, reference=row["reference"],
        part_count=row["part_count"], price_micro=row["price_micro"], sealed=row["sealed"],
    )  # fmt: skip


def _at_ms(report: Report) -> int:
    return int(report.at_s * 1000)


def early_of(row: db.Row) -> Heard:
    """Read the report that was parked."""
    at: datetime = row["at"]
    report = Report(
        upstream_id=row["upstream_id"], status=STATUS_BY_NUMBER[row["status"]], cause=CAUSES[row["cause"]], code=row["code"],
        at_s=at.astimezone(UTC).timestamp(),
    )  # fmt: skip
    return Heard(ChannelId(row["channel_id"]), report, report.upstream_id, parked_as=report.upstream_id)
