"""What was posted to a tenant's webhooks, as people see it; post again, and post a test.

Writes nothing itself (way.posted and way.owing do). Entry points: page(), get(), resend(), test(). A delivery that failed is
shown with what is still owed of it: those notices are tried again by themselves, and resend() only makes them due now.
"""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, LiteralString

import msgspec

from hongyan import clock, db
from hongyan.control import deliveries
from hongyan.control.bounds import demand_found
from hongyan.egress import open_egress
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId, TenantId, first_id_at
from hongyan.way import owing, posted
from hongyan.way.notice import CORRECTION, INBOUND, STATUS
from hongyan.way.posted import ANNOUNCEMENT, NOTICES, TEST, Posted

TEST_GAP_S: Final = 3.0
APPS_MAX: Final = 10_000  # whose POSTs are shown together

_KINDS: Final[Mapping[int, Literal["notices", "announcement", "test"]]] = {
    NOTICES: "notices",
    ANNOUNCEMENT: "announcement",
    TEST: "test",
}
_EVENTS: Final = ((STATUS, "status"), (CORRECTION, "correction"), (INBOUND, "inbound"))


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One POST to a webhook."""

    id: uuid.UUID  # as the POST had it: Hongyan-Delivery-Id
    app_id: AppId
    app: str
    at: datetime
    kind: Literal["notices", "announcement", "test"]
    events: Mapping[str, int]  # how many of each event
    message_ids: Sequence[uuid.UUID]
    taken: bool
    status: int  # of HTTP; 0: nobody answered, and `error` says why
    error: str
    took_ms: int
    attempt: int
    waiting: int  # of a failed one: notices that will be posted again by themselves
    next_at: datetime | None  # when, at the earliest


APPS_SQL: LiteralString = """
SELECT a.id, a.name, a.tenant_id, CASE WHEN w.active THEN h.paused_until END AS paused_until, coalesce(w.active, false) AS active
  FROM app a LEFT JOIN webhook w ON w.app_id = a.id LEFT JOIN webhook_health h ON h.webhook_id = w.id
 WHERE ($1::int IS NULL OR a.tenant_id = $1) AND ($2::int IS NULL OR a.id = $2) AND ($2 IS NOT NULL OR w.id IS NOT NULL)
 ORDER BY a.id DESC LIMIT $3
"""


class _App(msgspec.Struct, frozen=True):
    id: AppId
    name: str
    tenant_id: TenantId
    paused_until: datetime | None
    active: bool  # it has a webhook that is posted to


async def _apps(tx: db.Tx, tenant_id: TenantId | None, app_id: AppId | None) -> Mapping[AppId, _App]:
    rows = [_App(**dict(row)) for row in await tx.fetch(APPS_SQL, tenant_id, app_id, APPS_MAX)]
    return {app.id: app for app in rows}


async def page(
    tx: db.Tx,
    tenant_id: TenantId | None,
    *,
    app_id: AppId | None = None,
    message_id: uuid.UUID | None = None,
    failed: bool = False,
    before: uuid.UUID = posted.NO_ID,
    limit: int = posted.PAGE_MAX,
) -> Sequence[Delivery]:
    """List POSTs to a tenant's webhooks (None: everybody's), newest first, made before the one of the id `before`."""
    apps = await _apps(tx, tenant_id, app_id)
    if message_id is None:
        rows = await posted.page(tx, list(apps), failed=failed, before=before, limit=limit)
        return await _shown(tx, rows, apps)
    found = await _message(tx, tenant_id, message_id)
    if found is None or (app := apps.get(found[0])) is None:
        return ()
    rows = await posted.of_message(
        tx, app.id, message_id, found[1], failed=failed, before=before, limit=limit
    )
    return await _shown(tx, rows, apps)


MESSAGE_SQL: LiteralString = """
SELECT app_id, coalesce(done_at, now()) AS since FROM message WHERE tenant_id = $1 AND id = $2
 UNION ALL
