"""The two detectors by themselves: what the CUSUM is published to do, what it learns, and what follows an alarm."""

import random
import statistics
from collections.abc import Iterator

import pytest

from hongyan.otp.ward import (
    ALARM,
    ALARM_S,
    COUNTRY_START,
    CURVE,
    P0_MAX,
    PAUSE_S,
    PREFIX_START,
    PROBE_GAP_S,
    PROBES_RIGHT,
    PROBES_WRONG,
    CurvePoint,
    Turn,
    Ward,
    step,
)
from hongyan.vocab.verification import Level


def prefix(**fields: float) -> Ward:
    return Ward(1, "SL", "+23270001", credit=PREFIX_START, **fields)  # type: ignore[arg-type]


def codes_until_alarm(chance: random.Random, ward: Ward, conversion: float, most: int = 3_000) -> int | None:
    for number in range(1, most + 1):
        ward.outstanding += 1
        ward.matured(chance.random() < conversion, 1, 0.0, ward.baseline(), float(number))
        if ward.turn:
            return number
    return None


def alarm(ward: Ward, now_s: float) -> None:
    while ward.turn is Turn.CLEAR:
        ward.matured(False, 1, now_s, P0_MAX, now_s)


# ---- the CUSUM


def fixed(chance: random.Random, conversion: float) -> int | None:
    evidence = 0.0
    for number in range(1, 3_001):
        evidence = max(0.0, evidence + step(chance.random() < conversion, P0_MAX))
        if evidence >= ALARM:
            return number
    return None


@pytest.mark.parametrize("point", CURVE, ids=lambda point: f"{point.conversion:.0%}")
def test_the_published_curve_is_what_the_detector_does(point: CurvePoint) -> None:
    chance = random.Random(4)
    runs = 150
    found = [number for _ in range(runs) if (number := fixed(chance, point.conversion)) is not None]
    assert len(found) / runs == pytest.approx(point.alarmed, abs=0.1)
    if point.codes_median is not None and point.alarmed > 0.1:
        assert statistics.median(found) == pytest.approx(point.codes_median, rel=0.25, abs=1)


# Of the reference: conversion, share alarmed within 3,000, median.
REFERENCE = (
    (0.0, 1.0, 13),
    (0.1, 1.0, 16),
    (0.2, 1.0, 24),
    (0.3, 1.0, 39),
    (0.4, 1.0, 139),
    (0.5, 0.73, 1_082),
)


def test_the_curve_is_the_reference_s_within_a_fifth() -> None:
    ours = {point.conversion: point for point in CURVE}
    for conversion, alarmed, median in REFERENCE:
        assert ours[conversion].alarmed == pytest.approx(alarmed, rel=0.2)
        assert ours[conversion].codes_median == pytest.approx(median, rel=0.2)
    assert ours[0.6].alarmed == pytest.approx(0.04, abs=0.02)
    assert ours[0.7].alarmed < 0.005


@pytest.mark.parametrize("conversion", [0.0, 0.02, 0.04])
def test_closing_12_a_prefix_that_falls_from_70_to_below_5_percent_is_alarmed_within_20_codes(
    conversion: float,
) -> None:
    assert alarmed_within_20(conversion) >= 0.95


def test_closing_12_at_5_percent_the_20_codes_are_just_enough() -> None:
    assert alarmed_within_20(0.05) == pytest.approx(
        0.95, abs=0.02
    )  # the error of 400 runs; 20,000 gave 0.948


def alarmed_within_20(conversion: float) -> float:
    """Return the share of prefixes, used to 70 in 100, that are alarmed within 20 codes of a fall."""
    chance = random.Random(12)
    took: list[bool] = []
    while len(took) < 400:
        ward = prefix()
        if codes_until_alarm(chance, ward, 0.7, 300) is None:
            took.append(codes_until_alarm(chance, ward, conversion, 20) is not None)
    return sum(took) / len(took)


def test_closing_12_at_a_constant_70_percent_nothing_is_alarmed_in_3000_codes() -> None:
    chance = random.Random(12)
    alarmed = [codes_until_alarm(chance, prefix(), 0.7) for _ in range(60)]
    assert sum(each is not None for each in alarmed) <= 1  # one in a thousand is


def test_who_is_honest_at_half_is_learnt_and_left_alone() -> None:
    chance = random.Random(5)
    alarmed = [codes_until_alarm(chance, prefix(), 0.5) for _ in range(60)]
    assert sum(each is not None for each in alarmed) <= 6  # 44 of 60, were the baseline not learnt


def test_an_attack_teaches_nothing() -> None:
    ward, chance = prefix(), random.Random(6)
    assert codes_until_alarm(chance, ward, 0.7, 500) is None
    before = (ward.codes, ward.verified)
    assert codes_until_alarm(chance, ward, 0.0) is not None
    assert ward.codes <= before[0] + 3  # what evidence was not there for yet
    assert ward.baseline() >= 0.65


def test_a_baseline_that_people_have_said_holds() -> None:
    ward = prefix()
    alarm(ward, 1.0)
    ward.release(0.3, 2.0)
    chance = random.Random(7)
    assert ward.baseline() == 0.3
    assert codes_until_alarm(chance, ward, 0.3, 1_000) is None
    assert codes_until_alarm(chance, ward, 0.0) is not None  # and an attack shows all the same


def test_a_prefix_begins_with_what_its_country_is_used_to() -> None:
    country = Ward(1, "SL", "", codes=2_000, verified=900)
    assert country.baseline() == pytest.approx(0.46, abs=0.02)
    assert prefix().baseline(country.baseline()) == pytest.approx(0.57, abs=0.02)  # a standard error above it
    assert prefix(codes=1_000, verified=700).baseline(country.baseline()) == pytest.approx(0.7, abs=0.02)


# ---- the credit window


def test_a_window_that_is_full_asks_for_work_then_for_a_puzzle_and_tenfold_full_refuses() -> None:
    ward = prefix()
    levels = []
    for _ in range(105):
        levels.append(ward.judge(0.0).level)
        ward.sent(0.0)
    assert levels == [Level.NOTHING] * 10 + [Level.WORK] * 10 + [Level.SLIDER] * 80 + [Level.REFUSE] * 5
    assert ward.judge(0.0).reason == "pumping.prefix_window"


def test_a_window_shrinks_by_half_a_message_to_its_floor_and_grows_by_who_verifies() -> None:
    ward, country = prefix(outstanding=40), Ward(1, "SL", "", credit=COUNTRY_START, outstanding=400)
    for _ in range(40):
        ward.credited(False, 1, 0.0)
    for _ in range(400):
        country.credited(False, 1, 0.0)
    assert (ward.credit, country.credit) == (1.0, 5.0)
    assert (ward.outstanding, country.outstanding) == (0, 0)
    ward.credited(True, 1, 0.0)
    assert ward.credit == 2.0


def test_every_message_of_a_code_gives_its_place_back() -> None:
    ward = prefix(outstanding=3)
    ward.matured(False, 3, 0.0, P0_MAX, 1.0)
    assert (ward.outstanding, ward.credit) == (0, 8.5)
    assert ward.evidence == pytest.approx(step(False, P0_MAX))  # one code, whatever the messages


def test_a_window_that_nobody_needs_does_not_grow() -> None:
    ward = prefix()
    for _ in range(10_000):
        ward.sent(0.0)
        ward.credited(True, 1, 0.0)
    assert ward.credit <= 4 * PREFIX_START


# ---- what follows


def probes(ward: Ward, now_s: float, gap_s: float = 1.0) -> Iterator[float]:
    """Send whenever it may be, and yield when."""
    while True:
        if ward.judge(now_s).level is not Level.REFUSE:
            ward.sent(now_s)
            yield now_s
        now_s += gap_s


