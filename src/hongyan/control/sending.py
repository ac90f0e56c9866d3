"""Check the rows of a list, and send to those that are ready: the work behind lists.py.

Writes: list_number, list_batch. Entry points: KINDS, for jobs.Runner; forget().
A chunk of rows is checked and stored with the word of how far the check has come, so no row is checked twice. A chunk
is sent under ids that are stored before the first of its rows is accepted (way.accept.Acceptor.accept_once), so a
crash, a pause or a second runner sends no row twice. Surprise: a list takes its ids when it is sent, not when it is
stored, because the id of a message says when it was accepted, and searches go by that.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, LiteralString

import msgspec

from hongyan import clock, db
from hongyan.control import consents, jobs, keys
from hongyan.control.jobs import FORGET_ROWS_MAX, Halt, Held, Role, Tools, Work
from hongyan.control.lists import CHECK, DUPLICATE, EMPTY_VARIABLE, NO_CONSENT, SEND, LeftOut, Plan, Ready
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, MessageIds, Purpose
from hongyan.way import guard, optout
from hongyan.way.accept import Accepted, Draft, Outcome, ids_after
from hongyan.way.snapshot import Key

SLICE_ROWS: Final = 100  # offered at once: the commits of codes wait for no more than theirs
AHEAD: Final = 200  # numbers of chunks looked up at once
OFFER_WAIT_S: Final = 60.0
AGAIN_S: Final = 0.5  # after the acceptor was busy, doubling
AGAIN_S_MAX: Final = 10.0
NUMBERS_GONE: Final = 50_000  # forgotten in one transaction at the end of a check

# What no further row would pass either: the list waits for a person who mends it.
STOPPERS: Final = frozenset(
    {
        Code.ACCOUNT_BALANCE_INSUFFICIENT,
        Code.ACCOUNT_SUSPENDED,
        Code.ACCOUNT_NOT_QUALIFIED,
        Code.TEMPLATE_NOT_FOUND,
        Code.TEMPLATE_NOT_APPROVED,
        Code.SIGN_NOT_FOUND,
        Code.SIGN_NOT_APPROVED,
    }
)
POOR: Final = frozenset({Code.ACCOUNT_BALANCE_INSUFFICIENT})
PASSING: Final = frozenset({Code.SYSTEM_BUSY, Code.SYSTEM_ERROR})  # tried again


# ---- checking


async def check(tools: Tools, held: Held) -> None:
    """Check every row: what the rules say of it, whether it comes twice, and whom the person has stopped."""
    plan = msgspec.json.decode(held.asked, type=Plan)
    after = int(held.place or -1)
    while True:
        held.demand_going()
        async with tools.database.transaction() as tx:
            found = await jobs.next_chunk(tx, tools.vault, held.tenant_id, plan.read_job, Role.IN, after)
        if found is None:
            break
        after, plain = found
        await _check_chunk(tools, held, plan, after, msgspec.msgpack.decode(plain))
    if held.done < held.total:
        raise Refusal(Code.REQUEST_CONFLICT, reason="its rows were forgotten; upload the file again")
    await _forget_numbers(tools, held)


async def _check_chunk(
    tools: Tools, held: Held, plan: Plan, number: int, rows: Sequence[tuple[int, Sequence[str]]]
) -> None:
    snapshot = tools.keeper.current
    key = keys.of_app(snapshot, held.tenant_id, plan.app_id)
    passed: dict[bytes, tuple[Ready, guard.Cleared]] = {}
    left: list[LeftOut] = []
    now_s = clock.now_s()
    for row, cells in rows:
        raw = cells[plan.number]
        reference = "" if plan.reference is None else cells[plan.reference]
        values = [cells[place] for place in plan.params.values()]
        try:
            cleared = guard.check(plan.draft(raw, values, reference), key, snapshot, tools.settings, now_s)
        except Refusal as refusal:
            left.append(LeftOut(row, raw, _reason(refusal, dict(zip(plan.params, values, strict=True)))))
            continue
        except (UnicodeEncodeError, OverflowError):
            left.append(LeftOut(row, raw, Code.REQUEST_INVALID_PARAMETER.value.name))
            continue
        index = tools.vault.phone_index(cleared.number.e164)
        if index in passed:
            left.append(LeftOut(row, raw, DUPLICATE))
        else:
            passed[index] = Ready(row, cleared.number.e164, values, reference), cleared
    async with tools.database.transaction() as tx:
        for index, reason in (await _stopped(tx, held, passed)).items():
            ready, _ = passed.pop(index)
            left.append(LeftOut(ready.row, ready.number, reason))
        await _keep_checked(tx, tools, held, number, [ready for ready, _ in passed.values()], left)
        _count(held.counts, [cleared for _, cleared in passed.values()], left)
        held.done += len(rows)
        held.place = str(number)
        await held.advance(tx)


def _reason(refusal: Refusal, values: Mapping[str, str]) -> str:
    """Say why a row is left out: an empty cell is told as what it is, whatever rule it breaks."""
    if refusal.code is Code.TEMPLATE_VARIABLE_INVALID and not values[refusal.detail["variable"]].strip():
        return EMPTY_VARIABLE
    return refusal.code.value.name


async def _keep_checked(
    tx: db.Tx, tools: Tools, held: Held, number: int, ready: Sequence[Ready], left: list[LeftOut]
) -> None:
    for role, kept in ((Role.OUT, ready), (Role.LEFT_OUT, sorted(left, key=lambda one: one.row))):
        if kept:
            sealed = tools.vault.seal(held.tenant_id, msgspec.msgpack.encode(kept))
            await jobs.put_chunk(tx, held.id, role, number, len(kept), sealed)


def _count(counts: dict[str, Any], cleared: Sequence[guard.Cleared], left: Sequence[LeftOut]) -> None:
    counts["ready"] = counts.get("ready", 0) + len(cleared)
    counts["price_micro"] = counts.get("price_micro", 0) + sum(one.price_micro for one in cleared)
    parts: dict[str, int] = counts.setdefault("parts", {})
    for one in cleared:
        parts[str(one.part_count)] = parts.get(str(one.part_count), 0) + 1
    reasons: dict[str, int] = counts.setdefault("left_out", {})
    for row in left:
        reasons[row.reason] = reasons.get(row.reason, 0) + 1


NEW_SQL: LiteralString = """
INSERT INTO list_number (job_id, phone_index) SELECT $1, i FROM unnest($2::bytea[]) AS i ORDER BY i
ON CONFLICT DO NOTHING RETURNING phone_index
"""
SUPPRESSED_SQL: LiteralString = """
SELECT phone_index, max(kind) AS kind FROM suppression
 WHERE phone_index = ANY($1::bytea[]) AND tenant_id IN (0, $2) AND (kind = 2 OR $3) GROUP BY phone_index
