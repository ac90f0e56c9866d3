"""Nobody's number, code or secret reaches a log."""

import io
import json
import logging
import re
import uuid
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from hongyan import observe
from hongyan.vault import Secret

ELEVEN_DIGITS = re.compile(r"(?<!\d)\d{11}(?!\d)|\+\d{7,15}")


@pytest.fixture
def sink() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    stream = io.StringIO()
    observe.set_up("info", console=False, stream=stream)
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    structlog.reset_defaults()


def lines(sink: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in sink.getvalue().splitlines()]


@pytest.mark.parametrize(
    "said",
    [
        "+8613800138000",
        "13800138000",
        "to 13800138000: ok",
        "8613800138000",
        "008613800138000",
        "138-0013-8000",
        "138 0013 8000",
        "+86 138 0013 8000",
        "+1 (415) 555-2671",
        "+44 20 7946 0958",
        "tel:+4915112345678",
        '{"to":"+8613800138000"}',
        "numbers=['13800138000', '13900139000']",
        "https://example.com/?to=13800138000&x=1",
    ],
)
def test_a_number_is_never_whole(said: str) -> None:
    shown = observe.masked(said)
    digits = re.sub(r"\D", "", shown)
    assert "38001380" not in digits
    assert "****" in shown
    assert not ELEVEN_DIGITS.search(shown)


def test_a_masked_number_still_tells_two_people_apart() -> None:
    assert observe.masked("+8613800138000") == "+86138****8000"


@pytest.mark.parametrize(
    "said",
    [
        "您的验证码是 482913，5 分钟内有效",
        "482913 是您的验证码",
        "Your code is 482913.",
        "482913 is your verification code",
        "【鸿雁】校验码:482913",
        "OTP=482913",
        "{'passcode': '482913'}",
    ],
)
def test_a_code_near_the_word_for_it_is_hidden(said: str) -> None:
    assert "482913" not in observe.masked(said)


@pytest.mark.parametrize(
    "said",
    [
        "Authorization: Basic YWJjOmRlZg==",
        "{'authorization': 'HMAC-SHA256 YWJjOmRlZg=='}",
        "sent Bearer YWJjOmRlZg==",
        "Authorization=YWJjOmRlZg==",
    ],
)
def test_credentials_in_a_text_are_hidden(said: str) -> None:
    assert "YWJjOmRlZg" not in observe.masked(said)


def test_a_password_in_a_url_is_hidden() -> None:
    assert observe.masked("postgresql://u:geheim@h/db") == "postgresql://u:***@h/db"


@given(st.uuids())
def test_our_own_ids_stay_readable(message_id: uuid.UUID) -> None:
    assert observe.masked(f"message {message_id} left") == f"message {message_id} left"


@given(st.from_regex(r"\+[1-9][0-9]{7,13}", fullmatch=True), st.text(max_size=8), st.text(max_size=8))
def test_no_international_number_survives_in_any_company(number: str, before: str, after: str) -> None:
    assert number not in observe.masked(before + number + after)


def test_every_way_of_logging_is_masked(sink: io.StringIO) -> None:
    log = structlog.get_logger()
    log.info("said 13800138000", to="+8613800138000", deep={"to": {"n": [13800138000]}})
    log.info("keys", text="geheim", params={"a": "geheim"}, Authorization="geheim", secret=Secret(b"geheim"))
    log.info("octets", octets=b"13800138000 geheim", code=482913)
    log.bind(request="+8613800138000").warning("with %s", "13800138000")
    logging.getLogger("aiohttp.access").warning("GET /?to=%s", "13800138000", extra={"to": "13800138000"})
    try:
        int("13800138000 is wrong")
    except ValueError:
        log.exception("failed")
        logging.getLogger("asyncio").exception("failed")
    said = sink.getvalue()
    assert len(lines(sink)) == 7
    assert not ELEVEN_DIGITS.search(said)
    assert "geheim" not in said
    assert "482913" not in said
    assert said.count("ValueError") >= 2


def test_upstream_codes_and_times_are_shown(sink: io.StringIO) -> None:
    structlog.get_logger().info("report", upstream_code="5849", parts=12, wait_s=0.25)
    (line,) = lines(sink)
    assert line["upstream_code"] == "5849"
    assert (line["parts"], line["wait_s"], line["level"]) == (12, 0.25, "info")
    assert str(line["timestamp"]).endswith("Z")


def test_what_is_below_the_level_is_not_said(sink: io.StringIO) -> None:
    structlog.get_logger().debug("quiet")
    assert sink.getvalue() == ""


@pytest.mark.usefixtures("sink")
def test_the_console_shows_the_same_masked_words() -> None:
    stream = io.StringIO()
    observe.set_up("info", console=True, stream=stream)
    structlog.get_logger().error("said 13800138000", to="+8613800138000")
    assert "138****8000" in stream.getvalue()
    assert not ELEVEN_DIGITS.search(stream.getvalue())


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown log level"):
        observe.set_up("loud", console=False)
