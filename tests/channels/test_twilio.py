"""The kind `twilio` against a server that answers as Twilio does, and pushes signed as Twilio signs them."""

from base64 import b64encode
from typing import Any
from urllib.parse import urlencode

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
from hongyan.channels.twilio import PUSH_ANSWER, signature
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.vocab.text import Counting, Encoding

from .centre import parcel
from .providers import Answered, Asked, Opened, Provider, Reply

SID, TOKEN, PUSH_URL = "AC" + "0" * 32, "12345", "https://sms.example.com/v1/upstream/7?k=word"
ACCOUNT: dict[str, Any] = {"account_sid": SID, "auth_token": TOKEN, "push_url": PUSH_URL}
MESSAGE = {
    "sid": "SM" + "1" * 32,
    "account_sid": SID,
    "status": "queued",
    "num_segments": "1",
    "error_code": None,
    "error_message": None,
    "price": None,
}
ACKED = [Ack(str(MESSAGE["sid"]), str(MESSAGE["sid"]))]


class Api:
    """Their API: credentials first, then what is asked of a message."""

    def __init__(self, reply: Reply | None = None, name: str = SID, word: str = TOKEN) -> None:
        self.reply = reply or Reply(MESSAGE, 201)
        self.basic = "Basic " + b64encode(f"{name}:{word}".encode()).decode()

    def __call__(self, asked: Asked) -> Answered:
        if asked.headers.get("authorization") != self.basic:
            return fault(20003, 401)
        if asked.method == "GET":
            assert asked.path == f"/2010-04-01/Accounts/{SID}/Messages/{MESSAGE['sid']}.json"
            return Reply({**MESSAGE, "status": "failed", "error_code": 30003})
        assert (asked.method, asked.path) == ("POST", f"/2010-04-01/Accounts/{SID}/Messages.json")
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
        if "From" not in asked.form and "MessagingServiceSid" not in asked.form:
            return fault(21603)
        return self.reply


def fault(code: int, status: int = 400, wait_s: int = 0) -> Reply:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return Reply(
        {"code": code, "message": "no", "more_info": more, "status": status},
        status,
        {"Retry-After": str(wait_s)} if wait_s else {},
    )


def against(provider: Provider, **settings: object) -> Opened:
    return Opened("twilio", {"url": provider.url, **ACCOUNT, **settings})


def built(**settings: object) -> Channel:
    return kinds.build("twilio", {**ACCOUNT, **settings})


def told(url: str = PUSH_URL, token: str = TOKEN, **fields: str) -> tuple[dict[str, str], bytes]:
    given_ = {"MessageSid": "SM1", "AccountSid": SID, "ApiVersion": "2010-04-01", **fields}
    return {"x-twilio-signature": signature(token, url, list(given_.items()))}, urlencode(given_).encode()


# ---- requests


async def test_a_text_goes_out_whole_with_its_sender_and_where_to_push() -> None:
    text = "你好 +&=%😀"
    async with Provider(Api()) as provider, against(provider) as opened:
        octets = text.encode("utf-16-be")
        sent = parcel(octets=octets, encoding=Encoding.UCS2, sender="15005550006", validity_s=99_999)
        assert await opened.send(sent) == ACKED
    assert provider.asked[0].form == {
        "To": "+8613800138000",
        "Body": text,
        "From": "+15005550006",
        "StatusCallback": PUSH_URL,
        "ValidityPeriod": "36000",
    }


@pytest.mark.parametrize(("sender", "written"), [("12345", "12345"), ("HONGYAN", "HONGYAN")])
async def test_short_codes_and_letters_are_senders_as_they_are(sender: str, written: str) -> None:
    async with Provider(Api()) as provider, against(provider) as opened:
        await opened.send(parcel(sender=sender))
    assert provider.asked[0].form["From"] == written