SELECT app_id, came_at FROM inbound WHERE id = $2 AND tenant_id = $1
"""


async def _message(
    tx: db.Tx, tenant_id: TenantId | None, message_id: uuid.UUID
) -> tuple[AppId, datetime] | None:
    """Return whose a message or an inbound is, and since when there was something to tell of it."""
    if tenant_id is None:
        raise Refusal(
            Code.REQUEST_MISSING_PARAMETER,
            parameter="tenant_id",
            reason="a message is looked for in a tenant",
        )
    row = await tx.fetchrow(MESSAGE_SQL, tenant_id, message_id)
    # A corrected one became final again, later than it was first told of.
    return None if row is None else (AppId(row["app_id"]), row["since"] - timedelta(days=3))


async def _shown(tx: db.Tx, rows: Sequence[Posted], apps: Mapping[AppId, _App]) -> Sequence[Delivery]:
    waiting = await owing.waiting(tx, [row.notice_ids for row in rows])
    return [_delivery(row, apps[row.app_id], left) for row, left in zip(rows, waiting, strict=True)]


def _delivery(row: Posted, app: _App, left: owing.Waiting) -> Delivery:
    due = [at for at in (left.due_at, app.paused_until) if at is not None]
    kinds = Counter(row.kinds)
    events = {name: kinds[kind] for kind, name in _EVENTS if kinds[kind]}
    return Delivery(
        id=row.id,
        app_id=row.app_id,
        app=app.name,
        at=row.at,
        kind=_KINDS[row.kind],
        events={row.event: 1} if row.event else events,
        message_ids=row.message_ids,
        taken=row.taken,
        status=row.status,
        error=row.error,
        took_ms=row.took_ms,
        attempt=row.attempt,
        waiting=left.notices,
        next_at=max(due) if left.notices and app.active else None,
    )


async def get(tx: db.Tx, tenant_id: TenantId | None, delivery_id: uuid.UUID) -> Delivery:
    """Return one POST. Raises Refusal where the tenant (None: anybody) has none of this id."""
    row, apps = await _own(tx, tenant_id, delivery_id)
    (shown,) = await _shown(tx, [row], apps)
    return shown


async def _own(
    tx: db.Tx, tenant_id: TenantId | None, delivery_id: uuid.UUID
) -> tuple[Posted, Mapping[AppId, _App]]:
    row = demand_found(await posted.get(tx, delivery_id), delivery=str(delivery_id))
    apps = await _apps(tx, tenant_id, row.app_id)
    demand_found(apps or None, delivery=str(delivery_id))
    return row, apps


class Resent(msgspec.Struct, frozen=True):
    """How much will be posted: what was still owed and is due now, and what was told before and is told again."""

    hurried: int
    again: int


async def resend(tx: db.Tx, tenant_id: TenantId | None, delivery_id: uuid.UUID) -> Resent:
    """Post again what a POST told, as its messages are by now.

    Raises Refusal where the tenant (None: anybody) has no such POST, it told of no message, or the app has no webhook.
    """
    row, apps = await _own(tx, tenant_id, delivery_id)
    app = apps[row.app_id]
    if row.kind != NOTICES:
        raise Refusal(Code.REQUEST_CONFLICT, reason="it told of no message")
    if not app.active:
        raise Refusal(Code.REQUEST_CONFLICT, reason="the app has no webhook that is posted to")
    hurried = set(await owing.hurry(tx, app.id, row.notice_ids))
    told = {one: kind for one, kind in zip(row.message_ids, row.kinds, strict=True) if one not in hurried}
    again = await owing.again(tx, app.tenant_id, app.id, list(told.items()))
    return Resent(len(hurried), again)


WEBHOOK_SQL: LiteralString = """
SELECT w.id, w.url, w.sealed FROM webhook w JOIN app a ON a.id = w.app_id
 WHERE w.app_id = $1 AND ($2::int IS NULL OR a.tenant_id = $2) AND w.active FOR NO KEY UPDATE OF w
"""
# Rows of a test are written once it is over; two at once are kept apart by the gap of the one before.
LATELY_SQL: LiteralString = "SELECT 1 FROM delivery WHERE app_id = $1 AND id > $2 AND kind = $3 LIMIT 1"


async def test(
    database: db.Database, vault: Vault, settings: Settings, tenant_id: TenantId | None, app_id: AppId
) -> Delivery:
    """Post a test event to an app's webhook and return what came of it; if it is taken, a pause of the webhook ends.

    No transaction is open meanwhile. Raises Refusal where the app has no webhook, or was just tested.
    """
    async with database.transaction() as tx:
        webhook = demand_found(await tx.fetchrow(WEBHOOK_SQL, app_id, tenant_id), app=app_id)
        lately = first_id_at(clock.now_s() - TEST_GAP_S)
        if await tx.fetchval(LATELY_SQL, app_id, lately, TEST):
            raise Refusal(Code.REQUEST_RATE_LIMITED, retry_after_s=TEST_GAP_S)
    event = {"event": "test", "id": str(deliveries.IDS.make()), "at": clock.now(), "app_id": app_id}
    body = msgspec.json.encode({"events": [event]})
    secret = vault.unseal_secret(webhook["sealed"])
    async with open_egress(settings) as egress:
        sent = await deliveries.send(egress, webhook["url"], secret, body, webhook_id=webhook["id"])
    row = Posted(
        id=sent.id, app_id=app_id, kind=TEST, status=sent.status, error=sent.error, took_ms=sent.took_ms,
        attempt=1, event="test",
    )  # fmt: skip
    await posted.write(database, [row])
    if row.taken:
        await owing.write_health(database, webhook["id"], None)
    async with database.transaction() as tx:
        return await get(tx, tenant_id, sent.id)
