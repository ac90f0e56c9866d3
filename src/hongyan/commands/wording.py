"""Commands about signatures and templates, and the decisions people make about them."""

from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.vocab.wording import Variable

signatures = typer.Typer(no_args_is_help=True, help="The 【names】 before texts, reviewed before use.")
templates = typer.Typer(no_args_is_help=True, help="Wording with ${variables}, reviewed before use.")

Tenant = Annotated[str, typer.Argument(help="The tenant's name or number.")]
Approve = Annotated[bool, typer.Option("--approve", help="Approve it at once: you have reviewed it.")]


@signatures.command("list")
def list_signatures(as_json: AsJson = False) -> None:
    """List signatures and how far their review is."""
    from hongyan.control import wording as room

    frame.show(room.signatures, as_json=as_json, empty="no signatures yet")


@signatures.command("create")
def create_signature(
    tenant: Tenant,
    name: Annotated[str, typer.Argument(help="Without 【】.")],
    extension: Annotated[
        str, typer.Option(help="Digits after our access number, so that replies find it.")
    ] = "",
    approve: Approve = False,
) -> None:
    """Propose a signature."""
    from hongyan.control import tenants
    from hongyan.control import wording as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        tenant_id = await tenants.find(tx, tenant)
        signature_id = await room.propose_signature(tx, tenant_id, name, extension=extension)
        if approve:
            await room.move_signature(tx, signature_id, room.State.APPROVED)

    frame.change(step)
    if not approve:
        frame.say(f"waits for review: hongyan signatures approve {tenant} {name}")


@signatures.command("approve")
def approve_signature(tenant: Tenant, name: str) -> None:
    """Approve a signature that is reviewed, or enable a disabled one."""
    _move_signature(tenant, name, "approved")


@signatures.command("reject")
def reject_signature(tenant: Tenant, name: str) -> None:
    """Reject a signature that is reviewed."""
    _move_signature(tenant, name, "rejected")


@signatures.command("disable")
def disable_signature(tenant: Tenant, name: str) -> None:
    """Let nobody use an approved signature for now."""
    _move_signature(tenant, name, "disabled")


def _move_signature(tenant: str, name: str, state: str) -> None:
    from hongyan.control import tenants
    from hongyan.control import wording as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        signature_id = await room.find_signature(tx, await tenants.find(tx, tenant), name)
        await room.move_signature(tx, signature_id, room.State(state))

    frame.change(step)


@templates.command("list")
def list_templates(as_json: AsJson = False) -> None:
    """List templates and how far their review is."""
    from hongyan.control import wording as room

    frame.show(room.templates, as_json=as_json, empty="no templates yet")


@templates.command("create")
def create_template(
    tenant: Tenant,
    code: Annotated[str, typer.Argument(help="What programs call it by.")],
    body: Annotated[
        str, typer.Argument(help="As '您的订单${order}已发货'; quote it, $ means something to shells.")
    ],
    purpose: Annotated[str, typer.Option(help="otp, transactional or promotional")],
    variable: Annotated[
        list[str] | None, typer.Option(help="A rule, as code=code or note=text:100; again for more.")
    ] = None,
    signature: Annotated[str, typer.Option(help="Only under this signature.")] = "",
    scope: Annotated[str, typer.Option(help="mainland, international or any")] = "any",
    resend: Annotated[
        bool, typer.Option(help="After a crash that left it unsure, a notice may be sent again.")
    ] = True,
    approve: Approve = False,
) -> None:
    """Propose a template."""
    from hongyan.control import tenants
    from hongyan.control import wording as room

    wanted = frame.purpose_of(purpose)
    if wanted is None:
        raise typer.BadParameter("say otp, transactional or promotional", param_hint="--purpose")
    places: dict[str, room.Scope] = {"mainland": "mainland", "international": "international", "any": "any"}
    if scope not in places:
        raise typer.BadParameter(f"say {', '.join(places)}", param_hint="--scope")
    rules = dict(_rule(written) for written in variable or ())

    async def step(tx: "db.Tx", _: Desk) -> None:
        tenant_id = await tenants.find(tx, tenant)
        bound = await room.find_signature(tx, tenant_id, signature) if signature else None
        template_id = await room.propose_template(
            tx,
            tenant_id,
            code,
            body,
            wanted,
            scope=places[scope],
            signature_id=bound,
            variables=rules,
            resend=resend,
        )
        if approve:
            await room.move_template(tx, template_id, room.State.APPROVED)

    frame.change(step)
    if not approve:
        frame.say(f"waits for review: hongyan templates approve {tenant} {code}")


def _rule(written: str) -> "tuple[str, Variable]":
    """Read name=kind or name=kind:characters."""
    from hongyan.vocab.wording import Variable

    name, equals, rest = written.partition("=")
    kind, _, most = rest.partition(":")
    if not (name and equals and kind and (not most or most.isdecimal())):
        raise typer.BadParameter(
            f"{written!r}: say name=kind or name=kind:characters", param_hint="--variable"
        )
    return name, Variable(kind, int(most or 0))


@templates.command("approve")
def approve_template(tenant: Tenant, code: str) -> None:
    """Approve a template that is reviewed, or enable a disabled one."""
    _move_template(tenant, code, "approved")


@templates.command("reject")
def reject_template(tenant: Tenant, code: str) -> None:
    """Reject a template that is reviewed."""
    _move_template(tenant, code, "rejected")


@templates.command("disable")
def disable_template(tenant: Tenant, code: str) -> None:
    """Let nobody use an approved template for now."""
    _move_template(tenant, code, "disabled")


def _move_template(tenant: str, code: str, state: str) -> None:
    from hongyan.control import tenants
    from hongyan.control import wording as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        template_id = await room.find_template(tx, await tenants.find(tx, tenant), code)
        await room.move_template(tx, template_id, room.State(state))

    frame.change(step)
