"""System programs that some tests need, and where to look for them.

Entry point: find(). The mark `needs("tshark")` skips a test where find("tshark") finds nothing.
"""

import os
import shutil
from typing import Final

# Debian puts servers such as Kannel's bearerbox where a user's PATH does not look.
PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
# Taken where it is here: the same engine, without windows, does the same with two thirds of the work.
INSTEAD: Final = {"chromium": "chromium-headless-shell"}


def find(program: str) -> str | None:
    """Return the path of a program, or of what stands for it; None where neither is here."""
    instead = INSTEAD.get(program)
    return (instead and shutil.which(instead, path=PATH)) or shutil.which(program, path=PATH)
