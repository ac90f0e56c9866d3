"""What waits together is routed together, and a stream that has run empty is the same one when its like comes again."""

from types import SimpleNamespace
from typing import Any, Final

import msgspec
from test_route import channel, rule, snapshot

from hongyan.vocab.message import Purpose
from hongyan.way import lanes
from hongyan.way.flight import Stream
from hongyan.way.handover import Handed
from hongyan.way.lanes import Lanes
from hongyan.way.snapshot import Snapshot

LANE: Final = Purpose.TRANSACTIONAL.number


class Sender:
    """Lanes whose messages all leave when asked to; it remembers by which channels they might have gone."""

    def __init__(self, routes: Snapshot) -> None:
        self.keeper: Any = SimpleNamespace(current=routes)
        self.lanes = Lanes(self.keeper, SimpleNamespace(known=False))  # type: ignore[arg-type]

    def send(self, number: int, operator: str = "cmcc") -> tuple[int, list[int]]:
        """Send one message; returns which stream object it stood in, and the channels that were ranked for it."""
        handed = Handed(
            id=number.to_bytes(16),
            tenant_id=1,
            lane=LANE,
            number="+8613800138000",
            text="到了",
            extension="",
            part_count=1,
            country="CN",
            operator=operator,
            expires_at_s=0.0,
            price_micro=0,
            resend=True,
            sandbox=False,
            owner=1,
        )
        stream = self.lanes.enter(handed, fresh=True).stream
        self.lanes.take_turns(LANE, 0.0, self._launch)
        assert not self.lanes.waiting[LANE]
        return id(stream), [candidate.channel_id for candidate in stream.ranking]

    def _launch(self, stream: Stream, lane: int, _now_s: float) -> bool:
        self.lanes.rank(stream)
        self.lanes.take_off(stream, lane)
        return True


def test_a_stream_that_ran_empty_is_found_again_and_ranked_anew_when_routes_have_changed() -> None:
    sender = Sender(snapshot([channel(1), channel(2)], [rule(1)]))
    stream, channels = sender.send(1)
    assert channels == [1]
    assert sender.send(2) == (stream, [1])
    changed = snapshot([channel(1), channel(2)], [rule(2)])
    sender.keeper.current = msgspec.structs.replace(changed, version=2)
    assert sender.send(3) == (stream, [2])


def test_the_streams_that_are_remembered_are_bounded() -> None:
    sender = Sender(snapshot([channel(1)], [rule(1)]))
    for number in range(lanes.STREAMS_KNOWN_MAX + 5):
        sender.send(number, f"operator {number}")
    assert len(sender.lanes._streams) == lanes.STREAMS_KNOWN_MAX
