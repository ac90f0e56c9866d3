"""Verifications looked up: one with its story, many by what is known of them, and how far people come.

Entry points: find(), search(), funnel(); ROUTES. The reading is otp/lookup.py's and otp/funnel.py's. Programs see numbers masked
here as well as people: a number that was proved is told once, to whoever redeems the proof.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control.permissions import Permission
from hongyan.doors.call import INT_MAX, Caller
from hongyan.doors.door import Door
from hongyan.doors.exchange import Asked
from hongyan.doors.question import read_query, said_as
from hongyan.doors.route import QUERY, Reach, Route
from hongyan.otp import funnel as funnels
from hongyan.otp import lookup
from hongyan.otp.funnel import Funnel, FunnelBy, FunnelGroup
from hongyan.otp.lookup import VerificationPage, VerificationStory
from hongyan.vocab import phone
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.verification import Scene, State

Moment = Annotated[datetime, Meta(tz=True)]
Word = Annotated[str, Meta(max_length=64)]


class AskedVerifications(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of the verifications looked for; what is not said does not matter."""

    number: Annotated[str, Meta(max_length=40)] | None = None
    scene: Scene | None = None
    status: State | None = None
    app_id: Annotated[int, Meta(ge=1, le=INT_MAX)] | None = None
    reference: Word | None = None
    since: Moment | None = msgspec.field(default=None, name="from")
    until: Moment | None = msgspec.field(default=None, name="to")
    cursor: Annotated[
        uuid.UUID | None, Meta(description="`next_cursor` of the page before; none: the first page.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class AskedFunnel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to count: how time is cut, what rows are told apart by, and what is left out."""

    by: FunnelBy = FunnelBy.NONE
    group: tuple[FunnelGroup, ...] = ()
    since: Moment | None = msgspec.field(default=None, name="from")
    until: Moment | None = msgspec.field(default=None, name="to")
    zone: Annotated[str, Meta(max_length=64, description="IANA name; decides where days begin")] = "UTC"
    app: tuple[Annotated[int, Meta(ge=1, le=INT_MAX)], ...] = ()
    scene: tuple[Scene, ...] = ()
    country: tuple[Word, ...] = ()
    operator: tuple[Word, ...] = ()


async def find(door: Door, caller: Caller, _asked: Asked, path: Mapping[str, str]) -> VerificationStory:
    """Tell all that is known of one verification."""
    try:
        wanted = uuid.UUID(path["id"])
    except ValueError:
        raise Refusal(Code.VERIFY_NOT_FOUND) from None
    async with door.database.transaction() as tx:
        return await lookup.one(
            tx, door.snapshots.current, door.vault, caller.tenant, wanted, door.issuer.now_s()
        )


async def search(door: Door, caller: Caller, asked: Asked, _path: Mapping[str, str]) -> VerificationPage:
    """List verifications, the newest first."""
    wanted = read_query(asked.query, AskedVerifications)
    question = lookup.Question(
        number=_e164(wanted.number),
        scene=wanted.scene,
        status=wanted.status,
        app_id=wanted.app_id,
        reference=wanted.reference,
        created_from=wanted.since,
        created_to=wanted.until,
        before=wanted.cursor,
        limit=wanted.limit,
    )
    with said_as({"created_from": "from"}):
        async with door.database.transaction() as tx:
            return await lookup.search(tx, door.vault, caller.tenant, question, door.issuer.now_s())


def _e164(number: str | None) -> str | None:
    if number is None:
        return None
    try:
        # In a query string '+' is a space, and few callers know.
        return phone.parse(f"+{number[1:]}" if number.startswith(" ") else number).e164
    except phone.BadNumber as error:
        raise Refusal(Code.NUMBER_INVALID, reason=error.fault) from error


async def funnel(door: Door, caller: Caller, asked: Asked, _path: Mapping[str, str]) -> Funnel:
    """Count how far people came; for people of the platform, everybody's."""
    wanted = read_query(asked.query, AskedFunnel)
    question = funnels.Question(
        by=wanted.by,
        groups=wanted.group,
        counted_from=wanted.since,
        counted_to=wanted.until,
        zone=wanted.zone,
        app_ids=wanted.app,
        scenes=wanted.scene,
        countries=wanted.country,
        operators=wanted.operator,
    )
    with said_as(_NAMES):
        async with door.database.transaction() as tx:
            return await funnels.read(tx, door.snapshots.current, caller.tenant_id, question)


_NAMES: Final = {
    "counted_from": "from",
    "app_ids": "app",
    "scenes": "scene",
    "countries": "country",
    "operators": "operator",
}
ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/verifications",
        name="searchVerifications",
        reach=Reach.TENANT,
        permission=Permission.MESSAGES_READ,
        summary="Find verifications by number, scene, state, app, reference or time, the newest first.",
        query=AskedVerifications,
        gives=VerificationPage,
        codes=(*QUERY, Code.NUMBER_INVALID),
        tells=search,
    ),
    Route(
        method="GET",
        path="/v1/verifications/funnel",
        name="getVerificationFunnel",
        reach=Reach.ANY,
        permission=Permission.STATISTICS_READ,
        summary="Count how far people came who were asked to prove a number, and how long it took.",
        query=AskedFunnel,
        gives=Funnel,
        codes=QUERY,
        tells=funnel,
    ),
    Route(
        method="GET",
        path="/v1/verifications/{id}",
        name="getVerification",
        reach=Reach.TENANT,
        permission=Permission.MESSAGES_READ,
        summary="Look up one verification: its state, tries and sends, and what became of its messages.",
        gives=VerificationStory,
        codes=(Code.VERIFY_NOT_FOUND,),
        tells=find,
    ),
)
