"""A job is done once, by one at a time, whoever dies; and it rests when it is told to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
import pytest

import make
from hongyan import db
from hongyan.control import jobs
from hongyan.control.jobs import Halt, Held, JobRow, JobState, Role, Runner, Tools, Work
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way.accept import Acceptor
from hongyan.way.measure import Counters
from hongyan.way.snapshot import Keeper
from make import World

WAIT_S: Final = 20.0
LEASE_S: Final = 0.3
STEPS: Final = 10


def tools_of(world: World) -> Tools:
    keeper = Keeper(world.database, world.vault)
    acceptor = Acceptor(
        world.database, keeper, world.vault, make.SETTINGS, Counters(), lambda _: 0, lambda _: None
    )
    return Tools(world.database, world.vault, keeper, make.SETTINGS, acceptor)


@contextlib.asynccontextmanager
async def running(tools: Tools, work: Work, *, lease_s: float = LEASE_S) -> AsyncIterator[asyncio.Task[None]]:
    """A runner of kind 'steps'; at the end of the block it dies, unless it has already."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(Runner(tools, {"steps": work}, lease_s=lease_s, look_gap_s=0.02).run())
        yield task
        task.cancel()


async def ask(world: World, tenant_id: int = 0, total: int = STEPS) -> int:
    async with world.database.transaction() as tx:
        return await jobs.make(tx, tenant_id or world.tenant_id, "steps", {}, made_by="user:1", total=total)


async def find(world: World, job_id: int) -> JobRow:
    async with world.database.transaction() as tx:
        return await jobs.find(tx, None, job_id)


async def until(world: World, job_id: int, true: Callable[[JobRow], bool]) -> JobRow:
    async with asyncio.timeout(WAIT_S):
        while not true(row := await find(world, job_id)):
            await asyncio.sleep(0.01)
        return row


async def ended(world: World, job_id: int) -> JobRow:
    return await until(world, job_id, lambda row: row.state in (JobState.DONE, JobState.FAILED))


async def step(tools: Tools, held: Held) -> None:
    """One step: a chunk, and the word that it is there."""
    held.demand_going()
    async with tools.database.transaction() as tx:
        sealed = tools.vault.seal(held.tenant_id, b"%d" % held.done)
        await tx.execute(
            "INSERT INTO job_chunk (job_id, role, number, rows, sealed) VALUES ($1, 'out', $2, 1, $3)",
            held.id,
            held.done,
            sealed,
        )  # not put_chunk(): a step that is done twice must be seen
        held.done += 1
        held.counts["steps"] = held.done
        await held.advance(tx)


async def steps(tools: Tools, held: Held) -> None:
    while held.done < held.total:
        await step(tools, held)


async def chunks(tools: Tools, tenant_id: int, job_id: int) -> list[bytes]:
    found = jobs.chunks(tools.database, tools.vault, tenant_id, job_id, Role.OUT)
    return [chunk async for chunk in found]


async def test_a_job_is_done_and_says_how_far_it_has_come(database: str) -> None:
    async with make.world(database) as world:
        tools = tools_of(world)
        job_id = await ask(world)
        async with running(tools, steps):
            row = await ended(world, job_id)
        assert (row.state, row.done, row.total, row.counts) == (JobState.DONE, STEPS, STEPS, {"steps": STEPS})
        assert row.started_at is not None
        assert row.ended_at is not None
        assert await chunks(tools, world.tenant_id, job_id) == [b"%d" % n for n in range(STEPS)]


async def test_what_a_runner_leaves_when_it_dies_another_goes_on_with(database: str) -> None:
    async with make.world(database) as world:
        tools = tools_of(world)
        hangs = asyncio.Event()

        async def half(tools: Tools, held: Held) -> None:
            while held.done < STEPS // 2:
                await step(tools, held)
            hangs.set()
            await asyncio.Event().wait()

        job_id = await ask(world)
        async with running(tools, half):
            await hangs.wait()
        assert (await find(world, job_id)).state is JobState.RUNNING  # nobody tidied up
        async with running(tools, steps):
            row = await ended(world, job_id)
        assert (row.state, row.done) == (JobState.DONE, STEPS)
        assert len(await chunks(tools, world.tenant_id, job_id)) == STEPS


