"""A message is found in the partition of its day, whichever that is, and wherever it lies if there is none."""

from datetime import UTC, datetime, timedelta
from typing import Final, LiteralString

import pytest

import make
from hongyan import clock, db
from hongyan.channels.channel import Report
from hongyan.simulator import behaviour
from hongyan.simulator.behaviour import Rule
from hongyan.simulator.server import Simulator
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import ChannelId, MessageId, Status
from hongyan.way import drop, prune, tick
from hongyan.way.days import Days, day_at, day_of, day_on, one_day
from hongyan.way.drop import Dropped
from hongyan.way.tick import Heard
from plane import books_balance, plane

DAY: Final = timedelta(days=1)
SHARD: Final = 9
COUNT_SQL: Final[LiteralString] = "SELECT count(*)::int AS n FROM message"


@pytest.mark.parametrize(
    ("at", "table"),
    [
        (datetime(2026, 11, 27, tzinfo=UTC), "message_20261127"),
        (datetime(2026, 11, 27, 23, 59, 59, 999_000, UTC), "message_20261127"),
        (datetime(2026, 11, 28, tzinfo=UTC), "message_20261128"),
        (datetime(2028, 2, 29, 12, tzinfo=UTC), "message_20280229"),
    ],
)
def test_an_id_is_of_the_day_in_which_it_was_made(at: datetime, table: str) -> None:
    message_id = make.message_id(at)
    day = day_of(message_id.bytes)
    assert day.table == table
    assert day.first <= message_id < day.following
    assert day == day_at(at.timestamp()) == day_on(at.date())


def test_a_day_ends_where_the_next_begins() -> None:
    day = day_on(datetime(2026, 12, 31, tzinfo=UTC).date())
    assert day_of(day.following.bytes) == day_on(datetime(2027, 1, 1, tzinfo=UTC).date())
    assert day_of((day.following.int - 1).to_bytes(16)) == day
    assert day_of(day.first.bytes) == day


def test_ids_of_two_days_are_of_no_one_day() -> None:
    midnight = datetime(2026, 11, 28, tzinfo=UTC)
    before, first, last = (
        make.message_id(at).bytes
        for at in (midnight - timedelta(milliseconds=1), midnight, midnight + timedelta(hours=23))
    )
    assert one_day([last, first]) == day_of(first)
    assert one_day([before, first]) is None
    assert one_day([last, before]) is None
    assert one_day([]) is None


async def place(database: db.Database, message_id: MessageId) -> str:
    (row,) = await database.fetch(
        "SELECT tableoid::regclass::text AS name FROM message WHERE id = $1", message_id
    )
    return str(row["name"])


async def test_a_day_without_a_partition_is_asked_of_the_whole_table_until_it_has_one(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await make.message(tx, world)
        asked, empty = Days(), day_at((clock.now() - 9 * DAY).timestamp())
        (row,) = await asked.fetch(world.database, COUNT_SQL, empty)
        assert row["n"] == 1
        async with world.database.transaction() as tx:
            await prune.ensure_partitions(tx, clock.now() - 9 * DAY)
        (row,) = await asked.fetch(world.database, COUNT_SQL, empty)
        assert row["n"] == 1  # it does not look each time
        asked._without = dict.fromkeys(asked._without, 0.0)  # a minute has passed
        (row,) = await asked.fetch(world.database, COUNT_SQL, empty)
        assert row["n"] == 0


async def test_a_day_that_is_dropped_under_a_prepared_statement_is_asked_of_the_whole_table(
    database: str,
) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await prune.ensure_partitions(tx, clock.now() - 9 * DAY)
            await make.message(tx, world)
        asked, day = Days(), day_at((clock.now() - 9 * DAY).timestamp())
        connection = await world.database.own_connection()
        try:
            (row,) = await asked.fetch(connection, COUNT_SQL, day)
            assert row["n"] == 0
            await world.database.execute(f"DROP TABLE {day.table}")
            (row,) = await asked.fetch(connection, COUNT_SQL, day)
            assert row["n"] == 1
        finally:
            await connection.close()


async def test_messages_of_many_days_go_their_way_together(database: str) -> None:
    """As scheduled ones do: some were accepted days ago, and one before there were partitions at all."""
    simulator = Simulator(
        behaviour.parse("report_delay_s=0.05"), [Rule.read("139*: state=UNDELIV err=MK:0001")]
    )
    async with simulator, plane(database, simulator) as one:
        async with one.database.transaction() as tx:
            await prune.ensure_partitions(tx, clock.now() - 5 * DAY)  # five to two days ago
        await one.up()
        ages = [0, 0, 3, 3, 5, 5, 30, 30]
        ids = [make.message_id(clock.now() - age * DAY) for age in ages]
        drafts = [one.draft(f"13{8 + n % 2}0013800{n}") for n in range(len(ids))]
        await one.acceptor.accept_once(one.key, drafts, ids)
        await one.all_final()
        assert [(await one.row(message_id))["status"] for message_id in ids] == [
            Status.DELIVERED.number, Status.UNDELIVERED.number,
        ] * 4  # fmt: skip
        assert {await place(one.database, message_id) for message_id in ids[:6]} == {
            day_of(message_id.bytes).table for message_id in ids[:6]
        }
        assert await place(one.database, ids[-1]) == "message_rest"
        await books_balance(one.database)


async def test_parts_of_messages_of_two_days_end_in_one_statement(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await prune.ensure_partitions(tx, clock.now() - DAY)
            ids = [await make.message(tx, world, at=clock.now() - age * DAY) for age in (0, 1)]
            for message_id in ids:
                await make.outbox(tx, world, message_id)
        drops = [
            Dropped(world.tenant_id, message_id.bytes, 1, Status.EXPIRED, Cause.NOT_SENT, "")
            for message_id in ids
        ]
        connection = await world.database.own_connection()
        try:
            owed = await drop.settle(connection, drops, SHARD, [], Days())
        finally:
            await connection.close()
        assert {row["message_id"] for row in owed} == set(ids)
        rows = await world.database.fetch("SELECT status FROM message")
        assert [row["status"] for row in rows] == [Status.EXPIRED.number] * 2


async def test_a_report_whose_part_became_another_days_meanwhile_is_a_stray_and_the_part_stays(
    database: str,
) -> None:
    """An upstream gives an id away again between the look for its part and the settling."""
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            message_id = await make.message(tx, world)
            await make.submitted(tx, world, message_id, channel_id=7, upstream_id="again")
        heard = Heard(
            ChannelId(7), Report("again", Status.UNDELIVERED, Cause.NONE, "UNDELIV", clock.now_s()), "again"
        )
        snapshot = await make.snapshot(world)
        connection = await world.database.own_connection()
        try:
            for day, what in (
                (day_at((clock.now() - DAY).timestamp()), tick.STRAY),
                (day_of(message_id.bytes), tick.NOTICE),
            ):
                rows = await tick.fold(
                    connection, [heard], days=Days(), day=day, shard=SHARD, snapshot=snapshot,
                    other_channel=lambda _: False, speaks_for_all=lambda _: False,
                )  # fmt: skip
                assert [row["what"] for row in rows] == [what]
        finally:
            await connection.close()


async def test_a_connection_keeps_no_statement_of_days_that_are_over(database: str) -> None:
    async with make.world(database) as world:
        connection = await world.database.own_connection()
        try:
            for day in range(3 * db.KEPT_MAX):
                await connection.fetch(f"SELECT {day}")
            assert await connection.fetchval("SELECT count(*) FROM pg_prepared_statements") <= db.KEPT_MAX + 1
        finally:
            await connection.close()
