"""What was posted to webhooks: a row a POST, for people who look for what their endpoint was told.

Writes: delivery. Entry points: write(), page(), of_message(), get(), forget(). A clerk writes its rows in batches, so a POST costs
no statement of its own, and what was posted in the last second before a crash is not in it. The id is a UUIDv7: rows of a time,
and of a message since it became final, are found by it.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

import msgspec

from hongyan import db
from hongyan.vocab.message import AppId, accepted_at_s, first_id_at

NOTICES, ANNOUNCEMENT, TEST = 1, 2, 3  # delivery.kind
KEEP_S: Final = 7 * 86_400
KEEP_ROWS: Final = 50_000  # of one app: at 1.5 kB for a full POST about 75 MB
FORGET_MAX: Final = 5_000
PAGE_MAX: Final = 200
LOOKED_AT_MAX: Final = 20_000  # rows of an app, where those about one message are asked for
MESSAGE_EARLY_S: Final = 60  # clocks of two machines
ERROR_CHARACTERS_MAX: Final = 200
NO_ID: Final = uuid.UUID(int=2**128 - 1)


class Posted(msgspec.Struct, frozen=True, gc=False):
    """One POST that is over. `status` 0: nobody answered, and `error` says why."""

    id: uuid.UUID
    app_id: AppId
    kind: int
    status: int
    error: str
    took_ms: int
    attempt: int
    event: str = ""
    message_ids: Sequence[uuid.UUID] = ()
    kinds: bytes = b""
    notice_ids: Sequence[int] = ()

    @property
    def taken(self) -> bool:
        return 200 <= self.status < 300

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(accepted_at_s(self.id), UTC)


# Arrays of arrays would have to be of one length, so each row's stands as text, which PostgreSQL reads as an array.
WRITE_SQL: LiteralString = """
INSERT INTO delivery (id, app_id, kind, status, error, took_ms, attempt, event, message_ids, kinds, notice_ids)
SELECT id, app_id, kind, status, error, took_ms, attempt, event, message_ids::uuid[], kinds, notice_ids::bigint[]
  FROM unnest($1::uuid[], $2::int[], $3::smallint[], $4::smallint[], $5::text[], $6::int[], $7::smallint[], $8::text[],
              $9::text[], $10::bytea[], $11::text[])
    AS p (id, app_id, kind, status, error, took_ms, attempt, event, message_ids, kinds, notice_ids)
ON CONFLICT (id) DO NOTHING
"""


async def write(database: db.Database, posts: Sequence[Posted]) -> None:
    """Keep POSTs that are over, in one statement. What was kept before is left as it is."""
    await database.execute(
        WRITE_SQL,
        [p.id for p in posts],
        [p.app_id for p in posts],
        [p.kind for p in posts],
        [p.status for p in posts],
        [p.error[:ERROR_CHARACTERS_MAX] for p in posts],
        [p.took_ms for p in posts],
        [p.attempt for p in posts],
        [p.event for p in posts],
        [_array(p.message_ids) for p in posts],
        [p.kinds for p in posts],
        [_array(p.notice_ids) for p in posts],
    )


def _array(values: Sequence[object]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


COLUMNS_SQL: LiteralString = """
SELECT id, app_id, kind, status, error, took_ms, attempt, event, message_ids, kinds, notice_ids
"""
# Each app is asked by itself through the index, however many rows the others have. A message's POSTs begin when it
# became final, so they are looked for from there on.
PAGE_SQL: LiteralString = (
    COLUMNS_SQL
    + """
  FROM unnest($1::int[]) AS app (number)
 CROSS JOIN LATERAL (
       SELECT id FROM delivery WHERE app_id = app.number AND id < $2 ORDER BY id DESC LIMIT $3) newest
  JOIN delivery USING (id)
 ORDER BY id DESC LIMIT $3
"""
)
FAILED_SQL: LiteralString = (
    COLUMNS_SQL
    + """
  FROM unnest($1::int[]) AS app (number)
 CROSS JOIN LATERAL (
       SELECT id FROM delivery WHERE app_id = app.number AND id < $2 AND (status < 200 OR status > 299)
        ORDER BY id DESC LIMIT $3) newest
  JOIN delivery USING (id)
 ORDER BY id DESC LIMIT $3
"""
)


async def page(
    tx: db.Tx, apps: Sequence[AppId], *, failed: bool, before: uuid.UUID = NO_ID, limit: int
) -> Sequence[Posted]:
    """List POSTs of apps, newest first, made before the one of the id `before`."""
    sql = FAILED_SQL if failed else PAGE_SQL
    return [_posted(row) for row in await tx.fetch(sql, list(apps), before, min(limit, PAGE_MAX))]


OF_MESSAGE_SQL: LiteralString = (
    COLUMNS_SQL
    + """
  FROM (SELECT id, app_id, kind, status, error, took_ms, attempt, event, message_ids, kinds, notice_ids
          FROM delivery WHERE app_id = $1 AND id >= $2 AND id < $3 ORDER BY id LIMIT $6) d
 WHERE $4 = ANY(message_ids) AND (NOT $7 OR status < 200 OR status > 299) ORDER BY id DESC LIMIT $5
"""
)


async def of_message(
    tx: db.Tx,
    app_id: AppId,
    message_id: uuid.UUID,
    since: datetime,
    *,
    failed: bool,
    before: uuid.UUID,
    limit: int,
) -> Sequence[Posted]:
    """List POSTs that told of a message, newest first. `since`: when there was first something to tell of it.

    At most LOOKED_AT_MAX POSTs of the app since then are looked at.
    """
    first = first_id_at((since - timedelta(seconds=MESSAGE_EARLY_S)).timestamp())
    rows = await tx.fetch(
        OF_MESSAGE_SQL, app_id, first, before, message_id, min(limit, PAGE_MAX), LOOKED_AT_MAX, failed
    )
    return [_posted(row) for row in rows]


GET_SQL: LiteralString = COLUMNS_SQL + " FROM delivery WHERE id = $1"


async def get(tx: db.Tx, delivery_id: uuid.UUID) -> Posted | None:
    """Return one POST; None where none is kept under this id."""
    row = await tx.fetchrow(GET_SQL, delivery_id)
    return None if row is None else _posted(row)


def _posted(row: db.Row) -> Posted:
    columns: dict[str, Any] = dict(row)
    return Posted(**{**columns, "kinds": bytes(columns["kinds"])})


# The oldest of all; and of each app those behind its newest KEEP_ROWS.
OLD_SQL: LiteralString = """
DELETE FROM delivery WHERE id IN (SELECT id FROM delivery WHERE id < $1 ORDER BY id LIMIT $2) RETURNING 1
"""
BEYOND_SQL: LiteralString = """
DELETE FROM delivery WHERE id IN (
    SELECT d.id FROM webhook w
     CROSS JOIN LATERAL (SELECT id FROM delivery WHERE app_id = w.app_id ORDER BY id DESC OFFSET $1 LIMIT $2) d LIMIT $2)
RETURNING 1
"""


async def forget(tx: db.Tx, now: datetime) -> int:
    """Delete POSTs older than KEEP_S and beyond KEEP_ROWS of an app, FORGET_MAX of each; returns how many."""
    oldest = first_id_at(now.timestamp() - KEEP_S)
    old = await tx.fetch(OLD_SQL, oldest, FORGET_MAX)
    beyond = await tx.fetch(BEYOND_SQL, KEEP_ROWS, FORGET_MAX)
    return len(old) + len(beyond)
