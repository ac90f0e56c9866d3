"""The kind `tencent` against a server that checks requests as Tencent Cloud's gateway does."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.channels import kinds
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
)
from hongyan.channels.tencent import tc3
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status

from .providers import Answered, Asked, Opened, Provider, Reply, filed

SECRET_ID, SECRET_KEY = "AKIDexample", "s3cret"
ACCOUNT: dict[str, Any] = {
    "secret_id": SECRET_ID,
    "secret_key": SECRET_KEY,
    "sdk_app_id": "1400006666",
    "templates": {"login": "449739", "hello": "449740"},
    "parameters": {"login": ["code", "minutes"]},
    "signatures": {"鸿雁": "鸿雁科技"},
}
VALUES = {"minutes": "5", "code": "482913"}


def fault(code: str) -> Reply:
    return Reply({"Response": {"Error": {"Code": code, "Message": "no"}, "RequestId": "x"}})


class Gateway:
    """What stands before the service: clock, scope and signature, then the script decides."""

    def __init__(self, serve: Callable[[str, Any], Reply]) -> None:
        self.serve = serve

    def __call__(self, asked: Asked) -> Answered:
        headers = asked.headers
        word, _, rest = headers["authorization"].partition(" ")
        said = dict(part.split("=", 1) for part in rest.split(", "))
        at_s = int(headers["x-tc-timestamp"])
        if abs(time.time() - at_s) > 300:
            return fault("AuthFailure.SignatureExpire")
        day = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d")
        assert (word, asked.method, asked.path) == ("TC3-HMAC-SHA256", "POST", "/")
        assert said["Credential"] == f"{SECRET_ID}/{day}/sms/tc3_request"
        names = said["SignedHeaders"].split(";")
        assert {"content-type", "host"} <= set(names)
        lines = "".join(f"{name}:{headers[name].lower()}\n" for name in names)
        digest = hashlib.sha256(asked.body).hexdigest()
        request = "\n".join(("POST", "/", asked.raw_query, lines, said["SignedHeaders"], digest))
        scope = f"{day}/sms/tc3_request"
        to_sign = f"TC3-HMAC-SHA256\n{at_s}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"

        def mac(key: bytes, text: str) -> bytes:
            return hmac.new(key, text.encode(), hashlib.sha256).digest()

        key = mac(mac(mac(b"TC3" + SECRET_KEY.encode(), day), "sms"), "tc3_request")
        if mac(key, to_sign).hex() != said["Signature"]:
            return fault("AuthFailure.SignatureFailure")
        assert headers["content-type"] == "application/json"
        if headers["x-tc-version"] != "2021-01-11" or not headers["x-tc-region"]:
            return fault("NoSuchVersion")
        return self.serve(headers["x-tc-action"], asked.json)


def sent(numbers: Sequence[str], code: str = "Ok") -> Reply:
    each = [
        {
            "SerialNo": f"2019:{number[-4:]}" if code == "Ok" else "",
            "PhoneNumber": number,
            "Fee": 1,
            "SessionContext": "",
            "Code": code,
            "Message": "send success",
            "IsoCode": "CN",
        }
        for number in numbers
    ]
    return Reply({"Response": {"SendStatusSet": each, "RequestId": "x"}})


def taking(action: str, asked: Any) -> Reply:
    assert action == "SendSms"
    return sent(asked["PhoneNumberSet"])


def against(provider: Provider, **settings: object) -> Opened:
    return Opened("tencent", {"url": provider.url, **ACCOUNT, **settings})


def built(**settings: object) -> Channel:
    return kinds.build("tencent", {**ACCOUNT, **settings})


# ---- requests


async def test_a_template_goes_out_signed_with_its_values_in_order() -> None:
    async with Provider(Gateway(taking)) as provider, against(provider) as opened:
        assert await opened.send(filed(values=VALUES, sender="01")) == [Ack("2019:8000", "2019:8000")]
    assert provider.asked[0].json == {
        "PhoneNumberSet": ["+8613800138000"],
        "SmsSdkAppId": "1400006666",
        "TemplateId": "449739",
        "SignName": "鸿雁科技",
        "TemplateParamSet": ["482913", "5"],
        "ExtendCode": "01",
    }


async def test_what_differs_in_the_number_alone_shares_a_request() -> None:
    async with (
        Provider(Gateway(taking)) as provider,
        against(provider, batch_max=3, sender_id="HY") as opened,
    ):
        outcomes = await opened.send(
            *[filed(n, "hello", values={}, number=f"+861380013800{n}") for n in range(4)],
            filed(4, "hello", values={}, number="+8613800138003"),  # the same person twice
            filed(5, "login", values=VALUES),
            filed(6, "hello", values={}, number="+85251234567"),
        )
    assert all(isinstance(outcome, Ack) for outcome in outcomes)
    sets = sorted((len(asked.json["PhoneNumberSet"]), asked.json["TemplateId"]) for asked in provider.asked)
    assert sets == [(1, "449739"), (1, "449740"), (1, "449740"), (1, "449740"), (3, "449740")]
    assert [a.json["PhoneNumberSet"] for a in provider.asked if "SenderId" in a.json] == [["+85251234567"]]


async def test_each_number_of_a_request_has_its_own_outcome() -> None:
    def serve(_: str, asked: Any) -> Reply:
        good, bad, _missing = asked["PhoneNumberSet"]
        each = [
            {"SerialNo": "", "PhoneNumber": bad, "Code": "FailedOperation.PhoneNumberInBlacklist"},
            {"SerialNo": "s1", "PhoneNumber": good, "Code": "Ok"},
        ]
        return Reply({"Response": {"SendStatusSet": each}})

    async with Provider(Gateway(serve)) as provider, against(provider) as opened:
        outcomes = await opened.send(
            *[filed(n, "hello", values={}, number=f"+861380013800{n}") for n in range(3)]
        )
    assert outcomes == [
        Ack("s1", "s1"),
        Declined("FailedOperation.PhoneNumberInBlacklist", Cause.BLACKLISTED),
        Unsure("an answer without this number"),
    ]


async def test_an_answer_with_nothing_where_words_may_stand_is_read_all_the_same() -> None:
    def serve(_: str, asked: Any) -> Reply:
        good, bad = asked["PhoneNumberSet"]
        each = [
            {"SerialNo": None, "PhoneNumber": bad, "Code": "LimitExceeded.PhoneNumberDailyLimit", "Message": None},
            {"SerialNo": "s1", "PhoneNumber": good, "Code": "Ok", "Message": None, "Fee": None},
        ]  # fmt: skip
        return Reply({"Response": {"Error": None, "SendStatusSet": [{"Code": 1}, *each], "RequestId": None}})

    async with Provider(Gateway(serve)) as provider, against(provider) as opened:
        outcomes = await opened.send(
            *[filed(n, "hello", values={}, number=f"+861380013800{n}") for n in range(2)]
        )
    assert outcomes == [
        Ack("s1", "s1"),
        Declined("LimitExceeded.PhoneNumberDailyLimit", Cause.RATE_LIMITED),
    ]


async def test_what_is_not_filed_is_declined_and_asks_nobody() -> None:
    async with Provider(Gateway(taking)) as provider, against(provider) as opened:
        outcomes = await opened.send(filed(1, "other"), filed(2, "login", values={"code": "1"}))
    assert outcomes == [
        Declined("template_not_filed", Cause.SIGN_UNREGISTERED),
        Declined("variables_not_filed", Cause.SIGN_UNREGISTERED),
    ]
    assert provider.asked == []


async def test_a_wrong_key_is_no_fault_of_the_message_and_stops_the_channel() -> None:
    # A rest long enough that a slow machine looks at it in time.
    settings = {"secret_key": "wrong", "backoff_s": 0.5, "backoff_s_max": 0.5}
    async with Provider(Gateway(taking)) as provider, against(provider, **settings) as opened:
        assert await opened.send(filed(values=VALUES)) == [Unreachable("AuthFailure.SignatureFailure: no")]
        assert opened.channel.state().link is Link.DOWN


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("FailedOperation.ContainSensitiveWord", Cause.CONTENT_BLOCKED),
        ("FailedOperation.NeverSeen", Cause.REJECTED),
        ("InvalidParameterValue.IncorrectPhoneNumber", Cause.INVALID_NUMBER),
        ("LimitExceeded.PhoneNumberDailyLimit", Cause.RATE_LIMITED),
        ("NeverSeen", Cause.UNKNOWN),
        ("LimitExceeded.AppDailyLimit", Unreachable),
        ("FailedOperation.InsufficientBalanceInSmsPackage", Unreachable),
        ("RequestLimitExceeded.UinLimitExceeded", Throttled),
        ("InternalError.Timeout", Unsure),
        ("ServiceUnavailable", Unsure),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
async def test_a_code_says_what_may_follow(code: str, outcome: object, *, whole: bool) -> None:
    reply = fault(code) if whole else sent(["+8613800138000"], code)
    async with Provider(lambda _: reply) as provider, against(provider) as opened:
        (found,) = await opened.send(filed(values=VALUES))
    if isinstance(outcome, Cause):
        assert found == Declined(code, outcome)
    else:
        assert type(found) is outcome


# ---- reports

PULLED = {
    "UserReceiveTime": 1545282000,
    "CountryCode": "86",
    "SubscriberNumber": "13800138000",
    "PhoneNumber": "+8613800138000",
    "SerialNo": "2019:8000",
    "ReportStatus": "FAIL",
    "Description": "MK:0001",
    "SessionContext": "",
}


async def test_a_message_is_asked_about_by_its_number() -> None:
    def serve(action: str, asked: Any) -> Reply:
        assert (action, asked["PhoneNumber"]) == ("PullSmsSendStatusByPhoneNumber", "+8613800138000")
        assert asked["BeginTime"] < time.time()
        other = {**PULLED, "SerialNo": "other", "ReportStatus": "SUCCESS"}
        return Reply({"Response": {"PullSmsSendStatusSet": [other, PULLED]}})

    async with Provider(Gateway(serve)) as provider, against(provider) as opened:
        report = await opened.channel.ask("2019:8000", "+8613800138000", "")
        assert report is not None
        assert (report.status, report.cause, report.code) == (
            Status.UNDELIVERED, Cause.INVALID_NUMBER, "MK:0001",
        )  # fmt: skip
        assert await opened.channel.ask("2019:9999", "+8613800138000", "") is None


async def test_reports_and_replies_are_pulled_where_that_is_set() -> None:
    waiting = {
        "PullSmsSendStatus": [[PULLED], [{**PULLED, "SerialNo": "2019:8001", "ReportStatus": "SUCCESS"}]],
        "PullSmsReplyStatus": [[{
            "ExtendCode": "01", "CountryCode": "86", "PhoneNumber": "+8613800138000", "SignName": "鸿雁科技",
            "ReplyContent": "R", "ReplyTime": 1545282000, "SubscriberNumber": "13800138000",
        }]],
    }  # fmt: skip

    def serve(action: str, asked: Any) -> Reply:
        assert asked == {"Limit": 100, "SmsSdkAppId": "1400006666"}
        return Reply({"Response": {f"{action}Set": waiting[action].pop(0) if waiting[action] else []}})

    async with Provider(Gateway(serve)) as provider, against(provider, pull_gap_s=0.01) as opened:
        recorder = opened.recorder
        await recorder.until(lambda: len(recorder.reports) == 2 and len(recorder.inbound) == 1)
        assert [(r.upstream_id, r.status, r.number) for r in recorder.reports] == [
            ("2019:8000", Status.UNDELIVERED, "+8613800138000"),
            ("2019:8001", Status.DELIVERED, "+8613800138000"),
        ]
        assert (recorder.inbound[0].number, recorder.inbound[0].text) == ("+8613800138000", "R")


async def test_what_is_odd_in_a_pull_takes_nothing_from_the_others() -> None:
    odd: dict[str, Any] = {
        "PullSmsSendStatus": [{}, {**PULLED, "Description": None, "CountryCode": 86}, {"SerialNo": ["x"]}],
        "PullSmsReplyStatus": [
            {},
            {"SubscriberNumber": 13800138000, "ReplyContent": "R", "ExtendCode": None},
        ],
    }

    def serve(action: str, _: Any) -> Reply:
        return Reply({"Response": {f"{action}Set": odd.pop(action, []), "Error": None}})

    async with Provider(Gateway(serve)) as provider, against(provider, pull_gap_s=0.01) as opened:
        recorder = opened.recorder
        await recorder.until(lambda: len(recorder.reports) == 1 and len(recorder.inbound) == 1)
        (report,) = recorder.reports
        assert (report.upstream_id, report.code, report.number) == ("2019:8000", "", "+8613800138000")
        assert recorder.inbound[0].number == "+8613800138000"


async def test_pulled_reports_are_told_before_replies_are_asked_for() -> None:
    gate = asyncio.Event()

    async def serve(asked: Asked) -> Answered:
        if asked.headers["x-tc-action"] == "PullSmsReplyStatus":
            await gate.wait()
            return Reply({"Response": {}})
        return Reply({"Response": {"PullSmsSendStatusSet": [PULLED]}})

    async with Provider(serve) as provider, against(provider, pull_gap_s=60.0) as opened:
        await opened.recorder.until(lambda: len(opened.recorder.reports) == 1)
        gate.set()


async def test_closing_lets_a_pull_end_because_it_takes_reports_away() -> None:
    gate = asyncio.Event()

    async def serve(asked: Asked) -> Answered:
        await gate.wait()
        name = f"{asked.headers['x-tc-action']}Set"
        return Reply({"Response": {name: [PULLED] if name == "PullSmsSendStatusSet" else []}})

    async with (
        Provider(serve) as provider,
        against(provider, pull_gap_s=0.01, close_wait_s=5.0) as opened,
        asyncio.TaskGroup() as tasks,
    ):
        await provider.until(lambda: len(provider.asked) == 1)
        closing = tasks.create_task(opened.channel.close())
        gate.set()
        await opened.recorder.until(lambda: len(opened.recorder.reports) == 1)
        opened.store()
        await closing


PUSHED = {
    "user_receive_time": "2015-10-17 08:03:04",
    "nationcode": "86",
    "mobile": "13800138000",
    "report_status": "SUCCESS",
    "errmsg": "DELIVRD",
    "description": "用户短信送达成功",
    "sid": "2019:8000",
}


def test_a_push_brings_many_reports_and_hears_its_answer() -> None:
    failed = {**PUSHED, "report_status": "FAIL", "errmsg": "MK:0001", "sid": "2019:8001"}
    late = {**PUSHED, "report_status": "FAIL", "errmsg": "EXPIRED", "sid": "2019:8002"}
    read = built().read_push({}, json.dumps([PUSHED, failed, late]).encode())
    assert [(r.upstream_id, r.status, r.cause, r.code) for r in read.reports] == [
        ("2019:8000", Status.DELIVERED, Cause.NONE, "DELIVRD"),
        ("2019:8001", Status.UNDELIVERED, Cause.INVALID_NUMBER, "MK:0001"),
        ("2019:8002", Status.EXPIRED, Cause.EXPIRED, "EXPIRED"),
    ]
    assert read.reports[0].number == "+8613800138000"
    assert json.loads(read.answer) == {"result": 0, "errmsg": "OK"}


def test_a_push_of_more_than_anybody_tells_at_once_is_not_read() -> None:
    with pytest.raises(BadPush, match="too many"):
        built().read_push({}, b"[" + b"{}," * 20_000 + b"{}]")


def test_what_is_odd_in_a_push_takes_nothing_from_the_others() -> None:
    empty = {**PUSHED, "errmsg": None, "description": None, "sid": "2019:8001"}
    digits = {**PUSHED, "mobile": 13800138000, "nationcode": 86, "sid": 20198002}
    read = built().read_push({}, json.dumps([{}, empty, 7, digits, {"sid": ["x"]}]).encode())
    assert [(r.upstream_id, r.number, r.code) for r in read.reports] == [
        ("2019:8001", "+8613800138000", ""),
        ("20198002", "+8613800138000", "DELIVRD"),
    ]


def test_a_reply_is_a_push_of_its_own() -> None:
    told = {
        "extend": "01",
        "mobile": "13800138000",
        "nationcode": "86",
        "sign": "鸿雁科技",
        "text": "R",
        "time": 1457336869,
    }
    read = built().read_push({}, json.dumps(told).encode())
    assert read.inbound == [Inbound("+8613800138000", "01", "R", read.inbound[0].at_s)]


@pytest.mark.parametrize(
    "body", [b"", b"x", b"{}", b"[1]", b"[{}]", b'{"mobile": 1}', b"\xff", b"[" * 100_000]
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


# ---- signature

BODY = b'{"Limit": 1, "Filters": [{"Values": ["\\u672a\\u547d\\u540d"], "Name": "instance-name"}]}'


def test_the_signature_of_the_documents_example_comes_out() -> None:
    """Signature method v3, DescribeInstances of 2019-02-25, with content-type and host signed."""
    signed = tc3(
        "cvm.tencentcloudapi.com",
        BODY,
        "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE",
        "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
        at_s=1551113065,
        service="cvm",
        content_type="application/json; charset=utf-8",
    )
    assert signed == (
        "TC3-HMAC-SHA256 Credential=AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE/2019-02-25/cvm/tc3_request, "
        "SignedHeaders=content-type;host, "
        "Signature=72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"
    )
