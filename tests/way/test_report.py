"""A report settles its part once, whoever tells it, whenever it comes and however its id is written."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec
import pytest

import make
from hongyan import clock, db
from hongyan.channels.channel import Report
from hongyan.simulator import behaviour
from hongyan.simulator.behaviour import Rule
from hongyan.simulator.server import Simulator
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import ChannelId, MessageId, Purpose, Status
from hongyan.way import charge, prune
from hongyan.way.drop import Dropped
from hongyan.way.early import reunite
from hongyan.way.tick import Acked, Gone
from plane import QUICK, Plane, awake, books_balance, pair, plane

PRICE: Final = 45_000  # a part, as make.price() lays it
COST: Final = 30_000  # of a part, as plane.add_channel() lays it
LONG: Final = "您的快递已到" + "门" * 140
LONG_PARTS: Final = 3
DELIVERED, UNKNOWN, UNDELIVERED = Status.DELIVERED.number, Status.UNKNOWN.number, Status.UNDELIVERED.number
OVERDUE: Final = timedelta(seconds=QUICK.report_wait_s + 1)


def operator(words: str = "", *rules: str) -> Simulator:
    return Simulator(
        behaviour.parse(f"report_delay_s=0.01 {words}"), [Rule.read(rule) for rule in rules], seed=1
    )


def number(place: int) -> str:
    return f"1380013{place:04d}"


async def send_long(one: Plane) -> MessageId:
    async with one.database.transaction() as tx:
        await make.template(tx, tenant_id=one.tenant_id, code="long", body=LONG)
    await one.keeper.load()
    one.key = one.keeper.current.keys[one.key.key_id]
    return await one.send(template="long", params={})


async def give_up(one: Plane, message_id: MessageId) -> None:
    """Let report_wait_s pass."""
    async with one.database.transaction() as tx:
        await prune.give_up_overdue(tx, QUICK, clock.now() + OVERDUE)
    assert (await one.row(message_id))["status"] == UNKNOWN


async def upstream_ids(one: Plane, message_id: MessageId) -> Sequence[str]:
    rows = await one.database.fetch(
        "SELECT upstream_id FROM submitted WHERE message_id = $1 ORDER BY part_index", message_id
    )
    return [row["upstream_id"] for row in rows]


def said(
    upstream_id: str, status: Status = Status.DELIVERED, cause: Cause = Cause.NONE, **fields: Any
) -> Report:
    return Report(upstream_id, status, cause, fields.pop("code", "DELIVRD"), clock.now_s(), **fields)


async def hear(one: Plane, *reports: Report, channel: int = 0) -> None:
    """Let a channel tell reports, and wait until they are stored or parked."""
    one.gateway.answers.reported(one.laid.channels[channel], reports)
    await one.holds(lambda: one.gateway.ticker.idle)


def watch(one: Plane, *, speaks_for_all: bool = False) -> list[Any]:
    """Note in their order the slots a tick gives back, and "left" where outbox rows went."""
    seen: list[Any] = []
    ticker = one.gateway.ticker
    ticker._outlet = msgspec.structs.replace(
        ticker._outlet,
        stored=lambda _channel_id, slots: seen.extend(slots),
        left=lambda ids: seen.extend("left" for _ in ids),
        speaks_for_all=lambda _channel_id: speaks_for_all,
    )
    return seen


NOWHERE: Final = ChannelId(77)  # a channel without a line: what it says is said by the test


def acked(one: Plane, message_id: MessageId, upstream_id: str, slot: Any, part: int = 1) -> None:
    one.gateway.ticker.acked(
        Acked(
            channel_id=NOWHERE, upstream_id=upstream_id, upstream_raw=None, tenant_id=one.tenant_id,
            message_id=message_id.bytes, part_index=part, attempt=1, sent_ms=int(clock.now_s() * 1000), cost_micro=COST,
            decision=0, slot=slot,
        )
    )  # fmt: skip


def gone(one: Plane, message_id: MessageId) -> None:
    one.gateway.ticker.gone(Gone(one.tenant_id, message_id.bytes))


async def balance_micro(one: Plane) -> int:
    async with one.database.transaction() as tx:
        return await charge.balance_micro(tx, one.tenant_id)


async def kinds_of_notices(one: Plane, message_id: MessageId) -> list[int]:
    rows = await one.database.fetch("SELECT kind FROM notice WHERE message_id = $1 ORDER BY id", message_id)
    return [row["kind"] for row in rows]


async def taken(one: Plane, message_id: MessageId, parts: int = 1) -> Sequence[str]:
    """Wait until the acks of all parts are stored; returns the parts' ids."""
    await one.until(
        "SELECT 1 WHERE (SELECT count(*) FROM submitted WHERE message_id = $1 AND state = 0) = $2"
        " AND NOT EXISTS (SELECT FROM outbox WHERE id = $1)",
        message_id,
        parts,
    )
    return await upstream_ids(one, message_id)


