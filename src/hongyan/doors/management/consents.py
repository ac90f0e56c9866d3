"""Consents: recorded with their evidence, taken back, listed, and all that one person said."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from hongyan.control import consents
from hongyan.control.consents import ConsentAbout, Consented, ConsentRow
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code, Refusal
from hongyan.way import optout
from hongyan.way.consent import PROMOTIONAL

Number = Annotated[str, Meta(min_length=1, max_length=40, description="E.164 or national.")]
Moment = Annotated[datetime, Meta(tz=True)]
Word = Annotated[str, Meta(max_length=32)]


class AskedConsent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A word of a person, and what shows that it was said."""

    number: Number
    scope: Annotated[Word, Meta(description="What for; * for everything.")] = PROMOTIONAL
    source: Annotated[Word, Meta(description="Where it was said: form, paper, shop, …")] = "api"
    at: Annotated[Moment, Meta(description="When it was said; none: now.")] | None = None
    text_version: Annotated[str, Meta(max_length=64, description="Which wording was shown.")] = ""
    text: Annotated[str, Meta(max_length=consents.TEXT_CHARACTERS_MAX, description="The wording.")] = ""
    address: Annotated[str, Meta(max_length=45, description="IP address it came from.")] = ""
    page_sha256: Annotated[str, Meta(max_length=64)] = ""
    screenshot_sha256: Annotated[str, Meta(max_length=64)] = ""
    evidence: Annotated[
        dict[Annotated[str, Meta(max_length=64)], Any],
        Meta(max_length=100, description="Anything else, at most 4 KiB of JSON."),
    ] = {}


class AskedConsents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words of persons, at most 1,000."""

    items: Annotated[list[AskedConsent], Meta(min_length=1, max_length=consents.ROWS_MAX)]


class AskedConsentsOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which person."""

    number: Number


class RowOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one row: its id, or the code and why it was not kept."""

    id: int | None = None
    code: str = ""
    detail: dict[str, Any] = {}


class RowOutcomes(msgspec.Struct, frozen=True):
    """What became of each, in the order they came."""

    items: list[RowOutcome]


class AskedConsentPage(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A page of consents and withdrawals."""


class ConsentPage(msgspec.Struct, frozen=True):
    """The newest first; number null once the person was erased."""

    items: list[ConsentRow]
    next: str | None = None


async def record(call: Call) -> RowOutcomes:
    outcomes = await consents.record_many(call.tx, call.door.vault, call.tenant, _rows(call))
    return _kept(call, outcomes)


async def withdraw(call: Call) -> RowOutcomes:
    async with call.door.database.transaction() as tx:
        outcomes, stopped = await consents.withdraw(tx, call.door.vault, call.tenant, _rows(call))
        kept = _kept(call, outcomes)
        await call.record(tx)
    await optout.tell(call.door.database, stopped)
    return kept


def _rows(call: Call) -> list[Consented]:
    asked = call.body(AskedConsents)
    return [Consented(**{name: getattr(row, name) for name in row.__struct_fields__}) for row in asked.items]


def _kept(call: Call, outcomes: Sequence[int | Refusal]) -> RowOutcomes:
    ids = [outcome for outcome in outcomes if not isinstance(outcome, Refusal)]
    subject = f"consent:{ids[0]}" if len(ids) == 1 else "consents"
    call.note(subject, kept=len(ids), refused=len(outcomes) - len(ids))
    return RowOutcomes([_line(outcome) for outcome in outcomes])


def _line(outcome: int | Refusal) -> RowOutcome:
    if isinstance(outcome, Refusal):
        return RowOutcome(code=outcome.code.value.name, detail=outcome.detail)
    return RowOutcome(id=outcome)


async def listed(call: Call) -> ConsentPage:
    asked = call.query(AskedConsentPage)
    rows = await consents.page(call.tx, call.door.vault, call.tenant, paging.before(asked), asked.limit)
    return ConsentPage(list(rows), paging.following(rows, asked))


async def about(call: Call) -> ConsentAbout:
    return await consents.about(call.tx, call.door.vault, call.tenant, call.query(AskedConsentsOf).number)


EXAMPLE: Final = {
    "items": [
        {
            "number": "+8613800138000",
            "source": "form",
            "at": "2026-03-01T09:30:00+08:00",
            "text_version": "2026-02",
            "text": "我同意接收每月不超过4条的优惠短信,可随时回复R退订",
            "address": "203.0.113.7",
        }
    ]
}
ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/consents",
        name="recordConsents",
        summary="Record that persons consented, with the evidence; at most 1,000 at once.",
        reach=Reach.TENANT,
        permission=Permission.CONSENTS_WRITE,
        body=AskedConsents,
        example=EXAMPLE,
        gives=RowOutcomes,
        status=201,
        codes=BODY,
        line_codes=(Code.NUMBER_INVALID, Code.REQUEST_INVALID_PARAMETER),
        changes=False,
        manages=record,
    ),
    Route(
        method="POST",
        path="/v1/consents/withdraw",
        name="withdrawConsents",
        summary="Record that persons took their consent back; for promotions they are opted out as well.",
        reach=Reach.TENANT,
        permission=Permission.CONSENTS_WRITE,
        body=AskedConsents,
        example={"items": [{"number": "+8613800138000", "scope": "*", "source": "hotline"}]},
        gives=RowOutcomes,
        status=201,
        codes=BODY,
        line_codes=(Code.NUMBER_INVALID, Code.REQUEST_INVALID_PARAMETER),
        changes=False,
        own_transactions=True,
        manages=withdraw,
    ),
    Route(
        method="GET",
        path="/v1/consents",
        name="listConsents",
        summary="List consents and withdrawals, the newest first, numbers masked.",
        reach=Reach.TENANT,
        permission=Permission.CONSENTS_READ,
        query=AskedConsentPage,
        gives=ConsentPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="GET",
        path="/v1/consents/about",
        name="getConsentsOfNumber",
        summary="Tell what one person consented to, what holds now, and the evidence.",
        reach=Reach.TENANT,
        permission=Permission.CONSENTS_READ,
        query=AskedConsentsOf,
        gives=ConsentAbout,
        codes=(*QUERY, Code.NUMBER_INVALID),
        manages=about,
    ),
)
