"""Long work under way: lists that are read, checked and sent, and exports."""

from collections.abc import Sequence
from typing import Final

import msgspec

from hongyan.control import exports, jobs
from hongyan.control.jobs import JobRow
from hongyan.control.permissions import Permission
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.management import paging
from hongyan.doors.route import QUERY, Reach, Route
from hongyan.vocab.errors import Code, Refusal


class JobPage(msgspec.Struct, frozen=True):
    """A page of jobs, the newest first."""

    items: Sequence[JobRow]
    next: str | None = None


async def listed(call: Call) -> JobPage:
    """List jobs."""
    asked = call.query(paging.Asked)
    before = min(paging.before(asked), INT_MAX)
    rows = await jobs.listed(call.tx, call.tenant_id, before=before, limit=asked.limit)
    return JobPage(rows, paging.following(rows, asked))


async def one(call: Call) -> JobRow:
    """Tell how a job stands."""
    return await jobs.find(call.tx, call.tenant_id, call.number())


async def _demand_own(call: Call) -> None:
    """Ask of an export what exports.py asks: it is its maker's, and of who looks after people. Raises Refusal."""
    row = await jobs.find(call.tx, call.tenant_id, call.number())
    is_theirs = row.made_by == call.caller.name or call.caller.may(Permission.USERS_WRITE)
    if row.kind == exports.EXPORT and not is_theirs:
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="somebody else's")


async def pause(call: Call) -> JobRow:
    """Let a job rest."""
    await _demand_own(call)
    await jobs.pause(call.tx, call.tenant_id, call.number())
    return await _moved(call)


async def resume(call: Call) -> JobRow:
    """Let a job go on."""
    await _demand_own(call)
    await jobs.resume(call.tx, call.tenant_id, call.number())
    return await _moved(call)


async def stop(call: Call) -> JobRow:
    """End a job where it is."""
    await _demand_own(call)
    await jobs.stop(call.tx, call.tenant_id, call.number())
    return await _moved(call)


async def _moved(call: Call) -> JobRow:
    row = await jobs.find(call.tx, call.tenant_id, call.number())
    call.note(f"job:{row.id}", kind=row.kind, state=row.state)
    return row


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/jobs",
        name="listJobs",
        summary="List long work, the newest first: lists that are read, checked and sent, and exports.",
        reach=Reach.ANY,
        permission=Permission.MESSAGES_READ,
        query=paging.Asked,
        gives=JobPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="GET",
        path="/v1/jobs/{id}",
        name="getJob",
        summary="Tell how a job stands.",
        reach=Reach.ANY,
        permission=Permission.MESSAGES_READ,
        gives=JobRow,
        ids="integer",
        manages=one,
    ),
    Route(
        method="POST",
        path="/v1/jobs/{id}/pause",
        name="pauseJob",
        summary="Let a job rest between two steps.",
        reach=Reach.ANY,
        permission=Permission.MESSAGES_SEND,
        gives=JobRow,
        codes=(Code.REQUEST_CONFLICT,),
        ids="integer",
        changes=False,
        manages=pause,
    ),
    Route(
        method="POST",
        path="/v1/jobs/{id}/resume",
        name="resumeJob",
        summary="Let a job go on that was paused, paused itself, or failed.",
        reach=Reach.ANY,
        permission=Permission.MESSAGES_SEND,
        gives=JobRow,
        codes=(Code.REQUEST_CONFLICT,),
        ids="integer",
        changes=False,
        manages=resume,
    ),
    Route(
        method="POST",
        path="/v1/jobs/{id}/stop",
        name="stopJob",
        summary="End a job where it is.",
        reach=Reach.ANY,
        permission=Permission.MESSAGES_SEND,
        gives=JobRow,
        codes=(Code.REQUEST_CONFLICT,),
        ids="integer",
        changes=False,
        manages=stop,
    ),
)