# ---- early


async def test_a_report_before_its_ack_is_kept(database: str) -> None:
    async with operator("early_share=1 ack_delay_s=1") as simulator, plane(database, simulator) as one:
        await one.up()
        message_id = await one.send()
        await one.until("SELECT 1 FROM early_report")
        await books_balance(one.database)
        assert (await one.final(message_id))["status"] == DELIVERED
        await books_balance(one.database)


async def test_an_early_report_outlives_the_gateway_that_took_it(database: str) -> None:
    """Between the tick that stores the ack and the one that settles the report, the gateway dies."""
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            message_id = await make.message(tx, world)
            upstream_id = await make.submitted(tx, world, message_id)
            await tx.execute(
                "INSERT INTO early_report (channel_id, upstream_id, status, cause, code, at)"
                " VALUES ($1, $2, 1, 0, 'DELIVRD', now())",
                world.channel_id, upstream_id,
            )  # fmt: skip
        async with world.database.transaction() as tx:
            found = await reunite(tx, [world.channel_id])
        assert [heard.upstream_id for heard in found] == [upstream_id]
        async with (
            world.database.transaction() as tx
        ):  # its finder dies before it settles it; the next one looks
            assert await reunite(tx, [world.channel_id]) == found


async def test_a_report_that_comes_with_its_ack_settles_it(database: str) -> None:
    async with operator("report_delay_s=0") as simulator, plane(database, simulator) as one:
        await one.accept(*(one.draft(number(n)) for n in range(200)))
        await one.all_final()
        (row,) = await one.database.fetch("SELECT count(*) AS n FROM message WHERE status = 1")
        assert row["n"] == 200
        await books_balance(one.database)


# ---- ids


@pytest.mark.parametrize(
    ("ack", "report", "dialect"),
    [
        ("decimal", "decimal", "as_is"),
        ("padded", "decimal", "as_is"),
        ("decimal", "padded", "as_is"),
        ("hex_upper", "hex", "as_is"),
        ("hex", "decimal", "hex_ack_dec_report"),
        ("hex_padded", "decimal", "hex_ack_dec_report"),
        ("decimal", "hex_upper", "dec_ack_hex_report"),
        ("uuid", "uuid", ""),
    ],
)
async def test_ids_are_matched_however_they_are_written(
    database: str, ack: str, report: str, dialect: str
) -> None:
    async with operator(f"ack_id={ack} report_id={report}") as simulator, plane(database, simulator) as one:
        for n in range(3):
            assert (await one.final(await one.send(number(n))))["status"] == DELIVERED
        if dialect:
            row = await one.until("SELECT dialect FROM dialect")
            assert row["dialect"] == dialect
            (line,) = one.gateway.lines.open.values()
            assert line.channel.state().dialect == dialect
        await books_balance(one.database)


async def test_a_learned_dialect_is_known_to_the_next_gateway(database: str) -> None:
    async with operator("ack_id=hex report_id=decimal") as simulator, plane(database, simulator) as one:
        await one.database.execute(
            "INSERT INTO dialect (channel_id, dialect) VALUES ($1, 'hex_ack_dec_report')",
            one.laid.channels[0],
        )
        await one.gateway.lines.dialects.load()
        await one.up()
        await one.final(await one.send())
        (line,) = one.gateway.lines.open.values()
        assert line.channel.state().dialect == "hex_ack_dec_report"
        await books_balance(one.database)


