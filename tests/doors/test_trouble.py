"""Customers' sessions when something goes wrong: one login's trouble is nobody else's, and nothing is lost in silence."""

import asyncio

import pytest

from doors import client
from doors.client import enter
from doors.hosting import PASSWORD, log_in_as
from doors.test_protocols import BIND, long_parts, submit, town
from hongyan.doors import protocols
from hongyan.doors.telling import ROUND_MAX, Telling
from hongyan.doors.tongues.smpp import Smpp
from hongyan.doors.tongues.tongue import Numbers
from hongyan.wire import smpp
from hongyan.wire.smpp import CommandStatus
from plane import Plane, severable
from simulator.esme import Esme
from simulator.sp import Cmpp


async def test_a_login_that_nothing_can_be_made_of_ends_nobody_elses_session(database: str) -> None:
    async with town(database) as (way, door, _):
        await log_in_as(way, "smpp", "odd")
        await way.database.execute(
            "UPDATE login SET settings = '{\"data_coding_0\": \"runes\"}' WHERE name = 'odd'"
        )
        await way.keeper.load()
        async with await Esme.bound(door.ports["smpp"], BIND) as esme:
            odd = await Esme.connect(
                door.ports["smpp"], smpp.BindTransceiver(system_id="odd", password=PASSWORD)
            )
            await odd.ended()
            await odd.close()
            esme.submit(submit())
            assert (await esme.acks())[0].command_status == 0
        await way.holds(lambda: not door.host.sessions._held)  # the odd one's too


async def test_a_login_that_could_not_be_counted_takes_no_seat(database: str) -> None:
    async with town(database, sessions_max=1) as (way, door, _):
        await out_of_order(way, "login_session", "INSERT")
        refused = await Esme.connect(door.ports["smpp"], BIND)
        await refused.ended()
        assert refused.of(smpp.BindResp)[0].command_status == CommandStatus.SYSERR
        await refused.close()
        await in_order(way, "login_session")
        async with await Esme.bound(door.ports["smpp"], BIND) as esme:
            assert esme.of(smpp.BindResp)[0].command_status == 0


async def test_a_login_that_is_disabled_submits_nothing_more(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "LOOK_S", 60.0)  # by then it would be logged out
    async with town(database) as (way, door, _), await Esme.bound(door.ports["smpp"], BIND) as esme:
        await way.database.execute("UPDATE login SET active = false")
        await way.keeper.load()
        esme.submit(submit())
        assert (await esme.acks())[0].command_status != 0


async def test_a_number_refused_beside_others_is_reported_though_that_could_not_be_written_at_first(
    database: str,
) -> None:
    async with client.town(database, "cmpp") as (way, door, _), await enter(Cmpp, door) as sp:
        await out_of_order(way, "submit_part", "INSERT")
        sp.text("13800138000", "86110", **client.written())
        await way.until("SELECT 1 FROM message")
        await way.all_final()
        await in_order(way, "submit_part")
        assert (await sp.acks())[0].state == "0"
        assert len(await sp.reports(2)) == 2


async def test_a_failed_part_the_customer_puts_off_is_not_told_again_at_once(database: str) -> None:
    async with (
        town(database) as (way, door, _),
        await Esme.bound(door.ports["smpp"], BIND, answers=False) as esme,
    ):
        esme.submit(long_parts()[0])
        await esme.acks()
        await way.database.execute("UPDATE submit_part SET failed = 'Content.Incomplete'")
        (deliver,) = await esme.delivers()
        esme.answer(deliver, CommandStatus.X_T_APPN)
        esme.submit(submit())  # its receipt comes after what would have come again
        await esme.delivers(2)
        assert [one.stat for one in esme._receipts()] == ["REJECTD", "DELIVRD"]


async def test_what_takes_several_pdus_is_told_whole_at_the_end_of_the_greatest_window(database: str) -> None:
    async with (
        town(database, window_size=1000) as (_, door, _),
        await Esme.bound(door.ports["smpp"], BIND, answers=False),
    ):
        (link,) = door.host.links
        link.told = lambda *_: None
        told = [link.tell(smpp.DeliverSm(), None) for _ in range(999)]
        assert (all(told), link.room) == (True, 1)
        assert [link.tell(smpp.DeliverSm(), None) for _ in range(3)] == [True] * 3
        assert link.room <= 0


