"""The statement of an acceptance: messages stored, queued, counted against their limits, charged and tallied, in one commit.

Writes: message, outbox, frequency, idempotency, balance, ledger, tally. Entry points: Entry and Row, what a request and
its messages are on their way into the database; store(). What is to be stored and when, accept.py decides.
Surprise: suppression, frequency and idempotency are asked in the statement itself, so that no door can overtake another.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

import msgspec

from hongyan import clock, db
from hongyan.vocab.message import MessageId, TenantId
from hongyan.way import guard
from hongyan.way.days import Days, one_day
from hongyan.way.guard import CodeDraft, Draft
from hongyan.way.handover import Handed
from hongyan.way.promise import Accepted, Idempotency, Outcome
from hongyan.way.snapshot import Key, Limits

OPTED_OUT, BLOCKED, FREQUENT, REPEATED = 1, 2, 3, 4  # what may stop a message in the statement
HELD_OWNER = -1  # of an outbox row that waits for a person
NO_TEMPLATE = "it matches no template"  # why it does
EPOCH_S = 1_577_836_800  # 2020: hits are seconds since then, so that they and a hash fit 63 bits

Done = Callable[[Sequence[Outcome]], None]


class SessionDraft(Draft, frozen=True):
    """A message that came over a protocol session. `origin` is the door's own: what its reports go back to.

    It is sealed with the text, comes back with every notice of the message, and nobody between reads it.
    """

    origin: bytes = b""
    held: bool = False  # it waits until a person has decided; see way.hold


class Entry:
    """One request: its outcomes so far and whom to tell."""

    __slots__ = ("done", "idempotency", "key", "left", "outcomes", "since_s")

    def __init__(self, key: Key, count: int, idempotency: Idempotency | None, done: Done) -> None:
        self.key = key
        self.outcomes: list[Outcome | None] = [None] * count
        self.idempotency = idempotency
        self.done = done
        self.left = count
        self.since_s = time.monotonic()

    def settle(self, index: int, outcome: Outcome) -> None:
        """Take down what became of one message, the first word counts; the caller is told once all have one."""
        if self.outcomes[index] is not None:
            return
        self.outcomes[index] = outcome
        self.left -= 1
        if self.left == 0:
            self.done(self.outcomes)  # type: ignore[arg-type]  # none is None any more


class Row:
    """One message on its way into the database."""

    __slots__ = (
        "avoid_channel",
        "cleared",
        "code",
        "decision",
        "entry",
        "fkey",
        "free",
        "handed",
        "held",
        "hit",
        "id",
        "index",
        "key",
        "limits",
        "origin",
        "params",
        "phone_index",
        "reference",
        "sealed",
    )

    id: MessageId
    sealed: bytes
    phone_index: bytes
    limits: Limits
    fkey: bytes | None  # under which the number's frequency is counted
    hit: int
    decision: int
    handed: Handed | None

    def __init__(self, entry: Entry, index: int, key: Key, draft: Draft, cleared: guard.Cleared) -> None:
        self.entry = entry
        self.index = index
        self.key = key
        self.cleared = cleared
        self.reference = draft.reference or None
        self.params = draft.params
        self.origin, self.held = b"", cleared.held
        self.code, self.free, self.avoid_channel = False, False, 0
        if isinstance(draft, SessionDraft):
            self.origin = draft.origin
            self.held = NO_TEMPLATE if draft.held else cleared.held
        elif isinstance(draft, CodeDraft):
            self.code, self.free, self.avoid_channel = True, draft.free, draft.avoid_channel
            if draft.free:
                self.cleared = msgspec.structs.replace(cleared, price_micro=0)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """What no two rows of statements under way may share: they would wait for each other's locks."""
        idempotency = self.entry.idempotency
        keys = () if self.fkey is None else (self.fkey,)
        return keys if idempotency is None else (*keys, idempotency.key)

    @property
    def promise(self) -> Accepted:
        due_s = self.cleared.due_at_s
        send_at = datetime.fromtimestamp(due_s, UTC) if due_s else None
        return Accepted(self.id, self.cleared.part_count, self.cleared.price_micro, send_at, bool(self.held))


