"""Pushes of HTTP providers: stored before they are answered, taken only at the address that was given out."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import pytest
import structlog
from structlog.testing import LogCapture

import make
from channels.providers import Provider, Reply
from doors.counter import Served, ask, served
from hongyan import db
from hongyan.channels import aliyun, tencent, twilio
from hongyan.doors import door, hot, upstream
from hongyan.doors.upstream import path_of
from hongyan.vault import Vault
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import ChannelId, Status
from hongyan.way.inbound import WAITING_MAX
from install import NOTICE, SIGNATURE, Laid, installed, until
from plane import severable

NUMBER: Final = "13800138000"
BIZ_ID: Final = "9006^0"
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
PUSH_URL: Final = "https://sms.example.com/upstream/twilio/word"
ACCOUNTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "aliyun": {"access_key_id": "LTAI", "access_key_secret": "s3cret"},
    "tencent": {"secret_id": "AKID", "secret_key": "s3cret", "sdk_app_id": "1400006666"},
    "twilio": {"account_sid": "AC1", "auth_token": "12345", "push_url": PUSH_URL},
    "custom_http": {
        "url": "https://sms.example/send",
        "push_form": "form",
        "push_id_path": "id",
        "push_status_path": "status",
    },
}
DELIVERED: Final = {"biz_id": BIZ_ID, "phone_number": NUMBER, "success": True, "err_code": "DELIVERED"}
TEXTED: Final = {"phone_number": NUMBER, "content": "好的", "dest_code": "10690001"}


# Somebody waits for a row that another transaction holds.
WAITS_SQL: Final = """
SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def add(world: make.World, kind: str, **columns: Any) -> ChannelId:
    async with world.database.transaction() as tx:
        values = {"name": kind, "kind": kind} | columns
        return await make.channel(tx, world.vault, config=ACCOUNTS[kind], **values)


@pytest.fixture
async def channel_id(world: make.World) -> ChannelId:
    return await add(world, "aliyun")


@pytest.fixture
async def path(world: make.World, channel_id: ChannelId) -> str:
    return path_of(world.vault, channel_id, "aliyun")


@pytest.fixture
async def taking(world: make.World, path: str) -> AsyncIterator[Served]:
    """A door that takes pushes, once a channel is there."""
    assert path
    async with served(world, pushes=True) as one:
        yield one


async def taken(world: make.World, channel_id: ChannelId, upstream_id: str = BIZ_ID, **columns: Any) -> Any:
    """Lay a message that its provider has taken."""
    async with world.database.transaction() as tx:
        message_id = await make.message(tx, world, **columns)
        await make.submitted(tx, world, message_id, channel_id=channel_id, upstream_id=upstream_id)
    return message_id


@dataclass(frozen=True, slots=True)
class Lost:
    """A way to the database of its own, and what opens it."""

    database: db.Database
    vault: Vault


async def status_of(world: make.World, message_id: Any) -> Status:
    (row,) = await world.database.fetch("SELECT status FROM message WHERE id = $1", message_id)
    return next(status for status in Status if status.number == row["status"])


# ---- what is told


async def test_a_push_is_answered_only_after_it_is_stored(
    world: make.World, taking: Served, channel_id: ChannelId, path: str
) -> None:
    message_id = await taken(world, channel_id)
    async with asyncio.TaskGroup() as tasks:
        async with world.database.transaction() as tx:
            await tx.execute("SELECT FROM submitted WHERE message_id = $1 FOR UPDATE", message_id)
            asking = tasks.create_task(ask(taking.port, "POST", path, [DELIVERED]))
            async with asyncio.timeout(20):
                while not await world.database.fetch(WAITS_SQL):
                    await asyncio.sleep(0.01)
            assert not asking.done()
        assert (await asking).status == 200
    assert await status_of(world, message_id) is Status.DELIVERED


