"""Slices, as Linux itself tells them, of processes made for it."""

import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
from typing import Final, NamedTuple

import pytest

from hongyan import turns

GETTING: Final = {"x86_64": 315, "aarch64": 275}  # sched_getattr
WAIT_S: Final = 20.0
FORKING: Final = """
import os, time
input()
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(60)
"""


class Told(NamedTuple):
    """What Linux says of a process."""

    policy: int
    nice: int
    slice_ns: int


def told(process: int) -> Told:
    octets = ctypes.create_string_buffer(turns.ATTRIBUTES.size)
    ctypes.CDLL(None).syscall(GETTING[platform.machine()], process, octets, turns.ATTRIBUTES.size, 0)
    _, policy, _, nice, _, slice_ns, _, _ = turns.ATTRIBUTES.unpack(octets.raw)
    return Told(policy, nice, slice_ns)


def report(preparing: str) -> tuple[bool, Told, Told]:
    """Let a process come early that was prepared so: whether it could, and what is said of it before and after."""
    program = (
        f"import json, os, test_turns; from hongyan import turns; {preparing}; before = test_turns.told(0); "
    )
    program += "print(json.dumps((turns.come_early(0), before, test_turns.told(0))))"
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=paths, capture_output=True, timeout=WAIT_S, check=True
    )
    could, before, after = json.loads(done.stdout)
    return could, Told(*before), Told(*after)


@pytest.fixture(autouse=True)
def _slices() -> None:
    if platform.machine() not in GETTING or not told(0).slice_ns or told(0).policy != os.SCHED_OTHER:
        pytest.skip("we have no slices of our own here")


def test_a_process_gets_a_short_slice_and_keeps_its_share() -> None:
    could, before, after = report("os.nice(3)")
    assert could
    assert after == before._replace(slice_ns=turns.SLICE_NS)
    assert before.slice_ns > turns.SLICE_NS


def test_another_process_and_its_children_to_come_get_it_too() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as one:
        try:
            assert one.stdin
            assert one.stdout
            assert turns.come_early(one.pid)
            one.stdin.write(b"\n")
            one.stdin.flush()
            child = int(one.stdout.readline())
            assert {told(one.pid).slice_ns, told(child).slice_ns} == {turns.SLICE_NS}
        finally:
            os.killpg(one.pid, signal.SIGKILL)


@pytest.mark.parametrize("policy", ["os.SCHED_BATCH", "os.SCHED_IDLE"])
def test_a_process_of_another_class_is_left_as_it_is(policy: str) -> None:
    could, before, after = report(f"os.sched_setscheduler(0, {policy}, os.sched_param(0))")
    assert not could
    assert after == before


def test_a_process_that_is_gone_is_no_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as one:
        pass
    assert not turns.come_early(one.pid)
