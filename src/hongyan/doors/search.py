"""Look messages up: one with its whole story, many by what is known of them; take one back.

Entry points: find(), search(), cancel(), shown(). The reading is way/lookup.py's, the taking back way/cancel.py's.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from hongyan.control.inbound_texts import InboundText
from hongyan.doors.call import INT_MAX, Caller
from hongyan.doors.door import Door
from hongyan.doors.exchange import Asked
from hongyan.doors.question import read_query, said_as
from hongyan.observe import masked_number
from hongyan.vocab import phone
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, Purpose, Status
from hongyan.way import lookup
from hongyan.way.cancel import take_back

Row = TypeVar("Row", lookup.Brief, lookup.Story, lookup.Letter, InboundText)
Moment = Annotated[datetime, Meta(tz=True)]


class AskedSearch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of the messages looked for; what is not said does not matter."""

    number: Annotated[str, Meta(max_length=40)] | None = None
    reference: Annotated[str, Meta(max_length=64)] | None = None
    status: Status | None = None
    cause: Cause | None = None
    purpose: Purpose | None = None
    template: Annotated[str, Meta(max_length=64)] | None = None
    channel: Annotated[str, Meta(max_length=64, description="The last that reported, by name.")] | None = None
    app_id: Annotated[int, Meta(ge=1, le=INT_MAX)] | None = None
    since: Moment | None = msgspec.field(default=None, name="from")
    until: Moment | None = msgspec.field(default=None, name="to")
    cursor: Annotated[str, Meta(max_length=128)] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class Cancelled(msgspec.Struct, frozen=True):
    """A message that was taken back."""

    id: uuid.UUID
    status: Literal["cancelled"]


async def find(door: Door, caller: Caller, _asked: Asked, path: Mapping[str, str]) -> lookup.Story:
    """Tell all that is known of one message."""
    message_id = _message_id(path)
    async with door.database.transaction() as tx:
        story = await lookup.one(tx, door.snapshots.current, door.vault, caller.tenant, message_id)
    if story is None:
        raise Refusal(Code.REQUEST_NOT_FOUND)
    return shown(caller, story)


async def search(door: Door, caller: Caller, asked: Asked, _path: Mapping[str, str]) -> lookup.Page:
    """List messages, the newest first."""
    wanted = read_query(asked.query, AskedSearch)
    question = lookup.Question(
        number=_e164(wanted.number),
        reference=wanted.reference,
        status=wanted.status,
        cause=wanted.cause,
        purpose=wanted.purpose,
        template=wanted.template,
        channel=wanted.channel,
        app_id=wanted.app_id,
        created_from=wanted.since,
        created_to=wanted.until,
        cursor=wanted.cursor,
        limit=wanted.limit,
    )
    with said_as({"created_from": "from", "created_to": "to"}):
        async with door.database.transaction() as tx:
            page = await lookup.search(tx, door.snapshots.current, door.vault, caller.tenant, question)
    return lookup.Page([shown(caller, brief) for brief in page.items], page.next_cursor)


def shown(caller: Caller, row: Row) -> Row:
    """Return what a caller sees: programs a number whole, people masked. To see it whole they ask, which leaves a trace."""
    if caller.key is not None or row.number is None:
        return row
    return msgspec.structs.replace(row, number=masked_number(row.number))


async def cancel(door: Door, caller: Caller, _asked: Asked, path: Mapping[str, str]) -> Cancelled:
    """Take a message back that has not left."""
    message_id = _message_id(path)
    await take_back(door.database, caller.tenant, message_id)
    return Cancelled(message_id, "cancelled")


def _e164(number: str | None) -> str | None:
    if number is None:
        return None
    try:
        # In a query string '+' is a space, and few callers know.
        return phone.parse(f"+{number[1:]}" if number.startswith(" ") else number).e164
    except phone.BadNumber as error:
        raise Refusal(Code.NUMBER_INVALID, reason=error.fault) from error


def _message_id(path: Mapping[str, str]) -> MessageId:
    try:
        return MessageId(uuid.UUID(path["id"]))
    except ValueError:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="id", reason="not a UUID") from None
