"""Lists, jobs and exports as people and programs meet them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp

import make
from doors.management.desk import FOREIGN, KEY, Desk, desk
from hongyan.control import exports, sending
from hongyan.control.jobs import Runner, Tools
from hongyan.control.permissions import Role
from hongyan.way.accept import Acceptor
from hongyan.way.measure import Counters
from hongyan.way.snapshot import Keeper

WAIT_S: Final = 20.0
CSV: Final = {"Content-Type": "text/csv; charset=utf-8"}
FILE: Final = "手机号,地点,单号\n13800138000,南门,A1\n13800138001,北门,A2\n13800138000,南门,A3\n"


@contextlib.asynccontextmanager
async def working(at: Desk, folder: Path) -> AsyncIterator[None]:
    world, settings = at.world, replace(make.SETTINGS, state_dir=folder)
    keeper = Keeper(world.database, world.vault)
    await keeper.load()
    acceptor = Acceptor(
        world.database, keeper, world.vault, settings, Counters(), lambda _: 0, lambda _: None
    )
    tools = Tools(world.database, world.vault, keeper, settings, acceptor)
    async with asyncio.TaskGroup() as tasks:
        loops = [
            tasks.create_task(acceptor.run()),
            tasks.create_task(Runner(tools, {**sending.KINDS, **exports.KINDS}, look_gap_s=0.02).run()),
        ]
        yield
        for loop in loops:
            loop.cancel()


async def fetch(at: Desk, target: str, as_: Any) -> tuple[int, bytes]:
    """Get a file, which comes in pieces."""
    url = f"http://127.0.0.1:{at.port}{target}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=at.credentials(as_)) as told:
        return told.status, await told.read()


async def until(at: Desk, target: str, state: str, as_: Any = Role.MARKETER) -> Any:
    async with asyncio.timeout(WAIT_S):
        while True:
            told = (await at.ask("GET", target, as_=as_)).json["data"]
            if told["state"] == state:
                return told
            await asyncio.sleep(0.02)


async def wanted(at: Desk, **more: Any) -> dict[str, Any]:
    snapshot = await make.snapshot(at.world)
    return {
        "mapping": {"number": "手机号", "params": {"place": "地点"}, "reference": "单号"},
        "template": snapshot.templates[at.world.template_id].code,
        "signature": snapshot.signatures[at.world.signature_id].name,
    } | more


async def test_a_list_goes_from_its_upload_to_its_last_message(database: str, tmp_path: Path) -> None:
    async with desk(database, state_dir=tmp_path) as at, working(at, tmp_path):
        made = await at.ask("POST", "/v1/lists?name=spring", FILE.encode(), as_=Role.MARKETER, headers=CSV)
        assert (made.status, made.json["data"]["row_count"]) == (201, 3)
        assert made.json["data"]["rows"][0] == ["138****8000", "南门", "A1"]
        path = f"/v1/lists/{made.json['data']['id']}"
        plan = await wanted(at, app_id=at.world.app_id)
        assert (await at.ask("POST", f"{path}/check", plan, as_=Role.MARKETER)).status == 200
        told = await until(at, path, "checked")
        assert (told["check"]["ready"], told["check"]["left_out"]) == (2, {"duplicate": 1})
        assert told["examples"][0]["text"].endswith("您的快递已到 南门")
        assert (await at.ask("POST", f"{path}/start", as_=Role.MARKETER)).status == 200
        assert (await at.ask("POST", f"{path}/start", as_=Role.MARKETER)).status == 200
        told = await until(at, path, "done")
        assert (told["sending"]["accepted"], told["sending"]["waiting"]) == (2, 0)
        rows = await at.fetch("SELECT reference FROM message ORDER BY reference")
        assert [row["reference"] for row in rows] == ["A1", "A2"]
        assert b"4,138****8000,duplicate" in (await fetch(at, f"{path}/left-out", Role.MARKETER))[1]
        listed = await at.ask("GET", "/v1/lists", as_=Role.VIEWER)
        assert [row["state"] for row in listed.json["data"]["items"]] == ["done"]
        actions = await at.fetch("SELECT action FROM audit ORDER BY seq")
        assert [row["action"] for row in actions] == ["uploadList", "checkList", "startList", "startList"]


async def test_numbers_are_whole_for_those_who_may_and_the_audit_knows(database: str, tmp_path: Path) -> None:
    async with desk(database, state_dir=tmp_path) as at, working(at, tmp_path):
        made = await at.ask("POST", "/v1/lists?name=x", FILE.encode(), as_=Role.OWNER, headers=CSV)
        path = f"/v1/lists/{made.json['data']['id']}"
        await at.ask("POST", f"{path}/check", await wanted(at, app_id=at.world.app_id), as_=Role.OWNER)
        await until(at, path, "checked")
        target = f"{path}/left-out?whole_numbers=true"
        assert (await at.ask("GET", target, as_=Role.MARKETER)).status == 403
        assert b"4,13800138000,duplicate" in (await fetch(at, target, Role.OWNER))[1]
        last = await at.fetch("SELECT action FROM audit ORDER BY seq DESC LIMIT 1")
        assert last[0]["action"] == "getListLeftOut"


async def test_a_program_sends_as_its_own_app(database: str, tmp_path: Path) -> None:
    async with desk(database, state_dir=tmp_path) as at, working(at, tmp_path):
        made = await at.ask("POST", "/v1/lists?name=x", FILE.encode(), as_=KEY, headers=CSV)
        path = f"/v1/lists/{made.json['data']['id']}"
        foreign = await at.ask("POST", f"{path}/check", await wanted(at, app_id=2**31 - 1), as_=KEY)
        assert foreign.status == 400
        assert (await at.ask("POST", f"{path}/check", await wanted(at), as_=KEY)).status == 200
        told = await until(at, path, "checked", KEY)
        assert told["check"]["app_id"] == at.world.app_id


async def test_a_file_of_another_kind_or_a_bad_one_is_refused(database: str, tmp_path: Path) -> None:
    async with desk(database, state_dir=tmp_path) as at:
        for headers, body in (({"Content-Type": "application/json"}, b"{}"), (CSV, b"a,b\n1,\x00\n")):
            told = await at.ask("POST", "/v1/lists?name=x", body, as_=Role.OWNER, headers=headers)
            assert (told.status, told.json["code"]) == (415, "Request.UnsupportedFile")
        assert await at.fetch("SELECT FROM sending_list") == []


async def test_nobody_finds_lists_jobs_and_exports_of_others(database: str, tmp_path: Path) -> None:
    async with desk(database, state_dir=tmp_path) as at:
        made = await at.ask("POST", "/v1/lists?name=x", FILE.encode(), as_=Role.OWNER, headers=CSV)
        export = await at.ask("POST", "/v1/exports", {"what": "ledger"}, as_=Role.OWNER)
        number, job = made.json["data"]["id"], export.json["data"]["id"]
        for method, target in (
            ("GET", f"/v1/lists/{number}"),
            ("POST", f"/v1/lists/{number}/start"),
            ("POST", f"/v1/lists/{number}/forget"),
            ("GET", f"/v1/lists/{number}/left-out"),
            ("GET", f"/v1/jobs/{job}"),
            ("POST", f"/v1/jobs/{job}/stop"),
            ("GET", f"/v1/exports/{job}"),
            ("GET", f"/v1/exports/{job}/file"),
            ("POST", f"/v1/exports/{job}/stop"),
        ):
            assert (await at.ask(method, target, as_=FOREIGN)).status == 404, target
        for target in ("/v1/lists", "/v1/jobs", "/v1/exports"):
            assert (await at.ask("GET", target, as_=FOREIGN)).json["data"]["items"] == []


async def test_an_export_asks_what_its_list_asks(database: str, tmp_path: Path) -> None:
    async with desk(database, state_dir=tmp_path) as at, working(at, tmp_path):
        assert (await at.ask("POST", "/v1/exports", {"what": "audit"}, as_=Role.VIEWER)).status == 403
        whole = {"what": "messages", "whole_numbers": True}
        assert (await at.ask("POST", "/v1/exports", whole, as_=Role.VIEWER)).status == 403
        assert (await at.ask("POST", "/v1/exports", {"what": "nothing"}, as_=Role.VIEWER)).status == 400
        made = await at.ask("POST", "/v1/exports", {"what": "audit", "columns": ["action"]}, as_=Role.OWNER)
        path = f"/v1/exports/{made.json['data']['id']}"
        assert (await at.ask("GET", path, as_=Role.VIEWER)).status == 403
        assert (await at.ask("GET", "/v1/exports", as_=Role.VIEWER)).json["data"]["items"] == []
        await until(at, path, "done", Role.OWNER)
        status, octets = await fetch(at, f"{path}/file", Role.OWNER)
        assert (status, octets.decode("utf-8-sig").split()) == (200, ["action", "createExport"])
        assert (await at.ask("GET", f"{path}/file", as_=Role.VIEWER)).status == 403


async def test_an_export_of_somebody_else_is_not_stopped_as_a_job(database: str, tmp_path: Path) -> None:
    async with desk(database, state_dir=tmp_path) as at:
        made = await at.ask("POST", "/v1/exports", {"what": "audit"}, as_=Role.OWNER)
        for word in ("pause", "resume", "stop"):
            path = f"/v1/jobs/{made.json['data']['id']}/{word}"
            assert (await at.ask("POST", path, as_=Role.MARKETER)).status == 403


async def test_a_job_is_paused_and_stopped(database: str, tmp_path: Path) -> None:
    async with desk(database, state_dir=tmp_path) as at:
        made = await at.ask("POST", "/v1/exports", {"what": "messages"}, as_=Role.OWNER)
        path = f"/v1/jobs/{made.json['data']['id']}"
        for word, state in (("pause", "paused"), ("resume", "waiting"), ("stop", "stopped")):
            told = await at.ask("POST", f"{path}/{word}", as_=Role.OWNER)
            assert (told.status, told.json["data"]["state"]) == (200, state)
        assert (await at.ask("POST", f"{path}/resume", as_=Role.OWNER)).status == 409
        assert (await at.ask("POST", f"{path}/stop", as_=Role.VIEWER)).status == 403
