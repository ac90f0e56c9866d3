"""Sending one message in the name of an app, as a person who is signed in, and looking at it before."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan import clock
from hongyan.control import keys, tenants
from hongyan.control.permissions import Permission
from hongyan.doors import messages
from hongyan.doors.call import Call
from hongyan.doors.messages import HASH_OCTETS, MESSAGE, MESSAGE_EXAMPLE, AskedMessage, Promised
from hongyan.doors.route import BODY, Reach, Route
from hongyan.observe import masked_number
from hongyan.vocab import phone
from hongyan.vocab import text as texts
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId, Purpose
from hongyan.way import guard
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


class MessagePreview(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it would leave now. `units`: characters as they are charged; a part holds `part_units` of them."""

    text: str
    purpose: Purpose
    encoding: texts.Encoding
    units: int
    part_units: int
    part_count: int
    price_micro: int
    currency: str
    country: str
    operator: str
    province: str
    send_at: (
        datetime | None
    )  # when it would leave, where that is later: it was asked so, or its hours are over
    held: bool  # a person would decide first, because of a word in it


async def preview(call: Call) -> MessagePreview:
    """Ask the rules that need no look at the person: what would leave, and what it would cost. Stores nothing."""
    asked, door = call.body(AskedAppMessage), call.door
    if call.caller.key is not None:
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="for people")
    async with door.database.transaction() as tx:
        await tenants.demand_app(tx, call.tenant, AppId(call.number()))
    snapshot = door.snapshots.current
    key = keys.of_app(snapshot, call.tenant, call.number(), sandbox=asked.sandbox)
    cleared = guard.check(asked, key, snapshot, door.settings, clock.now_s())
    text, place = cleared.wording.text, cleared.place
    mainland = cleared.number.country == phone.MAINLAND
    counted = texts.count(text, texts.Counting.MAINLAND if mainland else texts.Counting.INTERNATIONAL)
    return MessagePreview(
        text=text,
        purpose=cleared.wording.purpose,
        encoding=counted.encoding,
        units=counted.units,
        part_units=counted.limit,
        part_count=cleared.part_count,
        price_micro=cleared.price_micro,
        currency=key.tenant.currency,
        country=place.country,
        operator=place.operator,
        province=place.province,
        send_at=datetime.fromtimestamp(cleared.due_at_s, UTC) if cleared.due_at_s else None,
        held=bool(cleared.held),
    )


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/apps/{id}/messages/preview",
        name="previewAppMessage",
        summary="Show a message as it would leave: text, parts, price, or why it would be refused. Stores nothing.",
        reach=Reach.TENANT,
        permission=Permission.MESSAGES_SEND,
        body=AskedAppMessage,
        example={**MESSAGE_EXAMPLE, "sandbox": False},
        gives=MessagePreview,
        codes=(*BODY, *MESSAGE),
        ids="integer",
        changes=False,
        own_transactions=True,
        manages=preview,
    ),
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
