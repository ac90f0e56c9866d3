"""How many of the codes that went somewhere were entered in time: evidence that fades, with a prior from the level above.

Pure. Evidence is kept at three levels: a channel; the channel towards an operator of a country; towards its numbers of a
province. What is known of a level stands in for a little of its own in the level below, so a province with three codes
behind it is judged much like its operator. Entry points: Evidence.heard(), Belief.under(), levels().

Two memories forget. Time does, by half in HALF_LIFE_S. And a drop does: fading alone would let a channel that was good all
day spend hundreds of codes before its figures showed that it went dead, so each level also keeps how much likelier its
latest outcomes are under "it broke" than under "as before" (CUSUM, Page 1954). Past DROP_ALARM what was known before the
drop is let go, and for an operator what is known of its provinces, but for so much that probes of a channel that is well again
can outweigh.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

VERIFIED_WITHIN_S: Final = 120.0  # of its message; a code entered later has helped nobody's patience
HALF_LIFE_S: Final = 7_200.0
OUTCOMES_MAX: Final = 200.0  # more say nothing that these do not, and would only be slower to change
PRIOR_MEAN: Final = 0.6  # of a channel nobody has tried
PRIOR_OUTCOMES: Final = 4.0  # how many outcomes that is worth
ABOVE_OUTCOMES: Final = 10.0  # how many outcomes of its own the level above is worth
BROKEN_MEAN: Final = 0.1  # what is entered where hardly anything arrives
USUAL_MEAN_MAX: Final = 0.7  # of "as before": where nearly all are entered, a few that are not are no alarm
DROP_ALARM: Final = math.log(1e4)
BROKEN_OUTCOMES: Final = 10.0  # what a drop is remembered as


class Level(NamedTuple):
    """A channel; towards an operator, where country is not empty; towards a province, where that is not empty."""

    channel_id: int
    country: str = ""
    operator: str = ""
    province: str = ""

    @property
    def rank(self) -> int:
        return 2 if self.province else 1 if self.country else 0


def levels(channel_id: int, country: str, operator: str, province: str) -> Sequence[Level]:
    """Return the levels that an outcome counts in, from the channel downwards."""
    found = [Level(channel_id), Level(channel_id, country, operator)]
    return [*found, Level(channel_id, country, operator, province)] if province else found


class Evidence(msgspec.Struct, frozen=True):
    """What was heard at one level, as of a moment. Counts are faded, so they are no whole numbers."""

    good: float = 0.0  # entered in time
    bad: float = 0.0
    drop: float = 0.0  # logarithm of how much likelier a drop is than none
    at_s: float = 0.0  # Unix seconds

    @property
    def outcomes(self) -> float:
        return self.good + self.bad

    def at(self, now_s: float) -> "Evidence":
        """Return the same as it has faded by a later moment. The drop does not fade: nothing was heard against it."""
        if now_s <= self.at_s:
            return self
        kept = 0.5 ** ((now_s - self.at_s) / HALF_LIFE_S)
        return Evidence(self.good * kept, self.bad * kept, self.drop, now_s)

    def heard(self, outcomes: Sequence[bool], now_s: float, usual: float) -> tuple["Evidence", bool]:
        """Take in outcomes, in the order in which they came. `usual`: the mean that was believed before.

        Returns whether they made a drop certain; what was known before it is let go then.
        """
        then, broke = self.at(now_s), False
        good, bad, drop = then.good, then.bad, then.drop
        entered, missed = _steps(usual)
        for outcome in outcomes:
            good, bad = (good + 1, bad) if outcome else (good, bad + 1)
            drop = max(0.0, drop + (entered if outcome else missed))
            if drop >= DROP_ALARM:
                good, bad, drop, broke = *_BROKEN, 0.0, True
                entered, missed = _steps(BROKEN_MEAN)
        kept = min(1.0, OUTCOMES_MAX / max(good + bad, 1.0))
        return Evidence(good * kept, bad * kept, drop, max(now_s, self.at_s)), broke


def _steps(usual: float) -> tuple[float, float]:
    """Return by how much a code that was entered, and one that was not, make a drop likelier."""
    before = min(max(usual, 2 * BROKEN_MEAN), USUAL_MEAN_MAX)
    return math.log(BROKEN_MEAN / before), math.log((1 - BROKEN_MEAN) / (1 - before))


_BROKEN: Final = (BROKEN_OUTCOMES * BROKEN_MEAN, BROKEN_OUTCOMES * (1 - BROKEN_MEAN))
NOTHING: Final = Evidence()


class Belief(NamedTuple):
    """A Beta distribution of the share that will be entered in time."""

    alpha: float
    beta: float

    @property
    def mean(self) -> float:
        return self.alpha / (self.alpha + self.beta)

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return math.sqrt(self.mean * (1 - self.mean) / (self.alpha + self.beta + 1))

    @classmethod
    def under(cls, evidence: Sequence[Evidence], now_s: float, prior_mean: float = PRIOR_MEAN) -> "Belief":
        """Believe what evidence of the levels says, from the channel downwards, each under the one above it."""
        believed = cls(PRIOR_OUTCOMES * prior_mean, PRIOR_OUTCOMES * (1 - prior_mean))
        for one in evidence:
            above, now = min(ABOVE_OUTCOMES, believed.alpha + believed.beta), one.at(now_s)
            mean = believed.mean
            believed = cls(above * mean + now.good, above * (1 - mean) + now.bad)
        return believed
