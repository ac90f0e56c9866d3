"""Tell what became of messages: one with all that is known, many by question, and what people texted back.

Writes nothing. Entry points: one(), owner(), search(), inbound(). Numbers and texts are unsealed here, for the tenant
they belong to; who may see them whole is decided above. 'submitted' is not stored: an open message without an
outbox row is submitted, and so is one that waits there for its second channel.
"""

import base64
import binascii
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, LiteralString

import msgspec

from hongyan import clock, db
from hongyan.vault import Vault, VaultError
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import (
    PURPOSES,
    STATUS_BY_NUMBER,
    ChannelId,
    MessageId,
    Purpose,
    Status,
    TenantId,
    first_id_at,
)
from hongyan.vocab.wording import CODE_KINDS, KINDS
from hongyan.way import redact
from hongyan.way.snapshot import Snapshot

LIMIT_MAX: Final = 200  # items of a page
LATELY: Final = timedelta(days=7)  # what is searched when no time is said
SPAN_MAX: Final = timedelta(days=31)  # of a search that no number or reference narrows
LAST_ID: Final = uuid.UUID(int=2**128 - 1)


class Attempt(msgspec.Struct, frozen=True):
    """One part handed to one channel, once."""

    attempt: int
    part_index: int
    channel: str
    upstream_id: str  # as the upstream wrote it; empty where none was heard
    upstream_code: str
    status: Status
    cause: Cause
    unsure: bool  # it may have left without an answer
    sent_at: datetime
    acked_at: datetime | None
    reported_at: datetime | None
    decision: msgspec.Raw | None  # why this channel, as it was decided


class Part(msgspec.Struct, frozen=True):
    """What became of one part: the last word of its last attempt."""

    part_index: int
    status: Status
    cause: Cause
    upstream_code: str


class Brief(msgspec.Struct, frozen=True, kw_only=True):
    """A message on a page of many. Number and text are null once the person was erased."""

    id: MessageId
    number: str | None
    text: str | None
    purpose: Purpose
    status: Status
    cause: Cause
    upstream_code: str
    signature: str
    template: str
    reference: str | None
    app_id: int
    channel: str  # the last that reported; empty before
    country: str
    operator: str
    province: str
    part_count: int
    price_micro: int
    refund_micro: int
    accepted_at: datetime
    due_at: datetime
    done_at: datetime | None


class Story(Brief, frozen=True, kw_only=True):
    """A message with everything that is known of it."""

    params: Mapping[str, str | int] | None
    app: str  # its name; empty where it is gone
    sandbox: bool
    extension: str
    currency: str
    expires_at: datetime
    parts: Sequence[Part]
    attempts: Sequence[Attempt]  # in order of parts' leaving
    decision: msgspec.Raw | None  # which rules spoke when it was accepted


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which messages: all that is given must hold. Number is E.164; times are aware, to is not included."""

    number: str | None = None
    reference: str | None = None
    status: Status | None = None
    cause: Cause | None = None
    purpose: Purpose | None = None
    template: str | None = None
    channel: str | None = None  # the last that reported
    app_id: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    cursor: str | None = None
    limit: int = 50


class Page(msgspec.Struct, frozen=True):
    """The newest first; next_cursor is null on the last page."""

    items: Sequence[Brief]
    next_cursor: str | None


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A text from a person."""

    id: uuid.UUID
    number: str | None
    text: str | None
    access_number: str
    message_id: MessageId | None  # the message it answers, where that is known
    opt_out: bool
    came_at: datetime


class Letters(msgspec.Struct, frozen=True):
    """The newest first; next_cursor is null on the last page."""

    items: Sequence[Letter]
    next_cursor: str | None


# ---- one


