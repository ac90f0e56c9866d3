"""The guard's rows: held, counted and kept, with two writers at once; and what people see of them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

import make
from hongyan.otp import meter, pumping, wards, withheld
from hongyan.otp.pumping import Ask, Ended, Judgement, Rules, Wards
from hongyan.otp.ward import PREFIX_START, Turn
from hongyan.otp.withheld import Action
from hongyan.vocab.errors import Refusal
from hongyan.vocab.message import TenantId
from hongyan.vocab.verification import Level
from make import World

NOW_S = 1_790_000_000.0
PREFIX = "+23270001"
PRICE_MICRO = 45_000
RULES = Rules()


def ask(world: World, prefix: str = PREFIX, *, known: bool = False) -> Ask:
    return Ask(world.tenant_id, world.app_id, "SL", prefix, known)


def ended(world: World, *, verified: bool = False, wrong: int = 0, **more: object) -> Ended:
    return Ended(world.tenant_id, "SL", PREFIX, verified, wrong, 1e6, **more)  # type: ignore[arg-type]


async def batch(
    world: World, asks: list[Ask], rules: Rules = RULES, now_s: float = NOW_S, price_micro: int = PRICE_MICRO
) -> list[Judgement]:
    """Judge asks as a door does: what is not held up is sent."""
    async with world.database.transaction() as tx:
        held = await Wards.lock(tx, asks, now_s)
        judgements = []
        for each in asks:
            judgement = held.judge(each, rules, price_micro, now_s)
            if judgement.level:
                held.blocked(each, judgement, price_micro, now_s)
            else:
                held.sent(each, price_micro, now_s)
            judgements.append(judgement)
        await held.store(tx)
    return judgements


async def mature(world: World, *codes: Ended, now_s: float = NOW_S) -> None:
    async with world.database.transaction() as tx:
        await pumping.matured(tx, codes, now_s)


async def rows(world: World, tenant_id: TenantId | None = None, **which: object) -> dict[str, wards.WardRow]:
    async with world.database.transaction() as tx:
        found = await wards.page(tx, tenant_id or world.tenant_id, **which)  # type: ignore[arg-type]
    return {row.prefix: row for row in found}


async def said(world: World) -> withheld.LossStatement:
    at = datetime.fromtimestamp(NOW_S, UTC)
    async with world.database.transaction() as tx:
        return await withheld.statement(tx, world.tenant_id, at - timedelta(hours=2), at + timedelta(hours=2))


# ---- kept


async def test_what_is_sent_and_matures_is_kept(database: str) -> None:
    async with make.world(database) as world:
        await batch(world, [ask(world)] * 4)
        await mature(world, ended(world, verified=True), ended(world), ended(world, failed=True))
        kept = await rows(world)
        assert {prefix: (row.outstanding, row.credit) for prefix, row in kept.items()} == {
            "": (1, 60.5),
            PREFIX: (1, 10.5),
        }
        assert kept[PREFIX].evidence == pytest.approx(1.099, abs=0.001)


async def test_a_ward_is_asked_for_in_two_statements_and_kept_in_two(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        seen: list[str] = []
        # The driver asks for types of its own accord, once a connection.
        tx.add_query_logger(lambda query: seen.append(query.query) if "unnest($" in query.query else None)
        held = await Wards.lock(tx, [ask(world, f"+2327{number:04d}") for number in range(50)], NOW_S)
        await asyncio.sleep(0)  # the driver tells a turn of the loop later
        assert len(seen) == 2
        for number in range(100):
            one = ask(world, f"+2327{number % 50:04d}")
            judgement = held.judge(one, RULES, PRICE_MICRO, NOW_S)
            (
                held.blocked(one, judgement, 1, NOW_S)
                if judgement.level
                else held.sent(one, PRICE_MICRO, NOW_S)
            )
        seen.clear()
        await held.store(tx)
        await asyncio.sleep(0)
        assert len(seen) == 2


async def test_two_doors_at_once_let_no_more_through_than_one(database: str) -> None:
    async with make.world(database) as world:
        asks = [ask(world) for _ in range(5)]
        judged = await asyncio.gather(*(batch(world, asks) for _ in range(8)))
        assert sum(each.level is Level.NOTHING for some in judged for each in some) == PREFIX_START
        assert (await rows(world))[PREFIX].outstanding == PREFIX_START


async def test_two_doors_at_once_spend_no_more_than_the_budget(database: str) -> None:
    async with make.world(database) as world:
        rules = Rules(budget_day_micro=10 * PRICE_MICRO, budgets={"SL": 7 * PRICE_MICRO})
        each = [ask(world, f"+2327{number:04d}", known=True) for number in range(4)]
        judged = await asyncio.gather(*(batch(world, each, rules) for _ in range(8)))
        assert sum(one.level is Level.NOTHING for some in judged for one in some) == 7
        assert {one.reasons for some in judged for one in some} == {(), ("budget.country",)}
        a_day = NOW_S + 25 * 3_600
        assert (await batch(world, each[:1], rules, a_day))[0].level is Level.NOTHING


async def test_codes_that_mature_while_others_are_asked_for_lose_nothing(database: str) -> None:
    async with make.world(database) as world:
        await batch(world, [ask(world)] * 8)
        known = [ask(world, known=True)]
        await asyncio.gather(
            *(batch(world, known) for _ in range(12)),
            *(mature(world, ended(world, verified=True)) for _ in range(8)),
        )
        assert (await rows(world))[PREFIX].outstanding == 12
        assert (await rows(world))[PREFIX].credit == PREFIX_START + 8


async def test_numbers_that_are_made_up_fill_no_table(database: str) -> None:
    async with make.world(database) as world:
        for turn in range(10):
            await batch(world, [ask(world, f"+2327{turn}{number:04d}") for number in range(100)])
        assert len(await rows(world)) == 61  # the country's window, and the country
        counted = await said(world)
        assert counted.challenged == 940
        assert len(counted.lines) == 1
        assert counted.lines[0].prefix == ""


async def test_a_tenant_s_pumping_is_not_another_s(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
        await batch(world, [ask(world)] * 30)
        (judgement,) = await batch(world, [Ask(other, 1, "SL", PREFIX, known=False)])
        assert judgement.level is Level.NOTHING
        assert (await rows(world, other))[PREFIX].outstanding == 1


# ---- told


async def test_the_block_log_says_what_was_blocked_and_what_it_would_have_cost(database: str) -> None:
    async with make.world(database) as world:
        await batch(world, [ask(world)] * 12)
        await batch(world, [ask(world)] * 3)
        async with world.database.transaction() as tx:  # one comes back with its challenge solved
            held = await Wards.lock(tx, [ask(world)], NOW_S)
            held.judge(ask(world), RULES, PRICE_MICRO, NOW_S)
            held.sent(ask(world), PRICE_MICRO, NOW_S)
            await held.store(tx)
        await mature(world, ended(world, verified=True, challenged=True, app_id=world.app_id))
        counted = await said(world)
        assert (counted.challenged, counted.passed, counted.honest, counted.refused) == (5, 1, 1, 0)
        assert (counted.would_cost_micro, counted.passed_micro) == (5 * PRICE_MICRO, PRICE_MICRO)
        assert counted.saved_micro == 4 * PRICE_MICRO
        assert [(line.prefix, line.reason, line.action, line.asks) for line in counted.lines[:2]] == [
            (PREFIX, "pumping.prefix_window", Action.CHALLENGED, 5),
            (PREFIX, "pumping.prefix_window", Action.PASSED, 1),
        ]


async def test_what_would_be_blocked_is_counted_where_a_tenant_only_monitors(database: str) -> None:
    async with make.world(database) as world:
        judged = await batch(world, [ask(world)] * 13, Rules(monitor=True))
        assert [each.level for each in judged] == [Level.NOTHING] * 13
        counted = await said(world)
        assert (counted.monitored, counted.challenged, counted.saved_micro) == (3, 0, 0)


async def test_what_somebody_else_asked_a_challenge_for_is_not_of_this_log(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        held = await Wards.lock(tx, [ask(world)], NOW_S)
        held.judge(ask(world), RULES, PRICE_MICRO, NOW_S)
        held.blocked(ask(world), Judgement(Level.WORK, ("site_key",)), PRICE_MICRO, NOW_S)
        await held.store(tx)
        assert await tx.fetchval("SELECT count(*) FROM withheld") == 0


# ---- the meter


async def test_slips_of_people_who_then_verify_are_taken_off_the_meter(database: str) -> None:
    async with make.world(database) as world:
        await batch(world, [ask(world)] * 2)
        async with world.database.transaction() as tx:
            await meter.missed(tx, {world.tenant_id: 3e-6}, NOW_S)
        await mature(world, ended(world, verified=True, wrong=2), ended(world, wrong=1), now_s=NOW_S + 3_600)
        async with world.database.transaction() as tx:
            assert await meter.hits(tx, [world.tenant_id], NOW_S + 3_600) == {
                world.tenant_id: pytest.approx(1e-6)
            }
            assert await meter.hits(tx, [world.tenant_id], NOW_S + 25 * 3_600) == {
                world.tenant_id: 0.0
            }  # only what was taken back is younger than a day


async def test_wrong_guesses_at_two_doors_at_once_are_all_summed_and_make_codes_longer(database: str) -> None:
    async with make.world(database) as world:

        async def guess() -> None:
            async with world.database.transaction() as tx:
                await meter.missed(tx, {world.tenant_id: 1e-4}, NOW_S)

        async with world.database.transaction() as tx:
            assert (await Wards.lock(tx, [ask(world)], NOW_S)).digits_wanted(ask(world), 6, NOW_S) == 6
        await asyncio.gather(*(guess() for _ in range(11)))
        async with world.database.transaction() as tx:
            held = await Wards.lock(tx, [ask(world)], NOW_S)
            assert held.digits_wanted(ask(world), 6, NOW_S) == 8
            assert (await meter.hits(tx, [world.tenant_id], NOW_S))[world.tenant_id] == pytest.approx(1.1e-3)


# ---- for people


async def test_a_paused_prefix_is_listed_and_released(database: str) -> None:
    async with make.world(database) as world:
        for turn in range(60):
            await batch(world, [ask(world, known=True)], now_s=NOW_S + turn)
            await mature(world, ended(world, sent_at_s=NOW_S + turn), now_s=NOW_S + turn)
        row = (await rows(world, turned=True))[PREFIX]
        assert row.turn == "paused"
        (refused,) = await batch(world, [ask(world)], now_s=NOW_S + 70)
        assert refused.level is Level.REFUSE
        assert refused.reasons[0] == "pumping.prefix_paused"
        async with world.database.transaction() as tx:
            released = await wards.release(tx, world.tenant_id, "SL", PREFIX, 0.4, NOW_S + 80)
            assert (released.turn, released.baseline, released.said) == ("clear", 0.4, True)
            await wards.release(tx, world.tenant_id, "SL", "", None, NOW_S + 80)
            with pytest.raises(Refusal):
                await wards.release(tx, world.tenant_id, "SL", "+23299", None, NOW_S)
            with pytest.raises(Refusal):
                await wards.release(tx, world.tenant_id, "SL", PREFIX, 1.5, NOW_S)
        assert await rows(world, turned=True) == {}
        (judgement,) = await batch(world, [ask(world)], now_s=NOW_S + 90)
        assert judgement.level is Level.NOTHING


async def test_prefixes_that_are_let_by_are_added_and_removed(database: str) -> None:
    async with make.world(database) as world:
        await batch(world, [ask(world)] * 20)
        async with world.database.transaction() as tx:
            assert await wards.allow(tx, world.tenant_id, "+2327", NOW_S) == ["+2327"]
            assert await wards.allow(tx, world.tenant_id, "+2327", NOW_S) == ["+2327"]
        assert (await batch(world, [ask(world)]))[0].level is Level.NOTHING
        async with world.database.transaction() as tx:
            assert await wards.allowed(tx, world.tenant_id) == ["+2327"]
            with pytest.raises(Refusal):
                await wards.disallow(tx, world.tenant_id, "+1", NOW_S)
            assert await wards.disallow(tx, world.tenant_id, "+2327", NOW_S) == []
        assert (await batch(world, [ask(world)]))[0].level is Level.WORK


async def test_wards_are_paged(database: str) -> None:
    async with make.world(database) as world:
        await batch(world, [ask(world, f"+2327{number:04d}") for number in range(7)])
        seen: list[str] = []
        after = None
        async with world.database.transaction() as tx:
            while page := await wards.page(tx, None, after=after, limit=3):
                seen += [row.prefix for row in page]
                after = wards.WardKey(page[-1].tenant_id, page[-1].country, page[-1].prefix)
        assert seen == ["", *(f"+2327{number:04d}" for number in range(7))]


async def test_what_is_idle_is_forgotten_and_what_people_have_said_stays(database: str) -> None:
    async with make.world(database) as world:
        await batch(world, [ask(world)] * 12)
        await batch(world, [ask(world, "+23270002")])
        async with world.database.transaction() as tx:
            await meter.missed(tx, {world.tenant_id: 1e-6}, NOW_S)
            await wards.release(tx, world.tenant_id, "SL", PREFIX, 0.5, NOW_S)
            forgetters = (wards.forget, pumping.forget, meter.forget, withheld.forget)
            for days in (0.0, 100.0):
                at_s = NOW_S + days * 86_400
                forgotten = [await forget(tx, at_s, 1_000) for forget in forgetters]
                assert forgotten == ([0, 0, 0, 0] if not days else [3, 2, 1, 1])
        assert list(await rows(world)) == [PREFIX]


def test_turns_are_numbered_as_the_schema_says() -> None:
    assert [turn.value for turn in Turn] == [0, 1, 2]
