"""The guard against SMS pumping: who asks for a code may be challenged or refused, by where it would go and what it costs.

Writes: ward, code_spend. Entry points: Rules, a tenant's settings; Wards, the rows that one batch of asks needs, held
until its commit; matured(), for codes that ended; forget(). What people do with wards is in wards.py. A prefix is E.164
without its last four digits. Surprises: nothing is remembered of a prefix that nothing was sent to, so that whoever makes
numbers up fills no table; every batch of a tenant holds the tenant's row, so batches follow each other and never lose
each other's counts.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final, LiteralString

import msgspec
import structlog
from msgspec import Meta

from hongyan import clock, db
from hongyan.otp import meter, withheld
from hongyan.otp.meter import Strictness
from hongyan.otp.ward import COUNTRY_CUSUM, COUNTRY_START, FINE, PREFIX_START, Finding, Turn, Ward
from hongyan.otp.withheld import Action, Cell, Cells
from hongyan.vocab.verification import Level

log = structlog.get_logger()

NOWHERE: Final = "ZZ"  # ISO 3166 leaves it to users: a country nobody could tell
ALLOWED_MAX: Final = 100
LOGGED_MAX: Final = 20  # lines of one batch

Country = Annotated[str, Meta(pattern="^[A-Z]{2}$")]
Prefix = Annotated[
    str, Meta(min_length=3, max_length=15, pattern=r"^\+[1-9][0-9]+$", description="E.164 begins with it")
]
Micro = Annotated[int, Meta(ge=0, le=10**15)]


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant's settings of the guard. Money is in millionths of its currency, of any 24 hours; 0: no budget."""

    monitor: Annotated[
        bool, Meta(description="Only count what would be challenged or refused; budgets hold all the same.")
    ] = False
    window_prefix: Annotated[
        int, Meta(ge=1, le=1_000, description="Messages under way unverified, before a prefix is known")
    ] = int(PREFIX_START)
    window_country: Annotated[int, Meta(ge=5, le=100_000, description="The same of a country")] = int(
        COUNTRY_START
    )
    allow_prefixes: Annotated[
        tuple[Prefix, ...], Meta(max_length=ALLOWED_MAX, description="Numbers that begin so are let by")
    ] = ()
    countries: Annotated[
        tuple[Country, ...], Meta(max_length=250, description="Codes go nowhere else; empty: everywhere")
    ] = ()
    budget_day_micro: Micro = 0
    budgets: Annotated[dict[Country, Micro], Meta(max_length=250, description="The same by country")] = {}


class Ask(msgspec.Struct, frozen=True):
    """One code asked for, or asked for again."""

    tenant_id: int
    app_id: int
    country: str
    prefix: str
    known: bool  # the device verified before: it is let by
    digits_max: int = 10  # of a code, by the template
    again: bool = False  # the same code once more


class Judgement(msgspec.Struct, frozen=True):
    """What an ask costs, and why; the first reason decided. Reasons at level NOTHING: the tenant only monitors."""

    level: Level
    reasons: tuple[str, ...] = ()
    retry_after_s: float = 0.0


class Ended(msgspec.Struct, frozen=True):
    """A code that ended, one way or another."""

    tenant_id: int
    country: str
    prefix: str
    verified: bool
    wrong_guesses: int
    guess_space: float
    app_id: int = 0
    sends: int = 1  # messages that had it
    sent_at_s: float = math.inf  # when it was asked for; unknown: it counts as sent after every challenge
    challenged: bool = False  # a challenge was passed before
    failed: bool = False  # its message never left, so nobody had it


Key = tuple[int, str, str]  # tenant, country, prefix
_FINE: Final = Judgement(Level.NOTHING)


