"""Query strings, read into the same kind of checked types as bodies.

Entry points: read_query(), said_as(). A list is written with commas (`status=delivered,expired`); a parameter
given twice, or unknown, is refused, because a filter that is silently dropped answers another question.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from hongyan.doors.exchange import mistake
from hongyan.vocab.errors import Code, Refusal

QUERY_OCTETS_MAX: Final = 4_096
PARAMETERS_MAX: Final = 50

T = TypeVar("T", bound=msgspec.Struct)


def read_query(query: bytes, kind: type[T]) -> T:
    """Read a raw query string into a Struct; raises the refusal that names the wrong parameter."""
    if len(query) > QUERY_OCTETS_MAX:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, reason=f"a query of more than {QUERY_OCTETS_MAX} octets"
        )
    given: dict[str, str | list[str]] = {}
    for name, value in _pairs(query):
        if name in given:
            raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=name[:64], reason="given twice")
        given[name] = value.split(",") if name in _lists(kind) else value
    try:
        asked = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _mistake(str(error)) from None
    for field, name in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
        # That is how msgspec reads "null" where it may; the filter would be dropped.
        if name in given and getattr(asked, field) is None:
            raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=name, reason="null is no value")
    return asked


def _mistake(error: str) -> Refusal:
    """Name the parameter: a query has no JSON paths, but what msgspec says of it does."""
    refusal = mistake(error)
    path = refusal.detail.pop("path")
    unknown = _UNKNOWN.fullmatch(refusal.detail["reason"])
    if unknown is not None:
        return Refusal(refusal.code, parameter=unknown[1], reason="there is no such parameter")
    missing = _MISSING.fullmatch(refusal.detail["reason"])
    if missing is not None:
        return Refusal(refusal.code, parameter=missing[1], reason="it is needed")
    return Refusal(refusal.code, parameter=_INNER.split(path)[1], **refusal.detail)


_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_INNER: Final = re.compile(r"[.\[]")


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX
        )
    except ValueError:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, reason="the query string cannot be read") from None
    if any("\x00" in value for _, value in pairs):  # PostgreSQL's text cannot hold it
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, reason="a NUL character")
    return pairs


@contextmanager
def said_as(names: Mapping[str, str]) -> Iterator[None]:
    """Let refusals from within name parameters as the caller did: `names` is ours → theirs."""
    try:
        yield
    except Refusal as refusal:
        ours = str(refusal.detail.get("parameter"))
        if ours in names:
            refusal.detail["parameter"] = names[ours]
        raise


@cache
def _lists(kind: type[msgspec.Struct]) -> frozenset[str]:
    known = msgspec.inspect.type_info(kind)
    assert isinstance(known, msgspec.inspect.StructType)
    return frozenset(
        field.encode_name for field in known.fields if isinstance(field.type, msgspec.inspect.CollectionType)
    )
