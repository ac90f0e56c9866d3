"""How many sessions each login has, exact over all doors.

Writes: login_session. Entry points: Sessions.enter(), leave() and run(). A door says every RENEW_S how many sessions
it holds; what a door said that has been silent for LAPSE_S counts no more.
"""

import asyncio
import contextlib
from collections import Counter
from typing import Final, LiteralString

import structlog

from hongyan import db
from hongyan.way.snapshot import Login

log = structlog.get_logger()

RENEW_S: Final = 2.0
LAPSE_S: Final = 7.0
LOCK: Final = 0x6C6F6769  # 'logi': first half of the advisory lock, the login's number is the second


class Sessions:
    """The sessions of one door."""

    def __init__(self, database: db.Database, door: int) -> None:
        self._database = database
        self._door = door
        self._held: Counter[int] = Counter()
        self._left: set[int] = set()  # logins without a session here whose row is still to go
        # Not for enter(), which may wait for another door: what it overtakes, or is overtaken by, is right again at the next turn.
        self._renewing = asyncio.Lock()
        self._begun = False  # what a door of our number held before us is forgotten

    async def enter(self, login: Login) -> bool:
        """Count a session in; False where the login has as many as it may. Raises db.Unavailable."""
        await self._begin()
        entered = False
        try:
            async with self._database.transaction() as tx:
                # Under a lock, because a count of rows does not lock those that are not there yet.
                await tx.execute("SELECT pg_advisory_xact_lock($1, $2)", LOCK, login.id)
                others = await tx.fetchval(OTHERS_SQL, login.id, self._door, LAPSE_S)
                if others + self._held[login.id] >= login.sessions_max:
                    return False
                self._held[login.id] += 1  # now, because the lock ends with the commit
                entered = True
                await tx.execute(HOLD_SQL, [login.id], [self._held[login.id]], self._door)
        except BaseException:  # also a commit that was lost, or cut off: nobody would ever count this one out
            if entered:
                self.leave(login)
            raise
        return True

    def leave(self, login: Login) -> None:
        """Count a session out; the other doors hear of it within RENEW_S."""
        self._held[login.id] -= 1
        if self._held[login.id] <= 0:
            del self._held[login.id]
            self._left.add(login.id)

    async def run(self) -> None:
        """Renew what is held until cancelled. What a door of our number held before us counts no more."""
        with contextlib.suppress(*db.Unavailable):  # then with the first session, or it lapses by itself
            await self._begin()
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._renew()
            except db.Unavailable as error:
                log.warning("sessions.not_renewed", error=type(error).__name__)
            except Exception:
                log.exception("sessions.not_renewed")

    async def _begin(self) -> None:
        """Forget what a door of our number held before us, before a session of ours is counted: its row would go with those."""
        if self._begun:
            return
        async with self._renewing:
            if not self._begun:
                await self._forget()
                self._begun = True

    async def forget(self) -> None:
        """Let go of all that stands under our number but is not held, so that other doors need not wait for it to lapse."""
        async with self._renewing:
            await self._forget()

    async def _forget(self) -> None:
        await self._database.execute(FORGET_SQL, list(self._held), self._door)

    async def _renew(self) -> None:
        async with self._renewing:
            held, left = dict(self._held), sorted(self._left - self._held.keys())
            if held:
                await self._database.execute(HOLD_SQL, list(held), list(held.values()), self._door)
            if left:
                await self._database.execute(LEAVE_SQL, left, self._door)
                self._left.difference_update(left)


# A door that was seen in a time to come was so by a clock that was set back since.
OTHERS_SQL: LiteralString = """
SELECT coalesce(sum(count), 0)::int FROM login_session
 WHERE login_id = $1 AND door <> $2 AND seen_at > now() - make_interval(secs => $3) AND seen_at < now() + interval '1 minute'
"""
HOLD_SQL: LiteralString = """
INSERT INTO login_session (login_id, door, count)
SELECT h.login_id, $3, h.count FROM unnest($1::int[], $2::int[]) AS h(login_id, count) ORDER BY h.login_id
    ON CONFLICT (login_id, door) DO UPDATE SET count = EXCLUDED.count, seen_at = now()
"""
FORGET_SQL: LiteralString = "DELETE FROM login_session WHERE door = $2 AND NOT login_id = ANY($1::int[])"
# And what doors that are no more have left behind.
LEAVE_SQL: LiteralString = """
DELETE FROM login_session
 WHERE login_id = ANY($1::int[]) AND (door = $2 OR seen_at < now() - interval '1 day')
"""
