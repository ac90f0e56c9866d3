"""HTTP providers on the whole way: what they are sent, what their reports settle, and what goes elsewhere."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import msgspec
import pytest

import make
from channels.providers import QUICK as HTTP_QUICK
from channels.providers import Answered, Asked, Provider, Reply, Silence
from hongyan import clock
from hongyan.channels import kinds
from hongyan.channels.channel import Report
from hongyan.settings import Settings
from hongyan.simulator import behaviour
from hongyan.simulator.behaviour import Rule
from hongyan.simulator.server import Simulator
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import ChannelId, Purpose, Status
from hongyan.way import prune
from hongyan.way.accept import Accepted, Draft
from hongyan.way.answers import UNSURE_AGAIN_MAX
from plane import QUICK, Plane, awake, books_balance, plane

NUMBER: Final = "13800138000"
LONG: Final = "您的快递已到" + "门" * 140
PARTS: Final = 3
FILED: Final[dict[str, Any]] = {
    "templates": {"otp": "SMS_1", "transactional": "SMS_2", "promotional": "SMS_3"},
    "signatures": {"鸿雁": "鸿雁科技"},
}
ACCOUNTS: Final[dict[str, dict[str, Any]]] = {
    "aliyun": {"access_key_id": "LTAI", "access_key_secret": "s3cret", **FILED},
    "tencent": {
        "secret_id": "AKID",
        "secret_key": "s3cret",
        "sdk_app_id": "1400006666",
        "parameters": {"transactional": ["word"], "otp": ["code"], "promotional": ["word"]},
        **FILED,
    },
    "twilio": {"account_sid": "AC1", "auth_token": "s3cret"},
    "custom_http": {
        "body": {
            "to": "{number}",
            "tpl": "{template}",
            "sign": "{signature}",
            "values": "json:{values_json}",
            "from": "{sender}",
        },
        "by_template": True,
        "id_path": "id",
        "push_id_path": "id",
        "push_status_path": "status",
        **FILED,
    },
}
# What each asks for, in its own words, of a message in the plane's words.
ASKED: Final[dict[str, Mapping[str, Any]]] = {
    "aliyun": {
        "PhoneNumbers": NUMBER, "TemplateCode": "SMS_2", "SignName": "鸿雁科技", "TemplateParam": '{"word":"南门"}',
    },
    "tencent": {
        "PhoneNumberSet": [f"+86{NUMBER}"], "SmsSdkAppId": "1400006666", "TemplateId": "SMS_2", "SignName": "鸿雁科技",
        "TemplateParamSet": ["南门"],
    },
    "twilio": {"To": f"+86{NUMBER}", "Body": "【鸿雁】您的快递已到 南门", "From": "+8613900000000"},
    "custom_http": {
        "to": f"+86{NUMBER}", "tpl": "SMS_2", "sign": "鸿雁科技", "values": {"word": "南门"}, "from": "",
    },
}  # fmt: skip


def said(kind: str, asked: Asked) -> Mapping[str, Any]:
    """What a provider of the kind reads in a request to send."""
    match kind:
        case "aliyun":
            return asked.query
        case "twilio":
            return {name: value for name, value in asked.form.items() if name != "ValidityPeriod"}
        case _:
            words: Mapping[str, Any] = asked.json
            return words


class Service:
    """A provider of a kind that takes everything under one id, unless told otherwise, and knows what became of it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.sent: list[Mapping[str, Any]] = []
        self.instead: list[Answered] = []  # answers to the next requests to send
        self.became = True  # delivered

    def __call__(self, asked: Asked) -> Answered:
        if self.kind == "aliyun" and asked.headers["x-acs-action"] == "QuerySendDetails":
            each = {"SendStatus": 3 if self.became else 2, "ErrCode": self.word}
            return Reply({"Code": "OK", "SmsSendDetailDTOs": {"SmsSendDetailDTO": [each]}})
        if self.kind == "tencent" and asked.headers["x-tc-action"] != "SendSms":
            each = {
                "SerialNo": self.id_of(NUMBER), "ReportStatus": "SUCCESS" if self.became else "FAIL",
                "Description": self.word, "SubscriberNumber": NUMBER,
            }  # fmt: skip
            return Reply({"Response": {"PullSmsSendStatusSet": [each]}})
        if asked.method == "GET":
            status = "delivered" if self.became else "undelivered"
            code = None if self.became else 30005
            return Reply({"sid": self.id_of(NUMBER), "status": status, "error_code": code})
        self.sent.append(said(self.kind, asked))
        return self.instead.pop(0) if self.instead else self.taken(self.sent[-1])

    @property
    def word(self) -> str:
        """What became of it, as the service says it in pulls and pushes."""
        if self.kind == "twilio":
            return "delivered" if self.became else "undelivered/30005"
        return "DELIVRD" if self.became else "MK:0001"

    def id_of(self, number: str) -> str:
        return f"{self.kind}:{number[-4:]}"

    def taken(self, words: Mapping[str, Any]) -> Reply:
        match self.kind:
            case "aliyun":
                return Reply({"Code": "OK", "BizId": self.id_of(words["PhoneNumbers"])})
            case "tencent":
                numbers = words["PhoneNumberSet"]
                each = [{"PhoneNumber": n, "SerialNo": self.id_of(n), "Code": "Ok"} for n in numbers]
                return Reply({"Response": {"SendStatusSet": each}})
            case "twilio":
                return Reply({"sid": self.id_of(words["To"]), "status": "queued"}, 201)
            case _:
                return Reply({"id": self.id_of(words["to"])})


