"""Group commit: who waits together shares a transaction, and nobody pays for another's fault."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import make
from hongyan import db
from hongyan.gather import Gatherer, Told
from hongyan.vocab.errors import Refusal


@dataclass
class Word:
    text: str
    answers: list[Refusal | str] = field(default_factory=list)

    def heard(self, answer: Refusal | str) -> None:
        self.answers.append(answer)


@dataclass
class Keeper:
    """Keeps words in a table."""

    database: db.Database
    sizes: list[int] = field(default_factory=list)

    async def keep(self, words: Sequence[Word]) -> Sequence[Told]:
        self.sizes.append(len(words))
        async with self.database.transaction() as tx:
            await tx.execute("INSERT INTO kept SELECT unnest($1::text[])", [word.text for word in words])
        return [(word.heard, "kept") for word in words]


async def keep(dsn: str, texts: Sequence[str]) -> tuple[list[Word], Keeper, list[str]]:
    """Keep words that all wait before the first batch begins; returns them, and what is stored in the end."""
    async with make.world(dsn) as world:
        database = world.database
        await database.execute("CREATE TABLE kept (text text)")
        keeper = Keeper(database)
        gatherer = Gatherer[Word]("words", keeper.keep)
        words = [Word(text) for text in texts]
        for word in words:
            gatherer.add(word)
        running = asyncio.ensure_future(gatherer.run())
        async with asyncio.timeout(10):
            while not all(word.answers for word in words):
                await asyncio.sleep(0)
        running.cancel()
        rows = await database.fetch("SELECT text FROM kept ORDER BY text")
        return words, keeper, [row["text"] for row in rows]


async def test_those_who_wait_together_share_one_transaction(database: str) -> None:
    words, keeper, stored = await keep(database, ["a", "b", "c"])
    assert [word.answers for word in words] == [["kept"]] * 3
    assert keeper.sizes == [3]
    assert stored == ["a", "b", "c"]


async def test_a_value_that_cannot_be_stored_is_refused_alone(database: str) -> None:
    words, _, stored = await keep(database, [*"abc", "nul \0", *"defg"])
    assert [len(word.answers) for word in words] == [1] * 8
    assert [word.text for word in words if isinstance(word.answers[0], Refusal)] == ["nul \0"]
    assert stored == [*"abcdefg"]