async def test_a_push_is_answered_as_its_provider_wants_and_brings_reports_and_texts(
    world: make.World, taking: Served, channel_id: ChannelId, path: str
) -> None:
    message_id = await taken(world, channel_id)
    reply = await ask(taking.port, "POST", path, [DELIVERED, TEXTED])
    assert (reply.status, reply.body) == (200, aliyun.PUSH_ANSWER)
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert await status_of(world, message_id) is Status.DELIVERED
    (notice,) = await world.database.fetch("SELECT * FROM notice WHERE message_id = $1", message_id)
    assert (notice["status"], notice["code"]) == (Status.DELIVERED.number, "DELIVERED")
    (text,) = await world.database.fetch("SELECT * FROM inbound")
    assert (text["channel_id"], text["access_number"]) == (channel_id, "10690001")
    assert text["phone_index"] == world.vault.phone_index(f"+86{NUMBER}")


async def test_a_provider_that_takes_a_text_whole_reports_on_all_of_its_parts(
    world: make.World, taking: Served, channel_id: ChannelId, path: str
) -> None:
    message_id = await taken(world, channel_id, parts=3)
    failed = DELIVERED | {"success": False, "err_code": "MK:0001"}
    assert (await ask(taking.port, "POST", path, [failed])).status == 200
    (row,) = await world.database.fetch("SELECT * FROM message WHERE id = $1", message_id)
    assert (row["status"], row["pending"], row["code"]) == (Status.UNDELIVERED.number, 0, "MK:0001")
    assert row["cause"] != Cause.NONE.number


async def test_a_push_that_comes_twice_owes_one_notice(
    world: make.World, taking: Served, channel_id: ChannelId, path: str
) -> None:
    message_id = await taken(world, channel_id)
    for _ in range(2):
        assert (await ask(taking.port, "POST", path, [DELIVERED, DELIVERED, TEXTED])).status == 200
    assert await status_of(world, message_id) is Status.DELIVERED
    assert len(await world.database.fetch("SELECT FROM notice WHERE message_id = $1", message_id)) == 1
    assert len(await world.database.fetch("SELECT FROM inbound")) == 1


async def test_a_push_that_overtakes_the_ack_is_kept(world: make.World, taking: Served, path: str) -> None:
    assert (await ask(taking.port, "POST", path, [DELIVERED])).status == 200
    (early,) = await world.database.fetch("SELECT * FROM early_report")
    assert (early["upstream_id"], early["code"]) == (BIZ_ID, "DELIVERED")


async def test_a_push_that_settles_nothing_is_answered_all_the_same(taking: Served, path: str) -> None:
    pending = {"biz_id": BIZ_ID, "success": True, "err_code": "REQUEST_SUCCESS"}
    review = {"template_status": "approved", "template_code": "SMS_1"}
    assert (await ask(taking.port, "POST", path, [pending, review])).body == aliyun.PUSH_ANSWER
    assert (await ask(taking.port, "POST", path, [])).status == 200


async def test_a_push_may_be_a_get(world: make.World, taking: Served) -> None:
    channel_id = await add(world, "custom_http", name="我的 one")
    await taking.keeper.load()
    message_id = await taken(world, channel_id, "77")
    path = path_of(world.vault, channel_id, "我的 one")
    reply = await ask(taking.port, "GET", f"{path}?id=77&status=DELIVRD")
    assert (reply.status, reply.body) == (200, b"OK")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert await status_of(world, message_id) is Status.DELIVERED


async def test_pushes_reach_a_channel_that_is_paused(world: make.World, taking: Served) -> None:
    channel_id = await add(world, "tencent", paused=True)
    await taking.keeper.load()
    message_id = await taken(world, channel_id, "2019:1")
    told = [{"sid": "2019:1", "mobile": NUMBER, "report_status": "SUCCESS", "errmsg": "DELIVRD"}]
    reply = await ask(taking.port, "POST", path_of(world.vault, channel_id, "tencent"), told)
    assert reply.body == tencent.PUSH_ANSWER
    assert await status_of(world, message_id) is Status.DELIVERED


# ---- what is not taken


