"""Commands about channels and the rules that lead messages to them."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    if as_json:
        typer.echo(json.dumps(kinds.schema(kind), ensure_ascii=False, indent=2))
        return
    definition = _definition(kind)
    lines = [["setting", "default", "what it is"]]
    for name, each in definition["properties"].items():
        default = json.dumps(each["default"], ensure_ascii=False) if "default" in each else "-"
        needed = name in definition.get("required", ())
        lines.append([name, "(needed)" if needed else default, each.get("description", "")])
    typer.echo(frame.table(lines))


def _definition(kind: str) -> Mapping[str, Any]:
    """Return what the schema of a kind says of its settings. Raises BadSettings."""
    from hongyan.channels import kinds

    schema = kinds.schema(kind)
    name = schema["$ref"].rpartition("/")[2]
    definition: Mapping[str, Any] = schema["$defs"][name]
    return definition


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
    settings = _settings(settings_file, setting or [], _texts_of(kind))
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

    settings = _settings(settings_file)

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


@channels.command("drain")
def drain(
    name: Channel,
    wait_s: Annotated[int, typer.Option(min=1, help="How long reports are waited for at most.")] = 600,
) -> None:
    """Submit nothing more there, wait for what is due, log out; resume undoes it."""
    from hongyan.control import upstreams

    async def step(tx: "db.Tx", _: Desk) -> datetime:
        return await upstreams.drain(tx, await upstreams.find(tx, name), wait_s)

    until = frame.change(step).astimezone()
    frame.say(f"until {until:%H:%M:%S} at the latest; hongyan channels state {name} tells how far it is")


@channels.command("state")
def show_state(name: Channel, as_json: AsJson = False) -> None:
    """Show how a channel fares, as gateways told within the last second."""
    import msgspec

    from hongyan.control import standings, upstreams
    from hongyan.control.standings import ChannelStanding
    from hongyan.way import state

    async def step(tx: "db.Tx", _: Desk) -> tuple[ChannelStanding, Sequence[state.AtGateway]]:
        row = await upstreams.one(tx, await upstreams.find(tx, name))
        told = await state.of(tx, row.id)
        return standings.standing_of(row, told), told

    standing, told = frame.look(step)
    if as_json:
        whole = {"standing": standing, "gateways": told}
        typer.echo(msgspec.json.format(msgspec.json.encode(whole), indent=2))
        return
    frame.show_pairs(msgspec.to_builtins(standing), as_json=False)
    sessions = [(one.gateway, session) for one in told for session in one.told.sessions]
    if sessions:
        lines = [["gateway", "session", "state", "duty", "window", "since"]]
        lines += [
            [str(gateway), str(one.slot), one.state, one.duty, f"{one.window_used}/{one.window_size}",
             "-" if one.since is None else one.since.astimezone().isoformat(" ", "seconds")]
            for gateway, one in sessions
        ]  # fmt: skip
        typer.echo("\n" + frame.table(lines))


@channels.command("test")
def try_channel(
    name: Channel,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            help="Other settings in a JSON file; *** keeps what is stored, - reads standard input.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try out whether the upstream lets us in; the exit code is 1 where it does not. Some allow no second session."""
    import msgspec

    from hongyan.channels import kinds
    from hongyan.control import trials, upstreams

    other = _settings(settings_file) if settings_file is not None else None

    async def deed(desk: Desk) -> trials.Trial:
        async with desk.database.transaction() as tx:
            channel_id = await upstreams.find(tx, name)
            kind, stored = await upstreams.settings_of(tx, desk.vault, channel_id)
        wanted = stored if other is None else kinds.restore(kind, other, stored)
        made = await trials.attempt(kind, wanted, desk.settings)
        async with desk.database.transaction() as tx:
            desk.note(f"channel:{channel_id}", verdict=made.verdict.value)
            await frame.record(tx, desk)
        return made

    made = frame.at_desk(deed)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(made), indent=2))
    else:
        for stage in made.stages:
            typer.echo(f"{stage.stage} after {stage.ms} ms")
        typer.echo(f"{made.verdict}{': ' if made.words else ''}{made.words}")
    if made.verdict is trials.TrialVerdict.FAILED:
        raise typer.Exit(1)


@channels.command("push-url")
def push_url(
    name: Channel,
    base: Annotated[
        str, typer.Option(help="Where the provider reaches our door.")
    ] = "https://sms.example.com",
) -> None:
    """Print the address a provider is to push reports and texts to. Keep it secret: not every provider signs."""
    from hongyan.control import upstreams
    from hongyan.doors import upstream

    if "/" in name:
        raise typer.BadParameter("a name with / fits into no address", param_hint="name")

    async def step(tx: "db.Tx", desk: Desk) -> str:
        return upstream.path_of(desk.vault, await upstreams.find(tx, name), name)

    typer.echo(base.rstrip("/") + frame.look(step))


