"""What alarms look at: one number a subject, read from what the plane keeps anyway.

Writes nothing. Entry points: Kind, KINDS, Recent, read(). Rates over minutes are differences of tallies between two
looks: the tally counts by the hour of acceptance, and what moved in it since the last look is what has become final since.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, LiteralString, NamedTuple

import msgspec

from hongyan import clock, db
from hongyan.control import filings
from hongyan.vocab.message import Purpose, Status, TenantId, first_id_at
from hongyan.way.measure import LATENCY_BUCKETS_MS, percentile_ms

WINDOW_S_MAX: Final = 3_600
TALLY_SPAN: Final = timedelta(hours=4)  # messages that become final later are not looked at
SUBJECTS_MAX: Final = 5_000  # of one rule
FILING_DAYS_MAX: Final = 92  # those that end later are not looked at
FILINGS_MAX: Final = 50_000  # the first to end


class WatchKind(StrEnum):
    """What a rule can watch."""

    DELIVERY_RATE = "delivery_rate"  # of a tenant: delivered of all that became final
    CHANNEL_SUCCESS = "channel_success"  # of a channel: the same
    REPORT_LATENCY = (
        "report_latency"  # of a channel: seconds from acceptance within which 95 % were delivered
    )
    DELIVERY_LATENCY = "delivery_latency"  # of a tenant: the same
    BALANCE = "balance"  # of a tenant: millionths of its currency
    CHANNEL_DOWN = (
        "channel_down"  # of a channel that is neither paused nor drained: seconds without a session
    )
    FILING_ENDS = "filing_ends"  # of a signature at an operator: days
    OPT_OUT_RATE = "opt_out_rate"  # of a tenant: people who said stop, of promotional messages
    COMPLAINT_RATE = "complaint_rate"  # of a tenant: complaints of messages delivered, within a day
    BACKLOG = "backlog"  # of the platform: seconds the oldest due message waits to leave
    WEBHOOK_PAUSED = "webhook_paused"  # of an app: failures in a row, while it is paused
    PUMPING = "pumping"  # of a tenant in a country: prefixes, or it itself, where codes are pumped
    GUESSING = "guessing"  # of a tenant: how often guessing its codes would have hit in a day
    CODE_BUDGET = "code_budget"  # of a tenant, or of it in a country: spent of the day's budget for codes


class KindRow(NamedTuple):
    """How a kind is judged: amiss where the value is below, or above, the threshold."""

    below: bool
    tenants: bool  # a tenant may have a rule of it
    unit: str
    zh: str
    en: str


KINDS: Final[Mapping[WatchKind, KindRow]] = {
    WatchKind.DELIVERY_RATE: KindRow(True, True, "share", "送达率", "delivery rate"),
    WatchKind.CHANNEL_SUCCESS: KindRow(True, False, "share", "通道成功率", "success of the channel"),
    WatchKind.REPORT_LATENCY: KindRow(False, False, "s", "通道回执时延", "latency of the channel"),
    WatchKind.DELIVERY_LATENCY: KindRow(False, True, "s", "送达时延", "time to delivery"),
    WatchKind.BALANCE: KindRow(True, True, "micro", "余额", "balance"),
    WatchKind.CHANNEL_DOWN: KindRow(False, False, "s", "通道断开", "time without a session"),
    WatchKind.FILING_ENDS: KindRow(True, True, "d", "报备剩余天数", "days until the filing ends"),
    WatchKind.OPT_OUT_RATE: KindRow(False, True, "share", "退订率", "opt-out rate"),
    WatchKind.COMPLAINT_RATE: KindRow(False, True, "share", "投诉率", "complaint rate"),
    WatchKind.BACKLOG: KindRow(False, False, "s", "积压时长", "wait of the oldest message"),
    WatchKind.WEBHOOK_PAUSED: KindRow(False, True, "failures", "回调失败次数", "failures of the webhook"),
    WatchKind.PUMPING: KindRow(
        False, True, "prefixes", "验证码盗刷号段数", "prefixes whose codes are pumped"
    ),
    WatchKind.GUESSING: KindRow(
        False, True, "hits", "验证码被猜中的期望次数", "expected hits of guessed codes"
    ),
    WatchKind.CODE_BUDGET: KindRow(False, True, "share", "验证码预算使用率", "share of the budget for codes"),
}


class Reading(msgspec.Struct, frozen=True):
    """One number of one subject. `volume`: of how many messages it is made, where that says how much it means."""

    subject: str
    tenant_id: TenantId | None
    name: str
    value: float
    volume: int | None = None


# ---- what moved lately


class Moved(msgspec.Struct):
    """What became of messages between two looks."""

    delivered: int = 0
    final: int = 0
    promotional: int = 0  # accepted
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_MS) + 1))

    def add(self, other: "Moved", sign: int = 1) -> None:
        self.delivered += sign * other.delivered
        self.final += sign * other.final
        self.promotional += sign * other.promotional
        self.buckets = [
            mine + sign * theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)
        ]


Cell = tuple[datetime, int, int]  # hour, tenant, channel


class Recent:
    """The last hour, in steps between looks. Feed it with look(); ask it with by_tenant() and by_channel()."""

    def __init__(self) -> None:
        self._last: Mapping[Cell, Moved] | None = None
        self._steps: deque[tuple[float, Mapping[tuple[int, int], Moved]]] = deque()

    def look(self, now_s: float, counted: Mapping[Cell, Moved]) -> None:
        """Take what the tally says now. The first look only says from where on is counted."""
        if self._last is not None:
            moved: defaultdict[tuple[int, int], Moved] = defaultdict(Moved)
            for cell, now in counted.items():
                before = self._last.get(cell)
                if before != now:
                    moved[cell[1:]].add(now)
                    if before is not None:
                        moved[cell[1:]].add(before, -1)
            self._steps.append((now_s, moved))
        self._last = counted
        while self._steps and self._steps[0][0] <= now_s - WINDOW_S_MAX:
            self._steps.popleft()

    def by_tenant(self, since_s: float) -> Mapping[int, Moved]:
        return self._summed(since_s, 0)

    def by_channel(self, since_s: float) -> Mapping[int, Moved]:
        return {channel: moved for channel, moved in self._summed(since_s, 1).items() if channel}

    def _summed(self, since_s: float, place: int) -> Mapping[int, Moved]:
        summed: defaultdict[int, Moved] = defaultdict(Moved)
        for at_s, step in self._steps:
            if at_s > since_s:
                for key, moved in step.items():
                    summed[key[place]].add(moved)
        return summed


TALLY_SQL: LiteralString = """
SELECT hour, tenant_id, channel_id, status, latency, purpose, sum(messages)::bigint AS messages
  FROM tally WHERE hour >= $1 GROUP BY 1, 2, 3, 4, 5, 6
