"""The laws of the house that no linter knows, asked of its sources: floors, shut doors, one writer per table.

A test here fails with the file and what it did; the law itself stands in docs/ARCHITECTURE.md. The sources
are read with ast, never imported.
"""

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "src" / "hongyan"
SCHEMA: Final = SOURCE / "schema"

# From the ground up. Rooms of one floor do not know each other, and nobody looks up.
FLOORS: Final = (
    ("vocab", "wire", "settings", "clock", "turns", "descriptors", "schema"),
    ("observe", "vault", "postgres"),
    ("db", "egress", "mail"),
    ("gather", "leap"),
    ("channels",),
    ("way",),
    ("control",),
    ("otp", "marketing"),
    ("doors", "simulator"),
    ("run", "backup"),
    ("rooms",),
    ("commands",),
    ("__main__",),
)
FLOOR_OF: Final = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Where the floors would allow it and the house does not.
SHUT: Final = (("channels", "db"), ("channels", "settings"), ("simulator", "channels"), ("simulator", "way"))

TECHNIQUE: Final = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "misc",
    "base",
    "core",
    "manager",
    "tools",
}
FORGETTER: Final = "way.prune"  # forgets on time, in every room; writes only where it says so
PARENTLESS: Final = {
    "channels.posts",
    "channels.sessions",
}  # a channel outlives the call that opens it; its close() awaits the task
EVIDENT_LINES_MAX: Final = 6  # what is shorter may be understood without a docstring


class Module(NamedTuple):
    """One file of the program."""

    path: Path
    name: str  # dotted, without hongyan
    room: str
    tree: ast.Module

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.tree) or ""


@cache
def sources() -> list[Module]:
    """Every file of the program, read once; not where other tests are only collected."""
    modules = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        modules.append(Module(path, name, parts[0], ast.parse(path.read_text("utf-8"), str(path))))
    return modules


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module named by an import, wherever it stands: late ones and those for types count too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_used(module: Module) -> set[str]:
    dotted = (name.split(".") for name in imports(module.tree))
    return {parts[1] for parts in dotted if parts[0] == "hongyan" and len(parts) > 1} - {module.room}


# ── floors and shut doors ─────────────────────────────────────────────────────────────────────────────


def test_every_room_has_a_floor() -> None:
    assert {module.room for module in sources()} - {"__init__"} <= FLOOR_OF.keys()


def test_imports_go_only_downward() -> None:
    upward = [
        f"{module.name} imports {room}"
        for module in sources()
        for room in rooms_used(module)
        if FLOOR_OF[room] >= FLOOR_OF[module.room]
    ]
    assert upward == []


def test_shut_doors_stay_shut() -> None:
    opened = [
        f"{module.name} imports {room}"
        for module in sources()
        for room in rooms_used(module)
        if (module.room, room) in SHUT or module.room in {"wire", "vocab"}
    ]
    assert opened == []


def test_only_db_imports_the_driver() -> None:
    assert {m.name for m in sources() if any(n.split(".")[0] == "asyncpg" for n in imports(m.tree))} == {"db"}


def test_the_wire_knows_neither_sockets_nor_clocks() -> None:
    outside = {"asyncio", "socket", "time", "threading", "ssl", "selectors"}
    wire = [module for module in sources() if module.room == "wire"]
    assert [f"{m.name}: {n}" for m in wire for n in imports(m.tree) if n.split(".")[0] in outside] == []


# What campaigns and codes may know of the plane: how a message is taken in, and by what rules and settings; which channels
# could carry it, and how they fare; and where codes are taken out of texts that have left.
ENTRIES: Final = {"accept", "guard", "snapshot", "route", "state", "measure", "redact"}


def test_campaigns_and_codes_enter_the_plane_only_through_accept() -> None:
    callers = [module for module in sources() if module.room in {"otp", "marketing"}]
    reached = {
        (module.name, name.split(".")[2])
        for module in callers
        for name in imports(module.tree)
        if name.startswith("hongyan.way.")
    }
    assert [(caller, room) for caller, room in sorted(reached) if room not in ENTRIES] == []


# ── modules ───────────────────────────────────────────────────────────────────────────────────────────


def test_every_module_says_what_it_is_for() -> None:
    assert [module.name for module in sources() if not module.docstring] == []


def test_no_module_is_named_by_technique() -> None:
    assert [module.name for module in sources() if TECHNIQUE & set(module.name.split("."))] == []


def test_no_annotation_of_a_class_reads_a_name_that_a_member_hides() -> None:
    """From Python 3.14 on annotations are evaluated when they are asked for: `words: words.List` finds the member."""
    found = [
        f"{module.name}.{kind.name}, line {name.lineno}: {name.id}"
        for module in sources()
        for kind in ast.walk(module.tree)
        if isinstance(kind, ast.ClassDef)
        for hidden in [set(_members(kind))]
        for name in _names_annotating(kind)
        if name.id in hidden
    ]
    assert not found, "import what is annotated with by its own name:\n" + "\n".join(found)


def _members(kind: ast.ClassDef) -> Iterator[str]:
    for item in kind.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            yield item.name
        elif isinstance(item, ast.Assign | ast.AnnAssign):
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _names_annotating(kind: ast.ClassDef) -> Iterator[ast.Name]:
    """The names that annotations of its fields, and of its methods' parameters and results, read."""
    for item in kind.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            given = item.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            annotations = [item.returns, *(one.annotation for one in arguments if one)]
        else:
            annotations = [item.annotation] if isinstance(item, ast.AnnAssign) else []
        for annotation in filter(None, annotations):
            yield from (name for name in ast.walk(annotation) if isinstance(name, ast.Name))


