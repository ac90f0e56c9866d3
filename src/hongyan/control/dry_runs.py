"""What would become of a message: the rules that would speak, the channel it would take, and why; nothing is stored.

Writes nothing. Entry point: dry_run(). The way's own functions are asked over the snapshot (guard.check(), route.choose(),
parcels.fitting()), with what gateways have told of their channels within the last second, so the answer is what a gateway
would do at that moment. Surprises: where channels share the load, the likeliest is shown as chosen, with its share;
where several gateways run, a channel counts as up where any of them has it. Nobody is asked about a number that is not
known already (portability): that would cost money.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, Final, LiteralString

import msgspec

from hongyan import clock, db, observe
from hongyan.channels import kinds
from hongyan.control.bounds import demand, demand_found
from hongyan.settings import Settings
from hongyan.vault import Secret, Vault
from hongyan.vocab import phone, wording
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId, ChannelId, Purpose, TenantId
from hongyan.way import conversion, guard, optout, parcels, route, state
from hongyan.way.accept import Draft
from hongyan.way.acceptance import EPOCH_S
from hongyan.way.conversion import Conversions
from hongyan.way.handover import Handed
from hongyan.way.portability import Portability
from hongyan.way.snapshot import Key, Limits, Snapshot, Tenant

SAMPLES: Final = 100  # of chance, evenly spread: shares are told in hundredths
AT_SPAN_S: Final = 366 * 86_400.0
TEXT: Final = "测试"
TEXT_PROMOTIONAL: Final = "测试 拒收请回复R"
VALUES: Final = (
    "某",
    "123456",
    "5",
    "12:00",
    "1.00",
    "张三",
    "12345678",
    "a@b.cn",
)  # for what a template leaves open
PLATFORM: Final = TenantId(0)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which message. Of template, text and purpose one is enough; what is left out is filled with a sample."""

    tenant_id: TenantId
    to: str
    template: str = ""
    params: Mapping[str, str | int] | None = None
    text: str = ""
    purpose: Purpose | None = None
    signature: str = ""
    language: str = ""
    sandbox: bool = False
    at: datetime | None = None  # when it would be sent; none: now


class Spoken(msgspec.Struct, frozen=True):
    """A rule that spoke."""

    rule: str
    says: str  # passes, refuses, waits, holds
    code: str = ""  # the public one, of a refusal
    words: str = ""
    detail: Mapping[str, Any] = {}
    until: datetime | None = None  # of one that waits


class RouteStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How one channel stands towards this message."""

    channel: str
    channel_id: ChannelId
    why: str  # chosen, or why not, in the words of the decision that is kept with a message
    rule_id: int | None = None
    priority: int | None = None
    weight: int | None = None
    cost_micro: int
    currency: str  # of the cost
    share: float = 0.0  # of such messages that it gets just now
    paused: bool = False
    takes: bool | None = None  # whether messages may be routed there now; null: no gateway has told lately
    room: bool | None = None
    success: float | None = None  # what gateways have learned of it towards this operator
    latency_s: float | None = None


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of the message."""

    verdict: str  # leaves, waits, held, refused
    number: str  # masked
    country: str
    operator: str
    province: str
    purpose: Purpose
    part_count: int | None  # null where a rule refused it before it was counted
    price_micro: int | None
    currency: str
    rules: Sequence[Spoken]
    chosen: str | None
    waits_for: str  # why it would wait, where it would: hours, channel
    channels: Sequence[RouteStanding]  # candidates in the order they are asked, then the others
    trace: Mapping[str, Any]  # the decision as it would be kept
    gateways: int  # that have told lately how channels fare


