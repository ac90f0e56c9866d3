"""The kind `aliyun` against a server that checks requests as Alibaba Cloud's gateway does."""

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.channels import kinds
from hongyan.channels.aliyun import acs3
from hongyan.channels.channel import (
    Ack,
    BadPush,
    Channel,
    Declined,
    Inbound,
    Link,
    Throttled,
    Unreachable,
    Unsure,
    Wording,
)
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status

from .centre import parcel
from .providers import Answered, Asked, Opened, Provider, Reply, filed

KEY_ID, SECRET = "LTAI5tExample", "s3cret"
ACCOUNT: dict[str, Any] = {
    "access_key_id": KEY_ID,
    "access_key_secret": SECRET,
    "templates": {"login": "SMS_15305", "notice": "SMS_15306"},
    "signatures": {"鸿雁": "鸿雁科技"},
    "variables": {"login": {"minutes": "min"}},
}
TAKEN = {
    "Message": "OK",
    "RequestId": "F655A8D5-B967-440B-8683-DAD6FF8DE990",
    "Code": "OK",
    "BizId": "9006^0",
}


def pct(text: str) -> str:
    return quote(text, safe="-_.~")


def canonical(params: Mapping[str, str]) -> str:
    return "&".join(f"{pct(name)}={pct(value)}" for name, value in sorted(params.items()))


def fault(code: str, status: int = 400) -> Reply:
    return Reply({"RequestId": "X", "HostId": "dysmsapi.aliyuncs.com", "Code": code, "Message": code}, status)


