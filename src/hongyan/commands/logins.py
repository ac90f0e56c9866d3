"""Commands about the accounts of customers whose systems log in with a protocol."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.control.logins import Terms
    from hongyan.vault import Secret

logins = typer.Typer(
    no_args_is_help=True, help="What customers' systems log in with: SMPP, CMPP, SGIP, SMGP."
)

Protocol = Annotated[str, typer.Argument(help="smpp, cmpp, sgip or smgp")]
Name = Annotated[str, typer.Argument(help="Its system_id, Source_Addr, LoginName or ClientID.")]
AskPassword = Annotated[
    bool, typer.Option("--password", help="Ask for the password instead of making one: they have it already.")
]
AccessNumber = Annotated[str | None, typer.Option(help="What their source addresses begin with.")]
FreeText = Annotated[bool | None, typer.Option(help="Texts that match no template pass, under --purpose.")]
Hold = Annotated[bool | None, typer.Option(help="Such texts wait for a person: hongyan held list.")]
OfPurpose = Annotated[str, typer.Option(help="Of such texts: otp, transactional or promotional.")]
Sandbox = Annotated[bool | None, typer.Option(help="Reaches sandbox numbers only; costs no operator.")]
SessionsMax = Annotated[int | None, typer.Option(help="Connections at once, over all doors.")]
WindowSize = Annotated[int | None, typer.Option(help="Unanswered PDUs of a session, in each direction.")]
RatePerS = Annotated[int | None, typer.Option(help="Submits a second; 0 = no limit.")]
DuplicateS = Annotated[
    int | None,
    typer.Option(help="How long the same text to the same number is refused; 0 = as the tenant's."),
]
Address = Annotated[
    list[str] | None, typer.Option(help="Address or network; again for more; an empty one: everywhere.")
]
Version = Annotated[str | None, typer.Option(help="Of CMPP: 2.0 or 3.0; empty: what the client says.")]
DeliverTo = Annotated[str | None, typer.Option(help="SGIP: host:port where the customer listens.")]
Setting = Annotated[
    list[str] | None,
    typer.Option(help="name=value, what only this protocol has; again for more; null takes one away."),
]


@logins.command("list")
def list_logins(as_json: AsJson = False) -> None:
    """List logins; passwords are not among what is kept readable."""
    from hongyan.control import logins as room

    frame.show(room.every, as_json=as_json, empty="no logins yet")


@logins.command("create")
def create_login(
    tenant: Annotated[str, typer.Argument(help="The tenant's name or number.")],
    protocol: Protocol,
    name: Name,
    password: AskPassword = False,
    access_number: AccessNumber = None,
    free_text: FreeText = None,
    hold: Hold = None,
    purpose: OfPurpose = "",
    sandbox: Sandbox = None,
    sessions_max: SessionsMax = None,
    window_size: WindowSize = None,
    rate_per_s: RatePerS = None,
    duplicate_s: DuplicateS = None,
    address: Address = None,
    version: Version = None,
    deliver_to: DeliverTo = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Make a login, with an app of its own called protocol:name. Its password is printed once, now."""
    from hongyan.control import logins as room
    from hongyan.control import tenants

    given = _asked(protocol, name) if password else None
    terms = _terms(
        access_number=access_number,
        free_text=free_text,
        hold=hold,
        purpose=frame.purpose_of(purpose),
        sandbox=sandbox,
        sessions_max=sessions_max,
        window_size=window_size,
        rate_per_s=rate_per_s,
        duplicate_s=duplicate_s,
        addresses=_addresses(address),
        version=_version(version),
        deliver_to=deliver_to,
        settings=_settings(setting),
    )

    async def step(tx: "db.Tx", desk: Desk) -> "Secret":
        tenant_id = await tenants.find(tx, tenant)
        return await room.create(tx, desk.vault, tenant_id, protocol, name, password=given, **terms)

    _show(protocol, name, frame.change(step), given, as_json=as_json)


@logins.command("password")
def set_password(
    protocol: Protocol, name: Name, password: AskPassword = False, as_json: AsJson = False
) -> None:
    """Replace a password at once; the new one is printed once, now."""
    from hongyan.control import logins as room

    given = _asked(protocol, name) if password else None

    async def step(tx: "db.Tx", desk: Desk) -> "Secret":
        return await room.set_password(tx, desk.vault, protocol, name, given)

    _show(protocol, name, frame.change(step), given, as_json=as_json)


@logins.command("change")
def change_login(
    protocol: Protocol,
    name: Name,
    access_number: AccessNumber = None,
    free_text: FreeText = None,
    hold: Hold = None,
    purpose: OfPurpose = "",
    sandbox: Sandbox = None,
    sessions_max: SessionsMax = None,
    window_size: WindowSize = None,
    rate_per_s: RatePerS = None,
    duplicate_s: DuplicateS = None,
    address: Address = None,
    version: Version = None,
    deliver_to: DeliverTo = None,
    setting: Setting = None,
) -> None:
    """Change what a login may do; what is left out stays as it is."""
    from hongyan.control import logins as room

    terms = _terms(
        access_number=access_number,
        free_text=free_text,
        hold=hold,
        purpose=frame.purpose_of(purpose),
        sandbox=sandbox,
        sessions_max=sessions_max,
        window_size=window_size,
        rate_per_s=rate_per_s,
        duplicate_s=duplicate_s,
        addresses=_addresses(address),
        version=_version(version),
        deliver_to=deliver_to,
        settings=_settings(setting),
    )
    frame.change(lambda tx, _: room.change(tx, protocol, name, **terms))


@logins.command("disable")
def disable_login(protocol: Protocol, name: Name) -> None:
    """Take nothing more from a login; what it has been promised still leaves."""
    from hongyan.control import logins as room

    frame.change(lambda tx, _: room.disable(tx, protocol, name))
    frame.say(f"`hongyan logins enable {protocol} {name}` takes it back")


@logins.command("enable")
def enable_login(protocol: Protocol, name: Name) -> None:
    """Let a disabled login in again."""
    from hongyan.control import logins as room

    frame.change(lambda tx, _: room.enable(tx, protocol, name))


def _asked(protocol: str, name: str) -> "Secret":
    from hongyan.vault import Secret

    return Secret(frame.ask_secret(f"password of {protocol}:{name}").encode())


def _show(protocol: str, name: str, password: "Secret", given: "Secret | None", *, as_json: bool) -> None:
    """Print whose password it is, and the password where it was made here."""
    app = {"app": f"{protocol}:{name}"}
    if given is not None:
        frame.show_pairs(app, as_json=as_json)
        return
    frame.show_pairs(app | {"password": password.reveal().decode()}, as_json=as_json)
    frame.say("keep the password now: it cannot be shown again")


def _terms(**options: object) -> "Terms":
    """Return the terms that were given."""
    return cast("Terms", {name: value for name, value in options.items() if value is not None})


def _addresses(written: Sequence[str] | None) -> Sequence[str] | None:
    return None if written is None else [address for address in written if address]


def _version(written: str | None) -> int | None:
    from hongyan.control.logins import VERSIONS

    if written is not None and written not in VERSIONS:
        raise typer.BadParameter("say 2.0 or 3.0, or nothing", param_hint="--version")
    return None if written is None else VERSIONS[written]


def _settings(pairs: Sequence[str] | None) -> dict[str, object] | None:
    """Read name=value, values as JSON or plain words."""
    if pairs is None:
        return None
    settings: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r}: say name=value", param_hint="--setting")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings
