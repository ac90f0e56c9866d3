"""What the plane flies by: tenants, keys, wording, channels, routes, prices, as one frozen value.

The way reads this and never asks control, so messages fly while the console is down. It is loaded
whole and swapped whole, when control says so (NOTIFY control) and on a slow clock. Entry point: Keeper.
"""

import asyncio
import ipaddress
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import LiteralString

import msgspec
import structlog

from hongyan import db
from hongyan.channels import kinds
from hongyan.vault import Secret, Vault
from hongyan.vocab import wording
from hongyan.vocab.message import PURPOSES, AppId, ChannelId, Purpose, TenantId
from hongyan.vocab.phone import Override, Overrides

log = structlog.get_logger()

RELOAD_S = 5.0
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Limits(msgspec.Struct, frozen=True):
    """How often one number may be written to under one signature and purpose; 0 = no limit."""

    minute: int
    hour: int
    day: int


# Defaults after what the mainland clouds do: codes 1 a minute, 5 an hour, 10 a day; others 50 a day.
LIMITS_DEFAULT: Mapping[Purpose, Limits] = {
    Purpose.OTP: Limits(1, 5, 10),
    Purpose.TRANSACTIONAL: Limits(0, 0, 50),
    Purpose.PROMOTIONAL: Limits(0, 0, 50),
}


class Tenant(msgspec.Struct, frozen=True):
    id: TenantId
    name: str
    active: bool
    currency: str
    charge_on_delivery: bool
    countries: frozenset[str]
    weight: int
    quiet_from_hour: int
    quiet_until_hour: int
    limits: Mapping[Purpose, Limits]
    duplicate_s: int
    signatures: Mapping[str, "Signature"]
    templates: Mapping[str, "Template"]


class Signature(msgspec.Struct, frozen=True):
    id: int
    name: str
    approved: bool
    extension: str


class Template(msgspec.Struct, frozen=True):
    id: int
    code: str
    purpose: Purpose
    scope: str  # mainland, international, any
    signature_id: int  # 0: any of the tenant's
    resend: bool
    approved: bool
    text: wording.Compiled


class Key(msgspec.Struct, frozen=True):
    """An app key with all that is asked of it at the door."""

    id: int
    key_id: str
    secret: Secret
    tenant: Tenant
    app_id: AppId
    allow_basic: bool
    free_text: bool
    sandbox: bool
    networks: tuple[Network, ...]
    rate_per_s: int


class Login(msgspec.Struct, frozen=True):
    """An account of a customer whose system logs in with a protocol, with all that is asked of it at the door."""

    id: int
    protocol: str  # smpp, cmpp, sgip, smgp
    name: str
    key: Key  # as whom its messages are accepted: the number is -id, the secret is the password
    version: int
    access_number: str
    purpose: Purpose  # of free texts
    hold: bool  # a person decides about each of those
    sessions_max: int
    window_size: int
    deliver_to: str
    settings: Mapping[str, str | int | bool]


class ChannelRow(msgspec.Struct, frozen=True):
    """A channel as configured. `config` is the kind's own Config as a mapping, with its secrets."""

    id: ChannelId
    name: str
    kind: str
    config: Secret  # JSON
    paused: bool
    parts_per_s: int
    sessions: int
    access_number: str
    report_one: bool  # one report for a whole long message
    cost_micro: int


class RouteRule(msgspec.Struct, frozen=True):
    id: int
    priority: int
    channel_id: ChannelId
    weight: int
    tenant_id: TenantId | None
    country: str | None
    operator: str | None
    purpose: Purpose | None


class Webhook(msgspec.Struct, frozen=True):
    id: int
    app_id: AppId
    url: str
    secret: Secret


