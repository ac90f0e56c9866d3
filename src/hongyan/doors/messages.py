"""Messages: take one, take many. (What becomes of them later: search.py.)

Entry points: one() and batch(), which answer by a callback because they are the hot routes: hot.py calls them
straight from the socket, http.py from its router. The bounds of every field stand here, in the types, so that
the decoder checks them and the OpenAPI document shows them.
"""

import re
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hongyan.control.permissions import Permission
from hongyan.doors import exchange
from hongyan.doors.door import Door
from hongyan.doors.exchange import Asked, Then
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose
from hongyan.way.accept import Accepted, Draft, Idempotency, Outcome
from hongyan.way.snapshot import Key

# ─── what may be asked ────────────────────────────────────────────────────────────────────────────────────

BATCH_MAX: Final = 1_000
TEXT_CHARACTERS_MAX: Final = (
    2_000  # above every counting limit of way/guard.py, which gives the exact refusal
)
_PLAIN: Final = r"^[^\u0000-\u001f\u007f]*$"  # no control characters

Number = Annotated[
    str, Meta(min_length=1, max_length=40, description="E.164 (+8613…) or the mainland's national form")
]
Name = Annotated[str, Meta(max_length=64)]
Reference = Annotated[
    str, Meta(max_length=64, pattern=_PLAIN, description="Yours; returned and searchable, need not be unique")
]
Value = Annotated[str, Meta(max_length=1_000)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Params = Annotated[dict[Annotated[str, Meta(max_length=25)], Value], Meta(max_length=50)]


class AskedMessage(Draft, frozen=True, forbid_unknown_fields=True):
    """One message as a program asks for it: a template with its variables, or free text where the key may."""

    to: Number
    signature: Annotated[
        Name, Meta(description="The approved name, without 【】; empty: the template's own")
    ] = ""
    template: Annotated[Name, Meta(description="The template's code")] = ""
    params: Params = {}  # noqa: RUF012 - msgspec copies the default
    text: Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)] = ""
    purpose: Purpose | None = None
    send_at: (
        Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset; not before then")] | None
    ) = None
    validity_s: Annotated[int, Meta(ge=1, le=2_592_000)] | None = None
    reference: Reference = ""
    extension: Annotated[
        str, Meta(max_length=12, pattern="^[0-9]*$", description="Digits after our number")
    ] = ""
    language: Annotated[
        str,
        Meta(
            max_length=35,
            pattern="^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$",
            description="BCP 47 tag; of the template's texts the best match is sent (RFC 4647 lookup)",
        ),
    ] = ""


class AskedBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Many messages, each with its own parameters and its own outcome."""

    messages: Annotated[list[AskedMessage], Meta(min_length=1, max_length=BATCH_MAX)]


class _RawBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch read loosely, so that one malformed message does not fail the others."""

    messages: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=BATCH_MAX)]


# ─── what is answered ─────────────────────────────────────────────────────────────────────────────────────


