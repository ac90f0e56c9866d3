"""Real conversations over loopback: every trouble the operator can make, met by a real client session."""

import asyncio
import json
from pathlib import Path

import pytest

from hongyan.simulator import Behaviour, BehaviourError, Door, Protocol, Rule, Simulator, parse, serve
from hongyan.simulator.behaviour import CodePlace, Receipt
from hongyan.simulator.record import Statistics
from hongyan.vocab.text import Encoding, Split
from hongyan.wire import smpp
from hongyan.wire.smpp import CommandStatus, MessageState
from ports import free_port
from simulator.esme import NUMBER, SENDER, Esme, submission
from simulator.hearing import PATIENCE_S

SWIFT = "report_delay_s=0.005 "  # and nothing is sent again unless that is a test's law


def build(words: str = "", *rules: str, lines: Path | None = None) -> Simulator:
    return Simulator(parse(SWIFT + words), [Rule.read(rule) for rule in rules], seed=7, lines=lines)


async def test_a_text_is_acked_reported_and_read_on_the_phone() -> None:
    async with build() as simulator, await Esme.bound(simulator.port) as esme:
        esme.text(octets=b"hello")
        [ack] = await esme.acks()
        [receipt] = await esme.receipts()
        assert (receipt.message_id, receipt.state) == (ack.message_id, MessageState.DELIVERED)
        [deliver] = esme.of(smpp.DeliverSm)
        assert (deliver.source_addr, deliver.destination_addr) == (NUMBER, SENDER)
        assert [(text.sender, text.text) for text in simulator.phone("+86" + NUMBER)] == [(SENDER, "hello")]


async def test_ids_are_never_given_twice_and_statistics_count_everything() -> None:
    async with build() as simulator, await Esme.bound(simulator.port) as esme:
        for at in range(50):
            esme.text(number=f"138{at:08}")
        acks = await esme.acks(50)
        await esme.receipts(50)
        assert len({ack.message_id for ack in acks}) == 50
        # A round trip behind the last answer: the operator has heard all of ours.
        esme.submit(smpp.QuerySm(message_id=acks[0].message_id))
        await esme.until(lambda: bool(esme.of(smpp.QuerySmResp)))
        counted = simulator.statistics()
        assert (counted.sessions, counted.submits, counted.parts, counted.acks) == (1, 50, 50, 50)
        assert (counted.reports, counted.reports_acked, counted.owed) == (50, 50, 0)
        assert (counted.destinations, counted.repeated_parts) == (50, 0)
        assert simulator.destination("13800000007").reports_acked == 1


async def test_a_part_that_comes_twice_is_counted_as_repeated() -> None:
    async with build() as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        esme.text()
        await esme.acks(2)
        assert simulator.statistics().repeated_parts == 1
        assert simulator.destination(NUMBER).submits == 2


async def test_an_early_report_overtakes_its_ack() -> None:
    async with (
        build("early_share=1 ack_delay_s=0.005") as simulator,
        await Esme.bound(simulator.port) as esme,
    ):
        esme.text()
        [ack] = await esme.acks()
        assert [type(pdu) for pdu in esme.heard] == [
            smpp.BindTransceiverResp,
            smpp.DeliverSm,
            smpp.SubmitSmResp,
        ]
        [receipt] = await esme.receipts()
        assert receipt.message_id == ack.message_id


async def test_late_reports_come_after_those_submitted_behind_them() -> None:
    late = f"{NUMBER}: late_share=1 late_delay_s=0.05"
    async with build("", late) as simulator, await Esme.bound(simulator.port) as esme:
        esme.submit(submission(), submission(number="13900000000"))
        await esme.receipts(2)
        assert [deliver.source_addr for deliver in esme.of(smpp.DeliverSm)] == ["13900000000", NUMBER]


async def test_duplicate_reports_say_the_same() -> None:
    async with (
        build("report_copies=3 copy_gap_s=0.002") as simulator,
        await Esme.bound(simulator.port) as esme,
    ):
        esme.text()
        receipts = await esme.receipts(3)
        assert len({(receipt.message_id, receipt.state) for receipt in receipts}) == 1
        assert [text.text for text in simulator.phone(NUMBER)] == ["hello"]


