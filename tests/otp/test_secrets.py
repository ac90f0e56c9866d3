"""What a run of codes leaves behind: in tables, logs and answers there is no code, no pepper and no whole number.

7. No code, pepper or full phone number appears in database dumps, logs, traces or error pages; what is compared is a keyed
HMAC; what must be sent again is sealed with a key outside the database and erased when used or expired.
"""

import asyncio
import contextlib
import io
import logging
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import structlog

import make
from doors.counter import Reply, Served, ask, basic, served
from hongyan import clock, db, observe
from hongyan.otp import ripen
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vault import VaultError
from hongyan.vocab.message import Purpose
from otp.asking import BODY, VARIABLES
from plane import Plane, plane

NUMBERS: Final = [f"1380013{tail}" for tail in range(8101, 8107)]
IP: Final = "203.0.113.77"
DEVICE: Final = "browser-7f3c9a"
POLICY_SQL: Final = """
INSERT INTO verify_policy (tenant_id, scene, policy, changed_by)
VALUES ($1, '', '{"challenge": "never", "template": "pin"}', 'a test')
"""
TABLES_SQL: Final = """
SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname = 'public' ORDER BY 1
"""


@dataclass
class Run:
    """A door over a plane, and all that it said."""

    plane: Plane
    door: Served
    simulator: Simulator
    head: dict[str, str]
    log: io.StringIO
    codes: list[str] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    async def post(self, path: str, body: Any) -> Reply:
        reply = await ask(self.door.port, "POST", path, body, self.head)
        self.replies.append(reply)
        return reply

    async def start(self, number: str) -> tuple[str, str]:
        """Ask for a code and read it from the phone."""
        asked = {"to": f"+86{number}", "scene": "login", "ip": IP, "device": DEVICE}
        reply = await self.post("/v1/verifications", asked)
        assert reply.status == 201, reply.body
        await self.plane.holds(lambda: self.simulator.phone(f"86{number}"))
        code = read(self.simulator, number)
        self.codes.append(code)
        return reply.json["data"]["id"], code

    async def check(self, verification: str, code: str) -> Any:
        return (await self.post(f"/v1/verifications/{verification}/check", {"code": code})).json["data"]


def read(simulator: Simulator, number: str) -> str:
    found = re.search(r"\d{6}", simulator.phone(f"86{number}")[-1].text)
    assert found is not None
    return found[0]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that any logger says, at its most talkative."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    observe.set_up("debug", console=False, stream=stream)
    try:
        yield stream
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()


@contextlib.asynccontextmanager
async def running(dsn: str, log: io.StringIO) -> AsyncIterator[Run]:
    async with (
        Simulator(behaviour.parse("report_delay_s=0.01")) as simulator,
        plane(dsn, simulator) as way,
    ):
        async with way.database.transaction() as tx:
            signature = await tx.fetchval("SELECT id FROM signature LIMIT 1")
            await make.template(
                tx,
                tenant_id=way.tenant_id,
                code="pin",
                purpose=Purpose.OTP,
                body=BODY,
                variables=VARIABLES,
                signature_id=signature,
            )
            await tx.execute(POLICY_SQL, way.tenant_id)
        await way.keeper.load()
        await way.up()
        async with served(way, way.acceptor) as door:
            await door.door.book.load()
            yield Run(way, door, simulator, {"Authorization": basic(way.laid.key_id)}, log)


async def everything(run: Run) -> None:
    """Do all that can be done with codes, the mistakes among it."""
    right, code = await run.start(NUMBERS[0])
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    assert not (await run.check(right, wrong))["valid"]
    checked = await run.check(right, code)
    assert checked["valid"]
    assert not (await run.check(right, code))["valid"]
    redeemed = await run.post("/v1/verifications/redeem", {"proof": checked["proof"]})
    assert redeemed.json["data"]["to"] == f"+86{NUMBERS[0]}"
    run.replies.remove(redeemed)  # the one answer that tells the number, to whom it was proved
    used, code = await run.start(NUMBERS[1])
    for _ in range(6):
        await run.check(used, f"{(int(code) + 1) % 1_000_000:06d}")
    await run.post(f"/v1/verifications/{(await run.start(NUMBERS[2]))[0]}/cancel", {})
    _, code = await run.start(NUMBERS[3])  # left to expire
    await run.post(f"/v1/verifications/{right}/resend", {})
    await mistakes(run, code)
    failing, code = await run.start(NUMBERS[4])
    await trouble(run, failing, code)


async def mistakes(run: Run, code: str) -> None:
    """Send what cannot be read, with a code and a number in it."""
    for body in (b'{"code": "%s' % code.encode(), {"code": code, "more": 1}, {"code": int(code)}, [code]):
        await run.post(f"/v1/verifications/{uuid.uuid4()}/check", body)
    await run.post("/v1/verifications", {"to": f"{NUMBERS[5]}00000", "scene": "login"})
    await run.post("/v1/verifications", {"to": NUMBERS[5], "scene": "other"})
    await run.post("/v1/verifications/redeem", {"proof": code})


