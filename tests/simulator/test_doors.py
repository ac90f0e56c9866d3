"""What CMPP, SGIP and SMGP doors have in common: one operator, whichever of its words it speaks."""

import pytest

from hongyan.simulator import Behaviour, Rule, Simulator, parse
from hongyan.vocab import text as wording
from hongyan.vocab.text import Encoding, Split, TextPart
from hongyan.wire import cmpp, sgip, smgp
from hongyan.wire.session import End
from ports import free_port
from simulator.esme import NUMBER, SENDER, Esme
from simulator.sp import NAME, SECRET, Cmpp, Cmpp2, Sgip, Smgp, Sp

# What is left unanswered is not sent again within a test unless that is its law: on a loaded machine an answer takes
# longer than any wait that a test could wait for.
SWIFT = "report_delay_s=0.005 "
OTHER = "13900000000"
DOORS = pytest.mark.parametrize("kind", [Cmpp2, Cmpp, Sgip, Smgp])
BEATING = pytest.mark.parametrize("kind", [Cmpp, Smgp])  # SGIP has no heartbeat
BUSY = {"cmpp": "8", "sgip": "88", "smgp": "1"}
FULL = {"cmpp": "8", "sgip": "11", "smgp": "1"}
HEARTBEATS = {"cmpp": (0x8, 0x8000_0008), "smgp": (0x4, 0x8000_0004)}
LOGOUTS = {"cmpp": 0x2, "sgip": 0x2, "smgp": 0x6}


def build(kind: type[Sp], words: str = "", *rules: str) -> Simulator:
    return Simulator(
        parse(SWIFT + words), [Rule.read(rule) for rule in rules], seed=7, protocol=kind.protocol
    )


@DOORS
async def test_a_text_is_acked_reported_and_read_on_the_phone(kind: type[Sp]) -> None:
    async with build(kind) as simulator, await kind.entered(simulator.port) as sp:
        sp.text(octets="鸿雁".encode("utf-16-be"), form=8)
        [ack] = await sp.acks()
        [report] = await sp.reports()
        assert (ack.state, report.state) == ("0", "DELIVRD")
        assert ack.id == report.id
        assert [(text.sender, text.text) for text in simulator.phone(NUMBER)] == [(SENDER, "鸿雁")]


@DOORS
async def test_a_long_text_is_joined_on_the_phone(kind: type[Sp]) -> None:
    async with build(kind) as simulator, await kind.entered(simulator.port) as sp:
        for index in (2, 1):
            octets = bytes((5, 0, 3, 77, 2, index)) + f"第{index}段".encode("gb18030")
            sp.text(octets=octets, form=15, udhi=1)
        await sp.reports(2)
        assert [text.text for text in simulator.phone(NUMBER)] == ["第1段第2段"]


@DOORS
async def test_ids_are_never_given_twice(kind: type[Sp]) -> None:
    async with build(kind) as simulator, await kind.entered(simulator.port) as sp:
        sp.text(copies=50)
        acks = await sp.acks(50)
        reports = await sp.reports(50)
        assert len({ack.id for ack in acks}) == 50
        assert {ack.id for ack in acks} == {report.id for report in reports}


@DOORS
async def test_an_early_report_overtakes_its_ack(kind: type[Sp]) -> None:
    async with (
        build(kind, "early_share=1 ack_delay_s=0.005") as simulator,
        await kind.entered(simulator.port) as sp,
    ):
        sp.text()
        [ack] = await sp.acks()
        [report] = await sp.reports()
        assert ack.id == report.id
        *sp.heard, _ = sp.heard  # the last that came is the ack
        assert (sp.acks_so_far(), sp.reports_so_far()) == ([], [report])


@DOORS
async def test_a_lost_ack_leaves_the_report_and_a_lost_report_the_ack(kind: type[Sp]) -> None:
    lost_ack, lost_report = f"{NUMBER}: ack_loss_share=1", f"{OTHER}: report_loss_share=1"
    async with (
        build(kind, "", lost_ack, lost_report) as simulator,
        await kind.entered(simulator.port) as sp,
    ):
        sp.text(sp.number(OTHER))
        sp.text(sp.number(NUMBER))
        [report] = await sp.reports()
        [ack] = await sp.acks()
        assert report.id != ack.id


