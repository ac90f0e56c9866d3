"""How far people come who are asked to prove a number: seven steps, by hour, with the seconds that they took.

Writes: funnel. Entry points: add(), from verifications that have ended; opened(), from pages that showed the form; read().
A step counts who came at least so far, in the hour in which the code was asked for. `challenged` is the exception: not
everybody is. Who gave the right code was reached, whether a report said so or not. Percentiles come from buckets, and are as
exact as BOUNDS_S.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Final, LiteralString, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from hongyan import clock, db
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.vocab.verification import SCENE_BY_NUMBER, Scene
from hongyan.way.snapshot import Snapshot

# Where one bucket ends and the next begins: bucket 0 lies below the first, bucket 14 from the last upwards.
BOUNDS_S: Final = (1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 120, 180, 300)
UNKNOWN: Final = -1  # the bucket of what nobody has timed
ROWS_MAX: Final = 10_000  # of one answer; more are cut and said so
HOURS_SPAN: Final = timedelta(days=32)
DAYS_SPAN: Final = timedelta(days=400)
LATELY: Final = timedelta(days=1)  # what is looked at when nothing is said
VALUES_MAX: Final = 100  # of one filter
TENANT_MAX: Final = 2**31 - 1


class Step(IntEnum):
    """How far somebody came."""

    OPENED = 0  # the form was shown; only pages with a site key tell
    REQUESTED = 1  # a code was asked for, and might be sent
    CHALLENGED = 2  # something had to be solved first, and was
    ACCEPTED = 3  # a message was promised
    DELIVERED = 4  # it arrived
    CHECKED = 5  # a code was given, right or wrong
    DONE = 6  # the right one was


class Place(NamedTuple):
    """What is told apart."""

    tenant_id: int
    hour: datetime
    app_id: int
    scene: int
    country: str = ""
    operator: str = ""
    channel_id: int = 0


Page = tuple[int, int, Scene]  # tenant, app, scene


class Passage(NamedTuple):
    """How one verification went: the steps it came to, each with its seconds since it was asked for; None: not timed."""

    place: Place
    steps: Mapping[Step, float | None]


def hour_of(moment: datetime) -> datetime:
    """Return when the hour of a moment begins, in UTC as the moment is."""
    return moment.replace(minute=0, second=0, microsecond=0)


def bucket_of(seconds: float | None) -> int:
    """Return the bucket of a time."""
    return UNKNOWN if seconds is None else sum(seconds >= bound for bound in BOUNDS_S)


# ---- in


# In the order of the key: two clerks, or a clerk and a door, must not wait for each other in a circle.
ADD_SQL: LiteralString = """
INSERT INTO funnel AS f (tenant_id, hour, app_id, scene, country, operator, channel_id, step, bucket, count, seconds)
SELECT tenant_id, hour, app_id, scene, country, operator, channel_id, step, bucket, count, seconds
  FROM unnest($1::int[], $2::timestamptz[], $3::int[], $4::smallint[], $5::text[], $6::text[], $7::int[], $8::smallint[],
              $9::smallint[], $10::bigint[], $11::float8[])
    AS n(tenant_id, hour, app_id, scene, country, operator, channel_id, step, bucket, count, seconds)
 ORDER BY tenant_id, hour, app_id, scene, country, operator, channel_id, step, bucket
