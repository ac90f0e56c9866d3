"""People who said stop: recognise it in any wording, keep it, let what is queued hear of it.

Writes: suppression. Entry points: word_of() reads a text; stop(), start(), block() and unblock() keep what
follows; tell() wakes the gateways, after the commit. A stop counts for promotional messages, a block for
everything. Nearly right is right: who may have said stop is not written to; START undoes it. Only the keyed
index of the number is kept, so a stop outlives the erasure of the person.
"""

import unicodedata
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, LiteralString, NamedTuple

from hongyan import db
from hongyan.vocab.message import TenantId
from hongyan.vocab.plain import SIMPLIFIED

TOPIC: Final = "stopped"
OPT_OUT: Final = 1  # suppression.kind
BLOCK: Final = 2
TEXT_UNITS_MAX: Final = 2_000  # of an inbound text that is read; bounds the work on garbage
SENTENCE_WORDS_MAX: Final = 6  # with more words around it, 'stop' may mean something else: unsure
SHORT_UNITS_MAX: Final = 12  # of a Chinese text in which a part decides
PLATFORM: Final = TenantId(0)


class Stop(NamedTuple):
    """The person wants no more. Unsure: a human should look, but nothing is sent meanwhile."""

    word: str  # normalised: which word decided
    sure: bool = True
    complaint: bool = False


class Start(NamedTuple):
    """The person takes it back."""

    word: str


class Entry(NamedTuple):
    """One row of suppression, as lists show it."""

    phone_index: bytes
    kind: int
    reason: str
    since: datetime


class Suppressed(NamedTuple):
    """Whom a tenant no longer writes to."""

    phone_index: bytes
    tenant_id: TenantId
    reason: str = ""


def word_of(text: str) -> Stop | Start | None:
    """Say what an inbound text asks for: Stop, Start, or nothing of the kind (None).

    Wordings after 47 CFR 64.1200(a)(10) (stop, quit, end, revoke, opt out, cancel, unsubscribe, and what a
    reasonable person would understand), the mainland's R, T, TD, N and 退订, and what is usual elsewhere.
    """
    words = _words(text[:TEXT_UNITS_MAX])
    whole = "".join(words)
    if not whole:
        return None
    if whole in _START:
        return Start(whole)
    return _exact(words, whole) or _chinese(whole) or _sentence(words)


def _words(text: str) -> Sequence[str]:
    """Split into bare words: width, traditional script, case, accents, punctuation, emoji do not count."""
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_SIMPLIFIED)
    # Decomposing drops accents (parár), and would tear Hangul and kana marks apart if it were not undone.
    bare = "".join(each for each in unicodedata.normalize("NFD", plain) if not _is_accent(each))
    kept = (
        each if _is_letter(each) else " " for each in unicodedata.normalize("NFC", bare) if _is_seen(each)
    )
    return "".join(kept).split()


def _is_letter(each: str) -> bool:
    return unicodedata.category(each)[0] in "LNM"


def _is_accent(each: str) -> bool:
    return "\u0300" <= each <= "\u036f"


def _is_seen(each: str) -> bool:
    """Zero-width and direction marks (Cf), variation selectors and apostrophes join what is around them."""
    return unicodedata.category(each) != "Cf" and not "\ufe00" <= each <= "\ufe0f" and each not in "'’ʼ`"


def _exact(words: Sequence[str], whole: str) -> Stop | None:
    if whole in _STOP:
        return Stop(whole)
    joined = "".join(word for word in words if word not in _COURTESIES)
    # A lone letter among courtesies ('you r', 'hi T') is no stop; alone it is.
    if joined in _STOP and (len(joined) > 2 or not joined.isascii()):
        return Stop(joined)
    if joined in _INNOCENT:
        return None
    near = next((stop for stop in _FORGIVING if _one_slip(joined, stop)), None)
    return None if near is None else Stop(near)


def _chinese(whole: str) -> Stop | None:
    for part, complaint in _CHINESE_PARTS.items():
        denied = any(denial + part in whole for denial in _CHINESE_DENIALS if not complaint)
        denied = denied or any(part + denial in whole for denial in _DENIALS_BEHIND)
        if part in whole and not denied:
            return Stop(part, sure=len(whole) <= SHORT_UNITS_MAX, complaint=complaint)
    return None


