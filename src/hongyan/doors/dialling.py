"""Dial customers who speak SGIP and listen for their reports and texts: only what submits comes over their own sessions.

Writes nothing. Entry point: Dialling, of a Host that serves SGIP; wake() and run(). A login with `deliver_to` is dialled
when something is owed to its app, and takes part in telling.py like a session of its own until nothing has been said for
inactivity_s. Doors dial each for itself; what is owed is leased, so it is told once all the same.

Surprise: the address is not guarded as a webhook's is. Whoever runs the platform wrote it, and customers cannot; it is
mostly private, behind a VPN.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, LiteralString, NamedTuple

import structlog

from hongyan import db
from hongyan.doors.link import Link
from hongyan.doors.tongues.sgip import Sgip
from hongyan.vocab.message import AppId
from hongyan.way.notify import back_off_s
from hongyan.way.snapshot import Login
from hongyan.wire import session as wire
from hongyan.wire.fields import Pdu

if TYPE_CHECKING:
    from hongyan.doors.protocols import Host

log = structlog.get_logger()

LOOK_GAP_S: Final = 1.0  # without a NOTIFY
ROUND_GAP_S: Final = 0.1  # between two looks, however often it is woken
CONNECT_WAIT_S: Final = 5.0
BACK_OFF_S_MAX: Final = 60.0


class Call(Link):
    """One connection that we opened to a customer."""

    def __init__(self, host: "Host", login: Login, tongue: Sgip) -> None:
        self._calling = tongue.call(login)
        super().__init__(host, tongue.name, self._calling.dialect, wire.Role.CLIENT, tongue.inactivity_s)
        self._login = login
        self.took = False  # something, whatever they said to it
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._machine.login(self._calling.login, time.monotonic())
        self._host.flush_soon(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.over.set()

    def _hear(self, event: wire.Event) -> None:
        match event:
            case wire.LoggedIn():
                self.account, self.receives, self._words = self._login, True, self._calling.words
                self._host.changed()
            case wire.Received(pdu=pdu):  # who listens asks nothing
                response = self._machine.dialect.answer(pdu, wire.Answer.NOT_LOGGED_IN)
                if response is not None:
                    self._machine.answer(response, time.monotonic())

    def _heard(self, about: object, pdu: Pdu | None) -> None:
        self.took |= pdu is not None
        super()._heard(about, pdu)


class _Failed(NamedTuple):
    times: int  # in a row
    until_s: float


class Dialling:
    """Keeps the calls of one door."""

    def __init__(self, host: "Host", database: db.Database, tongue: Sgip) -> None:
        self.active = False  # the door serves SGIP
        self._host = host
        self._database = database
        self._tongue = tongue
        self._wake = asyncio.Event()
        self._calls: set[int] = set()  # logins that are dialled now
        self._failed: dict[int, _Failed] = {}  # by login

    def wake(self) -> None:
        """Look now: something new may be owed."""
        self._wake.set()

    async def run(self) -> None:
        """Dial until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    async with asyncio.timeout(LOOK_GAP_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                try:
                    for login in await self._owed():
                        self._calls.add(login.id)
                        tasks.create_task(self._call(login))
                except db.Unavailable as error:
                    log.warning("dialling.database_lost", error=type(error).__name__)
                except Exception:
                    log.exception("dialling.failed")
                await asyncio.sleep(ROUND_GAP_S)

    async def _owed(self) -> Sequence[Login]:
        """Return whom to dial now."""
        if not self.active or self._host.stopping:
            return ()
        known = self._candidates()
        if not known:
            return ()
        rows = await self._database.fetch(OWED_SQL, list(known))
        return [known[row["app_id"]] for row in rows]

    def _candidates(self) -> Mapping[AppId, Login]:
        now_s = time.monotonic()
        logins = self._host.keeper.current.login_apps
        return {
            app_id: login
            for app_id, login in logins.items()
            if login.deliver_to
            and login.id not in self._calls
            and (login.id not in self._failed or self._failed[login.id].until_s <= now_s)
        }

    async def _call(self, login: Login) -> None:
        """Dial and stay until it is over."""
        call = Call(self._host, login, self._tongue)
        host, _, port = login.deliver_to.rpartition(":")
        why = ""
        try:
            async with asyncio.timeout(CONNECT_WAIT_S):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: call, host.strip("[]"), int(port))
            await call.over.wait()
        except Exception as error:  # noqa: BLE001 - no listener, no such host: whatever it is, it is this customer's
            why = type(error).__name__
        finally:
            self._calls.discard(login.id)
        # One that lets us in and breaks off whenever it is told something has failed, too.
        if call.took or call.end is wire.End.INACTIVE:
            self._failed.pop(login.id, None)
            return
        times = self._failed[login.id].times + 1 if login.id in self._failed else 1
        pause_s = min(BACK_OFF_S_MAX, back_off_s(times, random.uniform(0.5, 1.0)))  # noqa: S311 - spreads load
        self._failed[login.id] = _Failed(times, time.monotonic() + pause_s)
        log.warning(
            "dialling.failed",
            login=login.name,
            error=why or str(call.end),
            failures=times,
            pause_s=pause_s,
        )


# By the index of notice, so a million rows owed to one cost no more than one.
OWED_SQL: LiteralString = """
SELECT app.id AS app_id FROM unnest($1::int[]) AS app (id)
 WHERE EXISTS (SELECT FROM notice n WHERE n.app_id = app.id AND n.due_at <= now()
                  AND (n.lease_until IS NULL OR n.lease_until <= now()))
    OR EXISTS (SELECT FROM submit_part p WHERE p.app_id = app.id AND p.failed <> ''
                  AND (p.lease_until IS NULL OR p.lease_until <= now()))
"""
