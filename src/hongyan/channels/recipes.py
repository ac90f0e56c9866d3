"""Describe requests, answers and pushes in settings: templates, recipes and paths. Nothing in them is executed.

Pure. Entry points: Filling, the names of one request or push; at(), walk(), written() for trees; names_in(),
templates_of(), leaves_of(), leaves_at(), recipes_in(), mentions_of(), check_cycles() to check a description before it is
used.

A template is a text with names in braces; {{ and }} are braces themselves. What is filled in is never a template.

A recipe is a list of steps on one run of octets, from the empty one:
  text TEMPLATE · body · pairs [JOINER [LINK]] (the fields by name; "&" and "=" unless said, "_" for nothing) ·
  md5 · sha1 · sha256 · hmac-md5 KEY · hmac-sha1 KEY · hmac-sha256 KEY (KEY is a template) ·
  hex · base64 · upper · lower · url (percent-encoding)

A path leads into a tree: names and places joined by dots, "result.0.id"; "" is the whole. A text on the way that
is itself JSON is read as such.
"""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec

PLACE: Final = re.compile(r"\{\{|\}\}|\{([A-Za-z_][\w.-]*)\}|[{}]")
AS_JSON: Final = "json:"  # a leaf of a tree that begins so is written as a value of its own
DIGESTS: Final = ("md5", "sha1", "sha256")
PLAIN_STEPS: Final = frozenset({"body", "hex", "base64", "upper", "lower", "url", *DIGESTS})

Words = tuple[str, ...]


class Filling:
    """The names of one request or push, and what stands for them; recipes are cooked when first named."""

    def __init__(
        self, recipes: Mapping[str, Words], named: Mapping[str, str], body: bytes = b"", tree: object = None
    ) -> None:
        self.body = body
        self.fields: Callable[[], Mapping[str, str]] = dict
        self._recipes = recipes
        self._named = dict(named)
        self._tree = tree

    def text(self, template: str, write: Callable[[str], str] = str) -> str:
        """Fill a template in. Raises KeyError for what is not there."""

        def fill(found: re.Match[str]) -> str:
            return write(self._value(found[1])) if found[1] else found[0][0]

        return PLACE.sub(fill, template)

    def tree(self, leaf: Any) -> Any:
        """Fill in the templates of a tree. Raises ValueError where json:… is none."""
        if isinstance(leaf, str):
            if not leaf.startswith(AS_JSON):
                return self.text(leaf)
            return msgspec.json.decode(self.text(leaf.removeprefix(AS_JSON)))
        if isinstance(leaf, Mapping):
            return {name: self.tree(value) for name, value in leaf.items()}
        return [self.tree(value) for value in leaf] if isinstance(leaf, list | tuple) else leaf

    def cook(self, steps: Words) -> bytes:
        octets = b""
        for step in steps:
            octets = self._step(octets, *_parse(step))
        return octets

    def _value(self, name: str) -> str:
        if name not in self._named:
            family, _, member = name.partition(".")
            if family == "recipe":
                self._named[name] = self.cook(self._recipes[member]).decode("utf-8", "replace")
            elif family == "field" and (found := at(self._tree, member)) is not None:
                self._named[name] = found
        return self._named[name]

    def _step(self, octets: bytes, word: str, rest: str) -> bytes:
        if word == "text":
            return self.text(rest).encode()
        if word == "pairs":
            words = ["" if each == "_" else each for each in rest.split()]
            joiner, link = words[0] if words else "&", words[1] if len(words) > 1 else "="
            fields = self.fields()
            return joiner.join(f"{name}{link}{fields[name]}" for name in sorted(fields)).encode()
        if word.startswith("hmac-"):
            return hmac.digest(self.text(rest).encode(), octets, word.removeprefix("hmac-"))
        return self._plain_step(octets, word)

    def _plain_step(self, octets: bytes, word: str) -> bytes:
        match word:
            case "body":
                return self.body
            case "hex":
                return octets.hex().encode()
            case "base64":
                return b64encode(octets)
            case "upper":
                return octets.upper()
            case "lower":
                return octets.lower()
            case "url":
                return quote(octets, safe="").encode()
            case _:
                return hashlib.new(word, octets).digest()


# ---- looking at a description


def names_in(template: str) -> Sequence[str]:
    """The names in a template. Raises ValueError for a brace that opens or closes nothing."""
    found = list(PLACE.finditer(template))
    if any(each[0] in ("{", "}") for each in found):
        raise ValueError(f"a brace alone in {template[:40]}")
    return [each[1] for each in found if each[1]]


def _parse(step: str) -> tuple[str, str]:
    """Cut a step into its word and the rest. Raises ValueError for a word that is none."""
    word, _, rest = step.partition(" ")
    needs_rest = word == "text" or (word.startswith("hmac-") and word.removeprefix("hmac-") in DIGESTS)
    if not (needs_rest or word == "pairs" or word in PLAIN_STEPS):
        raise ValueError(f"no step {word}")
    if needs_rest != bool(rest) and word != "pairs":
        raise ValueError(f"step {word} {'needs' if needs_rest else 'takes no'} words")
    if word == "pairs" and len(rest.split()) > 2:
        raise ValueError("step pairs takes two words at most")
    return word, rest


def templates_of(steps: Words) -> Sequence[str]:
    return [rest for word, rest in map(_parse, steps) if rest and word != "pairs"]


def leaves_of(tree: object) -> Sequence[str]:
    """The templates in a body."""
    return [leaf for _, leaf in leaves_at("", tree)]


def leaves_at(path: str, tree: object) -> Iterator[tuple[str, str]]:
    """The same, each with its path: that of the tree, and the names and places that lead there."""
    if isinstance(tree, str):
        yield path, tree.removeprefix(AS_JSON)
        return
    named = (
        tree.items()
        if isinstance(tree, Mapping)
        else enumerate(tree if isinstance(tree, list | tuple) else ())
    )
    for name, value in named:
        yield from leaves_at(f"{path}.{name}", value)


def recipes_in(templates: Sequence[str]) -> Sequence[str]:
    names = [name for template in templates for name in names_in(template)]
    return [name.removeprefix("recipe.") for name in names if name.startswith("recipe.")]


def mentions_of(steps: Words) -> Sequence[str]:
    return recipes_in(templates_of(steps))


def check_cycles(mentions: Mapping[str, Sequence[str]]) -> None:
    """Raises ValueError where a recipe needs itself."""

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"recipes.{name}: this recipe needs itself")
        for other in mentions.get(name, ()):
            visit(other, (*above, name))

    for name in mentions:
        visit(name, ())


# ---- trees


def walk(tree: Any, path: str) -> Any:
    """Follow a path; None where it ends nowhere."""
    for word in path.split(".") if path else ():
        tree = opened(tree)
        if isinstance(tree, dict):
            tree = tree.get(word)
        elif isinstance(tree, list) and word.isdecimal() and int(word) < len(tree):
            tree = tree[int(word)]
        else:
            return None
    return tree


def opened(tree: Any) -> Any:
    """Read a text on the way that is itself JSON; all else stays as it is."""
    if not isinstance(tree, str):
        return tree
    try:
        return msgspec.json.decode(tree)
    except (msgspec.DecodeError, RecursionError):
        return tree


def at(tree: Any, path: str) -> str | None:
    """Read what stands at the end of a path as a text; None where there is nothing."""
    found = walk(tree, path)
    return None if found is None else written(found)


def written(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
