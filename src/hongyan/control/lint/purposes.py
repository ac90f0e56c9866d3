"""Rules on what a text of each purpose must say and may not say: codes, notices, promotions.

Writes nothing; pure. Entry point: RULES. Words that sell, and ways to get in touch, only warn: a notice may well speak
of a discount that somebody has, and a person decides about it.
"""

from collections.abc import Iterator
from typing import Final

from hongyan.control.lint import patterns, sources
from hongyan.control.lint.finding import FILLED, FindingLevel, Hit, Place, Rule, Subject, levels
from hongyan.vocab.message import Purpose
from hongyan.vocab.wording import CODE_KINDS
from hongyan.way import guard

CONTACTS_MAX: Final = 2
OPT_OUT_END_TEXT: Final = "拒收请回复R"


def _no_code_word(subject: Subject, _: Place) -> Iterator[Hit]:
    if not subject.says(patterns.CODE_WORD):
        codes = [mark for mark in subject.marks if subject.kind_of(mark.name) in CODE_KINDS]
        if codes:
            mark = codes[0]
            said = "验证码" if subject.chinese else "code "
            suggestion = said + subject.body[mark.start : mark.end]
            yield Hit(mark.start, mark.end, {}, suggestion)
        else:
            yield Hit(0, len(subject.body))


def _code_count(subject: Subject, _: Place) -> Iterator[Hit]:
    names = list(dict.fromkeys(m.name for m in subject.marks if subject.kind_of(m.name) in CODE_KINDS))
    if not names:
        yield Hit(0, len(subject.body), {"count": 0})
    for name in names[1:]:
        mark = next(mark for mark in subject.marks if mark.name == name)
        yield Hit(mark.start, mark.end, {"count": len(names)})


def _links(subject: Subject, place: Place) -> Iterator[Hit]:
    bound = patterns.BOUND_CODE.search(subject.bare) if place is Place.INTERNATIONAL else None
    for start, end, found in subject.find(patterns.LINK):
        if bound is None or start < bound.start():
            yield Hit(start, end, {"link": found})


def _contacts(subject: Subject, _: Place) -> Iterator[Hit]:
    for start, end, found in subject.find(patterns.CONTACT):
        yield Hit(start, end, {"contact": found})
    for mark in subject.marks:
        if subject.kind_of(mark.name) in ("phone", "email"):
            yield Hit(mark.start, mark.end, {"contact": mark.name})


def _many_contacts(subject: Subject, place: Place) -> Iterator[Hit]:
    found = sorted(_contacts(subject, place), key=lambda hit: hit.start)
    for hit in found[CONTACTS_MAX:]:
        yield Hit(hit.start, hit.end, {"count": len(found), "most": CONTACTS_MAX})


def _selling(subject: Subject, _: Place) -> Iterator[Hit]:
    for start, end, found in subject.find(patterns.SELLING):
        yield Hit(start, end, {"word": found})


def _opt_out(subject: Subject, place: Place) -> Iterator[Hit]:
    for start, end, _found in subject.find(patterns.OPT_OUT_CHINESE):
        yield Hit(start, end, {}, "")
    if place is Place.INTERNATIONAL or subject.purpose is Purpose.OTP:
        for start, end, _found in subject.find(patterns.OPT_OUT_ENGLISH):
            yield Hit(start, end, {}, "")


def _opt_out_chinese(subject: Subject, _: Place) -> Iterator[Hit]:
    for start, end, _found in subject.find(patterns.OPT_OUT_CHINESE):
        yield Hit(start, end, {"said": subject.body[start:end].strip(",，;；。.!！、 \n")}, "")


def _no_use(subject: Subject, _: Place) -> Iterator[Hit]:
    if not subject.says(patterns.CODE_USE):
        yield Hit(0, len(subject.body))


def _no_validity(subject: Subject, _: Place) -> Iterator[Hit]:
    if not subject.says(patterns.CODE_VALIDITY):
        end = len(subject.body.rstrip().rstrip("。."))
        suggestion = ",5分钟内有效" if subject.chinese else ", valid for 5 minutes"
        yield Hit(end, end, {}, suggestion)


def _no_platform(subject: Subject, _: Place) -> Iterator[Hit]:
    if not subject.signature:
        yield Hit(0, 0)


def _no_opt_out(subject: Subject, _: Place) -> Iterator[Hit]:
    # A line end for each variable: neither its name (${stop}) nor what stands on both its sides says anything.
    if not guard.tells_how_to_stop(subject.bare.replace(FILLED, "\n")):
        end = len(subject.body.rstrip())
        yield Hit(end, end, {}, f",{OPT_OUT_END_TEXT}" if subject.chinese else " Reply STOP to opt out")


