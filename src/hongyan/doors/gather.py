"""Group commit at the door: what waits while one statement runs goes together into the next.

Entry point: Gatherer, used by nonces.py and rates.py. Nobody waits for company: with one request at a time
each has its own statement, under load hundreds share one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")
BATCH_MAX: Final = 500
WAITING_MAX: Final = 20_000  # beyond it: busy, rather than a late answer
STATEMENT_WAIT_S: Final = 5.0


class Gatherer(Generic[T]):
    """Keeps what waits, in order; run() hands it on in batches. `lost` hears of those that could not be kept."""

    def __init__(
        self, name: str, keep: Callable[[Sequence[T]], Awaitable[None]], lost: Callable[[Sequence[T]], None]
    ) -> None:
        self._name = name
        self._keep = keep
        self._lost = lost
        self._waiting: deque[T] = deque()
        self._wake = asyncio.Event()

    def add(self, one: T) -> bool:
        """Put one in the queue; False where it is full."""
        if len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting.append(one)
        self._wake.set()
        return True

    async def run(self) -> None:
        """Keep batches until cancelled; those still waiting then are lost, and told so."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._step(
                        [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
                    )
        finally:
            self._lost(self._waiting)
            self._waiting.clear()

    async def _step(self, batch: Sequence[T]) -> None:
        try:
            async with asyncio.timeout(STATEMENT_WAIT_S):
                await self._keep(batch)
        except asyncio.CancelledError:
            self._lost(batch)
            raise
        except Exception as error:  # noqa: BLE001 - the top of a loop: the batch is refused, the loop goes on
            log.warning("door.batch_lost", gatherer=self._name, size=len(batch), error=type(error).__name__)
            self._lost(batch)
