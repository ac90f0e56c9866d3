"""Owe each app its notices and pay them: gather, sign, POST, back off, pause; or give them out to be pulled.

Writes nothing itself; owing writes notice and webhook_health for it, posted a log of the POSTs.
Entry points: Payer.owe() and Payer.run(); pull(), acknowledge(), give_up().

The table has everything that is owed; memory is only the short way to it. A row in memory is leased, and
forgotten before its lease is over, so that no two processes post the same row. Whatever is forgotten here
(no room, a pause, a crash) is claimed again from the table once its lease is over.
"""

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from hongyan import clock, db
from hongyan.egress import Answer, Egress, Failed
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.message import AppId, MessageIds
from hongyan.way import owing, posted
from hongyan.way.notice import Owed, body_of, mac_of
from hongyan.way.owing import LEASE_S, Pulled, acknowledge, give_up, pull
from hongyan.way.posted import Posted
from hongyan.way.snapshot import Keeper, Webhook

__all__ = [
    "LEASE_S",
    "Counts",
    "Owed",
    "Payer",
    "Pulled",
    "acknowledge",
    "back_off_s",
    "give_up",
    "pause_s",
    "pull",
]

log = structlog.get_logger()

LEASE_MARGIN_S = 5.0  # from a row's birth until owe() hears of it, and from its payment until it is deleted
WAITING_MAX = 2_000  # notices in memory for one webhook: 16 POSTs of 100 and some; the table has the rest
WAITING_ALL_MAX = 100_000  # and for all: about 60 MB
POSTS_MAX = 512  # at once, over all webhooks; the upper half only for a webhook's first POST
DEFERRED_MAX = 50_000  # failures waiting to be written down; beyond it a lease just runs out
POSTED_MAX = 5_000  # POSTs waiting to be logged; beyond it they go unlogged
POLL_GAP_S = 1.0
POLL_GAP_MIN_S = 0.05  # when there is a backlog
SWEEP_EVERY = 30  # polls between two looks for the lowest id that is left
BACK_OFF_S_MAX = 3_600.0
PAUSE_S = 15.0  # the first pause of an endpoint; each failed probe doubles it
PAUSE_S_MAX = 300.0
GONE_PAUSE_S = 3_600.0  # after 410 Gone: it says that it will not come back
GONE = 410


def back_off_s(attempt: int, chance: float) -> float:
    """Return how long to wait after failure number `attempt` (from 1): up to 2 s, doubling up to an hour.

    Full jitter, `chance` in [0, 1): those that failed together do not come back together.
    """
    return chance * min(BACK_OFF_S_MAX, 2.0 ** min(attempt, 12))


def pause_s(failures_beyond: int) -> float:
    """Return the length of a pause after so many failures beyond the first pause (from 0)."""
    return float(min(PAUSE_S_MAX, PAUSE_S * 2.0 ** min(failures_beyond, 8)))


@dataclass(slots=True)
class Counts:
    """What a Payer has done, for metrics; only ever rising."""

    posts: int = 0
    paid: int = 0
    failed_posts: int = 0
    deferred: int = 0
    forgotten: int = 0  # left to the table for want of room or time
    pauses: int = 0


@dataclass(slots=True, eq=False)
class _Endpoint:
    """One webhook's own line: what waits, what is out, how it has been doing."""

    webhook: Webhook
    waiting: deque[tuple[float, Owed]] = field(default_factory=deque)  # (forget at, Unix seconds; notice)
    posting: int = 0
    slots: int = 1  # POSTs at once: doubled by each success, so that a stranger that hangs holds few
    posted_s: float = 0.0  # when the last POST began, by the monotonic clock
    failures: int = 0  # in a row
    paused_until_s: float = 0.0
    gathered: bool = False  # the hold is over, send what there is
    hold: asyncio.TimerHandle | None = None
    behind: bool = False  # the table may have more than we could take


