"""The document says what the door does, and the door does what it says."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

import make
from doors.counter import Served, Yes, ask, basic, served
from hongyan.doors import codes, openapi, page
from hongyan.doors.routes import ROUTES
from hongyan.vocab.errors import Code

EXAMPLES_MAX = 15
DOCUMENT = openapi.document("1")


@pytest.fixture
async def door(world: make.World, key_id: str) -> AsyncIterator[Served]:
    assert key_id
    async with served(world, Yes()) as one:
        yield one


async def test_the_document_and_its_page_are_served(door: Served) -> None:
    document = await ask(door.port, "GET", "/openapi.json")
    assert document.json == DOCUMENT
    readable = await ask(door.port, "GET", "/docs")
    assert readable.headers["content-type"].startswith("text/html")
    assert readable.headers["content-security-policy"] == page.POLICY


def test_the_page_loads_nothing_from_anywhere() -> None:
    html = page.page(DOCUMENT).decode()
    assert "<script" not in html
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|url\(|@import""", html)
    for route in ROUTES:
        assert f'id="{route.name}"' in html
    for target in re.findall(r'href="#([^"]+)"', html):
        assert f'id="{target}"' in html


def test_every_code_is_documented_on_some_route_and_printed() -> None:
    told = {code for route in ROUTES for code in (*openapi.codes_of(route), *route.line_codes)}
    router = {Code.REQUEST_ROUTE_NOT_FOUND, Code.REQUEST_METHOD_NOT_ALLOWED}  # of no route, or of another
    assert set(Code) - told == {Code.OK} | router
    assert (Path(__file__).parents[2] / "docs/api/codes.md").read_text("utf-8") == codes.page()


async def test_metrics_are_for_this_machine_alone(door: Served) -> None:
    assert (await ask(door.port, "GET", "/metrics")).body == b"up 1\n"
    forwarded = await ask(door.port, "GET", "/metrics", headers={"X-Forwarded-For": "192.0.2.1"})
    assert (forwarded.status, forwarded.code) == (404, "Request.ActionNotFound")


async def test_health_says_whether_the_database_answers(door: Served) -> None:
    assert (await ask(door.port, "GET", "/healthz")).json["data"] == {"database": "reachable"}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("operation", [f"{route.method} {route.path}" for route in ROUTES])
async def test_no_request_made_from_the_document_breaks_it(
    door: Served, key_id: str, operation: str, mode: GenerationMode
) -> None:
    """Schemathesis: right and wrong requests; every answer's status, kind and shape are documented."""
    method, path = operation.split()
    partial = [negative_data_rejection] if path.endswith("/batch") else []
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    strategy = schema[path][method].as_strategy(generation_mode=mode)
    headers = {"Authorization": basic(key_id)}

    @settings(
        max_examples=EXAMPLES_MAX,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=strategy)
    def fuzz(case: Any) -> None:
        case.call_and_validate(
            base_url=f"http://127.0.0.1:{door.port}",
            headers=headers,
            # A schema cannot say which numbers, cursors and zones exist; their refusals are documented.
            # Of a batch each message is refused by itself.
            excluded_checks=[positive_data_acceptance, *partial],
        )

    await asyncio.to_thread(fuzz)
