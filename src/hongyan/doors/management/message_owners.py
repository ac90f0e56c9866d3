"""Whose a message is: for people of the platform who were given nothing but its id."""

from typing import Final

import msgspec

from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.route import Reach, Route
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way import lookup


class MessageOwner(msgspec.Struct, frozen=True):
    """The tenant a message belongs to."""

    tenant_id: TenantId


async def get(call: Call) -> MessageOwner:
    message_id = call.uuid()
    tenant_id = await lookup.owner(call.tx, message_id)
    if tenant_id is None:
        raise Refusal(Code.REQUEST_NOT_FOUND, id=str(message_id))
    return MessageOwner(tenant_id)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/messages/{id}/tenant",
        name="getMessageOwner",
        summary="Tell whose a message is.",
        reach=Reach.PLATFORM,
        permission=Permission.MESSAGES_READ,
        gives=MessageOwner,
        manages=get,
    ),
)
