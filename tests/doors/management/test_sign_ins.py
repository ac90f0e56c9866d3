"""Signing in over REST: the cookie, its fixed attributes, its end; and what people may do for themselves."""

from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any

import pyotp
import pytest

from doors.counter import Reply, ask
from doors.management.desk import KEY, NOBODY, Desk, desk
from hongyan import clock
from hongyan.control import attempts, people, sign_ins, users
from hongyan.control.permissions import Role
from hongyan.doors.callers import COOKIE

PASSWORD = "seven quiet herons"
OTHER = "nine loud sparrows"
EMAIL = "li@example.com"


async def add(d: Desk, role: Role = Role.MARKETER) -> int:
    tenant_id = None if role is Role.OPERATOR else d.world.tenant_id
    async with d.database.transaction() as tx:
        return await users.create(
            tx, tenant_id=tenant_id, email=EMAIL, name="Li", role=role, password=PASSWORD
        )


async def sign_in(d: Desk, headers: Mapping[str, str] | None = None, **said: Any) -> Reply:
    body = {"email": EMAIL, "password": PASSWORD} | said
    return await ask(d.port, "POST", "/v1/sign-in", body, headers)


def token_of(reply: Reply) -> str:
    return SimpleCookie(reply.headers["set-cookie"])[COOKIE].value


async def as_token(d: Desk, token: str, method: str, target: str, body: object = b"") -> Reply:
    headers = {"Cookie": f"{COOKIE}={token}", "Hongyan-Console": "1"}
    return await ask(d.port, method, target, body, headers)


async def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_do_not_get(database: str) -> None:
    async with desk(database) as d:
        await add(d)
        reply = await sign_in(d)
        assert reply.status == 200
        assert reply.json["data"]["user"]["email"] == EMAIL
        assert "messages.send" in reply.json["data"]["permissions"]
        assert "password" not in reply.body.decode()
        name, *attributes = reply.headers["set-cookie"].split("; ")
        assert name.startswith(f"{COOKIE}=")
        assert set(attributes) == {"Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"}
        me = await as_token(d, token_of(reply), "GET", "/v1/me")
        assert (me.status, me.json["data"]["user"]["role"]) == (200, "marketer")


async def test_but_at_loopback_the_cookie_is_for_tls_alone(database: str) -> None:
    import ipaddress

    proxies = (ipaddress.ip_network("127.0.0.0/8"),)
    async with desk(database, trusted_proxies=proxies) as d:
        await add(d)
        reply = await sign_in(d, {"X-Forwarded-For": "203.0.113.9"})
        assert reply.headers["set-cookie"].endswith("; Secure")


async def test_a_cookie_that_came_with_the_sign_in_is_never_kept(database: str) -> None:
    async with desk(database) as d:
        await add(d)
        planted = "planted-by-somebody-who-waits-for-it-to-become-good"
        reply = await sign_in(d, {"Cookie": f"{COOKIE}={planted}"})
        assert token_of(reply) != planted
        assert (await as_token(d, planted, "GET", "/v1/me")).code == "Auth.SignInEnded"
        again = await sign_in(d, {"Cookie": f"{COOKIE}={token_of(reply)}"})
        assert token_of(again) != token_of(reply)


async def test_failing_is_counted_and_recorded_although_it_is_refused(database: str) -> None:
    async with desk(database) as d:
        user_id = await add(d)
        for _ in range(attempts.EMAIL_FREE):
            reply = await sign_in(d, password="wrong")
            assert (reply.status, reply.code) == (401, "Auth.SignInFailed")
            assert "set-cookie" not in reply.headers
        reply = await sign_in(d)
        assert (reply.status, reply.code) == (429, "Auth.TooManyAttempts")
        assert int(reply.headers["retry-after"]) > 50
        rows = await d.fetch("SELECT actor, action, subject, detail, address FROM audit")
        assert len(rows) == attempts.EMAIL_FREE
        assert {(row["actor"], row["action"], row["subject"]) for row in rows} == {
            ("nobody", "signIn", f"user:{user_id}")
        }
        assert "wrong" not in rows[0]["detail"]


