"""What an app's own server gets as proof that somebody has a number: signed, good for 5 minutes, and once.

Writes: verification (proved_at). Entry points: Proofs.make(), Proofs.read(), redeem().
A proof is a JSON Web Token (RFC 7519) with HS256 under a key of the tenant's that only we have. It names the verification
and no number, because it travels through browsers; who redeems it with an app key is told the number.
"""

import base64
import hmac
import secrets
import uuid
from typing import Final, LiteralString

import msgspec

from hongyan import clock, db
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.way.snapshot import Key

PROOF_S: Final = 300
_HEAD: Final = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
CHARACTERS_MAX: Final = 600


class Claims(msgspec.Struct, frozen=True):
    """What a proof says: verification, tenant and app, scene, until when, and its own name."""

    sub: uuid.UUID
    tid: int
    aud: int
    scene: str
    exp: int
    jti: str


class Proofs:
    """Makes and reads proofs; whether one was used before only the database knows."""

    def __init__(self, vault: Vault) -> None:
        self._key = vault.derived("otp proof")

    def make(
        self, verification: uuid.UUID, tenant_id: int, app_id: int, scene: str, now_s: float
    ) -> tuple[str, bytes]:
        """Return a proof, and the hash by which the row of its verification knows it."""
        claims = Claims(
            verification, tenant_id, app_id, scene, int(now_s) + PROOF_S, secrets.token_urlsafe(12)
        )
        text = f"{_HEAD}.{_text(msgspec.json.encode(claims))}"
        return f"{text}.{_text(self._mac(text))}", self.hash(claims)

    def read(self, proof: str, tenant_id: int, now_s: float) -> Claims:
        """Return what a proof of this tenant's says; raises Refusal where it is forged, another's or too old."""
        text, _, mac = proof.rpartition(".")
        head, _, body = text.partition(".")
        if (
            len(proof) > CHARACTERS_MAX
            or head != _HEAD
            or not hmac.compare_digest(mac.encode(), _text(self._mac(text)).encode())
        ):
            raise Refusal(Code.VERIFY_PROOF_INVALID, reason="this is no proof of ours")
        claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=Claims)
        if claims.tid != tenant_id:
            raise Refusal(Code.VERIFY_PROOF_INVALID, reason="this is no proof of ours")
        if claims.exp <= now_s:
            raise Refusal(Code.VERIFY_PROOF_INVALID, reason="it is too old")
        return claims

    def hash(self, claims: Claims) -> bytes:
        return hmac.digest(self._key, b"jti" + claims.jti.encode(), "sha256")[:16]

    def _mac(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode(), "sha256")


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


REDEEM_SQL: LiteralString = """
UPDATE verification SET proved_at = $5
 WHERE tenant_id = $1 AND id = $2 AND app_id = $3 AND sandbox = $6 AND proof_hash = $4 AND proved_at IS NULL
   AND proof_until > $5
RETURNING scene, sealed, medium, ended_at
"""


async def redeem(tx: db.Tx, claims: Claims, proof_hash: bytes, key: Key, now_s: float) -> db.Row:
    """Use a proof up and return the row it proves; raises Refusal where it was used, or is another app's.

    What a sandbox key has proved proves nothing to another: its code is known.
    """
    row = await tx.fetchrow(
        REDEEM_SQL,
        claims.tid,
        db.Uuid(claims.sub.bytes),
        key.app_id,
        proof_hash,
        clock.moment(now_s),
        key.sandbox,
    )
    if row is None:
        raise Refusal(Code.VERIFY_PROOF_INVALID, reason="it was used before, or is another app's")
    return row
