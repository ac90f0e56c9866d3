"""Reading values back out of a finished text: what render() makes, read() understands."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.wording import KINDS, Compiled, compile_body, digits_max


def compiled(body: str, **kinds: str) -> Compiled:
    return compile_body(body, json.dumps({name: {"kind": kind} for name, kind in kinds.items()}))


@pytest.mark.parametrize(
    ("body", "text", "values"),
    [
        ("验证码为:${code},有效期5分钟", "验证码为:1234,有效期5分钟", {"code": "1234"}),
        ("nothing to fill in", "nothing to fill in", {}),
        ("{a}", "anything", {"a": "anything"}),
        ("{a}{b}", "xy", {"a": "x", "b": "y"}),
        ("{a} and {a}", "x and x", {"a": "x"}),
        ("to {a}, by {b}", "to x, by y, by z", {"a": "x", "b": "y, by z"}),
        ("{code}{a}", "1234567", {"code": "1234", "a": "567"}),
    ],
)
def test_a_text_gives_the_values_it_was_made_of(body: str, text: str, values: dict[str, str]) -> None:
    assert compiled(body, code="code").read(text) == values


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("验证码为:${code},有效期5分钟", "验证码为:12a4,有效期5分钟"),
        ("验证码为:${code},有效期5分钟", "验证码为:1234,有效期6分钟"),
        ("{a} and {a}", "x and y"),
        ("nothing", "nothing more"),
        ("{a}", "x" * 36),
        ("ab{a}ba", "aba"),
    ],
)
def test_a_text_it_cannot_have_made_is_not_read(body: str, text: str) -> None:
    assert compiled(body, code="code").read(text) is None


PIECES = st.lists(st.sampled_from(["{a}", "{b}", "{c}", "x", "，", "码"]), max_size=6).map("".join)
VALUES = st.fixed_dictionaries({name: st.text("xy，码1", min_size=1, max_size=5) for name in "abc"})


@given(PIECES, VALUES)
def test_whatever_was_rendered_is_read_as_values_that_render_the_same(
    body: str, values: dict[str, str]
) -> None:
    template = compiled(body)
    text = template.render({name: values[name] for name in template.rules})
    found = template.read(text)
    assert found is not None
    assert template.render(found) == text


@given(PIECES, st.text("xy，码1", max_size=12))
def test_what_is_read_renders_to_the_text(body: str, text: str) -> None:
    template = compiled(body)
    found = template.read(text)
    if found is not None:
        assert template.render(found) == text


def test_a_text_made_to_be_hard_is_answered_by_so_many_steps_as_it_has_places_and_characters() -> None:
    """Backtracking over ten variables in 500 characters would never end; the test would not either."""
    template = compiled(
        "".join(f"{{v{n}}}," for n in range(10)) + "end", **{f"v{n}": "text" for n in range(10)}
    )
    assert template.read("a," * 250 + "END") is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", ["", " ", "\u3000", "\n"])
def test_no_kind_of_variable_takes_nothing(kind: str, value: str) -> None:
    template = compiled("to {a}!", a=kind)
    with pytest.raises(Refusal) as refused:
        template.render({"a": value})
    assert (refused.value.code, refused.value.detail["variable"]) == (Code.TEMPLATE_VARIABLE_INVALID, "a")
    assert template.read(f"to {value}!") is None


def test_a_value_against_its_rule_is_refused_by_render_and_not_hidden_by_read() -> None:
    template = compiled("see {a}")
    found = template.read("see evil.com/x")
    assert found is not None
    with pytest.raises(Refusal):
        template.render(found)


def test_a_template_says_how_long_a_code_it_takes() -> None:
    assert digits_max(compiled("code {a}", a="code")) == 6
    assert digits_max(compiled("code {a}", a="code_long")) == 10
    assert digits_max(compiled("code {a}, {b} minutes", a="code_long_alphanumeric", b="minutes")) == 10
    assert digits_max(compiled("parcel {a}", a="number")) == 0
    assert digits_max(compile_body("code {a}", '{"a": {"kind": "code_long", "max": 8}}')) == 8


@pytest.mark.parametrize("length", range(3, 12))
def test_long_codes_have_four_to_ten_characters(length: int) -> None:
    for kind, value in (("code_long", "7" * length), ("code_long_alphanumeric", ("7K" * 6)[:length])):
        template = compiled("code {a}", a=kind)
        if 4 <= length <= 10:
            assert template.render({"a": value}) == f"code {value}"
        else:
            with pytest.raises(Refusal):
                template.render({"a": value})