class Snapshot(msgspec.Struct, frozen=True):
    """One consistent picture. `version` changes whenever anything did."""

    version: int
    tenants: Mapping[TenantId, Tenant]
    keys: Mapping[str, Key]  # by public key id
    channels: Mapping[ChannelId, ChannelRow]  # active ones
    rules: Sequence[RouteRule]  # active ones, by priority
    prices: Mapping[tuple[int, str, str, int], int]  # (tenant, country, operator, purpose number) → per part
    webhooks: Mapping[AppId, Webhook]
    hooked_apps: Sequence[AppId]  # who has a webhook, as the statements of the way want it
    pay_on_delivery: Sequence[TenantId]  # the same for whom pays only then
    overrides: Overrides | None  # of prefixes
    signatures: Mapping[int, Signature]
    templates: Mapping[int, Template]
    has_number_overrides: bool
    sends_templates: bool = (
        False  # a channel is there that takes a template's code and values in place of a text
    )
    logins: Mapping[tuple[str, str], Login] = {}  # by protocol and name
    login_apps: Mapping[AppId, Login] = {}  # the same by the app that is owed what becomes of their messages
    found_prices: dict[tuple[TenantId, str, str, Purpose], int | None] = {}  # what has been asked, answered
    found_routes: dict[tuple[TenantId, str, str, Purpose, bool], bool] = {}  # the same; see route.exists()

    def part_price_micro(
        self, tenant_id: TenantId, country: str, operator: str, purpose: Purpose
    ) -> int | None:
        """Return the price of one part, from the most exact row: tenant, country, operator, then purpose."""
        wanted = (tenant_id, country, operator, purpose)
        try:
            return self.found_prices[wanted]
        except KeyError:
            price = self.found_prices[wanted] = self._find_price(tenant_id, country, operator, purpose)
            return price

    def _find_price(self, tenant_id: TenantId, country: str, operator: str, purpose: Purpose) -> int | None:
        prices = self.prices
        for tenant in (tenant_id, 0):
            for place in ((country, operator), (country, "*"), ("*", "*")):
                for number in (purpose.number, -1):
                    price = prices.get((tenant, *place, number))
                    if price is not None:
                        return price
        return None


