"""Requests of many connections read together: what a door does for ten costs little more than what it does for one.

Entry point: Bursts, one a door. A process that wakes up for one request pays three times its share of ten: its caches are
cold, and its commit is its own. So octets are left lying for a moment, and read in one go with what has come meanwhile.
The moment is the one that a commit would wait for company anyway.
Surprise: nobody is waited for who waits for us. Where every connection has asked, and where a burst fills in half of its
time, reading goes on at once.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol

SHORTEST: Final = 1 / 8  # of the longest hold: where nobody else comes, nobody is waited for
ENOUGH: Final = 12  # pieces are company enough
LARGE: Final = 16_384  # octets: a piece of something long, which is company by itself
BUSY_S: Final = 0.05  # how long nothing is held after a burst that filled in half of its time


class Reads(Protocol):
    """A connection whose octets may be held."""

    def received(self, octets: bytes) -> None:
        """Read octets, as they came from the socket."""


class Bursts:
    """What has come and is not yet read, in the order in which connections began to wait."""

    def __init__(self, longest_s: float, complete: Callable[[], None]) -> None:
        """Hold at most `longest_s` (0: not at all); `complete` hears that a burst was read to its end."""
        self.connections: Collection[object] = ()  # all there are
        self.asking: set[object] = set()  # those that wait for an answer
        self._longest_s = self._hold_s = longest_s
        self._complete = complete
        self._held: dict[Reads, bytes] = {}
        self._pieces = 0  # of what is held
        self._timer: asyncio.TimerHandle | None = None
        self._busy_until_s = 0.0

    def hold(self, reader: Reads, octets: bytes) -> None:
        """Have octets read soon, or at once where waiting wins nothing."""
        loop = asyncio.get_running_loop()
        held = self._held
        if not held:
            if not self._longest_s or len(octets) >= LARGE or loop.time() < self._busy_until_s:
                reader.received(octets)
                return
            self._pieces = 0
            self._timer = loop.call_later(self._hold_s, self._over)
        before = held.get(reader)
        held[reader] = octets = octets if before is None else before + octets
        self._pieces += 1
        if len(held) + len(self.asking) >= len(self.connections) or len(octets) >= LARGE:
            self._read()
        elif self._pieces >= ENOUGH:
            assert self._timer is not None
            if self._timer.when() - loop.time() > self._hold_s / 2:
                self._busy_until_s = loop.time() + BUSY_S
            self._read()

    def release(self, reader: Reads) -> None:
        """Read now what is held of a connection: something else is about to happen to it."""
        octets = self._held.pop(reader, None)
        if octets is None:
            return
        if not self._held:
            self._stop_timer()
        reader.received(octets)

    def _over(self) -> None:
        gained = self._pieces - 1
        factor = 2 if gained > 1 else 0.5 if gained == 0 else 1
        self._hold_s = min(self._longest_s, max(self._longest_s * SHORTEST, self._hold_s * factor))
        self._read()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read(self) -> None:
        self._stop_timer()
        held, self._held = self._held, {}
        for reader, octets in held.items():
            try:
                reader.received(octets)
            except Exception as error:  # noqa: BLE001 - our bug, of one connection: the others are read
                context = {"message": "a request could not be read", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
        self._complete()
