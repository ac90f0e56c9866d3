"""What people try who mean no good: fields nobody asked for, ids that are paths, files that are something else, secrets.

The laws are over every route, so that a new one obeys them before anybody thought of it.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote, urlencode

import msgspec
import pytest
from msgspec import inspect

import make
from doors.counter import Reply, ask, basic
from doors.management.desk import KEY, Desk, desk
from doors.management.laid import Laid, lay
from doors.test_permissions import MASTER, changed, digest, line_of, question
from hongyan.control.permissions import PLATFORM_ROLES, Role
from hongyan.doors.callers import COOKIE
from hongyan.doors.route import Reach, Route
from hongyan.doors.routes import ROUTES

pytestmark = pytest.mark.usefixtures("impatient")

# ---- shapes


def asked_for() -> Iterator[tuple[str, inspect.Type, bool]]:
    """Give every type that a body or a query is made of: where it stands, itself, whether it is a query's."""
    for route in ROUTES:
        for kind in (route.body, route.query):
            if kind is not None:
                yield from _within(inspect.type_info(kind), kind.__name__, (), in_query=kind is route.query)


def _within(
    kind: inspect.Type, where: str, above: tuple[type, ...], *, in_query: bool
) -> Iterator[tuple[str, inspect.Type, bool]]:
    yield where, kind, in_query
    inner: list[tuple[str, inspect.Type]] = []
    if isinstance(kind, inspect.Metadata):
        inner = [("", kind.type)]
    elif isinstance(kind, inspect.UnionType):
        inner = [("", one) for one in kind.types]
    elif isinstance(kind, inspect.StructType) and kind.cls not in above:
        above = (*above, kind.cls)
        inner = [(f".{field.encode_name}", field.type) for field in kind.fields]
    elif isinstance(kind, inspect.CollectionType):
        inner = [("[]", kind.item_type)]
    elif isinstance(kind, inspect.TupleType):
        inner = [("[]", one) for one in kind.item_types]
    elif isinstance(kind, inspect.DictType):
        inner = [("{name}", kind.key_type), ("{}", kind.value_type)]
    for step, one in inner:
        yield from _within(one, where + step, above, in_query=in_query)


def test_no_shape_takes_a_field_that_nobody_asked_for() -> None:
    lax = {
        kind.cls.__name__
        for _, kind, _ in asked_for()
        if isinstance(kind, inspect.StructType) and not kind.forbid_unknown_fields
    }
    assert lax == set()


def test_everything_that_is_asked_for_has_a_bound() -> None:
    assert (
        sorted({where for where, kind, in_query in asked_for() if _boundless(kind, in_query=in_query)}) == []
    )


def _boundless(kind: inspect.Type, *, in_query: bool) -> bool:
    if isinstance(kind, inspect.StrType):
        return kind.max_length is None and not (kind.pattern or "").endswith("$")
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return (kind.ge is None and kind.gt is None) or (kind.le is None and kind.lt is None)
    if isinstance(kind, inspect.CollectionType):
        return kind.max_length is None and not in_query  # a query as a whole has its bound (question.py)
    if isinstance(kind, inspect.DictType):
        return kind.max_length is None
    # Values that a room bounds by itself are AnyType; a body as a whole has its bound.
    return isinstance(kind, inspect.BytesType | inspect.ByteArrayType | inspect.DecimalType)


@pytest.mark.parametrize("who", [Role.OPERATOR, Role.OWNER])
async def test_a_body_with_a_field_too_many_changes_nothing(database: str, who: Role) -> None:
    async with desk(database, master_key=MASTER) as one:
        laid = await lay(one)
        before = await digest(one)
        for route in ROUTES:
            if isinstance(route.example, Mapping) and route.name not in COUNTED:
                for name in ("tenant_id_", "role_", "is_admin"):
                    reply = await posed(one, laid, route, who, {**route.example, name: 1})
                    assert reply.status in (400, 401, 403), (line_of(route), reply.body)
        assert changed(before, await digest(one)) == []


COUNTED: Final = frozenset[str]()


async def posed(one: Desk, laid: Laid, route: Route, who: Role, body: object) -> Reply:
    named = who in PLATFORM_ROLES and route.reach in {Reach.TENANT, Reach.ANY}
    target = laid.path(route) + (f"?tenant_id={one.world.tenant_id}" if named else "")
    return await one.ask(route.method, target, body, as_=who)


# ---- other sites, other paths


async def test_no_route_changes_anything_for_a_page_of_another_site(database: str) -> None:
    async with desk(database, master_key=MASTER) as one:
        laid = await lay(one)
        head = {"Cookie": f"{COOKIE}={one.tokens[Role.OPERATOR]}"}
        before = await digest(one)
        for route in ROUTES:
            if route.method != "GET" and route.reach is not Reach.ANYONE:
                reply = await question(one, laid, route, Role.OPERATOR, head)
                refused = (401, "Auth.Missing") if route.answers else (403, "Auth.PermissionDenied")
                assert (reply.status, reply.code) == refused, line_of(route)
        assert changed(before, await digest(one)) == []


