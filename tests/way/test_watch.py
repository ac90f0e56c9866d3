"""A person looks at a channel's sessions from another process."""

import asyncio

from hongyan import db
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.way import watch
from hongyan.way.watch import Line, Watcher
from plane import plane


async def test_what_passes_is_shown_masked_while_somebody_looks_and_kept_no_longer(database: str) -> None:
    async with (
        Simulator(behaviour.parse("report_delay_s=0.01")) as operator,
        plane(database, operator) as way,
    ):
        await way.up()
        channel_id = way.laid.channels[0]
        watcher = Watcher(way.database, 1, way.gateway.channel)
        listener = db.Listener(way.database, {watch.TOPIC: watcher.hear})
        seen: list[Line] = []
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(watcher.run()), tasks.create_task(listener.run())]
            while not any("DeliverSmResp" in line.text for line in seen):  # one look may be too short
                looking = tasks.create_task(watch.look(way.database, channel_id, 3.0, seen.append))
                await way.holds(lambda one=looking: watcher._watched or one.done())
                await way.final(await way.send("13800138000"))
                await looking
                await way.holds(lambda: not watcher._watched)
            for task in running:
                task.cancel()
        shown = "\n".join(line.text for line in seen)
        for name in ("SubmitSm", "SubmitSmResp", "DeliverSm", "DeliverSmResp"):
            assert name in shown
        assert "13800138000" not in shown
        assert "快递" not in shown
        channel = way.gateway.channel(channel_id)
        assert channel is not None
        assert channel.trace() == []  # type: ignore[attr-defined]  # it can be traced


async def test_a_look_begins_with_what_is_always_kept_and_says_what_it_left_out(database: str) -> None:
    async with Simulator() as operator, plane(database, operator, trace_pdus=4) as way:
        await way.up()
        await way.final(await way.send("13800138000"))
        watcher = Watcher(way.database, 1, way.gateway.channel)
        listener = db.Listener(way.database, {watch.TOPIC: watcher.hear})
        seen: list[Line] = []
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(watcher.run()), tasks.create_task(listener.run())]
            for looks in (1, 2):
                while len(seen) < 4 * looks:  # a busy machine may need longer than one look to answer
                    await watch.look(way.database, way.laid.channels[0], 1.0, seen.append)
                    await way.holds(lambda: not watcher._watched)
            for task in running:
                task.cancel()
        assert [line.text.split()[0] for line in seen] == 2 * [
            "SubmitSm",
            "SubmitSmResp",
            "DeliverSm",
            "DeliverSmResp",
        ]
        assert {line.left_out for line in seen} == {0}


async def test_a_channel_that_is_not_here_or_has_no_sessions_is_nobodys_to_show(database: str) -> None:
    async with Simulator() as operator, plane(database, operator) as way:
        watcher = Watcher(way.database, 1, lambda _: None)
        watcher.hear("")
        watcher.hear("no JSON")
        watcher.hear('{"channel_id": 1, "seconds": 1, "reply": "r"}')
        task = asyncio.create_task(watcher.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert watcher._watched == {}
        task.cancel()
