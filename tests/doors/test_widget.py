"""What a page with a site key may do, from where, and what it is not told."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest

import make
from doors.counter import Reply, ask, basic
from doors.shop import BACK, NUMBER, SHOP, Shop, opened, solved, wrong
from hongyan.control import site_keys
from hongyan.doors import deeds, hosted
from hongyan.doors.route import BODY
from hongyan.otp import challenge
from hongyan.vocab.errors import Code

OTHER: Final = "https://evil.example.com"


@pytest.fixture(autouse=True)
def easy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Challenges as they are, with little to do."""
    monkeypatch.setattr(challenge, "WORK", 30)


@pytest.fixture
async def shop(world: make.World, key_id: str) -> AsyncIterator[Shop]:
    assert key_id
    async with opened(world) as one:
        yield one


# ── the whole way ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_page_proves_a_number_and_its_server_redeems_the_proof(shop: Shop, key_id: str) -> None:
    started = await shop.start(device="abc", language="zh-CN")
    assert started["to"].startswith("+86138")
    assert make.NUMBER not in str(started)
    assert (started["digits"], started["tries_left"]) == (6, 5)
    assert 55 <= started["resend_in_s"] <= 60
    assert 295 <= started["expires_in_s"] <= 300
    row = await shop.row(started["verification"])
    assert (row["level"], row["sandbox"]) == (1, False)
    told = await shop.check(started["verification"], await shop.code(started["verification"]), door=1)
    assert told["valid"]
    redeemed = await ask(
        shop.doors[0].port,
        "POST",
        "/v1/verifications/redeem",
        {"proof": told["proof"]},
        {"Authorization": basic(key_id)},
    )
    assert redeemed.status == 200, redeemed.body
    assert (redeemed.json["data"]["to"], redeemed.json["data"]["scene"]) == (make.NUMBER, "login")


async def test_a_page_is_always_challenged_whatever_the_policy_says(shop: Shop) -> None:
    await shop.world.database.execute(
        """INSERT INTO verify_policy (tenant_id, scene, policy, changed_by) VALUES ($1, '', '{"challenge":"never"}', 'test')""",
        shop.world.tenant_id,
    )
    for door in shop.doors:
        await door.door.book.load()
    reply = await shop.ask("start", NUMBER)
    assert reply.code == "Verify.ChallengeRequired"
    assert reply.json["detail"]["level"] == "work"
    again = await shop.ask("start", NUMBER | {"challenge": solved(reply.json["detail"]["challenge"])})
    assert again.status == 200


async def test_an_answer_to_a_challenge_is_good_for_one_code_over_two_doors(shop: Shop) -> None:
    answer = solved(await shop.challenge())
    wish = NUMBER | {"challenge": answer}
    replies = await asyncio.gather(*(shop.ask("start", wish, door=n % 2) for n in range(6)))
    assert sorted(reply.status for reply in replies) == [200, 403, 403, 403, 403, 403]
    assert {reply.code for reply in replies} == {"OK", "Verify.ChallengeFailed"}


async def test_an_answer_is_good_for_its_number_and_scene_alone(shop: Shop) -> None:
    for other in ({"number": "+8613800138001"}, {"scene": "register"}):
        answer = solved(await shop.challenge(NUMBER | other))
        reply = await shop.ask("start", NUMBER | {"challenge": answer})
        assert reply.code == "Verify.ChallengeFailed"


async def test_work_grows_with_what_an_address_asked_for(shop: Shop) -> None:
    before = await shop.challenge()
    await shop.start()
    await shop.world.database.execute(
        "UPDATE otp_limit SET hits = array_fill((extract(epoch FROM now()) * 1000)::bigint, ARRAY[21])"
    )
    assert (await shop.challenge())["maxNumber"] == 4 * before["maxNumber"]


async def test_the_sixth_guess_is_refused_though_it_is_right(shop: Shop) -> None:
    verification = (await shop.start())["verification"]
    code = await shop.code(verification)
    for _ in range(5):
        assert await shop.check(verification, wrong(code)) == {"valid": False}
    assert await shop.check(verification, code) == {"valid": False}


