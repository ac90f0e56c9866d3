"""Maven's SMSGate, which speaks CMPP, SMGP and SGIP: an SP at our door, and the gateway of our channels."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from doors.client import NAME, QUIET, reply, town
from doors.hosting import PASSWORD
from hongyan.channels.channel import Ack
from hongyan.vocab.message import Status
from interop.ours import LONG, facing, written
from interop.speaker import JAVA, Speaker, speaking
from ports import free_port

LONG_SIGNED = f"【鸿雁】{LONG}"
VERSIONS = [("cmpp", 0x20), ("cmpp", 0x30), ("smgp", 0x30), ("sgip", 0)]
KIND = pytest.mark.parametrize(("kind", "version"), VERSIONS, ids=["cmpp2", "cmpp3", "smgp", "sgip"])
ACCOUNTS: dict[str, dict[str, Any]] = {
    "cmpp": {"source_addr": NAME, "secret": PASSWORD},
    "smgp": {"client_id": NAME, "secret": PASSWORD},
    "sgip": {"login_name": NAME, "login_password": PASSWORD, "corp_id": "92008", "area_code": "010"},
}


def smsgate(
    folder: Path, class_path: str, role: str, kind: str, version: int, port: int
) -> AbstractAsyncContextManager[Speaker]:
    words = (*JAVA, class_path, "Smsgate", role, kind, str(version), str(port), NAME, PASSWORD)
    return speaking(folder, *words, environment={"TZ": "Asia/Shanghai"})


@KIND
async def test_submits_of_smsgate_get_their_reports_and_replies_reach_it(
    database: str, tmp_path: Path, class_path: str, kind: str, version: int
) -> None:
    async with (
        town(database, kind, free_text=True) as (way, door, operator),
        smsgate(tmp_path, class_path, "client", kind, version, door.ports[kind]) as sp,
    ):
        await sp.hears("bound")
        sp.say("submit", **{"from": "1069", "to": "13800138000", "text": QUIET})
        sp.say("submit", **{"from": "1069", "to": "13900139000", "text": LONG_SIGNED})
        acks = await sp.hears("ack", 4)
        assert {ack["result"] for ack in acks} == {"0"}
        reports = await sp.hears("report", 4)
        assert {report["id"] for report in reports} == {ack["id"] for ack in acks}
        assert {report["stat"] for report in reports} == {"0" if kind == "sgip" else "DELIVRD"}
        assert [seen.text for seen in operator.phone("13800138000")] == [QUIET]
        assert [seen.text for seen in operator.phone("13900139000")] == [LONG_SIGNED]
        assert len(await way.database.fetch("SELECT FROM message")) == 2
        await reply(way, door, operator, LONG, 3)
        (text,) = await sp.hears("text")
        assert (text["text"], text["to"]) == (LONG, "1069")
        assert text["from"].endswith("13800138000")
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")  # it answered all of that
        sp.say("close")
        await sp.hears("closed")


@KIND
async def test_parts_of_ours_are_joined_by_smsgate_and_its_reports_and_texts_are_heard(
    tmp_path: Path, class_path: str, kind: str, version: int
) -> None:
    account = ACCOUNTS[kind] | ({"version": "3.0" if version == 0x30 else "2.0"} if kind == "cmpp" else {})
    port = free_port()
    async with smsgate(tmp_path, class_path, "server", kind, version, port) as gateway:
        await gateway.hears("opened")
        async with facing(kind, port, **account) as opened:
            await gateway.hears("bound")
            for text in ("hello @", QUIET, LONG):
                opened.channel.submit(written(opened.channel, text))
            submits = await gateway.hears("submit", 3)
            assert [submit["text"] for submit in submits] == ["hello @", QUIET, LONG]
            assert {(submit["from"], submit["wants"]) for submit in submits} == {("10690000", "1")}
            answers = await opened.answers(5)
            ids = [answer.outcome.upstream_id for answer in answers if isinstance(answer.outcome, Ack)]
            assert len(ids) == 5
            reports = await opened.reports(5)
            assert {report.upstream_id for report in reports} == set(ids)
            assert {report.status for report in reports} == {Status.DELIVERED}
            gateway.say("text", **{"from": "13800138000", "to": "10690000", "text": "退订"})
            (heard,) = await opened.inbound(1)
            assert (heard.number, heard.access_number, heard.text) == ("+8613800138000", "10690000", "退订")
            opened.store()
            assert {one["result"] for one in await gateway.hears("delivered", 6)} == {"0"}
        await gateway.hears("closed")
