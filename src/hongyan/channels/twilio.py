"""The kind `twilio`: an account at Twilio, or at one of the many that speak its Messages API (2010-04-01).

Documents: https://www.twilio.com/docs/messaging/api/message-resource · callbacks
https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks · their signature
https://www.twilio.com/docs/usage/security#validating-requests.
Entry points: Twilio, TwilioConfig, signature().

Surprise: their signature covers the address that was called, as they know it, so `push_url` must be exactly
what they were told: we tell it with every message, and the operator writes the same at the numbers for inbound.
"""

import hmac
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Meta
from yarl import URL

from hongyan import clock, egress
from hongyan.channels import providers
from hongyan.channels.channel import (
    Ack,
    BadPush,
    Declined,
    Inbound,
    Outcome,
    Parcel,
    Push,
    Report,
    Secret,
    Throttled,
)
from hongyan.channels.codes import Meaning, Verdict
from hongyan.channels.posts import Call, Posts
from hongyan.channels.providers import PostSettings, WordCodes
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status

VALIDITY_S_MAX: Final = 36_000
SHORT_CODE_DIGITS_MAX: Final = 6
PUSH_ANSWER: Final = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'  # TwiML that does nothing

# https://www.twilio.com/docs/api/errors, read 2026-11-22: answers first, then reports. What is wrong with the
# account or with them is UNREACHABLE: certainly not taken, and another channel may.
CODES: Final[Mapping[str, Meaning]] = {
    "20003": (Verdict.UNREACHABLE, Cause.REJECTED),  # credentials
    "20005": (Verdict.UNREACHABLE, Cause.REJECTED),  # account not active
    "20404": (Verdict.UNREACHABLE, Cause.REJECTED),  # no such account
    "20429": (Verdict.THROTTLED, Cause.RATE_LIMITED),
    "20500": (Verdict.UNSURE, Cause.NETWORK),
    "20503": (Verdict.UNREACHABLE, Cause.NETWORK),
    "14107": (Verdict.THROTTLED, Cause.RATE_LIMITED),
    "21211": (Verdict.DECLINED, Cause.INVALID_NUMBER),
    "21212": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "21408": (Verdict.DECLINED, Cause.NO_ROUTE),
    "21603": (Verdict.UNREACHABLE, Cause.REJECTED),  # neither a sender nor a service is set
    "21602": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "21606": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "21608": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "21610": (Verdict.DECLINED, Cause.BLACKLISTED),
    "21611": (Verdict.THROTTLED, Cause.RATE_LIMITED),  # the sender's queue is full
    "21612": (Verdict.DECLINED, Cause.NO_ROUTE),
    "21614": (Verdict.DECLINED, Cause.INVALID_NUMBER),
    "21617": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "21619": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "21659": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "21703": (Verdict.UNREACHABLE, Cause.REJECTED),  # the service has no sender
    "30001": (Verdict.DECLINED, Cause.RATE_LIMITED),
    "30002": (Verdict.DECLINED, Cause.REJECTED),
    "30003": (Verdict.DECLINED, Cause.ABSENT),
    "30004": (Verdict.DECLINED, Cause.BLACKLISTED),
    "30005": (Verdict.DECLINED, Cause.INVALID_NUMBER),
    "30006": (Verdict.DECLINED, Cause.NO_ROUTE),
    "30007": (Verdict.DECLINED, Cause.CONTENT_BLOCKED),
    "30008": (Verdict.DECLINED, Cause.UNKNOWN),
    "30022": (Verdict.DECLINED, Cause.RATE_LIMITED),
    "30023": (Verdict.DECLINED, Cause.RATE_LIMITED),
    "30034": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "30036": (Verdict.DECLINED, Cause.EXPIRED),
    "30038": (Verdict.DECLINED, Cause.CONTENT_BLOCKED),
    "30450": (Verdict.DECLINED, Cause.REJECTED),
}
STATUSES: Final[Mapping[str, Status]] = {
    "accepted": Status.SUBMITTED,
    "scheduled": Status.SUBMITTED,
    "queued": Status.SUBMITTED,
    "sending": Status.SUBMITTED,
    "sent": Status.SUBMITTED,  # the carrier has it
    "delivered": Status.DELIVERED,
    "read": Status.DELIVERED,
    "undelivered": Status.UNDELIVERED,
    "failed": Status.UNDELIVERED,
    "canceled": Status.UNDELIVERED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioConfig(PostSettings):
    """Settings of one account at Twilio."""

    account_sid: Annotated[str, Meta(min_length=1, description="AC…")]
    auth_token: Annotated[Secret, Meta(description="the account's token; pushes are signed with it")]
    url: Annotated[str, Meta(description="where it is called; what speaks the same API is elsewhere")] = (
        "https://api.twilio.com"
    )
    api_key: Annotated[
        str, Meta(description="SK…, to call with in place of the token; empty = the token")
    ] = ""
    api_key_secret: Annotated[Secret, Meta(description="the secret of that key")] = field(
        default_factory=lambda: Secret("")
    )
    messaging_service_sid: Annotated[
        str,
        Meta(description="MG…, which chooses a sender; empty = the channel's access number is the sender"),
    ] = ""
    push_url: Annotated[
        str, Meta(description="public address of our door for its pushes; empty = no reports are pushed")
    ] = ""
    text_characters_max: Annotated[
        int, Meta(ge=160, le=1600, description="longest text they take, in characters")
    ] = 1600
    validity: Annotated[bool, Meta(description="tell them how long they may try (ValidityPeriod)")] = True

    def __post_init__(self) -> None:
        providers.check_url(self.url)


class Twilio(Posts):
    """One account at Twilio (see channel.Channel). Its access number is its sender: digits or letters."""

    kind: ClassVar[str] = "twilio"
    Config: ClassVar[type[Any]] = TwilioConfig

    def __init__(self, config: TwilioConfig, way_out: egress.Egress | None = None) -> None:
        super().__init__(config, way_out)
        self._config = config
        self._codes = WordCodes(CODES, config)
        name = config.api_key or config.account_sid
        word = (config.api_key_secret if config.api_key else config.auth_token).reveal()
        self._headers = {
            "Authorization": f"Basic {b64encode(f'{name}:{word}'.encode()).decode()}",
            "Accept": "application/json",
        }

    def cut(self, text: str, counting: texts.Counting) -> Sequence[texts.TextPart]:
        if providers.units(text) > self._config.text_characters_max:
            return ()
        return super().cut(text, counting)

    def _put(self, parcels: Sequence[Parcel]) -> Call | Declined:
        (parcel,) = parcels
        config = self._config
        text = providers.text_of(parcel)
        if providers.units(text) > config.text_characters_max:
            return Declined("text_too_long", Cause.UNSUPPORTED)
        form = {"To": parcel.number, "Body": text}
        if config.messaging_service_sid:
            form["MessagingServiceSid"] = config.messaging_service_sid
        elif parcel.sender:
            form["From"] = _sender(parcel.sender)
        if config.push_url:
            form["StatusCallback"] = config.push_url
        if config.validity and parcel.validity_s:
            form["ValidityPeriod"] = str(min(parcel.validity_s, VALIDITY_S_MAX))
        headers = {**self._headers, "Content-Type": "application/x-www-form-urlencoded"}
        return Call(self._url("Messages.json"), headers, urlencode(form).encode())

    def _url(self, resource: str) -> str:
        account = quote(self._config.account_sid, safe="")
        return f"{self._config.url.rstrip('/')}/2010-04-01/Accounts/{account}/{resource}"

    def _outcomes(self, parcels: Sequence[Parcel], answer: egress.Answer) -> Sequence[Outcome]:  # noqa: ARG002
        read = providers.answer_of(answer.body, _Message)
        if read is None:
            return (providers.by_status(answer),)
        if answer.status < 300:
            return (Ack(read.sid, read.sid),) if read.sid else (providers.by_status(answer),)
        if not read.code:
            return (providers.by_status(answer),)
        outcome = self._codes.outcome(read.code, read.message, answer.status)
        if answer.status == 429 or isinstance(outcome, Throttled):
            outcome = Throttled(providers.retry_after_s(answer), read.code)
        return (outcome,)

    async def ask(self, upstream_raw: str, number: str, sender: str) -> Report | None:  # noqa: ARG002
        """Ask by GET of the message."""
        resource = f"Messages/{quote(upstream_raw, safe='')}.json"
        answer = await self._fetch(Call(self._url(resource), self._headers, method="GET"))
        if answer is None or answer.status != 200:
            return None
        read = providers.answer_of(answer.body, _Message)
        return None if read is None else self._report(upstream_raw, read.status, read.error_code, number)

    def proof(self) -> Call:
        """List one message: an API key may do that too, which may not look at the account."""
        return Call(f"{self._url('Messages.json')}?PageSize=1", self._headers, method="GET")

    def disproof(self, answer: egress.Answer) -> str:
        if answer.status == 200:
            return ""
        read = providers.answer_of(answer.body, _Message)
        return f"{read.code}: {read.message}" if read is not None and read.code else f"status {answer.status}"

    def read_push(self, headers: Mapping[str, str], body: bytes) -> Push:
        pairs = providers.form_of(body)
        if not self._signed(headers.get("x-twilio-signature", ""), pairs):
            raise BadPush("the signature does not fit", forged=True)
        told = dict(pairs)
        sid = told.get("MessageSid") or told.get("SmsSid", "")
        word = (told.get("MessageStatus") or told.get("SmsStatus", "")).lower()
        if not sid:
            raise BadPush("without MessageSid")
        if word in ("received", "receiving") or ("Body" in told and word not in STATUSES):
            sender = told.get("From", "")
            inbound = Inbound(
                providers.e164(sender) or sender, told.get("To", ""), told.get("Body", ""), clock.now_s()
            )
            return Push((), (inbound,), PUSH_ANSWER, "text/xml")
        number = providers.e164(told.get("To", ""))
        report = self._report(sid, word, told.get("ErrorCode", ""), number)
        return Push((report,), (), PUSH_ANSWER, "text/xml")

    def _signed(self, given: str, pairs: Sequence[tuple[str, str]]) -> bool:
        """Whether one of the ways to write our address gives this signature: with its port, or without."""
        token = self._config.auth_token.reveal()
        return token != "" and any(  # what nothing signs, everybody can
            hmac.compare_digest(signature(token, url, pairs).encode(), given.encode())
            for url in _spellings(self._config.push_url)
        )

    def _report(self, sid: str, word: str, code: str, number: str) -> Report:
        status = STATUSES.get(word, Status.SUBMITTED)  # a word we do not know yet settles nothing
        cause = Cause.NONE
        if status is Status.UNDELIVERED:
            cause = self._codes.cause(code) if code else Cause.REJECTED
            status = Status.EXPIRED if cause is Cause.EXPIRED else status
        said = f"{word}/{code}" if code else word
        return Report(sid, status, cause, said, clock.now_s(), number=number, final=status.final)


class _Message(msgspec.Struct, frozen=True):
    """A message, or what is wrong with one."""

    sid: str = ""
    status: str = ""  # of an error it is the HTTP status
    error_code: str = ""
    code: str = ""
    message: str = ""


def _sender(written: str) -> str:
    """Write a sender as they want it: E.164, a short code, or letters."""
    return f"+{written}" if written.isdecimal() and len(written) > SHORT_CODE_DIGITS_MAX else written


def _spellings(url: str) -> Sequence[str]:
    parsed = URL(url)
    if not parsed.host or parsed.port is None:
        return (url,)
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    bare = host.rpartition(":")[0] if parsed.explicit_port else host
    return tuple({url, f"{scheme}://{bare}{slash}{path}", f"{scheme}://{bare}:{parsed.port}{slash}{path}"})


def signature(token: str, url: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Sign a push: the address, then each parameter's name and value, by name; values of one name once each."""
    said = url + "".join(name + value for name, value in sorted(set(pairs)))
    return b64encode(hmac.digest(token.encode(), said.encode(), "sha1")).decode()
