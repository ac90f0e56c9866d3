"""Verification codes in processes: what holds at one door holds at two, on both kinds of PostgreSQL."""

import asyncio
import uuid
from collections import Counter
from typing import Any

import pytest

import install
from hongyan import run
from hongyan.vocab.message import TenantId
from install import Laid, installed

TEMPLATE_SQL = """
INSERT INTO template (tenant_id, code, body, purpose, variables, signature_id, state)
SELECT tenant_id, 'code', '验证码为:${code},有效期5分钟', 0, '{"code": {"kind": "code"}}', id, 'approved'
  FROM signature WHERE tenant_id = $1
"""


async def ask(laid: Laid, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with laid.caller.session.post(f"{laid.install.base}/v1/verifications{path}", json=body) as answer:
        return answer.status, await answer.json()


async def started(laid: Laid, tenant_id: TenantId, number: str) -> tuple[str, str]:
    """Start a verification; returns its id and the code, read as the person's phone would show it."""
    status, told = await ask(laid, "", {"to": number, "scene": "login"})
    assert status == 201, told
    verification = told["data"]["id"]
    async with laid.install.database() as database:
        (row,) = await database.fetch("SELECT code FROM verification WHERE id = $1", uuid.UUID(verification))
        vault = await run.open_vault(database, laid.install.settings)
    return verification, vault.unseal(tenant_id, row["code"]).decode()


@pytest.mark.parametrize("server", ["embedded", "server"])
async def test_2_and_4_of_wrong_codes_at_once_5_are_compared_and_of_right_ones_1_is_taken_at_two_door_processes(
    database: str, server: str
) -> None:
    dsn = database if server == "server" else ""
    async with installed(layout="door door gateway clerk", dsn=dsn) as laid:
        async with laid.install.database() as opened:
            await opened.execute(TEMPLATE_SQL, laid.tenant_id)
            await opened.notify("control")

        async def known() -> bool:
            told = [await ask(laid, "", {"to": "13800000000", "scene": "login"}) for _ in range(8)]
            return all(status != 400 for status, _ in told)  # asked so often, each door has been

        await install.until(known, "the doors do not know the template")
        verification, code = await started(laid, laid.tenant_id, "13800000001")
        wrong = f"{(int(code) + 1) % 1_000_000:06d}"
        told = await asyncio.gather(
            *(ask(laid, f"/{verification}/check", {"code": wrong}) for _ in range(200))
        )
        assert Counter(body["data"]["reason"] for _, body in told) == {"wrong": 5, "tries": 195}
        assert not (await ask(laid, f"/{verification}/check", {"code": code}))[1]["data"]["valid"]

        verification, code = await started(laid, laid.tenant_id, "13800000002")
        told = await asyncio.gather(
            *(ask(laid, f"/{verification}/check", {"code": code}) for _ in range(100))
        )
        assert sum(body["data"]["valid"] for _, body in told) == 1
        assert laid.install.crashes() == []
