"""What sending to a list takes, and what codes feel of it.

    python -m bench.lists --rows 200000

Starts the program with our simulator as the operator, uploads a list, has it checked and sent by a worker of its own
process, and meanwhile sends codes over HTTP, one by one, at a rate. Prints one JSON object: rows a second of each step,
the worker's memory before and after, and the codes' latency before the list and under it. All share the machine's cores.
"""

import argparse
import asyncio
import gc
import json
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import uvloop

from bench.load import FIRST_CODE, FIRST_KEY, Answers, Requests, ask_all, percentile
from bench.peers_adapter import HOME, PYTHON, Adapter
from hongyan import clock, db, postgres, rooms, run, settings
from hongyan.control import lists, sending
from hongyan.control.jobs import Runner, Tools
from hongyan.control.lists import ListStage, Mapped, Wanted
from hongyan.vocab.message import TenantId
from hongyan.way.accept import Acceptor
from hongyan.way.measure import Counters
from hongyan.way.snapshot import Keeper

SMSC_PORT = 19775
WORKER_DOOR = 900  # its number among doors: its shards of balances and tallies are its own
BEFORE_S = 20.0
PIECE_ROWS = 10_000
WAL_FILES = 110  # as min_wal_size keeps
TENANT = TenantId(1)


@contextmanager
def started(folder: Path, layout: str = "door gateway+clerk") -> Iterator[Adapter]:
    """The operator and the program, laid; nobody waits for notices, so none are posted."""
    simulate = [
        PYTHON, "-m", "hongyan", "simulate", "--quiet", "--protocol", f"smpp:{SMSC_PORT}", "window_max=1000",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": f"{HOME}/src:{HOME}"}
    simulator = subprocess.Popen(simulate, cwd=HOME, env=environment, stdout=subprocess.DEVNULL)

    def spawn(command: list[str], log: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (folder / log).open("ab") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=env)

    context = SimpleNamespace(
        dir=str(folder),
        opts={"opt_outs": "100000", "layout": layout},
        smsc_port=SMSC_PORT,
        sink_port=1,
        spawn=spawn,
    )
    adapter = Adapter()
    adapter.configure(context)
    try:
        adapter.start(context)
        yield adapter
    finally:
        if hasattr(adapter, "main"):
            adapter.stop(context)
        simulator.terminate()
        simulator.wait(10)


async def work(known: settings.Settings) -> None:
    """Be the process that works on jobs, until killed. Its rows are nobody's: gateways claim them."""
    known = replace(known, door=WORKER_DOOR)
    async with run.open_database(known) as database:
        vault = await run.open_vault(database, known)
        keeper = Keeper(database, vault)
        await keeper.load()
        acceptor = Acceptor(database, keeper, vault, known, Counters(), lambda _lane: 0, lambda _rows: None)
        tools = Tools(database, vault, keeper, known, acceptor)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keeper.run())
            tasks.create_task(acceptor.run())
            tasks.create_task(Runner(tools, sending.KINDS, (sending.forget,), look_gap_s=0.1).run())
            rooms.collect_seldom()  # as every process of the program does
            rooms.stand_back()  # as control does


async def codes(adapter: Adapter, rate: float, going: Callable[[], bool], first: int) -> Answers:
    """Send codes at a rate while it goes on; returns their answers."""
    requests = Requests(adapter.key, signed=False)
    answers: Answers = {}
    begun_s = time.monotonic()
    count = 0
    while going():
        await asyncio.sleep(max(0.0, begun_s + count / rate - time.monotonic()))
        key = FIRST_CODE + first + count
        answers |= await ask_all([(key, requests.single(key, "code"))], 1)
        count += 1
    return answers


def latency_ms(answers: Answers) -> dict[str, float]:
    ms = [(end - start) * 1000 for _, start, end in answers.values()]
    return {"p50": percentile(ms, 0.5), "p99": percentile(ms, 0.99), "count": len(ms)}


DELIVERY_SQL = """
SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM done_at - accepted_at) * 1000) AS ms
  FROM message WHERE purpose = 0 AND status = 1 AND accepted_at >= to_timestamp($1::float8)
"""


async def delivery_ms(database: db.Database, since_s: float) -> Sequence[float]:
    (row,) = await database.fetch(DELIVERY_SQL, since_s)
    return [round(ms, 1) for ms in row["ms"] or []]


def memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def by_day() -> tuple[str, str]:
    """Return where it is day, and how numbers begin there: promotions leave at once, so that they are sent meanwhile."""
    hour = clock.now().hour
    return ("CN", "+86138") if 1 <= hour < 10 else ("MA", "+2126") if 10 <= hour < 17 else ("MX", "+5255")


async def file_of(rows: int, beginning: str) -> AsyncIterator[bytes]:
    yield b"number,word,reference\n"
    for start in range(0, rows, PIECE_ROWS):
        keys = range(FIRST_KEY + start, FIRST_KEY + min(rows, start + PIECE_ROWS))
        yield "".join(f"{beginning}{key:08d},{key:08d},{key:08d}\n" for key in keys).encode()


