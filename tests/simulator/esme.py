"""A client for the practice operator: wire.session in the client role over a loopback socket."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeVar

from hongyan.wire import smpp
from hongyan.wire.session import (
    Answered,
    Closed,
    Event,
    Limits,
    LoggedIn,
    LoginRefused,
    Received,
    Role,
    Session,
    Stray,
)

T = TypeVar("T", bound=smpp.Pdu)

PATIENCE_S = 20.0  # a test that waits longer has failed
# The machine answers and swallows heartbeats; these are their heads as they stand on the wire.
HEARTBEAT = bytes.fromhex("00000010 00000015 00000000")
HEARTBEAT_RESPONSE = bytes.fromhex("00000010 80000015 00000000")
NUMBER = "13812345678"
SENDER = "1069000"


def submission(number: str = NUMBER, octets: bytes = b"hello", esm_class: int = 0) -> smpp.SubmitSm:
    return smpp.SubmitSm(
        source_addr=SENDER,
        destination_addr=number,
        short_message=octets,
        registered_delivery=1,
        esm_class=esm_class,
    )


class Esme:
    """Speaks when told to, hears until a condition holds; `heard` is everything in the order it came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        self.heard: list[smpp.Pdu] = []
        self.closed = False
        self.heard_heartbeats = 0  # enquire_link_resp
        self.asked_heartbeats = 0  # their enquire_link
        self.answers = answers  # 0 to every deliver_sm; otherwise the test answers
        self._reader = reader
        self._writer = writer
        self._session = Session(smpp.DIALECT, Role.CLIENT, Limits(window_size=1000), self._now_s())

    @classmethod
    async def connect(cls, port: int, bind: smpp.Bind | None = None, *, answers: bool = True) -> Self:
        """Connect and ask to be let in; bound() waits for the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        esme = cls(reader, writer, answers=answers)
        esme._session.login(bind or smpp.BindTransceiver(system_id="test"), esme._now_s())
        esme._write()
        return esme

    @classmethod
    async def bound(cls, port: int, bind: smpp.Bind | None = None, *, answers: bool = True) -> Self:
        esme = await cls.connect(port, bind, answers=answers)
        await esme.until(lambda: bool(esme.of(smpp.BindResp)))
        return esme

    def submit(self, *pdus: smpp.Pdu) -> None:
        for pdu in pdus:
            self._session.send(pdu, self._now_s())
        self._write()

    def text(self, number: str = NUMBER, octets: bytes = b"hello", esm_class: int = 0) -> None:
        """Submit one part and ask for its report."""
        self.submit(submission(number, octets, esm_class))

    def answer(self, deliver: smpp.DeliverSm, status: int = 0) -> None:
        self._session.answer(smpp.DeliverSmResp(deliver.sequence_number, status), self._now_s())
        self._write()

    def say(self, octets: bytes) -> None:
        self._writer.write(octets)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Listen until the condition holds; raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition() and not self.closed:
                octets = await self._read()
                self.closed = not octets
                self.heard_heartbeats += octets.count(HEARTBEAT_RESPONSE)
                self.asked_heartbeats += octets.count(HEARTBEAT)
                for event in self._session.receive(octets, self._now_s()):
                    self._meet(event)
                self._write()
        assert condition(), self.heard

    async def acks(self, count: int = 1) -> list[smpp.SubmitSmResp]:
        await self.until(lambda: len(self.of(smpp.SubmitSmResp)) >= count)
        return self.of(smpp.SubmitSmResp)

    async def delivers(self, count: int = 1) -> list[smpp.DeliverSm]:
        await self.until(lambda: len(self.of(smpp.DeliverSm)) >= count)
        return self.of(smpp.DeliverSm)

    async def receipts(self, count: int = 1) -> list[smpp.Receipt]:
        await self.until(lambda: len(self._receipts()) >= count)
        return self._receipts()

    async def end(self) -> None:
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

    def of(self, kind: type[T]) -> list[T]:
        return [pdu for pdu in self.heard if isinstance(pdu, kind)]

    def _receipts(self) -> list[smpp.Receipt]:
        return [receipt for pdu in self.of(smpp.DeliverSm) if (receipt := smpp.receipt(pdu))]

    def _meet(self, event: Event) -> None:
        match event:
            case LoggedIn(pdu=smpp.Pdu() as pdu) | LoginRefused(pdu=smpp.Pdu() as pdu):
                self.heard.append(pdu)
            case Answered(pdu=smpp.Pdu() as pdu):
                self._session.release()
                self.heard.append(pdu)
            case Stray(pdu=smpp.Pdu() as pdu):
                self.heard.append(pdu)
            case Received(pdu=smpp.Pdu() as pdu):
                self.heard.append(pdu)
                if self.answers and isinstance(pdu, smpp.DeliverSm):
                    self._session.answer(smpp.DeliverSmResp(pdu.sequence_number), self._now_s())
            case Closed():
                self.closed = True
            case _:
                raise AssertionError(event)

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(65_536)
        except ConnectionError:
            return b""

    def _write(self) -> None:
        octets = self._session.take()
        if octets and not self.closed:
            self._writer.write(octets)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()
