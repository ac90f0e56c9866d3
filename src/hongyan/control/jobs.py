"""Long work that people ask for: a queue with leases, its runner, and the files that go in and come out.

Writes: job, job_chunk. Entry points: make() and pause(), resume(), stop() for those who ask; Runner for the process
that works; forget() on time.
A job outlives its process: its lease runs out and another runner goes on from where it was, because a step and the
word of how far it has come are one transaction (Held.advance). Surprise: a job that was paused or stopped may still
finish the step it is in and say so; only after another claim nobody listens to it any more.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, LiteralString

import msgspec
import structlog

from hongyan import db
from hongyan.control.bounds import demand_found
from hongyan.control.pace import Pace
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way.accept import Acceptor
from hongyan.way.snapshot import Keeper

log = structlog.get_logger()

KEEP_S: Final = 7 * 86_400  # chunks, after their job ended or was last used
SLOTS: Final = 4  # jobs of one runner at once
RUNNING_MAX: Final = 2  # of one tenant at once, over all runners
OPEN_MAX: Final = 20  # of one tenant, not ended
LOOK_GAP_S: Final = 0.5
CLAIM_LOCK: Final = 0x6A6F_6273  # 'jobs': any number nobody else uses
LEASE_S: Final = 30.0
AGAIN_S: Final = 1.0  # after the database was lost
FORGET_GAP_S: Final = 60.0
FORGET_ROWS_MAX: Final = 2_000  # chunks, or other small rows, in one transaction
ERROR_CHARACTERS_MAX: Final = 300
PAGE_MAX: Final = 200


class JobState(StrEnum):
    """How a job stands."""

    WAITING = "waiting"  # for a runner
    RUNNING = "running"
    PAUSED = "paused"  # by a person, or by itself because something is missing; see its error
    STOPPED = "stopped"  # by a person; it does not go on
    DONE = "done"
    FAILED = "failed"  # it cannot go on as it was asked


class Role(StrEnum):
    """What a chunk is of."""

    IN = "in"  # what was given
    OUT = "out"  # what was made of it
    LEFT_OUT = "left_out"  # what was not, and why


class JobRow(msgspec.Struct, frozen=True):
    """A job as people see it. `done` of `total` rows; a total of 0 is not known yet."""

    id: int
    tenant_id: int  # 0: the platform's
    kind: str
    state: JobState
    done: int
    total: int
    counts: Mapping[str, Any]
    error: str
    made_by: str
    made_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Tools:
    """What work is done with."""

    database: db.Database
    vault: Vault
    keeper: Keeper
    settings: Settings
    acceptor: Acceptor
    pace: Pace = field(default_factory=Pace)  # of the rows of all lists of this process


class Interrupted(Exception):  # noqa: N818 - no fault: a person, or the end of the process, says so
    """The job is to rest here; what was done so far is stored."""


class Halt(Exception):  # noqa: N818 - no fault: something is missing that a person can bring
    """The job pauses itself; the text says what is missing."""


# ---- asking


MAKE_SQL: LiteralString = """
INSERT INTO job (tenant_id, kind, state, asked, total, made_by, keep_until)
SELECT $1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7)
 WHERE (SELECT count(*) FROM (SELECT FROM job WHERE tenant_id = $1 AND state IN ('waiting', 'running', 'paused')
                               LIMIT $8) AS open) < $8
