"""How the last send of a code stands, and what follows from that: the rule of fallback.py, without a clock.

Writes nothing. Entry points: decide(); wait_of() and read_waits(), for how long a report is waited.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, LiteralString, NamedTuple

from hongyan import clock, db
from hongyan.otp.media import TEXTS
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Purpose, Status
from hongyan.way import measure

LOOK_S: Final = (
    3.0  # between two looks at a text of which nothing is heard: a failure is noticed within so long
)
WAIT_S: Final = 30.0  # for a report, where nobody knows how long they take there
WAIT_S_MIN, WAIT_S_MAX = 15.0, 60.0
REPORTS_MIN: Final = 20  # fewer say nothing about how long they take
LATELY: Final = timedelta(hours=3)
LOST_S: Final = (
    12.0  # a text that is nowhere so long after its id was chosen was never stored: accept_wait_s is over
)


class Standing(NamedTuple):
    """What is known of the last send of a verification."""

    medium: str
    sent_at_s: float  # Unix seconds; 0: nothing was sent yet
    stored: bool  # as a message
    owed: bool  # a letter that was not handed over yet
    status: Status
    cause: Cause


class Step(NamedTuple):
    """What to do about it."""

    what: str  # look: again at `at_s` · again: offer the same text or letter (once more) · first: send by `medium` · next · done
    at_s: float = 0.0


def decide(standing: Standing, now_s: float, wait_s: float) -> Step:
    """Say what follows from how the last send stands. `wait_s`: for a report, from when it was sent."""
    sent_at_s = standing.sent_at_s
    if not sent_at_s:
        return Step("first")
    if standing.medium not in TEXTS:
        return Step("again" if standing.owed else "next")
    if not standing.stored:
        return (
            Step("again")
            if now_s >= sent_at_s + LOST_S
            else Step("look", min(now_s + LOOK_S, sent_at_s + LOST_S))
        )
    if standing.status is Status.DELIVERED:
        return Step("done")
    if standing.status.final or now_s >= sent_at_s + wait_s:
        return Step("next")
    return Step("look", min(now_s + LOOK_S, sent_at_s + wait_s))


def wait_of(buckets: Sequence[int]) -> float:
    """Return how long reports are waited for where they took so long, in the buckets of the tally."""
    took_ms = measure.percentile_ms(buckets, 0.95) if sum(buckets) >= REPORTS_MIN else None
    return WAIT_S if took_ms is None else min(max(took_ms / 1_000, WAIT_S_MIN), WAIT_S_MAX)


WAITS_SQL: LiteralString = """
SELECT country, operator, latency, sum(messages)::bigint AS messages FROM tally
 WHERE hour >= $1 AND purpose = $2 AND status = $3 GROUP BY country, operator, latency
"""


async def read_waits(tx: db.Tx, now_s: float) -> Mapping[tuple[str, str], float]:
    """Return how long reports are waited for by country and operator, where enough came lately."""
    since = clock.moment(now_s) - LATELY
    buckets: dict[tuple[str, str], list[int]] = defaultdict(
        lambda: [0] * (len(measure.LATENCY_BUCKETS_MS) + 1)
    )
    for row in await tx.fetch(WAITS_SQL, since, Purpose.OTP.number, Status.DELIVERED.number):
        buckets[row["country"], row["operator"]][row["latency"]] += row["messages"]
    return {place: wait_of(counts) for place, counts in buckets.items()}
