"""Rules of single providers. They warn, and only where a channel of the provider is meant.

Writes nothing; pure. Entry point: RULES. Their words against topics are lists (see the words of a channel), not rules.
"""

import re
from collections.abc import Iterator
from typing import Final

from hongyan.control.lint import patterns, sources
from hongyan.control.lint.finding import FindingLevel, Hit, Place, Rule, Subject, levels
from hongyan.vocab.message import Purpose
from hongyan.vocab.wording import CODE_KINDS

RESERVED: Final = frozenset({"email", "mobile", "id", "nick", "site"})
TENCENT_VALUE_MAX: Final = 6


def _reserved(subject: Subject, _: Place) -> Iterator[Hit]:
    for mark in subject.marks:
        if mark.name.lower() in RESERVED:
            yield Hit(mark.start, mark.end, {"name": mark.name}, f"${{the_{mark.name}}}")


def _symbols(subject: Subject, _: Place) -> Iterator[Hit]:
    for found in re.finditer("[『』「」〖〗²³•①-⑳★☆※→←↑↓¥▲△■□◆◇●○♥♡]+", subject.bare):
        yield Hit(*found.span(), {"symbols": found[0]})


def _square_ends(subject: Subject, _: Place) -> Iterator[Hit]:
    for found in re.finditer(r"\A\s*\[|\]\s*\Z", subject.bare):
        yield Hit(*found.span())


def _private(subject: Subject, _: Place) -> Iterator[Hit]:
    for found in patterns.PRIVATE.finditer(subject.bare):
        yield Hit(*found.span(), {"contact": found[0]})


def _long_values(subject: Subject, _: Place) -> Iterator[Hit]:
    seen = set()
    for mark in subject.marks:
        characters_max = subject.compiled.rules[mark.name][1]
        if (
            characters_max > TENCENT_VALUE_MAX
            and mark.name not in seen
            and subject.kind_of(mark.name) not in CODE_KINDS
        ):
            seen.add(mark.name)
            yield Hit(mark.start, mark.end, {"name": mark.name, "most": TENCENT_VALUE_MAX})


W = FindingLevel.WARNING
RULES: Final = (
    Rule(
        id="aliyun.reserved_name",
        zh="阿里云不接受变量名 {name}",
        en="Alibaba Cloud takes no variable called {name}",
        source=sources.ALIYUN_NOTICE,
        levels=levels(W, W),
        find=_reserved,
        provider="aliyun",
    ),
    Rule(
        id="aliyun.symbols",
        zh="阿里云不接受特殊符号 {symbols}",
        en="Alibaba Cloud does not take the symbols {symbols}",
        source=sources.ALIYUN_NOTICE,
        levels=levels(W, None),
        find=_symbols,
        provider="aliyun",
    ),
    Rule(
        id="aliyun.square_ends",
        zh="阿里云不接受首尾的 [ ]",
        en="Alibaba Cloud takes no [ ] at the ends of a text",
        source=sources.ALIYUN_NOTICE,
        levels=levels(W, W),
        find=_square_ends,
        provider="aliyun",
    ),
    Rule(
        id="aliyun.private_contact",
        zh="阿里云通知短信只接受固定电话、400、95 等官方客服电话,不接受 {contact}",
        en="In notices Alibaba Cloud takes an enterprise's hotlines only, not {contact}",
        source=sources.ALIYUN_NOTICE,
        levels=levels(W, None, (Purpose.TRANSACTIONAL,)),
        find=_private,
        provider="aliyun",
    ),
    Rule(
        id="tencent.long_value",
        zh="腾讯云非验证码变量通常最多 {most} 个字符,变量 {name} 可能更长",
        en="Values of Tencent Cloud's templates have {most} characters at most by default; {name} may have more",
        source=sources.TENCENT_FAQ,
        levels=levels(W, None, (Purpose.TRANSACTIONAL, Purpose.PROMOTIONAL)),
        find=_long_values,
        provider="tencent",
    ),
)
