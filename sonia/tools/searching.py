"""Looking for a text below a folder: in names and in what files hold.

The folder is walked by descriptor and no link is followed. Patterns are RE2's (no backtracking,
Cox 2007), so none takes longer than its text is long. Everything here blocks and ends by itself.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from typing import Any

import re2

from sonia.control import guarded
from sonia.tools.interface import ArgumentsInvalid
from sonia.types import Value

MAX_DEPTH = 64
MAX_FILES = 20_000
MAX_HITS = 100
MAX_LINE_CHARS = 300
HEAD_BYTES = 4_096
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Hit(Value):
    """A line that matches; `line` counts from 1."""

    path: str
    line: int
    text: str


class Hits(Value):
    """What was found. `skipped` counts files that are too large or can't be opened.

    With `truncated` the search stopped at a limit, and there may be more.
    """

    matches: tuple[Hit, ...]
    names: tuple[str, ...]
    searched: int
    skipped: int
    truncated: bool


def compiled(query: str, *, pattern: bool) -> Any:
    """RE2's pattern for `query`, without regard to case. Raises `ArgumentsInvalid`."""
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        return re2.compile("(?m)" + (query if pattern else re2.escape(query)), options)
    except re2.error as error:
        raise ArgumentsInvalid(
            f"file.search: '{query[:80]}' is no RE2 pattern: {error}. RE2 has no lookaround and "
            "no backreferences.",
            field="query",
        ) from error


class Search:
    """One search; `stop` ends it from another thread."""

    def __init__(self, pattern: Any, *, named: str, max_bytes: int, limit_s: float) -> None:
        self._pattern = pattern
        self._named = named.casefold()
        self._max_bytes = max_bytes
        self._until_s = time.monotonic() + limit_s
        self._stopped = threading.Event()
        self._matches: list[Hit] = []
        self._names: list[str] = []
        self._searched = self._skipped = 0
        self._truncated = False

    def stop(self) -> None:
        """End it soon."""
        self._stopped.set()

    def below(self, folder: int, shown: str) -> Hits:
        """Search below the descriptor; `shown` is what the folder is called in paths."""
        for place, folders, files, opened in os.fwalk(".", dir_fd=folder):
            inner = place.removeprefix(".").lstrip("/")
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if inner.count("/") >= MAX_DEPTH:
                folders.clear()
            before = "/".join(part for part in (shown, inner) if part)
            if not self._names_in(opened, before, sorted(files)):
                break
        return Hits(
            matches=tuple(self._matches),
            names=tuple(self._names),
            searched=self._searched,
            skipped=self._skipped,
            truncated=self._truncated,
        )

    def _names_in(self, folder: int, before: str, names: list[str]) -> bool:
        for name in names:
            if self._over():
                self._truncated = True
                return False
            if name.startswith(".") or self._named not in name.casefold():
                continue
            path = _shown(f"{before}/{name}" if before else name)
            self._searched += 1
            if self._pattern.search(path.rpartition("/")[2]):
                self._names.append(path)
            if guarded(path) is None:
                self._lines(folder, name, path)
        return True

    def _over(self) -> bool:
        return (
            self._stopped.is_set()
            or time.monotonic() > self._until_s
            or self._searched + self._skipped >= MAX_FILES
            or len(self._matches) + len(self._names) >= MAX_HITS
        )

    def _lines(self, folder: int, name: str, path: str) -> None:
        text = self._text(folder, name)
        if text is None or not self._pattern.search(text):
            return
        for number, line in enumerate(text.splitlines(), 1):
            if self._pattern.search(line):
                self._matches.append(Hit(path=path, line=number, text=line[:MAX_LINE_CHARS]))
            if len(self._matches) >= MAX_HITS:
                return

    def _text(self, folder: int, name: str) -> str | None:
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                return None
            if found.st_size > self._max_bytes or found.st_nlink != 1:
                self._skipped += 1
                return None
            with os.fdopen(os.open(name, _FILE, dir_fd=folder), "rb") as file:
                content = file.read(self._max_bytes)
        except OSError:
            self._skipped += 1
            return None
        return None if b"\0" in content[:HEAD_BYTES] else content.decode("utf-8", "replace")


def _shown(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
