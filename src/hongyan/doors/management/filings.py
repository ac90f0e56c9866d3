"""Filings of signatures at the operators: tenants see how far they are, people of the platform say it."""

from datetime import date, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control import filing_answers, filings
from hongyan.control.filing_answers import AnswerTaken
from hongyan.control.filings import FilingReason, FilingRow, FilingState, FilingStep
from hongyan.control.permissions import Permission
from hongyan.doors.call import INT_MAX, Call, detail_of
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code, Refusal

OPERATORS: Final = ", ".join(filings.OPERATORS)


class AskedFiling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a filing is. All of it is set: what is left out is not known, but for `filed_at`."""

    state: FilingState
    reason_code: Annotated[FilingReason | None, Meta(description="Why it failed or lapsed.")] = None
    reason: Annotated[
        str, Meta(max_length=filings.REASON_CHARACTERS_MAX, description="The operator's own words.")
    ] = ""
    document_id: Annotated[
        Annotated[int, Meta(ge=1, le=INT_MAX)] | None, Meta(description="The operator's answer, uploaded.")
    ] = None
    filed_at: Annotated[datetime, Meta(tz=True)] | None = None
    valid_until: Annotated[
        date | None, Meta(description="The last day, in China; none: no end is known.")
    ] = None


class AskedFilings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which filings; those nobody has begun are not listed."""

    state: FilingState | None = None
    operator: Annotated[str, Meta(max_length=40, description=f"One of {OPERATORS}.")] = ""
    until: Annotated[date | None, Meta(description="Only those that end by this day.")] = None
    cursor: Annotated[
        str, Meta(max_length=60, description="`next` of the page before; none: the first page.")
    ] = ""
    limit: Annotated[int, Meta(ge=1, le=filings.PAGE_MAX, description="Rows of a page.")] = 100


class AskedAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose answer it is."""

    operator: Annotated[str, Meta(min_length=1, max_length=40, description=f"One of {OPERATORS}.")]


class FilingPage(msgspec.Struct, frozen=True):
    items: list[FilingRow]
    next: str | None = None


class Filings(msgspec.Struct, frozen=True):
    items: list[FilingRow]  # one for each operator


class FilingStory(msgspec.Struct, frozen=True):
    """A filing, and what was done about it, the newest first."""

    filing: FilingRow
    steps: list[FilingStep]


async def listed(call: Call) -> FilingPage:
    asked = call.query(AskedFilings)
    if asked.operator:
        filings.demand_operator(asked.operator)
    rows = await filings.page(
        call.tx,
        call.tenant_id,
        state=asked.state,
        operator=asked.operator,
        until=asked.until,
        after=_after(asked.cursor),
        limit=asked.limit,
    )
    full = len(rows) == asked.limit
    return FilingPage(list(rows), f"{rows[-1].signature_id}.{rows[-1].operator}" if full else None)


def _after(cursor: str) -> tuple[int, str]:
    if not cursor:
        return 0, ""
    number, _, operator = cursor.partition(".")
    if not (number.isascii() and number.isdigit()) or int(number) > INT_MAX or not operator.isalnum():
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="cursor", reason="as `next` of an answer has it"
        )
    return int(number), operator


async def of(call: Call) -> Filings:
    return Filings(list(await filings.of(call.tx, call.number(), call.tenant_id)))


async def get(call: Call) -> FilingStory:
    return await _story(call, call.number(), call.path["operator"])


async def put(call: Call) -> FilingStory:
    asked, number, operator = call.body(AskedFiling), call.number(), call.path["operator"]
    await filings.put(
        call.tx,
        number,
        operator,
        asked.state,
        who=call.caller.name,
        reason_code=asked.reason_code,
        reason=asked.reason,
        document_id=asked.document_id,
        filed_at=asked.filed_at,
        valid_until=asked.valid_until,
    )
    call.note(f"signature:{number}", operator=operator, **detail_of(asked))
    return await _story(call, number, operator)


async def bring(call: Call) -> AnswerTaken:
    """Each line is taken or left out alone."""
    asked = call.query(AskedAnswer)
    octets = bytearray()
    async for chunk in call.chunks():
        octets += chunk
        if len(octets) > filing_answers.OCTETS_MAX:
            raise Refusal(Code.REQUEST_TOO_LARGE, octets_max=filing_answers.OCTETS_MAX)
    lines = filing_answers.read_csv(bytes(octets))
    async with call.door.database.transaction() as tx:
        taken = await filing_answers.take(tx, asked.operator, lines, who=call.caller.name)
        call.note(f"filings:{asked.operator}", taken=taken.taken, left_out=taken.left_out)
        await call.record(tx)
    return taken


async def _story(call: Call, number: int, operator: str) -> FilingStory:
    filings.demand_operator(operator)
    (row,) = await filings.of(call.tx, number, call.tenant_id, (operator,))
    return FilingStory(row, list(await filings.steps(call.tx, number, operator)))


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/filings",
        name="listFilings",
        summary="List filings that were begun, by state, operator or the day they end.",
        reach=Reach.ANY,
        permission=Permission.WORDING_READ,
        query=AskedFilings,
        gives=FilingPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="GET",
        path="/v1/signatures/{id}/filings",
        name="listSignatureFilings",
        summary="List a signature's filings, one for each operator of the mainland.",
        reach=Reach.ANY,
        permission=Permission.WORDING_READ,
        gives=Filings,
        ids="integer",
        manages=of,
    ),
    Route(
        method="GET",
        path="/v1/signatures/{id}/filings/{operator}",
        name="getFiling",
        summary="Look at one filing and what was done about it.",
        reach=Reach.ANY,
        permission=Permission.WORDING_READ,
        gives=FilingStory,
        ids="text",
        manages=get,
    ),
    Route(
        method="PUT",
        path="/v1/signatures/{id}/filings/{operator}",
        name="putFiling",
        summary="Say how far a signature's filing is at an operator.",
        reach=Reach.PLATFORM,
        permission=Permission.FILINGS_WRITE,
        body=AskedFiling,
        example={"state": "ok", "valid_until": "2027-03-01"},
        gives=FilingStory,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        ids="text",
        manages=put,
    ),
    Route(
        method="POST",
        path="/v1/filings/import",
        name="importFilings",
        summary="Take an operator's answer as a CSV; each line is taken or left out alone.",
        reach=Reach.PLATFORM,
        permission=Permission.FILINGS_WRITE,
        query=AskedAnswer,
        gives=AnswerTaken,
        codes=(Code.REQUEST_MISSING_PARAMETER, Code.REQUEST_TOO_LARGE, Code.REQUEST_UNSUPPORTED_FILE),
        file=True,
        file_kinds=("text/csv",),
        own_transactions=True,
        manages=bring,
    ),
)
