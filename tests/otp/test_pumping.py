"""The guard as a whole, by the traffic of the reference, without a database."""

import random

import pytest

from hongyan.otp import meter
from hongyan.otp.meter import Strictness
from hongyan.otp.pumping import Ask, Judgement, Rules, Wards
from hongyan.vocab.verification import Level
from otp.traces import COUNTRY, PRICE_MICRO, attack, merged, poisson, prefixes, run

ATTACKED, BUSY = prefixes(200), prefixes(600, first=1_000)
PREFIX = "+23270001"
DAY_S = 86_400.0


def wards(**knows: object) -> Wards:
    return Wards(**{"wards": {}, "spends": {}, "hits": {}, "now_s": 0.0} | knows)  # type: ignore[arg-type]


def ask(prefix: str = PREFIX, *, known: bool = False, country: str = COUNTRY, digits_max: int = 10) -> Ask:
    return Ask(1, 1, country, prefix, known, digits_max)


# ---- the traffic of the reference: sent by the windows alone within a fifth of its figures; with the CUSUM, never more


@pytest.mark.parametrize(
    ("where", "conversion", "reference"), [(1, 0.0, 27), (200, 0.0, 153), (200, 0.02, 156)]
)
def test_a_run_of_36000_asks_sends_what_the_reference_says(
    where: int, conversion: float, reference: int
) -> None:
    def trace() -> object:
        return attack(random.Random(11), ATTACKED[:where], conversion=conversion)

    alone = run(trace(), windows_only=True)["attack"]  # type: ignore[arg-type]
    assert alone.sent == pytest.approx(reference, rel=0.2)
    assert run(trace())["attack"].sent <= alone.sent  # type: ignore[arg-type]


def test_closing_11_a_pumping_run_sends_at_most_200_and_honest_people_are_left_alone() -> None:
    pumped = run(attack(random.Random(11), ATTACKED))["attack"]
    assert pumped.asked > 35_000
    assert pumped.sent <= 200
    for rate_per_s in (1.0, 5.0):
        chance = random.Random(11)
        steady = run(
            merged(
                poisson(chance, "warming", rate_per_s, 0, 1_200, BUSY[:300], 0.7),
                poisson(chance, "honest", rate_per_s, 1_200, 3_600, BUSY[:300], 0.7),
            )
        )["honest"]
        assert steady.share_held_up <= 0.005


def test_a_cold_launch_is_held_up_a_little() -> None:
    launch = run(poisson(random.Random(3), "honest", 30.0, 0, 3_600, BUSY[:300], 0.75), windows_only=True)[
        "honest"
    ]
    assert launch.share_held_up == pytest.approx(0.025, rel=0.2)


