"""What the peer harness cannot drive: batches, signed requests, memory, codes over a promotional backlog.

    python -m bench.load --pb /path/to/pb --count 100000 --batch 1000 --connections 4
    python -m bench.load --pb /path/to/pb --count 20000 --signed --connections 32
    python -m bench.load --pb /path/to/pb --count 200000 --batch 1000 --connections 4 --purpose sale --codes 1000
    python -m bench.load --pb /path/to/pb --count 20000 --kind cmpp        # `hongyan simulate` is the operator then

The operator and the callback sink are the harness's own (`pb smsc`, `pb sink`), but for --kind; the program is started
as its adapter starts it. Prints one JSON object. Requests are made before the clock starts; this driver shares the cores.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import struct
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop

from bench.peers_adapter import HOME, PYTHON, Adapter

SMSC_PORT, SINK_PORT = 19775, 19002
FIRST_KEY, FIRST_CODE = 20_000_000, 90_000_000  # the last eight digits of a number are a message's key
DRAIN_WAIT_S = 120
SUBMITTED = 1  # of the operator's log
Answers = dict[int, tuple[int, float, float]]
SMSC_RECORD = struct.Struct("<QII")  # ns of the monotonic clock, key, kind


class Connection(asyncio.Protocol):
    """One keep-alive connection: one request at a time, the next as soon as the answer is there."""

    def __init__(
        self, take: Callable[[], tuple[int, bytes] | None], heard: Callable[[int, bytes], None]
    ) -> None:
        self._take = take
        self._heard = heard
        self._buffer = b""
        self._key = 0
        self.done = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        request = self._take()
        if request is None:
            self.done.set_result(None)
            return
        self._key, octets = request
        self.transport.write(octets)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = b""
        self._heard(self._key, head[9:12] + body)
        self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the door closed the connection"))


class Requests:
    """HTTP requests of one key."""

    def __init__(self, key: dict[str, str], *, signed: bool) -> None:
        self._key_id, self._secret = key["key_id"], key["secret"]
        self._signed = signed

    def single(self, key: int, purpose: str) -> bytes:
        return self._request(b"/v1/messages", json.dumps(_message(key, purpose)).encode())

    def batch(self, keys: Sequence[int], purpose: str) -> bytes:
        body = {"messages": [_message(key, purpose) for key in keys]}
        return self._request(b"/v1/messages/batch", json.dumps(body).encode())

    def _request(self, path: bytes, body: bytes) -> bytes:
        return (
            b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Authorization: %b\r\nContent-Length: %d\r\n\r\n%b"
        ) % (path, self._authorization(path, body).encode(), len(body), body)

    def _authorization(self, path: bytes, body: bytes) -> str:
        if not self._signed:
            return "Basic " + base64.b64encode(f"{self._key_id}:{self._secret}".encode()).decode()
        timestamp, nonce = str(int(time.time())), secrets.token_urlsafe(18)
        digest = hashlib.sha256(body).hexdigest()
        canonical = f"POST\n{path.decode()}\n\n{digest}\n{timestamp}\n{nonce}"
        mac = hmac.new(self._secret.encode(), canonical.encode(), "sha256").hexdigest()
        return f"HONGYAN-HMAC-SHA256 key_id={self._key_id}, timestamp={timestamp}, nonce={nonce}, mac={mac}"


def _message(key: int, purpose: str) -> dict[str, Any]:
    return {
        "to": f"+2126{key:08d}",
        "signature": "Bench",
        "template": purpose,
        "params": {"number": f"{key:08d}"},
        "reference": f"{key:08d}",
    }


class Counters:
    """The live counters of `pb`, mapped from its file: index 0 counts what came."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def came(self) -> int:
        count: int = struct.unpack("<Q", self._path.read_bytes()[:8])[0]
        return count