async def test_whoever_lost_the_lease_stores_nothing_more(database: str) -> None:
    async with make.world(database) as world:
        tools = tools_of(world)
        stalls, goes_on = asyncio.Event(), asyncio.Event()
        heard: list[type[BaseException]] = []

        async def stalled(tools: Tools, held: Held) -> None:
            if stalls.is_set():  # another place of the same runner
                await steps(tools, held)
                return
            await step(tools, held)
            stalls.set()
            await goes_on.wait()
            held.rests = False  # it has heard nothing of its loss
            try:
                async with tools.database.transaction() as tx:
                    await jobs.put_chunk(tx, held.id, Role.OUT, 0, 1, b"late")
                    await held.advance(tx)
            except BaseException as error:
                heard.append(type(error))
                raise

        job_id = await ask(world)
        async with running(tools, stalled, lease_s=60):
            await stalls.wait()
            await world.database.execute("UPDATE job SET lease_until = now() - interval '1 s'")
            async with running(tools, steps):
                await ended(world, job_id)
            goes_on.set()
            async with asyncio.timeout(WAIT_S):
                while not heard:
                    await asyncio.sleep(0.01)
        assert heard == [jobs.Interrupted]
        row = await find(world, job_id)
        assert (row.state, row.done) == (JobState.DONE, STEPS)
        assert (await chunks(tools, world.tenant_id, job_id))[0] == b"0"


async def test_two_runners_do_each_job_once(database: str) -> None:
    async with make.world(database) as world:
        tools = tools_of(world)
        ids = [await ask(world) for _ in range(8)]
        async with running(tools, steps), running(tools, steps):
            rows = [await ended(world, job_id) for job_id in ids]
        assert {(row.state, row.done) for row in rows} == {(JobState.DONE, STEPS)}


async def test_a_job_rests_while_it_is_paused_and_goes_on_where_it_was(database: str) -> None:
    async with make.world(database) as world:
        tools = tools_of(world)
        may = asyncio.Semaphore(3)

        async def slowly(tools: Tools, held: Held) -> None:
            while held.done < held.total:
                async with asyncio.timeout(WAIT_S):
                    while not held.rests and may.locked():
                        await asyncio.sleep(0.005)
                held.demand_going()
                await may.acquire()
                await step(tools, held)

        job_id = await ask(world)
        async with running(tools, slowly):
            await until(world, job_id, lambda row: row.done == 3)
            async with world.database.transaction() as tx:
                await jobs.pause(tx, world.tenant_id, job_id)
                await jobs.pause(tx, world.tenant_id, job_id)  # said twice
            await until(world, job_id, lambda row: row.state is JobState.PAUSED)
            for _ in range(STEPS):
                may.release()
            async with world.database.transaction() as tx:
                await jobs.resume(tx, world.tenant_id, job_id)
            row = await ended(world, job_id)
        assert (row.state, row.done) == (JobState.DONE, STEPS)


async def test_a_job_that_is_stopped_does_not_go_on(database: str) -> None:
    async with make.world(database) as world:
        job_id = await ask(world)
        async with world.database.transaction() as tx:
            await jobs.stop(tx, world.tenant_id, job_id)
            for move in (jobs.pause, jobs.resume):
                with pytest.raises(Refusal) as caught:
                    await move(tx, world.tenant_id, job_id)
                assert caught.value.code is Code.REQUEST_CONFLICT
        async with running(tools_of(world), steps):
            other = await ask(world)
            await ended(world, other)
        assert (await find(world, job_id)).done == 0


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (Halt("no money"), JobState.PAUSED, "no money"),
        (Refusal(Code.TEMPLATE_NOT_FOUND, template="x"), JobState.FAILED, "Template.NotFound (template: x)"),
        (ValueError("a number +8613800138000"), JobState.FAILED, "System.Error"),
        (ExceptionGroup("", [Halt("no money")]), JobState.PAUSED, "no money"),
    ],
    ids=["halt", "refusal", "bug", "group"],
)
async def test_how_work_ends_is_how_the_job_stands(
    error: Exception, state: JobState, words: str, database: str
) -> None:
    async def fails(_tools: Tools, _held: Held) -> None:
        raise error

    async with make.world(database) as world:
        job_id = await ask(world)
        async with running(tools_of(world), fails):
            row = await until(world, job_id, lambda row: row.state is state)
        assert row.error == words


