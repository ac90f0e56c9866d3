"""Customers whose systems log in to us with SMPP, CMPP, SGIP or SMGP: the server's side of their sessions.

Writes nothing itself. Entry points: Host, one a door; Host.serve(), run() and close(). What differs between protocols
is a tongue (tongues/); a connection is a Visit, or a Call where we dial the customer, over wire.session. A submit takes
the same way as a request over HTTP (accept, guard, charge) and is answered after its commit only, so what was answered
survives every crash. Parts of a long text are stored one by one (way.assemble); receipts and texts go back through
telling.py.

Surprise: an account that does not exist takes as long to refuse as one whose password is wrong.
"""

import asyncio
import contextlib
import ipaddress
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from hongyan import db
from hongyan.doors.dialling import Dialling
from hongyan.doors.link import Link
from hongyan.doors.rates import Rates
from hongyan.doors.sessions import Sessions
from hongyan.doors.tongues.cmpp import Cmpp
from hongyan.doors.tongues.sgip import Sgip
from hongyan.doors.tongues.smgp import Smgp
from hongyan.doors.tongues.smpp import Smpp
from hongyan.doors.tongues.tongue import Fault, Numbers, Origin, Submit, Tongue
from hongyan.doors.visit import Visit, parse
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.way.accept import Acceptor, SessionDraft
from hongyan.way.assemble import Assembler, Whole
from hongyan.way.recognize import Recognizer
from hongyan.way.snapshot import Keeper, Key, Login
from hongyan.wire.fields import Pdu

log = structlog.get_logger()

LOOK_S: Final = 1.0  # how often a session's timers are looked at
PENALTY_S: Final = 0.5  # before the refusal of a first wrong login; doubles with each
PENALTY_S_MAX: Final = 8.0
PENALTY_MEMORY_S: Final = 300.0
PENALTIES_MAX: Final = 10_000
CLOSE_WAIT_S: Final = 5.0
DROP_WAIT_S: Final = 0.5
HANDSHAKE_WAIT_S: Final = 10.0  # of TLS: until it is over, no connection is counted
BACKLOG: Final = 256


