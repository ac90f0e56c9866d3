"""Deliver what people are owed, and deliver it again with back-off until it arrives or a day is over.

Writes nothing itself: whose rows they are claims and concludes them (announcements.py, alarm_notes.py). Entry points:
run(), a loop; deliver(), one round of it; send(), a signed POST. At least once: a claim is a lease, so nobody else
delivers it meanwhile, and somebody does when we die.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import structlog

from hongyan import clock, db
from hongyan.egress import Answer, Egress
from hongyan.vault import Secret
from hongyan.vocab.message import MessageIds
from hongyan.way.notice import mac_of

log = structlog.get_logger()

POLL_GAP_S: Final = 2.0
CLAIM_MAX: Final = 32  # delivered at once
DELIVERY_WAIT_S: Final = 90.0  # for one of them
LEASE_S: Final = 120.0  # longer than that
POST_WAIT_S: Final = 15.0
BACK_OFF_S: Final = 10.0  # doubling
BACK_OFF_S_MAX: Final = 3_600.0
GIVE_UP_S: Final = 86_400.0
ERROR_CHARACTERS_MAX: Final = 200


class Owed(Protocol):
    """A row that was claimed."""

    @property
    def attempt(self) -> int: ...  # how often it was tried before
    @property
    def created_at(self) -> datetime: ...


One = TypeVar("One", bound=Owed)


@dataclass(frozen=True, slots=True)
class Round(Generic[One]):
    """How one kind of thing is delivered."""

    name: str  # for the log
    claim: Callable[[int, float], Awaitable[Sequence[One]]]  # at most so many, for so many seconds
    attempt: Callable[[One], Awaitable[str]]  # returns what went wrong, empty for nothing
    gone: Callable[[One], Awaitable[None]]  # it arrived, or was given up
    later: Callable[[One, float, str], Awaitable[None]]  # try again after so many seconds, and why


async def run(round_: Round[One]) -> None:
    """Deliver what is owed, until cancelled."""
    while True:
        try:
            if await deliver(round_) == CLAIM_MAX:
                continue
        except db.Unavailable as error:
            log.warning("deliveries.database_lost", of=round_.name, error=type(error).__name__)
        except Exception:  # our bug: what is owed stays owed
            log.exception("deliveries.crashed", of=round_.name)
        await asyncio.sleep(POLL_GAP_S)


async def deliver(round_: Round[One]) -> int:
    """Deliver what is due, at most CLAIM_MAX at once; returns how many were tried. No transaction is open meanwhile."""
    claimed = await round_.claim(CLAIM_MAX, LEASE_S)
    async with asyncio.TaskGroup() as group:
        for one in claimed:
            group.create_task(_deliver(round_, one))
    return len(claimed)


async def _deliver(round_: Round[One], one: One) -> None:
    try:
        await _conclude(round_, one, await _attempt(round_, one))
    except db.Unavailable as error:  # the lease runs out, and it is tried again
        log.warning("deliveries.database_lost", of=round_.name, error=type(error).__name__)


async def _attempt(round_: Round[One], one: One) -> str:
    try:
        async with asyncio.timeout(DELIVERY_WAIT_S):
            return await round_.attempt(one)
    except TimeoutError:
        return f"no end within {DELIVERY_WAIT_S:g} s"
    except db.Unavailable:
        raise
    except Exception as error:  # our bug: it must neither stop the others nor be tried for ever
        log.exception("deliveries.delivery_crashed", of=round_.name)
        return type(error).__name__


async def _conclude(round_: Round[One], one: One, error: str) -> None:
    if error and clock.now_s() - one.created_at.timestamp() < GIVE_UP_S:
        delay_s = min(BACK_OFF_S_MAX, BACK_OFF_S * 2 ** min(one.attempt, 16))
        delay_s *= random.uniform(0.8, 1.2)  # noqa: S311 - so that what failed together does not come together
        await round_.later(one, delay_s, error[:ERROR_CHARACTERS_MAX])
        return
    if error:
        log.warning("deliveries.given_up", of=round_.name, error=error)
    await round_.gone(one)


class Sent(NamedTuple):
    """What came of a POST. `status` 0: nobody answered, and `error` says why."""

    id: uuid.UUID  # as the POST had it: Hongyan-Delivery-Id
    status: int
    error: str
    took_ms: int

    @property
    def wrong(self) -> str:
        """What went wrong, in words; empty for nothing."""
        return self.error or ("" if 200 <= self.status < 300 else f"status {self.status}")


IDS: Final = MessageIds()  # of POSTs: they tell when it was


async def send(egress: Egress, url: str, secret: Secret, body: bytes, *, webhook_id: int = 0) -> Sent:
    """Post as notices of the way are posted, signed. `webhook_id`: 0 where it has none."""
    timestamp, delivery_id = str(int(clock.now_s())), IDS.make()
    headers = {
        "Content-Type": "application/json",
        "Hongyan-Timestamp": timestamp,
        "Hongyan-Delivery-Id": str(delivery_id),
        "Hongyan-Mac": mac_of(secret.reveal(), timestamp, body),
    }
    if webhook_id:
        headers["Hongyan-Webhook-Id"] = str(webhook_id)
    began_s = time.monotonic()
    outcome = await egress.request("POST", url, headers=headers, body=body, timeout_s=POST_WAIT_S)
    took_ms = int((time.monotonic() - began_s) * 1000)
    if isinstance(outcome, Answer):
        return Sent(delivery_id, outcome.status, "", took_ms)
    return Sent(delivery_id, 0, outcome.reason, took_ms)
