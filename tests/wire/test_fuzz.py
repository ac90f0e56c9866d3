"""A short run of bench/fuzz_wire.py; the long one is run by hand."""

import runpy
from pathlib import Path

import pytest

FUZZ_WIRE = Path(__file__).parents[2] / "bench" / "fuzz_wire.py"


@pytest.mark.parametrize("protocol", ["smpp", "cmpp2", "cmpp3", "sgip", "smgp"])
def test_mutated_pdus_raise_nothing_but_remote_protocol_errors(protocol: str) -> None:
    counts = runpy.run_path(str(FUZZ_WIRE))["fuzz"](count=50_000, seed=20261125, protocol=protocol)
    assert counts.decoded + counts.unreadable == 50_000
    assert counts.decoded > 5_000
    assert counts.unreadable > 5_000
    assert counts.closed > 50
