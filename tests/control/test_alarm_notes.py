"""Notes of alarms arrive by e-mail and webhook, and wait where they cannot."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

from aiohttp import web

import make
from hongyan.control import alarm_notes, alarms
from hongyan.control.alarm_notes import News
from hongyan.control.readings import WatchKind
from hongyan.egress import open_egress
from hongyan.way.notice import mac_of
from make import World


@dataclass
class Ears:
    """A webhook that keeps what came."""

    url: str = ""
    posts: list["Post"] = field(default_factory=list)

    async def hear(self, request: web.Request) -> web.Response:
        self.posts.append(Post(dict(request.headers), await request.read()))
        return web.Response()


class Post(NamedTuple):
    headers: dict[str, str]
    body: bytes


@asynccontextmanager
async def hook() -> AsyncIterator[Ears]:
    one = Ears()
    application = web.Application()
    application.router.add_post("/hook", one.hear)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield one
    finally:
        await runner.cleanup()


NEWS = News(
    what="raised", rule="low", kind=WatchKind.BALANCE, subject="tenant:1", name="Orchid", tenant_id=None, value=1,
    threshold=2, since=datetime(2026, 3, 2, tzinfo=UTC),
)  # fmt: skip
SETTINGS = replace(make.SETTINGS, webhook_private_addresses=True)


async def owe(world: World, url: str, emails: list[str]) -> bytes:
    async with world.database.transaction() as tx:
        made = await alarms.create_rule(
            tx,
            world.vault,
            SETTINGS,
            None,
            kind=WatchKind.BALANCE,
            name="low",
            threshold=2,
            webhook_url=url,
            emails=emails,
        )
        await alarm_notes.owe(tx, made.rule.id, None, emails, url, [NEWS])
    return made.secret.reveal() if made.secret else b""


async def test_a_webhook_gets_a_signed_note_once(database: str) -> None:
    async with make.world(database) as world, hook() as ears, open_egress(SETTINGS, private=True) as egress:
        secret = await owe(world, ears.url, [])
        assert await alarm_notes.deliver(world.database, world.vault, SETTINGS, egress) == 1
        assert await alarm_notes.deliver(world.database, world.vault, SETTINGS, egress) == 0
        (post,) = ears.posts
        assert post.headers["Hongyan-Mac"] == mac_of(secret, post.headers["Hongyan-Timestamp"], post.body)
        assert b'"Orchid"' in post.body
        assert await world.database.fetch("SELECT 1 FROM alarm_note") == []


async def test_a_note_that_cannot_be_delivered_waits(database: str) -> None:
    async with make.world(database) as world, open_egress(SETTINGS, private=True) as egress:
        await owe(world, "", ["ops@example.com"])
        assert await alarm_notes.deliver(world.database, world.vault, SETTINGS, egress) == 1
        (row,) = await world.database.fetch("SELECT attempt, last_error FROM alarm_note")
        assert (row["attempt"], row["last_error"]) == (1, "no mail server is configured")
        await world.database.execute(
            "UPDATE alarm_note SET created_at = now() - interval '2 days', due_at = now()"
        )
        await alarm_notes.deliver(world.database, world.vault, SETTINGS, egress)
        assert await world.database.fetch("SELECT 1 FROM alarm_note") == []