# One statement is one commit, and it comes in two forms: few requests bring an Idempotency-Key, and a statement costs by
# how much could happen in it. `IN (SELECT …)` stands beside an OR or a NOT on purpose: such a sublink becomes a hashed
# subplan, while a join of two CTEs of unknown size would be planned as a nested loop.
# Frequency rows are locked in key order, so that two writers cannot wait for each other in a circle.
# What is held waits in the outbox too, so that it ends as all else does: nobody's, and due never, until a person has
# decided. An owner below 0 says so, because a column more in accept_row would stop the version that is running.
_ITEM: LiteralString = """
WITH item AS MATERIALIZED (
    SELECT * FROM unnest($1::accept_row[]) WITH ORDINALITY AS i(
        tenant_id, id, app_id, purpose, part_count, signature_id, template_id, price_micro, due_s, validity_s,
        decision, phone_index, sealed, country, operator, province, extension, reference, owner, sandbox, resend,
        fkey, hit, minute_max, hour_max, day_max, same_s, key_id, key, body, ordinal)
), stopped AS MATERIALIZED (
    SELECT i.id, s.kind AS reason
      FROM item i JOIN suppression s
        ON s.phone_index = i.phone_index AND s.tenant_id IN (0, i.tenant_id) AND (s.kind = 2 OR i.purpose = 2)
"""
_COUNTED: LiteralString = """
), counted AS (
    INSERT INTO frequency AS f (key, hits, minute_max, hour_max, day_max, same_s)
    SELECT fkey, ARRAY[hit], minute_max, hour_max, day_max, same_s FROM item
     WHERE fkey IS NOT NULL AND NOT id IN (SELECT id FROM stopped)
     ORDER BY fkey
    ON CONFLICT (key) DO UPDATE
       SET hits = ARRAY(SELECT h FROM unnest(f.hits) AS h WHERE h >> 32 > $4 - 86400) || EXCLUDED.hits,
           minute_max = EXCLUDED.minute_max, hour_max = EXCLUDED.hour_max, day_max = EXCLUDED.day_max,
           same_s = EXCLUDED.same_s
     WHERE (SELECT (EXCLUDED.minute_max = 0 OR count(*) FILTER (WHERE h >> 32 > $4 - 60) < EXCLUDED.minute_max)
               AND (EXCLUDED.hour_max = 0 OR count(*) FILTER (WHERE h >> 32 > $4 - 3600) < EXCLUDED.hour_max)
               AND (EXCLUDED.day_max = 0 OR count(*) FILTER (WHERE h >> 32 > $4 - 86400) < EXCLUDED.day_max)
               AND (EXCLUDED.same_s = 0 OR count(*) FILTER (
                    WHERE h >> 32 > $4 - EXCLUDED.same_s AND (h & 4294967295) = (EXCLUDED.hits[1] & 4294967295)) = 0)
              FROM unnest(f.hits) AS h)
    RETURNING key
)"""
_CLEARED: LiteralString = """MATERIALIZED (
    SELECT * FROM item
     WHERE NOT id IN (SELECT id FROM stopped) AND (fkey IS NULL OR fkey IN (SELECT key FROM counted))
)"""
_STORED: LiteralString = """, stored AS (
    INSERT INTO message (
        tenant_id, id, app_id, status, purpose, part_count, pending, signature_id, template_id, price_micro, accepted_at,
        due_at, expires_at, decision, phone_index, sealed, country, operator, province, extension, reference, sandbox, resend)
    SELECT tenant_id, id, app_id, CASE WHEN owner < 0 THEN 7 ELSE 0 END, purpose, part_count, part_count, signature_id,
           template_id, price_micro, $2,
           CASE WHEN due_s = 0 THEN $2 ELSE to_timestamp(due_s) END,
           CASE WHEN due_s = 0 THEN $2 ELSE to_timestamp(due_s) END + validity_s * interval '1 second',
           decision, phone_index, sealed, country, operator, province, extension, reference, sandbox, resend
      FROM passed
), queued AS (
    INSERT INTO outbox (tenant_id, id, lane, owner, due_at, expires_at)
    SELECT tenant_id, id, purpose, owner,
           CASE WHEN owner < 0 THEN 'infinity' WHEN due_s = 0 THEN $2 ELSE to_timestamp(due_s) END,
           CASE WHEN due_s = 0 THEN $2 ELSE to_timestamp(due_s) END + validity_s * interval '1 second'
      FROM passed
), priced AS MATERIALIZED (
    SELECT tenant_id, sum(price_micro)::bigint AS micro, count(*)::int AS messages FROM passed GROUP BY tenant_id
), paid AS (
    UPDATE balance b SET amount_micro = b.amount_micro - p.micro
      FROM priced p WHERE b.tenant_id = p.tenant_id AND b.shard = $3
), booked AS (
    INSERT INTO ledger (tenant_id, kind, amount_micro, message_count)
    SELECT tenant_id, 'charge', -micro, messages FROM priced
), tallied AS (
    INSERT INTO tally AS t (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province,
                       latency, shard, messages, parts, price_micro, cost_micro)
    SELECT date_trunc('hour', $2::timestamptz), tenant_id, 0, 0, purpose, template_id, 0, country, operator, province,
           0, $3, count(*), sum(part_count), sum(price_micro), 0
      FROM passed GROUP BY tenant_id, purpose, template_id, country, operator, province
    ON CONFLICT (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency, shard)
    DO UPDATE SET messages = t.messages + EXCLUDED.messages, parts = t.parts + EXCLUDED.parts,
                  price_micro = t.price_micro + EXCLUDED.price_micro
)
SELECT i.ordinal, coalesce((SELECT max(s.reason) FROM stopped s WHERE s.id = i.id)::int, """
_LEFT_OUT: LiteralString = """ AS reason
  FROM item i WHERE NOT i.id IN (SELECT id FROM passed)
"""
# Where no request has a key, all that is cleared has passed.
ACCEPT_SQL: LiteralString = _ITEM + _COUNTED + ", passed AS " + _CLEARED + _STORED + "3)" + _LEFT_OUT
# A key that was seen before stops its message, whatever else does; one that comes twice at this moment claims it once.
ACCEPT_ONCE_SQL: LiteralString = (
    _ITEM
    + """
     UNION ALL
    SELECT i.id, 4 FROM item i JOIN idempotency d ON d.key_id = i.key_id AND d.key = i.key"""
    + _COUNTED
    + ", cleared AS "
    + _CLEARED
    + """, claimed AS (
    INSERT INTO idempotency (key_id, key, body, first_id)
    SELECT key_id, key, body, id FROM cleared WHERE key IS NOT NULL ORDER BY key_id, key
    ON CONFLICT DO NOTHING
    RETURNING first_id
), passed AS MATERIALIZED (
    SELECT * FROM cleared WHERE key IS NULL OR id IN (SELECT first_id FROM claimed)
)"""
    + _STORED
    + "CASE WHEN i.id IN (SELECT id FROM cleared) THEN 4 ELSE 3 END)"
    + _LEFT_OUT
)