TRICKS: Final = (
    *(
        "0",
        "-1",
        "1.0",
        "1e3",
        "00",
        "%00",
        "%0a",
        "%20",
        "%F0%9F%98%80",
        "%FF",
        "NaN",
        "null",
        "true",
        "*",
        "%27",
        "1%27--",
    ),
    *(
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f",
        "..;",
        "%EF%BC%91",
        "%D9%A1",
        "9" * 10,
        "9" * 30,
        "9" * 5_000,
    ),
    *("00000000-0000-0000-0000-000000000000", "{id}", "%7Bid%7D", "a" * 300),
)


@pytest.mark.parametrize("who", [Role.OPERATOR, KEY])
async def test_an_id_that_is_no_id_names_nothing(database: str, who: Role | str) -> None:
    async with desk(database, master_key=MASTER) as one:
        before = await digest(one)
        for route in ROUTES:
            if "{" in route.path and route.name != "checkVerification":  # which answers alike: test_verify.py
                for trick in TRICKS:
                    odd = Laid(_Anything(trick))
                    reply = await question(one, odd, route, who)
                    assert reply.status in (400, 403, 404, 405, 409, 413), (line_of(route), trick, reply.body)
        assert changed(before, await digest(one)) == []


class _Anything(dict[str, Mapping[str, str]]):
    """Places where every brace holds the same word."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word

    def __missing__(self, _noun: str) -> Mapping[str, str]:
        return _Word(self._word)


class _Word(dict[str, str]):
    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word

    def __missing__(self, _name: str) -> str:
        return self._word


# ---- files

FILES: Final = (
    ("text/html", b"<script>alert(1)</script>"),
    ("application/x-msdownload", b"MZ\x90\x00"),
    ("application/pdf", b"<html>"),
    ("image/png", b"%PDF-1.7\n"),
    ("image/svg+xml", b"<svg onload='alert(1)'/>"),
    ("text/csv", b"\x00\xff\xfe\x00"),
    ("text/csv", b""),
    ("application/json", b'{"a": [' * 5_000),
    ("application/json", b"\xff"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", b"PK\x03\x04nothing"),
    ("", b"a,b\n"),
)
LINE_BY_LINE: Final = (
    "importWords",
)  # any text is words; what is none is told line by line, in an answer that is 200
QUERIES: Final[Mapping[str, Mapping[str, str]]] = {
    "uploadDocument": {"kind": "other", "name": "a.pdf"},
    "uploadList": {"name": "b"},
    "importFilings": {"operator": "cmcc"},
}


async def test_a_file_of_another_kind_is_refused(database: str) -> None:
    async with desk(database, master_key=MASTER) as one:
        laid = await lay(one)
        before = await digest(one)
        for route in ROUTES:
            for content_type, octets in FILES if route.file else ():
                if route.name in LINE_BY_LINE and content_type in ("", "text/csv"):
                    continue
                named = {"tenant_id": str(one.world.tenant_id)} if route.reach is not Reach.PLATFORM else {}
                target = f"{laid.path(route)}?{urlencode({**QUERIES.get(route.name, {}), **named})}"
                head = {"Content-Type": content_type}
                reply = await one.ask(route.method, target, octets, as_=Role.OPERATOR, headers=head)
                assert 400 <= reply.status < 500, (line_of(route), content_type, octets[:20], reply.body)
        assert changed(before, await digest(one)) in ([], ["job"])  # that a list could not be read, is kept


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "a\r\nSet-Cookie: b=c.pdf", '";alert(1)".pdf', "a\u202efdp.exe", "C:\\x.pdf", "."],
)
async def test_the_name_of_a_file_is_no_path_and_no_header(database: str, name: str) -> None:
    async with desk(database) as one:
        made = await one.ask(
            "POST", f"/v1/documents?kind=other&name={quote(name)}", b"%PDF-1.7\n%%EOF\n", as_=Role.OWNER,
            headers={"Content-Type": "application/pdf"},
        )  # fmt: skip
        if made.status == 400:
            return
        row = made.json["data"]
        assert not set(row["name"]) & set('/\\\r\n"\u202e')
        port, target = one.port, f"/v1/documents/{row['id']}/file"
        got = await ask(port, "GET", target, headers=one.credentials(Role.OWNER))
        assert got.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
        assert "set-cookie" not in got.headers
        assert got.headers["content-security-policy"].startswith("sandbox")


# ---- secrets

WHOLE_NUMBER: Final = make.NUMBER.encode()[3:]
# A program is told to whom it wrote, and who wrote back.
OF_PROGRAMS: Final = ("getMessage", "searchMessages", "listInbound", "listInboundTexts")
SECRETS: Final = {
    "app": b"app-secret-9f3c1d",
    "webhook": b"webhook-secret-77aa",
    "channel": b"channel-password-5e2b",
    "totp": b"JBSWY3DPEHPK3PXP",
    "alarm": b"alarm-secret-31c9",
    "password hash": b"$argon2id$v=19$m=19456,t=2,p=1$hash",
}


async def seeded(one: Desk) -> tuple[Laid, list[bytes]]:
    """Lay everything with secrets that are known, and return all that no answer may hold."""
    laid, world = await lay(one), one.world
    seal = world.vault.seal_secret
    settings = {"hosts": ["smsc.example.com:2775"], "system_id": "a", "password": SECRETS["channel"].decode()}
    async with one.database.transaction() as tx:
        await make.app_key(tx, world.vault, app_id=world.app_id, secret=SECRETS["app"])
        await tx.execute("UPDATE webhook SET sealed = $1", seal(SECRETS["webhook"]))
        await tx.execute("UPDATE channel SET sealed = $1", seal(msgspec.json.encode(settings)))
        await tx.execute("UPDATE alarm_rule SET sealed = $1", seal(SECRETS["alarm"]))
        await tx.execute("UPDATE console_user SET password_hash = $1", SECRETS["password hash"].decode())
        await tx.execute(
            "INSERT INTO authenticator (user_id, sealed, confirmed) SELECT id, $1, true FROM console_user", seal(SECRETS["totp"])
        )  # fmt: skip
        hashes = await tx.fetch(
            "SELECT token_hash AS hash FROM sign_in UNION SELECT token_hash FROM api_token UNION SELECT token_hash FROM invitation"
        )
    await one.served.keeper.load()
    known = [*SECRETS.values(), *(token.encode() for token in one.tokens.values()), WHOLE_NUMBER]
    for row in hashes:
        known += [row["hash"].hex().encode(), base64.b64encode(row["hash"]).rstrip(b"=")]
    return laid, known


@pytest.mark.parametrize("who", [*Role, KEY])
async def test_no_answer_holds_a_secret_or_a_whole_number(database: str, who: Role | str) -> None:
    async with desk(database, master_key=MASTER) as one:
        laid, known = await seeded(one)
        for route in ROUTES:
            if route.method == "GET":
                reply = await question(one, laid, route, who)
                assert reply.status < 500, (line_of(route), reply.body)
                may_see = {WHOLE_NUMBER} if who == KEY and route.name in OF_PROGRAMS else set()
                told = [secret for secret in known if secret in reply.body and secret not in may_see]
                assert told == [], (line_of(route), told, reply.body)


async def test_no_answer_is_kept_by_anybody(database: str) -> None:
    async with desk(database, master_key=MASTER) as one:
        laid = await lay(one)
        for who in (Role.OPERATOR, KEY):
            for route in ROUTES:
                reply = await question(one, laid, route, who)
                assert reply.headers.get("cache-control") == "no-store", line_of(route)
                assert reply.headers.get("x-content-type-options") == "nosniff", line_of(route)


# ---- credentials


async def test_two_credentials_are_the_header_alone(database: str) -> None:
    """A cookie lends nothing to a program's request, nor the other way round."""
    async with desk(database) as one:
        both = one.credentials(Role.OPERATOR) | {"Authorization": basic("nobody")}
        assert (await ask(one.port, "GET", "/v1/tenants", headers=both)).code == "Auth.KeyNotFound"
        both = one.credentials(Role.OPERATOR) | {"Authorization": basic(one.key_id)}
        assert (await ask(one.port, "GET", "/v1/tenants", headers=both)).code == "Auth.PermissionDenied"


