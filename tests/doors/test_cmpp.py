"""Customers who log in with CMPP: which layout is spoken, and what is said in it."""

from collections.abc import Sequence

import pytest
from msgspec import structs

from doors.client import LONG, NAME, QUIET, enter, group, login, town, written
from doors.hosting import PASSWORD
from hongyan.doors.tongues.tongue import china_now
from hongyan.wire import cmpp
from simulator.sp import Cmpp, Cmpp2


def submit(sp: Cmpp, text: str = QUIET, number: str = "13800138000") -> cmpp.Submit:
    pdu = sp.submission((number,), text.encode("utf-16-be"), 8, 0)
    assert isinstance(pdu, cmpp.Submit)
    return pdu


@pytest.mark.parametrize("kind", [Cmpp, Cmpp2])
@pytest.mark.parametrize(("version", "dialect"), [(0x20, cmpp.V2), (0x30, cmpp.V3)])
async def test_the_account_says_which_layout_is_spoken_whatever_the_client_says(
    database: str, kind: type[Cmpp], version: int, dialect: cmpp.CmppDialect
) -> None:
    async with town(database, "cmpp", version=version) as (_, door, _), await enter(kind, door) as sp:
        assert sp.session.dialect is dialect
        (response,) = sp.of(cmpp.ConnectResp)
        asked = login(kind)
        assert isinstance(asked, cmpp.Connect)
        assert response.version == version
        sp.text("13800138000", **written())
        (ack,) = await sp.acks()
        assert await sp.reports() == [(ack.id, "DELIVRD")]


@pytest.mark.parametrize("kind", [Cmpp, Cmpp2])
async def test_where_the_account_does_not_say_the_version_of_the_client_counts(
    database: str, kind: type[Cmpp]
) -> None:
    async with town(database, "cmpp") as (_, door, _), await enter(kind, door) as sp:
        assert isinstance(sp.session.dialect, cmpp.CmppDialect)
        assert sp.session.dialect.version == kind.version


async def test_who_is_turned_away_hears_it_in_the_layout_of_the_account(database: str) -> None:
    async with (
        town(database, "cmpp", version=0x20) as (_, door, _),
        await enter(Cmpp, door, login(Cmpp, "wrong")) as sp,
    ):
        await sp.ended()
        (response,) = sp.of(cmpp.ConnectResp)
        assert (type(response), response.status) == (cmpp.ConnectResp2, 3)


async def test_a_login_from_elsewhere_is_refused(database: str) -> None:
    async with (
        town(database, "cmpp", addresses=["192.0.2.0/24"]) as (_, door, _),
        await enter(Cmpp, door) as sp,
    ):
        await sp.ended()
        assert sp.of(cmpp.ConnectResp)[0].status == cmpp.ConnectStatus.SOURCE_ADDRESS


@pytest.mark.parametrize("padded", [False, True])
async def test_a_short_name_is_proved_in_either_padding_and_so_are_we(database: str, padded: bool) -> None:
    async with town(database, "cmpp") as (way, door, _):
        await way.database.execute("UPDATE login SET name = '42'")
        await way.keeper.load()
        connect = cmpp.connect("42", PASSWORD, china_now(), padded=padded)
        async with await enter(Cmpp, door, connect) as sp:
            (response,) = sp.of(cmpp.ConnectResp)
            assert response.status == 0
            assert cmpp.authenticates_ismg(response, connect, PASSWORD)


@pytest.mark.parametrize(
    ("kind", "settings", "octets"),
    [(Cmpp, {}, 71), (Cmpp2, {}, 60), (Cmpp, {"report_octets": 60}, 60), (Cmpp2, {"report_octets": 71}, 71)],
)
async def test_a_report_is_as_long_as_the_account_wants_it(
    database: str, kind: type[Cmpp], settings: dict[str, int], octets: int
) -> None:
    async with town(database, "cmpp", settings=settings) as (_, door, _), await enter(kind, door) as sp:
        sp.text("13800138000", **written())
        (ack,) = await sp.acks()
        await sp.reports()
        (deliver,) = sp.of(cmpp.Deliver)
        assert len(deliver.msg_content) == octets
        assert str(deliver.msg_id) != ack.id
        assert (deliver.src_terminal_id, deliver.dest_id) == ("13800138000", "1069000")
        report = cmpp.report(deliver)
        assert report is not None
        assert (report.dest, len(report.submit_time), len(report.done_time)) == ("13800138000", 10, 10)


async def test_parts_that_are_only_counted_are_one_message(database: str) -> None:
    async with town(database, "cmpp") as (way, door, operator), await enter(Cmpp, door) as sp:
        for place, text in enumerate((LONG[:12], LONG[12:]), 1):
            sp.ask(structs.replace(submit(sp, text), pk_total=2, pk_number=place))
        await sp.reports(2)
        assert [one.text for one in operator.phone("13800138000")] == [LONG]
        assert len(await way.database.fetch("SELECT FROM message")) == 1


