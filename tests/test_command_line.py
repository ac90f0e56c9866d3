"""The command line as its users type it: what it prints, what it leaves behind, what it says when it cannot."""

import asyncio
import errno
import io
import json
import os
import re
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

import make
from hongyan import __main__, clock
from hongyan.commands import frame
from hongyan.control.keys import NewKey
from hongyan.vault import Secret
from hongyan.vocab.message import Status
from hongyan.way import state
from install import calling, installed, until


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of an error."""
        assert self.code == 1, self
        (line,) = self.err.splitlines()
        assert line.startswith("hongyan: ")
        return line.removeprefix("hongyan: ")


class Terminal:
    """Runs commands in this process, as `hongyan …` would in its own."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str) -> Said:
        with pytest.raises(SystemExit) as ended:
            __main__.main(arguments)
        out, err = self._capture.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    def must(self, *arguments: str) -> Said:
        said = self(*arguments)
        assert said.code == 0, said
        return said

    def listed(self, noun: str) -> Sequence[Any]:
        rows: Sequence[Any] = self.must(noun, "list", "--json").json
        return rows


@pytest.fixture
def hongyan(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """A terminal on an install of its own: an empty database, no tenant yet."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("HONGYAN_STATE_DIR", str(tmp_path / "state"))
    return Terminal(capsys)


@pytest.fixture
def shop(hongyan: Terminal) -> Terminal:
    """The same with a tenant, named Shop."""
    hongyan.must("tenants", "create", "Shop")
    return hongyan


def test_a_tenant_is_made_ready_to_send_by_commands_alone(shop: Terminal) -> None:
    assert shop.must("tenants", "top-up", "Shop", "12.5").out == "balance 12.5\n"
    key = shop.must("keys", "create", "Shop", "--app", "web", "--basic", "--rate-per-s", "50", "--json").json
    assert key.keys() == {"key_id", "secret"}
    shop.must("signatures", "create", "Shop", "鸿雁", "--extension", "01")
    shop.must("signatures", "approve", "Shop", "鸿雁")
    assert "signatures approve Shop 另一个" in shop.must("signatures", "create", "Shop", "另一个").err
    shop.must(
        "templates", "create", "Shop", "code", "验证码${code}", "--purpose", "otp", "--variable", "code=code",
        "--approve",
    )  # fmt: skip
    shop.must("prices", "set", "0.045", "--tenant", "Shop", "--country", "CN", "--operator", "cmcc")
    shop.must("channels", "add", "east", "loopback", "report_delay_s=0.1", "--cost", "0.03")
    shop.must("routes", "add", "east", "--tenant", "Shop", "--purpose", "otp")
    (tenant,), (app_key,) = shop.listed("tenants"), shop.listed("keys")
    assert (tenant["name"], tenant["balance_micro"]) == ("Shop", 12_500_000)
    assert (app_key["key_id"], app_key["app"], app_key["rate_per_s"]) == (key["key_id"], "web", 50)
    assert {row["name"]: row["state"] for row in shop.listed("signatures")} == {
        "鸿雁": "approved",
        "另一个": "reviewing",
    }
    assert [row["code"] for row in shop.listed("templates")] == ["code"]
    assert [(row["operator"], row["part_micro"]) for row in shop.listed("prices")] == [("cmcc", 45_000)]
    shop.must("prices", "set", "0.05", "--country", "CN")
    shop.must("prices", "remove", "--country", "CN")
    assert [row["operator"] for row in shop.listed("prices")] == ["cmcc"]
    assert [row["name"] for row in shop.listed("channels")] == ["east"]
    assert [(row["channel"], row["purpose"]) for row in shop.listed("routes")] == [("east", "otp")]
    assert key["secret"] not in shop.must("keys", "list").out


def test_filings_are_put_brought_and_listed_by_commands(shop: Terminal, tmp_path: Path) -> None:
    shop.must("signatures", "create", "Shop", "鸿雁", "--approve")
    shop.must("filings", "put", "Shop", "鸿雁", "cmcc", "ok", "--until", "2999-12-31")
    answer = tmp_path / "answer.csv"
    answer.write_text("signature,state,reason\n鸿雁,驳回,材料不全\n无名,通过,\n", "utf-8")
    said = shop.must("filings", "import", "unicom", str(answer))
    assert said.err.splitlines() == ["line 3: signature: there is no such signature", "1 taken, 1 left out"]
    rows = {row["operator"]: row for row in shop.must("filings", "list", "Shop", "鸿雁", "--json").json}
    assert (rows["cmcc"]["state"], rows["cmcc"]["valid_until"]) == ("ok", "2999-12-31")
    assert (rows["unicom"]["state"], rows["unicom"]["reason"]) == ("failed", "材料不全")
    assert shop.listed("signatures")[0]["filed"] == ["cmcc"]
    assert len(shop.must("filings", "expiring", "--days", "3650", "--json").json) == 0
    assert "cannot become" in shop("filings", "put", "Shop", "鸿雁", "telecom", "lapsed").error
    shop.must("channels", "add", "east", "loopback")
    assert "12" in shop.must("signatures", "extend", "Shop", "鸿雁", "east", "12").err


def test_what_was_made_is_changed_and_taken_back(shop: Terminal) -> None:
    shop.must("tenants", "suspend", "Shop")
    assert shop.listed("tenants")[0]["active"] is False
    shop.must("tenants", "resume", "Shop")
    assert shop.listed("tenants")[0]["active"] is True
    key_id = shop.must("keys", "create", "Shop", "--json").json["key_id"]
    newer = shop.must("keys", "rotate", key_id, "--json").json["key_id"]
    shop.must("keys", "disable", key_id)
    assert {row["key_id"]: row["active"] for row in shop.listed("keys")} == {key_id: False, newer: True}
    for noun, name in (("signatures", "鸿雁"), ("templates", "note")):
        extra = ("您好", "--purpose", "transactional") if noun == "templates" else ()
        shop.must(noun, "create", "Shop", name, *extra, "--approve")
        shop.must(noun, "disable", "Shop", name)
        assert shop.listed(noun)[0]["state"] == "disabled"
    shop.must("signatures", "create", "Shop", "另一个")
    shop.must("signatures", "reject", "Shop", "另一个")
    shop.must("channels", "add", "east", "loopback")
    shop.must("channels", "pause", "east")
    assert shop.listed("channels")[0]["paused"] is True
    shop.must("channels", "resume", "east")
    rule = shop.must("routes", "add", "east").out.split()[1]
    shop.must("routes", "remove", rule)
    shop.must("channels", "remove", "east", "--yes")
    assert (shop.listed("routes"), shop.listed("channels")) == ([], [])


def test_a_channels_settings_are_explained_read_from_a_file_and_kept_sealed(
    shop: Terminal, tmp_path: Path
) -> None:
    assert shop.must("channels", "kinds").out.split() == [
        "aliyun", "cmpp", "custom_http", "loopback", "sgip", "smgp", "smpp", "tencent", "twilio",
    ]  # fmt: skip
    assert "system_id" in shop.must("channels", "kinds", "smpp").out
    told = {line.split("  ")[0]: line for line in shop.must("channels", "kinds", "aliyun").out.splitlines()}
    assert [name for name, line in told.items() if "(needed)" in line] == [
        "access_key_id",
        "access_key_secret",
    ]
    file = tmp_path / "settings.json"
    file.write_text('{"hosts": ["127.0.0.1"], "port": 1, "system_id": "us", "password": "hidden"}')
    shop.must("channels", "add", "north", "smpp", "--settings", str(file))
    file.write_text('{"hosts": ["127.0.0.1"], "port": 2, "system_id": "us", "password": "hidden"}')
    shop.must("channels", "configure", "north", "--settings", str(file))
    assert "hidden" not in shop.must("channels", "list").out
    assert "colour" in shop("channels", "add", "south", "loopback", "colour=red").error


def test_the_address_for_pushes_is_told_and_stays_the_same(shop: Terminal) -> None:
    for name in ("clouds", "云"):
        shop.must("channels", "add", name, "aliyun", "access_key_id=x", "access_key_secret=y")
    told = shop.must("channels", "push-url", "clouds").out
    assert re.fullmatch(r"https://sms\.example\.com/upstream/clouds/[0-9a-f]{32}\n", told)
    assert shop.must("channels", "push-url", "clouds").out == told
    other = shop.must("channels", "push-url", "云", "--base", "https://push.example.org/").out
    assert other.startswith("https://push.example.org/upstream/%E4%BA%91/")
    assert other.rsplit("/", 1)[1] != told.rsplit("/", 1)[1]


def test_a_channel_is_tried_out_drained_and_looked_at(shop: Terminal) -> None:
    shop.must(
        "channels", "add", "east", "smpp", 'hosts=["127.0.0.1:1"]', "system_id=us", "password=knock",
    )  # fmt: skip
    tried = shop("channels", "test", "east", "--json")
    assert (tried.code, tried.json["verdict"]) == (1, "failed")
    assert "resolved after" in shop("channels", "test", "east").out
    assert shop.must("channels", "state", "east", "--json").json["standing"]["word"] == "unknown"
    assert "at the latest" in shop.must("channels", "drain", "east", "--wait-s", "60").err
    assert shop.must("channels", "state", "east").out.startswith("word")
    assert shop.must("channels", "state", "east", "--json").json["standing"]["word"] == "draining"
    shop.must("channels", "resume", "east")
    shop.must("routes", "add", "east", "--operator", "cmcc", "--country", "CN")
    assert "operator" in shop("routes", "add", "east", "--operator", "mobile").error
    said = shop.must("routes", "dry-run", "Shop", "13800138000", "--purpose", "otp", "--json").json
    assert [one["why"] for one in said["channels"]] == ["down"]
    assert "east" in shop.must("routes", "dry-run", "Shop", "13800138000").out


def test_a_webhook_is_set_renewed_and_removed(shop: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.must("keys", "create", "Shop")
    url = "https://example.com/hook"
    first = shop.must("webhooks", "set", "Shop", url, "--json").json["secret"]
    assert shop.must("webhooks", "set", "Shop", url).err == "the secret stays as it was\n"
    assert shop.must("webhooks", "set", "Shop", url, "--renew-secret", "--json").json["secret"] != first
    assert "url" in shop("webhooks", "set", "Shop", "http://127.0.0.1:8099/hook").error
    monkeypatch.setenv("HONGYAN_WEBHOOK_PRIVATE_ADDRESSES", "yes")
    shop.must("webhooks", "set", "Shop", "http://127.0.0.1:8099/hook")
    shop.must("webhooks", "remove", "Shop")
    assert [row["active"] for row in shop.listed("webhooks")] == [False]


def test_a_login_is_made_changed_disabled_and_enabled(shop: Terminal) -> None:
    made = shop.must(
        "logins", "create", "Shop", "cmpp", "900001", "--version", "2.0", "--rate-per-s", "5", "--json"
    )
    assert made.json.keys() == {"app", "password"}
    assert made.json["app"] == "cmpp:900001"
    shop.must(
        "logins", "change", "cmpp", "900001", "--version", "", "--free-text", "--hold", "--purpose", "otp",
        "--address", "10.0.0.0/8", "--setting", "report_octets=60",
    )  # fmt: skip
    (row,) = shop.listed("logins")
    assert (row["name"], row["tenant"], row["version"], row["rate_per_s"]) == ("900001", "Shop", "", 5)
    assert (row["free_text"], row["hold"], row["purpose"]) == (True, True, "otp")
    assert row["addresses"] == ["10.0.0.0/8"]
    assert row["settings"] == {"report_octets": 60}
    shop.must("logins", "change", "cmpp", "900001", "--address", "", "--setting", "report_octets=null")
    assert [(row["addresses"], row["settings"]) for row in shop.listed("logins")] == [([], {})]
    renewed = shop.must("logins", "password", "cmpp", "900001", "--json").json["password"]
    for password in (made.json["password"], renewed):
        assert password not in shop.must("logins", "list").out
    shop.must("logins", "disable", "cmpp", "900001")
    assert [row["active"] for row in shop.listed("logins")] == [False]
    shop.must("logins", "enable", "cmpp", "900001")
    assert [row["active"] for row in shop.listed("logins")] == [True]


async def lay_held(dsn: str, texts: Sequence[str]) -> Sequence[str]:
    """Messages of a tenant named Held, laid as accept would."""
    async with make.world(dsn) as world, world.database.transaction() as tx:
        await tx.execute("UPDATE tenant SET name = 'Held' WHERE id = $1", world.tenant_id)
        ids = [await make.message(tx, world, text=text, status=Status.HELD) for text in texts]
        for one in ids:
            await make.outbox(tx, world, one, owner=-1)
    return [str(one) for one in ids]


def test_what_is_held_is_listed_released_and_refused(
    hongyan: Terminal, database: str, tmp_path: Path
) -> None:
    key = tmp_path / "state" / "master.key"
    key.parent.mkdir(mode=0o700)
    key.write_text(make.MASTER.reveal().hex())
    key.chmod(0o600)
    good, bad = asyncio.run(lay_held(database, ["【鸿雁】今晚八点", "【鸿雁】\x1b[2J赢大奖"]))
    first, second = hongyan.must("held", "list", "--json").json
    assert (first["id"], first["text"], second["text"]) == (good, "【鸿雁】今晚八点", "【鸿雁】\x1b[2J赢大奖")
    assert "13800138000" not in first["number"]
    shown = hongyan.must("held", "list", "--tenant", "Held").out
    assert "\\x1b[2J赢大奖" in shown
    assert "\x1b" not in shown
    assert [row["id"] for row in hongyan.must("held", "list", "--after", good, "--json").json] == [bad]
    assert hongyan.must("held", "release", good).out == "1 decided\n"
    again = hongyan("held", "refuse", good, bad)
    assert (again.code, again.out, again.err) == (
        1,
        "1 decided\n",
        f"{good} is not held any more, or has run out\n",
    )
    assert hongyan.must("held", "list").err == "nothing is held\n"


def test_a_password_that_a_customer_has_already_is_asked_for_and_not_shown(
    shop: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("opensaym\nopensesame\n"))
    said = shop.must("logins", "create", "Shop", "smpp", "ACME", "--password", "--json")
    assert said.json == {"app": "smpp:ACME"}
    assert "opensaym" not in said.err
    said = shop("logins", "password", "smpp", "ACME", "--password")
    assert "password: 1 to 8 printable characters" in said.error
    assert "opensesame" not in said.err


def test_a_file_of_numbers_is_kept_checked_and_counted(shop: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "numbers.csv"
    file.write_text("\ufeff13800138000\n\n+86 138 0013 8001\n13800138000\n", "utf-8")
    told = shop.must("opt-outs", "import", str(file), "--tenant", "Shop").out
    assert told == "2 new, 1 there already, 0 that are no numbers\n"
    file.write_text("13800138001\nphone\n010-62345678\n")
    again = shop("opt-outs", "import", str(file), "--tenant", "Shop")
    assert (again.code, again.out) == (1, "0 new, 1 there already, 2 that are no numbers\n")
    assert again.err == "line 2: garbled\nline 3: not_mobile\n"
    assert shop("blocks", "import", str(file)).out.startswith("1 new, ")  # for everybody
    shop.must("blocks", "remove", "13800138001")
    assert shop("blocks", "import", str(file)).out.startswith("1 new, ")
    shop.must("opt-outs", "remove", "13800138001", "--tenant", "Shop")
    assert shop("opt-outs", "import", str(file), "--tenant", "Shop").out.startswith("1 new, ")


MISTAKES: Final = {
    "nothing": "No such command 'nothing'",
    "keys create": "Missing argument 'tenant'",
    "check --colour": "No such option: --colour",
    "keys create Nobody": "There is no such object: tenant Nobody",
    "tenants top-up Shop 0.0000001": "no amount with at most six decimals",
    "tenants top-up Shop 0": "positive amount",
    "tenants create Other --charge-on whim": "submit or delivery",
    "prices remove --country FR": "FR",
    "prices set 1 --purpose fun": "there is no purpose 'fun'",
    "prices set 1 --operator cmcc": "operator: say its country too",
    "channels add x pigeon": "pigeon",
    "channels remove x --yes": "There is no such object",
    "channels push-url x": "There is no such object",
    "channels push-url x/y": "fits into no address",
    "routes remove 7": "There is no such object",
    "logins create Nobody smpp x": "There is no such object: tenant Nobody",
    "logins create Shop smpp elephantelephant": "name: 1 to 15 printable characters",
    "logins create Shop cmpp x --version 4.0": "say 2.0 or 3.0",
    "logins create Shop smpp x --setting node": "say name=value",
    "logins create Shop smpp x --setting node=1": "settings.node: smpp takes",
    "held list --tenant Nobody": "There is no such object: tenant Nobody",
    "held list --limit 0": "--limit",
    "held release letters": "this is no message id",
    "held refuse": "Missing argument",
    "logins disable smpp x": "There is no such object: protocol smpp: name x",
    "opt-outs import /no/such/file": "No such file or directory",
    "blocks remove letters": "this is no number: garbled",
    "trace letters": "this is no message id",
    "run --role cook": "there is no role 'cook'",
    "send 13800138000": "--key-id",
    "send 13800138000 --param x": "say name=value",
    "backup /no/such/folder/file": "cannot write /no/such/folder/file",
    "simulate colour=red": "colour",
}


def test_an_error_is_one_clear_line(shop: Terminal) -> None:
    for typed, words in MISTAKES.items():
        assert words in shop(*typed.split()).error, typed


def test_a_database_that_is_not_there_is_said_so(hongyan: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert "the database does not answer" in hongyan("tenants", "list").error


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSPC, errno.EMFILE])
def test_what_the_system_refuses_is_not_laid_to_the_database(number: int) -> None:
    told = frame.explain(OSError(number, os.strerror(number), "/var/lib/hongyan/master.key"))
    assert (
        told == f"the system refuses: [Errno {number}] {os.strerror(number)}: '/var/lib/hongyan/master.key'"
    )


def test_a_message_that_is_not_there_has_no_story(shop: Terminal) -> None:
    said = shop("trace", "019b0000-0000-7000-8000-000000000000")
    assert (said.code, said.out) == (1, "")
    assert "no such message" in said.err


def test_migrate_says_what_it_applied(hongyan: Terminal) -> None:
    assert hongyan.must("migrate").err == "the schema is up to date\n"


def test_the_master_key_is_changed_and_the_old_one_opens_nothing(shop: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "state" / "master.key"
    old = path.read_text()
    assert "keys wrapped anew" in shop.must("master-key", "rotate").err
    assert path.read_text() != old
    assert path.stat().st_mode & 0o777 == 0o600
    shop.must("tenants", "list")
    path.write_text(old)
    assert "master key does not open" in shop("tenants", "list").error


def test_the_pepper_is_renewed_and_the_one_before_stays(shop: Terminal) -> None:
    assert "version 2 now" in shop.must("pepper", "renew").err
    assert "version 3 now" in shop.must("pepper", "renew").err
    shop.must("tenants", "list")


def test_help_names_every_command_and_every_behaviour_of_the_simulator(hongyan: Terminal) -> None:
    told = hongyan.must("--help").out
    for name in ("run", "migrate", "check", "send", "trace", "simulate", "backup", "restore", "opt-outs"):
        assert re.search(rf"\b{name}\b", told)
    assert "report_delay_s" in hongyan.must("simulate", "--options").out


@pytest.mark.parametrize("encoding", ["latin-1", "gbk"])
def test_a_terminal_that_has_not_all_characters_is_written_to(
    shop: Terminal, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    shop.must("tenants", "create", "雁✓")
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, encoding, write_through=True))
    for words in (["--help"], ["tenants", "list"]):
        with pytest.raises(SystemExit) as ended:
            __main__.main(words)
        assert not ended.value.code
    assert "\\u2713" in said.getvalue().decode(encoding)


# ─── check ────────────────────────────────────────────────────────────────────────────────────────────────


def findings(said: Said) -> dict[str, tuple[bool, str]]:
    return {each["what"]: (each["sound"], each["words"]) for each in said.json["findings"]}


def test_a_sound_install_is_found_sound(shop: Terminal) -> None:
    shop.must("channels", "add", "east", "loopback")
    found = findings(shop.must("check", "--json"))
    assert all(sound for sound, _ in found.values())
    assert found["channel east"][1] == "its host lets us log in, no route leads here"


def test_a_dead_channel_is_found(shop: Terminal) -> None:
    settings = ('hosts=["127.0.0.1"]', "port=1", "system_id=us", "password=x")
    shop.must("channels", "add", "north", "smpp", *settings)
    said = shop("check", "--json", "--wait-s", "1.5")
    sound, words = findings(said)["channel north"]
    assert (said.code, sound) == (1, False)
    assert "127.0.0.1:1" in words
    assert findings(shop.must("check", "--json", "--no-binds"))["channel north"][0]


@pytest.mark.parametrize(("off_s", "words"), [(600, "600 s ahead of the"), (-90, "90 s behind the")])
def test_clocks_that_differ_are_found(
    shop: Terminal, monkeypatch: pytest.MonkeyPatch, off_s: float, words: str
) -> None:
    monkeypatch.setattr(clock, "now_s", lambda: time.time() + off_s)
    sound, said = findings(shop("check", "--json"))["clock"]
    assert not sound
    assert words in said


def test_a_clock_that_leapt_ahead_is_told_while_nothing_is_forgotten(
    shop: Terminal, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "retention" not in findings(shop("check", "--json"))

    async def leap() -> None:
        connection = await asyncpg.connect(database)
        await connection.execute(
            "INSERT INTO clock_seen (one, at, leapt_at) VALUES (true, now(), now() - interval '1 hour')"
        )
        await connection.close()

    asyncio.run(leap())
    sound, said = findings(shop.must("check", "--json"))["retention"]
    assert sound
    assert "nothing is deleted" in said
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(hours=24))
    assert "retention" not in findings(shop("check", "--json", "--no-binds"))


async def test_a_provider_is_asked_for_nothing_but_whether_its_host_answers(
    hongyan: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")[0])
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as host:
        url = f"url=http://127.0.0.1:{host.sockets[0].getsockname()[1]}/send?to={{number}}"
        account = (url, "secret_id=x", "secret_key=y", "sdk_app_id=1", "pull_gap_s=0.01")

        async def check() -> Said:
            return await asyncio.to_thread(hongyan, "check", "--json")

        await asyncio.to_thread(hongyan.must, "channels", "add", "clouds", "tencent", *account)
        sound, words = findings(await check())["channel clouds"]
        assert not sound
        assert "private address" in words
        monkeypatch.setenv("HONGYAN_CHANNEL_PRIVATE_ADDRESSES", "yes")
        sound, words = findings(await check())["channel clouds"]
        assert (sound, asked) == (True, ["GET / HTTP/1.1"])
        assert words.startswith("its host answers")
    assert "no connection" in findings(await check())["channel clouds"][1]


@pytest.mark.parametrize(
    ("variable", "value"), [("HONGYAN_COLOUR", "red"), ("HONGYAN_HTTP_PORT", "x"), ("HONGYAN_LAYOUT", "cook")]
)
def test_wrong_settings_are_found(
    hongyan: Terminal, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert variable in hongyan("check").error


def test_a_missing_or_wrong_master_key_is_found(shop: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "state" / "master.key"
    path.write_text("0" * 64 + "\n")
    assert findings(shop("check", "--json"))["master key"][0] is False
    path.unlink()
    sound, words = findings(shop("check", "--json"))["master key"]
    assert not sound
    assert "is missing" in words
    assert not path.exists()


def test_settings_are_listed_with_their_meaning_and_without_secrets(
    hongyan: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONGYAN_MASTER_KEY", "ab" * 32)
    monkeypatch.setenv("HONGYAN_TRUSTED_PROXIES", "10.0.0.0/8,::1")
    listed = {knob["variable"]: knob for knob in hongyan("check", "--json").json["settings"]}
    assert listed["HONGYAN_MASTER_KEY"]["value"] == listed["DATABASE_URL"]["value"] == "***"
    assert listed["HONGYAN_TRUSTED_PROXIES"]["value"] == "10.0.0.0/8,::1/128"
    assert listed["HONGYAN_TICK_GAP_MS"]["meaning"]


# ─── with a running install ───────────────────────────────────────────────────────────────────────────────


def test_a_port_that_is_taken_is_said_so(hongyan: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("HONGYAN_HTTP_PORT", str(port))
        assert f"cannot listen on 127.0.0.1:{port}" in hongyan("run", "--role", "door").error


async def test_a_message_is_sent_and_its_story_told_by_commands(database: str) -> None:
    async with installed(layout="door+gateway+clerk", dsn=database) as laid:
        said = await laid.install.command("keys", "create", "1", "--app", "test", "--basic", "--json")
        made = json.loads(said.splitlines()[0])
        laid.install.environment |= {"APP_KEY_ID": made["key_id"], "APP_KEY_SECRET": made["secret"]}
        async with calling(laid.install, NewKey(made["key_id"], Secret(made["secret"].encode()))):
            wording = ("--signature", "鸿雁", "--template", "order", "--param", "order=7")
            sent = await laid.install.command("send", "13800138000", *wording)
        message_id = re.search("hongyan trace (.*)", sent)
        assert message_id is not None
        await laid.all_told([message_id[1]])
        told = await laid.install.command("trace", message_id[1])
        for words in (
            "accepted; ",
            "handed to test; route",
            "taken as ",
            "report delivered, they say DELIVRD",
        ):
            assert words in told
        assert "13800138000" not in told
        assert "您的订单7已发货" in await laid.install.command("trace", message_id[1], "--clear")


async def test_check_says_of_a_channel_what_the_gateway_that_holds_it_says(database: str) -> None:
    async with installed(layout="door+gateway", dsn=database) as laid, laid.install.database() as asked:

        async def told(link: str, reason: str = "") -> bool:
            async with asked.transaction() as tx:
                every = [one.told for each in (await state.every(tx)).values() for one in each]
            return any(one.link == link and reason in one.reason for one in every)

        await until(lambda: told("up"), "never up")
        assert "a running gateway is logged in" in await laid.install.command("check")
        await laid.operator.stop()
        # First it says that the session has ended, then why the next one does not begin.
        await until(lambda: told("down", "127.0.0.1:"), "never down")
        said = await laid.install.command("check", fails=True)
        assert re.search(r"holds it and is not logged in: 127\.0\.0\.1:\d+: .+", said)
