"""Wireshark reads whole conversations of our channels with our practice operator, over real sockets.

What passes through a relay is written as a capture by the test itself, which needs no rights and no interface.
tests/test_kannel.py has the forms of single SMPP PDUs. Its dissector of CMPP knows the layout of 3.0 alone.
"""

import asyncio
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from hongyan.simulator import Simulator
from hongyan.simulator import behaviour as behaviours
from hongyan.simulator.behaviour import Protocol
from hongyan.vocab.text import Counting
from hongyan.wire import cmpp, fields, smpp
from interop.ours import LONG, facing, written

DEADLINE_S: Final = 20.0
PCAP_HEADER: Final = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101)  # 101: bare IP packets
CLIENT_PORT: Final = 50_000  # 40,000 is another protocol's to Wireshark from 4.4 on


@dataclass
class Relay:
    """Stands between a client and a server and remembers each frame with who said it."""

    framers: tuple[fields.Framer, fields.Framer]  # of the client, of the server
    port: int = 0
    frames: list[tuple[bool, bytes]] = field(default_factory=list)  # (the client's, octets)

    async def pass_on(self, mine: bool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while octets := await reader.read(65_536):
                self.frames += [(mine, bytes(one)) for one in self.framers[not mine].feed(octets)]
                writer.write(octets)
        writer.close()


@asynccontextmanager
async def relay(port: int, header_octets: int) -> AsyncIterator[Relay]:
    """Listen for one client of who listens at that port."""
    one = Relay((fields.Framer(header_octets), fields.Framer(header_octets)))
    tasks: set[asyncio.Task[None]] = set()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        tasks.add(asyncio.create_task(one.pass_on(True, reader, there[1])))
        tasks.add(asyncio.create_task(one.pass_on(False, there[0], writer)))

    async with await asyncio.start_server(meet, "127.0.0.1", 0) as server:
        one.port = server.sockets[0].getsockname()[1]
        yield one
    await asyncio.wait(tasks, timeout=DEADLINE_S)


async def conversation(protocol: Protocol) -> Sequence[tuple[bool, bytes]]:
    """Log in, submit short and long, hear reports and a text, say a heartbeat, log out."""
    account = {
        Protocol.SMPP: {"system_id": "hongyan", "password": "secret"},
        Protocol.CMPP: {"source_addr": "900001", "secret": "secret", "version": "3.0"},
    }[protocol]
    quick = behaviours.parse("report_delay_s=0.01 password=secret")
    header_octets = 16 if protocol is Protocol.SMPP else 12
    async with (
        Simulator(quick, protocol=protocol) as operator,
        relay(operator.port, header_octets) as between,
        facing(protocol.value, between.port, heartbeat_s=0.3, **account) as opened,
    ):
        channel = opened.channel
        for parcels in (written(channel, "hello", Counting.INTERNATIONAL), written(channel, LONG)):
            channel.submit(parcels)
        await opened.reports(4)
        operator.reply("13800138000", "退订", "10690000")
        await opened.inbound(1)
        opened.store()
        count = len(between.frames) + 5 + 2  # answers to what is stored, a heartbeat and its answer
        async with asyncio.timeout(DEADLINE_S):
            while len(between.frames) < count:
                await asyncio.sleep(0.01)
    return between.frames


def capture(frames: Sequence[tuple[bool, bytes]], port: int) -> bytes:
    """Write frames as TCP segments between two ports of this machine."""
    local = socket.inet_aton("127.0.0.1")
    sent = [1, 1]  # by the client, by the server
    octets = PCAP_HEADER
    for number, (mine, frame) in enumerate(frames, 1):
        ends = (CLIENT_PORT, port) if mine else (port, CLIENT_PORT)
        tcp = struct.pack(">HHIIBBHHH", *ends, sent[not mine], sent[mine], 5 << 4, 0x18, 65_535, 0, 0)
        whole = 20 + len(tcp) + len(frame)
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, whole, number, 0, 64, socket.IPPROTO_TCP, 0, local, local)
        octets += struct.pack("<IIII", number, 0, whole, whole) + ip + tcp + frame
        sent[not mine] += len(frame)
    return octets


def dissect(file: Path, only: str, *names: str) -> list[list[str]]:
    shown = [word for name in names for word in ("-e", name)]
    command = ["tshark", "-n", "-r", str(file), "-Y", only, "-T", "fields", "-E", "separator=\t", *shown]
    done = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", timeout=DEADLINE_S)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.needs("tshark")
@pytest.mark.parametrize(
    ("protocol", "port", "command_id"),
    [
        (Protocol.SMPP, smpp.PORT, "smpp.command_id"),
        (Protocol.CMPP, cmpp.PORT, "cmpp.Command_Id"),
    ],
)
async def test_wireshark_finds_nothing_malformed_in_a_whole_conversation(
    tmp_path: Path, protocol: Protocol, port: int, command_id: str
) -> None:
    frames = await conversation(protocol)
    file = tmp_path / "conversation.pcap"
    file.write_bytes(capture(frames, port))
    bad = "_ws.malformed || _ws.expert.severity >= 0x600000"
    assert dissect(file, bad, "frame.number", "_ws.expert.message") == []
    seen = [int(row[0], 0) for row in dissect(file, protocol.value, command_id)]
    said = [int.from_bytes(frame[4:8], "big") for _, frame in frames]
    assert seen == said
    hot = {
        Protocol.SMPP: {1 << 31 | n for n in (4, 5, 6, 9, 0x15)} | {4, 5, 6, 9, 0x15},
        Protocol.CMPP: {1 << 31 | n for n in (1, 2, 4, 5, 8)} | {1, 2, 4, 5, 8},
    }[protocol]
    assert hot <= set(said)


@pytest.mark.needs("tshark")
async def test_wireshark_reads_the_fields_of_cmpp_as_we_meant_them(tmp_path: Path) -> None:
    file = tmp_path / "conversation.pcap"
    file.write_bytes(capture(await conversation(Protocol.CMPP), cmpp.PORT))
    names = ("submit.Src_Id", "Dest_terminal_Id", "submit.Pk_total", "submit.Pk_number", "TP_udhi", "Msg_Fmt")
    submits = dissect(file, "cmpp.Command_Id == 4", *(f"cmpp.{name}" for name in names))
    both = ["10690000", "13800138000"]
    assert submits == [[*both, "1", "1", "0", "0"], *([*both, "3", str(n), "1", "8"] for n in (1, 2, 3))]
    acks = dissect(file, "cmpp.Command_Id == 0x80000004", "cmpp.Msg_Id", "cmpp.submit_resp.Result")
    assert {result for _, result in acks} == {"0"}
    read = ("cmpp.Msg_Id", "cmpp.deliver.Report.Status", "cmpp.deliver.Src_terminal_Id")
    told = dissect(file, "cmpp.deliver.Report.Status", *read)
    assert [msg_id.split(",")[1] for msg_id, _, _ in told] == [msg_id for msg_id, _ in acks]
    assert {tuple(rest) for _, *rest in told} == {("DELIVRD", "13800138000")}
    login = dissect(file, "cmpp.Command_Id == 1", "cmpp.connect.Source_Addr", "cmpp.Version")
    assert login == [["900001", "03.00"]]
