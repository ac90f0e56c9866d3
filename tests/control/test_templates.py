"""A live text stands still until a new version of it is approved; what is stored always compiles."""

from collections.abc import Mapping
from typing import Any

import pytest

from hongyan.control import policies, reviews, signatures, template_rows, templates
from hongyan.control.template_rows import TemplateState, VersionState
from hongyan.control.templates import Wanted
from hongyan.db import Tx
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose, TenantId
from hongyan.vocab.wording import Variable

from .conftest import Office

BODY = "您的快递已到${place}"
NOTICE = Purpose.TRANSACTIONAL
PLACE: Mapping[str, Variable] = {"place": Variable("address")}


async def proposed(tx: Tx, tenant_id: TenantId, code: str = "parcel", **terms: Any) -> int:
    return await templates.propose(tx, tenant_id, code, Wanted(BODY, PLACE), NOTICE, **terms)


async def approved(tx: Tx, tenant_id: TenantId, code: str = "parcel") -> int:
    template_id = await proposed(tx, tenant_id, code)
    await templates.decide(tx, template_id, approve=True, who="reviewer")
    return template_id


def refused(code: Code) -> Any:
    return pytest.raises(Refusal, match=code.value.name)


# ---- proposing and deciding


async def test_a_template_is_proposed_and_only_then_approved(office: Office) -> None:
    async with office.database.transaction() as tx:
        signature_id = await signatures.propose(tx, office.tenant_id, "鸿雁", extension="01")
        template_id = await proposed(tx, office.tenant_id, signature_id=signature_id)
    snapshot = await office.snapshot()
    assert not snapshot.templates[template_id].approved
    async with office.database.transaction() as tx:
        assert await templates.decide(tx, template_id, approve=True, who="r") is VersionState.APPROVED
    template = (await office.snapshot()).tenants[office.tenant_id].templates["parcel"]
    assert template.approved
    assert (template.signature_id, template.language) == (signature_id, "zh")
    assert template.text.render({"place": "南门"}) == "您的快递已到南门"


