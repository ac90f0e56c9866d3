"""Tell what became of verifications: one with its messages, many by question.

Writes nothing. Entry points: one(), search(). Numbers are unsealed here and leave masked: whoever has to know one redeems a
proof. No code is told to anybody. What has expired is told so before the clerk comes by.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, LiteralString

import msgspec

from hongyan import clock, db
from hongyan.otp.wish import Kept
from hongyan.vault import Vault, VaultError
from hongyan.vocab import phone
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import STATUS_BY_NUMBER, ChannelId, Status, TenantId, first_id_at
from hongyan.vocab.verification import SCENE_BY_NUMBER, STATE_BY_NUMBER, Level, Scene, State
from hongyan.way.snapshot import Snapshot

LATELY: Final = timedelta(days=7)  # what is searched when no time is said
SPAN_MAX: Final = timedelta(days=31)  # of a search that no number narrows
LAST_ID: Final = uuid.UUID(int=2**128 - 1)


class CodeMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message with the code."""

    id: uuid.UUID
    status: Status
    cause: Cause
    channel: str  # the last that reported, else the one that took it; empty before
    accepted_at: datetime
    done_at: datetime | None


class VerificationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A verification on a page of many. `to` is masked, and null once the person was erased."""

    id: uuid.UUID
    status: State
    scene: Scene
    medium: str  # the last one used
    to: str | None
    reference: str | None
    app_id: int
    site_key_id: int | None  # the key of the page that asked; null: the app's own server did
    sandbox: bool
    challenge: str  # what was solved before the code was sent: nothing, work, slider
    challenge_reasons: Sequence[str]  # why that was asked; the first decided
    tries: int  # codes that were compared
    tries_left: int
    sends: int
    country: str
    operator: str
    province: str
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    proved_at: datetime | None  # when the app's own server redeemed the proof


class VerificationStory(VerificationRow, frozen=True, kw_only=True):
    """A verification with all that is known of it."""

    resend_at: datetime | None  # not before then may it be sent once more; null once it has ended
    amount: str  # of the scene pay
    payee: str
    messages: Sequence[CodeMessage]  # in the order they were sent


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which verifications: all that is given must hold. Number is E.164; times are aware, to is not included."""

    number: str | None = None
    scene: Scene | None = None
    status: State | None = None
    app_id: int | None = None
    reference: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    before: uuid.UUID | None = None
    limit: int = 50


class VerificationPage(msgspec.Struct, frozen=True):
    """The newest first; next_cursor is null on the last page."""

    items: Sequence[VerificationRow]
    next_cursor: str | None


# ---- one

_COLUMNS: LiteralString = """
SELECT v.id, v.state, v.scene, v.medium, v.sealed, v.reference, v.app_id, v.site_key_id, v.sandbox, v.level,
       v.challenge_reasons, v.tries, v.tries_max, v.sends, v.country, v.operator, v.province, v.created_at, v.expires_at,
       v.resend_at, v.ended_at, v.proved_at, v.message_ids
  FROM verification v
"""
ONE_SQL: LiteralString = _COLUMNS + " WHERE v.tenant_id = $1 AND v.id = $2"
SENT_SQL: LiteralString = """
SELECT m.id, m.status, m.cause, m.accepted_at, m.done_at, o.attempt AS waiting,
       coalesce(nullif(m.channel_id, 0), s.channel_id, 0) AS channel_id
  FROM unnest($2::uuid[]) WITH ORDINALITY AS w(id, place)
  JOIN message m ON m.tenant_id = $1 AND m.id = w.id
  LEFT JOIN outbox o ON o.tenant_id = m.tenant_id AND o.id = m.id
  LEFT JOIN LATERAL (
        SELECT channel_id FROM submitted WHERE message_id = m.id ORDER BY attempt DESC LIMIT 1) s ON true
 ORDER BY w.place
"""


async def one(
    tx: db.Tx, snapshot: Snapshot, vault: Vault, tenant_id: TenantId, verification: uuid.UUID, now_s: float
) -> VerificationStory:
    """Tell everything about one of a tenant's verifications. Raises Refusal where it has no such one."""
    row = await tx.fetchrow(ONE_SQL, tenant_id, verification)
    if row is None:
        raise Refusal(Code.VERIFY_NOT_FOUND)
    kept = _kept(vault, tenant_id, row["sealed"])
    sent = await tx.fetch(SENT_SQL, tenant_id, row["message_ids"])
    return VerificationStory(
        **msgspec.structs.asdict(_row(row, kept, now_s)),
        resend_at=row["resend_at"] if row["ended_at"] is None else None,
        amount="" if kept is None else kept.amount,
        payee="" if kept is None else kept.payee,
        messages=[_sent(each, snapshot) for each in sent],
    )


