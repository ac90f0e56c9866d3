"""Throw mutated PDUs at a codec and at sessions; the only thing either may raise is RemoteProtocolError.

    python -m bench.fuzz_wire smpp 10000000 --seed 1
    python -m bench.fuzz_wire all

Every input is a public PDU (tests/wire/vectors) with octets changed, cut out, put in or doubled, mostly with
its length set right again so that the change reaches the tables. What still decodes must, if it can be
written at all, be read again as the same value, and any report in it must be read or refused. Each mutated
stream is also fed in two pieces to a logged-in session, of a client and of a server in turn. An exception
ends the run and names the input.
"""

import argparse
import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hongyan.wire.fields import LocalProtocolError, Pdu, RemoteProtocolError
from hongyan.wire.session import Dialect, Limits, Role, Session, State

VECTORS = Path(__file__).parent.parent / "tests" / "wire" / "vectors"  # one file for each protocol
FRAMED = ("pdu", "negative", "stream")  # kinds of vectors; the others are no whole PDUs
SESSION_EACH = 8  # one input in so many also goes through a session
INTERESTING = (0, 1, 2, 4, 0x7F, 0x80, 0xFE, 0xFF)


@dataclass(frozen=True)
class Protocol:
    """What is fuzzed; read_report takes any PDU that was read."""

    dialect: Dialect
    login: Pdu
    welcome: Pdu  # under number 1
    read_report: Callable[[Pdu], object]


def _smpp() -> Protocol:
    from hongyan.wire import smpp

    login = smpp.BindTransceiver(system_id="fuzz")
    return Protocol(
        smpp.DIALECT,
        login,
        smpp.BindTransceiverResp(1),
        lambda pdu: smpp.receipt(pdu) if isinstance(pdu, smpp.DeliverSm) else None,
    )


def _cmpp(version: int) -> Protocol:
    from hongyan.wire import cmpp

    dialect = {2: cmpp.V2, 3: cmpp.V3}[version]
    return Protocol(
        dialect,
        cmpp.Connect(),
        dialect.connect_resp(1),
        lambda pdu: cmpp.report(pdu) if isinstance(pdu, cmpp.Deliver) else None,
    )


def _sgip() -> Protocol:
    from hongyan.wire import sgip

    return Protocol(
        sgip.dialect(0, 0),  # so that what was read without a node is written without one
        sgip.Bind(login_type=sgip.LoginType.SP_TO_SMG),
        sgip.BindResp(1),
        lambda pdu: sgip.receipt(pdu) if isinstance(pdu, sgip.Report) else None,
    )


def _smgp() -> Protocol:
    from hongyan.wire import smgp

    return Protocol(
        smgp.DIALECT,
        smgp.Login(login_mode=smgp.LoginMode.BOTH),
        smgp.LoginResp(1),
        lambda pdu: smgp.report(pdu) if isinstance(pdu, smgp.Deliver) else None,
    )


# Each is named as its file of vectors, and made only when it is asked for.
PROTOCOLS: dict[str, Callable[[], Protocol]] = {
    "smpp": _smpp,
    "cmpp2": partial(_cmpp, 2),
    "cmpp3": partial(_cmpp, 3),
    "sgip": _sgip,
    "smgp": _smgp,
}


@dataclass
class Counts:
    """What became of the inputs."""

    decoded: int = 0
    unreadable: int = 0
    unwritable: int = 0
    sessions: int = 0
    closed: int = 0


def fuzz(count: int, seed: int, protocol: str = "smpp") -> Counts:
    """Run count inputs. Raises whatever the wire raises and should not, with the input as a note."""
    chance = random.Random(seed)
    fuzzed = PROTOCOLS[protocol]()
    rows = json.loads((VECTORS / f"{protocol}.json").read_text("utf-8"))
    seeds = [bytes.fromhex(row["hex"]) for row in rows if row["kind"] in FRAMED]
    counts = Counts()
    sessions = deque(_session(fuzzed, role) for role in Role)
    for turn in range(count):
        frame = mutate(chance.choice(seeds), chance)
        try:
            _codec(fuzzed, frame, counts)
            if turn % SESSION_EACH == 0:
                sessions[0] = _converse(fuzzed, sessions[0], frame, chance, counts)
                sessions.rotate()
        except Exception as error:
            error.add_note(f"{protocol}, input {turn} of seed {seed}: {frame.hex()}")
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


def _codec(protocol: Protocol, frame: bytes, counts: Counts) -> None:
    dialect = protocol.dialect
    try:
        pdu = dialect.decode(frame)
    except RemoteProtocolError:
        counts.unreadable += 1
        return
    counts.decoded += 1
    protocol.read_report(pdu)
    try:
        again = dialect.encode(pdu, None)
    except LocalProtocolError:  # texts longer than we ourselves may write
        counts.unwritable += 1
        return
    assert dialect.decode(again) == pdu, "what was written is not what was read"


def _converse(
    protocol: Protocol, session: Session, frame: bytes, chance: random.Random, counts: Counts
) -> Session:
    cut = chance.randrange(len(frame) + 1)
    session.receive(frame[:cut], 1.0)
    session.receive(frame[cut:], 1.0)
    session.take()
    session.tick(2.0)
    counts.sessions += 1
    if session.state is not State.CLOSED:
        return session
    counts.closed += 1
    return _session(protocol, session.role)


def _session(protocol: Protocol, role: Role) -> Session:
    session = Session(protocol.dialect, role, Limits(), now_s=0.0)
    if role is Role.CLIENT:
        session.login(protocol.login, 0.0)
        session.receive(protocol.dialect.encode(protocol.welcome, None), 0.0)
    else:
        session.receive(protocol.dialect.encode(protocol.login, 1), 0.0)
        session.accept(protocol.welcome, 0.0)
    assert session.state is State.READY
    session.take()
    return session


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", choices=[*PROTOCOLS, "all"])
    parser.add_argument("count", type=int, nargs="?", default=1_000_000, help="inputs for each protocol")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for name in PROTOCOLS if arguments.protocol == "all" else [arguments.protocol]:
        started_s = time.monotonic()
        counts = fuzz(arguments.count, arguments.seed, name)
        print(f"{name}: {arguments.count} inputs in {time.monotonic() - started_s:.1f} s: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
