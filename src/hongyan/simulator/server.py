"""The practice operator as one thing to start and stop: in tests, in benches, on the command line.

Writes what record.py writes. Entry points: Simulator for use inside a running loop, serve() for a process
of its own. Another protocol is another line beside SmppLine over the same Centre.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Self

from hongyan.simulator.behaviour import Behaviour, Rule, Table, plain_number
from hongyan.simulator.centre import ANY_ACCOUNT, Centre
from hongyan.simulator.handset import Text
from hongyan.simulator.record import Destination, Record, Statistics
from hongyan.simulator.smpp import SmppLine

STOP_WAIT_S: Final = 5.0  # for connections to close, once told
BACKLOG: Final = 256


class Simulator:
    """An operator with its handsets. Build it inside a running loop, start() it, stop() it.

    Between stop() and start() nothing is forgotten: what was owed is delivered to whoever binds next, as
    after a real operator's outage.
    """

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        rules: Iterable[Rule] = (),
        *,
        seed: int | None = None,
        lines: Path | None = None,
    ) -> None:
        """rules: behaviour by number · seed: None: the system's chance · lines: a file for JSON lines."""
        self._record = Record(lines)
        self._centre = Centre(Table(behaviour or Behaviour(), rules), self._record, seed)
        self._open: set[SmppLine] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; returns the port, which the system chooses for 0. Raises OSError where it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SmppLine(self._centre, self._open), host, port, backlog=BACKLOG
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the door and break all connections; nothing is unbound, as in an outage."""
        if self._server is None:
            return
        self._server.close()
        for line in list(self._open):
            line.drop()
        async with asyncio.timeout(STOP_WAIT_S):
            for line in list(self._open):
                await line.closed.wait()
            await self._server.wait_closed()
        self._server = None
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
        """Where it listens. Raises AssertionError before start()."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def behave(self, behaviour: Behaviour, rules: Iterable[Rule] = ()) -> None:
        """Behave otherwise from now on: submits at once, sessions from the next on."""
        self._centre.behave(Table(behaviour, rules))

    def disconnect(self) -> None:
        """Break every connection now."""
        for line in list(self._open):
            line.abort()

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

        Raises vocab.text.TooManyParts.
        """
        self._centre.owe_text(number, to, text, account)
        self._centre.flush()


async def serve(
    behaviour: Behaviour | None = None,
    rules: Iterable[Rule] = (),
    *,
    host: str = "127.0.0.1",
    port: int = 2775,
    seed: int | None = None,
    lines: Path | None = None,
    every_s: float = 1.0,
    tell: Callable[[Statistics], None] = lambda _: None,
) -> None:
    """Run until cancelled; every_s seconds, tell() hears the statistics, which also writes out the file."""
    simulator = Simulator(behaviour, rules, seed=seed, lines=lines)
    try:
        await simulator.start(host, port)
        while True:
            await asyncio.sleep(every_s)
            tell(simulator.statistics())
    finally:
        await simulator.close()
