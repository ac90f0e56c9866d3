"""Whatever the API says in English alone has a Chinese wording in the console: reasons of refusals, and what else goes wrong.

They are found in the sources: what `reason=` of a Refusal is, and what is given to a function that takes a `reason` and
makes a Refusal of it; lines of files that were left out, why an upstream or a webhook could not be reached, what came of a
trial, why a session ended. Those with places to fill are wordings with holes.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import test_house
from hongyan.wire.session import End

ROOT: Final = Path(__file__).parents[2]
WORDINGS: Final = ROOT / "console/src/locales/reasons.zh.json"
HOLE: Final = re.compile(r"\{\w*\}")
REASONS_MIN: Final = 250  # so many there are: fewer found means that this test looks at nothing
TROUBLES_MIN: Final = 50
# Who says what goes wrong: files, the calls that take it, the functions that return it.
TELLERS: Final = (
    "channels/*.py",
    "egress.py",
    "control/trials.py",
    "control/words.py",
    "control/tables.py",
    "doors/management/channels.py",
)
TAKING: Final = frozenset(
    {"Fault", "Failed", "Trial", "Unreachable", "Unsure", "changed", "ended", "lost", "remarked"}
)
RETURNING: Final = frozenset({"disproof", "refusal", "refusal_of_address", "refusal_of_url", "welcomed"})
UNTOLD: Final = frozenset({End.LOGIN_REFUSED, End.INACTIVE})  # connection.py does not tell these ends


@cache
def wordings() -> Mapping[str, str]:
    found: dict[str, str] = json.loads(WORDINGS.read_text())
    return found


@cache
def shapes() -> Mapping[str, re.Pattern[str]]:
    """What each wording is for. A hole takes one word here, so that no wording is for what has words of its own."""
    return {reason: re.compile(r"\S+".join(map(re.escape, HOLE.split(reason)))) for reason in wordings()}


def trees() -> Mapping[Path, ast.Module]:
    return {module.path: module.tree for module in test_house.sources()}


def called(call: ast.Call) -> str:
    """Return what is called, without what it belongs to."""
    return str(getattr(call.func, "id", getattr(call.func, "attr", "")))


def assigned(node: ast.Assign) -> str:
    """Return what is assigned to, without what it belongs to."""
    target = node.targets[0]
    return str(getattr(target, "id", getattr(target, "attr", "")))


def takers() -> Iterator[tuple[Path | None, str, int]]:
    """Functions that make a Refusal of the `reason` they take: their file (None: used everywhere), name, its place."""
    for path, tree in trees().items():
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            names = [one.arg for one in function.args.args]
            calls = (one for one in ast.walk(function) if isinstance(one, ast.Call))
            if "reason" in names and any(called(one) == "Refusal" for one in calls):
                own = function.name.startswith("_")
                yield path if own else None, function.name, names.index("reason")


def given() -> Iterator[tuple[str, str]]:
    """Every reason that is written out, with where; a 1 stands in its places."""
    places = {(path, name): place for path, name, place in takers()}
    for path, tree in trees().items():
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            name = called(call)
            place = places.get((path, name), places.get((None, name)))
            found = [one.value for one in call.keywords if one.arg == "reason"]
            if place is not None:
                found += call.args[place : place + 1]
            elif name != "Refusal":
                continue
            where = f"{path.relative_to(ROOT)}:{call.lineno}"
            yield from ((text, where) for one in found for text in written(one) if text)


def written(value: ast.expr) -> Iterator[str]:
    """What a literal says; of a choice, both."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.JoinedStr):
        yield "".join(str(one.value) if isinstance(one, ast.Constant) else "1" for one in value.values)
    elif isinstance(value, ast.IfExp):
        yield from written(value.body)
        yield from written(value.orelse)


def troubles() -> Iterator[tuple[str, str]]:
    """What TELLERS say, with where: given to TAKING, returned by RETURNING, noted as a remark, told of a trial."""
    sources = ROOT / "src/hongyan"
    for path in (path for pattern in TELLERS for path in sources.glob(pattern)):
        for node in ast.walk(trees()[path]):
            said: list[ast.expr] = []
            if isinstance(node, ast.Call) and called(node) in TAKING:
                said = node.args
            elif isinstance(node, ast.FunctionDef) and node.name in RETURNING:
                said = [one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value]
            elif isinstance(node, ast.Assign) and assigned(node) in {"remark", "words"}:
                said = [node.value]
            yield from ((text, f"{path.name}:{one.lineno}") for one in said for text in written(one) if text)


def ends() -> Iterator[tuple[str, str]]:
    """How a session may end, as connection.py tells it."""
    path = ROOT / "src/hongyan/wire/session.py"
    for call in ast.walk(trees()[path]):
        if (
            isinstance(call, ast.Call)
            and called(call) == "_close"
            and isinstance(call.args[0], ast.Attribute)
        ):
            end = End[call.args[0].attr]
            texts = list(written(call.args[1])) or ["1"]
            if end not in UNTOLD:
                yield from (
                    (f"{end}: {text}" if text else end, f"session.py:{call.lineno}") for text in texts
                )


def unworded(said: Mapping[str, str]) -> list[str]:
    known = shapes().values()
    return [
        f"{where}: {text}" for text, where in said.items() if not any(one.fullmatch(text) for one in known)
    ]


def test_every_reason_of_a_refusal_has_a_chinese_wording() -> None:
    reasons = dict(given())
    assert len(reasons) >= REASONS_MIN
    assert unworded(reasons) == []


def test_whatever_else_goes_wrong_has_a_chinese_wording() -> None:
    said = dict(troubles()) | dict(ends())
    assert len(said) >= TROUBLES_MIN
    assert unworded(said) == []


def test_a_wording_fills_the_holes_of_its_reason_and_no_others() -> None:
    named = {
        reason: (set(HOLE.findall(reason)), set(HOLE.findall(words))) for reason, words in wordings().items()
    }
    assert {reason: holes for reason, holes in named.items() if holes[0] != holes[1]} == {}
    assert [reason for reason, words in wordings().items() if words == reason] == []


def test_two_wordings_are_not_for_the_same_reason() -> None:
    alike = [HOLE.sub("{}", reason) for reason in wordings()]
    assert sorted(one for one in set(alike) if alike.count(one) > 1) == []


def test_the_alarm_rules_of_a_new_install_are_said_in_the_readers_language() -> None:
    laid = (ROOT / "src/hongyan/schema/0012_alarms.sql").read_text()
    names = re.findall(r"^    \('(\w+)', '([^']+)', [\d.]+, ", laid, re.MULTILINE)
    known = re.findall(r'"([^"]+)": "(\w+)"', (ROOT / "console/src/pages/watching/values.ts").read_text())
    assert names
    assert {(name, kind) for kind, name in names} <= set(known)