class Gateway:
    """What stands before the service: version, date, nonce, hash and signature, then the script decides."""

    def __init__(self, serve: Callable[[str, Mapping[str, str]], Reply]) -> None:
        self.serve = serve
        self.nonces: set[str] = set()
        self.signed_by: list[str] = []

    def __call__(self, asked: Asked) -> Answered:
        return self.acs3(asked) if "authorization" in asked.headers else self.rpc(asked)

    def admit(self, at: str, nonce: str) -> Reply | None:
        age = datetime.now(UTC) - datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if abs(age) > timedelta(minutes=15):
            return fault("InvalidTimeStamp.Expired")
        if nonce in self.nonces:
            return fault("SignatureNonceUsed")
        self.nonces.add(nonce)
        return None

    def acs3(self, asked: Asked) -> Answered:
        headers = asked.headers
        word, _, rest = headers["authorization"].partition(" ")
        said = dict(part.split("=", 1) for part in rest.split(","))
        assert (word, said["Credential"], asked.method, asked.path) == (
            "ACS3-HMAC-SHA256",
            KEY_ID,
            "POST",
            "/",
        )
        assert headers["x-acs-version"] == "2017-05-25"
        if headers["x-acs-content-sha256"] != hashlib.sha256(asked.body).hexdigest():
            return fault("SignatureDoesNotMatch")
        names = said["SignedHeaders"].split(";")
        assert {"host", "x-acs-action", "x-acs-date", "x-acs-content-sha256"} <= set(names)
        lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
        request = "\n".join(
            (
                "POST",
                "/",
                canonical(asked.query),
                lines,
                said["SignedHeaders"],
                headers["x-acs-content-sha256"],
            )
        )
        to_sign = "ACS3-HMAC-SHA256\n" + hashlib.sha256(request.encode()).hexdigest()
        right = hmac.new(SECRET.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
        if right != said["Signature"]:
            return fault("SignatureDoesNotMatch")
        self.signed_by.append("acs3")
        refused = self.admit(headers["x-acs-date"], headers["x-acs-signature-nonce"])
        return refused or self.serve(headers["x-acs-action"], asked.query)

    def rpc(self, asked: Asked) -> Answered:
        params = {**asked.query, **asked.form}
        given_ = params.pop("Signature")
        to_sign = f"POST&%2F&{pct(canonical(params))}"
        right = b64encode(hmac.new(f"{SECRET}&".encode(), to_sign.encode(), hashlib.sha1).digest()).decode()
        if right != given_ or params["SignatureVersion"] != "1.0" or params["SignatureMethod"] != "HMAC-SHA1":
            return fault("SignatureDoesNotMatch")
        self.signed_by.append("rpc")
        return self.admit(params["Timestamp"], params["SignatureNonce"]) or self.serve(
            params["Action"], params
        )


def taking(_: str, __: Mapping[str, str]) -> Reply:
    return Reply(TAKEN)


def against(provider: Provider, **settings: object) -> Opened:
    return Opened("aliyun", {"url": provider.url, **ACCOUNT, **settings})


def built(**settings: object) -> Channel:
    return kinds.build("aliyun", {**ACCOUNT, **settings})


def push(*told: object) -> bytes:
    return json.dumps(told).encode()


# ---- requests


@pytest.mark.parametrize("signing", ["acs3", "rpc"])
async def test_a_template_goes_out_signed_with_its_filed_codes_and_names(signing: str) -> None:
    seen: list[Mapping[str, str]] = []

    def serve(action: str, params: Mapping[str, str]) -> Reply:
        assert action == "SendSms"
        seen.append(params)
        return Reply(TAKEN)

    gateway = Gateway(serve)
    async with Provider(gateway) as provider, against(provider, signing=signing) as opened:
        values = {"code": "4829 13+*~/=&%", "minutes": "五"}
        assert await opened.send(filed(values=values, sender="01")) == [Ack("9006^0", "9006^0")]
    assert gateway.signed_by == [signing]
    sent = seen[0]
    assert (sent["PhoneNumbers"], sent["SignName"], sent["TemplateCode"]) == (
        "13800138000",
        "鸿雁科技",
        "SMS_15305",
    )
    assert json.loads(sent["TemplateParam"]) == {"code": "4829 13+*~/=&%", "min": "五"}
    assert sent["SmsUpExtendCode"] == "01"


async def test_what_is_too_long_for_a_url_goes_as_a_form() -> None:
    gateway = Gateway(taking)
    async with Provider(gateway) as provider, against(provider, value_characters_max=0) as opened:
        assert await opened.send(filed(values={"text": "长" * 300})) == [Ack("9006^0", "9006^0")]
    assert gateway.signed_by == ["rpc"]


async def test_numbers_abroad_keep_their_code() -> None:
    async with Provider(Gateway(taking)) as provider, against(provider) as opened:
        await opened.send(filed(number="+85251234567", values={}))
    assert provider.asked[0].query["PhoneNumbers"] == "85251234567"
    assert "TemplateParam" not in provider.asked[0].query


async def test_what_is_not_filed_is_declined_and_asks_nobody() -> None:
    async with Provider(Gateway(taking)) as provider, against(provider) as opened:
        outcomes = await opened.send(
            parcel(1),
            filed(2, template="other"),
            filed(3, signature="other"),
            filed(4, values={"code": "x" * 36}),
        )
    assert outcomes == [
        Declined("no_template", Cause.SIGN_UNREGISTERED),
        Declined("template_not_filed", Cause.SIGN_UNREGISTERED),
        Declined("signature_not_filed", Cause.SIGN_UNREGISTERED),
        Declined("value_too_long", Cause.UNSUPPORTED),
    ]
    assert provider.asked == []


def test_a_channel_says_beforehand_what_it_takes() -> None:
    channel = built()
    assert channel.takes(Wording("login", "鸿雁", {"code": "1"}))
    assert not channel.takes(Wording("login", "another", {"code": "1"}))
    assert not channel.takes(None)


async def test_a_wrong_key_is_no_fault_of_the_message_and_stops_the_channel() -> None:
    # A rest long enough that a slow machine looks at it in time.
    settings = {"access_key_secret": "wrong", "backoff_s": 0.5, "backoff_s_max": 0.5}
    async with Provider(Gateway(taking)) as provider, against(provider, **settings) as opened:
        (outcome,) = await opened.send(filed())
        assert isinstance(outcome, Unreachable)
        assert opened.channel.state().link is Link.DOWN
        assert "SignatureDoesNotMatch" in opened.channel.state().reason


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (200, "isv.MOBILE_NUMBER_ILLEGAL", Declined("isv.MOBILE_NUMBER_ILLEGAL", Cause.INVALID_NUMBER)),
        (200, "isv.BUSINESS_LIMIT_CONTROL", Declined("isv.BUSINESS_LIMIT_CONTROL", Cause.RATE_LIMITED)),
        (200, "isv.BLACK_KEY_CONTROL_LIMIT", Declined("isv.BLACK_KEY_CONTROL_LIMIT", Cause.BLACKLISTED)),
        (200, "isv.SMS_TEMPLATE_ILLEGAL", Declined("isv.SMS_TEMPLATE_ILLEGAL", Cause.SIGN_UNREGISTERED)),
        (200, "isv.NOT_KNOWN_YET", Declined("isv.NOT_KNOWN_YET", Cause.UNKNOWN)),
        (200, "isv.AMOUNT_NOT_ENOUGH", Unreachable("isv.AMOUNT_NOT_ENOUGH: isv.AMOUNT_NOT_ENOUGH")),
        (400, "InvalidTimeStamp.Expired", Unreachable("InvalidTimeStamp.Expired: InvalidTimeStamp.Expired")),
        # Nobody but us knows our nonces: this very request came twice, and the first may have been taken.
        (400, "SignatureNonceUsed", Unsure("SignatureNonceUsed: SignatureNonceUsed")),
        (500, "InternalError", Unsure("InternalError: InternalError")),
        (503, "Never.Seen", Unsure("Never.Seen: Never.Seen")),
    ],
)
async def test_a_code_says_what_may_follow(status: int, code: str, outcome: object) -> None:
    async with Provider(lambda _: fault(code, status)) as provider, against(provider) as opened:
        assert await opened.send(filed()) == [outcome]


