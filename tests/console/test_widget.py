"""The widget in Chromium, on somebody's own page: a stranger comes in, a guesser does not, and nobody needs a mouse.

Each test has a number of its own, because the limits of a number are what they are for everybody.
"""

import base64
import io
import re
import time
from collections.abc import Iterator
from typing import Final

import pytest
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import Browser, expect

from console import shopfront, sight
from console.conftest import People
from console.shopfront import NO_WORKER, Front, Visitor, code_of, suspicious, wrong
from hongyan.otp import slider

LINE: Final = 44  # pixels: a button with one line of text
WATCH_PROGRESS: Final = """() => {
    const root = document.querySelector('hongyan-verify').shadowRoot
    new MutationObserver(() => { window.progressShown ||= !!root.querySelector('progress:not([hidden])') })
        .observe(root, { subtree: true, childList: true, attributes: true })
}"""  # the work may be done before a look would find it going on
FORGIVEN: Final = r"40[03]|Failed to load resource"  # a challenge that is asked for comes as a refusal


@pytest.fixture(scope="module")
def front(demo: sight.Demo, people: People) -> Iterator[Front]:
    owner = people("owner", *sight.WIDE)
    shopfront.lenient(owner)
    with shopfront.shopfront(demo.base) as one:
        one.site_key = shopfront.site_key(owner, demo, origins=[one.origin], sandbox=True)
        yield one


@pytest.fixture
def owner(people: People) -> sight.Sight:
    return people("owner", *sight.WIDE)


@pytest.fixture(autouse=True)
def as_ever(front: Front) -> Iterator[None]:
    site_key = front.site_key
    front.policy, front.lang, front.scene = shopfront.STRICT, "zh-CN", "login"
    yield
    front.site_key = site_key


@pytest.fixture(scope="module")
def app_key(people: People) -> str:
    return shopfront.basic(*shopfront.app_key(people("owner", *sight.WIDE)))


def redeemed(owner: sight.Sight, demo: sight.Demo, app_key: str, proof: str) -> str:
    """Redeem a proof as the app's own server does; returns the number or the refusal."""
    give_up_s = time.monotonic() + shopfront.WAIT_S
    while True:
        answer = owner.context.request.post(
            f"{demo.base}/v1/verifications/redeem", data={"proof": proof}, headers={"Authorization": app_key}
        )
        said = answer.json()
        if (
            said["code"] != "Auth.KeyNotFound" or time.monotonic() > give_up_s
        ):  # doors hear of it within moments
            return str(said["data"]["to"] if answer.ok else said["code"])
        time.sleep(0.05)


@pytest.mark.needs("chromium")
def test_a_new_person_is_let_in_and_the_server_learns_the_number_once(
    strange_browser: Browser, demo: sight.Demo, owner: sight.Sight, front: Front, app_key: str
) -> None:
    number = "19900000020"
    with Visitor(strange_browser) as person:
        person.go(front.origin)
        person.ask_for_code("199 0000 0020")
        expect(person.page.get_by_text("+86199****0020", exact=False).first).to_be_visible()
        person.page.keyboard.type(code_of(owner, number))
        proof = person.proof()
        expect(person.page.locator("hongyan-verify .good")).to_be_focused()
        assert person.page.evaluate("new FormData(document.getElementById('around')).get('proof')") == proof
        assert person.page.evaluate("sessionStorage.getItem('hongyan-verify')") is None
        assert redeemed(owner, demo, app_key, proof) == "+86" + number
        assert redeemed(owner, demo, app_key, proof) == "Verify.ProofInvalid"


@pytest.mark.needs("chromium")
def test_the_sixth_guess_is_refused_though_it_is_right(
    strange_browser: Browser, owner: sight.Sight, front: Front
) -> None:
    front.lang = "en"
    with Visitor(strange_browser, lang="en") as person:
        person.go(front.origin)
        person.ask_for_code("19900000021")
        code = code_of(owner, "19900000021")
        for left in ("4 tries are left", "3 tries", "2 tries", "One try is left", "No try is left"):
            person.page.keyboard.type(wrong(code))
            person.says(left)
            expect(person.at("code")).to_be_focused()
            expect(person.at("code")).to_have_attribute("aria-invalid", "true")
        with person.page.expect_response(re.compile("/check$")) as checked:
            person.page.keyboard.type(code)
        assert checked.value.json()["data"] == {"valid": False}
        person.says("wrong or no longer valid")
        expect(person.page.locator("#proof")).to_be_empty()


