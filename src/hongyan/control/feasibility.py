"""Which channels could carry a template, under a signature, to each operator or country; and if not, all that is against it.

Writes nothing; pure over the snapshot. Entry points: matrix(), Question, REASONS. What a channel would do is asked of the
channel itself (built, never opened): how it cuts the text, whether it takes the wording. Health says nothing here: a channel
that is down today could carry it all the same.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from hongyan.channels import kinds
from hongyan.channels.channel import Channel, Wording
from hongyan.channels.providers import FiledSettings
from hongyan.control import lint
from hongyan.control.lint import Finding, Place, Subject, cost
from hongyan.control.lint.cost import Length
from hongyan.vocab import text
from hongyan.vocab.message import ChannelId, TenantId
from hongyan.vocab.phone import OPERATOR_NAMES
from hongyan.way import route
from hongyan.way.route import Want
from hongyan.way.snapshot import ChannelRow, RouteRule, Signature, Snapshot

COUNTRIES_MAX: Final = 50
MAINLAND: Final = "CN"


class CellVerdict(StrEnum):
    """Whether a channel could carry it."""

    YES = "yes"
    SOMETIMES = "sometimes"  # some values make it a text that this channel cannot carry as it is charged
    NO = "no"


class CellReason(msgspec.Struct, frozen=True):
    """One thing that is against it."""

    code: str
    zh: str
    en: str
    detail: Mapping[str, Any] = {}


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One channel and one destination. `findings`: what its provider alone may have against the text."""

    channel_id: ChannelId
    channel: str
    kind: str
    country: str
    operator: str  # "" beyond the mainland
    verdict: CellVerdict
    reasons: Sequence[CellReason]
    part_counts: Sequence[int]  # that values of different lengths make
    findings: Sequence[Finding]


# Whatever the values are, these keep it out; the others may depend on values.
REASONS: Final[Mapping[str, tuple[str, str]]] = {
    "template_scope": ("模板不适用于该地区", "The template is not for this region"),
    "country_closed": ("租户未开通该国家或地区", "The country is not enabled for the tenant"),
    "signature_missing": ("没有可用的签名", "There is no signature to send it under"),
    "signature_not_approved": ("签名未通过审核", "The signature is not approved"),
    "no_price": ("该目的地没有价格", "No price is set for the destination"),
    "sandbox_only": ("沙箱通道只发送测试消息", "The channel carries sandbox messages only"),
    "channel_paused": ("通道已暂停", "The channel is paused"),
    "settings_unsound": ("通道配置无法读取", "The channel's settings cannot be read"),
    "no_rule": ("没有指向该通道的路由规则", "No route rule leads to the channel"),
    "rule_weight": ("路由规则权重为 0", "Its route rules have weight 0"),
    "rule_tenant": ("路由规则属于其他租户", "Its route rules are other tenants'"),
    "rule_country": ("路由规则不含该国家或地区", "Its route rules are for other countries"),
    "rule_operator": ("路由规则不含该运营商", "Its route rules are for other operators"),
    "rule_purpose": ("路由规则不含该用途", "Its route rules are for other purposes"),
    "filing_missing": ("签名未在该运营商完成报备", "The signature is not filed at the operator"),
    "template_not_filed": ("通道中未登记服务商的模板编号", "The provider's code of the template is not set there"),
    "signature_not_filed": ("通道中未登记服务商的签名", "The provider's signature is not set there"),
    "wording_not_taken": ("通道不接受该文案", "The channel does not take this wording"),
    "gateway_signature": ("网关自动加的签名与此不同", "The gateway signs with another name"),
    "not_encodable": ("通道的编码无法表示其中的字符", "The channel's encoding lacks characters of it"),
    "text_too_long": ("内容超过通道的长度上限", "It is longer than the channel takes"),
    "parts_differ": ("该通道拆分的条数与计费条数不同", "The channel cuts it into other parts than are charged"),
    "value_too_long": ("变量值超过服务商的长度上限", "A value may be longer than the provider takes"),
    "length_limit": ("变量取长值时超过总长上限", "With long values it is longer than any text may be"),
    "words": ("含有该通道禁用的词", "It has words that the channel does not carry"),
}  # fmt: skip


