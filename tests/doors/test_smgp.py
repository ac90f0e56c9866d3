"""Customers who log in with SMGP: the kinds of login, the ids, the report, the older layout."""

from typing import Any

import pytest
from msgspec import structs

from doors.client import LONG, NAME, QUIET, enter, login, town, written
from doors.hosting import PASSWORD
from hongyan.doors.tongues.smgp import MsgIds
from hongyan.doors.tongues.tongue import china_now
from hongyan.wire import session, smgp
from hongyan.wire.smgp import TLVS, LoginMode, Status
from simulator.sp import Smgp


class Older(Smgp):
    """A client of 1.3, whose Submit has no FixedFee."""

    def dialect(self) -> session.Dialect:
        return smgp.DIALECT_13

    def submission(self, *args: Any) -> smgp.Submit:
        whole = super().submission(*args)
        return smgp.Submit13(**{name: getattr(whole, name) for name in smgp.Submit13.__struct_fields__})


def submit(sp: Smgp, text: str = QUIET) -> smgp.Submit:
    return sp.submission(("13800138000",), text.encode("utf-16-be"), 8, 0)


def entry(mode: int = LoginMode.BOTH, version: int = smgp.VERSION, *, padded: bool = False) -> smgp.Login:
    return smgp.login(NAME, PASSWORD, china_now(), mode=mode, version=version, padded=padded)


@pytest.mark.parametrize("padded", [False, True])
async def test_a_short_name_is_proved_in_either_padding_and_so_are_we(database: str, padded: bool) -> None:
    async with town(database, "smgp") as (_, door, _):
        asked = entry(padded=padded)
        async with await enter(Smgp, door, asked) as sp:
            (response,) = sp.of(smgp.LoginResp)
            assert response.status == 0
            assert smgp.authenticates_server(response, asked, PASSWORD)


async def test_who_came_to_send_hears_nothing_and_who_came_to_receive_may_ask_nothing(database: str) -> None:
    async with (
        town(database, "smgp") as (_, door, _),
        await enter(Smgp, door, entry(LoginMode.SEND)) as sends,
        await enter(Smgp, door, entry(LoginMode.RECEIVE)) as hears,
    ):
        sends.text("13800138000", **written())
        (ack,) = await sends.acks()
        assert await hears.reports() == [(ack.id, "DELIVRD")]
        assert sends.of(smgp.Deliver) == []
        hears.text("13800138000", **written())
        assert [one.state for one in await hears.acks()] == [str(int(Status.AUTHENTICATION))]


@pytest.mark.parametrize(("claimed", "settings"), [(smgp.VERSION_13, {}), (smgp.VERSION, {"layout": 13})])
async def test_the_older_layout_is_spoken_where_the_client_or_the_account_says_so(
    database: str, claimed: int, settings: dict[str, int]
) -> None:
    async with (
        town(database, "smgp", settings=settings) as (_, door, operator),
        await enter(Older, door, entry(version=claimed)) as sp,
    ):
        sp.text("13800138000", **written())
        await sp.reports()
        assert [one.text for one in operator.phone("13800138000")] == [QUIET]


async def test_a_report_has_the_octets_of_the_document_and_the_id_of_the_submit(database: str) -> None:
    async with town(database, "smgp") as (_, door, _), await enter(Smgp, door) as sp:
        sp.text("13800138000", **written())
        (ack,) = await sp.acks()
        await sp.reports()
        (deliver,) = sp.of(smgp.Deliver)
        assert len(deliver.msg_content) == 122
        assert deliver.msg_content[3:13].hex() == ack.id
        assert (deliver.src_term_id, deliver.dest_term_id) == ("13800138000", "1069000")
        report = smgp.report(deliver)
        assert report is not None
        assert (report.stat, report.error) == ("DELIVRD", "000")
        parts = smgp.split_msg_id(bytes.fromhex(ack.id))
        assert parts is not None
        assert parts.gateway == "000001"


async def test_parts_that_are_only_counted_are_one_message(database: str) -> None:
    async with town(database, "smgp") as (way, door, operator), await enter(Smgp, door) as sp:
        for place, text in enumerate((LONG[:12], LONG[12:]), 1):
            tlvs = (TLVS.write("pk_total", 2), TLVS.write("pk_number", place))
            sp.ask(structs.replace(submit(sp, text), tlvs=tlvs))
        await sp.reports(2)
        assert [one.text for one in operator.phone("13800138000")] == [LONG]
        assert len(await way.database.fetch("SELECT FROM message")) == 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"msg_format": 4}, Status.MSG_FORMAT),
        ({"at_time": "tomorrow"}, Status.AT_TIME),
        ({"valid_time": "000100000000000R"}, Status.VALID_TIME),  # a month
        ({"src_term_id": "10690"}, Status.SRC_TERM_ID),
        ({"dest_term_id": ("12345",)}, Status.DEST_TERM_ID),
        ({"msg_content": "【他人】您的快递已到 南门".encode("utf-16-be")}, 128),
    ],
)
async def test_a_refusal_says_what_the_protocol_has_a_number_for(
    database: str, changes: dict[str, object], status: int
) -> None:
    async with (
        town(database, "smgp", access_number="1069000") as (_, door, _),
        await enter(Smgp, door) as sp,
    ):
        sp.ask(structs.replace(submit(sp), **changes))
        assert [ack.state for ack in await sp.acks()] == [str(int(status))]


async def test_a_query_is_answered_with_nothing_to_tell(database: str) -> None:
    async with town(database, "smgp") as (_, door, _), await enter(Smgp, door) as sp:
        sp.ask(smgp.Query(query_time="20261125"))
        await sp.until(lambda: bool(sp.of(smgp.QueryResp)))
        (answer,) = sp.of(smgp.QueryResp)
        assert (answer.query_time, answer.mt_tl_msg) == ("20261125", 0)


async def test_a_login_from_elsewhere_is_refused(database: str) -> None:
    async with (
        town(database, "smgp", addresses=["192.0.2.0/24"]) as (_, door, _),
        await enter(Smgp, door, login(Smgp)) as sp,
    ):
        await sp.ended()
        assert sp.of(smgp.LoginResp)[0].status == Status.IP_ADDRESS


def test_ids_are_given_once_also_by_a_door_that_starts_again() -> None:
    seen = [one for _ in range(3) for count in (1, 100) for one in MsgIds(7).make(count)]
    ids = MsgIds(8)
    seen += [one for count in (1, 100, 1) for one in ids.make(count)]
    own = [one for one in seen if one.hex().startswith("000008")]
    assert len(own) == len(set(own)) == 102
    assert all(smgp.split_msg_id(one) is not None for one in seen)
