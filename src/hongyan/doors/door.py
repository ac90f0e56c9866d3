"""One process's way in: what every route needs, in one value, and the loops that serve it.

Entry points: Door, Door.run(). Requests are answered without being logged; refusals and errors are logged, a
few a second, without numbers, texts or query strings, and without the word in the address of a push.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

import structlog

from hongyan import db, descriptors
from hongyan.channels.channel import Inbound
from hongyan.control import keys
from hongyan.doors import callers
from hongyan.doors.auth import Gate, Snapshots
from hongyan.doors.bursts import Bursts
from hongyan.doors.call import Caller
from hongyan.doors.exchange import Answer, Asked, RequestIds, refused
from hongyan.doors.heads import Heads
from hongyan.doors.nonces import Nonces
from hongyan.doors.pages import Pages
from hongyan.doors.rates import Rates
from hongyan.doors.streams import Streams
from hongyan.otp.book import Keeper as BookKeeper
from hongyan.otp.check import Checker
from hongyan.otp.issue import Issuer
from hongyan.otp.resend import Resender
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import ChannelId, MessageId
from hongyan.way.accept import Done, Draft, Idempotency
from hongyan.way.inbound import Answered
from hongyan.way.snapshot import Key

log = structlog.get_logger()

LOGGED_PER_S_MAX: Final = 20
CONNECTIONS_MAX: Final = 10_000
SWEEP_GAP_S: Final = 1.0
USES_GAP_S: Final = 60.0  # when a key was used last is known to about so long
ADMIT_WAIT_S: Final = 15.0  # longer than each step of admission may take


class Accepts(Protocol):
    """Who takes messages in (way.accept.Acceptor)."""

    def offer(
        self,
        key: Key,
        drafts: Sequence[Draft],
        idempotency: Idempotency | None,
        done: Done,
        ids: Sequence[MessageId] = (),
    ) -> None: ...

    def have_gathered(self) -> None: ...


class HearsTexts(Protocol):
    """Who stores a text from the sandbox's phone as it stores what people text (doors.upstream.Upstream.texted)."""

    async def __call__(self, channel_id: ChannelId, text: Inbound, answers: Answered) -> bool: ...


class Swept(Protocol):
    """A connection that is looked at now and then."""

    def sweep(self, now_s: float) -> None: ...


class Door:
    """Everything a route may use. run() must run beside the server."""

    def __init__(
        self,
        settings: Settings,
        snapshots: Snapshots,
        database: db.Database,
        vault: Vault,
        acceptor: Accepts,
        texted: HearsTexts,
    ) -> None:
        self.settings = settings
        self.snapshots = snapshots
        self.database = database
        self.vault = vault
        self.acceptor = acceptor
        self.texted = texted
        self._nonces = Nonces(database)
        self._rates = Rates(database)
        self.gate = Gate(
            snapshots, self._nonces, self._rates, settings.clock_skew_s, settings.trusted_proxies
        )
        self.book = BookKeeper(database)
        self.issuer = Issuer(database, snapshots, self.book, vault, settings, acceptor)
        self.resender = Resender(database, self.issuer, vault, settings, acceptor)
        self.checker = Checker(database, vault)
        self.pages = Pages(database)
        self.ids = RequestIds()
        self.heads = Heads()
        self.streams = Streams()
        self.bursts = Bursts(settings.accept_gather_ms / 1000, acceptor.have_gathered)
        self.connections: set[Swept] = set()
        self.bursts.connections = self.connections
        # A further one is told Busy. What is left over is for the database, other processes and files.
        self.connections_max = min(CONNECTIONS_MAX, descriptors.limit() * 3 // 4)
        self.refusals: Counter[str] = Counter()  # how many by public code, since the start
        self._second = 0
        self._logged = 0

    async def run(self) -> None:
        """Store nonces, fetch rates, make and check codes, and close idle connections, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._nonces.run())
            group.create_task(self._rates.run())
            group.create_task(self.book.run())
            group.create_task(self.issuer.run())
            group.create_task(self.checker.run())
            group.create_task(self.pages.run())
            group.create_task(self._sweep())
            group.create_task(self._keep_uses())

    async def caller(self, asked: Asked) -> Caller:
        """Return who asks: a person by what the console or a token says, else a program by its key. Raises Refusal."""
        if callers.is_person(asked):
            return await callers.person(self.database, asked, self.gate.address(asked))
        return callers.program(await self.key(asked))

    async def key(self, asked: Asked) -> Key:
        """Gate.admit() for those who can wait."""
        heard: asyncio.Future[Key | Refusal] = asyncio.get_running_loop().create_future()

        def admitted(outcome: Key | Refusal) -> None:
            if not heard.done():
                heard.set_result(outcome)

        self.gate.admit(asked, admitted)
        async with asyncio.timeout(ADMIT_WAIT_S):
            outcome = await heard
        if isinstance(outcome, Refusal):
            raise outcome
        return outcome

    def refuse(self, asked: Asked, refusal: Refusal, *, allow: str = "") -> Answer:
        """Answer a refusal, count it and log it."""
        answer = refused(asked, refusal, allow=allow)
        self.refusals[refusal.code.value.name] += 1
        if self._may_log():
            log.info(
                "door.refused",
                refusal=refusal.code.value.name,
                method=asked.method.decode("latin-1"),
                path=_shown(asked.path),
                request_id=asked.request_id,
            )
        return answer

    def broken(self, asked: Asked, error: BaseException) -> Answer:
        """Answer for a fault of ours: 500, nothing of it told to the caller, all of it logged.

        That the database is away is none: later is time enough.
        """
        if isinstance(error, db.Unavailable):
            refusal = Refusal(Code.SYSTEM_BUSY, retry_after_s=1.0)
            if self._may_log():
                log.warning("door.database_lost", request_id=asked.request_id, error=type(error).__name__)
        else:
            refusal = Refusal(Code.SYSTEM_ERROR)
            log.error("door.failed", request_id=asked.request_id, exc_info=error)
        self.refusals[refusal.code.value.name] += 1
        return refused(asked, refusal)

    def _may_log(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            if self._logged > LOGGED_PER_S_MAX:
                log.info("door.not_logged", refusals=self._logged - LOGGED_PER_S_MAX)
            self._second, self._logged = second, 0
        self._logged += 1
        return self._logged <= LOGGED_PER_S_MAX

    async def write_uses(self) -> None:
        """Write down which keys were used since the last time. Raises db.Unavailable; then they are still to be written."""
        used, self.gate.used = self.gate.used, set()
        try:
            await keys.note_used(self.database, used)
        except BaseException:
            self.gate.used |= used
            raise

    async def _keep_uses(self) -> None:
        while True:
            await asyncio.sleep(USES_GAP_S)
            try:
                await self.write_uses()
            except db.Unavailable as error:
                log.warning("door.uses_not_written", error=type(error).__name__)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_GAP_S)
            for connection in tuple(self.connections):
                connection.sweep(loop.time())


def _shown(path: bytes) -> str:
    """Write a path for the log. Whoever knows the address of a push may push, so nothing of one is shown."""
    if b"/upstream/" in unquote_to_bytes(path).lower():
        return "/upstream/***"
    return path[:200].decode("latin-1")