@pytest.mark.parametrize(
    ("octets", "form"), [(QUIET.encode("gbk"), 15), (QUIET.encode("utf-16-be"), 8)], ids=["gbk", "ucs2"]
)
async def test_a_text_is_read_in_the_encoding_it_says(database: str, octets: bytes, form: int) -> None:
    async with town(database, "cmpp") as (_, door, operator), await enter(Cmpp, door) as sp:
        sp.text("13800138000", octets=octets, form=form)
        await sp.reports()
        assert [one.text for one in operator.phone("13800138000")] == [QUIET]


@pytest.mark.parametrize(
    ("changes", "results"),
    [
        ({"msg_fmt": 4}, ("1", "1")),
        ({"at_time": "tomorrow"}, ("1", "1")),
        ({"valid_time": "000100000000000R"}, ("1", "1")),  # a month
        ({"src_id": "10690"}, ("10", "9")),  # 2.x knows no 10
        ({"dest_terminal_id": ("12345",)}, ("13", "9")),
        ({"dest_terminal_id": ()}, ("13", "9")),
        ({"msg_content": "【他人】您的快递已到 南门".encode("utf-16-be")}, ("9", "9")),
    ],
)
async def test_a_refusal_says_what_the_protocol_has_a_number_for(
    database: str, changes: dict[str, object], results: tuple[str, str]
) -> None:
    async with town(database, "cmpp", access_number="1069000") as (_, door, _):
        for kind, result in zip((Cmpp, Cmpp2), results, strict=True):
            async with await enter(kind, door) as sp:
                sp.ask(structs.replace(submit(sp), **changes))
                assert [ack.state for ack in await sp.acks()] == [result]


@pytest.mark.parametrize("wanted", [0, 2])
async def test_a_report_that_was_not_asked_for_is_not_sent(database: str, wanted: int) -> None:
    async with town(database, "cmpp") as (way, door, _), await enter(Cmpp, door) as sp:
        sp.ask(structs.replace(submit(sp), registered_delivery=wanted))
        await sp.acks()
        await way.all_final()
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        assert sp.of(cmpp.Deliver) == []


async def test_the_same_request_in_a_session_is_the_same_submit(database: str) -> None:
    async with town(database, "cmpp") as (way, door, _), await enter(Cmpp, door) as sp:
        for _ in range(2):
            sp.say(submit(sp))
        one, two = await sp.acks(2)
        assert one == two
        assert len(await way.database.fetch("SELECT FROM message")) == 1


async def test_what_is_not_offered_is_answered_and_the_session_goes_on(database: str) -> None:
    async with town(database, "cmpp") as (_, door, _), await enter(Cmpp, door) as sp:
        sp.ask(cmpp.Query(time="20261125"))
        sp.ask(cmpp.Cancel(msg_id=7))
        sp.ask(cmpp.Fwd3(msg_id=7))
        sp.text(**written())
        await sp.acks()
        answers: Sequence[cmpp.Pdu] = sp.heard[1:4]
        query, cancel, fwd = sorted(answers, key=lambda pdu: pdu.sequence_number)
        assert isinstance(query, cmpp.QueryResp)
        assert (query.time, query.mt_tlmsg) == ("20261125", 0)
        assert isinstance(cancel, cmpp.CancelResp)
        assert cancel.success_id == 1
        assert isinstance(fwd, cmpp.FwdResp)
        assert fwd.result != 0


async def test_of_a_number_that_is_named_twice_the_second_is_refused_under_its_own_id(database: str) -> None:
    async with town(database, "cmpp", duplicate_s=600) as (_, door, _), await enter(Cmpp, door) as sp:
        sp.text("13800138000", "13800138000", **written())
        (ack,) = await sp.acks()
        first, second = group(Cmpp, ack, 2)
        assert sorted(await sp.reports(2)) == sorted([(first, "DELIVRD"), (second, "REJECTD")])


async def test_a_full_window_throttles(database: str) -> None:
    async with (
        town(database, "cmpp", window_size=1, rate_per_s=0) as (_, door, _),
        await enter(Cmpp, door) as sp,
    ):
        for n in range(4):
            sp.ask(submit(sp, number=f"1380013800{n}"))
        states = [ack.state for ack in await sp.acks(4)]
        assert set(states) == {"0", "8"}


async def test_a_login_that_is_disabled_is_logged_out(database: str) -> None:
    async with town(database, "cmpp") as (way, door, _), await enter(Cmpp, door) as sp:
        assert NAME in {login.name for login in way.keeper.current.login_apps.values()}
        await way.database.execute("UPDATE login SET active = false")
        await way.keeper.load()
        await sp.ended()
