"""Commands about people and the audit: the first operator comes from here, and what commands change is recorded."""

import asyncio
import getpass
import io
import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import typer

from hongyan.commands import frame, people, tenants
from hongyan.vocab.errors import Refusal

PASSWORD = "seven quiet herons"
EMAIL = "li@example.com"
Run = Callable[..., str]


@pytest.fixture
def hongyan(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command, with a line at its stdin, and returns what it printed."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("HONGYAN_STATE_DIR", str(tmp_path / "state"))
    app = typer.Typer()
    for name, group in (("users", people.users), ("audit", people.audit), ("tenants", tenants.tenants)):
        app.add_typer(group, name=name)

    def run(*arguments: str, line: str = PASSWORD) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(line + "\n"))
        capsys.readouterr()
        code = app(list(arguments), prog_name="hongyan", standalone_mode=False)
        out, _ = capsys.readouterr()
        return str(out) if not code else f"exit {code}: {out}"

    return run


def execute(dsn: str, *statements: str) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(work())


def listed(run: Run, noun: str, *more: str) -> list[Any]:
    rows: list[Any] = json.loads(run(noun, "list", "--json", *more))
    return rows


def test_the_first_operator_is_made_changed_and_never_the_last_to_go(hongyan: Run) -> None:
    hongyan("users", "add", "--role", "operator", EMAIL)
    (row,) = listed(hongyan, "users")
    assert (row["email"], row["role"], row["tenant_id"], row["name"]) == (EMAIL, "operator", None, "li")
    with pytest.raises(Refusal):
        hongyan("users", "deactivate", EMAIL)
    hongyan("users", "add", "--role", "operator", "wang@example.com", line="nine loud sparrows")
    hongyan("users", "deactivate", EMAIL)
    hongyan("users", "activate", EMAIL)
    hongyan("users", "unlock", EMAIL)
    hongyan("users", "set-password", EMAIL, line="twelve brave swallows")
    assert all(row["active"] for row in listed(hongyan, "users"))


def test_people_of_a_tenant_get_its_roles(hongyan: Run) -> None:
    hongyan("tenants", "create", "Shop")
    hongyan("users", "add", "--role", "owner", "--tenant", "Shop", "--name", "Li Na", EMAIL)
    with pytest.raises(Refusal):
        hongyan("users", "add", "--role", "operator", "--tenant", "Shop", "x@example.com")
    with pytest.raises(typer.BadParameter):
        hongyan("users", "add", "--role", "root", "x@example.com")
    with pytest.raises(Refusal):
        hongyan("users", "add", "--role", "operator", "x@example.com", line="password1234")
    with pytest.raises(Refusal):
        hongyan("users", "reset-totp", EMAIL)
    assert [row["name"] for row in listed(hongyan, "users")] == ["Li Na"]


def test_what_commands_change_is_recorded_with_who_and_without_secrets(hongyan: Run) -> None:
    hongyan("tenants", "create", "Shop")
    hongyan("users", "add", "--role", "operator", EMAIL)
    added, made = listed(hongyan, "audit")
    actor = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    assert (made["actor"], made["action"]) == (actor, "tenants create")
    assert (added["actor"], added["action"], added["subject"]) == (actor, "users add", "user:1")
    assert PASSWORD not in str(added)
    assert listed(hongyan, "audit", "--action", "users add") == [added]
    assert "users add" in hongyan("audit", "list")


def test_the_audit_is_verified_by_command_with_a_head_that_was_kept(hongyan: Run, database: str) -> None:
    hongyan("users", "add", "--role", "operator", EMAIL)
    head = hongyan("audit", "head").strip()
    hongyan("users", "unlock", EMAIL)
    assert hongyan("audit", "verify", "--head", head).startswith("2 records hold; head 2:")
    execute(
        database,
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "UPDATE audit SET actor = 'cli:nobody' WHERE seq = 1",
        "ALTER TABLE audit ENABLE TRIGGER ALL",
    )
    assert hongyan("audit", "verify").startswith(
        "exit 1: 0 records hold; then, at 1: this record was changed"
    )
    assert json.loads(hongyan("audit", "verify", "--json").removeprefix("exit 1: "))["fault"] == "changed"
    with pytest.raises(typer.BadParameter):
        hongyan("audit", "verify", "--head", "1:abc")


def test_who_runs_a_command_is_not_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert getpass.getuser() == "somebody-else"
    assert frame._os_user() == pwd.getpwuid(os.getuid()).pw_name
