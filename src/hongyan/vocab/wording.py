"""Templates as pure values: compile the body once, check variables by rule, render.

A body names variables as ${name} or {name}. Each variable has a kind (a closed list after what the
mainland clouds demand of template variables) which says what it may look like; a URL is never allowed
unless the kind says so, because links in variables are how phishing gets through review.
Entry points: compile_body(), Compiled.render(), Compiled.read(); KINDS; lookup() among the languages of a template.
"""

import re
from collections.abc import Container, Mapping
from typing import Any

import msgspec

from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.smuggled import SHORTER, Smuggled, may_lead, may_ring, smuggled

PLACE = re.compile(r"\$?\{([A-Za-z][A-Za-z0-9_]{0,24})\}")
VALUE_CHARACTERS_MAX = 1_000
EMPTY = "a value may not be empty"  # nobody is sent a text with a hole; kinds with a pattern demand something by themselves
_BRACKETS = re.compile("[【】︻︼]")
_SMUGGLED = {
    Smuggled.PHONE: "a mobile number belongs into a variable of kind phone",
    Smuggled.ACCOUNT: "a variable may not carry an account of WeChat or QQ",
}


class Kind(msgspec.Struct, frozen=True):
    """What a variable of this kind may be: a pattern for the whole value and a length in characters.

    The rest is for people who write templates and for estimates: what it is, how short and how long it usually is.
    """

    pattern: re.Pattern[str] | None
    characters_max: int
    url: bool = False
    zh: str = ""
    en: str = ""
    characters_min: int = 1
    characters_usual: int = 0
    wide: bool = False  # a value may hold characters beyond ASCII


def _kind(
    zh: str,
    en: str,
    pattern: str | None,
    characters_max: int,
    usual: int,
    *,
    least: int = 1,
    url: bool = False,
    wide: bool = False,
) -> Kind:
    compiled = re.compile(pattern) if pattern else None
    return Kind(compiled, characters_max, url, zh, en, least, usual, wide)


