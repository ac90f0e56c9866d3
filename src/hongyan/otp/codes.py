"""Codes as pure values: how one is made, what is compared in its place, and what it is bound to.

A code is drawn by the system's CSPRNG. What is stored to be compared is an HMAC-SHA256 over the code and all that it is
bound to (tenant, scene, number, verification, and what is paid to whom), under a key that no database holds: a dump of one
lets nobody try the million codes there are. Entry points: make(), Peppers.mac(), same().
"""

import hmac
import secrets
import uuid
from collections.abc import Mapping
from typing import Final

from hongyan.vocab.verification import Scene

DIGITS: Final = "0123456789"
# Without what people confuse: 0 O, 1 I L, 5 S, 2 Z, 8 B.
LETTERS: Final = "34679ACDEFGHJKMNPQRTUVWXY"
MAC_OCTETS: Final = 16
SANDBOX: Final = (
    "1234567890"  # what codes of sandbox keys begin with: programs that test theirs have to know it
)


def make(length: int, alphabet: str = DIGITS) -> str:
    """Draw a code, each as likely as any other; leading zeros are digits like others."""
    if alphabet == DIGITS:
        return f"{secrets.randbelow(10**length):0{length}d}"
    return "".join(secrets.choice(alphabet) for _ in range(length))


def spaces(length: int, alphabet: str = DIGITS) -> float:
    """Return how many codes there might be."""
    return float(len(alphabet) ** length)


def typed(code: str) -> str:
    """Return a code as it was meant: people type spaces, dashes and small letters, and full-width digits by their keyboards."""
    return "".join(code.translate(_WIDE).split()).replace("-", "").upper()


_WIDE: Final = str.maketrans({0xFF10 + n: str(n) for n in range(10)})


def binding(amount: str, payee: str) -> bytes:
    """Return what a payment adds to the MAC: amount and payee, each with its length; empty where nothing is paid."""
    if not amount and not payee:
        return b""
    return b"".join(len(part).to_bytes(2) + part for part in (amount.encode(), payee.encode()))


class Peppers:
    """The keys of the MACs, by version. The newest makes; older ones still compare until their codes have expired."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._keys = keys  # as the vault has them: one that is made meanwhile is there

    @property
    def newest(self) -> int:
        return max(self._keys)

    def mac(
        self,
        version: int,
        code: str,
        *,
        tenant_id: int,
        scene: Scene,
        phone_index: bytes,
        verification: uuid.UUID,
        bound: bytes,
    ) -> bytes:
        """Return the MAC of a code, 16 octets. An unknown version compares with nothing that was ever stored."""
        fields = (b"%d" % tenant_id, scene.encode(), phone_index, verification.bytes, bound, code.encode())
        octets = b"".join(len(field).to_bytes(2) + field for field in fields)
        return hmac.digest(self._keys.get(version, _NONE), octets, "sha256")[:MAC_OCTETS]


_NONE: Final = secrets.token_bytes(32)  # of a version that was taken away: no code fits it


def same(one: bytes | None, other: bytes) -> bool:
    """Compare in constant time; what is not there is compared as well, with nothing."""
    return hmac.compare_digest(one or _NOTHING, other)


_NOTHING: Final = bytes(MAC_OCTETS - 1) + b"\x01"
