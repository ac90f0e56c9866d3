"""A package is used before other money, the first to expire first, and what is unused is taken back once."""

import asyncio
from datetime import datetime, timedelta

import pytest
import time_machine

from hongyan import clock, db
from hongyan.control import packages
from hongyan.vocab.errors import Refusal
from hongyan.way import charge

from .conftest import Office

PART = 40_000


async def sell(tx: db.Tx, office: Office, parts: int, days: int) -> int:
    return await packages.sell(
        tx,
        office.tenant_id,
        name=f"{parts} for {days}",
        parts=parts,
        part_micro=PART,
        paid_micro=parts * PART // 2,
        expires_at=clock.now() + timedelta(days=days),
    )


async def use(tx: db.Tx, office: Office, parts: int, kind: str = "charge") -> None:
    """Book messages as the way does: the ledger and the balance move together."""
    await charge.top_up(tx, office.tenant_id, -parts * PART if kind == "charge" else parts * PART, kind=kind)


async def left(tx: db.Tx, office: Office) -> list[int]:
    return [row.left_micro // PART for row in await packages.every(tx, office.tenant_id)]


async def test_the_package_that_expires_first_is_used_first(office: Office) -> None:
    async with office.database.transaction() as tx:
        await sell(tx, office, 100, days=30)
        await sell(tx, office, 50, days=10)
        await use(tx, office, 70)
        assert await left(tx, office) == [0, 80]


async def test_what_was_used_before_a_package_was_sold_is_none_of_its(office: Office) -> None:
    async with office.database.transaction() as tx:
        await charge.top_up(tx, office.tenant_id, 1_000 * PART)
        await use(tx, office, 500)
        await sell(tx, office, 100, days=30)
        await use(tx, office, 30)
        assert await left(tx, office) == [70]


async def test_what_is_left_of_an_expired_package_is_taken_back_once(office: Office) -> None:
    async with office.database.transaction() as tx:
        await charge.top_up(tx, office.tenant_id, 10 * PART)
        await sell(tx, office, 100, days=30)
        await use(tx, office, 40)
        later = clock.now() + timedelta(days=31)
        assert await packages.lapse(tx, clock.now()) == 0
        assert await packages.lapse(tx, later) == 1
        assert await charge.balance_micro(tx, office.tenant_id) == 10 * PART
        assert await packages.lapse(tx, later) == 0
        (row,) = await packages.every(tx, office.tenant_id)
        assert (row.lapsed_micro, row.left_micro) == (60 * PART, 0)
        assert await charge.drift(tx) == []


async def test_an_expired_package_keeps_what_was_used_of_it_from_counting_against_the_next(
    office: Office,
) -> None:
    async with office.database.transaction() as tx:
        await sell(tx, office, 100, days=10)
        await sell(tx, office, 100, days=30)
        await use(tx, office, 60)
        await packages.lapse(tx, clock.now() + timedelta(days=11))
        await use(tx, office, 5)
        assert await left(tx, office) == [0, 95]


async def test_a_refund_gives_back_to_what_was_used(office: Office) -> None:
    async with office.database.transaction() as tx:
        await sell(tx, office, 100, days=10)
        await use(tx, office, 60)
        await use(tx, office, 10, kind="refund")
        assert await left(tx, office) == [50]


async def test_a_package_that_has_expired_or_costs_more_than_it_is_worth_is_refused(office: Office) -> None:
    async with office.database.transaction() as tx:
        with time_machine.travel(clock.now()), pytest.raises(Refusal):
            await sell(tx, office, 1, days=0)
        with pytest.raises(Refusal):
            await packages.sell(
                tx,
                office.tenant_id,
                name="dear",
                parts=1,
                part_micro=1,
                paid_micro=2,
                expires_at=clock.now() + timedelta(days=1),
            )


async def test_a_package_worth_more_than_a_balance_can_hold_is_refused(office: Office) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal):
            await packages.sell(
                tx,
                office.tenant_id,
                name="all there is",
                parts=packages.PARTS_MAX,
                part_micro=packages.PART_MICRO_MAX,
                paid_micro=0,
                expires_at=clock.now() + timedelta(days=1),
            )


async def test_a_package_lapses_while_the_rest_of_the_balance_is_being_spent(office: Office) -> None:
    """Who charges holds a shard until the commit: what is taken back is counted once that is over."""
    database = office.database
    async with database.transaction() as tx:
        await sell(tx, office, 100, days=30)
    later = clock.now() + timedelta(days=31)
    async with database.transaction() as spending:
        await use(spending, office, 70)
        lapsing = asyncio.create_task(_lapse(office, later))
        while not await database.fetch("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            assert not lapsing.done()
            await asyncio.sleep(0)
    assert await lapsing == 1
    async with database.transaction() as tx:
        assert await charge.balance_micro(tx, office.tenant_id) == 0
        (row,) = await packages.every(tx, office.tenant_id)
        assert row.lapsed_micro == 30 * PART
        assert await charge.drift(tx) == []


async def _lapse(office: Office, now: datetime) -> int:
    async with office.database.transaction() as tx:
        return await packages.lapse(tx, now)
