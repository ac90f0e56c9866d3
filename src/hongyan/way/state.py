"""How each channel fares: every gateway tells about once a second, for people and for dry runs.

Writes: channel_state. Entry points: Figures, what a line counts; told_of(), tell() and forget(), for the gateway;
every() and of(), for who asks. A row is a picture and no promise: what is older than STALE_S says nothing any more, and
what came before a restart of the gateway is not in it. Counting costs the pump one addition a part; percentiles are
read from buckets, four to a doubling, so they are right to about a tenth.
"""

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, LiteralString, cast

import msgspec

from hongyan import clock, db, observe
from hongyan.channels.channel import Attended, Link
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import ChannelId, Status
from hongyan.way.route import CHANNEL_FAULTS, Health

if TYPE_CHECKING:
    from hongyan.way.line import Line

GAP_S: Final = 1.0
STALE_S: Final = 10.0
FRESH_S: Final = 3.0  # what another gateway told this long ago is believed when messages are given away
MINUTES: Final = 5  # what "lately" means
BUCKETS: Final = 120  # four to a doubling of milliseconds: the last begins at eleven days
RATE_MEMORY_S: Final = 5.0
HEALTH_MAX: Final = 256  # countries and operators whose health is told
REASON_CHARACTERS_MAX: Final = 200


# ---- what a line counts


class _Minute:
    """What happened within one minute."""

    __slots__ = ("ack", "delivered", "failed", "minute", "outcomes", "report")

    def __init__(self, minute: int) -> None:
        self.minute = minute
        self.ack = [0] * BUCKETS
        self.report = [0] * BUCKETS
        self.delivered = 0
        self.failed = 0
        self.outcomes: dict[str, int] = {}


