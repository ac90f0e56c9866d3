"""What only an SMGP operator does: ids of any octets, report layouts, login modes, the layout 1.3."""

from datetime import UTC, datetime

import pytest

from hongyan.simulator import Rule, Simulator, parse
from hongyan.simulator.behaviour import SmgpReceipt
from hongyan.simulator.smgp import GATEWAY
from hongyan.wire import session, smgp
from hongyan.wire.smgp import LoginMode, Status
from simulator.esme import NUMBER, SENDER
from simulator.sp import NAME, SECRET, Smgp

SWIFT = "report_delay_s=0.005 "
AT = datetime(2025, 1, 4, 9, 30, tzinfo=UTC)


def build(words: str = "", *rules: str) -> Simulator:
    return Simulator(parse(SWIFT + words), [Rule.read(rule) for rule in rules], seed=7, protocol="smgp")


def login(mode: int = LoginMode.BOTH, version: int = smgp.VERSION) -> smgp.Login:
    return smgp.login(NAME, SECRET, AT, mode=mode, version=version)


async def told(sp: Smgp) -> smgp.Report:
    await sp.reports()
    [deliver] = sp.of(smgp.Deliver)
    report = smgp.report(deliver)
    assert report is not None
    return report


@pytest.mark.parametrize("style", list(SmgpReceipt))
@pytest.mark.parametrize("raw", ["yes", "no"])
async def test_every_layout_is_read_as_the_same_report(style: SmgpReceipt, raw: str) -> None:
    words = f"state=UNDELIV err=005 smgp_receipt={style} smgp_raw_ids={raw}"
    async with build(words) as simulator, await Smgp.entered(simulator.port) as sp:
        sp.text(octets=b"stat:DELIVRD err:000")  # what the report repeats of the message says nothing
        [ack] = await sp.acks()
        report = await told(sp)
        assert (report.msg_id, report.stat, report.error) == (ack.id, "UNDELIV", "005")
        assert len(report.submit_date) == len(report.done_date) == 10


async def test_the_layout_of_the_document_has_its_length() -> None:
    async with build() as simulator, await Smgp.entered(simulator.port) as sp:
        sp.text()
        await sp.reports()
        [deliver] = sp.of(smgp.Deliver)
        assert len(deliver.msg_content) == 122
        assert (deliver.src_term_id, deliver.dest_term_id, len(deliver.recv_time)) == (NUMBER, SENDER, 14)


async def test_layouts_are_what_gateways_send() -> None:
    words = {
        SmgpReceipt.CAPITALS: b" Submit date:",
        SmgpReceipt.UNDERSCORES: b" txt:005hello",
        SmgpReceipt.GLUED: b"sub:001 dlvrd:",
        SmgpReceipt.S_BETWEEN: b"ssub:001sdlvrd:001ssubmit date:",
    }
    rules = [f"1380000000{at}: smgp_receipt={style}" for at, style in enumerate(words)]
    async with build("", *rules) as simulator, await Smgp.entered(simulator.port) as sp:
        for at in range(len(words)):
            sp.text(f"1380000000{at}")
        await sp.reports(len(words))
        contents = {deliver.src_term_id: deliver.msg_content for deliver in sp.of(smgp.Deliver)}
        for at, expected in enumerate(words.values()):
            assert expected in contents[f"1380000000{at}"]
        assert contents["13800000002"][13:17] == b"sub:"


@pytest.mark.parametrize(
    ("words", "stat", "error"),
    [
        ("state=UNDELIV err=MK:0001", "UNDELIV", "004"),
        ("state=UNDELIV err=MK:0001 code_place=stat", "MK:0001", "000"),
        ("state=UNDELIV", "UNDELIV", "001"),
        ("state=REJECTD err=ID:0076", "REJECTD", "999"),
        ("", "DELIVRD", "000"),
    ],
)
async def test_a_code_stands_where_it_fits(words: str, stat: str, error: str) -> None:
    async with build(words) as simulator, await Smgp.entered(simulator.port) as sp:
        sp.text()
        report = await told(sp)
        assert (report.stat, report.error) == (stat, error)


