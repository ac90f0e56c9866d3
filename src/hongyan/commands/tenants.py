"""Commands about tenants, their apps, keys, prices and webhooks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame, persons
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.control.keys import NewKey
    from hongyan.control.tenants import AppRow, TenantChange, TenantTerms
    from hongyan.vault import Secret
    from hongyan.vocab.message import Purpose

apps = typer.Typer(no_args_is_help=True, help="A tenant's programs, each with keys and a webhook of its own.")
tenants = typer.Typer(no_args_is_help=True, help="Who owns messages, wording and money.")
keys = typer.Typer(no_args_is_help=True, help="What tenants' programs call the API with.")
prices = typer.Typer(no_args_is_help=True, help="What a part costs a tenant.")
webhooks = typer.Typer(no_args_is_help=True, help="Where an app wants its notices posted.")

Tenant = Annotated[str, typer.Argument(help="The tenant's name or number.")]
App = Annotated[str, typer.Option(help="The tenant's app.")]
Reason = Annotated[str, typer.Option(help="Why; the tenant's history keeps it.")]


# ---- tenants


@tenants.command("list")
def list_tenants(as_json: AsJson = False) -> None:
    """List tenants with their balances."""
    from hongyan.control import tenants as room

    frame.show(room.every, as_json=as_json, empty="no tenants yet")


@tenants.command("create")
def create_tenant(
    name: str,
    currency: Annotated[str, typer.Option(help="ISO 4217; it cannot change later.")] = "CNY",
    country: Annotated[list[str] | None, typer.Option(help="ISO alpha-2; again for more; * is all.")] = None,
    charge_on: Annotated[str, typer.Option(help="submit or delivery")] = "submit",
    consent_demanded: Annotated[
        bool,
        typer.Option("--consent-demanded", help="Promotional lists leave out whom no consent is known of."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a tenant. It starts without money: top it up."""
    from hongyan.control import tenants as room

    if charge_on not in ("submit", "delivery"):
        raise typer.BadParameter("say submit or delivery", param_hint="--charge-on")

    async def step(tx: "db.Tx", desk: Desk) -> int:
        tenant_id = await room.create(
            tx,
            desk.vault,
            desk.master,
            name,
            currency=currency,
            countries=country or ["CN"],
            charge_on="delivery" if charge_on == "delivery" else "submit",
            consent_demanded=consent_demanded,
            who=frame.actor(),
        )
        desk.note(f"tenant:{tenant_id}", tenant_id=tenant_id)
        return tenant_id

    frame.show_pairs({"tenant": frame.change(step)}, as_json=as_json)


@tenants.command("top-up")
def top_up(
    tenant: Tenant,
    amount: Annotated[str, typer.Argument(help="In the tenant's currency, as 100 or 0.045.")],
    note: Annotated[str, typer.Option(help="Stands in the ledger.")] = "",
    reference: Annotated[str, typer.Option(help="Booked once, as an invoice number.")] = "",
) -> None:
    """Add to a tenant's balance."""
    from hongyan.control import ledger
    from hongyan.control import tenants as room

    added = frame.micro(amount)
    if added <= 0:
        raise typer.BadParameter("give a positive amount", param_hint="amount")

    async def step(tx: "db.Tx", desk: Desk) -> int:
        tenant_id = await room.find(tx, tenant)
        desk.note(f"tenant:{tenant_id}", tenant_id=tenant_id, amount_micro=added)
        return await ledger.top_up(tx, tenant_id, added, note, reference=reference)

    typer.echo(f"balance {frame.amount(frame.change(step))}")


@tenants.command("show")
def show_tenant(tenant: Tenant, as_json: AsJson = False) -> None:
    """Show a tenant with all that can be set."""
    import msgspec

    from hongyan.control import tenants as room

    async def step(tx: "db.Tx", _: Desk) -> "TenantTerms":
        return await room.get(tx, await room.find(tx, tenant))

    frame.show_pairs(msgspec.to_builtins(frame.look(step)), as_json=as_json)


