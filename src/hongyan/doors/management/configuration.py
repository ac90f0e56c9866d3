"""The configuration as one document: fetch it, say what another one would change, put it in force, go back to an old one.

Entry points: ROUTES. Documents come as files, because word lists are long; secrets never leave.
"""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from hongyan.control.bounds import demand
from hongyan.control.configuration import applying, document, rehearsal, versions
from hongyan.control.configuration.applying import Applied, MadeSecret
from hongyan.control.configuration.difference import ConfigurationChange, difference
from hongyan.control.configuration.document import ConfigurationDocument, Whole
from hongyan.control.configuration.rehearsal import Rehearsal
from hongyan.control.configuration.versions import ConfigurationVersionRow
from hongyan.control.permissions import Permission
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code, Refusal

CHANGES_MAX: Final = 1_000  # of one answer
DOCUMENT_KINDS: Final = ("application/json",)
Number = Annotated[int, Meta(ge=1, le=INT_MAX)]
Note = Annotated[
    str, Meta(max_length=versions.NOTE_CHARACTERS_MAX, description="Why, for whoever reads the versions.")
]


class AskedConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: Annotated[bool, Meta(description="false: word lists without their words.")] = True


class AskedDifference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two versions."""

    from_: Number = msgspec.field(name="from")
    to: Annotated[int, Meta(ge=1, le=INT_MAX, description="Left out: what is in force.")] | None = None


class AskedRehearsal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Against which messages."""

    day: Annotated[date, Meta(description="Of China's calendar; left out: yesterday.")] | None = None


class AskedConfigurationApply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    if_version: (
        Annotated[
            int,
            Meta(ge=0, le=INT_MAX, description="Only while this is the version in force; else a conflict."),
        ]
        | None
    ) = None
    note: Note = ""


class AskedRollBack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    note: Note = ""


class Exported(msgspec.Struct, frozen=True):
    """What is in force. `version` is 0 before anything was changed; `document` is what PUT takes."""

    version: int
    document: ConfigurationDocument


class ConfigurationVersionPage(msgspec.Struct, frozen=True):
    items: Sequence[ConfigurationVersionRow]
    next: str | None = None


class WholeVersion(msgspec.Struct, frozen=True):
    """A version with its document; secrets are ***."""

    version: ConfigurationVersionRow
    document: ConfigurationDocument


class Differences(msgspec.Struct, frozen=True):
    """What differs, the first 1,000 entries. `to_version` null: what is in force."""

    from_version: int
    to_version: int | None
    items: Sequence[ConfigurationChange]
    count: int


class InForce(msgspec.Struct, frozen=True):
    """What a document changed, the first 1,000 entries, and the version in force since."""

    version: int
    changes: Sequence[ConfigurationChange]
    count: int
    secrets: Sequence[MadeSecret]


def _shown(whole: Whole, *, with_words: bool = True) -> ConfigurationDocument:
    """Return a document as people may see it, its fields in their order and the keys of settings in theirs."""
    seen = document.masked(whole)
    if not with_words:
        lists = [msgspec.structs.replace(one, words=msgspec.UNSET) for one in seen.words]
        seen = msgspec.structs.replace(seen, words=lists)
    channels = [msgspec.structs.replace(one, settings=_sorted(one.settings)) for one in seen.channels]
    fields = msgspec.structs.asdict(seen) | {"channels": channels}
    return ConfigurationDocument(**fields)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list | tuple) else value


async def export(call: Call) -> Exported:
    """Return what is in force."""
    asked = call.query(AskedConfiguration)
    stored = await document.read(call.tx, call.door.vault, with_words=asked.words)
    shown = _shown(stored.document, with_words=asked.words)
    return Exported(await versions.latest(call.tx), shown)


async def listed(call: Call) -> ConfigurationVersionPage:
    """List the versions, the newest first."""
    asked = call.query(paging.Asked)
    rows = await versions.page(call.tx, before=paging.before(asked), limit=asked.limit)
    return ConfigurationVersionPage(rows, paging.following(rows, asked, "version"))


async def get(call: Call) -> WholeVersion:
    """Return one version with its document."""
    asked, number = call.query(AskedConfiguration), call.number()
    row = await versions.one(call.tx, number)
    whole, _ = await versions.opened(call.tx, call.door.vault, number)
    return WholeVersion(row, _shown(whole, with_words=asked.words))


async def differs(call: Call) -> Differences:
    """Say what differs between two versions."""
    asked = call.query(AskedDifference)
    before, _ = await versions.opened(call.tx, call.door.vault, asked.from_)
    if asked.to is None:
        after = (await document.read(call.tx, call.door.vault)).document
    else:
        after, _ = await versions.opened(call.tx, call.door.vault, asked.to)
    found = difference(before, after)
    return Differences(asked.from_, asked.to, found[:CHANGES_MAX], len(found))


