"""What machines read out of a text: the last line by the letter of its standard, and a corpus of texts as people write them."""

import csv
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.control import lint
from hongyan.control.lint import FindingLevel
from hongyan.otp.autofill import BoundCode, faults, line, parse, readings
from hongyan.vocab import text
from hongyan.vocab.message import Purpose
from hongyan.vocab.wording import Variable


class Sample(NamedTuple):
    """A text of the corpus, its code, and what is wrong with it."""

    code: str
    faults: list[str]
    text: str


def read_corpus() -> list[Sample]:
    rows = csv.reader(
        Path(__file__).with_name("autofill.tsv").read_text("utf-8").splitlines()[1:],
        delimiter="\t",
        quoting=csv.QUOTE_NONE,
    )
    return [
        Sample(code, [] if wrong == "-" else wrong.split(","), body.replace("\\r", "\r").replace("\\n", "\n"))
        for code, wrong, body in rows
    ]


CORPUS: Final = read_corpus()
BOUND: Final = BoundCode("example.com", "747723")


# ---- the standard's own examples, and its steps


@pytest.mark.parametrize(
    ("message", "bound"),
    [
        ("747723 is your ExampleCo authentication code.\n\n@example.com #747723", BOUND),
        ("747723 is your code.\r\n\r\n@example.com #747723", BOUND),
        ("747723 is your code.\r@example.com #747723", BOUND),
        ("@example.com #747723", BOUND),
        ("@example.com #747723 %ecommerce.example", BOUND._replace(embedded="ecommerce.example")),
        ("@example.com #747723 %ecommerce.example $future", BOUND._replace(embedded="ecommerce.example")),
        ("@example.com #747723 and more", BOUND),
        ("@example.com #747723 %", BOUND),
        ("@example.com #747723  %ecommerce.example", BOUND),
        ("@example.com #747723\t%ecommerce.example", BOUND),
        ("something @example.com #747723", None),
        ("#747723 %ecommerce.example @example.com", None),
        ("@example.com code #747723", None),
        ("@example.com  #747723", None),
        ("@example.com\t#747723", None),
        ("@example.com #", None),
        ("@example.com # 747723", None),
        ("@ #747723", None),
        ("@example.com", None),
        ("@example.com ", None),
        ("@", None),
        ("", None),
        ("@example.com #747723\n", None),
        (" @example.com #747723", None),
    ],
)
def test_a_last_line_is_read_by_the_letter_of_its_standard(message: str, bound: BoundCode | None) -> None:
    assert parse(message) == bound


@given(
    st.text(max_size=80),
    st.from_regex(
        r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?){1,4}", fullmatch=True
    ),
    st.from_regex(r"[0-9A-Z]{4,10}", fullmatch=True),
)
def test_what_we_append_is_read_back_whatever_stands_before_it(body: str, host: str, code: str) -> None:
    assert parse(f"{body}\n\n{line(host, code)}") == BoundCode(host, code)


@given(st.text("@#%. \r\n\tae1", max_size=40))
def test_whatever_is_written_is_read_or_not_and_never_half(message: str) -> None:
    bound = parse(message)
    if bound is None:
        return
    assert bound.host
    assert bound.code
    assert not set(bound.host + bound.code + bound.embedded) & set("\t\n\f\r ")
    last = message.replace("\r\n", "\n").replace("\r", "\n").split("\n")[-1]
    assert last.startswith(line(bound.host, bound.code))


# ---- the corpus


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 200
    assert len({sample.text for sample in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("sample", CORPUS, ids=lambda sample: sample.text[:40])
def test_what_is_wrong_with_a_text_is_seen_and_no_more_than_that(sample: Sample) -> None:
    assert [fault.value for fault in faults(sample.text, sample.code)] == sample.faults


@pytest.mark.parametrize(
    "sample", [one for one in CORPUS if not one.faults], ids=lambda sample: sample.text[:40]
)
def test_a_text_nothing_is_wrong_with_is_read_rightly_by_all_who_can(sample: Sample) -> None:
    read = readings(sample.text)
    if any(character.isdigit() for character in sample.code):
        assert read["android"] == sample.code
    assert read["ios"] == sample.code
    assert read["browser"] in ("", sample.code)


def test_a_text_that_is_read_wrongly_has_something_wrong_with_it() -> None:
    misread = [
        one for one in CORPUS if any(code not in ("", one.code) for code in readings(one.text).values())
    ]
    assert misread
    assert all(one.faults for one in misread)


# ---- templates


CODE: Final = {"code": Variable("code")}
MAINLAND_FORBIDS: Final = {
    "link": ("验证码${code},见 www.example.com/login", "code.link"),
    "bare link": ("验证码${code},见example.cn/a", "code.link"),
    "host line": ("验证码${code}\n@example.com #${code}", "code.host_line"),
    "hotline": ("验证码${code},致电400-123-4567", "code.contact"),
    "mobile": ("验证码${code},联系13800138000", "code.contact"),
    "opt-out": ("验证码${code},拒收请回复R", "code.opt_out"),
    "opt-out by letters": ("验证码${code},回TD退订", "code.opt_out"),
}


@pytest.mark.parametrize(("body", "rule"), MAINLAND_FORBIDS.values(), ids=MAINLAND_FORBIDS)
def test_a_mainland_template_of_codes_has_no_link_no_host_line_no_phone_and_no_opt_out(
    body: str, rule: str
) -> None:
    found = {one.rule: one.level for one in lint.check(body, Purpose.OTP, "mainland", "鸿雁", CODE)}
    assert found[rule] is FindingLevel.ERROR
    assert "code.host_line" not in {
        one.rule for one in lint.check("登录验证码${code},5分钟内有效", Purpose.OTP, "mainland")
    }


@pytest.mark.parametrize(
    "body", ["Your code is ${code}.", "【x】${code} is your code, valid 5 minutes.", "Код: ${code}"]
)
def test_an_international_templates_last_line_parses_to_host_and_code(body: str) -> None:
    sent = text.sign("Hongyan", f"{body}\n\n{line('login.example.com', '48392017')}".replace("${code}", "48392017"),
                     counting=text.Counting.INTERNATIONAL)  # fmt: skip
    assert parse(sent) == BoundCode("login.example.com", "48392017")
    assert faults(sent, "48392017") == []
