"""What time asks of control: filings lapse, packages and licences end, old alarms are forgotten.

Writes nothing itself. Entry point: run(), a loop of the process that manages. Every duty is one bounded transaction; an
advisory lock lets one process at a time do it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from hongyan import clock, db, leap
from hongyan.control import alarms, filings, packages, qualifications

log = structlog.get_logger()

GAP_S: Final = 30.0
WAIT_S: Final = 60.0
ROUNDS_MAX: Final = 20  # of one duty in a row; then the others have their turn
LOCK: Final = 0x64757479  # 'duty': first half of the advisory locks, the duty's number is the second
TOPIC: Final = "control"


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do now and then. `work` returns how much it did; a full `batch` means there may be more.

    `forgets`: it takes away what nobody can give back, and waits while the clock may be wrong.
    """

    work: Callable[[db.Tx], Awaitable[int]]
    gap_s: float
    batch: int
    changes: bool  # the plane flies by what it does
    forgets: bool = False


async def lapse_filings(tx: db.Tx) -> int:
    return await filings.lapse(tx, clock.now())


async def lapse_packages(tx: db.Tx) -> int:
    return await packages.lapse(tx, clock.now())


async def forget_alarms(tx: db.Tx) -> int:
    return await alarms.forget(tx, clock.now())


DUTIES: Final = (
    Duty(lapse_filings, 60, 1, changes=True),
    Duty(lapse_packages, 60, packages.LAPSES_MAX, changes=False, forgets=True),
    Duty(qualifications.lapse, 600, qualifications.LAPSES_MAX, changes=True),
    Duty(forget_alarms, 3_600, alarms.FORGET_MAX, changes=False, forgets=True),
)


async def run(database: db.Database) -> None:
    """Do every duty in its turn, until cancelled."""
    due_s = dict.fromkeys(DUTIES, 0.0)
    while True:
        for number, duty in enumerate(DUTIES):
            if time.monotonic() >= due_s[duty]:
                due_s[duty] = time.monotonic() + duty.gap_s
                await _perform(database, duty, number)
        await asyncio.sleep(GAP_S)


async def _perform(database: db.Database, duty: Duty, number: int) -> None:
    """Do one duty until nothing is left, unless another process is at it. A failure waits for the next turn."""
    name = duty.work.__name__
    try:
        for _ in range(ROUNDS_MAX):
            if duty.forgets and not await leap.believed(database):
                return
            async with asyncio.timeout(WAIT_S), database.transaction() as tx:
                if not await tx.fetchval("SELECT pg_try_advisory_xact_lock($1, $2)", LOCK, number):
                    return
                done = await duty.work(tx)
            if done:
                log.info("duties.done", duty=name, count=done)
                if duty.changes:
                    await database.notify(TOPIC)
            if done < duty.batch:
                return
    except db.Unavailable as error:
        log.warning("duties.database_lost", duty=name, error=type(error).__name__)
    except Exception:
        log.exception("duties.failed", duty=name)
