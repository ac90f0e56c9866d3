"""Commands about messages that wait for a person's word.

Writes through way/hold.py. A customer's text may hold anything: on a terminal, what is not printable is shown escaped.
"""

import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.way.hold import Held

    Decide = Callable[[db.Tx, Collection[uuid.UUID]], Awaitable[frozenset[uuid.UUID]]]

held = typer.Typer(no_args_is_help=True, help="Messages that wait until a person decides about them.")

IDS_SHOWN = 100  # in the audit; the others are counted
Ids = Annotated[list[str], typer.Argument(help="As hongyan held list shows them.", metavar="ID…")]


@held.command("list")
def list_held(
    tenant: Annotated[str, typer.Option(help="Only this tenant's; empty: everybody's.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Of lines.")] = 100,
    after: Annotated[str, typer.Option(help="Go on behind this message.")] = "",
    as_json: AsJson = False,
) -> None:
    """List what waits for a decision, the oldest first: texts whole, numbers masked."""
    from hongyan.control import tenants
    from hongyan.way import hold

    behind = _id(after, "--after") if after else hold.FIRST

    async def step(tx: "db.Tx", desk: Desk) -> "Sequence[Held]":
        tenant_id = await tenants.find(tx, tenant) if tenant else None
        return await hold.waiting(tx, desk.vault, tenant_id, limit, behind)

    rows = frame.look(step)
    frame.show_rows(
        rows if as_json else list(map(_printable, rows)), as_json=as_json, empty="nothing is held"
    )


@held.command("release")
def release(ids: Ids) -> None:
    """Put messages on their way."""
    from hongyan.way import hold

    _decide(ids, hold.release)


@held.command("refuse")
def refuse(ids: Ids) -> None:
    """End messages as refused; their price is given back, their apps are told."""
    from hongyan.way import hold

    _decide(ids, hold.refuse)


def _decide(written: Sequence[str], decide: "Decide") -> None:
    wanted = [_id(each, "ID") for each in written]

    async def deed(desk: Desk) -> frozenset[uuid.UUID]:
        from hongyan.way.owing import OWED_TOPIC, TOLD_TOPIC

        async with desk.database.transaction() as tx:
            done = await decide(tx, wanted)
            if done:
                ids = [str(each) for each in sorted(done)]
                desk.note(f"message:{ids[0]}", decided=len(ids), ids=ids[:IDS_SHOWN])
                await frame.record(tx, desk)
        for topic in (OWED_TOPIC, TOLD_TOPIC):
            await desk.database.notify(topic)
        return done

    done = frame.at_desk(deed)
    typer.echo(f"{len(done)} decided")
    missed = [each for each in wanted if each not in done]
    for each in missed:
        frame.say(f"{each} is not held any more, or has run out")
    if missed:
        raise typer.Exit(1)


def _id(written: str, hint: str) -> uuid.UUID:
    try:
        return uuid.UUID(written)
    except ValueError as error:
        raise typer.BadParameter("this is no message id", param_hint=hint) from error


def _printable(row: "Held") -> "Held":
    import msgspec

    text = row.text and "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in row.text
    )
    return msgspec.structs.replace(row, text=text)
