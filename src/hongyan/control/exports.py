"""Exports: what a list of the API shows, all of it, as a file.

Writes nothing itself (jobs.py keeps the file). Entry points: ask(), file(); KINDS, for jobs.Runner. Another list is one
more entry of SOURCES. The rows are gathered a page at a time into sealed chunks with the word of where the next page
begins, so an export goes on after a crash; CSV is written from them as it is fetched, XLSX once they are complete.
Numbers are masked, and texts with them, unless whoever asks may see them whole and says so.
"""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hongyan import clock, db, observe
from hongyan.control import audit, jobs, ledger, tables
from hongyan.control.bounds import demand
from hongyan.control.jobs import Held, JobRow, JobState, Role, Tools, Work
from hongyan.control.permissions import Permission
from hongyan.vault import Vault
from hongyan.vocab import phone
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose, Status, TenantId
from hongyan.way import lookup, measure
from hongyan.way.measure import By, Group
from hongyan.way.snapshot import Snapshot

EXPORT: Final = "export"  # a kind of jobs
ROWS_MAX: Final = 1_000_000  # of one file; a sheet holds 1,048,576
STATISTICS_ROWS_MAX: Final = 100_000
PIECE_OCTETS: Final = 1 << 20  # of an XLSX, in a chunk
PAGE_ROWS: Final = 200
SMALL_PAGE: Final = 500
BIGGEST: Final = 2**63 - 1
AHEAD: Final = timedelta(minutes=1)
EARLIEST: Final = datetime(
    1970, 1, 1, tzinfo=UTC
)  # ids count from then; beyond the other, offsets leave the calendar
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)

Format = Literal["csv", "xlsx"]
Moment = Annotated[datetime, Meta(tz=True)]
Word = Annotated[str, Meta(max_length=64)]
Words = Annotated[tuple[Word, ...], Meta(max_length=measure.VALUES_MAX)]


class Span(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={"since": "from", "until": "to"},
):
    """From when, to when (not included)."""

    since: Moment | None = None
    until: Moment | None = None


class MessageFilters(
    Span, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"since": "from", "until": "to"}
):
    """As GET /v1/messages."""

    number: Annotated[str, Meta(max_length=40)] | None = None
    reference: Word | None = None
    status: Status | None = None
    cause: Cause | None = None
    purpose: Purpose | None = None
    template: Word | None = None
    channel: Word | None = None
    app_id: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None


class StatisticsFilters(
    Span, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"since": "from", "until": "to"}
):
    """As GET /v1/statistics."""

    by: By = By.HOUR
    group: Annotated[tuple[Group, ...], Meta(max_length=len(Group))] = ()
    zone: Annotated[str, Meta(max_length=64, description="IANA name; decides where days begin")] = "UTC"
    status: tuple[Status, ...] = ()
    cause: tuple[Cause, ...] = ()
    purpose: tuple[Purpose, ...] = ()
    template: Words = ()
    channel: Words = ()
    country: Words = ()
    operator: Words = ()
    province: Words = ()


