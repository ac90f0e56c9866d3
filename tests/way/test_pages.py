"""Laws of way/pages.py, with real PostgreSQL: every row once, in steps, whatever the size."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

import make
from hongyan import db
from hongyan.way import pages

ROWS = 1_000


@pytest.fixture
async def opened(database: str) -> AsyncIterator[db.Database]:
    connected = await db.connect(database, make.SETTINGS)
    yield connected
    await connected.close()


async def table(database: db.Database) -> int:
    """Lay a table of some rows; returns how many pages it has."""
    await database.execute(
        "CREATE TABLE much AS SELECT n, repeat('x', 100) AS word FROM generate_series(1, 1000) AS n"
    )
    (row,) = await database.fetch(pages.PAGES_SQL, "much")
    return int(row["pages"])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "RESTS", 0)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 10_000])
async def test_steps_see_each_row_once_and_what_comes_meanwhile_at_the_end(
    opened: db.Database, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "STEP_PAGES", step)
    assert await table(opened) > 10
    seen: Counter[int] = Counter()
    sql = "SELECT n FROM much WHERE ctid >= $1 AND ctid < $2"
    late = False
    async for lower, upper in pages.steps(opened.fetch, "much"):
        if not late:
            late = True
            await opened.execute(
                "INSERT INTO much SELECT n, repeat('x', 100) FROM generate_series(1001, 2000) AS n"
            )
        seen.update(row["n"] for row in await opened.fetch(sql, lower, upper))
    assert seen == Counter(range(1, 2 * ROWS + 1))


async def test_steps_go_on_from_a_page_and_end_beyond_the_last(
    opened: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "STEP_PAGES", 4)
    count = await table(opened)
    begun = [lower async for lower, _ in pages.steps(opened.fetch, "much", 8)]
    assert begun == [(first, 0) for first in range(8, count + 1, 4)]
    assert [step async for step in pages.steps(opened.fetch, "much", count + 1)] == []


async def test_an_empty_table_is_one_step(opened: db.Database) -> None:
    assert [step async for step in pages.steps(opened.fetch, "outbox")] == [((0, 0), pages.END)]


async def test_slices_taken_now_and_then_get_to_every_page(opened: db.Database) -> None:
    count = await table(opened)
    found = {await pages.some_pages(opened.fetch, "much", 4) for _ in range(40 * count)}
    assert found == {((first, 0), (first + 4, 0)) for first in range(count - 3)}
    assert await pages.some_pages(opened.fetch, "much", count + 5) == ((0, 0), (count + 5, 0))
