"""What a document would change: applied in a transaction that is rolled back, and asked of the messages of a day.

Writes nothing. Entry point: rehearse(). The plane's own functions are asked over two snapshots, the one in force and the one
the document makes: whether there is a way, which channel comes first, what a part costs, what the word lists say of texts.
It takes REHEARSAL_S at most after the document is applied, and says how much of the day it saw: the hours are taken in an
order that spreads over the day. Surprises: channels of which no gateway has told lately, new ones above all, count as up;
prices are told by the rows in force now, not by what was charged. Sandbox messages are left out.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, LiteralString, cast
from zoneinfo import ZoneInfo

import msgspec

from hongyan import clock, db
from hongyan.control.configuration import applying, versions
from hongyan.control.configuration.applying import NO_IDS
from hongyan.control.configuration.difference import ConfigurationChange
from hongyan.control.configuration.document import ConfigurationDocument
from hongyan.control.configuration.versions import Ids
from hongyan.settings import Settings
from hongyan.vault import Vault, VaultError
from hongyan.vocab.message import PURPOSES, ChannelId, Purpose, TenantId, first_id_at
from hongyan.vocab.words import Level
from hongyan.way import route, snapshot, state
from hongyan.way.snapshot import Snapshot

REHEARSAL_S: Final = 10.0
ZONE: Final = "Asia/Shanghai"
HOURS: Final = tuple(hour * 7 % 24 for hour in range(24))  # 7 and 24 have no factor in common: each hour once
GROUPS_MAX: Final = 50_000
GROUPS_SHOWN: Final = 200
TEXTS_MAX: Final = 5_000
TEXT_TENANTS_MAX: Final = 200  # those that sent most
SAMPLES: Final = 100  # of chance, evenly spread


class Fate(msgspec.Struct, frozen=True):
    """What becomes of a group of messages: no way, and why; or the shares of the channels that come first."""

    no_way: str  # '', or route, filing, price, country
    channels: Mapping[str, float] = {}
    closed: Sequence[str] = ()  # channels the rules allow that want the signature filed first


class GroupFate(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that are alike in all that a route asks, and what would change for them."""

    tenant: str
    country: str
    operator: str
    purpose: Purpose
    signature: str
    template: str
    messages: int
    parts: int
    before: Fate
    after: Fate
    part_before_micro: int | None
    part_after_micro: int | None
    currency: str  # the tenant's


class PriceDifference(msgspec.Struct, frozen=True):
    """What the day's messages cost their tenants by the prices before and after, of one currency."""

    currency: str
    before_micro: int
    after_micro: int


class ListHits(msgspec.Struct, frozen=True):
    """How many texts of the sample a list speaks of."""

    list: str
    tenant: str | None
    level: Level
    before: int
    after: int


