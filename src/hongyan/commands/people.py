"""Commands about people of the console, and about the audit of what everybody changed."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.control.users import Person

users = typer.Typer(no_args_is_help=True, help="People who may sign in to the console.")
audit = typer.Typer(no_args_is_help=True, help="What was changed, by whom; and whether that record is whole.")

Email = Annotated[str, typer.Argument(help="The e-mail the person signs in with.")]


@users.command("add")
def add_user(
    email: Email,
    role: Annotated[
        str,
        typer.Option(
            help="operator, reviewer, finance or support; with --tenant: owner, developer, marketer or viewer"
        ),
    ],
    tenant: Annotated[str, typer.Option(help="Of this tenant; without, of the platform.")] = "",
    name: Annotated[str, typer.Option(help="What others see; without, the e-mail's name.")] = "",
) -> None:
    """Let a person in. The password is asked for, or read as one line from a pipe."""
    from hongyan.control import tenants
    from hongyan.control import users as room
    from hongyan.control.permissions import Role

    if role not in set(Role):
        raise typer.BadParameter(f"say {', '.join(Role)}", param_hint="--role")
    password = frame.ask_secret(f"Password of {email}")

    async def step(tx: "db.Tx", desk: Desk) -> int:
        tenant_id = await tenants.find(tx, tenant) if tenant else None
        user_id = await room.create(
            tx,
            tenant_id=tenant_id,
            email=email,
            name=name or email.partition("@")[0],
            role=Role(role),
            password=password,
        )
        desk.note(f"user:{user_id}", tenant_id=tenant_id, email=email, role=role)
        return user_id

    frame.say(f"user {frame.change(step)} may sign in as {role}")


@users.command("list")
def list_users(as_json: AsJson = False) -> None:
    """List people of the platform and of all tenants."""
    from hongyan.control import users as room

    async def every(tx: "db.Tx") -> "list[room.UserRow]":
        rows: list[room.UserRow] = []
        while page := await room.listed(tx, None, rows[-1].id if rows else 0):
            rows += page
        return rows

    frame.show(every, as_json=as_json, empty="no users yet: hongyan users add --role operator EMAIL")


@users.command("deactivate")
def deactivate_user(email: Email) -> None:
    """Take a person out: signed out everywhere, tokens and open invitations revoked."""
    _set_active(email, active=False)


@users.command("activate")
def activate_user(email: Email) -> None:
    """Let a person in again who was taken out."""
    _set_active(email, active=True)


def _set_active(email: str, *, active: bool) -> None:
    from hongyan.control import people

    async def step(tx: "db.Tx", desk: Desk) -> None:
        person = await _find(tx, desk, email)
        await people.change(tx, None, None, person.id, active=active)

    frame.change(step)


@users.command("set-password")
def set_password(email: Email) -> None:
    """Give a person a new password, who forgot it; signs out everywhere."""
    from hongyan.control import people

    password = frame.ask_secret(f"New password of {email}")

    async def step(tx: "db.Tx", desk: Desk) -> None:
        person = await _find(tx, desk, email)
        await people.set_password(tx, person.id, password)
        await people.unlock(tx, desk.vault, email)

    frame.change(step)


@users.command("reset-totp")
def reset_totp(email: Email) -> None:
    """Ask a person for no one-time codes any more, who lost the authenticator; signs out everywhere."""
    from hongyan.control import people

    async def step(tx: "db.Tx", desk: Desk) -> None:
        await people.reset_totp(tx, (await _find(tx, desk, email)).id)

    frame.change(step)


@users.command("unlock")
def unlock(email: Email) -> None:
    """Let a person sign in at once, whom somebody's wrong attempts have locked out."""
    from hongyan.control import people

    async def step(tx: "db.Tx", desk: Desk) -> None:
        await _find(tx, desk, email)
        await people.unlock(tx, desk.vault, email)

    frame.change(step)


async def _find(tx: "db.Tx", desk: Desk, email: str) -> "Person":
    """Find a person and note for the audit that this is about them. Raises Refusal."""
    from hongyan.control import users as room
    from hongyan.control.bounds import demand_found

    person = demand_found(await room.find_by_email(tx, email), email=email)
    desk.note(f"user:{person.id}", tenant_id=person.tenant_id, email=person.email)
    return person


# ---- the audit


@audit.command("list")
def list_audit(
    actor: Annotated[
        str, typer.Option(help="Only by this one, as 'user:7 li@example.com' or cli:root.")
    ] = "",
    action: Annotated[str, typer.Option(help="Only this, as createKey or 'users add'.")] = "",
    subject: Annotated[str, typer.Option(help="Only about this, as template:5.")] = "",
    tenant: Annotated[str, typer.Option(help="Only what concerns this tenant.")] = "",
    since: Annotated[datetime | None, typer.Option(help="From this moment on (UTC).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: AsJson = False,
) -> None:
    """List what was changed, the newest first."""
    from datetime import UTC

    import msgspec

    from hongyan.control import audit as room
    from hongyan.control import tenants

    async def every(tx: "db.Tx") -> "list[room.AuditRow]":
        asked = room.Filter(
            tenant_id=await tenants.find(tx, tenant) if tenant else None,
            actor=actor or None,
            action=action or None,
            subject=subject or None,
            since=None if since is None else since.replace(tzinfo=UTC),
        )
        rows: list[room.AuditRow] = []
        while len(rows) < limit:
            found = await room.listed(tx, asked, limit - len(rows))
            rows += found.rows
            if found.before is None:
                break
            asked = msgspec.structs.replace(asked, before=found.before)
        return rows

    frame.show(every, as_json=as_json, empty="nothing was recorded")


@audit.command("head")
def show_head(as_json: AsJson = False) -> None:
    """Print where the record ends now. Keep it where nobody of this machine can write: it proves later what was."""
    from hongyan.control import audit as room

    head = frame.look(lambda tx, _: room.head(tx))
    if as_json:
        frame.show_pairs({"seq": head.seq, "hash": head.hash.hex()}, as_json=True)
    else:
        typer.echo(str(head))


@audit.command("verify")
def verify(
    head: Annotated[str, typer.Option(help="What `hongyan audit head` printed some time before.")] = "",
    as_json: AsJson = False,
) -> None:
    """Go through the whole record and say where it was changed, if it was; exit code 1 then."""
    import msgspec

    from hongyan.control import audit as room

    try:
        kept = room.read_head(head) if head else None
    except ValueError as error:
        raise typer.BadParameter("as `hongyan audit head` prints it", param_hint="--head") from error
    verdict = frame.at_desk(lambda desk: room.verify(desk.database, kept))
    if as_json:
        typer.echo(msgspec.json.encode(verdict))
    elif verdict.fault is None:
        typer.echo(f"{verdict.records} records hold; head {verdict.head}")
    else:
        typer.echo(f"{verdict.records} records hold; then, at {verdict.at_seq}: {room.WORDS[verdict.fault]}")
    if verdict.fault is not None:
        raise typer.Exit(1)
