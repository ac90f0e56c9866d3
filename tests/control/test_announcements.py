"""What a tenant is told of decisions reaches its webhooks, signed, and its owners; again until it does or a day is over."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from aiosmtpd.smtp import SMTP

import make
from hongyan import db
from hongyan.control import announcements, tenants, webhooks
from hongyan.egress import Egress, open_egress
from hongyan.settings import Settings
from hongyan.vault import Secret
from hongyan.way.notice import mac_of

from .conftest import Office

SETTINGS = replace(make.SETTINGS, webhook_private_addresses=True)


@dataclass
class Post:
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = msgspec.json.decode(self.body)["events"]
        return events


@asynccontextmanager
async def sinking(posts: list[Post], answer: Callable[[], int] = lambda: 200) -> AsyncIterator[str]:
    """An endpoint that keeps what is posted; yields its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = dict(line.lower().split(": ", 1) for line in head.rstrip().split("\r\n")[1:])
        posts.append(Post(headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(f"HTTP/1.1 {answer()} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()


async def hooked(tx: db.Tx, office: Office, url: str) -> Secret:
    secret = await webhooks.put(tx, office.vault, SETTINGS, office.app_id, url)
    assert secret is not None
    return secret


async def owe(tx: db.Tx, office: Office) -> None:
    await announcements.owe(
        tx,
        office.tenant_id,
        "review.decided",
        subject="s",
        words="w",
        body={"kind": "signature", "subject": 5},
    )


async def deliver(office: Office, egress: Egress, settings: Settings = SETTINGS) -> int:
    return await announcements.deliver(office.database, office.vault, settings, egress)


async def ways(office: Office) -> list[tuple[str, int, str]]:
    rows = await office.database.fetch("SELECT way, attempt, last_error FROM announcement_way ORDER BY way")
    return [(row["way"], row["attempt"], row["last_error"]) for row in rows]


async def test_a_webhook_is_posted_one_signed_event_as_notices_come(office: Office) -> None:
    posts: list[Post] = []
    async with sinking(posts) as url, open_egress(SETTINGS) as egress:
        async with office.database.transaction() as tx:
            secret = await hooked(tx, office, url)
            await owe(tx, office)
        assert await deliver(office, egress) == 2
        assert await deliver(office, egress) == 0
    (post,) = posts
    (event,) = post.events
    assert (event["event"], event["kind"], event["subject"]) == ("review.decided", "signature", 5)
    expected = mac_of(secret.reveal(), post.headers["hongyan-timestamp"], post.body)
    assert post.headers["hongyan-mac"] == expected.lower()
    assert await ways(office) == []
    async with office.database.transaction() as tx:
        (row,) = await announcements.page(tx, office.tenant_id)
    assert (row.id, row.waiting) == (event["id"], [])


async def test_an_endpoint_that_fails_is_tried_again_with_the_same_id(office: Office) -> None:
    posts: list[Post] = []
    statuses = iter([500, 200])
    async with sinking(posts, lambda: next(statuses)) as url, open_egress(SETTINGS) as egress:
        async with office.database.transaction() as tx:
            await hooked(tx, office, url)
            await owe(tx, office)
        await deliver(office, egress)
        assert await ways(office) == [(f"webhook:{office.app_id}", 1, "status 500")]
        assert await deliver(office, egress) == 0  # not due yet
        await office.database.execute("UPDATE announcement_way SET due_at = now()")
        assert await deliver(office, egress) == 1
    assert await ways(office) == []
    assert posts[0].events == posts[1].events


async def test_what_cannot_be_delivered_for_a_day_is_given_up_and_can_still_be_read(office: Office) -> None:
    async with sinking([], lambda: 500) as url, open_egress(SETTINGS) as egress:
        async with office.database.transaction() as tx:
            await hooked(tx, office, url)
            await owe(tx, office)
        await office.database.execute("UPDATE announcement SET created_at = now() - interval '25 hours'")
        await deliver(office, egress)
    assert await ways(office) == []
    async with office.database.transaction() as tx:
        assert len(await announcements.page(tx, office.tenant_id)) == 1


async def test_a_webhook_that_was_removed_meanwhile_is_owed_nothing(office: Office) -> None:
    posts: list[Post] = []
    async with sinking(posts) as url, open_egress(SETTINGS) as egress:
        async with office.database.transaction() as tx:
            await hooked(tx, office, url)
            await owe(tx, office)
            await webhooks.remove(tx, office.app_id)
        await deliver(office, egress)
    assert posts == []
    assert await ways(office) == []


async def test_another_tenants_webhook_hears_nothing(office: Office) -> None:
    posts: list[Post] = []
    async with sinking(posts) as url, open_egress(SETTINGS) as egress:
        async with office.database.transaction() as tx:
            await hooked(tx, office, url)
            other = await tenants.create(tx, office.vault, make.MASTER, "Peony")
            await announcements.owe(tx, other, "review.decided", subject="s", words="w", body={})
        await deliver(office, egress)
    assert posts == []


OWNER_SQL = """
INSERT INTO console_user (tenant_id, email, name, role, password_hash, active) VALUES ($1, $2, $2, $3, '', $4)
"""


async def test_owners_are_written_to_and_nobody_else(office: Office) -> None:
    came: list[str] = []

    class Box:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
            came.extend(envelope.rcpt_tos)
            return "250 OK"

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Box(), loop=loop), "127.0.0.1", 0)
    settings = replace(
        SETTINGS, smtp_host="127.0.0.1", smtp_port=server.sockets[0].getsockname()[1], smtp_tls="never"
    )
    async with office.database.transaction() as tx:
        people = [
            ("a@b.example", "owner", True),
            ("c@b.example", "owner", False),
            ("d@b.example", "viewer", True),
        ]
        for email, role, active in people:
            await tx.execute(OWNER_SQL, office.tenant_id, email, role, active)
        await owe(tx, office)
    async with open_egress(settings) as egress:
        await deliver(office, egress, settings)
    server.close()
    assert came == ["a@b.example"]
    assert await ways(office) == []


async def test_a_mail_server_that_is_away_is_tried_again(office: Office) -> None:
    settings = replace(SETTINGS, smtp_host="127.0.0.1", smtp_port=1, smtp_tls="never")
    async with office.database.transaction() as tx:
        await tx.execute(OWNER_SQL, office.tenant_id, "a@b.example", "owner", True)
        await owe(tx, office)
    async with open_egress(settings) as egress:
        await deliver(office, egress, settings)
    ((way, attempt, error),) = await ways(office)
    assert (way, attempt) == ("mail", 1)
    assert error


async def test_the_loop_delivers_until_it_is_stopped(office: Office) -> None:
    posts: list[Post] = []
    came = asyncio.Event()

    def answer() -> int:
        came.set()
        return 200

    async with sinking(posts, answer) as url, open_egress(SETTINGS) as egress:
        async with office.database.transaction() as tx:
            await hooked(tx, office, url)
            await owe(tx, office)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(announcements.run(office.database, office.vault, SETTINGS, egress))
            async with asyncio.timeout(10):
                await came.wait()
            task.cancel()
    assert len(posts) == 1


async def test_what_breaks_us_is_backed_off_and_given_up_like_any_other_and_stops_no_other(
    office: Office,
) -> None:
    posts: list[Post] = []
    async with sinking(posts) as url, open_egress(SETTINGS) as egress:
        async with office.database.transaction() as tx:
            await hooked(tx, office, url)
            await owe(tx, office)
        await office.database.execute("UPDATE announcement_way SET way = 'webhook:broken' WHERE way = 'mail'")
        assert await deliver(office, egress) == 2
        assert len(posts) == 1
        assert await ways(office) == [("webhook:broken", 1, "ValueError")]
        await office.database.execute("UPDATE announcement SET created_at = now() - interval '25 hours'")
        await office.database.execute("UPDATE announcement_way SET due_at = now()")
        await deliver(office, egress)
    assert await ways(office) == []
