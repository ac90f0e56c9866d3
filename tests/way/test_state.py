"""What a line counts is right to a tenth, forgets after minutes, and is told as people may see it."""

import pytest

from hongyan import clock
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.way import state
from hongyan.way.state import Figures


@pytest.mark.parametrize("latency_ms", [1, 7, 80, 900, 12_000, 3_600_000])
def test_a_percentile_is_right_to_about_a_tenth(latency_ms: int) -> None:
    figures = Figures()
    now_s = clock.now_s()
    for _ in range(9):
        figures.answered("ack", now_s, latency_ms / 1_000)
    figures.answered("ack", now_s, 10 * latency_ms / 1_000)
    (minute,) = figures.lately()
    half, most = state.percentile_ms(minute.ack, 0.5), state.percentile_ms(minute.ack, 0.95)
    assert half is not None
    assert most is not None
    assert half == pytest.approx(latency_ms, rel=0.2, abs=1)
    assert most == pytest.approx(10 * latency_ms, rel=0.2)


def test_nothing_has_no_percentile() -> None:
    assert state.percentile_ms([0] * state.BUCKETS, 0.5) is None


def test_what_is_older_than_some_minutes_is_forgotten() -> None:
    figures = Figures()
    now_s = clock.now_s()
    for minutes in range(2 * state.MINUTES, -1, -1):
        figures.answered("ack", now_s - 60 * minutes, 0.01)
    assert sum(sum(minute.ack) for minute in figures.lately()) == state.MINUTES


def test_a_wrong_number_says_nothing_about_the_channel() -> None:
    figures = Figures()
    figures.settled(Status.DELIVERED, Cause.NONE, 1.0)
    figures.settled(Status.UNDELIVERED, Cause.INVALID_NUMBER, 1.0)
    figures.settled(Status.UNDELIVERED, Cause.NETWORK, 1.0)
    minutes = figures.lately()
    assert (sum(one.delivered for one in minutes), sum(one.failed for one in minutes)) == (1, 1)


def test_the_rate_follows_what_was_submitted() -> None:
    figures = Figures()
    at_s = figures._rate_at_s
    for second in range(1, 60):
        figures.parts += 100
        figures.measure_rate(at_s + second)
    assert figures.rate_per_s == pytest.approx(100, rel=0.01)


def test_the_last_error_is_kept_with_its_words() -> None:
    figures = Figures()
    figures.failed("declined", 1.0, "ID:0076")
    assert figures.last_error == "declined: ID:0076"
