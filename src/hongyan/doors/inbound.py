"""What people text back, as a list. To be told of each once, pull or be posted notices (reports.py).

Entry point: listed(). The reading is way/lookup.py's.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from hongyan.doors.call import Caller
from hongyan.doors.door import Door
from hongyan.doors.exchange import Asked
from hongyan.doors.question import read_query
from hongyan.doors.search import shown
from hongyan.way import lookup


class AskedInbound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go on, and how many at most."""

    cursor: Annotated[str, Meta(max_length=128)] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


async def listed(door: Door, caller: Caller, asked: Asked, _path: Mapping[str, str]) -> lookup.Letters:
    """List what was texted to the tenant, the newest first."""
    wanted = read_query(asked.query, AskedInbound)
    async with door.database.transaction() as tx:
        told = await lookup.inbound(tx, door.vault, caller.tenant, wanted.cursor, wanted.limit)
    return lookup.Letters([shown(caller, letter) for letter in told.items], told.next_cursor)
