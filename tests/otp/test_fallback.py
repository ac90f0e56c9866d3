"""When no report comes the same code goes another way: on time, once, at nobody's cost, over crashes and many doors."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import msgspec
import pytest
from aiosmtpd.smtp import SMTP

import make
from hongyan import clock
from hongyan.otp.fallback import Fallback
from hongyan.otp.media import Letter, Media, added, following
from hongyan.otp.standing import LOST_S, WAIT_S, Standing, Step, decide, read_waits, wait_of
from hongyan.settings import Settings, SettingsError
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import ChannelId, Purpose, Status
from hongyan.vocab.verification import State
from hongyan.way.accept import Acceptor
from hongyan.way.measure import LATENCY_BUCKETS_MS
from hongyan.way.snapshot import Keeper

from .asking import Asking, asking

ALL: Final = '{"challenge": "never", "media": ["sms", "sms_other_route", "email", "voice"]}'
VOICE: Final = replace(make.SETTINGS, code_media=f"voice={__name__}:call")
called: list[Letter] = []


async def call(letter: Letter) -> bool:
    called.append(letter)
    return letter.to != "+8613800138009"


async def broken(_letter: Letter) -> bool:
    raise OSError("no line")


# ---- the rule


def standing(status: Status = Status.ACCEPTED, cause: Cause = Cause.NONE, **fields: Any) -> Standing:
    values: dict[str, Any] = {"medium": "sms", "sent_at_s": 100.0, "stored": True, "owed": False}
    return Standing(**(values | fields), status=status, cause=cause)


def test_a_report_is_waited_for_and_looked_for_meanwhile() -> None:
    assert decide(standing(), 110.0, 30.0) == Step("look", 113.0)
    assert decide(standing(), 129.0, 30.0) == Step("look", 130.0)
    assert decide(standing(), 130.0, 30.0) == Step("next")


def test_a_report_of_a_failure_is_not_waited_after_and_one_of_delivery_ends_it() -> None:
    for status in (Status.UNDELIVERED, Status.EXPIRED, Status.UNKNOWN, Status.REFUSED):
        assert decide(standing(status), 100.5, 30.0) == Step("next")
    assert decide(standing(Status.DELIVERED), 100.5, 30.0) == Step("done")


def test_a_text_that_is_nowhere_is_offered_again_once_it_cannot_be_under_way() -> None:
    assert decide(standing(stored=False), 105.0, 30.0) == Step("look", 108.0)
    assert decide(standing(stored=False), 100.0 + LOST_S, 30.0) == Step("again")


def test_media_without_reports_are_followed_by_the_next_and_a_first_one_is_sent() -> None:
    assert decide(standing(medium="email", stored=False), 160.0, 30.0) == Step("next")
    assert decide(standing(medium="email", sent_at_s=0.0, stored=False), 160.0, 30.0) == Step("first")


def test_a_report_is_waited_for_as_long_as_reports_take_within_a_quarter_of_a_minute_and_a_minute() -> None:
    def buckets(**counts: int) -> Sequence[int]:
        found = [0] * (len(LATENCY_BUCKETS_MS) + 1)
        for name, count in counts.items():
            found[LATENCY_BUCKETS_MS.index(int(name[2:]))] = count
        return found

    assert wait_of(buckets()) == WAIT_S
    assert wait_of(buckets(ms2000=19)) == WAIT_S
    assert wait_of(buckets(ms2000=1_000)) == 15.0
    assert wait_of(buckets(ms2000=800, ms30000=200)) == pytest.approx(25.0)
    assert wait_of(buckets(ms2000=500, ms1800000=500)) == 60.0


def test_media_follow_in_the_order_of_the_policy_and_those_that_cannot_are_passed_over() -> None:
    media = ("sms", "sms_other_route", "email", "voice")
    assert following(media, "sms", lambda _: True) == "sms_other_route"
    assert following(media, "sms", lambda kind: kind == "voice") == "voice"
    assert following(media, "voice", lambda _: True) == ""
    assert following(media, "telegram", lambda _: True) == "sms"  # the policy was changed meanwhile


def test_a_kind_is_added_by_a_setting_and_never_in_place_of_ours() -> None:
    assert added("") == {}
    assert added("voice=a.b:c, one_tap=d:e") == {"voice": "a.b:c", "one_tap": "d:e"}
    assert not Media(make.SETTINGS).reaches("voice", "")
    assert Media(VOICE).reaches("voice", "")
    for wrong in (
        "voice",
        "voice=",
        "=a:b",
        "sms=a:b",
        "email=a:b",
        "Voice=a:b",
        "voice=a:b,voice=c:d",
        "a b=c:d",
    ):
        with pytest.raises(SettingsError, match="HONGYAN_CODE_MEDIA"):
            added(wrong)
    for missing in ("voice=nowhere:at_all", f"voice={__name__}:nothing", f"voice={__name__}"):
        with pytest.raises(SettingsError, match="HONGYAN_CODE_MEDIA"):
            Media(replace(make.SETTINGS, code_media=missing))


async def test_a_kind_that_breaks_or_hangs_has_merely_not_sent() -> None:
    letter = Letter(
        verification=uuid.uuid4(), message_id=uuid.uuid4(), to="+8613800138000", email="", code="123456", text="",
        signature="", language="", expires_at_s=0.0,
    )  # fmt: skip
    assert not await Media(replace(make.SETTINGS, code_media=f"voice={__name__}:broken")).send(
        "voice", letter
    )
    assert not await Media(make.SETTINGS).send("voice", letter)
    assert not await Media(make.SETTINGS).send("email", letter)  # no server is configured


# ---- on a database


@dataclass
class Falling:
    """The service with its second ways, at times of the test's."""

    asked: Asking
    fallback: Fallback
    keeper: Keeper

    async def at(self, after_s: float) -> int:
        """Look at what is due so long after the test began."""
        self.asked.clock.now_s = self.began_s + after_s
        return await self.fallback.round()

    @property
    def began_s(self) -> float:
        return self._began_s

    def __post_init__(self) -> None:
        self._began_s = self.asked.clock.now_s

    async def settle(
        self, message_id: uuid.UUID | None, status: Status = Status.ACCEPTED, **columns: Any
    ) -> None:
        """Let a message have gone by the first channel, and a report say this of it."""
        values = {"status": status.number, "cause": columns.get("cause", Cause.NONE).number}
        await self.asked.database.execute(
            "UPDATE message SET status = $2, cause = $3, channel_id = $4 WHERE id = $1",
            message_id, values["status"], values["cause"], self.asked.world.channel_id,
        )  # fmt: skip

    async def messages(self) -> list[Any]:
        return list(await self.asked.database.fetch("SELECT * FROM message ORDER BY id"))

    def text_of(self, message: Any) -> str:
        asked = self.asked
        plain = asked.world.vault.unseal(asked.world.tenant_id, message["sealed"])
        return str(msgspec.msgpack.decode(plain)[1])


