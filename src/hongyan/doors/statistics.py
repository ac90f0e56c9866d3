"""Statistics and the balance, as a tenant may see them.

Entry points: count(), balance(). The counting is way/measure.py's.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.doors.call import Caller
from hongyan.doors.door import Door
from hongyan.doors.exchange import Asked
from hongyan.doors.question import read_query, said_as
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Purpose, Status
from hongyan.way import charge, measure
from hongyan.way.measure import By, Group

Moment = Annotated[datetime, Meta(tz=True)]
Word = Annotated[str, Meta(max_length=64)]


class AskedStatistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to count: how time is cut, what rows are told apart by, and what is left out."""

    by: By = By.HOUR
    group: tuple[Group, ...] = ()
    since: Moment | None = msgspec.field(default=None, name="from")
    until: Moment | None = msgspec.field(default=None, name="to")
    zone: Annotated[str, Meta(max_length=64, description="IANA name; decides where days begin")] = "UTC"
    status: tuple[Status, ...] = ()
    cause: tuple[Cause, ...] = ()
    purpose: tuple[Purpose, ...] = ()
    template: tuple[Word, ...] = ()
    channel: tuple[Word, ...] = ()
    country: tuple[Word, ...] = ()
    operator: tuple[Word, ...] = ()
    province: tuple[Word, ...] = ()


class Balance(msgspec.Struct, frozen=True):
    """What is left, in millionths of the currency."""

    balance_micro: int
    currency: str


async def count(door: Door, caller: Caller, asked: Asked, _path: Mapping[str, str]) -> measure.Table:
    """Count the tenant's messages; for people of the platform everybody's, with what they cost."""
    wanted = read_query(asked.query, AskedStatistics)
    question = measure.Question(
        by=wanted.by,
        groups=wanted.group,
        counted_from=wanted.since,
        counted_to=wanted.until,
        zone=wanted.zone,
        statuses=wanted.status,
        causes=wanted.cause,
        purposes=wanted.purpose,
        templates=wanted.template,
        channels=wanted.channel,
        countries=wanted.country,
        operators=wanted.operator,
        provinces=wanted.province,
    )
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
