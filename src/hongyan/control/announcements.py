"""What a tenant is told of decisions about it: an event to each of its webhooks, and an e-mail to its owners.

Writes: announcement, announcement_way. Entry points: owe(), in the transaction of the decision; run(), the loop that
delivers; page(). An announcement goes several ways, each by itself (deliveries.py); what was announced can be listed long
after. These are not the notices of the way: nothing here is about a message. A process that dies between a POST and its
commit posts again, under the same id.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString

import msgspec
import structlog

from hongyan import db, leap, mail
from hongyan.control import deliveries
from hongyan.control.deliveries import Round
from hongyan.egress import Egress
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.message import AppId, TenantId
from hongyan.way import posted
from hongyan.way.posted import Posted

log = structlog.get_logger()

KEEP_S: Final = 180 * 86_400.0
FORGET_MAX: Final = 1_000  # of one step
FORGET_GAP_S: Final = 3_600.0
SUBJECT_CHARACTERS_MAX: Final = 200
WORDS_CHARACTERS_MAX: Final = 4_000
OWNERS_MAX: Final = 20
PAGE_MAX: Final = 500
ID_MAX: Final = 2**63 - 1
MAIL: Final = "mail"


class AnnouncementRow(msgspec.Struct, frozen=True, kw_only=True):
    """An announcement as a tenant sees it."""

    id: int
    tenant_id: TenantId
    event: str
    subject: str
    words: str
    body: Mapping[str, Any]
    created_at: datetime
    waiting: Sequence[str]  # the ways it has not gone yet
    last_error: str


OWE_SQL: LiteralString = """
WITH made AS (
    INSERT INTO announcement (tenant_id, event, subject, words, body) VALUES ($1, $2, $3, $4, $5) RETURNING id
)
INSERT INTO announcement_way (announcement_id, way)
SELECT made.id, 'mail' FROM made
 UNION ALL
SELECT made.id, 'webhook:' || w.app_id FROM made, app a JOIN webhook w ON w.app_id = a.id AND w.active
 WHERE a.tenant_id = $1
"""


async def owe(
    tx: db.Tx, tenant_id: TenantId, event: str, *, subject: str, words: str, body: Mapping[str, object]
) -> None:
    """Owe a tenant the news: `body` stands in the event, `subject` and `words` in the e-mail. Never a number or secret."""
    plain = msgspec.json.encode(body).decode()
    short = " ".join(subject.split())[:SUBJECT_CHARACTERS_MAX]
    await tx.execute(OWE_SQL, tenant_id, event, short, words[:WORDS_CHARACTERS_MAX], plain)


async def run(database: db.Database, vault: Vault, settings: Settings, egress: Egress) -> None:
    """Deliver what is owed and forget what is old, until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_keep_forgetting(database))
        group.create_task(deliveries.run(_round(database, vault, settings, egress)))


async def deliver(database: db.Database, vault: Vault, settings: Settings, egress: Egress) -> int:
    """Deliver what is due once; returns how many ways were tried."""
    return await deliveries.deliver(_round(database, vault, settings, egress))


class _Way(msgspec.Struct, frozen=True):
    announcement_id: int
    way: str
    attempt: int
    tenant_id: TenantId
    event: str
    subject: str
    words: str
    body: str  # JSON
    created_at: datetime


# Leased by being due later.
CLAIM_SQL: LiteralString = """
WITH due AS MATERIALIZED (
    SELECT announcement_id, way FROM announcement_way WHERE due_at <= now()
     ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE announcement_way w SET due_at = now() + make_interval(secs => $2::float8)
      FROM due WHERE w.announcement_id = due.announcement_id AND w.way = due.way
    RETURNING w.announcement_id, w.way, w.attempt
)
SELECT t.announcement_id, t.way, t.attempt, a.tenant_id, a.event, a.subject, a.words, a.body, a.created_at
  FROM taken t JOIN announcement a ON a.id = t.announcement_id
"""


GONE_SQL: LiteralString = "DELETE FROM announcement_way WHERE announcement_id = $1 AND way = $2"
LATER_SQL: LiteralString = """
UPDATE announcement_way SET attempt = attempt + 1, due_at = now() + make_interval(secs => $3::float8), last_error = $4
 WHERE announcement_id = $1 AND way = $2
"""