class WordsTried(msgspec.Struct, frozen=True):
    """What the words would say of a sample of texts. `stopped`: blocked or held where they passed; `freed`: the reverse."""

    texts: int
    stopped: int
    freed: int
    lists: Sequence[ListHits]
    cut: bool


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What a document would change. Message counts are of the hours that were seen."""

    version: int  # in force
    changes: Sequence[ConfigurationChange]
    day: date
    zone: str
    hours: int  # of 24, that were seen
    cut: bool  # time was up before all was seen
    messages: int
    parts: int
    rerouted: int  # messages whose first choice of a channel is another one
    vanishing: int  # that have a way now and would have none
    appearing: int  # the reverse
    unfiled: int  # that a channel would turn away until their signature is filed
    prices: Sequence[PriceDifference]
    groups: Sequence[GroupFate]  # for which something changes, the biggest first
    groups_left_out: int
    words: WordsTried | None  # null where no words change
    assumed_up: Sequence[str]  # channels of which no gateway has told lately


async def rehearse(
    database: db.Database,
    vault: Vault,
    settings: Settings,
    asked: ConfigurationDocument,
    *,
    who: str,
    day: date | None = None,
    ids: Ids = NO_IDS,
) -> Rehearsal:
    """Say what a document would change for the messages of a day (yesterday, in China). Raises Refusal as apply() does."""
    version, changes, before, after = await _both(database, vault, settings, asked, who, ids)
    deadline_s = time.monotonic() + REHEARSAL_S
    day = day or clock.now().astimezone(ZoneInfo(ZONE)).date() - timedelta(days=1)
    bounds = _hours(day)
    counts, hours = await _count(database, list(before.tenants), bounds, deadline_s)
    async with database.transaction() as tx:
        told = await state.every(tx)
    compared, seen_all = await asyncio.to_thread(_compare, before, after, told, counts, deadline_s)
    tried = None
    if any(change.section == "words" for change in changes) or before.channels.keys() - after.channels.keys():
        tried = await _try_words(database, vault, (before, after), counts, bounds, deadline_s)
    cut = hours < len(HOURS) or not seen_all or (tried is not None and tried.cut)
    return Rehearsal(
        version=version, changes=changes, day=day, zone=ZONE, hours=hours, cut=cut, words=tried, **compared
    )


class _UndoneError(Exception):
    """Nothing is to be kept."""


async def _both(
    database: db.Database, vault: Vault, settings: Settings, asked: ConfigurationDocument, who: str, ids: Ids
) -> tuple[int, Sequence[ConfigurationChange], Snapshot, Snapshot]:
    """Return the version in force, what would change, and the snapshots before and after."""
    try:
        async with database.transaction() as tx:
            version = await versions.latest(tx)
            was = await snapshot.read_once(tx)
            applied = await applying.apply(tx, vault, settings, asked, who=who, ids=ids)
            would_be = await snapshot.read_once(tx)
            raise _UndoneError  # noqa: TRY301 - it ends the transaction
    except _UndoneError:
        pass
    before = await snapshot.build_once(was, vault)
    kept = applied.changes and any(change.section in ("words", "channels") for change in applied.changes)
    after = await snapshot.build_once(would_be, vault, None if kept else before.words)
    return version, applied.changes, before, after


# ---- the messages of a day


def _hours(day: date) -> Sequence[tuple[Any, Any]]:
    """Return the first ids of each hour and of the next one, in the order they are taken."""
    midnight_s = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(ZONE)).timestamp()
    return [
        (first_id_at(midnight_s + 3_600 * hour), first_id_at(midnight_s + 3_600 * (hour + 1)))
        for hour in HOURS
    ]


Group = tuple[int, str, str, int, int, int]  # tenant, country, operator, purpose, signature, template

# One range of the primary key for each tenant: no index knows the hour alone.
COUNT_SQL: LiteralString = """
SELECT m.tenant_id, m.country, m.operator, m.purpose, m.signature_id, m.template_id, count(*) AS messages,
       sum(m.part_count)::bigint AS parts
  FROM unnest($1::int[]) AS t(id) CROSS JOIN LATERAL (
       SELECT tenant_id, country, operator, purpose, signature_id, template_id, part_count
         FROM message WHERE tenant_id = t.id AND id >= $2 AND id < $3 AND NOT sandbox OFFSET 0) m
 GROUP BY 1, 2, 3, 4, 5, 6
