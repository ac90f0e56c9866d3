"""Streams of events that go on: how many there may be, what their readers share, and the word that they are to end.

Entry points: Streams, one a door; Streams.place() for one stream, Streams.sharing() for what it looks at. Nothing here
runs by itself: whoever waits for the next look makes it, and those who wait with them get the same.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Any, Final, Generic, TypeVar, cast

from hongyan.vocab.errors import Code, Refusal

STREAMS_MAX: Final = 500  # of one process
STREAMS_PER_CALLER_MAX: Final = 10
LOOKS_MAX: Final = 4  # at the same time, whoever waits for them
LOOK_GAP_S: Final = 1.0
LOOK_SHARE: Final = 4  # after a look we rest for so many times as long as it took
FULL_RETRY_S: Final = 30.0

T = TypeVar("T")


class Shared(Generic[T]):
    """One thing that is looked at again and again, for all who want to see it."""

    def __init__(self, ask: Callable[[], Awaitable[T]], turns: asyncio.Semaphore) -> None:
        self.readers = 0
        self._ask = ask
        self._turns = turns
        self._turn = asyncio.Lock()
        self._number = 0
        self._seen: T | None = None
        self._due_s = 0.0

    async def after(self, number: int) -> tuple[int, T]:
        """Return the first look after that of this number (0: any), once it is due. Each has a higher number."""
        async with self._turn:  # whoever comes first looks, and the others find what was seen
            if self._number <= number:
                await self._look()
            return self._number, cast("T", self._seen)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._due_s - loop.time()))
        began_s = loop.time()
        try:
            async with self._turns:
                self._seen = await self._ask()
        finally:  # a look that failed is not made again at once either
            self._due_s = began_s + max(LOOK_GAP_S, LOOK_SHARE * (loop.time() - began_s))
        self._number += 1


class Streams:
    """The streams of one process."""

    def __init__(self) -> None:
        self.ending = asyncio.Event()  # the program stops
        self._callers: Counter[str] = Counter()
        self._shared: dict[Hashable, Shared[Any]] = {}
        self._turns = asyncio.Semaphore(LOOKS_MAX)

    @property
    def count(self) -> int:
        return self._callers.total()

    def close(self) -> None:
        """Have all of them end."""
        self.ending.set()

    @contextlib.contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Take a place for one stream. Raises Refusal where there is none."""
        if self.count >= STREAMS_MAX:
            raise Refusal(Code.SYSTEM_BUSY, retry_after_s=FULL_RETRY_S, streams_max=STREAMS_MAX)
        if self._callers[caller] >= STREAMS_PER_CALLER_MAX:
            raise Refusal(
                Code.REQUEST_RATE_LIMITED,
                retry_after_s=FULL_RETRY_S,
                reason="so many streams are open for you already",
                streams_max=STREAMS_PER_CALLER_MAX,
            )
        self._callers[caller] += 1
        try:
            yield
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]

    @contextlib.contextmanager
    def sharing(self, what: Hashable, ask: Callable[[], Awaitable[T]]) -> Iterator[Shared[T]]:
        """Look at something together with all who look at the same; `ask` is how."""
        shared = self._shared.setdefault(what, Shared(ask, self._turns))
        shared.readers += 1
        try:
            yield shared
        finally:
            shared.readers -= 1
            if not shared.readers:
                del self._shared[what]
