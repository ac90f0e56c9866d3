"""A short run of bench/fuzz_wire.py; the long one is run by hand."""

import runpy
from pathlib import Path

FUZZ_WIRE = Path(__file__).parents[2] / "bench" / "fuzz_wire.py"


def test_mutated_pdus_raise_nothing_but_remote_protocol_errors() -> None:
    counts = runpy.run_path(str(FUZZ_WIRE))["fuzz"](count=100_000, seed=20261125)
    assert counts.decoded + counts.unreadable == 100_000
    assert counts.decoded > 10_000
    assert counts.unreadable > 10_000
    assert counts.closed > 100
