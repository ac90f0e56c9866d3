"""The documents say what is so: names, paths, links, settings, metrics, tables and commands in them exist.

Read from the pages themselves. A test here fails with the page and the word that has no thing behind it.
"""

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from hongyan import settings
from hongyan.__main__ import application
from hongyan.commands.check import knob_list
from hongyan.way.measure import Counters

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "src" / "hongyan"
PAGES: Final = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md"), *(ROOT / "bench").glob("*.md")]
)  # fmt: skip
ARCHITECTURE: Final = ROOT / "docs" / "ARCHITECTURE.md"
OPERATIONS: Final = ROOT / "docs" / "operations.md"

FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN: Final = re.compile(r"`([^`\n]+)`")
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
NAME: Final = re.compile(r"([\w/.]+\.py):([A-Za-z_][\w.]*)")
PLACE: Final = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|md|sql|tsv|json|yaml|txt|sh|service)|(?:[\w.-]+/)+")
# Folders whose files a page may name. What lies in a state folder, and what an example invents, is not ours to find.
OURS: Final = ("src/", "tests/", "docs/", "deploy/", "bench/", "requirements/", "way/", "channels/", "wire/", "doors/",
               "control/", "vocab/", "commands/", "simulator/", "schema/")  # fmt: skip
INVENTED: Final = "example"
TEST: Final = re.compile(r"test_\w+")


def read(page: Path) -> str:
    return page.read_text("utf-8")


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", read(page))


def spans(page: Path) -> Iterator[str]:
    yield from SPAN.findall(prose(page))


def found(place: str, page: Path) -> Path | None:
    """Find what a page calls by a path: from the root, from the source, or from where the page lies."""
    for start in (ROOT, SOURCE, page.parent):
        if (start / place).exists():
            return start / place
    return None


def pages(each: Path) -> str:
    return str(each.relative_to(ROOT))


# ── names and paths ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", PAGES, ids=pages)
def test_every_function_a_page_names_exists(page: Path) -> None:
    missing = []
    for place, name in NAME.findall(prose(page)):
        file = found(place, page)
        if file is None or not _defines(_tree(file).body, name.split(".")):
            missing.append(f"{place}:{name}")
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=pages)
def test_every_path_a_page_names_exists(page: Path) -> None:
    places = {span for span in spans(page) if PLACE.fullmatch(span) and INVENTED not in span}
    if page != ARCHITECTURE:
        places = {place for place in places if place.startswith(OURS)}
    assert {place for place in places if found(place, page) is None} == set()


@pytest.mark.parametrize("page", PAGES, ids=pages)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        place, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = page.parent / place if place else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=pages)
def test_every_test_a_page_names_exists(page: Path) -> None:
    named = {span for span in spans(page) if TEST.fullmatch(span)}
    assert named - _tests() == set()


@pytest.mark.parametrize("page", PAGES, ids=pages)
def test_every_block_of_python_can_be_read(page: Path) -> None:
    for language, block in FENCE.findall(read(page)):
        if language == "python":
            ast.parse(block)


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(read(file))


def _defines(body: list[ast.stmt], path: list[str]) -> bool:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and [node.name] == path:
            return True
        if isinstance(node, ast.ClassDef) and node.name == path[0]:
            return len(path) == 1 or _defines(node.body, path[1:])
        if isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            if any(isinstance(target, ast.Name) and [target.id] == path for target in targets):
                return True
    return False


def _anchors(file: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(file), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def _tests() -> frozenset[str]:
    files = (ROOT / "tests").rglob("test_*.py")
    return frozenset(
        name for file in files for name in re.findall(r"^(?:async )?def (test_\w+)", read(file), re.MULTILINE)
    )


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_map_says_who_writes_each_table() -> None:
    said = {
        table: set(SPAN.findall(writers)) for tables, writers in _rows(ARCHITECTURE, 3) for table in tables
    }
    assert {table: writers for table, writers in said.items() if table in _tables()} == {
        table: _writers(table) for table in _tables()
    }


def _rows(page: Path, columns: int) -> Iterator[tuple[list[str], str]]:
    """Yield the code words of the first cell, and the last cell, of every table of so many columns."""
    for line in read(page).splitlines():
        cells = line.strip("|").split("|")
        if line.startswith("| `") and len(cells) == columns:
            yield SPAN.findall(cells[0]), cells[-1]


@cache
def _tables() -> frozenset[str]:
    schema = "".join(read(file) for file in sorted((SOURCE / "schema").glob("*.sql")))
    return frozenset(re.findall(r"^CREATE TABLE (\w+) \(", schema, re.MULTILINE))


def _writers(table: str) -> set[str]:
    writes = re.compile(rf"(?:INSERT INTO|UPDATE|DELETE FROM)\s+{table}\b")
    return {file for file, text in _sources().items() if writes.search(text)}


@cache
def _sources() -> Mapping[str, str]:
    return {str(file.relative_to(SOURCE)): read(file) for file in SOURCE.rglob("*.py")}


# ── settings, metrics, commands ───────────────────────────────────────────────────────────────────────


def test_every_setting_stands_in_the_operations_page_with_its_default() -> None:
    written = re.findall(
        r"^\| `(HONGYAN_\w+|DATABASE_URL)` \| (?:`([^`]*)`|–) \|", read(OPERATIONS), re.MULTILINE
    )
    assert dict(written) == {knob.variable: knob.default for knob in knob_list(settings.Settings())}


def test_every_setting_named_anywhere_exists() -> None:
    known = {knob.variable for knob in knob_list(settings.Settings())}
    files = [*PAGES, *(file for file in (ROOT / "deploy").rglob("*") if file.is_file())]
    named = {
        (pages(file), name) for file in files for name in re.findall(r"\bHONGYAN_[A-Z_]*[A-Z]\b", read(file))
    }
    assert {(file, name) for file, name in named if name not in known} == set()


def test_every_metric_stands_in_the_operations_page() -> None:
    names = {metric.name for metric in Counters().collect()}
    names |= {f"hongyan_{name}" for name in re.findall(r'gauge\(\s*"(\w+)"', read(SOURCE / "run.py"))}
    page = read(OPERATIONS)
    assert len(names) > 10
    assert {name for name in names if not re.search(rf"`{name}(?:_total|_count)?\b", page)} == set()


@pytest.mark.parametrize("page", PAGES, ids=pages)
def test_every_command_a_page_gives_exists(page: Path) -> None:
    lines = [*spans(page), *(line for _, block in FENCE.findall(read(page)) for line in block.splitlines())]
    wrong = [line for line in lines for said in _commands(line) if not _exists(said)]
    assert wrong == []


def _commands(line: str) -> Iterator[list[str]]:
    """Yield the words after the program's name, where a line calls it."""
    for call in re.finditer(r"\bhongyan ((?!hongyan)[a-z].*)", line):
        try:
            yield shlex.split(call[1].split("&&")[0], comments=True)
        except ValueError:  # half a quotation: the next line has the rest
            yield call[1].split()


def _exists(words: list[str]) -> bool:
    command = _command()
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words[0]]
        words = words[1:]
    if hasattr(command, "commands"):  # a group by itself is a fair thing to name
        return not words and command.name != "hongyan"
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    return {word.partition("=")[0] for word in words if word.startswith("--")} <= known


@cache
def _command() -> Any:
    return typer.main.get_command(application())


def test_a_command_that_is_none_is_noticed() -> None:
    said: Mapping[str, bool] = {
        "run --role door": True,
        "tenants create Acme": True,
        "keys": True,
        "fly": False,
        "tenants fly": False,
        "run --fast": False,
    }
    assert {words: _exists(words.split()) for words in said} == said
