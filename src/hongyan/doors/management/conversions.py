"""Which channels bring codes that people enter, by operator: what the choice among equal channels goes by.

Entry points: ROUTES. The figures are otp/conversions.py's.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from hongyan import clock
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.route import QUERY, Reach, Route
from hongyan.otp import conversions
from hongyan.otp.conversions import Conversion

ROWS_MAX: Final = 10_000


class AskedConversions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How finely they are told apart."""

    provinces: bool = False


class Conversions(msgspec.Struct, frozen=True):
    """How every channel does, by channel, country and operator."""

    items: Sequence[Conversion]
    truncated: bool = False


async def conversions_of(call: Call) -> Conversions:
    """Return how every channel does."""
    asked = call.query(AskedConversions)
    found = await conversions.every(call.tx, clock.now_s(), provinces=asked.provinces)
    return Conversions(found[:ROWS_MAX], len(found) > ROWS_MAX)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/conversions",
        name="listConversions",
        summary="How many codes people enter in time, by channel and operator.",
        reach=Reach.PLATFORM,
        permission=Permission.STATISTICS_READ,
        query=AskedConversions,
        gives=Conversions,
        codes=QUERY,
        manages=conversions_of,
    ),
)
