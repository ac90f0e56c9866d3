"""Templates: propose them, propose other texts for them, follow their review, take them out of use."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan.control import feasibility, signatures, template_rows, templates
from hongyan.control.feasibility import Cell, Question
from hongyan.control.lint import Subject, Words
from hongyan.control.permissions import Permission
from hongyan.control.template_rows import TemplateRow, TemplateState, TemplateText, TemplateVersion
from hongyan.control.templates import Wanted
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab import wording
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose, TenantId
from hongyan.vocab.wording import Variable

NEWEST: Final = 20  # versions shown with a template
Body = Annotated[
    str,
    Meta(
        min_length=1, max_length=templates.BODY_CHARACTERS_MAX, description="Variables as ${name} or {name}."
    ),
]
Language = Annotated[str, Meta(max_length=35, description="BCP 47: zh, zh-Hant, en, pt-BR.")]
Signed = Annotated[str, Meta(max_length=64, description="A signature's name, without 【】.")]
Scope = Literal["mainland", "international", "any"]


class AskedVariable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variable's rule: its kind, and a length of its own where it should be shorter."""

    kind: Annotated[str, Meta(max_length=32, description="GET /v1/templates/kinds lists them.")] = "other"
    max: Annotated[
        int, Meta(ge=0, le=wording.VALUE_CHARACTERS_MAX, description="Characters; 0: the kind's.")
    ] = 0


Variables = Annotated[
    dict[Annotated[str, Meta(max_length=25)], AskedVariable], Meta(max_length=templates.VARIABLES_MAX)
]


class AskedTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new template with its first text."""

    code: Annotated[str, Meta(pattern="^[A-Za-z0-9_.-]{1,64}$", description="What programs call it by.")]
    body: Body
    purpose: Purpose
    scope: Scope = "any"
    language: Language = ""
    signature: Signed = ""
    variables: Variables = {}
    resend: bool = True
    draft: bool = False


class AskedTemplateChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may change without a review."""

    resend: bool


class AskedTemplateVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another text for a language; or an earlier one again, to roll back."""

    body: Body | UnsetType = UNSET
    variables: Variables = {}
    language: Language = ""
    again: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=INT_MAX,
                description="The number of a version to propose again, in place of body and variables.",
            ),
        ]
        | UnsetType
    ) = UNSET
    draft: bool = False


class AskedTemplateText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A draft written anew."""

    body: Body
    variables: Variables = {}