RETURNING id
"""


async def make(
    tx: db.Tx,
    tenant_id: int,
    kind: str,
    asked: Any,
    *,
    made_by: str,
    total: int = 0,
    state: JobState = JobState.WAITING,
    keep_s: float = KEEP_S,
) -> int:
    """Put a job into the queue; `asked` is anything JSON can say. Raises Refusal where too many are open."""
    plan = msgspec.json.encode(asked).decode()
    made: int | None = await tx.fetchval(
        MAKE_SQL, tenant_id, kind, state, plan, total, made_by, keep_s, OPEN_MAX
    )
    if made is None:
        raise Refusal(Code.REQUEST_CONFLICT, reason=f"{OPEN_MAX} jobs are open; stop some or wait")
    return made


_COLUMNS: LiteralString = """
SELECT id, tenant_id, kind, state, done, total, counts, error, made_by, made_at, started_at, ended_at FROM job
"""
FIND_SQL: LiteralString = _COLUMNS + " WHERE id = $1 AND ($2::int IS NULL OR tenant_id = $2)"


async def find(tx: db.Tx, tenant_id: int | None, job_id: int) -> JobRow:
    """Return a job of the tenant's (None: anybody's). Raises Refusal, not found."""
    return row_of(demand_found(await tx.fetchrow(FIND_SQL, job_id, tenant_id), id=job_id))


OF_TENANT_SQL: LiteralString = (
    _COLUMNS + " WHERE tenant_id = $1 AND id < $2 AND ($4 = '' OR kind = $4) ORDER BY id DESC LIMIT $3"
)
OF_ALL_SQL: LiteralString = _COLUMNS + " WHERE id < $1 AND ($3 = '' OR kind = $3) ORDER BY id DESC LIMIT $2"


async def listed(
    tx: db.Tx, tenant_id: int | None, *, before: int, limit: int, kind: str = ""
) -> Sequence[JobRow]:
    """List jobs below an id, the newest first."""
    if tenant_id is None:
        rows = await tx.fetch(OF_ALL_SQL, before, limit, kind)
    else:
        rows = await tx.fetch(OF_TENANT_SQL, tenant_id, before, limit, kind)
    return [row_of(row) for row in rows]


def row_of(row: db.Row) -> JobRow:
    return JobRow(
        **{**dict(row), "state": JobState(row["state"]), "counts": msgspec.json.decode(row["counts"])}
    )


PLANS_SQL: LiteralString = "SELECT id, asked FROM job WHERE id = ANY($1::int[])"


async def plans(tx: db.Tx, job_ids: Sequence[int]) -> Mapping[int, str]:
    """Return what jobs are to do, as JSON, by their ids."""
    return {row["id"]: row["asked"] for row in await tx.fetch(PLANS_SQL, job_ids)}


# The worker keeps its word: what it has in hand it may still write down, unless another claims the job.
MOVE_SQL: LiteralString = """
UPDATE job SET state = $3, error = CASE WHEN $3 = 'waiting' THEN '' ELSE error END, lease_until = NULL,
               ended_at = CASE WHEN $3 = 'stopped' THEN now() END,
               keep_until = now() + make_interval(secs => $5)
 WHERE id = $1 AND ($2::int IS NULL OR tenant_id = $2) AND state = ANY($4::text[])
   AND ($3 <> 'waiting' OR has_chunks)
RETURNING id
"""


async def pause(tx: db.Tx, tenant_id: int | None, job_id: int) -> None:
    """Let a job rest between two steps. Raises Refusal where it has ended."""
    await _move(tx, tenant_id, job_id, JobState.PAUSED, (JobState.WAITING, JobState.RUNNING))


async def resume(tx: db.Tx, tenant_id: int | None, job_id: int) -> None:
    """Let a job go on that was paused, paused itself, or failed. Raises Refusal where it has ended otherwise."""
    await _move(
        tx, tenant_id, job_id, JobState.WAITING, (JobState.PAUSED, JobState.FAILED), also=JobState.RUNNING
    )


async def stop(tx: db.Tx, tenant_id: int | None, job_id: int) -> None:
    """End a job where it is. Raises Refusal where it has ended otherwise."""
    await _move(
        tx,
        tenant_id,
        job_id,
        JobState.STOPPED,
        (JobState.WAITING, JobState.RUNNING, JobState.PAUSED, JobState.FAILED),
    )


async def _move(
    tx: db.Tx,
    tenant_id: int | None,
    job_id: int,
    to: JobState,
    states: Sequence[JobState],
    *,
    also: JobState | None = None,
) -> None:
    """Move a job from one of these states; one that is there already, or in the state `also`, may stay."""
    if await tx.fetchval(MOVE_SQL, job_id, tenant_id, to, states, KEEP_S) is None:
        now = (await find(tx, tenant_id, job_id)).state
        if now not in (to, also):
            raise Refusal(Code.REQUEST_CONFLICT, reason=f"the job is {now}")


TOUCH_SQL: LiteralString = """
UPDATE job SET keep_until = now() + make_interval(secs => $2) WHERE id = $1 AND has_chunks RETURNING id
"""


async def keep(tx: db.Tx, job_id: int) -> None:
    """Keep a job's chunks for another week from now. Raises Refusal where they are forgotten."""
    if await tx.fetchval(TOUCH_SQL, job_id, KEEP_S) is None:
        raise Refusal(Code.REQUEST_CONFLICT, reason="what it kept was forgotten")


