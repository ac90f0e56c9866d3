"""What a page may ask with a site key: what to show, a challenge, a code, whether a code is right, the code once more.

Writes nothing itself; Issuer and Checker do, as for an app's own server (verify.py). Entry points: answer(), preflight().
Every path names the site key, so that the browser's question beforehand (CORS preflight) can be answered for the origins of
that key alone. Who asks is nobody we know: answers say what a person at a page needs and no more, and wrong, unknown, expired and
used-up codes look alike. What a refusal really was is in the log, under the request's id.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
import phonenumbers

from hongyan.control.site_keys import ORIGIN_CHARACTERS_MAX
from hongyan.doors import deeds, exchange
from hongyan.doors.auth import demand_active
from hongyan.doors.deeds import (
    AskedForm,
    AskedGuess,
    AskedNewCode,
    AskedSameCode,
    AskedWork,
    CallingCountry,
    Challenged,
    CodeOnItsWay,
    FormCounted,
    FormSettings,
    GuessVerdict,
)
from hongyan.doors.door import Door
from hongyan.doors.even import CHECK_S, START_S, wait_evenly
from hongyan.doors.exchange import Answer, Asked
from hongyan.otp import challenge, codes
from hongyan.otp.check import CheckedCode, Guess
from hongyan.otp.issue import Started
from hongyan.otp.policy import policy_for
from hongyan.otp.resend import Again
from hongyan.otp.wish import Wish, bound_to, keys_of, network
from hongyan.vocab import phone
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.verification import Level
from hongyan.way.snapshot import SiteKey

PATH: Final = f"{deeds.ROOT}/{{deed}}"
PREFLIGHT_S: Final = 7_200  # as long as browsers remember one at most
WAIT_S: Final = 15.0
EVERYWHERE: Final = "*"
MAINLAND: Final = "CN"


class Said(NamedTuple):
    """An answer, and what a browser must know of it besides."""

    answer: Answer
    headers: Mapping[str, str]


class Page(NamedTuple):
    """A page that asks."""

    door: Door
    site_key: SiteKey
    asked: Asked

    @property
    def address(self) -> bytes:
        return network(self.door.gate.address(self.asked))


Deed = Callable[[Page], Awaitable[object]]
T = TypeVar("T", bound=msgspec.Struct)

# ─── who asks ─────────────────────────────────────────────────────────────────────────────────────────────


async def answer(door: Door, asked: Asked, path: Mapping[str, str], head: Mapping[str, str]) -> Said:
    """Answer one question of a page; `head`: the headers of its request."""
    begun_s = asyncio.get_running_loop().time()
    said = await _answer(door, asked, path, head)
    await wait_evenly(begun_s, CHECK_S if path.get("deed") == "check" else START_S)
    return said


async def _answer(door: Door, asked: Asked, path: Mapping[str, str], head: Mapping[str, str]) -> Said:
    origin = head.get("origin", "")
    headers: Mapping[str, str] = {"vary": "Origin"}
    try:
        site_key = _site_key(door, path)
        _demand_origin(site_key, head)
        headers = {
            **headers,
            **_shared_with(origin),
            "access-control-expose-headers": "Retry-After, X-Request-Id",
        }
        demand_active(site_key.key)
        deed = _deed(path)
        async with asyncio.timeout(WAIT_S):
            told = await deed(Page(door, site_key, asked))
        return Said(exchange.answered(asked, told), headers)
    except Refusal as refusal:
        return Said(_refuse(door, asked, refusal, path["deed"]), headers)
    except Exception as error:  # noqa: BLE001 - the top of a request: it is logged and answered
        return Said(door.broken(asked, error), headers)


def preflight(door: Door, path: Mapping[str, str], origin: str) -> Mapping[str, str]:
    """Return the headers that let a browser go on, for a page of the key's origins; for any other, none that do."""
    site_key = door.snapshots.current.site_keys.get(path["site_key"])
    if site_key is None or origin not in site_key.origins:
        return {"vary": "Origin"}
    return _shared_with(origin) | {
        "vary": "Origin",
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "Content-Type",
        "access-control-max-age": str(PREFLIGHT_S),
    }


