"""Policies of the platform, and what tenants were told of decisions."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan.control import announcements, policies
from hongyan.control.announcements import AnnouncementRow
from hongyan.control.permissions import Permission
from hongyan.control.policies import RULES_MAX, AutomaticRule, FourEyesKind, Policies
from hongyan.doors.call import Call, detail_of
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, Reach, Route


class AskedPolicies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is decided anew; what is left out stays."""

    sign_up: Annotated[str, Meta(pattern="^(open|closed)$")] | UnsetType = UNSET
    review_automatic: Annotated[list[AutomaticRule], Meta(max_length=RULES_MAX)] | UnsetType = UNSET
    four_eyes: Annotated[list[FourEyesKind], Meta(max_length=RULES_MAX)] | UnsetType = UNSET


class AnnouncementPage(msgspec.Struct, frozen=True):
    items: list[AnnouncementRow]
    next: str | None = None


async def get(call: Call) -> Policies:
    return await policies.read(call.tx)


async def change(call: Call) -> Policies:
    asked = call.body(AskedPolicies)
    call.note("policies", **detail_of(asked))
    return await policies.change(call.tx, paging.given(asked), who=call.caller.name)


async def list_announcements(call: Call) -> AnnouncementPage:
    asked = call.query(paging.Asked)
    rows = await announcements.page(call.tx, call.tenant_id, before=paging.before(asked), limit=asked.limit)
    return AnnouncementPage(list(rows), paging.following(rows, asked))


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/policies",
        name="getPolicies",
        summary="Look at who may sign up, what people have to look at, and how many of them.",
        reach=Reach.PLATFORM,
        permission=Permission.CONFIGURATION_READ,
        gives=Policies,
        manages=get,
    ),
    Route(
        method="PATCH",
        path="/v1/policies",
        name="changePolicies",
        summary="Change policies; what is left out stays.",
        reach=Reach.PLATFORM,
        permission=Permission.CONFIGURATION_WRITE,
        body=AskedPolicies,
        example={"sign_up": "open", "review_automatic": ["template.otp"], "four_eyes": ["qualification"]},
        gives=Policies,
        codes=BODY,
        changes=False,
        manages=change,
    ),
    Route(
        method="GET",
        path="/v1/announcements",
        name="listAnnouncements",
        summary="List what was told of decisions, the newest first.",
        reach=Reach.ANY,
        permission=Permission.WORDING_READ,
        query=paging.Asked,
        gives=AnnouncementPage,
        codes=QUERY,
        manages=list_announcements,
    ),
)
