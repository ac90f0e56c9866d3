"""A small SMPP centre on loopback for the tests of this room: the wire's server role and a script.

Entry points: Centre (the server), Recorder (a Sink), until(). Nothing here sleeps: every wait ends with an
event, or fails after DEADLINE_S.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Self, cast

from hongyan.channels import kinds
from hongyan.channels.channel import Answer, Channel, ChannelState, Inbound, Parcel, Report
from hongyan.channels.smpp import Smpp
from hongyan.vocab.text import Encoding
from hongyan.wire import session as wire
from hongyan.wire import smpp
from hongyan.wire.fields import Pdu

DEADLINE_S = 10.0

Script = Callable[["Talk", smpp.SubmitSm], None]


class Watched:
    """Something whose changes can be awaited."""

    def __init__(self) -> None:
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        self._stirred.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await self._stirred.wait()
                self._stirred.clear()


class Recorder(Watched):
    """A Sink that remembers, and stores only when told."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Answer] = []
        self.reports: list[Report] = []
        self.inbound: list[Inbound] = []
        self.states: list[ChannelState] = []

    def answered(self, answers: Sequence[Answer]) -> None:
        self.answers += answers
        self.stir()

    def reported(self, reports: Sequence[Report]) -> None:
        self.reports += reports
        self.stir()

    def arrived(self, inbound: Sequence[Inbound]) -> None:
        self.inbound += inbound
        self.stir()

    def changed(self, state: ChannelState) -> None:
        self.states.append(state)
        self.stir()

    def handles(self) -> list[Any]:
        return [answer.parcel.handle for answer in self.answers]


def acknowledge(talk: "Talk", submit: smpp.SubmitSm) -> None:
    """The plain script: take everything, ids count up."""
    talk.ack(submit, f"{len(talk.centre.submits):04d}")


class Talk(asyncio.Protocol):
    """One connection, seen from the centre."""

    def __init__(self, centre: "Centre") -> None:
        self.centre = centre
        self.machine = wire.Session(smpp.DIALECT, wire.Role.SERVER, wire.Limits(window_size=10_000), 0.0)
        self.answered: list[Pdu] = []  # responses of the client to what we said
        self.over = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not registered as one
        self.centre.talks.append(self)
        self.centre.stir()

    def data_received(self, data: bytes) -> None:
        if self.centre.deaf:
            return
        for event in self.machine.receive(data, 0.0):
            match event:
                case wire.LoginRequested(pdu=pdu):
                    assert isinstance(pdu, smpp.Bind)
                    self.centre.on_bind(self, pdu)
                case wire.Received(pdu=pdu):
                    self.hear(pdu)
                case wire.Answered(pdu=pdu):
                    self.answered.append(pdu)
                case _:
                    pass
        self.flush()
        self.centre.stir()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.over = True
        self.centre.stir()

    def hear(self, pdu: Pdu) -> None:
        if isinstance(pdu, smpp.SubmitSm):
            self.centre.submits.append(pdu)
            self.centre.script(self, pdu)
        elif isinstance(pdu, smpp.QuerySm):
            self.centre.queries.append(pdu)
            state = smpp.MessageState.DELIVERED
            self.machine.answer(
                smpp.QuerySmResp(pdu.sequence_number, message_id=pdu.message_id, message_state=state), 0.0
            )

    def ack(self, submit: smpp.SubmitSm, message_id: str) -> None:
        self.machine.answer(smpp.SubmitSmResp(submit.sequence_number, message_id=message_id), 0.0)

    def fail(self, submit: smpp.SubmitSm, command_status: int) -> None:
        self.machine.answer(smpp.SubmitSmResp(submit.sequence_number, command_status, bare=True), 0.0)

    def say(self, pdu: Pdu) -> None:
        self.machine.send(pdu, 0.0)
        self.flush()

    def say_raw(self, octets: bytes) -> None:
        self.transport.write(octets)

    def flush(self) -> None:
        self.transport.write(self.machine.take())


