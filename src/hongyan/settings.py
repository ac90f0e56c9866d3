"""Environment → one frozen Settings. Every knob has a unit, a default and a reason.

Read once, at start, by read(); nothing else looks at the environment. Secrets are paths, never values,
but for DATABASE_URL and HONGYAN_MASTER_KEY, which container platforms can only give this way.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final

Networks = tuple[IPv4Network | IPv6Network, ...]

ROLES = ("door", "gateway", "clerk", "control")  # what a process of ours can be
SMTP_TLS = ("start", "always", "never")
LOG_LEVELS = ("debug", "info", "warning", "error")
PORT_MAX = 65_535
NUMBER_MAX = 999  # of a gateway or door


class SettingsError(Exception):
    """The environment says something that cannot be meant; the text says which variable and why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One process's settings. The variable is HONGYAN_ + the upper-case name, unless metadata names another."""

    # Where things are
    state_dir: Path = Path("state")  # data, sockets, master key; private to us
    database_url: str = field(default="", metadata={"variable": "DATABASE_URL"})  # empty: embedded PostgreSQL
    master_key: str = ""  # 64 hex digits; empty: state_dir/master.key (0600), made on the first start
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    trusted_proxies: Networks = ()  # addresses or networks, with commas: only their X-Forwarded-For counts
    layout: str = (
        "door gateway+clerk control"  # the processes `hongyan run` keeps; one word each, roles joined by +
    )
    metrics_port: int = 0  # where a gateway without a door serves /metrics; 0: it does not
    gateway: int = 1  # this gateway's number, 1..999; one process each
    door: int = 1  # this door's number, 1..999; one process each
    log_level: str = "info"
    allow_unsafe_database: bool = False  # "yes" runs on a database that may forget a commit: tests only

    # Accepting
    body_octets_max: int = 2_000_000  # 1,000 messages of 2,000 octets
    accept_batch_max: int = 500  # rows in one commit: beyond it PostgreSQL's cost per row no longer falls
    accept_waiting_max: int = 20_000  # requests waiting for a commit; beyond it 503 rather than a late answer
    accept_gather_ms: float = 8.0  # the longest wait of a request for company, unread or before its commit
    list_rows_per_s: int = 8_300  # of lists, together: more, and codes wait for the two cores they share
    accept_wait_s: float = 10.0  # an answer later than this helps nobody: 503
    validity_s_default: int = 86_400
    validity_s_max: int = 259_200  # 3 days: beyond it operators have forgotten the message
    schedule_s_max: int = 2_592_000  # 30 days ahead
    text_units_max: int = 500  # signature included; the clouds' limit in the mainland
    text_units_max_abroad: int = 1_600

    code_value_micro: int = 1_000_000  # what a code that is entered is worth, in the channels' currency
    code_media: str = ""  # kind=module:function,…: media of codes beside texts and e-mail; see otp/media.py

    number_lookup: str = ""  # module:function, asked whose a number is (portability); see way/portability.py

    # Customers who log in with a protocol; a port of 0 is closed
    login_host: str = "127.0.0.1"
    smpp_port: int = 0  # IANA gives smpp 2775
    smpp_tls_port: int = 0  # 3550 is usual
    cmpp_port: int = 0  # 7890 by the standard
    sgip_port: int = 0  # 8801
    smgp_port: int = 0  # 8890
    tls_certificate: str = ""  # files in PEM, for the TLS port: the chain …
    tls_key: str = ""  # … and its key
    submit_join_wait_s: int = 300  # for the other parts of a long text
    login_address_max: int = 50  # connections of one address that are not logged in

    # The queue and the way out
    memory_waiting_max: int = (
        20_000  # messages a gateway holds in memory; beyond it they wait in the database
    )
    claim_batch_max: int = 1_000
    claim_gap_s: float = 0.2  # how often a gateway looks for due rows when none were announced
    sweep_gap_s: float = 2.0  # how often it looks for rows of its own that nobody handed over
    tick_gap_ms: float = 8.0  # between two commits of acks and reports: many then share one
    tick_gap_pressed_ms: float = 2.0  # the same while messages wait for a place in a window
    tick_batch_max: int = 1_000
    lane_reserve_percent: int = 20  # of rate and window, kept free of promotional messages
    gateway_dead_s: float = 10.0  # silent for so long: others take its rows
    stop_wait_s: float = 10.0  # graceful stop: how long answers are waited for

    # Reports and what follows
    report_wait_s: int = 259_200  # 72 h: then the message is 'unknown'
    unsure_wait_s: int = 3_600  # how long an unsure part is waited for before it is asked about
    early_report_keep_s: int = 600
    late_report_keep_s: int = 604_800  # a report can still correct 'unknown'
    message_keep_days: int = 180
    inbound_memory_s: int = 259_200  # 72 h: whom a person answers
    inbound_join_wait_s: int = 300

    # Notices
    notice_batch_max: int = 100
    notice_hold_ms: float = 8.0  # between two POSTs to one webhook, unless a full one is ready
    notice_posts_max: int = 16  # at once, per webhook
    notice_timeout_s: float = 10.0
    notice_give_up_s: int = 86_400
    webhook_pause_after: int = 10  # failures in a row
    webhook_private_addresses: bool = False  # the operator may allow loopback and private ranges

    channel_private_addresses: bool = (
        False  # the same for HTTP providers: a gateway of one's own, a private endpoint
    )

    # E-mail: decisions, alarms, invitations
    smtp_host: str = ""  # empty: no e-mail is sent
    smtp_port: int = 587
    smtp_tls: str = (
        "start"  # start (STARTTLS), always (from the first octet, port 465), never (a server of this machine)
    )
    smtp_user: str = ""
    smtp_password_file: str = ""
    smtp_timeout_s: float = 20.0
    mail_from: str = "hongyan@localhost"

    # Limits
    clock_skew_s: int = 300
    idempotency_keep_s: int = 86_400
    database_pool_max: int = 8

    def door_url(self) -> str:
        """Return where this machine calls its own doors: what stands for all addresses is not one to call."""
        host = _LOOPBACK.get(self.http_host, self.http_host)
        return f"http://[{host}]:{self.http_port}" if ":" in host else f"http://{host}:{self.http_port}"