async def test_an_answer_with_nothing_where_words_may_stand_is_an_ack() -> None:
    reply = Reply({"Code": "OK", "BizId": "9006^0", "Message": None, "RequestId": None})
    async with Provider(lambda _: reply) as provider, against(provider) as opened:
        assert await opened.send(filed()) == [Ack("9006^0", "9006^0")]


async def test_throttling_by_the_gateway_pauses_the_channel() -> None:
    # Long enough that a slow machine looks at it in time.
    pause = {"throttle_pause_s": 0.5, "throttle_pause_s_max": 0.5}
    async with Provider(lambda _: fault("Throttling.User")) as provider, against(provider, **pause) as opened:
        (outcome,) = await opened.send(filed())
        assert isinstance(outcome, Throttled)
        assert outcome.code == "Throttling.User"
        assert opened.recorder.states[-1].link is Link.THROTTLED


# ---- reports


async def test_the_details_of_a_message_are_asked_of_today_then_of_yesterday() -> None:
    days: list[str] = []

    def serve(action: str, params: Mapping[str, str]) -> Reply:
        assert (action, params["PhoneNumber"], params["BizId"]) == (
            "QuerySendDetails",
            "13800138000",
            "9006^0",
        )
        days.append(params["SendDate"])
        detail = {"PhoneNum": "13800138000", "SendStatus": 2, "ErrCode": "MOBILE_IN_BLACK", "OutId": ""}
        found = [detail] if len(days) == 2 else []
        return Reply({"Code": "OK", "TotalCount": 1, "SmsSendDetailDTOs": {"SmsSendDetailDTO": found}})

    async with Provider(Gateway(serve)) as provider, against(provider) as opened:
        report = await opened.channel.ask("9006^0", "+8613800138000", "")
    assert report is not None
    assert (report.upstream_id, report.status, report.cause, report.code, report.final) == (
        "9006^0", Status.UNDELIVERED, Cause.BLACKLISTED, "MOBILE_IN_BLACK", True,
    )  # fmt: skip
    assert days[0] > days[1]


async def test_details_that_still_wait_settle_nothing() -> None:
    found = {"SmsSendDetailDTOs": {"SmsSendDetailDTO": [{"SendStatus": 1, "ErrCode": ""}]}}
    async with Provider(Gateway(lambda *_: Reply(found))) as provider, against(provider) as opened:
        report = await opened.channel.ask("9006^0", "+8613800138000", "")
        assert report is not None
        assert not report.final
    async with Provider(lambda _: fault("isp.SYSTEM_ERROR")) as provider, against(provider) as opened:
        assert await opened.channel.ask("9006^0", "+8613800138000", "") is None


REPORT = {
    "phone_number": "13800138000",
    "send_time": "2026-11-22 10:00:00",
    "report_time": "2026-11-22 10:00:05",
    "success": True,
    "err_code": "DELIVERED",
    "err_msg": "用户接收成功",
    "sms_size": "1",
    "biz_id": "9006^0",
    "out_id": "",
}


