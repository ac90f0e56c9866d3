"""What somebody wants to see first: today beside yesterday, and what needs a person.

Entry points: ROUTES. Live, it is a stream of events; all who watch one tenant, or the platform, share each look.
"""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime
from functools import partial
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control import overview
from hongyan.control.overview import Overview
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.door import Door
from hongyan.doors.route import QUERY, Events, Reach, Route
from hongyan.vocab.message import TenantId

WATCHED_S_MAX: Final = 3_600.0


class AskedLiveOverview(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how long to watch; a browser comes back by itself."""

    seconds: Annotated[float, Meta(ge=0.1, le=WATCHED_S_MAX)] = WATCHED_S_MAX


class LiveOverview(msgspec.Struct, frozen=True):
    """One look. `overview` is null where nothing has changed since the last event."""

    at: datetime
    overview: Overview | None


async def overview_of(call: Call) -> Overview:
    """Return the overview of a tenant, or of the platform."""
    return await overview.of(call.tx, call.door.snapshots.current, call.tenant_id)


async def live(call: Call) -> Events:
    """Watch the overview of a tenant, or of the platform: a look a second, or fewer where each takes long."""
    asked = call.query(AskedLiveOverview)
    return Events(_looks(call.door, call.tenant_id, asked.seconds))


async def _looks(
    door: Door, tenant_id: TenantId | None, seconds: float
) -> AsyncGenerator[LiveOverview, None]:
    until_s = asyncio.get_running_loop().time() + seconds
    with door.streams.sharing(("overview", tenant_id), partial(_look, door, tenant_id)) as shared:
        number, seen = await shared.after(0)
        yield LiveOverview(seen.at, seen)
        while asyncio.get_running_loop().time() < until_s:
            before = seen
            number, seen = await shared.after(number)
            same = msgspec.structs.replace(before, at=seen.at) == seen
            yield LiveOverview(seen.at, None if same else seen)


async def _look(door: Door, tenant_id: TenantId | None) -> Overview:
    async with door.database.transaction() as tx:
        return await overview.of(tx, door.snapshots.current, tenant_id)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/overview",
        name="getOverview",
        summary="Today beside yesterday, and what needs a person.",
        reach=Reach.ANY,
        permission=Permission.STATISTICS_READ,
        gives=Overview,
        manages=overview_of,
    ),
    Route(
        method="GET",
        path="/v1/overview/live",
        name="watchOverview",
        summary="The same as a stream of events, a second or two behind what happens.",
        reach=Reach.ANY,
        permission=Permission.STATISTICS_READ,
        query=AskedLiveOverview,
        gives=LiveOverview,
        codes=QUERY,
        events=True,
        own_transactions=True,
        manages=live,
    ),
)
