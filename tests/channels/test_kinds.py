"""Laws of channels/kinds.py: settings are refused in clear words, described as a schema, and never print secrets."""

import dataclasses
import json
import re
from pathlib import Path
from typing import cast

import pytest

from hongyan.channels import kinds
from hongyan.channels.channel import Channel, Secret
from hongyan.channels.kinds import BadSettings
from hongyan.channels.loopback import Loopback, LoopbackConfig
from hongyan.channels.trace import Traceable

SMPP = {"hosts": ["smsc.example:2775"], "system_id": "tenant", "password": "s3cret"}

HTTP: dict[str, dict[str, object]] = {
    "aliyun": {"access_key_id": "LTAI", "access_key_secret": "s3cret"},
    "custom_http": {"url": "https://sms.example/", "secrets": {"key": "s3cret"}},
    "tencent": {"secret_id": "AKID", "secret_key": "s3cret", "sdk_app_id": "1400006666"},
    "twilio": {"account_sid": "AC1", "auth_token": "s3cret"},
}

SESSIONS: dict[str, dict[str, object]] = {
    "cmpp": {"hosts": ["ismg.example"], "source_addr": "900001", "secret": "s3cret"},
    "sgip": {
        "hosts": ["smg.example"],
        "login_name": "sp",
        "login_password": "s3cret",
        "corp_id": "12345",
        "area_code": "010",
    },
    "smgp": {"hosts": ["smgw.example"], "client_id": "01000001", "secret": "s3cret"},
    "smpp": {**SMPP},
}


@pytest.mark.parametrize("kind", SESSIONS)
def test_every_setting_of_a_kind_with_sessions_is_read_somewhere(kind: str) -> None:
    sources = "\n".join(path.read_text() for path in Path(kinds.__file__).parent.glob("*.py"))
    names = [field.name for field in dataclasses.fields(kinds.KINDS[kind].Config)]
    assert [name for name in names if not re.search(rf"(config|settings|self)\.{name}\b", sources)] == []


@pytest.mark.parametrize(
    ("kind", "settings", "word"),
    [
        ("carrier-pigeon", {}, "no kind carrier-pigeon"),
        ("smpp", {**SMPP, "pasword": "x"}, "no setting pasword"),
        ("smpp", {"hosts": ["a"], "system_id": "x"}, "password"),
        ("smpp", {**SMPP, "hosts": []}, "hosts"),
        ("smpp", {**SMPP, "hosts": ["a:b"]}, "no port in a:b"),
        ("smpp", {**SMPP, "window_size": 0}, "window_size"),
        ("smpp", {**SMPP, "window_size": "many"}, "window_size"),
        ("smpp", {**SMPP, "password": 1}, "password"),
        ("smpp", {**SMPP, "password": "ninechars"}, "8 characters"),
        ("smpp", {**SMPP, "password": "密码"}, "ASCII"),
        ("smpp", {**SMPP, "id_dialect": "klingon"}, "id_dialect"),
        ("smpp", {**SMPP, "verdicts": {"zz": "unsure"}}, "zz"),
        ("smpp", {**SMPP, "tlvs": {"1400": "xyz"}}, "hex"),
        ("smpp", {**SMPP, "tls": True, "tls_ca_file": "/nonexistent"}, "No such file"),
        ("loopback", {"delay": 1}, "no setting delay"),
        *(
            (kind, {**settings, "url": "smpp://sms.example/"}, "neither http")
            for kind, settings in HTTP.items()
        ),
        ("aliyun", {**HTTP["aliyun"], "signing": "none"}, "signing"),
        ("tencent", {**HTTP["tencent"], "batch_max": 201}, "batch_max"),
        ("twilio", {**HTTP["twilio"], "text_characters_max": 1601}, "text_characters_max"),
    ],
)
def test_wrong_settings_are_refused_in_clear_words(kind: str, settings: dict[str, object], word: str) -> None:
    with pytest.raises(BadSettings, match=word) as caught:
        kinds.build(kind, settings)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(HTTP))
def test_no_secret_is_printed_with_its_settings(kind: str) -> None:
    channel = kinds.build(kind, HTTP[kind])
    assert "s3cret" not in repr(channel.settings)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", sorted(SESSIONS))
def test_no_secret_of_a_session_is_printed_with_its_settings(kind: str) -> None:
    channel = kinds.build(kind, SESSIONS[kind])
    assert "s3cret" not in repr(channel.config)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", sorted(SESSIONS))
def test_every_kind_with_sessions_can_be_traced(kind: str) -> None:
    channel: Traceable = cast("Traceable", kinds.build(kind, SESSIONS[kind]))
    channel.tracing(10)
    assert list(channel.trace()) == []


def test_settings_may_come_straight_from_json() -> None:
    written = json.dumps({**SMPP, "split": "sar", "causes": {"001": "absent"}, "heartbeat_s": 20})
    assert kinds.build("smpp", json.loads(written)).kind == "smpp"


def test_a_password_is_never_printed() -> None:
    secret = Secret("s3cret")
    assert f"{secret} {secret!r} {[secret]}" == "*** *** [***]"
    assert secret.reveal() == "s3cret"
    assert secret == Secret("s3cret")


@pytest.mark.parametrize("kind", sorted(kinds.KINDS))
def test_every_kind_has_a_schema_in_which_every_field_is_described(kind: str) -> None:
    document = kinds.schema(kind)
    json.dumps(document)
    settings = document["$defs"][document["$ref"].rpartition("/")[2]]
    assert settings["additionalProperties"] is False
    assert all("description" in field for field in settings["properties"].values())


@pytest.mark.parametrize("kind", sorted(kinds.KINDS))
def test_every_setting_that_says_where_a_kind_connects_binds_its_secrets(kind: str) -> None:
    document = kinds.schema(kind)
    fields = document["$defs"][document["$ref"].rpartition("/")[2]]["properties"]
    places = {name for name in fields if {"host", "hosts", "port", "url", "tls"} & set(name.split("_"))}
    ours = {"listen_host", "listen_port", "push_url"}  # where they reach us
    assert places - ours == {name for name, field in fields.items() if field.get("x-connects")}
    assert kind == "loopback" or places


def test_the_schema_hides_passwords() -> None:
    settings = kinds.schema("smpp")["$defs"]["Config"]["properties"]
    assert settings["password"]["format"] == "password"


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("smsc", ("smsc", 1234)),
        ("smsc:99", ("smsc", 99)),
        ("[::1]:99", ("::1", 99)),
        ("[::1]", ("::1", 1234)),
        ("::1", ("::1", 1234)),
    ],
)
def test_hosts_are_read_with_and_without_port(written: str, address: tuple[str, int]) -> None:
    channel = kinds.build("smpp", {**SMPP, "hosts": [written], "port": 1234})
    assert channel._sessions.terms.hosts == (address,)  # type: ignore[attr-defined]


def test_every_kind_is_a_channel() -> None:
    channels: list[Channel] = [
        Loopback(LoopbackConfig()),
        *(kinds.build(kind, settings) for kind, settings in SESSIONS.items()),
        *(kinds.build(kind, settings) for kind, settings in HTTP.items()),
    ]  # mypy checks the shapes
    assert {channel.kind for channel in channels} == set(kinds.KINDS)