async def test_hex_in_the_ack_and_decimal_in_the_report_are_one_number() -> None:
    async with build("ack_id=hex") as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        [ack] = await esme.acks()
        [receipt] = await esme.receipts()
        assert ack.message_id != receipt.message_id
        assert int(ack.message_id, 16) == int(receipt.message_id)


async def test_an_empty_id_is_no_id() -> None:
    async with build("ack_id=empty") as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        [ack] = await esme.acks()
        assert (ack.command_status, ack.message_id) == (0, "")


async def test_only_part_one_is_reported_and_the_phone_joins_both() -> None:
    async with build("report_parts=first") as simulator, await Esme.bound(simulator.port) as esme:
        for index in (2, 1):
            esme.text(
                octets=bytes((5, 0, 3, 77, 2, index)) + f"part {index} ".encode(), esm_class=smpp.ESM_UDHI
            )
        esme.text(number="13900000000")  # reported after both parts would have been
        acks = await esme.acks(3)
        receipts = await esme.receipts(2)
        assert [receipt.message_id for receipt in receipts] == [acks[1].message_id, acks[2].message_id]
        assert [text.text for text in simulator.phone(NUMBER)] == ["part 1 part 2 "]


async def test_sar_and_payload_reach_the_phone_too() -> None:
    async with build() as simulator, await Esme.bound(simulator.port) as esme:
        for index in (1, 2):
            tlvs = (
                smpp.TLVS.write("sar_msg_ref_num", 9),
                smpp.TLVS.write("sar_total_segments", 2),
                smpp.TLVS.write("sar_segment_seqnum", index),
            )
            esme.submit(
                smpp.SubmitSm(destination_addr=NUMBER, short_message=b"ab", tlvs=tlvs, registered_delivery=1)
            )
        payload = (smpp.TLVS.write("message_payload", "雁".encode("utf-16-be") * 100),)
        esme.submit(
            smpp.SubmitSm(destination_addr=NUMBER, data_coding=8, tlvs=payload, registered_delivery=1)
        )
        esme.submit(smpp.DataSm(destination_addr=NUMBER, data_coding=8, tlvs=payload, registered_delivery=1))
        await esme.receipts(4)
        assert [ack.command_status for ack in esme.of(smpp.DataSmResp)] == [0]
        assert [text.text for text in simulator.phone(NUMBER)] == ["abab", "雁" * 100, "雁" * 100]


async def test_above_its_rate_the_operator_throttles() -> None:
    async with build("parts_per_s_max=3") as simulator, await Esme.bound(simulator.port) as esme:
        esme.submit(*[submission()] * 6)
        statuses = [ack.command_status for ack in await esme.acks(6)]
        assert statuses[:3] == [0, 0, 0]
        assert statuses[5] == CommandStatus.THROTTLED
        assert simulator.statistics().refused["0x00000058"] >= 1


async def test_a_full_queue_refuses_until_a_part_has_its_fate() -> None:
    async with build("queue_parts_max=1") as simulator, await Esme.bound(simulator.port) as esme:
        esme.submit(submission(), submission())
        assert [ack.command_status for ack in await esme.acks(2)] == [0, CommandStatus.MSGQFUL]
        await esme.receipts()
        esme.text()
        assert (await esme.acks(3))[2].command_status == 0


async def test_a_disconnect_comes_at_the_submit_it_was_asked_for() -> None:
    async with build("disconnect_after_submits=2") as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        esme.text()
        await esme.ended()
        assert len(esme.of(smpp.SubmitSmResp)) == 2
        assert simulator.statistics().disconnects == 1


async def test_a_disconnect_can_swallow_the_ack() -> None:
    words = "disconnect_after_submits=1 ack_delay_s=0.01"
    async with build(words) as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        await esme.ended()
        assert esme.of(smpp.SubmitSmResp) == []
        assert simulator.statistics().parts == 1


async def test_what_comes_with_the_breaking_submit_is_lost() -> None:
    async with build("disconnect_after_submits=1") as simulator, await Esme.bound(simulator.port) as esme:
        esme.submit(submission(), submission())
        await esme.ended()
        assert simulator.statistics().parts == 1


async def test_a_session_breaks_after_its_time() -> None:
    async with build("disconnect_after_s=0.01") as simulator, await Esme.bound(simulator.port) as esme:
        await esme.ended()


