"""Apps are told everything they are owed, once as a rule, and one bad endpoint costs the others nothing."""

import asyncio
import hashlib
import hmac
import random
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import make
from hongyan import db, vault
from hongyan.egress import open_egress
from hongyan.settings import Settings
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import AppId, Status, TenantId
from hongyan.way import notify, owing, posted
from hongyan.way.notice import INBOUND, STATUS, body_of, mac_of
from hongyan.way.notify import Owed, Payer
from hongyan.way.snapshot import Keeper
from make import owe_rows

DEADLINE_S = 20.0
HANG = 0
SETTINGS = replace(make.SETTINGS, webhook_private_addresses=True, notice_hold_ms=5.0)
AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
WEBHOOKS_PAGE = Path(__file__).parents[2] / "docs" / "api" / "webhooks.md"


@dataclass
class Post:
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def events(self) -> Sequence[dict[str, Any]]:
        events: Sequence[dict[str, Any]] = msgspec.json.decode(self.body)["events"]
        return events


@dataclass
class Sink:
    """An endpoint. `answer` says with which status; HANG: never."""

    answer: Callable[[Post], int]
    port: int = 0
    posts: list[Post] = field(default_factory=list)
    heard: Callable[[], None] = lambda: None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def taken(self, path: str = "") -> list[str]:
        """The ids in POSTs to a path that were answered with 2xx, in the order they came."""
        return [
            event["message_id"]
            for post in self.posts
            if post.path == f"/{path}" and 200 <= post.status < 300
            for event in post.events
        ]

    async def until(self, seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not seen():
                self.news.clear()
                await self.news.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                start, *lines = head.rstrip("\r\n").split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                post = Post(start.split()[1], headers, body, 0)
                post.status = self.answer(post)
                self.posts.append(post)
                self.news.set()
                self.heard()
                if post.status != HANG:
                    writer.write(
                        f"HTTP/1.1 {post.status} X\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n".encode()
                    )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def sinking(answer: Callable[[Post], int]) -> AsyncIterator[Sink]:
    sink = Sink(answer)
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()


def always(status: int) -> Callable[[Post], int]:
    return lambda _: status


@dataclass
class Clerk:
    """A payer with what it needs, and the tick that deletes what it paid."""

    payer: Payer
    keeper: Keeper
    now_s: float
    settled: list[int]


@asynccontextmanager
async def clerk(
    world: make.World, settings: Settings = SETTINGS, chance: float = 0.0
) -> AsyncIterator[Clerk]:
    """A payer that is not running yet; run it with running()."""
    keeper = Keeper(world.database, world.vault)
    await keeper.load()
    settled: list[int] = []
    async with open_egress(settings) as egress:
        made: Clerk
        payer = Payer(
            world.database,
            keeper,
            world.vault,
            settings,
            egress,
            settled.extend,
            now_s=lambda: made.now_s,
            chance=lambda: chance,
        )
        made = Clerk(payer, keeper, datetime.now(UTC).timestamp(), settled)
        yield made


@asynccontextmanager
async def running(payer: Payer) -> AsyncIterator[asyncio.Task[None]]:
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        task = group.create_task(payer.run())
        try:
            yield task
        finally:
            task.cancel()


@asynccontextmanager
async def one_webhook(dsn: str, sink: Sink, path: str = "") -> AsyncIterator[make.World]:
    async with make.world(dsn) as world:
        async with world.database.transaction() as tx:
            await make.webhook(tx, world.vault, app_id=world.app_id, url=sink.url(path), secret=b"hook")
        yield world


def ids_of(notices: Sequence[Owed]) -> list[str]:
    return [str(notice.message_id) for notice in notices]


async def left(world: make.World) -> Sequence[db.Row]:
    # Rows are made due at once; now() may be beyond what a failure added.
    return await world.database.fetch(
        "SELECT id, app_id, attempt, due_at > at AS later, lease, lease_until FROM notice ORDER BY id"
    )


# ── what is told ──────────────────────────────────────────────────────────────────────────────────────

MAC_VECTORS = [
    (b"whsec-demo", "1772353800", b'{"events":[]}'),
    (b"whsec-demo", "1772353800", '{"events":[{"event":"inbound","text":"退订"}]}'.encode()),
    (bytes(range(32)), "0", b""),
]


@pytest.mark.parametrize("vector", MAC_VECTORS)
def test_the_mac_covers_timestamp_and_body_and_stands_in_the_documentation(
    vector: tuple[bytes, str, bytes],
) -> None:
    secret, timestamp, body = vector
    mac = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert mac_of(secret, timestamp, body) == f"v1={mac}"
    assert f"v1={mac}" in WEBHOOKS_PAGE.read_text("utf-8")


def owed(**columns: Any) -> Owed:
    values: dict[str, Any] = {
        "id": 1, "tenant_id": 1, "app_id": 1, "kind": STATUS, "message_id": uuid.UUID(int=7), "status": 1,
        "cause": 0, "code": "DELIVRD", "at": AT, "attempt": 0, "reference": "order-1", "part_count": 2,
        "price_micro": 90_000, "sealed": None,
    }  # fmt: skip
    return Owed(**(values | columns))


def vault_of_one_tenant() -> vault.Vault:
    names = ("index", "secrets", "tenant:1")
    return vault.Vault(make.MASTER, {name: vault.make_wrapped(make.MASTER, name) for name in names})


def test_a_status_event_has_exactly_this_spelling() -> None:
    keys = vault_of_one_tenant()
    sealed = make.sealed_message(keys, TenantId(1), make.NUMBER, "【鸿雁】您好", {"a": "b"})
    assert body_of(keys, [owed(sealed=sealed)]) == (
        b'{"events":[{"event":"status","message_id":"00000000-0000-0000-0000-000000000007","status":"delivered",'
        b'"cause":"none","upstream_code":"DELIVRD","to":"+8613800138000","reference":"order-1","parts":2,'
        b'"price_micro":90000,"at":"2026-03-01T08:30:00Z","corrected":false}]}'
    )


def test_a_correction_says_so_twice() -> None:
    body = body_of(
        vault_of_one_tenant(), [owed(kind=2, status=Status.UNDELIVERED.number, cause=Cause.ABSENT.number)]
    )
    (event,) = msgspec.json.decode(body)["events"]
    assert (event["event"], event["corrected"], event["status"], event["cause"]) == (
        "correction",
        True,
        "undelivered",
        "absent",
    )


def test_every_status_and_cause_has_its_word() -> None:
    keys = vault_of_one_tenant()
    for cause in Cause:
        for status in (status for status in Status if status.final):
            (event,) = msgspec.json.decode(body_of(keys, [owed(status=status.number, cause=cause.number)]))[
                "events"
            ]
            assert (event["status"], event["cause"]) == (status, cause)


def test_an_inbound_event_has_number_and_text() -> None:
    keys = vault_of_one_tenant()
    sealed = keys.seal(1, msgspec.msgpack.encode((make.NUMBER, "退订")))
    notice = owed(kind=INBOUND, sealed=sealed, access_number="1069", answers=uuid.UUID(int=8), opt_out=True)
    (event,) = msgspec.json.decode(body_of(keys, [notice]))["events"]
    assert event == {
        "event": "inbound",
        "message_id": str(uuid.UUID(int=7)),
        "from": make.NUMBER,
        "to": "1069",
        "text": "退订",
        "answers": str(uuid.UUID(int=8)),
        "opt_out": True,
        "at": "2026-03-01T08:30:00Z",
    }


@pytest.mark.parametrize("kind", [STATUS, INBOUND])
@pytest.mark.parametrize("sealed", [None, b"", b"x" * 40])
def test_an_erased_or_damaged_person_is_told_of_without_number(kind: int, sealed: bytes | None) -> None:
    (event,) = msgspec.json.decode(body_of(vault_of_one_tenant(), [owed(kind=kind, sealed=sealed)]))["events"]
    assert event["from" if kind == INBOUND else "to"] is None


def test_a_cause_of_a_newer_version_does_not_hold_up_a_batch() -> None:
    (event,) = msgspec.json.decode(body_of(vault_of_one_tenant(), [owed(cause=99)]))["events"]
    assert event["cause"] == "unknown"


# ── when it is told ───────────────────────────────────────────────────────────────────────────────────


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_back_off_grows_to_an_hour_and_stays_there(attempt: int, chance: float) -> None:
    assert 0 <= notify.back_off_s(attempt, chance) <= min(3600, 2 ** min(attempt, 12))
    assert notify.back_off_s(attempt, chance) <= notify.back_off_s(attempt + 1, chance)


@given(st.integers(0, 10_000))
def test_pauses_grow_to_some_minutes_and_stay_there(beyond: int) -> None:
    assert 15 <= notify.pause_s(beyond) <= notify.pause_s(beyond + 1) <= 300


async def test_a_post_is_signed_and_has_at_most_a_hundred_events(database: str) -> None:
    async with sinking(always(204)) as sink, one_webhook(database, sink) as world, clerk(world) as ours:
        notices = await owe_rows(world, 250, leased=True)
        ours.payer.owe(notices)
        async with running(ours.payer):
            await sink.until(lambda: len(sink.taken()) == 250)
    ids = ids_of(notices)
    told = [[event["message_id"] for event in post.events] for post in sink.posts]
    told.sort(key=lambda some: ids.index(some[0]))  # the last two POSTs may run side by side
    assert told == [ids[:100], ids[100:200], ids[200:]]
    for post in sink.posts:
        timestamp = post.headers["hongyan-timestamp"]
        assert post.headers["hongyan-mac"] == mac_of(b"hook", timestamp, post.body)
        assert timestamp == str(int(ours.now_s))
    assert len({post.headers["hongyan-delivery-id"] for post in sink.posts}) == 3


async def test_what_was_paid_is_settled(database: str) -> None:
    async with sinking(always(200)) as sink, one_webhook(database, sink) as world, clerk(world) as ours:
        notices = await owe_rows(world, 3, leased=True)
        async with running(ours.payer) as task:
            ours.payer.owe(notices)
            await sink.until(lambda: bool(sink.posts))
            ours.payer.stop()
            await task
    assert ours.settled == [notice.id for notice in notices]


async def test_notices_that_come_one_by_one_share_a_post(database: str) -> None:
    patient = replace(SETTINGS, notice_hold_ms=200.0)
    async with (
        sinking(always(200)) as sink,
        one_webhook(database, sink) as world,
        clerk(world, patient) as ours,
    ):
        notices = await owe_rows(world, 30, leased=True)
        async with running(ours.payer):
            for notice in notices:
                ours.payer.owe([notice])
            await sink.until(lambda: len(sink.taken()) == 30)
    assert len(sink.posts) == 1


async def test_rows_in_the_table_are_told_with_what_message_and_inbound_say(database: str) -> None:
    async with sinking(always(200)) as sink, one_webhook(database, sink) as world, clerk(world) as ours:
        async with world.database.transaction() as tx:
            message = await make.message(
                tx, world, status=Status.UNDELIVERED, reference="r1", refund_micro=5_000
            )
            inbound = uuid.uuid4()
            await tx.execute(
                """INSERT INTO inbound (id, tenant_id, app_id, channel_id, access_number, phone_index,
                                        sealed, message_id, opt_out)
                   VALUES ($1, $2, $3, 1, '10690', '', $4, $5, true)""",
                inbound,
                world.tenant_id,
                world.app_id,
                world.vault.seal(world.tenant_id, msgspec.msgpack.encode((make.NUMBER, "退订"))),
                message,
            )
            for kind, number in ((1, message), (2, message), (3, inbound)):
                await tx.execute(
                    """INSERT INTO notice (tenant_id, app_id, kind, message_id, status, cause, code, at)
                       VALUES ($1, $2, $3, $4, 4, 1, 'MK:0001', $5)""",
                    world.tenant_id,
                    world.app_id,
                    kind,
                    number,
                    AT,
                )
        async with running(ours.payer):
            await sink.until(lambda: len(sink.taken()) == 3)
    status, correction, reply = (event for post in sink.posts for event in post.events)
    assert status == {
        "event": "status",
        "message_id": str(message),
        "status": "undelivered",
        "cause": "absent",
        "upstream_code": "MK:0001",
        "to": make.NUMBER,
        "reference": "r1",
        "parts": 1,
        "price_micro": 40_000,
        "at": "2026-03-01T08:30:00Z",
        "corrected": False,
    }
    assert correction == status | {"event": "correction", "corrected": True}
    assert reply["from"] == make.NUMBER
    assert (reply["to"], reply["text"], reply["answers"], reply["opt_out"]) == (
        "10690",
        "退订",
        str(message),
        True,
    )


# ── failures ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [302, 307, 400, 404, 500, 503])
async def test_all_but_2xx_is_a_failure_and_is_due_again_later(database: str, status: int) -> None:
    async with (
        sinking(always(status)) as sink,
        one_webhook(database, sink) as world,
        clerk(world, chance=0.5) as ours,
    ):
        ours.payer.owe(await owe_rows(world, 3, leased=True))
        async with running(ours.payer) as task:
            await sink.until(lambda: bool(sink.posts))
            ours.payer.stop()
            await task
        rows = await left(world)
    assert len(sink.posts) == 1
    assert ours.settled == []
    assert [(row["attempt"], row["later"], row["lease_until"]) for row in rows] == [(1, True, None)] * 3


async def test_a_failed_notice_is_told_when_it_is_due(database: str) -> None:
    answers = iter([500, 503, 200])
    async with (
        sinking(lambda _: next(answers)) as sink,
        one_webhook(database, sink) as world,
        clerk(world) as ours,
    ):
        sink.heard = ours.payer.wake
        notices = await owe_rows(world, 5, leased=True)
        ours.payer.owe(notices)
        async with running(ours.payer):
            await sink.until(lambda: len(sink.taken()) == 5)
    assert [post.status for post in sink.posts] == [500, 503, 200]
    assert sink.taken() == ids_of(notices)


async def test_all_of_2000_notices_arrive_when_the_endpoint_fails_half_of_the_time(database: str) -> None:
    """Jasmin #998: 190 of 1,000 callbacks arrived while the customer's server was slow."""
    dice = random.Random(7)
    stubborn = replace(SETTINGS, webhook_pause_after=1_000)
    async with (
        sinking(lambda _: dice.choice((200, 500))) as sink,
        one_webhook(database, sink) as world,
        clerk(world, stubborn) as ours,
    ):
        sink.heard = ours.payer.wake
        notices = await owe_rows(world, 2_000, leased=True)
        ours.payer.owe(notices)
        async with running(ours.payer) as task:
            await sink.until(lambda: len(sink.taken()) >= 2_000)
            ours.payer.stop()
            await task
    assert sorted(sink.taken()) == sorted(ids_of(notices))
    assert sorted(ours.settled) == [notice.id for notice in notices]


async def test_an_endpoint_that_keeps_failing_is_paused_probed_once_and_recovers(database: str) -> None:
    answer = [500]
    strict = replace(SETTINGS, webhook_pause_after=3, notice_batch_max=10)
    async with (
        sinking(lambda _: answer[0]) as sink,
        one_webhook(database, sink) as world,
        clerk(world, strict) as ours,
    ):
        sink.heard = ours.payer.wake
        await owe_rows(world, 100)
        async with running(ours.payer):
            await health(world, bool)
            assert len(sink.posts) == 3
            ours.payer.owe(await owe_rows(world, 10, leased=True))  # forgotten, the table has them
            ours.now_s += 15.1
            ours.payer.wake()
            await health(world, lambda rows: bool(rows) and rows[0]["failures"] == 4)
            assert len(sink.posts) == 4
            answer[0] = 200
            ours.now_s += 30.1
            ours.payer.wake()
            await sink.until(lambda: len(sink.taken()) == 100)
            await health(world, lambda rows: not rows)
    assert len(set(sink.taken())) == 100
    assert ours.payer.counts.pauses == 2


async def health(world: make.World, seen: Callable[[Sequence[db.Row]], bool]) -> Sequence[db.Row]:
    """Wait until the table of pauses looks so."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            rows = await world.database.fetch("SELECT failures, paused_until, last_error FROM webhook_health")
            if seen(rows):
                return rows


async def test_410_pauses_long_at_once(database: str) -> None:
    async with sinking(always(410)) as sink, one_webhook(database, sink) as world, clerk(world) as ours:
        await owe_rows(world, 5)
        async with running(ours.payer):
            (row,) = await health(world, bool)
    assert row["paused_until"] - datetime.fromtimestamp(ours.now_s, UTC) >= timedelta(minutes=59)
    assert row["last_error"] == "status 410"
    assert len(sink.posts) == 1


async def test_a_pause_holds_for_other_processes_and_after_a_restart(database: str) -> None:
    async with sinking(always(200)) as sink, one_webhook(database, sink) as world, clerk(world) as ours:
        await world.database.execute(
            """INSERT INTO webhook_health (webhook_id, failures, paused_until)
               SELECT id, 12, now() + interval '99 s' FROM webhook"""
        )
        other = await another_app(world, sink, "other")
        await ours.keeper.load()
        await owe_rows(world, 5)
        await owe_rows(world, 5, app_id=other)
        async with running(ours.payer):
            await sink.until(lambda: len(sink.taken("other")) == 5)
            assert sink.taken() == []
            ours.now_s += 120  # the pause began by the database's clock, later than ours was read
            ours.payer.wake()
            await sink.until(lambda: len(sink.taken()) == 5)
            await health(world, lambda rows: not rows)


async def another_app(world: make.World, sink: Sink, path: str) -> AppId:
    async with world.database.transaction() as tx:
        app_id = await make.app(tx, tenant_id=world.tenant_id)
        await make.webhook(tx, world.vault, app_id=app_id, url=sink.url(path))
    return app_id


async def test_a_webhook_that_moves_is_not_paused_for_what_the_old_address_did(database: str) -> None:
    strict = replace(SETTINGS, webhook_pause_after=1)
    async with (
        sinking(lambda post: 200 if post.path == "/new" else 500) as sink,
        one_webhook(database, sink, "old") as world,
        clerk(world, strict) as ours,
    ):
        await owe_rows(world, 5)
        async with running(ours.payer):
            await health(world, bool)
            await world.database.execute("UPDATE webhook SET url = $1", sink.url("new"))
            await ours.keeper.load()
            ours.payer.wake()
            await sink.until(lambda: len(sink.taken("new")) == 5)


async def test_a_hanging_endpoint_keeps_its_own_slots_and_nobody_waits_for_it(database: str) -> None:
    async with (
        sinking(lambda post: HANG if post.path == "/hangs" else 200) as sink,
        one_webhook(database, sink, "hangs") as world,
    ):
        other = await another_app(world, sink, "well")
        async with clerk(world) as ours:
            hanging = await owe_rows(world, 2_000, leased=True)
            well = await owe_rows(world, 500, app_id=other, leased=True)
            async with running(ours.payer):
                ours.payer.owe(hanging)
                ours.payer.owe(well)
                await sink.until(lambda: len(sink.taken("well")) == 500)
                assert (
                    1
                    <= len([post for post in sink.posts if post.path == "/hangs"])
                    <= SETTINGS.notice_posts_max
                )
    assert sorted(sink.taken("well")) == sorted(ids_of(well))  # its POSTs may run side by side


async def test_an_endpoint_in_our_own_network_is_not_called(database: str) -> None:
    guarded = replace(SETTINGS, webhook_private_addresses=False, webhook_pause_after=1)
    async with (
        sinking(always(200)) as sink,
        one_webhook(database, sink) as world,
        clerk(world, guarded) as ours,
    ):
        await owe_rows(world, 5)
        async with running(ours.payer):
            (row,) = await health(world, bool)
        assert len(await left(world)) == 5
    assert row["last_error"] == "url refused: private address"
    assert sink.posts == []


# ── who pays it ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_row_in_somebodys_hands_is_taken_over_when_its_lease_is_over(database: str) -> None:
    async with sinking(always(200)) as sink, one_webhook(database, sink) as world, clerk(world) as ours:
        theirs = await owe_rows(world, 3, leased=True)
        free = await owe_rows(world, 2)
        async with running(ours.payer):
            await sink.until(lambda: bool(sink.posts))
            assert sink.taken() == ids_of(free)
            await world.database.execute(
                "UPDATE notice SET lease_until = now() WHERE id = ANY($1::bigint[])", [n.id for n in theirs]
            )
            ours.payer.wake()
            await sink.until(lambda: len(sink.taken()) == 5)
    assert sink.taken() == ids_of(free) + ids_of(theirs)


async def test_two_clerks_on_one_table_tell_everything_once(database: str) -> None:
    async with (
        sinking(always(200)) as sink,
        one_webhook(database, sink) as world,
        clerk(world) as one,
        clerk(world) as two,
    ):
        notices = await owe_rows(world, 3_000)
        async with running(one.payer), running(two.payer):
            await sink.until(lambda: len(sink.taken()) >= 3_000)
    assert sorted(sink.taken()) == sorted(ids_of(notices))


async def test_a_row_whose_lease_is_nearly_over_is_left_to_the_table(database: str) -> None:
    async with sinking(always(200)) as sink, one_webhook(database, sink) as world, clerk(world) as ours:
        late = await owe_rows(world, 3, leased=True)
        ours.payer.owe(late)
        ours.now_s += notify.LEASE_S - SETTINGS.notice_timeout_s
        in_time = await owe_rows(world, 2, leased=True)
        ours.payer.owe(in_time)
        async with running(ours.payer):
            await sink.until(lambda: bool(sink.posts))
    assert sink.taken() == ids_of(in_time)
    assert ours.payer.counts.forgotten == 3


async def test_what_memory_has_no_room_for_is_told_from_the_table(database: str) -> None:
    async with sinking(always(200)) as sink, one_webhook(database, sink) as world, clerk(world) as ours:
        notices = await owe_rows(world, notify.WAITING_MAX + 500, leased=True)
        ours.payer.owe(notices)
        assert ours.payer.counts.forgotten == 500
        await world.database.execute("UPDATE notice SET lease_until = now() WHERE id > $1", notices[-501].id)
        async with running(ours.payer):
            await sink.until(lambda: len(sink.taken()) >= len(notices))
    assert sorted(sink.taken()) == sorted(ids_of(notices))


async def test_one_apps_backlog_does_not_fill_a_claim(database: str) -> None:
    async with sinking(always(200)) as sink, one_webhook(database, sink) as world:
        other = await another_app(world, sink, "other")
        await owe_rows(world, 3_000)
        small = await owe_rows(world, 10, app_id=other)
        rooms = [(world.app_id, owing.CLAIM_APP_MAX), (other, owing.CLAIM_APP_MAX)]
        claimed = await owing.claim(world.database, rooms, rows_max=50_000, floor=0)
        assert len(claimed) == owing.CLAIM_APP_MAX + 10
        assert [notice.id for notice in claimed if notice.app_id == other] == [notice.id for notice in small]
        again = await owing.claim(world.database, rooms, rows_max=7, floor=0)
        assert len(again) == 7


async def test_a_stop_gives_back_what_was_not_posted(database: str) -> None:
    slow = replace(SETTINGS, notice_hold_ms=60_000.0)
    async with sinking(always(200)) as sink, one_webhook(database, sink) as world, clerk(world, slow) as ours:
        async with running(ours.payer) as task:
            ours.payer.owe(await owe_rows(world, 5, leased=True))
            ours.payer.stop()
            await task
        assert [(row["lease_until"], row["attempt"]) for row in await left(world)] == [(None, 0)] * 5
    assert sink.posts == []


async def test_notices_of_an_app_without_webhook_wait_to_be_pulled(database: str) -> None:
    async with make.world(database) as world, clerk(world) as ours:
        notices = await owe_rows(world, 3, leased=True)
        ours.payer.owe(notices)
        async with world.database.transaction() as tx:
            pulled = await notify.pull(tx, world.vault, world.app_id, 10, 60)
    assert [str(event.message_id) for event in pulled.events] == ids_of(notices)


# ── pulled ────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_pulled_is_given_once_until_acknowledged_or_over(database: str) -> None:
    async with make.world(database) as world:
        notices = await owe_rows(world, 5)
        async with world.database.transaction() as tx:
            first = await notify.pull(tx, world.vault, world.app_id, 3, 60)
            second = await notify.pull(tx, world.vault, world.app_id, 3, 60)
            assert await notify.pull(tx, world.vault, world.app_id, 3, 60) == notify.Pulled("", [])
            assert [str(event.message_id) for event in first.events] == ids_of(notices[:3])
            assert [str(event.message_id) for event in second.events] == ids_of(notices[3:])
            assert await notify.acknowledge(tx, world.app_id, second.cursor) == 2
            assert await notify.acknowledge(tx, world.app_id, second.cursor) == 0
        await world.database.execute("UPDATE notice SET lease_until = now()")
        async with world.database.transaction() as tx:
            again = await notify.pull(tx, world.vault, world.app_id, 3, 60)
            assert again.events == first.events
            assert await notify.acknowledge(tx, world.app_id, first.cursor) == 0
            assert await notify.acknowledge(tx, world.app_id, again.cursor) == 3
        assert await left(world) == []


async def test_an_acknowledgement_after_the_lease_counts_while_nobody_else_was_given_it(
    database: str,
) -> None:
    async with make.world(database) as world:
        await owe_rows(world, 2)
        async with world.database.transaction() as tx:
            pulled = await notify.pull(tx, world.vault, world.app_id, 3, 0)
        async with world.database.transaction() as tx:
            assert await notify.acknowledge(tx, world.app_id, pulled.cursor) == 2


@pytest.mark.parametrize(
    "cursor", ["", "x", "..", "1.2", f"{uuid.UUID(int=1).hex}.1.x", f"{'0' * 32}.0.{2**63}"]
)
async def test_a_malformed_cursor_acknowledges_nothing(database: str, cursor: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        assert await notify.acknowledge(tx, world.app_id, cursor) == 0


async def test_an_app_can_neither_pull_nor_acknowledge_anothers_notices(database: str) -> None:
    async with make.world(database) as world:
        await owe_rows(world, 2)
        async with world.database.transaction() as tx:
            other = await make.app(tx, tenant_id=world.tenant_id)
            pulled = await notify.pull(tx, world.vault, world.app_id, 3, 60)
            assert await notify.acknowledge(tx, other, pulled.cursor) == 0
            assert (await notify.pull(tx, world.vault, other, 3, 60)).events == []
        assert len(await left(world)) == 2


async def test_what_a_webhook_is_being_told_is_not_pulled_and_the_other_way_round(database: str) -> None:
    async with sinking(always(200)) as sink, one_webhook(database, sink) as world, clerk(world) as ours:
        await owe_rows(world, 2, leased=True)
        free = await owe_rows(world, 2)
        async with world.database.transaction() as tx:
            pulled = await notify.pull(tx, world.vault, world.app_id, 10, 60)
        assert [str(event.message_id) for event in pulled.events] == ids_of(free)
        marker = await owe_rows(world, 1)
        async with running(ours.payer):
            await sink.until(lambda: bool(sink.posts))
    assert sink.taken() == ids_of(marker)


# ── given up ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("done_h", "columns", "gone"),
    [
        (25, "attempt = 9", True),
        (23, "attempt = 9", False),
        (25, "attempt = 9, lease_until = now() + interval '5 s'", False),
        (25, "attempt = 0, due_at = now() - interval '25 h'", True),  # never pulled
        (0, "attempt = 9, at = now() - interval '3 days'", False),  # a late report, told since a moment
        (None, "attempt = 9, at = now() - interval '25 h', kind = 3", True),
        (None, "attempt = 9, kind = 3", False),
    ],
)
async def test_a_notice_is_given_up_after_a_day_of_trying(
    database: str, done_h: int | None, columns: str, gone: bool
) -> None:
    async with make.world(database) as world:
        await owe_rows(world, 2)
        async with world.database.transaction() as tx:
            if done_h is not None:
                done_at = datetime.now(UTC) - timedelta(hours=done_h)
                message = await make.message(tx, world, status=Status.DELIVERED, done_at=done_at)
                await tx.execute("UPDATE notice SET message_id = $1", message)
            await tx.execute(f"UPDATE notice SET {columns}")
            assert await notify.give_up(tx, SETTINGS) == (2 if gone else 0)
        assert len(await left(world)) == (0 if gone else 2)


# ── the log of POSTs ──────────────────────────────────────────────────────────────────────────────────


async def logged(world: make.World) -> list[posted.Posted]:
    async with world.database.transaction() as tx:
        return list(await posted.page(tx, [world.app_id], failed=False, limit=100))


async def test_each_post_is_logged_under_the_id_it_went_with(database: str) -> None:
    answers = iter([500, 200])
    async with (
        sinking(lambda _: next(answers)) as sink,
        one_webhook(database, sink) as world,
        clerk(world) as ours,
    ):
        sink.heard = ours.payer.wake
        notices = await owe_rows(world, 3, leased=True)
        ours.payer.owe(notices)
        async with running(ours.payer) as task:
            await sink.until(lambda: len(sink.taken()) == 3)
            ours.payer.stop()
            await task
        taken, failed = await logged(world)
    assert [str(failed.id), str(taken.id)] == [post.headers["hongyan-delivery-id"] for post in sink.posts]
    assert (failed.status, failed.attempt, failed.taken) == (500, 1, False)
    assert list(failed.notice_ids) == [notice.id for notice in notices]
    assert (taken.status, taken.attempt, taken.taken, list(taken.notice_ids)) == (200, 2, True, [])
    assert sorted(map(str, taken.message_ids)) == sorted(ids_of(notices))
    assert taken.kinds == bytes([STATUS] * 3)


async def test_a_post_that_nobody_answers_is_logged_with_the_reason(database: str) -> None:
    with socket.socket() as nobody:  # bound and not listening: it refuses, and nobody else is given the port
        nobody.bind(("127.0.0.1", 0))
        sink = Sink(always(200), nobody.getsockname()[1])
        async with one_webhook(database, sink) as world, clerk(world, chance=1.0) as ours:
            ours.payer.owe(await owe_rows(world, 1, leased=True))
            async with running(ours.payer) as task, asyncio.timeout(DEADLINE_S):
                while not ours.payer.counts.failed_posts:
                    await asyncio.sleep(0)
                ours.payer.stop()
                await task
            (one,) = await logged(world)
    assert (one.status, one.error) == (0, "no connection")


async def test_what_cannot_be_logged_does_not_stop_the_telling(database: str) -> None:
    async with (
        sinking(always(200)) as sink,
        one_webhook(database, sink) as world,
        clerk(world) as ours,
    ):
        sink.heard = ours.payer.wake
        await world.database.execute("ALTER TABLE delivery ADD CHECK (took_ms < 0)")
        first = await owe_rows(world, 2, leased=True)
        ours.payer.owe(first)
        async with running(ours.payer):
            await sink.until(lambda: len(sink.taken()) == 2)
            second = await owe_rows(world, 2)  # found by a claim, after the log could not be written
            ours.payer.wake()
            await sink.until(lambda: len(sink.taken()) == 4)
    assert sorted(sink.taken()) == sorted(ids_of([*first, *second]))
