"""A door passes on what people ask and what the management API is asked, and goes on when nobody manages."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import make
from doors.counter import Reply, Served, ask, basic, line, request, served
from doors.management.desk import _signed_in, _user
from doors.managing import managing
from hongyan.control.permissions import Role
from hongyan.doors import forward, pulse
from hongyan.doors.callers import COOKIE
from hongyan.doors.forward import socket_of
from hongyan.settings import Settings
from make import World


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The socket of the process that manages."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(socket_of(settings)))
        sock.listen()
        sock.setblocking(False)
        yield sock


@contextlib.asynccontextmanager
async def door_of(world: World, settings: Settings) -> AsyncIterator[Served]:
    async with served(world, settings=settings, manages=False) as door:
        yield door


async def person(world: World, role: Role) -> dict[str, str]:
    async with world.database.transaction() as tx:
        token = await _signed_in(tx, await _user(tx, f"{role}@example.com", role, world.tenant_id))
    return {"Cookie": f"{COOKIE}={token}", "Hongyan-Console": "1"}


async def test_a_door_passes_on_what_is_for_the_managing_process(database: str, tmp_path: Path) -> None:
    settings = replace(make.SETTINGS, state_dir=tmp_path)
    async with make.world(database) as world:
        finance = await person(world, Role.FINANCE)
        with listening(settings) as sock:
            async with served(world, settings=settings, sock=sock), door_of(world, settings) as door:
                price = {"part_micro": 30_000, "country": "CN"}
                put = await ask(door.port, "PUT", "/v1/prices", price, finance)
                assert (put.status, put.json["data"]["part_micro"]) == (200, 30_000)
                listed = await ask(door.port, "GET", "/v1/prices", headers=finance)
                assert 30_000 in [row["part_micro"] for row in listed.json["data"]["items"]]
                refused = await ask(door.port, "PUT", "/v1/prices", {"part_micro": -1}, finance)
                assert (refused.status, refused.code) == (400, "Request.InvalidParameter")
                assert (await ask(door.port, "GET", "/v1/prices")).headers["www-authenticate"]
                gone = await ask(door.port, "DELETE", "/v1/prices?country=CN", headers=finance)
                assert gone.json["data"]["part_micro"] == 30_000


async def test_who_asked_is_known_behind_the_door(database: str, tmp_path: Path) -> None:
    settings = replace(make.SETTINGS, state_dir=tmp_path)
    async with make.world(database) as world:
        finance = await person(world, Role.FINANCE)
        lie = {"X-Forwarded-For": "192.0.2.1"}
        with listening(settings) as sock:
            async with served(world, settings=settings, sock=sock), door_of(world, settings) as door:
                await ask(door.port, "PUT", "/v1/prices", {"part_micro": 1}, finance | lie)
        (row,) = await world.database.fetch("SELECT address, actor FROM audit")
        assert row["address"] == "127.0.0.1"
        assert "finance@example.com" in row["actor"]


async def test_messages_go_on_while_nobody_manages(database: str, tmp_path: Path) -> None:
    settings = replace(make.SETTINGS, state_dir=tmp_path)
    async with make.world(database) as world:
        viewer = await person(world, Role.VIEWER)
        async with world.database.transaction() as tx:
            key = await make.app_key(tx, world.vault, app_id=world.app_id)
        async with door_of(world, settings) as door:
            managed = await ask(door.port, "GET", "/v1/prices", headers=viewer)
            assert (managed.status, managed.code) == (503, "System.Busy")
            assert managed.headers["retry-after"]
            assert (await ask(door.port, "GET", "/v1/messages", headers=viewer)).status == 503
            program = {"Authorization": basic(key)}
            assert (await ask(door.port, "GET", "/v1/messages", headers=program)).status == 200
            sent = {"to": "+8613800138000", "text": "hello", "purpose": "transactional", "signature": "none"}
            assert (await ask(door.port, "POST", "/v1/messages", sent, program)).code == "Sign.NotFound"
            assert (await ask(door.port, "GET", "/v1/nothing", headers=viewer)).status == 404


async def test_a_body_of_many_chunks_is_passed_on_whole(database: str, tmp_path: Path) -> None:
    settings = replace(make.SETTINGS, state_dir=tmp_path)
    async with make.world(database) as world:
        finance = await person(world, Role.FINANCE)
        lines = "day,parts\n" + "".join(f"2026-01-{day:02},{day}\n" for day in range(1, 31)) + "\n" * 300_000
        with listening(settings) as sock:
            async with served(world, settings=settings, sock=sock), door_of(world, settings) as door:
                path = f"/v1/channels/{world.channel_id}/bills?name=January"
                read = await ask(
                    door.port, "POST", path, lines.encode(), finance | {"Content-Type": "text/csv"}
                )
                assert (read.status, len(read.json["data"]["lines"])) == (201, 30)


async def test_a_list_of_20_megabytes_passes_a_door(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "READ_WAIT_S", 0.1)  # a file takes longer to read than any question
    settings = replace(make.SETTINGS, state_dir=tmp_path)
    async with make.world(database) as world:
        marketer = await person(world, Role.MARKETER)
        columns = ["number", *(f"column {n}" for n in range(1, 40))]
        row = ["13800138000", *["x" * 500] * 39]
        lines = "\n".join(",".join(cells) for cells in (columns, *[row] * 1_100)).encode()
        assert len(lines) > 20_000_000
        kind = {"Content-Type": "text/csv"}
        with listening(settings) as sock:
            async with served(world, settings=settings, sock=sock), door_of(world, settings) as door:
                made = await ask(door.port, "POST", "/v1/lists?name=big", lines, marketer | kind)
                assert (made.status, made.json["data"]["row_count"]) == (201, 1_100)


# ---- a process that is frozen: it lives, takes connections and says nothing

BILL = b"day,parts\n2026-01-01,1\n"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not answer is known to be silent soon."""
    monkeypatch.setattr(pulse, "HEARD_S", 0.0)
    monkeypatch.setattr(pulse, "QUIET_S", 0.05)
    monkeypatch.setattr(pulse, "BEAT_WAIT_S", 2.0)


