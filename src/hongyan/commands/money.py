"""Commands about money: movements, packages, operators' bills."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.control.bills import Bill

ledger = typer.Typer(no_args_is_help=True, help="Movements of a tenant's money.")
packages = typer.Typer(no_args_is_help=True, help="Parts sold ahead.")
bills = typer.Typer(no_args_is_help=True, help="Operators' bills beside what we counted.")

Tenant = Annotated[str, typer.Argument(help="Name or number.")]
LISTED_MAX = 500


@ledger.command("list")
def list_entries(tenant: Tenant, as_json: AsJson = False) -> None:
    """List the newest movements."""
    from hongyan.control import ledger as room
    from hongyan.control import tenants

    async def every(tx: "db.Tx") -> list[room.Entry]:
        tenant_id = await tenants.find(tx, tenant)
        return list(await room.entries(tx, tenant_id, before=2**62, kind=None, limit=LISTED_MAX))

    frame.show(every, as_json=as_json, empty="nothing has moved yet")


@ledger.command("correct")
def correct(
    tenant: Tenant,
    amount: Annotated[str, typer.Argument(help="What to add; with a minus what to take.")],
    note: Annotated[str, typer.Option(help="Why.")],
    reference: Annotated[str, typer.Option(help="Booked once, as an invoice number.")] = "",
) -> None:
    """Correct a balance; it never goes below zero."""
    from hongyan.control import ledger as room
    from hongyan.control import tenants

    async def step(tx: "db.Tx", desk: Desk) -> int:
        tenant_id = await tenants.find(tx, tenant)
        desk.note(f"tenant:{tenant_id}", tenant_id=tenant_id, amount_micro=frame.micro(amount))
        return await room.correct(tx, tenant_id, frame.micro(amount), note, reference=reference)

    typer.echo(f"balance {frame.amount(frame.change(step))}")


@packages.command("list")
def list_packages(as_json: AsJson = False) -> None:
    """List packages with what is left of them, the newest first."""
    from hongyan.control import packages as room

    frame.show(lambda tx: room.page(tx, None), as_json=as_json, empty="no packages yet")


@packages.command("sell")
def sell(
    tenant: Tenant,
    name: str,
    parts: int,
    price: Annotated[str, typer.Option(help="What each part counts as, as 0.04.")],
    paid: Annotated[str, typer.Option(help="For all of them.")],
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The first day it is gone, UTC.")],
    reference: Annotated[str, typer.Option(help="Booked once, as an invoice number.")] = "",
) -> None:
    """Sell a package; the tenant's price has to be set as well (`prices set`)."""
    from hongyan.control import packages as room
    from hongyan.control import tenants

    async def step(tx: "db.Tx", desk: Desk) -> int:
        tenant_id = await tenants.find(tx, tenant)
        number = await room.sell(
            tx,
            tenant_id,
            name=name,
            parts=parts,
            part_micro=frame.micro(price),
            paid_micro=frame.micro(paid),
            expires_at=until.replace(tzinfo=UTC),
            reference=reference,
        )
        desk.note(f"package:{number}", tenant_id=tenant_id)
        return number

    typer.echo(f"package {frame.change(step)}")


@bills.command("reconcile")
def reconcile(
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV.")],
    name: Annotated[str, typer.Option(help="What the bill is called.")],
    zone: Annotated[str, typer.Option(help="Where its days begin.")] = "Asia/Shanghai",
    as_json: AsJson = False,
) -> None:
    """Put an operator's bill beside what we counted."""
    from hongyan.control import bills as room
    from hongyan.control import upstreams

    async def step(tx: "db.Tx", desk: Desk) -> "Bill":
        channel_id = await upstreams.find(tx, channel)
        lines = room.read_csv(file.read_bytes())
        number = await room.reconcile(tx, channel_id, name, lines, zone=zone, made_by="cli")
        desk.note(f"bill:{number}", lines=len(lines))
        return await room.one(tx, number)

    frame.show_rows(frame.change(step).lines, as_json=as_json, empty="nothing")


@bills.command("list")
def list_bills(as_json: AsJson = False) -> None:
    """List bills."""
    from hongyan.control import bills as room

    frame.show(room.every, as_json=as_json, empty="no bills yet")
