"""Laws of the console's sources, which no browser is needed for: words, routes, what it calls, what it never writes."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from console.test_pages import PAGES
from hongyan.doors.routes import ROUTES

SOURCES: Final = Path(__file__).parents[2] / "console/src"
UNCALLED: Final = Path(__file__).parent / "uncalled.tsv"
LANGUAGES: Final = ("zh", "en")


@cache
def sources() -> dict[str, str]:
    """All files of ours by their path under console/src; what is made from the OpenAPI document is not ours."""
    made = {"api/schema.d.ts"}
    return {
        name: path.read_text()
        for path in sorted(SOURCES.rglob("*"))
        if path.suffix in (".ts", ".vue") and (name := path.relative_to(SOURCES).as_posix()) not in made
    }


@cache
def words(language: str) -> dict[str, str]:
    """All words of a language by their whole key."""
    found: dict[str, str] = {}

    def walk(key: str, value: object) -> None:
        if isinstance(value, dict):
            for name, one in value.items():
                walk(f"{key}.{name}", one)
        else:
            found[key] = str(value)

    for path in sorted((SOURCES / "locales" / language).glob("*.json")):
        walk(path.stem, json.loads(path.read_text()))
    return found


def test_both_languages_have_the_same_words() -> None:
    chinese, english = (words(language) for language in LANGUAGES)
    assert sorted(chinese.keys() ^ english.keys()) == []
    # A word may be none on purpose, in both.
    assert [key for key in chinese if bool(chinese[key].strip()) != bool(english[key].strip())] == []
    placeholders = re.compile(r"\{\w+\}")
    assert [
        key
        for key in chinese
        if set(placeholders.findall(chinese[key])) != set(placeholders.findall(english[key]))
    ] == []


def used() -> Iterator[tuple[str, str]]:
    """Every key that is written out, with where."""
    call = re.compile(r"""\b(?:\$?t|te|title|label)(?:\(|: ?)\s*["'`]([a-z_]+(?:\.\w+)+)["'`]""")
    for name, text in sources().items():
        for found in call.finditer(text):
            yield found[1], name


def test_every_word_that_a_page_asks_for_is_there() -> None:
    assert sorted({(key, name) for key, name in used() if key not in words("zh")}) == []


def test_no_word_is_kept_that_no_page_could_ask_for() -> None:
    everything = "\n".join(sources().values())
    written = {key for key, _ in used()}
    # A key that is put together is recognised by its beginning: `states.${…`
    beginnings = set(re.findall(r"[`'\"]((?:[a-z_]+\.)+)\$\{", everything)) | {"nav.", "states."}
    beginnings |= {f"{one}." for one in re.findall(r"named\([`'\"]([a-z_.]+)[`'\"]", everything)}
    beginnings |= {f"{one}." for one in re.findall(r"[`'\"]((?:[a-z_]+\.)*[a-z_]+)\.[`'\"] ?\+", everything)}
    begun = set(re.findall(r"[`'\"]((?:[a-z_]+\.)+[a-z_]+_)\$\{", everything))
    listed = {key for key in words("zh") if f'"{key}"' in everything or f"'{key}'" in everything}
    assert [
        key
        for key in words("zh")
        if key not in written | listed and not key.startswith(tuple(beginnings | begun))
    ] == []


def test_no_page_puts_a_text_into_the_page_as_html() -> None:
    for name, text in sources().items():
        for banned in (
            "v-html",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert banned not in text, name


def test_nothing_is_loaded_from_elsewhere() -> None:
    for name, text in sources().items():
        for url in re.findall(r"""["'`(](https?:)?//(?!example\.com)[\w.-]+\.\w+""", text):
            assert not url, name


def test_no_file_is_longer_than_anybody_wants_to_read() -> None:
    assert {name: n for name, text in sources().items() if (n := text.count("\n")) > 400} == {}


def test_every_place_of_the_menu_and_every_page_is_visited_by_the_tests() -> None:
    menu = set(re.findall(r'entry\("(/[^"]*)"', sources()["frame/nav.ts"]))
    pages = {
        path
        for name, text in sources().items()
        if name.endswith("/routes.ts")
        for path in re.findall(r'path: "(/[^"]*)"', text)
    }
    assert menu - pages == set()
    visited = {
        re.sub(r"/(\d+|[0-9a-f-]{36}|\{\w+\})(?=/|$)", "/:id", path.partition("?")[0]) for path in PAGES
    }
    assert {re.sub(r":\w+", ":id", path) for path in pages} - visited == set()


def called() -> set[tuple[str, str]]:
    """Every route the console asks: by the client, by upload(), by a link to a file, by a stream of events."""
    found = set()
    for text in sources().values():
        for method, path in re.findall(
            r"""\bapi\s*\.\s*(GET|POST|PUT|PATCH|DELETE)\(\s*["'`](/v1/[^"'`]+)["'`]""", text
        ):
            found.add((method, path))
        for path in re.findall(r"""\bupload(?:<.*?>)?\(\s*["'`](/v1/[^"'`?]+)""", text):
            found.add(("POST", re.sub(r"\$\{[^}]+\}", "{id}", path)))
        for path in re.findall(
            r"""(?:fileUrl|EventSource|follow)\w*(?:<.*?>)?\(\s*["'`](/v1/[^"'`?]+)""", text
        ):
            found.add(("GET", re.sub(r"\$\{[^}]+\}", "{id}", path)))
    return found


def test_whatever_the_api_can_do_the_console_can_or_says_why_not() -> None:
    reasons = dict(
        line.split("\t") for line in UNCALLED.read_text().splitlines() if line and not line.startswith("#")
    )
    asked = {(method, _shape(path)) for method, path in called()}
    uncalled = {
        f"{route.method} {route.path}" for route in ROUTES if (route.method, _shape(route.path)) not in asked
    }
    assert sorted(uncalled - reasons.keys()) == []
    assert sorted(reasons.keys() - uncalled) == []
    assert all(reasons.values())


def _shape(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)
