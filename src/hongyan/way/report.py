"""Match reports to submissions and fold parts into the message's status: the tick.

Writes: submitted, outbox, message, early_report, notice, balance, ledger, tally, tally_touched. Entry point: Ticker.
One statement a tick stores acks, settles reports, owes notices and forgets paid ones, so one commit serves all
of them. Nothing is confirmed to anybody before it is stored: window slots and report responses go back to the
channels after the commit.
Surprises: a report in the same tick as its ack waits for the next, because the parts of one statement see the
same snapshot. A statement whose commit was lost may run twice; every part of it finds nothing the second time.
A statement that cannot be stored is tried again with half as many rows, so that in the end one bad row fails alone.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, LiteralString, NamedTuple, TypeVar

import msgspec
import structlog

from hongyan import db
from hongyan.channels.channel import Report
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.message import STATUS_BY_NUMBER, ChannelId, Status
from hongyan.way import portability
from hongyan.way.measure import LATENCY_BUCKETS_MS, Counters
from hongyan.way.notify import Owed
from hongyan.way.snapshot import Keeper

log = structlog.get_logger()

RECONNECT_S = 0.2
WORD_CHARACTERS_MAX = 200  # of an id or code: ids have 64 at most in every protocol, so this is garbage


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


class Gone(NamedTuple):
    """A message whose every part has been answered."""

    tenant_id: int
    message_id: bytes


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """Parts of a message that will never leave: declined, refused at the claim or by a person, expired or cancelled."""

    tenant_id: int
    message_id: bytes
    parts: int
    status: Status
    cause: Cause
    code: str
    channel_id: int = 0
    slots: tuple[Any, ...] = ()
    left: bool = (
        False  # an earlier attempt did leave: its cause stays, and who pays on submit is refunded nothing
    )


class Maybe(msgspec.Struct, frozen=True, gc=False):
    """A part that may have left unheard and must not be doubled."""

    channel_id: ChannelId
    tenant_id: int
    message_id: bytes
    part_index: int
    attempt: int
    sent_ms: int
    cost_micro: int
    decision: int
    phone_index: bytes | None  # None: no report's number is looked up for it


class Heard(NamedTuple):
    """A report with the channel it came from and which form of its id is being tried."""

    channel_id: ChannelId
    report: Report
    form: int = 0
    parked_as: str = ""  # it stands in early_report under this id, until it has settled something

    @property
    def upstream_id(self) -> str:
        return self.report.candidates[self.form - 1] if self.form else self.report.upstream_id


class Outlet(msgspec.Struct, frozen=True):
    """Whom the ticker tells what came of it, after the commit."""

    stored: Callable[[ChannelId, Sequence[Any]], None]  # slots back to their channel
    owe: Callable[[Sequence[Owed]], None]
    again: Callable[[], None]  # a message was put back for another channel
    settled: Callable[
        [ChannelId, str, str, Status, Cause, float], None
    ]  # channel, country, operator, …, latency
    paired: Callable[[Heard], None]  # a report matched: its id's dialect shows
    other_channel: Callable[[ChannelId], bool]  # might another channel do better?
    speaks_for_all: Callable[[ChannelId], bool]  # does one report stand for a whole long message there?
    left: Callable[[Sequence[bytes]], None]  # these messages are no longer in the outbox
    pressed: Callable[[], bool]  # do messages wait for the places that a commit would free?


L = TypeVar("L", Gone, Dropped)


class Ticker:
    """Collects what must be stored and stores it, one statement after the other, on its own connection."""

    def __init__(
        self,
        database: db.Database,
        keeper: Keeper,
        vault: Vault,
        settings: Settings,
        counters: Counters,
        outlet: Outlet,
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._vault = vault
        self._settings = settings
        self._counters = counters
        self._outlet = outlet
        self._shard = settings.gateway * 10 + 5_000
        self._acks: deque[Acked] = deque()
        self._gone: deque[Gone] = deque()
        self._reports: deque[Heard] = deque()
        self._paid: deque[int] = deque()
        self._dropped: deque[Dropped] = deque()
        self._maybe: deque[Maybe] = deque()
        self._stray: deque[Heard] = deque()
        self._settled_early: deque[tuple[ChannelId, str]] = deque()  # rows of early_report that have served
        self._rows_full = 2 * settings.tick_batch_max  # acks and reports of a tick, together
        self._rows_max = self._rows_full  # fewer while one that cannot be stored is looked for
        self._ticking = False
        self._wake = asyncio.Event()

    # ---- in: what the gateway and the clerk noticed

    def acked(self, ack: Acked) -> None:
        self._acks.append(ack)
        self._wake.set()

    def gone(self, gone: Gone) -> None:
        self._gone.append(gone)
        self._wake.set()

    def maybe(self, part: Maybe) -> None:
        self._maybe.append(part)
        self._wake.set()

    def dropped(self, dropped: Dropped) -> None:
        self._dropped.append(dropped)
        self._wake.set()

    def reported(self, channel_id: ChannelId, reports: Sequence[Report]) -> None:
        self._reports.extend(Heard(channel_id, _storable(report)) for report in reports)
        self._wake.set()

    def reunited(self, found: Sequence[Heard]) -> None:
        """Take reports that were parked; those in hand already are not taken twice."""
        in_hand = {(heard.channel_id, heard.parked_as) for heard in self._reports} | set(self._settled_early)
        self._reports.extend(h for h in found if (h.channel_id, h.parked_as) not in in_hand)
        self._wake.set()

    def paid(self, notice_ids: Sequence[int]) -> None:
        self._paid.extend(notice_ids)
        self._wake.set()

    @property
    def reports_waiting(self) -> int:
        """How many reports are not stored yet, but for those of the tick in hand."""
        return len(self._reports) + len(self._stray)

    @property
    def idle(self) -> bool:
        """Whether everything noticed so far is stored."""
        return not (
            self._ticking
            or self._acks
            or self._gone
            or self._reports
            or self._paid
            or self._dropped
            or self._maybe
            or self._stray
            or self._settled_early
        )

    # ---- the loop

    async def run(self) -> None:
        """Store what comes, until cancelled. A lost database is waited for: everything stays in memory meanwhile."""
        holder = db.Holder(self._database)
        try:
            while True:
                if self.idle:
                    self._wake.clear()
                    await self._wake.wait()
                await asyncio.sleep(self._gap_s())
                self._ticking = True  # what a tick has in hand is in no queue
                try:
                    await self._tick(await holder.connection())
                except db.Unavailable as error:
                    log.warning(
                        "tick.database_lost",
                        error=type(error).__name__,
                        acks=len(self._acks),
                        reports=len(self._reports),
                    )
                    holder.drop()
                    await asyncio.sleep(RECONNECT_S)
                finally:
                    self._ticking = False
        finally:
            holder.drop()

    def _gap_s(self) -> float:
        if self._rows_max < self._rows_full:
            return 0.0
        pressed = self._outlet.pressed()
        return (self._settings.tick_gap_pressed_ms if pressed else self._settings.tick_gap_ms) / 1000

    async def _tick(self, tx: db.Tx) -> None:
        if self._maybe:  # before their messages leave the outbox
            await self._store_maybe(tx)
        if self._acks or self._gone or self._reports or self._paid:
            await self._main(tx)
        if self._dropped:
            await self._store_dropped(tx)
        if self._stray:
            await self._park(tx)
        if self._settled_early:
            await self._forget_early(tx)

    async def _main(self, tx: db.Tx) -> None:
        size = self._settings.tick_batch_max
        taken: set[tuple[ChannelId, str]] = set()
        acks = _ripe(self._acks, min(size, self._rows_max), taken)
        reports = _ripe(self._reports, min(size, self._rows_max - len(acks)), taken)
        gone = self._leaving(self._gone)
        paid = _first(self._paid, size * 4)
        started_s = time.perf_counter()
        try:
            await self._learn(tx, reports)
            rows = await tx.fetch(
                TICK_SQL, *self._parameters(acks, gone, reports, paid), timeout=db.STATEMENT_WAIT_S
            )
        except db.Unstorable as error:
            self._halve(acks, reports, error)
            return
        except BaseException:
            self._put_back(acks, reports)
            raise
        self._rows_max = min(2 * self._rows_max, self._rows_full)
        self._counters.ticked(len(acks), len(reports), len(paid), time.perf_counter() - started_s)
        _forget(self._gone, gone)
        _forget(self._paid, paid)
        self._outlet.left([g.message_id for g in gone])
        self._tell(acks, reports, rows)

    async def _learn(self, tx: db.Tx, reports: Sequence[Heard]) -> None:
        """Remember numbers that have moved to another operator, while their submissions are still there."""
        moved = [h for h in reports if h.report.cause.corrects_operator]
        if not moved:
            return
        learned = await portability.learn(tx, [h.channel_id for h in moved], [h.upstream_id for h in moved])
        if learned and not self._keeper.current.has_number_overrides:
            await self._database.notify("control")  # doors look numbers up only once there is something

    def _leaving(self, queue: deque[L]) -> list[L]:
        """Return the first whose outbox rows may go: all acks of their parts are stored, or in the tick in hand."""
        first = _first(queue, self._settings.tick_batch_max)
        waiting = {ack.message_id for ack in self._acks} | {part.message_id for part in self._maybe}
        return list(takewhile(lambda one: one.message_id not in waiting, first)) if waiting else first

    def _put_back(self, acks: Sequence[Acked], reports: Sequence[Heard]) -> None:
        self._acks.extendleft(reversed(acks))
        self._reports.extendleft(reversed(reports))

    def _halve(self, acks: Sequence[Acked], reports: Sequence[Heard], error: Exception) -> None:
        """Let the next tick try half as many rows; one that fails alone is set aside."""
        rows = len(acks) + len(reports)
        if rows == 1:
            self._set_aside(acks, reports, error)
            return
        self._put_back(acks, reports)
        if rows == 0:  # nothing that an upstream said is to blame
            raise error
        self._rows_max = rows // 2

    def _set_aside(self, acks: Sequence[Acked], reports: Sequence[Heard], error: Exception) -> None:
        """Let go of the one row that cannot be stored, so that the others go on; its part ends as unknown."""
        for ack in acks:  # it has left, and no report will find it: it waits as one that was never answered
            self._maybe.append(
                Maybe(
                    channel_id=ack.channel_id, tenant_id=ack.tenant_id, message_id=ack.message_id, part_index=ack.part_index,
                    attempt=ack.attempt, sent_ms=ack.sent_ms, cost_micro=ack.cost_micro, decision=ack.decision,
                    phone_index=None,
                )
            )  # fmt: skip
            _log_unstorable("ack", ack.channel_id, error)
            self._outlet.stored(ack.channel_id, [ack.slot])
        for heard in reports:
            if heard.parked_as:
                self._settled_early.append((heard.channel_id, heard.parked_as))
            _log_unstorable("report", heard.channel_id, error)
            self._outlet.stored(heard.channel_id, [heard.report.slot])

    def _parameters(
        self, acks: Sequence[Acked], gone: Sequence[Gone], reports: Sequence[Heard], paid: Sequence[int]
    ) -> Sequence[Any]:
        snapshot = self._keeper.current
        other = self._outlet.other_channel
        return (
            [
                (a.channel_id, a.upstream_id, a.tenant_id, db.Uuid(a.message_id), a.part_index, a.attempt,
                 a.sent_ms, a.cost_micro, a.decision, a.upstream_raw)
                for a in acks
            ],
            [g.tenant_id for g in gone],
            [db.Uuid(g.message_id) for g in gone],
            [
                (h.channel_id, h.upstream_id, h.report.status.number, h.report.cause.number, h.report.code,
                 int(h.report.at_s * 1000), h.report.cause.other_channel and other(h.channel_id),
                 self._outlet.speaks_for_all(h.channel_id))
                for h in reports
            ],
            paid,
            self._shard,
            snapshot.hooked_apps,
            snapshot.pay_on_delivery,
            list(LATENCY_BUCKETS_MS),
            Cause.NO_REPORT.number,
        )  # fmt: skip

    def _tell(self, acks: Sequence[Acked], reports: Sequence[Heard], rows: Sequence[db.Row]) -> None:
        """After the commit: slots back, notices to the clerk, strays to the park, early reports to the next tick."""
        owed: list[Owed] = []
        stray: set[tuple[int, str]] = set()
        for row in rows:
            what = row["what"]
            if what == _NOTICE:
                owed.append(_owed(row))
                self._settled(row)
            elif what == _STRAY:
                stray.add((row["channel_id"], row["code"]))
            elif what == _EARLY:
                self._reports.append(Heard(ChannelId(row["channel_id"]), _early(row), 0, row["code_id"]))
            else:
                self._outlet.again()
        self._confirm(acks, reports, stray)
        if owed:
            self._outlet.owe(owed)

    def _confirm(
        self, acks: Sequence[Acked], reports: Sequence[Heard], stray: Collection[tuple[int, str]]
    ) -> None:
        slots: dict[ChannelId, list[Any]] = {}
        for ack in acks:
            slots.setdefault(ack.channel_id, []).append(ack.slot)
        for heard in reports:
            if (heard.channel_id, heard.upstream_id) in stray:
                self._next_form(heard)
                continue
            self._outlet.paired(heard)
            if heard.parked_as:
                self._settled_early.append((heard.channel_id, heard.parked_as))
            if heard.report.slot is not None:
                slots.setdefault(heard.channel_id, []).append(heard.report.slot)
        for channel_id, given in slots.items():
            self._outlet.stored(channel_id, given)

    def _settled(self, row: db.Row) -> None:
        status, cause = STATUS_BY_NUMBER[row["status"]], CAUSES[row["cause"]]
        latency_s = row["latency_ms"] / 1000
        self._outlet.settled(row["channel_id"], row["country"], row["operator"], status, cause, latency_s)
        self._counters.final(status, cause)
        if status is Status.DELIVERED:
            self._counters.delivered_after(latency_s)

    def _next_form(self, heard: Heard) -> None:
        if heard.form < len(heard.report.candidates):
            self._reports.append(heard._replace(form=heard.form + 1))
        else:
            self._stray.append(heard)

    # ---- the seldom ways

    async def _store_maybe(self, tx: db.Tx) -> None:
        parts = _first(self._maybe, self._settings.tick_batch_max)
        await tx.execute(
            MAYBE_SQL,
            [p.channel_id for p in parts],
            [f"unsure:{p.message_id.hex()}:{p.part_index}:{p.attempt}" for p in parts],
            [p.tenant_id for p in parts],
            [db.Uuid(p.message_id) for p in parts],
            [p.part_index for p in parts],
            [p.attempt for p in parts],
            [p.sent_ms for p in parts],
            [p.cost_micro for p in parts],
            [p.decision for p in parts],
            [p.phone_index for p in parts],
        )
        _forget(self._maybe, parts)

    async def _store_dropped(self, tx: db.Tx) -> None:
        drops = self._leaving(self._dropped)
        if not drops:
            return
        rows = await drop(tx, drops, self._shard, self._keeper.current.hooked_apps)
        _forget(self._dropped, drops)
        self._outlet.left([d.message_id for d in drops])
        owed = [_owed(row) for row in rows]
        for row in rows:
            self._counters.final(STATUS_BY_NUMBER[row["status"]], CAUSES[row["cause"]])
        for dropped in drops:
            if dropped.slots:
                self._outlet.stored(ChannelId(dropped.channel_id), dropped.slots)
        if owed:
            self._outlet.owe(owed)

    async def _park(self, tx: db.Tx) -> None:
        """Keep reports that match nothing: their ack may still come; one that names an unsure part's number settles it."""
        strays = _first(self._stray, self._settings.tick_batch_max)
        unsure = await self._unsure_of(tx, strays)
        parked = [s for n, s in enumerate(strays) if n not in unsure and s.report.final]
        await self._store_parked(tx, parked)
        _forget(self._stray, strays)
        slots: dict[ChannelId, list[Any]] = {}
        for number, heard in enumerate(strays):
            if number in unsure:
                known = msgspec.structs.replace(heard.report, upstream_id=unsure[number], candidates=())
                self._reports.append(Heard(heard.channel_id, known))
            elif heard.report.slot is not None:
                slots.setdefault(heard.channel_id, []).append(heard.report.slot)
        for channel_id, given in slots.items():
            self._outlet.stored(channel_id, given)

    async def _store_parked(self, tx: db.Tx, parked: Sequence[Heard]) -> None:
        try:
            await tx.execute(
                PARK_SQL,
                [s.channel_id for s in parked],
                [s.report.upstream_id for s in parked],
                [s.report.status.number for s in parked],
                [s.report.cause.number for s in parked],
                [s.report.code for s in parked],
                [int(s.report.at_s * 1000) for s in parked],
                [self._vault.phone_index(s.report.number) if s.report.number else None for s in parked],
                [msgspec.json.encode(s.report.candidates).decode() for s in parked],
            )
        except db.Unstorable as error:
            if len(parked) == 1:
                _log_unstorable("stray report", parked[0].channel_id, error)
                return
            middle = len(parked) // 2
            await self._store_parked(tx, parked[:middle])
            await self._store_parked(tx, parked[middle:])
        else:
            self._counters.parked(len(parked))

    async def _forget_early(self, tx: db.Tx) -> None:
        """Delete parked reports only now: had we died with one in hand, the next gateway would find it."""
        served = _first(self._settled_early, self._settings.tick_batch_max)
        await tx.execute(SERVED_SQL, [channel_id for channel_id, _ in served], [key for _, key in served])
        _forget(self._settled_early, served)

    async def _unsure_of(self, tx: db.Tx, strays: Sequence[Heard]) -> Mapping[int, str]:
        named = [(n, s) for n, s in enumerate(strays) if s.report.number and s.report.final]
        if not named:
            return {}
        rows = await tx.fetch(
            UNSURE_SQL, [n for n, _ in named], [s.channel_id for _, s in named],
            [self._vault.phone_index(s.report.number) for _, s in named],
        )  # fmt: skip
        found: dict[int, str] = {}
        used: set[str] = set()
        for row in rows:
            if row["upstream_id"] not in used and row["number"] not in found:
                found[row["number"]] = row["upstream_id"]
                used.add(row["upstream_id"])
        return found


