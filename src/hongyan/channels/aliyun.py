"""The kind `aliyun`: an account at Alibaba Cloud SMS (阿里云短信服务, Dysmsapi 2017-05-25).

Documents: SendSms https://help.aliyun.com/zh/sms/developer-reference/api-dysmsapi-2017-05-25-sendsms ·
signatures https://help.aliyun.com/zh/sdk/product-overview/v3-request-structure-and-signature and …/rpc-mechanism ·
pushes https://help.aliyun.com/zh/sms/developer-reference/using-http-batch-push-message-protocol.
Entry points: Aliyun, AliyunConfig, acs3(), rpc().

It is sent its own template's code, its own sign name and the values, never a text. One message is one request:
a BizId stands for a whole request, and only so is it the name of one message. Pushes are not signed: whoever
knows their address can write them, so it must be hard to guess.
Surprise: what is too long for a URL goes as a form, which only the older signature covers.
"""

import hashlib
import hmac
import uuid
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote, urlencode

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
    Wording,
)
from hongyan.channels.codes import Meaning, Verdict
from hongyan.channels.posts import Call, Posts
from hongyan.channels.providers import FiledSettings, WordCodes
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status

VERSION: Final = "2017-05-25"
CHINA: Final = timedelta(hours=8)  # their days begin at midnight in Beijing
PUSH_ANSWER: Final = (
    '{"code":0,"msg":"接收成功"}'.encode()
)  # anything else is pushed again after 1, 5, 10 min

