"""Templates as pure values: compile the body once, check variables by rule, render.

A body names variables as ${name} or {name}. Each variable has a kind (a closed list after what the
mainland clouds demand of template variables) which says what it may look like; a URL is never allowed
unless the kind says so, because links in variables are how phishing gets through review.
Entry points: compile_body(), Compiled.render(), Compiled.read().
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from hongyan.vocab.errors import Code, Refusal

PLACE = re.compile(r"\$?\{([A-Za-z][A-Za-z0-9_]{0,24})\}")
URL = re.compile(
    r"(?i)(?:https?://|www\.|[a-z0-9-]+\.(?:com|cn|net|org|info|top|xyz|cc|me|io|vip|shop|link)(?:[/?:]|$|[^a-z0-9-]))"
)
VALUE_CHARACTERS_MAX = 1_000


class Kind(msgspec.Struct, frozen=True):
    """What a variable of this kind may be: a pattern for the whole value and a length in characters."""

    pattern: re.Pattern[str] | None
    characters_max: int
    url: bool = False


def _kind(pattern: str | None, characters_max: int, *, url: bool = False) -> Kind:
    return Kind(re.compile(pattern) if pattern else None, characters_max, url)


KINDS: Mapping[str, Kind] = {
    "code": _kind(r"[0-9]{4,6}", 6),  # a verification code
    "code_alphanumeric": _kind(r"[0-9A-Za-z]{4,6}", 6),
    "minutes": _kind(r"[0-9]{1,2}", 2),
    "time": _kind(r"[0-9][0-9:/\-. 年月日时分秒]*", 20),
    "money": _kind(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?", 20),
    "nickname": _kind(None, 20),
    "name": _kind(r"[\u3400-\u9fff·]{2,5}", 5),
    "organisation": _kind(None, 20),
    "address": _kind(None, 30),
    "licence_plate": _kind(None, 10),
    "tracking_number": _kind(r"[0-9A-Za-z]{8,16}", 16),
    "pick_up_code": _kind(r"[0-9A-Za-z\-]{4,8}", 8),
    "number": _kind(r"[0-9A-Za-z]{1,35}", 35),
    "phone": _kind(r"[0-9][0-9\-]{2,14}", 15),
    "link_part": _kind(r"[0-9A-Za-z]{1,8}", 8),
    "email": _kind(r"[^@\s]+@[^@\s]+", 30, url=True),
    "other": _kind(None, 35),
    "text": _kind(None, 500),  # free wording inside a template; for operators who review it
}


class Variable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variable's rule as stored: a kind, and a tighter or (for 'other' and 'text') own length."""

    kind: str = "other"
    max: int = 0


class Compiled(msgspec.Struct, frozen=True):
    """A template ready to render. `literals` has one more member than `names`."""

    literals: tuple[str, ...]
    names: tuple[str, ...]
    rules: Mapping[str, tuple[Kind, int]]

    def render(self, values: Mapping[str, str | int]) -> str:
        """Fill in the values; raises Refusal naming the variable that is missing, unknown, too long, a URL or against its rule."""
        rules = self.rules
        if len(values) != len(rules):
            self._refuse_names(values)
        texts: dict[str, str] = {}
        for name, (kind, characters_max) in rules.items():
            value = values.get(name)
            if value is None:
                self._refuse_names(values)
            text = value if isinstance(value, str) else str(value)
            if len(text) > characters_max:
                raise Refusal(Code.TEMPLATE_VARIABLE_TOO_LONG, variable=name, characters_max=characters_max)
            if kind.pattern is not None:
                if kind.pattern.fullmatch(text) is None:
                    raise Refusal(Code.TEMPLATE_VARIABLE_INVALID, variable=name, pattern=kind.pattern.pattern)
            elif "【" in text or "】" in text:
                raise Refusal(
                    Code.TEMPLATE_VARIABLE_INVALID, variable=name, reason="【】 belong to the signature"
                )
            elif not kind.url and ("://" in text or ("." in text and URL.search(text))):
                raise Refusal(Code.TEMPLATE_VARIABLE_URL, variable=name)
            texts[name] = text
        pieces = [self.literals[0]]
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            pieces += (texts[name], literal)
        return "".join(pieces)

    def read(self, text: str) -> dict[str, str] | None:
        """Return values that render() would make this text of, shortest first; None where there are none.

        Lengths and patterns are kept, links are not looked for: render() refuses them by name.
        """
        if not text.startswith(self.literals[0]) or not text.endswith(self.literals[-1]):
            return None
        values: dict[str, str] = {}
        if not self._read_from(text, 0, len(self.literals[0]), values, set()):
            return None
        return values

    def _read_from(
        self, text: str, place: int, at: int, values: dict[str, str], dead_ends: set[tuple[int, int]]
    ) -> bool:
        """Read the places from `place` on out of text[at:] into `values`. Each end is tried once: quadratic at worst."""
        if place == len(self.names):
            return at == len(text)
        if (place, at) in dead_ends:
            return False
        name, literal = self.names[place], self.literals[place + 1]
        kind, characters_max = self.rules[name]
        is_last = place + 1 == len(self.names)
        known = values.get(name)  # a variable that stands twice says the same twice
        stop = max(at, len(text) - len(literal)) if is_last else at
        while (stop := text.find(literal, stop)) >= 0 and stop - at <= characters_max:
            value = text[at:stop]
            fits = kind.pattern is None or kind.pattern.fullmatch(value) is not None
            if fits and known in (None, value):
                values[name] = value
                if self._read_from(text, place + 1, stop + len(literal), values, dead_ends):
                    return True
            stop += 1
        if known is None:
            values.pop(name, None)
        if len(self.rules) == len(self.names):  # else the same end may do with another value before it
            dead_ends.add((place, at))
        return False

    def _refuse_names(self, values: Mapping[str, Any]) -> None:
        missing = sorted(set(self.rules) - set(values))
        unknown = sorted(set(values) - set(self.rules))
        raise Refusal(
            Code.TEMPLATE_MISSING_VARIABLE, missing=missing, unknown=[name[:40] for name in unknown][:10]
        )


def compile_body(body: str, variables_json: str) -> Compiled:
    """Compile a stored template; variables without a rule are of kind 'other'."""
    given = msgspec.json.decode(variables_json, type=dict[str, Variable])
    pieces = PLACE.split(body)
    names = tuple(pieces[1::2])
    rules = {}
    for name in names:
        variable = given.get(name, Variable())
        kind = KINDS.get(variable.kind, KINDS["other"])
        own = min(variable.max, VALUE_CHARACTERS_MAX)
        rules[name] = (
            kind,
            own if own and (kind.pattern is None or own < kind.characters_max) else kind.characters_max,
        )
    return Compiled(literals=tuple(pieces[0::2]), names=names, rules=rules)
