"""PyPI's `pycmpp`, a CMPP 2.0 client for Python, at our door."""

import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from doors.client import LONG, NAME, QUIET, town
from doors.hosting import PASSWORD
from interop.fetch import SPEAKERS
from interop.speaker import Speaker, speaking


def sp(
    folder: Path, packages: Path, port: int, secret: str = PASSWORD
) -> AbstractAsyncContextManager[Speaker]:
    words = (sys.executable, str(SPEAKERS / "pycmpp_sp.py"), str(port), NAME, secret)
    return speaking(folder, *words, environment={"PYTHONPATH": str(packages), "TZ": "Asia/Shanghai"})


async def test_submits_of_pycmpp_short_and_long_and_to_two_numbers_arrive(
    database: str, tmp_path: Path, python_packages: Path
) -> None:
    """It answers no DELIVER, so the reports stay with us until somebody does."""
    async with (
        town(database, "cmpp", free_text=True) as (way, door, operator),
        sp(tmp_path, python_packages, door.ports["cmpp"]) as one,
    ):
        (bound,) = await one.hears("bound")
        assert bound["status"] == 0
        long = LONG + "门" * 60
        one.say("submit", text=QUIET, to=["13800138000", "13900139000"])
        one.say("submit", text=long, to=["13700137000"])
        acks = await one.hears("ack", 3)
        assert {ack["status"] for ack in acks} == {0}
        assert len({ack["id"] for ack in acks}) == 3
        one.say("alive")
        await one.hears("alive")
        await way.all_final()
        for number in ("13800138000", "13900139000"):
            assert [seen.text for seen in operator.phone(number)] == [QUIET]
        assert [seen.text for seen in operator.phone("13700137000")] == [long]
        await way.until("SELECT 1 FROM notice")


async def test_a_wrong_secret_is_refused_in_words_pycmpp_understands(
    database: str, tmp_path: Path, python_packages: Path
) -> None:
    async with (
        town(database, "cmpp") as (_, door, _),
        sp(tmp_path, python_packages, door.ports["cmpp"], "wrong") as one,
    ):
        (bound,) = await one.hears("bound")
        assert bound["status"] == 3