FINISH_SQL: LiteralString = """
UPDATE job SET state = 'done', done = $2, total = $2, ended_at = now(), keep_until = now() + make_interval(secs => $3)
 WHERE id = $1
"""


async def finish(tx: db.Tx, job_id: int, rows: int) -> None:
    """End a job that no runner works on: one whose work was the request itself."""
    await tx.execute(FINISH_SQL, job_id, rows, KEEP_S)


ABANDON_SQL: LiteralString = """
WITH gone AS (DELETE FROM job_chunk WHERE job_id = $1)
UPDATE job SET state = 'failed', error = $2, ended_at = now(), has_chunks = false WHERE id = $1
"""


async def abandon(tx: db.Tx, job_id: int, error: str) -> None:
    """End such a job in vain; nothing of it is kept."""
    await tx.execute(ABANDON_SQL, job_id, error[:ERROR_CHARACTERS_MAX])


# ---- chunks


PUT_CHUNK_SQL: LiteralString = """
INSERT INTO job_chunk (job_id, role, number, rows, sealed) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (job_id, role, number) DO UPDATE SET rows = EXCLUDED.rows, sealed = EXCLUDED.sealed
"""


async def put_chunk(tx: db.Tx, job_id: int, role: Role, number: int, rows: int, sealed: bytes) -> None:
    """Store a chunk; one of this number is replaced."""
    await tx.execute(PUT_CHUNK_SQL, job_id, role, number, rows, sealed)


NEXT_CHUNK_SQL: LiteralString = """
SELECT number, sealed FROM job_chunk WHERE job_id = $1 AND role = $2 AND number > $3 ORDER BY number LIMIT 1
"""


async def next_chunk(
    tx: db.Tx, vault: Vault, tenant_id: int, job_id: int, role: Role, after: int
) -> tuple[int, bytes] | None:
    """Return the chunk behind a number (-1: the first) and its own number; None behind the last."""
    row = await tx.fetchrow(NEXT_CHUNK_SQL, job_id, role, after)
    return None if row is None else (row["number"], vault.unseal(tenant_id, row["sealed"]))


async def chunks(
    database: db.Database, vault: Vault, tenant_id: int, job_id: int, role: Role
) -> AsyncIterator[bytes]:
    """Yield a file's chunks in their order, each read in a transaction of its own."""
    after = -1
    while True:
        async with database.transaction() as tx:
            found = await next_chunk(tx, vault, tenant_id, job_id, role, after)
        if found is None:
            return
        after, plain = found
        yield plain


DROP_SQL: LiteralString = "DELETE FROM job_chunk WHERE job_id = $1 AND role = $2"


async def drop_chunks(tx: db.Tx, job_id: int, role: Role) -> None:
    await tx.execute(DROP_SQL, job_id, role)


EXPIRE_SQL: LiteralString = "UPDATE job SET keep_until = now() WHERE id = ANY($1::int[]) AND has_chunks"


async def expire(tx: db.Tx, job_ids: Sequence[int]) -> None:
    """Let what these jobs keep be forgotten with the next turn of forget()."""
    await tx.execute(EXPIRE_SQL, job_ids)


# A running job's chunks stay; one that rests for longer than they are kept is over, because it cannot go on.
FORGET_SQL: LiteralString = """
WITH old AS (
    SELECT id FROM job WHERE has_chunks AND keep_until < now() AND (state <> 'running' OR kind = 'list.read')
     ORDER BY keep_until LIMIT 20 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM job_chunk WHERE (job_id, role, number) IN (
        SELECT c.job_id, c.role, c.number FROM job_chunk c JOIN old ON c.job_id = old.id LIMIT $1)
    RETURNING job_id
), emptied AS (
    UPDATE job j
       SET has_chunks = false,
           state = CASE WHEN j.state IN ('waiting', 'running', 'paused') THEN 'stopped' ELSE j.state END,
           error = CASE WHEN j.state IN ('waiting', 'running', 'paused') THEN 'its rows were forgotten' ELSE j.error END,
           ended_at = coalesce(j.ended_at, now())
      FROM old WHERE j.id = old.id AND (SELECT count(*) FROM gone) < $1
)
SELECT count(*)::int FROM gone
"""


