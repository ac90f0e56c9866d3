"""What becomes of a submit: an operator without sockets and without a clock.

Writes nothing; pure. Entry point: Operator.take(submit, now_s, nth), which returns the effects of one
submit, each with its delay, for whoever holds the sockets to play; take_group() is for one submit to many
numbers. The same seed and the same calls give the same effects. Surprise: a Report effect happens whether or
not it is told (`told`): the handset has its text, the queue has room again, and a query finds the state even
where the report is lost.
"""

import uuid
from collections.abc import Sequence
from random import Random
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hongyan.simulator.behaviour import Behaviour, IdForm, ReportParts, State, Table

QUEUE_FULL: Final = 0x14  # ESME_RMSGQFUL
THROTTLED: Final = 0x58  # ESME_RTHROTTLED
_IDS_FROM: Final = 1 << 28  # hex and decimal of these differ in length, and neither fits the other's pattern
_IDS_BELOW: Final = 1 << 31
_UUIDS: Final = uuid.UUID("5cbb9f0a-6d0f-4a3e-9a51-0b7fd0b0a1c9")


class Submit(Struct, frozen=True, gc=False):
    """One part as it reaches the operator. `number` is in the form of behaviour.plain_number()."""

    number: str
    part_index: int = 1
    part_count: int = 1
    on_success: bool = True  # a report was asked for, should the part be delivered
    on_failure: bool = True  # the same, should it not be
    name: str = ""  # its id, where the protocol makes ids its own way; empty: the operator writes one
    throttled: int = THROTTLED  # what the protocol says to who is too fast
    queue_full: int = QUEUE_FULL


class Ack(Struct, frozen=True, gc=False):
    """Answer the submit with status (0: taken) and the id as the ack writes it."""

    delay_s: float
    status: int
    ack_id: str = ""


class Report(Struct, frozen=True, gc=False):
    """The part reaches a state. told: a report leaves; otherwise only the state changes.

    settles: this is the part's fate; intermediate states and duplicates settle nothing.
    """

    delay_s: float
    state: State
    err: str
    report_id: str
    told: bool
    settles: bool = True


class Reply(Struct, frozen=True, gc=False):
    """The handset writes a text, once it holds the whole message."""

    delay_s: float
    text: str


class Disconnect(Struct, frozen=True, gc=False):
    """The session breaks without a word."""

    delay_s: float


Effect = Ack | Report | Reply | Disconnect


class Plan(Struct, frozen=True, gc=False):
    """What follows from one submit. status 0: taken; ack_id is then the part's name in queries."""

    status: int
    ack_id: str
    effects: list[Effect]


