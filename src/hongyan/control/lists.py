"""Lists of people to write to: uploaded, checked, sent, each step a job (jobs.py) that outlives its process.

Writes: sending_list. Entry points: read_in() and create() store a file; check() and start() make the jobs that
sending.py does; pause(), resume() and stop() act on the one under way; listed(), one() and left_out() tell.
The rows are kept sealed in chunks, and forgotten a week after the last step.
"""

import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, LiteralString

import msgspec
from msgspec import Meta

from hongyan import clock, db, observe
from hongyan.control import jobs, tables
from hongyan.control.bounds import demand, demand_found
from hongyan.control.jobs import JobState, Role
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab import phone
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way import charge
from hongyan.way.guard import Draft
from hongyan.way.snapshot import Snapshot, Template

READ: Final = "list.read"  # kinds of jobs
CHECK: Final = "list.check"
SEND: Final = "list.send"
OCTETS_MAX: Final = 500_000_000
NAME_CHARACTERS_MAX: Final = 120
UNFINISHED_KEEP_S: Final = 3_600  # rows of an upload whose door died
UPLOADS_MAX: Final = (
    8  # at once in one process: each has a file of OCTETS_MAX and a reader with memory of its own
)
UPLOADS_OF_TENANT_MAX: Final = 2
BUSY_S: Final = 30.0  # until one may have ended
SAMPLE_ROWS: Final = 20
EXAMPLES: Final = 5
SPREAD_S_MAX: Final = 259_200  # three days
DUPLICATE: Final = "duplicate"  # reasons for leaving out that are no public codes
NO_CONSENT: Final = "no_consent"
EMPTY_VARIABLE: Final = (
    "empty_variable"  # of the row's cell; a single message gets Template.VariableInvalid for it
)

Column = Annotated[str, Meta(min_length=1, max_length=tables.COLUMN_CHARACTERS_MAX)]
Word = Annotated[str, Meta(max_length=64)]
Moment = Annotated[datetime, Meta(tz=True)]


class ListStage(StrEnum):
    """How far a list has come."""

    NEW = "new"
    CHECKING = "checking"
    CHECKED = "checked"
    SENDING = "sending"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"
    FAILED = "failed"


