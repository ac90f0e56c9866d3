"""Logins: accounts of customers whose systems speak SMPP, CMPP, SGIP or SMGP to us.

Writes: login. Entry points: create(), change(), set_password(), disable(), enable(), every(). Each login is an app
of its own, made with it (through tenants.py) and called protocol:name. The password is returned once and sealed,
because the door needs it again: CMPP and SMGP prove that they know it by a digest. Surprise: a name, once given, is
never free again, not even while disabled, because what is still owed is owed under it.
"""

import contextlib
import ipaddress
import re
import secrets
import string
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    LiteralString,
    NamedTuple,
    TypedDict,
    Unpack,
    cast,
    get_args,
    get_origin,
)

import msgspec
from msgspec import Meta

from hongyan import db
from hongyan.control import tenants
from hongyan.control.bounds import demand, demand_found
from hongyan.vault import Secret, Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import PURPOSES, Purpose, TenantId

ACCESS_NUMBER: Final = re.compile(r"[0-9]{0,20}")
ENDPOINT: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")  # host:port, [v6]:port
PASSWORD_LETTERS: Final = string.ascii_letters + string.digits  # no client's settings need them escaped
SESSIONS_MAX: Final = 64
WINDOW_MAX: Final = 1000
VERSIONS: Final[Mapping[str, int]] = {"": 0, "2.0": 0x20, "3.0": 0x30}  # of CMPP; "" = what the client says


class Carried(NamedTuple):
    """How much of a name and of a password a protocol carries."""

    name_octets: int
    password_octets: int  # as many as a password has that we make


CARRIED: Final[Mapping[str, Carried]] = {
    "smpp": Carried(15, 8),  # system_id and password: C-octet strings of 16 and 9 [P34 5.2.1, 5.2.2]
    "cmpp": Carried(6, 16),  # Source_Addr [C3 8.4.1.1]; of the secret only a digest travels
    "sgip": Carried(16, 16),  # Login Name and Login Password
    "smgp": Carried(8, 15),  # ClientID, and a secret of at most 15 octets [G3 6.2.2]
}

# What only one protocol has. Who reads a setting says what holds without it.
Signature = Annotated[str, Meta(min_length=1, max_length=64)]  # whose texts carry none are signed so
SETTINGS: Final[Mapping[str, Mapping[str, object]]] = {
    "smpp": {
        "signature": Signature,
        "data_coding_0": Literal["gsm7", "latin1", "ascii"],  # what it means in their submits
        "short_ids": bool,  # message ids of at most 8 hex digits, for peers of 3.3
        "receipt_tlvs": bool,  # the id and state of a receipt also as optional parameters; on unless said
    },
    "cmpp": {
        "signature": Signature,
        "report_octets": Literal[0, 60, 71],  # layout of a report; 0 = that of the version
        "any_time": bool,  # a login passes whatever its timestamp says: for clocks that are wrong
    },
    "sgip": {
        "signature": Signature,
        "node": Annotated[
            int, Meta(ge=1, le=0xFFFF_FFFF)
        ],  # the customer's node id: of no other are submits taken
        "deliver_name": Annotated[
            str, Meta(pattern="^[!-~]{1,16}$")
        ],  # Login Name where we dial; else the login's
    },
    "smgp": {
        "signature": Signature,
        "layout": Literal[13, 30],  # they speak 1.3 or 3.0, whatever their version byte says
        "any_time": bool,  # as for CMPP
    },
}


class Terms(TypedDict, total=False):
    """What a login may do. What is not given is as in DEFAULTS, or stays as it is."""

    version: int  # CMPP: a value of VERSIONS
    access_number: str  # what their source addresses begin with: at most 20 digits
    free_text: bool  # a text that matches no template passes, under `purpose`
    hold: bool  # such a text is held until a person decides; wins over free_text
    purpose: Purpose
    sandbox: bool  # reaches sandbox numbers only
    sessions_max: int  # at once, over all doors
    window_size: int  # unanswered PDUs of a session, in each direction
    rate_per_s: int  # submits; 0 = no limit
    duplicate_s: int  # how long the same text to the same number is refused; 0 = as long as for the tenant
    addresses: Collection[str]  # addresses or networks it may come from; none = all
    deliver_to: str  # SGIP: host:port where the customer listens
    settings: Mapping[str, object]  # of SETTINGS; laid over those there are, None takes one away


DEFAULTS: Final[Terms] = {
    "version": 0,
    "access_number": "",
    "free_text": False,
    "hold": False,
    "purpose": Purpose.TRANSACTIONAL,
    "sandbox": False,
    "sessions_max": 2,
    "window_size": 16,
    "rate_per_s": 100,
    "duplicate_s": 0,
    "addresses": (),
    "deliver_to": "",
    "settings": {},
}