async def test_a_sign_in_is_recorded_where_its_tenant_sees_it(database: str) -> None:
    async with desk(database) as d:
        user_id = await add(d)
        await sign_in(d)
        page = (await d.ask("GET", "/v1/audit?action=signIn", as_=Role.OWNER)).json["data"]
        assert [row["actor"] for row in page["items"]] == [f"user:{user_id} {EMAIL}"]


@pytest.mark.parametrize(
    "said",
    [{"role": "operator"}, {"email": "x" * 300}, {"password": ""}, {"password": "x" * 129}, {"totp": "1"}, {"totp": 123456}],
)  # fmt: skip
async def test_what_is_no_sign_in_is_refused_and_counts_nothing(database: str, said: dict[str, Any]) -> None:
    async with desk(database) as d:
        assert (await sign_in(d, **said)).status == 400
        assert not await d.fetch("SELECT 1 FROM sign_in_attempt")


async def test_signing_out_ends_the_sign_in_and_takes_the_cookie_away(database: str) -> None:
    async with desk(database) as d:
        reply = await d.ask("POST", "/v1/sign-out", as_=Role.VIEWER)
        assert reply.status == 200
        assert f"{COOKIE}=; Path=/; Max-Age=0" in reply.headers["set-cookie"]
        assert (await d.ask("GET", "/v1/me", as_=Role.VIEWER)).code == "Auth.SignInEnded"


@pytest.mark.parametrize("who", [KEY, NOBODY])
@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/v1/me"), ("POST", "/v1/me/password"), ("GET", "/v1/me/tokens"), ("POST", "/v1/sign-out")],
)
async def test_programs_and_strangers_are_not_somebody(
    database: str, who: str, method: str, target: str
) -> None:
    async with desk(database) as d:
        assert (await d.ask(method, target, {} if method == "POST" else b"", as_=who)).status in {401, 403}


async def test_changing_the_password_wants_the_present_one_and_changes_the_token(database: str) -> None:
    async with desk(database) as d:
        await add(d)
        here, elsewhere = token_of(await sign_in(d)), token_of(await sign_in(d))
        wrong = {"password": OTHER, "new_password": OTHER}
        assert (await as_token(d, here, "POST", "/v1/me/password", wrong)).code == "Auth.SignInFailed"
        weak = {"password": PASSWORD, "new_password": "password1234"}
        assert (await as_token(d, here, "POST", "/v1/me/password", weak)).json["detail"][
            "parameter"
        ] == "password"
        reply = await as_token(
            d, here, "POST", "/v1/me/password", {"password": PASSWORD, "new_password": OTHER}
        )
        assert reply.json["data"] == {"ended": 2}
        assert token_of(reply) not in {here, elsewhere}
        for token, status in ((here, 401), (elsewhere, 401), (token_of(reply), 200)):
            assert (await as_token(d, token, "GET", "/v1/me")).status == status
        assert (await sign_in(d)).status == 401
        assert (await sign_in(d, password=OTHER)).status == 200


async def test_a_thief_of_the_browser_does_not_guess_the_password_from_within(database: str) -> None:
    async with desk(database) as d:
        await add(d)
        token = token_of(await sign_in(d))
        said = {"password": "wrong", "new_password": OTHER}
        codes = [(await as_token(d, token, "POST", "/v1/me/password", said)).code for _ in range(6)]
        assert codes == ["Auth.SignInFailed"] * 5 + ["Auth.TooManyAttempts"]


