"""From door to gateway: rows just committed, so that nobody has to look for them in the database.

Within one process a function call; between two a Unix socket carrying length-prefixed msgpack. Losing a
frame loses nothing: rows are born owned by the gateway, which sweeps up what nobody handed over.
The gateway tells how many messages it holds, so that doors leave rows in the database before memory fills.
Entry points: Link (door), listen() (gateway).
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import structlog

log = structlog.get_logger()

FRAME_OCTETS_MAX = 16_000_000
RECONNECT_S = 0.2
WAITING_TOLD_S = 0.05


class Handed(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """All a gateway needs to route and send one message, so that it need not read the row."""

    id: bytes
    tenant_id: int
    lane: int
    number: str
    text: str
    extension: str
    part_count: int
    country: str
    operator: str
    expires_at_s: float
    price_micro: int
    resend: bool
    sandbox: bool
    owner: int  # the gateway the row was born to
    attempt: int = 1
    avoid_channel: int = 0
    parts_gone: tuple[int, ...] = ()  # part indexes that an earlier life has sent already
    template_id: int = 0
    signature_id: int = 0
    params: dict[str, str | int] | None = None  # only where a channel is there that takes templates
    province: str = ""
    given: int = 0  # the channel that another gateway gave it to us for; it is not given away once more


_encode = msgspec.msgpack.encode
_decode_handed = msgspec.msgpack.Decoder(list[Handed]).decode
_decode_waiting = msgspec.msgpack.Decoder(list[int]).decode


class _Frames(asyncio.Protocol):
    """Length-prefixed frames over a stream. A frame too long closes the connection."""

    def __init__(self, hear: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._hear = hear
        self._lost = lost
        self._buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not registered as one

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= 4:
            end = start + 4 + int.from_bytes(buffer[start : start + 4])
            if end - start > FRAME_OCTETS_MAX:
                assert self.transport is not None
                self.transport.abort()
                return
            if len(buffer) < end:
                break
            self._hear(bytes(buffer[start + 4 : end]))
            start = end
        del buffer[:start]

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost()

    def say(self, octets: bytes) -> None:
        assert self.transport is not None
        if not self.transport.is_closing():
            self.transport.write(len(octets).to_bytes(4) + octets)


class Link:
    """The door's end: one connection to one gateway, kept up by run()."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames: _Frames | None = None
        self._waiting: Sequence[int] = (0, 0, 0)
        self._sent = [0, 0, 0]  # since the gateway last told

    @property
    def up(self) -> bool:
        return self._frames is not None

    def waiting(self, lane: int) -> int:
        """Return how many messages of a lane the gateway holds, as far as we know."""
        return self._waiting[lane] + self._sent[lane]

    def hand(self, rows: Sequence[Handed]) -> None:
        """Hand over committed rows; where the link is down the gateway's sweep finds them."""
        if self._frames is None:
            return
        for row in rows:
            self._sent[row.lane] += 1
        self._frames.say(_encode(rows))

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            lost = asyncio.Event()
            try:
                _, frames = await loop.create_unix_connection(
                    partial(_Frames, self._told, lost.set), str(self._path)
                )
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            self._frames = frames
            try:
                await lost.wait()
            finally:
                self._frames = None
                if frames.transport is not None:
                    frames.transport.abort()

    def _told(self, octets: bytes) -> None:
        self._waiting = _decode_waiting(octets)
        self._sent = [0, 0, 0]


async def listen(
    path: Path, take: Callable[[Sequence[Handed]], None], waiting: Callable[[], Sequence[int]]
) -> None:
    """Serve doors on a Unix socket until cancelled: `take` gets what they hand over, `waiting` tells per lane."""
    doors: set[_Frames] = set()
    called = asyncio.Event()

    def door() -> _Frames:
        frames = _Frames(lambda octets: take(_decode_handed(octets)), lambda: doors.discard(frames))
        doors.add(frames)
        called.set()
        return frames

    path.unlink(missing_ok=True)  # noqa: ASYNC240 - one local call
    server = await asyncio.get_running_loop().create_unix_server(door, str(path))
    path.chmod(0o600)  # noqa: ASYNC240
    try:
        while True:
            if not doors:
                called.clear()
                await called.wait()
            await asyncio.sleep(WAITING_TOLD_S)
            told = _encode(
                list(waiting())
            )  # said even if nothing changed: the door adds up what it has handed
            for frames in list(doors):
                if frames.transport is not None:
                    frames.say(told)
    finally:
        server.close()
        for frames in list(doors):
            if frames.transport is not None:
                frames.transport.abort()
        path.unlink(missing_ok=True)  # noqa: ASYNC240