ON CONFLICT (tenant_id, hour, app_id, scene, country, operator, channel_id, step, bucket)
DO UPDATE SET count = f.count + EXCLUDED.count, seconds = f.seconds + EXCLUDED.seconds
"""


async def add(tx: db.Tx, passages: Iterable[Passage]) -> None:
    """Count verifications that have ended; whoever calls sees to it that each comes once."""
    cells: defaultdict[tuple[Place, Step, int], list[float]] = defaultdict(lambda: [0, 0.0])
    for place, steps in passages:
        for step, seconds in steps.items():
            cell = cells[place, step, bucket_of(seconds)]
            cell[0] += 1
            cell[1] += seconds or 0.0
    await _add(tx, cells)


async def opened(tx: db.Tx, pages: Mapping[Page, int], now_s: float) -> None:
    """Count forms that were shown: how many, by tenant, app and scene."""
    hour = hour_of(clock.moment(now_s))
    await _add(
        tx,
        {
            (Place(tenant_id, hour, app_id, scene.number), Step.OPENED, UNKNOWN): (count, 0.0)
            for (tenant_id, app_id, scene), count in pages.items()
        },
    )


async def _add(tx: db.Tx, cells: Mapping[tuple[Place, Step, int], Sequence[float]]) -> None:
    if not cells:
        return
    rows = [
        (*place, step.value, bucket, int(count), seconds)
        for (place, step, bucket), (count, seconds) in cells.items()
    ]
    await tx.execute(ADD_SQL, *map(list, zip(*rows, strict=True)))


# ---- out


class FunnelBy(StrEnum):
    """How time is cut."""

    HOUR = "hour"
    DAY = "day"  # days of the asked zone
    NONE = "none"  # one sum over the whole span


class FunnelGroup(StrEnum):
    """What rows can be told apart by."""

    APP = "app"
    SCENE = "scene"
    COUNTRY = "country"
    OPERATOR = "operator"
    CHANNEL = "channel"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What to count. Times are aware, from included, to not. Any value of a filter will do; none: all."""

    by: FunnelBy = FunnelBy.HOUR
    groups: tuple[FunnelGroup, ...] = ()
    counted_from: datetime | None = None
    counted_to: datetime | None = None
    zone: str = "UTC"  # IANA name; decides where days begin
    app_ids: tuple[int, ...] = ()
    scenes: tuple[Scene, ...] = ()
    countries: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()


class Times(msgspec.Struct, frozen=True):
    """Seconds since the code was asked for. Null where none was timed."""

    mean_s: float | None
    p50_s: float | None
    p95_s: float | None


class FunnelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line: the keys that were asked for (others null), how many came to each step, and what follows."""

    at: datetime | None = None
    app_id: int | None = None
    scene: Scene | None = None
    country: str | None = None
    operator: str | None = None
    channel: str | None = None
    opened: int
    requested: int
    challenged: int
    accepted: int
    delivered: int
    checked: int
    done: int
    # Of those who came to the step before, the share that went no further; null where nobody had come so far.
    lost_before_requested: float | None  # of the forms that were shown
    lost_before_accepted: float | None
    lost_before_delivered: float | None
    lost_before_checked: float | None
    lost_before_done: float | None
    conversion: float | None  # done ÷ accepted
    delivered_after: Times
    done_after: Times


class Funnel(msgspec.Struct, frozen=True):
    """The rows in order of time and keys, and whether ROWS_MAX cut some off."""

    counted_from: datetime
    counted_to: datetime
    rows: Sequence[FunnelRow]
    truncated: bool = False


# The groups asked for are told by flags, so that one statement serves every question.
READ_SQL: LiteralString = """
WITH cell AS (
    SELECT CASE $4 WHEN 'hour' THEN hour WHEN 'day' THEN date_trunc('day', hour, $5) END AS at,
           CASE WHEN $6 THEN app_id END AS app_id, CASE WHEN $7 THEN scene END AS scene,
           CASE WHEN $8 THEN country END AS country, CASE WHEN $9 THEN operator END AS operator,
           CASE WHEN $10 THEN channel_id END AS channel_id,
           step, bucket, sum(count)::bigint AS count, sum(seconds) AS seconds
      FROM funnel
     WHERE tenant_id BETWEEN $1 AND $16 AND hour >= $2 AND hour < $3
       AND (cardinality($11::int[]) = 0 OR app_id = ANY($11))
       AND (cardinality($12::smallint[]) = 0 OR scene = ANY($12))
       AND (cardinality($13::text[]) = 0 OR country = ANY($13))
       AND (cardinality($14::text[]) = 0 OR operator = ANY($14))
     GROUP BY 1, 2, 3, 4, 5, 6, step, bucket
)
SELECT at, app_id, scene, country, operator, channel_id, array_agg(step) AS steps, array_agg(bucket) AS buckets,
       array_agg(count) AS counts, array_agg(seconds) AS seconds
  FROM cell GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6
 LIMIT $15
