"""What only a CMPP operator does: layouts by version, proofs, Msg_Ids, status reports in fixed fields."""

from datetime import UTC, datetime

import pytest

from hongyan.simulator import Rule, Simulator, parse
from hongyan.simulator.cmpp import GATEWAY
from hongyan.wire import cmpp
from hongyan.wire.cmpp import ConnectStatus
from simulator.esme import NUMBER, SENDER
from simulator.sp import NAME, SECRET, Cmpp, Cmpp2

SWIFT = "report_delay_s=0.005 "
AT = datetime(2025, 1, 4, 9, 30, tzinfo=UTC)  # in January the timestamp begins with a zero


def build(words: str = "", *rules: str) -> Simulator:
    return Simulator(parse(SWIFT + words), [Rule.read(rule) for rule in rules], seed=7, protocol="cmpp")


@pytest.mark.parametrize("version", [0x20, 0x21, 0x30])
async def test_the_operator_speaks_the_version_that_was_asked_for(version: int) -> None:
    kind = Cmpp if version == 0x30 else Cmpp2
    login = cmpp.connect(NAME, SECRET, AT, version)
    async with build() as simulator, await kind.entered(simulator.port, login) as sp:
        [response] = sp.of(cmpp.ConnectResp)
        assert (response.version, sp.session.dialect.name) == (version, kind.__name__.lower().ljust(5, "3"))
        sp.text()
        [report] = await sp.reports()
        [deliver] = sp.of(cmpp.Deliver)
        assert report.state == "DELIVRD"
        assert len(deliver.msg_content) == (71 if version == 0x30 else 60)
        assert (deliver.src_terminal_id, deliver.dest_id) == (NUMBER, SENDER)


@pytest.mark.parametrize(("version", "speaks"), [("2.0", Cmpp2), ("3.0", Cmpp)])
@pytest.mark.parametrize("asked", [cmpp.VERSION_2_0, cmpp.VERSION_3_0])
async def test_an_account_s_version_counts_more_than_the_client_s_byte(
    version: str, speaks: type[Cmpp], asked: int
) -> None:
    login = cmpp.connect(NAME, SECRET, AT, asked)
    async with (
        build(f"cmpp_version={version}") as simulator,
        await speaks.entered(simulator.port, login) as sp,
    ):
        assert sp.session.dialect.name == ("cmpp2" if speaks is Cmpp2 else "cmpp3")
        sp.text()
        await sp.reports()
        assert [ack.state for ack in await sp.acks()] == ["0"]


async def test_a_gateway_of_3_0_can_send_the_report_of_2_x() -> None:
    short = f"{NUMBER}: cmpp_short_reports=yes"
    async with build("", short) as simulator, await Cmpp.entered(simulator.port) as sp:
        sp.text()
        sp.text("13900000000")
        reports = await sp.reports(2)
        octets = {deliver.src_terminal_id: len(deliver.msg_content) for deliver in sp.of(cmpp.Deliver)}
        assert octets == {NUMBER: 60, "13900000000": 71}
        assert {ack.id for ack in await sp.acks(2)} == {report.id for report in reports}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("version", [cmpp.VERSION_2_0, cmpp.VERSION_3_0])
async def test_a_short_name_may_be_hashed_either_way_and_the_operator_proves_itself(
    *, padded: bool, version: int
) -> None:
    login = cmpp.connect("9001", SECRET, AT, version, padded=padded)
    async with (
        build(f"system_id=9001 password={SECRET}") as simulator,
        await Cmpp.entered(simulator.port, login) as sp,
    ):
        [response] = sp.of(cmpp.ConnectResp)
        assert response.status == ConnectStatus.OK
        assert cmpp.authenticates_ismg(response, login, SECRET)


async def test_an_operator_s_proof_can_be_junk() -> None:
    login = cmpp.connect(NAME, SECRET, AT)
    async with (
        build(f"password={SECRET} proof_junk=yes") as simulator,
        await Cmpp.entered(simulator.port, login) as sp,
    ):
        [response] = sp.of(cmpp.ConnectResp)
        assert response.status == ConnectStatus.OK
        assert not cmpp.authenticates_ismg(response, login, SECRET)


