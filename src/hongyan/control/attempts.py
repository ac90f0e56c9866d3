"""How often somebody may try to get in: for an e-mail, and for an address, over all processes.

Writes: sign_in_attempt. Entry points: count(), before a password or code is looked at; forgive(), after it was right;
clear(). An attempt is counted before it is known to be wrong, so that a hundred at once are not all let through.
After FREE of them each one waits, twice as long each time. A success clears the e-mail's count; of the address it
takes back only its own attempt, because who knows one password may still be guessing others.
"""

import ipaddress
from typing import Final, LiteralString

from hongyan import db
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal

EMAIL_FREE: Final = 5  # wrong ones in a row
ADDRESS_FREE: Final = 20  # an office has one address
WAIT_S: Final = 60  # after the last free one; then 120, 240 …
WAIT_S_MAX: Final = 3_600
DOUBLINGS_MAX: Final = 6  # 60 s · 2⁶ is beyond WAIT_S_MAX
FORGET_S: Final = 900  # without an attempt, once there is nothing to wait for
IPV6_PREFIX: Final = 64  # what one household or machine has of IPv6

# The wait after the n-th attempt stands in both statements alike.
COUNT_SQL: LiteralString = """
INSERT INTO sign_in_attempt AS a (key, count) VALUES ($1, 1)
    ON CONFLICT (key) DO UPDATE SET last_at = now(), count = CASE
       WHEN a.last_at + make_interval(secs => $6) + make_interval(secs => CASE WHEN a.count < $2 THEN 0
            ELSE least($4, $3 * 2 ^ least(a.count - $2, $5)) END) < now()
       THEN 1 ELSE a.count + 1 END
     WHERE a.last_at + make_interval(secs => CASE WHEN a.count < $2 THEN 0
           ELSE least($4, $3 * 2 ^ least(a.count - $2, $5)) END) <= now()
RETURNING count
"""
WAIT_SQL: LiteralString = """
SELECT extract(epoch FROM last_at - now())::float8 + CASE WHEN count < $2 THEN 0
       ELSE least($4, $3 * 2 ^ least(count - $2, $5)) END FROM sign_in_attempt WHERE key = $1
"""


async def count(tx: db.Tx, vault: Vault, email: str, address: str) -> None:
    """Count one attempt; the caller commits whatever becomes of it. Raises Refusal (Auth.TooManyAttempts)."""
    for key, free in ((_email_key(vault, email), EMAIL_FREE), (_address_key(vault, address), ADDRESS_FREE)):
        terms = (key, free, float(WAIT_S), float(WAIT_S_MAX), DOUBLINGS_MAX)
        if await tx.fetchval(COUNT_SQL, *terms, float(FORGET_S)) is None:
            raise Refusal(
                Code.AUTH_TOO_MANY_ATTEMPTS, retry_after_s=max(1.0, await tx.fetchval(WAIT_SQL, *terms) or 0)
            )


CLEAR_SQL: LiteralString = "DELETE FROM sign_in_attempt WHERE key = $1"
TAKE_BACK_SQL: LiteralString = "UPDATE sign_in_attempt SET count = count - 1 WHERE key = $1 AND count > 0"


async def forgive(tx: db.Tx, vault: Vault, email: str, address: str) -> None:
    """Take back what count() counted: the attempt was right."""
    await tx.execute(CLEAR_SQL, _email_key(vault, email))
    await tx.execute(TAKE_BACK_SQL, _address_key(vault, address))


async def take_back(tx: db.Tx, vault: Vault, email: str, address: str) -> None:
    """Take back one attempt that was neither right nor wrong."""
    for key in (_email_key(vault, email), _address_key(vault, address)):
        await tx.execute(TAKE_BACK_SQL, key)


async def clear(tx: db.Tx, vault: Vault, email: str) -> None:
    """Let somebody try again at once who was locked out by others' attempts."""
    await tx.execute(CLEAR_SQL, _email_key(vault, email))


def _email_key(vault: Vault, email: str) -> bytes:
    plain = email.strip().lower()  # as users.find_by_email() reads it: one person has one count
    return vault.keyed_hash(b"sign_in email", plain.encode("utf-8", "replace"))


def _address_key(vault: Vault, address: str) -> bytes:
    try:
        known = ipaddress.ip_address(address)
        if known.version == 6 and known.ipv4_mapped is None:
            address = str(ipaddress.ip_network((known, IPV6_PREFIX), strict=False))
    except ValueError:  # a Unix socket has none
        pass
    return vault.keyed_hash(b"sign_in address", address.encode())
