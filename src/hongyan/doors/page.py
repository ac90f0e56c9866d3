"""A readable page of the OpenAPI document: plain HTML, no script, nothing loaded from anywhere.

Entry points: page() and POLICY, the Content-Security-Policy it is served with. Refusals are folded away under
each operation, because there are many and most are common to all.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1d2125;--paper:#fff;--soft:#f3f4f6;--line:#d8dce1;--link:#0b57d0}
@media(prefers-color-scheme:dark){
:root{--ink:#e2e4e7;--paper:#15171a;--soft:#23262b;--line:#363a41;--link:#8ab4f8}}
body{font:16px/1.55 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:var(--ink);background:var(--paper);overflow-wrap:anywhere}
a{color:var(--link)}
h2{margin:3.5rem 0 .5rem;border-top:1px solid var(--line);padding-top:1.2rem;font-size:1.25rem}
h3{margin:1.4rem 0 .2rem;font-size:1rem}
p{margin:.5rem 0}
nav ul{list-style:none;padding:0}
nav li{margin:.35rem 0}
code,pre{font-family:ui-monospace,monospace;font-size:.875em;background:var(--soft);border-radius:4px}
code{padding:.1em .3em}
pre{padding:.8rem 1rem;overflow-x:auto}
small{opacity:.7}
table{border-collapse:collapse;width:100%;margin:.3rem 0 .8rem}
td{vertical-align:top;border-top:1px solid var(--line);padding:.35rem .8rem .35rem 0}
td:first-child{width:11rem;min-width:6.5rem}
summary{cursor:pointer;margin:.6rem 0}
@media(max-width:40rem){td:first-child{width:7.5rem}}
"""
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; frame-ancestors 'none'; base-uri 'none'"

Json = Mapping[str, Any]


def page(document: Json) -> bytes:
    """Return the page as UTF-8 HTML."""
    schemas: Json = document["components"]["schemas"]
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
        '<a href="/openapi.json">openapi.json</a>.</p>',
        _credentials(document["components"]["securitySchemes"]),
        "<nav><ul>",
        *(
            f'<li><a href="#{operation["operationId"]}"><code>{method} {escape(path)}</code></a> '
            f"{_ticked(operation['summary'])}</li>"
            for method, path, operation in operations
        ),
        "</ul></nav>",
        *(_operation(method, path, operation, schemas) for method, path, operation in operations),
        "<h2>Types</h2>",
        *(_type(name, schema) for name, schema in sorted(schemas.items())),
        "</html>",
    ]
    return "".join(pieces).encode()


def _credentials(schemes: Json) -> str:
    ways = (
        f"<li><code>{escape(each.get('scheme') or each['name'])}</code> {_ticked(each['description'])}</li>"
        for each in schemes.values()
    )
    return f"<p>A request says who asks in one of these ways:</p><ul>{''.join(ways)}</ul>"


def _operation(method: str, path: str, operation: Json, schemas: Json) -> str:
    pieces = [f'<h2 id="{operation["operationId"]}"><code>{method} {escape(path)}</code></h2>']
    pieces.append(f"<p>{_ticked(operation['summary'])}</p>")
    pieces.append(_who(operation))
    if operation["parameters"]:
        pieces.append("<h3>Parameters</h3>" + _table(map(_parameter, operation["parameters"])))
    pieces += _body(method, path, operation, schemas)
    statuses = operation["responses"].items()
    pieces += (_answer(status, response) for status, response in statuses if status < "3")
    refusals = [(f"<b>{status}</b>", _refusals(response)) for status, response in statuses if status >= "4"]
    pieces.append(f"<details><summary>Refusals</summary>{_table(refusals)}</details>")
    if "description" in operation:
        pieces.append(
            f"<details><summary>Refusals of a line</summary><p>{_ticked(operation['description'])}</p></details>"
        )
    return "".join(pieces)


_REACHES: Final = {
    "anyone": "Asks for no credentials.",
    "self": "For people who are signed in, about themselves.",
    "app": "For app keys.",
    "tenant": "For app keys and people, about their tenant; people of the platform say whose.",
    "any": "For app keys and people, about their tenant; people of the platform see every tenant.",
    "platform": "For people of the platform.",
    "page": "For pages of a site key's origins (docs/widget.md).",
}


