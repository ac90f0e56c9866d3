"""An SMPP client for the practice operator."""

import asyncio
from typing import Self

from hongyan.wire import smpp
from simulator.hearing import Hearing

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


class Esme(Hearing):
    """Speaks SMPP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        super().__init__(smpp.DIALECT, reader, writer, answers=answers)
        self.heard_heartbeats = 0  # enquire_link_resp
        self.asked_heartbeats = 0  # their enquire_link

    def came(self, octets: bytes) -> None:
        self.heard_heartbeats += octets.count(HEARTBEAT_RESPONSE)
        self.asked_heartbeats += octets.count(HEARTBEAT)

    def agree(self, request: smpp.Pdu) -> None:
        if isinstance(request, smpp.DeliverSm):
            self.answer(request)

    @classmethod
    async def connect(cls, port: int, bind: smpp.Bind | None = None, *, answers: bool = True) -> Self:
        """Connect and ask to be let in; bound() waits for the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        esme = cls(reader, writer, answers=answers)
        esme.session.login(bind or smpp.BindTransceiver(system_id="test"), esme.now_s())
        esme.write()
        return esme

    @classmethod
    async def bound(cls, port: int, bind: smpp.Bind | None = None, *, answers: bool = True) -> Self:
        esme = await cls.connect(port, bind, answers=answers)
        await esme.until(lambda: bool(esme.of(smpp.BindResp)))
        return esme

    def submit(self, *pdus: smpp.Pdu) -> None:
        for pdu in pdus:
            self.session.send(pdu, self.now_s())
        self.write()

    def text(self, number: str = NUMBER, octets: bytes = b"hello", esm_class: int = 0) -> None:
        """Submit one part and ask for its report."""
        self.submit(submission(number, octets, esm_class))

    def answer(self, deliver: smpp.DeliverSm, status: int = 0) -> None:
        self.session.answer(smpp.DeliverSmResp(deliver.sequence_number, status), self.now_s())
        self.write()

    def say(self, octets: bytes) -> None:
        self._writer.write(octets)

    async def acks(self, count: int = 1) -> list[smpp.SubmitSmResp]:
        await self.until(lambda: len(self.of(smpp.SubmitSmResp)) >= count)
        return self.of(smpp.SubmitSmResp)

    async def delivers(self, count: int = 1) -> list[smpp.DeliverSm]:
        await self.until(lambda: len(self.of(smpp.DeliverSm)) >= count)
        return self.of(smpp.DeliverSm)

    async def receipts(self, count: int = 1) -> list[smpp.Receipt]:
        await self.until(lambda: len(self._receipts()) >= count)
        return self._receipts()

    def _receipts(self) -> list[smpp.Receipt]:
        return [receipt for pdu in self.of(smpp.DeliverSm) if (receipt := smpp.receipt(pdu))]