async def test_an_id_says_which_gateway_and_the_ids_of_one_submit_are_a_row() -> None:
    async with build() as simulator, await Smgp.entered(simulator.port) as sp:
        sp.text("13800000000", "13800000001", "13800000002")
        [ack] = await sp.acks()
        parts = smgp.split_msg_id(bytes.fromhex(ack.id))
        assert parts is not None
        assert parts.gateway == GATEWAY
        row = {one.hex() for one in smgp.group_ids(bytes.fromhex(ack.id), 3)}
        assert {report.id for report in await sp.reports(3)} == row


async def test_raw_ids_are_no_bcd_and_hold_nuls() -> None:
    async with build("smgp_raw_ids=yes") as simulator, await Smgp.entered(simulator.port) as sp:
        sp.text()
        [ack] = await sp.acks()
        octets = bytes.fromhex(ack.id)
        assert smgp.split_msg_id(octets) is None
        assert 0 in octets


@pytest.mark.parametrize("padded", [False, True])
async def test_a_short_name_may_be_hashed_either_way_and_the_operator_proves_itself(*, padded: bool) -> None:
    asked = smgp.login("9001", SECRET, AT, padded=padded)
    async with (
        build(f"system_id=9001 password={SECRET}") as simulator,
        await Smgp.entered(simulator.port, asked) as sp,
    ):
        [response] = sp.of(smgp.LoginResp)
        assert response.status == Status.OK
        assert smgp.authenticates_server(response, asked, SECRET)


async def test_an_operator_s_proof_can_be_junk() -> None:
    words = f"password={SECRET} proof_junk=yes"
    async with build(words) as simulator, await Smgp.entered(simulator.port, login()) as sp:
        [response] = sp.of(smgp.LoginResp)
        assert response.status == Status.OK
        assert not smgp.authenticates_server(response, login(), SECRET)


@pytest.mark.parametrize(
    ("words", "status"),
    [("password=other", Status.AUTHENTICATION), ("bind_status=22", Status.VERSION)],
)
async def test_a_refused_login_hears_why(words: str, status: Status) -> None:
    async with build(words) as simulator, await Smgp.entered(simulator.port) as sp:
        [response] = sp.of(smgp.LoginResp)
        assert response.status == status


async def test_reports_of_a_sender_go_to_the_receiver_of_its_account() -> None:
    async with (
        build() as simulator,
        await Smgp.entered(simulator.port, login(LoginMode.SEND)) as sender,
        await Smgp.entered(simulator.port, login(LoginMode.RECEIVE)) as receiver,
    ):
        sender.text()
        [ack] = await sender.acks()
        [report] = await receiver.reports()
        assert report.id == ack.id
        receiver.text()
        assert [ack.state for ack in await receiver.acks()] == [str(int(Status.AUTHENTICATION))]


async def test_a_client_of_the_older_layout_is_understood() -> None:
    class Smgp13(Smgp):
        def dialect(self) -> session.Dialect:
            return smgp.DIALECT_13

    old = login(version=smgp.VERSION_13)
    async with build() as simulator, await Smgp13.entered(simulator.port, old) as sp:
        sp.ask(smgp.Submit13(need_report=1, src_term_id=SENDER, dest_term_id=(NUMBER,), msg_content=b"hello"))
        await sp.reports()
        assert [text.text for text in simulator.phone(NUMBER)] == ["hello"]


async def test_parameters_tell_the_place_of_a_part_without_a_header() -> None:
    async with build() as simulator, await Smgp.entered(simulator.port) as sp:
        for index in (2, 1):
            place = (smgp.TLVS.write("pk_total", 2), smgp.TLVS.write("pk_number", index))
            sp.ask(
                smgp.Submit(
                    need_report=1,
                    src_term_id=SENDER,
                    dest_term_id=(NUMBER,),
                    msg_content=f"part {index} ".encode(),
                    tlvs=place,
                )
            )
        await sp.reports(2)
        assert [text.text for text in simulator.phone(NUMBER)] == ["part 1 part 2 "]


async def test_a_submit_to_nobody_is_refused_and_counts_are_told() -> None:
    async with build() as simulator, await Smgp.entered(simulator.port) as sp:
        sp.text()
        sp.ask(smgp.Submit(src_term_id=SENDER, msg_content=b"hello"))
        assert [ack.state for ack in await sp.acks(2)] == ["0", str(int(Status.DEST_TERM_ID))]
        sp.ask(smgp.Query(query_time="20251124"))
        await sp.until(lambda: bool(sp.of(smgp.QueryResp)))
        assert sp.of(smgp.QueryResp)[0].mt_tl_msg == 1
