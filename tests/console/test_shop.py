"""The example shop beside the demo: log in or register with one code, on its own page and by way of the hosted one."""

import importlib.util
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final
from unittest import mock

import pytest
from playwright.sync_api import Browser, Route, expect

from console import shopfront, sight
from console.conftest import People
from console.shopfront import WAIT_S, Visitor, code_of

SHOP: Final = Path(__file__).parents[2] / "examples/shop/shop.py"


@dataclass(frozen=True)
class Open:
    """A shop that is open."""

    base: str
    site_key: str
    hongyan: str


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shop", SHOP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def owner(people: People) -> sight.Sight:
    return people("owner", *sight.WIDE)


@pytest.fixture(scope="module")
def shop(demo: sight.Demo, owner: sight.Sight) -> Iterator[Open]:
    """The shop as its README says, on a port of its own: so its site key is one of its own too."""
    shopfront.lenient(owner)
    module = loaded()
    key_id, secret = shopfront.app_key(owner)
    said = {
        "SHOP_HONGYAN": demo.base,
        "SHOP_PORT": "0",
        "SHOP_KEY_ID": key_id,
        "SHOP_SECRET": secret,
        "SHOP_SITE_KEY": "-",
    }
    with mock.patch.dict(os.environ, said):
        settings = module.Settings()
    server = module.serve(settings)
    base = f"http://127.0.0.1:{server.server_address[1]}"
    settings.site_key = shopfront.site_key(
        owner, demo, name="小店 <shop>", origins=[base], return_addresses=[f"{base}/verified"], sandbox=True
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield Open(base, settings.site_key, demo.base)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(WAIT_S)


@pytest.mark.needs("chromium")
def test_a_stranger_registers_leaves_and_comes_back_with_one_code_each(
    strange_browser: Browser, owner: sight.Sight, shop: Open
) -> None:
    with Visitor(strange_browser) as person:
        told: list[object] = []

        def overhear(route: Route) -> None:
            answer = route.fetch()
            told.append(answer.json())
            route.fulfill(response=answer)

        person.page.route(re.compile("/log-in$"), overhear)
        person.go(shop.base)
        person.ask_for_code("19900000040")
        person.page.keyboard.type(code_of(owner, "19900000040"))
        expect(person.page.locator("#who")).to_have_text("+86199****0040")
        assert told == [{"new": True}]
        person.page.reload()
        expect(person.page.locator("#who")).to_have_text("+86199****0040")
        person.page.get_by_role("button", name="退出").click()
        expect(person.at("number")).to_be_visible()
        assert [cookie.get("httpOnly") for cookie in person.context.cookies()] == [True]


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_hosted_page_brings_its_person_back_logged_in(
    strange_browser: Browser, owner: sight.Sight, shop: Open, lang: sight.Language
) -> None:
    number = f"199000000{41 + ['zh', 'en'].index(lang)}"
    with Visitor(strange_browser, lang=lang) as person:
        person.page.goto(shop.base)
        person.page.get_by_role("link").click()
        expect(person.page.locator("hongyan-verify button.main")).to_be_enabled()
        assert person.page.url.startswith(f"{shop.hongyan}/verify/")
        expect(person.page.locator("main .name")).to_have_text("小店 <shop>")
        assert person.page.locator("html").get_attribute("lang") == ("zh-CN" if lang == "zh" else "en")
        assert person.faults() == []
        person.ask_for_code(number)
        person.page.keyboard.type(code_of(owner, number))
        expect(person.page.locator("#who")).to_have_text(f"+86199****{number[-4:]}")
        assert person.page.url == f"{shop.base}/"  # the proof is no longer in the address


@pytest.mark.needs("chromium")
def test_the_hosted_page_posts_its_proof_where_it_was_told(
    strange_browser: Browser, owner: sight.Sight, shop: Open
) -> None:
    with Visitor(strange_browser, forgives="404|403|Failed to load") as person:
        person.page.goto(
            f"{shop.hongyan}/verify/{shop.site_key}?return_to={shop.base}/verified&state=%3Cb%3E%26"
        )
        expect(person.page.locator("hongyan-verify button.main")).to_be_enabled()
        person.ask_for_code("19900000043")
        back = f"{shop.base}/verified"
        with person.page.expect_request(lambda asked: asked.url == back) as posted:
            person.page.keyboard.type(code_of(owner, "19900000043"))
        assert posted.value.method == "POST"
        body: dict[str, str] = posted.value.post_data_json or {}
        assert body["state"] == "<b>&"
        assert body["proof"].count(".") == 2


@pytest.mark.needs("chromium")
def test_a_proof_that_was_begun_in_another_browser_logs_nobody_in(
    strange_browser: Browser, owner: sight.Sight, shop: Open
) -> None:
    with Visitor(strange_browser) as attacker:
        attacker.page.goto(f"{shop.base}/hosted")
        expect(attacker.page.locator("hongyan-verify button.main")).to_be_enabled()
        attacker.ask_for_code("19900000044")
        attacker.page.route(f"{shop.base}/**", lambda route: route.fulfill(body="kept for somebody else"))
        attacker.page.keyboard.type(code_of(owner, "19900000044"))
        attacker.page.wait_for_url(re.compile("/verified#proof="))
        link = attacker.page.url
    with Visitor(strange_browser, forgives="403|Failed to load") as victim:
        victim.page.goto(link)
        expect(victim.page.locator("#said")).to_contain_text("another browser")
        expect(victim.page.locator("#inside")).to_be_hidden()


@pytest.mark.needs("chromium")
def test_the_shop_takes_no_proof_from_other_pages_and_no_invented_one(
    strange_browser: Browser, shop: Open
) -> None:
    with Visitor(strange_browser) as person:
        post = person.context.request.post
        assert (
            post(
                f"{shop.base}/log-in", data={"proof": "x"}, headers={"Origin": "https://evil.example.com"}
            ).status
            == 403
        )
        bodies: list[object] = [{"proof": "x"}, {"proof": "a.b.c"}, {}, []]
        for body in bodies:
            answer = post(f"{shop.base}/log-in", data=body, headers={"Origin": shop.base})
            assert answer.status in (400, 403), body