def silent(reply: Reply, outcome: str) -> None:
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "System.Busy", "5")
    assert reply.json["detail"] == {"control": "does not answer", "outcome": outcome}


@pytest.mark.usefixtures("hasty")
async def test_what_a_frozen_process_is_asked_is_refused_soon_and_never_done_when_it_wakes(
    database: str, tmp_path: Path
) -> None:
    settings = replace(make.SETTINGS, state_dir=tmp_path)
    price = {"part_micro": 30_000, "country": "CN"}
    async with make.world(database) as world:
        finance = await person(world, Role.FINANCE)
        async with managing(database, tmp_path) as control, door_of(world, settings) as door:
            assert (await until_answered(door, finance)).status == 200
            control.freeze()
            asked = [ask(door.port, "PUT", "/v1/prices", price, finance) for _ in range(8)]
            asked += [ask(door.port, "GET", path, headers=finance) for path in ("/v1/prices", "/v1/messages")]
            for refused in await asyncio.gather(*asked):
                silent(refused, "not_done")
            control.thaw()
            listed = await until_answered(door, finance)
            assert 30_000 not in [row["part_micro"] for row in listed.json["data"]["items"]]
            assert (await ask(door.port, "PUT", "/v1/prices", price, finance)).status == 200
        assert len(await world.database.fetch("SELECT 1 FROM audit WHERE action = 'putPrice'")) == 1


async def until_answered(door: Served, headers: dict[str, str]) -> Reply:
    async with asyncio.timeout(20):
        while (reply := await ask(door.port, "GET", "/v1/prices", headers=headers)).status == 503:
            pass
    return reply


@pytest.mark.usefixtures("hasty")
async def test_what_was_passed_on_before_the_process_froze_is_said_to_be_not_known(
    database: str, tmp_path: Path
) -> None:
    settings = replace(make.SETTINGS, state_dir=tmp_path)
    price = {"part_micro": 30_000, "country": "CN"}
    async with make.world(database) as world:
        finance = await person(world, Role.FINANCE)
        async with managing(database, tmp_path) as control, door_of(world, settings) as door:
            await until_answered(door, finance)
            async with world.database.transaction() as tx, asyncio.TaskGroup() as group:
                await tx.execute("LOCK TABLE price")
                asking = group.create_task(ask(door.port, "PUT", "/v1/prices", price, finance))
                async with asyncio.timeout(20):
                    while not await world.database.fetch("SELECT 1 FROM pg_locks WHERE NOT granted"):
                        pass
                control.freeze()
                silent(await asking, "not_known")
            control.thaw()
            async with asyncio.timeout(20):  # so it was right to say so
                while not await world.database.fetch("SELECT 1 FROM price WHERE part_micro = 30000"):
                    pass


async def test_a_door_that_stood_still_itself_does_not_take_that_for_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulse, "BEAT_WAIT_S", 0.3)

    async def answered_soon() -> bool:
        await asyncio.sleep(0.01)
        return True

    asyncio.get_running_loop().call_soon(time.sleep, 0.4)
    await pulse.Pulse(answered_soon).demand(surely=True)


async def test_who_does_not_answer_the_small_question_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "BEAT_WAIT_S", 0.05)
    for never in (asyncio.Event().wait, lambda: asyncio.sleep(0, False)):
        with pytest.raises(pulse.Silent):
            await pulse.Pulse(never).demand(surely=True)


@pytest.mark.usefixtures("hasty")
async def test_a_process_that_answers_small_questions_is_waited_for_however_long_a_great_one_takes(
    database: str, tmp_path: Path
) -> None:
    settings = replace(make.SETTINGS, state_dir=tmp_path)
    async with make.world(database) as world:
        finance = await person(world, Role.FINANCE)
        path = f"/v1/channels/{world.channel_id}/bills?name=January"
        whole = request("POST", path, BILL, finance | {"Content-Type": "text/csv"})
        with listening(settings) as sock:
            async with (
                served(world, settings=settings, sock=sock),
                door_of(world, settings) as door,
                line(door.port) as one,
            ):
                await one.write(whole[:-4])
                begun_s = asyncio.get_running_loop().time()
                while asyncio.get_running_loop().time() - begun_s < pulse.QUIET_S + 1.5 * pulse.BEAT_WAIT_S:
                    assert (await ask(door.port, "GET", "/v1/prices", headers=finance)).status == 200
                await one.write(whole[-4:])
                assert (await one.reply()).status == 201