def _ends_otherwise(subject: Subject, _: Place) -> Iterator[Hit]:
    if subject.says(patterns.OPT_OUT_END):
        return
    said = len(subject.body.rstrip().rstrip("。."))
    for start, end, _found in subject.find(patterns.OPT_OUT_CHINESE):
        if end >= said:  # it ends with another way to opt out: that one is replaced
            said = start
    yield Hit(said, len(subject.body), {}, f",{OPT_OUT_END_TEXT}")


E, W, A = FindingLevel.ERROR, FindingLevel.WARNING, FindingLevel.ADVICE
CODES: Final = (Purpose.OTP,)
NOTICES: Final = (Purpose.TRANSACTIONAL,)
PROMOTIONS: Final = (Purpose.PROMOTIONAL,)
RULES: Final = (
    Rule(
        id="code.word_missing",
        zh="验证码模板须含“验证码”“注册码”“校验码”或“动态码”",
        en="A code's text must say that it is one, as “code” or 验证码",
        source=sources.ALIYUN_APPLY,
        levels=levels(E, E, CODES),
        find=_no_code_word,
    ),
    Rule(
        id="code.one_variable",
        zh="验证码模板须恰有一个验证码变量(属性 code、code_alphanumeric 等),现有 {count} 个",
        en="A code's text has exactly one variable of a kind for codes, as code or code_alphanumeric, here {count}",
        source=sources.ALIYUN_APPLY,
        levels=levels(E, E, CODES),
        find=_code_count,
    ),
    Rule(
        id="code.link",
        zh="验证码短信不能包含链接:{link}",
        en="A code's text carries no link: {link}",
        source=sources.ALIYUN_APPLY,
        levels=levels(E, A, CODES),
        find=_links,
    ),
    Rule(
        id="code.contact",
        zh="验证码短信不能包含联系方式:{contact}",
        en="A code's text carries no contact: {contact}",
        source=sources.ALIYUN_APPLY,
        levels=levels(E, A, CODES),
        find=_contacts,
    ),
    Rule(
        id="code.selling",
        zh="验证码短信不应包含营销用语:{word}",
        en="A code's text should sell nothing: {word}",
        source=sources.ALIYUN_ERRORS,
        levels=levels(W, W, CODES),
        find=_selling,
    ),
    Rule(
        id="code.opt_out",
        zh="验证码短信不能包含退订提示",
        en="Nobody opts out of a code they asked for",
        source=sources.ALIYUN_APPLY,
        levels=levels(E, W, CODES),
        find=_opt_out,
    ),
    Rule(
        id="code.use_unsaid",
        zh="没有说明验证码的用途,如登录、注册",
        en="It does not say what the code is for, as signing in",
        source=sources.ALIYUN_APPLY,
        levels=levels(A, A, CODES),
        find=_no_use,
    ),
    Rule(
        id="code.validity_unsaid",
        zh="没有说明验证码的有效期",
        en="It does not say how long the code is valid",
        source=sources.ALIYUN_APPLY,
        levels=levels(A, A, CODES),
        find=_no_validity,
    ),
    Rule(
        id="code.platform_unsaid",
        zh="没有签名,收信人不知道验证码来自哪里",
        en="Without a signature nobody knows where the code is from",
        source=sources.ALIYUN_APPLY,
        levels=levels(A, A, CODES),
        find=_no_platform,
    ),
    Rule(
        id="notice.selling",
        zh="通知短信不应包含营销用语:{word}",
        en="A notice should sell nothing: {word}",
        source=sources.ALIYUN_NOTICE,
        levels=levels(W, A, NOTICES),
        find=_selling,
    ),
    Rule(
        id="notice.opt_out",
        zh="退订提示“{said}”表明这是营销短信:请从通知中删去,或把用途改为营销",
        en="“{said}” is how a promotion ends: take it out of a notice, or make its purpose promotional",
        source=sources.ALIYUN_NOTICE,
        levels=levels(E, W, NOTICES),
        find=_opt_out_chinese,
    ),
    Rule(
        id="notice.contacts",
        zh="联系方式有 {count} 个,通知短信最多 {most} 个",
        en="There are {count} contacts; a notice has {most} at most",
        source=sources.ALIYUN_NOTICE,
        levels=levels(W, None, NOTICES),
        find=_many_contacts,
    ),
    Rule(
        id="promotional.opt_out_missing",
        zh="营销短信须说明如何退订",
        en="A promotional text must say how to opt out",
        source=sources.ORDER_31,
        levels=levels(E, E, PROMOTIONS),
        find=_no_opt_out,
    ),
    Rule(
        id="promotional.opt_out_end",
        zh="国内营销短信应以“拒收请回复R”结尾",
        en="A mainland promotion should end with 拒收请回复R",
        source=sources.BAIDU_TEMPLATES,
        levels=levels(W, None, PROMOTIONS),
        find=_ends_otherwise,
    ),
)
