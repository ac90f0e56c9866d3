"""Sessions, both ways: what a channel's client costs, and what our SMPP server takes from a raw client.

    python -m bench.sessions client                        # every protocol, window 16 and 128, against `hongyan simulate`
    python -m bench.sessions server --pb /path/to/pb       # `pb smppc` logs in to a whole install whose operator is `pb smsc`

client: submits a CPU-second of this process, which holds the session and nothing else; reports are asked for and
answered, and nothing is stored. server: everything is stored, as in production.
"""

import argparse
import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from bench.lay import ACCOUNTS
from bench.load import program
from bench.peers_adapter import HOME, PYTHON
from hongyan.channels import kinds
from hongyan.channels.channel import Answer, Channel, ChannelState, Inbound, Parcel, Report
from hongyan.vocab.text import Encoding

OPERATOR_PORT, LOGIN_PORT, SMSC_PORT = 19776, 19777, 19775
KINDS = ("smpp", "cmpp", "sgip", "smgp")
WAIT_S = 60.0


class Sink:
    """Takes everything and stores nothing: what comes is given back at once."""

    def __init__(self) -> None:
        self.channel: Channel
        self.acks = 0
        self.reports = 0
        self.up = asyncio.Event()
        self.moved = asyncio.Event()

    def answered(self, answers: Sequence[Answer]) -> None:
        self.acks += len(answers)
        self.channel.stored([answer.slot for answer in answers])
        self.moved.set()

    def reported(self, reports: Sequence[Report]) -> None:
        self.reports += len(reports)
        self.channel.stored([report.slot for report in reports])
        self.moved.set()

    def arrived(self, inbound: Sequence[Inbound]) -> None:
        self.channel.stored([one.slot for one in inbound])

    def changed(self, state: ChannelState) -> None:
        if state.sessions_up:
            self.up.set()
        self.moved.set()


@contextmanager
def operator(kind: str) -> Iterator[None]:
    command = [
        PYTHON, "-m", "hongyan", "simulate", "--quiet", "--protocol", f"{kind}:{OPERATOR_PORT}", "window_max=1000",
        "report_delay_s=0.01",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=HOME, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


async def submit(kind: str, window_size: int, count: int) -> dict[str, Any]:
    """Submit over one session as fast as its window lets; returns rates."""
    settings = {"hosts": ["127.0.0.1"], "port": OPERATOR_PORT, "window_size": window_size, "backoff_s": 0.1}
    channel = kinds.build(kind, settings | ACCOUNTS[kind])
    sink = Sink()
    sink.channel = channel
    channel.resize(1)
    await channel.open(sink)
    text = "Your code is 123456, valid for five minutes."
    octets, encoding = (
        (text.encode(), Encoding.GSM7) if kind == "smpp" else (text.encode("utf-16-be"), Encoding.UCS2)
    )
    async with asyncio.timeout(WAIT_S):
        await sink.up.wait()
        begun_s, cpu_s = time.monotonic(), time.process_time()
        sent = 0
        while sink.acks < count or sink.reports < count:
            room = min(channel.room(), count - sent)
            if room > 0:
                channel.submit(
                    [Parcel(None, f"+86138{sent + n:08d}", "10690000", octets, encoding) for n in range(room)]
                )
                sent += room
            sink.moved.clear()
            await sink.moved.wait()
        took_s, cpu_s = time.monotonic() - begun_s, time.process_time() - cpu_s
    await channel.close()
    return {
        "kind": kind,
        "window": window_size,
        "submits_per_s": round(count / took_s),
        "submits_per_cpu_s": round(count / cpu_s),
    }


def serve(pb: str, window: int, connections: int, count: int) -> dict[str, Any]:
    """Let the harness's raw client submit to a whole install, reports included."""
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # root's PostgreSQL runs as another user
        smsc = subprocess.Popen([pb, "smsc", "--port", str(SMSC_PORT), "--dlr-ms", "50"])
        try:
            with program(folder, {"opt_outs": "1000000", "login": str(LOGIN_PORT)}):
                time.sleep(2.0)  # until the door knows its login
                command = [
                    pb, "smppc", "--port", str(LOGIN_PORT), "--conns", str(connections), "--window", str(window),
                    "--n", str(count), "--rd", "1",
                ]  # fmt: skip
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        finally:
            smsc.terminate()
            smsc.wait(10)
    found: dict[str, Any] = json.loads(done.stdout)
    return {"window": window, "connections": connections, **found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("client", "server"))
    parser.add_argument("--pb", help="the harness's binary, for server")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.what == "server":
        for window in (16, 128):
            print(json.dumps(serve(arguments.pb, window, arguments.connections, arguments.count)))
        return
    for kind in KINDS:
        with operator(kind):
            time.sleep(1.5)
            for window in (16, 128):
                print(json.dumps(uvloop.run(submit(kind, window, arguments.count))))


if __name__ == "__main__":
    main()
