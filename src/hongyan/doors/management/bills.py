"""Operators' bills beside what we counted.

Entry points: ROUTES.
"""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control import bills
from hongyan.control.bills import Bill, BillRow
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.management import paging
from hongyan.doors.route import Reach, Route
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import ChannelId


class AskedReconcile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the bill is called, and where its days begin."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    zone: Annotated[str, Meta(max_length=64, description="IANA name")] = "Asia/Shanghai"


class Bills(msgspec.Struct, frozen=True):
    """A page of bills, the newest first."""

    items: Sequence[BillRow]
    next: str | None = None


async def reconcile(call: Call) -> Bill:
    """Read a bill and put ours beside it."""
    asked = call.query(AskedReconcile)
    octets = bytearray()
    async for chunk in call.chunks():
        octets += chunk
        if len(octets) > bills.OCTETS_MAX:
            raise Refusal(Code.REQUEST_TOO_LARGE, octets_max=bills.OCTETS_MAX)
    lines = bills.read_csv(bytes(octets))
    async with call.door.database.transaction() as tx:
        number = await bills.reconcile(
            tx, ChannelId(call.number()), asked.name, lines, zone=asked.zone, made_by=call.caller.name
        )
        call.note(f"bill:{number}", name=asked.name, lines=len(lines))
        await call.record(tx)
        return await bills.one(tx, number)


async def listed(call: Call) -> Bills:
    """List bills."""
    asked = call.query(paging.Asked)
    rows = await bills.every(call.tx, before=min(paging.before(asked), bills.INT_MAX), limit=asked.limit)
    return Bills(rows, paging.following(rows, asked))


async def one(call: Call) -> Bill:
    """Return a bill with its lines."""
    return await bills.one(call.tx, call.number())


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/channels/{id}/bills",
        name="reconcileBill",
        summary="Hand in an operator's bill (CSV) and see it beside what we counted.",
        reach=Reach.PLATFORM,
        permission=Permission.LEDGER_WRITE,
        status=201,
        query=AskedReconcile,
        gives=Bill,
        codes=(Code.REQUEST_MISSING_PARAMETER, Code.REQUEST_TOO_LARGE),
        ids="integer",
        file=True,
        file_kinds=("text/csv",),
        own_transactions=True,
        changes=False,
        manages=reconcile,
    ),
    Route(
        method="GET",
        path="/v1/bills",
        name="listBills",
        summary="List operators' bills, the newest first.",
        reach=Reach.PLATFORM,
        permission=Permission.LEDGER_READ,
        query=paging.Asked,
        gives=Bills,
        manages=listed,
    ),
    Route(
        method="GET",
        path="/v1/bills/{id}",
        name="getBill",
        summary="One bill, line by line, with the differences.",
        reach=Reach.PLATFORM,
        permission=Permission.LEDGER_READ,
        gives=Bill,
        ids="integer",
        manages=one,
    ),
)
