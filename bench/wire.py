"""How many PDUs a core writes and reads: pairs of encode() and decode() a second, for the hot PDUs.

    python -m bench.wire
    python -m bench.wire smpp --rounds 9

A pair makes the value, writes it and reads it back, as a message does once on its way through a client and
a server. smpplib is measured beside us, on the same SMPP PDUs in the same rounds, where it can be imported.
It is no dependency; a folder of its own, outside the checkout, is enough:

    python -m pip install --target ../smpplib smpplib==2.2.4
    PYTHONPATH=../smpplib python -m bench.wire smpp

Rounds go over all lines in turn, so that the noise of the machine meets them alike; a line shows its best
round (what the code costs) and its median (how noisy the machine was). Protocols without a file are left out.
"""

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

Pair = Callable[[], object]

TEXT = "【鸿雁】您的验证码是 428913，5 分钟内有效。".encode("utf-16-be")
RECEIPT = (
    b"id:0123456789 sub:001 dlvrd:001 submit date:2611250328 done date:2611250329 stat:DELIVRD err:000 text:"
)
NUMBER, SENDER = "8613812345678", "1069000012345"


@dataclass
class Line:
    """One PDU of one protocol, by us or by another."""

    name: str
    pair: Pair
    rates: list[float] = field(default_factory=list)


def _smpp() -> dict[str, Pair]:
    from hongyan.wire import smpp

    encode, decode = smpp.encode, smpp.decode

    def submit() -> object:
        pdu = smpp.SubmitSm(
            source_addr=SENDER,
            dest_addr_ton=1,
            dest_addr_npi=1,
            destination_addr=NUMBER,
            registered_delivery=1,
            data_coding=8,
            short_message=TEXT,
        )
        return decode(encode(pdu, 7))

    def report() -> object:
        pdu = smpp.DeliverSm(
            source_addr=NUMBER, destination_addr=SENDER, esm_class=smpp.ESM_RECEIPT, short_message=RECEIPT
        )
        return decode(encode(pdu, 7))

    return {
        "submit_sm": submit,
        "submit_sm_resp": lambda: decode(encode(smpp.SubmitSmResp(7, message_id="0123456789"))),
        "deliver_sm, a receipt": report,
    }


def _smpplib() -> dict[str, Pair]:
    library = importlib.import_module("smpplib.smpp")
    client = SimpleNamespace(sequence=7, next_sequence=lambda: 7)  # all that a PDU asks of its client
    make = partial(library.make_pdu, client=client)
    parse = partial(library.parse_pdu, client=client)

    def submit() -> object:
        pdu = make(
            "submit_sm",
            source_addr=SENDER,
            dest_addr_ton=1,
            dest_addr_npi=1,
            destination_addr=NUMBER,
            registered_delivery=1,
            data_coding=8,
            short_message=TEXT,
        )
        return parse(pdu.generate())

    def answer() -> object:
        pdu = make("submit_sm_resp", message_id="0123456789")
        pdu.sequence = 7
        return parse(pdu.generate())

    def report() -> object:
        pdu = make(
            "deliver_sm", source_addr=NUMBER, destination_addr=SENDER, esm_class=4, short_message=RECEIPT
        )
        return parse(pdu.generate())

    return {"submit_sm": submit, "submit_sm_resp": answer, "deliver_sm, a receipt": report}


def _cmpp(version: int) -> dict[str, Pair]:
    from hongyan.wire import cmpp

    dialect = {2: cmpp.V2, 3: cmpp.V3}[version]
    encode, decode = dialect.encode, dialect.decode
    said = cmpp.Report(msg_id=1 << 63, stat="DELIVRD", submit_time="2611250328", done_time="2611250329")

    def submit() -> object:
        pdu = dialect.submit(
            registered_delivery=1,
            msg_fmt=8,
            msg_src="900001",
            src_id=SENDER,
            dest_terminal_id=(NUMBER,),
            msg_content=TEXT,
        )
        return decode(encode(pdu, 7))

    def report() -> object:
        content = cmpp.write_report(said, dialect.version)
        pdu = dialect.deliver(
            dest_id=SENDER, src_terminal_id=NUMBER, registered_delivery=1, msg_content=content
        )
        return decode(encode(pdu, 7))

    return {
        "SUBMIT": submit,
        "SUBMIT_RESP": lambda: decode(encode(dialect.submit_resp(7, msg_id=1 << 63), None)),
        "DELIVER, a report": report,
    }


