"""Where we connect and where not; what of the peer's faults we see. Real sockets on the loopback."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hongyan.egress import (
    URL_OCTETS_MAX,
    Answer,
    Failed,
    open_egress,
    refusal_of_address,
    refusal_of_url,
)
from hongyan.settings import Settings

GUARDED = Settings()
ALLOWED = Settings(webhook_private_addresses=True)
DEADLINE_S = 10.0

ALWAYS_REFUSED = [
    "0.0.0.0",  # noqa: S104 - refused, not listened on
    "0.1.2.3",
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "fd00:ec2::254",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "::7f00:1",
    "2001:db8::1",
    "2001:0:1::1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
]
PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fd12::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::1",
    "64:ff9b::7f00:1",
]
PUBLIC = [
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "223.5.5.5",
    "2400:3200::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("address", ALWAYS_REFUSED)
def test_reserved_and_metadata_addresses_are_refused_whatever_the_operator_allows(address: str) -> None:
    for private in (False, True):
        assert refusal_of_address(ipaddress.ip_address(address), private=private)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused_unless_the_operator_allows_them(address: str) -> None:
    assert refusal_of_address(ipaddress.ip_address(address), private=False) == "private address"
    assert not refusal_of_address(ipaddress.ip_address(address), private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address: str) -> None:
    assert not refusal_of_address(ipaddress.ip_address(address), private=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "http://",
        "http:///path",
        "https://user@example.com/",
        "https://user:word@example.com/",
        "https://@example.com:99999/",
        "http://example.com:0/",
        "http://example.com:22/",
        "http://example.com:25/",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fe80::1%25eth0]/",
        "http://example.com/" + "x" * URL_OCTETS_MAX,
    ],
)
def test_a_url_that_cannot_be_a_webhook_is_refused(url: str) -> None:
    assert refusal_of_url(url, private=False)


@pytest.mark.parametrize(
    "url",
    ["https://example.com/hook?a=b", "http://example.com", "https://example.com:8443/", "http://8.8.8.8/"],
)
def test_an_ordinary_url_is_called(url: str) -> None:
    assert not refusal_of_url(url, private=False)


class Lying(AbstractResolver):
    """A name server that gives each of its answers once, and the last one for ever."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        address = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        pass


