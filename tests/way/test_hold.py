"""What matches no template waits for a person: it costs and counts like any message, and leaves only on their word."""

import asyncio
import uuid
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest

from doors.test_protocols import BIND, submit, town
from hongyan import clock
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, Purpose, Status
from hongyan.way import cancel, charge, hold, lookup, prune
from hongyan.way.accept import Accepted, SessionDraft
from plane import QUICK, Plane, books_balance, plane
from simulator.esme import Esme

TEXT = "今晚八点前请回复主管"


def operator() -> Simulator:
    return Simulator(behaviour.parse("report_delay_s=0.01"), [], seed=1)


def draft(one: Plane, number: str = "13800138000", **fields: Any) -> SessionDraft:
    wording = {"signature": one.signature, "text": TEXT, "purpose": Purpose.TRANSACTIONAL}
    return SessionDraft(to=number, held=True, **(wording | fields))


async def held(one: Plane, number: str = "13800138000", **fields: Any) -> MessageId:
    """A message that a login had held."""
    (outcome,) = await one.accept(draft(one, number, **fields))
    assert isinstance(outcome, Accepted), outcome
    return outcome.id


async def waiting(one: Plane) -> list[hold.Held]:
    async with one.database.transaction() as tx:
        return list(await hold.waiting(tx, one.vault, None, 10))


async def release(one: Plane, ids: Collection[uuid.UUID]) -> frozenset[uuid.UUID]:
    async with one.database.transaction() as tx:
        return await hold.release(tx, ids)


async def refuse(one: Plane, ids: Collection[uuid.UUID]) -> frozenset[uuid.UUID]:
    async with one.database.transaction() as tx:
        return await hold.refuse(tx, ids)


async def story(one: Plane, message_id: MessageId) -> lookup.Story:
    async with one.database.transaction() as tx:
        told = await lookup.one(tx, one.keeper.current, one.vault, one.tenant_id, message_id)
    assert told is not None
    return told


async def balance_micro(one: Plane) -> int:
    async with one.database.transaction() as tx:
        return await charge.balance_micro(tx, one.tenant_id)