"""
_LEFT: Final = frozenset(
    status.number for status in (Status.DELIVERED, Status.UNDELIVERED, Status.EXPIRED, Status.UNKNOWN)
)


async def count(tx: db.Tx) -> Mapping[Cell, Moved]:
    """Read what the tally says of the last hours."""
    counted: defaultdict[Cell, Moved] = defaultdict(Moved)
    for row in await tx.fetch(TALLY_SQL, clock.now() - TALLY_SPAN):
        moved = counted[row["hour"], row["tenant_id"], row["channel_id"]]
        status, messages = row["status"], row["messages"]
        if status in _LEFT:
            moved.final += messages
        if status == Status.DELIVERED.number:
            moved.delivered += messages
            moved.buckets[row["latency"]] += messages
        elif status == Status.ACCEPTED.number and row["purpose"] == Purpose.PROMOTIONAL.number:
            moved.promotional += messages
    return counted


# ---- reading


async def read(tx: db.Tx, kind: WatchKind, recent: Recent, window_s: int) -> Sequence[Reading]:
    """Read one kind for all its subjects."""
    since_s = clock.now_s() - window_s
    match kind:
        case WatchKind.DELIVERY_RATE | WatchKind.DELIVERY_LATENCY:
            found = await _of_tenants(tx, kind, recent.by_tenant(since_s))
        case WatchKind.CHANNEL_SUCCESS | WatchKind.REPORT_LATENCY:
            found = await _of_channels(tx, kind, recent.by_channel(since_s))
        case WatchKind.OPT_OUT_RATE:
            found = await _opt_outs(tx, recent.by_tenant(since_s), since_s)
        case WatchKind.FILING_ENDS:
            found = await _filings(tx)
        case _:
            found = await _rows(tx, *_PLAIN[kind])
    return list(found)


NAMES_SQL: LiteralString = "SELECT id, name FROM tenant WHERE id = ANY($1::int[])"
CHANNEL_NAMES_SQL: LiteralString = "SELECT id, name FROM channel WHERE id = ANY($1::int[]) AND active"


async def _of_tenants(tx: db.Tx, kind: WatchKind, moved: Mapping[int, Moved]) -> Iterable[Reading]:
    names = {row["id"]: row["name"] for row in await tx.fetch(NAMES_SQL, list(moved))}
    return [
        Reading(f"tenant:{number}", TenantId(number), names[number], value, volume)
        for number, value, volume in _judged(moved, slow=kind is WatchKind.DELIVERY_LATENCY)
        if number in names
    ]


async def _of_channels(tx: db.Tx, kind: WatchKind, moved: Mapping[int, Moved]) -> Iterable[Reading]:
    names = {row["id"]: row["name"] for row in await tx.fetch(CHANNEL_NAMES_SQL, list(moved))}
    return [
        Reading(f"channel:{number}", None, names[number], value, volume)
        for number, value, volume in _judged(moved, slow=kind is WatchKind.REPORT_LATENCY)
        if number in names
    ]


def _judged(moved: Mapping[int, Moved], *, slow: bool) -> Iterable[tuple[int, float, int]]:
    for number, each in moved.items():
        if slow:
            latency_ms = percentile_ms(each.buckets, 0.95)
            if latency_ms is not None:
                yield number, latency_ms / 1_000, each.delivered
        elif each.final > 0:
            yield number, each.delivered / each.final, each.final


OPT_OUTS_SQL: LiteralString = """
SELECT i.tenant_id, t.name, count(*) AS stopped
  FROM inbound i JOIN tenant t ON t.id = i.tenant_id WHERE i.id >= $1 AND i.opt_out GROUP BY 1, 2
