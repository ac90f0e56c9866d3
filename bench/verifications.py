"""How many codes are issued and checked a second, durably and with every limit on; and what codes feel of a campaign.

    python -m bench.verifications --count 20000 --connections 64
    python -m bench.verifications --count 2000 --campaign 200000 --rate 50
    python -m bench.verifications --count 2000 --alike

Starts the program with our simulator as the operator. Every number is asked for once; its code is read from the database,
as its owner would from his phone, and checked. The pumping guard watches and does all its work, but only notes (`monitor`):
20,000 codes at once of which none is verified yet are just what it is there to stop. Prints one JSON object.
"""

import argparse
import asyncio
import base64
import json
import math
import os
import secrets
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench.lists import by_day, started
from bench.load import FIRST_KEY, Answers, ask_all, percentile
from bench.peers_adapter import Adapter
from hongyan import db, run, settings
from hongyan.vault import Vault

TENANT = 1
BATCH = 1_000
POLICY = {"pumping": {"monitor": True}}
TEMPLATE_SQL = """
INSERT INTO template (tenant_id, code, body, purpose, variables, signature_id, state)
SELECT $1, 'verify', 'Your code is ${code}. It is valid for 5 minutes.', 0, '{"code": {"kind": "code"}}', s.id, 'approved'
  FROM signature s WHERE s.tenant_id = $1 LIMIT 1
"""
POLICY_SQL = "INSERT INTO verify_policy (tenant_id, scene, policy, changed_by) VALUES ($1, '', $2, 'bench')"
CODES_SQL = "SELECT id, code FROM verification WHERE tenant_id = $1 AND state = 0"
# Both moments are of this machine's clock: when it was asked for, and when its first part left.
HANDED_SQL = """
SELECT extract(epoch FROM v.created_at) * 1000 AS asked_ms, (m.attempts -> 0 ->> 4)::float8 AS sent_ms
  FROM verification v JOIN message m ON m.tenant_id = v.tenant_id AND m.id = v.message_ids[1]
 WHERE v.tenant_id = $1 AND m.attempts IS NOT NULL AND v.created_at >= to_timestamp($2::float8)
"""


class Verifications:
    """The requests of an app's own server."""

    def __init__(self, key: dict[str, str]) -> None:
        self._basic = base64.b64encode(f"{key['key_id']}:{key['secret']}".encode()).decode()

    def start(self, key: int) -> bytes:
        address = f"10.{key >> 16 & 255}.{key >> 8 & 255}.{key & 255}"
        body = {
            "to": f"+2126{key:08d}",
            "scene": "login",
            "template": "verify",
            "ip": address,
            "device": f"d{key}",
        }
        return self._post("/v1/verifications", body)

    def check(self, verification: uuid.UUID, code: str) -> bytes:
        return self._post(f"/v1/verifications/{verification}/check", {"code": code})

    def promotions(self, numbers: Sequence[str]) -> bytes:
        messages = [
            {"to": number, "signature": "Bench", "template": "sale", "params": {"number": number[-8:]}}
            for number in numbers
        ]
        return self._post("/v1/messages/batch", {"messages": messages})

    def _post(self, path: str, body: dict[str, Any]) -> bytes:
        octets = json.dumps(body).encode()
        return (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Basic {self._basic}\r\nContent-Length: {len(octets)}\r\n\r\n"
        ).encode() + octets


async def lay(database: db.Database) -> None:
    await database.execute("UPDATE webhook SET active = false")
    await database.execute(TEMPLATE_SQL, TENANT)
    await database.execute(POLICY_SQL, TENANT, json.dumps(POLICY))
    await database.notify("control")
    await asyncio.sleep(1)


async def timed(pid: int, requests: Sequence[tuple[int, bytes]], connections: int) -> dict[str, Any]:
    before, begun_s = cpu_s(pid), time.monotonic()
    answers = await ask_all(requests, connections)
    took_s, after = time.monotonic() - begun_s, cpu_s(pid)
    used = {name: round((after[name] - before.get(name, 0.0)) / len(requests) * 1e6) for name in after}
    return {"per_s": round(len(requests) / took_s), "cpu_us_each": used} | latency_ms(answers)


