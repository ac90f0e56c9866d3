"""Apps of a tenant, and the webhook of each: where its notices go."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan.control import tenants, webhooks
from hongyan.control.permissions import Permission
from hongyan.control.tenants import AppRow
from hongyan.control.webhooks import WebhookTerms
from hongyan.doors.call import Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code
from hongyan.vocab.message import AppId, TenantId


class AskedApp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An app by its name."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]


class AskedAppChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of an app is to change; what is left out stays."""

    name: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET
    active: bool | UnsetType = UNSET  # false: its keys and its login are refused from now on


class AppPage(msgspec.Struct, frozen=True):
    items: list[AppRow]
    next: str | None = None


class AskedWebhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where notices go: http or https, to an address that is public."""

    url: Annotated[str, Meta(min_length=1, max_length=2_048)]


class WebhookPage(msgspec.Struct, frozen=True):
    items: list[WebhookTerms]
    next: str | None = None


class WebhookSet(msgspec.Struct, frozen=True):
    """A webhook, and its secret where that is new: it is never shown again."""

    webhook: WebhookTerms
    secret: str | None


async def listed(call: Call) -> AppPage:
    asked = call.query(paging.Asked)
    rows = await tenants.apps(call.tx, call.tenant_id, after=paging.after(asked), limit=asked.limit)
    return AppPage(list(rows), paging.following(rows, asked))


async def create(call: Call) -> AppRow:
    asked = call.body(AskedApp)
    app_id = await tenants.create_app(call.tx, call.tenant, asked.name)
    call.note(f"app:{app_id}", name=asked.name)
    return await _app(call, app_id)


async def get(call: Call) -> AppRow:
    app_id, _ = await _own(call)
    return await _app(call, app_id)


async def change(call: Call) -> AppRow:
    asked = call.body(AskedAppChange)
    app_id, tenant_id = await _own(call)
    if asked.name is not UNSET:
        await tenants.rename_app(call.tx, tenant_id, app_id, asked.name)
    if asked.active is not UNSET:
        await tenants.switch_app(call.tx, app_id, active=asked.active)
    call.note(f"app:{app_id}", **paging.given(asked))
    return await _app(call, app_id)


async def _own(call: Call) -> tuple[AppId, TenantId]:
    """Return the app of the path and whose it is; somebody else's is not found."""
    app_id = AppId(call.number())
    return app_id, await tenants.demand_app(call.tx, call.tenant_id, app_id)


async def _app(call: Call, app_id: AppId) -> AppRow:
    (row,) = await tenants.apps(call.tx, call.tenant_id, after=app_id - 1, limit=1)
    return row


async def list_webhooks(call: Call) -> WebhookPage:
    asked = call.query(paging.Asked)
    rows = await webhooks.page(call.tx, call.tenant_id, after=paging.after(asked), limit=asked.limit)
    return WebhookPage(list(rows), paging.following(rows, asked, "app_id"))


async def get_webhook(call: Call) -> WebhookTerms:
    return await webhooks.get(call.tx, call.tenant_id, AppId(call.number()))


async def put_webhook(call: Call) -> WebhookSet:
    asked = call.body(AskedWebhook)
    app_id, _ = await _own(call)
    secret = await webhooks.put(call.tx, call.door.vault, call.door.settings, app_id, asked.url)
    call.note(f"webhook:{app_id}", url=asked.url.partition("?")[0])  # a query may hold a word of theirs
    shown = None if secret is None else secret.reveal().decode()
    return WebhookSet(await webhooks.get(call.tx, call.tenant_id, app_id), shown)


async def renew_webhook(call: Call) -> WebhookSet:
    app_id, _ = await _own(call)
    secret = await webhooks.renew_secret(call.tx, call.door.vault, app_id)
    call.note(f"webhook:{app_id}", secret="renewed")  # noqa: S106 - that it was, not what it is
    return WebhookSet(await webhooks.get(call.tx, call.tenant_id, app_id), secret.reveal().decode())


async def remove_webhook(call: Call) -> WebhookTerms:
    app_id, _ = await _own(call)
    await webhooks.remove(call.tx, app_id)
    call.note(f"webhook:{app_id}")
    return await webhooks.get(call.tx, call.tenant_id, app_id)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/apps",
        name="listApps",
        summary="List apps: a tenant's programs.",
        reach=Reach.ANY,
        permission=Permission.APPS_READ,
        query=paging.Asked,
        gives=AppPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="POST",
        path="/v1/apps",
        name="createApp",
        summary="Make an app.",
        reach=Reach.TENANT,
        permission=Permission.APPS_WRITE,
        body=AskedApp,
        example={"name": "shop"},
        gives=AppRow,
        status=201,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        manages=create,
    ),
    Route(
        method="GET",
        path="/v1/apps/{id}",
        name="getApp",
        summary="Look at one app.",
        reach=Reach.ANY,
        permission=Permission.APPS_READ,
        gives=AppRow,
        ids="integer",
        manages=get,
    ),
    Route(
        method="PATCH",
        path="/v1/apps/{id}",
        name="changeApp",
        summary="Give an app another name, or switch it off and on: its keys and its login are refused meanwhile.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        body=AskedAppChange,
        example={"name": "store"},
        gives=AppRow,
        codes=BODY,
        ids="integer",
        manages=change,
    ),
    Route(
        method="GET",
        path="/v1/webhooks",
        name="listWebhooks",
        summary="List webhooks and how they fare.",
        reach=Reach.ANY,
        permission=Permission.APPS_READ,
        query=paging.Asked,
        gives=WebhookPage,
        codes=QUERY,
        manages=list_webhooks,
    ),
    Route(
        method="GET",
        path="/v1/apps/{id}/webhook",
        name="getWebhook",
        summary="Look at an app's webhook: whether it is paused, and the last error.",
        reach=Reach.ANY,
        permission=Permission.APPS_READ,
        gives=WebhookTerms,
        ids="integer",
        manages=get_webhook,
    ),
    Route(
        method="PUT",
        path="/v1/apps/{id}/webhook",
        name="putWebhook",
        summary="Say where an app's notices go. The first time a secret is shown, once.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        body=AskedWebhook,
        example={"url": "https://example.com/hongyan"},
        gives=WebhookSet,
        codes=BODY,
        ids="integer",
        manages=put_webhook,
    ),
    Route(
        method="POST",
        path="/v1/apps/{id}/webhook/renew",
        name="renewWebhookSecret",
        summary="Replace the secret our POSTs are signed with, at once. The new one is shown once.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        gives=WebhookSet,
        ids="integer",
        manages=renew_webhook,
    ),
    Route(
        method="DELETE",
        path="/v1/apps/{id}/webhook",
        name="removeWebhook",
        summary="Post no more to an app; its notices wait to be pulled.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        gives=WebhookTerms,
        ids="integer",
        manages=remove_webhook,
    ),
)