AVOID_SQL: LiteralString = """
UPDATE outbox o SET avoid_channel = n.channel_id FROM unnest($1::int[], $2::uuid[], $3::int[]) AS n(tenant_id, id, channel_id)
 WHERE o.tenant_id = ANY($1::int[]) AND o.id = ANY($2::uuid[]) AND o.tenant_id = n.tenant_id AND o.id = n.id
"""


async def store(
    tx: db.Tx,
    rows: Sequence[Row],
    shard: int,
    owner_for: Callable[[int], int],
    days: Days,
    *,
    sends_templates: bool,
) -> dict[int, int]:
    """Store, charge and count what nothing stops; returns the places of what is stopped, and why: OPTED_OUT and so on.

    Each row that some gateway is to have at once gets what to hand over, `handed`.
    """
    now = clock.now()
    now_s = now.timestamp()
    items: list[tuple[Any, ...]] = []
    for row in rows:
        lane = row.cleared.wording.purpose.number
        owner = HELD_OWNER if row.held else 0 if row.cleared.due_at_s else owner_for(lane)
        row.handed = _handed(row, owner, now_s, sends_templates=sends_templates) if owner > 0 else None
        items.append(_item(row, owner))
    sql = ACCEPT_SQL if all(item[-2] is None for item in items) else ACCEPT_ONCE_SQL
    day = one_day([row.id.bytes for row in rows])
    found = await days.fetch(tx, sql, day, items, now, shard, int(now_s) - EPOCH_S)
    avoiding = [row for row in rows if row.avoid_channel]
    # Few ever do: a column of accept_row would cost all the others. Lost in a crash, it is only a hint.
    if avoiding:
        await tx.execute(
            AVOID_SQL,
            [row.key.tenant.id for row in avoiding],
            [db.Uuid(row.id.bytes) for row in avoiding],
            [row.avoid_channel for row in avoiding],
        )
    return {row["ordinal"] - 1: row["reason"] for row in found}