@contextmanager
def peers(pb: str, folder: Path, kind: str = "") -> Iterator[tuple[Counters, Counters]]:
    """The operator and the sink, with their counters; their logs are whole once they have ended.

    With a kind the operator is our simulator, whose counter stays where the sink's is.
    """
    started = []
    roles = [
        ("smsc", SMSC_PORT, ["--dlr-ms", "50"]),
        ("sink", SINK_PORT, ["--key-marker", '"message_id":"', "--stat-marker", '"status":"', "--resp-body", "OK"]),
    ]  # fmt: skip
    try:
        if kind:
            del roles[0]
            command = [
                PYTHON,
                "-m",
                "hongyan",
                "simulate",
                "--quiet",
                "--protocol",
                f"{kind}:{SMSC_PORT}",
                "window_max=1000",
            ]
            started.append(subprocess.Popen(command, cwd=HOME))
        for role, port, more in roles:
            files = ["--live", str(folder / f"{role}.live"), "--out", str(folder / f"{role}.log")]
            started.append(subprocess.Popen([pb, role, "--port", str(port), *files, *more]))
        time.sleep(0.3)  # both have made their files and listen
        sink = Counters(folder / "sink.live")
        yield sink if kind else Counters(folder / "smsc.live"), sink
    finally:
        for process in started:
            process.terminate()
            process.wait(10)


@contextmanager
def program(folder: Path, options: dict[str, str]) -> Iterator[Adapter]:
    """The program as the adapter starts it, laid out and with its session up."""

    def spawn(command: list[str], log: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (folder / log).open("ab") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=env)

    context = SimpleNamespace(
        dir=str(folder), opts=options, smsc_port=SMSC_PORT, sink_port=SINK_PORT, spawn=spawn
    )
    adapter = Adapter()
    adapter.configure(context)
    adapter.start(context)
    try:
        yield adapter
    finally:
        adapter.stop(context)


async def ask_all(requests: Sequence[tuple[int, bytes]], connections: int) -> Answers:
    """Send all requests in a closed loop; returns messages accepted, start and end (monotonic s) by key."""
    loop = asyncio.get_running_loop()
    queue = deque(requests)
    started: dict[int, float] = {}
    answers: Answers = {}

    def take() -> tuple[int, bytes] | None:
        if not queue:
            return None
        key, octets = queue.popleft()
        started[key] = time.monotonic()
        return key, octets

    def heard(key: int, answer: bytes) -> None:
        answers[key] = (answer.count(b'"id":"'), started[key], time.monotonic())

    links = []
    for _ in range(connections):
        _, link = await loop.create_connection(lambda: Connection(take, heard), "127.0.0.1", Adapter.port)
        links.append(link.done)
    await asyncio.gather(*links)
    return answers


def memory_mb(pid: int) -> dict[str, float]:
    """Proportional resident memory by process: pages that several share are counted once in all."""
    found: dict[str, float] = {}
    todo = [pid]
    while todo:
        each = todo.pop()
        todo += [
            int(p) for t in Path(f"/proc/{each}/task").iterdir() for p in (t / "children").read_text().split()
        ]
        words = Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        role = words.partition("--role")[2].strip("= ").split(" ")[0] if "--role" in words else ""
        name = "postgres" if "postgres" in words.split(" ")[0] else role or "supervisor"
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                found[name] = found.get(name, 0.0) + int(line.split()[1]) / 1024
    return {name: round(mb, 1) for name, mb in found.items()}


async def watch(counter: Counters, wanted: int) -> float:
    """Wait until so many have come; returns when (monotonic s). Raises TimeoutError after DRAIN_WAIT_S without any."""
    last, since_s = counter.came(), time.monotonic()
    while (came := counter.came()) < wanted:
        if came != last:
            last, since_s = came, time.monotonic()
        if time.monotonic() - since_s > DRAIN_WAIT_S:
            raise TimeoutError(f"{came} of {wanted} came")
        await asyncio.sleep(0.01)
    return time.monotonic()