ONE_SQL: LiteralString = """
SELECT m.id, m.status, m.cause, m.code, m.purpose, m.part_count, m.channel_id, m.signature_id, m.template_id,
       m.price_micro, m.refund_micro, m.accepted_at, m.due_at, m.expires_at, m.done_at, m.sealed, m.country,
       m.operator, m.province, m.extension, m.reference, m.attempts, m.decision, m.app_id, m.sandbox,
       coalesce(a.name, '') AS app, o.attempt AS waiting
  FROM message m LEFT JOIN outbox o ON o.tenant_id = m.tenant_id AND o.id = m.id LEFT JOIN app a ON a.id = m.app_id
 WHERE m.tenant_id = $1 AND m.id = $2
"""
LIVE_SQL: LiteralString = """
SELECT attempt, part_index, channel_id, coalesce(upstream_raw, upstream_id) AS upstream_id, state, sent_at,
       acked_at, decision
  FROM submitted WHERE message_id = $2 AND tenant_id = $1
"""
DECISIONS_SQL: LiteralString = "SELECT id, trace FROM decision WHERE id = ANY($1::bigint[])"


async def one(
    tx: db.Tx, snapshot: Snapshot, vault: Vault, tenant_id: TenantId, message_id: uuid.UUID
) -> Story | None:
    """Tell everything about one of a tenant's messages; None where it has no such message."""
    row = await tx.fetchrow(ONE_SQL, tenant_id, message_id)
    if row is None:
        return None
    live = await tx.fetch(LIVE_SQL, tenant_id, message_id)
    ended = msgspec.json.decode(row["attempts"] or "[]", type=list[_Ended])
    wanted = {row["decision"], *(each["decision"] for each in live), *(each.decision for each in ended)} - {0}
    traces = {
        each["id"]: msgspec.Raw(each["trace"].encode())
        for each in await tx.fetch(DECISIONS_SQL, list(wanted))
    }
    attempts = [_attempt_ended(each, snapshot, traces) for each in ended]
    attempts += [_attempt_live(each, snapshot, traces) for each in live]
    attempts.sort(key=lambda each: (each.attempt, each.part_index, each.sent_at))
    plain = _shown_message(vault, tenant_id, row, snapshot)
    tenant = snapshot.tenants.get(tenant_id)
    return Story(
        **msgspec.structs.asdict(_brief(row, snapshot, plain)),
        params=plain.params,
        app=row["app"],
        sandbox=row["sandbox"],
        extension=row["extension"],
        currency=tenant.currency if tenant else "",
        expires_at=row["expires_at"],
        parts=_parts(row, attempts),
        attempts=attempts,
        decision=traces.get(row["decision"]),
    )


class _Ended(msgspec.Struct, frozen=True, array_like=True):
    """One array of message.attempts, as way/tick.py writes it."""

    attempt: int
    part_index: int
    channel_id: int
    upstream_id: str | None
    sent_ms: int | None
    acked_ms: int | None
    reported_ms: int | None
    status: int
    cause: int
    upstream_code: str | None
    decision: int


def _attempt_ended(ended: _Ended, snapshot: Snapshot, traces: Mapping[int, msgspec.Raw]) -> Attempt:
    return Attempt(
        attempt=ended.attempt,
        part_index=ended.part_index,
        channel=_channel(ended.channel_id, snapshot),
        upstream_id=_shown_id(ended.upstream_id or ""),
        upstream_code=ended.upstream_code or "",
        status=STATUS_BY_NUMBER[ended.status],
        cause=CAUSES[ended.cause],
        unsure=_is_unheard(ended.upstream_id or ""),
        sent_at=_moment(ended.sent_ms) or datetime.fromtimestamp(0, UTC),
        acked_at=_moment(ended.acked_ms),
        reported_at=_moment(ended.reported_ms),
        decision=traces.get(ended.decision),
    )


def _attempt_live(row: db.Row, snapshot: Snapshot, traces: Mapping[int, msgspec.Raw]) -> Attempt:
    given_up = row["state"] == _GIVEN_UP
    return Attempt(
        attempt=row["attempt"],
        part_index=row["part_index"],
        channel=_channel(row["channel_id"], snapshot),
        upstream_id=_shown_id(row["upstream_id"]),
        upstream_code="",
        status=Status.UNKNOWN if given_up else Status.SUBMITTED,
        cause=Cause.NO_REPORT if given_up else Cause.NONE,
        unsure=_is_unheard(row["upstream_id"]),
        sent_at=row["sent_at"],
        acked_at=row["acked_at"],
        reported_at=None,
        decision=traces.get(row["decision"]),
    )


