"""A value leads nowhere, however it is written; what is no way to anywhere passes."""

import random
from collections.abc import Callable
from typing import Final

import pytest

from hongyan.vocab import wording
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.smuggled import Smuggled, look_through, may_lead, smuggled

CASES: Final = 1_000
LINKS: Final = (
    "www.evil.cn",
    "evil.com/x",
    "https://a.b/c",
    "a1.top",
    "shop-9.vip",
    "1.2.3.4:8080/x",
    "bit.ly/3x",
)
PHONES: Final = ("13800138000", "+8615912345678", "8618600001111", "19912345678")
ACCOUNTS: Final = (
    "QQ12345678",
    "加QQ 987654321",
    "微信abc12345",
    "微信号：wang_1988",
    "vx:hello88",
    "加扣扣100200300",
)
HONEST: Final = (
    "张三", "南门菜鸟驿站", "北京市海淀区中关村大街27号1101室", "SF1380013800012", "订单20261225103000123",
    "2026-12-25 10:30", "138****8000", "￥1,299.00", "微信支付", "WX20261125001", "版本3.2.1", "Node.js 与 Vue",
    "3点到5点", "O'Brien-Smith", "上海浦东发展银行(尾号4231)", "第2期 共12期", "扣款成功", "企鹅馆门票", "e.g. this",
    "京A·12345", "1×3 米", "周一至周五 9:00-18:00", "VIP 用户", "你好。我们明天见",
)  # fmt: skip
ZERO_WIDTH: Final = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
CIRCLED: Final = dict(zip("123456789", "①②③④⑤⑥⑦⑧⑨", strict=True))
COUNTED: Final = dict(zip("0123456789", "零一二三四五六七八九", strict=True))


def wide(text: str, chance: random.Random) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" and chance.random() < 0.7 else c for c in text)


def hidden(text: str, chance: random.Random) -> str:
    return "".join(c + chance.choice(ZERO_WIDTH) * chance.randrange(2) for c in text)


def cased(text: str, chance: random.Random) -> str:
    return "".join(c.upper() if chance.random() < 0.5 else c for c in text)


def circled(text: str, chance: random.Random) -> str:
    return "".join(CIRCLED.get(c, c) if chance.random() < 0.5 else c for c in text)


def mathematical(text: str, chance: random.Random) -> str:
    return "".join(
        chr(0x1D41A + ord(c) - ord("a")) if "a" <= c <= "z" and chance.random() < 0.5 else c for c in text
    )


def surrounded(text: str, chance: random.Random) -> str:
    return chance.choice(("", "请联系 ", "看这里：", "（")) + text + chance.choice(("", " 谢谢", "！", "）"))


def counted(text: str, chance: random.Random) -> str:
    return "".join(COUNTED.get(c, c) if chance.random() < 0.4 else c for c in text)


def parted(text: str, chance: random.Random) -> str:
    """Put signs between the digits of a number."""
    return "".join(
        c + chance.choice("- .*·") * chance.randrange(2) if c.isdigit() and after.isdigit() else c
        for c, after in zip(text, text[1:] + " ", strict=True)
    )


DRESSES: Final[tuple[Callable[[str, random.Random], str], ...]] = (wide, hidden, cased, circled, mathematical)


def dressed(text: str, chance: random.Random, *first: Callable[[str, random.Random], str]) -> str:
    for dress in (
        *chance.sample(first, chance.randrange(len(first) + 1)),
        *chance.sample(DRESSES, chance.randrange(4)),
    ):
        text = dress(text, chance)
    return surrounded(text, chance)


def test_what_leads_elsewhere_is_found_however_it_is_written() -> None:
    chance = random.Random(16)
    for case in range(CASES):
        for text, kind in (
            (dressed(chance.choice(LINKS), chance), Smuggled.LINK),
            (dressed(chance.choice(PHONES), chance, counted, parted), Smuggled.PHONE),
            (dressed(chance.choice(ACCOUNTS), chance), Smuggled.ACCOUNT),
        ):
            assert smuggled(text) is kind, (case, text)


@pytest.mark.parametrize("text", HONEST)
def test_what_is_no_way_to_anywhere_passes(text: str) -> None:
    assert smuggled(text) is None


def test_the_searches_that_come_first_miss_nothing() -> None:
    chance = random.Random(18)
    pieces = (
        *LINKS,
        *PHONES,
        *ACCOUNTS,
        "http:",
        ":",
        "/",
        "dot",
        "www",
        "点",
        "。",
        "weixin",
        "[",
        ")",
        "中国",
        "網址",
    )
    marks = "  .-*。点，：（）l1o0一壹點Ｘⅹ"
    for _ in range(10 * CASES):
        text = dressed("".join(chance.choices(pieces, k=chance.randrange(1, 4))), chance, counted, parted)
        for _ in range(chance.randrange(6)):
            place = chance.randrange(len(text) + 1)
            text = text[:place] + chance.choice(marks) + text[place + chance.randrange(2) :]
        assert smuggled(text) is look_through(text), text


def test_brackets_of_signatures_are_never_familiar() -> None:
    assert all(may_lead(bracket) for bracket in "【】︻︼")


def test_names_numbers_and_addresses_pass() -> None:
    chance = random.Random(17)
    for _ in range(CASES):
        order = "".join(chance.choices("0123456789", k=chance.choice((6, 8, 12, 16, 18))))
        value = chance.choice(("订单{}", "{}", "NO.{}", "第{}号", "尾号{}", "DD{}")).format(order)
        assert smuggled(value) is None, value


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("ｗｗｗ．ａ．ｃｏｍ", Code.TEMPLATE_VARIABLE_URL),
        ("a 点 com", Code.TEMPLATE_VARIABLE_URL),
        ("1③8零零138000", Code.TEMPLATE_VARIABLE_INVALID),
        ("加 QQ：12345678", Code.TEMPLATE_VARIABLE_INVALID),
        ("︻别家︼", Code.TEMPLATE_VARIABLE_INVALID),
    ],
)
def test_a_template_refuses_such_a_value_by_the_name_of_its_variable(value: str, code: Code) -> None:
    compiled = wording.compile_body("到了 ${word}", "{}")
    with pytest.raises(Refusal) as refused:
        compiled.render({"word": value})
    assert refused.value.code is code
    assert refused.value.detail["variable"] == "word"
