"""The practice operator as one thing to start and stop: in tests, in benches, on the command line.

Writes what record.py writes. Entry points: Simulator for use inside a running loop, serve() for a process
of its own. Each door speaks one protocol; behind them are one centre, its handsets and its limits.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from hongyan.simulator.behaviour import Behaviour, BehaviourError, Protocol, Rule, Table, plain_number
from hongyan.simulator.centre import ANY_ACCOUNT, Centre, nobody
from hongyan.simulator.cmpp import CmppLine
from hongyan.simulator.handset import Text
from hongyan.simulator.line import WireLine
from hongyan.simulator.record import Destination, Record, Statistics
from hongyan.simulator.sgip import Smg
from hongyan.simulator.smgp import SmgpLine
from hongyan.simulator.smpp import SmppLine
from hongyan.wire import cmpp, sgip, smgp, smpp

STOP_WAIT_S: Final = 5.0  # for connections to close, once told
BACKLOG: Final = 256
PORTS: Final[Mapping[Protocol, int]] = {
    Protocol.SMPP: smpp.PORT,
    Protocol.CMPP: cmpp.PORT,
    Protocol.SGIP: sgip.PORT,
    Protocol.SMGP: smgp.PORT,
}


class Door(NamedTuple):
    """Where one protocol is spoken; port 0 lets the system choose."""

    protocol: Protocol
    port: int

    @classmethod
    def read(cls, words: str) -> Self:
        """Read "cmpp" or "cmpp:7890"; without a port it is the protocol's own. Raises BehaviourError."""
        name, colon, port = words.partition(":")
        try:
            protocol = Protocol(name)
            return cls(protocol, int(port) if colon else PORTS[protocol])
        except ValueError as error:
            known = ", ".join(Protocol)
            raise BehaviourError(f"{words!r}: say one of {known}, and :port for another port") from error


