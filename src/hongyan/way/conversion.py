"""Choose for codes among equal channels by how many of their codes people enter, and not by what reports claim.

Writes nothing: otp.conversions counts, this reads. Entry points: Conversions.pick(), which route.choose() asks, load().
Thompson sampling: each channel's share of codes entered in time is drawn from what is believed of it
(vocab/conversion.py), what a code is worth by that share less its price is compared, and the best gets the message. So
a channel of which little is known is tried about as often as it may still be the better one.
Surprises. What a gateway reads is up to GAP_S old. Before OUTCOMES_MIN outcomes are known of an operator it has no opinion,
and weight and health share the load as for other messages. Prices are compared as they are written: channels of one
priority are expected to have one currency.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, LiteralString

from hongyan import db
from hongyan.vocab.conversion import NOTHING, Belief, Evidence, Level, levels
from hongyan.way.route import Candidate, Picked, Want

GAP_S: Final = 5.0
OUTCOMES_MIN: Final = 20.0  # of all channels in question together, towards the operator
TRIED_SHARE: Final = 0.02  # of messages that each channel gets whatever is believed of it
TRIED_SHARE_ALL: Final = 0.2  # that all of them get so, together
HYSTERESIS: Final = 0.10  # by so much another must be better than the one that was chosen last
FAR_BETTER: Final = 2.0  # times as many codes entered: then its full window is waited for
PATIENCE_S: Final = 5.0
LEADERS_MAX: Final = 10_000
ROWS_MAX: Final = 50_000

Table = Mapping[Level, Evidence]

LOAD_SQL: LiteralString = """
SELECT channel_id, country, operator, province, good, bad, dropping, heard_at FROM conversion
 ORDER BY channel_id, country, operator, province LIMIT $1
"""


async def load(database: "db.Database | db.Tx") -> Table:
    """Read what is known of all channels."""
    return {
        Level(row["channel_id"], row["country"], row["operator"], row["province"]): Evidence(
            row["good"], row["bad"], row["dropping"], row["heard_at"]
        )
        for row in await database.fetch(LOAD_SQL, ROWS_MAX)
    }


class Conversions:
    """What is known, and which channel is ahead where. `chance` draws; a seeded one makes choices repeatable."""

    def __init__(self, value_micro: int, chance: Random, table: Table | None = None) -> None:
        """`value_micro`: what one entered code is worth, in the currency of the channels' prices."""
        self._value_micro = value_micro
        self._chance = chance
        self._table: Table = table or {}
        self._ahead: dict[tuple[str, str, str], int] = {}
        self._found: dict[
            tuple[str, str, str, tuple[int, ...]], Sequence[Belief] | None
        ] = {}  # of this table

    @property
    def known(self) -> bool:
        return bool(self._table)

    def swap(self, table: Table) -> None:
        """Take over what was read anew."""
        self._table = table
        self._found.clear()

    def pick(
        self,
        want: Want,
        equals: Sequence[Candidate],
        free: Sequence[Candidate],
        chance: float,
        now_s: float,
        waited_s: float = 0.0,
    ) -> Picked | None:
        """Choose among equal channels, of which `free` have room; None: too little is known.

        A full window is waited for only where all with room are far worse: for a code that would not arrive, a moment is
        well spent, but no more than PATIENCE_S. `chance` in [0, 1) says whether it is one of the messages by which each channel is
        tried; `now_s`: Unix seconds; `waited_s`: how old the message is.
        """
        asked = (want.country, want.operator, want.province, tuple(one.channel_id for one in equals))
        if asked not in self._found:  # what fades until the table is read again does not show
            self._found[asked] = self.believed(want, asked[-1], now_s)
        found = self._found[asked]
        if found is None:
            return None
        beliefs = {one.channel_id: belief for one, belief in zip(equals, found, strict=True)}
        words = tuple((number, f"verified {round(10 * one.mean) * 10} %") for number, one in beliefs.items())
        tried = int(chance / min(TRIED_SHARE, TRIED_SHARE_ALL / len(equals)))
        if tried < len(equals) and equals[tried] in free:
            return Picked(equals[tried], (*words, (equals[tried].channel_id, "tried now and then")))
        best = max(beliefs[one.channel_id].mean for one in free)
        if waited_s < PATIENCE_S and max(belief.mean for belief in found) > FAR_BETTER * best:
            return Picked(None, words)
        worths = [
            self._chance.betavariate(*beliefs[one.channel_id]) * self._value_micro - one.cost_micro
            for one in free
        ]
        return Picked(self._best(want, free, worths), words)

    def _best(self, want: Want, group: Sequence[Candidate], worths: Sequence[float]) -> Candidate:
        """Return the best by what was drawn; the one that was ahead stays so until another is clearly better."""
        place = (want.country, want.operator, want.province)
        ahead = self._ahead.get(place)
        best = max(range(len(group)), key=worths.__getitem__)
        for number, one in enumerate(group):
            if one.channel_id == ahead and worths[best] - worths[number] <= HYSTERESIS * abs(worths[number]):
                best = number
        if len(self._ahead) >= LEADERS_MAX:
            self._ahead.clear()
        self._ahead[place] = group[best].channel_id
        return group[best]

    def believed(self, want: Want, channel_ids: Sequence[int], now_s: float) -> Sequence[Belief] | None:
        """Return what is believed of each channel towards such numbers; None while too little is known of all.

        A channel nobody has tried there is expected to do as the others do together.
        """
        table = self._table
        evidence = [
            [
                table.get(level, NOTHING)
                for level in levels(channel_id, want.country, want.operator, want.province)
            ]
            for channel_id in channel_ids
        ]
        heard = [one[1].at(now_s) for one in evidence]
        outcomes = sum(one.outcomes for one in heard)
        if outcomes < OUTCOMES_MIN:
            return None
        mean = min(max(sum(one.good for one in heard) / outcomes, 0.05), 0.95)
        return [Belief.under(one, now_s, mean) for one in evidence]
