"""Match reports to submissions and fold parts into the message's status: the ticker.

Writes nothing itself: tick.py has the statement of a tick, drop.py, unsure.py and early.py have the seldom ones. Entry
point: Ticker. Owns what is heard and not yet stored, in one queue a kind.
One statement a tick stores acks, settles reports, owes notices and forgets paid ones, so one commit serves all
of them. Nothing is confirmed to anybody before it is stored: window slots and report responses go back to the
channels after the commit.
Surprises: a report in the same tick as its ack waits for the next, because the parts of one statement see the
same snapshot. What a tick has in hand goes back to its queue if the database is lost.
A statement that cannot be stored is tried again with half as many rows, so that in the end one bad row fails alone.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import takewhile
from typing import Any, TypeVar

import msgspec
import structlog

from hongyan import clock, db
from hongyan.channels.channel import Report
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.message import STATUS_BY_NUMBER, ChannelId, Status
from hongyan.way import drop, early, portability, tick, unsure
from hongyan.way.days import Day, Days, day_at, day_of
from hongyan.way.drop import Dropped
from hongyan.way.measure import Counters
from hongyan.way.notify import Owed
from hongyan.way.snapshot import Keeper
from hongyan.way.tick import Acked, Gone, Heard
from hongyan.way.unsure import Maybe

log = structlog.get_logger()

RECONNECT_S = 0.2
PAID_WAIT_S = 0.1  # the longest that the row of a paid notice waits for a tick to take it along
WORD_CHARACTERS_MAX = 200  # of an id or code: ids have 64 at most in every protocol, so this is garbage


class Outlet(msgspec.Struct, frozen=True):
    """Whom the ticker tells what came of it, after the commit."""

    stored: Callable[[ChannelId, Sequence[Any]], None]  # slots back to their channel
    owe: Callable[[Sequence[Owed]], None]
    again: Callable[[], None]  # a message was put back for another channel
    settled: Callable[
        [ChannelId, str, str, Status, Cause, float], None
    ]  # channel, country, operator, …, latency
    paired: Callable[[Heard], None]  # a report whose id has several forms matched: its dialect shows
    other_channel: Callable[[ChannelId], bool]  # might another channel do better?
    speaks_for_all: Callable[[ChannelId], bool]  # does one report stand for a whole long message there?
    left: Callable[[Sequence[bytes]], None]  # these messages are no longer in the outbox
    pressed: Callable[[], bool]  # do messages wait for the places that a commit would free?
    ticked: Callable[[float], None]  # how long the commit took, in seconds


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
        self._paid_timer: asyncio.TimerHandle | None = None
        self._paid_wanted = False  # even a tick with nothing but paid notices
        self._days = Days()
        self._day = day_at(clock.now_s())  # of what was acked last: most reports will be about it

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
        self._reports.extend(
            Heard(channel_id, report, report.upstream_id) for report in map(_storable, reports)
        )
        self._wake.set()

    def reunited(self, found: Sequence[Heard]) -> None:
        """Take reports that were parked; those in hand already are not taken twice."""
        in_hand = {(heard.channel_id, heard.parked_as) for heard in self._reports} | set(self._settled_early)
        self._reports.extend(h for h in found if (h.channel_id, h.parked_as) not in in_hand)
        self._wake.set()

    def paid(self, notice_ids: Sequence[int]) -> None:
        """Take notices that were paid. Nobody waits for the end of their rows: the next tick takes them along."""
        self._paid.extend(notice_ids)
        if self._paid_timer is None:
            self._paid_timer = asyncio.get_running_loop().call_later(PAID_WAIT_S, self._want_paid)

    @property
    def reports_waiting(self) -> int:
        """How many reports are not stored yet, but for those of the tick in hand."""
        return len(self._reports) + len(self._stray)

    @property
    def idle(self) -> bool:
        """Whether everything noticed so far is stored."""
        return not (self._ticking or self._paid or self._in_need)

    @property
    def _in_need(self) -> bool:
        """Whether something is noticed that somebody waits for."""
        return bool(
            self._acks
            or self._gone
            or self._reports
            or self._dropped
            or self._maybe
            or self._stray
            or self._settled_early
        )

    # ---- the loop

    async def run(self) -> None:
        """Store what comes, until cancelled. A lost database is waited for: everything stays in memory meanwhile."""
        holder = db.Holder(self._database)
        ended_s = 0.0
        try:
            while True:
                if not (self._in_need or self._paid_wanted):
                    self._wake.clear()
                    await self._wake.wait()
                await asyncio.sleep(ended_s + self._gap_s() - time.monotonic())
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
                    ended_s = time.monotonic()
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
        if acks:
            self._day = day_of(acks[-1].message_id)
        gone = self._leaving(self._gone)
        paid = _first(self._paid, size * 4)
        delivered: list[Heard] = []
        others: list[Heard] = []
        for heard in reports:
            (delivered if heard.report.status is Status.DELIVERED else others).append(heard)
        started_s = time.perf_counter()
        try:
            await self._learn(tx, others)
            rows = await tick.store(
                tx, acks, gone, delivered, paid, days=self._days, day=self._day, shard=self._shard,
                snapshot=self._keeper.current,
            )  # fmt: skip
        except db.Unstorable as error:
            self._halve(acks, reports, error)
            return
        except BaseException:
            self._put_back(acks, reports)
            raise
        self._rows_max = min(2 * self._rows_max, self._rows_full)
        took_s = time.perf_counter() - started_s
        self._counters.ticked(len(acks), len(reports), len(paid), took_s)
        self._outlet.ticked(took_s)
        _forget(self._gone, gone)
        self._forget_paid(paid)
        self._outlet.left([g.message_id for g in gone])
        others += self._tell(acks, delivered, rows)
        if others:
            await self._fold(tx, others)

    async def _fold(self, tx: db.Tx, reports: list[Heard]) -> None:
        """Settle the reports that were not plain. What is stored is told at once; one that fails alone is set aside."""
        left: deque[tuple[Day | None, Sequence[Heard]]] = deque([(None, reports)])
        try:
            while left:
                day, some = left[0]
                more: list[tuple[Day | None, Sequence[Heard]]] = []
                try:
                    if day is None:
                        more.extend(await self._found(tx, some))
                    else:
                        await self._fold_day(tx, day, some)
                except db.Unstorable as error:
                    middle = len(some) // 2
                    if middle:
                        more = [(day, some[:middle]), (day, some[middle:])]
                    else:
                        self._set_aside((), some, error)
                left.popleft()
                left.extend(more)
        except BaseException:
            for _, some in reversed(left):
                self._put_back((), some)
            raise

    async def _found(self, tx: db.Tx, reports: Sequence[Heard]) -> Iterable[tuple[Day, Sequence[Heard]]]:
        """Return the reports by the day of their message; those that match nothing are tried in their next form."""
        found, strays = await tick.find(tx, reports)
        for heard in strays:
            self._next_form(heard)
        return found.items()

    async def _fold_day(self, tx: db.Tx, day: Day, reports: Sequence[Heard]) -> None:
        rows = await tick.fold(
            tx, reports, days=self._days, day=day, shard=self._shard, snapshot=self._keeper.current,
            other_channel=self._outlet.other_channel, speaks_for_all=self._outlet.speaks_for_all,
        )  # fmt: skip
        self._tell_folded(reports, rows)

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

    def _want_paid(self) -> None:
        self._paid_wanted = True
        self._wake.set()

    def _forget_paid(self, paid: Sequence[int]) -> None:
        _forget(self._paid, paid)
        if not self._paid:
            self._paid_wanted = False
            if self._paid_timer is not None:
                self._paid_timer.cancel()
                self._paid_timer = None

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

    def _tell(
        self, acks: Sequence[Acked], reports: Sequence[Heard], rows: Sequence[db.Row]
    ) -> Collection[Heard]:
        """After the commit: slots back, notices to the clerk, early reports to the next tick.

        Returns the reports that were not plain.
        """
        others = dict(enumerate(reports, 1))
        plain: list[Heard] = []
        owed: list[Owed] = []
        for row in rows:
            place = row["place"]
            if place is None:
                self._reports.append(tick.early_of(row))
                continue
            heard = others.pop(place)
            plain.append(heard)
            owed.append(tick.plain_of(row, heard.report))
            self._settled(heard.channel_id, row, Status.DELIVERED, heard.report.cause)
        self._confirm(acks, plain)
        if owed:
            self._outlet.owe(owed)
        return others.values()

    def _tell_folded(self, reports: Sequence[Heard], rows: Sequence[db.Row]) -> None:
        """After the commit of a fold: slots back, notices to the clerk, strays to their next form or the park."""
        owed: list[Owed] = []
        stray: set[tuple[int, str]] = set()
        for row in rows:
            what = row["what"]
            if what == tick.NOTICE:
                owed.append(tick.owed_of(row))
                self._settled(row["channel_id"], row, STATUS_BY_NUMBER[row["status"]], CAUSES[row["cause"]])
            elif what == tick.STRAY:
                stray.add((row["channel_id"], row["upstream_id"]))
            else:
                self._outlet.again()
        matched: list[Heard] = []
        for heard in reports:
            if (heard.channel_id, heard.upstream_id) in stray:
                self._next_form(heard)
            else:
                matched.append(heard)
        self._confirm((), matched)
        if owed:
            self._outlet.owe(owed)

    def _confirm(self, acks: Sequence[Acked], reports: Sequence[Heard]) -> None:
        slots: dict[ChannelId, list[Any]] = {}
        for ack in acks:
            slots.setdefault(ack.channel_id, []).append(ack.slot)
        for heard in reports:
            if heard.report.candidates:
                self._outlet.paired(heard)
            if heard.parked_as:
                self._settled_early.append((heard.channel_id, heard.parked_as))
            if heard.report.slot is not None:
                slots.setdefault(heard.channel_id, []).append(heard.report.slot)
        for channel_id, given in slots.items():
            self._outlet.stored(channel_id, given)

    def _settled(self, channel_id: ChannelId, row: db.Row, status: Status, cause: Cause) -> None:
        latency_s = row["latency_ms"] / 1000
        self._outlet.settled(channel_id, row["country"], row["operator"], status, cause, latency_s)
        self._counters.final(status, cause)
        if status is Status.DELIVERED:
            self._counters.delivered_after(latency_s)

    def _next_form(self, heard: Heard) -> None:
        if heard.form < len(heard.report.candidates):
            tried = heard.report.candidates[heard.form]
            self._reports.append(msgspec.structs.replace(heard, upstream_id=tried, form=heard.form + 1))
        else:
            self._stray.append(heard)

    # ---- the seldom ways

    async def _store_maybe(self, tx: db.Tx) -> None:
        parts = _first(self._maybe, self._settings.tick_batch_max)
        await unsure.keep(tx, parts)
        _forget(self._maybe, parts)

    async def _store_dropped(self, tx: db.Tx) -> None:
        drops = self._leaving(self._dropped)
        if not drops:
            return
        rows = await drop.settle(tx, drops, self._shard, self._keeper.current.hooked_apps, self._days)
        _forget(self._dropped, drops)
        self._outlet.left([d.message_id for d in drops])
        owed = [tick.owed_of(row) for row in rows]
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
        named = await unsure.named(tx, self._vault, strays)
        parked = [s for n, s in enumerate(strays) if n not in named and s.report.final]
        await self._store_parked(tx, parked)
        _forget(self._stray, strays)
        slots: dict[ChannelId, list[Any]] = {}
        for number, heard in enumerate(strays):
            if number in named:
                known = msgspec.structs.replace(heard.report, upstream_id=named[number], candidates=())
                self._reports.append(Heard(heard.channel_id, known, known.upstream_id))
            elif heard.report.slot is not None:
                slots.setdefault(heard.channel_id, []).append(heard.report.slot)
        for channel_id, given in slots.items():
            self._outlet.stored(channel_id, given)

    async def _store_parked(self, tx: db.Tx, parked: Sequence[Heard]) -> None:
        try:
            await early.park(tx, self._vault, parked)
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
        await early.forget(tx, served)
        _forget(self._settled_early, served)


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
    said = "".join(words)
    if len(said) <= WORD_CHARACTERS_MAX and said.isascii() and said.isprintable():
        return report
    upstream_id, code, *candidates = (
        word[:WORD_CHARACTERS_MAX].replace("\0", "").encode(errors="replace").decode() for word in words
    )
    return msgspec.structs.replace(report, upstream_id=upstream_id, code=code, candidates=tuple(candidates))