class Mapped(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which columns mean what."""

    number: Column
    params: Annotated[dict[Word, Column], Meta(max_length=tables.COLUMNS_MAX)] = {}  # variable → column
    reference: Column | None = None


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be sent to a list. `spread_s`: its messages become due evenly over so long."""

    mapping: Mapped
    template: Annotated[str, Meta(min_length=1, max_length=64)]
    signature: Word = ""
    language: Annotated[str, Meta(max_length=35)] = ""
    app_id: int
    send_at: Moment | None = None
    spread_s: Annotated[int, Meta(ge=0, le=SPREAD_S_MAX)] = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The same with everything found: what a job is asked. Columns by their place."""

    list_id: int
    row_count: int
    read_job: int
    check_job: int = 0  # of a job that sends
    app_id: int
    number: int
    params: Mapping[str, int]
    reference: int | None
    template: str
    signature: str
    language: str
    send_at: datetime | None
    spread_s: int

    def draft(
        self, to: str, values: Sequence[str], reference: str, *, row: int = 0, begun: datetime | None = None
    ) -> Draft:
        """Make the message of one row; values in the order of `params`. `begun`: the spread counts from then."""
        send_at = self.send_at
        if self.spread_s and begun is not None:
            place = min(
                1.0, row / max(1, self.row_count)
            )  # a file with empty rows has greater numbers than rows
            send_at = (send_at or begun) + timedelta(seconds=self.spread_s * place)
        return Draft(
            to=to,
            signature=self.signature,
            template=self.template,
            language=self.language,
            params=dict(zip(self.params, values, strict=True)),
            send_at=send_at,
            reference=reference,
        )


class Ready(msgspec.Struct, frozen=True, array_like=True):
    """One row that may be sent, as a chunk keeps it."""

    row: int
    number: str  # E.164
    values: list[str]
    reference: str


class LeftOut(msgspec.Struct, frozen=True, array_like=True):
    """One row that was not sent, and why: a public code or one of our words."""

    row: int
    number: str
    reason: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What the check found, as far as it has come: rows by what becomes of them, and what the ready ones cost."""

    state: JobState
    done: int
    total: int
    ready: int
    left_out: Mapping[str, int]  # by reason
    price_micro: int
    parts: Mapping[str, int]  # ready rows by how many parts they have
    template: str
    signature: str
    language: str
    app_id: int
    send_at: datetime | None
    spread_s: int
    error: str


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """How far the sending has come."""

    state: JobState
    accepted: int
    refused: Mapping[str, int]  # by public code
    waiting: int
    error: str  # why it paused itself or failed
    started_at: datetime | None
    ended_at: datetime | None


class ListRow(msgspec.Struct, frozen=True, kw_only=True):
    """A list as people see it among others."""

    id: int
    name: str
    state: ListStage
    columns: Sequence[str]
    row_count: int
    made_by: str
    made_at: datetime
    check: Checked | None
    sending: Sent | None


class Example(msgspec.Struct, frozen=True):
    """One message as it would leave; the number masked."""

    row: int
    number: str
    text: str


class ListWhole(ListRow, frozen=True, kw_only=True):
    """A list alone: with its first rows (numbers masked), some messages, and the money that is there."""

    rows: Sequence[Sequence[str]]
    examples: Sequence[Example]
    balance_micro: int
    currency: str


class ReadIn(msgspec.Struct, frozen=True):
    """A file whose rows are stored."""

    job_id: int
    columns: Sequence[str]
    row_count: int
    sample: Sequence[Sequence[str]]  # masked


# ---- uploading


async def read_in(
    database: db.Database,
    vault: Vault,
    settings: Settings,
    tenant_id: TenantId,
    kind: str,
    pieces: AsyncIterator[bytes],
    made_by: str,
) -> ReadIn:
    """Store the rows of a file ('csv', 'xlsx') that comes in pieces, in constant memory; in short transactions.

    Raises Refusal for what is no table or too large, and while others are read; then nothing is kept.
    """
    if _uploads[tenant_id] >= UPLOADS_OF_TENANT_MAX or _uploads.total() >= UPLOADS_MAX:
        raise Refusal(Code.SYSTEM_BUSY, retry_after_s=BUSY_S, reason="other files are being read")
    _uploads[tenant_id] += 1
    try:
        return await _read_in(database, vault, settings, tenant_id, kind, pieces, made_by)
    finally:
        _uploads[tenant_id] -= 1


_uploads: Final = Counter[TenantId]()  # under way in this process


async def _read_in(
    database: db.Database,
    vault: Vault,
    settings: Settings,
    tenant_id: TenantId,
    kind: str,
    pieces: AsyncIterator[bytes],
    made_by: str,
) -> ReadIn:
    folder = settings.state_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:  # without a name, gone with us
        await _spool(file, pieces)
        async with database.transaction() as tx:
            job_id = await jobs.make(
                tx, tenant_id, READ, {}, made_by=made_by, state=JobState.RUNNING, keep_s=UNFINISHED_KEEP_S
            )
        try:
            return await _rows_in(database, vault, folder, tenant_id, job_id, kind, file)
        except BaseException as error:
            async with database.transaction() as tx:
                await jobs.abandon(tx, job_id, jobs.said(error) if isinstance(error, Refusal) else "")
            raise


async def _spool(file: BinaryIO, pieces: AsyncIterator[bytes]) -> None:
    octets = 0
    async for piece in pieces:
        octets += len(piece)
        if octets > OCTETS_MAX:
            raise Refusal(Code.REQUEST_TOO_LARGE, octets_max=OCTETS_MAX)
        file.write(piece)


async def _rows_in(
    database: db.Database,
    vault: Vault,
    folder: Path,
    tenant_id: TenantId,
    job_id: int,
    kind: str,
    file: BinaryIO,
) -> ReadIn:
    columns: Sequence[str] = ()
    sample: list[Sequence[str]] = []
    count = number = 0
    async with aclosing(tables.read(file, kind, folder)) as batches:
        async for rows in batches:
            if not columns:
                columns = rows[0][1]
                _demand_names(columns)
                continue
            first = rows[: SAMPLE_ROWS - len(sample)]
            sample += [[observe.masked(cell) for cell in cells] for _, cells in first]
            sealed = vault.seal(tenant_id, msgspec.msgpack.encode(rows))
            async with database.transaction() as tx:
                await jobs.put_chunk(tx, job_id, Role.IN, number, len(rows), sealed)
            count += len(rows)
            number += 1
    return ReadIn(job_id, columns, count, sample)


def _demand_names(columns: Sequence[str]) -> None:
    """Refuse a first row of values: whoever forgot the header would never write to the first person."""
    for column in columns:
        try:
            phone.parse(column)
        except phone.BadNumber:
            continue
        raise Refusal(Code.REQUEST_UNSUPPORTED_FILE, reason="the first row must name the columns", row=1)


CREATE_SQL: LiteralString = """
INSERT INTO sending_list (tenant_id, name, columns, row_count, read_job, made_by) VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id
"""


async def create(tx: db.Tx, tenant_id: TenantId, name: str, read: ReadIn, made_by: str) -> int:
    """Make a list of rows that are stored; returns its id."""
    demand_list_name(name)
    await jobs.finish(tx, read.job_id, read.row_count)
    made: int = await tx.fetchval(
        CREATE_SQL, tenant_id, name, list(read.columns), read.row_count, read.job_id, made_by
    )
    return made


def demand_list_name(name: str) -> None:
    sound = name == name.strip() and name.isprintable() and 0 < len(name) <= NAME_CHARACTERS_MAX
    demand(sound, "name", f"1 to {NAME_CHARACTERS_MAX} printable characters, no blanks around them")


# ---- checking and sending


LOCK_SQL: LiteralString = """
SELECT l.id, l.tenant_id, l.columns, l.row_count, l.read_job, l.check_job, l.send_job, c.state AS check_state,
       c.counts AS check_counts, c.asked AS check_asked
  FROM sending_list l LEFT JOIN job c ON c.id = l.check_job
 WHERE l.id = $1 AND ($2::int IS NULL OR l.tenant_id = $2) FOR UPDATE OF l
"""
CHECKED_SQL: LiteralString = "UPDATE sending_list SET check_job = $2 WHERE id = $1"


async def check(
    tx: db.Tx, snapshot: Snapshot, tenant_id: TenantId, list_id: int, wanted: Wanted, *, made_by: str
) -> None:
    """Have every row checked, for this template and these columns; a check before is forgotten.

    Raises Refusal for what no row could be sent with, and where the list is being checked or sent.
    """
    row = await _locked(tx, tenant_id, list_id)
    if row["send_job"] is not None:
        raise Refusal(Code.REQUEST_CONFLICT, reason="the list was started")
    if row["check_state"] in (JobState.WAITING, JobState.RUNNING, JobState.PAUSED):
        raise Refusal(Code.REQUEST_CONFLICT, reason="a check is under way; stop it first")
    await _demand_app(tx, tenant_id, wanted.app_id)
    template = _demand_wording(snapshot, tenant_id, wanted)
    plan = _plan(row, wanted, template)
    await jobs.keep(tx, row["read_job"])
    if row["check_job"] is not None:
        await jobs.expire(tx, [row["check_job"]])
    job_id = await jobs.make(tx, tenant_id, CHECK, plan, made_by=made_by, total=row["row_count"])
    await tx.execute(CHECKED_SQL, list_id, job_id)


async def _locked(tx: db.Tx, tenant_id: TenantId, list_id: int) -> db.Row:
    return demand_found(await tx.fetchrow(LOCK_SQL, list_id, tenant_id), id=list_id)


APP_SQL: LiteralString = "SELECT id FROM app WHERE id = $1 AND tenant_id = $2"


async def _demand_app(tx: db.Tx, tenant_id: TenantId, app_id: int) -> None:
    demand(await tx.fetchval(APP_SQL, app_id, tenant_id) is not None, "app_id", "one of the tenant's apps")


def _demand_wording(snapshot: Snapshot, tenant_id: TenantId, wanted: Wanted) -> Template:
    tenant = demand_found(snapshot.tenants.get(tenant_id), tenant=tenant_id)
    template = tenant.templates.get(wanted.template)
    if template is None:
        raise Refusal(Code.TEMPLATE_NOT_FOUND, template=wanted.template)
    if not template.approved:
        raise Refusal(Code.TEMPLATE_NOT_APPROVED, template=wanted.template)
    if not template.signature_id:
        if not wanted.signature:
            raise Refusal(Code.REQUEST_MISSING_PARAMETER, parameter="signature")
        signature = tenant.signatures.get(wanted.signature)
        if signature is None:
            raise Refusal(Code.SIGN_NOT_FOUND, signature=wanted.signature)
        if not signature.approved:
            raise Refusal(Code.SIGN_NOT_APPROVED, signature=wanted.signature)
    return template


def _plan(row: db.Row, wanted: Wanted, template: Template) -> Plan:
    columns: list[str] = row["columns"]
    mapping = wanted.mapping

    def place(column: str, parameter: str) -> int:
        demand(column in columns, parameter, f"a column of the list: {', '.join(columns)}"[:300])
        return columns.index(column)

    variables = set(template.text_in(wanted.language).rules)
    if set(mapping.params) != variables:
        raise Refusal(
            Code.TEMPLATE_MISSING_VARIABLE,
            missing=sorted(variables - set(mapping.params)),
            unknown=sorted(set(mapping.params) - variables)[:10],
        )
    return Plan(
        list_id=row["id"],
        row_count=row["row_count"],
        read_job=row["read_job"],
        app_id=wanted.app_id,
        number=place(mapping.number, "mapping.number"),
        params={name: place(column, "mapping.params") for name, column in mapping.params.items()},
        reference=None if mapping.reference is None else place(mapping.reference, "mapping.reference"),
        template=wanted.template,
        signature=wanted.signature,
        language=wanted.language,
        send_at=wanted.send_at,
        spread_s=wanted.spread_s,
    )


STARTED_SQL: LiteralString = "UPDATE sending_list SET send_job = $2 WHERE id = $1"


async def start(tx: db.Tx, settings: Settings, tenant_id: TenantId, list_id: int, *, made_by: str) -> bool:
    """Have what the check found ready sent; said again, it changes nothing. Returns whether it was new.

    Raises Refusal where it is not checked, nothing is ready, or the last would be due too far ahead.
    """
    row = await _locked(tx, tenant_id, list_id)
    if row["send_job"] is not None:
        return False
    if row["check_state"] != JobState.DONE:
        raise Refusal(Code.REQUEST_CONFLICT, reason="check the list first")
    ready = msgspec.json.decode(row["check_counts"]).get("ready", 0)
    if not ready:
        raise Refusal(Code.REQUEST_CONFLICT, reason="no row is ready to be sent")
    plan = msgspec.json.decode(row["check_asked"], type=Plan)
    last_at = max(plan.send_at or clock.now(), clock.now()) + timedelta(seconds=plan.spread_s)
    ahead = timedelta(seconds=settings.schedule_s_max)
    demand(last_at <= clock.now() + ahead, "send_at", f"with its spread at most {ahead.days} days ahead")
    await jobs.keep(tx, row["check_job"])
    plan = msgspec.structs.replace(plan, check_job=row["check_job"])
    job_id = await jobs.make(tx, tenant_id, SEND, plan, made_by=made_by, total=ready)
    await tx.execute(STARTED_SQL, list_id, job_id)
    return True


async def pause(tx: db.Tx, tenant_id: TenantId, list_id: int) -> None:
    """Let the check or the sending rest. Raises Refusal where neither is under way."""
    await jobs.pause(tx, tenant_id, _job_of(await _locked(tx, tenant_id, list_id)))


async def resume(tx: db.Tx, tenant_id: TenantId, list_id: int) -> None:
    """Let it go on. Raises Refusal where it does not rest, or the rows are forgotten."""
    row = await _locked(tx, tenant_id, list_id)
    await jobs.keep(tx, row["read_job"] if row["send_job"] is None else row["check_job"])
    await jobs.resume(tx, tenant_id, _job_of(row))


async def stop(tx: db.Tx, tenant_id: TenantId, list_id: int) -> None:
    """End it where it is; what was accepted still leaves. A check may be made anew, a sending may not."""
    await jobs.stop(tx, tenant_id, _job_of(await _locked(tx, tenant_id, list_id)))


def _job_of(row: db.Row) -> int:
    job_id: int | None = row["check_job"] if row["send_job"] is None else row["send_job"]
    if job_id is None:
        raise Refusal(Code.REQUEST_CONFLICT, reason="nothing is under way: check the list first")
    return job_id


# ---- telling


_COLUMNS: LiteralString = """
SELECT l.id, l.tenant_id, l.name, l.columns, l.row_count, l.read_job, l.check_job, l.send_job, l.made_by, l.made_at,
       c.state AS c_state, c.done AS c_done, c.total AS c_total, c.counts AS c_counts, c.asked AS c_asked,
       c.error AS c_error, s.state AS s_state, s.done AS s_done, s.total AS s_total, s.counts AS s_counts,
       s.error AS s_error, s.started_at AS s_started_at, s.ended_at AS s_ended_at
  FROM sending_list l LEFT JOIN job c ON c.id = l.check_job LEFT JOIN job s ON s.id = l.send_job
"""
LISTED_SQL: LiteralString = _COLUMNS + " WHERE l.tenant_id = $1 AND l.id < $2 ORDER BY l.id DESC LIMIT $3"
ONE_SQL: LiteralString = _COLUMNS + " WHERE l.id = $1 AND l.tenant_id = $2"


async def listed(tx: db.Tx, tenant_id: TenantId, *, before: int, limit: int) -> Sequence[ListRow]:
    """List a tenant's lists below an id, the newest first."""
    return [ListRow(**_shown(row)) for row in await tx.fetch(LISTED_SQL, tenant_id, before, limit)]


async def one(tx: db.Tx, snapshot: Snapshot, vault: Vault, tenant_id: TenantId, list_id: int) -> ListWhole:
    """Tell everything about a list. Raises Refusal, not found."""
    row = demand_found(await tx.fetchrow(ONE_SQL, list_id, tenant_id), id=list_id)
    first = await jobs.next_chunk(tx, vault, tenant_id, row["read_job"], Role.IN, -1)
    rows = [] if first is None else msgspec.msgpack.decode(first[1])[:SAMPLE_ROWS]
    tenant = snapshot.tenants.get(tenant_id)
    return ListWhole(
        **_shown(row),
        rows=[[observe.masked(cell) for cell in cells] for _, cells in rows],
        examples=await _examples(tx, snapshot, vault, row),
        balance_micro=await charge.balance_micro(tx, tenant_id),
        currency=tenant.currency if tenant else "",
    )


def _shown(row: db.Row) -> dict[str, Any]:
    names = ("id", "name", "columns", "row_count", "made_by", "made_at")
    return {name: row[name] for name in names} | {
        "state": _stage(row),
        "check": _checked(row),
        "sending": _sent(row),
    }


def _stage(row: db.Row) -> ListStage:
    if row["s_state"] is not None:
        return _SENDING.get(row["s_state"], ListStage.SENDING)
    return ListStage.NEW if row["c_state"] is None else _CHECKING.get(row["c_state"], ListStage.CHECKING)


_SENDING: Final[Mapping[str, ListStage]] = {
    "paused": ListStage.PAUSED,
    "stopped": ListStage.STOPPED,
    "done": ListStage.DONE,
    "failed": ListStage.FAILED,
}
_CHECKING: Final[Mapping[str, ListStage]] = {
    "paused": ListStage.PAUSED,
    "stopped": ListStage.NEW,
    "done": ListStage.CHECKED,
    "failed": ListStage.FAILED,
}


def _checked(row: db.Row) -> Checked | None:
    if row["c_state"] is None:
        return None
    counts = msgspec.json.decode(row["c_counts"])
    plan = msgspec.json.decode(row["c_asked"], type=Plan)
    return Checked(
        state=JobState(row["c_state"]),
        done=row["c_done"],
        total=row["c_total"],
        ready=counts.get("ready", 0),
        left_out=counts.get("left_out", {}),
        price_micro=counts.get("price_micro", 0),
        parts=counts.get("parts", {}),
        template=plan.template,
        signature=plan.signature,
        language=plan.language,
        app_id=plan.app_id,
        send_at=plan.send_at,
        spread_s=plan.spread_s,
        error=row["c_error"],
    )


def _sent(row: db.Row) -> Sent | None:
    if row["s_state"] is None:
        return None
    counts = msgspec.json.decode(row["s_counts"])
    return Sent(
        state=JobState(row["s_state"]),
        accepted=counts.get("accepted", 0),
        refused=counts.get("refused", {}),
        waiting=row["s_total"] - row["s_done"],
        error=row["s_error"],
        started_at=row["s_started_at"],
        ended_at=row["s_ended_at"],
    )


async def _examples(tx: db.Tx, snapshot: Snapshot, vault: Vault, row: db.Row) -> Sequence[Example]:
    """Render the first ready rows, as the template is now."""
    tenant = snapshot.tenants.get(row["tenant_id"])
    if row["check_job"] is None or tenant is None:
        return []
    first = await jobs.next_chunk(tx, vault, row["tenant_id"], row["check_job"], Role.OUT, -1)
    plan = msgspec.json.decode(row["c_asked"], type=Plan)
    template = tenant.templates.get(plan.template)
    if first is None or template is None:
        return []
    name = snapshot.signatures[template.signature_id].name if template.signature_id else plan.signature
    examples = []
    for ready in msgspec.msgpack.decode(first[1], type=list[Ready])[:EXAMPLES]:
        try:
            body = template.text_in(plan.language).render(dict(zip(plan.params, ready.values, strict=True)))
        except Refusal:  # the template has changed since
            return []
        examples.append(Example(ready.row, observe.masked_number(ready.number), f"【{name}】{body}"))
    return examples


JOBS_SQL: LiteralString = """
SELECT check_job, send_job FROM sending_list WHERE id = $1 AND tenant_id = $2
"""


async def jobs_of(tx: db.Tx, tenant_id: TenantId, list_id: int) -> Sequence[int]:
    """Return the jobs that may have left rows out. Raises Refusal, not found."""
    row = demand_found(await tx.fetchrow(JOBS_SQL, list_id, tenant_id), id=list_id)
    return [job_id for job_id in (row["check_job"], row["send_job"]) if job_id is not None]


async def left_out(
    database: db.Database, vault: Vault, tenant_id: TenantId, job_ids: Sequence[int], *, whole_numbers: bool
) -> AsyncIterator[bytes]:
    """Yield a CSV of the rows these jobs left out, and why."""
    yield tables.BOM + tables.csv_octets([("row", "number", "reason", "explanation")])
    for job_id in job_ids:
        async for plain in jobs.chunks(database, vault, tenant_id, job_id, Role.LEFT_OUT):
            rows = msgspec.msgpack.decode(plain, type=list[LeftOut])
            yield tables.csv_octets(
                [
                    (
                        row.row,
                        row.number if whole_numbers else observe.masked_number(row.number),
                        row.reason,
                        _EXPLAINED.get(row.reason, ""),
                    )
                    for row in rows
                ]
            )


_EXPLAINED: Final[Mapping[str, str]] = {code.value.name: code.value.en for code in Code} | {
    DUPLICATE: "An earlier row has this number",
    NO_CONSENT: "There is no consent of this person on record",
    EMPTY_VARIABLE: "The cell of a variable is empty: the text would have a hole",
}


async def forget(tx: db.Tx, tenant_id: TenantId, list_id: int) -> None:
    """Forget a list's rows now, not in a week; the figures stay. Raises Refusal while it is checked or sent."""
    row = await _locked(tx, tenant_id, list_id)
    numbers = [row[name] for name in ("read_job", "check_job", "send_job") if row[name] is not None]
    for job_id in numbers:
        state = (await jobs.find(tx, tenant_id, job_id)).state
        if state in (JobState.WAITING, JobState.RUNNING, JobState.PAUSED):
            raise Refusal(Code.REQUEST_CONFLICT, reason="stop it first")
    await jobs.expire(tx, numbers)