class LedgerFilters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As GET /v1/ledger."""

    kind: Literal["top_up", "charge", "refund", "correction"] | None = None


class AuditFilters(
    Span, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"since": "from", "until": "to"}
):
    """As GET /v1/audit."""

    actor: Annotated[str, Meta(max_length=300)] | None = None
    action: Annotated[str, Meta(max_length=300)] | None = None
    subject: Annotated[str, Meta(max_length=300)] | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """An export as its job is asked."""

    what: str
    filters: bytes  # sealed JSON: a number may be among them
    format: Format
    columns: Sequence[str]
    whole_numbers: bool
    everybody: bool


Cells = Sequence[object]
Page = tuple[Sequence[Any], str]  # rows, and where the next page begins; "" where there is none
Turn = Callable[[db.Tx, Snapshot, Vault, TenantId | None, Any, str], Awaitable[Page]]


@dataclass(frozen=True, slots=True)
class Source:
    """One list that can be exported: who may, what can be asked, how a page of it is read."""

    permission: Permission
    filters: type[msgspec.Struct]
    row: type[msgspec.Struct]  # its fields are the columns
    page: Turn
    everybody: bool = False  # the platform may have that of all tenants at once
    numbers: tuple[str, ...] = ()  # columns that hold one
    texts: tuple[str, ...] = ()  # columns that may speak of one

    @property
    def columns(self) -> Sequence[str]:
        return self.row.__struct_fields__


# ---- asking


async def ask(
    tx: db.Tx,
    snapshot: Snapshot,
    vault: Vault,
    tenant_id: TenantId | None,
    *,
    what: str,
    filters: Mapping[str, Any],
    format_: Format,
    columns: Sequence[str],
    whole_numbers: bool,
    made_by: str,
) -> int:
    """Have a file made; returns its job. Raises Refusal for what is not exported, or cannot be asked of it.

    `tenant_id` None is everybody, where the list can be that.  Who may is asked before: source_of().permission.
    """
    source = source_of(what)
    demand(tenant_id is not None or source.everybody, "tenant_id", "say which tenant")
    known = set(source.columns)
    demand(set(columns) <= known, "columns", f"of {', '.join(source.columns)}")
    demand(len(set(columns)) == len(columns), "columns", "each once")
    wanted = _read(filters, source.filters)
    for name, at in (("from", getattr(wanted, "since", None)), ("to", getattr(wanted, "until", None))):
        demand(at is None or EARLIEST <= at < LATEST, name, f"between {EARLIEST:%Y} and {LATEST:%Y}")
    if isinstance(wanted, MessageFilters | StatisticsFilters) and wanted.until is None:
        # So that every page means the same time. As in the list: another process's clock may be ahead.
        wanted = msgspec.structs.replace(wanted, until=clock.now() + AHEAD)
    await source.page(tx, snapshot, vault, tenant_id, wanted, "")  # what it would refuse, it refuses now
    asked = Asked(
        what=what,
        filters=vault.seal(tenant_id or 0, msgspec.json.encode(wanted)),
        format=format_,
        columns=columns or source.columns,
        whole_numbers=whole_numbers,
        everybody=tenant_id is None,
    )
    return await jobs.make(tx, tenant_id or 0, EXPORT, asked, made_by=made_by)


def source_of(what: str) -> Source:
    source = SOURCES.get(what)
    if source is None:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="what", reason=f"one of {', '.join(SOURCES)}")
    return source


def _read(filters: Mapping[str, Any], kind: type[msgspec.Struct]) -> Any:
    try:
        return msgspec.convert(filters, kind)
    except msgspec.ValidationError as error:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="filters", reason=str(error)[:300]) from None


async def find(tx: db.Tx, tenant_id: TenantId | None, job_id: int) -> tuple[JobRow, Asked]:
    """Return an export and what it was asked. Raises Refusal, not found: other jobs are no exports."""
    row = await jobs.find(tx, tenant_id, job_id)
    if row.kind != EXPORT:
        raise Refusal(Code.REQUEST_NOT_FOUND, id=job_id)
    return (await _with_asked(tx, [row]))[0]


async def listed(
    tx: db.Tx, tenant_id: TenantId | None, *, before: int, limit: int
) -> Sequence[tuple[JobRow, Asked]]:
    """List exports below an id, the newest first, with what they were asked."""
    return await _with_asked(tx, await jobs.listed(tx, tenant_id, before=before, limit=limit, kind=EXPORT))


async def _with_asked(tx: db.Tx, rows: Sequence[JobRow]) -> Sequence[tuple[JobRow, Asked]]:
    plans = await jobs.plans(tx, [row.id for row in rows])
    return [(row, msgspec.json.decode(plans[row.id], type=Asked)) for row in rows]


async def file(
    tx: db.Tx, database: db.Database, vault: Vault, row: JobRow, asked: Asked
) -> tuple[str, str, AsyncIterator[bytes]]:
    """Return a finished export's file: name, content type, pieces. Raises Refusal where it is not finished, or forgotten."""
    if row.state is not JobState.DONE:
        raise Refusal(Code.REQUEST_CONFLICT, reason=f"the export is {row.state}")
    await jobs.keep(tx, row.id)
    name = f"{asked.what}-{row.id}.{asked.format}"
    if asked.format == "xlsx":
        return name, tables.XLSX_TYPE, jobs.chunks(database, vault, row.tenant_id, row.id, Role.OUT)
    return name, tables.CSV_TYPE, _csv(database, vault, row, asked)


