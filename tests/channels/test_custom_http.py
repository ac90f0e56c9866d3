"""The kind `custom_http`: providers of several habits, described by settings alone, against servers that check them."""

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.channels import kinds
from hongyan.channels.channel import Ack, BadPush, Channel, Declined, Inbound, Unreachable, Wording
from hongyan.channels.custom_http import CustomHttp
from hongyan.channels.kinds import BadSettings
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.vocab.text import Counting, Encoding

from .centre import parcel
from .providers import Answered, Asked, Opened, Provider, Reply, filed

URL = "https://sms.example/send"


def built(**settings: object) -> Channel:
    return kinds.build("custom_http", {"url": URL, **settings})


def against(provider: Provider, path: str, settings: dict[str, Any], **more: object) -> Opened:
    return Opened("custom_http", {"url": f"{provider.url}{path}", **settings, **more})


# ---- four providers

# Headers that hash a nonce, the time and a secret; a form; templates of theirs with values in order.
WSSE: dict[str, Any] = {
    "account": {"key": "app-key", "from": "8821061212345"},
    "secrets": {"key": "app-secret"},
    "recipes": {"digest": ["text {nonce}{time}{secret.key}", "sha256", "base64"]},
    "time_format": "%Y-%m-%dT%H:%M:%SZ",
    "time_zone_h": 0,
    "headers": {
        "Authorization": 'WSSE realm="SDP",profile="UsernameToken",type="Appkey"',
        "X-WSSE": 'UsernameToken Username="{account.key}",PasswordDigest="{recipe.digest}",'
        'Nonce="{nonce}",Created="{time}"',
    },
    "body_form": "form",
    "body": {
        "from": "{account.from}",
        "to": "{number}",
        "templateId": "{template}",
        "templateParas": "{values_list}",
        "signature": "{signature}",
        "extend": "{sender}",
    },
    "by_template": True,
    "templates": {"login": "8ff55eac"},
    "parameters": {"login": ["code", "minutes"]},
    "signatures": {"鸿雁": "鸿雁科技"},
    "ok_path": "code",
    "ok_values": ["000000"],
    "id_path": "result.0.smsMsgId",
    "message_path": "description",
    "push_form": "form",
    "push_id_path": "smsMsgId",
    "push_status_path": "status",
}


async def test_headers_may_be_hashed_and_values_go_in_order() -> None:
    def serve(asked: Asked) -> Answered:
        words = dict(
            part.split("=", 1) for part in asked.headers["x-wsse"].removeprefix("UsernameToken ").split(",")
        )
        nonce, at, digest = (words[name].strip('"') for name in ("Nonce", "Created", "PasswordDigest"))
        assert b64decode(digest) == hashlib.sha256(f"{nonce}{at}app-secret".encode()).digest()
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
        return Reply({"code": "000000", "description": "Success", "result": [{"smsMsgId": "id-1"}]})

    async with Provider(serve) as provider, against(provider, "sms/batchSendSms/v1", WSSE) as opened:
        values = {"minutes": "5", "code": "482913"}
        assert await opened.send(filed(values=values, sender="01")) == [Ack("id-1", "id-1")]
        assert await opened.send(parcel(2)) == [Declined("no_template", Cause.SIGN_UNREGISTERED)]
    assert provider.asked[0].path == "/sms/batchSendSms/v1"
    form = provider.asked[0].form
    assert json.loads(form.pop("templateParas")) == ["482913", "5"]
    assert form == {
        "from": "8821061212345", "to": "+8613800138000", "templateId": "8ff55eac", "signature": "鸿雁科技", "extend": "01",
    }  # fmt: skip
    channel = built(**WSSE)
    assert channel.takes(Wording("login", "鸿雁", {}))
    assert not channel.takes(None)
    assert len(channel.cut("x" * 2000, Counting.MAINLAND)) == 1  # they make the text themselves


