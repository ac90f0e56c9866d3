"""The lines of this gateway: which channels it has sessions of, opened, changed, drained and closed as configured.

Writes: gateway, session_lease, channel_state (through state). Owns the lines that are open, our share of each channel's
sessions, the channels that are drained, and dialects. Entry points: Lines.lease(), a duty every LEASE_GAP_S, at once
when the snapshot changes; open, the lines by channel; close().
Gateways share a channel's sessions by leases that run out by themselves, so that no two open one that only one may.
Surprises: a line that is being closed stays in `open` and keeps its leases until it is: whoever took one would find it
in use. What waited for a line that goes down is routed anew, but for long messages of which parts have left there.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import LiteralString

import msgspec
import structlog

from hongyan import clock, db
from hongyan.channels import kinds
from hongyan.channels.channel import ChannelState, Sink
from hongyan.egress import Egress
from hongyan.settings import Settings
from hongyan.vocab import text
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import ChannelId, Status
from hongyan.way import state
from hongyan.way.dialect import Dialects
from hongyan.way.flight import Flight
from hongyan.way.lanes import LANES, Lanes
from hongyan.way.line import Line
from hongyan.way.others import Others
from hongyan.way.snapshot import ChannelRow, Keeper, Snapshot

log = structlog.get_logger()

LEASE_S = 6.0
LEASE_GAP_S = 2.0
LONG_TEXT = "x" * 200  # more than one part, whatever the counting


class Lines:
    """One per gateway. Its tasks, which see lines shut, must be given before the first lease."""

    def __init__(
        self,
        database: db.Database,
        keeper: Keeper,
        settings: Settings,
        lanes: Lanes,
        egress: Egress | None,
        sink_of: Callable[[ChannelId], Sink],
        socket: str,
    ) -> None:
        """`sink_of`: whom a channel tells. `socket`: where doors find this gateway."""
        self._database = database
        self._keeper = keeper
        self._settings = settings
        self._lanes = lanes
        self._egress = egress
        self._sink_of = sink_of
        self._socket = socket
        self._number = settings.gateway
        self._slots: dict[ChannelId, int] = {}  # sessions we hold
        self._drained: dict[ChannelId, float] = {}  # were to be drained and are: until when at most
        self.open: dict[ChannelId, Line] = {}
        self.dialects = Dialects(database, self.open)
        self.others = Others(database, keeper, settings, self.open)
        self.shutting: dict[ChannelId, asyncio.Task[None]] = {}  # lines that are being closed
        self.with_others: frozenset[ChannelId] = frozenset()  # channels others hold sessions of
        self.up_with_others: frozenset[ChannelId] = frozenset()  # those of them that others told may be used
        self.tended = 0  # the snapshot that lines were last tended by
        self.wake = asyncio.Event()  # to lease at once
        self.tasks: asyncio.TaskGroup
        self.closing = False

    # ---- what a line hears

    def changed(self, line: Line, link: ChannelState) -> None:
        """Hear how a link is. What waited for a line that went down is routed anew."""
        was_up = line.up
        line.changed(link)
        if was_up != line.up:
            self.others.sift()
            log.info(
                "channel.link",
                channel=line.row.name,
                link=link.link,
                sessions=link.sessions_up,
                reason=link.reason,
            )
        if not line.up:
            self.reroute(line)

    def reroute(self, line: Line) -> None:
        """Route anew what waits for a line that went down, but messages of which parts have left there."""
        parcels = line.take_back()
        counts: Counter[Flight] = Counter(parcel.handle for parcel in parcels)
        for parcel in parcels:
            if counts[parcel.handle] < parcel.handle.total:
                line.again(parcel)
        self._lanes.back([flight for flight, count in counts.items() if count == flight.total], line)

    def settled(
        self,
        channel_id: ChannelId,
        country: str,
        operator: str,
        status: Status,
        cause: Cause,
        latency_s: float,
    ) -> None:
        """Hear of a final report: how healthy its channel is shows in it."""
        line = self.open.get(channel_id)
        if line is not None:
            line.health_of(country, operator).heard(status, cause, latency_s)
            line.figures.settled(status, cause, latency_s)

    # ---- what is asked about them

    def other_is_up(self, channel_id: ChannelId) -> bool:
        """Tell whether any other channel is up, here or at another gateway."""
        return any(line.up and line.row.id != channel_id for line in self.open.values()) or any(
            one != channel_id for one in self.others.away
        )

    def others_take(self, channel_id: ChannelId) -> bool:
        """Whether another gateway told that a channel may be used there, and it is not paused."""
        row = self._keeper.current.channels.get(channel_id)
        return channel_id in self.up_with_others and row is not None and not row.paused

    def speaks_for_all(self, channel_id: ChannelId) -> bool:
        """Whether one report of this channel stands for all parts of a long message."""
        line = self.open.get(channel_id)
        return line is not None and (line.row.report_one or line.takes_whole)

    async def tell(self) -> None:
        """Tell everybody how each channel fares here, and hear how those fare that others have."""
        if self.closing:
            return
        now_s, waiting = time.monotonic(), self._lanes.waiting_by_channel()
        told: dict[ChannelId, state.Told] = {}
        for channel_id in self._keeper.current.channels:
            line, lanes = self.open.get(channel_id), waiting.get(channel_id, [0] * len(LANES))
            if line is not None:
                told[channel_id] = state.told_of(line, lanes, now_s)
            else:
                told[channel_id] = state.Told(waiting=lanes, drained=channel_id in self._drained)
        await state.tell(self._database, self._number, told)
        if self.with_others:
            await self.others.look(self.tasks)
        if self.closing or not self.with_others:
            self.others.forget()

    # ---- sessions, shared between gateways by leases

    async def lease(self) -> None:
        """Say that we live, share out each channel's sessions, and open, change or close lines accordingly."""
        if self.closing:
            return
        snapshot = self._keeper.current
        self.tended = snapshot.version
        await self._look_for_drained(snapshot)
        channels = {row.id: row for row in snapshot.channels.values() if row.id not in self._drained}
        wanted = {row.id: row.sessions for row in channels.values()}
        async with self._database.transaction() as tx:
            held, others = await _share_out(
                tx, self._number, self._socket, self._settings.gateway_dead_s, wanted, list(self.shutting)
            )
        self.with_others = frozenset(others)
        self.up_with_others = frozenset(channel_id for channel_id, takes in others.items() if takes)
        for channel in channels.values():
            await self._tend(channel, held.get(channel.id, 0))
        for channel_id in self.open.keys() - channels.keys() - self.shutting.keys():
            self._slots[channel_id] = 0  # not to be opened anew
            self._shut(self.open[channel_id])

    async def _look_for_drained(self, snapshot: Snapshot) -> None:
        """Find out which channels that are to be drained are: nothing is under way there or awaited, or time is up."""
        draining = {row.id: row.drain_until_s for row in snapshot.channels.values() if row.drain_until_s}
        known = self._drained
        self._drained = {one: until_s for one, until_s in draining.items() if known.get(one) == until_s}
        open_ = draining.keys() - self._drained.keys()
        if not open_:
            return
        awaited = await _awaited(self._database, sorted(open_))
        now_s = clock.now_s()
        for channel_id in open_:
            line = self.open.get(channel_id)
            told = line is None or line.row.drain_until_s  # else it may take something at this very moment
            if now_s >= draining[channel_id] or (
                told and channel_id not in awaited and (line is None or line.idle)
            ):
                self._drained[channel_id] = draining[channel_id]
                log.info("channel.drained", channel=snapshot.channels[channel_id].name)
                self.wake.set()

    async def _tend(self, row: ChannelRow, sessions: int) -> None:
        if self.closing:
            return
        line = self.open.get(row.id)
        if line is None:
            if sessions:
                await self._open(row, sessions)
            return
        changed = line.row.config.reveal() != row.config.reveal() or line.row.kind != row.kind
        if changed and row.id not in self.shutting:
            self._shut(line)
        if row.id in self.shutting:
            self._slots[row.id] = sessions  # to open with, once it is closed
            return
        line.row = row
        line.share(row.parts_per_s * sessions / max(1, row.sessions))
        if self._slots.get(row.id) != sessions:
            line.channel.resize(sessions)
            self._slots[row.id] = sessions
        line.changed(line.channel.state())
        if not line.up:
            self.reroute(line)

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
        self.open[row.id] = line
        self._slots[row.id] = sessions
        channel.resize(sessions)
        if row.id in self.dialects.known:
            channel.learned(self.dialects.known[row.id])
        await channel.open(self._sink_of(row.id))
        log.info("channel.opened", channel=row.name, kind=row.kind, sessions=sessions)

    # ---- closing

    def _shut(self, line: Line) -> None:
        """Begin to close a line, in a task of its own: it may take longer than the leases of the others last.

        Until it is closed it stays where it is and keeps its slots, so nobody opens its channel anew.
        """
        if self.closing:
            return  # close() is at it
        line.row = msgspec.structs.replace(line.row, paused=True)  # whatever its channel still tells
        line.up = False
        self.reroute(line)
        self.shutting[line.row.id] = self.tasks.create_task(self._see_shut(line))

    async def _see_shut(self, line: Line) -> None:
        """Close a line, and open its channel anew if that is still wanted."""
        channel_id = line.row.id
        try:
            await line.channel.close()
        except Exception:  # our bug; its sessions have ended all the same
            log.exception("channel.close_failed", channel=line.row.name)
        self.reroute(line)
        for flight in dict.fromkeys(parcel.handle for parcel in line.take_back()):
            self._lanes.ask_rules(flight, begun=True)  # a long one; the acks of what has left here are stored
        del self.open[channel_id], self.shutting[channel_id]
        log.info("channel.closed", channel=line.row.name)
        sessions = self._slots.pop(channel_id)
        row = self._keeper.current.channels.get(channel_id)
        if row is not None and sessions and not self.closing:
            await self._open(row, sessions)

    async def close(self) -> None:
        """Open nothing any more, let nothing new onto a line, and close all of them."""
        self.closing = True
        self.others.forget()
        for line in self.open.values():
            line.row = msgspec.structs.replace(line.row, paused=True)
            self.reroute(line)
        async with asyncio.TaskGroup() as tasks:
            for channel_id, line in self.open.items():
                if channel_id not in self.shutting:
                    tasks.create_task(line.channel.close())
        if self.shutting:
            await asyncio.wait(self.shutting.values())

    async def forget(self, tx: db.Tx) -> None:
        """Take back what this gateway has leased and told, and that it lives."""
        await _forget(tx, self._number)


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

