"""What is due when: one heap and one timer of the loop for all deeds, however many.

Entry point: Agenda.add(). A task or a loop timer per message would cost more than the message; here the
loop wakes at most once a millisecond and does all that is due, so writes to sockets go together too.
"""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Any, Final, TypeVarTuple

GRAIN_S: Final = 0.001  # deeds closer together than this are done together

Args = TypeVarTuple("Args")


class Agenda:
    """Deeds in order of their time, and of their coming where times are equal."""

    def __init__(self, after: Callable[[], None]) -> None:
        """after is called once behind every round of deeds."""
        self._after = after
        self._loop = asyncio.get_running_loop()
        self.now_s = self._loop.time  # the time that add() speaks of
        self._deeds: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0
        self._running = False

    def __len__(self) -> int:
        return len(self._deeds)

    def add(self, at_s: float, deed: Callable[[*Args], None], *args: *Args) -> None:
        heapq.heappush(self._deeds, (at_s, next(self._order), deed, args))
        if not self._running and (self._timer is None or at_s < self._timer_at_s - GRAIN_S):
            self._set_timer()

    def close(self) -> None:
        """Forget everything."""
        self._deeds.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deeds:
            self._timer_at_s = max(self._deeds[0][0], self._loop.time() + GRAIN_S)
            self._timer = self._loop.call_at(self._timer_at_s, self._run)

    def _run(self) -> None:
        self._timer = None
        self._running = True
        due_s = self._loop.time()
        try:
            while self._deeds and self._deeds[0][0] <= due_s:
                _, _, deed, args = heapq.heappop(self._deeds)
                deed(*args)
        finally:
            self._running = False
            self._set_timer()
            self._after()
