"""Statistics and the balance, as a tenant may see them.

Entry points: count(), balance(). The counting is way/measure.py's.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from hongyan.control import exports
from hongyan.control.exports import StatisticsFilters
from hongyan.doors.call import Caller
from hongyan.doors.door import Door
from hongyan.doors.exchange import Asked
from hongyan.doors.question import read_query, said_as
from hongyan.way import charge, measure


class AskedStatistics(
    StatisticsFilters,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={"since": "from", "until": "to"},
):
    """What to count: how time is cut, what rows are told apart by, and what is left out."""


class Balance(msgspec.Struct, frozen=True):
    """What is left, in millionths of the currency."""

    balance_micro: int
    currency: str


async def count(door: Door, caller: Caller, asked: Asked, _path: Mapping[str, str]) -> measure.Table:
    """Count the tenant's messages; for people of the platform everybody's, with what they cost."""
    question = exports.question(read_query(asked.query, AskedStatistics))
    with said_as(_NAMES):
        async with door.database.transaction() as tx:
            return await measure.statistics(tx, door.snapshots.current, caller.tenant_id, question)


_NAMES: Final = {
    "counted_from": "from",
    "counted_to": "to",
    "templates": "template",
    "channels": "channel",
    "countries": "country",
    "operators": "operator",
    "provinces": "province",
}


async def balance(door: Door, caller: Caller, _asked: Asked, _path: Mapping[str, str]) -> Balance:
    """Return what the tenant has left."""
    async with door.database.transaction() as tx:
        return Balance(
            await charge.balance_micro(tx, caller.tenant),
            door.snapshots.current.tenants[caller.tenant].currency,
        )
