"""The directions of `docs/architecture.md`, read from the imports themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sonia import schema
from sonia.app import MIGRATIONS, PLACES
from sonia.db import connect

PACKAGE = Path(__file__).parent.parent / "sonia"
MODULES = {"gateway", "router", "memory", "voice", "tools", "control"}
# Tables that hold no word of a person's: ids, hashes, moments, counts, names of parts, settings.
WORDLESS = {
    "control_ledger_head",
    "control_policy",
    "control_standing",
    "forget_tombstones",
    "memory_access",
    "memory_damaged",
    "memory_derived",
    "memory_erased",
    "memory_forgettings",  # what was asked stands there only until it is erased
    "memory_jobs",
    "memory_uncompared",
    "memory_unextracted",
    "schema_migrations",
    "sqlite_sequence",
    "tools_mcp_pins",
}
ALLOWED = {
    "gateway": {"voice", "tools", "memory", "router", "control"},
    "tools": {"control"},
    "router": set(),
    "memory": set(),
    "voice": set(),
    "control": set(),
}
COMPOSITION = {"app.py", "server.py"}
OUTSIDE = {"commands", "__main__.py"}


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """Every `sonia.…` name that a file imports, wherever in it, with its line."""
    package = ["sonia", *file.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{stem}.{alias.name}" if stem == "sonia" else stem for alias in node.names]
        for name in names:
            if name.split(".")[0] == "sonia":
                yield name, node.lineno


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_of(file: Path) -> str | None:
    first = file.relative_to(PACKAGE).parts[0]
    return first if first in MODULES else None


def breaches(file: Path) -> Iterator[str]:
    home = module_of(file)
    top = file.relative_to(PACKAGE).parts[0]
    for name, line in imports(file):
        parts = name.split(".")
        target = parts[1] if len(parts) > 1 else ""
        where = f"{file.relative_to(PACKAGE.parent)}:{line} imports {name}"
        if target in ("app", "server", "commands") and home:
            yield f"{where}: no module knows the composition"
        if target not in MODULES or target == home or top in OUTSIDE:
            continue
        if top in COMPOSITION:
            if len(parts) > 2 and parts[2] != "http":
                yield f"{where}: composition uses faces and routes only"
        elif home is None:
            yield f"{where}: the kernel imports no module"
        elif target not in ALLOWED[home]:
            yield f"{where}: {home} may not import {target}"
        elif len(parts) > 2:
            yield f"{where}: import the face, sonia.{target}"


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_only_where_they_may(file: Path) -> None:
    assert list(breaches(file)) == []


def test_commands_import_no_module() -> None:
    """A command talks to the server, or starts it; it does not reach into modules."""
    found = [
        f"{file.name}:{line} imports {name}"
        for file in sorted((PACKAGE / "commands").glob("*.py"))
        for name, line in imports(file)
        if len(name.split(".")) > 1 and name.split(".")[1] in MODULES
    ]

    assert found == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_an_interface_needs_nothing_behind_it(module: str) -> None:
    kernel = {"sonia.errors", "sonia.types", "sonia.turn"}
    allowed = kernel | {f"sonia.{name}" for name in ALLOWED[module]}

    named = {name for name, _ in imports(PACKAGE / module / "interface.py")}

    assert named <= allowed


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_has_a_face_an_interface_and_routes(module: str) -> None:
    folder = PACKAGE / module

    missing = [n for n in ("__init__.py", "interface.py", "http.py") if not (folder / n).is_file()]

    assert missing == []


def test_every_table_that_may_hold_words_is_a_place_of_forgetting(tmp_path: Path) -> None:
    path = tmp_path / "sonia.db"
    path.touch(mode=0o600)

    with closing(connect(path)) as connection:
        schema.migrate(connection, path, MIGRATIONS, copy=False)
        tables = schema.tables(connection)

    answered_for = {table for place in PLACES for table in place.tables}
    assert tables - answered_for - WORDLESS == set(), "add a Place, or say that it has no words"
    assert answered_for | WORDLESS <= tables, "there is no such table"
    assert answered_for & WORDLESS == set()
