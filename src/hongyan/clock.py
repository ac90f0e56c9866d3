"""The one place that asks what time it is, so that tests can move it."""

import time
from datetime import UTC, datetime


def now_s() -> float:
    """Return Unix seconds."""
    return time.time()


def now() -> datetime:
    """Return the same moment as an aware datetime in UTC."""
    return datetime.now(UTC)


def moment(at_s: float) -> datetime:
    """Return Unix seconds as an aware datetime in UTC."""
    return datetime.fromtimestamp(at_s, UTC)
