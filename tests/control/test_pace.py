"""Rows of lists go at an even pace and one slice at a time, however many lists there are."""

import asyncio
import time

from hongyan.control.pace import CATCH_UP_S, Pace


async def test_lists_share_one_pace() -> None:
    pace, rows, rate = Pace(), 2_000, 10_000.0

    async def one() -> None:
        for _ in range(10):
            async with pace.turn(rows // 20, rate):
                pass

    begun_s = time.monotonic()
    await asyncio.gather(one(), one())
    assert time.monotonic() - begun_s >= (rows - rows // 20) / rate - CATCH_UP_S - 0.005


async def test_a_turn_that_is_due_does_not_wait() -> None:
    pace = Pace()
    async with asyncio.timeout(20), pace.turn(1_000_000, 1.0):  # what follows would wait for days
        pass


async def test_what_was_held_up_for_long_does_not_follow_all_at_once() -> None:
    pace, rate = Pace(), 1_000.0
    begun_s = time.monotonic()
    held_up = int(CATCH_UP_S * rate)
    for _ in range(3):  # as if nothing had gone since the machine was started
        async with pace.turn(held_up, rate):
            pass
    assert time.monotonic() - begun_s >= CATCH_UP_S - 0.005


async def test_a_turn_is_over_before_the_next_begins_and_one_that_fails_holds_up_nobody() -> None:
    pace, said = Pace(), list[str]()

    async def one(name: str, *, fails: bool = False) -> None:
        async with pace.turn(1, 1e9):
            said.append(f"{name} begins")
            await asyncio.sleep(0)
            said.append(f"{name} ends")
            if fails:
                raise TimeoutError

    failed, went = await asyncio.gather(one("a", fails=True), one("b"), return_exceptions=True)
    assert isinstance(failed, TimeoutError)
    assert went is None
    assert said == ["a begins", "a ends", "b begins", "b ends"]