class Figures:
    """What one line has seen in the last minutes."""

    __slots__ = (
        "_minute",
        "_minutes",
        "_rate_at_s",
        "_rate_parts",
        "last_error",
        "last_error_at_s",
        "parts",
        "rate_per_s",
    )

    def __init__(self) -> None:
        self.parts = 0  # submitted since the line was opened
        self.rate_per_s = 0.0
        self.last_error = ""
        self.last_error_at_s = 0.0
        self._rate_at_s = time.monotonic()
        self._rate_parts = 0
        self._minute = _Minute(-1)  # of the last answer
        self._minutes = [self._minute] * MINUTES

    def answered(self, outcome: str, at_s: float, latency_s: float) -> None:
        """Count one answer of the upstream; `outcome` is its word: ack, declined …"""
        minute = self._minute
        if minute.minute != int(at_s) // 60:
            minute = self._minute = self._at(at_s)
        if outcome == "ack":
            minute.ack[_bucket(latency_s)] += 1
        else:
            minute.outcomes[outcome] = minute.outcomes.get(outcome, 0) + 1

    def failed(self, outcome: str, at_s: float, words: str) -> None:
        """Count an answer that took nothing, and remember its words."""
        self.answered(outcome, at_s, 0.0)
        self.last_error, self.last_error_at_s = f"{outcome}: {words}" if words else outcome, at_s

    def settled(self, status: Status, cause: Cause, latency_s: float) -> None:
        """Count one final report. A wrong number says nothing about who carried it."""
        minute = self._at(clock.now_s())
        minute.report[_bucket(latency_s)] += 1
        if status is Status.DELIVERED:
            minute.delivered += 1
        elif cause in CHANNEL_FAULTS:
            minute.failed += 1

    def lately(self) -> Sequence[_Minute]:
        """Return the minutes that count."""
        oldest = int(clock.now_s() // 60) - MINUTES
        return [minute for minute in self._minutes if minute.minute > oldest]

    def measure_rate(self, now_s: float) -> float:
        """Return parts submitted per second, smoothed over some seconds; call it about once a second."""
        passed_s = now_s - self._rate_at_s
        if passed_s > 0.01:
            now_per_s = (self.parts - self._rate_parts) / passed_s
            self.rate_per_s += (now_per_s - self.rate_per_s) * -math.expm1(-passed_s / RATE_MEMORY_S)
            self._rate_at_s, self._rate_parts = now_s, self.parts
        return self.rate_per_s

    def _at(self, at_s: float) -> _Minute:
        number = int(at_s // 60)
        minute = self._minutes[number % MINUTES]
        if minute.minute != number:
            minute = self._minutes[number % MINUTES] = _Minute(number)
        return minute


def _bucket(latency_s: float) -> int:
    latency_ms = int(latency_s * 1_000)
    return _QUICK[latency_ms] if 0 <= latency_ms < len(_QUICK) else _computed(latency_ms)


def _computed(latency_ms: int) -> int:
    return min(int(4 * math.log2(latency_ms)), BUCKETS - 1) if latency_ms > 1 else 0


_QUICK: Final = tuple(_computed(latency_ms) for latency_ms in range(2_048))


def percentile_ms(counts: Sequence[int], share: float) -> int | None:
    """Return the milliseconds that `share` of what was counted did not exceed; None where nothing was."""
    left = sum(counts) * share
    if not left:
        return None
    for bucket, count in enumerate(counts):
        left -= count
        if left <= 0:
            return round(2 ** ((bucket + 0.5) / 4))
    return None


# ---- what is told


class SessionTold(msgspec.Struct, frozen=True):
    """One session of a channel at one gateway."""

    slot: int
    state: str  # up, asleep, logging_in, down, leaving
    duty: str  # both, submit, receive
    window_used: int
    window_size: int
    since: datetime | None  # when it logged in; null while it has not
    # Sums since its place was opened: what two looks differ by is what happened between them.
    answered: int = 0
    not_taken: int = 0  # of those answers: declined, throttled
    waited_ms: int = 0  # for all those answers together


class Fitness(msgspec.Struct, frozen=True):
    """What a gateway has learned of a channel towards one country and operator; see route.Health."""

    success: float
    weight: float
    latency_s: float
    probed_s: float | None = None  # how long ago, where the breaker is open


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """How a channel fares at one gateway."""

    link: str = "absent"  # down, up, throttled, closed; absent: no session of it is held here
    reason: str = ""  # why it is not up, in the upstream's or the socket's words
    drained: bool = False  # it was to be drained, and is
    sessions_up: int = 0
    sessions: Sequence[SessionTold] = ()  # of kinds with sessions
    window_used: int = 0
    window_size: int = 0
    takes: bool = False  # messages may be routed here now: up, neither paused nor resting
    room: Sequence[bool] = ()  # whether a part of a lane could leave now: otp, transactional, promotional
    queued: int = 0  # parts on its line that no session had room for
    waiting: Sequence[int] = ()  # messages that would go here first, by lane
    submitted_per_s: float = 0.0
    outcomes: Mapping[str, int] = {}  # what the upstream answered in the last five minutes: ack, declined …
    reported: int = 0  # final reports in the last five minutes that say something about the channel
    success: float | None = None  # share of them that say delivered
    ack_ms_p50: int | None = None
    ack_ms_p95: int | None = None
    report_ms_p50: int | None = None
    report_ms_p95: int | None = None
    throttled_until: datetime | None = None
    last_error: str = ""
    last_error_at: datetime | None = None
    health: Mapping[str, Fitness] = {}  # by country and operator: CNcmcc


def told_of(line: "Line", waiting: Sequence[int], now_s: float) -> Told:
    """Tell how a line fares; `now_s` is the monotonic clock's."""
    state = line.channel.state()
    figures = line.figures
    lately = figures.lately()
    acks = [sum(counts) for counts in zip(*(minute.ack for minute in lately), strict=True)]
    reports = [sum(counts) for counts in zip(*(minute.report for minute in lately), strict=True)]
    delivered = sum(minute.delivered for minute in lately)
    reported = delivered + sum(minute.failed for minute in lately)
    outcomes = {"ack": sum(acks)} if acks and any(acks) else {}
    for minute in lately:
        for outcome, count in minute.outcomes.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    takes = line.up and not line.resting(now_s)
    return Told(
        link=state.link.value,
        reason=_shown(state.reason) if state.link is not Link.UP or state.reason else "",
        sessions_up=state.sessions_up,
        sessions=_sessions(line),
        window_used=state.window_used,
        window_size=state.window_size,
        takes=takes,
        room=[takes and line.room(lane, now_s) > 0 for lane in range(len(waiting))],
        queued=line.waiting,
        waiting=waiting,
        submitted_per_s=round(figures.measure_rate(now_s), 1),
        outcomes=outcomes,
        reported=reported,
        success=round(delivered / reported, 4) if reported else None,
        ack_ms_p50=percentile_ms(acks, 0.5),
        ack_ms_p95=percentile_ms(acks, 0.95),
        report_ms_p50=percentile_ms(reports, 0.5),
        report_ms_p95=percentile_ms(reports, 0.95),
        throttled_until=_moment(clock.now_s() + state.throttled_s) if state.throttled_s > 0 else None,
        last_error=_shown(figures.last_error),
        last_error_at=_moment(figures.last_error_at_s) if figures.last_error else None,
        health=_fitness(line.health, now_s),
    )


def _sessions(line: "Line") -> Sequence[SessionTold]:
    if not hasattr(line.channel, "each_session"):
        return ()
    now_s = clock.now_s()
    return [
        SessionTold(
            one.slot, one.state, one.duty, one.window_used, one.window_size,
            _moment(now_s - one.up_s) if one.up_s else None, one.answered, one.not_taken, round(one.waited_s * 1_000),
        )
        for one in cast("Attended", line.channel).each_session()
    ]  # fmt: skip


def _fitness(health: Mapping[str, Health], now_s: float) -> Mapping[str, Fitness]:
    """Tell what was learned; where that is of too many places, of those most was heard of."""
    known = health.items()
    if len(health) > HEALTH_MAX:
        known = dict(sorted(known, key=lambda pair: -pair[1].weight)[:HEALTH_MAX]).items()
    return {
        place: Fitness(
            one.success, one.weight, one.latency_s,
            round(now_s - one.probed_at_s, 1) if one.probed_at_s > -math.inf else None,
        )
        for place, one in known
    }  # fmt: skip


def _shown(words: str) -> str:
    return observe.masked(words[:REASON_CHARACTERS_MAX])


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


# What this gateway no longer knows of goes, and what gateways that are gone have left.
# `up_at`: when a session of it was last up here, or since when we have tried; for alarms, not for people.
TELL_SQL: LiteralString = """
WITH gone AS (
    DELETE FROM channel_state
     WHERE (gateway = $1 AND NOT channel_id = ANY($2::int[])) OR told_at < now() - interval '1 hour'
)
INSERT INTO channel_state AS s (channel_id, gateway, told)
SELECT channel_id, $1, told || CASE WHEN told ->> 'link' = 'absent' THEN '{}' ELSE jsonb_build_object('up_at', now()) END
  FROM unnest($2::int[], $3::jsonb[]) AS t(channel_id, told) ORDER BY channel_id
ON CONFLICT (channel_id, gateway) DO UPDATE SET told_at = now(), told = EXCLUDED.told ||
    CASE WHEN s.told ->> 'up_at' IS NULL OR (EXCLUDED.told ->> 'sessions_up')::int > 0 THEN '{}'
         ELSE jsonb_build_object('up_at', s.told -> 'up_at') END
"""


async def tell(database: db.Database, gateway: int, told: Mapping[ChannelId, Told]) -> None:
    """Store how all channels fare at a gateway."""
    written = [msgspec.json.encode(one).decode() for one in told.values()]
    await database.execute(TELL_SQL, gateway, list(told), written)


# When a session was last up stays: should all gateways stop, nothing else says since when a channel has had none.
FORGET_SQL: LiteralString = """
UPDATE channel_state SET told = jsonb_build_object('up_at', told -> 'up_at'), told_at = now() WHERE gateway = $1
"""


async def forget(tx: db.Tx, gateway: int) -> None:
    """Take back what a gateway has told: it ends."""
    await tx.execute(FORGET_SQL, gateway)


# ---- what is read


class AtGateway(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway told last."""

    gateway: int
    told_at: datetime
    stale: bool  # so long ago that it says nothing about now
    told: Told


EVERY_SQL: LiteralString = """
SELECT channel_id, gateway, told_at, told, told_at < now() - make_interval(secs => $1::float8) AS stale
  FROM channel_state WHERE told ? 'link' ORDER BY channel_id, gateway
"""
OF_SQL: LiteralString = """
SELECT channel_id, gateway, told_at, told, told_at < now() - make_interval(secs => $2::float8) AS stale
  FROM channel_state WHERE channel_id = $1 AND told ? 'link' ORDER BY gateway
"""


async def every(tx: db.Tx) -> Mapping[ChannelId, Sequence[AtGateway]]:
    """Return what gateways told last, by channel."""
    found: dict[ChannelId, list[AtGateway]] = {}
    for row in await tx.fetch(EVERY_SQL, STALE_S):
        found.setdefault(ChannelId(row["channel_id"]), []).append(_at_gateway(row))
    return found


async def of(tx: db.Tx, channel_id: ChannelId) -> Sequence[AtGateway]:
    """Return what gateways told last of one channel."""
    return [_at_gateway(row) for row in await tx.fetch(OF_SQL, channel_id, STALE_S)]


class Usable(msgspec.Struct, frozen=True, kw_only=True):
    """What another gateway told of a channel that may be used there, for whoever might give it messages."""

    channel_id: ChannelId
    gateway: int
    socket: str  # where doors of its machine find it
    age_s: float  # of what it told
    waiting: Sequence[int]
    health: Mapping[str, Fitness]


class _Fares(msgspec.Struct, frozen=True):
    """The part of Told that it takes."""

    waiting: Sequence[int]
    health: Mapping[str, Fitness]


ELSEWHERE_SQL: LiteralString = """
SELECT c.channel_id, c.gateway, g.socket, c.told, extract(epoch FROM now() - c.told_at)::float8 AS age_s
  FROM channel_state c JOIN gateway g ON g.id = c.gateway
 WHERE c.gateway <> $1 AND c.told_at > now() - make_interval(secs => $2::float8) AND (c.told ->> 'takes')::bool
   AND EXISTS (SELECT FROM session_lease l WHERE l.channel_id = c.channel_id AND l.gateway = c.gateway AND l.until > now())
 ORDER BY c.channel_id, c.gateway
"""


async def elsewhere(database: db.Database, gateway: int) -> Sequence[Usable]:
    """Return the channels that other gateways told a moment ago may be used there."""
    found = []
    for row in await database.fetch(ELSEWHERE_SQL, gateway, FRESH_S):
        told = msgspec.json.decode(row["told"], type=_Fares)
        found.append(
            Usable(
                channel_id=ChannelId(row["channel_id"]), gateway=row["gateway"], socket=row["socket"],
                age_s=row["age_s"], waiting=told.waiting, health=told.health,
            )
        )  # fmt: skip
    return found


def _at_gateway(row: db.Row) -> AtGateway:
    told = msgspec.json.decode(row["told"], type=Told)
    return AtGateway(gateway=row["gateway"], told_at=row["told_at"], stale=row["stale"], told=told)
