"""Lists of people to write to: upload, check, start, and watch."""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan.control import lists, tables
from hongyan.control.lists import ListRow, ListWhole, Mapped, Wanted
from hongyan.control.permissions import Permission
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, File, Reach, Route
from hongyan.vocab.errors import Code, Refusal


class AskedUpload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the list is to be called. The body is the file itself."""

    name: Annotated[str, Meta(min_length=1, max_length=lists.NAME_CHARACTERS_MAX)]


class AskedListCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be sent to the list."""

    mapping: Mapped
    template: Annotated[str, Meta(min_length=1, max_length=64)]
    signature: lists.Word = ""
    language: Annotated[str, Meta(max_length=35, description="BCP 47; empty: the template's default.")] = ""
    app_id: Annotated[int, Meta(ge=1, le=INT_MAX)] | UnsetType = msgspec.field(default=UNSET)
    send_at: lists.Moment | None = None
    spread_s: Annotated[
        int, Meta(ge=0, le=lists.SPREAD_S_MAX, description="Its messages become due evenly over so long.")
    ] = 0


class AskedLeftOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether numbers are to be whole: who may see them so, says so, and it is kept in the audit."""

    whole_numbers: bool = False


class ListPage(msgspec.Struct, frozen=True):
    """A page of lists, the newest first."""

    items: Sequence[ListRow]
    next: str | None = None


async def upload(call: Call) -> ListWhole:
    """Store a file's rows."""
    name = call.query(AskedUpload).name
    lists.demand_list_name(name)
    media = call.asked.content_type.decode("latin-1").partition(";")[0].strip().lower()
    kind = tables.KINDS.get(media)
    if kind is None:
        raise Refusal(Code.REQUEST_UNSUPPORTED_FILE, content_types=list(tables.KINDS))
    door, by = call.door, call.caller.name
    read = await lists.read_in(door.database, door.vault, door.settings, call.tenant, kind, call.chunks(), by)
    async with door.database.transaction() as tx:
        number = await lists.create(tx, call.tenant, name, read, by)
        told = await lists.one(tx, door.snapshots.current, door.vault, call.tenant, number)
        call.note(f"list:{number}", name=name, rows=read.row_count)
        await call.record(tx)
    return told


async def listed(call: Call) -> ListPage:
    """List lists."""
    asked = call.query(paging.Asked)
    before = min(paging.before(asked), INT_MAX)
    rows = await lists.listed(call.tx, call.tenant, before=before, limit=asked.limit)
    return ListPage(rows, paging.following(rows, asked))


async def one(call: Call) -> ListWhole:
    """Tell everything about a list."""
    return await _whole(call)


async def _whole(call: Call) -> ListWhole:
    door = call.door
    return await lists.one(call.tx, door.snapshots.current, door.vault, call.tenant, call.number())


async def check(call: Call) -> ListWhole:
    """Have every row checked."""
    asked = call.body(AskedListCheck)
    wanted = Wanted(
        mapping=asked.mapping,
        template=asked.template,
        signature=asked.signature,
        language=asked.language,
        app_id=_app_of(call, asked),
        send_at=asked.send_at,
        spread_s=asked.spread_s,
    )
    await lists.check(
        call.tx, call.door.snapshots.current, call.tenant, call.number(), wanted, made_by=call.caller.name
    )
    call.note(
        f"list:{call.number()}", template=asked.template, signature=asked.signature, app_id=wanted.app_id
    )
    return await _whole(call)


def _app_of(call: Call, asked: AskedListCheck) -> int:
    """Return as which app a list is sent: a program's is its own, people name one."""
    _demand_not_sandbox(call)
    key = call.caller.key
    if key is None:
        if asked.app_id is UNSET:
            raise Refusal(Code.REQUEST_MISSING_PARAMETER, parameter="app_id")
        return asked.app_id
    if asked.app_id is not UNSET and asked.app_id != key.app_id:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="app_id", reason="a program sends as its own app"
        )
    return key.app_id


def _demand_not_sandbox(call: Call) -> None:
    """A key of the sandbox writes to sandbox numbers only, and a list has others. Raises Refusal."""
    if call.caller.key is not None and call.caller.key.sandbox:
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="a sandbox key sends no lists")


async def start(call: Call) -> ListWhole:
    """Have what is ready sent."""
    _demand_not_sandbox(call)
    new = await lists.start(call.tx, call.door.settings, call.tenant, call.number(), made_by=call.caller.name)
    told = await _whole(call)
    ready = told.check.ready if told.check else 0
    call.note(f"list:{call.number()}", new=new, ready=ready)
    return told


async def pause(call: Call) -> ListWhole:
    """Let the check or the sending rest."""
    await lists.pause(call.tx, call.tenant, call.number())
    return await _moved(call)


async def resume(call: Call) -> ListWhole:
    """Let it go on."""
    await lists.resume(call.tx, call.tenant, call.number())
    return await _moved(call)


