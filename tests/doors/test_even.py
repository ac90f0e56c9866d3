"""Answers leave no sooner than most could, whatever they say."""

import asyncio
from typing import Final

from hongyan.doors import even
from hongyan.doors.exchange import Answer

ANSWER: Final = Answer(200, b"{}", "r")


async def test_what_is_known_at_once_and_what_takes_a_while_leave_alike() -> None:
    loop = asyncio.get_running_loop()
    left: list[float] = []
    begun_s = loop.time()
    one, other = (even.evenly(lambda _: left.append(loop.time()), 0.2) for _ in range(2))
    one(ANSWER)
    await even.wait_evenly(begun_s, 0.02)
    other(ANSWER)
    assert left == []
    await even.wait_evenly(begun_s, 0.21)
    assert min(left) - begun_s > 0.1995  # sums of a clock's milliseconds differ in their last bits
    assert max(left) - min(left) < 0.005  # the clock may tick between two that leave together


async def test_what_is_late_already_leaves_at_once() -> None:
    left: list[Answer] = []
    then = even.evenly(left.append, 0.0)
    then(ANSWER)
    assert left == [ANSWER]
    await even.wait_evenly(asyncio.get_running_loop().time() - 10, 1.0)
