"""What users of today's gateways suffer, and what none of those gateways has: a test for each that touches the way.

The numbers are those of the list the house was planned by: 25 pains, read from public issue threads, and 15
openings. Each is shown here, by a test named after it; or in SHOWN_ELSEWHERE; or stands in LATER with the reason.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

import make
from channels.centre import Centre, Talk, receipt
from hongyan import clock, db
from hongyan.simulator import behaviour
from hongyan.simulator.behaviour import Rule
from hongyan.simulator.server import Simulator
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import STATUS_BY_NUMBER, ChannelId, Purpose, Status
from hongyan.way import charge, lanes, lookup, optout, prune
from hongyan.way.accept import Accepted, Draft
from hongyan.way.snapshot import Keeper
from hongyan.wire import smpp
from plane import QUICK, Plane, add_tenant, awake, books_balance, install, plane, running

SHOWN_ELSEWHERE: Final = {
    "pain 4": "way/test_notify.py::test_all_of_2000_notices_arrive_when_the_endpoint_fails_half_of_the_time",
    "pain 5": "doors/test_protocols.py::test_receipts_wait_while_the_customer_is_away",
    "pain 6": "channels/test_smpp_words.py::test_pain_6_every_state_word_makes_a_report",
    "pain 7": "channels/test_sessions.py::test_pain_7_a_throttled_parcel_asks_for_its_report_again",
    "pain 9": "channels/test_sessions.py::test_gotcha_26_throttling_pauses_the_channel_and_keeps_the_order",
    "pain 11": "channels/test_sessions.py::test_gotcha_27_the_window_is_never_exceeded",
    "pain 14": "channels/test_sessions.py::test_pain_14_a_half_open_peer_is_noticed_and_replaced",
    "pain 18": "channels/test_smpp_words.py::test_pain_18_both_widths_of_header_are_read_and_never_shown",
    "pain 19": "channels/test_smpp_words.py::test_pain_19_shift_tables_are_announced_even_in_a_single_part",
    "pain 20": "channels/test_sessions.py::test_pain_20_unknown_statuses_tags_and_pdus_do_not_kill_the_link",
    "pain 25": "way/test_optout.py::test_a_stop_in_any_wording_is_a_stop",
    "opening 5": "doors/test_mainland.py::"
    "test_a_submit_travels_to_a_handset_and_its_report_comes_back_under_its_id",
    "opening 6": "channels/test_sessions.py::"
    "test_gotcha_26_the_pause_doubles_while_throttling_goes_on_and_shrinks_with_quiet_time",
    "opening 7": "way/test_route.py::test_a_failing_channel_gets_a_probe_now_and_then_and_comes_back_by_it",
    "opening 10": "vocab/test_text.py::test_what_is_counted_is_what_is_sent",
    "opening 11": "way/test_accept.py::test_two_doors_never_spend_more_than_there_is_and_all_that_there_is",
    "opening 15": "simulator/test_server.py::test_every_handwriting_is_read_as_the_same_report",
}
LATER: Final = {
    "pain 10": "speed is measured beside Kannel in bench/, because tests never assert times",
    "pain 24": "the console, export and import come with the control plane; every command works without them",
    "opening 8": "sending a code again by another road belongs to the verification codes",
    "opening 14": "versions, dry runs and roll-back of the configuration come with the control plane",
}

WELL: Final = "report_delay_s=0.01"
PRICE: Final = 45_000  # a part, as make.price() lays it
COST: Final = 30_000  # a part, as plane.add_channel() lays it


def operator(words: str = WELL, *rules: str) -> Simulator:
    return Simulator(behaviour.parse(words), [Rule.read(rule) for rule in rules])


def numbers(count: int, prefix: str = "1380013") -> list[str]:
    return [f"{prefix}{n:04d}" for n in range(count)]


async def send_all(
    way: Plane, to: Sequence[str], purpose: Purpose = Purpose.TRANSACTIONAL, **fields: Any
) -> list[Accepted]:
    """One request with a message to each number; all must be promised."""
    outcomes = await way.accept(*(way.draft(number, purpose, **fields) for number in to))
    promised = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    assert len(promised) == len(to), outcomes
    return promised


async def statuses(way: Plane) -> dict[Status, int]:
    rows = await way.database.fetch("SELECT status, count(*) FROM message GROUP BY status")
    return {STATUS_BY_NUMBER[row["status"]]: row["count"] for row in rows}


def long_draft(way: Plane, text: str, number: str = "13800138000") -> Draft:
    return Draft(to=number, signature=way.signature, text=text, purpose=Purpose.TRANSACTIONAL)


# ---- the table


def test_every_pain_and_opening_is_in_exactly_one_place() -> None:
    here = [
        f"{kind} {number}"
        for kind, number in re.findall(r"def test_(pain|opening)_(\d+)_", Path(__file__).read_text("utf-8"))
    ]
    wanted = {f"pain {n}" for n in range(1, 26)} | {f"opening {n}" for n in range(1, 16)}
    assert sorted([*set(here), *SHOWN_ELSEWHERE, *LATER]) == sorted(wanted)


@pytest.mark.parametrize("test_id", SHOWN_ELSEWHERE.values())
def test_what_is_shown_elsewhere_is_there(test_id: str) -> None:
    path, _, name = test_id.partition("::")
    assert f"def {name}(" in (Path(__file__).parent / path).read_text("utf-8")


# ---- reports find their messages


@pytest.mark.parametrize(
    ("acked", "reported"), [("hex", "decimal"), ("hex_padded", "decimal"), ("decimal", "hex_upper")]
)
async def test_pain_1_ids_written_in_two_ways_meet(database: str, acked: str, reported: str) -> None:
    """Pain 1: the receipt names the id in another base, padding or case, and the gateway knows no such message."""
    words = f"report_delay_s=0.02 ack_id={acked} report_id={reported} receipt_tlvs=no"
    async with operator(words) as simulator, plane(database, simulator) as way:
        await send_all(way, numbers(30))
        await way.all_final()
        assert await statuses(way) == {Status.DELIVERED: 30}
        await books_balance(way.database)


async def test_pain_2_reports_that_overtake_their_acks_are_kept(database: str) -> None:
    """Pain 2: a receipt that comes before, or with, the submit response is dropped."""
    words = "report_delay_s=0 early_share=0.5 ack_delay_s=0..0.05 report_copies=2"
    async with operator(words) as simulator, plane(database, simulator) as way:
        await send_all(way, numbers(100))
        await way.all_final()
        assert await statuses(way) == {Status.DELIVERED: 100}
        await books_balance(way.database)


@pytest.mark.parametrize(("reported", "row"), [("all", "every"), ("first", "one"), ("last", "one")])
async def test_pain_3_a_long_message_is_final_by_whatever_reports_its_operator_sends(
    database: str, reported: str, row: str
) -> None:
    """Pain 3: an operator reports on the first or last part only, and long messages never end."""
    words = f"report_delay_s=0.05 report_parts={reported}"
    async with operator(words) as simulator, plane(database, simulator, row={"report_parts": row}) as way:
        (outcome,) = await way.accept(long_draft(way, "门" * 150))
        assert isinstance(outcome, Accepted)
        final = await way.final(outcome.id)
        assert (final["part_count"], final["status"]) == (3, Status.DELIVERED.number)
        assert final["cost_micro"] == 3 * COST
        assert await way.database.fetch("SELECT 1 FROM submitted") == []
        await books_balance(way.database)


async def test_pain_3_one_late_report_corrects_a_whole_long_message(database: str) -> None:
    """Pain 3, once more: the only report comes when every part was given up."""
    words = "report_delay_s=3 report_parts=first"
    async with operator(words) as simulator, plane(database, simulator, row={"report_parts": "one"}) as way:
        (outcome,) = await way.accept(long_draft(way, "门" * 150))
        assert isinstance(outcome, Accepted)
        await way.until("SELECT 1 FROM submitted HAVING count(*) = 3")
        async with way.database.transaction() as tx:
            await prune.give_up_overdue(tx, replace(QUICK, report_wait_s=0), clock.now())
        assert (await way.row(outcome.id))["status"] == Status.UNKNOWN.number
        corrected = await way.until("SELECT status, cost_micro, lost FROM message WHERE status = 1")
        assert (corrected["lost"], corrected["cost_micro"]) == (0, 3 * COST)
        assert [(row["kind"]) for row in await way.database.fetch("SELECT kind FROM notice ORDER BY id")] == [
            1,
            2,
        ]


@pytest.mark.parametrize("declined", [False, True])
async def test_pain_3_a_long_message_handed_over_whole_ends_by_one_report(
    database: str, declined: bool
) -> None:
    """Pain 3, where the text travels as one payload: it is billed by parts, and answered and reported once."""
    words = "refuse_status=11" if declined else WELL
    async with operator(words) as simulator, plane(database, simulator, split="payload") as way:
        (outcome,) = await way.accept(long_draft(way, "门" * 150))
        assert isinstance(outcome, Accepted)
        row = await way.final(outcome.id)
        assert (row["part_count"], simulator.statistics().submits) == (3, 1)
        assert (row["status"], row["cost_micro"], row["refund_micro"]) == (
            (Status.UNDELIVERED.number, 0, 3 * PRICE) if declined else (Status.DELIVERED.number, 3 * COST, 0)
        )
        await books_balance(way.database)


# ---- pace


async def test_pain_8_a_rate_is_kept_in_parts(database: str) -> None:
    """Pain 8: the gateway counts messages where the operator counts parts, and is throttled without end."""
    async with (
        operator(f"{WELL} parts_per_s_max=100") as simulator,
        plane(database, simulator, row={"parts_per_s": 100}) as way,
    ):
        for number in numbers(50):
            await way.accept(long_draft(way, "门" * 150, number))
        await way.all_final()
        counted = simulator.statistics()
        assert (counted.parts, counted.refused) == (150, {})


# ---- nothing is stuck, nothing is lost


async def test_pain_12_what_a_dead_gateway_held_is_sent_by_another(database: str) -> None:
    """Pain 12: the broker stands alone: when its machine goes, so do the messages in it."""
    async with (
        operator("report_delay_s=0.05 ack_delay_s=0.05") as simulator,
        laid(database, simulator, window_size=5) as (pool, install_),
    ):
        async with running(pool, install_) as first:
            await first.up()
            await send_all(first, numbers(40), Purpose.OTP)
            await first.holds(lambda: simulator.statistics().parts >= 5)
            await first.die()
        for table, column in (("gateway", "seen_at"), ("session_lease", "until"), ("outbox", "due_at")):
            await pool.execute(f"UPDATE {table} SET {column} = now() - interval '1 minute'")
        async with running(pool, install_, number=2) as second:
            async with pool.transaction() as tx:
                assert await prune.release_left_behind(tx, QUICK, clock.now()) > 0
            await second.all_final()
            assert await statuses(second) == {Status.DELIVERED: 40}
            assert simulator.statistics().repeated_parts <= 5
            await books_balance(pool)


async def test_pain_13_a_restart_leaves_nothing_stuck(database: str) -> None:
    """Pain 13: after a restart a queue stays as it is, or one message is put back for ever."""
    async with (
        operator("report_delay_s=0.05 ack_delay_s=0.05") as simulator,
        laid(database, simulator) as (
            pool,
            install_,
        ),
    ):
        async with running(pool, install_) as first:
            await first.up()
            await send_all(first, numbers(40), Purpose.OTP)
            await first.holds(lambda: simulator.statistics().parts > 0)
            await first.die()
        async with running(pool, install_) as second:
            await second.all_final()
            assert await statuses(second) == {Status.DELIVERED: 40}
            assert second.gateway.waiting() == [0, 0, 0]
            await books_balance(pool)


@asynccontextmanager
async def laid(dsn: str, *simulators: Simulator, **config: Any) -> AsyncIterator[tuple[db.Database, Any]]:
    """A database with an install in it that several lives of a plane can run over."""
    pool = await db.connect(dsn, QUICK)
    try:
        yield pool, await install(pool, [simulator.port for simulator in simulators], **config)
    finally:
        await pool.close()


@pytest.mark.parametrize("acks_lost", [0.0, 1.0])
async def test_opening_1_what_was_promised_survives_a_sudden_death(database: str, acks_lost: float) -> None:
    """Opening 1: nobody shows that a promise outlives kill -9; here none is lost, and doubles fit the window."""
    window = 10
    words = f"report_delay_s=0.05 ack_delay_s=0.02 ack_loss_share={acks_lost}"
    async with (
        operator(words) as simulator,
        laid(database, simulator, window_size=window) as (pool, install_),
    ):
        async with running(pool, install_) as first:
            await first.up()
            promised = await send_all(first, numbers(60), Purpose.OTP)
            await first.holds(lambda: simulator.statistics().parts >= window)
            await first.die()
        simulator.behave(behaviour.parse(WELL))
        async with running(pool, install_) as second:
            await second.all_final()
            assert await statuses(second) == {Status.DELIVERED: len(promised)}
            assert simulator.statistics().destinations == len(promised)
            assert simulator.statistics().repeated_parts <= window
            await books_balance(pool)


@pytest.mark.parametrize("late", [False, True])
async def test_pain_15_a_lost_ack_never_doubles_an_advert(database: str, late: bool) -> None:
    """Pain 15: the ack does not come, the gateway sends again, and the person reads the same advert twice."""
    delay_s = 0.8 if late else 0.05
    words = f"ack_loss_share=1 report_delay_s={delay_s}"
    async with operator(words) as simulator, plane(database, simulator, ack_wait_s=0.3) as way:
        message_id = await way.send(awake(), Purpose.PROMOTIONAL)
        final = await way.final(message_id)
        assert final["status"] == Status.DELIVERED.number
        assert simulator.statistics().parts == 1
        await books_balance(way.database)


async def test_opening_2_what_follows_a_lost_ack_is_decided_by_purpose(database: str) -> None:
    """Opening 2: a timeout has no defined end; here a code goes again, and an advert is asked about."""
    words = "report_loss_share=1 ack_id=hex"
    quick_to_ask = replace(QUICK, unsure_wait_s=0)
    async with operator(words) as simulator, plane(database, simulator, settings=quick_to_ask) as way:
        asked = await way.send(awake(), Purpose.PROMOTIONAL)
        assert (await way.final(asked))["status"] == Status.DELIVERED.number
        assert simulator.statistics().reports == 0
        simulator.behave(behaviour.parse("disconnect_after_submits=1 ack_loss_share=1 report_loss_share=1"))
        simulator.disconnect()
        code = await way.send("13800138001", Purpose.OTP)
        await way.holds(lambda: simulator.destination("13800138001").submits >= 2)
        simulator.behave(behaviour.parse(WELL))
        simulator.disconnect()
        assert (await way.final(code))["status"] == Status.DELIVERED.number
        await books_balance(way.database)


async def test_opening_3_how_an_operator_writes_ids_is_learned_and_shown(database: str) -> None:
    """Opening 3: nobody parks stray receipts and learns the id's dialect from the first pairs."""
    words = (
        "report_delay_s=0.02 ack_id=hex report_id=decimal receipt_tlvs=no early_share=0.3 ack_delay_s=0.02"
    )
    async with operator(words) as simulator, plane(database, simulator) as way:
        await send_all(way, numbers(30))
        await way.all_final()
        row = await way.until("SELECT dialect FROM dialect")
        (line,) = way.gateway.lines.open.values()
        assert row["dialect"] == line.channel.state().dialect != "auto"
        assert await way.database.fetch("SELECT 1 FROM early_report") == []
        assert await statuses(way) == {Status.DELIVERED: 30}


