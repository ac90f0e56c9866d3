"""Alarms: rules as rows, what is amiss by them, who has seen it.

Writes: alarm_rule, alarm. Entry points: create_rule(), change_rule(), remove_rule(), rules(); watch(), the loop that
looks; page() and see(); forget(), a duty. An alarm is raised once a value has been wrong for `for_s`, and has recovered
once it has been right for as long. People are told when it is raised, when it has recovered, and again every `repeat_s`
while nobody has seen it. What comes back within QUIET_S of its recovery is the same alarm, and is told only if it stays
until then, so that what flaps does not storm; and what one look finds for one rule is told in one note (alarm_notes.py).
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString, NamedTuple

import msgspec
import structlog

from hongyan import clock, db, egress
from hongyan.control import alarm_notes, readings
from hongyan.control.alarm_notes import News
from hongyan.control.bounds import demand, demand_found, demand_name
from hongyan.control.keys import new_secret
from hongyan.control.readings import KINDS, Reading, Recent, WatchKind
from hongyan.settings import Settings
from hongyan.vault import Secret, Vault
from hongyan.vocab.message import TenantId

log = structlog.get_logger()

LOOK_GAP_S: Final = 15.0
LOOK_WAIT_S: Final = 60.0
ALARM_LOCK: Final = 0x616C726D  # 'alrm': one process looks at a time
QUIET_S: Final = 900.0
RULES_MAX: Final = 50  # of one tenant, or of the platform
EMAILS_MAX: Final = 20
EMAIL_CHARACTERS_MAX: Final = 254
KEEP_S: Final = 180 * 86_400.0  # of one that has recovered
FORGET_MAX: Final = 1_000  # of one step
PAGE_MAX: Final = 500


class AlarmRuleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as people see it. The threshold is in the unit of its kind."""

    id: int
    tenant_id: TenantId | None
    kind: WatchKind
    name: str
    threshold: float
    window_s: int
    volume_min: int
    for_s: int
    repeat_s: int
    emails: Sequence[str]
    webhook_url: str
    active: bool
    created_at: datetime

    @property
    def is_amiss(self) -> "Judge":
        return Judge(self.threshold, below=KINDS[self.kind].below)


class Judge(msgspec.Struct, frozen=True):
    """Tells whether a value is wrong. What was wrong is right again only a tenth beyond the threshold."""

    threshold: float
    below: bool

    def __call__(self, value: float, *, was: bool) -> bool:
        margin = abs(self.threshold) * 0.1 if was else 0.0
        return value < self.threshold + margin if self.below else value > self.threshold - margin


