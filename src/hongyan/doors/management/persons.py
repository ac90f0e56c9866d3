"""Persons: everything of a number in one file, everything of it forgotten, one number shown whole; how long all is kept."""

from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from hongyan import clock
from hongyan.control import persons, retention
from hongyan.control.bounds import demand_text
from hongyan.control.consents import index_of
from hongyan.control.permissions import Permission
from hongyan.control.persons import Forgotten
from hongyan.control.retention import RetentionRow
from hongyan.doors.call import Call
from hongyan.doors.management.consents import Number
from hongyan.doors.route import BODY, File, Reach, Route
from hongyan.otp.persons import ROOM
from hongyan.vocab.errors import Code
from hongyan.way import consent, optout
from hongyan.way.retention import PLATFORM, Kept

Reason = Annotated[str, Meta(min_length=1, max_length=200, description="Kept in the audit.")]
Days = Annotated[int, Meta(ge=1, le=3_650)] | None


class AskedPerson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose, and why; the reason is kept in the audit, the number is not."""

    number: Number
    reason: Reason


class AskedUnmask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why somebody looks."""

    reason: Reason


class Unmasked(msgspec.Struct, frozen=True):
    """A number whole; null once the person was erased."""

    message_id: UUID
    number: str | None


class AskedRetention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Days by class; null goes back to what holds without a word."""

    days: Annotated[dict[Kept, Days], Meta(max_length=len(Kept))]


class Retention(msgspec.Struct, frozen=True):
    items: list[RetentionRow]


async def export(call: Call) -> File:
    asked = call.body(AskedPerson)
    _, phone_index = index_of(call.door.vault, asked.number)
    _note(call, phone_index, asked.reason)
    chunks = persons.export(call.door.database, call.door.vault, call.tenant, asked.number, (ROOM,))
    name = f"person-{consent.shown_index(phone_index)}-{clock.now():%Y%m%d}.json"
    return File(name, "application/json", chunks)


async def erase(call: Call) -> Forgotten:
    asked = call.body(AskedPerson)
    async with call.door.database.transaction() as tx:
        erased, whom = await persons.forget(tx, call.door.vault, call.tenant, asked.number, (ROOM,))
        _note(call, whom.phone_index, asked.reason)
        call.note(f"person:{consent.shown_index(whom.phone_index)}", messages=erased.messages)
        await call.record(tx)
    await optout.tell(call.door.database, [whom])
    return erased


def _note(call: Call, phone_index: bytes, reason: str) -> None:
    demand_text(reason, "reason", 200)
    call.note(f"person:{consent.shown_index(phone_index)}", reason=reason)


async def unmask(call: Call) -> Unmasked:
    asked, message_id = call.body(AskedUnmask), call.uuid()
    demand_text(asked.reason, "reason", 200)
    number = await persons.unmask(call.tx, call.door.vault, call.tenant, message_id)
    call.note(f"message:{message_id}", reason=asked.reason)
    return Unmasked(message_id, number)


async def kept(call: Call) -> Retention:
    return Retention(list(await retention.listed(call.tx, call.door.settings)))


async def keep(call: Call) -> Retention:
    asked = call.body(AskedRetention)
    rows = await retention.put(call.tx, call.door.settings, asked.days, PLATFORM)
    call.note("retention", **{name.value: days for name, days in asked.days.items()})
    return Retention(list(rows))


async def kept_texts(call: Call) -> Retention:
    return Retention(list(await retention.listed(call.tx, call.door.settings, call.tenant)))


async def keep_texts(call: Call) -> Retention:
    asked = call.body(AskedRetention)
    rows = await retention.put(call.tx, call.door.settings, asked.days, call.tenant)
    call.note("retention", **{name.value: days for name, days in asked.days.items()})
    return Retention(list(rows))


PERSON: Final = {"number": "+8613800138000", "reason": "asked for it by letter of 2026-03-01"}
ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/persons/export",
        name="exportPerson",
        summary="Give everything a tenant has of one number, as a JSON file.",
        reach=Reach.TENANT,
        permission=Permission.PERSONS_ERASE,
        body=AskedPerson,
        example=PERSON,
        gives=File,
        codes=(*BODY, Code.NUMBER_INVALID),
        changes=False,
        manages=export,
    ),
    Route(
        method="POST",
        path="/v1/persons/erase",
        name="erasePerson",
        summary="Take one number and all its texts out of what a tenant has; opt-outs stay.",
        reach=Reach.TENANT,
        permission=Permission.PERSONS_ERASE,
        body=AskedPerson,
        example=PERSON,
        gives=Forgotten,
        codes=(*BODY, Code.NUMBER_INVALID),
        changes=False,
        own_transactions=True,
        manages=erase,
    ),
    Route(
        method="POST",
        path="/v1/messages/{id}/unmask",
        name="unmaskNumber",
        summary="Show the number of one message whole; who looked, and why, stands in the audit.",
        reach=Reach.TENANT,
        permission=Permission.NUMBERS_UNMASK,
        body=AskedUnmask,
        example={"reason": "the person calls and asks about this message"},
        gives=Unmasked,
        codes=BODY,
        changes=False,
        manages=unmask,
    ),
    Route(
        method="GET",
        path="/v1/retention",
        name="getRetention",
        summary="Tell how long everything is kept.",
        reach=Reach.PLATFORM,
        permission=Permission.CONFIGURATION_READ,
        gives=Retention,
        manages=kept,
    ),
    Route(
        method="PUT",
        path="/v1/retention",
        name="putRetention",
        summary="Decide how long classes are kept; what is shortened is gone soon and does not come back.",
        reach=Reach.PLATFORM,
        permission=Permission.CONFIGURATION_WRITE,
        body=AskedRetention,
        example={"days": {"otp_texts": 3, "consents": 1_825}},
        gives=Retention,
        codes=BODY,
        changes=False,
        manages=keep,
    ),
    Route(
        method="GET",
        path="/v1/retention/texts",
        name="getTextRetention",
        summary="Tell how long a tenant's texts are kept.",
        reach=Reach.TENANT,
        permission=Permission.CONSENTS_READ,
        gives=Retention,
        manages=kept_texts,
    ),
    Route(
        method="PUT",
        path="/v1/retention/texts",
        name="putTextRetention",
        summary="Keep a tenant's texts for less time than the platform does.",
        reach=Reach.TENANT,
        permission=Permission.PERSONS_ERASE,
        body=AskedRetention,
        example={"days": {"otp_texts": 1}},
        gives=Retention,
        codes=BODY,
        changes=False,
        manages=keep_texts,
    ),
)