@DOORS
async def test_a_report_comes_as_often_as_asked(kind: type[Sp]) -> None:
    async with build(kind, "report_copies=3") as simulator, await kind.entered(simulator.port) as sp:
        sp.text()
        assert len(set(await sp.reports(3))) == 1


@DOORS
async def test_one_submit_to_many_has_one_ack_and_a_report_for_each(kind: type[Sp]) -> None:
    async with build(kind) as simulator, await kind.entered(simulator.port) as sp:
        sp.text(sp.number(NUMBER), sp.number(OTHER))
        reports = await sp.reports(2)
        [ack] = await sp.acks()
        assert reports[0].id == ack.id
        assert simulator.statistics().parts == 2
        assert all(simulator.phone(number) for number in (NUMBER, OTHER))


@DOORS
async def test_one_bad_number_refuses_the_whole_submit(kind: type[Sp]) -> None:
    async with (
        build(kind, "", f"{OTHER}: refuse_status=13") as simulator,
        await kind.entered(simulator.port) as sp,
    ):
        sp.text(sp.number(NUMBER), sp.number(OTHER))
        assert [ack.state for ack in await sp.acks()] == ["13"]
        assert simulator.statistics().parts == 0


@DOORS
async def test_above_its_rate_the_operator_throttles_in_its_own_words(kind: type[Sp]) -> None:
    async with build(kind, "parts_per_s_max=3") as simulator, await kind.entered(simulator.port) as sp:
        sp.text(copies=6)
        states = [ack.state for ack in await sp.acks(6)]
        assert (states[:3], states[5]) == (["0"] * 3, BUSY[kind.protocol])


@DOORS
async def test_another_word_for_throttling_can_be_asked_for(kind: type[Sp]) -> None:
    words = "parts_per_s_max=1 throttle_status=101"
    async with build(kind, words) as simulator, await kind.entered(simulator.port) as sp:
        sp.text(copies=3)
        assert (await sp.acks(3))[2].state == "101"


@DOORS
async def test_a_full_queue_refuses_until_a_part_has_its_fate(kind: type[Sp]) -> None:
    async with build(kind, "queue_parts_max=1") as simulator, await kind.entered(simulator.port) as sp:
        sp.text(copies=2)
        assert [ack.state for ack in await sp.acks(2)] == ["0", FULL[kind.protocol]]
        await sp.reports()
        sp.text()
        assert (await sp.acks(3))[2].state == "0"


@DOORS
async def test_who_leaves_too_much_unanswered_hears_that_the_operator_is_busy(kind: type[Sp]) -> None:
    words = "owed_acks_max=2 ack_delay_s=0.02"
    async with build(kind, words) as simulator, await kind.entered(simulator.port) as sp:
        sp.text(copies=3)
        acks = await sp.acks(3)
        assert [ack.state for ack in acks] == [FULL[kind.protocol], "0", "0"]


@DOORS
async def test_a_session_breaks_in_mid_window_and_its_reports_go_to_the_next(kind: type[Sp]) -> None:
    words = "disconnect_after_submits=2 ack_delay_s=0.01 report_delay_s=0.02"
    async with build(kind, words) as simulator:
        async with await kind.entered(simulator.port) as sp:
            sp.text(copies=3)
            await sp.ended()
            assert sp.acks_so_far() == []
        async with await kind.entered(simulator.port) as sp:
            assert len(await sp.reports(2)) == 2
        assert simulator.statistics().parts == 2


@DOORS
async def test_a_session_falls_silent_after_its_submits(kind: type[Sp]) -> None:
    words = "silent_after_submits=1 report_loss_share=1"
    async with build(kind, words) as simulator, await kind.entered(simulator.port) as sp:
        sp.text(copies=2)
        await sp.acks(1)
        async with await kind.entered(simulator.port) as other:
            other.text()
            await other.acks(1)
        simulator.disconnect()
        await sp.ended()
        assert len(sp.acks_so_far()) == 1


