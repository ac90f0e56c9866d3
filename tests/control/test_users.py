"""People are who they are within bounds: e-mails, passwords, roles; and nobody makes anybody who may more."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.control import invitations, one_time, passwords, people, tokens, users
from hongyan.control.permissions import GRANTED, PLATFORM_ROLES, Permission, Role
from hongyan.vocab.errors import Code, Refusal

from .conftest import Office
from .people import EMAIL, OTHER, PASSWORD, add, found, sign_in


def demanded(password: str, email: str = EMAIL) -> str:
    try:
        passwords.demand_good(password, email)
    except Refusal as refusal:
        return str(refusal.detail["reason"])
    return ""


# ---- passwords


@pytest.mark.parametrize(
    "password",
    ["", "short", "elevenchars", "x" * 129, "aaaaaaaaaaaaaaaa", "ababababababab", "password1234", "Password12345!",
     "123456789012", "098765432109", "QWERTYUIOP123", "iloveyouiloveyou", "passwordpassword", "administrator1",
     "hongyanhongyan2026"],
)  # fmt: skip
def test_a_password_that_many_choose_or_that_is_short_is_none(password: str) -> None:
    assert demanded(password)


@pytest.mark.parametrize(
    "password", ["seven quiet herons", "correct-battery-9", "密码是七只安静的苍鹭在河边", "x7! Kz9? Lm2@"]
)
def test_a_long_password_of_whatever_signs_is_one(password: str) -> None:
    assert not demanded(password, "somebody@example.com")


def test_a_password_does_not_contain_the_name_in_the_email() -> None:
    assert demanded("Wang.Fang-is-nice", "wang.fang@example.com")
    assert not demanded("lily of the valley", "li@example.com"), "too short a name to mean anything"


async def test_every_password_matches_its_own_hash_and_no_other() -> None:
    for password in (PASSWORD, "密码是七只安静的苍鹭在河边", "\ud800" * 12, "p" * 128):
        stored = await passwords.hashed(password)
        assert await passwords.is_right(password, stored)
        assert not await passwords.is_right(password + " ", stored)
        assert not passwords.is_outdated(stored)
    assert not await passwords.is_right(PASSWORD, None)
    assert not await passwords.is_right(PASSWORD, "")
    assert not await passwords.is_right(PASSWORD, "$argon2id$nonsense")


# ---- e-mails


@pytest.mark.parametrize(
    "email",
    ["", "li", "@example.com", "li@", "li@@example.com", "li example.com", "li@exa mple.com", "li@例子.com", "лi@example.com",
     "li@example.com\nBcc: x@example.com", "li..li@example.com", "li@" + "a" * 252, "a" * 65 + "@example.com", "li@-a.com"],
)  # fmt: skip
async def test_what_is_no_email_is_refused_by_name(office: Office, email: str) -> None:
    with pytest.raises(Refusal) as refusal:
        await add(office, email)
    assert refusal.value.detail["parameter"] == "email"


@given(st.text(max_size=80))
def test_an_email_is_normal_once_and_for_all_or_refused(written: str) -> None:
    try:
        email = users.normal_email(written)
    except Refusal:
        return
    assert users.normal_email(email) == email == email.lower()


async def test_an_email_is_one_persons_whatever_its_capitals(office: Office) -> None:
    await add(office, "Li@Example.com")
    with pytest.raises(Refusal) as refusal:
        await add(office, "lI@eXAMPLE.COM")
    assert refusal.value.code is Code.REQUEST_CONFLICT


# ---- roles


@pytest.mark.parametrize("role", sorted(Role))
async def test_a_role_is_of_the_platform_or_of_a_tenant(office: Office, role: Role) -> None:
    tenant_id = office.tenant_id if role in PLATFORM_ROLES else None
    with pytest.raises(Refusal) as refusal:
        async with office.database.transaction() as tx:
            await users.create(tx, tenant_id=tenant_id, email=EMAIL, name="Li", role=role, password=PASSWORD)
    assert refusal.value.detail["parameter"] == "role"


@pytest.mark.parametrize("by", sorted(Role))
@pytest.mark.parametrize("role", sorted(Role))
def test_nobody_makes_somebody_who_may_more(by: Role, role: Role) -> None:
    if users.is_within(by, role):
        assert GRANTED[role] <= GRANTED[by]
        assert Permission.USERS_WRITE in GRANTED[by]


async def test_an_owner_does_not_touch_an_operator_even_by_mistake_of_the_tenant(office: Office) -> None:
    """The door says the tenant; should it ever say none, the role still stands in between."""
    await add(office, "first@example.com", Role.OPERATOR)
    operator = await add(office, role=Role.OPERATOR)
    changes: list[dict[str, Any]] = [{"active": False}, {"role": Role.SUPPORT}, {"name": "x"}]
    for change in changes:
        with pytest.raises(Refusal) as refusal:
            async with office.database.transaction() as tx:
                await people.change(tx, Role.OWNER, None, operator, **change)
        assert refusal.value.code is Code.AUTH_PERMISSION_DENIED
    with pytest.raises(Refusal):
        async with office.database.transaction() as tx:
            await people.sign_out(tx, Role.OWNER, None, operator)
    with pytest.raises(Refusal):
        async with office.database.transaction() as tx:
            await invitations.create(
                tx, by=Role.OWNER, invited_by=None, tenant_id=None, email=EMAIL, role=Role.SUPPORT
            )


async def test_of_owners_who_all_take_each_other_out_at_once_one_stays(office: Office) -> None:
    ids = [await add(office, f"owner{number}@example.com") for number in range(4)]

    async def take_out(user_id: int) -> None:
        async with office.database.transaction() as tx:
            await people.change(tx, Role.OWNER, office.tenant_id, user_id, active=False)

    outcomes = await asyncio.gather(*(take_out(user_id) for user_id in ids), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert [refusal.code for refusal in refused] == [Code.REQUEST_CONFLICT]
    assert len([outcome for outcome in outcomes if outcome is None]) == 3


async def test_owners_of_another_tenant_do_not_count(office: Office) -> None:
    owner = await add(office)
    await add(office, "op@example.com", Role.OPERATOR)
    with pytest.raises(Refusal):
        async with office.database.transaction() as tx:
            await people.change(tx, None, None, owner, active=False)


# ---- bounds


async def test_a_person_has_so_many_tokens_at_most_and_can_make_room(office: Office) -> None:
    user_id = await add(office)

    async def make_one() -> int:
        async with office.database.transaction() as tx:
            scopes = [Permission.MESSAGES_READ]
            return (await tokens.create(tx, user_id, Role.OWNER, "x", scopes, valid_s=60)).id

    outcomes: list[Any] = await asyncio.gather(
        *(make_one() for _ in range(tokens.TOKENS_MAX + 3)), return_exceptions=True
    )
    made = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(made) == tokens.TOKENS_MAX
    async with office.database.transaction() as tx:
        await tokens.revoke(tx, user_id, made[0])
    await make_one()


async def test_open_invitations_are_bounded(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invitations, "OPEN_MAX", 2)

    async def invite(number: int) -> None:
        async with office.database.transaction() as tx:
            await invitations.create(
                tx, by=Role.OWNER, invited_by=None, tenant_id=office.tenant_id, email=f"{number}@example.com",
                role=Role.VIEWER,
            )  # fmt: skip

    await invite(1)
    await invite(2)
    with pytest.raises(Refusal):
        await invite(3)
    await office.database.execute("UPDATE invitation SET expires_at = now()")
    await invite(4)


async def test_the_demo_has_its_people_whatever_was_there(office: Office) -> None:
    async def lay(password: str) -> int:
        async with office.database.transaction() as tx:
            return await people.ensure(
                tx, tenant_id=office.tenant_id, email=EMAIL, name="Li", role=Role.OWNER, password=password
            )

    first = await lay(PASSWORD)
    opened = await sign_in(office)
    assert await lay(PASSWORD) == first
    assert await found(office, opened.token), "nothing was changed, so nobody was signed out"
    assert await lay(OTHER) == first
    await sign_in(office, password=OTHER)


# ---- one-time things


def test_tokens_and_recovery_codes_are_new_each_time() -> None:
    assert len({one_time.new_token() for _ in range(100)}) == 100
    codes = [code for _ in range(10) for code in one_time.new_recovery_codes()]
    assert len(set(codes)) == 100


@given(st.text(max_size=40))
def test_whatever_is_typed_as_a_code_is_taken_or_not_and_breaks_nothing(written: str) -> None:
    one_time.hash_of(written)
    one_time.recovery_hash(written)
    assert one_time.totp_step("JBSWY3DPEHPK3PXP", written) is None or len(written) == 6