def percentile(values: Sequence[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 1)


def submitted_at(log: Path) -> dict[int, float]:
    """When the operator first got each key, monotonic s."""
    times: dict[int, float] = {}
    for at_ns, key, kind in SMSC_RECORD.iter_unpack(log.read_bytes()):
        if kind == SUBMITTED:
            times.setdefault(key, at_ns / 1e9)
    return times


async def run(
    arguments: argparse.Namespace, adapter: Adapter, smsc: Counters, sink: Counters
) -> tuple[dict[str, Any], dict[int, float]]:
    requests = Requests(adapter.key, signed=arguments.signed)
    keys = range(FIRST_KEY, FIRST_KEY + arguments.count)
    if arguments.batch:
        made = [
            (chunk[0], requests.batch(chunk, arguments.purpose))
            for chunk in (keys[at : at + arguments.batch] for at in range(0, len(keys), arguments.batch))
        ]
    else:
        made = [(key, requests.single(key, arguments.purpose)) for key in keys]
    begun_s = time.monotonic()
    answers = await ask_all(made, arguments.connections)
    ended_s = time.monotonic()
    accepted = sum(count for count, _, _ in answers.values())
    waiting = accepted - smsc.came()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(send_codes(requests, arguments.codes, arguments.code_rate))
        at_smsc = tasks.create_task(watch(smsc, accepted))
        at_sink = tasks.create_task(watch(sink, accepted))
    codes, smsc_s, sink_s = sending.result(), at_smsc.result(), at_sink.result()
    total = accepted + len(codes)
    await watch(sink, total)
    ms = [(end - start) * 1000 for _, start, end in answers.values()]
    return {
        "accepted": accepted,
        "refused": arguments.count - accepted,
        "accepted_per_s": round(accepted / (ended_s - begun_s)),
        "smsc_per_s": round(accepted / (smsc_s - begun_s)),
        "callbacks_per_s": round(accepted / (sink_s - begun_s)),
        "lost": total - smsc.came(),
        "request_ms": {"p50": percentile(ms, 0.5), "p99": percentile(ms, 0.99)},
        "waiting_at_the_end_of_requests": waiting,
        "memory_mb": memory_mb(adapter.main.pid),
    }, codes


async def send_codes(requests: Requests, count: int, rate: float) -> dict[int, float]:
    """Send codes one by one at a rate; returns when each request began, by key."""
    began: dict[int, float] = {}
    first_s = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0.0, first_s + number / rate - time.monotonic()))
        key = FIRST_CODE + number
        answers = await ask_all([(key, requests.single(key, "code"))], 1)
        if answers[key][0]:
            began[key] = answers[key][1]
    return began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pb", required=True, help="the harness's binary")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--batch", type=int, default=0, help="messages a request; 0: single ones")
    parser.add_argument("--signed", action="store_true", help="HMAC instead of Basic")
    parser.add_argument("--purpose", choices=("load", "code", "sale"), default="load")
    parser.add_argument("--codes", type=int, default=0, help="codes to send once all the others are accepted")
    parser.add_argument("--code-rate", type=float, default=100.0, help="of them a second")
    parser.add_argument("--opt-outs", type=int, default=1_000_000)
    parser.add_argument(
        "--kind", default="", choices=("smpp", "cmpp", "smgp", "sgip"), help="over our simulator"
    )
    parser.add_argument("--layout", default="door gateway+clerk", help="as HONGYAN_LAYOUT")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # root's PostgreSQL runs as another user
        with (
            peers(arguments.pb, folder, arguments.kind) as (smsc, sink),
            program(
                folder,
                {
                    "opt_outs": str(arguments.opt_outs),
                    "layout": arguments.layout,
                    "kind": arguments.kind or "smpp",
                },
            ) as adapter,
        ):
            result, codes = uvloop.run(run(arguments, adapter, smsc, sink))
        if codes:
            at = submitted_at(folder / "smsc.log")
            ms = [(at[key] - began) * 1000 for key, began in codes.items()]
            result["code_request_to_submit_ms"] = {"p50": percentile(ms, 0.5), "p99": percentile(ms, 0.99)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
