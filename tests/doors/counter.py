"""A door as customers meet it: real PostgreSQL, a real socket, and a plain client that shows every octet.

Entry points: served(), Line, ask().
"""

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import msgspec

import make
from hongyan import db
from hongyan.doors import http
from hongyan.doors.door import Accepts, Door
from hongyan.doors.forward import Forward
from hongyan.doors.upstream import Upstream
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.errors import Refusal
from hongyan.vocab.message import MessageId, MessageIds
from hongyan.way.accept import Accepted, Acceptor, Done, Draft, Idempotency, Outcome
from hongyan.way.measure import Counters
from hongyan.way.snapshot import Keeper, Key

SECRET: Final = b"secret"
WAIT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Served:
    """One door that answers."""

    door: Door
    keeper: Keeper
    server: http.Server
    port: int


class Laid(Protocol):
    """A database and what opens it: make.World, plane.Plane."""

    @property
    def database(self) -> db.Database: ...
    @property
    def vault(self) -> Vault: ...


@contextlib.asynccontextmanager
async def served(
    world: Laid,
    acceptor: Accepts | None = None,
    *,
    settings: Settings = make.SETTINGS,
    pushes: bool = False,
    manages: bool = True,
    sock: socket.socket | None = None,
) -> AsyncIterator[Served]:
    """Serve a door of its own on a free port; with the real Acceptor unless another is given.

    `pushes`: it takes those of HTTP providers too. Without `manages` it passes on what the managing process answers;
    that one listens on `sock`.
    """
    keeper = Keeper(world.database, world.vault)
    await keeper.load()
    settings = replace(settings, http_port=0)
    async with asyncio.TaskGroup() as group:
        loops = []
        if acceptor is None:
            acceptor = Acceptor(
                world.database, keeper, world.vault, settings, Counters(), lambda _lane: 0, lambda _rows: None
            )
            loops.append(group.create_task(acceptor.run()))
        upstream = Upstream(world.database, keeper, world.vault, settings, Counters(), lambda _owed: None)
        door = Door(settings, keeper, world.database, world.vault, acceptor, upstream.texted)
        loops.append(group.create_task(door.run()))
        if pushes:
            loops.append(group.create_task(upstream.run()))
        app = http.build(door, lambda: b"up 1\n", upstream if pushes else None, manages=manages)
        server = http.Server(http.serve_config(door, app, hot=sock is None))
        serving = group.create_task(server.serve(sockets=[sock] if sock else None))
        async with asyncio.timeout(WAIT_S):
            await server.listening.wait()
        try:
            yield Served(door, keeper, server, 0 if sock else server.port)
        finally:
            server.stop()
            await serving
            if isinstance(app, Forward):
                await app.close()
            for loop in loops:
                loop.cancel()


class Yes:
    """Accepts everything at once and stores nothing: for what only concerns the socket."""

    def __init__(self) -> None:
        self.offered: list[Sequence[Draft]] = []
        self._ids = MessageIds()

    def offer(
        self,
        _key: Key,
        drafts: Sequence[Draft],
        _idempotency: Idempotency | None,
        done: Done,
        _ids: Sequence[MessageId] = (),
    ) -> None:
        self.offered.append(drafts)
        done([self.outcome(draft) for draft in drafts])

    def have_gathered(self) -> None:
        """Commits nothing, so nothing waits."""

    def outcome(self, _draft: Draft) -> Outcome:
        return Accepted(self._ids.make(), 1, 45_000)


class Later(Yes):
    """Keeps what is offered until the test says when, and in which order, it is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[str, Callable[[], None]] = {}
        self.came = asyncio.Event()

    def offer(
        self,
        _key: Key,
        drafts: Sequence[Draft],
        _idempotency: Idempotency | None,
        done: Done,
        _ids: Sequence[MessageId] = (),
    ) -> None:
        outcomes = [self.outcome(draft) for draft in drafts]
        self.waiting[drafts[0].reference] = lambda: done(outcomes)
        self.came.set()

    async def until(self, count: int) -> None:
        """Wait until so many requests are in hand."""
        async with asyncio.timeout(WAIT_S):
            while len(self.waiting) < count:
                self.came.clear()
                await self.came.wait()


class No(Yes):
    """Refuses everything for one reason."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self._refusal = refusal

    def outcome(self, _draft: Draft) -> Outcome:
        return self._refusal


@dataclass(frozen=True, slots=True)
class Reply:
    """One response as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])


class Line:
    """One connection, written to and read from by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def write(self, octets: bytes) -> None:
        self.writer.write(octets)
        async with asyncio.timeout(WAIT_S):
            await self.writer.drain()

    async def reply(self) -> Reply:
        """Read the next response."""
        async with asyncio.timeout(WAIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            if headers.get("transfer-encoding") == "chunked":
                body = await self._chunks()
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return Reply(int(first.split()[1]), headers, body)

    async def _chunks(self) -> bytes:
        """Read a chunked body (RFC 9112 §7.1)."""
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readuntil(b"\r\n")
        return body

    async def closed(self) -> bytes:
        """Read what still comes until the other side closes."""
        async with asyncio.timeout(WAIT_S):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def line(port: int) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def basic(key_id: str, secret: bytes = SECRET) -> str:
    return "Basic " + base64.b64encode(key_id.encode() + b":" + secret).decode()


def request(
    method: str, target: str, body: bytes | object = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return one request as octets; what is not octets is sent as JSON."""
    octets = body if isinstance(body, bytes) else msgspec.json.encode(body)
    fields = {"Host": "localhost", "Content-Length": str(len(octets))} | dict(headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + octets


async def ask(
    port: int, method: str, target: str, body: bytes | object = b"", headers: Mapping[str, str] | None = None
) -> Reply:
    """Ask once, on a connection of its own."""
    async with line(port) as one:
        await one.write(request(method, target, body, headers))
        return await one.reply()
