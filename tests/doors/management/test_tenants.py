"""Tenants, apps, keys and webhooks over the API: who may do what, and whose things anybody sees."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import make
from doors.counter import ask, basic
from hongyan import clock
from hongyan.control.permissions import Role

from .desk import FOREIGN, KEY, Desk, desk

MASTER = make.MASTER.reveal().hex()
MESSAGE = {"to": "+8613800138000", "signature": "x", "template": "y", "params": {}}


async def reload(one: Desk) -> None:
    await one.served.keeper.load()


async def test_a_tenant_is_made_changed_suspended_and_resumed_and_all_of_it_is_written_down(
    database: str,
) -> None:
    async with desk(database, master_key=MASTER) as one:
        asked = {"name": "Peony", "countries": ["CN", "HK"], "limits": {"otp": [2, 6, 12]}, "weight": 3}
        made = await one.ask("POST", "/v1/tenants", asked)
        assert made.status == 201, made.body
        tenant = made.json["data"]
        assert (tenant["name"], tenant["limits"], tenant["weight"]) == ("Peony", {"otp": [2, 6, 12]}, 3)
        place = f"/v1/tenants/{tenant['id']}"
        changed = await one.ask("PATCH", place, {"quiet_from_hour": 18, "name": "Lily"})
        assert (changed.json["data"]["name"], changed.json["data"]["quiet_from_hour"]) == ("Lily", 18)
        assert changed.json["data"]["limits"] == {"otp": [2, 6, 12]}
        assert not (await one.ask("POST", f"{place}/suspend", {"reason": "spam"})).json["data"]["active"]
        assert (await one.ask("POST", f"{place}/resume", {"reason": "sorry"})).json["data"]["active"]
        steps = (await one.ask("GET", f"{place}/history")).json["data"]["items"]
        assert [(step["action"], step["reason"]) for step in steps] == [
            ("resumed", "sorry"),
            ("suspended", "spam"),
            ("changed", "name, quiet_from_hour"),
            ("created", ""),
        ]
        assert all("operator@example.com" in step["who"] for step in steps)
        found = await one.ask("GET", "/v1/tenants?named=lil")
        assert [row["id"] for row in found.json["data"]["items"]] == [tenant["id"]]
        subjects = await one.fetch("SELECT action FROM audit ORDER BY seq")
        assert [row["action"] for row in subjects] == [
            "createTenant", "changeTenant", "suspendTenant", "resumeTenant",
        ]  # fmt: skip


async def test_a_tenant_counts_from_the_answer_on_that_made_it(database: str) -> None:
    async with desk(database, master_key=MASTER) as one:  # nobody tells this door of changes
        tenant = (await one.ask("POST", "/v1/tenants", {"name": "Peony"})).json["data"]
        apps = await one.ask("GET", f"/v1/apps?tenant_id={tenant['id']}")
        assert (apps.status, apps.json["data"]["items"]) == (200, [])
        assert (await one.ask("GET", "/v1/apps?tenant_id=987654")).status == 404


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"name": "x", "limits": {"otp": [1, 2]}}, "limits"),
        ({"name": "x", "limits": {"otp": [1, 2, -1]}}, "limits"),
        ({"name": "x", "limits": {"otp": [1, 2, 10**6]}}, "limits"),
        ({"name": "x", "limits": {"fun": [1, 2, 3]}}, "limits"),
        ({"name": "x", "quiet_from_hour": 9, "quiet_until_hour": 12}, "quiet_from_hour"),
        ({"name": "x", "countries": []}, "countries"),
        ({"name": "x", "countries": ["cn"]}, "countries"),
        ({"name": "x", "charge_on": "whim"}, "charge_on"),
        ({"name": "x\u0007"}, "name"),
        ({"name": "x", "unknown": 1}, "unknown"),
    ],
)
async def test_what_a_tenant_cannot_be_is_refused_by_name(database: str, asked: Any, named: str) -> None:
    async with desk(database, master_key=MASTER) as one:
        told = await one.ask("POST", "/v1/tenants", asked)
    assert told.status == 400
    assert named in str(told.json["detail"])


async def test_a_tenant_sees_itself_and_no_other(database: str) -> None:
    async with desk(database) as one:
        own = await one.ask("GET", "/v1/tenant", as_=Role.VIEWER)
        assert own.json["data"]["id"] == one.world.tenant_id
        for who in (Role.OWNER, KEY):
            assert (await one.ask("GET", "/v1/tenants", as_=who)).code == "Auth.PermissionDenied"
            assert (
                await one.ask("GET", f"/v1/tenants/{one.foreign_id}", as_=who)
            ).code == "Auth.PermissionDenied"


async def test_a_key_works_with_the_secret_shown_once_and_within_its_scopes(database: str) -> None:
    async with desk(database) as one:
        app = (await one.ask("POST", "/v1/apps", {"name": "shop"}, as_=Role.DEVELOPER)).json["data"]
        asked = {"name": "reader", "scopes": ["messages.read"], "allow_basic": True}
        made = await one.ask("POST", f"/v1/apps/{app['id']}/keys", asked, as_=Role.DEVELOPER)
        assert made.status == 201
        key_id, secret = made.json["data"]["key"]["key_id"], made.json["data"]["secret"]
        await reload(one)
        headers = {"Authorization": basic(key_id, secret.encode())}
        assert (await ask(one.port, "GET", "/v1/messages", headers=headers)).status == 200
        refused = await ask(one.port, "POST", "/v1/messages", MESSAGE, headers)
        assert refused.code == "Auth.PermissionDenied"
        shown = await one.ask("GET", f"/v1/keys/{key_id}", as_=Role.DEVELOPER)
        assert secret not in shown.body.decode()
        assert shown.json["data"]["scopes"] == ["messages.read"]
        audited = await one.fetch("SELECT detail::text FROM audit")
        assert all(secret not in row["detail"] for row in audited)


async def test_a_key_is_exchanged_with_an_overlap_and_the_old_one_ends(database: str) -> None:
    async with desk(database) as one:
        told = await one.ask("POST", f"/v1/keys/{one.key_id}/rotate", {"overlap_s": 3600}, as_=Role.OWNER)
        assert told.status == 201
        old = (await one.ask("GET", f"/v1/keys/{one.key_id}", as_=Role.OWNER)).json["data"]
        ends_in = datetime.fromisoformat(old["expires_at"]) - datetime.now(UTC)
        assert timedelta(minutes=59) < ends_in < timedelta(minutes=61)
        new = told.json["data"]["key"]
        assert (new["scopes"], new["expires_at"], new["free_text"]) == (old["scopes"], None, old["free_text"])
        assert (await one.ask("GET", "/v1/balance", as_=KEY)).status == 200
        await one.ask("POST", f"/v1/keys/{one.key_id}/rotate", {"overlap_s": 0}, as_=Role.OWNER)
        await reload(one)
        assert (await one.ask("GET", "/v1/balance", as_=KEY)).code == "Auth.KeyNotFound"


async def test_a_key_that_has_ended_is_refused_by_a_snapshot_that_still_has_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(database) as one:
        end = datetime.now(UTC) + timedelta(hours=1)
        await one.ask("PATCH", f"/v1/keys/{one.key_id}", {"expires_at": end.isoformat()}, as_=Role.OWNER)
        await reload(one)
        assert (await one.ask("GET", "/v1/balance", as_=KEY)).status == 200
        monkeypatch.setattr(clock, "now_s", lambda: end.timestamp() + 1)
        assert (await one.ask("GET", "/v1/balance", as_=KEY)).code == "Auth.KeyNotFound"
        assert one.key_id in one.served.keeper.current.keys


async def test_a_disabled_key_is_refused_for_good(database: str) -> None:
    async with desk(database) as one:
        assert not (await one.ask("POST", f"/v1/keys/{one.key_id}/disable", as_=Role.OWNER)).json["data"][
            "active"
        ]
        await reload(one)
        assert (await one.ask("GET", "/v1/balance", as_=KEY)).code == "Auth.KeyNotFound"
        again = await one.ask("POST", f"/v1/keys/{one.key_id}/rotate", {}, as_=Role.OWNER)
        assert again.code == "Request.NotFound"


async def test_when_a_key_was_used_last_is_known(database: str) -> None:
    async with desk(database) as one:
        assert (await one.ask("GET", f"/v1/keys/{one.key_id}")).json["data"]["used_at"] is None
        await one.ask("GET", "/v1/balance", as_=KEY)
        await ask(one.port, "GET", "/v1/balance", headers={"Authorization": basic(one.key_id, b"wrong")})
        await one.served.door.write_uses()
        used_at = (await one.ask("GET", f"/v1/keys/{one.key_id}")).json["data"]["used_at"]
        assert datetime.now(UTC) - datetime.fromisoformat(used_at) < timedelta(minutes=1)
        assert one.served.door.gate.used == set()


@pytest.mark.parametrize("scope", ["apps.write", "users.write", "numbers.unmask", "tenants.read", "nothing"])
async def test_a_scope_that_no_key_may_have_is_refused(database: str, scope: str) -> None:
    async with desk(database) as one:
        told = await one.ask("PATCH", f"/v1/keys/{one.key_id}", {"scopes": [scope]}, as_=Role.OWNER)
    assert told.code == "Request.InvalidParameter"


async def test_nobody_of_a_tenant_lets_himself_off_the_review_of_wording(database: str) -> None:
    async with desk(database) as one:
        place = f"/v1/apps/{one.world.app_id}/keys"
        told = await one.ask("POST", place, {"free_text": True}, as_=Role.OWNER)
        assert told.code == "Auth.PermissionDenied"
        told = await one.ask("PATCH", f"/v1/keys/{one.key_id}", {"free_text": True}, as_=Role.DEVELOPER)
        assert told.code == "Auth.PermissionDenied"
        assert (await one.ask("POST", place, {"free_text": True})).status == 201


async def test_what_is_anothers_is_not_found(database: str) -> None:
    async with desk(database) as one:
        app, key = one.world.app_id, one.key_id
        await one.ask("PUT", f"/v1/apps/{app}/webhook", {"url": "https://example.com/"}, as_=Role.OWNER)
        for method, target, body in (
            ("PATCH", f"/v1/apps/{app}", {"name": "x"}),
            ("POST", f"/v1/apps/{app}/keys", {}),
            ("GET", f"/v1/keys/{key}", b""),
            ("PATCH", f"/v1/keys/{key}", {"name": "x"}),
            ("POST", f"/v1/keys/{key}/rotate", {}),
            ("POST", f"/v1/keys/{key}/disable", b""),
            ("GET", f"/v1/apps/{app}/webhook", b""),
            ("PUT", f"/v1/apps/{app}/webhook", {"url": "https://example.com/"}),
            ("POST", f"/v1/apps/{app}/webhook/renew", b""),
            ("DELETE", f"/v1/apps/{app}/webhook", b""),
        ):
            told = await one.ask(method, target, body, as_=FOREIGN)
            assert told.code == "Request.NotFound", (method, target, told.body)
        for target in ("/v1/apps", "/v1/keys", "/v1/webhooks"):
            assert (await one.ask("GET", target, as_=FOREIGN)).json["data"]["items"] == []
            assert (await one.ask("GET", f"{target}?tenant_id={one.foreign_id}")).json["data"]["items"] == []
            assert len((await one.ask("GET", target)).json["data"]["items"]) == 1


async def test_lists_go_on_where_the_page_before_ended(database: str) -> None:
    async with desk(database) as one:
        for number in range(3):
            await one.ask("POST", "/v1/apps", {"name": f"app {number}"}, as_=Role.OWNER)
        first = (await one.ask("GET", "/v1/apps?limit=2", as_=Role.OWNER)).json["data"]
        second = (await one.ask("GET", f"/v1/apps?limit=2&cursor={first['next']}", as_=Role.OWNER)).json[
            "data"
        ]
        third = (await one.ask("GET", f"/v1/apps?limit=2&cursor={second['next']}", as_=Role.OWNER)).json[
            "data"
        ]
        ids = [row["id"] for page in (first, second, third) for row in page["items"]]
        assert (len(ids), ids) == (4, sorted(set(ids)))
        assert third["next"] is None
        assert (await one.ask("GET", "/v1/apps?cursor=x", as_=Role.OWNER)).code == "Request.InvalidParameter"


async def test_a_webhooks_secret_is_shown_once_and_renewed(database: str) -> None:
    async with desk(database) as one:
        place = f"/v1/apps/{one.world.app_id}/webhook"
        first = await one.ask("PUT", place, {"url": "https://example.com/a?token=hidden"}, as_=Role.DEVELOPER)
        secret = first.json["data"]["secret"]
        assert secret
        again = await one.ask("PUT", place, {"url": "https://example.com/b"}, as_=Role.DEVELOPER)
        assert again.json["data"]["secret"] is None
        assert (await one.ask("POST", f"{place}/renew", as_=Role.DEVELOPER)).json["data"]["secret"] != secret
        assert not (await one.ask("DELETE", place, as_=Role.DEVELOPER)).json["data"]["active"]
        private = await one.ask("PUT", place, {"url": "http://127.0.0.1/"}, as_=Role.DEVELOPER)
        assert private.code == "Request.InvalidParameter"
        audited = " ".join(row["detail"] for row in await one.fetch("SELECT detail::text FROM audit"))
        assert "hidden" not in audited
        assert secret not in audited


async def test_a_tenant_that_is_not_qualified_sends_with_sandbox_keys_alone(database: str) -> None:
    async with desk(database) as one:
        await one.fetch("UPDATE tenant SET qualified = false WHERE id = $1", one.world.tenant_id)
        await reload(one)
        told = await one.ask("POST", "/v1/messages", MESSAGE, as_=KEY)
        assert (told.status, told.code) == (403, "Account.NotQualified")
        made = await one.ask(
            "POST",
            f"/v1/apps/{one.world.app_id}/keys",
            {"sandbox": True, "allow_basic": True},
            as_=Role.OWNER,
        )
        await reload(one)
        headers = {
            "Authorization": basic(made.json["data"]["key"]["key_id"], made.json["data"]["secret"].encode())
        }
        told = await ask(one.port, "POST", "/v1/messages", MESSAGE, headers)
        assert told.code == "Number.TestOnly"


SIGN_UP = {
    "company": "Peony",
    "name": "王芳",
    "email": "wang@peony.example",
    "password": "peonies bloom in may",
}


async def test_whoever_signs_up_owns_a_tenant_that_is_not_qualified(database: str) -> None:
    async with desk(database, master_key=MASTER) as one:
        await one.ask("PATCH", "/v1/policies", {"sign_up": "open"})
        told = await ask(one.port, "POST", "/v1/sign-up", SIGN_UP)
        assert told.status == 201, told.body
        await reload(one)
        asked = {"email": SIGN_UP["email"], "password": SIGN_UP["password"]}
        signed_in = await ask(one.port, "POST", "/v1/sign-in", asked)
        assert signed_in.status in (200, 201), signed_in.body
        cookie = signed_in.headers["set-cookie"].partition(";")[0]
        own = await ask(one.port, "GET", "/v1/tenant", headers={"Cookie": cookie})
        assert (own.json["data"]["name"], own.json["data"]["qualified"]) == ("Peony", False)
        for again, parameter in (
            (SIGN_UP | {"email": "b@peony.example"}, "company"),
            (SIGN_UP | {"company": "B"}, "email"),
        ):
            refused = await ask(one.port, "POST", "/v1/sign-up", again)
            assert refused.json["detail"]["parameter"] == parameter
        assert len(await one.fetch("SELECT id FROM tenant WHERE name IN ('Peony', 'B')")) == 1


async def test_where_sign_up_is_closed_nobody_comes_by_himself(database: str) -> None:
    async with desk(database, master_key=MASTER) as one:
        told = await ask(one.port, "POST", "/v1/sign-up", SIGN_UP)
        assert told.code == "Auth.PermissionDenied"
        assert await one.fetch("SELECT id FROM tenant WHERE name = 'Peony'") == []


async def test_sign_ups_are_throttled_as_sign_ins_are(database: str) -> None:
    async with desk(database, master_key=MASTER) as one:
        await one.ask("PATCH", "/v1/policies", {"sign_up": "open"})
        bad = SIGN_UP | {"password": "password1234"}
        codes = [(await ask(one.port, "POST", "/v1/sign-up", bad)).code for _ in range(7)]
        assert codes[-1] == "Auth.TooManyAttempts"


async def test_policies_are_changed_by_operators_alone(database: str) -> None:
    async with desk(database) as one:
        for who in (Role.REVIEWER, Role.OWNER, KEY):
            told = await one.ask("PATCH", "/v1/policies", {"sign_up": "open"}, as_=who)
            assert told.code == "Auth.PermissionDenied"
        told = await one.ask("PATCH", "/v1/policies", {"four_eyes": ["signature"]})
        assert told.json["data"] == {"sign_up": "closed", "review_automatic": [], "four_eyes": ["signature"]}
        assert (await one.ask("PATCH", "/v1/policies", {"four_eyes": ["fun"]})).status == 400


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
async def test_a_key_that_ends_at_the_end_of_time_is_refused(database: str, moment: str) -> None:
    async with desk(database) as one:
        made = await one.ask("POST", f"/v1/apps/{one.world.app_id}/keys", {"expires_at": moment})
        assert (made.status, made.json["detail"]["parameter"]) == (400, "expires_at")


async def test_nobody_gets_hold_of_a_key_that_may_more_than_he(database: str) -> None:
    async with desk(database) as one:
        place = f"/v1/apps/{one.world.app_id}/keys"
        beyond = {"scopes": ["consents.write"]}
        assert (await one.ask("POST", place, beyond, as_=Role.DEVELOPER)).status == 403
        own = await one.ask("POST", place, {}, as_=Role.DEVELOPER)
        assert own.status == 201
        key = f"/v1/keys/{own.json['data']['key']['key_id']}"
        assert (await one.ask("PATCH", key, beyond, as_=Role.DEVELOPER)).status == 403
        assert (await one.ask("PATCH", key, {"name": "shop"}, as_=Role.DEVELOPER)).status == 200
        assert (await one.ask("POST", f"{key}/rotate", {}, as_=Role.DEVELOPER)).status == 201
        assert (await one.ask("PATCH", key, beyond, as_=Role.OWNER)).status == 200
        assert (await one.ask("POST", f"{key}/rotate", {}, as_=Role.DEVELOPER)).status == 403
        assert (await one.ask("POST", f"{key}/rotate", {}, as_=FOREIGN)).status == 404


async def test_consents_are_demanded_of_a_tenants_lists_and_not_any_more(database: str) -> None:
    async with desk(database, master_key=MASTER) as one:
        made = await one.ask("POST", "/v1/tenants", {"name": "Peony", "consent_demanded": True})
        assert made.json["data"]["consent_demanded"] is True
        place = f"/v1/tenants/{made.json['data']['id']}"
        assert (await one.ask("PATCH", place, {"weight": 2})).json["data"]["consent_demanded"] is True
        changed = await one.ask("PATCH", place, {"consent_demanded": False})
        assert changed.json["data"]["consent_demanded"] is False
        assert (await one.ask("PATCH", place, {"consent_demanded": "no"})).status == 400
        (newest, *_) = (await one.ask("GET", f"{place}/history")).json["data"]["items"]
        assert newest["reason"] == "consent_demanded"
