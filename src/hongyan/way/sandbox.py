"""The sandbox's phone: which message somebody answers on it, and what became of the answer.

Writes nothing; the answer itself is stored by inbound.py, as what people text. Entry points: texted(), heard().
"""

import uuid
from datetime import datetime
from typing import LiteralString, NamedTuple

import msgspec

from hongyan import db
from hongyan.channels.channel import Inbound
from hongyan.vault import Vault, VaultError
from hongyan.vocab import phone
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import ChannelId, MessageId, Status, TenantId
from hongyan.way.inbound import Answered
from hongyan.way.lookup import Letter
from hongyan.way.snapshot import Snapshot


class Texted(NamedTuple):
    """A text as it comes from the phone: by which channel, and what it answers."""

    channel_id: ChannelId
    text: Inbound
    answers: Answered


MESSAGE_SQL: LiteralString = """
SELECT app_id, status, sandbox, channel_id, signature_id, extension, sealed FROM message
 WHERE tenant_id = $1 AND id = $2
"""


async def texted(
    tx: db.Tx,
    snapshot: Snapshot,
    vault: Vault,
    tenant_id: TenantId,
    message_id: uuid.UUID,
    text: str,
    at: datetime,
) -> Texted:
    """Make the text that answers a sandbox message of a tenant. Raises Refusal where there is none to answer."""
    row = await tx.fetchrow(MESSAGE_SQL, tenant_id, message_id)
    if row is None:
        raise Refusal(Code.REQUEST_NOT_FOUND, parameter="message_id")
    if not row["sandbox"]:
        raise Refusal(Code.NUMBER_TEST_ONLY, reason="only a sandbox message is answered here")
    if row["status"] != Status.DELIVERED.number:
        raise Refusal(Code.REQUEST_CONFLICT, reason="the message has not arrived on the phone")
    number = _number(vault, tenant_id, row["sealed"])
    channel = snapshot.channels.get(ChannelId(row["channel_id"]))
    if number is None or channel is None:
        raise Refusal(Code.REQUEST_CONFLICT, reason="its number is no longer known")
    digits = snapshot.extension_at(channel.id, row["signature_id"], row["extension"])
    return Texted(
        channel.id,
        Inbound(number, channel.access_number + digits, text, at.timestamp()),
        Answered(tenant_id, row["app_id"], message_id),
    )


_number_of = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_text_of = msgspec.msgpack.Decoder(str).decode


def _number(vault: Vault, tenant_id: TenantId, sealed: bytes | None) -> str | None:
    """Return the number of a message, if it is one of the sandbox's; None too once the person was erased."""
    if sealed is None:
        return None
    try:
        number = _text_of(_number_of(vault.unseal(tenant_id, sealed))[0])
        return None if phone.sandbox_outcome(phone.parse(number)) is None else number
    except (VaultError, phone.BadNumber):  # the tenant's key was shredded
        return None


# The newest of the person's texts that answers it; a phone has a handful.
HEARD_SQL: LiteralString = """
SELECT id, opt_out, came_at FROM inbound
 WHERE phone_index = $1 AND tenant_id = $2 AND message_id = $3 ORDER BY id DESC LIMIT 1
"""


async def heard(tx: db.Tx, vault: Vault, sent: Texted) -> Letter | None:
    """Tell what a stored text was understood as; None once the person was erased meanwhile."""
    text, answers = sent.text, sent.answers
    row = await tx.fetchrow(HEARD_SQL, vault.phone_index(text.number), answers.tenant_id, answers.message_id)
    if row is None:
        return None
    return Letter(
        id=row["id"],
        number=text.number,
        text=text.text,
        access_number=text.access_number,
        message_id=MessageId(answers.message_id),
        opt_out=row["opt_out"],
        came_at=row["came_at"],
    )
