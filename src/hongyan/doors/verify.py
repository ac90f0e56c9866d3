"""Verification codes for an app's own server: start, check, send again, take back, redeem the proof.

Entry points: start() and check(), hot routes that answer by a callback; resend(), cancel(), redeem(). What a browser may ask
with a site key is in widget.py and comes to the same Issuer and Checker.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control.users import EMAIL, EMAIL_CHARACTERS_MAX
from hongyan.doors import exchange
from hongyan.doors.call import Caller
from hongyan.doors.door import Door
from hongyan.doors.even import CHECK_S, START_S, evenly
from hongyan.doors.exchange import Asked, Then
from hongyan.doors.messages import Name, Number, Params, Reference, admitted
from hongyan.otp import proof
from hongyan.otp import resend as resending
from hongyan.otp.check import CheckedCode, Guess
from hongyan.otp.issue import Started
from hongyan.otp.resend import Again
from hongyan.otp.wish import Kept, Wish, network
from hongyan.vocab import phone
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.verification import SCENE_BY_NUMBER, Scene, State
from hongyan.way.snapshot import Key

CHALLENGE_CHARACTERS_MAX: Final = 4_000

Amount = Annotated[str, Meta(max_length=20, description="As the text shows it: 1,299.00")]
Payee = Annotated[str, Meta(max_length=35)]
Address = Annotated[
    str, Meta(max_length=45, description="Of the person, so that one address cannot ask for many numbers")
]
Device = Annotated[
    str, Meta(max_length=64, description="Yours: what tells one browser or phone from another")
]
Challenge = Annotated[
    str,
    Meta(max_length=CHALLENGE_CHARACTERS_MAX, description="The answer to `detail.challenge` of a refusal"),
]
Email = Annotated[str, Meta(max_length=EMAIL_CHARACTERS_MAX, pattern=f"^({EMAIL.pattern})?$")]
Medium = Annotated[str, Meta(max_length=32, pattern="^([a-z][a-z_]*)?$")]
Proof = Annotated[str, Meta(max_length=proof.CHARACTERS_MAX)]


class AskedVerification(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who is to prove a number, and what for. The code is made here, and is in no answer."""

    to: Number
    scene: Scene
    language: Annotated[
        str, Meta(max_length=35, pattern="^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$", description="BCP 47 tag")
    ] = ""
    template: Annotated[
        Name, Meta(description="Empty: the policy's, else the first that was made and takes such a code")
    ] = ""
    signature: Name = ""
    params: Params = {}
    amount: Amount = ""
    payee: Payee = ""
    email: Email = ""
    medium: Medium = ""
    ip: Address = ""
    device: Device = ""
    challenge: Challenge = ""
    reference: Reference = ""


class AskedCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A code that somebody gave. What else is said has to be as it was asked; amount and payee must be, where something is paid."""

    code: Annotated[str, Meta(min_length=1, max_length=40)]
    to: Annotated[str, Meta(max_length=40)] = ""
    scene: Scene | None = None
    amount: Amount = ""
    payee: Payee = ""


class AskedAgain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the same code is to be sent once more. `medium`: left out, the first of the policy that reaches the person."""

    medium: Medium = ""
    email: Annotated[Email, Meta(description="For the medium email, where the request named none")] = ""
    ip: Address = ""
    device: Device = ""
    challenge: Challenge = ""


class AskedRedemption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a browser was given."""

    proof: Proof


class Proved(msgspec.Struct, frozen=True):
    """Somebody has this number: said once, and to the app's own server alone."""

    id: uuid.UUID
    to: str  # E.164, whole
    scene: Scene
    medium: str
    approved_at: datetime
    amount: str = ""
    payee: str = ""


class CanceledVerification(msgspec.Struct, frozen=True):
    id: uuid.UUID
    status: State


START_EXAMPLE: Final = {"to": "+8613800138000", "scene": "login", "ip": "203.0.113.7"}
# What may be wrong with a wish, besides what may be wrong with its message.
VERIFY: Final = (
    Code.VERIFY_TOO_MANY_SENDS,
    Code.VERIFY_MEDIUM_DISABLED,
    Code.VERIFY_CHALLENGE_REQUIRED,
    Code.VERIFY_CHALLENGE_FAILED,
    Code.VERIFY_SUSPECTED,
    Code.VERIFY_BUDGET,
    Code.VERIFY_FACTOR_REQUIRED,
    Code.VERIFY_CARELESS,
)

# ─── the hot routes ───────────────────────────────────────────────────────────────────────────────────────


def start(door: Door, asked: Asked, then: Then) -> None:
    """Answer POST /v1/verifications; `then` is called once, after both commits."""
    door.gate.admit(asked, partial(admitted, door, asked, evenly(then, START_S), _start))