async def test_a_wrong_word_and_a_channel_that_is_not_there_look_alike(
    world: make.World, taking: Served, channel_id: ChannelId, path: str
) -> None:
    message_id = await taken(world, channel_id)
    start, word = path.rsplit("/", 1)
    nobody = path_of(world.vault, ChannelId(0), "nobody")
    replies = [
        await ask(taking.port, "POST", target, [DELIVERED])
        for target in (f"{start}/{'0' * len(word)}", f"{start}/%FF", f"/upstream/nobody/{word}", nobody)
    ]
    assert {(reply.status, reply.body) for reply in replies} == {(404, b"")}
    assert await status_of(world, message_id) is Status.ACCEPTED


async def test_a_channel_nobody_pushes_to_takes_nothing(world: make.World, taking: Served) -> None:
    async with world.database.transaction() as tx:
        channel_id = await make.channel(tx, world.vault, kind="loopback", name="sandbox")
    await taking.keeper.load()
    path = path_of(world.vault, channel_id, "sandbox")
    assert (await ask(taking.port, "POST", path, [DELIVERED])).status == 404


async def test_a_push_with_a_forged_signature_is_refused(world: make.World, taking: Served) -> None:
    channel_id = await add(world, "twilio")
    await taking.keeper.load()
    message_id = await taken(world, channel_id, "SM1")
    path = path_of(world.vault, channel_id, "twilio")
    told = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": f"+86{NUMBER}"}
    body = urlencode(told).encode()
    for token, status in (("54321", 403), ("12345", 200)):
        signed = {"X-Twilio-Signature": twilio.signature(token, PUSH_URL, list(told.items()))}
        reply = await ask(taking.port, "POST", path, body, FORM | signed)
        assert reply.status == status
        became = Status.DELIVERED if status == 200 else Status.ACCEPTED
        assert await status_of(world, message_id) is became
    assert (reply.body, reply.headers["content-type"]) == (twilio.PUSH_ANSWER, "text/xml; charset=utf-8")


@pytest.mark.parametrize("body", [b"", b"{", b'[{"colour": "red"}]', b"\xff"])
async def test_a_push_that_cannot_be_read_is_refused(taking: Served, path: str, body: bytes) -> None:
    assert (await ask(taking.port, "POST", path, body)).status == 400


async def test_a_push_is_no_larger_than_a_request_may_be(taking: Served, path: str) -> None:
    reply = await ask(taking.port, "POST", path, b"[" + b" " * taking.door.settings.body_octets_max)
    assert reply.status == 413


async def test_a_channel_whose_settings_no_longer_fit_has_its_pushes_come_again(
    world: make.World, taking: Served, channel_id: ChannelId, path: str
) -> None:
    async with world.database.transaction() as tx:
        other = await make.channel(tx, world.vault, name="old", kind="aliyun", config={"key": "of long ago"})
    await taking.keeper.load()
    assert (await ask(taking.port, "POST", path_of(world.vault, other, "old"), [DELIVERED])).status == 503
    message_id = await taken(world, channel_id)
    assert (await ask(taking.port, "POST", path, [DELIVERED])).status == 200
    assert await status_of(world, message_id) is Status.DELIVERED


# ---- what cannot be stored


async def test_a_push_is_not_taken_while_the_database_is_away_and_owes_one_notice_when_it_comes_again(
    world: make.World, channel_id: ChannelId, path: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "STORE_WAIT_S", 0.3)
    message_id = await taken(world, channel_id)
    async with severable(database) as way:
        away = await db.connect(way.dsn, make.SETTINGS)
        try:
            async with served(Lost(away, world.vault), pushes=True) as taking:
                await way.cut()
                assert (await ask(taking.port, "POST", path, [DELIVERED, TEXTED])).status == 503
                assert await status_of(world, message_id) is Status.ACCEPTED
                await way.mend()
                async with asyncio.timeout(20):
                    while (await ask(taking.port, "POST", path, [DELIVERED, TEXTED])).status != 200:
                        pass
        finally:
            await away.close()
    assert await status_of(world, message_id) is Status.DELIVERED
    assert len(await world.database.fetch("SELECT FROM notice WHERE message_id = $1", message_id)) == 1
    assert len(await world.database.fetch("SELECT FROM inbound")) == 1


