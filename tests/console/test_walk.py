"""The four steps of a new customer, by a person in a browser: qualified, wording reviewed, first message, watching.

Nothing here goes by the API: what a person clicks, types and reads is all there is. Words are those of the locale files, so
the same steps are walked in both languages.
"""

import json
import re
import secrets
import string
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from console.sight import Demo, Language, Sight
from control.files import png

pytestmark = pytest.mark.needs("chromium")

WORDS: Final = Path(__file__).parents[2] / "console/src/locales"
PASSWORD: Final = "seven grey geese go south"
CREDIT_DIGITS: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # GB 32100-2015, §4


@cache
def _words(language: Language) -> dict[str, object]:
    return {path.stem: json.loads(path.read_text()) for path in (WORDS / language).glob("*.json")}


def word(language: Language, key: str) -> str:
    """Return what a page says under a key."""
    found: object = _words(language)
    for name in key.split("."):
        assert isinstance(found, dict), key
        found = found[name]
    return str(found)


def credit_code() -> str:
    """Return a unified social credit code that nobody has yet: 17 characters and their check character."""
    body = "91350100M" + "".join(secrets.choice(string.digits) for _ in range(8))
    check = -sum(CREDIT_DIGITS.index(one) * pow(3, place, 31) for place, one in enumerate(body)) % 31
    return body + CREDIT_DIGITS[check]


class Hand:
    """What a person does, in their language's words."""

    def __init__(self, sight: Sight) -> None:
        self.sight = sight
        self.page: Page = sight.page

    def word(self, key: str) -> str:
        return word(self.sight.language, key)

    def click(self, key: str, within: Locator | None = None) -> None:
        (within or self.page).get_by_role("button", name=self.word(key), exact=True).first.click()

    def choose(self, key: str, option: str) -> None:
        """Choose from a list that opens; again where the page moved just then, as anybody would."""
        box = self.page.get_by_role("combobox", name=self.word(key))
        wanted = self.page.get_by_role("option", name=option, exact=True).locator("visible=true")
        for _ in range(5):
            box.click(force=True)
            try:
                wanted.click(timeout=2_000)
            except PlaywrightTimeout:
                continue
            return
        raise AssertionError(option)

    def go(self, path: str) -> None:
        self.sight.go(path, anew=False)

    def sees(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.locator("main").get_by_text(text).first).to_be_visible(timeout=20_000)

    def shot(self, name: str) -> None:
        self.sight.shot(f"walk_{name}")


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_new_customer_walks_the_four_steps(demo: Demo, browser: Browser, language: Language) -> None:
    name = f"walker-{language}"
    with (
        Sight(browser, demo, "operator", language) as operator,
        Sight(browser, demo, "nobody", language) as new,
    ):
        staff, customer = Hand(operator), Hand(new)
        opens_sign_up(staff)
        leads_sandboxes_somewhere(staff)
        registers(customer, f"{name}@example.com")
        hands_in_a_qualification(customer)
        approves(staff, "qualification")
        agrees_on_money(staff, f"兰花科技 {name}")
        proposes_wording(customer, language)
        approves(staff, "signature")
        approves(staff, "template")
        takes_a_key(customer)
        sends_to_the_virtual_phone(customer)
        watches(customer)


def opens_sign_up(staff: Hand) -> None:
    staff.go("/policies")
    switch = staff.page.get_by_role("switch").first
    if switch.get_attribute("aria-checked") != "true":
        staff.page.locator(".el-switch").first.click()
        staff.click("parts.save")
        expect(switch).to_have_attribute("aria-checked", "true")


def leads_sandboxes_somewhere(staff: Hand) -> None:
    """A route rule for every tenant: the demo's own are its own."""
    page = staff.page
    staff.go("/routes")
    staff.click("upstreams.rules.new")
    staff.choose("upstreams.channel", "demo-sandbox")
    staff.click("parts.save", page.get_by_role("dialog"))
    expect(page.get_by_role("dialog")).to_be_hidden()


def registers(customer: Hand, email: str) -> None:
    page = customer.page
    customer.go("/sign-up")
    page.fill("#company", f"兰花科技 {email.partition('@')[0]}")
    page.fill("#name", "王芳")
    page.fill("#email", email)
    page.fill("#password", PASSWORD)
    page.get_by_text(customer.word("entry.terms")).click()
    customer.shot("1_sign_up")
    customer.click("entry.make_account")
    page.wait_for_url(re.compile(r"/console/(first-steps|$|sign-in)"))
    if "sign-in" in page.url:
        page.fill("#email", email)
        page.fill("#password", PASSWORD)
        customer.click("entry.go")
        page.wait_for_url(re.compile(r"/console/(first-steps)?$"))
    customer.go("/first-steps")
    customer.shot("1_first_steps")


def hands_in_a_qualification(customer: Hand) -> None:
    page = customer.page
    customer.go("/qualification")
    page.fill("#legal-name", "兰花科技有限公司")
    page.fill("#credit-code", credit_code())
    page.fill("#business", "订单与物流通知")
    page.fill("#person-name", "王芳")
    page.fill("#person-id", "11010519491231002X")
    page.fill("#person-phone", "13800138000")
    for kind in ("licence", "person_id", "authorisation"):
        customer.choose("documents.which", customer.word(f"documents.kind.{kind}"))
        page.set_input_files(
            "input[type=file]", {"name": f"{kind}.png", "mimeType": "image/png", "buffer": png(width=200)}
        )
        expect(page.get_by_role("link", name=f"{kind}.png")).to_be_visible()
    customer.shot("2_qualification")
    customer.click("platform.hand_in")
    customer.sees(customer.word("platform.stands.reviewing"))


