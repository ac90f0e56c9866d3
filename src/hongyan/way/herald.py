"""Tell other processes what was just owed: whoever posts notices, and whoever tells those who log in.

Writes nothing itself; owing ends leases for it. Entry points: Herald.owe(), Herald.tell() and Herald.run().

Rows of apps with a webhook are born leased, as if a payer stood beside us. Where none does, their leases are ended:
without that they would wait for half a minute. Only those: the row of an app without a webhook is free from its birth,
and the lease on it by now is that of a session which is just being told.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from hongyan import clock, db
from hongyan.way import owing
from hongyan.way.notice import Owed
from hongyan.way.snapshot import Keeper

log = structlog.get_logger()

GAP_S: Final = 0.01  # NOTIFY takes an instance-wide lock: at most one in so long
OWED_MAX: Final = 100_000
OURS_S: Final = owing.LEASE_S - 5.0  # after it the lease may be another's


class Herald:
    """What a process without a payer owes; one a process."""

    def __init__(
        self, database: db.Database, keeper: Keeper, *, now_s: Callable[[], float] = clock.now_s
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._now_s = now_s
        self._owed: list[tuple[float, int]] = []  # (whose lease until then is that of its birth, notice)
        self._topics: set[str] = set()  # whom a word is still due to
        self._wake = asyncio.Event()
        self._giving = asyncio.Lock()

    def owe(self, notices: Sequence[Owed]) -> None:
        """Hear of rows that were just committed. What finds no room waits for the end of its lease."""
        webhooks, until_s = self._keeper.current.webhooks, self._now_s() + OURS_S
        leased = [(until_s, notice.id) for notice in notices if notice.app_id in webhooks]
        if leased:
            self._owed += leased[: OWED_MAX - len(self._owed)]
            self._wake.set()

    def tell(self) -> None:
        """Let the doors know that somebody who logs in is owed something."""
        self._topics.add(owing.TOLD_TOPIC)
        self._wake.set()

    async def run(self) -> None:
        """Give until cancelled, in batches: one NOTIFY a gap, however much is owed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.give()
            except db.Unavailable as error:
                log.warning("herald.database_lost", error=type(error).__name__)
                self._wake.set()
            await asyncio.sleep(GAP_S)

    async def give(self) -> None:
        """Give what is owed by now. Raises db.Unavailable; then it is still owed."""
        async with self._giving:  # the last one, at the end, may find one under way
            owed = self._owed[:]
            if owed:
                now_s = self._now_s()
                ours = sorted(notice for until_s, notice in owed if until_s > now_s)
                await owing.give_back(self._database, ours)
                del self._owed[: len(owed)]  # whatever comes now: a lease on them may be a payer's
                self._topics.add(owing.OWED_TOPIC)
            for topic in tuple(self._topics):
                self._topics.discard(topic)  # what is told meanwhile needs another word
                try:
                    await self._database.notify(topic)
                except BaseException:
                    self._topics.add(topic)
                    raise