_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- compared with, not listened on
_YES_NO = dict.fromkeys(("1", "yes", "true", "on"), True) | dict.fromkeys(("0", "no", "false", "off"), False)


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read Settings from the environment; raises SettingsError naming the variable that is wrong or unknown."""
    given: dict[str, object] = {}
    known = set()
    for knob in fields(Settings):
        variable = variable_of(knob.name)
        known.add(variable)
        if variable in environment:
            given[knob.name] = _convert(variable, environment[variable], knob.type)
    unknown = sorted(name for name in environment if name.startswith("HONGYAN_") and name not in known)
    if unknown:
        raise SettingsError(f"unknown variable {unknown[0]}; `hongyan check` lists those that exist")
    settings = Settings(**given)  # type: ignore[arg-type]  # _convert gave each its own type
    _demand_sound(settings)
    return settings


def variable_of(name: str) -> str:
    """Return the environment variable that sets a knob."""
    for knob in fields(Settings):
        if knob.name == name:
            return str(knob.metadata.get("variable", f"HONGYAN_{name.upper()}"))
    raise KeyError(name)


_PORTS = (
    "http_port",
    "metrics_port",
    "smtp_port",
    "smpp_port",
    "smpp_tls_port",
    "cmpp_port",
    "sgip_port",
    "smgp_port",
)
_MAY_BE_ZERO = frozenset((*_PORTS, "accept_gather_ms", "notice_hold_ms", "lane_reserve_percent"))
_UP_TO = dict.fromkeys(_PORTS, PORT_MAX) | {
    "gateway": NUMBER_MAX,
    "door": NUMBER_MAX,
    "lane_reserve_percent": 90,
}


def _demand_sound(settings: Settings) -> None:
    """Refuse at the start what would only fail, or wait for ever, later."""
    for knob in fields(Settings):
        value = getattr(settings, knob.name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        least, most = 0 if knob.name in _MAY_BE_ZERO else 1e-9, _UP_TO.get(knob.name, float("inf"))
        if not least <= value <= most:
            said = f"at most {most}" if value > most else "more than 0" if least else "0 or more"
            raise SettingsError(f"{variable_of(knob.name)}={value}: must be {said}")
    if settings.log_level not in LOG_LEVELS:
        raise SettingsError(f"{variable_of('log_level')}={settings.log_level!r}: say {', '.join(LOG_LEVELS)}")
    if settings.smtp_tls not in SMTP_TLS:
        raise SettingsError(f"{variable_of('smtp_tls')}={settings.smtp_tls!r}: say {', '.join(SMTP_TLS)}")
    if settings.smpp_tls_port and not (settings.tls_certificate and settings.tls_key):
        raise SettingsError(
            f"{variable_of('smpp_tls_port')}: needs {variable_of('tls_certificate')} and {variable_of('tls_key')}"
        )
    roles = settings.layout.replace("+", " ").split()
    if not roles or set(roles) - set(ROLES):
        raise SettingsError(
            f"{variable_of('layout')}={settings.layout!r}: processes of {', '.join(ROLES)}, joined by +"
        )
    if roles.count("control") > 1:
        raise SettingsError(
            f"{variable_of('layout')}={settings.layout!r}: doors pass on to one control, not to several"
        )


def _convert(variable: str, text: str, kind: object) -> object:
    try:
        if kind is bool:
            word = text.strip().lower()
            return _YES_NO[word]
        if kind in (int, float):
            return kind(text)
        if kind == Networks:
            return tuple(ip_network(word.strip()) for word in text.split(",") if word.strip())
        return Path(text) if kind is Path else text
    except KeyError as error:
        raise SettingsError(f"{variable}={text!r}: say yes or no") from error
    except ValueError as error:
        words = {int: "say a whole number", float: "say a number"}.get(kind, str(error))  # type: ignore[call-overload]
        raise SettingsError(f"{variable}={text!r}: {words}") from error