"""


async def read(tx: db.Tx, snapshot: Snapshot, tenant_id: TenantId | None, question: Question) -> Funnel:
    """Count one tenant's verifications, or everybody's (None). Raises Refusal where the span is empty or too long."""
    since, until = _span(question)
    rows = await tx.fetch(
        READ_SQL,
        tenant_id or 1,
        since,
        until,
        question.by,
        question.zone,
        *(group in question.groups for group in FunnelGroup),
        list(question.app_ids),
        [scene.number for scene in question.scenes],
        list(question.countries),
        list(question.operators),
        ROWS_MAX + 1,
        tenant_id or TENANT_MAX,
    )
    return Funnel(since, until, [_row(row, snapshot) for row in rows[:ROWS_MAX]], len(rows) > ROWS_MAX)


def _span(question: Question) -> tuple[datetime, datetime]:
    until = question.counted_to or clock.now()
    since = question.counted_from or until - LATELY
    longest = HOURS_SPAN if question.by is FunnelBy.HOUR else DAYS_SPAN
    if not timedelta(0) < until - since <= longest:
        raise _wrong("counted_from", f"must lie before counted_to, at most {longest.days} days")
    try:
        ZoneInfo(question.zone)
    except (KeyError, ValueError, OSError):
        raise _wrong("zone", "must be an IANA zone, as in Asia/Shanghai") from None
    for name in ("app_ids", "scenes", "countries", "operators"):
        if len(getattr(question, name)) > VALUES_MAX:
            raise _wrong(name, f"at most {VALUES_MAX} values")
    return since, until


def _wrong(parameter: str, reason: str) -> Refusal:
    return Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=parameter, reason=reason)


def _row(row: db.Row, snapshot: Snapshot) -> FunnelRow:
    counts = dict.fromkeys(Step, 0)
    sums = dict.fromkeys(Step, 0.0)
    buckets = {step: [0] * (len(BOUNDS_S) + 1) for step in Step}
    for number, bucket, count, seconds in zip(
        row["steps"], row["buckets"], row["counts"], row["seconds"], strict=True
    ):
        step = Step(number)
        counts[step] += count
        if bucket != UNKNOWN:
            buckets[step][bucket] += count
            sums[step] += seconds
    return FunnelRow(
        at=row["at"],
        app_id=row["app_id"],
        scene=None if row["scene"] is None else SCENE_BY_NUMBER[row["scene"]],
        country=row["country"],
        operator=row["operator"],
        channel=_channel(row["channel_id"], snapshot),
        **{step.name.lower(): count for step, count in counts.items()},
        lost_before_requested=_lost(counts, Step.OPENED, Step.REQUESTED),
        lost_before_accepted=_lost(counts, Step.REQUESTED, Step.ACCEPTED),
        lost_before_delivered=_lost(counts, Step.ACCEPTED, Step.DELIVERED),
        lost_before_checked=_lost(counts, Step.DELIVERED, Step.CHECKED),
        lost_before_done=_lost(counts, Step.CHECKED, Step.DONE),
        conversion=_share(counts[Step.DONE], counts[Step.ACCEPTED]),
        delivered_after=times(buckets[Step.DELIVERED], sums[Step.DELIVERED]),
        done_after=times(buckets[Step.DONE], sums[Step.DONE]),
    )


def _channel(channel_id: int | None, snapshot: Snapshot) -> str | None:
    """Name a channel: '' for none, #number for one that is gone."""
    if not channel_id:
        return None if channel_id is None else ""
    channel = next((one for one in snapshot.channels.values() if one.id == channel_id), None)
    return channel.name if channel else f"#{channel_id}"


def _lost(counts: Mapping[Step, int], before: Step, step: Step) -> float | None:
    """Return the share that went no further. Servers that ask by themselves show no form, so more may ask than looked."""
    if not counts[before]:
        return None
    return round(max(0.0, 1 - counts[step] / counts[before]), 4)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def times(buckets: Sequence[int], sum_s: float) -> Times:
    """Return the mean, and the seconds that half and nineteen in twenty stayed below, straight within a bucket."""
    total = sum(buckets)
    if not total:
        return Times(None, None, None)
    return Times(round(sum_s / total, 2), _below(buckets, total * 0.5), _below(buckets, total * 0.95))


def _below(buckets: Sequence[int], wanted: float) -> float:
    """The last bucket has no end; of it only its beginning is told."""
    low = 0
    for high, count in zip(BOUNDS_S, buckets, strict=False):
        if count and count >= wanted:
            return round(low + (high - low) * wanted / count, 2)
        wanted -= count
        low = high
    return float(low)
