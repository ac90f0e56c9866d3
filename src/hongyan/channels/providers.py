"""What HTTP kinds have in common besides posting: settings, codes that are words, and how things are written.

Pure. Entry points: PostSettings and FiledSettings, what all of them have to set; WordCodes, a provider's codes and
what follows from each; by_status() for answers that cannot be read; national() and e164(); answer_of() and each_of()
for what they say, which nobody can hold to its document; json_of(), form_of() and items_of() for pushes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta
from yarl import URL

from hongyan import egress
from hongyan.channels.channel import (
    BadPush,
    Declined,
    Outcome,
    Parcel,
    Throttled,
    Unreachable,
    Unsure,
    Wording,
)
from hongyan.channels.codes import Meaning, Verdict, of_carrier
from hongyan.vocab import phone
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause

T = TypeVar("T")
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
# Real pushes are short; by octets alone a million empty items would hold up a door for seconds.
PUSH_ITEMS_MAX = 20_000
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what octets in place of JSON raise


@dataclass(frozen=True, slots=True, kw_only=True)
class PostSettings:
    """What is set for every account at an HTTP provider."""

    url: Annotated[str, Meta(description="where it is called")] = ""
    sessions: Annotated[
        int, Meta(ge=0, le=64, description="shares of the window this process holds; resize() changes it")
    ] = 1
    window_size: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="messages in flight or not yet stored, per session; doubles after a crash at most",
        ),
    ] = 64
    messages_per_s: Annotated[
        float, Meta(ge=0, le=100_000, description="rate agreed with the provider, per session; 0 = no limit")
    ] = 0.0
    answer_wait_s: Annotated[
        Seconds, Meta(description="until a request is answered; after it the message is unsure")
    ] = 15.0
    close_wait_s: Annotated[Seconds, Meta(description="for answers and stores still due when we close")] = (
        10.0
    )
    backoff_s: Annotated[
        Seconds, Meta(description="first rest after a provider could not take anything; doubles, with jitter")
    ] = 1.0
    backoff_s_max: Annotated[Seconds, Meta(description="longest such rest")] = 30.0
    throttle_pause_s: Annotated[
        Seconds, Meta(description="first pause after a limit was met; doubles when the next one follows")
    ] = 1.0
    throttle_pause_s_max: Annotated[Seconds, Meta(description="longest pause after a limit was met")] = 30.0
    verdicts: Annotated[
        Mapping[str, Verdict],
        Meta(description="what follows from a code of their answers, where our table is wrong or has none"),
    ] = field(default_factory=dict)
    causes: Annotated[
        Mapping[str, Cause],
        Meta(description="what their codes mean, where our table is wrong or has none: code → cause"),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FiledSettings(PostSettings):
    """What is set besides where a provider is sent codes of templates it has reviewed, and never a text."""

    templates: Annotated[
        Mapping[str, str],
        Meta(description="our template's code → theirs; what is not listed is not carried"),
    ] = field(default_factory=dict)
    signatures: Annotated[
        Mapping[str, str],
        Meta(description="our signature → the one filed with them; what is not listed is not carried"),
    ] = field(default_factory=dict)
    value_characters_max: Annotated[
        int, Meta(ge=0, le=1000, description="longest value of a template's variable; 0 = they decide")
    ] = 0

    def why_not(self, wording: Wording | None) -> str:
        """Say why a text made so cannot be carried; "" if it can."""
        if wording is None:
            return "no_template"
        if wording.template not in self.templates:
            return "template_not_filed"
        if wording.signature and wording.signature not in self.signatures:
            return "signature_not_filed"
        limit = self.value_characters_max
        if limit and any(len(value) > limit for value in wording.values.values()):
            return "value_too_long"
        return ""

    def turn_down(self, wording: Wording | None) -> Declined | None:
        """The same as an answer."""
        code = self.why_not(wording)
        if not code:
            return None
        return Declined(code, Cause.UNSUPPORTED if code == "value_too_long" else Cause.SIGN_UNREGISTERED)


class WordCodes:
    """What follows from a provider's codes: a kind's table, and over it what the account says otherwise.

    A code is looked up whole, then by what stands before its last dots: "LimitExceeded.A" by "LimitExceeded".
    """

    def __init__(self, table: Mapping[str, Meaning], settings: PostSettings) -> None:
        self._table = {code.upper(): meaning for code, meaning in table.items()}
        self._verdicts = {code.upper(): verdict for code, verdict in settings.verdicts.items()}
        self._causes = {code.upper(): cause for code, cause in settings.causes.items()}

    def outcome(self, code: str, says: str, status: int) -> Outcome:
        """Say what follows from a code of an answer that took nothing; `says` are their words about it.

        Of an unknown one the status speaks. The wait of a Throttled is not set here.
        """
        meaning = self._find(code)
        verdict = self._verdicts.get(code.upper()) or (meaning[0] if meaning else _by_status_alone(status))
        match verdict:
            case Verdict.DECLINED:
                return Declined(code, self.cause(code))
            case Verdict.THROTTLED:
                return Throttled(0.0, code)
            case Verdict.UNREACHABLE:
                return Unreachable(f"{code}: {says}"[:200])
            case Verdict.UNSURE:
                return Unsure(f"{code}: {says}"[:200])

    def cause(self, code: str) -> Cause:
        """Say what a code means, of an answer or of a report."""
        meaning = self._find(code)
        if (own := self._causes.get(code.upper())) is not None:
            return own
        if meaning is not None:
            return meaning[1]
        told = of_carrier(code)  # they pass on the words of operators
        return Cause.UNKNOWN if told is None else told.cause

    def _find(self, code: str) -> Meaning | None:
        key = code.upper()
        while key:
            if key in self._table:
                return self._table[key]
            key = key.rpartition(".")[0]
        return None


def _by_status_alone(status: int) -> Verdict:
    """Say what follows from a code nobody has explained: final, unless the status says the message is not to blame."""
    match status:
        case 401 | 402 | 407:  # our key, our balance, a proxy: not 403 and 404, which some say of a number
            return Verdict.UNREACHABLE
        case 429:
            return Verdict.THROTTLED
        case 408:
            return Verdict.UNSURE
        case _:
            return Verdict.UNSURE if status >= 500 else Verdict.DECLINED


# ---- what kinds write and read alike


def by_status(answer: egress.Answer) -> Outcome:
    """Say what follows from an answer whose body cannot be read: only its status speaks."""
    status = answer.status
    reason = f"status {status}"
    if status == 429:
        return Throttled(retry_after_s(answer), str(status))
    if status < 300 or status == 408 or status >= 500:
        return Unsure(f"{reason}, and an answer that cannot be read")
    if status in (400, 413, 415, 422):
        return Declined(str(status), Cause.REJECTED)
    return Unreachable(reason)  # wrong address, wrong key, a gate before the provider


def retry_after_s(answer: egress.Answer) -> float:
    """Read Retry-After in seconds (RFC 9110 §10.2.3); 0 where it is absent or a date."""
    written = answer.headers.get("Retry-After", "")
    return min(float(written), 3600.0) if written.isascii() and written.isdecimal() else 0.0


def text_of(parcel: Parcel) -> str:
    """Return the text of a parcel; what UTF-8 cannot say is replaced."""
    text = texts.decode(parcel.octets, parcel.encoding)
    return text.encode("utf-8", "replace").decode()


def units(text: str) -> int:
    """Count as texts are counted everywhere here: UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def host_of(url: str) -> str:
    """Return the Host header a URL asks for, as it is signed and sent."""
    parsed = URL(url)
    return f"{parsed.host}" if parsed.is_default_port() else f"{parsed.host}:{parsed.port}"


