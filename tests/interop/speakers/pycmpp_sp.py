"""PyPI's `pycmpp` as a CMPP 2.0 client, driven by JSON lines: see speaker.py. Usage: pycmpp_sp.py PORT SP_ID SECRET.

It knows no DELIVER, so reports do not reach it: they wait at the server.
"""

import json
import logging
import os
import sys
import threading
from typing import Any

from pycmpp import Cmpp, handlers, request, response  # type: ignore[import-not-found]


def tell(event: str, **told: Any) -> None:
    print(json.dumps({"event": event, **told}), flush=True)  # noqa: T201 - it is how it speaks


def listen() -> None:
    """Tell what its handlers are given, as its own objects read it."""
    kinds = {
        "bound": (handlers.CmppConnectRespHandler, response.ConnectResponseInstance),
        "ack": (handlers.CmppSubmitRespHandler, response.SubmitResponseInstance),
    }
    for event, (handler, reader) in kinds.items():

        def met(self: Any, event: str = event, reader: Any = reader, then: Any = handler.__call__) -> None:
            read = reader()
            read.resolve(self.message)
            tell(event, status=read.status, id=str(getattr(read, "msg_id", "")))
            then(self)

        handler.__call__ = met
    alive = handlers.CmppActiveTestRespHandler
    alive.__call__ = lambda _: tell("alive")


def main(port: str, sp_id: str, secret: str) -> None:
    listen()
    logging.basicConfig(level=logging.ERROR)
    sp = Cmpp("127.0.0.1", int(port), sp_id, secret, "1069", delivery=1, client_heartbeat=False)
    threading.Thread(target=sp.run, daemon=True).start()
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "submit":
            sp.submit(order["text"], order["to"])
        elif order["do"] == "alive":
            sp.send(request.ActiveTestRequestInstance().create())
        else:
            sp.terminate()
    os._exit(0)  # its thread never ends


if __name__ == "__main__":
    main(*sys.argv[1:])
