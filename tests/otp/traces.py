"""Traffic of codes to judge the guard by: honest people and pumping, as Poisson streams, and what the guard makes of them.

Entry points: the streams, and TRACES, those of the reference; run(), which leads one through the real Wards without a
database; Outcome, what came of it. Honest people verify after a lognormal time around 22 s; what nobody verifies ends after 5
minutes. A challenged ask is not sent, unless its kind solves challenges.
"""

import heapq
import itertools
import math
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from hongyan.otp.pumping import Ask, Ended, Rules, Wards
from hongyan.otp.ward import Turn
from hongyan.vocab.verification import Level

VALIDITY_S: Final = 300.0
PRICE_MICRO: Final = 45_000
COUNTRY: Final = "KE"


class Want(NamedTuple):
    """Somebody asks for a code; `verified_s`: later he gives it, or (None) never."""

    at_s: float
    prefix: str
    kind: str  # honest, attack, warming
    verified_s: float | None


class Outcome(NamedTuple):
    """What came of one kind of asks."""

    asked: int
    sent: int
    held_up: int  # challenged or refused

    @property
    def share_held_up(self) -> float:
        return self.held_up / self.asked


def prefixes(count: int, first: int = 0) -> Sequence[str]:
    """Return prefixes of one country."""
    return [f"+2547{first + number:04d}" for number in range(count)]


def poisson(
    chance: random.Random, kind: str, rate_per_s: float, from_s: float, to_s: float, where: Sequence[str],
    conversion: float,
) -> Iterator[Want]:  # fmt: skip
    """Yield asks at a rate, to prefixes at random, of whom a share verifies."""
    at_s = from_s
    while (at_s := at_s + chance.expovariate(rate_per_s)) < to_s:
        verified_s = min(VALIDITY_S - 10, chance.lognormvariate(math.log(22), 0.6))
        yield Want(at_s, chance.choice(where), kind, verified_s if chance.random() < conversion else None)


def attack(
    chance: random.Random,
    where: Sequence[str],
    *,
    from_s: float = 0.0,
    for_s: float = 3_600.0,
    conversion: float = 0.0,
) -> Iterator[Want]:
    """36,000 asks an hour."""
    return poisson(chance, "attack", 10.0, from_s, from_s + for_s, where, conversion)


def merged(*streams: Iterable[Want]) -> Iterator[Want]:
    return heapq.merge(*streams)


def run(
    wants: Iterable[Want],
    *,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    windows_only: bool = False,
    solving: Collection[str] = (),
) -> dict[str, Outcome]:
    """Lead a trace through the guard. `windows_only`: without the CUSUM; `solving`: kinds that solve every challenge."""
    wards = Wards({}, {}, {}, 0.0)
    ripe: list[tuple[float, int, Ended]] = []
    serial = itertools.count()
    asked: defaultdict[str, int] = defaultdict(int)
    sent: defaultdict[str, int] = defaultdict(int)
    held_up: defaultdict[str, int] = defaultdict(int)
    for want in wants:
        while ripe and ripe[0][0] <= want.at_s:
            at_s, _, ended = heapq.heappop(ripe)
            wards.mature(ended, at_s)
            if windows_only:
                for ward in (wards.ward(1, COUNTRY), wards.ward(1, COUNTRY, ended.prefix)):
                    ward.turn, ward.evidence = Turn.CLEAR, 0.0
        ask = Ask(1, 1, COUNTRY, want.prefix, known=False)
        judgement = wards.judge(ask, rules, PRICE_MICRO, want.at_s)
        asked[want.kind] += 1
        held_up[want.kind] += judgement.level is not Level.NOTHING
        if judgement.level and not (want.kind in solving and judgement.level < Level.REFUSE):
            wards.blocked(ask, judgement, PRICE_MICRO, want.at_s)
            continue
        wards.sent(ask, PRICE_MICRO, want.at_s)
        sent[want.kind] += 1
        over_s = want.at_s + (VALIDITY_S if want.verified_s is None else want.verified_s)
        ended = Ended(1, COUNTRY, want.prefix, want.verified_s is not None, 0, 1e6, sent_at_s=want.at_s)
        heapq.heappush(ripe, (over_s, next(serial), ended))
    return {kind: Outcome(asked[kind], sent[kind], held_up[kind]) for kind in asked}


# ---- the traffic of the reference


class Trace(NamedTuple):
    """A traffic of the reference: how to make it, and its figures for the windows alone."""

    make: Callable[[], Iterator[Want]]
    sent: str  # of the attack's messages
    held_up: str  # of honest people


_ATTACKED: Final = prefixes(200)
_HONEST: Final = prefixes(600, first=1_000)


def _steady(conversion: float) -> Iterator[Want]:
    chance = random.Random(11)
    return merged(
        poisson(chance, "warming", 5.0, 0, 600, _HONEST[:300], conversion),
        poisson(chance, "honest", 5.0, 600, 3_600, _HONEST[:300], conversion),
    )


def _beside() -> Iterator[Want]:
    chance = random.Random(9)
    return merged(
        poisson(chance, "warming", 5.0, 0, 2_400, _HONEST[:300], 0.75),
        poisson(chance, "honest", 5.0, 2_400, 4_800, _HONEST[:300], 0.75),
        attack(chance, _ATTACKED, from_s=2_400, for_s=2_400),
    )


def _busy() -> Iterator[Want]:
    chance = random.Random(9)
    return merged(
        poisson(chance, "warming", 3.0, 0, 1_500, _HONEST, 0.75),
        poisson(chance, "honest", 3.0, 1_500, 3_900, _HONEST, 0.75),
        attack(chance, _HONEST[:200], from_s=1_500, for_s=2_400),
    )


def _tiny() -> Iterator[Want]:
    chance = random.Random(9)
    return merged(
        poisson(chance, "warming", 0.05, 0, 1_200, _HONEST[:5], 0.75),
        poisson(chance, "honest", 0.05, 1_200, 3_600, _HONEST[:5], 0.75),
        attack(chance, _ATTACKED, from_s=1_200, for_s=2_400),
    )


TRACES: Final[Mapping[str, Trace]] = {
    "one": Trace(lambda: attack(random.Random(11), _ATTACKED[:1]), "27", "-"),
    "many": Trace(lambda: attack(random.Random(11), _ATTACKED), "153", "-"),
    "some_verify": Trace(lambda: attack(random.Random(11), _ATTACKED, conversion=0.02), "156", "-"),
    "steady_75": Trace(lambda: _steady(0.75), "-", "0.0-0.2 %"),
    "steady_55": Trace(lambda: _steady(0.55), "-", "0.1 %"),
    "cold": Trace(
        lambda: poisson(random.Random(3), "honest", 30.0, 0, 3_600, _HONEST[:300], 0.75), "-", "2.5 %"
    ),
    "beside": Trace(_beside, "4,550", "0 %"),
    "busy": Trace(_busy, "4,437-9,053", "23-30 %"),
    "tiny": Trace(_tiny, "191", "100 %"),
}