async def test_a_half_open_connection_accepts_octets_and_never_answers() -> None:
    async with build("silent=yes") as simulator, await Esme.connect(simulator.port) as esme:
        esme.say(b"\0" * 64)  # would break a session that listened
        simulator.disconnect()
        await esme.ended()
        assert esme.heard == []


async def test_a_session_falls_silent_after_its_submits() -> None:
    words = "silent_after_submits=1 report_loss_share=1"
    async with build(words) as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        esme.text()
        await esme.acks(1)
        async with await Esme.bound(simulator.port) as other:
            other.text()
            await other.acks(1)
        simulator.disconnect()
        await esme.ended()
        assert len(esme.of(smpp.SubmitSmResp)) == 1


async def test_enquire_link_is_answered_unless_asked_otherwise() -> None:
    enquiry = smpp.encode(smpp.EnquireLink(), 99)
    async with build("enquire_link_answered=no") as simulator, await Esme.bound(simulator.port) as esme:
        esme.say(enquiry)
        esme.text()
        await esme.receipts()
        assert esme.heard_heartbeats == 0
    async with build() as simulator, await Esme.bound(simulator.port) as esme:
        esme.say(enquiry)
        await esme.until(lambda: esme.heard_heartbeats == 1)


async def test_the_operator_sends_its_own_enquire_link() -> None:
    async with build("enquire_link_s=0.01") as simulator, await Esme.bound(simulator.port) as esme:
        await esme.until(lambda: esme.asked_heartbeats >= 1)


async def test_lost_acks_leave_the_report() -> None:
    async with build("ack_loss_share=1") as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        await esme.receipts()
        assert esme.of(smpp.SubmitSmResp) == []


async def test_binds_are_refused_as_often_as_asked() -> None:
    async with build("bind_status=0x0D bind_refusals_max=1") as simulator:
        async with await Esme.bound(simulator.port) as esme:
            assert esme.heard[0].command_status == CommandStatus.BINDFAIL
        async with await Esme.bound(simulator.port) as esme:
            assert esme.heard[0].command_status == 0
        assert simulator.statistics().binds_refused == 1


@pytest.mark.parametrize(
    ("bind", "status"),
    [
        (smpp.BindTransceiver(system_id="other", password="secret"), CommandStatus.INVSYSID),
        (smpp.BindTransceiver(system_id="ours", password="wrong"), CommandStatus.INVPASWD),
        (smpp.BindTransceiver(system_id="ours", password="secret"), CommandStatus.ROK),
    ],
)
async def test_a_named_account_needs_its_password(bind: smpp.Bind, status: CommandStatus) -> None:
    words = "system_id=ours password=secret"
    async with build(words) as simulator, await Esme.bound(simulator.port, bind) as esme:
        assert esme.heard[0].command_status == status


async def test_one_session_too_many_is_refused() -> None:
    async with build("sessions_max=1") as simulator, await Esme.bound(simulator.port):
        async with await Esme.bound(simulator.port) as second:
            assert second.heard[0].command_status == CommandStatus.BINDFAIL
        other = smpp.BindTransceiver(system_id="other")
        async with await Esme.bound(simulator.port, other) as another:
            assert another.heard[0].command_status == CommandStatus.ROK


async def test_who_leaves_too_much_unanswered_is_throttled() -> None:
    words = "owed_acks_max=2 ack_delay_s=0.02"
    async with build(words) as simulator, await Esme.bound(simulator.port) as esme:
        esme.submit(*[submission()] * 3)
        statuses = [ack.command_status for ack in await esme.acks(3)]
        assert statuses == [CommandStatus.THROTTLED, 0, 0]


async def test_an_echoed_heartbeat_is_a_heartbeat() -> None:
    async with build("heartbeat_echoed=yes") as simulator, await Esme.bound(simulator.port) as esme:
        esme.say(smpp.encode(smpp.EnquireLink(), 99))
        esme.text()
        await esme.receipts()
        assert esme.heard_heartbeats == 0