def approves(staff: Hand, kind: str) -> None:
    """Look at everything of a kind that waits, and approve it."""
    staff.go(f"/reviews?kind={kind}")
    rows = staff.page.locator("main .el-table__row")
    expect(rows.first).to_be_visible()
    for address in [one.get_attribute("href") for one in rows.locator("a").all()]:
        assert address is not None
        staff.go(address.removeprefix("/console"))
        staff.shot(f"review_{kind}")
        staff.click("platform.approve")
        staff.sees(staff.word("states.any.approved"))


def agrees_on_money(staff: Hand, tenant: str) -> None:
    """A price for everybody who has none of their own, and some money for this one."""
    page = staff.page
    staff.go("/prices")
    staff.click("money.new_price")
    page.fill("#price-amount", "0.045")
    staff.click("parts.save", page.get_by_role("dialog"))
    expect(page.get_by_role("dialog")).to_be_hidden()
    staff.go("/tenants")
    page.get_by_role("link", name=tenant, exact=True).click()
    page.wait_for_url(re.compile(r"/console/tenants/\d+"))
    staff.go(f"/ledger?tenant={page.url.rpartition('/')[2]}")
    staff.click("money.top_up")
    page.fill("#move-amount", "100")
    staff.click("money.top_up", page.get_by_role("dialog"))
    sure = page.locator(".el-message-box").get_by_role("button", name=staff.word("money.top_up"))
    sure.or_(page.locator("main").get_by_text("100.00")).first.wait_for()
    if sure.is_visible():
        sure.click()
    staff.sees(re.compile(r"100\.00"))
    staff.shot("2_topped_up")


def proposes_wording(customer: Hand, language: Language) -> None:
    page = customer.page
    customer.go("/signatures/new")
    page.get_by_role("textbox", name=customer.word("wording.signature_name"), exact=True).fill(
        "兰花" if language == "zh" else "Orchid"
    )
    customer.shot("3_signature")
    customer.click("wording.hand_in")
    page.wait_for_url(re.compile(r"/console/signatures/\d+"))
    customer.go("/templates/new")
    page.locator("main").get_by_text(customer.word("states.purpose.otp")).first.click()
    page.get_by_role("textbox", name=customer.word("wording.code"), exact=True).fill("sign_in")
    body = page.get_by_role("textbox", name=customer.word("wording.body"), exact=True)
    body.fill("点击领取大奖")  # what a code may not say: the linter is there while one types
    expect(page.locator("main").get_by_text(re.compile("code|验证码|变量|variable")).first).to_be_visible()
    customer.shot("3_linted")
    body.fill("您的验证码为${code},5分钟内有效,请勿告诉他人")
    customer.shot("3_template")
    page.get_by_role("button", name=customer.word("wording.hand_in"), exact=True).click(timeout=20_000)
    page.wait_for_url(re.compile(r"/console/templates/\d+"))
    customer.shot("3_handed_in")


def takes_a_key(customer: Hand) -> None:
    page = customer.page
    customer.go("/apps")
    if not page.locator("main .el-table__row").count():
        customer.click("developers.new_app")
        page.get_by_role("dialog").get_by_role("textbox").fill("shop")
        customer.click("parts.create", page.get_by_role("dialog"))
    else:
        page.locator("main .el-table__row a").first.click()
    page.wait_for_url(re.compile(r"/console/apps/\d+"))
    customer.sight.settled()
    customer.click("developers.new_key")
    page.fill("#key-name", "first")
    customer.click("parts.create", page.get_by_role("dialog"))
    kept = page.get_by_text(customer.word("parts.i_kept_it"))
    expect(kept).to_be_visible()
    customer.shot("4_key")
    kept.click()
    customer.click("parts.close", page.get_by_role("dialog"))


def sends_to_the_virtual_phone(customer: Hand) -> None:
    page = customer.page
    customer.go("/send?template=sign_in")
    page.get_by_role("button", name=re.compile("00")).first.click()  # the sandbox number that is delivered to
    page.locator("main form input[id]").locator("visible=true").first.wait_for()
    code = page.get_by_label("code", exact=False).first
    code.fill("482913")
    customer.shot("5_ready")
    customer.click("sending.send")
    expect(page.locator(".phone .bubble", has_text="482913").first).to_be_visible(timeout=20_000)
    customer.sees(customer.word("states.any.delivered"))
    customer.shot("5_arrived")


def watches(customer: Hand) -> None:
    page = customer.page
    customer.go("/messages")
    page.locator("main .el-table__row").first.click()
    page.wait_for_url(re.compile(r"/console/messages/[0-9a-f-]{36}"))
    customer.sees(customer.word("states.any.delivered"))
    customer.shot("6_story")
    customer.go("/statistics")
    page.wait_for_selector("canvas")
    customer.shot("6_statistics")
    customer.go("/first-steps")
    customer.shot("6_done")
