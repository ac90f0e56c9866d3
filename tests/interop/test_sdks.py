"""PyPI's libraries of Alibaba Cloud, Tencent Cloud and Twilio sign as we do, each in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from hongyan.channels import kinds
from hongyan.channels.aliyun import acs3, rpc
from hongyan.channels.tencent import tc3
from hongyan.channels.twilio import signature
from interop.fetch import SPEAKERS
from interop.speaker import DEADLINE_S

KEY_ID: Final = "LTAI5tExample"
SECRET: Final = "s3cret"
PARAMS: Final = {
    "PhoneNumbers": "13800138000",
    "SignName": "鸿雁 *~",
    "TemplateParam": '{"code":"1+2/3=&%"}',
    "OutId": "",
}
PUSH_URL: Final = "https://sms.example.com/upstream/west/word?k=a%20b&l="


def signed(sdk: str, packages: Path, order: Mapping[str, Any]) -> Any:
    """Have a provider's library sign."""
    ran = subprocess.run(
        (sys.executable, SPEAKERS / "sdks.py", sdk),
        input=json.dumps(order), env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_alibaba_clouds_library_signs_alike_in_headers_and_in_forms(sdk_packages: Path) -> None:
    at, nonce = "2026-11-22T06:55:01Z", "n0nce"
    ours = acs3("dysmsapi.aliyuncs.com", "SendSms", PARAMS, KEY_ID, SECRET, at=at, nonce=nonce)
    form = dict(rpc("SendSms", PARAMS, KEY_ID, SECRET, at=at, nonce=nonce))
    right = form.pop("Signature")
    headers = {name: value for name, value in ours.items() if name == "host" or name.startswith("x-acs-")}
    order = {"params": PARAMS, "headers": headers, "form": form, "key_id": KEY_ID, "secret": SECRET}
    assert signed("aliyun", sdk_packages, order) == {"acs3": ours["Authorization"], "rpc": right}


def test_tencent_clouds_library_signs_alike(sdk_packages: Path) -> None:
    host = "sms.tencentcloudapi.com"
    params = {"PhoneNumberSet": ["+8613800138000"], "SignName": "鸿雁"}
    order = {"host": host, "params": params, "secret_id": KEY_ID, "secret_key": SECRET}
    theirs = signed("tencent", sdk_packages, order)
    ours = tc3(host, theirs["body"].encode(), KEY_ID, SECRET, at_s=theirs["at_s"])
    assert ours == theirs["authorization"]


def test_twilios_library_signs_pushes_alike_and_takes_ours(sdk_packages: Path) -> None:
    forms: tuple[dict[str, list[str]], ...] = (
        {"Body": ["你好 & +"], "From": ["+1"], "To": ["+2"], "MessageSid": ["SM1"], "body": [""]},
        {
            "MediaUrl": ["b", "a", "a"],
            "MessageSid": ["SM1"],
            "Media": ["Url"],
        },  # values of one name, once each
        {},
    )
    pairs = [[(name, value) for name, values in form.items() for value in values] for form in forms]
    ours = [signature(SECRET, PUSH_URL, each) for each in pairs]
    pushes = [(PUSH_URL, form, mark) for form, mark in zip(forms, ours, strict=True)]
    theirs = signed("twilio", sdk_packages, {"token": SECRET, "pushes": pushes})
    assert theirs == {"signatures": ours, "valid": [True, True, True]}
    channel = kinds.build("twilio", {"account_sid": "AC1", "auth_token": SECRET, "push_url": PUSH_URL})
    told = {"MessageSid": "SM1", "MessageStatus": "delivered"}
    order = {"token": SECRET, "pushes": [(PUSH_URL, {name: [word] for name, word in told.items()}, "")]}
    (mark,) = signed("twilio", sdk_packages, order)["signatures"]
    assert channel.read_push({"x-twilio-signature": mark}, urlencode(told).encode()).reports
