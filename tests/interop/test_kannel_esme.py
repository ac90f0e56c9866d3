"""Kannel's bearerbox as an ESME at our door; tests/test_kannel.py has it at our practice operator."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

import test_kannel
from doors.client import reply
from doors.hosting import Hosted, hosted, log_in_as
from hongyan.simulator import Simulator
from hongyan.simulator import behaviour as behaviours
from plane import Plane, plane
from test_kannel import Kannel, kannel

QUIET = "【鸿雁】您的快递已到 南门"
LONG = "【鸿雁】" + "".join(map(chr, range(0x4E00, 0x4E00 + 150)))  # three parts as Kannel cuts


@dataclass
class Door:
    """All that kannel() asks of where it logs in."""

    hosted: Hosted

    @property
    def port(self) -> int:
        return self.hosted.ports["smpp"]

    @property
    def sessions(self) -> int:
        return len(self.hosted.host.links)

    def statistics(self) -> "Door":
        return self


@asynccontextmanager
async def town(dsn: str, folder: Path) -> AsyncIterator[tuple[Plane, Hosted, Simulator, Kannel]]:
    """A plane, its operator, a door, and Kannel bound to it."""
    quick = behaviours.parse("report_delay_s=0.01")
    async with Simulator(quick) as operator, plane(dsn, operator) as way:
        await log_in_as(way, "smpp", "kannel", free_text=True)
        async with hosted(way, "smpp") as door, kannel(folder, cast("Simulator", Door(door))) as one:
            yield way, door, operator, one


@pytest.mark.needs("bearerbox", "smsbox")
@pytest.mark.parametrize(
    "id_type",
    [
        pytest.param("", id="ids-as-text"),
        pytest.param("msg-id-type = 0x00\n", id="ids-as-decimal"),  # read as signed numbers of 64 bits
    ],
)  # fmt: skip
async def test_kannel_sends_through_our_door_and_hears_reports_and_replies(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_type: str
) -> None:
    conf = test_kannel.KANNEL_CONF.replace("msg-id-type = 0x00\n", id_type)
    monkeypatch.setattr(test_kannel, "KANNEL_CONF", conf)
    async with town(database, tmp_path) as (way, door, operator, one):
        query = {"charset": "UTF-8", "coding": "2", "from": "1069"}
        await one.send("8613800138000", QUIET, **query)
        await one.send("8613800138001", LONG, **query)
        await one.send("8619900000001", QUIET, **query)  # the sandbox's ending for UNDELIV
        reports = await one.heard.until("/report", 3)
        states = {query["to"][0]: query["state"][0] for query in reports}
        assert states == {"8613800138000": "1", "8613800138001": "1", "8619900000001": "2"}
        assert [seen.text for seen in operator.phone("13800138000")] == [QUIET]
        assert [seen.text for seen in operator.phone("13800138001")] == [LONG]
        assert len(await way.database.fetch("SELECT FROM message")) == 3
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")  # every receipt was acknowledged
        await reply(way, door, operator, "好的")
        (heard,) = await one.heard.until("/inbound")
        assert heard["to"] == ["1069"]
        assert heard["from"][0].endswith("13800138000")
