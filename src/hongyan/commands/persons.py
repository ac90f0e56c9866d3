"""Commands about persons: tell or forget all of a number, complaints, how long things are kept; and shred a tenant.

Writes through control/persons.py, control/retention.py, control/data_keys.py; each change leaves a record in the audit.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hongyan import db
    from hongyan.control.complaints import ComplaintRow
    from hongyan.control.retention import RetentionRow
    from hongyan.vocab.message import TenantId

persons = typer.Typer(no_args_is_help=True, help="What is known of a person, and its erasure.")
complaints = typer.Typer(no_args_is_help=True, help="Complaints and their answers.")
retention = typer.Typer(no_args_is_help=True, help="How long things are kept.")

Number = Annotated[str, typer.Argument(help="E.164 or national.")]
Tenant = Annotated[str, typer.Option(help="Whose: its name or number.")]
Reason = Annotated[str, typer.Option(help="Kept in the audit.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@persons.command("export")
def export(
    number: Number,
    tenant: Tenant,
    reason: Reason,
    out: Annotated[Path, typer.Option(help="A file of yours alone; - is standard output.")] = Path("-"),
) -> None:
    """Write everything a tenant has of a number, as one JSON object."""
    from hongyan.control import persons as room
    from hongyan.otp.persons import ROOM

    async def deed(desk: Desk) -> None:
        async with desk.database.transaction() as tx:
            tenant_id = await _tenant(tx, tenant)
            await _record(tx, desk, "exportPerson", number, tenant_id, reason)
        chunks = room.export(desk.database, desk.vault, tenant_id, number, (ROOM,))
        if str(out) == "-":
            async for chunk in chunks:
                sys.stdout.buffer.write(chunk)
            return
        out.touch(mode=0o600)
        with out.open("wb") as file:
            async for chunk in chunks:
                file.write(chunk)

    frame.at_desk(deed)


@persons.command("erase")
def erase(number: Number, tenant: Tenant, reason: Reason, yes: Yes = False) -> None:
    """Take a number and all its texts out of what a tenant has. Opt-outs stay; nothing brings the rest back."""
    from hongyan.control import persons as room
    from hongyan.otp.persons import ROOM
    from hongyan.way import optout

    if not yes:
        typer.confirm("Nothing brings back what is erased. Go on?", abort=True, err=True)

    async def deed(desk: Desk) -> bool:
        async with desk.database.transaction() as tx:
            tenant_id = await _tenant(tx, tenant)
            erased, whom = await room.forget(tx, desk.vault, tenant_id, number, (ROOM,))
            await _record(tx, desk, "erasePerson", number, tenant_id, reason)
        await optout.tell(desk.database, [whom])
        typer.echo(
            f"{erased.messages} messages ({erased.waiting} had not left and will not), {erased.inbound} inbound texts, "
            f"{erased.consents} consents, {erased.complaints} complaints"
            + "".join(f", {count} {name}" for name, count in erased.besides.items())
        )
        if erased.files:
            frame.say(f"{erased.files} files of lists and exports still have rows and were not looked into")
        return erased.complete

    if not frame.at_desk(deed):
        frame.say("there is more of this number: erase again")
        raise typer.Exit(1)


@complaints.command("list")
def list_complaints(
    tenant: Annotated[str, typer.Option(help="Only this tenant's; empty: everybody's.")] = "",
    overdue: Annotated[bool, typer.Option("--overdue", help="Only open ones whose answer is late.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Of lines.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List complaints, the newest first, numbers masked."""
    from hongyan.control import complaints as room

    async def step(tx: "db.Tx", desk: Desk) -> "Sequence[ComplaintRow]":
        tenant_id = await _tenant(tx, tenant) if tenant else None
        return await room.page(tx, desk.vault, tenant_id, 2**63 - 1, limit, overdue=overdue)

    frame.show_rows(frame.look(step), as_json=as_json, empty="nobody complained")


@retention.command("list")
def list_retention(as_json: AsJson = False) -> None:
    """List how many days each class is kept, and between which bounds that may be said."""
    from hongyan.control import retention as room

    async def step(tx: "db.Tx", desk: Desk) -> "Sequence[RetentionRow]":
        return await room.listed(tx, desk.settings)

    frame.show_rows(frame.look(step), as_json=as_json, empty="")


@retention.command("set")
def set_retention(
    kept: Annotated[str, typer.Argument(metavar="CLASS", help="As hongyan retention list shows it.")],
    days: Annotated[int, typer.Argument(help="0 goes back to the default.")],
) -> None:
    """Decide how many days a class is kept. What is shortened is gone soon, and no longer time brings it back."""
    from hongyan.control import retention as room
    from hongyan.way.retention import Kept

    try:
        named = Kept(kept)
    except ValueError as error:
        raise typer.BadParameter(f"say {', '.join(Kept)}", param_hint="CLASS") from error

    async def step(tx: "db.Tx", desk: Desk) -> None:
        await room.put(tx, desk.settings, {named: days or None})
        await _audit(tx, "putRetention", "retention", None, {named.value: days})

    frame.look(step)


def shred(
    tenant: Annotated[str, typer.Argument(help="Its name or number.")],
    reason: Reason,
    yes: Yes = False,
) -> None:
    """Destroy the key of a suspended tenant: nobody, we neither, reads its numbers and texts again.

    Rows, balances and statistics stay. Start the processes again afterwards: they still have the key in memory. Backups
    made before have the key too, until they are gone.
    """
    from hongyan.control import data_keys

    if not yes:
        typer.confirm("Nothing brings the key back. Go on?", abort=True, err=True)

    async def step(tx: "db.Tx", _desk: Desk) -> None:
        tenant_id = await _tenant(tx, tenant)
        await data_keys.shred(tx, tenant_id)
        await _audit(tx, "shredTenant", f"tenant:{tenant_id}", tenant_id, {"reason": reason})

    frame.look(step)
    typer.echo("shredded; start the processes again")


async def _tenant(tx: "db.Tx", named: str) -> "TenantId":
    from hongyan.control import tenants as room

    return await room.find(tx, named)


async def _record(
    tx: "db.Tx", desk: Desk, action: str, number: str, tenant_id: "TenantId", reason: str
) -> None:
    from hongyan.control.consents import index_of
    from hongyan.way import consent

    _, phone_index = index_of(desk.vault, number)
    subject = f"person:{consent.shown_index(phone_index)}"
    await _audit(tx, action, subject, tenant_id, {"reason": reason})


async def _audit(
    tx: "db.Tx", action: str, subject: str, tenant_id: "TenantId | None", detail: dict[str, object]
) -> None:
    from hongyan.control import audit

    await audit.record(
        tx,
        actor=frame.actor(),
        action=action,
        subject=subject,
        tenant_id=tenant_id,
        address="",
        request_id="",
        detail=detail,
    )
