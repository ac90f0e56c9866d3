"""What is said about a signature that does not fit is true, and tells nobody how to make one that does."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec
import pytest

from hongyan.doors.explaining import Explained, Pasted, difference, explain
from hongyan.doors.mistakes import MISTAKES, Mistake

SECRET: Final = b"s3cret-with_underscores"
NOW_S: Final = 1_767_225_600
NONCE: Final = "vb7Q2mX0c4kLrT9s"
BODY: Final = '{"to":"+8613800138000","params":{"day":"明天","order":"1/2"}}'
VECTORS: Final = Path(__file__).parents[2] / "docs/api/mac_vectors.json"


class Signing(NamedTuple):
    """What a program makes its MAC of."""

    secret: bytes = SECRET
    method: str = "POST"
    path: str = "/v1/messages"
    query: str = ""
    digest: str = hashlib.sha256(BODY.encode()).hexdigest()
    timestamp: str = str(NOW_S)
    nonce: str = NONCE

    @property
    def lines(self) -> list[str]:
        return [self.method, self.path, self.query, self.digest, self.timestamp, self.nonce]

    def mac(self, join: Callable[[list[str]], str] = "\n".join) -> str:
        return hmac.new(self.secret, join(self.lines).encode(), "sha256").hexdigest()


def header(mac: str, timestamp: str = str(NOW_S), nonce: str = NONCE) -> str:
    return f"HONGYAN-HMAC-SHA256 key_id=demo, timestamp={timestamp}, nonce={nonce}, mac={mac}"


def of(
    mac: str, *, target: str = "/v1/messages", body: str = BODY, own: str = "", now_s: float = NOW_S
) -> Explained:
    return explain(SECRET, Pasted("POST", target, header(mac), body, own), "demo", now_s, 300)


def certain(explained: Explained) -> list[Mistake]:
    return [finding.mistake for finding in explained.findings if finding.certain]


def digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def test_a_right_signature_fits_and_nothing_is_found() -> None:
    explained = of(Signing().mac())
    assert explained.fits
    assert explained.findings == []
    assert explained.canonical == "\n".join(Signing().lines)


def test_every_vector_of_the_documentation_fits() -> None:
    document = json.loads(VECTORS.read_text("utf-8"))
    for vector in document["vectors"]:
        query = f"?{vector['query']}" if vector["query"] else ""
        pasted = Pasted(vector["method"], vector["path"] + query, vector["authorization"], vector["body"])
        explained = explain(
            document["secret"].encode(), pasted, document["key_id"], int(vector["timestamp"]), 300
        )
        assert explained.fits, vector
        assert explained.canonical == vector["canonical"]


ORDERED: Final = "a=1&b=%E4%BD%A0&c=3"
MADE_WRONG: Final = [
    (Mistake.METHOD_CASE, Signing(method="post").mac()),
    (Mistake.PATH_SLASH, Signing(path="v1/messages").mac()),
    (Mistake.PATH_SLASH, Signing(path="/v1/messages/").mac()),
    (Mistake.PATH_PREFIX, Signing(path="/messages").mac()),
    (Mistake.BODY_EMPTY, Signing(digest=digest("")).mac()),
    (Mistake.BODY_NEWLINE, Signing(digest=digest(BODY + "\n")).mac()),
    (Mistake.BODY_JSON, Signing(digest=digest(json.dumps(json.loads(BODY)))).mac()),
    (Mistake.BODY_JSON, Signing(digest=digest(json.dumps(json.loads(BODY), indent=2, ensure_ascii=False))).mac()),
    (Mistake.BODY_RAW, Signing(digest=BODY).mac()),
    (Mistake.BODY_HEX_UPPER, Signing(digest=digest(BODY).upper()).mac()),
    (Mistake.BODY_BASE64, Signing(digest=base64.b64encode(hashlib.sha256(BODY.encode()).digest()).decode()).mac()),
    (Mistake.BODY_HASH, Signing(digest=hashlib.md5(BODY.encode(), usedforsecurity=False).hexdigest()).mac()),
    (Mistake.TIMESTAMP_OTHER, Signing(timestamp=f"{NOW_S}000").mac()),
    (Mistake.TIMESTAMP_OTHER, Signing(timestamp=str(NOW_S - 1)).mac()),
    (Mistake.LINE_MISSING, Signing().mac(lambda lines: "\n".join(lines[:2] + lines[3:]))),
    (Mistake.LINE_ORDER, Signing().mac(lambda lines: "\n".join([*lines[:4], lines[5], lines[4]]))),
    (Mistake.JOIN_END, Signing().mac(lambda lines: "\n".join(lines) + "\n")),
    (Mistake.JOIN_ESCAPED, Signing().mac("\\n".join)),
    (Mistake.JOIN_OTHER, Signing().mac("".join)),
    (Mistake.SECRET_SPACE, Signing(secret=SECRET + b"\n").mac()),
    (Mistake.SECRET_QUOTED, Signing(secret=b'"' + SECRET + b'"').mac()),
    (Mistake.SECRET_CUT, Signing(secret=SECRET[:-1]).mac()),
    (Mistake.SECRET_ENCODED, Signing(secret=base64.b64encode(SECRET)).mac()),
    (Mistake.SECRET_EMPTY, Signing(secret=b"").mac()),
    (Mistake.HMAC_HASH, hmac.new(SECRET, "\n".join(Signing().lines).encode(), "sha1").hexdigest()),
    (Mistake.HMAC_SWAPPED, hmac.new("\n".join(Signing().lines).encode(), SECRET, "sha256").hexdigest()),
    (Mistake.NOT_HMAC, hashlib.sha256(SECRET + "\n".join(Signing().lines).encode()).hexdigest()),
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "mac"), MADE_WRONG)
def test_a_mistake_that_gives_this_mac_is_named(mistake: Mistake, mac: str) -> None:
    explained = of(mac)
    assert not explained.fits
    assert certain(explained) == [mistake]


QUERIES: Final = [
    (Mistake.QUERY_ORDER, "c=3&a=1&b=%E4%BD%A0"),
    (Mistake.QUERY_MARK, "?" + ORDERED),
    (Mistake.QUERY_LEFT_OUT, ""),
    (Mistake.QUERY_ENCODING, unquote(ORDERED)),
]


@pytest.mark.parametrize(("mistake", "signed"), QUERIES)
def test_a_query_that_was_signed_otherwise_is_named(mistake: Mistake, signed: str) -> None:
    explained = of(Signing(query=signed).mac(), target="/v1/messages?c=3&a=1&b=%E4%BD%A0")
    assert certain(explained) == [mistake]
    assert explained.canonical.split("\n")[2] == ORDERED


def test_a_path_that_was_signed_with_its_host_is_named() -> None:
    url = "https://sms.example.com/v1/messages"
    assert certain(of(Signing(path=url).mac(), target=url)) == [Mistake.PATH_HOST]


def test_two_mistakes_at_once_are_both_named() -> None:
    mac = Signing(secret=SECRET + b"\n", digest=digest(json.dumps(json.loads(BODY)))).mac()
    assert set(certain(of(mac))) == {Mistake.SECRET_SPACE, Mistake.BODY_JSON}


def test_a_mac_that_nothing_explains_is_not_explained() -> None:
    explained = of("0" * 64)
    assert not explained.fits
    assert explained.findings == []


HEADERS: Final = [
    (Mistake.NO_HEADER, ""),
    (Mistake.BASIC, "Basic ZGVtbzpzZWNyZXQ="),
    (Mistake.SCHEME, header(Signing().mac()).replace("HONGYAN-", "")),
    (Mistake.HEADER_FORM, header(Signing().mac()).replace(",", ";")),
    (Mistake.HEADER_FORM, header(f'"{Signing().mac()}"')),
    (Mistake.MAC_UPPER, header(Signing().mac().upper())),
    (Mistake.MAC_BASE64, header(base64.b64encode(bytes.fromhex(Signing().mac())).decode())),
    (Mistake.MAC_FORM, header("abc")),
    (Mistake.TIMESTAMP_MS, header(Signing().mac(), timestamp=f"{NOW_S}000")),
    (Mistake.NONCE_FORM, header(Signing().mac(), nonce="short")),
    (Mistake.OTHER_KEY, header(Signing().mac()).replace("=demo", "=other")),
]


@pytest.mark.parametrize(("mistake", "written"), HEADERS)
def test_a_header_that_cannot_be_read_says_why(mistake: Mistake, written: str) -> None:
    explained = explain(SECRET, Pasted("POST", "/v1/messages", written, BODY), "demo", NOW_S, 300)
    assert mistake in [finding.mistake for finding in explained.findings]


def test_a_mac_in_another_writing_still_is_the_right_one() -> None:
    for written in (Signing().mac().upper(), base64.b64encode(bytes.fromhex(Signing().mac())).decode()):
        assert of(written).fits


@pytest.mark.parametrize(("off_s", "mistake"), [(301, Mistake.OLD), (-301, Mistake.FUTURE), (299, None)])
def test_a_clock_that_is_off_is_named(off_s: float, mistake: Mistake | None) -> None:
    found = [finding.mistake for finding in of(Signing().mac(), now_s=NOW_S + off_s).findings]
    assert found == ([] if mistake is None else [mistake])


def test_the_first_difference_is_where_the_strings_part() -> None:
    explained = of("0" * 64, own="\n".join(Signing(path="/v1/message").lines))
    assert explained.difference is not None
    assert (explained.difference.line, explained.difference.column) == (1, len("/v1/message"))
    assert explained.lines[1].theirs == "/v1/message"
    assert difference("same", "same") is None


def test_a_right_mac_over_a_wrong_string_blames_the_string() -> None:
    wrong = Signing(path="/somewhere")
    assert of(wrong.mac(), own="\n".join(wrong.lines)).own_fits is True
    assert of("0" * 64, own="\n".join(wrong.lines)).own_fits is False


def test_nothing_that_is_told_helps_to_sign() -> None:
    told = msgspec.json.encode(of("0" * 64, own="\n".join(Signing().lines))).decode()
    right = bytes.fromhex(Signing().mac())
    assert SECRET.decode() not in told
    assert right.hex() not in told
    assert base64.b64encode(right).decode() not in told


def test_every_mistake_has_its_words() -> None:
    assert MISTAKES.keys() == set(Mistake)
    assert all(en and zh for en, zh in MISTAKES.values())