OTHERS_SQL: LiteralString = """
SELECT l.channel_id, bool_or(s.takes) AS takes
  FROM session_lease l
 CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM channel_state c WHERE c.channel_id = l.channel_id AND c.gateway = l.gateway
                      AND c.told_at > now() - make_interval(secs => $2::float8) AND (c.told ->> 'takes')::bool) AS takes) s
 WHERE l.gateway <> $1 AND l.until > now() GROUP BY l.channel_id
"""


async def _share_out(
    tx: db.Tx,
    gateway: int,
    socket: str,
    dead_s: float,
    wanted: Mapping[ChannelId, int],
    kept: Sequence[ChannelId],
) -> tuple[Mapping[ChannelId, int], Mapping[ChannelId, bool]]:
    """Say that we live and take our share of what is wanted.

    Returns the sessions we hold, and of which channels others do: whether one of them told that it may be used.
    """
    await tx.execute(ALIVE_SQL, gateway, socket)
    rows = await tx.fetch(LEASE_SQL, gateway, list(wanted), list(wanted.values()), LEASE_S, dead_s)
    if kept:
        await tx.execute(KEEP_SQL, gateway, kept, LEASE_S)
    others = await tx.fetch(OTHERS_SQL, gateway, state.STALE_S)
    held = {ChannelId(row["channel_id"]): int(row["held"]) for row in rows}
    return held, {ChannelId(row["channel_id"]): bool(row["takes"]) for row in others}


AWAITED_SQL: LiteralString = """
SELECT c.channel_id FROM unnest($1::int[]) AS c(channel_id)
 WHERE EXISTS (SELECT FROM submitted s WHERE s.channel_id = c.channel_id AND s.state < 2)
"""


async def _awaited(database: db.Database, channel_ids: Sequence[ChannelId]) -> set[int]:
    """Return the channels of which reports are still to come."""
    return {row["channel_id"] for row in await database.fetch(AWAITED_SQL, channel_ids)}


RELEASE_SQL: LiteralString = "DELETE FROM session_lease WHERE gateway = $1"
GOODBYE_SQL: LiteralString = "DELETE FROM gateway WHERE id = $1"


async def _forget(tx: db.Tx, gateway: int) -> None:
    await tx.execute(RELEASE_SQL, gateway)
    await state.forget(tx, gateway)
    await tx.execute(GOODBYE_SQL, gateway)
