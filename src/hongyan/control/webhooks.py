"""Webhooks: where an app wants its notices posted.

Writes: webhook. Entry points: put(), renew_secret(), remove(), every(), page(), get(). The secret that signs our POSTs is
returned once and sealed.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, LiteralString

import msgspec

from hongyan import db, egress
from hongyan.control.bounds import demand, demand_found
from hongyan.control.keys import new_secret
from hongyan.settings import Settings
from hongyan.vault import Secret, Vault
from hongyan.vocab.message import AppId, TenantId

PAGE_MAX: Final = 500
WAITING_MAX: Final = 1_000  # as in ROWS_SQL


class WebhookRow(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as an operator sees it in a list."""

    tenant: str
    app: str
    url: str
    active: bool
    failures: int  # in a row, until now
    last_error: str


class WebhookTerms(WebhookRow, frozen=True, kw_only=True):
    """The same with what pages need."""

    app_id: AppId
    tenant_id: TenantId
    paused_until: datetime | None  # nothing is posted before; notices wait
    waiting: int  # notices the app is owed, counted up to WAITING_MAX
    created_at: datetime


PUT_SQL: LiteralString = """
INSERT INTO webhook (app_id, url, sealed) VALUES ($1, $2, $3)
ON CONFLICT (app_id) DO UPDATE SET url = EXCLUDED.url, active = true RETURNING (xmax = 0) AS is_new
"""


async def put(tx: db.Tx, vault: Vault, settings: Settings, app_id: AppId, url: str) -> Secret | None:
    """Set where an app's notices go; returns the new secret, None where there was one: it stays.

    Raises Refusal for a URL we would not call (egress.refusal_of_url()).
    """
    reason = egress.refusal_of_url(url, private=settings.webhook_private_addresses)
    demand(not reason, "url", reason)
    secret = new_secret()
    is_new = await tx.fetchval(PUT_SQL, app_id, url, vault.seal_secret(secret.reveal()))
    return secret if is_new else None


RENEW_SQL: LiteralString = "UPDATE webhook SET sealed = $2 WHERE app_id = $1 RETURNING id"


async def renew_secret(tx: db.Tx, vault: Vault, app_id: AppId) -> Secret:
    """Replace the secret at once; POSTs under the old one end.

    Raises Refusal where the app has no webhook.
    """
    secret = new_secret()
    demand_found(await tx.fetchval(RENEW_SQL, app_id, vault.seal_secret(secret.reveal())), app=app_id)
    return secret


REMOVE_SQL: LiteralString = "UPDATE webhook SET active = false WHERE app_id = $1 AND active RETURNING id"


async def remove(tx: db.Tx, app_id: AppId) -> None:
    """Post no more; notices wait to be pulled. Raises Refusal where the app has no webhook."""
    demand_found(await tx.fetchval(REMOVE_SQL, app_id), app=app_id)


EVERY_SQL: LiteralString = """
SELECT t.name AS tenant, a.name AS app, w.url, w.active, coalesce(h.failures, 0) AS failures,
       coalesce(h.last_error, '') AS last_error
  FROM webhook w JOIN app a ON a.id = w.app_id JOIN tenant t ON t.id = a.tenant_id
  LEFT JOIN webhook_health h ON h.webhook_id = w.id ORDER BY w.id
"""


async def every(tx: db.Tx) -> Sequence[WebhookRow]:
    """List the webhooks and how they fare."""
    return [WebhookRow(**dict(row)) for row in await tx.fetch(EVERY_SQL)]


ROWS_SQL: LiteralString = """
SELECT w.app_id, a.tenant_id, t.name AS tenant, a.name AS app, w.url, w.active, coalesce(h.failures, 0) AS failures,
       coalesce(h.last_error, '') AS last_error, h.paused_until, w.created_at,
       (SELECT count(*) FROM (SELECT 1 FROM notice n WHERE n.app_id = w.app_id LIMIT 1000) owed)::int AS waiting
  FROM webhook w JOIN app a ON a.id = w.app_id JOIN tenant t ON t.id = a.tenant_id
  LEFT JOIN webhook_health h ON h.webhook_id = w.id
"""
PAGE_SQL: LiteralString = (
    ROWS_SQL
    + """
 WHERE ($1::int IS NULL OR a.tenant_id = $1) AND w.app_id > $2 ORDER BY w.app_id LIMIT $3
"""
)


async def page(
    tx: db.Tx,
    tenant_id: TenantId | None,
    *,
    after: int = 0,
    limit: int = PAGE_MAX,
) -> Sequence[WebhookTerms]:
    """List a tenant's webhooks (None: everybody's) behind the app `after`, and how they fare."""
    rows = await tx.fetch(PAGE_SQL, tenant_id, after, min(limit, PAGE_MAX))
    return [WebhookTerms(**dict(row)) for row in rows]


GET_SQL: LiteralString = ROWS_SQL + " WHERE w.app_id = $1 AND ($2::int IS NULL OR a.tenant_id = $2)"


async def get(tx: db.Tx, tenant_id: TenantId | None, app_id: AppId) -> WebhookTerms:
    """Return the webhook of an app. Raises Refusal where the tenant (None: anybody) has no such app, or it no webhook."""
    return WebhookTerms(**dict(demand_found(await tx.fetchrow(GET_SQL, app_id, tenant_id), app=app_id)))