# https://help.aliyun.com/zh/sms/developer-reference/api-error-codes, read 2026-11-22. What is wrong with the account
# or with them is UNREACHABLE: certainly not taken, and another channel may.
CODES: Final[Mapping[str, Meaning]] = {
    "isp.RAM_PERMISSION_DENY": (Verdict.UNREACHABLE, Cause.REJECTED),
    "isp.SYSTEM_ERROR": (Verdict.UNREACHABLE, Cause.NETWORK),
    "isp.GATEWAY_ERROR": (Verdict.UNREACHABLE, Cause.NETWORK),
    "isv.OUT_OF_SERVICE": (Verdict.UNREACHABLE, Cause.REJECTED),
    "isv.AMOUNT_NOT_ENOUGH": (Verdict.UNREACHABLE, Cause.REJECTED),
    "isv.PRODUCT_UN_SUBSCRIPT": (Verdict.UNREACHABLE, Cause.REJECTED),
    "isv.PRODUCT_UNSUBSCRIBE": (Verdict.UNREACHABLE, Cause.REJECTED),
    "isv.ACCOUNT_NOT_EXISTS": (Verdict.UNREACHABLE, Cause.REJECTED),
    "isv.ACCOUNT_ABNORMAL": (Verdict.UNREACHABLE, Cause.REJECTED),
    "isv.SECURITY_FROZEN_ACCOUNT": (Verdict.UNREACHABLE, Cause.REJECTED),
    "isv.DENY_IP_RANGE": (Verdict.UNREACHABLE, Cause.REJECTED),
    "isv.DAY_LIMIT_CONTROL": (Verdict.UNREACHABLE, Cause.RATE_LIMITED),
    "isv.MONTH_LIMIT_CONTROL": (Verdict.UNREACHABLE, Cause.RATE_LIMITED),
    "isv.SMS_SIGNATURE_ILLEGAL": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "isv.SMS_SIGN_NAME_ILLEGAL": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "isv.SMS_SIGN_ILLEGAL": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "isv.SIGN_STATE_ILLEGAL": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "isv.SMS_SIGNATURE_SCENE_ILLEGAL": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "isv.SMS_TEMPLATE_ILLEGAL": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "isv.SMS_TEST_SIGN_TEMPLATE_LIMIT": (Verdict.DECLINED, Cause.SIGN_UNREGISTERED),
    "isv.SMS_TEST_NUMBER_LIMIT": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.SMS_TEST_TEMPLATE_PARAMS_ILLEGAL": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.TEMPLATE_MISSING_PARAMETERS": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.TEMPLATE_PARAMS_ILLEGAL": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.PARAM_LENGTH_LIMIT": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.PARAM_NOT_SUPPORT_URL": (Verdict.DECLINED, Cause.CONTENT_BLOCKED),
    "isv.INVALID_JSON_PARAM": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.INVALID_PARAMETERS": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.MOBILE_NUMBER_ILLEGAL": (Verdict.DECLINED, Cause.INVALID_NUMBER),
    "isv.MOBILE_COUNT_OVER_LIMIT": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.DOMESTIC_NUMBER_NOT_SUPPORTED": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.BUSINESS_LIMIT_CONTROL": (
        Verdict.DECLINED,
        Cause.RATE_LIMITED,
    ),  # of this number, not of the account
    "isv.BLACK_KEY_CONTROL_LIMIT": (Verdict.DECLINED, Cause.BLACKLISTED),
    "isv.CUSTOMER_REFUSED": (Verdict.DECLINED, Cause.BLACKLISTED),
    "isv.SMS_CONTENT_ILLEGAL": (Verdict.DECLINED, Cause.CONTENT_BLOCKED),
    "isv.UNSUPPORTED_CONTENT": (Verdict.DECLINED, Cause.CONTENT_BLOCKED),
    "isv.SMS_CONTENT_MISMATCH_TEMPLATE_TYPE": (Verdict.DECLINED, Cause.CONTENT_BLOCKED),
    "isv.EXTEND_CODE_ERROR": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.ONE_CODE_MULTIPLE_SIGN": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.CODE_EXCEED_LIMIT": (Verdict.DECLINED, Cause.UNSUPPORTED),
    "isv.CODE_ERROR": (Verdict.DECLINED, Cause.UNSUPPORTED),
    # The gateway before the service, which stops a request before anything is sent.
    "Throttling": (Verdict.THROTTLED, Cause.RATE_LIMITED),
    "SignatureDoesNotMatch": (Verdict.UNREACHABLE, Cause.REJECTED),
    "IncompleteSignature": (Verdict.UNREACHABLE, Cause.REJECTED),
    "InvalidTimeStamp": (Verdict.UNREACHABLE, Cause.REJECTED),
    "InvalidVersion": (Verdict.UNREACHABLE, Cause.REJECTED),
    "InvalidAction": (Verdict.UNREACHABLE, Cause.REJECTED),
    "InvalidAccessKeyId": (Verdict.UNREACHABLE, Cause.REJECTED),
    "NoPermission": (Verdict.UNREACHABLE, Cause.REJECTED),
    "Forbidden": (Verdict.UNREACHABLE, Cause.REJECTED),
    "ServiceUnavailable": (Verdict.UNREACHABLE, Cause.NETWORK),
    "InternalError": (Verdict.UNSURE, Cause.NETWORK),
    # Our nonces are random, so something between us sent this very request twice, and the first may have been taken.
    "SignatureNonceUsed": (Verdict.UNSURE, Cause.NETWORK),
}
PROOF_NUMBER: Final = "13800138000"  # any number: it is only asked about
PENDING: Final = frozenset({"REQUEST_SUCCESS"})  # taken, and no word from the operator yet
SEND_STATUS: Final = {1: Status.SUBMITTED, 2: Status.UNDELIVERED, 3: Status.DELIVERED}  # QuerySendDetails


class Signing(StrEnum):
    """How requests are signed."""

    ACS3 = "acs3"  # ACS3-HMAC-SHA256, in headers
    RPC = "rpc"  # signature version 1.0, HMAC-SHA1, in the form


@dataclass(frozen=True, slots=True, kw_only=True)
class AliyunConfig(FiledSettings):
    """Settings of one account at Alibaba Cloud SMS."""

    access_key_id: Annotated[str, Meta(min_length=1, description="of a RAM user that may send texts")]
    access_key_secret: Annotated[Secret, Meta(description="the secret of that access key")]
    url: Annotated[
        str, Meta(description="where it is called; other regions, private links and proxies differ")
    ] = "https://dysmsapi.aliyuncs.com/"
    signing: Annotated[
        Signing, Meta(description="acs3 unless something between knows only the older one")
    ] = Signing.ACS3
    variables: Annotated[
        Mapping[str, Mapping[str, str]],
        Meta(description="our template's code → our variable → theirs, where the names differ"),
    ] = field(default_factory=dict)
    value_characters_max: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="longest value of a template's variable; they allow 35. 0 = they decide",
        ),
    ] = 35

    def __post_init__(self) -> None:
        providers.check_url(self.url)


