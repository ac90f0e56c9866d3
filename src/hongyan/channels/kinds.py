"""Every kind of channel there is, and how a channel is built from its settings.

Entry points: build(), schema(), hide() and restore() for the secrets in settings, takes_templates(), has_sessions(),
KINDS. A new kind adds its line to KINDS and nothing else.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from hongyan.channels.aliyun import Aliyun
from hongyan.channels.channel import Channel, Secret
from hongyan.channels.cmpp import Cmpp
from hongyan.channels.custom_http import CustomHttp
from hongyan.channels.loopback import Loopback
from hongyan.channels.posts import Posts
from hongyan.channels.session_kind import SessionKind
from hongyan.channels.sgip import Sgip
from hongyan.channels.smgp import Smgp
from hongyan.channels.smpp import Smpp
from hongyan.channels.tencent import Tencent
from hongyan.channels.twilio import Twilio
from hongyan.egress import Egress

KINDS: Mapping[str, type[Any]] = {
    kind.kind: kind for kind in (Aliyun, Cmpp, CustomHttp, Loopback, Sgip, Smgp, Smpp, Tencent, Twilio)
}


class BadSettings(ValueError):  # noqa: N818 - a statement about what a person wrote, not a fault of ours
    """The settings of a channel do not fit its kind; the text says which and why, without any secret.

    `setting`: which one, where that is known; '' otherwise.
    """

    def __init__(self, words: str, setting: str = "") -> None:
        super().__init__(words)
        self.setting = setting


HIDDEN: Final = (
    "***"  # stands for a secret in settings that people see, and means "as stored" in those they give
)
# Settings that say where a kind connects, and how sure it is of who answers there: whoever gets to change one could
# have a stored secret sent to a host of theirs.
CONNECTS: Final = frozenset({"hosts", "port", "url", "tls", "tls_ca_file", "tls_name", "tls_verify"})


def build(kind: str, settings: Mapping[str, object], egress: Egress | None = None) -> Channel:
    """Build a channel from JSON-like settings. Raises BadSettings; nothing is opened yet.

    `egress` is the way out of HTTP kinds. Without it they are checked and read pushes, but never submit.
    """
    channel_class = _class(kind)
    config_class = channel_class.Config
    known = {field.name for field in dataclasses.fields(config_class)}
    unknown = sorted(set(settings) - known)
    if unknown:
        words = f"kind {kind} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        raise BadSettings(words, unknown[0][:64])
    try:
        config = msgspec.convert(dict(settings), config_class, dec_hook=_read_own)
        channel: Channel = (
            channel_class(config, egress) if issubclass(channel_class, Posts) else channel_class(config)
        )
    except (msgspec.ValidationError, ValueError, OSError) as error:  # OSError: a certificate file
        raise BadSettings(f"kind {kind}: {error}", _setting_in(str(error), known)) from error
    return channel


def _setting_in(words: str, known: set[str]) -> str:
    """Find which setting an error speaks of: by its path, by the field that is missing, or as what it begins with."""
    if path := re.search(r"at `\$\.([^`]+)`", words):
        return path[1]
    if missing := re.search(r"missing required field `([^`]+)`", words):
        return missing[1]
    begins = re.match(r"([a-z_]+)\.[^:]{1,100}(?=: )", words)
    if begins and begins[1] in known:
        return begins[0]
    first = re.match(r"[a-z_]+", words)
    return first[0] if first and first[0] in known else ""


def takes_templates(kind: str) -> bool:
    """Say whether channels of a kind may want to know what a text was made of: those of HTTP providers."""
    return kind in KINDS and issubclass(KINDS[kind], Posts)


def has_sessions(kind: str) -> bool:
    """Say whether channels of a kind hold sessions that can be looked at."""
    return kind in KINDS and issubclass(KINDS[kind], SessionKind)


def schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a kind's settings, for forms.

    Fields carry a title and a description; secrets are marked writeOnly, and what a stored secret is bound to (CONNECTS)
    x-connects.
    """
    document = msgspec.json.schema(_class(kind).Config, schema_hook=_describe_own)
    for definition in document.get("$defs", {}).values():
        if definition.get("type") == "object" and "properties" in definition:
            definition["additionalProperties"] = False
            for name, field in definition["properties"].items():
                field.setdefault("title", _title(name))
                if name in CONNECTS:
                    field["x-connects"] = True
    return document


