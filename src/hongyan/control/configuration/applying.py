"""Make the database equal to a document, by what the rooms themselves do to change it: all of it, or nothing.

Writes nothing itself. Entry points: apply(), roll_back(); both in a transaction of the caller's, who begins with
versions.begin() and ends with versions.keep(). Channels keep their ids and sessions where only their terms change; rules
keep theirs where their conditions and order do. What is not in the document of a section goes, but tenants, which stay as
they are.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from hongyan import db
from hongyan.channels.kinds import BadSettings
from hongyan.control import alarms, policies, prices, routes, tenants, upstreams, words
from hongyan.control.configuration import document, versions
from hongyan.control.configuration.difference import ConfigurationChange, difference
from hongyan.control.configuration.document import (
    AlarmEntry,
    ChannelEntry,
    ConfigurationDocument,
    ListEntry,
    PriceEntry,
    RouteEntry,
    Stored,
    Whole,
)
from hongyan.control.configuration.versions import Ids
from hongyan.settings import Settings
from hongyan.vault import Secret, Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import ChannelId, TenantId

NO_IDS: Final = Ids()


class MadeSecret(msgspec.Struct, frozen=True):
    """The secret that the POSTs of a new rule's webhook are signed with; shown once."""

    alarm: str
    secret: str


class Applied(msgspec.Struct, frozen=True):
    """What was different, and what was made on the way."""

    changes: Sequence[ConfigurationChange]
    secrets: Sequence[MadeSecret]


async def apply(
    tx: db.Tx,
    vault: Vault,
    settings: Settings,
    asked: ConfigurationDocument,
    *,
    who: str,
    if_version: int | None = None,
    ids: Ids = NO_IDS,
) -> Applied:
    """Make what is in force equal to a document.

    `if_version`: the version it was written against. `ids`: whose names were whose, of a roll back. Raises Refusal with the
    entry and field that is wrong, and Code.REQUEST_CONFLICT where somebody changed the configuration meanwhile.
    """
    number = await versions.latest(tx)
    if if_version is not None and if_version != number:
        raise Refusal(
            Code.REQUEST_CONFLICT, parameter="if_version", reason=f"the version in force is {number}"
        )
    before = await document.read(tx, vault)
    changes = difference(before.document, await asyncio.to_thread(document.completed, asked, before.document))
    if ids.channels and await _rename(tx, vault, before, ids.channels):
        before = await document.read(tx, vault)
    wanted = await asyncio.to_thread(document.completed, asked, before.document)
    secrets = await _Work(tx, vault, settings, who, before, wanted).all()
    await versions.lock(tx)
    if await versions.latest(tx) != number:
        raise Refusal(Code.REQUEST_CONFLICT, reason="somebody changed the configuration meanwhile")
    return Applied(changes, secrets)


async def roll_back(tx: db.Tx, vault: Vault, settings: Settings, number: int, *, who: str) -> Applied:
    """Make what is in force equal to a version, passwords and all. Raises Refusal where there is no such version."""
    asked, ids = await document_of(tx, vault, number)
    return await apply(tx, vault, settings, asked, who=who, ids=ids)


async def document_of(tx: db.Tx, vault: Vault, number: int) -> tuple[ConfigurationDocument, Ids]:
    """Return a version as a document to apply, with tenants as they are called now."""
    whole, ids = await versions.opened(tx, vault, number)
    now = {row["id"]: row["name"] for row in await tx.fetch(document.TENANTS_SQL)}
    names = {name: now[number] for name, number in ids.tenants.items() if number in now}
    fields = {section: getattr(whole, section) for section in document.SECTIONS}
    for section in ("routes", "prices", "words", "alarms"):
        fields[section] = [
            msgspec.structs.replace(one, tenant=names.get(one.tenant, one.tenant)) if one.tenant else one
            for one in fields[section]
        ]
    fields["tenants"] = [
        msgspec.structs.replace(one, name=names.get(one.name, one.name)) for one in whole.tenants
    ]
    return ConfigurationDocument(**fields), ids


async def _rename(tx: db.Tx, vault: Vault, before: Stored, ids: Mapping[str, int]) -> bool:
    """Give channels the names back that they had, where nobody else has them now."""
    names = {number: name for name, number in before.channel_ids.items()}
    renamed = False
    for name, number in ids.items():
        if number in names and names[number] != name and name not in before.channel_ids:
            await upstreams.change(tx, vault, ChannelId(number), {"name": name})
            renamed = True
    return renamed


@contextmanager
def _at(section: str, key: str) -> Iterator[None]:
    """Let what a room refuses name the entry it is about."""
    try:
        yield
    except BadSettings as error:
        where = "settings" + (f".{error.setting}" if error.setting else "")
        raise document.wrong(section, key, where, str(error)[:300]) from error
    except Refusal as refusal:
        detail = dict(refusal.detail)
        parameter = str(detail.pop("parameter", ""))
        reason = str(detail.pop("reason", "")) or refusal.code.value.en
        raise document.wrong(section, key, parameter, reason) from refusal


