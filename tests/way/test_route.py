"""The rules say where a message may go, health says where it goes first, and nothing is ever refused by health."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hongyan.vault import Secret
from hongyan.vocab import phone
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import ChannelId, Purpose, Status, TenantId
from hongyan.way import route
from hongyan.way.route import MAINLAND_OPERATORS, Health, State, Want
from hongyan.way.snapshot import ChannelRow, RouteRule, Signature, Snapshot

WANT: Final = Want(TenantId(1), "CN", "cmcc", Purpose.TRANSACTIONAL)


def channel(number: int, **fields: Any) -> ChannelRow:
    values: dict[str, Any] = {
        "id": ChannelId(number),
        "name": f"channel {number}",
        "kind": "smpp",
        "config": Secret(b"{}"),
        "paused": False,
        "parts_per_s": 0,
        "sessions": 1,
        "access_number": "1069",
        "report_one": False,
        "cost_micro": 30_000,
    }
    return ChannelRow(**(values | fields))


def rule(channel_id: int, **fields: Any) -> RouteRule:
    values: dict[str, Any] = {
        "id": channel_id * 10,
        "priority": 100,
        "weight": 1,
        "tenant_id": None,
        "country": None,
        "operator": None,
        "purpose": None,
    }
    return RouteRule(channel_id=ChannelId(channel_id), **(values | fields))


def snapshot(channels: Sequence[ChannelRow], rules: Sequence[RouteRule]) -> Snapshot:
    return Snapshot(
        version=1,
        tenants={},
        keys={},
        channels={one.id: one for one in channels},
        rules=sorted(rules, key=lambda r: (r.priority, r.id)),
        prices={},
        webhooks={},
        hooked_apps=[],
        pay_on_delivery=[],
        overrides=phone.Overrides({}, {}),
        signatures={},
        templates={},
        has_number_overrides=False,
    )


def state(*, up: bool = True, room: bool = True, success: float = 1.0, latency_s: float = 0.0) -> State:
    health = Health()
    health.success, health.latency_s = success, latency_s
    return State(up, room, health)


def allowed(rules: Sequence[RouteRule], want: Want = WANT, avoid: int = 0, **kinds: str) -> list[int]:
    channels = [channel(n, kind=kinds.get(f"c{n}", "smpp")) for n in (1, 2, 3)]
    return [c.channel_id for c in route.candidates(want, snapshot(channels, rules), avoid)]


def chosen(
    rules: Sequence[RouteRule], states: Mapping[int, State], chance: float = 0.0, now_s: float = 0.0
) -> int | None:
    ranking = route.candidates(WANT, snapshot([channel(n) for n in (1, 2, 3)], rules))
    return route.choose(ranking, {ChannelId(n): s for n, s in states.items()}, chance, now_s).channel_id


# ---- what the rules allow


def test_a_rule_speaks_for_what_it_names_and_for_everything_it_does_not() -> None:
    assert allowed([rule(1)]) == [1]
    assert allowed(
        [rule(1, tenant_id=TenantId(1), country="CN", operator="cmcc", purpose=Purpose.TRANSACTIONAL)]
    ) == [1]
    assert allowed([rule(1, tenant_id=TenantId(2))]) == []
    assert allowed([rule(1, country="GB")]) == []
    assert allowed([rule(1, operator="unicom")]) == []
    assert allowed([rule(1, purpose=Purpose.OTP)]) == []


def test_lower_priorities_come_first_then_the_cheaper_then_the_older() -> None:
    cheap = [channel(1), channel(2, cost_micro=10_000), channel(3)]
    rules = [rule(1, priority=2), rule(2, priority=2), rule(3, priority=1)]
    assert [c.channel_id for c in route.candidates(WANT, snapshot(cheap, rules))] == [3, 2, 1]


def test_of_two_rules_for_a_channel_the_first_by_priority_speaks() -> None:
    rules = [rule(1, id=1, priority=5, weight=7), rule(1, id=2, priority=1, weight=3)]
    (one,) = route.candidates(WANT, snapshot([channel(1)], rules))
    assert (one.rule_id, one.priority, one.weight) == (2, 1, 3)


def test_weight_nought_and_the_channel_to_avoid_are_left_out() -> None:
    assert allowed([rule(1, weight=0), rule(2), rule(3)], avoid=3) == [2]


def test_the_sandbox_and_the_world_never_meet() -> None:
    sandbox = Want(TenantId(1), "CN", "cmcc", Purpose.OTP, sandbox=True)
    rules = [rule(1), rule(2)]
    assert allowed(rules, c1="loopback") == [2]
    assert allowed(rules, sandbox, c1="loopback") == [1]
    assert allowed(rules, sandbox) == []


# ---- what the moment allows


def test_a_channel_that_is_down_is_passed_over() -> None:
    rules = [rule(1, priority=1), rule(2, priority=2)]
    assert chosen(rules, {1: state(up=False), 2: state()}) == 2
    assert chosen(rules, {2: state()}) == 2
    assert chosen(rules, {1: state(up=False), 2: state(up=False)}) is None


def test_a_busy_channel_is_waited_for_as_a_full_window_is_no_reason_to_buy_elsewhere() -> None:
    rules = [rule(1, priority=1), rule(2, priority=2)]
    assert chosen(rules, {1: state(room=False), 2: state()}) is None
    ranking = route.candidates(WANT, snapshot([channel(1), channel(2)], rules))
    choice = route.choose(ranking, {ChannelId(1): state(room=False), ChannelId(2): state()}, 0.0, 0.0)
    assert (1, "busy") in choice.words


def test_equals_share_by_weight() -> None:
    rules = [rule(1, weight=3), rule(2, weight=1)]
    shares = Counter(chosen(rules, {1: state(), 2: state()}, chance=n / 1_000) for n in range(1_000))
    assert shares == {1: 750, 2: 250}


def test_the_worse_of_two_equals_gets_less() -> None:
    rules = [rule(1), rule(2)]
    for ill in (state(success=0.5), state(latency_s=40.0)):
        shares = Counter(chosen(rules, {1: ill, 2: state()}, chance=n / 1_000) for n in range(1_000))
        assert shares[1] < shares[2]
        assert shares[1] > 0


def test_a_failing_channel_gets_a_probe_now_and_then_and_comes_back_by_it() -> None:
    rules = [rule(1, priority=1), rule(2, priority=2)]
    ill, well = state(success=0.1), state()
    got = [chosen(rules, {1: ill, 2: well}, now_s=n * 0.5) for n in range(21)]
    assert Counter(got) == {1: 3, 2: 18}  # at 0, 5 and 10 s
    for _ in range(200):
        ill.health.heard(Status.DELIVERED, Cause.NONE, 1.0)
    assert not ill.health.broken
    assert chosen(rules, {1: ill, 2: well}, now_s=11.0) == 1


def test_where_all_are_ill_the_least_ill_is_used() -> None:
    rules = [rule(1), rule(2), rule(3)]
    states = {1: state(success=0.1), 2: state(success=0.25), 3: state(success=0.05)}
    for one in states.values():
        one.health.probed_at_s = 0.0
    assert {chosen(rules, states, chance=n / 10, now_s=1.0) for n in range(10)} == {2}


def test_the_breaker_opens_on_a_run_of_faults_and_not_on_wrong_numbers() -> None:
    wrong, broken = Health(), Health()
    for _ in range(100):
        wrong.heard(Status.UNDELIVERED, Cause.INVALID_NUMBER, 1.0)
        broken.heard(Status.UNDELIVERED, Cause.NETWORK, 1.0)
    assert not wrong.broken
    assert broken.broken
    assert broken.score < wrong.score


def test_one_fault_opens_nothing() -> None:
    health = Health()
    health.heard(Status.UNDELIVERED, Cause.NETWORK, 1.0)
    assert not health.broken


def test_the_trace_names_the_channel_the_rule_and_how_the_others_stood() -> None:
    rules = [rule(1, priority=1), rule(2, priority=2), rule(3, priority=3)]
    laid = snapshot([channel(1), channel(2), channel(3)], rules)
    states = {ChannelId(1): state(up=False), ChannelId(2): state(), ChannelId(3): state()}
    choice = route.choose(route.candidates(WANT, laid), states, 0.0, 0.0)
    told = route.trace(WANT, choice, laid, 1)["route"]
    assert (told["channel"], told["rule"], told["attempt"]) == ("channel 2", 20, 1)
    assert {other["channel"]: other["why"] for other in told["others"]} == {
        "channel 1": "down",
        "channel 3": "lower priority",
    }


RULES: Final = st.lists(
    st.builds(
        rule,
        st.integers(1, 3),
        priority=st.integers(1, 3),
        weight=st.integers(0, 3),
        tenant_id=st.sampled_from([None, TenantId(1), TenantId(2)]),
        country=st.sampled_from([None, "CN", "GB"]),
        operator=st.sampled_from([None, "cmcc", "unicom"]),
        purpose=st.sampled_from([None, Purpose.TRANSACTIONAL, Purpose.PROMOTIONAL]),
    ),
    max_size=8,
)
STATES: Final = st.dictionaries(
    st.integers(1, 3),
    st.builds(
        state, up=st.booleans(), room=st.booleans(), success=st.floats(0, 1), latency_s=st.floats(0, 100)
    ),
)


@given(RULES, STATES, st.floats(0, 0.999), st.floats(0, 100))
def test_whatever_the_moment_only_what_the_rules_allow_and_what_is_up_with_room_is_chosen(
    rules: list[RouteRule], states: dict[int, State], chance: float, now_s: float
) -> None:
    got = chosen(rules, states, chance, now_s)
    if got is None:
        return
    assert states[got].up
    assert states[got].room
    assert any(
        one.channel_id == got
        and one.weight
        and one.tenant_id in (None, WANT.tenant_id)
        and one.country in (None, WANT.country)
        and one.operator in (None, WANT.operator)
        and one.purpose in (None, WANT.purpose)
        for one in rules
    )


@given(RULES, st.floats(0, 0.999), st.floats(0, 1))
def test_health_alone_never_stops_a_message(rules: list[RouteRule], chance: float, success: float) -> None:
    states = {n: state(success=success) for n in (1, 2, 3)}
    assert (chosen(rules, states, chance) is None) == (not allowed(rules))


@given(st.booleans(), st.floats(0.3, 1), st.lists(st.integers(2, 3), unique=True))
def test_where_there_is_one_channel_nothing_is_weighed_and_the_choice_is_the_same(
    routed: bool, success: float, unfiled: list[int]
) -> None:
    ranking = route.candidates(WANT, snapshot([channel(1)], [rule(1)] if routed else []))
    left_out = [ChannelId(number) for number in unfiled]
    weighed = route.choose(ranking, {ChannelId(1): state(success=success)}, 0.0, 0.0, left_out)
    only = route.only(ranking, left_out)
    assert only == (weighed if routed else None)


def test_among_several_channels_there_is_no_only_one() -> None:
    channels = [channel(1), channel(2)]
    assert route.only(route.candidates(WANT, snapshot(channels, [rule(1), rule(2)])), ()) is None


# ---- where channels demand filings


FILED: Final = Signature(1, "鸿雁", approved=True, extension="", filed=frozenset({"cmcc"}))
UNFILED: Final = Signature(2, "飞鸽", approved=True, extension="")


def demanding_channels(*demanding: int, signatures: Sequence[Signature] = (FILED, UNFILED)) -> Snapshot:
    channels = [channel(n, filing_demanded=n in demanding) for n in (1, 2)]
    return msgspec.structs.replace(
        snapshot(channels, [rule(1, priority=1), rule(2, priority=2)]),
        signatures={one.id: one for one in signatures},
        demands_filing=bool(demanding),
        found_routes={},
    )


def wanted(signature: Signature, **fields: Any) -> Want:
    values: dict[str, Any] = {"tenant_id": TenantId(1), "country": "CN", "operator": "cmcc"}
    return Want(**(values | {"purpose": Purpose.OTP, "signature_id": signature.id} | fields))


def carried(asked: Want, known: Snapshot) -> list[int]:
    return [one.channel_id for one in route.candidates(asked, known)]


def test_a_channel_that_demands_filings_carries_only_what_is_filed_at_the_operator() -> None:
    assert carried(wanted(FILED), demanding_channels(1)) == [1, 2]
    assert carried(wanted(UNFILED), demanding_channels(1)) == [2]
    assert carried(wanted(FILED, operator="unicom"), demanding_channels(1)) == [2]
    assert carried(wanted(UNFILED), demanding_channels()) == [1, 2]
    assert carried(wanted(UNFILED), demanding_channels(1, 2)) == []


def test_filings_are_a_matter_of_the_mainland() -> None:
    assert carried(wanted(UNFILED, country="GB", operator=""), demanding_channels(1)) == [1, 2]


def test_an_operator_that_is_not_known_may_be_any_of_them() -> None:
    everywhere = Signature(3, "鸿雁", approved=True, extension="", filed=MAINLAND_OPERATORS)
    known = demanding_channels(1, signatures=(FILED, everywhere))
    assert carried(wanted(FILED, operator=""), known) == [2]
    assert carried(wanted(everywhere, operator=""), known) == [1, 2]


def test_the_trace_says_which_channel_was_left_out_for_want_of_a_filing() -> None:
    known, asked = demanding_channels(1), wanted(UNFILED)
    states = {ChannelId(n): State(True, True, Health()) for n in (1, 2)}
    unfiled = route.not_filed(asked, known)
    choice = route.choose(route.candidates(asked, known), states, 0.0, 0.0, unfiled)
    told = route.trace(asked, choice, known, 1)["route"]
    assert (told["channel"], told["others"]) == ("channel 2", [{"channel": "channel 1", "why": "not filed"}])
    assert route.not_filed(wanted(FILED), known) == ()


@given(
    st.sets(st.sampled_from([1, 2])),
    st.sets(st.sampled_from(sorted(MAINLAND_OPERATORS))),
    st.sampled_from(["", *sorted(MAINLAND_OPERATORS)]),
)
def test_what_is_left_out_and_what_is_allowed_are_together_all_there_is(
    demanding: set[int], filed: set[str], operator: str
) -> None:
    one = Signature(1, "鸿雁", approved=True, extension="", filed=frozenset(filed))
    known, asked = demanding_channels(*demanding, signatures=[one]), wanted(one, operator=operator)
    left_out = set(route.not_filed(asked, known))
    assert left_out | set(carried(asked, known)) == {1, 2}
    assert left_out <= demanding
    assert not left_out or operator not in filed


def test_answers_are_kept_by_signature_only_where_some_channel_demands_filings() -> None:
    free, demanding = demanding_channels(), demanding_channels(1, 2)
    for known in (free, demanding):
        for signature in (FILED, UNFILED, FILED):
            route.exists(wanted(signature), known)
    assert len(free.found_routes) == 1
    assert list(demanding.found_routes.values()) == [True, False]


def test_digits_never_grow_longer_than_a_sender_may_be() -> None:
    signature = Signature(1, "鸿雁", approved=True, extension="1", extensions={ChannelId(1): "22222222"})
    known = demanding_channels(signatures=[signature])
    assert known.extension_at(1, 1, "1" + "3" * 8) == "22222222" + "3" * 4
    assert known.extension_at(2, 1, "13") == "13"
    assert known.extension_at(1, 9, "13") == "13"
