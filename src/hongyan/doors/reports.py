"""Reports by pulling: what the app is owed, given out under a cursor and forgotten when acknowledged.

Writes nothing itself (way/owing.py does). For apps that cannot be called: final statuses, corrections and
inbound messages are the same notices a webhook would be posted.
"""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.doors import exchange
from hongyan.doors.call import Caller
from hongyan.doors.door import Door
from hongyan.doors.exchange import Asked
from hongyan.doors.question import read_query
from hongyan.way import owing

LEASE_S: Final = 60  # pulled and not acknowledged within this: given out again


class AskedReports(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many events at most, and for how long they are ours to acknowledge."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    lease_s: Annotated[int, Meta(ge=1, le=3_600, description="Not acknowledged within: given out again")] = (
        LEASE_S
    )


class AskedAcknowledge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cursor of a pull whose events were kept."""

    cursor: Annotated[str, Meta(min_length=1, max_length=128)]


class Acknowledged(msgspec.Struct, frozen=True):
    """How many events are forgotten; 0 where that was done before, or the lease is over."""

    acknowledged: int


async def pull(door: Door, caller: Caller, asked: Asked, _path: Mapping[str, str]) -> owing.Pulled:
    """Give out the oldest events owed to the app."""
    question = read_query(asked.query, AskedReports)
    async with door.database.transaction() as tx:
        return await owing.pull(tx, door.vault, caller.app_key.app_id, question.limit, question.lease_s)


async def acknowledge(door: Door, caller: Caller, asked: Asked, _path: Mapping[str, str]) -> Acknowledged:
    """Forget what was given out under a cursor."""
    wanted: AskedAcknowledge = exchange.read(asked.body, _ACKNOWLEDGE)
    async with door.database.transaction() as tx:
        return Acknowledged(await owing.acknowledge(tx, caller.app_key.app_id, wanted.cursor))


_ACKNOWLEDGE: Final = msgspec.json.Decoder(AskedAcknowledge)
