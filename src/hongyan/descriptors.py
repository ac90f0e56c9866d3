"""How many files and sockets this process may have open at once.

Many systems and containers begin with 1,024 and allow far more to who asks. Where they are used up, the event loop hangs up on
whoever connects, without a word in any log, and no connection to the database can be made either.
Entry points: ask_for_many() once per process, limit().
"""

import resource
from typing import Final

ENOUGH: Final = 65_536  # a door's connections, its clerk's to webhooks, and plenty besides


def ask_for_many() -> None:
    """Raise our own limit as far as the system lets us and we have use for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int:
    """Return how many may be open at once, at most ENOUGH."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ENOUGH if soft == resource.RLIM_INFINITY else min(soft, ENOUGH)
