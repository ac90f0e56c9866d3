"""Whatever opens on a page: nothing complains, nothing is in the way of anybody.

Every third is opened, in Chinese wide or in English narrow by turns: what is wrong with one of a kind is wrong with its like, and
the suite has ten minutes. CONSOLE_LOOKS=all opens each in both looks, as whoever changed what opens should.
"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from typing import Final, Literal

import pytest
from playwright.sync_api import Locator, expect

from console import openings
from console.conftest import People
from console.hostile import taken
from console.openings import Opening
from console.sight import LOOKS, NARROW, Language, Sight, Theme
from console.test_sources import words

pytestmark = pytest.mark.needs("chromium")

# Lists that belong together start alike, so that each stands beside its own pages' words.
OPENINGS: Final[tuple[Opening, ...]] = tuple(
    one for name, some in vars(openings).items() if name.startswith("OPENINGS_") for one in some
)
EVERY: Final = 3  # so many openings one is tried, unless all are asked for
Role = Literal[
    "button", "checkbox", "combobox", "link", "menuitem", "option", "radio", "row", "switch", "tab"
]  # fmt: skip
ROLES: Final[tuple[Role, ...]] = ("button", "tab", "menuitem", "link", "option", "row")
# What Element Plus draws something over: a click is meant for the place.
COVERED: Final[tuple[Role, ...]] = ("radio", "checkbox", "switch", "combobox")
ELEMENT_PLUS: Final = {"Expand this row": "展开当前行"}  # what it says by itself
# What lies over the page: the last of it is on top.
ABOVE: Final = ".el-overlay:visible, .el-popper:visible"


def visits() -> Iterator[tuple[Opening, Language, Theme, int]]:
    if os.environ.get("CONSOLE_LOOKS") == "all":
        yield from ((opening, *look) for opening in OPENINGS for look in LOOKS)
    else:
        yield from ((opening, *LOOKS[place % len(LOOKS)]) for place, opening in enumerate(OPENINGS[::EVERY]))


def spelt(one: object) -> str | None:
    return (
        f"{one[0]} {one[1]} {' > '.join(one[2])}".encode("ascii", "ignore").decode()
        if isinstance(one, tuple)
        else None
    )


@pytest.mark.parametrize(("opening", "language", "theme", "width"), list(visits()), ids=spelt)
def test_what_opens_on_a_page_works_for_everybody(
    people: People, hostile: Mapping[str, str], opening: Opening, language: Language, theme: Theme, width: int
) -> None:
    who, path, steps = opening
    with people(who, language, theme, width).forgiving() as sight:
        come_to(sight, path.format_map(hostile))
        for step in steps:
            press(sight, step.format_map(hostile))
            sight.settled()
        sight.shot(re.sub(r"[^\w.-]+", "_", f"opened_{path.strip('/')}_{'_'.join(steps)}"))
        assert taken(sight.page) == 0
        assert sight.faults() == []
        assert sight.scrolls_sideways() <= 0


def test_the_menu_of_a_narrow_screen_opens_and_closes(people: People) -> None:
    sight = people("operator", *NARROW)
    sight.go("/messages")
    menu = sight.page.get_by_role("navigation", name="Menu")
    expect(menu).to_be_hidden()
    press(sight, "Menu")
    sight.settled()
    expect(menu).to_be_visible()
    sight.shot("opened_menu")
    assert sight.faults() == []
    assert sight.scrolls_sideways() <= 0
    press(sight, "Statistics")
    expect(menu).to_be_hidden()


def come_to(sight: Sight, path: str) -> None:
    """Come from the page before, unless something of it would stay: a tenant who was chosen, what it opened."""
    sight.go(path, anew="tenant=" in sight.page.url)
    if sight.page.locator(ABOVE).count():
        sight.go(path)


def press(sight: Sight, name: str) -> None:
    """Click what is called so, on top of the page if it is there."""
    words_of_it = "|".join(re.escape(one).replace("/", r"\/") for one in spoken(name, sight.language))
    pattern = re.compile(f"^({words_of_it})$")
    wanted(sight.page.locator("body"), pattern, ROLES + COVERED).first.wait_for()
    for place in (*reversed(sight.page.locator(ABOVE).all()), sight.page.locator("body")):
        for roles, force in ((ROLES, False), (COVERED, True)):
            found = wanted(place, pattern, roles)
            if found.count():
                found.first.click(force=force)
                return
    raise AssertionError(name)


def wanted(place: Locator, name: re.Pattern[str], roles: tuple[Role, ...]) -> Locator:
    named = [place.get_by_role(role, name=name) for role in roles]
    if roles is not COVERED:
        named.append(
            place.locator("summary").filter(has_text=name)
        )  # of <details>: no role that a test can ask for
    return reduce(lambda found, more: found.or_(more), named)


def spoken(name: str, language: Language) -> set[str]:
    """Return what an English name may be in a language: one English word is sometimes two in Chinese."""
    found = {words(language)[key] for key in keys(name)} | set(holes(name, language))
    return found or {ELEMENT_PLUS.get(name, name) if language == "zh" else name}


@cache
def keys(name: str) -> tuple[str, ...]:
    return tuple(key for key, word in words("en").items() if word == name)


def holes(name: str, language: Language) -> Iterator[str]:
    """Words with names in them: "Delete {name}" gives what "Delete 7" is."""
    for key, word in words("en").items():
        literal = re.split(r"\{(\w+)\}", word)
        if len(literal) == 1 or len("".join(literal[::2]).strip()) < 3:
            continue
        pattern = "".join(
            f"(?P<{part}>.+)" if place % 2 else re.escape(part) for place, part in enumerate(literal)
        )
        if len(set(literal[1::2])) == len(literal[1::2]) and (found := re.fullmatch(pattern, name)):
            yield words(language)[key].format_map(found.groupdict())
