"""One queue: who may decide, how many have to, what follows, and what the tenant is told."""

import asyncio

import pytest

from hongyan import db
from hongyan.control import announcements, policies, reviews
from hongyan.control.reviews import ReviewKind, ReviewState
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId

from .conftest import Office
from .enterprise import OWNER, REVIEWER, hand_in

SECOND = "user:10 second@example.com"


async def complaint(tx: db.Tx, office: Office, subject: int = 1, by: str = "") -> int:
    """Something whose decision has no consequence."""
    return await reviews.open(
        tx, ReviewKind.COMPLAINT, office.tenant_id, subject, f"no. {subject}", proposed_by=by
    )


async def test_what_waits_is_listed_oldest_first_until_it_is_decided(office: Office) -> None:
    async with office.database.transaction() as tx:
        first, second = await complaint(tx, office, 1), await complaint(tx, office, 2)
        assert [row.id for row in await reviews.page(tx, None)] == [first, second]
        assert [row.id for row in await reviews.page(tx, office.tenant_id, after=first)] == [second]
        decided = await reviews.approve(tx, first, REVIEWER)
        assert (decided.state, decided.decided_by) == (ReviewState.APPROVED, REVIEWER)
        assert [row.id for row in await reviews.page(tx, None, kind=ReviewKind.COMPLAINT)] == [second]
        waiting, over = ReviewState.WAITING, ReviewState.APPROVED
        assert [len(await reviews.page(tx, None, state=each)) for each in (waiting, over)] == [1, 1]
        assert await reviews.page(tx, None, kind=ReviewKind.TEMPLATE) == []


async def test_a_subject_waits_once(office: Office) -> None:
    async with office.database.transaction() as tx:
        await complaint(tx, office)
        with pytest.raises(Refusal) as refused:
            await complaint(tx, office)
        assert refused.value.code is Code.REQUEST_CONFLICT
        assert await reviews.withdraw(tx, "complaint", 1)
        assert not await reviews.withdraw(tx, "complaint", 1)
        await complaint(tx, office)


async def test_nobody_approves_what_is_his_own_but_may_reject_it(office: Office) -> None:
    async with office.database.transaction() as tx:
        review_id = await complaint(tx, office, by=OWNER)
        for who in (OWNER, "user:1 new-address@example.com"):
            with pytest.raises(Refusal) as refused:
                await reviews.approve(tx, review_id, who)
            assert refused.value.code is Code.AUTH_PERMISSION_DENIED
        assert (await reviews.reject(tx, review_id, OWNER, text="a mistake")).state is ReviewState.REJECTED


async def test_four_eyes_are_two_different_people(office: Office) -> None:
    async with office.database.transaction() as tx:
        await policies.change(tx, {"four_eyes": ["complaint"]}, who=REVIEWER)
        review_id = await complaint(tx, office)
        half = await reviews.approve(tx, review_id, REVIEWER)
        assert (half.state, half.first_by, half.decided_by) == (ReviewState.WAITING, REVIEWER, "")
        with pytest.raises(Refusal):
            await reviews.approve(tx, review_id, REVIEWER)
        assert await announcements.page(tx, office.tenant_id) == []
        whole = await reviews.approve(tx, review_id, SECOND)
        assert (whole.state, whole.decided_by) == (ReviewState.APPROVED, SECOND)


async def test_one_person_is_enough_to_reject(office: Office) -> None:
    async with office.database.transaction() as tx:
        await policies.change(tx, {"four_eyes": ["complaint"]}, who=REVIEWER)
        review_id = await complaint(tx, office)
        await reviews.approve(tx, review_id, REVIEWER)
        assert (await reviews.reject(tx, review_id, SECOND, "unfounded")).state is ReviewState.REJECTED


async def test_policy_approves_at_once_and_says_that_it_did(office: Office) -> None:
    async with office.database.transaction() as tx:
        await policies.change(tx, {"review_automatic": ["signature"]}, who=REVIEWER)
        number = await tx.fetchval(
            "INSERT INTO signature (tenant_id, name) VALUES ($1, '兰花') RETURNING id", office.tenant_id
        )
        review_id = await reviews.open(tx, "signature", office.tenant_id, number, "兰花", proposed_by=OWNER)
        row = await reviews.get(tx, review_id)
        assert (row.state, row.decided_by) == (ReviewState.APPROVED, reviews.POLICY)
        assert await tx.fetchval("SELECT state FROM signature") == "approved"


