"""PyPI's `smpplib` and `aiosmpplib`, two libraries for Python, as ESMEs at our door."""

import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from doors.client import reply
from doors.hosting import PASSWORD
from doors.test_protocols import QUIET, town
from interop.fetch import SPEAKERS
from interop.ours import GSM7
from interop.speaker import Speaker, speaking

TO = "8613800138000"
LONG = "【鸿雁】" + "".join(map(chr, range(0x4E00, 0x4E00 + 100)))  # two parts as both cut


def esme(
    library: str, folder: Path, packages: Path, port: int, password: str = PASSWORD
) -> AbstractAsyncContextManager[Speaker]:
    program = str(SPEAKERS / f"{library}_esme.py")
    words = (sys.executable, program, str(port), "acme", password)
    return speaking(folder, *words, environment={"PYTHONPATH": str(packages)})


# ── smpplib ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_submit_of_smpplib_gets_its_receipt_and_the_receipt_is_acknowledged(
    database: str, tmp_path: Path, python_packages: Path
) -> None:
    async with (
        town(database) as (way, door, operator),
        esme("smpplib", tmp_path, python_packages, door.ports["smpp"]) as one,
    ):
        assert await one.hears("bound") == [{"event": "bound", "status": 0}]
        one.say("submit", to=TO, text=QUIET)
        (ack,) = await one.hears("ack")
        (receipt,) = await one.hears("deliver")
        assert (ack["status"], receipt["esm_class"]) == (0, 4)
        assert (receipt["receipted"], receipt["state"]) == (ack["id"], 2)
        assert (receipt["source"], receipt["to"]) == (TO, "1069")
        assert bytes.fromhex(receipt["octets"]).startswith(f"id:{ack['id']} ".encode())
        assert [seen.text for seen in operator.phone("13800138000")] == [QUIET]
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        await reply(way, door, operator, "好的")
        text = (await one.hears("deliver", 2))[-1]
        assert bytes.fromhex(text["octets"]).decode("utf-16-be") == "好的"
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        one.say("unbind")
        await one.hears("unbound")


@pytest.mark.parametrize("udhi", [True, False], ids=["udh", "sar"])
async def test_a_long_text_of_smpplib_is_one_message_with_a_receipt_for_each_part(
    database: str, tmp_path: Path, python_packages: Path, udhi: bool
) -> None:
    async with (
        town(database, free_text=True) as (way, door, operator),
        esme("smpplib", tmp_path, python_packages, door.ports["smpp"]) as one,
    ):
        one.say("submit", to=TO, text=LONG, udhi=udhi)
        acks = await one.hears("ack", 2)
        receipts = await one.hears("deliver", 2)
        assert {receipt["receipted"] for receipt in receipts} == {ack["id"] for ack in acks}
        assert [seen.text for seen in operator.phone("13800138000")] == [LONG]
        assert len(await way.database.fetch("SELECT FROM message")) == 1


async def test_a_wrong_password_is_refused_in_words_smpplib_understands(
    database: str, tmp_path: Path, python_packages: Path
) -> None:
    async with (
        town(database) as (_, door, _),
        esme("smpplib", tmp_path, python_packages, door.ports["smpp"], "wrong") as one,
    ):
        assert await one.hears("bound") == [{"event": "bound", "status": 0x0E}]


# ── aiosmpplib ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_submit_of_aiosmpplib_gets_its_receipt_and_replies_reach_it(
    database: str, tmp_path: Path, python_packages: Path
) -> None:
    async with (
        town(database) as (way, door, operator),
        esme("aiosmpplib", tmp_path, python_packages, door.ports["smpp"]) as one,
    ):
        assert await one.hears("bound") == [{"event": "bound", "status": 0}]
        one.say("submit", to=TO, text=QUIET, log_id="a", payload=True)
        (ack,) = await one.hears("ack")
        (receipt,) = await one.hears("receipt")
        assert (ack["status"], ack["log_id"]) == (0, "a")
        told = {"event": "receipt", "id": ack["id"], "stat": "DELIVRD", "log_id": "a"}
        assert receipt == told  # it found its submit by our id
        assert [seen.text for seen in operator.phone("13800138000")] == [QUIET]
        await reply(way, door, operator, "好的")
        (text,) = await one.hears("text")
        assert (text["source"], text["text"]) == (TO, "好的")
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        one.say("unbind")
        await one.hears("unbound")


@pytest.mark.parametrize("payload", [False, True], ids=["parts", "payload"])
async def test_a_long_text_of_aiosmpplib_is_one_message(
    database: str, tmp_path: Path, python_packages: Path, payload: bool
) -> None:
    """Its parts have a header and the SAR parameters at once."""
    async with (
        town(database, free_text=True) as (way, door, operator),
        esme("aiosmpplib", tmp_path, python_packages, door.ports["smpp"]) as one,
    ):
        one.say("submit", to=TO, text=LONG, log_id="b", payload=payload, udhi=not payload)
        assert (await one.hears("ack"))[0]["status"] == 0
        (receipt,) = await one.hears("receipt")  # it tells of the last part's only
        assert (receipt["stat"], receipt["log_id"]) == ("DELIVRD", "b")
        assert [seen.text for seen in operator.phone("13800138000")] == [LONG]
        assert len(await way.database.fetch("SELECT FROM message")) == 1
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        assert one.of("error") == []


async def test_a_text_of_aiosmpplib_in_the_default_alphabet_arrives(
    database: str, tmp_path: Path, python_packages: Path
) -> None:
    async with (
        town(database, free_text=True, settings={"signature": "鸿雁"}) as (_, door, operator),
        esme("aiosmpplib", tmp_path, python_packages, door.ports["smpp"]) as one,
    ):
        one.say("submit", to=TO, text=GSM7, log_id="c", payload=True)
        assert (await one.hears("ack"))[0]["status"] == 0
        await one.hears("receipt")
        assert [seen.text for seen in operator.phone("13800138000")] == [f"【鸿雁】{GSM7}"]