async def test_early_reports_in_another_dialect_find_their_acks(database: str) -> None:
    async with (
        operator("ack_id=hex report_id=decimal early_share=1 ack_delay_s=0.05") as simulator,
        plane(database, simulator) as one,
    ):
        for n in range(3):
            assert (await one.final(await one.send(number(n))))["status"] == DELIVERED
        await books_balance(one.database)


# ---- again and again


async def test_a_report_told_several_times_counts_once(database: str) -> None:
    async with operator("report_copies=3 copy_gap_s=0.02") as simulator, plane(database, simulator) as one:
        sent = [await one.send(number(n)) for n in range(10)]
        for message_id in sent:
            assert (await one.final(message_id))["status"] == DELIVERED
        await one.holds(lambda: simulator.statistics().reports_acked == 30)
        for message_id in sent:
            assert await kinds_of_notices(one, message_id) == [1]
        assert sorted(owed.message_id for owed in one.owed) == sorted(sent)
        await books_balance(one.database)


async def test_the_first_final_word_stands(database: str) -> None:
    async with operator("report_loss_share=1") as simulator, plane(database, simulator) as one:
        message_id = await one.send()
        (upstream_id,) = await taken(one, message_id)
        no = said(upstream_id, Status.UNDELIVERED, Cause.ABSENT, code="UNDELIV")
        await hear(one, said(upstream_id), no)
        await hear(one, no)
        row = await one.row(message_id)
        assert (row["status"], row["cause"], row["code"]) == (DELIVERED, 0, "DELIVRD")
        await books_balance(one.database)


async def test_intermediate_states_finish_nothing(database: str) -> None:
    words = "intermediate=ENROUTE,ACCEPTD report_delay_s=0.1 report_copies=1"
    async with operator(words) as simulator, plane(database, simulator) as one:
        await one.up()
        message_id = await one.send()
        await one.holds(lambda: simulator.statistics().reports_acked >= 2)
        assert (await one.final(message_id))["status"] == DELIVERED
        assert await kinds_of_notices(one, message_id) == [1]
        await books_balance(one.database)


async def test_an_intermediate_state_alone_leaves_the_message_open(database: str) -> None:
    async with operator("report_loss_share=1") as simulator, plane(database, simulator) as one:
        message_id = await one.send()
        (upstream_id,) = await taken(one, message_id)
        await hear(one, said(upstream_id, Status.SUBMITTED, final=False, code="ENROUTE"))
        assert await upstream_ids(one, message_id) == [upstream_id]
        await books_balance(one.database)


# ---- parts


async def test_a_long_message_is_final_when_its_last_part_is(database: str) -> None:
    async with operator("report_loss_share=1") as simulator, plane(database, simulator) as one:
        message_id = await send_long(one)
        ids = await taken(one, message_id, LONG_PARTS)
        await hear(one, said(ids[1]))
        await hear(one, said(ids[0], Status.UNDELIVERED, Cause.ABSENT, code="UNDELIV"))
        assert (await one.row(message_id))["status"] == 0
        await books_balance(one.database)
        await hear(one, said(ids[2]))
        row = await one.row(message_id)
        assert (row["status"], row["cause"], row["code"]) == (UNDELIVERED, Cause.ABSENT.number, "UNDELIV")
        assert row["cost_micro"] == LONG_PARTS * COST
        assert await kinds_of_notices(one, message_id) == [1]
        await books_balance(one.database)


@pytest.mark.parametrize("which", ["first", "last"])
async def test_one_report_may_stand_for_all_parts(database: str, which: str) -> None:
    async with (
        operator(f"report_parts={which}") as simulator,
        plane(database, simulator, row={"report_parts": "one"}) as one,
    ):
        message_id = await send_long(one)
        row = await one.final(message_id)
        assert row["status"] == DELIVERED
        await one.holds(lambda: one.gateway.ticker.idle)
        assert await upstream_ids(one, message_id) == []
        assert (await one.row(message_id))["cost_micro"] == LONG_PARTS * COST
        await books_balance(one.database)