async def test_opening_4_every_part_has_its_own_id_status_and_cost(database: str) -> None:
    """Opening 4: nobody keeps a ledger by part from which status and money of the message follow."""

    def second_fails(talk: Talk, pdu: smpp.SubmitSm) -> None:
        place = len(talk.centre.submits)
        talk.ack(pdu, f"id{place}")
        talk.machine.send(receipt(f"id{place}", "UNDELIV" if place == 2 else "DELIVRD"), 0.0)

    async with Centre(second_fails) as centre:
        pool = await db.connect(database, QUICK)
        try:
            install_ = await install(pool, [centre.port])
            async with running(pool, install_) as way:
                (outcome,) = await way.accept(long_draft(way, "门" * 150))
                assert isinstance(outcome, Accepted)
                row = await way.final(outcome.id)
                async with pool.transaction() as tx:
                    story = await lookup.one(tx, way.keeper.current, way.vault, way.tenant_id, outcome.id)
                await books_balance(pool)
        finally:
            await pool.close()
    assert story is not None
    assert (row["status"], row["cost_micro"]) == (Status.UNDELIVERED.number, 3 * COST)
    assert [part.status for part in story.parts] == [
        Status.DELIVERED,
        Status.UNDELIVERED,
        Status.DELIVERED,
    ]
    assert {attempt.upstream_id for attempt in story.attempts} == {"id1", "id2", "id3"}


