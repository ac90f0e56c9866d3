"""The linter: what there is to say about a text before it is proposed, what it would cost, and who could carry it."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control import feasibility, lint, templates
from hongyan.control.feasibility import COUNTRIES_MAX, Cell, Question
from hongyan.control.lint import Finding, FindingLevel, Place, Subject, cost
from hongyan.control.lint.cost import Sizes
from hongyan.control.lint.finding import PLACES
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.management.templates import Body, Scope, Signed, Variables, rules_of
from hongyan.doors.route import BODY, Reach, Route
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import PURPOSES, Purpose
from hongyan.way.snapshot import Snapshot

MAINLAND: Final = "CN"


class AskedLint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text to look at. `code`: of a template that is there already, for providers who file templates."""

    body: Body
    purpose: Purpose
    scope: Scope = "any"
    signature: Signed = ""
    variables: Variables = {}
    code: Annotated[str, Meta(max_length=64)] = ""
    countries: Annotated[
        list[Annotated[str, Meta(pattern="^[A-Z]{2}$")]],
        Meta(max_length=COUNTRIES_MAX, description="ISO codes; none: those of the tenant."),
    ] = []
    feasibility: Annotated[bool, Meta(description="Say also which channels could carry it.")] = True


class PricePreview(msgspec.Struct, frozen=True, kw_only=True):
    """What one message would cost there, in millionths."""

    country: str
    operator: str
    part_micro: int
    shortest_micro: int
    usual_micro: int
    longest_micro: int


class Linted(msgspec.Struct, frozen=True, kw_only=True):
    """All there is to say. `sound`: it could be handed in, for no finding is an error."""

    sound: bool
    findings: list[Finding]
    sizes: list[Sizes]
    currency: str
    prices: list[PricePreview]
    feasibility: list[Cell]


class LintRuleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of the linter, and how serious it is by purpose and place."""

    id: str
    zh: str
    en: str
    source: str
    seen: str
    provider: str
    levels: dict[str, dict[str, FindingLevel]]


class LintRulePage(msgspec.Struct, frozen=True):
    items: list[LintRuleRow]
    next: str | None = None


async def look(call: Call) -> Linted:
    asked = call.body(AskedLint)
    snapshot = call.door.snapshots.current
    tenant = snapshot.tenants[call.tenant]
    name = asked.signature or await templates.usual_signature(call.tx, call.tenant)
    signature = tenant.signatures.get(name)
    if signature is None and asked.signature:
        raise Refusal(Code.SIGN_NOT_FOUND, signature=name)
    subject = Subject(asked.body, asked.purpose, name, rules_of(asked.variables))
    findings = lint.check(
        asked.body,
        asked.purpose,
        asked.scope,
        name,
        subject.variables,
        words=feasibility.words_of(snapshot, call.tenant),
    )
    sizes = [cost.measure(subject, place) for place in PLACES[asked.scope]]
    question = Question(call.tenant, asked.code, subject, asked.scope, signature)
    cells = feasibility.matrix(question, snapshot, asked.countries) if asked.feasibility else ()
    targets = feasibility.targets(question, snapshot, asked.countries)
    return Linted(
        sound=lint.worst(findings) is not FindingLevel.ERROR,
        findings=list(findings),
        sizes=sizes,
        currency=tenant.currency,
        prices=list(_prices(question, snapshot, sizes, targets)),
        feasibility=list(cells),
    )


def _prices(
    question: Question, snapshot: Snapshot, sizes: list[Sizes], targets: Sequence[tuple[str, str]]
) -> Iterator[PricePreview]:
    by_place = {one.place: one for one in sizes}
    for country, operator in targets:
        one = by_place.get(Place.MAINLAND if country == MAINLAND else Place.INTERNATIONAL)
        part = snapshot.part_price_micro(question.tenant_id, country, operator, question.subject.purpose)
        if one is not None and part is not None:
            yield PricePreview(
                country=country,
                operator=operator,
                part_micro=part,
                shortest_micro=part * one.shortest.parts,
                usual_micro=part * one.usual.parts,
                longest_micro=part * one.longest.parts,
            )


async def list_rules(call: Call) -> LintRulePage:  # noqa: ARG001 - they are the same for everybody
    return LintRulePage(
        [
            LintRuleRow(
                id=rule.id,
                zh=rule.zh,
                en=rule.en,
                source=rule.source.title,
                seen=rule.source.seen,
                provider=rule.provider,
                levels={
                    purpose.value: {
                        place.value: rule.levels[purpose, place]
                        for place in Place
                        if (purpose, place) in rule.levels
                    }
                    for purpose in PURPOSES
                },
            )
            for rule in lint.RULES
        ]
    )


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/templates/lint",
        name="lintTemplate",
        summary="Say what is wrong with a text, what it would cost, and which channels could carry it. Stores nothing.",
        reach=Reach.TENANT,
        permission=Permission.WORDING_READ,
        body=AskedLint,
        example={
            "body": "您的验证码为${code},5分钟内有效,用于登录",
            "purpose": "otp",
            "variables": {"code": {"kind": "code"}},
        },
        gives=Linted,
        codes=(*BODY, Code.SIGN_NOT_FOUND),
        changes=False,
        recorded=False,
        manages=look,
    ),
    Route(
        method="GET",
        path="/v1/templates/rules",
        name="listLintRules",
        summary="List the rules of the linter, with where each is from.",
        reach=Reach.ANY,
        permission=Permission.WORDING_READ,
        gives=LintRulePage,
        manages=list_rules,
    ),
)
