"""What the plane flies by: tenants, keys, wording, channels, routes, prices, as one frozen value.

The way reads this and never asks control, so messages fly while the console is down. It is loaded
whole and swapped whole, when control says so (NOTIFY control) and on a slow clock. Entry point: Keeper.
"""

import asyncio
import ipaddress
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, LiteralString

import msgspec
import structlog

from hongyan import clock, db
from hongyan.channels import kinds
from hongyan.vault import Secret, Vault
from hongyan.vocab import wording
from hongyan.vocab.message import PURPOSES, AppId, ChannelId, Purpose, TenantId
from hongyan.vocab.phone import Override, Overrides
from hongyan.vocab.words import Words
from hongyan.way.lexicon import Lexicon, Lists, Owner, Versions

log = structlog.get_logger()

RELOAD_S = 5.0
SLICE_ROWS = 500  # that are looked at before others have their turn
EXTENSION_DIGITS_MAX = 12  # all that may stand behind an access number
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
NO_WORDS: Final = Words()


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
    qualified: bool = True  # its enterprise was checked; until then sandbox keys alone may send


class Signature(msgspec.Struct, frozen=True):
    id: int
    name: str
    approved: bool
    extension: str
    filed: frozenset[str] = frozenset()  # operators where its filing is ok
    extensions: Mapping[ChannelId, str] = {}  # in place of `extension`, at these channels


class Template(msgspec.Struct, frozen=True):
    id: int
    code: str
    purpose: Purpose
    scope: str  # mainland, international, any
    signature_id: int  # 0: any of the tenant's
    resend: bool
    approved: bool
    text: wording.Compiled  # the live text of its default language
    language: str = "zh"
    texts: Mapping[str, wording.Compiled] = {}  # live texts of further languages, by tag in lower case

    def text_in(self, wanted: str) -> wording.Compiled:
        """Return the text that suits a language tag best (RFC 4647 §3.4); else that of the default language."""
        if not wanted or not self.texts:
            return self.text
        return self.texts.get(wording.lookup(wanted, {*self.texts, self.language.lower()}), self.text)

    def filed_as(self, signed: str, values: Mapping[str, str]) -> str:
        """Return what an upstream's settings call the wording a text was made of: the code, or code@language.

        Of texts that end alike the longest counts; of a text that is none of ours any more, the code alone speaks.
        """
        if not self.texts:
            return self.code
        made = {f"{self.code}@{language}": text.fill(values) for language, text in self.texts.items()}
        made[self.code] = self.text.fill(values)
        fitting = [name for name, body in made.items() if body is not None and signed.endswith(body)]
        return max(fitting, key=lambda name: len(made[name] or ""), default=self.code)


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
    scopes: frozenset[str] = frozenset()  # what it may do: permissions by name (control/permissions.py)
    expires_at_s: float = 0.0  # Unix seconds; 0: never


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


class SiteKey(msgspec.Struct, frozen=True):
    """What a page asks for codes with, which everybody may read: no secret, and little that it may."""

    id: int
    key_id: str  # hys_…
    name: str
    key: Key  # as whom its codes are accepted: nobody can call with it
    origins: frozenset[str]  # of pages it works on
    return_addresses: frozenset[str]  # where the hosted page may hand its proof to
    scenes: frozenset[str]


