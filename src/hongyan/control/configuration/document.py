"""The document: every section in its order, with names in place of ids, so that two exports of one state are equal octets.

Writes nothing. Entry points: read(), what is in force, secrets and all; masked() and encoded(), for people; decoded() and
completed(), what somebody gives. What is operated by hand is not in it: whether a channel is paused or drained, a tenant
suspended or qualified.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, LiteralString

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan import db
from hongyan.channels import kinds
from hongyan.channels.kinds import HIDDEN
from hongyan.control import alarms, policies, prices, routes, upstreams, words
from hongyan.control.policies import Policies
from hongyan.control.readings import WINDOW_S_MAX, WatchKind
from hongyan.control.routes import RULES_MAX
from hongyan.control.tenants import ChargeOn, Hits
from hongyan.control.upstreams import ReportParts
from hongyan.control.words import SOURCE_CHARACTERS_MAX, TAG_CHARACTERS_MAX
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose
from hongyan.vocab.words import WORD_CHARACTERS_MAX, Level

ENTRIES_MAX: Final = 100_000  # of one section
OCTETS_MAX: Final = 64_000_000  # of a document as somebody gives it

Name = Annotated[str, Meta(min_length=1, max_length=64)]
TenantName = Annotated[
    str, Meta(min_length=1, max_length=64, description="A tenant's name; null: the platform's, or every one.")
]
Country = Annotated[str, Meta(min_length=1, max_length=2)]
OperatorName = Annotated[str, Meta(min_length=1, max_length=40)]
Spelled = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=WORD_CHARACTERS_MAX)]], Meta(max_length=words.WORDS_MAX)
]


class ChannelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A channel. Secrets in its settings are shown as ***, and *** given back keeps what is stored."""

    name: Name
    kind: Annotated[str, Meta(min_length=1, max_length=32)]
    settings: Annotated[dict[str, Any], Meta(max_length=200)]
    parts_per_s: Annotated[int, Meta(ge=0, le=upstreams.PARTS_PER_S_MAX)] = 0
    sessions: Annotated[int, Meta(ge=1, le=upstreams.SESSIONS_MAX)] = 1
    access_number: Annotated[str, Meta(max_length=upstreams.ACCESS_NUMBER_CHARACTERS_MAX)] = ""
    report_parts: ReportParts = "every"
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "CNY"
    cost_micro: Annotated[int, Meta(ge=0, le=upstreams.COST_MICRO_MAX)] = 0
    filing_demanded: bool = False
    extension_digits: Annotated[int, Meta(ge=0, le=upstreams.EXTENSION_DIGITS_MAX)] = 0


class RouteEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A route rule. Among rules of one channel and priority their order counts."""

    channel: Name
    priority: Annotated[int, Meta(ge=0, le=routes.PRIORITY_MAX)] = 100
    weight: Annotated[int, Meta(ge=0, le=routes.WEIGHT_MAX)] = 1
    tenant: TenantName | None = None
    country: Country | None = None
    operator: OperatorName | None = None
    purpose: Purpose | None = None
    active: bool = True


class PriceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The price of a part."""

    tenant: TenantName | None = None
    country: Country = prices.ANY
    operator: OperatorName = prices.ANY
    purpose: Purpose | None = None
    part_micro: Annotated[int, Meta(ge=0, le=1_000_000_000_000)]


class TenantEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tenant's terms. Tenants themselves are neither made nor removed by a document."""

    name: Name
    charge_on: ChargeOn
    countries: Annotated[list[Country], Meta(min_length=1, max_length=250)]
    weight: Annotated[int, Meta(ge=1, le=100)]
    quiet_from_hour: Annotated[int, Meta(ge=9, le=21)]
    quiet_until_hour: Annotated[int, Meta(ge=8, le=12)]
    limits: dict[Purpose, Hits]
    duplicate_s: Annotated[int, Meta(ge=0, le=86_400)]


class ListEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A word list. Where `words` is left out, they stay."""

    name: Name
    tenant: TenantName | None = None
    channel: Name | None = None
    allows: bool = False
    grants: bool = False
    level: Level = Level.BLOCK
    tag: Annotated[str, Meta(max_length=TAG_CHARACTERS_MAX)] = ""
    source: Annotated[str, Meta(max_length=SOURCE_CHARACTERS_MAX)] = ""
    active: bool = True
    words: Spelled | UnsetType = UNSET


class AlarmEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An alarm rule. The secret of its webhook is ***; a rule that is new gets a new one, told once."""

    name: Name
    kind: WatchKind
    tenant: TenantName | None = None
    threshold: float
    window_s: Annotated[int, Meta(ge=60, le=WINDOW_S_MAX)] = 600
    volume_min: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    for_s: Annotated[int, Meta(ge=0, le=3_600)] = 60
    repeat_s: Annotated[int, Meta(ge=600, le=604_800)] = 14_400
    emails: Annotated[
        list[Annotated[str, Meta(max_length=alarms.EMAIL_CHARACTERS_MAX)]], Meta(max_length=alarms.EMAILS_MAX)
    ] = []
    webhook_url: Annotated[str, Meta(max_length=2_000)] = ""
    webhook_secret: Annotated[str, Meta(max_length=200)] = ""
    active: bool = True


class ConfigurationDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What somebody gives: a section that is left out stays as it is."""

    format: Literal[1] = 1
    policies: Policies | UnsetType = UNSET
    tenants: Annotated[list[TenantEntry], Meta(max_length=ENTRIES_MAX)] | UnsetType = UNSET
    channels: Annotated[list[ChannelEntry], Meta(max_length=upstreams.CHANNELS_MAX)] | UnsetType = UNSET
    routes: Annotated[list[RouteEntry], Meta(max_length=RULES_MAX)] | UnsetType = UNSET
    prices: Annotated[list[PriceEntry], Meta(max_length=ENTRIES_MAX)] | UnsetType = UNSET
    words: Annotated[list[ListEntry], Meta(max_length=ENTRIES_MAX)] | UnsetType = UNSET
    alarms: Annotated[list[AlarmEntry], Meta(max_length=ENTRIES_MAX)] | UnsetType = UNSET


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """A document with every section, each in its order."""

    format: Literal[1] = 1
    policies: Policies
    tenants: list[TenantEntry]
    channels: list[ChannelEntry]
    routes: list[RouteEntry]
    prices: list[PriceEntry]
    words: list[ListEntry]
    alarms: list[AlarmEntry]


SECTIONS: Final = ("policies", "tenants", "channels", "routes", "prices", "words", "alarms")
Owner = tuple[str, str, str]  # tenant, channel, name of a list; '' where there is none


class Stored(msgspec.Struct, frozen=True):
    """What is in force, secrets and all, with the ids behind the names."""

    document: Whole
    channel_ids: Mapping[str, int]
    tenant_ids: Mapping[str, int]
    list_ids: Mapping[Owner, tuple[int, int]]  # id, version
    alarm_ids: Sequence[int]  # in the document's order


# ---- reading

TENANTS_SQL: LiteralString = """
SELECT id, name, charge_on, countries, weight, quiet_from_hour, quiet_until_hour, limits, duplicate_s FROM tenant ORDER BY id
"""
CHANNELS_SQL: LiteralString = """
SELECT id, name, kind, sealed, parts_per_s, sessions, access_number, report_parts, currency, cost_micro, filing_demanded,
       extension_digits
  FROM channel WHERE active ORDER BY id
"""
# The lists of a channel that was removed count for nothing.
LISTS_SQL: LiteralString = """
SELECT l.id, l.version, l.name, t.name AS tenant, c.name AS channel, l.allows, l.grants, l.level, l.tag, l.source, l.active
  FROM word_list l LEFT JOIN tenant t ON t.id = l.tenant_id LEFT JOIN channel c ON c.id = l.channel_id
 WHERE l.channel_id IS NULL OR c.active ORDER BY l.id
"""
ALARMS_SQL: LiteralString = """
SELECT r.id, r.name, r.kind, t.name AS tenant, r.threshold, r.window_s, r.volume_min, r.for_s, r.repeat_s, r.emails,
       r.webhook_url, r.sealed, r.active
  FROM alarm_rule r LEFT JOIN tenant t ON t.id = r.tenant_id ORDER BY r.id
