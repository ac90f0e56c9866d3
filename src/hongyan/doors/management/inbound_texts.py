"""Texts from handsets, for people to read and search. Programs pull them, or follow GET /v1/inbound."""

from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from hongyan.control import inbound_texts
from hongyan.control.consents import index_of
from hongyan.control.inbound_texts import LAST_ID, InboundText, Wanted
from hongyan.control.permissions import Permission
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.management.consents import Moment, Number
from hongyan.doors.route import QUERY, Reach, Route
from hongyan.doors.search import shown
from hongyan.vocab.errors import Code, Refusal

LIMIT_MAX: Final = 200
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)  # beyond, offsets leave the calendar
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)  # ids count from then


class AskedInboundTexts(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={"since": "from", "until": "to"},
):
    """Which texts; all that is said must hold."""

    number: Number | None = None
    message_id: Annotated[UUID, Meta(description="What answers this message.")] | None = None
    app_id: Annotated[int, Meta(ge=1, le=INT_MAX)] | None = None
    opt_out: Annotated[bool, Meta(description="Only stops, or only others.")] | None = None
    since: Moment | None = None
    until: Moment | None = None
    cursor: Annotated[str, Meta(max_length=40, description="`next` of the page before.")] = ""
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = 50


class InboundTextPage(msgspec.Struct, frozen=True):
    """The newest first."""

    items: list[InboundText]
    next: str | None = None


async def listed(call: Call) -> InboundTextPage:
    asked = call.query(AskedInboundTexts)
    wanted = Wanted(
        phone_index=None if asked.number is None else index_of(call.door.vault, asked.number)[1],
        message_id=asked.message_id,
        app_id=asked.app_id,
        opt_out=asked.opt_out,
        since=_within(asked.since, "from"),
        until=_within(asked.until, "to"),
        before=_before(asked.cursor),
    )
    rows = await inbound_texts.page(call.tx, call.door.vault, call.tenant_id, wanted, asked.limit)
    following = str(rows[-1].id) if len(rows) == asked.limit else None
    return InboundTextPage([shown(call.caller, row) for row in rows], following)


def _within(at: datetime | None, name: str) -> datetime | None:
    if at is not None and not EARLIEST <= at < LATEST:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER,
            parameter=name,
            reason=f"between {EARLIEST:%Y} and {LATEST:%Y}",
        )
    return at


def _before(cursor: str) -> UUID:
    try:
        return UUID(cursor) if cursor else LAST_ID
    except ValueError:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="cursor", reason="as `next` has it") from None


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/inbound-texts",
        name="listInboundTexts",
        summary="List what persons texted, the newest first, with names; by number, app, message and time.",
        reach=Reach.ANY,
        permission=Permission.MESSAGES_READ,
        query=AskedInboundTexts,
        gives=InboundTextPage,
        codes=(*QUERY, Code.NUMBER_INVALID),
        manages=listed,
    ),
)