async def add(way: Plane, kind: str, url: str, *, priority: int = 0, **more: Any) -> ChannelId:
    """Add a channel of the kind to a plane that runs."""
    row = more.pop("row", {}) | {"kind": kind, "cost_micro": 30_000}
    row.setdefault("access_number", "8613900000000" if kind == "twilio" else "")
    config = {**HTTP_QUICK, **ACCOUNTS[kind], "url": url, **more}
    async with way.database.transaction() as tx:
        channel_id = await make.channel(tx, way.vault, config=config, **row)
        await make.route_rule(tx, channel_id=channel_id, priority=priority)
    way.keeper.stale()
    await way.holds(lambda: channel_id in way.keeper.current.channels)
    await way.gateway.lines.lease()  # not only at its next turn
    return channel_id


async def remove(way: Plane, channel_id: ChannelId) -> None:
    """Take a channel away again, and wait until it is closed: its provider goes next."""
    await way.database.execute("UPDATE channel SET active = false WHERE id = $1", channel_id)
    await way.keeper.load()
    await way.gateway.lines.lease()
    await way.holds(lambda: channel_id not in way.gateway.lines.open)


async def long(way: Plane) -> dict[str, Any]:
    """Add a template that makes a text of PARTS parts; returns how to send it."""
    async with way.database.transaction() as tx:
        await make.template(tx, tenant_id=way.tenant_id, code="long", body=LONG)
    await way.keeper.load()
    way.key = way.keeper.current.keys[way.key.key_id]
    return {"template": "long", "params": {}}


@asynccontextmanager
async def provided(
    database: str,
    kind: str,
    *simulators: Simulator,
    settings: Settings = QUICK,
    priority: int = -1,
    **more: Any,
) -> AsyncIterator[tuple[Plane, Service, ChannelId]]:
    """Run a plane with one channel to a service of the kind, tried before those to simulators unless said."""
    service = Service(kind)
    async with Provider(service) as provider, plane(database, *simulators, settings=settings) as way:
        await way.holds(lambda: hasattr(way.gateway.lines, "tasks"))
        channel_id = await add(way, kind, provider.url, priority=priority, **more)
        await way.up(1 + len(simulators))
        yield way, service, channel_id


def pushed(way: Plane, service: Service, channel_id: ChannelId, number: str = NUMBER) -> None:
    """Have the service push what became of the message, as a door would hand it on."""
    settings = msgspec.json.decode(way.keeper.current.channels[channel_id].config.reveal())
    channel = kinds.build(service.kind, settings)
    upstream_id = service.id_of(number)
    match service.kind:
        case "aliyun":
            told: Any = [
                {
                    "biz_id": upstream_id,
                    "phone_number": number,
                    "success": service.became,
                    "err_code": service.word,
                }
            ]
        case "tencent":
            status = "SUCCESS" if service.became else "FAIL"
            told = [{"sid": upstream_id, "mobile": number, "report_status": status, "errmsg": service.word}]
        case _:
            told = {"id": upstream_id, "status": service.word}
    push = channel.read_push({}, msgspec.json.encode(told))
    way.gateway.answers.reported(channel_id, push.reports)


