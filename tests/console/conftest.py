"""One program, one browser and its people a worker: their loop stands in the way of tests outside of this folder."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from console import hostile as texts
from console import sight

People = Callable[[sight.Who, sight.Language, sight.Theme, int], sight.Sight]


@pytest.fixture(scope="package")
def demo() -> Iterator[sight.Demo]:
    with sight.demo() as one:
        yield one


@pytest.fixture(scope="package")
def playwright(demo: sight.Demo) -> Iterator[Playwright]:
    """Begun after the program, so that it ends before: to stop the program takes a loop."""
    assert demo
    with sync_playwright() as one:
        yield one


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """The browser of our pages: what they do is done once, and to compile it would take longer."""
    with sight.browsing(playwright, "--js-flags=--no-maglev,--no-opt") as one:
        yield one


@pytest.fixture(scope="package")
def strange_browser(playwright: Playwright) -> Iterator[Browser]:
    """The browser of pages with our widget, which has work to do."""
    with sight.browsing(playwright) as one:
        yield one


@pytest.fixture(scope="package")
def people(browser: Browser, demo: sight.Demo) -> Iterator[People]:
    """People who stay signed in, each at a browser of their own: coming in takes longer than looking."""
    with ExitStack() as stack:

        @cache
        def person(who: sight.Who, language: sight.Language, theme: sight.Theme, width: int) -> sight.Sight:
            return stack.enter_context(sight.Sight(browser, demo, who, language, theme, width))

        yield person


@pytest.fixture(scope="package")
def hostile(people: People, demo: sight.Demo) -> Mapping[str, str]:
    """What hostile.py lays."""
    return texts.lay(people("owner", *sight.WIDE), people("operator", *sight.WIDE), demo)