@pytest.mark.needs("chromium")
def test_a_reload_loses_nothing_and_keeps_no_code_and_no_number(
    strange_browser: Browser, demo: sight.Demo, owner: sight.Sight, front: Front, app_key: str
) -> None:
    number = "19900000022"
    with Visitor(strange_browser) as person:
        person.go(front.origin)
        person.ask_for_code(number)
        code = code_of(owner, number)
        person.page.keyboard.type(code[:4])
        kept = person.page.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")
        assert number not in kept
        random_or_masked = r"[0-9a-f-]{36}\.[0-9a-f]{32}|[0-9a-f]{32}|\d{13}|\+86199\*+0022"
        assert code[:4] not in re.sub(random_or_masked, "", kept)
        person.page.reload()
        expect(person.at("code")).to_be_visible()
        expect(person.page.locator("hongyan-verify .again")).to_have_text(re.compile(r"\d+ 秒后可重新发送"))
        expect(person.page.locator("hongyan-verify .again")).to_be_disabled()
        person.at("code").fill(code)
        assert redeemed(owner, demo, app_key, person.proof()) == "+86" + number


@pytest.mark.needs("chromium")
def test_everything_can_be_done_by_keyboard_alone(
    strange_browser: Browser, owner: sight.Sight, front: Front
) -> None:
    front.lang = "en"
    with Visitor(strange_browser, lang="en") as person:
        person.go(front.origin)
        press, focused = (
            person.page.keyboard.press,
            "document.querySelector('hongyan-verify').shadowRoot.activeElement",
        )
        order = []
        for _ in range(3):
            press("Tab")
            order.append(person.page.evaluate(f"{focused}.id || {focused}.className"))
        assert order == ["country", "number", "main"]
        press("Enter")  # nothing was typed
        person.says("Enter a phone number")
        expect(person.at("number")).to_be_focused()
        person.page.keyboard.type("19900000023")
        press("Tab")
        press("Space")
        expect(person.at("code")).to_be_focused()
        press("Enter")
        person.says("Enter all 6 characters")
        press("Tab")
        press("Tab")  # sending again has to wait, and is passed over
        assert person.page.evaluate(f"{focused}.textContent") == "Use another number"
        press("Shift+Tab")
        press("Shift+Tab")
        person.page.keyboard.type(code_of(owner, "19900000023"))
        assert person.proof()


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_at_any_step(
    strange_browser: Browser, owner: sight.Sight, front: Front, lang: sight.Language, theme: sight.Theme
) -> None:
    number = f"199000000{24 + ['zh', 'en'].index(lang) * 2 + ['light', 'dark'].index(theme)}"
    front.lang = lang
    with Visitor(strange_browser, lang=lang, theme=theme, width=320) as person:
        person.go(front.origin)
        assert person.faults() == []
        person.page.keyboard.press("Tab")
        person.page.locator("hongyan-verify button.main").click()
        assert person.faults() == []
        person.ask_for_code(number)
        assert person.faults() == []
        buttons = person.page.locator("hongyan-verify button")
        heights = buttons.evaluate_all("(all) => all.map((one) => one.offsetHeight)")
        assert set(heights) == {LINE}  # no text of a button breaks, the countdown's neither
        code = code_of(owner, number)
        person.page.keyboard.type(wrong(code))
        person.says(re.compile("4"))
        assert person.faults() == []
        assert person.page.evaluate("document.documentElement.scrollWidth") <= 320
        person.page.keyboard.type(code)
        assert person.proof()
        assert person.faults() == []


@pytest.mark.needs("chromium")
def test_where_no_worker_may_run_the_work_is_done_on_the_page(
    strange_browser: Browser, owner: sight.Sight, front: Front
) -> None:
    front.policy = NO_WORKER
    with Visitor(strange_browser, forgives="worker|blob:") as person:
        person.go(front.origin)
        person.ask_for_code("19900000028")
        person.page.keyboard.type(code_of(owner, "19900000028"))
        assert person.proof()


@pytest.mark.needs("chromium")
def test_what_goes_wrong_is_said_in_words(strange_browser: Browser, front: Front) -> None:
    front.lang = "en"
    with Visitor(strange_browser, lang="en", forgives=FORGIVEN) as person:
        person.go(front.origin)
        for typed, said in (("abc", "Enter a phone number"), ("1234567", "no number that can receive"),
                            ("13800138000", "Only test numbers")):  # fmt: skip
            person.at("number").fill(typed)
            person.page.keyboard.press("Enter")
            person.says(said)
            expect(person.at("number")).to_be_focused()
        person.page.route("**/v1/widget/**", lambda route: route.abort())
        person.at("number").fill("19900000029")
        person.page.keyboard.press("Enter")
        person.says("No connection")
        person.page.unroute("**/v1/widget/**")
        person.page.keyboard.press("Enter")
        person.at("number").focus()
        person.page.keyboard.press("Enter")
        expect(person.at("code")).to_be_focused()


@pytest.mark.needs("chromium")
def test_sending_again_waits_for_its_time_and_the_server_keeps_its_own(
    strange_browser: Browser, owner: sight.Sight, front: Front
) -> None:
    front.lang = "en"
    with Visitor(strange_browser, lang="en", forgives="429|Failed to load resource") as person:
        person.page.clock.install()
        person.go(front.origin)
        person.ask_for_code("19900000032")
        again = person.page.locator("hongyan-verify .again")
        expect(again).to_have_text(re.compile(r"Send again in [56]\d s"))
        person.page.clock.fast_forward(61_000)  # of the browser's clock alone
        expect(again).to_have_text("Send again")
        expect(again).to_be_enabled()
        again.click()
        person.says(re.compile(r"too often.*still valid\. Try again in \d+ s"))
        person.at("code").fill(code_of(owner, "19900000032"))
        assert person.proof()
        person.page.clock.fast_forward(400_000)
        person.page.reload()
        expect(person.at("number")).to_be_visible()  # what was over is not gone on with


