"""Rows that wait for a commit, and when it is time for one.

No database here. Owns what waits, the keys of rows under way, and how long the next commit waits for company. Entry
points: Waiting.line_up(), gathered() and held_up(), one for each writer, take().
Surprise: rows that share a key with one under way wait for it: in the database they would wait for its locks, and all
that share their statement with them.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence

from hongyan.settings import Settings
from hongyan.vocab.errors import Code, Refusal
from hongyan.way.acceptance import Row

FEW_ROWS = 8  # so few wait for company by the clock; more only while others come
QUIET_TURNS = 2  # of the event loop without a new row: nobody else is coming just now
MANY_ROWS = 40  # so many waiting are worth a second commit beside the first; fewer share the next one
HELD_UP_S = 0.05  # a commit that takes so long waits for somebody's lock: others need not wait with it


class Waiting:
    """One per acceptor."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wake = asyncio.Event()
        self._enough = asyncio.Event()  # FEW_ROWS wait
        self._many = asyncio.Event()  # MANY_ROWS wait
        self._begun = asyncio.Event()  # a commit
        self._begun_s = 0.0  # when the last one did
        self._writing = 0  # commits under way
        self._gather_s = settings.accept_gather_ms / 1000
        self._gathered = False  # those that wait have waited for company
        self.rows: deque[Row] = deque()
        self.busy_keys: set[bytes] = set()

    def line_up(self, rows: Sequence[Row]) -> None:
        """Let rows wait for a commit."""
        self.rows.extend(rows)
        self._wake.set()
        if len(self.rows) >= FEW_ROWS:
            self._enough.set()
        if len(self.rows) >= MANY_ROWS:
            self._many.set()

    def have_gathered(self) -> None:
        """Hear that those who wait now have waited for company already."""
        if self.rows:
            self._gathered = True
            self._enough.set()

    def begin(self) -> None:
        """Hear that a commit has begun."""
        self._writing += 1
        self._begun_s = time.monotonic()
        self._begun.set()

    def end(self, rows: Sequence[Row]) -> None:
        """Hear that the commit of these rows is over, however it ended."""
        self._writing -= 1
        for row in rows:
            self.busy_keys.difference_update(row.keys)
        if self.rows:
            self._wake.set()

    async def freed(self) -> None:
        """Wait until rows come, or a commit ends: all that wait share a key with one under way."""
        await self._wake.wait()

    async def gathered(self) -> None:
        """Wait for something to commit, and a little for more: a statement costs as much as 20 of its rows.

        At most accept_gather_ms from when the first came, and shorter where nobody else has come lately. Who waits
        for an answer asks again as soon as he has it, so after a commit requests come in a row: they are company
        while each turn of the event loop brings one.
        """
        while not self.rows:
            self._wake.clear()
            await self._wake.wait()
        end_s = self.rows[0].entry.since_s + self._gather_s
        if len(self.rows) < FEW_ROWS and not self._gathered:
            before = len(self.rows)
            self._enough.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(end_s - time.monotonic()):
                    await self._enough.wait()
            gained = len(self.rows) - before
            longest_s = self._settings.accept_gather_ms / 1000
            factor = 2 if gained > 1 else 0.5 if gained == 0 else 1
            self._gather_s = min(longest_s, max(longest_s / 8, self._gather_s * factor))
        quiet = 0
        while quiet < QUIET_TURNS and not self._gathered and time.monotonic() < end_s:
            before = len(self.rows)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self.rows) == before else 0

    async def held_up(self) -> None:
        """Wait until one writer is not enough: many wait beside its commit, or that takes strangely long."""
        while not (self._writing and len(self.rows) >= MANY_ROWS):
            self._many.clear()
            if not self._writing:
                self._begun.clear()
                await self._begun.wait()
            try:
                async with asyncio.timeout(HELD_UP_S):
                    await self._many.wait()
            except TimeoutError:
                held_up = self._writing and time.monotonic() - self._begun_s >= HELD_UP_S
                if held_up and self.rows:
                    return

    def take(self) -> list[Row]:
        """Take the next batch. Rows that share a frequency or idempotency key with one under way wait for it."""
        self._gathered = False
        rows: list[Row] = []
        later: list[Row] = []
        waiting, busy = self.rows, self.busy_keys
        deadline_s = time.monotonic() - self._settings.accept_wait_s
        while waiting and len(rows) < self._settings.accept_batch_max:
            row = waiting.popleft()
            if row.entry.since_s < deadline_s:
                row.entry.settle(row.index, Refusal(Code.SYSTEM_BUSY, retry_after_s=1))
                continue
            keys = row.keys
            if busy.isdisjoint(keys):
                busy.update(keys)
                rows.append(row)
            else:
                later.append(row)
        waiting.extendleft(reversed(later))
        if later and not rows:
            self._wake.clear()
        return rows
