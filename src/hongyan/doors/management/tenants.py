"""Tenants: made, changed, suspended and resumed by people of the platform; one looks at itself."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan.control import tenants
from hongyan.control.permissions import Permission
from hongyan.control.tenants import ChargeOn, TenantChange, TenantTerms
from hongyan.doors.call import Call, detail_of
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vault import read_master_key
from hongyan.vocab.message import Purpose, TenantId

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Country = Annotated[str, Meta(pattern=r"^([A-Z]{2}|\*)$", description="ISO 3166-1 alpha-2, or *")]
Countries = Annotated[list[Country], Meta(min_length=1, max_length=tenants.COUNTRIES_MAX)]
Weight = Annotated[int, Meta(ge=1, le=100, description="The share inside a lane, beside other tenants.")]
From = Annotated[int, Meta(ge=9, le=21, description="Promotional texts leave before this hour.")]
Until = Annotated[int, Meta(ge=8, le=12, description="Promotional texts leave from this hour on.")]
Hit = Annotated[int, Meta(ge=0, le=tenants.HITS_MAX)]
Limits = Annotated[
    dict[Purpose, tuple[Hit, Hit, Hit]],
    Meta(
        max_length=len(Purpose),
        description="Of one number, by purpose: most a minute, an hour, a day; 0 = no limit.",
    ),
]
Demanded = Annotated[bool, Meta(description="Promotional lists leave out whom no consent is on record of.")]
Duplicate = Annotated[int, Meta(ge=0, le=86_400, description="The same text not again within; 0 = may.")]


class AskedTenant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tenant to be made. Whoever makes one vouches for it, unless `qualified` is false."""

    name: Name
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", description="ISO 4217; it cannot change later.")] = (
        "CNY"
    )
    qualified: bool = True
    charge_on: ChargeOn | UnsetType = UNSET
    countries: Countries | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    quiet_from_hour: From | UnsetType = UNSET
    quiet_until_hour: Until | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET
    duplicate_s: Duplicate | UnsetType = UNSET
    consent_demanded: Demanded | UnsetType = UNSET


class AskedTenantChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a tenant is to change; what is left out stays."""

    name: Name | UnsetType = UNSET
    charge_on: ChargeOn | UnsetType = UNSET
    countries: Countries | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    quiet_from_hour: From | UnsetType = UNSET
    quiet_until_hour: Until | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET
    duplicate_s: Duplicate | UnsetType = UNSET
    consent_demanded: Demanded | UnsetType = UNSET


class AskedReason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why; the tenant's history keeps it."""

    reason: Annotated[str, Meta(min_length=1, max_length=tenants.REASON_CHARACTERS_MAX)]


