"""Every page, in both languages and themes, wide and narrow: nothing complains, nothing is in the way of anybody.

A page is looked at in Chinese wide, come to by its address, or in English narrow, come to from another page, by turns;
CONSOLE_LOOKS=all looks at each in both, as whoever changed a page should.
"""

import os
from collections.abc import Mapping
from typing import Final

import pytest
from playwright.sync_api import Browser

from console.conftest import People
from console.hostile import taken
from console.sight import LOOKS, Demo, Language, Sight, Theme, Who

pytestmark = pytest.mark.needs("chromium")

FIRST_PAGE_OCTETS_MAX: Final = 350_000  # of scripts, as they travel
BOTH: Final = ("owner", "operator")
OWNER: Final = ("owner",)
OPERATOR: Final = ("operator",)
NOBODY: Final = ("nobody",)
# Who looks at which page. Every place of the menu and every page of a route is here: test_sources.py. Names in braces are
# ids of hostile.py.
PAGES: Final[dict[str, tuple[Who, ...]]] = {
    "/sign-in": NOBODY,
    "/sign-up": NOBODY,
    "/invitation": NOBODY,
    "/me": BOTH,
    "/": BOTH,
    "/first-steps": OWNER,
    "/statistics": BOTH,
    "/alarms": BOTH,
    "/messages": BOTH,
    "/messages/{message}": BOTH,
    "/send": OWNER,
    "/lists": OWNER,
    "/lists/new": OWNER,
    "/lists/{list}": OWNER,
    "/exports": BOTH,
    "/verifications": BOTH,
    "/verifications/{verification}": OWNER,
    "/funnel": BOTH,
    "/pumping": BOTH,
    "/verification-policies": OWNER,
    "/site-keys": BOTH,
    "/conversions": OPERATOR,
    "/signatures": BOTH,
    "/signatures/new": OWNER,
    "/signatures/{signature}": BOTH,
    "/templates": BOTH,
    "/templates/new": OWNER,
    "/templates/{template}": OWNER,
    "/words": BOTH,
    "/words/{word_list}": OWNER,
    "/filings": OPERATOR,
    "/inbound": BOTH,
    "/opt-outs": BOTH,
    "/blocks": BOTH,
    "/suppressions": BOTH,
    "/complaints": BOTH,
    "/complaints/{complaint}": BOTH,
    "/consents": OWNER,
    "/persons": OWNER,
    "/retention": OPERATOR,
    "/apps": OWNER,
    "/apps/{app}": OWNER,
    "/webhooks": BOTH,
    "/signature-debugger": OWNER,
    "/examples": OWNER,
    "/channels": OPERATOR,
    "/channels/new": OPERATOR,
    "/channels/{channel}": OPERATOR,
    "/routes": OPERATOR,
    "/routes/dry-run": OPERATOR,
    "/configuration": OPERATOR,
    "/configuration/difference": OPERATOR,
    "/configuration/import": OPERATOR,
    "/prices": BOTH,
    "/ledger": BOTH,
    "/bills": OPERATOR,
    "/bills/{bill}": OPERATOR,
    "/reviews": OPERATOR,
    "/reviews/{review}": OPERATOR,
    "/tenants": OPERATOR,
    "/tenants/{tenant}": OPERATOR,
    "/qualification": OWNER,
    "/people": BOTH,
    "/announcements": BOTH,
    "/audit": BOTH,
    "/policies": OPERATOR,
}


def visits() -> list[tuple[Who, str, Language, Theme, int]]:
    """Each page in one look or in both; where two people look at it, by turns or one of them in each."""
    if os.environ.get("CONSOLE_LOOKS") == "all":
        return [
            (people[place % len(people)], path, *look)
            for place, look in enumerate(LOOKS)
            for path, people in PAGES.items()
        ]
    chosen = []
    for people in (NOBODY, OWNER, OPERATOR, BOTH):  # each kind evenly
        theirs = [path for path, some in PAGES.items() if some == people]
        chosen += [
            (people[place // len(LOOKS) % len(people)], path, *LOOKS[place % len(LOOKS)])
            for place, path in enumerate(theirs)
        ]
    return chosen


@pytest.mark.parametrize(("who", "path", "language", "theme", "width"), visits())
def test_a_page_works_for_everybody(
    people: People,
    hostile: Mapping[str, str],
    who: Who,
    path: str,
    language: Language,
    theme: Theme,
    width: int,
) -> None:
    with people(who, language, theme, width).forgiving() as sight:
        sight.go(path.format_map(hostile), anew=language == "zh")  # by its address, and from another page
        sight.shot(path.strip("/").replace("/", "_") or "overview")
        assert taken(sight.page) == 0
        assert sight.faults() == []
        assert sight.scrolls_sideways() <= 0
        assert sight.page.title().count("·") == 1


@pytest.mark.parametrize("who", BOTH)
def test_the_scripts_of_the_first_page_and_its_charts_are_small(
    demo: Demo, browser: Browser, who: Who
) -> None:
    with Sight(browser, demo, who) as sight:
        sight.go("/")
        sight.page.wait_for_selector("canvas")
        scripts: dict[str, int] = dict(
            sight.page.evaluate(
                "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('.js'))"
                ".map((one) => [one.name.split('/').pop(), one.encodedBodySize])"
            )
        )
        # Fetched where a channel is down just now, and only there: it may be, for what other tests have done to it.
        of_all = {name: octets for name, octets in scripts.items() if not name.startswith("reasons.zh-")}
        assert 0 < sum(of_all.values()) <= FIRST_PAGE_OCTETS_MAX, of_all
