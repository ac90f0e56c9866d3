"""Why a message did not arrive: one closed list over everybody's codes.

Operators' and providers' own codes are kept verbatim beside it (`upstream_code`). The table
carrier_codes.tsv gives what a code usually means; the same code differs by vendor and province,
so it is data: a channel may overrule any row. Entry points: of_code(), Cause.
"""

import csv
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import NamedTuple


class Cause(StrEnum):
    """A closed list; the number in the database is the position here, so only append."""

    NONE = "none"  # nothing went wrong
    ABSENT = "absent"  # 关机/不在服务区: phone off or out of reach
    INVALID_NUMBER = "invalid_number"  # 空号: nobody has this number
    SUSPENDED = "suspended"  # 停机: the line is suspended
    UNREACHABLE = "unreachable"  # the network could not reach it, no reason given
    HANDSET = "handset"  # 终端: memory full, SIM full, handset error
    BLACKLISTED = "blacklisted"  # on an operator's or provider's black list
    CONTENT_BLOCKED = "content_blocked"  # the wording was stopped upstream
    RATE_LIMITED = "rate_limited"  # an upstream's frequency or flow limit
    SIGN_UNREGISTERED = "sign_unregistered"  # signature or template not filed there
    NO_ROUTE = "no_route"  # the upstream had no way to this number
    NETWORK = "network"  # gateways or switches failed between them
    PORTED = "ported"  # the number has moved to another operator
    EXPIRED = "expired"  # validity over at the upstream
    REJECTED = "rejected"  # an upstream, or the person who reviewed it, said no without a usable reason
    UNSUPPORTED = "unsupported"  # the upstream cannot do what was asked
    UNKNOWN = "unknown"  # a code that nobody has explained yet
    NO_REPORT = "no_report"  # none came within report_wait_s
    NOT_SENT = "not_sent"  # validity over before any upstream could be given it
    OPTED_OUT = "opted_out"  # the person said stop
    BLOCKED = "blocked"  # the tenant or the platform does not write to this number
    CANCELLED = "cancelled"  # taken back by the app
    NO_CHANNEL = "no_channel"  # no configured channel can ever carry it

    @property
    def number(self) -> int:
        return _NUMBERS[self]

    @property
    def other_channel(self) -> bool:
        """Whether trying once more on another channel makes sense (never for promotional messages)."""
        return self in _OTHER_CHANNEL

    @property
    def corrects_operator(self) -> bool:
        """Whether it shows that the number is not with the operator we believed."""
        return self is Cause.PORTED


CAUSES = tuple(Cause)  # index = stored number
_NUMBERS = {cause: number for number, cause in enumerate(CAUSES)}
_OTHER_CHANNEL = frozenset(
    {Cause.NO_ROUTE, Cause.NETWORK, Cause.PORTED, Cause.RATE_LIMITED, Cause.SIGN_UNREGISTERED}
)


class CodeMeaning(NamedTuple):
    """One row of the table. `cause` is None for codes that are no final failure (PENDING, DELIVERED)."""

    code: str
    carrier: str
    cause: Cause | None
    retry_advice: str
    meaning_zh: str


@cache
def table() -> dict[str, CodeMeaning]:
    """Return the shipped table by upper-case code; where a code stands twice, the first row wins."""
    text = resources.files("hongyan.vocab").joinpath("carrier_codes.tsv").read_text("utf-8")
    rows: dict[str, CodeMeaning] = {}
    for row in csv.DictReader(text.splitlines(), delimiter="\t"):
        word = row["normalized"].lower()
        cause = Cause(word) if word in _WORDS else None
        meaning = CodeMeaning(row["code"], row["carrier"], cause, row["retry"], row["meaning_zh"])
        rows.setdefault(row["code"].upper(), meaning)
    return rows


_WORDS = frozenset(cause.value for cause in Cause)


def of_code(code: str, overrides: dict[str, Cause] | None = None) -> Cause:
    """Return the cause an upstream's code stands for; UNKNOWN where nobody has explained it."""
    key = code.upper()
    if overrides and key in overrides:
        return overrides[key]
    meaning = table().get(key)
    return (meaning.cause if meaning else None) or Cause.UNKNOWN