async def test_a_messaging_service_chooses_the_sender_and_a_key_may_call() -> None:
    settings = {"messaging_service_sid": "MG1", "api_key": "SK1", "api_key_secret": "kk", "validity": False}
    async with Provider(Api(name="SK1", word="kk")) as provider, against(provider, **settings) as opened:
        assert await opened.send(parcel(validity_s=60)) == ACKED
    form = provider.asked[0].form
    assert form["MessagingServiceSid"] == "MG1"
    assert not {"From", "ValidityPeriod"} & set(form)


async def test_a_text_they_never_take_is_not_cut_for_them() -> None:
    async with Provider(Api()) as provider, against(provider) as opened:
        assert opened.channel.cut("x" * 1601, Counting.INTERNATIONAL) == ()
        assert len(opened.channel.cut("x" * 1600, Counting.INTERNATIONAL)) == 1
        long = parcel(octets=b"x" * 1601)
        assert await opened.send(long) == [Declined("text_too_long", Cause.UNSUPPORTED)]
    assert provider.asked == []


async def test_a_wrong_token_is_no_fault_of_the_message_and_stops_the_channel() -> None:
    # A rest long enough that a slow machine looks at it in time.
    settings = {"auth_token": "wrong", "backoff_s": 0.5, "backoff_s_max": 0.5}
    async with Provider(Api()) as provider, against(provider, **settings) as opened:
        assert await opened.send(parcel()) == [Unreachable("20003: no")]
        assert opened.channel.state().link is Link.DOWN


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (fault(21211), Declined("21211", Cause.INVALID_NUMBER)),
        (fault(21610), Declined("21610", Cause.BLACKLISTED)),
        (fault(21408, 403), Declined("21408", Cause.NO_ROUTE)),
        (fault(99999), Declined("99999", Cause.UNKNOWN)),
        (fault(99999, 500), Unsure("99999: no")),
        (fault(20429, 429, 7), Throttled(0.2, "20429")),
        (fault(99999, 429, 7), Throttled(0.2, "99999")),
        (Reply({"status": "queued"}, 201), Unsure("status 201, and an answer that cannot be read")),
        (Reply(b"<html>", 503), Unsure("status 503, and an answer that cannot be read")),
    ],
)
async def test_a_code_says_what_may_follow(reply: Reply, outcome: object) -> None:
    async with Provider(Api(reply)) as provider, against(provider) as opened:
        assert await opened.send(parcel()) == [outcome]


async def test_who_speaks_their_api_may_write_codes_as_words_and_leave_words_out() -> None:
    taken = {"sid": "SM1", "status": None, "error_code": "", "message": None}
    async with Provider(Api(Reply(taken, 201))) as provider, against(provider) as opened:
        assert await opened.send(parcel()) == [Ack("SM1", "SM1")]
    refused = {"sid": None, "code": "21211", "message": None, "status": "400"}
    async with Provider(Api(Reply(refused, 400))) as provider, against(provider) as opened:
        assert await opened.send(parcel()) == [Declined("21211", Cause.INVALID_NUMBER)]
    failed = {"sid": "SM1", "status": "failed", "error_code": "30003"}
    async with Provider(lambda _: Reply(failed)) as provider, against(provider) as opened:
        report = await opened.channel.ask("SM1", "+8613800138000", "")
    assert report is not None
    assert (report.cause, report.code) == (Cause.ABSENT, "failed/30003")


@pytest.mark.parametrize("code", [21603, 21703])
async def test_an_account_without_a_sender_is_no_fault_of_the_message(code: int) -> None:
    async with Provider(Api(fault(code))) as provider, against(provider) as opened:
        assert await opened.send(parcel()) == [Unreachable(f"{code}: no")]


# ---- reports


async def test_a_message_is_asked_about_by_its_sid() -> None:
    async with Provider(Api()) as provider, against(provider) as opened:
        report = await opened.channel.ask(str(MESSAGE["sid"]), "+8613800138000", "")
    assert report is not None
    assert (report.status, report.cause, report.code) == (Status.UNDELIVERED, Cause.ABSENT, "failed/30003")
    async with Provider(lambda _: fault(20404, 404)) as provider, against(provider) as opened:
        assert await opened.channel.ask("SM0", "+8613800138000", "") is None


