"""Verifications looked up and searched, the funnel, and policies, over the API."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import msgspec

import make
from doors.management.desk import FOREIGN, KEY, Desk, desk
from hongyan import clock
from hongyan.control.permissions import Role
from hongyan.otp import funnel, ripen
from hongyan.otp.policy import Policy
from hongyan.otp.wish import Kept
from hongyan.vocab.message import Purpose, Status
from hongyan.vocab.verification import Level, Scene, State

OTHER = "+8613900139000"
LAY_SQL = """
INSERT INTO verification (tenant_id, id, app_id, scene, state, medium, sandbox, phone_index, sealed, pepper, guess_space, tries,
                          tries_max, country, operator, province, prefix, level, reference, message_ids, created_at,
                          expires_at, resend_at, ended_at)
VALUES ($1, $2, $3, $4, $5, 'sms', false, $6, $7, 1, 1e6, $8, 5, 'CN', 'cmcc', 'CN-BJ', '+861380013', 1, $9, $10,
        $11::timestamptz, $11::timestamptz + interval '5 minutes', $11::timestamptz + interval '1 minute', $12)
"""


async def lay(
    one: Desk,
    *,
    number: str = make.NUMBER,
    scene: Scene = Scene.LOGIN,
    state: State = State.PENDING,
    reference: str | None = None,
    asked: datetime | None = None,
    messages: int = 1,
    tries: int = 0,
) -> uuid.UUID:
    """Lay a verification with messages that arrived."""
    world, asked = one.world, asked or clock.now()
    kept = Kept(number, "", "T1", "", {"minutes": "5"}, "code", "1,299.00", "王小明", "", last_line=False)
    async with world.database.transaction() as tx:
        ids = [
            await make.message(
                tx, world, at=asked, number=number, status=Status.DELIVERED, purpose=Purpose.OTP,
                channel_id=world.channel_id,
            )
            for _ in range(messages)
        ]  # fmt: skip
        verification = make.message_id(asked)
        ended = None if state is State.PENDING else asked + timedelta(seconds=20)
        await tx.execute(
            LAY_SQL, world.tenant_id, verification, world.app_id, scene.number, state.number,
            world.vault.phone_index(number), world.vault.seal(world.tenant_id, msgspec.msgpack.encode(kept)),
            tries, reference, ids, asked, ended,
        )  # fmt: skip
    return verification


async def found(one: Desk, query: str = "", as_: Any = KEY) -> list[str]:
    reply = await one.ask("GET", f"/v1/verifications{query}", as_=as_)
    assert reply.status == 200, reply.body
    return [row["id"] for row in reply.json["data"]["items"]]


async def test_a_verification_tells_all_but_the_number_and_the_code(database: str) -> None:
    async with desk(database) as one:
        wanted = await lay(
            one, scene=Scene.PAY, state=State.APPROVED, messages=2, tries=2, reference="order-7"
        )
        for who in (KEY, Role.OWNER, Role.VIEWER):
            reply = await one.ask("GET", f"/v1/verifications/{wanted}", as_=who)
            told = reply.json["data"]
            assert (told["id"], told["to"], told["status"]) == (str(wanted), "+86138****8000", "approved")
            assert make.NUMBER[3:] not in reply.body.decode()
        assert (told["scene"], told["challenge"], told["tries"], told["tries_left"]) == ("pay", "work", 2, 0)
        assert (told["amount"], told["payee"], told["reference"]) == ("1,299.00", "王小明", "order-7")
        assert [message["status"] for message in told["messages"]] == ["delivered", "delivered"]
        assert told["messages"][0]["channel"].startswith("channel")
        assert not {"code", "mac", "sealed", "phone_index"} & told.keys()


async def test_what_is_not_there_and_what_is_anothers_are_the_same(database: str) -> None:
    async with desk(database) as one:
        wanted = await lay(one)
        bodies = set()
        for who, path in ((FOREIGN, str(wanted)), (KEY, str(uuid.uuid4())), (KEY, "nothing")):
            reply = await one.ask("GET", f"/v1/verifications/{path}", as_=who)
            bodies.add((reply.status, reply.code))
        assert bodies == {(404, "Verify.NotFound")}


async def test_what_is_over_is_told_so_before_the_clerk_comes_by(database: str) -> None:
    async with desk(database) as one:
        over = await lay(one, asked=clock.now() - timedelta(minutes=6))
        told = (await one.ask("GET", f"/v1/verifications/{over}", as_=KEY)).json["data"]
        assert (told["status"], told["tries_left"], told["ended_at"]) == ("expired", 0, told["expires_at"])
        assert await found(one, "?status=expired") == [str(over)]
        assert await found(one, "?status=pending") == []


async def test_a_search_finds_by_all_that_is_said(database: str) -> None:
    async with desk(database) as one:
        now = clock.now()
        first = await lay(one, asked=now - timedelta(hours=2), reference="a")
        second = await lay(one, number=OTHER, scene=Scene.RESET, state=State.APPROVED)
        old = await lay(one, asked=now - timedelta(days=9))
        assert await found(one) == [str(second), str(first)]
        assert await found(one, f"?number={OTHER}") == [str(second)]
        assert await found(one, f"?number=%2B{make.NUMBER[1:]}") == [str(first), str(old)]
        assert await found(one, "?scene=reset") == await found(one, "?status=approved") == [str(second)]
        assert await found(one, "?reference=a") == [str(first)]
        since = (now - timedelta(days=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
        until = (now - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert await found(one, f"?from={since}&to={until}") == [str(first), str(old)]
        assert await found(one, f"?app_id={one.world.app_id}") == [str(second), str(first)]
        assert await found(one, as_=FOREIGN) == []
        long_ago = await one.ask("GET", "/v1/verifications?from=2020-01-01T00:00:00Z", as_=KEY)
        assert (long_ago.status, long_ago.json["detail"]["parameter"]) == (400, "from")


async def test_pages_follow_each_other_without_gap_or_overlap(database: str) -> None:
    async with desk(database) as one:
        now = clock.now()
        laid = [str(await lay(one, asked=now - timedelta(seconds=n), messages=0)) for n in range(5)]
        seen, cursor = list[str](), ""
        for _ in range(3):
            reply = await one.ask("GET", f"/v1/verifications?limit=2{cursor}", as_=KEY)
            page = reply.json["data"]
            seen += [row["id"] for row in page["items"]]
            cursor = f"&cursor={page['next_cursor']}"
        assert (seen, page["next_cursor"]) == (laid, None)


async def test_the_funnel_is_a_tenants_own_and_the_platforms_whole(database: str) -> None:
    async with desk(database) as one:
        asked = clock.now() - timedelta(minutes=2)
        await lay(one, state=State.APPROVED, asked=asked, tries=1)
        await lay(one, number=OTHER, state=State.EXPIRED, asked=asked, messages=0)
        async with one.database.transaction() as tx:
            page = (one.world.tenant_id, one.world.app_id, Scene.LOGIN)
            await funnel.opened(tx, {page: 4}, asked.timestamp())
            await ripen.count(tx, one.world.vault, clock.now_s())
        for who in (KEY, Role.VIEWER, Role.OPERATOR):
            (row,) = (await one.ask("GET", "/v1/verifications/funnel", as_=who)).json["data"]["rows"]
            assert [row[step] for step in ("opened", "requested", "accepted", "delivered", "done")] == [
                4,
                2,
                1,
                1,
                1,
            ]
            assert (row["lost_before_requested"], row["lost_before_accepted"]) == (0.5, 0.5)
        assert (await one.ask("GET", "/v1/verifications/funnel", as_=FOREIGN)).json["data"]["rows"] == []
        query = "?by=hour&group=app,scene,country,operator,channel"
        rows = (await one.ask("GET", f"/v1/verifications/funnel{query}", as_=KEY)).json["data"]["rows"]
        assert {(row["country"], row["channel"]) for row in rows} == {
            ("", ""), ("CN", ""), ("CN", rows[-1]["channel"])
        }  # fmt: skip
        assert {row["scene"] for row in rows} == {"login"}
        assert await _refused(one, "?zone=Nowhere") == "zone"
        assert await _refused(one, "?from=2020-01-01T00:00:00Z") == "from"


async def test_a_tenant_sees_the_channels_of_its_codes_as_it_sees_those_of_its_messages(
    database: str,
) -> None:
    async with desk(database) as one:
        found = await lay(one, state=State.APPROVED, asked=clock.now() - timedelta(minutes=2))
        async with one.database.transaction() as tx:
            await make.tally(tx, one.world, status=Status.DELIVERED)
            await ripen.count(tx, one.world.vault, clock.now_s())
        story = (await one.ask("GET", f"/v1/verifications/{found}", as_=KEY)).json["data"]
        name = story["messages"][0]["channel"]
        assert name
        for who in (KEY, Role.OWNER, Role.VIEWER, Role.OPERATOR):
            for path in ("/v1/verifications/funnel", "/v1/statistics"):
                rows = (await one.ask("GET", f"{path}?by=none&group=channel", as_=who)).json["data"]["rows"]
                assert [row["channel"] for row in rows] == [name], (who, path)


async def _refused(one: Desk, query: str) -> str:
    reply = await one.ask("GET", f"/v1/verifications/funnel{query}", as_=KEY)
    assert reply.status == 400
    return str(reply.json["detail"]["parameter"])


# ---- policies


async def test_a_policy_is_checked_said_and_taken_back(database: str) -> None:
    async with desk(database) as one:
        checked = await one.ask(
            "POST", "/v1/verification-policies/check", {"policy": {"digits": 4}}, as_=Role.OWNER
        )
        weighed = checked.json["data"]
        assert (checked.status, weighed["careless"], weighed["per_code"]) == (200, True, 5e-4)
        assert {finding["name"] for finding in weighed["findings"]} == {"tries", "per_code", "per_year"}
        assert await one.fetch("SELECT 1 FROM audit WHERE action = 'checkVerificationPolicy'") == []
        put = await one.ask(
            "PUT", "/v1/verification-policies", {"scene": "pay", "policy": {"tries": 3}}, as_=Role.OWNER
        )
        rows = put.json["data"]["items"]
        assert [(row["scene"], row["said"], row["policy"]["tries"]) for row in rows] == [
            (None, False, 5),
            ("pay", True, 3),
        ]
        assert rows[1]["changed_by"].endswith("owner@example.com")
        (audited,) = await one.fetch(
            "SELECT subject, detail FROM audit WHERE action = 'putVerificationPolicy'"
        )
        assert audited["subject"] == "verification-policy:pay"
        back = {"scene": "pay", "policy": None}
        put = await one.ask("PUT", "/v1/verification-policies", back, as_=Role.OWNER)
        assert len(put.json["data"]["items"]) == 1


async def test_a_careless_policy_is_refused_with_the_reason(database: str) -> None:
    async with desk(database) as one:
        for said, name in (({"validity_s": 601}, "validity_s"), ({"digits": 4, "tries": 4}, "tries")):
            reply = await one.ask("PUT", "/v1/verification-policies", {"policy": said}, as_=Role.OWNER)
            assert (reply.status, reply.code) == (400, "Verify.Careless")
            assert reply.json["detail"][name]
        absent: dict[str, object] = {"template": "nothing", "media": ["pigeon"]}
        for name, value in absent.items():
            body = {"policy": {name: value}}
            reply = await one.ask("PUT", "/v1/verification-policies", body, as_=Role.OWNER)
            assert (reply.status, reply.json["detail"]["parameter"]) == (400, name)
        nonsense = await one.ask(
            "PUT", "/v1/verification-policies", {"policy": {"colour": 1}}, as_=Role.OWNER
        )
        assert (nonsense.status, nonsense.code) == (400, "Request.InvalidParameter")
        listed = await one.ask("GET", "/v1/verification-policies", as_=Role.OWNER)
        (row,) = listed.json["data"]["items"]
        assert msgspec.convert(row["policy"], Policy) == Policy()


def test_levels_have_the_words_that_answers_use() -> None:
    assert [level.name.lower() for level in Level] == ["nothing", "work", "slider", "refuse"]
