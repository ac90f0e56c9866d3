"""Codes go where codes are entered, whatever reports claim; nobody is given up for good; without figures all is as before."""

import heapq
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan import clock
from hongyan.otp import conversions
from hongyan.otp.conversions import Outcome
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.conversion import Belief, Evidence, Level, levels
from hongyan.vocab.message import ChannelId, Purpose, TenantId
from hongyan.way import route
from hongyan.way.conversion import PATIENCE_S, TRIED_SHARE, Conversions
from hongyan.way.route import Candidate, Health, State, Want
from plane import Plane, books_balance, plane

WANT: Final = Want(TenantId(1), "CN", "cmcc", Purpose.OTP, province="CN-GD")
VALUE: Final = 1_000_000
GOOD, BAD, NEW = 1, 2, 3


def candidate(channel_id: int, *, cost_micro: int = 30_000, priority: int = 1, weight: int = 1) -> Candidate:
    return Candidate(ChannelId(channel_id), priority, weight, channel_id * 10, cost_micro)


GROUP: Final = (candidate(GOOD), candidate(BAD))


class Figures:
    """What is known, as outcomes come in, without a database."""

    def __init__(self, seed: int = 1) -> None:
        self.table: dict[Level, Evidence] = {}
        self.conversions = Conversions(VALUE, Random(seed))

    def hear(self, channel_id: int, good: int, bad: int, now_s: float = 0.0, province: str = "CN-GD") -> None:
        mixed = [
            number * good // (good + bad) != (number + 1) * good // (good + bad)
            for number in range(good + bad)
        ]
        counted = dict.fromkeys(levels(channel_id, "CN", "cmcc", province), mixed)
        found, broken = conversions.weighed(self.table, counted, now_s)
        self.table = {
            level: one
            for level, one in self.table.items()
            if not any(over != level and over in levels(*level)[: level.rank] for over in broken)
        } | dict(found)
        self.conversions.swap(self.table)

    def mean(self, channel_id: int, now_s: float = 0.0) -> float:
        """What is believed of a channel."""
        return Belief.under(
            [self.table[one] for one in levels(channel_id, "CN", "cmcc", "CN-GD")], now_s
        ).mean

    def share(
        self, channel_id: int, group: Sequence[Candidate] = GROUP, now_s: float = 0.0, of: int = 4_000
    ) -> float:
        """Which part of codes a channel gets."""
        chances = Random(7)
        got = Counter(self.picked(group, chances.random(), now_s) for _ in range(of))
        return got[channel_id] / of

    def pick(
        self, equals: Sequence[Candidate], free: Sequence[Candidate], chance: float
    ) -> route.Picked | None:
        return self.conversions.pick(WANT, equals, free, chance, 0.0)

    def picked(self, group: Sequence[Candidate], chance: float, now_s: float = 0.0) -> int:
        picked = self.conversions.pick(WANT, group, group, chance, now_s)
        assert picked is not None
        assert picked.candidate is not None
        return picked.candidate.channel_id


def choose(pick: route.Pick | None, chance: float = 0.5, group: Sequence[Candidate] = GROUP) -> route.Choice:
    states = {one.channel_id: State(up=True, room=True, health=Health()) for one in group}
    return route.choose(group, states, chance, 0.0, (), pick)


# ---- what is believed


def test_evidence_fades_by_half_in_two_hours() -> None:
    heard = Evidence(80, 20, at_s=0.0)
    assert heard.at(7_200.0) == Evidence(40, 10, at_s=7_200.0)
    assert heard.at(-5.0) is heard


def test_a_province_of_which_little_is_known_is_judged_as_its_operator_and_that_as_its_channel() -> None:
    channel, operator = Evidence(700, 300), Evidence(20, 180)
    assert Belief.under([channel], 0.0).mean == pytest.approx(0.7, abs=0.01)
    assert Belief.under([channel, Evidence()], 0.0).mean == pytest.approx(0.7, abs=0.01)
    assert Belief.under([channel, operator, Evidence()], 0.0).mean < 0.15
    assert 0.15 < Belief.under([channel, operator, Evidence(3, 0)], 0.0).mean < 0.4
    assert Belief.under([channel, operator, Evidence(150, 50)], 0.0).mean == pytest.approx(0.73, abs=0.03)


