"""What people are told of alarms: one note a look and rule, by e-mail, by the rule's webhook, and to the tenant.

Writes: alarm_note. Entry points: News, owe(), in the transaction of the look; run(), the loop that delivers. A tenant's
rule is told as its other news are (announcements.py), to its owners and webhooks; the addresses of the rule come on top,
each by itself (deliveries.py).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, LiteralString

import msgspec

from hongyan import db, mail
from hongyan.control import announcements, deliveries
from hongyan.control.deliveries import Round
from hongyan.control.readings import KINDS, WatchKind
from hongyan.egress import Egress
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.message import TenantId

LINES_MAX: Final = 50  # of one note; the others are counted
WEBHOOK: Final = "webhook"


class News(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to tell: it was raised, it lasts, it has recovered."""

    what: str
    rule: str
    kind: WatchKind
    subject: str
    name: str
    tenant_id: TenantId | None
    value: float
    threshold: float
    since: datetime


OWE_SQL: LiteralString = """
INSERT INTO alarm_note (rule_id, way, subject, words, body)
SELECT $1, way, $3, $4, $5 FROM unnest($2::text[]) AS u(way)
"""


async def owe(
    tx: db.Tx,
    rule_id: int,
    tenant_id: TenantId | None,
    emails: Sequence[str],
    webhook_url: str,
    news: Sequence[News],
) -> None:
    """Owe one note of all that one look has found for one rule."""
    subject, words = subject_of(news), words_of(news)
    body: dict[str, object] = {"alarms": [msgspec.to_builtins(each) for each in news[:LINES_MAX]]}
    ways = [*emails, WEBHOOK] if webhook_url else list(emails)
    if ways:
        await tx.execute(OWE_SQL, rule_id, ways, subject, words, msgspec.json.encode(body).decode())
    if tenant_id is not None:
        await announcements.owe(tx, tenant_id, "alarm", subject=subject, words=words, body=body)


_WHAT: Final = {
    "raised": ("告警", "alarm"),
    "lasts": ("告警持续", "alarm lasts"),
    "recovered": ("恢复", "recovered"),
}


def subject_of(news: Sequence[News]) -> str:
    """Say a note in one line."""
    first = news[0]
    zh, en = _WHAT[first.what]
    more = f" (+{len(news) - 1})" if len(news) > 1 else ""
    return f"[hongyan] {zh} {en}: {first.rule}: {first.name}{more}"


def words_of(news: Sequence[News]) -> str:
    """Say a note in whole, in both languages, a line for each of its alarms."""
    lines = []
    for each in news[:LINES_MAX]:
        zh, en = _WHAT[each.what]
        row = KINDS[each.kind]
        value, threshold = shown(each.value, row.unit), shown(each.threshold, row.unit)
        lines.append(
            f"{zh} {en}: {each.name} ({each.subject}): {row.zh} {row.en} {value}, "
            f"阈值 threshold {threshold}, {each.since:%Y-%m-%d %H:%M} UTC"
        )
    if len(news) > LINES_MAX:
        lines.append(f"… +{len(news) - LINES_MAX}")
    return "\n".join(lines)


def shown(value: float, unit: str) -> str:
    """Write a value in its unit as people read it."""
    if unit == "share":
        return f"{value:.2%}"
    if unit == "micro":
        return f"{value / 1e6:,.2f}"
    return f"{value:,.1f}{f' {unit}' if unit in ('s', 'd') else ''}"


# ---- delivering


async def run(database: db.Database, vault: Vault, settings: Settings, egress: Egress) -> None:
    """Deliver what is owed, until cancelled."""
    await deliveries.run(_round(database, vault, settings, egress))


async def deliver(database: db.Database, vault: Vault, settings: Settings, egress: Egress) -> int:
    """Deliver what is due once; returns how many notes were tried."""
    return await deliveries.deliver(_round(database, vault, settings, egress))


class _Note(msgspec.Struct, frozen=True):
    id: int
    way: str
    subject: str
    words: str
    body: str
    attempt: int
    created_at: datetime
    webhook_url: str
    sealed: bytes | None


# Leased by being due later.
CLAIM_SQL: LiteralString = """
WITH due AS MATERIALIZED (
    SELECT id FROM alarm_note WHERE due_at <= now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE alarm_note n SET due_at = now() + make_interval(secs => $2::float8) FROM due WHERE n.id = due.id
    RETURNING n.id, n.rule_id, n.way, n.subject, n.words, n.body, n.attempt, n.created_at
)
SELECT t.id, t.way, t.subject, t.words, t.body, t.attempt, t.created_at, r.webhook_url, r.sealed
  FROM taken t JOIN alarm_rule r ON r.id = t.rule_id
"""


GONE_SQL: LiteralString = "DELETE FROM alarm_note WHERE id = $1"
LATER_SQL: LiteralString = """
UPDATE alarm_note SET attempt = attempt + 1, due_at = now() + make_interval(secs => $2::float8), last_error = $3
 WHERE id = $1
"""


def _round(database: db.Database, vault: Vault, settings: Settings, egress: Egress) -> Round[_Note]:
    async def claim(count: int, lease_s: float) -> Sequence[_Note]:
        return [_Note(**dict(row)) for row in await database.fetch(CLAIM_SQL, count, lease_s)]

    async def attempt(note: _Note) -> str:
        return await (_post(vault, egress, note) if note.way == WEBHOOK else _mail(settings, note))

    async def gone(note: _Note) -> None:
        await database.execute(GONE_SQL, note.id)

    async def later(note: _Note, delay_s: float, error: str) -> None:
        await database.execute(LATER_SQL, note.id, delay_s, error)

    return Round("alarm_notes", claim, attempt, gone, later)


async def _mail(settings: Settings, note: _Note) -> str:
    try:
        if not await mail.send(settings, [note.way], note.subject, note.words):
            return "no mail server is configured"
    except mail.MailError as error:
        return str(error)
    return ""


async def _post(vault: Vault, egress: Egress, note: _Note) -> str:
    assert note.sealed is not None, "a rule with a webhook has its secret"
    said = {"event": "alarm", "id": note.id, "at": note.created_at} | msgspec.json.decode(note.body)
    body = msgspec.json.encode({"events": [said]})
    return (await deliveries.send(egress, note.webhook_url, vault.unseal_secret(note.sealed), body)).wrong