async def _csv(database: db.Database, vault: Vault, row: JobRow, asked: Asked) -> AsyncIterator[bytes]:
    yield tables.BOM + tables.csv_octets([asked.columns])
    async for rows in _gathered(database, vault, row.tenant_id, row.id):
        yield tables.csv_octets(rows)


async def _gathered(
    database: db.Database, vault: Vault, tenant_id: int, job_id: int
) -> AsyncIterator[Sequence[Cells]]:
    async for plain in jobs.chunks(database, vault, tenant_id, job_id, Role.IN):
        yield msgspec.msgpack.decode(plain)


# ---- working


async def work(tools: Tools, held: Held) -> None:
    """Gather the rows, then write them down as they were asked for."""
    asked = msgspec.json.decode(held.asked, type=Asked)
    await _gather(tools, held, asked)
    if asked.format == "xlsx":
        await _write(tools, held, asked)


async def _gather(tools: Tools, held: Held, asked: Asked) -> None:
    source = source_of(asked.what)
    filters = msgspec.json.decode(tools.vault.unseal(held.tenant_id, asked.filters), type=source.filters)
    tenant_id = None if asked.everybody else held.tenant_id
    while not held.counts.get("complete"):
        held.demand_going()
        async with tools.database.transaction() as tx:
            rows, following = await source.page(
                tx, tools.keeper.current, tools.vault, tenant_id, filters, held.place
            )
            rows = rows[: ROWS_MAX - held.done]
            cells = [_cells(row, source, asked) for row in rows]
            number = held.counts.get("pages", 0)
            if cells:
                sealed = tools.vault.seal(held.tenant_id, msgspec.msgpack.encode(cells))
                await jobs.put_chunk(tx, held.id, Role.IN, number, len(cells), sealed)
            held.counts["pages"] = number + 1
            held.done += len(cells)
            held.counts["truncated"] = bool(following) and held.done >= ROWS_MAX
            held.counts["complete"] = not following or held.done >= ROWS_MAX
            held.total = held.done if held.counts["complete"] else 0
            held.place = following
            await held.advance(tx)


def _cells(row: Any, source: Source, asked: Asked) -> list[object]:
    return [_cell(name, getattr(row, name), source, whole=asked.whole_numbers) for name in asked.columns]


def _cell(name: str, value: object, source: Source, *, whole: bool) -> object:
    if isinstance(value, str) and not whole:
        if name in source.numbers:
            return observe.masked_number(value)
        if name in source.texts:
            return observe.masked(value)
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, int | float | str):
        return value
    if isinstance(value, Mapping):
        return msgspec.json.encode(value).decode()
    return value.isoformat() if isinstance(value, datetime) else str(value)


async def _write(tools: Tools, held: Held, asked: Asked) -> None:
    """Write the sheet anew from the rows; a sheet that was cut off in the middle is of no use."""
    folder = tools.settings.state_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def batches() -> AsyncIterator[Sequence[Cells]]:
        yield [asked.columns]
        async for rows in _gathered(tools.database, tools.vault, held.tenant_id, held.id):
            held.demand_going()
            yield rows

    with tempfile.TemporaryFile(dir=folder) as written:
        await tables.write_xlsx(written, batches(), folder)
        written.seek(0)
        async with tools.database.transaction() as tx:
            await jobs.drop_chunks(tx, held.id, Role.OUT)
        number = 0
        while piece := written.read(PIECE_OCTETS):
            async with tools.database.transaction() as tx:
                await jobs.put_chunk(
                    tx, held.id, Role.OUT, number, 0, tools.vault.seal(held.tenant_id, piece)
                )
                await held.advance(tx)
            held.demand_going()
            number += 1


# ---- the lists