def test_a_channel_that_was_good_all_day_is_known_to_be_dead_after_a_dozen_codes() -> None:
    figures = Figures()
    for at in range(3_000):
        figures.hear(GOOD, *((1, 0) if at % 10 < 7 else (0, 1)), now_s=at)
    for _ in range(12):
        figures.hear(GOOD, 0, 1, now_s=3_000)
    assert figures.mean(GOOD, 3_000.0) < 0.35


def test_a_steady_channel_is_not_taken_for_dead() -> None:
    for share in (0.3, 0.5, 0.7, 0.9):
        figures, chance, means = Figures(), Random(3), []
        for at in range(3_000):
            good = chance.random() < share
            figures.hear(GOOD, int(good), int(not good), now_s=at)
            means.append(
                Belief.under([figures.table[one] for one in levels(GOOD, "CN", "cmcc", "CN-GD")], at).mean
            )
        assert sum(mean < share / 2 for mean in means[200:]) <= 30


@given(st.lists(st.tuples(st.lists(st.booleans(), max_size=50), st.floats(0, 1e5)), max_size=30))
def test_whatever_is_heard_a_belief_is_a_distribution(heard: list[tuple[list[bool], float]]) -> None:
    evidence, now_s = Evidence(), 0.0
    for outcomes, later_s in heard:
        now_s += later_s
        evidence, _ = evidence.heard(outcomes, now_s, 0.6)
    belief = Belief.under([evidence] * 3, now_s)
    assert belief.alpha > 0
    assert belief.beta > 0
    assert evidence.outcomes <= 200.0 + 1e-6


# ---- what is chosen


def test_without_figures_the_load_is_shared_as_it_was() -> None:
    figures = Figures()
    figures.hear(GOOD, 5, 5)
    for chance in (0.0, 0.3, 0.7, 0.99):
        assert figures.pick(GROUP, GROUP, chance) is None
        assert choose(figures.pick, chance) == choose(None, chance)


def test_the_channel_whose_codes_are_entered_gets_the_codes_and_the_other_is_tried_now_and_then() -> None:
    figures = Figures()
    figures.hear(GOOD, 140, 60)
    figures.hear(BAD, 60, 140)
    assert 0.01 < figures.share(BAD) < 0.04


def test_every_channel_is_tried_whatever_is_believed_of_it() -> None:
    figures = Figures()
    group = (*GROUP, candidate(NEW))
    figures.hear(GOOD, 200, 0)
    figures.hear(BAD, 0, 200)
    figures.hear(NEW, 0, 200)
    tried = {figures.picked(group, (number + 0.5) * TRIED_SHARE) for number in range(3)}
    assert tried == {GOOD, BAD, NEW}


def test_a_new_channel_is_expected_to_do_as_the_others_and_tried_more_than_a_known_bad_one() -> None:
    figures = Figures()
    group = (*GROUP, candidate(NEW))
    figures.hear(GOOD, 140, 60)
    figures.hear(BAD, 20, 180)
    assert figures.share(NEW, group) > 2 * figures.share(BAD, group)


def test_of_two_that_do_alike_the_cheaper_gets_most() -> None:
    figures = Figures()
    figures.hear(GOOD, 140, 60)
    figures.hear(BAD, 140, 60)
    group = (candidate(GOOD, cost_micro=300_000), candidate(BAD, cost_micro=30_000))
    assert figures.share(BAD, group) > 0.9


def test_the_one_ahead_stays_ahead_until_another_is_better_by_a_tenth() -> None:
    for ahead, worths, expected in (
        (GOOD, (0.50, 0.54), GOOD),
        (GOOD, (0.50, 0.56), BAD),
        (BAD, (0.54, 0.50), BAD),
        (NEW, (0.50, 0.54), BAD),
    ):
        one = Conversions(VALUE, Random(1))
        one._ahead[WANT.country, WANT.operator, WANT.province] = ahead
        assert one._best(WANT, GROUP, worths).channel_id == expected


