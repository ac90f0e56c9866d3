"""The kind `tencent`: an application at Tencent Cloud SMS (腾讯云短信, sms 2021-01-11).

Documents: SendSms https://cloud.tencent.com/document/product/382/55981 · signature TC3-HMAC-SHA256
https://cloud.tencent.com/document/product/382/52072 · pushes https://cloud.tencent.com/document/product/382/52077.
Entry points: Tencent, TencentConfig, tc3().

It is sent its own template's number, its own sign name and the values in order, never a text. Messages of one
wording share a request, and each number has an outcome of its own. Pushes are not signed: whoever knows their
address can write them, so it must be hard to guess.
Surprises: every answer has status 200, and the verdict stands inside. A pull takes reports away from the
provider, so what a crash loses between the pull and our commit comes back only by ask().
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

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
    Unsure,
    Wording,
)
from hongyan.channels.codes import Meaning, Verdict
from hongyan.channels.posts import Call, Posts
from hongyan.channels.providers import FiledSettings, WordCodes
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status

VERSION: Final = "2021-01-11"
SERVICE: Final = "sms"
PROOF_NUMBER: Final = "+8613800138000"  # any number: it is only asked about
PULL_MAX: Final = 100  # reports a request
ASK_BACK_S: Final = 86_400  # how long ago a message that is asked about may have been sent; they keep 7 days
PUSH_ANSWER: Final = b'{"result":0,"errmsg":"OK"}'

# https://cloud.tencent.com/document/product/382/59177, read 2026-11-22. What is wrong with the account or with them
# is UNREACHABLE: certainly not taken, and another channel may. A code is looked up whole, then by its first word.
CODES: Final[Mapping[str, Meaning]] = {
    "FailedOperation": (Verdict.DECLINED, Cause.REJECTED),
    "FailedOperation.ContainSensitiveWord": (Verdict.DECLINED, Cause.CONTENT_BLOCKED),
    "FailedOperation.FailResolvePacket": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "FailedOperation.InsufficientBalanceInSmsPackage": (Verdict.UNREACHABLE, Cause.REJECTED),
    "FailedOperation.MarketingSendTimeConstraint": (Verdict.DECLINED, Cause.REJECTED),  # 8 to 22 h only
    "FailedOperation.PhoneNumberInBlacklist": (Verdict.DECLINED, Cause.BLACKLISTED),
    "FailedOperation.SignatureIncorrectOrUnapproved": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "FailedOperation.TemplateIncorrectOrUnapproved": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "FailedOperation.TemplateUnapprovedOrNotExist": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "FailedOperation.TemplateIdNotExist": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "FailedOperation.TemplateParamSetNotMatchApprovedTemplate": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "FailedOperation.QualificationIdNotApproved": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "InvalidParameterValue": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "InvalidParameterValue.IncorrectPhoneNumber": (Verdict.DECLINED, Cause.INVALID_NUMBER),
    "InvalidParameterValue.ProhibitedUseUrlInTemplateParameter": (Verdict.DECLINED, Cause.CONTENT_BLOCKED),
    "InvalidParameterValue.MarketingTemplateWithoutUnsubscribe": (Verdict.DECLINED, Cause.CONTENT_BLOCKED),
    "InvalidParameterValue.SdkAppIdNotExist": (Verdict.UNREACHABLE, Cause.REJECTED),
    "InvalidParameter": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "MissingParameter": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "UnknownParameter": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "UnsupportedOperation": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "LimitExceeded": (Verdict.DECLINED, Cause.RATE_LIMITED),  # of this number, not of the account
    "LimitExceeded.AppDailyLimit": (Verdict.UNREACHABLE, Cause.RATE_LIMITED),
    "LimitExceeded.AppMainlandChinaDailyLimit": (Verdict.UNREACHABLE, Cause.RATE_LIMITED),
    "LimitExceeded.AppGlobalDailyLimit": (Verdict.UNREACHABLE, Cause.RATE_LIMITED),
    "LimitExceeded.AppCountryOrRegionInBlacklist": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "LimitExceeded.PhoneNumberCountLimit": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "RequestLimitExceeded": (Verdict.THROTTLED, Cause.RATE_LIMITED),
    "UnauthorizedOperation": (Verdict.UNREACHABLE, Cause.REJECTED),
    "AuthFailure": (Verdict.UNREACHABLE, Cause.REJECTED),
    "InvalidAction": (Verdict.UNREACHABLE, Cause.REJECTED),
    "NoSuchVersion": (Verdict.UNREACHABLE, Cause.REJECTED),
    "NoSuchProduct": (Verdict.UNREACHABLE, Cause.REJECTED),
    "IpInBlacklist": (Verdict.UNREACHABLE, Cause.REJECTED),
    "IpNotInWhitelist": (Verdict.UNREACHABLE, Cause.REJECTED),
    "ActionOffline": (Verdict.UNREACHABLE, Cause.REJECTED),
    "InternalError": (Verdict.UNSURE, Cause.NETWORK),
    "ServiceUnavailable": (Verdict.UNSURE, Cause.NETWORK),
    # Reports: bare numbers of theirs, which would mean something else elsewhere.
    "002": (Verdict.DECLINED, Cause.ABSENT),
    "004": (Verdict.DECLINED, Cause.SUSPENDED),
    "-106": (Verdict.DECLINED, Cause.CONTENT_BLOCKED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TencentConfig(FiledSettings):
    """Settings of one application at Tencent Cloud SMS."""

    secret_id: Annotated[str, Meta(min_length=1, description="of a sub-user that may send texts")]
    secret_key: Annotated[Secret, Meta(description="the key of that SecretId")]
    sdk_app_id: Annotated[str, Meta(min_length=1, description="the application's SmsSdkAppId: 1400006666")]
    url: Annotated[
        str, Meta(description="where it is called; other sites, private links and proxies differ")
    ] = "https://sms.tencentcloudapi.com/"
    region: Annotated[str, Meta(min_length=1, description="ap-guangzhou, ap-beijing or ap-nanjing")] = (
        "ap-guangzhou"
    )
    parameters: Annotated[
        Mapping[str, tuple[str, ...]],
        Meta(description="our template's code → our variables in the order of their {1}, {2}, …"),
    ] = field(default_factory=dict)
    sender_id: Annotated[
        str, Meta(max_length=20, description="SenderId of texts beyond the mainland, where they gave one")
    ] = ""
    batch_max: Annotated[
        int, Meta(ge=1, le=200, description="numbers of one wording that share a request; they allow 200")
    ] = 50
    pull_gap_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="how often reports are pulled; 0 = never, they are pushed"),
    ] = 0.0

    def __post_init__(self) -> None:
        providers.check_url(self.url)


class Tencent(Posts):
    """One application at Tencent Cloud SMS (see channel.Channel). Leave the channel's access number empty."""

    kind: ClassVar[str] = "tencent"
    Config: ClassVar[type[Any]] = TencentConfig

    def __init__(self, config: TencentConfig, way_out: egress.Egress | None = None) -> None:
        super().__init__(config, way_out)
        self._config = config
        self._codes = WordCodes(CODES, config)

    def takes(self, wording: Wording | None) -> bool:
        return not self._config.why_not(wording)

    def _batches(self, parcels: Sequence[Parcel]) -> Sequence[Sequence[Parcel]]:
        """Put together what differs in nothing but the number; a number stands in a request once."""
        batches: list[list[Parcel]] = []
        open_: dict[tuple[Any, ...], tuple[list[Parcel], set[str]]] = {}
        for parcel in parcels:
            wording = parcel.wording
            values = tuple(sorted(wording.values.items())) if wording else ()
            said = (wording.template, wording.signature, values) if wording else None
            key = (parcel.sender, parcel.number.startswith("+86"), said)
            batch, numbers = open_.get(key, ([], set()))
            if not batch or len(batch) >= self._config.batch_max or parcel.number in numbers:
                batch, numbers = open_[key] = ([], set())
                batches.append(batch)
            batch.append(parcel)
            numbers.add(parcel.number)
        return batches

    def _put(self, parcels: Sequence[Parcel]) -> Call | Declined:
        first = parcels[0]
        wording = first.wording
        if (declined := self._config.turn_down(wording)) is not None:
            return declined
        assert wording is not None
        order = self._config.parameters.get(wording.template, ())
        if set(order) != set(wording.values):
            return Declined("variables_not_filed", Cause.SIGN_UNREGISTERED)
        asked: dict[str, Any] = {
            "PhoneNumberSet": [parcel.number for parcel in parcels],
            "SmsSdkAppId": self._config.sdk_app_id,
            "TemplateId": self._config.templates[wording.template],
        }
        if wording.signature:
            asked["SignName"] = self._config.signatures[wording.signature]
        if order:
            asked["TemplateParamSet"] = [wording.values[name] for name in order]
        if first.sender:  # an extension is appended to their access number, in both directions
            asked["ExtendCode"] = first.sender
        if self._config.sender_id and not first.number.startswith("+86"):
            asked["SenderId"] = self._config.sender_id
        return self._call("SendSms", asked)

    def _call(self, action: str, asked: Mapping[str, Any]) -> Call:
        config = self._config
        body = msgspec.json.encode(asked)
        host = providers.host_of(config.url)
        at_s = int(clock.now_s())
        headers = {
            "Content-Type": "application/json",
            "Host": host,
            "X-TC-Action": action,
            "X-TC-Version": VERSION,
            "X-TC-Timestamp": str(at_s),
            "X-TC-Region": config.region,
            "Authorization": tc3(host, body, config.secret_id, config.secret_key.reveal(), at_s=at_s),
        }
        return Call(config.url, headers, body)

    def _outcomes(self, parcels: Sequence[Parcel], answer: egress.Answer) -> Sequence[Outcome]:
        envelope = providers.answer_of(answer.body, _Envelope)
        if envelope is None:
            return [providers.by_status(answer)] * len(parcels)
        error = envelope.response.error
        if error is not None:
            return [self._codes.outcome(error.code, error.message, answer.status)] * len(parcels)
        sent = providers.each_of(envelope.response.sent, _Sent)
        found = {providers.e164(one.phone_number): one for one in sent} | {
            one.phone_number: one for one in sent
        }
        return [self._outcome(found.get(parcel.number), answer.status) for parcel in parcels]

    def _outcome(self, sent: "_Sent | None", status: int) -> Outcome:
        if sent is None:
            return Unsure("an answer without this number")
        if sent.code.upper() == "OK":
            return Ack(sent.serial_no, sent.serial_no)
        return self._codes.outcome(sent.code, sent.message, status)

    async def ask(self, upstream_raw: str, number: str, sender: str) -> Report | None:  # noqa: ARG002
        """Ask by PullSmsSendStatusByPhoneNumber, which takes nothing away."""
        asked = {
            "BeginTime": int(clock.now_s()) - ASK_BACK_S, "Offset": 0, "Limit": PULL_MAX, "PhoneNumber": number,
            "SmsSdkAppId": self._config.sdk_app_id,
        }  # fmt: skip
        for report in await self._pulled_by("PullSmsSendStatusByPhoneNumber", asked):
            if report.upstream_id == upstream_raw:
                return report
        return None

    def proof(self) -> Call:
        """Ask what was sent to a number lately: an account that may is told, if only of nothing."""
        asked = {
            "BeginTime": int(clock.now_s()) - ASK_BACK_S, "Offset": 0, "Limit": 1, "PhoneNumber": PROOF_NUMBER,
            "SmsSdkAppId": self._config.sdk_app_id,
        }  # fmt: skip
        return self._call("PullSmsSendStatusByPhoneNumber", asked)

    def disproof(self, answer: egress.Answer) -> str:
        read = providers.answer_of(answer.body, _Envelope)
        if read is None:
            return f"status {answer.status}, and an answer that cannot be read"
        error = read.response.error
        return "" if error is None else f"{error.code}: {error.message}"

    @property
    def _pull_gap_s(self) -> float:
        return self._config.pull_gap_s

    async def _pull(self, tell: Callable[[Push], None]) -> bool:
        asked = {"Limit": PULL_MAX, "SmsSdkAppId": self._config.sdk_app_id}
        reports = await self._pulled_by("PullSmsSendStatus", asked)
        tell(Push(reports))
        replies = providers.each_of((await self._look("PullSmsReplyStatus", asked)).replies, _PulledReply)
        tell(Push((), [_inbound(one.number, one.extend_code, one.reply_content) for one in replies]))
        return max(len(reports), len(replies)) >= PULL_MAX

    async def _pulled_by(self, action: str, asked: Mapping[str, Any]) -> Sequence[Report]:
        return [
            self._report(one.serial_no, one.number, one.report_status, one.description)
            for one in providers.each_of((await self._look(action, asked)).pulled, _Pulled)
        ]

    async def _look(self, action: str, asked: Mapping[str, Any]) -> "_Response":
        """Ask something that sends nothing; an empty answer where there is none."""
        answer = await self._fetch(self._call(action, asked))
        envelope = providers.answer_of(answer.body, _Envelope) if answer is not None else None
        return _Response() if envelope is None else envelope.response

    def read_push(self, headers: Mapping[str, str], body: bytes) -> Push:  # noqa: ARG002 - they sign nothing
        told = providers.items_of(providers.json_of(body))
        reports = [
            self._report(one.sid, one.number, one.report_status, one.errmsg)
            for one in providers.each_of(told, _Report)
        ]
        inbound = [_inbound(one.number, one.extend, one.text) for one in providers.each_of(told, _Reply)]
        if told and not (reports or inbound):
            raise BadPush("neither reports nor a text")
        return Push(reports, inbound, PUSH_ANSWER, "application/json")

    def _report(self, serial_no: str, number: str, word: str, code: str) -> Report:
        at_s = clock.now_s()
        if word == "SUCCESS":
            return Report(serial_no, Status.DELIVERED, Cause.NONE, code, at_s, number=number)
        cause = self._codes.cause(code)
        status = Status.EXPIRED if cause is Cause.EXPIRED else Status.UNDELIVERED
        return Report(serial_no, status, cause, code, at_s, number=number)


