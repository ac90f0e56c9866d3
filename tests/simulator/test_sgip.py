"""What only an SGIP operator does: it dials the SP to report, names no ids of its own, closes what is idle."""

import pytest

from hongyan.simulator import Rule, Simulator, parse
from hongyan.wire import sgip
from hongyan.wire.session import End
from hongyan.wire.sgip import LoginType, Result
from ports import free_port
from simulator.esme import NUMBER, SENDER
from simulator.sp import NAME, SECRET, Listener, Sgip

SWIFT = "report_delay_s=0.005 "
AGAIN = "resend_after_s=0.05 "  # so long until the operator calls again, or sends again what has no answer
USER = f"86{NUMBER}"


def build(words: str = "", *rules: str, sp: Listener | None = None) -> Simulator:
    dialled = f"sgip_sp=127.0.0.1:{sp.port} " if sp else ""
    behaviour = parse(SWIFT + dialled + words)
    return Simulator(behaviour, [Rule.read(rule) for rule in rules], seed=7, protocol="sgip")


async def test_reports_come_on_a_connection_that_the_operator_opens() -> None:
    async with Listener() as listener, build(sp=listener) as simulator:
        async with await Sgip.entered(simulator.port) as sp:
            sp.text(copies=3)
            acks = await sp.acks(3)
            reports = await listener.reports(3)
            assert sp.reports_so_far() == []
        assert {report.id for report in reports} == {ack.id for ack in acks}
        [bind] = listener.binds
        assert (bind.login_type, bind.login_name) == (LoginType.SMG_TO_SP, NAME)


async def test_an_idle_connection_is_unbound_and_opened_again_when_something_waits() -> None:
    async with Listener() as listener, build("sgip_idle_s=0.3", sp=listener) as simulator:
        async with await Sgip.entered(simulator.port) as sp:
            sp.text()
            await listener.until(lambda: listener.unbinds == 1)
        async with await Sgip.entered(simulator.port) as sp:
            sp.text()
            await listener.until(lambda: listener.unbinds == 2)
        assert (len(listener.of(sgip.Report)), len(listener.binds)) == (2, 2)


async def test_an_idle_connection_of_an_sp_is_closed() -> None:
    async with build("sgip_idle_s=0.02") as simulator, await Sgip.entered(simulator.port) as sp:
        await sp.ended()
        assert sp.end is None  # without a word: only who opened it unbinds


async def test_the_operator_logs_in_as_it_is_told() -> None:
    words = f"sgip_sp_name=smg sgip_sp_password=theirs password={SECRET}"
    async with Listener() as listener, build(words, sp=listener) as simulator:
        async with await Sgip.entered(simulator.port) as sp:
            sp.text()
            await listener.reports()
        assert [(bind.login_name, bind.login_password) for bind in listener.binds] == [("smg", "theirs")]


async def test_texts_from_handsets_are_delivered_there_even_before_an_sp_came() -> None:
    async with Listener() as listener, build(sp=listener) as simulator:
        simulator.reply(NUMBER, "你好" * 60, SENDER)
        await listener.until(lambda: len(listener.of(sgip.Deliver)) == 2)
        first, second = listener.of(sgip.Deliver)
        assert (first.user_number, first.sp_number, first.tp_udhi) == (USER, SENDER, 1)
        assert first.message_content[3] == second.message_content[3]  # one reference


async def test_reports_wait_until_the_sp_listens() -> None:
    listener = Listener(port=free_port())  # nobody listens there yet
    async with build(AGAIN, sp=listener) as simulator, await Sgip.entered(simulator.port) as sp:
        sp.text()
        [ack] = await sp.acks()
        async with listener:
            [report] = await listener.reports()
        assert report.id == ack.id


async def test_an_sp_that_refuses_the_operator_is_called_again() -> None:
    async with Listener(refusals=2) as listener, build(AGAIN, sp=listener) as simulator:
        async with await Sgip.entered(simulator.port) as sp:
            sp.text()
            await listener.reports()
        assert len(listener.binds) == 3


async def test_a_report_on_a_connection_that_breaks_comes_again() -> None:
    async with Listener(drops=1) as listener, build(AGAIN, sp=listener) as simulator:
        async with await Sgip.entered(simulator.port) as sp:
            sp.text()
            [ack] = await sp.acks()
            [report, *_] = await listener.reports()
        assert report.id == ack.id
        await listener.until(lambda: simulator.statistics().reports_acked == 1)
        assert simulator.statistics().reports_resent >= 1