async def forget(tx: db.Tx) -> int:
    """Forget chunks whose time is over; returns how many. FORGET_ROWS_MAX: there may be more."""
    gone: int = await tx.fetchval(FORGET_SQL, FORGET_ROWS_MAX)
    return gone


# ---- working


class Held:
    """A job in this process's hands, until another claims it."""

    def __init__(self, row: db.Row, worker: uuid.UUID, lease_s: float) -> None:
        self.id: int = row["id"]
        self.tenant_id = TenantId(row["tenant_id"])
        self.kind: str = row["kind"]
        self.asked: str = row["asked"]  # JSON
        self.done: int = row["done"]
        self.total: int = row["total"]
        self.counts: dict[str, Any] = msgspec.json.decode(row["counts"])
        self.place: str = row["place"]
        self.worker = worker
        self.rests = False  # somebody said so, or the lease is lost
        self._lease_s = lease_s

    def demand_going(self) -> None:
        """Ask before each step whether there is to be one. Raises Interrupted."""
        if self.rests:
            raise Interrupted

    async def advance(self, tx: db.Tx) -> None:
        """Write down done, total, counts and place, in the step's own transaction.

        Raises Interrupted where another holds the job: what the step did is then rolled back.
        """
        state = await tx.fetchval(
            ADVANCE_SQL,
            self.id,
            self.worker,
            self.done,
            self.total,
            msgspec.json.encode(self.counts).decode(),
            self.place,
            self._lease_s,
        )
        if state is None:
            self.rests = True
            raise Interrupted
        self.rests = self.rests or state != JobState.RUNNING


ADVANCE_SQL: LiteralString = """
UPDATE job SET done = $3, total = $4, counts = $5, place = $6,
               lease_until = CASE WHEN state = 'running' THEN now() + make_interval(secs => $7) END
 WHERE id = $1 AND worker = $2
RETURNING state
"""
Work = Callable[[Tools, Held], Awaitable[None]]
Forgets = Callable[[db.Tx], Awaitable[int]]