class Host:
    """The sessions of one door process."""

    def __init__(
        self,
        settings: Settings,
        keeper: Keeper,
        database: db.Database,
        vault: Vault,
        acceptor: Acceptor,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed` hears that a session came, went, or has room again for what its account is owed."""
        self.settings = settings
        self.keeper = keeper
        self.acceptor = acceptor
        self.links: set[Link] = set()
        self.gathering: set[Link] = set()  # have something to write when this turn of the loop is over
        self.refusals: Counter[str] = Counter()
        self.changed = changed
        self.rates = Rates(database)
        self.sessions = Sessions(database, settings.door)
        self.assembler = Assembler(database, keeper, vault, settings, acceptor, self.draft_of_whole)
        self.strangers: Counter[str] = Counter()  # connections that are not logged in, by address
        self.stopping = False
        sgip, numbers = Sgip(settings.door), Numbers(settings.door)
        tongues: Sequence[Tongue] = (Smpp(numbers), Cmpp(numbers), sgip, Smgp(settings.door))
        self.tongues: Mapping[str, Tongue] = {tongue.name: tongue for tongue in tongues}
        self.dialling = Dialling(self, database, sgip)
        self._recognizer = Recognizer()
        self._penalties: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()
        self._servers: list[asyncio.Server] = []
        self._tasks: asyncio.TaskGroup | None = None
        self._flushing = False

    async def serve(self, protocol: str, **listening: Any) -> int:
        """Listen for one protocol (arguments of create_server); returns the port."""
        tongue = self.tongues[protocol]
        if listening.get("ssl"):
            listening["ssl_handshake_timeout"] = HANDSHAKE_WAIT_S
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Visit(self, tongue), backlog=BACKLOG, **listening)
        self._servers.append(server)
        self.dialling.active |= protocol == Sgip.name
        return int(server.sockets[0].getsockname()[1])

    async def run(self) -> None:
        """Admit, store parts, look at timers, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self.rates.run())
            tasks.create_task(self.sessions.run())
            tasks.create_task(self.assembler.run())
            tasks.create_task(self.dialling.run())
            tasks.create_task(self._look())

    async def close(self) -> None:
        """Take nobody in any more, log everybody out, and wait a little for their word."""
        self.stopping = True
        for server in self._servers:
            server.close()
        for link in list(self.links):
            link.depart()
        end_s = time.monotonic() + CLOSE_WAIT_S
        while self.links and time.monotonic() < end_s:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)
        for link in list(self.links):
            link.drop()
        while self.links and time.monotonic() < end_s + DROP_WAIT_S:  # noqa: ASYNC110 - they say what was unanswered
            await asyncio.sleep(0)
        with contextlib.suppress(*db.Unavailable):
            await self.sessions.forget()

    def sessions_by_protocol(self) -> Mapping[str, float]:
        """Count who is logged in, for metrics."""
        logged_in = Counter(link.protocol for link in self.links if link.account is not None)
        return {name: float(logged_in[name]) for name in self.tongues}

    def admit(self, visit: Visit, login: Pdu) -> None:
        """Decide on a login; the visit hears it later."""
        if self._tasks is None or self.stopping:
            visit.turn_away(login, Fault.BUSY)
            return
        self._tasks.create_task(self._decide(visit, login))

    def flush_soon(self, link: Link) -> None:
        """Have a link's output written in one piece, once this turn of the loop is over."""
        self.gathering.add(link)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def draft(self, login: Login, number: str, text: str, submit: Submit, origin: Origin) -> SessionDraft:
        """Make of a text what is accepted; raises Refusal."""
        draft = self._draft(login, number, text, submit.source, origin)
        return msgspec.structs.replace(draft, validity_s=submit.validity_s, send_at=submit.send_at)

    def draft_of_whole(self, key: Key, whole: Whole) -> SessionDraft:
        """The same of a text that was put together; its parts' origins become one."""
        login = self.keeper.current.login_apps[key.app_id]
        parts = [msgspec.msgpack.decode(octets, type=Origin) for octets in whole.origins]
        origin = Origin(
            parts[0].source,
            parts[0].written,
            tuple(part.ids[0] for part in parts),
            tuple(part.wanted[0] for part in parts),
        )
        return self._draft(login, whole.number, whole.text, parts[0].source, origin)

    # ---- parts of the above

    def _draft(self, login: Login, number: str, text: str, source: str, origin: Origin) -> SessionDraft:
        mainland = parse(number).country == "CN"
        wording: Mapping[str, Any] = self._recognizer.wording(text, login, mainland=mainland)
        return SessionDraft(
            to=number,
            reference=origin.ids[0].decode("ascii"),
            extension=_extension(source, login.access_number),
            origin=msgspec.msgpack.encode(origin),
            **wording,
        )

    async def _decide(self, visit: Visit, login: Pdu) -> None:
        try:
            await self._admit(visit, login)
        except Exception:  # of one login: it must not end the sessions of all
            log.exception("login.failed", protocol=visit.tongue.name, address=visit.address)
            visit.drop()

    async def _admit(self, visit: Visit, login: Pdu) -> None:
        name, address = visit.tongue.account(login), visit.address
        account = self.keeper.current.logins.get((visit.tongue.name, name))
        fault = self._fault(account, visit, login)
        if fault is Fault.NAME:
            await asyncio.sleep(self._penalty_s(address, name))
        if fault is None:
            assert account is not None
            try:
                if not await self.sessions.enter(account):
                    fault = Fault.TOO_MANY
            except db.Unavailable:
                fault = Fault.BUSY
        if fault is not None or account is None:
            log.info(
                "login.refused", protocol=visit.tongue.name, login=name[:40], address=address, fault=fault
            )
            self.refusals[str(fault)] += 1
            visit.turn_away(login, fault or Fault.NAME)
            return
        self._penalties.pop((address, name), None)
        visit.welcome(login, account)

    def _fault(self, account: Login | None, visit: Visit, login: Pdu) -> Fault | None:
        password = _NOBODY if account is None else account.key.secret.reveal().decode()
        proved = visit.tongue.proves(login, password)  # asked of unknown accounts too: it takes its time
        if account is None or not proved:
            return Fault.NAME
        if account.key.networks and not _is_within(visit.address, account.key):
            return Fault.ADDRESS
        if not account.key.tenant.active:
            return Fault.SUSPENDED
        return visit.tongue.objection(login, account)

    def _penalty_s(self, address: str, name: str) -> float:
        """Return how long to wait before this wrong login is refused: longer each time."""
        now_s = time.monotonic()
        count, since_s = self._penalties.pop((address, name), (0, now_s))
        if now_s - since_s > PENALTY_MEMORY_S:
            count = 0
        while len(self._penalties) >= PENALTIES_MAX:
            self._penalties.popitem(last=False)
        self._penalties[address, name] = (count + 1, now_s)
        return min(PENALTY_S_MAX, PENALTY_S * float(1 << min(count, 8)))

    def _flush(self) -> None:
        self._flushing = False
        gathering, self.gathering = self.gathering, set()
        for link in gathering:
            link.flush()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for link in list(self.links):
                try:
                    link.tick()
                    if link.account is not None and not self._may_stay(link.account):
                        link.depart()
                except Exception:
                    log.exception("session.failed", protocol=link.protocol)
                    link.drop()

    def _may_stay(self, account: Login) -> bool:
        """Whether the account is still there as it was when it logged in; a new password asks for a new login.

        So does another place to deliver to: it decides over which sessions receipts go.
        """
        now = self.keeper.current.logins.get((account.protocol, account.name))
        if now is None or now.id != account.id or now.deliver_to != account.deliver_to:
            return False
        return now.key.secret == account.key.secret


_NOBODY: Final = secrets.token_urlsafe(12)  # stands in for the password of an account that does not exist


def _is_within(address: str, key: Key) -> bool:
    if not address:  # it was gone before it could be asked
        return False
    known = ipaddress.ip_address(address)
    mapped = getattr(known, "ipv4_mapped", None)  # how a dual-stack socket shows IPv4 peers
    return any((mapped or known) in network for network in key.networks)


def _extension(source: str, access_number: str) -> str:
    """Return the digits behind the account's access number; raises Refusal for somebody else's number."""
    if not access_number:
        return ""
    if not source.startswith(access_number):
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="source", reason="does not begin with the access number"
        )
    return source.removeprefix(access_number)
