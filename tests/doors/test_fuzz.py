"""Schemathesis against the served document: a real door, a real acceptor, real PostgreSQL.

Right requests, wrong ones, and right ones that name what exists, so that they get past the guard. Every answer's
status, headers and shape must be documented, none may be a fault of ours, and the books must balance after it. A program's
routes are asked as a program, those of pages as a page; all of them, with fewer requests each, as everybody who may do the most.
`HONGYAN_FUZZ_EXAMPLES=50` asks more of each.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, LiteralString

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

import make
from doors.counter import ask, basic, served
from doors.management.desk import KEY, Who, desk
from doors.management.laid import Laid, lay
from doors.shop import SHOP, Shop, opened, solved, wrong
from doors.test_permissions import MASTER, in_order
from hongyan.control.permissions import PLATFORM_ROLES, Role
from hongyan.doors.deeds import PAGES, ROOT
from hongyan.doors.route import Reach, Route
from hongyan.doors.routes import PROGRAM, ROUTES
from hongyan.otp import challenge
from plane import books_balance

EXAMPLES_MAX: Final = 20
EVERYBODY_EXAMPLES_MAX: Final = int(os.environ.get("HONGYAN_FUZZ_EXAMPLES", "1"))
# A schema cannot say which templates, cursors and zones exist; the refusals for those that do not are documented.
UNASKED: Final = [positive_data_acceptance]
# They call out, to hosts that nobody can name by chance; test_channels.py tries them.
CALLING_OUT: Final = ("testChannel", "testChannelSettings")
# A list of statistics: a value that is too long may have a comma in it, and then is two that are not. Of a batch each
# message is refused by itself, in an answer that is 200.
LENIENT: Final = ("/batch", "/statistics")
# Without credentials that the library makes up: they would stand in place of ours.
AS_SOMEBODY: Final = SchemathesisConfig.from_dict({"generation": {"with-security-parameters": False}})
Cases = st.SearchStrategy[Any]

pytestmark = pytest.mark.usefixtures("impatient")


@schemathesis.serializer(
    *sorted({kind for route in ROUTES for kind in route.file_kinds} - {"application/json"})
)
def octets(_context: Any, value: Any) -> bytes:
    """Send a file as it is."""
    return value if isinstance(value, bytes) else str(value).encode()


def run(
    port: int,
    cases: Cases,
    path: str,
    headers: Mapping[str, str],
    *,
    examples_max: int = EXAMPLES_MAX,
    unasked: tuple[Any, ...] = (),
) -> None:
    excluded = [*UNASKED, *unasked]
    if path.endswith(LENIENT):
        excluded.append(negative_data_rejection)

    @settings(
        max_examples=examples_max,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=cases)
    def once(case: Any) -> None:
        case.call_and_validate(
            base_url=f"http://127.0.0.1:{port}", headers=dict(headers), excluded_checks=excluded
        )

    once()


async def fuzz(
    world: make.World, key_id: str, operation: str, mode: GenerationMode, change: Callable[[Cases], Cases]
) -> None:
    method, path = operation.split()
    async with served(world) as door:
        document = (await ask(door.port, "GET", "/openapi.json")).json
        cases = schemathesis.openapi.from_dict(document)[path][method].as_strategy(generation_mode=mode)
        await asyncio.to_thread(run, door.port, change(cases), path, {"Authorization": basic(key_id)})
    await books_balance(world.database)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("operation", [f"{route.method} {route.path}" for route in PROGRAM])
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


@pytest.fixture
async def shop(world: make.World, key_id: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    assert key_id
    monkeypatch.setattr(challenge, "WORK", 30)  # little to do
    async with opened(world) as one:
        yield one


async def fuzz_page(
    shop: Shop, path: str, mode: GenerationMode, change: Callable[[Cases], Cases] = lambda cases: cases
) -> None:
    """Ask as a page of the shop: the document is narrowed to its site key and origin, so that the rest is looked at too."""
    port = shop.doors[0].port
    document = (await ask(port, "GET", "/openapi.json")).json
    told = {"site_key": shop.site_key, "Origin": SHOP}
    for parameter in document["paths"][path]["post"]["parameters"]:
        if parameter["name"] in told:
            parameter["schema"] = {"type": "string", "enum": [told[parameter["name"]]]}
    schema = schemathesis.openapi.from_dict(document)
    cases = schema[path]["post"].as_strategy(generation_mode=mode)
    await asyncio.to_thread(run, port, change(cases), path, {})
    await books_balance(shop.world.database)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", [route.path for route in PAGES])
async def test_no_request_of_a_page_breaks_it(shop: Shop, path: str, mode: GenerationMode) -> None:
    await fuzz_page(shop, path, mode)


# The wait until a code may be sent once more is over.
LONG_AGO: Final[tuple[LiteralString, ...]] = (
    "UPDATE verification SET resend_at = created_at",
    "UPDATE otp_limit SET hits = ARRAY(SELECT hit - 70000 FROM unnest(hits) AS hit)",
)


async def found(shop: Shop, sql: LiteralString) -> bool:
    return bool(await shop.world.database.fetch(sql))


def naming(*known: Mapping[str, str]) -> Callable[[Cases], Cases]:
    """Let bodies name what exists."""

    def changed(case: Any, named: Mapping[str, str]) -> Any:
        case.body = case.body | named
        return case

    return lambda cases: st.builds(changed, cases, st.sampled_from(known))


async def test_no_code_that_a_page_could_get_breaks_the_door(shop: Shop) -> None:
    known = []
    for number in (make.NUMBER, "+8613800138001", "+86 139-0013-9000", "13700137000"):
        wish = {"number": number, "scene": "login", "language": "zh-CN"}
        answer = solved(await shop.challenge({"number": number, "scene": "login"}))
        known += [wish | {"challenge": answer}, wish | {"scene": "register", "challenge": answer}]
    await fuzz_page(shop, f"{ROOT}/start", GenerationMode.POSITIVE, naming(*known))
    assert await found(shop, "SELECT 1 FROM verification")


async def test_no_code_that_a_page_could_get_once_more_breaks_the_door(shop: Shop) -> None:
    known = []
    for number in (make.NUMBER, "+8613800138001", "+8613900139000"):
        verification = (await shop.start(number=number))["verification"]
        for sql in LONG_AGO:
            await shop.world.database.execute(sql)
        asked = await shop.ask("resend", {"verification": verification})
        answer = solved(asked.json["detail"]["challenge"])
        known += [{"verification": verification, "challenge": each} for each in (answer, answer[:-8], "")]
    await fuzz_page(shop, f"{ROOT}/resend", GenerationMode.POSITIVE, naming(*known))
    assert await found(shop, "SELECT 1 FROM verification WHERE sends > 1")


async def test_no_code_that_somebody_types_breaks_the_door(shop: Shop) -> None:
    known = []
    for number in (make.NUMBER, "+8613800138001"):
        verification = (await shop.start(number=number))["verification"]
        code = await shop.code(verification)
        known += [{"verification": verification, "code": each} for each in (code, wrong(code), f" {code}")]
    await fuzz_page(shop, f"{ROOT}/check", GenerationMode.POSITIVE, naming(*known))
    assert await found(shop, "SELECT 1 FROM verification WHERE state <> 0")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("who", [Role.OPERATOR, Role.OWNER, KEY])
async def test_nobody_breaks_any_route(database: str, who: Who, mode: GenerationMode) -> None:
    async with desk(database, master_key=MASTER) as one:
        laid = await lay(one)
        document = (await one.ask("GET", "/openapi.json")).json
        schema = schemathesis.openapi.from_dict(document, config=AS_SOMEBODY)
        tenant_id = one.world.tenant_id if who in PLATFORM_ROLES else None

        unasked: tuple[Any, ...] = (ignored_auth,)  # test_permissions.py asks as nobody
        if mode is GenerationMode.POSITIVE:
            unasked += (negative_data_rejection,)  # it would take the ids that exist for wrong ones

        def all_of_them() -> list[str]:
            broken = []
            for route in in_order():
                if route.name in CALLING_OUT:
                    continue
                if mode is GenerationMode.NEGATIVE and asks_for_nothing(document, route):
                    continue
                cases = schema[route.path][route.method].as_strategy(generation_mode=mode)
                if mode is GenerationMode.POSITIVE:
                    cases = cases.map(_naming(route, laid, tenant_id))
                try:
                    run(
                        one.port,
                        cases,
                        route.path,
                        one.credentials(who),
                        examples_max=EVERYBODY_EXAMPLES_MAX,
                        unasked=unasked,
                    )
                except (Exception, FailureGroup) as error:  # noqa: BLE001 - of which kind, the library says
                    said = "\n".join(str(inner) for inner in getattr(error, "exceptions", [error]))
                    broken.append(f"{route.method} {route.path}: {said[:1_500]}")
            return broken

        assert "\n".join(await asyncio.to_thread(all_of_them)) == ""


def asks_for_nothing(document: Any, route: Route) -> bool:
    """Whether nothing in a request can be wrong: any language will do. The library would look for it hundreds of times."""
    operation = document["paths"][route.path][route.method.lower()]
    named = {one["name"] for one in operation["parameters"]}
    return named <= {"Accept-Language"} and "requestBody" not in operation


def _naming(route: Route, laid: Laid, tenant_id: int | None) -> Callable[[Any], Any]:
    """Let right requests name what exists, or nearly all of them end at the first look-up."""

    def named(case: Any) -> Any:
        if "{" in route.path:
            case.path_parameters = dict(laid.of(route))
        if "tenant_id" in (case.query or {}):
            case.query.pop("tenant_id")
        if tenant_id is not None and route.reach in {Reach.TENANT, Reach.ANY}:
            case.query = {**(case.query or {}), "tenant_id": tenant_id}
        if route.name in {"traceChannel", "watchOverview"}:
            case.query = {"seconds": 0.1}
        return case

    return named
