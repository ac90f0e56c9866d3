"""What a guesser gains is reckoned as it is, and what is careless is refused."""

import random
from typing import Any

import msgspec
import pytest

import make
from hongyan import db
from hongyan.otp import limits, policies, policy
from hongyan.otp.book import read as read_book
from hongyan.otp.policies import Proposal, weigh
from hongyan.otp.policy import Bound, Policy
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose, TenantId
from hongyan.vocab.verification import Scene

MINUTE_S, DAY_S, YEAR_S = 60.0, 86_400.0, 365.25 * 86_400.0

# ---- the bounds against chance itself


def test_the_bound_per_code_matches_a_monte_carlo() -> None:
    """Codes of 3 characters, so that chance has something to hit."""
    drawn, rounds = random.Random(6), 200_000
    for resend, tries in (("same", 5), ("new", 5), ("same", 10)):
        bound = Bound.of(Proposal(tries=tries, resend=resend), digits=3)  # type: ignore[arg-type]
        alive = 2 if resend == "new" else 1
        hits = sum(
            any(drawn.randrange(1_000) < tries for _ in range(alive)) for _ in range(rounds)
        )  # codes are drawn evenly, so guessing 0, 1, 2 … is as good as anything
        assert bound.per_code == pytest.approx(hits / rounds, rel=0.1)
        assert hits / rounds < bound.per_code * 1.1


def year_of_guesses(rules: Policy, *, patient: bool, scenes: int = 1) -> list[int]:
    """Play a year of somebody who does nothing but guess; returns how many tries he got at each code.

    The limits of sends, the counter's waits and the end after fifty hold him up as they do in the service. Patient: he
    lets as many codes gather as may be alive, and then uses all their tries at once. Each scene has limits of its own.
    """
    sent: list[list[float]] = [[] for _ in range(scenes)]
    most = policy.alive_at_once(rules, scenes) if patient else 1
    failed: list[float] = []
    tries: list[int] = []
    now_s, gathered = 0.0, 0
    while True:
        free_s, scene = min((_free_at(rules, sent, one, failed, now_s), one) for one in range(scenes))
        if free_s <= now_s + MINUTE_S and gathered < most and free_s < YEAR_S:
            now_s = free_s
            sent[scene].append(now_s)
            gathered += 1
        elif gathered:
            tries += [rules.tries] * gathered
            failed += [now_s] * (rules.tries * gathered)
            gathered = 0
        elif free_s < YEAR_S:
            now_s = free_s
        else:
            return tries


def _free_at(rules: Policy, sent: list[list[float]], scene: int, failed: list[float], now_s: float) -> float:
    """Return when the next code of a scene may be asked for."""
    free, here = [now_s], sent[scene]
    for span_s, most in ((60, rules.number_minute), (3_600, rules.number_hour), (DAY_S, rules.number_day)):
        free += [here[-most] + span_s] if len(here) >= most else []
    (everywhere,) = limits.EVERYBODYS_NUMBER
    all_sent = sorted(at for one in sent for at in one[-everywhere.most :])
    if len(all_sent) >= everywhere.most:
        free.append(all_sent[-everywhere.most] + everywhere.within_s)
    if len(failed) >= policy.FAILURES_MAX:
        free.append(failed[-policy.FAILURES_MAX] + policy.FAILURES_WITHIN_S)
    if failed:
        free.append(failed[-1] + policy.failure_wait_s(len(failed)))
    return max(free)


@pytest.mark.parametrize("patient", [False, True])
@pytest.mark.parametrize("tries", [1, 3, 5])
def test_no_year_has_more_guesses_than_the_bound(tries: int, patient: bool) -> None:
    rules = Proposal(tries=tries)
    guesses = sum(year_of_guesses(rules, patient=patient))
    most = weigh(rules).guesses_per_year
    first = policy.FAILURES_MAX + rules.tries * rules.at_once  # of the thirteenth month, which has five days
    assert most * 0.6 < guesses <= most + first


@pytest.mark.parametrize("patient", [False, True])
@pytest.mark.parametrize("tries", [1, 3, 5])
def test_who_spreads_his_guesses_over_all_scenes_has_no_more_than_the_checker_says(
    tries: int, patient: bool
) -> None:
    rules, scenes = Proposal(tries=tries), len(Scene)
    guesses = sum(year_of_guesses(rules, patient=patient, scenes=scenes))
    weighed = weigh(rules)
    most = weighed.guesses_per_year_all_scenes
    first = policy.FAILURES_MAX + rules.tries * policy.alive_at_once(rules, scenes)
    assert guesses <= most + first
    assert not patient or guesses > most * 0.6
    assert weighed.guesses_per_year <= most < weighed.guesses_per_year * scenes
    assert weighed.per_year_all_scenes >= weighed.per_year