def may_ask(site_key: SiteKey, head: Mapping[str, str]) -> bool:
    """Tell whether a page from there may use the key: one of its origins, or our own hosted page.

    Browsers say Origin with every POST (Fetch standard, section 3.1) and no script can say another. That a page is ours they say
    as well, where they trust the connection (Fetch Metadata); else its Origin names the host that was asked. A program can say
    what it likes; to it the challenge and the limits speak.
    """
    origin = head.get("origin", "")
    if origin in site_key.origins or head.get("sec-fetch-site") == "same-origin":
        return True
    parts = urlsplit(origin) if len(origin) <= ORIGIN_CHARACTERS_MAX else urlsplit("")
    return parts.scheme in {"https", "http"} and bool(parts.netloc) and parts.netloc == head.get("host")


def _demand_origin(site_key: SiteKey, head: Mapping[str, str]) -> None:
    if not may_ask(site_key, head):
        raise Refusal(Code.VERIFY_ORIGIN_DENIED, origin=head.get("origin", "")[:ORIGIN_CHARACTERS_MAX])


def _shared_with(origin: str) -> dict[str, str]:
    return {"access-control-allow-origin": origin}


def _site_key(door: Door, path: Mapping[str, str]) -> SiteKey:
    found = door.snapshots.current.site_keys.get(path["site_key"])
    if found is None:
        raise Refusal(Code.AUTH_KEY_NOT_FOUND)
    return found


def _deed(path: Mapping[str, str]) -> Deed:
    deed = DEEDS.get(path["deed"])
    if deed is None:
        raise Refusal(Code.REQUEST_ROUTE_NOT_FOUND)
    return deed


# ─── what is asked ────────────────────────────────────────────────────────────────────────────────────────


async def _settings(page: Page) -> FormSettings:
    _read(page, _FORM)
    return FormSettings(_countries_of(page.site_key))


async def _opened(page: Page) -> FormCounted:
    asked = _read(page, _FORM)
    key = page.site_key.key
    page.door.pages.opened(key.tenant.id, key.app_id, asked.scene)
    return FormCounted()


async def _challenge(page: Page) -> Challenged:
    """Give the work out before the code is asked for: a page can have it done while it says so."""
    asked, tenant_id = _read(page, _WORK), page.site_key.key.tenant.id
    door, e164 = page.door, _number(asked.number)
    who = keys_of(
        door.vault,
        tenant_id,
        door.vault.phone_index(e164),
        Wish(to=e164, scene=asked.scene, address=page.address),
    )
    async with door.database.transaction() as tx:
        hardness = challenge.doublings(await challenge.requests(tx, who.address or who.number))
    bound = bound_to(door.vault, tenant_id, e164, asked.scene)
    return Challenged(door.issuer.challenges.make(Level.WORK, bound, hardness, door.issuer.now_s()))


async def _start(page: Page) -> CodeOnItsWay:
    asked, site_key = _read(page, _CODE), page.site_key
    wish = Wish(
        to=_number(asked.number),
        scene=asked.scene,
        language=asked.language,
        address=page.address,
        device=asked.device,
        challenge=asked.challenge,
        site_key_id=site_key.id,
    )
    started: Started = await _heard(lambda heard: page.door.issuer.offer(site_key.key, wish, heard))
    return _on_its_way(page, started)


async def _resend(page: Page) -> CodeOnItsWay:
    asked, site_key = _read(page, _SAME_CODE), page.site_key
    again = Again(
        address=page.address, device=asked.device, challenge=asked.challenge, site_key_id=site_key.id
    )
    try:
        started = await page.door.resender.resend(site_key.key, _id(page, asked.verification), again)
    except Refusal as refusal:
        if refusal.code is Code.VERIFY_NOT_FOUND:
            raise Refusal(Code.VERIFY_ENDED) from None
        raise
    return _on_its_way(page, started)


async def _check(page: Page) -> GuessVerdict:
    asked, site_key = _read(page, _GUESS), page.site_key
    guess = Guess(id=_id(page, asked.verification), code=asked.code, site_key_id=site_key.id)
    checked: CheckedCode = await _heard(lambda heard: page.door.checker.offer(site_key.key, guess, heard))
    return GuessVerdict(checked.valid, checked.proof)


DEEDS: Final[Mapping[str, Deed]] = {
    "settings": _settings,
    "opened": _opened,
    "challenge": _challenge,
    "start": _start,
    "resend": _resend,
    "check": _check,
}
_FORM: Final = msgspec.json.Decoder(AskedForm)
_WORK: Final = msgspec.json.Decoder(AskedWork)
_CODE: Final = msgspec.json.Decoder(AskedNewCode)
_SAME_CODE: Final = msgspec.json.Decoder(AskedSameCode)
_GUESS: Final = msgspec.json.Decoder(AskedGuess)


