"""Codes as pure values."""

import uuid
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.otp import codes
from hongyan.otp.codes import Peppers
from hongyan.vocab.verification import Scene

PEPPERS = Peppers({1: bytes(32), 2: bytes(range(32))})
BOUND: dict[str, Any] = {
    "tenant_id": 1,
    "scene": Scene.LOGIN,
    "phone_index": bytes(16),
    "verification": uuid.UUID(int=7),
    "bound": b"",
}
CHI_SQUARE_MAX = 29.59  # of 9 degrees of freedom: exceeded once in 2,000 (p = 0.0005)


def chi_square(count: int) -> float:
    leading = Counter(codes.make(6)[0] for _ in range(count))
    return sum((leading[digit] - count / 10) ** 2 / (count / 10) for digit in codes.DIGITS)


def test_8_the_leading_digit_of_200000_codes_is_uniform() -> None:
    assert any(chi_square(200_000) < CHI_SQUARE_MAX for _ in range(2))


@pytest.mark.parametrize("length", range(4, 11))
def test_a_code_has_its_length_zeros_in_front_included(length: int) -> None:
    made = [codes.make(length) for _ in range(300)]
    assert all(len(code) == length and code.isdecimal() for code in made)
    assert any(code.startswith("0") for code in made)


def test_letters_leave_out_what_people_confuse() -> None:
    made = "".join(codes.make(10, codes.LETTERS) for _ in range(500))
    assert not set(made) & set("0O1IL5S2Z8B")


@pytest.mark.parametrize("other", [
    {"tenant_id": 2}, {"scene": Scene.PAY}, {"phone_index": bytes(15) + b"\1"},
    {"verification": uuid.UUID(int=8)}, {"bound": codes.binding("1.00", "王")},
])  # fmt: skip
def test_5_a_mac_is_bound_to_tenant_scene_number_verification_and_payment(other: dict[str, Any]) -> None:
    assert PEPPERS.mac(2, "123456", **BOUND) != PEPPERS.mac(2, "123456", **(BOUND | other))


def test_a_code_is_compared_under_the_pepper_it_was_made_with() -> None:
    assert PEPPERS.newest == 2
    assert PEPPERS.mac(1, "123456", **BOUND) != PEPPERS.mac(2, "123456", **BOUND)
    assert PEPPERS.mac(9, "123456", **BOUND) != PEPPERS.mac(1, "123456", **BOUND)


def test_what_is_not_there_is_the_same_as_nothing() -> None:
    assert not codes.same(None, bytes(16))
    assert not codes.same(None, PEPPERS.mac(1, "123456", **BOUND))
    assert codes.same(b"x" * 16, b"x" * 16)


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_no_two_payments_are_bound_alike(amount: str, payee: str, other: str, whom: str) -> None:
    same = codes.binding(amount, payee) == codes.binding(other, whom)
    assert same is ((amount, payee) == (other, whom))


@pytest.mark.parametrize("typed", ["12 34 56", "123-456", " 123456\n", "１２３４５６", "123\u3000456"])
def test_a_code_is_read_as_people_type_it(typed: str) -> None:
    assert codes.typed(typed) == "123456"


def test_a_code_of_letters_may_be_typed_small() -> None:
    assert codes.typed("ac3 d4") == "AC3D4"
