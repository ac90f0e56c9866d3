"""What control asks of values and of what they name before it changes anything, said the same way everywhere.

Writes nothing. Entry points: demand(), demand_name(), demand_text(), demand_moment(), demand_currency(), which raise a Refusal
that names the parameter and what it takes; demand_found(), whose Refusal names what is not there.
"""

from datetime import MAXYEAR, MINYEAR, datetime
from typing import Any, Final, TypeVar

from hongyan.vocab.errors import Code, Refusal

T = TypeVar("T")

NAME_CHARACTERS_MAX: Final = 64


def demand(holds: bool, parameter: str, reason: str) -> None:
    """Raise Refusal unless it holds; `reason` says what the parameter takes."""
    if not holds:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=parameter, reason=reason)


def demand_name(name: str) -> None:
    """Ask of a name people choose that it can be read and typed."""
    sound = name == name.strip() and name.isprintable() and 0 < len(name) <= NAME_CHARACTERS_MAX
    demand(sound, "name", f"1 to {NAME_CHARACTERS_MAX} printable characters, no blanks around them")


def demand_text(text: str, parameter: str, characters_max: int) -> None:
    """Ask of a text of people that it can be stored and shown: lines of printable characters, or nothing."""
    sound = len(text) <= characters_max and all(each.isprintable() or each in "\n\t" for each in text)
    demand(sound, parameter, f"at most {characters_max} printable characters")


def demand_moment(at: datetime | None, parameter: str) -> None:
    """Ask of a moment that it has a name in every zone: next to the ends of the calendar it may have none in UTC."""
    sound = at is None or (at.tzinfo is not None and MINYEAR < at.year < MAXYEAR)
    demand(sound, parameter, "a moment of RFC 3339 with its offset")


def demand_currency(currency: str) -> None:
    sound = len(currency) == 3 and currency.isascii() and currency.isalpha() and currency.isupper()
    demand(sound, "currency", "three letters of ISO 4217, as CNY")


def demand_found(found: T | None, code: Code = Code.REQUEST_NOT_FOUND, /, **named: Any) -> T:
    """Return what a statement found; raise Refusal where that is nothing. `named`: what was looked for."""
    if found is None:
        raise Refusal(code, **named)
    return found
