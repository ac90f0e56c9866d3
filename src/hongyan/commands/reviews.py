"""Commands about what waits for a person's decision, what it rests on, and by which policies."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.control.documents import DocumentRow
    from hongyan.control.policies import Policies
    from hongyan.control.qualifications import QualificationRow
    from hongyan.control.reviewed import ReviewAbout
    from hongyan.control.reviews import ReviewReason, ReviewRow

reviews = typer.Typer(no_args_is_help=True, help="What waits for a person's decision.")
qualifications = typer.Typer(no_args_is_help=True, help="Who the enterprises behind tenants are.")
documents = typer.Typer(no_args_is_help=True, help="Files that prove who an enterprise is.")
policies = typer.Typer(no_args_is_help=True, help="Who may sign up, and what people have to look at.")

WHO = "command line"
OfTenant = Annotated[str, typer.Option("--tenant", help="Only this tenant's; empty: everybody's.")]
ReviewId = Annotated[int, typer.Argument(help="As hongyan reviews list shows it.", metavar="ID")]


# ---- reviews


@reviews.command("list")
def list_reviews(
    tenant: OfTenant = "",
    kind: Annotated[
        str, typer.Option(help="qualification, signature, template or complaint; empty: all.")
    ] = "",
    state: Annotated[str, typer.Option(help="waiting, approved, rejected or withdrawn.")] = "waiting",
    after: Annotated[int, typer.Option(help="Go on behind this one.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List reviews, the oldest first. Held messages: hongyan held list."""
    from hongyan.control import reviews as room
    from hongyan.control import tenants

    if kind not in {"", *room.ReviewKind}:
        raise typer.BadParameter(f"say {', '.join(room.ReviewKind)}", param_hint="--kind")
    if state not in set(room.ReviewState):
        raise typer.BadParameter(f"say {', '.join(room.ReviewState)}", param_hint="--state")

    async def step(tx: "db.Tx", _: Desk) -> "Sequence[ReviewRow]":
        tenant_id = await tenants.find(tx, tenant) if tenant else None
        wanted = room.ReviewKind(kind) if kind else None
        return await room.page(tx, tenant_id, kind=wanted, state=room.ReviewState(state), after=after)

    frame.show_rows(frame.look(step), as_json=as_json, empty="nothing waits")


@reviews.command("show")
def show_review(review: ReviewId) -> None:
    """Show what a decision rests on, as JSON. Numbers are masked."""
    import msgspec

    from hongyan.control import reviewed
    from hongyan.control import reviews as room

    async def step(tx: "db.Tx", desk: Desk) -> "tuple[ReviewRow, ReviewAbout]":
        row = await room.get(tx, review)
        return row, await reviewed.look(tx, desk.vault, row)

    row, about = frame.look(step)
    typer.echo(msgspec.json.format(msgspec.json.encode({"review": row, "about": about}), indent=2))


@reviews.command("approve")
def approve(review: ReviewId) -> None:
    """Approve. Where two people have to, the review waits for the second one."""
    from hongyan.control import reviews as room

    async def step(tx: "db.Tx", desk: Desk) -> "ReviewRow":
        whose = (await room.get(tx, review)).tenant_id
        desk.note(f"review:{review}", tenant_id=whose, decision="approved")
        return await room.approve(tx, review, WHO)

    row = frame.change(step)
    frame.say(f"{row.kind} {row.title}: {row.state}")


@reviews.command("reject")
def reject(
    review: ReviewId,
    reason_code: Annotated[str, typer.Option(help="As hongyan reviews reasons lists them.")] = "",
    reason: Annotated[str, typer.Option(help="In words; the tenant reads it.")] = "",
) -> None:
    """Reject, for a reason that the tenant is told."""
    from hongyan.control import reviews as room

    async def step(tx: "db.Tx", desk: Desk) -> "ReviewRow":
        whose = (await room.get(tx, review)).tenant_id
        desk.note(
            f"review:{review}", tenant_id=whose, decision="rejected", reason_code=reason_code, reason=reason
        )
        return await room.reject(tx, review, WHO, reason_code, reason)

    row = frame.change(step)
    frame.say(f"{row.kind} {row.title}: {row.state}")


@reviews.command("reasons")
def list_reasons(as_json: AsJson = False) -> None:
    """List reasons to reject, to pick from."""
    from hongyan.control import reviews as room

    async def step(tx: "db.Tx", _: Desk) -> "Sequence[ReviewReason]":
        return await room.reasons(tx)

    frame.show_rows(frame.look(step), as_json=as_json, empty="none")