class Runner:
    """Works on jobs of the kinds it is given. run() until cancelled, which is as if the process died; or close()."""

    def __init__(
        self,
        tools: Tools,
        kinds: Mapping[str, Work],
        forgets: Sequence[Forgets] = (),
        *,
        lease_s: float = LEASE_S,
        look_gap_s: float = LOOK_GAP_S,
    ) -> None:
        self._tools = tools
        self._kinds = kinds
        self._forgets = (forget, *forgets)
        self._lease_s = lease_s
        self._look_gap_s = look_gap_s
        self._held: dict[uuid.UUID, Held] = {}
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Claim and do jobs, SLOTS at once, and forget what is old."""
        async with asyncio.TaskGroup() as tasks:
            keeping = [tasks.create_task(self._keep()), tasks.create_task(self._forget())]
            working = [tasks.create_task(self._slot()) for _ in range(SLOTS)]
            await asyncio.wait(working)
            for task in keeping:
                task.cancel()

    async def close(self) -> None:
        """Let every job rest at its next step and give it back, for others to go on with."""
        self._closing.set()
        for held in self._held.values():
            held.rests = True
        while self._held:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.01)

    async def _slot(self) -> None:
        while not self._closing.is_set():
            try:
                held = await self._claim()
                if held is not None:
                    await self._perform(held)
                    continue
            except db.Unavailable as error:
                log.warning("jobs.database_lost", error=type(error).__name__)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_gap_s):
                    await self._closing.wait()

    async def _claim(self) -> Held | None:
        worker = uuid.uuid4()
        async with self._tools.database.transaction() as tx:
            # One claim after the other, or two that do not see each other exceed what a tenant may have.
            await tx.execute("SELECT pg_advisory_xact_lock($1)", CLAIM_LOCK)
            rows = await tx.fetch(CLAIM_SQL, list(self._kinds), worker, self._lease_s, RUNNING_MAX)
        if not rows:
            return None
        held = self._held[worker] = Held(rows[0], worker, self._lease_s)
        held.rests = self._closing.is_set()  # it was said while we claimed
        return held

    async def _perform(self, held: Held) -> None:
        state, error = JobState.DONE, ""
        try:
            await self._work(held)
        except Interrupted:
            state = JobState.WAITING  # where it still runs: the process ends
        except Halt as halt:
            state, error = JobState.PAUSED, str(halt)
        except Refusal as refusal:
            state, error = JobState.FAILED, said(refusal)
        except db.Unavailable as lost:
            log.warning("jobs.database_lost", job=held.id, error=type(lost).__name__)
            await asyncio.sleep(AGAIN_S)
            state = JobState.WAITING
        except Exception:
            log.exception("jobs.failed", job=held.id, kind=held.kind)
            state, error = JobState.FAILED, Code.SYSTEM_ERROR.value.name
        finally:
            self._held.pop(held.worker, None)
        await self._tools.database.execute(
            END_SQL, held.id, held.worker, state, error[:ERROR_CHARACTERS_MAX], KEEP_S
        )

    async def _work(self, held: Held) -> None:
        """Do the work; of several faults at once the first counts."""
        try:
            await self._kinds[held.kind](self._tools, held)
        except ExceptionGroup as group:
            fault: Exception = group
            while isinstance(fault, ExceptionGroup):
                fault = fault.exceptions[0]
            raise fault from group

    async def _keep(self) -> None:
        """Renew the leases of what is in hand, and hear what was paused, stopped or lost."""
        while True:
            await asyncio.sleep(self._lease_s / 6)
            held = dict(self._held)
            if not held:
                continue
            try:
                rows = await self._tools.database.fetch(KEEP_SQL, list(held), self._lease_s)
            except db.Unavailable as error:
                log.warning("jobs.database_lost", error=type(error).__name__)
                continue
            running = {row["worker"] for row in rows}
            for worker, job in held.items():
                job.rests = job.rests or worker not in running

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(FORGET_GAP_S)
            for forgets in self._forgets:
                try:
                    gone = FORGET_ROWS_MAX
                    while gone >= FORGET_ROWS_MAX:
                        async with self._tools.database.transaction() as tx:
                            gone = await forgets(tx)
                except db.Unavailable as error:
                    log.warning("jobs.database_lost", error=type(error).__name__)
                except Exception:  # the other duties and the jobs go on
                    log.exception("jobs.not_forgotten")


# Whose tenant has the fewest under way comes first, so that one tenant's queue is not everybody's.
# A lease of more than ten minutes was given by a clock that was ahead, and was set back since: it is over.
CLAIM_SQL: LiteralString = """
WITH busy AS MATERIALIZED (
    SELECT tenant_id, count(*) AS jobs FROM job
     WHERE state = 'running' AND lease_until BETWEEN now() AND now() + interval '10 minutes' GROUP BY tenant_id
), due AS (
    SELECT j.id FROM job j LEFT JOIN busy b ON b.tenant_id = j.tenant_id
     WHERE j.state IN ('waiting', 'running')
       AND (j.state = 'waiting' OR NOT j.lease_until BETWEEN now() AND now() + interval '10 minutes')
       AND j.kind = ANY($1::text[]) AND coalesce(b.jobs, 0) < $4
     ORDER BY coalesce(b.jobs, 0), j.id LIMIT 1 FOR UPDATE OF j SKIP LOCKED
)
UPDATE job j SET state = 'running', worker = $2, lease_until = now() + make_interval(secs => $3),
                 started_at = coalesce(j.started_at, now()), ended_at = NULL
  FROM due WHERE j.id = due.id
RETURNING j.id, j.tenant_id, j.kind, j.asked, j.done, j.total, j.counts, j.place
"""
KEEP_SQL: LiteralString = """
UPDATE job SET lease_until = now() + make_interval(secs => $2)
 WHERE state = 'running' AND worker = ANY($1::uuid[])
RETURNING worker
"""
# A word to pause that came during the last step does not undo the end.
END_SQL: LiteralString = """
UPDATE job SET state = $3, error = $4, lease_until = NULL,
               ended_at = CASE WHEN $3 IN ('done', 'failed') THEN now() END,
               keep_until = now() + make_interval(secs => $5)
 WHERE id = $1 AND worker = $2 AND (state = 'running' OR (state = 'paused' AND $3 = 'done'))
"""


def said(refusal: Refusal) -> str:
    """Write a refusal as a job's error: its public code, and what was wrong."""
    detail = ", ".join(f"{name}: {value}" for name, value in refusal.detail.items())
    return f"{refusal.code.value.name}{f' ({detail})' if detail else ''}"
