"""Count what happens: statistics over the tally for tenants and operators, plain counters for Prometheus.

Writes nothing: the tally's cells ride in the statements of accept and report. Entry points: statistics(),
Counters. The hot path only adds to integers; Prometheus' objects are built when somebody asks for /metrics.
A delivery rate is delivered ÷ (delivered + undelivered + expired + unknown): what never left does not count.
Percentiles are read from latency buckets of delivered messages, so they are as exact as LATENCY_BUCKETS_MS.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import compress
from typing import Any, Final, LiteralString
from zoneinfo import ZoneInfo

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from hongyan import clock, db, observe
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import PURPOSES, STATUS_BY_NUMBER, ChannelId, Purpose, Status, TenantId
from hongyan.way import rollup
from hongyan.way.snapshot import Snapshot

# Bounds of the buckets of accept → final, as width_bucket(ms, bounds) counts them: bucket 0 lies below the
# first, bucket 14 from the last upwards.
LATENCY_BUCKETS_MS: Final[tuple[int, ...]] = (
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    30_000,
    60_000,
    300_000,
    1_800_000,
    14_400_000,
    86_400_000,
)
ROWS_MAX: Final = 10_000  # of one answer; more are cut and said so
HOURS_SPAN: Final = timedelta(days=32)
DAYS_SPAN: Final = timedelta(days=400)
LATELY: Final = timedelta(days=1)  # what is looked at when nothing is said
VALUES_MAX: Final = 100  # of one filter
TENANT_MAX: Final = 2**31 - 1
ACCEPTED: Final = 0  # in the tally; there it is never another open status


class By(StrEnum):
    """How time is cut."""

    HOUR = "hour"  # as the tally counts
    DAY = "day"  # days of the asked zone
    NONE = "none"  # one sum over the whole span


class Group(StrEnum):
    """What rows can be told apart by."""

    STATUS = "status"
    CAUSE = "cause"
    PURPOSE = "purpose"
    TEMPLATE = "template"
    CHANNEL = "channel"
    COUNTRY = "country"
    OPERATOR = "operator"
    PROVINCE = "province"


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to count. Times are aware, from included, to not. Any value of a filter will do; none: all."""

    by: By = By.HOUR
    groups: tuple[Group, ...] = ()
    counted_from: datetime | None = None
    counted_to: datetime | None = None
    zone: str = "UTC"  # IANA name; decides where days begin
    statuses: tuple[Status, ...] = ()
    causes: tuple[Cause, ...] = ()
    purposes: tuple[Purpose, ...] = ()
    templates: tuple[str, ...] = ()  # codes
    channels: tuple[str, ...] = ()  # names
    countries: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    provinces: tuple[str, ...] = ()


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line: the keys that were asked for (others null), counts of messages by status, and what follows.

    Acceptance knows no channel yet, so under a channel `accepted` is 0 and the final statuses count.
    """

    at: datetime | None = None
    status: Status | None = None
    cause: Cause | None = None
    purpose: Purpose | None = None
    template: str | None = None
    channel: str | None = None
    country: str | None = None
    operator: str | None = None
    province: str | None = None
    accepted: int
    delivered: int
    undelivered: int
    expired: int
    unknown: int
    refused: int
    cancelled: int
    parts: int  # of the accepted; of the final ones where no accepted are among them
    price_micro: int
    cost_micro: int | None = None  # what upstreams charge; told to the operator only
    delivery_rate: float | None = None  # 0 … 1; null where nothing became final
    latency_ms_p50: int | None = None  # accept → delivered
    latency_ms_p95: int | None = None


class Table(msgspec.Struct, frozen=True):
    """The rows in order of time and keys, and whether ROWS_MAX cut some off."""

    counted_from: datetime
    counted_to: datetime
    rows: Sequence[Row]
    truncated: bool = False


# What is counted comes from sums of days ($25) and hours ($26) that are over (rollup.py), as far as they tell apart what is
# asked, and from the tally for the other hours ($23). Sums of everybody stand under tenant 0; where templates are told
# apart the tenants' own are added up instead ($24).
_SUMMED: Final[LiteralString] = """
WITH counted AS (
    SELECT hour, status, cause, purpose, template_id, channel_id, country, operator, NULL::text AS province, latency, messages,
           parts, price_micro, cost_micro
      FROM rollup WHERE tenant_id = ANY($24::int[]) AND hours = 24 AND hour = ANY($25::timestamptz[])
    UNION ALL
    SELECT hour, status, cause, purpose, template_id, channel_id, country, operator, NULL, latency, messages,
           parts, price_micro, cost_micro
      FROM rollup WHERE tenant_id = ANY($24) AND hours = 1 AND hour = ANY($26::timestamptz[])
    UNION ALL
"""
_SUMMED_PLACES: Final[LiteralString] = """
WITH counted AS (
    SELECT hour, status, NULL::smallint AS cause, purpose, NULL::int AS template_id, channel_id, country, operator, province,
           latency, messages, parts, price_micro, cost_micro
      FROM rollup_place WHERE tenant_id = ANY($24::int[]) AND hours = 24 AND hour = ANY($25::timestamptz[])
    UNION ALL
    SELECT hour, status, NULL, purpose, NULL, channel_id, country, operator, province, latency, messages,
           parts, price_micro, cost_micro
      FROM rollup_place WHERE tenant_id = ANY($24) AND hours = 1 AND hour = ANY($26::timestamptz[])
    UNION ALL
"""
_TALLIED: Final[LiteralString] = """
    SELECT hour, status, cause, purpose, template_id, channel_id, country, operator, province, latency, messages,
           parts, price_micro, cost_micro
      FROM tally
     WHERE hour = ANY($23::timestamptz[]) AND hour >= $2 AND hour < $3 AND tenant_id BETWEEN $1 AND $27
), cell AS (
"""
_COUNTED: Final[LiteralString] = """
WITH counted AS (
    SELECT hour, status, cause, purpose, template_id, channel_id, country, operator, province, latency, messages,
           parts, price_micro, cost_micro
      FROM tally
     WHERE hour >= $2 AND hour < $3 AND tenant_id BETWEEN $1 AND $27
       -- what the other statements are given too
       AND num_nonnulls($23::timestamptz[], $24::int[], $25::timestamptz[], $26::timestamptz[]) = 4
), cell AS (
"""
# The groups asked for are told by flags, so that one statement serves every question. Cells are summed by
# status and latency first, because percentiles need the buckets of each row.
_CELLS: Final[LiteralString] = """
    SELECT CASE $4 WHEN 'hour' THEN hour WHEN 'day' THEN date_trunc('day', hour, $5) END AS at,
           CASE WHEN $6 THEN status END AS status_key, CASE WHEN $7 THEN cause END AS cause,
           CASE WHEN $8 THEN purpose END AS purpose, CASE WHEN $9 THEN template_id END AS template_id,
           CASE WHEN $10 THEN channel_id END AS channel_id, CASE WHEN $11 THEN country END AS country,
           CASE WHEN $12 THEN operator END AS operator, CASE WHEN $13 THEN province END AS province,
           status, latency, sum(messages)::bigint AS messages, sum(parts)::bigint AS parts,
           sum(price_micro)::bigint AS price_micro, sum(cost_micro)::bigint AS cost_micro
      FROM counted
     WHERE (cardinality($14::smallint[]) = 0 OR status = ANY($14))
       AND (cardinality($15::smallint[]) = 0 OR cause = ANY($15))
       AND (cardinality($16::smallint[]) = 0 OR purpose = ANY($16))
       AND (cardinality($17::int[]) = 0 OR template_id = ANY($17))
       AND (cardinality($18::int[]) = 0 OR channel_id = ANY($18))
       AND (cardinality($19::text[]) = 0 OR country = ANY($19))
       AND (cardinality($20::text[]) = 0 OR operator = ANY($20))
       AND (cardinality($21::text[]) = 0 OR province = ANY($21))
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, status, latency
)
SELECT at, status_key, cause, purpose, template_id, channel_id, country, operator, province,
       array_agg(status) AS statuses, array_agg(latency) AS latencies, array_agg(messages) AS messages,
       array_agg(parts) AS parts, array_agg(price_micro) AS prices_micro, array_agg(cost_micro) AS costs_micro
  FROM cell GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
HAVING bool_or(messages <> 0)
 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
 LIMIT $22
"""
SUMMED_SQL: LiteralString = _SUMMED + _TALLIED + _CELLS
SUMMED_PLACES_SQL: LiteralString = _SUMMED_PLACES + _TALLIED + _CELLS
COUNTED_SQL: LiteralString = (
    _COUNTED + _CELLS
)  # provinces beside causes or templates: no sums are kept of that


# A plan that serves every question expects a handful of rows, and sorts hundreds of thousands on disk. Half a millisecond of
# planning with the values at hand hashes them instead.
PLAN_SQL: LiteralString = "SELECT set_config('plan_cache_mode', 'force_custom_plan', true)"


async def statistics(
    tx: db.Tx, snapshot: Snapshot, tenant_id: TenantId | None, question: Question, *, rows_max: int = ROWS_MAX
) -> Table:
    """Count one tenant's messages, or everybody's (None, for the operator).

    Raises Refusal where the span is empty or too long for its cut, or the zone is unknown.
    """
    assert tenant_id != 0  # would mean everybody
    since, until = _span(question)
    days = question.by is By.NONE or (question.by is By.DAY and question.zone == rollup.ZONE.key)
    plan = await rollup.plan(tx, since, until, days=days)
    await tx.execute(PLAN_SQL)
    rows = await tx.fetch(
        _sql_of(question),
        tenant_id or 1,
        since,
        until,
        question.by,
        question.zone,
        *(group in question.groups for group in Group),
        [status.number for status in question.statuses],
        [cause.number for cause in question.causes],
        [purpose.number for purpose in question.purposes],
        _ids(question.templates, {t.id: t.code for t in _templates(snapshot, tenant_id)}),
        _ids(question.channels, {channel.id: channel.name for channel in snapshot.channels.values()}),
        list(question.countries),
        list(question.operators),
        list(question.provinces),
        rows_max + 1,
        plan.tallied,
        _tenants_of(question, snapshot, tenant_id),
        plan.days,
        plan.hours,
        tenant_id or TENANT_MAX,
    )
    told = [_row(row, snapshot, with_cost=tenant_id is None) for row in rows[:rows_max]]
    return Table(since, until, told, truncated=len(rows) > rows_max)


def _sql_of(question: Question) -> LiteralString:
    """Choose the smallest table that tells apart what is asked."""
    if Group.PROVINCE not in question.groups and not question.provinces:
        return SUMMED_SQL
    if _NO_PLACES & set(question.groups) or question.causes or question.templates:
        return COUNTED_SQL
    return SUMMED_PLACES_SQL


_NO_PLACES: Final = frozenset({Group.CAUSE, Group.TEMPLATE})


def _tenants_of(question: Question, snapshot: Snapshot, tenant_id: TenantId | None) -> Sequence[int]:
    """Return under which tenants sums are read: the one's, everybody's in one, or each by itself for its templates."""
    if tenant_id is not None:
        return [tenant_id]
    if Group.TEMPLATE in question.groups or question.templates:
        return list(snapshot.tenants)
    return [0]


def _span(question: Question) -> tuple[datetime, datetime]:
    until = question.counted_to or clock.now()
    since = question.counted_from or until - LATELY
    for name, moment in (("counted_from", since), ("counted_to", until)):
        if moment.tzinfo is None:
            raise _wrong(name, "say the offset, as in +08:00 or Z")
    longest = HOURS_SPAN if question.by is By.HOUR else DAYS_SPAN
    if not timedelta(0) < until - since <= longest:
        raise _wrong("counted_from", f"must lie before counted_to, at most {longest.days} days")
    try:
        ZoneInfo(question.zone)
    except (KeyError, ValueError, OSError):
        raise _wrong("zone", "must be an IANA zone, as in Asia/Shanghai") from None
    for name in ("templates", "channels", "countries", "operators", "provinces"):
        if len(getattr(question, name)) > VALUES_MAX:
            raise _wrong(name, f"at most {VALUES_MAX} values")
    return since, until


def _wrong(parameter: str, reason: str) -> Refusal:
    return Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=parameter, reason=reason)


def _templates(snapshot: Snapshot, tenant_id: TenantId | None) -> Iterable[Any]:
    if tenant_id is None:
        return snapshot.templates.values()
    tenant = snapshot.tenants.get(tenant_id)
    return tenant.templates.values() if tenant else ()


def _ids(names: Sequence[str], known: Mapping[int, str]) -> list[int]:
    """Return the ids behind names. A name nobody has matches nothing, which is not the same as no filter."""
    return [number for number, name in known.items() if name in names] or ([-1] if names else [])


def _row(row: db.Row, snapshot: Snapshot, *, with_cost: bool) -> Row:
    at, status, cause, purpose, template_id, channel_id, country, operator, province, *cells = row
    statuses, latencies, messages, parts, prices_micro, costs_micro = cells
    counts = [
        0
    ] * _STATUSES  # by the status's number; thousands of rows are made, so no sets and mappings here
    buckets = [0] * _BUCKETS
    for number, latency, count in zip(statuses, latencies, messages, strict=True):
        counts[number] += count
        if number == _DELIVERED:
            buckets[latency] += count
    if ACCEPTED in statuses and len(statuses) > 1:
        # Price and parts stand at acceptance and again at the end; only one of the two may be summed.
        accepted = [number == ACCEPTED for number in statuses]
        parts, prices_micro = compress(parts, accepted), compress(prices_micro, accepted)
    final = sum([counts[number] for number in _LEFT])
    template = snapshot.templates.get(template_id or 0)
    channel = snapshot.channels.get(ChannelId(channel_id or 0))
    return Row(
        at=at,
        status=None if status is None else STATUS_BY_NUMBER[status],
        cause=None if cause is None else CAUSES[cause],
        purpose=None if purpose is None else PURPOSES[purpose],
        template=template.code if template else _nameless(template_id),
        channel=channel.name if channel else _nameless(channel_id),
        country=country,
        operator=operator,
        province=province,
        accepted=counts[ACCEPTED],
        delivered=counts[_DELIVERED],
        undelivered=counts[_UNDELIVERED],
        expired=counts[_EXPIRED],
        unknown=counts[_UNKNOWN],
        refused=counts[_REFUSED],
        cancelled=counts[_CANCELLED],
        parts=sum(parts),
        price_micro=sum(prices_micro),
        cost_micro=sum(costs_micro) if with_cost else None,
        delivery_rate=round(counts[_DELIVERED] / final, 4) if final > 0 else None,
        latency_ms_p50=percentile_ms(buckets, 0.50),
        latency_ms_p95=percentile_ms(buckets, 0.95),
    )


_STATUSES: Final = max(STATUS_BY_NUMBER) + 1
_BUCKETS: Final = len(LATENCY_BUCKETS_MS) + 1
_DELIVERED: Final = Status.DELIVERED.number
_UNDELIVERED: Final = Status.UNDELIVERED.number
_EXPIRED: Final = Status.EXPIRED.number
_UNKNOWN: Final = Status.UNKNOWN.number
_REFUSED: Final = Status.REFUSED.number
_CANCELLED: Final = Status.CANCELLED.number
_LEFT: Final = (_DELIVERED, _UNDELIVERED, _EXPIRED, _UNKNOWN)


def _nameless(number: int | None) -> str | None:
    """Name what has no name here: nothing ('') for 0, the number of one that is gone from the snapshot."""
    if number is None:
        return None
    return f"#{number}" if number else ""


def percentile_ms(buckets: Sequence[int], share: float) -> int | None:
    """Return the latency in ms that `share` of the counted stay below, straight within its bucket.

    None where nothing is counted. The last bucket has no upper bound; of it only its lower one is told.
    """
    total = sum(buckets)
    if total <= 0:
        return None
    wanted = total * share
    low = 0
    for high, count in zip(LATENCY_BUCKETS_MS, buckets, strict=False):
        if count >= wanted and count > 0:
            return low + round((high - low) * max(0.0, wanted) / count)
        wanted -= count
        low = high
    return low


def bucket_of(latency_ms: float) -> int:
    """Return the bucket of a latency, as the database's width_bucket() does."""
    return bisect_right(LATENCY_BUCKETS_MS, latency_ms)


# ---- /metrics


Reading = float | Mapping[str, float]  # one value, or one for each value of the gauge's label


class _Gauge(msgspec.Struct, frozen=True):
    help: str
    read: Callable[[], Reading]
    label: str


class _Counts(msgspec.Struct, frozen=True):
    help: str
    read: Callable[[], Mapping[str, float]]
    label: str


class _Work:
    """Rounds of one kind of work: how many, how long, and what they carried."""

    __slots__ = ("carried", "rounds", "seconds")

    def __init__(self) -> None:
        self.rounds = 0
        self.seconds = 0.0
        self.carried: Counter[str] = Counter()


class Counters(Collector):
    """What one process has counted since its start; one object a process, handed to its rooms.

    Labels carry names out of closed lists and of channels, never numbers or texts.
    """

    def __init__(self) -> None:
        self._accepted = 0
        self._refused: Counter[str] = Counter()
        self._submitted = 0
        self._answers: Counter[str] = Counter()
        self._finals: Counter[tuple[Status, Cause]] = Counter()
        self._parked = 0
        self._arrived = 0
        self._stops = 0
        self._commits = _Work()
        self._ticks = _Work()
        self._latency = [0] * (len(LATENCY_BUCKETS_MS) + 1)
        self._latency_s = 0.0
        self._gauges: dict[str, _Gauge] = {}
        self._counts: dict[str, _Counts] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    # The hot path: integers only.

    def accepted(self, messages: int) -> None:
        self._accepted += messages

    def refused(self, code: Code, messages: int = 1) -> None:
        self._refused[code.value.name] += messages

    def committed(self, rows: int, seconds: float) -> None:
        """Count one commit of accept."""
        self._commits.rounds += 1
        self._commits.seconds += seconds
        self._commits.carried["messages"] += rows

    def submitted(self, parts: int) -> None:
        """Count parts handed to channels."""
        self._submitted += parts

    def answered(self, outcome: str, parts: int = 1) -> None:
        """Count answers by kind: ack, declined, throttled, unreachable, unsure."""
        self._answers[outcome] += parts

    def ticked(self, acks: int, reports: int, paid: int, seconds: float) -> None:
        """Count one tick and what it stored."""
        self._ticks.rounds += 1
        self._ticks.seconds += seconds
        carried = self._ticks.carried
        carried["acks"] += acks
        carried["reports"] += reports
        carried["notices"] += paid

    def final(self, status: Status, cause: Cause) -> None:
        """Count a message that became final, or was corrected."""
        self._finals[status, cause] += 1

    def delivered_after(self, seconds: float) -> None:
        """Count the latency of a delivered message, accept → final."""
        self._latency[bucket_of(seconds * 1000)] += 1
        self._latency_s += seconds

    def parked(self, reports: int) -> None:
        """Count reports that came before their ack was stored, or match nothing."""
        self._parked += reports

    def arrived(self, parts: int) -> None:
        """Count inbound parts."""
        self._arrived += parts

    def stopped(self, persons: int) -> None:
        """Count opt-outs."""
        self._stops += persons

    # The slow path: somebody asks.

    def gauge(self, name: str, text: str, read: Callable[[], Reading], *, label: str = "channel") -> None:
        """Register what is read whenever somebody asks. `read` must be quick; a mapping gives one line a key.

        `name` without prefix, its unit last, as in queue_messages. A later one of the same name replaces.
        """
        self._gauges[name] = _Gauge(text, read, label)

    def counts(self, name: str, text: str, read: Callable[[], Mapping[str, float]], *, label: str) -> None:
        """Register what another room counts itself, by label; its numbers only ever rise."""
        self._counts[name] = _Counts(text, read, label)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text exposition format (version 0.0.4)."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics; called by the registry."""
        yield _count("accepted_messages", "Messages stored and promised.", self._accepted)
        yield _counts("refused_messages", "Messages refused at the door.", "code", self._refused)
        yield _count("submitted_parts", "Parts handed to channels.", self._submitted)
        yield _counts("answered_parts", "Answers of upstreams, and their absence.", "outcome", self._answers)
        yield self._collect_finals()
        yield self._collect_latency()
        yield _count(
            "parked_reports", "Reports that matched no stored submission when they came.", self._parked
        )
        yield _count("inbound_parts", "Parts of texts that people sent.", self._arrived)
        yield _count("opt_outs", "People who said stop.", self._stops)
        yield from _work("accept_commit", "Commits of accepted messages.", self._commits)
        yield from _work("tick", "Commits of acks, reports and paid notices.", self._ticks)
        for name, gauge in self._gauges.items():
            yield _gauge(name, gauge)
        for name, tally in self._counts.items():
            yield _counts(name, tally.help, tally.label, tally.read())

    def _collect_finals(self) -> Metric:
        family = CounterMetricFamily(
            f"{_PREFIX}final_messages",
            "Messages that became final, corrections included.",
            labels=["status", "cause"],
        )
        for (status, cause), count in self._finals.items():
            family.add_metric([status, cause], count)
        return family

    def _collect_latency(self) -> Metric:
        buckets: list[tuple[str, float]] = []
        sofar = 0
        for bound_ms, count in zip(LATENCY_BUCKETS_MS, self._latency, strict=False):
            sofar += count
            buckets.append((str(bound_ms / 1000), sofar))
        buckets.append(("+Inf", sofar + self._latency[-1]))
        return HistogramMetricFamily(
            f"{_PREFIX}delivery_seconds", "Accept to delivered.", buckets=buckets, sum_value=self._latency_s
        )


_PREFIX: Final = "hongyan_"


def _count(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, text, value=value)


def _counts(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([observe.masked(key)], value)
    return family


def _work(name: str, text: str, work: _Work) -> Iterable[Metric]:
    yield SummaryMetricFamily(
        f"{_PREFIX}{name}_seconds", text, count_value=work.rounds, sum_value=work.seconds
    )
    yield _counts(f"{name}_rows", f"{text} What they carried.", "of", work.carried)


def _gauge(name: str, gauge: _Gauge) -> Metric:
    reading = gauge.read()
    if not isinstance(reading, Mapping):
        return GaugeMetricFamily(_PREFIX + name, gauge.help, value=reading)
    family = GaugeMetricFamily(_PREFIX + name, gauge.help, labels=[gauge.label])
    for key, value in reading.items():
        family.add_metric([observe.masked(key)], value)
    return family