async def test_a_runner_that_closes_gives_back_what_it_has(database: str) -> None:
    async with make.world(database) as world:
        tools = tools_of(world)
        begun = asyncio.Event()

        async def endless(_tools: Tools, held: Held) -> None:
            while True:
                held.demand_going()
                begun.set()
                await asyncio.sleep(0.005)

        job_id = await ask(world)
        async with asyncio.TaskGroup() as tasks:
            runner = Runner(tools, {"steps": endless}, look_gap_s=0.02)
            task = tasks.create_task(runner.run())
            await begun.wait()
            await runner.close()
            await task
        assert (await find(world, job_id)).state is JobState.WAITING


async def test_one_tenant_does_not_have_all_places(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
        tools = tools_of(world)
        holds: dict[int, int] = {}
        ends = asyncio.Event()

        async def waits(_tools: Tools, held: Held) -> None:
            holds[held.tenant_id] = holds.get(held.tenant_id, 0) + 1
            await ends.wait()

        for _ in range(6):
            await ask(world)
        last = await ask(world, other)
        async with running(tools, waits, lease_s=60):
            await until(world, last, lambda row: row.state is JobState.RUNNING)
            assert holds[world.tenant_id] <= jobs.RUNNING_MAX


async def test_a_tenant_has_only_so_many_jobs_open(database: str) -> None:
    async with make.world(database) as world:
        for _ in range(jobs.OPEN_MAX):
            await ask(world)
        with pytest.raises(Refusal) as caught:
            await ask(world)
        assert caught.value.code is Code.REQUEST_CONFLICT


async def test_a_job_of_another_tenant_is_not_there(database: str) -> None:
    async with make.world(database) as world:
        job_id = await ask(world)
        foreign = TenantId(world.tenant_id + 1)
        moves: list[Any] = [jobs.find, jobs.pause, jobs.resume, jobs.stop]
        for move in moves:
            async with world.database.transaction() as tx:
                with pytest.raises(Refusal) as caught:
                    await move(tx, foreign, job_id)
            assert caught.value.code is Code.REQUEST_NOT_FOUND


async def test_chunks_are_sealed_and_forgotten_in_time(database: str) -> None:
    async with make.world(database) as world:
        tools = tools_of(world)
        job_id = await ask(world)
        async with running(tools, steps):
            await ended(world, job_id)
        (stored,) = await world.database.fetch("SELECT sealed FROM job_chunk WHERE number = 7")
        assert stored["sealed"] != b"7"
        assert len(stored["sealed"]) == 1 + 28
        assert await forgotten(world.database) == 0
        await world.database.execute("UPDATE job SET keep_until = now() - interval '1 s'")
        assert await forgotten(world.database) == STEPS
        assert await chunks(tools, world.tenant_id, job_id) == []
        async with world.database.transaction() as tx:
            with pytest.raises(Refusal):
                await jobs.keep(tx, job_id)


async def forgotten(database: db.Database) -> int:
    async with database.transaction() as tx:
        return await jobs.forget(tx)


async def test_a_job_that_rests_for_too_long_is_over(database: str) -> None:
    async with make.world(database) as world:
        job_id = await ask(world)
        async with world.database.transaction() as tx:
            await jobs.pause(tx, world.tenant_id, job_id)
        await world.database.execute("UPDATE job SET keep_until = now() - interval '1 s'")
        await forgotten(world.database)
        row = await find(world, job_id)
        assert (row.state, row.error) == (JobState.STOPPED, "its rows were forgotten")


async def test_the_plan_of_a_job_is_kept_as_it_was_asked(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            job_id = await jobs.make(tx, world.tenant_id, "steps", {"a": [1, "二"]}, made_by="user:1")
            plan = (await jobs.plans(tx, [job_id]))[job_id]
        assert msgspec.json.decode(plan) == {"a": [1, "二"]}
