"""Which signature and template a finished text was made of."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

import make
from hongyan import db
from hongyan.control import logins
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose
from hongyan.way.recognize import Recognizer
from hongyan.way.snapshot import Keeper, Login

BODIES = {
    "code": "验证码为:${code},有效期5分钟",
    "parcel": "您的快递已到 ${place}",
    "exact": "您的快递已到 南门",
    "anything": "${all}",
}


async def login(database: db.Database, **terms: Any) -> Login:
    """A login of a tenant with the templates above under 【鸿雁】, and a signature 【待审】 that is not approved."""
    async with database.transaction() as tx:
        vault = await make.open_vault(tx)
        tenant_id = await make.tenant(tx, vault)
        signature_id = await make.signature(tx, tenant_id=tenant_id, name="鸿雁")
        await make.signature(tx, tenant_id=tenant_id, name="待审", state="reviewing")
        await make.signature(tx, tenant_id=tenant_id, name="别名")
        for code, body in BODIES.items():
            await make.template(tx, tenant_id=tenant_id, code=code, body=body)
        await make.template(tx, tenant_id=tenant_id, code="new", body="刚写好", state="reviewing")
        await make.template(tx, tenant_id=tenant_id, code="abroad", body="only abroad", scope="international")
        await make.template(tx, tenant_id=tenant_id, code="bound", body="绑定的话", signature_id=signature_id)
        await logins.create(tx, vault, tenant_id, "smpp", "acme", **terms)
    keeper = Keeper(database, vault)
    snapshot = await keeper.load()
    return snapshot.logins["smpp", "acme"]


@pytest.fixture
async def opened(database: str) -> AsyncIterator[db.Database]:
    one = await db.connect(database, make.SETTINGS)
    try:
        yield one
    finally:
        await one.close()


@pytest.fixture
async def acme(opened: db.Database) -> Login:
    return await login(opened)


def wording(text: str, login: Login, *, mainland: bool = True) -> Sequence[object]:
    found = Recognizer().wording(text, login, mainland=mainland)
    return [found["signature"], found.get("template"), found.get("params")]


async def test_a_text_is_its_signature_its_template_and_its_values(acme: Login) -> None:
    assert wording("【鸿雁】验证码为:1234,有效期5分钟", acme) == ["鸿雁", "code", {"code": "1234"}]
    assert wording("验证码为:1234,有效期5分钟【鸿雁】", acme) == ["鸿雁", "code", {"code": "1234"}]
    assert wording("[鸿雁]only abroad", acme, mainland=False) == ["鸿雁", "abroad", {}]


async def test_of_several_templates_that_fit_the_one_with_most_words_of_its_own_counts(acme: Login) -> None:
    assert wording("【鸿雁】您的快递已到 南门", acme)[1] == "exact"
    assert wording("【鸿雁】您的快递已到 北门", acme)[1] == "parcel"
    assert wording("【鸿雁】别的", acme)[1] == "anything"


async def test_templates_in_review_of_other_regions_or_bound_elsewhere_do_not_count(acme: Login) -> None:
    assert wording("【鸿雁】刚写好", acme)[1] == "anything"
    assert wording("【鸿雁】only abroad", acme)[1] == "anything"
    assert wording("【鸿雁】绑定的话", acme)[1] == "bound"
    assert wording("【别名】绑定的话", acme)[1] == "anything"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no signature", Code.SIGN_NOT_FOUND),
        ("【他人】您好", Code.SIGN_NOT_FOUND),
        ("【待审】您好", Code.SIGN_NOT_APPROVED),
        ("【鸿雁】" + "长" * 40, Code.TEMPLATE_NOT_FOUND),
    ],
)
async def test_what_is_not_the_tenants_is_refused_by_its_reason(acme: Login, text: str, code: Code) -> None:
    with pytest.raises(Refusal) as refused:
        wording(text, acme)
    assert refused.value.code is code


async def test_who_may_write_freely_sends_the_rest_under_the_purpose_of_the_login(
    opened: db.Database,
) -> None:
    free = await login(opened, free_text=True, purpose=Purpose.OTP)
    found = Recognizer().wording("【鸿雁】" + "长" * 40, free, mainland=True)
    assert found == {"signature": "鸿雁", "text": "长" * 40, "purpose": Purpose.OTP, "held": False}


@pytest.mark.parametrize("free_text", [False, True])
async def test_who_has_the_rest_held_sends_it_as_free_text_that_waits_for_a_person(
    opened: db.Database, free_text: bool
) -> None:
    holds = await login(opened, hold=True, free_text=free_text)
    found = Recognizer().wording("【鸿雁】" + "长" * 40, holds, mainland=True)
    assert (found["text"], found["held"]) == ("长" * 40, True)
    assert wording("【鸿雁】您的快递已到 北门", holds) == ["鸿雁", "parcel", {"place": "北门"}]
    assert "held" not in Recognizer().wording("【鸿雁】您的快递已到 北门", holds, mainland=True)
    with pytest.raises(Refusal) as refused:
        wording("【待审】" + "长" * 40, holds)
    assert refused.value.code is Code.SIGN_NOT_APPROVED


async def test_a_login_with_a_signature_of_its_own_signs_what_carries_none(opened: db.Database) -> None:
    signs = await login(opened, settings={"signature": "鸿雁"})
    assert wording("您的快递已到 北门", signs) == ["鸿雁", "parcel", {"place": "北门"}]
    assert wording("【别名】您的快递已到 北门", signs)[0] == "别名"
    with pytest.raises(Refusal) as refused:
        wording("【他人】您的快递已到 北门", signs)
    assert refused.value.code is Code.SIGN_NOT_FOUND


async def test_a_new_snapshot_brings_its_templates(acme: Login) -> None:
    recognizer = Recognizer()
    assert recognizer.wording("【鸿雁】刚写好", acme, mainland=True)["template"] == "anything"
    tenant = acme.key.tenant
    approved = {
        code: msgspec.structs.replace(template, approved=True) for code, template in tenant.templates.items()
    }
    key = msgspec.structs.replace(acme.key, tenant=msgspec.structs.replace(tenant, templates=approved))
    renewed = msgspec.structs.replace(acme, key=key)
    assert recognizer.wording("【鸿雁】刚写好", renewed, mainland=True)["template"] == "new"
