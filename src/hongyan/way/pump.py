"""Send what can leave now: choose a channel for each message and put its parcels on that channel's line.

Writes: outbox (leaving). Entry points: Pump.soon(), after anything that may let a message leave; leave(), a loop.
Owns who said stop lately, the traces of routes, and what waits to be marked as leaving.
Surprises: the pump runs at most once a turn of the event loop, whoever asked, and never waits. While the machine is busy
and others come, promotions are held back (yielding.py). Messages that must not be doubled are committed as leaving before
their bytes leave; until then their parts are reserved on the line. A channel that is up only at another gateway is chosen as if
it were here, and then the message is given to that gateway (others.py).
"""

import asyncio
import random
import time
from collections.abc import Sequence
from functools import partial
from typing import LiteralString
from uuid import UUID

import structlog

from hongyan import clock, db
from hongyan.channels.channel import Parcel
from hongyan.vault import Vault
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import ChannelId, Status, accepted_at_s
from hongyan.way import report, route
from hongyan.way.conversion import Conversions
from hongyan.way.decision import Decisions
from hongyan.way.flight import Flight, Stream, ended, quiet_until
from hongyan.way.handover import Handed
from hongyan.way.lanes import CODES, LANES, NOTICES, Lanes
from hongyan.way.line import PROMOTIONAL, Line
from hongyan.way.lines import Lines
from hongyan.way.measure import Counters
from hongyan.way.parcels import Parcels
from hongyan.way.report import Ticker
from hongyan.way.snapshot import Keeper
from hongyan.way.tick import Gone
from hongyan.way.yielding import Yielding

log = structlog.get_logger()

PACE_LOOK_S = 0.002  # until the next look where only pace holds messages up
HELD_BACK_LOOK_S = 0.016  # the same where promotions make room for others
STOPPED_MAX = 100_000


