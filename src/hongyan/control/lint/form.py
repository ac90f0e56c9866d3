"""Rules on the form of a text: its variables, brackets, links with variables, length.

Writes nothing; pure. Entry point: RULES.
"""

import re
from collections.abc import Iterator
from typing import Final

from hongyan.control.lint import cost, patterns, sources
from hongyan.control.lint.cost import Length
from hongyan.control.lint.finding import FILLED, FindingLevel, Hit, Place, PlaceMark, Rule, Subject, levels
from hongyan.vocab import wording

BODY_CHARACTERS_MAX: Final = 1_600
UNITS_MAX: Final = {Place.MAINLAND: 500, Place.INTERNATIONAL: 1_600}  # with the signature
NEAR_UNITS: Final = 10  # so few characters too many for one part less are worth a word
BRACES: Final = re.compile(r"\$?\{[^{}]*\}|\$\{|[{}]")
PATH_BEGINS: Final = re.compile("[/?#]")
KIND_NAMES: Final = ", ".join(wording.KINDS)


def _empty(subject: Subject, _: Place) -> Iterator[Hit]:
    if not subject.body.strip():
        yield Hit(0, len(subject.body))


def _body_too_long(subject: Subject, _: Place) -> Iterator[Hit]:
    if len(subject.body) > BODY_CHARACTERS_MAX:
        yield Hit(BODY_CHARACTERS_MAX, len(subject.body), {"most": BODY_CHARACTERS_MAX})


def _marks(subject: Subject, _: Place) -> Iterator[Hit]:
    for found in re.finditer("[【】]", subject.bare):
        yield Hit(*found.span(), {}, "")


def _only_variables(subject: Subject, _: Place) -> Iterator[Hit]:
    if subject.marks and not any(literal.strip() for literal in subject.compiled.literals):
        yield Hit(0, len(subject.body))


def _adjacent(subject: Subject, _: Place) -> Iterator[Hit]:
    for one, other in zip(subject.marks, subject.marks[1:], strict=False):
        if one.end == other.start:
            yield Hit(one.start, other.end, {"first": one.name, "second": other.name})


def _malformed(subject: Subject, _: Place) -> Iterator[Hit]:
    for found in BRACES.finditer(subject.bare):
        inside = found[0].strip("${}").strip()
        sound = re.sub(r"\W", "_", inside, flags=re.ASCII).strip("_")[:24]
        name = sound if sound[:1].isalpha() else f"v{sound}"
        suggestion = f"${{{name}}}" if found[0].endswith("}") and inside else None
        yield Hit(*found.span(), {"written": found[0]}, suggestion)


def _twice(subject: Subject, _: Place) -> Iterator[Hit]:
    seen: set[str] = set()
    for mark in subject.marks:
        if mark.name in seen:
            yield Hit(mark.start, mark.end, {"name": mark.name})
        seen.add(mark.name)


def _unknown(subject: Subject, _: Place) -> Iterator[Hit]:
    for name in sorted(set(subject.variables) - {mark.name for mark in subject.marks}):
        yield Hit(0, 0, {"name": name[:25]})


def _kind_unknown(subject: Subject, _: Place) -> Iterator[Hit]:
    for mark in _firsts(subject):
        if subject.kind_of(mark.name) not in wording.KINDS:
            words = {"name": mark.name, "kind": subject.kind_of(mark.name)[:25], "kinds": KIND_NAMES}
            yield Hit(mark.start, mark.end, words)


def _untyped(subject: Subject, _: Place) -> Iterator[Hit]:
    for mark in _firsts(subject):
        if mark.name not in subject.variables:
            yield Hit(mark.start, mark.end, {"name": mark.name})


def _free(subject: Subject, _: Place) -> Iterator[Hit]:
    for mark in _firsts(subject):
        if subject.kind_of(mark.name) == "text":
            yield Hit(mark.start, mark.end, {"name": mark.name})


def _long_code(subject: Subject, _: Place) -> Iterator[Hit]:
    for mark in _firsts(subject):
        if subject.kind_of(mark.name) in wording.CODE_KINDS_ABROAD:
            yield Hit(mark.start, mark.end, {"name": mark.name})