# ── what looks alike ──────────────────────────────────────────────────────────────────────────────────


async def test_wrong_unknown_forged_expired_and_used_codes_look_alike(shop: Shop) -> None:
    used = (await shop.start())["verification"]
    code = await shop.code(used)
    assert (await shop.check(used, code))["valid"]
    expired = (await shop.start(number="+8613800138001"))["verification"]
    expired_code = await shop.code(expired)
    await shop.world.database.execute("UPDATE verification SET expires_at = now() - interval '1 second'")
    id_, _, mac = used.partition(".")
    handles = (used, expired, f"{uuid.uuid4()}.{mac}", id_, f"{id_}.{'0' * 32}", "x", f"{id_}.é")
    answers = [(await shop.ask("check", {"verification": each, "code": code})) for each in handles]
    answers.append(await shop.ask("check", {"verification": expired, "code": expired_code}))
    plain = {(one.status, msgspec.json.encode({**one.json, "request_id": ""})) for one in answers}
    assert len(plain) == 1, plain


async def answered(shop: Shop, number: str) -> dict[str, str]:
    return {"challenge": solved(await shop.challenge(NUMBER | {"number": number}))}


async def test_an_id_without_what_only_its_page_knows_uses_nobodys_tries_up(shop: Shop) -> None:
    verification = (await shop.start())["verification"]
    id_ = verification.partition(".")[0]
    for handle in (id_, f"{id_}.{'a' * 32}"):
        assert await shop.check(handle, "000000") == {"valid": False}
    assert (await shop.row(verification))["tries"] == 0


async def test_a_page_of_another_site_key_has_no_part_in_it(shop: Shop) -> None:
    verification = (await shop.start())["verification"]
    async with shop.world.database.transaction() as tx:
        made = await site_keys.create(tx, shop.world.app_id, origins=[SHOP])
        other = (await site_keys.get(tx, None, made)).key_id
    await shop.doors[0].keeper.load()
    code = await shop.code(verification)
    assert await shop.check(verification, code, site_key=other) == {"valid": False}
    reply = await shop.ask("resend", {"verification": verification}, site_key=other)
    assert reply.code == "Verify.Ended"
    assert (await shop.check(verification, code))["valid"]


async def test_what_a_stranger_should_not_learn_is_not_told(shop: Shop) -> None:
    async with shop.world.database.transaction() as tx:
        await make.suppression(tx, shop.world, kind=2)
    reply = await shop.ask("start", NUMBER | await answered(shop, make.NUMBER))
    assert (reply.code, reply.json.get("detail")) == ("Verify.MediumDisabled", None)
    await shop.start(number="+8613800138001")
    again = await shop.ask(
        "start", {**NUMBER, "number": "+8613800138001", **await answered(shop, "+8613800138001")}
    )
    assert again.code == "Verify.TooManySends"
    assert "verification_id" not in again.json.get("detail", {})
    assert int(again.headers["retry-after"]) > 50
    assert (
        shop.doors[0].door.refusals["Number.Blacklisted"] + shop.doors[0].door.refusals["Number.Unsubscribed"]
        == 1
    )


async def test_a_code_is_sent_once_more_without_its_number_being_named(shop: Shop) -> None:
    started = await shop.start()
    early = await shop.ask("resend", {"verification": started["verification"]})
    assert early.code == "Verify.TooManySends"
    await shop.world.database.execute("UPDATE verification SET resend_at = created_at")
    await shop.world.database.execute(
        "UPDATE otp_limit SET hits = ARRAY(SELECT hit - 70000 FROM unnest(hits) AS hit)"
    )
    asked = await shop.ask("resend", {"verification": started["verification"]})
    assert asked.code == "Verify.ChallengeRequired", asked.body
    answer = solved(asked.json["detail"]["challenge"])
    again = await shop.ask("resend", {"verification": started["verification"], "challenge": answer})
    assert again.status == 200, again.body
    assert again.json["data"]["verification"] == started["verification"]
    assert again.json["data"]["resend_in_s"] > started["resend_in_s"]