class Keeper:
    """Holds the newest snapshot. `current` is swapped, never changed."""

    def __init__(self, database: db.Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._stale = asyncio.Event()
        self._raw: object = None
        self.current: Snapshot

    async def load(self) -> Snapshot:
        """Read everything in one transaction and swap the snapshot if anything changed."""
        async with self._database.transaction() as tx:
            await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            rows = {name: await tx.fetch(sql) for name, sql in _TABLES.items()}
        if rows != self._raw:
            self._vault.add({row["name"]: row["wrapped"] for row in rows["vault_key"]})
            version = self.current.version + 1 if self._raw is not None else 1
            self.current = _build(rows, self._vault, version)
            self._raw = rows
        return self.current

    def stale(self, _payload: str = "") -> None:
        """Hear that control changed something."""
        self._stale.set()

    async def run(self) -> None:
        """Reload when told and on a slow clock, until cancelled. A failed reload keeps the old snapshot."""
        while True:
            try:
                async with asyncio.timeout(RELOAD_S):
                    await self._stale.wait()
            except TimeoutError:
                pass
            self._stale.clear()
            try:
                await self.load()
            except db.Unavailable as error:
                log.warning("snapshot.not_reloaded", error=type(error).__name__)
            except Exception:  # a row that cannot be read must not stop those who fly by the others
                log.exception("snapshot.unreadable")


_TABLES: Mapping[str, LiteralString] = {
    "vault_key": "SELECT name, wrapped FROM vault_key ORDER BY name",
    "tenant": """SELECT id, name, active, currency, charge_on, countries, weight, quiet_from_hour, quiet_until_hour,
                        limits, duplicate_s FROM tenant ORDER BY id""",
    "signature": "SELECT id, tenant_id, name, state, extension FROM signature ORDER BY id",
    "template": """SELECT id, tenant_id, code, body, purpose, scope, signature_id, variables, resend, state
                     FROM template ORDER BY id""",
    "app_key": """SELECT k.id, k.key_id, k.sealed, a.tenant_id, k.app_id, k.allow_basic, k.free_text, k.sandbox,
                         k.addresses, k.rate_per_s
                    FROM app_key k JOIN app a ON a.id = k.app_id WHERE k.active ORDER BY k.id""",
    "login": """SELECT l.id, l.protocol, l.name, l.app_id, a.tenant_id, l.sealed, l.version, l.access_number, l.free_text,
                       l.hold, l.purpose, l.sandbox, l.sessions_max, l.window_size, l.rate_per_s, l.duplicate_s, l.addresses,
                       l.deliver_to, l.settings
                  FROM login l JOIN app a ON a.id = l.app_id WHERE l.active ORDER BY l.id""",
    "channel": """SELECT id, name, kind, sealed, paused, parts_per_s, sessions, access_number, report_parts, cost_micro
                    FROM channel WHERE active ORDER BY id""",
    "route_rule": """SELECT id, priority, channel_id, weight, tenant_id, country, operator, purpose
                       FROM route_rule WHERE active ORDER BY priority, id""",
    "price": "SELECT tenant_id, country, operator, purpose, part_micro FROM price",
    "webhook": "SELECT id, app_id, url, sealed FROM webhook WHERE active ORDER BY id",
    "prefix_override": "SELECT prefix, operator, province FROM prefix_override ORDER BY prefix",
    "number_override": "SELECT 1 AS one FROM number_override LIMIT 1",
}

Rows = Mapping[str, Sequence[db.Row]]


def _build(rows: Rows, vault: Vault, version: int) -> Snapshot:
    signatures = {row["id"]: _signature(row) for row in rows["signature"]}
    templates = {row["id"]: _template(row) for row in rows["template"]}
    own_signatures: dict[int, dict[str, Signature]] = defaultdict(dict)
    for row in rows["signature"]:
        own_signatures[row["tenant_id"]][row["name"]] = signatures[row["id"]]
    own_templates: dict[int, dict[str, Template]] = defaultdict(dict)
    for row in rows["template"]:
        own_templates[row["tenant_id"]][row["code"]] = templates[row["id"]]
    tenants = {
        TenantId(row["id"]): _tenant(row, own_signatures[row["id"]], own_templates[row["id"]])
        for row in rows["tenant"]
    }
    logins = [_login(row, tenants, vault) for row in rows["login"]]
    return Snapshot(
        version=version,
        tenants=tenants,
        keys={row["key_id"]: _key(row, tenants, vault) for row in rows["app_key"]},
        channels={ChannelId(row["id"]): _channel(row, vault) for row in rows["channel"]},
        rules=[_rule(row) for row in rows["route_rule"]],
        prices={
            (r["tenant_id"], r["country"], r["operator"], r["purpose"]): r["part_micro"]
            for r in rows["price"]
        },
        webhooks={AppId(row["app_id"]): _webhook(row, vault) for row in rows["webhook"]},
        sends_templates=any(kinds.takes_templates(row["kind"]) for row in rows["channel"]),
        logins={(login.protocol, login.name): login for login in logins},
        login_apps={login.key.app_id: login for login in logins},
        hooked_apps=[row["app_id"] for row in rows["webhook"]],
        pay_on_delivery=[tenant.id for tenant in tenants.values() if tenant.charge_on_delivery],
        overrides=_overrides(rows["prefix_override"]),
        signatures=signatures,
        templates=templates,
        has_number_overrides=bool(rows["number_override"]),
    )


def _overrides(rows: Sequence[db.Row]) -> Overrides | None:
    if not rows:
        return None
    prefixes = {
        "+" + row["prefix"].removeprefix("+"): Override(
            operator=row["operator"] or None, province=row["province"] or None
        )
        for row in rows
    }
    return Overrides({}, prefixes)


def _tenant(row: db.Row, signatures: Mapping[str, Signature], templates: Mapping[str, Template]) -> Tenant:
    own = msgspec.json.decode(row["limits"], type=dict[str, tuple[int, int, int]])
    return Tenant(
        id=TenantId(row["id"]),
        name=row["name"],
        active=row["active"],
        currency=row["currency"],
        charge_on_delivery=row["charge_on"] == "delivery",
        countries=frozenset(row["countries"]),
        weight=row["weight"],
        quiet_from_hour=row["quiet_from_hour"],
        quiet_until_hour=row["quiet_until_hour"],
        limits=dict(LIMITS_DEFAULT) | {Purpose(name): Limits(*values) for name, values in own.items()},
        duplicate_s=row["duplicate_s"],
        signatures=signatures,
        templates=templates,
    )


def _signature(row: db.Row) -> Signature:
    return Signature(
        id=row["id"], name=row["name"], approved=row["state"] == "approved", extension=row["extension"]
    )


def _template(row: db.Row) -> Template:
    return Template(
        id=row["id"],
        code=row["code"],
        purpose=PURPOSES[row["purpose"]],
        scope=row["scope"],
        signature_id=row["signature_id"] or 0,
        resend=row["resend"],
        approved=row["state"] == "approved",
        text=wording.compile_body(row["body"], row["variables"]),
    )


def _key(row: db.Row, tenants: Mapping[TenantId, Tenant], vault: Vault) -> Key:
    return Key(
        id=row["id"],
        key_id=row["key_id"],
        secret=vault.unseal_secret(row["sealed"]),
        tenant=tenants[TenantId(row["tenant_id"])],
        app_id=AppId(row["app_id"]),
        allow_basic=row["allow_basic"],
        free_text=row["free_text"],
        sandbox=row["sandbox"],
        networks=tuple(ipaddress.ip_network(text) for text in row["addresses"]),
        rate_per_s=row["rate_per_s"],
    )


def _login(row: db.Row, tenants: Mapping[TenantId, Tenant], vault: Vault) -> Login:
    tenant = tenants[TenantId(row["tenant_id"])]
    key = Key(
        id=-row["id"],
        key_id=f"{row['protocol']}:{row['name']}",
        secret=vault.unseal_secret(row["sealed"]),
        tenant=msgspec.structs.replace(tenant, duplicate_s=row["duplicate_s"] or tenant.duplicate_s),
        app_id=AppId(row["app_id"]),
        allow_basic=False,
        free_text=row["free_text"] or row["hold"],
        sandbox=row["sandbox"],
        networks=tuple(ipaddress.ip_network(text) for text in row["addresses"]),
        rate_per_s=row["rate_per_s"],
    )
    return Login(
        id=row["id"],
        protocol=row["protocol"],
        name=row["name"],
        key=key,
        version=row["version"],
        access_number=row["access_number"],
        purpose=PURPOSES[row["purpose"]],
        hold=row["hold"],
        sessions_max=row["sessions_max"],
        window_size=row["window_size"],
        deliver_to=row["deliver_to"],
        settings=msgspec.json.decode(row["settings"]),
    )


def _channel(row: db.Row, vault: Vault) -> ChannelRow:
    return ChannelRow(
        id=ChannelId(row["id"]),
        name=row["name"],
        kind=row["kind"],
        config=vault.unseal_secret(row["sealed"]),
        paused=row["paused"],
        parts_per_s=row["parts_per_s"],
        sessions=row["sessions"],
        access_number=row["access_number"],
        report_one=row["report_parts"] == "one",
        cost_micro=row["cost_micro"],
    )


def _rule(row: db.Row) -> RouteRule:
    return RouteRule(
        id=row["id"],
        priority=row["priority"],
        channel_id=ChannelId(row["channel_id"]),
        weight=row["weight"],
        tenant_id=None if row["tenant_id"] is None else TenantId(row["tenant_id"]),
        country=row["country"],
        operator=row["operator"],
        purpose=None if row["purpose"] is None else PURPOSES[row["purpose"]],
    )


def _webhook(row: db.Row, vault: Vault) -> Webhook:
    return Webhook(
        id=row["id"], app_id=AppId(row["app_id"]), url=row["url"], secret=vault.unseal_secret(row["sealed"])
    )