def test_a_channel_is_chosen_only_among_those_of_the_best_priority_that_could_take_it() -> None:
    figures = Figures()
    figures.hear(GOOD, 200, 0)
    figures.hear(BAD, 100, 100)
    asked: list[tuple[list[int], list[int]]] = []

    def pick(equals: Sequence[Candidate], free: Sequence[Candidate], chance: float) -> route.Picked | None:
        asked.append(([one.channel_id for one in equals], [one.channel_id for one in free]))
        return figures.pick(equals, free, chance)

    ranking = [candidate(BAD), candidate(GOOD, priority=2), candidate(NEW, priority=2)]
    states = {one.channel_id: State(True, True, Health()) for one in ranking}
    assert route.choose(ranking, states, 0.5, 0.0, (), pick).channel_id == BAD
    assert asked == []  # there is nothing to choose among
    ranking = [candidate(BAD), candidate(NEW), candidate(GOOD, priority=2)]
    states[ChannelId(NEW)] = State(True, False, Health())
    assert route.choose(ranking, states, 0.5, 0.0, (), pick).channel_id == BAD
    assert asked == [([BAD, NEW], [BAD])]


def test_a_full_window_is_waited_for_only_where_the_others_are_far_worse() -> None:
    figures = Figures()
    figures.hear(GOOD, 140, 60)
    figures.hear(BAD, 100, 100)
    states = {ChannelId(GOOD): State(True, False, Health()), ChannelId(BAD): State(True, True, Health())}
    assert route.choose(GROUP, states, 0.5, 0.0, (), figures.pick).channel_id == BAD
    figures.hear(BAD, 0, 60)
    waits = route.choose(GROUP, states, 0.5, 0.0, (), figures.pick)
    assert waits.channel_id is None
    assert dict(waits.words)[GOOD] == "verified 70 %"
    assert route.choose(GROUP, states, TRIED_SHARE * 1.5, 0.0, (), figures.pick).channel_id == BAD
    too_long = figures.conversions.pick(WANT, GROUP, GROUP[1:], 0.5, 0.0, PATIENCE_S)
    assert too_long is not None
    assert too_long.candidate is GROUP[1]


def test_the_trace_says_how_many_codes_were_entered_by_each() -> None:
    figures = Figures()
    figures.hear(GOOD, 139, 61)
    figures.hear(BAD, 22, 178)
    choice = choose(figures.pick)
    assert choice.channel_id == GOOD
    assert dict(choice.words) == {GOOD: "verified 70 %", BAD: "verified 10 %"}
    tried = choose(figures.pick, TRIED_SHARE * 1.5)
    assert (ChannelId(BAD), "tried now and then") in tried.words


# ---- an operator's outage, as people feel it


def day_of_an_outage(seed: int) -> tuple[list[float], list[float]]:
    """Codes of a province, one a second; the channel ahead goes dead towards it after an hour. Times to code, before and after.

    Who got no text in 30 s is sent another by the other channel, as otp.fallback would; 70 of 100 enter what they got, within
    20 s. What they did is heard of at once, and of those who did nothing when their code expires.
    """
    chance, figures = Random(seed), Figures(seed)
    dead_from_s, codes = 3_600.0, 3_600 + 600
    heard: list[tuple[float, int, bool]] = []
    before: list[float] = []
    after: list[float] = []
    for second in range(codes):
        now_s = float(second)
        while heard and heard[0][0] <= now_s:
            at_s, channel_id, good = heapq.heappop(heard)
            figures.hear(channel_id, int(good), int(not good), at_s)
        picked = figures.conversions.pick(WANT, GROUP, GROUP, chance.random(), now_s)
        first = int(chance.choice((GOOD, BAD)))
        if picked is not None and picked.candidate is not None:
            first = picked.candidate.channel_id
        arrives = not (first == GOOD and now_s >= dead_from_s)
        reached_s = chance.uniform(2, 6) + (0.0 if arrives else 30.0)
        (before if now_s < dead_from_s else after).append(reached_s)
        enters_s = reached_s + chance.uniform(3, 14)
        entered = chance.random() < 0.7
        ends_s = now_s + (enters_s if entered else 300.0)
        if not arrives:
            heapq.heappush(heard, (ends_s, first, False))
        carried = first if arrives else GOOD + BAD - first
        heapq.heappush(heard, (ends_s, carried, entered))
    return before, after