# fmt: off
KINDS: Mapping[str, Kind] = {
    "code": _kind("数字验证码,4 至 6 位数字", "A numeric code: 4 to 6 digits", r"[0-9]{4,6}", 6, 6, least=4),
    "code_alphanumeric": _kind("字母数字验证码,4 至 6 位", "A code of letters and digits: 4 to 6",
                               r"[0-9A-Za-z]{4,6}", 6, 6, least=4),
    # The mainland's clouds take codes of 4 to 6 alone.
    "code_long": _kind("长数字验证码,4 至 10 位数字,仅限国际短信", "A long numeric code: 4 to 10 digits; for texts abroad only",
                       r"[0-9]{4,10}", 10, 8, least=4),
    "code_long_alphanumeric": _kind("长字母数字验证码,4 至 10 位,仅限国际短信",
                                    "A long code of letters and digits: 4 to 10; for texts abroad only",
                                    r"[0-9A-Za-z]{4,10}", 10, 8, least=4),
    "minutes": _kind("分钟等数值,1 至 2 位数字", "A small count, as minutes: 1 or 2 digits", r"[0-9]{1,2}", 2, 1),
    "time": _kind("日期或时间,如 12月25日 10:30", "A date or time, as 2026-12-25 10:30",
                  r"[0-9][0-9:/\-. 年月日时分秒]*", 20, 11, wide=True),
    "date": _kind("日期,如 2026-12-25、12月25日", "A date, as 2026-12-25 or 25/12/2026",
                  r"(?:[0-9]{4}[\-/.年])?[0-9]{1,2}[\-/.月][0-9]{1,2}日?|[0-9]{1,2}[/.\-][0-9]{1,2}[/.\-][0-9]{4}",
                  11, 10, least=3, wide=True),
    "money": _kind("金额,如 1,299.00", "An amount, as 1,299.00", r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?", 20, 6),
    "nickname": _kind("昵称,不超过 20 个字符", "A nickname: up to 20 characters", None, 20, 6, wide=True),
    "name": _kind("中文姓名,2 至 5 个汉字", "A Chinese name: 2 to 5 characters", r"[\u3400-\u9fff·]{2,5}", 5, 3,
                  least=2, wide=True),
    "organisation": _kind("公司、机构或品牌名称,不超过 20 个字符", "A company, institution or brand: up to 20 characters",
                          None, 20, 8, wide=True),
    "address": _kind("地址,不超过 30 个字符", "An address: up to 30 characters", None, 30, 16, wide=True),
    "licence_plate": _kind("车牌号,如 京A·12345", "A licence plate, as 京A12345",
                           r"[\u3400-\u9fffA-Za-z0-9·\- ]{4,10}", 10, 7, least=4, wide=True),
    "tracking_number": _kind("快递单号,8 至 16 位字母或数字", "A parcel's tracking number: 8 to 16 letters or digits",
                             r"[0-9A-Za-z]{8,16}", 16, 13, least=8),
    "pick_up_code": _kind("取件码,4 至 8 位字母、数字或短横线", "A pick-up code: 4 to 8 letters, digits or hyphens",
                          r"[0-9A-Za-z\-]{4,8}", 8, 7, least=4),
    "number": _kind("编号、订单号等,1 至 35 位字母或数字", "A number of an order or the like: 1 to 35 letters or digits",
                    r"[0-9A-Za-z]{1,35}", 35, 12),
    "phone": _kind("电话号码,3 至 15 位数字,可含短横线", "A telephone number: 3 to 15 digits or hyphens",
                   r"[0-9][0-9\-]{2,14}", 15, 11, least=3),
    "link_part": _kind("短链接参数,1 至 8 位字母或数字", "The last part of a short link: 1 to 8 letters or digits",
                       r"[0-9A-Za-z]{1,8}", 8, 6),
    "email": _kind("电子邮箱,不超过 30 个字符", "An e-mail address: up to 30 characters", r"[^@\s]+@[^@\s]+", 30, 18,
                   least=3, url=True),
    "url": _kind("完整链接,仅限国际短信", "A whole link; for texts abroad only", r"https?://[^\s【】]+", 200, 30,
                 least=10, url=True),
    "other": _kind("其他内容,不超过 35 个字符,不能是链接", "Anything else: up to 35 characters, no link", None, 35, 10,
                   wide=True),
    # Free wording inside a template; for operators who review it.
    "text": _kind("自由文本,不超过 500 个字符,不能是链接", "Free wording: up to 500 characters, no link", None, 500, 50,
                  wide=True),
}
# fmt: on
CODE_KINDS_ABROAD = frozenset({"code_long", "code_long_alphanumeric"})
CODE_KINDS = frozenset({"code", "code_alphanumeric"}) | CODE_KINDS_ABROAD


class Variable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variable's rule as stored: a kind, and a tighter or (for 'other' and 'text') own length."""

    kind: str = "other"
    max: int = 0


class Compiled(msgspec.Struct, frozen=True):
    """A template ready to render. `literals` has one more member than `names`."""

    literals: tuple[str, ...]
    names: tuple[str, ...]
    rules: Mapping[str, tuple[Kind, int]]
    form: str  # both together, as % wants them

    def render(self, values: Mapping[str, str | int]) -> str:
        """Fill in the values.

        Raises Refusal naming the variable that is missing, unknown, empty, too long, a URL or against its rule.
        """
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
            elif not text or text.isspace():
                raise Refusal(Code.TEMPLATE_VARIABLE_INVALID, variable=name, reason=EMPTY)
            elif may_lead(text) or (len(text) > SHORTER and may_ring(text)):  # seldom, so look closer
                _demand_harmless(name, text, kind)
            texts[name] = text
        return self.form % texts

    def read(self, text: str) -> dict[str, str] | None:
        """Return values that render() would make this text of, shortest first; None where there are none.

        Lengths and patterns are kept and nothing is empty; links are not looked for: render() refuses them by name.
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
            fits = bool(value.strip()) if kind.pattern is None else kind.pattern.fullmatch(value) is not None
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

    def fill(self, values: Mapping[str, str]) -> str | None:
        """Fill in values without asking any rule; None where one is missing."""
        if not values.keys() >= set(self.names):
            return None
        return self.form % values

    def _refuse_names(self, values: Mapping[str, Any]) -> None:
        missing = sorted(set(self.rules) - set(values))
        unknown = sorted(set(values) - set(self.rules))
        raise Refusal(
            Code.TEMPLATE_MISSING_VARIABLE, missing=missing, unknown=[name[:40] for name in unknown][:10]
        )


def _demand_harmless(name: str, text: str, kind: Kind) -> None:
    """Refuse in a free value what belongs to the signature, and what leads elsewhere."""
    if _BRACKETS.search(text):
        raise Refusal(Code.TEMPLATE_VARIABLE_INVALID, variable=name, reason="【】 belong to the signature")
    found = None if kind.url else smuggled(text)
    if found is Smuggled.LINK:
        raise Refusal(Code.TEMPLATE_VARIABLE_URL, variable=name)
    if found is not None:
        raise Refusal(Code.TEMPLATE_VARIABLE_INVALID, variable=name, reason=_SMUGGLED[found])


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
    literals = tuple(pieces[0::2])
    form = "".join(
        f"{literal.replace('%', '%%')}%({name})s" for literal, name in zip(literals, names, strict=False)
    )
    return Compiled(literals, names, rules, form + literals[-1].replace("%", "%%"))


def digits_max(template: Compiled) -> int:
    """Return how many characters a code may have in a template; 0 where it has no variable for one."""
    codes = [KINDS[name] for name in CODE_KINDS]
    return min((most for kind, most in template.rules.values() if kind in codes), default=0)


def lookup(wanted: str, offered: Container[str]) -> str:
    """Return which of the offered language tags (lower case) suits the wanted one; "" where none does.

    RFC 4647 §3.4: subtags are taken from its end until one is there, and with a single letter what it introduces.
    """
    subtags = wanted.lower().split("-")
    while subtags:
        tag = "-".join(subtags)
        if tag in offered:
            return tag
        subtags.pop()
        if subtags and len(subtags[-1]) == 1:
            subtags.pop()
    return ""
