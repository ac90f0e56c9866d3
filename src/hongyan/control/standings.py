"""How channels stand now, over all gateways: one word and the figures behind it, for lists and for dry runs.

Writes nothing. Entry points: standing_of(), Word. It is made of what gateways told last (way/state.py); what is stale
counts for nothing, so a channel of which nobody has told lately is unknown, and not down.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from hongyan import clock
from hongyan.control.upstreams import ChannelRow
from hongyan.way.state import AtGateway, Told


class StandingWord(StrEnum):
    """How a channel stands."""

    UP = "up"  # a session is logged in
    THROTTLED = "throttled"  # logged in, and told to slow down
    DOWN = "down"  # no session is logged in
    PAUSED = "paused"  # by a person: nothing is submitted, reports still come
    DRAINING = "draining"  # nothing is submitted, reports are waited for
    DRAINED = "drained"  # logged out after that
    UNKNOWN = "unknown"  # no gateway has told lately


class ChannelStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How a channel stands over all gateways. Figures are of the last five minutes, and null where there were none."""

    word: StandingWord
    gateways: int  # that told of it lately
    sessions_up: int
    window_used: int
    window_size: int
    submitted_per_s: float
    queued: int
    waiting: Sequence[int]  # messages that would go here first: otp, transactional, promotional
    success: float | None
    reported: int
    ack_ms_p50: int | None  # of the slowest gateway, as the three below
    ack_ms_p95: int | None
    report_ms_p50: int | None
    report_ms_p95: int | None
    throttled_until: datetime | None
    reason: str  # why it is not up
    last_error: str
    last_error_at: datetime | None
    told_at: datetime | None  # when that was told last, however long ago


def standing_of(row: ChannelRow, gateways: Sequence[AtGateway]) -> ChannelStanding:
    """Return how a channel stands by what gateways told of it."""
    fresh = [one.told for one in gateways if not one.stale]
    reported = sum(told.reported for told in fresh)
    delivered = sum(told.reported * told.success for told in fresh if told.success is not None)
    errors = [told for told in fresh if told.last_error_at is not None]
    last = max(errors, key=lambda told: told.last_error_at or row.created_at, default=None)
    return ChannelStanding(
        word=_word(row, fresh),
        gateways=len(fresh),
        sessions_up=sum(told.sessions_up for told in fresh),
        window_used=sum(told.window_used for told in fresh),
        window_size=sum(told.window_size for told in fresh),
        submitted_per_s=round(sum(told.submitted_per_s for told in fresh), 1),
        queued=sum(told.queued for told in fresh),
        waiting=[sum(lane) for lane in zip(*(told.waiting for told in fresh), strict=False)] or [0, 0, 0],
        success=round(delivered / reported, 4) if reported else None,
        reported=reported,
        ack_ms_p50=_worst([told.ack_ms_p50 for told in fresh]),
        ack_ms_p95=_worst([told.ack_ms_p95 for told in fresh]),
        report_ms_p50=_worst([told.report_ms_p50 for told in fresh]),
        report_ms_p95=_worst([told.report_ms_p95 for told in fresh]),
        throttled_until=max(
            (t.throttled_until for t in fresh if t.throttled_until is not None), default=None
        ),
        reason=next((told.reason for told in fresh if told.reason), ""),
        last_error=last.last_error if last is not None else "",
        last_error_at=last.last_error_at if last is not None else None,
        told_at=max((one.told_at for one in gateways), default=None),
    )


def _word(row: ChannelRow, fresh: Sequence[Told]) -> StandingWord:
    links = {told.link for told in fresh}
    if row.drain_until is not None:
        told = bool(fresh) and all(told.drained for told in fresh)
        return (
            StandingWord.DRAINED
            if told or (row.drain_until <= clock.now() and not links & _IN)
            else StandingWord.DRAINING
        )
    if row.paused:
        return StandingWord.PAUSED
    if not fresh:
        return StandingWord.UNKNOWN
    if "up" in links:
        return StandingWord.UP
    return StandingWord.THROTTLED if "throttled" in links else StandingWord.DOWN


_IN = frozenset({"up", "throttled"})


def _worst(figures: Sequence[int | None]) -> int | None:
    return max((figure for figure in figures if figure is not None), default=None)