async def trouble(run: Run, verification: str, code: str) -> None:
    """Let the database fail under a check and an issue, so that tracebacks are written."""
    database = run.plane.database
    for table, path, body in (
        ("otp_limit", "/v1/verifications", {"to": NUMBERS[5], "scene": "login"}),
        ("verification", f"/v1/verifications/{verification}/check", {"code": code}),
    ):
        await database.execute(f"ALTER TABLE {table} RENAME TO gone")
        reply = await run.post(path, body)
        assert reply.status >= 500
        await database.execute(f"ALTER TABLE gone RENAME TO {table}")


async def dump(database: db.Database) -> str:
    """All rows of all tables as COPY writes them, without their times, whose fractions have six digits like a code."""
    pieces = []
    connection = await database.own_connection()
    try:
        for (name,) in await database.fetch(TABLES_SQL):
            octets = io.BytesIO()
            await connection.copy_from_table(name, output=octets)
            pieces.append(octets.getvalue().decode())
    finally:
        await connection.close()
    return re.sub(r"\d\d:\d\d:\d\d\.\d+|\d{9,}\.\d+", "", "\n".join(pieces))


def secrets_in(text: str, run: Run) -> Sequence[str]:
    """Return which secrets stand in a text, by themselves or as hex."""
    whole = [form for number in NUMBERS for form in (number, f"+86{number}")]
    peppers = list(run.plane.vault.peppers.values())
    found = [code for code in run.codes if re.search(rf"(?<![0-9A-Za-z]){code}(?![0-9A-Za-z])", text)]
    found += [word for word in [*whole, IP, DEVICE] if word in text]
    hexed = [*(word.encode() for word in [*run.codes, *whole]), *peppers]
    return found + [octets.hex() for octets in hexed if octets.hex() in text.lower()]


async def opening(run: Run) -> set[str]:
    """Return the tables that have a code once everything that our keys open is opened."""
    keys, found = run.plane.vault, set[str]()
    for (name,) in await run.plane.database.fetch(TABLES_SQL):
        for row in await run.plane.database.fetch(f"SELECT * FROM {name}"):
            for value in row.values():
                if isinstance(value, bytes):
                    with contextlib.suppress(VaultError):
                        opened = keys.unseal(run.plane.tenant_id, value)
                        if any(code.encode() in opened for code in run.codes):
                            found.add("message" if name.startswith("message_") else name)
    return found


async def test_no_code_pepper_or_number_is_in_a_dump_a_log_or_an_answer(
    database: str, log: io.StringIO
) -> None:
    async with running(database, log) as run:
        await everything(run)
        await run.plane.all_final()
        assert len(set(run.codes)) == 5
        dumped = await dump(run.plane.database)
        assert len(dumped) > 10_000
        assert secrets_in(dumped, run) == []
        assert log.getvalue().count("gatherer.batch_lost") == 2
        assert secrets_in(log.getvalue(), run) == []
        answered = b"\n".join(reply.body + repr(reply.headers).encode() for reply in run.replies).decode()
        assert secrets_in(answered.replace(IP, ""), run) == []


async def test_sealed_codes_are_gone_once_they_are_used_or_over(database: str, log: io.StringIO) -> None:
    async with running(database, log) as run:
        await everything(run)
        await run.plane.all_final()
        assert await opening(run) == {"message", "verification"}  # they are sealed, and here opened
        later_s = clock.now_s() + 301
        for duty in (ripen.expire, ripen.count, ripen.take_codes):
            async with run.plane.database.transaction() as tx:
                await duty(tx, run.plane.vault, later_s)
        assert await opening(run) == set()


async def test_a_text_with_stars_never_leaves(database: str) -> None:
    """Verifications end while their messages wait, are in a gateway's hands, or come back from a channel that failed."""
    async with (
        Simulator(
            behaviour.parse("report_delay_s=0.02 fail_share=0.5 fail_err=NOROUTE ack_delay_s=0.02")
        ) as first,
        Simulator(behaviour.parse("report_delay_s=0.02")) as second,
        plane(database, first, second) as way,
    ):
        await way.up(2)
        ids = [await way.send(f"138001381{n:02d}", Purpose.OTP, validity_s=60) for n in range(40)]
        await way.database.execute(
            "INSERT INTO code_text (tenant_id, message_id, look_at) SELECT tenant_id, id, accepted_at FROM message"
        )
        taken = 0
        async with asyncio.timeout(20):
            while taken < len(ids):
                async with way.database.transaction() as tx:
                    await ripen.take_codes(tx, way.vault, clock.now_s())
                await way.database.execute("UPDATE code_text SET look_at = to_timestamp(0)")
                (row,) = await way.database.fetch("SELECT count(*) AS left FROM code_text")
                taken = len(ids) - row["left"]
                await asyncio.sleep(0.005)
        texts = [
            text.text
            for simulator in (first, second)
            for n in range(40)
            for text in simulator.phone(f"86138001381{n:02d}")
        ]
        assert len(texts) >= len(ids)
        assert any(second.phone(f"86138001381{n:02d}") for n in range(40))
        assert all("123456" in text for text in texts)