"""


async def _opt_outs(tx: db.Tx, moved: Mapping[int, Moved], since_s: float) -> Iterable[Reading]:
    return [
        Reading(
            f"tenant:{row['tenant_id']}", TenantId(row["tenant_id"]), row["name"], row["stopped"] / sent, sent
        )
        for row in await tx.fetch(OPT_OUTS_SQL, first_id_at(since_s))
        if (sent := moved[row["tenant_id"]].promotional if row["tenant_id"] in moved else 0) > 0
    ]


BALANCE_SQL: LiteralString = """
SELECT t.id, t.id AS tenant_id, t.name, coalesce(sum(b.amount_micro), 0)::float8 AS value, NULL::bigint AS volume
  FROM tenant t LEFT JOIN balance b ON b.tenant_id = t.id WHERE t.active GROUP BY t.id
"""
# What gateways tell of a channel is overwritten each second; when they last had a session of it stays in `up_at`.
DOWN_SQL: LiteralString = """
SELECT c.id, NULL::int AS tenant_id, c.name, NULL::bigint AS volume,
       CASE WHEN EXISTS (SELECT FROM channel_state s WHERE s.channel_id = c.id AND s.told_at > now() - interval '10 seconds'
                            AND (s.told ->> 'sessions_up')::int > 0) THEN 0
            ELSE extract(epoch FROM now() - coalesce(
                (SELECT max(coalesce((s.told ->> 'up_at')::timestamptz,
                                     CASE WHEN (s.told ->> 'sessions_up')::int > 0 THEN s.told_at END))
                   FROM channel_state s WHERE s.channel_id = c.id), c.created_at)) END::float8 AS value
  FROM channel c WHERE c.active AND NOT c.paused AND c.drain_until IS NULL AND c.kind <> 'loopback'
"""
COMPLAINTS_SQL: LiteralString = """
WITH complained AS (
    SELECT tenant_id, count(*) AS complaints FROM complaint WHERE received_at > now() - interval '1 day' GROUP BY 1
), delivered AS (
    SELECT tenant_id, sum(messages)::bigint AS messages FROM tally
     WHERE hour > now() - interval '1 day' AND status = 1 GROUP BY 1
)
SELECT t.id, t.id AS tenant_id, t.name, c.complaints::float8 / greatest(d.messages, 1) AS value, d.messages AS volume
  FROM complained c JOIN delivered d USING (tenant_id) JOIN tenant t ON t.id = c.tenant_id
