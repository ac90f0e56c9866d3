"""Wording is used only once approved, and what is stored always compiles."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.control import wording
from hongyan.control.wording import MOVES, State
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose
from hongyan.vocab.wording import Variable

from .conftest import Office

BODY = "您的快递已到${place}"


async def test_wording_is_proposed_and_only_then_approved(office: Office) -> None:
    async with office.database.transaction() as tx:
        signature_id = await wording.propose_signature(tx, office.tenant_id, "鸿雁", extension="01")
        template_id = await wording.propose_template(
            tx,
            office.tenant_id,
            "parcel",
            BODY,
            Purpose.TRANSACTIONAL,
            signature_id=signature_id,
            variables={"place": Variable("text", 5)},
        )
    snapshot = await office.snapshot()
    assert not snapshot.signatures[signature_id].approved
    assert not snapshot.templates[template_id].approved
    async with office.database.transaction() as tx:
        await wording.move_signature(tx, signature_id, State.APPROVED)
        await wording.move_template(tx, template_id, State.APPROVED)
    tenant = (await office.snapshot()).tenants[office.tenant_id]
    assert tenant.signatures["鸿雁"].approved
    assert tenant.signatures["鸿雁"].extension == "01"
    template = tenant.templates["parcel"]
    assert template.approved
    assert template.signature_id == signature_id
    assert template.text.render({"place": "南门"}) == "您的快递已到南门"
    with pytest.raises(Refusal):
        template.text.render({"place": "六个字的地方"})


@given(st.lists(st.sampled_from(State), max_size=12))
def test_nothing_becomes_approved_without_having_been_reviewed(wished: list[State]) -> None:
    state, was_reviewed = State.DRAFT, False
    for wish in wished:
        if state in MOVES[wish]:
            state = wish
        was_reviewed = was_reviewed or state is State.REVIEWING
    assert was_reviewed or state in (State.DRAFT, State.CANCELED)


async def test_a_move_that_does_not_exist_is_refused_in_words(office: Office) -> None:
    async with office.database.transaction() as tx:
        signature_id = await wording.propose_signature(tx, office.tenant_id, "鸿雁")
        with pytest.raises(Refusal) as refused:
            await wording.move_signature(tx, signature_id, State.DISABLED)
        assert refused.value.detail["reason"] == "a reviewing signature cannot become disabled"
        with pytest.raises(Refusal) as refused:
            await wording.move_template(tx, 99, State.APPROVED)
        assert refused.value.code is Code.REQUEST_NOT_FOUND


async def test_a_disabled_template_can_be_enabled_again(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await wording.propose_template(
            tx, office.tenant_id, "parcel", BODY, Purpose.TRANSACTIONAL
        )
        for state in (State.APPROVED, State.DISABLED, State.APPROVED):
            await wording.move_template(tx, template_id, state)
        (row,) = await wording.templates(tx)
    assert (row.code, row.purpose, row.state, row.signature) == (
        "parcel",
        Purpose.TRANSACTIONAL,
        State.APPROVED,
        "",
    )


@pytest.mark.parametrize("name", ["", "【鸿雁】", "a" * 17, " 鸿雁", "鸿\n雁"])
async def test_a_signature_that_cannot_stand_before_a_text_is_refused(office: Office, name: str) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal):
            await wording.propose_signature(tx, office.tenant_id, name)


@pytest.mark.parametrize(
    ("body", "rules"),
    [
        ("", {}),
        ("【鸿雁】您好", {}),
        ("${everything}", {}),
        ("您的${first}${second}", {}),
        ("您好${name}", {"nmae": Variable()}),
        ("您好${name}", {"name": Variable("nonsense")}),
        ("长" * 1_601, {}),
    ],
)
async def test_a_template_that_could_not_pass_review_is_refused(
    office: Office, body: str, rules: Mapping[str, Variable]
) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal):
            await wording.propose_template(
                tx, office.tenant_id, "t", body, Purpose.TRANSACTIONAL, variables=rules
            )


async def test_a_promotional_template_must_say_how_to_opt_out(office: Office) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal) as refused:
            await wording.propose_template(tx, office.tenant_id, "sale", "全场五折", Purpose.PROMOTIONAL)
        assert refused.value.code is Code.CONTENT_MISSING_UNSUBSCRIBE
        await wording.propose_template(tx, office.tenant_id, "sale", "全场五折,回T退订", Purpose.PROMOTIONAL)


async def test_a_code_is_taken_once_and_another_tenant_s_signature_cannot_be_bound(office: Office) -> None:
    async with office.database.transaction() as tx:
        await wording.propose_template(tx, office.tenant_id, "t", BODY, Purpose.OTP)
        with pytest.raises(Refusal) as refused:
            await wording.propose_template(tx, office.tenant_id, "t", BODY, Purpose.OTP)
        assert refused.value.detail["parameter"] == "code"
        with pytest.raises(Refusal) as refused:
            await wording.propose_template(tx, office.tenant_id, "u", BODY, Purpose.OTP, signature_id=99)
        assert refused.value.code is Code.SIGN_NOT_FOUND
