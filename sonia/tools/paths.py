"""How a path may be spelled. Nothing here looks at a disk."""

from __future__ import annotations

import re
import unicodedata

from sonia.tools.interface import ArgumentsInvalid

MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_DEPTH = 64

_DRIVE = re.compile(r"^[A-Za-z]:")
_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")


class PathRefused(ArgumentsInvalid):
    """The path is not one of a plain file or folder inside the workspace."""


def components(path: str) -> tuple[str, ...]:
    """Split a relative path into names; `.` is no name at all. Raises `PathRefused`."""
    if why := _fault(path):
        shown = path[:80].encode("unicode_escape", "backslashreplace").decode()
        raise PathRefused(
            f"'{shown}' is refused: {why}. Give a path relative to the workspace, "
            "like notes/today.md.",
            field="path",
        )
    names = tuple(name for name in path.split("/") if name not in ("", "."))
    for name in names:
        if len(name.encode()) > MAX_NAME_BYTES:
            raise PathRefused(f"A name of it is longer than {MAX_NAME_BYTES} bytes.", field="path")
    return names


def _fault(path: str) -> str | None:
    faults = (
        (not path, "it is empty"),
        (path.startswith("/"), "it is absolute"),
        (path.startswith("~"), "the home folder is out of reach"),
        (bool(_DRIVE.match(path)), "it names a drive"),
        ("\\" in path, "it has a backslash"),
        (".." in path.split("/"), "it has '..' in it"),
        (path.count("/") > MAX_DEPTH, f"it is deeper than {MAX_DEPTH} folders"),
        (any(hides(char) for char in path), "it has characters that don't show"),
    )
    if len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    return next((why for fault, why in faults if fault), None)


def hides(char: str) -> bool:
    """Whether a character could make a shown text lie: controls, separators, bidi, surrogates."""
    return char in _BIDI or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