# ---- memory and texts


async def test_pain_16_nothing_is_remembered_of_what_is_over(database: str) -> None:
    """Pain 16: memory grows with every message until somebody restarts the gateway."""
    words = "report_delay_s=0.01 early_share=0.2 ack_delay_s=0.01 fail_share=0.2"
    async with operator(words) as simulator, plane(database, simulator) as way:
        await send_all(way, numbers(300))
        await way.all_final()
        await way.holds(lambda: way.gateway.ticker.idle and not way.gateway.lanes.mine)
        (line,) = way.gateway.lines.open.values()
        await way.holds(lambda: line.channel.state().window_used == 0)
        assert (line.waiting, line.reserved, line.open_promotional) == (0, 0, 0)
        assert all(not lane for lane in way.gateway.lanes._tenants)
        assert (len(way.acceptor._waiting.rows), way.acceptor._waiting.busy_keys) == (0, set())
        assert await way.database.fetch("SELECT 1 FROM outbox UNION ALL SELECT 1 FROM submitted") == []


@pytest.mark.parametrize("split", ["udh8", "udh16", "sar", "payload"])
async def test_pain_17_long_texts_arrive_as_they_were_written(database: str, split: str) -> None:
    """Pain 17: long texts in Unicode are garbled or cut where the parts meet."""
    texts = {
        "13800138001": "门" * 62 + "😀" + "路" * 40,  # the pair would straddle the border
        "13800138002": "😀" * 100,
        "13800138003": "نص طويل " * 20,
        "13800138004": "日本語と한국어 " * 15,
        "13800138005": "門" * 400,
    }
    async with operator() as simulator, plane(database, simulator, split=split) as way:
        await way.accept(*(long_draft(way, text, number) for number, text in texts.items()))
        await way.all_final()
        for number, text in texts.items():
            assert [seen.text for seen in simulator.phone(number)] == [f"【鸿雁】{text}"]