async def test_where_two_have_to_look_policy_does_not_approve(office: Office) -> None:
    async with office.database.transaction() as tx:
        await policies.change(
            tx, {"review_automatic": ["signature"], "four_eyes": ["signature"]}, who=REVIEWER
        )
        review_id = await reviews.open(tx, "signature", office.tenant_id, 5, "兰花")
        assert (await reviews.get(tx, review_id)).state is ReviewState.WAITING


async def test_what_is_decided_is_decided(office: Office) -> None:
    async with office.database.transaction() as tx:
        review_id = await complaint(tx, office)
        await reviews.approve(tx, review_id, REVIEWER)
        for again in (
            reviews.approve(tx, review_id, SECOND),
            reviews.reject(tx, review_id, SECOND, text="no"),
        ):
            with pytest.raises(Refusal) as refused:
                await again
            assert refused.value.code is Code.REQUEST_CONFLICT
        with pytest.raises(Refusal) as refused:
            await reviews.approve(tx, review_id + 1, SECOND)
        assert refused.value.code is Code.REQUEST_NOT_FOUND


async def test_of_two_who_decide_at_once_the_first_word_counts(office: Office) -> None:
    async with office.database.transaction() as tx:
        review_id = await complaint(tx, office)

    async def decide(who: str, *, approve: bool) -> object:
        async with office.database.transaction() as tx:
            if approve:
                return await reviews.approve(tx, review_id, who)
            return await reviews.reject(tx, review_id, who, text="no")

    outcomes = await asyncio.gather(
        decide(REVIEWER, approve=True), decide(SECOND, approve=False), return_exceptions=True
    )
    assert sorted(isinstance(outcome, Refusal) for outcome in outcomes) == [False, True]
    async with office.database.transaction() as tx:
        assert len(await announcements.page(tx, office.tenant_id)) == 1


@pytest.mark.parametrize(("code", "text"), [("", ""), ("", "  "), ("licence_blurred", ""), ("", "a\x00")])
async def test_a_rejection_has_a_reason_of_its_kind(office: Office, code: str, text: str) -> None:
    async with office.database.transaction() as tx:
        review_id = await complaint(tx, office)
        with pytest.raises(Refusal) as refused:
            await reviews.reject(tx, review_id, REVIEWER, code, text)
        assert refused.value.code is Code.REQUEST_INVALID_PARAMETER


async def test_every_kind_has_reasons_in_both_languages(office: Office) -> None:
    async with office.database.transaction() as tx:
        found = await reviews.reasons(tx)
    assert {reason.kind for reason in found} == {*ReviewKind, "message"}
    assert all(reason.zh and reason.en for reason in found)


async def test_the_tenant_is_told_what_was_decided_and_not_by_whom(office: Office) -> None:
    async with office.database.transaction() as tx:
        await reviews.reject(tx, await hand_in(tx, office), REVIEWER, "licence_blurred", "see line 2")
        (told,) = await announcements.page(tx, office.tenant_id)
    assert told.event == "review.decided"
    assert told.body["decision"] == "rejected"
    assert told.body["reason"] == "The business licence is blurred or cut off see line 2"
    assert "营业执照不清晰" in told.words
    assert "reviewer@example.com" not in told.words + str(told.body)


async def test_another_tenants_review_is_not_found(office: Office) -> None:
    async with office.database.transaction() as tx:
        review_id = await complaint(tx, office)
        with pytest.raises(Refusal):
            await reviews.get(tx, review_id, TenantId(office.tenant_id + 1))


async def test_a_policy_that_was_never_decided_has_its_default_and_a_wrong_one_is_not_stored(
    office: Office,
) -> None:
    async with office.database.transaction() as tx:
        assert await policies.read(tx) == policies.Policies()
        changed = await policies.change(tx, {"sign_up": "open"}, who=REVIEWER)
        assert changed == policies.Policies(sign_up="open") == await policies.read(tx)
        await tx.execute("UPDATE platform_policy SET value = '5'")
        assert (await policies.read(tx)).sign_up == "closed"
