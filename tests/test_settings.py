"""The environment becomes settings, or one sentence that says which variable is wrong."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from hongyan import settings
from hongyan.settings import Settings, SettingsError


def test_without_an_environment_every_knob_has_its_default() -> None:
    assert settings.read({"PATH": "/bin"}) == Settings()


def test_every_kind_of_knob_is_read() -> None:
    read = settings.read(
        {
            "DATABASE_URL": "postgresql://db/hongyan",
            "HONGYAN_STATE_DIR": "/var/lib/hongyan",
            "HONGYAN_HTTP_PORT": "0",
            "HONGYAN_ACCEPT_GATHER_MS": "0.5",
            "HONGYAN_WEBHOOK_PRIVATE_ADDRESSES": "Yes",
            "HONGYAN_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
        }
    )
    assert (read.database_url, read.state_dir) == ("postgresql://db/hongyan", Path("/var/lib/hongyan"))
    assert (read.http_port, read.accept_gather_ms, read.webhook_private_addresses) == (0, 0.5, True)
    assert read.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HONGYAN_COLOUR", "red"),
        ("HONGYAN_HTTP_PORT", "x"),
        ("HONGYAN_HTTP_PORT", "65536"),
        ("HONGYAN_CLAIM_BATCH_MAX", "0"),
        ("HONGYAN_CLAIM_GAP_S", "-1"),
        ("HONGYAN_TICK_GAP_MS", "nan"),
        ("HONGYAN_GATEWAY", "1000"),
        ("HONGYAN_LANE_RESERVE_PERCENT", "100"),
        ("HONGYAN_WEBHOOK_PRIVATE_ADDRESSES", "maybe"),
        ("HONGYAN_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("HONGYAN_LOG_LEVEL", "loud"),
        ("HONGYAN_LAYOUT", ""),
        ("HONGYAN_LAYOUT", "door clark"),
        ("HONGYAN_LAYOUT", "door gateway+clerk control control"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(variable)):
        settings.read({variable: value})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),  # noqa: S104
        ("10.0.0.7", "http://10.0.0.7:8080"),
        ("::", "http://[::1]:8080"),
    ],
)
def test_a_machine_calls_its_own_doors_where_they_can_be_called(host: str, url: str) -> None:
    assert Settings(http_host=host).door_url() == url