"""


async def _stopped(
    tx: db.Tx, held: Held, passed: Mapping[bytes, tuple[Ready, guard.Cleared]]
) -> Mapping[bytes, str]:
    """Say of whom the database knows why not: an earlier row, an opt-out, a block, a consent that is missing."""
    if not passed:
        return {}
    indexes = list(passed)
    new = {row["phone_index"] for row in await tx.fetch(NEW_SQL, held.id, indexes)}
    reasons = {index: DUPLICATE for index in indexes if index not in new}
    promotional = next(iter(passed.values()))[1].wording.purpose is Purpose.PROMOTIONAL
    for row in await tx.fetch(SUPPRESSED_SQL, list(new), held.tenant_id, promotional):
        code = Code.NUMBER_BLOCKED if row["kind"] == optout.BLOCK else Code.NUMBER_OPTED_OUT
        reasons[row["phone_index"]] = code.value.name
    if promotional and await consents.demanded(tx, held.tenant_id):
        asked = [index for index in indexes if index not in reasons]
        reasons |= dict.fromkeys(await consents.lacking(tx, held.tenant_id, asked), NO_CONSENT)
    return reasons


FORGET_NUMBERS_SQL: LiteralString = """
WITH gone AS (
    DELETE FROM list_number WHERE job_id = $1 AND phone_index IN (
        SELECT phone_index FROM list_number WHERE job_id = $1 LIMIT $2)
    RETURNING 1
)
SELECT count(*)::int FROM gone
"""


async def _forget_numbers(tools: Tools, held: Held) -> None:
    gone = NUMBERS_GONE
    while gone >= NUMBERS_GONE:
        held.demand_going()
        async with tools.database.transaction() as tx:
            gone = await tx.fetchval(FORGET_NUMBERS_SQL, held.id, NUMBERS_GONE)


# ---- sending


class _Batch(msgspec.Struct):
    """A chunk on its way."""

    number: int
    rows: list[Ready]
    first_id: uuid.UUID
    accepted: int  # as counted so far
    fresh: bool  # nothing was ever offered under its ids


class _Sender:
    """Sends one list, chunk by chunk."""

    def __init__(self, tools: Tools, held: Held, plan: Plan) -> None:
        self._tools = tools
        self._held = held
        self._plan = plan
        self._ids = MessageIds()
        self._halt = ""
        held.counts.setdefault("accepted", 0)
        held.counts.setdefault("refused", {})
        held.counts.setdefault("begun_s", clock.now_s())  # the spread counts from the first start
        self._begun = datetime.fromtimestamp(held.counts["begun_s"], UTC)

    async def run(self) -> None:
        async for number in self._pending():
            if self._halt or self._held.rests:
                break
            batch = await self._begin(number)
            outcomes, ended = await self._offer(batch)
            if outcomes:
                await self._record(batch, outcomes, ended=ended)
        if self._halt:
            raise Halt(self._halt)
        self._held.demand_going()
        if self._held.done < self._held.total:
            raise Refusal(Code.REQUEST_CONFLICT, reason="its rows were forgotten; upload the file again")

    async def _pending(self) -> AsyncIterator[int]:
        after = -1
        while True:
            rows = await self._tools.database.fetch(
                PENDING_SQL, self._plan.check_job, self._held.id, after, AHEAD
            )
            for row in rows:
                after = row["number"]
                yield after
            if len(rows) < AHEAD:
                return

    async def _begin(self, number: int) -> _Batch:
        """Decide the ids of a chunk, or learn what was decided."""
        rows = await self._tools.database.fetch(
            BEGIN_SQL, self._held.id, number, self._ids.make(), self._plan.check_job
        )
        plain = self._tools.vault.unseal(self._held.tenant_id, rows[0]["sealed"])
        ready = msgspec.msgpack.decode(plain, type=list[Ready])
        return _Batch(number, ready, rows[0]["first_id"], rows[0]["accepted"], rows[0]["fresh"])

    async def _offer(self, batch: _Batch) -> tuple[Sequence[Outcome], bool]:
        """Have a chunk accepted; returns its outcomes, and whether they are final. None at all: nothing is known."""
        plan, again_s = self._plan, AGAIN_S
        drafts: list[Draft] = [
            plan.draft(one.number, one.values, one.reference, row=one.row, begun=self._begun)
            for one in batch.rows
        ]
        ids = ids_after(batch.first_id.int, len(drafts))
        outcomes: Sequence[Outcome] = ()
        poor, fresh = False, batch.fresh
        while not (self._halt or self._held.rests):
            key = keys.of_app(self._tools.keeper.current, self._held.tenant_id, plan.app_id)
            with suppress(TimeoutError, *db.Unavailable):
                offered, fresh = fresh, False
                outcomes = await self._accept(key, drafts, ids, fresh=offered)
                codes = {outcome.code for outcome in outcomes if isinstance(outcome, Refusal)}
                if codes & STOPPERS == POOR and not poor:
                    poor = True  # as the acceptor remembers it: money may have come since
                elif codes & STOPPERS:
                    self._halt = next(
                        jobs.said(one)
                        for one in outcomes
                        if isinstance(one, Refusal) and one.code in STOPPERS
                    )
                elif len(outcomes) == len(drafts) and not codes & PASSING:
                    return outcomes, True
            if not (self._halt or self._held.rests):
                await asyncio.sleep(again_s)
                again_s = min(again_s * 2, AGAIN_S_MAX)
        return outcomes, False

    async def _accept(
        self, key: Key, drafts: Sequence[Draft], ids: Sequence[MessageId], *, fresh: bool
    ) -> Sequence[Outcome]:
        """Have rows accepted slice by slice, at a pace: a chunk at once would hold up the codes that come meanwhile.

        Returns fewer outcomes where the job is to rest before all were offered.
        """
        tools, outcomes = self._tools, list[Outcome]()
        for start in range(0, len(drafts), SLICE_ROWS):
            rows = slice(start, start + SLICE_ROWS)
            async with tools.pace.turn(len(drafts[rows]), tools.settings.list_rows_per_s):
                if self._held.rests:
                    break
                async with asyncio.timeout(OFFER_WAIT_S):
                    outcomes += await tools.acceptor.accept_once(key, drafts[rows], ids[rows], fresh=fresh)
        return outcomes

    async def _record(self, batch: _Batch, outcomes: Sequence[Outcome], *, ended: bool) -> None:
        """Write down what became of a chunk. What is not final counts its accepted rows; the others come again."""
        accepted = sum(isinstance(outcome, Accepted) for outcome in outcomes)
        accepted = max(accepted, batch.accepted)  # not all that were accepted before were asked about again
        left = [
            LeftOut(row.row, row.number, outcome.code.value.name)
            for row, outcome in zip(batch.rows, outcomes, strict=ended)
            if ended and isinstance(outcome, Refusal)
        ]
        before = self._held.done, msgspec.json.encode(self._held.counts)
        try:
            async with self._tools.database.transaction() as tx:
                await self._count(tx, batch, accepted, left, ended=ended)
        except BaseException:  # it was not stored, so it does not count either
            self._held.done, self._held.counts = before[0], msgspec.json.decode(before[1])
            raise

    async def _count(
        self, tx: db.Tx, batch: _Batch, accepted: int, left: Sequence[LeftOut], *, ended: bool
    ) -> None:
        held = self._held
        await tx.execute(RECORD_SQL, held.id, batch.number, accepted, ended)
        if left:
            sealed = self._tools.vault.seal(held.tenant_id, msgspec.msgpack.encode(left))
            await jobs.put_chunk(tx, held.id, Role.LEFT_OUT, batch.number, len(left), sealed)
        refused: dict[str, int] = held.counts["refused"]
        for one in left:
            refused[one.reason] = refused.get(one.reason, 0) + 1
        held.counts["accepted"] += accepted - batch.accepted
        held.done += accepted - batch.accepted + len(left)
        await held.advance(tx)


async def send(tools: Tools, held: Held) -> None:
    """Send what a check found ready."""
    plan = msgspec.json.decode(held.asked, type=Plan)
    await _Sender(tools, held, plan).run()


PENDING_SQL: LiteralString = """
SELECT c.number FROM job_chunk c LEFT JOIN list_batch b ON b.job_id = $2 AND b.number = c.number
 WHERE c.job_id = $1 AND c.role = 'out' AND c.number > $3 AND b.done IS NOT TRUE ORDER BY c.number LIMIT $4