def _sentence(words: Sequence[str]) -> Stop | None:
    sure = len(words) <= SENTENCE_WORDS_MAX
    spaced = f" {' '.join(words)} "
    for phrase in _PHRASES:
        if f" {phrase} " in spaced:
            return Stop(phrase, sure=sure)
    for before, word in zip(["", *words], words, strict=False):
        if before not in _DENIALS and (word in _LOUD or _is_nearly_loud(word)):
            return Stop(word, sure=sure)
    return None


def _is_nearly_loud(word: str) -> bool:
    return word not in _INNOCENT and any(_one_slip(word, loud) for loud in _LOUD_FORGIVING)


def _one_slip(said: str, meant: str) -> bool:
    """Whether at most one letter more, less, other or swapped makes the one of the other."""
    if abs(len(said) - len(meant)) > 1:
        return False
    shorter, longer = sorted((said, meant), key=len)
    pairs = enumerate(zip(shorter, longer, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), len(shorter))
    if len(shorter) < len(longer):
        return shorter[at:] == longer[at + 1 :]
    swapped = shorter[:at] + shorter[at : at + 2][::-1] + shorter[at + 2 :]
    return shorter[at + 1 :] == longer[at + 1 :] or swapped == longer


_SIMPLIFIED: Final = str.maketrans(dict(SIMPLIFIED))


def _bare(words: str) -> frozenset[str]:
    """Read a list as a person's text is read, so that both are bared of the same things."""
    return frozenset("".join(_words(word)) for word in words.split())


