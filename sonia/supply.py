"""What was installed beside what was meant: releases known to be bad, and code that starts itself.

A `.pth` file in site-packages is read whenever Python starts, and a line of it that begins with
`import` is run: malicious releases hide there, since deleting the package does not end them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

# Releases that carried malware; the lock excludes them, an older installation may have them.
DENIED: Mapping[str, tuple[str, ...]] = {"litellm": ("1.82.7", "1.82.8")}
# Who starts code like that for good reasons: setuptools and virtualenv, by their files' names.
EXPECTED = ("distutils-precedence.pth", "_virtualenv.pth")
_STARTS = ("import ", "import\t")


def self_starting(site: Path) -> Iterator[Path]:
    """Every `.pth` file in `site` that runs code and is none of the expected. Reads files."""
    for path in sorted(site.glob("*.pth")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if path.name not in EXPECTED and any(line.startswith(_STARTS) for line in lines):
            yield path


def denied(installed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Those of the installed releases (name to version) that are known to be bad."""
    for name, versions in DENIED.items():
        if installed.get(name) in versions:
            yield name, installed[name]