async def test_a_hash_of_the_database_signs_nobody_in(database: str) -> None:
    async with desk(database) as one:
        (row, *_) = await one.fetch("SELECT token_hash FROM sign_in")
        for written in (row["token_hash"].hex(), base64.urlsafe_b64encode(row["token_hash"]).decode()):
            for head in ({"Cookie": f"{COOKIE}={written}"}, {"Authorization": f"Bearer {written}"}):
                assert (await ask(one.port, "GET", "/v1/me", headers=head)).code == "Auth.SignInEnded"


async def test_a_parameter_that_is_missing_is_named(database: str) -> None:
    async with desk(database) as one:
        refused = await one.ask("GET", "/v1/complaints/rates", as_=Role.OWNER)
        assert (refused.status, refused.code) == (400, "Request.MissingParameter")
        assert refused.json["detail"]["parameter"] == "from"


async def test_a_sandbox_key_sends_no_list(database: str) -> None:
    async with desk(database) as one:
        laid, world = await lay(one), one.world
        async with one.database.transaction() as tx:
            made = await make.app_key(tx, world.vault, app_id=world.app_id, sandbox=True)
        await one.served.keeper.load()
        head = {"Authorization": basic(made)}
        for route in ROUTES:
            if route.name in ("checkList", "startList"):
                reply = await question(one, laid, route, KEY, head)
                assert (reply.status, reply.code) == (403, "Auth.PermissionDenied")