"""
BACKLOG_SQL: LiteralString = """
SELECT 0 AS id, NULL::int AS tenant_id, 'platform' AS name, NULL::bigint AS volume,
       coalesce(extract(epoch FROM now() - min(due_at)), 0)::float8 AS value
  FROM outbox WHERE owner >= 0 AND due_at < now()
"""
PAUSED_SQL: LiteralString = """
SELECT a.id, a.tenant_id, a.name, h.failures::float8 AS value, NULL::bigint AS volume
  FROM webhook_health h JOIN webhook w ON w.id = h.webhook_id AND w.active JOIN app a ON a.id = w.app_id
 WHERE h.paused_until > now()
"""
# A prefix that nothing was sent to for a day harms nobody, whatever became of it.
PUMPING_SQL: LiteralString = """
SELECT w.tenant_id || '/' || w.country AS id, w.tenant_id, t.name || ' ' || w.country AS name, count(*)::float8 AS value,
       NULL::bigint AS volume
  FROM ward w JOIN tenant t ON t.id = w.tenant_id
 WHERE w.turn > 0 AND w.touched_on >= (now() AT TIME ZONE 'UTC')::date - 1 GROUP BY w.tenant_id, w.country, t.name
"""
GUESSING_SQL: LiteralString = """
SELECT t.id, t.id AS tenant_id, t.name, greatest(0, sum(m.hits))::float8 AS value, NULL::bigint AS volume
  FROM guess_meter m JOIN tenant t ON t.id = m.tenant_id
 WHERE m.hour > floor(extract(epoch FROM now()) / 3600)::int - 25 GROUP BY t.id
"""
CODE_BUDGET_SQL: LiteralString = """
SELECT concat_ws('/', w.tenant_id, nullif(w.country, '')) AS id, w.tenant_id, concat_ws(' ', t.name, nullif(w.country, '')) AS name,
       (SELECT coalesce(sum(s.micro), 0) FROM code_spend s WHERE s.tenant_id = w.tenant_id AND s.country = w.country
           AND s.hour > floor(extract(epoch FROM now()) / 3600)::int - 25)::float8 / w.budget_micro AS value,
       NULL::bigint AS volume
  FROM ward w JOIN tenant t ON t.id = w.tenant_id WHERE w.prefix = '' AND w.budget_micro > 0
"""


# What one statement reads, and how its subjects are written.
_PLAIN: Final[Mapping[WatchKind, tuple[LiteralString, str]]] = {
    WatchKind.BALANCE: (BALANCE_SQL, "tenant:{id}"),
    WatchKind.CHANNEL_DOWN: (DOWN_SQL, "channel:{id}"),
    WatchKind.COMPLAINT_RATE: (COMPLAINTS_SQL, "tenant:{id}"),
    WatchKind.BACKLOG: (BACKLOG_SQL, "platform"),
    WatchKind.WEBHOOK_PAUSED: (PAUSED_SQL, "app:{id}"),
    WatchKind.PUMPING: (PUMPING_SQL, "codes:{id}"),
    WatchKind.GUESSING: (GUESSING_SQL, "tenant:{id}"),
    WatchKind.CODE_BUDGET: (CODE_BUDGET_SQL, "codes:{id}"),
}


async def _rows(tx: db.Tx, sql: LiteralString, subject: str) -> Iterable[Reading]:
    return [
        Reading(
            subject.format(id=row["id"]),
            None if row["tenant_id"] is None else TenantId(row["tenant_id"]),
            row["name"],
            row["value"],
            row["volume"],
        )
        for row in await tx.fetch(sql)
    ]


FILINGS_SQL: LiteralString = """
SELECT f.signature_id, s.tenant_id, s.name AS signature, f.operator, f.valid_until - $1::date AS days
  FROM filing f JOIN signature s ON s.id = f.signature_id
 WHERE f.state = 'ok' AND f.valid_until BETWEEN $1 AND $1::date + $2::int ORDER BY f.valid_until LIMIT $3
"""


async def _filings(tx: db.Tx) -> Iterable[Reading]:
    rows = await tx.fetch(FILINGS_SQL, filings.today(clock.now()), FILING_DAYS_MAX, FILINGS_MAX)
    return [
        Reading(
            f"filing:{row['signature_id']}/{row['operator']}",
            TenantId(row["tenant_id"]),
            f"【{row['signature']}】 {row['operator']}",
            float(row["days"]),
        )
        for row in rows
    ]
