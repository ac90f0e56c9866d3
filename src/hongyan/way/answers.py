"""What channels tell: answers to parcels, reports, texts from people, how their links are.

Writes: submitted (asked_at). Entry points: Answers.sink_of(), whom a channel tells; reported(), for pushes of providers
too; ask(), a duty every ASK_GAP_S. Owns nothing: what is to be stored goes to the ticker (report.py), what is to be sent
again back to its stream or its line.
Surprises: the slot of a part that was taken is given back only when the ack is committed, that of any other at once.
A part that may have left unheard is sent again only where a person may get it twice, and only so often.
"""

import time
from collections.abc import Callable, Sequence
from typing import LiteralString
from uuid import UUID

import msgspec

from hongyan import clock, db
from hongyan.channels.channel import (
    Ack,
    Answer,
    ChannelState,
    Declined,
    Inbound,
    Report,
    Throttled,
    Unreachable,
    Unsure,
)
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.message import ChannelId, Status, accepted_at_s
from hongyan.way.drop import Dropped
from hongyan.way.flight import Flight
from hongyan.way.lanes import Lanes
from hongyan.way.line import PROMOTIONAL, Line
from hongyan.way.lines import Lines
from hongyan.way.measure import Counters
from hongyan.way.pump import Pump
from hongyan.way.report import Ticker
from hongyan.way.snapshot import Keeper
from hongyan.way.tick import Acked, Gone
from hongyan.way.unsure import Maybe

REFUSALS_MAX = 2  # of one message by upstreams that cannot take it now; then it is put off
PUT_OFF_S, PUT_OFF_S_MAX = 1.0, 300.0  # half as long as the message is old
UNSURE_AGAIN_MAX = (
    5  # how often what may be sent again is, each time unsure: a person must not get a text for ever
)
ASK_GAP_S = 1.0
ASKS_PER_GAP = 5


class Sink:
    """What one channel tells, with its id."""

    def __init__(self, answers: "Answers", channel_id: ChannelId) -> None:
        self._answers = answers
        self._channel_id = channel_id

    def answered(self, answers: Sequence[Answer]) -> None:
        self._answers.answered(self._channel_id, answers)

    def reported(self, reports: Sequence[Report]) -> None:
        self._answers.reported(self._channel_id, reports)

    def arrived(self, inbound: Sequence[Inbound]) -> None:
        self._answers.arrived(self._channel_id, inbound)

    def changed(self, state: ChannelState) -> None:
        self._answers.changed(self._channel_id, state)