@tenants.command("change")
def change_tenant(
    tenant: Tenant,
    name: Annotated[str, typer.Option(help="A new name.")] = "",
    country: Annotated[list[str] | None, typer.Option(help="ISO alpha-2; again for more; * is all.")] = None,
    charge_on: Annotated[str, typer.Option(help="submit or delivery")] = "",
    weight: Annotated[int | None, typer.Option(help="The share inside a lane, 1 to 100.")] = None,
    quiet_from_hour: Annotated[int | None, typer.Option(help="Promotional texts leave before it.")] = None,
    quiet_until_hour: Annotated[int | None, typer.Option(help="Promotional texts leave from it on.")] = None,
    duplicate_s: Annotated[int | None, typer.Option(help="The same text not again within.")] = None,
    consent_demanded: Annotated[
        bool | None,
        typer.Option(
            "--consent-demanded/--no-consent-demanded",
            help="Promotional lists leave out whom no consent is known of.",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="purpose=minute,hour,day, of one number, as otp=1,5,10; 0 = no limit. All of them anew."
        ),
    ] = None,
) -> None:
    """Change a tenant's terms; what is not given stays."""
    from hongyan.control import tenants as room

    given = {
        "countries": country or None,
        "charge_on": charge_on or None,
        "weight": weight,
        "quiet_from_hour": quiet_from_hour,
        "quiet_until_hour": quiet_until_hour,
        "duplicate_s": duplicate_s,
        "consent_demanded": consent_demanded,
        "limits": None if limit is None else dict(_limit(each) for each in limit),
    }
    terms = {name: value for name, value in given.items() if value is not None}

    async def step(tx: "db.Tx", desk: Desk) -> None:
        tenant_id = await room.find(tx, tenant)
        desk.note(f"tenant:{tenant_id}", tenant_id=tenant_id, **terms)
        await room.change(tx, tenant_id, who=frame.actor(), name=name, **terms)  # type: ignore[arg-type]

    frame.change(step)


def _limit(written: str) -> "tuple[Purpose, tuple[int, int, int]]":
    purpose, _, hits = written.partition("=")
    found = frame.purpose_of(purpose)
    try:
        minute, hour, day = (int(each) for each in hits.split(","))
    except ValueError as error:
        raise typer.BadParameter("write it as otp=1,5,10", param_hint="--limit") from error
    if found is None:
        raise typer.BadParameter("begin with the purpose", param_hint="--limit")
    return found, (minute, hour, day)


@tenants.command("history")
def show_history(tenant: Tenant, as_json: AsJson = False) -> None:
    """List what was done to a tenant, the newest first."""
    from hongyan.control import tenants as room

    async def step(tx: "db.Tx", _: Desk) -> "Sequence[TenantChange]":
        return await room.history(tx, await room.find(tx, tenant))

    frame.show_rows(frame.look(step), as_json=as_json, empty="nothing was done")


@tenants.command("suspend")
def suspend(tenant: Tenant, reason: Reason = "") -> None:
    """Refuse a tenant's requests; what it has been promised still leaves."""
    from hongyan.control import tenants as room

    async def step(tx: "db.Tx", desk: Desk) -> None:
        tenant_id = await room.find(tx, tenant)
        desk.note(f"tenant:{tenant_id}", tenant_id=tenant_id, reason=reason)
        await room.suspend(tx, tenant_id, who=frame.actor(), reason=reason)

    frame.change(step)
    frame.say(f"{tenant} is suspended; `hongyan tenants resume {tenant}` takes it back")


@tenants.command("resume")
def resume(tenant: Tenant, reason: Reason = "") -> None:
    """Take a suspended tenant's requests again."""
    from hongyan.control import tenants as room

    async def step(tx: "db.Tx", desk: Desk) -> None:
        tenant_id = await room.find(tx, tenant)
        desk.note(f"tenant:{tenant_id}", tenant_id=tenant_id, reason=reason)
        await room.resume(tx, tenant_id, who=frame.actor(), reason=reason)

    frame.change(step)


# ---- apps


@apps.command("list")
def list_apps(
    tenant: Annotated[str, typer.Option(help="Only this tenant's; empty: everybody's.")] = "",
    as_json: AsJson = False,
) -> None:
    """List apps."""
    from hongyan.control import tenants as room

    async def step(tx: "db.Tx", _: Desk) -> "Sequence[AppRow]":
        return await room.apps(tx, await room.find(tx, tenant) if tenant else None)

    frame.show_rows(frame.look(step), as_json=as_json, empty="no apps yet")