def paused() -> Ward:
    """A prefix where challenges did not help, paused at 2."""
    ward = prefix()
    alarm(ward, 1.0)
    while ward.turn is Turn.ALARMED:
        ward.matured(False, 1, 2.0, P0_MAX, 2.0)
    return ward


def test_an_alarm_asks_for_a_puzzle_and_ends_once_people_verify_and_its_time_is_over() -> None:
    ward = prefix()
    alarm(ward, 1.0)
    assert ward.judge(1.0) == (Level.SLIDER, "pumping.prefix_cusum", 0.0)
    turns = []
    for now_s in (*(2.0,) * 10, 1.0 + ALARM_S):
        ward.matured(True, 1, 2.0, P0_MAX, now_s)
        turns.append(ward.turn)
    assert turns == [Turn.ALARMED] * 10 + [Turn.CLEAR]


def test_what_was_sent_before_the_alarm_does_not_say_that_challenges_fail() -> None:
    ward = prefix()
    alarm(ward, 100.0)
    for _ in range(1_000):
        ward.matured(False, 1, 99.0, P0_MAX, 200.0)
    assert ward.turn is Turn.ALARMED


def test_a_prefix_where_challenges_do_not_help_is_paused_for_half_an_hour_then_probed_once_a_minute() -> None:
    ward = paused()
    assert ward.turn is Turn.PAUSED
    refused = ward.judge(2.0)
    assert (refused.level, refused.reason, refused.retry_after_s) == (
        Level.REFUSE,
        "pumping.prefix_paused",
        PAUSE_S,
    )
    sent = [at_s for at_s, _ in zip(probes(ward, 2.0), range(4), strict=False)]
    assert sent == [2.0 + PAUSE_S + number * PROBE_GAP_S for number in range(4)]


def test_probes_that_verify_open_a_prefix_and_others_pause_it_anew() -> None:
    good, bad = paused(), paused()
    for _ in range(PROBES_RIGHT):
        good.matured(True, 1, 2_000.0, P0_MAX, 2_010.0)
    assert good.turn is Turn.ALARMED
    for _ in range(PROBES_WRONG):
        bad.matured(False, 1, 2_000.0, P0_MAX, 2_300.0)
    assert (bad.turn, bad.turned_at_s) == (Turn.PAUSED, 2_300.0)


def test_a_country_is_challenged_and_never_paused() -> None:
    country = Ward(1, "SL", "", credit=COUNTRY_START)
    alarm(country, 1.0)
    assert country.judge(1.0).level is Level.WORK
    for _ in range(1_000):
        country.matured(False, 1, 2.0, P0_MAX, 2.0)
    assert country.judge(2.0) == (Level.SLIDER, "pumping.country_cusum", 0.0)
    for _ in range(100):
        country.matured(True, 1, 3.0, P0_MAX, 3.0 + ALARM_S)
    assert country.turn is Turn.CLEAR


def test_the_end_of_a_rush_is_no_attack() -> None:
    """A thousand codes within a second: whoever verifies does so within a minute, the others end together."""
    ward = prefix()
    chance = random.Random(8)
    rush = [chance.random() < 0.7 for _ in range(1_000)]
    for _ in rush:
        ward.sent(100.0)
    for verified in sorted(rush, reverse=True):
        at_s = 130.0 if verified else 400.0
        ward.matured(verified, 1, 100.0, ward.baseline(), at_s)
    assert (ward.turn, ward.spans, ward.outstanding) == (Turn.CLEAR, [], 0)
    assert ward.codes == pytest.approx(1_000, abs=10)


def test_codes_whose_end_is_never_heard_of_hold_nothing_up_for_long() -> None:
    ward = prefix()
    for _ in range(20):
        ward.sent(100.0)
    ward.sent(100.0, again=True)
    for _ in range(19):
        ward.matured(False, 1, 100.0, P0_MAX, 400.0)
    turns = [ward.turn]
    ward.sent(800.0)
    ward.matured(False, 1, 800.0, P0_MAX, 900.0)
    assert [*turns, ward.turn] == [Turn.CLEAR, Turn.ALARMED]
