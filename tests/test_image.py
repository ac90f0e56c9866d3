"""What the container image is built from: the Containerfile copies what is there, and the ignore file lets it through."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
CONTAINERFILE: Final = ROOT / "deploy" / "Containerfile"
IGNORED: Final = [
    line
    for line in CONTAINERFILE.with_name("Containerfile.dockerignore").read_text().splitlines()
    if line and not line.startswith("#")
]
# Without --from: out of the repository, not out of another stage.
COPIED: Final = [
    PurePosixPath(source)
    for line in CONTAINERFILE.read_text().splitlines()
    if line.startswith("COPY ") and "--from" not in line
    for source in line.split()[1:-1]
]
IMPORT: Final = re.compile(r"""(?:from|import\(?)\s*["'](\.[^"'?]*)""")


def reaches_the_image(path: PurePosixPath) -> bool:
    """Return whether a path passes the ignore file: its last line that fits the path, or a folder above it, decides."""
    passes = True
    for line in IGNORED:
        pattern = line.removeprefix("!").removeprefix("**/")
        anywhere = line.removeprefix("!").startswith("**/")
        for part in (path, *path.parents):
            if fnmatchcase(part.name if anywhere else str(part), pattern) and str(part) != ".":
                passes = line.startswith("!")
                break
    return passes


def imports_of_pages() -> Iterator[PurePosixPath]:
    """What the console's sources import from outside the console."""
    console = ROOT / "console"
    for source in [*(console / "src").rglob("*.ts"), *(console / "src").rglob("*.vue")]:
        for name in IMPORT.findall(source.read_text()):
            path = (source.parent / name).resolve()
            if not path.is_relative_to(console):
                yield PurePosixPath(path.relative_to(ROOT))


@pytest.mark.parametrize("path", COPIED, ids=str)
def test_what_the_containerfile_copies_is_there_and_reaches_the_builder(path: PurePosixPath) -> None:
    assert (ROOT / path).exists()
    assert reaches_the_image(path)


def test_what_pages_import_from_outside_the_console_is_copied_too() -> None:
    imported = set(imports_of_pages())
    assert imported
    assert [path for path in imported if not any(path.is_relative_to(copied) for copied in COPIED)] == []


@pytest.mark.parametrize(
    "path",
    [
        ".git/config", ".venv/bin/python", "state/master.key", "deploy/secrets/pgpass", "console/node_modules/vite/index.js",
        "src/hongyan/console/index.html", "src/hongyan/__pycache__/run.cpython-311.pyc", "tests/conftest.py",
    ],
)  # fmt: skip
def test_secrets_and_what_was_made_here_stay_out_of_the_image(path: str) -> None:
    assert not reaches_the_image(PurePosixPath(path))
