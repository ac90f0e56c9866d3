"""What a plan makes of a wish: a template never makes codes easier to guess than the policy has them."""

import json
from typing import Final

import msgspec
import pytest

from hongyan.otp.policy import PER_CODE_MAX, PER_YEAR_MAX, Bound, Policy, kept_to
from hongyan.otp.wish import network
from hongyan.vocab.errors import Code, Refusal
from otp.asking import BODY, asking

SHORT: Final = json.dumps({"code": {"kind": "code", "max": 4}, "minutes": {"kind": "minutes"}})


async def test_a_template_whose_codes_are_too_short_for_any_try_is_refused(database: str) -> None:
    async with asking(database, variables=SHORT) as one:
        with pytest.raises(Refusal) as refused:
            await one.start()
    assert refused.value.code is Code.VERIFY_CARELESS


async def test_another_template_for_codes_changes_nothing_for_who_names_none(database: str) -> None:
    async with asking(database, bodies=(BODY, "另一条验证码${code}，${minutes}分钟内有效")) as one:
        started = await one.start()
        (message,) = await one.database.fetch(
            "SELECT template_id FROM message WHERE id = $1", started.message_id
        )
        (first,) = await one.database.fetch("SELECT min(id) AS id FROM template WHERE purpose = 0")
        assert message["template_id"] == first["id"]


async def test_where_the_route_takes_shorter_codes_than_the_policy_has_no_two_are_alive(
    database: str,
) -> None:
    """Two codes of seven characters are careful; of six, as the mainland's routes take them, they are not."""
    policy = json.dumps({"challenge": "never", "digits": 7, "resend": "new"})
    async with asking(database, policy) as one:
        started = await one.start()
        first = await one.code(started.id)
        one.clock.now_s += 61
        await one.resend(started.id)
        assert (started.digits, await one.code(started.id)) == (6, first)
        assert (await one.row(started.id))["mac_before"] is None


@pytest.mark.parametrize("resend", ["same", "new"])
@pytest.mark.parametrize("digits", range(4, 11))
@pytest.mark.parametrize("alphabet", ["digits", "letters"])
def test_what_a_route_makes_of_a_policy_keeps_the_bounds_or_is_nothing(
    digits: int, alphabet: str, resend: str
) -> None:
    policy = Policy(digits=10, alphabet="letters", tries=10, resend=resend)  # type: ignore[arg-type]
    kept = kept_to(policy, digits, alphabet)  # type: ignore[arg-type]
    if kept is None:
        single = Bound.of(
            msgspec.structs.replace(policy, digits=digits, alphabet=alphabet, tries=1, resend="same")
        )
        assert single.per_year > PER_YEAR_MAX
        return
    assert (kept.digits, kept.alphabet) == (digits, alphabet)
    bound = Bound.of(kept)
    assert bound.per_code <= PER_CODE_MAX
    assert bound.per_year <= PER_YEAR_MAX


def test_routes_of_the_mainland_s_six_digits_take_the_usual_policy_as_it_is() -> None:
    assert kept_to(Policy(), 6, "digits") == Policy()


def test_who_asks_from_one_line_is_one_address_however_it_is_written() -> None:
    assert network("203.0.113.7") == network("::ffff:203.0.113.7") != network("203.0.113.8")
    assert network("2001:db8::1") == network("2001:DB8:0:0:ffff::2") != network("2001:db8:0:1::1")
    assert [network(text) for text in ("", "203.0.113.7:443", "unknown")] == [b"", b"", b""]


async def test_a_limit_of_an_address_counts_what_the_door_read_of_it(database: str) -> None:
    """The address comes to the service as it was read, and is not read again."""
    numbers = [f"+861380013800{n}" for n in range(3)]
    async with asking(database, policy='{"challenge": "never", "address_5_minutes": 2}') as one:
        for number, address in zip(numbers[:2], ("2001:db8::1", "2001:db8::2"), strict=True):
            await one.start(number, address=network(address))
        with pytest.raises(Refusal) as refused:
            await one.start(numbers[2], address=network("2001:db8::3"))
        assert refused.value.detail["limit"] == "address_5_minutes"
        await one.start(numbers[2], address=network("2001:db8:0:1::1"))
