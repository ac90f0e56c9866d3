"""How many rendered messages a core checks against 60,000 forbidden words: Words.check(), as the door asks it.

    python -m bench.words
    python -m bench.words --words 200000 --rounds 9

Words are random, of 2 to 5 characters among the 4,000 most used, so that their beginnings occur in texts everywhere.
The texts are 70 characters: notices as they are sent, random characters drawn evenly, and random ones drawn like the words,
most of which hold some. What is measured is all of check(): the plain form, the search, the allow-lists and the place
in the raw text where something was found. Building is measured beside it, with the longest time that the rest of the
process stood still meanwhile, and the memory that is left taken.
"""

import argparse
import itertools
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hongyan.vocab.message import TenantId
from hongyan.vocab.plain import plain
from hongyan.vocab.words import Listed, Scope, Sought, Words, usual

TENANT = TenantId(1)
NOTICES = (
    "【鸿雁】您的快递已到南门，请凭取件码 4231 在今日 18:00 前到南门驿站领取，如有疑问请致电前台咨询，谢谢您的配合与支持！",
    "【鸿雁】您的验证码是 428913，5 分钟内有效，请勿泄露给任何人，工作人员不会向您索要；如非本人操作，请忽略本短信，或致电客服。",
    "【鸿雁】尊敬的会员，您预约的安装服务已确认，师傅将于明天上午 9:00-11:00 上门，请保持电话畅通并提前清理现场，感谢您的支持！",
    "[Hongyan] Your parcel 8213 is ready at the south gate until 18:00. Bring your ID.",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--words", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    draw = _drawer(chance)
    evenly = _drawer(chance, uneven=False)
    words = sorted({plain(draw(chance.choice((2, 3, 3, 4, 4, 5)))) for _ in range(arguments.words)})
    before = _resident_octets()
    scope, built_s, stood_s = _build(words)
    kept = _resident_octets() - before
    print(
        f"{len(words):,} words built in {built_s:.2f} s; the process stood still for {stood_s * 1000:.0f} ms at most"
    )
    print(f"memory taken: {kept / 1e6:.0f} MB")
    usual()
    asked = Words(scope)
    texts = {
        "notices": list(NOTICES) * 500,
        "texts of even chance": ["【鸿雁】" + evenly(66) for _ in range(2_000)],
        "texts full of words": ["【鸿雁】" + draw(66) for _ in range(2_000)],
    }
    print(f"{'messages a second and core':28} {'best':>10} {'median':>10} {'found in':>10}")
    for name, some in texts.items():
        found = sum(bool(asked.check(text, TENANT)) for text in some) / len(some)
        rates = [_rate(lambda text: asked.check(text, TENANT), some) for _ in range(arguments.rounds)]
        print(f"{name:28} {max(rates):10,.0f} {statistics.median(rates):10,.0f} {found:10.1%}")
        rates = [_rate(plain, some) for _ in range(arguments.rounds)]
        print(f"{'  the plain form alone':28} {max(rates):10,.0f} {statistics.median(rates):10,.0f}")
    rates = [
        _rate(lambda text: Words().check(text, TENANT), texts["notices"]) for _ in range(arguments.rounds)
    ]
    print(f"{'without any list':28} {max(rates):10,.0f} {statistics.median(rates):10,.0f}")
    return 0


def _drawer(chance: random.Random, *, uneven: bool = True) -> Callable[[int], str]:
    """Draw characters, as unevenly as a language does (Zipf) or evenly."""
    characters = [chr(0x4E00 + number) for number in range(4_000)]
    chance.shuffle(characters)
    weights = list(itertools.accumulate(1 / (rank + 30) if uneven else 1 for rank in range(len(characters))))
    return lambda count: "".join(chance.choices(characters, cum_weights=weights, k=count))


def _build(words: Sequence[str]) -> tuple[Scope, float, float]:
    """Build as a process does, while another thread looks at the clock. Returns (built, seconds, longest pause)."""
    pauses: list[float] = []
    done = threading.Event()

    def watch() -> None:
        seen_s = time.perf_counter()
        while not done.is_set():
            time.sleep(0.0005)
            pauses.append(time.perf_counter() - seen_s)
            seen_s += pauses[-1]

    watcher = threading.Thread(target=watch)
    watcher.start()
    started_s = time.perf_counter()
    scope = Scope([(Listed(id=1, name="bench"), Sought(words))])
    built_s = time.perf_counter() - started_s
    done.set()
    watcher.join()
    return scope, built_s, max(pauses)


def _rate(ask: Callable[[str], object], texts: Sequence[str]) -> float:
    started_s = time.process_time()
    for text in texts:
        ask(text)
    return len(texts) / (time.process_time() - started_s)


def _resident_octets() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