def check_url(url: str) -> None:
    """Raises ValueError for a URL nobody would call; private addresses are judged when we call."""
    refusal = egress.refusal_of_url(url, private=True)
    if refusal:
        raise ValueError(f"url {refusal}")


def national(number: str) -> str:
    """Write an E.164 number as mainland providers want it: 13800138000, and others with their code: 85251234567."""
    return number.removeprefix("+86") if number.startswith("+86") else number.removeprefix("+")


def e164(written: str) -> str:
    """Read a number of theirs; "" where it is none."""
    try:
        return phone.parse(written).e164
    except phone.BadNumber:
        return ""


def answer_of(body: bytes, wanted: type[T]) -> T | None:
    """Read an answer's JSON as that struct; None where it is none.

    Null is as good as absent and a number as its word: an answer that says "taken" must not be unreadable for less.
    """
    try:
        return msgspec.convert(_plain(msgspec.json.decode(body)), wanted, strict=False)
    except UNREADABLE:
        return None


def items_of(tree: Any) -> list[Any]:
    """Return what a push tells: a list, or the one that stands alone. Raises BadPush for more than anybody tells at once."""
    items = tree if isinstance(tree, list) else [tree]
    if len(items) > PUSH_ITEMS_MAX:
        raise BadPush("too many at once")
    return items


def each_of(items: Sequence[Any], wanted: type[T]) -> Sequence[T]:
    """Read each as that struct; what cannot be read is left out: it must not cost the others."""
    read = []
    for item in items:
        try:
            read.append(msgspec.convert(_plain(item), wanted, strict=False))
        except UNREADABLE:
            continue
    return read


def _plain(tree: Any) -> Any:
    """Leave out nulls and write numbers as words; strict=False reads them as what is wanted."""
    if isinstance(tree, dict):
        return {name: _plain(value) for name, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [_plain(value) for value in tree]
    return tree if isinstance(tree, str | bool) else msgspec.json.encode(tree).decode()


def json_of(body: bytes) -> Any:
    """Read a push's JSON. Raises BadPush."""
    try:
        return msgspec.json.decode(body)
    except UNREADABLE as error:
        raise BadPush("no JSON of theirs") from error


def form_of(body: bytes) -> Sequence[tuple[str, str]]:
    """Read a push's form. Raises BadPush."""
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000)
    except ValueError as error:  # UnicodeDecodeError is one
        raise BadPush("no form") from error
