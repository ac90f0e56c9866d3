"""Commands about numbers that are not written to: people who said stop, and blocks.

Writes through way/optout.py. A file of millions is read line by line and stored in steps of their own, so that an
import that ends halfway can simply be run again: what is there already stays as it is.
"""

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TextIO

import typer

from hongyan.commands import frame
from hongyan.commands.frame import Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.vocab.message import TenantId
    from hongyan.way.optout import Suppressed

    Keep = Callable[[db.Tx, Sequence[Suppressed]], Awaitable[int]]

opt_outs = typer.Typer(no_args_is_help=True, help="People who want no promotional messages.")
blocks = typer.Typer(no_args_is_help=True, help="Numbers that nothing is written to.")

STEP_LINES: Final = 5_000
LINE_CHARACTERS_MAX: Final = 1_000  # beyond it a line is read as several, none of them a number
SHOWN_MAX: Final = 5  # bad lines that are named
TOLD_MAX: Final = 10_000  # beyond it gateways are not told one by one: their next claims ask the table anyway

File = Annotated[Path, typer.Argument(help="One number a line, E.164 or national; - reads standard input.")]
Tenant = Annotated[str, typer.Option(help="Only for this tenant; empty: for everybody.")]
Reason = Annotated[str, typer.Option(help="Kept beside each number.")]
Number = Annotated[str, typer.Argument(help="E.164 or national.")]


@opt_outs.command("import")
def import_opt_outs(file: File, tenant: Tenant = "", reason: Reason = "imported") -> None:
    """Keep a file of numbers as opt-outs: no promotional message reaches them."""
    from hongyan.way import optout

    _import(file, tenant, reason, optout.stop)


@blocks.command("import")
def import_blocks(file: File, tenant: Tenant = "", reason: Reason = "imported") -> None:
    """Keep a file of numbers as blocks: no message at all reaches them."""
    from hongyan.way import optout

    _import(file, tenant, reason, optout.block)


@opt_outs.command("remove")
def remove_opt_out(number: Number, tenant: Tenant = "") -> None:
    """Forget that somebody said stop, because they asked to hear from you again."""
    from hongyan.way import optout

    _remove(number, tenant, optout.start)


@blocks.command("remove")
def remove_block(number: Number, tenant: Tenant = "") -> None:
    """Write to a number again; what its owner has opted out of stays."""
    from hongyan.way import optout

    _remove(number, tenant, optout.unblock)


# ---- parts


class _Bad(NamedTuple):
    """A line that is no number."""

    line: int
    fault: str


class _Counts(Counter[str]):
    """What became of the lines so far."""

    def words(self) -> str:
        already = self["numbers"] - self["new"]
        return f"{self['new']} new, {already} there already, {self['bad']} that are no numbers"


def _import(file: Path, tenant: str, reason: str, keep: "Keep") -> None:
    counts, bad = _Counts(), list[_Bad]()

    async def deed(desk: Desk) -> None:
        async with desk.database.transaction() as tx:
            tenant_id = await _tenant(tx, tenant)
        with _opened(file) as lines:
            numbered = (
                (at, words) for at, line in enumerate(_lines(lines), start=1) if (words := line.strip())
            )
            while step := list(itertools.islice(numbered, STEP_LINES)):
                await _step(desk, tenant_id, reason, step, keep, counts, bad)

    frame.at_desk(deed)
    typer.echo(counts.words())
    for line, fault in bad:
        frame.say(f"line {line}: {fault}")
    if counts["bad"]:
        raise typer.Exit(1)


async def _step(
    desk: Desk,
    tenant_id: "TenantId",
    reason: str,
    step: Sequence[tuple[int, str]],
    keep: "Keep",
    counts: _Counts,
    bad: list[_Bad],
) -> None:
    from hongyan.vocab import phone
    from hongyan.way import optout

    rows = []
    for line, words in step:
        try:
            e164 = phone.parse(words).e164
        except phone.BadNumber as error:
            counts["bad"] += 1
            if len(bad) < SHOWN_MAX:
                bad.append(_Bad(line, error.fault))
        else:
            rows.append(optout.Suppressed(desk.vault.phone_index(e164), tenant_id, reason))
    async with desk.database.transaction() as tx:
        new = await keep(tx, rows)
        desk.note(
            "numbers", tenant_id=tenant_id or None, first_line=step[0][0], numbers=len(rows), changed=new
        )
        await frame.record(tx, desk)
    counts["new"] += new
    counts["numbers"] += len(rows)
    if counts["numbers"] <= TOLD_MAX:
        await optout.tell(desk.database, rows)


def _remove(
    number: str, tenant: str, lift: "Callable[[db.Tx, Sequence[Suppressed]], Awaitable[int]]"
) -> None:
    from hongyan.vocab import phone
    from hongyan.way.consent import shown_index
    from hongyan.way.optout import Suppressed

    try:
        e164 = phone.parse(number).e164
    except phone.BadNumber as error:
        raise typer.BadParameter(f"this is no number: {error.fault}", param_hint="number") from error

    async def step(tx: "db.Tx", desk: Desk) -> None:
        index, tenant_id = desk.vault.phone_index(e164), await _tenant(tx, tenant)
        changed = await lift(tx, [Suppressed(index, tenant_id)])
        desk.note(f"person:{shown_index(index)}", tenant_id=tenant_id or None, changed=changed)

    frame.act(step)


async def _tenant(tx: "db.Tx", named: str) -> "TenantId":
    from hongyan.control import tenants
    from hongyan.way.optout import PLATFORM

    return await tenants.find(tx, named) if named else PLATFORM


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    """Open a file as spreadsheets write them, or standard input."""
    if str(file) == "-":
        yield typer.get_text_stream("stdin")
        return
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as lines:
            yield lines
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="file") from error


def _lines(lines: TextIO) -> Iterator[str]:
    while line := lines.readline(LINE_CHARACTERS_MAX):
        yield line