async def test_more_than_memory_may_hold_is_not_taken(
    world: make.World, taking: Served, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "REPORTS_WAITING_MAX", 1)
    assert (await ask(taking.port, "POST", path, [DELIVERED, DELIVERED])).status == 503
    texts = [TEXTED | {"content": str(place)} for place in range(WAITING_MAX + 1)]
    assert (await ask(taking.port, "POST", path, texts)).status == 503
    assert await world.database.fetch("SELECT FROM early_report UNION ALL SELECT FROM inbound") == []
    assert (await ask(taking.port, "POST", path, [DELIVERED, TEXTED])).status == 200


# ---- what is said about it


async def test_the_word_in_an_address_is_never_logged(
    taking: Served, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = LogCapture()
    for module in (door, hot, upstream):  # whose own loggers may be another test's by now
        monkeypatch.setattr(module, "log", structlog.wrap_logger(None, processors=[logged]))
    word = path.rsplit("/", 1)[1]
    too_long = b"[" + b" " * taking.door.settings.body_octets_max
    for method, target, body in (
        ("DELETE", path, b""),
        ("POST", path, b"{"),
        ("POST", path, too_long),
        ("POST", f"{path}/more", b""),
        ("POST", f"/v1{path}", b""),
        ("POST", path.replace("upstream", "%75pstream") + "/", b""),
        ("DELETE", path.replace("upstream", "%75pstream"), b""),
        ("POST", path.replace("aliyun", "nobody"), b""),
    ):
        await ask(taking.port, method, target, body)
    assert {line["event"] for line in logged.entries} == {"door.refused", "upstream.bad_push"}
    assert {line["path"] for line in logged.entries if "path" in line} == {"/upstream/***"}
    assert word not in f"{logged.entries}"
    assert taking.server.config.access_log is False  # uvicorn's own, which would have the whole address


# ---- a whole install


async def test_a_message_by_a_provider_is_told_to_the_program_once_the_provider_has_pushed() -> None:
    """The door's process hears the push, another one sent the message, and a third tells the program."""
    taken_by = Provider(lambda _: Reply({"Code": "OK", "BizId": BIZ_ID}))
    async with (
        taken_by as provider,
        installed(layout="door gateway clerk", channel_private_addresses="yes") as laid,
    ):
        command = laid.install.command
        filed = (f'templates={{"{NOTICE}": "SMS_1"}}', f'signatures={{"{SIGNATURE}": "鸿雁科技"}}')
        account = ("access_key_id=7", "access_key_secret=8", f"url={provider.url}")
        await command("channels", "add", "clouds", "aliyun", *account, *filed)
        await command("routes", "add", "clouds", "--priority", "1")
        address = await command("channels", "push-url", "clouds", "--base", "http://127.0.0.1")
        await until(lambda: is_held(laid), "no gateway has opened the channel")
        sent = await laid.caller.insist(NUMBER)
        await provider.until(lambda: len(provider.asked) == 1)
        assert provider.asked[0].query["TemplateParam"] == '{"order":"1"}'
        path = address.strip().splitlines()[-1].removeprefix("http://127.0.0.1")
        assert (await ask(laid.install.port, "POST", path, [DELIVERED])).body == aliyun.PUSH_ANSWER
        await laid.all_told([sent.message_id])
        assert laid.sink.told == {sent.message_id: ["delivered"]}
        assert laid.install.crashes() == []


async def is_held(laid: Laid) -> bool:
    """Whether a gateway holds both channels."""
    async with laid.install.database() as database:
        rows = await database.fetch("SELECT DISTINCT channel_id FROM session_lease WHERE until > now()")
    return len(rows) == 2
