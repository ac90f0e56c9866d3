"""Texts that follow by themselves fill the guard's windows and budgets, and it stops them where nobody would get one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest

from hongyan.otp import ripen
from hongyan.otp.ward import Turn
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status

from .test_fallback import VOICE, Falling, called, falling

PRICE_MICRO: Final = 45_000
MEDIA: Final = ["sms", "sms_other_route", "voice"]


@contextlib.asynccontextmanager
async def guarded(dsn: str, media: list[str] = MEDIA, **rules: object) -> AsyncIterator[Falling]:
    async with falling(dsn, said(media, **rules), VOICE) as way:
        yield way


def said(media: list[str] = MEDIA, **rules: object) -> str:
    return msgspec.json.encode({"challenge": "never", "media": media, "pumping": rules}).decode()


async def change(way: Falling, media: list[str] = MEDIA, **rules: object) -> None:
    await way.asked.database.execute("UPDATE verify_policy SET policy = $1", said(media, **rules))
    await way.asked.book.load()


async def failed(way: Falling, number: str = "+8613800138000") -> Any:
    """Ask for a code whose text does not arrive."""
    started = await way.asked.start(number)
    await way.settle(started.message_id, Status.UNDELIVERED, cause=Cause.NETWORK)
    return started


async def turn(way: Falling, which: str, turned: Turn) -> None:
    await way.asked.database.execute(
        f"UPDATE ward SET turn = $1, turned_at_s = $2 WHERE country <> '' AND prefix {which} ''",
        turned.value, way.asked.clock.now_s,
    )  # fmt: skip


async def counted(way: Falling) -> tuple[int, int, int, int]:
    """How much is under way to the prefix, the country and in all of their spans, and what was spent."""
    (row,) = await way.asked.database.fetch(
        """SELECT max(outstanding) FILTER (WHERE prefix <> '') AS prefix,
                  max(outstanding) FILTER (WHERE prefix = '' AND country <> '') AS country,
                  max(coalesce(spans[2], 0)) FILTER (WHERE prefix <> '') AS codes,
                  (SELECT sum(micro)::int FROM code_spend WHERE country = '') AS micro FROM ward"""
    )
    return row["prefix"], row["country"], row["codes"], row["micro"]


async def withheld(way: Falling) -> list[tuple[str, str, int, int]]:
    rows = await way.asked.database.fetch("SELECT reason, action, asks, cost_micro FROM withheld")
    return [tuple(row) for row in rows]


async def test_a_text_that_follows_by_itself_is_counted_at_its_price_and_charged_to_nobody(
    database: str,
) -> None:
    async with guarded(database) as way:
        started = await failed(way)
        assert await counted(way) == (1, 1, 1, PRICE_MICRO)
        await way.at(16)
        assert await counted(way) == (2, 2, 1, 2 * PRICE_MICRO)  # two texts of one code
        assert [message["price_micro"] for message in await way.messages()] == [PRICE_MICRO, 0]
        row = await way.asked.row(started.id)
        assert (row["sends"], row["unasked"], await withheld(way)) == (1, 1, [])


@pytest.mark.parametrize("right", [True, False])
async def test_its_place_in_the_window_is_free_again_once_the_code_has_ended(
    database: str, right: bool
) -> None:
    async with guarded(database) as way:
        started = await failed(way)
        await way.at(16)
        if right:
            assert (await way.asked.check(started.id, await way.asked.code(started.id))).valid
        else:
            way.asked.clock.now_s += 600
        await way.asked.ripen(ripen.expire, ripen.count)
        assert (await counted(way))[:2] == (0, 0)
        (ward,) = await way.asked.database.fetch("SELECT credit FROM ward WHERE prefix <> ''")
        assert ward["credit"] == (11.0 if right else 9.0)  # two texts were of no use


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"budget_day_micro": 3 * PRICE_MICRO // 2}, "budget.tenant"),
        ({"budgets": {"CN": 3 * PRICE_MICRO // 2}}, "budget.country"),
        ({"countries": ["SG"]}, "country.closed"),
    ],
)
async def test_where_a_budget_is_spent_or_a_country_closed_a_letter_goes_in_its_place(
    database: str, rules: dict[str, Any], reason: str
) -> None:
    async with guarded(database) as way:
        started = await failed(way)
        await change(way, **rules)
        await way.at(16)
        row = await way.asked.row(started.id)
        assert (row["medium"], row["unasked"], len(await way.messages())) == ("voice", 0, 1)
        assert [letter.code for letter in called] == [await way.asked.code(started.id)]
        assert await counted(way) == (1, 1, 1, PRICE_MICRO)
        assert await withheld(way) == [(reason, "refused", 1, PRICE_MICRO)]


async def test_where_no_letter_could_go_it_ends(database: str) -> None:
    async with guarded(database, ["sms", "sms_other_route"]) as way:
        started = await failed(way)
        await change(way, ["sms", "sms_other_route"], budget_day_micro=PRICE_MICRO)
        assert await way.at(16) == 1
        row = await way.asked.row(started.id)
        assert (row["medium"], row["fallback_at"], row["message_ids"]) == ("sms", None, [started.message_id])
        assert await way.at(60) == 0
        assert (await way.asked.check(started.id, await way.asked.code(started.id))).valid


async def test_after_a_letter_a_text_that_is_stopped_ends_it_and_no_letter_is_sent_twice(
    database: str,
) -> None:
    media = ["voice", "sms"]
    async with guarded(database, media) as way:
        started = await way.asked.start()
        await change(way, media, budget_day_micro=PRICE_MICRO)
        await way.at(1)
        await way.at(62)
        row = await way.asked.row(started.id)
        assert (row["medium"], row["fallback_at"], len(called), await way.messages()) == (
            "voice",
            None,
            1,
            [],
        )


@pytest.mark.parametrize("which", ["<>", "="])
async def test_to_a_paused_prefix_or_country_no_text_follows(database: str, which: str) -> None:
    async with guarded(database) as way:
        await failed(way)
        await turn(way, which, Turn.PAUSED)
        await way.at(16)
        assert (len(await way.messages()), len(called)) == (1, 1)
        way.asked.clock.now_s += 2_000  # the prefix is probed: by people who solve a puzzle
        late = await failed_before(way)
        await way.fallback.round()
        assert (await way.asked.row(late))["medium"] == "voice"


async def failed_before(way: Falling) -> Any:
    """Take another code, whose first text was let by for a puzzle solved."""
    row = (await way.asked.database.fetch("SELECT * FROM verification"))[0]
    await way.asked.database.execute(
        """UPDATE verification SET medium = 'sms', message_ids = message_ids[1:1], fallback_at = $1::timestamptz,
                                   expires_at = $1::timestamptz + interval '1 minute'""",
        row["created_at"].fromtimestamp(way.asked.clock.now_s, row["created_at"].tzinfo),
    )  # fmt: skip
    return row["id"]


@pytest.mark.parametrize("which", ["<>", "="])
async def test_an_alarm_or_a_full_window_alone_stops_none(database: str, which: str) -> None:
    async with guarded(database) as way:
        await failed(way)
        await turn(way, which, Turn.ALARMED)
        await way.asked.database.execute("UPDATE ward SET outstanding = 30 WHERE prefix <> ''")
        await way.at(16)
        assert (len(await way.messages()), len(called), await withheld(way)) == (2, 0, [])


async def test_a_prefix_ten_times_full_gets_none(database: str) -> None:
    async with guarded(database) as way:
        await failed(way)
        await way.asked.database.execute("UPDATE ward SET outstanding = 100 WHERE prefix <> ''")
        await way.at(16)
        assert (len(await way.messages()), len(called)) == (1, 1)


@pytest.mark.parametrize(
    ("rules", "which", "noted"),
    [
        ({"allow_prefixes": ["+86138"]}, "<>", []),
        ({}, "=", []),  # of its country; the prefix itself has a record of its own
        ({"monitor": True}, "<>", [("pumping.prefix_paused", "monitored", 1, PRICE_MICRO)]),
    ],
)
async def test_a_prefix_that_is_let_by_or_proven_or_only_watched_gets_its_text(
    database: str, rules: dict[str, Any], which: str, noted: list[object]
) -> None:
    async with guarded(database, **rules) as way:
        started = await failed(way)
        await turn(way, which, Turn.PAUSED)
        await way.asked.database.execute("UPDATE ward SET codes = 20, verified = 20 WHERE prefix <> ''")
        await way.at(16)
        assert (await way.asked.row(started.id))["medium"] == "sms_other_route"
        assert await withheld(way) == noted


async def test_a_text_that_a_crash_has_offered_twice_is_counted_once(database: str) -> None:
    async with guarded(database) as way:
        await failed(way)
        await way.at(16)
        _, second = await way.messages()
        for table in ("message", "outbox"):
            await way.asked.database.execute(f"DELETE FROM {table} WHERE id = $1", second["id"])
        await way.at(40)
        assert len(await way.messages()) == 2
        assert (await counted(way))[0] == 2


async def test_rounds_of_many_doors_and_all_that_holds_wards_wait_for_each_other_in_no_circle(
    database: str,
) -> None:
    async with guarded(database, window_prefix=1_000, window_country=100_000) as way:
        asked = way.asked
        begun = [await failed(way, f"+86138{place:02d}138000") for place in range(30)]
        asked.clock.now_s += 61
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(way.fallback.round())
                tasks.create_task(asked.ripen(ripen.count))
            for place, one in enumerate(begun):
                if place % 3 == 0:
                    tasks.create_task(asked.resend(one.id))
                elif place % 3 == 1:
                    tasks.create_task(asked.check(one.id, await asked.code(one.id)))
                tasks.create_task(asked.start(f"+86139{place:02d}138000"))
        while await way.fallback.round():
            asked.clock.now_s += 1
        await asked.ripen(ripen.count)
        (row,) = await asked.database.fetch(
            """SELECT (SELECT sum(outstanding) FROM ward WHERE prefix <> '') AS under_way,
                      sum(sends + unasked) FILTER (WHERE state = 0) AS sent FROM verification"""
        )
        assert row["under_way"] == row["sent"]
