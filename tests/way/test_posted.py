"""The log of POSTs is bounded by age and for each app, and finds what told of a message."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import make
from hongyan.vocab.message import AppId
from hongyan.way import posted
from hongyan.way.posted import NOTICES, Posted


def one(app_id: AppId, at: datetime | None = None, **fields: Any) -> Posted:
    values: dict[str, Any] = {"kind": NOTICES, "status": 200, "error": "", "took_ms": 20, "attempt": 1}
    return Posted(id=make.message_id(at), app_id=app_id, **(values | fields))


async def ids(world: make.World, **question: Any) -> list[uuid.UUID]:
    async with world.database.transaction() as tx:
        rows = await posted.page(tx, [world.app_id], **({"failed": False, "limit": 100} | question))
    return [row.id for row in rows]


async def test_posts_come_newest_first_page_by_page(database: str) -> None:
    async with make.world(database) as world:
        made = [one(world.app_id) for _ in range(5)]
        await posted.write(world.database, made)
        newest = [post.id for post in reversed(made)]
        assert await ids(world, limit=2) == newest[:2]
        assert await ids(world, limit=100, before=newest[1]) == newest[2:]


async def test_what_was_written_is_read_as_it_was(database: str) -> None:
    async with make.world(database) as world:
        post = one(world.app_id, status=0, error="timeout", message_ids=[uuid.uuid4(), uuid.uuid4()],
                   kinds=b"\x01\x03", notice_ids=[7, 8], attempt=3, event="")  # fmt: skip
        await posted.write(world.database, [post, one(world.app_id)])
        await posted.write(world.database, [post])  # a second time, after an answer that was lost
        async with world.database.transaction() as tx:
            assert await posted.get(tx, post.id) == post
        assert len(await ids(world)) == 2


@pytest.mark.parametrize(
    ("status", "failed"), [(200, False), (299, False), (300, True), (500, True), (0, True)]
)
async def test_only_2xx_is_not_failed(database: str, status: int, failed: bool) -> None:
    async with make.world(database) as world:
        post = one(world.app_id, status=status)
        await posted.write(world.database, [post])
        assert post.taken is not failed
        assert await ids(world, failed=True) == ([post.id] if failed else [])


async def test_posts_of_a_message_are_found_by_it(database: str) -> None:
    async with make.world(database) as world:
        message_id, since = uuid.uuid4(), datetime.now(UTC)
        told = one(world.app_id, message_ids=[uuid.uuid4(), message_id], kinds=b"\x01\x01")
        await posted.write(
            world.database, [told, one(world.app_id, message_ids=[uuid.uuid4()], kinds=b"\x01")]
        )
        async with world.database.transaction() as tx:
            found = await posted.of_message(
                tx, world.app_id, message_id, since, failed=False, before=posted.NO_ID, limit=10
            )
        assert [post.id for post in found] == [told.id]


async def test_posts_are_forgotten_after_a_week_and_beyond_so_many_of_an_app(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posted, "KEEP_ROWS", 3)
    async with make.world(database) as world:
        now = datetime.now(UTC)
        async with world.database.transaction() as tx:
            await make.webhook(tx, world.vault, app_id=world.app_id)
        old = [one(world.app_id, now - timedelta(days=8)) for _ in range(2)]
        new = [one(world.app_id) for _ in range(5)]
        await posted.write(world.database, old + new)
        async with world.database.transaction() as tx:
            assert await posted.forget(tx, now) == 4
        assert await ids(world) == [post.id for post in reversed(new[2:])]
