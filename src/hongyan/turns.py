"""How soon a process that has woken gets a core that others use too.

Linux (EEVDF) lets who wakes wait for the end of the slice of whoever runs, unless its own slice is the shorter one. A short
slice gives no greater share of a core: what somebody waits for is done sooner, and in smaller pieces. It needs no privilege.
Niceness gives a smaller share, to who does what nobody waits for. A sandbox may refuse either; the program goes on without.
Entry points: come_early() and stand_back().
"""

import ctypes
import os
import platform
import struct
from typing import Final

SLICE_NS: Final = 300_000  # the kernel's own is 1.4 ms on two cores, 2.8 on eight and more
NICE: Final = 5  # a third of the share of a core that both want
_CALLS: Final = {"x86_64": 314, "aarch64": 274}  # sched_setattr, which few C libraries offer
# struct sched_attr, first version: size, policy, flags, nice, priority, runtime (the slice), deadline, period
ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")


def come_early(process: int) -> bool:
    """Give a process (0: our own) a short slice; its children to come inherit it. Before Linux 6.12 that changes nothing.

    False where it cannot be given: to a process that is gone, of another class, or not ours, and on another system.
    """
    call = _CALLS.get(platform.machine())
    try:
        if call is None or os.sched_getscheduler(process) != os.SCHED_OTHER:
            return False
        nice = os.getpriority(os.PRIO_PROCESS, process)
    except (AttributeError, OSError):
        return False
    attributes = ATTRIBUTES.pack(ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, SLICE_NS, 0, 0)
    return bool(ctypes.CDLL(None).syscall(call, process, attributes, 0) == 0)


def stand_back() -> bool:
    """Let other processes go first where cores are short. False where the system does not let us."""
    try:
        os.nice(NICE)
    except OSError:
        return False
    return True
