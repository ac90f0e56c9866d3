"""The document says what the door does, and the door does what it says."""

import re
from pathlib import Path

import msgspec

from doors.counter import Served, ask
from hongyan.doors import codes, deeds, openapi, page, widget
from hongyan.doors.openapi import DESCRIBED
from hongyan.vocab.errors import Code

DOCUMENT = openapi.document("1")


async def test_the_document_and_its_page_are_served(door: Served) -> None:
    document = await ask(door.port, "GET", "/openapi.json")
    assert document.json == DOCUMENT
    readable = await ask(door.port, "GET", "/docs")
    assert readable.headers["content-type"] == "text/html; charset=utf-8"
    assert readable.headers["content-type"].startswith("text/html")
    assert readable.headers["content-security-policy"] == page.POLICY


def test_the_page_loads_nothing_from_anywhere() -> None:
    html = page.page(DOCUMENT).decode()
    assert "<script" not in html
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|url\(|@import""", html)
    for route in DESCRIBED:
        assert f'id="{route.name}"' in html
    for target in re.findall(r'href="#([^"]+)"', html):
        assert f'id="{target}"' in html


def test_every_code_is_documented_on_some_route_and_printed() -> None:
    told = {code for route in DESCRIBED for code in (*openapi.codes_of(route), *route.line_codes)}
    router = {Code.REQUEST_ROUTE_NOT_FOUND, Code.REQUEST_METHOD_NOT_ALLOWED}  # of no route, or of another
    sessions = {Code.CONTENT_INCOMPLETE}  # who sends whole texts never meets it
    assert set(Code) - told == {Code.OK} | router | sessions
    assert (Path(__file__).parents[2] / "docs/api/codes.md").read_text("utf-8") == codes.page()


def test_what_is_posted_to_webhooks_is_described() -> None:
    posted = DOCUMENT["webhooks"]["events"]["post"]
    items = posted["requestBody"]["content"]["application/json"]["schema"]["properties"]["events"]["items"]
    names = {kind["$ref"].rpartition("/")[2] for kind in items["anyOf"]}
    assert names == {"StatusEvent", "InboundEvent"} <= DOCUMENT["components"]["schemas"].keys()


def test_no_two_shapes_have_one_name() -> None:
    # Where two have, each gets the path of its module for a name, which is none of a reader's business.
    assert [
        name for name in DOCUMENT["components"]["schemas"] if not re.fullmatch(r"[A-Z][A-Za-z]+", name)
    ] == []


def test_every_route_says_what_it_does_under_a_name_of_its_own() -> None:
    places = {(route.method, route.path) for route in DESCRIBED}
    assert len({route.name for route in DESCRIBED}) == len(places) == len(DESCRIBED)
    for route in DESCRIBED:
        assert re.fullmatch(r"[a-z][A-Za-z]+", route.name), route.name
        assert re.match(r"[A-Z].{6,}\.$", route.summary, re.DOTALL), (route.name, route.summary)


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for name in re.findall(r"#/components/schemas/([^\"]+)", msgspec.json.encode(DOCUMENT).decode()):
        assert name in schemas


def test_every_deed_of_a_page_is_described() -> None:
    assert {widget.PATH.format(site_key="{site_key}", deed=deed) for deed in widget.DEEDS} == {
        route.path for route in deeds.PAGES
    }


def test_every_body_has_an_example_that_is_read() -> None:
    for route in DESCRIBED:
        assert (route.body is None) == (route.example is None)
        if route.body is not None:
            msgspec.convert(route.example, route.body)


async def test_metrics_are_for_this_machine_alone(door: Served) -> None:
    told = await ask(door.port, "GET", "/metrics")
    assert (told.body, told.headers["content-type"]) == (
        b"up 1\n",
        "text/plain; version=0.0.4; charset=utf-8",
    )
    forwarded = await ask(door.port, "GET", "/metrics", headers={"X-Forwarded-For": "192.0.2.1"})
    assert (forwarded.status, forwarded.code) == (404, "Request.ActionNotFound")


async def test_health_says_whether_the_database_answers(door: Served) -> None:
    assert (await ask(door.port, "GET", "/healthz")).json["data"] == {"database": "reachable"}