# ---- the choice of a channel


async def test_pain_21_what_waits_for_a_dead_channel_goes_by_another(database: str) -> None:
    """Pain 21: messages stay in the queue of the connector that is down though another would take them."""
    async with (
        operator("report_delay_s=0.01 ack_delay_s=0.1") as first,
        operator() as second,
        plane(database, first, second, window_size=5, row={"parts_per_s": 0}) as way,
    ):
        await way.up(2)
        promised = await send_all(way, numbers(60), Purpose.OTP)
        await way.holds(lambda: first.statistics().parts >= 5)
        await first.stop()
        await way.all_final()
        assert await statuses(way) == {Status.DELIVERED: len(promised)}
        assert second.statistics().parts >= 30
        await books_balance(way.database)
        await first.start()


async def test_pain_22_a_prefix_that_moved_is_routed_and_priced_as_its_new_operator(database: str) -> None:
    """Pain 22: routing and pricing by the true operator needs scripts that nobody understands; here it is a row."""
    async with operator() as mobile, operator() as telecom, plane(database, mobile, telecom) as way:
        one, two = way.laid.channels
        async with way.database.transaction() as tx:
            await tx.execute(
                "INSERT INTO prefix_override (prefix, operator, province) VALUES ('86138001380', 'telecom', '')"
            )
            await tx.execute("UPDATE route_rule SET operator = 'cmcc' WHERE channel_id = $1", one)
            await tx.execute("UPDATE route_rule SET operator = 'telecom' WHERE channel_id = $1", two)
            await make.price(tx, country="CN", operator="telecom", part_micro=70_000)
        await way.keeper.load()
        await way.up(2)
        moved, stayed = await way.send("13800138000"), await way.send("13800139000")
        assert [(row["channel_id"], row["price_micro"]) for row in (await way.final(moved), await way.final(stayed))] == [
            (two, 70_000),
            (one, PRICE),
        ]  # fmt: skip


