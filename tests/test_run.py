"""The program as processes: started, killed, stopped and started again, as an operator's machine would do it.

Every test starts real ones (see install.py) on loopback and a real PostgreSQL; the numbers are small, the laws
are those of the benches in bench/.
"""

import asyncio
import re
import resource
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import asyncpg
import pytest

import install
from hongyan import db, descriptors, run, vault
from hongyan.commands import frame
from hongyan.control import data_keys
from hongyan.settings import ROLES, Settings
from hongyan.simulator import Behaviour
from hongyan.simulator.behaviour import Span
from hongyan.vocab.message import Purpose, Status
from install import WINDOW_SIZE, Caller, Laid, installed, numbers
from ports import free_port

DELIVERED: Final = Status.DELIVERED.number
PAIR: Final = "door door gateway gateway clerk"
FEW_FILES: Final = 256
# Whenever something dies, the window is full and reports are owed.
SLOW: Final = Behaviour(ack_delay_s=Span(0.05, 0.1), report_delay_s=Span(0.5, 1.0))


def test_processes_that_start_at_once_make_one_master_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as starting:
        keys = starting.map(lambda _: vault.read_master_key("", tmp_path / "master.key").reveal(), range(32))
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


async def test_a_process_that_starts_while_another_makes_the_first_keys_opens_the_same_vault(
    database: str, tmp_path: Path
) -> None:
    known = Settings(state_dir=tmp_path, allow_unsafe_database=True)
    pool = await db.connect(database, known)

    async def looks() -> bool:
        return await pool.fetch("SELECT FROM pg_locks WHERE NOT granted") != []

    try:
        async with asyncio.TaskGroup() as tasks, pool.transaction() as tx:
            await tx.execute("LOCK TABLE vault_key IN ACCESS EXCLUSIVE MODE")
            second = tasks.create_task(run.open_vault(pool, known))
            await install.until(looks, "the second does not look for keys")
            first = await data_keys.lay(tx, vault.read_master_key("", tmp_path / "master.key"))
        assert second.result().phone_index("+8613800138000") == first.phone_index("+8613800138000")
    finally:
        await pool.close()


async def test_a_port_that_another_install_has_is_refused_rather_than_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "CHILD_STOP_S", 0.0)  # how long a predecessor's door is waited for
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        known = Settings(state_dir=tmp_path, http_port=other.getsockname()[1])
        with pytest.RaisesGroup(run.AddressError):
            await run.supervise(known)


async def test_a_start_that_waits_for_its_port_says_so_and_can_be_ended() -> None:
    with install.state_folder() as state, socket.socket() as other:
        late = install.Install(state)
        other.bind(("127.0.0.1", late.port))
        other.listen()

        async def said() -> bool:
            return f"cannot listen on 127.0.0.1:{late.port}" in late.log.read_text()

        try:
            starting = await late.spawn("run", "--demo")
            await install.until(said, "nobody says what is waited for")
            starting.send_signal(signal.SIGINT)
            async with asyncio.timeout(run.CHILD_STOP_S / 2):
                assert await starting.wait() == 0
            assert not (state / "postgres").exists()
        finally:
            await late.end()