async def test_an_authenticator_is_enrolled_confirmed_asked_for_and_removed(database: str) -> None:
    async with desk(database) as d:
        await add(d, Role.OPERATOR)
        signed_in = await sign_in(d)
        assert signed_in.json["data"]["totp_recommended"] is True
        token = token_of(signed_in)
        proof = {"password": PASSWORD}
        assert (
            await as_token(d, token, "POST", "/v1/me/totp", {"password": "x"})
        ).code == "Auth.SignInFailed"
        made = (await as_token(d, token, "POST", "/v1/me/totp", proof)).json["data"]
        assert made["uri"].startswith("otpauth://totp/hongyan:li%40example.com?secret=" + made["secret"])
        totp, now = pyotp.TOTP(made["secret"]), int(clock.now_s())
        right = {totp.at(now + step) for step in (-30, 0, 30)}
        wrong = next(code for code in ("000000", "111111", "222222", "333333") if code not in right)
        assert (await as_token(d, token, "POST", "/v1/me/totp/confirm", {"code": wrong})).status == 400
        confirmed = await as_token(d, token, "POST", "/v1/me/totp/confirm", {"code": totp.at(now)})
        codes = confirmed.json["data"]["recovery_codes"]
        assert len(codes) == 10
        assert (await as_token(d, token, "GET", "/v1/me")).code == "Auth.SignInEnded"
        token = token_of(confirmed)
        me = (await as_token(d, token, "GET", "/v1/me")).json["data"]
        assert (me["user"]["totp"], me["totp_recommended"], me["recovery_codes_left"]) == (True, False, 10)
        assert (await sign_in(d)).code == "Auth.OneTimeCodeNeeded"
        assert (await sign_in(d, totp=totp.at(now + 30))).status == 200  # the next one; that of now is used
        assert (await sign_in(d, totp=totp.at(now + 30))).code == "Auth.SignInFailed"
        gone = await as_token(d, token, "POST", "/v1/me/totp/remove", proof | {"code": codes[0]})
        assert gone.status == 200
        assert (await sign_in(d)).status == 200
        rows = await d.fetch("SELECT detail FROM audit")
        assert not any(made["secret"] in row["detail"] or codes[0] in row["detail"] for row in rows)


async def test_sign_ins_are_listed_and_ended_by_their_owner_alone(database: str) -> None:
    async with desk(database) as d:
        await add(d)
        here, elsewhere = token_of(await sign_in(d)), token_of(await sign_in(d))
        items = (await as_token(d, here, "GET", "/v1/me/sign-ins")).json["data"]["items"]
        assert [item["present"] for item in items] == [True, False]
        assert here not in str(items)
        foreign = await d.ask("DELETE", f"/v1/me/sign-ins/{items[1]['id']}", as_=Role.OWNER)
        assert foreign.status == 404
        assert (await as_token(d, here, "DELETE", f"/v1/me/sign-ins/{items[1]['id']}")).status == 200
        assert (await as_token(d, elsewhere, "GET", "/v1/me")).status == 401


# ---- tokens


async def token(d: Desk, scopes: list[str], as_: Role = Role.OWNER, **said: Any) -> Reply:
    return await d.ask("POST", "/v1/me/tokens", {"name": "nightly", "scopes": scopes} | said, as_=as_)


async def bearing(d: Desk, secret: str, method: str, target: str, body: object = b"") -> Reply:
    return await ask(d.port, method, target, body, {"Authorization": f"Bearer {secret}"})


async def test_a_token_may_what_its_scopes_say_and_no_more(database: str) -> None:
    async with desk(database) as d:
        made = (await token(d, ["users.read"])).json["data"]
        secret = made["token"]
        assert secret.startswith("hyt_")
        assert (await bearing(d, secret, "GET", "/v1/users")).status == 200
        assert (await bearing(d, secret, "GET", "/v1/audit")).code == "Auth.PermissionDenied"
        me = (await bearing(d, secret, "GET", "/v1/me")).json["data"]
        assert me["permissions"] == ["users.read"]
        (row,) = (await d.ask("GET", "/v1/me/tokens", as_=Role.OWNER)).json["data"]["items"]
        assert (row["hint"], row["used_from"]) == (secret[:8], "127.0.0.1")
        assert secret not in str(await d.fetch("SELECT token_hash, hint FROM api_token"))


