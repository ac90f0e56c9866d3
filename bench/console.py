"""How long somebody waits for the first chart, with 5,000,000 messages counted: `make bench ARGS=console`.

Lays what bench/statistics.py lays, starts the program on it, and opens the overview in Chromium again and again, each
time with a browser that knows nothing yet. Says the milliseconds from the first request of the page to the first chart that
is drawn, for the operator and for a tenant's owner. Needs Debian's Chromium and a built console.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from playwright.async_api import Browser, async_playwright

from bench import statistics
from hongyan import db
from hongyan.settings import Settings

PORT: Final = 18_099
BASE: Final = f"http://127.0.0.1:{PORT}"
ROUNDS: Final = 5
START_WAIT_S: Final = 60.0
SWITCHES: Final = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# A canvas is drawn once any of its pixels is not blank.
DRAWN: Final = """() => [...document.querySelectorAll("canvas")].some((one) => one.width &&
    one.getContext("2d").getImageData(0, 0, one.width, one.height).data.some((part) => part))"""


async def main() -> None:
    """Measure on a server and a program of this bench's own."""
    with statistics.served() as server, tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder:
        await db.migrate(server.dsn)
        database = await db.connect(server.dsn, Settings(allow_unsafe_database=True))
        try:
            await statistics.lay(database)
        finally:
            await database.close()
        program = _start(Path(folder), server.dsn)
        try:
            passwords = _passwords(Path(folder) / "said", program)
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=SWITCHES)
                for who, password in passwords.items():
                    took = [await _first_chart(browser, who, password) for _ in range(ROUNDS)]
                    print(
                        f"{who:<10} first chart: median {median(took):5.0f} ms, slowest {max(took):5.0f} ms"
                    )
                await browser.close()
        finally:
            program.send_signal(signal.SIGINT)
            program.wait(30)


def _start(folder: Path, dsn: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {
        "DATABASE_URL": dsn, "HONGYAN_ALLOW_UNSAFE_DATABASE": "yes", "HONGYAN_STATE_DIR": str(folder),
        "HONGYAN_HTTP_PORT": str(PORT), "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    with (folder / "said").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "hongyan", "run", "--demo"], env=environment, stdout=log, stderr=log
        )


def _passwords(log: Path, program: "subprocess.Popen[bytes]") -> dict[str, str]:
    give_up_s = time.monotonic() + START_WAIT_S
    while "Ctrl-C" not in (said := log.read_text()):
        if program.poll() is not None or time.monotonic() > give_up_s:
            sys.exit(f"the program did not start:\n{said}")
        time.sleep(0.1)
    return dict(re.findall(r'"email":"(\w+)@example.com","password":"([^"]+)"', said))


async def _first_chart(browser: Browser, who: str, password: str) -> float:
    """Return the milliseconds from asking for the page to its first chart. A new context has an empty cache."""
    context = await browser.new_context(base_url=BASE, bypass_csp=True)  # waiting for a condition is an eval
    answer = await context.request.post(
        "/v1/sign-in", data={"email": f"{who}@example.com", "password": password}
    )
    assert answer.ok, await answer.text()
    page = await context.new_page()
    await page.goto("/console/", wait_until="commit")
    await page.wait_for_function(DRAWN, polling=20, timeout=30_000)
    took = await page.evaluate("performance.now()")
    await context.close()
    return float(took)


if __name__ == "__main__":
    asyncio.run(main())
