"""Schemathesis against the served document: a real door, a real acceptor, real PostgreSQL.

Right requests, wrong ones, and right ones that name what exists, so that they get past the guard. Every answer's
status, headers and shape must be documented, none may be a fault of ours, and the books must balance after it.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

import make
from doors.counter import ask, basic, served
from hongyan.doors.routes import ROUTES
from plane import books_balance

EXAMPLES_MAX = 20
# A schema cannot say which templates, cursors and zones exist; the refusals for those that do not are documented.
UNASKED = [positive_data_acceptance]
Cases = st.SearchStrategy[Any]


async def fuzz(
    world: make.World, key_id: str, operation: str, mode: GenerationMode, change: Callable[[Cases], Cases]
) -> None:
    method, path = operation.split()
    # Of a batch each message is refused by itself, in an answer that is 200; in a list of statistics a value that
    # is too long may have a comma in it, and then is two that are not.
    lenient = path.endswith(("/batch", "/statistics"))
    excluded = [*UNASKED, negative_data_rejection] if lenient else UNASKED
    async with served(world) as door:
        document = (await ask(door.port, "GET", "/openapi.json")).json
        strategy = schemathesis.openapi.from_dict(document)[path][method].as_strategy(generation_mode=mode)

        @settings(
            max_examples=EXAMPLES_MAX,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=change(strategy))
        def run(case: Any) -> None:
            case.call_and_validate(
                base_url=f"http://127.0.0.1:{door.port}",
                headers={"Authorization": basic(key_id)},
                excluded_checks=excluded,
            )

        await asyncio.to_thread(run)
    await books_balance(world.database)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("operation", [f"{route.method} {route.path}" for route in ROUTES])
async def test_no_request_made_from_the_document_breaks_it(
    world: make.World, key_id: str, operation: str, mode: GenerationMode
) -> None:
    await fuzz(world, key_id, operation, mode, lambda cases: cases)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/batch"])
async def test_no_message_that_names_what_exists_breaks_the_door(
    world: make.World, key_id: str, path: str
) -> None:
    (known,) = await world.database.fetch("SELECT s.name, t.code FROM signature s, template t")
    numbers = st.sampled_from([make.NUMBER, "13900139000", "+8619900000001", "+15005550006"])
    places = st.text(max_size=40) | st.integers(-(2**70), 2**70)

    def changed(case: Any, number: str, place: str | int) -> Any:
        named = {"to": number, "signature": known["name"], "template": known["code"], "purpose": None}
        named |= {"params": {"place": place}, "text": "", "extension": "", "validity_s": None}
        bodies = case.body["messages"] if path.endswith("/batch") else [case.body]
        bodies = [body | named for body in bodies]
        case.body = {"messages": bodies} if path.endswith("/batch") else bodies[0]
        return case

    def change(cases: Cases) -> Cases:
        return st.builds(changed, cases, numbers, places)

    await fuzz(world, key_id, f"POST {path}", GenerationMode.POSITIVE, change)
    (row,) = await world.database.fetch("SELECT count(*) AS accepted FROM message")
    assert row["accepted"] > 0