# ---- one message, there and back


@pytest.mark.parametrize("kind", ["aliyun", "tencent", "custom_http"])
@pytest.mark.parametrize("became", [True, False], ids=["delivered", "undelivered"])
async def test_a_template_goes_out_in_the_providers_words_and_its_push_settles_it(
    database: str, kind: str, became: bool
) -> None:
    async with provided(database, kind) as (way, service, channel_id):
        service.became = became
        message_id = await way.send(NUMBER)
        await way.until("SELECT 1 FROM submitted WHERE upstream_id = $1", service.id_of(NUMBER))
        assert service.sent == [ASKED[kind]]
        pushed(way, service, channel_id)
        row = await way.final(message_id)
        assert (row["status"] == Status.DELIVERED.number, row["code"]) == (became, service.word)
        assert (row["cause"] == Cause.NONE.number) is became
        assert (row["channel_id"], row["cost_micro"]) == (channel_id, 30_000)
        await books_balance(way.database)


@pytest.mark.parametrize("kind", ["aliyun", "tencent", "twilio"])
@pytest.mark.parametrize("became", [True, False], ids=["delivered", "undelivered"])
async def test_a_provider_that_pushed_nothing_is_asked(database: str, kind: str, became: bool) -> None:
    settings = replace(QUICK, unsure_wait_s=0)
    async with provided(database, kind, settings=settings) as (way, service, channel_id):
        service.became = became
        row = await way.final(await way.send(NUMBER))
        assert service.sent == [ASKED[kind]]
        assert (row["status"] == Status.DELIVERED.number, row["code"]) == (became, service.word)
        assert row["channel_id"] == channel_id
        await books_balance(way.database)


async def test_reports_are_pulled_where_that_is_set(database: str) -> None:
    async with provided(database, "tencent", pull_gap_s=0.02) as (way, service, _):
        row = await way.final(await way.send(NUMBER))
        assert (row["status"], row["code"]) == (Status.DELIVERED.number, service.word)


async def test_a_report_that_overtakes_its_ack_is_kept(database: str) -> None:
    async with provided(database, "aliyun") as (way, service, channel_id):
        pushed(way, service, channel_id)
        await way.until("SELECT 1 FROM early_report")
        assert (await way.final(await way.send(NUMBER)))["status"] == Status.DELIVERED.number
        await books_balance(way.database)


@pytest.mark.parametrize("kind", ["aliyun", "twilio"])
async def test_one_report_for_a_text_of_several_parts_settles_the_message(database: str, kind: str) -> None:
    settings = replace(QUICK, unsure_wait_s=0)
    filed: dict[str, Any] = {} if kind == "twilio" else {"templates": {"long": "SMS_4"}}
    async with provided(database, kind, settings=settings, **filed) as (way, service, channel_id):
        row = await way.final(await way.send(NUMBER, **await long(way)))
        assert (row["status"], row["part_count"], len(service.sent)) == (Status.DELIVERED.number, PARTS, 1)
        assert (row["channel_id"], row["cost_micro"]) == (channel_id, PARTS * 30_000)
        await books_balance(way.database)


async def test_a_text_of_several_parts_without_a_report_is_unknown_in_time_and_can_be_corrected(
    database: str,
) -> None:
    async with provided(database, "aliyun", templates={"long": "SMS_4"}) as (way, service, channel_id):
        message_id = await way.send(NUMBER, **await long(way))
        await way.until("SELECT 1 FROM submitted")
        later = clock.now() + timedelta(seconds=QUICK.report_wait_s + 1)
        async with way.database.transaction() as tx:
            await prune.give_up_overdue(tx, QUICK, later)
        row = await way.final(message_id)
        assert (row["status"], row["cause"]) == (Status.UNKNOWN.number, Cause.NO_REPORT.number)
        pushed(way, service, channel_id)
        await way.until(
            "SELECT 1 FROM message WHERE id = $1 AND status = $2", message_id, Status.DELIVERED.number
        )
        assert await way.database.fetch("SELECT 1 FROM submitted") == []


