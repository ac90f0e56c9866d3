"""PyPI's `smpplib` as an ESME, driven by JSON lines: see speaker.py. Usage: smpplib_esme.py PORT SYSTEM_ID PASSWORD."""

import io
import json
import select
import sys
from typing import Any

from smpplib import client, consts, exceptions, gsm  # type: ignore[import-not-found]


def tell(event: str, **told: Any) -> None:
    print(json.dumps({"event": event, **told}), flush=True)  # noqa: T201 - it is how it speaks


def submit(esme: Any, order: dict[str, Any]) -> None:
    """Cut as smpplib cuts: headers in the text, or SAR, which its users fill in themselves."""
    udhi = order.get("udhi", True)
    parts, coding, esm_class = gsm.make_parts(order["text"], consts.SMPP_ENCODING_ISO10646, use_udhi=udhi)
    for index, part in enumerate(parts, 1):
        place = (
            {}
            if udhi
            else {"sar_msg_ref_num": 7, "sar_total_segments": len(parts), "sar_segment_seqnum": index}
        )
        esme.send_message(
            source_addr_ton=consts.SMPP_TON_UNK, source_addr="1069", dest_addr_ton=consts.SMPP_TON_INTL,
            dest_addr_npi=consts.SMPP_NPI_ISDN, destination_addr=order["to"], short_message=part,
            data_coding=coding, esm_class=esm_class, registered_delivery=True, **place,
        )  # fmt: skip


def received(pdu: Any) -> int:
    named = pdu.receipted_message_id
    tell(
        "deliver",
        source=pdu.source_addr.decode(),
        to=pdu.destination_addr.decode(),
        esm_class=pdu.esm_class,
        octets=pdu.short_message.hex(),
        receipted=named.decode() if named else "",
        state=pdu.message_state or 0,
    )
    return int(consts.SMPP_ESME_ROK)


def main(port: str, system_id: str, password: str) -> None:
    esme = client.Client("127.0.0.1", port, allow_unknown_opt_params=True)
    esme.set_message_sent_handler(lambda pdu: tell("ack", status=int(pdu.status), id=pdu.message_id.decode()))
    esme.set_error_pdu_handler(lambda pdu: tell("error", status=int(pdu.status), command=pdu.command))
    esme.set_message_received_handler(received)
    esme.connect()
    try:
        esme.bind_transceiver(system_id=system_id, password=password)
    except exceptions.PDUError as refused:
        tell("bound", status=refused.args[1])
        esme.disconnect()
        return
    tell("bound", status=0)
    orders = io.FileIO(sys.stdin.fileno(), closefd=False)  # unbuffered, so that select() sees what is left
    while True:
        ready, _, _ = select.select([orders, esme._socket], [], [])  # as its poll() does
        if esme._socket in ready:
            esme.read_once()
        if orders not in ready:
            continue
        line = orders.readline()
        if not line:
            return
        order = json.loads(line)
        if order["do"] == "unbind":
            esme.unbind()
            esme.disconnect()
            tell("unbound")
            return
        submit(esme, order)


if __name__ == "__main__":
    main(*sys.argv[1:])
