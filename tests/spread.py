"""How `pytest -n` spreads the tests over its workers: what shares something dear stays together, and that begins first.

Entry point: Spread, which conftest.py gives to pytest-xdist. Most tests wait as long as they compute, so that there are
more workers than cores; but browsers and whole installs compute all the time, and of each kind few run at once.
"""

import re
from typing import Any, Final

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# A worker that looks at pages starts a program and a browser for them, and each page is dear at first.
PAGES: Final = "our pages"
STRANGERS: Final = "pages of other people, with our widget"
INSTALLS: Final = "installs of many processes"
# What reads all of the program's sources.
READERS: Final = "sources and documents"
FIRST: Final = (INSTALLS, PAGES, STRANGERS)
INSTALLING: Final = re.compile(r"/test_(run(_\w+)?|backup)\.py::")
BROWSING: Final = re.compile(r"/console/test_(openings|pages|safety|walk)\.py::")
STRANGE: Final = re.compile(r"/console/test_(widget|shop)\.py::")
READING: Final = re.compile(r"/test_(house|documents|gotchas|reasons|sources)\.py::")
BRIEF: Final = re.compile(r"/(channels|simulator|vocab|wire)/")  # thousands, of milliseconds each


class Spread(LoadScopeScheduling):  # type: ignore[misc]
    """Gives workers one group of tests, or one test, after the other."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        for group in FIRST:
            if group in self.workqueue:
                self.workqueue.move_to_end(group, last=False)
                break
        super()._assign_work_unit(node)


def group_of(test: str) -> str:
    """Return what a test runs together with; most run with nothing."""
    if STRANGE.search(test):
        return STRANGERS
    if BROWSING.search(test):
        return PAGES
    if INSTALLING.search(test):
        return INSTALLS
    if READING.search(test):
        return READERS
    return test.partition("::")[0] if BRIEF.search(test) else test