class LoginRow(msgspec.Struct, frozen=True):
    """A login as an operator sees it in a list."""

    protocol: str
    name: str
    tenant: str
    version: str
    access_number: str
    free_text: bool
    hold: bool
    purpose: Purpose
    sandbox: bool
    sessions_max: int
    window_size: int
    rate_per_s: int
    duplicate_s: int
    addresses: Sequence[str]
    deliver_to: str
    settings: Mapping[str, object]
    active: bool
    created_at: datetime


TERMS_SQL: LiteralString = """
SELECT version, access_number, free_text, hold, purpose, sandbox, sessions_max, window_size, rate_per_s, duplicate_s,
       addresses, deliver_to, settings
  FROM login WHERE protocol = $1 AND name = $2 FOR UPDATE
"""
CREATE_SQL: LiteralString = """
INSERT INTO login (protocol, name, app_id, sealed, version, access_number, free_text, hold, purpose, sandbox,
       sessions_max, window_size, rate_per_s, duplicate_s, addresses, deliver_to, settings)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
"""


async def create(
    tx: db.Tx,
    vault: Vault,
    tenant_id: TenantId,
    protocol: str,
    name: str,
    *,
    password: Secret | None = None,
    **terms: Unpack[Terms],
) -> Secret:
    """Make a login of a tenant, with its app, and return its password: the given one, else one we make.

    `protocol`: smpp, cmpp, sgip or smgp; `name`: system_id, Source_Addr, LoginName or ClientID. Raises Refusal for
    a name that is taken, or a value that is out of bounds or that the protocol does not have or carry.
    """
    _demand_name(protocol, name)
    columns = _columns(protocol, _revised(DEFAULTS, terms))
    password, sealed = _sealed(vault, protocol, password)
    taken = await tx.fetchrow(TERMS_SQL, protocol, name)
    demand(taken is None, "name", "there is a login of this name")
    app_id = await tenants.create_app(tx, tenant_id, f"{protocol}:{name}")
    await tx.execute(CREATE_SQL, protocol, name, app_id, sealed, *columns)
    return password


CHANGE_SQL: LiteralString = """
UPDATE login SET version = $3, access_number = $4, free_text = $5, hold = $6, purpose = $7, sandbox = $8,
       sessions_max = $9, window_size = $10, rate_per_s = $11, duplicate_s = $12, addresses = $13, deliver_to = $14,
       settings = $15
 WHERE protocol = $1 AND name = $2
"""


async def change(tx: db.Tx, protocol: str, name: str, **terms: Unpack[Terms]) -> None:
    """Change what a login may do; what is not given stays. Raises Refusal as create() does, or for no such login."""
    row = demand_found(await tx.fetchrow(TERMS_SQL, protocol, name), protocol=protocol, name=name)
    now = cast("Terms", _read(row))
    await tx.execute(CHANGE_SQL, protocol, name, *_columns(protocol, _revised(now, terms)))


RENEW_SQL: LiteralString = "UPDATE login SET sealed = $3 WHERE protocol = $1 AND name = $2 RETURNING id"


async def set_password(
    tx: db.Tx, vault: Vault, protocol: str, name: str, password: Secret | None = None
) -> Secret:
    """Replace a password at once, by the given one or one we make, and return it.

    Raises Refusal where there is no such login, or for a password that the protocol cannot carry.
    """
    _demand_protocol(protocol)
    password, sealed = _sealed(vault, protocol, password)
    found = await tx.fetchval(RENEW_SQL, protocol, name, sealed)
    demand_found(found, protocol=protocol, name=name)
    return password


ACTIVE_SQL: LiteralString = "UPDATE login SET active = $3 WHERE protocol = $1 AND name = $2 RETURNING id"


async def disable(tx: db.Tx, protocol: str, name: str) -> None:
    """Take nothing more from a login; what it has been promised still leaves. Raises Refusal for no such login."""
    await _set_active(tx, protocol, name, active=False)


async def enable(tx: db.Tx, protocol: str, name: str) -> None:
    await _set_active(tx, protocol, name, active=True)


async def _set_active(tx: db.Tx, protocol: str, name: str, *, active: bool) -> None:
    found = await tx.fetchval(ACTIVE_SQL, protocol, name, active)
    demand_found(found, protocol=protocol, name=name)


EVERY_SQL: LiteralString = """
SELECT l.protocol, l.name, t.name AS tenant, l.version, l.access_number, l.free_text, l.hold, l.purpose, l.sandbox,
       l.sessions_max, l.window_size, l.rate_per_s, l.duplicate_s, l.addresses, l.deliver_to, l.settings, l.active,
       l.created_at
  FROM login l JOIN app a ON a.id = l.app_id JOIN tenant t ON t.id = a.tenant_id ORDER BY l.id
"""