@asynccontextmanager
async def load(laid: Laid, to: Sequence[str]) -> AsyncIterator[None]:
    """Insist on a message to each number while the block runs; at its end all are accepted."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(laid.caller.insist_on(to))
        yield


async def promised(laid: Laid, count: int) -> None:
    """Wait until so many messages are accepted."""

    async def enough() -> bool:
        return len(laid.caller.promised) >= count

    await install.until(enough, f"not even {count} were accepted")


async def nothing_is_lost(laid: Laid, count: int, *, doubled_max: int) -> None:
    """Assert that every promise was kept: at the operator, told to the tenant, in the books."""
    ids = set(laid.caller.promised.values())
    assert len(ids) == count
    await laid.all_told(sorted(ids))
    assert laid.sink.told.keys() == ids
    assert {status for told in laid.sink.told.values() for status in told} == {"delivered"}
    assert laid.absent() == set()
    assert laid.doubled() <= doubled_max
    async with laid.install.database() as database:
        assert await install.statuses(database) == {DELIVERED: count}
        await install.books_balance(database)


# ── the demo ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.needs("curl", "sh")
async def test_a_demo_shows_a_message_travel_and_its_curl_works_and_ctrl_c_leaves_nothing() -> None:
    with install.state_folder() as state:
        demo = install.Install(state, layout=Settings().layout)
        try:
            with few_files() as allowed:
                said = await _watch_demo(demo)
            for name in ROLES:
                (pid,) = demo.processes()[name]
                assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == min(descriptors.ENOUGH, allowed)
            assert re.search(r"s  delivered$", said, re.MULTILINE)
            assert '"status":"accepted"' in await _paste(_curl_in(said))
            told = await _paste(_management_in(said))
            assert '"sessions_up":' in told
            assert '"sound":' in told
            assert set(demo.processes()) == {"postgres", "door", "gateway", "clerk", "control", "simulate"}
            assert await demo.stop(signal.SIGINT) == 0
            assert demo.left_over() == []
            again = await _watch_demo(demo)
            assert re.search(r"s  delivered$", again, re.MULTILINE)
            # The keys and passwords a newcomer has noted still work.
            assert (_curl_in(again), _management_in(again)) == (_curl_in(said), _management_in(said))
            assert demo.crashes() == []
            demo.supervisor.kill()
            await install.until(demo.only_the_server_runs, "processes outlive their supervisor")
        finally:
            await demo.end()


async def test_a_demo_whose_doors_die_says_where_they_write_why_and_stops_at_once(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError('this machine has a broken one')")
    with install.state_folder() as state:
        demo = install.Install(state, layout="door")
        demo.environment["PYTHONPATH"] = str(tmp_path)
        written = state / "log" / "door.log"

        async def died() -> bool:
            return f'"log":"{written}"' in demo.log.read_text()

        try:
            starting = await demo.spawn("run", "--demo")
            await install.until(died, "nobody says that the door died")
            assert "this machine has a broken one" in written.read_text()
            starting.send_signal(signal.SIGINT)
            async with asyncio.timeout(run.READY_WAIT_S / 3):
                assert await starting.wait() == 0
            assert demo.left_over() == []
        finally:
            await demo.end()


async def test_a_demo_without_a_door_that_answers_gives_up_and_says_where_to_look(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "READY_WAIT_S", 0.1)
    known = Settings(
        database_url=database, state_dir=tmp_path, http_port=free_port(), allow_unsafe_database=True
    )
    with pytest.raises(run.DemoError) as told:
        await run._show(known, free_port())
    assert str(tmp_path / "log") in (frame.explain(told.value) or "")


@contextmanager
def few_files() -> Iterator[int]:
    """Let what is started meanwhile have few files open at first; gives how many it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _watch_demo(demo: install.Install) -> str:
    """Start it; return what a newcomer has read once it says how to stop it."""
    before = len(demo.log.read_text()) if demo.log.exists() else 0

    async def shown() -> bool:
        return "Ctrl-C stops everything" in demo.log.read_text()[before:]

    await demo.start("--demo")
    await install.until(shown, "the demo shows nothing")
    return demo.log.read_text()[before:]


async def _paste(shown: str) -> str:
    """Run what was shown, as a newcomer does; returns what it printed."""
    shell = await asyncio.create_subprocess_exec(
        "sh", "-ec", shown, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(install.WAIT_S):
        printed, _ = await shell.communicate()
    assert shell.returncode == 0, printed.decode()
    return printed.decode()


def _curl_in(said: str) -> str:
    found = re.search(r"^curl .*\\\n.*$", said, re.MULTILINE)
    assert found is not None, said
    return _strictly(found[0])


def _management_in(said: str) -> str:
    found = re.search(r"^Manage by the API.*\n\n((?:.+\n)+)", said, re.MULTILINE)
    assert found is not None, said
    return _strictly(found[1])


def _strictly(shown: str) -> str:
    return shown.replace("curl ", "curl -sS --fail --noproxy '*' ")


# ── roles and databases ───────────────────────────────────────────────────────────────────────────────


async def test_every_role_in_a_process_of_its_own_delivers_over_another_postgresql(database: str) -> None:
    async with installed(dsn=database, roles=ROLES) as laid:
        async with load(laid, numbers(100)):
            pass
        await nothing_is_lost(laid, 100, doubled_max=0)
        assert laid.install.crashes() == []


async def test_the_first_message_of_all_lies_in_its_day_whoever_starts_first(database: str) -> None:
    """Only a clerk makes the days to come; a day that began without a partition would stay without."""
    connection = await asyncpg.connect(database)
    try:
        for day in await connection.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
            " WHERE inhparent = 'message'::regclass AND inhrelid <> 'message_rest'::regclass"
        ):
            await connection.execute(f"DROP TABLE {day['name']}")
        async with installed(dsn=database, roles=("door", "gateway")) as laid, load(laid, numbers(1)):
            pass
        lies_in = await connection.fetchval("SELECT tableoid::regclass::text FROM message")
    finally:
        await connection.close()
    assert re.fullmatch("message_[0-9]{8}", lies_in)


