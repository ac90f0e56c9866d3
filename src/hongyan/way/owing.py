"""The tables of what is owed: claim, defer, give back; pause endpoints; pull, acknowledge, give up.

Writes: notice (but for its first birth, and where a gateway is near the deletion of paid ones, which ride in report's
tick), webhook_health. Entry points: claim(), pull(), acknowledge(), forget(), give_up(); waiting(), hurry() and again(), for
people. A notice is leased while somebody has it in hand (lease_until). A lease with a uuid (`lease`) was given out by a
pull; one without is a Payer's.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, LiteralString

import msgspec
import structlog

from hongyan import db
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.message import AppId, TenantId
from hongyan.way.notice import Event, Owed, event_of

log = structlog.get_logger()

OWED_TOPIC: Final = "owed"  # NOTIFY: something is owed by webhook that lies in no payer's memory
TOLD_TOPIC: Final = "told"  # NOTIFY: something is owed to somebody who logs in
LEASE_S = 30.0  # rows handed to Payer.owe() are born with it; claims take it too
CLAIM_MAX = 5_000  # rows of one claim
CLAIM_APP_MAX = 1_000  # and of one app in it, so that one backlog does not fill it
PULL_MAX = 1_000
GIVE_UP_MAX = 10_000


# What Owed holds, in its order. Statistics of a queue are always stale, so nothing is left to them: LIMIT
# makes the planner look each message up by key, and arrays (below) make it find notices by theirs.
OWED_SQL: LiteralString = """
SELECT n.id, n.tenant_id, n.app_id, n.kind, n.message_id, n.status, n.cause, n.code, n.at, n.attempt,
       m.reference, coalesce(m.part_count, 0), coalesce(m.price_micro, 0), coalesce(m.sealed, i.sealed),
       coalesce(i.access_number, ''), i.message_id, coalesce(i.opt_out, false)
  FROM taken n
  LEFT JOIN LATERAL (
       SELECT reference, part_count, price_micro - refund_micro AS price_micro, sealed FROM message
        WHERE n.kind < 3 AND tenant_id = n.tenant_id AND id = n.message_id LIMIT 1) m ON true
  LEFT JOIN LATERAL (
       SELECT sealed, access_number, message_id, opt_out FROM inbound
        WHERE n.kind = 3 AND id = n.message_id LIMIT 1) i ON true
 ORDER BY n.id
"""


# Each app is looked at by itself through the index, so a million rows of one cost the others nothing. The
# low-water id spares the index entries of rows long deleted but not yet vacuumed.
# Nobody waits for longer than an hour, nor leases for longer: what lies further ahead is of a clock that was set back since.
CLAIM_SQL: LiteralString = (
    """
WITH due AS MATERIALIZED (
    SELECT n.id FROM unnest($1::int[], $2::int[]) AS app (id, room)
     CROSS JOIN LATERAL (
           SELECT id FROM notice
            WHERE app_id = app.id AND id >= $4 AND (due_at <= now() OR due_at > now() + interval '2 hours')
              AND (lease_until IS NULL OR lease_until <= now() OR lease_until > now() + interval '2 hours')
            ORDER BY id LIMIT app.room FOR UPDATE SKIP LOCKED) n
     LIMIT $3
), taken AS (
    UPDATE notice SET lease = NULL, lease_until = now() + make_interval(secs => $5)
     WHERE notice.id = ANY(ARRAY(SELECT id FROM due))
    RETURNING notice.id, tenant_id, app_id, kind, message_id, status, cause, code, at, attempt
)"""
    + OWED_SQL
)


async def claim(
    database: db.Database, rooms: Sequence[tuple[AppId, int]], *, rows_max: int, floor: int
) -> Sequence[Owed]:
    """Lease what is due and in nobody's hands, from id `floor` on: of each app the oldest, up to its room."""
    apps, limits = [app_id for app_id, _ in rooms], [room for _, room in rooms]
    rows = await database.fetch(CLAIM_SQL, apps, limits, min(rows_max, CLAIM_MAX), floor, LEASE_S)
    return [Owed(*row) for row in rows]


LOWEST_SQL: LiteralString = "SELECT coalesce(min(id), 0) AS id FROM notice"


async def lowest_id(database: db.Database) -> int:
    """Return the lowest id that is left, 0 where nothing is owed."""
    (row,) = await database.fetch(LOWEST_SQL)
    return int(row["id"])


DEFER_SQL: LiteralString = """
UPDATE notice SET attempt = attempt + 1, due_at = now() + make_interval(secs => later.delay_s),
                  lease = NULL, lease_until = NULL
  FROM unnest($1::bigint[], $2::float8[]) AS later (id, delay_s) WHERE notice.id = later.id
"""


