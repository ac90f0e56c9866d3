"""The traffic of the reference through a real door, shortened: bench/pumping.py has whole hours."""

import random
from collections.abc import Iterator

import pytest

from otp.replay import replay
from otp.traces import Want, attack, merged, poisson, prefixes, run


def trace() -> Iterator[Want]:
    """Honest people, and after 4 minutes an attack of 4 minutes on 200 other prefixes."""
    chance = random.Random(8)
    return merged(
        poisson(chance, "honest", 1.0, 0, 520, prefixes(40, first=1_000), 0.75),
        attack(chance, prefixes(200), from_s=120, for_s=400),
    )


async def test_a_door_holds_up_what_the_reckoning_says(database: str) -> None:
    reckoned, found = run(trace()), await replay(database, trace(), step_s=10.0)
    assert found.refusals.keys() <= {"Verify.ChallengeRequired", "Verify.Suspected"}
    assert found.outcomes["attack"].asked == reckoned["attack"].asked
    assert found.outcomes["attack"].sent == pytest.approx(reckoned["attack"].sent, rel=0.2)
    assert found.outcomes["honest"].sent == pytest.approx(reckoned["honest"].sent, rel=0.1)
    assert ("KE", "") in found.alarmed
