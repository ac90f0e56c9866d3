"""What every command stands in: settings, an opened database, tables for people, JSON for programs, plain
errors.

Writes nothing itself. Entry points: change() and act() run one step that changes something, in one transaction with
its record in the audit; record() is for those with transactions of their own; look() runs a step that changes nothing;
show() prints a list; explain() says what an error means to the person at the keyboard.
"""

import asyncio
import errno
import os
import pwd
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from typer.exceptions import TyperException

    from hongyan import db
    from hongyan.settings import Settings
    from hongyan.vault import Secret, Vault
    from hongyan.vocab.errors import Refusal
    from hongyan.vocab.message import Purpose, TenantId

T = TypeVar("T")

# Arguments that may stand in the audit as they were given. Passwords, settings, texts and numbers of people never do.
SHOWN = frozenset(
    """
    access_number address amount app basic channel charge_on code country currency free_text job_id key_id kind level limit
    list_id name new_name note operator paid parts price priority purpose rate_per_s reason rule sandbox scope sessions
    signature state template tenant threshold until version wait_s weight what
    """.split()  # noqa: SIM905 - a list of them would fill a page
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with."""

    settings: "Settings"
    database: "db.Database"
    vault: "Vault"
    noted: dict[str, object] = field(default_factory=dict)

    def note(self, subject: str, *, tenant_id: "TenantId | None" = None, **detail: object) -> None:
        """Say for the audit what a command changed ('user:5'), of which tenant, and how. Never a secret."""
        self.noted.update(detail, subject=subject, tenant_id=tenant_id)

    @property
    def master(self) -> "Secret":
        """What new data keys are wrapped by."""
        from hongyan.vault import read_master_key

        return read_master_key(self.settings.master_key, self.settings.state_dir / "master.key")


Step = Callable[["db.Tx", Desk], Awaitable[T]]


def change(step: Step[T]) -> T:
    """Run a step that changes something, record it in the audit, commit, and tell the processes that run."""

    async def deed(desk: Desk) -> T:
        from hongyan.control.configuration import versions

        async with desk.database.transaction() as tx:
            await versions.begin(tx, desk.vault)
            done = await step(tx, desk)
            await versions.keep(tx, desk.vault, actor(), _command())
            await record(tx, desk)
        await desk.database.notify("control")
        return done

    return at_desk(deed)


def act(step: Step[T]) -> T:
    """Run a step that changes what the processes ask the database for anyway; record it in the audit and commit."""

    async def deed(desk: Desk) -> T:
        async with desk.database.transaction() as tx:
            done = await step(tx, desk)
            await record(tx, desk)
        return done

    return at_desk(deed)


async def record(tx: "db.Tx", desk: Desk) -> None:
    """Write into the audit who at this machine ran which command, with what was noted and what is SHOWN of it."""
    from hongyan.control import audit

    detail = _arguments() | desk.noted
    subject, tenant_id = str(detail.pop("subject", "")), detail.pop("tenant_id", None)
    await audit.record(
        tx,
        actor=actor(),
        action=_command(),
        subject=subject,
        tenant_id=tenant_id,  # type: ignore[arg-type]  # as note() took it
        address="",
        request_id="",
        detail=detail,
    )


def actor() -> str:
    """Return who is at the keyboard, as the audit has it."""
    return f"cli:{_os_user()}"


def _os_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name  # not what the environment says
    except KeyError:
        return str(os.getuid())


def _command() -> str:
    """Return the words of the command that runs, as 'users add'."""
    from typer._click.globals import get_current_context

    context = get_current_context(silent=True)
    return "" if context is None else context.command_path.partition(" ")[2]


def _arguments() -> dict[str, object]:
    """Return the arguments of the command that runs which may stand in the audit, as far as any were given."""
    from typer._click.globals import get_current_context

    context = get_current_context(silent=True)
    given = {} if context is None else context.params
    return {
        name: value
        for name, value in given.items()
        if name in SHOWN and value is not False and value not in (None, "", [], ())
    }


def look(step: Step[T]) -> T:
    """Run a step that changes nothing the plane flies by."""

    async def deed(desk: Desk) -> T:
        async with desk.database.transaction() as tx:
            return await step(tx, desk)

    return at_desk(deed)


def at_desk(deed: Callable[[Desk], Awaitable[T]]) -> T:
    """Open database and vault, starting the embedded server if nobody has, and run `deed`."""
    from hongyan import run, settings

    async def work() -> T:
        read = settings.read()
        async with run.open_database(read, progress) as database:
            return await deed(Desk(read, database, await run.open_vault(database, read)))

    return asyncio.run(work())


def say(line: str) -> None:
    """Tell a person something that is no result: it must not end up in a pipe."""
    typer.echo(line, err=True)


def progress(line: str) -> None:
    """Tell how the embedded server's start goes, without what it says every time."""
    if " LOG:  " not in line or "elapsed time" in line:
        say(line)


# ---- printing


def show(every: Callable[["db.Tx"], Awaitable[Sequence[Any]]], *, as_json: bool, empty: str) -> None:
    """Print what a room lists."""
    show_rows(look(lambda tx, _: every(tx)), as_json=as_json, empty=empty)


def show_rows(rows: Sequence[Any], *, as_json: bool, empty: str) -> None:
    """Print rows (Structs of one class) as an aligned table, or as one JSON array."""
    import msgspec

    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
    elif not rows:
        say(empty)
    else:
        names = type(rows[0]).__struct_fields__
        lines = [[_title(name) for name in names]]
        lines += [[_cell(name, getattr(row, name)) for name in names] for row in rows]
        typer.echo(table(lines))


def show_pairs(pairs: Mapping[str, object], *, as_json: bool) -> None:
    """Print what was just made: a name and a value a line, or one JSON object."""
    import msgspec

    if as_json:
        typer.echo(msgspec.json.encode(pairs))
    else:
        typer.echo(table([[name, str(value)] for name, value in pairs.items()]))


def table(lines: Sequence[Sequence[str]]) -> str:
    """Align columns by the width terminals give characters: Chinese ones take two cells."""
    widths = [max(_width(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _width(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _title(name: str) -> str:
    return name.removesuffix("_micro")


def _cell(name: str, value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().isoformat(" ", "seconds")
    if name.endswith("_micro") and isinstance(value, int):
        return amount(value)
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "-"
    return str(value)


def amount(micro: int) -> str:
    """Write an amount of millionths as people do: 45000 is 0.045."""
    return f"{Decimal(micro) / MICRO:f}"


def micro(written: str) -> int:
    """Read an amount as people write it into millionths.

    Raises typer.BadParameter for what is finer or none.
    """
    try:
        exact = Decimal(written) * MICRO
    except ArithmeticError:
        exact = Decimal("NaN")
    if not exact.is_finite() or exact != int(exact):
        raise typer.BadParameter(f"{written!r} is no amount with at most six decimals")
    return int(exact)


# ---- reading


def purpose_of(written: str) -> "Purpose | None":
    """Read a purpose; None for the empty word, typer.BadParameter for one there is not."""
    from hongyan.vocab.message import Purpose

    try:
        return Purpose(written) if written else None
    except ValueError as error:
        raise typer.BadParameter(f"there is no purpose {written!r}; say {', '.join(Purpose)}") from error


def ask_secret(prompt: str) -> str:
    """Ask for a secret without showing it; from a pipe, read one line.

    It never stands in the shell's history.
    """
    if sys.stdin.isatty():
        return str(typer.prompt(prompt, hide_input=True, err=True))
    return sys.stdin.readline().strip()


# ---- errors


# OSErrors that never come of a database that is away: the machine itself refuses.
_OF_THE_MACHINE = {
    errno.EPERM, errno.EIO, errno.ENFILE, errno.EMFILE, errno.ENOSPC, errno.EROFS, errno.EDQUOT,
}  # fmt: skip


def explain(error: Exception) -> str | None:
    """Return what an error means to the person at the keyboard; '' where it is said already.

    None for our own bugs, which keep their traceback.
    """
    from typer.exceptions import TyperException

    from hongyan import backup, db, postgres, run, settings, vault
    from hongyan.channels.kinds import BadSettings
    from hongyan.simulator.behaviour import BehaviourError
    from hongyan.vocab.errors import Refusal

    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, TyperException):
        return _misused(error)
    if isinstance(error, typer.Abort):
        return "nothing was done"
    if isinstance(error, Refusal):
        return _refused(error)
    plain = (
        settings.SettingsError,
        postgres.PostgresError,
        db.DatabaseUnfitError,
        vault.VaultError,
        backup.BackupError,
        BadSettings,
        BehaviourError,
        run.AddressError,
        run.DemoError,
    )
    if isinstance(error, plain):
        return str(error)
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return f"the system refuses: {error}"
    if isinstance(error, db.Unavailable):
        reason = str(error) or type(error).__name__
        return f"the database does not answer: {reason}. Is it running, is DATABASE_URL right?"
    return None


def _misused(error: "TyperException") -> str:
    """Say in one line what is wrong with a command line, and where its help is."""
    words = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    if not words or context is None:
        return words
    return f"{words.rstrip('.')}; {context.command_path} --help explains"


def _refused(refusal: "Refusal") -> str:
    detail = dict(refusal.detail)
    said = [refusal.code.value.en]
    if "parameter" in detail:
        said.append(str(detail.pop("parameter")))
    if "reason" in detail:
        said.append(str(detail.pop("reason")))
    said += [f"{name} {value}" for name, value in detail.items()]
    return ": ".join(said)
