"""How promotions make room for codes and notices where all share the cores: by how long commits take.

Pure: no clock, no database. Entry point: Yielding. A machine whose cores are all in use answers late everywhere, at the door
first; and nothing but promotions can wait. So while codes or notices come, promotions leave at a rate that is found as a
sender finds that of a network (additive increase, multiplicative decrease): a little faster with each short commit, slower
after a long one. What is long is measured by the shortest of late: a disk may take 0.1 ms or 10. When nobody else has come
for a while they have the whole machine again.
"""

from typing import Final

OTHERS_S: Final = 2.0  # after the last code or notice, promotions still make room
MEMORY_S: Final = 600.0  # the shortest commit is that of the last 10 to 20 minutes
SHARE: Final = (
    1.25  # of it, and SLACK_S: whatever takes longer says that the cores, or the disk, are all in use
)
SLACK_S: Final = 0.002
LESS: Final = 0.85
LESS_GAP_S: Final = 0.05  # a slower rate takes so long to show
MORE: Final = 2_000.0  # by which the rate grows in a second of short commits
RATE_MIN: Final = 200.0  # promotions a second: they never stand still
BURST_S: Final = 0.02  # of the rate, at once


class Yielding:
    """One a gateway. Times are of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._others_at_s = float("-inf")
        self._rate = 0.0  # promotions a second; 0: as many as there are
        self._tokens = 0.0
        self._filled_s = 0.0  # when tokens were added last
        self._ticked_s = 0.0
        self._slowed_s = 0.0
        self._since_s = 0.0
        self._left = 0  # promotions since then
        self._stretch_s = 0.0  # when this stretch of MEMORY_S began
        self._shortest_s = self._shortest_before_s = float("inf")  # commit of it, of the one before

    def others(self, now_s: float) -> None:
        """Codes or notices want to leave."""
        self._others_at_s = now_s

    @property
    def holds(self) -> bool:
        """Whether promotions have a rate just now."""
        return self._rate > 0

    def lets(self, now_s: float) -> bool:
        """Say whether one more promotion may leave."""
        if not self._rate:
            return True
        most = max(1.0, self._rate * BURST_S)
        self._tokens = min(most, self._tokens + (now_s - self._filled_s) * self._rate)
        self._filled_s = now_s
        return self._tokens >= 1.0

    def left(self) -> None:
        """Count one that has left."""
        self._left += 1
        self._tokens -= 1.0

    @property
    def _long_s(self) -> float:
        return SHARE * min(self._shortest_s, self._shortest_before_s) + SLACK_S

    def ticked(self, took_s: float, now_s: float) -> None:
        """Learn how long a commit took of what was sent and heard."""
        since_last_s, self._ticked_s = now_s - self._ticked_s, now_s
        if now_s - self._stretch_s > MEMORY_S:
            self._shortest_before_s, self._shortest_s, self._stretch_s = self._shortest_s, took_s, now_s
        self._shortest_s = min(self._shortest_s, took_s)
        if now_s - self._others_at_s > OTHERS_S:
            self._rate = 0.0
        elif took_s <= self._long_s:
            if self._rate:
                self._rate += MORE * min(since_last_s, LESS_GAP_S)
        elif now_s - self._slowed_s >= LESS_GAP_S and now_s > self._since_s:
            seen = self._left / (now_s - self._since_s)
            self._rate = max(RATE_MIN, LESS * min(self._rate or seen, seen))
            self._slowed_s = now_s
        if now_s - self._since_s >= LESS_GAP_S:
            self._left, self._since_s = 0, now_s
