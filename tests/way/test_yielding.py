"""Promotions make room for codes and notices while the machine is busy, and for nobody else."""

import pytest

from hongyan.way.yielding import MEMORY_S, OTHERS_S, RATE_MIN, SHARE, SLACK_S, Yielding

SHORT_S = 0.001
BUSY_S = 0.006


class Machine:
    """Ticks every 10 ms; as many promotions as may leave do, up to so many a second."""

    def __init__(self, capacity: float = 5_000.0, shortest_s: float = SHORT_S) -> None:
        self.yielding = Yielding()
        self.now_s = 1_000.0
        self._capacity = capacity
        self.yielding.ticked(shortest_s, self.now_s)

    def run(self, seconds: float, *, took_s: float, others: bool) -> float:
        """Return how many promotions left a second."""
        left = 0
        for _ in range(round(seconds * 100)):
            self.now_s += 0.01
            if others:
                self.yielding.others(self.now_s)
            for _ in range(round(self._capacity / 100)):
                if not self.yielding.lets(self.now_s):
                    break
                self.yielding.left()
                left += 1
            self.yielding.ticked(took_s, self.now_s)
        return left / seconds


def test_promotions_alone_leave_as_fast_as_they_can_however_long_commits_take() -> None:
    assert Machine(5_000).run(3, took_s=BUSY_S, others=False) == 5_000


def test_beside_codes_they_leave_as_fast_as_they_can_while_commits_are_short() -> None:
    assert Machine(5_000).run(3, took_s=SHORT_S, others=True) == 5_000


def test_beside_codes_they_slow_down_while_commits_are_long_and_never_stand_still() -> None:
    machine = Machine(5_000)
    machine.run(1, took_s=BUSY_S, others=True)
    assert machine.run(1, took_s=BUSY_S, others=True) < 500
    machine.run(10, took_s=BUSY_S, others=True)
    assert RATE_MIN * 0.5 <= machine.run(2, took_s=BUSY_S, others=True) <= RATE_MIN


def test_when_commits_are_short_again_they_gain_speed() -> None:
    machine = Machine(5_000)
    slow = machine.run(2, took_s=BUSY_S, others=True)
    machine.run(3, took_s=SHORT_S, others=True)
    assert machine.run(1, took_s=SHORT_S, others=True) > 2 * slow


def test_when_nobody_else_has_come_for_a_while_they_have_the_machine_again() -> None:
    machine = Machine(5_000)
    machine.run(3, took_s=BUSY_S, others=True)
    machine.run(OTHERS_S + 0.1, took_s=BUSY_S, others=False)
    assert machine.run(1, took_s=BUSY_S, others=False) == 5_000


@pytest.mark.parametrize("shortest_s", [0.0005, 0.01])
def test_what_is_long_is_measured_by_the_shortest_commit_of_the_machine(shortest_s: float) -> None:
    limit_s = SHARE * shortest_s + SLACK_S
    assert Machine(shortest_s=shortest_s).run(3, took_s=limit_s - 0.0001, others=True) == 5_000
    slow = Machine(shortest_s=shortest_s)
    slow.run(2, took_s=limit_s + 0.0001, others=True)
    assert slow.run(1, took_s=limit_s + 0.0001, others=True) < 500


def test_a_machine_whose_disk_has_become_slower_is_learned_anew() -> None:
    machine = Machine()
    machine.run(2 * MEMORY_S + 20, took_s=BUSY_S, others=True)
    assert machine.run(1, took_s=BUSY_S, others=True) == 5_000


def test_promotions_have_a_rate_only_beside_others() -> None:
    machine = Machine()
    machine.run(1, took_s=BUSY_S, others=False)
    assert not machine.yielding.holds
    machine.run(1, took_s=BUSY_S, others=True)
    assert machine.yielding.holds


def test_two_commits_in_one_tick_of_the_clock_are_no_measure_of_a_rate() -> None:
    yielding = Yielding()
    yielding.others(1.0)
    yielding.ticked(SHORT_S, 1.0)
    yielding.ticked(BUSY_S, 1.0)
    assert not yielding.holds
    yielding.ticked(BUSY_S, 1.01)
    assert yielding.holds