def _round(database: db.Database, vault: Vault, settings: Settings, egress: Egress) -> Round[_Way]:
    async def claim(count: int, lease_s: float) -> Sequence[_Way]:
        return [_Way(**dict(row)) for row in await database.fetch(CLAIM_SQL, count, lease_s)]

    async def attempt(way: _Way) -> str:
        if way.way == MAIL:
            return await _mail(database, settings, way)
        return await _post(database, vault, egress, way)

    async def gone(way: _Way) -> None:
        await database.execute(GONE_SQL, way.announcement_id, way.way)

    async def later(way: _Way, delay_s: float, error: str) -> None:
        await database.execute(LATER_SQL, way.announcement_id, way.way, delay_s, error)

    return Round("announcements", claim, attempt, gone, later)


OWNERS_SQL: LiteralString = """
SELECT email FROM console_user WHERE tenant_id = $1 AND role = 'owner' AND active ORDER BY id LIMIT $2
"""


async def _mail(database: db.Database, settings: Settings, way: _Way) -> str:
    """Write to the owners; returns what went wrong. Where no mail server is configured, or no owner is, it is done."""
    owners = [row["email"] for row in await database.fetch(OWNERS_SQL, way.tenant_id, OWNERS_MAX)]
    try:
        if owners:
            await mail.send(settings, owners, way.subject, way.words)
    except mail.MailError as error:
        return str(error)
    return ""


WEBHOOK_SQL: LiteralString = """
SELECT w.id, w.url, w.sealed FROM webhook w JOIN app a ON a.id = w.app_id
 WHERE w.app_id = $1 AND a.tenant_id = $2 AND w.active
"""


async def _post(database: db.Database, vault: Vault, egress: Egress, way: _Way) -> str:
    """Post the event as notices are posted; returns what went wrong. A webhook that was removed is owed nothing."""
    found = await database.fetch(WEBHOOK_SQL, int(way.way.partition(":")[2]), way.tenant_id)
    if not found:
        return ""
    (webhook,) = found
    body = body_of(way.announcement_id, way.event, way.created_at, way.body)
    secret = vault.unseal_secret(webhook["sealed"])
    sent = await deliveries.send(egress, webhook["url"], secret, body, webhook_id=webhook["id"])
    await posted.write(
        database,
        [
            Posted(
                id=sent.id,
                app_id=AppId(int(way.way.partition(":")[2])),
                kind=posted.ANNOUNCEMENT,
                status=sent.status,
                error=sent.error,
                took_ms=sent.took_ms,
                attempt=way.attempt + 1,
                event=way.event,
            )
        ],
    )
    return sent.wrong


def body_of(announcement_id: int, event: str, at: datetime, body: str) -> bytes:
    """Return the JSON of a POST: one event in a list, as notices come. `id` is the same whenever it comes again."""
    said = {"event": event, "id": announcement_id, "at": at} | msgspec.json.decode(body, type=dict[str, Any])
    return msgspec.json.encode({"events": [said]})


FORGET_SQL: LiteralString = """
DELETE FROM announcement WHERE created_at < now() - make_interval(secs => $1::float8)
   AND id IN (SELECT id FROM announcement ORDER BY id LIMIT $2)
"""


async def _keep_forgetting(database: db.Database) -> None:
    while True:
        try:
            if await leap.believed(database):
                await database.execute(FORGET_SQL, KEEP_S, FORGET_MAX)
        except db.Unavailable as error:
            log.warning("announcements.not_forgotten", error=type(error).__name__)
        await asyncio.sleep(FORGET_GAP_S)


ROWS_SQL: LiteralString = """
SELECT a.id, a.tenant_id, a.event, a.subject, a.words, a.body, a.created_at,
       ARRAY(SELECT w.way FROM announcement_way w WHERE w.announcement_id = a.id ORDER BY w.way) AS waiting,
       coalesce((SELECT max(w.last_error) FROM announcement_way w WHERE w.announcement_id = a.id), '') AS last_error
  FROM announcement a
"""
ALL_SQL: LiteralString = ROWS_SQL + " WHERE a.id < $1 ORDER BY a.id DESC LIMIT $2"
PAGE_SQL: LiteralString = ROWS_SQL + " WHERE a.id < $1 AND a.tenant_id = $3 ORDER BY a.id DESC LIMIT $2"


async def page(
    tx: db.Tx, tenant_id: TenantId | None, *, before: int = 0, limit: int = PAGE_MAX
) -> Sequence[AnnouncementRow]:
    """List what a tenant (None: everybody) was told, the newest first, before the id `before`."""
    behind = (before or ID_MAX, min(limit, PAGE_MAX))
    rows = await (tx.fetch(ALL_SQL, *behind) if tenant_id is None else tx.fetch(PAGE_SQL, *behind, tenant_id))
    return [AnnouncementRow(**{**dict(row), "body": msgspec.json.decode(row["body"])}) for row in rows]
