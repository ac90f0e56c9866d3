"""Play what the pure Operator decides, and owe reports and texts until they are taken.

Writes through Record only. Entry points: Centre.submit() for lines, which are the connections of whatever
protocol, and owe_text() for handsets. What is owed belongs to an account (the name a session logs in with),
not to a session: when a session dies, its unanswered reports go to the account's next one, as real centres
do, so a client that dies before it has stored a report hears it again.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from enum import Enum, auto
from typing import Final, Protocol

from msgspec import Struct

from hongyan import clock
from hongyan.simulator import handset, operator
from hongyan.simulator.agenda import Agenda
from hongyan.simulator.behaviour import Behaviour, State, Table, plain_number
from hongyan.simulator.behaviour import Protocol as Spoken
from hongyan.simulator.handset import Handsets, Part
from hongyan.simulator.operator import Ack, Disconnect, Effect, Operator, Plan, Reply, Report, Submit
from hongyan.simulator.receipt import Fate
from hongyan.simulator.record import Record, Statistics
from hongyan.vocab.text import Encoding, Split, TextPart
from hongyan.wire.fields import Pdu

MESSAGES_MAX: Final = 100_000  # that queries find; the oldest are forgotten
OWED_MAX: Final = 1_000_000  # reports and texts; beyond it new ones are given up at once
ANY_ACCOUNT: Final = ""
NO_VENDOR: Final = 2**32  # above any code


class Message(Struct, gc=False):
    """A part that was taken, as queries and reports see it. Times in Unix seconds."""

    account: str
    number: str  # as the client wrote it
    sender: str
    submitted_at_s: float
    part: Part
    state: State = State.ENROUTE
    err: str = "000"
    done_at_s: float = 0.0


class OwedReport(Struct):
    """A report until somebody takes it."""

    account: str
    message: Message
    fate: Fate
    final: bool
    tries: int = 0


class OwedText(Struct):
    """One part of a text from a handset until somebody takes it."""

    account: str
    number: str  # the handset
    to: str
    part: TextPart
    reference: int
    tries: int = 0


Owed = OwedReport | OwedText


class Verdict(Enum):
    """What the client says to something owed."""

    TAKEN = auto()
    LATER = auto()  # it could not, or did not answer in time
    NEVER = auto()  # it will not

    @classmethod
    def of(cls, code: int, later: Collection[int], vendor_from: int = NO_VENDOR) -> "Verdict":
        """Read the code of an answer, 0 being OK; from `vendor_from` on they are the vendor's, and nobody knows them for final."""
        if code == 0:
            return cls.TAKEN
        return cls.LATER if code in later or code >= vendor_from else cls.NEVER


class Line(Protocol):
    """One connection, as the centre sees it."""

    account: str
    submits: int  # so far, this one included

    def takes(self) -> bool:
        """May something owed be delivered here now?"""
        ...

    def ack(self, ticket: Pdu, status: int, ack_id: str) -> None: ...
    def deliver(self, owed: Owed) -> None: ...
    def mute(self) -> None:
        """Never say anything again."""
        ...

    def abort(self) -> None:
        """Break the connection without a word."""
        ...

    def flush(self) -> None:
        """Write out what has gathered."""
        ...


