"""How numbers are written to an upstream, and read back into E.164.

Pure. Entry points: NumberForm, writer(), reader(). Inside, a number is E.164 with plus; what cannot be one
(a name, a service's short number) stays as it came.
"""

from collections.abc import Callable
from enum import StrEnum

from hongyan.vocab import phone

CHINA = "86"
NATIONAL_DIGITS_MIN = 8  # behind a calling code; fewer digits, and what looks like one belongs to the number


class NumberForm(StrEnum):
    """How numbers are written to this upstream."""

    DIGITS = "digits"  # E.164 without the plus: 8613800138000
    PLUS = "plus"  # +8613800138000
    DOUBLE_ZERO = "double_zero"  # 008613800138000
    NATIONAL = "national"  # without country_code: 13800138000; other countries as digits


def writer(form: NumberForm, country_code: str) -> Callable[[str], str]:
    """Return what writes an E.164 number in this form."""
    match form:
        case NumberForm.DIGITS:
            return lambda number: number.removeprefix("+")
        case NumberForm.PLUS:
            return lambda number: number
        case NumberForm.DOUBLE_ZERO:
            return lambda number: "00" + number.removeprefix("+")
        case NumberForm.NATIONAL:
            return lambda number: number.removeprefix("+").removeprefix(country_code)


def reader(country_code: str) -> Callable[[str], str]:
    """Return what reads a handset's number, written in whatever form, with or without the calling code.

    One upstream writes its reports in one form and inbound texts in another, so the form is not asked.
    """

    def read(written: str) -> str:
        digits = written.removeprefix("+")
        if digits != written or not digits.isdecimal():
            return written
        if digits.startswith("00"):
            return "+" + digits[2:]
        if country_code == CHINA:
            if known := _mainland(digits):
                return known
            if len(digits) < NATIONAL_DIGITS_MIN:
                return written  # 10086
        has_code = digits.startswith(country_code) and len(digits) - len(country_code) >= NATIONAL_DIGITS_MIN
        return "+" + digits if has_code or not country_code else f"+{country_code}{digits.lstrip('0')}"

    return read


def _mainland(digits: str) -> str:
    """Read by the numbering plans, which tell 13800138000 from 85291234567; "" where they know neither."""
    try:
        return phone.parse(digits, phone.MAINLAND).e164
    except phone.BadNumber:
        return ""
