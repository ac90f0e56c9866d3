"""hongyan under the peer harness: link it to its adapters/ours.py.

Drives the program by command line and environment only. PEERBENCH_HONGYAN names the checkout, if it is not this one.
Options: --opt opt_outs=N (1000000) · layout='door gateway+clerk' · window=N (200) · sessions=N (1) · purpose=load|code|sale
· kind=smpp|cmpp|smgp|sgip, of the channel (the harness's own operator speaks SMPP) · login=PORT, an SMPP door
· kill=door|gateway|clerk|postgres|all, for its kill mode. Batches and signed requests: load.py.
"""

import base64
import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

HOME = Path(os.environ.get("PEERBENCH_HONGYAN", Path(__file__).resolve().parents[1]))
PYTHON = str(HOME / ".venv/bin/python")


class Adapter:
    port = 19080
    ok_marker = None
    id_marker = '"id":"'
    join = "apiid"
    sessions = 1
    callbacks_per_message = 1
    boot_timeout = 60
    callback: ClassVar[dict[str, Any]] = {
        "key_marker": '"message_id":"',
        "stat_marker": '"status":"',
        "final": ["delivered"],
        "resp_body": "OK",
    }

    def configure(self, ctx: Any) -> None:
        self.state = Path(ctx.dir) / "state"
        self.environment = os.environ | {
            "PYTHONPATH": f"{HOME}/src:{HOME}",
            "HONGYAN_STATE_DIR": str(self.state),
            "HONGYAN_HTTP_PORT": str(self.port),
            "HONGYAN_WEBHOOK_PRIVATE_ADDRESSES": "yes",
            "HONGYAN_LAYOUT": ctx.opts.get("layout", "door gateway+clerk"),
            "HONGYAN_LOG_LEVEL": "warning",
            "HONGYAN_SMPP_PORT": ctx.opts.get("login", "0"),
        }
        self.sessions = int(ctx.opts.get("sessions", "1"))

    def start(self, ctx: Any) -> None:
        self.main = ctx.spawn([PYTHON, "-m", "hongyan", "run"], "hongyan.out", env=self.environment)
        self._wait_ready()
        if not hasattr(self, "key"):
            self.key = self._lay(ctx)

    def _wait_ready(self) -> None:
        end = time.time() + self.boot_timeout
        while time.time() < end:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2).close()
                return
            time.sleep(0.05)
        raise SystemExit("hongyan did not become ready; see hongyan.out")

    def _lay(self, ctx: Any) -> dict[str, str]:
        command = [
            PYTHON, "-m", "bench.lay", "--smsc-port", str(ctx.smsc_port), "--webhook-port", str(ctx.sink_port),
            "--opt-outs", ctx.opts.get("opt_outs", "1000000"), "--window", ctx.opts.get("window", "200"),
            "--sessions", str(self.sessions), "--kind", ctx.opts.get("kind", "smpp"),
            *(["--login"] if "login" in ctx.opts else []),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=HOME, env=self.environment, check=True, stdout=subprocess.PIPE, text=True
        )
        key: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
        return key

    def request(self, ctx: Any) -> str:
        token = base64.b64encode(f"{self.key['key_id']}:{self.key['secret']}".encode()).decode()
        body = json.dumps(
            {
                "to": "+{{to}}", "signature": "Bench", "template": ctx.opts.get("purpose", "load"),
                "params": {"number": "{{i8}}"}, "reference": "{{i8}}",
            }
        )  # fmt: skip
        return (
            f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Basic {token}\r\nContent-Length: {{{{clen}}}}\r\n\r\n{body}"
        )

    def pids(self) -> dict[str, int]:
        return {"hongyan": self.main.pid}

    def kill_main(self, ctx: Any) -> None:
        """Kill one process as --opt kill= names it: door, gateway, clerk, postgres, or all of them."""
        victim = ctx.opts.get("kill", "all")
        for pid, command in self._processes():
            if victim == "all" or victim in command:
                os.kill(pid, signal.SIGKILL)
        if victim == "all":
            self.main.kill()
            self.main.wait()

    def _processes(self) -> list[tuple[int, str]]:
        """Return the program's processes, told apart by their command lines; of PostgreSQL only the postmaster."""
        children = subprocess.run(
            ["pgrep", "-P", str(self.main.pid)], capture_output=True, text=True, check=False
        )
        found = []
        for pid in map(int, children.stdout.split()):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found.append((pid, "postgres" if words[0].endswith(b"postgres") else b" ".join(words).decode()))
        return found

    def restart_main(self, ctx: Any) -> None:
        """Only a killed supervisor is started again; what it supervises, it starts itself."""
        if self.main.poll() is not None:
            self.start(ctx)

    def stop(self, _ctx: Any) -> None:
        self.main.send_signal(signal.SIGTERM)
        try:
            self.main.wait(20)
        except subprocess.TimeoutExpired:
            self.main.kill()
