"""One program a worker, one browser a module: a browser's loop would stand in the way of other modules' tests."""

from collections.abc import Iterator, Mapping

import pytest
from playwright.sync_api import Browser

from console import hostile as texts
from console import sight


@pytest.fixture(scope="session")
def demo() -> Iterator[sight.Demo]:
    with sight.demo() as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sight.browsing() as one:
        yield one


@pytest.fixture(scope="session")
def laid() -> dict[str, Mapping[str, str]]:
    return {}


@pytest.fixture
def hostile(laid: dict[str, Mapping[str, str]], browser: Browser, demo: sight.Demo) -> Mapping[str, str]:
    """What hostile.py lays, once a program."""
    if demo.base not in laid:
        laid[demo.base] = texts.lay(browser, demo)
    return laid[demo.base]
