"""Choose a channel: rules, weights, price and health, as a pure ranking over the snapshot.

Pure. Health never refuses a message, it only changes the order: where every channel is ill, the least ill one
is used; where none is up, the message waits. Among equals codes go where codes are entered (conversion.py).
Entry points: candidates(), not_filed(), Health, choose(), and only() where there is nothing to choose.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from hongyan.vocab.cause import Cause
from hongyan.vocab.message import ChannelId, Purpose, Status, TenantId
from hongyan.vocab.phone import OPERATOR_NAMES
from hongyan.way.snapshot import Snapshot

# Health: an exponentially fading memory of reports, one for each channel × operator.
MEMORY_REPORTS = 200.0  # how many reports back the memory reaches
TRUST_REPORTS = 20.0  # before so many, the picture leans on the assumption below
ASSUMED_SUCCESS = 0.95
BREAKER_OPENS_BELOW = 0.30  # success; such a channel gets probes only
BREAKER_PROBE_S = 5.0  # one message in so many seconds goes there, to see
LATENCY_GOOD_S = 10.0
MAINLAND_OPERATORS = frozenset(OPERATOR_NAMES)
# Causes that say something about the channel. A wrong number says nothing about who carried it.
CHANNEL_FAULTS = frozenset({Cause.NETWORK, Cause.NO_ROUTE, Cause.REJECTED, Cause.UNKNOWN, Cause.UNREACHABLE,
                            Cause.EXPIRED, Cause.RATE_LIMITED, Cause.SIGN_UNREGISTERED, Cause.CONTENT_BLOCKED,
                            Cause.NO_REPORT, Cause.UNSUPPORTED})  # fmt: skip


class Want(msgspec.Struct, frozen=True, gc=False):
    """What a stream of messages asks of a route; messages that want the same share one ranking."""

    tenant_id: TenantId
    country: str
    operator: str
    purpose: Purpose
    sandbox: bool = False
    signature_id: int = 0  # matters only where a channel demands filings
    province: str = ""  # of codes, once it is known which channels bring them there


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A channel that the rules allow."""

    channel_id: ChannelId
    priority: int
    weight: int
    rule_id: int
    cost_micro: int


class Health:
    """What reports and answers have said lately about one channel and operator."""

    __slots__ = ("latency_s", "probed_at_s", "success", "weight")

    def __init__(self) -> None:
        self.success = ASSUMED_SUCCESS
        self.weight = TRUST_REPORTS
        self.latency_s = 0.0
        self.probed_at_s = -math.inf

    def heard(self, status: Status, cause: Cause, latency_s: float) -> None:
        """Take in one final report."""
        if status is Status.DELIVERED:
            good = 1.0
            self.latency_s += (latency_s - self.latency_s) / min(self.weight, MEMORY_REPORTS)
        elif cause in CHANNEL_FAULTS:
            good = 0.0
        else:
            return
        self.weight = min(self.weight + 1, MEMORY_REPORTS)
        self.success += (good - self.success) / self.weight

    @property
    def broken(self) -> bool:
        return self.success < BREAKER_OPENS_BELOW

    @property
    def score(self) -> float:
        """Between 0 and 1: success counts squared, slowness beyond LATENCY_GOOD_S takes away."""
        slow = LATENCY_GOOD_S / self.latency_s if self.latency_s > LATENCY_GOOD_S else 1.0
        return self.success * self.success * slow


class State(msgspec.Struct, frozen=True, gc=False):
    """What choose() must know of a channel at this moment."""

    up: bool  # a session is logged in here
    room: bool  # window and pace would take a part of this lane now
    health: Health


class Choice(msgspec.Struct, frozen=True, gc=False):
    """The channel, or why there is none now; `words` say in the trace how each candidate stood."""

    channel_id: ChannelId | None
    rule_id: int = 0
    words: tuple[tuple[int, str], ...] = ()


class Picked(msgspec.Struct, frozen=True, gc=False):
    """Which of several equal channels is to have a message, and how each stood; none: one without room is waited for."""

    candidate: Candidate | None
    words: tuple[tuple[int, str], ...]


# Asked with equal channels, those among them that have room, and `chance`; None: weight and health are to share.
Pick = Callable[[Sequence[Candidate], Sequence[Candidate], float], Picked | None]


def candidates(want: Want, snapshot: Snapshot, avoid_channel: int = 0) -> Sequence[Candidate]:
    """Return the channels that the rules allow, in order: priority, then price, then id.

    Among rules of one channel the first by priority speaks. Sandbox messages see only `loopback` channels,
    and only they see them. Channels that demand a filing the signature does not have are left out.
    """
    ranked = _ranked(want, snapshot, avoid_channel)
    if not snapshot.demands_filing or filed(want, snapshot):
        return ranked
    return [one for one in ranked if not snapshot.channels[one.channel_id].filing_demanded]


def not_filed(want: Want, snapshot: Snapshot) -> Sequence[ChannelId]:
    """Return the channels that candidates() leaves out because the signature is not filed at the operator."""
    if not snapshot.demands_filing or filed(want, snapshot):
        return ()
    ranked = _ranked(want, snapshot)
    return [one.channel_id for one in ranked if snapshot.channels[one.channel_id].filing_demanded]


def filed(want: Want, snapshot: Snapshot) -> bool:
    """Tell whether a channel that demands filings may carry it. They are a matter of the mainland's operators.

    An operator that we do not know may be any of them.
    """
    if want.country != "CN":
        return True
    signature = snapshot.signatures.get(want.signature_id)
    if signature is None:
        return False
    return want.operator in signature.filed or (not want.operator and signature.filed >= MAINLAND_OPERATORS)


