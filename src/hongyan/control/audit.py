"""What was changed, by whom, from where: append-only, hash-chained.

Writes: audit, audit_head. Entry points: record(), verify(), listed(), head(). Each record's hash covers all its columns
and the hash before it, so a record that was changed, taken out or moved breaks the chain, and the head row says where
it has to end. Surprise: a row lock on the head lets one transaction at a time record, until it commits; so record last.
Who may write to the tables may also write them all anew: against that only a head that is kept elsewhere helps.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, LiteralString, NamedTuple

import msgspec

from hongyan import clock, db, observe
from hongyan.control.bounds import demand_moment
from hongyan.vocab.message import TenantId

ACTOR_CHARACTERS_MAX: Final = 300
ACTION_CHARACTERS_MAX: Final = 100
SUBJECT_CHARACTERS_MAX: Final = 300
PLACE_CHARACTERS_MAX: Final = 64  # an address, a request id
DETAIL_CHARACTERS_MAX: Final = 16_000
DEPTH_MAX: Final = 8  # of a detail
BATCH: Final = 1_000  # records verified at a time
PAGE_MAX: Final = 500
LOOKED_AT_MAX: Final = 10_000  # records, for one page: whatever is asked, it costs no more
SEQ_MAX: Final = 2**63 - 1
NOTHING: Final = bytes(32)  # the hash before the first record


class Head(NamedTuple):
    """Where the chain ends. Kept elsewhere, it proves later that everything up to it is as it was."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"


class AuditRow(msgspec.Struct, frozen=True):
    """A record as people see it."""

    seq: int
    at: datetime
    actor: str  # key:hy_…, user:7 mail@example.com, cli:root, nobody
    action: str
    subject: str
    tenant_id: TenantId | None
    address: str
    request_id: str
    detail: Mapping[str, Any]  # what was changed, as who recorded it says


class Filter(msgspec.Struct, frozen=True):
    """Which records; what is None is not asked."""

    tenant_id: TenantId | None = None
    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime | None = None  # inclusive
    until: datetime | None = None  # exclusive
    before: int | None = None  # records older than this seq


