"""The overview as a stream: as fresh as the last commit, and only for as long as somebody may and does read it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

import make
from doors.counter import WAIT_S, Line, line, request, served
from doors.management.desk import KEY, Desk, desk
from doors.test_forward import listening, person
from hongyan.control.permissions import Role
from hongyan.doors import events, streams
from hongyan.vocab.message import Status

PATH: Final = "/v1/overview/live"
LATE_S: Final = 30.0  # generous: this machine may be busy
Event = tuple[str, Any]


@pytest.fixture(autouse=True)
def _without_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK_GAP_S", 0.02)


class Watching:
    """A stream that is read event by event."""

    def __init__(self, one: Line) -> None:
        self._line = one

    async def head(self) -> str:
        async with asyncio.timeout(WAIT_S):
            return (await self._line.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()

    async def event(self) -> Event | None:
        """Return the next event's kind and JSON, comments left out; None once the stream has ended."""
        async with asyncio.timeout(WAIT_S):
            while frame := await self._frame():
                fields = dict(row.partition(": ")[::2] for row in frame.decode().strip().split("\n"))
                if "data" in fields:
                    return fields.get("event", "message"), msgspec.json.decode(fields["data"])
        return None

    async def _frame(self) -> bytes:
        """Read a chunk (RFC 9112 §7.1); each piece of ours is one."""
        reader = self._line.reader
        size = int(await reader.readuntil(b"\r\n"), 16)
        return (await reader.readexactly(size + 2))[:-2]

    async def until(self, wanted: Callable[[Any], bool]) -> Any:
        """Read on until an overview is as wanted."""
        async with asyncio.timeout(LATE_S):
            while event := await self.event():
                if event[1].get("overview") and wanted(event[1]["overview"]):
                    return event[1]["overview"]
        raise AssertionError("the stream ended")


@contextlib.asynccontextmanager
async def watching(
    port: int, credentials: dict[str, str], target: str = PATH, method: str = "GET"
) -> AsyncIterator[Watching]:
    async with line(port) as one:
        await one.write(request(method, target, headers=credentials))
        yield Watching(one)


async def count_one(one: Desk | make.World, world: make.World) -> None:
    async with one.database.transaction() as tx:
        await make.tally(tx, world, status=Status.ACCEPTED, messages=1)


async def test_what_is_committed_is_in_the_next_looks(database: str) -> None:
    async with desk(database) as one, watching(one.port, one.credentials(Role.VIEWER)) as stream:
        head = await stream.head()
        assert head.startswith("http/1.1 200")
        assert "content-type: text/event-stream" in head
        assert "cache-control: no-store" in head
        first = await stream.event()
        assert first is not None
        assert first[1]["overview"]["today"] is None
        await count_one(one, one.world)
        seen = await stream.until(lambda overview: overview["today"] is not None)
        assert (seen["today"]["accepted"], seen["balance_micro"]) == (1, 1_000_000_000)
        same = await stream.event()
        assert same is not None
        assert same[1]["overview"] is None  # nothing has changed since


async def test_a_stream_passes_a_door_and_ends_with_its_reader(database: str, tmp_path: Path) -> None:
    settings = replace(make.SETTINGS, state_dir=tmp_path)
    async with make.world(database) as world:
        viewer = await person(world, Role.VIEWER)
        with listening(settings) as sock:
            async with (
                served(world, settings=settings, sock=sock) as managing,
                served(world, settings=settings, manages=False) as door,
            ):
                async with watching(door.port, viewer) as stream:
                    await stream.head()
                    await stream.event()
                    await count_one(world, world)
                    await stream.until(lambda overview: overview["today"] is not None)
                    assert managing.door.streams.count == 1
                async with asyncio.timeout(LATE_S):
                    while managing.door.streams.count:
                        await asyncio.sleep(0.01)


