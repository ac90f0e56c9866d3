"""What a page with a site key may ask: the bodies, the answers, and how each deed may be refused.

Entry point: PAGES, described by the OpenAPI document as any route is. widget.py does what they say, and tells a page no refusal
that its deed does not list here. They are none of ROUTES: no credentials open them, and a browser asks beforehand.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from hongyan.doors.messages import Number
from hongyan.doors.route import BODY, Reach, Route
from hongyan.doors.verify import Challenge
from hongyan.vocab.errors import Code
from hongyan.vocab.verification import Scene

ROOT: Final = "/v1/widget/{site_key}"

Device = Annotated[
    str,
    Meta(
        max_length=64,
        pattern="^[0-9a-zA-Z_-]*$",
        description="A random word that tells this browser from others",
    ),
]
Handle = Annotated[
    str, Meta(min_length=1, max_length=100, description="`verification` of the answer to `start`")
]


class AskedForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a page is about to show."""

    scene: Scene


class AskedWork(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For whom a code will be asked."""

    number: Number
    scene: Scene


class AskedNewCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who is to prove a number."""

    number: Number
    scene: Scene
    language: Annotated[
        str, Meta(max_length=35, pattern="^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$", description="BCP 47 tag")
    ] = ""
    device: Device = ""
    challenge: Challenge = ""


class AskedSameCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which code is to be sent once more."""

    verification: Handle
    device: Device = ""
    challenge: Challenge = ""


class AskedGuess(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A code that somebody typed."""

    verification: Handle
    code: Annotated[str, Meta(min_length=1, max_length=40)]
    device: Device = ""


class CallingCountry(msgspec.Struct, frozen=True):
    code: Annotated[str, Meta(description="ISO 3166-1 alpha-2")]
    calling: str


class FormSettings(msgspec.Struct, frozen=True):
    """What a page needs to show its form."""

    countries: Sequence[CallingCountry]


class FormCounted(msgspec.Struct, frozen=True):
    """Nothing: the form is in the funnel."""


# ALTCHA's challenge (version 1).
_WORK: Final = {
    "required": ["kind", "algorithm", "challenge", "maxNumber", "salt", "signature", "expires_at"],
    "properties": {
        "kind": {"const": "work"},
        "algorithm": {"const": "SHA-256"},
        "challenge": {"type": "string"},
        "maxNumber": {"type": "integer"},
        "salt": {"type": "string"},
        "signature": {"type": "string"},
        "expires_at": {"type": "integer"},
    },
}


class Challenged(msgspec.Struct, frozen=True):
    """A work to do; docs/widget.md says how to answer it."""

    challenge: Annotated[Mapping[str, Any], Meta(extra_json_schema=_WORK)]


class CodeOnItsWay(msgspec.Struct, frozen=True):
    """A code is on its way. Times are spans: a browser's clock may be wrong."""

    verification: Annotated[str, Meta(description="Only the page that started it holds this word")]
    to: Annotated[str, Meta(description="Masked")]
    digits: int
    letters: bool
    tries_left: int
    resend_in_s: int
    expires_in_s: int


class GuessVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether a code was right, and the proof of it; of anything else, nothing."""

    valid: bool
    proof: str = ""


_EVERY: Final = (Code.AUTH_KEY_NOT_FOUND, Code.VERIFY_ORIGIN_DENIED, Code.VERIFY_MEDIUM_DISABLED, *BODY)
# What a person at a page can do something about. All the rest would tell a stranger who has opted out, whose balance is empty, or
# how texts are worded, and becomes VERIFY_MEDIUM_DISABLED.
_SENDING: Final = (
    *_EVERY,
    Code.NUMBER_REGION_NOT_ALLOWED,
    Code.NUMBER_TEST_ONLY,
    Code.VERIFY_TOO_MANY_SENDS,
    Code.VERIFY_CHALLENGE_REQUIRED,
    Code.VERIFY_CHALLENGE_FAILED,
    Code.VERIFY_SUSPECTED,
    Code.VERIFY_BUDGET,
    Code.VERIFY_FACTOR_REQUIRED,
)
_OF_PAGES: Final[dict[str, Any]] = {
    "method": "POST",
    "reach": Reach.PAGE,
    "permission": None,
    "ids": "text",
}

PAGES: Final = (
    Route(
        path=f"{ROOT}/settings",
        name="getFormSettings",
        summary="What a form to prove a number needs before it is shown.",
        body=AskedForm,
        example={"scene": "login"},
        gives=FormSettings,
        codes=_EVERY,
        **_OF_PAGES,
    ),
    Route(
        path=f"{ROOT}/opened",
        name="countForm",
        summary="Count a form that was shown, for the funnel.",
        body=AskedForm,
        example={"scene": "login"},
        gives=FormCounted,
        codes=_EVERY,
        **_OF_PAGES,
    ),
    Route(
        path=f"{ROOT}/challenge",
        name="getChallenge",
        summary="Get the work that stands before a code, so that it is done when the code is asked for.",
        body=AskedWork,
        example={"number": "+8613800138000", "scene": "login"},
        gives=Challenged,
        codes=(*_EVERY, Code.NUMBER_INVALID),
        **_OF_PAGES,
    ),
    Route(
        path=f"{ROOT}/start",
        name="startFromPage",
        summary="Make a code and send it to a number. It is always asked for with the answer to a challenge.",
        body=AskedNewCode,
        example={"number": "+8613800138000", "scene": "login", "language": "en", "challenge": "eyJhbGci…"},
        gives=CodeOnItsWay,
        codes=(*_SENDING, Code.NUMBER_INVALID),
        **_OF_PAGES,
    ),
    Route(
        path=f"{ROOT}/resend",
        name="resendFromPage",
        summary="Send the same code once more. Neither its life nor its tries are prolonged.",
        body=AskedSameCode,
        example={"verification": "0193a9c8-….5d41402a", "challenge": "eyJhbGci…"},
        gives=CodeOnItsWay,
        codes=(*_SENDING, Code.VERIFY_ENDED),
        **_OF_PAGES,
    ),
    Route(
        path=f"{ROOT}/check",
        name="checkFromPage",
        summary="Check a code. Wrong, unknown, expired and used-up codes look alike.",
        body=AskedGuess,
        example={"verification": "0193a9c8-….5d41402a", "code": "493817"},
        gives=GuessVerdict,
        codes=_EVERY,
        **_OF_PAGES,
    ),
)