class Wards:
    """What one batch of asks needs to know, held until its commit. judge() and then sent() or blocked(), ask by ask."""

    def __init__(
        self,
        wards: dict[Key, Ward],
        spends: Mapping[tuple[int, str], Mapping[int, int]],
        hits: Mapping[int, float],
        now_s: float,
    ) -> None:
        self._wards = wards
        self._spends = {key: dict(spend) for key, spend in spends.items()}  # by hour
        self._hits = hits
        self._now_s = now_s
        self._spent: defaultdict[tuple[int, str], int] = defaultdict(int)  # by this batch
        self._cells = Cells()
        self._judged: tuple[Ask, Judgement] | None = None

    @classmethod
    async def lock(cls, tx: db.Tx, asks: Sequence[Ask], now_s: float) -> "Wards":
        """Hold what these asks are about. Two statements."""
        return await cls.hold(tx, map(_key, asks), now_s)

    @classmethod
    async def hold(cls, tx: db.Tx, keys: Iterable[Key], now_s: float) -> "Wards":
        """Hold wards, and with each its country's and its tenant's; what nothing was sent to is not made."""
        prefixes = set(keys)
        parents = sorted({(tenant_id, "", "") for tenant_id, _, _ in prefixes}
                         | {(tenant_id, country, "") for tenant_id, country, _ in prefixes})  # fmt: skip
        every = sorted(prefixes.union(parents))
        hour = meter.hour_of(now_s)
        await tx.execute(HOLD_SQL, [key[0] for key in parents], [key[1] for key in parents], day_of(now_s))
        rows = await tx.fetch(
            READ_SQL, [key[0] for key in every], [key[1] for key in every], [key[2] for key in every],
            hour - meter.HOURS, hour,
        )  # fmt: skip
        wards = {(row["tenant_id"], row["country"], row["prefix"]): read(row) for row in rows}
        spends = {
            (row["tenant_id"], row["country"]): dict(row["spends"] or ()) for row in rows if not row["prefix"]
        }
        hits = {row["tenant_id"]: row["hits"] for row in rows if not row["country"]}
        return cls(wards, spends, hits, now_s)

    # ---- asking

    def judge(self, ask: Ask, rules: Rules, price_micro: int, now_s: float) -> Judgement:
        """Say what an ask costs. Changes nothing but the settings that alarms look at."""
        closed = self._closed(ask, rules, price_micro, now_s)
        if closed.level is Level.NOTHING:
            let_by = ask.known or self._is_allowed(ask, rules)
            closed = self._let_by(ask) if let_by else self._suspected(ask, rules, now_s)
        self._judged = (ask, closed)
        return closed

    def _closed(self, ask: Ask, rules: Rules, price_micro: int, now_s: float) -> Judgement:
        if rules.countries and ask.country not in rules.countries:
            return Judgement(Level.REFUSE, ("country.closed",))
        for country, budget, reason in (
            ("", rules.budget_day_micro, "budget.tenant"),
            (ask.country or NOWHERE, rules.budgets.get(ask.country, 0), "budget.country"),
        ):
            ward = self.ward(ask.tenant_id, country)
            if ward.budget_micro != budget:
                ward.budget_micro, ward.changed = budget, True
            since = meter.hour_of(now_s) - meter.HOURS
            spend = {
                hour: micro
                for hour, micro in self._spends.get((ask.tenant_id, country), {}).items()
                if hour > since
            }
            if budget and sum(spend.values()) + price_micro > budget:
                return Judgement(Level.REFUSE, (reason,), _room_in_s(spend, budget - price_micro, now_s))
        return _FINE

    def _is_allowed(self, ask: Ask, rules: Rules) -> bool:
        allowed = self.ward(ask.tenant_id).allowed
        return any(ask.prefix.startswith(prefix) for prefix in (*rules.allow_prefixes, *allowed))

    def _suspected(self, ask: Ask, rules: Rules, now_s: float) -> Judgement:
        prefix, country = self._ward_of(ask), self.ward(ask.tenant_id, ask.country or NOWHERE)
        prefix.credit = prefix.credit or float(rules.window_prefix)
        country.credit = country.credit or float(rules.window_country)
        pumped = [finding for finding in (prefix.judge(now_s), country.judge(now_s)) if finding.level]
        if prefix.is_proven:
            pumped = [finding for finding in pumped if finding.reason != COUNTRY_CUSUM]
        guessed = self._guessed(ask)
        if rules.monitor and pumped and not guessed.level:
            return Judgement(Level.NOTHING, tuple(finding.reason for finding in _sorted(pumped)))
        found = _sorted([*(() if rules.monitor else pumped), *((guessed,) if guessed.level else ())])
        if not found:
            return _FINE
        return Judgement(found[0].level, tuple(each.reason for each in found), found[0].retry_after_s)

    def _let_by(self, ask: Ask) -> Judgement:
        """Even these are asked while codes are guessed at: check() then compares none that was had without a challenge."""
        strict = self.strictness(ask.tenant_id) is Strictness.STRICT
        return Judgement(Level.WORK, ("meter",)) if strict else _FINE

    def _guessed(self, ask: Ask) -> Finding:
        strict = self.strictness(ask.tenant_id)
        short = strict is Strictness.LONGER and ask.digits_max < meter.DIGITS_LONGER
        return Finding(Level.WORK, "meter") if strict is Strictness.STRICT or short else FINE

    def strictness(self, tenant_id: int) -> Strictness:
        """Tell how careful this tenant's codes are to be made and checked."""
        return meter.strictness(self._hits.get(tenant_id, 0.0))

    def digits_wanted(self, ask: Ask, digits: int, now_s: float) -> int:  # noqa: ARG002 - the hits are of lock()'s moment
        """Return how many digits the code should have: more where guessing begins to pay and the template takes them."""
        return min(
            meter.digits_wanted(self._hits.get(ask.tenant_id, 0.0), digits), max(digits, ask.digits_max)
        )

    def tries_wanted(self, ask: Ask, tries: int, digits: int) -> int:
        """Return how many tries a code of so many digits should have: fewer where it could not be longer."""
        return meter.tries_wanted(self._hits.get(ask.tenant_id, 0.0), tries, digits)

    # ---- what was done

    def sent(self, ask: Ask, price_micro: int, now_s: float) -> None:
        """Note that a message goes out for an ask."""
        for ward in (self._ward_of(ask), self.ward(ask.tenant_id, ask.country or NOWHERE)):
            ward.credit = ward.credit or (COUNTRY_START if ward.is_country else PREFIX_START)
            ward.sent(now_s, again=ask.again)
        hour = meter.hour_of(now_s)
        for country in ("", ask.country or NOWHERE):
            spend = self._spends.setdefault((ask.tenant_id, country), {})
            spend[hour] = spend.get(hour, 0) + price_micro
            self._spent[ask.tenant_id, country] += price_micro
        judgement = self._own(ask)
        if judgement.reasons:
            self._count(ask, judgement, Action.PASSED if judgement.level else Action.MONITORED, price_micro)

    def blocked(self, ask: Ask, judgement: Judgement, price_micro: int, now_s: float) -> None:  # noqa: ARG002
        """Note that an ask was challenged or refused, and what it would have cost; not where only others asked for it."""
        own = self._own(ask)
        if own.level:
            refused = judgement.level is Level.REFUSE
            self._count(ask, own, Action.REFUSED if refused else Action.CHALLENGED, price_micro)

    def _own(self, ask: Ask) -> Judgement:
        """Return what judge() said of an ask just now."""
        judged = self._judged
        return judged[1] if judged is not None and _key(judged[0]) == _key(ask) else _FINE

    def _count(self, ask: Ask, judgement: Judgement, action: Action, cost_micro: int) -> None:
        country = ask.country or NOWHERE
        named = self._wards.get((ask.tenant_id, country, ask.prefix))
        prefix = ask.prefix if named is not None and (named.stored or named.changed) else ""
        reason = judgement.reasons[0] if judgement.reasons else ""
        self._cells.add(Cell(ask.tenant_id, ask.app_id, country, prefix, reason, action), cost_micro)

    # ---- what became of codes

    def mature(self, ended: Ended, now_s: float) -> None:
        """Learn from a code that ended."""
        country = self.ward(ended.tenant_id, ended.country or NOWHERE)
        prefix = self.ward(ended.tenant_id, ended.country or NOWHERE, ended.prefix)
        if not (prefix.stored or prefix.changed):
            return  # it was forgotten long ago, or nothing was ever sent
        for ward, baseline in ((prefix, prefix.baseline(country.baseline())), (country, country.baseline())):
            before = ward.turn
            if ended.failed:
                ward.returned(ended.sends, ended.sent_at_s)
            elif ward is country and ward.turn and prefix.is_proven:
                # Nobody was challenged there, so it says nothing of whether that helps.
                ward.credited(ended.verified, ended.sends, ended.sent_at_s)
            else:
                ward.matured(ended.verified, ended.sends, ended.sent_at_s, baseline, now_s)
            if ward.turn is not before:
                log.warning("pumping.turned", tenant=ward.tenant_id, country=ward.country, prefix=ward.prefix,
                            turn=ward.turn.name.lower(), before=before.name.lower())  # fmt: skip
        if ended.challenged and ended.verified:
            cell = Cell(ended.tenant_id, ended.app_id, country.country, ended.prefix, "", Action.HONEST)
            self._cells.add(cell, 0)

    # ---- keeping

    def ward(self, tenant_id: int, country: str = "", prefix: str = "") -> Ward:
        key = (tenant_id, country, prefix)
        ward = self._wards.get(key)
        if ward is None:
            ward = self._wards[key] = Ward(*key)
        return ward

    def _ward_of(self, ask: Ask) -> Ward:
        return self.ward(ask.tenant_id, ask.country or NOWHERE, ask.prefix)

    async def store(self, tx: db.Tx) -> None:
        """Write what was changed. Two statements at most."""
        changed = [self._wards[key] for key in sorted(self._wards) if self._wards[key].changed]
        if changed or self._spent:
            spent = sorted(self._spent)
            await tx.execute(
                STORE_SQL, day_of(self._now_s), *_columns(changed),
                [key[0] for key in spent], [key[1] for key in spent], [self._spent[key] for key in spent],
                meter.hour_of(self._now_s),
                ["{" + ",".join(map(str, ward.spans)) + "}" for ward in changed],  # arrays of an array have one length
            )  # fmt: skip
        await withheld.store(tx, self._cells, clock.moment(meter.hour_of(self._now_s) * 3_600.0))
        told: defaultdict[tuple[int, str, str, str], int] = defaultdict(int)
        for cell, asks in self._cells.asks.items():
            if cell.reason:
                told[cell.tenant_id, cell.country, cell.reason, cell.action.value] += asks
        for (tenant_id, country, reason, action), asks in list(told.items())[:LOGGED_MAX]:
            log.info(
                "pumping.withheld", tenant=tenant_id, country=country, reason=reason, action=action, asks=asks
            )