async def stop(call: Call) -> ListWhole:
    """End it where it is."""
    await lists.stop(call.tx, call.tenant, call.number())
    return await _moved(call)


async def _moved(call: Call) -> ListWhole:
    told = await _whole(call)
    call.note(f"list:{told.id}", state=told.state)
    return told


async def forget(call: Call) -> ListWhole:
    """Forget the rows now."""
    await lists.forget(call.tx, call.tenant, call.number())
    call.note(f"list:{call.number()}")
    return await _whole(call)


async def left_out(call: Call) -> File:
    """Give what was not sent, and why."""
    whole = call.query(AskedLeftOut).whole_numbers
    number = call.number()
    job_ids = await lists.jobs_of(call.tx, call.tenant, number)
    if whole:
        if not call.caller.may(Permission.NUMBERS_UNMASK):
            raise Refusal(Code.AUTH_PERMISSION_DENIED, permission=Permission.NUMBERS_UNMASK)
        call.note(f"list:{number}", whole_numbers=True)
        await call.record(call.tx)
    door = call.door
    rows = lists.left_out(door.database, door.vault, call.tenant, job_ids, whole_numbers=whole)
    return File(f"list-{number}-left-out.csv", tables.CSV_TYPE, rows)


_ID: Final = "/v1/lists/{id}"
_MOVES: Final = (
    ("pause", "pauseList", "Let the check or the sending of a list rest.", pause),
    ("resume", "resumeList", "Let a list go on that was paused, or paused itself.", resume),
    ("stop", "stopList", "End the check or the sending where it is; what was accepted still leaves.", stop),
    ("forget", "forgetList", "Forget the rows of a list now; its figures stay.", forget),
)
ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/lists",
        name="uploadList",
        summary="Upload a list: CSV (UTF-8, GB18030; comma, semicolon or tab) or XLSX, its first row naming the columns.",
        reach=Reach.TENANT,
        permission=Permission.MESSAGES_SEND,
        status=201,
        query=AskedUpload,
        gives=ListWhole,
        codes=(*BODY, Code.REQUEST_UNSUPPORTED_FILE, Code.REQUEST_CONFLICT),
        file=True,
        file_kinds=tuple(tables.KINDS),
        own_transactions=True,
        changes=False,
        manages=upload,
    ),
    Route(
        method="GET",
        path="/v1/lists",
        name="listLists",
        summary="List the lists, the newest first.",
        reach=Reach.TENANT,
        permission=Permission.MESSAGES_READ,
        query=paging.Asked,
        gives=ListPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="GET",
        path=_ID,
        name="getList",
        summary="Tell everything about a list: what was checked, what is sent.",
        reach=Reach.TENANT,
        permission=Permission.MESSAGES_READ,
        gives=ListWhole,
        ids="integer",
        manages=one,
    ),
    Route(
        method="POST",
        path=_ID + "/check",
        name="checkList",
        summary="Check every row of a list for a template and these columns, and count what it would cost.",
        reach=Reach.TENANT,
        permission=Permission.MESSAGES_SEND,
        body=AskedListCheck,
        example={
            "mapping": {"number": "手机号", "params": {"place": "地点"}, "reference": "订单号"},
            "template": "arrived",
            "signature": "鸿雁",
            "app_id": 1,
        },
        gives=ListWhole,
        codes=(
            *BODY,
            Code.REQUEST_CONFLICT,
            Code.TEMPLATE_NOT_FOUND,
            Code.TEMPLATE_NOT_APPROVED,
            Code.TEMPLATE_MISSING_VARIABLE,
            Code.SIGN_NOT_FOUND,
            Code.SIGN_NOT_APPROVED,
        ),
        ids="integer",
        changes=False,
        manages=check,
    ),
    Route(
        method="POST",
        path=_ID + "/start",
        name="startList",
        summary="Send what the check found ready. Said again, it changes nothing.",
        reach=Reach.TENANT,
        permission=Permission.MESSAGES_SEND,
        gives=ListWhole,
        codes=(Code.REQUEST_CONFLICT,),
        ids="integer",
        changes=False,
        manages=start,
    ),
    *(
        Route(
            method="POST",
            path=f"{_ID}/{word}",
            name=name,
            summary=summary,
            reach=Reach.TENANT,
            permission=Permission.MESSAGES_SEND,
            gives=ListWhole,
            codes=(Code.REQUEST_CONFLICT,),
            ids="integer",
            changes=False,
            manages=manages,
        )
        for word, name, summary, manages in _MOVES
    ),
    Route(
        method="GET",
        path=_ID + "/left-out",
        name="getListLeftOut",
        summary="Fetch what was not sent, and why, as CSV.",
        reach=Reach.TENANT,
        permission=Permission.MESSAGES_READ,
        query=AskedLeftOut,
        gives=File,
        codes=QUERY,
        ids="integer",
        manages=left_out,
    ),
)
