"""Tokens: random, shown once, kept as a hash only. And the one-time codes of authenticators (RFC 6238).

Writes nothing. Entry points: new_token(), hash_of(), new_totp(), totp_step().
A plain SHA-256 is enough for what is random: there is nothing to guess, so nothing to make slow.
"""

import hashlib
import secrets
from typing import Final

import pyotp

from hongyan import clock

TOKEN_OCTETS: Final = 32
TOTP_STEP_S: Final = 30  # RFC 6238 section 5.2
TOTP_STEPS_OFF_MAX: Final = 1  # either way: clocks differ, people type slowly
TOTP_DIGITS: Final = 6
ISSUER: Final = "hongyan"
RECOVERY_CODES: Final = 10
RECOVERY_LETTERS: Final = 16  # of 32: 80 bits


def new_token(prefix: str = "") -> str:
    """Make a token of 256 random bits that needs no escaping anywhere."""
    return prefix + secrets.token_urlsafe(TOKEN_OCTETS)


def hash_of(token: str) -> bytes:
    """Return what is stored of a token; whatever was sent as one has a hash."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def new_totp() -> str:
    """Make a secret for an authenticator: 160 bits (RFC 4226 section 4, R6), in base32."""
    return pyotp.random_base32()


def totp_uri(secret: str, email: str) -> str:
    """Return what an authenticator reads as a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)


def totp_step(secret: str, code: str) -> int | None:
    """Return the time step a code is of, if it is right now or just before or after; else None.

    The caller remembers the step and takes none twice: a code that was looked over somebody's shoulder is used up
    (RFC 6238 section 5.2).
    """
    if not (len(code) == TOTP_DIGITS and code.isascii() and code.isdigit()):
        return None
    totp = pyotp.TOTP(secret)
    now = int(clock.now_s()) // TOTP_STEP_S
    right = [
        step
        for step in range(now - TOTP_STEPS_OFF_MAX, now + TOTP_STEPS_OFF_MAX + 1)
        if secrets.compare_digest(totp.generate_otp(step), code)
    ]
    return right[-1] if right else None


def new_recovery_codes() -> list[str]:
    """Make codes for those who lose their authenticator, as abcd-efgh-ijkl-mnop."""
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    codes = []
    for _ in range(RECOVERY_CODES):
        code = "".join(secrets.choice(letters) for _ in range(RECOVERY_LETTERS))
        codes.append("-".join(code[at : at + 4] for at in range(0, RECOVERY_LETTERS, 4)))
    return codes


def recovery_hash(code: str) -> bytes | None:
    """Return what is stored of a recovery code, however it is grouped; None for what cannot be one."""
    plain = code.replace("-", "").replace(" ", "").lower()
    if len(plain) != RECOVERY_LETTERS:
        return None
    return hash_of(plain)