# An UPDATE whose WHERE is false still takes the row's lock. The next statement has a snapshot of its own, and so sees what
# whoever held the lock before has written.
HOLD_SQL: LiteralString = """
INSERT INTO ward (tenant_id, country, prefix, touched_on)
SELECT tenant_id, country, '', $3 FROM unnest($1::int[], $2::text[]) n(tenant_id, country) ORDER BY tenant_id, country
ON CONFLICT (tenant_id, country, prefix) DO UPDATE SET touched_on = ward.touched_on WHERE false
"""
COLUMNS_SQL: LiteralString = """
SELECT w.tenant_id, w.country, w.prefix, w.credit, w.outstanding, w.evidence, w.codes, w.verified, w.pending_codes,
       w.pending_verified, w.said, w.spans, w.turn, w.turned_at_s, w.probe_at_s, w.probes_right, w.probes_wrong, w.budget_micro,
       w.allowed
"""
READ_SQL: LiteralString = (
    COLUMNS_SQL
    + """
       , CASE WHEN w.prefix = '' THEN (
           SELECT array_agg(ARRAY[s.hour, s.micro]) FROM code_spend s
            WHERE s.tenant_id = w.tenant_id AND s.country = w.country AND s.hour > $4 AND s.hour <= $5) END AS spends
       , CASE WHEN w.country = '' THEN (
           SELECT greatest(0, coalesce(sum(m.hits), 0)) FROM guess_meter m
            WHERE m.tenant_id = w.tenant_id AND m.hour > $4 AND m.hour <= $5) END AS hits
  FROM unnest($1::int[], $2::text[], $3::text[]) n(tenant_id, country, prefix) JOIN ward w USING (tenant_id, country, prefix)
"""
)
STORE_SQL: LiteralString = """
WITH kept AS (
    INSERT INTO ward (tenant_id, country, prefix, credit, outstanding, evidence, codes, verified, pending_codes,
                      pending_verified, said, turn, turned_at_s, probe_at_s, probes_right, probes_wrong, budget_micro,
                      spans, touched_on)
    SELECT n.tenant_id, n.country, n.prefix, n.credit, n.outstanding, n.evidence, n.codes, n.verified, n.pending_codes,
           n.pending_verified, n.said, n.turn, n.turned_at_s, n.probe_at_s, n.probes_right, n.probes_wrong, n.budget_micro,
           n.spans::int[], $1
      FROM unnest($2::int[], $3::text[], $4::text[], $5::float8[], $6::int[], $7::float8[], $8::float8[],
                               $9::float8[], $10::int[], $11::int[], $12::float8[], $13::smallint[], $14::float8[],
                               $15::float8[], $16::smallint[], $17::smallint[], $18::bigint[], $23::text[])
           n(tenant_id, country, prefix, credit, outstanding, evidence, codes, verified, pending_codes, pending_verified,
             said, turn, turned_at_s, probe_at_s, probes_right, probes_wrong, budget_micro, spans)
    ON CONFLICT (tenant_id, country, prefix) DO UPDATE
       SET credit = EXCLUDED.credit, outstanding = EXCLUDED.outstanding, evidence = EXCLUDED.evidence,
           codes = EXCLUDED.codes, verified = EXCLUDED.verified, pending_codes = EXCLUDED.pending_codes,
           pending_verified = EXCLUDED.pending_verified, said = EXCLUDED.said, turn = EXCLUDED.turn,
           turned_at_s = EXCLUDED.turned_at_s, probe_at_s = EXCLUDED.probe_at_s, probes_right = EXCLUDED.probes_right,
           probes_wrong = EXCLUDED.probes_wrong, budget_micro = EXCLUDED.budget_micro, spans = EXCLUDED.spans,
           touched_on = EXCLUDED.touched_on
)
INSERT INTO code_spend AS s (tenant_id, country, hour, micro)
SELECT tenant_id, country, $22, micro FROM unnest($19::int[], $20::text[], $21::bigint[]) n(tenant_id, country, micro)
ON CONFLICT (tenant_id, country, hour) DO UPDATE SET micro = s.micro + EXCLUDED.micro
"""