def _title(name: str) -> str:
    """Write a setting's name as the label of a field: ack_wait_s is Ack wait (s)."""
    words = name.split("_")
    unit = "" if "per" in words else next((word for word in words if word in ("s", "h")), "")
    label = " ".join(_INITIALS.get(word, word) for word in words if word != unit)
    return label[:1].upper() + label[1:] + (f" ({unit})" if unit else "")


_INITIALS: Final[Mapping[str, str]] = {
    **{
        word: word.upper()
        for word in ("id", "url", "tls", "ca", "ton", "npi", "ucs2", "sdk", "sid", "mt", "api", "ok")
    },
    "pdus": "PDUs",
    "tlvs": "TLVs",
}


# ---- secrets in settings


def hide(kind: str, settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings as people may see them: what is secret is HIDDEN. Raises BadSettings for no kind."""
    secret, secrets = _secret_settings(kind)
    shown = dict(settings)
    for name, value in settings.items():
        if name in secret and value:
            shown[name] = HIDDEN
        elif name in secrets and isinstance(value, Mapping):
            shown[name] = {each: HIDDEN if word else word for each, word in value.items()}
    return shown


def restore(kind: str, given: Mapping[str, object], stored: Mapping[str, object]) -> dict[str, object]:
    """Return settings as people gave them, with what is stored where they left HIDDEN.

    Raises BadSettings where nothing is stored, and where the settings connect elsewhere than those that are stored: a secret
    goes only to where it was typed for.
    """
    secret, secrets = _secret_settings(kind)
    whole = dict(given)
    elsewhere = _elsewhere(kind, given, stored)
    for name, value in given.items():
        if name in secret and value == HIDDEN:
            whole[name] = _stored(name, stored, name, elsewhere)
        elif name in secrets and isinstance(value, Mapping):
            known = stored.get(name)
            inner = known if isinstance(known, Mapping) else {}
            whole[name] = {
                each: _stored(each, inner, f"{name}.{each}", elsewhere) if word == HIDDEN else word
                for each, word in value.items()
            }
    return whole


def _stored(name: str, stored: Mapping[str, object], path: str, elsewhere: str) -> object:
    if name not in stored:
        raise BadSettings(f"{path}: {HIDDEN} means as it is stored, and nothing is", path)
    if elsewhere:
        raise BadSettings(f"{path}: {elsewhere} changes, so give this secret anew", path)
    return stored[name]


def _elsewhere(kind: str, given: Mapping[str, object], stored: Mapping[str, object]) -> str:
    """Name a setting by which these settings connect elsewhere than the stored ones; "" if none does.

    Fewer of the same hosts, or another order, is not elsewhere.
    """
    fields = _fields(kind)
    names = CONNECTS & fields.keys()
    if any("{" in str(each.get("url", "")) for each in (given, stored)):
        names |= {"account", "recipes"} & fields.keys()  # words of these may stand in the address
    for name in sorted(names):
        usual = fields[name].get("default")
        was, is_now = stored.get(name, usual), given.get(name, usual)
        if isinstance(was, list | tuple) and isinstance(is_now, list | tuple):
            if not all(each in was for each in is_now):
                return name
        elif was != is_now:
            return name
    return ""


def _secret_settings(kind: str) -> tuple[set[str], set[str]]:
    """Name the settings of a kind that are a secret, and those that hold several by name."""
    properties = _fields(kind)
    one = {name for name, field in properties.items() if field.get("writeOnly")}
    several = {
        name
        for name, field in properties.items()
        if isinstance(field.get("additionalProperties"), dict)
        and field["additionalProperties"].get("writeOnly")
    }
    return one, several


def _fields(kind: str) -> dict[str, dict[str, Any]]:
    """Return the schema of each setting of a kind."""
    document = schema(kind)
    properties: dict[str, dict[str, Any]] = document["$defs"][document["$ref"].rpartition("/")[2]][
        "properties"
    ]
    return properties


def _class(kind: str) -> type[Any]:
    if kind not in KINDS:
        raise BadSettings(f"no kind {kind}; there are {', '.join(sorted(KINDS))}")
    return KINDS[kind]


def _read_own(wanted: type, value: object) -> object:
    if wanted is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")  # msgspec adds where


def _describe_own(wanted: type) -> dict[str, Any]:
    if wanted is Secret:
        return {"type": "string", "format": "password", "writeOnly": True}
    raise NotImplementedError(wanted.__name__)