async def _given(call: Call) -> ConfigurationDocument:
    """Read the body, which may be long."""
    octets = bytearray()
    async for chunk in call.chunks():
        octets += chunk
        if len(octets) > document.OCTETS_MAX:
            raise Refusal(Code.REQUEST_TOO_LARGE, octets_max=document.OCTETS_MAX)
    demand(bool(octets), "document", "a document as GET /v1/configuration gives it")
    return document.decoded(bytes(octets))


async def check(call: Call) -> Rehearsal:
    """Say what a document would change, and for which messages; nothing is stored."""
    asked, given = call.query(AskedRehearsal), await _given(call)
    told = await rehearsal.rehearse(
        call.door.database, call.door.vault, call.door.settings, given, who=call.caller.name, day=asked.day
    )
    call.note("configuration", changes=len(told.changes))
    async with call.door.database.transaction() as tx:
        await call.record(tx)
    return msgspec.structs.replace(told, changes=told.changes[:CHANGES_MAX])


async def put(call: Call) -> InForce:
    """Put a document in force."""
    asked, given = call.query(AskedConfigurationApply), await _given(call)
    door = call.door
    async with door.database.transaction() as tx:
        call.within(tx)
        await versions.begin(tx, door.vault)
        applied = await applying.apply(
            tx, door.vault, door.settings, given, who=call.caller.name, if_version=asked.if_version
        )
        told = await _kept(call, applied, "putConfiguration", asked.note)
        await call.record(tx)
    return told


async def roll_back(call: Call) -> InForce:
    """Put an old version in force again, as a new one."""
    asked, number, door = call.body(AskedRollBack), call.number(), call.door
    applied = await applying.roll_back(call.tx, door.vault, door.settings, number, who=call.caller.name)
    call.note("configuration", rolled_back_to=number)
    return await _kept(call, applied, "rollBackConfiguration", asked.note or f"as version {number}")


async def _kept(call: Call, applied: Applied, action: str, note: str) -> InForce:
    kept = await versions.keep(call.tx, call.door.vault, call.caller.name, action, note)
    version = kept if kept is not None else await versions.latest(call.tx)
    keys = [f"{one.section} {one.what} {one.key}" for one in applied.changes[:50]]
    call.note(f"configuration:{version}", changes=len(applied.changes), entries=keys)
    return InForce(version, applied.changes[:CHANGES_MAX], len(applied.changes), applied.secrets)


_READ: Final[dict[str, Any]] = {"reach": Reach.PLATFORM, "permission": Permission.CONFIGURATION_READ}
_WRITE: Final[dict[str, Any]] = {"reach": Reach.PLATFORM, "permission": Permission.CONFIGURATION_WRITE}
_FILE: Final[dict[str, Any]] = {
    "file": True,
    "file_kinds": DOCUMENT_KINDS,
    "own_transactions": True,
    "codes": (*BODY, Code.REQUEST_CONFLICT),
}
ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/configuration",
        name="getConfiguration",
        summary="Fetch channels, routes, prices, words, tenants' terms, policies and alarm rules as one document.",
        query=AskedConfiguration,
        gives=Exported,
        codes=QUERY,
        manages=export,
        **_READ,
    ),
    Route(
        method="PUT",
        path="/v1/configuration",
        name="putConfiguration",
        summary="Put a document in force: all of it, or nothing. Sections that are left out stay.",
        query=AskedConfigurationApply,
        gives=InForce,
        manages=put,
        **_FILE,
        **_WRITE,
    ),
    Route(
        method="POST",
        path="/v1/configuration/check",
        name="checkConfiguration",
        summary="Say what a document would change, and what would have become of yesterday's messages; nothing is stored.",
        query=AskedRehearsal,
        gives=Rehearsal,
        changes=False,
        manages=check,
        **_FILE,
        **_WRITE,
    ),
    Route(
        method="GET",
        path="/v1/configuration/versions",
        name="listConfigurationVersions",
        summary="List the versions of the configuration, the newest first.",
        query=paging.Asked,
        gives=ConfigurationVersionPage,
        codes=QUERY,
        manages=listed,
        **_READ,
    ),
    Route(
        method="GET",
        path="/v1/configuration/versions/{id}",
        name="getConfigurationVersion",
        summary="Fetch one version of the configuration.",
        query=AskedConfiguration,
        gives=WholeVersion,
        codes=QUERY,
        ids="integer",
        manages=get,
        **_READ,
    ),
    Route(
        method="GET",
        path="/v1/configuration/difference",
        name="getConfigurationDifference",
        summary="Say what differs between two versions, or one and what is in force.",
        query=AskedDifference,
        gives=Differences,
        codes=QUERY,
        manages=differs,
        **_READ,
    ),
    Route(
        method="POST",
        path="/v1/configuration/versions/{id}/roll-back",
        name="rollBackConfiguration",
        summary="Put an old version in force again, passwords and all, as a new version.",
        body=AskedRollBack,
        example={"note": "the new prices were wrong"},
        gives=InForce,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        ids="integer",
        manages=roll_back,
        **_WRITE,
    ),
)
