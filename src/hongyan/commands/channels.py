"""Commands about channels and the rules that lead messages to them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db

channels = typer.Typer(no_args_is_help=True, help="Accounts at operators and providers.")
routes = typer.Typer(no_args_is_help=True, help="Which channels may carry which messages.")

Channel = Annotated[str, typer.Argument(help="The channel's name.")]


# ---- channels


@channels.command("list")
def list_channels(as_json: AsJson = False) -> None:
    """List channels; their settings stay sealed."""
    from hongyan.control import upstreams

    frame.show(upstreams.every, as_json=as_json, empty="no channels yet")


@channels.command("kinds")
def list_kinds(
    kind: Annotated[str, typer.Argument(help="Explain this kind's settings.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the kinds of channels, or one kind's settings; --json prints its JSON Schema."""
    from hongyan.channels import kinds

    if not kind:
        names = sorted(kinds.KINDS)
        typer.echo(json.dumps(names) if as_json else "\n".join(names))
        return
    schema = kinds.schema(kind)
    if as_json:
        typer.echo(json.dumps(schema, ensure_ascii=False, indent=2))
        return
    (definition,) = [each for each in schema["$defs"].values() if "properties" in each]
    lines = [["setting", "default", "what it is"]]
    for name, each in definition["properties"].items():
        default = json.dumps(each["default"], ensure_ascii=False) if "default" in each else "(needed)"
        lines.append([name, default, each.get("description", "")])
    typer.echo(frame.table(lines))


@channels.command("add")
def add_channel(
    name: str,
    kind: Annotated[str, typer.Argument(help="`hongyan channels kinds` lists them.")],
    setting: Annotated[
        list[str] | None,
        typer.Argument(help="key=value, values as JSON or plain words: hosts='[\"10.0.0.1\"]' system_id=us"),
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="A JSON file with settings; - reads standard input.")
    ] = None,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for the password, so that it stays out of your history.")
    ] = False,
    parts_per_s: Annotated[int, typer.Option(help="Rate agreed; 0 = as fast as the window allows.")] = 0,
    sessions: Annotated[int, typer.Option(help="Connections over all processes.")] = 1,
    access_number: Annotated[str, typer.Option(help="Sender number that extensions are appended to.")] = "",
    report_parts: Annotated[str, typer.Option(help="every, or one report for a whole long text")] = "every",
    cost: Annotated[str, typer.Option(help="What the upstream charges for a part, as 0.03.")] = "0",
    currency: Annotated[str, typer.Option(help="Of the cost, ISO 4217.")] = "CNY",
) -> None:
    """Add a channel. Gateways log in at once; `hongyan routes add` lets messages go there."""
    from hongyan.control import upstreams

    if report_parts not in ("every", "one"):
        raise typer.BadParameter("say every or one", param_hint="--report-parts")
    settings = _settings(settings_file, setting or [])
    if password:
        settings["password"] = frame.ask_secret(f"password at {name}")
    cost_micro = frame.micro(cost)

    async def step(tx: "db.Tx", desk: Desk) -> None:
        await upstreams.add_channel(
            tx,
            desk.vault,
            name=name,
            kind=kind,
            settings=settings,
            parts_per_s=parts_per_s,
            sessions=sessions,
            access_number=access_number,
            report_parts="one" if report_parts == "one" else "every",
            currency=currency,
            cost_micro=cost_micro,
        )

    frame.change(step)
    frame.say(f"next: hongyan check, then hongyan routes add {name}")


@channels.command("configure")
def configure(
    name: Channel,
    settings_file: Annotated[
        Path, typer.Option("--settings", help="A JSON file with all settings; - reads standard input.")
    ],
) -> None:
    """Replace a channel's settings; gateways log out and in again."""
    from hongyan.control import upstreams

    settings = _settings(settings_file, [])

    async def step(tx: "db.Tx", desk: Desk) -> None:
        await upstreams.configure(tx, desk.vault, await upstreams.find(tx, name), settings)

    frame.change(step)


@channels.command("pause")
def pause(name: Channel) -> None:
    """Submit nothing more there; reports still come."""
    from hongyan.control import upstreams

    async def step(tx: "db.Tx", _: Desk) -> None:
        await upstreams.pause(tx, await upstreams.find(tx, name))

    frame.change(step)


@channels.command("resume")
def resume(name: Channel) -> None:
    """Submit there again."""
    from hongyan.control import upstreams

    async def step(tx: "db.Tx", _: Desk) -> None:
        await upstreams.resume(tx, await upstreams.find(tx, name))

    frame.change(step)


@channels.command("remove")
def remove(name: Channel, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Log out for good. Reports still due will not come; pause first and wait for them."""
    from hongyan.control import upstreams

    if not yes:
        typer.confirm(f"remove {name}, whose reports still due will not come?", abort=True, err=True)

    async def step(tx: "db.Tx", _: Desk) -> None:
        await upstreams.remove(tx, await upstreams.find(tx, name))

    frame.change(step)


def _settings(file: Path | None, pairs: list[str]) -> dict[str, object]:
    """Read settings from a JSON file, then key=value pairs over them."""
    settings: dict[str, object] = {}
    if file is not None:
        try:
            text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text("utf-8")
            read = json.loads(text)
        except (OSError, ValueError) as error:
            raise typer.BadParameter(f"{file}: {error}", param_hint="--settings") from error
        if not isinstance(read, Mapping):
            raise typer.BadParameter("the file must hold one JSON object", param_hint="--settings")
        settings.update(read)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r}: say key=value")
        settings[name] = _value(value)
    return settings


def _value(written: str) -> object:
    try:
        value: object = json.loads(written)
    except ValueError:
        return written
    return value


# ---- routes


@routes.command("list")
def list_rules(as_json: AsJson = False) -> None:
    """List route rules in the order they are asked; - is everything."""
    from hongyan.control import routes as room

    frame.show(room.every, as_json=as_json, empty="no routes yet")


@routes.command("add")
def add_rule(
    channel: Channel,
    priority: Annotated[int, typer.Option(help="Lower is tried first; equal ones share by weight.")] = 100,
    weight: Annotated[int, typer.Option(help="Share among equals; 0 = none.")] = 1,
    tenant: Annotated[str, typer.Option(help="Only this tenant's messages.")] = "",
    country: Annotated[str, typer.Option(help="ISO alpha-2.")] = "",
    operator: Annotated[str, typer.Option(help="cmcc, unicom, telecom, broadnet …")] = "",
    purpose: Annotated[str, typer.Option(help="otp, transactional or promotional")] = "",
) -> None:
    """Let messages go by a channel; what is left out fits everything."""
    from hongyan.control import routes as room
    from hongyan.control import tenants, upstreams

    wanted = frame.purpose_of(purpose)

    async def step(tx: "db.Tx", _: Desk) -> int:
        return await room.add(
            tx,
            await upstreams.find(tx, channel),
            priority=priority,
            weight=weight,
            tenant_id=await tenants.find(tx, tenant) if tenant else None,
            country=country or None,
            operator=operator or None,
            purpose=wanted,
        )

    typer.echo(f"rule {frame.change(step)}")


@routes.command("remove")
def remove_rule(rule: Annotated[int, typer.Argument(help="Its number in the list.")]) -> None:
    """Take a rule out of use."""
    from hongyan.control import routes as room

    frame.change(lambda tx, _: room.remove(tx, rule))
