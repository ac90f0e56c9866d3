"""A person's stop is understood, kept, and heard at once."""

import asyncio
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import make
from hongyan import db
from hongyan.vocab.message import TenantId
from hongyan.way import optout
from hongyan.way.optout import Start, Stop, Suppressed, word_of

SURE = """
R|r|T|t|TD|td|T D|Ｔ　Ｄ|ＴＤ|N|n|R。|（TD）|退订|退訂|拒收|取消|不要发了|别发了|別發了
屏蔽|0000|回T|回复TD退订
我要退订|退订！！！|怎么退订|请退订，谢谢
不要再发了|别再发短信|别骚扰我|再发投诉你|不要给我发短信|T\u200bD|「退订」|退 订
STOP|Stop.|stop!|StOp|ＳＴＯＰ|s t o p|S.T.O.P
"STOP"|stop 🛑|Stop. Thank you|Stop, please|PLEASE STOP|please stopp
stopp
stpo|sotp|unsubscibe|Unsubscribe|UNSUBSCRIBE PLEASE|OPT OUT|opt-out|optout|Opt me out|remove me|No more
no more texts|QUIT|END|Revoke|cancel|cancel please|STOPALL|stop all|Stop it
stop texting me|stop sending me this
do not text me|Don't text me|don't message me again|take me off|leave me alone|not interested|No thanks
BAJA|parar|Alto|no más|cancelar|ARRÊT|arreter|désabonner|STOP SVP|Stopp bitte|Abmelden|kündigen|aufhören
Sair|parar por favor|PARE|basta|ferma|стоп|СТОП|Отписаться|отписаться пожалуйста
停止|配信停止|やめて|ストップ|ｽﾄｯﾌﾟ
수신거부|그만|중지|توقف|إلغاء|İptal|HỦY|dừng|berhenti
"""
# As people of each language put it; the law: none of these goes unheard.
LANGUAGES = {
    "zh": "取消订阅|不再接收|退订谢谢|TD退订|退訂|請勿再發|停止接收|拒绝接收|不要再给我发短信"
    "|请停止发送|滚|我要取消|QX|不要|不用了",
    "en": "STOP|STOPALL|UNSUBSCRIBE|CANCEL|END|QUIT|REVOKE|OPTOUT|opt out please",
    "es": "BAJA|DARME DE BAJA|darse de baja|ALTO|DETENER|CANCELAR SUSCRIPCIÓN|no más mensajes|no quiero más mensajes"
    "|eliminar|borrar|no enviar más|dejen de enviar mensajes|fin|parad",
    "fr": "ARRÊT|arrêtez|DÉSABONNER|désabonnement|désabonnez-moi|se désinscrire|plus de sms|ne m'envoyez plus|ne m’envoyez plus"
    "|STOP SMS|retirez-moi|résilier",
    "de": "STOPP|abmelden|Abmeldung|abbestellen|Austragen|keine SMS mehr|Widerruf|löschen|nicht mehr schreiben|lasst mich in Ruhe",
    "pt": "PARAR|SAIR|CANCELAR|DESCADASTRAR|não quero receber|nao quero mais|chega|encerrar|não envie mais|me remova",
    "it": "FERMATI|BASTA|CANCELLA|ANNULLA|DISISCRIVI|disiscrivimi|disdire|non voglio più messaggi|rimuovimi|revoca|smettila",
    "ru": "СТОП|ОТПИСАТЬСЯ|отпишите меня|хватит|прекратите|не присылайте больше|удалите мой номер|отказ|отключить|больше не надо",
    "ja": "配信停止|登録解除|配信停止希望|送らないでください|もう送らないで"
    "|キャンセル|受信拒否|やめてください|いりません|配信を停止してください",
    "ko": "수신거부|수신 거부합니다|그만보내세요|보내지 마세요|문자 보내지마|스탑|구독취소|차단",
    "ar": "إيقاف|إلغاء الاشتراك|الغاء الاشتراك|لا ترسل|كفى|وقف|لا أريد رسائل|ستوب",
    "vi": "HỦY|HUY|TC|TU CHOI|từ chối|ngừng|hủy đăng ký|huy dang ky|không nhận|thôi",
    "th": "หยุด|ยกเลิก|ยกเลิกการรับ|ไม่รับ|เลิก|พอ|ไม่ต้องการรับข้อความ|หยุดส่ง|ยกเลิกบริการ",
    "id": "BERHENTI|BATAL|KELUAR|UNREG|UNREG PROMO|hentikan|jangan kirim lagi|stop langganan|hapus nomor saya|tidak mau",
}
COMPLAINTS = "骚扰短信|再发我就投诉|举报你们|投诉"
UNSURE = """
I would be grateful if you could stop writing to me every single day
why on earth do you not just unsubscribe people like me from this
你们的短信太多了我已经说过很多次了要退订请尽快处理一下
please make sure that there are no more of these strange messages today
"""
STARTS = "START|start.|UNSTOP|Yes|YES!|订阅|恢复订阅|取消退订|訂閱|Alta|СТАРТ|재개|ＳＴＡＲＴ|opt in"
NOTHING = """
|   |…|🙂|ok|OK thanks|thank you|yes please come at 5|how are you|您好|好的|收到，谢谢
不退订|我不想退订|没退订|shop|step|quiet|top
don't stop|never stop, I love it|non-stop|the show must go on|What time?|1|10|88|Hi R|see you
谢谢你的礼物|the bank sent it
fine|fine grazie|fin de semana|配信停止しないでください|ยกเลิกนัดพรุ่งนี้|không sao|nein danke schön
Where is the shop|unit 5|I am in the quiet room|cancel my appointment on Friday and tell me|2025|remote|post
"""


