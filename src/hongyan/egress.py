"""Every HTTP call we make: bounded in time and size, and kept out of our own network.

Tenants choose where webhooks go, so an address is judged at the one place no answer of theirs can get
round: where the socket for it is made. Literal addresses, odd spellings (2130706433, 0x7f.1), names that
change between look-up and connection, IPv4 inside IPv6 all end there. Redirects are not followed, cookies
not kept, proxies of the environment not used, certificates always verified.
Entry points: open_egress(), Egress.request(). The peer's faults are values, never exceptions.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import lru_cache
from ssl import SSLError
from types import MappingProxyType

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from hongyan.settings import Settings

CONNECTIONS_MAX = 1024
CONNECT_WAIT_S = 5.0  # look-up included
CONNECT_SHARE = 0.9  # of a short deadline, so that we know whether it passed before anything left
# Shorter than what common servers keep (5 s and more): who closes first does not lose our request.
IDLE_KEEP_S = 4.0
RESOLVERS_MAX = 16  # threads: a name server that hangs holds one of ours, not the program's
URL_OCTETS_MAX = 2048
URLS_MAX = 4096  # whose verdict is remembered: parsing one costs as much as a fifth of a POST
ANSWER_OCTETS_MAX = 4096
PORTS_BELOW_1024 = frozenset({80, 443})
NO_HEADERS: Mapping[str, str] = MappingProxyType({})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What the operator may allow: loopback, RFC 1918, RFC 6598 (CGNAT), RFC 4193.
PRIVATE: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
    )
)
# Never, although some lie in ranges that are public or may be allowed: where clouds answer a machine's
# questions about itself (Azure, Alibaba Cloud, AWS; 169.254.169.254 is refused with all link-local ones).
METADATA: frozenset[Address] = frozenset(
    ipaddress.ip_address(text) for text in ("168.63.129.16", "100.100.100.200", "fd00:ec2::254")
)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that IANA has given out (RFC 4291 §2.4)


class Answer(msgspec.Struct, frozen=True):
    """The peer answered. `body` is cut at the octets asked for."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = NO_HEADERS


class Failed(msgspec.Struct, frozen=True):
    """No answer. `left`: the request may have reached the peer. `retry`: trying later makes sense."""

    reason: str
    retry: bool
    left: bool


class AddressRefusedError(OSError):
    """An address we do not connect to."""


def refusal_of_address(address: Address, *, private: bool) -> str:
    """Return why we do not connect to an address, '' if we do. `private`: the operator allows PRIVATE."""
    inner = _inner(address)
    if inner is not None:
        return refusal_of_address(inner, private=private)
    if address in METADATA:
        return "metadata address"
    if address.is_multicast:
        return "multicast address"
    if address.is_global and (address.version == 4 or address in GLOBAL_UNICAST):
        return ""
    if any(address in network for network in PRIVATE if network.version == address.version):
        return "" if private else "private address"
    return "reserved address"