def check(door: Door, asked: Asked, then: Then) -> None:
    """Answer POST /v1/verifications/{id}/check; `then` is called once, after the commit."""
    door.gate.admit(asked, partial(admitted, door, asked, evenly(then, CHECK_S), _check))


def _start(door: Door, asked: Asked, then: Then, key: Key) -> None:
    body: AskedVerification = exchange.read(asked.body, _START)
    wish = Wish(
        to=body.to,
        scene=body.scene,
        language=body.language,
        template=body.template,
        signature=body.signature,
        params=body.params,
        amount=body.amount,
        payee=body.payee,
        email=body.email,
        medium=body.medium,
        address=_address(body.ip),
        device=body.device,
        challenge=body.challenge,
        reference=body.reference,
    )
    door.issuer.offer(key, wish, partial(_told, door, asked, then, 201))


def _check(door: Door, asked: Asked, then: Then, key: Key) -> None:
    body: AskedCheck = exchange.read(asked.body, _CHECK)
    guess = Guess(
        id=_id(asked.path),
        code=body.code,
        scene=body.scene,
        phone_index=_index(door, body.to),
        amount=body.amount,
        payee=body.payee,
    )
    door.checker.offer(key, guess, partial(_told, door, asked, then, 200))


def _told(
    door: Door, asked: Asked, then: Then, status: int, outcome: Started | CheckedCode | Refusal
) -> None:
    if isinstance(outcome, Refusal):
        then(door.refuse(asked, outcome))
    else:
        then(exchange.answered(asked, outcome, status))


def _address(said: str) -> bytes:
    """Read a person's address. Raises Refusal where it is none: its limits would count nobody, and nobody would know."""
    read = network(said) if said else b""
    if said and not read:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="ip", reason="no address of IPv4 or IPv6")
    return read


def _index(door: Door, number: str) -> bytes | None:
    """Return what stands for a number that was said beside a code; one that is none stands for nobody."""
    if not number:
        return None
    try:
        return door.vault.phone_index(phone.parse(number).e164)
    except phone.BadNumber:
        return door.vault.phone_index("")


_CHECK_PATH: Final = re.compile(rb"/v1/verifications/([0-9a-fA-F-]{32,36})/check")


def _id(path: bytes) -> uuid.UUID:
    """Return the id in a path of check(); raises Refusal where it is none, so that it can be nobody's."""
    found = _CHECK_PATH.fullmatch(path)
    return _uuid({"id": found[1].decode() if found else ""})


def hot(url: bytes) -> Callable[[Door, Asked, Then], None] | None:
    """Return who answers a POST to this target at the socket, if one of ours does."""
    if url == b"/v1/verifications":
        return start
    return check if _CHECK_PATH.fullmatch(url) else None


# ─── the others ───────────────────────────────────────────────────────────────────────────────────────────


async def resend(door: Door, caller: Caller, asked: Asked, path: Mapping[str, str]) -> Started:
    """Send the same code once more."""
    body: AskedAgain = exchange.read(asked.body or b"{}", _AGAIN)
    again = Again(
        medium=body.medium,
        email=body.email,
        address=_address(body.ip),
        device=body.device,
        challenge=body.challenge,
    )
    return await door.resender.resend(caller.app_key, _uuid(path), again)


async def cancel(door: Door, caller: Caller, _asked: Asked, path: Mapping[str, str]) -> CanceledVerification:
    """End a verification that nobody needs any more."""
    async with door.database.transaction() as tx:
        await resending.cancel(tx, caller.app_key, _uuid(path), door.issuer.now_s())
    return CanceledVerification(_uuid(path), State.CANCELED)


async def redeem(door: Door, caller: Caller, asked: Asked, _path: Mapping[str, str]) -> Proved:
    """Use a proof up, and learn whose number it proves."""
    key, body = caller.app_key, exchange.read(asked.body, _PROOF)
    now_s = door.issuer.now_s()
    claims = door.checker.proofs.read(body.proof, key.tenant.id, now_s)
    async with door.database.transaction() as tx:
        row = await proof.redeem(tx, claims, door.checker.proofs.hash(claims), key, now_s)
    kept = msgspec.msgpack.decode(door.vault.unseal(key.tenant.id, row["sealed"]), type=Kept)
    return Proved(
        claims.sub,
        kept.e164,
        SCENE_BY_NUMBER[row["scene"]],
        row["medium"],
        row["ended_at"],
        kept.amount,
        kept.payee,
    )


def _uuid(path: Mapping[str, str]) -> uuid.UUID:
    try:
        return uuid.UUID(path["id"])
    except ValueError:
        raise Refusal(Code.VERIFY_NOT_FOUND) from None


_START: Final = msgspec.json.Decoder(AskedVerification)
_CHECK: Final = msgspec.json.Decoder(AskedCheck)
_AGAIN: Final = msgspec.json.Decoder(AskedAgain)
_PROOF: Final = msgspec.json.Decoder(AskedRedemption)
