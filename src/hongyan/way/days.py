"""The day of a message and its table, so that a statement opens one day of `message` and not half a year.

Entry points: day_of() and one_day(), what day it is; Days.fetch(), which asks that day's partition. Owns which days have none.
Surprise: PostgreSQL plans, locks and sets up every partition that a statement could touch, whichever has the row. With 180
days that is most of what a statement of the way would cost. A day without a partition is asked of the whole table, which
is always right: rows of a day that has a partition lie nowhere else.
"""

import re
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, LiteralString
from uuid import UUID

import msgspec

from hongyan import db
from hongyan.vocab.message import first_id_at

DAY_MS: Final = 86_400_000
LOOK_AGAIN_S: Final = 60.0  # for the partition of a day that had none
_TABLE: Final = re.compile(r"\b(FROM|INTO|JOIN|UPDATE) message\b")


class Day(msgspec.Struct, frozen=True):
    """A day of UTC, by the ids made in it."""

    table: str  # its partition of `message`
    first: UUID
    following: UUID  # the first id of the next day


@lru_cache(maxsize=512)
def _day(number: int) -> Day:
    midnight = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=number)
    first, following = (first_id_at(at.timestamp()) for at in (midnight, midnight + timedelta(days=1)))
    return Day(f"message_{midnight:%Y%m%d}", first, following)


def day_of(message_id: bytes) -> Day:
    """Return the day in which an id was made."""
    return _day(int.from_bytes(message_id[:6]) // DAY_MS)


def day_at(at_s: float) -> Day:
    """Return the day of a moment, in Unix seconds."""
    return _day(int(at_s * 1000) // DAY_MS)


def day_on(calendar: date) -> Day:
    """Return a day of the calendar, in UTC."""
    return _day((calendar - date(1970, 1, 1)).days)


def one_day(message_ids: Sequence[bytes]) -> Day | None:
    """Return the day in which all these ids were made; None if they are of several, or there are none."""
    if not message_ids:
        return None
    day = day_of(min(message_ids))
    return day if max(message_ids) < day.following.bytes else None


@lru_cache(maxsize=64)
def asked_of(sql: LiteralString, table: str) -> LiteralString:
    """Return a statement that names the table as `message`, for one of its partitions."""
    return _TABLE.sub(rf"\1 {table}", sql)


class Days:
    """Asks statements about messages of the one day they are about."""

    def __init__(self) -> None:
        self._without: dict[Day, float] = {}  # a partition, and until when that is believed

    async def fetch(
        self, tx: "db.Tx | db.Database", sql: LiteralString, day: Day | None, *values: Any
    ) -> Sequence[db.Row]:
        """Run a statement that names the table as `message`, on one day of it; None: on all of them.

        Outside of a transaction only, which would end with the first look for a partition that is not there.
        """
        if day is not None and not self._has_none(day):
            try:
                return await _fetch(tx, asked_of(sql, day.table), values)
            except db.UndefinedTable:
                self._without[day] = time.monotonic() + LOOK_AGAIN_S
        return await _fetch(tx, sql, values)

    def _has_none(self, day: Day) -> bool:
        until_s = self._without.get(day)
        if until_s is None:
            return False
        if time.monotonic() < until_s:
            return True
        del self._without[day]
        return False


async def _fetch(tx: "db.Tx | db.Database", sql: LiteralString, values: Sequence[Any]) -> Sequence[db.Row]:
    rows: Sequence[db.Row] = await tx.fetch(sql, *values, timeout=db.STATEMENT_WAIT_S)
    return rows
