"""A sign-in is proved, new, bounded in time and ended when it must be; guessing gets slower wherever it is done."""

import asyncio
from datetime import timedelta
from typing import LiteralString

import pyotp
import pytest

import make
from hongyan import clock, db
from hongyan.control import attempts, authenticators, invitations, passwords, people, sign_ins, users
from hongyan.control.permissions import GRANTED, Role
from hongyan.vocab.errors import Code, Refusal
from hongyan.way import prune

from .conftest import Office
from .people import ADDRESS, EMAIL, OTHER, PASSWORD, add, found, sign_in


async def refused(office: Office, *said: str | None, address: str = ADDRESS) -> Refusal:
    email, password, code = (*said, None, None, None)[:3]
    with pytest.raises(Refusal) as refusal:
        await sign_in(office, email or EMAIL, password or "no such password", code, address=address)
    return refusal.value


async def age(office: Office, statement: LiteralString) -> None:
    """Let time go by for rows."""
    await office.database.execute(statement)


# ---- proving


async def test_who_has_the_password_is_signed_in_as_what_they_are(office: Office) -> None:
    user_id = await add(office, role=Role.MARKETER)
    opened = await sign_in(office, "LI@Example.com")
    assert await found(office, opened.token) == sign_ins.SignedIn(
        user_id,
        opened.sign_in_id,
        office.tenant_id,
        Role.MARKETER,
        EMAIL,
        GRANTED[Role.MARKETER],
        tenant_active=True,
    )


async def test_an_unknown_email_a_wrong_password_and_somebody_taken_out_get_one_answer(
    office: Office,
) -> None:
    await add(office, "boss@example.com", Role.OWNER)
    user_id = await add(office, role=Role.VIEWER)
    wrong = await refused(office)
    unknown = await refused(office, "nobody@example.com")
    async with office.database.transaction() as tx:
        await people.change(tx, None, None, user_id, active=False)
    out = await refused(office, EMAIL, PASSWORD)
    assert {(each.code, tuple(each.detail)) for each in (wrong, unknown, out)} == {
        (Code.AUTH_SIGN_IN_FAILED, ())
    }