class _Error(msgspec.Struct, frozen=True, rename="pascal"):
    code: str
    message: str = ""


class _Sent(msgspec.Struct, frozen=True, rename="pascal"):
    phone_number: str
    code: str
    serial_no: str = ""
    message: str = ""


class _Pulled(msgspec.Struct, frozen=True, rename="pascal"):
    serial_no: str
    report_status: str
    description: str = ""
    country_code: str = "86"
    subscriber_number: str = ""

    @property
    def number(self) -> str:
        return providers.e164(f"+{self.country_code}{self.subscriber_number}")


class _PulledReply(msgspec.Struct, frozen=True, rename="pascal"):
    subscriber_number: str
    reply_content: str
    country_code: str = "86"
    extend_code: str = ""

    @property
    def number(self) -> str:
        return providers.e164(f"+{self.country_code}{self.subscriber_number}") or self.subscriber_number


class _Response(
    msgspec.Struct,
    frozen=True,
    rename={
        "error": "Error",
        "sent": "SendStatusSet",
        "pulled": "PullSmsSendStatusSet",
        "replies": "PullSmsReplyStatusSet",
    },
):
    error: _Error | None = None
    sent: list[Any] = []  # _Sent, _Pulled, _PulledReply: each is read by itself
    pulled: list[Any] = []
    replies: list[Any] = []