async def test_a_login_with_a_great_window_and_much_to_hear_leaves_room_for_others(database: str) -> None:
    async with town(database, window_size=1000) as (way, door, _):
        await log_in_as(way, "smpp", "beta", window_size=1000)
        beta = smpp.BindTransceiver(system_id="beta", password=PASSWORD)
        async with await Esme.bound(door.ports["smpp"], BIND), await Esme.bound(door.ports["smpp"], beta):
            await way.holds(lambda: len([one for one in door.host.links if one.account]) == 2)
            door.tasks[1].cancel()
            await asyncio.wait([door.tasks[1]])
            await way.database.execute(
                """INSERT INTO notice (tenant_id, app_id, kind, message_id, status, cause, code, at, lease_until)
                   SELECT a.tenant_id, l.app_id, 1, gen_random_uuid(), 1, 0, '', now(), NULL
                     FROM login l JOIN app a ON a.id = l.app_id, generate_series(1, $1)""",
                2 * ROUND_MAX,
            )
            telling = Telling(way.database, way.vault, door.host)
            await telling._round()
            leased = await way.database.fetch(
                "SELECT app_id FROM notice WHERE lease_until > now() GROUP BY app_id"
            )
            assert len(leased) == 2


async def test_what_is_heard_while_the_last_word_is_written_down_is_written_down_too(database: str) -> None:
    async with town(database) as (way, door, _):
        rows = await way.database.fetch(
            """INSERT INTO notice (tenant_id, app_id, kind, message_id, status, cause, code, at)
               SELECT a.tenant_id, l.app_id, 1, gen_random_uuid(), 1, 0, '', now()
                 FROM login l JOIN app a ON a.id = l.app_id, generate_series(1, 3)
               RETURNING id"""
        )
        first, second, third = (row["id"] for row in rows)
        telling = Telling(way.database, way.vault, door.host)
        telling._later = {first: 60.0}
        telling._paid = [second]
        closing = asyncio.gather(telling._settle(), telling.close())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        telling._paid.append(third)
        await closing
        await telling.close()
        assert [row["id"] for row in await way.database.fetch("SELECT id FROM notice")] == [first]


async def test_a_database_that_is_away_costs_no_session_and_no_report(database: str) -> None:
    async with (
        severable(database) as away,
        town(away.dsn, "report_delay_s=0.5") as (way, door, _),
        await Esme.bound(door.ports["smpp"], BIND) as esme,
    ):
        esme.submit(submit())
        (ack,) = await esme.acks()
        await away.cut()
        esme.submit(submit(), *long_parts())
        statuses = {one.command_status for one in (await esme.acks(4))[1:]}
        assert statuses == {CommandStatus.MSGQFUL}
        refused = await Esme.connect(door.ports["smpp"], BIND)
        await refused.ended()
        assert refused.of(smpp.BindResp)[0].command_status == CommandStatus.SYSERR
        await refused.close()
        await away.mend()
        receipts = await esme.receipts()
        assert [one.message_id for one in receipts] == [ack.message_id]
        await way.holds(lambda: way.owed)
        esme.submit(*long_parts())
        assert [one.command_status for one in (await esme.acks(6))[4:]] == [0, 0]
        await esme.receipts(3)


async def test_who_does_not_read_is_cut_off_and_gives_its_seat_back(database: str) -> None:
    async with town(database) as (way, door, _), await Esme.bound(door.ports["smpp"], BIND):
        (link,) = door.host.links
        link._transport.write(bytes(50_000_000))
        link._close()
        await way.holds(lambda: not door.host.links)
        assert not door.host.sessions._held


async def test_short_ids_differ_over_all_sessions_of_a_door(database: str) -> None:
    async with town(database) as (way, door, _):
        login = way.keeper.current.logins["smpp", "acme"]
        tongue = Smpp(Numbers(1))
        bind = smpp.BindTransmitter(system_id="acme", password=PASSWORD, interface_version=0x33)
        sessions = [tongue.welcome(bind, login)[2] for _ in range(2)]
        ids = [words.ids(submit(), 1)[0] for _ in range(50) for words in sessions]
        assert len(set(ids)) == 100
        assert door.host.stopping is False


async def test_a_door_that_starts_again_gives_no_number_twice() -> None:
    ids = [number.make() for number in (Numbers(1), Numbers(1)) for _ in range(100)]
    assert len(set(ids)) == 200


async def test_what_was_unanswered_when_the_door_stopped_is_given_back(database: str) -> None:
    async with (
        town(database) as (way, door, _),
        await Esme.bound(door.ports["smpp"], BIND, answers=False) as esme,
    ):
        esme.submit(submit())
        await esme.delivers()
        await door.host.close()
        await door.telling.close()
        rows = await way.database.fetch("SELECT lease_until FROM notice")
        assert [row["lease_until"] for row in rows] == [None]


async def out_of_order(way: Plane, table: str, deed: str) -> None:
    """Have every such deed on a table fail as if the server had cancelled it."""
    await way.database.execute(
        "CREATE FUNCTION out_of_order() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '57014'; END $$"
    )
    await way.database.execute(
        f"CREATE TRIGGER out_of_order BEFORE {deed} ON {table} EXECUTE FUNCTION out_of_order()"
    )


async def in_order(way: Plane, table: str) -> None:
    await way.database.execute(f"DROP TRIGGER out_of_order ON {table}")