_START: Final = _bare(
    """
    start unstop yes resume subscribe resubscribe optin startall
    订阅 恢复 恢复订阅 重新订阅 取消退订 重新接收 恢复接收
    alta iniciar empezar reprendre démarrer abonner anmelden starten iscriviti inizia старт подписаться
    再開 配信再開 登録 재개 수신동의 اشترك ابدأ
    """
)
_STOP: Final = _bare(
    """
    r t td n tt tdd 0000
    qx 滚 滚蛋 不要 不要了 不用了 我要取消 停止接收 拒绝接收
    退订 拒收 取消 取消订阅 退 退定 不要发了 别发了 屏蔽 停止 停止发送 拒绝 不需要 请勿打扰 勿扰 别烦我
    回t 回td 回r 回n 回复t 回复td 回复r 回复n
    stop stopall quit end revoke optout cancel unsubscribe unsub remove removeme nomore stopit stopthis
    stopsms stoptext stoptexts stoptexting stoptextingme stopmessages stopmessaging stopmessagingme
    stopsending takemeoff cancelsubscription nothanks notinterested
    baja parar parad para alto detener cancelar salir desuscribir desuscribirme nomás basta eliminar borrar quitar fin
    dardebaja dardebajasms cancelarsuscripción
    arrêt arrêter stopper désabonner désabonnement désabonnezmoi désinscription désinscrire sedésinscrire annuler
    résilier retirezmoi cesser
    stopp abmelden abmeldung abbestellen kündigen aufhören austragen ende beenden widerruf widerrufen löschen entfernen
    stornieren
    sair pare parem cancele remover descadastrar descadastre descadastro desinscrever encerrar chega meremova
    fermati ferma annulla cancella disiscrivi disiscrivimi cancellami disdire disdetta rimuovi rimuovimi revoca smettila
    disattiva
    стоп отписаться отписка отпишите отмена хватит прекратить прекратите отказ отказаться отказываюсь отключить отключите
    удалить удалите
    配信停止 解除 登録解除 やめて やめる やめてください 中止 ストップ 配信解除 退会 停止してください キャンセル 拒否 受信拒否
    不要 不要です いりません
    수신거부 거부 중지 정지 해지 그만 취소 스톱 스탑 차단 수신차단 구독취소 그만보내 그만보내세요
    توقف الغاء إلغاء قف ايقاف إيقاف أوقف وقف كفى ستوب الغاءالاشتراك إلغاءالاشتراك
    hủy huỷ huy hủyđăngký huydangky dừng dung ngừng thôi từchối tuchoi tc
    หยุด ยกเลิก เลิก พอ ไม่รับ
    batal batalkan berhenti henti hentikan keluar unreg unregpromo
    afmelden stoppen iptal dur wypisz rezygnuję
    """
)
_LONG_UNITS_MIN: Final = 6  # shorter words have too many neighbours
_FORGIVING: Final = (
    "stop",
    "quit",
    *sorted(word for word in _STOP if len(word) >= _LONG_UNITS_MIN and word.isalpha() and word.isascii()),
)
# A letter away from a stop, and something else.
_INNOCENT: Final = _bare(
    """
    shop step stow atop spot top stoop stomp stops store story quiet quite suit unit quid quiz quilt
    remote removed removes cancer canceler canceled dinner
    """
)
_COURTESIES: Final = _bare(
    """
    please pls plz thank thanks you thx ty now immediately ok okay kindly hi hello dear sir the this it to
    谢谢 请 麻烦 por favor gracias merci s il vous plait svp bitte danke obrigado obrigada grazie per favore
    пожалуйста спасибо ください お願いします
    """
)
# Parts that decide in a text written without blanks (in a long one unsurely), and whether they are a complaint as well.
_CHINESE_PARTS: Final = {
    "骚扰": True,
    "投诉": True,
    "举报": True,
    "退订": False,
    "拒收": False,
    "别再发": False,
    "别再给我发": False,
    "不要再给我发": False,
    "勿再发": False,
    "停止发送": False,
    "停止接收": False,
    "拒绝接收": False,
    "不要再发": False,
    "不要发": False,
    "别发": False,
    "别给我发": False,
    "不要给我发": False,
    "勿发": False,
    "不再接收": False,
    "配信停止": False,
    "配信を停止": False,
    "受信拒否": False,
    "送らないで": False,
    "수신거부": False,
    "보내지마": False,
    "หยุดส่ง": False,
    "เลิกส่ง": False,
    "ยกเลิกการรับ": False,
    "ยกเลิกบริการ": False,
    "ไม่รับข้อความ": False,
    "ไม่ต้องการรับ": False,
}
_CHINESE_DENIALS: Final = ("不", "不要", "不想", "不会", "不用", "不需要", "没", "没有", "取消", "别")
_DENIALS_BEHIND: Final = ("しないで", "하지마")
_PHRASES: Final = tuple(
    " ".join(_words(phrase))
    for phrase in """
    opt out|opt me out|remove me|no more|take me off|leave me alone|do not text|dont text|do not message|dont message
    do not contact|dont contact
    no más|no quiero más|no enviar más|no envíen más|no me envíen|dejen de enviar
    ne plus recevoir|plus de sms|n'envoyez plus|ne m'envoyez plus
    keine nachrichten mehr|keine sms mehr|nicht mehr schreiben|lasst mich in ruhe
    não quero receber|não quero mais|não envie mais|não enviem mais|não enviar mais
    non voglio più|non inviare più|non inviatemi più
    не пишите|не присылайте|не надо присылать|больше не надо|удалите мой номер|отпишите меня
    보내지 마세요|보내지 마
    لا ترسل|لا ترسلوا|لا أريد رسائل
    không nhận|không muốn nhận|từ chối nhận|tu choi nhan
    jangan kirim|stop langganan|berhenti langganan|hapus nomor saya|tidak mau
    """.replace("\n", "|").split("|")
    if phrase.strip()
)
_LOUD: Final = _bare(
    "stop stopall unsubscribe optout revoke désabonner abmelden cancelar отписаться стоп baja unreg"
)
_LOUD_FORGIVING: Final = ("stop", "unsubscribe", "optout", "revoke")
_DENIALS: Final = frozenset({"dont", "never", "not", "non", "cannot", "cant", "wont"})


# ---- what is kept


STOP_SQL: LiteralString = """
INSERT INTO suppression (phone_index, tenant_id, kind, reason)
SELECT DISTINCT ON (1, 2) phone_index, tenant_id, $4::smallint, reason
  FROM unnest($1::bytea[], $2::int[], $3::text[]) AS u(phone_index, tenant_id, reason) ORDER BY 1, 2
ON CONFLICT (phone_index, tenant_id, kind) DO NOTHING
"""


async def stop(tx: db.Tx, stopped: Collection[Suppressed]) -> int:
    """Keep opt-outs: these tenants' promotional messages stop. The first reason stays; returns how many are new."""
    return await _suppress(tx, stopped, OPT_OUT)


