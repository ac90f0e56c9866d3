"""Every kind of channel there is, and how a channel is built from its settings.

Entry points: build(), schema(), takes_templates(), KINDS. A new kind adds its line to KINDS and nothing else.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from hongyan.channels.aliyun import Aliyun
from hongyan.channels.channel import Channel, Secret
from hongyan.channels.cmpp import Cmpp
from hongyan.channels.custom_http import CustomHttp
from hongyan.channels.loopback import Loopback
from hongyan.channels.posts import Posts
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
    """The settings of a channel do not fit its kind; the text says which and why, without any secret."""


def build(kind: str, settings: Mapping[str, object], egress: Egress | None = None) -> Channel:
    """Build a channel from JSON-like settings. Raises BadSettings; nothing is opened yet.

    `egress` is the way out of HTTP kinds. Without it they are checked and read pushes, but never submit.
    """
    channel_class = _class(kind)
    config_class = channel_class.Config
    known = {field.name for field in dataclasses.fields(config_class)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise BadSettings(
            f"kind {kind} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    try:
        config = msgspec.convert(dict(settings), config_class, dec_hook=_read_own)
        channel: Channel = (
            channel_class(config, egress) if issubclass(channel_class, Posts) else channel_class(config)
        )
    except (msgspec.ValidationError, ValueError, OSError) as error:  # OSError: a certificate file
        raise BadSettings(f"kind {kind}: {error}") from error
    return channel


def takes_templates(kind: str) -> bool:
    """Say whether channels of a kind may want to know what a text was made of: those of HTTP providers."""
    return kind in KINDS and issubclass(KINDS[kind], Posts)


def schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a kind's settings, for forms; fields carry their descriptions."""
    document = msgspec.json.schema(_class(kind).Config, schema_hook=_describe_own)
    for definition in document.get("$defs", {}).values():
        if definition.get("type") == "object" and "properties" in definition:
            definition["additionalProperties"] = False
    return document


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
