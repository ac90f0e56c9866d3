"""Customers who log in with SMPP: the same way as over HTTP, answered after it is stored, told until they have it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, LiteralString, cast

import pytest

from doors.hosting import PASSWORD, Hosted, hosted, log_in_as
from hongyan import db
from hongyan.doors.sessions import Sessions
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab import text as texts
from hongyan.vocab.message import Status
from hongyan.vocab.text import Counting, Encoding
from hongyan.wire import smpp
from hongyan.wire.smpp import TLVS, CommandStatus
from plane import QUICK, Plane, plane
from simulator.esme import Esme

QUIET = "【鸿雁】您的快递已到 南门"
BIND = smpp.BindTransceiver(system_id="acme", password=PASSWORD)


@asynccontextmanager
async def town(
    dsn: str, spoken: str = "report_delay_s=0.01", **terms: Any
) -> AsyncIterator[tuple[Plane, Hosted, Simulator]]:
    """A plane, its operator, and a door for the SMPP login acme."""
    async with Simulator(behaviour.parse(spoken)) as operator, plane(dsn, operator) as way:
        await log_in_as(way, "smpp", "acme", **terms)
        async with hosted(way, "smpp") as door:
            yield way, door, operator


def submit(text: str = QUIET, number: str = "8613800138000", **fields: Any) -> smpp.SubmitSm:
    known: dict[str, Any] = {"registered_delivery": 1, "data_coding": 8, "dest_addr_ton": 1}
    octets = text.encode("utf-16-be")
    return smpp.SubmitSm(**{"destination_addr": number, "short_message": octets, **known, **fields})


async def test_a_submit_travels_to_a_handset_and_its_receipt_comes_back_under_its_id(database: str) -> None:
    async with town(database) as (way, door, operator), await Esme.bound(door.ports["smpp"], BIND) as esme:
        esme.submit(submit(source_addr="1069"))
        (ack,) = await esme.acks()
        assert ack.command_status == 0
        assert 0 < int(ack.message_id) < 2**63  # many read it as a signed number
        (receipt,) = await esme.receipts()
        assert (receipt.message_id, receipt.stat, receipt.error) == (ack.message_id, "DELIVRD", "000")
        (deliver,) = esme.of(smpp.DeliverSm)
        assert (deliver.source_addr, deliver.destination_addr) == ("8613800138000", "1069")
        assert [one.text for one in operator.phone("13800138000")] == [QUIET]
        row = await way.until("SELECT * FROM message WHERE reference = $1", ack.message_id)
        assert (row["status"], row["template_id"] > 0, row["price_micro"] > 0) == (1, True, True)
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")


async def test_what_matches_no_template_or_signature_is_refused_and_stored_nowhere(database: str) -> None:
    async with town(database) as (way, door, _), await Esme.bound(door.ports["smpp"], BIND) as esme:
        esme.submit(submit("【鸿雁】something else"), submit("【他人】您的快递已到 南门"), submit("no name"))
        acks = await esme.acks(3)
        assert {ack.command_status for ack in acks} == {CommandStatus.SUBMITFAIL}
        assert await way.database.fetch("SELECT FROM message") == []


async def test_an_account_that_may_write_freely_sends_what_matches_nothing(database: str) -> None:
    async with (
        town(database, free_text=True) as (way, door, _),
        await Esme.bound(door.ports["smpp"], BIND) as esme,
    ):
        esme.submit(submit("【鸿雁】anything at all"))
        assert (await esme.acks())[0].command_status == 0
        row = await way.until("SELECT * FROM message")
        assert row["template_id"] == 0


def long_parts(reference: int = 7) -> list[smpp.SubmitSm]:
    text = "【鸿雁】您的快递已到 " + "南" * 30
    parts = texts.split(text, counting=Counting.MAINLAND, encoding=Encoding.UCS2)
    if len(parts) == 1:  # a system may cut what would fit
        octets = parts[0].octets
        halves = octets[: len(octets) // 4 * 2], octets[len(octets) // 4 * 2 :]
        parts = tuple(texts.TextPart(n, 2, Encoding.UCS2, half) for n, half in enumerate(halves, 1))
    return [submit("", short_message=part.udh(reference) + part.octets, esm_class=0x40) for part in parts]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_parts_of_a_long_text_are_one_message_in_any_order_and_each_gets_its_receipt(
    database: str, order: tuple[int, int]
) -> None:
    async with town(database) as (way, door, operator), await Esme.bound(door.ports["smpp"], BIND) as esme:
        parts = long_parts()
        ids = []
        for count, place in enumerate(order, 1):  # one at a time: a window of one must not wait for ever
            esme.submit(parts[place])
            ids.append((await esme.acks(count))[-1].message_id)
        receipts = await esme.receipts(2)
        assert {receipt.message_id for receipt in receipts} == set(ids)
        assert len(await way.database.fetch("SELECT FROM message")) == 1
        assert [one.text for one in operator.phone("13800138000")] == ["【鸿雁】您的快递已到 " + "南" * 30]
        assert await way.database.fetch("SELECT FROM submit_part") == []


async def test_parts_come_together_over_different_sessions(database: str) -> None:
    async with town(database) as (way, door, _):
        first, second = long_parts()
        async with await Esme.bound(door.ports["smpp"], BIND) as esme:
            esme.submit(first)
            await esme.acks()
        async with await Esme.bound(door.ports["smpp"], BIND) as esme:
            esme.submit(second)
            assert (await esme.acks())[0].command_status == 0
            await esme.receipts(2)
        assert len(await way.database.fetch("SELECT FROM message")) == 1


async def test_answered_parts_of_a_text_that_is_refused_are_reported_as_rejected(database: str) -> None:
    async with town(database) as (way, door, _), await Esme.bound(door.ports["smpp"], BIND) as esme:
        halves = "no signature ".encode("utf-16-be"), "at all".encode("utf-16-be")
        parts = [texts.TextPart(n, 2, Encoding.UCS2, half) for n, half in enumerate(halves, 1)]
        pdus = [submit("", short_message=one.udh(9) + one.octets, esm_class=0x40) for one in parts]
        esme.submit(pdus[0])
        (first,) = await esme.acks()
        esme.submit(pdus[1])
        second = (await esme.acks(2))[1]
        assert (first.command_status, second.command_status) == (0, CommandStatus.SUBMITFAIL)
        (receipt,) = await esme.receipts()
        assert (receipt.message_id, receipt.stat) == (first.message_id, "REJECTD")
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM submit_part)")


async def test_a_part_whose_others_never_come_is_reported_after_its_wait(database: str) -> None:
    async with Simulator() as operator, plane(database, operator) as way:
        await log_in_as(way, "smpp", "acme")
        async with (
            hosted(way, "smpp", submit_join_wait_s=1) as door,
            await Esme.bound(door.ports["smpp"], BIND) as esme,
        ):
            esme.submit(long_parts()[0])
            (ack,) = await esme.acks()
            (receipt,) = await esme.receipts()
            assert (receipt.message_id, receipt.stat) == (ack.message_id, "REJECTD")


async def test_the_same_request_in_a_session_is_the_same_submit(database: str) -> None:
    async with town(database) as (way, door, _), await Esme.bound(door.ports["smpp"], BIND) as esme:
        again = smpp.encode(submit(), 77)
        esme.say(again)
        esme.say(again)
        acks = await esme.acks(2)
        assert acks[0].message_id == acks[1].message_id
        esme.say(again)
        assert (await esme.acks(3))[2].message_id == acks[0].message_id
        assert len(await way.database.fetch("SELECT FROM message")) == 1


async def test_the_same_request_in_another_session_is_a_new_one_unless_the_account_counts_duplicates(
    database: str,
) -> None:
    async with town(database) as (way, door, _):
        for expected in (1, 2):
            async with await Esme.bound(door.ports["smpp"], BIND) as esme:
                esme.say(smpp.encode(submit(), 77))
                await esme.acks()
            assert len(await way.database.fetch("SELECT FROM message")) == expected
        await log_in_as(way, "smpp", "careful", duplicate_s=600)
        careful = smpp.BindTransceiver(system_id="careful", password=PASSWORD)
        statuses = []
        for _ in range(2):
            async with await Esme.bound(door.ports["smpp"], careful) as esme:
                esme.submit(submit(number="8613900139000"))
                statuses.append((await esme.acks())[0].command_status)
        assert statuses == [0, CommandStatus.SUBMITFAIL]


async def test_receipts_wait_while_the_customer_is_away(database: str) -> None:
    async with town(database, "report_delay_s=0.2") as (way, door, _):
        async with await Esme.bound(door.ports["smpp"], BIND) as esme:
            esme.submit(submit())
            (ack,) = await esme.acks()
        await way.until("SELECT 1 FROM notice")
        async with await Esme.bound(door.ports["smpp"], BIND) as esme:
            (receipt,) = await esme.receipts()
            assert receipt.message_id == ack.message_id
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")


async def test_a_receipt_nobody_acknowledged_comes_again_and_one_that_is_put_off_too(database: str) -> None:
    async with town(database) as (way, door, _):
        esme = await Esme.bound(door.ports["smpp"], BIND, answers=False)
        async with esme:
            esme.submit(submit())
            (ack,) = await esme.acks()
            await esme.receipts()
        async with await Esme.bound(door.ports["smpp"], BIND, answers=False) as esme:
            await esme.receipts()
            (deliver,) = esme.of(smpp.DeliverSm)
            esme.answer(deliver, CommandStatus.X_T_APPN)
            (_, receipt) = await esme.receipts(2)
            assert receipt.message_id == ack.message_id
            esme.answer(esme.of(smpp.DeliverSm)[1])
            await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")


async def test_a_receipt_that_was_not_asked_for_is_not_sent(database: str) -> None:
    async with town(database) as (way, door, _), await Esme.bound(door.ports["smpp"], BIND) as esme:
        esme.submit(submit(registered_delivery=0), submit(registered_delivery=2))
        await esme.acks(2)
        await way.all_final()
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        assert esme.of(smpp.DeliverSm) == []


@pytest.mark.parametrize(
    "bind",
    [
        smpp.BindTransceiver(system_id="acme", password="wrong"),
        smpp.BindTransceiver(system_id="nobody", password=PASSWORD),
    ],
)
async def test_a_wrong_login_is_refused_after_a_wait_that_grows(database: str, bind: smpp.Bind) -> None:
    async with town(database) as (_, door, _):
        for _ in range(2):
            async with await Esme.connect(door.ports["smpp"], bind) as esme:
                await esme.ended()
                assert esme.of(smpp.BindResp)[0].command_status == CommandStatus.INVPASWD
        assert [count for count, _ in door.host._penalties.values()] == [2]


async def test_a_login_from_elsewhere_is_refused(database: str) -> None:
    async with (
        town(database, addresses=["192.0.2.0/24"]) as (_, door, _),
        await Esme.connect(door.ports["smpp"], BIND) as esme,
    ):
        await esme.ended()
        assert esme.of(smpp.BindResp)[0].command_status == CommandStatus.BINDFAIL


async def test_sessions_are_limited_over_all_doors(database: str) -> None:
    async with (
        town(database, sessions_max=2) as (way, door, _),
        hosted(way, "smpp", settings=replace(QUICK, door=2)) as other,
    ):
        one = await Esme.bound(door.ports["smpp"], BIND)
        two = await Esme.bound(other.ports["smpp"], BIND)
        three = await Esme.connect(door.ports["smpp"], BIND)
        await three.ended()
        assert three.of(smpp.BindResp)[0].command_status == CommandStatus.BINDFAIL
        for esme in (one, two, three):
            await esme.close()


async def test_who_submits_too_fast_is_told_so_and_stays(database: str) -> None:
    async with (
        town(database, rate_per_s=2) as (_, door, _),
        await Esme.bound(door.ports["smpp"], BIND) as esme,
    ):
        esme.submit(*(submit() for _ in range(12)))
        acks = await esme.acks(12)
        statuses = [ack.command_status for ack in acks]
        assert CommandStatus.THROTTLED in statuses
        assert 0 in statuses
        await asyncio.sleep(0.7)
        esme.submit(submit())
        assert (await esme.acks(13))[-1].command_status == 0


async def test_a_full_window_throttles(database: str) -> None:
    async with (
        town(database, window_size=1, rate_per_s=0) as (_, door, _),
        await Esme.bound(door.ports["smpp"], BIND) as esme,
    ):
        esme.submit(*(submit(number=f"861380013800{n}") for n in range(4)))
        statuses = [ack.command_status for ack in await esme.acks(4)]
        assert statuses.count(0) >= 1
        assert set(statuses) == {0, CommandStatus.THROTTLED}


async def test_submit_multi_names_those_it_did_not_reach(database: str) -> None:
    async with town(database) as (way, door, _), await Esme.bound(door.ports["smpp"], BIND) as esme:
        people = tuple(smpp.Address(1, 1, n) for n in ("8613800138000", "8613900139000", "86110"))
        pdu = smpp.SubmitMulti(
            dest_address=people, data_coding=8, short_message=QUIET.encode("utf-16-be"), registered_delivery=1
        )
        esme.submit(pdu)
        await esme.until(lambda: bool(esme.of(smpp.SubmitMultiResp)))
        (answer,) = esme.of(smpp.SubmitMultiResp)
        assert [(one.addr, one.error_status) for one in answer.unsuccess_sme] == [
            ("86110", CommandStatus.INVDSTADR)
        ]
        receipts = await esme.receipts(2)
        assert {receipt.message_id for receipt in receipts} == {answer.message_id}
        assert len(await way.database.fetch("SELECT FROM message")) == 2


async def test_data_sm_and_a_payload_are_submits_too(database: str) -> None:
    async with town(database) as (way, door, _), await Esme.bound(door.ports["smpp"], BIND) as esme:
        payload = (TLVS.write("message_payload", QUIET.encode("utf-16-be")),)
        esme.submit(
            smpp.DataSm(destination_addr="8613800138000", data_coding=8, registered_delivery=1, tlvs=payload)
        )
        esme.submit(submit("", short_message=b"", tlvs=payload, destination_addr="8613900139000"))
        await esme.until(lambda: bool(esme.of(smpp.DataSmResp)))
        await esme.receipts(2)
        assert len(await way.database.fetch("SELECT FROM message")) == 2


async def test_a_transmitter_is_given_nothing_and_a_receiver_may_ask_nothing(database: str) -> None:
    async with town(database) as (_, door, _):
        transmitter = smpp.BindTransmitter(system_id="acme", password=PASSWORD)
        receiver = smpp.BindReceiver(system_id="acme", password=PASSWORD)
        async with (
            await Esme.bound(door.ports["smpp"], transmitter) as sends,
            await Esme.bound(door.ports["smpp"], receiver) as hears,
        ):
            sends.submit(submit())
            (ack,) = await sends.acks()
            (receipt,) = await hears.receipts()
            assert receipt.message_id == ack.message_id
            assert sends.of(smpp.DeliverSm) == []
            hears.submit(submit())
            assert (await hears.acks())[0].command_status == CommandStatus.INVBNDSTS


async def test_a_login_that_is_disabled_is_logged_out(database: str) -> None:
    async with town(database) as (way, door, _), await Esme.bound(door.ports["smpp"], BIND) as esme:
        await way.database.execute("UPDATE login SET active = false")
        await way.keeper.load()
        await esme.ended()


async def test_every_submit_answered_before_the_door_died_is_delivered_once(database: str) -> None:
    async with town(database, rate_per_s=0, window_size=200) as (way, door, operator):
        esme = await Esme.bound(door.ports["smpp"], BIND)
        numbers = [f"86138001{n:05}" for n in range(150)]
        esme.submit(*(submit(number=number) for number in numbers))
        await esme.acks(20)
        await door.die()
        await esme.ended()
        answered = {ack.message_id for ack in esme.of(smpp.SubmitSmResp) if ack.command_status == 0}
        await way.all_final()
        rows = await way.database.fetch("SELECT reference, status FROM message")
        assert answered <= {row["reference"] for row in rows if row["status"] == Status.DELIVERED.number}
        counts = [len(operator.phone(number)) for number in numbers]
        assert max(counts) == 1
        await esme.close()
        async with hosted(way, "smpp") as again, await Esme.bound(again.ports["smpp"], BIND) as heir:
            receipts = await heir.receipts(len(rows) - len(esme.of(smpp.DeliverSm)))
            told = {receipt.message_id for receipt in receipts} | {r.message_id for r in esme._receipts()}
            assert answered <= told


async def test_a_door_that_stops_or_starts_again_counts_no_sessions_it_does_not_have(database: str) -> None:
    async with town(database, sessions_max=1) as (way, door, _):
        async with hosted(way, "smpp", settings=replace(QUICK, door=2)) as other:
            esme = await Esme.bound(other.ports["smpp"], BIND)
            await other.die()  # what it held stands there still
            await esme.close()
        async with (
            hosted(way, "smpp", settings=replace(QUICK, door=2)) as again,
            await Esme.bound(again.ports["smpp"], BIND) as esme,
        ):
            esme.submit(submit())
            assert (await esme.acks())[0].command_status == 0
        async with await Esme.bound(
            door.ports["smpp"], BIND
        ) as esme:  # at once: the other has said that it is gone
            assert esme.of(smpp.BindResp)[0].command_status == 0


class SlowToForget:
    """A database that deletes only once it is told to; all else is as quick as ever."""

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self.asked, self.told, self.done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def transaction(self) -> AbstractAsyncContextManager[db.Tx]:
        return self._database.transaction()

    async def execute(self, sql: LiteralString, *values: Any) -> None:
        if sql.startswith("DELETE"):
            self.asked.set()
            await self.told.wait()
        await self._database.execute(sql, *values)
        self.done.set()


async def test_a_session_that_comes_while_its_door_begins_is_counted(database: str) -> None:
    async with town(database, sessions_max=1) as (way, _, _):
        (login,) = way.keeper.current.logins.values()
        slow = SlowToForget(way.database)
        begun = Sessions(cast("db.Database", slow), 2)
        run = asyncio.create_task(begun.run())
        try:
            async with asyncio.timeout(10):
                await slow.asked.wait()
                entering = [asyncio.create_task(begun.enter(login)) for _ in range(2)]
                await asyncio.wait(entering, timeout=0.2)
                slow.told.set()
                await slow.done.wait()
                assert sorted([await one for one in entering]) == [False, True]
                assert not await Sessions(way.database, 3).enter(login)
        finally:
            run.cancel()