class TemplateFilter(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    state: TemplateState | None = None
    purpose: Purpose | None = None
    containing: Annotated[str, Meta(max_length=64, description="A piece of the code or the text.")] = ""


class AskedVersions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A page of versions, the newest first."""

    before: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000_000
    limit: Annotated[int, Meta(ge=1, le=paging.LIMIT_MAX)] = 100


class AskedFeasibility(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Under which signature and to where."""

    signature: Signed = ""
    language: Language = ""
    countries: Annotated[
        str, Meta(max_length=200, pattern="^([A-Z]{2}(,[A-Z]{2})*)?$", description="ISO codes, as CN,HK,SG.")
    ] = ""


class TemplatePage(msgspec.Struct, frozen=True):
    items: list[TemplateRow]
    next: str | None = None


class TemplateVersionPage(msgspec.Struct, frozen=True):
    items: list[TemplateVersion]
    next: str | None = None


class TemplateStory(msgspec.Struct, frozen=True):
    """A template, the live texts of its further languages, and its newest versions."""

    template: TemplateRow
    texts: list[TemplateText]
    versions: list[TemplateVersion]


class Feasibility(msgspec.Struct, frozen=True):
    """Which channels could carry it to where."""

    cells: list[Cell]


class VariableKindRow(msgspec.Struct, frozen=True):
    """What a variable may be."""

    kind: str
    zh: str
    en: str
    characters_min: int
    characters_max: int
    pattern: str | None
    link: bool  # a value may be a link


class VariableKindPage(msgspec.Struct, frozen=True):
    items: list[VariableKindRow]
    next: str | None = None


# ---- what is done


async def propose(call: Call) -> TemplateStory:
    asked = call.body(AskedTemplate)
    bound = await signatures.find(call.tx, call.tenant, asked.signature) if asked.signature else None
    template_id = await templates.propose(
        call.tx,
        call.tenant,
        asked.code,
        Wanted(asked.body, rules_of(asked.variables), asked.language),
        asked.purpose,
        scope=asked.scope,
        signature_id=bound,
        resend=asked.resend,
        draft=asked.draft,
        who=call.caller.name,
        words=feasibility.words_of(call.door.snapshots.current, call.tenant),
    )
    call.note(f"template:{template_id}", code=asked.code, purpose=asked.purpose, draft=asked.draft)
    return await _story(call, template_id)


def rules_of(variables: dict[str, AskedVariable]) -> dict[str, Variable]:
    return {name: Variable(rule.kind, rule.max) for name, rule in variables.items()}


async def listed(call: Call) -> TemplatePage:
    asked = call.query(TemplateFilter)
    rows = await template_rows.page(
        call.tx,
        call.tenant_id,
        state=asked.state,
        purpose=asked.purpose,
        containing=asked.containing,
        after=paging.after(asked),
        limit=asked.limit,
    )
    return TemplatePage(list(rows), paging.following(rows, asked))


async def get(call: Call) -> TemplateStory:
    return await _story(call, call.number())


async def _story(call: Call, template_id: int) -> TemplateStory:
    template = await template_rows.get(call.tx, template_id, call.tenant_id)
    texts = await template_rows.texts(call.tx, template_id)
    return TemplateStory(
        template, list(texts), list(await template_rows.versions(call.tx, template_id, limit=NEWEST))
    )


async def change(call: Call) -> TemplateStory:
    asked = call.body(AskedTemplateChange)
    await templates.set_resend(call.tx, call.number(), call.tenant_id, asked.resend)
    call.note(f"template:{call.number()}", resend=asked.resend)
    return await _story(call, call.number())


async def disable(call: Call) -> TemplateStory:
    by_platform = call.caller.tenant_id is None
    await templates.disable(call.tx, call.number(), call.tenant_id, by_platform=by_platform)
    call.note(f"template:{call.number()}", state="disabled")
    return await _story(call, call.number())


async def enable(call: Call) -> TemplateStory:
    by_platform = call.caller.tenant_id is None
    await templates.enable(call.tx, call.number(), call.tenant_id, by_platform=by_platform)
    call.note(f"template:{call.number()}", state="approved")
    return await _story(call, call.number())


async def drop_text(call: Call) -> TemplateStory:
    language = call.path["language"][:35]
    await templates.drop_text(call.tx, call.number(), call.tenant_id, language)
    call.note(f"template:{call.number()}", dropped=language)
    return await _story(call, call.number())


async def list_versions(call: Call) -> TemplateVersionPage:
    asked = call.query(AskedVersions)
    template = await template_rows.get(call.tx, call.number(), call.tenant_id)
    rows = await template_rows.versions(call.tx, template.id, before=asked.before, limit=asked.limit)
    return TemplateVersionPage(list(rows), str(rows[-1].number) if len(rows) == asked.limit else None)


async def propose_version(call: Call) -> TemplateVersion:
    asked = call.body(AskedTemplateVersion)
    template_id = call.number()
    template = await template_rows.get(call.tx, template_id, call.tenant_id)
    if isinstance(asked.again, int):
        if not isinstance(asked.body, UnsetType) or asked.variables or asked.language:
            raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="again", reason="alone, without a text")
        old = await template_rows.get_version(call.tx, template_id, call.tenant_id, asked.again)
        wanted = Wanted(old.body, old.variables, old.language)
    elif isinstance(asked.body, UnsetType):
        raise Refusal(Code.REQUEST_MISSING_PARAMETER, parameter="body")
    else:
        wanted = Wanted(asked.body, rules_of(asked.variables), asked.language)
    made = await templates.propose_version(
        call.tx,
        template_id,
        call.tenant_id,
        wanted,
        draft=asked.draft,
        who=call.caller.name,
        words=feasibility.words_of(call.door.snapshots.current, template.tenant_id),
    )
    call.note(f"template:{template_id}", version=made.number, language=made.language, draft=asked.draft)
    return made


