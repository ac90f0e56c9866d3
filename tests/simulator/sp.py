"""Clients for the practice operator's Chinese doors: wire.session in the client role over a loopback socket.

Sp is what CMPP, SGIP and SMGP share, its children are the three; Listener is where an SGIP operator dials in.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from hongyan.wire import cmpp, fields, session, sgip, smgp
from hongyan.wire.session import (
    Closed,
    End,
    LoginRequested,
    Received,
    Role,
    Session,
)
from simulator.esme import NUMBER, SENDER
from simulator.hearing import PATIENCE_S, Hearing

P = TypeVar("P", bound=fields.Pdu)

NAME = "900001"
SECRET = "s3cret"
AT = datetime(2025, 11, 24, 9, 30, tzinfo=UTC)
NODE = sgip.sp_node("010", "92008")
STAMPS = iter(range(1124000001, 1124999999))


class Told(NamedTuple):
    """A report: the id it names, and its state in the protocol's words."""

    id: str
    state: str


class Sp(Hearing):
    """Speaks what its child speaks."""

    protocol: ClassVar[str]

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        super().__init__(self.dialect(), reader, writer, answers=answers)
        self.commands: list[int] = []  # the ids of all frames, heartbeats too
        self._framer = fields.Framer(12)

    # the words of a protocol

    def dialect(self) -> session.Dialect:
        raise NotImplementedError

    @classmethod
    def login_pdu(cls) -> fields.Pdu:
        raise NotImplementedError

    def submission(self, numbers: Sequence[str], octets: bytes, form: int, udhi: int) -> fields.Pdu:
        raise NotImplementedError

    def response(self, request: Any, result: int = 0) -> fields.Pdu:
        raise NotImplementedError

    def acks_so_far(self) -> list[Told]:
        """What was said to submits: ids, and results as state."""
        raise NotImplementedError

    def reports_so_far(self) -> list[Told]:
        raise NotImplementedError

    def texts_so_far(self) -> list[Any]:
        raise NotImplementedError

    # common to all

    def came(self, octets: bytes) -> None:
        self.commands += [int.from_bytes(frame[4:8], "big") for frame in self._framer.feed(octets)]

    def agree(self, request: Any) -> None:
        self.answer(request)

    @classmethod
    async def connect(cls, port: int, login: fields.Pdu | None = None, *, answers: bool = True) -> Self:
        """Connect and ask to be let in; entered() waits for the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sp = cls(reader, writer, answers=answers)
        sp.session.login(login or cls.login_pdu(), sp.now_s())
        sp.write()
        return sp

    @classmethod
    async def entered(cls, port: int, login: fields.Pdu | None = None, *, answers: bool = True) -> Self:
        sp = await cls.connect(port, login, answers=answers)
        await sp.until(lambda: bool(sp.heard))
        return sp

    def text(
        self, *numbers: str, octets: bytes = b"hello", form: int = 0, udhi: int = 0, copies: int = 1
    ) -> None:
        """Submit one part and ask for its report."""
        for _ in range(copies):
            self.ask(self.submission(numbers or (self.number(NUMBER),), octets, form, udhi))
        self.write()

    def ask(self, pdu: fields.Pdu) -> None:
        self.session.send(pdu, self.now_s())
        self.write()

    def answer(self, request: Any, result: int = 0) -> None:
        self.session.answer(self.response(request, result), self.now_s())
        self.write()

    def say(self, pdu: fields.Pdu) -> None:
        """Say something past the session, which says and hears heartbeats by itself."""
        self._writer.write(self.session.dialect.encode(pdu, 77))

    @staticmethod
    def number(plain: str) -> str:
        return plain

    async def acks(self, count: int = 1) -> list[Told]:
        await self.until(lambda: len(self.acks_so_far()) >= count)
        return self.acks_so_far()

    async def reports(self, count: int = 1) -> list[Told]:
        await self.until(lambda: len(self.reports_so_far()) >= count)
        return self.reports_so_far()

    async def texts(self, count: int = 1) -> list[Any]:
        await self.until(lambda: len(self.texts_so_far()) >= count)
        return self.texts_so_far()


class Cmpp(Sp):
    protocol = "cmpp"
    version: ClassVar[int] = cmpp.VERSION_3_0

    def dialect(self) -> cmpp.CmppDialect:
        return cmpp.V3 if self.version >= cmpp.VERSION_3_0 else cmpp.V2

    @classmethod
    def login_pdu(cls) -> cmpp.Connect:
        return cmpp.connect(NAME, SECRET, AT, cls.version)

    def submission(self, numbers: Sequence[str], octets: bytes, form: int, udhi: int) -> cmpp.Submit:
        dialect = self.session.dialect
        assert isinstance(dialect, cmpp.CmppDialect)
        return dialect.submit(
            registered_delivery=1,
            tp_udhi=udhi,
            msg_fmt=form,
            src_id=SENDER,
            dest_terminal_id=tuple(numbers),
            msg_content=octets,
        )

    def response(self, request: cmpp.Pdu, result: int = 0) -> fields.Pdu:
        dialect = self.session.dialect
        assert isinstance(dialect, cmpp.CmppDialect)
        response = cmpp.respond(request, dialect, result)
        assert response is not None
        return response

    def acks_so_far(self) -> list[Told]:
        return [Told(str(pdu.msg_id), str(pdu.result)) for pdu in self.of(cmpp.SubmitResp)]

    def reports_so_far(self) -> list[Told]:
        reports = [report for pdu in self.of(cmpp.Deliver) if (report := cmpp.report(pdu))]
        return [Told(str(report.msg_id), report.stat) for report in reports]

    def texts_so_far(self) -> list[cmpp.Deliver]:
        return [pdu for pdu in self.of(cmpp.Deliver) if not pdu.registered_delivery]


class Cmpp2(Cmpp):
    version = cmpp.VERSION_2_0


class Smgp(Sp):
    protocol = "smgp"

    def dialect(self) -> session.Dialect:
        return smgp.DIALECT

    @classmethod
    def login_pdu(cls) -> smgp.Login:
        return smgp.login(NAME, SECRET, AT)

    def submission(self, numbers: Sequence[str], octets: bytes, form: int, udhi: int) -> smgp.Submit:
        return smgp.Submit(
            need_report=1,
            msg_format=form,
            src_term_id=SENDER,
            dest_term_id=tuple(numbers),
            msg_content=octets,
            tlvs=(smgp.TLVS.write("tp_udhi", 1),) if udhi else (),
        )

    def response(self, request: smgp.Pdu, result: int = 0) -> fields.Pdu:
        response = smgp.respond(request, result)
        assert response is not None
        return response

    def acks_so_far(self) -> list[Told]:
        return [Told(pdu.msg_id.hex(), str(pdu.status)) for pdu in self.of(smgp.SubmitResp)]

    def reports_so_far(self) -> list[Told]:
        reports = [report for pdu in self.of(smgp.Deliver) if (report := smgp.report(pdu))]
        return [Told(report.msg_id, report.stat) for report in reports]

    def texts_so_far(self) -> list[smgp.Deliver]:
        return [pdu for pdu in self.of(smgp.Deliver) if not pdu.is_report]


class Sgip(Sp):
    protocol = "sgip"

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        self.stamp = next(STAMPS)
        self.counters: list[int] = []
        super().__init__(reader, writer, answers=answers)

    def dialect(self) -> session.Dialect:
        return sgip.dialect(NODE, self.stamp)

    @classmethod
    def login_pdu(cls) -> sgip.Bind:
        return sgip.Bind(login_name=NAME, login_password=SECRET)

    def submission(self, numbers: Sequence[str], octets: bytes, form: int, udhi: int) -> sgip.Submit:
        return sgip.Submit(
            sp_number=SENDER,
            user_numbers=tuple(numbers),
            report_flag=1,
            tp_udhi=udhi,
            message_coding=form,
            message_content=octets,
        )

    def response(self, request: sgip.Pdu, result: int = 0) -> fields.Pdu:
        response = sgip.respond(request, result)
        assert response is not None
        return response

    def acks_so_far(self) -> list[Told]:
        return [
            Told(sgip.SequenceNumber.of(pdu).hex if pdu.ok else "", str(pdu.result))
            for pdu in self.of(sgip.SubmitResp)
        ]

    def reports_so_far(self) -> list[Told]:
        return told(self.of(sgip.Report))

    def texts_so_far(self) -> list[sgip.Deliver]:
        return self.of(sgip.Deliver)

    @staticmethod
    def number(plain: str) -> str:
        return f"86{plain}"


def told(reports: Sequence[sgip.Report]) -> list[Told]:
    states = {sgip.State.DELIVERED: "DELIVRD", sgip.State.WAITING: "ENROUTE", sgip.State.FAILED: "UNDELIV"}
    receipts = map(sgip.receipt, reports)
    return [Told(receipt.message_id, states[receipt.state]) for receipt in receipts]


class Listener:
    """Where an SGIP operator dials in: lets it in, answers all it says, remembers who came and how it went."""

    def __init__(self, *, port: int = 0, refusals: int = 0, drops: int = 0) -> None:
        """refusals: binds turned away first · drops: connections then broken at their first report."""
        self.heard: list[Any] = []
        self.binds: list[sgip.Bind] = []
        self.unbinds = 0
        self.port = port
        self._refusals = refusals
        self._drops = drops
        self._stirred = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Visit(self), "127.0.0.1", self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self._stirred.wait()
                self._stirred.clear()

    async def reports(self, count: int = 1) -> list[Told]:
        await self.until(lambda: len(self.of(sgip.Report)) >= count)
        return told(self.of(sgip.Report))

    def of(self, kind: type[P]) -> list[P]:
        return [pdu for pdu in self.heard if isinstance(pdu, kind)]

    def met(self, pdu: Any) -> int:
        """Hear a PDU; returns the result to answer it with, or -1 to break the connection instead."""
        self._stirred.set()
        if isinstance(pdu, sgip.Bind):
            self.binds.append(pdu)
            self._refusals -= 1
            return sgip.Result.ILLEGAL_LOGIN if self._refusals >= 0 else sgip.Result.OK
        self._drops -= 1
        if self._drops >= 0:
            return -1
        self.heard.append(pdu)
        return sgip.Result.OK

    def ended(self, end: End) -> None:
        self.unbinds += end is End.PEER_LOGGED_OUT
        self._stirred.set()


class _Visit(asyncio.Protocol):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._session = Session(
            sgip.dialect(NODE, next(STAMPS)), Role.SERVER, replace(sgip.LIMITS), self._loop.time()
        )

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for event in self._session.receive(data, self._loop.time()):
            match event:
                case LoginRequested(pdu=sgip.Bind() as bind):
                    result = self._listener.met(bind)
                    response: Any = sgip.respond(bind, result)
                    if result:
                        self._session.refuse(response)
                    else:
                        self._session.accept(response, self._loop.time())
                case Received(pdu=sgip.Pdu() as pdu):
                    if self._listener.met(pdu) < 0:
                        self._transport.abort()
                        return
                    answer: Any = sgip.respond(pdu)
                    self._session.answer(answer, self._loop.time())
                case Closed(end=end):
                    self._listener.ended(end)
        self._transport.write(self._session.take())
        if self._session.state is session.State.CLOSED:
            self._transport.close()