"""


async def _count(
    database: db.Database, tenant_ids: Sequence[int], bounds: Sequence[tuple[Any, Any]], deadline_s: float
) -> tuple[Mapping[Group, tuple[int, int]], int]:
    """Return messages and parts by group, and how many hours were counted before time was up."""
    counts: dict[Group, tuple[int, int]] = {}
    for hours, (low, high) in enumerate(bounds):
        left_s = (deadline_s - time.monotonic()) - REHEARSAL_S / 3  # the rest is for what follows
        if left_s <= 0 or len(counts) > GROUPS_MAX:
            return counts, hours
        try:
            async with database.transaction() as tx:
                rows = await tx.fetch(COUNT_SQL, tenant_ids, low, high, timeout=left_s)
        except TimeoutError:
            return counts, hours
        for *fields, messages, parts in rows:
            group = cast("Group", tuple(fields))
            known = counts.get(group, (0, 0))
            counts[group] = known[0] + messages, known[1] + parts
    return counts, len(bounds)


# ---- routes and prices


def _compare(
    before: Snapshot,
    after: Snapshot,
    told: Mapping[ChannelId, Sequence[state.AtGateway]],
    counts: Mapping[Group, tuple[int, int]],
    deadline_s: float,
) -> tuple[dict[str, Any], bool]:
    """Ask both snapshots about every group. Returns the fields of the answer, and whether all groups were asked."""
    pictures = _Picture(before, told), _Picture(after, told)
    totals: Counter[str] = Counter()
    costs: dict[str, list[int]] = {}
    found: list[GroupFate] = []
    seen_all = True
    for group, (messages, parts) in sorted(counts.items(), key=lambda pair: -pair[1][0]):
        if time.monotonic() > deadline_s:
            seen_all = False
            break
        fate = _fate_of(group, messages, parts, pictures)
        totals.update(messages=messages, parts=parts)
        totals.update(dict.fromkeys(_verdicts(fate), messages))
        cost = costs.setdefault(before.tenants[TenantId(group[0])].currency, [0, 0])
        cost[0] += (fate.part_before_micro or 0) * parts
        cost[1] += (fate.part_after_micro or 0) * parts
        if fate.before != fate.after or fate.part_before_micro != fate.part_after_micro:
            found.append(fate)
    names = {row.name for picture in pictures for row in picture.assumed.values()}
    return {
        **{name: totals[name] for name in ("messages", "parts", *_VERDICTS)},
        "prices": [PriceDifference(currency, *cost) for currency, cost in sorted(costs.items())],
        "groups": found[:GROUPS_SHOWN],
        "groups_left_out": max(0, len(found) - GROUPS_SHOWN),
        "assumed_up": sorted(names),
    }, seen_all


_VERDICTS: Final = ("rerouted", "vanishing", "appearing", "unfiled")


def _verdicts(fate: GroupFate) -> Iterator[str]:
    """Say which counts a group belongs to."""
    before, after = fate.before, fate.after
    if after.no_way and not before.no_way:
        yield "vanishing"
    elif before.no_way and not after.no_way:
        yield "appearing"
    elif _first(before) != _first(after):
        yield "rerouted"
    if set(after.closed) - set(before.closed):
        yield "unfiled"


def _first(fate: Fate) -> str:
    return max(fate.channels, key=lambda name: fate.channels[name], default="")


def _fate_of(group: Group, messages: int, parts: int, pictures: tuple["_Picture", "_Picture"]) -> GroupFate:
    tenant_id, country, operator, purpose, signature_id, template_id = group
    want = route.Want(TenantId(tenant_id), country, operator, PURPOSES[purpose], False, signature_id)
    (before, old), (after, new) = (picture.fate(want) for picture in pictures)
    seen = pictures[0].snapshot
    signature, template = seen.signatures.get(signature_id), seen.templates.get(template_id)
    return GroupFate(
        tenant=seen.tenants[want.tenant_id].name,
        country=country,
        operator=operator,
        purpose=want.purpose,
        signature=signature.name if signature is not None else "",
        template=template.code if template is not None else "",
        messages=messages,
        parts=parts,
        before=before,
        after=after,
        part_before_micro=old,
        part_after_micro=new,
        currency=seen.tenants[want.tenant_id].currency,
    )


class _Picture:
    """One snapshot, and what it was asked already."""

    def __init__(self, seen: Snapshot, told: Mapping[ChannelId, Sequence[state.AtGateway]]) -> None:
        self.snapshot = seen
        fresh = {number: [one for one in rows if not one.stale] for number, rows in told.items()}
        self._told = {number: rows for number, rows in fresh.items() if rows}
        self.assumed = {number: row for number, row in seen.channels.items() if number not in self._told}
        self._found: dict[route.Want, tuple[Fate, int | None]] = {}

    def fate(self, want: route.Want) -> tuple[Fate, int | None]:
        """Return what becomes of messages, and what a part of theirs costs."""
        if not self.snapshot.demands_filing:
            want = msgspec.structs.replace(want, signature_id=0)
        if want not in self._found:
            self._found[want] = self._ask(want)
        return self._found[want]

    def _ask(self, want: route.Want) -> tuple[Fate, int | None]:
        seen = self.snapshot
        price = seen.part_price_micro(want.tenant_id, want.country, want.operator, want.purpose)
        names = {number: row.name for number, row in seen.channels.items()}
        closed = sorted(names[number] for number in route.not_filed(want, seen))
        ranking = route.candidates(want, seen)
        countries = seen.tenants[want.tenant_id].countries
        no_way = ""
        if "*" not in countries and want.country not in countries:
            no_way = "country"
        elif price is None:
            no_way = "price"
        elif not ranking:
            no_way = "filing" if closed else "route"
        shares = self._shares(ranking, want) if not no_way else {}
        return Fate(no_way, {names[number]: share for number, share in shares.items()}, closed), price

    def _shares(self, ranking: Sequence[route.Candidate], want: route.Want) -> Mapping[ChannelId, float]:
        """Return how often each channel would be the first choice; those of no gateway count as up, and all have room."""
        states = {one.channel_id: self._state(one.channel_id, want) for one in ranking}
        chosen: Counter[ChannelId] = Counter()
        samples = SAMPLES if len(ranking) > 1 else 1
        for sample in range(samples):
            choice = route.choose(ranking, states, (sample + 0.5) / samples, time.monotonic())
            if choice.channel_id is not None:
                chosen[choice.channel_id] += 1
        return {number: count / samples for number, count in chosen.most_common()}

    def _state(self, channel_id: ChannelId, want: route.Want) -> route.State:
        rows = self._told.get(channel_id, ())
        takes = not rows or any(one.told.takes for one in rows)
        up = takes and not self.snapshot.channels[channel_id].paused
        health = route.Health()
        health.probed_at_s = time.monotonic()  # nobody is sent to see
        known = [one.told.health.get(want.country + want.operator) for one in rows]
        best = max((one for one in known if one is not None), key=lambda one: one.weight, default=None)
        if best is not None:
            health.success, health.weight, health.latency_s = best.success, best.weight, best.latency_s
        return route.State(up, True, health)


# ---- words

TEXTS_SQL: LiteralString = """
SELECT m.tenant_id, m.sealed
  FROM unnest($1::int[], $2::int[]) AS t(id, most) CROSS JOIN unnest($3::uuid[], $4::uuid[]) AS h(low, high)
 CROSS JOIN LATERAL (
       SELECT tenant_id, sealed FROM message
        WHERE tenant_id = t.id AND id >= h.low AND id < h.high AND NOT sandbox AND sealed IS NOT NULL
        ORDER BY tenant_id, id LIMIT t.most) m
 LIMIT $5