_NOTICE, _STRAY, _EARLY, _AGAIN = 0, 1, 2, 3


T = TypeVar("T")
K = TypeVar("K", Acked, Heard)


def _first(queue: deque[T], count: int) -> list[T]:
    if len(queue) <= count:
        return list(queue)
    return [queue[n] for n in range(count)]


def _ripe(queue: deque[K], size: int, taken: set[tuple[ChannelId, str]]) -> list[K]:
    """Take out the first but those whose key is taken, and second ones of a key: one statement can hit a row once."""
    ripe: list[K] = []
    later: list[K] = []
    while queue and len(ripe) < size:
        one = queue.popleft()
        key = (one.channel_id, one.upstream_id)
        if key in taken:
            later.append(one)
        else:
            taken.add(key)
            ripe.append(one)
    queue.extendleft(reversed(later))
    return ripe


def _forget(queue: deque[T], stored: Sequence[T]) -> None:
    for _ in stored:
        queue.popleft()


def _log_unstorable(what: str, channel_id: ChannelId, error: Exception) -> None:
    # By its kind alone: the text of an error can quote what could not be stored.
    log.error("tick.unstorable", what=what, channel_id=channel_id, error=type(error).__name__)


def _storable(report: Report) -> Report:
    """Take out of an upstream's words what no text of the database can hold, and cut them to a sensible length."""
    words = (report.upstream_id, report.code, *report.candidates)
    if all(word.isascii() and word.isprintable() and len(word) <= WORD_CHARACTERS_MAX for word in words):
        return report
    upstream_id, code, *candidates = (
        word[:WORD_CHARACTERS_MAX].replace("\0", "").encode(errors="replace").decode() for word in words
    )
    return msgspec.structs.replace(report, upstream_id=upstream_id, code=code, candidates=tuple(candidates))


