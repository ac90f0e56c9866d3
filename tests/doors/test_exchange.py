"""Words and shapes, without any socket."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.doors import exchange, messages
from hongyan.doors.question import read_query
from hongyan.doors.search import AskedSearch
from hongyan.doors.statistics import AskedStatistics
from hongyan.vocab.errors import Code, Refusal


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (b"", "en"),
        (b"*", "en"),
        (b"zh", "zh"),
        (b"zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (b"en-US,en;q=0.9,zh;q=0.8", "en"),
        (b"en;q=0.1, zh-Hans;q=0.2", "zh"),
        (b"fr, zh;q=0.5", "zh"),
        (b"fr, *;q=0.5", "en"),
        (b"en;q=0, *", "zh"),
        (b"zh;q=x", "en"),
    ],
)
def test_the_language_that_is_preferred_is_spoken(header: bytes, language: str) -> None:
    assert exchange.language_of(header) == language


@given(st.binary(max_size=200))
def test_any_accept_language_gives_one_of_two(header: bytes) -> None:
    assert exchange.language_of(header) in ("en", "zh")


@given(
    st.binary(max_size=100) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_body_is_read_or_refused(body: bytes) -> None:
    for decoder in (messages._ONE, messages._BATCH, messages._RAW):
        try:
            exchange.read(body, decoder)
        except Refusal as refusal:
            assert refusal.code.value.http_status == 400  # noqa: PT017 - the one outcome that may be


@given(st.binary(max_size=100))
def test_any_query_is_read_or_refused(query: bytes) -> None:
    for kind in (AskedSearch, AskedStatistics):
        try:
            read_query(query, kind)
        except Refusal as refusal:
            assert refusal.code.value.http_status == 400  # noqa: PT017 - the one outcome that may be


REFUSED = {
    b"{": (Code.REQUEST_MALFORMED_JSON, None),
    b"": (Code.REQUEST_MALFORMED_JSON, None),
    b'{"to":"\xff"}': (Code.REQUEST_MALFORMED_JSON, None),
    b"[]": (Code.REQUEST_INVALID_PARAMETER, "$"),
    b"{}": (Code.REQUEST_MISSING_PARAMETER, "$"),
    b'{"to":1}': (Code.REQUEST_INVALID_PARAMETER, "$.to"),
    b'{"to":""}': (Code.REQUEST_INVALID_PARAMETER, "$.to"),
    b'{"to":"1","colour":1}': (Code.REQUEST_INVALID_PARAMETER, "$"),
    b'{"to":"1","params":{"a":true}}': (Code.REQUEST_INVALID_PARAMETER, "$.params[...]"),
    b'{"to":"1","params":{"a":1e999}}': (Code.REQUEST_INVALID_PARAMETER, "$.params[...]"),
    b'{"to":"1","params":{"a":"%b"}}' % (b"x" * 1_001): (Code.REQUEST_INVALID_PARAMETER, "$.params[...]"),
    b'{"to":"1","text":"%b"}' % (b"x" * 2_001): (Code.REQUEST_INVALID_PARAMETER, "$.text"),
    b'{"to":"1","reference":"a\\u0000b"}': (Code.REQUEST_INVALID_PARAMETER, "$.reference"),
    b'{"to":"1","extension":"1a"}': (Code.REQUEST_INVALID_PARAMETER, "$.extension"),
    b'{"to":"1","purpose":"spam"}': (Code.REQUEST_INVALID_PARAMETER, "$.purpose"),
    b'{"to":"1","send_at":"2030-01-01T00:00:00"}': (Code.REQUEST_INVALID_PARAMETER, "$.send_at"),
    b'{"to":"1","validity_s":0}': (Code.REQUEST_INVALID_PARAMETER, "$.validity_s"),
    b'{"to":"1","validity_s":1.5}': (Code.REQUEST_INVALID_PARAMETER, "$.validity_s"),
    b'{"to":' + b"[" * 100_000: (Code.REQUEST_INVALID_PARAMETER, "$.to"),
}


@pytest.mark.parametrize("body", REFUSED, ids=lambda body: body[:40].decode("latin-1"))
def test_what_is_wrong_with_a_body_is_said_with_its_path(body: bytes) -> None:
    code, path = REFUSED[body]
    with pytest.raises(Refusal) as raised:
        exchange.read(body, messages._ONE)
    assert (raised.value.code, raised.value.detail.get("path")) == (code, path)
    assert raised.value.detail["reason"]


def test_one_message_too_many_is_its_own_refusal() -> None:
    body = msgspec.json.encode({"messages": [{"to": "1"}] * 1_001})
    with pytest.raises(Refusal) as raised:
        messages._read_batch(body)
    assert raised.value.code is Code.REQUEST_TOO_MANY_RECIPIENTS


def test_a_malformed_message_of_a_batch_fails_alone_with_its_place() -> None:
    body = b'{"messages":[{"to":"1"},{"to":2},{},{"to":"4","params":{"a":[]}}]}'
    lines = messages._read_batch(body)
    assert [isinstance(line, Refusal) and line.detail["path"] for line in lines] == [
        False,
        "$.messages[1].to",
        "$.messages[2]",
        "$.messages[3].params[...]",
    ]


@pytest.mark.parametrize(
    "query",
    [b"purpose=null", b"from=null", b"app_id=NULL",
     b"a=1", b"limit=0", b"limit=x", b"limit=5&limit=6", b"status=lost", b"from=yesterday", b"reference=%00",
     b"reference=%ff", b"\xff=1", b"x" * 5_000, b"from=2030-01-01T00:00:00"],
)  # fmt: skip
def test_a_query_that_cannot_be_meant_is_refused(query: bytes) -> None:
    with pytest.raises(Refusal) as raised:
        read_query(query, AskedSearch)
    assert raised.value.code is Code.REQUEST_INVALID_PARAMETER


def test_a_list_is_written_with_commas() -> None:
    wanted = read_query(b"by=day&group=status,cause&status=delivered,undelivered", AskedStatistics)
    assert (wanted.by, wanted.group, wanted.status) == (
        "day",
        ("status", "cause"),
        ("delivered", "undelivered"),
    )


def test_seconds_to_wait_are_whole_and_never_none() -> None:
    assert [exchange.seconds(s) for s in (None, 0.0, 0.2, 1.0, 41.2)] == [0, 1, 1, 1, 42]


def test_request_ids_are_unique_and_short() -> None:
    ids = exchange.RequestIds()
    made = {ids.make() for _ in range(1_000)}
    assert len(made) == 1_000
    assert {len(one) for one in made} == {24}
