"""Laws of way/portability.py: what people, look-ups and reports say about a number beats its prefix."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import pytest

import make
from hongyan.settings import SettingsError
from hongyan.simulator import Simulator, behaviour
from hongyan.vocab.message import Purpose
from hongyan.way.portability import MOVED, Portability
from plane import QUICK, books_balance, plane

MOBILE: Final = "13800138000"
asked: list[str] = []


async def lookup(numbers: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    asked.extend(numbers)
    return {number: ("unicom", "") for number in numbers if number.endswith("8000")}


async def broken(_numbers: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    raise OSError("no line to the registry")


OVERRIDE_SQL: Final = """
INSERT INTO number_override (tenant_id, phone_index, operator, province, source)
VALUES ($1, $2, $3, $4, 'operator')
"""


async def test_a_word_about_one_number_places_and_prices_it(database: str) -> None:
    async with plane(database) as way:
        index = way.vault.phone_index("+86" + MOBILE)
        await way.database.execute(OVERRIDE_SQL, 0, index, "telecom", "CN-GD")
        await way.database.execute(OVERRIDE_SQL, way.tenant_id, index, "unicom", "")
        async with way.database.transaction() as tx:
            await make.price(tx, tenant_id=way.tenant_id, country="CN", operator="unicom", part_micro=70_000)
        await way.keeper.load()
        row = await way.row(await way.send(MOBILE))
        assert (row["operator"], row["price_micro"]) == ("unicom", 70_000)  # the tenant's own word wins
        other = await way.row(await way.send("13800138001"))
        assert other["operator"] == "cmcc"
        assert other["price_micro"] != 70_000
        await books_balance(way.database)


async def test_a_look_up_is_asked_once_a_number_and_remembered(database: str) -> None:
    asked.clear()
    settings = replace(QUICK, number_lookup=f"{__name__}:lookup")
    async with plane(database, settings=settings) as way:
        for number in (MOBILE, "13800138001", MOBILE, "13800138001"):
            row = await way.row(await way.send(number))
            assert row["operator"] == ("unicom" if number == MOBILE else "cmcc")
        assert asked == ["+86" + MOBILE, "+8613800138001"]


async def test_a_look_up_that_fails_costs_nothing_but_its_answer(database: str) -> None:
    async with plane(database, settings=replace(QUICK, number_lookup=f"{__name__}:broken")) as way:
        assert (await way.row(await way.send(MOBILE)))["operator"] == "cmcc"


async def test_a_report_that_says_ported_corrects_the_number_for_the_next_message(database: str) -> None:
    async with (
        Simulator(behaviour.parse("report_delay_s=0.01 state=UNDELIV err=NP:1243")) as simulator,
        plane(database, simulator) as way,
    ):
        first = await way.final(await way.send(MOBILE, Purpose.TRANSACTIONAL))
        assert (first["operator"], first["code"]) == ("cmcc", "UNDELIV/NP:1243")
        await way.keeper.load()
        second = await way.row(await way.send(MOBILE))
        assert second["operator"] == MOVED


def test_a_look_up_that_is_not_there_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="HONGYAN_NUMBER_LOOKUP"):
        Portability(replace(QUICK, number_lookup="nowhere:at_all"))
