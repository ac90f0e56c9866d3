"""Prices of a part: what is charged for it, by tenant, country, operator and purpose.

Entry points: ROUTES. A tenant sees what counts for it: its own rows and those for every tenant.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control import prices
from hongyan.control.permissions import Permission
from hongyan.control.prices import ANY, EVERY_TENANT, PriceRow
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.route import BODY, Reach, Route
from hongyan.vocab.message import Purpose, TenantId

Country = Annotated[
    str, Meta(pattern=r"^([A-Z]{2}|\*)$", description="ISO 3166-1 alpha-2, or * for everywhere")
]
Operator = Annotated[str, Meta(min_length=1, max_length=64, description="as cmcc, or * for every one")]
Tenant = Annotated[int, Meta(ge=1, le=INT_MAX, description="null: every tenant without a row of its own")]


class AskedPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a part costs, and for whom and where that counts; the most exact row counts."""

    part_micro: Annotated[
        int, Meta(ge=0, le=1_000_000_000, description="millionths of the tenant's currency")
    ]
    tenant_id: Tenant | None = None
    country: Country = ANY
    operator: Operator = ANY
    purpose: Purpose | None = None


class AskedPricePlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which row."""

    tenant_id: Tenant | None = None
    country: Country = ANY
    operator: Operator = ANY
    purpose: Purpose | None = None


class Prices(msgspec.Struct, frozen=True):
    """All rows; those for every tenant come first."""

    items: list[PriceRow]


async def listed(call: Call) -> Prices:
    """List prices."""
    return Prices(list(await prices.every(call.tx, call.tenant_id)))


async def put(call: Call) -> PriceRow:
    """Set one price."""
    asked = call.body(AskedPrice)
    tenant_id = EVERY_TENANT if asked.tenant_id is None else TenantId(asked.tenant_id)
    row = await prices.put(
        call.tx,
        asked.part_micro,
        tenant_id=tenant_id,
        country=asked.country,
        operator=asked.operator,
        purpose=asked.purpose,
    )
    call.note(_subject(tenant_id, asked.country, asked.operator, asked.purpose), part_micro=asked.part_micro)
    return row


async def remove(call: Call) -> PriceRow:
    """Take one price away; a less exact one counts then."""
    asked = call.query(AskedPricePlace)
    tenant_id = EVERY_TENANT if asked.tenant_id is None else TenantId(asked.tenant_id)
    row = await prices.remove(
        call.tx, tenant_id=tenant_id, country=asked.country, operator=asked.operator, purpose=asked.purpose
    )
    call.note(_subject(tenant_id, asked.country, asked.operator, asked.purpose), part_micro=row.part_micro)
    return row


def _subject(tenant_id: TenantId, country: str, operator: str, purpose: Purpose | None) -> str:
    return f"price:{tenant_id}/{country}/{operator}/{purpose or ANY}"


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/prices",
        name="listPrices",
        summary="List the prices of a part.",
        reach=Reach.ANY,
        permission=Permission.PRICES_READ,
        gives=Prices,
        manages=listed,
    ),
    Route(
        method="PUT",
        path="/v1/prices",
        name="putPrice",
        summary="Set the price of a part; what was accepted keeps its price.",
        reach=Reach.PLATFORM,
        permission=Permission.PRICES_WRITE,
        body=AskedPrice,
        example={"part_micro": 45_000, "country": "CN", "operator": "cmcc", "purpose": "otp"},
        gives=PriceRow,
        codes=BODY,
        manages=put,
    ),
    Route(
        method="DELETE",
        path="/v1/prices",
        name="removePrice",
        summary="Remove a price; where none is left, the country cannot be written to.",
        reach=Reach.PLATFORM,
        permission=Permission.PRICES_WRITE,
        query=AskedPricePlace,
        gives=PriceRow,
        manages=remove,
    ),
)
