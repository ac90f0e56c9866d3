"""The command that looks whether an install is sound: settings, database, clocks, keys, channels, ledger.

Writes nothing: it neither migrates nor makes keys, and starts the embedded server only where a cluster
exists.
"""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Final, LiteralString

import msgspec
import typer

from hongyan.commands import frame

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.channels.channel import Answer, Channel, ChannelState, Inbound, Report
    from hongyan.egress import Egress
    from hongyan.settings import Settings
    from hongyan.vault import Vault
    from hongyan.way.state import AtGateway

CLOSE_WAIT_S: Final = 5.0
CLOCK_GAP_S_MAX: Final = 1.0  # clocks that somebody sets are milliseconds apart


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. A fault says what to do."""

    what: str
    sound: bool
    words: str


class Knob(msgspec.Struct, frozen=True):
    """One setting with its meaning."""

    variable: str
    value: str
    default: str
    meaning: str


def check(
    settings_too: Annotated[
        bool, typer.Option("--settings", help="List every setting with its meaning first.")
    ] = False,
    binds: Annotated[bool, typer.Option(help="Log in at every channel's host that no gateway holds.")] = True,
    wait_s: Annotated[float, typer.Option(min=0.1, help="How long a host may take to let us in.")] = 10.0,
    as_json: frame.AsJson = False,
) -> None:
    """Look whether everything is sound; the exit code is 1 where something is not."""
    from hongyan import settings as knobs

    settings = knobs.read()
    listed = list(knob_list(settings))
    findings = asyncio.run(_find(settings, wait_s if binds else 0.0))
    if as_json:
        whole = {"settings": listed, "findings": findings}
        typer.echo(msgspec.json.format(msgspec.json.encode(whole), indent=2))
    else:
        _print(listed if settings_too else [knob for knob in listed if knob.value != knob.default], findings)
    if not all(finding.sound for finding in findings):
        raise typer.Exit(1)


def _print(listed: Sequence[Knob], findings: Sequence[Finding]) -> None:
    if listed:
        lines = [["setting", "value", "default", "meaning"]]
        lines += [[knob.variable, knob.value or "-", knob.default or "-", knob.meaning] for knob in listed]
        typer.echo(frame.table(lines) + "\n")
    typer.echo(frame.table([["ok" if each.sound else "FAULT", each.what, each.words] for each in findings]))


# ---- settings


def knob_list(settings: "Settings") -> Sequence[Knob]:
    """List every setting; secrets print as ***. The meanings are the comments in settings.py, said once."""
    from hongyan import settings as knobs

    source = inspect.getsource(knobs.Settings)
    meanings = dict(re.findall(r"^    (\w+): .*?  # (.+)$", source, re.MULTILINE))
    default = knobs.Settings()
    return [
        Knob(
            variable=knobs.variable_of(knob.name),
            value=_shown(knob.name, getattr(settings, knob.name)),
            default=_shown(knob.name, getattr(default, knob.name)),
            meaning=meanings.get(knob.name, knob.name.replace("_", " ")),
        )
        for knob in fields(knobs.Settings)
    ]


def _shown(name: str, value: object) -> str:
    if name in ("master_key", "database_url") and value:
        return "***"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


# ---- the rest


async def _find(settings: "Settings", wait_s: float) -> Sequence[Finding]:
    """Look at one thing after the other; what builds on something unsound is not looked at.

    wait_s: for each channel's host; 0: none is asked.
    """
    from hongyan import db, postgres

    findings: list[Finding] = []
    try:
        async with _database(settings) as database:
            if database is None:
                return [Finding("database", True, "none yet: `hongyan run` makes it")]
            findings.append(Finding("database", True, await _version(database)))
            findings.append(await _clock(database))
            findings.append(await _schema(database))
            if findings[-1].sound:
                findings += await _leap(database)
                findings += await _contents(database, settings, wait_s)
    except (db.DatabaseUnfitError, postgres.PostgresError) as error:
        findings.append(Finding("database", False, str(error)))
    except db.Unavailable as error:
        findings.append(Finding("database", False, f"does not answer: {error or type(error).__name__}"))
    return findings


@asynccontextmanager
async def _database(settings: "Settings") -> AsyncIterator["db.Database | None"]:
    from hongyan import db
    from hongyan.commands.upkeep import bare_database

    if not settings.database_url and not (settings.state_dir / "postgres").exists():
        yield None
        return
    async with bare_database(settings) as dsn:
        database = await db.connect(dsn, settings)
        try:
            yield database
        finally:
            await database.close()


VERSION_SQL: LiteralString = """
SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,
       current_setting('synchronous_commit') AS synchronous_commit,
       pg_size_pretty(pg_database_size(current_database())) AS size