class Operator:
    """Decides by behaviour, number and chance. One for all sessions, as limits are an account's."""

    def __init__(self, table: Table, seed: int | None = None) -> None:
        """seed None takes chance from the system, so that ids differ from one start to the next."""
        self.table = table
        self.queued = 0  # parts taken whose fate is open
        self._chance = Random(seed)  # noqa: S311 - chance that can be repeated, nothing secret
        self._next_id = self._chance.randrange(_IDS_FROM, _IDS_BELOW)
        self._tokens = table.base.parts_per_s_max
        self._filled_at_s: float | None = None

    def take(self, submit: Submit, now_s: float, nth: int = 1) -> Plan | None:
        """Decide what becomes of the nth submit of a session; None is silence.

        Effects with equal delays keep their order. Ids of taken parts are never given twice.
        """
        base = self.table.base
        if base.silent or 0 < base.silent_after_submits < nth:
            return None
        behaviour = self.table.behaviour(submit.number)
        status = self._refusal(submit, behaviour, now_s)
        plan = self._refused(behaviour, status) if status else self._taken(submit, behaviour)
        if nth == base.disconnect_after_submits:
            plan.effects.append(Disconnect(0.0))
        return plan

    def take_group(self, submits: Sequence[Submit], now_s: float, nth: int = 1) -> list[Plan] | None:
        """Decide of one submit to many numbers: a plan for each, of which only the first has the ack.

        A number that is refused refuses all [CMPP 3.0, annex 1]; each number counts as a submit towards limits.
        """
        base = self.table.base
        if base.silent or 0 < base.silent_after_submits < nth:
            return None
        behaviours = [self.table.behaviour(submit.number) for submit in submits]
        statuses = [
            self._refusal(submit, behaviour, now_s, beside)
            for beside, (submit, behaviour) in enumerate(zip(submits, behaviours, strict=True))
        ]
        status = next(filter(None, statuses), 0)
        if status:
            plans = [self._refused(behaviour, status) for behaviour in behaviours]
        else:
            plans = [self._taken(*each) for each in zip(submits, behaviours, strict=True)]
        for plan in plans[1:]:
            plan.effects[:] = [effect for effect in plan.effects if not isinstance(effect, Ack)]
        if nth == base.disconnect_after_submits:
            plans[-1].effects.append(Disconnect(0.0))
        return plans

    def number(self, count: int = 1) -> int:
        """Return the first of so many numbers that are given to nobody else."""
        first = self._next_id
        self._next_id += count
        return first

    def settled(self) -> None:
        """Hear that a Report effect that settles has come about: its place in the queue is free."""
        self.queued -= 1

    # ---- parts of the above

    def _refusal(self, submit: Submit, behaviour: Behaviour, now_s: float, beside: int = 0) -> int:
        """Return the status that refuses, or 0. beside: parts of the same submit that want in, too."""
        base = self.table.base
        if behaviour.refuse_status and self._happens(behaviour.refuse_share):
            return behaviour.refuse_status
        if base.queue_parts_max and self.queued + beside >= base.queue_parts_max:
            return submit.queue_full
        if base.parts_per_s_max and not self._within_rate(base.parts_per_s_max, now_s):
            return base.throttle_status or submit.throttled
        return 0

    def _within_rate(self, per_s: float, now_s: float) -> bool:
        """Spend one token of a bucket that holds one second's worth, at least one."""
        passed_s = 0.0 if self._filled_at_s is None else now_s - self._filled_at_s
        self._filled_at_s = now_s
        self._tokens = min(max(per_s, 1.0), self._tokens + passed_s * per_s)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _refused(self, behaviour: Behaviour, status: int) -> Plan:
        return Plan(status, "", [Ack(behaviour.ack_delay_s.draw(self._chance), status)])

    def _taken(self, submit: Submit, behaviour: Behaviour) -> Plan:
        self.queued += 1
        ack_id, report_id = self._ids(submit, behaviour)
        reports = self._reports(submit, behaviour, report_id)
        early = reports[0].told and self._happens(behaviour.early_share)
        ack_delay_s = behaviour.ack_delay_s.draw(self._chance) + (reports[0].delay_s if early else 0.0)
        acks = [] if self._happens(behaviour.ack_loss_share) else [Ack(ack_delay_s, 0, ack_id)]
        effects: list[Effect] = [reports[0], *acks, *reports[1:]] if early else [*acks, *reports]
        if submit.part_index == submit.part_count and (behaviour.reply or behaviour.forge):
            effects += self._texts(behaviour, reports)
        return Plan(0, ack_id, effects)

    def _ids(self, submit: Submit, behaviour: Behaviour) -> tuple[str, str]:
        """Return the id as the ack and as the report write it; a name has one form, and may be left out."""
        if submit.name:
            names = [
                "" if form is IdForm.EMPTY else submit.name
                for form in (behaviour.ack_id, behaviour.report_id)
            ]
            return names[0], names[1]
        number = self.number()
        return written_id(number, behaviour.ack_id), written_id(number, behaviour.report_id)

    def _reports(self, submit: Submit, behaviour: Behaviour, report_id: str) -> list[Report]:
        state, err = behaviour.state, behaviour.err
        if self._happens(behaviour.fail_share):
            state, err = State.UNDELIV, behaviour.fail_err
        span = behaviour.late_delay_s if self._happens(behaviour.late_share) else behaviour.report_delay_s
        told = submit.on_success if state is State.DELIVRD else submit.on_failure
        told = told and _reports_on(submit, behaviour.report_parts)
        told = told and not self._happens(behaviour.report_loss_share)
        report = Report(span.draw(self._chance), state, err, report_id, told)
        if told and (behaviour.intermediate or behaviour.report_copies != 1):
            return self._many_reports(behaviour, report)
        return [report]

    def _many_reports(self, behaviour: Behaviour, last: Report) -> list[Report]:
        """Spread the intermediate reports over the wait for the last one, and its copies behind it."""
        steps = len(behaviour.intermediate) + 1
        before = [
            Report(last.delay_s * step / steps, state, "000", last.report_id, told=True, settles=False)
            for step, state in enumerate(behaviour.intermediate, start=1)
        ]
        copies = [
            replace(last, delay_s=last.delay_s + copy * behaviour.copy_gap_s, settles=False)
            for copy in range(1, behaviour.report_copies)
        ]
        return [*before, last, *copies]

    def _texts(self, behaviour: Behaviour, reports: list[Report]) -> list[Reply]:
        """What the handset writes: a forged receipt whoever it is, an answer if it has the text."""
        texts = []
        arrived = next(report for report in reports if report.settles)
        after_s = arrived.delay_s
        if behaviour.forge:
            claim = f"id:{arrived.report_id} sub:001 dlvrd:001 stat:{behaviour.forge} err:000 text:"
            texts.append(Reply(after_s, claim))
        if behaviour.reply and arrived.state is State.DELIVRD:
            texts.append(Reply(after_s + behaviour.reply_delay_s.draw(self._chance), behaviour.reply))
        return texts

    def _happens(self, share: float) -> bool:
        return share > 0.0 and (share >= 1.0 or self._chance.random() < share)


def written_id(number: int, form: IdForm) -> str:
    """Write an id in a form. UUIDs follow from the number, so that ack and report agree."""
    match form:
        case IdForm.DECIMAL:
            return str(number)
        case IdForm.PADDED:
            return f"{number:012d}"
        case IdForm.HEX:
            return f"{number:x}"
        case IdForm.HEX_PADDED:
            return f"{number:010x}"
        case IdForm.HEX_UPPER:
            return f"{number:X}"
        case IdForm.UUID:
            return str(uuid.uuid5(_UUIDS, str(number)))
        case IdForm.EMPTY:
            return ""


def _reports_on(submit: Submit, parts: ReportParts) -> bool:
    if parts is ReportParts.FIRST:
        return submit.part_index == 1
    return parts is ReportParts.ALL or submit.part_index == submit.part_count