@apps.command("create")
def create_app(tenant: Tenant, name: str) -> None:
    """Make an app."""
    from hongyan.control import tenants as room

    async def step(tx: "db.Tx", desk: Desk) -> None:
        tenant_id = await room.find(tx, tenant)
        desk.note(f"app:{await room.create_app(tx, tenant_id, name)}", tenant_id=tenant_id)

    frame.change(step)


@apps.command("rename")
def rename_app(tenant: Tenant, name: str, new_name: str) -> None:
    """Give an app another name."""
    from hongyan.control import tenants as room

    async def step(tx: "db.Tx", desk: Desk) -> None:
        tenant_id = await room.find(tx, tenant)
        app_id = await room.find_app(tx, tenant_id, name)
        desk.note(f"app:{app_id}", tenant_id=tenant_id)
        await room.rename_app(tx, tenant_id, app_id, new_name)

    frame.change(step)


# ---- keys


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List app keys; secrets are not among what is kept readable."""
    from hongyan.control import keys as room

    frame.show(room.every, as_json=as_json, empty="no keys yet")


@keys.command("create")
def create_key(
    tenant: Tenant,
    app: Annotated[str, typer.Option(help="The tenant's app; made if it has none of this name.")] = "main",
    basic: Annotated[bool, typer.Option(help="HTTP Basic may be used besides signed requests.")] = False,
    free_text: Annotated[bool, typer.Option(help="Texts without a template may be sent.")] = False,
    sandbox: Annotated[bool, typer.Option(help="Reaches sandbox numbers only; costs no operator.")] = False,
    address: Annotated[list[str] | None, typer.Option(help="Address or network; again for more.")] = None,
    rate_per_s: Annotated[int, typer.Option(help="Requests a second; 0 = no limit.")] = 0,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it may do, as messages.send; again for more; none: as usual."),
    ] = None,
    name: Annotated[str, typer.Option(help="To tell it from others.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make an app key. Its secret is printed once, now."""
    from hongyan.control import keys as room
    from hongyan.control import tenants as tenants_room
    from hongyan.control.permissions import SCOPES_DEFAULT
    from hongyan.vocab.errors import Refusal

    async def step(tx: "db.Tx", desk: Desk) -> "NewKey":
        tenant_id = await tenants_room.find(tx, tenant)
        try:
            app_id = await tenants_room.find_app(tx, tenant_id, app)
        except Refusal:
            app_id = await tenants_room.create_app(tx, tenant_id, app)
        made = await room.create(
            tx,
            desk.vault,
            app_id,
            allow_basic=basic,
            free_text=free_text,
            sandbox=sandbox,
            addresses=address or (),
            rate_per_s=rate_per_s,
            scopes=scope or SCOPES_DEFAULT,
            name=name,
        )
        desk.note(f"key:{made.key_id}", tenant_id=tenant_id)
        return made

    _show_key(frame.change(step), as_json=as_json)