class Payer:
    """Pays notices by webhook. One per clerk; any number of clerks may run."""

    def __init__(
        self,
        database: db.Database,
        keeper: Keeper,
        vault: Vault,
        settings: Settings,
        egress: Egress,
        settle: Callable[[Sequence[int]], None],
        *,
        now_s: Callable[[], float] = clock.now_s,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`settle` hears the ids that were paid; their rows are deleted by the next tick."""
        self.counts = Counts()
        self._database = database
        self._keeper = keeper
        self._vault = vault
        self._egress = egress
        self._settle = settle
        self._now_s = now_s
        self._chance = chance
        self._batch_max = settings.notice_batch_max
        self._hold_s = settings.notice_hold_ms / 1000
        self._posts_max = settings.notice_posts_max
        self._pause_after = max(1, settings.webhook_pause_after)
        self._stop_wait_s = settings.stop_wait_s
        self._post_wait_s = min(settings.notice_timeout_s, LEASE_S / 2)
        self._keep_s = LEASE_S - LEASE_MARGIN_S - self._post_wait_s
        self._endpoints: dict[AppId, _Endpoint] = {}
        self._queueing: dict[AppId, _Endpoint] = {}  # could post, but for POSTS_MAX; first come, first served
        self._waiting = 0
        self._posting = 0
        self._posts: set[asyncio.Task[None]] = set()
        self._deferred: dict[int, float] = {}  # notice id → seconds until it is tried again
        self._returned: list[int] = []  # notice ids whose lease is to end: not posted, because of a pause
        self._posted: list[Posted] = []
        self._delivery_ids = MessageIds()
        self._health: dict[int, owing.Health | None] = {}  # webhook id → what is to be written; None: healthy
        self._floor = 0  # no row has a lower id
        self._polls = 0
        self._awake = asyncio.Event()
        self._stopping = False
        self._group: asyncio.TaskGroup | None = None

    def owe(self, notices: Sequence[Owed]) -> None:
        """Take notices whose rows are committed and leased for LEASE_S.

        Those we have no room for are forgotten, the table has them. Notices of apps without a webhook stay
        there, to be pulled.
        """
        forget_at_s = self._now_s() + self._keep_s
        by_app: dict[AppId, list[Owed]] = {}
        for notice in notices:
            by_app.setdefault(notice.app_id, []).append(notice)
        for app_id, owed in by_app.items():
            self._line_up(app_id, owed, forget_at_s)

    def wake(self) -> None:
        """Look at the table soon rather than on the slow clock."""
        self._awake.set()

    def stop(self) -> None:
        """Start no more POSTs; run() returns once those under way are over and the rest is given back."""
        self._stopping = True
        self._awake.set()

    async def run(self) -> None:
        """Pay until stop() or cancelled. A lost database delays only what is not in memory."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for endpoint in list(self._endpoints.values()):
                    self._pump(endpoint)
                while not self._stopping:
                    await self._tend_or_log()
                    await self._rest()
                await self._end_posts()
            finally:
                self._group = None  # a group that is being cancelled takes no new POSTs
        await self._give_back()

    # ── gathering and posting ─────────────────────────────────────────────────────────────────────────

    def _line_up(self, app_id: AppId, owed: Sequence[Owed], forget_at_s: float) -> None:
        endpoint = self._endpoint(app_id)
        if endpoint is None:
            return
        room = max(0, min(self._room(endpoint), WAITING_ALL_MAX - self._waiting))
        if room < len(owed):
            endpoint.behind = True
            self.counts.forgotten += len(owed) - room
            owed = owed[:room]
        endpoint.waiting.extend([(forget_at_s, notice) for notice in owed])
        self._waiting += len(owed)
        self._pump(endpoint)

    def _endpoint(self, app_id: AppId) -> _Endpoint | None:
        """Return the line of an app's webhook, making one if need be; None where the app has no webhook."""
        webhook = self._keeper.current.webhooks.get(app_id)
        if webhook is None:
            return None
        endpoint = self._endpoints.get(app_id)
        if endpoint is None:
            endpoint = self._endpoints[app_id] = _Endpoint(webhook)
        elif endpoint.webhook is not webhook:
            if (endpoint.webhook.id, endpoint.webhook.url) != (webhook.id, webhook.url):
                self._recover(endpoint)  # what the old address did says nothing about the new one
            endpoint.webhook = webhook
        return endpoint

    def _room(self, endpoint: _Endpoint) -> int:
        """Return how many more notices may wait for an endpoint: none while paused, few while failing."""
        if endpoint.paused_until_s > self._now_s():
            return 0
        room = self._batch_max if endpoint.failures else WAITING_MAX
        return max(0, room - len(endpoint.waiting))

    def _pump(self, endpoint: _Endpoint) -> None:
        """Start the POSTs that may start: full ones, and once the hold is over the last, smaller one."""
        while endpoint.waiting and (endpoint.gathered or len(endpoint.waiting) >= self._batch_max):
            if not self._may_post(endpoint):
                return
            if endpoint.hold is not None:  # what stays behind has only just come
                endpoint.hold.cancel()
                endpoint.hold = None
            batch = self._take(endpoint)
            if batch:
                self._start(endpoint, batch)
        if not endpoint.waiting:
            endpoint.gathered = False
        elif endpoint.hold is None:
            endpoint.hold = asyncio.get_running_loop().call_later(
                max(0.0, endpoint.posted_s + self._hold_s - time.monotonic()), self._hold_over, endpoint
            )

    def _hold_over(self, endpoint: _Endpoint) -> None:
        endpoint.hold = None
        endpoint.gathered = True
        self._pump(endpoint)

    def _may_post(self, endpoint: _Endpoint) -> bool:
        if self._group is None or self._stopping or endpoint.paused_until_s > self._now_s():
            return False
        if endpoint.posting >= (1 if endpoint.failures else endpoint.slots):
            return False
        if self._posting >= (POSTS_MAX if endpoint.posting == 0 else POSTS_MAX // 2):
            self._queueing[endpoint.webhook.app_id] = endpoint
            return False
        return True

    def _take(self, endpoint: _Endpoint) -> list[Owed]:
        """Take the next batch out of the line, without those whose lease would end before a POST of now."""
        now_s = self._now_s()
        taken = [endpoint.waiting.popleft() for _ in range(min(self._batch_max, len(endpoint.waiting)))]
        self._waiting -= len(taken)
        batch = [notice for forget_at_s, notice in taken if forget_at_s > now_s]
        if len(batch) < len(taken):
            endpoint.behind = True
            self.counts.forgotten += len(taken) - len(batch)
        return batch

    def _start(self, endpoint: _Endpoint, batch: Sequence[Owed]) -> None:
        assert self._group is not None
        endpoint.posting += 1
        endpoint.posted_s = time.monotonic()
        self._posting += 1
        post = self._group.create_task(self._pay(endpoint, batch))
        self._posts.add(post)
        post.add_done_callback(self._posts.discard)

    async def _pay(self, endpoint: _Endpoint, batch: Sequence[Owed]) -> None:
        delivery_id, began_s = self._delivery_ids.make(), time.monotonic()
        try:
            outcome = await self._post(endpoint.webhook, batch, delivery_id)
            self._log(endpoint.webhook, batch, outcome, delivery_id, time.monotonic() - began_s)
            self._conclude(endpoint, batch, outcome)
        except Exception:  # our bug: the batch comes again when its lease is over
            log.exception("notify.post_crashed", webhook_id=endpoint.webhook.id, first_notice=batch[0].id)
        finally:
            endpoint.posting -= 1
            self._posting -= 1
            self._next(endpoint)

    def _next(self, endpoint: _Endpoint) -> None:
        """Use the slot that has become free: for whoever has queued longest, then for its own line."""
        if self._queueing:
            longest = next(iter(self._queueing))
            self._pump(self._queueing.pop(longest))
        self._pump(endpoint)
        if endpoint.behind and len(endpoint.waiting) < self._batch_max:
            self._awake.set()

    async def _post(self, webhook: Webhook, batch: Sequence[Owed], delivery_id: uuid.UUID) -> Answer | Failed:
        body = body_of(self._vault, batch)
        timestamp = str(int(self._now_s()))
        self.counts.posts += 1
        return await self._egress.request(
            "POST",
            webhook.url,
            headers={
                "Content-Type": "application/json",
                "Hongyan-Timestamp": timestamp,
                "Hongyan-Webhook-Id": str(webhook.id),
                "Hongyan-Delivery-Id": str(delivery_id),
                "Hongyan-Mac": mac_of(webhook.secret.reveal(), timestamp, body),
            },
            body=body,
            timeout_s=self._post_wait_s,
        )

    # ── what came of it ───────────────────────────────────────────────────────────────────────────────

    def _conclude(self, endpoint: _Endpoint, batch: Sequence[Owed], outcome: Answer | Failed) -> None:
        if isinstance(outcome, Answer) and 200 <= outcome.status < 300:
            self.counts.paid += len(batch)
            self._settle([notice.id for notice in batch])
            endpoint.slots = min(self._posts_max, endpoint.slots * 2)
            if endpoint.failures:
                self._recover(endpoint)
            return
        self.counts.failed_posts += 1
        self._defer(batch)
        gone = isinstance(outcome, Answer) and outcome.status == GONE
        error = f"status {outcome.status}" if isinstance(outcome, Answer) else outcome.reason
        self._blame(endpoint, error, gone=gone)

    def _log(
        self,
        webhook: Webhook,
        batch: Sequence[Owed],
        outcome: Answer | Failed,
        delivery_id: uuid.UUID,
        took_s: float,
    ) -> None:
        """Note a POST for whoever looks for it; the next tending writes it down."""
        if len(self._posted) >= POSTED_MAX:
            return
        status, error = (outcome.status, "") if isinstance(outcome, Answer) else (0, outcome.reason)
        taken = 200 <= status < 300
        self._posted.append(
            Posted(
                id=delivery_id,
                app_id=webhook.app_id,
                kind=posted.NOTICES,
                status=status,
                error=error,
                took_ms=int(took_s * 1000),
                attempt=1 + max([notice.attempt for notice in batch]),
                message_ids=[notice.message_id for notice in batch],
                kinds=bytes([notice.kind for notice in batch]),
                notice_ids=[] if taken else [notice.id for notice in batch],
            )
        )

    def _defer(self, batch: Sequence[Owed]) -> None:
        """Note when a batch is tried again: together, so that it stays one POST."""
        chance = self._chance()
        for notice in batch[: max(0, DEFERRED_MAX - len(self._deferred))]:
            self._deferred[notice.id] = back_off_s(notice.attempt + 1, chance)
        self.counts.deferred += len(batch)

    def _blame(self, endpoint: _Endpoint, error: str, *, gone: bool) -> None:
        """Count a failure and pause the endpoint when there were too many in a row."""
        endpoint.slots = 1
        if endpoint.paused_until_s > self._now_s():
            return  # POSTs that were out when the pause began say nothing new
        endpoint.failures = max(endpoint.failures + 1, self._pause_after if gone else 0)
        if endpoint.failures < self._pause_after:
            return
        length_s = GONE_PAUSE_S if gone else pause_s(endpoint.failures - self._pause_after)
        endpoint.paused_until_s = self._now_s() + length_s
        self._return(endpoint)
        self._health[endpoint.webhook.id] = owing.Health(endpoint.failures, endpoint.paused_until_s, error)
        self.counts.pauses += 1
        log.warning("notify.paused", webhook_id=endpoint.webhook.id, pause_s=length_s, error=error)

    def _return(self, endpoint: _Endpoint) -> None:
        """Give the line back to the table, for others, for a pull, or for ourselves after a pause."""
        now_s = self._now_s()  # what was kept for too long may be in another's hands by now
        self._returned.extend(notice.id for forget_at_s, notice in endpoint.waiting if forget_at_s > now_s)
        self._waiting -= len(endpoint.waiting)
        endpoint.waiting.clear()
        endpoint.behind = True

    def _recover(self, endpoint: _Endpoint) -> None:
        if endpoint.failures >= self._pause_after:
            self._health[endpoint.webhook.id] = None
            log.info("notify.recovered", webhook_id=endpoint.webhook.id)
            self._awake.set()  # what waited during the pause is in the table
            endpoint.behind = True
        endpoint.failures = 0
        endpoint.paused_until_s = 0.0

    # ── the table ─────────────────────────────────────────────────────────────────────────────────────

    async def _tend_or_log(self) -> None:
        try:
            await self._tend()
        except db.Unavailable as error:
            log.warning("notify.database_lost", error=type(error).__name__)
        except Exception:  # our bug: the table keeps what is owed
            log.exception("notify.tend_crashed")

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(POLL_GAP_S):
                await self._awake.wait()
        except TimeoutError:
            return
        finally:
            self._awake.clear()
        if not self._stopping:
            await asyncio.sleep(POLL_GAP_MIN_S)

    async def _tend(self) -> None:
        """Write down failures and pauses, hear of the pauses of others, take what is due."""
        await self._write_deferred()
        await self._write_posted()
        await self._write_returned()
        await self._write_health()
        await self._read_health()
        self._drop_idle()
        if self._polls % SWEEP_EVERY == 0:
            self._floor = await owing.lowest_id(self._database)
        self._polls += 1
        await self._claim()

    async def _write_deferred(self) -> None:
        if not self._deferred:
            return
        deferred, self._deferred = self._deferred, {}
        try:
            await owing.defer(self._database, deferred)
        except BaseException:
            self._deferred = deferred | self._deferred
            raise

    async def _write_posted(self) -> None:
        if not self._posted:
            return
        over, self._posted = self._posted, []
        try:
            await posted.write(self._database, over)
        except (
            *db.Unavailable,
            asyncio.CancelledError,
        ):  # what cannot be stored at all must not stop the rest
            self._posted = over + self._posted
            raise

    async def _write_returned(self) -> None:
        if self._returned:
            returned, self._returned = self._returned, []  # lost with the database: their leases run out
            await owing.give_back(self._database, sorted(returned))

    async def _write_health(self) -> None:
        for webhook_id, health in list(self._health.items()):
            await owing.write_health(self._database, webhook_id, health)
            if self._health.get(webhook_id) is health:
                del self._health[webhook_id]

    async def _read_health(self) -> None:
        """Adopt what other processes, or we before a restart, found out about endpoints."""
        found = await owing.read_health(self._database)
        for app_id in found.keys() | self._endpoints.keys():
            endpoint = self._endpoint(app_id)
            if endpoint is None or endpoint.webhook.id in self._health:
                continue
            health = found.get(app_id)
            if health is not None:
                endpoint.failures = max(health.failures, self._pause_after)
                endpoint.paused_until_s = health.paused_until_s
                if endpoint.waiting and endpoint.paused_until_s > self._now_s():
                    self._return(endpoint)
            elif endpoint.failures >= self._pause_after:
                endpoint.failures, endpoint.paused_until_s = 0, 0.0

    def _drop_idle(self) -> None:
        webhooks = self._keeper.current.webhooks
        for app_id, endpoint in list(self._endpoints.items()):
            if app_id not in webhooks:
                self._return(endpoint)
            if not (endpoint.waiting or endpoint.posting or endpoint.failures):
                del self._endpoints[app_id]
                self._queueing.pop(app_id, None)

    async def _claim(self) -> None:
        """Take due rows for every endpoint that has room, in an order that favours nobody."""
        rooms = {
            app_id: room for app_id in self._keeper.current.webhooks if (room := self._claim_room(app_id))
        }
        rows_max = WAITING_ALL_MAX - self._waiting
        if not rooms or rows_max <= 0:
            return
        order = list(rooms.items())
        random.shuffle(order)
        forget_at_s = self._now_s() + self._keep_s
        claimed = await owing.claim(self._database, order, rows_max=rows_max, floor=self._floor)
        by_app: dict[AppId, list[Owed]] = {app_id: [] for app_id in rooms if app_id in self._endpoints}
        for owed in claimed:
            by_app.setdefault(owed.app_id, []).append(owed)
        for app_id, own in by_app.items():
            self._line_up(app_id, own, forget_at_s)
            if app_id in self._endpoints:
                self._endpoints[app_id].behind = len(own) == rooms[app_id]

    def _claim_room(self, app_id: AppId) -> int:
        endpoint = self._endpoints.get(app_id)
        return owing.CLAIM_APP_MAX if endpoint is None else min(owing.CLAIM_APP_MAX, self._room(endpoint))

    async def _end_posts(self) -> None:
        if self._posts:
            _, late = await asyncio.wait(set(self._posts), timeout=self._stop_wait_s)
            for post in late:
                post.cancel()

    async def _give_back(self) -> None:
        """End the leases of what was not posted, so that others need not wait for it."""
        for endpoint in self._endpoints.values():
            self._return(endpoint)
            if endpoint.hold is not None:
                endpoint.hold.cancel()
        try:
            await self._write_deferred()
            await self._write_posted()
            await self._write_returned()
            await self._write_health()
        except db.Unavailable as error:
            log.warning("notify.not_given_back", error=type(error).__name__)
