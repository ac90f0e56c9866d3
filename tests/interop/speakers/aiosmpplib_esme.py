"""PyPI's `aiosmpplib` as an ESME, driven by JSON lines: see speaker.py. Usage: aiosmpplib_esme.py PORT SYSTEM_ID PASSWORD."""

import asyncio
import json
import sys
from typing import Any

import aiosmpplib as smpp  # type: ignore[import-not-found]


def tell(event: str, **told: Any) -> None:
    print(json.dumps({"event": event, **told}), flush=True)  # noqa: T201 - it is how it speaks


class Hook(smpp.AbstractHook):  # type: ignore[misc]
    """What the library tells its user, told on."""

    async def sending(self, smpp_message: Any, pdu: bytes, client_id: str) -> None:
        pass

    async def received(self, smpp_message: Any, pdu: bytes, client_id: str) -> None:  # noqa: ARG002
        match smpp_message:
            case None:
                tell("part", command=int.from_bytes(pdu[4:8], "big"), status=int.from_bytes(pdu[8:12], "big"))
            case smpp.DeliverSm() if smpp_message.is_receipt():
                receipt = smpp_message.parse_receipt()
                tell("receipt", id=receipt["id"], stat=receipt["stat"], log_id=smpp_message.log_id)
            case smpp.DeliverSm():
                tell("text", source=smpp_message.source.number, text=smpp_message.short_message)
            case smpp.SubmitSmResp():
                status = int(smpp_message.command_status)
                tell("ack", status=status, id=smpp_message.message_id, log_id=smpp_message.log_id)
            case smpp.BindTransceiverResp():
                tell("bound", status=int(smpp_message.command_status))
            case _:
                tell("other", name=type(smpp_message).__name__)

    async def send_error(self, smpp_message: Any, error: Exception, client_id: str) -> None:  # noqa: ARG002
        tell("error", text=repr(error))


async def main(port: str, system_id: str, password: str) -> None:
    esme = smpp.ESME("127.0.0.1", int(port), system_id, password, hook=Hook(), log_level="WARNING")
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running = asyncio.create_task(esme.start())
    while line := await lines.readline():
        order = json.loads(line)
        if order["do"] == "unbind":
            await esme.stop()
            tell("unbound")
            break
        await esme.broker.enqueue(
            smpp.SubmitSm(
                short_message=order["text"],
                source=smpp.PhoneNumber("1069"),
                destination=smpp.PhoneNumber(order["to"], smpp.TON.INTERNATIONAL, smpp.NPI.ISDN),
                esm_class=0x40 if order.get("udhi") else 0,
                auto_message_payload=bool(order.get("payload")),
                log_id=order["log_id"],
            )
        )
    running.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