"""
BEGIN_SQL: LiteralString = """
WITH begun AS (
    INSERT INTO list_batch AS b (job_id, number, first_id) VALUES ($1, $2, $3)
    ON CONFLICT (job_id, number) DO UPDATE SET job_id = b.job_id
    RETURNING first_id, accepted, b.xmax = 0 AS fresh  -- xmax: set where there was a row already
)
SELECT b.first_id, b.accepted, b.fresh, c.sealed FROM begun b, job_chunk c WHERE c.job_id = $4 AND c.role = 'out' AND c.number = $2
"""
RECORD_SQL: LiteralString = """
UPDATE list_batch SET accepted = $3, done = $4 WHERE job_id = $1 AND number = $2
"""


# ---- forgetting


# Of the few jobs that have any: from one to the next by the key, however many rows each has.
FORGET_SQL: LiteralString = """
WITH RECURSIVE checks AS (
    SELECT min(job_id) AS id FROM list_number
     UNION ALL
    SELECT (SELECT min(n.job_id) FROM list_number n WHERE n.job_id > c.id) FROM checks c WHERE c.id IS NOT NULL
), sendings AS (
    SELECT min(job_id) AS id FROM list_batch
     UNION ALL
    SELECT (SELECT min(b.job_id) FROM list_batch b WHERE b.job_id > s.id) FROM sendings s WHERE s.id IS NOT NULL
), numbers AS (
    DELETE FROM list_number WHERE (job_id, phone_index) IN (
        SELECT n.job_id, n.phone_index FROM checks c JOIN job j ON j.id = c.id JOIN list_number n ON n.job_id = j.id
         WHERE j.state IN ('done', 'stopped') OR NOT j.has_chunks LIMIT $1)
    RETURNING 1
), batches AS (
    DELETE FROM list_batch WHERE (job_id, number) IN (
        SELECT b.job_id, b.number FROM sendings s JOIN job j ON j.id = s.id JOIN list_batch b ON b.job_id = j.id
         WHERE NOT j.has_chunks LIMIT $1)
    RETURNING 1
)
SELECT greatest((SELECT count(*) FROM numbers), (SELECT count(*) FROM batches))::int
"""


async def forget(tx: db.Tx) -> int:
    """Forget what ended jobs no longer need; returns how many rows. FORGET_ROWS_MAX: there may be more."""
    gone: int = await tx.fetchval(FORGET_SQL, FORGET_ROWS_MAX)
    return gone


KINDS: Final[Mapping[str, Work]] = {CHECK: check, SEND: send}
