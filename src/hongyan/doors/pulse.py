"""Whether the managing process answers at all: one that is frozen takes connections and says nothing.

Entry points: Pulse.demand(), before something is passed on; Pulse.stopped(), while an answer is waited for. What is asked is so
small that a process at work on long things answers it between them, so no bound of time is set to those: a file of a million rows
may take an hour, and a process that is gone is known in seconds. However many wait, one question is on its way at a time.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

HEARD_S: Final = 1.0  # so long after it was heard of, nobody asks before a request that changes nothing
QUIET_S: Final = 2.0  # an answer that takes longer is waited for with a question beside it
BEAT_WAIT_S: Final = 3.0  # within which the small question is answered, however much there is to do
BEAT_STEPS: Final = 6  # in which it is waited for: who stood still himself has lost one, and hears the answer that came meanwhile


class Silent(Exception):  # noqa: N818 - an outcome
    """It does not answer."""


class Pulse:
    """What is known of the managing process by asking it. `ask` asks once and returns whether it was answered."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._asked_s = float("-inf")  # when the last question ended, one way or the other
        self._heard_s = float("-inf")

    def heard(self) -> None:
        """Note that it has answered something."""
        self._heard_s = asyncio.get_running_loop().time()

    async def demand(self, *, surely: bool) -> None:
        """Raise Silent where it does not answer. `surely`: ask it now, however lately it was heard of."""
        if surely or asyncio.get_running_loop().time() - self._heard_s > HEARD_S:
            await self._beat()

    async def stopped(self) -> None:
        """Return when it has stopped answering; asks now and then. Whoever has what he waited for cancels this."""
        try:
            while True:
                await asyncio.sleep(QUIET_S)
                await self._beat()
        except Silent:
            return

    async def _beat(self) -> None:
        """Ask, or share the answer to a question that ends while this one would wait for its turn."""
        came_s = asyncio.get_running_loop().time()
        async with self._asking:
            if self._asked_s < came_s:
                await self._put()
        if self._heard_s < came_s:
            raise Silent

    async def _put(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(self._ask())
                for _ in range(BEAT_STEPS):
                    await asyncio.wait([asking], timeout=BEAT_WAIT_S / BEAT_STEPS)
                    if asking.done():
                        break
                asking.cancel()
            if not asking.cancelled() and asking.result():
                self.heard()
        finally:
            self._asked_s = asyncio.get_running_loop().time()