async def test_one_report_for_all_parts_that_overtakes_their_acks_settles_them(database: str) -> None:
    async with (
        operator("report_parts=first report_delay_s=0 early_share=1") as simulator,
        plane(database, simulator, row={"report_parts": "one"}) as one,
    ):
        message_id = await send_long(one)
        assert (await one.final(message_id))["status"] == DELIVERED
        await one.holds(lambda: one.gateway.ticker.idle)
        assert await upstream_ids(one, message_id) == []
        await books_balance(one.database)


async def test_two_reports_of_a_message_each_standing_for_all_parts_settle_each_part_once(
    database: str,
) -> None:
    async with plane(database) as one:
        watch(one, speaks_for_all=True)
        message_id = await send_long(one)
        for part in range(1, LONG_PARTS + 1):
            acked(one, message_id, f"u{part}", part, part)
        gone(one, message_id)
        await one.holds(lambda: one.gateway.ticker.idle)
        one.gateway.ticker.reported(NOWHERE, [said("u1"), said("u2")])
        assert (await one.final(message_id))["status"] == DELIVERED
        row = await one.row(message_id)
        assert (row["pending"], row["cost_micro"]) == (0, LONG_PARTS * COST)
        assert sorted(attempt[1] for attempt in json.loads(row["attempts"])) == list(range(1, LONG_PARTS + 1))
        assert await upstream_ids(one, message_id) == []
        await books_balance(one.database)


async def test_the_parts_of_a_message_declined_and_taken_fold(database: str) -> None:
    async with operator("refuse_status=11 refuse_share=0.5") as simulator, plane(database, simulator) as one:
        message_id = await send_long(one)
        row = await one.final(message_id)
        assert (row["status"], row["cause"]) == (UNDELIVERED, Cause.INVALID_NUMBER.number)
        parts = simulator.statistics().parts
        assert 0 < parts < LONG_PARTS
        assert row["refund_micro"] == (LONG_PARTS - parts) * PRICE
        await books_balance(one.database)


# ---- late


@pytest.mark.parametrize("late", [Status.DELIVERED, Status.UNDELIVERED])
async def test_a_late_report_corrects_unknown_and_says_so(database: str, late: Status) -> None:
    async with operator("report_loss_share=1") as simulator, plane(database, simulator) as one:
        message_id = await one.send()
        (upstream_id,) = await taken(one, message_id)
        await give_up(one, message_id)
        await books_balance(one.database)
        cause = Cause.NONE if late is Status.DELIVERED else Cause.ABSENT
        await hear(one, said(upstream_id, late, cause))
        row = await one.row(message_id)
        assert (row["status"], row["cause"]) == (late.number, cause.number)
        assert await kinds_of_notices(one, message_id) == [1, 2]
        await books_balance(one.database)
        cells = await one.database.fetch(
            "SELECT status, cause, sum(messages)::int AS n, sum(cost_micro)::int AS cost_micro FROM tally"
            " WHERE status > 0 GROUP BY 1, 2 HAVING sum(messages) <> 0 OR sum(cost_micro) <> 0"
        )
        assert [tuple(cell) for cell in cells] == [(late.number, cause.number, 1, COST)]


async def test_a_long_message_is_corrected_once_all_its_lost_parts_are_found(database: str) -> None:
    async with operator("report_loss_share=1") as simulator, plane(database, simulator) as one:
        message_id = await send_long(one)
        ids = await taken(one, message_id, LONG_PARTS)
        await hear(one, said(ids[0]))
        await give_up(one, message_id)
        await hear(one, said(ids[1]))
        row = await one.row(message_id)
        assert (row["status"], row["cause"]) == (UNKNOWN, Cause.NO_REPORT.number)
        assert await kinds_of_notices(one, message_id) == [1]
        await books_balance(one.database)
        await hear(one, said(ids[2]))
        row = await one.row(message_id)
        assert (row["status"], row["cause"]) == (DELIVERED, 0)
        assert await kinds_of_notices(one, message_id) == [1, 2]
        await books_balance(one.database)
        cells = await one.database.fetch(
            "SELECT status, cause, sum(messages)::int AS n, sum(cost_micro)::int AS cost_micro FROM tally"
            " WHERE status > 0 GROUP BY 1, 2 HAVING sum(messages) <> 0 OR sum(cost_micro) <> 0"
        )
        assert [tuple(cell) for cell in cells] == [(DELIVERED, 0, 1, LONG_PARTS * COST)]


