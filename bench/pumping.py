"""What the guard against SMS pumping makes of the reference's traffic, through a real door: `make bench ARGS="pumping many"`.

Each trace named (without names: all but `cold`, which is 108,000 codes) goes over HTTP into a door with its issuer, checker and
database; the clerk's duties are done between steps, and time is moved by hand, so an hour takes as long as its requests do.
First with the credit windows alone, as the reference reckoned, then with the whole guard. Prints messages sent to the attack,
honest people held up, and alarms, beside the reference's figures and those of the same rules without a door.
"""

import argparse
import logging
import os
import sys
import time
from pathlib import Path

import structlog
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the traces are the tests' own

import database as databases
from otp.replay import Replayed, replay
from otp.traces import TRACES, Outcome, run

COLUMNS = ("trace", "messages to the attack", "honest people held up", "alarmed", "seconds")
SLOW = ("cold",)


def attack_of(outcomes: dict[str, Outcome]) -> str:
    one = outcomes.get("attack")
    return f"{one.sent:,} of {one.asked:,}" if one else "-"


def honest_of(outcomes: dict[str, Outcome]) -> str:
    one = outcomes.get("honest")
    return f"{one.share_held_up:.2%} of {one.asked:,}" if one else "-"


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def through_a_door(template: databases.Template, name: str, *, step_s: float, windows_only: bool) -> None:
    began = time.monotonic()
    with databases.clone(template) as dsn:
        found: Replayed = uvloop.run(
            replay(dsn, TRACES[name].make(), step_s=step_s, windows_only=windows_only)
        )
    prefixes = sum(bool(prefix) for _, prefix in found.alarmed)
    told = f"{prefixes} prefixes, {len(found.alarmed) - prefixes} countries"
    what = "windows alone" if windows_only else "whole guard"
    outcomes = found.outcomes
    took_s = round(time.monotonic() - began)
    row(f"{what}, door", attack_of(outcomes), honest_of(outcomes), "-" if windows_only else told, took_s)


def main() -> None:
    """Lead the traces through, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="*", choices=[[], *TRACES], help="which; without: all but the slow")
    parser.add_argument("--step", type=float, default=5.0, help="seconds that time moves by at once")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    os.environ["HONGYAN_ALLOW_UNSAFE_DATABASE"] = "yes"
    names = asked.traces or [name for name in TRACES if name not in SLOW]
    with databases.serve() as template:
        row(*COLUMNS)
        row(*("---" for _ in COLUMNS))
        for name in names:
            row(f"**{name}**, reference", TRACES[name].sent, TRACES[name].held_up, "-", "")
            for windows_only in (True, False):
                reckoned = run(TRACES[name].make(), windows_only=windows_only)
                what = "windows alone" if windows_only else "whole guard"
                row(f"{what}, reckoned", attack_of(reckoned), honest_of(reckoned), "", "")
                through_a_door(template, name, step_s=asked.step, windows_only=windows_only)


if __name__ == "__main__":
    main()