def _ranked(want: Want, snapshot: Snapshot, avoid_channel: int = 0) -> list[Candidate]:
    found: dict[ChannelId, Candidate] = {}
    for rule in snapshot.rules:
        channel = snapshot.channels.get(rule.channel_id)
        if channel is None or channel.id == avoid_channel or channel.id in found or not rule.weight:
            continue
        if (channel.kind == "loopback") is not want.sandbox:
            continue
        if (
            rule.tenant_id in (None, want.tenant_id)
            and rule.country in (None, want.country)
            and rule.operator in (None, want.operator)
            and rule.purpose in (None, want.purpose)
        ):
            found[channel.id] = Candidate(channel.id, rule.priority, rule.weight, rule.id, channel.cost_micro)
    return sorted(found.values(), key=lambda c: (c.priority, c.cost_micro, c.channel_id))


def exists(want: Want, snapshot: Snapshot) -> bool:
    """Tell whether any channel is configured that could ever carry it, however it fares just now."""
    signature_id = want.signature_id if snapshot.demands_filing else 0
    asked = (want.tenant_id, want.country, want.operator, want.purpose, want.sandbox, signature_id)
    found = snapshot.found_routes.get(asked)
    if found is None:
        found = snapshot.found_routes[asked] = bool(candidates(want, snapshot))
    return found


def only(ranking: Sequence[Candidate], unfiled: Sequence[ChannelId]) -> Choice | None:
    """Return what choose() says of a ranking of one while that channel is up, not broken and has room; else None."""
    if len(ranking) != 1:
        return None
    words = tuple((channel_id, "not filed") for channel_id in unfiled)
    return Choice(ranking[0].channel_id, ranking[0].rule_id, words)


def choose(
    ranking: Sequence[Candidate],
    states: Mapping[ChannelId, State],
    chance: float,
    now_s: float,
    unfiled: Sequence[ChannelId] = (),
    pick: Pick | None = None,
) -> Choice:
    """Choose among candidates; `chance` in [0, 1) shares the load by weight and health within one priority.

    `pick` may know better than that how to share it: asked where several channels of the best priority are usable.

    The best priority with a channel that is up and not broken is used; busy channels there are waited for,
    because a full window is no reason to buy elsewhere. A broken one gets a probe now and then. `unfiled`: what
    candidates() left out for want of a filing, for the trace.
    """
    usable: list[tuple[Candidate, State]] = []
    broken: list[tuple[Candidate, State]] = []
    for candidate in ranking:
        state = states.get(candidate.channel_id)
        if state is not None and state.up:
            (broken if state.health.broken else usable).append((candidate, state))
    words: list[tuple[int, str]] = [(channel_id, "not filed") for channel_id in unfiled]
    words += [(c.channel_id, "down") for c in ranking if not _up(states.get(c.channel_id))]
    words += [(candidate.channel_id, "failing") for candidate, _ in broken]
    for candidate, state in broken:
        if state.room and now_s - state.health.probed_at_s >= BREAKER_PROBE_S:
            state.health.probed_at_s = now_s
            return Choice(candidate.channel_id, candidate.rule_id, (*words, (candidate.channel_id, "probed")))
    if not usable:
        usable = sorted(broken, key=lambda pair: -pair[1].health.score)[:1]
    if not usable:
        return Choice(None, 0, tuple(words))
    best = usable[0][0].priority
    group = [pair for pair in usable if pair[0].priority == best and pair[1].room]
    if not group:
        return Choice(None, 0, (*words, *((c.channel_id, "busy") for c, _ in usable)))
    equals = [c for c, _ in usable if c.priority == best]
    picked = pick(equals, [c for c, _ in group], chance) if pick is not None and len(equals) > 1 else None
    if picked is not None and picked.candidate is None:
        return Choice(None, 0, (*words, *picked.words))
    chosen = _by_share(group, chance) if picked is None or picked.candidate is None else picked.candidate
    stood = picked.words if picked is not None else ()
    words += [
        (
            c.channel_id,
            "lower priority" if c.priority > best else dict(stood).get(c.channel_id, "shared by weight"),
        )
        for c, _ in usable
        if c is not chosen
    ]
    words += [(number, word) for number, word in stood if number == chosen.channel_id]
    return Choice(chosen.channel_id, chosen.rule_id, tuple(words))


def _up(state: State | None) -> bool:
    return state is not None and state.up


def _by_share(group: Sequence[tuple[Candidate, State]], chance: float) -> Candidate:
    if len(group) == 1:
        return group[0][0]
    shares = [candidate.weight * state.health.score for candidate, state in group]
    mark = chance * sum(shares)
    for (candidate, _), share in zip(group, shares, strict=True):
        mark -= share
        if mark < 0:
            return candidate
    return group[-1][0]


def trace(want: Want, choice: Choice, snapshot: Snapshot, attempt: int) -> Mapping[str, Any]:
    """Write down a choice in words; the same for all messages that were chosen for alike."""
    names = {channel.id: channel.name for channel in snapshot.channels.values()}
    return {
        "route": {
            "channel": names.get(choice.channel_id) if choice.channel_id is not None else None,
            "rule": choice.rule_id,
            "attempt": attempt,
            "for": {"country": want.country, "operator": want.operator, "purpose": want.purpose}
            | ({"province": want.province} if want.province else {}),
            "others": [
                {"channel": names.get(ChannelId(number), str(number)), "why": why}
                for number, why in choice.words
            ],
        }
    }
