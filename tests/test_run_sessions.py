"""Customers' sessions over a whole install of processes: what a system that logged in was promised outlives every one of them.

As in test_run.py the processes are real, and so are PostgreSQL, the ports and the kills; logins are made by the
command line, and the practice operator is behind it all. A Customer is a program as a customer would write it: it
logs in again whenever its session ends, and submits again what was not acknowledged. Every try has a text of its
own, so that what one acknowledgement stands for can be told from the tries before it.
"""

import asyncio
import datetime as dt
import ipaddress
import itertools
import re
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import install
from hongyan.doors.tongues.tongue import china_now
from hongyan.simulator import Behaviour
from hongyan.simulator.behaviour import Span
from hongyan.vocab.message import Status
from hongyan.vocab.text import Encoding, TextPart
from hongyan.way.owing import TOLD_TOPIC
from hongyan.wire import cmpp, fields, smpp
from hongyan.wire.session import (
    Answered,
    Closed,
    Dialect,
    End,
    Event,
    Limits,
    LoggedIn,
    Received,
    Role,
    Session,
    State,
)
from install import POLL_S, WINDOW_SIZE, Laid, installed, numbers
from ports import free_port
from simulator.esme import Esme

NAMES: Final[Mapping[str, str]] = {"smpp": "acme", "cmpp": "900001"}
SOURCE: Final = "1069"
ASKED_MAX: Final = 60  # what a customer has unanswered; its login allows more
# Whenever something dies, windows are full, reports are owed and others are being told.
SLOW: Final = Behaviour(ack_delay_s=Span(0.05, 0.1), report_delay_s=Span(0.05, 1.0))
ASYNCPG: Final = '"logger":"asyncpg.pool"'  # warns, with a traceback, of a database that is gone for a moment
_orders: Final = itertools.count(1)


# ── customers ─────────────────────────────────────────────────────────────────────────────────────────


class Words(NamedTuple):
    """A protocol as a customer's program speaks it."""

    dialect: Dialect
    login: Callable[[str], fields.Pdu]  # of a password
    submit: Callable[[str, bytes], fields.Pdu]  # number, text in UCS-2
    heard: Callable[[fields.Pdu], tuple[int, str]]  # of an answer to a submit: result, id
    report: Callable[[fields.Pdu], str | None]  # of what is delivered: whose report it is; None: a text
    text: Callable[[fields.Pdu], bytes]
    respond: Callable[[fields.Pdu], fields.Pdu | None]
    busy: frozenset[int]  # results that say: not now


def _smpp_words() -> Words:
    def heard(pdu: fields.Pdu) -> tuple[int, str]:
        assert isinstance(pdu, smpp.SubmitSmResp)
        return pdu.command_status, pdu.message_id

    def report(pdu: fields.Pdu) -> str | None:
        assert isinstance(pdu, smpp.DeliverSm)
        receipt = smpp.receipt(pdu)
        return None if receipt is None else receipt.message_id

    def text(pdu: fields.Pdu) -> bytes:
        assert isinstance(pdu, smpp.DeliverSm)
        return pdu.short_message

    def respond(pdu: fields.Pdu) -> fields.Pdu | None:
        assert isinstance(pdu, smpp.Pdu)
        return smpp.respond(pdu)

    busy = frozenset((smpp.CommandStatus.MSGQFUL, smpp.CommandStatus.THROTTLED))
    return Words(smpp.DIALECT, _bind, _submit_sm, heard, report, text, respond, busy)


def _bind(password: str) -> smpp.BindTransceiver:
    return smpp.BindTransceiver(system_id=NAMES["smpp"], password=password)


def _submit_sm(
    number: str, octets: bytes, *, registered_delivery: int = 1, esm_class: int = 0
) -> smpp.SubmitSm:
    return smpp.SubmitSm(
        source_addr=SOURCE,
        dest_addr_ton=1,
        destination_addr=f"86{number}",
        data_coding=8,
        short_message=octets,
        registered_delivery=registered_delivery,
        esm_class=esm_class,
    )


