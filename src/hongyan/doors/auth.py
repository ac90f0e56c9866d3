"""Which app is calling, and may it: key, secret or MAC, clock, nonce, address, rate.

Writes nothing itself (nonces.py and rates.py do). Entry point: Gate.admit(). The scheme is specified, with
test vectors, in docs/api/authentication.md. A key without a rate that calls with HTTP Basic is admitted
without a database call and without waiting; its header is checked once per snapshot and remembered.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol

from hongyan import clock
from hongyan.doors.exchange import Asked
from hongyan.doors.nonces import Nonces
from hongyan.doors.rates import Rates
from hongyan.vocab.errors import Code, Refusal
from hongyan.way.snapshot import Key, Network, Snapshot

SCHEME: Final = "HONGYAN-HMAC-SHA256"
CHALLENGE: Final = f'{SCHEME}, Basic realm="hongyan", charset="UTF-8"'
HEADER_OCTETS_MAX: Final = 1_024
REMEMBERED_MAX: Final = 10_000  # Basic headers; beyond it they are checked anew
HOPS_MAX: Final = 20  # of X-Forwarded-For

Admitted = Callable[[Key | Refusal], None]


class Snapshots(Protocol):
    """Where the newest snapshot is found (way.snapshot.Keeper)."""

    @property
    def current(self) -> Snapshot: ...

    async def load(self) -> Snapshot: ...


class Gate:
    """Admits requests. One per door process."""

    def __init__(
        self,
        snapshots: Snapshots,
        nonces: Nonces,
        rates: Rates,
        skew_s: int,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        self._snapshots = snapshots
        self._nonces = nonces
        self._rates = rates
        self._skew_s = skew_s
        self._trusted = trusted_proxies
        self._seen: Snapshot | None = None
        self._remembered: dict[bytes, Key] = {}
        self.used: set[int] = set()  # ids of keys that were admitted; whoever writes them down takes them out

    def admit(self, asked: Asked, admitted: Admitted) -> None:
        """Call `admitted` once, now or in a later turn of the loop, with the key or with the first refusal.

        In order: credentials, secret or MAC, address, tenant, timestamp, nonce, rate. The rate comes last, so
        that nobody can use up a key's rate without its secret.
        """
        snapshot = self._snapshots.current
        if snapshot is not self._seen:
            self._seen = snapshot
            self._remembered.clear()
        key = self._remembered.get(asked.authorization)
        signed: _Signed | None = None
        try:
            if key is None:
                key, signed = self._identify(asked, snapshot)
            if key.networks:
                self._demand_address(key, asked)
            demand_active(key)
            if signed is not None:
                self._demand_fresh(signed)
        except Refusal as refusal:
            admitted(refusal)
            return
        self.used.add(key.id)
        if signed is not None:
            stale_at_s = signed.timestamp_s + self._skew_s
            self._nonces.use(
                key.id, signed.nonce, stale_at_s, lambda no: self._after_nonce(key, no, admitted)
            )
        elif key.rate_per_s:
            self._rates.take(key, lambda no: admitted(no or key))
        else:
            admitted(key)

    def _after_nonce(self, key: Key, no: Refusal | None, admitted: Admitted) -> None:
        if no is None and key.rate_per_s:
            self._rates.take(key, lambda limited: admitted(limited or key))
        else:
            admitted(no or key)

    def _identify(self, asked: Asked, snapshot: Snapshot) -> tuple[Key, "_Signed | None"]:
        if not asked.authorization:
            raise Refusal(Code.AUTH_MISSING)
        if len(asked.authorization) > HEADER_OCTETS_MAX:
            raise Refusal(Code.AUTH_MISSING, reason="the Authorization header is too long")
        scheme, _, rest = asked.authorization.decode("latin-1").partition(" ")
        if scheme.upper() == SCHEME:
            signed = _read_signed(rest)
            return _signed_key(asked, signed, snapshot), signed
        if scheme.lower() == "basic":
            key = _basic_key(rest, snapshot)
            # A later look-up compares octets only where a keyed hash of all agreed: it tells no secret.
            if len(self._remembered) < REMEMBERED_MAX:
                self._remembered[asked.authorization] = key
            return key, None
        raise Refusal(Code.AUTH_MISSING, schemes=[SCHEME, "Basic"])

    def address(self, asked: Asked) -> str:
        """Return from where somebody asks, as text; empty where nobody can tell."""
        return str(caller_address(asked.address, asked.forwarded_for, self._trusted) or "")

    def _demand_address(self, key: Key, asked: Asked) -> None:
        address = caller_address(asked.address, asked.forwarded_for, self._trusted)
        if address is None or not any(address in network for network in key.networks):
            raise Refusal(Code.AUTH_IP_DENIED)

    def _demand_fresh(self, signed: "_Signed") -> None:
        now_s = clock.now_s()
        if abs(now_s - signed.timestamp_s) > self._skew_s:
            raise Refusal(Code.AUTH_EXPIRED, server_time=int(now_s), skew_s_max=self._skew_s)


def canonical(method: bytes, path: bytes, query: bytes, body: bytes, timestamp: bytes, nonce: bytes) -> bytes:
    """Return the octets a MAC is made over: six lines, as docs/api/authentication.md says."""
    fields = b"&".join(sorted(field for field in query.split(b"&") if field)) if query else b""
    digest = hashlib.sha256(body).hexdigest().encode()
    return b"\n".join((method, path, fields, digest, timestamp, nonce))


def mac_of(secret: bytes, octets: bytes) -> str:
    """Return the HMAC-SHA256 as 64 hexadecimal digits."""
    return hmac.digest(secret, octets, "sha256").hex()


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def caller_address(peer: str, forwarded_for: bytes, trusted: Sequence[Network]) -> Address | None:
    """Return who is calling: the peer, or, where the peer is a trusted proxy, whom it forwards for.

    X-Forwarded-For is read from the right, and the first address that is no trusted proxy of ours counts:
    what stands further left is only what that caller claimed. Without a peer the request came over the socket of our
    own doors (forward.py), which say who asked.
    """
    if not peer:
        return _address(forwarded_for.decode("latin-1").strip())
    address = _address(peer)
    hops = forwarded_for.decode("latin-1").split(",")[-HOPS_MAX:] if forwarded_for else []
    while address is not None and hops and any(address in network for network in trusted):
        address = _address(hops.pop().strip())
    return address


@lru_cache(maxsize=1_024)
def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)  # how a dual-stack socket shows IPv4 peers
    return address if mapped is None else mapped


def demand_active(key: Key) -> None:
    """Ask whether a key may still be used. Raises Refusal."""
    if key.expires_at_s and clock.now_s() >= key.expires_at_s:  # a snapshot may be older than that moment
        raise Refusal(Code.AUTH_KEY_NOT_FOUND)
    if not key.tenant.active:
        raise Refusal(Code.ACCOUNT_SUSPENDED)


class _Signed:
    """The parameters of a signed request, well formed but not yet believed."""

    __slots__ = ("key_id", "mac", "nonce", "timestamp", "timestamp_s")

    def __init__(self, key_id: str, timestamp: str, nonce: str, mac: str) -> None:
        self.key_id = key_id
        self.timestamp = timestamp.encode()
        self.timestamp_s = int(timestamp)
        self.nonce = nonce.encode()
        self.mac = mac


FORMS: Final[Mapping[str, re.Pattern[str]]] = {
    "key_id": re.compile(r"[!-+\--<>-~]{1,64}"),  # visible, without comma and equals sign
    "timestamp": re.compile(r"[0-9]{1,12}"),
    "nonce": re.compile(r"[A-Za-z0-9_-]{16,64}"),
    "mac": re.compile(r"[0-9a-f]{64}"),
}


def _read_signed(text: str) -> _Signed:
    given: dict[str, str] = {}
    for parameter in text.split(","):
        name, _, value = parameter.strip().partition("=")
        if name in given or name not in FORMS:
            raise Refusal(Code.AUTH_MISSING, reason="key_id, timestamp, nonce and mac are needed, each once")
        given[name] = value
    for name, form in FORMS.items():
        if name not in given or form.fullmatch(given[name]) is None:
            raise Refusal(Code.AUTH_MISSING, parameter=name, pattern=form.pattern)
    return _Signed(**given)


def _signed_key(asked: Asked, signed: _Signed, snapshot: Snapshot) -> Key:
    key = snapshot.keys.get(signed.key_id)
    secret = _NOBODY if key is None else key.secret.reveal()
    octets = canonical(asked.method, asked.path, asked.query, asked.body, signed.timestamp, signed.nonce)
    same = hmac.compare_digest(mac_of(secret, octets), signed.mac)  # made for unknown keys too: same time
    if key is None:
        raise Refusal(Code.AUTH_KEY_NOT_FOUND)
    if not same:
        raise Refusal(Code.AUTH_SIGNATURE_MISMATCH)
    return key


def _basic_key(text: str, snapshot: Snapshot) -> Key:
    try:
        key_id, colon, given = base64.b64decode(text.strip(), validate=True).partition(b":")
        name = key_id.decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise Refusal(Code.AUTH_MISSING, reason="not base64 of key_id:secret") from None
    if not colon:
        raise Refusal(Code.AUTH_MISSING, reason="not base64 of key_id:secret")
    key = snapshot.keys.get(name)
    secret = _NOBODY if key is None else key.secret.reveal()
    same = hmac.compare_digest(hashlib.sha256(secret).digest(), hashlib.sha256(given).digest())
    if key is None:
        raise Refusal(Code.AUTH_KEY_NOT_FOUND)
    if not same:
        raise Refusal(Code.AUTH_SIGNATURE_MISMATCH)
    if not key.allow_basic:
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="this key must sign its requests")
    return key


_NOBODY: Final = b"\x00" * 32  # stands in for the secret of a key that does not exist
