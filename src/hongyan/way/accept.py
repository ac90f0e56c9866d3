"""Take requests and promise them: idempotent, rendered, guarded, charged, stored.

Writes: message, outbox, frequency, idempotency, balance, ledger, tally, decision (through decision).
Entry point: Acceptor.offer().
Requests wait for one another for at most accept_gather_ms and share one statement, so one commit
(one fsync) serves many. A failed statement is split in halves and tried again: one bad row fails alone.
Surprise: a lost connection is answered with Busy although the rows may be there. They are then swept up and
sent, so a caller who must not send twice gives an Idempotency-Key, which makes the repeat safe.
"""

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

import msgspec
import structlog

from hongyan import clock, db
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, MessageIds, TenantId
from hongyan.way import charge, guard
from hongyan.way.decision import Decisions
from hongyan.way.guard import CodeDraft, Draft
from hongyan.way.handover import Handed
from hongyan.way.measure import Counters
from hongyan.way.portability import Portability
from hongyan.way.snapshot import Keeper, Key, Limits

__all__ = ["Accepted", "Acceptor", "CodeDraft", "Draft", "Idempotency", "Outcome", "SessionDraft"]

log = structlog.get_logger()

BROKE_S = 0.5  # how long a tenant without money is refused from memory before the database is asked again
REPEATABLE_WAITING_MAX = 100  # batch requests with an Idempotency-Key, waiting; 1,000 messages each
REPEATABLE_WORKERS = 4  # and under way at once
REPEATABLE_BUSY_S = 30  # how long an unanswered key counts as still under way elsewhere
FEW_ROWS = 8  # so few wait for company by the clock; more only while others come
QUIET_TURNS = 2  # of the event loop without a new row: nobody else is coming just now
MANY_ROWS = 40  # so many waiting are worth a second commit beside the first; fewer share the next one
HELD_UP_S = 0.05  # a commit that takes so long waits for somebody's lock: others need not wait with it
HELD_OWNER = -1  # of an outbox row that waits for a person
NO_TEMPLATE = "it matches no template"  # why it does
EPOCH_S = 1_577_836_800  # 2020: hits are seconds since then, so that they and a hash fit 63 bits


class SessionDraft(Draft, frozen=True):
    """A message that came over a protocol session. `origin` is the door's own: what its reports go back to.

    It is sealed with the text, comes back with every notice of the message, and nobody between reads it.
    """

    origin: bytes = b""
    held: bool = False  # it waits until a person has decided; see way.hold


class Accepted(msgspec.Struct, frozen=True):
    """A promise: stored and charged."""

    id: MessageId
    parts: int
    price_micro: int
    send_at: datetime | None = None  # when it will leave, if not at once
    held: bool = False  # a person decides first


class Idempotency(msgspec.Struct, frozen=True):
    """The caller's key and what it was used for, both hashed."""

    key: bytes
    body: bytes


Outcome = Accepted | Refusal
Done = Callable[[Sequence[Outcome]], None]


class _Row:
    """One message on its way into the database."""

    __slots__ = (
        "avoid_channel",
        "cleared",
        "code",
        "decision",
        "entry",
        "fkey",
        "free",
        "handed",
        "held",
        "hit",
        "id",
        "index",
        "key",
        "limits",
        "origin",
        "params",
        "phone_index",
        "reference",
        "sealed",
    )

    id: MessageId
    sealed: bytes
    phone_index: bytes
    limits: Limits
    fkey: bytes | None  # under which the number's frequency is counted
    hit: int
    decision: int
    handed: Handed | None

    def __init__(self, entry: "_Entry", index: int, key: Key, draft: Draft, cleared: guard.Cleared) -> None:
        self.entry = entry
        self.index = index
        self.key = key
        self.cleared = cleared
        self.reference = draft.reference or None
        self.params = draft.params
        self.origin, self.held = b"", cleared.held
        self.code, self.free, self.avoid_channel = False, False, 0
        if isinstance(draft, SessionDraft):
            self.origin = draft.origin
            self.held = NO_TEMPLATE if draft.held else cleared.held
        elif isinstance(draft, CodeDraft):
            self.code, self.free, self.avoid_channel = True, draft.free, draft.avoid_channel
            if draft.free:
                self.cleared = msgspec.structs.replace(cleared, price_micro=0)