class Centre(Watched):
    """The server; `async with` it. script decides about submits, on_bind about logins."""

    def __init__(
        self,
        script: Script = acknowledge,
        *,
        bind_statuses: Sequence[int] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self.script = script
        self.deaf = False  # half-open: what comes is thrown away, nothing is answered
        self.talks: list[Talk] = []
        self.binds: list[smpp.Bind] = []
        self.submits: list[smpp.SubmitSm] = []
        self.queries: list[smpp.QuerySm] = []
        self.port = 0
        self._tls = tls
        self._bind_statuses = list(bind_statuses)
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Talk(self), "127.0.0.1", 0, ssl=self._tls
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

    def on_bind(self, talk: Talk, bind: smpp.Bind) -> None:
        """Answer with the next prepared status, then with OK."""
        self.binds.append(bind)
        status = self._bind_statuses.pop(0) if self._bind_statuses else 0
        response = smpp.RESPONSES[type(bind)]
        if status:
            talk.machine.refuse(response(bind.sequence_number, status))
        else:
            talk.machine.accept(response(bind.sequence_number), 0.0)

    @property
    def talk(self) -> Talk:
        return self.talks[-1]


QUICK = {
    "backoff_s": 0.01,
    "backoff_s_max": 0.05,
    "close_wait_s": 0.2,
    "throttle_pause_s": 0.05,
    "throttle_pause_s_max": 0.2,
}


def build(port: int, **settings: object) -> Smpp:
    """Build a channel to the centre on that port; waits are short."""
    chosen = {
        "hosts": [f"127.0.0.1:{port}"],
        "system_id": "tenant",
        "password": "secret",
        **QUICK,
        **settings,
    }
    channel: Channel = kinds.build("smpp", chosen)
    assert isinstance(channel, Smpp)
    return channel


class Opened:
    """A channel that is up against a centre, with its recorder; `async with` it."""

    def __init__(self, centre: Centre, *, sessions_up: int = 1, **settings: object) -> None:
        self._centre = centre
        self._sessions_up = sessions_up
        self.settings = settings
        self.recorder = Recorder()
        self.channel: Smpp
        self._stored = 0, 0, 0  # how many answers, reports, inbound

    async def __aenter__(self) -> Self:
        self.channel = build(self._centre.port, **self.settings)
        await self.channel.open(self.recorder)
        await self.recorder.until(lambda: self.channel.state().sessions_up >= self._sessions_up)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.store()
        await self.channel.close()

    def store(self) -> None:
        """Commit all that came: give every slot back, once."""
        seen = self.recorder
        answers, reports, inbound = self._stored
        self._stored = len(seen.answers), len(seen.reports), len(seen.inbound)
        told: tuple[Answer | Report | Inbound, ...] = (
            *seen.answers[answers:],
            *seen.reports[reports:],
            *seen.inbound[inbound:],
        )
        self.channel.stored([one.slot for one in told])


def parcel(handle: object = 1, **fields: Any) -> Parcel:
    """Make a parcel with sound defaults."""
    given = {
        "number": "+8613800138000",
        "sender": "10690000",
        "octets": b"hello",
        "encoding": Encoding.GSM7,
        **fields,
    }
    return Parcel(handle, **given)


def parcels(count: int) -> list[Parcel]:
    return [parcel(number) for number in range(1, count + 1)]


def receipt(
    message_id: str, stat: str = "DELIVRD", error: str = "000", *, esm_class: int = 4, **fields: Any
) -> smpp.DeliverSm:
    """Make a receipt as most centres write it."""
    text = (
        f"id:{message_id} sub:001 dlvrd:001 submit date:2611250340 done date:2611250341 "
        f"stat:{stat} err:{error} text:hello"
    )
    return deliver(text.encode(), esm_class=esm_class, **fields)


def deliver(octets: bytes, **fields: Any) -> smpp.DeliverSm:
    """Make a deliver_sm from a handset to the access number."""
    given = {"source_addr_ton": 1, "source_addr_npi": 1, "source_addr": "8613800138000", **fields}
    return smpp.DeliverSm(destination_addr="10690000", short_message=octets, **given)
