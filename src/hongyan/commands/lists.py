"""Commands about lists that are sent to, exports, and the jobs that do it. A process with the role `control` works on them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.control.lists import ListWhole

lists = typer.Typer(no_args_is_help=True, help="Lists of people to write to: upload, check, start.")
exports = typer.Typer(no_args_is_help=True, help="What lists of the API show, as files.")
jobs = typer.Typer(no_args_is_help=True, help="Long work under way.")

Tenant = Annotated[str, typer.Argument(help="The tenant's name or number.")]
ListId = Annotated[int, typer.Argument(help="The list's id.")]
JobId = Annotated[int, typer.Argument(help="The job's id.")]
MADE_BY = "cli"
EVERY = 2**31 - 1
PIECE_OCTETS = 1 << 20
ROWS_SHOWN = 200


# ---- lists


@lists.command("upload")
def upload(
    tenant: Tenant,
    file: Annotated[Path, typer.Argument(help="CSV or XLSX; its first row names the columns.", exists=True)],
    name: Annotated[str, typer.Option(help="What it is called; none: the file's name.")] = "",
    as_json: AsJson = False,
) -> None:
    """Upload a list."""
    from hongyan.control import lists as room
    from hongyan.control import tenants

    async def deed(desk: Desk) -> dict[str, object]:
        async with desk.database.transaction() as tx:
            tenant_id = await tenants.find(tx, tenant)
        kind = "xlsx" if file.suffix.lower() == ".xlsx" else "csv"
        read = await room.read_in(
            desk.database, desk.vault, desk.settings, tenant_id, kind, _pieces(file), MADE_BY
        )
        async with desk.database.transaction() as tx:
            number = await room.create(tx, tenant_id, name or file.name, read, MADE_BY)
            desk.note(f"list:{number}", tenant_id=tenant_id, name=name or file.name, rows=read.row_count)
            await frame.record(tx, desk)
        return {"list": number, "rows": read.row_count, "columns": ", ".join(read.columns)}

    frame.show_pairs(frame.at_desk(deed), as_json=as_json)


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(PIECE_OCTETS):
            yield piece


@lists.command("list")
def list_lists(tenant: Tenant, as_json: AsJson = False) -> None:
    """List a tenant's lists, the newest first."""
    from hongyan.control import lists as room
    from hongyan.control import tenants

    async def step(tx: "db.Tx", _: Desk) -> list[Any]:
        tenant_id = await tenants.find(tx, tenant)
        return list(await room.listed(tx, tenant_id, before=EVERY, limit=ROWS_SHOWN))

    rows = frame.look(step)
    if as_json or not rows:
        frame.show_rows(rows, as_json=as_json, empty="no lists yet")
        return
    lines = [["id", "name", "state", "rows", "ready", "accepted", "waiting"]]
    for row in rows:
        ready = row.check.ready if row.check else "-"
        sent = (row.sending.accepted, row.sending.waiting) if row.sending else ("-", "-")
        lines.append([str(cell) for cell in (row.id, row.name, row.state, row.row_count, ready, *sent)])
    typer.echo(frame.table(lines))


@lists.command("show")
def show(tenant: Tenant, list_id: ListId) -> None:
    """Print everything about a list, as JSON."""
    import msgspec

    async def step(tx: "db.Tx", desk: Desk) -> "ListWhole":
        return await _whole(tx, desk, tenant, list_id)

    typer.echo(msgspec.json.format(msgspec.json.encode(frame.look(step)), indent=2))


async def _whole(tx: "db.Tx", desk: Desk, tenant: str, list_id: int) -> "ListWhole":
    from hongyan.control import lists as room
    from hongyan.control import tenants
    from hongyan.way.snapshot import Keeper

    tenant_id = await tenants.find(tx, tenant)
    snapshot = await Keeper(desk.database, desk.vault).load()
    return await room.one(tx, snapshot, desk.vault, tenant_id, list_id)


@lists.command("check")
def check(
    tenant: Tenant,
    list_id: ListId,
    app: Annotated[str, typer.Option(help="As which app it is sent.")],
    template: Annotated[str, typer.Option(help="The template's code.")],
    number: Annotated[str, typer.Option(help="The column of the numbers.")],
    signature: Annotated[str, typer.Option(help="Unless the template has one.")] = "",
    param: Annotated[list[str] | None, typer.Option(help="variable=column; again for more.")] = None,
    reference: Annotated[str, typer.Option(help="The column of your references.")] = "",
    language: Annotated[str, typer.Option(help="Of the template's texts.")] = "",
    spread_s: Annotated[int, typer.Option(help="Spread it over so many seconds.")] = 0,
) -> None:
    """Have every row checked; `show` tells what came of it."""
    from hongyan.control import lists as room
    from hongyan.control import tenants
    from hongyan.way.snapshot import Keeper

    pairs = [written.partition("=") for written in param or ()]
    if not all(equals for _, equals, _ in pairs):
        raise typer.BadParameter("say variable=column", param_hint="--param")

    async def step(tx: "db.Tx", desk: Desk) -> None:
        tenant_id = await tenants.find(tx, tenant)
        desk.note(f"list:{list_id}", tenant_id=tenant_id)
        wanted = room.Wanted(
            mapping=room.Mapped(number, {name: column for name, _, column in pairs}, reference or None),
            template=template,
            signature=signature,
            language=language,
            app_id=await tenants.find_app(tx, tenant_id, app),
            spread_s=spread_s,
        )
        snapshot = await Keeper(desk.database, desk.vault).load()
        await room.check(tx, snapshot, tenant_id, list_id, wanted, made_by=MADE_BY)

    frame.act(step)


