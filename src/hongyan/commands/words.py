"""Commands about word lists: what texts must not have, or may have all the same."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.control.words import WordListRow
    from hongyan.vocab.message import TenantId

words = typer.Typer(no_args_is_help=True, help="Lists of words that texts must not have, or may have.")

ListName = Annotated[str, typer.Argument(help="The list's name.", metavar="LIST")]
OfTenant = Annotated[str, typer.Option("--tenant", help="Of this tenant; empty: the platform's.")]
PIECE_OCTETS = 1 << 16


@words.command("lists")
def show_lists(as_json: AsJson = False) -> None:
    """List the word lists."""
    from hongyan.control import words as room

    frame.show(lambda tx: room.lists(tx, None, limit=10_000), as_json=as_json, empty="no word lists yet")


@words.command("create")
def create(
    name: ListName,
    tenant: OfTenant = "",
    channel: Annotated[int, typer.Option(help="Number of the channel that alone it counts for.")] = 0,
    level: Annotated[str, typer.Option(help="block, hold or warn")] = "block",
    allows: Annotated[
        bool, typer.Option("--allows", help="Its words cover forbidden ones inside them.")
    ] = False,
    grants: Annotated[
        bool, typer.Option("--grants", help="It covers the platform's words too; for a tenant.")
    ] = False,
    tag: Annotated[str, typer.Option(help="Your own word for its topic.")] = "",
    source: Annotated[str, typer.Option(help="Where the words come from.")] = "",
) -> None:
    """Make an empty list."""
    from hongyan.control import words as room
    from hongyan.vocab.message import ChannelId
    from hongyan.vocab.words import Level

    if level not in list(Level):
        raise typer.BadParameter(f"say {', '.join(Level)}", param_hint="--level")

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.create(
            tx,
            name,
            tenant_id=await _tenant(tx, tenant),
            channel_id=ChannelId(channel) if channel else None,
            allows=allows,
            grants=grants,
            level=Level(level),
            tag=tag,
            source=source,
        )

    frame.change(step)


@words.command("remove-list")
def remove_list(name: ListName, tenant: OfTenant = "") -> None:
    """Delete a list with its words."""
    from hongyan.control import words as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.remove(tx, await _locked(tx, tenant, name))

    frame.change(step)


@words.command("enable")
def enable(name: ListName, tenant: OfTenant = "") -> None:
    """Use a list again."""
    _activate(name, tenant, active=True)


@words.command("disable")
def disable(name: ListName, tenant: OfTenant = "") -> None:
    """Take a list out of use; its words stay."""
    _activate(name, tenant, active=False)


def _activate(name: str, tenant: str, *, active: bool) -> None:
    from hongyan.control import words as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.change(tx, await _locked(tx, tenant, name), active=active)

    frame.change(step)


@words.command("add")
def add(
    name: ListName, some: Annotated[list[str], typer.Argument(metavar="WORD…")], tenant: OfTenant = ""
) -> None:
    """Add words to a list."""
    from hongyan.control import words as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.add(tx, await _locked(tx, tenant, name), [room.read_word(word) for word in some])

    frame.change(step)


@words.command("remove")
def remove(
    name: ListName, some: Annotated[list[str], typer.Argument(metavar="WORD…")], tenant: OfTenant = ""
) -> None:
    """Take words off a list, however they are written."""
    from hongyan.control import words as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.take_out(tx, await _locked(tx, tenant, name), [room.read_word(word) for word in some])

    frame.change(step)


@words.command("import")
def import_words(
    name: ListName,
    file: Annotated[
        Path | None, typer.Argument(help="A word to a line, or a CSV whose first column they are.")
    ] = None,
    starter: Annotated[
        bool, typer.Option("--starter", help="The words that come with hongyan to begin with.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="In place of what the list has.")] = False,
    tenant: OfTenant = "",
) -> None:
    """Bring a file of words into a list."""
    from hongyan.control import words as room

    if (file is None) is not starter:
        raise typer.BadParameter("name a file, or say --starter")
    octets = room.starter_file() if file is None else file.read_bytes()
    read, left_out, faults = asyncio.run(room.read_file(_pieces(octets)))

    async def step(tx: "db.Tx", _: Desk) -> int:
        row = await _locked(tx, tenant, name)
        return (await (room.replace if replace else room.add)(tx, row, read)).word_count

    count = frame.change(step)
    for fault in faults:
        frame.say(f"line {fault.line}: {fault.reason}")
    frame.say(f"{count} words in the list, {left_out} lines left out")


async def _pieces(octets: bytes) -> AsyncIterator[bytes]:
    for first in range(0, len(octets), PIECE_OCTETS):
        yield octets[first : first + PIECE_OCTETS]


@words.command("export")
def export(name: ListName, tenant: OfTenant = "") -> None:
    """Print the words of a list, one to a line."""
    from hongyan.control import words as room

    async def deed(desk: Desk) -> None:
        async with desk.database.transaction() as tx:
            row = await room.find(tx, await _tenant(tx, tenant), name)
        async for piece in room.pieces(desk.database, row.id):
            typer.echo(piece.decode(), nl=False)

    frame.at_desk(deed)


@words.command("check")
def check(text: str, tenant: OfTenant = "", as_json: AsJson = False) -> None:
    """Tell what the lists in use say of a text, and of which words."""
    from hongyan.way.snapshot import Keeper

    async def deed(desk: Desk) -> None:
        async with desk.database.transaction() as tx:
            tenant_id = await _tenant(tx, tenant)
        snapshot = await Keeper(desk.database, desk.vault).load()
        frame.show_rows(
            snapshot.words.check_template(text, tenant_id), as_json=as_json, empty="no list has a word of it"
        )

    frame.at_desk(deed)


async def _tenant(tx: "db.Tx", tenant: str) -> "TenantId | None":
    from hongyan.control import tenants

    return await tenants.find(tx, tenant) if tenant else None


async def _locked(tx: "db.Tx", tenant: str, name: str) -> "WordListRow":
    from hongyan.control import words as room

    row = await room.find(tx, await _tenant(tx, tenant), name)
    return await room.locked(tx, row.tenant_id, row.id, platform=True)
