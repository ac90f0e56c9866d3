"""Commands about alarms and their rules."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.control.alarms import NewRule

alarms = typer.Typer(no_args_is_help=True, help="What is amiss, and what is watched.")

Rule = Annotated[int, typer.Argument(help="Its number, as `alarms rules` shows it.")]


@alarms.command("list")
def list_alarms(
    all_: Annotated[bool, typer.Option("--all", help="Those that have recovered too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what is amiss."""
    from hongyan.control import alarms as room

    frame.show(lambda tx: room.page(tx, None, open_=not all_), as_json=as_json, empty="all is well")


@alarms.command("rules")
def list_rules(as_json: AsJson = False) -> None:
    """List rules."""
    from hongyan.control import alarms as room

    frame.show(lambda tx: room.rules(tx, None), as_json=as_json, empty="nothing is watched")


@alarms.command("watch")
def create_rule(
    kind: Annotated[str, typer.Argument(help="What to watch, as delivery_rate; the API's page lists them.")],
    threshold: Annotated[float, typer.Argument(help="In the kind's unit.")],
    name: Annotated[str, typer.Option(help="What the rule is called.")] = "",
    tenant: Annotated[str, typer.Option(help="For a tenant; else for the platform.")] = "",
    email: Annotated[list[str] | None, typer.Option(help="Whom to write to; again for more.")] = None,
    webhook: Annotated[str, typer.Option(help="Where to post to.")] = "",
    window_s: Annotated[int, typer.Option(help="Over which rates are counted.")] = 600,
    volume_min: Annotated[int, typer.Option(help="With fewer messages nothing is said.")] = 0,
    for_s: Annotated[int, typer.Option(help="It must stay so, for so long.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Make a rule."""
    from hongyan.control import alarms as room
    from hongyan.control import tenants
    from hongyan.control.readings import WatchKind

    try:
        wanted = WatchKind(kind)
    except ValueError as error:
        raise typer.BadParameter(f"say one of {', '.join(WatchKind)}", param_hint="kind") from error

    async def step(tx: "db.Tx", desk: Desk) -> "NewRule":
        tenant_id = await tenants.find(tx, tenant) if tenant else None
        made = await room.create_rule(
            tx,
            desk.vault,
            desk.settings,
            tenant_id,
            kind=wanted,
            name=name or kind,
            threshold=threshold,
            window_s=window_s,
            volume_min=volume_min,
            for_s=for_s,
            emails=email or (),
            webhook_url=webhook,
        )
        desk.note(f"alarm-rule:{made.rule.id}", tenant_id=tenant_id)
        return made

    made = frame.change(step)
    shown: dict[str, Any] = {"rule": made.rule.id}
    if made.secret:
        shown["secret"] = made.secret.reveal().decode()
    frame.show_pairs(shown, as_json=as_json)


@alarms.command("remove")
def remove_rule(rule: Rule) -> None:
    """Watch it no more, and forget its alarms."""
    from hongyan.control import alarms as room

    async def step(tx: "db.Tx", desk: Desk) -> None:
        await room.remove_rule(tx, rule, None)
        desk.note(f"alarm-rule:{rule}")

    frame.change(step)