"""


async def _version(database: "db.Database") -> str:
    (row,) = await database.fetch(VERSION_SQL)
    return (
        f"PostgreSQL {row['version']}, {row['size']}, fsync {row['fsync']},"
        f" synchronous_commit {row['synchronous_commit']}"
    )


CLOCK_SQL: LiteralString = "SELECT extract(epoch FROM clock_timestamp())::float8 AS at_s"


async def _clock(database: "db.Database") -> Finding:
    """Compare our clock with the database's: an id has the time of the one, what is due and what is over that of the other."""
    from hongyan import clock

    await database.fetch(CLOCK_SQL)  # the first asks for a connection, which takes its time
    asked_s = clock.now_s()
    (row,) = await database.fetch(CLOCK_SQL)
    answered_s = clock.now_s()
    gap_s = (asked_s + answered_s) / 2 - row["at_s"]
    sure_s = max(0.0, abs(gap_s) - (answered_s - asked_s) / 2)
    if sure_s <= CLOCK_GAP_S_MAX:
        return Finding("clock", True, f"{abs(gap_s):.2f} s from the database's")
    side = "ahead of" if gap_s > 0 else "behind"
    return Finding("clock", False, f"{abs(gap_s):.0f} s {side} the database's: set both by one source (NTP)")


async def _leap(database: "db.Database") -> Sequence[Finding]:
    """Say it where nothing is forgotten because our clock leapt ahead, or because nobody looked at it for days."""
    from hongyan import leap

    until = await leap.rests_until(database)
    if until is None:
        return []
    why = "it went on by more than a day at once, or nothing ran for so long"
    return [
        Finding("retention", True, f"nothing is deleted for its age until {until:%Y-%m-%d %H:%M} UTC: {why}")
    ]


MIGRATED_SQL: LiteralString = "SELECT to_regclass('migration') IS NOT NULL AS migrated"
APPLIED_SQL: LiteralString = "SELECT name FROM migration"


async def _schema(database: "db.Database") -> Finding:
    from hongyan import db

    (row,) = await database.fetch(MIGRATED_SQL)
    applied = {each["name"] for each in await database.fetch(APPLIED_SQL)} if row["migrated"] else set()
    shipped = {name for name, _ in db.migrations()}
    if newer := sorted(applied - shipped):
        return Finding("schema", False, f"newer than this program: it knows {newer[-1]}; update the program")
    if pending := sorted(shipped - applied):
        return Finding("schema", False, f"pending: {', '.join(pending)}; run `hongyan migrate`")
    return Finding("schema", True, f"{len(shipped)} migration(s) applied")


async def _contents(database: "db.Database", settings: "Settings", wait_s: float) -> Sequence[Finding]:
    from hongyan.way import charge

    vault, finding = await _master_key(database, settings)
    findings = [finding]
    if vault is not None:
        findings += await _channels(database, vault, settings, wait_s)
    async with database.transaction() as tx:
        drift = await charge.drift(tx)
    findings += [
        Finding(
            "ledger",
            False,
            f"tenant {tenant_id} holds {frame.amount(held)}, booked are {frame.amount(booked)}",
        )
        for tenant_id, held, booked in drift
    ]
    return findings if drift else [*findings, Finding("ledger", True, "sums to the balances")]


async def _master_key(database: "db.Database", settings: "Settings") -> "tuple[Vault | None, Finding]":
    from hongyan.control import data_keys
    from hongyan.vault import Vault, VaultError, read_master_key

    path = settings.state_dir / "master.key"
    async with database.transaction() as tx:
        wrapped = await data_keys.wrapped(tx)
    if not settings.master_key and not path.exists():
        words = f"{path} is missing: put your copy there (mode 600), or set HONGYAN_MASTER_KEY"
        return None, Finding("master key", not wrapped, words if wrapped else "none yet")
    try:
        vault = Vault(read_master_key(settings.master_key, path), wrapped)
    except VaultError as error:
        left = path.with_name("master.key.new")
        hint = f"; {left} may be the one, `hongyan master-key rotate` tries it" if left.exists() else ""
        return None, Finding("master key", False, f"{error}{hint}")
    return vault, Finding("master key", True, f"opens {len(wrapped)} data keys")


