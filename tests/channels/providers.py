"""HTTP providers on loopback for the tests of this room: real servers that answer what a script says.

Entry points: Provider (a server), Opened (a channel that is open against one), filed() and parcels. What a real
service checks of a request, the scripts in the tests of each kind check. Nothing here sleeps.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from hongyan.channels import kinds
from hongyan.channels.channel import Answer, Channel, Inbound, Outcome, Parcel, Report, Wording
from hongyan.egress import open_egress
from hongyan.settings import Settings

from .centre import Recorder, Watched
from .centre import parcel as plain_parcel

PRIVATE = Settings(webhook_private_addresses=True)
QUICK = {
    "backoff_s": 0.05,
    "backoff_s_max": 0.1,
    "throttle_pause_s": 0.05,
    "throttle_pause_s_max": 0.2,
    "close_wait_s": 0.3,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came. `query` is decoded; `raw_query` is not."""

    method: str
    path: str
    raw_query: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # by lower-case name
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    body: Any = b""  # octets, or what is written as JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Silence:
    """No answer, and the connection stays."""


class HangUp:
    """The connection ends in place of an answer."""


Answered = Reply | Silence | HangUp
Script = Callable[[Asked], Answered | Awaitable[Answered]]


class Provider(Watched):
    """The server; `async with` it."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.asked: list[Asked] = []
        self.url = ""
        self.port = 0
        self._over = asyncio.Event()
        self._runner: web.ServerRunner

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._hear), shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._runner.cleanup()

    async def _hear(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        raw_query = request.raw_path.partition("?")[2]
        headers = {name.lower(): value for name, value in request.headers.items()}
        query = dict(parse_qsl(raw_query, keep_blank_values=True))
        asked = Asked(request.method, request.path, raw_query, query, headers, body)
        self.asked.append(asked)
        self.stir()
        said = self.script(asked)
        reply = said if isinstance(said, Reply | Silence | HangUp) else await said
        if isinstance(reply, Silence):
            await self._over.wait()
        if isinstance(reply, Silence | HangUp):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        octets = reply.body if isinstance(reply.body, bytes) else msgspec.json.encode(reply.body)
        return web.Response(body=octets, status=reply.status, headers=reply.headers)


class Opened:
    """A channel that is open, with its recorder; `async with` it."""

    def __init__(self, kind: str, settings: Mapping[str, object], *, private: bool = True) -> None:
        self._kind = kind
        self._settings = {**QUICK, **settings}
        self._egress = open_egress(replace(PRIVATE, webhook_private_addresses=private))
        self.recorder = Recorder()
        self.channel: Channel

    async def __aenter__(self) -> Self:
        self.channel = kinds.build(self._kind, self._settings, await self._egress.__aenter__())
        await self.channel.open(self.recorder)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.store()
        await self.channel.close()
        await self._egress.__aexit__(None, None, None)

    def store(self) -> None:
        """Commit all that came: give every slot back, once."""
        recorder = self.recorder
        told: tuple[Answer | Report | Inbound, ...] = (
            *recorder.answers,
            *recorder.reports,
            *recorder.inbound,
        )
        recorder.answers, recorder.reports, recorder.inbound = [], [], []
        self.channel.stored([one.slot for one in told])

    async def send(self, *parcels: Parcel) -> list[Outcome]:
        """Submit and wait for the answers; returns their outcomes in the order of the parcels."""
        await self.recorder.until(lambda: self.channel.room() >= len(parcels))
        self.channel.submit(parcels)
        await self.recorder.until(lambda: len(self.recorder.answers) >= len(parcels))
        outcomes = {answer.parcel.handle: answer.outcome for answer in self.recorder.answers}
        self.store()
        return [outcomes[parcel.handle] for parcel in parcels]


def filed(handle: object = 1, template: str = "login", signature: str = "鸿雁", **fields: Any) -> Parcel:
    """Make a parcel of a template, without an extension."""
    values = fields.pop("values", {"code": "482913"})
    given: dict[str, Any] = {"sender": "", "wording": Wording(template, signature, values), **fields}
    return plain_parcel(handle, **given)
