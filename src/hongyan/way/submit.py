"""Claim what is due, pace it, hand each part to its channel, keep the answers: the gateway.

Writes: outbox (owner, leaving), submitted (asked_at), gateway, session_lease, dialect. Entry point: Gateway.
Messages wait in lanes by purpose, in each lane by tenant (shared by weight) and by what they want of a route, so
that nobody waits behind a message that only another channel could carry. What upstreams answer goes to the
ticker (report.py) and is forgotten here only when it is stored there.
Surprises: rows are born owned by this gateway and handed over in memory; the sweep and the claims are for
recovery, schedules and backlog. Promotional messages are committed as leaving before their bytes leave.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

import msgspec
import structlog

from hongyan import clock, db
from hongyan.channels import kinds
from hongyan.channels.channel import (
    Ack,
    Answer,
    Channel,
    ChannelState,
    Declined,
    Inbound,
    Parcel,
    Report,
    Throttled,
    Unreachable,
    Unsure,
    Wording,
)
from hongyan.egress import Egress
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab import phone, text
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.message import PURPOSES, ChannelId, Purpose, Status, TenantId, accepted_at_s
from hongyan.way import conversion, guard, report, route, state
from hongyan.way.decision import Decisions
from hongyan.way.handover import Handed
from hongyan.way.line import PROMOTIONAL, Line
from hongyan.way.measure import Counters
from hongyan.way.notify import Owed
from hongyan.way.report import Acked, Dropped, Gone, Heard, Maybe, Outlet, Ticker
from hongyan.way.snapshot import ChannelRow, Keeper, Snapshot

log = structlog.get_logger()

LANES = (0, 1, 2)
CODES = Purpose.OTP.number  # the lane whose channels are chosen by what people enter
QUANTUM = 8  # messages a tenant of weight 1 sends before the next tenant's turn
PUMP_IDLE_S = 0.05  # how often waiting messages are looked at when nothing wakes us
LEASE_S = 6.0
LEASE_GAP_S = 2.0
CLAIM_LOW = 1_000  # fewer waiting in a lane than this: claim more
ORPHAN_AGE_S = 1.5  # a row of ours this old that nobody handed over is swept up
SWEPT_KEEP_S = 60.0
STOPPED_MAX = 100_000
ASK_GAP_S = 1.0
ASKS_PER_GAP = 5
REFUSALS_MAX = 2  # of one message by upstreams that cannot take it now; then it is put off
PUT_OFF_S, PUT_OFF_S_MAX = 1.0, 300.0  # half as long as the message is old
UNSURE_AGAIN_MAX = (
    5  # how often what may be sent again is, each time unsure: a person must not get a text for ever
)
LONG_TEXT = "x" * 200  # more than one part, whatever the counting
HAND_BACK_TRIES = 3
STOPPED_TOPIC = "stopped"


class Flight:
    """A message in memory, from its arrival here until its last answer is stored."""

    __slots__ = (
        "asked_s",
        "careful",
        "channel_id",
        "decision",
        "declined",
        "fresh",
        "handed",
        "left_open",
        "order",
        "refusals",
        "stream",
        "total",
        "unfit",
        "unsure",
        "why",
    )

    def __init__(self, handed: Handed, order: int) -> None:
        self.handed = handed
        self.order = order
        self.careful = handed.lane == PROMOTIONAL or not handed.resend  # never twice
        self.fresh = False  # it was never ours in an earlier life, and nobody is known to have sent any of it
        self.asked_s = 0.0  # when its rules were asked again; 0: not since it was accepted
        self.stream: _Stream
        self.channel_id = ChannelId(0)
        self.decision = 0
        self.left_open = 0  # parts under way, without an answer
        self.total = 0  # parts put on the line
        self.refusals = 0  # times an upstream said that it does not take this now
        self.unfit = ""  # why some channel could not carry it
        self.unsure = 0  # parts that were sent and not answered, each time
        self.declined: list[Any] = []  # slots of declined parts
        self.why: Declined | None = None

    @property
    def parts_each(self) -> int:
        """How many parts a parcel stands for: all of them where the channel takes a long text whole."""
        return self.handed.part_count - len(self.handed.parts_gone) if self.total == 1 else 1


class _Stream:
    """Messages that want the same of a route, in order."""

    __slots__ = ("avoid", "decisions", "flights", "ranking", "unfiled", "version", "want")

    def __init__(self, want: route.Want, avoid: frozenset[ChannelId]) -> None:
        self.want = want
        self.avoid = avoid
        self.flights: deque[Flight] = deque()
        self.ranking: Sequence[route.Candidate] = ()
        self.unfiled: Sequence[ChannelId] = ()  # that demand a filing the signature does not have
        self.version = 0
        self.decisions: dict[route.Choice, int] = {}


class _Tenant:
    """A tenant's streams in one lane. Its turn may last over many pumps: rooms come one slot at a time."""

    __slots__ = ("left", "streams", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.left = QUANTUM * weight  # of its turn
        self.streams: dict[tuple[Any, ...], _Stream] = {}


class _Sink:
    """What one channel tells, with its id."""

    def __init__(self, gateway: "Gateway", channel_id: ChannelId) -> None:
        self._gateway = gateway
        self._channel_id = channel_id

    def answered(self, answers: Sequence[Answer]) -> None:
        self._gateway.answered(self._channel_id, answers)

    def reported(self, reports: Sequence[Report]) -> None:
        self._gateway.reported(self._channel_id, reports)

    def arrived(self, inbound: Sequence[Inbound]) -> None:
        self._gateway.arrived(self._channel_id, inbound)

    def changed(self, state: ChannelState) -> None:
        self._gateway.changed(self._channel_id, state)


class Gateway:
    """One per process. take() gets handed-over rows; run() does the rest."""

    def __init__(
        self,
        database: db.Database,
        keeper: Keeper,
        vault: Vault,
        settings: Settings,
        counters: Counters,
        owe: Callable[[Sequence[Owed]], None],
        inbound: Callable[[ChannelId, Sequence[Inbound]], None],
        egress: Egress | None = None,
    ) -> None:
        """`egress` is the way out of channels to HTTP providers; without it they never submit."""
        self._database = database
        self._keeper = keeper
        self._vault = vault
        self._settings = settings
        self._counters = counters
        self._inbound = inbound
        self._egress = egress
        self._number = settings.gateway
        self.ticker = Ticker(
            database, keeper, vault, settings, counters,
            Outlet(self._stored, owe, self._again, self._settled, self._paired, self._other_channel,
                   self._speaks_for_all, self._left, self._pressed),
        )  # fmt: skip
        self._lines: dict[ChannelId, Line] = {}
        self._mine: dict[bytes, Flight] = {}
        self._lanes: tuple[dict[TenantId, _Tenant], ...] = ({}, {}, {})
        self._waiting = [0, 0, 0]
        self._order = 0
        self._swept: dict[bytes, float] = {}
        self._stopped: dict[tuple[bytes, int], float] = {}
        self._recheck: list[Handed] = []
        self._later: list[tuple[Handed, float]] = []  # put off, and until when
        self._leaving: list[tuple[Flight, Line, list[Parcel]]] = []
        self._decisions = Decisions()
        self._conversions = conversion.Conversions(settings.code_value_micro, random.Random())  # noqa: S311 - load is shared by it
        self._dialects: dict[ChannelId, str] = {}  # as stored
        self._learned: list[tuple[ChannelId, str]] = []
        self._slots: dict[ChannelId, int] = {}  # sessions we hold
        self._shutting: dict[ChannelId, asyncio.Task[None]] = {}  # lines that are being closed
        self._with_others: frozenset[ChannelId] = frozenset()  # channels others hold sessions of
        self._drained: dict[
            ChannelId, float
        ] = {}  # channels that were to be drained and are: until when at most
        self._tended = 0  # the snapshot that lines were last tended by
        self._pumping = False
        self._claim_wake = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._leave_wake = asyncio.Event()
        self._learn_wake = asyncio.Event()
        self._lease_wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._tasks: asyncio.TaskGroup
        self._closing = False
        self._reference = random.getrandbits(16)

    # ---- in

    @property
    def socket_name(self) -> str:
        return f"gateway-{self._number}.sock"

    def waiting(self) -> Sequence[int]:
        """Return how many messages wait in memory, by lane."""
        return self._waiting

    def waiting_by_lane(self) -> Mapping[str, float]:
        return {PURPOSES[lane].value: self._waiting[lane] for lane in LANES}

    def sessions_by_channel(self) -> Mapping[str, float]:
        return {line.row.name: line.sessions for line in self._lines.values()}

    def take(self, rows: Sequence[Handed]) -> None:
        """Take over rows that were just committed as ours."""
        for handed in rows:
            if handed.id not in self._mine and handed.id not in self._swept and handed.owner == self._number:
                self._enter(handed, fresh=True)
        self._pump_soon()

    def _enter(self, handed: Handed, *, fresh: bool) -> Flight:
        self._order += 1
        flight = self._mine[handed.id] = Flight(handed, self._order)
        flight.fresh = fresh
        avoid = frozenset({ChannelId(handed.avoid_channel)}) if handed.avoid_channel else frozenset()
        self._stream_for(flight, avoid).flights.append(flight)
        return flight

    def _stream_for(self, flight: Flight, avoid: frozenset[ChannelId]) -> _Stream:
        """Find or make the stream of messages that want the same; the caller adds this one to it."""
        handed = flight.handed
        lane = self._lanes[handed.lane]
        tenant_id = TenantId(handed.tenant_id)
        tenant = lane.get(tenant_id)
        if tenant is None:
            known = self._keeper.current.tenants.get(tenant_id)
            tenant = lane[tenant_id] = _Tenant(known.weight if known else 1)
        signature_id = handed.signature_id if self._keeper.current.demands_filing else 0
        province = handed.province if handed.lane == CODES and self._conversions.known else ""
        key = (handed.country, handed.operator, handed.sandbox, avoid, signature_id, province)
        stream = tenant.streams.get(key)
        if stream is None:
            stream = tenant.streams[key] = _Stream(_want_of(handed, signature_id, province), avoid)
        flight.stream = stream
        self._waiting[handed.lane] += 1
        return stream

    # ---- out

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Send what can leave now: higher lanes first, within a lane turn by turn."""
        self._pumping = False
        now_s = time.monotonic()
        for line in self._lines.values():
            line.blocked_by_pace = False
            line.flush()
        for lane in LANES:
            if self._waiting[lane]:
                self._pump_lane(lane, now_s)
        paced = False
        for line in self._lines.values():
            line.flush()
            paced |= line.blocked_by_pace
        if paced:
            self._loop.call_later(0.002, self._pump_soon)
        if self._leaving:
            self._leave_wake.set()

    def _pump_lane(self, lane: int, now_s: float) -> None:
        tenants = self._lanes[lane]
        active = list(tenants.items())
        while active:
            still = []
            for tenant_id, tenant in active:
                if self._turn(tenant, lane, now_s):
                    tenants[tenant_id] = tenants.pop(tenant_id)  # who has had a turn stands behind the others
                    still.append((tenant_id, tenant))
                elif not tenant.streams:
                    del tenants[tenant_id]
            active = still

    def _turn(self, tenant: _Tenant, lane: int, now_s: float) -> bool:
        """Let one tenant go on with its turn; True if that is used up."""
        for key, stream in list(tenant.streams.items()):
            while stream.flights and tenant.left:
                if not self._launch(stream, lane, now_s):
                    break
                tenant.left -= 1
            del tenant.streams[key]
            if stream.flights:
                tenant.streams[key] = stream  # the others first next time
            if not tenant.left:
                tenant.left = QUANTUM * tenant.weight
                return True
        return False

    def _launch(self, stream: _Stream, lane: int, now_s: float) -> bool:
        """Send the first message of a stream, or settle it; False if it has to wait."""
        flight = stream.flights[0]
        handed = flight.handed
        if clock.now_s() >= handed.expires_at_s:
            self._unqueue(stream, lane)
            if handed.attempt > 1:
                self._ask_rules(flight)  # the row knows how the first attempt ended
            else:
                self._drop(flight, Status.EXPIRED, Cause.NOT_SENT, "")
            return True
        if self._stopped and self._said_stop(flight):
            self._unqueue(stream, lane)
            self._ask_rules(flight)
            return True
        choice = None if self._mixed(stream, handed) else self._choose(stream, lane, now_s)
        if choice is None:
            return self._nowhere_else(stream, flight, lane)
        if lane == PROMOTIONAL and self._quiet_until(handed):  # it waited here longer than its hours lasted
            self._unqueue(stream, lane)
            self._ask_rules(flight)
            return True
        assert choice.channel_id is not None
        line = self._lines[choice.channel_id]
        if line.takes_templates and handed.template_id and handed.params is None:
            self._unqueue(stream, lane)
            self._ask_rules(flight)  # it came before the channel; the row knows what it was made of
            return True
        parcels = self._parcels(flight, line)
        if parcels is None:
            self._unqueue(stream, lane)
            self._does_not_fit(flight, line)
            return True
        self._unqueue(stream, lane)
        flight.channel_id = choice.channel_id
        flight.decision = self._decision(stream, choice, handed.attempt)
        flight.left_open = flight.total = len(parcels)
        if not parcels:  # an earlier life has sent every part
            self.ticker.gone(Gone(handed.tenant_id, handed.id))
        elif flight.careful:
            line.reserved += len(parcels)
            self._leaving.append((flight, line, parcels))
        else:
            self._put(line, parcels, lane)
        return True

    def _said_stop(self, flight: Flight) -> bool:
        """Whether its number said stop after the rules were last asked about it."""
        handed = flight.handed
        heard_s = self._stopped.get((self._vault.phone_index(handed.number), handed.tenant_id))
        if heard_s is None:
            return False
        return heard_s >= (flight.asked_s or accepted_at_s(UUID(bytes=handed.id)))

    def _put(self, line: Line, parcels: Sequence[Parcel], lane: int) -> None:
        line.put(parcels, lane)
        self._counters.submitted(len(parcels))

    def _unqueue(self, stream: _Stream, lane: int) -> None:
        stream.flights.popleft()
        self._waiting[lane] -= 1

    def _choose(self, stream: _Stream, lane: int, now_s: float) -> route.Choice | None:
        self._rank(stream)
        want = stream.want
        states = {}
        for candidate in stream.ranking:
            line = self._lines.get(candidate.channel_id)
            if line is not None:
                health = line.health_of(want.country, want.operator)
                up = line.up and not line.resting(now_s)
                states[candidate.channel_id] = route.State(up, up and line.room(lane, now_s) > 0, health)
        chance = random.random() if len(states) > 1 else 0.0  # noqa: S311 - load is shared by it, nothing is guessed
        pick = self._pick(stream) if lane == CODES and len(states) > 1 and self._conversions.known else None
        choice = route.choose(stream.ranking, states, chance, now_s, stream.unfiled, pick)
        return choice if choice.channel_id is not None else None

    def _pick(self, stream: _Stream) -> route.Pick:
        now_s = clock.now_s()
        waited_s = now_s - accepted_at_s(UUID(bytes=stream.flights[0].handed.id))
        return lambda equals, free, chance: self._conversions.pick(
            stream.want, equals, free, chance, now_s, waited_s
        )

    def _rank(self, stream: _Stream) -> None:
        snapshot = self._keeper.current
        if stream.version != snapshot.version:
            ranking = route.candidates(stream.want, snapshot)
            stream.ranking = [c for c in ranking if c.channel_id not in stream.avoid]
            stream.unfiled = route.not_filed(stream.want, snapshot)
            stream.version = snapshot.version
            stream.decisions.clear()

    def _mixed(self, stream: _Stream, handed: Handed) -> bool:
        """Whether signatures share the stream, from when no channel demanded filings, and now they may not."""
        return self._keeper.current.demands_filing and stream.want.signature_id != handed.signature_id

    def _nowhere_else(self, stream: _Stream, flight: Flight, lane: int) -> bool:
        """What fits no channel ends, a second attempt with no other one left ends as the first did; all else waits.

        What only channels could carry that demand a filing, and it has lapsed, ends too: nobody knows for how long.
        """
        if self._mixed(stream, flight.handed):
            self._unqueue(stream, lane)
            self._stream_for(flight, stream.avoid).flights.append(flight)
            self._pump_soon()
            return True
        hint = ChannelId(flight.handed.avoid_channel)
        if not stream.ranking and flight.handed.attempt == 1 and hint in stream.avoid:
            self._unqueue(
                stream, lane
            )  # it was to go another way than an earlier message did, and there is none
            self._stream_for(flight, stream.avoid - {hint}).flights.append(flight)
            self._pump_soon()
            return True
        if stream.ranking or not (stream.avoid or stream.unfiled):
            return False
        if stream.unfiled and self._keeper.read_at_s <= accepted_at_s(UUID(bytes=flight.handed.id)):
            return False  # the door may have known of a filing that we have not read yet
        self._unqueue(stream, lane)
        if stream.unfiled and flight.handed.attempt == 1 and not flight.unfit:
            status = Status.UNDELIVERED if flight.handed.parts_gone else Status.REFUSED
            self._drop(flight, status, Cause.SIGN_UNREGISTERED, "")
            return True
        if flight.unfit:
            left = flight.handed.attempt > 1
            self._drop(flight, Status.UNDELIVERED, Cause.UNSUPPORTED, flight.unfit, left=left)
            return True
        self._ask_rules(flight)  # the row knows how the first attempt ended
        return True

    def _ask_rules(self, flight: Flight) -> None:
        """Load a message anew that was taken off its stream, and ask the rules about it."""
        self._recheck.append(flight.handed)
        self._claim_wake.set()

    def _does_not_fit(self, flight: Flight, line: Line) -> None:
        """Route it anew without this channel."""
        stream = self._stream_for(flight, flight.stream.avoid | {line.row.id})
        stream.flights.append(flight)

    def _parcels(self, flight: Flight, line: Line) -> list[Parcel] | None:
        """Make a message's parcels; None if the line cannot carry it.

        fitting() says why.
        """
        handed = flight.handed
        fit = fitting(handed, line.row, line.channel, self._keeper.current)
        if isinstance(fit, str):
            flight.unfit = fit
            return None
        parts, wording = fit
        extension = self._keeper.current.extension_at(line.row.id, handed.signature_id, handed.extension)
        sender = line.row.access_number + extension
        validity_s = max(1, int(handed.expires_at_s - clock.now_s()))
        reference = 0
        if len(parts) > 1:
            self._reference = reference = (self._reference + 1) & 0xFFFF
        return [
            Parcel(flight, handed.number, sender, part.octets, part.encoding, part.index, part.total, reference,
                   part.shift.locking << 8 | part.shift.single, validity_s, wording)
            for part in parts
            if part.index not in handed.parts_gone
        ]  # fmt: skip

    def _decision(self, stream: _Stream, choice: route.Choice, attempt: int) -> int:
        number = stream.decisions.get(choice)
        if number is None:
            number = self._decisions.id_of(route.trace(stream.want, choice, self._keeper.current, attempt))
            stream.decisions[choice] = number
        return number

    def _drop(self, flight: Flight, status: Status, cause: Cause, code: str, *, left: bool = False) -> None:
        handed = flight.handed
        self.ticker.dropped(
            Dropped(
                handed.tenant_id,
                handed.id,
                handed.part_count - len(handed.parts_gone),
                status,
                cause,
                code,
                left=left,
            )
        )

    # ---- what channels tell

    def answered(self, channel_id: ChannelId, answers: Sequence[Answer]) -> None:
        """Take in what became of parcels."""
        line = self._lines[channel_id]
        acks = 0
        back: list[Flight] = []
        for answer in answers:
            flight: Flight = answer.parcel.handle
            outcome = answer.outcome
            if isinstance(outcome, Ack):
                acks += 1
                line.refused_in_a_row = 0
                line.figures.answered("ack", answer.at_s, answer.at_s - answer.sent_at_s)
                self._acked(flight, line, answer, outcome)
                continue
            word = type(outcome).__name__.lower()
            self._counters.answered(word)
            line.figures.failed(word, answer.at_s, _words_of(outcome))
            if isinstance(outcome, Declined):
                flight.why = outcome
                flight.declined.append(answer.slot)
                self._part_done(flight, line)
            elif isinstance(outcome, Throttled):
                line.again(answer.parcel)
                line.channel.stored((answer.slot,))
            elif isinstance(outcome, Unreachable):
                back += self._did_not_leave(flight, line, answer)
            else:
                back += self._unsure(flight, line, answer)
        self._back(back, line)
        self._counters.answered("ack", acks)
        self._pump_soon()

    def _acked(self, flight: Flight, line: Line, answer: Answer, ack: Ack) -> None:
        handed, parcel = flight.handed, answer.parcel
        if (
            not ack.upstream_id
        ):  # taken, but no report can name it; one that names the number may still settle it
            self._wait_unsure(flight, line, answer)
            return
        self.ticker.acked(
            Acked(
                channel_id=line.row.id, upstream_id=ack.upstream_id,
                upstream_raw=ack.upstream_raw if ack.upstream_raw != ack.upstream_id else None,
                tenant_id=handed.tenant_id, message_id=handed.id, part_index=parcel.part_index, attempt=handed.attempt,
                sent_ms=int(answer.sent_at_s * 1000), cost_micro=line.row.cost_micro * flight.parts_each, decision=flight.decision,
                slot=answer.slot,
            )
        )  # fmt: skip
        self._part_done(flight, line)

    def _part_done(self, flight: Flight, line: Line) -> None:
        handed = flight.handed
        if handed.lane == PROMOTIONAL:
            line.open_promotional -= 1
        flight.left_open -= 1
        if flight.left_open:
            return
        if flight.why is None:
            self.ticker.gone(Gone(handed.tenant_id, handed.id))
            return
        self.ticker.dropped(
            Dropped(
                handed.tenant_id, handed.id, len(flight.declined) * flight.parts_each, Status.UNDELIVERED,
                flight.why.cause, flight.why.code, line.row.id, tuple(flight.declined),
            )
        )  # fmt: skip

    def _did_not_leave(self, flight: Flight, line: Line, answer: Answer) -> Sequence[Flight]:
        """It may go by another channel, unless other parts of it have gone by this one; the line rests a moment.

        Returns the message if it is to be put back.
        """
        line.channel.stored((answer.slot,))
        line.again(answer.parcel)
        whole = line.holds(flight) == flight.total
        answered = answer.slot is not None  # else no session was there to ask
        if answered:
            line.refused_in_a_row += 1
            flight.refusals += 1
        only_this = answered and whole and line.takes_others
        if not only_this or (flight.refusals == 1 and len(self._lines) > 1):
            line.rest(time.monotonic())
        if not whole:
            return ()
        line.take_out(flight)
        if only_this and flight.refusals > REFUSALS_MAX:
            self._put_off(flight, line)
            return ()
        return (flight,)

    def _put_off(self, flight: Flight, line: Line) -> None:
        """Try a message later that is refused again and again while others are taken: they need not wait for it."""
        handed = flight.handed
        if handed.lane == PROMOTIONAL:
            line.open_promotional -= flight.total
        age_s = clock.now_s() - accepted_at_s(UUID(bytes=handed.id))
        self._later.append((handed, clock.now_s() + min(max(age_s / 2, PUT_OFF_S), PUT_OFF_S_MAX)))
        self._claim_wake.set()

    def _back(self, flights: Sequence[Flight], line: Line) -> None:
        """Put messages back at the head of their streams, in the order in which they came, to be routed anew."""
        returned: dict[_Stream, list[Flight]] = {}
        for flight in flights:
            if flight.handed.lane == PROMOTIONAL:
                line.open_promotional -= flight.total
            returned.setdefault(self._stream_for(flight, flight.stream.avoid), []).append(flight)
        for stream, head in returned.items():
            last = max(flight.order for flight in head)
            while stream.flights and stream.flights[0].order < last:
                head.append(stream.flights.popleft())  # came back earlier
            stream.flights.extendleft(sorted(head, key=lambda flight: flight.order, reverse=True))

    def _unsure(self, flight: Flight, line: Line, answer: Answer) -> Sequence[Flight]:
        """It may have left. Codes, and notices that may, are sent again, so often; the others wait for a report.

        Returns the message if it is to be put back.
        """
        flight.unsure += 1
        if flight.careful or flight.unsure > UNSURE_AGAIN_MAX * flight.total:
            self._wait_unsure(flight, line, answer)
            return ()
        line.channel.stored((answer.slot,))
        if flight.total > 1:
            line.again(answer.parcel)
            return ()
        return (flight,)

    def _wait_unsure(self, flight: Flight, line: Line, answer: Answer) -> None:
        handed, parcel = flight.handed, answer.parcel
        line.channel.stored((answer.slot,))
        self.ticker.maybe(
            Maybe(
                channel_id=line.row.id, tenant_id=handed.tenant_id, message_id=handed.id, part_index=parcel.part_index,
                attempt=handed.attempt, sent_ms=int(answer.sent_at_s * 1000), cost_micro=line.row.cost_micro * flight.parts_each,
                decision=flight.decision, phone_index=self._vault.phone_index(handed.number),
            )
        )  # fmt: skip
        self._part_done(flight, line)

    def reported(self, channel_id: ChannelId, reports: Sequence[Report]) -> None:
        """Take in reports; intermediate ones settle nothing and are only confirmed."""
        final = [r for r in reports if r.final]
        if len(final) != len(reports):
            self._lines[channel_id].channel.stored([r.slot for r in reports if not r.final])
        self.ticker.reported(channel_id, final)

    def arrived(self, channel_id: ChannelId, inbound: Sequence[Inbound]) -> None:
        self._inbound(channel_id, inbound)

    def changed(self, channel_id: ChannelId, link: ChannelState) -> None:
        """Hear how a link is. What waited for a line that went down is routed anew."""
        line = self._lines.get(channel_id)
        if line is None:
            return
        was_up = line.up
        line.changed(link)
        if was_up != line.up:
            log.info(
                "channel.link",
                channel=line.row.name,
                link=link.link,
                sessions=link.sessions_up,
                reason=link.reason,
            )
        if not line.up:
            self._reroute(line)
        self._pump_soon()

    def _reroute(self, line: Line) -> None:
        """Route anew what waits for a line that went down, but messages of which parts have left there."""
        parcels = line.take_back()
        counts: Counter[Flight] = Counter(parcel.handle for parcel in parcels)
        for parcel in parcels:
            if counts[parcel.handle] < parcel.handle.total:
                line.again(parcel)
        self._back([flight for flight, count in counts.items() if count == flight.total], line)

    # ---- what the ticker tells, after the commit

    def _stored(self, channel_id: ChannelId, slots: Sequence[Any]) -> None:
        line = self._lines.get(channel_id)
        if line is not None:
            line.channel.stored(slots)
            self._pump_soon()

    def slots_stored(self, channel_id: ChannelId, slots: Sequence[Any]) -> None:
        """Give back slots of inbound texts whose row is committed."""
        self._stored(channel_id, slots)

    def _left(self, message_ids: Sequence[bytes]) -> None:
        for message_id in message_ids:
            self._mine.pop(message_id, None)

    def _pressed(self) -> bool:
        return any(self._waiting)

    def _again(self) -> None:
        self._claim_wake.set()

    def _settled(
        self,
        channel_id: ChannelId,
        country: str,
        operator: str,
        status: Status,
        cause: Cause,
        latency_s: float,
    ) -> None:
        line = self._lines.get(channel_id)
        if line is not None:
            line.health_of(country, operator).heard(status, cause, latency_s)
            line.figures.settled(status, cause, latency_s)

    def _other_channel(self, channel_id: ChannelId) -> bool:
        return any(line.up and line.row.id != channel_id for line in self._lines.values())

    def _speaks_for_all(self, channel_id: ChannelId) -> bool:
        line = self._lines.get(channel_id)
        return line is not None and (line.row.report_one or line.takes_whole)

    def _paired(self, heard: Heard) -> None:
        """A report has met its ack: which form of its id did, shows how the upstream writes ids."""
        line = self._lines.get(heard.channel_id)
        if line is None or not heard.report.candidates or heard.channel_id in self._dialects:
            return
        dialect = line.channel.dialect_of(heard.upstream_id, heard.report)
        if dialect:
            self._dialects[heard.channel_id] = dialect
            line.channel.learned(dialect)
            self._learned.append((heard.channel_id, dialect))
            self._learn_wake.set()

    # ---- loops

    async def run(self) -> None:
        """Keep sessions, claims, leases and ticks going until cancelled; then call close()."""
        self._loop = asyncio.get_running_loop()
        await self._load_dialects()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self.ticker.run())
            tasks.create_task(self._every(LEASE_GAP_S, self._lease, self._lease_wake))
            tasks.create_task(self._every(state.GAP_S, self._tell))
            tasks.create_task(self._claim())
            tasks.create_task(self._every(self._settings.sweep_gap_s, self._sweep))
            tasks.create_task(self._leave())
            tasks.create_task(self._learn())
            tasks.create_task(self._every(ASK_GAP_S, self._ask))
            tasks.create_task(self._every(conversion.GAP_S, self.look_at_conversions))
            tasks.create_task(self._look())

    async def _every(self, gap_s: float, duty: Callable[[], Any], wake: asyncio.Event | None = None) -> None:
        while True:
            try:
                await duty()
            except db.Unavailable as error:
                log.warning("gateway.database_lost", duty=duty.__name__, error=type(error).__name__)
            if wake is None:
                await asyncio.sleep(gap_s)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(gap_s):
                    await wake.wait()
            wake.clear()

    async def _look(self) -> None:
        """Look at what waits now and then: validity runs out, pauses end, without anybody telling."""
        while True:
            await asyncio.sleep(PUMP_IDLE_S)
            if any(self._waiting) or any(line.waiting for line in self._lines.values()):
                self._pump_soon()
            if self._decisions.waiting:
                await self._store_decisions()
            if self._tended != self._keeper.current.version:
                self._lease_wake.set()  # what was changed reaches the lines at once

    async def _store_decisions(self) -> None:
        try:
            async with self._database.transaction() as tx:
                await self._decisions.store(tx)
        except db.Unavailable as error:
            log.warning("gateway.database_lost", duty="decisions", error=type(error).__name__)

    # ---- sessions, shared between gateways by leases

    async def _lease(self) -> None:
        """Say that we live, share out each channel's sessions, and open, change or close lines accordingly."""
        if self._closing:
            return
        snapshot = self._keeper.current
        self._tended = snapshot.version
        await self._look_for_drained(snapshot)
        channels = {row.id: row for row in snapshot.channels.values() if row.id not in self._drained}
        wanted = {row.id: row.sessions for row in channels.values()}
        async with self._database.transaction() as tx:
            await tx.execute(ALIVE_SQL, self._number, str(self._settings.state_dir / self.socket_name))
            rows = await tx.fetch(
                LEASE_SQL,
                self._number,
                list(wanted),
                list(wanted.values()),
                LEASE_S,
                self._settings.gateway_dead_s,
            )
            if self._shutting:
                await tx.execute(KEEP_SQL, self._number, list(self._shutting), LEASE_S)
            others = await tx.fetch(OTHERS_SQL, self._number)
        held = {ChannelId(row["channel_id"]): int(row["held"]) for row in rows}
        self._with_others = frozenset(ChannelId(row["channel_id"]) for row in others)
        for channel in channels.values():
            await self._tend(channel, held.get(channel.id, 0))
        for channel_id in self._lines.keys() - channels.keys() - self._shutting.keys():
            self._slots[channel_id] = 0  # not to be opened anew
            self._shut(self._lines[channel_id])

    async def _look_for_drained(self, snapshot: Snapshot) -> None:
        """Find out which channels that are to be drained are: nothing is under way there or awaited, or time is up."""
        draining = {row.id: row.drain_until_s for row in snapshot.channels.values() if row.drain_until_s}
        known = self._drained
        self._drained = {one: until_s for one, until_s in draining.items() if known.get(one) == until_s}
        open_ = draining.keys() - self._drained.keys()
        if not open_:
            return
        awaited = {row["channel_id"] for row in await self._database.fetch(AWAITED_SQL, sorted(open_))}
        now_s = clock.now_s()
        for channel_id in open_:
            line = self._lines.get(channel_id)
            told = line is None or line.row.drain_until_s  # else it may take something at this very moment
            if now_s >= draining[channel_id] or (
                told and channel_id not in awaited and (line is None or line.idle)
            ):
                self._drained[channel_id] = draining[channel_id]
                log.info("channel.drained", channel=snapshot.channels[channel_id].name)
                self._lease_wake.set()

    async def _tend(self, row: ChannelRow, sessions: int) -> None:
        if self._closing:
            return
        line = self._lines.get(row.id)
        if line is None:
            if sessions:
                await self._open(row, sessions)
            return
        changed = line.row.config.reveal() != row.config.reveal() or line.row.kind != row.kind
        if changed and row.id not in self._shutting:
            self._shut(line)
        if row.id in self._shutting:
            self._slots[row.id] = sessions  # to open with, once it is closed
            return
        line.row = row
        line.share(row.parts_per_s * sessions / max(1, row.sessions))
        if self._slots.get(row.id) != sessions:
            line.channel.resize(sessions)
            self._slots[row.id] = sessions
        line.changed(line.channel.state())
        if not line.up:
            self._reroute(line)

    async def _open(self, row: ChannelRow, sessions: int) -> None:
        try:
            channel = kinds.build(row.kind, msgspec.json.decode(row.config.reveal()), self._egress)
        except kinds.BadSettings as error:
            log.error("channel.bad_config", channel=row.name, error=str(error))  # noqa: TRY400 - the words say it
            return
        line = Line(row, channel, self._settings.lane_reserve_percent)
        line.share(row.parts_per_s * sessions / max(1, row.sessions))
        line.takes_whole = (
            channel.unit == "message" or len(channel.cut(LONG_TEXT, text.Counting.MAINLAND)) == 1
        )
        line.takes_templates = kinds.takes_templates(row.kind)
        self._lines[row.id] = line
        self._slots[row.id] = sessions
        channel.resize(sessions)
        if row.id in self._dialects:
            channel.learned(self._dialects[row.id])
        await channel.open(_Sink(self, row.id))
        log.info("channel.opened", channel=row.name, kind=row.kind, sessions=sessions)

    def _shut(self, line: Line) -> None:
        """Begin to close a line, in a task of its own: it may take longer than the leases of the others last.

        Until it is closed it stays where it is and keeps its slots, so nobody opens its channel anew.
        """
        if self._closing:
            return  # close() is at it
        line.row = msgspec.structs.replace(line.row, paused=True)  # whatever its channel still tells
        line.up = False
        self._reroute(line)
        self._shutting[line.row.id] = self._tasks.create_task(self._see_shut(line))

    async def _see_shut(self, line: Line) -> None:
        """Close a line, and open its channel anew if that is still wanted."""
        channel_id = line.row.id
        try:
            await line.channel.close()
        except Exception:  # our bug; its sessions have ended all the same
            log.exception("channel.close_failed", channel=line.row.name)
        self._reroute(line)
        for flight in dict.fromkeys(parcel.handle for parcel in line.take_back()):
            self._ask_rules(flight)  # of a long message that has begun to leave here; its acks are stored
        del self._lines[channel_id], self._shutting[channel_id]
        log.info("channel.closed", channel=line.row.name)
        sessions = self._slots.pop(channel_id)
        row = self._keeper.current.channels.get(channel_id)
        if row is not None and sessions and not self._closing:
            await self._open(row, sessions)

    # ---- how they fare

    async def look_at_conversions(self) -> None:
        """Read which channels bring codes that people enter."""
        self._conversions.swap(await conversion.load(self._database))

    async def _tell(self) -> None:
        """Tell how each channel fares here."""
        if self._closing:
            return
        now_s, waiting = time.monotonic(), self._waiting_by_channel()
        told: dict[ChannelId, state.Told] = {}
        for channel_id in self._keeper.current.channels:
            line, lanes = self._lines.get(channel_id), waiting.get(channel_id, [0] * len(LANES))
            if line is not None:
                told[channel_id] = state.told_of(line, lanes, now_s)
            else:
                told[channel_id] = state.Told(waiting=lanes, drained=channel_id in self._drained)
        await state.tell(self._database, self._number, told)

    def _waiting_by_channel(self) -> Mapping[ChannelId, Sequence[int]]:
        """Count what waits by the channel that is its first choice, and by lane."""
        waiting: dict[ChannelId, list[int]] = {}
        for lane in LANES:
            for tenant in self._lanes[lane].values():
                for stream in tenant.streams.values():
                    if stream.flights:
                        self._rank(stream)
                        first = stream.ranking[0].channel_id if stream.ranking else ChannelId(0)
                        waiting.setdefault(first, [0] * len(LANES))[lane] += len(stream.flights)
        return waiting

    # ---- claims and the sweep

    async def _claim(self) -> None:
        """Claim rows that nobody has in hand: due schedules, second attempts, backlog, dead gateways' rows."""
        while True:
            try:
                async with asyncio.timeout(self._settings.claim_gap_s):
                    await self._claim_wake.wait()
            except TimeoutError:
                pass
            self._claim_wake.clear()
            try:
                async with self._claiming:
                    await self._claim_round()
            except db.Unavailable as error:
                log.warning("gateway.database_lost", duty="claim", error=type(error).__name__)

    async def _claim_round(self) -> None:
        if self._closing:
            return
        await self._give_away()
        if not self._lines:
            return
        await self._look_again()
        await self._write_later()
        for lane in LANES:
            if self._wants(lane) and await self._claim_lane(lane) >= self._tenant_share:
                self._claim_wake.set()

    async def _give_away(self) -> None:
        """Leave to other gateways what only channels can carry of which they hold all sessions."""
        given: list[Handed] = []
        for lane in LANES:
            for tenant in self._lanes[lane].values():
                for stream in tenant.streams.values():
                    if stream.flights and self._only_others_can(stream):
                        given += [flight.handed for flight in stream.flights]
                        self._waiting[lane] -= len(stream.flights)
                        stream.flights.clear()
        if not given:
            return
        for handed in given:  # should the next statement fail, the sweep finds them
            self._mine.pop(handed.id, None)
        tenant_ids, message_ids = _keys(given)
        await self._database.execute(GIVE_AWAY_SQL, self._number, tenant_ids, message_ids)

    def _only_others_can(self, stream: _Stream) -> bool:
        self._rank(stream)
        channels = {candidate.channel_id for candidate in stream.ranking}
        return channels.isdisjoint(self._lines) and not channels.isdisjoint(self._with_others)

    @property
    def _tenant_share(self) -> int:
        """How many rows of one tenant a claim takes; as many found means that there may be more."""
        return max(1, self._settings.claim_batch_max // 4)

    def _wants(self, lane: int) -> bool:
        return self._waiting[lane] < CLAIM_LOW and sum(self._waiting) < self._settings.memory_waiting_max

    async def _claim_lane(self, lane: int) -> int:
        most = self._settings.claim_batch_max
        rows = await self._database.fetch(CLAIM_SQL, lane, self._tenant_share, most, self._number)
        if rows:
            await self._load(*_row_keys(rows), fresh=True)
        return len(rows)

    async def _look_again(self) -> None:
        """Load anew what was taken off its stream: somebody said stop, or no second channel is left."""
        while self._recheck:
            again = self._recheck[: self._settings.claim_batch_max]
            del self._recheck[: len(again)]
            for handed in again:
                self._mine.pop(handed.id, None)
            await self._load(*_keys(again))

    async def _write_later(self) -> None:
        """Leave what is put off to whoever claims it then."""
        later = self._later[: self._settings.claim_batch_max]
        if later:
            tenant_ids, message_ids = _keys([handed for handed, _ in later])
            await self._database.execute(PUT_OFF_SQL, tenant_ids, message_ids, [due_s for _, due_s in later])
            for handed, _ in later:
                self._mine.pop(handed.id, None)
            del self._later[: len(later)]

    async def _sweep(self) -> None:
        """Take rows born ours that nobody handed over, and forget what was remembered long enough."""
        now_s = time.monotonic()
        self._swept = {key: at for key, at in self._swept.items() if now_s - at < SWEPT_KEEP_S}
        if not self._lines or self._closing or len(self._mine) > self._settings.memory_waiting_max:
            return
        rows = await self._database.fetch(
            SWEEP_SQL, self._number, ORPHAN_AGE_S, self._settings.claim_batch_max * 10
        )
        orphans = [row for row in rows if row["id"].bytes not in self._mine]
        for start in range(0, len(orphans), self._settings.claim_batch_max):
            batch = orphans[start : start + self._settings.claim_batch_max]
            for row in batch:
                self._swept[row["id"].bytes] = now_s
            await self._load(*_row_keys(batch))
        if orphans:
            log.info("gateway.swept", messages=len(orphans))
        async with self._database.transaction() as tx:
            found = await report.reunite(tx, list(self._lines))
        self.ticker.reunited(found)

    async def _load(
        self, tenant_ids: Sequence[int], message_ids: Sequence[UUID], *, fresh: bool = False
    ) -> None:
        """Read messages whose rows are ours, ask the rules again, and let them wait for their turn."""
        asked_s = clock.now_s()
        rows = await self._database.fetch(LOAD_SQL, tenant_ids, message_ids, self._number)
        snapshot = self._keeper.current
        waits: list[tuple[int, UUID, float]] = []
        for row in rows:
            if row["id"].bytes in self._mine:
                continue
            handed = self._handed(row)
            dropped = self._stop_reason(row, snapshot, handed)
            if dropped is not None:
                self._hold(handed)
                self.ticker.dropped(dropped)
            elif row["leaving_at"] is not None:
                self._hold(handed)
                self._left_unsure(row, handed)
            else:
                until_s = self._quiet_until(handed)
                if until_s:
                    waits.append((handed.tenant_id, row["id"], until_s))
                else:
                    fresh_now = fresh and handed.attempt == 1 and not handed.parts_gone
                    self._enter(handed, fresh=fresh_now).asked_s = asked_s
        if waits:
            await self._database.execute(WAIT_SQL, *map(list, zip(*waits, strict=True)))
        self._pump_soon()

    def _hold(self, handed: Handed) -> None:
        self._order += 1
        self._mine[handed.id] = Flight(handed, self._order)

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
            params=params, province=row["province"],
        )  # fmt: skip

    def _stop_reason(self, row: db.Row, snapshot: Snapshot, handed: Handed) -> Dropped | None:
        left_parts = handed.part_count - len(handed.parts_gone)

        def drop(status: Status, cause: Cause, code: str = "", *, left: bool = False) -> Dropped:
            return Dropped(handed.tenant_id, handed.id, left_parts, status, cause, code, left=left)

        if handed.attempt > 1 and not self._elsewhere(handed, snapshot):
            return drop(Status.UNDELIVERED, CAUSES[row["cause"]], row["code"], left=True)
        if row["leaving_at"] is not None:
            return None
        if row["stopped"] is not None:
            return drop(Status.REFUSED, Cause.BLOCKED if row["stopped"] == 2 else Cause.OPTED_OUT)
        if row["sealed"] is None:
            return drop(Status.REFUSED, Cause.BLOCKED, "erased")
        if handed.expires_at_s <= clock.now_s():
            if handed.attempt > 1:
                return drop(Status.UNDELIVERED, CAUSES[row["cause"]], row["code"], left=True)
            return drop(Status.EXPIRED, Cause.NOT_SENT)
        return None

    def _elsewhere(self, handed: Handed, snapshot: Snapshot) -> bool:
        want = _want_of(handed, handed.signature_id)
        lines = self._lines
        return any(
            c.channel_id in lines and lines[c.channel_id].up
            for c in route.candidates(want, snapshot, handed.avoid_channel)
        )

    def _quiet_until(self, handed: Handed) -> float:
        """Return when a promotion may leave, in Unix seconds; 0: now."""
        tenant = self._keeper.current.tenants.get(TenantId(handed.tenant_id))
        if handed.lane != PROMOTIONAL or tenant is None:
            return 0.0
        now_s = clock.now_s()
        zones = phone.zones(phone.parse(handed.number))
        allowed_s = guard.next_allowed(now_s, zones, tenant.quiet_until_hour, tenant.quiet_from_hour)
        if allowed_s is None:
            return handed.expires_at_s
        return 0.0 if allowed_s <= now_s else min(allowed_s, handed.expires_at_s)

    def _left_unsure(self, row: db.Row, handed: Handed) -> None:
        """An earlier life committed it as leaving: each part that has no ack may have left."""
        for index in range(1, handed.part_count + 1):
            if index not in handed.parts_gone:
                self.ticker.maybe(
                    Maybe(
                        channel_id=ChannelId(row["leaving_channel"]), tenant_id=handed.tenant_id, message_id=handed.id,
                        part_index=index, attempt=handed.attempt, sent_ms=int(row["leaving_at"].timestamp() * 1000),
                        cost_micro=0, decision=0, phone_index=row["phone_index"],
                    )
                )  # fmt: skip
        self.ticker.gone(Gone(handed.tenant_id, handed.id))

    # ---- leaving, for messages that must not be doubled

    async def _leave(self) -> None:
        while True:
            await self._leave_wake.wait()
            self._leave_wake.clear()
            leaving, self._leaving = self._leaving, []
            if not leaving:
                continue
            while True:
                try:
                    await self._database.execute(
                        LEAVE_SQL,
                        [flight.handed.tenant_id for flight, _, _ in leaving],
                        [db.Uuid(flight.handed.id) for flight, _, _ in leaving],
                        [line.row.id for _, line, _ in leaving],
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
                    self._reroute(line)
            self._pump_soon()

    # ---- dialects and questions

    async def _load_dialects(self) -> None:
        rows = await self._database.fetch("SELECT channel_id, dialect FROM dialect")
        self._dialects = {ChannelId(row["channel_id"]): row["dialect"] for row in rows}

    async def _learn(self) -> None:
        while True:
            await self._learn_wake.wait()
            self._learn_wake.clear()
            learned, self._learned = self._learned, []
            for channel_id, dialect in learned:
                log.info("channel.dialect", channel_id=channel_id, dialect=dialect)
                try:
                    await self._database.execute(LEARN_SQL, channel_id, dialect)
                except db.Unavailable:
                    self._dialects.pop(channel_id, None)  # the next pair teaches it again

    async def _ask(self) -> None:
        """Ask operators about parts that are long without a report, a few at a time."""
        if not self._lines:
            return
        rows = await self._database.fetch(
            ASK_SQL,
            list(self._lines),
            float(self._settings.unsure_wait_s),
            ASKS_PER_GAP,
            float(self._settings.report_wait_s),
        )
        for row in rows:
            line = self._lines.get(ChannelId(row["channel_id"]))
            if line is None or not line.up or row["sealed"] is None:
                continue
            number, *_ = msgspec.msgpack.decode(self._vault.unseal(row["tenant_id"], row["sealed"]))
            sender = line.row.access_number + self._keeper.current.extension_at(
                line.row.id, row["signature_id"], row["extension"]
            )
            answer = await line.channel.ask(row["upstream_raw"] or row["upstream_id"], number, sender)
            if answer is not None and answer.final:
                self.ticker.reported(
                    line.row.id,
                    [msgspec.structs.replace(answer, upstream_id=row["upstream_id"], candidates=())],
                )

    # ---- stops, and the end

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

    def channel(self, channel_id: ChannelId) -> Channel | None:
        """Return a channel that is open here."""
        line = self._lines.get(channel_id)
        return None if line is None else line.channel

    def hear_cancel(self, payload: str) -> None:
        """Hear that an app wants a message back: its id in hex. What has never been put on a line is dropped."""
        flight = self._mine.get(bytes.fromhex(payload))
        if flight is None or not flight.fresh or flight.total:
            return
        try:
            flight.stream.flights.remove(flight)
        except ValueError:  # its end is being stored, or its rules are being asked
            return
        self._waiting[flight.handed.lane] -= 1
        self._drop(flight, Status.CANCELLED, Cause.CANCELLED, "")

    def look(self) -> None:
        """Look for due rows at once, not only at the next turn."""
        self._claim_wake.set()

    async def close(self) -> None:
        """Stop gracefully: take nothing new, wait for answers, store them, hand back what was not sent."""
        self._closing = True
        for line in self._lines.values():
            line.row = msgspec.structs.replace(line.row, paused=True)
            self._reroute(line)
        async with asyncio.TaskGroup() as tasks:
            for channel_id, line in self._lines.items():
                if channel_id not in self._shutting:
                    tasks.create_task(line.channel.close())
        if self._shutting:
            await asyncio.wait(self._shutting.values())
        try:
            async with asyncio.timeout(self._settings.stop_wait_s):
                while not self.ticker.idle:  # noqa: ASYNC110 - once, at the end
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("gateway.stopped_early", left=len(self._mine))
        async with self._claiming:  # a claim under way would take rows of ours once more
            await self._hand_back()
        log.info("gateway.closed")

    async def _hand_back(self) -> None:
        waiting = [
            db.Uuid(flight.handed.id)
            for lane in self._lanes
            for tenant in lane.values()
            for stream in tenant.streams.values()
            for flight in stream.flights
        ]
        for left in range(HAND_BACK_TRIES - 1, -1, -1):
            try:
                await self._give_back(waiting)
            except db.Unavailable:  # a deadlock with who takes over, say: the other has gone first
                if not left:
                    raise
            else:
                break

    async def _give_back(self, waiting: Sequence[db.Uuid]) -> None:
        async with self._database.transaction() as tx:
            await tx.execute(HAND_BACK_SQL, self._number, waiting)
            await tx.execute("DELETE FROM session_lease WHERE gateway = $1", self._number)
            await state.forget(tx, self._number)
            await tx.execute("DELETE FROM gateway WHERE id = $1", self._number)


def fitting(
    handed: Handed, row: ChannelRow, channel: Channel, snapshot: Snapshot
) -> str | tuple[Sequence[text.TextPart], Wording | None]:
    """Cut a message as a channel would, with what it was made of where that matters; or say why it does not fit there.

    "words": a list of words shuts the channel to it. "template": its wording is not filed with the provider. "parts":
    the channel would cut it into another number of parts than was promised and charged.
    """
    if snapshot.words.shuts(row.id, handed.text, TenantId(handed.tenant_id)):
        return "words"
    wording = None
    if kinds.takes_templates(row.kind):
        wording = _wording(handed, snapshot)
        if not channel.takes(wording):
            return "template"
    counting = text.Counting.MAINLAND if handed.country == "CN" else text.Counting.INTERNATIONAL
    parts = channel.cut(handed.text, counting)
    if len(parts) != handed.part_count and not (len(parts) == 1 and parts[0].mode is text.Split.PAYLOAD):
        return "parts"
    return parts, wording


def _wording(handed: Handed, snapshot: Snapshot) -> Wording | None:
    """Say what a text was made of; None for free text."""
    template = snapshot.templates.get(handed.template_id)
    signature = snapshot.signatures.get(handed.signature_id)
    if template is None or handed.params is None:
        return None
    values = {name: str(value) for name, value in handed.params.items()}
    filed = template.filed_as(handed.text, values)
    return Wording(filed, signature.name if signature is not None else "", values)


def _words_of(outcome: Declined | Throttled | Unreachable | Unsure) -> str:
    return outcome.code if isinstance(outcome, Declined | Throttled) else outcome.reason


def _want_of(handed: Handed, signature_id: int, province: str = "") -> route.Want:
    return route.Want(
        TenantId(handed.tenant_id),
        handed.country,
        handed.operator,
        PURPOSES[handed.lane],
        handed.sandbox,
        signature_id,
        province,
    )


def _keys(all_handed: Sequence[Handed]) -> tuple[list[int], list[UUID]]:
    return [handed.tenant_id for handed in all_handed], [db.Uuid(handed.id) for handed in all_handed]


def _row_keys(rows: Sequence[db.Row]) -> tuple[list[int], list[UUID]]:
    return [row["tenant_id"] for row in rows], [row["id"] for row in rows]


ALIVE_SQL: LiteralString = """
INSERT INTO gateway (id, socket) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET socket = EXCLUDED.socket, seen_at = now()
"""

# Each gateway alive may hold its share of a channel's sessions, rounded up; leases run out by themselves.
LEASE_SQL: LiteralString = """
WITH alive AS (
    SELECT count(*)::int AS gateways FROM gateway WHERE seen_at > now() - make_interval(secs => $5::float8)
), wanted AS (
    SELECT w.channel_id, w.sessions, s.slot, row_number() OVER (PARTITION BY w.channel_id ORDER BY
               (l.gateway = $1 AND l.until > now()) DESC NULLS LAST, s.slot) AS place
      FROM unnest($2::int[], $3::int[]) AS w(channel_id, sessions)
     CROSS JOIN LATERAL generate_series(1, w.sessions) AS s(slot)
      LEFT JOIN session_lease l ON l.channel_id = w.channel_id AND l.slot = s.slot
     WHERE l.slot IS NULL OR l.until <= now() OR l.gateway = $1
), taken AS (
    INSERT INTO session_lease AS l (channel_id, slot, gateway, until)
    SELECT channel_id, slot, $1, now() + make_interval(secs => $4::float8) FROM wanted, alive
     WHERE place <= ceil(sessions::numeric / greatest(1, gateways))
     ORDER BY channel_id, slot
    ON CONFLICT (channel_id, slot) DO UPDATE SET gateway = EXCLUDED.gateway, until = EXCLUDED.until
     WHERE l.gateway = EXCLUDED.gateway OR l.until <= now()
    RETURNING channel_id
)
SELECT channel_id, count(*) AS held FROM taken GROUP BY channel_id
"""

# A channel that is being closed keeps its slots, wanted or not: whoever took one would find it in use.
KEEP_SQL: LiteralString = """
UPDATE session_lease SET until = now() + make_interval(secs => $3::float8) WHERE gateway = $1 AND channel_id = ANY($2::int[])
"""

AWAITED_SQL: LiteralString = """
SELECT c.channel_id FROM unnest($1::int[]) AS c(channel_id)
 WHERE EXISTS (SELECT FROM submitted s WHERE s.channel_id = c.channel_id AND s.state < 2)
"""

OTHERS_SQL: LiteralString = """
SELECT DISTINCT channel_id FROM session_lease WHERE gateway <> $1 AND until > now()
"""

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

SWEEP_SQL: LiteralString = """
SELECT tenant_id, id FROM outbox WHERE owner = $1 AND due_at < now() - make_interval(secs => $2::float8) ORDER BY id LIMIT $3
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
  JOIN outbox o ON o.tenant_id = w.tenant_id AND o.id = w.id AND o.owner = $3
  JOIN message m ON m.tenant_id = o.tenant_id AND m.id = o.id
"""

WAIT_SQL: LiteralString = """
UPDATE outbox o SET owner = 0, due_at = to_timestamp(w.due_s)
  FROM unnest($1::int[], $2::uuid[], $3::float8[]) AS w(tenant_id, id, due_s)
 WHERE o.tenant_id = w.tenant_id AND o.id = w.id
"""

PUT_OFF_SQL: LiteralString = """
UPDATE outbox o SET owner = 0, due_at = to_timestamp(w.due_s), leaving_channel = 0, leaving_at = NULL
  FROM unnest($1::int[], $2::uuid[], $3::float8[]) AS w(tenant_id, id, due_s)
 WHERE o.tenant_id = w.tenant_id AND o.id = w.id
"""

LEAVE_SQL: LiteralString = """
UPDATE outbox o SET leaving_channel = l.channel_id, leaving_at = now()
  FROM unnest($1::int[], $2::uuid[], $3::int[]) AS l(tenant_id, id, channel_id)
 WHERE o.tenant_id = l.tenant_id AND o.id = l.id
"""

LEARN_SQL: LiteralString = """
INSERT INTO dialect (channel_id, dialect) VALUES ($1, $2)
ON CONFLICT (channel_id) DO UPDATE SET dialect = EXCLUDED.dialect, pairs = dialect.pairs + 1, learned_at = now()
"""

ASK_SQL: LiteralString = """
UPDATE submitted s SET asked_at = now()
  FROM message m
 WHERE (s.channel_id, s.upstream_id) IN (
        SELECT channel_id, upstream_id FROM submitted
         WHERE channel_id = ANY($1::int[]) AND state = 0 AND asked_at IS NULL
           AND sent_at < now() - make_interval(secs => $2::float8) AND sent_at > now() - make_interval(secs => $4::float8)
         LIMIT $3 FOR UPDATE SKIP LOCKED)
   AND m.tenant_id = s.tenant_id AND m.id = s.message_id
RETURNING s.channel_id, s.upstream_id, s.upstream_raw, s.tenant_id, m.sealed, m.extension, m.signature_id
"""

GIVE_AWAY_SQL: LiteralString = """
UPDATE outbox o SET owner = 0, leaving_channel = 0, leaving_at = NULL
  FROM unnest($2::int[], $3::uuid[]) AS g(tenant_id, id) WHERE o.tenant_id = g.tenant_id AND o.id = g.id AND o.owner = $1
"""

# What may have left stays ours, marked, so that the next life of this gateway treats it as unsure. What waits in
# memory has certainly not, even if it was committed as leaving before an upstream could not take it.
HAND_BACK_SQL: LiteralString = """
UPDATE outbox SET owner = 0, leaving_channel = 0, leaving_at = NULL
 WHERE owner = $1 AND (leaving_at IS NULL OR id = ANY($2::uuid[]))
"""