class _Work:
    """One application, section by section. What goes makes room first for what comes."""

    def __init__(
        self, tx: db.Tx, vault: Vault, settings: Settings, who: str, before: Stored, wanted: Whole
    ) -> None:
        self._tx = tx
        self._vault = vault
        self._settings = settings
        self._who = who
        self._before = before
        self._now = before.document
        self._wanted = wanted
        self._old = document.keyed(before.document)
        self._new = document.keyed(wanted)
        self._channel_ids = dict(before.channel_ids)
        self._tenant_ids = before.tenant_ids
        self._secrets: list[MadeSecret] = []

    async def all(self) -> Sequence[MadeSecret]:
        """Apply every section. Returns the secrets that were made."""
        await self._policies()
        await self._tenants()
        gone = {
            name
            for name, one in self._old["channels"].items()
            if name not in self._new["channels"] or self._new["channels"][name].kind != one.kind
        }
        lists = await self._remove_lists(gone)
        await self._channels(gone)
        await self._routes()
        await self._prices()
        await self._lists(lists)
        await self._alarms()
        return self._secrets

    def _tenant(self, name: str | None) -> TenantId | None:
        return None if name is None else TenantId(self._tenant_ids[name])

    async def _policies(self) -> None:
        if self._wanted.policies != self._now.policies:
            given = msgspec.structs.asdict(self._wanted.policies)
            await policies.change(self._tx, given, who=self._who)

    async def _tenants(self) -> None:
        for name, one in self._new["tenants"].items():
            if one != self._old["tenants"][name]:
                terms = {**msgspec.structs.asdict(one)}
                del terms["name"]
                with _at("tenants", name):
                    await tenants.change(self._tx, TenantId(self._tenant_ids[name]), who=self._who, **terms)

    # ---- channels

    async def _channels(self, gone: set[str]) -> None:
        for name in sorted(gone):
            await upstreams.remove(self._tx, ChannelId(self._channel_ids.pop(name)))
        for name, one in self._new["channels"].items():
            with _at("channels", name):
                if name not in self._channel_ids:
                    made = await upstreams.add_channel(self._tx, self._vault, **msgspec.structs.asdict(one))
                    self._channel_ids[name] = made
                elif one != self._old["channels"][name]:
                    await self._change_channel(one)

    async def _change_channel(self, one: ChannelEntry) -> None:
        changes = msgspec.structs.asdict(one)
        del changes["name"], changes["kind"]
        await upstreams.change(self._tx, self._vault, ChannelId(self._channel_ids[one.name]), changes)

    # ---- routes

    async def _routes(self) -> None:
        """Keep a rule where its conditions are wanted and its place among those of its channel and priority holds."""
        free: dict[str, list[routes.RouteRuleRow]] = {}
        for each in await routes.every(self._tx):  # not those of channels that went
            free.setdefault(document.route_key(_entry(each)), []).append(each)
        places: dict[
            tuple[str, int], int
        ] = {}  # channel and priority → the last rule kept there; then new ones
        kept: list[tuple[RouteEntry, routes.RouteRuleRow | None]] = []
        for one in self._wanted.routes:
            place = one.channel, one.priority
            rows = free.get(document.route_key(one), [])
            first = rows[0] if rows else None
            row: routes.RouteRuleRow | None = next((each for each in rows if _entry(each) == one), first)
            if row is not None and row.id < places.get(place, 0):
                row = None
            if row is not None:
                rows.remove(row)
            places[place] = row.id if row is not None else 2**31
            kept.append((one, row))
        for gone in [each for rows in free.values() for each in rows]:
            await routes.remove(self._tx, gone.id)
        for one, known in kept:
            with _at("routes", document.route_key(one)):
                await self._put_rule(one, known)

    async def _put_rule(self, one: RouteEntry, row: routes.RouteRuleRow | None) -> None:
        values: dict[str, Any] = {
            "priority": one.priority, "weight": one.weight, "tenant_id": self._tenant(one.tenant),
            "country": one.country, "operator": one.operator, "purpose": one.purpose, "active": one.active,
        }  # fmt: skip
        if row is None:
            await routes.add(self._tx, ChannelId(self._channel_ids[one.channel]), **values)
        elif _entry(row) != one:
            await routes.change(self._tx, row.id, values)

    # ---- prices

    async def _prices(self) -> None:
        old, new = self._old["prices"], self._new["prices"]
        for key, one in old.items():
            if key not in new:
                await prices.remove(self._tx, **self._place(one))
        for key, one in new.items():
            if old.get(key) != one:
                with _at("prices", key):
                    await prices.put(self._tx, one.part_micro, **self._place(one))

    def _place(self, one: PriceEntry) -> dict[str, Any]:
        tenant_id = self._tenant(one.tenant) or prices.EVERY_TENANT
        return {
            "tenant_id": tenant_id, "country": one.country, "operator": one.operator, "purpose": one.purpose,
        }  # fmt: skip

    # ---- words

    async def _remove_lists(self, gone: set[str]) -> Mapping[str, ListEntry]:
        """Remove what is not wanted, or is another list under its name; returns what is left."""
        left: dict[str, ListEntry] = {}
        for key, one in self._old["words"].items():
            new = self._new["words"].get(key)
            same = new is not None and (new.allows, new.grants) == (one.allows, one.grants)
            if same and one.channel not in gone:
                left[key] = one
            else:
                await words.remove(self._tx, await self._locked(one))
        return left

    async def _locked(self, one: ListEntry) -> words.WordListRow:
        list_id, _ = self._before.list_ids[document.owner_of(one)]
        return await words.locked(self._tx, None, list_id, platform=True)

    async def _lists(self, left: Mapping[str, ListEntry]) -> None:
        for key, one in self._new["words"].items():
            old = left.get(key)
            if old == one:
                continue
            with _at("words", key):
                row = await self._put_list(one, old)
                await self._put_words(row, _words(old), _words(one))

    async def _put_list(self, one: ListEntry, old: ListEntry | None) -> words.WordListRow:
        terms: dict[str, Any] = {"level": one.level, "tag": one.tag, "source": one.source}
        if old is None:
            channel_id = None if one.channel is None else ChannelId(self._channel_ids[one.channel])
            row = await words.create(
                self._tx, one.name, tenant_id=self._tenant(one.tenant), channel_id=channel_id, allows=one.allows,
                grants=one.grants, **terms,
            )  # fmt: skip
            return row if one.active else await words.change(self._tx, row, active=False)
        row = await self._locked(one)
        if _without_words(old) != _without_words(one):
            return await words.change(self._tx, row, active=one.active, **terms)
        return row

    async def _put_words(self, row: words.WordListRow, old: Sequence[str], new: Sequence[str]) -> None:
        had, has = set(old), set(new)
        removed = [words.read_word(one) for one in old if one not in has]
        added = await asyncio.to_thread(_read, [one for one in new if one not in had])
        if removed:
            row = await words.take_out(self._tx, row, removed)
        if added:
            await words.add(self._tx, row, added)

    # ---- alarms

    async def _alarms(self) -> None:
        ids = dict(zip(self._old["alarms"], self._before.alarm_ids, strict=True))
        kept = {}
        for key, one in self._old["alarms"].items():
            new = self._new["alarms"].get(key)
            told_alike = new is not None and (new.webhook_url, new.webhook_secret) == (
                one.webhook_url,
                one.webhook_secret,
            )
            if told_alike:
                kept[key] = one
            else:
                await alarms.remove_rule(self._tx, ids[key], None)
        for key, one in self._new["alarms"].items():
            with _at("alarms", key):
                if key not in kept:
                    await self._make_alarm(key, one)
                elif one != kept[key]:
                    await alarms.change_rule(self._tx, ids[key], None, _changeable(one))

    async def _make_alarm(self, key: str, one: AlarmEntry) -> None:
        values = {name: value for name, value in _changeable(one).items() if name != "active"}
        secret = Secret(one.webhook_secret.encode()) if one.webhook_secret else None
        made = await alarms.create_rule(
            self._tx, self._vault, self._settings, self._tenant(one.tenant), kind=one.kind,
            webhook_url=one.webhook_url, secret=secret, **values,
        )  # fmt: skip
        if made.secret is not None and secret is None:
            self._secrets.append(MadeSecret(key, made.secret.reveal().decode()))
        if not one.active:
            await alarms.change_rule(self._tx, made.rule.id, None, {"active": False})


def _entry(row: routes.RouteRuleRow) -> RouteEntry:
    return RouteEntry(**{name: getattr(row, name) for name in RouteEntry.__struct_fields__})


def _words(one: ListEntry | None) -> Sequence[str]:
    return (one.words or []) if one is not None else []


def _without_words(one: ListEntry) -> ListEntry:
    return msgspec.structs.replace(one, words=msgspec.UNSET)


def _read(written: Sequence[str]) -> list[words.Word]:
    return [words.read_word(one) for one in written]


_CHANGEABLE: Final = (
    "name", "threshold", "window_s", "volume_min", "for_s", "repeat_s", "emails", "active",
)  # fmt: skip


def _changeable(one: AlarmEntry) -> dict[str, Any]:
    return {name: getattr(one, name) for name in _CHANGEABLE}