def _owed(row: db.Row) -> Owed:
    return Owed(
        id=row["id"], tenant_id=row["tenant_id"], app_id=row["app_id"], kind=row["kind"], message_id=row["message_id"],
        status=row["status"], cause=row["cause"], code=row["code"], at=row["at"], attempt=0, reference=row["reference"],
        part_count=row["part_count"], price_micro=row["price_micro"], sealed=row["sealed"],
    )  # fmt: skip


def _early(row: db.Row) -> Report:
    at: datetime = row["at"]
    return Report(
        upstream_id=row["code_id"], status=STATUS_BY_NUMBER[row["status"]], cause=CAUSES[row["cause"]], code=row["code"],
        at_s=at.astimezone(UTC).timestamp(),
    )  # fmt: skip


# Attempts are appended as [attempt, part, channel, upstream id, sent, acked, reported (ms), status, cause, code, decision].
# `submitted` is not written on the message: it follows from the queue tables, which saves a write of the widest row.
# Where one report speaks for a whole long message, the rows of its other parts go with the row that was hit.
# A hit on a row given up as unknown (state 2) corrects what was said: the cell it was tallied in is taken back.
# Parts of one message may be settled by two gateways at once: what is folded is read under a lock, or the second to
# come would count from what the first has changed. A message of one part has one report only, and needs none.
TICK_SQL: LiteralString = """
WITH ack AS (
    INSERT INTO submitted (channel_id, upstream_id, tenant_id, message_id, part_index, attempt, sent_at, acked_at,
                           cost_micro, decision, upstream_raw)
    SELECT a.channel_id, a.upstream_id, a.tenant_id, a.message_id, a.part_index, a.attempt,
           to_timestamp(a.sent_ms / 1000.0), now(), a.cost_micro, a.decision, a.upstream_raw
      FROM unnest($1::ack_row[]) AS a
    ON CONFLICT (channel_id, upstream_id) DO UPDATE
       SET tenant_id = EXCLUDED.tenant_id, message_id = EXCLUDED.message_id, part_index = EXCLUDED.part_index,
           attempt = EXCLUDED.attempt, state = 0, sent_at = EXCLUDED.sent_at, acked_at = EXCLUDED.acked_at,
           cost_micro = EXCLUDED.cost_micro, decision = EXCLUDED.decision, upstream_raw = EXCLUDED.upstream_raw
), early AS (
    SELECT e.channel_id, e.upstream_id, e.status, e.cause, e.code, e.at
      FROM early_report e JOIN unnest($1::ack_row[]) AS a
        ON e.channel_id = a.channel_id AND e.upstream_id = a.upstream_id
), gone AS (
    DELETE FROM outbox o USING unnest($2::int[], $3::uuid[]) AS g(tenant_id, id)
     WHERE o.tenant_id = g.tenant_id AND o.id = g.id
), report AS MATERIALIZED (
    SELECT * FROM unnest($4::report_row[])
), hit AS (
    DELETE FROM submitted s USING report r WHERE s.channel_id = r.channel_id AND s.upstream_id = r.upstream_id
    RETURNING s.tenant_id, s.message_id, s.channel_id, s.upstream_id, s.part_index, s.attempt, s.state, s.sent_at, s.acked_at,
              s.cost_micro, s.decision, s.upstream_raw, r.status, r.cause, r.code, r.at_ms, r.elsewhere, r.for_all
), spoken_for AS (
    DELETE FROM submitted s USING hit h
     WHERE h.for_all AND s.message_id = h.message_id AND s.channel_id = h.channel_id AND s.attempt = h.attempt
       AND NOT (s.channel_id, s.upstream_id) IN (SELECT channel_id, upstream_id FROM report)
    RETURNING s.tenant_id, s.message_id, s.channel_id, s.upstream_id, s.part_index, s.attempt, s.state, s.sent_at, s.acked_at,
              s.cost_micro, s.decision, s.upstream_raw, h.status, h.cause, h.code, h.at_ms, h.elsewhere, h.for_all
), plain AS (
    UPDATE message m
       SET pending = 0, worst = 1, status = 1, cause = h.cause, code = h.code, cost_micro = m.cost_micro + h.cost_micro,
           channel_id = h.channel_id, done_at = now(),
           attempts = jsonb_build_array(jsonb_build_array(
               h.attempt, h.part_index, h.channel_id, coalesce(h.upstream_raw, h.upstream_id),
               (extract(epoch FROM h.sent_at) * 1000)::bigint, (extract(epoch FROM h.acked_at) * 1000)::bigint, h.at_ms,
               h.status, h.cause, h.code, h.decision))
      FROM hit h
     WHERE h.status = 1 AND h.state < 2 AND h.attempt = 1 AND m.tenant_id = h.tenant_id AND m.id = h.message_id
       AND m.part_count = 1 AND m.status = 0 AND m.attempt = 1
    RETURNING m.tenant_id, m.id, m.app_id, m.status, m.cause, m.code, m.purpose, m.template_id, m.channel_id, m.country,
              m.operator, m.province, m.part_count, m.price_micro, m.refund_micro, m.cost_micro, m.accepted_at, m.reference,
              m.sealed, false AS again, 0::smallint AS late, 0::bigint AS refunded, h.at_ms, true AS news,
              greatest(0, extract(epoch FROM now() - greatest(m.accepted_at, m.due_at)) * 1000)::bigint AS latency_ms
), part AS (
    SELECT tenant_id, message_id, count(*)::smallint AS parts, bool_or(for_all) AS for_all,
           (count(*) FILTER (WHERE state = 2))::smallint AS late,
           max(status) AS worst, (array_agg(cause ORDER BY status DESC))[1] AS cause,
           (array_agg(code ORDER BY status DESC))[1] AS code, max(channel_id) AS channel_id,
           sum(cost_micro)::bigint AS cost_micro, bool_and(elsewhere) AS elsewhere, max(at_ms) AS at_ms,
           jsonb_agg(jsonb_build_array(
               attempt, part_index, channel_id, coalesce(upstream_raw, upstream_id),
               (extract(epoch FROM sent_at) * 1000)::bigint, (extract(epoch FROM acked_at) * 1000)::bigint, at_ms,
               status, cause, code, decision)) AS attempts
      FROM (SELECT * FROM hit WHERE NOT message_id IN (SELECT id FROM plain) UNION ALL SELECT * FROM spoken_for) h
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
           cause = CASE WHEN n.status = 2 AND n.worst < 2 THEN $10::smallint
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
               CASE WHEN f.status > 1 AND old.tenant_id = ANY($8::int[]) THEN old.price_micro - old.refund_micro
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
              m.sealed, n.again, n.late, n.refund_micro AS refunded, n.at_ms,
              m.status > 0 AND (n.late = 0 OR m.status <> 2) AS news, -- unknown that stays so is none
              greatest(0, extract(epoch FROM now() - greatest(m.accepted_at, m.due_at)) * 1000)::bigint AS latency_ms
), moved AS (
    SELECT * FROM plain UNION ALL SELECT * FROM folded
), owed AS (
    INSERT INTO notice (tenant_id, app_id, kind, message_id, status, cause, code, at, lease_until)
    SELECT tenant_id, app_id, CASE WHEN late > 0 THEN 2 ELSE 1 END, id, status, cause, code, to_timestamp(at_ms / 1000.0),
           CASE WHEN app_id = ANY($7::int[]) THEN now() + interval '30 seconds' END
      FROM moved WHERE news
    RETURNING id, tenant_id, app_id, kind, message_id, status, cause, code, at
), elsewhere AS (
    INSERT INTO outbox (tenant_id, id, lane, owner, due_at, attempt, avoid_channel)
    SELECT tenant_id, id, purpose, 0, now(), 2, channel_id FROM moved WHERE again
), paid AS (
    DELETE FROM notice WHERE id = ANY($5::bigint[])
), refunded AS (
    SELECT tenant_id, sum(refunded)::bigint AS micro, count(*)::int AS messages FROM moved WHERE refunded > 0 GROUP BY tenant_id
), returned AS (
    INSERT INTO balance AS b (tenant_id, shard, amount_micro) SELECT tenant_id, $6, micro FROM refunded ORDER BY tenant_id
    ON CONFLICT (tenant_id, shard) DO UPDATE SET amount_micro = b.amount_micro + EXCLUDED.amount_micro
), booked AS (
    INSERT INTO ledger (tenant_id, kind, amount_micro, message_count) SELECT tenant_id, 'refund', micro, messages FROM refunded
), tallied AS (
    INSERT INTO tally AS t (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province,
                       latency, shard, messages, parts, price_micro, cost_micro)
    SELECT date_trunc('hour', accepted_at), tenant_id, status, cause, purpose, template_id, channel_id, country, operator,
           province, width_bucket(latency_ms, $9::bigint[]), $6, count(*), sum(part_count),
           sum(price_micro - refund_micro), sum(cost_micro)
      FROM moved WHERE news GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    UNION ALL
    SELECT date_trunc('hour', accepted_at), tenant_id, 2, $10::smallint, purpose, template_id, channel_id, country, operator,
           province, 0, $6, -count(*), -sum(part_count), -sum(price_micro - refund_micro + refunded), 0
      FROM moved WHERE news AND late > 0 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    ON CONFLICT (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency, shard)
    DO UPDATE SET messages = t.messages + EXCLUDED.messages, parts = t.parts + EXCLUDED.parts,
                  price_micro = t.price_micro + EXCLUDED.price_micro, cost_micro = t.cost_micro + EXCLUDED.cost_micro
), touched AS (
    INSERT INTO tally_touched (hour, shard)
    SELECT DISTINCT date_trunc('hour', accepted_at), $6::int FROM moved
     WHERE news AND accepted_at < date_trunc('hour', now()) ORDER BY 1
    ON CONFLICT (hour, shard) DO UPDATE SET at = clock_timestamp()
)
SELECT 0 AS what, o.id, o.tenant_id, o.app_id, o.kind, o.message_id, o.status, o.cause, o.code, o.at, m.reference,
       m.part_count, m.price_micro - m.refund_micro AS price_micro, m.sealed, m.channel_id, m.country, m.operator,
       m.latency_ms, NULL AS code_id
  FROM moved m JOIN owed o ON o.message_id = m.id
UNION ALL
SELECT 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, r.upstream_id, NULL, NULL, NULL, NULL, NULL, r.channel_id,
       NULL, NULL, NULL, NULL
  FROM report r WHERE NOT (r.channel_id, r.upstream_id) IN (SELECT channel_id, upstream_id FROM hit)
UNION ALL
SELECT 2, NULL, NULL, NULL, NULL, NULL, status, cause, code, at, NULL, NULL, NULL, NULL,
       channel_id, NULL, NULL, NULL, upstream_id FROM early
UNION ALL
SELECT 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
 WHERE EXISTS (SELECT FROM moved WHERE again)
"""