CHANNELS_SQL: LiteralString = """
SELECT c.id, c.name, c.kind, c.sealed, c.paused,
       EXISTS (SELECT FROM session_lease l WHERE l.channel_id = c.id AND l.until > now()) AS held,
       EXISTS (SELECT FROM route_rule r WHERE r.channel_id = c.id AND r.active) AS routed
  FROM channel c WHERE c.active ORDER BY c.id
"""


async def _channels(
    database: "db.Database", vault: "Vault", settings: "Settings", wait_s: float
) -> Sequence[Finding]:
    """Look at every channel.

    One that a gateway holds is left alone, because many accounts allow no second session: the gateway is asked.
    """
    from hongyan.egress import open_egress
    from hongyan.way import state

    rows = await database.fetch(CHANNELS_SQL)
    if not rows:
        return [Finding("channels", True, "none yet: `hongyan channels add`")]
    async with database.transaction() as tx:
        told = await state.every(tx)
    async with (
        open_egress(settings, private=settings.channel_private_addresses) as way_out,
        asyncio.TaskGroup() as tasks,
    ):
        looks = [
            tasks.create_task(_channel(row, told.get(row["id"], ()), vault, way_out, wait_s)) for row in rows
        ]
    return [look.result() for look in looks]


async def _channel(
    row: "db.Row", told: "Sequence[AtGateway]", vault: "Vault", way_out: "Egress", wait_s: float
) -> Finding:
    from hongyan.channels import kinds
    from hongyan.channels.posts import Posts

    what = f"channel {row['name']}"
    remarks = ("" if row["routed"] else ", no route leads here") + (", paused" if row["paused"] else "")
    settings = msgspec.json.decode(vault.unseal_secret(row["sealed"]).reveal())
    try:
        channel = kinds.build(row["kind"], settings)
    except kinds.BadSettings as error:
        return Finding(what, False, f"{error}; `hongyan channels configure` mends it")
    provider = channel if isinstance(channel, Posts) else None
    if row["held"] and provider is None:
        reason = _not_logged_in(told)
        return Finding(what, not reason, (reason or "a running gateway is logged in") + remarks)
    if not wait_s:
        return Finding(what, True, f"{row['kind']}, settings build{remarks}")
    if provider is not None:
        reason = await _knock(provider.settings.url, way_out, wait_s)
        words = "its host answers; only a message shows whether keys and filings are right"
        return Finding(what, not reason, (reason or words) + remarks)
    reason = await _bind(channel, wait_s)
    return Finding(what, not reason, (reason or "its host lets us log in") + remarks)


def _not_logged_in(told: "Sequence[AtGateway]") -> str:
    """Return why no gateway that holds a channel has a session of it, '' if one has."""
    held = [one.told for one in told if not one.stale and one.told.link != "absent"]
    if any(one.sessions_up for one in held):
        return ""
    reasons = {one.reason or one.link for one in held} or {
        "it has not said how it is yet, look again in a moment"
    }
    return f"a running gateway holds it and is not logged in: {'; '.join(sorted(reasons))}"


async def _knock(url: str, way_out: "Egress", wait_s: float) -> str:
    """Ask a provider's host for its root, whatever it answers; returns why there is no answer, '' if there is.

    The channel is not opened: some pull reports, and what is pulled is gone at the provider.
    """
    from yarl import URL

    from hongyan.channels.recipes import PLACE
    from hongyan.egress import Failed

    root = URL(PLACE.sub("x", url)).origin()
    answer = await way_out.request("GET", f"{root}/", timeout_s=wait_s)
    return f"{root}: {answer.reason}" if isinstance(answer, Failed) else ""


async def _bind(channel: "Channel", wait_s: float) -> str:
    """Log in with one session and out again; returns why that failed, '' if it did not."""
    heard = _Ear()
    channel.resize(1)
    await channel.open(heard)
    try:
        async with asyncio.timeout(wait_s):
            await heard.up.wait()
    except TimeoutError:
        return channel.state().reason or f"does not answer within {wait_s:g} s"
    finally:
        async with asyncio.timeout(CLOSE_WAIT_S):
            await channel.close()
    return ""


class _Ear:
    """A sink that hears only whether the link is up. What else comes stays unanswered and is sent again."""

    def __init__(self) -> None:
        self.up = asyncio.Event()

    def changed(self, state: "ChannelState") -> None:
        if state.sessions_up:
            self.up.set()

    def answered(self, answers: "Sequence[Answer]") -> None:
        """Nothing was submitted."""

    def reported(self, reports: "Sequence[Report]") -> None:
        """Not stored, so not answered."""

    def arrived(self, inbound: "Sequence[Inbound]") -> None:
        """Not stored, so not answered."""