async def test_who_may_no_longer_reads_no_longer(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAY_GAP_S", 0.0)
    async with desk(database) as one:
        for who, sql, code in (
            (Role.VIEWER, "DELETE FROM sign_in WHERE user_id = $1", "Auth.SignInEnded"),
            (
                Role.SUPPORT,
                "UPDATE console_user SET role = 'reviewer' WHERE id = $1",
                "Auth.PermissionDenied",
            ),
        ):
            async with watching(one.port, one.credentials(who)) as stream:
                await stream.head()
                assert await stream.event()
                async with one.database.transaction() as tx:
                    await tx.execute(sql, one.users[who])
                ended = await _last(stream)
                assert (ended[0], ended[1]["code"]) == ("ended", code)
        async with watching(one.port, one.credentials(KEY)) as stream:
            await stream.head()
            assert await stream.event()
            async with one.database.transaction() as tx:
                await tx.execute("UPDATE app_key SET active = false WHERE key_id = $1", one.key_id)
            await one.served.keeper.load()
            ended = await _last(stream)
            assert (ended[0], ended[1]["code"]) == ("ended", "Auth.KeyNotFound")


async def _last(stream: Watching) -> Event:
    last: Event | None = None
    async with asyncio.timeout(LATE_S):
        while event := await stream.event():
            last = event
    assert last is not None
    return last


async def test_streams_end_when_the_program_stops(database: str) -> None:
    async with contextlib.AsyncExitStack() as reading:
        async with desk(database) as one:
            stream = await reading.enter_async_context(watching(one.port, one.credentials(Role.OPERATOR)))
            await stream.head()
            await stream.event()
        async with asyncio.timeout(LATE_S):
            while await stream.event():
                pass


async def test_one_person_has_only_so_many_streams(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAMS_PER_CALLER_MAX", 1)
    async with desk(database) as one:
        async with watching(one.port, one.credentials(Role.OWNER)) as stream:
            await stream.head()
            await stream.event()
            refused = await one.ask("GET", PATH, as_=Role.OWNER)
            assert (refused.status, refused.code) == (429, "Request.RateLimited")
            assert refused.headers["retry-after"]
            monkeypatch.setattr(streams, "STREAMS_MAX", 1)
            assert (await one.ask("GET", PATH, as_=Role.VIEWER)).code == "System.Busy"
        async with asyncio.timeout(LATE_S):
            while one.served.door.streams.count:
                await asyncio.sleep(0.01)
        assert (await one.ask("GET", f"{PATH}?seconds=0.1", as_=Role.OWNER)).status == 200


async def test_those_who_watch_the_same_share_each_look() -> None:
    looks = 0

    async def look() -> int:
        nonlocal looks
        looks += 1
        return looks

    together = streams.Streams()
    with together.sharing("it", look) as first, together.sharing("it", look) as second:
        assert first is second
        seen = await asyncio.gather(*(one.after(0) for one in (first, second) for _ in range(50)))
        assert (looks, set(seen)) == (1, {(1, 1)})
        assert await first.after(1) == await second.after(1) == (2, 2)
    with together.sharing("it", look) as later:
        assert later is not first


async def test_a_quiet_stream_says_that_it_is_still_there(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STILL_GAP_S", 0.02)
    async with desk(database) as one, line(one.port) as raw:
        await raw.write(request("GET", PATH, headers=one.credentials(Role.OWNER)))
        async with asyncio.timeout(LATE_S):
            assert await raw.reader.readuntil(b": still here\n\n")


async def test_a_look_that_fails_is_told_and_ends_the_stream(database: str) -> None:
    async with desk(database) as one, watching(one.port, one.credentials(Role.OPERATOR)) as stream:
        await stream.head()
        await stream.event()
        async with one.database.transaction() as tx:
            await tx.execute("ALTER TABLE complaint RENAME TO elsewhere")
        ended = await _last(stream)
        assert (ended[0], ended[1]["code"]) == ("ended", "System.Error")


async def test_only_the_head_is_asked_for_and_told(database: str) -> None:
    async with desk(database) as one:
        head = await ask_head(one.port, one.credentials(Role.OWNER))
        assert "content-type: text/event-stream" in head
        assert one.served.door.streams.count == 0


async def ask_head(port: int, credentials: dict[str, str]) -> str:
    async with watching(port, credentials | {"Connection": "close"}, method="HEAD") as stream:
        head = await stream.head()
        assert await stream._line.closed() == b""
        return head