"""


async def _try_words(
    database: db.Database,
    vault: Vault,
    both: tuple[Snapshot, Snapshot],
    counts: Mapping[Group, tuple[int, int]],
    bounds: Sequence[tuple[Any, Any]],
    deadline_s: float,
) -> WordsTried:
    """Ask the words before and after about a sample of the day's texts, spread over tenants and hours."""
    sent: Counter[int] = Counter()
    for group, (messages, _) in counts.items():
        sent[group[0]] += messages
    tenants, total = sent.most_common(TEXT_TENANTS_MAX), sum(sent.values())
    most = [-(-TEXTS_MAX * count // (total * len(bounds))) for _, count in tenants]
    lows, highs = zip(*bounds, strict=True)
    try:
        async with database.transaction() as tx:
            rows = await tx.fetch(
                TEXTS_SQL, [number for number, _ in tenants], most, lows, highs, TEXTS_MAX,
                timeout=max(0.1, deadline_s - time.monotonic()),
            )  # fmt: skip
    except TimeoutError:
        return WordsTried(0, 0, 0, (), cut=True)
    return await asyncio.to_thread(_ask_words, vault, both, rows, deadline_s)


def _ask_words(
    vault: Vault, both: tuple[Snapshot, Snapshot], rows: Sequence[db.Row], deadline_s: float
) -> WordsTried:
    hits: dict[tuple[str, str | None, Level], list[int]] = {}
    totals: Counter[str] = Counter()
    cut = False
    for row in rows:
        if time.monotonic() > deadline_s:
            cut = True
            break
        tenant_id = TenantId(row["tenant_id"])
        text = _text(vault, tenant_id, row["sealed"])
        if text is None:
            continue
        totals["texts"] += 1
        found = [_spoken(seen, text, tenant_id) for seen in both]
        for place, spoken in enumerate(found):
            for key in spoken:
                hits.setdefault(key, [0, 0])[place] += 1
        totals["stopped"] += bool(found[1]) and not found[0]
        totals["freed"] += bool(found[0]) and not found[1]
    lists = [ListHits(*key, *counts) for key, counts in sorted(hits.items(), key=lambda pair: -sum(pair[1]))]
    return WordsTried(totals["texts"], totals["stopped"], totals["freed"], lists, cut)


def _spoken(seen: Snapshot, text: str, tenant_id: TenantId) -> set[tuple[str, str | None, Level]]:
    """Return the lists that speak of a text: their name, the tenant whose they are, their level."""
    tenant = seen.tenants[tenant_id].name
    platform = {one.list_id for one in seen.words.check(text, TenantId(0))}
    return {
        (one.list, None if one.list_id in platform else tenant, one.level)
        for one in seen.words.check(text, tenant_id)
    }


def _text(vault: Vault, tenant_id: TenantId, sealed: bytes) -> str | None:
    """Open a message's text; None where it was erased."""
    try:
        _, text, *_ = msgspec.msgpack.decode(vault.unseal(tenant_id, sealed))
    except VaultError:
        return None
    return text if isinstance(text, str) else None
