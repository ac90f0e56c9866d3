"""Providers' own libraries for Python, asked for signatures: an order in JSON on standard input, the answer on standard output.

What they need besides their pins, aiohttp and cryptography, they take from the interpreter that runs them.
"""

import json
import sys
from typing import Any


def aliyun(order: dict[str, Any]) -> dict[str, Any]:
    """Sign both ways: a request by headers, and a form."""
    from alibabacloud_openapi_util.client import Client  # type: ignore[import-not-found]
    from Tea.request import TeaRequest  # type: ignore[import-not-found]

    request = TeaRequest()
    request.method, request.pathname, request.query = "POST", "/", order["params"]
    request.headers = order["headers"]
    acs3 = Client.get_authorization(
        request,
        "ACS3-HMAC-SHA256",
        order["headers"]["x-acs-content-sha256"],
        order["key_id"],
        order["secret"],
    )
    return {"acs3": acs3, "rpc": Client.get_rpcsignature(order["form"], "POST", order["secret"])}


def tencent(order: dict[str, Any]) -> dict[str, Any]:
    """Write and sign a request at this moment."""
    from tencentcloud.common.credential import Credential  # type: ignore[import-not-found]
    from tencentcloud.common.http.request import RequestInternal  # type: ignore[import-not-found]
    from tencentcloud.sms.v20210111.sms_client import SmsClient  # type: ignore[import-not-found]

    client = SmsClient(Credential(order["secret_id"], order["secret_key"]), "ap-guangzhou")
    request = RequestInternal(order["host"], "POST", "/", header={})
    client._build_req_with_tc3_signature("SendSms", order["params"], request, {})
    body = request.data if isinstance(request.data, str) else request.data.decode()
    return {
        "body": body,
        "at_s": int(request.header["X-TC-Timestamp"]),
        "authorization": request.header["Authorization"],
    }


class Several(dict[str, list[str]]):
    """A form with several values of a name, as frameworks hand it to their validator."""

    def getall(self, name: str) -> list[str]:
        return self[name]


def twilio(order: dict[str, Any]) -> dict[str, Any]:
    """Sign pushes, and say whether signatures of ours are taken."""
    from twilio.request_validator import RequestValidator  # type: ignore[import-not-found]

    validator = RequestValidator(order["token"])
    pushes = [(url, Several(form), signature) for url, form, signature in order["pushes"]]
    return {
        "signatures": [validator.compute_signature(url, form) for url, form, _ in pushes],
        "valid": [validator.validate(url, form, signature) for url, form, signature in pushes],
    }


if __name__ == "__main__":
    sign = {"aliyun": aliyun, "tencent": tencent, "twilio": twilio}[sys.argv[1]]
    print(json.dumps(sign(json.load(sys.stdin))))  # noqa: T201 - it is how it speaks