def _whole_link(subject: Subject, _: Place) -> Iterator[Hit]:
    for mark in _firsts(subject):
        if subject.kind_of(mark.name) == "url":
            yield Hit(mark.start, mark.end, {"name": mark.name})


def _firsts(subject: Subject) -> Iterator[PlaceMark]:
    """Each variable once, where it stands first."""
    seen: set[str] = set()
    for mark in subject.marks:
        if mark.name not in seen:
            seen.add(mark.name)
            yield mark


def _in_links(subject: Subject) -> Iterator[tuple[PlaceMark, bool]]:
    """Each variable that is part of a link, and whether of its domain."""
    for start, end, link in subject.find(patterns.LINK):
        if FILLED not in link:
            continue
        written = subject.bare[start:end]
        path = PATH_BEGINS.search(written, written.find("://") + 3 if "://" in written else 0)
        domain_end = start + path.start() if path else end
        for mark in subject.marks:
            if start <= mark.start < end:
                yield mark, mark.start < domain_end


def _in_domain(subject: Subject, _: Place) -> Iterator[Hit]:
    for mark, domain in _in_links(subject):
        if domain:
            yield Hit(mark.start, mark.end, {"name": mark.name})


def _in_path(subject: Subject, _: Place) -> Iterator[Hit]:
    for mark, domain in _in_links(subject):
        if not domain and subject.kind_of(mark.name) != "link_part":
            yield Hit(mark.start, mark.end, {"name": mark.name})


def _too_long(subject: Subject, place: Place) -> Iterator[Hit]:
    found = cost.size(cost.signed(subject, place, Length.SHORTEST), place)
    if found.units > UNITS_MAX[place]:
        yield Hit(0, len(subject.body), {"units": found.units, "most": UNITS_MAX[place]})


def _may_be_too_long(subject: Subject, place: Place) -> Iterator[Hit]:
    sizes = cost.measure(subject, place)
    if sizes.shortest.units <= UNITS_MAX[place] < sizes.longest.units:
        yield Hit(0, len(subject.body), {"units": sizes.longest.units, "most": UNITS_MAX[place]})


def _nearly(subject: Subject, place: Place) -> Iterator[Hit]:
    usual = cost.size(cost.signed(subject, place, Length.USUAL), place)
    if usual.parts < 2:
        return
    over = usual.units - cost.room(usual.parts - 1, usual.encoding, place)
    if 0 < over <= NEAR_UNITS:
        words = {"over": over, "parts": usual.parts, "less": usual.parts - 1}
        yield Hit(0, len(subject.body), words)


def _blanks(subject: Subject, _: Place) -> Iterator[Hit]:
    body = subject.body
    start, end = len(body) - len(body.lstrip()), len(body.rstrip())
    if 0 < start < end:
        yield Hit(0, start, {}, "")
    if 0 < end < len(body):
        yield Hit(end, len(body), {}, "")