HEAD_SQL: LiteralString = "SELECT seq, hash FROM audit_head FOR UPDATE"
RECORD_SQL: LiteralString = """
WITH moved AS (UPDATE audit_head SET seq = $1, hash = $10)
INSERT INTO audit (seq, at, actor, action, subject, tenant_id, address, request_id, detail, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


async def record(
    tx: db.Tx,
    *,
    actor: str,
    action: str,
    subject: str,
    tenant_id: TenantId | None,
    address: str,
    request_id: str,
    detail: Mapping[str, object],
) -> None:
    """Append one record; it is there if and when the transaction commits.

    Texts are cut where they are too long and never refused. Numbers of people are masked and what is named as a secret
    is hidden, as in logs, in case a caller forgot.
    """
    seq, before = await tx.fetchrow(HEAD_SQL)
    columns = (
        seq + 1,
        clock.now(),
        _clean(observe.masked(actor), ACTOR_CHARACTERS_MAX),
        _clean(action, ACTION_CHARACTERS_MAX),
        _clean(observe.masked(subject), SUBJECT_CHARACTERS_MAX),
        tenant_id,
        _clean(address, PLACE_CHARACTERS_MAX),
        _clean(request_id, PLACE_CHARACTERS_MAX),
        _written(detail),
    )
    await tx.execute(RECORD_SQL, *columns, _hash(before, columns))


def _hash(before: bytes, columns: Sequence[object]) -> bytes:
    """Return SHA-256 of the hash before and of the columns as one JSON array, without blanks, in ASCII."""
    plain = [
        each.astimezone(UTC).isoformat(" ", "microseconds") if isinstance(each, datetime) else each
        for each in columns
    ]
    written = json.dumps(plain, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(before + written.encode("ascii")).digest()


def _clean(text: str, characters_max: int) -> str:
    """Return a text that PostgreSQL can hold, cut where it is too long."""
    text = text.replace("\0", "�").encode("utf-8", "replace").decode()
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def _written(detail: Mapping[str, object]) -> str:
    plain = msgspec.to_builtins(dict(detail), enc_hook=str, str_keys=True)
    written = json.dumps(_shown("", plain, 0), ensure_ascii=False, sort_keys=True)
    if len(written) > DETAIL_CHARACTERS_MAX:
        written = json.dumps({"too_long": len(written)})
    return _clean(written, DETAIL_CHARACTERS_MAX)


def _shown(name: str, value: object, depth: int) -> object:
    """Return a value as the audit may have it. Integers stay: amounts of money look like numbers of people."""
    if name.lower() in observe.HIDDEN_KEYS:
        return observe.HIDDEN
    if isinstance(value, str):
        return observe.masked(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    if depth >= DEPTH_MAX and isinstance(value, dict | list):
        return "…"
    if isinstance(value, dict):
        return {observe.masked(each): _shown(each, inner, depth + 1) for each, inner in value.items()}
    if isinstance(value, list):
        return [_shown(name, inner, depth + 1) for inner in value]
    return value


# ---- verifying


class Fault(StrEnum):
    """What is wrong with the chain at a record."""

    CHANGED = "changed"  # the record is not what was hashed, or the one before it is not
    MISSING = "missing"  # there is no record of this number
    CUT_OFF = "cut_off"  # the chain ends before its head
    UNKNOWN = "unknown"  # records beyond the head
    REWRITTEN = "rewritten"  # the chain is whole, but not the one whose head was kept


WORDS: Final[Mapping[Fault, str]] = {
    Fault.CHANGED: "this record was changed, or the one before it",
    Fault.MISSING: "a record is missing",
    Fault.CUT_OFF: "the record ends before its head: its last part was cut off",
    Fault.UNKNOWN: "there are records beyond the head that nobody has recorded",
    Fault.REWRITTEN: "the record is not the one whose head was kept: it was written anew",
}


class Verdict(msgspec.Struct, frozen=True):
    """What verify() found: how many records hold, and what is wrong with the next, if anything."""

    records: int
    head: str
    fault: Fault | None = None
    at_seq: int = 0


ENDS_SQL: LiteralString = """
SELECT h.seq, h.hash, coalesce((SELECT a.seq FROM audit a ORDER BY a.seq DESC LIMIT 1), 0) AS last FROM audit_head h
"""


async def verify(database: db.Database, kept: Head | None = None) -> Verdict:
    """Go through the whole chain and say where it breaks first. `kept`: a head that was noted elsewhere before.

    Reads in batches, each a transaction of its own; what is recorded meanwhile is not looked at.
    """
    (ends,) = await database.fetch(ENDS_SQL) or [None]
    if ends is None:
        return Verdict(0, str(Head(0, NOTHING)), Fault.CUT_OFF)
    head = Head(ends["seq"], bytes(ends["hash"]))
    end = Head(0, NOTHING)
    while end.seq < head.seq:
        reached, fault = await _follow(database, end, head.seq, kept)
        if fault is not None:
            return Verdict(reached.seq, str(head), fault, reached.seq + 1)
        end = reached
    if end.hash != head.hash:
        return Verdict(end.seq, str(head), Fault.CHANGED, end.seq)
    if ends["last"] > head.seq:
        return Verdict(end.seq, str(head), Fault.UNKNOWN, head.seq + 1)
    if kept is not None and kept.seq > end.seq:
        return Verdict(end.seq, str(head), Fault.CUT_OFF, end.seq + 1)
    return Verdict(end.seq, str(head))


BATCH_SQL: LiteralString = """
SELECT seq, at, actor, action, subject, tenant_id, address, request_id, detail, hash
  FROM audit WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3
