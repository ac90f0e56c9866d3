"""Answers that leave no sooner than most could: nobody learns by the clock which numbers we have met before.

A row that is there and one that is made differ by fractions of a millisecond, which two thousand requests bring to light. So an
answer waits until so long after its question came as nearly all take on a machine that has nothing else to do, by the clock of
the event loop, which counts in milliseconds. What takes longer, under load, waits in queues whose length tells more than it does,
and leaves at once.
Entry points: evenly() for callbacks, wait_evenly() for coroutines.
"""

import asyncio
from typing import Final

from hongyan.doors.exchange import Answer, Then

START_S: Final = 0.012
CHECK_S: Final = 0.005


def evenly(then: Then, least_s: float) -> Then:
    """Return a callback that passes an answer on, but no sooner than `least_s` from now."""
    loop = asyncio.get_running_loop()
    from_s = loop.time() + least_s

    def answered(answer: Answer) -> None:
        if loop.time() < from_s:
            loop.call_at(from_s, then, answer)
        else:
            then(answer)

    return answered


async def wait_evenly(begun_s: float, least_s: float) -> None:
    """Wait until `least_s` after `begun_s`, of the loop's clock."""
    await asyncio.sleep(begun_s + least_s - asyncio.get_running_loop().time())