E, W, A = FindingLevel.ERROR, FindingLevel.WARNING, FindingLevel.ADVICE
RULES: Final = (
    Rule(
        id="body.empty",
        zh="模板内容为空",
        en="The text is empty",
        source=sources.OURS,
        levels=levels(E, E),
        find=_empty,
    ),
    Rule(
        id="body.too_long",
        zh="模板内容超过 {most} 个字符",
        en="The text has more than {most} characters",
        source=sources.OURS,
        levels=levels(E, E),
        find=_body_too_long,
    ),
    Rule(
        id="body.brackets",
        zh="正文不能使用【】,它们只用于签名",
        en="【】 belong to the signature alone",
        source=sources.ALIYUN_NOTICE,
        levels=levels(E, E),
        find=_marks,
    ),
    Rule(
        id="body.only_variables",
        zh="模板不能只有变量,须有说明用途的固定文字",
        en="A template needs words of its own, not variables alone",
        source=sources.ALIYUN_APPLY,
        levels=levels(E, E),
        find=_only_variables,
    ),
    Rule(
        id="body.blanks",
        zh="首尾有多余的空白",
        en="There are blanks around the text",
        source=sources.OURS,
        levels=levels(A, A),
        find=_blanks,
    ),
    Rule(
        id="variable.malformed",
        zh="“{written}”不是变量:变量名以字母开头,只含字母、数字和下划线,最多 25 个字符",
        en="“{written}” is no variable: names begin with a letter and have up to 25 letters, digits and _",
        source=sources.ALIYUN_NOTICE,
        levels=levels(E, E),
        find=_malformed,
    ),
    Rule(
        id="variable.adjacent",
        zh="变量 {first} 与 {second} 相邻,中间须有固定文字",
        en="Variables {first} and {second} touch; put words between them",
        source=sources.ALIYUN_APPLY,
        levels=levels(E, E),
        find=_adjacent,
    ),
    Rule(
        id="variable.twice",
        zh="变量 {name} 出现多次,同一变量在模板中应只出现一次",
        en="Variable {name} stands twice; each should stand once",
        source=sources.ALIYUN_APPLY,
        levels=levels(W, A),
        find=_twice,
    ),
    Rule(
        id="variable.unused",
        zh="变量 {name} 定义了属性,但模板中没有使用",
        en="Variable {name} has a rule and does not stand in the text",
        source=sources.OURS,
        levels=levels(E, E),
        find=_unknown,
    ),
    Rule(
        id="variable.kind_unknown",
        zh="变量 {name} 的属性 {kind} 不存在,可用:{kinds}",
        en="There is no kind {kind} for variable {name}; there are {kinds}",
        source=sources.OURS,
        levels=levels(E, E),
        find=_kind_unknown,
    ),
    Rule(
        id="variable.untyped",
        zh="变量 {name} 没有指定属性,按“其他”处理",
        en="Variable {name} has no kind and counts as ‘other’",
        source=sources.ALIYUN_KINDS,
        levels=levels(A, A),
        find=_untyped,
    ),
    Rule(
        id="variable.free_text",
        zh="变量 {name} 可填任意文字,通道方通常不接受",
        en="Variable {name} takes free wording, which upstreams seldom accept",
        source=sources.ALIYUN_APPLY,
        levels=levels(W, A),
        find=_free,
    ),
    Rule(
        id="variable.link",
        zh="变量 {name} 是整条链接,国内短信不允许",
        en="Variable {name} is a whole link, which mainland texts may not have",
        source=sources.TENCENT_ERRORS,
        levels=levels(E, A),
        find=_whole_link,
    ),
    Rule(
        id="variable.long_code",
        zh="变量 {name} 是长验证码,国内短信的验证码只能有 4 至 6 位",
        en="Variable {name} is a long code; mainland texts take codes of 4 to 6 characters",
        source=sources.ALIYUN_KINDS,
        levels=levels(E, None),
        find=_long_code,
    ),
    Rule(
        id="variable.in_domain",
        zh="变量 {name} 是域名的一部分,链接的域名必须固定",
        en="Variable {name} is part of a domain; where a link leads must be fixed",
        source=sources.HUAWEI_VARIABLES,
        levels=levels(E, E),
        find=_in_domain,
    ),
    Rule(
        id="variable.in_path",
        zh="链接中的变量 {name} 须使用“短链接参数”属性(link_part)",
        en="Variable {name} in a link must be of the kind link_part",
        source=sources.TENCENT_FAQ,
        levels=levels(E, W),
        find=_in_path,
    ),
    Rule(
        id="length.too_long",
        zh="连同签名至少 {units} 个字,超过 {most} 个字的上限",
        en="With its signature it has at least {units} characters; {most} are the most",
        source=sources.ALIYUN_NOTICE,
        levels=levels(E, E),
        find=_too_long,
    ),
    Rule(
        id="length.may_be_too_long",
        zh="变量取最长值时共 {units} 个字,超过 {most} 个字的上限,届时会被拒绝",
        en="With its longest values it has {units} characters; more than {most} are refused",
        source=sources.OURS,
        levels=levels(W, W),
        find=_may_be_too_long,
    ),
    Rule(
        id="length.nearly_less",
        zh="通常计费 {parts} 条,再减少 {over} 个字即为 {less} 条",
        en="Usually {parts} parts; {over} characters less and it is {less}",
        source=sources.GSM_PARTS,
        levels=levels(A, A),
        find=_nearly,
    ),
)
