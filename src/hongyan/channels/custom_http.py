"""The kind `custom_http`: a provider with an HTTP API that is described by settings, so that it needs no code.

Entry points: CustomHttp, CustomHttpConfig. The settings are templates, paths and recipes; nothing in them is executed.

The names of a request:
  {number} +8613800138000 · {number_digits} · {number_national} 13800138000 · {text} · {sender} · {validity_s}
  {time} (by time_format) · {time_s} · {time_ms} (since 1970) · {nonce} · {reference} (of this request, a UUID)
  {template} · {signature} (as filed) · {values_json} (an object) · {values_list} (an array, by parameters)
  {value.NAME} · {account.NAME} · {secret.NAME} · {recipe.NAME}
and those of a push: {account.NAME}, {secret.NAME}, {recipe.NAME}, {header.NAME} (lower case), {field.PATH}.

Templates, recipes and paths are explained in recipes.py. A recipe's pairs are the fields of the body, without
those that name a recipe; of a push, its fields without the signature.

Surprise: only POST. Whoever repeats a GET, as HTTP allows, would send twice.
"""

import hmac
import re
import secrets as chance
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Meta

from hongyan import clock, egress
from hongyan.channels import providers
from hongyan.channels.channel import (
    Ack,
    BadPush,
    Declined,
    Inbound,
    Outcome,
    Parcel,
    Push,
    Report,
    Secret,
    Throttled,
    Wording,
)
from hongyan.channels.posts import Call, Posts
from hongyan.channels.providers import FiledSettings, WordCodes
from hongyan.channels.recipes import (
    PLACE,
    Filling,
    Words,
    at,
    check_cycles,
    leaves_at,
    leaves_of,
    mentions_of,
    names_in,
    opened,
    recipes_in,
    templates_of,
    walk,
    written,
)
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status

REQUEST_NAMES: Final = frozenset(
    {"number", "number_digits", "number_national", "text", "sender", "validity_s", "time", "time_s", "time_ms", "nonce",
     "reference", "template", "signature", "values_json", "values_list"}
)  # fmt: skip
HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 §5.6.2