class Question(NamedTuple):
    """What is to be sent: a text of a template, by whom, under which signature."""

    tenant_id: TenantId
    code: str  # the template's; "" where it has none yet
    subject: Subject
    scope: str
    signature: Signature | None


class _Target(NamedTuple):
    country: str
    operator: str

    @property
    def place(self) -> Place:
        return Place.MAINLAND if self.country == MAINLAND else Place.INTERNATIONAL


class _Lead(NamedTuple):
    """Where route rules lead from one target, asked once for all channels."""

    want: Want
    channels: frozenset[ChannelId]
    unfiled: frozenset[ChannelId]  # that are left out for want of a filing


class _Trial(NamedTuple):
    """The text with values of one length, signed as it would be sent."""

    values: Mapping[str, str]
    signed: str


class _Fit(NamedTuple):
    """How a channel itself takes the text, the same for all targets of a place."""

    verdict: CellVerdict
    reasons: Sequence[CellReason]
    part_counts: Sequence[int]


def matrix(question: Question, snapshot: Snapshot, countries: Sequence[str] = ()) -> Sequence[Cell]:
    """Return a cell for each active channel and each target: these countries, the mainland by its operators.

    `countries`: ISO alpha-2, at most COUNTRIES_MAX; none: those of the tenant and of route rules, where the scope has any.
    """
    aims = [_Target(*target) for target in targets(question, snapshot, countries)]
    trials = {place: _trials(question.subject, place) for place in {target.place for target in aims}}
    leads = {
        (target, sandbox): _lead(question, target, snapshot, sandbox=sandbox)
        for target in aims
        for sandbox in (False, True)
    }
    rules: defaultdict[ChannelId, list[RouteRule]] = defaultdict(list)
    for rule in snapshot.rules:
        rules[rule.channel_id].append(rule)
    cells: list[Cell] = []
    for channel_id in sorted(snapshot.channels):
        row = snapshot.channels[channel_id]
        built = _built(row)
        fits = {place: _fit(question, row, built, place, trials[place]) for place in trials}
        findings = _provider_findings(question, row)
        shut = snapshot.words.shuts(row.id, question.subject.bare, question.tenant_id)
        for target in aims:
            fit = fits[target.place]
            against = list(_against(question, row, target, snapshot))
            against += _routes(row, leads[target, row.kind == "loopback"], rules[row.id], snapshot)
            against += [_reason("words")] if shut else []
            verdict = CellVerdict.NO if against else fit.verdict
            cells.append(
                Cell(
                    channel_id=row.id,
                    channel=row.name,
                    kind=row.kind,
                    country=target.country,
                    operator=target.operator,
                    verdict=verdict,
                    reasons=[*against, *fit.reasons],
                    part_counts=fit.part_counts,
                    findings=findings,
                )
            )
    return cells


def targets(
    question: Question, snapshot: Snapshot, countries: Sequence[str] = ()
) -> Sequence[tuple[str, str]]:
    """Return (country, operator) of where it is asked about; the operator is "" beyond the mainland."""
    if not countries:
        tenant = snapshot.tenants[question.tenant_id]
        known = {*tenant.countries, *(rule.country or MAINLAND for rule in snapshot.rules)} - {"*"}
        home = {MAINLAND} if question.scope != "international" else set()
        abroad = known - {MAINLAND} if question.scope != "mainland" else set()
        countries = sorted(home | abroad)
    found: list[tuple[str, str]] = []
    for country in dict.fromkeys(countries[:COUNTRIES_MAX]):
        operators = tuple(OPERATOR_NAMES) if country == MAINLAND else ("",)
        found += [(country, operator) for operator in operators]
    return found


def _reason(code: str, **detail: object) -> CellReason:
    return CellReason(code, *REASONS[code], detail)


# ---- what has nothing to do with the text


