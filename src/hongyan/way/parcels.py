"""Cut a message into parcels as one channel would have them, or say why it cannot carry the message.

Pure. Entry points: Parcels.of(), for the pump; fitting(), which dry runs ask too. Owns the counter of references, by
which a handset joins the parts of a long text.
Surprise: a channel may cut a text into another number of parts than was promised and charged; it does not fit there.
"""

import random
from collections.abc import Sequence

from hongyan import clock
from hongyan.channels import kinds
from hongyan.channels.channel import Channel, Parcel, Wording
from hongyan.vocab import text
from hongyan.vocab.message import TenantId
from hongyan.way.flight import Flight
from hongyan.way.handover import Handed
from hongyan.way.line import Line
from hongyan.way.snapshot import ChannelRow, Snapshot


class Parcels:
    """Makes all parcels of one gateway."""

    def __init__(self) -> None:
        self._reference = random.getrandbits(16)

    def of(self, flight: Flight, line: Line, snapshot: Snapshot) -> list[Parcel] | None:
        """Make a message's parcels, but for parts that an earlier life has sent; None if the line cannot carry it.

        fitting() says why, and the flight remembers it.
        """
        handed = flight.handed
        fit = fitting(handed, line.row, line.channel, snapshot)
        if isinstance(fit, str):
            flight.unfit = fit
            return None
        parts, wording = fit
        extension = snapshot.extension_at(line.row.id, handed.signature_id, handed.extension)
        sender = line.row.access_number + extension
        validity_s = max(1, int(handed.expires_at_s - clock.now_s()))
        reference = 0
        if len(parts) > 1:
            self._reference = reference = (self._reference + 1) & 0xFFFF
        return [
            Parcel(flight, handed.number, sender, part.octets, part.encoding, part.index, part.total, reference,
                   part.shift.locking << 8 | part.shift.single, validity_s, wording)
            for part in parts
            if part.index not in handed.parts_gone
        ]  # fmt: skip


def fitting(
    handed: Handed, row: ChannelRow, channel: Channel, snapshot: Snapshot
) -> str | tuple[Sequence[text.TextPart], Wording | None]:
    """Cut a message as a channel would, with what it was made of where that matters; or say why it does not fit there.

    "words": a list of words shuts the channel to it. "template": its wording is not filed with the provider. "parts":
    the channel would cut it into another number of parts than was promised and charged.
    """
    if snapshot.words.shuts(row.id, handed.text, TenantId(handed.tenant_id)):
        return "words"
    wording = None
    if kinds.takes_templates(row.kind):
        wording = _wording(handed, snapshot)
        if not channel.takes(wording):
            return "template"
    counting = text.Counting.MAINLAND if handed.country == "CN" else text.Counting.INTERNATIONAL
    parts = channel.cut(handed.text, counting)
    if len(parts) != handed.part_count and not (len(parts) == 1 and parts[0].mode is text.Split.PAYLOAD):
        return "parts"
    return parts, wording


def _wording(handed: Handed, snapshot: Snapshot) -> Wording | None:
    """Say what a text was made of; None for free text."""
    template = snapshot.templates.get(handed.template_id)
    signature = snapshot.signatures.get(handed.signature_id)
    if template is None or handed.params is None:
        return None
    values = {name: str(value) for name, value in handed.params.items()}
    filed = template.filed_as(handed.text, values)
    return Wording(filed, signature.name if signature is not None else "", values)