@DOORS
async def test_a_silent_operator_never_answers_a_login(kind: type[Sp]) -> None:
    async with build(kind, "silent=yes") as simulator, await kind.connect(simulator.port) as sp:
        simulator.disconnect()
        await sp.ended()
        assert sp.heard == []


@DOORS
async def test_an_operator_that_reads_slowly_answers_everything_in_the_end(kind: type[Sp]) -> None:
    async with build(kind, "read_pause_s=0.005") as simulator, await kind.entered(simulator.port) as sp:
        for _ in range(3):
            sp.text(copies=20)
            await sp.acks(1)
        await sp.acks(60)
        await sp.reports(60)


@DOORS
async def test_logins_are_refused_as_often_as_asked(kind: type[Sp]) -> None:
    async with build(kind, "bind_status=3 bind_refusals_max=1") as simulator:
        async with await kind.entered(simulator.port) as sp:
            await sp.ended()
            assert sp.end is End.LOGIN_REFUSED
        async with await kind.entered(simulator.port) as sp:
            sp.text()
            await sp.acks()
        assert simulator.statistics().binds_refused == 1


@DOORS
async def test_one_session_too_many_is_refused_until_another_ends(kind: type[Sp]) -> None:
    async with build(kind, "sessions_max=1") as simulator:
        async with await kind.entered(simulator.port), await kind.entered(simulator.port) as second:
            await second.ended()
            assert second.end is End.LOGIN_REFUSED
        assert simulator.statistics().binds_refused == 1


@DOORS
@pytest.mark.parametrize(
    "words", [f"system_id={NAME} password={SECRET}", "system_id=900002", f"system_id={NAME} password=other"]
)
async def test_a_named_account_needs_its_secret(kind: type[Sp], words: str) -> None:
    async with build(kind, words) as simulator, await kind.entered(simulator.port) as sp:
        if words.endswith(SECRET):
            sp.text()
            await sp.acks()
        else:
            await sp.ended()
            assert sp.end is End.LOGIN_REFUSED


@DOORS
async def test_the_operator_logs_a_session_out_after_its_time(kind: type[Sp]) -> None:
    async with build(kind, "logout_after_s=0.01") as simulator, await kind.entered(simulator.port) as sp:
        await sp.ended()
        assert (sp.end, sp.commands[-1]) == (End.PEER_LOGGED_OUT, LOGOUTS[kind.protocol])


@DOORS
async def test_the_operator_logs_everybody_out_before_maintenance(kind: type[Sp]) -> None:
    async with build(kind) as simulator, await kind.entered(simulator.port) as sp:
        simulator.logout()
        await sp.ended()
        assert sp.end is End.PEER_LOGGED_OUT


@BEATING
@pytest.mark.parametrize(
    ("words", "place"), [("", 1), ("heartbeat_echoed=yes", 0), ("enquire_link_answered=no", None)]
)
async def test_a_heartbeat_is_answered_as_asked(kind: type[Sp], words: str, place: int | None) -> None:
    async with build(kind, words) as simulator, await kind.entered(simulator.port) as sp:
        assert sp.session.dialect.heartbeat is not None
        sp.say(sp.session.dialect.heartbeat)
        sp.text()
        await sp.acks()
        heard = [command for command in sp.commands if command in HEARTBEATS[kind.protocol]]
        assert heard == ([] if place is None else [HEARTBEATS[kind.protocol][place]])


@BEATING
async def test_the_operator_sends_its_own_heartbeat_and_an_echo_keeps_it_alive(kind: type[Sp]) -> None:
    async with (
        build(kind, "enquire_link_s=0.01 heartbeat_echoed=yes") as simulator,
        await kind.entered(simulator.port) as sp,
    ):
        await sp.until(lambda: HEARTBEATS[kind.protocol][0] in sp.commands)
        sp.text()
        await sp.acks()