async def test_what_lies_unread_while_the_operator_rests_is_no_silence_of_the_sp() -> None:
    words = "read_pause_s=0.2 resend_after_s=0.15"
    async with build(words) as simulator, await Sgip.entered(simulator.port) as sp:
        sp.text(copies=5)
        reports = await sp.reports(5)
        sp.text()  # a round trip: the answers have been read
        await sp.acks(6)
        assert len({report.id for report in reports}) == 5
        assert (simulator.statistics().reports_acked, simulator.statistics().reports_resent) == (5, 0)


async def test_an_outage_ends_the_operator_s_own_connections_too() -> None:
    async with Listener() as listener:
        simulator = build("report_delay_s=0.02", sp=listener)
        port = await simulator.start(port=free_port())  # one that nobody is given during the outage
        async with await Sgip.entered(port) as sp:
            sp.text(copies=2)
            await listener.reports()
            await simulator.stop()
        await simulator.start(port=port)
        await listener.reports(2)
        await simulator.close()


async def test_a_submit_is_called_by_its_sequence_number() -> None:
    async with build() as simulator, await Sgip.entered(simulator.port) as sp:
        sp.text()
        [response] = await sp.acks()
        [report] = await sp.reports()
        number = sgip.SequenceNumber.read(report.id)
        assert (number.stamp, response.id) == (sp.stamp, report.id)


async def test_connections_of_one_operator_never_share_a_stamp() -> None:
    async with build() as simulator:
        stamps = set()
        for _ in range(3):
            async with await Sgip.entered(simulator.port) as sp:
                sp.text()
                await sp.reports()
                [report] = sp.of(sgip.Report)
                stamps.add((report.node, report.stamp))
        assert len(stamps) == 3


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("", Result.UNREACHABLE),
        ("err=27", Result.NO_SMS_SUPPORT),
        ("err=MK:0001", Result.UNKNOWN_USER),
        ("err=MK:9999", Result.UNREACHABLE),
    ],
)
async def test_what_failed_has_an_error_code(words: str, error: Result) -> None:
    async with build(f"state=UNDELIV {words}") as simulator, await Sgip.entered(simulator.port) as sp:
        sp.text()
        await sp.reports()
        [report] = sp.of(sgip.Report)
        assert (report.state, report.error_code) == (sgip.State.FAILED, error)


async def test_states_on_the_way_are_waiting() -> None:
    async with (
        build("intermediate=ENROUTE,ACCEPTD") as simulator,
        await Sgip.entered(simulator.port) as sp,
    ):
        sp.text()
        assert [report.state for report in await sp.reports(3)] == ["ENROUTE", "ENROUTE", "DELIVRD"]


@pytest.mark.parametrize(("flag", "delivered", "failed"), [(0, 0, 1), (1, 1, 1), (2, 0, 0)])
async def test_reports_are_sent_as_asked(flag: int, delivered: int, failed: int) -> None:
    async with build("", "139*: state=UNDELIV") as simulator, await Sgip.entered(simulator.port) as sp:
        for number in (USER, "8613900000000"):
            sp.ask(sgip.Submit(sp_number=SENDER, user_numbers=(number,), report_flag=flag))
        await sp.acks(2)
        sp.text("8613700000000")  # reported after the others would have been
        reports = await sp.reports(delivered + failed + 1)
        assert [report.user_number for report in sp.of(sgip.Report)][-1] == "8613700000000"
        assert len(reports) == delivered + failed + 1


async def test_a_number_without_its_country_is_refused() -> None:
    async with build() as simulator, await Sgip.entered(simulator.port) as sp:
        sp.text(USER, NUMBER)
        assert [ack.state for ack in await sp.acks()] == [str(int(Result.ILLEGAL_NUMBER))]
        assert simulator.statistics().refused == {"0x00000006": 2}


@pytest.mark.parametrize("login_type", [LoginType.SMG_TO_SP, LoginType.SMG_TO_SMG])
async def test_only_an_sp_may_log_in(login_type: LoginType) -> None:
    bind = sgip.Bind(login_type=login_type, login_name=NAME)
    async with build() as simulator, await Sgip.entered(simulator.port, bind) as sp:
        [response] = sp.of(sgip.BindResp)
        await sp.ended()
        assert (response.result, sp.end) == (Result.LOGIN_TYPE, End.LOGIN_REFUSED)


async def test_a_submit_can_be_traced() -> None:
    async with build() as simulator, await Sgip.entered(simulator.port) as sp:
        sp.text()
        [ack] = await sp.acks()
        for name in (bytes.fromhex(ack.id), bytes(12)):
            sp.ask(sgip.Trace(submit_sequence_number=name, user_number=USER))
        await sp.until(lambda: len(sp.of(sgip.TraceResp)) == 2)
        known, unknown = sp.of(sgip.TraceResp)
        assert [hop.result for hop in known.hops] == [0]
        assert [hop.result for hop in unknown.hops] == [Result.SEQUENCE_NUMBER]