async def _messages(
    tx: db.Tx,
    snapshot: Snapshot,
    vault: Vault,
    tenant_id: TenantId | None,
    filters: MessageFilters,
    place: str,
) -> Page:
    assert tenant_id is not None
    question = lookup.Question(
        number=None if filters.number is None else _e164(filters.number),
        reference=filters.reference,
        status=filters.status,
        cause=filters.cause,
        purpose=filters.purpose,
        template=filters.template,
        channel=filters.channel,
        app_id=filters.app_id,
        created_from=filters.since,
        created_to=filters.until,
        cursor=place or None,
        limit=PAGE_ROWS,
    )
    page = await lookup.search(tx, snapshot, vault, tenant_id, question)
    return page.items, page.next_cursor or ""


def _e164(number: str) -> str:
    try:
        return phone.parse(number).e164
    except phone.BadNumber as error:
        raise Refusal(Code.NUMBER_INVALID, reason=error.fault) from error


async def _inbound(
    tx: db.Tx, _snapshot: Snapshot, vault: Vault, tenant_id: TenantId | None, filters: Span, place: str
) -> Page:
    """Read from the newest on; the list knows no times, so what is too new is passed over."""
    assert tenant_id is not None
    page = await lookup.inbound(tx, vault, tenant_id, place or None, PAGE_ROWS)
    since, until = filters.since, filters.until
    rows = [
        one
        for one in page.items
        if (since is None or one.came_at >= since) and (until is None or one.came_at < until)
    ]
    is_past = since is not None and bool(page.items) and page.items[-1].came_at < since
    return rows, "" if is_past else page.next_cursor or ""


def question(filters: StatisticsFilters) -> measure.Question:
    """Return what is to be counted, as measure asks it."""
    return measure.Question(
        by=filters.by,
        groups=filters.group,
        counted_from=filters.since,
        counted_to=filters.until,
        zone=filters.zone,
        statuses=filters.status,
        causes=filters.cause,
        purposes=filters.purpose,
        templates=filters.template,
        channels=filters.channel,
        countries=filters.country,
        operators=filters.operator,
        provinces=filters.province,
    )


async def _statistics(
    tx: db.Tx,
    snapshot: Snapshot,
    _vault: Vault,
    tenant_id: TenantId | None,
    filters: StatisticsFilters,
    _place: str,
) -> Page:
    table = await measure.statistics(tx, snapshot, tenant_id, question(filters), rows_max=STATISTICS_ROWS_MAX)
    return table.rows, ""


async def _ledger(
    tx: db.Tx,
    _snapshot: Snapshot,
    _vault: Vault,
    tenant_id: TenantId | None,
    filters: LedgerFilters,
    place: str,
) -> Page:
    assert tenant_id is not None
    rows = await ledger.entries(
        tx, tenant_id, before=int(place or BIGGEST), kind=filters.kind, limit=SMALL_PAGE
    )
    return rows, str(rows[-1].id) if len(rows) == SMALL_PAGE else ""


async def _audit(
    tx: db.Tx,
    _snapshot: Snapshot,
    _vault: Vault,
    tenant_id: TenantId | None,
    filters: AuditFilters,
    place: str,
) -> Page:
    wanted = audit.Filter(
        tenant_id=tenant_id,
        actor=filters.actor,
        action=filters.action,
        subject=filters.subject,
        since=filters.since,
        until=filters.until,
        before=int(place) if place else None,
    )
    found = await audit.listed(tx, wanted, SMALL_PAGE)
    return found.rows, "" if found.before is None else str(found.before)


SOURCES: Final[Mapping[str, Source]] = {
    "messages": Source(
        Permission.MESSAGES_READ,
        MessageFilters,
        lookup.Brief,
        _messages,
        numbers=("number",),
        texts=("text",),
    ),
    "inbound": Source(
        Permission.MESSAGES_READ, Span, lookup.Letter, _inbound, numbers=("number",), texts=("text",)
    ),
    "statistics": Source(
        Permission.STATISTICS_READ, StatisticsFilters, measure.Row, _statistics, everybody=True
    ),
    "ledger": Source(Permission.LEDGER_READ, LedgerFilters, ledger.Entry, _ledger),
    "audit": Source(Permission.AUDIT_READ, AuditFilters, audit.AuditRow, _audit, everybody=True),
}
KINDS: Final[Mapping[str, Work]] = {EXPORT: work}
