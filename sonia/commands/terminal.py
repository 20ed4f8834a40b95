"""What may be shown on a terminal, and asking the person in front of it."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Any

# Written out as escapes where every character matters: invisible, reordering, unassigned.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    """`text` with everything that can't be seen written out; line breaks stay.

    For what a person is asked to approve: what is shown is what is there.
    """
    return "".join(
        _escaped(c) if c != "\n" and unicodedata.category(c) in _HIDDEN else c for c in text
    )


def harmless(text: str) -> str:
    """`text` with what could command the terminal or reorder a line written out."""
    return "".join(
        _escaped(c)
        if c not in "\n\t" and (unicodedata.category(c) in ("Cc", "Cs") or c in _REORDERING)
        else c
        for c in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def is_interactive() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def confirm(question: str) -> bool:
    """Ask, and take nothing but a yes typed after the question for a yes."""
    return ask(question).lower() in ("y", "yes")


def ask(question: str) -> str:
    """Ask, and return what was typed after the question; "" for no answer."""
    if sys.platform != "win32":
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)
    try:
        return input(question).strip()
    except EOFError:
        print()
        return ""


def note(text: str) -> None:
    """Say something beside the answer, on standard error."""
    print(harmless(text), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """For programs."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2)
    print()
