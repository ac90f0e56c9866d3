"""An enterprise is what its documents prove: handed in, looked at, approved until the licence ends, or rejected and mended."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest

from hongyan import db
from hongyan.control import announcements, documents, qualifications, reviews, tenants
from hongyan.control.qualifications import Person, QualificationState
from hongyan.vocab.errors import Code, Refusal

from .conftest import Office
from .enterprise import DRAFT, OWNER, REVIEWER, hand_in


async def newest(tx: db.Tx, office: Office) -> qualifications.QualificationRow:
    return (await qualifications.page(tx, office.vault, office.tenant_id))[-1]


async def unqualified(tx: db.Tx, office: Office) -> None:
    await tenants.unqualify(tx, office.tenant_id, who="test", reason="new")


async def test_an_approval_qualifies_the_tenant_under_its_legal_name(office: Office) -> None:
    async with office.database.transaction() as tx:
        await unqualified(tx, office)
        review_id = await hand_in(tx, office)
        assert (await newest(tx, office)).state is QualificationState.REVIEWING
        await reviews.approve(tx, review_id, REVIEWER)
        tenant = await tenants.get(tx, office.tenant_id)
        assert (tenant.qualified, tenant.legal_name) == (True, "兰花科技有限公司")
        row = await newest(tx, office)
        assert [(step.state, step.who) for step in await qualifications.steps(tx, row.id)] == [
            (QualificationState.APPROVED, REVIEWER),
            (QualificationState.REVIEWING, OWNER),
            (QualificationState.DRAFT, OWNER),
        ]
    assert (await office.snapshot()).tenants[office.tenant_id].qualified


async def test_a_rejection_says_why_and_is_mended_and_handed_in_again(office: Office) -> None:
    async with office.database.transaction() as tx:
        await unqualified(tx, office)
        first = await hand_in(tx, office)
        await reviews.reject(tx, first, REVIEWER, "licence_blurred", "看不清第二行")
        row = await newest(tx, office)
        assert (row.state, row.reason) == (QualificationState.REJECTED, "营业执照不清晰或不完整 看不清第二行")
        assert not (await tenants.get(tx, office.tenant_id)).qualified
        second = await hand_in(tx, office)
        assert second != first
        await reviews.approve(tx, second, REVIEWER)
        assert (await newest(tx, office)).id == row.id
        assert [each.state for each in await reviews.history(tx, "qualification", row.id)] == [
            reviews.ReviewState.APPROVED,
            reviews.ReviewState.REJECTED,
        ]


async def test_a_newer_approval_replaces_the_older_one_and_a_rejection_does_not(office: Office) -> None:
    async with office.database.transaction() as tx:
        await reviews.approve(tx, await hand_in(tx, office), REVIEWER)
        other = msgspec.structs.replace(DRAFT, legal_name="牡丹科技有限公司")
        await reviews.reject(tx, await hand_in(tx, office, other), REVIEWER, text="no")
        states = [row.state for row in await qualifications.page(tx, office.vault, office.tenant_id)]
        assert states == [QualificationState.APPROVED, QualificationState.REJECTED]
        await reviews.approve(tx, await hand_in(tx, office, other), REVIEWER)
        states = [row.state for row in await qualifications.page(tx, office.vault, office.tenant_id)]
        assert states == [QualificationState.REPLACED, QualificationState.APPROVED]
        assert (await tenants.get(tx, office.tenant_id)).legal_name == "牡丹科技有限公司"


async def test_what_is_looked_at_does_not_change_until_it_is_withdrawn(office: Office) -> None:
    async with office.database.transaction() as tx:
        review_id = await hand_in(tx, office)
        with pytest.raises(Refusal) as refused:
            await qualifications.put(tx, office.vault, office.tenant_id, DRAFT, who=OWNER)
        await qualifications.withdraw(tx, office.tenant_id, who=OWNER)
        await qualifications.put(tx, office.vault, office.tenant_id, DRAFT, who=OWNER)
        with pytest.raises(Refusal):
            await reviews.approve(tx, review_id, REVIEWER)
        assert (await reviews.get(tx, review_id)).state is reviews.ReviewState.WITHDRAWN
    assert refused.value.code is Code.REQUEST_CONFLICT


async def test_the_responsible_person_is_sealed_and_shown_masked(office: Office) -> None:
    async with office.database.transaction() as tx:
        await hand_in(tx, office)
        row = await newest(tx, office)
        assert row.person == Person("王芳", "11**************2X", "+86138****8000")
        sealed = await tx.fetchval("SELECT person_sealed FROM qualification")
    assert b"138001" not in sealed
    assert "王芳".encode() not in sealed


@pytest.mark.parametrize(
    ("columns", "parameter"),
    [
        ({"legal_name": ""}, "legal_name"),
        ({"legal_name": "a\x00"}, "legal_name"),
        ({"credit_code": "91350100M000100Y44"}, "credit_code"),
        ({"credit_code": ""}, "credit_code"),
        ({"credit_code": "91350100M00010OY43"}, "credit_code"),
        ({"country": "SG"}, "credit_code"),
        ({"country": "China"}, "country"),
        ({"document_ids": [1_000_000]}, "document_ids"),
        ({"person": Person("", "11010519491231002X", "13800138000")}, "person.name"),
        ({"person": Person("王芳", "110105194912310021", "13800138000")}, "person.id_number"),
        ({"person": Person("王芳", "1", "13800138000")}, "person.id_number"),
        ({"person": Person("王芳", "E12345678", "12")}, "person.phone"),
    ],
)
async def test_what_cannot_be_so_is_refused_by_name(
    office: Office, columns: dict[str, Any], parameter: str
) -> None:
    async with office.database.transaction() as tx:
        draft = msgspec.structs.replace(DRAFT, **columns)
        with pytest.raises(Refusal) as refused:
            await qualifications.put(tx, office.vault, office.tenant_id, draft, who=OWNER)
    assert refused.value.detail["parameter"] == parameter


async def test_an_enterprise_abroad_has_no_credit_code(office: Office) -> None:
    draft = msgspec.structs.replace(
        DRAFT, country="SG", credit_code="", person=Person("Lee", "E12345678", "+6591234567")
    )
    async with office.database.transaction() as tx:
        await hand_in(tx, office, draft)
        assert (await newest(tx, office)).country == "SG"


@pytest.mark.parametrize(
    "kinds",
    [(), (documents.DocumentKind.LICENCE,), (documents.DocumentKind.PERSON_ID, documents.DocumentKind.OTHER)],
)
async def test_licence_and_identity_document_have_to_be_there(
    office: Office, kinds: Sequence[documents.DocumentKind]
) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal) as refused:
            await hand_in(tx, office, kinds=kinds)
    assert refused.value.detail["parameter"] == "document_ids"


async def test_an_ended_licence_is_not_handed_in(office: Office) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal) as refused:
            await hand_in(tx, office, msgspec.structs.replace(DRAFT, licence_until=date(2020, 1, 1)))
    assert refused.value.detail["parameter"] == "licence_until"


async def test_nothing_is_handed_in_without_a_draft(office: Office) -> None:
    async with office.database.transaction() as tx:
        for step in (qualifications.submit, qualifications.withdraw):
            with pytest.raises(Refusal) as refused:
                await step(tx, office.tenant_id, who=OWNER)
            assert refused.value.code is Code.REQUEST_CONFLICT


async def test_what_counts_lapses_when_the_licence_has_ended_and_the_tenant_is_told(office: Office) -> None:
    async with office.database.transaction() as tx:
        await reviews.approve(tx, await hand_in(tx, office), REVIEWER)
        assert await qualifications.lapse(tx) == 0
        await tx.execute("UPDATE qualification SET licence_until = '2020-01-01'")
        assert await qualifications.lapse(tx) == 1
        assert await qualifications.lapse(tx) == 0
        assert (await newest(tx, office)).state is QualificationState.LAPSED
        assert not (await tenants.get(tx, office.tenant_id)).qualified
        told = await announcements.page(tx, office.tenant_id)
        assert told[0].event == "qualification.lapsed"
        await reviews.approve(tx, await hand_in(tx, office), REVIEWER)
        assert (await tenants.get(tx, office.tenant_id)).qualified


async def test_a_tenant_is_warned_once_before_its_licence_ends(office: Office) -> None:
    soon = (datetime.now(UTC) + timedelta(days=10)).date()
    async with office.database.transaction() as tx:
        draft = msgspec.structs.replace(DRAFT, licence_until=soon)
        await reviews.approve(tx, await hand_in(tx, office, draft), REVIEWER)
        await qualifications.lapse(tx)
        await qualifications.lapse(tx)
        events = [row.event for row in await announcements.page(tx, office.tenant_id)]
    assert events == ["qualification.lapses", "review.decided"]


def test_a_credit_code_is_right_by_its_check_character() -> None:
    assert qualifications.is_credit_code("91350100M000100Y43")  # GB 32100-2015, the example
    wrong = [f"91350100M000100Y4{letter}" for letter in "0123456789ABCDEFGHJKLMNPQRTUWXY" if letter != "3"]
    assert not any(map(qualifications.is_credit_code, wrong))
    assert not qualifications.is_credit_code("91350100m000100y43")
    assert not qualifications.is_credit_code("")


async def test_who_withdraws_while_somebody_decides_is_refused_and_not_locked_up(office: Office) -> None:
    async with office.database.transaction() as tx:
        review_id = await hand_in(tx, office)

    async def withdraw() -> None:
        async with office.database.transaction() as tx:
            await qualifications.withdraw(tx, office.tenant_id, who=OWNER)

    async with office.database.transaction() as tx:
        await tx.execute("SELECT id FROM review WHERE id = $1 FOR UPDATE", review_id)  # as approve() begins
        late = asyncio.create_task(withdraw())
        async with asyncio.timeout(10):
            while not await office.database.fetch("SELECT 1 FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0)
        await reviews.approve(tx, review_id, REVIEWER)
    with pytest.raises(Refusal) as refused:
        await late
    assert refused.value.code is Code.REQUEST_CONFLICT
