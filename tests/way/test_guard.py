"""Each rule says no for its own reason, and nobody is written to at night."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import make
from hongyan.vault import Secret
from hongyan.vocab import phone, wording
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId, ChannelId, Purpose, TenantId
from hongyan.way import guard
from hongyan.way.guard import Draft
from hongyan.way.snapshot import (
    LIMITS_DEFAULT,
    ChannelRow,
    Key,
    Limits,
    RouteRule,
    Signature,
    Snapshot,
    Template,
    Tenant,
)

NOON_S: Final = datetime(2026, 3, 4, 12, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()
NIGHT_S: Final = datetime(2026, 3, 4, 23, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()
MAINLAND: Final = "13800138000"
BRITISH: Final = "+447400123456"
SIGNATURE: Final = Signature(1, "鸿雁", approved=True, extension="01")
RENAMED: Final = Signature(2, "飞鸽", approved=False, extension="")


def template(code: str, body: str = "到了 ${word}", **fields: Any) -> Template:
    values: dict[str, Any] = {
        "id": 1,
        "purpose": Purpose.TRANSACTIONAL,
        "scope": "any",
        "signature_id": 0,
        "resend": True,
        "approved": True,
        "text": wording.compile_body(body, fields.pop("variables", "{}")),
    }
    return Template(code=code, **(values | fields))


CHANNELS: Final = {
    ChannelId(number): ChannelRow(ChannelId(number), kind, kind, Secret(b"{}"), False, 0, 1, "1069", False, 0)
    for number, kind in enumerate(("smpp", "loopback"), 1)
}
RULES: Final = tuple(RouteRule(number, 1, number, 1, None, None, None, None) for number in CHANNELS)
TEMPLATES: Final = (
    template("good"),
    template("unapproved", approved=False),
    template("at home", scope="mainland"),
    template("abroad", scope="international"),
    template("bound", signature_id=SIGNATURE.id),
    template("badly bound", signature_id=RENAMED.id),
    template("advert", "新品 ${word} 拒收请回复R", purpose=Purpose.PROMOTIONAL),
    template("code", "验证码 ${code}", variables='{"code": {"kind": "code"}}', purpose=Purpose.OTP),
    template("long", "${word}", variables='{"word": {"kind": "text", "max": 1000}}'),
    template("once", resend=False),
)


def tenant(**fields: Any) -> Tenant:
    values: dict[str, Any] = {
        "id": TenantId(7),
        "name": "tenant",
        "active": True,
        "currency": "CNY",
        "charge_on_delivery": False,
        "countries": frozenset({"CN", "GB", "US", "RU"}),
        "weight": 1,
        "quiet_from_hour": 20,
        "quiet_until_hour": 9,
        "limits": LIMITS_DEFAULT,
        "duplicate_s": 0,
        "signatures": {one.name: one for one in (SIGNATURE, RENAMED)},
        "templates": {one.code: one for one in TEMPLATES},
    }
    return Tenant(**(values | fields))


def key(owner: Tenant | None = None, **fields: Any) -> Key:
    values: dict[str, Any] = {
        "id": 1,
        "key_id": "hy",
        "secret": Secret(b"secret"),
        "tenant": owner or tenant(),
        "app_id": AppId(1),
        "allow_basic": True,
        "free_text": True,
        "sandbox": False,
        "networks": (),
        "rate_per_s": 0,
    }
    return Key(**(values | fields))


def snapshot(
    prices: Mapping[tuple[int, str, str, int], int] | None = None, *, routed: bool = True
) -> Snapshot:
    return Snapshot(
        version=1,
        tenants={},
        keys={},
        channels=CHANNELS,
        rules=RULES if routed else (),
        prices={(0, "*", "*", -1): 45_000} if prices is None else prices,
        webhooks={},
        hooked_apps=[],
        pay_on_delivery=[],
        overrides=phone.Overrides({}, {}),
        signatures={one.id: one for one in (SIGNATURE, RENAMED)},
        templates={},
        has_number_overrides=False,
    )


def draft(**fields: Any) -> Draft:
    values: dict[str, Any] = {
        "to": MAINLAND,
        "signature": "鸿雁",
        "template": "good",
        "params": {"word": "南门"},
    }
    return Draft(**(values | fields))


def free(text: str, purpose: Purpose | None = Purpose.TRANSACTIONAL, **fields: Any) -> Draft:
    return draft(template="", params={}, text=text, purpose=purpose, **fields)


def check(one: Draft, asker: Key | None = None, now_s: float = NOON_S, **prices: Any) -> guard.Cleared:
    return guard.check(one, asker or key(), prices.get("snapshot") or snapshot(), make.SETTINGS, now_s)


def test_a_good_message_passes_signed_counted_and_priced() -> None:
    cleared = check(draft(extension="88"))
    assert cleared.wording.text == "【鸿雁】到了 南门"
    assert (cleared.number.e164, cleared.place.country, cleared.place.operator) == (
        "+8613800138000",
        "CN",
        "cmcc",
    )
    assert (cleared.part_count, cleared.price_micro, cleared.due_at_s) == (1, 45_000, 0.0)
    assert cleared.extension == "0188"
    assert cleared.wording.resend


REFUSED: Final[Mapping[str, tuple[Draft, Code]]] = {
    "no number": (draft(to="hello"), Code.NUMBER_INVALID),
    "a number of no plan": (draft(to="+8612345"), Code.NUMBER_INVALID),
    "a fixed line": (draft(to="+861085297000"), Code.NUMBER_INVALID),
    "a country that is not allowed": (draft(to="+33612345678"), Code.NUMBER_REGION_NOT_ALLOWED),
    "an unknown signature": (draft(signature="nobody"), Code.SIGN_NOT_FOUND),
    "no signature": (draft(signature=""), Code.REQUEST_MISSING_PARAMETER),
    "an unapproved signature": (draft(signature="飞鸽"), Code.SIGN_NOT_APPROVED),
    "an unknown template": (draft(template="nothing"), Code.TEMPLATE_NOT_FOUND),
    "no template": (draft(template=""), Code.REQUEST_MISSING_PARAMETER),
    "an unapproved template": (draft(template="unapproved"), Code.TEMPLATE_NOT_APPROVED),
    "a mainland template abroad": (draft(to=BRITISH, template="at home"), Code.NUMBER_TYPE_MISMATCH),
    "an international template at home": (draft(template="abroad"), Code.NUMBER_TYPE_MISMATCH),
    "another signature than the template's": (
        draft(template="bound", signature="飞鸽"),
        Code.SIGN_SCENE_MISMATCH,
    ),
    "a template bound to an unapproved signature": (
        draft(template="badly bound", signature=""),
        Code.SIGN_NOT_APPROVED,
    ),
    "a missing variable": (draft(params={}), Code.TEMPLATE_MISSING_VARIABLE),
    "an extra variable": (draft(params={"word": "门", "more": "1"}), Code.TEMPLATE_MISSING_VARIABLE),
    "another variable": (draft(params={"world": "门"}), Code.TEMPLATE_MISSING_VARIABLE),
    "a variable too long": (draft(params={"word": "门" * 36}), Code.TEMPLATE_VARIABLE_TOO_LONG),
    "a variable with a link": (draft(params={"word": "去 http://a.b"}), Code.TEMPLATE_VARIABLE_URL),
    "a variable with a bare domain": (draft(params={"word": "go evil.com/x"}), Code.TEMPLATE_VARIABLE_URL),
    "a variable with a signature": (draft(params={"word": "【别家】"}), Code.TEMPLATE_VARIABLE_INVALID),
    "a variable against its kind": (
        draft(template="code", params={"code": "12a"}),
        Code.TEMPLATE_VARIABLE_INVALID,
    ),
    "a text too long": (draft(template="long", params={"word": "门" * 497}), Code.CONTENT_TOO_LONG),
    "a template and a text": (draft(text="你好", purpose=Purpose.OTP), Code.REQUEST_INVALID_PARAMETER),
    "a text without a purpose": (free("你好", None), Code.REQUEST_MISSING_PARAMETER),
    "a text that signs itself": (free("【别家】你好"), Code.REQUEST_INVALID_PARAMETER),
    "an advert that does not say how to stop": (
        free("新品到店", Purpose.PROMOTIONAL),
        Code.CONTENT_MISSING_UNSUBSCRIBE,
    ),
    "a validity of nothing": (draft(validity_s=0), Code.REQUEST_INVALID_PARAMETER),
    "a validity beyond what operators remember": (draft(validity_s=259_201), Code.REQUEST_INVALID_PARAMETER),
    "a time without its offset": (draft(send_at=datetime(2026, 3, 5)), Code.REQUEST_INVALID_PARAMETER),  # noqa: DTZ001
    "a time too far ahead": (
        draft(send_at=datetime.fromtimestamp(NOON_S, UTC) + timedelta(days=31)),
        Code.REQUEST_INVALID_PARAMETER,
    ),
    "an extension that is no digits": (draft(extension="12a"), Code.REQUEST_INVALID_PARAMETER),
    "an extension of other digits": (draft(extension="１２"), Code.REQUEST_INVALID_PARAMETER),
    "an extension too long": (draft(extension="1" * 11), Code.REQUEST_INVALID_PARAMETER),
    "a reference too long": (draft(reference="r" * 65), Code.REQUEST_INVALID_PARAMETER),
}


@pytest.mark.parametrize(
    "way_out", ["拒收请回复R", "退\u200b订回T", "拒收請回復Ｒ", "退.订回T", "ＳＴＯＰ to opt out"]
)
def test_an_advert_says_how_to_stop_however_that_is_written(way_out: str) -> None:
    assert guard.tells_how_to_stop(f"新品到店,{way_out}")


@pytest.mark.parametrize(
    "words",
    [
        "Your one-stop shop", "ONE STOP SHOP", "Non-stop savings", "nonstop", "stopwatch sale", "unstoppable",
        "at the bus stop", "Stop by our store", "We can't stop", "stop-over deals", "回T恤专区", "回to",
    ],
)  # fmt: skip
def test_what_only_has_the_letters_of_stop_tells_nobody_how(words: str) -> None:
    assert not guard.tells_how_to_stop(f"Sale {words}")
    assert guard.tells_how_to_stop(f"Sale {words}. Reply STOP to opt out")


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_for_its_own_reason(name: str) -> None:
    one, code = REFUSED[name]
    with pytest.raises(Refusal) as refused:
        check(one)
    assert refused.value.code is code


def test_a_suspended_tenant_sends_nothing() -> None:
    with pytest.raises(Refusal) as refused:
        check(draft(), key(tenant(active=False)))
    assert refused.value.code is Code.ACCOUNT_SUSPENDED


def test_free_text_is_for_keys_that_may() -> None:
    assert check(free("你好")).wording.template_id == 0
    with pytest.raises(Refusal) as refused:
        check(free("你好"), key(free_text=False))
    assert refused.value.code is Code.AUTH_PERMISSION_DENIED


@pytest.mark.parametrize(
    "words",
    [
        "退订回T",
        "拒收请回复R",
        "回T",
        "回TD",
        "回R",
        "Reply STOP",
        "to Opt Out dial 1",
        "STOP2END",
        "Stop?Txt STOP",
        "STOP au 36111",
        "opt-out: x.co",
        "stop=end",
        "回复TD",
        "回r。",
    ],
)
def test_every_usual_way_to_say_how_to_stop_is_known(words: str) -> None:
    assert check(free(f"新品到店 {words}", Purpose.PROMOTIONAL)).wording.purpose is Purpose.PROMOTIONAL


def test_a_sandbox_key_reaches_sandbox_numbers_and_nobody_else() -> None:
    assert check(draft(to="19900000003"), key(sandbox=True)).number.e164 == "+8619900000003"
    with pytest.raises(Refusal) as refused:
        check(draft(), key(sandbox=True))
    assert refused.value.code is Code.NUMBER_TEST_ONLY


def test_the_mainland_is_a_country_to_be_allowed_too() -> None:
    with pytest.raises(Refusal) as refused:
        check(draft(), key(tenant(countries=frozenset({"GB"}))))
    assert refused.value.code is Code.NUMBER_REGION_NOT_ALLOWED
    assert check(draft(to="+33612345678"), key(tenant(countries=frozenset({"*"})))).place.country == "FR"


def test_the_most_exact_price_counts_and_without_one_nothing_leaves() -> None:
    prices = {(0, "*", "*", -1): 9, (0, "CN", "*", -1): 8, (0, "CN", "cmcc", -1): 7, (0, "CN", "cmcc", 1): 6}
    assert check(draft(), snapshot=snapshot(prices)).price_micro == 6
    assert check(draft(template="code", params={"code": "1234"}), snapshot=snapshot(prices)).price_micro == 7
    assert check(draft(to="18612345678"), snapshot=snapshot(prices)).price_micro == 8
    assert check(draft(to=BRITISH), snapshot=snapshot(prices)).price_micro == 9
    assert check(draft(), snapshot=snapshot(prices | {(7, "*", "*", -1): 1})).price_micro == 1
    with pytest.raises(Refusal) as refused:
        check(draft(to=BRITISH), snapshot=snapshot({(0, "CN", "*", -1): 8}))
    assert refused.value.code is Code.NUMBER_REGION_NOT_ALLOWED


def test_what_may_be_sent_again_is_neither_promotional_nor_marked() -> None:
    assert check(draft(template="code", params={"code": "1234"})).wording.resend
    assert not check(draft(template="once")).wording.resend
    assert not check(draft(template="advert")).wording.resend


# ---- hours


def test_a_code_flies_at_night_and_an_advert_waits_for_the_morning() -> None:
    assert check(draft(template="code", params={"code": "1234"}), now_s=NIGHT_S).due_at_s == 0.0
    assert check(draft(template="advert"), now_s=NOON_S).due_at_s == 0.0
    due_at_s = check(draft(template="advert"), now_s=NIGHT_S).due_at_s
    assert (
        datetime.fromtimestamp(due_at_s, ZoneInfo("Asia/Shanghai")).isoformat() == "2026-03-05T09:00:00+08:00"
    )


def test_an_advert_whose_validity_ends_before_the_morning_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        check(draft(template="advert", validity_s=3_600), now_s=NIGHT_S)
    assert refused.value.code is Code.CONTENT_SEND_WINDOW


def test_an_advert_for_later_waits_for_the_first_allowed_hour_after_that() -> None:
    shanghai = ZoneInfo("Asia/Shanghai")
    at_night = datetime(2026, 3, 6, 3, tzinfo=timezone(timedelta(hours=8)))
    due_at_s = check(draft(template="advert", send_at=at_night)).due_at_s
    assert datetime.fromtimestamp(due_at_s, shanghai) == datetime(2026, 3, 6, 9, tzinfo=shanghai)
    by_day = datetime(2026, 3, 6, 11, 7, tzinfo=timezone(timedelta(hours=8)))
    assert check(draft(template="advert", send_at=by_day)).due_at_s == by_day.timestamp()


def test_an_american_number_that_may_be_anywhere_is_written_to_when_it_is_day_everywhere() -> None:
    anywhere = phone.zones(phone.parse("+15005550006"))
    assert {"America/New_York", "Pacific/Honolulu"} <= anywhere
    at_s = guard.next_allowed(NOON_S, anywhere, 9, 20)
    assert at_s is not None
    assert all(9 <= datetime.fromtimestamp(at_s, ZoneInfo(name)).hour < 20 for name in anywhere)
    coasts = frozenset({"America/New_York", "America/Los_Angeles"})
    at_s = guard.next_allowed(NOON_S, coasts, 9, 20)
    assert at_s is not None
    assert datetime.fromtimestamp(at_s, ZoneInfo("America/Los_Angeles")).hour == 9
    assert datetime.fromtimestamp(at_s, ZoneInfo("America/New_York")).hour == 12


def test_an_advert_to_russia_waits_for_the_few_hours_when_all_its_zones_are_awake() -> None:
    zones = phone.zones(phone.parse("+79161234567"))
    assert {"Europe/Moscow", "Asia/Kamchatka"} <= zones
    at_s = guard.next_allowed(NOON_S, zones, 9, 20)
    assert at_s is not None
    assert at_s > NOON_S
    assert all(9 <= datetime.fromtimestamp(at_s, ZoneInfo(name)).hour < 20 for name in zones)


def test_where_the_zones_never_agree_nothing_is_allowed() -> None:
    assert guard.next_allowed(NOON_S, frozenset({"Europe/London", "Pacific/Auckland"}), 9, 12) is None
    assert guard.next_allowed(NOON_S, frozenset(), 9, 20) is None


ZONES: Final = st.sampled_from(
    [
        "Asia/Shanghai",
        "Asia/Kathmandu",
        "Asia/Kolkata",
        "America/New_York",
        "America/Los_Angeles",
        "Europe/London",
        "Europe/Kaliningrad",
        "Asia/Kamchatka",
        "Australia/Lord_Howe",
        "Pacific/Chatham",
    ]
)


@given(
    st.floats(1_600_000_000, 1_900_000_000),
    st.frozensets(ZONES, min_size=1, max_size=3),
    st.integers(8, 12),
    st.integers(13, 21),
)
def test_the_next_allowed_moment_is_the_first_at_which_all_clocks_agree(
    wanted_s: float, zones: frozenset[str], from_hour: int, until_hour: int
) -> None:
    def agreed(at_s: float) -> bool:
        return all(
            from_hour <= datetime.fromtimestamp(at_s, UTC).astimezone(ZoneInfo(z)).hour < until_hour
            for z in zones
        )

    at_s = guard.next_allowed(wanted_s, zones, from_hour, until_hour)
    quarters = (at_s - wanted_s if at_s is not None else 48 * 3_600) // 900
    first = wanted_s // 900 * 900
    assert not any(agreed(first + n * 900) for n in range(1, int(quarters)) if first + n * 900 > wanted_s)
    if at_s is None:
        return
    assert at_s >= wanted_s
    assert agreed(at_s)
    assert (at_s == wanted_s) == agreed(wanted_s)


# ---- explanations


def hit(at_s: int, text: int = 1) -> int:
    return at_s << 32 | text


def test_the_limit_that_was_reached_says_when_it_is_free_again() -> None:
    now_s = 100_000
    refused = guard.limit_reached([hit(now_s - 50), hit(now_s - 20)], Limits(2, 0, 0), 0, hit(now_s), now_s)
    assert (refused.code, refused.retry_after_s, refused.detail["limit"]) == (Code.LIMIT_MINUTE, 10, 2)
    hours = [hit(now_s - 3_000), hit(now_s - 2_000), hit(now_s - 1_000)]
    refused = guard.limit_reached(hours, Limits(1, 3, 0), 0, hit(now_s), now_s)
    assert (refused.code, refused.retry_after_s) == (Code.LIMIT_HOUR, 600)
    refused = guard.limit_reached(hours, Limits(0, 0, 2), 0, hit(now_s), now_s)
    assert (refused.code, refused.retry_after_s) == (Code.LIMIT_DAY, 86_400 - 2_000)


def test_the_same_text_is_named_before_any_limit() -> None:
    now_s = 100_000
    hits = [hit(now_s - 50, text=5), hit(now_s - 10, text=6)]
    refused = guard.limit_reached(hits, Limits(1, 0, 0), 60, hit(now_s, text=5), now_s)
    assert refused.code is Code.LIMIT_SAME_CONTENT
    refused = guard.limit_reached(hits, Limits(1, 0, 0), 60, hit(now_s, text=7), now_s)
    assert refused.code is Code.LIMIT_MINUTE


@given(
    st.lists(st.integers(0, 90_000), max_size=12).map(sorted),
    st.integers(1, 5),
    st.integers(1, 8),
    st.integers(1, 12),
)
def test_after_the_wait_that_was_told_the_limit_is_free(
    ago: list[int], minute: int, hour: int, day: int
) -> None:
    now_s = 200_000
    hits = [hit(now_s - seconds) for seconds in reversed(ago)]
    limits = Limits(minute, hour, day)
    refused = guard.limit_reached(hits, limits, 0, hit(now_s, text=9), now_s)
    later_s = now_s + int(refused.retry_after_s or 0)
    window_s, most = {
        Code.LIMIT_MINUTE: (60, minute),
        Code.LIMIT_HOUR: (3_600, hour),
        Code.LIMIT_DAY: (86_400, day),
    }[refused.code]
    assert sum(one >> 32 > later_s - window_s for one in hits) < most


def test_what_no_configured_channel_could_ever_carry_is_refused() -> None:
    with pytest.raises(Refusal) as raised:
        check(draft(), snapshot=snapshot(routed=False))
    assert raised.value.code is Code.ROUTE_NONE


def test_the_trace_names_every_rule_that_spoke() -> None:
    cleared = check(draft(template="advert"))
    trace = guard.trace(cleared.rules, tenant(), Purpose.PROMOTIONAL)
    assert trace["passed"] == list(cleared.rules)
    assert {"number", "wording", "suppression", "frequency", "balance", "hours"} <= set(trace["passed"])
    assert trace["hours"] == [9, 20]