async def test_one_late_report_for_all_parts_corrects_the_message(database: str) -> None:
    async with (
        operator("report_loss_share=1") as simulator,
        plane(database, simulator, row={"report_parts": "one"}) as one,
    ):
        message_id = await send_long(one)
        ids = await taken(one, message_id, LONG_PARTS)
        await give_up(one, message_id)
        await hear(one, said(ids[0]))
        assert (await one.row(message_id))["status"] == DELIVERED
        assert await kinds_of_notices(one, message_id) == [1, 2]
        await books_balance(one.database)


# ---- elsewhere


@pytest.mark.parametrize("purpose", [Purpose.OTP, Purpose.TRANSACTIONAL])
async def test_a_message_that_failed_for_its_channel_is_tried_once_on_another(
    database: str, purpose: Purpose
) -> None:
    async with (
        operator("report_loss_share=1") as first,
        operator() as second,
        plane(database, first, second) as one,
    ):
        await one.up(2)
        message_id = await one.send(purpose=purpose)
        (upstream_id,) = await taken(one, message_id)
        await hear(one, said(upstream_id, Status.UNDELIVERED, Cause.NO_ROUTE, code="NOROUTE"))
        row = await one.final(message_id)
        assert (row["status"], row["cause"], row["channel_id"]) == (DELIVERED, 0, one.laid.channels[1])
        assert (first.statistics().parts, second.statistics().parts) == (1, 1)
        assert row["cost_micro"] == 2 * COST
        assert await kinds_of_notices(one, message_id) == [1]
        await books_balance(one.database)


async def test_while_it_waits_for_another_channel_it_is_valid_as_long_as_before(database: str) -> None:
    async with (
        operator("report_loss_share=1") as first,
        operator("ack_delay_s=60") as silent,
        plane(database, first, silent) as one,
    ):
        await one.up(2)
        message_id = await one.send()
        (upstream_id,) = await taken(one, message_id)
        await hear(one, said(upstream_id, Status.UNDELIVERED, Cause.NETWORK, code="ONE"))
        await one.until(
            "SELECT 1 FROM outbox JOIN message USING (tenant_id, id, expires_at) WHERE outbox.attempt = 2"
        )


async def test_it_is_never_tried_a_third_time(database: str) -> None:
    async with (
        operator("report_loss_share=1") as first,
        operator("report_loss_share=1") as second,
        operator() as third,
        plane(database, first, second, third) as one,
    ):
        await one.up(3)
        message_id = await one.send()
        (upstream_id,) = await taken(one, message_id)
        await hear(one, said(upstream_id, Status.UNDELIVERED, Cause.NETWORK, code="ONE"))
        await one.holds(lambda: second.statistics().parts == 1)
        (upstream_id,) = await taken(one, message_id)
        await hear(one, said(upstream_id, Status.UNDELIVERED, Cause.NETWORK, code="TWO"), channel=1)
        row = await one.final(message_id)
        assert (row["status"], row["code"], row["attempt"]) == (UNDELIVERED, "TWO", 2)
        assert third.statistics().submits == 0
        await books_balance(one.database)


@pytest.mark.parametrize(
    ("purpose", "cause"), [(Purpose.PROMOTIONAL, Cause.NETWORK), (Purpose.TRANSACTIONAL, Cause.ABSENT)]
)
async def test_promotions_and_other_failures_are_not_tried_again(
    database: str, purpose: Purpose, cause: Cause
) -> None:
    async with (
        operator("report_loss_share=1") as first,
        operator() as second,
        plane(database, first, second) as one,
    ):
        await one.up(2)
        message_id = await one.send(awake(), purpose)
        (upstream_id,) = await taken(one, message_id)
        await hear(one, said(upstream_id, Status.UNDELIVERED, cause))
        assert (await one.row(message_id))["status"] == UNDELIVERED
        assert second.statistics().submits == 0
        await books_balance(one.database)


