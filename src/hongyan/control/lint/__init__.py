"""Say what is wrong with a text before a person or an upstream does: rules with ids, spans, reasons and rewrites.

Writes nothing; pure, and done at once (well under 5 ms). Entry points: check(), worst(), RULES, BY_ID. Words come from
elsewhere: `words` is asked for hits in the text without its variables. A rule of one provider speaks only where
the caller names the provider: it warns about that provider's channels and forbids nothing.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from hongyan.control.lint import characters, form, machines, providers, purposes, sources
from hongyan.control.lint.finding import (
    PLACES,
    STRICTNESS,
    Finding,
    FindingLevel,
    Hit,
    Levels,
    Place,
    Rule,
    Subject,
    levels,
)
from hongyan.vocab.message import Purpose
from hongyan.vocab.wording import Variable

__all__ = [
    "BY_ID",
    "RULES",
    "Finding",
    "FindingLevel",
    "Levels",
    "Place",
    "Rule",
    "Subject",
    "Words",
    "check",
    "worst",
]

# (start, end, word, list, level) of each word of a list that a text has.
Words = Callable[[str], Sequence[tuple[int, int, str, str, str]]]

WORD: Final = Rule(
    id="word.listed",
    zh="“{word}”在词库“{list}”中",
    en="“{word}” is on the list “{list}”",
    source=sources.OURS,
    levels=levels(FindingLevel.WARNING, FindingLevel.WARNING),  # the list says how serious it is
    find=lambda _subject, _place: (),
)
RULES: Final = (*form.RULES, *purposes.RULES, *machines.RULES, *characters.RULES, *providers.RULES, WORD)
BY_ID: Final[Mapping[str, Rule]] = {rule.id: rule for rule in RULES}
WORD_LEVELS: Final = {
    "block": FindingLevel.ERROR,
    "refuse": FindingLevel.ERROR,
    "error": FindingLevel.ERROR,
    "hold": FindingLevel.WARNING,
    "warn": FindingLevel.WARNING,
    "warning": FindingLevel.WARNING,
}
FINDINGS_MAX: Final = 200
WORDS_MAX: Final = 50


def check(
    body: str,
    purpose: Purpose,
    scope: str = "any",
    signature: str = "",
    variables: Mapping[str, Variable] | None = None,
    *,
    words: Words | None = None,
    provider_kinds: Collection[str] = (),
) -> Sequence[Finding]:
    """Return what there is to say about a text, strictest first, then by place; never raises.

    `scope`: mainland, international or any, where the strictest of both counts. `provider_kinds`: kinds of channels
    whose providers' own rules are asked too.
    """
    subject = Subject(body, purpose, signature, variables or {})
    found: dict[tuple[str, int, int], Finding] = {}
    for rule in RULES:
        if not rule.provider or rule.provider in provider_kinds:
            for place in PLACES[scope]:
                level = rule.levels.get((purpose, place))
                if level is not None:
                    _take(found, rule, level, rule.find(subject, place))
    for start, end, word, of_list, level_name in () if words is None else words(subject.bare)[:WORDS_MAX]:
        hit = Hit(start, end, {"word": word, "list": of_list})
        _take(found, WORD, WORD_LEVELS.get(level_name, FindingLevel.ADVICE), (hit,))
    order = sorted(found.values(), key=lambda one: (-STRICTNESS[one.level], one.start, one.end, one.rule))
    return order[:FINDINGS_MAX]


def _take(
    found: dict[tuple[str, int, int], Finding], rule: Rule, level: FindingLevel, hits: Iterable[Hit]
) -> None:
    for hit in hits:
        key = (rule.id, hit.start, hit.end)
        if key not in found or STRICTNESS[level] > STRICTNESS[found[key].level]:
            found[key] = rule.finding(hit, level)


def worst(findings: Sequence[Finding]) -> FindingLevel | None:
    """Return the strictest level among findings; None where there are none."""
    return max((one.level for one in findings), key=STRICTNESS.__getitem__, default=None)