# ── from where ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "origin", ["", "null", OTHER, SHOP + "/", SHOP + ":8443", "http://shop.example.com", SHOP.upper()]
)
@pytest.mark.parametrize("deed", ["settings", "challenge", "start", "check"])
async def test_a_page_of_another_origin_is_refused_and_its_browser_shows_it_nothing(
    shop: Shop, origin: str, deed: str
) -> None:
    reply = await shop.ask(deed, NUMBER, origin=origin)
    assert (reply.status, reply.code) == (403, "Verify.OriginDenied")
    assert "access-control-allow-origin" not in reply.headers
    assert reply.headers["vary"] == "Origin"


async def test_a_page_of_the_origin_may_read_answers_and_refusals(shop: Shop) -> None:
    for deed, body in (
        ("settings", {"scene": "login"}),
        ("start", NUMBER),
        ("start", b"{"),
        ("nothing", NUMBER),
    ):
        reply = await shop.ask(deed, body)
        assert reply.headers["access-control-allow-origin"] == SHOP, reply.body
        assert "Retry-After" in reply.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in reply.headers


async def test_our_own_page_may_ask_too(shop: Shop) -> None:
    host = f"127.0.0.1:{shop.doors[0].port}"
    reply = await shop.ask("settings", {"scene": "login"}, origin=f"http://{host}", Host=host)
    assert reply.status == 200, reply.body
    assert (await shop.ask("settings", {"scene": "login"}, origin=f"http://{host}1", Host=host)).status == 403
    behind: dict[str, Any] = {
        "Host": "inner:8080",
        "Sec-Fetch-Site": "same-origin",
    }  # a proxy that has a name of its own for us
    assert (
        await shop.ask("settings", {"scene": "login"}, origin="https://sms.example.com", **behind)
    ).status == 200
    for site in ("same-site", "cross-site", "none"):
        other = behind | {"Sec-Fetch-Site": site}
        assert (await shop.ask("settings", {"scene": "login"}, origin=OTHER, **other)).status == 403


async def test_browsers_are_told_beforehand_and_only_for_origins_of_that_key(shop: Shop) -> None:
    path = f"/v1/widget/{shop.site_key}/start"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    good = await ask(shop.doors[0].port, "OPTIONS", path, headers={"Origin": SHOP, **asked})
    assert (good.status, good.headers["access-control-allow-origin"]) == (204, SHOP)
    assert (good.headers["access-control-allow-methods"], good.headers["vary"]) == ("POST", "Origin")
    assert good.headers["access-control-allow-headers"] == "Content-Type"
    for where, origin in ((path, OTHER), (path, ""), ("/v1/widget/hys_none/start", SHOP)):
        bad = await ask(
            shop.doors[0].port, "OPTIONS", where, headers={"Origin": origin, **asked} if origin else asked
        )
        assert bad.status == 204
        assert not [name for name in bad.headers if name.startswith("access-control-")]


async def test_no_other_route_lets_a_page_of_another_site_read_it(shop: Shop) -> None:
    for method, path in (
        ("GET", "/v1/balance"),
        ("POST", "/v1/verifications"),
        ("OPTIONS", "/v1/messages"),
        ("GET", "/healthz"),
    ):
        reply = await ask(shop.doors[0].port, method, path, headers={"Origin": SHOP})
        assert "access-control-allow-origin" not in reply.headers


async def test_a_key_that_is_off_or_of_another_scene_starts_nothing(shop: Shop) -> None:
    assert (await shop.ask("start", NUMBER | {"scene": "reset"})).code == "Request.InvalidParameter"
    assert (await shop.ask("start", NUMBER | {"scene": "pay"})).code == "Request.InvalidParameter"
    assert (await shop.ask("start", NUMBER, site_key="hys_none")).code == "Auth.KeyNotFound"
    assert (await shop.ask("start", NUMBER, site_key="key1")).code == "Auth.KeyNotFound"
    await shop.world.database.execute("UPDATE site_key SET active = false")
    await shop.doors[0].keeper.load()
    assert (await shop.ask("start", NUMBER)).code == "Auth.KeyNotFound"