@DOORS
async def test_an_unanswered_report_comes_again_on_the_next_session(kind: type[Sp]) -> None:
    async with build(kind) as simulator:
        async with await kind.entered(simulator.port, answers=False) as sp:
            sp.text()
            [first] = await sp.reports()
        async with await kind.entered(simulator.port) as sp:
            assert await sp.reports() == [first]
        assert simulator.statistics().reports_resent == 1


@DOORS
async def test_a_report_put_off_comes_again_and_a_rejected_one_does_not(kind: type[Sp]) -> None:
    later = int(FULL[kind.protocol])
    async with build(kind) as simulator, await kind.entered(simulator.port, answers=False) as sp:
        quiet = [Rule.read(f"{OTHER}: report_loss_share=1")]
        simulator.behave(
            parse(SWIFT + "resend_after_s=0"), quiet
        )  # the session goes on waiting as long as before
        sp.text()
        await sp.reports()
        sp.answer(sp.heard[-1], later)
        await sp.reports(2)
        sp.answer(sp.heard[-1], 10)
        sp.text(sp.number(OTHER))  # a round trip, of which nothing is reported
        await sp.acks(2)
        counted = simulator.statistics()
        assert (counted.reports, counted.reports_resent, counted.reports_given_up) == (1, 1, 1)


@DOORS
async def test_a_closed_window_makes_reports_wait(kind: type[Sp]) -> None:
    words = "window_max=1 report_delay_s=0"
    async with build(kind, words) as simulator, await kind.entered(simulator.port, answers=False) as sp:
        sp.text(copies=2)
        await sp.acks(2)
        await sp.reports()
        sp.text()  # a round trip
        await sp.acks(3)
        assert len(sp.reports_so_far()) == 1
        sp.answer(next(pdu for pdu in sp.heard if isinstance(pdu, cmpp.Deliver | sgip.Report | smgp.Deliver)))
        await sp.reports(2)


@DOORS
async def test_a_handset_replies_to_what_it_received(kind: type[Sp]) -> None:
    async with build(kind, "reply='T [1]'") as simulator, await kind.entered(simulator.port) as sp:
        sp.text()
        [text] = await sp.texts()
        assert (texts_of([text]), sender_of(text)) == ("T [1]", sp.number(NUMBER))


@DOORS
@pytest.mark.parametrize("split", list(Split))
@pytest.mark.parametrize("words", ["hello world " * 40, "你好，世界 €" * 30])
async def test_long_texts_from_handsets_arrive_whole(kind: type[Sp], split: Split, words: str) -> None:
    behaviour = Behaviour(reply_split=split)
    async with (
        Simulator(behaviour, protocol=kind.protocol) as simulator,
        await kind.entered(simulator.port) as sp,
    ):
        simulator.reply(NUMBER, words, SENDER, f"{kind.protocol}:{NAME}")
        simulator.reply(NUMBER, "the end", SENDER)
        await sp.until(lambda: bool(sp.texts_so_far()) and texts_of(sp.texts_so_far()[-1:]) == "the end")
        assert texts_of(sp.texts_so_far()[:-1]) == words


@DOORS
async def test_gbk_can_be_asked_of_handsets(kind: type[Sp]) -> None:
    async with (
        build(kind, "reply=退订 reply_encoding=gbk") as simulator,
        await kind.entered(simulator.port) as sp,
    ):
        sp.text()
        [text] = await sp.texts()
        assert (form_of(text), texts_of([text])) == (15, "退订")


@DOORS
async def test_a_forged_report_is_a_text(kind: type[Sp]) -> None:
    async with (
        build(kind, "state=UNDELIV forge=DELIVRD") as simulator,
        await kind.entered(simulator.port) as sp,
    ):
        sp.text()
        [forged] = await sp.texts()
        assert "stat:DELIVRD" in texts_of([forged])
        assert [report.state for report in await sp.reports()] == ["UNDELIV"]