async def test_nobody_gives_a_token_what_they_have_not(database: str) -> None:
    async with desk(database) as d:
        for scopes in (["audit.read"], ["users.write"], ["tenants.write"]):
            assert (await token(d, scopes, Role.DEVELOPER)).json["detail"]["parameter"] == "scopes"
        assert (await token(d, ["users.write"], Role.OWNER)).json["detail"]["parameter"] == "scopes"
        assert (await token(d, ["nonsense"], Role.OWNER)).status == 400
        assert (await token(d, [], Role.OWNER)).status == 400


async def test_a_token_makes_no_tokens_and_changes_neither_passwords_nor_people(database: str) -> None:
    async with desk(database) as d:
        secret = (await token(d, ["users.read", "messages.send"])).json["data"]["token"]
        for method, target, body in (
            ("POST", "/v1/me/tokens", {"name": "x", "scopes": ["users.read"]}),
            ("DELETE", "/v1/me/tokens/1", b""),
            ("POST", "/v1/me/password", {"password": PASSWORD, "new_password": OTHER}),
            ("POST", "/v1/me/totp", {"password": PASSWORD}),
            ("POST", "/v1/me/totp/confirm", {"code": "123456"}),
            ("POST", "/v1/me/totp/remove", {"password": PASSWORD, "code": "123456"}),
            ("DELETE", "/v1/me/sign-ins/1", b""),
            ("POST", "/v1/sign-out", b""),
            ("POST", "/v1/invitations", {"email": "x@example.com", "role": "viewer"}),
            ("PATCH", f"/v1/users/{d.users[Role.VIEWER]}", {"role": "owner"}),
            ("POST", f"/v1/users/{d.users[Role.VIEWER]}/sign-out", b""),
        ):
            reply = await bearing(d, secret, method, target, body)
            assert (reply.status, reply.code) == (403, "Auth.PermissionDenied"), target


async def test_a_demotion_reaches_the_tokens_and_taking_out_ends_them(database: str) -> None:
    async with desk(database) as d:
        secret = (await token(d, ["apps.read", "messages.read"], Role.DEVELOPER)).json["data"]["token"]
        user_id = d.users[Role.DEVELOPER]
        await d.ask("PATCH", f"/v1/users/{user_id}", {"role": "viewer"}, as_=Role.OWNER)
        assert (await bearing(d, secret, "GET", "/v1/me")).json["data"]["permissions"] == ["messages.read"]
        await d.ask("PATCH", f"/v1/users/{user_id}", {"active": False}, as_=Role.OWNER)
        assert (await bearing(d, secret, "GET", "/v1/me")).code == "Auth.SignInEnded"
        await d.ask("PATCH", f"/v1/users/{user_id}", {"active": True}, as_=Role.OWNER)
        assert (await bearing(d, secret, "GET", "/v1/me")).code == "Auth.SignInEnded"


async def test_a_token_is_used_from_its_addresses_until_it_ends(database: str) -> None:
    async with desk(database) as d:
        elsewhere = (await token(d, ["users.read"], addresses=["203.0.113.0/24"])).json["data"]["token"]
        assert (await bearing(d, elsewhere, "GET", "/v1/me")).code == "Auth.IpDenied"
        here = (await token(d, ["users.read"], addresses=["127.0.0.1"])).json["data"]
        assert (await bearing(d, here["token"], "GET", "/v1/me")).status == 200
        await d.fetch(
            "UPDATE api_token SET expires_at = now() - interval '1 second' WHERE id = $1", here["id"]
        )
        assert (await bearing(d, here["token"], "GET", "/v1/me")).code == "Auth.SignInEnded"
        assert (await token(d, ["users.read"], addresses=["10.0.0.1/8"])).status == 400
        assert (await token(d, ["users.read"], valid_s=366 * 86_400)).status == 400


