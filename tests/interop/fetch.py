"""Fetch what others wrote, once, into a cache outside the repository: see README.md.

Writes: $XDG_CACHE_HOME/hongyan-interop. Entry points: packages() of a registry, classes() of
the speakers in Java. What
cannot be had skips the test that asked for it.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from conftest import ABSENT

FETCH_WAIT_S: Final = 60.0
FAILED_FOR_S: Final = 600.0  # so long nobody asks again: neither the next test nor the other worker
HERE: Final = Path(__file__).parent
PINS: Final = HERE / "pins"
SPEAKERS: Final = HERE / "speakers"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hongyan-interop"


@dataclass(frozen=True, slots=True)
class Registry:
    """How one package manager fetches what its pins name into the folder it runs in."""

    name: str
    pins: Sequence[str]
    needs: Sequence[str]  # programs
    command: Sequence[str]
    litter: Sequence[str] = ()  # what is left there and not needed


NPM: Final = Registry(
    "npm",
    ("package.json", "package-lock.json"),
    ("node", "npm"),
    ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"),
)


def _pypi(pins: str) -> Registry:
    """Describe a folder for Python's import path, by a list of pins with hashes that names all that is needed."""
    return Registry(
        "PyPI",
        (pins,),
        (),
        (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries=0", "install", "--quiet",
         "--target=.", "--no-deps", "--no-build-isolation", "--require-hashes", f"--requirement={pins}"),
    )  # fmt: skip


PYPI: Final = _pypi("python.txt")
SDKS: Final = _pypi("sdks.txt")
MAVEN: Final = Registry(
    "Maven",
    ("pom.xml",),
    ("java", "javac", "mvn"),
    ("mvn", "--quiet", "--batch-mode", "--strict-checksums", "-Dmaven.repo.local=m2", "-DincludeScope=runtime",
     "-DoutputDirectory=jars", "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"),
    ("m2",),
)  # fmt: skip


def packages(registry: Registry) -> Path:
    """Return the folder with a registry's packages; skips where they cannot be had."""
    _need(registry.needs)
    pins = {name: (PINS / name).read_bytes() for name in registry.pins}
    kept = CACHE / f"{registry.name.lower()}-{_digest(pins)}"

    def fetch(folder: Path) -> None:
        for name, octets in pins.items():
            (folder / name).write_bytes(octets)
        _run(registry.command, folder)
        for name in registry.litter:
            shutil.rmtree(folder / name, ignore_errors=True)

    return _once(kept, fetch, f"the {registry.name} registry")


def classes(jars: Path) -> Path:
    """Return the folder with the classes of the speakers in Java, compiled against these jars."""
    sources = sorted(SPEAKERS.glob("*.java"))
    kept = CACHE / f"classes-{_digest({path.name: path.read_bytes() for path in sources})}-{jars.parent.name}"
    command = ("javac", "-nowarn", "-encoding", "UTF-8", "-cp", f"{jars}/*", "-d", ".", *map(str, sources))
    return _once(kept, lambda folder: _run(command, folder), "a compiler for Java's speakers")


def _need(programs: Sequence[str]) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(ABSENT + program)


def _digest(files: Mapping[str, bytes]) -> str:
    told = hashlib.sha256()
    for name, octets in sorted(files.items()):
        told.update(name.encode() + b"\0" + octets + b"\0")
    return told.hexdigest()[:16]


def _once(kept: Path, make: Callable[[Path], None], what: str) -> Path:
    """Make a folder unless it is there; another worker that wants it too waits for us."""
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
    except OSError:
        pytest.skip(ABSENT + what)
    failed = kept.with_suffix(".failed")
    with _alone(kept.with_suffix(".lock")):
        if kept.exists():
            return kept
        if failed.exists() and time.time() - failed.stat().st_mtime < FAILED_FOR_S:
            pytest.skip(ABSENT + what)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetching-") as place:
            folder = Path(place) / "made"
            folder.mkdir()
            try:
                make(folder)
            except (subprocess.SubprocessError, OSError) as error:
                failed.write_text(f"{error}\n{getattr(error, 'output', None) or ''}")
                pytest.skip(ABSENT + what)
            folder.rename(kept)
    return kept


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str], folder: Path) -> None:
    """Run a package manager in a folder, with a deadline for it and its children. Raises SubprocessError, OSError."""
    running = subprocess.Popen(
        command, cwd=folder, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = running.communicate(timeout=FETCH_WAIT_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command, said)