class Form(StrEnum):
    """How a body is written."""

    JSON = "json"
    FORM = "form"
    TEXT = "text"  # answers only: one line, cut at answer_separator


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomHttpConfig(FiledSettings):
    """Settings of one account at a provider that is described here. The words are explained in custom_http.py and recipes.py."""

    url: Annotated[
        str, Meta(min_length=1, description="template of the address; what is filled in is percent-encoded")
    ]
    account: Annotated[
        Mapping[str, str], Meta(description="plain words for {account.NAME}: user names, product numbers")
    ] = field(default_factory=dict)
    secrets: Annotated[
        Mapping[str, Secret], Meta(description="words for {secret.NAME}: passwords, keys, tokens")
    ] = field(default_factory=dict)
    recipes: Annotated[
        Mapping[str, Words], Meta(description="signatures and the like for {recipe.NAME}: lists of steps")
    ] = field(default_factory=dict)
    headers: Annotated[Mapping[str, str], Meta(description="header → template of its value")] = field(
        default_factory=dict
    )
    body_form: Annotated[Form, Meta(description="how the body is written: json or form")] = Form.JSON
    body: Annotated[
        Mapping[str, Any],
        Meta(
            description="the body's fields; texts in it are templates, json:… is written as a value of its own"
        ),
    ] = field(default_factory=dict)
    time_format: Annotated[str, Meta(description="of {time}, as strftime has it")] = "%Y%m%d%H%M%S"
    time_zone_h: Annotated[float, Meta(ge=-12, le=14, description="of {time}, hours east of Greenwich")] = 8.0
    text_characters_max: Annotated[
        int, Meta(ge=200, le=10_000, description="longest text they take, in characters")
    ] = 500
    by_template: Annotated[
        bool,
        Meta(description="they take a template's code and values, not a text: only what is filed is carried"),
    ] = False
    parameters: Annotated[
        Mapping[str, Words],
        Meta(description="our template's code → our variables in the order of {values_list}"),
    ] = field(default_factory=dict)
    answer_form: Annotated[Form, Meta(description="how they answer: json, form or text")] = Form.JSON
    answer_separator: Annotated[str, Meta(min_length=1, description="between the words of a text answer")] = (
        ","
    )
    ok_path: Annotated[
        str, Meta(description="where an answer says whether it was taken; empty = status 2xx")
    ] = ""
    ok_values: Annotated[Words, Meta(description="what stands there if it was")] = ("0",)
    id_path: Annotated[str, Meta(description="where an answer holds their id, which reports will name")] = ""
    code_path: Annotated[
        str, Meta(description="where an answer holds the code of an error; empty = ok_path")
    ] = ""
    message_path: Annotated[str, Meta(description="where it holds words about an error")] = ""
    push_form: Annotated[Form, Meta(description="how they push: json or form")] = Form.JSON
    push_items_path: Annotated[
        str, Meta(description="where a push holds its list; one object is a list of one")
    ] = ""
    push_id_path: Annotated[
        str, Meta(description="in one of the list: our message's id as they answered it")
    ] = ""
    push_number_path: Annotated[str, Meta(description="in one of the list: the person's number")] = ""
    push_status_path: Annotated[str, Meta(description="in one of the list: what became of it")] = ""
    push_delivered: Annotated[Words, Meta(description="words there that say delivered")] = ("DELIVRD",)
    push_pending: Annotated[Words, Meta(description="words there that settle nothing yet")] = ()
    push_code_path: Annotated[
        str, Meta(description="in one of the list: why not; empty = push_status_path")
    ] = ""
    push_text_path: Annotated[
        str, Meta(description="in one of the list: what a person texted; empty = never")
    ] = ""
    push_access_path: Annotated[str, Meta(description="in one of the list: the number they texted to")] = ""
    push_signature: Annotated[
        Words, Meta(description="recipe of what a push must be signed with; empty = they sign nothing")
    ] = ()
    push_signature_at: Annotated[
        str, Meta(description="where a push holds its signature, a template: {header.x-sign} or {field.sign}")
    ] = ""
    push_answer: Annotated[str, Meta(description="what they want to hear")] = "OK"
    push_answer_type: Annotated[str, Meta(description="the Content-Type of that")] = (
        "text/plain; charset=utf-8"
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be filled in, and what would go round for ever."""
        if Form.TEXT in (self.body_form, self.push_form):
            raise ValueError("text is a form of answers only")
        if bool(self.push_signature) != bool(self.push_signature_at):
            raise ValueError("push_signature and push_signature_at go together")
        ours = {"value", "account", "secret", "recipe"}
        for path, leaf in (
            ("url", self.url),
            *leaves_at("headers", self.headers),
            *leaves_at("body", self.body),
        ):
            self._check(path, [leaf], REQUEST_NAMES, ours)
        for name, steps in self.recipes.items():
            self._check_steps(f"recipes.{name}", steps, REQUEST_NAMES, ours | {"header", "field"})
        theirs = {"account", "secret", "recipe", "header", "field"}
        self._check_steps("push_signature", self.push_signature, frozenset(), theirs)
        self._check("push_signature_at", [self.push_signature_at], frozenset(), theirs)
        check_cycles({name: mentions_of(steps) for name, steps in self.recipes.items()})
        if any(
            step.partition(" ")[0] == "body"
            for name in recipes_in(leaves_of(self.body))
            for step in self._all(name)
        ):
            raise ValueError("body: a recipe of the whole body cannot stand in the body")
        for name in self.headers:
            if not HEADER_NAME.fullmatch(name):
                raise ValueError(f"headers: no header {name[:40]!a} can be")
        providers.check_url(PLACE.sub("x", self.url))

    def _all(self, name: str) -> Sequence[str]:
        """The steps of a recipe and of those it mentions."""
        steps = self.recipes[name]
        return [*steps, *(step for other in mentions_of(steps) for step in self._all(other))]

    def _check_steps(self, path: str, steps: Words, plain: frozenset[str], families: set[str]) -> None:
        try:
            templates = templates_of(steps)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        self._check(path, templates, plain, families)

    def _check(self, path: str, templates: Sequence[str], plain: frozenset[str], families: set[str]) -> None:
        """Raise ValueError, beginning with the path of the setting, where a name in a template stands for nothing."""
        try:
            names = [name for template in templates for name in names_in(template)]
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        known: dict[str, Mapping[str, Any]] = {
            "account": self.account, "secret": self.secrets, "recipe": self.recipes
        }  # fmt: skip
        for name in names:
            family, dot, member = name.partition(".")
            if not dot and name in plain:
                continue
            if family == "header" and member != member.lower():
                raise ValueError(f"{path}: {{{name}}}: names of headers are in lower case here")
            if not dot or family not in families or member not in known.get(family, {member: None}):
                there = {
                    *plain,
                    *(f"{one}.{other}" for one in families & known.keys() for other in known[one]),
                }
                near = get_close_matches(name, sorted(there), 1)
                hint = f"; did you mean {{{near[0]}}}?" if near else ""
                raise ValueError(f"{path}: there is no name {{{name}}} here{hint}")


class CustomHttp(Posts):
    """One account at a provider that is described by its settings (see channel.Channel)."""

    kind: ClassVar[str] = "custom_http"
    Config: ClassVar[type[Any]] = CustomHttpConfig

    def __init__(self, config: CustomHttpConfig, way_out: egress.Egress | None = None) -> None:
        super().__init__(config, way_out)
        self._config = config
        self._codes = WordCodes({}, config)
        self._zone = timezone(timedelta(hours=config.time_zone_h))
        self._constant = {f"account.{name}": word for name, word in config.account.items()} | {
            f"secret.{name}": word.reveal() for name, word in config.secrets.items()
        }

    def cut(self, text: str, counting: texts.Counting) -> Sequence[texts.TextPart]:
        too_long = not self._config.by_template and providers.units(text) > self._config.text_characters_max
        return () if too_long else super().cut(text, counting)

    def takes(self, wording: Wording | None) -> bool:
        return not self._config.by_template or not self._config.why_not(wording)

    # ---- out

    def _put(self, parcels: Sequence[Parcel]) -> Call | Declined:
        (parcel,) = parcels
        config = self._config
        if config.by_template and (declined := config.turn_down(parcel.wording)) is not None:
            return declined
        text = providers.text_of(parcel)
        if not config.by_template and providers.units(text) > config.text_characters_max:
            return Declined("text_too_long", Cause.UNSUPPORTED)
        try:
            return self._call(Filling(config.recipes, {**self._constant, **self._named(parcel, text)}))
        except (KeyError, ValueError, RecursionError) as error:
            # A value the template lacks, or what is no JSON.
            return Declined(f"cannot be written: {type(error).__name__}", Cause.UNSUPPORTED)

    def _named(self, parcel: Parcel, text: str) -> Mapping[str, str]:
        config, wording = self._config, parcel.wording
        now_s = clock.now_s()
        named = {
            "number": parcel.number,
            "number_digits": parcel.number.removeprefix("+"),
            "number_national": providers.national(parcel.number),
            "text": text,
            "sender": parcel.sender,
            "validity_s": str(parcel.validity_s),
            "time": datetime.fromtimestamp(now_s, self._zone).strftime(config.time_format),
            "time_s": str(int(now_s)),
            "time_ms": str(int(now_s * 1000)),
            "nonce": chance.token_hex(8),
            "reference": str(uuid.uuid4()),
            "template": "",
            "signature": "",
            "values_json": "{}",
            "values_list": "[]",
        }
        if wording is None:
            return named
        values = wording.values
        order = config.parameters.get(wording.template, tuple(values))
        return named | {
            "template": config.templates.get(wording.template, wording.template),
            "signature": config.signatures.get(wording.signature, wording.signature),
            "values_json": msgspec.json.encode(values).decode(),
            "values_list": msgspec.json.encode([values[name] for name in order]).decode(),
            **{f"value.{name}": value for name, value in values.items()},
        }

    def _call(self, filling: "Filling") -> Call:
        config = self._config
        filling.fields = lambda: {
            name: written(filling.tree(leaf))
            for name, leaf in config.body.items()
            if not recipes_in(leaves_of(leaf))
        }
        fields = filling.tree(config.body)
        if config.body_form is Form.FORM:
            body = urlencode({name: written(value) for name, value in fields.items()}).encode()
            content_type = "application/x-www-form-urlencoded"
        else:
            body, content_type = msgspec.json.encode(fields), "application/json"
        filling.body = body
        url = filling.text(config.url, lambda value: quote(value, safe=""))
        if len(url) > egress.URL_OCTETS_MAX:
            raise ValueError("an address that is too long")
        headers = {name: filling.text(template) for name, template in config.headers.items()}
        if any(not value.isprintable() for value in headers.values()):
            raise ValueError("a header with a line break")
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = content_type
        return Call(url, headers, body)

    def _outcomes(self, parcels: Sequence[Parcel], answer: egress.Answer) -> Sequence[Outcome]:  # noqa: ARG002
        config = self._config
        if answer.status == 429:
            return (Throttled(providers.retry_after_s(answer), "429"),)
        if answer.status < 300 and not (config.ok_path or config.id_path):
            return (Ack(""),)  # they say no more than that
        try:
            tree = _read(answer.body, config.answer_form, config.answer_separator)
        except BadPush:
            return (providers.by_status(answer),)
        said = at(tree, config.ok_path) if config.ok_path else None
        taken = said in config.ok_values if config.ok_path else answer.status < 300
        if taken and answer.status < 300:
            upstream_id = at(tree, config.id_path) if config.id_path else ""
            return (Ack(upstream_id or "", upstream_id or ""),)
        code = at(tree, config.code_path or config.ok_path)
        if not code:
            return (providers.by_status(answer),)
        says = (at(tree, config.message_path) or "") if config.message_path else ""
        return (self._codes.outcome(code, says, answer.status),)

    # ---- pushes

    def read_push(self, headers: Mapping[str, str], body: bytes) -> Push:
        config = self._config
        if not (config.push_id_path or config.push_text_path):
            return super().read_push(headers, body)
        tree = _read(body, config.push_form)
        self._check_signature(headers, body, tree)
        items = providers.items_of(opened(walk(tree, config.push_items_path)))
        heard = [self._heard(item) for item in items]
        if heard and not any(heard):  # one that is odd must not cost the others
            raise BadPush("neither a report nor a text")
        reports = [one for one in heard if isinstance(one, Report)]
        inbound = [one for one in heard if isinstance(one, Inbound)]
        return Push(reports, inbound, config.push_answer.encode(), config.push_answer_type)

    def _heard(self, item: object) -> Report | Inbound | None:
        config = self._config
        number = at(item, config.push_number_path) if config.push_number_path else None
        number = providers.e164(number or "") or number or ""
        upstream_id = at(item, config.push_id_path) if config.push_id_path else None
        text = at(item, config.push_text_path) if config.push_text_path else None
        if text is not None and number:
            access = at(item, config.push_access_path) if config.push_access_path else None
            return Inbound(number, access or "", text, clock.now_s())
        word = at(item, config.push_status_path) if config.push_status_path else None
        if not upstream_id or word is None:
            return None
        code = (at(item, config.push_code_path) if config.push_code_path else None) or word
        status, cause = Status.UNDELIVERED, Cause.NONE
        if word in config.push_delivered:
            status = Status.DELIVERED
        elif word in config.push_pending:
            status = Status.SUBMITTED
        else:
            cause = self._codes.cause(code)
            status = Status.EXPIRED if cause is Cause.EXPIRED else status
        number = number if number.startswith("+") else ""
        return Report(upstream_id, status, cause, code, clock.now_s(), number=number, final=status.final)

    def _check_signature(self, headers: Mapping[str, str], body: bytes, tree: object) -> None:
        config = self._config
        if not config.push_signature:
            return
        named = {**self._constant, **{f"header.{name.lower()}": value for name, value in headers.items()}}
        filling = Filling(config.recipes, named, body, tree)
        left_out = {name.removeprefix("field.") for name in names_in(config.push_signature_at)}
        filling.fields = lambda: {
            str(name): written(value)
            for name, value in (tree.items() if isinstance(tree, dict) else ())
            if name not in left_out
        }
        try:
            given = filling.text(config.push_signature_at)
            right = filling.cook(config.push_signature)
        except (KeyError, ValueError) as error:
            raise BadPush("without what its signature needs", forged=True) from error
        if not given or not hmac.compare_digest(right, given.encode()):
            raise BadPush("the signature does not fit", forged=True)


def _read(body: bytes, form: Form, separator: str = ",") -> Any:
    """Read an answer or a push into a tree. Raises BadPush."""
    if form is Form.JSON:
        return providers.json_of(body)
    if form is Form.FORM:
        return dict(providers.form_of(body))
    return [word.strip() for word in body.decode("utf-8", "replace").strip().split(separator)]