async def test_a_token_is_revoked_by_its_maker_alone(database: str) -> None:
    async with desk(database) as d:
        made = (await token(d, ["users.read"])).json["data"]
        assert (await d.ask("DELETE", f"/v1/me/tokens/{made['id']}", as_=Role.OPERATOR)).status == 404
        assert (await d.ask("DELETE", f"/v1/me/tokens/{made['id']}", as_=Role.OWNER)).status == 200
        assert (await bearing(d, made["token"], "GET", "/v1/me")).status == 401


async def test_people_of_a_suspended_tenant_sign_in_and_look(database: str) -> None:
    async with desk(database) as d:
        await add(d)
        await d.fetch("UPDATE tenant SET active = false WHERE id = $1", d.world.tenant_id)
        reply = await sign_in(d)
        assert reply.status == 200
        assert (await as_token(d, token_of(reply), "GET", "/v1/me")).status == 200
        assert (await as_token(d, token_of(reply), "POST", "/v1/me/tokens", {})).code == "Account.Suspended"


async def test_somebody_taken_out_is_out_at_once(database: str) -> None:
    async with desk(database) as d:
        user_id = await add(d)
        cookie = token_of(await sign_in(d))
        async with d.database.transaction() as tx:
            await people.change(tx, None, None, user_id, active=False)
        assert (await as_token(d, cookie, "GET", "/v1/me")).code == "Auth.SignInEnded"
        assert (await sign_in(d)).code == "Auth.SignInFailed"


def test_the_cookie_has_one_name() -> None:
    assert sign_ins.COOKIE == COOKIE


async def test_codes_are_not_guessed_by_removing_the_authenticator(database: str) -> None:
    async with desk(database) as d:
        await add(d)
        token = token_of(await sign_in(d))
        made = (await as_token(d, token, "POST", "/v1/me/totp", {"password": PASSWORD})).json["data"]
        now = int(clock.now_s())
        right = {pyotp.TOTP(made["secret"]).at(now + step) for step in (-60, -30, 0, 30, 60)}
        code = pyotp.TOTP(made["secret"]).at(now)
        token = token_of(await as_token(d, token, "POST", "/v1/me/totp/confirm", {"code": code}))
        wrong = [f"{number:06}" for number in range(20) if f"{number:06}" not in right][:6]
        codes = []
        for each in wrong:
            said = {"password": PASSWORD, "code": each}
            codes.append((await as_token(d, token, "POST", "/v1/me/totp/remove", said)).code)
        assert codes == ["Auth.SignInFailed"] * 5 + ["Auth.TooManyAttempts"]


async def test_a_password_that_was_typed_as_an_email_is_in_no_record(database: str) -> None:
    async with desk(database) as d:
        assert (await sign_in(d, email=PASSWORD, password="wrong")).code == "Auth.SignInFailed"
        (row,) = await d.fetch("SELECT actor, action, subject, tenant_id, detail FROM audit")
        assert tuple(row.values()) == ("nobody", "signIn", "sign_in:failed", None, '{"failed": true}')


async def test_a_failed_sign_in_is_recorded_where_the_persons_tenant_sees_it(database: str) -> None:
    async with desk(database) as d:
        user_id = await add(d)
        await sign_in(d, email=EMAIL.upper(), password="wrong")
        (row,) = (await d.ask("GET", "/v1/audit", as_=Role.OWNER)).json["data"]["items"]
        assert (row["actor"], row["subject"], row["detail"]) == (
            "nobody",
            f"user:{user_id}",
            {"failed": True},
        )


async def test_everybody_may_change_how_they_are_called(database: str) -> None:
    async with desk(database) as one:
        told = await one.ask("PATCH", "/v1/me", {"name": "李娜"}, as_=Role.VIEWER)
        assert told.json["data"]["user"]["name"] == "李娜"
        assert (await one.ask("GET", "/v1/me", as_=Role.VIEWER)).json["data"]["user"]["name"] == "李娜"
        assert (await one.ask("PATCH", "/v1/me", {"name": ""}, as_=Role.VIEWER)).status == 400
        assert (
            await one.ask("PATCH", "/v1/me", {"role": "owner", "name": "a"}, as_=Role.VIEWER)
        ).status == 400
