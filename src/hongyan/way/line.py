"""A channel as the gateway sees it: its parcels in order, its pace, and how much room each lane may take.

Entry points: Line.room(), Line.put(), Line.flush(). All parts of a message go down one line, in order; a parcel
that was throttled goes back to its place, before those behind it.
"""

import time
from collections import deque
from collections.abc import Sequence

from hongyan.channels.channel import Channel, ChannelState, Link, Parcel
from hongyan.way.route import Health
from hongyan.way.snapshot import ChannelRow
from hongyan.way.state import Figures

PROMOTIONAL = 2  # the lane that leaves a reserve to the others
REST_S = 0.25  # an upstream that cannot take a part now is not asked again for so long
REFUSED_IN_A_ROW = 3  # without an ack between them: it is not the messages
DOUBLINGS_MAX = 3  # of the rest, one more refusal each: 2 s at most
BURST_S = 0.05  # how much of a second's rate may leave at once: smooth, not in lumps of a second


class Pacer:
    """A token bucket in parts. Rate 0 is no limit."""

    __slots__ = ("_at_s", "_tokens", "rate_per_s")

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        self._tokens = self.burst
        self._at_s = time.monotonic()

    @property
    def burst(self) -> float:
        return max(1.0, self.rate_per_s * BURST_S)

    def available(self, now_s: float) -> int:
        """Return how many parts may leave now."""
        if not self.rate_per_s:
            return 1_000_000
        self._tokens = min(self.burst, self._tokens + (now_s - self._at_s) * self.rate_per_s)
        self._at_s = now_s
        return int(self._tokens + 1e-9)

    def take(self, parts: int) -> None:
        """Spend; more than there was is paid back by waiting, so that a long message may leave whole."""
        if self.rate_per_s:
            self._tokens -= parts


class Line:
    """One channel, open, with what waits for it."""

    def __init__(self, row: ChannelRow, channel: Channel, reserve_percent: int) -> None:
        self.row = row
        self.channel = channel
        self.pacer = Pacer(row.parts_per_s)
        self.promotional_pacer = Pacer(row.parts_per_s * (100 - reserve_percent) / 100)
        self.open_promotional = 0  # promotional parts submitted and not yet answered and stored
        self.reserved = 0  # parts whose leaving is being committed
        self.up = False
        self.refused_in_a_row = 0  # parts it could not take, since the last it took
        self.takes_templates = False  # it may want a template's code and values in place of a text
        self.takes_whole = False  # a long text is one submission there, with one report
        self.sessions = 0
        self.window_size = 0
        self.blocked_by_pace = False
        self.health: dict[str, Health] = {}  # by country and operator
        self.figures = Figures()
        self._reserve_percent = reserve_percent
        self._queue: deque[Parcel] = deque()
        self._again: list[Parcel] = []
        self._rests_until_s = 0.0

    def changed(self, state: ChannelState) -> None:
        """Hear how the link is."""
        self.up = state.link in (Link.UP, Link.THROTTLED) and not self.row.paused
        self.sessions = state.sessions_up
        self.window_size = state.window_size

    def share(self, rate_per_s: float) -> None:
        """Take over our share of the account's rate: other processes hold some of its sessions."""
        self.pacer.rate_per_s = rate_per_s
        self.promotional_pacer.rate_per_s = rate_per_s * (100 - self._reserve_percent) / 100

    def rest(self, now_s: float) -> None:
        """Leave the upstream alone for a moment, longer while it takes nothing; meanwhile another channel may do."""
        doublings = min(max(0, self.refused_in_a_row - REFUSED_IN_A_ROW), DOUBLINGS_MAX)
        self._rests_until_s = now_s + REST_S * float(1 << doublings)

    @property
    def takes_others(self) -> bool:
        """Whether what it refuses may be the message's own fault: it has taken some a moment ago."""
        return self.refused_in_a_row < REFUSED_IN_A_ROW

    def resting(self, now_s: float) -> bool:
        return now_s < self._rests_until_s

    def health_of(self, country: str, operator: str) -> Health:
        key = country + operator
        health = self.health.get(key)
        if health is None:
            health = self.health[key] = Health()
        return health

    @property
    def waiting(self) -> int:
        return len(self._queue) + len(self._again)

    def room(self, lane: int, now_s: float) -> int:
        """Return how many parts of a lane may be put now: window and pace, less what others wait to use."""
        if self.row.paused:
            return 0
        room = min(self.channel.room() - self.waiting, self._pace(lane, now_s)) - self.reserved
        if lane == PROMOTIONAL and room > 0:
            share = max(1, self.window_size * (100 - self._reserve_percent) // 100)
            room = min(room, share - self.open_promotional - self.reserved)
        return max(0, room)

    def _pace(self, lane: int, now_s: float) -> int:
        room = self.pacer.available(now_s)
        if lane == PROMOTIONAL:
            room = min(room, self.promotional_pacer.available(now_s))
        if room <= 0:
            self.blocked_by_pace = True
        return room

    def put(self, parcels: Sequence[Parcel], lane: int) -> None:
        """Queue a message's parcels; flush() sends them."""
        self._queue.extend(parcels)
        self.pacer.take(len(parcels))
        if lane == PROMOTIONAL:
            self.promotional_pacer.take(len(parcels))
            self.open_promotional += len(parcels)

    def again(self, parcel: Parcel) -> None:
        """Put back a parcel that certainly did not leave; it keeps its place before those behind it."""
        self._again.append(parcel)

    @property
    def idle(self) -> bool:
        """Whether nothing waits here, is under way, or was answered and is not yet stored."""
        return not (self.waiting or self.reserved or self.channel.state().window_used)

    def holds(self, handle: object) -> int:
        """Return how many parcels of one message wait here."""
        return sum(parcel.handle is handle for parcel in (*self._queue, *self._again))

    def take_out(self, handle: object) -> None:
        """Take out the parcels of one message."""
        self._queue = deque(parcel for parcel in self._queue if parcel.handle is not handle)
        self._again = [parcel for parcel in self._again if parcel.handle is not handle]

    def flush(self) -> None:
        """Submit what is queued, as far as the window has room."""
        if self._again:
            self._queue.extendleft(sorted(self._again, key=_order, reverse=True))
            self._again.clear()
        if not self._queue or self.resting(time.monotonic()):
            return
        room = self.channel.room()
        if room <= 0:
            return
        if room >= len(self._queue):
            parcels: Sequence[Parcel] = list(self._queue)
            self._queue.clear()
        else:
            parcels = [self._queue.popleft() for _ in range(room)]
        self.figures.parts += len(parcels)
        self.channel.submit(parcels)

    def take_back(self) -> list[Parcel]:
        """Take out what is queued and was not submitted."""
        parcels = sorted([*self._queue, *self._again], key=_order)
        self._queue.clear()
        self._again.clear()
        return parcels


def _order(parcel: Parcel) -> tuple[int, int]:
    return parcel.handle.order, parcel.part_index
