"""What somebody must do before a code is sent: an invisible proof of work, or a slider puzzle.

Writes: challenge_used. Entry points: Challenges.make() and .read(), doublings(), requests(), use(). Nothing is
stored until an answer comes: a challenge carries all that must be known of it, under a MAC or sealed. It is made for one
number in one scene (`bound`), ends after CHALLENGE_S, and counts once, right or wrong.

The proof of work speaks ALTCHA's protocol of version 1: docs/decisions/0024-challenges-that-cost-little-to-check.md says
why. A puzzle carries one of its own, so that guessing where the piece belongs is never cheaper than the rung below; and,
for people who cannot see or push it, a longer one that takes its place.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, LiteralString
from urllib.parse import parse_qsl

import msgspec
from altcha import v1 as altcha
from msgspec import Meta

from hongyan import db
from hongyan.otp import slider
from hongyan.vault import Vault, VaultError
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.verification import Level

CHALLENGE_S: Final = 300
WORK: Final = 200_000  # numbers to be tried at most, half of them as a rule: 0.1 to 0.2 s of a phone of today
INSTEAD: Final = 32  # times as many in place of a puzzle
DOUBLINGS_MAX: Final = 6
REQUESTS_A_DOUBLING: Final = 10
GIVEN_CHARACTERS_MAX: Final = 4_000
TOKEN_OCTETS: Final = 16
CLOCKS_S: Final = 60.0  # between the clocks of several machines

_WORK_ALONE, _WORK_INSTEAD, _WORK_BESIDE = "work", "instead", "beside"


def doublings(requests: int) -> int:
    """Return the hardness for a key (an address, a device) that asked so often lately: twice as much work every ten."""
    return min(max(requests, 0) // REQUESTS_A_DOUBLING, DOUBLINGS_MAX)


REQUESTS_SQL: LiteralString = "SELECT cardinality(hits) FROM otp_limit WHERE key = $1"


async def requests(tx: db.Tx, key: bytes) -> int:
    """Return how often a key of otp_limit asked lately, for doublings()."""
    return await tx.fetchval(REQUESTS_SQL, key) or 0


class Solved(msgspec.Struct, frozen=True):
    """A challenge of ours that was answered in time for what it was made for. Whether it was used before, use() knows."""

    level: Level
    token: bytes  # what stands for it in challenge_used
    right: bool  # a wrong answer is used up all the same
    expires_at_s: float


class _Work(msgspec.Struct, frozen=True):
    """ALTCHA's payload (version 1). Some clients add how long it took."""

    algorithm: Literal["SHA-256"]
    challenge: Annotated[str, Meta(max_length=64)]
    number: Annotated[int, Meta(ge=0, le=2**40)]
    salt: Annotated[str, Meta(max_length=300)]
    signature: Annotated[str, Meta(max_length=64)]


class _Pushed(msgspec.Struct, frozen=True):
    """Where a piece was pushed to, and the work beside it."""

    token: Annotated[str, Meta(max_length=400)]
    left: Annotated[int, Meta(ge=0, le=slider.WIDTH)]
    work: Annotated[str, Meta(max_length=1_000)]


class _Sealed(msgspec.Struct, frozen=True, array_like=True):
    """What a puzzle's token holds."""

    made_for: str
    left: int
    expires_at_s: int