async def test_pain_23_what_a_removed_channel_never_sent_is_paid_back(database: str) -> None:
    """Pain 23: money is taken although the connector is gone, and nobody finds out."""
    async with operator("bind_status=13") as simulator, plane(database, simulator) as way:
        async with way.database.transaction() as tx:
            before = await charge.balance_micro(tx, way.tenant_id)
        (outcome,) = await way.accept(way.draft(validity_s=1))
        assert isinstance(outcome, Accepted)
        await way.database.execute("UPDATE route_rule SET active = false")
        await way.database.execute("UPDATE channel SET active = false")
        await way.keeper.load()
        row = await way.final(outcome.id)
        assert (row["status"], row["refund_micro"]) == (Status.EXPIRED.number, PRICE)
        async with way.database.transaction() as tx:
            assert await charge.balance_micro(tx, way.tenant_id) == before
        await books_balance(way.database)


# ---- fairness, stops, explanations


async def test_opening_9_a_campaign_does_not_stand_before_a_code(database: str) -> None:
    """Opening 9: nobody bounds by how much a campaign delays a code; here by what has left already."""
    window = 4
    async with (
        operator("report_delay_s=0.01 ack_delay_s=0.02") as simulator,
        plane(database, simulator, window_size=window) as way,
    ):
        await way.up()
        await send_all(way, [awake(n) for n in range(150)], Purpose.PROMOTIONAL)
        await way.holds(lambda: simulator.statistics().parts >= window)
        await way.send("13900139000", Purpose.OTP)
        left_before = simulator.statistics().destinations
        await way.holds(lambda: simulator.destination("13900139000").submits == 1)
        order = list(simulator.destinations())
        assert order.index("13900139000") <= left_before + 2 * window
        assert len(order) < 150