async def defer(database: db.Database, delays_s: Mapping[int, float]) -> None:
    """Write down that POSTs of these notices failed, and in how many seconds each is due again."""
    ids = sorted(delays_s)
    await database.execute(DEFER_SQL, ids, [delays_s[notice_id] for notice_id in ids])


GIVE_BACK_SQL: LiteralString = """
UPDATE notice SET lease_until = NULL WHERE id = ANY($1::bigint[]) AND lease IS NULL
"""


async def give_back(database: db.Database, ids: Sequence[int]) -> None:
    """End our leases of notices that were not posted."""
    await database.execute(GIVE_BACK_SQL, ids)


FORGET_SQL: LiteralString = "DELETE FROM notice WHERE id = ANY($1::bigint[])"


async def forget(database: db.Database, ids: Sequence[int]) -> None:
    """Delete notices that were paid, where no tick of this process does."""
    await database.execute(FORGET_SQL, ids)


class Health(msgspec.Struct, frozen=True):
    """What is known of an endpoint that is paused, or was and has not answered since."""

    failures: int  # in a row
    paused_until_s: float  # Unix seconds
    last_error: str


HEALTHY_SQL: LiteralString = "DELETE FROM webhook_health WHERE webhook_id = $1"

PAUSED_SQL: LiteralString = """
INSERT INTO webhook_health (webhook_id, failures, paused_until, last_error)
VALUES ($1, $2, to_timestamp($3::float8), $4)
    ON CONFLICT (webhook_id) DO UPDATE
   SET failures = excluded.failures, paused_until = excluded.paused_until, last_error = excluded.last_error,
       changed_at = now()
"""


async def write_health(database: db.Database, webhook_id: int, health: Health | None) -> None:
    """Tell all processes that an endpoint is paused, or (None) that it answers again."""
    if health is None:
        await database.execute(HEALTHY_SQL, webhook_id)
        return
    values = (health.failures, health.paused_until_s, health.last_error)
    await database.execute(PAUSED_SQL, webhook_id, *values)


HEALTH_SQL: LiteralString = """
SELECT webhook.app_id, failures, coalesce(extract(epoch FROM paused_until), 0)::float8, last_error
  FROM webhook_health JOIN webhook ON webhook.id = webhook_health.webhook_id
"""


async def read_health(database: db.Database) -> Mapping[AppId, Health]:
    """Return the endpoints that are not healthy, by app."""
    return {AppId(row[0]): Health(row[1], row[2], row[3]) for row in await database.fetch(HEALTH_SQL)}


class Waiting(msgspec.Struct, frozen=True):
    """What is still owed of some notices, and when the first of them is due."""

    notices: int
    due_at: datetime | None


WAITING_SQL: LiteralString = """
SELECT p.number, count(n.id)::int AS notices, min(greatest(n.due_at, n.lease_until)) AS due_at
  FROM unnest($1::int[], $2::bigint[]) AS p (number, id) JOIN notice n ON n.id = p.id GROUP BY p.number
"""


async def waiting(tx: db.Tx, batches: Sequence[Sequence[int]]) -> Sequence[Waiting]:
    """Return what is still owed of each batch of notice ids."""
    numbers = [number for number, batch in enumerate(batches) for _ in batch]
    rows = await tx.fetch(WAITING_SQL, numbers, [notice for batch in batches for notice in batch])
    found = {row["number"]: Waiting(row["notices"], row["due_at"]) for row in rows}
    return [found.get(number, Waiting(0, None)) for number in range(len(batches))]


# One in somebody's hands is being posted just now.
HURRY_SQL: LiteralString = """
UPDATE notice SET due_at = now() WHERE app_id = $1 AND id = ANY($2::bigint[]) RETURNING message_id
"""


async def hurry(tx: db.Tx, app_id: AppId, notice_ids: Sequence[int]) -> Sequence[uuid.UUID]:
    """Make notices due at once; returns the messages of those that are still owed."""
    return [row["message_id"] for row in await tx.fetch(HURRY_SQL, app_id, list(notice_ids))]


# As the message is by now. What is not final, or was erased with its day, has nothing to tell.
AGAIN_SQL: LiteralString = """
INSERT INTO notice (tenant_id, app_id, kind, message_id, status, cause, code, at)
SELECT m.tenant_id, m.app_id, w.kind, m.id, m.status, m.cause, m.code, coalesce(m.done_at, m.accepted_at)
  FROM unnest($3::uuid[], $4::smallint[]) AS w (id, kind)
 CROSS JOIN LATERAL (
       SELECT tenant_id, app_id, id, status, cause, code, done_at, accepted_at FROM message
        WHERE tenant_id = $1 AND id = w.id AND app_id = $2 AND status > 0 AND status <> 7 LIMIT 1) m
 WHERE w.kind < 3
 UNION ALL
SELECT i.tenant_id, i.app_id, w.kind, i.id, 0, 0, '', i.came_at
  FROM unnest($3::uuid[], $4::smallint[]) AS w (id, kind)
 CROSS JOIN LATERAL (
       SELECT tenant_id, app_id, id, came_at FROM inbound
        WHERE id = w.id AND tenant_id = $1 AND app_id = $2 LIMIT 1) i
 WHERE w.kind = 3
RETURNING id
"""


