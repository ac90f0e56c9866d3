"""Claim what is due, pace it, hand each part to its channel, keep the answers: the gateway.

Writes nothing itself. Entry points: Gateway.take(), for rows that were just committed as ours; run(); close().
A gateway is made of pieces, each with a file of its own, and here is how they know each other and which loops they run:
lanes.py has in memory what waits, claim.py brings it there, pump.py decides what leaves and by which of the lines in
lines.py, answers.py hears what came of it, and the ticker in report.py stores that.
Surprise: nobody hears of anything before it is stored; what the ticker tells after its commit comes to the pieces directly.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from hongyan import db
from hongyan.channels.channel import Channel, Inbound
from hongyan.egress import Egress
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import PURPOSES, ChannelId, Status
from hongyan.way import conversion, state
from hongyan.way.answers import ASK_GAP_S, Answers, Sink
from hongyan.way.claim import Claimer
from hongyan.way.flight import ended
from hongyan.way.handover import Handed
from hongyan.way.lanes import LANES, Lanes
from hongyan.way.lines import LEASE_GAP_S, Lines
from hongyan.way.measure import Counters
from hongyan.way.notify import Owed
from hongyan.way.pump import Pump
from hongyan.way.report import Outlet, Ticker
from hongyan.way.snapshot import Keeper

log = structlog.get_logger()

PUMP_IDLE_S = 0.05  # how often waiting messages are looked at when nothing wakes us
STOPPED_TOPIC = "stopped"


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
        self._settings = settings
        self.socket_name = f"gateway-{settings.gateway}.sock"
        self._conversions = conversion.Conversions(settings.code_value_micro, random.Random())  # noqa: S311 - load is shared by it
        self.lanes = Lanes(keeper, self._conversions)
        self.lines = Lines(
            database, keeper, settings, self.lanes, egress, lambda channel_id: Sink(self.answers, channel_id),
            str(settings.state_dir / self.socket_name),
        )  # fmt: skip
        self.ticker = Ticker(
            database, keeper, vault, settings, counters,
            Outlet(self.slots_stored, owe, self.look, self.lines.settled, self.lines.dialects.paired,
                   self.lines.other_is_up, self.lines.speaks_for_all, self.lanes.left, self.lanes.pressed,
                   lambda took_s: self.pump.ticked(took_s)),  # noqa: PLW0108 - it is made just below
        )  # fmt: skip
        self.pump = Pump(
            database, keeper, vault, counters, self._conversions, self.lanes, self.lines, self.ticker
        )
        self.claimer = Claimer(
            database, keeper, vault, settings, self.lanes, self.lines, self.ticker, self.pump
        )
        self.answers = Answers(
            database,
            keeper,
            vault,
            settings,
            counters,
            self.lanes,
            self.lines,
            self.ticker,
            self.pump,
            inbound,
        )

    # ---- in

    def take(self, rows: Sequence[Handed]) -> None:
        """Take over rows that were just committed as ours."""
        self.claimer.take(rows)

    def look(self) -> None:
        """Look for due rows at once, not only at the next turn."""
        self.lanes.claim_wake.set()

    def slots_stored(self, channel_id: ChannelId, slots: Sequence[Any]) -> None:
        """Give back slots of what is committed: acks, reports, texts from people."""
        line = self.lines.open.get(channel_id)
        if line is not None:
            line.channel.stored(slots)
            self.pump.soon()

    def hear_stopped(self, payload: str) -> None:
        """Hear that somebody said stop: 'hex(phone_index):tenant_id'; tenant 0 is everybody's."""
        self.pump.hear_stopped(payload)

    def hear_cancel(self, payload: str) -> None:
        """Hear that an app wants a message back: its id in hex. What has never been put on a line is dropped."""
        flight = self.lanes.take_back(bytes.fromhex(payload))
        if flight is not None:
            self.ticker.dropped(ended(flight.handed, Status.CANCELLED, Cause.CANCELLED))

    # ---- what others ask

    def waiting(self) -> Sequence[int]:
        """Return how many messages wait in memory, by lane."""
        return self.lanes.waiting

    def waiting_by_lane(self) -> Mapping[str, float]:
        return {PURPOSES[lane].value: self.lanes.waiting[lane] for lane in LANES}

    def sessions_by_channel(self) -> Mapping[str, float]:
        return {line.row.name: line.sessions for line in self.lines.open.values()}

    def channel(self, channel_id: ChannelId) -> Channel | None:
        """Return a channel that is open here."""
        line = self.lines.open.get(channel_id)
        return None if line is None else line.channel

    # ---- loops

    async def run(self) -> None:
        """Keep sessions, claims, leases and ticks going until cancelled; then call close()."""
        self.pump.loop = asyncio.get_running_loop()
        await self.lines.dialects.load()
        async with asyncio.TaskGroup() as tasks:
            self.lines.tasks = tasks
            tasks.create_task(self.ticker.run())
            tasks.create_task(_every(LEASE_GAP_S, self.lines.lease, self.lines.wake))
            tasks.create_task(_every(state.GAP_S, self.lines.tell))
            tasks.create_task(self.claimer.run())
            tasks.create_task(_every(self._settings.sweep_gap_s, self.claimer.sweep))
            tasks.create_task(self.pump.leave())
            tasks.create_task(self.lines.dialects.run())
            tasks.create_task(_every(ASK_GAP_S, self.answers.ask))
            tasks.create_task(_every(conversion.GAP_S, self.look_at_conversions))
            tasks.create_task(self._look())

    async def _look(self) -> None:
        """Look at what waits now and then: validity runs out, pauses end, without anybody telling."""
        while True:
            await asyncio.sleep(PUMP_IDLE_S)
            if self.lanes.pressed() or any(line.waiting for line in self.lines.open.values()):
                self.pump.soon()
            await self.pump.store_decisions()
            if self.lines.tended != self._keeper.current.version:
                self.lines.wake.set()  # what was changed reaches the lines at once

    async def look_at_conversions(self) -> None:
        """Read which channels bring codes that people enter."""
        self._conversions.swap(await conversion.load(self._database))

    # ---- the end

    async def close(self) -> None:
        """Stop gracefully: take nothing new, wait for answers, store them, hand back what was not sent."""
        self.claimer.closing = True
        await self.lines.close()
        try:
            async with asyncio.timeout(self._settings.stop_wait_s):
                while not self.ticker.idle:  # noqa: ASYNC110 - once, at the end
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("gateway.stopped_early", left=len(self.lanes.mine))
        await self.claimer.hand_back()
        log.info("gateway.closed")


async def _every(
    gap_s: float, duty: Callable[[], Awaitable[None]], wake: asyncio.Event | None = None
) -> None:
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
