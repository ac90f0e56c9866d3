"""Rules on what machines make of a text with a code: browsers by its last line, handsets by guessing.

Writes nothing; pure. Entry point: RULES. The standard and the model of the guesses are in vocab/autofill.py.
"""

import re
from collections.abc import Iterator
from typing import Final

from hongyan.control.lint import patterns, sources
from hongyan.control.lint.finding import FILLED, FindingLevel, Hit, Place, PlaceMark, Rule, Subject, levels
from hongyan.vocab import autofill
from hongyan.vocab.message import Purpose
from hongyan.vocab.wording import CODE_KINDS

SAMPLE: Final = "0"  # stands for each character of a code …
OTHER: Final = "x"  # … and of any other variable
# Kinds whose values may be 4 to 8 digits in a row.
DIGITS: Final = frozenset(
    {"phone", "money", "number", "tracking_number", "pick_up_code", "licence_plate", "date", "time"}
)
HOST_LINE: Final = re.compile(rf"(?:^|\n)[ \t]*@[A-Za-z0-9{FILLED}-]+(?:\.[A-Za-z0-9{FILLED}-]+)+[^\n]*")


def _other_digits(subject: Subject, _: Place) -> Iterator[Hit]:
    for start, end, found in subject.find(autofill.RUN):
        yield Hit(start, end, {"digits": found})


def _other_values(subject: Subject, _: Place) -> Iterator[Hit]:
    seen: set[str] = set()
    for mark in subject.marks:
        if subject.kind_of(mark.name) in DIGITS and mark.name not in seen:
            seen.add(mark.name)
            yield Hit(mark.start, mark.end, {"name": mark.name})


def _twice(subject: Subject, _: Place) -> Iterator[Hit]:
    bound = patterns.BOUND_CODE.search(subject.bare)
    end = len(subject.body) if bound is None else bound.start()
    for mark in [mark for mark in _codes(subject) if mark.start < end][1:]:
        yield Hit(mark.start, mark.end, {"name": mark.name})


def _bad_line(subject: Subject, _: Place) -> Iterator[Hit]:
    """A line that begins as the last line of a bound code does, and is none, or binds something else than the code."""
    codes = _codes(subject)
    written, places = _as_sent(subject)
    bound = autofill.parse(written)
    for found in HOST_LINE.finditer(subject.bare):
        is_last = found.end() == len(subject.bare)
        if is_last and bound is not None and codes and bound.code == SAMPLE * (codes[0].end - codes[0].start):
            continue
        start = found.start() + (subject.bare[found.start()] == "\n")
        yield Hit(start, found.end(), {"line": subject.body[start : found.end()][:40]})
    if not HOST_LINE.search(subject.bare) and autofill.seems_bound(written):
        yield Hit(places, len(subject.body), {"line": subject.body[places:][:40]})


def _no_words(subject: Subject, _: Place) -> Iterator[Hit]:
    bound = autofill.parse(_as_sent(subject)[0])
    if bound is not None and not subject.body.rpartition("\n")[0].strip():
        yield Hit(0, len(subject.body))


def _host_line(subject: Subject, _: Place) -> Iterator[Hit]:
    for found in HOST_LINE.finditer(subject.bare):
        yield Hit(found.start(), found.end(), {}, "")


def _codes(subject: Subject) -> list[PlaceMark]:
    return [mark for mark in subject.marks if subject.kind_of(mark.name) in CODE_KINDS]


def _as_sent(subject: Subject) -> tuple[str, int]:
    """Return the text with samples, as long as it is written; and where its last line begins."""
    written = subject.bare.replace(FILLED, OTHER)
    for mark in _codes(subject):
        written = written[: mark.start] + SAMPLE * (mark.end - mark.start) + written[mark.end :]
    return written, written.rfind("\n") + 1


E, W, A = FindingLevel.ERROR, FindingLevel.WARNING, FindingLevel.ADVICE
CODES: Final = (Purpose.OTP,)
RULES: Final = (
    Rule(
        id="code.host_line",
        zh="国内验证码短信不能有“@域名 #验证码”一行",
        en="A mainland code's text has no line “@host #code”",
        source=sources.ALIYUN_APPLY,
        levels=levels(E, None, CODES),
        find=_host_line,
    ),
    Rule(
        id="code.other_digits",
        zh="“{digits}”是 4 至 8 位数字,手机可能把它当作验证码自动填入",
        en="“{digits}” is a run of 4 to 8 digits, which handsets may fill in for the code",
        source=sources.AUTOFILL,
        levels=levels(A, W, CODES),
        find=_other_digits,
    ),
    Rule(
        id="code.other_values",
        zh="变量 {name} 的值可能是 4 至 8 位数字,手机可能把它当作验证码自动填入",
        en="Values of {name} may be 4 to 8 digits, which handsets may fill in for the code",
        source=sources.AUTOFILL,
        levels=levels(A, A, CODES),
        find=_other_values,
    ),
    Rule(
        id="code.twice",
        zh="验证码 {name} 在正文里出现了两次",
        en="The code {name} stands twice in what people read",
        source=sources.AUTOFILL,
        levels=levels(A, W, CODES),
        find=_twice,
    ),
    Rule(
        id="code.bad_line",
        zh="“{line}”不是浏览器能读的最后一行:须恰为“@域名 #验证码”",
        en="“{line}” is no last line that browsers read: it must be exactly “@host #code”",
        source=sources.BOUND_CODES,
        levels=levels(None, E, CODES),
        find=_bad_line,
    ),
    Rule(
        id="code.no_words",
        zh="“@域名 #验证码”一行之前须有给人看的文字",
        en="Words for people stand before the line “@host #code”",
        source=sources.BOUND_CODES,
        levels=levels(None, W, CODES),
        find=_no_words,
    ),
)