# ---- where what they need comes from


async def test_what_came_before_the_channel_is_sent_with_its_values_all_the_same(database: str) -> None:
    async with plane(database) as way:
        message_id = await way.send(NUMBER)
        await way.holds(lambda: any(way.gateway.waiting()))
        service = Service("aliyun")
        async with Provider(service) as provider:
            channel_id = await add(way, "aliyun", provider.url)
            await way.until("SELECT 1 FROM submitted")
            assert service.sent == [ASKED["aliyun"]]
            pushed(way, service, channel_id)
            assert (await way.final(message_id))["status"] == Status.DELIVERED.number
            await remove(way, channel_id)


async def test_what_is_claimed_from_the_database_is_sent_with_its_values(database: str) -> None:
    async with provided(database, "tencent") as (way, service, channel_id):
        message_id = await way.send(NUMBER, send_at=clock.now() + timedelta(hours=1))
        await way.database.execute("UPDATE outbox SET due_at = now() - interval '1 second' WHERE owner = 0")
        await way.until("SELECT 1 FROM submitted")
        assert service.sent == [ASKED["tencent"]]
        pushed(way, service, channel_id)
        assert (await way.final(message_id))["status"] == Status.DELIVERED.number
        await books_balance(way.database)


# ---- what they do not take


@pytest.mark.parametrize("kind", ["aliyun", "tencent", "custom_http"])
async def test_what_is_not_filed_with_a_provider_goes_elsewhere(database: str, kind: str) -> None:
    filed: dict[str, Any] = {"templates": {"otp": "SMS_1"}}
    async with (
        Simulator(behaviour.parse("report_delay_s=0.01")) as simulator,
        provided(database, kind, simulator, **filed) as (way, service, channel_id),
    ):
        free = Draft(
            to="13800138002", signature=way.signature, text="您的快递已到", purpose=Purpose.TRANSACTIONAL
        )
        (outcome,) = await way.accept(free)
        assert isinstance(outcome, Accepted)
        for message_id in (await way.send("13800138001"), outcome.id):
            row = await way.final(message_id)
            assert row["status"] == Status.DELIVERED.number
            assert row["channel_id"] not in (0, channel_id)
        assert service.sent == []
        await way.send(NUMBER, Purpose.OTP)
        await way.until("SELECT 1 FROM submitted WHERE channel_id = $1", channel_id)
        pushed(way, service, channel_id)
        await way.all_final()
        await books_balance(way.database)


async def test_what_is_filed_nowhere_ends_and_is_paid_back(database: str) -> None:
    async with provided(database, "aliyun", templates={}) as (way, service, channel_id):
        await way.database.execute("DELETE FROM route_rule WHERE channel_id <> $1", channel_id)
        await way.keeper.load()
        row = await way.final(await way.send(NUMBER))
        assert (row["status"], row["cause"]) == (Status.UNDELIVERED.number, Cause.UNSUPPORTED.number)
        assert (row["code"], row["refund_micro"]) == ("template", row["price_micro"])
        assert service.sent == []
        await books_balance(way.database)


async def test_a_second_attempt_that_is_filed_nowhere_ends_as_the_first_did(database: str) -> None:
    failing = Simulator(
        behaviour.parse("report_delay_s=0.01"), [Rule.read("138*: state=UNDELIV err=NOROUTE")]
    )
    async with (
        failing as simulator,
        provided(database, "aliyun", simulator, priority=1, templates={}) as (way, service, _),
    ):
        row = await way.final(await way.send(NUMBER))
        assert (row["status"], row["attempt"], service.sent) == (Status.UNDELIVERED.number, 2, [])
        ((*_, status, cause, code, _),) = msgspec.json.decode(row["attempts"])
        assert (row["status"], row["cause"], row["code"]) == (status, cause, code)
        assert row["refund_micro"] == 0
        await books_balance(way.database)


async def test_a_text_taken_whole_without_an_id_costs_all_of_its_parts(database: str) -> None:
    async with provided(database, "custom_http", templates={"long": "SMS_4"}) as (way, service, _):
        service.instead = [Reply({})]
        await way.send(NUMBER, **await long(way))
        await way.until("SELECT 1 FROM submitted")
        (row,) = await way.database.fetch("SELECT state, cost_micro FROM submitted")
        assert (row["state"], row["cost_micro"]) == (1, PARTS * 30_000)