@pytest.mark.needs("chromium")
def test_a_page_of_another_origin_is_told_so_and_gets_nothing(
    strange_browser: Browser, demo: sight.Demo, front: Front
) -> None:
    with (
        shopfront.shopfront(demo.base) as other,
        Visitor(strange_browser, forgives="CORS|Failed to load|403") as person,
    ):
        other.site_key = front.site_key
        person.page.goto(other.origin)
        person.says(
            re.compile("网络连接失败|来源白名单")
        )  # its browser does not even let it read the refusal
        person.at("number").fill("19900000033")
        person.page.keyboard.press("Enter")
        person.says(re.compile("网络连接失败|来源白名单"))
        expect(person.at("code")).to_have_count(0)


@pytest.mark.needs("chromium")
def test_a_page_that_could_not_ask_asks_again_when_it_is_told_to(
    strange_browser: Browser, front: Front
) -> None:
    with Visitor(strange_browser, forgives="Failed to load") as person:
        person.page.route("**/v1/widget/**", lambda route: route.abort())
        person.page.goto(front.origin)
        person.says("网络连接失败")
        person.page.unroute("**/v1/widget/**")
        person.page.get_by_role("button", name="获取验证码").click()
        expect(person.at("country").locator("option")).to_have_count(1)
        person.ask_for_code("19900000034")


@pytest.mark.needs("chromium")
def test_a_puzzle_is_solved_by_keyboard_and_a_wrong_place_brings_another(
    strange_browser: Browser, demo: sight.Demo, owner: sight.Sight, front: Front
) -> None:
    front.scene, front.lang = "register", "en"
    front.site_key = shopfront.site_key(owner, demo, origins=[front.origin], scenes=["register"])
    with Visitor(strange_browser, lang="en", forgives=FORGIVEN) as person, suspicious(owner, demo, front):
        person.go(front.origin)
        person.at("number").fill("19900000030")
        person.page.keyboard.press("Enter")
        expect(person.at("place")).to_be_focused()
        assert person.faults() == []
        push(person, (left_of(person) + 60) % 200)
        person.says("did not fit")
        expect(person.at("place")).to_be_focused()
        push(person, left_of(person))
        expect(person.at("code")).to_be_focused()


@pytest.mark.needs("chromium")
def test_who_cannot_see_a_picture_lets_the_browser_work_longer_instead(
    strange_browser: Browser, demo: sight.Demo, owner: sight.Sight, front: Front
) -> None:
    front.scene = "bind"
    front.site_key = shopfront.site_key(owner, demo, origins=[front.origin], scenes=["bind"])
    with Visitor(strange_browser, forgives=FORGIVEN) as person, suspicious(owner, demo, front):
        person.go(front.origin)
        person.at("number").fill("19900000031")
        person.page.keyboard.press("Enter")
        expect(person.at("place")).to_be_focused()
        person.page.keyboard.press("Tab")
        person.page.keyboard.press("Tab")
        person.page.evaluate(WATCH_PROGRESS)
        person.page.keyboard.press("Space")
        expect(person.at("code")).to_be_focused(timeout=90_000)
        assert person.page.evaluate("window.progressShown")


def push(person: Visitor, left: int) -> None:
    """Push the piece by keys alone: tens, then ones; and let go of it."""
    press = person.page.keyboard.press
    press("Home")
    for _ in range(left // 10):
        press("Shift+ArrowRight")
    for _ in range(left % 10):
        press("ArrowRight")
    expect(person.at("place")).to_have_value(str(left))
    with person.page.expect_response(re.compile("/start$")):
        press("Enter")


def left_of(person: Visitor) -> int:
    """Look where the gap is: where the picture is the piece in the shade."""
    read = "(canvas) => canvas.toDataURL('image/png')"
    canvases = person.page.locator("hongyan-verify canvas")
    picture, piece = (shown(canvases.nth(n).evaluate(read)) for n in range(2))
    top = round(float(canvases.nth(1).evaluate("(c) => parseFloat(c.style.top)")) * slider.HEIGHT / 100)
    mask = piece.getchannel("A").point(lambda value: 255 if value > 250 else 0)
    shade = piece.convert("RGB").point(lambda value: int(value * 0.45))

    def unlike(left: int) -> float:
        part = picture.crop((left, top, left + slider.PIECE, top + slider.PIECE)).convert("RGB")
        return sum(ImageStat.Stat(ImageChops.difference(part, shade), mask).mean)

    return min(range(slider.WIDTH - slider.PIECE + 1), key=unlike)


def shown(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