class Promised(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An accepted message: stored durably, charged, and about to be tried, or held until a person has decided.

    Prices are millionths.
    """

    id: uuid.UUID
    status: Literal["accepted", "held"]
    parts: int
    price_micro: int
    currency: str
    reference: str
    send_at: datetime | None = None  # when it will leave, where that is not now


class BatchLine(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What became of one message of a batch: `id` where it was accepted, else `code` says why not."""

    index: int
    code: str
    message: str
    id: uuid.UUID | None = None
    status: Literal["accepted", "held"] | None = None
    parts: int = 0
    price_micro: int | None = None
    currency: str = ""
    reference: str = ""
    send_at: datetime | None = None
    retry_after: int = 0
    detail: dict[str, Any] = {}


class BatchPromised(msgspec.Struct, frozen=True):
    """What became of a batch; `items` has one line for each message asked for, in order."""

    accepted: int
    refused: int
    items: list[BatchLine]


# What may be wrong with one message: the answer of a single one, a line of a batch.
MESSAGE: Final = (
    Code.ACCOUNT_BALANCE_INSUFFICIENT,
    Code.ACCOUNT_NOT_QUALIFIED,
    Code.NUMBER_INVALID,
    Code.NUMBER_REGION_NOT_ALLOWED,
    Code.NUMBER_BLOCKED,
    Code.NUMBER_OPTED_OUT,
    Code.NUMBER_TYPE_MISMATCH,
    Code.NUMBER_TEST_ONLY,
    Code.SIGN_NOT_FOUND,
    Code.SIGN_NOT_APPROVED,
    Code.SIGN_SCENE_MISMATCH,
    Code.SIGN_NOT_REGISTERED,
    Code.TEMPLATE_NOT_FOUND,
    Code.TEMPLATE_NOT_APPROVED,
    Code.TEMPLATE_MISSING_VARIABLE,
    Code.TEMPLATE_VARIABLE_INVALID,
    Code.TEMPLATE_VARIABLE_TOO_LONG,
    Code.TEMPLATE_VARIABLE_URL,
    Code.CONTENT_FORBIDDEN,
    Code.CONTENT_TOO_LONG,
    Code.CONTENT_MISSING_UNSUBSCRIBE,
    Code.CONTENT_SEND_WINDOW,
    Code.LIMIT_MINUTE,
    Code.LIMIT_HOUR,
    Code.LIMIT_DAY,
    Code.LIMIT_SAME_CONTENT,
    Code.ROUTE_NONE,
)


MESSAGE_EXAMPLE: Final = {
    "to": "+8613800138000",
    "signature": "鸿雁",
    "template": "order",
    "params": {"order": "20250001", "day": "明天"},
    "reference": "order-20250001",
}


# ─── the hot routes ───────────────────────────────────────────────────────────────────────────────────────


def one(door: Door, asked: Asked, then: Then) -> None:
    """Answer POST /v1/messages; `then` is called once, after the commit. 202 means fsynced."""
    door.gate.admit(asked, partial(admitted, door, asked, then, _one))


def batch(door: Door, asked: Asked, then: Then) -> None:
    """Answer POST /v1/messages/batch; `then` is called once, after the commit of all that were accepted."""
    door.gate.admit(asked, partial(admitted, door, asked, then, _batch))


def admitted(
    door: Door,
    asked: Asked,
    then: Then,
    go_on: Callable[[Door, Asked, Then, Key], None],
    outcome: Key | Refusal,
) -> None:
    """Go on with a request that was let in, of a key that may send. Whatever goes wrong is answered here: above, nobody can."""
    try:
        if isinstance(outcome, Refusal):
            then(door.refuse(asked, outcome))
        elif Permission.MESSAGES_SEND not in outcome.scopes:
            then(door.refuse(asked, Refusal(Code.AUTH_PERMISSION_DENIED, needs=Permission.MESSAGES_SEND)))
        else:
            go_on(door, asked, then, outcome)
    except Refusal as refusal:
        then(door.refuse(asked, refusal))
    except Exception as error:  # noqa: BLE001 - the top of a request
        then(door.broken(asked, error))


def _one(door: Door, asked: Asked, then: Then, key: Key) -> None:
    draft = exchange.read(asked.body, _ONE)
    idempotency = None if asked.idempotency_key is None else idempotency_of(asked, asked.idempotency_key)
    door.acceptor.offer(key, (draft,), idempotency, partial(_one_done, door, asked, then, key, draft))


def _one_done(
    door: Door, asked: Asked, then: Then, key: Key, draft: Draft, outcomes: Sequence[Outcome]
) -> None:
    outcome = outcomes[0]
    if isinstance(outcome, Refusal):
        then(door.refuse(asked, outcome))
    else:
        then(exchange.answered(asked, promised(key, draft, outcome), 202))


def promised(key: Key, draft: Draft, outcome: Accepted) -> Promised:
    """Say what was promised, as the answer to one message has it."""
    return Promised(
        outcome.id,
        "held" if outcome.held else "accepted",
        outcome.parts,
        outcome.price_micro,
        key.tenant.currency,
        draft.reference,
        outcome.send_at,
    )


def _batch(door: Door, asked: Asked, then: Then, key: Key) -> None:
    drafts = _read_batch(asked.body)
    idempotency = None if asked.idempotency_key is None else idempotency_of(asked, asked.idempotency_key)
    good = [draft for draft in drafts if not isinstance(draft, Refusal)]
    done = partial(_batch_done, door, asked, then, key, drafts)
    if good:
        door.acceptor.offer(key, good, idempotency, done)
    else:
        done(())


def _read_batch(body: bytes) -> Sequence[Draft | Refusal]:
    try:
        return _BATCH.decode(body).messages
    except (ValueError, RecursionError):
        raw = exchange.read(body, _RAW)  # raises where it is the batch that is wrong
    return [_read_line(index, octets) for index, octets in enumerate(raw.messages)]


def _read_line(index: int, octets: msgspec.Raw) -> Draft | Refusal:
    try:
        return _ONE.decode(octets)
    except msgspec.ValidationError as error:
        return exchange.mistake(str(error), f"$.messages[{index}]")


def _batch_done(
    door: Door,
    asked: Asked,
    then: Then,
    key: Key,
    drafts: Sequence[Draft | Refusal],
    outcomes: Sequence[Outcome],
) -> None:
    if outcomes and all(isinstance(one, Refusal) and one.code in _WHOLE for one in outcomes):
        assert isinstance(outcomes[0], Refusal)
        then(door.refuse(asked, outcomes[0]))
        return
    rest = iter(outcomes)
    lines = []
    for index, draft in enumerate(drafts):
        if isinstance(draft, Refusal):
            lines.append(_refused_line(index, draft, "", asked))
            continue
        outcome = next(rest)
        if isinstance(outcome, Refusal):
            lines.append(_refused_line(index, outcome, draft.reference, asked))
        else:
            lines.append(_accepted_line(index, outcome, draft.reference, key, asked))
    accepted = sum(line.id is not None for line in lines)
    then(exchange.answered(asked, BatchPromised(accepted, len(lines) - accepted, lines)))


def _accepted_line(index: int, outcome: Accepted, reference: str, key: Key, asked: Asked) -> BatchLine:
    return BatchLine(
        index=index,
        code="OK",
        message=exchange.message_of(Code.OK, asked.accept_language),
        id=outcome.id,
        status="held" if outcome.held else "accepted",
        parts=outcome.parts,
        price_micro=outcome.price_micro,
        currency=key.tenant.currency,
        reference=reference,
        send_at=outcome.send_at,
    )


def _refused_line(index: int, refusal: Refusal, reference: str, asked: Asked) -> BatchLine:
    return BatchLine(
        index=index,
        code=refusal.code.value.name,
        message=exchange.message_of(refusal.code, asked.accept_language),
        reference=reference,
        retry_after=exchange.seconds(refusal.retry_after_s),
        detail=refusal.detail,
    )


# Refusals of a whole request, which the acceptor gives as the outcome of each of its messages.
_WHOLE: Final = frozenset({Code.REQUEST_IDEMPOTENCY_CONFLICT, Code.SYSTEM_BUSY, Code.SYSTEM_ERROR})
_IDEMPOTENCY_KEY: Final = re.compile(rb"[!-~]{1,255}")
HASH_OCTETS: Final = 16


def idempotency_of(asked: Asked, key: bytes) -> Idempotency:
    """Return the hashes that stand for an Idempotency-Key and for what was asked under it."""
    if _IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER,
            parameter="Idempotency-Key",
            reason="1 to 255 visible ASCII characters",
        )
    body = blake2b(asked.method + b" " + asked.path + b"\n", digest_size=HASH_OCTETS)
    body.update(asked.body)
    return Idempotency(blake2b(key, digest_size=HASH_OCTETS).digest(), body.digest())


HOT: Final[dict[bytes, Callable[[Door, Asked, Then], None]]] = {
    b"/v1/messages": one,
    b"/v1/messages/batch": batch,
}
_ONE: Final = msgspec.json.Decoder(AskedMessage)
_BATCH: Final = msgspec.json.Decoder(AskedBatch)
_RAW: Final = msgspec.json.Decoder(_RawBatch)