@contextlib.asynccontextmanager
async def falling(
    dsn: str, policy: str = ALL, settings: Settings = VOICE, *, routes: int = 2
) -> AsyncIterator[Falling]:
    called.clear()
    async with asking(dsn, policy) as asked:
        async with asked.database.transaction() as tx:
            for _ in range(routes - 1):
                channel_id: ChannelId = await make.channel(tx, asked.world.vault, kind="smpp")
                await make.route_rule(tx, channel_id=channel_id)
        keeper = asked.issuer._snapshots
        acceptor = asked.issuer._acceptor
        assert isinstance(keeper, Keeper)
        assert isinstance(acceptor, Acceptor)
        await keeper.load()
        media = Media(settings)
        one = Fallback(
            asked.database, keeper, asked.book, asked.world.vault, acceptor, media, settings, asked.clock
        )
        yield Falling(asked, one, keeper)


async def test_without_a_report_the_same_code_goes_by_another_channel_and_costs_nothing(
    database: str,
) -> None:
    async with falling(database) as way:
        started = await way.asked.start()
        await way.settle(started.message_id)
        before = await way.asked.row(started.id)
        assert await way.at(2) == 0
        assert await way.at(20) == 1  # nothing is known of how long reports take: half a minute
        assert len(await way.messages()) == 1
        assert await way.at(32) == 1
        first, second = await way.messages()
        assert way.text_of(first) == way.text_of(second)
        assert (first["price_micro"] > 0, second["price_micro"]) == (True, 0)
        (row,) = await way.asked.database.fetch(
            "SELECT avoid_channel FROM outbox WHERE id = $1", second["id"]
        )
        assert row["avoid_channel"] == way.asked.world.channel_id
        after = await way.asked.row(started.id)
        assert (after["medium"], after["message_ids"]) == ("sms_other_route", [first["id"], second["id"]])
        for column in ("code", "mac", "tries", "tries_max", "sends", "expires_at", "resend_at"):
            assert after[column] == before[column]
        assert second["expires_at"] <= after["expires_at"] + timedelta(
            seconds=35
        )  # the test's time runs ahead
        assert (await way.asked.check(started.id, await way.asked.code(started.id))).valid


