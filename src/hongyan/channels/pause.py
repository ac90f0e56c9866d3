"""How long a throttled channel holds still, and the small waits around it. Pure; entry point: Pause."""

OVERFULL_WAIT_S = 0.05  # told to a caller who submits more than room()
DOUBLINGS_MAX = 16  # of a back-off; the configured maximum is reached long before
TIMER_EARLY_S = 0.002  # uvloop keeps time in whole milliseconds: a timer may come a little before its time


class Pause:
    """How long a throttled channel holds still: doubles while throttling goes on, shrinks with quiet time."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._length_s = 0.0
        self._until_s = 0.0

    def remaining_s(self, now_s: float) -> float:
        return self._until_s - now_s

    def throttled(self, now_s: float) -> float:
        """Hear of a throttled submit; returns how long to hold still. What was sent before adds nothing."""
        if now_s >= self._until_s:
            quiet_s = now_s - self._until_s
            shrunk_s = self._length_s - self._first_s * quiet_s  # one first pause less for each quiet second
            self._length_s = min(max(2 * shrunk_s, self._first_s), self._longest_s)
            self._until_s = now_s + self._length_s
        return self._until_s - now_s
