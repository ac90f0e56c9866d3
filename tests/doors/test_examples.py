"""The programs in docs/api do what they say: each is cut out of its page and run against a door."""

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

import make
from doors.counter import SECRET, served
from hongyan import clock
from hongyan.way import notice

PAGES: Final = Path(__file__).parents[2] / "docs/api"
WAIT_S: Final = 30.0
# How a block of a language is run; `{}` is the file it was cut into.
PROGRAMS: Final[Mapping[str, tuple[str, Sequence[str]]]] = {
    "sh": ("example.sh", ("sh", "{}")),
    "shell": ("basic.sh", ("sh", "{}")),
    "python": ("example.py", ("python3", "{}")),
    "javascript": ("example.mjs", ("node", "{}")),
    "php": ("example.php", ("php", "{}")),
    "java": ("Send.java", ("java", "{}")),
}


def blocks(page: str, language: str) -> Sequence[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", (PAGES / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


async def run(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *arguments,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(WAIT_S):
        said, _ = await process.communicate()
    return said.decode()


@pytest.mark.parametrize(
    "language",
    [
        pytest.param("sh", marks=[pytest.mark.needs("openssl"), pytest.mark.needs("curl")]),
        pytest.param("shell", marks=pytest.mark.needs("curl")),
        pytest.param("python", marks=pytest.mark.needs("python3")),
        pytest.param("javascript", marks=pytest.mark.needs("node")),
        pytest.param("php", marks=pytest.mark.needs("php")),
        pytest.param("java", marks=pytest.mark.needs("java")),
    ],
)
async def test_every_signing_example_sends_a_message(
    world: make.World, key_id: str, tmp_path: Path, language: str
) -> None:
    async with world.database.transaction() as tx:
        await make.signature(tx, tenant_id=world.tenant_id, name="鸿雁")
        await make.template(
            tx, tenant_id=world.tenant_id, code="order", body="您的订单${order}已发货,预计${day}送达。"
        )
    (source,) = blocks("authentication.md", language)
    name, arguments = PROGRAMS[language]
    (tmp_path / name).write_text(source, "utf-8")
    async with served(world) as door:
        known = {"APP_KEY_ID": key_id, "APP_KEY_SECRET": SECRET.decode(), "no_proxy": "*"}
        url = {"DOOR_URL": f"http://127.0.0.1:{door.port}"}
        said = await run([word.format(tmp_path / name) for word in arguments], known | url)
    assert json.loads(said.splitlines()[-1])["code"] == "OK", said
    (row,) = await world.database.fetch("SELECT count(*) AS messages FROM message")
    assert row["messages"] == 1


def test_the_webhook_example_believes_us_and_nobody_else() -> None:
    (source,) = blocks("webhooks.md", "python")
    page: dict[str, Any] = {}
    exec(source, page)  # noqa: S102 - it is the page that is tested
    body, stamp = b'{"events":[]}', str(int(clock.now_s()))
    headers = {"Hongyan-Timestamp": stamp, "Hongyan-Mac": notice.mac_of(SECRET, stamp, body)}
    assert page["is_ours"](SECRET, headers, body)
    assert not page["is_ours"](SECRET, headers, body + b" ")
    assert not page["is_ours"](hashlib.sha256(SECRET).digest(), headers, body)
    late = str(int(clock.now_s()) - 301)
    assert not page["is_ours"](
        SECRET, {"Hongyan-Timestamp": late, "Hongyan-Mac": notice.mac_of(SECRET, late, body)}, body
    )