async def dry_run(
    tx: db.Tx, snapshot: Snapshot, vault: Vault, settings: Settings, question: Question
) -> DryRun:
    """Say what would become of a message. Raises Refusal for a bad number or time, or a tenant there is not."""
    tenant = demand_found(snapshot.tenants.get(question.tenant_id), tenant=question.tenant_id)
    now_s = clock.now_s() if question.at is None else question.at.timestamp()
    demand(abs(now_s - clock.now_s()) <= AT_SPAN_S, "at", "within a year of now")
    case = await _case(tx, snapshot, vault, settings, tenant, question, now_s)
    rules = [*case.rules, *await _ask_stored(tx, vault, tenant, case, now_s)]
    told = {
        channel_id: [one for one in gateways if not one.stale]
        for channel_id, gateways in (await state.every(tx)).items()
    }
    pick = None
    if case.want.purpose is Purpose.OTP:
        known = Conversions(settings.code_value_micro, Random(0), await conversion.load(tx))  # noqa: S311 - repeatable
        if known.known:
            case = msgspec.structs.replace(
                case, want=msgspec.structs.replace(case.want, province=case.province)
            )
            pick = partial(_pick, known, case.want)
    choice, channels = _route(snapshot, case, told, pick)
    refused, held = any(r.says == "refuses" for r in rules), any(r.says == "holds" for r in rules)
    waits_for = "hours" if any(r.says == "waits" for r in rules) else ""
    waits_for = waits_for or ("channel" if choice.channel_id is None else "")
    verdict = "refused" if refused else "held" if held else "waits" if waits_for else "leaves"
    return DryRun(
        verdict=verdict,
        number=observe.masked_number(case.number.e164),
        country=case.want.country,
        operator=case.want.operator,
        province=case.province,
        purpose=case.want.purpose,
        part_count=case.cleared.part_count if case.cleared is not None else None,
        price_micro=case.cleared.price_micro if case.cleared is not None else None,
        currency=tenant.currency,
        rules=rules,
        chosen=_name(snapshot, choice.channel_id),
        waits_for="" if refused else waits_for,
        channels=channels,
        trace=route.trace(case.want, choice, snapshot, 1),
        gateways=len({one.gateway for gateways in told.values() for one in gateways}),
    )


# ---- the rules


class _Case(msgspec.Struct, frozen=True):
    """The message as far as the pure rules brought it."""

    number: phone.Phone
    phone_index: bytes
    province: str
    want: route.Want
    draft: Draft
    cleared: guard.Cleared | None
    rules: Sequence[Spoken]


async def _case(
    tx: db.Tx,
    snapshot: Snapshot,
    vault: Vault,
    settings: Settings,
    tenant: Tenant,
    question: Question,
    now_s: float,
) -> _Case:
    try:
        number = phone.parse(question.to)
    except phone.BadNumber as error:
        raise Refusal(Code.NUMBER_INVALID, parameter="to", reason=error.fault) from error
    index = vault.phone_index(number.e164)
    known = await Portability(replace(settings, number_lookup="")).known(tx, {index: number.e164})
    better = known.of(tenant.id, index) or ("", "")
    place = phone.place(number, snapshot.overrides)
    draft, purpose = _draft(tenant, question)
    cleared, rules = _ask_pure(draft, _key(tenant, question), snapshot, settings, now_s, better)
    signature_id = cleared.wording.signature.id if cleared is not None else _signature_id(tenant, draft)
    if cleared is not None:
        purpose = cleared.wording.purpose
    operator, province = better[0] or place.operator, better[1] or place.province
    want = route.Want(tenant.id, place.country, operator, purpose, question.sandbox, signature_id)
    return _Case(number, index, province, want, draft, cleared, rules)


def _draft(tenant: Tenant, question: Question) -> tuple[Draft, Purpose]:
    """Write the message as a program would, with samples for what is left out."""
    signature = question.signature
    if question.template:
        template = tenant.templates.get(question.template)
        params = question.params
        if params is None:
            params = _values(template.text_in(question.language)) if template is not None else {}
        if not signature and (template is None or not template.signature_id):
            signature = _some_signature(tenant)
        draft = Draft(
            to=question.to, signature=signature, template=question.template, params=dict(params),
            language=question.language,
        )  # fmt: skip
        fallback = question.purpose or Purpose.TRANSACTIONAL
        return draft, template.purpose if template is not None else fallback
    purpose = question.purpose or Purpose.TRANSACTIONAL
    text = question.text or (TEXT_PROMOTIONAL if purpose is Purpose.PROMOTIONAL else TEXT)
    return Draft(
        to=question.to, signature=signature or _some_signature(tenant), text=text, purpose=purpose
    ), purpose


def _some_signature(tenant: Tenant) -> str:
    return next((one.name for one in tenant.signatures.values() if one.approved), "")