def cpu_s(pid: int) -> dict[str, float]:
    """Return the seconds of a core that the program's processes have used, by what they are."""
    found: dict[str, float] = {}
    todo = [pid]
    while todo:
        each = todo.pop()
        with suppress(FileNotFoundError):  # it has ended
            todo += [
                int(p)
                for t in Path(f"/proc/{each}/task").iterdir()
                for p in (t / "children").read_text().split()
            ]
            words = Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            role = (
                words.partition("--role")[2].strip("= ").split(" ")[0] if "--role" in words else "supervisor"
            )
            name = "postgres" if "postgres" in words.split(" ")[0] else role
            ticks = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[11:13]
            found[name] = found.get(name, 0.0) + sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return found


def latency_ms(answers: Answers) -> dict[str, Any]:
    ms = [(end - start) * 1000 for _, start, end in answers.values()]
    return {
        "ms_p50": percentile(ms, 0.5),
        "ms_p99": percentile(ms, 0.99),
        "answered": sum(ok for ok, _, _ in answers.values()),
    }


async def issue_and_check(
    arguments: argparse.Namespace, adapter: Adapter, database: db.Database, vault: Vault
) -> dict[str, Any]:
    ask = Verifications(adapter.key)
    keys = range(FIRST_KEY, FIRST_KEY + arguments.count)
    issued = await timed(adapter.main.pid, [(key, ask.start(key)) for key in keys], arguments.connections)
    rows = await database.fetch(CODES_SQL, TENANT)
    assert len(rows) == issued["answered"] == arguments.count, (len(rows), issued)
    checks = [
        (number, ask.check(uuid.UUID(int=row["id"].int), vault.unseal(TENANT, row["code"]).decode()))
        for number, row in enumerate(rows)
    ]
    await asyncio.sleep(arguments.rest)
    checked = await timed(adapter.main.pid, checks, arguments.connections)
    (approved,) = await database.fetch("SELECT count(*) AS n FROM verification WHERE state = 1")
    assert approved["n"] == arguments.count, approved
    return {"issued": issued, "checked": checked, "connections": arguments.connections}


async def beside_a_campaign(
    arguments: argparse.Namespace, adapter: Adapter, database: db.Database
) -> dict[str, Any]:
    """Queue promotions where it is day, so that they leave, then ask for codes one by one while they drain."""
    ask = Verifications(adapter.key)
    country, beginning = by_day()
    await database.execute("UPDATE tenant SET countries = countries || $1::text", country)
    await database.notify("control")
    await asyncio.sleep(1)
    keys = range(FIRST_KEY + 10_000_000, FIRST_KEY + 10_000_000 + arguments.campaign)
    batches = [
        (chunk[0], ask.promotions([f"{beginning}{key:08d}" for key in chunk]))
        for chunk in (keys[at : at + BATCH] for at in range(0, len(keys), BATCH))
    ]
    await ask_all(batches, 4)
    (left,) = await database.fetch("SELECT count(*) AS n FROM outbox")
    answers: Answers = {}
    begun_s, since_s = time.monotonic(), time.time()
    for number in range(arguments.count):
        await asyncio.sleep(max(0.0, begun_s + number / arguments.rate - time.monotonic()))
        key = FIRST_KEY + 5_000_000 + number
        answers |= await ask_all([(key, ask.start(key))], 1)
    (after,) = await database.fetch("SELECT count(*) AS n FROM outbox")
    await asyncio.sleep(5)
    rows = await database.fetch(HANDED_SQL, TENANT, since_s)
    handed = [row["sent_ms"] - float(row["asked_ms"]) for row in rows]
    return {
        "promotions_waiting": [left["n"], after["n"]],
        "codes": arguments.count,
        "request": latency_ms(answers),
        "request_to_hand_over_ms": {
            "p50": percentile(handed, 0.5),
            "p99": percentile(handed, 0.99),
            "of": len(handed),
        },
    }


