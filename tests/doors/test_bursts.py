"""Requests read together: who is waited for, and who is not."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

import make
from doors.counter import WAIT_S, basic, line, request, served
from hongyan.doors.bursts import ENOUGH, LARGE, Bursts
from hongyan.way import acceptance

LONG_S = 60.0  # a hold that no test waits for
COUNT = 9  # connections
SHORT_S = 0.01


class Log:
    """What was read, in its order; "." where a burst was at its end."""

    def __init__(self, longest_s: float, connections: int = 1_000) -> None:
        self.read: list[str] = []
        self.ended = asyncio.Event()
        self.bursts = Bursts(longest_s, self._complete)
        self.bursts.connections = range(connections)

    def says(self, name: str) -> None:
        """Let a connection of that name have said its name."""
        self.bursts.hold(Reader(name, self), name.encode())

    def _complete(self) -> None:
        self.read.append(".")
        self.ended.set()


class Reader:
    """A connection."""

    def __init__(self, name: str, log: Log) -> None:
        self.name = name
        self._log = log

    def received(self, octets: bytes) -> None:
        self._log.read.append(f"{self.name}:{len(octets)}")


class Broken:
    """One that we fail to read."""

    def received(self, octets: bytes) -> None:
        raise RuntimeError(octets)


async def test_what_comes_meanwhile_is_read_in_the_same_burst() -> None:
    log = Log(SHORT_S)
    for name in "abc":
        log.says(name)
    assert log.read == []
    await log.ended.wait()
    assert log.read == ["a:1", "b:1", "c:1", "."]


async def test_octets_of_one_connection_stay_together_and_in_their_order() -> None:
    log = Log(SHORT_S)
    reader = Reader("a", log)
    log.bursts.hold(reader, b"12")
    log.says("b")
    log.bursts.hold(reader, b"345")
    await log.ended.wait()
    assert log.read == ["a:5", "b:1", "."]


async def test_nobody_is_waited_for_who_waits_for_us() -> None:
    log = Log(LONG_S, connections=3)
    log.bursts.asking.add("c")
    log.says("a")
    assert log.read == []
    log.says("b")
    assert log.read == ["a:1", "b:1", "."]


async def test_enough_is_read_at_once_and_the_crowd_is_not_held_for_a_while() -> None:
    log = Log(LONG_S)
    for number in range(ENOUGH):
        log.says(f"c{number}")
    assert len(log.read) == ENOUGH + 1
    log.says("next")
    assert log.read[-1] == "next:4"


async def test_what_is_long_is_company_by_itself() -> None:
    log = Log(LONG_S)
    log.bursts.hold(Reader("first", log), b"x" * LARGE)
    assert log.read == [f"first:{LARGE}"]
    log.says("a")
    log.bursts.hold(Reader("long", log), b"x" * LARGE)
    assert log.read[1:] == ["a:1", f"long:{LARGE}", "."]


async def test_what_is_released_is_read_before_and_not_twice() -> None:
    log = Log(SHORT_S)
    reader = Reader("a", log)
    log.bursts.hold(reader, b"1")
    log.says("b")
    log.bursts.release(reader)
    assert log.read == ["a:1"]
    log.bursts.release(reader)
    await log.ended.wait()
    assert log.read == ["a:1", "b:1", "."]


async def test_a_fault_with_one_connection_leaves_the_others_read() -> None:
    log = Log(SHORT_S)
    loop = asyncio.get_running_loop()
    told: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    log.bursts.hold(Broken(), b"1")
    log.says("b")
    await log.ended.wait()
    assert log.read == ["b:1", "."]
    assert [type(one) for one in told] == [RuntimeError]


async def test_without_a_hold_everything_is_read_at_once() -> None:
    log = Log(0.0)
    log.says("a")
    assert log.read == ["a:1"]


async def test_requests_of_a_burst_share_one_commit(
    world: make.World, key_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    store = acceptance.store

    async def stored(tx: Any, rows: Any, *rest: Any, **words: Any) -> Any:
        sizes.append(len(rows))
        return await store(tx, rows, *rest, **words)

    monkeypatch.setattr(acceptance, "store", stored)

    (row,) = await world.database.fetch("SELECT name FROM signature")
    body = {"text": "hi", "purpose": "transactional", "signature": row["name"]}
    settings = replace(make.SETTINGS, accept_gather_ms=LONG_S * 1_000)
    async with served(world, settings=settings) as door, contextlib.AsyncExitStack() as open_lines:
        lines = [await open_lines.enter_async_context(line(door.port)) for _ in range(COUNT)]
        async with asyncio.timeout(WAIT_S):
            while len(door.door.connections) < COUNT:
                await asyncio.sleep(0.01)
        for number, client in enumerate(lines):
            asked = body | {"to": f"+8613800138{number:03d}"}
            await client.write(request("POST", "/v1/messages", asked, {"Authorization": basic(key_id)}))
        assert [(await client.reply()).status for client in lines] == [202] * COUNT
    assert set(sizes) == {COUNT}  # once more where money had to be brought over first
