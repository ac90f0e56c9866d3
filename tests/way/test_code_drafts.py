"""A code that goes another way leaves by another channel where there is one, and costs nobody anything."""

import msgspec

from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.message import MessageId, Purpose, Status
from hongyan.way.accept import Accepted, CodeDraft
from plane import Plane, books_balance, plane


async def sent(way: Plane, avoid_channel: int, to: str = "13800138000") -> MessageId:
    """Send a code as a fallback does."""
    draft = way.draft(to, Purpose.OTP)
    fields = msgspec.structs.asdict(draft) | {"avoid_channel": avoid_channel, "free": True}
    (outcome,) = await way.accept(CodeDraft(**fields))
    assert isinstance(outcome, Accepted), outcome
    return outcome.id


async def test_a_second_text_avoids_the_channel_of_the_first_and_is_free(database: str) -> None:
    quick = behaviour.parse("report_delay_s=0.01")
    async with (
        Simulator(quick, seed=1) as first,
        Simulator(quick, seed=2) as second,
        plane(database, first, second) as way,
    ):
        await way.up(2)
        await way.final(await way.send(purpose=Purpose.OTP))
        row = await way.final(await sent(way, way.laid.channels[0]))
        assert (row["channel_id"], row["price_micro"]) == (way.laid.channels[1], 0)
        assert (len(first.destinations()), len(second.destinations())) == (1, 1)
        await books_balance(way.database)


async def test_where_there_is_no_other_channel_it_goes_by_the_same_rather_than_not_at_all(
    database: str,
) -> None:
    async with (
        Simulator(behaviour.parse("report_delay_s=0.01"), seed=1) as only,
        plane(database, only) as way,
    ):
        await way.up()
        row = await way.final(await sent(way, way.laid.channels[0]))
        assert (row["status"], row["channel_id"]) == (Status.DELIVERED.number, way.laid.channels[0])
        await way.database.execute("UPDATE channel SET paused = true")
        await way.keeper.load()
        await way.holds(lambda: not any(line.up for line in way.gateway.lines.open.values()))
        waiting = await sent(way, way.laid.channels[0], "13800138001")
        await way.database.execute("UPDATE channel SET paused = false")
        await way.keeper.load()
        assert (await way.final(waiting))["status"] == Status.DELIVERED.number
        await books_balance(way.database)
