"""Every public code and status with the words of other vendors for it; docs/api/codes.md is printed from here.

`python -m hongyan.doors.codes > docs/api/codes.md` prints it. Entry points: page(), VENDORS.
"""

import sys
import textwrap
from collections.abc import Mapping
from typing import Final, NamedTuple

from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code
from hongyan.vocab.message import Status


class Vendors(NamedTuple):
    """How others say it; empty where they have no word for it."""

    aliyun: str = ""
    tencent: str = ""
    twilio: str = ""


_SIGN_UNKNOWN: Final = "FailedOperation.SignatureIncorrectOrUnapproved"
_PHONE_LIMIT: Final = "LimitExceeded.PhoneNumber"

VENDORS: Final[Mapping[Code, Vendors]] = {
    Code.OK: Vendors("OK", "Ok", "queued"),
    Code.AUTH_MISSING: Vendors("MissingAccessKeyId", "AuthFailure.InvalidAuthorization", "20003"),
    Code.AUTH_KEY_NOT_FOUND: Vendors("InvalidAccessKeyId.NotFound", "AuthFailure.SecretIdNotFound", "20003"),
    Code.AUTH_SIGNATURE_MISMATCH: Vendors("SignatureDoesNotMatch", "AuthFailure.SignatureFailure", "20003"),
    Code.AUTH_EXPIRED: Vendors("InvalidTimeStamp.Expired", "AuthFailure.SignatureExpire", "20003"),
    Code.AUTH_NONCE_USED: Vendors("SignatureNonceUsed", "AuthFailure.SignatureFailure", "20003"),
    Code.AUTH_IP_DENIED: Vendors(
        "isv.DENY_IP_RANGE", "UnauthorizedOperation.RequestIpNotInWhitelist", "20003"
    ),
    Code.AUTH_PERMISSION_DENIED: Vendors(
        "isp.RAM_PERMISSION_DENY", "AuthFailure.UnauthorizedOperation", "20403"
    ),
    Code.REQUEST_ROUTE_NOT_FOUND: Vendors("InvalidAction.NotFound", "InvalidAction", "20404"),
    Code.REQUEST_MISSING_PARAMETER: Vendors("Missing<Parameter>", "MissingParameter", "21604, 60200"),
    Code.REQUEST_INVALID_PARAMETER: Vendors("isv.INVALID_PARAMETERS", "InvalidParameterValue", "60200"),
    Code.REQUEST_MALFORMED_JSON: Vendors("isv.INVALID_JSON_PARAM", "FailedOperation.JsonParseFail", "20001"),
    Code.REQUEST_TOO_MANY_RECIPIENTS: Vendors(
        "isv.MOBILE_COUNT_OVER_LIMIT", "LimitExceeded.PhoneNumberCountLimit"
    ),
    Code.REQUEST_RATE_LIMITED: Vendors("Throttling.User", "RequestLimitExceeded", "20429"),
    Code.REQUEST_NOT_FOUND: Vendors("isv.*", "ResourceNotFound", "20404"),
    Code.ACCOUNT_SUSPENDED: Vendors(
        "isv.ACCOUNT_ABNORMAL", "UnauthorizedOperation.SdkAppIdIsDisabled", "20005"
    ),
    Code.ACCOUNT_BALANCE_INSUFFICIENT: Vendors(
        "isv.AMOUNT_NOT_ENOUGH", "FailedOperation.InsufficientBalanceInSmsPackage", "20008"
    ),
    Code.ACCOUNT_NOT_QUALIFIED: Vendors(tencent="FailedOperation.QualificationIdNotApproved"),
    Code.NUMBER_INVALID: Vendors(
        "isv.MOBILE_NUMBER_ILLEGAL", "InvalidParameterValue.IncorrectPhoneNumber", "21211"
    ),
    Code.NUMBER_REGION_NOT_ALLOWED: Vendors(
        "NOT_SUPPORTED_COUNTRY", "UnsupportedOperation.UnsupportedRegion", "21408"
    ),
    Code.NUMBER_BLOCKED: Vendors(
        "isv.BLACK_KEY_CONTROL_LIMIT", "FailedOperation.PhoneNumberInBlacklist", "21610"
    ),
    Code.NUMBER_OPTED_OUT: Vendors("isv.CUSTOMER_REFUSED", "FailedOperation.PhoneNumberInBlacklist", "21610"),
    Code.NUMBER_TYPE_MISMATCH: Vendors(
        "isv.DOMESTIC_NUMBER_NOT_SUPPORTED", "UnsupportedOperation.*", "21612"
    ),
    Code.NUMBER_TEST_ONLY: Vendors("isv.SMS_TEST_NUMBER_LIMIT", "", "21608"),
    Code.SIGN_NOT_FOUND: Vendors("isv.SMS_SIGNATURE_ILLEGAL", _SIGN_UNKNOWN, "21606"),
    Code.SIGN_NOT_APPROVED: Vendors("isv.SIGN_STATE_ILLEGAL", _SIGN_UNKNOWN, "21606"),
    Code.SIGN_SCENE_MISMATCH: Vendors("isv.SMS_SIGNATURE_SCENE_ILLEGAL", _SIGN_UNKNOWN),
    Code.SIGN_NOT_REGISTERED: Vendors(twilio="30034"),
    Code.TEMPLATE_NOT_FOUND: Vendors(
        "isv.SMS_TEMPLATE_ILLEGAL", "FailedOperation.TemplateUnapprovedOrNotExist", "20404"
    ),
    Code.TEMPLATE_NOT_APPROVED: Vendors(
        "isv.SMS_TEMPLATE_ILLEGAL", "FailedOperation.TemplateIncorrectOrUnapproved"
    ),
    Code.TEMPLATE_MISSING_VARIABLE: Vendors(
        "isv.TEMPLATE_MISSING_PARAMETERS", "FailedOperation.TemplateParamSetNotMatchApprovedTemplate"
    ),
    Code.TEMPLATE_VARIABLE_INVALID: Vendors(
        "isv.TEMPLATE_PARAMS_ILLEGAL", "InvalidParameterValue.TemplateParameterFormatError"
    ),
    Code.TEMPLATE_VARIABLE_TOO_LONG: Vendors(
        "isv.PARAM_LENGTH_LIMIT", "InvalidParameterValue.TemplateParameterLengthLimit"
    ),
    Code.TEMPLATE_VARIABLE_URL: Vendors(
        "isv.PARAM_NOT_SUPPORT_URL", "InvalidParameterValue.ProhibitedUseUrlInTemplateParameter"
    ),
    Code.CONTENT_FORBIDDEN: Vendors(
        "isv.SMS_CONTENT_ILLEGAL", "FailedOperation.ContainSensitiveWord", "30007"
    ),
    Code.CONTENT_TOO_LONG: Vendors(
        "isv.TEMPLATE_OVER_LIMIT", "InvalidParameterValue.ContentLengthLimit", "21617"
    ),
    Code.CONTENT_MISSING_UNSUBSCRIBE: Vendors(
        "CONTENT_ERROR", "InvalidParameterValue.MarketingTemplateWithoutUnsubscribe"
    ),
    Code.CONTENT_SEND_WINDOW: Vendors("", "FailedOperation.MarketingSendTimeConstraint"),
    Code.LIMIT_MINUTE: Vendors(
        "isv.BUSINESS_LIMIT_CONTROL", f"{_PHONE_LIMIT}ThirtySecondLimit", "20429, 60203"
    ),
    Code.LIMIT_HOUR: Vendors("isv.BUSINESS_LIMIT_CONTROL", f"{_PHONE_LIMIT}OneHourLimit", "20429, 60203"),
    Code.LIMIT_DAY: Vendors("isv.BUSINESS_LIMIT_CONTROL", f"{_PHONE_LIMIT}DailyLimit", "20429, 60203"),
    Code.LIMIT_SAME_CONTENT: Vendors(
        "isv.BUSINESS_LIMIT_CONTROL", f"{_PHONE_LIMIT}SameContentDailyLimit", "20429, 60203"
    ),
    Code.ROUTE_NONE: Vendors("NO_ROUTE", "InternalError.OtherError", "30008"),
    Code.SYSTEM_ERROR: Vendors("isp.SYSTEM_ERROR", "InternalError.UnknownError", "20500"),
    Code.SYSTEM_BUSY: Vendors("isp.SYSTEM_ERROR", "InternalError.UnknownError", "20500"),
}

