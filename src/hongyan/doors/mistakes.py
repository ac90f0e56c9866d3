"""What people get wrong when they sign a request, and the words to tell them so.

Writes nothing. Entry points: Mistake, MISTAKES.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Mistake(StrEnum):
    """A mistake, by where it lies: the header, the key, one of the six lines, the secret, the MAC."""

    NO_HEADER = "no_header"
    BASIC = "basic"
    SCHEME = "scheme"
    HEADER_FORM = "header_form"
    TARGET_FORM = "target_form"
    OTHER_KEY = "other_key"
    KEY_DISABLED = "key_disabled"
    KEY_EXPIRED = "key_expired"
    APP_OFF = "app_off"
    OLD = "old"
    FUTURE = "future"
    NONCE_USED = "nonce_used"
    TIMESTAMP_MS = "timestamp_ms"
    TIMESTAMP_FORM = "timestamp_form"
    TIMESTAMP_OTHER = "timestamp_other"
    NONCE_FORM = "nonce_form"
    NONCE_OTHER = "nonce_other"
    MAC_UPPER = "mac_upper"
    MAC_BASE64 = "mac_base64"
    MAC_FORM = "mac_form"
    METHOD_CASE = "method_case"
    PATH_HOST = "path_host"
    PATH_SLASH = "path_slash"
    PATH_PREFIX = "path_prefix"
    PATH_QUERY = "path_query"
    PATH_ENCODING = "path_encoding"
    QUERY_ORDER = "query_order"
    QUERY_MARK = "query_mark"
    QUERY_ENCODING = "query_encoding"
    QUERY_LEFT_OUT = "query_left_out"
    BODY_EMPTY = "body_empty"
    BODY_NEWLINE = "body_newline"
    BODY_JSON = "body_json"
    BODY_CRLF = "body_crlf"
    BODY_RAW = "body_raw"
    BODY_HEX_UPPER = "body_hex_upper"
    BODY_BASE64 = "body_base64"
    BODY_HASH = "body_hash"
    LINE_MISSING = "line_missing"
    LINE_ORDER = "line_order"
    JOIN_END = "join_end"
    JOIN_ESCAPED = "join_escaped"
    JOIN_OTHER = "join_other"
    SECRET_SPACE = "secret_space"  # noqa: S105 - the name of a mistake
    SECRET_QUOTED = "secret_quoted"  # noqa: S105
    SECRET_CUT = "secret_cut"  # noqa: S105
    SECRET_ENCODED = "secret_encoded"  # noqa: S105
    SECRET_EMPTY = "secret_empty"  # noqa: S105
    HMAC_HASH = "hmac_hash"
    HMAC_SWAPPED = "hmac_swapped"
    NOT_HMAC = "not_hmac"
    HEX_TWICE = "hex_twice"


M = Mistake
# In English and in Chinese: what is wrong, and what to do.
MISTAKES: Final[Mapping[Mistake, tuple[str, str]]] = {
    M.NO_HEADER: ("There is no Authorization header.", "没有 Authorization 请求头。"),
    M.BASIC: (
        "This request uses HTTP Basic: nothing in it is signed. The key must allow Basic, and id and secret must be right.",
        "该请求使用 HTTP Basic，没有签名可查。请确认密钥允许 Basic，且 ID 与密钥正确。",
    ),
    M.SCHEME: (
        "The header must begin with HONGYAN-HMAC-SHA256 and a space.",
        "请求头必须以 HONGYAN-HMAC-SHA256 加一个空格开头。",
    ),
    M.HEADER_FORM: (
        "The header needs key_id, timestamp, nonce and mac, each once, with commas between and without quotation marks.",
        "请求头需要 key_id、timestamp、nonce、mac 各一次，用逗号分隔，不加引号。",
    ),
    M.TARGET_FORM: ("The path must begin with a slash.", "路径必须以 / 开头。"),
    M.OTHER_KEY: (
        "The header names another key than the one that was chosen here.",
        "请求头中的 key_id 与这里选择的密钥不同。",
    ),
    M.KEY_DISABLED: ("The key is disabled.", "该密钥已停用。"),
    M.KEY_EXPIRED: ("The key has expired.", "该密钥已过期。"),
    M.APP_OFF: ("The app is switched off.", "该应用已停用。"),
    M.OLD: (
        "The timestamp is more than 5 minutes old by now. Where it was so when the request was sent, the clock there is slow.",
        "时间戳距现在已超过 5 分钟。若发送时就如此，说明那台机器的时钟慢了。",
    ),
    M.FUTURE: (
        "The timestamp lies more than 5 minutes ahead: the clock there is fast.",
        "时间戳比服务器时间超前 5 分钟以上：那台机器的时钟快了。",
    ),
    M.NONCE_USED: (
        "This nonce was used: the request has arrived well signed once, and each repetition needs a new nonce.",
        "该 nonce 已使用过：请求曾以正确签名到达。每次重发都要换新的 nonce。",
    ),
    M.TIMESTAMP_MS: (
        "The timestamp counts milliseconds; it must be whole seconds.",
        "时间戳是毫秒，应为整秒。",
    ),
    M.TIMESTAMP_FORM: (
        "The timestamp must be Unix seconds in decimal digits.",
        "时间戳必须是十进制的 Unix 秒数。",
    ),
    M.TIMESTAMP_OTHER: (
        "Another timestamp was signed than stands in the header: take the clock once, and use it in both places.",
        "签名用的时间戳与请求头里的不同：只取一次时间，两处使用同一个值。",
    ),
    M.NONCE_FORM: (
        "The nonce must have 16 to 64 of A-Z a-z 0-9 - _.",
        "nonce 必须是 16 到 64 个 A-Z a-z 0-9 - _ 字符。",
    ),
    M.NONCE_OTHER: (
        "Another nonce was signed than stands in the header.",
        "签名用的 nonce 与请求头里的不同。",
    ),
    M.MAC_UPPER: ("The MAC is in capitals; it must be lower-case.", "mac 是大写十六进制，应为小写。"),
    M.MAC_BASE64: (
        "The MAC is base64; it must be 64 lower-case hexadecimal digits.",
        "mac 是 base64，应为 64 位小写十六进制。",
    ),
    M.MAC_FORM: ("The MAC must be 64 lower-case hexadecimal digits.", "mac 必须是 64 位小写十六进制。"),
    M.METHOD_CASE: ("The method was signed in lower case.", "签名用了小写的请求方法。"),
    M.PATH_HOST: (
        "The path was signed with the host: line 2 is the path alone.",
        "签名的路径带了主机名：第 2 行只写路径。",
    ),
    M.PATH_SLASH: (
        "The path was signed with a slash too few or too many.",
        "签名的路径多了或少了一个斜杠。",
    ),
    M.PATH_PREFIX: ("The path was signed without /v1.", "签名的路径缺少 /v1。"),
    M.PATH_QUERY: (
        "The path was signed with the query: that has a line of its own.",
        "签名的路径带了查询串：查询串应单独成行。",
    ),
    M.PATH_ENCODING: (
        "The path was decoded or encoded again before it was signed.",
        "签名前对路径做了解码或再次编码。",
    ),
    M.QUERY_ORDER: (
        "The query was signed in another order: its fields are sorted by their octets.",
        "查询参数的顺序不对：各字段按字节排序。",
    ),
    M.QUERY_MARK: ("The query was signed with its question mark.", "签名的查询串带了问号。"),
    M.QUERY_ENCODING: (
        "The query was decoded or encoded again: it is signed exactly as it is sent.",
        "查询串被解码或再次编码：应与发送的内容完全一致。",
    ),
    M.QUERY_LEFT_OUT: ("The query was left out.", "签名时漏了查询串。"),
    M.BODY_EMPTY: (
        "The hash of an empty body was signed; the request has one.",
        "签名用的是空请求体的哈希，而请求带有请求体。",
    ),
    M.BODY_NEWLINE: (
        "The body that was hashed and the one that was sent differ by a line feed at the end.",
        "计算哈希的请求体与发送的请求体末尾相差一个换行。",
    ),
    M.BODY_JSON: (
        "The JSON that was hashed is written otherwise than the one that was sent: make the text once, hash it, send it.",
        "计算哈希的 JSON 与发送的写法不同（空格、键序或转义）：只序列化一次，哈希与发送用同一份文本。",
    ),
    M.BODY_CRLF: ("The line ends of the body changed on its way.", "请求体的换行符在途中被改变。"),
    M.BODY_RAW: (
        "The body itself was signed: line 4 is its SHA-256 in hexadecimal.",
        "签名用的是请求体原文：第 4 行应为其 SHA-256 的十六进制。",
    ),
    M.BODY_HEX_UPPER: ("The body's hash was signed in capitals.", "请求体哈希用了大写，应为小写。"),
    M.BODY_BASE64: (
        "The body's hash was signed as base64; it must be hexadecimal.",
        "请求体哈希用了 base64，应为十六进制。",
    ),
    M.BODY_HASH: ("The body's hash is not SHA-256.", "请求体的哈希算法不是 SHA-256。"),
    M.LINE_MISSING: (
        "A line was left out. There are always six; without a query the third is empty.",
        "少了一行。规范串总是六行；没有查询串时第三行为空。",
    ),
    M.LINE_ORDER: (
        "The lines stand in another order: method, path, query, body, timestamp, nonce.",
        "行的顺序不对：方法、路径、查询、请求体哈希、时间戳、nonce。",
    ),
    M.JOIN_END: (
        "There is a line feed at the end; the last line has none.",
        "末尾多了换行，最后一行不带换行。",
    ),
    M.JOIN_ESCAPED: (
        "The lines are joined by a backslash and the letter n instead of a line feed.",
        "行之间写成了反斜杠加字母 n，而不是换行符。",
    ),
    M.JOIN_OTHER: (
        "The lines are joined by something else than a line feed.",
        "行之间用的不是换行符（\\n）。",
    ),
    M.SECRET_SPACE: (
        "A blank or line feed hangs on the secret; a file or a variable often ends with one.",
        "密钥前后带了空白或换行，常见于从文件或变量读取。",
    ),
    M.SECRET_QUOTED: ("The secret was used with its quotation marks.", "密钥连引号一起用了。"),
    M.SECRET_CUT: ("A character of the secret is missing.", "密钥少了字符，没有复制完整。"),
    M.SECRET_ENCODED: (
        "The secret was decoded, encoded or hashed before: it is used as it is written.",
        "密钥被解码、编码或哈希过：应按原样使用。",
    ),
    M.SECRET_EMPTY: (
        "The secret was empty: the program did not find it.",
        "密钥为空：程序没有读到它。",
    ),
    M.HMAC_HASH: ("The HMAC is made with another hash than SHA-256.", "HMAC 用的不是 SHA-256。"),
    M.HMAC_SWAPPED: ("Key and text of the HMAC changed places.", "HMAC 的密钥与内容参数写反了。"),
    M.NOT_HMAC: ("It is a plain hash and no HMAC.", "用的是普通哈希，不是 HMAC。"),
    M.HEX_TWICE: ("The MAC was hashed once more.", "对 mac 又做了一次哈希。"),
}
