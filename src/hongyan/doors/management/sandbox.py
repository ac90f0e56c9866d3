"""The sandbox's phone: somebody answers a message that arrived on it, and it comes in as what people text."""

from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from hongyan import clock
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.route import BODY, Reach, Route
from hongyan.doors.search import shown
from hongyan.vocab.errors import Code, Refusal
from hongyan.way import lookup, sandbox

REPLY_CHARACTERS_MAX: Final = 670  # ten parts of UCS-2


class AskedReply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the phone answers, to which message that arrived on it."""

    message_id: UUID
    text: Annotated[str, Meta(min_length=1, max_length=REPLY_CHARACTERS_MAX)]


async def reply(call: Call) -> lookup.Letter:
    """Take in a text from a sandbox number, by the way that people's texts take."""
    asked, door = call.body(AskedReply), call.door
    async with door.database.transaction() as tx:
        snapshot = door.snapshots.current
        sent = await sandbox.texted(
            tx, snapshot, door.vault, call.tenant, asked.message_id, asked.text, clock.now()
        )
        call.note(f"message:{asked.message_id}", app_id=sent.answers.app_id)
        await call.record(tx)
    if not await door.texted(*sent):
        raise Refusal(Code.SYSTEM_BUSY, retry_after_s=1.0)
    async with door.database.transaction() as tx:
        letter = await sandbox.heard(tx, door.vault, sent)
    if letter is None:
        raise Refusal(Code.REQUEST_NOT_FOUND, parameter="message_id")
    return shown(call.caller, letter)


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sandbox/replies",
        name="replyFromSandbox",
        summary="Answer a sandbox message that was delivered, as the person would: the text comes in like any other.",
        reach=Reach.TENANT,
        permission=Permission.MESSAGES_SEND,
        status=201,
        body=AskedReply,
        example={"message_id": "019b0000-0000-7000-8000-000000000000", "text": "退订"},
        gives=lookup.Letter,
        codes=(*BODY, Code.REQUEST_CONFLICT, Code.NUMBER_TEST_ONLY),
        changes=False,
        own_transactions=True,
        manages=reply,
    ),
)