# ---- the unhappy ways


async def test_a_promotion_that_was_not_answered_waits_for_a_report_that_names_its_number(
    database: str,
) -> None:
    async with provided(database, "aliyun", answer_wait_s=1.0) as (way, service, channel_id):
        service.instead = [Silence()]
        number = awake()
        message_id = await way.send(number, Purpose.PROMOTIONAL)
        await way.until("SELECT 1 FROM submitted WHERE state = 1")
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM outbox)")
        assert (await way.row(message_id))["status"] == 0
        pushed(way, service, channel_id, number.removeprefix("+"))
        assert (await way.final(message_id))["status"] == Status.DELIVERED.number
        assert len(service.sent) == 1
        await books_balance(way.database)


async def test_a_notice_that_was_not_answered_is_sent_again(database: str) -> None:
    async with provided(database, "aliyun", answer_wait_s=1.0) as (way, service, channel_id):
        service.instead = [Silence()]
        message_id = await way.send(NUMBER)
        await way.until("SELECT 1 FROM submitted WHERE state = 0")
        pushed(way, service, channel_id)
        assert (await way.final(message_id))["status"] == Status.DELIVERED.number
        assert service.sent == [ASKED["aliyun"]] * 2
        await books_balance(way.database)


async def test_a_notice_that_is_never_answered_in_words_we_read_is_not_sent_for_ever(database: str) -> None:
    async with provided(database, "custom_http", ok_path="code") as (
        way,
        service,
        channel_id,
    ):  # wrong: they say "id"
        message_id = await way.send(NUMBER)
        await way.until("SELECT 1 FROM submitted WHERE state = 1")
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM outbox)")
        assert len(service.sent) == 1 + UNSURE_AGAIN_MAX
        way.gateway.answers.reported(
            channel_id, [Report("x", Status.DELIVERED, Cause.NONE, "", clock.now_s(), number=f"+86{NUMBER}")]
        )
        assert (await way.final(message_id))["status"] == Status.DELIVERED.number
        await books_balance(way.database)


async def test_a_provider_that_throttles_gets_everything_in_its_time(database: str) -> None:
    settings = replace(QUICK, unsure_wait_s=0)
    async with provided(database, "aliyun", settings=settings, window_size=1) as (way, service, _):
        service.instead = [Reply({"Code": "Throttling.User", "Message": "slow down"}, 400)] * 2
        for place in range(3):
            await way.send(f"1380013800{place}")
        await way.all_final()
        assert [words["PhoneNumbers"][-1] for words in service.sent] == ["0", "0", "0", "1", "2"]
        rows = await way.database.fetch("SELECT DISTINCT status FROM message")
        assert [row["status"] for row in rows] == [Status.DELIVERED.number]
        await books_balance(way.database)


async def test_what_a_provider_declines_ends_with_its_code_and_is_paid_back(database: str) -> None:
    async with provided(database, "aliyun") as (way, service, channel_id):
        service.instead = [Reply({"Code": "isv.BLACK_KEY_CONTROL_LIMIT", "Message": "no"})]
        row = await way.final(await way.send(NUMBER))
        assert (row["status"], row["cause"]) == (Status.UNDELIVERED.number, Cause.BLACKLISTED.number)
        assert (row["code"], row["channel_id"]) == ("isv.BLACK_KEY_CONTROL_LIMIT", channel_id)
        assert row["refund_micro"] == row["price_micro"]
        await books_balance(way.database)


async def test_what_a_provider_cannot_take_now_goes_by_another(database: str) -> None:
    async with (
        Simulator(behaviour.parse("report_delay_s=0.01")) as simulator,
        provided(database, "aliyun", simulator) as (way, service, channel_id),
    ):
        service.instead = [Reply({"Code": "isv.AMOUNT_NOT_ENOUGH", "Message": "pay"})]
        row = await way.final(await way.send(NUMBER))
        assert row["status"] == Status.DELIVERED.number
        assert row["channel_id"] not in (0, channel_id)
        assert len(service.sent) == 1
        await books_balance(way.database)
