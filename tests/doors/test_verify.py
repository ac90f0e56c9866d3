"""Verifications through a real door into a real database: what the reference's closing list promises, by its numbers."""

import asyncio
import collections
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest

import make
from doors.counter import Reply, Served, ask, basic, served
from hongyan import clock
from hongyan.otp import meter
from hongyan.otp.issue import Issuer
from hongyan.vocab.message import Purpose

LOGIN = {"to": make.NUMBER, "scene": "login"}
PAY = {"to": make.NUMBER, "scene": "pay", "amount": "1,299.00", "payee": "王小明"}


@pytest.fixture
async def doors(world: make.World, key_id: str) -> AsyncIterator[list[Served]]:
    """Two doors on one database, as two processes are, and templates for codes and for payments."""
    assert key_id
    async with world.database.transaction() as tx:
        signature_id = await make.signature(tx, tenant_id=world.tenant_id)
        for code, body, purpose, variables in (
            (
                "code",
                "验证码为:${code},有效期${minutes}分钟",
                Purpose.OTP,
                {"code": "code", "minutes": "minutes"},
            ),
            (
                "pay",
                "您向${payee}付款${amount}元,验证码${code}",
                Purpose.TRANSACTIONAL,
                {"code": "code", "amount": "money", "payee": "name"},
            ),
        ):
            rules = msgspec.json.encode({name: {"kind": kind} for name, kind in variables.items()}).decode()
            await make.template(
                tx, tenant_id=world.tenant_id, code=code, body=body, purpose=purpose, variables=rules,
                signature_id=signature_id,
            )  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(served(world)) for _ in range(2)]


@pytest.fixture
async def relaxed(world: make.World) -> None:
    """No challenges: what is asked here is something else."""
    await policy(world, challenge="never")


async def policy(world: make.World, **fields: object) -> None:
    await world.database.execute(
        """INSERT INTO verify_policy (tenant_id, scene, policy, changed_by) VALUES ($1, '', $2, 'test')
           ON CONFLICT (tenant_id, scene) DO UPDATE SET policy = EXCLUDED.policy""",
        world.tenant_id,
        msgspec.json.encode(fields).decode(),
    )


class Caller:
    """An app's own server."""

    def __init__(self, world: make.World, doors: list[Served], key_id: str) -> None:
        self.world = world
        self._doors = doors
        self._headers = {"Authorization": basic(key_id)}
        self._turn = 0

    async def ask(self, path: str, body: Mapping[str, Any] | bytes = b"") -> Reply:
        """Ask one door after the other."""
        self._turn += 1
        return await ask(
            self._doors[self._turn % 2].port, "POST", f"/v1/verifications{path}", body, self._headers
        )

    async def start(self, body: Mapping[str, Any] = LOGIN) -> str:
        reply = await self.ask("", body)
        assert reply.status == 201, reply.body
        return str(reply.json["data"]["id"])

    async def check(self, verification: str, code: str, **more: object) -> dict[str, Any]:
        reply = await self.ask(f"/{verification}/check", {"code": code, **more})
        assert reply.status == 200, reply.body
        found: dict[str, Any] = reply.json["data"]
        return found

    async def code(self, verification: str) -> str:
        """What stands in the text message."""
        (row,) = await self.world.database.fetch(
            "SELECT code, tenant_id FROM verification WHERE id = $1", uuid.UUID(verification)
        )
        return self.world.vault.unseal(row["tenant_id"], row["code"]).decode()

    async def wrong(self, verification: str) -> str:
        code = await self.code(verification)
        return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}d}"


@pytest.fixture
async def caller(world: make.World, doors: list[Served], key_id: str) -> Caller:
    for one in doors:
        await one.door.book.load()
    return Caller(world, doors, key_id)


@pytest.fixture
async def caller_relaxed(world: make.World, doors: list[Served], key_id: str, relaxed: None) -> Caller:
    assert relaxed is None
    for one in doors:
        await one.door.book.load()
    return Caller(world, doors, key_id)