class _Entry:
    """One request: its outcomes so far and whom to tell."""

    __slots__ = ("done", "idempotency", "key", "left", "outcomes", "since_s")

    def __init__(self, key: Key, count: int, idempotency: Idempotency | None, done: Done) -> None:
        self.key = key
        self.outcomes: list[Outcome | None] = [None] * count
        self.idempotency = idempotency
        self.done = done
        self.left = count
        self.since_s = time.monotonic()

    def settle(self, index: int, outcome: Outcome) -> None:
        if self.outcomes[index] is not None:
            return
        self.outcomes[index] = outcome
        self.left -= 1
        if self.left == 0:
            self.done(self.outcomes)  # type: ignore[arg-type]  # none is None any more


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
        self._ids = MessageIds()
        self._decisions = Decisions()
        self._traces: dict[tuple[Any, ...], int] = {}
        self._waiting: deque[_Row] = deque()
        self._wake = asyncio.Event()
        self._enough = asyncio.Event()  # FEW_ROWS wait
        self._broke: dict[int, tuple[float, int]] = {}
        self._shards: set[tuple[int, int]] = set()
        self._busy_keys: set[bytes] = set()
        self._repeatable: deque[tuple[_Entry, Sequence[Draft]]] = deque()
        self._wake_repeatable = asyncio.Event()
        self._under_way = 0  # rows being committed, and batch requests being served
        self._writing = 0  # commits under way
        self._begun = asyncio.Event()  # a commit
        self._begun_s = 0.0  # when the last one did
        self._many = asyncio.Event()  # MANY_ROWS wait
        self._gather_s = settings.accept_gather_ms / 1000
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
        entry = _Entry(key, len(drafts), idempotency, done)
        if idempotency is not None and len(drafts) > 1:
            self._offer_repeatable(entry, drafts)
            return
        if self.stopping or len(self._waiting) + len(drafts) > self._settings.accept_waiting_max:
            self._refuse_all(entry, Refusal(Code.SYSTEM_BUSY, retry_after_s=1))
            return
        rows = self._prepare(entry, key, drafts, ids)
        if rows:
            self._line_up(rows)

    def _line_up(self, rows: Sequence[_Row]) -> None:
        self._waiting.extend(rows)
        self._wake.set()
        if len(self._waiting) >= FEW_ROWS:
            self._enough.set()
        if len(self._waiting) >= MANY_ROWS:
            self._many.set()

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
        self, key: Key, drafts: Sequence[Draft], ids: Sequence[MessageId]
    ) -> Sequence[Outcome]:
        """Accept drafts under ids chosen before; what is stored under them already is not stored again.

        Who asks for the same ids at the same time gets the same promise. Nothing ends this wait: bound it by
        asyncio.timeout(), and ask again.
        """
        answered: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()

        def done(outcomes: Sequence[Outcome]) -> None:
            if not answered.done():
                answered.set_result(outcomes)

        entry = _Entry(key, len(drafts), None, done)
        for index, promise in (await self._promised(key.tenant.id, ids)).items():
            entry.settle(index, promise)
        rows = self._prepare(entry, key, drafts, ids)
        if rows:
            self._line_up(rows)
        outcomes = await answered
        if all(isinstance(outcome, Accepted) for outcome in outcomes):
            return outcomes
        # An earlier try that was thought lost may have been stored meanwhile; then ours was refused for being there.
        promised = await self._promised(key.tenant.id, ids)
        return [promised.get(index, outcome) for index, outcome in enumerate(outcomes)]

    async def _promised(self, tenant_id: TenantId, ids: Sequence[MessageId]) -> dict[int, Accepted]:
        """Return what is stored under these ids, by their place."""
        wanted = [db.Uuid(i.bytes) for i in ids]
        rows = await self._database.fetch(STORED_SQL, tenant_id, wanted, min(wanted), max(wanted))
        there = {row["id"].int: row for row in rows}
        return {
            index: Accepted(
                message_id,
                there[message_id.int]["part_count"],
                there[message_id.int]["price_micro"],
                held=there[message_id.int]["held"],
            )
            for index, message_id in enumerate(ids)
            if message_id.int in there
        }

    def _prepare(
        self, entry: _Entry, key: Key, drafts: Sequence[Draft], ids: Sequence[MessageId] = ()
    ) -> list[_Row]:
        snapshot = self._keeper.current
        now_s = clock.now_s()
        rows = []
        for index, draft in enumerate(drafts):
            if entry.outcomes[index] is not None:
                continue
            try:
                cleared = guard.check(draft, key, snapshot, self._settings, now_s)
                row = _Row(entry, index, key, draft, cleared)
                self._ask_purse(key, row.cleared, now_s)
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

    def _ask_purse(self, key: Key, cleared: guard.Cleared, now_s: float) -> None:
        until_s, price_micro = self._broke.get(key.tenant.id, (0.0, 0))
        if now_s < until_s and cleared.price_micro >= price_micro:
            raise Refusal(Code.ACCOUNT_BALANCE_INSUFFICIENT)

    def _complete(self, row: _Row, now_s: float) -> None:
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

    def _trace(self, row: _Row) -> int:
        tenant, wording = row.key.tenant, row.cleared.wording
        known = (
            row.cleared.rules,
            tenant.limits[wording.purpose],
            tenant.duplicate_s,
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

    def _offer_repeatable(self, entry: _Entry, drafts: Sequence[Draft]) -> None:
        if self.stopping or len(self._repeatable) >= REPEATABLE_WAITING_MAX:
            self._refuse_all(entry, Refusal(Code.SYSTEM_BUSY, retry_after_s=1))
            return
        self._repeatable.append((entry, drafts))
        self._wake_repeatable.set()

    def _refuse_all(self, entry: _Entry, refusal: Refusal) -> None:
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

    async def _repeat(self, entry: _Entry, drafts: Sequence[Draft]) -> Sequence[Outcome]:
        idempotency = entry.idempotency
        assert idempotency is not None
        made = self._ids.make()
        (first,) = await self._database.fetch(
            RESERVE_SQL,
            entry.key.id,
            idempotency.key,
            idempotency.body,
            db.Uuid(made.bytes),
            REPEATABLE_BUSY_S,
        )
        refused = Refusal(Code.REQUEST_IDEMPOTENCY_CONFLICT)
        if first["body"] != idempotency.body:
            return [refused] * len(drafts)
        if first["answer"] is not None:
            return _read_answer(first["answer"])
        if not first["mine"]:
            return [Refusal(Code.SYSTEM_BUSY, retry_after_s=REPEATABLE_BUSY_S)] * len(drafts)
        ids = ids_after(first["first_id"].int, len(drafts))
        outcomes = await self.accept_once(entry.key, drafts, ids)
        if not any(
            isinstance(o, Refusal) and o.code in (Code.SYSTEM_BUSY, Code.SYSTEM_ERROR) for o in outcomes
        ):
            await self._database.execute(ANSWER_SQL, entry.key.id, idempotency.key, _write_answer(outcomes))
        return outcomes

    # ---- commit

    async def run(self) -> None:
        """Commit what is offered, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(self._gathered, self._settings.door * 10))
            tasks.create_task(self._write(self._held_up, self._settings.door * 10 + 1))
            for _ in range(REPEATABLE_WORKERS):
                tasks.create_task(self._serve_repeatable())

    async def drain(self) -> None:
        """Refuse new offers and wait until those under way are answered, at most accept_wait_s."""
        self.stopping = True
        async with asyncio.timeout(self._settings.accept_wait_s):
            while self._waiting or self._repeatable or self._under_way:  # noqa: ASYNC110 - once, at the end
                await asyncio.sleep(0.01)

    async def _write(self, ready: Callable[[], Awaitable[None]], shard: int) -> None:
        holder = db.Holder(self._database)
        try:
            while True:
                await ready()
                rows = self._take()
                if rows:
                    await self._commit_or_refuse(holder, rows, shard)
                elif self._waiting:  # all of them share a key with one under way; _release() wakes us
                    await self._wake.wait()
        finally:
            holder.drop()

    async def _commit_or_refuse(self, holder: db.Holder, rows: list[_Row], shard: int) -> None:
        self._under_way += len(rows)
        self._writing += 1
        self._begun_s = time.monotonic()
        self._begun.set()
        try:
            await self._commit(await holder.connection(), rows, shard)
        except db.Unavailable as error:
            log.warning("accept.database_lost", error=type(error).__name__, rows=len(rows))
            holder.drop()
            self._refuse(rows, Refusal(Code.SYSTEM_BUSY, retry_after_s=1))
        finally:
            self._under_way -= len(rows)
            self._writing -= 1
            self._release(rows)

    async def _gathered(self) -> None:
        """Wait for something to commit, and a little for more: a statement costs as much as 20 of its rows.

        At most accept_gather_ms from when the first came, and shorter where nobody else has come lately. Who waits
        for an answer asks again as soon as he has it, so after a commit requests come in a row: they are company
        while each turn of the event loop brings one.
        """
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        end_s = self._waiting[0].entry.since_s + self._gather_s
        if len(self._waiting) < FEW_ROWS:
            before = len(self._waiting)
            self._enough.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(end_s - time.monotonic()):
                    await self._enough.wait()
            gained = len(self._waiting) - before
            longest_s = self._settings.accept_gather_ms / 1000
            factor = 2 if gained > 1 else 0.5 if gained == 0 else 1
            self._gather_s = min(longest_s, max(longest_s / 8, self._gather_s * factor))
        quiet = 0
        while quiet < QUIET_TURNS and time.monotonic() < end_s:
            before = len(self._waiting)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._waiting) == before else 0

    async def _held_up(self) -> None:
        """Wait until one writer is not enough: many wait beside its commit, or that takes strangely long."""
        while not (self._writing and len(self._waiting) >= MANY_ROWS):
            self._many.clear()
            if not self._writing:
                self._begun.clear()
                await self._begun.wait()
            try:
                async with asyncio.timeout(HELD_UP_S):
                    await self._many.wait()
            except TimeoutError:
                held_up = self._writing and time.monotonic() - self._begun_s >= HELD_UP_S
                if held_up and self._waiting:
                    return

    def _take(self) -> list[_Row]:
        """Take the next batch. Rows that share a frequency or idempotency key with one under way wait for it."""
        rows: list[_Row] = []
        later: list[_Row] = []
        waiting, busy = self._waiting, self._busy_keys
        deadline_s = time.monotonic() - self._settings.accept_wait_s
        while waiting and len(rows) < self._settings.accept_batch_max:
            row = waiting.popleft()
            if row.entry.since_s < deadline_s:
                row.entry.settle(row.index, Refusal(Code.SYSTEM_BUSY, retry_after_s=1))
                continue
            keys = _keys_of(row)
            if busy.isdisjoint(keys):
                busy.update(keys)
                rows.append(row)
            else:
                later.append(row)
        waiting.extendleft(reversed(later))
        if later and not rows:
            self._wake.clear()
        return rows

    def _release(self, rows: Sequence[_Row]) -> None:
        for row in rows:
            self._busy_keys.difference_update(_keys_of(row))
        if self._waiting:
            self._wake.set()

    async def _commit(self, tx: db.Tx, rows: list[_Row], shard: int) -> None:
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

    async def _correct(self, tx: db.Tx, rows: list[_Row]) -> list[_Row]:
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

    async def _halve(self, tx: db.Tx, rows: list[_Row], shard: int, refusal: Refusal) -> None:
        if len(rows) == 1:
            self._refuse(rows, refusal)
            return
        middle = len(rows) // 2
        await self._commit(tx, rows[:middle], shard)
        await self._commit(tx, rows[middle:], shard)

    async def _open_shards(self, tx: db.Tx, rows: Sequence[_Row], shard: int) -> None:
        new = {row.key.tenant.id for row in rows if (row.key.tenant.id, shard) not in self._shards}
        if new:
            await tx.execute(OPEN_SHARDS_SQL, sorted(new), shard)
            self._shards.update((tenant_id, shard) for tenant_id in new)

    async def _short_of_money(self, tx: db.Tx, rows: list[_Row], shard: int) -> None:
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
            self._broke[rows[0].key.tenant.id] = (clock.now_s() + BROKE_S, rows[0].cleared.price_micro)
        await self._halve(tx, rows, shard, Refusal(Code.ACCOUNT_BALANCE_INSUFFICIENT))

    async def _try_again(self, tx: db.Tx, rows: list[_Row], shard: int) -> bool:
        try:
            stopped = await self._store(tx, rows, shard)
        except db.CheckViolation:
            return False  # another writer was quicker to spend it
        except db.Unstorable:  # also one that another stored under its id meanwhile: it fails alone
            await self._halve(tx, rows, shard, Refusal(Code.REQUEST_INVALID_PARAMETER))
            return True
        await self._conclude(tx, rows, stopped)
        return True

    async def _store(self, tx: db.Tx, rows: Sequence[_Row], shard: int) -> dict[int, int]:
        now = clock.now()
        now_s = now.timestamp()
        owner_for = self._owner_for
        sends_templates = self._keeper.current.sends_templates
        values: list[tuple[Any, ...]] = []
        for row in rows:
            cleared, tenant_id = row.cleared, row.key.tenant.id
            wording, place = cleared.wording, cleared.place
            due_s = cleared.due_at_s
            owner = HELD_OWNER if row.held else 0 if due_s else owner_for(wording.purpose.number)
            row.handed = None
            if owner > 0:
                row.handed = Handed(
                    id=row.id.bytes,
                    tenant_id=tenant_id,
                    lane=wording.purpose.number,
                    number=cleared.number.e164,
                    text=wording.text,
                    extension=cleared.extension,
                    part_count=cleared.part_count,
                    country=place.country,
                    operator=place.operator,
                    expires_at_s=now_s + cleared.validity_s,
                    price_micro=cleared.price_micro,
                    resend=wording.resend,
                    sandbox=row.key.sandbox,
                    owner=owner,
                    template_id=wording.template_id,
                    signature_id=wording.signature.id,
                    params=row.params if sends_templates else None,
                    avoid_channel=row.avoid_channel,
                    province=place.province,
                )
            values.append(
                (
                    tenant_id,
                    db.Uuid(row.id.bytes),
                    row.key.app_id,
                    wording.purpose.number,
                    cleared.part_count,
                    wording.signature.id,
                    wording.template_id,
                    cleared.price_micro,
                    due_s,
                    cleared.validity_s,
                    row.decision,
                    row.phone_index,
                    row.sealed,
                    place.country,
                    place.operator,
                    place.province,
                    cleared.extension,
                    row.reference,
                    owner,
                    row.key.sandbox,
                    wording.resend,
                    row.fkey,
                    row.hit,
                    row.limits.minute,
                    row.limits.hour,
                    row.limits.day,
                    row.key.tenant.duplicate_s,
                    *_idempotency_of(row),
                )
            )
        found = await tx.fetch(
            ACCEPT_SQL, values, now, shard, int(now_s) - EPOCH_S, timeout=db.STATEMENT_WAIT_S
        )
        avoiding = [row for row in rows if row.avoid_channel]
        if avoiding:  # few ever do: a column of accept_row would cost all the others. Lost in a crash, it is only a hint
            await tx.execute(
                AVOID_SQL,
                [row.key.tenant.id for row in avoiding],
                [db.Uuid(row.id.bytes) for row in avoiding],
                [row.avoid_channel for row in avoiding],
            )
        return {row["ordinal"] - 1: row["reason"] for row in found}

    async def _conclude(self, tx: db.Tx, rows: Sequence[_Row], stopped: dict[int, int]) -> None:
        """Hand over what is stored, then tell the callers; explain what was stopped in the statement."""
        handed = [row.handed for n, row in enumerate(rows) if row.handed is not None and n not in stopped]
        if handed:
            self._handover(handed)
        self._counters.accepted(len(rows) - len(stopped))
        for number, row in enumerate(rows):
            if number not in stopped:
                row.entry.settle(row.index, _promise(row))
        for number, reason in stopped.items():
            row = rows[number]
            outcome = await self._explain(tx, row, reason)
            if isinstance(outcome, Refusal):
                self._counters.refused(outcome.code)
            row.entry.settle(row.index, outcome)

    async def _explain(self, tx: db.Tx, row: _Row, reason: int) -> Outcome:
        if (
            reason in (_REPEATED, _FREQUENT)
            and row.entry.idempotency is not None
            and len(row.entry.outcomes) == 1
        ):
            # Its twin at another door, committed a moment ago, is what filled the limit.
            answer = await _first_answer(tx, row)
            if answer is not None:
                return answer
        if reason == _REPEATED:
            return Refusal(Code.SYSTEM_BUSY, retry_after_s=1)  # forgotten between the two statements
        if reason == _FREQUENT:
            hits = await tx.fetchval("SELECT hits FROM frequency WHERE key = $1", row.fkey)
            now = int(clock.now_s()) - EPOCH_S
            return guard.limit_reached(hits or [], row.limits, row.key.tenant.duplicate_s, row.hit, now)
        return Refusal(Code.NUMBER_BLOCKED if reason == _BLOCKED else Code.NUMBER_OPTED_OUT)

    def _refuse(self, rows: Sequence[_Row], refusal: Refusal) -> None:
        for row in rows:
            self._counters.refused(refusal.code)
            row.entry.settle(row.index, refusal)


_NO_LIMITS = Limits(0, 0, 0)
_pack = msgspec.msgpack.encode
_OPTED_OUT, _BLOCKED, _FREQUENT, _REPEATED = 1, 2, 3, 4


def _keys_of(row: _Row) -> set[bytes]:
    keys = set()
    if row.fkey is not None:
        keys.add(row.fkey)
    if row.entry.idempotency is not None:
        keys.add(row.entry.idempotency.key)
    return keys


def _idempotency_of(row: _Row) -> tuple[int | None, bytes | None, bytes | None]:
    idempotency = row.entry.idempotency
    if idempotency is None or len(row.entry.outcomes) > 1:  # a batch's key was reserved before
        return None, None, None
    return row.key.id, idempotency.key, idempotency.body


def _promise(row: _Row) -> Accepted:
    due_s = row.cleared.due_at_s
    send_at = datetime.fromtimestamp(due_s, UTC) if due_s else None
    return Accepted(row.id, row.cleared.part_count, row.cleared.price_micro, send_at, bool(row.held))


# The row is reserved at once or found; a reservation nobody answered for a while (its door died) is taken over.
RESERVE_SQL: LiteralString = """
INSERT INTO idempotency AS i (key_id, key, body, first_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (key_id, key) DO UPDATE
   SET created_at = CASE WHEN i.answer IS NULL AND i.created_at < now() - make_interval(secs => $5)
                         THEN now() ELSE i.created_at END
RETURNING body, answer, first_id, (first_id = $4 OR (answer IS NULL AND created_at = now())) AS mine
"""
ANSWER_SQL: LiteralString = "UPDATE idempotency SET answer = $3 WHERE key_id = $1 AND key = $2"
# The bounds say the same once more: by them, and not by an array that is a parameter, the other days are passed over.
STORED_SQL: LiteralString = """
SELECT id, part_count, price_micro, status = 7 AS held FROM message
 WHERE tenant_id = $1 AND id = ANY($2::uuid[]) AND id >= $3 AND id <= $4
"""


def ids_after(first: int, count: int) -> list[MessageId]:
    """Return `count` ids that follow from the first: its time and counter going up, its random bits kept."""
    stamp = (first >> 80) << 12 | (first >> 64 & 0xFFF)
    low = first & 0xFFFF_FFFF_FFFF_FFFF
    stamps = range(stamp, stamp + count)
    return [MessageId(uuid.UUID(int=((at >> 12 << 16) | 0x7000 | (at & 0xFFF)) << 64 | low)) for at in stamps]


def _write_answer(outcomes: Sequence[Outcome]) -> bytes:
    return msgspec.json.encode(
        [o if isinstance(o, Accepted) else [o.code.name, o.retry_after_s, o.detail] for o in outcomes]
    )


def _read_answer(octets: bytes) -> Sequence[Outcome]:
    outcomes: list[Outcome] = []
    for one in msgspec.json.decode(octets):
        if isinstance(one, dict):
            outcomes.append(msgspec.convert(one, Accepted))
        else:
            outcomes.append(Refusal(Code[one[0]], retry_after_s=one[1], **one[2]))
    return outcomes


FIRST_ANSWER_SQL: LiteralString = """
SELECT i.body, i.first_id, m.part_count, m.price_micro, m.due_at, m.accepted_at, m.status = 7 AS held
  FROM idempotency i LEFT JOIN message m ON m.tenant_id = $3 AND m.id = i.first_id
 WHERE i.key_id = $1 AND i.key = $2
"""


async def _first_answer(tx: db.Tx, row: _Row) -> Outcome | None:
    idempotency = row.entry.idempotency
    assert idempotency is not None
    first = await tx.fetchrow(FIRST_ANSWER_SQL, row.key.id, idempotency.key, row.key.tenant.id)
    if first is None:
        return None
    if first["body"] != idempotency.body or first["part_count"] is None:
        return Refusal(Code.REQUEST_IDEMPOTENCY_CONFLICT)
    send_at = first["due_at"] if first["due_at"] > first["accepted_at"] else None
    return Accepted(
        MessageId(first["first_id"]), first["part_count"], first["price_micro"], send_at, first["held"]
    )


OPEN_SHARDS_SQL: LiteralString = """
INSERT INTO balance (tenant_id, shard, amount_micro) SELECT t, $2, 0 FROM unnest($1::int[]) AS t ORDER BY t
ON CONFLICT DO NOTHING
"""

AVOID_SQL: LiteralString = """
UPDATE outbox o SET avoid_channel = n.channel_id FROM unnest($1::int[], $2::uuid[], $3::int[]) AS n(tenant_id, id, channel_id)
 WHERE o.tenant_id = n.tenant_id AND o.id = n.id
"""

# One statement is one commit. `IN (SELECT …)` stands beside an OR or a NOT on purpose: such a sublink becomes a
# hashed subplan, while a join of two CTEs of unknown size would be planned as a nested loop.
# Frequency rows are locked in key order, so that two writers cannot wait for each other in a circle.
# What is held waits in the outbox too, so that it ends as all else does: nobody's, and due never, until a person has
# decided. An owner below 0 says so, because a column more in accept_row would stop the version that is running.
ACCEPT_SQL: LiteralString = """
WITH item AS MATERIALIZED (
    SELECT * FROM unnest($1::accept_row[]) WITH ORDINALITY AS i(
        tenant_id, id, app_id, purpose, part_count, signature_id, template_id, price_micro, due_s, validity_s,
        decision, phone_index, sealed, country, operator, province, extension, reference, owner, sandbox, resend,
        fkey, hit, minute_max, hour_max, day_max, same_s, key_id, key, body, ordinal)
), keyed AS MATERIALIZED (
    SELECT id, key_id, key, body FROM item WHERE key IS NOT NULL
), stopped AS MATERIALIZED (
    SELECT i.id, max(s.kind) AS reason
      FROM item i JOIN suppression s
        ON s.phone_index = i.phone_index AND s.tenant_id IN (0, i.tenant_id) AND (s.kind = 2 OR i.purpose = 2)
     GROUP BY i.id
), repeated AS MATERIALIZED (
    SELECT k.id FROM keyed k JOIN idempotency d ON d.key_id = k.key_id AND d.key = k.key
), counted AS (
    INSERT INTO frequency AS f (key, hits, minute_max, hour_max, day_max, same_s)
    SELECT fkey, ARRAY[hit], minute_max, hour_max, day_max, same_s FROM item
     WHERE fkey IS NOT NULL AND NOT id IN (SELECT id FROM stopped) AND NOT id IN (SELECT id FROM repeated)
     ORDER BY fkey
    ON CONFLICT (key) DO UPDATE
       SET hits = ARRAY(SELECT h FROM unnest(f.hits) AS h WHERE h >> 32 > $4 - 86400) || EXCLUDED.hits,
           minute_max = EXCLUDED.minute_max, hour_max = EXCLUDED.hour_max, day_max = EXCLUDED.day_max,
           same_s = EXCLUDED.same_s
     WHERE (SELECT (EXCLUDED.minute_max = 0 OR count(*) FILTER (WHERE h >> 32 > $4 - 60) < EXCLUDED.minute_max)
               AND (EXCLUDED.hour_max = 0 OR count(*) FILTER (WHERE h >> 32 > $4 - 3600) < EXCLUDED.hour_max)
               AND (EXCLUDED.day_max = 0 OR count(*) FILTER (WHERE h >> 32 > $4 - 86400) < EXCLUDED.day_max)
               AND (EXCLUDED.same_s = 0 OR count(*) FILTER (
                    WHERE h >> 32 > $4 - EXCLUDED.same_s AND (h & 4294967295) = (EXCLUDED.hits[1] & 4294967295)) = 0)
              FROM unnest(f.hits) AS h)
    RETURNING key
), cleared AS MATERIALIZED (
    SELECT * FROM item
     WHERE NOT id IN (SELECT id FROM stopped) AND NOT id IN (SELECT id FROM repeated)
       AND (fkey IS NULL OR fkey IN (SELECT key FROM counted))
), claimed AS (
    INSERT INTO idempotency (key_id, key, body, first_id)
    SELECT key_id, key, body, id FROM keyed WHERE false OR id IN (SELECT id FROM cleared) ORDER BY key_id, key
    ON CONFLICT DO NOTHING
    RETURNING first_id
), passed AS MATERIALIZED (
    SELECT * FROM cleared
     WHERE NOT id IN (SELECT id FROM keyed) OR id IN (SELECT first_id FROM claimed)
), stored AS (
    INSERT INTO message (
        tenant_id, id, app_id, status, purpose, part_count, pending, signature_id, template_id, price_micro, accepted_at,
        due_at, expires_at, decision, phone_index, sealed, country, operator, province, extension, reference, sandbox, resend)
    SELECT tenant_id, id, app_id, CASE WHEN owner < 0 THEN 7 ELSE 0 END, purpose, part_count, part_count, signature_id,
           template_id, price_micro, $2,
           CASE WHEN due_s = 0 THEN $2 ELSE to_timestamp(due_s) END,
           CASE WHEN due_s = 0 THEN $2 ELSE to_timestamp(due_s) END + validity_s * interval '1 second',
           decision, phone_index, sealed, country, operator, province, extension, reference, sandbox, resend
      FROM passed
), queued AS (
    INSERT INTO outbox (tenant_id, id, lane, owner, due_at)
    SELECT tenant_id, id, purpose, owner,
           CASE WHEN owner < 0 THEN 'infinity' WHEN due_s = 0 THEN $2 ELSE to_timestamp(due_s) END
      FROM passed
), priced AS MATERIALIZED (
    SELECT tenant_id, sum(price_micro)::bigint AS micro, count(*)::int AS messages FROM passed GROUP BY tenant_id
), paid AS (
    UPDATE balance b SET amount_micro = b.amount_micro - p.micro
      FROM priced p WHERE b.tenant_id = p.tenant_id AND b.shard = $3
), booked AS (
    INSERT INTO ledger (tenant_id, kind, amount_micro, message_count)
    SELECT tenant_id, 'charge', -micro, messages FROM priced
), tallied AS (
    INSERT INTO tally AS t (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province,
                       latency, shard, messages, parts, price_micro, cost_micro)
    SELECT date_trunc('hour', $2::timestamptz), tenant_id, 0, 0, purpose, template_id, 0, country, operator, province,
           0, $3, count(*), sum(part_count), sum(price_micro), 0
      FROM passed GROUP BY tenant_id, purpose, template_id, country, operator, province
    ON CONFLICT (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency, shard)
    DO UPDATE SET messages = t.messages + EXCLUDED.messages, parts = t.parts + EXCLUDED.parts,
                  price_micro = t.price_micro + EXCLUDED.price_micro
)
SELECT i.ordinal, coalesce(
           (SELECT s.reason FROM stopped s WHERE s.id = i.id)::int,
           CASE WHEN i.id IN (SELECT id FROM cleared) OR i.id IN (SELECT id FROM repeated) THEN 4 ELSE 3 END) AS reason
  FROM item i WHERE NOT i.id IN (SELECT id FROM passed)
"""