async def test_a_failed_text_is_followed_at_once_and_a_delivered_one_by_nothing(database: str) -> None:
    async with falling(database) as way:
        failed, arrived = await way.asked.start(), await way.asked.start("+8613800138001")
        await way.settle(failed.message_id, Status.UNDELIVERED, cause=Cause.NETWORK)
        await way.settle(arrived.message_id, Status.DELIVERED)
        assert await way.at(16) == 2
        assert (await way.asked.row(failed.id))["medium"] == "sms_other_route"
        row = await way.asked.row(arrived.id)
        assert (row["medium"], row["fallback_at"]) == ("sms", None)
        assert len(await way.messages()) == 3


async def test_a_number_that_nobody_has_gets_no_second_text(database: str) -> None:
    async with falling(database) as way:
        started = await way.asked.start()
        await way.settle(started.message_id, Status.UNDELIVERED, cause=Cause.INVALID_NUMBER)
        await way.at(16)
        assert len(await way.messages()) == 1
        assert (await way.asked.row(started.id))["medium"] == "voice"
        assert [letter.to for letter in called] == [make.NUMBER]


async def test_where_no_other_channel_takes_texts_the_next_medium_is_used(database: str) -> None:
    async with falling(database, routes=1) as way:
        started = await way.asked.start()
        await way.settle(started.message_id)
        await way.at(32)
        (letter,) = called
        row = await way.asked.row(started.id)
        assert (row["medium"], row["fallback_at"]) == ("voice", None)
        assert letter.code == await way.asked.code(started.id)
        assert letter.code in letter.text
        assert letter.message_id == uuid.UUID(bytes=row["message_ids"][-1].bytes)
        assert await way.at(200) == 0


async def test_a_text_that_has_not_left_is_not_sent_by_another_route_beside_itself(database: str) -> None:
    async with falling(database, '{"challenge": "never", "media": ["sms", "sms_other_route"]}') as way:
        started = await way.asked.start()
        await way.at(32)
        assert len(await way.messages()) == 1
        assert (await way.asked.row(started.id))["fallback_at"] is None


async def test_no_medium_is_used_that_nobody_configured(database: str) -> None:
    async with falling(database, settings=make.SETTINGS, routes=1) as way:
        started = await way.asked.start(email="robin@example.com")
        await way.settle(started.message_id)
        await way.at(32)
        row = await way.asked.row(started.id)
        assert (row["medium"], row["fallback_at"], len(row["message_ids"])) == ("sms", None, 1)


async def test_a_letter_that_was_not_taken_is_tried_again_until_the_code_is_over(database: str) -> None:
    async with falling(database, routes=1) as way:
        started = await way.asked.start("+8613800138009")
        await way.settle(started.message_id)
        await way.at(32)
        await way.at(50)
        assert len(called) == 2
        assert len({letter.message_id for letter in called}) == 1  # the id says that it is the same
        await way.at(301)
        assert len(called) == 2
        assert (await way.asked.row(started.id))["fallback_at"] is None


async def test_what_has_ended_is_left_alone(database: str) -> None:
    async with falling(database) as way:
        started = await way.asked.start()
        await way.settle(started.message_id)
        assert (await way.asked.check(started.id, await way.asked.code(started.id))).valid
        assert await way.at(40) == 0
        late = await way.asked.start("+8613800138001")
        await way.asked.database.execute(
            "UPDATE verification SET state = $1 WHERE id = $2", State.EXPIRED.number, late.id
        )
        assert await way.at(80) == 1
        assert (await way.asked.row(late.id))["fallback_at"] is None


async def test_a_policy_with_one_medium_is_never_looked_at(database: str) -> None:
    async with falling(database, '{"challenge": "never"}') as way:
        started = await way.asked.start()
        assert (await way.asked.row(started.id))["fallback_at"] is None
        assert await way.at(250) == 0


async def test_an_e_mail_has_the_text_and_its_subject_no_code(database: str) -> None:
    came: list[tuple[list[str], str]] = []

    class Box:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
            came.append((envelope.rcpt_tos, envelope.content.decode()))
            return "250 OK"

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Box(), loop=loop), "127.0.0.1", 0)
    settings = replace(
        make.SETTINGS, smtp_host="127.0.0.1", smtp_port=server.sockets[0].getsockname()[1], smtp_tls="never"
    )
    async with falling(database, settings=settings, routes=1) as way:
        with_address = await way.asked.start(email="robin@example.com")
        without = await way.asked.start("+8613800138001")
        for started in (with_address, without):
            await way.settle(started.message_id)
        await way.at(32)
        (mail,) = came
        assert mail[0] == ["robin@example.com"]
        head, _, _ = mail[1].partition("\r\n\r\n")
        assert await way.asked.code(with_address.id) not in head
        assert (await way.asked.row(with_address.id))["medium"] == "email"
        assert (await way.asked.row(without.id))["medium"] == "sms"
    server.close()


# ---- crashes, and many doors