async def test_where_no_other_channel_is_left_the_first_failure_stands(database: str) -> None:
    """The other channel that is up is not one the rules allow."""
    async with (
        operator("report_loss_share=1") as first,
        operator() as second,
        plane(database, first, second) as one,
    ):
        await one.database.execute(
            "UPDATE route_rule SET country = 'FR' WHERE channel_id = $1", one.laid.channels[1]
        )
        await one.keeper.load()
        await one.up(2)
        message_id = await one.send()
        (upstream_id,) = await taken(one, message_id)
        await hear(one, said(upstream_id, Status.UNDELIVERED, Cause.NO_ROUTE, code="NOROUTE"))
        row = await one.final(message_id)
        assert (row["status"], row["cause"], row["code"]) == (UNDELIVERED, Cause.NO_ROUTE.number, "NOROUTE")
        assert (row["refund_micro"], second.statistics().submits) == (0, 0)
        await books_balance(one.database)


# ---- an upstream that does not know


async def test_what_the_operator_does_not_know_is_unknown_and_not_delivered(database: str) -> None:
    async with (
        operator("state=UNKNOWN") as simulator,
        plane(database, simulator, tenant={"charge_on": "delivery"}) as one,
    ):
        before = await balance_micro(one)
        row = await one.final(await one.send())
        assert (row["status"], row["cause"]) == (UNKNOWN, Cause.UNKNOWN.number)
        assert await balance_micro(one) == before
        await books_balance(one.database)


async def test_a_part_the_operator_does_not_know_makes_the_message_unknown(database: str) -> None:
    async with operator("report_loss_share=1") as simulator, plane(database, simulator) as one:
        message_id = await send_long(one)
        ids = await taken(one, message_id, LONG_PARTS)
        await hear(one, said(ids[0], Status.UNKNOWN, Cause.UNKNOWN))
        await hear(one, said(ids[1]), said(ids[2]))
        assert (await one.row(message_id))["status"] == UNKNOWN
        await books_balance(one.database)


# ---- money


async def test_who_pays_on_delivery_gets_back_what_was_not_delivered(database: str) -> None:
    async with (
        operator("", f"{number(1)}: state=UNDELIV err=MK:0001") as simulator,
        plane(database, simulator, tenant={"charge_on": "delivery"}) as one,
    ):
        before = await balance_micro(one)
        good, bad = await one.final(await one.send(number(0))), await one.final(await one.send(number(1)))
        assert (good["refund_micro"], bad["refund_micro"]) == (0, PRICE)
        assert await balance_micro(one) == before - PRICE
        await books_balance(one.database)


async def test_who_pays_on_submit_gets_nothing_back_for_what_was_not_delivered(database: str) -> None:
    async with operator("state=UNDELIV err=MK:0001") as simulator, plane(database, simulator) as one:
        before = await balance_micro(one)
        row = await one.final(await one.send())
        assert (row["status"], row["cause"]) == (UNDELIVERED, Cause.INVALID_NUMBER.number)
        assert await balance_micro(one) == before - PRICE
        await books_balance(one.database)


# ---- what is no report of ours


@pytest.mark.parametrize("claim", ["DELIVRD", "UNDELIV"])
async def test_no_handset_can_forge_a_report(database: str, claim: str) -> None:
    async with (
        operator(f"report_loss_share=1 forge={claim}") as simulator,
        plane(database, simulator) as one,
    ):
        message_id = await one.send()
        await one.holds(lambda: one.inbound)
        assert one.inbound[0].text.startswith("id:")
        await taken(one, message_id)
        assert await one.database.fetch("SELECT 1 FROM early_report") == []
        await books_balance(one.database)