@DOORS
async def test_an_empty_id_in_the_report_matches_nothing(kind: type[Sp]) -> None:
    async with build(kind, "report_id=empty") as simulator, await kind.entered(simulator.port) as sp:
        sp.text()
        [report] = await sp.reports()
        assert int(report.id, 16) == 0


@DOORS
async def test_behaviour_can_differ_by_number(kind: type[Sp]) -> None:
    async with (
        build(kind, "", "139*: state=UNDELIV") as simulator,
        await kind.entered(simulator.port) as sp,
    ):
        sp.text(sp.number(NUMBER))
        sp.text(sp.number(OTHER))
        assert sorted(report.state for report in await sp.reports(2)) == ["DELIVRD", "UNDELIV"]


async def test_an_operator_speaks_all_protocols_at_once_and_keeps_their_reports_apart() -> None:
    simulator = Simulator(parse(SWIFT))
    for protocol in ("smpp", "cmpp", "sgip", "smgp"):
        await simulator.start(protocol=protocol)
    ports = simulator.ports
    assert simulator.port == ports["smpp"]  # type: ignore[index]  # a StrEnum is its word
    kinds = (Cmpp, Sgip, Smgp)
    clients: list[Sp] = [await kind.entered(ports[kind.protocol]) for kind in kinds]  # type: ignore[index]
    async with await Esme.bound(simulator.port) as esme:
        esme.text()
        for sp in clients:
            sp.text()
        for sp in clients:
            [report] = await sp.reports()
            assert [report.id] == [ack.id for ack in await sp.acks()]
        await esme.receipts()
        assert [text.text for text in simulator.phone(NUMBER)] == ["hello"] * 4
        assert simulator.statistics().sessions == 4
    for sp in clients:
        await sp.close()
    await simulator.close()


async def test_a_protocol_has_one_door() -> None:
    async with Simulator(protocol="cmpp") as simulator:
        with pytest.raises(ValueError, match="already"):
            await simulator.start(protocol="cmpp")
        with pytest.raises(ValueError, match="fax"):
            await simulator.start(protocol="fax")


@DOORS
async def test_an_outage_forgets_nothing(kind: type[Sp]) -> None:
    simulator = build(kind, "report_delay_s=0.02")
    port = await simulator.start(port=free_port())  # one that nobody is given during the outage
    async with await kind.entered(port) as sp:
        sp.text()
        await sp.acks()
        await simulator.stop()
        await sp.ended()
    assert await simulator.start(port=port) == port
    async with await kind.entered(port) as sp:
        await sp.reports()
    await simulator.close()


def sender_of(text: cmpp.Deliver | sgip.Deliver | smgp.Deliver) -> str:
    match text:
        case cmpp.Deliver():
            return text.src_terminal_id
        case sgip.Deliver():
            return text.user_number
        case smgp.Deliver():
            return text.src_term_id


def form_of(text: cmpp.Deliver | sgip.Deliver | smgp.Deliver) -> int:
    match text:
        case cmpp.Deliver():
            return text.msg_fmt
        case sgip.Deliver():
            return text.message_coding
        case smgp.Deliver():
            return text.msg_format


def texts_of(texts: list[cmpp.Deliver | sgip.Deliver | smgp.Deliver]) -> str:
    """Join what a handset sent, by its headers."""
    parts = []
    for text in texts:
        match text:
            case cmpp.Deliver():
                content, udhi = text.msg_content, text.tp_udhi
            case sgip.Deliver():
                content, udhi = text.message_content, text.tp_udhi
            case smgp.Deliver():
                content, udhi = text.msg_content, int(smgp.TLVS.read(text.tlvs, "tp_udhi") or 0)
        udh = wording.read_udh(content, udhi=bool(udhi))
        encoding = {0: Encoding.ASCII, 8: Encoding.UCS2, 15: Encoding.GBK}[form_of(text)]
        parts.append(TextPart(udh.index, udh.total, encoding, udh.body))
    return wording.join(parts)
