"""The grammar of behaviour, and what holds for which number."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.simulator.behaviour import (
    MAGIC,
    RULES_MAX,
    Behaviour,
    BehaviourError,
    IdForm,
    Rule,
    Span,
    State,
    Table,
    described,
    parse,
    plain_number,
)
from hongyan.vocab.text import Encoding, Split


def test_a_line_of_words_sets_knobs_of_every_kind() -> None:
    behaviour = parse(
        "ack_delay_s=0.1..0.3 report_delay_s=2 refuse_status=0x58 early_share=0.25 ack_id=hex silent=yes "
        "intermediate=ENROUTE,ACCEPTD reply='STOP please' reply_encoding=ucs2 reply_split=udh16 "
        "receipt_offset_s=-3600 disconnect_after_submits=7"
    )
    assert behaviour == Behaviour(
        ack_delay_s=Span(0.1, 0.3),
        report_delay_s=Span(2, 2),
        refuse_status=0x58,
        early_share=0.25,
        ack_id=IdForm.HEX,
        silent=True,
        intermediate=(State.ENROUTE, State.ACCEPTD),
        reply="STOP please",
        reply_encoding=Encoding.UCS2,
        reply_split=Split.UDH16,
        receipt_offset_s=-3600,
        disconnect_after_submits=7,
    )


def test_words_go_over_a_base() -> None:
    assert parse("silent=no", Behaviour(silent=True, window_max=3)) == Behaviour(window_max=3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("colour=red", "no 'colour'"),
        ("silent", "key=value"),
        ("silent=perhaps", "yes or no"),
        ("early_share=1.5", "between 0 and 1"),
        ("ack_delay_s=3..1", "rise"),
        ("ack_delay_s=-1", "rise"),
        ("ack_delay_s=soon", "ack_delay_s"),
        ("tries_max=-1", "negative"),
        ("disconnect_after_s=inf", "zero or above"),
        ("state=GONE", "state"),
        ("reply='open", "quotation"),
        ("sgip_sp=localhost", "host:port"),
        ("sgip_sp=localhost:99999", "host:port"),
        ("cmpp_version=4", "cmpp_version"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(words: str, said: str) -> None:
    with pytest.raises(BehaviourError, match=said):
        parse(words)


def test_every_knob_is_described_and_its_default_can_be_read_back() -> None:
    rows = described()
    assert [name for name, _, _ in rows] == [knob.name for knob in fields(Behaviour)]
    assert all(doc for _, _, doc in rows)
    assert parse(" ".join(f"{name}='{default}'" for name, default, _ in rows)) == Behaviour()


def test_the_first_rule_that_fits_counts() -> None:
    table = Table(
        Behaviour(),
        [
            Rule.read("13812345678: state=EXPIRED"),
            Rule.read("+86138*: state=UNDELIV err=9"),
            Rule.read("1?9*:"),
        ],
    )
    assert table.behaviour("13812345678").state is State.EXPIRED
    assert (table.behaviour("13800000000").state, table.behaviour("13800000000").err) == (State.UNDELIV, "9")
    assert table.behaviour("13900000000") == Behaviour()
    assert table.behaviour("4915112345678") == Behaviour()


@pytest.mark.parametrize(
    "words", ["138*", "x*: state=EXPIRED", "138*: silent=yes", "138*: colour=red", ": err=1"]
)
def test_a_rule_that_cannot_be_meant_is_refused(words: str) -> None:
    with pytest.raises(BehaviourError):
        Rule.read(words)


def test_rules_have_a_maximum() -> None:
    with pytest.raises(BehaviourError, match="at most"):
        Table(Behaviour(), [Rule("1*", {})] * (RULES_MAX + 1))


def test_magic_endings_hold_for_sandbox_numbers_for_all_or_for_none() -> None:
    assert Table(Behaviour()).behaviour("19900000001").err == "MK:0001"
    assert Table(Behaviour()).behaviour("13812345601").err == "000"
    assert Table(parse("magic=all")).behaviour("13812345601").err == "MK:0001"
    assert Table(parse("magic=none")).behaviour("19900000001").err == "000"
    assert Table(Behaviour()).behaviour("19900000042") == Behaviour()


def test_a_rule_is_stronger_than_a_magic_ending() -> None:
    table = Table(Behaviour(), [Rule.read("199*: err=7")])
    assert (table.behaviour("19900000001").state, table.behaviour("19900000001").err) == (State.UNDELIV, "7")


def test_the_ten_magic_endings_are_those_of_the_sandbox() -> None:
    assert sorted(MAGIC) == [f"{ending:02}" for ending in range(10)]


@given(st.integers(10_000_000_000, 19_999_999_999))
def test_a_mainland_number_has_one_form(number: int) -> None:
    assert (
        plain_number(f"+86{number}")
        == plain_number(f"86{number}")
        == plain_number(str(number))
        == str(number)
    )


def test_a_foreign_number_keeps_its_country() -> None:
    assert plain_number("+4915112345678") == "4915112345678"


def test_the_page_lists_every_knob_with_its_default_and_says_which_may_differ_by_number() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "simulator.md"
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \| (●?) ?\|", page.read_text("utf-8"), re.MULTILINE)
    by_number = {knob.name: "●" if knob.metadata["by_number"] else "" for knob in fields(Behaviour)}
    assert rows == [(name, default or "-", by_number[name]) for name, default, _ in described()]