MAYBE_SQL: LiteralString = """
INSERT INTO submitted (channel_id, upstream_id, tenant_id, message_id, part_index, attempt, sent_at, cost_micro, decision,
                       phone_index, state)
SELECT u.channel_id, u.upstream_id, u.tenant_id, u.message_id, u.part_index, u.attempt, to_timestamp(u.sent_ms / 1000.0),
       u.cost_micro, u.decision, u.phone_index, 1
  FROM unnest($1::int[], $2::text[], $3::int[], $4::uuid[], $5::smallint[], $6::smallint[], $7::bigint[], $8::bigint[],
              $9::bigint[], $10::bytea[])
    AS u(channel_id, upstream_id, tenant_id, message_id, part_index, attempt, sent_ms, cost_micro, decision, phone_index)
ON CONFLICT DO NOTHING
"""

# The outbox row goes with the drop, so running it twice does nothing the second time. Parts are refunded in full
# where the tenant pays on submit; where it pays on delivery the whole message is, once it is final.
DROP_SQL: LiteralString = """
WITH dropped AS (
    DELETE FROM outbox o
     USING unnest($1::int[], $2::uuid[], $3::smallint[], $4::smallint[], $5::smallint[], $6::text[], $7::int[], $10::boolean[])
        AS d(tenant_id, id, parts, status, cause, code, channel_id, has_left)
     WHERE o.tenant_id = d.tenant_id AND o.id = d.id
    RETURNING d.tenant_id, d.id, d.parts, d.status, d.cause, d.code, d.channel_id, d.has_left
), held AS MATERIALIZED (
    SELECT m.tenant_id, m.id, m.pending, m.worst, m.lost, m.part_count, m.price_micro, m.refund_micro
      FROM dropped d JOIN message m ON m.tenant_id = d.tenant_id AND m.id = d.id
     ORDER BY m.tenant_id, m.id FOR UPDATE OF m
), moved AS (
    UPDATE message m
       SET pending = m.pending - n.parts, worst = greatest(m.worst, n.status),
           cause = CASE WHEN n.has_left THEN m.cause ELSE n.cause END,
           code = CASE WHEN n.has_left THEN m.code ELSE n.code END,
           status = n.final, refund_micro = m.refund_micro + n.refund_micro, done_at = now(),
           channel_id = CASE WHEN n.channel_id > 0 THEN n.channel_id ELSE m.channel_id END
      FROM (
        SELECT d.*, f.final,
               CASE WHEN d.has_left AND t.charge_on = 'submit' THEN 0
                    WHEN d.parts >= old.part_count OR (f.final > 1 AND t.charge_on = 'delivery')
                    THEN old.price_micro - old.refund_micro
                    ELSE least(old.price_micro / old.part_count * d.parts, old.price_micro - old.refund_micro) END AS refund_micro
          FROM dropped d
          JOIN held old ON old.tenant_id = d.tenant_id AND old.id = d.id
          JOIN tenant t ON t.id = d.tenant_id
         CROSS JOIN LATERAL (SELECT (CASE
               WHEN old.pending - d.parts > 0 THEN 0
               WHEN greatest(old.worst, d.status) >= 3 THEN greatest(old.worst, d.status)
               WHEN old.lost > 0 OR old.worst = 2 THEN 2 ELSE 1 END)::smallint AS final) f
      ) n
     WHERE m.tenant_id = n.tenant_id AND m.id = n.id AND m.status IN (0, 7)
    RETURNING m.tenant_id, m.id, m.app_id, m.status, m.cause, m.code, m.purpose, m.template_id, m.channel_id, m.country,
              m.operator, m.province, m.part_count, m.price_micro, m.refund_micro, m.cost_micro, m.accepted_at, m.reference,
              m.sealed, n.refund_micro AS refunded
), owed AS (
    INSERT INTO notice (tenant_id, app_id, kind, message_id, status, cause, code, at, lease_until)
    SELECT tenant_id, app_id, 1, id, status, cause, code, now(),
           CASE WHEN app_id = ANY($9::int[]) THEN now() + interval '30 seconds' END
      FROM moved WHERE status > 0
    RETURNING id, tenant_id, app_id, kind, message_id, status, cause, code, at
), refunded AS (
    SELECT tenant_id, sum(refunded)::bigint AS micro, count(*)::int AS messages FROM moved WHERE refunded > 0 GROUP BY tenant_id
), returned AS (
    INSERT INTO balance AS b (tenant_id, shard, amount_micro) SELECT tenant_id, $8, micro FROM refunded ORDER BY tenant_id
    ON CONFLICT (tenant_id, shard) DO UPDATE SET amount_micro = b.amount_micro + EXCLUDED.amount_micro
), booked AS (
    INSERT INTO ledger (tenant_id, kind, amount_micro, message_count) SELECT tenant_id, 'refund', micro, messages FROM refunded
), tallied AS (
    INSERT INTO tally AS t (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province,
                       latency, shard, messages, parts, price_micro, cost_micro)
    SELECT date_trunc('hour', accepted_at), tenant_id, status, cause, purpose, template_id, channel_id, country, operator,
           province, 0, $8, count(*), sum(part_count), sum(price_micro - refund_micro), sum(cost_micro)
      FROM moved WHERE status > 0 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    ON CONFLICT (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency, shard)
    DO UPDATE SET messages = t.messages + EXCLUDED.messages, parts = t.parts + EXCLUDED.parts,
                  price_micro = t.price_micro + EXCLUDED.price_micro, cost_micro = t.cost_micro + EXCLUDED.cost_micro
), touched AS (
    INSERT INTO tally_touched (hour, shard)
    SELECT DISTINCT date_trunc('hour', accepted_at), $8::int FROM moved
     WHERE status > 0 AND accepted_at < date_trunc('hour', now()) ORDER BY 1
    ON CONFLICT (hour, shard) DO UPDATE SET at = clock_timestamp()
)
SELECT o.id, o.tenant_id, o.app_id, o.kind, o.message_id, o.status, o.cause, o.code, o.at, m.reference, m.part_count,
       m.price_micro - m.refund_micro AS price_micro, m.sealed
  FROM moved m JOIN owed o ON o.message_id = m.id
"""


