"""Commands that keep an install: run, migrate, back up, restore, change the master key and the pepper."""

import asyncio
import gc
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, LiteralString

import typer

from hongyan.commands import frame

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.settings import Settings
    from hongyan.vault import Secret

master_key = typer.Typer(no_args_is_help=True, help="The key that opens all others.")
pepper = typer.Typer(no_args_is_help=True, help="What verification codes are compared under.")


def run(
    role: Annotated[
        list[str] | None,
        typer.Option(help="all, or what this one process does: door, gateway, clerk; again for more."),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Lay a demo tenant and send a first message.")] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Of the REST API; 0: as the settings say.")
    ] = 0,
    parent: Annotated[int, typer.Option(min=0, hidden=True, help="End with this process.")] = 0,
) -> None:
    """Run the platform until Ctrl-C: everything, or one process with the roles named."""
    from hongyan import observe
    from hongyan import settings as knobs

    settings = knobs.read()
    if port:
        settings = replace(settings, http_port=port)
    roles = _roles(role or ["all"])
    observe.set_up("warning" if demo else settings.log_level, console=sys.stderr.isatty())
    if roles:
        # Until all is loaded (rooms.collect_seldom): nothing of it is to be thrown away, and to look costs a seventh of the start.
        gc.disable()
        from hongyan import rooms

        rooms.run(settings, roles, parent)
    else:
        from hongyan import run as install

        install.run(settings, demo=demo)


def _roles(named: list[str]) -> tuple[str, ...]:
    """Return the roles of this one process; none of them: a whole install."""
    from hongyan.settings import ROLES

    if named == ["all"]:
        return ()
    for role in named:
        if role not in ROLES:
            raise typer.BadParameter(f"there is no role {role!r}; say all, or {', '.join(ROLES)}")
    return tuple(dict.fromkeys(named))


def migrate() -> None:
    """Bring the database's schema up to this version. Safe while an older version runs."""
    from hongyan import db
    from hongyan import settings as knobs

    async def work() -> list[str]:
        async with bare_database(knobs.read()) as dsn:
            return list(await db.migrate(dsn))

    for name in asyncio.run(work()):
        typer.echo(f"applied {name}")
    frame.say("the schema is up to date")


