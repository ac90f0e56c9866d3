"""Fixtures every room's tests may use, and the `needs` mark.

`database` is the DSN of a fresh, migrated database of one test. `@pytest.mark.needs("tshark")` skips where
that program is absent; how many were skipped, and for want of what, stands at the end of the run.
"""

import asyncio
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import pytest
import uvloop

import database as databases

ABSENT: Final = "skipped because absent: "

# Where an image forbids it, each of some hundred processes would compile the whole program anew, and each run the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on the loop that the program runs on."""
    return {"uvloop": uvloop.new_event_loop}


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
            if shutil.which(program, path=_PATH) is None:
                pytest.skip(ABSENT + program)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    absent = Counter(
        str(report.longrepr[2]).partition(ABSENT)[2]
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple) and ABSENT in report.longrepr[2]
    )
    for program, count in sorted(absent.items()):
        terminalreporter.write_line(f"skipped because {program} is absent: {count}")


# Debian puts servers such as Kannel's bearerbox where a user's PATH does not look.
_PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
