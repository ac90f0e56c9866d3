"""Claim rows of the outbox for this gateway, read what they stand for, and give back what others should send.

Writes: outbox (owner, leaving). Owns what was swept up lately. Entry points: Claimer.take(), for rows that were just
committed as ours; run(), a loop, which lanes.claim_wake wakes; sweep(), a duty; hand_back(), at the end.
Surprises: rows are born owned by this gateway and handed over in memory; the sweep and the claims are for recovery,
schedules and backlog. Whatever is read from the database has its rules asked again. What is found marked as leaving was
put on a line by an earlier life: it is unsure, and not sent again. What another gateway has the channel for is given to it:
the row changes hands first (others.py).
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import LiteralString
from uuid import UUID

import msgspec
import structlog

from hongyan import clock, db
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.message import ChannelId, Status
from hongyan.way import early, pages, route
from hongyan.way.days import Days, one_day
from hongyan.way.drop import Dropped
from hongyan.way.flight import Stream, ended, quiet_until, want_of
from hongyan.way.handover import Handed
from hongyan.way.lanes import LANES, Lanes
from hongyan.way.lines import LEASE_S, Lines
from hongyan.way.others import Gift
from hongyan.way.pump import Pump
from hongyan.way.report import RECONNECT_S, Ticker
from hongyan.way.snapshot import Keeper, Snapshot
from hongyan.way.tick import Gone
from hongyan.way.unsure import Maybe

log = structlog.get_logger()

CLAIM_LOW = 1_000  # fewer waiting in a lane than this: claim more
ORPHAN_AGE_S = 1.5  # a row of ours this old that nobody handed over is swept up
LOOK_ROWS = 5_000  # of ours, seen in one look for such rows; the next one goes on from there
LOOK_RESTS = 20  # times as long as a look took, until the next
LOOK_REST_S_MAX = 10.0  # a slow moment must not put it off for long
SWEPT_KEEP_S = 60.0
HAND_BACK_TRIES = 3
LET_GAPS = 2  # gaps between claims that others have to find what was given away, before we claim again


class Claimer:
    """Brings messages into memory, and out of it again where others should have them."""

    def __init__(
        self,
        database: db.Database,
        keeper: Keeper,
        vault: Vault,
        settings: Settings,
        lanes: Lanes,
        lines: Lines,
        ticker: Ticker,
        pump: Pump,
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._vault = vault
        self._settings = settings
        self._lanes = lanes
        self._lines = lines
        self._ticker = ticker
        self._pump = pump
        self._number = settings.gateway
        self._days = Days()
        self._looks_again_s = 0.0
        self._look_from = 0  # page of the queue
        self._swept: dict[
            bytes, float
        ] = {}  # and when: a hand-over that comes late after all finds them there
        self._loading: set[bytes] = set()  # of what others gave us, and of what was claimed
        self._giving: set[bytes] = set()  # ours in the table for the moment, and in hand no more
        self._claiming = asyncio.Lock()
        self._claims_from_s = 0.0
        self.closing = False

    def take(self, rows: Sequence[Handed]) -> None:
        """Take over rows that were just committed as ours."""
        lanes = self._lanes
        for handed in rows:
            if handed.id not in lanes.mine and handed.id not in self._swept and handed.owner == self._number:
                lanes.enter(handed, fresh=handed.attempt == 1)  # others give us second attempts too
        self._pump.soon()

    # ---- claims

    async def run(self) -> None:
        """Claim rows that nobody has in hand: schedules, second attempts, backlog, dead gateways' rows; and give away.

        Until cancelled.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_giving())
            await self._keep_claiming()

    async def _keep_claiming(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._settings.claim_gap_s):
                    await self._lanes.claim_wake.wait()
            except TimeoutError:
                pass
            self._lanes.claim_wake.clear()
            try:
                async with self._claiming:
                    await self._claim_round()
            except db.Unavailable as error:
                log.warning("gateway.database_lost", duty="claim", error=type(error).__name__)

    async def _claim_round(self) -> None:
        if self.closing:
            return
        now_s, gap_s = time.monotonic(), self._settings.claim_gap_s
        if await self._give_away() and now_s >= self._claims_from_s + gap_s:
            self._claims_from_s = now_s + LET_GAPS * gap_s  # else we would claim the same rows at once
        if not self._lines.open:
            return
        await self._look_again()
        await self._write_later()
        if now_s < self._claims_from_s:
            return
        wanted = [lane for lane in LANES if self._wants(lane)]
        if not wanted:
            return
        for lane in await _lanes_due(self._database, wanted):
            if self._wants(lane) and await self._claim_lane(lane) >= self._tenant_share:
                self._lanes.claim_wake.set()

    @property
    def _tenant_share(self) -> int:
        """How many rows of one tenant a claim takes; as many found means that there may be more."""
        return max(1, self._settings.claim_batch_max // 4)

    def _wants(self, lane: int) -> bool:
        return (
            self._lanes.waiting[lane] < CLAIM_LOW
            and sum(self._lanes.waiting) < self._settings.memory_waiting_max
        )

    async def _claim_lane(self, lane: int) -> int:
        most = self._settings.claim_batch_max
        rows = await _due(self._database, self._number, lane, self._tenant_share, most)
        if rows:
            with self._about_to_have({row["id"].bytes for row in rows}):
                await self._load(*_row_keys(rows), fresh=True)
        return len(rows)

    async def _give_away(self) -> bool:
        """Leave to other gateways what only they can send; says whether there was any."""
        given: list[Handed] = []
        for lane, stream in self._lanes.streams():
            if stream.flights and self._only_others_can(stream):
                given += self._lanes.give_up(
                    lane, stream
                )  # should the next statement fail, the sweep finds them
        if given:
            self._giving = {handed.id for handed in given}
            try:
                await _give_away(self._database, self._number, given)
            finally:
                self._giving = set()
        return bool(given)

    # ---- what others get, and give us

    async def _keep_giving(self) -> None:
        """Give other gateways what the pump has chosen a channel of theirs for, and take what they give; until cancelled."""
        others = self._lines.others
        while True:
            await others.wake.wait()
            others.wake.clear()
            for to, gifts in others.gifts():
                while True:
                    try:
                        await self._give(to, gifts)
                        break
                    except db.Unavailable as error:
                        log.warning("gateway.database_lost", duty="give", error=type(error).__name__)
                        await asyncio.sleep(RECONNECT_S)
            try:
                await self._take_given()
                await others.tell()
            except db.Unavailable as error:  # whose the rows are finds them by its sweep
                log.warning("gateway.database_lost", duty="given", error=type(error).__name__)

    async def _give(self, to: int, gifts: Sequence[Gift]) -> None:
        """Make rows another gateway's, and only then let go of them and hand them over.

        What has died meanwhile gets nothing. What was not ours any more stays where it is; what we have let go of and is
        ours after all, the sweep finds.
        """
        if gifts[0].away.died:
            for gift in gifts:
                flight = gift.flight
                flight.handed = msgspec.structs.replace(flight.handed, given=gift.channel_id)
                self._lanes.wait_elsewhere(flight, flight.stream.avoid)
            self._pump.soon()
            return
        given = await _give_to(self._database, self._number, to, [gift.flight.handed for gift in gifts])
        for gift in gifts:
            self._lanes.mine.pop(gift.flight.handed.id, None)
        self._lines.others.gave(to, [gift for gift in gifts if gift.flight.handed.id in given])

    async def _take_given(self) -> None:
        """Load what gateways of other machines have given us."""
        heard = self._lines.others.heard()
        mine, swept = self._lanes.mine, self._swept
        rows = [(tenant_id, db.Uuid(one)) for tenant_id, one in heard if one not in mine and one not in swept]
        with self._about_to_have({one.bytes for _, one in rows}):
            for start in range(0, len(rows), self._settings.claim_batch_max):
                batch = rows[start : start + self._settings.claim_batch_max]
                await self._load(*map(list, zip(*batch, strict=True)), fresh=True)

    def _only_others_can(self, stream: Stream) -> bool:
        """Whether others hold all sessions of what it may go by, or all that we hold is down and theirs is not."""
        self._lanes.rank(stream)
        lines = self._lines
        channels = {candidate.channel_id for candidate in stream.ranking}
        ours = channels & lines.open.keys()
        if not ours:
            return not channels.isdisjoint(lines.with_others)
        return not any(lines.open[one].up for one in ours) and any(map(lines.others_take, channels))

    async def _look_again(self) -> None:
        """Load anew what was taken off its stream: somebody said stop, or no second channel is left."""
        while self._lanes.recheck:
            again = self._lanes.recheck[: self._settings.claim_batch_max]
            stayed = [handed for handed, marked in again if marked]
            if stayed:
                await _unmark(self._database, self._number, stayed)
            del self._lanes.recheck[: len(again)]
            for handed, _ in again:
                self._lanes.mine.pop(handed.id, None)
            await self._load(*_keys([handed for handed, _ in again]))

    async def _write_later(self) -> None:
        """Leave what is put off to whoever claims it then."""
        later = self._lanes.later[: self._settings.claim_batch_max]
        if later:
            await _put_off(self._database, later)
            for handed, _ in later:
                self._lanes.mine.pop(handed.id, None)
            del self._lanes.later[: len(later)]

    # ---- the sweep

    async def sweep(self) -> None:
        """Take rows born ours that nobody handed over, and forget what was remembered long enough."""
        now_s = time.monotonic()
        self._swept = {key: at for key, at in self._swept.items() if now_s - at < SWEPT_KEEP_S}
        if not self._lines.open or self.closing or len(self._lanes.mine) > self._settings.memory_waiting_max:
            return
        orphans: Sequence[db.Row] = ()
        if now_s >= self._looks_again_s:
            orphans = await self._orphans()
            ended_s = time.monotonic()
            self._looks_again_s = ended_s + min(LOOK_RESTS * (ended_s - now_s), LOOK_REST_S_MAX)
        for start in range(0, len(orphans), self._settings.claim_batch_max):
            batch = orphans[start : start + self._settings.claim_batch_max]
            for row in batch:
                self._swept[row["id"].bytes] = now_s
            await self._load(*_row_keys(batch))
        if orphans:
            log.info("gateway.swept", messages=len(orphans))
        async with self._database.transaction() as tx:
            found = await early.reunite(tx, list(self._lines.open))
        self._ticker.reunited(found)

    async def _orphans(self) -> Sequence[db.Row]:
        """Find rows of ours that are not in hand, LOOK_ROWS at most; what is not seen now is in a later look."""
        found: list[db.Row] = []
        seen = 0
        async for lower, upper in pages.steps(self._database.fetch, "outbox", self._look_from):
            rows = await self._database.fetch(SWEEP_SQL, self._number, ORPHAN_AGE_S, lower, upper)
            # At once: what leaves while the next pages are read is none of them.
            found += [row for row in rows if not self._has(row["id"].bytes)]
            seen += len(rows)
            if len(found) > LOOK_ROWS:
                self._look_from = lower[0]
                return found[:LOOK_ROWS]
            if seen > LOOK_ROWS:
                self._look_from = 0 if upper == pages.END else upper[0]
                return found
        self._look_from = 0
        return found

    @contextmanager
    def _about_to_have(self, message_ids: set[bytes]) -> Iterator[None]:
        """Say that these are being loaded: no orphans meanwhile."""
        self._loading |= message_ids
        try:
            yield
        finally:
            self._loading -= message_ids

    def _has(self, message_id: bytes) -> bool:
        """Whether somebody here has a message of ours in hand, or is about to."""
        return message_id in self._lanes.mine or message_id in self._loading or message_id in self._giving

    # ---- what a row stands for

    async def _load(
        self, tenant_ids: Sequence[int], message_ids: Sequence[UUID], *, fresh: bool = False
    ) -> None:
        """Read messages whose rows are ours, ask the rules again, and let them wait for their turn."""
        asked_s = clock.now_s()
        # A claim and the sweep may read the same row at once, and one of them be so quick that it has been sent meanwhile.
        with self._lanes.reading() as left:
            rows = await _read(self._database, self._days, self._number, tenant_ids, message_ids)
        snapshot = self._keeper.current
        waits: list[tuple[int, UUID, float]] = []
        for row in rows:
            if row["id"].bytes in self._lanes.mine or row["id"].bytes in left:
                continue
            handed = self._handed(row)
            dropped = self._stop_reason(row, snapshot, handed)
            if dropped is not None:
                self._lanes.hold(handed)
                self._ticker.dropped(dropped)
            elif row["leaving_at"] is not None:
                self._lanes.hold(handed)
                self._left_unsure(row, handed)
            else:
                until_s = quiet_until(handed, snapshot)
                if until_s:
                    waits.append((handed.tenant_id, row["id"], until_s))
                else:
                    fresh_now = fresh and handed.attempt == 1 and not handed.parts_gone
                    self._lanes.enter(handed, fresh=fresh_now).asked_s = asked_s
        if waits:
            await _wait(self._database, waits)
        self._pump.soon()

    def _handed(self, row: db.Row) -> Handed:
        number, words, params = "", "", None
        if row["sealed"] is not None:
            number, words, params, *_ = msgspec.msgpack.decode(
                self._vault.unseal(row["tenant_id"], row["sealed"])
            )
        return Handed(
            id=row["id"].bytes, tenant_id=row["tenant_id"], lane=row["lane"], number=number, text=words,
            extension=row["extension"], part_count=row["part_count"], country=row["country"], operator=row["operator"],
            expires_at_s=row["expires_at"].timestamp(), price_micro=row["price_micro"], resend=row["resend"],
            sandbox=row["sandbox"], owner=self._number, attempt=row["attempt"], avoid_channel=row["avoid_channel"],
            parts_gone=tuple(row["parts_gone"] or ()), template_id=row["template_id"], signature_id=row["signature_id"],
            params=params, province=row["province"], given=self._lines.others.given_for(row["id"].bytes),
        )  # fmt: skip

    def _stop_reason(self, row: db.Row, snapshot: Snapshot, handed: Handed) -> Dropped | None:
        """Say how a message ends that may not leave, or not any more; None if it may."""
        if handed.attempt > 1 and not self._elsewhere(handed, snapshot):
            return ended(handed, Status.UNDELIVERED, CAUSES[row["cause"]], row["code"], left=True)
        if row["leaving_at"] is not None:
            return None
        if row["stopped"] is not None:
            return ended(handed, Status.REFUSED, Cause.BLOCKED if row["stopped"] == 2 else Cause.OPTED_OUT)
        if row["sealed"] is None:
            return ended(handed, Status.REFUSED, Cause.BLOCKED, "erased")
        if handed.expires_at_s <= clock.now_s():
            if handed.attempt > 1:
                return ended(handed, Status.UNDELIVERED, CAUSES[row["cause"]], row["code"], left=True)
            return ended(handed, Status.EXPIRED, Cause.NOT_SENT)
        return None

    def _elsewhere(self, handed: Handed, snapshot: Snapshot) -> bool:
        want = want_of(handed, handed.signature_id)
        lines, away = self._lines.open, self._lines.others.away
        return any(
            (c.channel_id in lines and lines[c.channel_id].up) or c.channel_id in away
            for c in route.candidates(want, snapshot, handed.avoid_channel)
        )

    def _left_unsure(self, row: db.Row, handed: Handed) -> None:
        """An earlier life committed it as leaving: each part that has no ack may have left."""
        for index in range(1, handed.part_count + 1):
            if index not in handed.parts_gone:
                self._ticker.maybe(
                    Maybe(
                        channel_id=ChannelId(row["leaving_channel"]), tenant_id=handed.tenant_id, message_id=handed.id,
                        part_index=index, attempt=handed.attempt, sent_ms=int(row["leaving_at"].timestamp() * 1000),
                        cost_micro=0, decision=0, phone_index=row["phone_index"],
                    )
                )  # fmt: skip
        self._ticker.gone(Gone(handed.tenant_id, handed.id))

    # ---- the end

    async def hand_back(self) -> None:
        """Give back what was certainly not sent, and say that we are gone; when nothing is on its way any more."""
        async with self._claiming:  # a claim under way would take rows of ours once more
            for left in range(HAND_BACK_TRIES - 1, -1, -1):
                try:
                    async with self._database.transaction() as tx:
                        await _hand_back(tx, self._number, self._lanes)
                        await self._lines.forget(tx)
                except db.Unavailable:  # a deadlock with who takes over, say: the other has gone first
                    if not left:
                        raise
                else:
                    break


def _keys(all_handed: Sequence[Handed]) -> tuple[list[int], list[UUID]]:
    return [handed.tenant_id for handed in all_handed], [db.Uuid(handed.id) for handed in all_handed]


def _row_keys(rows: Sequence[db.Row]) -> tuple[list[int], list[UUID]]:
    return [row["tenant_id"] for row in rows], [row["id"] for row in rows]


# Most of the time nothing is due, in any lane: one look says so for all of them.
LANES_DUE_SQL: LiteralString = """
WITH RECURSIVE waiting(lane, tenant_id) AS (
    (SELECT lane, tenant_id FROM outbox WHERE owner = 0 ORDER BY lane, tenant_id LIMIT 1)
    UNION ALL
    SELECT n.lane, n.tenant_id FROM waiting w CROSS JOIN LATERAL (
        SELECT o.lane, o.tenant_id FROM outbox o WHERE o.owner = 0 AND (o.lane, o.tenant_id) > (w.lane, w.tenant_id)
         ORDER BY o.lane, o.tenant_id LIMIT 1) n
)
SELECT DISTINCT w.lane FROM waiting w
 WHERE w.lane = ANY($1::smallint[]) AND EXISTS (
        SELECT FROM outbox o WHERE o.owner = 0 AND o.lane = w.lane AND o.tenant_id = w.tenant_id AND o.due_at <= now())
 ORDER BY w.lane
"""


async def _lanes_due(database: db.Database, lanes: Sequence[int]) -> list[int]:
    """Say in which of these lanes something is due that nobody has in hand, the most urgent first."""
    return [row["lane"] for row in await database.fetch(LANES_DUE_SQL, lanes)]


# A loose index scan finds the tenants with anything waiting; each gets its share of the batch, so a backlog of
# one does not hide the others. The rows are found again by their place: a join is planned as one with all that waits.
CLAIM_SQL: LiteralString = """
WITH RECURSIVE waiting(tenant_id) AS (
    (SELECT tenant_id FROM outbox WHERE owner = 0 AND lane = $1 ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT o.tenant_id FROM outbox o WHERE o.owner = 0 AND o.lane = $1 AND o.tenant_id > w.tenant_id
             ORDER BY o.tenant_id LIMIT 1)
      FROM waiting w WHERE w.tenant_id IS NOT NULL
), due AS (
    SELECT d.place FROM waiting w
     CROSS JOIN LATERAL (
        SELECT o.ctid AS place FROM outbox o
         WHERE o.owner = 0 AND o.lane = $1 AND o.tenant_id = w.tenant_id AND o.due_at <= now()
         ORDER BY o.due_at LIMIT $2 FOR UPDATE SKIP LOCKED) d
     LIMIT $3
)
UPDATE outbox SET owner = $4 WHERE ctid = ANY(ARRAY(SELECT place FROM due)) AND owner = 0
RETURNING tenant_id, id
"""


async def _due(database: db.Database, gateway: int, lane: int, share: int, most: int) -> Sequence[db.Row]:
    """Claim what is due in a lane: of each tenant its share, of all together so many at most."""
    return await database.fetch(CLAIM_SQL, lane, share, most, gateway)


SWEEP_SQL: LiteralString = """
SELECT tenant_id, id FROM outbox
 WHERE ctid >= $3 AND ctid < $4 AND owner = $1 AND due_at < now() - make_interval(secs => $2::float8) ORDER BY id
"""


# What an earlier life has sent of a message stands in `submitted`, or, once reported, in its attempts.
LOAD_SQL: LiteralString = """
SELECT o.id, o.tenant_id, o.lane, o.attempt, o.avoid_channel, o.leaving_channel, o.leaving_at, m.sealed, m.extension,
       m.part_count, m.country, m.operator, m.province, m.expires_at, m.price_micro, m.resend, m.sandbox, m.cause, m.code,
       m.phone_index, m.template_id, m.signature_id,
       (SELECT max(s.kind) FROM suppression s
         WHERE s.phone_index = m.phone_index AND s.tenant_id IN (0, m.tenant_id) AND (s.kind = 2 OR m.purpose = 2)) AS stopped,
       ARRAY(SELECT s.part_index FROM submitted s WHERE s.message_id = o.id AND s.attempt = o.attempt
             UNION
             SELECT (a->>1)::smallint FROM jsonb_array_elements(coalesce(m.attempts, '[]')) a WHERE (a->>0)::int = o.attempt
       ) AS parts_gone
  FROM unnest($1::int[], $2::uuid[]) AS w(tenant_id, id)
  JOIN outbox o ON o.tenant_id = ANY($1::int[]) AND o.id = ANY($2::uuid[]) -- so that it is never read whole, see tick.py
   AND o.tenant_id = w.tenant_id AND o.id = w.id AND o.owner = $3
  JOIN message m ON m.tenant_id = o.tenant_id AND m.id = o.id
"""


async def _read(
    database: db.Database, days: Days, gateway: int, tenant_ids: Sequence[int], message_ids: Sequence[UUID]
) -> Sequence[db.Row]:
    day = one_day([message_id.bytes for message_id in message_ids])
    return await days.fetch(database, LOAD_SQL, day, tenant_ids, message_ids, gateway)


WAIT_SQL: LiteralString = """
UPDATE outbox o SET owner = 0, due_at = to_timestamp(w.due_s)
  FROM unnest($1::int[], $2::uuid[], $3::float8[]) AS w(tenant_id, id, due_s)
 WHERE o.tenant_id = ANY($1::int[]) AND o.id = ANY($2::uuid[]) AND o.tenant_id = w.tenant_id AND o.id = w.id
"""


async def _wait(database: db.Database, waits: Sequence[tuple[int, UUID, float]]) -> None:
    """Leave messages that have not been put on any line until their hours begin."""
    await database.execute(WAIT_SQL, *map(list, zip(*waits, strict=True)))


PUT_OFF_SQL: LiteralString = """
UPDATE outbox o SET owner = 0, due_at = to_timestamp(w.due_s), leaving_channel = 0, leaving_at = NULL
  FROM unnest($1::int[], $2::uuid[], $3::float8[]) AS w(tenant_id, id, due_s)
 WHERE o.tenant_id = ANY($1::int[]) AND o.id = ANY($2::uuid[]) AND o.tenant_id = w.tenant_id AND o.id = w.id
"""


async def _put_off(database: db.Database, later: Sequence[tuple[Handed, float]]) -> None:
    tenant_ids, message_ids = _keys([handed for handed, _ in later])
    await database.execute(PUT_OFF_SQL, tenant_ids, message_ids, [due_s for _, due_s in later])


UNMARK_SQL: LiteralString = """
UPDATE outbox o SET leaving_channel = 0, leaving_at = NULL
 WHERE o.tenant_id = ANY($2::int[]) AND o.id = ANY($3::uuid[]) AND o.owner = $1
"""


async def _unmark(database: db.Database, gateway: int, stayed: Sequence[Handed]) -> None:
    """Take back that messages are leaving: they came back from their line."""
    await database.execute(UNMARK_SQL, gateway, *_keys(stayed))


GIVE_AWAY_SQL: LiteralString = """
UPDATE outbox o SET owner = 0, leaving_channel = 0, leaving_at = NULL
 WHERE o.tenant_id = ANY($2::int[]) AND o.id = ANY($3::uuid[]) AND o.owner = $1
"""


async def _give_away(database: db.Database, gateway: int, given: Sequence[Handed]) -> None:
    await database.execute(GIVE_AWAY_SQL, gateway, *_keys(given))


# Once more after a lost connection it finds what it has done, or nothing.
GIVE_TO_SQL: LiteralString = """
UPDATE outbox o SET owner = $2
 WHERE o.tenant_id = ANY($3::int[]) AND o.id = ANY($4::uuid[]) AND o.owner IN ($1, $2)
   AND EXISTS (SELECT FROM gateway WHERE id = $2 AND seen_at > now() - make_interval(secs => $5::float8))
RETURNING o.id
"""


async def _give_to(database: db.Database, gateway: int, to: int, given: Sequence[Handed]) -> set[bytes]:
    """Make rows those of a gateway that lives; returns which."""
    rows = await database.fetch(GIVE_TO_SQL, gateway, to, *_keys(given), LEASE_S)
    return {row["id"].bytes for row in rows}


# What may have left stays ours, marked, so that the next life of this gateway treats it as unsure. What waits in
# memory has certainly not, even if it was committed as leaving before an upstream could not take it.
HAND_BACK_SQL: LiteralString = """
UPDATE outbox SET owner = 0, leaving_channel = 0, leaving_at = NULL
 WHERE owner = $1 AND (leaving_at IS NULL OR id = ANY($2::uuid[]))
"""


async def _hand_back(tx: db.Tx, gateway: int, lanes: Lanes) -> None:
    waiting = [flight.handed for _, stream in lanes.streams() for flight in stream.flights]
    waiting += [handed for handed, _ in lanes.later] + [handed for handed, marked in lanes.recheck if marked]
    await tx.execute(HAND_BACK_SQL, gateway, [db.Uuid(handed.id) for handed in waiting])
