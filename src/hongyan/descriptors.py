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
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # on Linux neither is ever without bound
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(ENOUGH, hard)), hard))


def limit() -> int:
    """Return how many may be open at once."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
