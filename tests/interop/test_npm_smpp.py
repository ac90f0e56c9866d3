"""npm's `smpp`, a library for Node: the SMSC of our channel, and an ESME at our door."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from channels.peer import Opened
from doors.client import reply
from doors.hosting import PASSWORD
from doors.test_protocols import QUIET, long_parts, town
from hongyan.channels.channel import Ack
from hongyan.vocab.message import Status
from hongyan.vocab.text import Counting
from interop.fetch import SPEAKERS
from interop.ours import GSM7, LONG, facing, written
from interop.speaker import Speaker, speaking

TO = "8613800138000"
RECEIPT = "id:{id} sub:001 dlvrd:001 submit date:2611250340 done date:2611250341 stat:{stat} err:{err} text:-"


def node(folder: Path, packages: Path, *words: str) -> AbstractAsyncContextManager[Speaker]:
    program = str(SPEAKERS / "npm_smpp.cjs")
    return speaking(folder, "node", program, *words, environment={"NODE_PATH": str(packages)})


# ── our channel, their SMSC ──────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def centre(folder: Path, packages: Path, **settings: Any) -> AsyncIterator[tuple[Speaker, Opened]]:
    """Their SMSC, with our channel bound to it until the end of the block."""
    async with node(folder, packages, "smsc") as smsc:
        (listening,) = await smsc.hears("listening")
        account = {"system_id": "hongyan", "password": PASSWORD, **settings}
        async with facing("smpp", listening["port"], **account) as opened:
            (bind,) = await smsc.hears("bind")
            assert (bind["system_id"], bind["password"], bind["version"]) == ("hongyan", PASSWORD, 0x34)
            yield smsc, opened
        await smsc.hears("unbind")
        await smsc.hears("close")


async def test_a_part_of_ours_is_acked_and_its_receipt_is_heard_and_answered(
    tmp_path: Path, node_packages: Path
) -> None:
    async with centre(tmp_path, node_packages) as (smsc, opened):
        opened.channel.submit(written(opened.channel, GSM7, Counting.INTERNATIONAL))
        (submit,) = await smsc.hears("submit")
        assert (submit["text"], submit["to"], submit["from"]) == (GSM7, TO, "10690000")
        assert (submit["data_coding"], submit["registered_delivery"]) == (0, 1)
        (answer,) = await opened.answers(1)
        assert answer.outcome == Ack(submit["id"], submit["id"])
        for stat, err in (("DELIVRD", "000"), ("UNDELIV", "012")):
            told = RECEIPT.format(id=submit["id"], stat=stat, err=err)
            smsc.say("deliver", fields={"esm_class": 4, "source_addr": TO, "short_message": told})
        delivered, failed = await opened.reports(2)
        assert (delivered.upstream_id, delivered.status) == (submit["id"], Status.DELIVERED)
        assert (failed.upstream_id, failed.status) == (submit["id"], Status.UNDELIVERED)
        assert "012" in failed.code
        opened.store()
        assert [one["status"] for one in await smsc.hears("delivered", 2)] == [0, 0]


async def test_a_receipt_that_names_its_message_only_in_optional_parameters_is_matched(
    tmp_path: Path, node_packages: Path
) -> None:
    async with centre(tmp_path, node_packages) as (smsc, opened):
        opened.channel.submit(written(opened.channel, GSM7, Counting.INTERNATIONAL))
        (submit,) = await smsc.hears("submit")
        named = {"receipted_message_id": submit["id"], "message_state": 2}
        smsc.say("deliver", fields={"esm_class": 4, "source_addr": TO, **named})
        (report,) = await opened.reports(1)
        assert (report.upstream_id, report.status) == (submit["id"], Status.DELIVERED)


@pytest.mark.parametrize("split", ["udh8", "udh16", "sar"])
async def test_a_long_text_of_ours_can_be_joined_again(
    tmp_path: Path, node_packages: Path, split: str
) -> None:
    async with centre(tmp_path, node_packages, split=split) as (smsc, opened):
        opened.channel.submit(written(opened.channel, LONG))
        submits = await smsc.hears("submit", 3)
        assert "".join(one["text"] for one in submits) == LONG
        assert {one["data_coding"] for one in submits} == {8}
        headers = {"udh8": "00034d030{}", "udh16": "0804004d030{}", "sar": ""}[split]
        assert [one["udh"] for one in submits] == [[headers.format(n)] if headers else [] for n in (1, 2, 3)]
        if split == "sar":
            assert [one["sar"] for one in submits] == [[77, 3, n] for n in (1, 2, 3)]
        assert all(isinstance(one.outcome, Ack) for one in await opened.answers(3))


async def test_what_a_person_texts_reaches_us_and_is_answered(tmp_path: Path, node_packages: Path) -> None:
    async with centre(tmp_path, node_packages) as (smsc, opened):
        texted = {
            "source_addr_ton": 1,
            "source_addr_npi": 1,
            "source_addr": TO,
            "destination_addr": "10690000",
        }
        smsc.say("deliver", fields={**texted, "short_message": "退订"})
        smsc.say("deliver", fields={**texted, "short_message": GSM7, "data_coding": 0})
        heard = await opened.inbound(2)
        assert [(one.number, one.access_number, one.text) for one in heard] == [
            (f"+{TO}", "10690000", "退订"),
            (f"+{TO}", "10690000", GSM7),
        ]
        opened.store()
        assert [one["status"] for one in await smsc.hears("delivered", 2)] == [0, 0]


async def test_a_centre_that_asks_is_answered_and_one_that_unbinds_is_bound_again(
    tmp_path: Path, node_packages: Path
) -> None:
    async with centre(tmp_path, node_packages) as (smsc, opened):
        smsc.say("enquire")
        assert await smsc.hears("alive") == [{"event": "alive", "status": 0}]
        smsc.say("unbind")
        assert await smsc.hears("unbound") == [{"event": "unbound", "status": 0}]
        await smsc.hears("bind", 2)
        await opened.recorder.until(lambda: opened.channel.state().sessions_up == 1)


# ── our door, their ESME ─────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def esme(
    folder: Path, packages: Path, port: int, password: str = PASSWORD
) -> AsyncIterator[tuple[Speaker, int]]:
    """Their ESME at our door, with the status its bind was answered with."""
    async with node(folder, packages, "esme", str(port), "acme", password) as one:
        (bound,) = await one.hears("bound")
        yield one, bound["status"]


def fields(text: str = QUIET, **more: Any) -> dict[str, Any]:
    return {"source_addr": "1069", "destination_addr": TO, "dest_addr_ton": 1, "dest_addr_npi": 1,
            "registered_delivery": 1, "short_message": text, **more}  # fmt: skip


async def test_their_submit_travels_to_a_handset_and_its_receipt_comes_back(
    database: str, tmp_path: Path, node_packages: Path
) -> None:
    async with (
        town(database) as (way, door, operator),
        esme(tmp_path, node_packages, door.ports["smpp"]) as (one, status),
    ):
        assert status == 0
        one.say("submit", fields=fields())
        (ack,) = await one.hears("ack")
        assert ack["status"] == 0
        (receipt,) = await one.hears("deliver")
        assert (receipt["receipted"], receipt["state"], receipt["esm_class"]) == (ack["id"], 2, 4)
        assert f"id:{ack['id']} " in receipt["text"]
        assert " stat:DELIVRD " in receipt["text"]
        assert [seen.text for seen in operator.phone("13800138000")] == [QUIET]
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")  # it acknowledged the receipt
        one.say("enquire")
        await one.hears("alive")
        one.say("unbind")
        assert await one.hears("unbound") == [{"event": "unbound", "status": 0}]
        await one.hears("close")


async def test_their_long_text_is_one_message_in_parts_or_as_a_payload(
    database: str, tmp_path: Path, node_packages: Path
) -> None:
    text = "【鸿雁】您的快递已到 " + "南" * 30
    async with (
        town(database) as (way, door, operator),
        esme(tmp_path, node_packages, door.ports["smpp"]) as (one, _),
    ):
        for part in long_parts():
            udh, body = part.short_message[:6], part.short_message[6:].decode("utf-16-be")
            one.say("submit", fields=fields(body), udh=udh.hex())
        payload = fields(destination_addr="8613900139000", message_payload=text, data_coding=8)
        del payload["short_message"]
        one.say("submit", fields=payload)
        acks = await one.hears("ack", 3)
        assert {ack["status"] for ack in acks} == {0}
        receipts = await one.hears("deliver", 3)
        assert {receipt["receipted"] for receipt in receipts} == {ack["id"] for ack in acks}
        assert [seen.text for seen in operator.phone("13800138000")] == [text]
        assert [seen.text for seen in operator.phone("13900139000")] == [text]
        assert len(await way.database.fetch("SELECT FROM message")) == 2


async def test_what_a_person_texts_back_reaches_them(
    database: str, tmp_path: Path, node_packages: Path
) -> None:
    async with (
        town(database) as (way, door, operator),
        esme(tmp_path, node_packages, door.ports["smpp"]) as (one, _),
    ):
        one.say("submit", fields=fields())
        await one.hears("deliver")
        await reply(way, door, operator, "好的")
        heard = (await one.hears("deliver", 2))[-1]
        assert (heard["text"], heard["from"], heard["to"], heard["esm_class"]) == ("好的", TO, "1069", 0)
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")


async def test_a_wrong_password_is_refused_in_words_they_understand(
    database: str, tmp_path: Path, node_packages: Path
) -> None:
    async with (
        town(database) as (_, door, _),
        esme(tmp_path, node_packages, door.ports["smpp"], "wrong") as (one, status),
    ):
        assert status == 0x0E
        await one.hears("close")