def _who(operation: Json) -> str:
    needs = operation.get("x-permission")
    words = f" Needs <code>{escape(needs)}</code>." if needs else ""
    return f"<p><small>{_REACHES[operation['x-reach']]}{words}</small></p>"


def _body(method: str, path: str, operation: Json, schemas: Json) -> Iterable[str]:
    content = operation.get("requestBody", {}).get("content", {})
    body = content.get("application/json", {})
    if "example" in body:  # else it is a file, though of JSON
        yield f"<h3>Body: {_kind(body['schema'])}</h3>"
        if "$ref" in body["schema"]:
            yield _fields(_found(body["schema"], schemas))
        yield _example(
            method, path, body["example"], _SAYS_WHO.get(operation["x-reach"], "-u $KEY_ID:$SECRET")
        )
    elif content:
        yield f"<h3>Body: a file, {' or '.join(f'<code>{escape(kind)}</code>' for kind in content)}</h3>"


def _parameter(parameter: Json) -> tuple[str, str]:
    name = f"<code>{escape(parameter['name'])}</code> <small>{parameter['in']}</small>"
    return name, _kind(parameter["schema"]) + _note(parameter)


_SAYS_WHO: Final = {"page": "-H 'Origin: https://shop.example.com'"}


def _example(method: str, path: str, body: object, says_who: str) -> str:
    written = json.dumps(body, ensure_ascii=False, indent=2)
    command = f"curl {says_who} -X {method} $URL{path} -H 'Content-Type: application/json' -d '{written}'"
    return f"<pre>{escape(command)}</pre>"


def _answer(status: str, response: Json) -> str:
    if "application/json" not in response["content"]:
        events = "text/event-stream" in response["content"]
        return f"<h3>{status}: {'events' if events else 'a file'}</h3>"
    envelope = response["content"]["application/json"]["schema"]["properties"]
    return f"<h3>{status}: <code>data</code> is {_kind(envelope['data'])}</h3>"


def _refusals(response: Json) -> str:
    return "<br>".join(_ticked(line.removeprefix("- ")) for line in response["description"].splitlines())


def _type(name: str, schema: Json) -> str:
    words = f"<p>{escape(schema['description'])}</p>" if "description" in schema else ""
    known = _fields(schema) if "properties" in schema else f"<p>{_kind(schema)}</p>"
    return f'<h3 id="type-{escape(name)}">{escape(name)}</h3>{words}{known}'


def _found(schema: Json, schemas: Json) -> Json:
    found: Json = schemas[schema["$ref"].rpartition("/")[2]]
    return found


def _fields(schema: Json) -> str:
    needed = schema.get("required", ())
    return _table(
        (
            f"<code>{escape(name)}</code>{' <small>needed</small>' * (name in needed)}",
            _kind(kind) + _note(kind),
        )
        for name, kind in schema["properties"].items()
    )


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
    if words == "array" and "prefixItems" in schema:
        words = f"[{', '.join(map(_kind, schema['prefixItems']))}]"
    elif words == "array":
        words = f"list of {_kind(schema.get('items', {}))}"
    elif words == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        words = f"object of {_kind(schema['additionalProperties'])}"
    limits = [
        f"{word} {schema[name]}" for name, word in _LIMITS.items() if abs(schema.get(name, _WIDE)) < _WIDE
    ]
    return words + (f" ({', '.join(limits)})" if limits else "")


_WIDE: Final = 2**62  # limits beyond it are those of the machine, and tell nobody anything
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
    described = [schema, *schema.get("anyOf", ())]
    return "".join(
        f"<br><small>{_ticked(each['description'])}</small>" for each in described if "description" in each
    )


def _ticked(text: str) -> str:
    """Escape a text and set what stands between back-ticks as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if at % 2 else piece for at, piece in enumerate(pieces))


def _table(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f"<tr><td>{name}</td><td>{words}</td></tr>" for name, words in rows)
    return f"<table>{body}</table>"
