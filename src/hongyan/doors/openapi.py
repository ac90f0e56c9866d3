"""The OpenAPI 3.1 document, made from the table of routes and the types they name.

Entry point: document(). Every refusal of every route is listed under its HTTP status, with its words.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec

from hongyan.doors.auth import SCHEME
from hongyan.doors.exchange import RefusalBody
from hongyan.doors.routes import EVERYWHERE, ROUTES, Route
from hongyan.vocab.errors import Code
from hongyan.way import notice, owing

Json = dict[str, Any]
TEMPLATE: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"


def document(version: str) -> Json:
    """Return the whole document, ready to be written as JSON."""
    paths: dict[str, Json] = {}
    for route in ROUTES:
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
        "security": [{"basic": []}, {"hmac": []}],
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
    events = {"type": "array", "minItems": 1, "maxItems": 100, "items": _EVENT}
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
    return sorted({*EVERYWHERE, *route.codes}, key=lambda code: (code.value.http_status, code.value.number))


def _operation(route: Route) -> Json:
    operation: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.path.split("/")[2]],
        "parameters": list(_parameters(route)),
        "responses": {str(route.status): _success(route)} | _refusals(codes_of(route)),
    }
    if route.body is not None:
        content = {"schema": _named(route.body), "example": route.example}
        operation["requestBody"] = {"required": True, "content": {_JSON: content}}
    if route.line_codes:
        operation["description"] = "A line of the answer may be refused with: " + ", ".join(
            f"`{code.value.name}`" for code in route.line_codes
        )
    return operation


def _parameters(route: Route) -> Iterable[Json]:
    for name in re.findall(r"\{(\w+)\}", route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    if route.query is not None:
        _, components = msgspec.json.schema_components([route.query], ref_template=TEMPLATE)
        for name, schema in components[route.query.__name__]["properties"].items():
            bare = _without_null(schema)
            listed = {"style": "form", "explode": False} if bare.get("type") == "array" else {}
            yield {"name": name, "in": "query", "required": False, "schema": bare, **listed}
    if route.idempotent:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same key with the same body, within 24 hours, gives the first answer again.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
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


def _success(route: Route) -> Json:
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


def _named(kind: type[msgspec.Struct]) -> Json:
    return {"$ref": TEMPLATE.format(name=kind.__name__)}


def _schemas() -> Mapping[str, Json]:
    kinds: dict[type[msgspec.Struct], None] = {RefusalBody: None}
    for route in ROUTES:
        kinds |= {kind: None for kind in (route.body, route.gives, route.query) if kind is not None}
    # msgspec decodes no untagged union of two Structs, so it describes none either: this one is written out.
    del kinds[owing.Pulled]
    _, components = msgspec.json.schema_components([*kinds, *_EVENTS], ref_template=TEMPLATE)
    components[owing.Pulled.__name__] = {
        "type": "object",
        "description": owing.Pulled.__doc__,
        "required": ["cursor", "events"],
        "properties": {
            "cursor": {"type": "string"},
            "events": {"type": "array", "items": _EVENT},
        },
    }
    for route in ROUTES:
        if route.query is not None:
            components.pop(route.query.__name__)  # shown as parameters
    return components


_EVENTS: Final = (notice.StatusEvent, notice.InboundEvent)
_EVENT: Final[Json] = {"anyOf": [_named(event) for event in _EVENTS]}
