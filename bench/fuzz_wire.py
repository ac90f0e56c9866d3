"""Throw mutated SMPP at the codec and at a session; the only thing either may raise is RemoteProtocolError.

    python bench/fuzz_wire.py 10000000 --seed 1

Every input is a public PDU (tests/wire/vectors) with octets changed, cut out, put in or doubled, mostly with
its length set right again so that the change reaches the tables. What still decodes must, if it can be
written at all, be read again as the same value, and any deliver_sm must go through receipt(). Each mutated
stream is also fed to a logged-in session in two pieces. An exception ends the run and names the input.
"""

import argparse
import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from hongyan.wire import smpp
from hongyan.wire.fields import LocalProtocolError, RemoteProtocolError
from hongyan.wire.session import Limits, Role, Session, State

VECTORS = Path(__file__).parent.parent / "tests" / "wire" / "vectors" / "smpp.json"
SESSION_EACH = 8  # one input in so many also goes through a session
INTERESTING = (0, 1, 2, 4, 0x7F, 0x80, 0xFE, 0xFF)


@dataclass
class Counts:
    """What became of the inputs."""

    decoded: int = 0
    unreadable: int = 0
    unwritable: int = 0
    sessions: int = 0
    closed: int = 0


def fuzz(count: int, seed: int) -> Counts:
    """Run count inputs. Raises whatever the wire raises and should not, with the input as a note."""
    chance = random.Random(seed)
    seeds = [bytes.fromhex(row["hex"]) for row in json.loads(VECTORS.read_text("utf-8"))]
    counts = Counts()
    session = _session()
    for turn in range(count):
        frame = mutate(chance.choice(seeds), chance)
        try:
            _codec(frame, counts)
            if turn % SESSION_EACH == 0:
                session = _converse(session, frame, chance, counts)
        except Exception as error:
            error.add_note(f"input {turn} of seed {seed}: {frame.hex()}")
            raise
    return counts


def mutate(frame: bytes, chance: random.Random) -> bytes:
    octets = bytearray(frame)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(octets) + 1)
        match chance.randrange(5):
            case 0:
                octets[at : at + 1] = bytes((chance.randrange(256),))
            case 1:
                octets[at : at + 1] = bytes((chance.choice(INTERESTING),))
            case 2:
                del octets[at : at + chance.randrange(1, 8)]
            case 3:
                octets[at:at] = chance.randbytes(chance.randrange(1, 8))
            case 4:
                octets += octets[at : at + 40]
    if chance.random() < 0.9:
        octets[:4] = len(octets).to_bytes(4, "big")
    return bytes(octets)


def _codec(frame: bytes, counts: Counts) -> None:
    try:
        pdu = smpp.decode(frame)
    except RemoteProtocolError:
        counts.unreadable += 1
        return
    counts.decoded += 1
    if isinstance(pdu, smpp.DeliverSm):
        smpp.receipt(pdu)
    try:
        again = smpp.encode(pdu)
    except LocalProtocolError:  # texts longer than we ourselves may write
        counts.unwritable += 1
        return
    assert smpp.decode(again) == pdu, "what was written is not what was read"


def _converse(session: Session, frame: bytes, chance: random.Random, counts: Counts) -> Session:
    cut = chance.randrange(len(frame) + 1)
    session.receive(frame[:cut], 1.0)
    session.receive(frame[cut:], 1.0)
    session.take()
    session.tick(2.0)
    counts.sessions += 1
    if session.state is not State.CLOSED:
        return session
    counts.closed += 1
    return _session()


def _session() -> Session:
    session = Session(smpp.DIALECT, Role.CLIENT, Limits(), now_s=0.0)
    session.login(smpp.BindTransceiver(system_id="fuzz"), 0.0)
    session.receive(smpp.encode(smpp.BindTransceiverResp(1)), 0.0)
    return session


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("count", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started_s = time.monotonic()
    counts = fuzz(arguments.count, arguments.seed)
    print(f"{arguments.count} inputs in {time.monotonic() - started_s:.1f} s: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
