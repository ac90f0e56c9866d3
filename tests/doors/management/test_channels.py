"""Channels are managed while messages fly: secrets stay inside, changes arrive, draining loses nothing."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from channels.providers import Asked, Provider, Reply
from doors.management.desk import Desk, desk
from doors.management.fleet import Fleet, fleet
from hongyan.control.permissions import Role
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.message import Status
from hongyan.way import snapshot
from plane import books_balance

SMPP: Final = {"hosts": ["127.0.0.1"], "port": 1, "system_id": "us", "password": "knock"}
ALIYUN: Final = {"access_key_id": "us", "access_key_secret": "knock"}
CUSTOM: Final = {
    "url": "https://{account.at}/send",
    "account": {"at": "sms.example"},
    "secrets": {"key": "knock"},
}


async def add(one: Desk, name: str = "east", kind: str = "smpp", **fields: Any) -> int:
    settings = fields.pop("settings", SMPP)
    made = await one.ask("POST", "/v1/channels", {"name": name, "kind": kind, "settings": settings} | fields)
    assert made.status == 201, made.json
    return int(made.json["data"]["channel"]["id"])


async def data(one: Desk, method: str, target: str, body: object = b"") -> Any:
    reply = await one.ask(method, target, body)
    assert reply.status in (200, 201), reply.json
    return reply.json["data"]


def number(place: int) -> str:
    return f"1380013{place:04d}"


# ---- settings


async def test_secrets_never_leave_and_stars_given_back_keep_them(database: str) -> None:
    async with desk(database) as one:
        channel_id = await add(one, cost_micro=30_000, access_number="10690000")
        whole = await one.ask("GET", f"/v1/channels/{channel_id}")
        assert b"knock" not in whole.body
        shown = whole.json["data"]["settings"]
        assert shown == SMPP | {"password": "***"}
        changed = await data(
            one,
            "PATCH",
            f"/v1/channels/{channel_id}",
            {"settings": shown | {"window_size": 2}, "parts_per_s": 7},
        )
        assert (changed["settings"]["window_size"], changed["channel"]["parts_per_s"]) == (2, 7)
        assert changed["channel"]["access_number"] == "10690000"
        row = (await one.served.keeper.load()).channels[channel_id]  # type: ignore[index]
        assert b'"knock"' in row.config.reveal()
        (audited,) = await one.fetch(
            "SELECT detail::text AS detail FROM audit WHERE action = 'changeChannel'"
        )
        assert "window_size" in audited["detail"]
        assert "password" not in audited["detail"]


@pytest.mark.parametrize(
    ("kind", "settings", "elsewhere", "parameter"),
    [
        ("smpp", SMPP, {"hosts": ["evil.example"]}, "settings.password"),
        ("smpp", SMPP, {"hosts": ["127.0.0.1", "evil.example"]}, "settings.password"),
        ("smpp", SMPP, {"port": 2}, "settings.password"),
        ("smpp", SMPP | {"tls": True}, {"tls": False}, "settings.password"),
        ("smpp", SMPP | {"tls": True}, {"tls_verify": False}, "settings.password"),
        ("aliyun", ALIYUN, {"url": "https://evil.example/"}, "settings.access_key_secret"),
        ("custom_http", CUSTOM, {"url": "https://evil.example/"}, "settings.secrets.key"),
        ("custom_http", CUSTOM, {"account": {"at": "evil.example"}}, "settings.secrets.key"),
    ],
)
async def test_a_stored_secret_goes_nowhere_but_where_it_was_typed_for(
    database: str, kind: str, settings: dict[str, Any], elsewhere: dict[str, Any], parameter: str
) -> None:
    async with desk(database) as one:
        channel_id = await add(one, kind=kind, settings=settings)
        shown = (await data(one, "GET", f"/v1/channels/{channel_id}"))["settings"]
        document = (await data(one, "GET", "/v1/configuration"))["document"]
        (east,) = [each for each in document["channels"] if each["name"] == "east"]
        east["settings"] |= elsewhere
        for method, target, body in (
            ("PATCH", f"/v1/channels/{channel_id}", {"settings": shown | elsewhere}),
            ("POST", f"/v1/channels/{channel_id}/test", {"settings": shown | elsewhere}),
        ):
            refused = await one.ask(method, target, body)
            assert (refused.status, refused.json["detail"]["parameter"]) == (400, parameter)
            assert "anew" in refused.json["detail"]["reason"]
        refused = await one.ask("PUT", "/v1/configuration", document)
        assert refused.status == 400, refused.json
        assert parameter in refused.json["detail"]["parameter"]
        anew = await one.ask("PATCH", f"/v1/channels/{channel_id}", {"settings": settings | elsewhere})
        assert anew.status == 200, anew.json


async def test_a_host_less_keeps_the_secrets(database: str) -> None:
    async with desk(database) as one:
        channel_id = await add(one, settings=SMPP | {"hosts": ["127.0.0.1", "127.0.0.2"]})
        for hosts in (["127.0.0.2", "127.0.0.1"], ["127.0.0.2"]):
            asked = {"settings": SMPP | {"hosts": hosts, "password": "***", "tls": False}}
            await data(one, "PATCH", f"/v1/channels/{channel_id}", asked)


async def test_secrets_by_name_are_kept_one_by_one(database: str) -> None:
    settings = {"url": "https://sms.example/", "secrets": {"key": "s3cret", "salt": "p3pper"}}
    async with desk(database) as one:
        channel_id = await add(one, kind="custom_http", settings=settings)
        whole = await data(one, "GET", f"/v1/channels/{channel_id}")
        assert whole["settings"]["secrets"] == {"key": "***", "salt": "***"}
        asked = {"settings": settings | {"secrets": {"key": "***", "salt": "n3w"}}}
        await data(one, "PATCH", f"/v1/channels/{channel_id}", asked)
        octets = (await one.served.keeper.load()).channels[channel_id].config.reveal()  # type: ignore[index]
        assert b"s3cret" in octets
        assert b"n3w" in octets
        asked = {"settings": settings | {"secrets": {"other": "***"}}}
        refused = await one.ask("PATCH", f"/v1/channels/{channel_id}", asked)
        assert refused.json["detail"]["parameter"] == "settings.secrets.other"


@pytest.mark.parametrize(
    ("settings", "parameter"),
    [
        (SMPP | {"window_size": 0}, "settings.window_size"),
        (SMPP | {"password": "ninechars"}, "settings.password"),
        (SMPP | {"password": "***"}, "settings.password"),
        ({"hosts": ["a"], "system_id": "us"}, "settings.password"),
        (SMPP | {"pasword": "x"}, "settings.pasword"),
        (SMPP | {"hosts": [""]}, "settings.hosts[0]"),
    ],
)
async def test_settings_that_do_not_build_are_refused_by_the_name_of_the_field(
    database: str, settings: dict[str, Any], parameter: str
) -> None:
    async with desk(database) as one:
        asked = {"name": "east", "kind": "smpp", "settings": settings}
        refused = await one.ask("POST", "/v1/channels", asked)
        assert (refused.status, refused.code) == (400, "Request.InvalidParameter")
        assert refused.json["detail"]["parameter"] == parameter
        assert b"ninechars" not in refused.body


async def test_why_a_channel_was_paused_or_drained_is_in_the_audit(database: str) -> None:
    async with desk(database) as one:
        channel_id = await add(one)
        await data(one, "POST", f"/v1/channels/{channel_id}/pause", {"reason": "they repair something"})
        await data(one, "POST", f"/v1/channels/{channel_id}/drain", {"wait_s": 5, "reason": "it moves"})
        records = (await data(one, "GET", f"/v1/audit?subject=channel:{channel_id}"))["items"]
        told = {each["action"]: each["detail"].get("reason") for each in records}
        assert told == {
            "createChannel": None, "pauseChannel": "they repair something", "drainChannel": "it moves",
        }  # fmt: skip
        await data(one, "POST", f"/v1/channels/{channel_id}/pause")  # without a body, as ever


async def test_a_name_is_given_once_and_a_removed_channel_leaves_it_free(database: str) -> None:
    async with desk(database) as one:
        east, west = await add(one), await add(one, "west")
        taken = await one.ask("PATCH", f"/v1/channels/{west}", {"name": "east"})
        assert taken.json["detail"]["parameter"] == "name"
        await data(one, "DELETE", f"/v1/channels/{east}")
        assert (await one.ask("GET", f"/v1/channels/{east}")).status == 404
        assert (await one.ask("PATCH", f"/v1/channels/{west}", {"name": "east"})).status == 200


async def test_a_name_that_two_people_give_at_once_is_given_once(database: str) -> None:
    async with desk(database) as one:
        ids = [await add(one, f"c{place}") for place in range(4)]
        asked = [one.ask("PATCH", f"/v1/channels/{each}", {"name": "east"}) for each in ids]
        assert sorted([reply.status for reply in await asyncio.gather(*asked)]) == [200, 400, 400, 400]


async def test_the_form_of_every_kind_can_be_drawn(database: str) -> None:
    async with desk(database) as one:
        kinds = (await data(one, "GET", "/v1/channel-kinds"))["items"]
        assert {"smpp", "cmpp", "sgip", "smgp", "aliyun", "loopback"} <= {kind["kind"] for kind in kinds}
        for kind in kinds:
            form = (await data(one, "GET", f"/v1/channel-kinds/{kind['kind']}"))["schema"]
            fields = form["$defs"][form["$ref"].rpartition("/")[2]]["properties"]
            assert all(field["title"] and field["description"] for field in fields.values())
        form = (await data(one, "GET", "/v1/channel-kinds/smpp"))["schema"]["$defs"]["Config"]
        assert form["properties"]["password"]["writeOnly"] is True
        assert (await one.ask("GET", "/v1/channel-kinds/pigeon")).status == 404


async def test_only_people_of_the_platform_see_channels(database: str) -> None:
    async with desk(database) as one:
        for role in (Role.OWNER, Role.VIEWER, "key"):
            assert (await one.ask("GET", "/v1/channels", as_=role)).status == 403
        assert (await one.ask("GET", "/v1/channels", as_=Role.FINANCE)).status == 200
        assert (await one.ask("POST", "/v1/channels/1/pause", as_=Role.SUPPORT)).status == 403


async def test_the_address_for_pushes_is_a_secret_of_kinds_that_are_pushed_to(database: str) -> None:
    async with desk(database) as one:
        smpp = await add(one)
        http = await add(one, "sms", "custom_http", settings={"url": "https://sms.example/"})
        assert (await one.ask("GET", f"/v1/channels/{smpp}/push-url")).status == 409
        target = f"/v1/channels/{http}/push-url?base=https://gate.example/"
        told = await data(one, "GET", target)
        assert told["url"] == f"https://gate.example{told['path']}"
        assert told["path"].startswith("/upstream/sms/")
        assert (await one.ask("GET", target, as_=Role.SUPPORT)).status == 403
        assert (await one.ask("GET", f"/v1/channels/{http}/push-url?base=gate")).status == 400


# ---- trials


async def test_a_trial_tells_the_stages_it_reached(database: str) -> None:
    strict = behaviour.parse("system_id=us password=knock")
    async with desk(database) as one, Simulator(strict) as operator:
        settings = SMPP | {"port": operator.port}
        made = await data(one, "POST", "/v1/channels/test", {"kind": "smpp", "settings": settings})
        assert (made["verdict"], made["words"]) == ("logged_in", "")
        assert [stage["stage"] for stage in made["stages"]] == ["resolved", "connected", "logged_in"]
        assert all(0 <= stage["ms"] < 10_000 for stage in made["stages"])
        assert "BindTransceiver" in made["pdus"][0]
        assert "knock" not in str(made)
        wrong = {"kind": "smpp", "settings": settings | {"password": "wrong"}}
        refused = await data(one, "POST", "/v1/channels/test", wrong)
        assert refused["verdict"] == "failed"
        assert [stage["stage"] for stage in refused["stages"]] == ["resolved", "connected"]
        assert refused["words"]


async def test_a_trial_of_a_host_that_is_away_says_so(database: str) -> None:
    async with desk(database) as one:
        nobody = {"kind": "smpp", "settings": SMPP}
        made = await data(one, "POST", "/v1/channels/test", nobody)
        assert (made["verdict"], [s["stage"] for s in made["stages"]]) == ("failed", ["resolved"])
        assert "127.0.0.1:1" in made["words"]
        nowhere = {"kind": "smpp", "settings": SMPP | {"hosts": ["no such name"]}}
        made = await data(one, "POST", "/v1/channels/test", nowhere)
        assert (made["verdict"], made["stages"]) == ("failed", [])


@pytest.mark.parametrize("kind", ["cmpp", "smgp", "sgip"])
async def test_every_protocol_can_be_tried(database: str, kind: str) -> None:
    accounts: dict[str, dict[str, Any]] = {
        "cmpp": {"source_addr": "900001", "secret": "secret"},
        "smgp": {"client_id": "10690000", "secret": "secret"},
        "sgip": {
            "login_name": "us", "login_password": "secret", "corp_id": "92008", "area_code": "010",
            "listen_host": "127.0.0.1", "peer_login_name": "smg", "peer_login_password": "word",
        },
    }  # fmt: skip
    async with desk(database) as one, Simulator(protocol=kind) as operator:
        settings = {"hosts": ["127.0.0.1"], "port": operator.port} | accounts[kind]
        made = await data(one, "POST", "/v1/channels/test", {"kind": kind, "settings": settings})
        assert made["verdict"] == "logged_in", made


async def test_a_channel_whose_sessions_are_all_held_is_not_asked_for_one_more(database: str) -> None:
    async with Simulator() as operator, fleet(database, operator) as both:
        channel_id = both.way.laid.channels[0]
        await both.stands(channel_id, "up")
        target = f"/v1/channels/{channel_id}/test"
        assert (await data(both.desk, "POST", target, {}))["stages"] == []
        before = operator.statistics().sessions
        made = await data(both.desk, "POST", target, {"although_in": True})
        assert made["verdict"] == "logged_in"
        assert len(made["stages"]) == 3
        assert before == 1
        wrong = await data(both.desk, "POST", target, {"settings": SMPP})
        assert wrong["verdict"] == "failed"


async def test_an_http_provider_is_asked_something_harmless_where_the_kind_knows_of_it(
    database: str,
) -> None:
    def script(asked: Asked) -> Reply:
        if asked.headers.get("authorization", "").startswith("Basic QUMxOg"):
            return Reply({"code": "20003", "message": "Authenticate"}, 401)
        return Reply({"messages": []})

    async with Provider(script) as provider, desk(database, channel_private_addresses=True) as one:
        settings = {"account_sid": "AC1", "auth_token": "t0ken", "url": provider.url}
        made = await data(one, "POST", "/v1/channels/test", {"kind": "twilio", "settings": settings})
        assert made["verdict"] == "logged_in", made
        assert {asked.method for asked in provider.asked} == {"GET"}
        bad = {"kind": "twilio", "settings": settings | {"auth_token": ""}}
        made = await data(one, "POST", "/v1/channels/test", bad)
        assert (made["verdict"], made["words"]) == ("failed", "20003: Authenticate")
        own = {"kind": "custom_http", "settings": {"url": provider.url}}
        made = await data(one, "POST", "/v1/channels/test", own)
        assert (made["verdict"], [s["stage"] for s in made["stages"]]) == ("untested", ["connected"])


async def test_a_trial_does_not_call_into_our_own_network(database: str) -> None:
    async with Provider(lambda _: Reply({})) as provider, desk(database) as one:
        for url in (provider.url, provider.url.replace("127.0.0.1", "localhost")):
            asked = {"kind": "custom_http", "settings": {"url": url}}
            made = await data(one, "POST", "/v1/channels/test", asked)
            assert made["verdict"] == "failed"
            assert "private address" in made["words"]
        assert provider.asked == []


# ---- a gateway that runs


async def send_for(both: Fleet, seconds: float) -> list[Any]:
    """Send messages one after the other for so long."""
    ids: list[Any] = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        ids.append(await both.way.send(number(len(ids))))
    return ids


@contextlib.asynccontextmanager
async def second_address(port: int) -> AsyncIterator[int]:
    """Another port of the same operator."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(65_536):
            writer.write(octets)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pass_on(reader, ours))
            tasks.create_task(pass_on(theirs, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_running_gateway_is_told_of_changes_and_nothing_is_lost(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "RELOAD_S", 60.0)  # who is not told hears of it too late for this test
    quick = behaviour.parse("report_delay_s=0.01")
    async with (
        Simulator(quick) as operator,
        second_address(operator.port) as port,
        fleet(database, operator) as both,
    ):
        await both.way.up()
        channel_id = both.way.laid.channels[0]
        target = f"/v1/channels/{channel_id}"
        sending = asyncio.create_task(send_for(both, 2.0))
        await both.way.holds(lambda: operator.statistics().submits > 5)
        operator.behave(behaviour.parse("report_delay_s=0.01 password=fresh"))
        settings = (await data(both.desk, "GET", target))["settings"]
        binds = operator.statistics().binds
        await data(both.desk, "PATCH", target, {"settings": settings | {"port": port, "password": "fresh"}})
        await both.way.holds(lambda: operator.statistics().binds > binds)
        await both.way.up()
        line = both.way.gateway.lines.open[channel_id]
        await data(both.desk, "PATCH", target, {"parts_per_s": 500})
        await both.way.holds(lambda: line.pacer.rate_per_s == 500)
        ids = await sending
        for message_id in ids:
            assert (await both.way.final(message_id))["status"] == Status.DELIVERED.number
        told = operator.statistics()
        assert (told.submits, told.binds_refused, told.repeated_parts) == (len(ids), 0, 0)
        await books_balance(both.way.database)


async def test_a_channel_tells_how_it_fares_until_nobody_tells_any_more(database: str) -> None:
    async with (
        Simulator(behaviour.parse("report_delay_s=0.01")) as operator,
        fleet(database, operator) as both,
    ):
        channel_id = both.way.laid.channels[0]
        await both.stands(channel_id, "up")
        for place in range(20):
            await both.way.final(await both.way.send(number(place)))
        async with asyncio.timeout(20):
            while True:
                told = (await both.stands(channel_id, "up"))["gateways"][0]["told"]
                if told["reported"] == 20:
                    break
                await asyncio.sleep(0.05)
        assert told["success"] == 1.0
        assert told["outcomes"] == {"ack": 20}
        assert told["ack_ms_p95"] < 5_000
        assert told["report_ms_p50"] < 20_000
        (session,) = told["sessions"]
        assert (session["state"], session["duty"], session["window_used"]) == ("up", "both", 0)
        assert session["since"]
        assert (session["answered"], session["not_taken"]) == (20, 0)
        assert 0 < session["waited_ms"] < 60_000
        assert told["health"]["CNcmcc"]["weight"] > 20


async def test_what_was_told_long_ago_says_nothing(database: str) -> None:
    async with desk(database) as one:
        channel_id = await add(one)
        sql = "INSERT INTO channel_state (channel_id, gateway, told_at, told) VALUES ($1, 1, now() - $2 * interval '1 s', $3)"
        for seconds, word in ((60, "unknown"), (1, "up")):
            await one.database.execute("DELETE FROM channel_state")
            await one.database.execute(sql, channel_id, seconds, '{"link": "up", "sessions_up": 1}')
            told = await data(one, "GET", f"/v1/channels/{channel_id}/state")
            assert told["standing"]["word"] == word
            assert told["gateways"][0]["stale"] is (word == "unknown")


async def test_a_live_look_comes_as_one_finished_answer(database: str) -> None:
    async with (
        Simulator(behaviour.parse("report_delay_s=0.01")) as operator,
        fleet(database, operator) as both,
    ):
        await both.way.up()
        channel_id = both.way.laid.channels[0]
        looking = asyncio.create_task(data(both.desk, "GET", f"/v1/channels/{channel_id}/trace?seconds=4"))
        channel: Any = both.way.gateway.channel(channel_id)
        await both.way.holds(lambda: channel._sessions.trace.on)
        await both.way.final(await both.way.send("13800138000"))
        looked = await looking
        shown = "\n".join(pdu["text"] for pdu in looked["items"])
        assert "SubmitSm " in shown
        assert "DeliverSm " in shown
        assert "13800138000" not in shown
        loopback = await add(both.desk, "dry", "loopback", settings={})
        assert (await both.desk.ask("GET", f"/v1/channels/{loopback}/trace")).status == 409


async def test_a_drained_channel_takes_nothing_hears_the_last_report_and_logs_out(database: str) -> None:
    slow = behaviour.parse("report_delay_s=1.5")
    async with Simulator(slow) as operator, fleet(database, operator) as both:
        await both.way.up()
        channel_id = both.way.laid.channels[0]
        target = f"/v1/channels/{channel_id}"
        first = await both.way.send(number(1))
        await both.way.until("SELECT 1 FROM submitted WHERE channel_id = $1", channel_id)
        drained = await data(both.desk, "POST", f"{target}/drain", {"wait_s": 60})
        assert drained["standing"]["word"] == "draining"
        await both.way.holds(lambda: both.way.gateway.lines.open[channel_id].row.paused)
        waits = await both.way.send(number(2))
        assert (await both.way.final(first))["status"] == Status.DELIVERED.number
        told = await both.stands(channel_id, "drained")
        assert told["standing"]["sessions_up"] == 0
        await both.way.holds(lambda: operator.statistics().sessions == 0)
        assert operator.statistics().submits == 1
        await data(both.desk, "POST", f"{target}/resume", {})
        assert (await both.way.final(waits))["status"] == Status.DELIVERED.number
        await both.stands(channel_id, "up")
        await books_balance(both.way.database)


async def test_draining_ends_at_its_deadline_though_reports_are_awaited(database: str) -> None:
    async with (
        Simulator(behaviour.parse("report_loss_share=1")) as operator,
        fleet(database, operator) as both,
    ):
        await both.way.up()
        channel_id = both.way.laid.channels[0]
        await both.way.send(number(1))
        await both.way.until("SELECT 1 FROM submitted WHERE channel_id = $1", channel_id)
        await data(both.desk, "POST", f"/v1/channels/{channel_id}/drain", {"wait_s": 2})
        await both.stands(channel_id, "drained")
        await both.way.holds(lambda: operator.statistics().sessions == 0)
        assert await both.way.database.fetch("SELECT 1 FROM submitted WHERE channel_id = $1", channel_id)


async def test_what_waits_on_a_channel_that_is_drained_goes_by_another(database: str) -> None:
    quick = behaviour.parse("report_delay_s=0.01")
    async with Simulator(quick) as first, Simulator(quick) as second, fleet(database, first, second) as both:
        await both.way.up(2)
        east, _ = both.way.laid.channels
        await both.way.final(await both.way.send(number(1)))
        await data(both.desk, "POST", f"/v1/channels/{east}/drain", {"wait_s": 60})
        await both.stands(east, "drained")
        for place in range(5):
            await both.way.final(await both.way.send(number(place)))
        assert (first.statistics().submits, second.statistics().submits) == (1, 5)