async def test_a_site_key_opens_no_route_of_programs(shop: Shop) -> None:
    for secret in (b"", b"secret"):
        reply = await ask(
            shop.doors[0].port, "GET", "/v1/balance", headers={"Authorization": basic(shop.site_key, secret)}
        )
        assert reply.status == 401


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"scene":"login","number":1}', b'{"scene":"login","number":"+86","more":1}']
)
@pytest.mark.parametrize("deed", ["settings", "opened", "challenge", "start", "resend", "check"])
async def test_what_cannot_be_read_is_refused_with_reasons(shop: Shop, deed: str, body: bytes) -> None:
    reply = await shop.ask(deed, body)
    assert reply.status == 400
    assert reply.code.startswith(("Request.", "Number."))


NASTY: Final = (
    "\x00",
    "\ud7ff\uffff",
    "é" * 40,
    "1" * 40,
    " ",
    "+86" + "9" * 37,
    "'; DROP TABLE site_key; --",
    "\u202e123456",
)


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
async def test_no_text_breaks_the_door(shop: Shop, nasty: str) -> None:
    started = (await shop.start())["verification"]
    for deed, body in (
        ("challenge", NUMBER | {"number": nasty}),
        ("start", NUMBER | {"number": nasty, "challenge": nasty}),
        ("start", NUMBER | {"challenge": nasty}),
        ("start", NUMBER | {"language": nasty, "device": nasty}),
        ("resend", {"verification": nasty, "challenge": nasty}),
        ("resend", {"verification": started, "challenge": nasty}),
        ("check", {"verification": nasty, "code": nasty}),
        ("check", {"verification": started, "code": nasty}),
    ):
        reply = await shop.ask(deed, body)
        assert reply.status < 500, (deed, reply.body)
    assert (await shop.check(started, await shop.code(started)))["valid"]


async def test_forms_that_were_shown_are_counted(shop: Shop) -> None:
    for _ in range(3):
        assert (await shop.ask("opened", {"scene": "login"})).status == 200
    async with asyncio.timeout(20):
        while True:
            rows = await shop.world.database.fetch("SELECT sum(count) AS count FROM funnel WHERE step = 0")
            if rows[0]["count"] == 3:
                break
            await asyncio.sleep(0.01)


async def test_countries_are_those_of_the_tenant_with_their_calling_codes(shop: Shop) -> None:
    reply = await shop.ask("settings", {"scene": "login"})
    assert reply.json["data"]["countries"] == [{"code": "CN", "calling": "86"}]
    await shop.world.database.execute("UPDATE tenant SET countries = '{*}'")
    await shop.doors[0].keeper.load()
    countries = (await shop.ask("settings", {"scene": "login"})).json["data"]["countries"]
    assert countries[0]["code"] == "CN"
    assert {"code": "US", "calling": "1"} in countries
    assert len(countries) > 200


def test_the_widget_has_words_for_what_its_page_may_be_refused_and_for_nothing_else() -> None:
    told = {code.value.name for page in deeds.PAGES for code in page.codes}
    script = (hosted.FOLDER / "hongyan-verify.js").read_text("utf-8")
    known = [
        set(re.findall(r'"(\w+\.\w+)":', words))
        for words in re.findall(r"codes: \{(.*?)\}", script, re.DOTALL)
    ]
    assert len(known) == 2
    # A page that asks as it should is told of no mistake in its request; a challenge it solves, and says nothing.
    unsaid = {code.value.name for code in BODY} | {Code.VERIFY_CHALLENGE_REQUIRED.value.name}
    assert known == [told - unsaid] * 2


# ── files and the hosted page ─────────────────────────────────────────────────────────────────────────


