"""What somebody wants to see first: today beside yesterday, and what needs a person.

Entry points: ROUTES.
"""

from typing import Final

from hongyan.control import overview
from hongyan.control.overview import Overview
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.route import Reach, Route


async def overview_of(call: Call) -> Overview:
    """Return the overview of a tenant, or of the platform."""
    return await overview.of(call.tx, call.door.snapshots.current, call.tenant_id)


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
)
