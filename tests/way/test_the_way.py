"""The main job, from accept to a final notice, on real parts."""

from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.message import Status
from plane import plane


async def test_a_message_travels_from_accept_to_a_delivered_notice(database: str) -> None:
    async with (
        Simulator(behaviour.parse("report_delay_s=0.01")) as simulator,
        plane(database, simulator) as way,
    ):
        message_id = await way.send("13800138000")
        row = await way.final(message_id)
        assert row["status"] == Status.DELIVERED.number
        assert [owed.message_id for owed in way.owed] == [message_id]
        assert len(simulator.phone("8613800138000")) == 1
        assert await way.database.fetch("SELECT 1 FROM outbox UNION ALL SELECT 1 FROM submitted") == []