async def block(tx: db.Tx, blocked: Collection[Suppressed]) -> int:
    """Keep blocks: nothing of these tenants (PLATFORM: of anybody) reaches these numbers; returns how many are new."""
    return await _suppress(tx, blocked, BLOCK)


async def _suppress(tx: db.Tx, rows: Collection[Suppressed], kind: int) -> int:
    if not rows:
        return 0
    done = await tx.execute(STOP_SQL, *_columns(rows), [row.reason for row in rows], kind)
    return int(done.rpartition(" ")[2])  # PostgreSQL's own count: INSERT 0 7


# Locks in key order, as STOP_SQL does, so that two batches about the same persons cannot block each other.
START_SQL: LiteralString = """
WITH said AS (
    SELECT s.phone_index, s.tenant_id, s.kind
      FROM suppression s
      JOIN unnest($1::bytea[], $2::int[]) AS u(phone_index, tenant_id) USING (phone_index, tenant_id)
     WHERE s.kind = $3 ORDER BY 1, 2 FOR UPDATE OF s
)
DELETE FROM suppression s USING said
 WHERE s.phone_index = said.phone_index AND s.tenant_id = said.tenant_id AND s.kind = said.kind
"""


async def start(tx: db.Tx, started: Collection[Suppressed]) -> int:
    """Forget opt-outs: these persons want to hear from these tenants again. Blocks stay; returns how many there were."""
    return await _lift(tx, started, OPT_OUT)


async def unblock(tx: db.Tx, unblocked: Collection[Suppressed]) -> int:
    """Forget blocks. Opt-outs stay: they are the person's own word; returns how many there were."""
    return await _lift(tx, unblocked, BLOCK)


async def _lift(tx: db.Tx, rows: Collection[Suppressed], kind: int) -> int:
    if not rows:
        return 0
    done = await tx.execute(START_SQL, *_columns(rows), kind)
    return int(done.rpartition(" ")[2])  # PostgreSQL's own count: DELETE 7


def _columns(rows: Collection[Suppressed]) -> tuple[list[bytes], list[TenantId]]:
    return [row.phone_index for row in rows], [row.tenant_id for row in rows]


# ---- looking


ABOUT_SQL: LiteralString = """
SELECT tenant_id, phone_index, kind, reason, since FROM suppression
 WHERE phone_index = $1 AND tenant_id = ANY($2::int[]) ORDER BY tenant_id, kind
"""


async def about(
    tx: db.Tx, tenant_ids: Collection[TenantId], phone_index: bytes
) -> Sequence[tuple[TenantId, Entry]]:
    """Return what keeps these tenants (PLATFORM: everybody) from writing to one number."""
    return [
        (TenantId(row["tenant_id"]), _entry(row))
        for row in await tx.fetch(ABOUT_SQL, phone_index, list(tenant_ids))
    ]


PAGE_SQL: LiteralString = """
SELECT phone_index, kind, reason, since FROM suppression
 WHERE tenant_id = $1 AND kind = $2 AND phone_index > $3 ORDER BY phone_index LIMIT $4
"""


async def page(tx: db.Tx, tenant_id: TenantId, kind: int, after: bytes, limit: int) -> Sequence[Entry]:
    """List a tenant's opt-outs or blocks in the order of their index, which is no order of time, from behind one."""
    return [_entry(row) for row in await tx.fetch(PAGE_SQL, tenant_id, kind, after, limit)]


def _entry(row: db.Row) -> Entry:
    return Entry(row["phone_index"], row["kind"], row["reason"], row["since"])


# ---- telling the gateways


TELL_SQL: LiteralString = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS u(payload)"


async def tell(database: db.Database, stopped: Collection[Suppressed]) -> None:
    """Wake the gateways once the commit is through, so that they drop what they hold for these persons.

    One payload each: hex(phone_index):tenant_id. Not heard, it costs only promptness up to the next claim,
    which asks the table again.
    """
    if stopped:
        await database.execute(TELL_SQL, TOPIC, sorted({_payload(row) for row in stopped}))


def heard(payload: str) -> tuple[bytes, TenantId] | None:
    """Read what tell() said: (phone_index, tenant_id); None for the empty word."""
    index, _, tenant_id = payload.partition(":")
    return (bytes.fromhex(index), TenantId(int(tenant_id))) if tenant_id else None


def _payload(row: Suppressed) -> str:
    return f"{row.phone_index.hex()}:{row.tenant_id}"
