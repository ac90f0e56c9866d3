"""A managing process of its own, for tests that stop or freeze one: `python managing.py DSN STATE_FOLDER`, or managing().

It says one line when it answers, and goes on until it is killed.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import make
from doors.counter import served
from hongyan import db
from hongyan.doors.forward import socket_of
from hongyan.vault import Vault

WAIT_S: Final = 30.0
PLACES: Final = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]


@dataclass(frozen=True, slots=True)
class _Opened:
    database: db.Database
    vault: Vault


@dataclass(frozen=True, slots=True)
class Managing:
    """One that runs."""

    pid: int

    def freeze(self) -> None:
        """Stop it as a debugger would, or a machine that swaps: alive, and deaf."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def managing(dsn: str, state: Path) -> AsyncIterator[Managing]:
    """Start one, and kill it afterwards."""
    places = os.pathsep.join(PLACES)
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, dsn, str(state), env=os.environ | {"PYTHONPATH": places},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"manages\n"
        yield Managing(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _manage(dsn: str, state: Path) -> None:
    settings = replace(make.SETTINGS, state_dir=state)
    database = await db.connect(dsn, make.SETTINGS)
    async with database.transaction() as tx:
        opened = _Opened(database, await make.open_vault(tx))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(socket_of(settings)))
        sock.listen()
        sock.setblocking(False)
        async with served(opened, settings=settings, sock=sock):
            sys.stdout.write("manages\n")
            sys.stdout.flush()
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_manage(sys.argv[1], Path(sys.argv[2])))