async def change_version(call: Call) -> TemplateVersion:
    asked = call.body(AskedTemplateText)
    template_id, number = call.number(), call.number("number")
    changed = await templates.change_version(
        call.tx,
        template_id,
        call.tenant_id,
        number,
        Wanted(asked.body, rules_of(asked.variables)),
        who=call.caller.name,
        words=await _words(call, template_id),
    )
    call.note(f"template:{template_id}", version=number)
    return changed


async def submit(call: Call) -> TemplateVersion:
    template_id, number = call.number(), call.number("number")
    words = await _words(call, template_id)
    handed_in = await templates.submit(
        call.tx, template_id, call.tenant_id, number, who=call.caller.name, words=words
    )
    call.note(f"template:{template_id}", version=number)
    return handed_in


async def withdraw(call: Call) -> TemplateVersion:
    template_id, number = call.number(), call.number("number")
    taken_back = await templates.withdraw(call.tx, template_id, call.tenant_id, number)
    call.note(f"template:{template_id}", version=number)
    return taken_back


async def _words(call: Call, template_id: int) -> Words:
    template = await template_rows.get(call.tx, template_id, call.tenant_id)
    return feasibility.words_of(call.door.snapshots.current, template.tenant_id)


async def feasible(call: Call) -> Feasibility:
    asked = call.query(AskedFeasibility)
    template = await template_rows.get(call.tx, call.number(), call.tenant_id)
    body, variables, code = template.body, template.variables, template.code
    if asked.language and (language := template_rows.canonical(asked.language)) != template.language:
        found = {text.language: text for text in await template_rows.texts(call.tx, template.id)}
        if language not in found:
            raise Refusal(Code.REQUEST_NOT_FOUND, language=language)
        body, variables, code = found[language].body, found[language].variables, f"{code}@{language.lower()}"
    snapshot = call.door.snapshots.current
    name = asked.signature or template.signature
    name = name or await templates.usual_signature(call.tx, TenantId(template.tenant_id))
    signature = snapshot.tenants[template.tenant_id].signatures.get(name)
    if signature is None and asked.signature:
        raise Refusal(Code.SIGN_NOT_FOUND, signature=name)
    subject = Subject(body, template.purpose, name, variables)
    question = Question(template.tenant_id, code, subject, template.scope, signature)
    countries = [country for country in asked.countries.split(",") if country]
    return Feasibility(list(feasibility.matrix(question, snapshot, countries)))


async def list_kinds(call: Call) -> VariableKindPage:  # noqa: ARG001 - they are the same for everybody
    return VariableKindPage(
        [
            VariableKindRow(
                name,
                kind.zh,
                kind.en,
                kind.characters_min,
                kind.characters_max,
                kind.pattern.pattern if kind.pattern else None,
                kind.url,
            )
            for name, kind in wording.KINDS.items()
        ]
    )


