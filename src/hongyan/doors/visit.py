"""One connection of a customer who logs in: requests become submits, answers follow their commit.

Writes nothing. Entry point: Visit, an asyncio protocol that protocols.Host builds for each connection.

Surprises. Within a session the same request under the same number is the same submit and gets the same answer; over
sessions it is a new one, unless the account counts duplicates. Too fast is answered with the protocol's word for it
and never with a disconnect.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from hongyan.doors.link import Link
from hongyan.doors.tongues.tongue import Fault, Origin, Submit, Tongue, e164
from hongyan.vocab import phone
from hongyan.vocab import text as texts
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.text import TextPart
from hongyan.way.accept import Outcome, SessionDraft
from hongyan.way.assemble import Piece
from hongyan.way.snapshot import Login
from hongyan.wire import session as wire
from hongyan.wire.fields import LocalProtocolError, Pdu

if TYPE_CHECKING:
    from hongyan.doors.protocols import Host

log = structlog.get_logger()

FAREWELL_S: Final = 0.5  # from a refusal to the end of the connection
OWE_AGAIN_S: Final = 1.0
REMEMBERED_MAX: Final = 1_024  # answers of a session, for requests that come again
_ASK_AGAIN: Final = frozenset({Code.SYSTEM_BUSY, Code.SYSTEM_ERROR, Code.REQUEST_RATE_LIMITED})


class Visit(Link):
    """One connection of a customer, from the moment it stands."""

    def __init__(self, host: "Host", tongue: Tongue) -> None:
        super().__init__(host, tongue.name, tongue.dialect, wire.Role.SERVER, tongue.inactivity_s)
        self.tongue = tongue
        self._remembered: OrderedDict[Hashable, tuple[bytes, Pdu | None]] = OrderedDict()
        self._twins: Counter[Hashable] = Counter()  # requests that came again before they were answered
        self._open = 0  # submits not yet answered

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._host.strangers[self.address] += 1
        if self._host.stopping or self._host.strangers[self.address] > self._host.settings.login_address_max:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.account is None:
            self._forget_stranger()
        else:
            self._host.sessions.leave(self.account)
        super().connection_lost(exc)

    # the host's side

    def welcome(self, login: Pdu, account: Login) -> None:
        if self._machine.state is not wire.State.LOGGING_IN:
            self._host.sessions.leave(account)  # it has hung up meanwhile
            return
        try:
            response, dialect, self._words = self.tongue.welcome(login, account)
        except Exception:
            self._host.sessions.leave(account)
            raise
        now_s = time.monotonic()
        self._machine.accept(response, now_s, dialect)
        self._forget_stranger()
        self.account, self.receives = account, self.tongue.receives(login, account)
        log.info("login.in", protocol=self.tongue.name, login=account.name, address=self.address)
        self._meet(self._machine.tick(now_s))  # what came behind the login
        self._host.flush_soon(self)
        self._host.changed()

    def turn_away(self, login: Pdu, fault: Fault) -> None:
        if self._machine.state is wire.State.LOGGING_IN:
            account = self._host.keeper.current.logins.get((self.protocol, self.tongue.account(login)))
            self._machine.refuse(self.tongue.turn_away(login, fault, account))
        self.flush()
        # Some clients look at the end of the connection before they have looked at what was said.
        asyncio.get_running_loop().call_later(FAREWELL_S, self._close)

    # what the machine says

    def _hear(self, event: wire.Event) -> None:
        match event:
            case wire.Received(pdu=pdu):
                self._request(pdu)
            case wire.LoginRequested(pdu=pdu):
                self._host.admit(self, pdu)

    def _request(self, pdu: Pdu) -> None:
        number, digest = self._words.number(pdu), _digest(pdu)
        known = self._remembered.get(number)
        if known is not None and known[0] == digest:
            if known[1] is None:
                self._twins[number] += 1  # it is under way: both are answered together
            else:
                self._answer(known[1])
            return
        if known is not None and self.tongue.numbers_once:
            refusal = Refusal(
                Code.REQUEST_INVALID_PARAMETER, parameter="sequence_number", reason="used before"
            )
            self._host.refusals[refusal.code.value.name] += 1
            self._answer(self._words.refused(pdu, refusal))
            return
        self._remembered[number] = (digest, None)
        while len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        try:
            asked = self._words.read(pdu)
        except Refusal as refusal:
            self._refuse(pdu, refusal)
            return
        if isinstance(asked, Submit):
            self._submit(pdu, asked)
        elif asked is not None:
            self._conclude(pdu, asked)

    def _submit(self, pdu: Pdu, submit: Submit) -> None:
        if not submit.numbers:
            self._refuse(pdu, Refusal(Code.NUMBER_INVALID, reason="no number"))
            return
        account = self.account
        assert account is not None
        # As configured now, not as it was at the login: prices, templates and rights change under a session.
        account = self._host.keeper.current.logins.get((account.protocol, account.name))
        if account is None:  # disabled: it is about to be logged out
            self._refuse(pdu, Refusal(Code.AUTH_KEY_NOT_FOUND))
            return
        if self._open >= account.window_size:
            self._refuse(pdu, Refusal(Code.REQUEST_RATE_LIMITED, reason="the window is full"))
            return
        self._open += 1
        if not account.key.rate_per_s:
            self._offer(pdu, submit, account)
            return

        # "Flow counts n messages" of a submit to n [C3 annex 1]; a whole second's worth is the most that can be had.
        tokens = left = min(len(submit.numbers), account.key.rate_per_s)
        limited: list[Refusal] = []

        def admitted(refusal: Refusal | None) -> None:
            nonlocal left
            left -= 1
            if refusal is not None:
                limited.append(refusal)
            if left:
                return
            if limited:
                self._open -= 1
                self._refuse(pdu, limited[0])
            else:
                self._offer(pdu, submit, account)

        for _ in range(tokens):
            self._host.rates.take(account.key, admitted)

    def _offer(self, pdu: Pdu, submit: Submit, account: Login) -> None:
        numbers = [e164(written, international=submit.international) for written in submit.numbers]
        ids = self._words.ids(pdu, len(numbers))
        asked = _Asked(pdu, submit, account, numbers, ids)
        try:
            if submit.total > 1:
                self._offer_part(asked)
            else:
                self._offer_whole(asked)
        except Refusal as refusal:
            self._open -= 1
            self._refuse(pdu, refusal)

    def _offer_whole(self, asked: "_Asked") -> None:
        """Have one message accepted a number; raises the Refusal where there is none to accept."""
        submit, account = asked.submit, asked.account
        text = texts.decode(submit.octets, submit.encoding, shift=submit.shift)
        drafts: list[SessionDraft] = []
        for place, number in enumerate(asked.numbers):
            try:
                drafts.append(self._host.draft(account, number, text, submit, asked.origin(place)))
            except Refusal as refusal:
                asked.refused[place] = refusal
        offered = asked.offered()

        def stored(outcomes: Sequence[Outcome]) -> None:
            for place, outcome in zip(offered, outcomes, strict=True):
                if isinstance(outcome, Refusal):
                    asked.refused[place] = outcome
            self._stored(asked)

        self._host.acceptor.offer(account.key, drafts, None, stored)

    def _offer_part(self, asked: "_Asked") -> None:
        """Have a part stored for each number; raises the Refusal where there is none to store."""
        submit = asked.submit
        if not 1 <= submit.index <= submit.total:
            raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="part", reason="from 1 to the total")
        pieces: list[Piece] = []
        for place, number in enumerate(asked.numbers):
            try:
                known = parse(number).e164
            except Refusal as refusal:
                asked.refused[place] = refusal
                continue
            pieces.append(asked.piece(place, known))
        offered = asked.offered()
        left = len(offered)

        def stored(place: int, outcome: Outcome | None) -> None:
            nonlocal left
            left -= 1
            if isinstance(outcome, Refusal):
                asked.refused[place] = outcome
            if not left:
                self._stored(asked)

        for place, piece in zip(offered, pieces, strict=True):
            self._host.assembler.add(piece, partial(stored, place))

    def _stored(self, asked: "_Asked") -> None:
        """Answer a submit after its commit."""
        refused = sorted(asked.refused.items())
        if len(refused) == len(asked.numbers):
            self._open -= 1
            self._refuse(asked.pdu, refused[-1][1])
        elif refused and not self.tongue.lists_refused:
            self._owe_refusals(asked, refused)
        else:
            self._taken(asked, [(asked.submit.numbers[place], refusal) for place, refusal in refused])

    def _owe_refusals(self, asked: "_Asked", refused: Sequence[tuple[int, Refusal]]) -> None:
        """Have numbers reported that were refused beside others that were taken: the answer cannot name them."""
        left = len(refused)

        def owed(place: int, refusal: Refusal, outcome: Outcome | None) -> None:
            nonlocal left
            if isinstance(outcome, Refusal) and not self._lost:
                # Not written down, so not answered either; and the others of its numbers are stored already.
                asyncio.get_running_loop().call_later(OWE_AGAIN_S, owe, place, refusal)
                return
            left -= 1
            if not left:
                self._taken(asked, ())

        def owe(place: int, refusal: Refusal) -> None:
            piece = asked.piece(place, asked.numbers[place])
            self._host.assembler.fail(piece, refusal, partial(owed, place, refusal))

        for place, refusal in refused:
            owe(place, refusal)

    def _taken(self, asked: "_Asked", refused: Sequence[tuple[str, Refusal]]) -> None:
        self._open -= 1
        self._conclude(asked.pdu, self._words.taken(asked.pdu, asked.ids, refused))

    def _refuse(self, pdu: Pdu, refusal: Refusal) -> None:
        self._host.refusals[refusal.code.value.name] += 1
        self._conclude(pdu, self._words.refused(pdu, refusal))
        if refusal.code in _ASK_AGAIN:
            self._remembered.pop(self._words.number(pdu), None)  # the same request may have better luck

    def _conclude(self, pdu: Pdu, response: Pdu) -> None:
        number = self._words.number(pdu)
        known = self._remembered.get(number)
        if known is not None:
            self._remembered[number] = (known[0], response)
        for _ in range(1 + self._twins.pop(number, 0)):
            self._answer(response)

    def _answer(self, response: Pdu) -> None:
        if self._machine.state not in (wire.State.READY, wire.State.LOGGING_OUT):
            return  # it has gone; what was stored is reported when it comes back
        try:
            self._machine.answer(response, time.monotonic())
        except LocalProtocolError as error:
            log.warning("session.unwritable", protocol=self.tongue.name, error=str(error))
            self.drop()
            return
        self._host.flush_soon(self)

    def _forget_stranger(self) -> None:
        strangers = self._host.strangers
        strangers[self.address] -= 1
        if strangers[self.address] <= 0:
            del strangers[self.address]


class _Asked(msgspec.Struct, frozen=True):
    """A submit on its way to be stored. What is of a number stands at the number's place; `refused` fills on the way."""

    pdu: Pdu
    submit: Submit
    account: Login
    numbers: Sequence[str]  # E.164 as far as they can be read
    ids: Sequence[bytes]
    refused: dict[int, Refusal] = {}

    def origin(self, place: int) -> Origin:
        submit = self.submit
        return Origin(submit.source, submit.numbers[place], (self.ids[place],), (submit.wanted,))

    def piece(self, place: int, number: str) -> Piece:
        submit = self.submit
        part = TextPart(submit.index, submit.total, submit.encoding, submit.octets, shift=submit.shift)
        origin = msgspec.msgpack.encode(self.origin(place))
        return Piece(self.account.key, number, submit.source, part, submit.reference, submit.width, origin)

    def offered(self) -> Sequence[int]:
        """Return the places that are not refused yet; raises the Refusal where all are."""
        places = [place for place in range(len(self.numbers)) if place not in self.refused]
        if not places:
            raise self.refused[0]
        return places


def parse(number: str) -> phone.Phone:
    """Parse a number as vocab.phone does; raises Refusal."""
    try:
        return phone.parse(number)
    except phone.BadNumber as error:
        raise Refusal(Code.NUMBER_INVALID, reason=error.fault) from error


def _digest(pdu: Pdu) -> bytes:
    return blake2b(msgspec.msgpack.encode(pdu), digest_size=16).digest()