async def test_a_report_from_another_channel_settles_nothing(database: str) -> None:
    async with (
        operator("report_loss_share=1") as first,
        operator() as second,
        plane(database, first, second) as one,
    ):
        await one.up(2)
        message_id = await one.send()
        (upstream_id,) = await taken(one, message_id)
        await hear(one, said(upstream_id), channel=1)
        assert await upstream_ids(one, message_id) == [upstream_id]
        await books_balance(one.database)


GARBAGE: Final = (
    said("", code=""),
    said("no such id", number="+8613800139999"),
    said("9" * 64, candidates=("f" * 64, "")),
    said("-1", Status.UNKNOWN, Cause.UNKNOWN, code="\x00\x00NUL"),
    said("\x00", number="\x00", code="\ud800"),
    said("'; DROP TABLE message; --", code="x" * 70_000),
    said("é" * 300, number="not a number"),
)


async def test_garbage_changes_nothing_and_is_counted(database: str) -> None:
    async with operator("report_loss_share=1") as simulator, plane(database, simulator) as one:
        message_id = await one.send()
        (upstream_id,) = await taken(one, message_id)
        for report in GARBAGE:
            await hear(one, report)
        await hear(one, *GARBAGE)
        assert f"parked_reports_total {2.0 * len(GARBAGE)}" in one.counters.render().decode()
        assert await upstream_ids(one, message_id) == [upstream_id]
        await books_balance(one.database)
        await hear(one, *GARBAGE, said(upstream_id))
        assert (await one.row(message_id))["status"] == DELIVERED
        await books_balance(one.database)


async def test_an_operator_with_unreadable_words_stops_nobody(database: str) -> None:
    """Its own code carries octets that no database text can hold."""
    odd = behaviour.Behaviour(
        report_delay_s=behaviour.Span(0.01, 0.01), state=behaviour.State.UNDELIV, err="\x00\x80\xff:\x00"
    )
    async with Simulator(odd, seed=1) as simulator, plane(database, simulator) as one:
        sent = [await one.send(number(n)) for n in range(3)]
        for message_id in sent:
            assert (await one.final(message_id))["status"] == UNDELIVERED
        await books_balance(one.database)


