"""Take requests and promise them: idempotent, rendered, guarded, charged, stored.

Writes: decision (through decision); the rest is written by the statement in acceptance.py. Owns who has no money just now,
batch requests that may be repeated, and what is under way; what waits for a commit is in waiting.py. Entry points:
Acceptor.offer(), run(), drain().
Requests wait for one another for at most accept_gather_ms and share one statement, so one commit
(one fsync) serves many. A failed statement is split in halves and tried again: one bad row fails alone.
Surprise: a lost connection is answered with Busy although the rows may be there. They are then swept up and
sent, so a caller who must not send twice gives an Idempotency-Key, which makes the repeat safe.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import structlog

from hongyan import clock, db
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, MessageIds, TenantId
from hongyan.way import acceptance, charge, guard, promise
from hongyan.way.acceptance import BLOCKED, EPOCH_S, FREQUENT, REPEATED, Done, Entry, Row, SessionDraft
from hongyan.way.days import Days
from hongyan.way.decision import Decisions
from hongyan.way.guard import CodeDraft, Draft
from hongyan.way.handover import Handed
from hongyan.way.measure import Counters
from hongyan.way.portability import Portability
from hongyan.way.promise import Accepted, Idempotency, Outcome, ids_after
from hongyan.way.snapshot import Keeper, Key, Limits
from hongyan.way.waiting import Waiting

__all__ = [
    "Accepted", "Acceptor", "CodeDraft", "Done", "Draft", "Idempotency", "Outcome", "SessionDraft", "ids_after",
]  # fmt: skip

log = structlog.get_logger()

BROKE_S = 0.5  # how long a tenant without money is refused from memory before the database is asked again
REPEATABLE_WAITING_MAX = 100  # batch requests with an Idempotency-Key, waiting; 1,000 messages each
REPEATABLE_WORKERS = 4  # and under way at once


class Acceptor:
    """One per door. offer() prepares at once; run() commits.

    `handover` gets the rows of each commit that are due at once; it decides who sends them before the
    commit (`owner_for`), because rows are born with their owner.
    """

    def __init__(
        self,
        database: db.Database,
        keeper: Keeper,
        vault: Vault,
        settings: Settings,
        counters: Counters,
        owner_for: Callable[[int], int],
        handover: Callable[[Sequence[Handed]], None],
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._vault = vault
        self._settings = settings
        self._counters = counters
        self._owner_for = owner_for
        self._handover = handover
        self._portability = Portability(settings)
        self._ids = MessageIds(db.Uuid)
        self._decisions = Decisions()
        self._days = Days()
        self._traces: dict[tuple[Any, ...], int] = {}
        self._waiting = Waiting(settings)
        self._broke: dict[int, tuple[float, int]] = {}
        self._shards: set[tuple[int, int]] = set()
        self._repeatable: deque[tuple[Entry, Sequence[Draft]]] = deque()
        self._wake_repeatable = asyncio.Event()
        self._under_way = 0  # rows being committed, and batch requests being served
        self.stopping = False

    # ---- in

    def offer(
        self,
        key: Key,
        drafts: Sequence[Draft],
        idempotency: Idempotency | None,
        done: Done,
        ids: Sequence[MessageId] = (),
    ) -> None:
        """Accept drafts; `done` is called once, in the event loop, with one outcome a draft, in their order.

        `ids`: chosen before, and used never again, whatever comes of it; accept_once() is for who may have to repeat it.
        """
        entry = Entry(key, len(drafts), idempotency, done)
        if idempotency is not None and len(drafts) > 1:
            self._offer_repeatable(entry, drafts)
            return
        if self.stopping or len(self._waiting.rows) + len(drafts) > self._settings.accept_waiting_max:
            self._refuse_all(entry, Refusal(Code.SYSTEM_BUSY, retry_after_s=1))
            return
        rows = self._prepare(entry, key, drafts, ids)
        if rows:
            self._waiting.line_up(rows)

    def have_gathered(self) -> None:
        """Hear that those who wait now have waited for company already, at the door."""
        self._waiting.have_gathered()

    async def accept(
        self, key: Key, drafts: Sequence[Draft], idempotency: Idempotency | None = None
    ) -> Sequence[Outcome]:
        """Accept drafts and wait for the commit, at most accept_wait_s."""
        answered: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()

        def done(outcomes: Sequence[Outcome]) -> None:
            if not answered.done():
                answered.set_result(outcomes)

        self.offer(key, drafts, idempotency, done)
        async with asyncio.timeout(self._settings.accept_wait_s):
            return await answered

    async def accept_once(
        self, key: Key, drafts: Sequence[Draft], ids: Sequence[MessageId], *, fresh: bool = False
    ) -> Sequence[Outcome]:
        """Accept drafts under ids chosen before; what is stored under them already is not stored again.

        `fresh`: the caller knows that nothing was ever offered under them, and it is not looked for.
        Who asks for the same ids at the same time gets the same promise. Nothing ends this wait: bound it by
        asyncio.timeout(), and ask again.
        """
        answered: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()

        def done(outcomes: Sequence[Outcome]) -> None:
            if not answered.done():
                answered.set_result(outcomes)

        entry = Entry(key, len(drafts), None, done)
        if not fresh:
            for index, known in (await promise.stored(self._database, key.tenant.id, ids)).items():
                entry.settle(index, known)
        rows = self._prepare(entry, key, drafts, ids)
        if rows:
            self._waiting.line_up(rows)
        outcomes = await answered
        if all(isinstance(outcome, Accepted) for outcome in outcomes):
            return outcomes
        # An earlier try that was thought lost may have been stored meanwhile; then ours was refused for being there.
        promised = await promise.stored(self._database, key.tenant.id, ids)
        return [promised.get(index, outcome) for index, outcome in enumerate(outcomes)]

    def _prepare(
        self, entry: Entry, key: Key, drafts: Sequence[Draft], ids: Sequence[MessageId] = ()
    ) -> list[Row]:
        snapshot = self._keeper.current
        now_s = clock.now_s()
        rows = []
        for index, draft in enumerate(drafts):
            if entry.outcomes[index] is not None:
                continue
            try:
                cleared = guard.check(draft, key, snapshot, self._settings, now_s)
                row = Row(entry, index, key, draft, cleared)
                self._ask_purse(key, row.cleared)
                row.id = ids[index] if ids else self._ids.make()
                self._complete(row, now_s)
                rows.append(row)
            except Refusal as refusal:
                self._counters.refused(refusal.code)
                entry.settle(index, refusal)
            except (UnicodeEncodeError, OverflowError):  # half a surrogate pair, an integer beyond 64 bits
                self._counters.refused(Code.REQUEST_INVALID_PARAMETER)
                entry.settle(
                    index, Refusal(Code.REQUEST_INVALID_PARAMETER, reason="a value that cannot be kept")
                )
        return rows

    def _ask_purse(self, key: Key, cleared: guard.Cleared) -> None:
        until_s, price_micro = self._broke.get(key.tenant.id, (0.0, 0))
        if until_s and time.monotonic() < until_s and cleared.price_micro >= price_micro:
            raise Refusal(Code.ACCOUNT_BALANCE_INSUFFICIENT)

    def _complete(self, row: Row, now_s: float) -> None:
        cleared, tenant, vault = row.cleared, row.key.tenant, self._vault
        wording = cleared.wording
        row.phone_index = vault.phone_index(cleared.number.e164)
        plain = (cleared.number.e164, wording.text, row.params)
        row.sealed = vault.seal(tenant.id, _pack((*plain, row.origin) if row.origin else plain))
        row.limits = tenant.limits[wording.purpose]
        row.fkey = None
        row.hit = 0
        if row.code:
            row.limits = _NO_LIMITS
        elif row.limits != _NO_LIMITS or tenant.duplicate_s:
            text_hash = vault.keyed_hash(wording.text.encode())
            row.fkey = vault.keyed_hash(
                row.phone_index, b"%d.%d.%d" % (tenant.id, wording.signature.id, wording.purpose.number)
            )
            row.hit = (int(now_s) - EPOCH_S) << 32 | int.from_bytes(text_hash[:4])
        row.decision = self._trace(row)

    def _trace(self, row: Row) -> int:
        tenant, wording = row.key.tenant, row.cleared.wording
        known = (
            row.cleared.rules,
            tenant.limits[wording.purpose],
            tenant.duplicate_s,
            tenant.quiet_until_hour,
            tenant.quiet_from_hour,
            wording.purpose,
            tenant.id,
            row.held,
        )
        number = self._traces.get(known)
        if number is None:
            number = self._traces[known] = self._decisions.id_of(
                guard.trace(row.cleared.rules, tenant, wording.purpose, held=row.held)
            )
        return number

    def _offer_repeatable(self, entry: Entry, drafts: Sequence[Draft]) -> None:
        if self.stopping or len(self._repeatable) >= REPEATABLE_WAITING_MAX:
            self._refuse_all(entry, Refusal(Code.SYSTEM_BUSY, retry_after_s=1))
            return
        self._repeatable.append((entry, drafts))
        self._wake_repeatable.set()

    def _refuse_all(self, entry: Entry, refusal: Refusal) -> None:
        self._counters.refused(refusal.code)
        for index in range(len(entry.outcomes)):
            entry.settle(index, refusal)

    # ---- batch requests that can be repeated

    async def _serve_repeatable(self) -> None:
        """Serve batch requests with an Idempotency-Key: reserve the key, accept, keep the answer.

        The ids follow from the reserved one, so a request that a crash cut in half is finished, not doubled.
        """
        while True:
            while not self._repeatable:
                self._wake_repeatable.clear()
                await self._wake_repeatable.wait()
            entry, drafts = self._repeatable.popleft()
            self._under_way += 1
            try:
                async with asyncio.timeout(self._settings.accept_wait_s):
                    outcomes = await self._repeat(entry, drafts)
            except (*db.Unavailable, TimeoutError):
                outcomes = [Refusal(Code.SYSTEM_BUSY, retry_after_s=1)] * len(drafts)
            finally:
                self._under_way -= 1
            entry.done(outcomes)

    async def _repeat(self, entry: Entry, drafts: Sequence[Draft]) -> Sequence[Outcome]:
        assert entry.idempotency is not None
        first_id, answers = await promise.reserve(
            self._database, entry.key, entry.idempotency, self._ids.make()
        )
        if first_id is None:
            return [answers] * len(drafts) if isinstance(answers, Refusal) else answers
        outcomes = await self.accept_once(entry.key, drafts, ids_after(first_id.int, len(drafts)))
        await promise.answer(self._database, entry.key, entry.idempotency, outcomes)
        return outcomes

    # ---- commit

    async def run(self) -> None:
        """Commit what is offered, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(self._waiting.gathered, self._settings.door * 10))
            tasks.create_task(self._write(self._waiting.held_up, self._settings.door * 10 + 1))
            for _ in range(REPEATABLE_WORKERS):
                tasks.create_task(self._serve_repeatable())

    async def drain(self) -> None:
        """Refuse new offers and wait until those under way are answered, at most accept_wait_s."""
        self.stopping = True
        async with asyncio.timeout(self._settings.accept_wait_s):
            while self._waiting.rows or self._repeatable or self._under_way:  # noqa: ASYNC110 - once, at the end
                await asyncio.sleep(0.01)
            await asyncio.sleep(0)  # who waits in accept() goes on a turn after the answer

    async def _write(self, ready: Callable[[], Awaitable[None]], shard: int) -> None:
        holder = db.Holder(self._database)
        try:
            while True:
                await ready()
                rows = self._waiting.take()
                if rows:
                    await self._commit_or_refuse(holder, rows, shard)
                elif self._waiting.rows:
                    await self._waiting.freed()
        finally:
            holder.drop()

    async def _commit_or_refuse(self, holder: db.Holder, rows: list[Row], shard: int) -> None:
        self._under_way += len(rows)
        self._waiting.begin()
        try:
            await self._commit(await holder.connection(), rows, shard)
        except db.Unavailable as error:
            log.warning("accept.database_lost", error=type(error).__name__, rows=len(rows))
            holder.drop()
            self._refuse(rows, Refusal(Code.SYSTEM_BUSY, retry_after_s=1))
        finally:
            self._under_way -= len(rows)
            self._waiting.end(rows)

    async def _commit(self, tx: db.Tx, rows: list[Row], shard: int) -> None:
        if self._decisions.waiting:
            await self._decisions.store(tx)
        if self._portability.asks or self._keeper.current.has_number_overrides:
            rows = await self._correct(tx, rows)
            if not rows:
                return
        await self._open_shards(tx, rows, shard)
        started_s = time.perf_counter()
        try:
            stopped = await self._store(tx, rows, shard)
        except db.CheckViolation:
            await self._short_of_money(tx, rows, shard)
            return
        except db.Unstorable:
            await self._halve(tx, rows, shard, Refusal(Code.REQUEST_INVALID_PARAMETER))
            return
        self._counters.committed(len(rows), time.perf_counter() - started_s)
        await self._conclude(tx, rows, stopped)

    async def _correct(self, tx: db.Tx, rows: list[Row]) -> list[Row]:
        """Place and price anew what is known better than by prefix; returns the rows that still have a price."""
        known = await self._portability.known(tx, {row.phone_index: row.cleared.number.e164 for row in rows})
        left = []
        for row in rows:
            better = known.of(row.key.tenant.id, row.phone_index)
            if better is not None and any(better):
                try:
                    row.cleared = guard.move(
                        row.cleared, row.key.tenant, self._keeper.current, *better, sandbox=row.key.sandbox
                    )
                    if row.free:
                        row.cleared = msgspec.structs.replace(row.cleared, price_micro=0)
                except Refusal as refusal:
                    self._refuse([row], refusal)
                    continue
            left.append(row)
        return left

    async def _halve(self, tx: db.Tx, rows: list[Row], shard: int, refusal: Refusal) -> None:
        if len(rows) == 1:
            self._refuse(rows, refusal)
            return
        middle = len(rows) // 2
        await self._commit(tx, rows[:middle], shard)
        await self._commit(tx, rows[middle:], shard)

    async def _open_shards(self, tx: db.Tx, rows: Sequence[Row], shard: int) -> None:
        new = {row.key.tenant.id for row in rows if (row.key.tenant.id, shard) not in self._shards}
        if new:
            await acceptance.open_shards(tx, sorted(new), shard)
            self._shards.update((tenant_id, shard) for tenant_id in new)

    async def _short_of_money(self, tx: db.Tx, rows: list[Row], shard: int) -> None:
        """Bring the tenants' money over to our shard and try in halves; one row alone that still fails is refused."""
        needed: dict[TenantId, int] = {}
        for row in rows:
            needed[row.key.tenant.id] = needed.get(row.key.tenant.id, 0) + row.cleared.price_micro
        enough = True
        for tenant_id, micro in sorted(needed.items()):
            async with tx.transaction():
                enough &= await charge.gather(tx, tenant_id, shard, micro) >= micro
        if enough and await self._try_again(tx, rows, shard):
            return
        if len(rows) == 1:
            self._broke[rows[0].key.tenant.id] = (time.monotonic() + BROKE_S, rows[0].cleared.price_micro)
        await self._halve(tx, rows, shard, Refusal(Code.ACCOUNT_BALANCE_INSUFFICIENT))

    async def _store(self, tx: db.Tx, rows: Sequence[Row], shard: int) -> dict[int, int]:
        sends_templates = self._keeper.current.sends_templates
        return await acceptance.store(
            tx, rows, shard, self._owner_for, self._days, sends_templates=sends_templates
        )

    async def _try_again(self, tx: db.Tx, rows: list[Row], shard: int) -> bool:
        try:
            stopped = await self._store(tx, rows, shard)
        except db.CheckViolation:
            return False  # another writer was quicker to spend it
        except db.Unstorable:  # also one that another stored under its id meanwhile: it fails alone
            await self._halve(tx, rows, shard, Refusal(Code.REQUEST_INVALID_PARAMETER))
            return True
        await self._conclude(tx, rows, stopped)
        return True

    async def _conclude(self, tx: db.Tx, rows: Sequence[Row], stopped: dict[int, int]) -> None:
        """Hand over what is stored, then tell the callers; explain what was stopped in the statement."""
        handed = [row.handed for n, row in enumerate(rows) if row.handed is not None and n not in stopped]
        if handed:
            self._handover(handed)
        self._counters.accepted(len(rows) - len(stopped))
        for number, row in enumerate(rows):
            if number not in stopped:
                row.entry.settle(row.index, row.promise)
        for number, reason in stopped.items():
            row = rows[number]
            outcome = await self._explain(tx, row, reason)
            if isinstance(outcome, Refusal):
                self._counters.refused(outcome.code)
            row.entry.settle(row.index, outcome)

    async def _explain(self, tx: db.Tx, row: Row, reason: int) -> Outcome:
        if (
            reason in (REPEATED, FREQUENT)
            and row.entry.idempotency is not None
            and len(row.entry.outcomes) == 1
        ):
            # Its twin at another door, committed a moment ago, is what filled the limit.
            answer = await promise.first_answer(tx, row.key, row.entry.idempotency)
            if answer is not None:
                return answer
        if reason == REPEATED:
            return Refusal(Code.SYSTEM_BUSY, retry_after_s=1)  # forgotten between the two statements
        if reason == FREQUENT:
            hits = await tx.fetchval("SELECT hits FROM frequency WHERE key = $1", row.fkey)
            now = int(clock.now_s()) - EPOCH_S
            return guard.limit_reached(hits or [], row.limits, row.key.tenant.duplicate_s, row.hit, now)
        return Refusal(Code.NUMBER_BLOCKED if reason == BLOCKED else Code.NUMBER_OPTED_OUT)

    def _refuse(self, rows: Sequence[Row], refusal: Refusal) -> None:
        for row in rows:
            self._counters.refused(refusal.code)
            row.entry.settle(row.index, refusal)


_NO_LIMITS = Limits(0, 0, 0)
_pack = msgspec.msgpack.encode
