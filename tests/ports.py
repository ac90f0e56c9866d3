"""Ports for servers that must be told theirs, taken so that no two tests and no client has the same.

Below those that the system gives to whoever connects: one of these may be gone before the server listens. Each worker
has a slice of its own and goes round in it: two installs whose doors share a port (SO_REUSEPORT) would share callers.
"""

import itertools
import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

FIRST: Final = 10_000
SLICE: Final = 2_000
SLICES: Final = 8  # 10,000 to 25,999; the demo's operator has its ports from 27,000 on
TRIES: Final = 500


def _slice() -> Iterator[int]:
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % SLICES
    begin = FIRST + number * SLICE
    # Anywhere in it: another run of the suite may be going on.
    turned = random.randrange(SLICE)
    return itertools.cycle(begin + (turned + place) % SLICE for place in range(SLICE))


_ports: Final = _slice()


def free_port() -> int:
    """Return a port that nobody has, and that nobody else is given before this worker has gone round."""
    for port in itertools.islice(_ports, TRIES):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"none of {TRIES} ports is free")
