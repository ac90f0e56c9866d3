"""Laws of way/herald.py, with real PostgreSQL: what it gives free, what it leaves in others' hands, whom it tells."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

import make
from hongyan import db
from hongyan.way import owing
from hongyan.way.herald import OURS_S, Herald
from hongyan.way.notice import Owed
from hongyan.way.snapshot import Keeper
from make import owe_rows


@asynccontextmanager
async def heralded(dsn: str, *, webhook: bool) -> AsyncIterator[tuple[make.World, Herald]]:
    async with make.world(dsn) as world:
        if webhook:
            async with world.database.transaction() as tx:
                url = "http://127.0.0.1:9/"
                await make.webhook(tx, world.vault, app_id=world.app_id, url=url, secret=b"hook")
        keeper = Keeper(world.database, world.vault)
        await keeper.load()
        yield world, Herald(world.database, keeper)


async def leases(world: make.World, notices: Sequence[Owed]) -> list[datetime | None]:
    ids = [notice.id for notice in notices]
    rows = await world.database.fetch("SELECT lease_until FROM notice WHERE id = ANY($1) ORDER BY id", ids)
    return [row["lease_until"] for row in rows]


async def test_rows_born_leased_are_free_once_given(database: str) -> None:
    async with heralded(database, webhook=True) as (world, herald):
        notices = await owe_rows(world, 3, leased=True)
        herald.owe(notices)
        await herald.give()
        assert await leases(world, notices) == [None, None, None]


async def test_what_a_session_took_before_it_was_given_stays_in_its_hands(database: str) -> None:
    """An app without a webhook is told over its sessions, from the moment of the commit on: to free it is to double it."""
    async with heralded(database, webhook=False) as (world, herald):
        notices = await owe_rows(world, 3)
        claimed = await owing.claim(world.database, [(world.app_id, 10)], rows_max=10, floor=0)
        assert [one.id for one in claimed] == [one.id for one in notices]
        herald.owe(notices)
        await herald.give()
        now = datetime.now(UTC)
        assert all(until is not None and until > now for until in await leases(world, notices))
        assert await owing.claim(world.database, [(world.app_id, 10)], rows_max=10, floor=0) == []


async def test_what_could_not_be_given_for_long_is_left_to_its_lease(database: str) -> None:
    async with heralded(database, webhook=True) as (world, herald):
        now_s = datetime.now(UTC).timestamp()
        late = Herald(world.database, herald._keeper, now_s=lambda: now_s)
        notices = await owe_rows(world, 2, leased=True)
        late.owe(notices)
        now_s += OURS_S
        await late.give()
        assert all(until is not None for until in await leases(world, notices))


async def test_a_word_that_did_not_get_through_is_given_again_and_frees_nothing_twice(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    down = True

    async def notify(topic: str) -> None:
        if down:
            raise ConnectionResetError
        said.append(topic)

    async with heralded(database, webhook=True) as (world, herald):
        monkeypatch.setattr(world.database, "notify", notify)
        notices = await owe_rows(world, 2, leased=True)
        herald.owe(notices)
        herald.tell()
        with pytest.raises(ConnectionResetError):
            await herald.give()
        claimed = await owing.claim(world.database, [(world.app_id, 10)], rows_max=10, floor=0)
        assert [one.id for one in claimed] == [one.id for one in notices]
        held = await leases(world, notices)
        down = False
        await herald.give()
        assert sorted(said) == sorted((owing.OWED_TOPIC, owing.TOLD_TOPIC))
        assert await leases(world, notices) == held
        await herald.give()
        assert len(said) == 2


async def test_payers_and_doors_are_told_each_on_their_topic(database: str) -> None:
    heard: set[str] = set()

    def hear(topic: str) -> Callable[[str], None]:
        return lambda _: heard.add(topic)

    async with heralded(database, webhook=True) as (world, herald):
        topics = {owing.OWED_TOPIC, owing.TOLD_TOPIC}
        listener = db.Listener(world.database, {topic: hear(topic) for topic in topics})
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(listener.run())
            running = tasks.create_task(herald.run())
            notices = await owe_rows(world, 1, leased=True)
            async with asyncio.timeout(20):
                while heard != topics:  # the listener may not listen yet
                    herald.owe(notices)
                    herald.tell()
                    await asyncio.sleep(0.01)
            listening.cancel()
            running.cancel()