async def test_a_proposal_waits_in_the_queue_of_reviews(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await proposed(tx, office.tenant_id, who="user:7 a@example.com")
        (version,) = await template_rows.versions(tx, template_id)
        (review,) = await reviews.page(tx, None)
    assert (review.kind, review.subject, review.proposed_by) == (
        reviews.ReviewKind.TEMPLATE,
        version.id,
        "user:7 a@example.com",
    )
    assert review.title.startswith("parcel v1 zh: 您的快递")


async def test_a_live_text_stands_still_until_the_new_version_is_approved(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await approved(tx, office.tenant_id)
        await templates.propose_version(tx, template_id, None, Wanted("包裹在${place}", PLACE))
        row = await template_rows.get(tx, template_id)
    assert (row.body, row.state, row.open_versions) == (BODY, TemplateState.APPROVED, 1)
    before = (await office.snapshot()).templates[template_id]
    assert before.text.render({"place": "南门"}) == "您的快递已到南门"
    async with office.database.transaction() as tx:
        await templates.decide(tx, template_id, approve=True, who="r")
    after = (await office.snapshot()).templates[template_id]
    assert after.text.render({"place": "南门"}) == "包裹在南门"
    assert after.approved


async def test_a_rejected_version_leaves_the_live_text_and_says_why(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await approved(tx, office.tenant_id)
        await templates.propose_version(tx, template_id, None, Wanted("包裹在${place}", PLACE))
        await templates.decide(tx, template_id, approve=False, who="r", reason="say whose parcel")
        row = await template_rows.get(tx, template_id)
        newest, first = await template_rows.versions(tx, template_id)
    assert (row.body, row.state) == (BODY, TemplateState.APPROVED)
    assert (newest.state, newest.reason) == (VersionState.REJECTED, "say whose parcel")
    assert first.state is VersionState.APPROVED


async def test_an_earlier_version_proposed_again_rolls_back(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await approved(tx, office.tenant_id)
        await templates.propose_version(tx, template_id, None, Wanted("包裹在${place}", PLACE))
        await templates.decide(tx, template_id, approve=True, who="r")
        old = await template_rows.get_version(tx, template_id, None, 1)
        again = await templates.propose_version(tx, template_id, None, Wanted(old.body, old.variables))
        await templates.decide(tx, template_id, approve=True, who="r")
        row = await template_rows.get(tx, template_id)
    assert again.number == 3
    assert row.body == BODY


async def test_policy_may_approve_at_once(office: Office) -> None:
    async with office.database.transaction() as tx:
        await policies.change(tx, {"review_automatic": ["template.transactional"]}, who="operator")
        template_id = await proposed(tx, office.tenant_id)
        row = await template_rows.get(tx, template_id)
    assert row.state is TemplateState.APPROVED


async def test_where_two_people_have_to_approve_one_is_not_enough(office: Office) -> None:
    async with office.database.transaction() as tx:
        await policies.change(tx, {"four_eyes": ["template"]}, who="operator")
        template_id = await proposed(tx, office.tenant_id)
        one = await templates.decide(tx, template_id, approve=True, who="user:1 a@example.com")
        both = await templates.decide(tx, template_id, approve=True, who="user:2 b@example.com")
    assert (one, both) == (VersionState.REVIEWING, VersionState.APPROVED)


# ---- drafts, locks, taking back


async def test_a_draft_may_be_unsound_but_not_handed_in(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await templates.propose(
            tx, office.tenant_id, "t", Wanted("${a}${b}"), NOTICE, draft=True
        )
        (draft,) = await template_rows.versions(tx, template_id)
        assert {finding.rule for finding in draft.findings} >= {"variable.adjacent", "body.only_variables"}
        with refused(Code.TEMPLATE_UNSOUND) as why:
            await templates.submit(tx, template_id, None, 1)
        assert {one["rule"] for one in why.value.detail["findings"]} >= {"variable.adjacent"}
        await templates.change_version(tx, template_id, None, 1, Wanted(BODY))
        handed_in = await templates.submit(tx, template_id, None, 1)
        row = await template_rows.get(tx, template_id)
    assert handed_in.state is VersionState.REVIEWING
    assert (row.state, row.body) == (TemplateState.REVIEWING, BODY)


async def test_what_is_under_review_is_locked_until_it_is_withdrawn(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await proposed(tx, office.tenant_id)
        with refused(Code.TEMPLATE_LOCKED):
            await templates.change_version(tx, template_id, None, 1, Wanted("包裹在${place}"))
        with refused(Code.TEMPLATE_LOCKED):
            await templates.propose_version(tx, template_id, None, Wanted("包裹在${place}"))
        await templates.withdraw(tx, template_id, None, 1)
        assert (await template_rows.get(tx, template_id)).state is TemplateState.CANCELED
        assert await reviews.page(tx, None) == []
        second = await templates.propose_version(tx, template_id, None, Wanted("包裹在${place}"))
        row = await template_rows.get(tx, template_id)
    assert (second.number, second.state) == (2, VersionState.REVIEWING)
    assert (row.state, row.body) == (TemplateState.REVIEWING, "包裹在${place}")


async def test_a_decided_version_cannot_be_changed_withdrawn_or_decided_again(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await approved(tx, office.tenant_id)
        (version,) = await template_rows.versions(tx, template_id)
        with refused(Code.REQUEST_CONFLICT):
            await templates.change_version(tx, template_id, None, 1, Wanted(BODY))
        with refused(Code.REQUEST_CONFLICT):
            await templates.withdraw(tx, template_id, None, 1)
        with refused(Code.REQUEST_CONFLICT):
            await templates.decided(tx, version.id, approved=False, reason="late")
        with refused(Code.REQUEST_CONFLICT):
            await templates.decide(tx, template_id, approve=True, who="r")


async def test_the_rejected_first_text_of_a_template_can_be_mended(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await proposed(tx, office.tenant_id)
        await templates.decide(tx, template_id, approve=False, who="r", reason="no")
        assert (await template_rows.get(tx, template_id)).state is TemplateState.REJECTED
        await templates.propose_version(tx, template_id, None, Wanted("包裹在${place}"))
        await templates.decide(tx, template_id, approve=True, who="r")
        row = await template_rows.get(tx, template_id)
    assert (row.state, row.body) == (TemplateState.APPROVED, "包裹在${place}")


# ---- out of use


async def test_a_disabled_template_can_be_enabled_again(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await approved(tx, office.tenant_id)
        await templates.disable(tx, template_id, office.tenant_id, by_platform=False)
    assert not (await office.snapshot()).templates[template_id].approved
    async with office.database.transaction() as tx:
        await templates.enable(tx, template_id, office.tenant_id, by_platform=False)
    assert (await office.snapshot()).templates[template_id].approved


async def test_what_the_platform_disabled_the_tenant_cannot_enable(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await approved(tx, office.tenant_id)
        await templates.disable(tx, template_id, None, by_platform=True)
        await templates.disable(tx, template_id, office.tenant_id, by_platform=False)
        with refused(Code.AUTH_PERMISSION_DENIED):
            await templates.enable(tx, template_id, office.tenant_id, by_platform=False)
        await templates.enable(tx, template_id, None, by_platform=True)
        assert (await template_rows.get(tx, template_id)).state is TemplateState.APPROVED


async def test_approving_a_text_does_not_enable_a_disabled_template(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await approved(tx, office.tenant_id)
        await templates.propose_version(tx, template_id, None, Wanted("包裹在${place}"))
        await templates.disable(tx, template_id, None, by_platform=True)
        await templates.decide(tx, template_id, approve=True, who="r")
        row = await template_rows.get(tx, template_id)
    assert (row.state, row.body) == (TemplateState.DISABLED, "包裹在${place}")


async def test_only_what_was_approved_can_be_disabled(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await proposed(tx, office.tenant_id)
        with refused(Code.REQUEST_CONFLICT) as why:
            await templates.disable(tx, template_id, None, by_platform=True)
        assert why.value.detail["reason"] == "a template that is reviewing cannot become disabled"
        with refused(Code.REQUEST_NOT_FOUND):
            await templates.disable(tx, 99, None, by_platform=True)


# ---- languages


async def test_each_language_has_its_own_text_and_its_own_review(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await approved(tx, office.tenant_id)
        english = Wanted("Your parcel is at ${place}", PLACE, "EN")
        made = await templates.propose_version(tx, template_id, None, english)
        await templates.propose_version(tx, template_id, None, Wanted("包裹在${place}"))  # beside it
        assert made.language == "en"
        await templates.decided(tx, made.id, approved=True, reason="")
        row = await template_rows.get(tx, template_id)
        (text,) = await template_rows.texts(tx, template_id)
    assert (row.body, row.languages) == (BODY, ["en"])
    assert text.body == "Your parcel is at ${place}"
    template = (await office.snapshot()).templates[template_id]
    assert template.text_in("en-GB").render({"place": "gate"}) == "Your parcel is at gate"
    assert template.text_in("fr") is template.text
    async with office.database.transaction() as tx:
        await templates.drop_text(tx, template_id, None, "en")
    assert (await office.snapshot()).templates[template_id].texts == {}


async def test_a_text_of_another_language_makes_no_template_live(office: Office) -> None:
    async with office.database.transaction() as tx:
        template_id = await proposed(tx, office.tenant_id)
        made = await templates.propose_version(
            tx, template_id, None, Wanted("Your parcel is at ${place}", PLACE, "en")
        )
        await templates.decided(tx, made.id, approved=True, reason="")
        row = await template_rows.get(tx, template_id)
    assert (row.state, row.body) == (TemplateState.REVIEWING, BODY)


@pytest.mark.parametrize(
    ("written", "read"),
    [("zh", "zh"), ("ZH-hant-tw", "zh-Hant-TW"), ("pt-br", "pt-BR"), ("es-419", "es-419")],
)
def test_a_language_is_stored_in_one_way_of_writing(written: str, read: str) -> None:
    assert template_rows.canonical(written) == read


@pytest.mark.parametrize("written", ["", "x", "english", "zh_CN", "zh-Hant-TW-x-a", "zh-", "中文"])
def test_what_is_no_language_is_refused(written: str) -> None:
    with refused(Code.REQUEST_INVALID_PARAMETER):
        template_rows.canonical(written)


# ---- what may be proposed


@pytest.mark.parametrize(
    ("body", "rules"),
    [
        ("【鸿雁】您好", {}),
        ("${everything}", {}),
        ("您的${first}${second}", {}),
        ("您好${name}", {"nmae": Variable()}),
        ("您好${name}", {"name": Variable("nonsense")}),
        ("您好,拒收请回复R", {}),
        ("长" * 501, {}),
    ],
)
async def test_a_template_that_could_not_pass_review_is_refused(
    office: Office, body: str, rules: Mapping[str, Variable]
) -> None:
    async with office.database.transaction() as tx:
        with refused(Code.TEMPLATE_UNSOUND):
            await templates.propose(tx, office.tenant_id, "t", Wanted(body, rules), NOTICE)


@pytest.mark.parametrize("body", ["", "长" * 1_601, "\0", "\ud800"])
async def test_what_cannot_be_stored_is_no_draft_either(office: Office, body: str) -> None:
    async with office.database.transaction() as tx:
        with refused(Code.REQUEST_INVALID_PARAMETER):
            await templates.propose(tx, office.tenant_id, "t", Wanted(body), NOTICE, draft=True)


async def test_a_promotional_template_must_say_how_to_opt_out(office: Office) -> None:
    async with office.database.transaction() as tx:
        with refused(Code.CONTENT_MISSING_UNSUBSCRIBE):
            await templates.propose(tx, office.tenant_id, "s", Wanted("全场五折"), Purpose.PROMOTIONAL)
        await templates.propose(tx, office.tenant_id, "s", Wanted("全场五折,回T退订"), Purpose.PROMOTIONAL)


async def test_a_code_is_taken_once_and_another_tenant_s_signature_cannot_be_bound(office: Office) -> None:
    async with office.database.transaction() as tx:
        await proposed(tx, office.tenant_id, "t")
        with refused(Code.REQUEST_INVALID_PARAMETER) as why:
            await proposed(tx, office.tenant_id, "t")
        assert why.value.detail["parameter"] == "code"
        with refused(Code.SIGN_NOT_FOUND):
            await proposed(tx, office.tenant_id, "u", signature_id=99)


async def test_another_tenant_s_template_is_not_found(office: Office) -> None:
    stranger = TenantId(office.tenant_id + 1)
    async with office.database.transaction() as tx:
        template_id = await approved(tx, office.tenant_id)
        for attempt in (
            template_rows.get(tx, template_id, stranger),
            templates.propose_version(tx, template_id, stranger, Wanted(BODY)),
            templates.withdraw(tx, template_id, stranger, 1),
            templates.disable(tx, template_id, stranger, by_platform=False),
            templates.set_resend(tx, template_id, stranger, resend=False),
        ):
            with refused(Code.REQUEST_NOT_FOUND):
                await attempt


async def test_a_list_is_narrowed_by_state_purpose_and_words(office: Office) -> None:
    async with office.database.transaction() as tx:
        await approved(tx, office.tenant_id, "one")
        await proposed(tx, office.tenant_id, "two")
        pages = [
            await template_rows.page(tx, office.tenant_id, state=TemplateState.APPROVED),
            await template_rows.page(tx, office.tenant_id, containing="TWO"),
            await template_rows.page(tx, office.tenant_id, purpose=Purpose.OTP),
            await template_rows.page(tx, office.tenant_id, limit=1),
            await template_rows.page(tx, TenantId(99)),
        ]
    assert [[row.code for row in rows] for rows in pages] == [["one"], ["two"], [], ["one"], []]
