"""What several rules look for: links, ways to get in touch, opt-out texts, words that sell.

Writes nothing; pure. All are sought in texts where FILLED stands for a variable. None may begin with a repeat without
an end: it would be tried anew at each place, and the time would be the square of the length.
"""

import re
from typing import Final

from hongyan.control.lint.finding import FILLED

# Domains that texts really name, and any word after http:// or www. A variable (FILLED) may be part of one.
_HOST: Final = rf"[A-Za-z0-9{FILLED}-]+"
_TOP: Final = (
    "com|cn|net|org|info|top|xyz|cc|me|io|vip|shop|link|co|app|dev|biz|tv|site|online|store|club|hk|tw|sg|jp|"
    "kr|uk|de|fr|es|it|nl|us|eu|in|ly|gl|gov|edu|mobi|ltd|fun|live|wang"
)
_REST: Final = rf"[A-Za-z0-9{FILLED}\-._~:/?#\[\]@!$&'*+;=%]"
LINK: Final = re.compile(
    rf"(?:https?://|(?<![A-Za-z0-9@.])www\.){_REST}+"
    rf"|(?<![A-Za-z0-9@.{FILLED}-])(?:{_HOST}\.)+(?:{_TOP})(?![A-Za-z0-9.-])(?:[/?:{FILLED}]{_REST}*)?",
    re.IGNORECASE,
)
# https://wicg.github.io/sms-one-time-codes: the last line binds a code to the site that asked for it.
BOUND_CODE: Final = re.compile(rf"(?:^|\n)@[a-z0-9.-]+ #[A-Za-z0-9{FILLED}]+\s*$", re.IGNORECASE)

PUBLIC_CONTACT: Final = (
    r"(?<![0-9+-])(?:[48]00-?[0-9]{3}-?[0-9]{4}|9[56][0-9]{3,4}|100[0-9]{2}|123[0-9]{2}"
    r"|\(?0[0-9]{2,3}\)?[- ]?[0-9]{7,8})(?![0-9])"
)
PRIVATE_CONTACT: Final = (
    r"(?<![0-9])1[3-9][0-9]{9}(?![0-9])|(?<![0-9A-Za-z])\+[1-9][0-9][0-9 -]{6,16}[0-9]"
    r"|(?:QQ|扣扣|企鹅)(?:群|号|群号)?[:： ]*[0-9]{5,11}"
    r"|(?:微信|威信|薇信|溦信|徽信|V信|WeChat)(?:号|ID)?[:： ]+[A-Za-z][A-Za-z0-9_-]{5,19}"
    r"|加(?:微信|威信|薇信|溦信|徽信|扣扣|V|Q|QQ|群|好友)(?![A-Za-z])"
    r"|(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+\.[A-Za-z]{2,}"
)
CONTACT: Final = re.compile(f"{PUBLIC_CONTACT}|{PRIVATE_CONTACT}", re.IGNORECASE)
PRIVATE: Final = re.compile(PRIVATE_CONTACT, re.IGNORECASE)

_JOINT: Final = r"[,，;；。.!！、\s]{0,4}"
OPT_OUT_CHINESE: Final = re.compile(
    rf"{_JOINT}[(（]?(?:(?:拒收|退订)(?:短信)?请?(?:回复?|发送?)\s*(?:[A-Za-z0-9]{{1,4}}(?![A-Za-z0-9])|{FILLED}+)"
    r"|(?:不想|不愿|不再|无需)(?:再|继续)?(?:收到|接收)[^,，;；。.!！\n]{0,8}?请?回复?\s*(?:TD|T|R|N)(?![A-Za-z0-9])"
    r"|回复?\s*(?:TD|T|R|N|QX)(?![A-Za-z0-9])\s*(?:即可)?(?:退订|拒收)|回复?\s*TD(?![A-Za-z0-9]))[)）]?",
    re.IGNORECASE,
)
OPT_OUT_ENGLISH: Final = re.compile(
    r"\s{0,4}\b(?:(?:reply|text|send|txt)\s+[\"'“]?(?:stop|end|quit|unsubscribe)[\"'”]?"
    r"(?:\s+to\s+(?:opt[ -]?out|unsubscribe|stop|end))?|unsubscribe|opt[ -]?out)\b[.!]?",
    re.IGNORECASE,
)
OPT_OUT_END: Final = re.compile(r"拒收请回复R[。.]?\s*$")

# Words that sell. They only warn: a notice may well speak of a discount that somebody has.
SELLING: Final = re.compile(
    "优惠|促销|特价|特惠|打折|折扣|满减|立减|秒杀|抢购|红包|代金券|抵用券|免费领|限时|大促|新品上市|爆款|买一送一|"
    "钜惠|清仓|会员日|双十一|双11|618|返现|返利|福利|低至|[0-9一二三四五六七八九]折|点击领取|立即领取|"
    r"\b(?:discounts?|coupons?|promo(?:tion)?s?|special offers?|limited time|free gift|flash sale|on sale|"
    r"buy now|shop now|best deals?|[0-9]{1,2} ?% off)\b",
    re.IGNORECASE,
)

CODE_WORD: Final = re.compile(
    "验证码|注册码|校验码|动态码|动态密码|认证码|确认码|(?:[认認]?[証证]|[確确][认認])コード|인증번호|인증 번호|"
    r"رمز|код|κωδικ|รหัส|"
    r"\b(?:(?:pass|one-time |verification |security |confirmation |login |access |auth(?:entication)? )?codes?|otp|"
    r"one-time pass(?:word|code)|pin|c[oó]digo|codice|codi|kode|kod|mã|bestätigungscode|code)\b",
    re.IGNORECASE,
)
CODE_USE: Final = re.compile(
    "登录|登陆|注册|绑定|修改|更换|更改|找回|重置|支付|付款|提现|转账|验证身份|身份验证|认证|签署|授权|注销|解绑|下单|"
    r"\b(?:log[ -]?in|sign[ -]?in|sign[ -]?up|register|registration|verify|reset|change|pay(?:ment)?|confirm|transfer|bind|link|"
    r"withdraw(?:al)?|authori[sz]e|log on)\b",
    re.IGNORECASE,
)
CODE_VALIDITY: Final = re.compile(
    "分钟|小时|秒内|有效|过期|失效|逾期|"
    r"\b(?:valid|expires?|expiry|minutes?|mins?|hours?)\b",
    re.IGNORECASE,
)