def p95(times: Sequence[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]


@pytest.mark.parametrize("seed", range(5))
def test_sixty_codes_into_an_outage_people_have_their_code_within_twenty_seconds(seed: int) -> None:
    before, after = day_of_an_outage(seed)
    assert p95(before) < 7.0
    assert p95(after[60:]) < 20.0
    assert sum(time > 20 for time in after[60:]) / len(after[60:]) <= 0.05


# ---- through a gateway, with operators


async def counted(way: Plane, believable: int) -> None:
    """Count what became of all codes so far: those of one channel were entered, those of the other were not."""
    rows = await way.database.fetch("SELECT tenant_id, id, channel_id FROM message ORDER BY id")
    now_s = clock.now_s()
    outcomes = [
        Outcome(row["tenant_id"], [row["id"]], now_s if row["channel_id"] == believable else 0.0)
        for row in rows
    ]
    async with way.database.transaction() as tx:
        await conversions.heard(tx, outcomes, now_s)
    await way.gateway.look_at_conversions()


async def test_a_channel_that_fakes_its_reports_loses_its_codes(database: str) -> None:
    quick = "report_delay_s=0.01"
    async with (
        Simulator(behaviour.parse(quick), seed=1) as honest,
        Simulator(behaviour.parse(quick), seed=2) as faker,
        plane(database, honest, faker) as way,
    ):
        await way.database.execute("UPDATE route_rule SET priority = 0")
        await way.keeper.load()
        await way.up(2)
        numbers = itertools.count()

        async def codes(count: int) -> Mapping[str, int]:
            """Send so many; returns how many each operator got of them."""
            had = {name: len(one.destinations()) for name, one in (("honest", honest), ("faker", faker))}
            await way.accept(*(way.draft(f"138{next(numbers):08d}", Purpose.OTP) for _ in range(count)))
            await way.all_final()
            return {
                "honest": len(honest.destinations()) - had["honest"],
                "faker": len(faker.destinations()) - had["faker"],
            }

        shared = await codes(80)
        assert min(shared.values()) >= 15
        delivered = await way.database.fetch("SELECT count(*) AS n FROM message WHERE status = 1")
        assert delivered[0]["n"] == 80
        await counted(way, way.laid.channels[0])
        moved = await codes(200)
        assert moved["faker"] <= 20
        row = await way.until("SELECT id, channel_id, attempts FROM message WHERE channel_id = $1 ORDER BY id DESC LIMIT 1",
                              way.laid.channels[0])  # fmt: skip
        await way.until(  # traces are stored beside the way
            """SELECT FROM decision WHERE trace::text LIKE '%verified%'
                  AND trace->'route'->>'channel' = (SELECT name FROM channel WHERE id = $1)""",
            row["channel_id"],
        )
        await books_balance(way.database)


async def test_a_code_that_waited_in_the_database_knows_its_province_too(database: str) -> None:
    async with (
        Simulator(behaviour.parse("report_delay_s=0.01"), seed=1) as operator,
        plane(database, operator) as way,
    ):
        await way.database.execute(
            "INSERT INTO conversion VALUES ($1, 'CN', 'cmcc', '', 30, 10, 0, $2)",
            way.laid.channels[0],
            clock.now_s(),
        )
        await way.gateway.look_at_conversions()
        await way.send("13800138000", Purpose.OTP, send_at=clock.now() + timedelta(hours=1))
        await way.database.execute("UPDATE outbox SET due_at = now() - interval '1 second'")
        way.gateway.look()
        await way.all_final()
        await way.until("SELECT 1 FROM decision WHERE trace->'route'->'for'->>'province' = 'CN-BJ'")
