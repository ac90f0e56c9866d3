"""Commands about tenants, their keys, prices and webhooks."""

from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from hongyan import db
    from hongyan.control.keys import NewKey
    from hongyan.vault import Secret

tenants = typer.Typer(no_args_is_help=True, help="Who owns messages, wording and money.")
keys = typer.Typer(no_args_is_help=True, help="What tenants' programs call the API with.")
prices = typer.Typer(no_args_is_help=True, help="What a part costs a tenant.")
webhooks = typer.Typer(no_args_is_help=True, help="Where an app wants its notices posted.")

Tenant = Annotated[str, typer.Argument(help="The tenant's name or number.")]
App = Annotated[str, typer.Option(help="The tenant's app.")]


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
    as_json: AsJson = False,
) -> None:
    """Create a tenant. It starts without money: top it up."""
    from hongyan.control import tenants as room

    if charge_on not in ("submit", "delivery"):
        raise typer.BadParameter("say submit or delivery", param_hint="--charge-on")

    async def step(tx: "db.Tx", desk: Desk) -> int:
        return await room.create(
            tx,
            desk.vault,
            desk.master,
            name,
            currency=currency,
            countries=country or ["CN"],
            charge_on="delivery" if charge_on == "delivery" else "submit",
        )

    frame.show_pairs({"tenant": frame.change(step)}, as_json=as_json)


@tenants.command("top-up")
def top_up(
    tenant: Tenant,
    amount: Annotated[str, typer.Argument(help="In the tenant's currency, as 100 or 0.045.")],
    note: Annotated[str, typer.Option(help="Stands in the ledger, as an invoice number.")] = "",
) -> None:
    """Add to a tenant's balance."""
    from hongyan.control import tenants as room
    from hongyan.way import charge

    added = frame.micro(amount)
    if added <= 0:
        raise typer.BadParameter("give a positive amount", param_hint="amount")

    async def step(tx: "db.Tx", _: Desk) -> int:
        tenant_id = await room.find(tx, tenant)
        await charge.top_up(tx, tenant_id, added, note=note)
        return await charge.balance_micro(tx, tenant_id)

    typer.echo(f"balance {frame.amount(frame.change(step))}")


@tenants.command("suspend")
def suspend(tenant: Tenant) -> None:
    """Refuse a tenant's requests; what it has been promised still leaves."""
    from hongyan.control import tenants as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.suspend(tx, await room.find(tx, tenant))

    frame.change(step)
    frame.say(f"{tenant} is suspended; `hongyan tenants resume {tenant}` takes it back")


@tenants.command("resume")
def resume(tenant: Tenant) -> None:
    """Take a suspended tenant's requests again."""
    from hongyan.control import tenants as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.resume(tx, await room.find(tx, tenant))

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
    as_json: AsJson = False,
) -> None:
    """Make an app key. Its secret is printed once, now."""
    from hongyan.control import keys as room
    from hongyan.control import tenants as tenants_room
    from hongyan.vocab.errors import Refusal

    async def step(tx: "db.Tx", desk: Desk) -> "NewKey":
        tenant_id = await tenants_room.find(tx, tenant)
        try:
            app_id = await tenants_room.find_app(tx, tenant_id, app)
        except Refusal:
            app_id = await tenants_room.create_app(tx, tenant_id, app)
        return await room.create(
            tx,
            desk.vault,
            app_id,
            allow_basic=basic,
            free_text=free_text,
            sandbox=sandbox,
            addresses=address or (),
            rate_per_s=rate_per_s,
        )

    _show_key(frame.change(step), as_json=as_json)


@keys.command("rotate")
def rotate_key(key_id: str, as_json: AsJson = False) -> None:
    """Make a second key that may do the same; both work until the old one is disabled."""
    from hongyan.control import keys as room

    _show_key(frame.change(lambda tx, desk: room.rotate(tx, desk.vault, key_id)), as_json=as_json)
    frame.say(f"once your programs use it: hongyan keys disable {key_id}")


@keys.command("disable")
def disable_key(key_id: str) -> None:
    """Refuse a key from now on, for good."""
    from hongyan.control import keys as room

    frame.change(lambda tx, _: room.disable(tx, key_id))


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
        app_id = await tenants_room.find_app(tx, await tenants_room.find(tx, tenant), app)
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

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.remove(tx, await tenants_room.find_app(tx, await tenants_room.find(tx, tenant), app))

    frame.change(step)