def _signature_id(tenant: Tenant, draft: Draft) -> int:
    """Return the signature of a message that some rule refused, as far as it can be told."""
    template = tenant.templates.get(draft.template)
    if template is not None and template.signature_id:
        return template.signature_id
    signature = tenant.signatures.get(draft.signature)
    return signature.id if signature is not None else 0


def _values(text: wording.Compiled) -> Mapping[str, str]:
    """Return values that a template takes, whatever they say."""
    found = {}
    for name, (kind, characters_max) in text.rules.items():
        fitting = (
            value
            for value in VALUES
            if len(value) <= characters_max and (kind.pattern is None or kind.pattern.fullmatch(value))
        )
        found[name] = next(fitting, VALUES[1][:characters_max])
    return found


def _key(tenant: Tenant, question: Question) -> Key:
    """A key that may do all that a key may."""
    return Key(
        id=0, key_id="dry run", secret=Secret(b""), tenant=tenant, app_id=AppId(0), allow_basic=False, free_text=True,
        sandbox=question.sandbox, networks=(), rate_per_s=0,
    )  # fmt: skip


def _ask_pure(
    draft: Draft, key: Key, snapshot: Snapshot, settings: Settings, now_s: float, better: tuple[str, str]
) -> tuple[guard.Cleared | None, Sequence[Spoken]]:
    """Ask the rules of the door; the first that refuses is the last that speaks."""
    try:
        cleared = guard.check(draft, key, snapshot, settings, now_s)
        if any(better):
            cleared = guard.move(cleared, key.tenant, snapshot, *better, sandbox=key.sandbox)
    except Refusal as refusal:
        return None, [_refusal("door", refusal)]
    spoken = [Spoken(rule, "passes") for rule in cleared.rules if rule not in _STORED and rule != "hours"]
    if cleared.held:
        spoken.append(Spoken("words", "holds", words=cleared.held))
    if cleared.wording.purpose is Purpose.PROMOTIONAL:
        until = datetime.fromtimestamp(cleared.due_at_s, UTC) if cleared.due_at_s else None
        spoken.append(Spoken("hours", "waits" if until else "passes", until=until))
    return cleared, spoken


_STORED: Final = frozenset({"suppression", "frequency", "balance"})  # asked by the statement that accepts


def _refusal(rule: str, refusal: Refusal) -> Spoken:
    detail = dict(refusal.detail)
    if refusal.retry_after_s is not None:
        detail["retry_after_s"] = refusal.retry_after_s
    return Spoken(rule, "refuses", refusal.code.value.name, refusal.code.value.en, detail)


HITS_SQL: LiteralString = "SELECT hits FROM frequency WHERE key = $1"
BALANCE_SQL: LiteralString = "SELECT coalesce(sum(amount_micro), 0)::bigint FROM balance WHERE tenant_id = $1"


async def _ask_stored(tx: db.Tx, vault: Vault, tenant: Tenant, case: _Case, now_s: float) -> Sequence[Spoken]:
    """Ask what the statement that accepts asks: opt-outs and blocks, how often lately, the balance."""
    spoken = [
        _suppression(case.want.purpose, await optout.about(tx, (PLATFORM, tenant.id), case.phone_index))
    ]
    if case.cleared is None:
        return spoken
    text = case.cleared.wording.text
    limits = tenant.limits[case.want.purpose]
    key = vault.keyed_hash(
        case.phone_index,
        b"%d.%d.%d" % (tenant.id, case.cleared.wording.signature.id, case.want.purpose.number),
    )
    second = int(now_s) - EPOCH_S
    hit = second << 32 | int.from_bytes(vault.keyed_hash(text.encode())[:4])
    hits = await tx.fetchval(HITS_SQL, key) or []
    spoken.append(_frequency(hits, limits, tenant.duplicate_s, hit, second))
    balance = await tx.fetchval(BALANCE_SQL, tenant.id)
    if balance < case.cleared.price_micro:
        spoken.append(_refusal("balance", Refusal(Code.ACCOUNT_BALANCE_INSUFFICIENT)))
    else:
        spoken.append(Spoken("balance", "passes"))
    return spoken


