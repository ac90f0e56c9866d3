"""Deliveries: each POST to a webhook, what came of it, and posting it again."""

import uuid
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control import posts
from hongyan.control.permissions import Permission
from hongyan.control.posts import Delivery, Resent
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.route import QUERY, Reach, Route
from hongyan.vocab.errors import Code
from hongyan.vocab.message import AppId
from hongyan.way import posted


class AskedDeliveries(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which deliveries."""

    app_id: Annotated[int, Meta(ge=1, le=INT_MAX)] | None = None
    message_id: Annotated[uuid.UUID, Meta(description="Those that told of this message.")] | None = None
    failed: Annotated[bool, Meta(description="Only those that were not taken.")] = False
    cursor: Annotated[
        uuid.UUID | None, Meta(description="`next` of the page before; none: the first page.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=posted.PAGE_MAX, description="Rows of a page.")] = 50


class DeliveryPage(msgspec.Struct, frozen=True):
    items: list[Delivery]
    next: str | None = None


async def listed(call: Call) -> DeliveryPage:
    asked = call.query(AskedDeliveries)
    rows = await posts.page(
        call.tx,
        call.tenant_id,
        app_id=None if asked.app_id is None else AppId(asked.app_id),
        message_id=asked.message_id,
        failed=asked.failed,
        before=posted.NO_ID if asked.cursor is None else asked.cursor,
        limit=asked.limit,
    )
    return DeliveryPage(list(rows), str(rows[-1].id) if len(rows) == asked.limit else None)


async def get(call: Call) -> Delivery:
    return await posts.get(call.tx, call.tenant_id, call.uuid())


async def resend(call: Call) -> Resent:
    resent = await posts.resend(call.tx, call.tenant_id, call.uuid())
    call.note(f"delivery:{call.uuid()}", hurried=resent.hurried, again=resent.again)
    return resent


async def test(call: Call) -> Delivery:
    """Post a test; the audit has that somebody did, once it is over."""
    door, app_id = call.door, AppId(call.number())
    delivery = await posts.test(door.database, door.vault, door.settings, call.tenant_id, app_id)
    call.note(f"webhook:{app_id}", delivery=str(delivery.id), status=delivery.status)
    async with door.database.transaction() as tx:
        await call.record(tx)
    return delivery


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/deliveries",
        name="listDeliveries",
        summary="List POSTs to webhooks and what came of each, newest first; kept for a week.",
        reach=Reach.ANY,
        permission=Permission.APPS_READ,
        query=AskedDeliveries,
        gives=DeliveryPage,
        codes=(*QUERY, Code.REQUEST_MISSING_PARAMETER),
        manages=listed,
    ),
    Route(
        method="GET",
        path="/v1/deliveries/{id}",
        name="getDelivery",
        summary="Look at one POST to a webhook, by the id in its Hongyan-Delivery-Id.",
        reach=Reach.ANY,
        permission=Permission.APPS_READ,
        gives=Delivery,
        manages=get,
    ),
    Route(
        method="POST",
        path="/v1/deliveries/{id}/resend",
        name="resendDelivery",
        summary="Post again what a POST told, as its messages are by now.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        gives=Resent,
        codes=(Code.REQUEST_CONFLICT,),
        changes=False,
        manages=resend,
    ),
    Route(
        method="POST",
        path="/v1/apps/{id}/webhook/test",
        name="testWebhook",
        summary="Post a test event to a webhook and say what came of it. If it is taken, a pause ends.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        gives=Delivery,
        ids="integer",
        changes=False,
        own_transactions=True,
        manages=test,
    ),
)