"""


async def _follow(
    database: db.Database, end: Head, until: int, kept: Head | None
) -> tuple[Head, Fault | None]:
    """Follow the chain for a batch; returns the last record that holds, and what is wrong after it."""
    rows = await database.fetch(BATCH_SQL, end.seq, until, BATCH)
    if not rows:
        return end, Fault.CUT_OFF
    for row in rows:
        *columns, hashed = row.values()
        if row["seq"] != end.seq + 1:
            return end, Fault.MISSING
        if _hash(end.hash, columns) != hashed:
            return end, Fault.CHANGED
        if kept is not None and kept.seq == row["seq"] and kept.hash != hashed:
            return end, Fault.REWRITTEN
        end = Head(row["seq"], bytes(hashed))
    return end, None


NOW_SQL: LiteralString = "SELECT seq, hash FROM audit_head"


async def head(tx: db.Tx) -> Head:
    """Return where the chain ends now, to be kept where nobody who can write here can write."""
    seq, hashed = await tx.fetchrow(NOW_SQL)
    return Head(seq, bytes(hashed))


def read_head(written: str) -> Head:
    """Read what str(Head) wrote. Raises ValueError."""
    seq, _, hashed = written.strip().partition(":")
    octets = bytes.fromhex(hashed)
    if len(octets) != len(NOTHING):
        raise ValueError("a head is a number, a colon and 64 hex digits")
    return Head(int(seq), octets)


# ---- looking


class Found(NamedTuple):
    """A page of records, and the seq behind which the next one begins; None: there are no more."""

    rows: Sequence[AuditRow]
    before: int | None


# One look goes through LOOKED_AT_MAX records at most, those of the narrowest index that the question has, the newest
# first. Details are read of what was found alone: they are long.
OF_SUBJECT_SQL: LiteralString = "subject = $3"
OF_ACTOR_SQL: LiteralString = "actor = $4"
OF_TENANT_SQL: LiteralString = "tenant_id = $5"
OF_ACTION_SQL: LiteralString = "action = $6"
OF_ALL_SQL: LiteralString = "true"
LOOK_SQL: LiteralString = """
WITH looked_at AS MATERIALIZED (
    SELECT seq, at, actor, action, subject, tenant_id FROM audit WHERE seq < $1 AND """
FOUND_SQL: LiteralString = """
     ORDER BY seq DESC LIMIT $9
), found AS (
    SELECT seq FROM looked_at
     WHERE ($3::text IS NULL OR subject = $3) AND ($4::text IS NULL OR actor = $4) AND ($5::int IS NULL OR tenant_id = $5)
       AND ($6::text IS NULL OR action = $6) AND ($7::timestamptz IS NULL OR at >= $7)
       AND ($8::timestamptz IS NULL OR at < $8)
     ORDER BY seq DESC LIMIT $2
)
SELECT w.count, w.until, a.seq, a.at, a.actor, a.action, a.subject, a.tenant_id, a.address, a.request_id, a.detail
  FROM (SELECT count(*) AS count, min(seq) AS until FROM looked_at) w
  LEFT JOIN (found f JOIN audit a ON a.seq = f.seq) ON true ORDER BY a.seq DESC
"""


async def listed(tx: db.Tx, asked: Filter, limit: int = PAGE_MAX) -> Found:
    """List records, newest first, at most `limit`: fewer, or none, where LOOKED_AT_MAX were looked at before that.

    Raises Refusal for a moment at the ends of the calendar.
    """
    demand_moment(asked.since, "from")
    demand_moment(asked.until, "to")
    limit = min(limit, PAGE_MAX)
    values = (
        SEQ_MAX if asked.before is None else asked.before,
        limit,
        None if asked.subject is None else observe.masked(asked.subject),
        None if asked.actor is None else observe.masked(asked.actor),
        asked.tenant_id,
        asked.action,
        asked.since,
        asked.until,
        LOOKED_AT_MAX,
    )
    found = await tx.fetch(LOOK_SQL + _narrowest(asked) + FOUND_SQL, *values)
    rows = [_row(row) for row in found if row["seq"] is not None]
    if len(rows) == limit:
        return Found(rows, rows[-1].seq)
    return Found(rows, found[0]["until"] if found[0]["count"] == LOOKED_AT_MAX else None)


def _narrowest(asked: Filter) -> LiteralString:
    if asked.subject is not None:
        return OF_SUBJECT_SQL
    if asked.actor is not None:
        return OF_ACTOR_SQL
    if asked.tenant_id is not None:
        return OF_TENANT_SQL
    return OF_ALL_SQL if asked.action is None else OF_ACTION_SQL


def _row(row: db.Row) -> AuditRow:
    columns = dict(row)
    del columns["count"], columns["until"]
    return AuditRow(**columns | {"detail": msgspec.json.decode(columns["detail"])})
