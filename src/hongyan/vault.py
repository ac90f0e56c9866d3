"""Secrets and persons: seal what must be read again, MAC what is only compared or looked up.

Envelope: one master key (outside the database) wraps named data keys (table vault_key, written here
through control); tenants have a key each, so that a stolen dump shows nothing and a tenant can be shredded.
Sealed values are AES-256-GCM: 12 octets nonce, ciphertext, 16 octets tag; AAD names the key.
"""

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from hashlib import blake2b
from itertools import count
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_OCTETS = 32
NONCE_OCTETS = 12
COUNTER_OCTETS = 4  # of them
INDEX_OCTETS = 16


class VaultError(Exception):
    """A key is missing or wrong, or a sealed value was changed."""


class Secret:
    """A secret in memory that prints as ***."""

    __slots__ = ("_octets",)

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def reveal(self) -> bytes:
        return self._octets

    def __repr__(self) -> str:
        return "***"


def read_master_key(given_hex: str, path: Path) -> Secret:
    """Return the master key: the given one, else the file's; the file is made (0600) where there is none.

    Processes that start at once make one between them. Raises VaultError where the key is malformed or the file
    can be read by others.
    """
    if given_hex:
        return Secret(_octets_of(given_hex, "HONGYAN_MASTER_KEY"))
    if not path.exists():
        _make_master_key(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise VaultError(f"{path} can be read by others (mode {mode:o}); chmod 600 it")
    return Secret(_octets_of(path.read_text("ascii").strip(), str(path)))


def _make_master_key(path: Path) -> None:
    """Make the file whole or not at all: nobody ever reads half a key, and the first one made stays."""
    handle, draft = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(KEY_OCTETS) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # without its key all that the database promises is unreadable
    finally:
        os.close(folder)


def _octets_of(text: str, where: str) -> bytes:
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b""
    if len(octets) != KEY_OCTETS:
        raise VaultError(f"{where} must be {KEY_OCTETS * 2} hex digits")
    return octets


def make_wrapped(master: Secret, name: str) -> bytes:
    """Make a new data key and return it wrapped, ready for vault_key."""
    return wrap(master, name, secrets.token_bytes(KEY_OCTETS))


def wrap(master: Secret, name: str, key: bytes) -> bytes:
    nonce = os.urandom(NONCE_OCTETS)
    return nonce + AESGCM(master.reveal()).encrypt(nonce, key, name.encode())


def unwrap(master: Secret, name: str, wrapped: bytes) -> bytes:
    """Open a wrapped data key; raises VaultError under another master key."""
    try:
        return AESGCM(master.reveal()).decrypt(wrapped[:NONCE_OCTETS], wrapped[NONCE_OCTETS:], name.encode())
    except InvalidTag:
        raise VaultError(
            f"the master key does not open {name!r}: it is not the one this database was made with"
        ) from None


class _Nonces:
    """Nonces of this process, none twice under any key: 8 random octets and a counter (NIST SP 800-38D §8.2.1).

    Twelve random octets for each value would be a system call for each, and be safe for fewer values.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._prefix = os.urandom(NONCE_OCTETS - COUNTER_OCTETS)
        self._count = count()

    def make(self) -> bytes:
        number = next(self._count)
        if number >> (8 * COUNTER_OCTETS):
            self.renew()
            number = next(self._count)
        return self._prefix + number.to_bytes(COUNTER_OCTETS)


_nonces = _Nonces()
os.register_at_fork(after_in_child=_nonces.renew)


class Vault:
    """The opened keys. Names: 'index' and 'secrets' once, 'tenant:<id>' each, 'pepper:<version>' each."""

    def __init__(self, master: Secret, wrapped: Mapping[str, bytes]) -> None:
        self._master = master
        self._ciphers: dict[str, AESGCM] = {}
        self._keyed = blake2b(digest_size=INDEX_OCTETS)
        self._root = b""
        self._peppers: dict[int, bytes] = {}
        self.add(wrapped)

    def add(self, wrapped: Mapping[str, bytes]) -> None:
        """Take over keys that were made since (new tenants)."""
        for name, octets in wrapped.items():
            if name in self._ciphers:
                continue
            key = unwrap(self._master, name, octets)
            self._ciphers[name] = AESGCM(key)
            if name == "index":
                self._keyed = blake2b(key=key, digest_size=INDEX_OCTETS)
            elif name == "secrets":
                self._root = key
            elif name.startswith("pepper:"):
                self._peppers[int(name.removeprefix("pepper:"))] = key

    def phone_index(self, e164: str) -> bytes:
        """Return the keyed MAC (BLAKE2b, 16 octets) by which a number is looked up."""
        mac = self._keyed.copy()
        mac.update(e164.encode())
        return mac.digest()

    def keyed_hash(self, *values: bytes) -> bytes:
        """Return a keyed MAC over several values, each with its length, so that none runs into the next."""
        mac = self._keyed.copy()
        for value in values:
            mac.update(len(value).to_bytes(4) + value)
        return mac.digest()

    @property
    def peppers(self) -> Mapping[int, bytes]:
        """The keys under which codes are compared, by version; it grows when one is added."""
        return self._peppers

    def derived(self, purpose: str) -> bytes:
        """Return a key of 32 octets for one purpose, the same in every process."""
        if not self._root:
            raise VaultError("there is no key 'secrets'")
        return blake2b(purpose.encode(), key=self._root, digest_size=KEY_OCTETS).digest()

    def seal(self, tenant_id: int, plain: bytes) -> bytes:
        """Seal with the tenant's key."""
        return self._seal(f"tenant:{tenant_id}", plain)

    def unseal(self, tenant_id: int, sealed: bytes) -> bytes:
        """Open what seal() made; raises VaultError if it was changed or belongs to another tenant."""
        return self._unseal(f"tenant:{tenant_id}", sealed)

    def seal_secret(self, plain: bytes) -> bytes:
        """Seal a secret of the platform (app secrets, channel passwords)."""
        return self._seal("secrets", plain)

    def unseal_secret(self, sealed: bytes) -> Secret:
        return Secret(self._unseal("secrets", sealed))

    def _seal(self, name: str, plain: bytes) -> bytes:
        nonce = _nonces.make()
        return nonce + self._cipher(name).encrypt(nonce, plain, None)

    def _unseal(self, name: str, sealed: bytes) -> bytes:
        try:
            return self._cipher(name).decrypt(sealed[:NONCE_OCTETS], sealed[NONCE_OCTETS:], None)
        except InvalidTag:
            raise VaultError(f"a value sealed under {name!r} was changed or belongs to another key") from None

    def _cipher(self, name: str) -> AESGCM:
        try:
            return self._ciphers[name]
        except KeyError:
            raise VaultError(f"there is no key {name!r}") from None
