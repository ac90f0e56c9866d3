"""What people text back, as a list. To be told of each once, pull or be posted notices (reports.py).

Entry point: listed(). The reading is way/lookup.py's.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from hongyan.doors.door import Door
from hongyan.doors.exchange import Asked
from hongyan.doors.question import read_query
from hongyan.way import lookup
from hongyan.way.snapshot import Key


class AskedInbound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go on, and how many at most."""

    cursor: Annotated[str, Meta(max_length=128)] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


async def listed(door: Door, key: Key, asked: Asked, _path: Mapping[str, str]) -> lookup.Letters:
    """List what was texted to the tenant, the newest first."""
    wanted = read_query(asked.query, AskedInbound)
    async with door.database.transaction() as tx:
        return await lookup.inbound(tx, door.vault, key.tenant.id, wanted.cursor, wanted.limit)
