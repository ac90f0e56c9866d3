"""The command that runs a practice operator alone, for trying a gateway's worst days."""

import asyncio
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hongyan.simulator.record import Statistics
    from hongyan.simulator.server import Door


def simulate(
    behaviour: Annotated[
        list[str] | None,
        typer.Argument(help="key=value, as ack_delay_s=0.1..2 late_share=0.05; see --options."),
    ] = None,
    number: Annotated[
        list[str] | None,
        typer.Option(help="Differently for numbers: '1381234*: state=UNDELIV err=MK:0001'; again for more."),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="smpp, cmpp, sgip or smgp, with :port for another than its own; again for more."),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Of the only or the first protocol; 0 lets the system choose.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same chance again.")] = None,
    lines: Annotated[
        Path | None, typer.Option(help="Write an event a line there, numbers in the clear.")
    ] = None,
    every_s: Annotated[float, typer.Option(min=0.1, help="How often counts are printed.")] = 10.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no counts.")] = False,
    options: Annotated[bool, typer.Option("--options", help="List every key and what it does.")] = False,
    parent: Annotated[int, typer.Option(min=0, hidden=True, help="End with this process.")] = 0,
) -> None:
    """Be an operator to practise on: any account may log in, Ctrl-C ends it.

    Speaks SMPP unless told otherwise. SGIP's reports go to where sgip_sp=host:port says that the SP listens.
    """
    from hongyan.simulator import behaviour as knobs

    if options:
        lines_of_help = [["key", "default", "what it does"]]
        lines_of_help += [[name, default or "-", doc] for name, default, doc in knobs.described()]
        typer.echo(frame.table(lines_of_help))
        return
    wanted = knobs.parse(shlex.join(behaviour or []))
    rules = [knobs.Rule.read(words) for words in number or []]
    doors = _doors(protocol or ["smpp"], port)

    async def run() -> None:
        from hongyan.run import outlived
        from hongyan.simulator.server import serve

        def opened(door: "Door") -> None:
            frame.say(f"an operator listens on {host}:{door.port} ({door.protocol.upper()})")

        stop = asyncio.Event()
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, stop.set)
        tell = _silent if quiet else _Teller().tell
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(
                serve(
                    wanted,
                    rules,
                    host=host,
                    doors=doors,
                    seed=seed,
                    lines=lines,
                    every_s=every_s,
                    tell=tell,
                    opened=opened,
                )
            )
            serving.add_done_callback(lambda _: stop.set())
            watching = tasks.create_task(outlived(parent, stop))
            await stop.wait()
            watching.cancel()
            serving.cancel()

    try:
        asyncio.run(run())
    except* OSError as failed:
        where = ", ".join(f"{door.port} ({door.protocol.upper()})" for door in doors)
        frame.say(f"cannot listen on {host}, ports {where}: {failed.exceptions[0]}")
        raise typer.Exit(1) from None


def _doors(protocols: "Sequence[str]", port: int | None) -> "list[Door]":
    """Read which protocols are spoken where; port is the first one's."""
    from hongyan.simulator.behaviour import BehaviourError
    from hongyan.simulator.server import Door

    doors = [Door.read(words) for words in protocols]
    if port is not None:
        doors[0] = doors[0]._replace(port=port)
    if len({door.protocol for door in doors}) < len(doors):
        raise BehaviourError("--protocol: one door for each protocol")
    return doors


class _Teller:
    """Prints counts, but only where they changed."""

    def __init__(self) -> None:
        self._told = ""

    def tell(self, counted: "Statistics") -> None:
        line = (
            f"sessions {counted.sessions}  submits {counted.submits}  parts {counted.parts}"
            f"  repeated {counted.repeated_parts}  refused {sum(counted.refused.values())}"
            f"  reports {counted.reports_acked}/{counted.reports}  texts {counted.texts}  owed {counted.owed}"
        )
        if line != self._told:
            self._told = line
            typer.echo(line)


def _silent(_: "Statistics") -> None:
    """Print nothing."""
