"""Authenticators: the one-time codes that are asked for besides the password, once a person has enrolled.

Writes: authenticator, recovery_code. Entry points: enrol(), confirm(), demand_code(), remove(). TOTP of RFC 6238:
6 digits, 30 seconds, SHA-1, which every authenticator knows. A code works once. Ten recovery codes, each good for one
sign-in, are for those who lose the authenticator. Recommended to people of the platform, forced on nobody.
"""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from hongyan import db
from hongyan.control import one_time
from hongyan.control.bounds import demand, demand_found
from hongyan.vault import Secret, Vault
from hongyan.vocab.errors import Code, Refusal


class Enrolment(NamedTuple):
    """What an authenticator is told; the only time it is seen."""

    secret: Secret  # base32, as people type it
    uri: str  # otpauth://…, as a QR code shows it


ENROL_SQL: LiteralString = """
INSERT INTO authenticator AS a (user_id, sealed) VALUES ($1, $2)
    ON CONFLICT (user_id) DO UPDATE SET sealed = EXCLUDED.sealed, created_at = now() WHERE NOT a.confirmed
RETURNING user_id
"""


async def enrol(tx: db.Tx, vault: Vault, user_id: int, email: str) -> Enrolment:
    """Make a secret for a person's authenticator. It is not asked for before confirm().

    Raises Refusal (Request.Conflict) where there is one already: remove() it first.
    """
    secret = one_time.new_totp()
    sealed = vault.seal_secret(secret.encode())
    if await tx.fetchval(ENROL_SQL, user_id, sealed) is None:
        raise Refusal(Code.REQUEST_CONFLICT, reason="there is an authenticator; remove it first")
    return Enrolment(Secret(secret.encode()), one_time.totp_uri(secret, email))


UNCONFIRMED_SQL: LiteralString = """
SELECT sealed FROM authenticator WHERE user_id = $1 AND NOT confirmed FOR UPDATE
"""
CONFIRM_SQL: LiteralString = "UPDATE authenticator SET confirmed = true, step = $2 WHERE user_id = $1"
NO_CODES_SQL: LiteralString = "DELETE FROM recovery_code WHERE user_id = $1"
CODES_SQL: LiteralString = "INSERT INTO recovery_code (user_id, hash) SELECT $1, unnest($2::bytea[])"


async def confirm(tx: db.Tx, vault: Vault, user_id: int, code: str) -> Sequence[str]:
    """Ask for codes from now on, the authenticator having shown one; returns the recovery codes, shown once.

    Raises Refusal where nothing waits to be confirmed, or the code is wrong.
    """
    sealed = demand_found(await tx.fetchval(UNCONFIRMED_SQL, user_id), authenticator="unconfirmed")
    step = one_time.totp_step(vault.unseal_secret(sealed).reveal().decode(), code)
    demand(step is not None, "code", "not what the authenticator shows now; is its clock right?")
    await tx.execute(CONFIRM_SQL, user_id, step)
    await tx.execute(NO_CODES_SQL, user_id)
    codes = one_time.new_recovery_codes()
    await tx.execute(CODES_SQL, user_id, [one_time.recovery_hash(each) for each in codes])
    return codes


READ_SQL: LiteralString = "SELECT sealed FROM authenticator WHERE user_id = $1 AND confirmed"


async def demand_code(tx: db.Tx, vault: Vault, user_id: int, code: str | None) -> None:
    """Ask for a right and unused code where the person has an authenticator. Raises Refusal (Auth.SignInFailed)."""
    sealed = await tx.fetchval(READ_SQL, user_id)
    if sealed is None:
        return
    if code is None or not (
        await _use(tx, user_id, one_time.totp_step(vault.unseal_secret(sealed).reveal().decode(), code))
        or await _use_recovery(tx, user_id, one_time.recovery_hash(code))
    ):
        raise Refusal(Code.AUTH_SIGN_IN_FAILED)


# Also between two processes that are shown the same code at once: the second finds the step taken.
USE_SQL: LiteralString = """
UPDATE authenticator SET step = $2 WHERE user_id = $1 AND confirmed AND step < $2 RETURNING user_id
"""


async def _use(tx: db.Tx, user_id: int, step: int | None) -> bool:
    return step is not None and await tx.fetchval(USE_SQL, user_id, step) is not None


RECOVER_SQL: LiteralString = "DELETE FROM recovery_code WHERE user_id = $1 AND hash = $2 RETURNING user_id"


async def _use_recovery(tx: db.Tx, user_id: int, hashed: bytes | None) -> bool:
    return hashed is not None and await tx.fetchval(RECOVER_SQL, user_id, hashed) is not None


REMOVE_SQL: LiteralString = """
WITH codes AS (DELETE FROM recovery_code WHERE user_id = $1)
DELETE FROM authenticator WHERE user_id = $1 RETURNING user_id
"""


async def remove(tx: db.Tx, user_id: int) -> None:
    """Ask for no more codes. Raises Refusal where the person has no authenticator."""
    demand_found(await tx.fetchval(REMOVE_SQL, user_id), authenticator="none")


LEFT_SQL: LiteralString = "SELECT count(*) FROM recovery_code WHERE user_id = $1"


async def recovery_codes_left(tx: db.Tx, user_id: int) -> int:
    return int(await tx.fetchval(LEFT_SQL, user_id))