class Answers:
    """Takes in what all channels of a gateway tell."""

    def __init__(
        self,
        database: db.Database,
        keeper: Keeper,
        vault: Vault,
        settings: Settings,
        counters: Counters,
        lanes: Lanes,
        lines: Lines,
        ticker: Ticker,
        pump: Pump,
        inbound: Callable[[ChannelId, Sequence[Inbound]], None],
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._vault = vault
        self._settings = settings
        self._counters = counters
        self._lanes = lanes
        self._lines = lines
        self._ticker = ticker
        self._pump = pump
        self._inbound = inbound

    # ---- answers to parcels

    def answered(self, channel_id: ChannelId, answers: Sequence[Answer]) -> None:
        """Take in what became of parcels."""
        line = self._lines.open[channel_id]
        acks = 0
        back: list[Flight] = []
        for answer in answers:
            flight: Flight = answer.parcel.handle
            outcome = answer.outcome
            if isinstance(outcome, Ack):
                acks += 1
                line.refused_in_a_row = 0
                line.figures.answered("ack", answer.at_s, answer.at_s - answer.sent_at_s)
                self._acked(flight, line, answer, outcome)
                continue
            word = type(outcome).__name__.lower()
            self._counters.answered(word)
            line.figures.failed(word, answer.at_s, _words_of(outcome))
            if isinstance(outcome, Declined):
                flight.why = outcome
                flight.declined.append(answer.slot)
                self._part_done(flight, line)
            elif isinstance(outcome, Throttled):
                line.again(answer.parcel)
                line.channel.stored((answer.slot,))
            elif isinstance(outcome, Unreachable):
                back += self._did_not_leave(flight, line, answer)
            else:
                back += self._unsure(flight, line, answer)
        self._lanes.back(back, line)
        self._counters.answered("ack", acks)
        self._pump.soon()

    def _acked(self, flight: Flight, line: Line, answer: Answer, ack: Ack) -> None:
        handed, parcel = flight.handed, answer.parcel
        if (
            not ack.upstream_id
        ):  # taken, but no report can name it; one that names the number may still settle it
            self._wait_unsure(flight, line, answer)
            return
        self._ticker.acked(
            Acked(
                channel_id=line.row.id, upstream_id=ack.upstream_id,
                upstream_raw=ack.upstream_raw if ack.upstream_raw != ack.upstream_id else None,
                tenant_id=handed.tenant_id, message_id=handed.id, part_index=parcel.part_index, attempt=handed.attempt,
                sent_ms=int(answer.sent_at_s * 1000), cost_micro=line.row.cost_micro * flight.parts_each, decision=flight.decision,
                slot=answer.slot,
            )
        )  # fmt: skip
        self._part_done(flight, line)

    def _part_done(self, flight: Flight, line: Line) -> None:
        handed = flight.handed
        if handed.lane == PROMOTIONAL:
            line.open_promotional -= 1
        flight.left_open -= 1
        if flight.left_open:
            return
        if flight.why is None:
            self._ticker.gone(Gone(handed.tenant_id, handed.id))
            return
        self._ticker.dropped(
            Dropped(
                handed.tenant_id, handed.id, len(flight.declined) * flight.parts_each, Status.UNDELIVERED,
                flight.why.cause, flight.why.code, line.row.id, tuple(flight.declined),
            )
        )  # fmt: skip

    def _did_not_leave(self, flight: Flight, line: Line, answer: Answer) -> Sequence[Flight]:
        """It may go by another channel, unless other parts of it have gone by this one; the line rests a moment.

        Returns the message if it is to be put back.
        """
        line.channel.stored((answer.slot,))
        line.again(answer.parcel)
        whole = line.holds(flight) == flight.total
        answered = answer.slot is not None  # else no session was there to ask
        if answered:
            line.refused_in_a_row += 1
            flight.refusals += 1
        only_this = answered and whole and line.takes_others
        if not only_this or (flight.refusals == 1 and len(self._lines.open) > 1):
            line.rest(time.monotonic())
        if not whole:
            return ()
        line.take_out(flight)
        if only_this and flight.refusals > REFUSALS_MAX:
            self._put_off(flight, line)
            return ()
        return (flight,)

    def _put_off(self, flight: Flight, line: Line) -> None:
        """Try a message later that is refused again and again while others are taken: they need not wait for it."""
        handed = flight.handed
        if handed.lane == PROMOTIONAL:
            line.open_promotional -= flight.total
        age_s = clock.now_s() - accepted_at_s(UUID(bytes=handed.id))
        self._lanes.put_off(handed, clock.now_s() + min(max(age_s / 2, PUT_OFF_S), PUT_OFF_S_MAX))

    def _unsure(self, flight: Flight, line: Line, answer: Answer) -> Sequence[Flight]:
        """It may have left. Codes, and notices that may, are sent again, so often; the others wait for a report.

        Returns the message if it is to be put back.
        """
        flight.unsure += 1
        if flight.careful or flight.unsure > UNSURE_AGAIN_MAX * flight.total:
            self._wait_unsure(flight, line, answer)
            return ()
        line.channel.stored((answer.slot,))
        if flight.total > 1:
            line.again(answer.parcel)
            return ()
        return (flight,)

    def _wait_unsure(self, flight: Flight, line: Line, answer: Answer) -> None:
        handed, parcel = flight.handed, answer.parcel
        line.channel.stored((answer.slot,))
        self._ticker.maybe(
            Maybe(
                channel_id=line.row.id, tenant_id=handed.tenant_id, message_id=handed.id, part_index=parcel.part_index,
                attempt=handed.attempt, sent_ms=int(answer.sent_at_s * 1000), cost_micro=line.row.cost_micro * flight.parts_each,
                decision=flight.decision, phone_index=self._vault.phone_index(handed.number),
            )
        )  # fmt: skip
        self._part_done(flight, line)

    # ---- reports, texts, links

    def reported(self, channel_id: ChannelId, reports: Sequence[Report]) -> None:
        """Take in reports; intermediate ones settle nothing and are only confirmed."""
        final = [r for r in reports if r.final]
        if len(final) != len(reports):
            self._lines.open[channel_id].channel.stored([r.slot for r in reports if not r.final])
        self._ticker.reported(channel_id, final)

    def arrived(self, channel_id: ChannelId, inbound: Sequence[Inbound]) -> None:
        self._inbound(channel_id, inbound)

    def changed(self, channel_id: ChannelId, link: ChannelState) -> None:
        """Hear how a link is. What waited for a line that went down is routed anew."""
        line = self._lines.open.get(channel_id)
        if line is None:
            return
        self._lines.changed(line, link)
        self._pump.soon()

    async def ask(self) -> None:
        """Ask operators about parts that are long without a report, a few at a time."""
        if not self._lines.open:
            return
        rows = await self._database.fetch(
            ASK_SQL,
            list(self._lines.open),
            float(self._settings.unsure_wait_s),
            ASKS_PER_GAP,
            float(self._settings.report_wait_s),
        )
        for row in rows:
            line = self._lines.open.get(ChannelId(row["channel_id"]))
            if line is None or not line.up or row["sealed"] is None:
                continue
            number, *_ = msgspec.msgpack.decode(self._vault.unseal(row["tenant_id"], row["sealed"]))
            sender = line.row.access_number + self._keeper.current.extension_at(
                line.row.id, row["signature_id"], row["extension"]
            )
            answer = await line.channel.ask(row["upstream_raw"] or row["upstream_id"], number, sender)
            if answer is not None and answer.final:
                self._ticker.reported(
                    line.row.id,
                    [msgspec.structs.replace(answer, upstream_id=row["upstream_id"], candidates=())],
                )


def _words_of(outcome: Declined | Throttled | Unreachable | Unsure) -> str:
    return outcome.code if isinstance(outcome, Declined | Throttled) else outcome.reason


ASK_SQL: LiteralString = """
UPDATE submitted s SET asked_at = now()
  FROM message m
 WHERE (s.channel_id, s.upstream_id) IN (
        SELECT channel_id, upstream_id FROM submitted
         WHERE channel_id = ANY($1::int[]) AND state = 0 AND asked_at IS NULL
           AND sent_at < now() - make_interval(secs => $2::float8) AND sent_at > now() - make_interval(secs => $4::float8)
         LIMIT $3 FOR UPDATE SKIP LOCKED)
   AND m.tenant_id = s.tenant_id AND m.id = s.message_id
RETURNING s.channel_id, s.upstream_id, s.upstream_raw, s.tenant_id, m.sealed, m.extension, m.signature_id
"""