async def test_a_tick_that_the_database_breaks_off_for_another_is_done_again(database: str) -> None:
    """Two writers lock the same messages in another order, and the database ends one of them."""
    async with operator("report_loss_share=1") as simulator, plane(database, simulator) as one:
        sent = [await one.send(number(n)) for n in range(3)]
        ids = [(await taken(one, message_id))[0] for message_id in sent]
        lock = "UPDATE message SET attempts = NULL WHERE id = $1"
        try:
            async with one.database.transaction() as tx:
                await tx.execute(lock, sent[1])
                one.gateway.answers.reported(one.laid.channels[0], [said(upstream_id) for upstream_id in ids])
                await one.until("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                await tx.execute(lock, sent[0])
                await tx.execute(lock, sent[2])
        except db.Unavailable:
            pass  # it was us who had to go
        await one.all_final()
        await books_balance(one.database)


# ---- what no statement can take


async def test_acks_that_name_one_id_are_stored_one_after_the_other(database: str) -> None:
    """Some upstreams give all parts of a long message one id, and one report."""
    async with plane(database) as one:
        seen = watch(one, speaks_for_all=True)
        message_id = await send_long(one)
        for part in range(1, LONG_PARTS + 1):
            acked(one, message_id, "same", part, part)
        gone(one, message_id)
        await one.holds(lambda: one.gateway.ticker.idle)
        assert seen == [1, 2, "left", 3]  # no row goes before all acks of its parts are stored
        one.gateway.ticker.reported(NOWHERE, [said("same")])
        assert (await one.final(message_id))["status"] == DELIVERED
        await books_balance(one.database)


async def test_an_ack_that_waits_for_another_of_its_id_holds_up_only_its_own_message(database: str) -> None:
    async with plane(database) as one:
        seen = watch(one)
        first, second, third = [await one.send(number(n)) for n in range(3)]
        acked(one, first, "same", 1)
        acked(one, second, "other", 2)
        acked(one, third, "same", 3)
        gone(one, second)
        one.gateway.ticker.dropped(
            Dropped(one.tenant_id, third.bytes, 1, Status.UNDELIVERED, Cause.NETWORK, "", slots=("drop",))
        )
        gone(one, first)
        await one.holds(lambda: one.gateway.ticker.idle)
        assert seen == ["left", "left", 1, 2, 3, "left", "drop"]


async def test_an_ack_that_cannot_be_stored_leaves_its_part_unsure_and_stops_nobody(database: str) -> None:
    async with plane(database) as one:
        seen = watch(one)
        sent = [await one.send(number(n)) for n in range(9)]
        for place, message_id in enumerate(sent):
            acked(one, message_id, "\0" if place == 4 else f"id{place}", place)
            gone(one, message_id)
        await one.holds(lambda: one.gateway.ticker.idle)
        assert sorted(slot for slot in seen if slot != "left") == list(range(9))
        assert await one.database.fetch("SELECT 1 FROM outbox") == []
        (unsure,) = await one.database.fetch("SELECT message_id FROM submitted WHERE state = 1")
        assert unsure["message_id"] == sent[4]
        one.gateway.ticker.reported(NOWHERE, [said(f"id{n}") for n in range(9)])
        for message_id in (*sent[:4], *sent[5:]):
            assert (await one.final(message_id))["status"] == DELIVERED
        await give_up(one, sent[4])
        await books_balance(one.database)


@pytest.mark.parametrize("at_s", [1e13, 1e30])  # beyond PostgreSQL's time, beyond the driver's integers
async def test_a_report_that_cannot_be_stored_settles_nothing_and_stops_nobody(
    database: str, at_s: float
) -> None:
    async with plane(database) as one:
        seen = watch(one)
        sent = [await one.send(number(n)) for n in range(9)]
        for place, message_id in enumerate(sent):
            acked(one, message_id, f"id{place}", None)
            gone(one, message_id)
        await one.holds(lambda: one.gateway.ticker.idle)
        reports = [said(f"id{place}", slot=place) for place in range(9)]
        reports[4] = msgspec.structs.replace(reports[4], at_s=at_s)
        one.gateway.ticker.reported(NOWHERE, reports)
        for message_id in (*sent[:4], *sent[5:]):
            assert (await one.final(message_id))["status"] == DELIVERED
        await one.holds(lambda: one.gateway.ticker.idle)
        assert sorted(slot for slot in seen if isinstance(slot, int)) == list(range(9))
        await give_up(one, sent[4])
        await books_balance(one.database)


async def test_a_report_that_cannot_be_parked_stops_nobody(database: str) -> None:
    async with plane(database) as one:
        seen = watch(one)
        reports = [said(f"no such id {place}", slot=place) for place in range(5)]
        reports[2] = msgspec.structs.replace(reports[2], at_s=1e13)
        one.gateway.ticker.reported(NOWHERE, reports)
        await one.holds(lambda: one.gateway.ticker.idle)
        assert sorted(seen) == list(range(5))
        parked = await one.database.fetch("SELECT upstream_id FROM early_report ORDER BY 1")
        assert [row["upstream_id"][-1] for row in parked] == ["0", "1", "3", "4"]


async def test_reports_shared_out_to_two_gateways_settle_each_once(database: str) -> None:
    async with (
        operator("report_delay_s=0.05 report_copies=2") as simulator,
        pair(database, simulator, row={"sessions": 2}) as (first, second),
    ):
        await first.until("SELECT 1 WHERE (SELECT count(*) FROM gateway) = 2")
        await first.database.execute("UPDATE session_lease SET until = now()")
        await first.holds(
            lambda: all(sum(one.gateway.sessions_by_channel().values()) == 1 for one in (first, second))
        )
        for one, start in ((first, 0), (second, 50)):
            await one.accept(*(one.draft(number(start + n)) for n in range(50)))
        await first.all_final()
        await first.holds(lambda: simulator.statistics().reports_acked == 200)
        await books_balance(first.database)
