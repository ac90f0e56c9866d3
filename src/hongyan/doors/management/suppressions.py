"""Opt-outs and blocks: whom a tenant, or nobody here, writes to. Whoever waits in a queue does not leave any more.

The table keeps the keyed index of a number only, so that a stop outlives the erasure of the person. A list therefore
shows the beginning of the index, and the masked number where a consent or its withdrawal still names the person.
People of the platform who name no tenant see and change the platform's own rows, which hold for every tenant.
"""

import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hongyan import clock, db
from hongyan.control.bounds import demand, demand_text
from hongyan.control.consents import index_of
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.management.consents import Number, RowOutcome
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.observe import masked_number
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way import consent, optout
from hongyan.way.optout import PLATFORM, Suppressed

NUMBERS_MAX: Final = 1_000
REASON_CHARACTERS_MAX: Final = 200
Reason = Annotated[str, Meta(min_length=1, max_length=REASON_CHARACTERS_MAX)]
Numbers = Annotated[list[Number], Meta(min_length=1, max_length=NUMBERS_MAX)]


class AskedSuppression(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers, and why; the reason is kept."""

    numbers: Numbers
    reason: Reason


class AskedSuppressionPage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A page of the list, which stands in the order of the index."""

    cursor: Annotated[str, Meta(max_length=64, description="`next` of the page before.")] = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class AskedSuppressionsOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which person."""

    number: Number


class SuppressionsChanged(msgspec.Struct, frozen=True):
    """How many rows changed; `refused` names by their place in the request the numbers that are none."""

    changed: int
    unchanged: int
    refused: dict[int, RowOutcome]


class Suppression(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the list; number null where nothing names the person any more, or never did."""

    index: str
    number: str | None
    reason: str
    since: datetime


class SuppressionPage(msgspec.Struct, frozen=True):
    items: list[Suppression]
    next: str | None = None


class Hindrance(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps a number from being written to."""

    kind: Literal["opt_out", "block"]
    of: Literal["tenant", "platform"]
    reason: str  # of the platform's rows only for people of the platform
    since: datetime


class Hindrances(msgspec.Struct, frozen=True):
    """What keeps a number from being written to; nothing: all may be sent."""

    number: str
    items: list[Hindrance]


@dataclass(frozen=True, slots=True)
class _Noun:
    """One of the two kinds of rows, and how it is changed."""

    kind: int
    put: Callable[[db.Tx, Sequence[Suppressed]], Awaitable[int]]
    lift: Callable[[db.Tx, Sequence[Suppressed]], Awaitable[int]]


OPT_OUTS: Final = _Noun(optout.OPT_OUT, optout.stop, optout.start)
BLOCKS: Final = _Noun(optout.BLOCK, optout.block, optout.unblock)


async def stop(call: Call) -> SuppressionsChanged:
    return await _add(call, OPT_OUTS)


async def block(call: Call) -> SuppressionsChanged:
    return await _add(call, BLOCKS)


async def start(call: Call) -> SuppressionsChanged:
    return await _remove(call, OPT_OUTS)


async def unblock(call: Call) -> SuppressionsChanged:
    return await _remove(call, BLOCKS)


async def opt_outs(call: Call) -> SuppressionPage:
    return await _listed(call, OPT_OUTS)


async def blocks(call: Call) -> SuppressionPage:
    return await _listed(call, BLOCKS)


def _whose(call: Call) -> TenantId:
    return PLATFORM if call.tenant_id is None else call.tenant_id


async def _add(call: Call, noun: _Noun) -> SuppressionsChanged:
    """Keep them, and once that is committed have the gateways let go of what waits for them."""
    rows, refused, numbers, reason = _read(call)
    async with call.door.database.transaction() as tx:
        new = await noun.put(tx, rows)
        if noun is OPT_OUTS and _whose(call) != PLATFORM:
            await consent.append(tx, call.door.vault, _withdrawn(rows, numbers, reason))
        _note(call, rows, new, reason)
        await call.record(tx)
    await optout.tell(call.door.database, rows)
    return SuppressionsChanged(new, len(rows) - new, refused)


async def _remove(call: Call, noun: _Noun) -> SuppressionsChanged:
    rows, refused, _, reason = _read(call)
    async with call.door.database.transaction() as tx:
        gone = await noun.lift(tx, rows)
        _note(call, rows, gone, reason)
        await call.record(tx)
    return SuppressionsChanged(gone, len(rows) - gone, refused)


def _read(call: Call) -> tuple[list[Suppressed], dict[int, RowOutcome], dict[bytes, str], str]:
    asked = call.body(AskedSuppression)
    demand_text(asked.reason, "reason", REASON_CHARACTERS_MAX)
    numbers: dict[bytes, str] = {}
    refused = {}
    for place, written in enumerate(asked.numbers):
        try:
            e164, phone_index = index_of(call.door.vault, written)
        except Refusal as refusal:
            refused[place] = RowOutcome(code=refusal.code.value.name, detail=refusal.detail)
        else:
            numbers[phone_index] = e164
    rows = [Suppressed(phone_index, _whose(call), asked.reason) for phone_index in numbers]
    return rows, refused, numbers, asked.reason


def _withdrawn(rows: Sequence[Suppressed], numbers: dict[bytes, str], reason: str) -> list[consent.Said]:
    now = clock.now()
    return [
        consent.Said(
            tenant_id=row.tenant_id,
            phone_index=row.phone_index,
            given=False,
            scope=consent.PROMOTIONAL,
            source="opt-out",
            at=now,
            proof=consent.Proof(number=numbers[row.phone_index], evidence={"reason": reason}),
        )
        for row in rows
    ]


def _note(call: Call, rows: Sequence[Suppressed], changed: int, reason: str) -> None:
    subject = f"person:{consent.shown_index(rows[0].phone_index)}" if len(rows) == 1 else "persons"
    call.note(subject, numbers=len(rows), changed=changed, reason=reason)


async def _listed(call: Call, noun: _Noun) -> SuppressionPage:
    asked, whose = call.query(AskedSuppressionPage), _whose(call)
    rows = await optout.page(call.tx, whose, noun.kind, _after(asked.cursor), asked.limit)
    known = await consent.numbers(call.tx, call.door.vault, whose, [row.phone_index for row in rows])
    items = [
        Suppression(
            index=consent.shown_index(row.phone_index),
            number=masked_number(known[row.phone_index]) if row.phone_index in known else None,
            reason=row.reason,
            since=row.since,
        )
        for row in rows
    ]
    return SuppressionPage(items, rows[-1].phone_index.hex() if len(rows) == asked.limit else None)


def _after(cursor: str) -> bytes:
    try:
        return binascii.unhexlify(cursor)
    except ValueError:
        demand(False, "cursor", "as `next` of an answer has it")
        raise


async def about(call: Call) -> Hindrances:
    e164, phone_index = index_of(call.door.vault, call.query(AskedSuppressionsOf).number)
    tenant_ids = [PLATFORM] if call.tenant_id is None else [PLATFORM, call.tenant_id]
    kept = await optout.about(call.tx, tenant_ids, phone_index)
    shows_all = call.caller.tenant_id is None
    items = [
        Hindrance(
            kind="opt_out" if entry.kind == optout.OPT_OUT else "block",
            of="platform" if whose == PLATFORM else "tenant",
            reason=entry.reason if shows_all or whose != PLATFORM else "",
            since=entry.since,
        )
        for whose, entry in kept
    ]
    return Hindrances(masked_number(e164), items)


EXAMPLE: Final = {"numbers": ["+8613800138000"], "reason": "called our hotline"}


def _change(path: str, name: str, summary: str, manages: Callable[[Call], Awaitable[Any]]) -> Route:
    return Route(
        method="POST",
        path=path,
        name=name,
        summary=summary,
        reach=Reach.ANY,
        permission=Permission.CONSENTS_WRITE,
        body=AskedSuppression,
        example=EXAMPLE,
        gives=SuppressionsChanged,
        codes=BODY,
        line_codes=(Code.NUMBER_INVALID,),
        changes=False,
        own_transactions=True,
        manages=manages,
    )


def _list(path: str, name: str, summary: str, manages: Callable[[Call], Awaitable[Any]]) -> Route:
    return Route(
        method="GET",
        path=path,
        name=name,
        summary=summary,
        reach=Reach.ANY,
        permission=Permission.CONSENTS_READ,
        query=AskedSuppressionPage,
        gives=SuppressionPage,
        codes=QUERY,
        manages=manages,
    )


ROUTES: Final = (
    _list("/v1/opt-outs", "listOptOuts", "List who wants no promotional messages.", opt_outs),
    _change("/v1/opt-outs", "addOptOuts", "Send these numbers no promotional messages any more.", stop),
    _change(
        "/v1/opt-outs/remove", "removeOptOuts", "Forget opt-outs because the persons asked for it.", start
    ),
    _list("/v1/blocks", "listBlocks", "List the numbers that nothing is written to.", blocks),
    _change("/v1/blocks", "addBlocks", "Send these numbers nothing at all.", block),
    _change("/v1/blocks/remove", "removeBlocks", "Write to these numbers again; opt-outs stay.", unblock),
    Route(
        method="GET",
        path="/v1/suppressions",
        name="getSuppressionsOfNumber",
        summary="Tell what keeps one number from being written to: the tenant's rows and the platform's.",
        reach=Reach.ANY,
        permission=Permission.CONSENTS_READ,
        query=AskedSuppressionsOf,
        gives=Hindrances,
        codes=(*QUERY, Code.NUMBER_INVALID),
        manages=about,
    ),
)