# A key in the form, and pushes whose list is a text inside a form.
NESTED: dict[str, Any] = {
    "secrets": {"key": "k3y"},
    "body_form": "form",
    "body": {"apikey": "{secret.key}", "mobile": "{number_national}", "text": "{text}"},
    "ok_path": "code",
    "id_path": "sid",
    "verdicts": {"3": "unreachable", "8": "throttled"},
    "causes": {"22": "rate_limited", "空号": "invalid_number"},
    "push_form": "form",
    "push_items_path": "sms_status",
    "push_id_path": "sid",
    "push_number_path": "mobile",
    "push_status_path": "report_status",
    "push_delivered": ["SUCCESS"],
    "push_pending": ["SENDING"],
    "push_code_path": "error_msg",
    "push_answer": "SUCCESS",
}


async def test_a_key_in_a_form_and_a_number_for_an_id() -> None:
    reply = Reply({"code": 0, "msg": "OK", "count": 1, "sid": 12345678901234567})
    async with Provider(lambda _: reply) as provider, against(provider, "v2/sms", NESTED) as opened:
        text = "【云】您的码 & 1+1=2"
        sent = parcel(octets=text.encode("utf-16-be"), encoding=Encoding.UCS2)
        assert await opened.send(sent) == [Ack("12345678901234567", "12345678901234567")]
    assert provider.asked[0].form == {"apikey": "k3y", "mobile": "13800138000", "text": text}


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (22, Declined("22", Cause.RATE_LIMITED)),
        (99, Declined("99", Cause.UNKNOWN)),
        (3, Unreachable("3: ")),
    ],
)
async def test_their_codes_are_explained_by_settings(code: int, outcome: object) -> None:
    async with Provider(lambda _: Reply({"code": code})) as provider, against(provider, "", NESTED) as opened:
        assert await opened.send(parcel()) == [outcome]


def test_what_is_nested_too_deep_to_be_a_list_is_refused() -> None:
    with pytest.raises(BadPush):
        built(**NESTED).read_push({}, b"sms_status=" + b"[" * 100_000)


def test_a_list_inside_a_form_is_read() -> None:
    told = [
        {"sid": 9527, "mobile": "13800138000", "report_status": "SUCCESS", "error_msg": "DELIVRD"},
        {"sid": 9528, "mobile": "13800138001", "report_status": "FAIL", "error_msg": "空号"},
        {"sid": 9529, "mobile": "x", "report_status": "SENDING", "error_msg": None},
        {"sid": 9530, "report_status": "FAIL", "error_msg": "EXPIRED"},
    ]
    read = built(**NESTED).read_push({}, urlencode({"sms_status": json.dumps(told)}).encode())
    assert [(r.upstream_id, r.number, r.status, r.cause, r.code) for r in read.reports] == [
        ("9527", "+8613800138000", Status.DELIVERED, Cause.NONE, "DELIVRD"),
        ("9528", "+8613800138001", Status.UNDELIVERED, Cause.INVALID_NUMBER, "空号"),
        ("9529", "", Status.SUBMITTED, Cause.NONE, "SENDING"),
        ("9530", "", Status.EXPIRED, Cause.EXPIRED, "EXPIRED"),
    ]
    assert [report.final for report in read.reports] == [True, True, False, True]
    assert (read.answer, read.content_type) == (b"SUCCESS", "text/plain; charset=utf-8")


# All fields by name with a secret behind them, hashed into one more field; signed pushes of the same habit.
SORTED: dict[str, Any] = {
    "account": {"id": "10086"},
    "secrets": {"key": "k3y"},
    "recipes": {"base": ["pairs"], "sign": ["text {recipe.base}&key={secret.key}", "md5", "hex", "upper"]},
    "body": {
        "appid": "{account.id}",
        "phone": "{number_digits}",
        "content": "{text}",
        "timestamp": "json:{time_s}",
        "extra": {"ref": "{reference}", "n": 1, "flags": [True, "{{literal}}"]},
        "sign": "{recipe.sign}",
    },
    "push_id_path": "id",
    "push_status_path": "state",
    "push_number_path": "from",
    "push_text_path": "text",
    "push_access_path": "to",
    "push_signature": ["pairs", "hmac-sha256 {secret.key}", "base64"],
    "push_signature_at": "{field.sign}",
    "push_answer": '{"code":0}',
    "push_answer_type": "application/json",
}


