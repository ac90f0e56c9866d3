"""Exports: what a list shows, all of it, as a file."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from hongyan.control import exports, jobs
from hongyan.control.exports import Format
from hongyan.control.jobs import JobRow, JobState
from hongyan.control.permissions import Permission
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, File, Reach, Route
from hongyan.vocab.errors import Code, Refusal

COLUMNS_MAX: Final = 64


class AskedExport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be exported. `filters` are the query of the list that shows it, without cursor and limit."""

    what: Annotated[str, Meta(max_length=32, description=f"One of {', '.join(exports.SOURCES)}.")]
    filters: Annotated[dict[Annotated[str, Meta(max_length=64)], Any], Meta(max_length=32)] = {}
    format: Format = "csv"
    columns: Annotated[
        list[Annotated[str, Meta(max_length=64)]],
        Meta(max_length=COLUMNS_MAX, description="Which, in this order; none: all of them."),
    ] = []
    whole_numbers: bool = False


class ExportRow(msgspec.Struct, frozen=True, kw_only=True):
    """An export. `truncated`: there was more than a file holds."""

    id: int
    what: str
    format: Format
    columns: Sequence[str]
    whole_numbers: bool
    state: JobState
    rows: int
    truncated: bool
    error: str
    made_by: str
    made_at: datetime
    ended_at: datetime | None


class ExportPage(msgspec.Struct, frozen=True):
    """A page of exports, the newest first; of those that whoever asks may read."""

    items: Sequence[ExportRow]
    next: str | None = None


async def create(call: Call) -> ExportRow:
    """Have a file made."""
    asked = call.body(AskedExport)
    _demand_may(call, asked.what, whole_numbers=asked.whole_numbers)
    number = await exports.ask(
        call.tx,
        call.door.snapshots.current,
        call.door.vault,
        call.tenant_id,
        what=asked.what,
        filters=asked.filters,
        format_=asked.format,
        columns=asked.columns,
        whole_numbers=asked.whole_numbers,
        made_by=call.caller.name,
    )
    call.note(
        f"export:{number}", what=asked.what, filters=sorted(asked.filters), whole_numbers=asked.whole_numbers
    )
    return _row(*await exports.find(call.tx, call.tenant_id, number))


def _demand_may(call: Call, what: str, *, whole_numbers: bool) -> None:
    """Ask of an export what its list asks, and the same again when its file is fetched."""
    if not _may(call, what):
        raise Refusal(Code.AUTH_PERMISSION_DENIED, permission=exports.source_of(what).permission)
    if whole_numbers and not call.caller.may(Permission.NUMBERS_UNMASK):
        raise Refusal(Code.AUTH_PERMISSION_DENIED, permission=Permission.NUMBERS_UNMASK)


def _may(call: Call, what: str) -> bool:
    return call.caller.may(exports.source_of(what).permission)


def _row(job: JobRow, asked: exports.Asked) -> ExportRow:
    return ExportRow(
        id=job.id,
        what=asked.what,
        format=asked.format,
        columns=asked.columns,
        whole_numbers=asked.whole_numbers,
        state=job.state,
        rows=job.done,
        truncated=bool(job.counts.get("truncated")),
        error=job.error,
        made_by=job.made_by,
        made_at=job.made_at,
        ended_at=job.ended_at,
    )


async def listed(call: Call) -> ExportPage:
    """List exports."""
    asked = call.query(paging.Asked)
    before = min(paging.before(asked), INT_MAX)
    found = await exports.listed(call.tx, call.tenant_id, before=before, limit=asked.limit)
    following = paging.following([job for job, _ in found], asked)
    return ExportPage([_row(job, plan) for job, plan in found if _may(call, plan.what)], following)


async def one(call: Call) -> ExportRow:
    """Tell how an export stands."""
    job, plan = await exports.find(call.tx, call.tenant_id, call.number())
    _demand_may(call, plan.what, whole_numbers=False)
    return _row(job, plan)


async def stop(call: Call) -> ExportRow:
    """End an export: one's own, or anybody's for who looks after people."""
    job, plan = await exports.find(call.tx, call.tenant_id, call.number())
    _demand_may(call, plan.what, whole_numbers=False)
    if job.made_by != call.caller.name and not call.caller.may(Permission.USERS_WRITE):
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="somebody else's")
    await jobs.stop(call.tx, call.tenant_id, job.id)
    call.note(f"export:{job.id}", what=plan.what)
    return _row(*await exports.find(call.tx, call.tenant_id, job.id))


async def fetch(call: Call) -> File:
    """Give the file."""
    job, plan = await exports.find(call.tx, call.tenant_id, call.number())
    _demand_may(call, plan.what, whole_numbers=plan.whole_numbers)
    name, content_type, chunks = await exports.file(call.tx, call.door.database, call.door.vault, job, plan)
    if plan.whole_numbers:
        call.note(f"export:{job.id}", what=plan.what, whole_numbers=True)
        await call.record(call.tx)
    return File(name, content_type, chunks)


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/exports",
        name="createExport",
        summary="Have what a list shows written into a file, CSV or XLSX.",
        reach=Reach.ANY,
        permission=None,
        status=201,
        body=AskedExport,
        example={"what": "messages", "filters": {"status": "undelivered"}, "format": "xlsx"},
        gives=ExportRow,
        codes=(*BODY, Code.REQUEST_CONFLICT, Code.NUMBER_INVALID),
        changes=False,
        manages=create,
    ),
    Route(
        method="GET",
        path="/v1/exports",
        name="listExports",
        summary="List exports, the newest first.",
        reach=Reach.ANY,
        permission=None,
        query=paging.Asked,
        gives=ExportPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="GET",
        path="/v1/exports/{id}",
        name="getExport",
        summary="Tell how an export stands.",
        reach=Reach.ANY,
        permission=None,
        gives=ExportRow,
        ids="integer",
        manages=one,
    ),
    Route(
        method="GET",
        path="/v1/exports/{id}/file",
        name="getExportFile",
        summary="Fetch the file, once the export is done.",
        reach=Reach.ANY,
        permission=None,
        gives=File,
        codes=(Code.REQUEST_CONFLICT,),
        ids="integer",
        manages=fetch,
    ),
    Route(
        method="POST",
        path="/v1/exports/{id}/stop",
        name="stopExport",
        summary="End an export that is not done.",
        reach=Reach.ANY,
        permission=None,
        gives=ExportRow,
        codes=(Code.REQUEST_CONFLICT,),
        ids="integer",
        changes=False,
        manages=stop,
    ),
)