@channels.command("watch")
def watch_channel(
    name: Channel,
    seconds: Annotated[float, typer.Option(min=1, max=3_600, help="How long to look.")] = 60.0,
) -> None:
    """Show what a channel's sessions say and hear, live; numbers and texts are masked."""
    from hongyan.control import upstreams
    from hongyan.vocab.message import ChannelId
    from hongyan.way import watch

    def show(line: watch.Line) -> None:
        if line.left_out:
            typer.echo(f"… {line.left_out} more")
        at = datetime.fromtimestamp(line.at_s).astimezone()
        arrow = "→" if line.sent else "←"
        typer.echo(
            f"{at:%H:%M:%S}.{at.microsecond // 1000:03} gateway {line.gateway} session {line.session} {arrow} {line.text}"
        )

    async def deed(desk: Desk) -> None:
        async with desk.database.transaction() as tx:
            channel_id: ChannelId = await upstreams.find(tx, name)
        await watch.look(desk.database, channel_id, seconds, show)

    frame.at_desk(deed)


@channels.command("remove")
def remove(name: Channel, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Log out for good. Reports still due will not come; pause first and wait for them."""
    from hongyan.control import upstreams

    if not yes:
        typer.confirm(f"remove {name}, whose reports still due will not come?", abort=True, err=True)

    async def step(tx: "db.Tx", _: Desk) -> None:
        await upstreams.remove(tx, await upstreams.find(tx, name))

    frame.change(step)


def _settings(file: Path | None, pairs: Sequence[str] = (), texts: Collection[str] = ()) -> dict[str, object]:
    """Read settings from a JSON file, then key=value pairs over them; `texts` are those that hold a text."""
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
        settings[name] = _value(value, text=name in texts)
    return settings


def _texts_of(kind: str) -> Collection[str]:
    """Return which settings of a kind hold a text: account 900001 is one, though it looks like a number."""
    return [name for name, each in _definition(kind)["properties"].items() if each.get("type") == "string"]


def _value(written: str, *, text: bool) -> object:
    try:
        value: object = json.loads(written)
    except ValueError:
        return written
    return written if text and not isinstance(value, str) else value


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


@routes.command("dry-run")
def dry_run(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    to: Annotated[str, typer.Argument(help="The number.")],
    template: Annotated[str, typer.Option(help="The template's code; samples stand for its variables.")] = "",
    text: Annotated[str, typer.Option(help="A free text.")] = "",
    purpose: Annotated[str, typer.Option(help="otp, transactional or promotional, without a template")] = "",
    signature: Annotated[str, typer.Option(help="Its name; left out: the tenant's first.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say what would become of a message: rules, channel, reasons, price. Nothing is stored or sent."""
    import msgspec

    from hongyan.control import dry_runs, tenants
    from hongyan.way.snapshot import Keeper

    wanted = frame.purpose_of(purpose)

    async def deed(desk: Desk) -> dry_runs.DryRun:
        snapshot = await Keeper(desk.database, desk.vault).load()
        async with desk.database.transaction() as tx:
            question = dry_runs.Question(
                tenant_id=await tenants.find(tx, tenant), to=to, template=template, text=text, purpose=wanted,
                signature=signature,
            )  # fmt: skip
            return await dry_runs.dry_run(tx, snapshot, desk.vault, desk.settings, question)

    made = frame.at_desk(deed)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(made), indent=2))
        return
    place = " ".join(filter(None, (made.country, made.operator, made.province)))
    price = "-" if made.price_micro is None else f"{frame.amount(made.price_micro)} {made.currency}"
    typer.echo(f"{made.number} {place}, {made.purpose}: {made.verdict} {made.waits_for}".rstrip())
    typer.echo(f"{made.part_count or '-'} part(s), {price}; by {made.chosen or 'no channel'}\n")
    lines = [
        ["rule", "says", "why"],
        *([one.rule, one.says, f"{one.code} {one.words}".strip()] for one in made.rules),
    ]
    typer.echo(frame.table(lines) + "\n")
    lines = [["channel", "priority", "share", "why"]]
    lines += [[one.channel, str(one.priority or "-"), f"{one.share:.0%}", one.why] for one in made.channels]
    typer.echo(frame.table(lines))
