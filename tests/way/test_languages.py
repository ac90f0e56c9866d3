"""The language asked for chooses the text; what it is filed under upstream follows the text that was sent."""

from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import make
from hongyan.settings import Settings
from hongyan.vocab import wording
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose
from hongyan.way import guard
from hongyan.way.guard import Draft
from hongyan.way.recognize import Recognizer
from hongyan.way.snapshot import Login, Template
from make import World

SETTINGS: Final = Settings()


def compiled(body: str) -> wording.Compiled:
    return wording.compile_body(body, "{}")


TEXTS: Final = {"en": compiled("Your parcel is at ${place}"), "zh-hant": compiled("您的快遞已到${place}")}
PARCEL: Final = Template(
    id=1,
    code="parcel",
    purpose=Purpose.TRANSACTIONAL,
    scope="any",
    signature_id=0,
    resend=True,
    approved=True,
    text=compiled("您的快递已到${place}"),
    language="zh",
    texts=TEXTS,
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("", ""),
        ("zh", ""),
        ("zh-CN", ""),
        ("fr", ""),
        ("en", "en"),
        ("EN-gb", "en"),
        ("zh-Hant-TW", "zh-hant"),
        ("zh-TW", ""),  # a region says nothing of the script: RFC 4647 §3.4 takes subtags away and no more
        ("en-a-x", "en"),
    ],
)
def test_the_text_is_the_one_that_lookup_finds_or_the_default(wanted: str, found: str) -> None:
    assert PARCEL.text_in(wanted) is TEXTS.get(found, PARCEL.text)


TAGS: Final = st.from_regex(r"[a-z]{2}(-[a-z0-9]{1,4}){0,3}", fullmatch=True)


@given(TAGS, st.sets(TAGS, max_size=5))
def test_what_is_looked_up_is_the_longest_beginning_that_is_offered(wanted: str, offered: set[str]) -> None:
    found = wording.lookup(wanted, offered)
    beginnings = {tag for tag in offered if f"{wanted}-".startswith(f"{tag}-")}
    assert found in beginnings | {""}
    sound = {tag for tag in beginnings if tag == wanted or len(tag.split("-")[-1]) > 1}
    assert found == max(sound, key=len, default="")


def test_a_text_is_filed_under_its_language_but_the_default_under_the_code_alone() -> None:
    values = {"place": "gate"}
    assert PARCEL.filed_as("【鸿雁】您的快递已到gate", values) == "parcel"
    assert PARCEL.filed_as("[Hongyan]Your parcel is at gate", values) == "parcel@en"
    assert PARCEL.filed_as("【鸿雁】您的快遞已到gate", values) == "parcel@zh-hant"
    assert PARCEL.filed_as("【鸿雁】an older text", values) == "parcel"
    assert PARCEL.filed_as("【鸿雁】您的快递已到gate", {}) == "parcel"


async def languages(world: World) -> None:
    async with world.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO template_text (template_id, language, body) VALUES ($1, 'en', 'Your parcel is at ${place}')",
            world.template_id,
        )


def draft(world: World, snapshot: Any, **fields: Any) -> tuple[Draft, Any]:
    tenant = snapshot.tenants[world.tenant_id]
    (key,) = snapshot.keys.values()
    (signature,), (template,) = tenant.signatures, tenant.templates
    values: Mapping[str, Any] = {"to": make.NUMBER, "signature": signature, "template": template}
    return Draft(**{**values, "params": {"place": "南门"}, **fields}), key


async def test_a_message_says_in_which_language_it_is_sent(database: str) -> None:
    async with make.world(database) as world:
        await languages(world)
        async with world.database.transaction() as tx:
            await make.app_key(tx, world.vault, app_id=world.app_id)
        snapshot = await make.snapshot(world)
        said = {}
        for language in ("", "en-US", "fr"):
            asked, key = draft(world, snapshot, language=language)
            said[language] = guard.check(asked, key, snapshot, SETTINGS, 0.0).wording.text.rpartition("】")[2]
        assert said == {"": "您的快递已到 南门", "en-US": "Your parcel is at 南门", "fr": "您的快递已到 南门"}
        free, key = draft(world, snapshot, template="", params={}, text="您好", language="en",
                          purpose=Purpose.TRANSACTIONAL)  # fmt: skip
        with pytest.raises(Refusal) as refused:
            guard.check(free, key, snapshot, SETTINGS, 0.0)
        assert refused.value.code is Code.REQUEST_INVALID_PARAMETER


async def test_a_login_s_text_is_recognized_in_every_language_of_a_template(database: str) -> None:
    async with make.world(database) as world:
        await languages(world)
        async with world.database.transaction() as tx:
            await make.app_key(tx, world.vault, app_id=world.app_id)
        snapshot = await make.snapshot(world)
        (key,) = snapshot.keys.values()
        (signature,) = snapshot.tenants[world.tenant_id].signatures
        login = Login(
            id=1, protocol="smpp", name="a", key=key, version=0x34, access_number="1069", hold=False,
            purpose=Purpose.TRANSACTIONAL, sessions_max=1, window_size=1, deliver_to="", settings={},
        )  # fmt: skip
        found = Recognizer().wording(f"【{signature}】Your parcel is at gate", login, mainland=True)
        assert (found["language"], found["params"]) == ("en", {"place": "gate"})
        asked = Draft(to=make.NUMBER, **found)  # type: ignore[arg-type]
        text = guard.check(asked, key, snapshot, SETTINGS, 0.0).wording.text
        assert text == f"【{signature}】Your parcel is at gate"
