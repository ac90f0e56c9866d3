"""Group commit: what waits while one statement runs goes together into the next.

Entry point: Gatherer, used by doors/nonces.py, doors/rates.py, otp/issue.py and otp/check.py. Nobody waits for company:
with one request at a time each has its own statement, under load hundreds share one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from hongyan import db
from hongyan.vocab.errors import Code, Refusal

log = structlog.get_logger()

BATCH_MAX: Final = 500
WAITING_MAX: Final = 20_000  # beyond it: busy, rather than a late answer
STATEMENT_WAIT_S: Final = 5.0
RETRY_AFTER_S: Final = 1.0

Heard = Callable[[Refusal | None], None]
Told = tuple[Callable[[Any], None], Any]


class Waits(Protocol):
    """One who waits, and how to tell it what came of it; it must understand a Refusal."""

    @property
    def heard(self) -> Callable[[Any], None]: ...


T = TypeVar("T", bound=Waits)


class Gatherer(Generic[T]):
    """Keeps what waits, in order; run() hands it to `keep` in batches and tells each once what came of it.

    `keep` returns whom to tell what; where it fails, the whole batch is told Busy. Where a value cannot be stored, its
    halves are kept one after the other, so that whoever brought the value is told so alone.
    """

    def __init__(self, name: str, keep: Callable[[Sequence[T]], Awaitable[Sequence[Told]]]) -> None:
        self._name = name
        self._keep = keep
        self._waiting: deque[T] = deque()
        self._wake = asyncio.Event()

    def add(self, one: T) -> None:
        """Put one in the queue, or tell it Busy where that is full."""
        if len(self._waiting) >= WAITING_MAX:
            one.heard(busy())
            return
        self._waiting.append(one)
        self._wake.set()

    async def run(self) -> None:
        """Keep batches until cancelled; those still waiting then are told Busy."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    size = min(BATCH_MAX, len(self._waiting))
                    await self._step([self._waiting.popleft() for _ in range(size)])
        finally:
            self._tell((one.heard, busy()) for one in self._waiting)
            self._waiting.clear()

    async def _step(self, batch: Sequence[T]) -> None:
        told: Iterable[Told] = [(one.heard, busy()) for one in batch]
        halves: Sequence[Sequence[T]] = ()
        try:
            async with asyncio.timeout(STATEMENT_WAIT_S):
                told = await self._keep(batch)
        except db.Unstorable as error:
            self._lost(batch, error)
            if len(batch) > 1:
                told, halves = (), (batch[: len(batch) // 2], batch[len(batch) // 2 :])
        except Exception as error:  # noqa: BLE001 - the top of a loop: it refuses the batch and goes on
            self._lost(batch, error)
        finally:
            self._tell(told)
        if halves:
            try:
                await self._step(halves[0])
            finally:  # nobody is left untold, even at the end
                await self._step(halves[1])

    def _lost(self, batch: Sequence[T], error: Exception) -> None:
        log.warning("gatherer.batch_lost", gatherer=self._name, size=len(batch), error=type(error).__name__)

    def _tell(self, told: Iterable[Told]) -> None:
        for heard, outcome in told:
            try:
                heard(outcome)
            except Exception:  # one caller's fault must not cost the others their answers
                log.exception("gatherer.not_told", gatherer=self._name)


def busy() -> Refusal:
    """Return the refusal of who cannot answer in time."""
    return Refusal(Code.SYSTEM_BUSY, retry_after_s=RETRY_AFTER_S)