class Server:
    """Answers every request with the same octets; None: never. Counts who came."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head)
                if self.answer is None:
                    await reader.read()
                    break
                writer.write(self.answer)
                await writer.drain()
                if b"Connection: close" in self.answer or not self.answer.startswith(b"HTTP"):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_an_answer_is_a_value_with_status_headers_and_body() -> None:
    async with serving(OK) as server, open_egress(ALLOWED) as egress:
        url = f"http://127.0.0.1:{server.port}/hook"
        answer = await egress.request("GET", url, timeout_s=DEADLINE_S, headers={"X-Mine": "1"})
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"ok", "2")
    assert server.requests[0].startswith(b"GET /hook HTTP/1.1\r\n")
    assert b"X-Mine: 1\r\n" in server.requests[0]


async def test_connections_are_kept_alive() -> None:
    async with serving(OK) as server, open_egress(ALLOWED) as egress:
        for _ in range(3):
            await egress.request("GET", f"http://127.0.0.1:{server.port}/", timeout_s=DEADLINE_S)
    assert (server.connections, len(server.requests)) == (1, 3)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"]
)
async def test_no_spelling_of_a_private_address_is_connected_to(host: str) -> None:
    async with serving(OK) as server, open_egress(GUARDED) as egress:
        outcome = await egress.request(
            "POST", f"http://{host}:{server.port}/", timeout_s=DEADLINE_S, body=b"x"
        )
    assert isinstance(outcome, Failed)
    assert (outcome.left, outcome.retry) == (False, False)
    assert "refused" in outcome.reason
    assert server.connections == 0


async def test_a_name_that_is_private_only_when_we_connect_is_refused() -> None:
    async with serving(OK) as server, open_egress(GUARDED, Lying("127.0.0.1")) as egress:
        for _ in range(2):  # once looked up, once from the cache
            outcome = await egress.request(
                "GET", f"http://rebound.example:{server.port}/", timeout_s=DEADLINE_S
            )
            assert outcome == Failed("address refused: private address", retry=False, left=False)
    assert server.connections == 0


async def test_a_name_is_called_where_the_operator_allows_its_address() -> None:
    async with serving(OK) as server, open_egress(ALLOWED, Lying("127.0.0.1")) as egress:
        outcome = await egress.request("GET", f"http://inside.example:{server.port}/", timeout_s=DEADLINE_S)
    assert isinstance(outcome, Answer)


async def test_redirects_are_answers_and_not_followed() -> None:
    async with serving(OK) as inner:
        location = f"http://127.0.0.1:{inner.port}/".encode()
        redirect = (
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"
        )
        async with serving(redirect) as outer, open_egress(ALLOWED) as egress:
            outcome = await egress.request(
                "POST", f"http://127.0.0.1:{outer.port}/", timeout_s=DEADLINE_S, body=b"x"
            )
    assert isinstance(outcome, Answer)
    assert outcome.status == 307
    assert inner.connections == 0


async def test_a_long_answer_is_cut() -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    async with serving(long) as server, open_egress(ALLOWED) as egress:
        url = f"http://127.0.0.1:{server.port}/"
        outcome = await egress.request("GET", url, timeout_s=DEADLINE_S, answer_octets_max=100)
        again = await egress.request("GET", url, timeout_s=DEADLINE_S, answer_octets_max=100)
    assert isinstance(outcome, Answer)
    assert isinstance(again, Answer)
    assert (outcome.body, again.body) == (b"x" * 100, b"x" * 100)


async def test_a_compressed_answer_does_not_grow() -> None:
    packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    async with serving(packed) as server, open_egress(ALLOWED) as egress:
        outcome = await egress.request("GET", f"http://127.0.0.1:{server.port}/", timeout_s=DEADLINE_S)
    assert isinstance(outcome, Answer)
    assert outcome.body == b"\x1f\x8b\x08\x00"


async def test_cookies_are_not_kept() -> None:
    cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with serving(cookie) as server, open_egress(ALLOWED, Lying("127.0.0.1")) as egress:
        for _ in range(2):
            await egress.request("GET", f"http://inside.example:{server.port}/", timeout_s=DEADLINE_S)
    assert b"Cookie" not in server.requests[1]


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(OK) as server, serving(OK) as proxy, open_egress(ALLOWED) as egress:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        await egress.request("GET", f"http://127.0.0.1:{server.port}/", timeout_s=DEADLINE_S)
    assert (server.connections, proxy.connections) == (1, 0)


async def test_a_peer_that_never_answers_is_a_failure_that_may_have_left() -> None:
    async with serving(None) as server, open_egress(ALLOWED) as egress:
        outcome = await egress.request("POST", f"http://127.0.0.1:{server.port}/", timeout_s=1.0, body=b"x")
    assert outcome == Failed("timeout", retry=True, left=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_garbage_is_a_failure_and_never_an_exception(answer: bytes) -> None:
    async with serving(answer) as server, open_egress(ALLOWED) as egress:
        outcome = await egress.request("GET", f"http://127.0.0.1:{server.port}/", timeout_s=DEADLINE_S)
    assert isinstance(outcome, Failed)
    assert (outcome.retry, outcome.left) == (True, True)


async def test_a_closed_port_is_a_failure_that_did_not_leave() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with open_egress(ALLOWED) as egress:
            port = unused.getsockname()[1]
            outcome = await egress.request("GET", f"http://127.0.0.1:{port}/", timeout_s=DEADLINE_S)
    assert outcome == Failed("no connection", retry=True, left=False)


class Mute(Lying):
    """A name server that never answers."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del host, port, family
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_name_server_that_never_answers_is_a_failure_that_did_not_leave() -> None:
    async with open_egress(GUARDED, Mute("8.8.8.8")) as egress:
        outcome = await egress.request("POST", "http://slow.example/", timeout_s=0.2, body=b"x")
    assert outcome == Failed("timeout while connecting", retry=True, left=False)


@pytest.mark.parametrize("host", ["x" * 64 + ".invalid", "a..b"])
async def test_a_name_that_is_none_is_a_failure_that_did_not_leave(host: str) -> None:
    async with open_egress(GUARDED) as egress:
        outcome = await egress.request("GET", f"http://{host}/", timeout_s=DEADLINE_S)
    assert isinstance(outcome, Failed)
    assert not outcome.left


class Lost(Lying):
    """A name server that knows nobody."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del host, port, family
        raise OSError("no such name")


async def test_an_unknown_name_may_be_known_later() -> None:
    async with open_egress(GUARDED, Lost("")) as egress:
        outcome = await egress.request("GET", "http://nowhere.example/", timeout_s=DEADLINE_S)
    assert outcome == Failed("name not found", retry=True, left=False)


async def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_self_signed(tmp_path))
    async with serving(OK, context) as server, open_egress(ALLOWED, Lying("127.0.0.1")) as egress:
        asyncio.get_running_loop().set_exception_handler(_ignore)
        outcome = await egress.request("GET", f"https://inside.example:{server.port}/", timeout_s=DEADLINE_S)
    assert outcome == Failed("tls failed", retry=True, left=False)
    assert server.requests == []


def _ignore(_loop: asyncio.AbstractEventLoop, _context: dict[str, object]) -> None:
    """The server's side of a broken handshake is not what is tested."""


def _self_signed(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "inside.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("inside.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "self_signed.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path
