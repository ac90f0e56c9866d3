"""What the data plane feels of the control plane beside it.

    python -m bench.control --rows 100000
    python -m bench.control --rows 0 --layout "door door gateway+clerk control"

Starts the program, with our simulator as the operator. First codes go in over HTTP one by one, at a rate: before a list
is sent, while the control process sends it, and afterwards. Then single messages go in as fast as the door takes them,
in rounds by turns: while control is idle, and while people keep it busy (listing rules, linting, searching messages) through
the same door. Prints one JSON object, with the ratio of each. Driver, people and program share the machine's cores.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from bench.lists import TENANT, codes, file_of, latency_ms, started
from bench.load import FIRST_KEY, Requests, ask_all
from bench.peers_adapter import HOME, PYTHON, Adapter
from hongyan import db, run, settings
from hongyan.control import lists, people
from hongyan.control.lists import ListStage, Mapped, Wanted
from hongyan.control.permissions import Role
from hongyan.vault import Vault
from hongyan.way.snapshot import Keeper

EMAIL, PASSWORD = "bench@example.com", "a lantern in the reeds"
BEGINNING = "+2126"  # of the list's numbers
ALONE_S = 8.0  # codes alone, before and after
PEOPLE = 4  # who ask at the same time
ROUND_FIRST_KEY = FIRST_KEY + 10_000_000
LINT = {
    "body": "您的验证码为${code},5分钟内有效,用于登录",
    "purpose": "otp",
    "variables": {"code": {"kind": "code"}},
}


async def keep_busy() -> None:
    """Be people who ask the management API without a pause, until killed; says how often, at every ten."""
    asked = 0
    steps: list[tuple[str, str, Any]] = [
        ("GET", "/v1/templates/rules", None),
        ("POST", "/v1/templates/lint", LINT),
        ("GET", "/v1/templates", None),
        ("GET", "/v1/messages?limit=100", None),
    ]
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{Adapter.port}", cookie_jar=jar, headers={"Hongyan-Console": "1"}
    ) as session:

        async def ask(method: str, path: str, body: Any) -> None:
            nonlocal asked
            async with session.request(method, path, json=body) as answer:
                await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{path}: {answer.status}")
            asked += 1
            if asked % 10 == 0:
                print(asked, flush=True)

        async def one() -> None:
            while True:
                for step in steps:
                    await ask(*step)

        await ask("POST", "/v1/sign-in", {"email": EMAIL, "password": PASSWORD})
        await asyncio.gather(*(one() for _ in range(PEOPLE)))


async def under_a_list(
    arguments: argparse.Namespace, adapter: Adapter, database: db.Database, vault: Vault
) -> dict[str, Any]:
    known = settings.read(adapter.environment)
    snapshot = await Keeper(database, vault).load()

    async def until(stage: ListStage) -> float:
        while True:
            async with database.transaction() as tx:
                told = await lists.one(tx, snapshot, vault, TENANT, number)
            if told.state is stage:
                return time.monotonic()
            assert told.state not in (ListStage.FAILED, ListStage.PAUSED), told
            await asyncio.sleep(0.1)

    rows = file_of(arguments.rows, BEGINNING)
    read = await lists.read_in(database, vault, known, TENANT, "csv", rows, "bench")
    wanted = Wanted(
        mapping=Mapped("number", {"number": "word"}, "reference"), template="load", signature="Bench", app_id=1,
    )  # fmt: skip
    async with database.transaction() as tx:
        number = await lists.create(tx, TENANT, "bench", read, "bench")
        await lists.check(tx, snapshot, TENANT, number, wanted, made_by="bench")
    await until(ListStage.CHECKED)

    async def alone(first: int) -> dict[str, float]:
        end_s = time.monotonic() + ALONE_S
        return latency_ms(await codes(adapter, arguments.code_rate, lambda: time.monotonic() < end_s, first))

    before = await alone(0)
    ended = asyncio.Event()
    begun_s = time.monotonic()
    async with database.transaction() as tx:
        await lists.start(tx, known, TENANT, number, made_by="bench")
    async with asyncio.TaskGroup() as tasks:
        beside = tasks.create_task(codes(adapter, arguments.code_rate, lambda: not ended.is_set(), 100_000))
        send_s = await until(ListStage.DONE) - begun_s
        ended.set()
    under = latency_ms(beside.result())
    await _left(database)
    after = await alone(200_000)
    return {
        "rows": arguments.rows,
        "accepted_per_s": round(arguments.rows / send_s),
        "code_request_ms": {"before": before, "under the list": under, "after": after},
        "p99 ratio": round(under["p99"] / statistics.mean((before["p99"], after["p99"])), 2),
    }


async def _left(database: db.Database) -> None:
    """Wait until nothing waits to leave."""
    while await database.fetch("SELECT FROM outbox LIMIT 1"):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.1)


async def under_people(
    arguments: argparse.Namespace, adapter: Adapter, database: db.Database
) -> dict[str, Any]:
    requests = Requests(adapter.key, signed=False)
    rates: dict[str, list[int]] = {"idle": [], "busy": []}
    asked_per_s: list[int] = []
    for turn in range(arguments.rounds * 2):
        word = ("idle", "busy")[turn % 2]
        first = ROUND_FIRST_KEY + turn * arguments.count
        made = [(key, requests.single(key, "load")) for key in range(first, first + arguments.count)]
        answers, asked = await _while(word == "busy", adapter, lambda made=made: ask_all(made, 32))  # type: ignore[misc]
        assert all(accepted for accepted, _, _ in answers.values())
        took_s = max(end for _, _, end in answers.values()) - min(start for _, start, _ in answers.values())
        rates[word].append(round(len(answers) / took_s))
        if word == "busy":
            asked_per_s.append(round(asked / took_s))
        await _left(database)
    ratios = [round(busy / idle, 2) for idle, busy in zip(rates["idle"], rates["busy"], strict=True)]
    return {
        "layout": arguments.layout,
        "accepted_per_s": rates,
        "management_requests_per_s": asked_per_s,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
    }


async def _while(busy: bool, adapter: Adapter, step: Callable[[], Any]) -> tuple[Any, int]:
    """Do something, while people ask if they are to; returns what it gave and how often they asked."""
    if not busy:
        return await step(), 0
    people_ = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "bench.control", "--be-people",
        cwd=HOME, env=adapter.environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert people_.stdout is not None
    try:
        begun = int(await people_.stdout.readline())
        gave = await step()
        assert people_.returncode is None, "the people gave up"
    finally:
        with contextlib.suppress(ProcessLookupError):
            people_.kill()
    told = (await people_.stdout.read()).split()
    await people_.wait()
    return gave, (int(told[-1]) if told else begun) - begun


async def drive(arguments: argparse.Namespace, adapter: Adapter) -> dict[str, Any]:
    known = settings.read(adapter.environment)
    async with run.open_database(known) as database:
        vault = await run.open_vault(database, known)
        await database.execute("UPDATE webhook SET active = false")
        async with database.transaction() as tx:
            await people.ensure(
                tx, tenant_id=TENANT, email=EMAIL, name="Bench", role=Role.OWNER, password=PASSWORD
            )
        await database.notify("control")
        told: dict[str, Any] = {}
        if arguments.rows:
            told["a list"] = await under_a_list(arguments, adapter, database, vault)
        if arguments.rounds:
            told["people"] = await under_people(arguments, adapter, database)
        return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000, help="of the list; 0: none is sent")
    parser.add_argument("--code-rate", type=float, default=50.0, help="codes a second")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of idle and busy; 0: none")
    parser.add_argument("--count", type=int, default=15_000, help="messages a round")
    parser.add_argument("--layout", default="door gateway+clerk control")
    parser.add_argument("--be-people", action="store_true", help="(the bench starts it)")
    arguments = parser.parse_args()
    if arguments.be_people:
        uvloop.run(keep_busy())
        return
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # root's PostgreSQL runs as another user
        with started(folder, arguments.layout) as adapter:
            print(json.dumps(uvloop.run(drive(arguments, adapter)), ensure_ascii=False))


if __name__ == "__main__":
    main()
