"""What a gateway has in memory: every message in hand, and where the waiting ones stand.

Pure: no database, no channel. Owns the messages in hand, the lanes and how many wait in each, and what is to be loaded
anew or was put off. Entry points: Lanes.enter(), take_turns(), take_off(), back().
Messages wait in lanes by purpose, in each lane by tenant (shared by weight), and in each tenant in streams by what
they want of a route, so that nobody waits behind a message that only another channel could carry.
Surprises: a message that is under way, or whose end is being stored, is in hand and in no stream. `waiting` counts only
what stands in streams. A tenant's turn may last over many pumps, because windows free one slot at a time.
"""

import asyncio
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hongyan.vocab.message import ChannelId, Purpose, TenantId
from hongyan.way import route
from hongyan.way.conversion import Conversions
from hongyan.way.flight import Flight, Stream, want_of
from hongyan.way.handover import Handed
from hongyan.way.line import PROMOTIONAL, Line
from hongyan.way.snapshot import Keeper

LANES = (0, 1, 2)
CODES = Purpose.OTP.number  # the lane whose channels are chosen by what people enter
NOTICES = Purpose.TRANSACTIONAL.number
QUANTUM = 8  # messages a tenant of weight 1 sends before the next tenant's turn
STREAMS_KNOWN_MAX = 1_000  # one that has run empty is mostly wanted again in a moment, and is ranked already

Launch = Callable[[Stream, int, float], bool]  # the first message of a stream leaves; False: it has to wait