class Pump:
    """Lets messages leave, whose turn it is. Its loop must be set before anything is to leave."""

    def __init__(
        self,
        database: db.Database,
        keeper: Keeper,
        vault: Vault,
        counters: Counters,
        conversions: Conversions,
        lanes: Lanes,
        lines: Lines,
        ticker: Ticker,
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._vault = vault
        self._counters = counters
        self._conversions = conversions
        self._lanes = lanes
        self._lines = lines
        self._ticker = ticker
        self._parcels = Parcels()
        self._decisions = Decisions()
        self._stopped: dict[tuple[bytes, int], float] = {}
        self._leaving: list[tuple[Flight, Line, list[Parcel]]] = []
        self._leave_wake = asyncio.Event()
        self._pumping = False
        self._yielding = Yielding()
        self._rooms: dict[ChannelId, int] = {}  # what is left on each line in the turns that are being taken
        self._held_back = False  # promotions, for the others' sake
        self.loop: asyncio.AbstractEventLoop

    def soon(self) -> None:
        """Pump in the next turn of the event loop."""
        if not self._pumping:
            self._pumping = True
            self.loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Send what can leave now: higher lanes first, within a lane turn by turn."""
        self._pumping = False
        now_s = time.monotonic()
        for line in self._lines.open.values():
            line.blocked_by_pace = False
            line.flush()
        waiting = self._lanes.waiting
        if waiting[CODES] or waiting[NOTICES]:
            self._yielding.others(now_s)
        for lane in LANES:
            if waiting[lane]:
                self._rooms.clear()
                self._lanes.take_turns(
                    lane, now_s, self._launch_promotion if lane == PROMOTIONAL else self._launch
                )
        paced = False
        for line in self._lines.open.values():
            line.flush()
            paced |= line.blocked_by_pace
        if paced:
            self.loop.call_later(PACE_LOOK_S, self.soon)
        elif self._held_back:
            self.loop.call_later(HELD_BACK_LOOK_S, self.soon)
        self._held_back = False
        if self._leaving:
            self._leave_wake.set()

    def ticked(self, took_s: float) -> None:
        """Hear how long the ticker's commit took."""
        self._yielding.ticked(took_s, time.monotonic())

    def _launch_promotion(self, stream: Stream, lane: int, now_s: float) -> bool:
        if not self._yielding.lets(now_s):
            self._held_back = True
            return False
        left = self._launch(stream, lane, now_s)
        if left:
            self._yielding.left()
        return left

    def _launch(self, stream: Stream, lane: int, now_s: float) -> bool:
        """Send the first message of a stream, or settle it; False if it has to wait."""
        lanes = self._lanes
        flight = stream.flights[0]
        handed = flight.handed
        if clock.now_s() >= handed.expires_at_s:
            lanes.take_off(stream, lane)
            if handed.attempt > 1:
                lanes.ask_rules(flight)  # the row knows how the first attempt ended
            else:
                self._ticker.dropped(ended(handed, Status.EXPIRED, Cause.NOT_SENT))
            return True
        if self._stopped and self._said_stop(flight):
            lanes.take_off(stream, lane)
            lanes.ask_rules(flight)
            return True
        choice = None if lanes.mixed(stream, handed) else self._choose(stream, lane, now_s)
        if choice is None:
            return self._nowhere_else(stream, flight, lane)
        assert choice.channel_id is not None
        line = self._lines.open.get(choice.channel_id)
        lanes.take_off(stream, lane)
        # A promotion may have waited longer than its hours lasted. And what came before a channel that takes templates
        # has its text only; its row knows what it was made of.
        if (lane == PROMOTIONAL and quiet_until(handed, self._keeper.current)) or (
            line is not None and line.takes_templates and handed.template_id and handed.params is None
        ):
            lanes.ask_rules(flight)
            return True
        if line is None or not line.up:  # it is up at another gateway
            self._lines.others.give(flight, choice.channel_id)
            return True
        parcels = self._parcels.of(flight, line, self._keeper.current)
        if parcels is None:
            lanes.wait_elsewhere(flight, stream.avoid | {line.row.id})
            return True
        flight.channel_id = choice.channel_id
        flight.decision = self._decision(stream, choice, handed.attempt)
        flight.left_open = flight.total = len(parcels)
        self._rooms[line.row.id] -= len(parcels)
        if not parcels:  # an earlier life has sent every part
            self._ticker.gone(Gone(handed.tenant_id, handed.id))
        elif flight.careful:
            line.reserved += len(parcels)
            self._leaving.append((flight, line, parcels))
        else:
            self._put(line, parcels, lane)
        return True

    def _put(self, line: Line, parcels: Sequence[Parcel], lane: int) -> None:
        line.put(parcels, lane)
        self._counters.submitted(len(parcels))

    # ---- by which channel

    def _choose(self, stream: Stream, lane: int, now_s: float) -> route.Choice | None:
        self._lanes.rank(stream)
        want, only = stream.want, stream.only
        states = {}
        for candidate in stream.ranking:
            line = self._lines.open.get(candidate.channel_id)
            if line is not None:
                health = line.health_of(want.country, want.operator)
                up = line.up and not line.resting(now_s)
                room = up and self._has_room(line, lane, now_s)
                if up and only is not None and not health.broken:  # there is nothing to weigh
                    return only if room else None
                states[candidate.channel_id] = route.State(up, room, health)
        if self._lines.others.away:
            self._lines.others.add(states, stream, lane)
        chance = random.random() if len(states) > 1 else 0.0  # noqa: S311 - load is shared by it, nothing is guessed
        pick: route.Pick | None = None
        if stream.flights[0].handed.given:
            pick = partial(_as_given, stream.flights[0].handed.given)
        elif lane == CODES and len(states) > 1 and self._conversions.known:
            pick = self._pick(stream)
        choice = route.choose(stream.ranking, states, chance, now_s, stream.unfiled, pick)
        return choice if choice.channel_id is not None else None

    def _has_room(self, line: Line, lane: int, now_s: float) -> bool:
        """Whether a line takes a part of this lane; what it takes is less by each part that we put there, and asked once."""
        room = self._rooms.get(line.row.id, 0)
        if room <= 0:
            room = self._rooms[line.row.id] = line.room(lane, now_s)
        return room > 0

    def _pick(self, stream: Stream) -> route.Pick:
        now_s = clock.now_s()
        waited_s = now_s - accepted_at_s(UUID(bytes=stream.flights[0].handed.id))
        return lambda equals, free, chance: self._conversions.pick(
            stream.want, equals, free, chance, now_s, waited_s
        )

    def _decision(self, stream: Stream, choice: route.Choice, attempt: int) -> int:
        number = stream.decisions.get((choice, attempt))
        if number is None:
            number = self._decisions.id_of(route.trace(stream.want, choice, self._keeper.current, attempt))
            stream.decisions[choice, attempt] = number
        return number

    async def store_decisions(self) -> None:
        """Store the traces that are new."""
        if not self._decisions.waiting:
            return
        try:
            async with self._database.transaction() as tx:
                await self._decisions.store(tx)
        except db.Unavailable as error:
            log.warning("gateway.database_lost", duty="decisions", error=type(error).__name__)

    def _nowhere_else(self, stream: Stream, flight: Flight, lane: int) -> bool:
        """What fits no channel ends, a second attempt with no other one left ends as the first did; all else waits.

        What only channels could carry that demand a filing, and it has lapsed, ends too: nobody knows for how long.
        """
        lanes, handed = self._lanes, flight.handed
        hint = ChannelId(handed.avoid_channel)
        avoid: frozenset[ChannelId] | None = None
        if lanes.mixed(stream, handed):
            avoid = stream.avoid
        elif not stream.ranking and handed.attempt == 1 and hint in stream.avoid:
            avoid = stream.avoid - {
                hint
            }  # it was to go another way than an earlier message did, and there is none
        if avoid is not None:
            lanes.take_off(stream, lane)
            lanes.wait_elsewhere(flight, avoid)
            self.soon()
            return True
        if stream.ranking or not (stream.avoid or stream.unfiled):
            return False
        if stream.unfiled and self._keeper.read_at_s <= accepted_at_s(UUID(bytes=handed.id)):
            return False  # the door may have known of a filing that we have not read yet
        lanes.take_off(stream, lane)
        if stream.unfiled and handed.attempt == 1 and not flight.unfit:
            status = Status.UNDELIVERED if handed.parts_gone else Status.REFUSED
            self._ticker.dropped(ended(handed, status, Cause.SIGN_UNREGISTERED))
            return True
        if flight.unfit:
            left = handed.attempt > 1
            self._ticker.dropped(
                ended(handed, Status.UNDELIVERED, Cause.UNSUPPORTED, flight.unfit, left=left)
            )
            return True
        lanes.ask_rules(flight)  # the row knows how the first attempt ended
        return True

    # ---- stops

    def hear_stopped(self, payload: str) -> None:
        """Hear that somebody said stop: 'hex(phone_index):tenant_id'; tenant 0 is everybody's."""
        index, _, tenant = payload.partition(":")
        if not tenant:
            return
        if len(self._stopped) >= STOPPED_MAX:
            self._stopped.pop(next(iter(self._stopped)))
        tenants = [int(tenant)] if int(tenant) else list(self._keeper.current.tenants)
        for tenant_id in tenants:
            self._stopped[bytes.fromhex(index), tenant_id] = clock.now_s()

    def _said_stop(self, flight: Flight) -> bool:
        """Whether its number said stop after the rules were last asked about it."""
        handed = flight.handed
        heard_s = self._stopped.get((self._vault.phone_index(handed.number), handed.tenant_id))
        if heard_s is None:
            return False
        return heard_s >= (flight.asked_s or accepted_at_s(UUID(bytes=handed.id)))

    # ---- leaving, for messages that must not be doubled

    async def leave(self) -> None:
        """Mark what must not be doubled as leaving, and only then put it on its line; until cancelled."""
        while True:
            await self._leave_wake.wait()
            self._leave_wake.clear()
            leaving, self._leaving = self._leaving, []
            if not leaving:
                continue
            while True:
                try:
                    await _mark_leaving(
                        self._database, [(flight.handed, line) for flight, line, _ in leaving]
                    )
                    break
                except db.Unavailable as error:
                    log.warning("gateway.database_lost", duty="leave", error=type(error).__name__)
                    await asyncio.sleep(report.RECONNECT_S)
            for flight, line, parcels in leaving:
                line.reserved -= len(parcels)
                self._put(line, parcels, flight.handed.lane)
            for line in {line for _, line, _ in leaving}:
                if not line.up:  # it went down, or was closed, meanwhile
                    self._lines.reroute(line)
            self.soon()
            if self._yielding.holds:  # each mark is a commit that others would wait behind
                await asyncio.sleep(HELD_BACK_LOOK_S)


def _as_given(
    given: int, equals: Sequence[route.Candidate], free: Sequence[route.Candidate], _chance: float
) -> route.Picked | None:
    """Keep to the channel that another gateway has chosen among equal ones, or the load would be shared twice."""
    for candidate in equals:
        if candidate.channel_id == given:
            return route.Picked(candidate if candidate in free else None, ())
    return None


# The arrays beside the join: rows are looked up by them, whatever the planner believes of a queue that was empty (tick.py).
LEAVE_SQL: LiteralString = """
UPDATE outbox o SET leaving_channel = l.channel_id, leaving_at = now()
  FROM unnest($1::int[], $2::uuid[], $3::int[]) AS l(tenant_id, id, channel_id)
 WHERE o.tenant_id = ANY($1::int[]) AND o.id = ANY($2::uuid[]) AND o.tenant_id = l.tenant_id AND o.id = l.id
"""


async def _mark_leaving(database: db.Database, leaving: Sequence[tuple[Handed, Line]]) -> None:
    await database.execute(
        LEAVE_SQL,
        [handed.tenant_id for handed, _ in leaving],
        [db.Uuid(handed.id) for handed, _ in leaving],
        [line.row.id for _, line in leaving],
    )