_GIVEN_UP: Final = 2  # submitted.state
_UNHEARD: Final = "unsure:"  # begins the key of a part whose upstream id nobody heard


def _is_unheard(upstream_id: str) -> bool:
    return upstream_id.startswith(_UNHEARD)


def _shown_id(upstream_id: str) -> str:
    return "" if _is_unheard(upstream_id) else upstream_id


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def _parts(row: db.Row, attempts: Sequence[Attempt]) -> Sequence[Part]:
    """Give each part the word of its last attempt; a part never handed over shares the message's fate."""
    status, cause, waiting = STATUS_BY_NUMBER[row["status"]], CAUSES[row["cause"]], row["waiting"]
    last = {each.part_index: each for each in attempts}
    parts = []
    for index in range(1, row["part_count"] + 1):
        attempt = last.get(index)
        if attempt is None:
            parts.append(Part(index, status, cause, ""))
        elif waiting is not None and waiting > attempt.attempt:  # it failed, and waits for another channel
            parts.append(Part(index, Status.SUBMITTED, attempt.cause, attempt.upstream_code))
        else:
            parts.append(Part(index, attempt.status, attempt.cause, attempt.upstream_code))
    return parts


# Tenants are few and the tenant stands first in the key, so the id alone is looked for under each.
OWNER_SQL: LiteralString = """
SELECT m.tenant_id FROM tenant t CROSS JOIN LATERAL (
    SELECT tenant_id FROM message WHERE tenant_id = t.id AND id = $1) m LIMIT 1
"""


async def owner(tx: db.Tx, message_id: uuid.UUID) -> TenantId | None:
    """Tell whose a message is; None where nobody has one of that id."""
    found = await tx.fetchval(OWNER_SQL, message_id)
    return None if found is None else TenantId(found)


# ---- many

# Three ways to the rows, one for each index; with plans made once for all parameters, one statement that knew
# all three would use none of them. What else is asked filters what the index finds.
_COLUMNS: LiteralString = """
SELECT m.id, m.status, m.cause, m.code, m.purpose, m.part_count, m.signature_id, m.template_id, m.price_micro,
       m.refund_micro, m.accepted_at, m.due_at, m.done_at, m.sealed, m.country, m.operator, m.province,
       m.reference, m.app_id, m.channel_id, m.sandbox,
       CASE WHEN m.status = 0 THEN (
           SELECT o.attempt FROM outbox o WHERE o.tenant_id = m.tenant_id AND o.id = m.id) END AS waiting
  FROM message m
"""
_FILTERS: LiteralString = """
   AND m.id < $2 AND m.id >= $3
   AND ($4::smallint IS NULL OR m.status = $4) AND ($5::smallint IS NULL OR m.purpose = $5)
   AND ($6::int IS NULL OR m.template_id = $6)
   AND ($7::boolean IS NULL OR $7 = EXISTS (
       SELECT FROM outbox o WHERE o.tenant_id = m.tenant_id AND o.id = m.id AND o.attempt = 1))
   AND ($9::smallint IS NULL OR m.cause = $9) AND ($10::int IS NULL OR m.channel_id = $10)
   AND ($11::int IS NULL OR m.app_id = $11)
"""
_ORDER: LiteralString = " ORDER BY m.id DESC LIMIT $8"
BY_TIME_SQL: LiteralString = _COLUMNS + " WHERE m.tenant_id = $1" + _FILTERS + _ORDER
BY_NUMBER_SQL: LiteralString = (
    _COLUMNS
    + " WHERE m.phone_index = $12 AND m.tenant_id = $1"
    + _FILTERS
    + " AND ($13::text IS NULL OR m.reference = $13)"
    + _ORDER
)
BY_REFERENCE_SQL: LiteralString = (
    _COLUMNS + " WHERE m.tenant_id = $1 AND m.reference = $12" + _FILTERS + _ORDER
)


