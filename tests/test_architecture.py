"""The directions of `docs/architecture.md`, read from the imports themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sonia"
MODULES = {"gateway", "router", "memory", "voice", "tools", "control"}
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