def _inner(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 one stands for: mapped (::ffff:0:0/96), 6to4, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in NAT64:
        return ipaddress.IPv4Address(address.packed[12:])
    return address.ipv4_mapped or address.sixtofour


@lru_cache(maxsize=URLS_MAX)
def refusal_of_url(url: str, *, private: bool) -> str:
    """Return why we do not call a URL, '' if we do. A name's addresses are judged when we connect."""
    if len(url.encode()) > URL_OCTETS_MAX:
        return f"longer than {URL_OCTETS_MAX} octets"
    try:
        parsed = URL(url)
        port = parsed.port
    except ValueError:
        return "malformed"
    if parsed.scheme not in {"http", "https"}:
        return "neither http nor https"
    if not parsed.host or port is None:
        return "without a host"
    if parsed.raw_user is not None or parsed.raw_password is not None:
        return "with a user or password"
    if port < 1 or (port < 1024 and port not in PORTS_BELOW_1024 and not private):
        return f"port {port}"
    try:
        address = ipaddress.ip_address(parsed.host)
    except ValueError:
        return ""
    return refusal_of_address(address, private=private)


class Egress:
    """The one HTTP client. Built by open_egress() in the loop that uses it."""

    def __init__(self, session: aiohttp.ClientSession, *, private: bool) -> None:
        self._session = session
        self._private = private

    async def request(
        self,
        method: str,
        url: str,
        *,
        timeout_s: float,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes = b"",
        answer_octets_max: int = ANSWER_OCTETS_MAX,
    ) -> Answer | Failed:
        """Make one request and return what came of it; redirects (3xx) are answers like any other.

        `timeout_s` bounds all of it: look-up, connection, request, answer.
        """
        refusal = refusal_of_url(url, private=self._private)
        if refusal:
            return Failed(f"url refused: {refusal}", retry=False, left=False)
        try:
            async with self._session.request(
                method,
                url,
                headers=headers,
                data=body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=timeout_s, connect=min(CONNECT_WAIT_S, CONNECT_SHARE * timeout_s)
                ),
            ) as response:
                octets = await _read(response.content, answer_octets_max)
                return Answer(response.status, octets, response.headers)
        except aiohttp.ClientConnectorError as error:
            return _not_connected(error)
        except aiohttp.ConnectionTimeoutError:
            return Failed("timeout while connecting", retry=True, left=False)
        except TimeoutError:
            return Failed("timeout", retry=True, left=True)
        except aiohttp.InvalidURL:
            return Failed("url refused: malformed", retry=False, left=False)
        except (aiohttp.ClientError, OSError) as error:
            return Failed(f"connection broke: {type(error).__name__}", retry=True, left=True)


async def _read(content: aiohttp.StreamReader, octets_max: int) -> bytes:
    """Read to the end or to the limit; a connection with more to say is closed on release."""
    octets = b""
    while len(octets) < octets_max and (chunk := await content.read(octets_max - len(octets))):
        octets += chunk
    return octets


def _not_connected(error: aiohttp.ClientConnectorError) -> Failed:
    """Say why there was no connection, in words that tell a tenant nothing about our network."""
    if isinstance(error.os_error, AddressRefusedError):
        return Failed(f"address refused: {error.os_error}", retry=False, left=False)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failed("name not found", retry=True, left=False)
    if isinstance(error, aiohttp.ClientSSLError) or isinstance(error.os_error, SSLError):
        return Failed("tls failed", retry=True, left=False)
    return Failed("no connection", retry=True, left=False)


@asynccontextmanager
async def open_egress(
    settings: Settings, resolver: AbstractResolver | None = None, *, private: bool | None = None
) -> AsyncIterator[Egress]:
    """Open the client for as long as the block lasts. `resolver` replaces the system's name look-up.

    `private`: whether it may reach private addresses; None: as webhooks may.
    """
    private = settings.webhook_private_addresses if private is None else private
    names = resolver or _Names()

    def guarded(place: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        family, kind, protocol, _, sockaddr = place
        refusal = refusal_of_address(ipaddress.ip_address(str(sockaddr[0])), private=private)
        if refusal:
            raise AddressRefusedError(refusal)
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        limit=CONNECTIONS_MAX,
        keepalive_timeout=IDLE_KEEP_S,
        resolver=names,
        socket_factory=guarded,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,  # a small answer must not grow in our memory
        headers={"User-Agent": "hongyan", "Accept-Encoding": "identity"},
    )
    try:
        yield Egress(session, private=private)
    finally:
        await session.close()
        await names.close()


class _Names(AbstractResolver):
    """The system's look-up, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS_MAX, thread_name_prefix="resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return a name's addresses. Raises OSError where there is none."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            )
        except UnicodeError as error:  # a label the IDNA codec does not take
            raise OSError("no such name") from error
        return [
            ResolveResult(hostname=host, host=str(sockaddr[0]), port=port, family=kind, proto=proto, flags=0)
            for kind, _, proto, _, sockaddr in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