LATER_SQL = "UPDATE otp_limit SET hits = ARRAY(SELECT h - 7200000 FROM unnest(hits) AS h)"


async def alike(
    arguments: argparse.Namespace, adapter: Adapter, database: db.Database, vault: Vault
) -> dict[str, Any]:
    """Compare how long it takes to ask for codes of numbers that were proved before and of such that were never heard of.

    One by one and in turns, and then the same for wrong codes of verifications that are and that never were.
    """
    ask = Verifications(adapter.key)
    first = range(FIRST_KEY, FIRST_KEY + arguments.count)
    await issue_and_check(arguments, adapter, database, vault)
    await database.execute(LATER_SQL)
    known, unknown = await in_turns(
        [ask.start(key) for key in first],
        [ask.start(key) for key in range(FIRST_KEY + 10**6, FIRST_KEY + 10**6 + arguments.count)],
    )
    rows = await database.fetch(CODES_SQL, TENANT)
    wrong = [
        ask.check(uuid.UUID(int=row["id"].int), f"{(int(vault.unseal(TENANT, row['code'])) + 1) % 10**6:06d}")
        for row in rows[: arguments.count]
    ]
    there, nowhere = await in_turns(wrong, [ask.check(uuid.uuid4(), "123456") for _ in wrong])
    return {
        "asked_for_ms_p50": {
            "proved before": percentile(known, 0.5),
            "never heard of": percentile(unknown, 0.5),
        },
        "asked_for_p": round(mann_whitney(known, unknown), 4),
        "wrong_code_ms_p50": {
            "of a verification": percentile(there, 0.5),
            "of none": percentile(nowhere, 0.5),
        },
        "wrong_code_p": round(mann_whitney(there, nowhere), 4),
        "each": arguments.count,
    }


async def in_turns(one: Sequence[bytes], other: Sequence[bytes]) -> tuple[list[float], list[float]]:
    """Ask both kinds over one connection, which of a pair goes first left to chance; returns how many ms each took."""
    both: list[tuple[int, bytes]] = []
    for number, pair in enumerate(zip(one, other, strict=True)):
        places = [0, 1] if secrets.randbits(1) else [1, 0]
        both += [(2 * number + place, pair[place]) for place in places]
    answers = await ask_all(both, 1)
    ms = [(answers[key][2] - answers[key][1]) * 1000 for key in range(len(both))]
    return ms[0::2], ms[1::2]


def mann_whitney(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how likely two samples of one distribution differ so much (two-sided, normal approximation, no ties)."""
    ranks = {value: rank for rank, value in enumerate(sorted([*one, *other]), 1)}
    n, m = len(one), len(other)
    u = sum(ranks[value] for value in one) - n * (n + 1) / 2
    z = (u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    return math.erfc(abs(z) / math.sqrt(2))


async def drive(arguments: argparse.Namespace, adapter: Adapter) -> dict[str, Any]:
    known = settings.read(adapter.environment)
    async with run.open_database(known) as database:
        vault = await run.open_vault(database, known)
        await lay(database)
        if arguments.alike:
            return await alike(arguments, adapter, database, vault)
        if arguments.campaign:
            return await beside_a_campaign(arguments, adapter, database)
        return await issue_and_check(arguments, adapter, database, vault)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rest", type=float, default=10.0, help="seconds between issuing and checking")
    parser.add_argument("--campaign", type=int, default=0, help="promotions queued before")
    parser.add_argument(
        "--alike", action="store_true", help="can known numbers be told from unknown ones by the clock?"
    )
    parser.add_argument("--rate", type=float, default=50.0, help="codes a second beside a campaign")
    parser.add_argument("--layout", default="door gateway+clerk")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # root's PostgreSQL runs as another user
        with started(folder, arguments.layout) as adapter:
            result = uvloop.run(drive(arguments, adapter))
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