def _suppression(purpose: Purpose, found: Sequence[tuple[TenantId, optout.Entry]]) -> Spoken:
    counting = [entry for _, entry in found if entry.kind == optout.BLOCK or purpose is Purpose.PROMOTIONAL]
    if not counting:
        return Spoken("suppression", "passes")
    worst = max(counting, key=lambda entry: entry.kind)
    code = Code.NUMBER_BLOCKED if worst.kind == optout.BLOCK else Code.NUMBER_OPTED_OUT
    return _refusal("suppression", Refusal(code, since=worst.since.isoformat(), reason=worst.reason))


def _frequency(hits: Sequence[int], limits: Limits, same_s: int, hit: int, second: int) -> Spoken:
    """Ask as the statement does: a hit counts while it is younger than its window."""
    seconds = [value >> 32 for value in hits]
    counts = [sum(at > second - span for at in seconds) for span in (60, 3_600, guard.SAME_DAY_S)]
    full = any(
        most and count >= most
        for most, count in zip((limits.minute, limits.hour, limits.day), counts, strict=True)
    )
    same = same_s and any(
        at > second - same_s and value & 0xFFFF_FFFF == hit & 0xFFFF_FFFF
        for at, value in zip(seconds, hits, strict=True)
    )
    if not (full or same):
        return Spoken("frequency", "passes")
    return _refusal("frequency", guard.limit_reached(hits, limits, same_s, hit, second))


# ---- the route


def _pick(
    known: Conversions,
    want: route.Want,
    equals: Sequence[route.Candidate],
    free: Sequence[route.Candidate],
    chance: float,
) -> route.Picked | None:
    return known.pick(want, equals, free, chance, clock.now_s())


def _route(
    snapshot: Snapshot,
    case: _Case,
    told: Mapping[ChannelId, Sequence[state.AtGateway]],
    pick: route.Pick | None,
) -> tuple[route.Choice, Sequence[RouteStanding]]:
    """Choose as a gateway would, anew without each channel that proves not to fit."""
    ranking = list(route.candidates(case.want, snapshot))
    unfiled = route.not_filed(case.want, snapshot)
    ranked, unfit = list(ranking), dict[ChannelId, str]()
    while True:
        choice, shares = _choose(ranking, unfiled, case.want, told, pick)
        if choice.channel_id is None:
            break
        why = _unfit(snapshot, case, choice.channel_id)
        if not why:
            break
        unfit[choice.channel_id] = why
        ranking = [one for one in ranking if one.channel_id != choice.channel_id]
    whys: dict[int, str] = dict(choice.words) | unfit
    if choice.channel_id is not None:
        whys[choice.channel_id] = "chosen"
    standings = [
        _standing(snapshot, case, told, one.channel_id, whys.get(one.channel_id, "behind"), one, shares)
        for one in ranked
    ]
    known = {one.channel_id for one in standings}
    standings += [
        _standing(snapshot, case, told, number, _why_no_candidate(snapshot, case.want, number, unfiled))
        for number in snapshot.channels
        if number not in known
    ]
    return choice, standings


def _choose(
    ranking: Sequence[route.Candidate],
    unfiled: Sequence[ChannelId],
    want: route.Want,
    told: Mapping[ChannelId, Sequence[state.AtGateway]],
    pick: route.Pick | None,
) -> tuple[route.Choice, Mapping[ChannelId, float]]:
    """Return the likeliest choice, and each channel's share of the choices over an even spread of chance."""
    now_s = time.monotonic()
    found: Counter[route.Choice] = Counter()
    for sample in range(SAMPLES):
        states = {
            one.channel_id: _state(told[one.channel_id], want, now_s)
            for one in ranking
            if told.get(one.channel_id)
        }
        found[route.choose(ranking, states, (sample + 0.5) / SAMPLES, now_s, unfiled, pick)] += 1
        if len(found) == 1 and len(states) < 2:
            break
    total = sum(found.values())
    shares: dict[ChannelId, float] = {}
    for choice, count in found.items():
        if choice.channel_id is not None:
            shares[choice.channel_id] = shares.get(choice.channel_id, 0.0) + count / total
    return found.most_common(1)[0][0], shares