async def move(world: make.World, seconds: float) -> None:
    """Let so much time pass for what is stored."""
    await world.database.execute(
        """UPDATE verification SET created_at = created_at - $1 * interval '1 second',
                  expires_at = expires_at - $1 * interval '1 second', resend_at = resend_at - $1 * interval '1 second'""",
        seconds,
    )
    await world.database.execute(
        "UPDATE otp_limit SET hits = ARRAY(SELECT h - $1 FROM unnest(hits) AS h)", int(seconds * 1_000)
    )


async def test_an_app_needs_two_calls_and_stores_nothing(caller: Caller) -> None:
    reply = await caller.ask("", LOGIN | {"reference": "visit-1"})
    started = reply.json["data"]
    assert (reply.status, started["status"], started["to"], started["reference"]) == (
        201, "pending", "+86138****8000", "visit-1",
    )  # fmt: skip
    code = await caller.code(started["id"])
    assert code not in reply.body.decode()
    checked = await caller.check(started["id"], code)
    assert (checked["valid"], checked["status"]) == (True, "approved")
    proved = await caller.ask("/redeem", {"proof": checked["proof"]})
    assert (proved.json["data"]["to"], proved.json["data"]["scene"]) == (make.NUMBER, "login")
    again = await caller.ask("/redeem", {"proof": checked["proof"]})
    assert (again.status, again.code) == (400, "Verify.ProofInvalid")


async def test_the_text_has_the_code_and_how_long_it_is_valid(caller: Caller) -> None:
    verification = await caller.start()
    (row,) = await caller.world.database.fetch("SELECT tenant_id, sealed FROM message")
    text = msgspec.msgpack.decode(caller.world.vault.unseal(row["tenant_id"], row["sealed"]))[1]
    assert text.endswith(f"验证码为:{await caller.code(verification)},有效期5分钟")


async def test_2_of_200_wrong_codes_at_once_at_two_doors_exactly_5_are_compared(
    caller: Caller,
) -> None:
    verification = await caller.start()
    code, wrong = await caller.code(verification), await caller.wrong(verification)
    answers = await asyncio.gather(*(caller.check(verification, wrong) for _ in range(200)))
    reasons = collections.Counter(answer["reason"] for answer in answers)
    assert reasons == {"wrong": 5, "tries": 195}
    assert not any(answer["valid"] for answer in answers)
    late = await caller.check(verification, code)
    assert (late["valid"], late["status"]) == (False, "max_attempts_reached")
    (row,) = await caller.world.database.fetch("SELECT tries, code, mac FROM verification")
    assert (row["tries"], row["code"], row["mac"]) == (5, None, None)


async def test_4_of_100_right_answers_at_once_exactly_one_succeeds(caller: Caller) -> None:
    verification = await caller.start()
    code = await caller.code(verification)
    answers = await asyncio.gather(*(caller.check(verification, code) for _ in range(100)))
    assert sum(answer["valid"] for answer in answers) == 1
    assert {answer.get("reason") for answer in answers} <= {None, "used"}
    assert len({answer["proof"] for answer in answers if answer["valid"]}) == 1


@pytest.mark.parametrize(
    "said", [{"scene": "register"}, {"to": "+8613900139000"}, {"amount": "1.00", "payee": "王小明"}]
)
async def test_5_a_code_is_none_for_another_scene_number_or_payment(
    caller: Caller, said: Mapping[str, str]
) -> None:
    verification = await caller.start()
    code = await caller.code(verification)
    assert (await caller.check(verification, code, **said))["reason"] == "wrong"
    assert (await caller.check(verification, code, to=make.NUMBER, scene="login"))["valid"]


async def test_5_a_code_is_none_of_another_verification(caller_relaxed: Caller) -> None:
    first = await caller_relaxed.start()
    code = await caller_relaxed.code(first)
    other = await caller_relaxed.start(LOGIN | {"to": "13900139000"})
    while await caller_relaxed.code(other) == code:  # one in a million
        await move(caller_relaxed.world, 61)
        other = await caller_relaxed.start(LOGIN | {"to": "13900139000"})
    assert not (await caller_relaxed.check(other, code))["valid"]


