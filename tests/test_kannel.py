"""Foreign eyes on our SMPP: Wireshark reads what we write, Kannel logs in to our practice operator.

Both are programs others wrote from the same specification, so they would notice where we only agree with ourselves.
"""

import asyncio
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest

import programs
from channels.centre import build, parcel
from channels.centre import receipt as make_receipt
from hongyan.channels.smpp_words import Tongue
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab import text
from hongyan.vocab.text import Counting, Encoding
from hongyan.wire import smpp
from ports import free_port

DEADLINE_S: Final = 20.0
LONG: Final = "".join(map(chr, range(0x4E00, 0x4E00 + 150)))  # three parts, every character another

# ---- Wireshark

PCAP_HEADER: Final = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101)  # 101: bare IP packets
COMMAND_IDS: Final = {pdu_class: number for number, pdu_class in smpp.PDUS.items()}
ESME_PORT: Final = 50_000  # 40,000 is another protocol's to Wireshark from 4.4 on


def packet(number: int, frame: bytes, sent_octets: int) -> bytes:
    """One PDU as one TCP segment from 127.0.0.1 to 127.0.0.1, in a pcap record."""
    tcp = struct.pack(">HHIIBBHHH", ESME_PORT, smpp.PORT, 1 + sent_octets, 1, 5 << 4, 0x18, 65_535, 0, 0)
    local = socket.inet_aton("127.0.0.1")
    octets = 20 + len(tcp) + len(frame)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, octets, number, 0, 64, socket.IPPROTO_TCP, 0, local, local)
    return struct.pack("<IIII", number, 0, octets, octets) + ip + tcp + frame


def dissect(folder: Path, pdus: Sequence[smpp.Pdu], *fields: str, only: str = "smpp") -> list[list[str]]:
    """Let tshark read PDUs, numbered from 1; gives these fields of each, as it writes them."""
    file, octets = folder / "pdus.pcap", PCAP_HEADER
    sent = 0
    for number, pdu in enumerate(pdus, 1):
        frame = smpp.encode(pdu, number)
        octets += packet(number, frame, sent)
        sent += len(frame)
    file.write_bytes(octets)
    shown = [word for name in fields for word in ("-e", name)]
    command = ["tshark", "-n", "-r", str(file), "-Y", only, "-T", "fields", "-E", "separator=\t", *shown]
    done = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", timeout=DEADLINE_S)
    return [line.split("\t") for line in done.stdout.splitlines()]


def every_pdu() -> list[smpp.Pdu]:
    """What our channel and our practice operator say, in the forms they say it."""
    channels = [build(smpp.PORT, split=split) for split in ("udh8", "udh16", "sar")]
    submits = [
        _long(Tongue(channel.config), part)
        for channel in channels
        for part in channel.cut(LONG, Counting.MAINLAND)
    ]
    plain = Tongue(channels[0].config).put(parcel(octets=b"hello @", encoding=Encoding.GSM7, validity_s=600))
    made: list[Any] = [
        smpp.BindTransceiver(system_id="hongyan", password="secret", interface_version=0x34),
        smpp.BindTransceiverResp(system_id="operator", tlvs=((smpp.TLVS.tag("sc_interface_version"), b"\x34"),)),
        plain,
        *submits,
        smpp.SubmitSmResp(message_id="0a1b2c"),
        smpp.SubmitSmResp(command_status=0x58, bare=True),
        make_receipt("0a1b2c"),
        smpp.DeliverSmResp(),
        smpp.QuerySm(message_id="0a1b2c", source_addr="10690000"),
        smpp.QuerySmResp(message_id="0a1b2c", message_state=2),
        smpp.EnquireLink(),
        smpp.EnquireLinkResp(),
        smpp.GenericNack(command_status=3),
        smpp.Unbind(),
        smpp.UnbindResp(),
    ]  # fmt: skip
    return made


def _long(spoken: Tongue, part: text.TextPart) -> smpp.Pdu:
    place: dict[str, Any] = {"part_index": part.index, "part_count": part.total, "reference": 7}
    made = spoken.put(parcel(octets=part.octets, encoding=part.encoding, **place))
    assert isinstance(made, smpp.Pdu)
    return made


