"""An even pace for rows that somebody waits for less than for the codes beside them.

Writes nothing. Entry point: Pace.turn(). One object a process, so that two lists share what one may have.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

CATCH_UP_S: Final = 0.1  # of rows that were held up and may follow faster; what is older stays lost


class Pace:
    """Spaces rows evenly. A rate is given with each turn, because settings belong to who asks.

    One turn at a time: what is prepared and what is stored then never take two cores, and of two one is left to others.
    """

    __slots__ = ("_next_s", "_taken")

    def __init__(self) -> None:
        self._next_s = 0.0
        self._taken = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, rows: int, rows_per_s: float) -> AsyncIterator[None]:
        """Wait until these rows may go; turns are given in the order they were asked for."""
        async with self._taken:
            now_s = time.monotonic()
            begin_s = max(self._next_s, now_s - CATCH_UP_S)
            self._next_s = begin_s + rows / rows_per_s
            if begin_s > now_s:
                await asyncio.sleep(begin_s - now_s)
            yield