async def every(tx: db.Tx) -> Sequence[LoginRow]:
    """List the logins, oldest first, without their passwords."""
    return [_row(row) for row in await tx.fetch(EVERY_SQL)]


def _row(row: db.Row) -> LoginRow:
    (version,) = [written for written, number in VERSIONS.items() if number == row["version"]]
    return LoginRow(**{**_read(row), "version": version})


def _read(row: db.Row) -> dict[str, Any]:
    """Return the columns of a login as the terms have them."""
    purpose, settings = PURPOSES[row["purpose"]], msgspec.json.decode(row["settings"])
    return {**dict(row), "purpose": purpose, "settings": settings}


def _revised(terms: Terms, given: Terms) -> Terms:
    settings = {**terms["settings"], **given.get("settings", {})}
    kept = {name: value for name, value in settings.items() if value is not None}
    return {**terms, **given, "settings": kept}


def _columns(protocol: str, terms: Terms) -> Sequence[object]:
    """Ask of each term whether it holds, and return them in the order of the table's columns."""
    version, deliver_to = terms["version"], terms["deliver_to"]
    demand(version in VERSIONS.values(), "version", "2.0 or 3.0, none = what the client says")
    demand(not version or protocol == "cmpp", "version", "cmpp alone has one to choose")
    sound = ACCESS_NUMBER.fullmatch(terms["access_number"]) is not None
    demand(sound, "access_number", "at most 20 digits")
    demand(1 <= terms["sessions_max"] <= SESSIONS_MAX, "sessions_max", f"between 1 and {SESSIONS_MAX}")
    demand(1 <= terms["window_size"] <= WINDOW_MAX, "window_size", f"between 1 and {WINDOW_MAX}")
    demand(terms["rate_per_s"] >= 0, "rate_per_s", "0 or more")
    demand(0 <= terms["duplicate_s"] <= 86_400, "duplicate_s", "between 0 and 86400")
    demand(not deliver_to or protocol == "sgip", "deliver_to", "sgip alone dials its customers")
    demand(not deliver_to or _listens(deliver_to), "deliver_to", "host:port or [v6]:port")
    settings = {name: _setting(protocol, name, value) for name, value in terms["settings"].items()}
    return (
        version,
        terms["access_number"],
        terms["free_text"],
        terms["hold"],
        terms["purpose"].number,
        terms["sandbox"],
        terms["sessions_max"],
        terms["window_size"],
        terms["rate_per_s"],
        terms["duplicate_s"],
        [_network(written) for written in terms["addresses"]],
        deliver_to,
        msgspec.json.encode(settings).decode(),
    )


def _setting(protocol: str, name: str, value: object) -> object:
    known = SETTINGS[protocol]
    demand(name in known, f"settings.{name}", f"{protocol} takes {', '.join(known) or 'no settings'}")
    kind = known[name]
    if type(value) is int:  # digits on a command line, of a setting that may be a word
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(str(value), kind)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        reason = f"one of {', '.join(map(str, choices))}" if choices else str(error)
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=f"settings.{name}", reason=reason) from error


def _listens(written: str) -> bool:
    found = ENDPOINT.fullmatch(written)
    return found is not None and 1 <= int(found[1]) <= 65_535


def _network(written: str) -> str:
    try:
        return str(ipaddress.ip_network(written))
    except ValueError as error:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="addresses", reason=str(error)) from error


def _demand_protocol(protocol: str) -> None:
    demand(protocol in CARRIED, "protocol", f"one of {', '.join(CARRIED)}")


def _demand_name(protocol: str, name: str) -> None:
    _demand_protocol(protocol)
    octets = CARRIED[protocol].name_octets
    demand(_fits(name.encode(), octets), "name", f"1 to {octets} printable characters of ASCII, no blanks")


def _sealed(vault: Vault, protocol: str, given: Secret | None) -> tuple[Secret, bytes]:
    """Return the given password, or one that is made, with its sealed form."""
    octets = CARRIED[protocol].password_octets
    password = given or Secret("".join(secrets.choice(PASSWORD_LETTERS) for _ in range(octets)).encode())
    reason = f"1 to {octets} printable characters of ASCII, no blanks"
    demand(_fits(password.reveal(), octets), "password", reason)
    return password, vault.seal_secret(password.reveal())


def _fits(octets: bytes, octets_max: int) -> bool:
    """Say whether a field of so many octets carries it and no peer would strip or misread any of it."""
    return 1 <= len(octets) <= octets_max and all(0x21 <= octet <= 0x7E for octet in octets)
