"""Answers leave no sooner than most could, whatever they say."""

import asyncio
from types import SimpleNamespace
from typing import Final

import pytest

from hongyan.doors import even
from hongyan.doors.exchange import Answer

ANSWER: Final = Answer(200, b"{}", "r")


class Still:
    """A loop whose time stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.due: list[float] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, when_s: float, *_: object) -> None:
        self.due.append(when_s)


def test_what_is_known_at_once_and_what_takes_a_while_leave_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, left = Still(), list[Answer]()
    monkeypatch.setattr(even, "asyncio", SimpleNamespace(get_running_loop=lambda: loop))
    one, other = (even.evenly(left.append, 0.2) for _ in range(2))
    one(ANSWER)
    loop.now_s += 0.02
    other(ANSWER)
    assert (left, loop.due) == ([], [1_000.2, 1_000.2])


async def test_what_came_early_leaves_when_its_time_has_come() -> None:
    loop = asyncio.get_running_loop()
    left = asyncio.Event()
    begun_s = loop.time()
    even.evenly(lambda _: left.set(), 0.05)(ANSWER)
    assert not left.is_set()
    await left.wait()
    assert loop.time() - begun_s > 0.0495  # sums of a clock's milliseconds differ in their last bits
    begun_s = loop.time()
    await even.wait_evenly(begun_s, 0.05)
    assert loop.time() - begun_s > 0.0495


async def test_what_is_late_already_leaves_at_once() -> None:
    left: list[Answer] = []
    then = even.evenly(left.append, 0.0)
    then(ANSWER)
    assert left == [ANSWER]
    await even.wait_evenly(asyncio.get_running_loop().time() - 10, 1.0)
