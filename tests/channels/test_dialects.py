"""Pain 1, "DLR for an unknown message id": hex, decimal, padding and case of ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.channels import dialects
from hongyan.channels.channel import Report
from hongyan.channels.dialects import Dialect

from .centre import build, receipt

PAIRS = [
    ("5f5e101", "100000001", Dialect.HEX_ACK_DEC_REPORT),
    ("100000001", "5f5e101", Dialect.DEC_ACK_HEX_REPORT),
    ("00000000ABCDEF12", "abcdef12", Dialect.AS_IS),
    ("b2b9da80-7d1c-11ee", "B2B9DA80-7D1C-11EE", Dialect.AS_IS),
    ("0000123456", "123456", Dialect.AS_IS),
]


@pytest.mark.parametrize(("acked", "reported", "dialect"), PAIRS)
def test_the_dialect_is_learned_from_a_pair_and_then_translates(
    acked: str, reported: str, dialect: Dialect
) -> None:
    channel = build(2775)
    early = channel._tongue.hear(receipt(reported), None, 1.0)
    assert isinstance(early, Report)
    assert dialects.canonical(acked) in (early.upstream_id, *early.candidates)
    assert channel.dialect_of(dialects.canonical(acked), early) == dialect.value
    channel.learned(dialect.value)
    later = channel._tongue.hear(receipt(reported), None, 1.0)
    assert isinstance(later, Report)
    assert later.upstream_id == dialects.canonical(acked)
    assert later.candidates == ()
    assert channel.dialect_of(dialects.canonical(acked), later) == dialect.value
    assert channel.state().dialect == dialect.value


def test_a_pair_that_fits_several_dialects_teaches_nothing() -> None:
    assert dialects.between("7", "7") is None
    assert dialects.between("7", "8") is None


def test_a_configured_dialect_stands_above_what_was_learned() -> None:
    channel = build(2775, id_dialect="as_is")
    channel.learned("hex_ack_dec_report")
    assert channel.state().dialect == "as_is"


def test_a_word_that_is_no_dialect_is_not_learned() -> None:
    channel = build(2775)
    channel.learned("klingon")
    assert channel.state().dialect == ""


def test_ids_of_zeros_stay_ids() -> None:
    assert dialects.canonical("0000") == "0"
    assert dialects.canonical("") == ""


@given(st.text(max_size=80))
def test_canonical_forms_stay_as_they_are(written: str) -> None:
    assert dialects.canonical(dialects.canonical(written)) == dialects.canonical(written)


@given(st.text(max_size=80))
def test_no_id_breaks_the_reading(written: str) -> None:
    for candidate in dialects.candidates(written):
        assert candidate != written


@given(st.integers(10, 2**64 - 1))
def test_every_number_is_found_under_its_dialect(number: int) -> None:
    decimal, hexadecimal = str(number), f"{number:x}"
    assert hexadecimal in dialects.candidates(decimal)
    assert decimal in dialects.candidates(hexadecimal)
    assert dialects.translate(decimal, Dialect.HEX_ACK_DEC_REPORT) == hexadecimal
    assert dialects.translate(hexadecimal, Dialect.DEC_ACK_HEX_REPORT) == decimal
