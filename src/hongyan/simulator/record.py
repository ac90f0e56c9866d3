"""What the practice operator saw: counts, what came to each number, and, where asked for, a line per event.

Writes: the JSON lines file it is given, numbers unmasked, as it is the evidence tests compare against; texts
are not in it. Entry points: Record's verbs, statistics(), destination().
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec import Struct

DESTINATIONS_MAX: Final = 2_000_000  # numbers counted one by one; those beyond are counted together
SEEN_MAX: Final = 2_000_000  # parts remembered to notice that one comes again


class Destination(Struct, gc=False):
    """What came to one number. submits: all, refused ones too; parts: those taken."""

    submits: int = 0
    parts: int = 0
    reports: int = 0  # sent, not counting tries
    reports_acked: int = 0


class Statistics(Struct, frozen=True):
    """Counts since the start. Parts and reports count once however often they are tried."""

    sessions: int  # logged in now
    binds: int
    binds_refused: int
    submits: int
    parts: int  # taken
    repeated_parts: int  # taken before: same number, sender, place and octets
    destinations: int
    destinations_beyond: int  # submits to numbers past DESTINATIONS_MAX
    refused: Mapping[str, int]  # by status, as 0x00000058
    acks: int  # answers to submits, refusals too
    reports: int
    reports_acked: int
    reports_resent: int  # further tries
    reports_given_up: int
    texts: int  # parts that handsets sent
    texts_acked: int
    disconnects: int  # by the operator's own will
    owed: int  # reports and texts waiting for a session or an answer


class Record:
    """Counts as things happen; asks nothing of anybody."""

    def __init__(self, lines: Path | None = None, *, destinations_max: int = DESTINATIONS_MAX) -> None:
        self._destinations_max = destinations_max
        self.counts: Counter[str] = Counter()
        self._refused: Counter[int] = Counter()
        self._destinations: dict[str, Destination] = {}
        self._beyond = Destination()
        self._submits_beyond = 0
        self._seen: set[int] = set()
        self._file: BinaryIO | None = lines.open("ab") if lines else None

    def submitted(self, number: str, now_s: float) -> None:
        self.counts["submits"] += 1
        destination = self._destinations.get(number)
        if destination is None:
            if len(self._destinations) >= self._destinations_max:
                self._submits_beyond += 1
                return
            destination = self._destinations[number] = Destination()
        destination.submits += 1
        if self._file:
            self._write(now_s, "submit", number)

    def taken(self, number: str, part_key: tuple[object, ...], ack_id: str, now_s: float) -> None:
        """Note a part that was taken; part_key is what makes it this part and no other."""
        self.counts["parts"] += 1
        self._of(number).parts += 1
        part = hash(part_key)
        if part in self._seen:
            self.counts["repeated_parts"] += 1
        elif len(self._seen) < SEEN_MAX:
            self._seen.add(part)
        if self._file:
            self._write(now_s, "taken", number, id=ack_id)

    def refused(self, number: str, status: int, now_s: float) -> None:
        self._refused[status] += 1
        if self._file:
            self._write(now_s, "refused", number, status=status)

    def reported(self, number: str, report_id: str, state: str, now_s: float, tries: int) -> None:
        """Note that a report leaves, for the first time or again."""
        if tries == 1:
            self.counts["reports"] += 1
            self._of(number).reports += 1
        else:
            self.counts["reports_resent"] += 1
        if self._file:
            self._write(now_s, "report", number, id=report_id, state=state, tries=tries)

    def report_acked(self, number: str, report_id: str, now_s: float) -> None:
        self.counts["reports_acked"] += 1
        self._of(number).reports_acked += 1
        if self._file:
            self._write(now_s, "report_acked", number, id=report_id)

    def destination(self, number: str) -> Destination:
        """Return what came to a number, in the form of behaviour.plain_number()."""
        return self._destinations.get(number) or Destination()

    def destinations(self) -> Mapping[str, Destination]:
        """Return the living table, for tests that compare it with what was accepted."""
        return self._destinations

    def statistics(self, *, sessions: int, owed: int) -> Statistics:
        counts = self.counts
        self.flush()
        return Statistics(
            sessions=sessions,
            binds=counts["binds"],
            binds_refused=counts["binds_refused"],
            submits=counts["submits"],
            parts=counts["parts"],
            repeated_parts=counts["repeated_parts"],
            destinations=len(self._destinations),
            destinations_beyond=self._submits_beyond,
            refused={f"0x{status:08x}": count for status, count in sorted(self._refused.items())},
            acks=counts["acks"],
            reports=counts["reports"],
            reports_acked=counts["reports_acked"],
            reports_resent=counts["reports_resent"],
            reports_given_up=counts["reports_given_up"],
            texts=counts["texts"],
            texts_acked=counts["texts_acked"],
            disconnects=counts["disconnects"],
            owed=owed,
        )

    def flush(self) -> None:
        if self._file:
            self._file.flush()

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _of(self, number: str) -> Destination:
        return self._destinations.get(number, self._beyond)

    def _write(self, now_s: float, event: str, number: str, **more: str | int) -> None:
        assert self._file is not None
        self._file.write(
            msgspec.json.encode({"at_s": now_s, "event": event, "number": number, **more}) + b"\n"
        )