async def test_reports_of_a_transmitter_go_to_the_receiver_of_its_account() -> None:
    async with build() as simulator:
        transmitter = await Esme.bound(simulator.port, smpp.BindTransmitter(system_id="ours"))
        stranger = await Esme.bound(simulator.port, smpp.BindReceiver(system_id="theirs"))
        receiver = await Esme.bound(simulator.port, smpp.BindReceiver(system_id="ours"))
        async with transmitter, stranger, receiver:
            transmitter.text()
            await receiver.receipts()
            stranger.text()
            [refused] = await stranger.acks()
            assert refused.command_status == CommandStatus.INVBNDSTS
            assert stranger.of(smpp.DeliverSm) == []


async def test_an_unanswered_report_comes_again_on_the_next_session() -> None:
    async with build() as simulator:
        async with await Esme.bound(simulator.port, answers=False) as esme:
            esme.text()
            [first] = await esme.receipts()
        async with await Esme.bound(simulator.port) as esme:
            [again] = await esme.receipts()
        assert again == first
        assert simulator.statistics().reports_resent == 1


async def test_reports_wait_for_a_session_while_nobody_is_bound() -> None:
    async with build() as simulator:
        async with await Esme.bound(simulator.port, smpp.BindTransmitter(system_id="test")) as esme:
            esme.text()
            await esme.acks()
        async with await Esme.bound(simulator.port) as esme:
            await esme.receipts()


async def test_an_outage_forgets_nothing() -> None:
    simulator = build("report_delay_s=0.02")
    port = await simulator.start(port=free_port())  # one that nobody is given during the outage
    async with await Esme.bound(port) as esme:
        esme.text()
        await esme.acks()
        await simulator.stop()
        await esme.ended()
    assert await simulator.start(port=port) == port
    async with await Esme.bound(port) as esme:
        await esme.receipts()
    await simulator.close()


async def test_a_report_put_off_comes_again_and_a_rejected_one_does_not() -> None:
    async with build() as simulator, await Esme.bound(simulator.port, answers=False) as esme:
        simulator.behave(parse(SWIFT + "resend_after_s=0"))  # the session goes on waiting as long as before
        esme.text()
        [first] = await esme.delivers()
        esme.answer(first, CommandStatus.X_T_APPN)
        second = (await esme.delivers(2))[1]
        esme.answer(second, CommandStatus.X_R_APPN)
        esme.submit(smpp.QuerySm(message_id=esme.of(smpp.SubmitSmResp)[0].message_id))
        await esme.until(lambda: bool(esme.of(smpp.QuerySmResp)))
        counted = simulator.statistics()
        assert (counted.reports, counted.reports_resent, counted.reports_given_up, counted.owed) == (
            1,
            1,
            1,
            0,
        )


async def test_an_unanswered_report_is_tried_so_often_and_no_more() -> None:
    words = "tries_max=2 resend_after_s=0.01"
    async with build(words) as simulator, await Esme.bound(simulator.port, answers=False) as esme:
        esme.text()
        await esme.delivers(2)
        esme.text(number="13900000000")
        await esme.delivers(4)
        assert [deliver.source_addr for deliver in esme.of(smpp.DeliverSm)].count(NUMBER) == 2


async def test_a_closed_window_makes_reports_wait() -> None:
    words = "window_max=1"
    async with build(words) as simulator, await Esme.bound(simulator.port, answers=False) as esme:
        esme.text()
        esme.text(number="13900000000")
        [first] = await esme.delivers()
        esme.submit(smpp.QuerySm(message_id="nobody"))
        await esme.until(lambda: bool(esme.of(smpp.QuerySmResp)))
        assert len(esme.of(smpp.DeliverSm)) == 1
        esme.answer(first)
        await esme.delivers(2)


async def test_a_handset_replies_to_what_it_received() -> None:
    async with build("reply=R") as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        receipt, reply = await esme.delivers(2)
        assert smpp.receipt(receipt) is not None
        assert smpp.receipt(reply) is None
        assert (reply.source_addr, reply.destination_addr, reply.short_message) == (NUMBER, SENDER, b"R")


async def test_a_forged_receipt_is_a_text_and_no_report() -> None:
    words = "state=UNDELIV forge=DELIVRD"
    async with build(words) as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        true, forged = await esme.delivers(2)
        [receipt] = await esme.receipts()
        assert receipt.state is MessageState.UNDELIVERABLE
        assert f"id:{receipt.message_id}".encode() in forged.short_message
        assert b"stat:DELIVRD" in forged.short_message
        assert smpp.receipt(forged) is None
        assert true.esm_class == smpp.ESM_RECEIPT


