"""A ward: what is remembered of the codes to one prefix, or to one country, of a tenant; and when that smells of pumping.

Pure: no clock, no database. Entry points: Ward.judge(), sent(), matured(); CURVE, for people. Two detectors watch it. The
credit window bounds the loss while codes mature: so many may be under way unverified, more as people verify, fewer as they
do not. The CUSUM (E. S. Page, 1954) tells from codes that have matured that fewer are verified than this ward is used to;
what it is used to is learnt, and never from codes under suspicion. A window that is full asks for a challenge, and
refuses only where a prefix's is tenfold full; an alarm asks for more; a prefix where challenges do not help is paused.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from hongyan.vocab.verification import Level

# ---- the CUSUM

P1: Final = 0.1  # of codes verified under attack
P0_MAX: Final = 0.7  # what an honest ward is at most held to
P0_MIN: Final = 0.2  # nearer to P1 nothing could be told apart
ALARM: Final = math.log(1e6)
MEMORY: Final = 2_000  # codes that a baseline is made of
PREFIX_SHRINK: Final = 20  # codes that a country's baseline counts for in its prefixes'
COUNTRY_SHRINK: Final = 50  # codes that P0_MAX counts for in a country's

# Codes that are verified mature within seconds, others after minutes: taken as they mature, the end of any rush would look like
# an attack. So they are taken by when they were sent, in spans, each once all of its codes have matured.
SPAN_S: Final = 15.0
SPAN_AGE_S: Final = 660.0  # the longest life of a code, and a minute: then it is taken as far as it is known
SPANS_MAX: Final = 64

# ---- the credit window

PREFIX_START: Final = 10.0
COUNTRY_START: Final = 60.0
GAIN: Final = 1.0  # of a code verified
LOSS: Final = (
    0.5  # of a message nobody made use of: the window grows only where more than a third are verified
)
PREFIX_FLOOR: Final = 1.0
COUNTRY_FLOOR: Final = 5.0
# A window that nobody needs does not grow: what has been honest for years must not be free to lose a year's money.
PREFIX_USE: Final = 8  # times what is under way
COUNTRY_USE: Final = 64
EASE: Final = 4  # times its start it grows without being asked
# Times the window: from here on a puzzle, and then, to a prefix, no more. Who solves so many puzzles and verifies nothing is
# no person.
PUZZLE: Final = 2
STOP: Final = 10
STOP_S: Final = 60.0

# ---- what follows

ALARM_S: Final = (
    600.0  # an alarm lasts at least: else every lull of an attack would open the doors to its next wave
)
PROVEN_CODES: Final = 20  # learnt of a prefix that an alarm of its country leaves alone
PAUSE_S: Final = 1_800.0
PROBE_GAP_S: Final = 60.0
PROBES_RIGHT: Final = 3  # verified, and the prefix is open again, challenged
PROBES_WRONG: Final = 5  # not verified, and it is paused anew


COUNTRY_CUSUM: Final = "pumping.country_cusum"


class Turn(IntEnum):
    """How far things have gone with a ward."""

    CLEAR = 0
    ALARMED = 1  # a prefix: a puzzle for everybody unknown; a country: proof of work
    PAUSED = (
        2  # a prefix: nothing is sent, then a probe a minute; a country: a puzzle. Challenges did not help
    )


class Finding(NamedTuple):
    """What a ward says of one more code."""

    level: Level
    reason: str = ""
    retry_after_s: float = 0.0


FINE: Final = Finding(Level.NOTHING)


class Ward(msgspec.Struct):
    """One prefix, one country (prefix "") or all (country "" too) of one tenant. Times are Unix seconds."""

    tenant_id: int
    country: str
    prefix: str
    credit: float = 0.0  # 0: not asked yet, so its start is not known
    outstanding: int = 0  # messages sent whose code has not matured
    evidence: float = 0.0
    codes: float = 0.0  # matured, as far as the baseline remembers
    verified: float = 0.0
    pending_codes: int = 0  # since evidence was last nought: learnt when it is again
    pending_verified: int = 0
    said: float | None = None  # a baseline that people have said
    spans: list[int] = msgspec.field(default_factory=list)  # of four: when, codes still open, verified, not
    turn: Turn = Turn.CLEAR
    turned_at_s: float = 0.0
    probe_at_s: float = 0.0  # when a paused prefix may be probed next
    probes_right: int = 0
    probes_wrong: int = 0
    budget_micro: int = 0  # as the rules last said; 0: none
    allowed: tuple[str, ...] = ()  # of all: prefixes that are let by
    stored: bool = False  # there is a row
    changed: bool = False

    @property
    def is_country(self) -> bool:
        return not self.prefix

    @property
    def is_proven(self) -> bool:
        """Tell whether a prefix has a record of its own, so that what goes wrong elsewhere in its country is not its fault."""
        return self.turn is Turn.CLEAR and self.codes >= PROVEN_CODES and self.evidence < ALARM / 2

    def judge(self, now_s: float) -> Finding:
        """Say what one more code costs here."""
        if self.is_country:
            return self._judge_country()
        if self.turn is Turn.PAUSED:
            wait_s = max(self.turned_at_s + PAUSE_S, self.probe_at_s) - now_s
            if wait_s > 0:
                return Finding(Level.REFUSE, "pumping.prefix_paused", wait_s)
            return Finding(Level.SLIDER, "pumping.prefix_probe")
        window = self._window("pumping.prefix_window")
        if self.turn is Turn.ALARMED and window.level < Level.REFUSE:
            return Finding(Level.SLIDER, "pumping.prefix_cusum")
        return window

    def _judge_country(self) -> Finding:
        window = self._window("pumping.country_window")
        if self.turn is Turn.CLEAR or window.level >= Level.SLIDER:
            return window
        return Finding(Level.SLIDER if self.turn is Turn.PAUSED else Level.WORK, COUNTRY_CUSUM)

    def _window(self, reason: str) -> Finding:
        used = (self.outstanding + 1) / max(self.credit, 1.0)
        if used <= 1:
            return FINE
        if used > STOP and not self.is_country:
            return Finding(Level.REFUSE, reason, STOP_S)
        return Finding(Level.WORK if used <= PUZZLE else Level.SLIDER, reason)

    def sent(self, now_s: float, *, again: bool = False) -> None:
        """Note that a message goes out; `again`: with a code that one went out with before."""
        self.changed = True
        self.outstanding += 1
        if self.turn is Turn.PAUSED:
            self.probe_at_s = now_s + PROBE_GAP_S
        if not again:
            place = self._span(now_s)
            if place is None:
                self.spans += [int(now_s // SPAN_S), 0, 0, 0]
                del self.spans[: -4 * SPANS_MAX]
                place = len(self.spans) - 4
            self.spans[place + 1] += 1

    def _span(self, sent_at_s: float) -> int | None:
        """Return where the span of a code begins, if it is still open."""
        if math.isinf(sent_at_s):
            return None
        when = int(sent_at_s // SPAN_S)
        return next((place for place in range(0, len(self.spans), 4) if self.spans[place] == when), None)

    def returned(self, sends: int, sent_at_s: float) -> None:
        """Learn nothing from a code: its message never left, or it says nothing here. Its place in the window is free."""
        self.changed = True
        self.outstanding = max(0, self.outstanding - sends)
        place = self._span(sent_at_s)
        if place is not None:
            self.spans[place + 1] -= 1

    def matured(self, verified: bool, sends: int, sent_at_s: float, baseline: float, now_s: float) -> None:
        """Learn what became of a code: it was verified, or ended without that. `sends`: messages that had it."""
        self.credited(verified, sends, sent_at_s)
        if self.turn is Turn.PAUSED and not self.is_country:
            if sent_at_s >= self.turned_at_s:
                self._probed(verified, now_s)
            return
        place = self._span(sent_at_s)
        if place is None:
            self._observe(sent_at_s, verified, not verified, baseline, now_s)
        else:
            self.spans[place + (2 if verified else 3)] += 1
        self._close(baseline, now_s)

    def _close(self, baseline: float, now_s: float) -> None:
        """Take the spans whose codes have all matured, and those that are too old to wait for."""
        still: list[int] = []
        for place in range(0, len(self.spans), 4):
            when, left, verified, others = self.spans[place : place + 4]
            if left > 0 and now_s < when * SPAN_S + SPAN_AGE_S:
                still += self.spans[place : place + 4]
            else:
                self._observe(when * SPAN_S, verified, others, baseline, now_s)
        self.spans = still

    def _observe(self, sent_at_s: float, verified: int, others: int, baseline: float, now_s: float) -> None:
        """Take codes that were sent together, those verified evenly among the others."""
        for number in range(verified + others):
            good = (number + 1) * verified // (verified + others) > number * verified // (verified + others)
            # Where it was sent before anybody was challenged, it says nothing of whether that helps.
            if self.turn is Turn.CLEAR or sent_at_s >= self.turned_at_s:
                self._weigh(good, baseline, now_s)

    def _weigh(self, verified: bool, baseline: float, now_s: float) -> None:
        self.evidence = max(0.0, self.evidence + step(verified, baseline))
        if self.turn is Turn.CLEAR:
            self._learn(verified)
        if self.evidence >= ALARM:
            self._turn(Turn.PAUSED if self.turn else Turn.ALARMED, now_s)
        elif self.evidence == 0 and self.turn is not Turn.CLEAR and now_s - self.turned_at_s >= ALARM_S:
            self._turn(Turn.CLEAR, now_s)

    def credited(self, verified: bool, sends: int, sent_at_s: float) -> None:
        """Move the window alone."""
        if not verified:
            floor = COUNTRY_FLOOR if self.is_country else PREFIX_FLOOR
            self.credit = max(floor, self.credit - LOSS * sends)
        elif self.outstanding * (COUNTRY_USE if self.is_country else PREFIX_USE) >= self.credit or (
            self.credit < EASE * (COUNTRY_START if self.is_country else PREFIX_START)
        ):
            self.credit += GAIN
        self.returned(sends, sent_at_s)

    def _probed(self, verified: bool, now_s: float) -> None:
        self.probes_right += verified
        self.probes_wrong += not verified
        if self.probes_right >= PROBES_RIGHT:
            self._turn(Turn.ALARMED, now_s)
        elif self.probes_wrong >= PROBES_WRONG:
            self._turn(Turn.PAUSED, now_s)

    def _turn(self, turn: Turn, now_s: float) -> None:
        """Go on to what follows. Halfway between clear and worse, so that either takes some codes to show."""
        self.turn, self.turned_at_s = turn, now_s
        self.evidence = ALARM / 2 if turn else 0.0
        self.probes_right = self.probes_wrong = self.pending_codes = self.pending_verified = 0

    def _learn(self, verified: bool) -> None:
        """Keep what is under suspicion apart: an attack must not teach that few verify."""
        self.pending_codes += 1
        self.pending_verified += verified
        if self.evidence > 0:
            return
        self.codes += self.pending_codes
        self.verified += self.pending_verified
        self.pending_codes = self.pending_verified = 0
        if self.codes > MEMORY:
            self.verified *= MEMORY / self.codes
            self.codes = MEMORY

    def release(self, baseline: float | None, now_s: float) -> None:
        """Open it again because people say so; `baseline`: how many of a hundred are verified here honestly."""
        self.changed = True
        self._turn(Turn.CLEAR, now_s)
        self.credit = max(self.credit, COUNTRY_START if self.is_country else PREFIX_START)
        if baseline is not None:
            self.said = baseline

    def baseline(self, parent: float = P0_MAX) -> float:
        """Return the share of codes that is verified when all is well: as it was learnt, and a standard error more.

        A ward of 70 in 100 whose record happens to say 68 would else be alarmed later than one that was never heard of.
        """
        if self.said is not None:
            return min(max(self.said, P0_MIN), P0_MAX)
        weight = COUNTRY_SHRINK if self.is_country else PREFIX_SHRINK
        codes = self.codes + weight
        learnt = min((self.verified + weight * parent) / codes, 1.0)
        return min(max(learnt + math.sqrt(learnt * (1 - learnt) / codes), P0_MIN), P0_MAX)


def step(verified: bool, p0: float) -> float:
    """Return what one matured code adds to the evidence."""
    return math.log(P1 / p0) if verified else math.log((1 - P1) / (1 - p0))


class CurvePoint(msgspec.Struct, frozen=True):
    """How the CUSUM does where so many are verified: how often it alarms within 3,000 codes, and after how many."""

    conversion: float
    alarmed: float
    codes_median: int | None  # of those that alarm; none where hardly any does


# Measured with 20,000 runs each of the detector at P0_MAX, and guarded by a test.
CURVE: Final[Sequence[CurvePoint]] = (
    CurvePoint(0.0, 1.0, 13),
    CurvePoint(0.05, 1.0, 13),
    CurvePoint(0.1, 1.0, 16),
    CurvePoint(0.2, 1.0, 24),
    CurvePoint(0.3, 1.0, 44),
    CurvePoint(0.4, 1.0, 144),
    CurvePoint(0.5, 0.77, 1_008),
    CurvePoint(0.6, 0.05, 1_457),
    CurvePoint(0.7, 0.001, None),
)
