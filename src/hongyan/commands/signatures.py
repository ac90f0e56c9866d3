"""Commands about signatures and their filings, and the decisions people make about them."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hongyan import db

signatures = typer.Typer(no_args_is_help=True, help="The 【names】 before texts, reviewed before use.")
filings = typer.Typer(no_args_is_help=True, help="How far signatures are filed at operators, and until when.")

Tenant = Annotated[str, typer.Argument(help="The tenant's name or number.")]
Why = Annotated[str, typer.Option("--reason", help="Told to the tenant.")]
Approve = Annotated[bool, typer.Option("--approve", help="Approve it at once: you have reviewed it.")]


@signatures.command("list")
def list_signatures(as_json: AsJson = False) -> None:
    """List signatures and how far their review is."""
    from hongyan.control import signatures as room

    frame.show(room.every, as_json=as_json, empty="no signatures yet")


@signatures.command("create")
def create_signature(
    tenant: Tenant,
    name: Annotated[str, typer.Argument(help="Without 【】.")],
    source: Annotated[str, typer.Option(help="Whose name: company, trademark, app or other")] = "company",
    document: Annotated[
        list[int] | None, typer.Option(help="The number of a document that proves it; again for more.")
    ] = None,
    note: Annotated[str, typer.Option(help="For whoever reviews it.")] = "",
    extension: Annotated[
        str, typer.Option(help="Digits after our access number, so that replies find it.")
    ] = "",
    approve: Approve = False,
) -> None:
    """Propose a signature."""
    from hongyan.control import signatures as room
    from hongyan.control import tenants

    if source not in list(room.SignatureSource):
        raise typer.BadParameter(f"say {', '.join(room.SignatureSource)}", param_hint="--source")

    async def step(tx: "db.Tx", _: Desk) -> None:
        tenant_id = await tenants.find(tx, tenant)
        signature_id = await room.propose(
            tx,
            tenant_id,
            name,
            source=room.SignatureSource(source),
            document_ids=document or (),
            note=note,
            extension=extension,
        )
        if (
            approve and (await room.get(tx, signature_id)).state is not room.SignatureState.APPROVED
        ):  # by policy
            await room.move(tx, signature_id, room.SignatureState.APPROVED)

    frame.change(step)
    if not approve:
        frame.say(f"waits for review: hongyan signatures approve {tenant} {name}")


@signatures.command("approve")
def approve_signature(tenant: Tenant, name: str) -> None:
    """Approve a signature that is reviewed, or enable a disabled one."""
    _move_signature(tenant, name, "approved")


@signatures.command("reject")
def reject_signature(tenant: Tenant, name: str, reason: Why = "") -> None:
    """Reject a signature that is reviewed."""
    _move_signature(tenant, name, "rejected", reason)


@signatures.command("disable")
def disable_signature(tenant: Tenant, name: str, reason: Why = "") -> None:
    """Let nobody use an approved signature for now."""
    _move_signature(tenant, name, "disabled", reason)


def _move_signature(tenant: str, name: str, state: str, reason: str = "") -> None:
    from hongyan.control import signatures as room
    from hongyan.control import tenants

    async def step(tx: "db.Tx", _: Desk) -> None:
        signature_id = await room.find(tx, await tenants.find(tx, tenant), name)
        await room.move(tx, signature_id, room.SignatureState(state), reason)

    frame.change(step)


@signatures.command("extend")
def extend_signature(
    tenant: Tenant,
    name: str,
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    extension: Annotated[str, typer.Argument(help="Digits; without them the next free ones.")] = "",
) -> None:
    """Give a signature digits of its own behind the access number of a channel."""
    from hongyan.control import extensions, tenants, upstreams
    from hongyan.control import signatures as room

    async def step(tx: "db.Tx", _: Desk) -> str:
        signature_id = await room.find(tx, await tenants.find(tx, tenant), name)
        return await extensions.assign(tx, signature_id, await upstreams.find(tx, channel), extension)

    frame.say(f"its extension there is {frame.change(step)}")


@filings.command("list")
def list_filings(tenant: Tenant, name: str, as_json: AsJson = False) -> None:
    """List a signature's filings, one for each operator."""
    from hongyan.control import filings as room
    from hongyan.control import signatures, tenants

    async def step(tx: "db.Tx", _: Desk) -> "Sequence[room.FilingRow]":
        return await room.of(tx, await signatures.find(tx, await tenants.find(tx, tenant), name))

    frame.show_rows(frame.look(step), as_json=as_json, empty="no filings")


@filings.command("put")
def put_filing(
    tenant: Tenant,
    name: str,
    operator: Annotated[str, typer.Argument(help="cmcc, unicom, telecom or broadnet")],
    state: Annotated[str, typer.Argument(help="none, filing, filed, ok, failed or lapsed")],
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Its last day.")] = None,
    reason_code: Annotated[
        str, typer.Option(help="Why it failed or lapsed; see docs/api/signatures.md.")
    ] = "",
    reason: Annotated[str, typer.Option(help="The operator's own words.")] = "",
) -> None:
    """Say how far a signature's filing is at an operator."""
    from hongyan.control import filings as room
    from hongyan.control import signatures, tenants

    if state not in list(room.FilingState):
        raise typer.BadParameter(f"say {', '.join(room.FilingState)}", param_hint="state")
    if reason_code and reason_code not in list(room.FilingReason):
        raise typer.BadParameter(f"say {', '.join(room.FilingReason)}", param_hint="--reason-code")

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.put(
            tx,
            await signatures.find(tx, await tenants.find(tx, tenant), name),
            operator,
            room.FilingState(state),
            who="command line",
            reason_code=room.FilingReason(reason_code) if reason_code else None,
            reason=reason,
            valid_until=until.date() if until else None,
        )

    frame.change(step)


@filings.command("expiring")
def list_expiring(
    days: Annotated[int, typer.Option(min=0, max=3_650, help="From today on.")] = 30, as_json: AsJson = False
) -> None:
    """List filings that end soon."""
    from hongyan.control import filings as room

    frame.show(lambda tx: room.expiring(tx, days), as_json=as_json, empty="none ends that soon")


@filings.command("import")
def import_filings(
    operator: Annotated[str, typer.Argument(help="Whose answer it is: cmcc, unicom, telecom or broadnet")],
    file: Annotated[
        Path, typer.Argument(help="A CSV; see docs/api/signatures.md.", exists=True, dir_okay=False)
    ],
) -> None:
    """Take an operator's answer about many filings; each line is taken or left out alone."""
    from hongyan.control import filing_answers

    if file.stat().st_size > filing_answers.OCTETS_MAX:
        raise typer.BadParameter(f"more than {filing_answers.OCTETS_MAX:,} octets", param_hint="file")
    lines = filing_answers.read_csv(file.read_bytes())

    async def step(tx: "db.Tx", _: Desk) -> filing_answers.AnswerTaken:
        return await filing_answers.take(tx, operator, lines, who="command line")

    taken = frame.change(step)
    for fault in taken.faults:
        frame.say(f"line {fault.line}: {fault.reason}")
    frame.say(f"{taken.taken} taken, {taken.left_out} left out")