class Simulator:
    """An operator with its handsets. Build it inside a running loop, start() it, stop() it.

    Between stop() and start() nothing is forgotten: what was owed is delivered to whoever logs in next, as
    after a real operator's outage.
    """

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        rules: Iterable[Rule] = (),
        *,
        protocol: str = Protocol.SMPP,
        seed: int | None = None,
        lines: Path | None = None,
    ) -> None:
        """Build an operator that listens to nobody yet.

        rules: behaviour by number · protocol: what start() means unless told: smpp, cmpp, sgip or smgp · seed:
        None: the system's chance · lines: a file for JSON lines.
        """
        self._protocol = Protocol(protocol)
        self._record = Record(lines)
        self._centre = Centre(Table(behaviour or Behaviour(), rules), self._record, seed)
        self._open: set[WireLine] = set()
        self._smg = Smg(self._centre, self._open, self._spawn)
        self._doors: dict[Protocol, asyncio.Server] = {}
        self._calls = asyncio.TaskGroup()  # connections that the operator opens, while it has an SGIP door
        self._calling: set[asyncio.Task[None]] = set()

    async def start(self, host: str = "127.0.0.1", port: int = 0, protocol: str | None = None) -> int:
        """Open a door, one for each protocol; returns its port, which the system chooses for 0.

        Raises OSError where the port is taken, ValueError for a protocol that is none or has its door.
        """
        spoken = Protocol(protocol) if protocol else self._protocol
        if spoken in self._doors:
            raise ValueError(f"there is a door for {spoken} already")
        door = await asyncio.get_running_loop().create_server(
            self._factory(spoken), host, port, backlog=BACKLOG
        )
        self._doors[spoken] = door
        self._centre.spoken.add(spoken)
        if spoken is Protocol.SGIP:
            # Entered and left by hand, for its life is that of the doors; dialling fails by itself alone.
            self._calls = await asyncio.TaskGroup().__aenter__()
            self._centre.call = self._smg.call
            self._centre.hand_out()
        return int(door.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the doors and break all connections; nobody is logged out, as in an outage."""
        if not self._doors:
            return
        self._centre.call = nobody
        for call in list(self._calling):
            call.cancel()
        for door in self._doors.values():
            door.close()
        for line in list(self._open):
            line.drop()
        async with asyncio.timeout(STOP_WAIT_S):
            for line in list(self._open):
                await line.closed.wait()
            for door in self._doors.values():
                await door.wait_closed()
            if Protocol.SGIP in self._doors:
                await self._calls.__aexit__(None, None, None)
        self._doors.clear()
        self._centre.spoken.clear()
        self._record.flush()

    async def close(self) -> None:
        """Stop for good: forget what is due and close the file."""
        await self.stop()
        self._centre.agenda.close()
        self._record.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """Where the first door is. Raises AssertionError before start()."""
        assert self._doors
        return next(iter(self.ports.values()))

    @property
    def ports(self) -> Mapping[Protocol, int]:
        """Where each protocol is spoken."""
        return {protocol: int(door.sockets[0].getsockname()[1]) for protocol, door in self._doors.items()}

    def behave(self, behaviour: Behaviour, rules: Iterable[Rule] = ()) -> None:
        """Behave otherwise from now on: submits at once, sessions from the next on."""
        self._centre.behave(Table(behaviour, rules))

    def disconnect(self) -> None:
        """Break every connection now."""
        for line in list(self._open):
            line.abort()

    def logout(self) -> None:
        """Log every session out in its protocol's own words, as before maintenance; clients may come again."""
        for line in list(self._open):
            line.logout()
        self._centre.flush()

    def statistics(self) -> Statistics:
        """Count everything since the start; also writes out the JSON lines so far."""
        return self._centre.statistics(sum(line.logged_in for line in self._open))

    def destination(self, number: str) -> Destination:
        """Return what came to one number."""
        return self._record.destination(plain_number(number))

    def destinations(self) -> Mapping[str, Destination]:
        """Return the living table of all numbers, mainland mobiles without 86."""
        return self._record.destinations()

    def phone(self, number: str) -> list[Text]:
        """Return the last texts a handset has received, oldest first, long ones joined."""
        return self._centre.handsets.shown(plain_number(number))

    def reply(self, number: str, text: str, to: str, account: str = ANY_ACCOUNT) -> None:
        """Let a handset send a text to an access number; it waits until a session takes it.

        account: whose session; SMPP's by its system_id, the others' as cmpp:900001, sgip:…, smgp:… .
        Raises vocab.text.TooManyParts.
        """
        self._centre.owe_text(number, to, text, account)
        self._centre.flush()

    def _factory(self, protocol: Protocol) -> Callable[[], WireLine]:
        match protocol:
            case Protocol.SMPP:
                return lambda: SmppLine(self._centre, self._open)
            case Protocol.CMPP:
                return lambda: CmppLine(self._centre, self._open)
            case Protocol.SMGP:
                return lambda: SmgpLine(self._centre, self._open)
            case Protocol.SGIP:
                return self._smg.answer

    def _spawn(self, call: Coroutine[Any, Any, None]) -> None:
        task = self._calls.create_task(call)
        self._calling.add(task)
        task.add_done_callback(self._calling.discard)


async def serve(
    behaviour: Behaviour | None = None,
    rules: Iterable[Rule] = (),
    *,
    host: str = "127.0.0.1",
    port: int = smpp.PORT,
    doors: Sequence[Door] = (),
    seed: int | None = None,
    lines: Path | None = None,
    every_s: float = 1.0,
    tell: Callable[[Statistics], None] = lambda _: None,
    opened: Callable[[Door], None] = lambda _: None,
) -> None:
    """Run until cancelled; every_s seconds, tell() hears the statistics, which also writes out the file.

    doors: what is spoken where; none: SMPP at port · opened: hears of each, with the port it has got. Raises
    OSError where a port is taken.
    """
    simulator = Simulator(behaviour, rules, seed=seed, lines=lines)
    try:
        for protocol, wanted in doors or (Door(Protocol.SMPP, port),):
            opened(Door(protocol, await simulator.start(host, wanted, protocol)))
        while True:
            await asyncio.sleep(every_s)
            tell(simulator.statistics())
    finally:
        await simulator.close()
