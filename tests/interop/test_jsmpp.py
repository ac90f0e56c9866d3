"""Maven's jSMPP, a library for Java: an ESME at our door, and the SMSC of our channel."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from doors.client import reply
from doors.hosting import PASSWORD
from doors.test_protocols import QUIET, long_parts, town
from hongyan.channels.channel import Ack
from hongyan.vocab import text as texts
from hongyan.vocab.message import Status
from interop.ours import LONG, facing, written
from interop.speaker import JAVA, Speaker, speaking
from ports import free_port

TO = "8613800138000"
RECEIPT = "id:{id} sub:001 dlvrd:001 submit date:2611250340 done date:2611250341 stat:{stat} err:{err} text:-"


def jsmpp(folder: Path, class_path: str, *words: str) -> AbstractAsyncContextManager[Speaker]:
    return speaking(folder, *JAVA, class_path, "Jsmpp", *words)


def submit(one: Speaker, octets: bytes, esm_class: int = 0) -> None:
    one.say("submit", **{"from": "1069", "to": TO, "octets": octets.hex(), "esm_class": str(esm_class)})


async def test_submits_of_jsmpp_get_receipts_that_it_can_read_and_replies_reach_it(
    database: str, tmp_path: Path, class_path: str
) -> None:
    async with (
        town(database) as (way, door, operator),
        jsmpp(tmp_path, class_path, "esme", str(door.ports["smpp"]), "acme", PASSWORD) as one,
    ):
        assert await one.hears("bound") == [{"event": "bound", "status": "0"}]
        submit(one, QUIET.encode("utf-16-be"))
        for part in long_parts():
            submit(one, part.short_message, 0x40)
        acks = await one.hears("ack", 3)
        assert {ack["status"] for ack in acks} == {"0"}
        receipts = await one.hears("receipt", 3)
        assert {receipt["id"] for receipt in receipts} == {ack["id"] for ack in acks}
        for receipt in receipts:
            assert receipt["named"] == receipt["id"]
            assert (receipt["stat"], receipt["submitted"], receipt["delivered"]) == ("DELIVRD", "1", "1")
        assert [seen.text for seen in operator.phone("13800138000")] == [
            QUIET,
            "【鸿雁】您的快递已到 " + "南" * 30,
        ]
        await reply(way, door, operator, "好的")
        (text,) = await one.hears("text")
        assert (bytes.fromhex(text["octets"]).decode("utf-16-be"), text["from"]) == ("好的", TO)
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")
        submit(one, b"no signature")
        assert (await one.hears("ack", 4))[-1]["status"] == "69"
        one.say("unbind")
        await one.hears("closed")


async def test_a_wrong_password_is_refused_in_words_jsmpp_understands(
    database: str, tmp_path: Path, class_path: str
) -> None:
    async with (
        town(database) as (_, door, _),
        jsmpp(tmp_path, class_path, "esme", str(door.ports["smpp"]), "acme", "wrong") as one,
    ):
        assert (await one.hears("bound"))[0]["status"] == str(0x0E)


async def test_parts_of_ours_are_acked_by_jsmpp_and_its_receipts_and_texts_are_heard(
    tmp_path: Path, class_path: str
) -> None:
    port = free_port()
    async with jsmpp(tmp_path, class_path, "smsc", str(port)) as smsc:
        await smsc.hears("listening")
        async with facing("smpp", port, system_id="hongyan", password=PASSWORD) as opened:
            (bind,) = await smsc.hears("bind")
            assert (bind["system_id"], bind["password"], bind["type"]) == ("hongyan", PASSWORD, "BIND_TRX")
            opened.channel.submit(written(opened.channel, LONG))
            submits = await smsc.hears("submit", 3)
            read = [texts.read_udh(bytes.fromhex(one["octets"]), one["udhi"] == "true") for one in submits]
            in_order = sorted(read, key=lambda part: part.index)  # it works in several threads
            assert "".join(part.body.decode("utf-16-be") for part in in_order) == LONG
            assert {(one["to"], one["from"], one["coding"], one["wants"]) for one in submits} == {
                (TO, "10690000", "8", "1")
            }
            answers = await opened.answers(3)
            ids = {one.outcome.upstream_id for one in answers if isinstance(one.outcome, Ack)}
            assert ids == {one["id"] for one in submits}
            for one in submits:
                told = RECEIPT.format(id=one["id"], stat="DELIVRD", err="000")
                smsc.say("receipt", **{"from": TO, "to": "10690000", "text": told})
            smsc.say("text", **{"from": TO, "to": "10690000", "text": "退订"})
            # It sends one after the other's answer, and ours come once what was said is stored.
            for count in (1, 2, 3):
                assert len(await opened.reports(count)) == count
                opened.store()
            (heard,) = await opened.inbound(1)
            assert (heard.number, heard.text) == (f"+{TO}", "退订")
            assert {(one.upstream_id, one.status) for one in opened.recorder.reports} == {
                (one, Status.DELIVERED) for one in ids
            }
            opened.store()
            await smsc.hears("delivered", 4)
        await smsc.hears("closed")