async def wear(known: settings.Settings) -> None:
    """Leave as many WAL files lying as an install has that has worked for a while.

    PostgreSQL uses old ones again. Making a new one, while commits wait, is what a new install does all the time.
    """
    connection = await asyncpg.connect(postgres.Server(known.state_dir).superuser_dsn)
    try:
        for _ in range(WAL_FILES):
            await connection.execute("SELECT pg_logical_emit_message(false, 'bench', '')")
            await connection.execute("SELECT pg_switch_wal()")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def lay(arguments: argparse.Namespace, adapter: Adapter, country: str) -> None:
    """Lay what the worker is to find: its rules are read as it starts, and then every five seconds."""
    known = settings.read(adapter.environment)
    if not arguments.new:
        await wear(known)
    async with run.open_database(known) as database:
        await database.execute("UPDATE webhook SET active = false")
        await database.execute("UPDATE tenant SET countries = countries || $1::text", country)
        await database.notify("control")


async def drive(
    arguments: argparse.Namespace, adapter: Adapter, worker: int, beginning: str
) -> dict[str, Any]:
    known = settings.read(adapter.environment)
    async with run.open_database(known) as database:
        vault = await run.open_vault(database, known)
        keeper = Keeper(database, vault)
        snapshot = await keeper.load()
        gc.disable()  # a collection here takes 60 to 120 ms, and would be counted as a slow answer

        async def state() -> lists.ListWhole:
            async with database.transaction() as tx:
                return await lists.one(tx, snapshot, vault, TENANT, number)

        async def until(stage: ListStage) -> float:
            while (told := await state()).state is not stage:
                assert told.state not in (ListStage.FAILED, ListStage.PAUSED), told
                await asyncio.sleep(0.1)
            return time.monotonic()

        end_s, since_s = time.monotonic() + BEFORE_S, time.time()
        before = await codes(adapter, arguments.code_rate, lambda: time.monotonic() < end_s, 0)
        await asyncio.sleep(1)
        delivered_before = await delivery_ms(database, since_s)

        begun_s = time.monotonic()
        read = await lists.read_in(
            database, vault, known, TENANT, "csv", file_of(arguments.rows, beginning), "bench"
        )
        async with database.transaction() as tx:
            number = await lists.create(tx, TENANT, "bench", read, "bench")
        read_s = time.monotonic() - begun_s
        memory = {"before": memory_mb(worker)}
        wanted = Wanted(
            mapping=Mapped("number", {"number": "word"}, "reference"),
            template=arguments.template, signature="Bench", app_id=1,
        )  # fmt: skip
        begun_s = time.monotonic()
        async with database.transaction() as tx:
            await lists.check(tx, snapshot, TENANT, number, wanted, made_by="bench")
        check_s = await until(ListStage.CHECKED) - begun_s
        memory["after the check"] = memory_mb(worker)

        ended = asyncio.Event()
        since_s, begun_s = time.time(), time.monotonic()
        async with database.transaction() as tx:
            await lists.start(tx, known, TENANT, number, made_by="bench")
        async with asyncio.TaskGroup() as tasks:
            sending_codes = tasks.create_task(
                codes(adapter, arguments.code_rate, lambda: not ended.is_set(), 100_000)
            )
            send_s = await until(ListStage.DONE) - begun_s
            ended.set()
        memory["after the sending"] = memory_mb(worker)
        left = await database.fetch("SELECT count(*) AS n FROM message WHERE purpose <> 0 AND status > 0")
        await asyncio.sleep(2)
        told = await state()
        assert told.sending is not None
        assert told.sending.accepted == arguments.rows, told
        (stored,) = await database.fetch("SELECT count(*) AS n FROM message WHERE purpose <> 0")
        return {
            "rows": arguments.rows,
            "read_per_s": round(arguments.rows / read_s),
            "checked_per_s": round(arguments.rows / check_s),
            "accepted_per_s": round(arguments.rows / send_s),
            "accepted": told.sending.accepted,
            "stored": stored["n"],
            "of these final when all were accepted": left[0]["n"],
            "worker_memory_mb": memory,
            "code_request_ms": {"before": latency_ms(before), "under the list": latency_ms(sending_codes.result())},
            "code_delivered_ms_p50_p99": {
                "before": delivered_before, "under the list": await delivery_ms(database, since_s),
            },
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--template", choices=("load", "sale"), default="sale")
    parser.add_argument("--code-rate", type=float, default=50.0, help="codes a second")
    parser.add_argument(
        "--new", action="store_true", help="an install that has never worked: without old WAL files"
    )
    parser.add_argument("--work", action="store_true", help="be the worker (the bench starts it)")
    arguments = parser.parse_args()
    if arguments.work:
        uvloop.run(work(settings.read()))
        return
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # root's PostgreSQL runs as another user
        with started(folder) as adapter:
            country, beginning = by_day()
            uvloop.run(lay(arguments, adapter, country))
            command = [PYTHON, "-m", "bench.lists", "--work"]
            worker = subprocess.Popen(command, cwd=HOME, env=adapter.environment)
            try:
                result = uvloop.run(drive(arguments, adapter, worker.pid, beginning))
            finally:
                worker.kill()
                worker.wait()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
