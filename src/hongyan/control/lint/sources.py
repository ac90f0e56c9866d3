"""Where the rules are from. Writes nothing.

A provider's rules bind its own channels; where the whole field has the same rule, one of them is named as witness.
"""

from typing import Final

from hongyan.control.lint.finding import Source

SEEN: Final = "2026-11-25"
ORDER_31: Final = Source("工业和信息化部令第31号《通信短信息服务管理规定》", "2026-11-22")
ALIYUN_APPLY: Final = Source("阿里云 申请短信模板 https://help.aliyun.com/document_detail/44357.html", SEEN)
ALIYUN_NOTICE: Final = Source(
    "阿里云 通知短信模板规范 https://help.aliyun.com/document_detail/463270.htm", SEEN
)
ALIYUN_KINDS: Final = Source(
    "阿里云 TemplateRule 参数填写示例 https://help.aliyun.com/document_detail/2806243.html", SEEN
)
ALIYUN_ERRORS: Final = Source(
    "阿里云 API 错误码 https://help.aliyun.com/zh/sms/developer-reference/api-error-codes", "2026-11-22"
)
TENCENT_FAQ: Final = Source("腾讯云 模板相关问题 https://cloud.tencent.com/document/product/382/13301", SEEN)
TENCENT_ERRORS: Final = Source(
    "腾讯云 错误码 https://cloud.tencent.com/document/product/382/59177", "2026-11-22"
)
HUAWEI_VARIABLES: Final = Source(
    "华为云 短信变量须知 https://support.huaweicloud.com/productdesc-msgsms/sms_faq_0003.html", SEEN
)
BAIDU_TEMPLATES: Final = Source("百度云 模板审核规范 https://cloud.baidu.com/doc/SMS/s/vkihe2msj", SEEN)
GSM_ALPHABET: Final = Source("3GPP TS 23.038 §6.2.1", SEEN)
GSM_PARTS: Final = Source("3GPP TS 23.040 §9.2.3.24", SEEN)
BOUND_CODES: Final = Source(
    "WICG Origin-bound one-time codes delivered via SMS https://wicg.github.io/sms-one-time-codes/",
    "2026-11-26",
)
AUTOFILL: Final = Source("hongyan vocab/autofill.py", "2026-11-26")
OURS: Final = Source("hongyan docs/wording-rules.md", SEEN)
