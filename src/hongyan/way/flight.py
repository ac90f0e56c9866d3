"""A message in a gateway's memory, and the stream of those that want the same of a route.

Pure. A flight lasts from a message's arrival at this gateway until its last answer is stored. Everybody here writes on
it: lanes.py says where it waits, pump.py by which channel it goes, answers.py what came of its parts.
Surprise: a second life of a message, after a crash or when its rules were asked again, is a new flight.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from hongyan import clock
from hongyan.channels.channel import Declined
from hongyan.vocab import phone
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import PURPOSES, ChannelId, Status, TenantId
from hongyan.way import guard, route
from hongyan.way.drop import Dropped
from hongyan.way.handover import Handed
from hongyan.way.line import PROMOTIONAL
from hongyan.way.snapshot import Snapshot


class Flight:
    """A message in memory, from its arrival here until its last answer is stored."""

    __slots__ = (
        "asked_s",
        "careful",
        "channel_id",
        "decision",
        "declined",
        "fresh",
        "handed",
        "left_open",
        "order",
        "refusals",
        "stream",
        "total",
        "unfit",
        "unsure",
        "why",
    )

    def __init__(self, handed: Handed, order: int) -> None:
        self.handed = handed
        self.order = order
        self.careful = handed.lane == PROMOTIONAL or not handed.resend  # never twice
        self.fresh = False  # it was never ours in an earlier life, and nobody is known to have sent any of it
        self.asked_s = 0.0  # when its rules were asked again; 0: not since it was accepted
        self.stream: Stream
        self.channel_id = ChannelId(0)
        self.decision = 0
        self.left_open = 0  # parts under way, without an answer
        self.total = 0  # parts put on the line
        self.refusals = 0  # times an upstream said that it does not take this now
        self.unfit = ""  # why some channel could not carry it
        self.unsure = 0  # parts that were sent and not answered, each time
        self.declined: list[Any] = []  # slots of declined parts
        self.why: Declined | None = None

    @property
    def parts_each(self) -> int:
        """How many parts a parcel stands for: all of them where the channel takes a long text whole."""
        return self.handed.part_count - len(self.handed.parts_gone) if self.total == 1 else 1


class Stream:
    """Messages that want the same of a route, in order; what they share is found once, see Lanes.rank()."""

    __slots__ = ("avoid", "decisions", "flights", "only", "ranking", "unfiled", "version", "want")

    def __init__(self, want: route.Want, avoid: frozenset[ChannelId]) -> None:
        self.want = want
        self.avoid = avoid
        self.flights: deque[Flight] = deque()
        self.ranking: Sequence[route.Candidate] = ()
        self.only: route.Choice | None = None  # what a ranking of one comes to, see route.only()
        self.unfiled: Sequence[ChannelId] = ()  # that demand a filing the signature does not have
        self.version = 0  # of the snapshot it was ranked by
        self.decisions: dict[tuple[route.Choice, int], int] = {}  # traces of it, by choice and attempt


def want_of(handed: Handed, signature_id: int, province: str = "") -> route.Want:
    """Say what a message asks of a route; 0 and "" where its signature or its province does not matter."""
    return route.Want(
        TenantId(handed.tenant_id),
        handed.country,
        handed.operator,
        PURPOSES[handed.lane],
        handed.sandbox,
        signature_id,
        province,
    )


def ended(handed: Handed, status: Status, cause: Cause, code: str = "", *, left: bool = False) -> Dropped:
    """Say that what is left of a message will never leave; `left`: an earlier attempt did."""
    parts = handed.part_count - len(handed.parts_gone)
    return Dropped(handed.tenant_id, handed.id, parts, status, cause, code, left=left)


def quiet_until(handed: Handed, snapshot: Snapshot) -> float:
    """Return when a promotion may leave, in Unix seconds; 0: now."""
    tenant = snapshot.tenants.get(TenantId(handed.tenant_id))
    if handed.lane != PROMOTIONAL or tenant is None:
        return 0.0
    now_s = clock.now_s()
    zones = phone.zones(phone.parse(handed.number))
    allowed_s = guard.next_allowed(now_s, zones, tenant.quiet_until_hour, tenant.quiet_from_hour)
    if allowed_s is None:
        return handed.expires_at_s
    return 0.0 if allowed_s <= now_s else min(allowed_s, handed.expires_at_s)