async def search(
    tx: db.Tx, snapshot: Snapshot, vault: Vault, tenant_id: TenantId, question: Question
) -> Page:
    """Find a tenant's messages, the newest first, a page at a time. Raises Refusal for a bad question."""
    limit = _limit(question.limit)
    since, until = _span(question)
    before = min(_read_cursor(question.cursor), first_id_at(until.timestamp()))
    values = [
        tenant_id,
        before,
        first_id_at(since.timestamp()),
        None if question.status is None else question.status.number,
        None if question.purpose is None else question.purpose.number,
        _template_id(question.template, snapshot, tenant_id),
        _IS_WAITING.get(question.status) if question.status else None,
        limit + 1,
        None if question.cause is None else question.cause.number,
        _channel_id(question.channel, snapshot),
        question.app_id,
    ]
    if question.number is not None:
        phone_index = vault.phone_index(question.number)
        rows = await tx.fetch(BY_NUMBER_SQL, *values, phone_index, question.reference)
    elif question.reference is not None:
        rows = await tx.fetch(BY_REFERENCE_SQL, *values, question.reference)
    else:
        rows = await tx.fetch(BY_TIME_SQL, *values)
    items = [_brief(row, snapshot, _shown_message(vault, tenant_id, row, snapshot)) for row in rows[:limit]]
    return Page(items, _cursor(items[-1].id) if len(rows) > limit else None)


# Both open words are stored as 0; whether a first attempt still waits in the outbox tells them apart.
_IS_WAITING: Final = {Status.ACCEPTED: True, Status.SUBMITTED: False}


def _span(question: Question) -> tuple[datetime, datetime]:
    for name in ("created_from", "created_to"):
        moment = getattr(question, name)
        if moment is not None and moment.tzinfo is None:
            raise _wrong(name, "say the offset, as in +08:00 or Z")
    until = question.created_to or clock.now() + timedelta(minutes=1)  # another process's clock may be ahead
    narrow = question.number is not None or question.reference is not None
    since = question.created_from or until - (SPAN_MAX if narrow else LATELY)
    if since >= until:
        raise _wrong("created_from", "must lie before created_to")
    if not narrow and until - since > SPAN_MAX + timedelta(minutes=1):
        raise _wrong("created_from", f"at most {SPAN_MAX.days} days, unless a number or reference is given")
    return since, until


def _template_id(code: str | None, snapshot: Snapshot, tenant_id: TenantId) -> int | None:
    if code is None:
        return None
    tenant = snapshot.tenants.get(tenant_id)
    template = tenant.templates.get(code) if tenant else None
    return template.id if template else -1  # matches nothing


def _channel_id(name: str | None, snapshot: Snapshot) -> int | None:
    """Return the channel that is shown by this name; one that is gone is shown as #number."""
    if name is None:
        return None
    if name.startswith("#") and name[1:].isascii() and name[1:].isdigit() and len(name) <= _NUMBERED_MAX:
        return int(name[1:])
    return next((channel.id for channel in snapshot.channels.values() if channel.name == name), -1)


_NUMBERED_MAX: Final = 10  # '#' and what an int can hold


def _brief(row: db.Row, snapshot: Snapshot, plain: "_Plain") -> Brief:
    signature = snapshot.signatures.get(row["signature_id"])
    template = snapshot.templates.get(row["template_id"])
    return Brief(
        id=MessageId(row["id"]),
        number=plain.number,
        text=plain.text,
        purpose=PURPOSES[row["purpose"]],
        status=_status(row["status"], row["waiting"]),
        cause=CAUSES[row["cause"]],
        upstream_code=row["code"],
        signature=signature.name if signature else "",
        template=template.code if template else "",
        reference=row["reference"],
        app_id=row["app_id"],
        channel=_channel(row["channel_id"], snapshot),
        country=row["country"],
        operator=row["operator"],
        province=row["province"],
        part_count=row["part_count"],
        price_micro=row["price_micro"],
        refund_micro=row["refund_micro"],
        accepted_at=row["accepted_at"],
        due_at=row["due_at"],
        done_at=row["done_at"],
    )