def cases(table: str) -> list[str]:
    return [case.encode().decode("unicode_escape") if "\\u" in case else case for case in split(table)]


def split(table: str) -> list[str]:
    return [case for line in table.strip("\n").splitlines() for case in line.split("|")]


@pytest.mark.parametrize("text", cases(SURE))
def test_a_stop_in_any_wording_is_a_stop(text: str) -> None:
    said = word_of(text)
    assert isinstance(said, Stop), text
    assert said.sure


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_stop_is_heard_in_the_persons_language(language: str) -> None:
    unheard = [text for text in split(LANGUAGES[language]) if not isinstance(word_of(text), Stop)]
    assert unheard == []


@pytest.mark.parametrize("text", split(COMPLAINTS))
def test_a_complaint_is_a_stop_and_marked(text: str) -> None:
    said = word_of(text)
    assert isinstance(said, Stop)
    assert said.complaint


@pytest.mark.parametrize("text", UNSURE.strip().splitlines())
def test_a_stop_inside_a_long_sentence_is_unsure_and_counts_meanwhile(text: str) -> None:
    said = word_of(text)
    assert isinstance(said, Stop)
    assert not said.sure


@pytest.mark.parametrize("text", split(STARTS))
def test_a_start_is_a_start(text: str) -> None:
    assert isinstance(word_of(text), Start)


@pytest.mark.parametrize("text", split(NOTHING))
def test_other_texts_are_neither(text: str) -> None:
    assert word_of(text) is None


DECORATIONS = st.text(alphabet=" .!?。！，\u200b\u200e🛑❤️-*", max_size=3)


@given(
    st.sampled_from(["STOP", "退订", "TD", "unsubscribe", "拒收"]), DECORATIONS, DECORATIONS, st.booleans()
)
def test_width_marks_and_emoji_change_nothing(word: str, before: str, after: str, wide: bool) -> None:
    if wide:
        word = "".join(chr(ord(each) + 0xFEE0) if each.isascii() else each for each in word)
    assert isinstance(word_of(before + word + after), Stop)


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    said = word_of(text)
    assert said is None or said == word_of(unicodedata.normalize("NFC", text))


async def suppressions(tx: db.Tx) -> set[tuple[bytes, int, int]]:
    rows = await tx.fetch("SELECT phone_index, tenant_id, kind FROM suppression")
    return {(row["phone_index"], row["tenant_id"], row["kind"]) for row in rows}


ONE = Suppressed(b"1" * 16, TenantId(1))
OTHER = Suppressed(b"1" * 16, TenantId(2))


async def test_a_stop_is_kept_once_and_lifted_by_a_start(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await optout.stop(tx, [ONE, OTHER, ONE])
        await optout.stop(tx, [ONE])
        await optout.block(tx, [ONE])
        assert await suppressions(tx) == {(b"1" * 16, 1, 1), (b"1" * 16, 2, 1), (b"1" * 16, 1, 2)}
        await optout.start(tx, [ONE])
        assert await suppressions(tx) == {(b"1" * 16, 2, 1), (b"1" * 16, 1, 2)}
        await optout.unblock(tx, [ONE])
        assert await suppressions(tx) == {(b"1" * 16, 2, 1)}


async def test_the_first_reason_stays(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await optout.stop(tx, [ONE._replace(reason="stop")])
        await optout.stop(tx, [ONE._replace(reason="td")])
        assert await tx.fetchval("SELECT reason FROM suppression") == "stop"


async def test_gateways_hear_of_a_stop(database: str) -> None:
    async with make.world(database) as world:
        said: asyncio.Queue[str] = asyncio.Queue(10)
        listener = await world.database.own_connection()
        await listener.add_listener(optout.TOPIC, lambda *told: said.put_nowait(told[3]))
        await optout.tell(world.database, [ONE, OTHER, ONE])
        async with asyncio.timeout(20):
            heard = [optout.heard(await said.get()), optout.heard(await said.get())]
        assert heard == [(b"1" * 16, 1), (b"1" * 16, 2)]
        assert said.empty()
        await listener.close()


def test_an_empty_word_says_nothing_of_anybody() -> None:
    assert optout.heard("") is None