class ChannelRow(msgspec.Struct, frozen=True):
    """A channel as configured. `config` is the kind's own Config as a mapping, with its secrets."""

    id: ChannelId
    name: str
    kind: str
    config: Secret  # JSON
    paused: bool  # also while it is drained
    parts_per_s: int
    sessions: int
    access_number: str
    report_one: bool  # one report for a whole long message
    cost_micro: int
    filing_demanded: bool = False  # carries only signatures that are filed at the number's operator
    drain_until_s: float = (
        0.0  # how long one that is drained waits for reports, Unix time; 0: it is not drained
    )
    currency: str = "CNY"  # of the cost


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
    found_routes: dict[tuple[TenantId, str, str, Purpose, bool, int], bool] = {}  # the same
    found_holders: dict[tuple[int, str], frozenset[TenantId]] = {}  # of extensions; see way/inbound.py
    demands_filing: bool = False  # some channel does, so routes depend on the signature
    words: Words = NO_WORDS
    site_keys: Mapping[str, SiteKey] = {}  # active ones, by public key id

    def extension_at(self, channel_id: int, signature_id: int, extension: str) -> str:
        """Return the digits a message leaves with by a channel; `extension` is what it was accepted with.

        A signature's own extension at the channel stands in place of its general one; what the caller added follows.
        """
        signature = self.signatures.get(signature_id)
        own = signature.extensions.get(ChannelId(channel_id)) if signature is not None else None
        if signature is None or own is None:
            return extension
        return (own + extension.removeprefix(signature.extension))[:EXTENSION_DIGITS_MAX]

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
    """Holds the newest snapshot. `current` is swapped, never changed.

    `reads_texts`: whether texts are taken in by this process, so that it needs all word lists; see Lexicon.
    """

    def __init__(self, database: db.Database, vault: Vault, *, reads_texts: bool = True) -> None:
        self._database = database
        self._vault = vault
        self._stale = asyncio.Event()
        self._raw: Rows | None = None
        self._texts: Texts = {}
        self._lexicon = Lexicon(reads_texts=reads_texts)
        self._loading = asyncio.Lock()
        self.current: Snapshot
        self.read_at_s = 0.0  # what was committed by then is in it

    async def load(self) -> Snapshot:
        """Read everything in one transaction and swap the snapshot if anything changed."""
        async with self._loading:  # what was read first is not to be swapped in last
            return await self._load()

    async def _load(self) -> Snapshot:
        began_s = clock.now_s()
        async with self._database.transaction() as tx:
            await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            rows, stale = await _read(tx, self._lexicon)
        if self._raw is None or not await _same(rows, self._raw):
            self._vault.add({row["name"]: row["wrapped"] for row in rows["vault_key"]})
            version = self.current.version + 1 if self._raw is not None else 1
            built, self._texts = await _build(rows, self._vault, version, self._texts)
            if stale and self._raw is not None:
                # Long lists take longer than what else was changed should wait.
                self.current = msgspec.structs.replace(built, words=self.current.words)
                version += 1
            words = await self._lexicon.build(stale)
            self.current = msgspec.structs.replace(built, version=version, words=words)
            self._raw = rows
        self.read_at_s = began_s
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
                        limits, duplicate_s, qualified FROM tenant ORDER BY id""",
    "signature": "SELECT id, tenant_id, name, state, extension FROM signature ORDER BY id",
    # A day of a filing is one in China. Should nobody call it lapsed in time, it is not believed all the same.
    "filing": """SELECT signature_id, operator FROM filing
                  WHERE state = 'ok' AND (valid_until IS NULL OR valid_until >= (now() AT TIME ZONE 'Asia/Shanghai')::date)
                  ORDER BY signature_id, operator""",
    "signature_extension": """SELECT signature_id, channel_id, extension FROM signature_extension
                               ORDER BY signature_id, channel_id""",
    "template": """SELECT id, tenant_id, code, body, purpose, scope, signature_id, variables, resend, state, language
                     FROM template ORDER BY id""",
    "template_text": """SELECT template_id, language, body, variables FROM template_text
                         ORDER BY template_id, language""",
    "app_key": """SELECT k.id, k.key_id, k.sealed, a.tenant_id, k.app_id, k.allow_basic, k.free_text, k.sandbox,
                         k.addresses, k.rate_per_s, k.scopes, k.expires_at
                    FROM app_key k JOIN app a ON a.id = k.app_id
                   WHERE k.active AND a.active AND (k.expires_at IS NULL OR k.expires_at > now()) ORDER BY k.id""",
    "login": """SELECT l.id, l.protocol, l.name, l.app_id, a.tenant_id, l.sealed, l.version, l.access_number, l.free_text,
                       l.hold, l.purpose, l.sandbox, l.sessions_max, l.window_size, l.rate_per_s, l.duplicate_s, l.addresses,
                       l.deliver_to, l.settings
                  FROM login l JOIN app a ON a.id = l.app_id WHERE l.active AND a.active ORDER BY l.id""",
    "site_key": """SELECT s.id, s.key_id, s.name, s.app_id, a.tenant_id, s.origins, s.return_addresses, s.scenes, s.sandbox
                     FROM site_key s JOIN app a ON a.id = s.app_id WHERE s.active AND a.active ORDER BY s.id""",
    "channel": """SELECT id, name, kind, sealed, paused, parts_per_s, sessions, access_number, report_parts, cost_micro,
                         filing_demanded, drain_until, currency
                    FROM channel WHERE active ORDER BY id""",
    "route_rule": """SELECT id, priority, channel_id, weight, tenant_id, country, operator, purpose
                       FROM route_rule WHERE active ORDER BY priority, id""",
    "price": "SELECT tenant_id, country, operator, purpose, part_micro FROM price",
    "webhook": "SELECT id, app_id, url, sealed FROM webhook WHERE active ORDER BY id",
    "prefix_override": "SELECT prefix, operator, province FROM prefix_override ORDER BY prefix",
    "number_override": "SELECT 1 AS one FROM number_override LIMIT 1",
    "word_list": """SELECT id, tenant_id, channel_id, name, allows, grants, level, tag, version
                      FROM word_list WHERE active ORDER BY id""",
}

Rows = Mapping[str, Sequence[db.Row]]
Texts = Mapping[tuple[str, str], wording.Compiled]  # by body and variables, as they are stored
Unbuilt = tuple[Rows, Mapping[Owner, tuple[Versions, Lists]]]


async def _read(tx: db.Tx, lexicon: Lexicon) -> Unbuilt:
    rows = {name: await tx.fetch(sql) for name, sql in _TABLES.items()}
    return rows, await lexicon.read(tx, rows["word_list"])


async def read_once(tx: db.Tx) -> Unbuilt:
    """Read all there is for a snapshot as a transaction sees it, committed or not; build_once() makes it one."""
    return await _read(tx, Lexicon())


async def build_once(unbuilt: Unbuilt, vault: Vault, words: Words | None = None) -> Snapshot:
    """Build a snapshot nobody flies by. `words`: those of another one, where they are the same."""
    rows, stale = unbuilt
    vault.add({row["name"]: row["wrapped"] for row in rows["vault_key"]})
    built, _ = await _build(rows, vault, 0, {})
    return msgspec.structs.replace(built, words=words or await Lexicon().build(stale))


async def _in_turns(rows: Sequence[db.Row]) -> AsyncIterator[Sequence[db.Row]]:
    """Give rows in slices and let others have their turn between: of all rows together they would wait for half a second."""
    for first in range(0, len(rows), SLICE_ROWS):
        yield rows[first : first + SLICE_ROWS]
        await asyncio.sleep(0)


async def _same(rows: Rows, known: Rows) -> bool:
    for name, some in rows.items():
        if len(some) != len(known[name]):
            return False
        place = 0
        async for part in _in_turns(some):
            if part != known[name][place : place + SLICE_ROWS]:
                return False
            place += SLICE_ROWS
    return True


async def _build(rows: Rows, vault: Vault, version: int, known: Texts) -> tuple[Snapshot, Texts]:
    """Build the snapshot of rows, and return it with its compiled texts; those that are `known` are not compiled anew."""
    signatures = await _signatures(rows)
    own_signatures: dict[int, dict[str, Signature]] = defaultdict(dict)
    async for some in _in_turns(rows["signature"]):
        for row in some:
            own_signatures[row["tenant_id"]][row["name"]] = signatures[row["id"]]
    templates, compiled = await _templates(rows, known)
    own_templates: dict[int, dict[str, Template]] = defaultdict(dict)
    async for some in _in_turns(rows["template"]):
        for row in some:
            own_templates[row["tenant_id"]][row["code"]] = templates[row["id"]]
    tenants: dict[TenantId, Tenant] = {}
    async for some in _in_turns(rows["tenant"]):
        for row in some:
            tenants[TenantId(row["id"])] = _tenant(row, own_signatures[row["id"]], own_templates[row["id"]])
    keys: dict[str, Key] = {}
    async for some in _in_turns(rows["app_key"]):
        for row in some:
            keys[row["key_id"]] = _key(row, tenants, vault)
    logins = [_login(row, tenants, vault) for row in rows["login"]]
    built = Snapshot(
        version=version,
        tenants=tenants,
        keys=keys,
        channels={ChannelId(row["id"]): _channel(row, vault) for row in rows["channel"]},
        rules=[_rule(row) for row in rows["route_rule"]],
        prices={
            (r["tenant_id"], r["country"], r["operator"], r["purpose"]): r["part_micro"]
            for r in rows["price"]
        },
        webhooks={AppId(row["app_id"]): _webhook(row, vault) for row in rows["webhook"]},
        sends_templates=any(kinds.takes_templates(row["kind"]) for row in rows["channel"]),
        demands_filing=any(row["filing_demanded"] for row in rows["channel"]),
        logins={(login.protocol, login.name): login for login in logins},
        login_apps={login.key.app_id: login for login in logins},
        hooked_apps=[row["app_id"] for row in rows["webhook"]],
        pay_on_delivery=[tenant.id for tenant in tenants.values() if tenant.charge_on_delivery],
        overrides=_overrides(rows["prefix_override"]),
        signatures=signatures,
        templates=templates,
        has_number_overrides=bool(rows["number_override"]),
        site_keys={row["key_id"]: _site_key(row, tenants) for row in rows["site_key"]},
    )
    return built, compiled


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
        qualified=row["qualified"],
    )


async def _signatures(rows: Rows) -> Mapping[int, Signature]:
    filed: dict[int, set[str]] = defaultdict(set)
    async for some in _in_turns(rows["filing"]):
        for row in some:
            filed[row["signature_id"]].add(row["operator"])
    extensions: dict[int, dict[ChannelId, str]] = defaultdict(dict)
    async for some in _in_turns(rows["signature_extension"]):
        for row in some:
            extensions[row["signature_id"]][ChannelId(row["channel_id"])] = row["extension"]
    found: dict[int, Signature] = {}
    async for some in _in_turns(rows["signature"]):
        for row in some:
            found[row["id"]] = Signature(
                id=row["id"],
                name=row["name"],
                approved=row["state"] == "approved",
                extension=row["extension"],
                filed=frozenset(filed.get(row["id"], ())),
                extensions=extensions.get(row["id"], {}),
            )
    return found


async def _templates(rows: Rows, known: Texts) -> tuple[Mapping[int, Template], Texts]:
    compiled: dict[tuple[str, str], wording.Compiled] = {}

    def text_of(row: db.Row) -> wording.Compiled:
        stored = (row["body"], row["variables"])
        text = compiled[stored] = compiled.get(stored) or known.get(stored) or wording.compile_body(*stored)
        return text

    texts: dict[int, dict[str, wording.Compiled]] = defaultdict(dict)
    async for some in _in_turns(rows["template_text"]):
        for row in some:
            texts[row["template_id"]][row["language"].lower()] = text_of(row)
    found: dict[int, Template] = {}
    async for some in _in_turns(rows["template"]):
        for row in some:
            found[row["id"]] = _template(row, text_of(row), texts.get(row["id"], {}))
    return found, compiled


def _template(row: db.Row, text: wording.Compiled, texts: Mapping[str, wording.Compiled]) -> Template:
    return Template(
        id=row["id"],
        code=row["code"],
        purpose=PURPOSES[row["purpose"]],
        scope=row["scope"],
        signature_id=row["signature_id"] or 0,
        resend=row["resend"],
        approved=row["state"] == "approved",
        text=text,
        language=row["language"],
        texts=texts,
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
        scopes=frozenset(row["scopes"]),
        expires_at_s=0.0 if row["expires_at"] is None else row["expires_at"].timestamp(),
    )


_LOGIN_SCOPES: Final = frozenset({"messages.send", "messages.read"})


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
        scopes=_LOGIN_SCOPES,
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


SITE_KEYS_FROM: Final = 1_000_000_000  # below its negative: ids that no app key and no login has


def _site_key(row: db.Row, tenants: Mapping[TenantId, Tenant]) -> SiteKey:
    key = Key(
        id=-SITE_KEYS_FROM - row["id"],
        key_id=row["key_id"],
        secret=Secret(b""),
        tenant=tenants[TenantId(row["tenant_id"])],
        app_id=AppId(row["app_id"]),
        allow_basic=False,
        free_text=False,
        sandbox=row["sandbox"],
        networks=(),
        rate_per_s=0,
    )
    return SiteKey(
        id=row["id"],
        key_id=row["key_id"],
        name=row["name"],
        key=key,
        origins=frozenset(row["origins"]),
        return_addresses=frozenset(row["return_addresses"]),
        scenes=frozenset(row["scenes"]),
    )


def _channel(row: db.Row, vault: Vault) -> ChannelRow:
    return ChannelRow(
        id=ChannelId(row["id"]),
        name=row["name"],
        kind=row["kind"],
        config=vault.unseal_secret(row["sealed"]),
        paused=row["paused"] or row["drain_until"] is not None,
        parts_per_s=row["parts_per_s"],
        sessions=row["sessions"],
        access_number=row["access_number"],
        report_one=row["report_parts"] == "one",
        cost_micro=row["cost_micro"],
        filing_demanded=row["filing_demanded"],
        drain_until_s=0.0 if row["drain_until"] is None else row["drain_until"].timestamp(),
        currency=row["currency"],
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
