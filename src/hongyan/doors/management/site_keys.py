"""Site keys: what pages of a tenant ask for codes with. They are no secrets, and are shown whenever somebody asks."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan.control import site_keys, tenants
from hongyan.control.permissions import Permission
from hongyan.control.site_keys import SiteKeyRow
from hongyan.doors.call import INT_MAX, Call, detail_of
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code
from hongyan.vocab.message import AppId
from hongyan.vocab.verification import SCENES, Scene

Name = Annotated[str, Meta(max_length=site_keys.NAME_CHARACTERS_MAX)]
Origins = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=site_keys.ORIGIN_CHARACTERS_MAX)]],
    Meta(
        min_length=1,
        max_length=site_keys.ORIGINS_MAX,
        description="Where its pages are from: https://host, and :port unless it is 443.",
    ),
]
ReturnAddresses = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=site_keys.RETURN_ADDRESS_CHARACTERS_MAX)]],
    Meta(
        max_length=site_keys.RETURN_ADDRESSES_MAX,
        description="Where the hosted page may hand its proof to; none: it is not used.",
    ),
]
Scenes = Annotated[list[Scene], Meta(min_length=1, max_length=len(SCENES))]


class AskedSiteKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A site key to be made."""

    origins: Origins
    name: Name | UnsetType = UNSET
    return_addresses: ReturnAddresses | UnsetType = UNSET
    scenes: Scenes | UnsetType = UNSET
    sandbox: bool = False  # it reaches sandbox numbers only, for good


class AskedSiteKeyChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What of a site key is to change; what is left out stays."""

    name: Name | UnsetType = UNSET
    origins: Origins | UnsetType = UNSET
    return_addresses: ReturnAddresses | UnsetType = UNSET
    scenes: Scenes | UnsetType = UNSET
    active: bool | UnsetType = UNSET  # false: pages that show it work no more for now


class AskedSiteKeys(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which site keys."""

    app_id: Annotated[int, Meta(ge=1, le=INT_MAX)] | None = None


class SiteKeyPage(msgspec.Struct, frozen=True):
    items: list[SiteKeyRow]
    next: str | None = None


async def listed(call: Call) -> SiteKeyPage:
    asked = call.query(AskedSiteKeys)
    app_id = None if asked.app_id is None else AppId(asked.app_id)
    rows = await site_keys.page(
        call.tx, call.tenant_id, app_id=app_id, after=paging.after(asked), limit=asked.limit
    )
    return SiteKeyPage(list(rows), paging.following(rows, asked))


async def get(call: Call) -> SiteKeyRow:
    return await site_keys.get(call.tx, call.tenant_id, call.number())


async def create(call: Call) -> SiteKeyRow:
    asked, app_id = call.body(AskedSiteKey), AppId(call.number())
    await tenants.demand_app(call.tx, call.tenant_id, app_id)
    made = await site_keys.create(call.tx, app_id, **paging.given(asked))
    call.note(f"site_key:{made}", app=app_id, **detail_of(asked))
    return await site_keys.get(call.tx, call.tenant_id, made)


async def change(call: Call) -> SiteKeyRow:
    asked, id_ = call.body(AskedSiteKeyChange), call.number()
    await site_keys.change(call.tx, call.tenant_id, id_, **paging.given(asked))
    call.note(f"site_key:{id_}", **detail_of(asked))
    return await site_keys.get(call.tx, call.tenant_id, id_)


async def remove(call: Call) -> SiteKeyRow:
    id_ = call.number()
    gone = await site_keys.get(call.tx, call.tenant_id, id_)
    await site_keys.remove(call.tx, call.tenant_id, id_)
    call.note(f"site_key:{id_}", key_id=gone.key_id)
    return msgspec.structs.replace(gone, active=False)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/site-keys",
        name="listSiteKeys",
        summary="List site keys: what pages ask for codes with.",
        reach=Reach.ANY,
        permission=Permission.APPS_READ,
        query=AskedSiteKeys,
        gives=SiteKeyPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="POST",
        path="/v1/apps/{id}/site-keys",
        name="createSiteKey",
        summary="Make a site key for an app. It is no secret: pages show it.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        body=AskedSiteKey,
        example={"name": "shop", "origins": ["https://shop.example.com"], "scenes": ["login"]},
        gives=SiteKeyRow,
        status=201,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        ids="integer",
        manages=create,
    ),
    Route(
        method="GET",
        path="/v1/site-keys/{id}",
        name="getSiteKey",
        summary="Look at one site key.",
        reach=Reach.ANY,
        permission=Permission.APPS_READ,
        gives=SiteKeyRow,
        ids="integer",
        manages=get,
    ),
    Route(
        method="PATCH",
        path="/v1/site-keys/{id}",
        name="changeSiteKey",
        summary="Change a site key: its name, origins, return addresses and scenes; switch it off and on.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        body=AskedSiteKeyChange,
        example={"origins": ["https://shop.example.com", "https://m.shop.example.com"]},
        gives=SiteKeyRow,
        codes=BODY,
        ids="integer",
        manages=change,
    ),
    Route(
        method="DELETE",
        path="/v1/site-keys/{id}",
        name="removeSiteKey",
        summary="Take a site key away for good: pages that show it work no more.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        gives=SiteKeyRow,
        ids="integer",
        manages=remove,
    ),
)