async def test_5_a_code_of_a_payment_is_none_for_another_amount_or_payee(caller: Caller) -> None:
    verification = await caller.start(PAY)
    code = await caller.code(verification)
    for amount, payee in (("1,299.01", "王小明"), ("1,299.00", "李小明"), ("", "")):
        assert not (await caller.check(verification, code, amount=amount, payee=payee))["valid"]
    checked = await caller.check(verification, code, amount="1,299.00", payee="王小明")
    proved = await caller.ask("/redeem", {"proof": checked["proof"]})
    assert (proved.json["data"]["amount"], proved.json["data"]["payee"]) == ("1,299.00", "王小明")
    (row,) = await caller.world.database.fetch("SELECT tenant_id, sealed FROM message")
    text = msgspec.msgpack.decode(caller.world.vault.unseal(row["tenant_id"], row["sealed"]))[1]
    assert "您向王小明付款1,299.00元" in text


async def test_3_a_number_that_fails_again_and_again_waits_for_its_next_code_and_never_for_the_check(
    caller_relaxed: Caller,
) -> None:
    caller = caller_relaxed
    for _ in range(2):
        verification = await caller.start()
        wrong = await caller.wrong(verification)
        for _ in range(5):
            await caller.check(verification, wrong)
        await move(caller.world, 61)
    # Ten in a row, the last more than 30 s ago. Two further ones make the wait a two minutes' one.
    verification = await caller.start()
    for _ in range(2):
        await caller.check(verification, await caller.wrong(verification))
    await move(caller.world, 61)
    refused = await caller.ask("", LOGIN)
    assert (refused.status, refused.code, refused.json["detail"]["limit"]) == (
        429, "Verify.TooManySends", "failures",
    )  # fmt: skip
    assert 30 <= int(refused.headers["retry-after"]) <= 60
    assert (await caller.check(verification, await caller.code(verification)))["valid"]
    assert (await caller.ask("", LOGIN)).status == 201  # a right code begins the count anew


async def test_3_after_50_wrong_codes_in_30_days_another_factor_is_required(caller: Caller) -> None:
    verification = await caller.start()
    await caller.check(verification, await caller.wrong(verification))
    await caller.world.database.execute(
        "UPDATE otp_limit SET hits = array_fill(hits[1], ARRAY[50]), failures = 0 WHERE failures > 0"
    )
    refused = await caller.ask("", LOGIN | {"scene": "reset"})
    assert (refused.status, refused.code) == (403, "Verify.FactorRequired")
    assert (await caller.check(verification, await caller.code(verification)))["valid"]


async def test_6_a_code_lives_for_300_seconds(caller: Caller) -> None:
    verification = await caller.start()
    code = await caller.code(verification)
    await move(caller.world, 290)
    assert (await caller.check(verification, await caller.wrong(verification)))["reason"] == "wrong"
    await move(caller.world, 10.5)
    late = await caller.check(verification, code)
    assert (late["valid"], late["reason"]) == (False, "expired")