def _cmpp_words() -> Words:
    def login(password: str) -> fields.Pdu:
        return cmpp.connect(NAMES["cmpp"], password, china_now())

    def submit(number: str, octets: bytes) -> fields.Pdu:
        return cmpp.V3.submit(
            registered_delivery=1, msg_fmt=8, src_id=SOURCE, dest_terminal_id=(number,), msg_content=octets
        )

    def heard(pdu: fields.Pdu) -> tuple[int, str]:
        assert isinstance(pdu, cmpp.SubmitResp)
        return pdu.result, str(pdu.msg_id)

    def report(pdu: fields.Pdu) -> str | None:
        assert isinstance(pdu, cmpp.Deliver)
        told = cmpp.report(pdu)
        return None if told is None else str(told.msg_id)

    def text(pdu: fields.Pdu) -> bytes:
        assert isinstance(pdu, cmpp.Deliver)
        return pdu.msg_content

    def respond(pdu: fields.Pdu) -> fields.Pdu | None:
        assert isinstance(pdu, cmpp.Pdu)
        return cmpp.respond(pdu, cmpp.V3)

    return Words(cmpp.V3, login, submit, heard, report, text, respond, frozenset((cmpp.Result.FLOW,)))


WORDS: Final = {"smpp": _smpp_words(), "cmpp": _cmpp_words()}


class Try(NamedTuple):
    number: str
    text: str


@dataclass
class Customer:
    """A customer's program with one session at a time; run() keeps it logged in and insists until cancelled."""

    protocol: str
    port: int
    password: str
    tls: ssl.SSLContext | None = None
    waiting: deque[str] = field(default_factory=deque)  # numbers to submit to
    acknowledged: dict[str, Try] = field(default_factory=dict)  # by the id that was given
    refused: Counter[int] = field(default_factory=Counter)  # results other than OK
    told: Counter[str] = field(default_factory=Counter)  # ids, by how many reports came
    texts: list[bytes] = field(default_factory=list)
    sessions: int = 0
    ends: list[End] = field(default_factory=list)  # of sessions
    unheard: int = 0  # submits whose session ended before their answer

    def __post_init__(self) -> None:
        self.words = WORDS[self.protocol]
        self._push: Callable[[], None] = lambda: None  # submit what waits over the session there is

    async def run(self) -> None:
        while True:
            with suppress(OSError):  # nobody listens now
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)
                try:
                    await self._visit(reader, writer)
                finally:
                    writer.close()
            await asyncio.sleep(POLL_S)

    def insist_on(self, to: Sequence[str]) -> None:
        """Submit to each of them until it is acknowledged."""
        self.waiting.extend(to)
        self._push()

    async def has(self, count: int) -> None:
        """Wait for so many acknowledgements."""

        async def enough() -> bool:
            return len(self.acknowledged) >= count

        await install.until(enough, f"{self.protocol}: not even {count} acknowledged, but {self.refused}")

    async def logged_in(self, sessions: int = 1) -> None:
        async def enough() -> bool:
            return self.sessions >= sessions

        await install.until(enough, f"{self.protocol} is not let in")

    async def all_told(self) -> None:
        """Wait for a report of all that was acknowledged."""

        async def told() -> bool:
            return self.told.keys() >= self.acknowledged.keys()

        await install.until(told, f"{self.protocol} is not told of everything")

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        machine = Session(self.words.dialect, Role.CLIENT, Limits(window_size=ASKED_MAX), _now_s())

        def push() -> None:
            self._submit(machine)
            octets = machine.take()
            if octets and not writer.is_closing():
                writer.write(octets)

        self._push = push
        machine.login(self.words.login(self.password), _now_s())
        push()
        while machine.state is not State.CLOSED:
            octets = b""
            with suppress(ConnectionError):
                octets = await reader.read(65_536)
            refused = self.refused.total()
            for event in machine.receive(octets, _now_s()) if octets else machine.lost():
                self._meet(machine, event)
            if self.refused.total() > refused:
                await asyncio.sleep(POLL_S)  # "not now" means: a little later
            push()

    def _submit(self, machine: Session) -> None:
        while self.waiting and machine.open_slots:
            one = Try(self.waiting.popleft(), f"【{install.SIGNATURE}】您的订单{next(_orders)}已发货")
            machine.send(self.words.submit(one.number, one.text.encode("utf-16-be")), _now_s(), one)

    def _meet(self, machine: Session, event: Event) -> None:
        match event:
            case LoggedIn():
                self.sessions += 1
            case Answered(about=Try() as one, pdu=pdu):
                machine.release()
                result, given = self.words.heard(pdu)
                if result == 0:
                    assert given not in self.acknowledged
                    self.acknowledged[given] = one
                else:
                    self.refused[result] += 1
                    self.waiting.append(one.number)
            case Received(pdu=pdu):
                told = self.words.report(pdu)
                if told is None:
                    self.texts.append(self.words.text(pdu))
                else:
                    self.told[told] += 1
                response = self.words.respond(pdu)
                assert response is not None
                machine.answer(response, _now_s())
            case Closed(end=end, unanswered=unanswered):
                self.unheard += len(unanswered)
                self.waiting.extend(one.number for _, one in unanswered if isinstance(one, Try))
                if end is not End.LOGIN_REFUSED:
                    self.ends.append(end)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