class AskedTenants(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which tenants."""

    named: Annotated[str, Meta(max_length=64, description="A piece of the name or the legal name.")] = ""
    active: bool | None = None
    qualified: bool | None = None


class TenantPage(msgspec.Struct, frozen=True):
    items: list[TenantTerms]
    next: str | None = None


class TenantHistory(msgspec.Struct, frozen=True):
    items: list[TenantChange]  # the newest first


async def listed(call: Call) -> TenantPage:
    asked = call.query(AskedTenants)
    rows = await tenants.page(
        call.tx,
        tenant_id=call.tenant_id,
        named=asked.named,
        active=asked.active,
        qualified=asked.qualified,
        after=paging.after(asked),
        limit=asked.limit,
    )
    return TenantPage(list(rows), paging.following(rows, asked))


async def get(call: Call) -> TenantTerms:
    return await tenants.get(call.tx, TenantId(call.number()))


async def own(call: Call) -> TenantTerms:
    return await tenants.get(call.tx, call.tenant)


async def create(call: Call) -> TenantTerms:
    asked = call.body(AskedTenant)
    settings = call.door.settings
    master = read_master_key(settings.master_key, settings.state_dir / "master.key")
    tenant_id = await tenants.create(
        call.tx, call.door.vault, master, who=call.caller.name, **paging.given(asked)
    )
    call.note(f"tenant:{tenant_id}", **detail_of(asked))
    return await tenants.get(call.tx, tenant_id)


async def change(call: Call) -> TenantTerms:
    asked, tenant_id = call.body(AskedTenantChange), TenantId(call.number())
    await tenants.change(call.tx, tenant_id, who=call.caller.name, **paging.given(asked))
    call.note(f"tenant:{tenant_id}", **detail_of(asked))
    return await tenants.get(call.tx, tenant_id)


async def suspend(call: Call) -> TenantTerms:
    asked, tenant_id = call.body(AskedReason), TenantId(call.number())
    await tenants.suspend(call.tx, tenant_id, who=call.caller.name, reason=asked.reason)
    call.note(f"tenant:{tenant_id}", reason=asked.reason)
    return await tenants.get(call.tx, tenant_id)


async def resume(call: Call) -> TenantTerms:
    asked, tenant_id = call.body(AskedReason), TenantId(call.number())
    await tenants.resume(call.tx, tenant_id, who=call.caller.name, reason=asked.reason)
    call.note(f"tenant:{tenant_id}", reason=asked.reason)
    return await tenants.get(call.tx, tenant_id)


async def history(call: Call) -> TenantHistory:
    tenant_id = TenantId(call.number())
    await tenants.get(call.tx, tenant_id)
    return TenantHistory(list(await tenants.history(call.tx, tenant_id)))


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/tenants",
        name="listTenants",
        summary="List tenants with their balances.",
        reach=Reach.PLATFORM,
        permission=Permission.TENANTS_READ,
        query=AskedTenants,
        gives=TenantPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="POST",
        path="/v1/tenants",
        name="createTenant",
        summary="Make a tenant. It starts without money.",
        reach=Reach.PLATFORM,
        permission=Permission.TENANTS_WRITE,
        body=AskedTenant,
        example={"name": "Orchid", "countries": ["CN", "HK"], "limits": {"otp": [1, 5, 10]}},
        gives=TenantTerms,
        status=201,
        codes=BODY,
        manages=create,
    ),
    Route(
        method="GET",
        path="/v1/tenant",
        name="getOwnTenant",
        summary="Look at one's own tenant: what it may, and by which limits.",
        reach=Reach.TENANT,
        permission=Permission.LEDGER_READ,
        gives=TenantTerms,
        manages=own,
    ),
    Route(
        method="GET",
        path="/v1/tenants/{id}",
        name="getTenant",
        summary="Look at one tenant.",
        reach=Reach.PLATFORM,
        permission=Permission.TENANTS_READ,
        gives=TenantTerms,
        ids="integer",
        manages=get,
    ),
    Route(
        method="PATCH",
        path="/v1/tenants/{id}",
        name="changeTenant",
        summary="Change a tenant's terms; what is left out stays.",
        reach=Reach.PLATFORM,
        permission=Permission.TENANTS_WRITE,
        body=AskedTenantChange,
        example={"weight": 2, "quiet_from_hour": 19},
        gives=TenantTerms,
        codes=BODY,
        ids="integer",
        manages=change,
    ),
    Route(
        method="POST",
        path="/v1/tenants/{id}/suspend",
        name="suspendTenant",
        summary="Take nothing more from a tenant; what it has been promised still leaves.",
        reach=Reach.PLATFORM,
        permission=Permission.TENANTS_WRITE,
        body=AskedReason,
        example={"reason": "complaints of 12321 unanswered"},
        gives=TenantTerms,
        codes=BODY,
        ids="integer",
        manages=suspend,
    ),
    Route(
        method="POST",
        path="/v1/tenants/{id}/resume",
        name="resumeTenant",
        summary="Take from a suspended tenant again.",
        reach=Reach.PLATFORM,
        permission=Permission.TENANTS_WRITE,
        body=AskedReason,
        example={"reason": "complaints answered"},
        gives=TenantTerms,
        codes=BODY,
        ids="integer",
        manages=resume,
    ),
    Route(
        method="GET",
        path="/v1/tenants/{id}/history",
        name="getTenantHistory",
        summary="List what was done to a tenant, by whom and why.",
        reach=Reach.PLATFORM,
        permission=Permission.TENANTS_READ,
        gives=TenantHistory,
        ids="integer",
        manages=history,
    ),
)
