"""Money: movements, top-ups, corrections and packages.

Entry points: ROUTES. The balance itself is GET /v1/balance (doors/statistics.py).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from hongyan.control import ledger, packages
from hongyan.control.ledger import AMOUNT_MICRO_MAX, NOTE_CHARACTERS_MAX, REFERENCE_CHARACTERS_MAX, Entry
from hongyan.control.packages import PackageRow
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, Reach, Route
from hongyan.doors.statistics import Balance
from hongyan.vocab.errors import Code

Note = Annotated[str, Meta(max_length=NOTE_CHARACTERS_MAX, description="as an invoice number")]

Reference = Annotated[
    str,
    Meta(
        max_length=REFERENCE_CHARACTERS_MAX,
        description="what it stands for; a tenant's is booked once, so a request that is repeated with it changes nothing",
    ),
]


class AskedEntries(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which movements."""

    kind: Literal["top_up", "charge", "refund", "correction"] | None = None


class Entries(msgspec.Struct, frozen=True):
    """A page of movements, the newest first."""

    items: Sequence[Entry]
    next: str | None = None


class AskedTopUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was paid, in millionths of the tenant's currency."""

    amount_micro: Annotated[int, Meta(ge=1, le=AMOUNT_MICRO_MAX)]
    note: Note = ""
    reference: Reference = ""


class AskedCorrection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was booked wrongly: more than 0 gives, less takes."""

    amount_micro: Annotated[int, Meta(ge=-AMOUNT_MICRO_MAX, le=AMOUNT_MICRO_MAX)]
    note: Annotated[str, Meta(min_length=1, max_length=NOTE_CHARACTERS_MAX, description="why")]
    reference: Reference = ""


class AskedPackage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parts sold ahead. The tenant's price (PUT /v1/prices) is what they are used up at."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    parts: Annotated[int, Meta(ge=1, le=packages.PARTS_MAX)]
    part_micro: Annotated[int, Meta(ge=1, le=packages.PART_MICRO_MAX, description="what each counts as")]
    paid_micro: Annotated[int, Meta(ge=0, le=AMOUNT_MICRO_MAX, description="for all of them")]
    expires_at: Annotated[datetime, Meta(tz=True)]
    reference: Reference = ""


class Packages(msgspec.Struct, frozen=True):
    """A page of packages, the newest first."""

    items: Sequence[PackageRow]
    next: str | None = None


async def entries(call: Call) -> Entries:
    """List movements."""
    asked = call.query(AskedEntries)
    rows = await ledger.entries(
        call.tx, call.tenant, before=paging.before(asked), kind=asked.kind, limit=asked.limit
    )
    return Entries(rows, paging.following(rows, asked))


async def top_up(call: Call) -> Balance:
    """Add what was paid."""
    asked = call.body(AskedTopUp)
    left = await ledger.top_up(
        call.tx, call.tenant, asked.amount_micro, asked.note, reference=asked.reference
    )
    call.note(
        f"tenant:{call.tenant}", amount_micro=asked.amount_micro, note=asked.note, reference=asked.reference
    )
    return Balance(left, call.door.snapshots.current.tenants[call.tenant].currency)


async def correct(call: Call) -> Balance:
    """Correct what was booked wrongly."""
    asked = call.body(AskedCorrection)
    left = await ledger.correct(
        call.tx, call.tenant, asked.amount_micro, asked.note, reference=asked.reference
    )
    call.note(
        f"tenant:{call.tenant}", amount_micro=asked.amount_micro, note=asked.note, reference=asked.reference
    )
    return Balance(left, call.door.snapshots.current.tenants[call.tenant].currency)


async def sell(call: Call) -> PackageRow:
    """Sell a package."""
    asked = call.body(AskedPackage)
    number = await packages.sell(
        call.tx,
        call.tenant,
        name=asked.name,
        parts=asked.parts,
        part_micro=asked.part_micro,
        paid_micro=asked.paid_micro,
        expires_at=asked.expires_at,
        reference=asked.reference,
    )
    call.note(
        f"package:{number}",
        name=asked.name,
        parts=asked.parts,
        paid_micro=asked.paid_micro,
        reference=asked.reference,
    )
    return next(row for row in await packages.every(call.tx, call.tenant) if row.id == number)


async def listed(call: Call) -> Packages:
    """List packages."""
    asked = call.query(paging.Asked)
    rows = await packages.page(call.tx, call.tenant_id, before=paging.before(asked), limit=asked.limit)
    return Packages(rows, paging.following(rows, asked))


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/ledger",
        name="listLedger",
        summary="List a tenant's movements of money, the newest first.",
        reach=Reach.TENANT,
        permission=Permission.LEDGER_READ,
        query=AskedEntries,
        gives=Entries,
        manages=entries,
    ),
    Route(
        method="POST",
        path="/v1/ledger/top-up",
        name="topUp",
        summary="Add what a tenant has paid to its balance.",
        reach=Reach.TENANT,
        permission=Permission.LEDGER_WRITE,
        body=AskedTopUp,
        example={"amount_micro": 1_000_000_000, "note": "paid by transfer", "reference": "invoice 2026-0001"},
        gives=Balance,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        changes=False,
        manages=top_up,
    ),
    Route(
        method="POST",
        path="/v1/ledger/correct",
        name="correctLedger",
        summary="Correct a balance; it never goes below zero.",
        reach=Reach.TENANT,
        permission=Permission.LEDGER_WRITE,
        body=AskedCorrection,
        example={"amount_micro": -5_000_000, "note": "booked twice"},
        gives=Balance,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        changes=False,
        manages=correct,
    ),
    Route(
        method="GET",
        path="/v1/packages",
        name="listPackages",
        summary="List packages of parts, the newest first, with what is left of each.",
        reach=Reach.ANY,
        permission=Permission.LEDGER_READ,
        query=paging.Asked,
        gives=Packages,
        manages=listed,
    ),
    Route(
        method="POST",
        path="/v1/packages",
        name="sellPackage",
        summary="Sell a package of parts: its worth goes into the balance, and what is unused is taken back when it expires.",
        reach=Reach.TENANT,
        permission=Permission.LEDGER_WRITE,
        status=201,
        body=AskedPackage,
        example={
            "name": "10,000 notices",
            "parts": 10_000,
            "part_micro": 40_000,
            "paid_micro": 380_000_000,
            "expires_at": "2027-12-31T16:00:00Z",
        },
        gives=PackageRow,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        changes=False,
        manages=sell,
    ),
)
