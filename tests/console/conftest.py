"""One program a worker, one browser a module: a browser's loop would stand in the way of other modules' tests."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache

import pytest
from playwright.sync_api import Browser

from console import hostile as texts
from console import sight

People = Callable[[sight.Who, sight.Language, sight.Theme, int], sight.Sight]


@pytest.fixture(scope="package")
def demo() -> Iterator[sight.Demo]:
    with sight.demo() as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sight.browsing() as one:
        yield one


@pytest.fixture(scope="module")
def people(browser: Browser, demo: sight.Demo) -> Iterator[People]:
    """People who stay signed in for a module, each at a browser of their own: coming in takes longer than looking."""
    with ExitStack() as stack:

        @cache
        def person(who: sight.Who, language: sight.Language, theme: sight.Theme, width: int) -> sight.Sight:
            return stack.enter_context(sight.Sight(browser, demo, who, language, theme, width))

        yield person


@pytest.fixture(scope="package")
def laid() -> dict[str, Mapping[str, str]]:
    return {}


@pytest.fixture
def hostile(laid: dict[str, Mapping[str, str]], browser: Browser, demo: sight.Demo) -> Mapping[str, str]:
    """What hostile.py lays, once a program."""
    if demo.base not in laid:
        laid[demo.base] = texts.lay(browser, demo)
    return laid[demo.base]
