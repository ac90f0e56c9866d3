"""What all clients of the practice operator share: wire.session in the client role over a loopback socket.

Esme speaks SMPP by it (esme.py), Sp the Chinese protocols (sp.py).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, TypeVar

from hongyan.wire import fields
from hongyan.wire.session import (
    Answered,
    Closed,
    Dialect,
    End,
    Event,
    Limits,
    LoggedIn,
    LoginRefused,
    Received,
    Role,
    Session,
    Stray,
)

PATIENCE_S = 20.0  # a test that waits longer has failed
P = TypeVar("P", bound=fields.Pdu)


class Hearing:
    """Speaks when told to, hears until a condition holds; `heard` is everything in the order it came."""

    def __init__(
        self, dialect: Dialect, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        self.heard: list[Any] = []
        self.end: End | None = None
        self.closed = False
        self.answers = answers  # to what is asked, that all is well; otherwise the test answers
        self.session = Session(dialect, Role.CLIENT, Limits(window_size=1000), self.now_s())
        self._reader = reader
        self._writer = writer

    # the words of a protocol

    def came(self, octets: bytes) -> None:
        """Look at octets as they come: the session hears and says heartbeats by itself."""
        raise NotImplementedError

    def agree(self, request: Any) -> None:
        """Answer a request that all is well."""
        raise NotImplementedError

    # common to all

    async def until(self, condition: Callable[[], bool]) -> None:
        """Listen until the condition holds; raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition() and not self.closed:
                octets = await self._read()
                self.closed = self.closed or not octets
                self.came(octets)
                for event in self.session.receive(octets, self.now_s()):
                    self._meet(event)
                self.write()
        assert condition(), self.heard

    async def ended(self) -> None:
        """Listen until the operator closes the connection."""
        await self.until(lambda: self.closed)

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):  # the operator may have reset it
            await self._writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def of(self, kind: type[P]) -> list[P]:
        return [pdu for pdu in self.heard if isinstance(pdu, kind)]

    def write(self) -> None:
        octets = self.session.take()
        if octets and not self._writer.is_closing():
            self._writer.write(octets)

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def _meet(self, event: Event) -> None:
        match event:
            case LoggedIn(pdu=pdu) | LoginRefused(pdu=pdu) | Stray(pdu=pdu):
                self.heard.append(pdu)
            case Answered(pdu=pdu):
                self.session.release()
                self.heard.append(pdu)
            case Received(pdu=pdu):
                self.heard.append(pdu)
                if self.answers:
                    self.agree(pdu)
            case Closed(end=end):
                self.end, self.closed = end, True
            case _:
                raise AssertionError(event)

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(65_536)
        except ConnectionError:
            return b""