async def test_fields_by_name_may_be_hashed_into_one_more() -> None:
    def serve(asked: Asked) -> Answered:
        body = asked.json
        sign = body.pop("sign")
        pairs = "&".join(
            f"{name}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
            for name, value in sorted(body.items())
        )
        assert sign == hashlib.md5(f"{pairs}&key=k3y".encode()).hexdigest().upper()  # noqa: S324 - theirs
        assert isinstance(body["timestamp"], int)
        assert body["extra"]["flags"] == [True, "{literal}"]
        return Reply(b"", status=204)

    async with Provider(serve) as provider, against(provider, "", SORTED) as opened:
        assert await opened.send(parcel()) == [Ack("", "")]  # taken, and no report can name it
    assert provider.asked[0].json["phone"] == "8613800138000"


def signed(told: dict[str, Any], key: str = "k3y") -> bytes:
    pairs = "&".join(f"{name}={told[name]}" for name in sorted(told))
    sign = b64encode(hmac.digest(key.encode(), pairs.encode(), "sha256")).decode()
    return json.dumps({**told, "sign": sign}).encode()


def test_a_signed_push_is_taken_and_a_forged_one_is_not() -> None:
    channel = built(**SORTED)
    report = {"id": "a1", "state": "DELIVRD"}
    assert channel.read_push({}, signed(report)).reports[0].upstream_id == "a1"
    text = {"from": "8613800138000", "to": "1069", "text": '{"a":  1}'}
    read = channel.read_push({}, signed(text))
    assert read.inbound == [Inbound("+8613800138000", "1069", '{"a":  1}', read.inbound[0].at_s)]
    for body in (
        signed(report, "other"),
        json.dumps(report).encode(),
        signed(report).replace(b"a1", b"a2"),
        b"[]",
    ):
        with pytest.raises(BadPush) as caught:
            channel.read_push({}, body)
        assert caught.value.forged


# An old one: all in the address, answers in one line, pushes signed in a header over the whole body.
LINE: dict[str, Any] = {
    "account": {"user": "hy"},
    "secrets": {"word": "p w"},
    "recipes": {
        "word": ["text {secret.word}", "md5", "hex"],
        "seal": ["body", "hmac-sha1 {secret.word}", "hex"],
    },
    "headers": {"X-Seal": "{recipe.seal}"},
    "body_form": "form",
    "body": {"m": "{text}"},
    "answer_form": "text",
    "ok_path": "0",
    "id_path": "1",
    "push_id_path": "msgid",
    "push_status_path": "status",
    "push_signature": ["body", "hmac-sha1 {secret.word}", "hex"],
    "push_signature_at": "{header.x-seal}",
}


async def test_an_answer_of_one_line_and_a_sealed_body() -> None:
    def serve(asked: Asked) -> Answered:
        assert asked.headers["x-seal"] == hmac.digest(b"p w", asked.body, "sha1").hex()
        assert asked.query == {"u": "hy", "p": hashlib.md5(b"p w").hexdigest(), "t": "+8613800138000"}  # noqa: S324
        return Reply(b"0,20261122001\r\n")

    path = "msg?u={account.user}&p={recipe.word}&t={number}"
    async with Provider(serve) as provider, against(provider, path, LINE) as opened:
        assert await opened.send(parcel()) == [Ack("20261122001", "20261122001")]
    body = b'{"msgid": "7", "status": "MK:0001"}'
    headers = {"x-seal": hmac.digest(b"p w", body, "sha1").hex()}
    (report,) = built(**LINE).read_push(headers, body).reports
    assert (report.upstream_id, report.cause) == ("7", Cause.INVALID_NUMBER)
    for bad in ({}, {"x-seal": "0" * 40}):
        with pytest.raises(BadPush, match="signature"):
            built(**LINE).read_push(bad, body)


# ---- laws


async def test_what_cannot_be_written_is_declined_and_asks_nobody() -> None:
    settings = {"body": {"code": "{value.code}", "number": "json:{sender}"}, "headers": {"X-T": "{text}"},
                "parameters": {"ordered": ["code", "minutes"]}}  # fmt: skip
    async with Provider(lambda _: Reply(b"{}")) as provider, against(provider, "", settings) as opened:
        outcomes = await opened.send(
            parcel(1),  # no values
            filed(2, sender="not JSON"),
            filed(3, sender="1", octets=b"a\nInjected: 1"),
            filed(4, sender="1", template="ordered"),  # a value that its order names is missing
        )
    assert [type(outcome) for outcome in outcomes] == [Declined, Declined, Declined, Declined]
    assert provider.asked == []