@pytest.mark.parametrize("version", [cmpp.VERSION_2_0, cmpp.VERSION_3_0])
@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("password=other", ConnectStatus.AUTHENTICATION),
        ("system_id=900002", ConnectStatus.SOURCE_ADDRESS),
        ("bind_status=4", ConnectStatus.VERSION),
    ],
)
async def test_a_refused_login_hears_why(words: str, status: ConnectStatus, version: int) -> None:
    kind = Cmpp if version == cmpp.VERSION_3_0 else Cmpp2
    async with build(words) as simulator, await kind.entered(simulator.port) as sp:
        [response] = sp.of(cmpp.ConnectResp)
        assert (response.status, response.authenticator_ismg) == (status, bytes(16))


async def test_an_id_says_when_and_where_and_a_report_comes_under_another_of_its_own() -> None:
    async with build() as simulator, await Cmpp.entered(simulator.port) as sp:
        sp.text()
        [ack] = await sp.acks()
        await sp.reports()
        [deliver] = sp.of(cmpp.Deliver)
        assert cmpp.split_msg_id(int(ack.id)).gateway == GATEWAY
        assert str(deliver.msg_id) != ack.id


async def test_the_ids_of_one_submit_are_a_row() -> None:
    numbers = tuple(f"138{at:08}" for at in range(99))
    async with build() as simulator, await Cmpp.entered(simulator.port) as sp:
        sp.text(*numbers)
        sp.text()
        first, behind = await sp.acks(2)
        reports = await sp.reports(100)
        row = cmpp.group_ids(int(first.id), 99)
        assert {int(report.id) for report in reports} == {*row, int(behind.id)}
        assert int(behind.id) not in row


@pytest.mark.parametrize(
    ("words", "stat"),
    [
        ("state=UNDELIV err=MK:0001", "MK:0001"),
        ("state=UNDELIV", "UNDELIV"),
        ("state=EXPIRED err=too_long_for_it", "EXPIRED"),
        ("err=MK:0001", "DELIVRD"),
    ],
)
async def test_the_operator_s_own_code_stands_as_stat(words: str, stat: str) -> None:
    async with build(words) as simulator, await Cmpp.entered(simulator.port) as sp:
        sp.text()
        assert [report.state for report in await sp.reports()] == [stat]


async def test_pk_numbers_tell_the_place_of_a_part_without_a_header() -> None:
    async with build() as simulator, await Cmpp.entered(simulator.port) as sp:
        for index in (2, 1):
            sp.ask(
                cmpp.Submit3(
                    pk_total=2,
                    pk_number=index,
                    registered_delivery=1,
                    src_id=SENDER,
                    dest_terminal_id=(NUMBER,),
                    msg_content=f"part {index} ".encode(),
                )
            )
        await sp.reports(2)
        assert [text.text for text in simulator.phone(NUMBER)] == ["part 1 part 2 "]


async def test_a_submit_to_nobody_is_refused() -> None:
    async with build() as simulator, await Cmpp.entered(simulator.port) as sp:
        sp.ask(cmpp.Submit3(src_id=SENDER, msg_content=b"hello"))
        assert [ack.state for ack in await sp.acks()] == ["13"]


async def test_no_report_is_sent_that_was_not_asked_for() -> None:
    async with build() as simulator, await Cmpp.entered(simulator.port) as sp:
        sp.ask(cmpp.Submit3(src_id=SENDER, dest_terminal_id=("13900000000",), msg_content=b"hello"))
        sp.text()
        await sp.reports()
        assert [deliver.src_terminal_id for deliver in sp.of(cmpp.Deliver)] == [NUMBER]


async def test_counts_are_told_and_nothing_can_be_cancelled() -> None:
    async with build() as simulator, await Cmpp.entered(simulator.port) as sp:
        sp.text(copies=3)
        await sp.acks(3)
        sp.ask(cmpp.Query(time="20251124"))
        sp.ask(cmpp.Cancel(msg_id=1))
        await sp.until(lambda: bool(sp.of(cmpp.CancelResp)))
        [counted], [cancelled] = sp.of(cmpp.QueryResp), sp.of(cmpp.CancelResp)
        assert (counted.time, counted.mt_tlmsg, cancelled.success_id) == ("20251124", 3, 1)
