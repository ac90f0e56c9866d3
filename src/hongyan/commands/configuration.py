"""Commands about the configuration as one document: print it, check another one, put it in force, go back."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.control.configuration.applying import Applied
    from hongyan.control.configuration.difference import ConfigurationChange
    from hongyan.control.configuration.document import ConfigurationDocument, Whole
    from hongyan.control.configuration.rehearsal import Rehearsal
    from hongyan.control.configuration.versions import ConfigurationVersionRow

WHO = "command line"
configuration = typer.Typer(
    no_args_is_help=True, help="Channels, routes, prices, words, terms and policies as one document."
)
File = Annotated[str, typer.Argument(help="The document; - is the standard input.")]
Note = Annotated[str, typer.Option(help="Why, for whoever reads the versions.")]
Number = Annotated[int, typer.Argument(min=1, help="A version.", metavar="VERSION")]


@configuration.command("export")
def export(
    without_words: Annotated[
        bool, typer.Option("--without-words", help="Lists without their words.")
    ] = False,
    version: Annotated[int, typer.Option(help="An old version; 0: what is in force.", min=0)] = 0,
) -> None:
    """Print the document. Secrets are ***, which in a document means: as it is stored."""
    import msgspec

    from hongyan.control.configuration import document, versions

    async def step(tx: "db.Tx", desk: Desk) -> "Whole":
        if version:
            return (await versions.opened(tx, desk.vault, version))[0]
        return (await document.read(tx, desk.vault, with_words=not without_words)).document

    whole = document.masked(frame.look(step))
    if without_words:
        lists = [msgspec.structs.replace(one, words=msgspec.UNSET) for one in whole.words]
        whole = msgspec.structs.replace(whole, words=lists)
    typer.echo(msgspec.json.format(document.encoded(whole), indent=2).decode())


@configuration.command("check")
def check(
    file: File,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Whose messages; of China's calendar.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a document would change, and what would have become of yesterday's messages."""
    import msgspec

    from hongyan.control.configuration import rehearsal

    asked = _given(file)

    async def deed(desk: Desk) -> "Rehearsal":
        return await rehearsal.rehearse(
            desk.database, desk.vault, desk.settings, asked, who=WHO, day=day.date() if day else None
        )

    told = frame.at_desk(deed)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
        return
    _print_changes(told.changes)
    seen = f"{told.hours} hours of {told.day}" + (", then time was up" if told.cut else "")
    typer.echo(
        f"{told.messages} messages ({seen}): {told.vanishing} would have no way, {told.appearing} would have one "
        f"again, {told.rerouted} would first go another, {told.unfiled} would meet a channel that wants a filing"
    )
    for price in told.prices:
        difference = frame.amount(price.after_micro - price.before_micro)
        typer.echo(f"they would cost {frame.amount(price.after_micro)} {price.currency}, {difference} more")
    if told.words is not None:
        words = told.words
        typer.echo(f"of {words.texts} texts, words would stop {words.stopped} and free {words.freed}")


@configuration.command("apply")
def apply(
    file: File,
    if_version: Annotated[
        int, typer.Option(help="Only while this is the version in force; -1: whichever is.", min=-1)
    ] = -1,
    note: Note = "",
) -> None:
    """Put a document in force: all of it, or nothing. Sections that are left out stay."""
    from hongyan.control.configuration import applying, versions

    asked = _given(file)

    async def step(tx: "db.Tx", desk: Desk) -> "Applied":
        applied = await applying.apply(
            tx,
            desk.vault,
            desk.settings,
            asked,
            who=WHO,
            if_version=None if if_version < 0 else if_version,
        )
        await versions.keep(tx, desk.vault, WHO, "configuration apply", note)
        desk.note("configuration", changes=len(applied.changes))
        return applied

    _print_applied(frame.change(step))


@configuration.command("roll-back")
def roll_back(number: Number, note: Note = "") -> None:
    """Put an old version in force again, passwords and all, as a new version."""
    from hongyan.control.configuration import applying, versions

    async def step(tx: "db.Tx", desk: Desk) -> "Applied":
        applied = await applying.roll_back(tx, desk.vault, desk.settings, number, who=WHO)
        said = note or f"as version {number}"
        await versions.keep(tx, desk.vault, WHO, "configuration roll-back", said)
        desk.note("configuration", rolled_back_to=number)
        return applied

    _print_applied(frame.change(step))


@configuration.command("versions")
def show_versions(limit: Annotated[int, typer.Option(min=1, max=500)] = 20, as_json: AsJson = False) -> None:
    """List the versions, the newest first."""
    from hongyan.control.configuration import versions

    async def step(tx: "db.Tx", _: Desk) -> "Sequence[ConfigurationVersionRow]":
        return await versions.page(tx, limit=limit)

    frame.show_rows(frame.look(step), as_json=as_json, empty="nothing was changed yet")


@configuration.command("diff")
def diff(
    number: Number,
    to: Annotated[int, typer.Option(help="Another version; 0: what is in force.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Say what differs between a version and another, or what is in force."""
    import msgspec

    from hongyan.control.configuration import document, versions
    from hongyan.control.configuration.difference import difference

    async def step(tx: "db.Tx", desk: Desk) -> "Sequence[ConfigurationChange]":
        before, _ = await versions.opened(tx, desk.vault, number)
        if to:
            after, _ = await versions.opened(tx, desk.vault, to)
        else:
            after = (await document.read(tx, desk.vault)).document
        return difference(before, after)

    changes = frame.look(step)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(changes), indent=2).decode())
    else:
        _print_changes(changes)


def _given(file: str) -> "ConfigurationDocument":
    from hongyan.control.configuration import document

    if file == "-":
        return document.decoded(sys.stdin.buffer.read())
    try:
        return document.decoded(Path(file).read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from error


def _print_applied(applied: "Applied") -> None:
    _print_changes(applied.changes)
    for made in applied.secrets:
        typer.echo(f"the webhook of the alarm {made.alarm} is signed with {made.secret}; it is shown once")


def _print_changes(changes: "Sequence[ConfigurationChange]") -> None:
    if not changes:
        frame.say("nothing differs")
    for change in changes:
        typer.echo(f"{change.section}: {change.key} {change.what}")
        for field in change.fields if change.what == "changed" else ():
            typer.echo(f"  {field.name}: {field.before} → {field.after}")
        if change.words is not None:
            typer.echo(f"  words: {change.words.added} more, {change.words.removed} fewer")