"""


async def read(tx: db.Tx, vault: Vault, *, with_words: bool = True) -> Stored:
    """Read what is in force. Without `with_words` the lists come without their words."""
    tenants = await tx.fetch(TENANTS_SQL)
    channels = await tx.fetch(CHANNELS_SQL)
    lists = await tx.fetch(LISTS_SQL)
    written = await words_of(tx, [row["id"] for row in lists]) if with_words else None
    rules = sorted(
        await tx.fetch(ALARMS_SQL), key=lambda row: (row["tenant"] or "", row["name"], row["kind"])
    )
    whole = Whole(
        policies=_policies(await policies.read(tx)),
        tenants=[_tenant(row) for row in tenants],
        channels=[_channel(row, vault) for row in channels],
        routes=[_route(row) for row in await routes.every(tx)],
        prices=[_price(row) for row in await prices.every(tx)],
        words=[_list(row, written) for row in lists],
        alarms=[_alarm(row, vault) for row in rules],
    )
    return Stored(
        in_order(whole),
        {row["name"]: row["id"] for row in channels},
        {row["name"]: row["id"] for row in tenants},
        {_owner(row): (row["id"], row["version"]) for row in lists},
        [row["id"] for row in rules],
    )


# One value a list: thousands of rows would take the event loop as many times longer to read.
WORDS_SQL: LiteralString = """
SELECT list_id, string_agg(written, E'\n' ORDER BY plain) AS lines FROM word WHERE list_id = ANY($1::int[]) GROUP BY list_id
"""


async def words_of(tx: db.Tx, list_ids: Sequence[int]) -> Mapping[int, list[str]]:
    """Return the words of lists as people wrote them, in the order of their plain form."""
    rows = await tx.fetch(WORDS_SQL, list_ids) if list_ids else []
    return {row["list_id"]: row["lines"].split("\n") for row in rows}


def _policies(found: Policies) -> Policies:
    return msgspec.structs.replace(
        found, review_automatic=sorted(found.review_automatic), four_eyes=sorted(found.four_eyes)
    )


def _tenant(row: db.Row) -> TenantEntry:
    limits = msgspec.json.decode(row["limits"], type=dict[Purpose, Hits])
    return TenantEntry(**{**_without(row, "id"), "countries": sorted(row["countries"]), "limits": limits})


def _channel(row: db.Row, vault: Vault) -> ChannelEntry:
    settings = msgspec.json.decode(vault.unseal_secret(row["sealed"]).reveal())
    return ChannelEntry(**_without(row, "id", "sealed"), settings=settings)


def _route(row: routes.RouteRuleRow) -> RouteEntry:
    return RouteEntry(**{name: getattr(row, name) for name in RouteEntry.__struct_fields__})


def _price(row: prices.PriceRow) -> PriceEntry:
    return PriceEntry(**{name: getattr(row, name) for name in PriceEntry.__struct_fields__})


def _list(row: db.Row, written: Mapping[int, list[str]] | None) -> ListEntry:
    own = UNSET if written is None else written.get(row["id"], [])
    return ListEntry(**{**_without(row, "id", "version"), "level": Level(row["level"]), "words": own})


def _alarm(row: db.Row, vault: Vault) -> AlarmEntry:
    secret = vault.unseal_secret(row["sealed"]).reveal().decode() if row["sealed"] is not None else ""
    return AlarmEntry(
        **{**_without(row, "id", "sealed"), "kind": WatchKind(row["kind"]), "emails": list(row["emails"])},
        webhook_secret=secret,
    )


def _without(row: db.Row, *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def _owner(row: Any) -> Owner:
    return row["tenant"] or "", row["channel"] or "", row["name"]


def owner_of(entry: ListEntry) -> Owner:
    return entry.tenant or "", entry.channel or "", entry.name


def in_order(whole: Whole) -> Whole:
    """Return a document whose sections are in the order that exports have; what may count twice stays as it came."""
    return msgspec.structs.replace(
        whole,
        tenants=sorted(whole.tenants, key=lambda one: one.name),
        channels=sorted(whole.channels, key=lambda one: one.name),
        routes=sorted(whole.routes, key=lambda one: (one.priority, one.channel)),
        prices=sorted(
            whole.prices, key=lambda one: (one.tenant or "", one.country, one.operator, one.purpose or "")
        ),
        words=sorted(whole.words, key=owner_of),
        alarms=sorted(whole.alarms, key=lambda one: (one.tenant or "", one.name, one.kind)),
    )


# ---- for people


def masked(whole: Whole) -> Whole:
    """Return a document as people may see it."""
    return msgspec.structs.replace(
        whole,
        channels=[masked_channel(one) for one in whole.channels],
        alarms=[masked_alarm(one) for one in whole.alarms],
    )


def masked_channel(entry: ChannelEntry) -> ChannelEntry:
    return msgspec.structs.replace(entry, settings=kinds.hide(entry.kind, entry.settings))


def masked_alarm(entry: AlarmEntry) -> AlarmEntry:
    return msgspec.structs.replace(entry, webhook_secret=HIDDEN if entry.webhook_secret else "")


def encoded(whole: Whole) -> bytes:
    """Write a document as JSON, the same octets for the same document."""
    return msgspec.json.encode(whole, order="deterministic")


_decode: Final = msgspec.json.Decoder(ConfigurationDocument).decode
_NUL: Final = re.compile(rb"\x00|(?<!\\)(?:\\\\)*\\u0000")


def decoded(octets: bytes) -> ConfigurationDocument:
    """Read a document that somebody gives. Raises Refusal with what is wrong and where."""
    if _NUL.search(octets):  # PostgreSQL's text cannot hold it
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, reason="a NUL character")
    try:
        document = _decode(octets)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at ")
        where = place.strip("`").removeprefix("$").removeprefix(".")
        missing = reason.startswith("Object missing required field")
        code = Code.REQUEST_MISSING_PARAMETER if missing else Code.REQUEST_INVALID_PARAMETER
        raise Refusal(code, parameter=where[:300] or "document", reason=reason[:300]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(Code.REQUEST_MALFORMED_JSON, reason=str(error)[:300]) from None
    for entry in document.alarms or ():
        if entry.webhook_secret not in ("", HIDDEN):
            raise wrong("alarms", entry.name, "webhook_secret", f"{HIDDEN}, or nothing: we make it")
    return document


def wrong(section: str, key: str, parameter: str, reason: str) -> Refusal:
    """Return the refusal of one entry."""
    where = f"{section}[{key}]"
    return Refusal(
        Code.REQUEST_INVALID_PARAMETER,
        parameter=f"{where}.{parameter}" if parameter else where,
        reason=reason,
    )


# ---- completing


def completed(document: ConfigurationDocument, now: Whole) -> Whole:
    """Return a document with all that was left out or hidden as it is now, in order.

    Raises Refusal for what is named and not there, what stands twice, and a hidden secret that is not stored. It may have
    thousands of words to read, so it belongs in a thread.
    """
    tenants, channels = _tenants_of(document, now), _channels_of(document, now)
    known_tenants, known_channels = {one.name for one in tenants}, {one.name for one in channels}
    whole = Whole(
        policies=now.policies if document.policies is UNSET else _policies(document.policies),
        tenants=tenants,
        channels=channels,
        routes=now.routes if document.routes is UNSET else document.routes,
        prices=now.prices if document.prices is UNSET else document.prices,
        words=now.words if document.words is UNSET else _lists_of(document.words, now.words),
        alarms=now.alarms if document.alarms is UNSET else _alarms_of(document.alarms, now.alarms),
    )
    for section, entries in keyed(whole).items():
        for key, entry in entries.items():
            tenant, channel = getattr(entry, "tenant", None), getattr(entry, "channel", None)
            if tenant is not None and tenant not in known_tenants:
                raise wrong(section, key, "tenant", f"there is no tenant {tenant!r}")
            if channel is not None and channel not in known_channels:
                raise wrong(section, key, "channel", f"there is no channel {channel!r} in the document")
    return in_order(whole)


def _tenants_of(document: ConfigurationDocument, now: Whole) -> list[TenantEntry]:
    known = {one.name: one for one in now.tenants}
    given = {} if document.tenants is UNSET else _once("tenants", document.tenants, lambda one: one.name)
    for name in given.keys() - known.keys():
        raise wrong("tenants", name, "name", "there is no such tenant; a document makes none")
    named = {
        name: msgspec.structs.replace(
            one, countries=sorted(set(one.countries)), limits=dict(sorted(one.limits.items()))
        )
        for name, one in given.items()
    }
    return list((known | named).values())


def _channels_of(document: ConfigurationDocument, now: Whole) -> list[ChannelEntry]:
    if document.channels is UNSET:
        return now.channels
    stored = {(one.name, one.kind): one.settings for one in now.channels}
    found = []
    for name, one in _once("channels", document.channels, lambda one: one.name).items():
        try:
            settings = kinds.restore(one.kind, one.settings, stored.get((name, one.kind), {}))
        except kinds.BadSettings as error:
            where = "settings" + (f".{error.setting}" if error.setting else "")
            raise wrong("channels", name, where, str(error)[:300]) from error
        found.append(msgspec.structs.replace(one, settings=settings))
    return found


def _lists_of(given: Sequence[ListEntry], now: Sequence[ListEntry]) -> list[ListEntry]:
    stored = {owner_of(one): one.words for one in now}
    found = []
    for owner, one in _once("words", given, owner_of).items():
        own = stored.get(owner, [])
        if one.words is UNSET:
            own = own or []
        elif one.words != own:
            try:
                own = in_plain_order(one.words)
            except Refusal as refusal:
                raise wrong(
                    "words", " ".join(filter(None, owner)), "words", str(refusal.detail["reason"])
                ) from None
        found.append(msgspec.structs.replace(one, words=own))
    return found


def in_plain_order(written: Iterable[str]) -> list[str]:
    """Return words as a list would have them: each once, in the order of their plain form. Raises Refusal."""
    read = {word.plain: word.written for word in reversed([words.read_word(one) for one in written])}
    return [read[plain] for plain in sorted(read, key=lambda plain: plain.encode())]


def _alarms_of(given: Sequence[AlarmEntry], now: Sequence[AlarmEntry]) -> list[AlarmEntry]:
    """A hidden secret is the one that is stored; where there is none, a new one will be made."""
    stored = _numbered(now, alarm_key)
    found = []
    for key, one in _numbered(given, alarm_key).items():
        secret = one.webhook_secret
        if secret in ("", HIDDEN):
            before = stored.get(key)
            same = before is not None and before.webhook_url == one.webhook_url
            secret = before.webhook_secret if same and before is not None else ""
        found.append(msgspec.structs.replace(one, webhook_secret=secret))
    return found


def _once(section: str, entries: Sequence[Any], key_of: Any) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for one in entries:
        key = key_of(one)
        if key in found:
            raise wrong(section, str(one.name), "", "stands there twice")
        found[key] = one
    return found


# ---- keys


def keyed(whole: Whole) -> Mapping[str, Mapping[str, Any]]:
    """Return the entries of each section by what people call them; what is called alike is numbered.

    Raises Refusal for a price that stands there twice.
    """
    for key, count in _counted(whole.prices, price_key).items():
        if count > 1:
            raise wrong("prices", key, "", "stands there twice")
    return {
        "policies": {"policies": whole.policies},
        "tenants": {one.name: one for one in whole.tenants},
        "channels": {one.name: one for one in whole.channels},
        "routes": _numbered(whole.routes, route_key),
        "prices": {price_key(one): one for one in whole.prices},
        "words": {list_key(one): one for one in whole.words},
        "alarms": _numbered(whole.alarms, alarm_key),
    }


def route_key(one: RouteEntry) -> str:
    return " ".join(
        [one.channel, *(each or "*" for each in (one.tenant, one.country, one.operator, one.purpose))]
    )


def price_key(one: PriceEntry) -> str:
    return " ".join([one.tenant or "*", one.country, one.operator, one.purpose or "*"])


def list_key(one: ListEntry) -> str:
    place = f"tenant {one.tenant}: " if one.tenant else f"channel {one.channel}: " if one.channel else ""
    return place + one.name


def alarm_key(one: AlarmEntry) -> str:
    return (f"tenant {one.tenant}: " if one.tenant else "") + f"{one.name} ({one.kind})"


def _numbered(entries: Sequence[Any], key_of: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    numbers: dict[str, int] = {}
    for one in entries:
        key = key_of(one)
        number = numbers.get(key, 0) + 1
        while (name := key if number == 1 else f"{key} #{number}") in found:
            number += 1
        numbers[key] = number
        found[name] = one
    return found


def _counted(entries: Sequence[Any], key_of: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in entries:
        counts[key_of(one)] = counts.get(key_of(one), 0) + 1
    return counts