def test_a_layout_numbers_doors_and_gateways_and_keeps_their_ports_apart(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, database_url="postgresql://nowhere/", metrics_port=9100)
    supervisor = run.Supervisor(
        settings, "door door gateway+clerk gateway clerk control", lambda _: None, quiet=True
    )
    planned = [(child.name, dict(child.environment)) for child in supervisor._children]
    assert planned == [
        ("door", {"HONGYAN_DOOR": "1"}),
        ("door-2", {"HONGYAN_DOOR": "2"}),
        ("gateway+clerk", {"HONGYAN_GATEWAY": "1", "HONGYAN_METRICS_PORT": "9100"}),
        ("gateway-2", {"HONGYAN_GATEWAY": "2", "HONGYAN_METRICS_PORT": "9101"}),
        ("clerk-2", {"HONGYAN_METRICS_PORT": "9102"}),
        # It accepts messages too, and would charge the rows of a door of the same number.
        ("control", {"HONGYAN_DOOR": "3", "HONGYAN_METRICS_PORT": "9103"}),
    ]


# ── what dies ─────────────────────────────────────────────────────────────────────────────────────────


async def test_killing_each_process_in_turn_under_load_loses_nothing_and_doubles_at_most_a_window() -> None:
    """Only the gateway's death leaves submits unheard; what it had in its window is sent again."""
    count, victims = 1_500, ("clerk", "door", "gateway", "postgres")
    async with installed(operator=SLOW) as laid:
        async with load(laid, numbers(count)):
            for place, victim in enumerate(victims, start=1):
                await promised(laid, place * count // (len(victims) + 1))
                await laid.install.kill(victim)
                await laid.install.ready()
                await laid.logged_in()
        await nothing_is_lost(laid, count, doubled_max=WINDOW_SIZE)


async def test_a_promotion_is_never_doubled_what_a_killed_gateway_left_unheard_waits_as_unsure(
    database: str,
) -> None:
    count = 600
    async with installed(dsn=database, operator=SLOW) as laid:
        laid.caller.template = install.PROMOTION
        async with load(laid, install.awake(count)):
            await promised(laid, count // 3)
            await laid.install.kill("gateway")
        unsure = await _unsure(laid)
        assert laid.doubled() == 0
        assert laid.absent() <= unsure
        reached = laid.caller.promised.keys() - laid.absent()
        # The operator's reports settle what was unsure and did leave.
        await laid.all_told([laid.caller.promised[number] for number in reached])
        async with laid.install.database() as books:
            assert (await install.statuses(books))[DELIVERED] == len(reached)
            await install.books_balance(books)


async def _unsure(laid: Laid) -> set[str]:
    """Wait until nothing waits to leave; return the numbers of messages that may or may not have left."""
    async with laid.install.database() as books:

        async def left() -> bool:
            return await books.fetch("SELECT FROM outbox LIMIT 1") == []

        await install.until(left, "something never leaves")
        rows = await books.fetch("SELECT message_id FROM submitted WHERE state = 1")
    unsure = {str(row["message_id"]) for row in rows}
    return {number for number, message_id in laid.caller.promised.items() if message_id in unsure}


async def test_a_killed_supervisor_is_started_again_and_loses_nothing() -> None:
    count = 600
    async with installed(layout="door gateway+clerk", operator=SLOW) as laid:
        async with load(laid, numbers(count)):
            await promised(laid, count // 3)
            laid.install.supervisor.kill()
            await laid.install.supervisor.wait()
            await laid.install.start()
        await nothing_is_lost(laid, count, doubled_max=WINDOW_SIZE)


async def test_a_gateway_waits_until_its_predecessor_of_the_same_number_has_ended(database: str) -> None:
    """As where a supervisor was killed and started again: both would send what the first has in hand."""
    count = 200
    slow = Behaviour(ack_delay_s=Span(1.0, 1.0))
    async with installed(dsn=database, operator=slow, roles=("door", "clerk")) as laid:
        first = await laid.install.spawn("run", "--role=gateway")
        await laid.logged_in()
        async with load(laid, numbers(count)):
            pass
        second = await laid.install.spawn("run", "--role=gateway")

        async def waits() -> bool:
            return "gateway.waits_for_predecessor" in laid.install.log.read_text()

        await install.until(waits, "both send")
        second.terminate()
        assert await second.wait() == 0  # and hands nothing back: what stands under its number is the first's
        second = await laid.install.spawn("run", "--role=gateway")
        first.terminate()
        assert await first.wait() == 0
        await nothing_is_lost(laid, count, doubled_max=0)
        assert second.returncode is None
        assert laid.install.crashes() == []


# ── what is stopped ───────────────────────────────────────────────────────────────────────────────────


async def test_a_graceful_stop_under_load_hands_back_what_was_not_sent_and_doubles_nothing(
    database: str,
) -> None:
    count = 600
    async with installed(dsn=database, operator=Behaviour(ack_delay_s=Span(1.0, 1.0))) as laid:
        async with load(laid, numbers(count)):
            await promised(laid, count // 3)
            assert await laid.install.stop() == 0
            async with laid.install.database() as books:
                rows = await books.fetch("SELECT owner, count(*) AS messages FROM outbox GROUP BY owner")
                assert [row["owner"] for row in rows] == [0]  # there is some, and nobody has it in hand
                assert await books.fetch("SELECT FROM notice WHERE lease_until IS NOT NULL") == []
                await install.books_balance(books)
            assert laid.install.left_over() == []
            assert laid.install.crashes() == []
            laid.operator.behave(Behaviour())
            await laid.install.start()
        await nothing_is_lost(laid, count, doubled_max=0)
        assert {len(told) for told in laid.sink.told.values()} == {1}


async def test_an_upgrade_with_messages_in_flight_loses_none(database: str) -> None:
    """Stop, migrate, start: what was owed meanwhile, reports included, is heard by the new version."""
    count = 300
    async with installed(dsn=database, operator=Behaviour(report_delay_s=Span(5.0, 6.0))) as laid:
        async with load(laid, numbers(count)):
            pass
        assert await laid.install.stop() == 0
        assert "up to date" in await laid.install.command("migrate")
        async with laid.install.database() as books:
            assert (await install.statuses(books))[Status.ACCEPTED.number] > 0
        await laid.install.start()
        await nothing_is_lost(laid, count, doubled_max=0)


# ── two doors, two gateways ───────────────────────────────────────────────────────────────────────────


async def test_limits_idempotency_keys_and_balances_hold_over_two_doors_and_gateways(database: str) -> None:
    """One install, a tenant for each law: a frequency limit, one message a key, as many as the balance buys."""
    async with installed(layout=PAIR, dsn=database, sessions=2) as laid:
        async with laid.another(limits={Purpose.TRANSACTIONAL: (0, 0, 10)}) as caller:
            await _a_frequency_limit_holds(laid, caller)
        await _one_idempotency_key_is_one_message(laid, laid.caller)
        enough_for = 150
        balance_micro = enough_for * install.PRICE_MICRO + install.PRICE_MICRO // 2
        async with laid.another(balance_micro=balance_micro) as caller:
            await _a_balance_buys_exactly(laid, caller, enough_for)
        async with laid.install.database() as books:
            await install.books_balance(books)


async def _a_frequency_limit_holds(laid: Laid, caller: Caller) -> None:
    answers = await caller.at_once([("13800138000", None)] * 200)
    accepted = [answer for answer in answers if answer.accepted]
    assert len(accepted) == 10
    assert {answer.code for answer in answers if not answer.accepted} == {"Limit.Day"}
    await laid.all_told([answer.message_id for answer in accepted])
    assert laid.operator.destination("13800138000").parts == 10


async def _one_idempotency_key_is_one_message(laid: Laid, caller: Caller) -> None:
    answers = await caller.at_once([("13800138001", "once")] * 100)
    assert all(answer.accepted for answer in answers)
    assert len({answer.message_id for answer in answers}) == 1
    await laid.all_told([answers[0].message_id])
    assert laid.operator.destination("13800138001").parts == 1


async def _a_balance_buys_exactly(laid: Laid, caller: Caller, enough_for: int) -> None:
    answers = await caller.at_once([(number, None) for number in numbers(400)])
    accepted = [answer for answer in answers if answer.accepted]
    assert len(accepted) == enough_for
    assert {answer.code for answer in answers if not answer.accepted} == {"Account.BalanceInsufficient"}
    await laid.all_told([answer.message_id for answer in accepted])