async def test_a_text_they_never_take_is_not_cut_for_them() -> None:
    async with Provider(lambda _: Reply(b"{}")) as provider, against(provider, "", {"body": {}}) as opened:
        assert opened.channel.cut("x" * 501, Counting.MAINLAND) == ()
        assert await opened.send(parcel(octets=b"x" * 501)) == [Declined("text_too_long", Cause.UNSUPPORTED)]
    assert provider.asked == []


def test_the_time_is_written_with_its_zone() -> None:
    channel = built(time_format="%Y-%m-%dT%H:%M:%S%z", body={"t": "{time}", "s": "{time_s}"})
    assert isinstance(channel, CustomHttp)
    call = channel._put([parcel()])
    assert not isinstance(call, Declined)
    said = json.loads(call.body)
    assert said["t"].endswith("+0800")
    assert int(datetime.fromisoformat(said["t"]).timestamp()) == int(said["s"])


def test_a_header_of_theirs_stands_in_place_of_ours_however_it_is_written() -> None:
    settings = {"headers": {"content-type": "application/vnd.sms+json"}, "body": {"t": "{text}"}}
    channel = built(**settings)
    assert isinstance(channel, CustomHttp)
    call = channel._put([parcel()])
    assert not isinstance(call, Declined)
    assert call.headers == {"content-type": "application/vnd.sms+json"}


def test_a_value_of_its_own_that_is_nested_too_deep_is_declined() -> None:
    channel = built(body={"t": "json:{text}"}, text_characters_max=10_000)
    assert isinstance(channel, CustomHttp)
    deep = parcel(octets=("[" * 10_000).encode("utf-16-be"), encoding=Encoding.UCS2)
    assert isinstance(channel._put([deep]), Declined)


def test_a_push_of_more_than_anybody_tells_at_once_is_not_read() -> None:
    channel = built(push_id_path="id", push_status_path="state")
    with pytest.raises(BadPush, match="too many"):
        channel.read_push({}, b"[" + b"1," * 20_000 + b"1]")


def test_what_is_odd_in_a_push_takes_nothing_from_the_others() -> None:
    channel = built(push_items_path="list", push_id_path="id", push_status_path="state")
    told = {"list": [{"id": "1"}, {"id": "2", "state": "DELIVRD"}, None, 7, {"id": None, "state": "DELIVRD"}]}
    assert [report.upstream_id for report in channel.read_push({}, json.dumps(told).encode()).reports] == [
        "2"
    ]


def test_a_push_of_an_empty_list_tells_nothing_and_is_answered() -> None:
    channel = built(push_items_path="list", push_id_path="id", push_status_path="state")
    assert channel.read_push({}, b'{"list": []}').answer == b"OK"


def test_what_is_filled_in_is_data_and_never_a_template() -> None:
    channel = built(secrets={"key": "k3y"}, body={"t": "{text}"})
    assert isinstance(channel, CustomHttp)
    call = channel._put([parcel(octets="{secret.key}".encode("utf-16-be"), encoding=Encoding.UCS2)])
    assert not isinstance(call, Declined)
    assert json.loads(call.body) == {"t": "{secret.key}"}