@pytest.mark.parametrize(
    ("word", "code", "status", "cause", "final"),
    [
        ("queued", "", Status.SUBMITTED, Cause.NONE, False),
        ("sent", "", Status.SUBMITTED, Cause.NONE, False),
        ("delivered", "", Status.DELIVERED, Cause.NONE, True),
        ("undelivered", "30005", Status.UNDELIVERED, Cause.INVALID_NUMBER, True),
        ("failed", "30036", Status.EXPIRED, Cause.EXPIRED, True),
        ("failed", "", Status.UNDELIVERED, Cause.REJECTED, True),
        ("failed", "39999", Status.UNDELIVERED, Cause.UNKNOWN, True),
        ("a_word_of_tomorrow", "", Status.SUBMITTED, Cause.NONE, False),
    ],
)
def test_a_status_callback_is_a_report(
    word: str, code: str, status: Status, cause: Cause, *, final: bool
) -> None:
    fields = {"MessageStatus": word, "To": "+8613800138000", "From": "+15005550006"}
    read = built().read_push(*told(**fields, **({"ErrorCode": code} if code else {})))
    (report,) = read.reports
    assert (report.upstream_id, report.status, report.cause, report.final) == ("SM1", status, cause, final)
    assert report.number == "+8613800138000"
    assert (read.answer, read.content_type) == (PUSH_ANSWER, "text/xml")


def test_what_a_person_texts_arrives() -> None:
    fields = {
        "SmsStatus": "received",
        "From": "+14155550100",
        "To": "+15005550006",
        "Body": "停",
        "NumMedia": "0",
    }
    read = built().read_push(*told(**fields))
    assert read.reports == ()
    assert read.inbound == (Inbound("+14155550100", "+15005550006", "停", read.inbound[0].at_s),)


def test_a_status_callback_that_repeats_our_text_is_a_report_all_the_same() -> None:
    fields = {"MessageStatus": "delivered", "To": "+8613800138000", "From": "+15005550006", "Body": "你好"}
    read = built().read_push(*told(**fields))
    assert ([report.status for report in read.reports], read.inbound) == ([Status.DELIVERED], ())


@pytest.mark.parametrize(
    "url",
    ["https://sms.example.com/v1/upstream/7?k=word", "https://sms.example.com:443/v1/upstream/7?k=word"],
)
def test_their_signature_may_name_the_port_or_not(url: str) -> None:
    assert built().read_push(*told(url, MessageStatus="sent")).reports
    assert built(push_url=url).read_push(*told(MessageStatus="sent")).reports


def test_a_push_that_twilio_did_not_sign_is_forged() -> None:
    channel = built()
    headers, body = told(MessageStatus="delivered")
    for forged_headers, forged_body in (
        ({}, body),
        ({"x-twilio-signature": "é"}, body),
        (headers, body + b"&ErrorCode=1"),
        told(token="other", MessageStatus="delivered"),
        told(url="https://elsewhere.example.com/", MessageStatus="delivered"),
    ):
        with pytest.raises(BadPush) as caught:
            channel.read_push(forged_headers, forged_body)
        assert caught.value.forged


def test_without_a_token_every_push_is_forged() -> None:
    with pytest.raises(BadPush) as caught:
        built(auth_token="", api_key="SK1", api_key_secret="kk").read_push(
            *told(token="", MessageStatus="delivered")
        )
    assert caught.value.forged


def test_a_push_of_something_else_is_refused() -> None:
    headers = {"x-twilio-signature": signature(TOKEN, PUSH_URL, [("a", "b")])}
    with pytest.raises(BadPush) as caught:
        built().read_push(headers, b"a=b")
    assert not caught.value.forged


@given(st.binary(max_size=60))
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(BadPush):
        built().read_push({}, body)


# ---- signature


def test_the_signature_of_the_documents_example_comes_out() -> None:
    """https://www.twilio.com/docs/usage/security, as the tests of their libraries have it."""
    pairs = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+14158675309"),
        ("Digits", "1234"),
        ("From", "+14158675309"),
        ("To", "+18005551212"),
    ]
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert signature("12345", url, pairs) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="