async def again(tx: db.Tx, tenant_id: TenantId, app_id: AppId, told: Sequence[tuple[uuid.UUID, int]]) -> int:
    """Owe an app notices that it was told before: of messages and inbounds by id and kind; returns how many."""
    rows = await tx.fetch(AGAIN_SQL, tenant_id, app_id, [one for one, _ in told], [kind for _, kind in told])
    return len(rows)


class Pulled(msgspec.Struct, frozen=True):
    """Events given out, and the cursor that acknowledges exactly these ('' where there are none)."""

    cursor: str
    events: list[Event]


# A Payer's lease means nothing where no webhook is left to pay by.
PULL_SQL: LiteralString = (
    """
WITH free AS MATERIALIZED (
    SELECT id FROM notice
     WHERE app_id = $1
       AND (lease_until IS NULL OR lease_until <= now() OR lease_until > now() + interval '2 hours'
            OR lease IS NULL AND NOT EXISTS (SELECT FROM webhook WHERE webhook.app_id = $1 AND active))
     ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE notice SET lease = $3, lease_until = now() + make_interval(secs => $4)
     WHERE notice.id = ANY(ARRAY(SELECT id FROM free))
    RETURNING notice.id, tenant_id, app_id, kind, message_id, status, cause, code, at, attempt
)"""
    + OWED_SQL
)


async def pull(tx: db.Tx, vault: Vault, app_id: AppId, limit: int, lease_s: float) -> Pulled:
    """Give out an app's oldest notices, at most `limit` (and PULL_MAX).

    Those not acknowledged within `lease_s` are given out, or posted, again.
    """
    lease = uuid.uuid4()
    rows = await tx.fetch(PULL_SQL, app_id, min(limit, PULL_MAX), lease, lease_s)
    if not rows:
        return Pulled("", [])
    owed = [Owed(*row) for row in rows]
    return Pulled(f"{lease.hex}.{owed[0].id}.{owed[-1].id}", [event_of(vault, notice) for notice in owed])


# The first and last id in the cursor keep this from reading all that the app is owed.
ACKNOWLEDGE_SQL: LiteralString = """
WITH gone AS (DELETE FROM notice WHERE app_id = $1 AND lease = $2 AND id BETWEEN $3 AND $4 RETURNING id)
SELECT count(*)::int AS count FROM gone
"""


async def acknowledge(tx: db.Tx, app_id: AppId, cursor: str) -> int:
    """Forget what was given out under a cursor; returns how many notices that were.

    0 for a cursor that is malformed, another app's, or acknowledged before; what was given out again since
    is owed under the newer cursor.
    """
    lease, _, ids = cursor.partition(".")
    first, _, last = ids.partition(".")
    try:
        values = (uuid.UUID(lease), int(first), int(last))
    except ValueError:
        return 0
    if not 0 <= values[1] <= values[2] < 2**63:
        return 0
    (row,) = await tx.fetch(ACKNOWLEDGE_SQL, app_id, *values)
    return int(row["count"])


# Ids rise with birth, so only the lowest are looked at. `at` does not say when a notice was born: it may come
# from an upstream's clock, or be old when the report comes. What was never tried is still due since birth;
# otherwise the message knows when it became final.
GIVE_UP_SQL: LiteralString = """
WITH old AS MATERIALIZED (
    SELECT id FROM notice n
     WHERE id <= (SELECT max(id) FROM (SELECT id FROM notice ORDER BY id LIMIT $2) AS lowest)
       AND (lease_until IS NULL OR lease_until <= now())
       AND now() - make_interval(secs => $1) >
           CASE WHEN attempt = 0 THEN due_at
                ELSE coalesce((SELECT done_at FROM message m WHERE n.kind < 3
                                  AND m.tenant_id = n.tenant_id AND m.id = n.message_id), at) END
       FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM notice WHERE id = ANY(ARRAY(SELECT id FROM old)) RETURNING app_id
)
SELECT app_id, count(*)::int AS count FROM gone GROUP BY app_id ORDER BY app_id
"""


async def give_up(tx: db.Tx, settings: Settings) -> int:
    """Delete notices that could not be paid, or were not pulled, for notice_give_up_s; returns how many.

    At most GIVE_UP_MAX: call again while it returns that many. What happened stays visible by look-up.
    """
    rows = await tx.fetch(GIVE_UP_SQL, float(settings.notice_give_up_s), GIVE_UP_MAX)
    for row in rows:
        log.warning("notify.given_up", app_id=row["app_id"], notices=row["count"])
    return sum(row["count"] for row in rows)
