"""An operator's bill is read as operators write it, and stands beside what we counted."""

from datetime import UTC, date, datetime

import pytest

import make
from hongyan import db
from hongyan.control import bills
from hongyan.vocab.errors import Refusal
from hongyan.way import rollup

TALLY_SQL = """
INSERT INTO tally (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency,
                   shard, messages, parts, price_micro, cost_micro)
VALUES ($1, 1, $2, 0, 1, 0, $3, 'CN', $4, '', 0, 0, $5, $5, 0, $6)
"""


async def count(
    tx: db.Tx, channel_id: int, hour: datetime, operator: str, parts: int, *, status: int = 1
) -> None:
    await tx.execute(TALLY_SQL, hour, status, channel_id, operator, parts, parts * 10_000)


async def test_a_bill_stands_beside_ours_day_by_day_in_the_operators_zone(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        # 23:00 UTC is the next day in China; what was only accepted has no channel and no cost.
        await count(tx, world.channel_id, datetime(2026, 3, 1, 23, tzinfo=UTC), "cmcc", 100)
        await count(tx, world.channel_id, datetime(2026, 3, 2, 1, tzinfo=UTC), "unicom", 40)
        await count(tx, world.channel_id, datetime(2026, 3, 2, 1, tzinfo=UTC), "cmcc", 9, status=0)
        await count(tx, world.channel_id, datetime(2026, 3, 3, 1, tzinfo=UTC), "cmcc", 7)
        lines = bills.read_csv(
            "日期,运营商,计费条数,金额\n2026-03-02,移动,103,1.03\n2026/03/03,cmcc,7,0.07\n".encode()
        )
        number = await bills.reconcile(
            tx, world.channel_id, "March", lines, zone="Asia/Shanghai", made_by="user:1"
        )
        bill = await bills.one(tx, number)
    told = [
        (line.day.day, line.operator, line.difference_parts, line.difference_micro) for line in bill.lines
    ]
    assert told == [(2, "cmcc", 3, 30_000), (2, "unicom", -40, None), (3, "cmcc", 0, 0)]
    assert (bill.bill.parts, bill.bill.our_parts) == (110, 147)


async def test_a_bill_that_does_not_tell_operators_apart_is_compared_by_day(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        for operator in ("cmcc", "unicom"):
            await count(tx, world.channel_id, datetime(2026, 3, 2, 1, tzinfo=UTC), operator, 50)
        lines = bills.read_csv(b"day,parts\n2026-03-02,100\n")
        number = await bills.reconcile(tx, world.channel_id, "March", lines, zone="UTC", made_by="user:1")
        (line,) = (await bills.one(tx, number)).lines
    assert (line.operator, line.difference_parts, line.amount_micro) == ("", 0, None)


async def test_our_side_of_a_bill_is_the_same_before_and_after_its_hours_are_summed(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        for day in range(1, 9):
            for hour in (3, 15, 23):
                await count(
                    tx, world.channel_id, datetime(2026, 3, day, hour, tzinfo=UTC), "cmcc", day * hour
                )
                await count(tx, world.channel_id + 1, datetime(2026, 3, day, hour, tzinfo=UTC), "cmcc", 9)
        lines = bills.read_csv(b"day,parts\n2026-03-02,1\n2026-03-07,1\n")
        told = []
        for zone in ("Asia/Shanghai", "Europe/Berlin", "Asia/Kolkata") * 2:
            number = await bills.reconcile(tx, world.channel_id, "x", lines, zone=zone, made_by="user:1")
            told.append(
                [(line.day, line.our_parts, line.our_micro) for line in (await bills.one(tx, number)).lines]
            )
            if len(told) == 3:
                await rollup.roll(tx, datetime(2026, 3, 20, tzinfo=UTC))
                await tx.execute(
                    "DELETE FROM tally WHERE tenant_id = 1 AND channel_id = $1", world.channel_id
                )
    assert told[:3] == told[3:]
    assert all(len(days) == 6 for days in told)


async def test_bills_are_listed_the_newest_first_with_their_sums(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        for parts in (1, 2, 3):
            lines = bills.read_csv(f"day,parts\n2026-03-02,{parts}\n2026-03-03,{parts}\n".encode())
            await bills.reconcile(tx, world.channel_id, f"{parts}", lines, zone="UTC", made_by="user:1")
        rows = await bills.every(tx, limit=2)
        assert [(row.name, row.parts) for row in rows] == [("3", 6), ("2", 4)]
        assert [row.name for row in await bills.every(tx, before=rows[-1].id)] == ["1"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_bill_is_read_in_the_encodings_operators_use(encoding: str) -> None:
    (line,) = bills.read_csv('日期,条数,金额\r\n2026-03-02,"1,234",12.5\r\n'.encode(encoding))
    assert line == bills.Line(date(2026, 3, 2), "", 1_234, 12_500_000)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "column"),
        ("day,parts\n", "at least one line"),
        ("day\n2026-03-02\n", "column"),
        ("day,parts\n2026-03-02,many\n", "line 2"),
        ("day,parts\n2026-03-02,-1\n", "line 2"),
        ("day,parts\n2026-03-02,1\n2026-03-02,1\n", "line 3"),
        ("day,operator,parts\n2026-03-02,Nobody,1\n", "line 2"),
        ("day,parts,amount\n2026-03-02,1,1e99\n", "line 2"),
        ("day,parts,amount\n2026-03-02,1,1e1000000\n", "line 2"),
        ("day,parts,amount\n2026-03-02,1,9e999990\n", "line 2"),
        ("day,parts\n9999-12-31,1\n", "line 2"),
        ("day,parts\n0001-01-01,1\n", "line 2"),
    ],
)
def test_a_bill_that_cannot_be_read_is_refused_by_its_line(text: str, what: str) -> None:
    with pytest.raises(Refusal) as refused:
        bills.read_csv(text.encode())
    assert what in str(refused.value.detail["reason"])