@pytest.mark.parametrize("split", list(Split))
@pytest.mark.parametrize("encoding", [Encoding.GSM7, Encoding.UCS2])
async def test_long_texts_from_handsets_arrive_whole(split: Split, encoding: Encoding) -> None:
    words = "hello €uro " * 40
    behaviour = Behaviour(reply_split=split, reply_encoding=encoding)
    async with Simulator(behaviour) as simulator, await Esme.bound(simulator.port) as esme:
        simulator.reply(NUMBER, words, SENDER)
        esme.submit(smpp.QuerySm(message_id="nobody"))
        await esme.until(lambda: bool(esme.of(smpp.QuerySmResp)))
        assert joined(esme.of(smpp.DeliverSm), encoding) == words


async def test_intermediate_states_come_first() -> None:
    words = "intermediate=ENROUTE,ACCEPTD intermediate_flagged=yes"
    async with build(words) as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        receipts = await esme.receipts(3)
        assert [receipt.state for receipt in receipts] == [
            MessageState.ENROUTE,
            MessageState.ACCEPTED,
            MessageState.DELIVERED,
        ]
        assert [receipt.intermediate for receipt in receipts] == [True, True, False]


@pytest.mark.parametrize(
    ("style", "tlvs"),
    [(style, tlvs) for style in Receipt for tlvs in (True, False) if tlvs or style is not Receipt.TLVS],
)
async def test_every_handwriting_is_read_as_the_same_report(style: Receipt, tlvs: bool) -> None:
    behaviour = parse(
        f"{SWIFT} state=UNDELIV err=MK:0001 receipt={style} receipt_tlvs={'yes' if tlvs else 'no'}"
    )
    async with Simulator(behaviour, seed=3) as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        [ack] = await esme.acks()
        [receipt] = await esme.receipts()
        assert (receipt.message_id, receipt.state) == (ack.message_id, MessageState.UNDELIVERABLE)
        assert receipt.error == ("" if style is Receipt.TLVS else "MK:0001")


async def test_the_operators_own_code_can_stand_as_stat() -> None:
    behaviour = parse(f"{SWIFT} state=UNDELIV err=MK:0001 code_place=stat")
    assert behaviour.code_place is CodePlace.STAT
    async with Simulator(behaviour) as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        [receipt] = await esme.receipts()
        assert (receipt.stat, receipt.error) == ("MK:0001", "000")


async def test_sandbox_numbers_choose_their_outcome() -> None:
    outcomes = {
        "00": "000",
        "01": "MK:0001",
        "02": "MK:0004",
        "03": "MK:0024",
        "04": "DB:0141",
        "05": "ID:0076",
    }
    async with build() as simulator, await Esme.bound(simulator.port) as esme:
        for ending in outcomes:
            esme.text(number=f"86199000000{ending}")
        receipts = await esme.receipts(len(outcomes))
        assert [receipt.error for receipt in receipts] == list(outcomes.values())
        assert [bool(simulator.phone(f"199000000{ending}")) for ending in outcomes] == [True] + [False] * 5


async def test_a_query_tells_the_state() -> None:
    async with build("state=EXPIRED ack_id=hex") as simulator, await Esme.bound(simulator.port) as esme:
        esme.text()
        [ack] = await esme.acks()
        await esme.receipts()
        for message_id in (ack.message_id, "nobody"):
            esme.submit(smpp.QuerySm(message_id=message_id))
        await esme.until(lambda: len(esme.of(smpp.QuerySmResp)) == 2)
        known, unknown = esme.of(smpp.QuerySmResp)
        assert (known.message_id, known.message_state) == (ack.message_id, MessageState.EXPIRED)
        assert smpp.read_time(known.final_date) is not None
        assert unknown.command_status == CommandStatus.QUERYFAIL


async def test_what_the_operator_does_not_offer_is_declined() -> None:
    async with build() as simulator, await Esme.bound(simulator.port) as esme:
        esme.submit(smpp.CancelSm(message_id="1"), smpp.ReplaceSm(message_id="1"))
        await esme.until(lambda: len(esme.heard) == 3)
        assert [pdu.command_status for pdu in esme.heard[1:]] == [
            CommandStatus.CANCELFAIL,
            CommandStatus.REPLACEFAIL,
        ]


