"""Whose merit an entered code was, and what is kept of it: each verification counts once, at three levels, and fades."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import make
from hongyan import clock
from hongyan.otp import conversions
from hongyan.otp.conversions import Outcome
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import MessageId, Purpose, Status, accepted_at_s
from make import World

NOW_S: Final = 1_795_600_000.0
PLACE: Final = {"country": "CN", "operator": "cmcc", "province": "CN-GD"}


async def sent(world: World, channel_id: int, at_s: float = NOW_S, **columns: Any) -> MessageId:
    """A code that went by a channel and was reported delivered."""
    async with world.database.transaction() as tx:
        fields: dict[str, Any] = {
            "status": Status.DELIVERED,
            "purpose": Purpose.OTP,
            "channel_id": channel_id,
        }
        return await make.message(tx, world, at=clock.moment(at_s), **(fields | PLACE | columns))


async def hear(world: World, *outcomes: Outcome, now_s: float = NOW_S) -> None:
    async with world.database.transaction() as tx:
        await conversions.heard(tx, outcomes, now_s)


def outcome(world: World, ids: Sequence[UUID], approved_after_s: float = 0.0) -> Outcome:
    """What became of a verification; `approved_after_s`: after its first message, 0 for never."""
    return Outcome(
        world.tenant_id, ids, accepted_at_s(ids[0]) + approved_after_s if approved_after_s else 0.0
    )


async def kept(world: World) -> dict[tuple[int, str, str, str], tuple[float, float]]:
    rows = await world.database.fetch("SELECT * FROM conversion")
    return {
        (row["channel_id"], row["country"], row["operator"], row["province"]): (row["good"], row["bad"])
        for row in rows
    }


def levels_of(
    channel_id: int, good: float, bad: float
) -> dict[tuple[int, str, str, str], tuple[float, float]]:
    places = (("", "", ""), ("CN", "cmcc", ""), ("CN", "cmcc", "CN-GD"))
    return {(channel_id, *place): (good, bad) for place in places}


async def test_a_code_entered_in_time_counts_for_its_channel_at_each_level(database: str) -> None:
    async with make.world(database) as world:
        await hear(world, outcome(world, [await sent(world, 7)], 30.0))
        assert await kept(world) == levels_of(7, 1, 0)


async def test_a_code_that_came_too_late_or_was_never_entered_counts_against_it(database: str) -> None:
    async with make.world(database) as world:
        late, never = await sent(world, 7), await sent(world, 7)
        await hear(world, outcome(world, [late], 121.0), outcome(world, [never]))
        assert await kept(world) == levels_of(7, 0, 2)


async def test_who_needed_another_message_had_no_good_of_the_first(database: str) -> None:
    async with make.world(database) as world:
        first, second = await sent(world, 7), await sent(world, 8, NOW_S + 30)
        await hear(world, outcome(world, [first, second], 45.0))
        assert await kept(world) == levels_of(7, 0, 1) | levels_of(8, 1, 0)


async def test_a_message_sent_after_the_code_was_entered_is_passed_over(database: str) -> None:
    async with make.world(database) as world:
        first, second = await sent(world, 7), await sent(world, 8, NOW_S + 30)
        await hear(world, outcome(world, [first, second], 20.0))
        assert await kept(world) == levels_of(7, 1, 0)


async def test_what_says_nothing_about_a_channel_is_left_out(database: str) -> None:
    async with make.world(database) as world:
        ids = [
            await sent(world, 7, status=Status.UNDELIVERED, cause=Cause.INVALID_NUMBER),
            await sent(world, 7, status=Status.REFUSED, cause=Cause.BLOCKED),
            await sent(world, 7, sandbox=True),
            await sent(world, 0),  # it has not left yet
            make.message_id(),  # sent by another medium
        ]
        await hear(world, *(outcome(world, [one]) for one in ids))
        assert await kept(world) == {}
        await hear(
            world, outcome(world, [await sent(world, 7, status=Status.UNDELIVERED, cause=Cause.NETWORK)])
        )
        assert await kept(world) == levels_of(7, 0, 1)


async def test_before_a_report_the_submission_knows_the_channel(database: str) -> None:
    async with make.world(database) as world:
        message_id = await sent(world, 0, status=Status.ACCEPTED)
        await world.database.execute(
            """INSERT INTO submitted (tenant_id, channel_id, upstream_id, message_id, part_index, attempt, sent_at)
               VALUES ($1, 9, 'a', $2, 1, 1, now())""",
            world.tenant_id,
            message_id,
        )
        await hear(world, outcome(world, [message_id]))
        assert await kept(world) == levels_of(9, 0, 1)


async def test_abroad_there_may_be_no_operator_and_no_province(database: str) -> None:
    async with make.world(database) as world:
        message_id = await sent(world, 7, country="GB", operator="", province="")
        await hear(world, outcome(world, [message_id], 10.0))
        assert await kept(world) == {(7, "", "", ""): (1, 0), (7, "GB", "", ""): (1, 0)}


async def test_what_was_heard_fades_by_half_in_two_hours(database: str) -> None:
    async with make.world(database) as world:
        ids = [await sent(world, 7) for _ in range(4)]
        await hear(world, *(outcome(world, [one], 10.0) for one in ids))
        await hear(world, outcome(world, [await sent(world, 7)]), now_s=NOW_S + 7_200)
        good, bad = (await kept(world))[7, "", "", ""]
        assert (round(good, 9), bad) == (2.0, 1.0)


async def test_a_channel_that_goes_dead_towards_an_operator_forgets_its_provinces_there_and_nothing_else(
    database: str,
) -> None:
    async with make.world(database) as world:
        good = [await sent(world, 7) for _ in range(40)]
        other = [await sent(world, 7, operator="unicom") for _ in range(40)]
        await hear(world, *(outcome(world, [one], 10.0) for one in (*good, *other)))
        missed = [await sent(world, 7, province="CN-BJ") for _ in range(12)]
        await hear(world, *(outcome(world, [one]) for one in missed))
        rows = await kept(world)
        assert (7, "CN", "cmcc", "CN-GD") not in rows
        good_of_operator, bad_of_operator = rows[7, "CN", "cmcc", ""]
        assert good_of_operator / (good_of_operator + bad_of_operator) < 0.2
        kept_elsewhere = [rows[7, "CN", "unicom", province] for province in ("", "CN-GD")]
        assert kept_elsewhere == [(40.0, 0.0)] * 2