async def test_a_held_message_leaves_on_a_persons_word_and_not_before(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        message_id = await held(one)
        await one.final(await one.send("13800138001"))  # what came after it has passed it by
        assert simulator.statistics().submits == 1
        assert (await one.row(message_id))["status"] == Status.HELD.number
        await books_balance(one.database)
        assert await release(one, [message_id]) == {message_id}
        assert (await one.final(message_id))["status"] == Status.DELIVERED.number
        await books_balance(one.database)


async def test_what_a_customers_system_sends_is_answered_and_told_as_a_person_decides(database: str) -> None:
    async with (
        town(database, hold=True) as (way, door, operator),
        await Esme.bound(door.ports["smpp"], BIND) as esme,
    ):
        esme.submit(submit("【鸿雁】one thing"), submit("【鸿雁】another"), submit())
        acks = await esme.acks(3)
        assert {ack.command_status for ack in acks} == {0}
        (receipt,) = await esme.receipts(1)
        assert (receipt.message_id, receipt.stat) == (acks[2].message_id, "DELIVRD")
        one, other = await waiting(way)
        assert (one.app, one.text, other.text) == ("smpp:acme", "【鸿雁】one thing", "【鸿雁】another")
        assert len(operator.phone("13800138000")) == 1
        await release(way, [one.id])
        await refuse(way, [other.id])
        door.telling.wake()
        _, *later = await esme.receipts(3)
        assert {(told.message_id, told.stat) for told in later} == {
            (acks[0].message_id, "DELIVRD"),
            (acks[1].message_id, "REJECTD"),
        }
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")


async def test_nobody_sweeps_claims_or_gives_away_what_is_held(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await held(one, send_at=clock.now() + timedelta(seconds=0.1))
        later = clock.now() + timedelta(hours=1)
        async with one.database.transaction() as tx:
            assert await prune.release_left_behind(tx, QUICK, later) == 0
            assert await prune.expire_waiting(tx, QUICK, later) == 0
            assert (
                await prune.close_forgotten(tx, QUICK, later + timedelta(days=9), day=clock.now().date()) == 0
            )
        one.gateway.look()
        await one.final(await one.send("13800138001"))
        assert simulator.statistics().submits == 1


async def test_whoever_reviews_sees_the_text_whose_it_is_and_the_number_masked(database: str) -> None:
    async with plane(database) as one:
        first, second = await held(one), await held(one, "13800138001", text="别的话")
        one_of_them, other = await waiting(one)
        assert (one_of_them.id, other.id) == (first, second)
        assert (one_of_them.text, other.text) == (f"【鸿雁】{TEXT}", "【鸿雁】别的话")
        assert one_of_them.number is not None
        assert "****" in one_of_them.number
        assert one_of_them.tenant == one.keeper.current.tenants[one.tenant_id].name
        async with one.database.transaction() as tx:
            assert [each.id for each in await hold.waiting(tx, one.vault, one.tenant_id, 1)] == [first]
            assert [each.id for each in await hold.waiting(tx, one.vault, one.tenant_id, 9, first)] == [
                second
            ]
            assert await hold.waiting(tx, one.vault, one.tenant_id, 9, second) == []


async def test_what_is_refused_is_paid_back_and_its_app_is_told(database: str) -> None:
    async with plane(database) as one:
        before = await balance_micro(one)
        message_id = await held(one)
        assert await balance_micro(one) < before
        assert await refuse(one, [message_id]) == {message_id}
        row = await one.row(message_id)
        assert (row["status"], row["cause"]) == (Status.REFUSED.number, Cause.REJECTED.number)
        assert await balance_micro(one) == before
        notice = await one.until("SELECT status, lease_until FROM notice WHERE message_id = $1", message_id)
        assert (notice["status"], notice["lease_until"]) == (Status.REFUSED.number, None)
        assert await waiting(one) == []
        await books_balance(one.database)


async def test_what_nobody_decided_about_in_time_expires_and_is_paid_back(database: str) -> None:
    async with plane(database) as one:
        before = await balance_micro(one)
        message_id, other = await held(one, validity_s=1), await held(one, "13800138001", validity_s=3_600)
        later = (await one.row(message_id))["expires_at"]
        async with one.database.transaction() as tx:
            assert await prune.expire_held(tx, QUICK, later) == 1
            assert await prune.expire_held(tx, QUICK, later) == 0
        row = await one.row(message_id)
        assert (row["status"], row["cause"]) == (Status.EXPIRED.number, Cause.NOT_SENT.number)
        assert [each.id for each in await waiting(one)] == [other]
        assert await balance_micro(one) == before - (await one.row(other))["price_micro"]
        await books_balance(one.database)


async def test_what_has_run_out_is_not_released(database: str) -> None:
    async with plane(database) as one:
        message_id = await held(one, validity_s=1)
        await one.until("SELECT 1 FROM message WHERE expires_at <= now()")
        assert await release(one, [message_id]) == frozenset()
        assert (await one.row(message_id))["status"] == Status.HELD.number


async def test_of_two_people_who_decide_at_once_the_first_counts(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        ids = [await held(one, f"1380013{place:04d}") for place in range(8)]
        decided = await asyncio.gather(
            release(one, ids), refuse(one, ids[::-1]), release(one, ids[::-1]), refuse(one, ids)
        )
        assert sorted(each for some in decided for each in some) == sorted(ids)
        await one.all_final()
        refused = decided[1] | decided[3]
        for message_id in ids:
            wanted = Status.REFUSED if message_id in refused else Status.DELIVERED
            assert (await one.row(message_id))["status"] == wanted.number
        await books_balance(one.database)


async def test_what_a_reviewer_holds_locked_is_not_decided_by_another(database: str) -> None:
    async with plane(database) as one:
        message_id = await held(one)
        async with one.database.transaction() as tx:
            assert await hold.refuse(tx, [message_id]) == {message_id}
            second = asyncio.create_task(release(one, [message_id]))
            await one.until("SELECT 1 FROM pg_locks WHERE NOT granted")
        assert await second == frozenset()
        assert (await one.row(message_id))["status"] == Status.REFUSED.number
        await books_balance(one.database)


async def test_a_released_message_still_waits_for_its_time(database: str) -> None:
    async with plane(database) as one:
        due_at = clock.now() + timedelta(hours=1)
        message_id = await held(one, send_at=due_at)
        await release(one, [message_id])
        row = await one.until("SELECT owner, due_at FROM outbox WHERE id = $1", message_id)
        assert (row["owner"], row["due_at"]) == (0, due_at)


async def test_the_time_a_person_took_is_no_operators_delay(database: str) -> None:
    async with plane(database) as one:
        message_id = await held(one)
        await release(one, [message_id])
        row = await one.row(message_id)
        assert row["accepted_at"] < row["due_at"] < row["expires_at"]


async def test_a_block_that_came_while_a_message_was_held_stops_it_when_it_is_released(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        message_id = await held(one)
        index = one.vault.phone_index("+8613800138000")
        await one.database.execute(
            "INSERT INTO suppression (phone_index, tenant_id, kind) VALUES ($1, $2, 2)", index, one.tenant_id
        )
        await release(one, [message_id])
        row = await one.final(message_id)
        assert (row["status"], row["cause"]) == (Status.REFUSED.number, Cause.BLOCKED.number)
        assert simulator.statistics().submits == 0


async def test_a_held_message_is_taken_back_by_its_app(database: str) -> None:
    async with plane(database) as one:
        before = await balance_micro(one)
        message_id = await held(one)
        await cancel.take_back(one.database, one.tenant_id, message_id)
        assert (await one.row(message_id))["status"] == Status.CANCELLED.number
        assert await balance_micro(one) == before
        assert await release(one, [message_id]) == frozenset()
        with pytest.raises(Refusal) as refusal:
            await cancel.take_back(one.database, one.tenant_id, message_id)
        assert refusal.value.code is Code.REQUEST_TOO_LATE
        await books_balance(one.database)


async def test_the_story_and_the_search_say_that_it_is_held(database: str) -> None:
    async with plane(database) as one:
        message_id = await held(one, text=TEXT * 10)
        await one.send("13800138001", send_at=clock.now() + timedelta(hours=1))
        told = await story(one, message_id)
        assert told.status is Status.HELD
        assert {part.status for part in told.parts} == {Status.HELD}
        assert told.decision is not None
        assert b"held" in bytes(told.decision)
        async with one.database.transaction() as tx:
            for status, count in ((Status.HELD, 1), (Status.ACCEPTED, 1), (Status.SUBMITTED, 0)):
                page = await lookup.search(
                    tx, one.keeper.current, one.vault, one.tenant_id, lookup.Question(status=status)
                )
                assert [item.status for item in page.items] == [status] * count


async def test_a_held_message_counts_as_accepted_and_against_the_limits(database: str) -> None:
    async with plane(database, tenant={"limits": '{"transactional": [0, 0, 1]}'}) as one:
        await held(one)
        (outcome,) = await one.accept(draft(one, text="别的话"))
        assert isinstance(outcome, Refusal)
        assert outcome.code is Code.LIMIT_DAY
        row = await one.until("SELECT sum(messages)::int AS messages FROM tally WHERE status = 0")
        assert row["messages"] == 1


async def test_a_message_that_is_not_held_stays_as_it_is(database: str) -> None:
    async with plane(database) as one:
        message_id = await one.send()
        assert await release(one, [message_id, uuid.uuid4()]) == frozenset()
        assert await refuse(one, [message_id, uuid.uuid4()]) == frozenset()
        assert (await one.row(message_id))["status"] == Status.ACCEPTED.number


async def test_no_index_of_messages_looks_at_the_status(database: str) -> None:
    # Else every message's change of status would have to be told to all its indexes.
    async with plane(database) as one:
        rows = await one.database.fetch(
            "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'message%' AND indexdef LIKE '%status%'"
        )
        assert rows == []