def _sent(row: db.Row, snapshot: Snapshot) -> CodeMessage:
    status = STATUS_BY_NUMBER[row["status"]]
    return CodeMessage(
        id=row["id"],
        # 'submitted' is not stored: an open message that does not wait for its first leaving has been taken.
        status=Status.SUBMITTED if status is Status.ACCEPTED and row["waiting"] != 1 else status,
        cause=CAUSES[row["cause"]],
        channel=channel_name(row["channel_id"], snapshot),
        accepted_at=row["accepted_at"],
        done_at=row["done_at"] if status.final else None,
    )


def channel_name(channel_id: int, snapshot: Snapshot) -> str:
    """Name a channel: '' for none, #number for one that is gone."""
    if not channel_id:
        return ""
    channel = snapshot.channels.get(ChannelId(channel_id))
    return channel.name if channel else f"#{channel_id}"


def _row(row: db.Row, kept: Kept | None, now_s: float) -> VerificationRow:
    state = STATE_BY_NUMBER[row["state"]]
    if state is State.PENDING and row["expires_at"].timestamp() <= now_s:
        state = State.EXPIRED
    return VerificationRow(
        id=row["id"],
        status=state,
        scene=SCENE_BY_NUMBER[row["scene"]],
        medium=row["medium"],
        to=phone.mask(kept.e164) if kept is not None and kept.e164 else None,
        reference=row["reference"],
        app_id=row["app_id"],
        site_key_id=row["site_key_id"] or None,
        sandbox=row["sandbox"],
        challenge=Level(row["level"]).name.lower(),
        challenge_reasons=row["challenge_reasons"],
        tries=row["tries"],
        tries_left=row["tries_max"] - row["tries"] if state is State.PENDING else 0,
        sends=row["sends"],
        country=row["country"],
        operator=row["operator"],
        province=row["province"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        ended_at=row["expires_at"] if state is State.EXPIRED else row["ended_at"],
        proved_at=row["proved_at"],
    )


def _kept(vault: Vault, tenant_id: TenantId, sealed: bytes) -> Kept | None:
    try:
        return _decode(vault.unseal(tenant_id, sealed))
    except VaultError:  # the tenant's key was shredded
        return None


_decode = msgspec.msgpack.Decoder(Kept).decode


# ---- many

# Two ways to the rows, one for each index; what else is asked filters what the index finds. Of what is open its time decides
# whether it has expired.
_FILTERS: LiteralString = """
   AND v.id < $2 AND v.id >= $3
   AND ($4::smallint IS NULL OR v.scene = $4)
   AND ($5::smallint IS NULL OR $5 = CASE WHEN v.state = 0 AND v.expires_at <= $6 THEN $7 ELSE v.state END)
   AND ($8::int IS NULL OR v.app_id = $8) AND ($9::text IS NULL OR v.reference = $9)
 ORDER BY v.id DESC LIMIT $10
"""
BY_TIME_SQL: LiteralString = _COLUMNS + " WHERE v.tenant_id = $1" + _FILTERS
BY_NUMBER_SQL: LiteralString = _COLUMNS + " WHERE v.tenant_id = $1 AND v.phone_index = $11" + _FILTERS


async def search(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, question: Question, now_s: float
) -> VerificationPage:
    """Find a tenant's verifications, the newest first, a page at a time. Raises Refusal for a bad question."""
    since, until = _span(question, now_s)
    values = [
        tenant_id,
        min(question.before or LAST_ID, first_id_at(until.timestamp())),
        first_id_at(since.timestamp()),
        None if question.scene is None else question.scene.number,
        None if question.status is None else question.status.number,
        clock.moment(now_s),
        State.EXPIRED.number,
        question.app_id,
        question.reference,
        question.limit + 1,
    ]
    if question.number is None:
        rows = await tx.fetch(BY_TIME_SQL, *values)
    else:
        rows = await tx.fetch(BY_NUMBER_SQL, *values, vault.phone_index(question.number))
    items = [_row(row, _kept(vault, tenant_id, row["sealed"]), now_s) for row in rows[: question.limit]]
    return VerificationPage(items, str(items[-1].id) if len(rows) > question.limit else None)


def _span(question: Question, now_s: float) -> tuple[datetime, datetime]:
    # Another process's clock may be ahead.
    until = question.created_to or clock.moment(now_s) + timedelta(minutes=1)
    narrow = question.number is not None
    since = question.created_from or until - (SPAN_MAX if narrow else LATELY)
    if since >= until:
        raise _wrong("must lie before created_to")
    if not narrow and until - since > SPAN_MAX + timedelta(minutes=1):
        raise _wrong(f"at most {SPAN_MAX.days} days, unless a number is given")
    return since, until


def _wrong(reason: str) -> Refusal:
    return Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="created_from", reason=reason)
