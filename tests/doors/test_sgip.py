"""Customers who log in with SGIP: ids of their own, and the connection that we open to them."""

from typing import Any

import pytest
from msgspec import structs

from doors import client
from doors.client import QUIET, enter, login, reply, town, written
from doors.hosting import PASSWORD
from hongyan.wire import sgip
from hongyan.wire.sgip import LoginType, Result
from ports import free_port
from simulator.sp import NODE, Listener, Sgip


def submit(sp: Sgip, text: str = QUIET, **fields: Any) -> sgip.Submit:
    pdu = sp.submission(("8613800138000",), text.encode("utf-16-be"), 8, 0)
    assert isinstance(pdu, sgip.Submit)
    return structs.replace(pdu, **fields)


async def test_the_sequence_number_of_a_submit_is_its_id(database: str) -> None:
    async with town(database, "sgip") as (way, door, _), await enter(Sgip, door) as sp:
        sp.text("8613800138000", **written())
        (ack,) = await sp.acks()
        assert ack.id == sgip.SequenceNumber(NODE, sp.stamp, 2).hex
        await sp.reports()
        (report,) = sp.of(sgip.Report)
        assert (report.user_number, report.state, report.error_code) == ("8613800138000", 0, 0)
        await way.until("SELECT 1 FROM message WHERE reference = $1", ack.id)


async def test_a_number_counts_with_all_its_octets(database: str) -> None:
    async with town(database, "sgip") as (way, door, _), await enter(Sgip, door) as sp:
        for stamp in (1, 2, 2):
            sp.say(submit(sp, stamp=stamp))
        assert [ack.state for ack in await sp.acks(3)] == ["0"] * 3
        assert len(await way.database.fetch("SELECT FROM message")) == 2


async def test_the_same_number_with_other_content_is_refused(database: str) -> None:
    async with town(database, "sgip") as (way, door, _), await enter(Sgip, door) as sp:
        sp.say(submit(sp))
        await sp.acks()
        sp.say(submit(sp, "【鸿雁】您的快递已到 北门"))
        assert (await sp.acks(2))[1].state == str(int(Result.SEQUENCE_NUMBER))
        assert len(await way.database.fetch("SELECT FROM message")) == 1


async def test_submits_of_another_node_than_the_accounts_are_refused(database: str) -> None:
    async with (
        town(database, "sgip", settings={"node": NODE}) as (_, door, _),
        await enter(Sgip, door) as sp,
    ):
        sp.ask(submit(sp))
        sp.ask(submit(sp, node=7))
        states = {ack.state for ack in await sp.acks(2)}
        assert states == {"0", str(int(Result.SEQUENCE_NUMBER))}


@pytest.mark.parametrize("kind", [LoginType.SMG_TO_SP, LoginType.SMG_TO_SMG, LoginType.TEST])
async def test_only_a_login_of_a_customer_is_let_in(database: str, kind: LoginType) -> None:
    async with (
        town(database, "sgip") as (_, door, _),
        await enter(Sgip, door, structs.replace(login(Sgip), login_type=kind)) as sp,
    ):
        await sp.ended()
        assert sp.of(sgip.BindResp)[0].result == Result.LOGIN_TYPE


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"message_coding": 4}, Result.PARAMETER_FORMAT),
        ({"schedule_time": "tomorrow"}, Result.PARAMETER_FORMAT),
        ({"sp_number": "10690"}, Result.PARAMETER_FORMAT),
        ({"user_numbers": ("12345",)}, Result.ILLEGAL_NUMBER),
        ({"message_content": "【他人】您的快递已到 南门".encode("utf-16-be")}, Result.NOT_PROVIDED),
    ],
)
async def test_a_refusal_says_what_the_protocol_has_a_number_for(
    database: str, changes: dict[str, Any], result: Result
) -> None:
    async with (
        town(database, "sgip", access_number="1069000") as (_, door, _),
        await enter(Sgip, door) as sp,
    ):
        sp.ask(submit(sp, **changes))
        assert [ack.state for ack in await sp.acks()] == [str(int(result))]


@pytest.mark.parametrize(("flag", "delivered"), [(0, False), (1, True), (2, False)])
async def test_a_report_comes_where_it_was_asked_for(database: str, flag: int, delivered: bool) -> None:
    async with town(database, "sgip") as (way, door, _), await enter(Sgip, door) as sp:
        sp.ask(submit(sp, report_flag=flag))
        sp.ask(submit(sp, user_numbers=("8613900139000",)))
        numbers = {"8613900139000"} | ({"8613800138000"} if delivered else set())
        await sp.reports(len(numbers))
        await way.all_final()
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        assert {report.user_number for report in sp.of(sgip.Report)} == numbers


async def test_a_trace_is_answered_that_it_is_not_offered(database: str) -> None:
    async with town(database, "sgip") as (_, door, _), await enter(Sgip, door) as sp:
        sp.ask(sgip.Trace(user_number="8613800138000"))
        await sp.until(lambda: bool(sp.of(sgip.TraceResp)))
        (answer,) = sp.of(sgip.TraceResp)
        assert [hop.result for hop in answer.hops] == [Result.NOT_PROVIDED]