async def drop(tx: db.Tx, drops: Sequence[Dropped], shard: int, hooked: Sequence[int]) -> Sequence[db.Row]:
    """Settle parts that never left: final status, refund, tally and notice. Returns the notices owed."""
    rows: Sequence[db.Row] = await tx.fetch(
        DROP_SQL,
        [d.tenant_id for d in drops],
        [db.Uuid(d.message_id) for d in drops],
        [d.parts for d in drops],
        [d.status.number for d in drops],
        [d.cause.number for d in drops],
        [d.code for d in drops],
        [d.channel_id for d in drops],
        shard,
        list(hooked),
        [d.left for d in drops],
    )
    return rows


PARK_SQL: LiteralString = """
INSERT INTO early_report (channel_id, upstream_id, status, cause, code, at, phone_index, candidates)
SELECT p.channel_id, p.upstream_id, p.status, p.cause, p.code, to_timestamp(p.at_ms / 1000.0), p.phone_index,
       ARRAY(SELECT jsonb_array_elements_text(p.candidates))
  FROM unnest($1::int[], $2::text[], $3::smallint[], $4::smallint[], $5::text[], $6::bigint[], $7::bytea[], $8::jsonb[])
    AS p(channel_id, upstream_id, status, cause, code, at_ms, phone_index, candidates)
ON CONFLICT (channel_id, upstream_id) DO NOTHING
"""