class _Tenant:
    """A tenant's streams in one lane. Its turn may last over many pumps: rooms come one slot at a time."""

    __slots__ = ("left", "streams", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.left = QUANTUM * weight  # of its turn
        self.streams: dict[tuple[Any, ...], Stream] = {}


class Lanes:
    """All messages of one gateway. Who takes one off its stream sends it, ends it, or puts it back here."""

    def __init__(self, keeper: Keeper, conversions: Conversions) -> None:
        self._keeper = keeper
        self._conversions = conversions
        self._tenants: tuple[dict[TenantId, _Tenant], ...] = ({}, {}, {})
        self._streams: dict[tuple[route.Want, frozenset[ChannelId]], Stream] = {}  # known, empty or not
        self._order = 0
        self._readers: list[set[bytes]] = []  # who is told of what leaves
        self.mine: dict[bytes, Flight] = {}  # all in hand, waiting or not, until it has left the outbox
        self.waiting = [0, 0, 0]  # in streams, by lane
        self.recheck: list[
            tuple[Handed, bool]
        ] = []  # to be loaded anew; whether their mark of leaving is to go
        self.later: list[tuple[Handed, float]] = []  # put off, and until when
        self.claim_wake = asyncio.Event()  # there is something in the two above, or in the database

    # ---- in hand

    def enter(self, handed: Handed, *, fresh: bool) -> Flight:
        """Take a message in hand and let it wait for its turn."""
        self._order += 1
        flight = self.mine[handed.id] = Flight(handed, self._order)
        flight.fresh = fresh
        avoid = frozenset({ChannelId(handed.avoid_channel)}) if handed.avoid_channel else frozenset()
        self._stream_for(flight, avoid).flights.append(flight)
        return flight

    def hold(self, handed: Handed) -> None:
        """Take a message in hand that will not wait: its end is about to be stored."""
        self._order += 1
        self.mine[handed.id] = Flight(handed, self._order)

    def left(self, message_ids: Sequence[bytes]) -> None:
        """Forget messages whose outbox rows are gone."""
        for message_id in message_ids:
            self.mine.pop(message_id, None)
        for reader in self._readers:
            reader.update(message_ids)

    @contextmanager
    def reading(self) -> Iterator[Container[bytes]]:
        """Collect what leaves while rows are read: such a row has been sent meanwhile, and is not there any more."""
        left: set[bytes] = set()
        self._readers.append(left)
        try:
            yield left
        finally:
            self._readers = [reader for reader in self._readers if reader is not left]

    def pressed(self) -> bool:
        return any(self.waiting)

    # ---- waiting

    def _stream_for(self, flight: Flight, avoid: frozenset[ChannelId]) -> Stream:
        """Find or make the stream of messages that want the same; the caller adds this one to it."""
        handed = flight.handed
        lane = self._tenants[handed.lane]
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
            stream = tenant.streams[key] = self._known(want_of(handed, signature_id, province), avoid)
        flight.stream = stream
        self.waiting[handed.lane] += 1
        return stream

    def _known(self, want: route.Want, avoid: frozenset[ChannelId]) -> Stream:
        """Find or make a stream that no tenant has: all messages that want this have left."""
        stream = self._streams.get((want, avoid))
        if stream is None:
            if len(self._streams) >= STREAMS_KNOWN_MAX:
                self._streams.pop(next(iter(self._streams)))
            stream = self._streams[want, avoid] = Stream(want, avoid)
        return stream

    def rank(self, stream: Stream) -> None:
        """Find the channels that may carry a stream, once for each version of the snapshot."""
        snapshot = self._keeper.current
        if stream.version != snapshot.version:
            ranking = route.candidates(stream.want, snapshot)
            stream.ranking = [c for c in ranking if c.channel_id not in stream.avoid]
            stream.unfiled = route.not_filed(stream.want, snapshot)
            stream.only = route.only(stream.ranking, stream.unfiled)
            stream.version = snapshot.version
            stream.decisions.clear()

    def mixed(self, stream: Stream, handed: Handed) -> bool:
        """Tell whether signatures share the stream, from when no channel demanded filings, and now they may not."""
        return self._keeper.current.demands_filing and stream.want.signature_id != handed.signature_id

    def take_turns(self, lane: int, now_s: float, launch: Launch) -> None:
        """Let the tenants of a lane send, turn by turn, until none can any more."""
        tenants = self._tenants[lane]
        active = list(tenants.items())
        while active:
            still = []
            for tenant_id, tenant in active:
                if _turn(tenant, lane, now_s, launch):
                    tenants[tenant_id] = tenants.pop(tenant_id)  # who has had a turn stands behind the others
                    still.append((tenant_id, tenant))
                elif not tenant.streams:
                    del tenants[tenant_id]
            active = still

    def take_off(self, stream: Stream, lane: int) -> None:
        """Take the first message off its stream."""
        stream.flights.popleft()
        self.waiting[lane] -= 1

    def wait_elsewhere(self, flight: Flight, avoid: frozenset[ChannelId]) -> None:
        """Let a message that was taken off its stream wait in the one of its kind as things are now."""
        self._stream_for(flight, avoid).flights.append(flight)

    def back(self, flights: Sequence[Flight], line: Line) -> None:
        """Put messages back at the head of their streams, in the order in which they came, to be routed anew."""
        returned: dict[Stream, list[Flight]] = {}
        for flight in flights:
            if flight.handed.lane == PROMOTIONAL:
                line.open_promotional -= flight.total
            returned.setdefault(self._stream_for(flight, flight.stream.avoid), []).append(flight)
        for stream, head in returned.items():
            last = max(flight.order for flight in head)
            while stream.flights and stream.flights[0].order < last:
                head.append(stream.flights.popleft())  # came back earlier
            stream.flights.extendleft(sorted(head, key=lambda flight: flight.order, reverse=True))

    # ---- out of memory

    def ask_rules(self, flight: Flight, *, begun: bool = False) -> None:
        """Have a message loaded anew that was taken off its stream, and its rules asked again; `begun`: parts have left.

        What was put on a line and came back from there is marked as leaving, and has not left.
        """
        self.recheck.append((flight.handed, flight.careful and flight.total > 0 and not begun))
        self.claim_wake.set()

    def put_off(self, handed: Handed, due_s: float) -> None:
        """Leave a message that is on no stream to whoever claims it at that time."""
        self.later.append((handed, due_s))
        self.claim_wake.set()

    def give_up(self, lane: int, stream: Stream) -> Sequence[Handed]:
        """Let go of all that wait in a stream."""
        given = [flight.handed for flight in stream.flights]
        self.waiting[lane] -= len(given)
        stream.flights.clear()
        for handed in given:
            self.mine.pop(handed.id, None)
        return given

    def take_back(self, message_id: bytes) -> Flight | None:
        """Take a message off its stream whose app wants it back; None: it has been put on a line, or may have been."""
        flight = self.mine.get(message_id)
        if flight is None or not flight.fresh or flight.total:
            return None
        try:
            flight.stream.flights.remove(flight)
        except ValueError:  # its end is being stored, or its rules are being asked
            return None
        self.waiting[flight.handed.lane] -= 1
        return flight

    # ---- looks

    def streams(self) -> Iterator[tuple[int, Stream]]:
        """Return all streams, each with its lane."""
        for lane in LANES:
            for tenant in self._tenants[lane].values():
                for stream in tenant.streams.values():
                    yield lane, stream

    def waiting_by_channel(self) -> Mapping[ChannelId, Sequence[int]]:
        """Count what waits by the channel that is its first choice, and by lane."""
        waiting: dict[ChannelId, list[int]] = {}
        for lane, stream in self.streams():
            if stream.flights:
                self.rank(stream)
                first = stream.ranking[0].channel_id if stream.ranking else ChannelId(0)
                waiting.setdefault(first, [0] * len(LANES))[lane] += len(stream.flights)
        return waiting


def _turn(tenant: _Tenant, lane: int, now_s: float, launch: Launch) -> bool:
    """Let one tenant go on with its turn; True if that is used up."""
    for key, stream in list(tenant.streams.items()):
        while stream.flights and tenant.left:
            if not launch(stream, lane, now_s):
                break
            tenant.left -= 1
        del tenant.streams[key]
        if stream.flights:
            tenant.streams[key] = stream  # the others first next time
        if not tenant.left:
            tenant.left = QUANTUM * tenant.weight
            return True
    return False