def _columns(wards: Sequence[Ward]) -> tuple[list[Any], ...]:
    return tuple([getattr(ward, name) for ward in wards] for name in _STORED)


_STORED: Final = (
    "tenant_id", "country", "prefix", "credit", "outstanding", "evidence", "codes", "verified", "pending_codes",
    "pending_verified", "said", "turn", "turned_at_s", "probe_at_s", "probes_right", "probes_wrong", "budget_micro",
)  # fmt: skip


def read(row: db.Row) -> Ward:
    """Read a ward from COLUMNS_SQL."""
    values = {name: row[name] for name in _STORED}
    return Ward(
        **{**values, "turn": Turn(row["turn"])},
        spans=list(row["spans"]),
        allowed=tuple(row["allowed"]),
        stored=True,
    )


def _key(ask: Ask) -> Key:
    return (ask.tenant_id, ask.country or NOWHERE, ask.prefix)


def _sorted(findings: Iterable[Finding]) -> Sequence[Finding]:
    return sorted(findings, key=lambda finding: (-finding.level, -finding.retry_after_s))


def _room_in_s(spend: Mapping[int, int], room_micro: int, now_s: float) -> float:
    """Return in how long enough of the last day's spending is so long ago that the budget has room again."""
    left = sum(spend.values())
    for hour in sorted(spend):
        left -= spend[hour]
        if left <= room_micro:
            return (hour + meter.HOURS) * 3_600.0 - now_s
    return 86_400.0