def _state(gateways: Sequence[state.AtGateway], want: route.Want, now_s: float) -> route.State:
    """Return what choose() must know of a channel: up and room where any gateway has it, health where most was heard."""
    lane = want.purpose.number
    up = any(one.told.takes for one in gateways)
    room = any(one.told.takes and one.told.room[lane : lane + 1] == [True] for one in gateways)
    health = route.Health()
    fitness, age_s = _fitness(gateways, want)
    if fitness is not None:
        health.success, health.weight = fitness.success, fitness.weight
        health.latency_s = fitness.latency_s
        if fitness.probed_s is not None:
            health.probed_at_s = now_s - fitness.probed_s - age_s
    return route.State(up, room, health)


def _fitness(gateways: Sequence[state.AtGateway], want: route.Want) -> tuple[state.Fitness | None, float]:
    """Return what the gateway that has heard most has learned, and how many seconds ago it told."""
    best: tuple[state.Fitness | None, float] = (None, 0.0)
    weight = -math.inf
    for one in gateways:
        fitness = one.told.health.get(want.country + want.operator)
        if fitness is not None and fitness.weight > weight:
            weight = fitness.weight
            best = fitness, max(0.0, clock.now_s() - one.told_at.timestamp())
    return best


def _unfit(snapshot: Snapshot, case: _Case, channel_id: ChannelId) -> str:
    """Say why a channel could not carry it; "" if it can, or if some rule refused it before there was a text."""
    cleared = case.cleared
    if cleared is None:
        return ""
    row = snapshot.channels[channel_id]
    try:
        channel = kinds.build(row.kind, msgspec.json.decode(row.config.reveal()))
    except kinds.BadSettings:
        return "bad settings"
    handed = Handed(
        id=b"", tenant_id=case.want.tenant_id, lane=case.want.purpose.number, number=case.number.e164,
        text=cleared.wording.text, extension=cleared.extension, part_count=cleared.part_count,
        country=case.want.country, operator=case.want.operator, expires_at_s=math.inf,
        price_micro=cleared.price_micro, resend=cleared.wording.resend, sandbox=case.want.sandbox, owner=0,
        template_id=cleared.wording.template_id, signature_id=cleared.wording.signature.id,
        params=case.draft.params if cleared.wording.template_id else None,
    )  # fmt: skip
    fit = parcels.fitting(handed, row, channel, snapshot)
    return fit if isinstance(fit, str) else ""


def _why_no_candidate(
    snapshot: Snapshot, want: route.Want, channel_id: ChannelId, unfiled: Sequence[ChannelId]
) -> str:
    if channel_id in unfiled:
        return "not filed"
    if (snapshot.channels[channel_id].kind == "loopback") is not want.sandbox:
        return "no sandbox" if want.sandbox else "sandbox"
    mine = [rule for rule in snapshot.rules if rule.channel_id == channel_id]
    return "no rule fits" if mine else "no rule"


def _standing(
    snapshot: Snapshot,
    case: _Case,
    told: Mapping[ChannelId, Sequence[state.AtGateway]],
    channel_id: ChannelId,
    why: str,
    candidate: route.Candidate | None = None,
    shares: Mapping[ChannelId, float] | None = None,
) -> RouteStanding:
    row = snapshot.channels[channel_id]
    gateways = told.get(channel_id, ())
    now = _state(gateways, case.want, time.monotonic()) if gateways else None
    fitness, _ = _fitness(gateways, case.want)
    return RouteStanding(
        channel=row.name,
        channel_id=channel_id,
        why=why,
        rule_id=candidate.rule_id if candidate is not None else None,
        priority=candidate.priority if candidate is not None else None,
        weight=candidate.weight if candidate is not None else None,
        cost_micro=row.cost_micro,
        currency=row.currency,
        share=round((shares or {}).get(channel_id, 0.0), 2),
        paused=row.paused,
        takes=now.up if now is not None else None,
        room=now.room if now is not None else None,
        success=round(fitness.success, 4) if fitness is not None else None,
        latency_s=round(fitness.latency_s, 3) if fitness is not None else None,
    )


def _name(snapshot: Snapshot, channel_id: ChannelId | None) -> str | None:
    return snapshot.channels[channel_id].name if channel_id is not None else None