def _status(number: int, waiting: int | None) -> Status:
    """Give the public word: open is 'accepted' while its first attempt waits to leave, then 'submitted'."""
    status = STATUS_BY_NUMBER[number]
    return Status.SUBMITTED if status is Status.ACCEPTED and waiting != 1 else status


def _channel(channel_id: int, snapshot: Snapshot) -> str:
    if not channel_id:
        return ""
    channel = snapshot.channels.get(ChannelId(channel_id))
    return channel.name if channel else f"#{channel_id}"


class _Plain(msgspec.Struct, frozen=True, array_like=True):
    """What message.sealed holds; all null once it cannot be opened any more."""

    number: str | None = None
    text: str | None = None
    params: dict[str, str | int] | None = None


_decode_message = msgspec.msgpack.Decoder(_Plain).decode
_decode_inbound = msgspec.msgpack.Decoder(
    tuple[str, str | None]
).decode  # without its text once that is past its time


def _shown_message(vault: Vault, tenant_id: TenantId, row: db.Row, snapshot: Snapshot) -> _Plain:
    """Return what a message says, with stars for a code that may still be good: it is for its person alone.

    A sandbox's texts reach nobody, and whoever tries things out has to read them.
    """
    octets = _unsealed(vault, tenant_id, row["sealed"])
    if octets is None:
        return _Plain()
    plain = _decode_message(octets)
    template = snapshot.templates.get(row["template_id"])
    if row["sandbox"] or template is None or plain.text is None or plain.params is None:
        return plain
    names = frozenset(name for name, (kind, _) in template.text.rules.items() if kind in _CODES)
    text, params = redact.without_code(plain.text, plain.params, names)
    return plain if text is None else _Plain(plain.number, text, dict(params or {}))


_CODES: Final = tuple(KINDS[name] for name in CODE_KINDS)


def _unsealed(vault: Vault, tenant_id: TenantId, sealed: bytes | None) -> bytes | None:
    if sealed is None:
        return None
    try:
        return vault.unseal(tenant_id, sealed)
    except VaultError:  # the tenant's key was shredded
        return None


# ---- what people texted back


INBOUND_SQL: LiteralString = """
SELECT id, sealed, access_number, message_id, opt_out, came_at
  FROM inbound WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3
"""


async def inbound(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, cursor: str | None = None, limit: int = 50
) -> Letters:
    """Page through what people texted to a tenant, the newest first (tenant 0: to nobody)."""
    limit = _limit(limit)
    rows = await tx.fetch(INBOUND_SQL, tenant_id, _read_cursor(cursor), limit + 1)
    items = []
    for row in rows[:limit]:
        number, text = letter_of(vault, tenant_id, row["sealed"])
        items.append(
            Letter(
                id=row["id"],
                number=number,
                text=text,
                access_number=row["access_number"],
                message_id=row["message_id"],
                opt_out=row["opt_out"],
                came_at=row["came_at"],
            )
        )
    return Letters(items, _cursor(items[-1].id) if len(rows) > limit else None)


def letter_of(vault: Vault, tenant_id: TenantId, sealed: bytes | None) -> tuple[str | None, str | None]:
    """Open what an inbound row has sealed: the number and the text; both null once the person was erased."""
    plain = _unsealed(vault, tenant_id, sealed)
    return (None, None) if plain is None else _decode_inbound(plain)


# ---- cursors: the last id of a page, in letters that need no escaping


def _cursor(last: uuid.UUID) -> str:
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def _read_cursor(cursor: str | None) -> uuid.UUID:
    if not cursor:
        return LAST_ID
    try:
        return uuid.UUID(bytes=base64.b64decode(cursor + "==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise _wrong("cursor", "give the next_cursor of an earlier page, unchanged") from None


def _limit(limit: int) -> int:
    if not 1 <= limit <= LIMIT_MAX:
        raise _wrong("limit", f"between 1 and {LIMIT_MAX}")
    return limit


def _wrong(parameter: str, reason: str) -> Refusal:
    return Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=parameter, reason=reason)