# ---- the connection that we open


async def test_reports_and_texts_go_to_where_the_customer_listens_and_not_over_its_own_session(
    database: str,
) -> None:
    async with (
        Listener() as listener,
        town(database, "sgip", deliver_to=f"127.0.0.1:{listener.port}") as (way, door, operator),
    ):
        async with await enter(Sgip, door) as sp:
            sp.text("8613800138000", **written())
            (ack,) = await sp.acks()
            assert await listener.reports() == [(ack.id, "DELIVRD")]
            assert sp.of(sgip.Report) == []
        (bind,) = listener.binds
        assert (bind.login_type, bind.login_name, bind.login_password) == (2, client.NAME, PASSWORD)
        await reply(way, door, operator, "好的")
        await listener.until(lambda: bool(listener.of(sgip.Deliver)))
        (deliver,) = listener.of(sgip.Deliver)
        assert deliver.message_content.decode("utf-16-be") == "好的"
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        assert len(listener.binds) == 1  # the connection is kept while there is something to say


async def test_nobody_is_dialled_who_is_owed_nothing(database: str) -> None:
    async with (
        Listener() as listener,
        town(database, "sgip", deliver_to=f"127.0.0.1:{listener.port}") as (_, door, _),
    ):
        door.host.dialling.wake()
        assert await door.host.dialling._owed() == []
        assert listener.binds == []


async def test_another_name_is_said_to_the_customer_where_the_account_has_one(database: str) -> None:
    async with (
        Listener() as listener,
        town(database, "sgip", deliver_to=f"127.0.0.1:{listener.port}", settings={"deliver_name": "smg"}) as (
            _,
            door,
            _,
        ),
        await enter(Sgip, door) as sp,
    ):
        sp.text("8613800138000", **written())
        await listener.reports()
        assert [bind.login_name for bind in listener.binds] == ["smg"]


async def test_a_customer_who_does_not_let_us_in_or_breaks_off_is_dialled_again(database: str) -> None:
    listener = Listener(refusals=1, drops=1)
    async with (
        listener,
        town(database, "sgip", deliver_to=f"127.0.0.1:{listener.port}") as (way, door, _),
        await enter(Sgip, door) as sp,
    ):
        sp.text("8613800138000", **written())
        (ack,) = await sp.acks()
        for _ in range(2):  # without the wait of a failure, which is tested by its number below
            await way.holds(lambda: bool(door.host.dialling._failed))
            door.host.dialling._failed.clear()
            door.host.dialling.wake()
        assert await listener.reports() == [(ack.id, "DELIVRD")]
        assert len(listener.binds) == 3
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")


async def test_failures_in_a_row_are_counted_until_something_is_taken(database: str) -> None:
    listener = Listener(port=free_port())  # nobody listens there yet
    async with (
        town(database, "sgip", deliver_to=f"127.0.0.1:{listener.port}") as (way, door, _),
        await enter(Sgip, door) as sp,
    ):
        sp.text("8613800138000", **written())
        failed = door.host.dialling._failed
        for times in (1, 2):
            await way.holds(lambda times=times: [one.times for one in failed.values()] == [times])
            (login_id,) = failed
            assert failed[login_id].until_s > 0.0
            failed[login_id] = failed[login_id]._replace(until_s=0.0)
            door.host.dialling.wake()
        async with listener:
            failed[login_id] = failed[login_id]._replace(until_s=0.0)
            door.host.dialling.wake()
            await listener.reports()
            await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
            (call,) = [link for link in door.host.links if link.receives]
            call.depart()
            await way.holds(lambda: failed == {})


@pytest.mark.parametrize("nowhere", ["a..b:8801", "[::1]:1"])
async def test_an_address_that_cannot_be_dialled_harms_nobody_else(database: str, nowhere: str) -> None:
    async with town(database, "sgip", deliver_to=nowhere) as (way, door, _), await enter(Sgip, door) as sp:
        sp.text("8613800138000", **written())
        await way.holds(lambda: bool(door.host.dialling._failed))
        sp.text("8613900139000", **written())
        assert [ack.state for ack in await sp.acks(2)] == ["0", "0"]


async def test_a_connection_of_ours_ends_when_it_has_been_idle(database: str) -> None:
    async with (
        Listener() as listener,
        town(database, "sgip", deliver_to=f"127.0.0.1:{listener.port}") as (way, door, _),
        await enter(Sgip, door) as sp,
    ):
        sp.text("8613800138000", **written())
        await listener.reports()
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        (call,) = [link for link in door.host.links if link.receives]
        call._machine._active_s -= 61.0
        call.tick()
        await listener.until(lambda: listener.unbinds == 1)
        await way.holds(lambda: not door.host.dialling._calls)
        assert door.host.dialling._failed == {}


async def test_a_closing_door_logs_out_where_it_has_dialled(database: str) -> None:
    async with Listener() as listener:
        async with (
            town(database, "sgip", deliver_to=f"127.0.0.1:{listener.port}") as (way, door, _),
            await enter(Sgip, door) as sp,
        ):
            sp.text("8613800138000", **written())
            await listener.reports()
            await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        await listener.until(lambda: listener.unbinds == 1)
