"""Customers' systems at our door in CMPP, SGIP and SMGP: the practice operator's clients, with a login of ours."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from doors.hosting import PASSWORD, Hosted, hosted, log_in_as
from hongyan.doors.tongues.tongue import china_now
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.text import Encoding, TextPart
from hongyan.way.inbound import Desk
from hongyan.way.measure import Counters
from hongyan.wire import cmpp, fields, sgip, smgp
from plane import QUICK, Plane, plane
from simulator.sp import Cmpp, Cmpp2, Sgip, Smgp, Sp, Told

S = TypeVar("S", bound=Sp)

NAME: Final = "900001"
QUIET: Final = "【鸿雁】您的快递已到 南门"
LONG: Final = "【鸿雁】您的快递已到 " + "南" * 30
KINDS: Final[Sequence[type[Sp]]] = (Cmpp, Cmpp2, Smgp, Sgip)


def login(kind: type[Sp], password: str = PASSWORD, name: str = NAME) -> fields.Pdu:
    """Ask to be let in as the account that town() makes."""
    if issubclass(kind, Cmpp):
        return cmpp.connect(name, password, china_now(), kind.version)
    if issubclass(kind, Smgp):
        return smgp.login(name, password, china_now())
    return sgip.Bind(login_name=name, login_password=password)


async def enter(kind: type[S], door: Hosted, pdu: fields.Pdu | None = None, *, answers: bool = True) -> S:
    return await kind.entered(door.ports[kind.protocol], pdu or login(kind), answers=answers)


@asynccontextmanager
async def town(
    dsn: str, protocol: str, spoken: str = "report_delay_s=0.01", **terms: Any
) -> AsyncIterator[tuple[Plane, Hosted, Simulator]]:
    """A plane, its operator, and a door for the login NAME."""
    async with Simulator(behaviour.parse(spoken)) as operator, plane(dsn, operator) as way:
        await log_in_as(way, protocol, NAME, **terms)
        async with hosted(way, protocol) as door:
            yield way, door, operator


def written(text: str = QUIET) -> dict[str, Any]:
    """The arguments of Sp.text() that say it in UCS-2."""
    return {"octets": text.encode("utf-16-be"), "form": 8}


def halves(text: str = LONG, reference: int = 7) -> Sequence[dict[str, Any]]:
    """The same of a text in two parts: a system may cut what would fit."""
    octets = text.encode("utf-16-be")
    middle = len(octets) // 4 * 2
    parts = [
        TextPart(n, 2, Encoding.UCS2, half) for n, half in enumerate((octets[:middle], octets[middle:]), 1)
    ]
    return [{"octets": part.udh(reference) + part.octets, "form": 8, "udhi": 1} for part in parts]


def group(kind: type[Sp], ack: Told, count: int) -> Sequence[str]:
    """The ids that an answer to a submit to so many numbers stands for."""
    if issubclass(kind, Cmpp):
        return [str(one) for one in cmpp.group_ids(int(ack.id), count)]
    if issubclass(kind, Smgp):
        return [one.hex() for one in smgp.group_ids(bytes.fromhex(ack.id), count)]
    return [ack.id] * count


async def reply(way: Plane, door: Hosted, operator: Simulator, text: str, parts: int = 1) -> None:
    """Have a person text back, and a desk keep it."""
    operator.reply("8613800138000", text, "1069")
    await way.holds(lambda: len(way.inbound) >= parts)
    desk = Desk(
        way.database,
        way.keeper,
        way.vault,
        QUICK,
        Counters(),
        lambda *_: None,
        lambda _: door.telling.wake(),
    )
    desk.arrived(way.laid.channels[0], way.inbound)
    await desk.store()