def test_the_bound_per_year_matches_a_monte_carlo() -> None:
    """Codes of 4 characters: some years in twenty one is hit."""
    rules = Proposal(tries=3)
    tries, drawn, rounds = year_of_guesses(rules, patient=True), random.Random(7), 4_000
    hits = sum(any(drawn.randrange(10_000) < t for t in tries) for _ in range(rounds))
    bound = Bound.of(rules, digits=4)
    assert hits / rounds == pytest.approx(bound.per_year, rel=0.25)


def test_of_the_three_things_that_hold_a_guesser_up_the_tightest_counts() -> None:
    for rules in (
        Proposal(),
        Proposal(tries=1),
        Proposal(number_day=1, tries=1),
        Proposal(number_day=10_000),
    ):
        assert weigh(rules).guesses_per_year == pytest.approx(min(policy.yearly(rules).values()))


# ---- 1. with 6 digits, 5 tries, 1 live code: ≤ 5e-6 (2 live codes ≤ 1e-5); printed; more than 1e-4 per code is refused


def test_the_defaults_are_careful_and_say_so() -> None:
    weighed = weigh(Policy())
    assert (weighed.careless, weighed.per_code) == (False, 5e-6)
    assert weighed.per_year <= 1e-3
    assert "5 tries × 1 alive ÷ 1,000,000 codes = 5.0e-06" in weighed.steps[0]
    assert weigh(Policy(resend="new")).per_code == 1e-5


CARELESS: dict[str, tuple[dict[str, Any], str]] = {
    "four characters with five tries": ({"digits": 4, "tries": 5}, "tries"),
    "four characters": ({"digits": 4, "tries": 3}, "per_code"),
    "five characters": ({"digits": 5}, "per_year"),
    "three characters": ({"digits": 3}, "digits"),
    "eleven minutes": ({"validity_s": 660}, "validity_s"),
    "one minute": ({"validity_s": 60}, "validity_s"),
    "eleven tries": ({"tries": 11}, "tries"),
    "six sends": ({"sends": 6}, "sends"),
    "a hundred codes a day": ({"number_day": 100}, "number_day"),
    "two codes alive at six digits": ({"resend": "new"}, "per_year"),
    "ten codes alive at once": ({"number_minute": 5, "number_hour": 20}, "per_year"),
}


@pytest.mark.parametrize(("said", "name"), CARELESS.values(), ids=CARELESS.keys())
def test_what_is_careless_is_named(said: dict[str, Any], name: str) -> None:
    weighed = weigh(Proposal(**said))
    assert weighed.careless
    assert name in {finding.name for finding in weighed.findings}
    assert all(finding.reason for finding in weighed.findings)


@pytest.mark.parametrize("said", [{}, {"digits": 8}, {"tries": 3}, {"digits": 5, "alphabet": "letters"},
                                  {"digits": 7, "resend": "new"}, {"validity_s": 600}])  # fmt: skip
def test_what_is_careful_is_not_refused(said: dict[str, Any]) -> None:
    assert weigh(Proposal(**said)).findings == []


def test_whatever_the_checker_lets_pass_a_policy_may_be() -> None:
    for name, (low, high, _) in policies.RANGES.items():
        for value in (low, high):
            assert getattr(msgspec.convert({name: value}, Policy), name) == value
        for value in (low - 1, high + 1):
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert({name: value}, Policy)


# ---- said and read


