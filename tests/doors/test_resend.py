"""The same code once more by letter, through a real door and a real mail server: same code, same tries, counted, never lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

import make
from doors.counter import Served, ask, basic, served
from doors.shop import solved
from doors.test_verify import LOGIN, Caller, move, policy
from hongyan import clock
from hongyan.otp import challenge
from hongyan.otp.fallback import LEASE_S, NEXT_S, Fallback
from hongyan.otp.media import Media
from hongyan.settings import Settings
from hongyan.vocab.message import Purpose

ADDRESS = "robin@example.com"
BY_LETTER = {"medium": "email"}


class Box:
    """A mail server that keeps what it was given."""

    def __init__(self) -> None:
        self.came: list[tuple[str, str]] = []  # to whom, and what
        self.full = False
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.asked.set()
        await self.open.wait()
        if self.full:
            return "452 full"
        self.came.append((envelope.rcpt_tos[0], envelope.content.decode()))
        return "250 OK"


@dataclass
class Post:
    """An app's server, a door, and who delivers its letters at times of the test's."""

    caller: Caller
    door: Served
    box: Box
    settings: Settings
    now_s: float

    def deliverer(self) -> Fallback:
        door, world = self.door, self.caller.world
        acceptor: Any = door.door.acceptor
        media = Media(self.settings)
        return Fallback(
            world.database,
            door.keeper,
            door.door.book,
            world.vault,
            acceptor,
            media,
            self.settings,
            lambda: self.now_s,
        )

    async def deliver(self, after_s: float = 0.0) -> int:
        """Look at what is due so long after the test began."""
        self.now_s = clock.now_s() + after_s
        return await self.deliverer().round()

    async def started(self, **more: object) -> str:
        """Ask for a code a minute ago."""
        verification = await self.caller.start(LOGIN | more)
        await move(self.caller.world, 61)
        return verification

    async def row(self) -> Mapping[str, Any]:
        (row,) = await self.caller.world.database.fetch("SELECT * FROM verification")
        return dict(row)

    async def texts(self) -> int:
        return len(await self.caller.world.database.fetch("SELECT 1 FROM message"))


@contextlib.asynccontextmanager
async def posting(world: make.World, key_id: str, **said: object) -> AsyncIterator[Post]:
    """Open a door of a tenant with a template for codes, and a mail server."""
    await policy(world, **({"challenge": "never", "media": ["sms", "email"]} | said))
    async with world.database.transaction() as tx:
        await make.template(
            tx, tenant_id=world.tenant_id, code="code", body="验证码为:${code}", purpose=Purpose.OTP,
            variables='{"code": {"kind": "code"}}', signature_id=await make.signature(tx, tenant_id=world.tenant_id),
        )  # fmt: skip
    loop, box = asyncio.get_running_loop(), Box()
    server = await loop.create_server(lambda: SMTP(box, loop=loop), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = replace(make.SETTINGS, smtp_host="127.0.0.1", smtp_port=port, smtp_tls="never")
    async with served(world, settings=settings) as door:
        await door.door.book.load()
        yield Post(Caller(world, [door, door], key_id), door, box, settings, clock.now_s())
    server.close()


@pytest.fixture
async def post(world: make.World, key_id: str) -> AsyncIterator[Post]:
    async with posting(world, key_id) as opened:
        yield opened


async def test_a_code_goes_once_more_by_letter_with_its_life_and_tries_as_they_are(post: Post) -> None:
    caller = post.caller
    verification = await post.started(email=ADDRESS)
    code, before = await caller.code(verification), await post.row()
    await caller.check(verification, await caller.wrong(verification))
    again = await caller.ask(f"/{verification}/resend", BY_LETTER)
    told = again.json["data"]
    assert (again.status, told["medium"], told["message_id"]) == (200, "email", None)
    assert (told["tries_left"], told["sends_left"], told["digits"]) == (4, 3, 6)
    assert post.box.came == []  # it is written down before it leaves
    assert await post.deliver() == 1
    ((to, letter),) = post.box.came
    head, _, _ = letter.partition("\r\n\r\n")
    assert (to, code in head, await post.texts()) == (ADDRESS, False, 1)
    after = await post.row()
    for column in ("mac", "expires_at", "sealed", "tries_max"):
        assert after[column] == before[column]
    assert (after["medium"], after["sends"], after["owed"], after["fallback_at"]) == ("email", 2, False, None)
    assert await post.deliver(120) == 0
    assert (await caller.check(verification, code))["valid"]


async def test_a_letter_is_a_send_to_every_limit(post: Post) -> None:
    caller, database = post.caller, post.caller.world.database
    verification = await post.started(email=ADDRESS, device="robins")
    told = await caller.ask(f"/{verification}/resend", BY_LETTER | {"device": "robins"})
    assert told.json["data"]["left"] == {
        "number_minute": 0, "number_hour": 3, "number_day": 8, "number_everywhere_day": 38, "device_hour": 8,
    }  # fmt: skip
    (ward,) = await database.fetch("SELECT outstanding FROM ward WHERE prefix <> ''")
    (spent,) = await database.fetch("SELECT micro FROM code_spend WHERE country = ''")
    assert (ward["outstanding"], spent["micro"]) == (2, 90_000)
    early = await caller.ask(f"/{verification}/resend", BY_LETTER)
    assert (early.status, early.json["detail"]["limit"]) == (429, "resend")


async def test_a_letter_uses_up_the_sends_of_a_verification_and_waits_longer_each_time(
    world: make.World, key_id: str
) -> None:
    async with posting(world, key_id, sends=2) as post:
        verification = await post.started(email=ADDRESS)
        asked_s = clock.now_s()
        told = (await post.caller.ask(f"/{verification}/resend", BY_LETTER)).json["data"]
        row = await post.row()
        assert told["sends_left"] == 0
        assert asked_s + 119.9 < row["resend_at"].timestamp() < clock.now_s() + 120.1
        await move(world, 121)
        more = await post.caller.ask(f"/{verification}/resend", BY_LETTER)
        assert (more.status, more.json["detail"]["limit"]) == (429, "sends")


async def test_an_address_may_come_with_the_wish_and_is_kept_and_no_other_takes_its_place(post: Post) -> None:
    caller = post.caller
    verification = await post.started()
    none = await caller.ask(f"/{verification}/resend", BY_LETTER)
    assert (none.status, none.code, none.json["detail"]["parameter"]) == (
        400, "Request.MissingParameter", "email",
    )  # fmt: skip
    given = await caller.ask(f"/{verification}/resend", BY_LETTER | {"email": ADDRESS})
    assert given.status == 200
    row = await post.row()
    assert ADDRESS.encode() not in row["sealed"]
    await post.deliver()
    assert [to for to, _ in post.box.came] == [ADDRESS]
    await move(caller.world, 121)
    other = await caller.ask(f"/{verification}/resend", BY_LETTER | {"email": "mallory@example.com"})
    assert (other.status, other.json["detail"]["parameter"]) == (400, "email")
    assert (await caller.ask(f"/{verification}/resend", BY_LETTER)).status == 200
    await post.deliver(1)
    assert [to for to, _ in post.box.came] == [ADDRESS, ADDRESS]


@pytest.mark.parametrize("nasty", ["robin", "a@b\r\nBcc: c@d", "a@b,c@d", "a b@c", f"{'a' * 250}@b.c", 7])
async def test_what_is_no_address_is_refused(post: Post, nasty: object) -> None:
    verification = await post.started()
    reply = await post.caller.ask(f"/{verification}/resend", BY_LETTER | {"email": nasty})
    assert (reply.status, reply.code) == (400, "Request.InvalidParameter")
    assert (await post.row())["sends"] == 1


async def test_a_medium_that_reaches_nobody_is_refused_and_counts_as_nothing(
    world: make.World, key_id: str
) -> None:
    async with posting(world, key_id, media=["sms", "email", "voice"]) as post:
        verification, before = await post.started(email=ADDRESS), await post.row()
        hits = await world.database.fetch("SELECT hits FROM otp_limit ORDER BY key")
        async with served(world) as without:  # no mail server
            await without.door.book.load()
            for door, medium, why in (
                (without, "email", "no mail server is configured"),
                (post.door, "voice", "nobody configured it"),
                (post.door, "one_tap", None),
            ):
                reply = await ask(
                    door.port, "POST", f"/v1/verifications/{verification}/resend", {"medium": medium},
                    {"Authorization": basic(key_id)},
                )  # fmt: skip
                assert (reply.status, reply.code) == (400, "Verify.MediumDisabled")
                assert reply.json["detail"].get("reason") == why
        assert await post.row() == before
        assert await world.database.fetch("SELECT hits FROM otp_limit ORDER BY key") == hits


async def test_a_sandbox_key_sends_texts_alone(post: Post) -> None:
    world = post.caller.world
    async with world.database.transaction() as tx:
        await make.route_rule(tx, channel_id=await make.channel(tx, world.vault))
        key_id = await make.app_key(tx, world.vault, app_id=world.app_id, sandbox=True)
    await post.door.keeper.load()
    sandbox = Caller(world, [post.door, post.door], key_id)
    verification = await sandbox.start(LOGIN | {"to": "+8619900000000", "email": ADDRESS})
    await move(world, 61)
    reply = await sandbox.ask(f"/{verification}/resend", BY_LETTER)
    assert (reply.code, reply.json["detail"]["reason"]) == (
        "Verify.MediumDisabled", "keys of the sandbox get texts alone",
    )  # fmt: skip
    assert (await sandbox.ask(f"/{verification}/resend")).json["data"]["medium"] == "sms"


async def test_where_none_is_named_the_first_medium_that_reaches_the_person_is_used(
    world: make.World, key_id: str
) -> None:
    async with posting(world, key_id, media=["email", "sms"]) as post:
        verification = await post.started(medium="sms")
        reply = await post.caller.ask(f"/{verification}/resend")
        assert (reply.json["data"]["medium"], await post.texts()) == ("sms", 2)
        await move(world, 121)
        reply = await post.caller.ask(f"/{verification}/resend", {"email": ADDRESS})
        assert (reply.json["data"]["medium"], await post.texts()) == ("email", 2)


# ---- crashes, many doors, and what else is under way


async def test_a_letter_is_owed_until_the_mail_server_has_it(post: Post) -> None:
    verification = await post.started(email=ADDRESS)
    assert (await post.caller.ask(f"/{verification}/resend", BY_LETTER)).status == 200
    post.box.full = True
    assert await post.deliver() == 1
    first = await post.row()
    assert (first["owed"], first["sends"]) == (True, 2)
    # A door that had begun to hand it over, and died: nothing is known but what its commit said.
    await post.caller.world.database.execute(
        "UPDATE verification SET fallback_at = $1", clock.moment(clock.now_s() + LEASE_S)
    )
    post.box.full = False
    assert await post.deliver(LEASE_S - 5) == 0
    assert await post.deliver(LEASE_S + 1) == 1
    again = await post.row()
    assert len(post.box.came) == 1
    assert (again["message_ids"], again["owed"]) == (first["message_ids"], False)
    assert (await post.texts(), again["medium"]) == (1, "email")  # and no text in its place


async def test_many_doors_send_a_letter_once(post: Post) -> None:
    verification = await post.started(email=ADDRESS)
    assert (await post.caller.ask(f"/{verification}/resend", BY_LETTER)).status == 200
    post.now_s = clock.now_s() + 1
    assert sum(await asyncio.gather(*(post.deliverer().round() for _ in range(6)))) == 1
    assert len(post.box.came) == 1


async def test_a_letter_asked_for_while_another_is_handed_over_leaves_too(post: Post) -> None:
    caller = post.caller
    verification = await post.started(email=ADDRESS)
    await caller.ask(f"/{verification}/resend", BY_LETTER)
    await move(caller.world, 121)
    post.box.open.clear()
    async with asyncio.TaskGroup() as tasks:
        under_way = tasks.create_task(post.deliver())
        await post.box.asked.wait()
        assert (await caller.ask(f"/{verification}/resend", BY_LETTER)).status == 200
        post.box.open.set()
        await under_way
    assert (await post.row())["owed"]
    assert await post.deliver(1) == 1
    row = await post.row()
    assert (len(post.box.came), len(set(row["message_ids"])), row["owed"]) == (2, 3, False)


async def test_after_a_letter_asked_for_the_next_medium_follows_in_its_time(
    world: make.World, key_id: str
) -> None:
    async with posting(world, key_id, media=["email", "sms"]) as post:
        verification = await post.started(medium="sms", email=ADDRESS)
        await post.caller.ask(f"/{verification}/resend", BY_LETTER)
        await post.deliver()
        assert await post.deliver(NEXT_S - 5) == 0
        assert await post.deliver(NEXT_S + 5) == 1
        assert (await post.texts(), len(post.box.came)) == (2, 1)


async def test_a_new_code_by_letter_is_the_one_that_is_sealed(world: make.World, key_id: str) -> None:
    async with posting(world, key_id, resend="new", digits=6) as post:
        verification = await post.started(email=ADDRESS)
        before = await post.caller.code(verification)
        await post.caller.ask(f"/{verification}/resend", BY_LETTER)
        after = await post.caller.code(verification)
        await post.deliver()
        assert after != before
        assert (await post.caller.check(verification, after))["valid"]


async def test_nobody_has_another_apps_code_sent_by_letter(post: Post) -> None:
    world = post.caller.world
    verification = await post.started()
    async with world.database.transaction() as tx:
        app_id = await make.app(tx, tenant_id=world.tenant_id)
        other = Caller(world, [post.door, post.door], await make.app_key(tx, world.vault, app_id=app_id))
    await post.door.keeper.load()
    reply = await other.ask(f"/{verification}/resend", BY_LETTER | {"email": "mallory@example.com"})
    assert (reply.status, (await post.row())["medium"]) == (404, "sms")


# ---- why a challenge was asked


async def test_a_verification_says_why_challenges_were_asked_of_it(
    world: make.World, key_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenge, "WORK", 30)
    async with posting(world, key_id, challenge="when_needed") as post:
        caller, headers = post.caller, {"Authorization": basic(key_id)}

        async def told(verification: str) -> tuple[str, list[str]]:
            reply = await ask(post.door.port, "GET", f"/v1/verifications/{verification}", headers=headers)
            found = reply.json["data"]
            return found["challenge"], found["challenge_reasons"]

        free = await post.started()
        assert await told(free) == ("nothing", [])
        refused = await caller.ask("", LOGIN)
        detail = refused.json["detail"]
        assert (refused.code, detail["reasons"]) == ("Verify.ChallengeRequired", ["number_soft"])
        behind = await caller.start(LOGIN | {"challenge": solved(detail["challenge"])})
        assert await told(behind) == ("work", ["number_soft"])
        await move(world, 61)
        again = await caller.ask(f"/{free}/resend")
        answer = solved(again.json["detail"]["challenge"])
        assert (await caller.ask(f"/{free}/resend", {"challenge": answer})).status == 200
        assert await told(free) == ("work", ["number_soft"])
        (searched, *_) = (await ask(post.door.port, "GET", "/v1/verifications", headers=headers)).json[
            "data"
        ]["items"]
        assert searched["challenge_reasons"] == ["number_soft"]