UNSURE_SQL: LiteralString = """
SELECT n.number, s.upstream_id
  FROM unnest($1::int[], $2::int[], $3::bytea[]) AS n(number, channel_id, phone_index)
  JOIN submitted s ON s.channel_id = n.channel_id AND s.phone_index = n.phone_index AND s.state = 1
 ORDER BY s.sent_at
"""

# Two gateways can store an ack and park its report at the same moment, neither seeing the other's row. And where the
# ack is lost, the report is parked long before the wait for the ack is over and the part is known to be unsure: then
# the number it names must do.
REUNITE_SQL: LiteralString = """
SELECT DISTINCT ON (e.channel_id, e.upstream_id) e.channel_id, e.upstream_id AS parked_as, s.upstream_id, e.status, e.cause,
       e.code, e.at
  FROM early_report e JOIN submitted s ON s.channel_id = e.channel_id
   AND (s.upstream_id = e.upstream_id OR s.upstream_id = ANY(e.candidates)
        OR (s.state = 1 AND s.phone_index = e.phone_index AND s.sent_at < e.came_at + interval '1 second'))
 WHERE e.channel_id = ANY($1::int[])
 ORDER BY e.channel_id, e.upstream_id, s.state, s.sent_at
"""
SERVED_SQL: LiteralString = """
DELETE FROM early_report e USING unnest($1::int[], $2::text[]) AS s(channel_id, upstream_id)
 WHERE e.channel_id = s.channel_id AND e.upstream_id = s.upstream_id
"""


async def reunite(tx: db.Tx, channel_ids: Sequence[ChannelId]) -> Sequence[Heard]:
    """Find parked reports whose ack has been stored since; they stay parked until a ticker has settled them."""
    rows = await tx.fetch(REUNITE_SQL, list(channel_ids))
    return [
        Heard(
            ChannelId(row["channel_id"]),
            Report(
                upstream_id=row["upstream_id"],
                status=STATUS_BY_NUMBER[row["status"]],
                cause=CAUSES[row["cause"]],
                code=row["code"],
                at_s=row["at"].timestamp(),
            ),
            parked_as=row["parked_as"],
        )
        for row in rows
    ]
