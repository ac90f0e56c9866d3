"""The OpenAPI 3.1 document, made from the table of routes and the types they name.

Entry point: document(). Every refusal of every route is listed under its HTTP status, with its words.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, Final

import msgspec

from hongyan.doors.auth import SCHEME
from hongyan.doors.callers import COOKIE, TENANT
from hongyan.doors.deeds import PAGES
from hongyan.doors.exchange import RefusalBody
from hongyan.doors.route import EVERYWHERE, MANAGED, PEOPLE, File, Reach, Route
from hongyan.doors.routes import ROUTES
from hongyan.vocab.errors import Code
from hongyan.way import notice, owing

Json = dict[str, Any]
TEMPLATE: Final = "#/components/schemas/{name}"
DESCRIBED: Final = (*ROUTES, *PAGES)
_JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"


def document(version: str) -> Json:
    """Return the whole document, ready to be written as JSON."""
    paths: dict[str, Json] = {}
    for route in DESCRIBED:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "鸿雁 hongyan",
            "version": version,
            "summary": "Send messages and learn what became of them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"basic": []}, {"hmac": []}, {"bearer": []}, {"cookie": []}],
        "paths": paths,
        "webhooks": {"events": {"post": _webhook()}},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "with `key_id` and secret, for keys that allow it",
                },
                "hmac": {
                    "type": "http",
                    "scheme": SCHEME,
                    "description": "with a MAC over the request (docs/api/authentication.md)",
                },
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "with a token of a person's, `hyt_…` (docs/api/people.md)",
                },
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "of a sign-in; what changes something also says the header `Hongyan-Console: 1`",
                },
            },
        },
    }
    plain: Json = msgspec.json.decode(msgspec.json.encode(whole))  # defaults may be tuples
    return plain


def _webhook() -> Json:
    """Describe what we post to apps; docs/api/webhooks.md says how to check and how to answer it."""
    heads = {
        "Hongyan-Timestamp": "Unix seconds when it was signed",
        "Hongyan-Mac": "`v1=` and the HMAC-SHA256 of timestamp, full stop and body under the webhook's secret",
        "Hongyan-Webhook-Id": "Which webhook this is",
        "Hongyan-Delivery-Id": "New with every POST",
    }
    events = {"type": "array", "minItems": 1, "maxItems": 100, "items": _event()}
    body = {"type": "object", "required": ["events"], "properties": {"events": events}}
    return {
        "operationId": "events",
        "summary": "Final statuses, corrections and inbound messages, posted to the app's webhook; at least once.",
        "security": [],
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": words,
                "schema": {"type": "string"},
            }
            for name, words in heads.items()
        ],
        "requestBody": {"required": True, "content": {_JSON: {"schema": body}}},
        "responses": {
            "2XX": {"description": "All events are taken."},
            "default": {"description": "None is taken; they come again."},
        },
    }


def codes_of(route: Route) -> Sequence[Code]:
    """Return every code a route may refuse with, by HTTP status and number."""
    common: Iterable[Code] = EVERYWHERE
    if route.reach in {Reach.ANYONE, Reach.PAGE}:
        common = (Code.SYSTEM_ERROR, Code.SYSTEM_BUSY)
    elif route.reach is not Reach.APP:
        common = (*EVERYWHERE, *PEOPLE)
    managed = () if route.manages is None else MANAGED
    files = (Code.REQUEST_UNSUPPORTED_FILE, Code.REQUEST_TOO_LARGE) if route.file else ()
    return sorted(
        {*common, *managed, *files, *route.codes},
        key=lambda code: (code.value.http_status, code.value.number),
    )


def _operation(route: Route) -> Json:
    operation: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.path.split("/")[2]],
        "parameters": list(_parameters(route)),
        "responses": {str(route.status): _success(route)} | _refusals(codes_of(route)),
    }
    if route.reach in {Reach.ANYONE, Reach.PAGE}:
        operation["security"] = []
    elif route.reach is Reach.APP:
        operation["security"] = [{"basic": []}, {"hmac": []}]
    elif route.reach in {Reach.SELF, Reach.PLATFORM}:
        operation["security"] = [{"bearer": []}, {"cookie": []}]
    operation["x-reach"] = route.reach
    if route.permission is not None:
        operation["x-permission"] = route.permission
    if route.body is not None:
        content = {"schema": _named(route.body), "example": route.example}
        operation["requestBody"] = {"required": True, "content": {_JSON: content}}
    if route.file:
        kinds = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in route.file_kinds}
        operation["requestBody"] = {"required": True, "content": kinds}
    if route.reach is Reach.PAGE:
        for response in operation["responses"].values():
            response["headers"] |= _SHARED
    if route.line_codes:
        operation["description"] = "A line of the answer may be refused with: " + ", ".join(
            f"`{code.value.name}`" for code in route.line_codes
        )
    return operation


# Neither is said where a request is refused before anybody asked whose page it is from.
_SHARED: Final[Json] = {
    "Access-Control-Allow-Origin": {
        "description": "The page's own origin, where the site key lists it.",
        "schema": {"type": "string"},
    },
    "Vary": {"schema": {"const": "Origin"}},
}


def _parameters(route: Route) -> Iterable[Json]:
    for name in re.findall(r"\{(\w+)\}", route.path):
        yield {"name": name, "in": "path", "required": True, "schema": _IDS[route.ids]}
    if route.reach in {Reach.TENANT, Reach.ANY}:
        yield {
            "name": TENANT,
            "in": "query",
            "required": False,
            "description": "For people of the platform alone: whose this is about."
            + ("" if route.reach is Reach.TENANT else " Left out: everybody's."),
            "schema": {"type": "integer", "minimum": 1},
        }
    if route.query is not None:
        _, components = msgspec.json.schema_components([route.query], ref_template=TEMPLATE)
        asked = components[route.query.__name__]
        for name, schema in asked["properties"].items():
            bare = _without_null(schema)
            listed = {"style": "form", "explode": False} if bare.get("type") == "array" else {}
            needed = name in asked.get("required", ())
            yield {"name": name, "in": "query", "required": needed, "schema": bare, **listed}
    if route.idempotent:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same key with the same body, within 24 hours, gives the first answer again.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }
    if route.reach is Reach.PAGE:
        yield {
            "name": "Origin",
            "in": "header",
            "required": True,
            "description": "One of the site key's; browsers say it by themselves.",
            "schema": {"type": "string"},
        }
    yield {
        "name": "Accept-Language",
        "in": "header",
        "required": False,
        "description": "Refusals speak Chinese (zh) or English (en, the default).",
        "schema": {"type": "string"},
    }


def _without_null(schema: Json) -> Json:
    """A query parameter that is not there is left out, never null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return (
        kinds[0] if len(kinds) == 1 else {k: v for k, v in schema.items() if k != "default" or v is not None}
    )