def _against(
    question: Question, row: ChannelRow, target: _Target, snapshot: Snapshot
) -> Iterator[CellReason]:
    """All that is against it but the text itself and where rules lead."""
    if question.scope not in ("any", target.place.value):
        yield _reason("template_scope", scope=question.scope)
    allowed = snapshot.tenants[question.tenant_id].countries
    if "*" not in allowed and target.country not in allowed:
        yield _reason("country_closed", country=target.country)
    if question.signature is None:
        yield _reason("signature_missing")
    elif not question.signature.approved:
        yield _reason("signature_not_approved", signature=question.signature.name)
    purpose = question.subject.purpose
    if snapshot.part_price_micro(question.tenant_id, target.country, target.operator, purpose) is None:
        yield _reason("no_price", country=target.country, operator=target.operator)
    if row.kind == "loopback":
        yield _reason("sandbox_only")
    if row.paused:
        yield _reason("channel_paused")


def _lead(question: Question, target: _Target, snapshot: Snapshot, *, sandbox: bool) -> _Lead:
    want = Want(
        question.tenant_id,
        target.country,
        target.operator,
        question.subject.purpose,
        sandbox=sandbox,
        signature_id=0 if question.signature is None else question.signature.id,
    )
    channels = frozenset(candidate.channel_id for candidate in route.candidates(want, snapshot))
    return _Lead(want, channels, frozenset(route.not_filed(want, snapshot)))


def _routes(
    row: ChannelRow, lead: _Lead, rules: Sequence[RouteRule], snapshot: Snapshot
) -> Iterator[CellReason]:
    """Why no rule leads there: of the rules of the channel the one that fits best says what is missing."""
    want = lead.want
    if row.id in lead.channels:
        return
    if row.id in lead.unfiled:
        yield _reason("filing_missing", operator=want.operator)
        return
    if not rules:
        yield _reason("no_rule")
        return
    for code in min((_mismatches(rule, want) for rule in rules), key=len):
        yield _reason(code)
    if row.filing_demanded and not route.filed(want, snapshot):
        yield _reason("filing_missing", operator=want.operator)


def _mismatches(rule: RouteRule, want: Want) -> Sequence[str]:
    asked = (
        ("rule_weight", rule.weight > 0),
        ("rule_tenant", rule.tenant_id in (None, want.tenant_id)),
        ("rule_country", rule.country in (None, want.country)),
        ("rule_operator", rule.operator in (None, want.operator)),
        ("rule_purpose", rule.purpose in (None, want.purpose)),
    )
    return [code for code, holds in asked if not holds]


# ---- what a channel makes of the text


def _built(row: ChannelRow) -> tuple[Channel, Mapping[str, Any]] | None:
    """Build the channel as it would be opened; None where its settings are none."""
    try:
        settings = msgspec.json.decode(row.config.reveal())
        return kinds.build(row.kind, settings), settings
    except (msgspec.DecodeError, kinds.BadSettings):
        return None


def _fit(
    question: Question,
    row: ChannelRow,
    built: tuple[Channel, Mapping[str, Any]] | None,
    place: Place,
    trials: Sequence[_Trial],
) -> _Fit:
    if built is None:
        return _Fit(CellVerdict.NO, [_reason("settings_unsound")], ())
    channel, settings = built
    failures: dict[str, CellReason] = {}
    counts: set[int] = set()
    carried = 0
    for trial in trials:
        against = list(_tried(question, row, channel, settings, place, trial, counts))
        carried += not against
        for reason in against:
            failures.setdefault(reason.code, reason)
    verdict = CellVerdict.YES if not failures else CellVerdict.SOMETIMES if carried else CellVerdict.NO
    return _Fit(verdict, list(failures.values()), sorted(counts))