class AlarmRow(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm as people see it; open while `recovered_at` is null."""

    id: int
    rule_id: int
    rule: str
    kind: WatchKind
    tenant_id: TenantId | None
    subject: str
    name: str
    value: float
    worst: float
    threshold: float
    flaps: int
    raised_at: datetime
    recovered_at: datetime | None
    seen_by: str
    seen_at: datetime | None


class NewRule(msgspec.Struct, frozen=True):
    """A rule that was just made; the only time the secret of its webhook is seen."""

    rule: AlarmRuleRow
    secret: Secret | None


# ---- rules


ROOM_SQL: LiteralString = "SELECT count(*) FROM alarm_rule WHERE tenant_id IS NOT DISTINCT FROM $1"
CREATE_SQL: LiteralString = """
INSERT INTO alarm_rule (tenant_id, kind, name, threshold, window_s, volume_min, for_s, repeat_s, emails, webhook_url, sealed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id
"""


async def create_rule(
    tx: db.Tx,
    vault: Vault,
    settings: Settings,
    tenant_id: TenantId | None,
    *,
    kind: WatchKind,
    name: str,
    threshold: float,
    window_s: int = 600,
    volume_min: int = 0,
    for_s: int = 60,
    repeat_s: int = 14_400,
    emails: Sequence[str] = (),
    webhook_url: str = "",
    secret: Secret | None = None,
) -> NewRule:
    """Watch something, for a tenant or (None) for the platform; `secret`: the webhook's of old. Raises Refusal."""
    demand_name(name)
    demand(tenant_id is None or KINDS[kind].tenants, "kind", "one of the platform's own")
    _demand_terms(window_s, volume_min, for_s, repeat_s, emails)
    if webhook_url:
        reason = egress.refusal_of_url(webhook_url, private=settings.webhook_private_addresses)
        demand(not reason, "webhook_url", reason)
    demand(await tx.fetchval(ROOM_SQL, tenant_id) < RULES_MAX, "name", f"at most {RULES_MAX} rules")
    secret = (secret or new_secret()) if webhook_url else None
    sealed = vault.seal_secret(secret.reveal()) if secret else None
    number = await tx.fetchval(
        CREATE_SQL, tenant_id, kind, name, threshold, window_s, volume_min, for_s, repeat_s, list(emails),
        webhook_url, sealed,
    )  # fmt: skip
    return NewRule(await rule(tx, number, tenant_id), secret)


def _demand_terms(window_s: int, volume_min: int, for_s: int, repeat_s: int, emails: Sequence[str]) -> None:
    demand(60 <= window_s <= readings.WINDOW_S_MAX, "window_s", f"60 to {readings.WINDOW_S_MAX}")
    demand(0 <= volume_min <= 1_000_000_000, "volume_min", "0 or more")
    demand(0 <= for_s <= 3_600, "for_s", "0 to 3600")
    demand(600 <= repeat_s <= 604_800, "repeat_s", "600 to 604800")
    demand(len(emails) <= EMAILS_MAX, "emails", f"at most {EMAILS_MAX}")
    for email in emails:
        sound = len(email) <= EMAIL_CHARACTERS_MAX and email.count("@") == 1 and email.isprintable()
        demand(sound and " " not in email and "," not in email, "emails", "addresses, as ops@example.com")


CHANGE_SQL: LiteralString = """
UPDATE alarm_rule SET name = $3, threshold = $4, window_s = $5, volume_min = $6, for_s = $7, repeat_s = $8, emails = $9,
       active = $10
 WHERE id = $1 AND ($2::int IS NULL OR tenant_id = $2) RETURNING id
"""


async def change_rule(
    tx: db.Tx, rule_id: int, tenant_id: TenantId | None, changes: Mapping[str, Any]
) -> AlarmRuleRow:
    """Change what is given of a rule; kind and webhook stay. `tenant_id` None: whoever's it is. Raises Refusal.

    One that is turned off ends its alarms, and tells nobody: nothing says that what was amiss no longer is.
    """
    now = await rule(tx, rule_id, tenant_id)
    wanted = msgspec.structs.replace(now, **changes)
    demand_name(wanted.name)
    _demand_terms(wanted.window_s, wanted.volume_min, wanted.for_s, wanted.repeat_s, wanted.emails)
    await tx.execute(
        CHANGE_SQL, rule_id, tenant_id, wanted.name, wanted.threshold, wanted.window_s, wanted.volume_min, wanted.for_s,
        wanted.repeat_s, list(wanted.emails), wanted.active,
    )  # fmt: skip
    if now.active and not wanted.active:
        await tx.execute(CLOSE_SQL, rule_id)
    return wanted


CLOSE_SQL: LiteralString = "UPDATE alarm SET recovered_at = now() WHERE rule_id = $1 AND recovered_at IS NULL"
REMOVE_SQL: LiteralString = """
DELETE FROM alarm_rule WHERE id = $1 AND ($2::int IS NULL OR tenant_id = $2) RETURNING id
"""


async def remove_rule(tx: db.Tx, rule_id: int, tenant_id: TenantId | None) -> None:
    """Watch it no more, and forget its alarms. Raises Refusal where there is no such rule."""
    demand_found(await tx.fetchval(REMOVE_SQL, rule_id, tenant_id), rule=rule_id)


RULES_SQL: LiteralString = """
SELECT id, tenant_id, kind, name, threshold, window_s, volume_min, for_s, repeat_s, emails, webhook_url, active, created_at
  FROM alarm_rule
"""
ACTIVE_SQL: LiteralString = RULES_SQL + "WHERE active ORDER BY id"
SOME_SQL: LiteralString = RULES_SQL + "WHERE id > $1 ORDER BY id LIMIT $2"
OF_SQL: LiteralString = RULES_SQL + "WHERE id > $1 AND tenant_id = $3 ORDER BY id LIMIT $2"


async def rules(
    tx: db.Tx, tenant_id: TenantId | None, *, after: int = 0, limit: int = PAGE_MAX
) -> Sequence[AlarmRuleRow]:
    """List rules, of one tenant or of everybody, behind the id `after`."""
    span = (after, min(limit, PAGE_MAX))
    rows = await (tx.fetch(SOME_SQL, *span) if tenant_id is None else tx.fetch(OF_SQL, *span, tenant_id))
    return [_rule(row) for row in rows]


RULE_SQL: LiteralString = RULES_SQL + "WHERE id = $1 AND ($2::int IS NULL OR tenant_id = $2)"


async def rule(tx: db.Tx, rule_id: int, tenant_id: TenantId | None) -> AlarmRuleRow:
    """Return one rule. Raises Refusal where there is none, or it is not the tenant's."""
    return _rule(demand_found(await tx.fetchrow(RULE_SQL, rule_id, tenant_id), rule=rule_id))


def _rule(row: db.Row) -> AlarmRuleRow:
    return AlarmRuleRow(**{**dict(row), "kind": WatchKind(row["kind"])})


# ---- looking


class Watch:
    """What is remembered between two looks: what moved, and since when values have been on the other side."""

    def __init__(self) -> None:
        self.recent = Recent()
        self.since_s: dict[tuple[int, str], float] = {}  # rule, subject


async def watch(database: db.Database) -> None:
    """Look every LOOK_GAP_S, until cancelled. Where several processes do, one looks at a time."""
    memory = Watch()
    while True:
        try:
            async with asyncio.timeout(LOOK_WAIT_S), database.transaction() as tx:
                if await tx.fetchval("SELECT pg_try_advisory_xact_lock($1)", ALARM_LOCK):
                    await look(tx, memory, clock.now_s())
        except db.Unavailable as error:
            log.warning("alarms.database_lost", error=type(error).__name__)
        except Exception:  # our bug: the next look may fare better
            log.exception("alarms.crashed")
        await asyncio.sleep(LOOK_GAP_S)


async def look(tx: db.Tx, memory: Watch, now_s: float) -> None:
    """Ask every rule about everything it watches, and note what is to be told.

    What rules have in common is read once: thousands of tenants may have rules of one kind.
    """
    memory.recent.look(now_s, await readings.count(tx))
    opened: defaultdict[int, dict[str, _Open]] = defaultdict(dict)
    for row in await tx.fetch(OPEN_SQL):
        opened[row["rule_id"]][row["subject"]] = _Open(**dict(row))
    found: dict[tuple[WatchKind, int], _Found] = {}
    since_s, memory.since_s = memory.since_s, {}
    for each in [_rule(row) for row in await tx.fetch(ACTIVE_SQL)]:
        key = (each.kind, each.window_s)
        if key not in found:
            found[key] = _Found(await readings.read(tx, each.kind, memory.recent, each.window_s))
        turn = _Turn(opened[each.id], since_s, memory.since_s)
        news = await _judge(tx, turn, each, found[key].of(each.tenant_id), now_s)
        if news:
            await alarm_notes.owe(tx, each.id, each.tenant_id, each.emails, each.webhook_url, news)


class _Found:
    """What one kind reads, of everybody and by tenant."""

    def __init__(self, whole: Sequence[Reading]) -> None:
        self._whole = whole
        self._by_tenant: defaultdict[TenantId, list[Reading]] = defaultdict(list)
        for reading in whole:
            if reading.tenant_id is not None:
                self._by_tenant[reading.tenant_id].append(reading)

    def of(self, tenant_id: TenantId | None) -> Sequence[Reading]:
        found = self._whole if tenant_id is None else self._by_tenant.get(tenant_id, ())
        return found[: readings.SUBJECTS_MAX]


class _Open(msgspec.Struct, frozen=True):
    id: int
    rule_id: int
    subject: str
    name: str
    tenant_id: TenantId | None
    value: float
    seen_at: datetime | None
    told_at: datetime
    untold: bool
    raised_at: datetime


OPEN_SQL: LiteralString = """
SELECT id, rule_id, subject, name, tenant_id, value, seen_at, told_at, untold, raised_at
  FROM alarm WHERE recovered_at IS NULL
"""


class _Turn(NamedTuple):
    """What one rule's look begins with, and what it leaves for the next: since when values are on the other side.

    What is not left is forgotten, so that two wrong values hours apart are not one that stayed.
    """

    opened: Mapping[str, _Open]
    before_s: Mapping[tuple[int, str], float]
    since_s: dict[tuple[int, str], float]

    def lasted_s(self, key: tuple[int, str], now_s: float) -> float:
        began_s = self.since_s[key] = self.before_s.get(key, now_s)
        return now_s - began_s


async def _judge(
    tx: db.Tx, turn: _Turn, each: AlarmRuleRow, found: Sequence[Reading], now_s: float
) -> Sequence[News]:
    """Raise, renew and end the alarms of one rule; returns what people are to be told."""
    is_amiss, opened = each.is_amiss, turn.opened
    news: list[News] = []
    spoken = set()
    for reading in found:
        if reading.volume is not None and reading.volume < each.volume_min:
            continue
        spoken.add(reading.subject)
        key, alarm = (each.id, reading.subject), opened.get(reading.subject)
        if is_amiss(reading.value, was=alarm is not None) == (alarm is not None):
            if alarm is not None:
                news += await _renew(tx, each, alarm, reading.value, now_s)
        elif turn.lasted_s(key, now_s) >= each.for_s:
            del turn.since_s[key]
            if alarm is None:
                news += await _raise(tx, each, reading, now_s)
            else:
                news += await _end(tx, each, alarm, reading.value, now_s)
    # Of what nothing is heard any more, nothing can be amiss: the channel was removed, no messages are sent.
    for subject in opened.keys() - spoken:
        if turn.lasted_s((each.id, subject), now_s) >= max(each.for_s, each.window_s):
            del turn.since_s[each.id, subject]
            news += await _end(tx, each, opened[subject], opened[subject].value, now_s)
    return news


AGAIN_SQL: LiteralString = """
UPDATE alarm SET recovered_at = NULL, value = $3, flaps = flaps + 1, untold = true, seen_by = '', seen_at = NULL
 WHERE id = (SELECT id FROM alarm WHERE rule_id = $1 AND subject = $2 AND recovered_at > $4 ORDER BY id DESC LIMIT 1)
RETURNING id
"""
RAISE_SQL: LiteralString = """
INSERT INTO alarm (rule_id, tenant_id, subject, name, value, worst, raised_at, told_at)
VALUES ($1, $2, $3, $4, $5, $5, $6, $6)
"""


async def _raise(tx: db.Tx, each: AlarmRuleRow, reading: Reading, now_s: float) -> Sequence[News]:
    before = clock.moment(now_s - QUIET_S)
    if await tx.fetchval(AGAIN_SQL, each.id, reading.subject, reading.value, before) is not None:
        return []
    now = clock.moment(now_s)
    await tx.execute(RAISE_SQL, each.id, reading.tenant_id, reading.subject, reading.name, reading.value, now)
    return [_news("raised", each, reading.subject, reading.name, reading.tenant_id, reading.value, now)]


RENEW_SQL: LiteralString = """
UPDATE alarm SET value = $2, worst = CASE WHEN $3 THEN least(worst, $2) ELSE greatest(worst, $2) END, told_at = $4,
       untold = untold AND NOT $5
 WHERE id = $1
"""


async def _renew(tx: db.Tx, each: AlarmRuleRow, alarm: _Open, value: float, now_s: float) -> Sequence[News]:
    told_s = now_s - alarm.told_at.timestamp()
    again = told_s >= QUIET_S if alarm.untold else alarm.seen_at is None and told_s >= each.repeat_s
    told_at = clock.moment(now_s) if again else alarm.told_at
    if again or value != alarm.value:
        await tx.execute(RENEW_SQL, alarm.id, value, KINDS[each.kind].below, told_at, again)
    if not again:
        return []
    what = "raised" if alarm.untold else "lasts"
    return [_news(what, each, alarm.subject, alarm.name, alarm.tenant_id, value, alarm.raised_at)]


END_SQL: LiteralString = """
UPDATE alarm SET recovered_at = $2, value = $3, told_at = CASE WHEN untold THEN told_at ELSE $2 END WHERE id = $1
"""


async def _end(tx: db.Tx, each: AlarmRuleRow, alarm: _Open, value: float, now_s: float) -> Sequence[News]:
    await tx.execute(END_SQL, alarm.id, clock.moment(now_s), value)
    if alarm.untold:
        return []
    return [_news("recovered", each, alarm.subject, alarm.name, alarm.tenant_id, value, alarm.raised_at)]


def _news(
    what: str,
    each: AlarmRuleRow,
    subject: str,
    name: str,
    tenant_id: TenantId | None,
    value: float,
    since: datetime,
) -> News:
    return News(
        what=what, rule=each.name, kind=each.kind, subject=subject, name=name, tenant_id=tenant_id, value=value,
        threshold=each.threshold, since=since,
    )  # fmt: skip


# ---- showing


ROWS_SQL: LiteralString = """
SELECT a.id, a.rule_id, r.name AS rule, r.kind, a.tenant_id, a.subject, a.name, a.value, a.worst, r.threshold, a.flaps,
       a.raised_at, a.recovered_at, a.seen_by, a.seen_at
  FROM alarm a JOIN alarm_rule r ON r.id = a.rule_id
"""
ALL_SQL: LiteralString = ROWS_SQL + "WHERE a.id < $1 ORDER BY a.id DESC LIMIT $2"
ALL_OPEN_SQL: LiteralString = (
    ROWS_SQL + "WHERE a.id < $1 AND a.recovered_at IS NULL ORDER BY a.id DESC LIMIT $2"
)
# The platform's rules watch tenants too: a tenant sees what its own rules found.
PAGE_SQL: LiteralString = (
    ROWS_SQL + "WHERE a.id < $1 AND a.tenant_id = $3 AND r.tenant_id = $3 ORDER BY a.id DESC LIMIT $2"
)
PAGE_OPEN_SQL: LiteralString = (
    ROWS_SQL
    + "WHERE a.id < $1 AND a.tenant_id = $3 AND r.tenant_id = $3 AND a.recovered_at IS NULL ORDER BY a.id DESC LIMIT $2"
)
ONE_SQL: LiteralString = ROWS_SQL + "WHERE a.id = $1"
BIGGEST: Final = 2**63 - 1


async def page(
    tx: db.Tx,
    tenant_id: TenantId | None,
    *,
    before: int = BIGGEST,
    open_: bool = False,
    limit: int = PAGE_MAX,
) -> Sequence[AlarmRow]:
    """List alarms of a tenant's rules, or of everybody's, the newest first, before the id `before`."""
    span = (before, min(limit, PAGE_MAX))
    if tenant_id is None:
        rows = await tx.fetch(ALL_OPEN_SQL if open_ else ALL_SQL, *span)
    else:
        rows = await tx.fetch(PAGE_OPEN_SQL if open_ else PAGE_SQL, *span, tenant_id)
    return [_alarm(row) for row in rows]


SEE_SQL: LiteralString = """
UPDATE alarm SET seen_by = $3, seen_at = now() FROM alarm_rule r
 WHERE alarm.id = $1 AND r.id = alarm.rule_id AND ($2::int IS NULL OR r.tenant_id = $2) RETURNING alarm.id
"""


async def see(tx: db.Tx, alarm_id: int, tenant_id: TenantId | None, who: str) -> AlarmRow:
    """Say that somebody looks after it: it is not told again until it has recovered. Raises Refusal."""
    demand_found(await tx.fetchval(SEE_SQL, alarm_id, tenant_id, who), alarm=alarm_id)
    return _alarm(await tx.fetchrow(ONE_SQL, alarm_id))


# The oldest are looked at, so that a look that finds nothing is short.
FORGET_SQL: LiteralString = """
DELETE FROM alarm WHERE recovered_at < $1
   AND id IN (SELECT id FROM alarm WHERE recovered_at IS NOT NULL ORDER BY id LIMIT $2) RETURNING id
"""


async def forget(tx: db.Tx, now: datetime) -> int:
    """Forget alarms that recovered long ago; returns how many."""
    return len(await tx.fetch(FORGET_SQL, now - timedelta(seconds=KEEP_S), FORGET_MAX))


def _alarm(row: Any) -> AlarmRow:
    return AlarmRow(**{**dict(row), "kind": WatchKind(row["kind"])})
