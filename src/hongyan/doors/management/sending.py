"""Sending one message in the name of an app, as a person who is signed in."""

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control import keys, tenants
from hongyan.control.permissions import Permission
from hongyan.doors import messages
from hongyan.doors.call import Call
from hongyan.doors.messages import HASH_OCTETS, MESSAGE, MESSAGE_EXAMPLE, AskedMessage, Promised
from hongyan.doors.route import BODY, Reach, Route
from hongyan.observe import masked_number
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId
from hongyan.way.accept import Idempotency, Outcome
from hongyan.way.snapshot import Key


class AskedAppMessage(AskedMessage, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One message as a person asks for it: a template with its variables."""

    sandbox: Annotated[bool, Meta(description="Try it out: only to sandbox numbers, which are nobody's.")] = (
        False
    )


async def send(call: Call) -> Promised:
    """Send one message. The audit knows of it before it is accepted, so that none is sent that it does not know."""
    asked = call.body(AskedAppMessage)
    if call.caller.key is not None:
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="for people; a program asks POST /v1/messages")
    app_id, door = AppId(call.number()), call.door
    async with door.database.transaction() as tx:
        await tenants.demand_app(tx, call.tenant, app_id)
        call.note(f"app:{app_id}", to=masked_number(asked.to), template=asked.template, sandbox=asked.sandbox)
        await call.record(tx)
    key = keys.of_app(door.snapshots.current, call.tenant, app_id, sandbox=asked.sandbox)
    outcome = await _accepted(call, key, asked)
    if isinstance(outcome, Refusal):
        raise outcome
    return messages.promised(key, asked, outcome)


async def _accepted(call: Call, key: Key, asked: AskedAppMessage) -> Outcome:
    heard: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def done(outcomes: Sequence[Outcome]) -> None:
        if not heard.done():
            heard.set_result(outcomes[0])

    call.door.acceptor.offer(key, [asked], _idempotency(call, key), done)
    async with asyncio.timeout(call.door.settings.accept_wait_s):
        return await heard


def _idempotency(call: Call, key: Key) -> Idempotency | None:
    """Return what stands for an Idempotency-Key: a person's own, because people have no key's number between them."""
    if call.asked.idempotency_key is None:
        return None
    given = messages.idempotency_of(call.asked, call.asked.idempotency_key)
    whose = b"%d.%d." % (key.app_id, call.caller.user_id)
    return msgspec.structs.replace(given, key=blake2b(whose + given.key, digest_size=HASH_OCTETS).digest())


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/apps/{id}/messages",
        name="sendAppMessage",
        summary="Send one message in the name of an app, as a person; templates only.",
        reach=Reach.TENANT,
        permission=Permission.MESSAGES_SEND,
        status=202,
        body=AskedAppMessage,
        example={**MESSAGE_EXAMPLE, "sandbox": False},
        gives=Promised,
        codes=(*BODY, Code.REQUEST_IDEMPOTENCY_CONFLICT, *MESSAGE),
        ids="integer",
        idempotent=True,
        changes=False,
        own_transactions=True,
        manages=send,
    ),
)