class Challenges:
    """Makes challenges and reads answers. All processes of an install know each other's."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._key = vault.keyed_hash(b"altcha")
        self._drawer = slider.Drawer()

    def make(self, level: Level, bound: bytes, hardness: int, now_s: float) -> Mapping[str, object]:
        """Return a challenge as JSON for a browser. `hardness`: how often its work is doubled (doublings()).

        `bound` says for what it is good; the answer is read with the same. A puzzle takes about 3 ms to draw, work some 15 µs.
        """
        assert level in (Level.WORK, Level.SLIDER), level
        hardness = min(max(hardness, 0), DOUBLINGS_MAX)
        expires_at_s = int(now_s) + CHALLENGE_S
        work = WORK << hardness
        if level is Level.WORK:
            return {"kind": "work", **self._work(_WORK_ALONE, bound, work, expires_at_s)}
        puzzle = self._drawer.draw()
        plain = msgspec.msgpack.encode(_Sealed(_made_for(bound), puzzle.left, expires_at_s))
        sealed = self._vault.seal_secret(plain)
        return {
            "kind": "slider",
            "token": base64.urlsafe_b64encode(sealed).decode(),
            "picture": "data:image/jpeg;base64," + base64.b64encode(puzzle.picture).decode(),
            "piece": "data:image/png;base64," + base64.b64encode(puzzle.piece).decode(),
            "width": slider.WIDTH,
            "height": slider.HEIGHT,
            "piece_size": slider.PIECE,
            "top": puzzle.top,
            "work": self._work(_WORK_BESIDE, bound + sealed, work, expires_at_s),
            "instead": self._work(_WORK_INSTEAD, bound, work * INSTEAD, expires_at_s),
            "expires_at": expires_at_s,
        }

    def _work(self, kind: str, bound: bytes, most: int, expires_at_s: int) -> Mapping[str, object]:
        made = altcha.create_challenge(
            altcha.ChallengeOptions(
                algorithm="SHA-256",
                max_number=most,
                number=secrets.randbelow(most) + 1,
                hmac_key=self._key,
                expires=datetime.fromtimestamp(expires_at_s, UTC),
                params={"kind": kind, "for": _made_for(bound)},
            )
        )
        return {**made.to_dict(), "expires_at": expires_at_s}

    def read(self, given: str, bound: bytes, now_s: float) -> Solved:
        """Read an answer: base64 of ALTCHA's payload, or of a puzzle's {token, left, work}.

        Raises Refusal where it is forged, has expired, or was made for another number or scene. Whoever goes on with it has to
        use() it first, right or wrong.
        """
        payload = _payload(given)
        if isinstance(payload, _Pushed):
            return self._read_pushed(payload, bound, now_s)
        kind, expires_at_s = self._read_work(payload, now_s, {_WORK_ALONE: bound, _WORK_INSTEAD: bound})
        level = Level.WORK if kind == _WORK_ALONE else Level.SLIDER
        return Solved(level, _token(payload.signature.encode()), True, expires_at_s)

    def _read_pushed(self, pushed: _Pushed, bound: bytes, now_s: float) -> Solved:
        try:
            sealed = base64.b64decode(pushed.token, altchars=b"-_", validate=True)
            puzzle = msgspec.msgpack.decode(self._vault.unseal_secret(sealed).reveal(), type=_Sealed)
        except (ValueError, VaultError, msgspec.MsgspecError):
            raise failed("forged") from None
        if not hmac.compare_digest(puzzle.made_for, _made_for(bound)):
            raise failed("foreign")
        if now_s >= puzzle.expires_at_s:
            raise failed("expired")
        work = _payload(pushed.work)
        if isinstance(work, _Pushed):
            raise failed("forged")
        self._read_work(work, now_s, {_WORK_BESIDE: bound + sealed})
        right = slider.fits(puzzle.left, pushed.left)
        return Solved(Level.SLIDER, _token(sealed), right, float(puzzle.expires_at_s))

    def _read_work(self, work: _Work, now_s: float, kinds: Mapping[str, bytes]) -> tuple[str, float]:
        """Return the kind of a work that is done, and when it expires. `kinds`: what each must have been made for."""
        # As altcha.verify_solution does, but in constant time, by the clock that is handed in, and after bounds: that
        # would write a number of any length in decimal digits.
        if not work.salt.endswith("&"):
            raise failed("forged")
        challenge = altcha.hash_hex("SHA-256", f"{work.salt}{work.number}".encode())
        mac = altcha.hmac_hex("SHA-256", challenge.encode(), self._key)
        same = hmac.compare_digest(challenge.encode(), work.challenge.encode())
        if not hmac.compare_digest(mac.encode(), work.signature.encode()) or not same:
            raise failed("forged")
        terms = dict(parse_qsl(work.salt.partition("?")[2]))  # ours: the MAC is over them
        bound = kinds.get(terms["kind"])
        if bound is None or not hmac.compare_digest(terms["for"], _made_for(bound)):
            raise failed("foreign")
        if now_s >= int(terms["expires"]):
            raise failed("expired")
        return terms["kind"], float(terms["expires"])


def failed(reason: str) -> Refusal:
    """Return the refusal of an answer: forged, foreign, expired, wrong or used."""
    return Refusal(Code.VERIFY_CHALLENGE_FAILED, reason=reason)


def _payload(given: str) -> _Work | _Pushed:
    if len(given) > GIVEN_CHARACTERS_MAX:
        raise failed("forged")
    try:
        read: Any = msgspec.json.decode(base64.b64decode(given, validate=True))
        if isinstance(read, dict) and "token" in read:
            return msgspec.convert(read, _Pushed)
        return msgspec.convert(read, _Work)
    except (binascii.Error, ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        raise failed("forged") from None


def _made_for(bound: bytes) -> str:
    return hashlib.sha256(bound).hexdigest()[: TOKEN_OCTETS * 2]


def _token(unique: bytes) -> bytes:
    return hashlib.sha256(unique).digest()[:TOKEN_OCTETS]


# In order, so that two batches with the same answers wait for each other instead of deadlocking.
USE_SQL: LiteralString = """
INSERT INTO challenge_used (token, until)
SELECT token, to_timestamp(until_s) FROM unnest($1::bytea[], $2::float8[]) u(token, until_s) ORDER BY token
    ON CONFLICT DO NOTHING
RETURNING token
"""


async def use(tx: db.Tx, solved: Sequence[Solved]) -> set[bytes]:
    """Use answers up, right or wrong, and return the tokens of those that had not been used before.

    Where two of one batch have the same token, it is good for one of them. The transaction has to commit also where what
    was asked with an answer is then refused; else it could be given again.
    """
    if not solved:
        return set()
    until = {each.token: each.expires_at_s + CLOCKS_S for each in solved}
    rows = await tx.fetch(USE_SQL, list(until), list(until.values()))
    return {row["token"] for row in rows}
