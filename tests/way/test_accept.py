"""A promise is kept once, paid for, within limits, whatever else happens at the same moment."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

import make
from hongyan import clock
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose
from hongyan.way import cancel, charge, optout, prune
from hongyan.way.accept import Accepted, Acceptor, Draft, Idempotency, Outcome, ids_after
from hongyan.way.measure import Counters
from hongyan.way.promise import STORED_SQL
from plane import NO_LIMITS, QUICK, Plane, awake, books_balance, pair, plane, severable

PRICE: Final = 45_000  # a part, as make.price() lays it
NOBODY: Final = 0


def codes(outcomes: Sequence[Outcome]) -> Counter[str]:
    """How often each answer was given; 'OK' is a promise."""
    return Counter(o.code.name if isinstance(o, Refusal) else "OK" for o in outcomes)


def promised(outcome: Outcome) -> Accepted:
    assert isinstance(outcome, Accepted), outcome.detail
    return outcome


def refused(outcome: Outcome) -> Refusal:
    assert isinstance(outcome, Refusal), outcome
    return outcome


def idempotency(key: str = "once", body: str = "body") -> Idempotency:
    return Idempotency(key.encode(), body.encode())


async def flood(doors: Sequence[Plane], count: int, **fields: Any) -> list[Outcome]:
    """So many requests of one message each at the same moment, turn by turn over the doors."""
    requests = (doors[n % len(doors)].accept(doors[0].draft(**fields)) for n in range(count))
    return [outcome for outcomes in await asyncio.gather(*requests) for outcome in outcomes]


async def balance_micro(one: Plane) -> int:
    async with one.database.transaction() as tx:
        return await charge.balance_micro(tx, one.tenant_id)


def limits(purpose: str, minute: int, hour: int, day: int) -> dict[str, Any]:
    return {"limits": NO_LIMITS.replace(f'"{purpose}": [0, 0, 0]', f'"{purpose}": [{minute}, {hour}, {day}]')}


@asynccontextmanager
async def acceptor(one: Plane, settings: Any = QUICK) -> AsyncIterator[Acceptor]:
    """A further door on the same database; its rows are nobody's, so they stay where they are."""
    door = Acceptor(
        one.database, one.keeper, one.vault, settings, Counters(), lambda _lane: NOBODY, lambda _rows: None
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(door.run())
        try:
            yield door
        finally:
            task.cancel()


# ---- money


async def test_two_doors_never_spend_more_than_there_is_and_all_that_there_is(database: str) -> None:
    async with pair(database, tenant={"balance_micro": 7 * PRICE + 1}) as doors:
        outcomes = await flood(doors, 40)
        assert codes(outcomes) == {"OK": 7, "ACCOUNT_BALANCE_INSUFFICIENT": 33}
        assert await balance_micro(doors[0]) == 1
        await books_balance(doors[0].database)


async def test_a_batch_is_accepted_as_far_as_the_money_goes(database: str) -> None:
    async with plane(database, tenant={"balance_micro": 3 * PRICE}) as one:
        outcomes = await one.accept(*(one.draft(f"1380013{n:04d}") for n in range(10)))
        assert codes(outcomes) == {"OK": 3, "ACCOUNT_BALANCE_INSUFFICIENT": 7}
        assert await balance_micro(one) == 0
        await books_balance(one.database)


async def test_a_top_up_is_felt_at_both_doors(database: str) -> None:
    async with pair(database, tenant={"balance_micro": 0}) as doors:
        assert codes(await flood(doors, 4)) == {"ACCOUNT_BALANCE_INSUFFICIENT": 4}
        async with doors[0].database.transaction() as tx:
            await charge.top_up(tx, doors[0].tenant_id, 2 * PRICE)
        async with asyncio.timeout(5):  # a broke tenant is refused from memory for a moment
            while not (found := [o for o in await flood(doors, 1) if isinstance(o, Accepted)]):
                await asyncio.sleep(0.05)
        assert len(found) == 1
        await books_balance(doors[0].database)


async def test_every_part_is_paid_for(database: str) -> None:
    async with plane(database) as one:
        (outcome,) = await one.accept(one.draft(params={"word": "门" * 35}))
        assert (promised(outcome).parts, promised(outcome).price_micro) == (1, PRICE)
        long = "门" * 34
        (outcome,) = await one.accept(
            Draft(to="13800138000", signature=one.signature, text=long * 3, purpose=Purpose.TRANSACTIONAL)
        )
        assert (promised(outcome).parts, promised(outcome).price_micro) == (2, 2 * PRICE)
        await books_balance(one.database)


async def test_a_trace_tells_the_hours_that_were_asked(database: str) -> None:
    async with plane(database) as one:
        told = []
        for quiet_from in (21, 20):
            await one.database.execute("UPDATE tenant SET quiet_from_hour = $1", quiet_from)
            snapshot = await one.keeper.load()
            draft = one.draft(awake(quiet_from), Purpose.PROMOTIONAL)
            (outcome,) = await one.accept(draft, key=snapshot.keys[one.key.key_id])
            row = await one.row(promised(outcome).id)
            (decision,) = await one.database.fetch(
                "SELECT trace FROM decision WHERE id = $1", row["decision"]
            )
            told.append(json.loads(decision["trace"])["hours"][1])
        assert told == [21, 20]


# ---- limits


async def test_a_limit_holds_exactly_over_two_doors_at_the_same_moment(database: str) -> None:
    async with pair(database, tenant=limits("otp", 5, 0, 0)) as doors:
        outcomes = await flood(doors, 100, purpose=Purpose.OTP)
        assert codes(outcomes) == {"OK": 5, "LIMIT_MINUTE": 95}
        (many,) = {refused(o).detail["limit"] for o in outcomes if isinstance(o, Refusal)}
        assert many == 5
        assert all(0 < (refused(o).retry_after_s or 0) <= 60 for o in outcomes if isinstance(o, Refusal))
        await books_balance(doors[0].database)


async def test_a_limit_is_one_number_one_signature_and_one_purpose(database: str) -> None:
    async with plane(database, tenant=limits("otp", 1, 0, 0)) as one:
        assert codes(await flood([one], 2, purpose=Purpose.OTP)) == {"OK": 1, "LIMIT_MINUTE": 1}
        assert codes(await flood([one], 2, purpose=Purpose.TRANSACTIONAL)) == {"OK": 2}
        assert codes(await flood([one], 1, purpose=Purpose.OTP, number="13800138001")) == {"OK": 1}


async def test_a_limit_slides(database: str) -> None:
    async with plane(database, tenant=limits("otp", 2, 3, 0)) as one:
        assert codes(await flood([one], 3, purpose=Purpose.OTP)) == {"OK": 2, "LIMIT_MINUTE": 1}
        await let_pass(one, 61)
        assert codes(await flood([one], 2, purpose=Purpose.OTP)) == {"OK": 1, "LIMIT_HOUR": 1}
        await let_pass(one, 3_600)
        assert codes(await flood([one], 2, purpose=Purpose.OTP)) == {"OK": 2}


async def let_pass(one: Plane, seconds: int) -> None:
    """Make every hit older, which is what time does."""
    await one.database.execute(
        "UPDATE frequency SET hits = ARRAY(SELECT h - ($1::bigint << 32) FROM unnest(hits) h)", seconds
    )


async def test_the_same_text_is_not_sent_twice_in_a_row_over_two_doors(database: str) -> None:
    async with pair(database, tenant={"duplicate_s": 600}) as doors:
        assert codes(await flood(doors, 10)) == {"OK": 1, "LIMIT_SAME_CONTENT": 9}
        assert codes(await flood(doors, 1, params={"word": "北门"})) == {"OK": 1}
        await let_pass(doors[0], 601)
        assert codes(await flood(doors, 1)) == {"OK": 1}


async def test_a_refused_message_counts_towards_no_limit(database: str) -> None:
    async with plane(database, tenant=limits("otp", 1, 0, 0) | {"balance_micro": 0}) as one:
        await flood([one], 1, purpose=Purpose.OTP)
        assert await one.database.fetch("SELECT 1 FROM frequency") == []


# ---- persons who said no


async def test_an_opt_out_refuses_promotional_messages_only_and_a_block_all(database: str) -> None:
    async with plane(database) as one:
        stopped, blocked, everywhere = awake(1), awake(2), awake(3)
        index = {number: one.vault.phone_index(e164(number)) for number in (stopped, blocked, everywhere)}
        async with one.database.transaction() as tx:
            await optout.stop(tx, [optout.Suppressed(index[stopped], one.tenant_id)])
            await optout.block(tx, [optout.Suppressed(index[blocked], one.tenant_id)])
            await optout.block(tx, [optout.Suppressed(index[everywhere], optout.PLATFORM)])
        numbers = (stopped, blocked, everywhere)
        promotional = await one.accept(*(one.draft(number, Purpose.PROMOTIONAL) for number in numbers))
        others = await one.accept(
            *(
                one.draft(number, purpose)
                for number in numbers
                for purpose in (Purpose.OTP, Purpose.TRANSACTIONAL)
            )
        )
        assert [refused(o).code for o in promotional] == [
            Code.NUMBER_OPTED_OUT,
            Code.NUMBER_BLOCKED,
            Code.NUMBER_BLOCKED,
        ]
        assert codes(others) == {"OK": 2, "NUMBER_BLOCKED": 4}
        await books_balance(one.database)


def e164(number: str) -> str:
    return number if number.startswith("+") else f"+86{number}"


async def test_another_tenants_opt_out_is_no_matter_of_ours(database: str) -> None:
    async with plane(database) as one:
        async with one.database.transaction() as tx:
            to = awake()
            index = one.vault.phone_index(e164(to))
            await optout.stop(tx, [optout.Suppressed(index, type(one.tenant_id)(one.tenant_id + 1))])
        await one.send(to, Purpose.PROMOTIONAL)


# ---- the same request again


async def test_an_idempotency_key_makes_one_message_over_two_doors_at_the_same_moment(database: str) -> None:
    async with pair(database, tenant=limits("otp", 1, 0, 0) | {"duplicate_s": 60}) as doors:
        draft = doors[0].draft(purpose=Purpose.OTP)
        answers = await asyncio.gather(
            *(doors[n % 2].accept(draft, idempotency=idempotency()) for n in range(20))
        )
        assert len({promised(outcome).id for (outcome,) in answers}) == 1
        assert len(await doors[0].database.fetch("SELECT 1 FROM message")) == 1
        await books_balance(doors[0].database)


async def test_another_body_under_an_idempotency_key_is_refused(database: str) -> None:
    async with pair(database) as doors:
        await doors[0].accept(doors[0].draft(), idempotency=idempotency())
        for door in doors:
            (outcome,) = await door.accept(door.draft(), idempotency=idempotency(body="another"))
            assert refused(outcome).code is Code.REQUEST_IDEMPOTENCY_CONFLICT
        (outcome,) = await doors[1].accept(
            doors[1].draft(), idempotency=idempotency(key="twice", body="another")
        )
        assert isinstance(outcome, Accepted)
        batch = await doors[1].accept(*[doors[1].draft()] * 2, idempotency=idempotency(body="two"))
        assert codes(batch) == {"REQUEST_IDEMPOTENCY_CONFLICT": 2}


async def test_who_asks_again_under_a_key_hears_what_was_promised_though_the_number_was_blocked_since(
    database: str,
) -> None:
    async with plane(database) as one:
        (first,) = await one.accept(one.draft(), idempotency=idempotency())
        async with one.database.transaction() as tx:
            await optout.block(tx, [optout.Suppressed(one.vault.phone_index(make.NUMBER), one.tenant_id)])
        (again,) = await one.accept(one.draft(), idempotency=idempotency())
        (other,) = await one.accept(one.draft(), idempotency=idempotency(key="another"))
    assert promised(again).id == promised(first).id
    assert refused(other).code is Code.NUMBER_BLOCKED


async def test_a_refusal_is_not_kept_under_an_idempotency_key(database: str) -> None:
    async with plane(database) as one:
        index = one.vault.phone_index(make.NUMBER)
        suppressed = [optout.Suppressed(index, one.tenant_id)]
        async with one.database.transaction() as tx:
            await optout.block(tx, suppressed)
        (outcome,) = await one.accept(one.draft(), idempotency=idempotency())
        assert refused(outcome).code is Code.NUMBER_BLOCKED
        async with one.database.transaction() as tx:
            await optout.unblock(tx, suppressed)
        (outcome,) = await one.accept(one.draft(), idempotency=idempotency())
        assert isinstance(outcome, Accepted)


async def test_a_repeated_batch_has_the_same_outcomes_at_another_door(database: str) -> None:
    async with pair(database) as doors:
        drafts = [doors[0].draft(f"1380013{n:04d}", reference=str(n)) for n in range(999)]
        drafts.append(doors[0].draft("12"))
        first = await doors[0].accept(*drafts, idempotency=idempotency())
        again = await doors[1].accept(*drafts, idempotency=idempotency())
        assert codes(first) == {"OK": 999, "NUMBER_INVALID": 1}
        assert first[:-1] == again[:-1]
        assert refused(first[-1]).code is refused(again[-1]).code
        assert refused(first[-1]).detail == refused(again[-1]).detail
        conflict = await doors[1].accept(*drafts, idempotency=idempotency(body="another"))
        assert codes(conflict) == {"REQUEST_IDEMPOTENCY_CONFLICT": 1_000}
        assert len(await doors[0].database.fetch("SELECT 1 FROM message")) == 999
        await books_balance(doors[0].database)


async def test_a_batch_under_way_at_another_door_is_waited_for(database: str) -> None:
    async with plane(database) as one:
        drafts = [one.draft(f"1380013{n:04d}") for n in range(3)]
        await reserve(one, idempotency(), age_s=0)
        outcomes = await one.accept(*drafts, idempotency=idempotency())
        assert codes(outcomes) == {"SYSTEM_BUSY": 3}
        assert all(refused(o).retry_after_s for o in outcomes)
        assert await one.database.fetch("SELECT 1 FROM message") == []


async def test_a_batch_that_a_crash_cut_in_half_is_finished_not_doubled(database: str) -> None:
    async with plane(database) as one:
        drafts = [one.draft(f"1380013{n:04d}") for n in range(10)]
        first_id = await reserve(one, idempotency(), age_s=60)
        half = await one.acceptor.accept_once(one.key, drafts[:5], ids_after(first_id, 10)[:5])
        outcomes = await one.accept(*drafts, idempotency=idempotency())
        assert [promised(o).id for o in outcomes[:5]] == [promised(o).id for o in half]
        assert codes(outcomes) == {"OK": 10}
        assert len(await one.database.fetch("SELECT 1 FROM message")) == 10
        await books_balance(one.database)


async def test_promises_are_looked_up_in_their_own_day_alone(database: str) -> None:
    async with plane(database) as one:
        async with one.database.transaction() as tx:
            for days in range(0, 180, 4):  # four days at once
                await prune.ensure_partitions(tx, clock.now() - timedelta(days=days))
        ids = ids_after(make.message_id().int, 10)
        await one.acceptor.accept_once(one.key, [one.draft(f"1380013{n:04d}") for n in range(10)], ids)
        async with one.database.transaction() as tx:
            await tx.execute("PREPARE stored AS " + STORED_SQL)  # or the plan would know the values
            values = f"{one.tenant_id}, '{{{','.join(map(str, ids))}}}', '{min(ids)}', '{max(ids)}'"
            (row,) = await tx.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE stored ({values})")
        assert (
            len(await one.database.fetch("SELECT FROM pg_inherits WHERE inhparent = 'message'::regclass"))
            > 180
        )
        assert json.loads(row[0])[0]["Plan"]["Actual Rows"] == 10
        assert len(re.findall('"Relation Name": "message', row[0])) == 1  # the others are not even looked at


async def reserve(one: Plane, given: Idempotency, *, age_s: int) -> int:
    """Leave a batch's key as a door does that has begun and not ended."""
    first_id = make.message_id()
    await one.database.execute(
        """INSERT INTO idempotency (key_id, key, body, first_id, created_at)
           VALUES ($1, $2, $3, $4, now() - make_interval(secs => $5::int))""",
        one.key.id,
        given.key,
        given.body,
        first_id,
        age_s,
    )
    return first_id.int


# ---- one bad row, too many, none at home


async def test_a_row_that_postgresql_cannot_hold_fails_alone(database: str) -> None:
    async with plane(database) as one:
        drafts = [one.draft(f"1380013{n:04d}", reference="a\0b" if n == 17 else str(n)) for n in range(50)]
        outcomes = await one.accept(*drafts)
        assert refused(outcomes[17]).code is Code.REQUEST_INVALID_PARAMETER
        assert codes(outcomes) == {"OK": 49, "REQUEST_INVALID_PARAMETER": 1}
        await books_balance(one.database)


@pytest.mark.parametrize("word", [10**30, -(2**63) - 1, "a\0b", "\ud800", "\U0001f600"])
async def test_no_parameter_stops_the_door(database: str, word: str | int) -> None:
    async with plane(database) as one:
        outcomes = await one.accept(one.draft(params={"word": word}), one.draft("13800138001"))
        assert isinstance(outcomes[1], Accepted)
        assert codes(await one.accept(one.draft("13800138002"))) == {"OK": 1}


async def test_a_reference_too_long_is_refused(database: str) -> None:
    async with plane(database) as one:
        outcomes = await one.accept(one.draft(reference="r" * 64), one.draft(reference="r" * 65))
        assert isinstance(outcomes[0], Accepted)
        assert refused(outcomes[1]).code is Code.REQUEST_INVALID_PARAMETER


async def test_partial_success_keeps_the_order_of_the_batch(database: str) -> None:
    async with plane(database) as one:
        outcomes = await one.accept(
            one.draft("13800138001"),
            one.draft("1"),
            one.draft("13800138002", template="no such"),
            one.draft("13800138003"),
        )
        assert [o.code if isinstance(o, Refusal) else "OK" for o in outcomes] == [
            "OK",
            Code.NUMBER_INVALID,
            Code.TEMPLATE_NOT_FOUND,
            "OK",
        ]
        await books_balance(one.database)


async def test_more_than_may_wait_is_refused_at_once_as_busy(database: str) -> None:
    async with plane(database) as one, acceptor(one, replace(QUICK, accept_waiting_max=10)) as door:
        outcomes = await asyncio.gather(
            *(door.accept(one.key, [one.draft(f"1380013{n:04d}")]) for n in range(30))
        )
        counted = codes([o for (o,) in outcomes])
        assert counted == {"OK": 10, "SYSTEM_BUSY": 20}
        assert all(refused(o).retry_after_s for (o,) in outcomes if isinstance(o, Refusal))
        await books_balance(one.database)


async def test_a_lost_database_is_answered_as_busy_and_works_again(database: str) -> None:
    async with severable(database) as way, plane(way.dsn) as one:
        await one.send("13800138001")
        await way.cut()
        assert codes(await one.accept(one.draft("13800138002"))) == {"SYSTEM_BUSY": 1}
        batch = [one.draft("13800138003"), one.draft("13800138004")]
        assert codes(await one.accept(*batch, idempotency=idempotency())) == {"SYSTEM_BUSY": 2}
        await way.mend()
        assert codes(await one.accept(one.draft("13800138005"))) == {"OK": 1}
        assert codes(await one.accept(*batch, idempotency=idempotency())) == {"OK": 2}
        await books_balance(one.database)


async def test_a_drained_door_takes_nothing_and_answers_what_it_took(database: str) -> None:
    async with plane(database) as one, acceptor(one) as door:
        async with asyncio.TaskGroup() as tasks:
            taken = tasks.create_task(door.accept(one.key, [one.draft("13800138001")]))
            batch = tasks.create_task(
                door.accept(one.key, [one.draft("13800138003"), one.draft("13800138004")], idempotency())
            )
            await asyncio.sleep(0)
            await door.drain()
            assert taken.done()
            assert batch.done()
        assert codes(taken.result()) == {"OK": 1}
        assert codes(batch.result()) == {"OK": 2}
        late = await door.accept(one.key, [one.draft("13800138002")])
        assert codes(late) == {"SYSTEM_BUSY": 1}


# ---- later


async def test_a_scheduled_message_waits_for_its_time_and_its_validity_runs_from_there(database: str) -> None:
    async with plane(database) as one:
        send_at = clock.now() + timedelta(hours=3)
        (outcome,) = await one.accept(one.draft(send_at=send_at, validity_s=600))
        row = await one.row(promised(outcome).id)
        (queued,) = await one.database.fetch("SELECT owner, due_at, expires_at FROM outbox")
        assert promised(outcome).send_at == row["due_at"] == queued["due_at"] == send_at
        assert row["expires_at"] == queued["expires_at"] == send_at + timedelta(seconds=600)
        assert queued["owner"] == NOBODY
        past = await one.accept(one.draft(send_at=clock.now() - timedelta(hours=1)))
        assert promised(past[0]).send_at is None


async def test_a_scheduled_message_can_be_taken_back_and_is_refunded_once(database: str) -> None:
    async with plane(database) as one:
        before = await balance_micro(one)
        message_id = await one.send(send_at=clock.now() + timedelta(hours=1))
        await cancel.take_back(one.database, one.tenant_id, message_id)
        row = await one.row(message_id)
        assert (row["status"], row["refund_micro"]) == (6, PRICE)
        assert await balance_micro(one) == before
        with pytest.raises(Refusal) as too_late:
            await cancel.take_back(one.database, one.tenant_id, message_id)
        assert too_late.value.code is Code.REQUEST_TOO_LATE
        with pytest.raises(Refusal) as unknown:
            await cancel.take_back(one.database, one.tenant_id, make.message_id())
        assert unknown.value.code is Code.REQUEST_NOT_FOUND
        await books_balance(one.database)