def test_people_who_come_in_rushes_are_left_alone() -> None:
    """All codes of ten seconds that nobody verifies end at once: that is no attack either."""
    chance = random.Random(3)
    honest = [
        want._replace(at_s=want.at_s // 10 * 10)
        for want in poisson(chance, "honest", 5.0, 0, 1_800, BUSY[:300], 0.75)
    ]
    assert run(iter(honest))["honest"].share_held_up < 0.03  # the first of them, while the window is new


def test_an_attack_beside_a_large_honest_country_is_told_apart() -> None:
    def trace() -> object:
        chance = random.Random(9)
        return merged(
            poisson(chance, "warming", 5.0, 0, 2_400, BUSY[:300], 0.75),
            poisson(chance, "honest", 5.0, 2_400, 4_800, BUSY[:300], 0.75),
            attack(chance, ATTACKED, from_s=2_400, for_s=2_400),
        )

    alone, both = run(trace(), windows_only=True), run(trace())  # type: ignore[arg-type]
    assert alone["attack"].sent == pytest.approx(4_550, rel=0.2)
    assert alone["honest"].share_held_up < 0.005
    assert both["attack"].sent < alone["attack"].sent / 2
    assert both["honest"].share_held_up < 0.005


def test_an_attack_on_busy_prefixes_costs_what_the_reference_says() -> None:
    chance = random.Random(9)
    alone = run(
        merged(
            poisson(chance, "warming", 3.0, 0, 1_500, BUSY, 0.75),
            poisson(chance, "honest", 3.0, 1_500, 3_900, BUSY, 0.75),
            attack(chance, BUSY[:200], from_s=1_500, for_s=2_400),
        ),
        windows_only=True,
    )
    assert 4_437 * 0.8 <= alone["attack"].sent <= 9_053 * 1.2
    assert 0.23 * 0.8 <= alone["honest"].share_held_up <= 0.30 * 1.2


def test_where_hardly_anybody_is_honest_all_are_challenged_and_those_who_solve_get_their_code() -> None:
    def trace() -> object:
        chance = random.Random(9)
        return merged(
            poisson(chance, "warming", 0.05, 0, 1_200, BUSY[:5], 0.75),
            poisson(chance, "honest", 0.05, 1_200, 3_600, BUSY[:5], 0.75),
            attack(chance, ATTACKED, from_s=1_200, for_s=2_400),
        )

    alone = run(trace(), windows_only=True)  # type: ignore[arg-type]
    assert alone["attack"].sent == pytest.approx(191, rel=0.2)
    assert alone["honest"].share_held_up > 0.95
    solving = run(trace(), solving=("honest",))  # type: ignore[arg-type]
    assert solving["honest"].sent == solving["honest"].asked
    assert solving["attack"].sent <= 300


def test_who_solves_every_challenge_is_paused() -> None:
    pumped = run(attack(random.Random(2), ATTACKED[:1]), solving=("attack",))["attack"]
    assert pumped.sent <= 250  # ten windows, then pauses with 5 probes in between


# ---- whom it lets by


def full() -> Wards:
    one = wards()
    for _ in range(70):
        one.sent(ask(), PRICE_MICRO, 0.0)
    return one


def test_a_device_that_verified_before_is_let_by() -> None:
    one = full()
    assert one.judge(ask(), Rules(), PRICE_MICRO, 0.0).level is Level.SLIDER
    assert one.judge(ask(known=True), Rules(), PRICE_MICRO, 0.0).level is Level.NOTHING


def test_allowed_prefixes_are_let_by_and_budgets_hold_all_the_same() -> None:
    one = full()
    rules = Rules(allow_prefixes=("+2327",))
    assert one.judge(ask(), rules, PRICE_MICRO, 0.0).level is Level.NOTHING
    poor = Rules(allow_prefixes=("+2327",), budget_day_micro=PRICE_MICRO)
    assert one.judge(ask(), poor, PRICE_MICRO, 0.0) == Judgement(
        Level.REFUSE, ("budget.tenant",), 25 * 3_600.0
    )


def test_who_monitors_sends_everything_and_hears_what_would_have_been() -> None:
    one, rules = full(), Rules(monitor=True)
    judgement = one.judge(ask(), rules, PRICE_MICRO, 0.0)
    assert judgement.level is Level.NOTHING
    assert judgement.reasons == ("pumping.prefix_window", "pumping.country_window")
    assert run(attack(random.Random(1), ATTACKED, for_s=60.0), rules=rules)["attack"].held_up == 0


def test_a_country_that_is_not_enabled_is_refused() -> None:
    rules = Rules(countries=("CN",))
    assert wards().judge(ask(), rules, 1, 0.0) == Judgement(Level.REFUSE, ("country.closed",))
    assert wards().judge(ask("+8613800000", country="CN"), rules, 1, 0.0).level is Level.NOTHING


def test_an_unknown_country_is_a_country_like_another() -> None:
    one = wards()
    for _ in range(60):
        one.sent(ask(country=""), PRICE_MICRO, 0.0)
    assert one.judge(ask("+99999", country=""), Rules(), PRICE_MICRO, 0.0).reasons == (
        "pumping.country_window",
    )


# ---- money


@pytest.mark.parametrize("seed", range(5))
def test_no_day_costs_more_than_its_budget_wherever_it_begins(seed: int) -> None:
    chance, one = random.Random(seed), wards()
    rules = Rules(
        budget_day_micro=1_000_000, budgets={COUNTRY: 700_000}, window_prefix=1_000, window_country=100_000
    )
    spent: list[tuple[float, str, int]] = []
    now_s = 0.0
    for _ in range(6_000):
        now_s += chance.expovariate(1 / 60)
        each = ask(known=True, country=chance.choice((COUNTRY, "NG")))
        price_micro = chance.choice((45_000, 90_000))
        if one.judge(each, rules, price_micro, now_s).level is Level.NOTHING:
            one.sent(each, price_micro, now_s)
            spent.append((now_s, each.country, price_micro))
    for end_s, _, _ in spent:
        day = [each for each in spent if end_s - DAY_S < each[0] <= end_s]
        assert sum(price for _, _, price in day) <= 1_000_000
        assert sum(price for _, country, price in day if country == COUNTRY) <= 700_000
    assert len(spent) > 50


def test_a_budget_says_when_there_is_room_again() -> None:
    one, rules = wards(), Rules(budget_day_micro=100)
    one.sent(ask(known=True), 60, 0.0)
    one.sent(ask(known=True), 30, 7_200.0)
    refused = one.judge(ask(known=True), rules, 60, 10_000.0)
    assert refused.reasons == ("budget.tenant",)
    assert one.judge(ask(known=True), rules, 60, 10_000.0 + refused.retry_after_s - 1).level is Level.REFUSE
    assert wards(spends={(1, ""): {2: 30}}).judge(ask(known=True), rules, 60, 90_000.0).level is Level.NOTHING


# ---- guessing


def test_idea_1_a_spray_of_500000_guesses_meets_codes_of_8_digits_before_a_thousandth_hit_is_expected() -> (
    None
):
    hits, digits, switched = 0.0, 6, None
    for request in range(100_000):
        digits = meter.digits_wanted(hits, 6)
        if digits == 8 and switched is None:
            switched = (request, hits)
        hits += 5 / 10**digits
        assert hits <= 1e-3 + request * 5e-8  # six digits never lead past it
    assert switched is not None
    assert switched[1] < 1e-3
    assert switched[0] == 160
    assert hits < 0.01  # 0.5, were codes not longer


def test_where_a_template_takes_no_longer_code_there_are_fewer_tries_and_a_challenge() -> None:
    one = wards(hits={1: 0.002})
    short = ask(digits_max=6)
    assert one.digits_wanted(short, 6, 0.0) == 6
    assert one.tries_wanted(short, 5, 6) == 3
    assert one.judge(short, Rules(), 1, 0.0) == Judgement(Level.WORK, ("meter",))
    assert one.digits_wanted(ask(), 6, 0.0) == 8
    assert one.tries_wanted(ask(), 5, 8) == 5
    assert one.judge(ask(), Rules(), 1, 0.0).level is Level.NOTHING


def test_beyond_a_hundredth_hit_everybody_is_challenged_even_where_pumping_is_only_monitored() -> None:
    one = wards(hits={1: 0.02})
    assert one.strictness(1) is Strictness.STRICT
    assert one.judge(ask(), Rules(monitor=True), 1, 0.0) == Judgement(Level.WORK, ("meter",))
    assert one.judge(ask(known=True), Rules(), 1, 0.0) == Judgement(Level.WORK, ("meter",))
    assert one.judge(ask(), Rules(allow_prefixes=("+",)), 1, 0.0) == Judgement(Level.WORK, ("meter",))
    assert wards(hits={1: 0.002}).judge(ask(known=True), Rules(), 1, 0.0).level is Level.NOTHING
