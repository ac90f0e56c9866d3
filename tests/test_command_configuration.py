"""Commands about the configuration: what is exported can be applied, and every command that changes something is a version."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from hongyan.commands import configuration, tenants, words
from hongyan.vocab.errors import Refusal

Run = Callable[..., str]


@pytest.fixture
def hongyan(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command and returns what it printed."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("HONGYAN_STATE_DIR", str(tmp_path / "state"))
    app = typer.Typer()
    groups = {
        "configuration": configuration.configuration,
        "prices": tenants.prices,
        "tenants": tenants.tenants,
        "words": words.words,
    }
    for name, group in groups.items():
        app.add_typer(group, name=name)

    def run(*arguments: str, stdin: str = "") -> str:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        app(list(arguments), prog_name="hongyan", standalone_mode=False)
        return str(capsys.readouterr().out)

    return run


def exported(hongyan: Run, *options: str) -> Any:
    return json.loads(hongyan("configuration", "export", *options))


def test_what_is_exported_is_checked_applied_and_rolled_back(hongyan: Run, tmp_path: Path) -> None:
    hongyan("words", "create", "brands")
    hongyan("words", "add", "brands", "新词", "旧词")
    document = exported(hongyan)
    assert document["words"][0]["words"] == ["新词", "旧词"]
    assert "words" not in exported(hongyan, "--without-words")["words"][0]
    file = tmp_path / "document.json"
    file.write_text(json.dumps(document | {"words": []}), "utf-8")
    checked = hongyan("configuration", "check", str(file))
    assert "words: brands removed" in checked
    assert "0 messages (24 hours of " in checked
    assert json.loads(hongyan("configuration", "check", str(file), "--json"))["version"] == 3
    assert "words: brands removed" in hongyan("configuration", "apply", str(file), "--note", "no brands")
    assert exported(hongyan)["words"] == []
    with pytest.raises(Refusal):
        hongyan("configuration", "apply", str(file), "--if-version", "3")
    assert "words: brands added" in hongyan("configuration", "roll-back", "3")
    assert exported(hongyan) == document
    listed = json.loads(hongyan("configuration", "versions", "--json"))
    assert [(one["version"], one["note"]) for one in listed] == [
        (5, "as version 3"),
        (4, "no brands"),
        (3, ""),
        (2, ""),
        (1, ""),
    ]
    assert [one["action"] for one in listed[2:]] == ["words add", "words create", "found"]
    assert listed[2]["made_by"].startswith("cli:")
    differences = json.loads(hongyan("configuration", "diff", "1", "--json"))
    assert [(one["section"], one["what"]) for one in differences] == [("words", "added")]
    assert hongyan("configuration", "diff", "3", "--to", "5") == ""


def test_a_document_comes_from_a_pipe_too(hongyan: Run) -> None:
    document = exported(hongyan)
    document["policies"]["sign_up"] = "open"
    assert "sign_up: closed → open" in hongyan("configuration", "apply", "-", stdin=json.dumps(document))