@lists.command("start")
def start(tenant: Tenant, list_id: ListId) -> None:
    """Send what the check found ready."""
    from hongyan.control import lists as room
    from hongyan.control import tenants

    async def step(tx: "db.Tx", desk: Desk) -> None:
        tenant_id = await tenants.find(tx, tenant)
        desk.note(f"list:{list_id}", tenant_id=tenant_id)
        await room.start(tx, desk.settings, tenant_id, list_id, made_by=MADE_BY)

    frame.act(step)


@lists.command("pause")
def pause(tenant: Tenant, list_id: ListId) -> None:
    """Let a list rest."""
    _move("pause", tenant, list_id)


@lists.command("resume")
def resume(tenant: Tenant, list_id: ListId) -> None:
    """Let a list go on."""
    _move("resume", tenant, list_id)


@lists.command("stop")
def stop(tenant: Tenant, list_id: ListId) -> None:
    """End a list where it is."""
    _move("stop", tenant, list_id)


@lists.command("forget")
def forget(tenant: Tenant, list_id: ListId) -> None:
    """Forget a list's rows now; its figures stay."""
    _move("forget", tenant, list_id)


def _move(how: str, tenant: str, list_id: int) -> None:
    from hongyan.control import lists as room
    from hongyan.control import tenants

    moves: dict[str, Callable[..., Awaitable[None]]] = {
        "pause": room.pause,
        "resume": room.resume,
        "stop": room.stop,
        "forget": room.forget,
    }

    async def step(tx: "db.Tx", desk: Desk) -> None:
        tenant_id = await tenants.find(tx, tenant)
        desk.note(f"list:{list_id}", tenant_id=tenant_id)
        await moves[how](tx, tenant_id, list_id)

    frame.act(step)


@lists.command("left-out")
def left_out(tenant: Tenant, list_id: ListId) -> None:
    """Print what was not sent and why, as CSV, numbers masked."""
    from hongyan.control import lists as room
    from hongyan.control import tenants

    async def deed(desk: Desk) -> None:
        async with desk.database.transaction() as tx:
            tenant_id = await tenants.find(tx, tenant)
            job_ids = await room.jobs_of(tx, tenant_id, list_id)
        async for piece in room.left_out(desk.database, desk.vault, tenant_id, job_ids, whole_numbers=False):
            typer.echo(piece, nl=False)

    frame.at_desk(deed)


# ---- jobs


@jobs.command("list")
def list_jobs(as_json: AsJson = False) -> None:
    """List jobs, the newest first."""
    from hongyan.control import jobs as room

    frame.show(
        lambda tx: room.listed(tx, None, before=EVERY, limit=ROWS_SHOWN), as_json=as_json, empty="no jobs yet"
    )


@jobs.command("pause")
def pause_job(job_id: JobId) -> None:
    """Let a job rest."""
    from hongyan.control import jobs as room

    _move_job(room.pause, job_id)


@jobs.command("resume")
def resume_job(job_id: JobId) -> None:
    """Let a job go on."""
    from hongyan.control import jobs as room

    _move_job(room.resume, job_id)


@jobs.command("stop")
def stop_job(job_id: JobId) -> None:
    """End a job where it is."""
    from hongyan.control import jobs as room

    _move_job(room.stop, job_id)


def _move_job(move: Callable[..., Awaitable[object]], job_id: int) -> None:
    async def step(tx: "db.Tx", desk: Desk) -> None:
        await move(tx, None, job_id)
        desk.note(f"job:{job_id}")

    frame.act(step)


# ---- exports


@exports.command("create")
def create_export(
    what: Annotated[str, typer.Argument(help="messages, inbound, statistics, ledger or audit")],
    tenant: Annotated[str, typer.Option(help="The tenant; none: all, where that can be.")] = "",
    where: Annotated[
        list[str] | None, typer.Option(help="A filter, as status=undelivered; again for more.")
    ] = None,
    xlsx: Annotated[bool, typer.Option("--xlsx", help="XLSX instead of CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have a file made, numbers masked; `exports fetch` gets it."""
    from hongyan.control import exports as room
    from hongyan.control import tenants
    from hongyan.way.snapshot import Keeper

    pairs = [written.partition("=") for written in where or ()]
    if not all(equals for _, equals, _ in pairs):
        raise typer.BadParameter("say filter=value", param_hint="--where")

    async def step(tx: "db.Tx", desk: Desk) -> int:
        tenant_id = await tenants.find(tx, tenant) if tenant else None
        made = await room.ask(
            tx,
            await Keeper(desk.database, desk.vault).load(),
            desk.vault,
            tenant_id,
            what=what,
            filters={name: value for name, _, value in pairs},
            format_="xlsx" if xlsx else "csv",
            columns=(),
            whole_numbers=False,
            made_by=MADE_BY,
        )
        desk.note(f"export:{made}", tenant_id=tenant_id)
        return made

    frame.show_pairs({"export": frame.act(step)}, as_json=as_json)


@exports.command("fetch")
def fetch_export(job_id: JobId, file: Annotated[Path, typer.Argument(help="Where it is written.")]) -> None:
    """Write a finished export into a file."""
    from hongyan.control import exports as room

    async def deed(desk: Desk) -> None:
        async with desk.database.transaction() as tx:
            job, asked = await room.find(tx, None, job_id)
            _, _, pieces = await room.file(tx, desk.database, desk.vault, job, asked)
        file.touch(mode=0o600)  # it may have numbers
        with file.open("wb") as written:
            async for piece in pieces:
                written.write(piece)

    frame.at_desk(deed)