_TEXT: Final = (
    *BODY,
    Code.TEMPLATE_UNSOUND,
    Code.TEMPLATE_LOCKED,
    Code.CONTENT_MISSING_UNSUBSCRIBE,
    Code.REQUEST_CONFLICT,
)
_READ: Final = Permission.WORDING_READ
_WRITE: Final = Permission.WORDING_WRITE
ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/templates",
        name="listTemplates",
        summary="List templates.",
        reach=Reach.ANY,
        permission=_READ,
        query=TemplateFilter,
        gives=TemplatePage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="POST",
        path="/v1/templates",
        name="createTemplate",
        summary="Propose a template; it goes to review at once, unless it is a draft.",
        reach=Reach.TENANT,
        permission=_WRITE,
        body=AskedTemplate,
        example={
            "code": "parcel",
            "body": "您的快递${number}已到${place}",
            "purpose": "transactional",
            "variables": {"number": {"kind": "tracking_number"}, "place": {"kind": "address"}},
        },
        gives=TemplateStory,
        status=201,
        codes=(*_TEXT, Code.SIGN_NOT_FOUND),
        manages=propose,
    ),
    Route(
        method="GET",
        path="/v1/templates/kinds",
        name="listVariableKinds",
        summary="List what variables may be.",
        reach=Reach.ANY,
        permission=_READ,
        gives=VariableKindPage,
        manages=list_kinds,
    ),
    Route(
        method="GET",
        path="/v1/templates/{id}",
        name="getTemplate",
        summary="Look at a template: its live texts and its newest versions.",
        reach=Reach.ANY,
        permission=_READ,
        gives=TemplateStory,
        ids="integer",
        manages=get,
    ),
    Route(
        method="PATCH",
        path="/v1/templates/{id}",
        name="changeTemplate",
        summary="Change what needs no review: whether its notices may be sent again after a crash.",
        reach=Reach.ANY,
        permission=_WRITE,
        body=AskedTemplateChange,
        example={"resend": False},
        gives=TemplateStory,
        codes=BODY,
        ids="integer",
        manages=change,
    ),
    Route(
        method="POST",
        path="/v1/templates/{id}/disable",
        name="disableTemplate",
        summary="Let nobody use an approved template for now.",
        reach=Reach.ANY,
        permission=_WRITE,
        gives=TemplateStory,
        codes=(Code.REQUEST_CONFLICT,),
        ids="integer",
        manages=disable,
    ),
    Route(
        method="POST",
        path="/v1/templates/{id}/enable",
        name="enableTemplate",
        summary="Let a disabled template be used again; what the platform disabled, only the platform enables.",
        reach=Reach.ANY,
        permission=_WRITE,
        gives=TemplateStory,
        codes=(Code.REQUEST_CONFLICT,),
        ids="integer",
        manages=enable,
    ),
    Route(
        method="DELETE",
        path="/v1/templates/{id}/texts/{language}",
        name="dropTemplateText",
        summary="Offer a further language no more.",
        reach=Reach.ANY,
        permission=_WRITE,
        gives=TemplateStory,
        ids="text",
        manages=drop_text,
    ),
    Route(
        method="GET",
        path="/v1/templates/{id}/versions",
        name="listTemplateVersions",
        summary="List the versions of a template, the newest first.",
        reach=Reach.ANY,
        permission=_READ,
        query=AskedVersions,
        gives=TemplateVersionPage,
        codes=QUERY,
        ids="integer",
        manages=list_versions,
    ),
    Route(
        method="POST",
        path="/v1/templates/{id}/versions",
        name="createTemplateVersion",
        summary="Propose another text, in any language, or an earlier one again; the live one stays until it is approved.",
        reach=Reach.ANY,
        permission=_WRITE,
        body=AskedTemplateVersion,
        example={"body": "您的快递${number}已到${place},凭取件码取件", "language": "zh"},
        gives=TemplateVersion,
        status=201,
        codes=_TEXT,
        ids="integer",
        manages=propose_version,
    ),
    Route(
        method="PATCH",
        path="/v1/templates/{id}/versions/{number}",
        name="changeTemplateVersion",
        summary="Write a draft anew.",
        reach=Reach.ANY,
        permission=_WRITE,
        body=AskedTemplateText,
        example={"body": "您的快递${number}已到${place}"},
        gives=TemplateVersion,
        codes=_TEXT,
        ids="integer",
        manages=change_version,
    ),
    Route(
        method="POST",
        path="/v1/templates/{id}/versions/{number}/submit",
        name="submitTemplateVersion",
        summary="Hand a draft in for review.",
        reach=Reach.ANY,
        permission=_WRITE,
        gives=TemplateVersion,
        codes=(Code.TEMPLATE_UNSOUND, Code.CONTENT_MISSING_UNSUBSCRIBE, Code.REQUEST_CONFLICT),
        ids="integer",
        manages=submit,
    ),
    Route(
        method="POST",
        path="/v1/templates/{id}/versions/{number}/withdraw",
        name="withdrawTemplateVersion",
        summary="Take back a draft or what is under review.",
        reach=Reach.ANY,
        permission=_WRITE,
        gives=TemplateVersion,
        codes=(Code.REQUEST_CONFLICT,),
        ids="integer",
        manages=withdraw,
    ),
    Route(
        method="GET",
        path="/v1/templates/{id}/feasibility",
        name="getTemplateFeasibility",
        summary="Say which channels could carry a template to each operator or country, and what is against the others.",
        reach=Reach.ANY,
        permission=_READ,
        query=AskedFeasibility,
        gives=Feasibility,
        codes=(*QUERY, Code.SIGN_NOT_FOUND),
        ids="integer",
        manages=feasible,
    ),
)
