"""Refusals: errors that are the caller's, each with a public code that says what to do.

A refusal never pages anyone. The list is closed and documented (docs/api/codes.md is printed from it).
`number` is for enums in SDKs; the words go out in the caller's language.
"""

from enum import Enum
from typing import Any, NamedTuple


class CodeRow(NamedTuple):
    """One public code: name, number, HTTP status, what it means and what to do, in both languages."""

    name: str
    number: int
    http_status: int
    zh: str
    en: str


class Code(Enum):
    """Every public code. Groups by hundreds of thousands: who may mend it."""

    OK = CodeRow("OK", 0, 200, "成功", "Success")
    AUTH_MISSING = CodeRow("Auth.Missing", 10001, 401, "缺少身份凭证", "No credentials were given")
    AUTH_KEY_NOT_FOUND = CodeRow(
        "Auth.KeyNotFound", 10002, 401, "AppKey 不存在或已停用", "Unknown or disabled app key"
    )
    AUTH_SIGNATURE_MISMATCH = CodeRow(
        "Auth.SignatureMismatch", 10003, 401, "签名或密钥不正确", "The request MAC or the secret is wrong"
    )
    AUTH_EXPIRED = CodeRow(
        "Auth.Expired",
        10004,
        401,
        "时间戳与服务器相差超过 5 分钟",
        "The timestamp is more than 5 minutes off our clock",
    )
    AUTH_NONCE_USED = CodeRow(
        "Auth.NonceUsed", 10005, 401, "请求重放：nonce 已使用", "This nonce was used before"
    )
    AUTH_IP_DENIED = CodeRow(
        "Auth.IpDenied", 10006, 403, "来源 IP 不在白名单", "This address is not on the key's allow-list"
    )
    AUTH_PERMISSION_DENIED = CodeRow("Auth.PermissionDenied", 10007, 403, "没有此权限", "You may not do that")
    AUTH_SIGN_IN_ENDED = CodeRow(
        "Auth.SignInEnded",
        10008,
        401,
        "登录已失效，请重新登录",
        "The sign-in or token is unknown or has ended",
    )
    AUTH_SIGN_IN_FAILED = CodeRow(
        "Auth.SignInFailed",
        10009,
        401,
        "邮箱、密码或动态码不正确",
        "The e-mail, the password or the one-time code is wrong",
    )
    AUTH_TOO_MANY_ATTEMPTS = CodeRow(
        "Auth.TooManyAttempts",
        10010,
        429,
        "尝试次数过多，请稍后再试",
        "Too many attempts; wait and try again",
    )
    AUTH_ONE_TIME_CODE_NEEDED = CodeRow(
        "Auth.OneTimeCodeNeeded",
        10011,
        401,
        "请输入动态码",
        "A one-time code of the authenticator is needed too",
    )
    REQUEST_ROUTE_NOT_FOUND = CodeRow(
        "Request.ActionNotFound", 11001, 404, "没有这个接口", "There is no such route"
    )
    REQUEST_MISSING_PARAMETER = CodeRow(
        "Request.MissingParameter", 11002, 400, "缺少参数", "A parameter is missing"
    )
    REQUEST_INVALID_PARAMETER = CodeRow(
        "Request.InvalidParameter", 11003, 400, "参数不正确", "A parameter is wrong"
    )
    REQUEST_MALFORMED_JSON = CodeRow(
        "Request.MalformedJson", 11004, 400, "JSON 格式错误", "The body is not valid JSON"
    )
    REQUEST_TOO_MANY_RECIPIENTS = CodeRow(
        "Request.TooManyRecipients", 11005, 400, "一次最多 1000 条", "At most 1,000 messages in one request"
    )
    REQUEST_IDEMPOTENCY_CONFLICT = CodeRow(
        "Request.IdempotencyConflict",
        11006,
        409,
        "该 Idempotency-Key 已用于其他内容",
        "This Idempotency-Key was used with another body",
    )
    REQUEST_RATE_LIMITED = CodeRow(
        "Request.RateLimited", 11007, 429, "请求过于频繁", "Too many requests for this key"
    )
    REQUEST_NOT_FOUND = CodeRow("Request.NotFound", 11008, 404, "对象不存在", "There is no such object")
    REQUEST_TOO_LARGE = CodeRow("Request.TooLarge", 11009, 413, "请求体过大", "The request body is too large")
    REQUEST_METHOD_NOT_ALLOWED = CodeRow(
        "Request.MethodNotAllowed", 11010, 405, "请求方法不支持", "The route does not take this method"
    )
    REQUEST_TOO_LATE = CodeRow(
        "Request.TooLate",
        11011,
        409,
        "消息已提交或已结束，不能取消",
        "The message has left or is final; it cannot be cancelled",
    )
    REQUEST_CONFLICT = CodeRow(
        "Request.Conflict", 11012, 409, "当前状态不允许此操作", "Its present state does not allow that"
    )
    REQUEST_UNSUPPORTED_FILE = CodeRow(
        "Request.UnsupportedFile", 11013, 415, "文件类型不支持", "A file of this kind is not taken"
    )
    ACCOUNT_SUSPENDED = CodeRow("Account.Suspended", 12001, 403, "账户已停用", "The account is suspended")
    ACCOUNT_BALANCE_INSUFFICIENT = CodeRow(
        "Account.BalanceInsufficient", 12002, 402, "余额不足", "The balance does not cover this message"
    )
    ACCOUNT_NOT_QUALIFIED = CodeRow(
        "Account.NotQualified",
        12007,
        403,
        "企业资质未通过审核，只能使用沙箱密钥",
        "The enterprise's qualification is not approved: sandbox keys alone may send",
    )
    NUMBER_INVALID = CodeRow(
        "Number.Invalid", 13001, 400, "号码不正确", "This is not a number that can receive messages"
    )
    NUMBER_REGION_NOT_ALLOWED = CodeRow(
        "Number.RegionNotAllowed",
        13002,
        403,
        "未开通该国家或地区",
        "This country is not enabled for the account",
    )
    NUMBER_BLOCKED = CodeRow(
        "Number.Blacklisted", 13003, 403, "号码在黑名单中", "The number is on a block list"
    )
    NUMBER_OPTED_OUT = CodeRow("Number.Unsubscribed", 13004, 403, "用户已退订", "The person has opted out")
    NUMBER_TYPE_MISMATCH = CodeRow(
        "Number.TypeMismatch",
        13005,
        400,
        "模板不适用于该地区号码",
        "The template is not for numbers of this region",
    )
    NUMBER_TEST_ONLY = CodeRow(
        "Number.TestOnly",
        13006,
        403,
        "沙箱密钥只能发送到测试号码",
        "A sandbox key may only write to sandbox numbers",
    )
    SIGN_NOT_FOUND = CodeRow("Sign.NotFound", 14001, 400, "签名不存在", "There is no such signature")
    SIGN_NOT_APPROVED = CodeRow(
        "Sign.NotApproved", 14002, 400, "签名未通过审核", "The signature is not approved"
    )
    SIGN_SCENE_MISMATCH = CodeRow(
        "Sign.SceneMismatch", 14004, 400, "模板绑定了其他签名", "The template is bound to another signature"
    )
    SIGN_NOT_REGISTERED = CodeRow(
        "Sign.NotRegistered",
        14005,
        403,
        "签名未在该运营商完成实名报备",
        "The signature is not filed at the number's operator, and every channel for it demands that",
    )
    TEMPLATE_NOT_FOUND = CodeRow("Template.NotFound", 15001, 400, "模板不存在", "There is no such template")
    TEMPLATE_NOT_APPROVED = CodeRow(
        "Template.NotApproved", 15002, 400, "模板未通过审核", "The template is not approved"
    )
    TEMPLATE_MISSING_VARIABLE = CodeRow(
        "Template.MissingVariable",
        15003,
        400,
        "模板变量缺失或多余",
        "A template variable is missing or unknown",
    )
    TEMPLATE_VARIABLE_INVALID = CodeRow(
        "Template.VariableInvalid", 15004, 400, "模板变量不符合规则", "A template variable breaks its rule"
    )
    TEMPLATE_VARIABLE_TOO_LONG = CodeRow(
        "Template.VariableTooLong", 15005, 400, "模板变量过长", "A template variable is too long"
    )
    TEMPLATE_VARIABLE_URL = CodeRow(
        "Template.VariableUrl", 15006, 400, "模板变量不能包含链接", "A template variable may not carry a link"
    )
    TEMPLATE_LOCKED = CodeRow(
        "Template.Locked",
        15007,
        409,
        "该版本正在审核，撤回后才能修改",
        "This version is under review; withdraw it to change it",
    )
    TEMPLATE_UNSOUND = CodeRow(
        "Template.Unsound",
        15008,
        400,
        "模板内容不符合规范，见 findings",
        "The text breaks rules of its kind; see findings",
    )
    CONTENT_FORBIDDEN = CodeRow(
        "Content.Forbidden", 16001, 400, "内容包含违禁词", "The text contains a forbidden word"
    )
    CONTENT_TOO_LONG = CodeRow("Content.TooLong", 16002, 400, "内容过长", "The text is too long")
    CONTENT_MISSING_UNSUBSCRIBE = CodeRow(
        "Content.MissingUnsubscribe",
        16004,
        400,
        "营销短信缺少退订提示",
        "A promotional text must say how to opt out",
    )
    CONTENT_SEND_WINDOW = CodeRow(
        "Content.SendWindow",
        16005,
        400,
        "有效期内没有允许的发送时段",
        "No allowed sending hours lie within the validity",
    )
    CONTENT_INCOMPLETE = CodeRow(
        "Content.Incomplete",
        16006,
        400,
        "长短信的其余分段未到达",
        "The other parts of the long text did not come",
    )
    LIMIT_MINUTE = CodeRow(
        "Limit.Minute", 17001, 429, "该号码每分钟发送次数超限", "The number's limit per minute is reached"
    )
    LIMIT_HOUR = CodeRow(
        "Limit.Hour", 17002, 429, "该号码每小时发送次数超限", "The number's limit per hour is reached"
    )
    LIMIT_DAY = CodeRow(
        "Limit.Day", 17003, 429, "该号码每日发送次数超限", "The number's limit per day is reached"
    )
    LIMIT_SAME_CONTENT = CodeRow(
        "Limit.SameContent", 17004, 429, "相同内容重复发送", "The same text was just sent to this number"
    )
    VERIFY_NOT_FOUND = CodeRow("Verify.NotFound", 19001, 404, "验证不存在", "There is no such verification")
    VERIFY_TOO_MANY_SENDS = CodeRow(
        "Verify.TooManySends",
        19004,
        429,
        "验证码发送过于频繁，请稍后再试；已发送的验证码仍然有效",
        "Too many codes were asked for; wait. The one sent before is still valid",
    )
    VERIFY_MEDIUM_DISABLED = CodeRow(
        "Verify.MediumDisabled", 19005, 400, "未开通该验证方式", "Codes are not sent by this medium here"
    )
    VERIFY_CHALLENGE_REQUIRED = CodeRow(
        "Verify.ChallengeRequired",
        19006,
        403,
        "请先完成人机验证",
        "Solve the challenge in detail first, and send its answer along",
    )
    VERIFY_CHALLENGE_FAILED = CodeRow(
        "Verify.ChallengeFailed",
        19007,
        403,
        "人机验证未通过，请重试",
        "The answer to the challenge is wrong, too late, used, or was made for another number or scene",
    )
    VERIFY_SUSPECTED = CodeRow(
        "Verify.Suspected",
        19008,
        429,
        "疑似恶意获取验证码，已暂停发送",
        "Codes to such numbers are hardly ever used just now; sending there is paused",
    )
    VERIFY_BUDGET = CodeRow(
        "Verify.Budget",
        19009,
        429,
        "验证码当日预算已用完",
        "The budget for codes of the last 24 hours is spent",
    )
    VERIFY_FACTOR_REQUIRED = CodeRow(
        "Verify.FactorRequired",
        19010,
        403,
        "该号码验证失败次数过多，请改用其他验证方式",
        "Too many wrong codes for this number in 30 days: ask for another factor",
    )
    VERIFY_ENDED = CodeRow(
        "Verify.Ended", 19011, 409, "验证已结束", "The verification has ended; start a new one"
    )
    VERIFY_PROOF_INVALID = CodeRow(
        "Verify.ProofInvalid",
        19012,
        400,
        "验证凭证无效、已使用或已过期",
        "The proof is forged, was used before, or is older than 5 minutes",
    )
    VERIFY_CARELESS = CodeRow(
        "Verify.Careless",
        19013,
        400,
        "设置过于宽松，验证码容易被猜中",
        "So set, codes could be guessed; see detail",
    )
    VERIFY_ORIGIN_DENIED = CodeRow(
        "Verify.OriginDenied",
        19014,
        403,
        "该网页不在站点密钥的白名单",
        "This page is not among the origins of the site key",
    )
    ROUTE_NONE = CodeRow(
        "Route.None", 20001, 503, "没有可用的通道配置", "No configured channel can ever carry this"
    )
    SYSTEM_ERROR = CodeRow(
        "System.Error", 50000, 500, "系统错误，请带 request_id 联系我们", "Our fault; tell us the request_id"
    )
    SYSTEM_BUSY = CodeRow(
        "System.Busy",
        50001,
        503,
        "系统繁忙，请稍后重试",
        "Busy; try again, with an Idempotency-Key so that it is sent once",
    )


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error
    """Raised to refuse a request. `detail` says exactly what was wrong, for programs; never a secret or a number."""

    def __init__(self, code: Code, *, retry_after_s: float | None = None, **detail: Any) -> None:
        super().__init__(code.value.name)
        self.code = code
        self.retry_after_s = retry_after_s
        self.detail = detail