def _tried(
    question: Question,
    row: ChannelRow,
    channel: Channel,
    settings: Mapping[str, Any],
    place: Place,
    trial: _Trial,
    counts: set[int],
) -> Iterator[CellReason]:
    """What is against the text with these values."""
    counted = text.count(trial.signed, place.counting)
    if counted.units > lint.form.UNITS_MAX[place]:
        yield _reason("length_limit", units=counted.units)
        return
    signature = "" if question.signature is None else question.signature.name
    if kinds.takes_templates(row.kind):
        wording = Wording(question.code, signature, trial.values)
        if not channel.takes(wording):
            yield from _not_taken(row.kind, settings, wording)
    try:
        parts = channel.cut(trial.signed, place.counting)
    except text.Unencodable:
        yield _reason("not_encodable")
        return
    except text.TooManyParts:
        yield _reason("text_too_long")
        return
    if not parts:
        own = settings.get("signature") == "gateway"
        yield _reason("gateway_signature" if own else "text_too_long")
    elif len(parts) != counted.parts and parts[0].mode is not text.Split.PAYLOAD:
        yield _reason("parts_differ", charged=counted.parts, sent=len(parts), units=counted.units)
    else:
        counts.add(counted.parts)


def _not_taken(kind: str, settings: Mapping[str, Any], wording: Wording) -> Iterator[CellReason]:
    if not issubclass(kinds.KINDS[kind].Config, FiledSettings):
        yield _reason("wording_not_taken")
        return
    if wording.template not in settings.get("templates", {}):
        yield _reason("template_not_filed", template=wording.template)
    if wording.signature and wording.signature not in settings.get("signatures", {}):
        yield _reason("signature_not_filed", signature=wording.signature)
    most = settings.get("value_characters_max", 0)
    if most and any(len(value) > most for value in wording.values.values()):
        yield _reason("value_too_long", characters_max=most)


def _trials(subject: Subject, place: Place) -> Sequence[_Trial]:
    """The text with its shortest, usual and longest values, and with lengths in between where parts begin anew."""
    shortest = cost.values(subject, Length.SHORTEST)
    longest = cost.values(subject, Length.LONGEST)
    found = [_trial(subject, place, cost.values(subject, length)) for length in Length]
    spare = sum(len(longest[name]) - len(shortest[name]) for name in shortest)
    base = text.count(_trial(subject, place, shortest).signed, place.counting).units
    edges = {
        edge for part in range(1, 9) for size in _PART_SIZES[place] for edge in (size * part, size * part + 1)
    }
    between = [edge - base for edge in sorted(edges) if 0 < edge - base < spare]
    return found + [_trial(subject, place, _grown(shortest, longest, more)) for more in between]


# Units of a part with an 8-bit and a 16-bit reference, and of a text in one part (3GPP TS 23.040 §9.2.3.24).
_PART_SIZES: Final = {
    Place.MAINLAND: (66, 67, 70),
    Place.INTERNATIONAL: (66, 67, 70, 152, 153, 160),
}


def _grown(shortest: Mapping[str, str], longest: Mapping[str, str], more: int) -> Mapping[str, str]:
    """Return values that have so many characters more than the shortest."""
    grown = {}
    for name, value in shortest.items():
        take = min(more, len(longest[name]) - len(value))
        grown[name] = value + cost.NARROW * take
        more -= take
    return grown


def _trial(subject: Subject, place: Place, values: Mapping[str, str]) -> _Trial:
    body = subject.compiled.fill(values) or ""
    signed = text.sign(subject.signature, body, counting=place.counting) if subject.signature else body
    return _Trial(values, signed)


# ---- words and providers


def _provider_findings(question: Question, row: ChannelRow) -> Sequence[Finding]:
    subject = question.subject
    found = lint.check(
        subject.body,
        subject.purpose,
        question.scope,
        subject.signature,
        subject.variables,
        provider_kinds=(row.kind,),
    )
    return [finding for finding in found if finding.provider]


def words_of(snapshot: Snapshot, tenant_id: TenantId | None) -> lint.Words:
    """Return what the linter asks about words: the lists of the platform, of the tenant and, as warnings, of channels."""
    return lambda written: [
        (hit.start, hit.end, hit.word, hit.list, hit.level)
        for hit in snapshot.words.check_template(written, tenant_id)
    ]
