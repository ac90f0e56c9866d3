"""Our side of an interoperation: a channel that is up against a foreign centre, and the parts of a text for it.

Entry points: facing(), written(). Our doors are doors.hosting and doors.client, as in other tests.
"""

from typing import Any, Final, cast

from channels.centre import parcel
from channels.peer import Opened, Peer
from hongyan.channels.channel import Channel, Parcel
from hongyan.vocab.text import Counting

LONG: Final = "".join(map(chr, range(0x4E00, 0x4E00 + 150)))  # three parts, every character another
GSM7: Final = "hello @ £ {€}"


class _At:
    """All that Opened asks of its peer."""

    def __init__(self, port: int) -> None:
        self.port = port


def facing(kind: str, port: int, **settings: Any) -> Opened:
    """Open a channel of this kind to who listens there; `async with` it."""
    return Opened(kind, cast("Peer", _At(port)), **settings)


def written(channel: Channel, text: str, counting: Counting = Counting.MAINLAND) -> list[Parcel]:
    """Cut a text into parcels, as the way does."""
    parts = channel.cut(text, counting)
    return [
        parcel(
            part.index, octets=part.octets, encoding=part.encoding,
            part_index=part.index, part_count=part.total, reference=77,
        )
        for part in parts
    ]  # fmt: skip
