"""A readable page of the OpenAPI document: plain HTML, no script, nothing loaded from anywhere.

Entry points: page() and POLICY, the Content-Security-Policy it is served with.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
body{color:#222;background:#fff}
h2{margin-top:3rem;border-top:1px solid #ddd;padding-top:1rem;font-size:1.2rem}
code{font-family:ui-monospace,monospace;font-size:.9em;background:#f4f4f4;padding:.1em .3em;border-radius:3px}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
th,td{text-align:left;vertical-align:top;border-bottom:1px solid #eee;padding:.3rem .6rem .3rem 0}
summary{cursor:pointer;margin-top:.6rem}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}code{background:#2a2a2a}}
"""
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; frame-ancestors 'none'; base-uri 'none'"

Json = Mapping[str, Any]


def page(document: Json) -> bytes:
    """Return the page as UTF-8 HTML."""
    schemas = document["components"]["schemas"]
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    title = escape(document["info"]["title"])
    pieces = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title} API</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>{title}</h1>',
        f"<p>{escape(document['info']['summary'])} The document behind this page is ",
        '<a href="/openapi.json">openapi.json</a>.</p><ul>',
        *(
            f'<li><a href="#{operation["operationId"]}"><code>{method} {escape(path)}</code></a> '
            f"{escape(operation['summary'])}</li>"
            for method, path, operation in operations
        ),
        "</ul>",
        *(_operation(method, path, operation) for method, path, operation in operations),
        "<h2>Types</h2>",
        *(_schema(name, schema) for name, schema in sorted(schemas.items())),
        "</html>",
    ]
    return "".join(pieces).encode()


def _operation(method: str, path: str, operation: Json) -> str:
    pieces = [f'<h2 id="{operation["operationId"]}"><code>{method} {escape(path)}</code></h2>']
    pieces.append(f"<p>{escape(operation['summary'])}</p>")
    if "description" in operation:
        pieces.append(f"<p>{_ticked(operation['description'])}</p>")
    if operation["parameters"]:
        rows = (
            (f"<code>{escape(p['name'])}</code>", p["in"], _kind(p["schema"]) + _note(p))
            for p in operation["parameters"]
        )
        pieces.append(_table(("parameter", "in", "what"), rows))
    if "requestBody" in operation:
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        pieces.append(f"<p>Body: {_kind(body)}</p>")
    answers = ((f"<b>{status}</b>", _response(answer)) for status, answer in operation["responses"].items())
    pieces.append(_table(("status", "answer"), answers))
    return "".join(pieces)


def _response(response: Json) -> str:
    schema = response["content"]["application/json"]["schema"]
    if "properties" in schema:
        return f"data: {_kind(schema['properties']['data'])}"
    return "<br>".join(_ticked(line.removeprefix("- ")) for line in response["description"].splitlines())


def _schema(name: str, schema: Json) -> str:
    head = f'<details id="type-{escape(name)}" open><summary><b>{escape(name)}</b></summary>'
    words = f"<p>{escape(schema['description'])}</p>" if "description" in schema else ""
    if "properties" not in schema:
        return f"{head}{words}<p>{_kind(schema)}</p></details>"
    required = schema.get("required", ())
    rows = (
        (f"<code>{escape(field)}</code>{' *' if field in required else ''}", _kind(kind) + _note(kind))
        for field, kind in schema["properties"].items()
    )
    return f"{head}{words}{_table(('field (* needed)', 'what'), rows)}</details>"


def _kind(schema: Json) -> str:
    """Say a schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#type-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(kind) for kind in schema["anyOf"])
    if "enum" in schema:
        return " · ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    words = str(schema.get("format") or schema.get("type", "anything"))
    if words == "array":
        words = f"list of {_kind(schema.get('items', {}))}"
    limits = [f"{word} {schema[name]}" for name, word in _LIMITS.items() if name in schema]
    return words + (f" ({', '.join(limits)})" if limits else "")


_LIMITS: Final = {
    "minLength": "at least",
    "maxLength": "at most",
    "minItems": "at least",
    "maxItems": "at most",
    "maxProperties": "at most",
    "minimum": "from",
    "maximum": "to",
}


def _note(schema: Json) -> str:
    return f"<br>{escape(schema['description'])}" if "description" in schema else ""


def _ticked(text: str) -> str:
    """Escape a text and set what stands between back-ticks as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if at % 2 else piece for at, piece in enumerate(pieces))


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{head}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