# Ours → what Aliyun, Tencent, Twilio and CMPP's Stat say for it.
STATUSES: Final[Mapping[Status, tuple[str, str, str, str]]] = {
    Status.ACCEPTED: ("1", "", "accepted, queued", ""),
    Status.HELD: ("", "", "", ""),
    Status.SUBMITTED: ("1", "", "sending, sent", ""),
    Status.DELIVERED: ("3 DELIVERED", "SUCCESS DELIVRD", "delivered", "DELIVRD"),
    Status.UNDELIVERED: (
        "2 MOBILE_NOT_ON_SERVICE, CONTENT_KEYWORD, MOBILE_IN_BLACK …",
        "FAIL, with the operator's code",
        "undelivered 30003, 30004, 30005, 30007",
        "UNDELIV, REJECTD, MK:*, MN:*",
    ),
    Status.EXPIRED: ("2 EXPIRED", "FAIL EXPIRED", "undelivered 30036", "EXPIRED, MI:*"),
    Status.UNKNOWN: ("1", "", "sent", "UNKNOWN"),
    Status.REFUSED: ("2 isv.*", "any Code but Ok", "failed", ""),
    Status.CANCELLED: ("", "", "canceled", "DELETED"),
}

_HEAD: Final = """# Codes

Printed from `vocab/errors.py` and `doors/codes.py`. Do not edit:
`python -m hongyan.doors.codes > docs/api/codes.md`.

`code` in an answer is the name; the number is for enumerations in SDKs. The last columns are what other
vendors call the same thing, for those who move.

| number | code | HTTP | meaning | 含义 | Aliyun | Tencent | Twilio |
|---|---|---|---|---|---|---|---|
"""


_STATUS_HEAD: Final = """
## Statuses

What messages become, and how others say it. An upstream's own code always stands beside ours, in `upstream_code`.

| status | Aliyun | Tencent | Twilio | CMPP |
|---|---|---|---|---|
"""

_CAUSE_HEAD: Final = """
## Causes

Why a message did not arrive; `none` where it did, or may yet. What an operator's code usually means stands in
`src/hongyan/vocab/carrier_codes.tsv`; a channel's settings may overrule it.

"""


def page() -> str:
    """Return all codes, statuses and causes as Markdown."""
    rows = []
    for code in sorted(Code, key=lambda code: code.value.number):
        row = code.value
        others = (f"`{name}`" if name else "–" for name in VENDORS.get(code, Vendors()))
        cells = (str(row.number), f"`{row.name}`", str(row.http_status), row.en, row.zh, *others)
        rows.append(f"| {' | '.join(cells)} |\n")
    return (
        _HEAD + "".join(rows) + _STATUS_HEAD + "".join(map(_status_row, STATUSES)) + _CAUSE_HEAD + _causes()
    )


def _status_row(status: Status) -> str:
    return f"| `{status}` | {' | '.join(word or '–' for word in STATUSES[status])} |\n"


def _causes() -> str:
    return textwrap.fill(", ".join(f"`{cause}`" for cause in Cause), 120) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
