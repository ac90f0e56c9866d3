"""What a person texts back reaches whom it is for, once and whole."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

import make
from hongyan import db
from hongyan.channels.channel import Inbound
from hongyan.vocab.message import ChannelId, Purpose, Status
from hongyan.way import complaint, consent, inbound
from hongyan.way.inbound import Arrival, Desk, Recorded
from hongyan.way.measure import Counters
from hongyan.way.notice import INBOUND, Owed
from hongyan.way.snapshot import Keeper

NOW = datetime.now(UTC)


def said(text: str, **fields: Any) -> Inbound:
    values: dict[str, Any] = {"number": make.NUMBER, "access_number": "1069", "at_s": NOW.timestamp()}
    return Inbound(text=text, **(values | fields))


def cut(text: str, count: int, **fields: Any) -> list[Inbound]:
    """The parts of a long text, each with its number in front."""
    whole = {"part_count": count, "reference": 7} | fields
    return [said(f"{n}{text} ", part_index=n, **whole) for n in range(1, count + 1)]


async def record(world: make.World, *parts: Inbound, now: datetime = NOW, channel_id: int = 0) -> Recorded:
    snapshot = await make.snapshot(world)
    arrivals = [Arrival(ChannelId(channel_id or world.channel_id), part) for part in parts]
    async with world.database.transaction() as tx:
        return await inbound.record(tx, snapshot, world.vault, make.SETTINGS, arrivals, now)


async def overdue(world: make.World, now: datetime) -> Recorded:
    snapshot = await make.snapshot(world)
    async with world.database.transaction() as tx:
        return await inbound.join_overdue(tx, snapshot, world.vault, make.SETTINGS, now)


async def letters(world: make.World) -> list[Mapping[str, Any]]:
    rows = await world.database.fetch("SELECT * FROM inbound ORDER BY came_at, id")
    return [
        dict(row) | {"plain": msgspec.msgpack.decode(world.vault.unseal(row["tenant_id"], row["sealed"]))}
        for row in rows
    ]


async def texts(world: make.World) -> list[str]:
    return [row["plain"][1] for row in await letters(world)]


async def write_to(
    world: make.World, *, ago: timedelta = timedelta(hours=1), channel_id: int = 0, **columns: Any
) -> Any:
    """The tenant wrote to the person a while ago, and the report has come."""
    async with world.database.transaction() as tx:
        return await make.message(
            tx,
            world,
            at=NOW - ago,
            status=Status.DELIVERED,
            channel_id=channel_id or world.channel_id,
            **columns,
        )


# ---- parts


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("together", [True, False])
async def test_parts_are_joined_in_any_order(database: str, order: Sequence[int], together: bool) -> None:
    async with make.world(database) as world:
        parts = [cut("段", 3)[n] for n in order]
        for batch in [parts] if together else [[part] for part in parts]:
            await record(world, *batch)
        assert await texts(world) == ["1段 2段 3段 "]
        assert await world.database.fetch("SELECT 1 FROM inbound_part WHERE part_index > 0") == []


async def test_a_duplicate_of_a_part_replaces(database: str) -> None:
    async with make.world(database) as world:
        one, two = cut("a", 2)
        await record(world, one, said("better ", part_index=1, part_count=2, reference=7))
        await record(world, two)
        assert await texts(world) == ["better 2a "]


async def test_a_part_delivered_again_after_the_joining_starts_nothing_new(database: str) -> None:
    async with make.world(database) as world:
        one, two = cut("a", 2)
        await record(world, one, two)
        await record(world, two)
        await overdue(world, NOW + timedelta(hours=1))
        assert await texts(world) == ["1a 2a "]


async def test_texts_do_not_mix_whatever_they_share(database: str) -> None:
    async with make.world(database) as world:
        other = cut("b", 2, reference=8)
        wide = cut("c", 2, reference_octets=2)
        foreign = cut("d", 2, number="+8613900139000")
        elsewhere = cut("e", 2, access_number="106988")
        parts = [*cut("a", 2), *other, *wide, *foreign, *elsewhere]
        random.Random(1).shuffle(parts)
        await record(world, *parts)
        assert sorted(await texts(world)) == [f"1{each} 2{each} " for each in "abcde"]


async def test_an_incomplete_text_is_given_out_with_a_mark_after_the_wait(database: str) -> None:
    async with make.world(database) as world:
        one, _, three, _, _ = cut("a", 5)
        await record(world, one, three)
        wait = timedelta(seconds=make.SETTINGS.inbound_join_wait_s)
        await overdue(world, NOW + wait - timedelta(seconds=1))
        assert await texts(world) == []
        await overdue(world, NOW + wait + timedelta(seconds=1))
        await overdue(world, NOW + wait + timedelta(seconds=2))
        assert await texts(world) == ["1a […]3a […]"]


async def test_two_gateways_with_a_part_each_join_it_once(database: str) -> None:
    async with make.world(database) as world:
        for reference in range(10):
            one, two = cut("a", 2, reference=reference, number=f"+861380013{reference:04}")
            await asyncio.gather(record(world, one), record(world, two))
        assert await texts(world) == ["1a 2a "] * 10


async def test_a_nonsensical_part_number_is_a_text_of_its_own(database: str) -> None:
    async with make.world(database) as world:
        await record(world, said("a", part_index=4, part_count=3), said("b", part_index=0, part_count=2))
        assert sorted(await texts(world)) == ["a", "b"]


# ---- once


async def test_the_same_text_within_a_minute_is_one(database: str) -> None:
    async with make.world(database) as world:
        await record(world, said("好的"), said("好的"))
        await record(world, said("好的"), now=NOW + timedelta(seconds=59))
        assert await texts(world) == ["好的"]
        await record(world, said("好的"), said("不好"), now=NOW + timedelta(seconds=61))
        assert sorted(await texts(world)) == ["不好", "好的", "好的"]


async def test_the_same_text_at_two_gateways_is_one(database: str) -> None:
    async with make.world(database) as world:
        await asyncio.gather(*(record(world, said("好的")) for _ in range(4)))
        assert await texts(world) == ["好的"]


async def test_other_people_and_other_numbers_may_say_the_same(database: str) -> None:
    async with make.world(database) as world:
        await record(world, said("y"), said("y", number="+8613900139000"), said("y", access_number="106988"))
        assert len(await texts(world)) == 3


@pytest.mark.parametrize("number", ["13800138000", "8613800138000", "+86 138 0013 8000", "008613800138000"])
async def test_a_number_is_the_same_however_it_is_written(database: str, number: str) -> None:
    async with make.world(database) as world:
        message_id = await write_to(world)
        await record(world, said("ok", number=number))
        (letter,) = await letters(world)
        assert (letter["message_id"], letter["plain"][0]) == (message_id, make.NUMBER)


@pytest.mark.parametrize("number", ["", "garbled", "12345", "\x00" * 50])
async def test_a_number_that_is_none_is_kept_for_nobody(database: str, number: str) -> None:
    async with make.world(database) as world:
        await record(world, said("ok", number=number, access_number="10\x0069"))
        (letter,) = await letters(world)
        assert (letter["tenant_id"], letter["access_number"]) == (0, "1069")


# ---- whose it is


async def test_the_longest_matching_extension_decides(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            near = await make.tenant(tx, world.vault)
            near_app = await make.app(tx, tenant_id=near)
            far = await make.tenant(tx, world.vault)
            await make.signature(tx, tenant_id=near, extension="88")
            await make.signature(tx, tenant_id=far, extension="889")
        await write_to(world)
        await record(world, said("a", access_number="1069881"), said("b", access_number="1069889"))
        owners = {row["plain"][1]: (row["tenant_id"], row["app_id"]) for row in await letters(world)}
        assert owners == {"a": (near, near_app), "b": (far, 0)}


async def test_digits_of_a_signature_at_the_channel_decide_and_only_behind_its_access_number(
    database: str,
) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
            theirs = await make.signature(tx, tenant_id=other)
            elsewhere = await make.channel(tx, world.vault, access_number="1065")
            twin = await make.channel(tx, world.vault, access_number="1069")
            values = {"signature_id": theirs, "channel_id": world.channel_id, "extension": "77"}
            await make._insert(tx, "signature_extension", values)
        await record(world, said("a", access_number="10697712"))
        await record(world, said("b", access_number="106577"), channel_id=elsewhere)
        await record(world, said("c", access_number="106977"), channel_id=twin)
        owners = {row["plain"][1]: row["tenant_id"] for row in await letters(world)}
        assert owners == {"a": other, "b": 0, "c": other}


async def test_the_message_is_found_that_left_with_those_digits(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await tx.execute("UPDATE signature SET extension = '9'")
            values = {"signature_id": world.signature_id, "channel_id": world.channel_id, "extension": "77"}
            await make._insert(tx, "signature_extension", values)
        exact = await write_to(world, ago=timedelta(hours=3), extension="942")  # left as 77 42
        await write_to(world, ago=timedelta(hours=1), extension="9")
        await record(world, said("ok", access_number="10697742"))
        assert [letter["message_id"] for letter in await letters(world)] == [exact]


async def test_otherwise_who_wrote_last_from_that_access_number(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
            app_id = await make.app(tx, tenant_id=other)
            elsewhere = await make.channel(tx, world.vault, access_number="1065")
        await write_to(world, ago=timedelta(hours=3))
        last = await write_to(world, ago=timedelta(hours=2), tenant_id=other, app_id=app_id)
        await write_to(world, ago=timedelta(hours=1), channel_id=elsewhere)
        recorded = await record(world, said("谢谢"))
        (letter,) = await letters(world)
        assert (letter["tenant_id"], letter["app_id"], letter["message_id"]) == (other, app_id, last)
        assert [owed.answers for owed in recorded.owed] == [last]


async def test_a_message_without_a_report_yet_is_known_by_its_submission(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            message_id = await make.message(tx, world)
            await make.submitted(tx, world, message_id)
        await record(world, said("ok"))
        assert [letter["message_id"] for letter in await letters(world)] == [message_id]


async def test_an_extension_of_the_message_is_preferred_to_a_later_message(database: str) -> None:
    async with make.world(database) as world:
        exact = await write_to(world, ago=timedelta(hours=3), extension="42")
        await write_to(world, ago=timedelta(hours=1))
        await record(world, said("ok", access_number="106942"))
        assert [letter["message_id"] for letter in await letters(world)] == [exact]


async def test_what_was_written_before_the_memory_s_end_is_forgotten(database: str) -> None:
    async with make.world(database) as world:
        await write_to(world, ago=timedelta(hours=73))
        recorded = await record(world, said("ok"))
        (letter,) = await letters(world)
        assert (letter["tenant_id"], letter["app_id"], recorded.owed) == (0, 0, [])


async def test_the_letter_and_its_notice_are_stored_together(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await make.webhook(tx, world.vault, app_id=world.app_id)
        await write_to(world)
        recorded = await record(world, said("好的"))
        (letter,) = await letters(world)
        (notice,) = await world.database.fetch("SELECT * FROM notice")
        assert (notice["kind"], notice["message_id"], notice["app_id"]) == (
            INBOUND,
            letter["id"],
            world.app_id,
        )
        assert notice["lease_until"] is not None
        (owed,) = recorded.owed
        assert (owed.id, owed.sealed, owed.access_number) == (notice["id"], letter["sealed"], "1069")


# ---- stops


async def suppressed(world: make.World) -> dict[int, str]:
    rows = await world.database.fetch("SELECT tenant_id, reason FROM suppression WHERE kind = 1")
    return {row["tenant_id"]: row["reason"] for row in rows}


async def test_a_stop_counts_for_all_who_wrote_from_that_access_number(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
            forgotten = await make.tenant(tx, world.vault)
            elsewhere = await make.tenant(tx, world.vault)
            channel_id = await make.channel(tx, world.vault, access_number="1065")
        await write_to(world)
        await write_to(world, ago=timedelta(hours=71), tenant_id=other, purpose=Purpose.PROMOTIONAL)
        await write_to(world, ago=timedelta(hours=73), tenant_id=forgotten)
        await write_to(world, tenant_id=elsewhere, channel_id=channel_id)
        recorded = await record(world, said("Ｔ　Ｄ"))
        assert await suppressed(world) == {world.tenant_id: "inbound: td", other: "inbound: td"}
        index = world.vault.phone_index(make.NUMBER)
        assert {row[:2] for row in recorded.stopped} == {(index, world.tenant_id), (index, other)}
        assert [letter["opt_out"] for letter in await letters(world)] == [True]


async def test_a_stop_to_an_extension_counts_for_its_tenant(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
            await make.signature(tx, tenant_id=other, extension="88")
        await write_to(world)
        await record(world, said("STOP", access_number="106988"))
        assert set(await suppressed(world)) == {other}


async def test_a_start_lifts_the_stop_and_the_last_word_counts(database: str) -> None:
    async with make.world(database) as world:
        await write_to(world)
        await record(world, said("STOP"))
        await record(world, said("start"))
        assert await suppressed(world) == {}
        recorded = await record(
            world, said("退订", at_s=NOW.timestamp() + 2), said("恢复", at_s=NOW.timestamp() + 1)
        )
        assert set(await suppressed(world)) == {world.tenant_id}
        assert len(recorded.stopped) == 1


async def test_a_stop_in_two_parts_is_a_stop(database: str) -> None:
    async with make.world(database) as world:
        await write_to(world)
        parts = [
            said(text, part_index=n, part_count=2, reference=1) for n, text in enumerate(("ST", "OP"), 1)
        ]
        await record(world, *parts)
        assert await suppressed(world) == {world.tenant_id: "inbound: stop"}


# ---- the desk


class Clerk:
    """Whom the desk tells, and what it was told."""

    def __init__(self) -> None:
        self.stored: list[tuple[int, list[Any]]] = []
        self.owed: list[Owed] = []

    def give_back(self, channel_id: ChannelId, slots: Sequence[Any]) -> None:
        self.stored.append((channel_id, list(slots)))

    def owe(self, owed: Sequence[Owed]) -> None:
        self.owed += owed


async def desk(world: make.World, clerk: Clerk) -> Desk:
    keeper = Keeper(world.database, world.vault)
    await keeper.load()
    return Desk(world.database, keeper, world.vault, make.SETTINGS, Counters(), clerk.give_back, clerk.owe)


async def test_slots_go_back_when_the_text_is_stored(database: str) -> None:
    async with make.world(database) as world:
        await write_to(world)
        clerk = Clerk()
        it = await desk(world, clerk)
        it.arrived(world.channel_id, [said("a", slot=1), *cut("b", 2, slot=2)[:1]])
        assert clerk.stored == []
        await it.store()
        assert clerk.stored == [(world.channel_id, [1, 2])]
        assert len(clerk.owed) == 1
        assert it.waiting == 0


async def test_gateways_hear_of_a_stop_after_the_commit(database: str) -> None:
    async with make.world(database) as world:
        await write_to(world)
        heard: asyncio.Queue[str] = asyncio.Queue(10)
        listener = await world.database.own_connection()
        await listener.add_listener("stopped", lambda *told: heard.put_nowait(told[3]))
        it = await desk(world, Clerk())
        it.arrived(world.channel_id, [said("退订")])
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(it.run())
            assert await heard.get() == f"{world.vault.phone_index(make.NUMBER).hex()}:{world.tenant_id}"
            running.cancel()
        assert set(await suppressed(world)) == {world.tenant_id}
        await listener.close()


async def test_a_bad_text_fails_alone_and_stays_unanswered(database: str) -> None:
    async with make.world(database) as world:
        clerk = Clerk()
        it = await desk(world, clerk)
        broken = said("b", slot="bad", at_s=float("inf"))
        it.arrived(world.channel_id, [said("a", slot=1), broken, said("c", slot=3)])
        await it.store()
        assert sorted(await texts(world)) == ["a", "c"]
        assert sorted(slot for _, slots in clerk.stored for slot in slots) == [1, 3]


async def test_what_does_not_fit_stays_with_the_upstream(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make.world(database) as world:
        clerk = Clerk()
        it = await desk(world, clerk)
        monkeypatch.setattr(inbound, "WAITING_MAX", 2)
        it.arrived(world.channel_id, [said(str(n), slot=n) for n in range(3)])
        await it.store()
        assert clerk.stored == [(world.channel_id, [0, 1])]


async def test_a_lost_database_keeps_the_parts_in_memory(database: str) -> None:
    async with make.world(database) as world:
        it = await desk(world, Clerk())
        it.arrived(world.channel_id, [said("a")])
        await world.database.close()
        with pytest.raises(db.Unavailable):
            await it.store()
        assert it.waiting == 1


# ---- evidence


async def test_a_stop_withdraws_every_consent_and_a_start_gives_it_again(database: str) -> None:
    async with make.world(database) as world:
        await write_to(world)
        index = world.vault.phone_index(make.NUMBER)
        for minute, (text, lacks) in enumerate(
            [("好的", True), ("START", False), ("R", True), ("订阅", False)]
        ):
            at = NOW + timedelta(minutes=2 * minute)
            await record(world, said(text, at_s=at.timestamp()), now=at)
            async with world.database.transaction() as tx:
                assert bool(await consent.lacking(tx, world.tenant_id, [index])) is lacks, text
        async with world.database.transaction() as tx:
            words = await consent.history(tx, world.vault, world.tenant_id, index, 10)
        assert [(word.given, word.scope, word.source) for word in words] == [
            (True, "promotional", "inbound"),
            (False, "*", "inbound"),
            (True, "promotional", "inbound"),
        ]
        assert [word.proof and (word.proof.number, word.proof.text) for word in words] == [
            (make.NUMBER, text) for text in ("订阅", "R", "START")
        ]


async def test_who_complains_by_text_makes_one_complaint_until_it_is_answered(database: str) -> None:
    async with make.world(database) as world:
        message_id = await write_to(world)
        for minute, text in enumerate(("再发就投诉", "投诉你们", "退订")):
            at = NOW + timedelta(minutes=2 * minute)
            await record(world, said(text, at_s=at.timestamp()), now=at)
        rows = await world.database.fetch(
            "SELECT tenant_id, source, state, message_id, sealed FROM complaint"
        )
        (row,) = rows
        assert tuple(row)[:4] == (world.tenant_id, "inbound", "open", message_id)
        words = complaint.opened(world.vault, world.tenant_id, row["sealed"])
        assert words == complaint.Words(number=make.NUMBER, text="再发就投诉")
        reasons = await world.database.fetch("SELECT reason FROM suppression")
        assert [each["reason"] for each in reasons] == ["inbound, complaint: 投诉"]


async def test_the_stop_of_whoever_nobody_wrote_to_is_evidence_of_nothing(database: str) -> None:
    async with make.world(database) as world:
        await record(world, said("退订"), said("投诉"))
        assert await world.database.fetch("SELECT 1 FROM consent UNION ALL SELECT 1 FROM complaint") == []