def test_every_task_has_a_parent() -> None:
    """A task belongs to a TaskGroup: neither asyncio nor a loop is asked for one, but by those who say why."""
    orphans = {
        f"{module.name}:{node.lineno}"
        for module in sources()
        if module.name not in PARENTLESS
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _makes_orphan(node.func)
    }
    assert orphans == set()


def _makes_orphan(called: ast.expr) -> bool:
    if isinstance(called, ast.Name):
        return called.id in {"create_task", "ensure_future"}
    if not isinstance(called, ast.Attribute):
        return False
    if called.attr in {"ensure_future", "run_coroutine_threadsafe"}:
        return True
    whose = ast.unparse(called.value)
    return called.attr == "create_task" and (whose == "asyncio" or "loop" in whose)


@pytest.mark.parametrize("room", ["way", "channels"])
def test_public_functions_are_described_where_they_are_not_evident(room: str) -> None:
    """A method of a Protocol is described there, once for all kinds."""
    modules = [module for module in sources() if module.room == room]
    promised = {name for module in sources() for name in _protocol_methods(module.tree)}
    assert [
        f"{module.name}.{function.name}"
        for module in modules
        for function in _public_functions(module.tree.body)
        if not ast.get_docstring(function)
        and (function.end_lineno or 0) - function.lineno >= EVIDENT_LINES_MAX
        and function.name not in promised
    ] == []


def _public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node.body)


def _protocol_methods(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases):
            yield from (function.name for function in _public_functions(node.body))


# ── one writer per table ──────────────────────────────────────────────────────────────────────────────


WRITE: Final = re.compile(
    r"\b(INSERT INTO|DELETE FROM|MERGE INTO|TRUNCATE(?: TABLE)?|UPDATE)\s+(?:ONLY\s+)?(\w+)(?=([^;]*))"
)


def read_rooms() -> Mapping[str, str]:
    """Each table of the schema with the room named in the comment above it; one directly above an ALTER takes it over."""
    rooms, room, above = {}, "", ""
    for path in sorted(SCHEMA.glob("*.sql")):
        for line in path.read_text("utf-8").splitlines():
            if named := re.match(r"-- ([a-z][a-z_.]*)(?=:|$)", line):
                room = above = named[1]
                continue
            if table := re.match(r"CREATE TABLE (\w+)", line):
                rooms[table[1]] = room
            elif (table := re.match(r"ALTER TABLE (\w+)", line)) and above:
                rooms[table[1]] = above
            above = above if line.startswith("-- ") else ""
    return rooms


ROOM_OF: Final = read_rooms()
PARTITION_OF: Final = {"message_rest": "message"}


def writes(module: Module) -> Mapping[str, set[str]]:
    """The tables that a module's SQL writes, each with how: INSERT INTO, UPDATE, DELETE FROM."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for node in ast.walk(module.tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            continue
        for how, table, rest in WRITE.findall(node.value):
            if how != "UPDATE" or re.match(r"(\s+(AS\s+)?\w+)?\s+SET\s", rest):
                found[PARTITION_OF.get(table, table)].add(how)
    return {table: found[table] for table in found if table in ROOM_OF}


def claims(module: Module) -> set[str]:
    """The tables that a module's docstring says it writes itself, not through another."""
    said = re.search(r"^Writes: (.*?)(?:\.\s|\.$|\.\Z)", module.docstring, re.DOTALL | re.MULTILINE)
    if said is None:
        return set()
    own = re.sub(r"\w+ \(through [^)]*\)", "", said[1])
    return set(re.findall(r"\w+", re.sub(r"\([^)]*\)", "", own))) & ROOM_OF.keys()


def test_every_table_names_its_room() -> None:
    names = {module.name for module in sources()}
    assert {table: room for table, room in ROOM_OF.items() if room not in names} == {}


def test_every_module_says_which_tables_it_writes() -> None:
    for module in sources():
        assert claims(module) == writes(module).keys(), f"{module.name}: claimed, and written"


def test_a_table_is_written_by_its_room_alone() -> None:
    """What is merely forgotten on time, the forgetter may delete in every room."""
    trespasses = [
        f"{module.name} writes {table} of {ROOM_OF[table]}"
        for module in sources()
        for table, hows in writes(module).items()
        if not f"{module.name}.".startswith(f"{ROOM_OF[table]}.")
        and not (module.name == FORGETTER and hows == {"DELETE FROM"})
    ]
    assert trespasses == []


# ── what the project does not speak of ────────────────────────────────────────────────────────────────


# The machines that write text; and what they call each other. In this file they stand by themselves.
UNSPOKEN: Final = re.compile(
    r"claude|anthropic|openai|chatgpt|copilot|\bllms?\b|subagent|\bai[- ]assistant|co-authored-by|/root/\.",
    re.IGNORECASE,
)


@pytest.mark.needs("git")
def test_tracked_files_name_no_machine_and_no_helper_of_their_writing() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    here = re.compile(rf"(?<![\w.]){re.escape(str(ROOT.parent))}/(?!\w*\.)") if ROOT.parent.name else None
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path == Path(__file__):
            continue
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
        assert not UNSPOKEN.search(text), f"{name}: {UNSPOKEN.search(text)}"
        assert here is None or not here.search(text), f"{name} names this machine's folders"