def _sgip() -> dict[str, Pair]:
    from hongyan.wire import sgip

    dialect = sgip.dialect(3_075_500_001, 1_125_032_800)
    encode, decode = dialect.encode, dialect.decode

    def submit() -> object:
        pdu = sgip.Submit(
            sp_number=SENDER,
            user_numbers=(NUMBER,),
            corp_id="00001",
            report_flag=1,
            message_coding=8,
            message_content=TEXT,
        )
        return decode(encode(pdu, 7))

    return {
        "Submit": submit,
        "Submit_Resp": lambda: decode(encode(sgip.SubmitResp(7), None)),
        "Report": lambda: decode(encode(sgip.Report(user_number=NUMBER), 7)),
    }


def _smgp() -> dict[str, Pair]:
    from hongyan.wire import smgp

    encode, decode = smgp.DIALECT.encode, smgp.DIALECT.decode
    msg_id = bytes.fromhex("01006101161700012345")
    content = b"id:" + msg_id + RECEIPT[13:]

    def submit() -> object:
        pdu = smgp.Submit(
            need_report=1,
            msg_format=8,
            src_term_id=SENDER,
            dest_term_id=(NUMBER,),
            msg_content=TEXT,
        )
        return decode(encode(pdu, 7))

    def report() -> object:
        pdu = smgp.Deliver(
            msg_id=msg_id, is_report=1, src_term_id=NUMBER, dest_term_id=SENDER, msg_content=content
        )
        return decode(encode(pdu, 7))

    return {
        "Submit": submit,
        "Submit_Resp": lambda: decode(encode(smgp.SubmitResp(7, msg_id=msg_id), None)),
        "Deliver, a report": report,
    }


PROTOCOLS: dict[str, dict[str, Callable[[], dict[str, Pair]]]] = {
    "smpp": {"smpp": _smpp, "smpplib": _smpplib},
    "cmpp2": {"cmpp2": lambda: _cmpp(2)},
    "cmpp3": {"cmpp3": lambda: _cmpp(3)},
    "sgip": {"sgip": _sgip},
    "smgp": {"smgp": _smgp},
}


def lines_of(protocol: str) -> list[Line]:
    """Return what of a protocol can be measured here."""
    lines = []
    for speaker, make in PROTOCOLS[protocol].items():
        try:
            pairs = make()
        except ImportError as error:
            print(f"{speaker} is left out: {error}")
            continue
        lines += [Line(f"{speaker}: {name}", pair) for name, pair in pairs.items()]
    return lines


def measure(lines: list[Line], rounds: int, round_s: float) -> None:
    """Give each line so many rounds of about round_s."""
    counts = [_count_in(line.pair, round_s) for line in lines]
    for _ in range(rounds):
        for line, count in zip(lines, counts, strict=True):
            line.rates.append(count / _seconds(line.pair, count))


def _count_in(pair: Pair, round_s: float) -> int:
    _seconds(pair, 200)  # warm
    return max(1, int(round_s * 1000 / _seconds(pair, 1000)))


def _seconds(pair: Pair, count: int) -> float:
    started_s = time.process_time()
    for _ in range(count):
        pair()
    return time.process_time() - started_s


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", choices=[*PROTOCOLS, "all"], nargs="?", default="all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-s", type=float, default=0.2)
    arguments = parser.parse_args()
    names = PROTOCOLS if arguments.protocol == "all" else [arguments.protocol]
    lines = [line for name in names for line in lines_of(name)]
    measure(lines, arguments.rounds, arguments.round_s)
    print(f"{'pairs a second and core':32} {'best':>10} {'median':>10}")
    for line in lines:
        print(f"{line.name:32} {max(line.rates):10,.0f} {statistics.median(line.rates):10,.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