async def test_no_report_is_sent_that_was_not_asked_for() -> None:
    async with build() as simulator, await Esme.bound(simulator.port) as esme:
        for wanted in (0, 2, 1):  # none, on failure only, always
            esme.submit(smpp.SubmitSm(destination_addr=f"1380000000{wanted}", registered_delivery=wanted))
        await esme.receipts()
        assert [deliver.source_addr for deliver in esme.of(smpp.DeliverSm)] == ["13800000001"]


async def test_garbage_ends_one_session_and_hurts_no_other() -> None:
    async with build() as simulator, await Esme.bound(simulator.port) as esme:
        async with await Esme.bound(simulator.port) as noisy:
            noisy.say(b"\xff" * 64)
            await noisy.ended()
            assert [nack.command_status for nack in noisy.of(smpp.GenericNack)] == [CommandStatus.INVCMDLEN]
        esme.text()
        await esme.receipts()


async def test_events_are_written_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "operator.jsonl"
    words = "refuse_status=0x45 refuse_share=0.5"
    async with build(words, lines=path) as simulator, await Esme.bound(simulator.port) as esme:
        for _ in range(20):
            esme.text()
        await esme.acks(20)
        taken = sum(ack.command_status == 0 for ack in esme.of(smpp.SubmitSmResp))
        await esme.receipts(taken)
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert 0 < taken < 20
    assert (events.count("submit"), events.count("taken"), events.count("refused")) == (20, taken, 20 - taken)
    assert events.count("report") == taken


async def test_behaviour_can_change_while_sessions_stand() -> None:
    async with build() as simulator, await Esme.bound(simulator.port) as esme:
        simulator.behave(parse("refuse_status=0x45"))
        esme.text()
        await esme.acks()
        simulator.behave(parse(SWIFT))
        esme.text()
        await esme.receipts()
        assert [ack.command_status for ack in await esme.acks(2)] == [0x45, 0]


async def test_serve_tells_statistics_until_it_is_cancelled() -> None:
    told: list[Statistics] = []
    heard = asyncio.Event()

    def tell(statistics: Statistics) -> None:
        told.append(statistics)
        heard.set()

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        serving = group.create_task(serve(port=0, every_s=0.001, tell=tell))
        await heard.wait()
        serving.cancel()
    assert (told[0].sessions, told[0].submits) == (0, 0)


async def test_serve_opens_the_doors_it_is_told_and_says_where() -> None:
    opened: list[Door] = []
    heard = asyncio.Event()
    doors = [Door(Protocol.CMPP, 0), Door(Protocol.SMPP, 0)]
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        serving = group.create_task(
            serve(doors=doors, every_s=0.001, tell=lambda _: heard.set(), opened=opened.append)
        )
        await heard.wait()
        assert [door.protocol for door in opened] == [Protocol.CMPP, Protocol.SMPP]
        async with await Esme.bound(opened[1].port) as esme:
            esme.text()
            await esme.acks()
        serving.cancel()


def test_a_door_is_a_protocol_and_a_port() -> None:
    assert Door.read("cmpp") == Door(Protocol.CMPP, 7890)
    assert Door.read("sgip:0") == Door(Protocol.SGIP, 0)
    for words in ("fax", "cmpp:", "cmpp:high", ""):
        with pytest.raises(BehaviourError, match="smpp, cmpp, sgip, smgp"):
            Door.read(words)


def joined(delivers: list[smpp.DeliverSm], encoding: Encoding) -> str:
    """Join what a handset sent, by payload, sar parameters or header, in order."""
    codec = {Encoding.UCS2: "utf-16-be"}.get(encoding)
    octets = b""
    for deliver in delivers:
        payload = smpp.TLVS.read(deliver.tlvs, "message_payload")
        body = payload if isinstance(payload, bytes) else deliver.short_message
        octets += body[body[0] + 1 :] if deliver.esm_class & smpp.ESM_UDHI else body
    return octets.decode(codec) if codec else octets.replace(b"\x1be", "€".encode()).decode()