class Aliyun(Posts):
    """One account at Alibaba Cloud SMS (see channel.Channel). Leave the channel's access number empty."""

    kind: ClassVar[str] = "aliyun"
    Config: ClassVar[type[Any]] = AliyunConfig

    def __init__(self, config: AliyunConfig, way_out: egress.Egress | None = None) -> None:
        super().__init__(config, way_out)
        self._config = config
        self._codes = WordCodes(CODES, config)

    def takes(self, wording: Wording | None) -> bool:
        return not self._config.why_not(wording)

    def _put(self, parcels: Sequence[Parcel]) -> Call | Declined:
        (parcel,) = parcels
        wording = parcel.wording
        if (declined := self._config.turn_down(wording)) is not None:
            return declined
        assert wording is not None
        names = self._config.variables.get(wording.template, {})
        values = {names.get(name, name): value for name, value in wording.values.items()}
        params = {
            "PhoneNumbers": providers.national(parcel.number),
            "TemplateCode": self._config.templates[wording.template],
        }
        if wording.signature:
            params["SignName"] = self._config.signatures[wording.signature]
        if values:
            params["TemplateParam"] = msgspec.json.encode(values).decode()
        if parcel.sender:  # an extension is appended to their access number, in both directions
            params["SmsUpExtendCode"] = parcel.sender
        return self._call("SendSms", params)

    def _call(self, action: str, params: Mapping[str, str]) -> Call:
        config = self._config
        key_id, secret = config.access_key_id, config.access_key_secret.reveal()
        at, nonce = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"), uuid.uuid4().hex
        url = config.url + ("&" if "?" in config.url else "?") + urlencode(params, quote_via=quote, safe="~")
        if config.signing is Signing.ACS3 and len(url) <= egress.URL_OCTETS_MAX:
            return Call(url, acs3(providers.host_of(url), action, params, key_id, secret, at=at, nonce=nonce))
        form = rpc(action, params, key_id, secret, at=at, nonce=nonce)
        return Call(
            config.url, {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode()
        )

    def _outcomes(self, parcels: Sequence[Parcel], answer: egress.Answer) -> Sequence[Outcome]:  # noqa: ARG002
        read = providers.answer_of(answer.body, _Taken)
        if read is None or not read.code:
            return (providers.by_status(answer),)
        if read.code == "OK":
            return (Ack(read.biz_id, read.biz_id),)
        return (self._codes.outcome(read.code, read.message, answer.status),)

    async def ask(self, upstream_raw: str, number: str, sender: str) -> Report | None:  # noqa: ARG002
        """Ask by QuerySendDetails, which wants the day: today's, then yesterday's."""
        for days in (0, 1):
            day = (clock.now() + CHINA - timedelta(days=days)).strftime("%Y%m%d")
            params = {
                "PhoneNumber": providers.national(number), "SendDate": day, "BizId": upstream_raw, "PageSize": "10",
                "CurrentPage": "1",
            }  # fmt: skip
            answer = await self._fetch(self._call("QuerySendDetails", params))
            read = providers.answer_of(answer.body, _Details) if answer is not None else None
            if read is None:
                return None
            if found := read.details.each:
                return self._report(upstream_raw, number, found[0].err_code, SEND_STATUS.get(found[0].status))
        return None

    def proof(self) -> Call:
        """Ask what was sent to a number today: the answer of an account that may is OK, with or without a text."""
        day = (clock.now() + CHINA).strftime("%Y%m%d")
        params = {"PhoneNumber": PROOF_NUMBER, "SendDate": day, "PageSize": "1", "CurrentPage": "1"}
        return self._call("QuerySendDetails", params)

    def disproof(self, answer: egress.Answer) -> str:
        read = providers.answer_of(answer.body, _Taken)
        if read is None or not read.code:
            return f"status {answer.status}, and an answer that cannot be read"
        return "" if read.code == "OK" else f"{read.code}: {read.message}"

    def read_push(self, headers: Mapping[str, str], body: bytes) -> Push:  # noqa: ARG002 - they sign nothing
        told = providers.items_of(providers.json_of(body))
        reports, inbound, reviews = [], [], 0
        for one in providers.each_of(told, _Told):
            if one.biz_id and one.success is not None:
                status = Status.DELIVERED if one.success else Status.UNDELIVERED
                reports.append(
                    self._report(one.biz_id, providers.e164(one.phone_number), one.err_code, status)
                )
            elif one.content is not None and one.phone_number:
                number = providers.e164(one.phone_number) or one.phone_number
                inbound.append(Inbound(number, one.dest_code, one.content, clock.now_s()))
            else:  # how a review ended: no affair of a channel
                reviews += bool(one.template_status or one.sign_status)
        if told and not (reports or inbound or reviews):
            raise BadPush("neither a report nor a text")
        return Push(reports, inbound, PUSH_ANSWER, "application/json; charset=utf-8")

    def _report(self, biz_id: str, number: str, code: str, status: Status | None) -> Report:
        pending = status is Status.SUBMITTED or status is None or code in PENDING
        cause = Cause.NONE
        if pending:
            status = Status.SUBMITTED
        elif status is not Status.DELIVERED:
            cause = self._codes.cause(code)
            status = Status.EXPIRED if cause is Cause.EXPIRED else Status.UNDELIVERED
        assert status is not None
        return Report(biz_id, status, cause, code, clock.now_s(), number=number, final=not pending)


class _Taken(msgspec.Struct, frozen=True, rename="pascal"):
    code: str = ""
    message: str = ""
    biz_id: str = ""


class _Detail(msgspec.Struct, frozen=True, rename={"status": "SendStatus", "err_code": "ErrCode"}):
    status: int = 1
    err_code: str = ""


class _DetailList(msgspec.Struct, frozen=True, rename={"each": "SmsSendDetailDTO"}):
    each: Sequence[_Detail] = ()


class _Details(msgspec.Struct, frozen=True, rename={"details": "SmsSendDetailDTOs"}):
    details: _DetailList = _DetailList()


class _Told(msgspec.Struct, frozen=True):
    """One element of any of their pushes."""

    phone_number: str = ""
    biz_id: str = ""
    success: bool | None = None
    err_code: str = ""
    content: str | None = None
    dest_code: str = ""
    template_status: str = ""
    sign_status: str = ""


# ---- signatures


def acs3(
    host: str,
    action: str,
    params: Mapping[str, str],
    key_id: str,
    secret: str,
    *,
    at: str,
    nonce: str,
    version: str = VERSION,
) -> Mapping[str, str]:
    """Sign a POST of / whose parameters are its query, with an empty body; `at` as 2026-11-22T06:55:01Z.

    Returns its headers. Source: V3 request structure and signature, ACS3-HMAC-SHA256.
    """
    headers = {
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
        "x-acs-date": at,
        "x-acs-signature-nonce": nonce,
        "x-acs-version": version,
    }
    signed = ";".join(headers)  # they stand in order
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"POST\n/\n{_canonical(params)}\n{lines}\n{signed}\n{headers['x-acs-content-sha256']}"
    to_sign = f"ACS3-HMAC-SHA256\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    credential = f"ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={signed},Signature={signature}"
    return {**headers, "accept": "application/json", "Authorization": credential}


def rpc(
    action: str,
    params: Mapping[str, str],
    key_id: str,
    secret: str,
    *,
    at: str,
    nonce: str,
    version: str = VERSION,
) -> Mapping[str, str]:
    """Sign the parameters of a POST of / by signature version 1.0; returns them all, for its form."""
    form = {
        **params, "Action": action, "Version": version, "Format": "JSON", "Timestamp": at, "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0", "SignatureNonce": nonce, "AccessKeyId": key_id,
    }  # fmt: skip
    to_sign = f"POST&{quote('/', safe='')}&{quote(_canonical(form), safe='~')}"
    digest = hmac.new(f"{secret}&".encode(), to_sign.encode(), hashlib.sha1).digest()
    return {**form, "Signature": b64encode(digest).decode()}


def _canonical(params: Mapping[str, str]) -> str:
    """RFC 3986: only A-Z a-z 0-9 - _ . ~ stay as they are; sorted by name."""
    return "&".join(f"{quote(name, safe='~')}={quote(params[name], safe='~')}" for name in sorted(params))
