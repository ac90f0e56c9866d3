"""Deeds are done in their order, behind one timer."""

import asyncio

from hongyan.simulator.agenda import Agenda


async def test_deeds_come_by_time_and_then_by_coming() -> None:
    done: list[str] = []
    finished = asyncio.Event()
    agenda = Agenda(lambda: None)
    now_s = agenda.now_s()
    agenda.add(now_s + 0.004, done.append, "third")
    agenda.add(now_s + 0.002, done.append, "first")
    agenda.add(now_s + 0.002, done.append, "second")
    agenda.add(now_s + 0.004, finished.set)
    async with asyncio.timeout(20):
        await finished.wait()
    assert done == ["first", "second", "third"]
    assert len(agenda) == 0


async def test_a_deed_may_add_another() -> None:
    finished = asyncio.Event()
    agenda = Agenda(lambda: None)
    agenda.add(0.0, lambda: agenda.add(0.0, finished.set))
    async with asyncio.timeout(20):
        await finished.wait()


async def test_the_round_ends_with_after() -> None:
    after = asyncio.Event()
    agenda = Agenda(after.set)
    agenda.add(0.0, lambda: None)
    async with asyncio.timeout(20):
        await after.wait()


async def test_a_closed_agenda_does_nothing_more() -> None:
    done: list[str] = []
    finished = asyncio.Event()
    closed, other = Agenda(lambda: None), Agenda(lambda: None)
    closed.add(0.0, done.append, "never")
    closed.close()
    other.add(other.now_s() + 0.003, finished.set)
    async with asyncio.timeout(20):
        await finished.wait()
    assert done == []