async def test_8_codes_with_leading_zeros_work(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.randbelow", lambda _most: 42)
    verification = await caller.start()
    assert (await caller.check(verification, "000042"))["valid"]


async def test_10_sends_beyond_the_limits_are_refused_and_the_code_before_is_still_good(
    caller_relaxed: Caller,
) -> None:
    caller = caller_relaxed
    ids = [await caller.start()]
    within = await caller.ask("", LOGIN)
    assert (within.status, within.json["detail"]["limit"]) == (429, "number_minute")
    assert 1 <= int(within.headers["retry-after"]) <= 60
    assert within.json["detail"]["verification_id"] == ids[0]
    for _ in range(4):
        await move(caller.world, 61)
        ids.append(await caller.start())
    await move(caller.world, 61)
    sixth = await caller.ask("", LOGIN)
    assert (sixth.status, sixth.json["detail"]["limit"]) == (429, "number_hour")
    await move(caller.world, 3_600 - 6 * 61)
    for _ in range(5):
        await move(caller.world, 61)
        ids.append(await caller.start())
    await move(caller.world, 3_601)
    eleventh = await caller.ask("", LOGIN)
    assert (eleventh.status, eleventh.json["detail"]["limit"]) == (429, "number_day")
    await move(caller.world, -3_601)
    assert (await caller.check(ids[-1], await caller.code(ids[-1])))["valid"]


async def test_a_code_is_sent_again_with_its_life_and_tries_as_they_are(caller_relaxed: Caller) -> None:
    caller = caller_relaxed
    verification = await caller.start()
    code = await caller.code(verification)
    await caller.check(verification, await caller.wrong(verification))
    early = await caller.ask(f"/{verification}/resend")
    assert (early.status, early.code, early.json["detail"]["limit"]) == (429, "Verify.TooManySends", "resend")
    await move(caller.world, 61)
    again = (await caller.ask(f"/{verification}/resend")).json["data"]
    assert (again["tries_left"], again["sends_left"]) == (4, 3)
    assert await caller.code(verification) == code
    texts = await caller.world.database.fetch("SELECT tenant_id, sealed FROM message ORDER BY id")
    unsealed = [caller.world.vault.unseal(row["tenant_id"], row["sealed"]) for row in texts]
    assert len(unsealed) == 2
    assert all(code.encode() in text for text in unsealed)
    await move(caller.world, 240)
    assert (await caller.check(verification, code))["reason"] == "expired"


async def test_a_new_code_leaves_the_one_before_alive_and_no_third_one(
    world: make.World, doors: list[Served], key_id: str
) -> None:
    await policy(world, challenge="never", resend="new", resend_after_s=[60], validity_s=600)
    for one in doors:
        await one.door.book.load()
    caller = Caller(world, doors, key_id)
    verification = await caller.start()
    made = [await caller.code(verification)]
    for _ in range(2):
        await move(world, 61)
        assert (await caller.ask(f"/{verification}/resend")).status == 200
        made.append(await caller.code(verification))
    assert len(set(made)) == 3
    assert (await caller.check(verification, made[0]))["reason"] == "wrong"
    assert (await caller.check(verification, made[1]))["valid"]


async def test_a_verification_that_was_taken_back_takes_no_code(caller: Caller) -> None:
    verification = await caller.start()
    code = await caller.code(verification)
    assert (await caller.ask(f"/{verification}/cancel")).json["data"]["status"] == "canceled"
    assert (await caller.check(verification, code))["reason"] == "canceled"
    again = await caller.ask(f"/{verification}/cancel")
    assert (again.status, again.code) == (409, "Verify.Ended")


async def test_a_second_code_for_a_stranger_asks_for_a_challenge_and_for_an_acquaintance_none(
    caller: Caller,
) -> None:
    verification = await caller.start()
    await move(caller.world, 61)
    refused = await caller.ask("", LOGIN)
    assert (refused.status, refused.code) == (403, "Verify.ChallengeRequired")
    assert refused.json["detail"]["reasons"] == ["number_soft"]
    await move(caller.world, -61)
    assert (await caller.check(verification, await caller.code(verification)))["valid"]
    await move(caller.world, 61)
    assert (await caller.ask("", LOGIN)).status == 201


async def test_while_codes_are_guessed_at_only_those_behind_a_challenge_are_compared(caller: Caller) -> None:
    verification = await caller.start()
    code = await caller.code(verification)
    async with caller.world.database.transaction() as tx:
        await meter.missed(tx, {caller.world.tenant_id: 0.02}, clock.now_s())
    assert (await caller.check(verification, code))["reason"] == "guessing"
    await caller.world.database.execute("UPDATE verification SET level = 1")
    assert (await caller.check(verification, code))["valid"]


async def test_while_codes_are_guessed_at_an_acquaintance_is_asked_for_the_challenge_that_his_code_needs(
    caller: Caller,
) -> None:
    verification = await caller.start()
    assert (await caller.check(verification, await caller.code(verification)))["valid"]
    async with caller.world.database.transaction() as tx:
        await meter.missed(tx, {caller.world.tenant_id: 0.02}, clock.now_s())
    await move(caller.world, 61)
    refused = await caller.ask("", LOGIN)
    assert (refused.status, refused.code) == (403, "Verify.ChallengeRequired")
    assert refused.json["detail"]["reasons"] == ["meter"]


async def test_a_message_that_is_refused_ends_its_verification(caller: Caller) -> None:
    world = caller.world
    async with world.database.transaction() as tx:
        await make.suppression(tx, world, kind=2)
    refused = await caller.ask("", LOGIN)
    assert (refused.status, refused.code) == (403, "Number.Blacklisted")
    (row,) = await world.database.fetch("SELECT state, code, mac FROM verification")
    assert (row["state"], row["code"], row["mac"]) == (5, None, None)


async def test_nobody_checks_or_sees_the_verification_of_another_app(
    caller: Caller, doors: list[Served]
) -> None:
    world = caller.world
    async with world.database.transaction() as tx:
        app_id = await make.app(tx, tenant_id=world.tenant_id)
        other = Caller(world, doors, await make.app_key(tx, world.vault, app_id=app_id))
    for one in doors:
        await one.keeper.load()
    verification = await caller.start()
    code = await caller.code(verification)
    assert (await other.check(verification, code))["reason"] == "not_found"
    assert (await other.ask(f"/{verification}/resend")).status == 404
    assert (await other.ask(f"/{verification}/cancel")).status == 404
    checked = await caller.check(verification, code)
    assert (await other.ask("/redeem", {"proof": checked["proof"]})).code == "Verify.ProofInvalid"
    assert (await caller.ask("/redeem", {"proof": checked["proof"]})).status == 200


async def test_a_sandbox_key_has_a_code_that_is_known_and_proves_nothing_to_another(
    world: make.World, caller: Caller, doors: list[Served]
) -> None:
    async with world.database.transaction() as tx:
        channel_id = await make.channel(tx, world.vault)
        await make.route_rule(tx, channel_id=channel_id)
        key_id = await make.app_key(tx, world.vault, app_id=world.app_id, sandbox=True)
    for one in doors:
        await one.keeper.load()
    sandbox = Caller(world, doors, key_id)
    verification = await sandbox.start(LOGIN | {"to": "+8619900000000"})
    assert (await caller.check(verification, "123456"))["reason"] == "not_found"
    for deed in ("resend", "cancel"):
        assert (await caller.ask(f"/{verification}/{deed}")).code == "Verify.NotFound"
    proof = (await sandbox.check(verification, "123456"))["proof"]
    assert (await caller.ask("/redeem", {"proof": proof})).code == "Verify.ProofInvalid"
    assert (await sandbox.ask("/redeem", {"proof": proof})).json["data"]["to"] == "+8619900000000"


@pytest.mark.parametrize("address", ["203.0.113.7:443", "203.0.113", "unknown", "a, b"])
async def test_what_is_no_address_is_refused_and_not_left_uncounted(caller: Caller, address: str) -> None:
    refused = await caller.ask("", LOGIN | {"ip": address})
    assert (refused.status, refused.code) == (400, "Request.InvalidParameter")
    assert refused.json["detail"]["parameter"] == "ip"
    verification = await caller.start(LOGIN | {"ip": "2001:db8::7"})
    assert (await caller.ask(f"/{verification}/resend", {"ip": address})).code == "Request.InvalidParameter"


async def test_an_id_that_never_was_is_answered_like_a_wrong_code(caller: Caller) -> None:
    for written in (str(uuid.uuid4()), "0" * 32):
        answer = await caller.check(written, "123456")
        assert (answer["valid"], answer["reason"]) == (False, "not_found")
    for written in ("nonsense", "-" * 32, "0" * 33):
        assert (await caller.ask(f"/{written}/check", {"code": "1"})).code == "Verify.NotFound"


async def test_a_forged_proof_is_none(caller: Caller, doors: list[Served]) -> None:
    verification = await caller.start()
    proof = (await caller.check(verification, await caller.code(verification)))["proof"]
    head, body, mac = proof.split(".")
    other = ("B" if mac[0] == "A" else "A") + mac[1:]
    for forged in (f"{head}.{body}.{other}", f"{head}.{body}.", "", f"..{mac}", f"{head}.e30.{mac}"):
        assert (await caller.ask("/redeem", {"proof": forged})).code == "Verify.ProofInvalid"
    assert isinstance(doors[0].door.issuer, Issuer)
    assert clock.now_s() > 0