def _read(page: Page, decoder: msgspec.json.Decoder[T]) -> T:
    read: T = exchange.read(page.asked.body, decoder)
    scene = getattr(read, "scene", None)
    if scene is not None and scene not in page.site_key.scenes:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="scene", reason="the site key is not for this scene"
        )
    return read


def _number(written: str) -> str:
    try:
        return phone.parse(written).e164
    except phone.BadNumber as error:
        raise Refusal(Code.NUMBER_INVALID, reason=error.fault) from None


async def _heard(offer: Callable[[Callable[[Any], None]], None]) -> Any:
    """Wait for an answer by callback, and raise it where it is a refusal."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def heard(outcome: object) -> None:
        if not told.done():
            told.set_result(outcome)

    offer(heard)
    outcome = await told
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome


# An id alone is no secret: whoever makes verifications sees how ours go on. What a page holds can only be had from us, so nobody
# uses up the tries of somebody else's code.
def _handle(page: Page, verification: uuid.UUID) -> str:
    return f"{verification}.{_mac(page, verification)}"


def _id(page: Page, handle: str) -> uuid.UUID:
    """Return the id in a handle of ours; of any other, the id of nothing."""
    written, _, mac = handle.partition(".")
    try:
        verification = uuid.UUID(written)
    except ValueError:
        return uuid.UUID(int=0)
    same = codes.same(mac.encode(), _mac(page, verification).encode())
    return verification if same else uuid.UUID(int=0)


def _mac(page: Page, verification: uuid.UUID) -> str:
    return page.door.vault.keyed_hash(b"widget", page.site_key.key_id.encode(), verification.bytes).hex()


def _on_its_way(page: Page, started: Started) -> CodeOnItsWay:
    now_s = page.door.issuer.now_s()
    policy = policy_for(page.door.book.current.policies, page.site_key.key.tenant.id, started.scene)
    return CodeOnItsWay(
        verification=_handle(page, started.id),
        to=started.to,
        digits=started.digits,
        letters=policy.characters != codes.DIGITS,
        tries_left=started.tries_left,
        resend_in_s=max(0, round(started.resend_at.timestamp() - now_s)),
        expires_in_s=max(0, int(started.expires_at.timestamp() - now_s)),
    )


def _countries_of(site_key: SiteKey) -> Sequence[CallingCountry]:
    if site_key.key.sandbox:  # its numbers are of the mainland
        return _countries((MAINLAND,))
    return _countries(tuple(sorted(site_key.key.tenant.countries, key=lambda code: (code != MAINLAND, code))))


@cache
def _countries(codes_: Sequence[str]) -> Sequence[CallingCountry]:
    if EVERYWHERE in codes_:
        codes_ = sorted(phonenumbers.SUPPORTED_REGIONS, key=lambda code: (code != MAINLAND, code))
    calling = [(code, phonenumbers.country_code_for_region(code)) for code in codes_]
    return [CallingCountry(code, str(number)) for code, number in calling if number]


# ─── what is refused ──────────────────────────────────────────────────────────────────────────────────────

# By deed: what its document lists. Of what is no deed, whose page it is and that there is none.
_SAYS: Final[Mapping[str, frozenset[Code]]] = {
    route.path.rpartition("/")[2]: frozenset({*route.codes, Code.SYSTEM_BUSY, Code.SYSTEM_ERROR})
    for route in deeds.PAGES
}
_SAYS_BESIDES: Final = frozenset(
    {Code.AUTH_KEY_NOT_FOUND, Code.VERIFY_ORIGIN_DENIED, Code.REQUEST_ROUTE_NOT_FOUND}
)
_TOLD: Final = frozenset({"level", "challenge", "path", "parameter", "reason", "origin"})


def _refuse(door: Door, asked: Asked, refusal: Refusal, deed: str) -> Answer:
    """Count and log what it was, and say what a page may know."""
    told = door.refuse(asked, refusal)
    if refusal.code not in _SAYS.get(deed, _SAYS_BESIDES):
        return exchange.refused(asked, Refusal(Code.VERIFY_MEDIUM_DISABLED))
    detail = {name: value for name, value in refusal.detail.items() if name in _TOLD}
    if len(detail) < len(refusal.detail):
        return exchange.refused(asked, Refusal(refusal.code, retry_after_s=refusal.retry_after_s, **detail))
    return told