@pytest.mark.needs("tshark")
def test_wireshark_finds_nothing_malformed_in_what_we_write(tmp_path: Path) -> None:
    pdus = every_pdu()
    bad = dissect(
        tmp_path, pdus, "frame.number", "_ws.expert.message", only="_ws.malformed || _ws.expert.severity >= 0x600000"
    )  # fmt: skip
    assert bad == []
    seen = dissect(tmp_path, pdus, "smpp.command_id", "smpp.command_status", "smpp.sequence_number")
    assert [[int(word, 0) for word in row if word] for row in seen] == [
        [COMMAND_IDS[type(pdu)]]
        + ([int(pdu.command_status)] if isinstance(pdu, smpp.Response) else [])
        + [number]
        for number, pdu in enumerate(pdus, 1)
    ]


@pytest.mark.needs("tshark")
def test_wireshark_reads_the_fields_as_we_meant_them(tmp_path: Path) -> None:
    names = ("source_addr", "destination_addr", "esm.submit.features", "data_coding", "validity_period_r")
    submits = [pdu for pdu in every_pdu() if isinstance(pdu, smpp.SubmitSm)]
    seen = dissect(tmp_path, submits, *(f"smpp.{name}" for name in names))
    assert {row[0] for row in seen} == {"10690000"}
    assert {row[1] for row in seen} == {"8613800138000"}
    assert [int(row[2], 0) for row in seen] == [0, *[1] * 6, *[0] * 3]  # UDHI where a header leads the octets
    assert [int(row[3], 0) for row in seen] == [0, *[8] * 9]
    assert seen[0][4].startswith("600")
    sar = dissect(
        tmp_path, submits, "smpp.sar_msg_ref_num", "smpp.sar_total_segments", "smpp.sar_segment_seqnum",
        only="smpp.sar_total_segments",
    )  # fmt: skip
    assert [[int(word, 0) for word in row] for row in sar] == [[7, 3, 1], [7, 3, 2], [7, 3, 3]]


@pytest.mark.needs("tshark")
def test_wireshark_joins_our_parts_and_reads_the_text(tmp_path: Path) -> None:
    """The header of each part is one that a GSM stack takes apart."""
    headed = [pdu for pdu in every_pdu() if isinstance(pdu, smpp.SubmitSm) and pdu.esm_class & 0x40]
    names = ("gsm_sms.udh.mm.msg_id", "gsm_sms.udh.mm.msg_parts", "gsm_sms.udh.mm.msg_part")
    seen = dissect(tmp_path, headed, *names, only="gsm_sms_ud")
    assert [[int(word, 0) for word in row] for row in seen] == [[7, 3, n] for n in (1, 2, 3)] * 2
    read = "".join(row[0] for row in dissect(tmp_path, headed, "smpp.message_text"))
    assert read == LONG * 2


# ---- Kannel