def test_a_push_brings_many_reports_and_texts_and_hears_its_answer() -> None:
    failed = {**REPORT, "success": False, "err_code": "MOBLLE_TERMINAL_ERROR", "biz_id": "9007^0"}
    late = {**REPORT, "success": False, "err_code": "EXPIRED", "biz_id": "9008^0"}
    waiting = {**REPORT, "success": False, "err_code": "REQUEST_SUCCESS", "biz_id": "9009^0"}
    text = {
        "phone_number": "13800138000",
        "send_time": "2026-11-22 10:00:00",
        "content": "R",
        "sign_name": "鸿雁科技",
        "dest_code": "01",
        "sequence_id": 1234567890,
    }
    read = built().read_push({}, push(REPORT, failed, late, waiting, text))
    assert [(r.upstream_id, r.status, r.cause, r.final) for r in read.reports] == [
        ("9006^0", Status.DELIVERED, Cause.NONE, True),
        ("9007^0", Status.UNDELIVERED, Cause.HANDSET, True),
        ("9008^0", Status.EXPIRED, Cause.EXPIRED, True),
        ("9009^0", Status.SUBMITTED, Cause.NONE, False),
    ]
    assert read.reports[0].number == "+8613800138000"
    assert read.inbound == [Inbound("+8613800138000", "01", "R", read.inbound[0].at_s)]
    assert json.loads(read.answer) == {"code": 0, "msg": "接收成功"}


def test_a_push_of_more_than_anybody_tells_at_once_is_not_read() -> None:
    with pytest.raises(BadPush, match="too many"):
        built().read_push({}, b"[" + b"{}," * 20_000 + b"{}]")


def test_what_is_odd_in_a_push_takes_nothing_from_the_others() -> None:
    empty = {**REPORT, "biz_id": "9007^0", "err_code": None, "out_id": None}
    digits = {**REPORT, "biz_id": "9008^0", "phone_number": 13800138000, "err_code": 0, "success": "false"}
    text = {"phone_number": 13800138000, "content": "R", "dest_code": None}
    read = built().read_push({}, push({"colour": "red"}, empty, 7, digits, {"biz_id": ["x"]}, text, REPORT))
    assert [(r.upstream_id, r.status, r.number, r.code) for r in read.reports] == [
        ("9007^0", Status.DELIVERED, "+8613800138000", ""),
        ("9008^0", Status.UNDELIVERED, "+8613800138000", "0"),
        ("9006^0", Status.DELIVERED, "+8613800138000", "DELIVERED"),
    ]
    assert [(i.number, i.access_number, i.text) for i in read.inbound] == [("+8613800138000", "", "R")]


def test_how_a_review_ended_is_taken_and_means_nothing_here() -> None:
    told = {"template_type": "验证码", "reason": "", "template_status": "approved", "template_code": "SMS_1"}
    read = built().read_push({}, push(told))
    assert (read.reports, read.inbound) == ([], [])


@pytest.mark.parametrize(
    "body", [b"", b"x", b"{}", b'"text"', b"[1]", b"[{}]", b'[{"biz_id": "1"}]', b"\xff", b"[" * 100_000]
)
def test_a_push_of_something_else_is_refused(body: bytes) -> None:
    with pytest.raises(BadPush):
        built().read_push({}, body)


@given(st.binary(max_size=60))
def test_garbage_is_refused_and_nothing_else(body: bytes) -> None:
    try:
        built().read_push({}, body)
    except BadPush:
        return


# ---- signatures


def test_the_signature_of_the_documents_example_comes_out() -> None:
    """https://help.aliyun.com/zh/sdk/product-overview/v3-request-structure-and-signature, fixed parameters."""
    headers = acs3(
        "ecs.cn-shanghai.aliyuncs.com",
        "RunInstances",
        {"ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd", "RegionId": "cn-shanghai"},
        "YourAccessKeyId",
        "YourAccessKeySecret",
        at="2023-10-26T10:22:32Z",
        nonce="3156853299f313e23d1673dc12e1703d",
        version="2014-05-26",
    )
    assert headers["Authorization"] == (
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;"
        "x-acs-signature-nonce;x-acs-version,"
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )
