"""What other gateways have: channels that are up there and not here, and how messages are given to them.

Writes nothing: claim.py changes whose a row is, and then comes here. Owns what others told, the links to those of this
machine, and which messages were given lately. Entry points: look(), once a second while there are others; away, the
channels that are up only there; add(), which lets them be chosen as if they were here; give(); hear(), what is ours now.
Surprises: a message is given away once, and who gets it sends it by what it has: two that err about each other do not
play ball with it. A busy channel of another's is waited for there, but only so many wait. A frame to a gateway of this
machine, or a NOTIFY to one of another, only makes it quick: the row is its own, and its sweep would find it.
"""

import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from hongyan import db
from hongyan.settings import Settings
from hongyan.vocab.message import ChannelId
from hongyan.way import route, state
from hongyan.way.flight import Flight, Stream
from hongyan.way.handover import Link
from hongyan.way.line import Line
from hongyan.way.route import Health
from hongyan.way.snapshot import Keeper

AHEAD_MAX: Final = 2_000  # that wait at another gateway for one channel in one lane: more wait here
EVEN_MAX: Final = 100  # that wait there in all, where a channel of the same priority is up here
BATCH_MAX: Final = 1_000  # given in one statement and one frame
TOPIC: Final = "given"
TOLD_AT_ONCE: Final = 120  # messages in one NOTIFY: its payload has 8,000 octets at most
TELL_GAP_S: Final = 0.01  # NOTIFY takes an instance-wide lock
GIVEN_MAX: Final = 100_000  # given lately, so that what comes back is known


class Away:
    """A channel at another gateway."""

    __slots__ = ("_fares", "_told_at_s", "gateway", "health", "link", "probed_s", "waiting")

    def __init__(self, told: state.Usable, link: Link | None, before: "Away | None") -> None:
        """`link`: None if it is on another machine. `before`: what was known a second ago."""
        self.gateway = told.gateway
        self.link = link
        self.waiting = [*told.waiting, 0, 0, 0][:3]  # by lane; with what we have given since it told
        self.health: dict[str, Health] = {}
        self.probed_s = {} if before is None else before.probes()  # by us, lately
        self._fares = told.health
        self._told_at_s = time.monotonic() - told.age_s

    def health_of(self, place: str) -> Health:
        """Return what the other gateway has learned about a country and operator."""
        health = self.health.get(place)
        if health is None:
            health = self.health[place] = Health()
            fares = self._fares.get(place)
            if fares is not None:
                health.success, health.weight, health.latency_s = (
                    fares.success,
                    fares.weight,
                    fares.latency_s,
                )
                if fares.probed_s is not None:
                    health.probed_at_s = self._told_at_s - fares.probed_s
            health.probed_at_s = max(health.probed_at_s, self.probed_s.get(place, -math.inf))
        return health

    def probes(self) -> dict[str, float]:
        """Say where we have sent a probe, and when: the other tells of it only later."""
        seen = {place: one.probed_at_s for place, one in self.health.items() if one.probed_at_s > -math.inf}
        return self.probed_s | seen

    def room(self, lane: int, most: int) -> bool:
        """Tell whether one more may wait there; `most`: of all that wait there in that lane."""
        return self.waiting[lane] < AHEAD_MAX and (self.link is None or self.link.waiting(lane) < most)

    @property
    def died(self) -> bool:
        """Whether it is known to have, a moment ago: it is on this machine and does not listen."""
        return self.link is not None and not self.link.up


class Gift(NamedTuple):
    """A message on its way to another gateway."""

    flight: Flight
    channel_id: ChannelId
    away: Away


class Others:
    """One per gateway. `away` is empty where others have nothing that is not up here."""

    def __init__(
        self, database: db.Database, keeper: Keeper, settings: Settings, open_: Mapping[ChannelId, Line]
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._number = settings.gateway
        self._memory_max = settings.memory_waiting_max
        self._open = open_
        self._links: dict[str, Link] = {}  # by socket, of this machine's
        self._up: dict[ChannelId, Away] = {}  # whatever is up elsewhere
        self._given: dict[bytes, ChannelId] = {}
        self._giving: list[Gift] = []
        self._telling: dict[int, list[Gift]] = {}  # gateways of other machines, and what is theirs now
        self._heard: list[tuple[int, bytes]] = []  # tenant and message: what such gave us
        self.away: Mapping[ChannelId, Away] = {}
        self.wake = asyncio.Event()  # there is something in one of the three

    # ---- what they have

    async def look(self, tasks: asyncio.TaskGroup) -> None:
        """Read what others told; links to those of this machine are kept up by `tasks`."""
        found: dict[ChannelId, Away] = {}
        for told in await state.elsewhere(self._database, self._number):
            link = self._link(told.socket, tasks)
            if link is not None and not link.up:
                continue  # it has died, or has just begun
            away = Away(told, link, self._up.get(told.channel_id))
            best = found.get(told.channel_id)
            if best is None or _cost(away) < _cost(best):
                found[told.channel_id] = away
        self._up = found
        self.sift()

    def forget(self) -> None:
        """There are no others, or this gateway ends: nothing is given away any more."""
        self._up = {}
        self.away = {}

    def sift(self) -> None:
        """Leave out of `away` what is up here; anew whenever a line has gone up or down."""
        self.away = {one: away for one, away in self._up.items() if not self._here(one)}

    def _here(self, channel_id: ChannelId) -> bool:
        line = self._open.get(channel_id)
        return line is not None and line.up

    def _link(self, socket: str, tasks: asyncio.TaskGroup) -> Link | None:
        link = self._links.get(socket)
        if link is None and Path(socket).exists():
            link = self._links[socket] = Link(Path(socket))
            tasks.create_task(link.run())
        return link

    # ---- what is given to them

    def add(self, states: dict[ChannelId, route.State], stream: Stream, lane: int) -> None:
        """Add how the channels of a stream's ranking stand that are up only elsewhere, if its first message may go."""
        flight = stream.flights[0]
        if not _may_go(flight):
            return
        channels = self._keeper.current.channels
        place = stream.want.country + stream.want.operator
        # Equal channels are chosen among by their weights: the one that is far, and whose window is not known from here,
        # must not get all that ours has no room for.
        here = next(
            (c.priority for c in stream.ranking if c.channel_id in states and states[c.channel_id].up), None
        )
        for candidate in stream.ranking:
            one = candidate.channel_id
            away = self.away.get(one)
            if away is not None and not self._here(one) and not channels[one].paused:
                most = EVEN_MAX if candidate.priority == here else self._memory_max
                states[one] = route.State(True, away.room(lane, most), away.health_of(place))

    def give(self, flight: Flight, channel_id: ChannelId) -> None:
        """Give a message, that was taken off its stream, to the gateway that has its channel."""
        away = self.away[channel_id]
        away.waiting[flight.handed.lane] += 1
        self._giving.append(Gift(flight, channel_id, away))
        self.wake.set()

    def gifts(self) -> Iterator[tuple[int, Sequence[Gift]]]:
        """Take what is to be given, in batches, each with who gets it."""
        giving, self._giving = self._giving, []
        by_gateway: dict[int, list[Gift]] = {}
        for gift in giving:
            by_gateway.setdefault(gift.away.gateway, []).append(gift)
        for to, gifts in by_gateway.items():
            for start in range(0, len(gifts), BATCH_MAX):
                yield to, gifts[start : start + BATCH_MAX]

    def gave(self, to: int, gifts: Sequence[Gift]) -> None:
        """Hand over what has become another's: on this machine as doors do, else by telling."""
        for gift in gifts:
            self._remember(gift.flight.handed.id, gift.channel_id)
        if not gifts:
            return
        link = gifts[0].away.link
        if link is None:
            self._telling.setdefault(to, []).extend(gifts)
            return
        link.hand(
            [msgspec.structs.replace(gift.flight.handed, owner=to, given=gift.channel_id) for gift in gifts]
        )

    async def tell(self) -> None:
        """Tell gateways of other machines what has become theirs; not too often, and what nobody hears is swept up."""
        telling, self._telling = self._telling, {}
        for to, gifts in telling.items():
            for start in range(0, len(gifts), TOLD_AT_ONCE):
                named = [
                    f"{gift.channel_id}.{gift.flight.handed.tenant_id}.{gift.flight.handed.id.hex()}"
                    for gift in gifts[start : start + TOLD_AT_ONCE]
                ]
                await self._database.notify(TOPIC, f"{to}:{','.join(named)}")
                await asyncio.sleep(TELL_GAP_S)

    def hear(self, payload: str) -> None:
        """Hear what a gateway of another machine has given: 'to:channel.tenant.id,…'."""
        to, _, named = payload.partition(":")
        if to != str(self._number):
            return
        for one in named.split(","):
            channel_id, tenant_id, message_id = one.split(".")
            self._remember(bytes.fromhex(message_id), ChannelId(int(channel_id)))
            self._heard.append((int(tenant_id), bytes.fromhex(message_id)))
        self.wake.set()

    def heard(self) -> Sequence[tuple[int, bytes]]:
        """Take what we were told is ours: tenants and ids."""
        heard, self._heard = self._heard, []
        return heard

    def _remember(self, message_id: bytes, channel_id: ChannelId) -> None:
        if len(self._given) >= GIVEN_MAX:
            self._given.pop(next(iter(self._given)))
        self._given[message_id] = channel_id

    def given_for(self, message_id: bytes) -> int:
        """Return the channel that a message was given away for, by us or to us; 0: it was not."""
        return self._given.get(message_id, 0)


def _cost(away: Away) -> tuple[bool, int]:
    return away.link is None, sum(away.waiting)


def _may_go(flight: Flight) -> bool:
    """Tell whether a message may be given away: it was not before, and no part of it has ever been put on a line."""
    handed = flight.handed
    return not (handed.given or flight.total or handed.parts_gone) and (flight.fresh or handed.attempt > 1)