class Centre:
    """What all sessions share."""

    def __init__(self, table: Table, record: Record, seed: int | None) -> None:
        self.behaviour: Behaviour = table.base
        self.table = table
        self.record = record
        self.handsets = Handsets()
        self.agenda = Agenda(self.flush)
        self.gathering: set[Line] = set()  # lines with something to write
        self._operator = Operator(table, seed)
        self._lines: list[Line] = []  # logged in to receive
        self._turn = 0
        self._waiting: dict[str, deque[Owed]] = {}  # by account, oldest first
        self._owed = 0
        self._messages: dict[str, Message] = {}
        self._reference = 0
        self.spoken: set[Spoken] = set()  # by the doors that are open
        # Hears of an account for which something waits while no line takes it.
        self.call: Callable[[str], None] = nobody
        self._wall_s = clock.now_s() - self.agenda.now_s()

    def behave(self, table: Table) -> None:
        """Take over another behaviour; what is due already stays as it was decided."""
        self.table = self._operator.table = table
        self.behaviour = table.base

    # what lines say

    def logged_in(self, line: Line, *, receives: bool) -> None:
        if receives:
            self._lines.append(line)
            self.hand_out()

    def lost(self, line: Line, unanswered: list[Owed]) -> None:
        """Hear that a line is gone, and what it had delivered without an answer, oldest first."""
        if line in self._lines:
            self._lines.remove(line)
        self.gathering.discard(line)
        for owed in reversed(unanswered):
            self._queue(owed.account).appendleft(owed)
        self.hand_out()

    def submit(self, line: Line, ticket: Pdu, part: Part, submit: Submit, number: str) -> None:
        """Take one part. ticket: comes back with the ack · number: as the client wrote it."""
        now_s = self.agenda.now_s()
        self.record.submitted(part.number, now_s + self._wall_s)
        plan = self._operator.take(submit, now_s, line.submits)
        if plan is None:
            line.mute()
        else:
            self._carry_out(line, ticket, part, number, plan, now_s)

    def submit_group(self, line: Line, ticket: Pdu, copies: Sequence[tuple[Part, Submit, str]]) -> None:
        """Take one part for many numbers: what submit() takes, for each of them. There is one ack."""
        if len(copies) == 1:
            self.submit(line, ticket, *copies[0])
            return
        now_s = self.agenda.now_s()
        for part, _, _ in copies:
            self.record.submitted(part.number, now_s + self._wall_s)
        plans = self._operator.take_group([submit for _, submit, _ in copies], now_s, line.submits)
        if plans is None:
            line.mute()
            return
        for (part, _, number), plan in zip(copies, plans, strict=True):
            self._carry_out(line, ticket, part, number, plan, now_s)

    def turn_away(self, line: Line, ticket: Pdu, parts: Sequence[Part], status: int) -> None:
        """Refuse what the protocol itself forbids, whatever the behaviour."""
        wall_s = self.wall_s()
        for part in parts:
            self.record.submitted(part.number, wall_s)
            self.record.refused(part.number, status, wall_s)
        line.ack(ticket, status, "")

    def number(self, count: int = 1) -> int:
        """Return the first of so many numbers that are given to nobody else, for ids of a line's own making."""
        return self._operator.number(count)

    def message(self, ack_id: str) -> Message | None:
        """Find a part by the id its ack gave."""
        return self._messages.get(ack_id)

    def answered(self, owed: Owed, verdict: Verdict) -> None:
        """Hear what the client says to something that a line has delivered."""
        if verdict is Verdict.TAKEN:
            self._owed -= 1
            if isinstance(owed, OwedReport):
                self.record.report_acked(owed.message.part.number, owed.fate.report_id, self.wall_s())
            else:
                self.record.counts["texts_acked"] += 1
        elif verdict is Verdict.LATER and owed.tries < self.behaviour.tries_max:
            self.agenda.add(self.agenda.now_s() + self.behaviour.resend_after_s, self._owe, owed)
        else:
            self._give_up()

    def hand_out(self) -> None:
        """Deliver what waits, as far as lines take it."""
        if not self._waiting:
            return
        for account in list(self._waiting):
            queue = self._waiting[account]
            while queue and (line := self._line_for(account)):
                self._deliver(line, queue.popleft())
            if not queue:
                del self._waiting[account]
            else:
                self.call(account)

    def flush(self) -> None:
        while self.gathering:
            self.gathering.pop().flush()

    # what handsets and people say

    def owe_text(self, number: str, to: str, text: str, account: str = ANY_ACCOUNT) -> None:
        """Let a handset send a text; it waits until a session of the account takes it."""
        behaviour = self.table.behaviour(plain_number(number))
        self._reference = self._reference % 0xFFFF + 1
        encoding, split = behaviour.reply_encoding, behaviour.reply_split
        if self._speaks_chinese(account):  # no GSM alphabet there, and no way to cut but by header
            encoding = encoding or (None if text.isascii() else Encoding.UCS2)
            split = split if split in (Split.UDH8, Split.UDH16) else Split.UDH8
        for part in handset.written(text, encoding, split):
            self._promise(OwedText(account, number, to, part, self._reference))

    def wall_s(self) -> float:
        return self.agenda.now_s() + self._wall_s

    def statistics(self, sessions: int) -> Statistics:
        return self.record.statistics(sessions=sessions, owed=self._owed)

    # ---- parts of the above

    def _carry_out(self, line: Line, ticket: Pdu, part: Part, number: str, plan: Plan, now_s: float) -> None:
        wall_s = now_s + self._wall_s
        message = Message(line.account, number, part.sender, wall_s, part)
        if plan.status:
            self.record.refused(part.number, plan.status, wall_s)
        else:
            part_key = (part.number, part.sender, part.reference, part.part_index, part.octets)
            self.record.taken(part.number, part_key, plan.ack_id, wall_s)
            if plan.ack_id:
                self._remember(plan.ack_id, message)
        for effect in plan.effects:
            if effect.delay_s > 0.0:
                self.agenda.add(now_s + effect.delay_s, self._play, line, ticket, message, effect)
            else:
                self._play(line, ticket, message, effect)

    def _speaks_chinese(self, account: str) -> bool:
        """May a line that takes something for the account speak CMPP, SGIP or SMGP?"""
        return bool((self.spoken if account == ANY_ACCOUNT else {protocol_of(account)}) - {Spoken.SMPP})

    def _play(self, line: Line, ticket: Pdu, message: Message, effect: Effect) -> None:
        match effect:
            case Report():
                self._play_report(message, effect)
            case Ack():
                line.ack(ticket, effect.status, effect.ack_id)
            case Reply():
                self.owe_text(message.number, message.sender, effect.text, message.account)
            case Disconnect():
                self.record.counts["disconnects"] += 1
                line.abort()

    def _play_report(self, message: Message, effect: Report) -> None:
        now_s = self.wall_s()
        if effect.settles:
            self._operator.settled()
            message.state, message.err, message.done_at_s = effect.state, effect.err, now_s
            if effect.state is State.DELIVRD:
                self.handsets.receive(message.part, now_s)
        if effect.told:
            fate = Fate(effect.report_id, effect.state, effect.err, message.submitted_at_s, now_s)
            self._promise(OwedReport(message.account, message, fate, effect.state.final))

    def _remember(self, ack_id: str, message: Message) -> None:
        if len(self._messages) >= MESSAGES_MAX:
            del self._messages[next(iter(self._messages))]
        self._messages[ack_id] = message

    def _promise(self, owed: Owed) -> None:
        self._owed += 1
        if self._owed > OWED_MAX:
            self._give_up()
        else:
            self._owe(owed)

    def _owe(self, owed: Owed) -> None:
        # Behind those that wait already: reports of one account keep their order.
        line = None if owed.account in self._waiting else self._line_for(owed.account)
        if line is None:
            self._queue(owed.account).append(owed)
            self.call(owed.account)
        else:
            self._deliver(line, owed)

    def _queue(self, account: str) -> deque[Owed]:
        return self._waiting.setdefault(account, deque())

    def _line_for(self, account: str) -> Line | None:
        """Find a line that takes something for the account, turn by turn."""
        lines = self._lines
        for _ in range(len(lines)):
            self._turn = (self._turn + 1) % len(lines)
            line = lines[self._turn]
            if account in (line.account, ANY_ACCOUNT) and line.takes():
                return line
        return None

    def _deliver(self, line: Line, owed: Owed) -> None:
        if owed.tries >= self.behaviour.tries_max:
            self._give_up()
            return
        owed.tries += 1
        if isinstance(owed, OwedReport):
            fate = owed.fate
            number = owed.message.part.number
            self.record.reported(number, fate.report_id, fate.state, self.wall_s(), owed.tries)
        elif owed.tries == 1:
            self.record.counts["texts"] += 1
        line.deliver(owed)

    def _give_up(self) -> None:
        self._owed -= 1
        self.record.counts["reports_given_up"] += 1


def submit_of(
    part: Part,
    *,
    on_success: bool,
    on_failure: bool,
    name: str = "",
    throttled: int = operator.THROTTLED,
    queue_full: int = operator.QUEUE_FULL,
) -> Submit:
    """Say of a part what the Operator needs to know."""
    return operator.Submit(
        part.number, part.part_index, part.part_count, on_success, on_failure, name, throttled, queue_full
    )


def account_of(protocol: Spoken, name: str) -> str:
    """Return what a login is called here: SMPP's name as it stands, the others' as cmpp:900001.

    One name may have a login of each protocol, and the reports of one are no use to the other.
    """
    return name if protocol is Spoken.SMPP else f"{protocol}:{name}"


def protocol_of(account: str) -> Spoken:
    """Return which protocol an account logs in by."""
    prefix, colon, _ = account.partition(":")
    return Spoken(prefix) if colon and prefix in _PREFIXES else Spoken.SMPP


_PREFIXES: Final = frozenset(set(Spoken) - {Spoken.SMPP})


def nobody(account: str) -> None:
    """Call nobody: what waits for the account waits until it comes."""