async def test_a_text_whose_door_died_before_it_was_stored_is_sent_under_the_id_it_was_given(
    database: str,
) -> None:
    async with falling(database) as way:
        started = await way.asked.start()
        await way.asked.database.execute("DELETE FROM message")
        await way.asked.database.execute("DELETE FROM outbox")
        await way.at(16)
        (message,) = await way.messages()
        assert message["id"] == started.message_id
        assert message["price_micro"] > 0  # it was asked for
        assert (await way.asked.row(started.id))["message_ids"] == [started.message_id]


async def test_a_second_text_whose_door_died_is_stored_once_and_stays_free(database: str) -> None:
    async with falling(database) as way:
        started = await way.asked.start()
        await way.settle(started.message_id, Status.UNDELIVERED, cause=Cause.NETWORK)
        await way.at(16)
        _, second = await way.messages()
        await way.asked.database.execute("DELETE FROM message WHERE id = $1", second["id"])
        await way.asked.database.execute("DELETE FROM outbox WHERE id = $1", second["id"])
        await way.at(40)
        _, again = await way.messages()
        assert (again["id"], again["price_micro"]) == (second["id"], 0)


async def test_a_text_that_is_refused_leaves_its_place_to_the_next_medium(database: str) -> None:
    async with falling(database) as way:
        started = await way.asked.start()
        await way.settle(started.message_id, Status.UNDELIVERED, cause=Cause.NETWORK)
        await way.asked.database.execute(
            "INSERT INTO suppression (phone_index, tenant_id, kind) SELECT phone_index, 0, 2 FROM verification"
        )
        await way.at(16)
        row = await way.asked.row(started.id)
        assert (row["medium"], row["message_ids"]) == ("sms_other_route", [started.message_id])
        await way.at(17)
        assert (await way.asked.row(started.id))["medium"] == "voice"
        assert len(called) == 1


async def test_a_row_that_cannot_be_read_holds_up_no_other(database: str) -> None:
    async with falling(database) as way:
        spoilt, sound = await way.asked.start(), await way.asked.start("+8613800138001")
        await way.asked.database.execute("UPDATE verification SET sealed = '\\x00' WHERE id = $1", spoilt.id)
        for started in (spoilt, sound):
            await way.settle(started.message_id, Status.UNDELIVERED, cause=Cause.NETWORK)
        assert await way.at(16) == 2
        assert (await way.asked.row(spoilt.id))["fallback_at"] is None
        assert (await way.asked.row(sound.id))["medium"] == "sms_other_route"


async def test_many_doors_send_each_second_text_once(database: str) -> None:
    async with falling(database) as way:
        for place in range(20):
            started = await way.asked.start(f"+86138{place:02d}138000")
            await way.settle(started.message_id, Status.UNDELIVERED, cause=Cause.NETWORK)
        way.asked.clock.now_s += 16
        looks = await asyncio.gather(*(way.fallback.round() for _ in range(6)))
        assert sum(looks) == 20
        assert len(await way.messages()) == 40


async def test_how_long_reports_take_is_read_from_what_was_counted(database: str) -> None:
    async with make.world(database) as world:
        now_s = clock.now_s()
        await world.database.execute(
            """INSERT INTO tally SELECT date_trunc('hour', $1::timestamptz), $2, 1, 0, $3, 0, 1, 'CN', place, '', 7, 0, messages,
                                        1, 1, 1
                 FROM (VALUES ('cmcc', 100), ('unicom', 5)) AS p(place, messages)""",
            clock.moment(now_s), world.tenant_id, Purpose.OTP.number,
        )  # fmt: skip
        async with world.database.transaction() as tx:
            waits = await read_waits(tx, now_s)
        assert waits == {("CN", "cmcc"): 15.0, ("CN", "unicom"): WAIT_S}


async def test_a_first_medium_that_is_no_text_is_sent_at_the_first_look(database: str) -> None:
    async with falling(database, '{"challenge": "never", "media": ["voice", "sms"]}') as way:
        started = await way.asked.start()
        for table in ("message", "outbox"):
            await way.asked.database.execute(f"DELETE FROM {table}")
        await way.asked.database.execute(
            "UPDATE verification SET message_ids = '{}', fallback_at = created_at"
        )
        assert await way.at(1) == 1
        assert [letter.code for letter in called] == [await way.asked.code(started.id)]
        row = await way.asked.row(started.id)
        assert (row["medium"], len(row["message_ids"])) == ("voice", 1)
        assert await way.at(62) == 1  # nobody picked up, or nobody knows: then a text
        (message,) = await way.messages()
        assert (await way.asked.row(started.id))["medium"] == "sms"
        assert message["price_micro"] == 45_000  # the first text of a verification, whatever led to it
