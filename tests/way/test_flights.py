"""Thousands of messages through an operator on a bad day, over each protocol: every one ends, none is lost."""

from dataclasses import replace
from typing import Any

import pytest

from hongyan import clock
from hongyan.simulator import behaviour
from hongyan.simulator.behaviour import Protocol
from hongyan.simulator.server import Simulator
from hongyan.vocab.message import Purpose, Status
from hongyan.way import prune
from hongyan.way.accept import Accepted
from plane import QUICK, Plane, books_balance, plane

MESSAGES = 4_000
BATCH = 500
WINDOW = 100
BAD_DAY = (
    "report_delay_s=0.01..0.2 early_share=0.05 report_loss_share=0.01 fail_share=0.03 ack_loss_share=0.0025 "
    "parts_per_s_max=1500 disconnect_after_submits=600 report_copies=1 resend_after_s=0.5"
)
SETTINGS = replace(QUICK, report_wait_s=2, early_report_keep_s=600)


async def give_up(way: Plane) -> None:
    """Do what the clerk does on time: messages whose report never came end as unknown."""
    async with way.database.transaction() as tx:
        await prune.give_up_overdue(tx, SETTINGS, clock.now())


@pytest.mark.parametrize(
    ("protocol", "config"),
    [
        (Protocol.SMPP, {}),
        (Protocol.CMPP, {}),
        (Protocol.SMGP, {}),
        (Protocol.SGIP, {}),
    ],
)
async def test_each_message_ends_once_and_what_an_operator_got_twice_fits_its_windows(
    database: str, protocol: Protocol, config: dict[str, Any]
) -> None:
    async with (
        Simulator(behaviour.parse(BAD_DAY), seed=7, protocol=protocol) as operator,
        plane(
            database, operator, settings=SETTINGS, row={"kind": protocol.value, "sessions": 2},
            sessions=2, window_size=WINDOW, ack_wait_s=2.0, **config,
        ) as way,
    ):  # fmt: skip
        await way.up()
        for start in range(0, MESSAGES, BATCH):
            drafts = [
                way.draft(f"1380{n:07d}", Purpose.TRANSACTIONAL, reference=str(n))
                for n in range(start, start + BATCH)
            ]
            outcomes = await way.accept(*drafts)
            assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM outbox)")
        await way.holds(lambda: operator.statistics().owed == 0)  # slow is not lost
        async with way.database.transaction() as tx:
            (left,) = await tx.fetch("SELECT count(*) AS n FROM message WHERE status = 0")
        while left["n"]:
            await give_up(way)
            (left,) = await way.database.fetch("SELECT count(*) AS n FROM message WHERE status = 0")
        destinations = operator.destinations()
        assert len(destinations) == MESSAGES
        statistics = operator.statistics()
        doubled = sum(one.parts - 1 for one in destinations.values())
        allowed = statistics.disconnects * WINDOW + MESSAGES // 100
        assert doubled <= allowed
        counts = await way.database.fetch("SELECT status, count(*) AS n FROM message GROUP BY 1 ORDER BY 1")
        ended = {row["status"]: row["n"] for row in counts}
        assert sum(ended.values()) == MESSAGES
        assert ended[1] > MESSAGES * 0.9
        # The day was bad: every kind of accident was met, or the above says nothing.
        assert statistics.disconnects >= 4
        assert statistics.submits > statistics.acks  # answers were lost, with a session or alone
        assert statistics.reports_resent > 0
        assert ended[Status.UNDELIVERED.number] > MESSAGES * 0.01
        assert ended[Status.UNKNOWN.number] > MESSAGES * 0.001
        await books_balance(way.database)