@keys.command("rotate")
def rotate_key(
    key_id: str,
    overlap_s: Annotated[
        int | None, typer.Option(help="The old one ends by itself after so long; none: when it is disabled.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a second key that may do the same; both work until the old one ends or is disabled."""
    from hongyan.control import keys as room

    async def step(tx: "db.Tx", desk: Desk) -> "NewKey":
        desk.note(f"key:{key_id}", overlap_s=overlap_s)
        return await room.rotate(tx, desk.vault, key_id, overlap_s=overlap_s)

    made = frame.change(step)
    _show_key(made, as_json=as_json)
    if overlap_s is None:
        frame.say(f"once your programs use it: hongyan keys disable {key_id}")


@keys.command("disable")
def disable_key(key_id: str) -> None:
    """Refuse a key from now on, for good."""
    from hongyan.control import keys as room

    async def step(tx: "db.Tx", desk: Desk) -> None:
        desk.note(f"key:{key_id}")
        await room.disable(tx, key_id)

    frame.change(step)


def _show_key(key: "NewKey", *, as_json: bool) -> None:
    frame.show_pairs({"key_id": key.key_id, "secret": key.secret.reveal().decode()}, as_json=as_json)
    frame.say("keep the secret now: it cannot be shown again")


# ---- prices


@prices.command("list")
def list_prices(as_json: AsJson = False) -> None:
    """List prices per part; the most exact row counts."""
    from hongyan.control import prices as room

    frame.show(room.every, as_json=as_json, empty="no prices yet")


@prices.command("set")
def set_price(
    amount: Annotated[str, typer.Argument(help="Per part, in the tenant's currency, as 0.045.")],
    tenant: Annotated[str, typer.Option(help="Only for this tenant.")] = "",
    country: Annotated[str, typer.Option(help="ISO alpha-2; * is everywhere.")] = "*",
    operator: Annotated[str, typer.Option(help="cmcc, unicom, telecom, broadnet …; needs a country.")] = "*",
    purpose: Annotated[str, typer.Option(help="otp, transactional or promotional; empty: all.")] = "",
) -> None:
    """Set the price of a part."""
    from hongyan.control import prices as room
    from hongyan.control import tenants as tenants_room

    part_micro, wanted = frame.micro(amount), frame.purpose_of(purpose)

    async def step(tx: "db.Tx", _: Desk) -> None:
        tenant_id = await tenants_room.find(tx, tenant) if tenant else room.EVERY_TENANT
        await room.put(
            tx, part_micro, tenant_id=tenant_id, country=country, operator=operator, purpose=wanted
        )

    frame.change(step)


@prices.command("remove")
def remove_price(
    tenant: Annotated[str, typer.Option(help="The one of this tenant.")] = "",
    country: Annotated[str, typer.Option(help="As it was set.")] = "*",
    operator: Annotated[str, typer.Option(help="As it was set.")] = "*",
    purpose: Annotated[str, typer.Option(help="As it was set.")] = "",
) -> None:
    """Remove a price; a less exact one counts then, and where none is left nobody can be written to."""
    from hongyan.control import prices as room
    from hongyan.control import tenants as tenants_room

    wanted = frame.purpose_of(purpose)

    async def step(tx: "db.Tx", _: Desk) -> None:
        tenant_id = await tenants_room.find(tx, tenant) if tenant else room.EVERY_TENANT
        await room.remove(tx, tenant_id=tenant_id, country=country, operator=operator, purpose=wanted)

    frame.change(step)


# ---- webhooks


@webhooks.command("list")
def list_webhooks(as_json: AsJson = False) -> None:
    """List webhooks and how they fare."""
    from hongyan.control import webhooks as room

    frame.show(room.every, as_json=as_json, empty="no webhooks yet")


@webhooks.command("set")
def set_webhook(
    tenant: Tenant,
    url: Annotated[
        str, typer.Argument(help="https://…; private addresses need HONGYAN_WEBHOOK_PRIVATE_ADDRESSES.")
    ],
    app: App = "main",
    renew_secret: Annotated[bool, typer.Option(help="Replace the secret that signs our POSTs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set where an app's notices go. A new secret is printed once, now."""
    from hongyan.control import tenants as tenants_room
    from hongyan.control import webhooks as room

    async def step(tx: "db.Tx", desk: Desk) -> "Secret | None":
        tenant_id = await tenants_room.find(tx, tenant)
        app_id = await tenants_room.find_app(tx, tenant_id, app)
        desk.note(f"webhook:{app_id}", tenant_id=tenant_id, url=url.partition("?")[0])
        secret = await room.put(tx, desk.vault, desk.settings, app_id, url)
        if secret is None and renew_secret:
            secret = await room.renew_secret(tx, desk.vault, app_id)
        return secret

    secret = frame.change(step)
    if secret is None:
        frame.say("the secret stays as it was")
    else:
        frame.show_pairs({"url": url, "secret": secret.reveal().decode()}, as_json=as_json)
        frame.say("keep the secret now: it cannot be shown again")


@webhooks.command("remove")
def remove_webhook(tenant: Tenant, app: App = "main") -> None:
    """Post no more to an app; its notices wait to be pulled."""
    from hongyan.control import tenants as tenants_room
    from hongyan.control import webhooks as room

    async def step(tx: "db.Tx", desk: Desk) -> None:
        tenant_id = await tenants_room.find(tx, tenant)
        app_id = await tenants_room.find_app(tx, tenant_id, app)
        desk.note(f"webhook:{app_id}", tenant_id=tenant_id)
        await room.remove(tx, app_id)

    frame.change(step)


tenants.command("shred")(persons.shred)