def _handed(row: Row, owner: int, now_s: float, *, sends_templates: bool) -> Handed:
    """Return what the gateway that is to have a row gets of it."""
    cleared = row.cleared
    wording, place = cleared.wording, cleared.place
    return Handed(
        id=row.id.bytes,
        tenant_id=row.key.tenant.id,
        lane=wording.purpose.number,
        number=cleared.number.e164,
        text=wording.text,
        extension=cleared.extension,
        part_count=cleared.part_count,
        country=place.country,
        operator=place.operator,
        expires_at_s=now_s + cleared.validity_s,
        price_micro=cleared.price_micro,
        resend=wording.resend,
        sandbox=row.key.sandbox,
        owner=owner,
        template_id=wording.template_id,
        signature_id=wording.signature.id,
        params=row.params if sends_templates else None,
        avoid_channel=row.avoid_channel,
        province=place.province,
    )


def _item(row: Row, owner: int) -> tuple[Any, ...]:
    """Return a row as accept_row has it."""
    cleared, tenant = row.cleared, row.key.tenant
    wording, place = cleared.wording, cleared.place
    return (
        tenant.id,
        row.id,
        row.key.app_id,
        wording.purpose.number,
        cleared.part_count,
        wording.signature.id,
        wording.template_id,
        cleared.price_micro,
        cleared.due_at_s,
        cleared.validity_s,
        row.decision,
        row.phone_index,
        row.sealed,
        place.country,
        place.operator,
        place.province,
        cleared.extension,
        row.reference,
        owner,
        row.key.sandbox,
        wording.resend,
        row.fkey,
        row.hit,
        row.limits.minute,
        row.limits.hour,
        row.limits.day,
        tenant.duplicate_s,
        *_idempotency_of(row),
    )


def _idempotency_of(row: Row) -> tuple[int | None, bytes | None, bytes | None]:
    idempotency = row.entry.idempotency
    if idempotency is None or len(row.entry.outcomes) > 1:  # a batch's key was reserved before
        return None, None, None
    return row.key.id, idempotency.key, idempotency.body


OPEN_SHARDS_SQL: LiteralString = """
INSERT INTO balance (tenant_id, shard, amount_micro) SELECT t, $2, 0 FROM unnest($1::int[]) AS t ORDER BY t
ON CONFLICT DO NOTHING
"""


async def open_shards(tx: db.Tx, tenant_ids: Sequence[TenantId], shard: int) -> None:
    """See that tenants have a balance in a shard: the statement only changes what is there."""
    await tx.execute(OPEN_SHARDS_SQL, tenant_ids, shard)