def test_an_address_is_percent_encoded_where_it_is_filled_in() -> None:
    channel = built(url="https://sms.example/{sender}?t={text}")
    assert isinstance(channel, CustomHttp)
    call = channel._put([parcel(sender="../a?b#c", octets=b"x&y=z")])
    assert not isinstance(call, Declined)
    assert call.url == "https://sms.example/..%2Fa%3Fb%23c?t=x%26y%3Dz"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"url": "ftp://sms.example/"}, "neither http"),
        ({"url": "https://sms.example/{nobody}"}, "no name {nobody}"),
        ({"url": "https://sms.example/{"}, "brace alone"),
        ({"body": {"a": [{"b": "{secret.none}"}]}}, "no name {secret.none}"),
        ({"headers": {"X": "{field.a}"}}, "no name {field.a}"),
        ({"recipes": {"a": ["eval 1"]}}, "no step eval"),
        ({"recipes": {"a": ["text"]}}, "needs words"),
        ({"recipes": {"a": ["md5 x"]}}, "takes no words"),
        ({"recipes": {"a": ["hmac-crc32 x"]}}, "no step hmac-crc32"),
        ({"recipes": {"a": ["pairs a b c"]}}, "two words"),
        ({"recipes": {"a": ["text {recipe.b}"], "b": ["text {recipe.a}"]}}, "needs itself"),
        ({"recipes": {"a": ["body", "md5", "hex"]}, "body": {"s": "{recipe.a}"}}, "cannot stand in the body"),
        ({"headers": {"X Y": "1"}}, "no header 'X Y'"),
        ({"headers": {"X-Y\r\nZ": "1"}}, "no header"),
        ({"push_signature": ["body"]}, "go together"),
        ({"push_signature": ["body"], "push_signature_at": "{header.X-Sign}"}, "lower case"),
        ({"push_signature": ["text {number}"], "push_signature_at": "{field.a}"}, "no name {number}"),
        ({"body_form": "text"}, "answers only"),
        ({"secrets": {"a": 1}}, "secrets"),
    ],
)
def test_a_description_that_cannot_work_is_refused(settings: dict[str, object], word: str) -> None:
    with pytest.raises(BadSettings, match=word):
        built(**settings)


@pytest.mark.parametrize(
    ("settings", "setting", "words"),
    [
        ({"url": URL + "?to={numbr}"}, "url", "{numbr} here; did you mean {number}?"),
        ({"headers": {"X-To": "{nobody}"}}, "headers.X-To", "{nobody}"),
        ({"body": {"a": [{"b": "x"}, {"b": "{phone}"}]}}, "body.a.1.b", "{phone}"),
        ({"body": {"a": "json:{values}"}}, "body.a", "{values}"),
        ({"body": {"a": "{account.usr}"}, "account": {"user": "u"}}, "body.a", "{account.user}"),
        ({"body": {"a": "{"}}, "body.a", "brace"),
        ({"recipes": {"sign": ["text {nobody}"]}}, "recipes.sign", "{nobody}"),
        ({"recipes": {"sign": ["eval 1"]}}, "recipes.sign", "no step eval"),
        ({"recipes": {"a": ["text {recipe.b}"], "b": ["text {recipe.a}"]}}, "recipes.a", "needs itself"),
        ({"headers": {"X Y": "1"}}, "headers", "X Y"),
        ({"push_signature": ["body"], "push_signature_at": "{nobody}"}, "push_signature_at", "{nobody}"),
        ({"push_signature": ["text {text}"], "push_signature_at": "{field.a}"}, "push_signature", "{text}"),
    ],
)
def test_a_description_that_is_refused_names_its_place_and_the_placeholder(
    settings: dict[str, object], setting: str, words: str
) -> None:
    with pytest.raises(BadSettings) as refused:
        built(**settings)
    assert refused.value.setting == setting
    assert words in str(refused.value)


def test_a_provider_that_pushes_nothing_has_no_push() -> None:
    with pytest.raises(NotImplementedError):
        built().read_push({}, b"{}")


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[1]", b"{}", b'{"msgid": "1"}', b'{"status": "1"}', b"\xff", b"[" * 100_000]
)
def test_a_push_of_something_else_is_refused(body: bytes) -> None:
    with pytest.raises(BadPush):
        built(push_id_path="msgid", push_status_path="status").read_push({}, body)


@given(st.binary(max_size=60), st.sampled_from(["", "a", "a.0", "0.a.b"]), st.sampled_from(["json", "form"]))
def test_garbage_is_refused_and_nothing_else(body: bytes, path: str, form: str) -> None:
    settings = {"push_form": form, "push_items_path": path, "push_id_path": "a", "push_status_path": "b"}
    try:
        built(**settings, push_text_path="c", push_number_path="d").read_push({}, body)
    except BadPush:
        return