_IDS: Final[Mapping[str, Json]] = {
    "uuid": {"type": "string", "format": "uuid"},
    "integer": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    "text": {"type": "string", "minLength": 1, "maxLength": 128},
}


def _success(route: Route) -> Json:
    if route.gives is File:
        return {
            "description": route.summary,
            "headers": {"X-Request-Id": {"schema": {"type": "string"}}},
            "content": {"*/*": {}},  # octets have no schema in OpenAPI 3.1
        }
    if route.events:
        words = "The last event may be `ended`, whose data is a refusal."
        told = {
            "type": "string",
            "contentMediaType": _JSON,
            "contentSchema": _named(route.gives),
            "description": words,
        }
        event = {"type": "object", "properties": {"data": told, "event": {"type": "string"}}}
        return {
            "description": route.summary,
            "headers": {"X-Request-Id": {"schema": {"type": "string"}}},
            "content": {EVENTS: {"schema": event}},
        }
    envelope = {
        "type": "object",
        "required": ["code", "message", "request_id", "data"],
        "properties": {
            "code": {"const": "OK"},
            "message": {"type": "string"},
            "request_id": {"type": "string"},
            "data": _named(route.gives),
        },
    }
    return {
        "description": route.summary,
        "headers": {"X-Request-Id": {"schema": {"type": "string"}}},
        "content": {_JSON: {"schema": envelope}},
    }


def _refusals(codes: Sequence[Code]) -> dict[str, Json]:
    responses = {}
    for status, group in groupby(codes, key=lambda code: code.value.http_status):
        those = list(group)
        headers: dict[str, Json] = {"X-Request-Id": {"schema": {"type": "string"}}}
        if status in (429, 503):
            headers["Retry-After"] = {"schema": {"type": "integer"}}
        responses[str(status)] = {
            "description": "\n".join(
                f"- `{code.value.name}`: {code.value.en} · {code.value.zh}" for code in those
            ),
            "headers": headers,
            "content": {
                _JSON: {
                    "schema": {
                        "allOf": [
                            _named(RefusalBody),
                            {"properties": {"code": {"enum": [code.value.name for code in those]}}},
                        ]
                    }
                }
            },
        }
    return responses


def _named(kind: Any) -> Json:
    if kind is owing.Pulled:
        return {"$ref": TEMPLATE.format(name=kind.__name__)}
    return _shapes()[0][kind]


def _schemas() -> Mapping[str, Json]:
    components = dict(_shapes()[1])
    components[owing.Pulled.__name__] = {
        "type": "object",
        "description": owing.Pulled.__doc__,
        "required": ["cursor", "events"],
        "properties": {
            "cursor": {"type": "string"},
            "events": {"type": "array", "items": _event()},
        },
    }
    for route in DESCRIBED:
        if route.query is not None:
            components.pop(route.query.__name__, None)  # shown as parameters
    return components


@cache
def _shapes() -> tuple[Mapping[Any, Json], Mapping[str, Json]]:
    """Describe every shape that routes name, once: what refers to each, and what each is called."""
    kinds: dict[Any, None] = {RefusalBody: None}
    for route in DESCRIBED:
        kinds |= {kind: None for kind in (route.body, route.gives, route.query) if kind not in (None, File)}
    # msgspec decodes no untagged union of two Structs, so it describes none either: this one is written out.
    del kinds[owing.Pulled]
    every = [*kinds, *_EVENTS]
    references, components = msgspec.json.schema_components(every, ref_template=TEMPLATE)
    return dict(zip(every, references, strict=True)), components


_EVENTS: Final = (notice.StatusEvent, notice.InboundEvent)


def _event() -> Json:
    return {"anyOf": [_named(event) for event in _EVENTS]}