def backup(path: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    """Write the whole database into one file, while messages go on.

    The file holds no master key: keep that apart, without it nothing in the file can be read.
    """
    from hongyan import backup as room
    from hongyan import settings as knobs

    async def work() -> int:
        async with bare_database(knobs.read()) as dsn:
            return await room.backup(dsn, path)

    octets = asyncio.run(work())
    typer.echo(f"{path}: {octets / 2**20:.1f} MB")
    frame.say("the master key is not in it: keep a copy of that elsewhere")


def restore(path: Annotated[Path, typer.Argument(help="A file of `hongyan backup`.")]) -> None:
    """Restore a backup into an empty database, whole or not at all.

    Without DATABASE_URL into a new embedded one: use a state folder that has none yet, and put the master key
    there first (master.key, mode 600) or into HONGYAN_MASTER_KEY.
    """
    from hongyan import backup as room
    from hongyan import db
    from hongyan import settings as knobs

    settings = knobs.read()
    key_file = settings.state_dir / "master.key"
    if not settings.master_key and not key_file.exists():
        frame.say(f"warning: {key_file} is not there; without it nothing can be opened")

    async def work() -> None:
        async with bare_database(settings) as dsn:
            await room.restore(path, dsn)
            await db.migrate(dsn)  # a backup of an older version

    asyncio.run(work())
    frame.say("restored; what waited to leave when the backup was made will leave once you run it")


@asynccontextmanager
async def bare_database(settings: "Settings") -> AsyncIterator[str]:
    """Give the DSN of the database as it is, not migrated.

    The embedded one is joined, or started meanwhile.
    """
    from hongyan import postgres

    if settings.database_url:
        yield settings.database_url
        return
    server = postgres.Server(settings.state_dir)
    try:
        await asyncio.to_thread(server.start, tell=frame.progress)
    except postgres.ServerBusyError:
        yield server.dsn  # another process of ours keeps it
        return
    try:
        yield server.dsn
    finally:
        await asyncio.to_thread(server.stop)


# ---- the master key


@master_key.command("rotate")
def rotate(
    new_file: Annotated[
        Path | None,
        typer.Option(
            "--new", help="A file with the new key (64 hex digits); - reads it from standard input."
        ),
    ] = None,
) -> None:
    """Change the master key: every data key is wrapped anew, nothing else is touched.

    Stop the platform first. Without HONGYAN_MASTER_KEY a new key is made and replaces state/master.key.
    """
    from hongyan import settings as knobs
    from hongyan import vault

    settings = knobs.read()
    if settings.master_key and new_file is None:
        raise typer.BadParameter(
            "your key comes from HONGYAN_MASTER_KEY, so the new one must come from you: "
            "openssl rand -hex 32 > FILE, then --new FILE",
            param_hint="--new",
        )
    key_file = settings.state_dir / "master.key"
    old = vault.read_master_key(settings.master_key, key_file)
    new = vault.read_master_key(_given(new_file) if new_file else secrets.token_hex(32), Path())
    count = asyncio.run(_rotate(settings, old, new))
    where, next_step = str(key_file), "copy it to safety"
    if settings.master_key:
        where, next_step = "HONGYAN_MASTER_KEY", "set it to the new key before you start again"
    frame.say(f"{count} keys wrapped anew; the new key belongs in {where}: {next_step}")


@pepper.command("renew")
def renew_pepper() -> None:
    """Compare codes that are made from now on under a new key. Those under way keep theirs; nothing is stopped."""
    from hongyan.control import data_keys

    async def step(tx: "db.Tx", desk: frame.Desk) -> int:
        version = await data_keys.add_pepper(tx, desk.master)
        desk.note(f"pepper:{version}")
        return version

    frame.say(f"the pepper is of version {frame.change(step)} now")


def _given(file: Path) -> str:
    return (
        typer.get_text_stream("stdin").readline() if str(file) == "-" else file.read_text("ascii")
    ).strip()


GATEWAYS_SQL: LiteralString = """
SELECT count(*) FROM gateway WHERE seen_at > now() - make_interval(secs => $1::float8)
"""


async def _rotate(settings: "Settings", old: "Secret", new: "Secret") -> int:
    """Wrap the data keys anew.

    The new key is on the disk before the commit, so that no crash loses the only one.
    """
    from hongyan import db, vault
    from hongyan.control import data_keys

    path, draft = settings.state_dir / "master.key", settings.state_dir / "master.key.new"
    async with bare_database(settings) as dsn:
        database = await db.connect(dsn, settings)
        try:
            async with database.transaction() as tx:
                if await tx.fetchval(GATEWAYS_SQL, settings.gateway_dead_s):
                    frame.say("the platform runs: stop it first, it could not open the keys of new tenants")
                    raise typer.Exit(1)
                if draft.exists():
                    left = vault.read_master_key("", draft)
                    old = _settle(old, left, path, draft, left_opens=await data_keys.opens(tx, left))
                count = await data_keys.rotate_master(tx, old, new)
                if not settings.master_key:
                    _write(draft, new)
        finally:
            await database.close()
    if not settings.master_key:
        draft.replace(path)
    return count


def _settle(old: "Secret", left: "Secret", path: Path, draft: Path, *, left_opens: bool) -> "Secret":
    """Tidy up after a rotation that was cut short, and return the key that opens the database now."""
    if not left_opens:  # it ended before its commit
        draft.unlink()
        return old
    draft.replace(path)
    frame.say("finished an earlier change that was cut short")
    return left


def _write(path: Path, key: "Secret") -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key.reveal().hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