@dataclass
class Heard:
    """What Kannel told by HTTP, by path."""

    port: int = 0
    calls: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            target = urlsplit((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
            self.calls.append((target.path, parse_qs(target.query)))
            self.news.set()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def until(self, path: str, count: int = 1) -> list[dict[str, list[str]]]:
        async with asyncio.timeout(DEADLINE_S):
            while len(found := [query for said, query in self.calls if said == path]) < count:
                self.news.clear()
                await self.news.wait()
        return found


KANNEL_CONF: Final = """
group = core
admin-port = {admin}
admin-interface = 127.0.0.1
admin-password = test
smsbox-port = {inner}
smsbox-interface = 127.0.0.1
box-allow-ip = 127.0.0.1
admin-allow-ip = 127.0.0.1
dlr-storage = internal
log-level = 3

group = smsc
smsc = smpp
smsc-id = hongyan
host = 127.0.0.1
port = {smpp}
transceiver-mode = true
smsc-username = kannel
smsc-password = secret
system-type = ""
interface-version = 34
msg-id-type = 0x00
reconnect-delay = 1

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {sendsms}
sendsms-interface = 127.0.0.1
global-sender = 1069
log-level = 3

group = sendsms-user
username = test
password = test
concatenation = true
max-messages = 10

group = sms-service
keyword = default
get-url = "http://127.0.0.1:{sink}/inbound?from=%p&to=%P&text=%b"
max-messages = 0
"""


@dataclass
class Kannel:
    """A running Kannel, logged in to our operator."""

    sendsms: int
    heard: Heard

    async def send(self, to: str, words: str, **query: str) -> None:
        """Send a text by its HTTP door and ask for the report."""
        reports = f"http://127.0.0.1:{self.heard.port}/report?to={to}&state=%d"
        asked = {"username": "test", "password": "test", "to": to, "text": words, "dlr-mask": "3"}
        url = f"http://127.0.0.1:{self.sendsms}/cgi-bin/sendsms?" + urlencode(
            asked | {"dlr-url": reports} | query
        )
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            assert answer.status == 202, await answer.text()


@asynccontextmanager
async def kannel(folder: Path, simulator: Simulator) -> AsyncIterator[Kannel]:
    heard = Heard()
    admin, inner, sendsms = free_port(), free_port(), free_port()
    async with await asyncio.start_server(heard.serve, "127.0.0.1", 0) as sink:
        heard.port = sink.sockets[0].getsockname()[1]
        ports = {
            "admin": admin,
            "inner": inner,
            "sendsms": sendsms,
            "smpp": simulator.port,
            "sink": heard.port,
        }
        conf = folder / "kannel.conf"
        conf.write_text(KANNEL_CONF.format(**ports))
        async with box("bearerbox", conf, inner), box("smsbox", conf, sendsms):
            async with asyncio.timeout(DEADLINE_S):
                while not simulator.statistics().sessions:
                    await asyncio.sleep(0.02)
            yield Kannel(sendsms, heard)


@asynccontextmanager
async def box(program: str, conf: Path, port: int) -> AsyncIterator[None]:
    """One of Kannel's programs, from when it listens to the end of the block."""
    running = await asyncio.create_subprocess_exec(
        programs.find(program) or program, "-v", "4", str(conf), cwd=conf.parent,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                assert running.returncode is None, program
                await asyncio.sleep(0.02)
        yield
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        await running.wait()


@pytest.mark.needs("bearerbox", "smsbox")
async def test_kannel_sends_through_our_operator_and_hears_reports_and_replies(tmp_path: Path) -> None:
    strict = behaviour.parse("system_id=kannel password=secret report_delay_s=0.05 ack_id=hex report_id=hex")
    async with Simulator(strict) as simulator, kannel(tmp_path, simulator) as one:
        await one.send("8613800138001", "hello @ {€}", charset="UTF-8")
        await one.send("8613800138002", LONG, charset="UTF-8", coding="2")
        await one.send("8619900000001", "nobody", charset="UTF-8")  # the sandbox's ending for UNDELIV
        reports = await one.heard.until("/report", 3)
        states = {query["to"][0]: query["state"][0] for query in reports}
        assert states == {"8613800138001": "1", "8613800138002": "1", "8619900000001": "2"}
        assert [seen.text for seen in simulator.phone("13800138001")] == ["hello @ {€}"]
        assert [seen.text for seen in simulator.phone("13800138002")] == [LONG]
        simulator.reply("8613800138001", "退订", "1069")
        (reply,) = await one.heard.until("/inbound")
        assert reply["to"] == ["1069"]
        assert reply["from"][0].endswith("13800138001")
        async with asyncio.timeout(10):  # its answer may come behind what it has told already
            while simulator.statistics().texts_acked < 1:
                await asyncio.sleep(0.01)
        counted = simulator.statistics()
        assert (counted.sessions, counted.repeated_parts, counted.refused) == (1, 0, {})
        assert counted.reports_acked == counted.reports
        assert counted.texts_acked == counted.texts == 1


@pytest.mark.needs("bearerbox", "smsbox")
async def test_kannel_comes_back_after_our_operators_outage(tmp_path: Path) -> None:
    words = "system_id=kannel password=secret report_delay_s=0.3 ack_id=decimal"
    async with Simulator(behaviour.parse(words)) as simulator, kannel(tmp_path, simulator) as one:
        await one.send("8613800138001", "before")
        port = simulator.port
        async with asyncio.timeout(DEADLINE_S):
            while not simulator.statistics().parts:
                await asyncio.sleep(0.01)
        await simulator.stop()
        await simulator.start(port=port)
        await one.heard.until("/report", 1)
        await one.send("8613800138002", "after")
        await one.heard.until("/report", 2)
        assert simulator.statistics().binds == 2