async def test_a_policy_is_stored_as_what_differs_and_flown_by(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        tenant = world.tenant_id
        (row,) = await policies.read(tx, tenant)
        assert (row.scene, row.said, row.policy) == (None, False, Policy())
        await policies.put(tx, tenant, None, Proposal(validity_s=240), who="user:1 a@example.com")
        rows = await policies.put(tx, tenant, Scene.PAY, Proposal(tries=3), who="user:1 a@example.com")
        assert [(each.scene, each.said) for each in rows] == [(None, True), (Scene.PAY, True)]
        assert rows[1].changed_by == "user:1 a@example.com"
        stored = await tx.fetch("SELECT scene, policy FROM verify_policy ORDER BY scene")
        assert [tuple(each) for each in stored] == [("", '{"validity_s":240}'), ("pay", '{"tries":3}')]
        flown = (await read_book(tx)).policies
        assert policy.policy_for(flown, tenant, "login").validity_s == 240
        assert policy.policy_for(flown, tenant, "pay") == Policy(tries=3)
        rows = await policies.put(tx, tenant, Scene.PAY, None, who="user:1")
        assert [each.scene for each in rows] == [None]


async def test_what_is_careless_is_refused_and_not_stored(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        with pytest.raises(Refusal) as refused:
            await policies.put(tx, world.tenant_id, None, Proposal(digits=4, validity_s=900), who="user:1")
        assert refused.value.code is Code.VERIFY_CARELESS
        assert {"reason", "tries", "per_code", "per_year", "validity_s"} == refused.value.detail.keys()
        assert await tx.fetch("SELECT 1 FROM verify_policy") == []


async def test_a_stored_setting_that_is_not_known_is_as_if_unsaid(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO verify_policy (tenant_id, scene, policy, changed_by) VALUES ($1, '', $2, 'a newer one')",
            world.tenant_id,
            '{"tries": 3, "validity_s": 3600, "colour": "red"}',
        )
        (row,) = await policies.read(tx, world.tenant_id)
        assert row.policy == Policy(tries=3)


# ---- what it names is there

CODE: dict[str, Any] = {"body": "您的验证码为${code}", "variables": '{"code": {"kind": "code"}}'}
PAYMENT: dict[str, Any] = {
    "body": "您向${who}付款${amount}元，验证码${code}",
    "variables": '{"code": {"kind": "code"}, "amount": {"kind": "money"}, "who": {"kind": "name"}}',
}


async def _named(tx: db.Tx, tenant: TenantId, scene: Scene | None = None, **said: Any) -> str:
    """Say a policy; returns which setting names what is not there."""
    try:
        await policies.put(tx, tenant, scene, msgspec.convert(said, Policy), who="user:1")
    except Refusal as refusal:
        return f"{refusal.detail.get('parameter')}" if refusal.code is Code.REQUEST_INVALID_PARAMETER else "?"
    return ""


async def test_a_policy_names_only_what_is_there_and_the_refusal_says_which_setting(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        tenant, other = world.tenant_id, await make.tenant(tx, world.vault)
        await make.template(tx, tenant_id=other, purpose=Purpose.OTP, code="theirs", **CODE)
        await make.signature(tx, tenant_id=other, name="他家")
        assert await _named(tx, tenant, template="nothing") == "template"
        assert await _named(tx, tenant, template="theirs") == "template"
        assert await _named(tx, tenant, signature="他家") == "signature"
        assert await _named(tx, tenant, media=["sms", "voice"]) == "media"
        assert await _named(tx, tenant, pumping={"countries": ["CN", "XX"]}) == "pumping.countries"
        assert await _named(tx, tenant, pumping={"budgets": {"ZZ": 1}}) == "pumping.budgets"
        assert await tx.fetch("SELECT 1 FROM verify_policy") == []
        await make.signature(tx, tenant_id=tenant, name="自家")
        there: dict[str, Any] = {
            "signature": "自家",
            "media": ["sms_other_route", "email"],
            "pumping": {"countries": ["GB"]},
        }
        assert await _named(tx, tenant, **there) == ""


async def test_a_template_named_by_a_policy_carries_codes_of_its_scene_and_may_still_be_under_review(
    database: str,
) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        tenant = world.tenant_id
        await make.template(
            tx, tenant_id=tenant, purpose=Purpose.OTP, code="login", state="reviewing", **CODE
        )
        await make.template(tx, tenant_id=tenant, code="pay", state="draft", **PAYMENT)
        await make.template(tx, tenant_id=tenant, purpose=Purpose.PROMOTIONAL, code="sale", **CODE)
        await make.template(tx, tenant_id=tenant, code="parcel")
        for scene, template, names in (
            (Scene.LOGIN, "login", ""), (Scene.PAY, "pay", ""), (None, "login", ""), (None, "pay", ""),
            (Scene.PAY, "login", "template"), (Scene.LOGIN, "pay", "template"),
            (Scene.LOGIN, "sale", "template"), (None, "parcel", "template"),
        ):  # fmt: skip
            assert await _named(tx, tenant, scene, template=template) == names, (scene, template)


async def test_a_medium_that_was_added_may_be_named(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        proposal = Proposal(media=("voice", "sms"))
        rows = await policies.put(
            tx, world.tenant_id, None, proposal, who="user:1", code_media="voice=calls:call"
        )
        assert rows[0].policy.media == ("voice", "sms")
