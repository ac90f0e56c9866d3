"""By which media a code goes: texts by a first and a second route, e-mail, and kinds that whoever runs the platform adds.

Writes nothing. Entry points: Media.send(), Media.reaches(), fault(), following().
A kind is added by a setting, HONGYAN_CODE_MEDIA=voice=my_calls:call,one_tap=my_carrier:tap: the function is given a Letter and says
whether it took it. None is there by itself. Voice least of all: calls to dear numbers are how code services are robbed, so
who adds it also says, in the function, which countries it calls.
"""

import asyncio
import importlib
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID

import msgspec
import structlog

from hongyan import mail
from hongyan.settings import Settings, SettingsError

log = structlog.get_logger()

SMS: Final = "sms"
SMS_OTHER_ROUTE: Final = "sms_other_route"  # a text that avoids the channel the last one went by
EMAIL: Final = "email"
TEXTS: Final = frozenset({SMS, SMS_OTHER_ROUTE})  # they go by way.accept, as every message does
SEND_WAIT_S: Final = 20.0
KIND: Final = re.compile(r"[a-z][a-z_]{0,31}")
HAN: Final = re.compile(r"[\u3400-\u9fff]")


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A code on its way by another medium than a text."""

    verification: UUID
    message_id: UUID  # of this send: the same where it is tried again after a crash
    to: str  # E.164
    email: str  # as the caller gave it; empty where he gave none
    code: str
    text: str  # the template's, with the code in it, without a signature
    signature: str
    language: str
    expires_at_s: float  # Unix seconds


Send = Callable[[Letter], Awaitable[bool]]


class Sender(Protocol):
    """One medium."""

    def reaches(self, email: str) -> bool:
        """Whether it could reach a person of whom the caller gave this address."""
        ...

    async def send(self, letter: Letter) -> bool:
        """Hand a letter over; False: it cannot reach this person. What it raises counts as failed."""
        ...


class Email:
    """E-mail by the platform's server (mail.py), to the address the caller gave."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def reaches(self, email: str) -> bool:
        return bool(email and self._settings.smtp_host)

    async def send(self, letter: Letter) -> bool:
        """Post the text. The subject has no code: it shows on locked screens."""
        what = "验证码" if HAN.search(letter.text) else "Your verification code"
        return await mail.send(self._settings, [letter.email], f"{letter.signature}: {what}", letter.text)


class Added:
    """A kind that somebody's function is."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def reaches(self, email: str) -> bool:  # noqa: ARG002 - the function itself says whom it does not reach
        return True

    async def send(self, letter: Letter) -> bool:
        return await self._send(letter)


class Media:
    """All media there are but texts. Raises SettingsError where one cannot be loaded."""

    def __init__(self, settings: Settings) -> None:
        self._senders: dict[str, Sender] = {EMAIL: Email(settings)}
        for kind, path in added(settings.code_media).items():
            self._senders[kind] = Added(_load(kind, path))

    @property
    def kinds(self) -> Sequence[str]:
        return [*sorted(TEXTS), *self._senders]

    def reaches(self, kind: str, email: str) -> bool:
        """Whether there is such a medium, other than texts, and it could reach a person of this address."""
        sender = self._senders.get(kind)
        return sender is not None and sender.reaches(email)

    async def send(self, kind: str, letter: Letter) -> bool:
        """Hand a letter over, within SEND_WAIT_S; False where that failed, for whatever reason."""
        sender = self._senders.get(kind)
        if sender is None:
            return False
        try:
            async with asyncio.timeout(SEND_WAIT_S):
                return await sender.send(letter)
        except Exception as error:  # noqa: BLE001 - somebody else's code or server: another medium may do
            log.warning("otp.medium_failed", medium=kind, error=type(error).__name__)
            return False


def fault(kind: str, email: str, settings: Settings, *, sandbox: bool) -> str | None:
    """Say why a person of this address is not reached by a medium, if so it is."""
    if kind in TEXTS:
        return None
    if sandbox:
        return "keys of the sandbox get texts alone"
    if kind == EMAIL:
        return "no mail server is configured" if not settings.smtp_host else None if email else "no address"
    return None if kind in added(settings.code_media) else "nobody configured it"


def following(media: Sequence[str], medium: str, usable: Callable[[str], bool]) -> str:
    """Return the first usable medium of a policy behind the one that was used last; "": there is none.

    One that the policy no longer names was before all of them.
    """
    behind = media[media.index(medium) + 1 :] if medium in media else media
    return next((one for one in behind if usable(one)), "")


def added(setting: str) -> Mapping[str, str]:
    """Read kind=module:function, with commas. Raises SettingsError."""
    found: dict[str, str] = {}
    for word in filter(None, (word.strip() for word in setting.split(","))):
        kind, _, path = word.partition("=")
        if not KIND.fullmatch(kind) or not path or kind in OURS or kind in found:
            raise SettingsError(f"HONGYAN_CODE_MEDIA={word!r}: say kind=module:function, a kind of your own")
        found[kind] = path
    return found


OURS: Final[Collection[str]] = {*TEXTS, EMAIL}


def _load(kind: str, path: str) -> Send:
    """Import the function that 'module:function' names. Raises SettingsError."""
    module, _, name = path.partition(":")
    try:
        send: Send = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"HONGYAN_CODE_MEDIA={kind}={path}: {error}") from error
    return send
