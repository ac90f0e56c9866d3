"""Sliding logs, alone and in the database."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

import make
from hongyan import db
from hongyan.otp import limits
from hongyan.otp.limits import Held, Window
from hongyan.otp.policy import Policy
from hongyan.vocab.verification import Level

NOW_S = 1_800_000_000.0
HOUR = Window("hour", 3_600, 5, Level.REFUSE)
SOFT = Window("soft", 3_600, 2, Level.WORK)


def ms(*ages_s: float) -> list[int]:
    return [int((NOW_S - age) * 1_000) for age in ages_s]


@given(st.lists(st.integers(0, 7_200_000), max_size=40))
def test_in_no_hour_more_pass_than_a_window_lets(gaps_ms: list[int]) -> None:
    passed: list[int] = []
    at = 0
    for gap in gaps_ms:
        at += gap
        said = limits.asked(passed, [HOUR], at / 1_000)
        within = [hit for hit in passed if hit > at - 3_600_000]
        assert (said.level is Level.REFUSE) is (len(within) >= 5)
        if said.level is Level.NOTHING:
            passed.append(at)
        else:  # and it is free again exactly when it says
            assert (
                limits.asked(passed, [HOUR], at / 1_000 + said.retry_after_s + 0.001).level is Level.NOTHING
            )
            assert limits.asked(passed, [HOUR], at / 1_000 + said.retry_after_s - 0.01).level is Level.REFUSE


def test_the_strictest_window_speaks_and_among_such_the_longest() -> None:
    hits = ms(3_500, 3_400, 50, 40, 30)
    minute = Window("minute", 60, 1, Level.REFUSE)
    assert limits.asked(hits, [SOFT, minute, HOUR], NOW_S).name == "hour"
    assert limits.asked(hits[-1:], [SOFT, minute, HOUR], NOW_S).name == "minute"
    assert limits.asked(ms(500, 400), [SOFT, HOUR], NOW_S) == limits.Said(Level.WORK, "soft", 3_100.0)


def test_what_is_left_is_told_of_hard_windows_alone() -> None:
    assert limits.left(ms(10, 20), [SOFT, HOUR], NOW_S) == {"hour": 3}


def test_a_policy_of_ones_own_moves_the_windows() -> None:
    names = {window.name: window.most for window in limits.of_number(Policy(number_hour=3))}
    assert names == {"number_minute": 1, "number_hour": 3, "number_day": 10}


async def test_two_doors_never_let_one_more_pass_together(database: str) -> None:
    opened = await db.connect(database, make.SETTINGS)

    async def ask() -> int:
        async with opened.transaction() as tx:
            held = await Held.lock(tx, [b"a", b"b"], [], NOW_S)
            passes = limits.asked(held[b"a"].hits, [HOUR], NOW_S).level is Level.NOTHING
            if passes:
                held[b"a"].hit(NOW_S)
            await held.store(tx, NOW_S)
            return passes

    try:
        assert sum(await asyncio.gather(*(ask() for _ in range(20)))) == HOUR.most
    finally:
        await opened.close()


async def test_wrong_codes_are_kept_through_new_codes_and_only_a_right_one_begins_anew(database: str) -> None:
    opened = await db.connect(database, make.SETTINGS)
    try:
        async with opened.transaction() as tx:
            for minute in range(100):
                await limits.checked(tx, {b"n": 1}, (), NOW_S + 60 * minute)
            row = (await Held.lock(tx, [b"n"], [], NOW_S + 6_000))[b"n"]
            assert (row.failures, len(row.hits)) == (100, limits.FAILURES_KEPT)
            assert limits.failed_too_often(row, NOW_S + 6_000) is not None
            await limits.checked(tx, {}, [b"n"], NOW_S + 6_000)
            row = (await Held.lock(tx, [b"n"], [], NOW_S + 6_000))[b"n"]
            assert (row.failures, row.proved_at_s) == (0, NOW_S + 6_000)
    finally:
        await opened.close()