# ── the tools of these tests ──────────────────────────────────────────────────────────────────────────


async def made(laid: Laid, protocol: str, **terms: int) -> str:
    """Make a login by the command line; returns the password it prints."""
    known = {"rate_per_s": 0, "window_size": 100, **terms}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in known.items()]
    said = await laid.install.command(
        "logins", "create", str(laid.tenant_id), protocol, NAMES[protocol], "--json", *options
    )
    found = re.search(r'"password": *"([^"]+)"', said)
    assert found is not None, said
    return found[1]


class Town(NamedTuple):
    laid: Laid
    customers: Sequence[Customer]


@asynccontextmanager
async def town(
    *protocols: str, layout: str = "door gateway clerk", dsn: str = "", operator: Behaviour | None = None
) -> AsyncIterator[Town]:
    """An install with a customer of each protocol who is logged in."""
    ports = {protocol: free_port() for protocol in protocols}
    knobs: dict[str, Any] = {f"{protocol}_port": str(port) for protocol, port in ports.items()}
    async with (
        installed(layout=layout, dsn=dsn, operator=operator, **knobs) as laid,
        asyncio.TaskGroup() as tasks,
    ):
        customers = [Customer(one, ports[one], await made(laid, one)) for one in protocols]
        running = [tasks.create_task(customer.run()) for customer in customers]
        try:
            for customer in customers:
                await customer.logged_in()
            yield Town(laid, customers)
        finally:
            for task in running:
                task.cancel()


async def all_kept(here: Town, *, doubled_max: int) -> None:
    """Assert that all that was acknowledged reached its handset, is told to its customer and stands in the books."""
    for customer in here.customers:
        await customer.all_told()
        for number, text in customer.acknowledged.values():
            times = [one.text for one in here.laid.operator.phone(number)].count(text)
            assert times == 1 if not doubled_max else times >= 1
    assert here.laid.operator.statistics().repeated_parts <= doubled_max
    async with here.laid.install.database() as books:

        async def paid() -> bool:
            return await books.fetch("SELECT FROM notice LIMIT 1") == []

        await install.until(paid, "something stays owed")
        rows = await books.fetch("SELECT reference FROM message WHERE status = $1", Status.DELIVERED.number)
        delivered = {row["reference"] for row in rows}
        for customer in here.customers:
            assert customer.acknowledged.keys() <= delivered
        await install.books_balance(books)
    assert [line for line in here.laid.install.crashes() if ASYNCPG not in line] == []


def insist(here: Town, count: int, round_: int = 0) -> None:
    """Have each customer submit to so many numbers of its own, others each round."""
    for place, customer in enumerate(here.customers, start=round_ * len(here.customers)):
        customer.insist_on(numbers(count, place * count))


async def acknowledged(here: Town, count: int) -> None:
    """Wait until all customers together have so many acknowledgements."""

    async def enough() -> bool:
        return sum(len(customer.acknowledged) for customer in here.customers) >= count

    await install.until(enough, f"not even {count} acknowledged")


async def leases_end(laid: Laid) -> None:
    """Let 30 s pass for what a killed process had in hand: nobody else may tell it before."""
    async with laid.install.database() as books:
        await books.execute("UPDATE notice SET lease_until = now() WHERE lease_until > now()")