def day_of(now_s: float) -> date:
    moment: datetime = clock.moment(now_s)
    return moment.date()


async def matured(tx: db.Tx, ended: Sequence[Ended], now_s: float) -> None:
    """Learn from codes that ended: credit comes back, evidence moves, slips are taken off the meter."""
    if not ended:
        return
    wards = await Wards.hold(
        tx, ((each.tenant_id, each.country or NOWHERE, each.prefix) for each in ended), now_s
    )
    slips: defaultdict[int, float] = defaultdict(float)
    for each in ended:
        wards.mature(each, now_s)
        if each.verified and each.wrong_guesses:
            slips[each.tenant_id] += each.wrong_guesses / each.guess_space
    await wards.store(tx)
    await meter.forgiven(tx, slips, now_s)


FORGET_SQL: LiteralString = """
DELETE FROM code_spend s USING (SELECT tenant_id, country, hour FROM code_spend WHERE hour < $1 ORDER BY hour LIMIT $2) old
 WHERE s.tenant_id = old.tenant_id AND s.country = old.country AND s.hour = old.hour RETURNING 1
"""


async def forget(tx: db.Tx, now_s: float, rows_max: int) -> int:
    """Forget spending that no budget looks at; returns how many rows."""
    return len(await tx.fetch(FORGET_SQL, meter.hour_of(now_s) - meter.HOURS, rows_max))