# ---- qualifications and documents


@qualifications.command("list")
def list_qualifications(tenant: OfTenant = "", as_json: AsJson = False) -> None:
    """List qualifications, the oldest first."""
    from hongyan.control import qualifications as room
    from hongyan.control import tenants

    async def step(tx: "db.Tx", desk: Desk) -> "Sequence[QualificationRow]":
        return await room.page(tx, desk.vault, await tenants.find(tx, tenant) if tenant else None)

    frame.show_rows(frame.look(step), as_json=as_json, empty="no qualifications yet")


@documents.command("list")
def list_documents(tenant: OfTenant = "", as_json: AsJson = False) -> None:
    """List documents."""
    from hongyan.control import documents as room
    from hongyan.control import tenants

    async def step(tx: "db.Tx", _: Desk) -> "Sequence[DocumentRow]":
        return await room.page(tx, await tenants.find(tx, tenant) if tenant else None)

    frame.show_rows(frame.look(step), as_json=as_json, empty="no documents yet")


@documents.command("add")
def add_document(
    tenant: Annotated[str, typer.Argument(help="The tenant's name or number.")],
    file: Annotated[
        Path, typer.Argument(help="A PDF, PNG or JPEG of at most 5 MB.", exists=True, dir_okay=False)
    ],
    kind: Annotated[
        str, typer.Option(help="licence, person_id, authorisation, trademark, app_proof or other.")
    ],
    as_json: AsJson = False,
) -> None:
    """Store a document for a tenant."""
    from hongyan.control import documents as room
    from hongyan.control import tenants

    if kind not in set(room.DocumentKind):
        raise typer.BadParameter(f"say {', '.join(room.DocumentKind)}", param_hint="--kind")
    with file.open("rb") as opened:
        octets = opened.read(room.OCTETS_MAX + 1)

    async def step(tx: "db.Tx", desk: Desk) -> "DocumentRow":
        tenant_id = await tenants.find(tx, tenant)
        row = await room.store(tx, desk.vault, tenant_id, room.DocumentKind(kind), file.name, octets, by=WHO)
        desk.note(f"document:{row.id}", tenant_id=tenant_id, kind=row.kind, name=row.name)
        return row

    row = frame.change(step)
    frame.show_pairs({"document": row.id, "name": row.name}, as_json=as_json)


@documents.command("save")
def save_document(
    document: Annotated[int, typer.Argument(help="As hongyan documents list shows it.", metavar="ID")],
    file: Annotated[Path, typer.Argument(help="Where to; it must not be there yet.")],
) -> None:
    """Write a document to a file, readable by you alone. The look is written into the audit."""
    import os

    from hongyan.control import documents as room

    async def step(tx: "db.Tx", desk: Desk) -> bytes:
        row = await room.get(tx, None, document)
        desk.note(f"document:{row.id}", tenant_id=row.tenant_id, name=row.name)
        return await room.read(tx, desk.vault, row)

    octets = frame.change(step)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(octets)


# ---- policies


@policies.command("show")
def show_policies(as_json: AsJson = False) -> None:
    """Show every policy."""
    import msgspec

    from hongyan.control import policies as room

    async def step(tx: "db.Tx", _: Desk) -> "Policies":
        return await room.read(tx)

    frame.show_pairs(msgspec.to_builtins(frame.look(step)), as_json=as_json)


@policies.command("set")
def set_policies(
    sign_up: Annotated[str, typer.Option(help="open or closed")] = "",
    automatic: Annotated[
        list[str] | None,
        typer.Option(help="Approved at once: signature, template.otp …; again for more; none clears it."),
    ] = None,
    four_eyes: Annotated[
        list[str] | None,
        typer.Option(help="Two people approve: qualification, signature …; again for more; none clears it."),
    ] = None,
) -> None:
    """Change policies; what is not given stays."""
    import msgspec

    from hongyan.control import policies as room

    given: dict[str, Any] = {}
    if sign_up:
        given["sign_up"] = sign_up
    if automatic is not None:
        given["review_automatic"] = [each for each in automatic if each != "none"]
    if four_eyes is not None:
        given["four_eyes"] = [each for each in four_eyes if each != "none"]

    async def step(tx: "db.Tx", desk: Desk) -> None:
        desk.note("policies", **given)
        await room.change(tx, given, who=WHO)

    try:
        frame.change(step)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error)) from error