class _Envelope(msgspec.Struct, frozen=True, rename="pascal"):
    response: _Response


class _Report(msgspec.Struct, frozen=True):
    sid: str
    report_status: str
    errmsg: str = ""
    nationcode: str = "86"
    mobile: str = ""

    @property
    def number(self) -> str:
        return providers.e164(f"+{self.nationcode}{self.mobile}")


class _Reply(msgspec.Struct, frozen=True):
    mobile: str
    text: str
    nationcode: str = "86"
    extend: str = ""

    @property
    def number(self) -> str:
        return providers.e164(f"+{self.nationcode}{self.mobile}") or self.mobile


def _inbound(number: str, extension: str, text: str) -> Inbound:
    return Inbound(number, extension, text, clock.now_s())


# ---- signature


def tc3(
    host: str,
    body: bytes,
    secret_id: str,
    secret_key: str,
    *,
    at_s: int,
    service: str = SERVICE,
    content_type: str = "application/json",
) -> str:
    """Sign a POST of / with this body and the headers content-type and host; returns its Authorization.

    Source: signature method TC3-HMAC-SHA256.
    """
    signed = "content-type;host"
    digest = hashlib.sha256(body).hexdigest()
    request = f"POST\n/\n\ncontent-type:{content_type}\nhost:{host}\n\n{signed}\n{digest}"
    day = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d")
    scope = f"{day}/{service}/tc3_request"
    to_sign = f"TC3-HMAC-SHA256\n{at_s}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"TC3{secret_key}".encode()
    for word in (day, service, "tc3_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return f"TC3-HMAC-SHA256 Credential={secret_id}/{scope}, SignedHeaders={signed}, Signature={signature}"
