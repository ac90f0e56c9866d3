"""Fixtures every room's tests may use, and the `needs` mark.

`database` is the DSN of a fresh, migrated database of one test. `@pytest.mark.needs("tshark")` skips where
that program is absent; how many were skipped, and for want of what, stands at the end of the run.
"""

import asyncio
import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final

import hypothesis
import pytest
import uvloop

import database as databases
import programs

ABSENT: Final = "skipped because absent: "
GC_YOUNG, GC_MIDDLE, GC_OLD = 50_000, 20, 50  # as the program's: src/hongyan/rooms.py

# What does not balance is shown, and not only that it does not.
pytest.register_assert_rewrite("install", "plane")
# How long an example takes, on a machine that does other things meanwhile, is no law of ours.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

# Where an image forbids it, each of some hundred processes would compile the whole program anew, and each run the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on the loop that the program runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Spread the tests as spread.py says; another `--dist` is as pytest-xdist has it."""
    if config.getvalue("dist") != "load":
        return None
    from spread import Spread

    return Spread(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the collector from walking thousands of tests again and again: a tenth of the time of all."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_YOUNG, GC_MIDDLE, GC_OLD)


@pytest.fixture(scope="session")
def database_template() -> Iterator[databases.Template]:
    with databases.serve() as template:
        yield template


@pytest.fixture
def database(database_template: databases.Template, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The DSN of a database of this test alone, with every migration applied."""
    monkeypatch.setenv("HONGYAN_ALLOW_UNSAFE_DATABASE", "yes")  # see tests/database.py
    with databases.clone(database_template) as dsn:
        yield dsn


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for program in mark.args:
            if programs.find(program) is None:
                pytest.skip(ABSENT + program)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    absent = Counter(
        str(report.longrepr[2]).partition(ABSENT)[2]
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple) and ABSENT in report.longrepr[2]
    )
    for program, count in sorted(absent.items()):
        terminalreporter.write_line(f"skipped because {program} is absent: {count}")
