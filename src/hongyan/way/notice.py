"""What an app is told: one event a notice, batches of them as a body, and the MAC that proves it is ours.

Writes nothing, asks nobody. Entry points: event_of(), origin_of(), body_of(), mac_of(). Surprising: numbers and texts are
unsealed only here, at the last moment; what cannot be unsealed any more (erased) is told without them.
"""

import hmac
import uuid
from collections.abc import Iterable
from datetime import datetime

import msgspec

from hongyan.vault import Vault, VaultError
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.message import STATUS_BY_NUMBER, AppId, TenantId

STATUS, CORRECTION, INBOUND = 1, 2, 3  # notice.kind
_EVENTS = ("", "status", "correction", "inbound")
# Plain words: msgspec writes them faster than members of an enum.
_STATUSES = tuple(STATUS_BY_NUMBER[number].value for number in range(len(STATUS_BY_NUMBER)))
_CAUSES = tuple(cause.value for cause in CAUSES)
_UNKNOWN = Cause.UNKNOWN.value  # also for a cause that a newer version of this program has written


class Owed(msgspec.Struct, frozen=True, gc=False):
    """A notice with all that is told in it. The fields stand in the order of notify's columns.

    Of an inbound, `message_id` is its own id, `at` when it came, and the last three fields are meant.
    """

    id: int
    tenant_id: TenantId
    app_id: AppId
    kind: int
    message_id: uuid.UUID
    status: int
    cause: int
    code: str
    at: datetime
    attempt: int  # POSTs that failed so far
    reference: str | None
    part_count: int
    price_micro: int  # after refunds
    sealed: bytes | None
    access_number: str = ""
    answers: uuid.UUID | None = None  # the message it answers, where that is known
    opt_out: bool = False


class StatusEvent(msgspec.Struct, frozen=True, gc=False):
    """A final status, or its correction. Readers may rely on `message_id` standing before `status`."""

    event: str
    message_id: uuid.UUID
    status: str
    cause: str
    upstream_code: str
    to: str | None  # E.164; null once the person was erased
    reference: str | None
    parts: int
    price_micro: int
    at: datetime
    corrected: bool


class InboundEvent(msgspec.Struct, frozen=True, gc=False):
    """What a person texted back. `answers` is the message it most likely answers."""

    event: str
    message_id: uuid.UUID
    number: str | None = msgspec.field(name="from")
    to: str
    text: str | None
    answers: uuid.UUID | None
    opt_out: bool
    at: datetime


Event = StatusEvent | InboundEvent


class _Body(msgspec.Struct, frozen=True):
    events: list[Event]


class _Sealed(msgspec.Struct, array_like=True, frozen=True):
    """What message.sealed holds. Only what is read is built."""

    number: str
    text: msgspec.Raw
    params: msgspec.Raw
    origin: bytes = b""


_encode = msgspec.json.Encoder().encode

_decode_message = msgspec.msgpack.Decoder(_Sealed).decode
_decode_inbound = msgspec.msgpack.Decoder(tuple[str, str]).decode
# The tenant's key was shredded, or the value is damaged (ValueError: too short for a nonce): one such notice
# must not hold up a batch for ever.
_UNREADABLE = (VaultError, ValueError, msgspec.DecodeError)


def event_of(vault: Vault, owed: Owed) -> Event:
    """Return what is told in one notice."""
    if owed.kind == INBOUND:
        number, text = _inbound(vault, owed)
        return InboundEvent(
            event=_EVENTS[INBOUND],
            message_id=owed.message_id,
            number=number,
            to=owed.access_number,
            text=text,
            answers=owed.answers,
            opt_out=owed.opt_out,
            at=owed.at,
        )
    sealed = _message(vault, owed)
    return StatusEvent(
        _EVENTS[owed.kind],
        owed.message_id,
        _STATUSES[owed.status],
        _CAUSES[owed.cause] if owed.cause < len(_CAUSES) else _UNKNOWN,
        owed.code,
        None if sealed is None else sealed.number,
        owed.reference,
        owed.part_count,
        owed.price_micro,
        owed.at,
        owed.kind == CORRECTION,
    )


def _message(vault: Vault, owed: Owed) -> _Sealed | None:
    if owed.sealed is None:
        return None
    try:
        return _decode_message(vault.unseal(owed.tenant_id, owed.sealed))
    except _UNREADABLE:
        return None


def origin_of(vault: Vault, owed: Owed) -> bytes:
    """Return the origin that a message's door gave it (way.accept); empty where it gave none, and once erased."""
    sealed = _message(vault, owed)
    return b"" if sealed is None else sealed.origin


def _inbound(vault: Vault, owed: Owed) -> tuple[str, str] | tuple[None, None]:
    if owed.sealed is None:
        return None, None
    try:
        return _decode_inbound(vault.unseal(owed.tenant_id, owed.sealed))
    except _UNREADABLE:
        return None, None


def body_of(vault: Vault, batch: Iterable[Owed]) -> bytes:
    """Return the JSON of one POST, without blanks."""
    return _encode(_Body([event_of(vault, owed) for owed in batch]))


def mac_of(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the Hongyan-Mac header: `v1=`, then HMAC-SHA256 over timestamp, ".", body in lower-case hex."""
    return "v1=" + hmac.digest(secret, b"%b.%b" % (timestamp.encode(), body), "sha256").hex()
