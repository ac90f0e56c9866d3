"""A live look at a channel's sessions from another process: a person asks, the gateways that hold them tell.

Writes nothing. Entry points: look(), for who asks; Watcher, one a gateway. Both ways go by NOTIFY: a question on TOPIC
names the channel, for how long, and a topic of its own to tell on. What is told is masked already (channels.trace). It is
for people's eyes: when more passes than a NOTIFY can carry, the rest is counted and left out.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final, cast

import msgspec
import structlog

from hongyan import db
from hongyan.channels.channel import Channel
from hongyan.channels.trace import Traceable, Traced
from hongyan.vocab.message import ChannelId

log = structlog.get_logger()

TOPIC: Final = "watch"
GAP_S: Final = 0.25
SECONDS_MAX: Final = 3_600.0
KEPT_MAX: Final = 500  # PDUs of a channel between two tellings
TOLD_MAX: Final = 60  # and of them told: more than a person reads
LISTEN_WAIT_S: Final = 10.0
PAYLOAD_OCTETS_MAX: Final = 7_800  # NOTIFY takes less than 8,000
WATCHED_MAX: Final = 16  # at once, in one gateway


class Asked(msgspec.Struct, frozen=True):
    """The question, as it travels."""

    channel_id: int
    seconds: float
    reply: str


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One PDU as it travels back. `left_out`: so many before it were too many to tell."""

    at_s: float
    gateway: int
    session: int
    sent: bool
    octets: int
    text: str
    left_out: int = 0


class Watcher:
    """Answers such questions for the channels of one gateway."""

    def __init__(
        self, database: db.Database, gateway: int, channel_of: Callable[[ChannelId], Channel | None]
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._channel_of = channel_of
        self._asked: list[Asked] = []
        self._wake = asyncio.Event()
        self._watched: dict[ChannelId, int] = {}  # by how many people

    def hear(self, payload: str) -> None:
        """Note a question; called with what NOTIFY brought."""
        try:
            asked = msgspec.json.decode(payload, type=Asked)
        except msgspec.DecodeError:
            return  # also the empty word that a new listener begins with
        if len(self._asked) + sum(self._watched.values()) < WATCHED_MAX:
            self._asked.append(asked)
            self._wake.set()

    async def run(self) -> None:
        """Tell what is asked for, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._asked:
                    tasks.create_task(self._tell(self._asked.pop()))

    async def _tell(self, asked: Asked) -> None:
        channel_id = ChannelId(asked.channel_id)
        channel = self._channel_of(channel_id)
        if channel is None or not hasattr(channel, "tracing"):
            return
        traced = cast("Traceable", channel)
        self._watched[channel_id] = self._watched.get(channel_id, 0) + 1
        traced.tracing(KEPT_MAX)
        try:
            await self._follow(traced, asked)
        except db.Unavailable as error:
            log.warning("watch.database_lost", error=type(error).__name__)
        finally:
            self._watched[channel_id] -= 1
            if not self._watched[channel_id]:
                del self._watched[channel_id]
                traced.tracing(0)

    async def _follow(self, traced: Traceable, asked: Asked) -> None:
        until_s = time.monotonic() + min(asked.seconds, SECONDS_MAX)
        kept = traced.trace()  # some channels always keep a few, to show what led up to now
        last = kept[0].number - 1 if kept else 0
        while time.monotonic() < until_s:
            seen = traced.trace(last)
            if seen:
                for payload in _payloads(seen, last, self._gateway):
                    await self._database.notify(asked.reply, payload)
                last = seen[-1].number
            await asyncio.sleep(GAP_S)


def _payloads(seen: Sequence[Traced], last: int, gateway: int) -> Sequence[str]:
    """Pack the newest lines into as few NOTIFYs as carry them."""
    payloads: list[str] = []
    lines: list[Line] = []
    octets = 0
    for one in seen[-TOLD_MAX:]:
        line = Line(one.at_s, gateway, one.session, one.sent, one.octets, one.text, one.number - last - 1)
        last = one.number
        size = len(msgspec.json.encode(line)) + 1
        if lines and octets + size > PAYLOAD_OCTETS_MAX:
            payloads.append(msgspec.json.encode(lines).decode())
            lines, octets = [], 0
        lines.append(line)
        octets += size
    payloads.append(msgspec.json.encode(lines).decode())
    return payloads


async def look(
    database: db.Database, channel_id: ChannelId, seconds: float, show: Callable[[Line], None]
) -> None:
    """Ask every gateway for a channel's PDUs and show them as they pass, for so many seconds."""
    reply = f"watch_{secrets.token_hex(8)}"
    listens = asyncio.Event()

    def hear(payload: str) -> None:
        listens.set()  # a listener begins with an empty word
        for line in msgspec.json.decode(payload, type=list[Line]) if payload else ():
            show(line)

    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(db.Listener(database, {reply: hear}).run())
        async with asyncio.timeout(LISTEN_WAIT_S):
            await listens.wait()
        await database.notify(TOPIC, msgspec.json.encode(Asked(channel_id, seconds, reply)).decode())
        await asyncio.sleep(seconds)
        listening.cancel()