async def test_opening_9_one_tenant_s_heap_does_not_bury_another_s(database: str) -> None:
    """Opening 9: nobody shares a channel between tenants; here they take turns."""
    async with (
        operator("report_delay_s=0.01 ack_delay_s=0.02") as simulator,
        plane(database, simulator, window_size=4) as way,
    ):
        async with way.database.transaction() as tx:
            await add_tenant(tx, way.vault, "hy_small", limits=make_no_limits(), countries=["CN"])
        await way.keeper.load()
        await way.up()
        await send_all(way, numbers(200))
        small = way.keeper.current.keys["hy_small"]
        await way.accept(*(way.draft(number) for number in numbers(8, "1390013")), key=small)
        left_before = simulator.statistics().destinations
        await way.holds(lambda: all(simulator.destination(n).submits for n in numbers(8, "1390013")))
        assert list(simulator.destinations()).index("13900130007") <= left_before + 8 * lanes.QUANTUM


def make_no_limits() -> str:
    return '{"otp": [0, 0, 0], "transactional": [0, 0, 0], "promotional": [0, 0, 0]}'


async def test_opening_12_a_stop_reaches_what_is_already_queued(database: str) -> None:
    """Opening 12: a stop is heard at the door only; here it also ends what waits behind it, and pays it back."""
    async with operator("bind_status=13") as simulator, plane(database, simulator) as way:
        stopper, other = awake(1), awake(2)
        queued = await way.send(stopper, Purpose.PROMOTIONAL)
        kept = await way.send(other, Purpose.PROMOTIONAL)
        index = (await way.row(queued))["phone_index"]
        stopped = [optout.Suppressed(index, way.tenant_id, "R")]
        async with way.database.transaction() as tx:
            await optout.stop(tx, stopped)
        for one in stopped:
            way.gateway.hear_stopped(f"{one.phone_index.hex()}:{one.tenant_id}")
        ended = await way.final(queued)
        assert (ended["status"], ended["cause"], ended["refund_micro"]) == (
            Status.REFUSED.number,
            Cause.OPTED_OUT.number,
            PRICE,
        )
        simulator.behave(behaviour.parse(WELL))
        assert (await way.final(kept))["status"] == Status.DELIVERED.number
        assert simulator.statistics().parts == 1
        await books_balance(way.database)


async def test_opening_13_every_message_tells_why_it_went_where(database: str) -> None:
    """Opening 13: nobody can say why a message took the channel it took, and what each hop answered."""
    async with operator() as down, operator() as up, plane(database, down, up) as way:
        await way.up(2)
        await down.stop()
        await way.holds(lambda: sum(way.gateway.sessions_by_channel().values()) == 1)
        message_id = await way.send()
        await way.final(message_id)
        await way.until("SELECT 1 FROM decision HAVING count(*) >= 2")
        async with way.database.transaction() as tx:
            keeper = Keeper(way.database, way.vault)
            story = await lookup.one(tx, await keeper.load(), way.vault, way.tenant_id, message_id)
        assert story is not None
        (attempt,) = story.attempts
        rules = bytes(story.decision or b"").decode()
        route_ = msgspec.json.decode(attempt.decision or b"{}")
        assert all(word in rules for word in ("suppression", "frequency", "balance"))
        names = way.keeper.current.channels
        went, passed_over = names[ChannelId(way.laid.channels[1])].name, names[way.laid.channels[0]].name
        assert attempt.channel == went
        assert all(name in str(route_) for name in (went, passed_over))
        assert (attempt.upstream_code, attempt.acked_at is None) == ("DELIVRD", False)
        await down.start()