async def test_the_script_may_be_had_by_every_page_and_kept(shop: Shop) -> None:
    reply = await ask(shop.doors[0].port, "GET", "/widget/hongyan-verify.js", headers={"Origin": OTHER})
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "max-age=" in reply.headers["cache-control"]
    assert b"customElements.define" in reply.body
    tag = {"If-None-Match": reply.headers["etag"]}
    again = await ask(shop.doors[0].port, "GET", "/widget/hongyan-verify.js", headers=tag)
    assert (again.status, again.body) == (304, b"")
    for name in ("none.js", "..%2fvault.py", "hongyan-verify.js%00", "%2e%2e"):
        assert (await ask(shop.doors[0].port, "GET", f"/widget/{name}")).status == 404


async def visit(shop: Shop, query: str, **headers: str) -> Reply:
    return await ask(shop.doors[0].port, "GET", f"/verify/{shop.site_key}?{query}", headers=headers)


BACK_QUERY: Final = "return_to=https%3A%2F%2Fshop.example.com%2Fback%3Ffrom%3Dcode"


async def test_the_hosted_page_leads_back_to_a_listed_address_alone(shop: Shop) -> None:
    page = await visit(shop, f"{BACK_QUERY}&state=%22%3E%3Cscript%3Ex", **{"Accept-Language": "zh-CN"})
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = page.body.decode()
    assert '<html lang="zh-CN">' in text
    assert f'action="{BACK}"' in text
    assert "<script>x" not in text
    assert "shop &lt;b&gt;" in text
    policy = page.headers["content-security-policy"]
    assert "form-action https://shop.example.com;" in policy
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "query",
    [
        "",
        "return_to=",
        "return_to=https%3A%2F%2Fevil.example.com%2F",
        "return_to=https%3A%2F%2Fshop.example.com%2Fback",
        "return_to=https%3A%2F%2Fshop.example.com%2Fback%3Ffrom%3Dcode%26more",
        "return_to=javascript%3Aalert(1)",
        BACK_QUERY + "&" + BACK_QUERY,
        BACK_QUERY + "&scene=pay",
        BACK_QUERY + "&scene=none",
        BACK_QUERY + "&mode=get",
        BACK_QUERY + "&state=" + "a" * 600,
        BACK_QUERY + "&state=%0d%0a",
        BACK_QUERY + "&state=%ff",
        BACK_QUERY + "&x=" + "a" * 5_000,
    ],
)
async def test_a_visit_that_does_not_fit_leads_nowhere(shop: Shop, query: str) -> None:
    reply = await visit(shop, query)
    assert reply.status == 400, reply.body
    assert "location" not in reply.headers
    readable(reply, "en")


def readable(reply: Reply, lang: str) -> str:
    """Assert that it is a page for a person, which runs nothing and leads nowhere; returns its text."""
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not {"script-src", "unsafe-inline", "form-action https"} & {*policy.replace("; ", " ").split()}
    text = reply.body.decode()
    assert f'<html lang="{lang}">' in text
    assert reply.headers["x-request-id"] in text
    assert not any(tag in text for tag in ("<script", "<form", "<a "))
    return text


async def test_a_page_of_no_key_is_not_there(shop: Shop) -> None:
    reply = await ask(shop.doors[0].port, "GET", f"/verify/hys_none?{BACK_QUERY}")
    assert reply.status == 404
    assert "Request.NotFound" in readable(reply, "en")


async def test_who_is_refused_the_hosted_page_reads_why_in_their_language_and_nothing_of_the_link(
    shop: Shop,
) -> None:
    refused = await visit(
        shop, "return_to=%3Cb%3Eevil&state=%3Cb%3E", **{"Accept-Language": "zh-CN,zh;q=0.9"}
    )
    text = readable(refused, "zh-CN")
    assert "无法打开此页面" in text
    assert "return_to: must be one of" in text
    assert "evil" not in text
    assert refused.headers["vary"] == "Accept-Language"
    api = await ask(shop.doors[0].port, "POST", f"/v1/widget/{shop.site_key}/start", {}, {"Origin": OTHER})
    assert api.headers["content-type"] == "application/json"