# ── what dies ─────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_acknowledged_before_the_door_was_killed_is_sent_once_and_told_over_the_next_session() -> (
    None
):
    count = 700
    async with town("smpp", "cmpp", operator=SLOW) as here:
        insist(here, count)
        await acknowledged(here, count // 2)
        await here.laid.install.kill("door")
        for customer in here.customers:
            await customer.logged_in(2)
            await customer.has(count)
            assert customer.ends == [End.LOST]
        assert sum(customer.unheard for customer in here.customers) > 0  # it was in mid-window
        await leases_end(here.laid)
        await all_kept(here, doubled_max=0)


async def test_killing_gateway_and_postgresql_under_sessions_loses_nothing_and_logs_nobody_out() -> None:
    """What PostgreSQL's death cost is refused with the protocol's word for later; the window of the gateway is doubled."""
    count = 800
    async with town("smpp", "cmpp", layout="door gateway+clerk", operator=SLOW) as here:
        for place, victim in enumerate(("gateway", "postgres")):
            insist(here, count, place)
            await acknowledged(here, place * count * len(here.customers) + count // 4)
            await here.laid.install.kill(victim)
            await here.laid.logged_in()
            for customer in here.customers:
                await customer.has((place + 1) * count)
        await leases_end(here.laid)
        await all_kept(here, doubled_max=WINDOW_SIZE)
        for customer in here.customers:
            assert customer.ends == []
            assert 0 < customer.refused.total() == sum(customer.refused[word] for word in customer.words.busy)


async def test_a_stop_logs_customers_out_and_what_is_owed_by_then_is_told_after_the_next_start(
    database: str,
) -> None:
    count = 300
    late = Behaviour(report_delay_s=Span(0.5, 3.0))
    async with town("smpp", "cmpp", dsn=database, operator=late) as here:
        insist(here, count)
        await acknowledged(here, count // 2)
        assert await here.laid.install.stop() == 0
        assert here.laid.install.left_over() == []
        for customer in here.customers:
            assert customer.ends == [End.PEER_LOGGED_OUT]
            assert customer.acknowledged.keys() - customer.told.keys()
        await here.laid.install.start()
        for customer in here.customers:
            await customer.has(count)
        await all_kept(here, doubled_max=0)


# ── two doors ─────────────────────────────────────────────────────────────────────────────────────────

PLACES: Final = 16  # sessions; that the kernel gives all of them to one of two doors happens once in 2^15
NO_ROOM: Final = smpp.CommandStatus.BINDFAIL


async def test_two_doors_share_the_sessions_of_a_login_its_reports_and_the_parts_of_a_long_text(
    database: str,
) -> None:
    port = free_port()
    layout = "door door gateway+clerk"
    async with installed(layout=layout, dsn=database, smpp_port=str(port)) as laid, AsyncExitStack() as open_:
        # One receipt fills a session's window, and these answer none unless told to.
        password = await made(laid, "smpp", sessions_max=PLACES, window_size=1)
        first = await entered(port, password)
        esmes = [first] + [await entered(port, password) for _ in range(PLACES - 1)]
        for esme in esmes:
            await open_.enter_async_context(esme)
        await _sessions_are_limited(port, password)
        doors = {await _door_of(esme): esme for esme in esmes}
        assert doors.keys() == {1, 2}
        await _parts_come_together(laid, doors[1], doors[2])
        await _reports_go_where_there_is_room(first, esmes)
        await first.close()
        await open_.enter_async_context(await entered(port, password))
        assert laid.install.crashes() == []


async def entered(port: int, password: str) -> Esme:
    """Log in, as soon as there is a place."""
    found: list[Esme] = []

    async def let_in() -> bool:
        esme = await Esme.bound(port, _bind(password), answers=False)
        if esme.of(smpp.BindResp)[0].command_status == 0:
            found.append(esme)
        else:
            await esme.close()
        return bool(found)

    await install.until(let_in, "not let in")
    return found[0]


async def _sessions_are_limited(port: int, password: str) -> None:
    for _ in range(8):  # at either door
        async with await Esme.bound(port, _bind(password)) as esme:
            assert esme.of(smpp.BindResp)[0].command_status == NO_ROOM


async def _door_of(esme: Esme) -> int:
    """Tell by an id which door a session is at: our number stands in the gateway's 22 bits [C3 §8.4.3.2]."""
    ack = await _submitted(esme, _submit_sm("13700137000", _text("1"), registered_delivery=0))
    return (int(ack) >> 16 & 0x3F_FFFF) >> 12


async def _submitted(esme: Esme, pdu: smpp.SubmitSm) -> str:
    before = len(esme.of(smpp.SubmitSmResp))
    esme.submit(pdu)
    ack = (await esme.acks(before + 1))[-1]
    assert ack.command_status == 0
    return ack.message_id


def _text(order: str) -> bytes:
    return f"【{install.SIGNATURE}】您的订单{order}已发货".encode("utf-16-be")


async def _parts_come_together(laid: Laid, one: Esme, other: Esme) -> None:
    octets = _text("1" * 20)
    parts = [TextPart(n, 2, Encoding.UCS2, half) for n, half in enumerate((octets[:30], octets[30:]), 1)]
    for esme, part in zip((other, one), parts, strict=True):
        pdu = _submit_sm("13900139000", part.udh(7) + part.octets, registered_delivery=0, esm_class=0x40)
        await _submitted(esme, pdu)

    async def arrived() -> bool:
        return bool(laid.operator.phone("13900139000"))

    await install.until(arrived, "the parts do not come together")
    assert [one.text for one in laid.operator.phone("13900139000")] == [octets.decode("utf-16-be")]


async def _reports_go_where_there_is_room(submitter: Esme, esmes: Sequence[Esme]) -> None:
    ids = [await _submitted(submitter, _submit_sm(number, _text("2"))) for number in numbers(PLACES + 1)]
    told = [(await esme.receipts(1))[0].message_id for esme in esmes]
    assert len(set(told)) == PLACES  # each session holds one, whichever door it is at
    chosen = esmes[-1]
    chosen.answer(chosen.of(smpp.DeliverSm)[0])
    told.append((await chosen.receipts(2))[1].message_id)
    assert sorted(told) == sorted(ids)


# ── TLS, and what people text back ────────────────────────────────────────────────────────────────────


async def test_a_customer_who_verifies_our_certificate_submits_and_is_told_over_tls(
    database: str, tmp_path: Path
) -> None:
    port = free_port()
    certificate, key = self_signed(tmp_path)
    knobs: dict[str, Any] = {
        "smpp_tls_port": str(port),
        "tls_certificate": str(certificate),
        "tls_key": str(key),
    }
    async with installed(layout="door gateway+clerk", dsn=database, **knobs) as laid:
        with pytest.raises(
            ssl.SSLCertVerificationError
        ):  # it is ours that is spoken there, and only with TLS
            await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())
        trusting = ssl.create_default_context(cafile=certificate)
        customer = Customer("smpp", port, await made(laid, "smpp"), trusting)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(customer.run())
            here = Town(laid, [customer])
            insist(here, 20)
            await customer.has(20)
            await all_kept(here, doubled_max=0)
            running.cancel()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that vouches for itself; returns the files of it and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


async def test_each_report_and_each_text_from_a_handset_is_announced_to_the_doors_and_reaches_the_customer(
    database: str,
) -> None:
    async with town("smpp", "cmpp", dsn=database) as here, announcements(here.laid) as heard:
        for place, customer in enumerate(here.customers, start=1):
            number = f"1380013800{place}"
            customer.insist_on([number])
            await customer.has(1)
            await customer.all_told()
            await announced(heard)
            texts = [f"好的{n}" for n in range(5)]
            for count, text in enumerate(texts, start=1):
                here.laid.operator.reply(f"86{number}", text, SOURCE)
                await texted(customer, count)
                await announced(heard)
            assert [octets.decode("utf-16-be") for octets in customer.texts] == texts
        await all_kept(here, doubled_max=0)


@asynccontextmanager
async def announcements(laid: Laid) -> AsyncIterator[list[object]]:
    """What gateways tell the doors while the block runs: one NOTIFY each."""
    heard: list[object] = []
    async with laid.install.database() as books:
        connection = await books.own_connection()
        try:
            await connection.add_listener(TOLD_TOPIC, lambda *told: heard.append(told))
            yield heard
        finally:
            await connection.close()


async def announced(heard: list[object]) -> None:
    """Wait for an announcement since the last time."""

    async def some() -> bool:
        return bool(heard)

    await install.until(some, "the doors were not told")
    heard.clear()


async def texted(customer: Customer, count: int) -> None:
    async def enough() -> bool:
        return len(customer.texts) >= count

    await install.until(enough, "the text does not come")
