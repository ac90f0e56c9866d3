"""A foreign program that does as it is told and tells what it met: one JSON object a line, both ways.

Entry points: speaking() for one as a process, Speaker. The programs are in speakers/, one a peer; each ends when
its standard input does, so none outlives us. Nothing here sleeps: every wait ends with an event, or fails after
DEADLINE_S with what the program wrote to its standard error.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

DEADLINE_S: Final = 60.0  # a virtual machine starts while two cores do something else
JAVA: Final = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp")  # starts soonest


class Speaker:
    """A running program, with all it has told so far."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.told: list[dict[str, Any]] = []
        self._process = process
        self._log = log

    def say(self, do: str, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **order}).encode() + b"\n")

    async def hears(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until it has told of so many such events; returns all of them."""
        await self.until(lambda: len(self.of(event)) >= count, f"{count} {event}")
        return self.of(event)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.told if one["event"] == event]

    async def until(self, condition: Callable[[], bool], wanted: str) -> None:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    line = await self._process.stdout.readline()
                    assert line, self._failure(wanted)
                    self.told.append(json.loads(line))
        except TimeoutError:
            raise AssertionError(self._failure(wanted)) from None

    def _failure(self, wanted: str) -> str:
        return (
            f"wanted {wanted}, heard {self.told}; it wrote:\n{self._log.read_text(errors='replace')[-4000:]}"
        )


@asynccontextmanager
async def speaking(
    folder: Path, *command: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Speaker]:
    """Run a program until the end of the block; its standard error goes to a file in this folder."""
    log = folder / "speaker.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env={**os.environ, **(environment or {})},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors, limit=2**20,
        )  # fmt: skip
    try:
        yield Speaker(process, log)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
