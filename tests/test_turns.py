"""Slices and niceness, as Linux itself tells them, of processes made for it."""

import ctypes
import json
import os
import platform
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hongyan import turns

SETTING: Final = {"x86_64": 314, "aarch64": 274}  # sched_setattr
GETTING: Final = {"x86_64": 315, "aarch64": 275}  # sched_getattr
SETPRIORITY: Final = {"x86_64": 141, "aarch64": 140}
UNITS: Final = sorted((Path(__file__).parents[1] / "deploy" / "systemd").glob("*.service"))
WAIT_S: Final = 20.0
FORKING: Final = """
import os, time
input()
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(60)
"""


knows_calls = pytest.mark.skipif(
    platform.machine() not in SETPRIORITY, reason="we do not know this machine's system calls"
)


def have_usual_slice() -> None:
    """Have the kernel's own slice, whoever in the process that began us was given another before."""
    attributes = turns.ATTRIBUTES.pack(turns.ATTRIBUTES.size, os.SCHED_OTHER, 0, os.nice(0), 0, 0, 0, 0)
    ctypes.CDLL(None).syscall(SETTING[platform.machine()], 0, attributes, 0)


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


def deny(call: int) -> None:
    """Have this process and its children refused a system call with EPERM, as a unit of systemd does (seccomp)."""
    load_number, if_equal, answer = 0x20, 0x15, 0x06
    allowed, refused = 0x7FFF0000, 0x00050001
    steps = ((load_number, 0, 0, 0), (if_equal, 0, 1, call), (answer, 0, 0, refused), (answer, 0, 0, allowed))
    program = b"".join(struct.pack("=HBBI", *step) for step in steps)
    kept = ctypes.create_string_buffer(program)
    pointed = struct.pack("@HP", len(steps), ctypes.addressof(kept))
    c = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, seccomp, filtering = 38, 22, 2
    for arguments in ((no_new_privileges, 1, 0, 0, 0), (seccomp, filtering, pointed, 0, 0)):
        if c.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


def said_without_niceness(program: str, given: Path = Path(os.devnull)) -> bytes:
    """What a program says that may not change its niceness."""
    denying = f"import test_turns; test_turns.deny({SETPRIORITY[platform.machine()]}); "
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with given.open("rb") as stdin:
        return subprocess.run(
            [sys.executable, "-c", denying + program], env=paths, stdin=stdin,
            stdout=subprocess.PIPE, timeout=WAIT_S, check=True,
        ).stdout  # fmt: skip


def report(preparing: str) -> tuple[bool, Told, Told]:
    """Let a process come early that was prepared so: whether it could, and what is said of it before and after."""
    program = (
        "import json, os, test_turns; from hongyan import turns; test_turns.have_usual_slice(); "
        f"{preparing}; before = test_turns.told(0); "
    )
    program += "print(json.dumps((turns.come_early(0), before, test_turns.told(0))))"
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=paths, capture_output=True, timeout=WAIT_S, check=True
    )
    could, before, after = json.loads(done.stdout)
    return could, Told(*before), Told(*after)


@pytest.fixture
def _slices() -> None:
    if platform.machine() not in GETTING or not told(0).slice_ns or told(0).policy != os.SCHED_OTHER:
        pytest.skip("we have no slices of our own here")


@pytest.mark.usefixtures("_slices")
def test_a_process_gets_a_short_slice_and_keeps_its_share() -> None:
    could, before, after = report("os.nice(3)")
    assert could
    assert after == before._replace(slice_ns=turns.SLICE_NS)
    assert before.slice_ns > turns.SLICE_NS


@pytest.mark.usefixtures("_slices")
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


@pytest.mark.usefixtures("_slices")
@pytest.mark.parametrize("policy", ["os.SCHED_BATCH", "os.SCHED_IDLE"])
def test_a_process_of_another_class_is_left_as_it_is(policy: str) -> None:
    could, before, after = report(f"os.sched_setscheduler(0, {policy}, os.sched_param(0))")
    assert not could
    assert after == before


def test_a_process_that_is_gone_is_no_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as one:
        pass
    assert not turns.come_early(one.pid)


def test_a_process_stands_back() -> None:
    program = "import os; from hongyan import turns; print(turns.stand_back(), os.nice(0) - int(os.environ['BEFORE']))"
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "BEFORE": str(os.nice(0))}
    said = subprocess.check_output([sys.executable, "-c", program], env=environment, timeout=WAIT_S)
    assert said.split() == [b"True", b"%d" % turns.NICE]


@knows_calls
def test_who_may_not_stand_back_goes_on_as_he_is() -> None:
    assert said_without_niceness("from hongyan import turns; print(turns.stand_back())") == b"False\n"


@knows_calls
def test_a_table_is_read_where_niceness_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "numbers.csv"
    table.write_text("to\n13800138000\n")
    reading = "import sys; from hongyan.control import tables; sys.argv[1:] = ['read', 'csv']; tables.main()"
    assert b"13800138000" in said_without_niceness(reading, table)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_allow_what_turns_are_made_of(unit: Path) -> None:
    filters = [line for line in unit.read_text().splitlines() if line.startswith("SystemCallFilter=")]
    assert filters[0] == "SystemCallFilter=@system-service"
    denied: Sequence[str] = [name for line in filters[1:] for name in line.partition("=~")[2].split()]
    assert denied
    assert "@resources" not in denied
