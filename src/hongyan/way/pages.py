"""Go through a whole table without taking a core: some of its pages at a time, and a rest after each.

Writes nothing. Entry points: steps() and some_pages(). A million waiting messages are 130 MB: read at once they take a tenth of
a second and more, and where cores are few everybody waits so long. It needs no index, which every message would pay for.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, LiteralString

from hongyan import db

STEP_PAGES: Final = 500  # 4 MB
RESTS: Final = 4  # times as long as a step took, until the next
REST_S_MAX: Final = 0.2
END: Final = (2**32 - 1, 0)  # beyond all pages: what a table grows by meanwhile belongs to the last step

Fetch = Callable[..., Awaitable[Sequence[db.Row]]]  # of a transaction or of the database
Place = tuple[int, int]  # a ctid: a page, and a place on it

PAGES_SQL: LiteralString = """
SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::int AS pages
"""


async def _pages(fetch: Fetch, table: str) -> int:
    (row,) = await fetch(PAGES_SQL, table)
    return int(row["pages"])


async def steps(fetch: Fetch, table: str, first: int = 0) -> AsyncIterator[tuple[Place, Place]]:
    """Give out the ctids that bound a step (>= and <), from page `first` to the end of the table, with rests between.

    A row that is moved to a page behind us meanwhile is found the next time.
    """
    pages = await _pages(fetch, table)
    while first <= pages:
        begun_s = time.monotonic()
        following = first + STEP_PAGES
        yield (first, 0), (following, 0) if following <= pages else END
        if following <= pages:
            await asyncio.sleep(min(RESTS * (time.monotonic() - begun_s), REST_S_MAX))
        first = following


async def some_pages(fetch: Fetch, table: str, count: int) -> tuple[Place, Place]:
    """Return the ctids that bound `count` pages somewhere in a table: who takes a slice now and then gets to all of it."""
    first = random.randrange(max(1, await _pages(fetch, table) - count + 1))  # noqa: S311 - it hides nothing
    return (first, 0), (first + count, 0)