async def test_for_an_unknown_email_a_password_is_checked_all_the_same(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    verify = passwords._verify

    def counted(password: bytes, stored: str | None) -> bool:
        checked.append(stored)
        return verify(password, stored)

    monkeypatch.setattr(passwords, "_verify", counted)
    await refused(office, "nobody@example.com")
    assert checked == [None]


async def test_nothing_that_could_be_used_is_stored_of_a_password_or_a_token(office: Office) -> None:
    await add(office)
    opened = await sign_in(office)
    (row,) = await office.database.fetch(
        "SELECT u.password_hash, s.token_hash FROM console_user u JOIN sign_in s ON s.user_id = u.id"
    )
    assert row["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert opened.token.encode() not in row["token_hash"]
    assert len(row["token_hash"]) == 32


async def test_a_hash_of_other_parameters_is_made_anew_when_the_password_is_there(office: Office) -> None:
    from argon2 import PasswordHasher

    user_id = await add(office)
    old = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    async with office.database.transaction() as tx:
        await users.put_hash(tx, user_id, old)
    await sign_in(office)
    async with office.database.transaction() as tx:
        now = (await users.read(tx, user_id)).password_hash
    assert now != old
    assert not passwords.is_outdated(now)
    await sign_in(office)


async def test_a_password_changed_while_it_was_checked_opens_nothing(office: Office) -> None:
    user_id = await add(office)
    person = await sign_ins.prove(office.database, office.vault, EMAIL, PASSWORD, None, ADDRESS)
    async with office.database.transaction() as tx:
        await people.set_password(tx, user_id, OTHER)
    with pytest.raises(Refusal) as refusal:
        async with office.database.transaction() as tx:
            await sign_ins.open_one(tx, office.vault, person, PASSWORD, None, ADDRESS)
    assert refusal.value.code is Code.AUTH_SIGN_IN_FAILED


# ---- its life


async def test_every_sign_in_has_a_token_of_its_own_and_all_of_them_live(office: Office) -> None:
    await add(office)
    tokens = {(await sign_in(office)).token for _ in range(3)}
    assert len(tokens) == 3
    assert all([await found(office, token) for token in tokens])


@pytest.mark.parametrize(
    ("statement", "lives"),
    [
        ("UPDATE sign_in SET seen_at = now() - interval '29 minutes'", True),
        ("UPDATE sign_in SET seen_at = now() - interval '30 minutes 1 second'", False),
        ("UPDATE sign_in SET created_at = now() - interval '11 hours 59 minutes'", True),
        ("UPDATE sign_in SET created_at = now() - interval '12 hours 1 second'", False),
        ("UPDATE console_user SET active = false", False),
        ("DELETE FROM sign_in", False),
    ],
)
async def test_a_sign_in_ends_unused_and_in_the_end_anyway(
    office: Office, statement: LiteralString, lives: bool
) -> None:
    await add(office)
    opened = await sign_in(office)
    await age(office, statement)
    assert (await found(office, opened.token) is not None) is lives


async def test_using_a_sign_in_keeps_it_and_is_written_down_once_a_minute(office: Office) -> None:
    await add(office)
    opened = await sign_in(office)
    await age(office, "UPDATE sign_in SET seen_at = now() - interval '50 seconds'")
    (before,) = await office.database.fetch("SELECT seen_at, xmin FROM sign_in")
    await found(office, opened.token)
    assert [before] == list(await office.database.fetch("SELECT seen_at, xmin FROM sign_in"))
    await age(office, "UPDATE sign_in SET seen_at = now() - interval '61 seconds'")
    await found(office, opened.token)
    (after,) = await office.database.fetch(
        "SELECT now() - seen_at < interval '10 seconds' AS fresh FROM sign_in"
    )
    assert after["fresh"]


async def test_a_request_does_not_wait_for_another_of_the_same_sign_in(office: Office) -> None:
    await add(office)
    opened = await sign_in(office)
    await age(office, "UPDATE sign_in SET seen_at = now() - interval '2 minutes'")
    async with office.database.transaction() as tx:
        assert await sign_ins.find(tx, opened.token, ADDRESS)
        assert await asyncio.wait_for(found(office, opened.token), 5)


async def test_a_new_role_or_password_ends_all_sign_ins(office: Office) -> None:
    await add(office, "boss@example.com", Role.OWNER)
    user_id = await add(office, role=Role.VIEWER)
    first = await sign_in(office)
    async with office.database.transaction() as tx:
        await people.change(tx, None, None, user_id, role=Role.MARKETER)
    assert await found(office, first.token) is None
    second = await sign_in(office)
    async with office.database.transaction() as tx:
        assert await people.set_password(tx, user_id, OTHER) == 1
    assert await found(office, second.token) is None
    await sign_in(office, password=OTHER)


async def test_of_too_many_sign_ins_the_oldest_ends(office: Office) -> None:
    user_id = await add(office)
    async with office.database.transaction() as tx:
        opened = [await sign_ins.begin(tx, user_id, ADDRESS) for _ in range(sign_ins.SIGN_INS_MAX + 1)]
        assert len(await sign_ins.every(tx, user_id, 0)) == sign_ins.SIGN_INS_MAX
    assert await found(office, opened[0].token) is None
    assert await found(office, opened[1].token)


async def test_nobody_ends_a_sign_in_of_somebody_else(office: Office) -> None:
    await add(office)
    other = await add(office, "wang@example.com")
    opened = await sign_in(office)
    with pytest.raises(Refusal):
        async with office.database.transaction() as tx:
            await sign_ins.end(tx, other, opened.sign_in_id)
    assert await found(office, opened.token)


async def test_people_of_a_suspended_tenant_are_known_to_be(office: Office) -> None:
    await add(office)
    opened = await sign_in(office)
    await age(office, "UPDATE tenant SET active = false")
    signed_in = await found(office, opened.token)
    assert signed_in is not None
    assert not signed_in.tenant_active


# ---- guessing


async def test_after_five_wrong_passwords_the_right_one_has_to_wait_too(office: Office) -> None:
    await add(office)
    for number in range(attempts.EMAIL_FREE):
        assert (await refused(office, address=f"192.0.2.{number}")).code is Code.AUTH_SIGN_IN_FAILED
    waits = await refused(office, EMAIL, PASSWORD)
    assert waits.code is Code.AUTH_TOO_MANY_ATTEMPTS
    assert waits.retry_after_s is not None
    assert 0 < waits.retry_after_s <= attempts.WAIT_S
    await age(office, "UPDATE sign_in_attempt SET last_at = now() - interval '61 seconds'")
    await sign_in(office)
    await refused(office)
    await sign_in(office)


async def test_each_further_wrong_one_waits_twice_as_long_up_to_an_hour(office: Office) -> None:
    await add(office)
    for _ in range(attempts.EMAIL_FREE):
        await refused(office)
    waited = []
    for number in range(8):
        wait_s = (await refused(office)).retry_after_s
        assert wait_s is not None
        waited.append(round(wait_s, -1))
        async with office.database.transaction() as tx:
            await tx.execute(
                "UPDATE sign_in_attempt SET last_at = now() - make_interval(secs => $1)", wait_s + 1
            )
        assert (await refused(office, address=f"198.51.100.{number}")).code is Code.AUTH_SIGN_IN_FAILED
    assert waited == [60, 120, 240, 480, 960, 1920, 3600, 3600]


async def test_attempts_are_forgotten_after_a_quarter_of_an_hour(office: Office) -> None:
    await add(office)
    for _ in range(attempts.EMAIL_FREE - 1):
        await refused(office)
    await age(office, "UPDATE sign_in_attempt SET last_at = now() - interval '901 seconds'")
    for _ in range(attempts.EMAIL_FREE):
        assert (await refused(office)).code is Code.AUTH_SIGN_IN_FAILED


async def test_an_address_that_guesses_at_many_has_to_wait_for_all(office: Office) -> None:
    await add(office)
    for number in range(attempts.ADDRESS_FREE):
        assert (await refused(office, f"{number}@example.com")).code is Code.AUTH_SIGN_IN_FAILED
    assert (await refused(office, EMAIL, PASSWORD)).code is Code.AUTH_TOO_MANY_ATTEMPTS
    await sign_in(office, address="192.0.2.99")


async def test_addresses_of_one_ipv6_network_are_one(office: Office) -> None:
    for number in range(attempts.ADDRESS_FREE):
        await refused(office, f"{number}@example.com", address=f"2001:db8::{number:x}")
    again = await refused(office, "x@example.com", address="2001:db8::ffff")
    assert again.code is Code.AUTH_TOO_MANY_ATTEMPTS
    other = await refused(office, "x@example.com", address="2001:db8:0:1::1")
    assert other.code is Code.AUTH_SIGN_IN_FAILED


async def test_a_success_clears_the_count_of_the_email_and_not_of_the_address(office: Office) -> None:
    await add(office)
    for _ in range(attempts.EMAIL_FREE - 1):
        await refused(office)
    await sign_in(office)
    rows = await office.database.fetch("SELECT count FROM sign_in_attempt")
    assert [row["count"] for row in rows] == [attempts.EMAIL_FREE - 1]


async def test_a_hundred_guesses_at_once_over_two_processes_are_five(office: Office, database: str) -> None:
    await add(office)
    other = await db.connect(database, make.SETTINGS)
    try:
        outcomes = await asyncio.gather(
            *(
                sign_ins.prove(
                    (office.database, other)[number % 2],
                    office.vault,
                    EMAIL,
                    "wrong",
                    None,
                    f"192.0.2.{number}",
                )
                for number in range(100)
            ),
            return_exceptions=True,
        )
    finally:
        await other.close()
    codes = [outcome.code for outcome in outcomes if isinstance(outcome, Refusal)]
    assert len(codes) == 100
    assert codes.count(Code.AUTH_SIGN_IN_FAILED) == attempts.EMAIL_FREE


async def test_what_was_typed_as_an_email_is_not_kept(office: Office) -> None:
    await refused(office, "mypassword@oops.example")
    rows = await office.database.fetch("SELECT key FROM sign_in_attempt")
    assert all(b"mypassword" not in row["key"] for row in rows)


async def test_who_was_locked_out_by_others_is_let_in_by_hand(office: Office) -> None:
    await add(office)
    for number in range(attempts.EMAIL_FREE):
        await refused(office, address=f"192.0.2.{number}")
    async with office.database.transaction() as tx:
        await people.unlock(tx, office.vault, EMAIL)
    await sign_in(office)


# ---- one-time codes


async def enrolled(office: Office, user_id: int) -> tuple[pyotp.TOTP, list[str]]:
    async with office.database.transaction() as tx:
        made = await authenticators.enrol(tx, office.vault, user_id, EMAIL)
        totp = pyotp.TOTP(made.secret.reveal().decode())
        now = int(clock.now_s())
        return totp, list(await authenticators.confirm(tx, office.vault, user_id, totp.at(now)))


def next_code(totp: pyotp.TOTP) -> str:
    """A code that is right although the one of now has been used: that of the next half minute."""
    return totp.at(int(clock.now_s()) + totp.interval)


async def test_once_confirmed_a_code_is_asked_for_and_works_once(office: Office) -> None:
    totp, _ = await enrolled(office, await add(office))
    assert (await refused(office, EMAIL, PASSWORD)).code is Code.AUTH_ONE_TIME_CODE_NEEDED
    code = next_code(totp)
    await sign_in(office, code=code)
    assert (await refused(office, EMAIL, PASSWORD, code)).code is Code.AUTH_SIGN_IN_FAILED


async def test_the_code_that_confirmed_does_not_sign_in(office: Office) -> None:
    user_id = await add(office)
    async with office.database.transaction() as tx:
        made = await authenticators.enrol(tx, office.vault, user_id, EMAIL)
        code = pyotp.TOTP(made.secret.reveal().decode()).at(int(clock.now_s()))
        await authenticators.confirm(tx, office.vault, user_id, code)
    assert (await refused(office, EMAIL, PASSWORD, code)).code is Code.AUTH_SIGN_IN_FAILED


async def test_a_code_shown_to_two_processes_at_once_lets_one_in(office: Office) -> None:
    totp, _ = await enrolled(office, await add(office))
    code = next_code(totp)
    outcomes = await asyncio.gather(*(sign_in(office, code=code) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(outcome, sign_ins.Opened) for outcome in outcomes) == 1


@pytest.mark.parametrize(
    "code", ["000000", "12345", "1234567", "abcdef", "１２３４５６", "", "aaaa-aaaa-aaaa-aaaa"]
)
async def test_a_wrong_code_counts_as_a_wrong_attempt(office: Office, code: str) -> None:
    totp, _ = await enrolled(office, await add(office))
    now = int(clock.now_s())
    if code in {totp.at(now + step) for step in (-30, 0, 30)}:
        pytest.skip("it is right, once in a million times")
    assert (await refused(office, EMAIL, PASSWORD, code)).code is Code.AUTH_SIGN_IN_FAILED
    counts = await office.database.fetch("SELECT count FROM sign_in_attempt")
    assert [row["count"] for row in counts] == [1, 1]


async def test_codes_are_guessed_no_faster_than_passwords(office: Office) -> None:
    await enrolled(office, await add(office))
    for _ in range(attempts.EMAIL_FREE):
        await refused(office, EMAIL, PASSWORD)  # asked for the code: neither right nor wrong
        await refused(office, EMAIL, PASSWORD, "wrong!")
    assert (await refused(office, EMAIL, PASSWORD)).code is Code.AUTH_TOO_MANY_ATTEMPTS


async def test_a_code_of_long_ago_or_of_later_is_wrong(office: Office) -> None:
    totp, _ = await enrolled(office, await add(office))
    now = int(clock.now_s())
    for seconds in (-90, 90):
        assert (
            await refused(office, EMAIL, PASSWORD, totp.at(now + seconds))
        ).code is Code.AUTH_SIGN_IN_FAILED


async def test_each_recovery_code_lets_in_once_however_it_is_written(office: Office) -> None:
    _, codes = await enrolled(office, await add(office))
    assert len(set(codes)) == 10
    await sign_in(office, code=codes[0])
    await sign_in(office, code=codes[1].replace("-", "").upper())
    assert (await refused(office, EMAIL, PASSWORD, codes[0])).code is Code.AUTH_SIGN_IN_FAILED


async def test_an_authenticator_that_was_not_confirmed_is_not_asked_for(office: Office) -> None:
    user_id = await add(office)
    async with office.database.transaction() as tx:
        first = await authenticators.enrol(tx, office.vault, user_id, EMAIL)
        second = await authenticators.enrol(tx, office.vault, user_id, EMAIL)
        old = pyotp.TOTP(first.secret.reveal().decode()).at(int(clock.now_s()))
        if old != pyotp.TOTP(second.secret.reveal().decode()).at(int(clock.now_s())):
            with pytest.raises(Refusal):
                await authenticators.confirm(tx, office.vault, user_id, old)
    await sign_in(office)


async def test_a_confirmed_authenticator_is_not_replaced_but_removed(office: Office) -> None:
    user_id = await add(office)
    await enrolled(office, user_id)
    with pytest.raises(Refusal) as refusal:
        async with office.database.transaction() as tx:
            await authenticators.enrol(tx, office.vault, user_id, EMAIL)
    assert refusal.value.code is Code.REQUEST_CONFLICT
    async with office.database.transaction() as tx:
        await people.reset_totp(tx, user_id)
    await sign_in(office)
    assert not await office.database.fetch("SELECT 1 FROM recovery_code")


async def test_the_secret_of_an_authenticator_is_sealed(office: Office) -> None:
    totp, _ = await enrolled(office, await add(office))
    (row,) = await office.database.fetch("SELECT sealed FROM authenticator")
    assert totp.secret.encode() not in row["sealed"]


async def test_what_is_over_is_forgotten_and_nothing_before(office: Office) -> None:
    user_id = await add(office)
    await sign_in(office)
    await refused(office, "x@example.com")
    async with office.database.transaction() as tx:
        await invitations.create(
            tx,
            by=None,
            invited_by=user_id,
            tenant_id=office.tenant_id,
            email="x@example.com",
            role=Role.VIEWER,
        )
    duties = (prune.delete_sign_ins, prune.delete_attempts, prune.delete_invitations)
    lives_s = (sign_ins.KEPT_S, attempts.WAIT_S_MAX + attempts.FORGET_S, invitations.VALID_S)
    for duty, life_s in zip(duties, lives_s, strict=True):
        async with office.database.transaction() as tx:
            assert await duty(tx, make.SETTINGS, clock.now() + timedelta(seconds=life_s)) == 0
            assert await duty(tx, make.SETTINGS, clock.now() + timedelta(days=60)) > 0
            assert await duty(tx, make.SETTINGS, clock.now() + timedelta(days=60)) == 0


@pytest.mark.parametrize("written", [f" {EMAIL}", f"{EMAIL} ", f"\t{EMAIL}\u3000", EMAIL.upper()])
async def test_an_email_written_otherwise_is_no_other_one_to_guess_for(office: Office, written: str) -> None:
    await add(office)
    for number in range(attempts.EMAIL_FREE):
        await refused(office, address=f"192.0.2.{number}")
    refusal = await refused(office, written, PASSWORD, address="198.51.100.1")
    assert refusal.code is Code.AUTH_TOO_MANY_ATTEMPTS
