"""A gateway on loopback for kinds whose PDUs are asked and answered alike: the wire's own roles, and a script.

Entry points: Peer (a server; `async with` it), Peer.call() (it connects to us, as SMGs do), Opened (a channel
that is up against it), free_port(). Nothing here sleeps: every wait ends with an event.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Self, cast

from hongyan.channels import kinds
from hongyan.channels.channel import Answer, Channel, Inbound, Report
from hongyan.wire import session as wire
from hongyan.wire.fields import Pdu

from .centre import DEADLINE_S, QUICK, Recorder, Watched

Script = Callable[["Talk", Any], None]  # what is done with a request
Admit = Callable[[Any], tuple[Pdu | None, bool]]  # a login → the response, and whether it is let in


class Talk(asyncio.Protocol):
    """One connection, seen from the peer; with a login it is the peer that called."""

    def __init__(self, peer: "Peer", dialect: wire.Dialect, login: Pdu | None = None) -> None:
        role = wire.Role.SERVER if login is None else wire.Role.CLIENT
        self.machine = wire.Session(dialect, role, wire.Limits(window_size=10_000), 0.0)
        self.answered: list[Pdu] = []  # responses to what we said
        self.end: wire.End | None = None
        self.over = False
        self.transport: asyncio.Transport
        self._peer = peer
        self._login = login

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not registered as one
        self._peer.talks.append(self)
        if self._login is not None:
            self.machine.login(self._login, 0.0)
            self.flush()
        self._peer.stir()

    def data_received(self, data: bytes) -> None:
        if self._peer.deaf:
            return
        events = self.machine.receive(data, 0.0)
        while events:
            for event in events:
                self._meet(event)
            events = self.machine.tick(0.0) if self.ready else []  # what came behind the login
        self.flush()
        self._peer.stir()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.over = True
        self._peer.stir()

    @property
    def ready(self) -> bool:
        return self.machine.state is wire.State.READY

    def _meet(self, event: wire.Event) -> None:
        match event:
            case wire.LoginRequested(pdu=pdu):
                self._peer.logins.append(pdu)
                response, welcome = self._peer.admit(pdu)
                assert response is not None
                if welcome:
                    self.machine.accept(response, 0.0)
                else:
                    self.machine.refuse(response)
            case wire.Received(pdu=pdu):
                self._peer.requests.append(pdu)
                self._peer.script(self, pdu)
            case wire.Answered(pdu=pdu):
                self.answered.append(pdu)
            case wire.Closed(end=end):
                self.end = end
            case _:
                pass

    def answer(self, pdu: Pdu | None) -> None:
        assert pdu is not None
        self.machine.answer(pdu, 0.0)
        self.flush()

    def say(self, pdu: Pdu) -> None:
        self.machine.send(pdu, 0.0)
        self.flush()

    def say_raw(self, octets: bytes) -> None:
        self.transport.write(octets)

    def flush(self) -> None:
        self.transport.write(self.machine.take())


class Peer(Watched):
    """A gateway; `async with` it."""

    def __init__(self, dialect: wire.Dialect, admit: Admit, script: Script) -> None:
        super().__init__()
        self.dialect = dialect
        self.admit = admit
        self.script = script
        self.deaf = False  # what comes is thrown away, nothing is answered
        self.logins: list[Any] = []
        self.requests: list[Any] = []
        self.talks: list[Talk] = []
        self.port = 0
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Talk(self, self.dialect), "127.0.0.1", 0
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def close(self) -> None:
        """Listen no more; what is connected stays."""
        self._server.close()

    async def __aexit__(self, *_: object) -> None:
        self.close()
        for talk in self.talks:
            talk.transport.abort()
        await self.until(lambda: all(talk.over for talk in self.talks))

    async def call(self, port: int, login: Pdu) -> Talk:
        """Connect to who listens there, and log in; returns once that is answered."""
        talk = Talk(self, self.dialect, login)
        await reach(lambda: talk, port)
        await self.until(lambda: talk.ready or talk.end is not None or talk.over)
        return talk

    @property
    def talk(self) -> Talk:
        return self.talks[-1]


def build(kind: str, port: int, **settings: object) -> Channel:
    """Build a channel to the peer on that port; waits are short."""
    return kinds.build(kind, {"hosts": [f"127.0.0.1:{port}"], **QUICK, **settings})


class Opened:
    """A channel that is up against a peer, with its recorder; `async with` it."""

    def __init__(self, kind: str, peer: Peer, **settings: object) -> None:
        self.channel = build(kind, peer.port, **settings)
        self.recorder = Recorder()
        self._seen = 0, 0, 0  # how many answers, reports, inbound are stored

    async def __aenter__(self) -> Self:
        await self.channel.open(self.recorder)
        await self.recorder.until(lambda: self.channel.state().sessions_up > 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.store()
        await self.channel.close()

    def store(self) -> None:
        """Commit all that came: give every slot back, once."""
        seen = self.recorder
        answers, reports, inbound = self._seen
        self._seen = len(seen.answers), len(seen.reports), len(seen.inbound)
        told: tuple[Answer | Report | Inbound, ...] = (
            *seen.answers[answers:],
            *seen.reports[reports:],
            *seen.inbound[inbound:],
        )
        self.channel.stored([one.slot for one in told])

    async def answers(self, count: int) -> list[Answer]:
        await self.recorder.until(lambda: len(self.recorder.answers) >= count)
        return self.recorder.answers

    async def reports(self, count: int) -> list[Report]:
        await self.recorder.until(lambda: len(self.recorder.reports) >= count)
        return self.recorder.reports

    async def inbound(self, count: int) -> list[Inbound]:
        await self.recorder.until(lambda: len(self.recorder.inbound) >= count)
        return self.recorder.inbound


async def reach(protocol: Callable[[], asyncio.Protocol], port: int) -> asyncio.Transport:
    """Connect to who will listen there any moment."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                transport, _ = await asyncio.get_running_loop().create_connection(protocol, "127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0)
            else:
                return transport
