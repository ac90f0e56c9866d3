"""The console's pages as a door serves them: files, codings, caching, and what a browser may do with them."""

import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from doors.counter import Served
from hongyan.doors import console

INDEX = b'<!doctype html><script type="module" src="/console/assets/a-1.js"></script>'
SCRIPT = b"export const a = 1;" * 50


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Pages of a kind, so that these tests need no Node.js."""
    folder = tmp_path / "pages"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_bytes(INDEX)
    (folder / "assets" / "a-1.js").write_bytes(SCRIPT)
    (folder / "assets" / "a-1.js.gz").write_bytes(gzip.compress(SCRIPT))
    (folder / "assets" / "secret.key").write_text("of a kind that is not served")
    (tmp_path / "beside.js").write_text("beside the pages")
    monkeypatch.setattr(console, "BUILT", folder)
    console._files.cache_clear()
    yield folder
    console._files.cache_clear()


@pytest.fixture
async def session(door: Served) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{door.port}", auto_decompress=False) as one:
        yield one


async def test_every_place_in_the_console_is_its_one_page(
    built: Path, session: aiohttp.ClientSession
) -> None:
    assert built
    for path in ("/console/", "/console/messages", "/console/templates/7?tab=en"):
        async with session.get(path) as answer:
            assert (answer.status, await answer.read()) == (200, INDEX)
            assert answer.headers["Cache-Control"] == "no-cache"
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


async def test_who_comes_to_the_door_itself_is_shown_to_the_console(session: aiohttp.ClientSession) -> None:
    async with session.get("/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/console/")


async def test_no_script_runs_but_ours_and_nobody_frames_a_page(
    built: Path, session: aiohttp.ClientSession
) -> None:
    assert built
    for path in ("/console/", "/console/assets/a-1.js", "/console/nowhere"):
        async with session.get(path) as answer:
            rules = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
            assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
            assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
            assert "unsafe" not in rules["script-src"] + rules["style-src"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_a_file_comes_packed_to_who_can_unpack_it(built: Path, session: aiohttp.ClientSession) -> None:
    assert built
    for accepted, coding in (
        ("gzip, br", "gzip"),
        ("br", ""),
        ("", ""),
        ("gzip;q=0", ""),
        ("gzip; q=0.0", ""),
        ("GZIP;q=0.5", "gzip"),
    ):
        async with session.get("/console/assets/a-1.js", headers={"Accept-Encoding": accepted}) as answer:
            assert answer.headers.get("Content-Encoding", "") == coding, accepted
            octets = await answer.read()
            assert (gzip.decompress(octets) if coding else octets) == SCRIPT
            assert answer.headers["Vary"] == "Accept-Encoding"


async def test_an_asset_is_kept_for_ever_and_asked_for_once_more_only_by_its_tag(
    built: Path, session: aiohttp.ClientSession
) -> None:
    assert built
    async with session.get("/console/assets/a-1.js") as answer:
        assert "immutable" in answer.headers["Cache-Control"]
    async with session.get("/console/") as answer:
        tag = answer.headers["ETag"]
    async with session.get("/console/", headers={"If-None-Match": tag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with session.get("/console/", headers={"If-None-Match": '"another"'}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/console/assets/gone.js",
        "/console/assets/secret.key",
        "/console/../beside.js",
        "/console/..%2fbeside.js",
        "/console/assets/..%2f..%2fbeside.js",
        "/console//etc/passwd.js",
    ],
)
async def test_what_is_no_page_is_not_found_wherever_it_lies(built: Path, door: Served, path: str) -> None:
    assert built
    async with (
        aiohttp.ClientSession() as session,
        session.get(URL(f"http://127.0.0.1:{door.port}{path}", encoded=True)) as answer,
    ):
        assert answer.status == 404
        assert b"beside" not in await answer.read()


async def test_a_program_without_built_pages_says_where_they_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: aiohttp.ClientSession
) -> None:
    monkeypatch.setattr(console, "BUILT", tmp_path / "nothing")
    console._files.cache_clear()
    async with session.get("/console/") as answer:
        assert answer.status == 200
        assert b"make console" in await answer.read()
    console._files.cache_clear()
